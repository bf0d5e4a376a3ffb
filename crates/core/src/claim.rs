//! Claims: who of several people decides about a write-back, for a while. A claim moves nothing; it keeps two
//! people from reading the same thing, and ends by itself.
//!
//! Not here: how long one holds and who may take it over (`engine::claim`).

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::digest::PayloadAddress;
use crate::ids::{AccountName, PersonId};
use crate::principal::Role;

/// Who has it in hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "holder", rename_all = "snake_case")]
pub enum ClaimHolder {
    /// One person.
    Person {
        /// The person; two accounts of one person are one holder.
        person: PersonId,
        /// The account it is shown under.
        account: AccountName,
    },
    /// Everybody of one role.
    Pool {
        /// The role.
        role: Role,
    },
}

/// What happened to a claim; the actor of the event is whoever did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum ClaimEvent {
    /// Somebody took it in hand.
    Claimed {
        /// Until when it holds by itself.
        until: Timestamp,
    },
    /// They let it go.
    Released,
    /// Somebody took it from whoever had it.
    TakenOver {
        /// Who had it.
        from: ClaimHolder,
        /// Until when it holds by itself.
        until: Timestamp,
        /// The note given, in the vault.
        note: PayloadAddress,
    },
    /// It was handed to somebody else.
    HandedOver {
        /// To whom.
        to: ClaimHolder,
        /// Until when it holds by itself.
        until: Timestamp,
        /// The note given, in the vault.
        note: PayloadAddress,
        /// Who was meant, where they are away and `to` covers for them.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        instead_of: Option<AccountName>,
    },
}
