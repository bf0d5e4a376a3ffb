//! Facts that Chaperone observes itself before ruling: slots re-read, drugs looked up, presence live.
//!
//! An observer that cannot tell leaves its fact out; absent means unknown, and no row that lets
//! something pass applies to the unknown. A tool that asks for a fact nobody here computes gets none.

use std::collections::BTreeSet;

use chaperone_core::bundle::WriteAction;
use chaperone_core::evidence::WriteOrder;
use chaperone_core::facts::{FactKind, FactValue, Facts};
use chaperone_core::ports::EhrReadFailed;
use chaperone_core::resource::ResourceType;
use chaperone_fhir::plausibility::MedicationKind;
use chaperone_phi::labels::Labels;
use jiff::civil::Date;
use serde_json::Value;

use crate::call::Admitted;
use crate::context::Engine;
use crate::errors::CallError;
use crate::propose::{Inputs, Plausible, REFILL_CHECKS};
use crate::refill::PROTOCOL_IN_FORCE;

/// Age of majority, in years.
const MAJORITY_YEARS: i16 = 18;
const SLOT_FREE: &str = "slot_free";
/// Full hours until the appointment that is changed begins; fewer with every hour that something waits.
pub(crate) const HOURS_AHEAD: &str = "hours_until_start";
/// Observed facts that others can change at any moment, so that they are looked at again before a send.
const LOOKED_AT_AGAIN: [&str; 2] = [SLOT_FREE, PROTOCOL_IN_FORCE];
/// Most slots of one appointment.
const SLOTS_MAX: usize = 16;

impl Engine {
    /// Observes what the tool names, and always what concerns the patient and the day.
    pub(crate) async fn observe(
        &self,
        admitted: &Admitted<'_>,
        write: &WriteAction,
        inputs: &Inputs,
        resource: &Value,
        plausible: Plausible,
    ) -> Result<Facts, CallError> {
        let mut facts = Facts::default();
        for (name, value) in &write.facts {
            facts.fix(name, value.clone());
        }
        if let Some(confidence) = admitted.arguments.confidence {
            facts.claim(
                "confidence_pct",
                FactValue::Long((confidence * 100.0) as i64),
            );
        }
        for name in &write.observe {
            let value = match name.as_str() {
                "medication_check_fired" => plausible.order_checks_fired.map(FactValue::Bool),
                REFILL_CHECKS => Some(FactValue::Bool(plausible.refill_is_clean)),
                name => self.observe_one(name, admitted, inputs, resource).await?,
            };
            if let Some(value) = value {
                facts.observe(name, value);
            }
        }
        let word = plausible.word().to_owned();
        facts.observe("plausibility", FactValue::Text(word));
        if write.resource.as_str() == "MedicationStatement" {
            let critical = self.medication(resource).critical;
            facts.observe("critical_drug", FactValue::Bool(critical));
        }
        if let Some(within) = plausible.within_alert_limits {
            facts.observe("in_alert_range", FactValue::Bool(within));
        }
        if let Some(patient) = &inputs.patient {
            self.observe_patient(patient, &mut facts);
            let touched = inputs.resources.values().chain(&inputs.base);
            self.observe_confidential(patient, touched.chain([resource]), &mut facts);
        }
        let is_restricted = |resource: &Value| Labels::of(resource).restriction().is_some();
        let restricted = is_restricted(resource) || inputs.resources.values().any(is_restricted);
        facts.observe("restricted_label", FactValue::Bool(restricted));
        Ok(facts)
    }

    async fn observe_one(
        &self,
        name: &str,
        admitted: &Admitted<'_>,
        inputs: &Inputs,
        resource: &Value,
    ) -> Result<Option<FactValue>, CallError> {
        let is = |value: bool| Some(FactValue::Bool(value));
        let envelope = &admitted.caller.envelope;
        Ok(match name {
            // Read just now, in `gather`, and once more right before it is sent (`still_holds`).
            SLOT_FREE => slots_free(inputs).and_then(is),
            "visit_type_self_schedule" => self.visit(inputs, resource).self_schedule.and_then(is),
            "visit_type_sensitive" => self.visit(inputs, resource).sensitive.and_then(is),
            HOURS_AHEAD => inputs
                .base
                .as_ref()
                .and_then(|base| base.get("start")?.as_str()?.parse::<jiff::Timestamp>().ok())
                .map(|start| FactValue::Long(start.duration_since(self.now()).as_hours())),
            "clinician_present" => is(envelope
                .presence
                .as_ref()
                .is_some_and(|p| self.now() < p.until)),
            // The present clinician put this patient before the agent: the grant says so.
            "treatment_relationship" => is(envelope
                .presence
                .as_ref()
                .is_some_and(|p| self.now() < p.until)),
            "encounter_open" => match &inputs.encounter {
                Some(encounter) => {
                    let encounter = self.ehr.read(&encounter.resource, &encounter.id).await?;
                    is(encounter.get("status").and_then(Value::as_str) == Some("in-progress"))
                }
                None => None,
            },
            "medication_known" => is(self.medication(resource).known),
            "medication_controlled" => is(self.medication(resource).controlled),
            "medication_high_alert" => is(self.medication(resource).high_alert),
            "in_hard_range" => self.in_hard_range(resource).map(FactValue::Bool),
            // One that the patient did not agree to was refused before, and is looked at again right before it is
            // sent (`crate::consent`).
            "contact_preference_ok" => crate::consent::is_message(resource)
                .then_some(true)
                .and_then(is),
            "critical_drug" => is(self.medication(resource).critical),
            "dose_unchanged" => inputs
                .resources
                .get("prior")
                .and_then(|prior| is(is_unchanged(prior, resource))),
            _ => None,
        })
    }

    pub(crate) fn observe_patient(&self, patient: &Value, facts: &mut Facts) {
        let deceased = match (
            patient.get("deceasedBoolean"),
            patient.get("deceasedDateTime"),
        ) {
            (_, Some(_)) => true,
            (Some(flag), None) => flag.as_bool().unwrap_or(true),
            (None, None) => false,
        };
        facts.observe("patient_deceased", FactValue::Bool(deceased));
        if let Some(born) = patient
            .get("birthDate")
            .and_then(Value::as_str)
            .and_then(birth_date)
        {
            let today = self.now().to_zoned(jiff::tz::TimeZone::UTC).date();
            let minor = born
                .checked_add(jiff::Span::new().years(MAJORITY_YEARS))
                .is_ok_and(|adult| today < adult);
            facts.observe("patient_minor", FactValue::Bool(minor));
        }
        let labels = patient.pointer("/meta/security").and_then(Value::as_array);
        let sensitive = labels.into_iter().flatten().any(|label| {
            matches!(
                label.get("code").and_then(Value::as_str),
                Some("CEL" | "EMP")
            )
        });
        facts.observe("sensitive_person", FactValue::Bool(sensitive));
    }

    /// Whether what is touched is a confidential service for an adolescent.
    pub(crate) fn observe_confidential<'r>(
        &self,
        patient: &Value,
        mut touched: impl Iterator<Item = &'r Value>,
        facts: &mut Facts,
    ) {
        let is_one = self.tables.trust().may_be_adolescent(patient, self.now())
            && touched.any(|resource| self.tables.confidential().concerns(resource));
        facts.observe("adolescent_confidential", FactValue::Bool(is_one));
    }

    fn in_hard_range(&self, observation: &Value) -> Option<bool> {
        let text = |pointer: &str| observation.pointer(pointer).and_then(Value::as_str);
        let value = observation.pointer("/valueQuantity/value")?.as_f64()?;
        self.tables.in_hard_range(
            text("/code/coding/0/code")?,
            text("/valueQuantity/code")?,
            value,
        )
    }

    /// What the table says about the drug of a medication request.
    fn medication(&self, resource: &Value) -> MedicationKind {
        let concept = resource.get("medicationCodeableConcept");
        let plausibility = &self.rules.plausibility;
        plausibility.medication(concept.unwrap_or(&Value::Null))
    }

    /// What the codes of the visit say. What it is for is said by the slots and by the record; the
    /// proposed appointment and the kinds of appointment count beside them, and only against.
    fn visit(&self, inputs: &Inputs, resource: &Value) -> crate::tables::Visit {
        let of_slots: Vec<_> = inputs
            .of_type("Slot")
            .map(|slot| codes_of(slot, "serviceType"))
            .collect();
        let all_say = of_slots.iter().all(|codes| !codes.is_empty());
        let base = inputs.base.as_ref();
        self.tables.visit(&crate::tables::VisitCodes {
            slots: if all_say {
                of_slots.concat()
            } else {
                Vec::new()
            },
            record: base.map_or_else(Vec::new, |base| codes_of(base, "serviceType")),
            also: inputs
                .of_type("Slot")
                .chain(base)
                .chain([resource])
                .flat_map(|source| ["serviceType", "appointmentType"].map(|e| codes_of(source, e)))
                .flatten()
                .collect(),
        })
    }

    /// Whether what an order rested on when it was ruled is still so at the EHR.
    ///
    /// Between this and the send a gap of one round trip remains, which only the EHR itself can close.
    ///
    /// # Errors
    /// When the EHR does not say.
    pub(crate) async fn still_holds(&self, order: &WriteOrder) -> Result<bool, EhrReadFailed> {
        for change in order.changes() {
            for fact in change.rests_on {
                let holds = match fact.as_str() {
                    SLOT_FREE => self.slots_still_free(change.body).await?,
                    PROTOCOL_IN_FORCE => self.renewal_still_holds(order).await?,
                    // Written by another version; nobody here can look again.
                    _ => false,
                };
                if !holds {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    async fn slots_still_free(&self, body: &str) -> Result<bool, EhrReadFailed> {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let slots = body.get("slot").and_then(Value::as_array);
        let references: Vec<&str> = slots
            .into_iter()
            .flatten()
            .filter_map(|slot| slot.get("reference")?.as_str()?.strip_prefix("Slot/"))
            .take(SLOTS_MAX)
            .collect();
        if references.is_empty() || Some(references.len()) != slots.map(Vec::len) {
            return Ok(false);
        }
        let Ok(slot) = ResourceType::new("Slot") else {
            return Ok(false);
        };
        for id in references {
            match self.ehr.read(&slot, id).await {
                Ok(read) if is_free(&read) => {}
                Ok(_) | Err(EhrReadFailed::NotFound) => return Ok(false),
                Err(failed) => return Err(failed),
            }
        }
        Ok(true)
    }
}

/// The facts that a ruling rested on and that are looked at again right before it is sent.
pub(crate) fn rests_on(facts: &Facts) -> BTreeSet<String> {
    let holds = |name: &&str| {
        facts.get(name).is_some_and(|fact| {
            fact.kind == FactKind::Observed && fact.value == FactValue::Bool(true)
        })
    };
    LOOKED_AT_AGAIN
        .iter()
        .copied()
        .filter(holds)
        .map(str::to_owned)
        .collect()
}

/// Whether drug and dosage of an order are those of the prescription that it renews.
pub(crate) fn is_unchanged(prior: &Value, order: &Value) -> bool {
    ["dosageInstruction", "medicationCodeableConcept"]
        .iter()
        .all(|element| prior.get(*element) == order.get(*element))
}

/// Whether every slot is free; nothing when there is none.
fn slots_free(inputs: &Inputs) -> Option<bool> {
    let mut slots = inputs.of_type("Slot").peekable();
    slots.peek()?;
    Some(slots.all(is_free))
}

fn is_free(slot: &Value) -> bool {
    slot.get("status").and_then(Value::as_str) == Some("free")
}

/// The codes of one element, which may be one concept or several.
fn codes_of<'a>(resource: &'a Value, element: &str) -> Vec<(&'a str, &'a str)> {
    let concepts = match resource.get(element) {
        Some(Value::Array(concepts)) => concepts.iter().collect(),
        Some(one) => vec![one],
        None => Vec::new(),
    };
    concepts
        .into_iter()
        .filter_map(|concept| concept.get("coding")?.as_array())
        .flatten()
        .filter_map(|c| Some((c.get("system")?.as_str()?, c.get("code")?.as_str()?)))
        .collect()
}

/// A birth date of any precision, at its latest: who may be a minor counts as one.
pub(crate) fn birth_date(text: &str) -> Option<Date> {
    let mut parts = text.splitn(3, '-');
    let year: i16 = parts.next()?.parse().ok()?;
    let month: i8 = parts.next().map_or(Some(12), |m| m.parse().ok())?;
    let first = Date::new(year, month, 1).ok()?;
    match parts.next() {
        Some(day) => Date::new(year, month, day.parse().ok()?).ok(),
        None => Some(first.last_of_month()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_birth_dates_count_as_their_latest_day() {
        assert_eq!(birth_date("2008"), Date::new(2008, 12, 31).ok());
        assert_eq!(birth_date("2008-02"), Date::new(2008, 2, 29).ok());
        assert_eq!(birth_date("2008-02-03"), Date::new(2008, 2, 3).ok());
        assert_eq!(birth_date("last spring"), None);
    }
}
