//! Faults on demand: rules that make chosen requests fail in a chosen way.
//!
//! Not random and not timed: a rule fires on the next matching requests, as often as it says.
//! The kinds come in pairs, because a client must tell "failed and lost" from "failed but
//! applied". Start at [`FaultRule`].

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::definitions::ResourceType;
use crate::filing::OPERATION;
use crate::interaction::Interaction;

/// The most rules that wait at once; the oldest go first when more arrive.
const RULES_MAX: usize = 1_000;

/// The longest a fault may delay or hold a request, in milliseconds.
pub(crate) const HOLD_MS_MAX: u64 = 600_000;

/// How a request is made to fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultKind {
    /// Carried out and answered, `ms` milliseconds late.
    Latency {
        /// The delay in milliseconds.
        ms: u64,
    },
    /// Not carried out; answered with this status (400 to 599, else 500).
    Status {
        /// The HTTP status code.
        code: u16,
    },
    /// Not carried out, and never answered: the connection is held, then closed. Failed and lost.
    TimeoutBeforeCommit {
        /// How long the connection is held, in milliseconds.
        #[serde(default)]
        hold_ms: u64,
    },
    /// Carried out, and never answered: the connection is held, then closed. Failed but applied.
    TimeoutAfterCommit {
        /// How long the connection is held, in milliseconds.
        #[serde(default)]
        hold_ms: u64,
    },
    /// Not carried out; answered with 412, as if somebody else had been faster.
    PreconditionFailed,
    /// Not carried out; answered with 429 and `Retry-After`.
    TooManyRequests {
        /// The value of `Retry-After`, in seconds.
        retry_after_s: u32,
    },
}

/// Which requests fail, how, and how often.
///
/// A request matches by its interaction, not by its bare HTTP method: a search sent by POST counts
/// as `GET`. A message to the vendor's operation counts as `POST` on `$file-entry` and as what it does. A transaction
/// counts as `POST` on `Bundle`, and as each of its entries (and as `POST`
/// on the entries' types).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`; `None` matches each.
    #[serde(default)]
    pub method: Option<String>,
    /// The resource type, or `Bundle` or `metadata`; `None` matches each.
    #[serde(default)]
    pub resource_type: Option<String>,
    /// Only searches that carry this parameter; `None` matches each request.
    #[serde(default)]
    pub parameter: Option<String>,
    /// How it fails.
    pub kind: FaultKind,
    /// How many matching requests fail before the rule is spent.
    #[serde(default = "once")]
    pub times: u32,
}

fn once() -> u32 {
    1
}

impl FaultRule {
    /// A rule for one request with this method on this resource type.
    #[must_use]
    pub fn once(method: &str, resource_type: &str, kind: FaultKind) -> Self {
        Self {
            method: Some(method.to_owned()),
            resource_type: Some(resource_type.to_owned()),
            parameter: None,
            kind,
            times: 1,
        }
    }

    /// The same rule for searches that carry a parameter, and for no other request.
    #[must_use]
    pub fn searched_by(self, parameter: &str) -> Self {
        Self {
            parameter: Some(parameter.to_owned()),
            ..self
        }
    }

    /// The same rule for several requests.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    fn matches(&self, faces: &[Face], query: &str) -> bool {
        let is_carried = |wanted: &str| {
            query
                .split('&')
                .any(|pair| pair.split(['=', ':']).next() == Some(wanted))
        };
        self.parameter.as_deref().is_none_or(is_carried)
            && faces.iter().any(|(method, resource_type)| {
                self.method
                    .as_deref()
                    .is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
                    && self
                        .resource_type
                        .as_deref()
                        .is_none_or(|wanted| wanted == *resource_type)
            })
    }
}

/// One way a request looks to the rules: its method and its resource type.
pub(crate) type Face = (&'static str, &'static str);

/// The faces of a request; `entries` are those of its bundle, if it is one.
pub(crate) fn faces(interaction: &Interaction, entries: &[Interaction]) -> Vec<Face> {
    let mut faces = vec![face(interaction)];
    for entry in entries {
        let (method, resource_type) = face(entry);
        faces.push((method, resource_type));
        faces.push(("POST", resource_type));
    }
    faces
}

fn face(interaction: &Interaction) -> Face {
    let name = interaction.kind().map(|kind: &ResourceType| kind.name);
    match interaction {
        Interaction::Metadata => ("GET", "metadata"),
        Interaction::Bundle => ("POST", "Bundle"),
        Interaction::FileEntry => ("POST", OPERATION),
        Interaction::Create { .. } => ("POST", name.unwrap_or("")),
        Interaction::Update { .. } => ("PUT", name.unwrap_or("")),
        Interaction::Patch { .. } => ("PATCH", name.unwrap_or("")),
        Interaction::Delete { .. } => ("DELETE", name.unwrap_or("")),
        Interaction::Read { .. }
        | Interaction::VersionRead { .. }
        | Interaction::History { .. }
        | Interaction::Search { .. } => ("GET", name.unwrap_or("")),
    }
}

/// The rules that wait, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<VecDeque<FaultRule>>);

impl Faults {
    /// Adds a rule behind those that wait. A rule for zero requests is dropped.
    pub(crate) fn inject(&self, rule: FaultRule) {
        if rule.times == 0 {
            return;
        }
        let mut rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rules.len() >= RULES_MAX {
            rules.pop_front();
        }
        rules.push_back(rule);
    }

    pub(crate) fn pending(&self) -> Vec<FaultRule> {
        let rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rules.iter().cloned().collect()
    }

    pub(crate) fn clear(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Uses up one firing of the oldest rule that matches. `query` is that of a search.
    pub(crate) fn take(&self, faces: &[Face], query: &str) -> Option<FaultKind> {
        let mut rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = rules.iter().position(|rule| rule.matches(faces, query))?;
        let rule = rules.get_mut(at)?;
        let kind = rule.kind.clone();
        rule.times = rule.times.saturating_sub(1);
        if rule.times == 0 {
            rules.remove(at);
        }
        Some(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_fire_in_order_and_are_spent() {
        let faults = Faults::default();
        let busy = FaultKind::TooManyRequests { retry_after_s: 1 };
        faults.inject(FaultRule::once("POST", "Appointment", busy.clone()).times(2));
        faults.inject(FaultRule::once(
            "POST",
            "Appointment",
            FaultKind::PreconditionFailed,
        ));
        let booking: [Face; 1] = [("POST", "Appointment")];
        assert_eq!(faults.take(&[("GET", "Appointment")], ""), None);
        assert_eq!(faults.take(&[("POST", "Slot")], ""), None);
        assert_eq!(faults.take(&booking, ""), Some(busy.clone()));
        assert_eq!(faults.take(&booking, ""), Some(busy));
        assert_eq!(
            faults.take(&booking, ""),
            Some(FaultKind::PreconditionFailed)
        );
        assert_eq!(faults.take(&booking, ""), None);
        assert!(faults.pending().is_empty());
    }

    #[test]
    fn a_rule_for_a_parameter_leaves_other_searches_alone() {
        let faults = Faults::default();
        let busy = FaultKind::TooManyRequests { retry_after_s: 1 };
        faults
            .inject(FaultRule::once("GET", "Appointment", busy.clone()).searched_by("identifier"));
        let search: [Face; 1] = [("GET", "Appointment")];
        for other in ["", "patient=identifier", "identifiers=a"] {
            assert_eq!(faults.take(&search, other), None, "{other}");
        }
        assert_eq!(faults.take(&search, "_count=1&identifier=a"), Some(busy));
    }
}
