//! The humans of the demo: accounts with passwords and second factors, made the way real ones are.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use chaperone_core::digest::Digest;
use chaperone_core::ids::{AccountName, StepUpId, WritebackId};
use chaperone_core::principal::{Human, Role};
use chaperone_engine::Engine;
use chaperone_engine::people::{NewAccount, Password, PasswordHash, StepUpFor, totp};
use rand::RngExt as _;
use tokio::sync::Mutex;

/// Account names and roles.
const CAST: [(&str, &[Role]); 6] = [
    ("admin", &[Role::ItAdmin]),
    ("clinician", &[Role::Clinician]),
    ("clinician-2", &[Role::Clinician]),
    ("clinician-3", &[Role::Clinician]),
    ("pharmacist", &[Role::Pharmacist]),
    ("front-desk", &[Role::Scheduler, Role::MaRn, Role::Rn]),
];

struct Member {
    human: Human,
    password: String,
    secret: [u8; totp::SECRET_BYTES],
    secret_text: String,
}

/// The cast of one run.
pub(crate) struct Cast {
    members: BTreeMap<&'static str, Member>,
    /// Time steps used, per account: a code counts once.
    used: Mutex<BTreeMap<&'static str, i64>>,
}

impl Cast {
    /// Makes the accounts.
    pub(crate) async fn enrol(engine: &Arc<Engine>) -> anyhow::Result<Self> {
        let mut members = BTreeMap::new();
        let mut admin: Option<Human> = None;
        for (name, roles) in CAST {
            let password = passphrase();
            let hash = hashed(engine, &password)?;
            let account = NewAccount {
                name: AccountName::new(name)?,
                person: None,
                roles: roles.to_vec(),
            };
            let human = match &admin {
                None => {
                    let code = engine
                        .bootstrap_code()
                        .await?
                        .context("the demo needs a store without accounts")?;
                    engine.bootstrap(&code, account, hash).await?
                }
                Some(admin) => {
                    let code = engine.create_account(admin, account).await?;
                    engine.enrol(name, &code, hash).await?
                }
            };
            let enrolment = engine.second_factor_begin(&human).await?;
            let secret = decode(&enrolment.secret)?;
            // The code of the step before: the present one stays free for the first approval.
            let before = engine
                .now()
                .checked_sub(jiff::SignedDuration::from_secs(30))?;
            engine
                .second_factor_confirm(&human, &totp::code_at(secret, before))
                .await?;
            if admin.is_none() {
                admin = Some(human.clone());
            }
            members.insert(
                name,
                Member {
                    human,
                    password,
                    secret,
                    secret_text: enrolment.secret,
                },
            );
        }
        Ok(Self {
            members,
            used: Mutex::default(),
        })
    }

    /// One of the cast.
    pub(crate) fn human(&self, name: &str) -> anyhow::Result<&Human> {
        self.members
            .get(name)
            .map(|m| &m.human)
            .context("nobody of this name is in the cast")
    }

    /// Gives a second factor for a digest of a write-back, with a code that was not used before.
    pub(crate) async fn step_up(
        &self,
        engine: &Engine,
        name: &'static str,
        writeback: WritebackId,
        digest: Digest,
    ) -> anyhow::Result<StepUpId> {
        let member = self
            .members
            .get(name)
            .context("nobody of this name is in the cast")?;
        let id = engine
            .step_up_begin(&member.human, StepUpFor::Approval { writeback }, digest)
            .await?;
        let mut used = self.used.lock().await;
        loop {
            let now = engine.now();
            let step = now.as_second().div_euclid(30);
            let next = used.get(name).map_or(step, |last| (last + 1).max(step));
            // One step ahead is accepted; beyond it, the next code has to be waited for.
            if next <= step + 1 {
                let at = jiff::Timestamp::from_second(next * 30)?;
                engine
                    .step_up_verify(&member.human, id, &totp::code_at(member.secret, at))
                    .await?;
                used.insert(name, next);
                return Ok(id);
            }
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    }

    /// Accounts for scripts that drive the console.
    pub(crate) fn evaluation(&self) -> Vec<serde_json::Value> {
        self.members
            .iter()
            .map(|(name, member)| {
                serde_json::json!({
                    "account": name,
                    "password": member.password,
                    "totp_secret": member.secret_text,
                    "roles": member.human.roles,
                })
            })
            .collect()
    }

    /// Accounts for people.
    pub(crate) fn in_words(&self) -> String {
        self.members
            .iter()
            .map(|(name, member)| {
                let roles: Vec<&str> = member.human.roles.iter().map(|r| r.as_str()).collect();
                format!(
                    "  {name:<12} {}  authenticator secret {}  ({})\n",
                    member.password,
                    member.secret_text,
                    roles.join(", ")
                )
            })
            .collect()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a password of this run, drawn in the binary"
)]
fn passphrase() -> String {
    const LETTERS: &[u8] = b"abcdefghjkmnpqrstuvwxyz23456789";
    let mut rng = rand::rng();
    (0..4)
        .map(|_| {
            (0..4)
                .filter_map(|_| LETTERS.get(rng.random_range(0..LETTERS.len())))
                .map(|b| char::from(*b))
                .collect::<String>()
        })
        .collect::<Vec<_>>()
        .join("-")
}

fn hashed(engine: &Engine, password: &str) -> anyhow::Result<PasswordHash> {
    let password = Password::chosen(password.to_owned())?;
    Ok(PasswordHash::make(&password, engine.password_salt())?)
}

/// Base 32 without padding (RFC 4648), as authenticator apps take it.
fn decode(text: &str) -> anyhow::Result<[u8; totp::SECRET_BYTES]> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut bits = 0_u64;
    let mut held = 0;
    let mut bytes = Vec::new();
    for letter in text.chars().filter(|c| *c != '=') {
        let value = ALPHABET.find(letter).context("the secret is not base 32")?;
        bits = (bits << 5) | value as u64;
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    bytes
        .try_into()
        .map_err(|_| anyhow::anyhow!("the secret has another length"))
}
