//! Plausibility in the write path: what each effect does, and its nearest permitted neighbour; what an agent
//! may learn from an answer; what a human sees when the EHR does not tell.

use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::{Strategy, ValidationRecord};
use chaperone_core::gate::GateLevel;
use chaperone_core::ids::{OverrideReason, WritebackId};
use chaperone_core::phi::ExposedFor;
use chaperone_core::principal::{Human, Role};
use chaperone_core::writeback::{StateName, WritebackEvent};
use chaperone_engine::approve::ApproveRequest;
use chaperone_engine::open_envelope::Caller;
use chaperone_engine::views::review::FindingView;
use serde_json::{Value, json};

use crate::bench::*;

const RXNORM: &str = "http://www.nlm.nih.gov/research/umls/rxnorm";

fn prescription(patient: &str, id: &str) -> Value {
    json!({
        "resourceType": "MedicationRequest", "id": id, "status": "active", "intent": "order",
        "subject": { "reference": format!("Patient/{patient}") }, "authoredOn": "2029-12-01",
        "medicationCodeableConcept": { "coding": [{
            "system": RXNORM, "code": "314076", "display": "lisinopril 10 MG Oral Tablet",
        }] },
        "dosageInstruction": [{
            "timing": { "repeat": { "frequency": 1, "period": 1, "periodUnit": "d" } },
            "doseAndRate": [{ "doseQuantity": {
                "value": 10, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg",
            } }],
        }],
    })
}

fn allergy(patient: &str, display: &str) -> Value {
    json!({
        "resourceType": "AllergyIntolerance", "id": format!("allergy-{patient}"),
        "patient": { "reference": format!("Patient/{patient}") }, "category": ["medication"],
        "code": { "text": display },
    })
}

fn slot(id: &str, start: &str, end: &str) -> Value {
    json!({
        "resourceType": "Slot", "id": id, "status": "free", "start": start, "end": end,
        "serviceType": [{ "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/service-type", "code": "124",
        }] }],
    })
}

pub(crate) fn clinician() -> Human {
    human(2, &[Role::Clinician])
}

/// An agent with the patient's one prescription in hand.
async fn prescriber(bench: &Bench, patient: &str) -> (Caller, Value) {
    let caller = bench
        .caller(&clinician(), "order-agent", "submit-order", patient)
        .await;
    let list = bench.call(&caller, "list_medications", json!({})).await;
    let prior = list["resources"][0]["id"].clone();
    assert!(prior.is_string(), "{list}");
    (caller, prior)
}

/// The agents of two patients with the same prescription; the second is allergic to the drug, and nothing
/// else differs.
pub(crate) async fn well_and_allergic(bench: &Bench) -> ((Caller, Value), (Caller, Value)) {
    for patient in ["p1", "p2"] {
        bench
            .ehr
            .put(prescription(patient, &format!("rx-{patient}")));
    }
    bench.ehr.put(allergy("p2", "lisinopril"));
    (prescriber(bench, "p1").await, prescriber(bench, "p2").await)
}

/// Proposes a dose of the drug that the patient has.
pub(crate) async fn order(bench: &Bench, by: &(Caller, Value), key: &str, mg: f64) -> Value {
    let arguments = json!({
        "idempotency_key": key, "prior": by.1, "dose": mg, "unit": "mg", "frequency": 1,
    });
    bench.call(&by.0, "order_medication", arguments).await
}

async fn book(bench: &Bench, by: &Caller, key: &str, slot: &Value) -> Value {
    let arguments = json!({ "idempotency_key": key, "slot": slot });
    bench.call(by, "book_appointment", arguments).await
}

pub(crate) fn id_of(answer: &Value) -> WritebackId {
    answer["proposal"].as_str().unwrap().parse().unwrap()
}

async fn gate(bench: &Bench, answer: &Value) -> GateLevel {
    bench.row(id_of(answer)).await.gate.unwrap().level()
}

async fn validation(bench: &Bench, answer: &Value) -> ValidationRecord {
    let stream = StreamId::Writeback(id_of(answer));
    let events = bench.store.stream(&tenant(), &stream).await.unwrap();
    let found = events
        .into_iter()
        .find_map(|recorded| match recorded.event {
            Event::Writeback(WritebackEvent::Validated { validation, .. }) => Some(*validation),
            _ => None,
        });
    found.unwrap()
}

async fn findings(bench: &Bench, by: &Human, answer: &Value) -> Vec<FindingView> {
    let review = bench.engine.review(by, id_of(answer)).await.unwrap();
    let content = review.content.unwrap();
    content.into_exposed(ExposedFor::Person).findings
}

fn has(findings: &[FindingView], id: &str) -> bool {
    findings.iter().any(|finding| finding.id == id)
}

pub(crate) async fn an_order_is_ruled_by_what_the_rules_find(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (well, allergic) = well_and_allergic(&bench).await;

    let usual = order(&bench, &well, "usual", 20.0).await;
    assert_eq!(gate(&bench, &usual).await, GateLevel::Approve2f);
    let found = findings(&bench, &clinician(), &usual).await;
    assert!(found.iter().all(|it| it.severity != "error"), "{found:?}");
    // The third stage is in the record, with what it went by and what it was given.
    let record = validation(&bench, &usual).await;
    let stages: Vec<_> = record
        .stages
        .iter()
        .map(|it| (it.stage.as_str(), it.ran, it.errors))
        .collect();
    assert_eq!(
        stages,
        [
            ("structure", true, 0),
            ("business-rules", true, 0),
            ("plausibility", true, 0)
        ]
    );
    let rules = record.rules.unwrap();
    assert_eq!(rules.rule_set, "plausibility/1.0.0");
    let looked: Vec<_> = rules
        .looked_up
        .iter()
        .map(|it| (it.what.as_str(), it.resources))
        .collect();
    assert!(
        looked.contains(&("MedicationRequest", Some(1))),
        "{looked:?}"
    );
    assert!(
        looked.contains(&("AllergyIntolerance", Some(0))),
        "{looked:?}"
    );

    let tenfold = order(&bench, &well, "tenfold", 200.0).await;
    assert_eq!(gate(&bench, &tenfold).await, GateLevel::Deny);
    assert_eq!(bench.state(id_of(&tenfold)).await, StateName::Refused);
    assert_eq!(tenfold["refusal"]["code"], "implausible");
    let found = findings(&bench, &clinician(), &tenfold).await;
    assert!(has(&found, "plausibility.M-04"), "{found:?}");

    let allergic = order(&bench, &allergic, "allergic", 20.0).await;
    assert_eq!(gate(&bench, &allergic).await, GateLevel::TwoPerson);
    let found = findings(&bench, &clinician(), &allergic).await;
    let fired = found
        .iter()
        .find(|it| it.id == "plausibility.M-02")
        .unwrap();
    assert!(fired.basis.contains(&"the list of allergies".to_owned()));
    assert!(fired.message.contains("allergy"));
    assert!(bench.ehr.written().is_empty());
}

pub(crate) async fn a_list_that_is_too_long_to_look_at_is_not_looked_at(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    bench.ehr.put(prescription("p1", "rx-p1"));
    let by = prescriber(&bench, "p1").await;
    let allergies = async |answer: &Value| {
        let looked_up = validation(&bench, answer).await.rules.unwrap().looked_up;
        let mut of_type = looked_up.into_iter();
        let list = of_type.find(|it| it.what.as_str() == "AllergyIntolerance");
        list.unwrap().resources
    };
    let cut_off = "gave too much to look at";
    for n in 0..200 {
        let mut latex = allergy("p1", "latex");
        latex["id"] = json!(format!("allergy-{n}"));
        bench.ehr.put(latex);
    }
    let all = order(&bench, &by, "all of them", 20.0).await;
    assert_eq!(allergies(&all).await, Some(200));
    let found = findings(&bench, &clinician(), &all).await;
    assert!(found.iter().all(|it| !it.message.contains(cut_off)));
    bench.ehr.put(allergy("p1", "latex"));
    let one_more = order(&bench, &by, "one more", 20.0).await;
    assert_eq!(allergies(&one_more).await, None);
    let found = findings(&bench, &clinician(), &one_more).await;
    let said = found
        .iter()
        .find(|it| it.message.contains(cut_off))
        .unwrap();
    assert!(said.message.contains("M-02"), "{}", said.message);
}

pub(crate) async fn a_protected_record_is_used_and_not_repeated(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let restricted = json!({ "security": [{
        "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R",
    }] });
    let mut said = Vec::new();
    for (patient, label) in [("p1", None), ("p2", Some(restricted))] {
        bench
            .ehr
            .put(prescription(patient, &format!("rx-{patient}")));
        let mut allergy = allergy(patient, "lisinopril");
        if let Some(label) = label {
            allergy["meta"] = label;
        }
        bench.ehr.put(allergy);
        let by = prescriber(&bench, patient).await;
        let answer = order(&bench, &by, patient, 20.0).await;
        assert_eq!(gate(&bench, &answer).await, GateLevel::TwoPerson);
        let found = findings(&bench, &clinician(), &answer).await;
        let fired = found
            .into_iter()
            .find(|it| it.message.contains("allergy") || it.message.contains("protected"));
        said.push(fired.unwrap().message);
    }
    assert!(said[0].contains("lisinopril"), "{}", said[0]);
    assert!(said[1].starts_with("M-02: "), "{}", said[1]);
    for word in ["lisinopril", "allergy"] {
        assert!(!said[1].contains(word), "{}", said[1]);
    }
}

pub(crate) async fn what_an_agent_hears_is_the_same_whatever_the_record_says(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (well, allergic) = well_and_allergic(&bench).await;
    // Refused for the dose, and waiting for people: with and without the allergy.
    for (key, mg) in [("refused", 200.0), ("waiting", 20.0)] {
        let mut told = Vec::new();
        for (patient, by) in [("p1", &well), ("p2", &allergic)] {
            let mut answer = order(&bench, by, &format!("{key}-{patient}"), mg).await;
            let status = json!({ "proposal": answer["proposal"] });
            let mut status = bench.call(&by.0, "check_proposal_status", status).await;
            for said in [&mut answer, &mut status] {
                let said = said.as_object_mut().unwrap();
                said.remove("proposal");
                said.remove("correlation");
            }
            let all = answer.to_string() + &status.to_string();
            for word in ["allerg", "M-02", "two", "lisinopril"] {
                assert!(!all.contains(word), "{word}: {all}");
            }
            told.push((answer, status));
        }
        assert_eq!(told[0], told[1], "{key}");
    }
}

pub(crate) async fn an_appointment_is_ruled_by_what_the_rules_find(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let slots = [
        slot("s1", "2031-03-03T09:00:00Z", "2031-03-03T09:30:00Z"),
        slot("s2", "2031-03-03T10:00:00Z", "2031-03-03T10:30:00Z"),
        slot("s3", "2031-01-01T00:00:00Z", "2031-01-01T00:30:00Z"),
        slot("s4", "2031-03-04T09:00:00Z", "2031-03-04T09:30:00Z"),
    ];
    let (agent, tokens) = bench.scheduler(&slots).await;
    bench.ehr.put(json!({
        "resourceType": "Appointment", "id": "known", "status": "booked",
        "start": "2031-03-03T09:15:00Z", "end": "2031-03-03T10:00:00Z",
        "participant": [{ "actor": { "reference": "Patient/p1" }, "status": "accepted" }],
    }));
    bench.ehr.searched();
    // It ends when the next one begins, and begins before the other ends.
    let free = book(&bench, &agent, "free", &tokens[1]).await;
    assert_eq!(gate(&bench, &free).await, GateLevel::Auto);
    // Only the patient's consents and what appointments are judged by was read.
    assert_eq!(bench.ehr.searched(), ["Consent", "Appointment"]);
    let overlap = book(&bench, &agent, "overlap", &tokens[0]).await;
    assert_eq!(gate(&bench, &overlap).await, GateLevel::Deny);
    // That the patient has an appointment then is not the agent's to hear.
    assert_eq!(
        overlap["findings"],
        json!([{
            "id": "chaperone.context",
            "message": "something outside your view speaks against this; ask a human",
        }])
    );
    let midnight = book(&bench, &agent, "midnight", &tokens[2]).await;
    assert_eq!(gate(&bench, &midnight).await, GateLevel::Approve);
    let desk = human(5, &[Role::Scheduler]);
    let found = findings(&bench, &desk, &midnight).await;
    assert!(has(&found, "plausibility.D-05"), "{found:?}");
    // What warns is opened before it is approved; what does not may be approved from the list.
    let inbox = bench
        .engine
        .inbox(&desk, &Default::default())
        .await
        .unwrap();
    let waiting = inbox.items.iter().find(|it| it.id == id_of(&midnight));
    assert!(!waiting.unwrap().quick);
    // Nor without saying why, and only by a reason of the bundle.
    let row = bench.row(id_of(&midnight)).await;
    let approve = async |reason: Option<&str>| {
        let request = ApproveRequest {
            writeback: row.id,
            digest: row.digest.unwrap(),
            step_up: None,
            override_reason: reason.map(|it| OverrideReason::new(it).unwrap()),
            review_ms: 5_000,
        };
        let taken = bench.engine.approve(&desk, request).await;
        taken.map(|_| ()).map_err(|failed| failed.code())
    };
    assert_eq!(approve(None).await, Err("override-reason-required"));
    assert_eq!(
        approve(Some("because")).await,
        Err("override-reason-unknown")
    );
    assert_eq!(bench.state(row.id).await, StateName::AwaitingApproval);
    assert_eq!(approve(Some("does-not-apply")).await, Ok(()));
    let review = bench.engine.review(&desk, row.id).await.unwrap();
    let last = &review.timeline.last().unwrap().words;
    assert!(last.contains("over a warning: does-not-apply"), "{last}");

    // When the EHR does not tell of other appointments, nothing is booked by itself.
    bench.ehr.set_unsearchable("Appointment", true);
    let blind = book(&bench, &agent, "blind", &tokens[3]).await;
    assert_eq!(gate(&bench, &blind).await, GateLevel::Approve);
    let found = findings(&bench, &desk, &blind).await;
    let unchecked = found.iter().find(|it| it.message.contains("D-09")).unwrap();
    assert_eq!(unchecked.severity, "warning");
    assert!(unchecked.message.contains("The EHR was asked"));
    bench.ehr.set_unsearchable("Appointment", false);
    let seen = book(&bench, &agent, "seen", &tokens[3]).await;
    assert_eq!(gate(&bench, &seen).await, GateLevel::Auto);
}

pub(crate) async fn what_the_ehr_does_not_tell_is_for_people_to_find_out(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    bench.ehr.put(prescription("p1", "rx-p1"));
    let by = prescriber(&bench, "p1").await;
    let cases: [(&str, &dyn Fn(bool)); 2] = [
        ("M-02", &|on| {
            bench.ehr.set_unsearchable("AllergyIntolerance", on)
        }),
        // An allergy of somebody else among the hits.
        ("M-02", &|on| {
            let mut foreign = allergy("p1", "warfarin");
            foreign["reaction"] = json!([{ "manifestation": [{ "text": "x" }] }]);
            if on {
                foreign["recorder"] = json!({ "reference": "Patient/p2" });
            }
            bench.ehr.put(foreign);
        }),
    ];
    for (n, (rule, without)) in cases.into_iter().enumerate() {
        without(true);
        let blind = order(&bench, &by, &format!("blind-{n}"), 20.0).await;
        assert_eq!(gate(&bench, &blind).await, GateLevel::TwoPerson, "{n}");
        let found = findings(&bench, &clinician(), &blind).await;
        let unchecked = found
            .iter()
            .find(|it| it.id == "plausibility.not-checked" && it.message.contains(rule));
        let unchecked = unchecked.unwrap_or_else(|| panic!("{n}: {found:?}"));
        assert_eq!(unchecked.severity, "warning", "{n}");
        assert!(!has(&found, "plausibility.M-02"), "{n}");
        let record = validation(&bench, &blind).await;
        let looked_up = record.rules.unwrap().looked_up;
        let allergies = looked_up
            .iter()
            .find(|it| it.what.as_str() == "AllergyIntolerance")
            .unwrap();
        assert_eq!(allergies.resources, None, "{n}");
        without(false);
        let seen = order(&bench, &by, &format!("seen-{n}"), 20.0).await;
        assert_eq!(gate(&bench, &seen).await, GateLevel::Approve2f, "{n}");
    }
    // Without the patient there is nothing to decide on: the agent asks again.
    bench.ehr.set_down(true);
    let arguments = json!({
        "idempotency_key": "down", "prior": by.1, "dose": 20, "unit": "mg", "frequency": 1,
    });
    let Value::Object(arguments) = arguments else {
        unreachable!()
    };
    let correlation = bench.engine.correlation();
    let failed = bench
        .engine
        .call(&by.0, "order_medication", arguments, correlation)
        .await
        .unwrap_err();
    assert_eq!(failed.code, "ehr-unavailable");
}

pub(crate) async fn a_unit_slip_is_pointed_out_and_not_put_right(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let agent = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
    let weigh = async |key: &str, kg: f64, at: &str| {
        let arguments = json!({
            "idempotency_key": key, "measure": "29463-7", "value": kg, "unit": "kg", "measured_at": at,
        });
        bench.call(&agent, "record_vital", arguments).await
    };
    let now = "2030-01-01T11:00:00Z";
    let nurse = human(6, &[Role::MaRn]);
    let slip = weigh("slip", 300.0, now).await;
    let found = findings(&bench, &nurse, &slip).await;
    let fired = found
        .iter()
        .find(|it| it.id == "plausibility.K-06")
        .unwrap_or_else(|| panic!("{found:?}"));
    assert!(
        fired
            .proposed
            .as_deref()
            .is_some_and(|it| it.ends_with("[lb_av]"))
    );
    assert_eq!(gate(&bench, &slip).await, GateLevel::Approve);
    // What is proposed to people is what was sent, with the number that was sent.
    let review = bench.engine.review(&nurse, id_of(&slip)).await.unwrap();
    let content = review.content.unwrap();
    let diff = format!("{:?}", content.expose(ExposedFor::Person).changes);
    assert!(diff.contains("300"), "{diff}");
    let plain = weigh("plain", 80.0, now).await;
    let found = findings(&bench, &nurse, &plain).await;
    assert!(!has(&found, "plausibility.K-06"), "{found:?}");
    assert_eq!(plain.get("findings"), None);

    // What is impossible by itself is refused, and the agent hears why: it is about its own input.
    let future = weigh("future", 80.0, "2030-01-01T13:00:00Z").await;
    assert_eq!(gate(&bench, &future).await, GateLevel::Deny);
    assert_eq!(future["findings"][0]["id"], "plausibility.D-03");
    assert_eq!(
        future["findings"][0]["where"],
        "Observation.effectiveDateTime"
    );
    // A minute ahead is a clock that is a little off.
    let ahead = weigh("ahead", 80.0, "2030-01-01T12:01:00Z").await;
    assert_eq!(gate(&bench, &ahead).await, GateLevel::Approve);
}
