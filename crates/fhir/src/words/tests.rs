//! Tests of the words: each line as a reviewer would read it.

use serde_json::json;

use super::*;

#[track_caller]
fn check(resource: Value, expected: &str) {
    assert_eq!(describe(&resource), expected);
}

#[test]
fn medication_requests() {
    let lisinopril = json!({"coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "314076", "display": "Lisinopril 10 mg tablet"}]});
    let request = |dosage: Value| {
        json!({"resourceType": "MedicationRequest", "status": "active", "intent": "order",
            "medicationCodeableConcept": lisinopril, "dosageInstruction": [dosage]})
    };
    check(
        request(json!({"timing": {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}}})),
        "Lisinopril 10 mg tablet, once daily [active, order]",
    );
    check(
        request(
            json!({"text": "one every day", "timing": {"repeat": {"frequency": 2, "period": 1, "periodUnit": "d"}},
            "doseAndRate": [{"doseQuantity": {"value": 10, "unit": "mg"}}], "route": {"coding": [{"display": "by mouth"}]}}),
        ),
        "Lisinopril 10 mg tablet, 10 mg by mouth, twice daily, free text (unchecked): “one every day” [active, order]",
    );
    check(
        request(json!({"text": "take ten"})),
        "Lisinopril 10 mg tablet, no structured dosage, free text (unchecked): “take ten” [active, order]",
    );
    let mut refill = request(
        json!({"asNeededBoolean": true, "timing": {"repeat": {"frequency": 1, "period": 8, "periodUnit": "h",
        "boundsDuration": {"value": 5, "unit": "days"}}}}),
    );
    refill["doNotPerform"] = json!(true);
    refill["dispenseRequest"] =
        json!({"quantity": {"value": 30, "unit": "tablets"}, "numberOfRepeatsAllowed": 1});
    check(
        refill,
        "DO NOT: Lisinopril 10 mg tablet, every 8 hours, for 5 days, as needed; dispense 30 tablets; 1 refill [active, order]",
    );
    check(
        json!({"resourceType": "MedicationRequest", "medicationCodeableConcept": {"text": "some pill"}}),
        "free text (unchecked): “some pill”, no dosage stated",
    );
}

#[test]
fn frequencies() {
    for (repeat, expected) in [
        (
            json!({"frequency": 3, "period": 1, "periodUnit": "d"}),
            "3 times daily",
        ),
        (
            json!({"frequency": 2, "frequencyMax": 4, "period": 1, "periodUnit": "d"}),
            "2 to 4 times daily",
        ),
        (
            json!({"frequency": 1, "period": 4, "periodMax": 6, "periodUnit": "h"}),
            "every 4 to 6 hours",
        ),
        (
            json!({"frequency": 1, "period": 1, "periodUnit": "wk"}),
            "once weekly",
        ),
        (
            json!({"frequency": 3, "period": 2, "periodUnit": "wk"}),
            "3 times every 2 weeks",
        ),
        (
            json!({"frequency": 1, "period": 1, "periodUnit": "d", "when": ["HS"]}),
            "once daily, at bedtime",
        ),
        (
            json!({"frequency": 1, "period": 1, "periodUnit": "h"}),
            "every hour",
        ),
        (
            json!({"frequency": 1, "period": 1}),
            "once every 1 units not stated",
        ),
    ] {
        assert_eq!(dosage(&json!({"timing": {"repeat": repeat}})), expected);
    }
    assert_eq!(
        dosage(&json!({"timing": {"code": {"coding": [{"code": "BID"}]}}})),
        "twice daily"
    );
    assert_eq!(
        dosage(&json!({"timing": {"code": {"text": "when the moon is full"}}})),
        "free text (unchecked): “when the moon is full”"
    );
}

#[test]
fn other_resources() {
    check(
        json!({"resourceType": "Appointment", "status": "booked", "start": "2026-12-01T10:00:00-05:00", "end": "2026-12-01T10:30:00-05:00",
            "appointmentType": {"coding": [{"display": "follow-up"}]}, "participant": [{"actor": {"reference": "Practitioner/1", "display": "Dr Day"}}]}),
        "Appointment (follow-up) from 2026-12-01 10:00 (UTC-05:00) to 2026-12-01 10:30 (UTC-05:00), with Dr Day (Practitioner/1) [booked]",
    );
    check(
        json!({"resourceType": "Observation", "status": "preliminary", "code": {"coding": [{"display": "Blood pressure"}]},
            "component": [{"code": {"coding": [{"display": "systolic"}]}, "valueQuantity": {"value": 120, "unit": "mmHg"}},
                {"code": {"coding": [{"display": "diastolic"}]}, "dataAbsentReason": {"coding": [{"display": "unknown"}]}}]}),
        "Blood pressure: systolic 120 mmHg, diastolic no value (unknown) [preliminary]",
    );
    check(
        json!({"resourceType": "Observation", "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
            "valueQuantity": {"comparator": "<", "value": 72.5, "unit": "/min"}, "effectiveDateTime": "2026-01-02T03:04:05Z"}),
        "LOINC 8867-4: < 72.5 /min, 2026-01-02 03:04:05 (UTC)",
    );
    check(
        json!({"resourceType": "ServiceRequest", "status": "draft", "intent": "proposal", "priority": "routine",
            "code": {"coding": [{"display": "Lipid panel"}]}, "occurrenceDateTime": "2026-12-01"}),
        "Lipid panel, routine, on 2026-12-01 [draft, proposal]",
    );
    check(
        json!({"resourceType": "DocumentReference", "status": "current", "docStatus": "preliminary",
            "type": {"coding": [{"display": "Progress note"}]}, "content": [{"attachment": {"title": "Visit"}}]}),
        "Progress note, title free text (unchecked): “Visit”, 1 attachment [current, preliminary]",
    );
    check(
        json!({"resourceType": "QuestionnaireResponse", "status": "completed", "questionnaire": "http://x.example/q",
            "item": [{"answer": [{"valueInteger": 1}]}, {"item": [{"answer": [{"valueInteger": 2}]}]}]}),
        "Answers to http://x.example/q: 2 answers [completed]",
    );
    check(
        json!({"resourceType": "Communication", "status": "preparation", "recipient": [{"reference": "Patient/1"}],
            "payload": [{"contentString": "See you\n tomorrow"}]}),
        "Message to Patient/1: free text (unchecked): “See you tomorrow” [preparation]",
    );
    check(
        json!({"resourceType": "Condition", "code": {"coding": [{"display": "Hypertension"}]}, "onsetDateTime": "2020",
            "clinicalStatus": {"coding": [{"code": "active"}]}, "verificationStatus": {"coding": [{"code": "refuted"}]}}),
        "Hypertension, since 2020 [active, refuted]",
    );
    check(
        json!({"resourceType": "AllergyIntolerance", "criticality": "high", "code": {"coding": [{"display": "Penicillin"}]},
            "reaction": [{"manifestation": [{"coding": [{"display": "Hives"}]}]}]}),
        "Allergy to Penicillin, criticality high, reaction: Hives",
    );
    check(
        json!({"resourceType": "Immunization", "status": "completed"}),
        "Immunization, completed",
    );
    check(json!({}), "resource without type");
}

#[test]
fn patient_changes_name_what_changes() {
    let patient = |phone: &str, active: bool| {
        json!({"resourceType": "Patient", "telecom": [{"system": "phone", "use": "mobile", "value": phone}], "active": active,
            "maritalStatus": {"text": phone}})
    };
    assert_eq!(
        describe_change(Some(&patient("555-0100", true)), &patient("555-0199", true)),
        "Patient: contact from phone (mobile) 555-0100 to phone (mobile) 555-0199; 1 other element(s)"
    );
    assert_eq!(
        describe_change(Some(&patient("1", true)), &patient("1", true)),
        "Patient: no change"
    );
    assert_eq!(
        describe_change(None, &json!({"resourceType": "Slot", "status": "free"})),
        "New: Slot, free"
    );
}

#[test]
fn differences() {
    let before = json!({"resourceType": "MedicationRequest", "status": "active", "note": [{"text": "a"}, {"text": "b"}],
        "medicationCodeableConcept": {"coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "1", "display": "Drug 5 mg"}]},
        "dosageInstruction": [{"doseAndRate": [{"doseQuantity": {"value": 5, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}}]}],
        "authoredOn": "2026-01-01"});
    let after = json!({"resourceType": "MedicationRequest", "status": "active", "note": [{"text": "a"}],
        "medicationCodeableConcept": {"coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "2", "display": "Drug 10 mg"}]},
        "dosageInstruction": [{"doseAndRate": [{"doseQuantity": {"value": 10, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg"}}], "asNeededBoolean": true}],
        "authoredOn": "2026-01-02"});
    let lines: Vec<String> = diff(Some(&before), &after)
        .into_iter()
        .map(|it| {
            format!(
                "{:?} {}: {} -> {}",
                it.kind,
                it.path,
                it.before.unwrap_or_default(),
                it.after.unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        lines,
        [
            "Removed note[1].text: b -> ",
            "Changed medicationCodeableConcept.coding[0]: Drug 5 mg (RxNorm 1) -> Drug 10 mg (RxNorm 2)",
            "Changed dosageInstruction[0].doseAndRate[0].doseQuantity: 5 mg -> 10 mg",
            "Added dosageInstruction[0].asNeededBoolean:  -> true",
            "Changed authoredOn: 2026-01-01 -> 2026-01-02",
        ]
    );
    assert!(diff(Some(&after), &after).is_empty());
    assert_eq!(diff(None, &json!({"a": [1, {"b": "c"}]})).len(), 2);
    // A member that does not belong to a Coding is not folded away.
    let odd = diff(
        Some(&json!({"coding": {"code": "1"}})),
        &json!({"coding": {"code": "1", "extension": [{"url": "x"}]}}),
    );
    assert!(
        odd.iter()
            .any(|it| it.after.as_deref().is_some_and(|it| it.contains('x')))
    );
}
