//! Rules that conformance resources keep towards the definitions they refer to: what a SearchParameter is
//! derived from and selects, which search parameters a CapabilityStatement names, which elements a profile
//! constrains and how, of which types the properties of codes are.
//!
//! Invariants and snapshots are not its business, and what is not at hand is not judged.
//! Start at [`check`].
//!
//! Rules: <https://hl7.org/fhir/R4/searchparameter.html>, <https://hl7.org/fhir/R4/capabilitystatement.html>,
//! <https://hl7.org/fhir/R4/profiling.html>.

mod code_system;
mod profile;
mod search_parameter;

use std::sync::Arc;

use crate::catalogue::Catalogue;
use crate::definitions::Definitions;
use crate::finding::{Finding, Severity, id};
use crate::json::{Document, Value};
use crate::validate::{Report, each_resource};

pub use search_parameter::{GenerateError, generate};

/// Most profiles of one document that are compared with their bases: each needs a snapshot of its own.
pub const COMPARED_MAX: usize = 200;

/// Checks every conformance resource of a document.
#[must_use]
pub fn check(
    definitions: &Definitions,
    catalogue: &Arc<Catalogue>,
    document: &Document<'_>,
    findings_max: usize,
) -> Vec<Finding> {
    let mut report = Report::new(document, findings_max);
    let mut compared = 0;
    each_resource(
        document,
        &[
            "SearchParameter",
            "CapabilityStatement",
            "CodeSystem",
            "StructureDefinition",
        ],
        &mut |resource, expression| match text(resource, "resourceType") {
            Some("SearchParameter") => {
                search_parameter::of_parameter(catalogue, resource, expression, &mut report);
                search_parameter::selected(definitions, resource, expression, &mut report);
            }
            Some("CapabilityStatement") => {
                search_parameter::capabilities(catalogue, resource, expression, &mut report);
            }
            Some("CodeSystem") => code_system::properties(resource, expression, &mut report),
            _ => {
                profile::differential(definitions, resource, expression, &mut report);
                compared += 1;
                if compared <= COMPARED_MAX {
                    profile::towards_base(catalogue, resource, expression, &mut report);
                } else if compared == COMPARED_MAX + 1 {
                    let message = format!(
                        "only the first {COMPARED_MAX} profiles of a document are compared with their bases; this one and what follows were not"
                    );
                    report.add(
                        id::DEFINITION_NOT_CHECKED,
                        Severity::Warning,
                        resource,
                        expression.to_owned(),
                        message,
                        None,
                    );
                }
            }
        },
    );
    report.finish()
}

fn text<'d>(of: Value<'d>, name: &str) -> Option<&'d str> {
    of.get(name).and_then(Value::as_str)
}

#[cfg(test)]
mod tests;
