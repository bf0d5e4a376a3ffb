//! What views show, what they refuse, and that nothing else comes through.

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;

mod canaries;
mod texts;

pub(super) fn view(resource_type: &str, fields: &[&str]) -> Result<View, ViewInvalid> {
    let tool = ToolName::new("the-tool").unwrap();
    let fields: Vec<String> = fields.iter().map(|it| (*it).to_owned()).collect();
    let resource_type = ResourceType::new(resource_type).unwrap();
    View::compile(Definitions::r4(), &tool, &resource_type, &fields)
}

pub(super) fn token(target: &TokenTarget) -> Option<String> {
    Some(format!("tok{}", target.id.len()))
}

fn display(system: &str, code: &str) -> Option<String> {
    (system == "http://loinc.org" && code == "85354-9").then(|| "Blood pressure panel".to_owned())
}

pub(super) const LOOKUPS: Lookups<'static> = Lookups {
    tokenise: &token,
    display: &display,
    free_text: &no_text,
};

fn check(resource_type: &str, fields: &[&str], resource: Value, expected: Expect) {
    let view = view(resource_type, fields).unwrap();
    let Projected {
        value,
        fields_shown,
        withheld,
        labels,
        version,
        ..
    } = view.project(&resource, &LOOKUPS).unwrap();
    let text = format!(
        "{}\nshown: {}\nwithheld: {}\nlabels: {}\nversion: {version:?}\n",
        serde_json::to_string_pretty(&value).unwrap(),
        fields_shown.join(", "),
        withheld.join(", "),
        labels.join(", "),
    );
    expected.assert_eq(&text);
}

#[test]
fn vital_signs() {
    let panel = json!({
        "resourceType": "Observation",
        "id": "bp-1",
        "meta": {"versionId": "3", "lastUpdated": "2026-01-01T00:00:00Z", "security": [
            {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "N", "display": "normal"}]},
        "text": {"status": "generated", "div": "<div>Ada Canary</div>"},
        "status": "final",
        "code": {"coding": [
            {"system": "http://loinc.org", "code": "85354-9", "display": "BP of Ada Canary"},
            {"system": "http://local.example/codes", "code": "bp"}], "text": "BP of Ada Canary"},
        "subject": {"reference": "Patient/17", "display": "Ada Canary"},
        "effectiveDateTime": "2026-01-01T08:00:00+01:00",
        "note": [{"text": "Ada Canary was calm"}],
        "component": [
            {"code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
             "valueQuantity": {"value": 121, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}},
            {"code": {"coding": [{"system": "http://loinc.org", "code": "8462-4"}]},
             "valueQuantity": {"value": 80, "unit": "millimetres of mercury"}}]
    });
    let fields = [
        "code",
        "valueQuantity",
        "component.code",
        "component.valueQuantity",
        "effectiveDateTime",
        "status",
    ];
    check(
        "Observation",
        &fields,
        panel,
        expect![[r#"
        {
          "resourceType": "Observation",
          "id": "tok4",
          "code": {
            "coding": [
              {
                "system": "http://loinc.org",
                "code": "85354-9",
                "display": "Blood pressure panel"
              },
              {
                "system": "http://local.example/codes",
                "code": "bp"
              }
            ]
          },
          "component": [
            {
              "code": {
                "coding": [
                  {
                    "system": "http://loinc.org",
                    "code": "8480-6"
                  }
                ]
              },
              "valueQuantity": {
                "value": 121,
                "system": "http://unitsofmeasure.org",
                "code": "mm[Hg]"
              }
            },
            {
              "code": {
                "coding": [
                  {
                    "system": "http://loinc.org",
                    "code": "8462-4"
                  }
                ]
              }
            }
          ],
          "effectiveDateTime": "2026-01-01T08:00:00+01:00",
          "status": "final"
        }
        shown: code, component.code, component.valueQuantity, effectiveDateTime, status
        withheld: code.text, component.valueQuantity
        labels: http://terminology.hl7.org/CodeSystem/v3-Confidentiality|N
        version: Some("3")
    "#]],
    );
}

#[test]
fn a_medication_request_with_its_dosage() {
    let request = json!({
        "resourceType": "MedicationRequest",
        "id": "mr-1",
        "status": "active",
        "intent": "order",
        "doNotPerform": true,
        "medicationCodeableConcept": {"text": "something for Ada"},
        "subject": {"reference": "Patient/17/_history/2"},
        "requester": {"identifier": {"system": "http://npi", "value": "1234567890"}, "display": "Dr Canary"},
        "dosageInstruction": [{
            "text": "one with breakfast, call 555-0100",
            "timing": {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d", "when": ["CM"],
                "boundsPeriod": {"start": "2026-01-01", "end": "soon"}}, "code": {"text": "QD"}},
            "asNeededBoolean": false,
            "route": {"coding": [{"system": "http://snomed.info/sct", "code": "26643006"}]},
            "doseAndRate": [{"doseQuantity": {"value": 1, "unit": "tablet"}},
                {"doseQuantity": {"value": 5, "system": "http://unitsofmeasure.org", "code": "mg"}}]
        }]
    });
    let fields = [
        "intent",
        "medicationCodeableConcept",
        "subject",
        "requester",
        "dosageInstruction",
    ];
    check(
        "MedicationRequest",
        &fields,
        request.clone(),
        expect![[r#"
        {
          "resourceType": "MedicationRequest",
          "id": "tok4",
          "intent": "order",
          "subject": {
            "reference": "Patient/tok2"
          },
          "dosageInstruction": [
            {
              "timing": {
                "repeat": {
                  "boundsPeriod": {
                    "start": "2026-01-01"
                  },
                  "frequency": 1,
                  "period": 1,
                  "periodUnit": "d",
                  "when": [
                    "CM"
                  ]
                }
              },
              "asNeededBoolean": false,
              "route": {
                "coding": [
                  {
                    "system": "http://snomed.info/sct",
                    "code": "26643006"
                  }
                ]
              },
              "doseAndRate": [
                {
                  "doseQuantity": {
                    "value": 5,
                    "system": "http://unitsofmeasure.org",
                    "code": "mg"
                  }
                }
              ]
            }
          ],
          "status": "active",
          "doNotPerform": true
        }
        shown: doNotPerform, dosageInstruction, intent, status, subject
        withheld: dosageInstruction.doseAndRate.doseQuantity, dosageInstruction.text, dosageInstruction.timing.code.text, dosageInstruction.timing.repeat.boundsPeriod.end, medicationCodeableConcept.text, requester
        labels: 
        version: None
    "#]],
    );
    check(
        "MedicationRequest",
        &["dosageInstruction.timing", "status"],
        request,
        expect![[r#"
        {
          "resourceType": "MedicationRequest",
          "id": "tok4",
          "dosageInstruction": [
            {
              "timing": {
                "repeat": {
                  "boundsPeriod": {
                    "start": "2026-01-01"
                  },
                  "frequency": 1,
                  "period": 1,
                  "periodUnit": "d",
                  "when": [
                    "CM"
                  ]
                }
              }
            }
          ],
          "status": "active",
          "doNotPerform": true
        }
        shown: doNotPerform, dosageInstruction.timing, status
        withheld: dosageInstruction.timing.code.text, dosageInstruction.timing.repeat.boundsPeriod.end
        labels: 
        version: None
    "#]],
    );
}

#[test]
fn references_are_tokens_or_nothing() {
    let appointment = json!({
        "resourceType": "Appointment",
        "id": "a",
        "status": "booked",
        "start": "2026-05-01T09:00:00Z",
        "description": "Ada's check",
        "slot": [{"reference": "Slot/9"}, {"reference": "Patient/not-allowed-here"}],
        "participant": [
            {"actor": {"reference": "Practitioner/7", "display": "Dr Canary"}, "status": "accepted"},
            {"actor": {"reference": "https://ehr.example/fhir/Patient/17"}, "status": "accepted"},
            {"actor": {"reference": "#contained"}, "status": "tentative"},
            {"actor": {"reference": "urn:uuid:7c1c7d9e-2c1b-4a7e-8a55-0d7d9c7c1c7d"}, "status": "Ada"},
            {"actor": {"display": "Ada Canary"}, "status": "needs-action"}]
    });
    let fields = [
        "start",
        "description",
        "slot",
        "participant.actor",
        "participant.status",
    ];
    check(
        "Appointment",
        &fields,
        appointment.clone(),
        expect![[r#"
        {
          "resourceType": "Appointment",
          "id": "tok1",
          "start": "2026-05-01T09:00:00Z",
          "slot": [
            {
              "reference": "Slot/tok1"
            }
          ],
          "participant": [
            {
              "actor": {
                "reference": "Practitioner/tok1"
              },
              "status": "accepted"
            },
            {
              "status": "accepted"
            },
            {
              "status": "tentative"
            },
            {
              "status": "needs-action"
            }
          ],
          "status": "booked"
        }
        shown: participant.actor, participant.status, slot, start, status
        withheld: description, participant.actor, participant.status, slot
        labels: 
        version: None
    "#]],
    );

    let view = view("Appointment", &fields).unwrap();
    let targets: Vec<String> = view
        .targets(&appointment)
        .unwrap()
        .into_iter()
        .map(|it| format!("{}/{}", it.resource_type, it.id))
        .collect();
    assert_eq!(targets, ["Appointment/a", "Practitioner/7", "Slot/9"]);
    let none = Lookups {
        tokenise: &|_| None,
        ..LOOKUPS
    };
    let projected = view.project(&appointment, &none).unwrap();
    assert_eq!(projected.value.pointer("/id"), None);
    assert_eq!(projected.value.pointer("/slot"), None);
    assert!(projected.withheld.contains(&"id".to_owned()));
}

#[test]
fn a_choice_named_as_a_whole_shows_the_type_that_is_there() {
    let view = view("Observation", &["value"]).unwrap();
    let project = |name: &str, value: Value| {
        let resource = json!({"resourceType": "Observation", name: value});
        let projected = view.project(&resource, &LOOKUPS).unwrap();
        (projected.fields_shown, projected.withheld)
    };
    let none: Vec<String> = Vec::new();
    assert_eq!(
        project("valueInteger", json!(3)),
        (vec!["valueInteger".to_owned()], none.clone())
    );
    assert_eq!(project("valueBoolean", json!(true)).0, ["valueBoolean"]);
    assert_eq!(
        project("valueString", json!("free")),
        (none.clone(), vec!["valueString".to_owned()])
    );
    assert_eq!(
        project("valueSampledData", json!({"data": "1 2"})).1,
        ["valueSampledData"]
    );
    assert_eq!(
        project("valuePeriod", json!({"start": "2026"})).0,
        ["valuePeriod"]
    );
    assert_eq!(project("valueInteger", json!("three")).1, ["valueInteger"]);
    assert_eq!(
        project("valueQuantity", json!({"value": 3})).0,
        ["valueQuantity"]
    );
    assert_eq!(
        project("valueQuantity", json!({"value": 3, "comparator": "about"})).1,
        ["valueQuantity"]
    );
}

#[test]
fn values_of_another_form_than_their_type_stay_behind() {
    let view = view(
        "Patient",
        &[
            "birthDate",
            "gender",
            "deceased",
            "multipleBirthInteger",
            "communication.language",
        ],
    )
    .unwrap();
    let shown = |resource: Value| view.project(&resource, &LOOKUPS).unwrap().fields_shown;
    let right = json!({"resourceType": "Patient", "birthDate": "1970-02-28", "gender": "female", "deceasedBoolean": false, "multipleBirthInteger": 2,
        "communication": [{"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": "en"}]}}]});
    assert_eq!(
        shown(right),
        [
            "birthDate",
            "communication.language",
            "deceasedBoolean",
            "gender",
            "multipleBirthInteger"
        ]
    );
    let wrong = json!({"resourceType": "Patient", "birthDate": "1970-02-30", "gender": "Ada", "deceasedBoolean": "no", "multipleBirthInteger": 2.5,
        "communication": {"language": {"coding": [{"code": "en"}]}}});
    assert_eq!(shown(wrong), Vec::<String>::new());
    let arrays = json!({"resourceType": "Patient", "birthDate": ["1970-02-28"], "gender": {"a": 1},
        "communication": [{"language": [{"coding": []}]}]});
    assert_eq!(shown(arrays), Vec::<String>::new());
}

#[test]
fn what_may_change_the_meaning_is_refused_or_shown() {
    let view = view("MedicationRequest", &["intent"]).unwrap();
    assert_eq!(view.fields(), ["intent", "status", "doNotPerform"]);
    let refused = |resource: Value| view.project(&resource, &LOOKUPS).unwrap_err().to_string();
    let modifier = json!([{"url": "http://x.example/not", "valueBoolean": true}]);
    expect!["the resource is changed in its meaning at `modifierExtension` in a way that is not understood"]
        .assert_eq(&refused(json!({"resourceType": "MedicationRequest", "modifierExtension": modifier})));
    expect![
        "the resource is changed in its meaning at `implicitRules` in a way that is not understood"
    ]
    .assert_eq(&refused(
        json!({"resourceType": "MedicationRequest", "implicitRules": "http://x.example"}),
    ));
    expect!["the resource is not a MedicationRequest"]
        .assert_eq(&refused(json!({"resourceType": "Patient"})));
    expect!["the resource is not a MedicationRequest"].assert_eq(&refused(json!([])));

    let inside = super::tests::view("Observation", &["component.code"]).unwrap();
    let resource =
        json!({"resourceType": "Observation", "component": [{"modifierExtension": modifier}]});
    assert!(matches!(
        inside.project(&resource, &LOOKUPS),
        Err(ProjectFailed::UnknownModifier { path }) if path == "component.modifierExtension"
    ));
    let plain = json!({"resourceType": "Observation", "component": [{"modifierExtension": []}]});
    assert!(inside.project(&plain, &LOOKUPS).is_ok());
}

#[test]
fn declarations_that_are_no_views_say_what_is_wrong() {
    let many = ["code"; FIELDS_MAX + 1];
    let cases: [(&str, &[&str]); 19] = [
        ("Observation", &["cod"]),
        ("Observation", &["valueQuantty"]),
        ("Observation", &["valueQuantities"]),
        ("Observation", &["component.valueQuantiy.value"]),
        ("Observation", &["value.code"]),
        ("Observation", &["nothing-like-it"]),
        ("Observation", &[""]),
        ("Observation", &["code."]),
        ("Observation", &["component"]),
        ("Observation", &["subject.display"]),
        ("Observation", &["extension.valueCode"]),
        ("Observation", &["contained.code"]),
        ("Observation", &["code", "code"]),
        ("Observation", &["code", "code.coding"]),
        ("Observation", &["code.coding", "code"]),
        ("Encounter", &["period", "period.start"]),
        ("Nonsense", &["code"]),
        ("Observation", &[]),
        ("Observation", &many),
    ];
    let messages = cases.map(|(resource_type, fields)| {
        let invalid = view(resource_type, fields).unwrap_err();
        format!("{invalid}\n")
    });
    expect![[r#"
        tool `the-tool`: `cod` is not an element of Observation; did you mean `code`?
        tool `the-tool`: `valueQuantty` is not an element of Observation; did you mean `valueQuantity` or `valueRange` or `valueRatio`?
        tool `the-tool`: `valueQuantities` is not an element of Observation; did you mean `valueQuantity` or `valueDateTime` or `valueInteger`?
        tool `the-tool`: `component.valueQuantiy.value` is not an element of Observation; did you mean `component.valueQuantity` or `component.valueRatio` or `component.valueRange`?
        tool `the-tool`: `value.code` is not an element of Observation; did you mean `valueRange` or `valueTime` or `valueBoolean`?
        tool `the-tool`: `nothing-like-it` is not an element of Observation
        tool `the-tool`: `` is not an element of Observation
        tool `the-tool`: `code.` is not an element of Observation
        tool `the-tool`: `component` is a group of elements; name those of its parts that are needed
        tool `the-tool`: `subject.display` reaches into a reference, whose parts are never shown one by one
        tool `the-tool`: `extension.valueCode` reaches into an extension, whose parts are never shown one by one
        tool `the-tool`: `contained.code` reaches into a contained resource, whose parts are never shown one by one
        tool `the-tool`: `code` is already part of another field of this view
        tool `the-tool`: `code.coding` is already part of another field of this view
        tool `the-tool`: `code` is already part of another field of this view
        tool `the-tool`: `period.start` is already part of another field of this view
        tool `the-tool`: `Nonsense` is not a resource type of FHIR R4
        tool `the-tool`: a view names 1 to 100 fields, this one names 0
        tool `the-tool`: a view names 1 to 100 fields, this one names 101
    "#]].assert_eq(&messages.concat());
}

#[test]
fn free_text_may_be_named_and_is_withheld() {
    let fields = [
        "code.text",
        "note",
        "identifier",
        "meta.lastUpdated",
        "text",
        "extension",
        "performer",
        "code.coding.code",
    ];
    let resource = json!({"resourceType": "Observation", "code": {"text": "free", "coding": [{"code": "x", "display": "y"}]},
        "note": [{"text": "free"}], "identifier": [{"value": "MRN"}], "text": {"div": "<div/>"},
        "extension": [{"url": "u", "valueString": "free"}], "meta": {"lastUpdated": "2026-01-01T00:00:00Z"}});
    check(
        "Observation",
        &fields,
        resource,
        expect![[r#"
        {
          "resourceType": "Observation",
          "code": {
            "coding": [
              {
                "code": "x"
              }
            ]
          },
          "meta": {
            "lastUpdated": "2026-01-01T00:00:00Z"
          }
        }
        shown: code.coding.code, meta.lastUpdated
        withheld: code.text, extension, identifier, note, text
        labels: 
        version: None
    "#]],
    );
}
