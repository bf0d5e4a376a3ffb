//! Which vital signs profile R4 demands of an observation, by its LOINC code.
//!
//! # Source
//! FHIR R4, <https://hl7.org/fhir/R4/observation-vitalsigns.html>: "any vital sign observation … SHALL
//! conform", with the codes of its table. A code that the table names beside another one (59408-5 beside
//! 2708-6) does not call for the profile by itself.

use crate::json::Value;

/// LOINC codes and the profiles that they call for.
const BY_CODE: [(&str, &str); 11] = [
    (
        "85353-1",
        "http://hl7.org/fhir/StructureDefinition/vitalspanel",
    ),
    ("9279-1", "http://hl7.org/fhir/StructureDefinition/resprate"),
    (
        "8867-4",
        "http://hl7.org/fhir/StructureDefinition/heartrate",
    ),
    (
        "2708-6",
        "http://hl7.org/fhir/StructureDefinition/oxygensat",
    ),
    ("8310-5", "http://hl7.org/fhir/StructureDefinition/bodytemp"),
    (
        "8302-2",
        "http://hl7.org/fhir/StructureDefinition/bodyheight",
    ),
    (
        "9843-4",
        "http://hl7.org/fhir/StructureDefinition/headcircum",
    ),
    (
        "29463-7",
        "http://hl7.org/fhir/StructureDefinition/bodyweight",
    ),
    ("39156-5", "http://hl7.org/fhir/StructureDefinition/bmi"),
    ("85354-9", "http://hl7.org/fhir/StructureDefinition/bp"),
    (
        "8716-3",
        "http://hl7.org/fhir/StructureDefinition/vitalsigns",
    ),
];

/// The profiles that the codes of an observation call for.
pub(super) fn profiles_of<'d>(observation: Value<'d>) -> impl Iterator<Item = &'static str> + 'd {
    let code = observation.get("code");
    code.and_then(|it| it.get("coding"))
        .into_iter()
        .flat_map(Value::children)
        .filter(|it| it.get("system").and_then(Value::as_str) == Some("http://loinc.org"))
        .filter_map(|it| it.get("code").and_then(Value::as_str))
        .filter_map(|code| {
            BY_CODE
                .iter()
                .find(|(known, _)| *known == code)
                .map(|(_, url)| *url)
        })
}
