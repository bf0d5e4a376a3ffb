//! A person's change of what an agent had proposed: what is recorded of it, and what an order keeps so that it can be
//! made. Serialised: a promise (see [`crate::event`]).
//!
//! A change is a write-back of its own, which takes the place of the other. Not here: who may make one, and that it is
//! checked and ruled on from the beginning (the engine).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::ids::{PersonId, ResourceToken, WritebackId};
use crate::resource::Code;

/// How often in a row one proposal can be changed.
pub const EDITS_MAX: usize = 5;

/// Which proposal this one took the place of, and who changed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditLink {
    /// The other write-back, which ended with it.
    pub of: WritebackId,
    /// The digest of the other's order: what was on the screen.
    pub digest: Digest,
    /// Who changed it. Where two people must agree, they are neither of them.
    pub person: PersonId,
    /// Who had changed it before, oldest first; at most [`EDITS_MAX`] with this one.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub earlier: Vec<PersonId>,
}

impl EditLink {
    /// Everybody who changed it, this time and before.
    pub fn people(&self) -> impl Iterator<Item = PersonId> {
        self.earlier.iter().copied().chain([self.person])
    }
}

/// The call that brought a proposal, as far as it takes to make it once more. Holds PHI; stands in orders alone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallKept {
    /// The declared inputs, with defaults, and with slots put back.
    pub inputs: BTreeMap<String, Value>,
    /// The encounter of its envelope.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub encounter: Option<ResourceToken>,
    /// The purpose of use of its envelope.
    pub purpose: Code,
}

impl fmt::Debug for CallKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallKept(withheld)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_says_nothing_of_what_it_holds() {
        let call = CallKept {
            inputs: [("text".to_owned(), Value::from("a secret"))].into(),
            encounter: None,
            purpose: Code::new("TREAT").unwrap(),
        };
        assert_eq!(format!("{call:?}"), "CallKept(withheld)");
    }
}
