//! A record with an identifier in every place that has one; nothing of it is in the copy.

use super::*;

fn record() -> Value {
    json!({
        "resourceType": "Bundle",
        "type": "transaction",
        "timestamp": "2024-05-06T07:08:09Z",
        "entry": [
            {
                "fullUrl": "urn:uuid:563460b4-b997-4772-a548-a9f877eb4c12",
                "resource": {
                    "resourceType": "Patient",
                    "id": "563460b4-b997-4772-a548-a9f877eb4c12",
                    "meta": { "source": "urn:x", "lastUpdated": "2024-05-06T07:08:09Z", "profile": ["http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient"] },
                    "text": { "status": "generated", "div": "<div>Canary Roe</div>" },
                    "identifier": [{ "system": "http://hl7.org/fhir/sid/us-ssn", "value": "999-63-8540" }],
                    "name": [{ "family": "Canary", "given": ["Ann"] }],
                    "telecom": [{ "system": "phone", "value": "555-359-6021" }],
                    "gender": "female",
                    "birthDate": "1958-04-12",
                    "address": [{ "line": ["1 Canary St"], "city": "Athol", "state": "Massachusetts", "postalCode": "01331", "country": "US" }],
                    "photo": [{ "contentType": "image/png", "data": "Q2FuYXJ5" }],
                    "extension": [
                        { "url": "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName", "valueString": "Canary Roe" },
                        { "url": "http://hl7.org/fhir/us/core/StructureDefinition/us-core-birthsex", "valueCode": "F" }
                    ]
                },
                "request": { "method": "PUT", "url": "Patient/563460b4-b997-4772-a548-a9f877eb4c12", "ifNoneExist": "identifier=999-63-8540" }
            },
            {
                "fullUrl": "urn:uuid:161a799c-4894-36f6-8ca7-2a71c8107f79",
                "resource": {
                    "resourceType": "Observation",
                    "id": "o1-canary",
                    "status": "final",
                    "subject": { "reference": "urn:uuid:563460b4-b997-4772-a548-a9f877eb4c12", "display": "Ann Canary" },
                    "performer": [{ "reference": "Practitioner?identifier=http://x|580" }],
                    "effectiveDateTime": "2024-05-06T07:08:09Z",
                    "issued": "2024-05-06T07:08:09.123Z",
                    "code": { "coding": [{ "system": "http://loinc.org", "code": "8867-4", "display": "Heart rate" }], "text": "Ann's heart rate" },
                    "valueQuantity": { "value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min" },
                    "note": [{ "text": "Canary came by" }]
                }
            },
            {
                "resource": {
                    "resourceType": "Condition",
                    "id": "c",
                    "subject": { "reference": "Patient/563460b4-b997-4772-a548-a9f877eb4c12" },
                    "onsetAge": { "value": 93, "unit": "years", "system": "http://unitsofmeasure.org", "code": "a" },
                    "recordedDate": "1931-01-01"
                }
            }
        ]
    })
}

#[test]
fn nothing_that_identifies_is_in_the_copy() {
    let copy = safe_harbor(Lexicon::embedded().unwrap(), &record(), 2026).unwrap();
    let text = copy.value.to_string();
    for canary in [
        "Canary", "canary", "Ann", "563460b4", "161a799c", "999-63", "359-6021", "1958-",
        "2024-05", "Athol", "01331", "Q2Fu", "o1-", "580", "1931", "93,",
    ] {
        assert!(!text.contains(canary), "`{canary}` in {text}");
    }
    for kept in [
        "\"1958\"",
        "\"2024\"",
        "Massachusetts",
        "\"013\"",
        "8867-4",
        "Heart rate",
        "\"valueCode\":\"F\"",
        "us-core-patient",
        "female",
    ] {
        assert!(text.contains(kept), "`{kept}` not in {text}");
    }
}

#[test]
fn references_still_lead_where_they_led() {
    let copy = safe_harbor(Lexicon::embedded().unwrap(), &record(), 2026)
        .unwrap()
        .value;
    let full_url = copy.pointer("/entry/0/fullUrl").unwrap();
    assert_eq!(
        copy.pointer("/entry/1/resource/subject/reference"),
        Some(full_url)
    );
    let id = copy
        .pointer("/entry/0/resource/id")
        .and_then(Value::as_str)
        .unwrap();
    assert_eq!(
        copy.pointer("/entry/2/resource/subject/reference"),
        Some(&json!(format!("Patient/{id}")))
    );
    assert_eq!(
        copy.pointer("/entry/1/resource/performer/0"),
        Some(&json!({ "display": "[removed]" }))
    );
    assert_eq!(
        copy.pointer("/entry/0/request"),
        Some(&json!({ "method": "PUT", "url": "Patient" }))
    );
    assert_eq!(
        copy.pointer("/entry/2/resource/onsetAge/value"),
        Some(&json!(90))
    );
}

#[test]
fn the_year_of_birth_stays_up_to_89_and_goes_after() {
    let born = |year: &str, as_of: i16| {
        let patient = json!({ "resourceType": "Patient", "birthDate": format!("{year}-12-31") });
        let copy = safe_harbor(Lexicon::embedded().unwrap(), &patient, as_of).unwrap();
        copy.value
            .get("birthDate")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    assert_eq!(born("1937", 2026).as_deref(), Some("1937"));
    assert_eq!(born("1936", 2026), None);
}

#[test]
fn what_is_no_resource_is_refused() {
    let refused = safe_harbor(Lexicon::embedded().unwrap(), &json!({ "a": 1 }), 2026).unwrap_err();
    assert_eq!(refused, DeidentifyFailed::NoResource);
}

#[track_caller]
fn check(cases: &[(Value, Value)]) {
    let lexicon = Lexicon::embedded().unwrap();
    for (record, expected) in cases {
        let copy = safe_harbor(lexicon, record, 2026).unwrap();
        assert_eq!(&copy.value, expected, "from {record}");
    }
}

#[test]
fn addresses_of_devices_and_accounts_go_and_those_of_definitions_stay() {
    check(&[
        (
            json!({ "resourceType": "Device", "url": "http://10.1.2.3/pump-4711", "status": "active" }),
            json!({ "resourceType": "Device", "status": "active" }),
        ),
        (
            json!({ "resourceType": "Basic", "extension": [{ "url": "http://hl7.org/fhir/x", "valueUri": "https://fb.com/jane.doe" }, { "url": "http://hl7.org/fhir/y", "valueCode": "tel:+1-555-123-4567" }, { "url": "http://hl7.org/fhir/z", "valueCode": "F" }] }),
            json!({ "resourceType": "Basic", "extension": [{ "url": "http://hl7.org/fhir/z", "valueCode": "F" }] }),
        ),
    ]);
}

#[test]
fn ages_over_89_in_any_quantity_are_folded() {
    let folded = json!({ "value": 90, "comparator": ">=", "unit": "a", "system": "http://unitsofmeasure.org", "code": "a" });
    let observation = |value: Value| json!({ "resourceType": "Observation", "code": { "coding": [{ "system": "http://loinc.org", "code": "30525-0" }] }, "valueQuantity": value });
    let condition = |name: &str, value: Value| json!({ "resourceType": "Condition", name: value });
    let months = |value: u32| json!({ "value": value, "code": "mo" });
    check(&[
        (
            observation(json!({ "value": 93, "code": "a" })),
            observation(folded.clone()),
        ),
        (
            observation(json!({ "value": 93 })),
            observation(folded.clone()),
        ),
        (
            observation(json!({ "value": 89, "code": "a" })),
            observation(json!({ "value": 89, "code": "a" })),
        ),
        (
            condition("onsetAge", months(1116)),
            condition("onsetAge", folded.clone()),
        ),
        (
            condition("onsetAge", months(1068)),
            condition("onsetAge", months(1068)),
        ),
        (
            condition(
                "onsetRange",
                json!({ "low": { "value": 85, "unit": "years" }, "high": { "value": 95 } }),
            ),
            condition(
                "onsetRange",
                json!({ "low": { "value": 85, "unit": "years" }, "high": folded }),
            ),
        ),
        (
            condition("valueQuantity", json!({ "value": 93, "unit": "/min" })),
            condition("valueQuantity", json!({ "value": 93, "unit": "/min" })),
        ),
        (
            json!({ "resourceType": "Observation", "code": { "coding": [{ "system": "http://loinc.org", "code": "30525-0" }] }, "valueInteger": 93 }),
            json!({ "resourceType": "Observation", "code": { "coding": [{ "system": "http://loinc.org", "code": "30525-0" }] } }),
        ),
    ]);
}

#[test]
fn states_countries_and_zip_areas_are_those_of_lists() {
    let patient = |address: Value| json!({ "resourceType": "Patient", "address": [address] });
    check(&[
        (
            patient(
                json!({ "city": "x", "state": "New York", "country": "US", "postalCode": "10001-1234" }),
            ),
            patient(json!({ "state": "New York", "country": "US", "postalCode": "100" })),
        ),
        (
            patient(json!({ "state": "Rotterdam", "country": "NL", "postalCode": "30123" })),
            patient(json!({ "country": "NL" })),
        ),
        (
            patient(json!({ "state": "MA", "country": "Rotterdam", "postalCode": "3012 AB" })),
            patient(json!({ "state": "MA" })),
        ),
        (
            patient(json!({ "state": "MA", "postalCode": "1000" })),
            patient(json!({ "state": "MA", "postalCode": "000" })),
        ),
    ]);
}

#[test]
fn what_is_no_element_and_codes_like_numbers_of_people_go() {
    let coded = |system: &str, code: &str| json!({ "resourceType": "Basic", "code": { "coding": [{ "userSelected": true, "system": system, "code": code }] } });
    let bare = |system: &str| json!({ "resourceType": "Basic", "code": { "coding": [{ "userSelected": true, "system": system }] } });
    check(&[
        (
            json!({ "resourceType": "Basic", "Jane Doe": true, "JaneDoe": true, "active": true }),
            json!({ "resourceType": "Basic", "active": true }),
        ),
        (
            coded("http://mercy.example/codes", "123-45-6789"),
            bare("http://mercy.example/codes"),
        ),
        (
            coded("http://hl7.org/fhir/sid/us-ssn", "123456789"),
            bare("http://hl7.org/fhir/sid/us-ssn"),
        ),
        (
            coded("http://snomed.info/sct", "44054006"),
            coded("http://snomed.info/sct", "44054006"),
        ),
        (
            coded("http://mercy.example/codes", "A-12"),
            coded("http://mercy.example/codes", "A-12"),
        ),
        (
            json!({ "resourceType": "Basic", "subject": { "reference": "https://h/MercyHospital/Patient/1" } }),
            json!({ "resourceType": "Basic", "subject": { "reference": "Patient/1" } }),
        ),
        (
            json!({ "resourceType": "Basic", "subject": { "reference": "MercyHospital/1" } }),
            json!({ "resourceType": "Basic", "subject": { "display": "[removed]" } }),
        ),
    ]);
}

#[test]
fn a_contained_resource_is_not_another_of_the_same_id() {
    let observation = |id: &str, practitioner: &str| json!({ "resource": { "resourceType": "Observation", "id": id, "contained": [{ "resourceType": "Practitioner", "id": practitioner }], "performer": [{ "reference": "#p1" }] } });
    let record = json!({ "resourceType": "Bundle", "entry": [
        { "resource": { "resourceType": "Patient", "id": "p1" } },
        { "resource": { "resourceType": "Practitioner", "id": "p1" } },
        observation("a", "p1"), observation("b", "p1"), observation("c", "p2"),
    ] });
    let copy = safe_harbor(Lexicon::embedded().unwrap(), &record, 2026)
        .unwrap()
        .value;
    let text = |pointer: &str| copy.pointer(pointer).and_then(Value::as_str).unwrap();
    let mut numbers = vec![text("/entry/0/resource/id"), text("/entry/1/resource/id")];
    for entry in [2, 3] {
        let id = text(&format!("/entry/{entry}/resource/contained/0/id"));
        let reference = text(&format!("/entry/{entry}/resource/performer/0/reference"));
        assert_eq!(reference, format!("#{id}"));
        numbers.push(id);
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 4, "{copy}");
    // Nothing of that id lies in the third.
    assert_eq!(
        copy.pointer("/entry/4/resource/performer/0"),
        Some(&json!({ "display": "[removed]" }))
    );
}
