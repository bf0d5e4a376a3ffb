//! Invented people and their clinic: demographics that no real person has.
//!
//! Telephone numbers are of the range 555-0100 to 555-0199, which is kept free for fiction; mail
//! addresses are at example.org (RFC 2606). Start at [`patient`] and [`Clinic`].

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cases::Case;
use super::generator::Generator;
use super::{Bundling, reference};
use crate::dates::{day, midnight, shifted};

const GIVEN: [&str; 16] = [
    "Quilla",
    "Bramwick",
    "Odessine",
    "Torvin",
    "Maribeth",
    "Zephrin",
    "Ilsabet",
    "Corwyn",
    "Neridia",
    "Hollister",
    "Pernella",
    "Aldwin",
    "Sunniva",
    "Jorah",
    "Tamsin",
    "Fenwick",
];
const FAMILY: [&str; 17] = [
    "Testfell",
    "Sampleton",
    "Mockridge",
    "Fictwell",
    "Democott",
    "Placeholt",
    "Examplar",
    "Fauxmere",
    "Pseudley",
    "Inventon",
    "Dummond",
    "Protowell",
    "Trialby",
    "Specimore",
    "Draftley",
    "Standinne",
    "Makebeck",
];
const STREETS: [&str; 6] = [
    "Imaginary Lane",
    "Nowhere Road",
    "Placeholder Street",
    "Sample Avenue",
    "Pretend Court",
    "Unreal Way",
];
const CITIES: [&str; 4] = ["Fictionville", "Testborough", "Port Example", "New Nowhere"];
const AREA_CODES: [&str; 8] = ["202", "303", "404", "505", "606", "707", "808", "909"];
/// Clinicians of the invented clinic: given and family name.
const CLINICIANS: [(&str, &str); 4] = [
    ("Rosalind", "Curewell"),
    ("Ambrose", "Mendhart"),
    ("Yevette", "Balmford"),
    ("Idris", "Steadman-Test"),
];

/// The identifier system of synthetic medical record numbers.
const MRN_SYSTEM: &str = "urn:chaperone:synthetic:mrn";
/// The identifier system of the synthetic clinic, its payer, place and clinicians.
const CLINIC_SYSTEM: &str = "urn:chaperone:synthetic:clinic";

/// The organization, place, payer and clinicians that synthetic patients share.
#[derive(Debug)]
pub(super) struct Clinic {
    organization: String,
    payer: String,
    location: String,
    clinicians: Vec<(String, &'static str, &'static str)>,
}

impl Clinic {
    pub(super) fn new(seed: u64) -> Self {
        let mut generator = Generator::new(seed ^ 0x0C11_41C0);
        Self {
            organization: generator.uuid(),
            payer: generator.uuid(),
            location: generator.uuid(),
            clinicians: CLINICIANS
                .iter()
                .map(|(given, family)| (generator.uuid(), *given, *family))
                .collect(),
        }
    }

    /// Which clinician looks after the patient at `position`.
    pub(super) fn practitioner_for(&self, position: usize) -> usize {
        position % CLINICIANS.len()
    }

    /// Adds the shared resources that a patient of this clinician refers to.
    pub(super) fn add_to(&self, practitioner: usize, bundle: &mut Bundling) {
        let mut add = |id: &str, name: &str, resource: Value| {
            let condition = format!("identifier={CLINIC_SYSTEM}|{name}");
            bundle.add_as(id, resource, Some(&condition));
        };
        let identifier = |name: &str| json!([{"system": CLINIC_SYSTEM, "value": name}]);
        add(
            &self.organization,
            "clinic",
            json!({
                "resourceType": "Organization",
                "identifier": identifier("clinic"),
                "active": true,
                "type": [{"coding": [{
                    "system": "http://terminology.hl7.org/CodeSystem/organization-type",
                    "code": "prov",
                    "display": "Healthcare Provider",
                }]}],
                "name": "Fictionville Test Clinic",
            }),
        );
        add(
            &self.payer,
            "payer",
            json!({
                "resourceType": "Organization",
                "identifier": identifier("payer"),
                "active": true,
                "type": [{"coding": [{
                    "system": "http://terminology.hl7.org/CodeSystem/organization-type",
                    "code": "pay",
                    "display": "Payer",
                }]}],
                "name": "Imaginary Mutual Health Plan",
            }),
        );
        add(
            &self.location,
            "front-house",
            json!({
                "resourceType": "Location",
                "identifier": identifier("front-house"),
                "status": "active",
                "name": "Fictionville Test Clinic, front house",
                "managingOrganization": reference(&self.organization()),
            }),
        );
        if let Some((id, given, family)) = self.clinicians.get(practitioner) {
            let name = format!("clinician-{}", practitioner + 1);
            add(
                id,
                &name,
                json!({
                    "resourceType": "Practitioner",
                    "identifier": identifier(&name),
                    "active": true,
                    "name": [{"family": family, "given": [given], "prefix": ["Dr."]}],
                }),
            );
        }
    }

    pub(super) fn organization(&self) -> String {
        urn(&self.organization)
    }

    pub(super) fn payer(&self) -> String {
        urn(&self.payer)
    }

    pub(super) fn location(&self) -> String {
        urn(&self.location)
    }

    pub(super) fn practitioner(&self, practitioner: usize) -> String {
        self.clinicians
            .get(practitioner)
            .map(|(id, _, _)| urn(id))
            .unwrap_or_default()
    }
}

fn urn(id: &str) -> String {
    format!("urn:uuid:{id}")
}

fn pick<'a>(items: &[&'a str], at: usize) -> &'a str {
    items
        .get(at % items.len().max(1))
        .copied()
        .unwrap_or("Nobody")
}

/// The Patient resource at `position`.
pub(super) fn patient(
    generator: &mut Generator,
    position: usize,
    case: &Case,
    clinic: &Clinic,
    practitioner: usize,
    now: Timestamp,
) -> Value {
    // Coprime steps through the two lists: no full name repeats within 16 x 17 patients.
    let given = pick(&GIVEN, position);
    let family = pick(&FAMILY, position);
    let gender = if position.is_multiple_of(2) {
        "female"
    } else {
        "male"
    };
    let years = generator.between(case.age.0, case.age.1);
    let days = generator.between(1, 364);
    // 366 days a year keep the age at or above the drawn one.
    let birth = shifted(
        midnight(now),
        -(years.saturating_mul(366)).saturating_sub(days),
        0,
    );
    let house = generator.between(1, 980);
    let phone = format!(
        "{}-555-01{:02}",
        pick(&AREA_CODES, position / 100),
        position % 100
    );
    let record_number = format!("SYN-{:06}", 100_000 + position);
    json!({
        "resourceType": "Patient",
        "identifier": [{
            "use": "usual",
            "type": {"coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/v2-0203",
                "code": "MR",
                "display": "Medical record number",
            }]},
            "system": MRN_SYSTEM,
            "value": record_number,
        }],
        "active": true,
        "name": [{"use": "official", "family": family, "given": [given]}],
        "telecom": [
            {"system": "phone", "value": phone, "use": "mobile"},
            {
                "system": "email",
                "value": format!(
                    "{}.{}{position}@example.org",
                    given.to_lowercase(),
                    family.to_lowercase()
                ),
            },
        ],
        "gender": gender,
        "birthDate": day(birth),
        "address": [{
            "use": "home",
            "line": [format!("{house} {}", pick(&STREETS, position))],
            "city": pick(&CITIES, position),
            "state": "MA",
            "postalCode": format!("0199{}", position % 10),
            "country": "US",
        }],
        "communication": [{
            "language": {"coding": [{"system": "urn:ietf:bcp:47", "code": "en-US"}]},
            "preferred": true,
        }],
        "generalPractitioner": [reference(&clinic.practitioner(practitioner))],
        "managingOrganization": reference(&clinic.organization()),
    })
}
