//! A patient's name, address, phone and record number, planted wherever a string can stand: none may
//! come through any view.

use serde_json::{Map, Value, json};

use super::{LOOKUPS, view};

/// Texts that a source could put anywhere.
const CANARIES: [&str; 5] = [
    "Ada Canary-Lovelace",
    "17 Canary Street, Canaryville 99999",
    "+1 555 0100 canary",
    "MRN: canary-4711",
    "Canary, Ada (f) geb. 10.12.1815",
];

/// Without spaces: where a code of a code system stands, these cannot be told from codes.
const CANARIES_LIKE_CODES: [&str; 3] = ["canary-4711", "canary@mail.example", "+15550100canary"];

/// Wide views: everything of each type that a tool could want, and the texts beside it.
fn cases() -> Vec<(&'static str, Vec<&'static str>, Value)> {
    let coded = json!({"coding": [{"system": "http://loinc.org", "version": "1", "code": "1-1", "display": "d"}], "text": "t"});
    let mg = json!({"value": 5, "comparator": "<", "unit": "u", "system": "http://unitsofmeasure.org", "code": "mg"});
    let name =
        json!([{"use": "official", "text": "t", "family": "f", "given": ["g"], "prefix": ["p"]}]);
    let address =
        json!([{"use": "home", "line": ["l"], "city": "c", "postalCode": "p", "text": "t"}]);
    let telecom = json!([{"system": "phone", "value": "v", "use": "home"}]);
    let attachment =
        json!({"contentType": "text/plain", "data": "YQ==", "url": "http://x", "title": "t"});
    let annotation = json!([{"authorString": "a", "time": "2026-01-01T00:00:00Z", "text": "t"}]);
    let patient = json!({"reference": "Patient/17", "type": "Patient", "identifier": {"value": "v"}, "display": "d"});
    let timing = json!({"event": ["2026-01-01"], "repeat": {"periodUnit": "d", "dayOfWeek": ["mon"], "timeOfDay": ["08:00:00"]}, "code": coded});
    vec![
        (
            "Patient",
            vec![
                "identifier",
                "name",
                "telecom",
                "address",
                "gender",
                "birthDate",
                "maritalStatus",
                "photo",
                "contact.name",
                "contact.relationship",
                "contact.telecom",
                "communication.language",
                "generalPractitioner",
                "managingOrganization",
                "language",
                "text",
                "extension",
                "contained",
                "meta",
                "deceased",
                "link.other",
            ],
            json!({"name": name, "telecom": telecom, "address": address, "gender": "female", "birthDate": "1815-12-10",
                "maritalStatus": coded, "photo": [attachment], "contact": [{"name": name[0], "relationship": [coded], "telecom": telecom}],
                "communication": [{"language": coded}], "generalPractitioner": [patient], "managingOrganization": patient,
                "deceasedDateTime": "1852", "link": [{"other": patient, "type": "seealso"}]}),
        ),
        (
            "Observation",
            vec![
                "identifier",
                "category",
                "code",
                "subject",
                "encounter",
                "effective",
                "issued",
                "performer",
                "value",
                "dataAbsentReason",
                "interpretation",
                "note",
                "bodySite",
                "method",
                "referenceRange.low",
                "referenceRange.text",
                "component.code",
                "component.value",
                "text",
                "extension",
                "language",
            ],
            json!({"status": "final", "category": [coded], "code": coded, "subject": patient, "encounter": patient,
                "effectiveTiming": timing, "issued": "2026-01-01T00:00:00Z", "performer": [patient], "valueString": "s",
                "valueCodeableConcept": coded, "valueQuantity": mg, "valueSampledData": {"data": "d"}, "valueRatio": {"numerator": mg, "denominator": mg},
                "dataAbsentReason": coded, "interpretation": [coded], "note": annotation, "bodySite": coded, "method": coded,
                "referenceRange": [{"low": mg, "text": "t"}], "component": [{"code": coded, "valueString": "s", "valueTime": "08:00:00", "valueQuantity": mg}]}),
        ),
        (
            "MedicationRequest",
            vec![
                "identifier",
                "statusReason",
                "intent",
                "category",
                "priority",
                "medication",
                "subject",
                "requester",
                "reasonCode",
                "note",
                "dosageInstruction",
                "dispenseRequest.validityPeriod",
                "dispenseRequest.quantity",
                "dispenseRequest.performer",
                "substitution.allowed",
                "instantiatesCanonical",
                "instantiatesUri",
                "courseOfTherapyType",
                "authoredOn",
            ],
            json!({"status": "active", "statusReason": coded, "intent": "order", "category": [coded], "priority": "routine",
                "medicationCodeableConcept": coded, "medicationReference": patient, "subject": patient, "requester": patient, "reasonCode": [coded],
                "note": annotation, "authoredOn": "2026-01-01", "instantiatesCanonical": ["http://x.example/a"], "instantiatesUri": ["http://x.example/a"],
                "courseOfTherapyType": coded, "substitution": {"allowedCodeableConcept": coded},
                "dispenseRequest": {"validityPeriod": {"start": "2026-01-01", "end": "2026-02-01"}, "quantity": mg, "performer": patient},
                "dosageInstruction": [{"text": "t", "patientInstruction": "p", "additionalInstruction": [coded], "timing": timing,
                    "asNeededCodeableConcept": coded, "site": coded, "route": coded, "method": coded,
                    "doseAndRate": [{"type": coded, "doseRange": {"low": mg, "high": mg}, "rateRatio": {"numerator": mg, "denominator": mg}}],
                    "maxDosePerPeriod": {"numerator": mg, "denominator": mg}, "maxDosePerLifetime": mg}]}),
        ),
        (
            "DocumentReference",
            vec![
                "masterIdentifier",
                "identifier",
                "docStatus",
                "type",
                "category",
                "subject",
                "date",
                "author",
                "description",
                "securityLabel",
                "content.attachment",
                "content.format",
                "context.period",
                "context.event",
                "custodian",
            ],
            json!({"status": "current", "docStatus": "final", "masterIdentifier": {"value": "v"}, "type": coded, "category": [coded],
                "subject": patient, "date": "2026-01-01T00:00:00Z", "author": [patient], "description": "d", "securityLabel": [coded],
                "content": [{"attachment": attachment, "format": coded["coding"][0]}], "context": {"period": {"start": "2026"}, "event": [coded]}, "custodian": patient}),
        ),
        (
            "Appointment",
            vec![
                "identifier",
                "cancelationReason",
                "serviceType",
                "specialty",
                "appointmentType",
                "reasonCode",
                "priority",
                "description",
                "supportingInformation",
                "start",
                "end",
                "minutesDuration",
                "slot",
                "created",
                "comment",
                "patientInstruction",
                "basedOn",
                "participant.type",
                "participant.actor",
                "participant.required",
                "participant.status",
                "participant.period",
                "requestedPeriod",
            ],
            json!({"status": "booked", "cancelationReason": coded, "serviceType": [coded], "specialty": [coded], "appointmentType": coded,
                "reasonCode": [coded], "description": "d", "supportingInformation": [patient], "start": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00Z",
                "slot": [patient], "created": "2026-01-01", "comment": "c", "patientInstruction": "p", "basedOn": [patient],
                "participant": [{"type": [coded], "actor": patient, "required": "required", "status": "accepted", "period": {"start": "2026"}}],
                "requestedPeriod": [{"start": "2026"}]}),
        ),
        (
            "Condition",
            vec![
                "identifier",
                "category",
                "severity",
                "code",
                "bodySite",
                "subject",
                "onset",
                "abatement",
                "recordedDate",
                "recorder",
                "stage.summary",
                "stage.type",
                "evidence.code",
                "evidence.detail",
                "note",
            ],
            json!({"clinicalStatus": coded, "verificationStatus": coded, "category": [coded], "severity": coded, "code": coded, "bodySite": [coded],
                "subject": patient, "onsetString": "s", "onsetAge": mg, "abatementPeriod": {"start": "2026"}, "recordedDate": "2026-01-01", "recorder": patient,
                "stage": [{"summary": coded, "type": coded}], "evidence": [{"code": [coded], "detail": [patient]}], "note": annotation}),
        ),
        (
            "Communication",
            vec![
                "identifier",
                "topic",
                "statusReason",
                "medium",
                "subject",
                "about",
                "sent",
                "recipient",
                "sender",
                "payload.content",
                "note",
            ],
            json!({"status": "completed", "topic": coded, "statusReason": coded, "medium": [coded], "subject": patient, "about": [patient],
                "sent": "2026-01-01T00:00:00Z", "recipient": [patient], "sender": patient, "note": annotation,
                "payload": [{"contentString": "c"}, {"contentAttachment": attachment}, {"contentReference": patient}]}),
        ),
        (
            "Coverage",
            vec![
                "identifier",
                "type",
                "policyHolder",
                "subscriber",
                "subscriberId",
                "beneficiary",
                "relationship",
                "period",
                "payor",
                "class.type",
                "class.value",
                "class.name",
                "order",
                "network",
                "costToBeneficiary.value",
            ],
            json!({"status": "active", "type": coded, "policyHolder": patient, "subscriber": patient, "subscriberId": "s", "beneficiary": patient,
                "relationship": coded, "period": {"start": "2026"}, "payor": [patient], "class": [{"type": coded, "value": "v", "name": "n"}],
                "network": "n", "costToBeneficiary": [{"valueMoney": {"value": 5, "currency": "USD"}}]}),
        ),
    ]
}

/// What every resource carries besides: narrative, contained resources, extensions, identifiers, meta.
fn complete(resource_type: &str, resource: Value) -> Value {
    let extension = json!([{"url": "http://x.example/e", "valueString": "s", "extension": [{"url": "u", "valueHumanName": {"text": "t"}}]}]);
    let mut object = Map::new();
    object.insert("resourceType".to_owned(), json!(resource_type));
    object.insert("id".to_owned(), json!("17"));
    object.insert("language".to_owned(), json!("en"));
    object.insert("meta".to_owned(), json!({"versionId": "1", "source": "s", "profile": ["http://x.example/p"],
        "security": [{"system": "http://x.example", "code": "c", "display": "d"}], "tag": [{"display": "d"}]}));
    object.insert(
        "text".to_owned(),
        json!({"status": "generated", "div": "d"}),
    );
    object.insert(
        "contained".to_owned(),
        json!([{"resourceType": "Patient", "id": "c", "name": [{"text": "t"}]}]),
    );
    object.insert("extension".to_owned(), extension.clone());
    object.insert(
        "identifier".to_owned(),
        json!([{"system": "http://x.example/mrn", "value": "v", "assigner": {"display": "d"}}]),
    );
    object.insert("_status".to_owned(), json!({"extension": extension}));
    object.insert("_birthDate".to_owned(), json!({"extension": extension}));
    object.extend(resource.as_object().unwrap().clone());
    Value::Object(object)
}

/// Paths (JSON pointers) of every string but the type.
fn strings(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::String(_) if at != "/resourceType" => found.push(at.to_owned()),
        Value::Array(items) => (0..)
            .zip(items)
            .for_each(|(index, item)| strings(item, &format!("{at}/{index}"), found)),
        Value::Object(object) => object
            .iter()
            .for_each(|(name, item)| strings(item, &format!("{at}/{name}"), found)),
        _ => {}
    }
}

fn assert_silent(resource_type: &str, fields: &[&str], resource: &Value, what: &str) {
    let view = view(resource_type, fields).unwrap();
    let projected = view.project(resource, &LOOKUPS).unwrap();
    let seen = format!(
        "{} {:?} {:?} {:?}",
        projected.value, projected.fields_shown, projected.withheld, projected.labels
    );
    assert!(
        !seen.to_lowercase().contains("canary"),
        "{resource_type} {what}: {seen}"
    );
    assert!(!format!("{projected:?}").to_lowercase().contains("canary"));
}

#[test]
fn a_canary_in_any_one_string_stays_behind() {
    for (resource_type, fields, resource) in cases() {
        let resource = complete(resource_type, resource);
        let mut found = Vec::new();
        strings(&resource, "", &mut found);
        assert!(found.len() > 40, "{resource_type}");
        for at in found {
            let is_code = at.ends_with("/code");
            let like_codes = CANARIES_LIKE_CODES.iter().filter(|_| !is_code);
            for canary in CANARIES.iter().chain(like_codes) {
                let mut planted = resource.clone();
                *planted.pointer_mut(&at).unwrap() = json!(canary);
                assert_silent(resource_type, &fields, &planted, &at);
            }
        }
    }
}

#[test]
fn canaries_in_all_strings_at_once_stay_behind() {
    for (resource_type, fields, resource) in cases() {
        let mut resource = complete(resource_type, resource);
        let mut found = Vec::new();
        strings(&resource, "", &mut found);
        for (at, canary) in found.iter().zip(CANARIES.iter().cycle()) {
            *resource.pointer_mut(at).unwrap() = json!(canary);
        }
        assert_silent(resource_type, &fields, &resource, "everywhere");
    }
}

#[test]
fn canaries_where_an_object_number_or_array_is_expected_stay_behind() {
    for (resource_type, fields, resource) in cases() {
        let resource = complete(resource_type, resource);
        let names: Vec<String> = resource.as_object().unwrap().keys().cloned().collect();
        for name in names.iter().filter(|name| *name != "resourceType") {
            for wrong in [
                json!("Ada Canary"),
                json!(["Ada Canary"]),
                json!({"text": "Ada Canary", "Ada Canary": 1}),
                json!([["Ada Canary"]]),
                json!([{"value": "Ada Canary", "coding": "Ada Canary"}]),
            ] {
                let mut planted = resource.clone();
                planted.as_object_mut().unwrap().insert(name.clone(), wrong);
                assert_silent(resource_type, &fields, &planted, name);
            }
        }
    }
}

#[test]
fn the_wide_views_do_show_what_is_typed() {
    for (resource_type, fields, resource) in cases() {
        let view = view(resource_type, &fields).unwrap();
        let projected = view
            .project(&complete(resource_type, resource), &LOOKUPS)
            .unwrap();
        assert!(
            projected.fields_shown.len() >= 5,
            "{resource_type}: {:?}",
            projected.fields_shown
        );
        assert!(projected.withheld.contains(&"identifier".to_owned()));
        assert_eq!(projected.labels, ["unlisted"]);
    }
}
