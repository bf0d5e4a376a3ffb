//! Passkeys as a second factor, with an authenticator in memory: what one opens, beside everything near it that opens
//! nothing. On both databases.

use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::{Factor, Strategy};
use chaperone_core::ids::{AccountName, OverrideReason, StepUpId, WritebackId};
use chaperone_core::passkey::PasskeyEvent;
use chaperone_core::principal::{Human, Role};
use chaperone_core::writeback::{StateName, WritebackEvent};
use chaperone_engine::approve::{ApproveRequest, DecideFailed};
use chaperone_engine::people::passkeys::PasskeyChange;
use chaperone_engine::people::{
    AssertionSent, NewAccount, PasskeyFailed, PasskeyInvalid, Password, PasswordHash, RelyingParty,
    SignInRefused, SignInTicket, StepUpFor, StepUpRefused, totp,
};
use chaperone_engine::{Engine, EngineConfig};
use chaperone_testkit::SoftKey;

use crate::bench::*;
use crate::plausible::{id_of, order, well_and_allergic};

pub(crate) const ORIGIN: &str = "http://localhost:8080";
const PASSWORD: &str = "a calm grey morning";

pub(crate) fn key(seed: u8) -> SoftKey {
    SoftKey::new(seed, "localhost", ORIGIN)
}

fn hash() -> PasswordHash {
    PasswordHash::make(&Password::chosen(PASSWORD.to_owned()).unwrap(), [3; 16]).unwrap()
}

/// A bench whose console has a host name.
pub(crate) async fn console_on(db: Db) -> Bench {
    console_where(db, true).await
}

async fn console_where(db: Db, codes_beside_passkeys: bool) -> Bench {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let config = EngineConfig {
        passkeys: Some(RelyingParty::new("localhost", &[ORIGIN.to_owned()]).unwrap()),
        codes_beside_passkeys,
        ..EngineConfig::new(tenant(), "http://127.0.0.1:8080")
    };
    let ports = ports(bench.store.clone(), bench.ehr.clone(), bench.clock.clone());
    bench.engine = Engine::start(config, BUNDLE.clone(), ports).await.unwrap();
    bench
}

pub(crate) async fn admin(bench: &Bench) -> Human {
    let code = bench.engine.bootstrap_code().await.unwrap().unwrap();
    let account = NewAccount {
        name: AccountName::new("admin").unwrap(),
        person: None,
        roles: vec![],
    };
    bench
        .engine
        .bootstrap(&code, account, hash())
        .await
        .unwrap()
}

pub(crate) async fn person(bench: &Bench, admin: &Human, name: &str, roles: &[Role]) -> Human {
    let account = NewAccount {
        name: AccountName::new(name).unwrap(),
        person: None,
        roles: roles.to_vec(),
    };
    let code = bench.engine.create_account(admin, account).await.unwrap();
    bench.engine.enrol(name, &code, hash()).await.unwrap()
}

/// Adds the first key of an account.
pub(crate) async fn enrolled(bench: &Bench, who: &Human, key: &SoftKey) {
    let offer = bench.engine.passkey_offer(who).await.unwrap();
    let sent = key.create(&offer.challenge);
    bench
        .engine
        .passkey_add(who, "Office", &sent, None)
        .await
        .unwrap();
}

async fn asked(bench: &Bench, who: &Human, step: StepUpId) -> String {
    let asked = bench.engine.step_up_challenge(who, step).await.unwrap();
    asked.unwrap().challenge
}

async fn begun(bench: &Bench, who: &Human, writeback: WritebackId, digest: Digest) -> StepUpId {
    let subject = StepUpFor::Approval { writeback };
    bench
        .engine
        .step_up_begin(who, subject, digest)
        .await
        .unwrap()
}

/// A step-up for an order, given with a key.
async fn given(
    bench: &Bench,
    who: &Human,
    key: &mut SoftKey,
    writeback: WritebackId,
    digest: Digest,
) -> StepUpId {
    let step = begun(bench, who, writeback, digest).await;
    let sent = key.get(&asked(bench, who, step).await);
    bench
        .engine
        .step_up_verify_passkey(who, step, &sent)
        .await
        .unwrap();
    step
}

async fn approve(
    bench: &Bench,
    by: &Human,
    writeback: WritebackId,
    digest: Digest,
    step_up: StepUpId,
) -> Result<StateName, DecideFailed> {
    let request = ApproveRequest {
        writeback,
        digest,
        step_up: Some(step_up),
        // The bench knows little about the patient, so a rule warns.
        override_reason: Some(OverrideReason::new("benefit-outweighs").unwrap()),
        review_ms: 5_000,
    };
    bench.engine.approve(by, request).await.map(|row| row.state)
}

/// Codes of what was refused in an account's name, in order.
async fn refusals(bench: &Bench, account: &str) -> Vec<String> {
    let stream = StreamId::Account(AccountName::new(account).unwrap());
    let events = bench.store.stream(&tenant(), &stream).await.unwrap();
    let code = |event: Event| match event {
        Event::Passkey(PasskeyEvent::Refused { code, .. }) => Some(code),
        _ => None,
    };
    events.into_iter().filter_map(|it| code(it.event)).collect()
}

pub(crate) async fn a_passkey_approves_the_order_it_was_asked_for_once(db: Db) {
    let bench = console_on(db).await;
    let admin = admin(&bench).await;
    let lee = person(&bench, &admin, "dr-lee", &[Role::Clinician]).await;
    let mut own = key(1);
    enrolled(&bench, &lee, &own).await;
    let (well, _) = well_and_allergic(&bench).await;
    let first = id_of(&order(&bench, &well, "1", 20.0).await);
    let second = id_of(&order(&bench, &well, "2", 40.0).await);
    let digest_of = async |id| bench.row(id).await.digest.unwrap();
    let (one, other) = (digest_of(first).await, digest_of(second).await);
    assert_ne!(one, other);

    // Given for another write-back, even for the same content; or for other content of the same write-back.
    let elsewhere = given(&bench, &lee, &mut own, second, one).await;
    let refused = approve(&bench, &lee, first, one, elsewhere).await;
    assert!(matches!(refused, Err(DecideFailed::StepUp)), "{refused:?}");
    let before = given(&bench, &lee, &mut own, first, other).await;
    let refused = approve(&bench, &lee, first, one, before).await;
    assert!(matches!(refused, Err(DecideFailed::StepUp)), "{refused:?}");
    // Asked for, and not given.
    let open = begun(&bench, &lee, first, one).await;
    let refused = approve(&bench, &lee, first, one, open).await;
    assert!(matches!(refused, Err(DecideFailed::StepUp)), "{refused:?}");
    // Somebody else's.
    let kim = person(&bench, &admin, "dr-kim", &[Role::Clinician]).await;
    let step = given(&bench, &lee, &mut own, first, one).await;
    let refused = approve(&bench, &kim, first, one, step).await;
    assert!(matches!(refused, Err(DecideFailed::StepUp)), "{refused:?}");
    assert_eq!(bench.state(first).await, StateName::AwaitingApproval);

    // What was given for it opens it, once, and the record says by which key.
    let taken = approve(&bench, &lee, first, one, step).await;
    assert_eq!(taken.unwrap(), StateName::Ready);
    let events = bench
        .store
        .stream(&tenant(), &StreamId::Writeback(first))
        .await;
    let approval = events.unwrap().into_iter().find_map(|it| match it.event {
        Event::Writeback(WritebackEvent::Approved { approval }) => Some(approval),
        _ => None,
    });
    let factors = bench.engine.second_factors(&lee).await.unwrap();
    let expected = Factor::Passkey {
        at: bench.engine.now(),
        credential: factors.passkeys[0].credential,
    };
    assert_eq!(approval.unwrap().factor, expected);
    let again = approve(&bench, &lee, first, one, step).await;
    assert!(again.is_err());
    let reused = approve(&bench, &lee, second, other, step).await;
    assert!(matches!(reused, Err(DecideFailed::StepUp)), "{reused:?}");

    // Too long ago.
    let late = given(&bench, &lee, &mut own, second, other).await;
    bench.clock.advance_s(301);
    let refused = approve(&bench, &lee, second, other, late).await;
    assert!(matches!(refused, Err(DecideFailed::StepUp)), "{refused:?}");
}

pub(crate) async fn what_is_not_this_persons_key_used_here_and_now_is_refused_and_recorded(db: Db) {
    type Wrong = fn(&mut SoftKey);
    let bench = console_on(db).await;
    let admin = admin(&bench).await;
    let lee = person(&bench, &admin, "dr-lee", &[Role::Clinician]).await;
    let kim = person(&bench, &admin, "dr-kim", &[Role::Clinician]).await;
    let (own, kims) = (key(1), key(2));
    enrolled(&bench, &lee, &own).await;
    enrolled(&bench, &kim, &kims).await;
    let digest = Digest::of_bytes(b"order");
    let matter = async || {
        let engine = &bench.engine;
        engine
            .step_up_begin(&lee, StepUpFor::Matter, digest)
            .await
            .unwrap()
    };
    let told = async |step: StepUpId, sent: &AssertionSent| match bench
        .engine
        .step_up_verify_passkey(&lee, step, sent)
        .await
    {
        Ok(()) => "accepted".to_owned(),
        Err(StepUpRefused::PasskeyRefused(invalid)) => invalid.code().to_owned(),
        Err(other) => other.to_string(),
    };
    let mut uses = own.clone();
    let mut expected = Vec::new();

    // The authenticator or the page does one thing wrong; beside it, the same key doing it right.
    let cases: [(&str, Wrong); 5] = [
        ("user-not-present", |key| key.present = false),
        ("user-not-verified", |key| key.verifies = false),
        ("other-origin", |key| {
            key.origin = "http://localhost:8081".to_owned()
        }),
        ("other-origin", |key| {
            key.origin = "https://localhost:8080".to_owned()
        }),
        ("other-relying-party", |key| {
            key.rp_id = "evil.example".to_owned()
        }),
    ];
    for (code, wrong) in cases {
        let step = matter().await;
        let mut told_wrong = uses.clone();
        wrong(&mut told_wrong);
        let sent = told_wrong.get(&asked(&bench, &lee, step).await);
        assert_eq!(told(step, &sent).await, code);
        expected.push(code);
        let right = uses.get(&asked(&bench, &lee, step).await);
        assert_eq!(told(step, &right).await, "accepted", "{code}");
    }

    // Somebody else's key, also under the name of one's own.
    let step = matter().await;
    let challenge = asked(&bench, &lee, step).await;
    let sent = kims.clone().get(&challenge);
    assert_eq!(told(step, &sent).await, "unknown-key");
    let renamed = AssertionSent {
        credential: own.credential(),
        ..kims.clone().get(&asked(&bench, &lee, step).await)
    };
    assert_eq!(told(step, &renamed).await, "signature");
    expected.extend(["unknown-key", "signature"]);

    // A challenge counts for one step-up, for one answer, and for two minutes.
    let (step, other) = (matter().await, matter().await);
    let elsewhere = asked(&bench, &lee, other).await;
    asked(&bench, &lee, step).await;
    let sent = uses.get(&elsewhere);
    assert_eq!(told(step, &sent).await, "other-challenge");
    let challenge = asked(&bench, &lee, step).await;
    let mut careless = uses.clone();
    careless.verifies = false;
    assert_eq!(
        told(step, &careless.get(&challenge)).await,
        "user-not-verified"
    );
    assert_eq!(told(step, &uses.get(&challenge)).await, "other-challenge");
    let old = asked(&bench, &lee, step).await;
    asked(&bench, &lee, step).await;
    assert_eq!(told(step, &uses.get(&old)).await, "other-challenge");
    let challenge = asked(&bench, &lee, other).await;
    bench.clock.advance_s(120);
    assert_eq!(told(other, &uses.get(&challenge)).await, "other-challenge");
    expected.extend(["other-challenge", "user-not-verified"]);
    expected.extend(["other-challenge"; 3]);

    // What was accepted is not accepted again, there or elsewhere.
    let step = matter().await;
    let sent = uses.get(&asked(&bench, &lee, step).await);
    assert_eq!(told(step, &sent).await, "accepted");
    assert_eq!(told(step, &sent).await, StepUpRefused::Gone.to_string());
    let fresh = matter().await;
    asked(&bench, &lee, fresh).await;
    assert_eq!(told(fresh, &sent).await, "other-challenge");
    // A key being made is no key being used, and nothing at all is nothing.
    let made = uses.create(&asked(&bench, &lee, fresh).await);
    let swapped = AssertionSent {
        client_data: made.client_data,
        ..uses.get("AAAA")
    };
    assert_eq!(told(fresh, &swapped).await, "other-ceremony");
    asked(&bench, &lee, fresh).await;
    assert_eq!(told(fresh, &AssertionSent::default()).await, "unknown-key");
    asked(&bench, &lee, fresh).await;
    let empty = AssertionSent {
        credential: own.credential(),
        ..AssertionSent::default()
    };
    assert_eq!(told(fresh, &empty).await, "malformed");
    expected.extend([
        "other-challenge",
        "other-ceremony",
        "unknown-key",
        "malformed",
    ]);
    // Nor is it somebody else's step-up.
    let step = matter().await;
    let challenge = asked(&bench, &lee, step).await;
    let foreign = kims.clone().get(&challenge);
    let refused = bench
        .engine
        .step_up_verify_passkey(&kim, step, &foreign)
        .await;
    assert!(matches!(refused, Err(StepUpRefused::Gone)));
    assert_eq!(refusals(&bench, "dr-lee").await, expected);
    assert!(refusals(&bench, "dr-kim").await.is_empty());

    // Five wrong answers end a step-up.
    let step = matter().await;
    for _ in 0..5 {
        asked(&bench, &lee, step).await;
        assert_eq!(told(step, &empty).await, "malformed");
    }
    let over = bench.engine.step_up_challenge(&lee, step).await;
    assert!(matches!(over, Err(StepUpRefused::Gone)));
}

pub(crate) async fn a_key_whose_counter_went_back_is_out_of_use(db: Db) {
    let bench = console_on(db).await;
    let admin = admin(&bench).await;
    let lee = person(&bench, &admin, "dr-lee", &[Role::Clinician]).await;
    let mut own = key(1);
    enrolled(&bench, &lee, &own).await;
    let digest = Digest::of_bytes(b"order");
    let used = async |key: &mut SoftKey| {
        let engine = &bench.engine;
        let step = engine
            .step_up_begin(&lee, StepUpFor::Matter, digest)
            .await?;
        let challenge = engine.step_up_challenge(&lee, step).await?;
        let challenge = challenge.map(|it| it.challenge).unwrap_or_default();
        engine
            .step_up_verify_passkey(&lee, step, &key.get(&challenge))
            .await
    };
    let mut copy = own.clone();
    for _ in 0..3 {
        used(&mut own).await.unwrap();
    }
    let refused = used(&mut copy).await;
    assert!(matches!(
        refused,
        Err(StepUpRefused::PasskeyRefused(PasskeyInvalid::CounterBack))
    ));
    // Neither the copy nor the original opens anything now.
    let refused = used(&mut own).await;
    assert!(
        matches!(refused, Err(StepUpRefused::NotEnrolled)),
        "{refused:?}"
    );
    let factors = bench.engine.second_factors(&lee).await.unwrap();
    assert!(factors.passkeys[0].suspended);
    assert_eq!(refusals(&bench, "dr-lee").await, ["counter-back"]);

    // A key that does not count is used again and again.
    let kim = person(&bench, &admin, "dr-kim", &[Role::Clinician]).await;
    let mut plain = key(2);
    plain.counter = None;
    enrolled(&bench, &kim, &plain).await;
    for _ in 0..2 {
        let engine = &bench.engine;
        let step = engine
            .step_up_begin(&kim, StepUpFor::Matter, digest)
            .await
            .unwrap();
        let sent = plain.get(&asked(&bench, &kim, step).await);
        engine
            .step_up_verify_passkey(&kim, step, &sent)
            .await
            .unwrap();
    }
}

pub(crate) async fn keys_are_added_and_removed_only_with_a_factor_given_for_that(db: Db) {
    let bench = console_on(db).await;
    let engine = bench.engine.clone();
    let admin = admin(&bench).await;
    let lee = person(&bench, &admin, "dr-lee", &[Role::Clinician]).await;
    let (mut first, second) = (key(1), key(2));
    // Without a factor there is nothing to step up with; the first key needs none, and must be made for this offer.
    let offer = engine.passkey_offer(&lee).await.unwrap();
    let old = second.create(&offer.challenge);
    let offer = engine.passkey_offer(&lee).await.unwrap();
    let refused = engine.passkey_add(&lee, "Office", &old, None).await;
    assert!(matches!(
        refused,
        Err(PasskeyFailed::Invalid(PasskeyInvalid::Challenge))
    ));
    let used_up = first.create(&offer.challenge);
    let refused = engine.passkey_add(&lee, "Office", &used_up, None).await;
    assert!(
        matches!(
            refused,
            Err(PasskeyFailed::Invalid(PasskeyInvalid::Challenge))
        ),
        "an answer that was wrong uses the challenge up"
    );
    let mut careless = first.clone();
    careless.verifies = false;
    let offer = engine.passkey_offer(&lee).await.unwrap();
    let refused = engine
        .passkey_add(&lee, "Office", &careless.create(&offer.challenge), None)
        .await;
    assert!(matches!(
        refused,
        Err(PasskeyFailed::Invalid(PasskeyInvalid::NotVerified))
    ));
    enrolled(&bench, &lee, &first).await;
    // Now there is a factor: whoever has only the session adds neither a key nor an app.
    assert!(engine.second_factor_begin(&lee).await.is_err());
    assert!(engine.second_factor_confirm(&lee, "123456").await.is_err());
    let step_for = async |key: &mut SoftKey, subject, digest| {
        let step = engine.step_up_begin(&lee, subject, digest).await.unwrap();
        let sent = key.get(&asked(&bench, &lee, step).await);
        engine
            .step_up_verify_passkey(&lee, step, &sent)
            .await
            .unwrap();
        step
    };
    let add = engine.passkey_change_digest(&lee, PasskeyChange::Add);
    let credential = engine.second_factors(&lee).await.unwrap().passkeys[0].credential;
    let remove = engine.passkey_change_digest(&lee, PasskeyChange::Remove(credential));
    let adding = async |key: &SoftKey, step| {
        let offer = engine.passkey_offer(&lee).await.unwrap();
        engine
            .passkey_add(&lee, "Phone", &key.create(&offer.challenge), step)
            .await
    };
    for step in [
        None,
        Some(step_for(&mut first, StepUpFor::Matter, add).await),
        Some(step_for(&mut first, StepUpFor::Passkeys, remove).await),
    ] {
        let refused = adding(&second, step).await;
        assert!(matches!(refused, Err(PasskeyFailed::StepUp)), "{refused:?}");
    }
    let step = step_for(&mut first, StepUpFor::Passkeys, add).await;
    adding(&second, Some(step)).await.unwrap();
    let refused = adding(&key(3), Some(step)).await;
    assert!(
        matches!(refused, Err(PasskeyFailed::StepUp)),
        "a factor counts once"
    );
    // A key is one account's.
    let kim = person(&bench, &admin, "dr-kim", &[Role::Clinician]).await;
    let offer = engine.passkey_offer(&kim).await.unwrap();
    let sent = second.create(&offer.challenge);
    let refused = engine.passkey_add(&kim, "Phone", &sent, None).await;
    assert!(matches!(refused, Err(PasskeyFailed::Known)));

    // Removing takes a factor for removing this one, and the last factor stays.
    let step = step_for(&mut first, StepUpFor::Passkeys, add).await;
    let refused = engine.passkey_remove(&lee, credential, step).await;
    assert!(matches!(refused, Err(PasskeyFailed::StepUp)), "{refused:?}");
    let mut second = second;
    let step = step_for(&mut second, StepUpFor::Passkeys, remove).await;
    engine.passkey_remove(&lee, credential, step).await.unwrap();
    let left = engine.second_factors(&lee).await.unwrap().passkeys;
    assert_eq!(left.len(), 1);
    let last = engine.passkey_change_digest(&lee, PasskeyChange::Remove(left[0].credential));
    let step = step_for(&mut second, StepUpFor::Passkeys, last).await;
    let refused = engine.passkey_remove(&lee, left[0].credential, step).await;
    assert!(matches!(refused, Err(PasskeyFailed::LastFactor)));
    // The removed one opens nothing.
    let digest = Digest::of_bytes(b"order");
    let step = engine
        .step_up_begin(&lee, StepUpFor::Matter, digest)
        .await
        .unwrap();
    let sent = first.get(&asked(&bench, &lee, step).await);
    let refused = engine.step_up_verify_passkey(&lee, step, &sent).await;
    assert!(matches!(
        refused,
        Err(StepUpRefused::PasskeyRefused(PasskeyInvalid::Unknown))
    ));
    // A renewed account has no key of before.
    engine
        .reissue_enrolment(&admin, &lee.account)
        .await
        .unwrap();
    assert!(
        engine
            .second_factors(&lee)
            .await
            .unwrap()
            .passkeys
            .is_empty()
    );
}

pub(crate) async fn an_administrator_signs_in_with_a_passkey_after_the_password(db: Db) {
    let bench = console_where(db, false).await;
    let engine = bench.engine.clone();
    let admin = admin(&bench).await;
    let enrolment = engine.second_factor_begin(&admin).await.unwrap();
    assert!(!enrolment.secret.is_empty());
    let mut own = key(1);
    enrolled(&bench, &admin, &own).await;
    let sign_in = async |password: &str, code: Option<&str>| {
        let attempt = engine.sign_in_begin("admin").await.unwrap();
        let checked = attempt.check(&Password::typed(password.to_owned()));
        engine.sign_in_finish(checked, code).await
    };
    let ticket = async || match sign_in(PASSWORD, None).await {
        Err(SignInRefused::PasskeyAsked(ticket)) => *ticket,
        other => panic!("{other:?}"),
    };
    // A wrong password asks no key, and a code counts for nothing here.
    let wrong = sign_in("another grey morning", None).await;
    assert!(matches!(wrong, Err(SignInRefused::NotMatching)));
    let code = totp::code_at([0; totp::SECRET_BYTES], bench.engine.now());
    let with_code = sign_in(PASSWORD, Some(&code)).await;
    assert!(matches!(with_code, Err(SignInRefused::PasskeyAsked(_))));

    let SignInTicket { ticket: one, asked } = ticket().await;
    let sent = own.get(&asked.challenge);
    let nobody = engine.sign_in_passkey("another ticket", &sent).await;
    assert!(matches!(nobody, Err(SignInRefused::TicketGone)));
    let session = engine.sign_in_passkey(&one, &sent).await.unwrap();
    assert_eq!(session.human, admin);
    let again = engine.sign_in_passkey(&one, &sent).await;
    assert!(matches!(again, Err(SignInRefused::TicketGone)));

    // Beside it: the answer to another sign-in, another key, one that did not verify, and one that came too late.
    let (this, other) = (ticket().await, ticket().await);
    let mut careless = own.clone();
    careless.verifies = false;
    let answers = [
        (own.get(&other.asked.challenge), PasskeyInvalid::Challenge),
        (key(9).get(&this.asked.challenge), PasskeyInvalid::Unknown),
    ];
    let refused = engine.sign_in_passkey(&this.ticket, &answers[0].0).await;
    assert!(matches!(refused, Err(SignInRefused::PasskeyRefused(code)) if code == answers[0].1));
    let refused = engine.sign_in_passkey(&this.ticket, &answers[1].0).await;
    assert!(
        matches!(refused, Err(SignInRefused::TicketGone)),
        "one answer for a ticket"
    );
    let refused = engine
        .sign_in_passkey(&other.ticket, &careless.get(&other.asked.challenge))
        .await;
    assert!(matches!(
        refused,
        Err(SignInRefused::PasskeyRefused(PasskeyInvalid::NotVerified))
    ));
    let late = ticket().await;
    bench.clock.advance_s(120);
    let sent = own.get(&late.asked.challenge);
    let refused = engine.sign_in_passkey(&late.ticket, &sent).await;
    assert!(matches!(refused, Err(SignInRefused::TicketGone)));
    let recorded = refusals(&bench, "admin").await;
    assert_eq!(recorded, ["other-challenge", "user-not-verified"]);
}
