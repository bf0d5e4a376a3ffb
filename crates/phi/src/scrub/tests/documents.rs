//! Places in resources and forms of content that once let something pass, each beside what stays.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;

/// What becomes of a document when a record is known.
fn scrubbed(record: &Value, document: &Value, dates: DateUse) -> (Value, Slots) {
    let lexicon = Lexicon::embedded().unwrap();
    let known = Known::of_resources(lexicon, [record]).unwrap();
    let settings = Settings {
        dates,
        ..Settings::default()
    };
    let scrubber = Scrubber::new(lexicon, &known, settings);
    let mut slots = Slots::new();
    let value = scrubber.scrub_resource(document, &mut slots).unwrap().value;
    (value, slots)
}

#[track_caller]
fn check_with(record: &Value, cases: &[(Value, Value)], dates: DateUse) {
    for (document, expected) in cases {
        let (found, _) = scrubbed(record, document, dates);
        assert_eq!(&found, expected, "from {document}");
    }
}

#[track_caller]
fn check(record: &Value, cases: &[(Value, Value)]) {
    check_with(record, cases, DateUse::Slot);
}

fn patient(family: &str, given: &[&str]) -> Value {
    json!({ "resourceType": "Patient", "name": [{ "family": family, "given": given }] })
}

#[test]
fn a_name_in_one_text_is_known_and_goes() {
    let lexicon = Lexicon::embedded().unwrap();
    for record in [
        json!({ "resourceType": "Patient", "name": [{ "text": "Thandiwe Mokoena" }] }),
        json!({ "resourceType": "Patient", "contact": [{ "name": { "text": "Thandiwe Mokoena" } }] }),
        json!({ "resourceType": "Patient", "extension": [{ "url": "http://x", "valueHumanName": { "text": "Thandiwe Mokoena" } }] }),
        json!({ "resourceType": "FamilyMemberHistory", "name": "Thandiwe Mokoena" }),
        json!({ "resourceType": "Observation", "note": [{ "authorString": "Thandiwe Mokoena" }] }),
    ] {
        let known = Known::of_resources(lexicon, [&record]).unwrap();
        let scrubber = Scrubber::new(lexicon, &known, Settings::default());
        let note = scrubber.scrub("mokoena stable, stabler", &mut Slots::new());
        assert_eq!(note.unwrap().text, "[NAME-1] stable, stabler", "{record}");
        let (own, _) = scrubbed(&json!({}), &record, DateUse::Slot);
        assert!(!own.to_string().contains("Mokoena"), "{own}");
    }
    // What somebody is, is no name.
    let mother = json!({ "resourceType": "FamilyMemberHistory", "name": "Mother" });
    assert!(Known::of_resources(lexicon, [&mother]).unwrap().is_empty());
    // A name of something else is no name of a person.
    let plan = json!({ "resourceType": "CarePlan", "title": "Mokoena" });
    assert!(Known::of_resources(lexicon, [&plan]).unwrap().is_empty());
}

#[test]
fn names_that_are_ordinary_words_go_in_small_letters_too() {
    let lexicon = Lexicon::embedded().unwrap();
    let known = Known::of_resources(lexicon, [&patient("Wood", &["Grace"])]).unwrap();
    let scrubber = Scrubber::new(lexicon, &known, Settings::default());
    for (text, expected) in [
        ("pt grace wood c/o pain", "pt [NAME-1] c/o pain"),
        ("wood, grace: stable", "[NAME-1], [NAME-2]: stable"),
        ("pt wood c/o pain", "pt [NAME-1] c/o pain"),
        ("mrs. wood agrees", "mrs. [NAME-1] agrees"),
        ("his wife grace agrees", "his wife [NAME-1] agrees"),
        // The words by themselves.
        ("a splinter of wood", "a splinter of wood"),
        ("with grace and wood dust", "with grace and wood dust"),
    ] {
        let found = scrubber.scrub(text, &mut Slots::new()).unwrap().text;
        assert_eq!(found, expected);
    }
    // What binds sentences together is no name behind "pt", nor are words of two people one name.
    let two = json!({ "resourceType": "Bundle", "entry": [
        { "resource": patient("Will", &["May"]) },
        { "resource": patient("White", &["Ann"]) },
        { "resource": patient("Young", &["Bo"]) },
    ] });
    let known = Known::of_resources(lexicon, [&two]).unwrap();
    let scrubber = Scrubber::new(lexicon, &known, Settings::default());
    for text in ["pt will rest", "patient may return", "a young white man"] {
        assert_eq!(scrubber.scrub(text, &mut Slots::new()).unwrap().text, text);
    }
}

#[test]
fn titles_keep_endings_of_files_and_no_words() {
    let attachment = |title: &str| json!({ "resourceType": "DocumentReference", "content": [{ "attachment": { "title": title } }] });
    let record = patient("Berg", &["Ann"]);
    check(
        &record,
        &[
            (
                attachment("Letter to Mr.Berg"),
                attachment("Letter to Mr.[NAME-1]"),
            ),
            (attachment("Visit 4.12.80"), attachment("Visit [DATE-1]")),
            (
                attachment("Berg_Ann.4.12.80"),
                attachment("[NAME-1]_[NAME-2].[DATE-1]"),
            ),
            (attachment("Berg_Ann.PDF"), attachment("[ID-1].pdf")),
            (attachment("scan.docx"), attachment("[ID-1].docx")),
            (
                json!({ "resourceType": "Media", "content": { "contentType": "image/berg", "url": "x" } }),
                json!({ "resourceType": "Media", "content": { "contentType": "[ID-1]" } }),
            ),
        ],
    );
}

#[test]
fn bytes_outside_of_attachments_are_withheld() {
    let short = STANDARD.encode("John Smith");
    let long = STANDARD.encode("John Smith, ".repeat(20));
    let cda = format!(
        "<?xml version='1.0'?><ClinicalDocument><nonXMLBody><text representation=\"B64\">{long}</text></nonXMLBody></ClinicalDocument>"
    );
    let narrative = "<?xml version='1.0'?><ClinicalDocument><paragraph>Berg well</paragraph></ClinicalDocument>";
    let xml = |text: &str| json!({ "resourceType": "DocumentReference", "content": [{ "attachment": { "contentType": "text/xml", "data": STANDARD.encode(text) } }] });
    check(
        &patient("Berg", &["Ann"]),
        &[
            (
                json!({ "resourceType": "Basic", "extension": [{ "url": "http://x", "valueBase64Binary": short }] }),
                json!({ "resourceType": "Basic", "extension": [{ "url": "http://x" }] }),
            ),
            (
                json!({ "resourceType": "Provenance", "signature": [{ "who": { "reference": "Patient/1" }, "sigFormat": "image/png", "data": short }] }),
                json!({ "resourceType": "Provenance", "signature": [{ "who": { "reference": "Patient/[ID-1]" }, "sigFormat": "image/png" }] }),
            ),
            (
                json!({ "resourceType": "AuditEvent", "entity": [{ "query": short, "type": { "code": "1" } }] }),
                json!({ "resourceType": "AuditEvent", "entity": [{ "type": { "code": "1" } }] }),
            ),
            (
                json!({ "resourceType": "Basic", "comment": format!("see {long}") }),
                json!({ "resourceType": "Basic" }),
            ),
            (
                xml(&cda),
                json!({ "resourceType": "DocumentReference", "content": [{ "attachment": { "contentType": "text/xml" } }] }),
            ),
            (
                xml(narrative),
                json!({ "resourceType": "DocumentReference", "content": [{ "attachment": { "contentType": "text/plain; charset=utf-8", "data": STANDARD.encode("[NAME-1] well") } }] }),
            ),
            // The numbers of a tracing are no bytes.
            (
                json!({ "resourceType": "Observation", "valueSampledData": { "origin": { "value": 0 }, "data": "2 4 E 8" } }),
                json!({ "resourceType": "Observation", "valueSampledData": { "origin": { "value": 0 }, "data": "2 4 E 8" } }),
            ),
        ],
    );
}

#[test]
fn json_is_read_with_its_escapes() {
    let attachment = |media: &str, text: &str| json!({ "resourceType": "DocumentReference", "content": [{ "attachment": { "contentType": media, "data": STANDARD.encode(text) } }] });
    let read = |text: &str| attachment("text/plain; charset=utf-8", text);
    let unread = |media: &str| json!({ "resourceType": "DocumentReference", "content": [{ "attachment": { "contentType": media } }] });
    let json_type = "application/json";
    check(
        &patient("Muñoz", &["Anna"]),
        &[
            (
                attachment(json_type, r#"{"n":"Mu\u00f1oz","t":["x\nAnna",7,null]}"#),
                read("n: [NAME-1]\nt: x\n[NAME-2]\nt: 7"),
            ),
            (
                attachment(
                    "application/fhir+json",
                    r#"{"n":"{\"m\":\"Mu\\u00f1oz\"}"}"#,
                ),
                read("n: m: [NAME-1]"),
            ),
            (
                attachment("text/plain", r#"[{"n":"Mu\u00f1oz"}]"#),
                read("n: [NAME-1]"),
            ),
            (
                attachment(json_type, r#"{"data":"QW5uYQ==","n":"<b>An</b>na"}"#),
                read("data: (bytes)\nn: [NAME-1]"),
            ),
            (
                attachment("text/plain", r"[x] done {y}"),
                read("[x] done {y}"),
            ),
            // Broken, it is not shown at all.
            (
                attachment(json_type, r#"{"n":"Mu\u00f1oz""#),
                unread(json_type),
            ),
            (
                attachment("text/plain", r#"{"n":"Mu\u00f1oz""#),
                unread("text/plain"),
            ),
            (
                attachment("text/plain", r#"n = "Mu\u00f1oz""#),
                unread("text/plain"),
            ),
            (
                json!({ "resourceType": "Basic", "comment": r#"["Mu\u00f1oz"]"# }),
                json!({ "resourceType": "Basic", "comment": "[NAME-1]" }),
            ),
        ],
    );
}

#[test]
fn references_keep_type_and_nothing_of_the_server() {
    let to =
        |reference: &str| json!({ "resourceType": "Basic", "subject": { "reference": reference } });
    check(
        &json!({}),
        &[
            (to("Patient/abc"), to("Patient/[ID-1]")),
            (
                to("https://h/api/FHIR/R4/Patient/abc"),
                to("Patient/[ID-1]"),
            ),
            (
                to("https://h/MercyHospital/Patient/1/_history/3"),
                to("Patient/[ID-1]"),
            ),
            (to("https://h/MercyHospital/1"), to("[ID-1]")),
            (to("Mercy/1"), to("[ID-1]")),
            (to("#p1"), to("#p1")),
        ],
    );
}

#[test]
fn addresses_stay_in_extensions_and_systems_only() {
    check(
        &json!({}),
        &[
            (
                json!({ "resourceType": "Device", "url": "http://10.1.2.3/pump-4711" }),
                json!({ "resourceType": "Device", "url": "[URL-1]" }),
            ),
            (
                json!({ "resourceType": "Basic", "extension": [{ "url": "http://hl7.org/fhir/x", "valueUri": "https://fb.com/jane.doe" }] }),
                json!({ "resourceType": "Basic", "extension": [{ "url": "http://hl7.org/fhir/x", "valueUri": "[URL-1]" }] }),
            ),
            (
                json!({ "resourceType": "Basic", "meta": { "profile": ["http://hl7.org/fhir/p"] }, "code": { "coding": [{ "system": "http://loinc.org", "code": "8867-4" }] } }),
                json!({ "resourceType": "Basic", "meta": { "profile": ["http://hl7.org/fhir/p"] }, "code": { "coding": [{ "system": "http://loinc.org", "code": "8867-4" }] } }),
            ),
        ],
    );
}

#[test]
fn births_and_deaths_go_where_dates_stay() {
    let history = |born: &str, dead: &str, date: &str| json!({ "resourceType": "FamilyMemberHistory", "bornDate": born, "deceasedDate": dead, "date": date });
    let time = |birth: &str| json!({ "resourceType": "Patient", "_birthDate": { "extension": [{ "url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime", "valueDateTime": birth }] } });
    check_with(
        &json!({}),
        &[
            (
                history("1931-02-03", "2001-05-06", "2020-01-02"),
                history("[DATE-1]", "[DATE-2]", "2020-01-02"),
            ),
            (time("1980-04-12T14:35:45-05:00"), time("[DATE-1]")),
            (
                json!({ "resourceType": "FamilyMemberHistory", "bornPeriod": { "start": "1931-01-01" } }),
                json!({ "resourceType": "FamilyMemberHistory", "bornPeriod": { "start": "[DATE-1]" } }),
            ),
            (
                json!({ "resourceType": "Encounter", "period": { "start": "2020-01-01" } }),
                json!({ "resourceType": "Encounter", "period": { "start": "2020-01-01" } }),
            ),
        ],
        DateUse::Keep,
    );
    // What the record says there is known in notes as well.
    let lexicon = Lexicon::embedded().unwrap();
    let record = history("1931-02-03", "2001-05-06", "2020-01-02");
    let known = Known::of_resources(lexicon, [&record, &time("1980-04-12T14:35:45Z")]).unwrap();
    let settings = Settings {
        dates: DateUse::Keep,
        ..Settings::default()
    };
    let scrubber = Scrubber::new(lexicon, &known, settings);
    let text = "2/3/1931, 5/6/2001, 4/12/1980, 1/2/2020";
    assert_eq!(
        scrubber.scrub(text, &mut Slots::new()).unwrap().text,
        "[DATE-1], [DATE-2], [DATE-3], 1/2/2020"
    );
}

#[test]
fn a_structured_date_does_not_come_back_as_prose() {
    let document = json!({ "resourceType": "Observation", "note": [{ "text": "seen 4/12/2023" }], "effectiveDateTime": "2023-04-12" });
    let (found, slots) = scrubbed(&json!({}), &document, DateUse::Slot);
    assert_eq!(slots.resolve_json(&found).unwrap(), document);
}

#[test]
fn what_is_withheld_in_a_list_keeps_its_place() {
    let run = "Sm9obiBTbWl0aCwg".repeat(13);
    check(
        &json!({}),
        &[
            (
                json!({ "resourceType": "Basic", "alias": ["a", run, "b"], "item": [{ "text": run }, { "text": "c" }] }),
                json!({ "resourceType": "Basic", "alias": ["a", null, "b"], "item": [{ "text": "c" }] }),
            ),
            (
                json!({ "resourceType": "Basic", "alias": [run] }),
                json!({ "resourceType": "Basic" }),
            ),
        ],
    );
}

#[test]
fn names_of_members_that_say_something_are_withheld() {
    check(
        &patient("Berg", &["Ann"]),
        &[(
            json!({ "resourceType": "Basic", "Jane Doe": true, "berg": 1, "extra": 2, "value": 5_551_234_567_u64 }),
            json!({ "resourceType": "Basic", "extra": 2 }),
        )],
    );
}

/// A megabyte that costs much per tag is refused by its length before anything reads it.
#[test]
fn what_is_too_long_is_not_read_at_all() {
    let long = "<a".repeat(1 << 20);
    check(
        &json!({}),
        &[(
            json!({ "resourceType": "Basic", "comment": long, "text": { "status": "generated", "div": long } }),
            json!({ "resourceType": "Basic", "text": { "status": "generated" } }),
        )],
    );
}

/// In a PDF words are torn apart, so that a name in it is nowhere to be found.
#[test]
fn a_page_description_is_withheld_whatever_it_says_it_is_and_costs_nothing() {
    let torn = "BT [(Mok)-20(oe)14(na)] TJ (Thandi) Tj (we) Tj ET\n".repeat(40);
    let known = patient("Mokoena", &["Thandiwe"]);
    let lexicon = Lexicon::embedded().unwrap();
    let known = Known::of_resources(lexicon, [&known]).unwrap();
    let scrubber = Scrubber::new(lexicon, &known, Settings::default());
    let read = |passage: FreeText<'_>| scrubber.scrub_passage(passage, &mut Slots::new());
    let types = [
        None,
        Some("application/pdf"),
        Some("text/plain"),
        Some("text/html; charset=utf-8"),
        Some("application/octet-stream"),
        Some("application/json"),
    ];
    // Whatever stands before the mark, as far as readers look for it.
    for before in [
        "",
        "\n",
        "\u{feff}",
        "<html>",
        "\r\n % a comment \n",
        &"x ".repeat(500),
    ] {
        for mark in ["%PDF-1.7\n", "%PDF-2.0 ", "%!PS-Adobe-3.0\n"] {
            let text = format!("{before}{mark}{torn}");
            for content_type in types {
                let data = STANDARD.encode(&text);
                let content = FreeText::Content {
                    content_type,
                    data: &data,
                };
                assert_eq!(
                    read(content).unwrap_err(),
                    Withheld::Unreadable,
                    "{content_type:?}"
                );
            }
            assert_eq!(
                read(FreeText::Text(&text)).unwrap_err(),
                Withheld::Unreadable
            );
        }
    }
    // Streams that unpack to gigabytes, and nesting without end, are never looked into.
    let zeros = "<< /Filter /FlateDecode >> stream".to_owned() + &"\u{1}".repeat(1_000);
    let nested = "[".repeat(60_000);
    for hostile in [zeros, nested] {
        let data = STANDARD.encode(format!("%PDF-1.7\n{hostile}"));
        let content = FreeText::Content {
            content_type: None,
            data: &data,
        };
        assert_eq!(read(content).unwrap_err(), Withheld::Unreadable);
    }
    // Who only writes about PDF is read.
    for note in [
        "Scan kept as PDF-1.7, 5 %",
        "100 %PDF of Mokoena",
        "50%! PSA is high",
    ] {
        let scrubbed = read(FreeText::Text(note)).unwrap().text;
        assert_eq!(scrubbed, note.replace("Mokoena", "[NAME-1]"));
    }
}
