//! Free text that a view names: it goes through whoever scrubs it, and nothing beside it comes along.

use serde_json::{Value, json};

use super::*;

fn text_view(resource_type: &str, fields: &[&str], text: &[&str]) -> Result<View, ViewInvalid> {
    let owned = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    View::compile_with_text(
        Definitions::r4(),
        &ToolName::new("the-tool").unwrap(),
        &ResourceType::new(resource_type).unwrap(),
        &owned(fields),
        &owned(text),
    )
}

/// Says what came, and withholds what holds `secret`.
fn scrubbing(passage: FreeText<'_>) -> Option<String> {
    let (form, text) = match passage {
        FreeText::Text(text) => ("text", text.to_owned()),
        FreeText::Narrative(text) => ("narrative", text.to_owned()),
        FreeText::Content { content_type, data } => {
            ("content", format!("{} {data}", content_type.unwrap_or("?")))
        }
        FreeText::Title(text) => ("title", text.to_owned()),
        FreeText::Display { element, reference } => {
            ("display", format!("{element} {}", reference["display"]))
        }
    };
    (!text.contains("secret")).then(|| format!("<{form}: {}>", text.len()))
}

#[track_caller]
fn check_text(view: &View, resource: &Value, expected: &Value, shown: &[&str], withheld: &[&str]) {
    let lookups = Lookups {
        free_text: &scrubbing,
        ..LOOKUPS
    };
    let projected = view.project(resource, &lookups).unwrap();
    assert_eq!(projected.value, *expected);
    assert_eq!(projected.text_shown, shown);
    assert_eq!(projected.withheld, withheld);
    assert!(view.holds_text(resource).unwrap());
    // Without somebody who scrubs, none of it.
    let projected = view.project(resource, &LOOKUPS).unwrap();
    assert!(projected.text_shown.is_empty());
    assert!(
        !projected.value.to_string().contains("Canary"),
        "{}",
        projected.value
    );
}

#[test]
fn notes_concepts_and_displays() {
    let view = text_view(
        "Condition",
        &["code", "recorder"],
        &[
            "note",
            "code.text",
            "code.coding.display",
            "recorder.display",
            "asserter.display",
            "onsetString",
        ],
    )
    .unwrap();
    let resource = json!({
        "resourceType": "Condition", "id": "c1",
        "code": {
            "coding": [{"system": "http://snomed.info/sct", "code": "38341003", "display": "Canary disease"}],
            "text": "Canary hypertension"
        },
        "bodySite": [{"text": "Canary site"}],
        "recorder": {"reference": "Practitioner/7", "display": "Dr. Canary"},
        "asserter": {"reference": "Patient/17", "display": "Ada Canary"},
        "onsetString": "when Canary was secret",
        "note": [
            {"authorString": "Canary", "time": "2026-01-01T00:00:00Z", "text": "Canary is calm"},
            {"text": "secret Canary"}
        ]
    });
    check_text(
        &view,
        &resource,
        &json!({
            "resourceType": "Condition", "id": "tok2",
            "code": {
                "coding": [{"system": "http://snomed.info/sct", "code": "38341003", "display": "<text: 14>"}],
                "text": "<text: 19>"
            },
            "recorder": {"reference": "Practitioner/tok1", "display": "<display: 21>"},
            "asserter": {"display": "<display: 21>"},
            "note": [{"text": "<text: 14>"}]
        }),
        &[
            "asserter.display",
            "code.coding.display",
            "code.text",
            "note.text",
            "recorder.display",
        ],
        &["note.authorString", "note.text", "onsetString"],
    );
}

#[test]
fn attachments_and_narratives() {
    let fields = ["date", "content.attachment.contentType"];
    let view = text_view(
        "DocumentReference",
        &fields,
        &["text", "content.attachment"],
    )
    .unwrap();
    let resource = json!({
        "resourceType": "DocumentReference", "status": "current", "date": "2026-01-01T00:00:00Z",
        "description": "Canary",
        "text": {"status": "generated", "div": "<div>Canary</div>"},
        "content": [
            {"attachment": {"contentType": "text/html", "data": "Q2FuYXJ5", "title": "Canary.pdf", "url": "Binary/Canary"}},
            {"attachment": {"contentType": "Canary 1", "data": ["Canary"], "title": {"a": "Canary"}}},
            {"attachment": {"data": "secret"}, "format": {"display": "Canary"}}
        ]
    });
    check_text(
        &view,
        &resource,
        &json!({
            "resourceType": "DocumentReference", "status": "current", "date": "2026-01-01T00:00:00Z",
            "text": {"text": "<narrative: 17>"},
            "content": [{"attachment": {"contentType": "text/html", "text": "<content: 18>", "title": "<title: 10>"}}]
        }),
        &[
            "content.attachment.data",
            "content.attachment.title",
            "text",
        ],
        &[
            "content.attachment.contentType",
            "content.attachment.data",
            "content.attachment.title",
            "content.attachment.url",
        ],
    );
    // The content alone: the title stays behind without a word, as everything that nobody named.
    let view = text_view("DocumentReference", &fields, &["content.attachment.data"]).unwrap();
    let projected = view
        .project(
            &resource,
            &Lookups {
                free_text: &scrubbing,
                ..LOOKUPS
            },
        )
        .unwrap();
    assert_eq!(projected.text_shown, ["content.attachment.data"]);
    assert!(!projected.value.to_string().contains("title"));
}

#[test]
fn answers_and_messages() {
    let view = text_view("QuestionnaireResponse", &["status"], &["item.answer.value"]).unwrap();
    let resource = json!({
        "resourceType": "QuestionnaireResponse", "status": "completed",
        "item": [{"linkId": "Canary", "text": "Canary?", "answer": [
            {"valueString": "Canary ails"}, {"valueInteger": 5}, {"valueReference": {"display": "Canary"}}
        ]}]
    });
    check_text(
        &view,
        &resource,
        &json!({
            "resourceType": "QuestionnaireResponse", "status": "completed",
            "item": [{"answer": [{"valueString": "<text: 11>"}]}]
        }),
        &["item.answer.valueString"],
        &["item.answer.valueInteger", "item.answer.valueReference"],
    );
    let view = text_view("Communication", &["sent"], &["payload.content"]).unwrap();
    let resource = json!({
        "resourceType": "Communication", "status": "completed",
        "payload": [{"contentString": "Canary"}, {"contentAttachment": {"data": "Q2FuYXJ5"}}]
    });
    check_text(
        &view,
        &resource,
        &json!({
            "resourceType": "Communication", "status": "completed",
            "payload": [{"contentString": "<text: 6>"}, {"contentAttachment": {"text": "<content: 10>"}}]
        }),
        &["payload.contentAttachment.data", "payload.contentString"],
        &[],
    );
}

#[test]
fn a_text_inside_a_datatype_that_a_field_shows_as_a_whole() {
    let view = text_view(
        "MedicationRequest",
        &["dosageInstruction"],
        &["dosageInstruction.text", "dosageInstruction.route.text"],
    )
    .unwrap();
    let resource = json!({
        "resourceType": "MedicationRequest", "status": "active",
        "dosageInstruction": [{"sequence": 1, "text": "one for Canary", "patientInstruction": "Canary", "route": {"text": "by Canary"}}]
    });
    check_text(
        &view,
        &resource,
        &json!({
            "resourceType": "MedicationRequest", "status": "active",
            "dosageInstruction": [{"sequence": 1, "text": "<text: 14>", "route": {"text": "<text: 9>"}}]
        }),
        &["dosageInstruction.route.text", "dosageInstruction.text"],
        &["dosageInstruction.patientInstruction"],
    );
}

#[test]
fn what_names_somebody_or_is_no_text_cannot_be_named() {
    for (resource_type, path, why) in [
        ("Patient", "name.family", "reaches into a name"),
        ("Patient", "address.line", "reaches into an address"),
        ("Patient", "telecom.value", "reaches into a contact point"),
        ("Patient", "identifier.value", "reaches into an identifier"),
        (
            "Patient",
            "extension.valueString",
            "reaches into an extension",
        ),
        (
            "Patient",
            "contained.id",
            "reaches into a contained resource",
        ),
        ("Patient", "meta.tag.display", "reaches into metadata"),
        ("Patient", "text.div", "reaches into narrative"),
        ("Patient", "name", "is no free text"),
        ("Patient", "birthDate", "is no free text"),
        ("Patient", "contact", "is no free text"),
        (
            "Patient",
            "generalPractitioner.reference",
            "reaches into a reference",
        ),
        ("Patient", "generalPractitioner", "is no free text"),
        ("Condition", "code", "is no free text"),
        ("Condition", "code.coding.code", "is no free text"),
        ("Condition", "note.nothing", "is not an element"),
        ("Condition", "note..text", "is not an element"),
        ("Condition", "", "is not an element"),
        ("Coverage", "subscriberId", "is no free text"),
        (
            "DocumentReference",
            "content.attachment.url",
            "is no free text",
        ),
        (
            "DocumentReference",
            "content.attachment.hash",
            "is no free text",
        ),
        ("Binary", "data", "is no free text"),
    ] {
        let refused = text_view(resource_type, &["id", "language"], &[path]);
        let refused = refused.expect_err(path).to_string();
        let source = text_view(resource_type, &["id", "language"], &[path])
            .unwrap_err()
            .fault
            .to_string();
        assert!(source.contains(why), "{path}: {refused}");
    }
    for twice in [["note", "note.text"], ["code.text", "code.text"]] {
        let refused = text_view("Condition", &["code"], &twice).unwrap_err();
        assert!(matches!(refused.fault, ViewFault::Overlap(_)), "{refused}");
    }
}
