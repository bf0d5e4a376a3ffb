//! Rules M-01, M-11 and M-12, and the unknown drug: whether an order is complete and unambiguous.
//!
//! Doses are in [`super::doses`], combinations in [`super::combinations`], refills in [`super::refill`].
//! Nothing here replaces a pharmacist: what the curated table cannot judge goes to a human.
//! Start at [`Checking::medication`].

use serde_json::Value;

use super::drugs::{Drug, Known};
use super::element::{RXNORM, codings, list, number, text, walk};
use super::sig::{self, Dosing, Told};
use super::{Checking, Part, Proposal, prose, rule};

/// Types that say what a patient shall get. What a patient says they take is recorded as it is.
const PRESCRIBED: &[&str] = &[
    "MedicationRequest",
    "MedicationDispense",
    "MedicationAdministration",
];
/// States in which nothing is to be taken any more.
const OVER: &[&str] = &[
    "stopped",
    "cancelled",
    "completed",
    "entered-in-error",
    "declined",
    "not-done",
    "unknown",
];
/// Intents that are orders.
const ORDERS: &[&str] = &[
    "order",
    "original-order",
    "reflex-order",
    "filler-order",
    "instance-order",
];

impl<'c> Checking<'c> {
    pub(super) fn medication(&mut self) {
        if !self.is_to_be_taken() {
            return;
        }
        if self.type_name == "MedicationRequest" {
            self.complete();
        }
        self.written();
        self.route_and_form();
        let drugs = self.ordered_drugs();
        for drug in &drugs {
            self.doses(drug);
            self.slipped_dose(drug);
        }
        self.combinations(&drugs);
        if self.type_name == "MedicationRequest" {
            self.refill(&drugs);
        }
    }

    /// Whether the resource says what the patient shall get, and is not over.
    pub(super) fn is_to_be_taken(&self) -> bool {
        let is_given =
            self.type_name == "MedicationAdministration" || self.type_name == "MedicationDispense";
        let status = text(self.resource, "status").unwrap_or_default();
        let is_over = OVER.contains(&status) && !(is_given && status == "completed");
        PRESCRIBED.contains(&self.type_name) && !is_over
    }

    /// The drugs of the resource; an unknown one is reported once.
    fn ordered_drugs(&mut self) -> Vec<&'c Drug> {
        let rules = self.rules;
        let Some(concept) = sig::medication(self.resource) else {
            self.fire(
                &rule::UNKNOWN_DRUG,
                "ordered",
                "",
                &[Part::DrugKnowledge],
                &[],
            );
            return Vec::new();
        };
        let known = rules.drugs.concept(concept);
        if let Known::Whole(drugs) = known {
            return drugs;
        }
        if let Some(drugs) = self.ports.drugs.and_then(|port| port.find(concept)) {
            return drugs;
        }
        let path = "medicationCodeableConcept";
        self.fire(
            &rule::UNKNOWN_DRUG,
            "ordered",
            path,
            &[Part::DrugKnowledge],
            &[],
        );
        known.drugs().to_vec()
    }

    /// M-01.
    fn complete(&mut self) {
        let is_order = text(self.resource, "intent").is_some_and(|it| ORDERS.contains(&it))
            && text(self.resource, "status") != Some("draft");
        let mut missing = Vec::new();
        let codes: Vec<&str> = sig::medication(self.resource)
            .into_iter()
            .flat_map(codings)
            .filter(|it| it.system == RXNORM && !it.code.is_empty())
            .map(|it| it.code)
            .collect();
        if codes.is_empty() {
            missing.push("an RxNorm code");
        }
        let dosages = sig::dosages(self.resource);
        if dosages.is_empty() {
            missing.push("a dosage");
        }
        for (_, dosage) in &dosages {
            let dose = sig::dose(dosage);
            let lacks = [
                (dose.is_none(), "a dose"),
                (
                    dose.is_some_and(|(_, _, unit)| unit.is_empty()),
                    "a unit of the dose",
                ),
                (dosage.get("route").is_none(), "a route"),
                (sig::per_day(dosage).is_none(), "a frequency"),
            ];
            for (is_missing, what) in lacks {
                if is_missing && !missing.contains(&what) {
                    missing.push(what);
                }
            }
        }
        if !missing.is_empty() {
            let case = if is_order { "missing" } else { "draft" };
            let all = missing.join(", ");
            self.fire(&rule::M_01, case, "", &[], &[("element", &all)]);
        }
        let rules = self.rules;
        let is_ingredient = !codes.is_empty()
            && codes.iter().all(|code| {
                rules
                    .drugs
                    .by_code(code)
                    .iter()
                    .any(|it| it.is_ingredient_code(code))
            });
        if is_order && is_ingredient {
            self.fire(
                &rule::M_01,
                "ingredient-only",
                "medicationCodeableConcept",
                &[],
                &[],
            );
        }
        for (path, dosage) in dosages {
            self.text_agrees(&path, dosage);
        }
    }

    fn text_agrees(&mut self, path: &str, dosage: &Value) {
        let Some(written) = text(dosage, "text") else {
            return;
        };
        let rules = self.rules;
        let told = Told::read(written, &rules.drugs);
        let mut differs = Vec::new();
        let concept = sig::medication(self.resource);
        let known = concept.map_or(Known::Nothing, |it| rules.drugs.concept(it));
        // With several ingredients the words do not say which amount belongs to which.
        if let [drug] = known.drugs()
            && let Some((low, high)) = Dosing::read(self.resource, drug)
                .iter()
                .find(|it| it.path == path)
                .and_then(|it| it.mg)
        {
            let is_said = |mg: f64| told.mg.iter().any(|it| (it / mg - 1.0).abs() < 1e-6);
            if !told.mg.is_empty() && !is_said(low) && !is_said(high) {
                differs.push("the dose");
            }
        }
        if let (Some(told), Some(coded)) = (told.per_day, sig::per_day(dosage))
            && (told / coded - 1.0).abs() > 0.01
        {
            differs.push("the frequency");
        }
        if let (Some(told), Some(coded)) = (
            told.route.as_deref(),
            dosage.get("route").and_then(|it| rules.drugs.route(it)),
        ) && told != coded
        {
            differs.push("the route");
        }
        if !differs.is_empty() {
            let all = differs.join(", ");
            let path = format!("{path}.text");
            self.fire(&rule::M_01, "text", &path, &[], &[("element", &all)]);
        }
    }

    /// M-11, as far as it is about how doses are written.
    ///
    /// # Source
    /// ISMP List of Error-Prone Abbreviations, Symbols, and Dose Designations.
    fn written(&mut self) {
        let mut texts: Vec<(String, &str)> = Vec::new();
        walk(self.resource, &mut |path, key, value| {
            let is_sig = path.starts_with("dosage") && matches!(key, "text" | "patientInstruction");
            if let (true, Some(text)) = (is_sig, value.as_str()) {
                texts.push((path.to_owned(), text));
            }
        });
        for (path, text) in texts {
            for amount in prose::amounts(text) {
                let case = if amount.unit == "u" {
                    "abbreviation"
                } else if amount.written.starts_with('.') {
                    "naked-decimal"
                } else if amount
                    .written
                    .split_once('.')
                    .is_some_and(|(_, decimals)| decimals.bytes().all(|it| it == b'0'))
                {
                    "trailing-zero"
                } else {
                    continue;
                };
                let dose = format!("{} {}", amount.written, amount.unit);
                self.fire(&rule::M_11, case, &path, &[], &[("dose", &dose)]);
            }
        }
    }

    /// M-11 and K-06: a dose that is usual only with its point or unit moved.
    fn slipped_dose(&mut self, drug: &'c Drug) {
        let Some([low, high]) = drug.usual_mg else {
            self.unchecked(&rule::M_11, Part::DrugKnowledge);
            return;
        };
        // Children's doses go by weight.
        let adult = self.limit(&rule::V_02, "adult_years");
        let parts: &[Part] = match self.age_at_event() {
            Some((age, _)) if age < adult => return,
            Some(_) => &[Part::Patient],
            None => &[],
        };
        let factor = self.limit(&rule::M_11, "slip_factor");
        for dosing in Dosing::read(self.resource, drug) {
            let Some((_, mg)) = dosing.mg else { continue };
            let is_usual = |mg: f64| (low * 0.999..=high * 1.001).contains(&mg);
            // Somewhat more or less than usual is not a slip.
            if (low / factor..=high * factor).contains(&mg) {
                continue;
            }
            let moved = |factor: f64| is_usual(mg * factor).then_some(mg * factor);
            let (dose, low, high) = (number(mg), number(low), number(high));
            let ten = moved(0.1).or(moved(10.0));
            let thousand = moved(0.001).or(moved(1000.0));
            let Some(meant) = ten.or(thousand) else {
                continue;
            };
            let proposed = number(meant);
            let words = [
                ("drug", drug.id.as_str()),
                ("dose", dose.as_str()),
                ("low", low.as_str()),
                ("high", high.as_str()),
                ("proposed", proposed.as_str()),
                ("name", drug.id.as_str()),
                ("value", dose.as_str()),
                ("unit", "mg"),
                ("proposed_unit", "mg"),
            ];
            let proposal = Some(Proposal {
                value: meant,
                unit: "mg".to_owned(),
            });
            let path = dosing.path.as_str();
            if ten.is_some() {
                self.fire_proposing(&rule::M_11, "ten-fold", path, parts, &words, proposal);
            } else if meant < 1.0 || mg < 1.0 && dosing.unit == "ug" {
                // A drug of microgram doses, or a dose written in micrograms.
                self.fire_proposing(&rule::M_11, "thousand-fold", path, parts, &words, proposal);
            } else {
                self.fire_proposing(&rule::K_06, "dose", path, parts, &words, proposal);
            }
        }
    }

    /// M-12.
    fn route_and_form(&mut self) {
        let rules = self.rules;
        let names = sig::medication_words(self.resource);
        let form = rules.drugs.forms.iter().find(|form| {
            names
                .iter()
                .any(|name| prose::has_phrase(&prose::words(name), &form.words))
        });
        for (path, dosage) in sig::dosages(self.resource) {
            let route = dosage.get("route").and_then(|it| rules.drugs.route(it));
            if let (Some(form), Some(route)) = (form, route)
                && !form.routes.iter().any(|it| it == route)
            {
                let words = [("form", form.words.as_str()), ("route", route)];
                let path = format!("{path}.route");
                self.fire(&rule::M_12, "route", &path, &[], &words);
            }
            let has_reason = !list(self.resource, "reasonCode").is_empty()
                || !list(self.resource, "reasonReference").is_empty();
            if dosage.get("asNeededBoolean") == Some(&Value::Bool(true)) && !has_reason {
                let path = format!("{path}.asNeededBoolean");
                self.fire(&rule::M_12, "as-needed", &path, &[], &[]);
            }
        }
    }
}
