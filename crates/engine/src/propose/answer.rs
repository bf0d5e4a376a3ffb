//! What the agent hears about a proposal that went no further.

use chaperone_core::writeback::{RefusedBy, Ruled};
use chaperone_fhir::finding::{Finding, RestsOn};
use serde_json::{Value, json};

/// An agent hears about its own input; what rests on other data is only "a human would look"
/// (invariant 10).
pub(super) fn findings_for_agent(findings: &[Finding]) -> Value {
    findings
        .iter()
        .filter(|finding| finding.severity.is_error())
        .map(|finding| match finding.rests_on {
            RestsOn::InputOnly => json!({
                "id": finding.id,
                "where": finding.expression,
                "message": finding.message,
            }),
            RestsOn::Context => json!({
                "id": "chaperone.context",
                "message": "something outside your view speaks against this; ask a human",
            }),
        })
        .collect()
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
