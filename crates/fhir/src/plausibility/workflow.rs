//! Rules K-12 and K-13: status changes, and the same thing written twice.
//!
//! The graphs belong to [`crate::status`]. Start at [`Checking::workflow`].

use serde_json::Value;

use super::element::{self, LOINC, codings, list, quantity, text};
use super::{Checking, Observed, Part, When, rule};

impl Checking<'_> {
    pub(super) fn workflow(&mut self) {
        self.transition();
        if !self.is_retracted() {
            self.duplicate();
        }
    }

    /// K-12.
    fn transition(&mut self) {
        let before = match &self.context.prior {
            Observed::Present(prior) => Some(prior),
            Observed::Absent => None,
            Observed::Unknown => {
                if self.rules.transitions.covers(self.type_name) {
                    self.unchecked(&rule::K_12, Part::Prior);
                }
                return;
            }
        };
        // A prior version of another type is the caller's slip, not a transition.
        if before.is_some_and(|it| element::resource_type(it) != self.type_name) {
            self.unchecked(&rule::K_12, Part::Prior);
            return;
        }
        for problem in self.rules.transitions.check(before, self.resource) {
            let case = match (&problem.from, problem.rule.as_str()) {
                (_, "frozen") => "frozen",
                (None, _) => "created",
                (Some(_), _) => "transition",
            };
            let allowed = if problem.allowed.is_empty() {
                "nothing else".to_owned()
            } else {
                problem.allowed.join(", ")
            };
            let words = [
                ("element", problem.element.as_str()),
                ("from", problem.from.as_deref().unwrap_or("nothing")),
                ("to", problem.to.as_deref().unwrap_or("nothing")),
                ("allowed", allowed.as_str()),
            ];
            let parts: &[Part] = if before.is_some() {
                &[Part::Prior]
            } else {
                &[]
            };
            self.fire(&rule::K_12, case, &problem.element, parts, &words);
        }
    }

    /// K-13.
    fn duplicate(&mut self) {
        let (part, known, time) = match self.type_name {
            "Observation" => (
                Part::Observations,
                &self.context.observations,
                &OBSERVED[..],
            ),
            "Condition" => (Part::Conditions, &self.context.conditions, &ONSET[..]),
            "AllergyIntolerance" => (Part::Allergies, &self.context.allergies, &ONSET[..]),
            _ => return,
        };
        let Some(known) = known else {
            self.unchecked(&rule::K_13, part);
            return;
        };
        let minutes = self.limit(&rule::K_13, "minutes");
        let id = text(self.resource, "id");
        let own_time = self.first_time(self.resource, time);
        for other in known {
            if id.is_some() && text(other, "id") == id {
                continue;
            }
            if element::state(other, "status") == Some("entered-in-error")
                || element::state(other, "verificationStatus") == Some("entered-in-error")
                || !is_same_code(self.resource, other)
                || !is_same_value(self.resource, other)
            {
                continue;
            }
            let is_near = match (&own_time, self.first_time(other, time)) {
                (Some(one), Some(other)) => one.is_near(&other, minutes),
                // Without times, a condition or allergy is the same one.
                (None, None) => self.type_name != "Observation",
                _ => false,
            };
            if is_near {
                let case = if is_same_submission(self.resource, other) {
                    "resubmitted"
                } else {
                    "duplicate"
                };
                self.fire(&rule::K_13, case, "", &[part], &[]);
                return;
            }
        }
    }

    fn first_time(&self, resource: &Value, elements: &[&str]) -> Option<When> {
        elements
            .iter()
            .find_map(|it| text(resource, it))
            .and_then(|it| self.when(it))
    }
}

const OBSERVED: [&str; 2] = ["effectiveDateTime", "effectiveInstant"];
const ONSET: [&str; 1] = ["onsetDateTime"];

/// Whether two resources share a coding.
pub(super) fn is_same_code(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.get("code"), other.get("code")) else {
        return false;
    };
    codings(one)
        .filter(|it| !it.code.is_empty())
        .any(|it| codings(other).any(|other| other.system == it.system && other.code == it.code))
}

/// Whether two Observations say the same; what is not a value counts as equal if both have none.
fn is_same_value(one: &Value, other: &Value) -> bool {
    let values = |resource: &Value| -> Vec<(String, Value)> {
        let mut found: Vec<(String, Value)> = Vec::new();
        for holder in std::iter::once(resource).chain(list(resource, "component")) {
            let code = holder
                .get("code")
                .and_then(|it| element::code_in(it, LOINC));
            for (key, value) in holder.as_object().into_iter().flatten() {
                if key.starts_with("value") {
                    let value = match quantity(value) {
                        Some(it) => serde_json::json!([it.value, it.code]),
                        None => value.clone(),
                    };
                    found.push((code.unwrap_or_default().to_owned(), value));
                }
            }
        }
        found.sort_by(|one, other| one.0.cmp(&other.0));
        found
    };
    values(one) == values(other)
}

/// Whether two resources carry the same business identifier: then it is one submission, sent twice.
fn is_same_submission(one: &Value, other: &Value) -> bool {
    let keys = |resource: &Value| -> Vec<(String, String)> {
        list(resource, "identifier")
            .iter()
            .filter_map(|it| {
                Some((
                    text(it, "system").unwrap_or_default().to_owned(),
                    text(it, "value")?.to_owned(),
                ))
            })
            .collect()
    };
    let others = keys(other);
    keys(one).iter().any(|it| others.contains(it))
}
