//! Rule C-09: a narrative must not say what the structured part does not.
//!
//! Four things are compared: drugs, amounts, sides, negation. A text that says less is no finding.
//! Start at [`Checking::narrative`].

use serde_json::Value;

use super::element::{self, codings, number, state, text, walk};
use super::prose::{self, Mention};
use super::{Checking, rule};

/// Types whose narrative a reader may act on.
const ACTED_ON: &[&str] = &[
    "AllergyIntolerance",
    "CarePlan",
    "Condition",
    "DiagnosticReport",
    "Immunization",
    "MedicationAdministration",
    "MedicationRequest",
    "MedicationStatement",
    "Observation",
    "Procedure",
    "ServiceRequest",
];

impl Checking<'_> {
    pub(super) fn narrative(&mut self) {
        let div = element::text_at(self.resource, "/text/div").unwrap_or_default();
        if div.is_empty() || !ACTED_ON.contains(&self.type_name) || self.is_retracted() {
            return;
        }
        let told = prose::plain(div);
        let structured = structured_text(self.resource);
        let rules = self.rules;

        let known = rules.drugs.mentioned(&structured);
        let coded: Vec<&str> = ["medicationCodeableConcept", "code", "vaccineCode"]
            .iter()
            .filter_map(|it| self.resource.get(*it))
            .flat_map(codings)
            .flat_map(|it| rules.drugs.by_code(it.code))
            .map(|drug| drug.id.as_str())
            .collect();
        for drug in rules.drugs.mentioned(&told) {
            let is_there =
                known.iter().any(|it| it.id == drug.id) || coded.contains(&drug.id.as_str());
            if !is_there {
                let words = [("drug", drug.id.as_str())];
                self.fire(&rule::C_09, "drug", "text.div", &[], &words);
            }
        }

        let amounts = structured_amounts(self.resource, &structured);
        for amount in prose::amounts(&told) {
            let is_dose = matches!(
                amount.unit.as_str(),
                "mg" | "mcg" | "ug" | "µg" | "μg" | "g" | "ml" | "units" | "unit"
            );
            if is_dose && !amounts.iter().any(|it| (it - amount.value).abs() < 1e-9) {
                let dose = format!("{} {}", number(amount.value), amount.unit);
                self.fire(&rule::C_09, "dose", "text.div", &[], &[("dose", &dose)]);
            }
        }

        let mut sides = prose::sides(&structured);
        for element in ["code", "bodySite", "site"] {
            for (_, concept) in element::each(self.resource, element) {
                for coding in codings(concept) {
                    sides = sides.and(rules.codes.coded_side(&coding));
                }
            }
        }
        let told_sides = prose::sides(&told);
        let is_new_left = told_sides.left && !sides.left;
        let is_new_right = told_sides.right && !sides.right;
        // Only where a side matters: the structured part has one, or the type has a place for it.
        let has_place = matches!(
            self.type_name,
            "Condition" | "Procedure" | "ServiceRequest" | "Observation"
        );
        if has_place && (is_new_left || is_new_right) {
            let side = if is_new_left { "left" } else { "right" };
            self.fire(
                &rule::C_09,
                "laterality",
                "text.div",
                &[],
                &[("side", side)],
            );
        }

        self.negated_narrative(&told);
    }

    fn negated_narrative(&mut self, told: &str) {
        if !matches!(self.type_name, "Condition" | "AllergyIntolerance")
            || state(self.resource, "verificationStatus") == Some("refuted")
        {
            return;
        }
        let Some(code) = self.resource.get("code") else {
            return;
        };
        let display = codings(code)
            .map(|it| it.display)
            .find(|it| !it.is_empty())
            .or_else(|| text(code, "text"))
            .unwrap_or_default();
        let cues = &self.rules.codes.cues.negation;
        let is_in_code = cues
            .iter()
            .any(|cue| prose::has_phrase(&prose::words(display), cue));
        let term = prose::telling_words(display);
        if !is_in_code
            && !term.is_empty()
            && matches!(prose::mention(told, &term, cues), Mention::Cued(_))
        {
            self.fire(&rule::C_09, "negation", "text.div", &[], &[]);
        }
    }
}

/// All text of the resource outside its narrative, in one line.
fn structured_text(resource: &Value) -> String {
    let mut all = String::new();
    walk(resource, &mut |path, _, value| {
        if let Some(text) = value.as_str()
            && !path.starts_with("text")
            && all.len() < 64 * 1024
        {
            all.push_str(text);
            all.push_str(" \n");
        }
    });
    all
}

/// All numbers of the resource outside its narrative, those in its texts included.
fn structured_amounts(resource: &Value, structured: &str) -> Vec<f64> {
    let mut found: Vec<f64> = prose::amounts(structured)
        .iter()
        .map(|it| it.value)
        .collect();
    walk(resource, &mut |path, _, value| {
        if !path.starts_with("text") {
            found.extend(value.as_f64());
        }
    });
    found
}
