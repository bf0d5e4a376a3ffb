//! Lists that decide what a Safe Harbor copy keeps: elements that are removed wherever they stand, names that hold
//! codes, and code systems that are the same for everybody. Start at [`is_removed`].

/// Elements that are removed wherever they stand, whatever they hold: identifiers, free text, and instants,
/// which FHIR does not let be a year.
///
/// # Source
/// 45 CFR 164.514(b)(2)(i), (A), (B) and (D) to (R); FHIR R4, `instant`.
const REMOVED: [&str; 51] = [
    "identifier",
    "telecom",
    "photo",
    "contact",
    "note",
    "comment",
    "comments",
    "description",
    "conclusion",
    "div",
    "source",
    "implicitRules",
    "versionId",
    "lastUpdated",
    "issued",
    "timestamp",
    "recorded",
    "alias",
    "subscriberId",
    "serialNumber",
    "udiCarrier",
    "lotNumber",
    "distinctIdentifier",
    "deviceName",
    "deviceIdentifier",
    "masterIdentifier",
    "groupIdentifier",
    "requisition",
    "accountIdentifier",
    "ifNoneExist",
    "ifMatch",
    "ifNoneMatch",
    "ifModifiedSince",
    "response",
    "link",
    "signature",
    "sourceAttachment",
    "sourceReference",
    "patientInstruction",
    "instruction",
    "valueString",
    "valueMarkdown",
    "valueAddress",
    "valueHumanName",
    "valueContactPoint",
    "valueIdentifier",
    "valueAttachment",
    "valueAnnotation",
    "valueSignature",
    "contentString",
    "payload",
];

/// Types of which every date-time named `start`, `end` or the like is an instant.
const INSTANTS: [(&str, &[&str]); 3] = [
    ("Appointment", &["start", "end"]),
    ("AppointmentResponse", &["start", "end"]),
    ("Slot", &["start", "end"]),
];

/// Whether an element of a resource is removed, whatever it holds.
pub(super) fn is_removed(resource: &str, key: &str) -> bool {
    REMOVED.contains(&key)
        || INSTANTS
            .iter()
            .any(|(of, keys)| *of == resource && keys.contains(&key))
        || (matches!(
            resource,
            "Patient" | "Person" | "RelatedPerson" | "Practitioner" | "Organization" | "Location"
        ) && key == "name")
}

/// Whether an element holds a code, beside those that every resource has.
pub(super) fn is_coded_value(key: &str) -> bool {
    matches!(
        key,
        "valueTime"
            | "valueOid"
            | "valueId"
            | "day"
            | "dayOfWeek"
            | "timeOfDay"
            | "when"
            | "durationUnit"
            | "periodUnit"
            | "relationship"
            | "interpretation"
            | "fhirVersion"
            | "criticality"
            | "category"
            | "clinicalStatus"
            | "verificationStatus"
            | "allergenicity"
            | "contentType"
            | "lang"
    )
}

/// Code systems whose codes are the same for everybody; those for people's own numbers are none.
///
/// # Source
/// HL7 Terminology (THO), external code systems.
pub(super) fn is_public_system(system: &str) -> bool {
    const PUBLIC: [&str; 17] = [
        "http://loinc.org",
        "http://snomed.info/sct",
        "http://unitsofmeasure.org",
        "http://hl7.org/fhir/",
        "http://terminology.hl7.org/",
        "http://www.nlm.nih.gov/research/umls/",
        "http://www.ama-assn.org/go/cpt",
        "http://www.cms.gov/",
        "https://www.cms.gov/",
        "https://www.usps.com/",
        "http://nucc.org/provider-taxonomy",
        "http://dicom.nema.org/",
        "http://fdasis.nlm.nih.gov",
        "https://nahdo.org/sopt",
        "urn:iso:std:iso:",
        "urn:ietf:bcp:",
        "urn:oid:2.16.840.1.113883.6.",
    ];
    const PERSONAL: [&str; 4] = ["us-ssn", "us-npi", "us-mbi", "us-medicare"];
    PUBLIC.iter().any(|it| system.starts_with(it)) && !PERSONAL.iter().any(|it| system.contains(it))
}

/// Whether the country of an address is the United States.
pub(super) fn is_united_states(country: &str) -> bool {
    let plain: String = country
        .chars()
        .filter(|c| c.is_alphabetic())
        .map(|c| c.to_ascii_lowercase())
        .collect();
    matches!(
        plain.as_str(),
        "us" | "usa" | "unitedstates" | "unitedstatesofamerica"
    )
}
