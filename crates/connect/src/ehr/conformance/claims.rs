//! What the CapabilityStatement claims of what the tools need. A claim is no proof: trials follow.
//!
//! # Source
//! FHIR R4, CapabilityStatement.

use chaperone_core::conformance::{CheckOutcome, ConformanceNeeds, ReadNeed, WriteNeed};
use chaperone_core::ports::DeliveryProfile;
use serde_json::Value;

use super::Run;
use crate::ehr::capability::{array, has_interaction, text};

/// Looks at the whole statement.
pub(super) fn check(run: &mut Run<'_>, statement: &Value, needs: &ConformanceNeeds) {
    let version = text(statement, "fhirVersion").unwrap_or("none");
    if version.starts_with("4.0") {
        run.passed("fhir-version", "server", format!("FHIR {version}"));
    } else {
        let say = "it does not state FHIR R4 (4.0.x), and nothing here speaks another version";
        run.failed("fhir-version", "server", say);
    }
    for need in &needs.reads {
        read(run, claims_of(statement, need.resource.as_str()), need);
    }
    for need in &needs.writes {
        write(run, claims_of(statement, need.resource.as_str()), need);
    }
}

/// What is claimed of a type.
pub(super) fn claims_of<'a>(statement: &'a Value, resource: &str) -> Option<&'a Value> {
    array(statement, "rest")
        .iter()
        .find(|rest| text(rest, "mode") == Some("server"))
        .and_then(|server| {
            array(server, "resource")
                .iter()
                .find(|claimed| text(claimed, "type") == Some(resource))
        })
}

/// Whether an interaction of the whole system is claimed.
pub(super) fn claims_system(statement: &Value, code: &str) -> bool {
    array(statement, "rest")
        .iter()
        .any(|rest| text(rest, "mode") == Some("server") && has_interaction(rest, code))
}

fn read(run: &mut Run<'_>, claimed: Option<&Value>, need: &ReadNeed) {
    const CHECK: &str = "search-claimed";
    let subject = need.tool.to_string();
    let resource = &need.resource;
    let Some(claimed) = claimed.filter(|claimed| has_interaction(claimed, "search-type")) else {
        let say = format!("the CapabilityStatement claims no search of {resource}");
        run.note(CHECK, subject, CheckOutcome::NotChecked, say);
        return;
    };
    let missing: Vec<&str> = need
        .names
        .iter()
        .map(|name| name.split([':', '.']).next().unwrap_or(name))
        // Controls of the result are seldom listed.
        .filter(|name| !name.starts_with('_'))
        .filter(|name| {
            !array(claimed, "searchParam")
                .iter()
                .any(|parameter| text(parameter, "name") == Some(name))
        })
        .collect();
    if missing.is_empty() {
        let say = format!("{resource} is searched by what the tool sends");
        run.passed(CHECK, subject, say);
    } else {
        let say = format!(
            "the CapabilityStatement does not list {} for {resource}; the trial decides",
            missing.join(", ")
        );
        run.note(CHECK, subject, CheckOutcome::NotChecked, say);
    }
}

fn write(run: &mut Run<'_>, claimed: Option<&Value>, need: &WriteNeed) {
    const CHECK: &str = "write-claimed";
    let subject = DeliveryProfile::key(&need.resource, need.interaction);
    let offered = run.profile.support.get(&subject);
    let is_offered = offered.is_some();
    let code = match offered {
        Some(entry) if entry.patch => "patch",
        _ => need.interaction.as_str(),
    };
    let is_claimed = claimed.is_some_and(|claimed| has_interaction(claimed, code));
    let (outcome, say) = match (is_offered, is_claimed) {
        (true, true) => (CheckOutcome::Passed, "claimed by the CapabilityStatement"),
        (true, false) => (
            CheckOutcome::NotChecked,
            "declared in the configuration, not claimed by the CapabilityStatement; the trial decides",
        ),
        (false, _) => (
            CheckOutcome::NotChecked,
            "the connection takes no such write; people enter it and attest",
        ),
    };
    run.note(CHECK, subject, outcome, say);
}
