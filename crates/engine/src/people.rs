//! People: accounts, passwords, sessions and second factors.
//!
//! Local accounts for evaluation; a sign-in service of the organisation takes their place later.
//! Nothing here decides what a person may approve: it says who somebody is, and how surely.
//!
//! Accounts, sessions, attempts and step-ups are authoritative records, not projections. Secrets rest
//! as hashes (passwords, codes, session tokens) or sealed in the vault (TOTP secrets).
//!
//! Reading order: [`password`], [`totp`] and [`webauthn`] (pure), [`attempts`] (what bounds guessing), then
//! [`accounts`] (how a person gets an account), [`passkeys`] (how they add and remove keys), [`sessions`] (how they
//! sign in and out) and [`step_up`] (how they give a second factor for one digest).

pub mod accounts;
mod attempts;
pub mod passkeys;
pub mod password;
pub mod sessions;
pub mod step_up;
pub mod totp;
pub mod webauthn;

use chaperone_core::Timestamp;
use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::ids::{AccountName, PersonId};
use chaperone_core::ports::{Listing, RecordKey, StoreFailed};
use chaperone_core::principal::{Human, Role};
use serde::{Deserialize, Serialize};

use crate::context::Engine;

pub use accounts::{
    BootstrapFailed, CreateAccountFailed, EnrolFailed, EnrolmentCode, NewAccount,
    SecondFactorFailed, TotpEnrolment,
};
pub use passkeys::{
    PasskeyAsked, PasskeyFailed, PasskeyOffer, PasskeyView, SecondFactors, SignInTicket,
};
pub use password::{Password, PasswordHash, PasswordUnfit};
pub use sessions::{
    NewSession, SecondFactor, SignInAttempt, SignInChecked, SignInRefused, SignedIn,
};
pub use step_up::{StepUpBy, StepUpFor, StepUpRefused, StepUpState};
pub use webauthn::{AssertionSent, CreationSent, PasskeyInvalid, RelyingParty};

pub(crate) const ACCOUNTS: &str = "account";
pub(crate) const SESSIONS: &str = "session";
pub(crate) const STEP_UPS: &str = "step_up";
const SETUP: &str = "setup";
const SETUP_KEY: &str = "bootstrap";
/// Most accounts listed.
const ACCOUNTS_MAX: u32 = 1_000;

/// An account as it rests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredAccount {
    pub(crate) name: AccountName,
    pub(crate) person: PersonId,
    pub(crate) roles: Vec<Role>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) password: Option<PasswordHash>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) totp: Option<StoredTotp>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) passkeys: Vec<StoredPasskey>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) enrolment: Option<StoredCode>,
    #[serde(default)]
    pub(crate) disabled: bool,
    pub(crate) created: Timestamp,
}

/// A TOTP secret as it rests: in the vault, with what stops its reuse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredTotp {
    pub(crate) secret: PayloadAddress,
    pub(crate) enrolled: bool,
    /// The last time step whose code was accepted; 0 for none.
    pub(crate) last_step: u64,
}

/// A passkey as it rests; nothing of it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredPasskey {
    /// The credential id, in base 64 for addresses.
    pub(crate) id: String,
    /// What its holder calls it.
    pub(crate) name: String,
    /// The public key, as the authenticator wrote it, in base 64 for addresses.
    pub(crate) key: String,
    /// Where its counter stood last.
    pub(crate) counter: u32,
    pub(crate) added: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) used: Option<Timestamp>,
    /// Since when it is out of use, because its counter went back.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) suspended: Option<Timestamp>,
}

/// A one-time code as it rests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredCode {
    pub(crate) hash: Digest,
    pub(crate) until: Timestamp,
}

impl StoredAccount {
    pub(crate) fn human(&self) -> Human {
        Human {
            account: self.name.clone(),
            person: self.person,
            roles: self.roles.clone(),
        }
    }

    pub(crate) fn second_factor(&self) -> SecondFactor {
        if self.has_app() || !self.passkeys.is_empty() {
            SecondFactor::Enrolled
        } else {
            SecondFactor::Missing
        }
    }

    /// Whether an authenticator app is set up.
    pub(crate) fn has_app(&self) -> bool {
        self.totp.as_ref().is_some_and(|totp| totp.enrolled)
    }
}

/// An account as the people page lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountView {
    /// Its name.
    pub name: AccountName,
    /// The person behind it.
    pub person: PersonId,
    /// Roles in force.
    pub roles: Vec<Role>,
    /// Whether a second factor is enrolled.
    pub second_factor: SecondFactor,
    /// Whether its holder has set a password.
    pub active: bool,
    /// When it was made.
    pub created: Timestamp,
}

impl Engine {
    /// An account with the revision of its record.
    pub(crate) async fn stored_account(
        &self,
        name: &AccountName,
    ) -> Result<Option<(StoredAccount, u64)>, StoreFailed> {
        let key = RecordKey::new(ACCOUNTS, name);
        let record = self
            .store
            .record(&self.config.tenant, &key, self.now())
            .await?;
        record
            .map(|r| Ok((parse(r.value)?, r.revision)))
            .transpose()
    }

    /// All accounts as they rest, at most a thousand.
    pub(crate) async fn stored_accounts(&self) -> Result<Vec<StoredAccount>, StoreFailed> {
        let listing = Listing {
            limit: ACCOUNTS_MAX,
            ..Listing::default()
        };
        let records = self
            .store
            .records(&self.config.tenant, ACCOUNTS, listing, self.now())
            .await?;
        records
            .into_iter()
            .map(|record| parse(record.value))
            .collect()
    }

    /// All accounts by name, at most a thousand.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn accounts(&self) -> Result<Vec<AccountView>, StoreFailed> {
        let listing = Listing {
            limit: ACCOUNTS_MAX,
            ..Listing::default()
        };
        let records = self
            .store
            .records(&self.config.tenant, ACCOUNTS, listing, self.now())
            .await?;
        records
            .into_iter()
            .map(|record| {
                let account: StoredAccount = parse(record.value)?;
                Ok(AccountView {
                    second_factor: account.second_factor(),
                    active: account.password.is_some() && !account.disabled,
                    name: account.name,
                    person: account.person,
                    roles: account.roles,
                    created: account.created,
                })
            })
            .collect()
    }
}

pub(crate) fn parse<T: serde::de::DeserializeOwned>(
    value: serde_json::Value,
) -> Result<T, StoreFailed> {
    serde_json::from_value(value)
        .map_err(|e| StoreFailed::Corrupt(format!("a record of people cannot be read: {e}")))
}

pub(crate) fn value_of(record: &impl Serialize) -> Result<serde_json::Value, StoreFailed> {
    serde_json::to_value(record)
        .map_err(|e| StoreFailed::Corrupt(format!("a record of people cannot be written: {e}")))
}
