//! Checks of a medication order against the patient's allergies and other prescriptions, and of its
//! dose. Data stands in `rules/medication-checks.toml`; here is how it is applied.
//!
//! Three answers: something fired, nothing fired, or it could not be checked. The last is not the
//! second: a drug without a maximum, a dose in tablets, a list longer than one page all leave the fact
//! out, and the matrix asks for two people.

use chaperone_core::ports::EhrSearch;
use chaperone_core::resource::ResourceType;
use serde::Deserialize;
use serde_json::Value;

use crate::context::Engine;
use crate::errors::CallError;
use crate::propose::Inputs;
use crate::tables::{Drug, drug_words};

/// Most allergies or prescriptions looked at; a longer list is not checked.
const LISTED_MAX: u32 = 100;

/// `rules/medication-checks.toml`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct MedicationChecks {
    decimal: Decimal,
    max_daily: Vec<MaxDaily>,
    interactions: Vec<Interaction>,
}

#[derive(Debug, Default, Deserialize)]
struct Decimal {
    factor: f64,
}

#[derive(Debug, Deserialize)]
struct MaxDaily {
    drug: String,
    mg: f64,
}

#[derive(Debug, Deserialize)]
struct Interaction {
    one: Vec<String>,
    other: Vec<String>,
}

impl Engine {
    /// Whether a check fired; `None` when not every check could be made.
    pub(crate) async fn medication_check_fired(
        &self,
        inputs: &Inputs,
        order: &Value,
    ) -> Result<Option<bool>, CallError> {
        let Some(patient_id) = &inputs.patient_id else {
            return Ok(None);
        };
        let ordered = self.tables.drugs_of(order.get("medicationCodeableConcept"));
        if ordered.is_empty() {
            return Ok(None);
        }
        let prior = inputs.resources.get("prior");
        let dose = self.dose_fired(&ordered, order, prior);
        let allergies = match self.list("AllergyIntolerance", patient_id, &[]).await? {
            Some(list) => self.allergy_fired(&ordered, &list),
            None => None,
        };
        let active = [("status", "active")];
        let others = match self.list("MedicationRequest", patient_id, &active).await? {
            Some(list) => self.combination_fired(&ordered, &list, prior),
            None => None,
        };
        let all = [dose, allergies, others];
        Ok(if all.contains(&Some(true)) {
            Some(true)
        } else if all.contains(&None) {
            None
        } else {
            Some(false)
        })
    }

    /// The patient's resources of a type; `None` when there are more than are looked at.
    async fn list(
        &self,
        resource: &str,
        patient_id: &str,
        also: &[(&str, &str)],
    ) -> Result<Option<Vec<Value>>, CallError> {
        let mut parameters = vec![("patient".to_owned(), format!("Patient/{patient_id}"))];
        parameters.extend(also.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        let resource = ResourceType::new(resource).map_err(|_| CallError::internal())?;
        let found = self
            .ehr
            .search(EhrSearch {
                resource,
                parameters,
                limit: LISTED_MAX,
            })
            .await?;
        let is_own = found
            .resources
            .iter()
            .all(|r| self.belongs_to(r, patient_id));
        if !is_own {
            return Err(CallError::ehr_unusable());
        }
        Ok((!found.more).then_some(found.resources))
    }

    /// A record of an allergy to a drug that the table does not know leaves the check undecided.
    fn allergy_fired(&self, ordered: &[&Drug], allergies: &[Value]) -> Option<bool> {
        let mut undecided = false;
        for allergy in allergies.iter().filter(|a| is_in_force(a)) {
            let words = drug_words(allergy.get("code"));
            let named = self.tables.drugs_of(allergy.get("code"));
            let is_group = |drug: &&Drug| {
                drug.allergy_groups.iter().any(|group| {
                    words.iter().any(|text| text.contains(group.as_str()))
                        || named
                            .iter()
                            .any(|other| other.allergy_groups.contains(group))
                })
            };
            let is_same = |drug: &&Drug| named.iter().any(|other| other.id == drug.id);
            if ordered.iter().any(|drug| is_same(drug) || is_group(drug)) {
                return Some(true);
            }
            undecided |= named.is_empty() && may_be_a_drug(allergy);
        }
        (!undecided).then_some(false)
    }

    fn combination_fired(
        &self,
        ordered: &[&Drug],
        active: &[Value],
        prior: Option<&Value>,
    ) -> Option<bool> {
        let prior_id = prior.and_then(|p| p.get("id"));
        let mut undecided = false;
        for request in active.iter().filter(|r| r.get("id") != prior_id) {
            let others = self
                .tables
                .drugs_of(request.get("medicationCodeableConcept"));
            undecided |= others.is_empty();
            for (drug, other) in ordered
                .iter()
                .flat_map(|d| others.iter().map(move |o| (d, o)))
            {
                let is_duplicate = drug.id == other.id || drug.class == other.class;
                let names = |side: &[String], drug: &Drug| {
                    side.iter()
                        .any(|name| *name == drug.id || *name == drug.class)
                };
                let interacts = self.tables.checks.interactions.iter().any(|i| {
                    (names(&i.one, drug) && names(&i.other, other))
                        || (names(&i.one, other) && names(&i.other, drug))
                });
                if is_duplicate || interacts {
                    return Some(true);
                }
            }
        }
        (!undecided).then_some(false)
    }

    fn dose_fired(&self, ordered: &[&Drug], order: &Value, prior: Option<&Value>) -> Option<bool> {
        let daily = daily_mg(order)?;
        let checks = &self.tables.checks;
        for drug in ordered {
            let limit = checks
                .max_daily
                .iter()
                .find(|limit| limit.drug == drug.id)?;
            if daily > limit.mg {
                return Some(true);
            }
        }
        // Without a comparable prior dose there is nothing to slip against.
        let slipped = prior.and_then(daily_mg).is_some_and(|before| {
            before > 0.0
                && (daily / before >= checks.decimal.factor
                    || before / daily >= checks.decimal.factor)
        });
        Some(slipped)
    }
}

/// Milligrams a day, where timing and dose are coded; `None` for anything else.
fn daily_mg(request: &Value) -> Option<f64> {
    let dosages = request.get("dosageInstruction")?.as_array()?;
    let [dosage] = dosages.as_slice() else {
        return None;
    };
    let repeat = dosage.pointer("/timing/repeat")?;
    let frequency = repeat.get("frequency")?.as_f64()?;
    let period = repeat.get("period")?.as_f64().filter(|p| *p > 0.0)?;
    let days = match repeat.get("periodUnit")?.as_str()? {
        "h" => period / 24.0,
        "d" => period,
        "wk" => period * 7.0,
        _ => return None,
    };
    let dose = dosage.pointer("/doseAndRate/0/doseQuantity")?;
    let value = dose.get("value")?.as_f64().filter(|v| *v > 0.0)?;
    let mg = match dose.get("code")?.as_str()? {
        "mg" => value,
        "g" => value * 1_000.0,
        "ug" => value / 1_000.0,
        _ => return None,
    };
    Some(mg * frequency / days)
}

fn is_in_force(allergy: &Value) -> bool {
    let code = |element: &str| {
        allergy
            .pointer(&format!("/{element}/coding/0/code"))
            .and_then(Value::as_str)
    };
    !matches!(code("clinicalStatus"), Some("inactive" | "resolved"))
        && !matches!(
            code("verificationStatus"),
            Some("refuted" | "entered-in-error")
        )
}

fn may_be_a_drug(allergy: &Value) -> bool {
    allergy
        .get("category")
        .and_then(Value::as_array)
        .is_none_or(|categories| {
            categories.is_empty()
                || categories
                    .iter()
                    .any(|c| matches!(c.as_str(), Some("medication" | "biologic")))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn order(value: f64, unit: &str, frequency: u32, period_unit: &str) -> Value {
        json!({ "dosageInstruction": [{
            "timing": { "repeat": { "frequency": frequency, "period": 1, "periodUnit": period_unit } },
            "doseAndRate": [{ "doseQuantity": { "value": value, "code": unit } }],
        }] })
    }

    #[test]
    fn a_daily_dose_needs_coded_timing_and_a_mass() {
        assert_eq!(daily_mg(&order(20.0, "mg", 2, "d")), Some(40.0));
        assert_eq!(daily_mg(&order(0.5, "g", 1, "d")), Some(500.0));
        assert_eq!(daily_mg(&order(70.0, "mg", 1, "wk")), Some(10.0));
        assert_eq!(daily_mg(&order(1.0, "{tbl}", 1, "d")), None);
        assert_eq!(daily_mg(&order(20.0, "mg", 1, "mo")), None);
        assert_eq!(daily_mg(&json!({})), None);
    }

    #[test]
    fn an_allergy_of_unknown_kind_may_be_one_to_a_drug() {
        assert!(may_be_a_drug(&json!({})));
        assert!(may_be_a_drug(
            &json!({ "category": ["food", "medication"] })
        ));
        assert!(!may_be_a_drug(&json!({ "category": ["environment"] })));
    }
}
