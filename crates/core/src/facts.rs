//! Facts: the inputs of policy, and how far each can be trusted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Where a fact comes from. Ordered by trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactKind {
    /// An agent says so. Can only raise a gate.
    Claimed,
    /// Signed by an issuer Chaperone trusts, bound to the payload digest.
    Attested,
    /// Chaperone saw it itself.
    Observed,
    /// From the bundle or the tool's declaration.
    Fixed,
}

/// The value of a fact: what Cedar can compare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FactValue {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Long(i64),
    /// A short code.
    Text(String),
    /// A set of short codes.
    Set(Vec<String>),
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// How it came to be known.
    pub kind: FactKind,
    /// What is known.
    pub value: FactValue,
    /// For attested facts, the digest of the payload the attestation is bound to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bound_to: Option<Digest>,
}

/// The facts of one decision, by name.
///
/// A name is held once: a claim can never displace what was observed under the same name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Facts(BTreeMap<String, Fact>);

impl Facts {
    /// Adds a fact; the more trusted kind wins when the name is already there.
    pub fn add(&mut self, name: &str, fact: Fact) {
        match self.0.get(name) {
            Some(known) if known.kind > fact.kind => {}
            _ => {
                self.0.insert(name.to_owned(), fact);
            }
        }
    }

    /// Adds a fact that Chaperone saw itself.
    pub fn observe(&mut self, name: &str, value: FactValue) {
        self.add(
            name,
            Fact {
                kind: FactKind::Observed,
                value,
                bound_to: None,
            },
        );
    }

    /// Adds a fact fixed by the bundle or the tool.
    pub fn fix(&mut self, name: &str, value: FactValue) {
        self.add(
            name,
            Fact {
                kind: FactKind::Fixed,
                value,
                bound_to: None,
            },
        );
    }

    /// Adds what the agent says.
    pub fn claim(&mut self, name: &str, value: FactValue) {
        self.add(
            name,
            Fact {
                kind: FactKind::Claimed,
                value,
                bound_to: None,
            },
        );
    }

    /// The fact of a name.
    pub fn get(&self, name: &str) -> Option<&Fact> {
        self.0.get(name)
    }

    /// Whether a fact is true on better authority than the agent's word.
    pub fn is_established(&self, name: &str) -> bool {
        self.0
            .get(name)
            .is_some_and(|f| f.kind > FactKind::Claimed && f.value == FactValue::Bool(true))
    }

    /// The same about one payload: what was attested counts only when it is bound to it.
    pub fn is_established_for(&self, name: &str, digest: &Digest) -> bool {
        let is_bound = self.0.get(name).is_some_and(|fact| {
            fact.kind != FactKind::Attested || fact.bound_to.as_ref() == Some(digest)
        });
        is_bound && self.is_established(name)
    }

    /// All facts in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Fact)> {
        self.0.iter().map(|(name, fact)| (name.as_str(), fact))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_never_displaces_an_observation_and_never_establishes() {
        let mut facts = Facts::default();
        facts.observe("slot_rechecked", FactValue::Bool(false));
        facts.claim("slot_rechecked", FactValue::Bool(true));
        facts.claim("patient_confirmed", FactValue::Bool(true));
        assert!(!facts.is_established("slot_rechecked"));
        assert!(!facts.is_established("patient_confirmed"));
        facts.observe("patient_confirmed", FactValue::Bool(true));
        assert!(facts.is_established("patient_confirmed"));
    }
}
