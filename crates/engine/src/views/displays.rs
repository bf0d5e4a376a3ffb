//! Displays for codes that tools of the default bundle fix or offer, so that a reviewer reads words.
//!
//! A code arrives without a display when a tool set it. The displays here are ours, for exactly these
//! codes; what the EHR or an agent sent is never replaced. No terminology service: a code that is not
//! here is shown as a code.

use serde_json::{Value, json};

const LOINC: &str = "http://loinc.org";
const SNOMED: &str = "http://snomed.info/sct";
const VISIT: &str = "http://terminology.hl7.org/CodeSystem/v2-0276";
const CANCELLATION: &str = "http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason";
const OBSERVATION_VALUE: &str = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue";
const DOCUMENT_CATEGORY: &str =
    "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category";

const THE_PATIENT: &str = "the patient";

/// System, code, display.
///
/// # Source
/// LOINC 2.77 names, SNOMED CT International preferred terms, HL7 Terminology displays, shortened
/// where a list has no room; none says more than its code.
const DISPLAYS: [(&str, &str, &str); 38] = [
    (LOINC, "11506-3", "Progress note"),
    (LOINC, "34117-2", "History and physical note"),
    (LOINC, "18842-5", "Discharge summary"),
    (LOINC, "4548-4", "Hemoglobin A1c in blood"),
    (LOINC, "2345-7", "Glucose in serum or plasma"),
    (LOINC, "2160-0", "Creatinine in serum or plasma"),
    (LOINC, "24323-8", "Comprehensive metabolic panel"),
    (LOINC, "58410-2", "Complete blood count panel"),
    (LOINC, "57698-3", "Lipid panel"),
    (LOINC, "3016-3", "Thyrotropin in serum or plasma"),
    (LOINC, "6301-6", "INR in platelet poor plasma"),
    (LOINC, "8867-4", "Heart rate"),
    (LOINC, "9279-1", "Respiratory rate"),
    (LOINC, "2708-6", "Oxygen saturation in arterial blood"),
    (LOINC, "8310-5", "Body temperature"),
    (LOINC, "29463-7", "Body weight"),
    (LOINC, "8302-2", "Body height"),
    (LOINC, "85354-9", "Blood pressure panel"),
    (LOINC, "8480-6", "Systolic blood pressure"),
    (LOINC, "8462-4", "Diastolic blood pressure"),
    (SNOMED, "26643006", "Oral route"),
    (SNOMED, "34206005", "Subcutaneous route"),
    (SNOMED, "78421000", "Intramuscular route"),
    (SNOMED, "47625008", "Intravenous route"),
    (SNOMED, "6064005", "Topical route"),
    (SNOMED, "108252007", "Laboratory procedure"),
    (VISIT, "ROUTINE", "routine visit"),
    (VISIT, "CHECKUP", "routine check-up"),
    (VISIT, "FOLLOWUP", "follow-up visit"),
    (VISIT, "WALKIN", "walk-in visit"),
    (VISIT, "EMERGENCY", "emergency visit"),
    (CANCELLATION, "pat", "patient"),
    (CANCELLATION, "pat-fb", "patient: feeling better"),
    (CANCELLATION, "prov", "provider"),
    (CANCELLATION, "oth", "other"),
    (
        OBSERVATION_VALUE,
        "AIAST",
        "asserted by artificial intelligence",
    ),
    (OBSERVATION_VALUE, "PATRPT", "patient reported"),
    (DOCUMENT_CATEGORY, "clinical-note", "clinical note"),
];

/// The same resource, for display, with a display beside each known code that has none, and beside the
/// reference to its patient.
pub(super) fn with_displays(resource: &Value) -> Value {
    let mut shown = resource.clone();
    fill(&mut shown);
    shown
}

/// The same, for one line of words: the patient of the page is "the patient" there, without an id.
pub(super) fn for_words(resource: &Value) -> Value {
    let mut shown = with_displays(resource);
    drop_patient_ids(&mut shown);
    shown
}

fn drop_patient_ids(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(drop_patient_ids),
        Value::Object(members) => {
            members.values_mut().for_each(drop_patient_ids);
            if members.get("display").and_then(Value::as_str) == Some(THE_PATIENT) {
                members.remove("reference");
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn fill(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(fill),
        Value::Object(members) => {
            let text = |name: &str| members.get(name).and_then(Value::as_str);
            let known = match (
                text("system"),
                text("code"),
                members.contains_key("display"),
            ) {
                (Some(system), Some(code), false) => DISPLAYS
                    .iter()
                    .find(|(s, c, _)| *s == system && *c == code)
                    .map(|(_, _, display)| *display),
                _ => None,
            };
            // An order that passed validation refers to no other patient than the one it is about.
            let own = text("reference").is_some_and(|reference| reference.starts_with("Patient/"));
            let own = own && !members.contains_key("display");
            members.values_mut().for_each(fill);
            if let Some(display) = known.or(own.then_some(THE_PATIENT)) {
                members.insert("display".to_owned(), json!(display));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_codes_get_words_and_given_words_stay() {
        let resource = json!({"type": {"coding": [
            {"system": LOINC, "code": "11506-3"},
            {"system": LOINC, "code": "11506-3", "display": "as sent"},
            {"system": LOINC, "code": "0-0"},
            {"system": "http://other.example", "code": "11506-3"},
        ]}});
        let shown = with_displays(&resource);
        let display = |index: usize| {
            shown
                .pointer(&format!("/type/coding/{index}/display"))
                .and_then(Value::as_str)
        };
        assert_eq!(display(0), Some("Progress note"));
        assert_eq!(display(1), Some("as sent"));
        assert_eq!(display(2), None);
        assert_eq!(display(3), None);
    }

    #[test]
    fn the_patient_keeps_the_id_in_the_difference_and_not_in_words() {
        let resource =
            json!({"actor": {"reference": "Patient/a"}, "other": {"reference": "Practitioner/b"}});
        let text = |shown: Value, pointer: &str| {
            shown
                .pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let coded = with_displays(&resource);
        assert_eq!(
            text(coded.clone(), "/actor/display").as_deref(),
            Some(THE_PATIENT)
        );
        assert_eq!(
            text(coded, "/actor/reference").as_deref(),
            Some("Patient/a")
        );
        let words = for_words(&resource);
        assert_eq!(text(words.clone(), "/actor/reference"), None);
        assert_eq!(
            text(words, "/other/reference").as_deref(),
            Some("Practitioner/b")
        );
    }

    #[test]
    fn no_code_stands_twice() {
        let mut codes: Vec<_> = DISPLAYS
            .iter()
            .map(|(system, code, _)| (system, code))
            .collect();
        codes.sort();
        codes.dedup();
        assert_eq!(codes.len(), DISPLAYS.len());
    }
}
