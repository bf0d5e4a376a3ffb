//! Passkeys of people: adding and removing them, using one, and signing in with one.
//!
//! A challenge is made here, rests in the store until it is answered or two minutes have passed, and is used up by
//! the first answer whatever it says. A key whose counter went back is out of use from then on, because nobody can
//! tell the copy from the original. Adding a further key, and removing one, take a fresh second factor; the first
//! key takes none, because its holder has just enrolled.
//!
//! Not here: what an authenticator's answer must look like ([`super::webauthn`]), and the factor for a decision
//! ([`super::step_up`]).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{AccountName, StepUpId};
use chaperone_core::passkey::PasskeyEvent;
use chaperone_core::ports::{
    Commit, CommitFailed, Expected, Listing, Record, RecordChange, RecordKey, StoreFailed,
};
use chaperone_core::principal::{Actor, Human};
use serde::{Deserialize, Serialize};

use super::accounts::put;
use super::attempts::Guessed;
use super::step_up::StepUpFor;
use super::webauthn::{
    AssertionSent, CHALLENGE_BYTES, CreationSent, PasskeyInvalid, check_assertion, check_creation,
    counter_goes_on,
};
use super::{
    ACCOUNTS, ACCOUNTS_MAX, NewSession, SecondFactor, SignInRefused, StoredAccount, StoredPasskey,
    parse, value_of,
};
use crate::approve::DecideFailed;
use crate::context::{Engine, after};

/// Challenges that are not a step-up's: of keys being added, and of sign-ins.
const CEREMONIES: &str = "passkey_ceremony";
/// How long a challenge can be answered, in seconds.
///
/// # Source
/// WebAuthn Level 2, section 15.1: two minutes are the lower end of what it recommends where users are verified.
pub const CHALLENGE_SECONDS: i64 = 120;
/// Most passkeys of one account.
pub const PASSKEYS_MAX: usize = 10;
/// Characters of a key's name.
const NAME_CHARS: std::ops::RangeInclusive<usize> = 1..=40;

/// A challenge as it rests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Challenge {
    /// In base 64 for addresses.
    value: String,
    until: Timestamp,
}

impl Challenge {
    /// The challenge, while it can be answered.
    fn open(&self, now: Timestamp) -> Option<[u8; CHALLENGE_BYTES]> {
        let bytes = URL_SAFE_NO_PAD.decode(&self.value).ok()?;
        bytes.try_into().ok().filter(|_| now < self.until)
    }
}

/// What is being answered, where it is no step-up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Ceremony {
    account: AccountName,
    challenge: Challenge,
}

/// What a browser is asked when a key is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasskeyOffer {
    /// The challenge, in base 64 for addresses.
    pub challenge: String,
    /// The name that the key is bound to.
    pub rp_id: String,
    /// The account, as a number that says nothing, in base 64 for addresses.
    pub user_handle: String,
    /// The account, as its holder knows it.
    pub account: String,
    /// Credential ids that the account has already.
    pub exclude: Vec<String>,
}

/// What a browser is asked when a key is to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasskeyAsked {
    /// The challenge, in base 64 for addresses.
    pub challenge: String,
    /// The name that the keys are bound to.
    pub rp_id: String,
    /// Credential ids of the account's keys.
    pub allow: Vec<String>,
}

/// A sign-in whose password was right and which waits for a passkey.
#[derive(Clone, PartialEq, Eq)]
pub struct SignInTicket {
    /// What the answer must carry; known to this browser alone.
    pub ticket: String,
    /// What the passkey is asked.
    pub asked: PasskeyAsked,
}

impl std::fmt::Debug for SignInTicket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignInTicket(…)")
    }
}

/// One key of an account, as its holder sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasskeyView {
    /// The digest of its credential id, as the record names it.
    pub credential: Digest,
    /// What its holder calls it.
    pub name: String,
    /// When it was added.
    pub added: Timestamp,
    /// When it was used last.
    pub used: Option<Timestamp>,
    /// Whether it is out of use because its counter went back.
    pub suspended: bool,
}

/// The second factors of an account, as its holder sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecondFactors {
    /// Whether an authenticator app is set up.
    pub app: bool,
    /// Whether its codes are accepted.
    pub takes_codes: bool,
    /// Passkeys, oldest first.
    pub passkeys: Vec<PasskeyView>,
    /// Whether this installation takes passkeys at all.
    pub takes_passkeys: bool,
}

/// Why a passkey was not added or removed.
#[derive(Debug, thiserror::Error)]
pub enum PasskeyFailed {
    /// The console is at an address that passkeys cannot be bound to.
    #[error(
        "passkeys are off here, because the console has no host name; see [passkeys] in the configuration"
    )]
    Off,
    /// There is no such account, or no such key of it.
    #[error("there is no such passkey")]
    Missing,
    /// There are enough.
    #[error("an account has ten passkeys at most; remove one first")]
    TooMany,
    /// The name is empty or too long.
    #[error("give the passkey a name of 1 to 40 characters")]
    NameUnfit,
    /// Some account has this key.
    #[error("this passkey is in use already")]
    Known,
    /// A fresh second factor is needed, for this and nothing else.
    #[error("confirm first that it is you")]
    StepUp,
    /// What the browser sent does not count.
    #[error("the passkey was not accepted: {0}")]
    Invalid(PasskeyInvalid),
    /// An account keeps a second factor.
    #[error("this is the account's last second factor; add another one first")]
    LastFactor,
    /// Something else changed the account at the same moment.
    #[error("something else changed the account at the same moment; try again")]
    Again,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// It could not be recorded.
    #[error(transparent)]
    Commit(CommitFailed),
}

impl From<CommitFailed> for PasskeyFailed {
    fn from(failed: CommitFailed) -> Self {
        match failed {
            CommitFailed::Record { .. } => PasskeyFailed::Again,
            other => PasskeyFailed::Commit(other),
        }
    }
}

impl From<DecideFailed> for PasskeyFailed {
    fn from(failed: DecideFailed) -> Self {
        match failed {
            DecideFailed::Store(failed) => PasskeyFailed::Store(failed),
            _ => PasskeyFailed::StepUp,
        }
    }
}

/// What is done to the keys of an account; a second factor is given for one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasskeyChange {
    /// Another key is added.
    Add,
    /// One is removed.
    Remove(Digest),
}

/// What came of using a key.
pub(super) struct Used {
    /// Which key it was, or why it does not count.
    pub(super) outcome: Result<Digest, PasskeyInvalid>,
    /// The key that was named, where it is one of the account.
    pub(super) credential: Option<Digest>,
    /// Whether the account changed.
    pub(super) changed: bool,
}

impl Engine {
    /// The second factors of one's own account.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn second_factors(&self, by: &Human) -> Result<SecondFactors, StoreFailed> {
        let account = self.stored_account(&by.account).await?;
        let account = account.map(|(account, _)| account);
        let passkeys = account.iter().flat_map(|account| &account.passkeys);
        Ok(SecondFactors {
            app: account.as_ref().is_some_and(StoredAccount::has_app),
            takes_codes: account
                .as_ref()
                .is_some_and(|account| self.takes_codes(account)),
            passkeys: passkeys
                .map(|key| PasskeyView {
                    credential: self.credential_digest(&key.id),
                    name: key.name.clone(),
                    added: key.added,
                    used: key.used,
                    suspended: key.suspended.is_some(),
                })
                .collect(),
            takes_passkeys: self.config.passkeys.is_some(),
        })
    }

    /// What a second factor for a change of one's own keys is bound to.
    pub fn passkey_change_digest(&self, by: &Human, change: PasskeyChange) -> Digest {
        let account = by.account.as_str().as_bytes();
        match change {
            PasskeyChange::Add => self.tenant_digest(&[b"passkey-add", account]),
            PasskeyChange::Remove(credential) => {
                self.tenant_digest(&[b"passkey-remove", account, credential.as_bytes()])
            }
        }
    }

    /// What a browser is asked to make a key. An earlier offer to the same account is over.
    ///
    /// # Errors
    /// [`PasskeyFailed::Off`], [`PasskeyFailed::TooMany`], store failures.
    pub async fn passkey_offer(&self, by: &Human) -> Result<PasskeyOffer, PasskeyFailed> {
        let party = self.config.passkeys.as_ref().ok_or(PasskeyFailed::Off)?;
        let (account, _) = self
            .stored_account(&by.account)
            .await?
            .ok_or(PasskeyFailed::Missing)?;
        if account.passkeys.len() >= PASSKEYS_MAX {
            return Err(PasskeyFailed::TooMany);
        }
        let challenge = self.new_challenge(&by.account, &[b"add"]);
        let offer = PasskeyOffer {
            challenge: challenge.value.clone(),
            rp_id: party.id().to_owned(),
            user_handle: URL_SAFE_NO_PAD.encode(
                self.tenant_digest(&[b"passkey-holder", by.account.as_str().as_bytes()])
                    .as_bytes(),
            ),
            account: by.account.to_string(),
            exclude: account.passkeys.into_iter().map(|key| key.id).collect(),
        };
        let until = challenge.until;
        let ceremony = Ceremony {
            account: by.account.clone(),
            challenge,
        };
        let record = Record::new(CEREMONIES, add_key(&by.account), value_of(&ceremony)?);
        let mut commit = self.commit_as(by.into());
        commit
            .records
            .push(RecordChange::Put(record.expiring(until)));
        self.store.commit(commit).await?;
        Ok(offer)
    }

    /// Adds a key. Whoever has a second factor already gives it for this, freshly.
    ///
    /// # Errors
    /// [`PasskeyFailed`]; nothing is added then, and a key that was refused is recorded.
    pub async fn passkey_add(
        &self,
        by: &Human,
        name: &str,
        sent: &CreationSent,
        step_up: Option<StepUpId>,
    ) -> Result<(), PasskeyFailed> {
        let now = self.now();
        let party = self.config.passkeys.as_ref().ok_or(PasskeyFailed::Off)?;
        let name = name.trim();
        if !NAME_CHARS.contains(&name.chars().count()) || name.chars().any(char::is_control) {
            return Err(PasskeyFailed::NameUnfit);
        }
        let (mut account, revision) = self
            .stored_account(&by.account)
            .await?
            .ok_or(PasskeyFailed::Missing)?;
        if account.passkeys.len() >= PASSKEYS_MAX {
            return Err(PasskeyFailed::TooMany);
        }
        let mut commit = self.commit_as(by.into());
        if account.second_factor() == SecondFactor::Enrolled {
            let step_up = step_up.ok_or(PasskeyFailed::StepUp)?;
            let digest = self.passkey_change_digest(by, PasskeyChange::Add);
            self.consume_step_up(by, step_up, StepUpFor::Passkeys, &digest, &mut commit)
                .await?;
        }
        let ceremony = self
            .take_ceremony(add_key(&by.account), &mut commit)
            .await?;
        let challenge = ceremony.and_then(|it| it.challenge.open(now));
        let checked = challenge
            .ok_or(PasskeyInvalid::Challenge)
            .and_then(|challenge| check_creation(sent, &challenge, party));
        let stream = StreamId::Account(by.account.clone());
        let key = match checked {
            Ok(key) => key,
            Err(invalid) => {
                // The challenge is used up; the factor that was given is not.
                let mut commit = self.commit_as(by.into());
                self.take_ceremony(add_key(&by.account), &mut commit)
                    .await?;
                let refused = PasskeyEvent::Refused {
                    credential: None,
                    code: invalid.code().to_owned(),
                };
                commit.append(stream, Expected::Any, Event::Passkey(refused));
                self.store.commit(commit).await?;
                return Err(PasskeyFailed::Invalid(invalid));
            }
        };
        if self.is_known(&key.credential).await? {
            return Err(PasskeyFailed::Known);
        }
        let credential = self.credential_digest(&key.credential);
        account.passkeys.push(StoredPasskey {
            id: key.credential,
            name: name.to_owned(),
            key: key.public_key,
            counter: key.counter,
            added: now,
            used: None,
            suspended: None,
        });
        put(&mut commit, &account, revision)?;
        let added = PasskeyEvent::Added { credential };
        commit.append(stream, Expected::Any, Event::Passkey(added));
        self.store.commit(commit).await?;
        Ok(())
    }

    /// Removes a key of one's own, with a factor that was given for removing it.
    ///
    /// # Errors
    /// [`PasskeyFailed`]; it stays then.
    pub async fn passkey_remove(
        &self,
        by: &Human,
        credential: Digest,
        step_up: StepUpId,
    ) -> Result<(), PasskeyFailed> {
        let (mut account, revision) = self
            .stored_account(&by.account)
            .await?
            .ok_or(PasskeyFailed::Missing)?;
        let before = account.passkeys.len();
        account
            .passkeys
            .retain(|key| self.credential_digest(&key.id) != credential);
        if account.passkeys.len() == before {
            return Err(PasskeyFailed::Missing);
        }
        if !account.has_app() && account.passkeys.iter().all(|key| key.suspended.is_some()) {
            return Err(PasskeyFailed::LastFactor);
        }
        let mut commit = self.commit_as(by.into());
        let digest = self.passkey_change_digest(by, PasskeyChange::Remove(credential));
        self.consume_step_up(by, step_up, StepUpFor::Passkeys, &digest, &mut commit)
            .await?;
        put(&mut commit, &account, revision)?;
        let removed = PasskeyEvent::Removed { credential };
        let stream = StreamId::Account(by.account.clone());
        commit.append(stream, Expected::Any, Event::Passkey(removed));
        self.store.commit(commit).await?;
        Ok(())
    }

    /// A ticket for a sign-in whose password was right.
    pub(super) async fn ask_passkey(
        &self,
        account: &StoredAccount,
    ) -> Result<SignInRefused, SignInRefused> {
        let challenge = self.new_challenge(&account.name, &[b"sign-in"]);
        let Some(asked) = self.passkey_asked(account, &challenge) else {
            return Err(SignInRefused::FactorUnusable);
        };
        let ticket = hex::encode(self.random.key());
        let until = challenge.until;
        let ceremony = Ceremony {
            account: account.name.clone(),
            challenge,
        };
        let mut commit = self.commit_as(Actor::Anonymous);
        commit.records.push(RecordChange::Create(
            Record::new(CEREMONIES, ticket_key(&ticket), value_of(&ceremony)?).expiring(until),
        ));
        self.store.commit(commit).await?;
        Ok(SignInRefused::PasskeyAsked(Box::new(SignInTicket {
            ticket,
            asked,
        })))
    }

    /// Signs in with a passkey, after the password.
    ///
    /// # Errors
    /// [`SignInRefused`]; the ticket is used up, and what was refused is recorded.
    pub async fn sign_in_passkey(
        &self,
        ticket: &str,
        sent: &AssertionSent,
    ) -> Result<NewSession, SignInRefused> {
        let now = self.now();
        let mut spent = self.commit_as(Actor::Anonymous);
        let ceremony = self.take_ceremony(ticket_key(ticket), &mut spent).await?;
        let Some(ceremony) = ceremony else {
            return Err(SignInRefused::TicketGone);
        };
        let attempts = self.attempts(Guessed::Password, &ceremony.account).await?;
        if let Some(until) = attempts.locked(now) {
            return Err(SignInRefused::Wait { until });
        }
        let known = self.stored_account(&ceremony.account).await?;
        let known = known.filter(|(account, _)| !account.disabled && account.password.is_some());
        let Some((mut account, revision)) = known else {
            return Err(SignInRefused::TicketGone);
        };
        let used = self.use_passkey(&mut account, sent, Some(&ceremony.challenge), now);
        let human = account.human();
        match used.outcome {
            Ok(_) => {
                let mut commit = self.commit_as((&human).into());
                commit.records.append(&mut spent.records);
                put(&mut commit, &account, revision)?;
                attempts.passed(&mut commit, now)?;
                self.open_session(human, commit).await
            }
            Err(invalid) => {
                if used.changed {
                    put(&mut spent, &account, revision)?;
                }
                attempts.failed(&mut spent, now)?;
                let stream = StreamId::Account(human.account);
                let refused = PasskeyEvent::Refused {
                    credential: used.credential,
                    code: invalid.code().to_owned(),
                };
                spent.append(stream.clone(), Expected::Any, Event::Passkey(refused));
                spent.append(stream, Expected::Any, Event::SignInFailed);
                match self.store.commit(spent).await {
                    Ok(_) => Err(SignInRefused::PasskeyRefused(invalid)),
                    Err(CommitFailed::Record { .. }) => Err(SignInRefused::Again),
                    Err(failed) => Err(failed.into()),
                }
            }
        }
    }

    /// Whether the account has a passkey that can be used here and now.
    pub(super) fn has_passkeys(&self, account: &StoredAccount) -> bool {
        self.config.passkeys.is_some() && account.passkeys.iter().any(|key| key.suspended.is_none())
    }

    /// Whether codes of an app count for this account.
    pub(super) fn takes_codes(&self, account: &StoredAccount) -> bool {
        self.config.codes_beside_passkeys || !self.has_passkeys(account)
    }

    /// A challenge for one account and one thing. It is random; what else goes in makes sure that no two purposes
    /// could ever share one.
    pub(super) fn new_challenge(&self, account: &AccountName, bound: &[&[u8]]) -> Challenge {
        let nonce = self.random.key();
        let mut parts: Vec<&[u8]> = vec![
            b"passkey-challenge",
            nonce.as_slice(),
            account.as_str().as_bytes(),
        ];
        parts.extend(bound);
        Challenge {
            value: URL_SAFE_NO_PAD.encode(self.tenant_digest(&parts).as_bytes()),
            until: after(self.now(), CHALLENGE_SECONDS),
        }
    }

    /// What a browser is asked; nothing where the account has no key that can be used.
    pub(super) fn passkey_asked(
        &self,
        account: &StoredAccount,
        challenge: &Challenge,
    ) -> Option<PasskeyAsked> {
        let party = self.config.passkeys.as_ref()?;
        let usable = account
            .passkeys
            .iter()
            .filter(|key| key.suspended.is_none());
        let allow: Vec<String> = usable.map(|key| key.id.clone()).collect();
        (!allow.is_empty()).then(|| PasskeyAsked {
            challenge: challenge.value.clone(),
            rp_id: party.id().to_owned(),
            allow,
        })
    }

    /// Checks an assertion against the keys of an account, and moves the counter or suspends the key.
    pub(super) fn use_passkey(
        &self,
        account: &mut StoredAccount,
        sent: &AssertionSent,
        challenge: Option<&Challenge>,
        now: Timestamp,
    ) -> Used {
        let refused = |credential, invalid| Used {
            outcome: Err(invalid),
            credential,
            changed: false,
        };
        let Some(party) = self.config.passkeys.as_ref() else {
            return refused(None, PasskeyInvalid::Unknown);
        };
        let found = account
            .passkeys
            .iter_mut()
            .find(|key| key.id == sent.credential);
        let Some(key) = found else {
            return refused(None, PasskeyInvalid::Unknown);
        };
        let credential = self.credential_digest(&key.id);
        if key.suspended.is_some() {
            return refused(Some(credential), PasskeyInvalid::Suspended);
        }
        let Some(challenge) = challenge.and_then(|challenge| challenge.open(now)) else {
            return refused(Some(credential), PasskeyInvalid::Challenge);
        };
        match check_assertion(sent, &key.key, &challenge, party) {
            Err(invalid) => refused(Some(credential), invalid),
            Ok(counter) if counter_goes_on(key.counter, counter) => {
                key.counter = counter;
                key.used = Some(now);
                Used {
                    outcome: Ok(credential),
                    credential: Some(credential),
                    changed: true,
                }
            }
            Ok(_) => {
                key.suspended = Some(now);
                Used {
                    outcome: Err(PasskeyInvalid::CounterBack),
                    credential: Some(credential),
                    changed: true,
                }
            }
        }
    }

    /// Reads what is being answered and puts its end into a commit.
    async fn take_ceremony(
        &self,
        key: String,
        commit: &mut Commit,
    ) -> Result<Option<Ceremony>, StoreFailed> {
        let key = RecordKey::new(CEREMONIES, key);
        let record = self
            .store
            .record(&self.config.tenant, &key, self.now())
            .await?;
        let Some(record) = record else {
            return Ok(None);
        };
        commit.records.push(RecordChange::Consume(key));
        parse(record.value).map(Some)
    }

    /// Whether any account has a key of this id.
    async fn is_known(&self, credential: &str) -> Result<bool, StoreFailed> {
        let listing = Listing {
            limit: ACCOUNTS_MAX,
            ..Listing::default()
        };
        let records = self
            .store
            .records(&self.config.tenant, ACCOUNTS, listing, self.now())
            .await?;
        for record in records {
            let account: StoredAccount = parse(record.value)?;
            if account.passkeys.iter().any(|key| key.id == credential) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How the record names a key.
    fn credential_digest(&self, id: &str) -> Digest {
        self.tenant_digest(&[b"passkey", id.as_bytes()])
    }
}

fn add_key(account: &AccountName) -> String {
    format!("add/{account}")
}

/// The key of a ticket: tickets themselves are never stored.
fn ticket_key(ticket: &str) -> String {
    format!("sign-in/{}", Digest::of_bytes(ticket.as_bytes()))
}
