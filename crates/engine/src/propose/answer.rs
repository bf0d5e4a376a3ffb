//! What the agent hears about its proposal beside the state.
//!
//! An agent hears about its own input; what rests on other data is only "a human would look" (invariant
//! 10). How often, where and why other data speaks against a proposal makes no difference to the answer,
//! and it is said only where nothing in the agent's own input explains the refusal.

use chaperone_core::gate::Gate;
use chaperone_core::writeback::{RefusedBy, Ruled};
use chaperone_fhir::finding::RestsOn;
use serde_json::{Value, json};

use super::part::Part;
use super::plausible::{Shown, is_implausible};
use crate::call::told_gate;

/// The refusal's code when a plausibility rule blocks; the bundle's escalator names it.
const IMPLAUSIBLE: &str = "implausible";

/// What the findings are told about.
pub(super) enum Told<'r> {
    /// The proposal was not valid.
    Invalid,
    /// It was ruled on; the code of the denial, if it was denied.
    Ruled(Option<&'r str>),
}

/// Findings for the agent; `None` when there is nothing to say. What slots stand for is not the agent's to
/// know, so where some were put back, a finding says where it is and not what stands there.
pub(super) fn findings_for_agent(
    findings: &[Shown],
    told: &Told<'_>,
    has_resolved: bool,
) -> Option<Value> {
    let is_told = |shown: &&Shown| match told {
        Told::Invalid => shown.finding.severity.is_error(),
        Told::Ruled(_) => is_implausible(&shown.finding),
    };
    let own: Vec<Value> = findings
        .iter()
        .filter(is_told)
        .filter(|shown| shown.finding.rests_on == RestsOn::InputOnly)
        .map(|shown| {
            if has_resolved {
                return json!({
                    "id": shown.finding.id,
                    "where": shown.finding.expression,
                    "message": "this does not hold once the slots are put back; write it otherwise, or ask a human",
                });
            }
            let mut said = json!({
                "id": shown.finding.id,
                "where": shown.finding.expression,
                "message": shown.finding.message,
            });
            if let (Some(proposed), Some(object)) = (&shown.proposed, said.as_object_mut()) {
                object.insert("proposed".to_owned(), json!(proposed));
            }
            said
        })
        .collect();
    // An error explains a refusal; a warning does not.
    let explains = findings.iter().any(|shown| {
        shown.finding.severity.is_error() && shown.finding.rests_on == RestsOn::InputOnly
    });
    let is_refused = matches!(told, Told::Invalid | Told::Ruled(Some(IMPLAUSIBLE)));
    let mut all = own;
    if is_refused && !explains {
        all.push(json!({
            "id": "chaperone.context",
            "message": "something outside your view speaks against this; ask a human",
        }));
    }
    (!all.is_empty()).then_some(Value::Array(all))
}

/// What was decided about each of several changes, as their agent is told it: whether people decide, and the code
/// where it is refused. One that is refused refuses all, and of the others nothing is said then: how far a gate is raised
/// can rest on the record, and an agent could ask about it again and again without anybody seeing it (invariant 10).
pub(super) fn decisions(parts: &[Part<'_>], ruled: Option<&Ruled>) -> Value {
    let is_refused = ruled.is_some_and(|ruled| ruled.ruling.gate == Gate::Deny);
    let decided = |at: usize, part: &Part<'_>| {
        let own = ruled.and_then(|ruled| ruled.ruling.entries.get(at));
        match own {
            Some(own) if is_refused && own.denial.is_none() => {
                json!({ "tool": part.as_sent.tool.name, "gate": null })
            }
            Some(own) => json!({
                "tool": part.as_sent.tool.name,
                "gate": told_gate(own.gate.level()),
                "class": own.class,
                "code": own.denial,
            }),
            None if part.is_valid() => json!({ "tool": part.as_sent.tool.name, "gate": null }),
            None => {
                json!({ "tool": part.as_sent.tool.name, "gate": "deny", "code": "invalid-proposal" })
            }
        }
    };
    let all = parts.iter().enumerate();
    Value::Array(all.map(|(at, part)| decided(at, part)).collect())
}

pub(super) fn refusal(by: &RefusedBy, ruled: Option<&Ruled>) -> Value {
    let reasons: Vec<&str> = ruled
        .map(|r| {
            r.ruling
                .reasons
                .iter()
                .map(|reason| reason.text.as_str())
                .collect()
        })
        .unwrap_or_default();
    match by {
        RefusedBy::Policy { code } => json!({ "by": "policy", "code": code, "reasons": reasons }),
        RefusedBy::Validation { .. } => json!({ "by": "validation", "code": "invalid-proposal" }),
        _ => json!({ "by": "other" }),
    }
}
