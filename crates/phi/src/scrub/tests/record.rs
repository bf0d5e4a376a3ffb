//! Texts and resources of a known patient: however the record's identifiers are written, none is left.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::scrub::document::DocumentRefused;

fn record() -> Value {
    json!({
        "resourceType": "Bundle",
        "entry": [
            { "resource": {
                "resourceType": "Patient",
                "id": "7f3c9a52-1111-4222-8333-944455556666",
                "identifier": [
                    { "type": { "coding": [{ "code": "MR" }] }, "system": "urn:x", "value": "AB-104.577" },
                    { "system": "http://hl7.org/fhir/sid/us-ssn", "value": "999-63-8540" }
                ],
                "name": [{ "family": "Parkinson-Muñoz", "given": ["Robert", "Quentin"] }],
                "telecom": [
                    { "system": "phone", "value": "(555) 359-6021" },
                    { "system": "email", "value": "bobpark@mail.example" }
                ],
                "birthDate": "1958-04-12",
                "address": [{ "line": ["672 Pfannerstill Passage Apt 60"], "city": "Athol", "state": "Massachusetts", "postalCode": "01331" }],
                "contact": [{ "name": { "family": "Will", "given": ["May"] } }]
            } },
            { "resource": { "resourceType": "Practitioner", "name": [{ "family": "Brakus", "given": ["Lilliana"] }] } },
            { "resource": { "resourceType": "Organization", "name": "ATHOL MEMORIAL HOSPITAL" } }
        ]
    })
}

fn with_record<T>(work: impl FnOnce(&Scrubber<'_>) -> T) -> T {
    let lexicon = Lexicon::embedded().unwrap();
    let record = record();
    let known = Known::of_resources(lexicon, [&record]).unwrap();
    work(&Scrubber::new(lexicon, &known, Settings::default()))
}

#[test]
fn identifiers_go_however_they_are_written() {
    with_record(|scrubber| {
        for (text, gone) in [
            ("parkinson's disease in Bob", &["arkinson", "Bob"][..]),
            ("PARKINSON MUNOZ, ROBERT", &["PARKINSON", "MUNOZ", "ROBERT"]),
            ("Robbie Parkinsn and R.P.", &["Robbie", "Parkinsn", "R.P."]),
            ("P a r k i n s o n called", &["k i n"]),
            ("Park\u{200b}inson and Раrkinson", &["inson"]),
            (
                "user rparkinson58, file Munoz_Robert_1958.pdf",
                &["rparkinson58", "Munoz", "Robert"],
            ),
            ("record ab104577 or AB 104 577 or AB-104-577", &["104"]),
            ("ssn 999638540, 999 63 8540", &["999", "8540"]),
            (
                "call 555.359.6021 or 15553596021 or 359-6021",
                &["359", "6021"],
            ),
            (
                "born 12 April 1958, 4/12/58, 19580412, 041258",
                &["1958", "0412", "4/12"],
            ),
            (
                "672 Pfannerstill Psge, Athol 01331",
                &["672", "Pfannerstill", "Athol", "01331"],
            ),
            ("near Pfannerstill", &["Pfannerstill"]),
            (
                "mail BOBPARK@mail.example or bobpark",
                &["BOBPARK", "bobpark"],
            ),
            ("Will and May came", &["Will", "May"]),
            ("dr brakus at Athol Memorial (AMH)", &["brakus", "Athol"]),
            ("id 7f3c9a52111142228333944455556666", &["7f3c9a52"]),
        ] {
            let scrubbed = scrubber.scrub(text, &mut Slots::new()).unwrap().text;
            for part in gone {
                assert!(!scrubbed.contains(part), "{text} -> {scrubbed}");
            }
        }
    });
}

#[test]
fn what_only_resembles_the_record_stays() {
    with_record(|scrubber| {
        for text in [
            "He will rest and may return.",
            "Lab 104 577 1, 12345678 cells",
            "memorial for the day",
        ] {
            assert_eq!(scrubber.scrub(text, &mut Slots::new()).unwrap().text, text);
        }
    });
}

#[test]
fn births_go_where_dates_stay() {
    let lexicon = Lexicon::embedded().unwrap();
    let record = record();
    let known = Known::of_resources(lexicon, [&record]).unwrap();
    let settings = Settings {
        dates: DateUse::Keep,
        ..Settings::default()
    };
    let scrubber = Scrubber::new(lexicon, &known, settings);
    let scrubbed = scrubber
        .scrub("seen 2023-04-12; 1958-04-12", &mut Slots::new())
        .unwrap()
        .text;
    assert_eq!(scrubbed, "seen 2023-04-12; [DATE-1]");
}

const NOTE: &str = "Robert Parkinson, MRN AB-104.577, seen by Lilliana Brakus";
const CANARIES: [&str; 8] = [
    "Parkinson",
    "parkinson",
    "Robert",
    "104",
    "Brakus",
    "Athol",
    "6021",
    "1958",
];

#[track_caller]
fn nothing_left(value: &Value) {
    let mut texts = vec![value.to_string()];
    collect(value, &mut texts);
    for text in texts {
        for canary in CANARIES {
            assert!(!text.contains(canary), "`{canary}` in {text}");
        }
    }
}

fn collect(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            if let Ok(bytes) = STANDARD.decode(text) {
                texts.push(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        Value::Array(items) => items.iter().for_each(|it| collect(it, texts)),
        Value::Object(object) => object.values().for_each(|it| collect(it, texts)),
        _ => {}
    }
}

#[test]
fn no_place_in_a_resource_lets_an_identifier_pass() {
    let note = STANDARD.encode(NOTE);
    let html = STANDARD.encode(format!(
        "<p title=\"{NOTE}\">Rob<b>ert</b> P&#97;rkinson</p><!-- {NOTE} -->"
    ));
    let rtf = STANDARD.encode(r"{\rtf1 Rob\b ert\b0  P\'61rkinson {\info Brakus}}");
    let resource = json!({
        "resourceType": "DocumentReference",
        "id": "parkinson-1",
        "meta": { "source": "urn:Parkinson", "lastUpdated": "2023-04-12T10:00:00Z", "tag": [{ "display": NOTE }] },
        "text": { "status": "generated", "div": format!("<div xmlns=\"http://www.w3.org/1999/xhtml\"><p title='{NOTE}'>{NOTE}</p></div>") },
        "contained": [{ "resourceType": "Patient", "id": "p", "name": [{ "text": NOTE }], "birthDate": "1958-04-12" }],
        "extension": [
            { "url": "http://example.org/x", "valueString": NOTE },
            { "url": "http://example.org/parkinson", "valueAddress": { "city": "Athol" } },
            { "url": "http://hl7.org/fhir/StructureDefinition/geolocation", "extension": [{ "url": "latitude", "valueDecimal": 42.5 }] }
        ],
        "identifier": [{ "system": "urn:x", "value": "AB-104.577" }],
        "subject": { "reference": "Patient/7f3c9a52-1111-4222-8333-944455556666", "display": "Robert Parkinson" },
        "author": [{ "display": "Lilliana Brakus" }],
        "custodian": { "display": "Athol Memorial" },
        "description": NOTE,
        "_description": { "extension": [{ "url": "http://example.org/y", "valueCode": "Parkinson" }] },
        "unknownElement": { "anything": [NOTE, { "deeper": NOTE }] },
        "phone": 5_553_596_021_u64,
        "content": [
            { "attachment": { "contentType": "text/plain", "data": note, "title": "Parkinson_Robert_1958.pdf", "url": "http://x/Parkinson", "hash": note } },
            { "attachment": { "contentType": "text/html", "data": html } },
            { "attachment": { "contentType": "application/rtf", "data": rtf } },
            { "attachment": { "contentType": "application/pdf", "data": note } },
            { "attachment": { "contentType": "image/jpeg", "data": note } },
            { "attachment": { "data": "!!! not base64 Parkinson" } }
        ],
        "photo": [{ "contentType": "image/png", "data": note }]
    });
    with_record(|scrubber| {
        let scrubbed = scrubber
            .scrub_resource(&resource, &mut Slots::new())
            .unwrap();
        nothing_left(&scrubbed.value);
        let withheld: Vec<&str> = scrubbed
            .withheld
            .iter()
            .map(|it| it.path.as_str())
            .collect();
        assert!(
            withheld.contains(&"content.attachment.url") && withheld.contains(&"photo.data"),
            "{withheld:?}"
        );
        // What is read comes back as plain text.
        let data = scrubbed
            .value
            .pointer("/content/0/attachment/data")
            .and_then(Value::as_str)
            .unwrap();
        let text = String::from_utf8(STANDARD.decode(data).unwrap()).unwrap();
        assert!(
            text.starts_with("[NAME-") && text.contains("seen by [NAME-"),
            "{text}"
        );
        for unread in 3..6 {
            assert!(
                scrubbed
                    .value
                    .pointer(&format!("/content/{unread}/attachment/data"))
                    .is_none()
            );
        }
        assert_eq!(
            scrubbed.value.pointer("/text/status"),
            Some(&json!("generated"))
        );
    });
}

#[test]
fn codes_and_quantities_stay() {
    let resource = json!({
        "resourceType": "Observation",
        "status": "final",
        "category": [{ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs", "display": "Vital Signs" }] }],
        "code": { "coding": [{ "system": "http://loinc.org", "code": "8867-4", "display": "Heart rate" }] },
        "valueQuantity": { "value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min" }
    });
    with_record(|scrubber| {
        let scrubbed = scrubber
            .scrub_resource(&resource, &mut Slots::new())
            .unwrap();
        assert_eq!(scrubbed.value, resource);
        assert!(scrubbed.withheld.is_empty() && scrubbed.replaced.is_empty());
    });
}

#[test]
fn a_resource_without_end_is_refused() {
    let mut deep = json!("Parkinson");
    for _ in 0..200 {
        deep = json!([deep]);
    }
    with_record(|scrubber| {
        let refused = scrubber
            .scrub_resource(&deep, &mut Slots::new())
            .unwrap_err();
        assert_eq!(refused, DocumentRefused::TooLarge);
    });
}

#[test]
fn slots_of_a_resource_lead_back() {
    let resource = json!({ "resourceType": "Basic", "note": NOTE });
    with_record(|scrubber| {
        let mut slots = Slots::new();
        let scrubbed = scrubber.scrub_resource(&resource, &mut slots).unwrap();
        assert_eq!(slots.resolve_json(&scrubbed.value).unwrap(), resource);
        assert!(Slots::new().resolve_json(&scrubbed.value).is_err());
    });
}
