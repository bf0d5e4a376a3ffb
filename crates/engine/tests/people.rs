//! Accounts, sign-in, sessions and second factors, on a real store with a clock that stands still.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::sync::{Arc, LazyLock};

use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{AccountName, ConnectionId, TenantId};
use chaperone_core::ports::{Clock, Store};
use chaperone_core::principal::{Human, Role};
use chaperone_engine::people::sessions::Touch;
use chaperone_engine::people::{
    BootstrapFailed, CreateAccountFailed, EnrolFailed, EnrolmentCode, NewAccount, NewSession,
    Password, PasswordHash, SecondFactor, SecondFactorFailed, SignInRefused, StepUpFor,
    StepUpRefused, totp,
};
use chaperone_engine::{Engine, EngineConfig, Ports};
use chaperone_testkit::{
    FakeEhr, MemoryAnchor, MemoryKeyVault, PermitConsent, SeededClock, SeededRandom, SilentNotifier,
};

const PASSWORD: &str = "a calm grey morning";

struct Bench {
    engine: Arc<Engine>,
    store: Arc<dyn Store>,
    clock: Arc<SeededClock>,
    _dir: tempfile::TempDir,
}

/// Read once: proving its cases takes a second without optimisation, and nothing changes it.
static BUNDLE: LazyLock<Arc<chaperone_policy::Bundle>> = LazyLock::new(|| {
    let loaded = chaperone_policy::Bundle::load(&chaperone_policy::embedded::files());
    Arc::new(loaded.unwrap_or_else(|problems| panic!("{problems:?}")))
});

async fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("people.db").display());
    let store = chaperone_store::open(&url, Default::default())
        .await
        .unwrap();
    let clock = Arc::new(SeededClock::new());
    let ports = Ports {
        store: store.clone(),
        ehr: Arc::new(FakeEhr::new(ConnectionId::new("fake").unwrap())),
        keys: Arc::new(MemoryKeyVault::new(1)),
        clock: clock.clone(),
        random: Arc::new(SeededRandom::new(1)),
        consent: Arc::new(PermitConsent),
        notifier: Arc::new(SilentNotifier::default()),
        anchor: Arc::new(MemoryAnchor::default()),
    };
    let config = EngineConfig::new(TenantId::new("clinic").unwrap(), "http://127.0.0.1:8080");
    let engine = Engine::start(config, BUNDLE.clone(), ports).await.unwrap();
    Bench {
        engine,
        store,
        clock,
        _dir: dir,
    }
}

fn name(text: &str) -> AccountName {
    AccountName::new(text).unwrap()
}

fn hash(password: &str) -> PasswordHash {
    PasswordHash::make(&Password::chosen(password.to_owned()).unwrap(), [3; 16]).unwrap()
}

fn new_account(text: &str, roles: &[Role]) -> NewAccount {
    NewAccount {
        name: name(text),
        person: None,
        roles: roles.to_vec(),
    }
}

impl Bench {
    /// The first account.
    async fn admin(&self) -> Human {
        let code = self.engine.bootstrap_code().await.unwrap().unwrap();
        let account = new_account("admin", &[Role::Clinician]);
        self.engine
            .bootstrap(&code, account, hash(PASSWORD))
            .await
            .unwrap()
    }

    /// Enrols the second factor and returns its secret.
    async fn factor(&self, human: &Human) -> [u8; totp::SECRET_BYTES] {
        let enrolment = self.engine.second_factor_begin(human).await.unwrap();
        let secret: [u8; totp::SECRET_BYTES] = decode_base32(&enrolment.secret).try_into().unwrap();
        let code = totp::code_at(secret, self.clock.now());
        self.engine
            .second_factor_confirm(human, &code)
            .await
            .unwrap();
        secret
    }

    fn code(&self, secret: [u8; totp::SECRET_BYTES]) -> String {
        totp::code_at(secret, self.clock.now())
    }

    async fn sign_in(
        &self,
        account: &str,
        password: &str,
        code: Option<&str>,
    ) -> Result<NewSession, SignInRefused> {
        let attempt = self.engine.sign_in_begin(account).await?;
        let checked = attempt.check(&Password::typed(password.to_owned()));
        self.engine.sign_in_finish(checked, code).await
    }

    async fn kinds(&self, stream: StreamId) -> Vec<String> {
        let tenant = TenantId::new("clinic").unwrap();
        let events = self.store.stream(&tenant, &stream).await.unwrap();
        events
            .iter()
            .map(|recorded| recorded.event.kind())
            .collect()
    }
}

/// RFC 4648 base 32, for reading back what is shown to people.
fn decode_base32(text: &str) -> Vec<u8> {
    let (mut bytes, mut bits, mut have) = (Vec::new(), 0_u32, 0);
    for c in text.bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'2'..=b'7' => c - b'2' + 26,
            _ => panic!("not base 32"),
        };
        bits = bits << 5 | u32::from(value);
        have += 5;
        if have >= 8 {
            have -= 8;
            bytes.push((bits >> have) as u8);
            bits &= (1 << have) - 1;
        }
    }
    bytes
}

#[tokio::test]
async fn the_first_account_needs_the_printed_code_and_is_the_only_one_it_makes() {
    let bench = bench().await;
    assert!(bench.engine.needs_setup().await.unwrap());
    let code = bench.engine.bootstrap_code().await.unwrap().unwrap();
    let wrong = EnrolmentCode::typed("0000-0000-0000-0000");
    let refused = bench
        .engine
        .bootstrap(&wrong, new_account("admin", &[]), hash(PASSWORD))
        .await
        .unwrap_err();
    assert!(matches!(refused, BootstrapFailed::CodeRefused));
    let human = bench
        .engine
        .bootstrap(&code, new_account("admin", &[]), hash(PASSWORD))
        .await
        .unwrap();
    assert!(human.holds(Role::ItAdmin));
    let again = bench
        .engine
        .bootstrap(&code, new_account("other", &[]), hash(PASSWORD))
        .await
        .unwrap_err();
    assert!(matches!(again, BootstrapFailed::CodeRefused));
    assert!(bench.engine.bootstrap_code().await.unwrap().is_none());
    assert!(!bench.engine.needs_setup().await.unwrap());
}

#[tokio::test]
async fn a_set_up_code_expires_after_a_day_and_a_new_one_replaces_it() {
    let bench = bench().await;
    let old = bench.engine.bootstrap_code().await.unwrap().unwrap();
    let new = bench.engine.bootstrap_code().await.unwrap().unwrap();
    let account = || new_account("admin", &[]);
    assert!(
        bench
            .engine
            .bootstrap(&old, account(), hash(PASSWORD))
            .await
            .is_err()
    );
    bench.clock.advance_s(24 * 3_600);
    assert!(
        bench
            .engine
            .bootstrap(&new, account(), hash(PASSWORD))
            .await
            .is_err()
    );
    let fresh = bench.engine.bootstrap_code().await.unwrap().unwrap();
    assert!(
        bench
            .engine
            .bootstrap(&fresh, account(), hash(PASSWORD))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn only_administrators_make_accounts_and_their_holders_enrol_once() {
    let bench = bench().await;
    let admin = bench.admin().await;
    let code = bench
        .engine
        .create_account(&admin, new_account("dr-lee", &[Role::Clinician]))
        .await
        .unwrap();
    let taken = bench
        .engine
        .create_account(&admin, new_account("dr-lee", &[Role::Rn]))
        .await;
    assert!(matches!(taken, Err(CreateAccountFailed::Exists)));
    let no_role = bench
        .engine
        .create_account(&admin, new_account("idle", &[]))
        .await;
    assert!(matches!(no_role, Err(CreateAccountFailed::NoRole)));
    // Nobody signs in before enrolling.
    assert!(bench.sign_in("dr-lee", PASSWORD, None).await.is_err());
    let lee = bench
        .engine
        .enrol("dr-lee", &code, hash(PASSWORD))
        .await
        .unwrap();
    assert_eq!(lee.roles, [Role::Clinician]);
    let used = bench.engine.enrol("dr-lee", &code, hash(PASSWORD)).await;
    assert!(matches!(used, Err(EnrolFailed::CodeRefused)));
    let not_hers = bench
        .engine
        .create_account(&lee, new_account("friend", &[Role::Rn]))
        .await;
    assert!(matches!(not_hers, Err(CreateAccountFailed::NotPermitted)));
    assert!(bench.sign_in("dr-lee", PASSWORD, None).await.is_ok());
    // Enrolling anew takes everything the old password opened.
    let session = bench.sign_in("dr-lee", PASSWORD, None).await.unwrap();
    bench
        .engine
        .reissue_enrolment(&admin, &name("dr-lee"))
        .await
        .unwrap();
    assert!(
        bench
            .engine
            .session(&session.token, Touch::No)
            .await
            .unwrap()
            .is_none()
    );
    assert!(bench.sign_in("dr-lee", PASSWORD, None).await.is_err());
}

#[tokio::test]
async fn wrong_passwords_lock_known_and_unknown_accounts_alike() {
    let bench = bench().await;
    bench.admin().await;
    for account in ["admin", "nobody"] {
        for _ in 0..5 {
            let refused = bench
                .sign_in(account, "not the password", None)
                .await
                .unwrap_err();
            assert!(
                matches!(refused, SignInRefused::NotMatching),
                "{account}: {refused:?}"
            );
        }
        // Even the right one has to wait now.
        let locked = bench.sign_in(account, PASSWORD, None).await.unwrap_err();
        assert!(
            matches!(locked, SignInRefused::Wait { .. }),
            "{account}: {locked:?}"
        );
    }
    bench.clock.advance_s(30);
    assert!(bench.sign_in("admin", PASSWORD, None).await.is_ok());
    // A success clears the count.
    let refused = bench
        .sign_in("admin", "not the password", None)
        .await
        .unwrap_err();
    assert!(matches!(refused, SignInRefused::NotMatching));
    let kinds = bench.kinds(StreamId::Account(name("admin"))).await;
    assert_eq!(
        kinds
            .iter()
            .filter(|kind| *kind == "sign_in_failed")
            .count(),
        6
    );
    // Strangers' names make no streams.
    assert!(
        bench
            .kinds(StreamId::Account(name("nobody")))
            .await
            .is_empty()
    );
    assert_eq!(bench.kinds(StreamId::Refusals).await.len(), 5);
}

#[tokio::test]
async fn of_guesses_sent_at_once_one_is_judged() {
    let bench = bench().await;
    bench.admin().await;
    let mut attempts = Vec::new();
    for _ in 0..3 {
        attempts.push(bench.engine.sign_in_begin("admin").await.unwrap());
    }
    let guesses = ["wrong wrong wrong", "wrong again here", PASSWORD];
    let mut outcomes = Vec::new();
    for (attempt, guess) in attempts.into_iter().zip(guesses) {
        let checked = attempt.check(&Password::typed(guess.to_owned()));
        outcomes.push(
            bench
                .engine
                .sign_in_finish(checked, None)
                .await
                .unwrap_err(),
        );
    }
    assert!(matches!(outcomes[0], SignInRefused::NotMatching));
    assert!(matches!(outcomes[1], SignInRefused::Again));
    assert!(
        matches!(outcomes[2], SignInRefused::Again),
        "the right one tells nothing either"
    );
}

#[tokio::test]
async fn administrators_sign_in_with_both_factors_and_each_code_once() {
    let bench = bench().await;
    let admin = bench.admin().await;
    assert!(
        bench.sign_in("admin", PASSWORD, None).await.is_ok(),
        "to enrol, there is no other way"
    );
    let secret = bench.factor(&admin).await;
    bench.clock.advance_s(30);
    assert!(bench.sign_in("admin", PASSWORD, None).await.is_err());
    let code = bench.code(secret);
    assert!(bench.sign_in("admin", PASSWORD, Some(&code)).await.is_ok());
    assert!(
        bench.sign_in("admin", PASSWORD, Some(&code)).await.is_err(),
        "used"
    );
    bench.clock.advance_s(30);
    let next = bench.code(secret);
    assert!(bench.sign_in("admin", PASSWORD, Some(&next)).await.is_ok());
}

#[tokio::test]
async fn sessions_end_when_idle_when_old_and_when_signed_out() {
    let bench = bench().await;
    bench.admin().await;
    let session = bench.sign_in("admin", PASSWORD, None).await.unwrap();
    let here = async |touch| {
        bench
            .engine
            .session(&session.token, touch)
            .await
            .unwrap()
            .is_some()
    };
    bench.clock.advance_s(14 * 60);
    assert!(here(Touch::Yes).await);
    bench.clock.advance_s(14 * 60);
    assert!(here(Touch::No).await, "kept open by the touch before");
    bench.clock.advance_s(60);
    assert!(
        !here(Touch::Yes).await,
        "looking alone does not keep it open"
    );

    let busy = bench.sign_in("admin", PASSWORD, None).await.unwrap();
    for _ in 0..(12 * 6) {
        assert!(
            bench
                .engine
                .session(&busy.token, Touch::Yes)
                .await
                .unwrap()
                .is_some()
        );
        bench.clock.advance_s(600);
    }
    assert!(
        bench
            .engine
            .session(&busy.token, Touch::Yes)
            .await
            .unwrap()
            .is_none(),
        "12 hours"
    );

    let left = bench.sign_in("admin", PASSWORD, None).await.unwrap();
    let neighbour = bench.sign_in("admin", PASSWORD, None).await.unwrap();
    bench.engine.sign_out(&left.token).await.unwrap();
    assert!(
        bench
            .engine
            .session(&left.token, Touch::No)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        bench
            .engine
            .session(&neighbour.token, Touch::No)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        bench
            .engine
            .session("not a token", Touch::No)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn each_session_has_its_own_form_token() {
    let bench = bench().await;
    bench.admin().await;
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let session = bench.sign_in("admin", PASSWORD, None).await.unwrap();
        let seen = bench
            .engine
            .session(&session.token, Touch::No)
            .await
            .unwrap()
            .unwrap();
        assert!(!seen.csrf.contains(&session.token));
        assert_eq!(seen.second_factor, SecondFactor::Missing);
        tokens.push(seen.csrf);
    }
    assert_ne!(tokens[0], tokens[1]);
}

#[tokio::test]
async fn a_second_factor_is_confirmed_before_it_counts() {
    let bench = bench().await;
    let admin = bench.admin().await;
    let digest = Digest::of_bytes(b"order");
    let none = bench
        .engine
        .step_up_begin(&admin, StepUpFor::Matter, digest)
        .await;
    assert!(matches!(none, Err(StepUpRefused::NotEnrolled)));
    let first = bench.engine.second_factor_begin(&admin).await.unwrap();
    let again = bench.engine.second_factor_begin(&admin).await.unwrap();
    assert_eq!(first, again, "reloading the page shows the same secret");
    let wrong = bench.engine.second_factor_confirm(&admin, "000000").await;
    assert!(matches!(wrong, Err(SecondFactorFailed::CodeRefused)));
    bench.factor(&admin).await;
    let done = bench.engine.second_factor_begin(&admin).await;
    assert!(
        matches!(done, Err(SecondFactorFailed::Enrolled)),
        "the secret is never shown again"
    );
}

#[tokio::test]
async fn a_step_up_takes_one_fresh_code_of_the_right_person() {
    let bench = bench().await;
    let admin = bench.admin().await;
    let secret = bench.factor(&admin).await;
    let code = bench
        .engine
        .create_account(&admin, new_account("dr-lee", &[Role::Clinician]))
        .await
        .unwrap();
    let lee = bench
        .engine
        .enrol("dr-lee", &code, hash(PASSWORD))
        .await
        .unwrap();
    let digest = Digest::of_bytes(b"order");
    let step = bench
        .engine
        .step_up_begin(&admin, StepUpFor::Matter, digest)
        .await
        .unwrap();
    // The code that confirmed the enrolment is used.
    let used = bench
        .engine
        .step_up_verify(&admin, step, &bench.code(secret))
        .await;
    assert!(
        matches!(used, Err(StepUpRefused::CodeRefused { left: 4 })),
        "{used:?}"
    );
    bench.clock.advance_s(30);
    let fresh = bench.code(secret);
    let foreign = bench.engine.step_up_verify(&lee, step, &fresh).await;
    assert!(matches!(foreign, Err(StepUpRefused::Gone)));
    bench
        .engine
        .step_up_verify(&admin, step, &fresh)
        .await
        .unwrap();
    let state = bench.engine.step_up(&admin, step).await.unwrap();
    assert_eq!(
        (state.digest, state.verified_at),
        (digest, Some(bench.clock.now()))
    );
    // The same code does not open a second one.
    let other = bench
        .engine
        .step_up_begin(&admin, StepUpFor::Matter, Digest::of_bytes(b"other"))
        .await
        .unwrap();
    let reused = bench.engine.step_up_verify(&admin, other, &fresh).await;
    assert!(matches!(reused, Err(StepUpRefused::CodeRefused { .. })));
    let kinds = bench.kinds(StreamId::Account(name("admin"))).await;
    let tail: Vec<&str> = kinds.iter().rev().take(3).map(String::as_str).collect();
    assert_eq!(tail, ["step_up_failed", "step_up_passed", "step_up_failed"]);
}

#[tokio::test]
async fn a_step_up_ends_after_five_wrong_codes_and_after_five_minutes() {
    let bench = bench().await;
    let admin = bench.admin().await;
    let secret = bench.factor(&admin).await;
    bench.clock.advance_s(30);
    let step = bench
        .engine
        .step_up_begin(&admin, StepUpFor::Matter, Digest::of_bytes(b"order"))
        .await
        .unwrap();
    for left in (0..5).rev() {
        let refused = bench
            .engine
            .step_up_verify(&admin, step, "000000")
            .await
            .unwrap_err();
        assert!(
            matches!(refused, StepUpRefused::CodeRefused { left: l } if l == left),
            "{refused:?}"
        );
    }
    let locked = bench
        .engine
        .step_up_begin(&admin, StepUpFor::Matter, Digest::of_bytes(b"order"))
        .await;
    assert!(
        matches!(locked, Err(StepUpRefused::Wait { .. })),
        "guessing locks the account's codes"
    );
    bench.clock.advance_s(60);
    let dead = bench
        .engine
        .step_up_verify(&admin, step, &bench.code(secret))
        .await;
    assert!(matches!(dead, Err(StepUpRefused::Gone)));
    let late = bench
        .engine
        .step_up_begin(&admin, StepUpFor::Matter, Digest::of_bytes(b"order"))
        .await
        .unwrap();
    bench.clock.advance_s(300);
    let expired = bench
        .engine
        .step_up_verify(&admin, late, &bench.code(secret))
        .await;
    assert!(matches!(expired, Err(StepUpRefused::Gone)));
}

#[tokio::test]
async fn nothing_that_rests_or_is_recorded_holds_a_secret() {
    let bench = bench().await;
    let admin = bench.admin().await;
    bench.factor(&admin).await;
    let secret = {
        // Read before it was confirmed, it would have been shown; afterwards only the vault has it.
        let tenant = TenantId::new("clinic").unwrap();
        let listing = chaperone_core::ports::Listing {
            limit: 10,
            ..Default::default()
        };
        let records = bench
            .store
            .records(&tenant, "account", listing, bench.clock.now())
            .await
            .unwrap();
        records[0].value.to_string()
    };
    assert!(!secret.contains(PASSWORD));
    assert!(secret.contains("$argon2id$"));
    let session = bench.sign_in("admin", PASSWORD, None).await;
    assert!(session.is_err(), "an enrolled administrator gives a code");
    let tenant = TenantId::new("clinic").unwrap();
    let leaves = bench.store.leaves(&tenant, 0, 1_000).await.unwrap();
    for leaf in leaves {
        let text = String::from_utf8(leaf).unwrap();
        assert!(
            !text.contains(PASSWORD) && !text.contains("argon2"),
            "{text}"
        );
    }
    let account = bench
        .store
        .stream(&tenant, &StreamId::Account(name("admin")))
        .await
        .unwrap();
    assert!(matches!(account[0].event, Event::AccountCreated { .. }));
}
