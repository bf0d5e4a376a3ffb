//! Gates: how much human authority a ruling demands; proof levels: what a delivery can show.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::principal::Role;

/// The strength of a gate, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateLevel {
    /// Nobody needs to agree.
    Auto,
    /// Named facts must be established first.
    AutoVerified,
    /// One human of a role.
    Approve,
    /// One human of a role with a fresh second factor bound to the digest.
    #[serde(rename = "approve_2f")]
    Approve2f,
    /// Two different humans, at least one with a second factor.
    TwoPerson,
    /// Nobody can allow it here.
    Deny,
}

impl GateLevel {
    /// Every level, weakest first.
    pub const ALL: [GateLevel; 6] = [
        GateLevel::Auto,
        GateLevel::AutoVerified,
        GateLevel::Approve,
        GateLevel::Approve2f,
        GateLevel::TwoPerson,
        GateLevel::Deny,
    ];

    /// The name used in policy annotations.
    pub fn as_str(self) -> &'static str {
        match self {
            GateLevel::Auto => "auto",
            GateLevel::AutoVerified => "auto_verified",
            GateLevel::Approve => "approve",
            GateLevel::Approve2f => "approve_2f",
            GateLevel::TwoPerson => "two_person",
            GateLevel::Deny => "deny",
        }
    }

    /// Reads the annotation's name of a level.
    pub fn parse(text: &str) -> Option<GateLevel> {
        GateLevel::ALL
            .into_iter()
            .find(|level| level.as_str() == text)
    }
}

/// A gate with everything needed to pass it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "gate", rename_all = "snake_case")]
pub enum Gate {
    /// Nobody needs to agree.
    Auto,
    /// These facts must be established (observed or attested), by name.
    AutoVerified {
        /// Names of facts.
        facts: BTreeSet<String>,
    },
    /// One human holding any of the roles.
    Approve {
        /// Roles of which one is enough; never empty.
        roles: BTreeSet<Role>,
    },
    /// One human holding any of the roles, with a fresh second factor.
    #[serde(rename = "approve_2f")]
    Approve2f {
        /// Roles of which one is enough; never empty.
        roles: BTreeSet<Role>,
    },
    /// Two different people, one of each role; the first role's holder gives a second factor.
    TwoPerson {
        /// The role that must give a second factor.
        first: Role,
        /// The other person's role.
        second: Role,
    },
    /// Nobody can allow it here.
    Deny,
}

impl Gate {
    /// How strong the gate is.
    pub fn level(&self) -> GateLevel {
        match self {
            Gate::Auto => GateLevel::Auto,
            Gate::AutoVerified { .. } => GateLevel::AutoVerified,
            Gate::Approve { .. } => GateLevel::Approve,
            Gate::Approve2f { .. } => GateLevel::Approve2f,
            Gate::TwoPerson { .. } => GateLevel::TwoPerson,
            Gate::Deny => GateLevel::Deny,
        }
    }

    /// The stronger of two gates; two different gates of the same level combine to what satisfies
    /// both, and to deny when nothing can.
    #[must_use]
    pub fn and(self, other: Gate) -> Gate {
        if self.level() != other.level() {
            return if self.level() > other.level() {
                self
            } else {
                other
            };
        }
        match (self, other) {
            (Gate::AutoVerified { facts: a }, Gate::AutoVerified { facts: b }) => {
                Gate::AutoVerified {
                    facts: a.union(&b).cloned().collect(),
                }
            }
            (Gate::Approve { roles: a }, Gate::Approve { roles: b }) => {
                both(&a, &b).map_or(Gate::Deny, |roles| Gate::Approve { roles })
            }
            (Gate::Approve2f { roles: a }, Gate::Approve2f { roles: b }) => {
                both(&a, &b).map_or(Gate::Deny, |roles| Gate::Approve2f { roles })
            }
            (a @ Gate::TwoPerson { .. }, b) if a != b => Gate::Deny,
            (a, _) => a,
        }
    }
}

fn both(a: &BTreeSet<Role>, b: &BTreeSet<Role>) -> Option<BTreeSet<Role>> {
    let common: BTreeSet<Role> = a.intersection(b).copied().collect();
    (!common.is_empty()).then_some(common)
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let any = |roles: &BTreeSet<Role>| {
            roles
                .iter()
                .map(|role| role.as_str())
                .collect::<Vec<_>>()
                .join(" or ")
        };
        match self {
            Gate::Auto => f.write_str("auto"),
            Gate::AutoVerified { facts } => {
                write!(
                    f,
                    "auto_verified({})",
                    facts.iter().cloned().collect::<Vec<_>>().join(", ")
                )
            }
            Gate::Approve { roles } => write!(f, "approve({})", any(roles)),
            Gate::Approve2f { roles } => write!(f, "approve_2f({})", any(roles)),
            Gate::TwoPerson { first, second } => write!(f, "two_person({first}, {second})"),
            Gate::Deny => f.write_str("deny"),
        }
    }
}

/// What a delivery can show at an endpoint. Ordered: later is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ProofLevel {
    /// A human attests that they entered it.
    P0,
    /// The server acknowledged.
    P1,
    /// The content was read back and equals what was sent.
    P2,
    /// Conditional write, and the version was read back.
    P3,
}

impl ProofLevel {
    /// Reads `P0` to `P3`.
    pub fn parse(text: &str) -> Option<ProofLevel> {
        match text {
            "P0" => Some(ProofLevel::P0),
            "P1" => Some(ProofLevel::P1),
            "P2" => Some(ProofLevel::P2),
            "P3" => Some(ProofLevel::P3),
            _ => None,
        }
    }
}

impl fmt::Display for ProofLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn approve(roles: &[Role]) -> Gate {
        Gate::Approve {
            roles: roles.iter().copied().collect(),
        }
    }

    #[test]
    fn combining_never_weakens() {
        let gates = [
            Gate::Auto,
            Gate::AutoVerified {
                facts: ["a".to_owned()].into(),
            },
            approve(&[Role::Clinician]),
            approve(&[Role::Biller]),
            Gate::Approve2f {
                roles: [Role::Clinician].into(),
            },
            Gate::TwoPerson {
                first: Role::Clinician,
                second: Role::Pharmacist,
            },
            Gate::TwoPerson {
                first: Role::Him,
                second: Role::MaRn,
            },
            Gate::Deny,
        ];
        for a in &gates {
            for b in &gates {
                let combined = a.clone().and(b.clone());
                assert!(
                    combined.level() >= a.level().max(b.level()),
                    "{a} and {b} gave {combined}"
                );
                assert_eq!(
                    combined,
                    b.clone().and(a.clone()),
                    "{a} and {b} do not commute"
                );
            }
        }
    }

    #[test]
    fn roles_that_nobody_can_hold_together_deny() {
        let either = approve(&[Role::Rn, Role::Pharmacist]);
        assert_eq!(
            either.clone().and(approve(&[Role::Rn])),
            approve(&[Role::Rn])
        );
        assert_eq!(either.and(approve(&[Role::Biller])), Gate::Deny);
    }
}
