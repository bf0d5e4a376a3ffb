//! Signing in and out, and who is behind a session token.
//!
//! A sign-in has three steps, so that the slow one can run where blocking is allowed:
//! [`Engine::sign_in_begin`] reads what is to be compared, [`SignInAttempt::check`] compares, and
//! [`Engine::sign_in_finish`] records the outcome. Only a check makes a [`SignInChecked`].

use std::fmt;

use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::AccountName;
use chaperone_core::ports::{
    Commit, CommitFailed, Expected, Record, RecordChange, RecordKey, StoreFailed,
};
use chaperone_core::principal::{Actor, Human, Role};
use serde::{Deserialize, Serialize};

use super::accounts::put;
use super::attempts::{Attempts, Guessed};
use super::passkeys::SignInTicket;
use super::webauthn::PasskeyInvalid;
use super::{Password, PasswordHash, SESSIONS, StoredAccount, parse, totp, value_of};
use crate::context::{Engine, after};
use crate::vault::VaultFailed;

/// Longest life of a session however busy, in seconds.
pub const SESSION_SECONDS_MAX: i64 = 12 * 3_600;
/// A session's end is moved at most this often, in seconds.
const TOUCH_S: i64 = 30;

/// Whether a person has enrolled a second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecondFactor {
    /// Yes.
    Enrolled,
    /// Not yet; until then only enrolling is possible.
    Missing,
}

/// Why a sign-in did not happen.
#[derive(Debug, thiserror::Error)]
pub enum SignInRefused {
    /// Wrong in any part: unknown account, wrong password, missing or wrong code. One answer for all.
    #[error("account, password or code do not match")]
    NotMatching,
    /// The password is right, and the account's second factor is a passkey: what to ask it.
    #[error("the password is right; the passkey is still to be given")]
    PasskeyAsked(Box<SignInTicket>),
    /// What the passkey gave does not count.
    #[error("the passkey was not accepted: {0}")]
    PasskeyRefused(PasskeyInvalid),
    /// The ticket is unknown, used or too old.
    #[error("this sign-in is over; start again with the password")]
    TicketGone,
    /// A second factor is needed and none of the account can be used.
    #[error(
        "none of this account's second factors can be used; ask an administrator to renew the account"
    )]
    FactorUnusable,
    /// Too many failures.
    #[error("too many attempts; try again later")]
    Wait {
        /// When.
        until: Timestamp,
    },
    /// Several attempts at once; this one was not judged.
    #[error("another attempt was under way; try again")]
    Again,
    /// The second factor's secret cannot be opened.
    #[error(transparent)]
    Vault(#[from] VaultFailed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// It could not be recorded.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
}

/// A sign-in whose password is still to be checked.
pub struct SignInAttempt {
    name: Option<AccountName>,
    known: Option<(StoredAccount, u64)>,
    hash: PasswordHash,
    attempts: Option<Attempts>,
}

/// A sign-in whose password was checked.
pub struct SignInChecked {
    attempt: SignInAttempt,
    matches: bool,
}

impl SignInAttempt {
    /// Compares the password. Takes tens of milliseconds, also when there is no such account.
    pub fn check(self, password: &Password) -> SignInChecked {
        let matches = self.hash.verify(password);
        SignInChecked {
            attempt: self,
            matches,
        }
    }
}

impl fmt::Debug for SignInAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignInAttempt(…)")
    }
}

impl fmt::Debug for SignInChecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignInChecked(…)")
    }
}

/// A new session: the token goes into the cookie and nowhere else.
#[derive(Clone, PartialEq, Eq)]
pub struct NewSession {
    /// 64 hex digits.
    pub token: String,
    /// Who signed in.
    pub human: Human,
}

impl fmt::Debug for NewSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewSession({})", self.human.account)
    }
}

/// Who is behind a session.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// The person, with the roles in force now.
    pub human: Human,
    /// Whether they may do more than enrol.
    pub second_factor: SecondFactor,
    /// What every form of this session must carry.
    pub csrf: String,
    /// When the session ends if nothing happens.
    pub until: Timestamp,
}

impl fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedIn({})", self.human.account)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredSession {
    account: AccountName,
    began: Timestamp,
}

/// Whether looking at a session keeps it alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// A person did something.
    Yes,
    /// A page refreshed itself.
    No,
}

impl Engine {
    /// Reads what a sign-in compares with.
    ///
    /// # Errors
    /// [`SignInRefused::Wait`] after too many failures; store failures.
    pub async fn sign_in_begin(&self, account: &str) -> Result<SignInAttempt, SignInRefused> {
        let Ok(name) = AccountName::new(account) else {
            let hash = PasswordHash::nobodys();
            return Ok(SignInAttempt {
                name: None,
                known: None,
                hash,
                attempts: None,
            });
        };
        let attempts = self.attempts(Guessed::Password, &name).await?;
        if let Some(until) = attempts.locked(self.now()) {
            return Err(SignInRefused::Wait { until });
        }
        let known = self
            .stored_account(&name)
            .await?
            .filter(|(account, _)| !account.disabled);
        let hash = known
            .as_ref()
            .and_then(|(account, _)| account.password.clone())
            .unwrap_or_else(PasswordHash::nobodys);
        Ok(SignInAttempt {
            name: Some(name),
            known,
            hash,
            attempts: Some(attempts),
        })
    }

    /// Records the outcome and opens a session when everything matches. Administrators whose second
    /// factor is enrolled give it as well: a code here, or, where none is given and the account has a passkey,
    /// by [`Engine::sign_in_passkey`] with the ticket that the refusal holds.
    ///
    /// # Errors
    /// [`SignInRefused`], with one answer for everything that does not match.
    ///
    /// # Source
    /// OWASP ASVS 4.0.3, 4.3.1: administrative interfaces use multi-factor authentication.
    pub async fn sign_in_finish(
        &self,
        checked: SignInChecked,
        code: Option<&str>,
    ) -> Result<NewSession, SignInRefused> {
        let now = self.now();
        let SignInChecked { attempt, matches } = checked;
        let Some((account, revision)) = attempt.known.as_ref().filter(|_| matches) else {
            return Err(self.sign_in_failed(&attempt).await?);
        };
        let mut account = account.clone();
        let demanded = account.human().holds(Role::ItAdmin)
            && account.second_factor() == SecondFactor::Enrolled;
        let with_passkey = self.has_passkeys(&account);
        let with_code =
            account.has_app() && self.takes_codes(&account) && (code.is_some() || !with_passkey);
        if demanded && !with_code {
            if with_passkey {
                return Err(self.ask_passkey(&account).await?);
            }
            return Err(SignInRefused::FactorUnusable);
        }
        let mut step = None;
        if demanded && let Some(stored) = account.totp.as_mut() {
            let secret = self.totp_secret(stored).await?;
            step = totp::accept(secret, code.unwrap_or_default(), now, stored.last_step);
            let Some(step) = step else {
                return Err(self.sign_in_failed(&attempt).await?);
            };
            stored.last_step = step;
        }
        let human = account.human();
        let mut commit = self.commit_as((&human).into());
        if step.is_some() {
            put(&mut commit, &account, *revision)?;
        }
        if let Some(attempts) = &attempt.attempts {
            attempts.passed(&mut commit, now)?;
        }
        self.open_session(human, commit).await
    }

    /// Opens a session in a commit that holds everything the sign-in changes.
    pub(crate) async fn open_session(
        &self,
        human: Human,
        mut commit: Commit,
    ) -> Result<NewSession, SignInRefused> {
        let now = self.now();
        let token = hex::encode(self.random.key());
        let session = StoredSession {
            account: human.account.clone(),
            began: now,
        };
        commit.records.push(RecordChange::Create(
            self.session_record(&token, &session, now)?,
        ));
        commit.append(
            StreamId::Account(human.account.clone()),
            Expected::Any,
            Event::SignedIn,
        );
        match self.store.commit(commit).await {
            Ok(_) => Ok(NewSession { token, human }),
            Err(CommitFailed::Record { .. }) => Err(SignInRefused::Again),
            Err(failed) => Err(failed.into()),
        }
    }

    /// Opens a session for somebody who just set their password with a one-time code.
    ///
    /// # Errors
    /// When the session cannot be recorded.
    pub async fn sign_in_enrolled(&self, human: &Human) -> Result<NewSession, SignInRefused> {
        let now = self.now();
        let token = hex::encode(self.random.key());
        let session = StoredSession {
            account: human.account.clone(),
            began: now,
        };
        let mut commit = self.commit_as(human.into());
        commit.records.push(RecordChange::Create(
            self.session_record(&token, &session, now)?,
        ));
        commit.append(
            StreamId::Account(human.account.clone()),
            Expected::Any,
            Event::SignedIn,
        );
        self.store.commit(commit).await?;
        Ok(NewSession {
            token,
            human: human.clone(),
        })
    }

    /// Who is behind a token; nobody when it is unknown, idle for too long, too old, or its account
    /// is disabled.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn session(
        &self,
        token: &str,
        touch: Touch,
    ) -> Result<Option<SignedIn>, StoreFailed> {
        let now = self.now();
        let key = RecordKey::new(SESSIONS, session_key(token));
        let Some(record) = self.store.record(&self.config.tenant, &key, now).await? else {
            return Ok(None);
        };
        let revision = record.revision;
        let until = record.expires.unwrap_or(now);
        let session: StoredSession = parse(record.value)?;
        let Some((account, _)) = self.stored_account(&session.account).await? else {
            return Ok(None);
        };
        if account.disabled || now >= after(session.began, SESSION_SECONDS_MAX) {
            return Ok(None);
        }
        let renewed = self.session_record(token, &session, now)?;
        let gained = renewed
            .expires
            .map_or(0, |later| later.as_second() - until.as_second());
        let mut ends = until;
        if touch == Touch::Yes && gained >= TOUCH_S {
            ends = renewed.expires.unwrap_or(until);
            let mut commit = self.commit_as(Actor::from(&account.human()));
            commit.records.push(RecordChange::Update(renewed, revision));
            match self.store.commit(commit).await {
                // Two requests at once: the other one moved the end.
                Ok(_) | Err(CommitFailed::Record { .. }) => {}
                Err(failed) => return Err(StoreFailed::Unavailable(Box::new(failed))),
            }
        }
        Ok(Some(SignedIn {
            second_factor: account.second_factor(),
            human: account.human(),
            csrf: self.csrf_token(token),
            until: ends,
        }))
    }

    /// Ends a session. An unknown token is no error.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn sign_out(&self, token: &str) -> Result<(), SignInRefused> {
        let Some(signed_in) = self.session(token, Touch::No).await? else {
            return Ok(());
        };
        let mut commit = self.commit_as((&signed_in.human).into());
        commit.records.push(RecordChange::Delete(RecordKey::new(
            SESSIONS,
            session_key(token),
        )));
        let stream = StreamId::Account(signed_in.human.account.clone());
        commit.append(stream, Expected::Any, Event::SignedOut);
        self.store.commit(commit).await?;
        Ok(())
    }

    /// Records a failure; what is returned is the answer.
    async fn sign_in_failed(&self, attempt: &SignInAttempt) -> Result<SignInRefused, StoreFailed> {
        let now = self.now();
        let mut commit = self.commit_as(Actor::Anonymous);
        if let Some(attempts) = &attempt.attempts {
            attempts.failed(&mut commit, now)?;
        }
        // Names that nobody has get no stream of their own: strangers must not grow the ledger's names.
        let stream = match (&attempt.name, &attempt.known) {
            (Some(name), Some(_)) => StreamId::Account(name.clone()),
            _ => StreamId::Refusals,
        };
        commit.append(stream, Expected::Any, Event::SignInFailed);
        Ok(match self.store.commit(commit).await {
            Ok(_) => SignInRefused::NotMatching,
            Err(CommitFailed::Record { .. }) => SignInRefused::Again,
            Err(failed) => failed.into(),
        })
    }

    fn session_record(
        &self,
        token: &str,
        session: &StoredSession,
        now: Timestamp,
    ) -> Result<Record, StoreFailed> {
        let ends =
            after(now, self.config.session_idle_s).min(after(session.began, SESSION_SECONDS_MAX));
        Ok(
            Record::new(SESSIONS, session_key(token), value_of(session)?)
                .indexed(session.account.to_string(), "")
                .expiring(ends),
        )
    }

    /// The synchroniser token of a session: derived, so that it needs no storage, and useless for
    /// finding the session token.
    fn csrf_token(&self, token: &str) -> String {
        self.tenant_digest(&[b"form-token", token.as_bytes()])
            .to_string()
    }
}

/// Whether two tokens are the same, in a time that does not tell how much of them is.
pub fn same_token(given: &str, expected: &str) -> bool {
    use subtle::ConstantTimeEq;
    given.as_bytes().ct_eq(expected.as_bytes()).into()
}

/// The key of a session: tokens themselves are never stored.
fn session_key(token: &str) -> String {
    Digest::of_bytes(token.as_bytes()).to_string()
}
