//! The clinical resources of one synthetic patient.
//!
//! Values are drawn around what the problems suggest, within ranges a validator accepts. Codes are
//! LOINC, UCUM, SNOMED CT, RxNorm and CVX. Start at [`Chart`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::cases::{Case, Drug, NoteKind};
use super::generator::Generator;
use super::people::Clinic;
use super::{Bundling, notes, reference};
use crate::dates::{day, midnight, shifted};

const LOINC: &str = "http://loinc.org";
const SNOMED: &str = "http://snomed.info/sct";
const RXNORM: &str = "http://www.nlm.nih.gov/research/umls/rxnorm";
const CVX: &str = "http://hl7.org/fhir/sid/cvx";
const UCUM: &str = "http://unitsofmeasure.org";
const OBSERVATION_CATEGORY: &str = "http://terminology.hl7.org/CodeSystem/observation-category";

const DIABETES_CODE: &str = "44054006";
const PREDIABETES_CODE: &str = "15777000";
const HYPERTENSION_CODE: &str = "59621000";
const KIDNEY_DISEASE_CODE: &str = "433144002";
const WARFARIN_CODE: &str = "855332";

/// A visit that already happened.
#[derive(Debug)]
pub(super) struct Visit {
    full_url: String,
    start: Timestamp,
}

/// One patient's record in the making.
pub(super) struct Chart<'a> {
    pub(super) generator: Generator,
    pub(super) bundle: Bundling,
    /// The `urn:uuid:` of the patient.
    pub(super) patient: String,
    pub(super) clinic: &'a Clinic,
    pub(super) practitioner: usize,
    pub(super) case: &'a Case,
    pub(super) now: Timestamp,
}

/// A measured quantity: LOINC code and display, UCUM unit, value in tenths.
struct Measured {
    category: &'static str,
    code: &'static str,
    display: &'static str,
    unit: &'static str,
    tenths: i64,
}

fn quantity(tenths: i64, unit: &str) -> Value {
    let value = if tenths % 10 == 0 {
        json!(tenths / 10)
    } else {
        // Tenths below 2^53 are exact enough to print as written.
        json!(f64::from(i32::try_from(tenths).unwrap_or(0)) / 10.0)
    };
    json!({"value": value, "unit": unit, "system": UCUM, "code": unit})
}

fn concept(system: &str, code: &str, display: &str) -> Value {
    json!({
        "coding": [{"system": system, "code": code, "display": display}],
        "text": display,
    })
}

impl Chart<'_> {
    pub(super) fn add(&mut self, resource: Value) -> String {
        self.bundle.add(&mut self.generator, resource)
    }

    fn has(&self, problem: &str) -> bool {
        self.case.problems.iter().any(|one| one.code == problem)
    }

    fn doctor(&self) -> Value {
        reference(&self.clinic.practitioner(self.practitioner))
    }

    /// Two or three finished visits, the oldest first.
    pub(super) fn encounters(&mut self) -> Vec<Visit> {
        let mut days_ago = vec![
            self.generator.between(150, 200),
            self.generator.between(20, 40),
        ];
        if self.generator.between(0, 1) == 1 {
            days_ago.insert(0, self.generator.between(300, 400));
        }
        let today = midnight(self.now);
        days_ago
            .into_iter()
            .map(|days| {
                let minutes = 14 * 60 + 15 * self.generator.between(0, 20);
                let start = shifted(today, -days, minutes);
                let full_url = self.add(json!({
                    "resourceType": "Encounter",
                    "status": "finished",
                    "class": {
                        "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
                        "code": "AMB",
                        "display": "ambulatory",
                    },
                    "type": [concept(SNOMED, "185349003", "Encounter for check up")],
                    "subject": reference(&self.patient),
                    "participant": [{"individual": self.doctor()}],
                    "period": {
                        "start": start.to_string(),
                        "end": shifted(start, 0, 30).to_string(),
                    },
                    "location": [{"location": reference(&self.clinic.location())}],
                    "serviceProvider": reference(&self.clinic.organization()),
                }));
                Visit { full_url, start }
            })
            .collect()
    }

    pub(super) fn conditions(&mut self, visits: &[Visit]) {
        for problem in self.case.problems {
            let onset = shifted(midnight(self.now), -(problem.years * 365 + 90), 0);
            let mut condition = json!({
                "resourceType": "Condition",
                "clinicalStatus": {"coding": [{
                    "system": "http://terminology.hl7.org/CodeSystem/condition-clinical",
                    "code": "active",
                }]},
                "verificationStatus": {"coding": [{
                    "system": "http://terminology.hl7.org/CodeSystem/condition-ver-status",
                    "code": "confirmed",
                }]},
                "category": [{"coding": [{
                    "system": "http://terminology.hl7.org/CodeSystem/condition-category",
                    "code": "problem-list-item",
                    "display": "Problem List Item",
                }]}],
                "code": concept(SNOMED, problem.code, problem.display),
                "subject": reference(&self.patient),
                "onsetDateTime": day(onset),
                "recorder": self.doctor(),
            });
            if let (Some(visit), Some(members)) = (visits.first(), condition.as_object_mut()) {
                members.insert("encounter".to_owned(), reference(&visit.full_url));
                members.insert("recordedDate".to_owned(), json!(day(visit.start)));
            }
            self.add(condition);
        }
    }

    pub(super) fn observations(&mut self, visits: &[Visit]) {
        let weight_tenths = self.generator.between(560, 980);
        for visit in visits {
            self.blood_pressure(visit);
            let drift = self.generator.between(-15, 15);
            let vitals = [
                vital(
                    "8867-4",
                    "Heart rate",
                    "/min",
                    10 * self.generator.between(58, 92),
                ),
                vital(
                    "8310-5",
                    "Body temperature",
                    "Cel",
                    self.generator.between(362, 373),
                ),
                vital("29463-7", "Body weight", "kg", weight_tenths + drift),
                vital(
                    "9279-1",
                    "Respiratory rate",
                    "/min",
                    10 * self.generator.between(12, 18),
                ),
            ];
            for measured in vitals {
                self.observation(visit, &measured);
            }
        }
        // Laboratory tests at the last two visits.
        for visit in visits.iter().rev().take(2) {
            for measured in self.laboratory() {
                self.observation(visit, &measured);
            }
        }
    }

    fn laboratory(&mut self) -> Vec<Measured> {
        let (glucose, a1c) = if self.has(DIABETES_CODE) {
            ((128, 182), (68, 84))
        } else if self.has(PREDIABETES_CODE) {
            ((101, 122), (58, 63))
        } else {
            ((76, 98), (49, 55))
        };
        let creatinine = if self.has(KIDNEY_DISEASE_CODE) {
            (15, 19)
        } else {
            (7, 11)
        };
        let mut tests = vec![
            laboratory(
                "2345-7",
                "Glucose [Mass/volume] in Serum or Plasma",
                "mg/dL",
                10 * self.generator.between(glucose.0, glucose.1),
            ),
            laboratory(
                "4548-4",
                "Hemoglobin A1c/Hemoglobin.total in Blood",
                "%",
                self.generator.between(a1c.0, a1c.1),
            ),
            laboratory(
                "2160-0",
                "Creatinine [Mass/volume] in Serum or Plasma",
                "mg/dL",
                self.generator.between(creatinine.0, creatinine.1),
            ),
        ];
        if self
            .case
            .drugs
            .iter()
            .any(|drug| drug.code == WARFARIN_CODE)
        {
            tests.push(laboratory(
                "6301-6",
                "INR in Platelet poor plasma by Coagulation assay",
                "{INR}",
                self.generator.between(21, 29),
            ));
        }
        tests
    }

    fn blood_pressure(&mut self, visit: &Visit) {
        let (systolic, diastolic) = if self.has(HYPERTENSION_CODE) {
            ((136, 152), (84, 94))
        } else {
            ((108, 128), (66, 80))
        };
        let component = |code: &str, display: &str, value: i64| {
            json!({
                "code": concept(LOINC, code, display),
                "valueQuantity": {
                    "value": value, "unit": "mmHg", "system": UCUM, "code": "mm[Hg]",
                },
            })
        };
        let systolic = self.generator.between(systolic.0, systolic.1);
        let diastolic = self.generator.between(diastolic.0, diastolic.1);
        let mut panel = self.observed(
            visit,
            "vital-signs",
            concept(
                LOINC,
                "85354-9",
                "Blood pressure panel with all children optional",
            ),
        );
        if let Some(members) = panel.as_object_mut() {
            members.insert(
                "component".to_owned(),
                json!([
                    component("8480-6", "Systolic blood pressure", systolic),
                    component("8462-4", "Diastolic blood pressure", diastolic),
                ]),
            );
        }
        self.add(panel);
    }

    fn observation(&mut self, visit: &Visit, measured: &Measured) {
        let mut observation = self.observed(
            visit,
            measured.category,
            concept(LOINC, measured.code, measured.display),
        );
        if let Some(members) = observation.as_object_mut() {
            members.insert(
                "valueQuantity".to_owned(),
                quantity(measured.tenths, measured.unit),
            );
        }
        self.add(observation);
    }

    /// An Observation without its value.
    fn observed(&self, visit: &Visit, category: &str, code: Value) -> Value {
        let display = if category == "vital-signs" {
            "Vital Signs"
        } else {
            "Laboratory"
        };
        let at = shifted(visit.start, 0, 5).to_string();
        json!({
            "resourceType": "Observation",
            "status": "final",
            "category": [{"coding": [{
                "system": OBSERVATION_CATEGORY,
                "code": category,
                "display": display,
            }]}],
            "code": code,
            "subject": reference(&self.patient),
            "encounter": reference(&visit.full_url),
            "effectiveDateTime": at,
            "issued": at,
            "performer": [self.doctor()],
        })
    }

    pub(super) fn medications(&mut self, visits: &[Visit]) {
        let Some(visit) = visits.last() else {
            return;
        };
        for drug in self.case.drugs {
            let request = self.prescription(drug, visit);
            self.add(request);
        }
    }

    fn prescription(&self, drug: &Drug, visit: &Visit) -> Value {
        let tablets =
            |count: i64| json!({"value": count, "unit": "tablet", "system": UCUM, "code": "{tbl}"});
        let days = 90;
        json!({
            "resourceType": "MedicationRequest",
            "status": "active",
            "intent": "order",
            "category": [{"coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/medicationrequest-category",
                "code": "community",
                "display": "Community",
            }]}],
            "medicationCodeableConcept": concept(RXNORM, drug.code, drug.display),
            "subject": reference(&self.patient),
            "encounter": reference(&visit.full_url),
            "authoredOn": shifted(visit.start, 0, 25).to_string(),
            "requester": self.doctor(),
            "dosageInstruction": [{
                "text": drug.sig,
                "timing": {"repeat": {
                    "frequency": drug.times_a_day, "period": 1, "periodUnit": "d",
                }},
                "route": concept(SNOMED, "26643006", "Oral route"),
                "doseAndRate": [{"doseQuantity": tablets(drug.tablets)}],
            }],
            "dispenseRequest": {
                "numberOfRepeatsAllowed": 3,
                "quantity": tablets(days * drug.tablets * drug.times_a_day),
                "expectedSupplyDuration": {
                    "value": days, "unit": "day", "system": UCUM, "code": "d",
                },
            },
        })
    }

    pub(super) fn allergies(&mut self, visits: &[Visit]) {
        let (true, Some(visit)) = (self.case.penicillin_allergy, visits.first()) else {
            return;
        };
        let allergy = json!({
            "resourceType": "AllergyIntolerance",
            "clinicalStatus": {"coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical",
                "code": "active",
            }]},
            "verificationStatus": {"coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification",
                "code": "confirmed",
            }]},
            "type": "allergy",
            "category": ["medication"],
            "criticality": "high",
            "code": concept(SNOMED, "91936005", "Allergy to penicillin"),
            "patient": reference(&self.patient),
            "recordedDate": day(visit.start),
            "recorder": self.doctor(),
            "reaction": [{
                "manifestation": [concept(SNOMED, "126485001", "Urticaria")],
                "severity": "moderate",
            }],
        });
        self.add(allergy);
    }

    pub(super) fn immunizations(&mut self, visits: &[Visit]) {
        let vaccines = [
            ("140", "Influenza, seasonal, injectable, preservative free"),
            ("115", "Tdap"),
        ];
        let count = usize::try_from(self.generator.between(1, 2)).unwrap_or(1);
        for ((code, display), visit) in vaccines.into_iter().take(count).zip(visits) {
            let given = json!({
                "resourceType": "Immunization",
                "status": "completed",
                "vaccineCode": concept(CVX, code, display),
                "patient": reference(&self.patient),
                "encounter": reference(&visit.full_url),
                "occurrenceDateTime": shifted(visit.start, 0, 20).to_string(),
                "primarySource": true,
            });
            self.add(given);
        }
    }

    pub(super) fn care_team(&mut self) {
        let team = json!({
            "resourceType": "CareTeam",
            "status": "active",
            "name": "Primary care team",
            "subject": reference(&self.patient),
            "participant": [
                {
                    "role": [{"text": "Primary care practitioner"}],
                    "member": self.doctor(),
                    "onBehalfOf": reference(&self.clinic.organization()),
                },
                {"role": [{"text": "Patient"}], "member": reference(&self.patient)},
            ],
            "managingOrganization": [reference(&self.clinic.organization())],
        });
        self.add(team);
    }

    pub(super) fn coverage(&mut self, position: usize) {
        let start = shifted(midnight(self.now), -400, 0);
        let coverage = json!({
            "resourceType": "Coverage",
            "status": "active",
            "subscriberId": format!("IMH-{:07}", 5_000_000 + position),
            "beneficiary": reference(&self.patient),
            "relationship": {"coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/subscriber-relationship",
                "code": "self",
                "display": "Self",
            }]},
            "period": {"start": day(start)},
            "payor": [reference(&self.clinic.payer())],
        });
        self.add(coverage);
    }

    pub(super) fn note(&mut self, visits: &[Visit]) {
        let Some(visit) = visits.last() else {
            return;
        };
        let (kind, title, text) = match self.case.note {
            NoteKind::Progress => (
                concept(LOINC, "11506-3", "Progress note"),
                "Progress note",
                notes::progress(self.case),
            ),
            NoteKind::ReferralWithInstruction => (
                concept(LOINC, "57133-1", "Referral note"),
                "Referral letter",
                notes::referral_with_instruction(),
            ),
        };
        let note = json!({
            "resourceType": "DocumentReference",
            "status": "current",
            "docStatus": "final",
            "type": kind,
            "category": [{"coding": [{
                "system": "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category",
                "code": "clinical-note",
                "display": "Clinical Note",
            }]}],
            "subject": reference(&self.patient),
            "date": shifted(visit.start, 0, 30).to_string(),
            "author": [self.doctor()],
            "content": [{"attachment": {
                "contentType": "text/plain; charset=utf-8",
                "language": "en-US",
                "data": STANDARD.encode(text),
                "title": title,
            }}],
            "context": {
                "encounter": [reference(&visit.full_url)],
                "period": {
                    "start": visit.start.to_string(),
                    "end": shifted(visit.start, 0, 30).to_string(),
                },
            },
        });
        self.add(note);
    }
}

fn vital(code: &'static str, display: &'static str, unit: &'static str, tenths: i64) -> Measured {
    Measured {
        category: "vital-signs",
        code,
        display,
        unit,
        tenths,
    }
}

fn laboratory(
    code: &'static str,
    display: &'static str,
    unit: &'static str,
    tenths: i64,
) -> Measured {
    Measured {
        category: "laboratory",
        code,
        display,
        unit,
        tenths,
    }
}
