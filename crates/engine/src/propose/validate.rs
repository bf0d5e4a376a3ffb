//! Validation of a merged proposal: schema and profiles with the bundle's packages, business rules, and
//! the evidence that it passed. The third stage, plausibility, is in [`super::plausible`]; until it ran, the
//! record says that it did not.

use chaperone_core::bundle::WriteAction;
use chaperone_core::change::Change;
use chaperone_core::digest::{Digest, Salt};
use chaperone_core::evidence::{Conformant, StageRecord, ValidationRecord};
use chaperone_fhir::Request;
use chaperone_fhir::finding::{Finding, RestsOn, Severity, id};
use chaperone_fhir::references::{PatientRef, stray_references};
use chaperone_fhir::validate::Limits;
use serde_json::Value;

use super::gather::Inputs;
use super::known::KnownResources;
use super::plausible::STAGE;
use crate::context::Engine;
use crate::merge::instant;

/// Name of the second stage in the record.
const BUSINESS_RULES: &str = "business-rules";

impl Engine {
    /// Schema and profiles, references bound to the patient, status transitions.
    pub(crate) fn validate(
        &self,
        write: &WriteAction,
        salt: &Salt,
        body: &str,
        resource: &Value,
        change: &Change,
        inputs: &Inputs,
    ) -> (ValidationRecord, Vec<Finding>) {
        let profiles = self.bundle.profiles_for(write);
        let now = instant(self.now());
        let texts = KnownResources::texts(inputs);
        let known = KnownResources::read(&texts, self.ehr.endpoint());
        let request = Request {
            profiles: &profiles,
            supporting: Some(&known),
            now: Some(&now),
        };
        let outcome = self.config.validator.validate(body.as_bytes(), &request);
        let packages = outcome
            .packages
            .iter()
            .map(|id| format!("{}#{}", id.name, id.version))
            .collect();
        let mut findings = outcome.findings;
        let holds_record = inputs.holds_record(write);
        for finding in &mut findings {
            // What was merged in from the record is not the agent's input, and what a reference leads to
            // is not either.
            let is_own = is_of_template(write, &finding.expression);
            if holds_record && !is_own {
                finding.rests_on = RestsOn::Context;
            }
            // Good practice that nobody broke a rule by: a resource without narrative, say. It is shown, and is not
            // something that a person must read before they approve.
            if finding.severity == Severity::Warning && states_good_practice(finding) {
                finding.severity = Severity::Information;
            }
            if is_about_target(finding) {
                finding.rests_on = RestsOn::Context;
                // The fault is the record's, which this write does not touch: a reviewer sees it.
                finding.severity = finding.severity.min(Severity::Warning);
            }
        }
        let structural = findings.len();
        let patient = PatientRef {
            id: inputs.patient_id.as_deref().unwrap_or_default(),
            base_url: self.ehr.endpoint(),
        };
        for path in stray_references(self.definitions, resource, &patient) {
            findings.push(business_rule(
                "chaperone.reference-outside-patient",
                format!("{}.{path}", change.resource),
                "a reference leads outside the bound patient or this EHR",
            ));
        }
        for problem in self.transitions.check(inputs.base.as_ref(), resource) {
            findings.push(business_rule(
                "chaperone.status-transition",
                format!("{}.{}", change.resource, problem.element),
                "this state cannot follow the current one",
            ));
        }
        let (first, second) = findings.split_at(structural.min(findings.len()));
        let record = ValidationRecord {
            validator: format!("{}/{}", outcome.validator.name, outcome.validator.version),
            packages,
            stages: vec![
                stage("structure", true, first),
                stage(BUSINESS_RULES, true, second),
                stage(STAGE, false, &[]),
            ],
            rules: None,
            body: Digest::salted(salt, body.as_bytes()),
            findings: None,
        };
        (record, findings)
    }
}

/// Whether a place lies in an element that the tool's template fills.
fn is_of_template(write: &WriteAction, expression: &str) -> bool {
    let (_, below) = expression.split_once('.').unwrap_or((expression, ""));
    let element = below.split(['.', '[']).next().unwrap_or_default();
    write.template.contains_key(element)
}

/// Whether a finding is about what a reference leads to, rather than about what was proposed.
fn is_about_target(finding: &Finding) -> bool {
    finding.id == id::REFERENCE_TARGET_PROFILE
}

/// Whether what demands it says of itself that it is good practice rather than a rule.
///
/// # Source
/// FHIR R4, extension `elementdefinition-bestpractice`, such as on dom-6.
fn states_good_practice(finding: &Finding) -> bool {
    finding
        .details
        .as_ref()
        .is_some_and(|details| details.is_best_practice)
}

/// Limits of a proposed resource: far beyond any note, far below what could hurt.
pub(crate) fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.json.bytes_max = limits.json.bytes_max.min(1 << 20);
    limits.findings_max = limits.findings_max.min(100);
    limits
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one site: called with zero errors of schema, profile and business rules"
)]
pub(crate) fn conformant(record: ValidationRecord) -> Conformant {
    Conformant::attest(record)
}

pub(super) fn stage(name: &str, ran: bool, findings: &[Finding]) -> StageRecord {
    let count = |wanted: fn(Severity) -> bool| {
        u32::try_from(findings.iter().filter(|f| wanted(f.severity)).count()).unwrap_or(u32::MAX)
    };
    StageRecord {
        stage: name.to_owned(),
        ran,
        errors: count(Severity::is_error),
        warnings: count(|severity| severity == Severity::Warning),
    }
}

/// Counts further findings among the business rules.
pub(super) fn count_business_errors(record: &mut ValidationRecord, findings: &[Finding]) {
    let more = stage(BUSINESS_RULES, true, findings);
    let known = record.stages.iter_mut();
    for known in known.filter(|it| it.stage == BUSINESS_RULES) {
        known.errors = known.errors.saturating_add(more.errors);
    }
}

fn business_rule(id: &'static str, expression: String, message: &str) -> Finding {
    Finding {
        id,
        severity: Severity::Error,
        expression,
        position: None,
        message: message.to_owned(),
        rests_on: RestsOn::Context,
        details: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_the_template_fills_is_the_agents_own() {
        let write: WriteAction = serde_json::from_value(json!({
            "resource": "Appointment", "interaction": "update", "destination": "ehr",
            "target": "appointment", "template": { "status": "cancelled" },
        }))
        .unwrap();
        assert!(is_of_template(&write, "Appointment.status"));
        for record in [
            "Appointment",
            "Appointment.participant[0].status",
            "Appointment.statusReason",
        ] {
            assert!(!is_of_template(&write, record), "{record}");
        }
    }
}
