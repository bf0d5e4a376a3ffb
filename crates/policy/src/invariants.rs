//! What must always hold of a bundle: `policies/invariants.cedar`, read and checked.
//!
//! Each statement is a Cedar policy that permits and forbids nothing: its conditions say of which requests
//! it speaks, one annotation says what must hold of them. What they mean to their readers stands in
//! docs/proofs.md. Nothing is proved here; that is `crate::prove`.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Effect, Policy, PolicyId as CedarId, PrincipalConstraint, ResourceConstraint};
use chaperone_core::gate::GateLevel;
use chaperone_core::principal::Role;

use crate::est;
use crate::problem::{Problems, line_of};
use crate::row::Action;
use crate::set::{action_of, id_annotation, parse_file};

/// Path of the file.
pub const INVARIANTS_PATH: &str = "policies/invariants.cedar";
/// Most statements in it.
pub const INVARIANTS_MAX: usize = 200;

/// What must hold of the requests that a statement speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// None of them is permitted.
    NeverPermitted,
    /// No policy fails on them.
    NeverFailing,
    /// The policies ask for at least this.
    AtLeast(GateLevel),
    /// They are permitted, and the policies ask for at most this.
    AtMost(GateLevel),
    /// A request is never treated more lightly than the one it is compared with.
    NoWeaker(Than),
    /// What rows leave to this role, no escalator gives to another.
    StaysWith(Role),
}

/// With what a request is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Than {
    /// A tainted request with the same untainted.
    Untainted,
    /// A request in which the agent claims something with the same without that claim.
    Unclaimed,
    /// A change written to the EHR with the same held in Chaperone, where both are possible.
    Staged,
    /// A change that makes things less private with one that makes them more private, where both are
    /// possible.
    MorePrivate,
    /// A change that touches one element more with the same without it, where both are possible.
    Narrower,
}

impl Than {
    const ALL: [(&'static str, Than); 5] = [
        ("untainted", Than::Untainted),
        ("unclaimed", Than::Unclaimed),
        ("staged", Than::Staged),
        ("more_private", Than::MorePrivate),
        ("narrower", Than::Narrower),
    ];
}

/// One statement.
#[derive(Debug, Clone)]
pub struct Invariant {
    /// Its `@id`.
    pub id: String,
    /// In plain words.
    pub text: String,
    /// What must hold.
    pub claim: Claim,
    pub(crate) action: Action,
    /// Of which requests it speaks, in Cedar's JSON form.
    #[cfg_attr(
        all(not(feature = "prove"), not(test)),
        expect(dead_code, reason = "read by the proof")
    )]
    pub(crate) form: serde_json::Value,
}

impl Invariant {
    /// What must hold, in the words that reports use.
    pub fn claim_in_words(&self) -> String {
        let subject = match self.action {
            Action::Access => "call",
            Action::Write | Action::Escalate => "change",
        };
        match self.claim {
            Claim::NeverPermitted => format!("no such {subject} is permitted"),
            Claim::NeverFailing => "no policy fails".to_owned(),
            Claim::AtLeast(level) => format!("the gate is at least {}", level.as_str()),
            Claim::AtMost(level) => {
                format!("permitted, and the gate is at most {}", level.as_str())
            }
            Claim::NoWeaker(than) => format!("no weaker than {}", Than::word(than)),
            Claim::StaysWith(role) => format!("the decision stays with {role}"),
        }
    }
}

impl Than {
    /// The word of the annotation.
    pub fn word(self) -> &'static str {
        Than::ALL
            .into_iter()
            .find_map(|(word, than)| (than == self).then_some(word))
            .unwrap_or_default()
    }
}

/// Reads the statements, and the policies that they are written as, under their own ids.
pub(crate) fn read(text: &str, problems: &mut Problems) -> (Vec<Invariant>, Vec<Policy>) {
    let mut loaded = Vec::new();
    parse_file(INVARIANTS_PATH, text, &mut loaded, problems);
    if loaded.len() > INVARIANTS_MAX {
        problems.add(
            INVARIANTS_PATH,
            "",
            format!("a bundle states at most {INVARIANTS_MAX} invariants"),
        );
        return (Vec::new(), Vec::new());
    }
    let mut invariants: Vec<Invariant> = Vec::new();
    let mut policies = Vec::new();
    for parsed in loaded {
        let place = parsed.policy.annotation("id").map_or_else(
            || format!("statement number {}", parsed.number),
            str::to_owned,
        );
        let line = line_of(text, &id_annotation(&place));
        match statement(&parsed.policy) {
            Ok(invariant) if invariants.iter().any(|known| known.id == invariant.id) => {
                problems.add_at(INVARIANTS_PATH, line, &place, "stands there twice");
            }
            Ok(invariant) => {
                policies.push(parsed.policy.new_id(CedarId::new(&invariant.id)));
                invariants.push(invariant);
            }
            Err(wrong) => wrong
                .into_iter()
                .for_each(|why| problems.add_at(INVARIANTS_PATH, line, &place, why)),
        }
    }
    (invariants, policies)
}

fn statement(policy: &Policy) -> Result<Invariant, Vec<String>> {
    let annotations: BTreeMap<&str, &str> = policy.annotations().collect();
    let mut wrong = Vec::new();
    let said: BTreeSet<&str> = annotations.keys().copied().collect();
    for name in ["id", "text"] {
        if annotations
            .get(name)
            .is_none_or(|value| value.trim().is_empty())
        {
            wrong.push(format!("annotation `@{name}` is missing or empty"));
        }
    }
    let claims: Vec<&str> = said
        .into_iter()
        .filter(|name| !matches!(*name, "id" | "text"))
        .collect();
    let action = action_of(policy);
    let claim = match claims.as_slice() {
        [name] => {
            let value = annotations.get(name).copied().unwrap_or_default();
            let claim = claim(name, value);
            if claim.is_none() {
                wrong.push(format!("`@{name}(\"{value}\")` says nothing that can be proved; docs/proofs.md lists what can"));
            }
            claim
        }
        _ => {
            wrong.push("needs exactly one of `@never`, `@at_least`, `@at_most`, `@no_weaker_than` and `@stays_with`".to_owned());
            None
        }
    };
    match (action, claim) {
        (None | Some(Action::Write), _) => wrong.push(
            "must name its action: `action == Action::\"escalate\"` for changes, `action == Action::\"access\"` for calls".to_owned(),
        ),
        (Some(Action::Access), Some(claim)) if claim != Claim::NeverPermitted && claim != Claim::NeverFailing => {
            wrong.push("calls have no gates: only `@never` can be said of them".to_owned());
        }
        _ => {}
    }
    let wanted = match claim {
        Some(Claim::AtMost(_)) => Effect::Permit,
        _ => Effect::Forbid,
    };
    if policy.effect() != wanted {
        wrong.push("`@at_most` is written as `permit`, everything else as `forbid`".to_owned());
    }
    if !matches!(policy.principal_constraint(), PrincipalConstraint::Any) {
        wrong.push("names a principal; it must hold for every agent".to_owned());
    }
    if !matches!(
        policy.resource_constraint(),
        ResourceConstraint::Any | ResourceConstraint::Is(_)
    ) {
        wrong.push("`resource` may only be limited to a type".to_owned());
    }
    let form = policy.to_json().map_err(|error| vec![error.to_string()])?;
    if est::uses_patterns(&form) {
        wrong.push("matches with a wildcard; list what is meant".to_owned());
    }
    match (action, claim) {
        (Some(action), Some(claim)) if wrong.is_empty() => Ok(Invariant {
            id: annotations
                .get("id")
                .copied()
                .unwrap_or_default()
                .to_owned(),
            text: annotations
                .get("text")
                .copied()
                .unwrap_or_default()
                .to_owned(),
            claim,
            action,
            form,
        }),
        _ => Err(wrong),
    }
}

fn claim(name: &str, value: &str) -> Option<Claim> {
    let level = || GateLevel::parse(value);
    match name {
        "never" if value == "permitted" => Some(Claim::NeverPermitted),
        "never" if value == "failing" => Some(Claim::NeverFailing),
        // A gate of `deny` is what `@never("permitted")` says.
        "at_least" => level()
            .filter(|level| !matches!(level, GateLevel::Auto | GateLevel::Deny))
            .map(Claim::AtLeast),
        // Above these, roles decide whether anybody can agree at all, which no level says.
        "at_most" => level()
            .filter(|level| matches!(level, GateLevel::Auto | GateLevel::AutoVerified))
            .map(Claim::AtMost),
        "no_weaker_than" => Than::ALL
            .into_iter()
            .find_map(|(word, than)| (word == value).then_some(Claim::NoWeaker(than))),
        "stays_with" => Role::parse(value).map(Claim::StaysWith),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(text: &str) -> Result<Invariant, String> {
        let mut problems = Problems::default();
        let (mut invariants, _) = read(text, &mut problems);
        let found = problems.into_sorted();
        if found.is_empty() {
            Ok(invariants.remove(0))
        } else {
            Err(found
                .iter()
                .map(|p| p.message.clone())
                .collect::<Vec<_>>()
                .join("; "))
        }
    }

    fn stated(annotations: &str, action: &str) -> Result<Invariant, String> {
        read_one(&format!(
            "@id(\"x\") @text(\"X.\") {annotations}\nforbid (principal, action == Action::\"{action}\", resource) when {{ true }};"
        ))
    }

    #[test]
    fn a_statement_says_one_thing_that_can_be_proved() {
        assert_eq!(
            stated("@never(\"permitted\")", "access").unwrap().claim,
            Claim::NeverPermitted
        );
        assert_eq!(
            stated("@at_least(\"approve_2f\")", "escalate")
                .unwrap()
                .claim,
            Claim::AtLeast(GateLevel::Approve2f)
        );
        for (annotations, action, why) in [
            ("", "escalate", "exactly one of"),
            (
                "@never(\"permitted\") @at_least(\"approve\")",
                "escalate",
                "exactly one of",
            ),
            (
                "@at_least(\"auto\")",
                "escalate",
                "says nothing that can be proved",
            ),
            (
                "@at_least(\"deny\")",
                "escalate",
                "says nothing that can be proved",
            ),
            (
                "@always(\"permitted\")",
                "escalate",
                "says nothing that can be proved",
            ),
            (
                "@stays_with(\"surgeon\")",
                "escalate",
                "says nothing that can be proved",
            ),
            ("@at_least(\"approve\")", "access", "calls have no gates"),
            ("@at_least(\"approve\")", "write", "must name its action"),
            ("@at_most(\"auto\")", "escalate", "is written as `permit`"),
        ] {
            let wrong = stated(annotations, action).unwrap_err();
            assert!(
                wrong.contains(why),
                "{annotations} on {action} gave {wrong}"
            );
        }
    }

    #[test]
    fn a_statement_speaks_of_every_agent_and_stands_there_once() {
        let wrong = read_one("@id(\"x\") @text(\"X.\") @never(\"permitted\")\nforbid (principal == Agent::\"a\", action == Action::\"access\", resource);").unwrap_err();
        assert!(wrong.contains("every agent"), "{wrong}");
        let one = "@id(\"x\") @text(\"X.\") @never(\"permitted\")\nforbid (principal, action == Action::\"access\", resource) when { true };\n";
        let wrong = read_one(&one.repeat(2)).unwrap_err();
        assert!(wrong.contains("twice"), "{wrong}");
    }
}
