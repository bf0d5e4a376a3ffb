//! How a person gets an account: first-run set-up, creation by an administrator, enrolment.
//!
//! There is no default password. A code is shown once, works once, and expires after a day; its
//! holder chooses the password and enrols the second factor.

use std::fmt;

use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{AccountName, PersonId};
use chaperone_core::ports::{
    Commit, CommitFailed, Expected, KeyVaultFailed, Listing, PayloadClass, Record, RecordChange,
    RecordKey, StoreFailed,
};
use chaperone_core::principal::{Actor, Human, Role, SystemPart};
use subtle::ConstantTimeEq;

use super::attempts::Guessed;
use super::{
    ACCOUNTS, PasswordHash, SESSIONS, SETUP, SETUP_KEY, SecondFactor, StoredAccount, StoredCode,
    StoredTotp, parse, totp, value_of,
};
use crate::context::{Engine, after};
use crate::vault::VaultFailed;

/// How long a set-up or enrolment code works, in seconds.
///
/// # Source
/// OWASP ASVS 4.0.3, 2.3.1: initial codes are random, at least six characters, and expire.
const CODE_SECONDS: i64 = 24 * 3_600;
/// Characters of a code, without separators: 80 bits.
const CODE_CHARS: usize = 16;
/// Letters and digits that are hard to confuse (Crockford's base 32).
const CODE_ALPHABET: [char; 32] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'J',
    'K', 'M', 'N', 'P', 'Q', 'R', 'S', 'T', 'V', 'W', 'X', 'Y', 'Z',
];

/// A one-time code, to be shown once to the person who hands it over.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrolmentCode(String);

impl EnrolmentCode {
    fn from_random(bytes: [u8; CODE_CHARS]) -> Self {
        // 256 is a multiple of 32, so that each character is equally likely.
        let letters = bytes.iter().map(|byte| {
            CODE_ALPHABET
                .get(usize::from(byte % 32))
                .copied()
                .unwrap_or('0')
        });
        Self(letters.collect())
    }

    /// Reads what somebody typed: case, spaces, dashes and look-alikes do not matter.
    pub fn typed(text: &str) -> Self {
        let kept = text.chars().take(64).filter(char::is_ascii_alphanumeric);
        Self(
            kept.map(|c| match c.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                other => other,
            })
            .collect(),
        )
    }

    /// The code in groups of four.
    pub fn expose(&self) -> String {
        let chars: Vec<char> = self.0.chars().collect();
        chars
            .chunks(4)
            .map(|group| group.iter().collect::<String>())
            .collect::<Vec<_>>()
            .join("-")
    }
}

impl fmt::Debug for EnrolmentCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnrolmentCode(…)")
    }
}

/// An account to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAccount {
    /// Its name.
    pub name: AccountName,
    /// The person behind it; a new person when absent. Two accounts of one person count as one
    /// wherever two people are demanded.
    pub person: Option<PersonId>,
    /// Roles.
    pub roles: Vec<Role>,
}

/// Why the first account was not made.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapFailed {
    /// Wrong, used or expired, or there is an account already: one answer for all.
    #[error(
        "the set-up code is not valid; restart Chaperone to get a new one if there is no account yet"
    )]
    CodeRefused,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// It could not be recorded.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
}

/// Why an account was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateAccountFailed {
    /// Only administrators make accounts.
    #[error("your roles do not allow managing accounts")]
    NotPermitted,
    /// The name is taken.
    #[error("there is an account of this name already")]
    Exists,
    /// There is no such account.
    #[error("there is no such account")]
    Missing,
    /// An account without a role can do nothing.
    #[error("an account needs at least one role")]
    NoRole,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// It could not be recorded.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
}

/// Why a password was not set with a code.
#[derive(Debug, thiserror::Error)]
pub enum EnrolFailed {
    /// Wrong account, wrong code, used or expired: one answer for all.
    #[error("the account or the enrolment code is not valid; ask an administrator for a new code")]
    CodeRefused,
    /// Too many wrong codes.
    #[error("too many attempts; try again later")]
    Wait {
        /// When.
        until: Timestamp,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// It could not be recorded.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
}

/// Why a second factor was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum SecondFactorFailed {
    /// There is no such account.
    #[error("there is no such account")]
    Missing,
    /// One is enrolled; an administrator can issue a new enrolment code.
    #[error("a second factor is enrolled already")]
    Enrolled,
    /// The code does not match the secret shown.
    #[error("this is not the code your app shows now; check the clock of your device")]
    CodeRefused,
    /// Too many wrong codes.
    #[error("too many attempts; try again later")]
    Wait {
        /// When.
        until: Timestamp,
    },
    /// The secret cannot be sealed or opened.
    #[error(transparent)]
    Vault(#[from] VaultFailed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// It could not be recorded.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
}

impl From<KeyVaultFailed> for SecondFactorFailed {
    fn from(failed: KeyVaultFailed) -> Self {
        SecondFactorFailed::Vault(failed.into())
    }
}

/// What a person needs to set up their authenticator app.
#[derive(Clone, PartialEq, Eq)]
pub struct TotpEnrolment {
    /// The secret in base 32, for typing.
    pub secret: String,
    /// The same as an address, for apps that read it.
    pub uri: String,
}

impl fmt::Debug for TotpEnrolment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpEnrolment(…)")
    }
}

impl Engine {
    /// A salt for [`PasswordHash::make`].
    pub fn password_salt(&self) -> [u8; 16] {
        self.random.id()
    }

    /// A new set-up code while there is no account; an earlier one stops working.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn bootstrap_code(&self) -> Result<Option<EnrolmentCode>, BootstrapFailed> {
        if self.has_accounts().await? {
            return Ok(None);
        }
        let (code, stored) = self.new_code();
        let mut commit = self.commit_as(Actor::System {
            part: SystemPart::Setup,
        });
        commit.records.push(RecordChange::Put(
            Record::new(SETUP, SETUP_KEY, value_of(&stored)?).expiring(stored.until),
        ));
        self.store.commit(commit).await?;
        Ok(Some(code))
    }

    /// Whether set-up is still to be done.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn needs_setup(&self) -> Result<bool, StoreFailed> {
        Ok(!self.has_accounts().await?)
    }

    /// Makes the first account. It is an administrator's, whatever other roles it has.
    ///
    /// # Errors
    /// [`BootstrapFailed`]; the code stays valid then.
    pub async fn bootstrap(
        &self,
        code: &EnrolmentCode,
        account: NewAccount,
        password: PasswordHash,
    ) -> Result<Human, BootstrapFailed> {
        let key = RecordKey::new(SETUP, SETUP_KEY);
        let record = self
            .store
            .record(&self.config.tenant, &key, self.now())
            .await?
            .ok_or(BootstrapFailed::CodeRefused)?;
        let stored: StoredCode = parse(record.value)?;
        if !self.code_matches(code, &stored) || self.has_accounts().await? {
            return Err(BootstrapFailed::CodeRefused);
        }
        let mut roles = account.roles.clone();
        roles.push(Role::ItAdmin);
        let stored = StoredAccount {
            password: Some(password),
            ..self.fresh_account(NewAccount { roles, ..account })
        };
        let mut commit = self.commit_as(Actor::System {
            part: SystemPart::Setup,
        });
        // Of two set-ups at once, the code lets one through.
        commit.records.push(RecordChange::Consume(key));
        create(&mut commit, &stored)?;
        match self.store.commit(commit).await {
            Ok(_) => Ok(stored.human()),
            Err(CommitFailed::Record { .. }) => Err(BootstrapFailed::CodeRefused),
            Err(failed) => Err(failed.into()),
        }
    }

    /// Makes an account and the code with which its holder sets password and second factor.
    ///
    /// # Errors
    /// [`CreateAccountFailed`]; nothing is made then.
    pub async fn create_account(
        &self,
        by: &Human,
        account: NewAccount,
    ) -> Result<EnrolmentCode, CreateAccountFailed> {
        if !by.holds(Role::ItAdmin) {
            return Err(CreateAccountFailed::NotPermitted);
        }
        if account.roles.is_empty() {
            return Err(CreateAccountFailed::NoRole);
        }
        let (code, enrolment) = self.new_code();
        let stored = StoredAccount {
            enrolment: Some(enrolment),
            ..self.fresh_account(account)
        };
        let mut commit = self.commit_as(by.into());
        create(&mut commit, &stored)?;
        match self.store.commit(commit).await {
            Ok(_) => Ok(code),
            Err(CommitFailed::Record { .. }) => Err(CreateAccountFailed::Exists),
            Err(failed) => Err(failed.into()),
        }
    }

    /// Takes password, second factor and sessions from an account and issues a new enrolment code:
    /// for a lost phone or a forgotten password.
    ///
    /// # Errors
    /// [`CreateAccountFailed`]; nothing changes then.
    pub async fn reissue_enrolment(
        &self,
        by: &Human,
        name: &AccountName,
    ) -> Result<EnrolmentCode, CreateAccountFailed> {
        if !by.holds(Role::ItAdmin) {
            return Err(CreateAccountFailed::NotPermitted);
        }
        let (mut account, revision) = self
            .stored_account(name)
            .await?
            .ok_or(CreateAccountFailed::Missing)?;
        let (code, enrolment) = self.new_code();
        account.password = None;
        account.totp = None;
        account.passkeys = Vec::new();
        account.enrolment = Some(enrolment);
        let mut commit = self.commit_as(by.into());
        put(&mut commit, &account, revision)?;
        self.end_sessions(&mut commit, name).await?;
        let event = Event::AccountCreated {
            account: account.name.clone(),
            person: account.person,
            roles: account.roles.clone(),
        };
        commit.append(StreamId::Account(name.clone()), Expected::Any, event);
        self.store.commit(commit).await?;
        Ok(code)
    }

    /// Sets the password with an enrolment code, which is spent; ends all sessions of the account.
    ///
    /// # Errors
    /// [`EnrolFailed`]; a wrong code counts as a failed attempt.
    pub async fn enrol(
        &self,
        account: &str,
        code: &EnrolmentCode,
        password: PasswordHash,
    ) -> Result<Human, EnrolFailed> {
        let now = self.now();
        let name = AccountName::new(account).map_err(|_| EnrolFailed::CodeRefused)?;
        let attempts = self.attempts(Guessed::Password, &name).await?;
        if let Some(until) = attempts.locked(now) {
            return Err(EnrolFailed::Wait { until });
        }
        let known = self.stored_account(&name).await?.filter(|(account, _)| {
            let code_fits = account
                .enrolment
                .as_ref()
                .is_some_and(|stored| now < stored.until && self.code_matches(code, stored));
            code_fits && !account.disabled
        });
        let Some((mut account, revision)) = known else {
            let mut commit = self.commit_as(Actor::Anonymous);
            attempts.failed(&mut commit, now)?;
            commit.append(StreamId::Refusals, Expected::Any, Event::SignInFailed);
            return match self.store.commit(commit).await {
                Ok(_) | Err(CommitFailed::Record { .. }) => Err(EnrolFailed::CodeRefused),
                Err(failed) => Err(failed.into()),
            };
        };
        account.enrolment = None;
        account.password = Some(password);
        let human = account.human();
        let mut commit = self.commit_as((&human).into());
        put(&mut commit, &account, revision)?;
        attempts.passed(&mut commit, now)?;
        self.end_sessions(&mut commit, &name).await?;
        match self.store.commit(commit).await {
            Ok(_) => Ok(human),
            Err(CommitFailed::Record { .. }) => Err(EnrolFailed::CodeRefused),
            Err(failed) => Err(failed.into()),
        }
    }

    /// What the person needs to set up their app. The same until it is confirmed, so that reloading
    /// the page does not spoil what was scanned.
    ///
    /// # Errors
    /// [`SecondFactorFailed::Enrolled`] once it is confirmed.
    pub async fn second_factor_begin(
        &self,
        by: &Human,
    ) -> Result<TotpEnrolment, SecondFactorFailed> {
        let (mut account, revision) = self
            .stored_account(&by.account)
            .await?
            .ok_or(SecondFactorFailed::Missing)?;
        let secret = match &account.totp {
            // Whoever holds only a session must not give themselves a factor beside the one there is.
            _ if account.second_factor() == SecondFactor::Enrolled => {
                return Err(SecondFactorFailed::Enrolled);
            }
            Some(totp) => self.totp_secret(totp).await?,
            None => {
                let mut secret = [0; totp::SECRET_BYTES];
                self.random.fill(&mut secret);
                let sealed = self.seal(PayloadClass::Operational, None, &secret).await?;
                account.totp = Some(StoredTotp {
                    secret: sealed.address,
                    enrolled: false,
                    last_step: 0,
                });
                let mut commit = self.commit_as(by.into());
                commit.payloads.push(sealed);
                put(&mut commit, &account, revision)?;
                self.store.commit(commit).await?;
                secret
            }
        };
        Ok(TotpEnrolment {
            secret: totp::base32(secret),
            uri: totp::otpauth_uri(secret, &by.account),
        })
    }

    /// Confirms the app by one code. Recorded as a second factor given for the enrolment itself.
    ///
    /// # Errors
    /// [`SecondFactorFailed`]; a wrong code counts as a failed attempt.
    pub async fn second_factor_confirm(
        &self,
        by: &Human,
        code: &str,
    ) -> Result<(), SecondFactorFailed> {
        let now = self.now();
        let attempts = self.attempts(Guessed::Code, &by.account).await?;
        if let Some(until) = attempts.locked(now) {
            return Err(SecondFactorFailed::Wait { until });
        }
        let (mut account, revision) = self
            .stored_account(&by.account)
            .await?
            .ok_or(SecondFactorFailed::Missing)?;
        if account.second_factor() == SecondFactor::Enrolled {
            return Err(SecondFactorFailed::Enrolled);
        }
        let stored = account.totp.as_mut().ok_or(SecondFactorFailed::Missing)?;
        let secret = self.totp_secret(stored).await?;
        let stream = StreamId::Account(by.account.clone());
        let mut commit = self.commit_as(by.into());
        let accepted = totp::accept(secret, code, now, stored.last_step);
        match accepted {
            Some(step) => {
                stored.enrolled = true;
                stored.last_step = step;
                put(&mut commit, &account, revision)?;
                attempts.passed(&mut commit, now)?;
                let digest = self.tenant_digest(&[b"second-factor-enrolment"]);
                commit.append(stream, Expected::Any, Event::StepUpPassed { digest });
            }
            None => {
                attempts.failed(&mut commit, now)?;
                commit.append(stream, Expected::Any, Event::StepUpFailed);
            }
        }
        self.store.commit(commit).await?;
        if accepted.is_some() {
            Ok(())
        } else {
            Err(SecondFactorFailed::CodeRefused)
        }
    }

    /// Opens the secret of an account.
    pub(super) async fn totp_secret(
        &self,
        stored: &StoredTotp,
    ) -> Result<[u8; totp::SECRET_BYTES], VaultFailed> {
        let bytes = self.unseal(&stored.secret).await?;
        bytes.try_into().map_err(|_| VaultFailed::Sealed)
    }

    /// Ends every session of an account in a commit.
    pub(super) async fn end_sessions(
        &self,
        commit: &mut Commit,
        name: &AccountName,
    ) -> Result<(), StoreFailed> {
        let listing = Listing {
            index: Some(name.to_string()),
            limit: 1_000,
            ..Listing::default()
        };
        let open = self
            .store
            .records(&self.config.tenant, SESSIONS, listing, self.now())
            .await?;
        commit.records.extend(
            open.into_iter()
                .map(|session| RecordChange::Delete(session.key)),
        );
        Ok(())
    }

    async fn has_accounts(&self) -> Result<bool, StoreFailed> {
        let listing = Listing {
            limit: 1,
            ..Listing::default()
        };
        let some = self
            .store
            .records(&self.config.tenant, ACCOUNTS, listing, self.now())
            .await?;
        Ok(!some.is_empty())
    }

    fn fresh_account(&self, new: NewAccount) -> StoredAccount {
        let mut roles = new.roles;
        roles.sort();
        roles.dedup();
        StoredAccount {
            name: new.name,
            person: new
                .person
                .unwrap_or_else(|| PersonId::from_random(self.random.id())),
            roles,
            password: None,
            totp: None,
            passkeys: Vec::new(),
            enrolment: None,
            disabled: false,
            created: self.now(),
        }
    }

    fn new_code(&self) -> (EnrolmentCode, StoredCode) {
        let code = EnrolmentCode::from_random(self.random.id());
        let stored = StoredCode {
            hash: self.code_hash(&code),
            until: after(self.now(), CODE_SECONDS),
        };
        (code, stored)
    }

    fn code_hash(&self, code: &EnrolmentCode) -> Digest {
        self.tenant_digest(&[b"one-time-code", code.0.as_bytes()])
    }

    fn code_matches(&self, code: &EnrolmentCode, stored: &StoredCode) -> bool {
        self.code_hash(code)
            .as_bytes()
            .ct_eq(stored.hash.as_bytes())
            .into()
    }
}

/// Puts a changed account into a commit, guarded by its revision.
pub(super) fn put(
    commit: &mut Commit,
    account: &StoredAccount,
    revision: u64,
) -> Result<(), StoreFailed> {
    let record = Record::new(ACCOUNTS, &account.name, value_of(account)?);
    commit.records.push(RecordChange::Update(record, revision));
    Ok(())
}

fn create(commit: &mut Commit, account: &StoredAccount) -> Result<(), StoreFailed> {
    commit.records.push(RecordChange::Create(Record::new(
        ACCOUNTS,
        &account.name,
        value_of(account)?,
    )));
    commit.append(
        StreamId::Account(account.name.clone()),
        Expected::Any,
        Event::AccountCreated {
            account: account.name.clone(),
            person: account.person,
            roles: account.roles.clone(),
        },
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_being_read_out_and_typed() {
        let code = EnrolmentCode::from_random(std::array::from_fn(|i| i as u8 * 2));
        let shown = code.expose();
        assert_eq!(shown.len(), 19);
        assert_eq!(EnrolmentCode::typed(&shown.to_lowercase()), code);
        assert_eq!(EnrolmentCode::typed(&shown.replace('-', " ")), code);
        assert_eq!(EnrolmentCode::typed("oIl"), EnrolmentCode::typed("011"));
        assert_ne!(EnrolmentCode::typed(&shown[1..]), code);
        assert!(!format!("{code:?}").contains(&shown));
    }
}
