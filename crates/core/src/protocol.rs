//! Delegated protocols: what a prescriber signed once, so that a nurse or pharmacist whom it names can renew an
//! unchanged prescription under it.
//!
//! A ruling under a protocol cites it, and with it who may approve and until when: the state machine holds every
//! approval to both. What a protocol covers is data of the bundle (`rules/refill-protocols.toml`), held against the
//! EHR by `engine::refill`.
//!
//! # Source
//! Row 34a of the write-back matrix (requirements R021 and R032).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::ids::{AccountName, ProtocolId};

/// The protocol under which something was ruled on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtocolCited {
    /// The protocol.
    pub id: ProtocolId,
    /// Its version, as its prescriber signed it.
    pub version: u32,
    /// Who may approve under it, by their accounts.
    pub approvers: BTreeSet<AccountName>,
    /// From when on nobody can any more.
    pub until: Timestamp,
}

impl ProtocolCited {
    /// Whether it names whoever holds an account.
    pub fn names(&self, account: &AccountName) -> bool {
        self.approvers.contains(account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_names_accounts_and_nobody_else() {
        let account = |name: &str| AccountName::new(name).unwrap();
        let cited = ProtocolCited {
            id: ProtocolId::new("statin-renewal").unwrap(),
            version: 3,
            approvers: [account("nurse-1")].into(),
            until: Timestamp::UNIX_EPOCH,
        };
        assert!(cited.names(&account("nurse-1")));
        assert!(!cited.names(&account("nurse-10")));
    }
}
