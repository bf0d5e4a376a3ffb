//! Rules M-02, M-03 and M-07 to M-09: a drug against the patient's allergies, other drugs, kidneys, pregnancy.
//!
//! A list that nobody looked up, or a drug in it that the table does not know, is never "no finding".
//! Start at [`Checking::combinations`].

use serde_json::Value;

use super::code_tables::{Group, is_in_force};
use super::doses::Newest;
use super::drugs::{Drug, Known, RenalSeverity};
use super::element::{list, number, state, text};
use super::{Checking, Effect, Part, Sex, rule, sig};

impl<'c> Checking<'c> {
    pub(super) fn combinations(&mut self, drugs: &[&'c Drug]) {
        self.allergies(drugs);
        self.others(drugs);
        for drug in drugs {
            self.kidneys(drug);
            if drug.pregnancy {
                self.pregnancy(drug);
            }
        }
    }

    /// M-02.
    fn allergies(&mut self, drugs: &[&'c Drug]) {
        let rules = self.rules;
        let context = self.context;
        let Some(allergies) = &context.allergies else {
            self.unchecked(&rule::M_02, Part::Allergies);
            return;
        };
        let mut unknown = false;
        for allergy in allergies.iter().filter(|it| is_in_force(it)) {
            let Some(code) = allergy.get("code") else {
                unknown |= may_be_a_drug(allergy);
                continue;
            };
            let known = rules.drugs.concept(code);
            let mut groups = rules.drugs.groups_of(code);
            for other in known.drugs() {
                groups.extend(rules.drugs.groups_of_drug(other));
            }
            let parts = [Part::Allergies];
            for drug in drugs {
                let own = rules.drugs.groups_of_drug(drug);
                if known.drugs().iter().any(|it| it.id == drug.id) {
                    let words = [("drug", drug.id.as_str())];
                    self.fire(&rule::M_02, "ingredient", "", &parts, &words);
                } else if let Some(group) = own.intersection(&groups).next() {
                    let words = [("drug", drug.id.as_str()), ("group", group)];
                    self.fire(&rule::M_02, "group", "", &parts, &words);
                }
            }
            let is_none = is_no_known(code);
            unknown |= !is_none
                && groups.is_empty()
                && !matches!(known, Known::Whole(_))
                && may_be_a_drug(allergy);
        }
        if unknown {
            let parts = [Part::Allergies, Part::DrugKnowledge];
            self.fire(&rule::UNKNOWN_DRUG, "listed", "", &parts, &[]);
        }
    }

    /// M-03 and M-09.
    fn others(&mut self, drugs: &[&'c Drug]) {
        let rules = self.rules;
        let context = self.context;
        let Some(medications) = &context.medications else {
            self.unchecked(&rule::M_03, Part::Medications);
            self.unchecked(&rule::M_09, Part::Medications);
            return;
        };
        // The order that this one continues or replaces is not beside it.
        let own: Vec<String> = [
            text(self.resource, "id").map(|id| format!("MedicationRequest/{id}")),
            super::element::reference(self.resource, "priorPrescription"),
        ]
        .into_iter()
        .flatten()
        .chain(
            list(self.resource, "basedOn")
                .iter()
                .filter_map(super::element::reference_of),
        )
        .chain(
            list(self.resource, "authorizingPrescription")
                .iter()
                .filter_map(super::element::reference_of),
        )
        .chain(super::element::reference(self.resource, "request"))
        .collect();
        let mut unknown = false;
        for other in medications.iter().filter(|it| is_taken(it)) {
            let id = format!(
                "{}/{}",
                super::element::resource_type(other),
                text(other, "id").unwrap_or_default()
            );
            if own.contains(&id) {
                continue;
            }
            let known = sig::medication(other).map_or(Known::Nothing, |it| rules.drugs.concept(it));
            unknown |= !matches!(known, Known::Whole(_));
            for drug in drugs {
                for beside in known.drugs() {
                    self.pair(drug, beside);
                }
            }
        }
        // Two ingredients of one product are meant to go together, but a code and a display that differ are not.
        if unknown {
            let parts = [Part::Medications, Part::DrugKnowledge];
            self.fire(&rule::UNKNOWN_DRUG, "listed", "", &parts, &[]);
        }
    }

    fn pair(&mut self, drug: &'c Drug, beside: &'c Drug) {
        let rules = self.rules;
        let parts = [Part::Medications];
        if drug.id == beside.id {
            let words = [("drug", drug.id.as_str())];
            self.fire(&rule::M_03, "same-drug", "", &parts, &words);
            return;
        }
        if drug.class == beside.class && rules.drugs.is_duplicate_class(&drug.class) {
            let words = [("drug", drug.id.as_str()), ("class", drug.class.as_str())];
            self.fire(&rule::M_03, "same-class", "", &parts, &words);
        }
        if let Some(row) = rules.drugs.interaction(drug, beside) {
            // Two classes that are one therapy are a duplicate, as the row's id says.
            if row.id.starts_with("M-03") {
                let words = [("drug", drug.id.as_str()), ("class", beside.class.as_str())];
                self.fire(&rule::M_03, "same-class", "", &parts, &words);
                return;
            }
            let case = match row.severity {
                Effect::Block => "block",
                Effect::TwoPerson => "two-person",
                Effect::Warn | Effect::Info => "warn",
            };
            let words = [
                ("drug", drug.id.as_str()),
                ("other", beside.id.as_str()),
                ("why", row.why.as_str()),
            ];
            self.fire(&rule::M_09, case, "", &parts, &words);
        }
    }

    /// M-07.
    fn kidneys(&mut self, drug: &'c Drug) {
        let Some(renal) = &drug.renal else { return };
        let days = self.limit(&rule::M_07, "days");
        let egfr = match (self.context.egfr, self.newest("egfr", days)) {
            (Some(egfr), _) | (None, Newest::Value(egfr)) => egfr,
            (None, Newest::NotLooked | Newest::None | Newest::Unreadable) => {
                self.unchecked(&rule::M_07, Part::KidneyFunction);
                return;
            }
        };
        if egfr < renal.below {
            let case = match renal.severity {
                RenalSeverity::Block => "block",
                RenalSeverity::Warn => "warn",
            };
            let (egfr, limit) = (number(egfr), number(renal.below));
            let words = [
                ("drug", drug.id.as_str()),
                ("egfr", egfr.as_str()),
                ("limit", limit.as_str()),
            ];
            self.fire(&rule::M_07, case, "", &[Part::KidneyFunction], &words);
        }
    }

    /// M-08.
    fn pregnancy(&mut self, drug: &'c Drug) {
        match self.is_pregnant() {
            Some(true) => {
                let words = [("drug", drug.id.as_str())];
                self.fire(&rule::M_08, "pregnancy", "", &[Part::Pregnancy], &words);
            }
            Some(false) => {}
            None => {
                let ages = self.limit(&rule::M_08, "age_min")..=self.limit(&rule::M_08, "age_max");
                let is_possible = self.age_now().is_none_or(|age| ages.contains(&age));
                let is_male = self
                    .context
                    .patient
                    .present()
                    .is_some_and(|it| it.sex == Sex::Male);
                if is_possible && !is_male {
                    self.unchecked(&rule::M_08, Part::Pregnancy);
                }
            }
        }
    }

    /// Whether somebody recorded that the patient is or is not pregnant.
    fn is_pregnant(&self) -> Option<bool> {
        if self.context.pregnant.is_some() {
            return self.context.pregnant;
        }
        if self.has_condition(Group::Pregnant) == Some(true) {
            return Some(true);
        }
        let tables = &self.rules.codes;
        let status = self
            .context
            .observations
            .iter()
            .flatten()
            .filter(|it| {
                it.get("code")
                    .is_some_and(|code| tables.means(Group::PregnancyStatus, code))
            })
            .filter_map(|it| {
                let at = text(it, "effectiveDateTime").and_then(|it| self.when(it))?;
                Some((at.latest, it.get("valueCodeableConcept")?))
            })
            .max_by_key(|(at, _)| *at)
            .map(|(_, value)| value)?;
        if tables.means(Group::Pregnant, status) {
            return Some(true);
        }
        tables.means(Group::NotPregnant, status).then_some(false)
    }
}

/// Whether a medication in the list is being taken, or may be.
fn is_taken(medication: &Value) -> bool {
    matches!(
        text(medication, "status"),
        None | Some("active" | "on-hold" | "intended" | "unknown" | "recorded")
    )
}

fn may_be_a_drug(allergy: &Value) -> bool {
    let categories = list(allergy, "category");
    categories.is_empty()
        || categories
            .iter()
            .any(|it| matches!(it.as_str(), Some("medication" | "biologic")))
}

/// Whether a record says that no allergy is known.
///
/// # Source
/// SNOMED CT 716186003 (no known allergy), 409137002 (no known drug allergy).
fn is_no_known(code: &Value) -> bool {
    state(&serde_json::json!({ "code": code }), "code")
        .is_some_and(|it| matches!(it, "716186003" | "409137002"))
}
