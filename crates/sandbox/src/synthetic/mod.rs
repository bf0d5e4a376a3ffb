//! Synthetic patients: invented people with coherent, valid R4 records, for demonstrations and
//! tests.
//!
//! Not a disease simulation, and no real person behind any of it. The same seed, count and time
//! give the same bytes. Start at [`patients`]; who has what is the table in `cases`.

mod cases;
mod clinical;
mod consents;
mod generator;
mod notes;
mod people;

use jiff::Timestamp;
use serde_json::{Value, json};

pub(crate) use generator::mixed;

use cases::{CASES, Case};
use clinical::Chart;
use generator::Generator;

/// The most patients made at once.
pub const PATIENTS_MAX: usize = 1_000;

/// Makes `count` patients (at most [`PATIENTS_MAX`]), one transaction Bundle each, as they would
/// be charted at `now`.
///
/// Among the first twelve: one on lisinopril 10 mg once daily (the first), one on metformin with a
/// penicillin allergy (the second), one on warfarin (the third), one on atorvastatin (the fourth),
/// one whose referral letter carries an instruction aimed at AI agents (the fifth), and one older
/// than 89 (the eighth). The first agrees to treatment, payment and operations, the second wants no text messages, the
/// seventh closes the record of body weight. More patients repeat the pattern with other names and values.
///
/// Organizations, locations and practitioners are shared: each bundle that needs them carries
/// them with `ifNoneExist`.
#[must_use]
pub fn patients(seed: u64, count: usize, now: Timestamp) -> Vec<Value> {
    let clinic = people::Clinic::new(seed);
    (0..count.min(PATIENTS_MAX))
        .zip(CASES.iter().cycle())
        .map(|(position, case)| patient_bundle(seed, position, case, &clinic, now))
        .collect()
}

fn patient_bundle(
    seed: u64,
    position: usize,
    case: &Case,
    clinic: &people::Clinic,
    now: Timestamp,
) -> Value {
    let mut generator = Generator::of_patient(seed, position);
    let mut bundle = Bundling::default();
    let practitioner = clinic.practitioner_for(position);
    clinic.add_to(practitioner, &mut bundle);
    let patient = people::patient(&mut generator, position, case, clinic, practitioner, now);
    let patient_id = bundle.add(&mut generator, patient);
    let mut chart = Chart {
        generator,
        bundle,
        patient: patient_id,
        clinic,
        practitioner,
        case,
        now,
    };
    let encounters = chart.encounters();
    chart.conditions(&encounters);
    chart.observations(&encounters);
    chart.medications(&encounters);
    chart.allergies(&encounters);
    chart.immunizations(&encounters);
    chart.care_team();
    chart.coverage(position);
    chart.note(&encounters);
    // Last: what came before keeps its ids.
    chart.consents(position);
    chart.bundle.finish()
}

/// A transaction Bundle in the making.
#[derive(Debug, Default)]
struct Bundling {
    entries: Vec<Value>,
}

impl Bundling {
    /// Adds a resource under a new id and returns its `urn:uuid:`.
    fn add(&mut self, generator: &mut Generator, resource: Value) -> String {
        self.add_as(&generator.uuid(), resource, None)
    }

    /// Adds a resource under a given id, optionally only where `if_none_exist` finds none.
    fn add_as(&mut self, id: &str, mut resource: Value, if_none_exist: Option<&str>) -> String {
        let full_url = format!("urn:uuid:{id}");
        let kind = resource.get("resourceType").cloned().unwrap_or_default();
        if let Some(members) = resource.as_object_mut() {
            members.insert("id".to_owned(), json!(id));
            members.insert("meta".to_owned(), json!({"tag": [test_data_tag()]}));
        }
        let mut request = json!({"method": "POST", "url": kind});
        if let (Some(members), Some(condition)) = (request.as_object_mut(), if_none_exist) {
            members.insert("ifNoneExist".to_owned(), json!(condition));
        }
        self.entries.push(json!({
            "fullUrl": full_url,
            "resource": resource,
            "request": request,
        }));
        full_url
    }

    fn finish(self) -> Value {
        json!({"resourceType": "Bundle", "type": "transaction", "entry": self.entries})
    }
}

/// Marks a resource as test data.
///
/// # Source
/// HL7 v3 ActReason, code HTEST, <http://terminology.hl7.org/CodeSystem/v3-ActReason>.
fn test_data_tag() -> Value {
    json!({
        "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
        "code": "HTEST",
        "display": "test health data",
    })
}

fn reference(full_url: &str) -> Value {
    json!({"reference": full_url})
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn some(seed: u64, count: usize) -> Vec<Value> {
        patients(seed, count, "2026-03-02T15:00:00Z".parse().unwrap())
    }

    fn resources<'a>(bundle: &'a Value, kind: &str) -> Vec<&'a Value> {
        bundle["entry"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| &entry["resource"])
            .filter(|resource| resource["resourceType"] == kind)
            .collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_patients_and_another_seed_others() {
        assert_eq!(some(7, 12), some(7, 12));
        assert_ne!(some(7, 12), some(8, 12));
        assert_eq!(some(7, 3), some(7, 12)[..3]);
        assert!(some(7, 0).is_empty());
    }

    #[test]
    fn ids_and_identifiers_are_unique_over_patients() {
        let bundles = some(7, 40);
        let mut ids = BTreeSet::new();
        let mut numbers = BTreeSet::new();
        for bundle in &bundles {
            let patient = resources(bundle, "Patient")[0];
            assert!(ids.insert(patient["id"].as_str().unwrap().to_owned()));
            assert!(numbers.insert(patient["identifier"][0]["value"].to_string()));
        }
    }

    #[test]
    fn every_reference_points_into_the_bundle() {
        for bundle in some(7, 12) {
            let urls: BTreeSet<_> = bundle["entry"]
                .as_array()
                .unwrap()
                .iter()
                .map(|entry| entry["fullUrl"].as_str().unwrap())
                .collect();
            check_references(&bundle, &urls);
        }
    }

    fn check_references(value: &Value, urls: &BTreeSet<&str>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| check_references(item, urls)),
            Value::Object(members) => {
                if let Some(Value::String(reference)) = members.get("reference") {
                    assert!(urls.contains(reference.as_str()), "{reference}");
                }
                members
                    .values()
                    .for_each(|item| check_references(item, urls));
            }
            _ => {}
        }
    }

    #[test]
    fn the_promised_cases_are_there() {
        let bundles = some(7, 12);
        let drug = |position: usize| {
            resources(&bundles[position], "MedicationRequest")[0]["medicationCodeableConcept"]
                ["text"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(drug(0), "lisinopril 10 MG Oral Tablet");
        assert!(drug(1).starts_with("metformin"));
        assert_eq!(resources(&bundles[1], "AllergyIntolerance").len(), 1);
        assert!(drug(2).starts_with("warfarin"));
        assert!(drug(3).starts_with("atorvastatin"));
        let birth = resources(&bundles[7], "Patient")[0]["birthDate"]
            .as_str()
            .unwrap();
        assert!(birth < "1936-03-02", "{birth}");
    }

    #[test]
    fn three_of_a_dozen_have_said_something_about_consent() {
        let with: Vec<usize> = some(7, 12)
            .iter()
            .enumerate()
            .filter(|(_, bundle)| !resources(bundle, "Consent").is_empty())
            .map(|(position, _)| position)
            .collect();
        assert_eq!(with, [0, 1, 6]);
    }

    #[test]
    fn exactly_one_of_a_dozen_notes_carries_an_instruction() {
        use base64::Engine;
        let speaking: Vec<usize> = some(7, 12)
            .iter()
            .enumerate()
            .filter(|(_, bundle)| {
                resources(bundle, "DocumentReference").iter().any(|note| {
                    let data = note["content"][0]["attachment"]["data"].as_str().unwrap();
                    let text = base64::engine::general_purpose::STANDARD
                        .decode(data)
                        .unwrap();
                    String::from_utf8(text).unwrap().contains("AI assistant")
                })
            })
            .map(|(position, _)| position)
            .collect();
        assert_eq!(speaking, [4]);
    }

    #[test]
    fn every_chart_has_what_the_tools_read() {
        for bundle in some(11, 12) {
            for kind in [
                "Patient",
                "CareTeam",
                "Coverage",
                "DocumentReference",
                "Practitioner",
            ] {
                assert_eq!(resources(&bundle, kind).len(), 1, "{kind}");
            }
            assert!((2..=3).contains(&resources(&bundle, "Encounter").len()));
            assert!(resources(&bundle, "Observation").len() >= 10);
            assert!(!resources(&bundle, "Immunization").is_empty());
        }
    }
}
