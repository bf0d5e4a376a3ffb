//! What undoes each kind of effect, beside the nearest thing that does not: a booking, a message, a change, a type that
//! has no status for an error.

use chaperone_core::evidence::Strategy;
use chaperone_core::gate::GateLevel;
use chaperone_core::ids::WritebackId;
use chaperone_core::principal::Role;
use chaperone_core::undo::{PersonNeeded, UndoStep};
use chaperone_core::writeback::StateName;
use chaperone_engine::open_envelope::Caller;
use serde_json::{Value, json};

use crate::bench::*;
use crate::consents::{message, talking, wish};
use crate::undo::*;

/// Approves it, whoever must, and delivers it.
async fn done(bench: &Bench, id: WritebackId) {
    let who = human(11, &[Role::Scheduler, Role::Clinician, Role::MaRn]);
    approve(bench, &who, id, true).await.unwrap();
    for _ in 0..4 {
        bench.deliver().await;
    }
    assert_eq!(bench.state(id).await, StateName::Delivered);
}

async fn undone(bench: &Bench, id: WritebackId) -> WritebackId {
    let run = undo(bench, of_one(id)).await;
    let by = proposed(bench, run, id).await;
    let gate = bench.row(by).await.gate.unwrap();
    assert_eq!(gate.level(), GateLevel::Approve2f, "{gate}");
    approve(bench, &records(), by, true).await.unwrap();
    bench.deliver().await;
    assert_eq!(bench.state(by).await, StateName::Delivered);
    settle(bench, run).await;
    assert_eq!(bench.state(id).await, StateName::Compensated);
    by
}

async fn needs_person(bench: &Bench, id: WritebackId) -> PersonNeeded {
    let run = undo(bench, of_one(id)).await;
    match step(bench, run, id).await {
        UndoStep::Person { needed, .. } => needed,
        other => panic!("{other:?}"),
    }
}

fn slot(id: &str) -> Value {
    json!({
        "resourceType": "Slot", "id": id, "status": "free",
        "start": "2031-03-03T09:00:00Z", "end": "2031-03-03T09:30:00Z",
    })
}

async fn booked(bench: &Bench, agent: &Caller, key: &str, slot: &Value) -> WritebackId {
    let arguments = json!({ "idempotency_key": key, "slot": slot, "visit_type": "ROUTINE" });
    let answer = bench.call(agent, "confirm_appointment", arguments).await;
    let id = answer["proposal"].as_str().unwrap().parse().unwrap();
    done(bench, id).await;
    id
}

pub(crate) async fn a_booking_is_cancelled_and_one_that_others_changed_is_not(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (agent, tokens) = bench.scheduler(&[slot("s1"), slot("s2")]).await;
    let id = booked(&bench, &agent, "1", &tokens[0]).await;
    let at = place(&bench, id);
    undone(&bench, id).await;
    let appointment = bench.ehr.resource("Appointment", &at).unwrap();
    assert_eq!(appointment["status"], "cancelled");
    assert_eq!(
        appointment["cancelationReason"]["coding"][0]["code"],
        "oth-err"
    );

    // The patient has come meanwhile: that is no booking any more which could be cancelled.
    let id = booked(&bench, &agent, "2", &tokens[1]).await;
    let at = place(&bench, id);
    let mut appointment = bench.ehr.resource("Appointment", &at).unwrap();
    appointment["status"] = json!("arrived");
    bench.ehr.put(appointment);
    let run = undo(&bench, of_one(id)).await;
    let by = proposed(&bench, run, id).await;
    let gate = bench.row(by).await.gate.unwrap();
    assert_eq!(gate.level(), GateLevel::TwoPerson);
    assert_eq!(status_at_ehr(&bench, "Appointment", &at), "arrived");
}

pub(crate) async fn a_message_is_taken_back_by_another_where_the_patient_may_be_written_to(db: Db) {
    let bench = talking(db, Strategy::Conditional).await;
    bench.ehr.put(wish("k1", "p1", "permit", "email"));
    let caller = bench
        .caller(&nurse(), "intake-agent", "patient-message", "p1")
        .await;
    let id = message(&bench, &caller, "1", "portal").await.unwrap();
    done(&bench, id).await;
    let (at, sent) = (place(&bench, id), bench.ehr.written().len());
    let by = undone(&bench, id).await;
    assert_eq!(bench.ehr.written().len(), sent + 1);
    // What was sent stays as it was sent; the other one answers it, by the same way, in approved words.
    let first = bench.ehr.resource("Communication", &at).unwrap();
    let second = bench
        .ehr
        .resource("Communication", &place(&bench, by))
        .unwrap();
    assert_eq!(first["status"], "completed");
    assert_eq!(
        second["inResponseTo"][0]["reference"],
        format!("Communication/{at}")
    );
    assert_eq!(second["medium"], first["medium"]);
    let said = second["payload"][0]["contentString"].as_str().unwrap();
    assert!(
        said.contains("in error") && !said.contains("Monday"),
        "{said}"
    );
}

const SET_VISIT_REASON: &str = r#"
name = "set_visit_reason"
description = "Record why the patient came."

[write]
resource = "Encounter"
interaction = "update"
destination = "ehr"
target = "visit"

[write.template]
status = "in-progress"
reasonCode = [{ text = "{reason}" }]

[inputs.visit]
description = "The visit, as list_encounters named it."
type = "token"
resource = "Encounter"
required = true

[inputs.reason]
description = "Why."
type = "string"
max_length = 60
required = true
"#;

/// A bench whose intake agent may change why a patient came; each has a visit.
pub(crate) async fn visiting(db: Db) -> Bench {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let mut files = chaperone_policy::embedded::files();
    let intake = files.get_mut("intents/intake.toml").unwrap();
    for (from, to) in [
        (
            "    \"record_answers\",\n",
            "    \"record_answers\",\n    \"list_encounters\",\n    \"set_visit_reason\",\n",
        ),
        (
            "    \"Task.create.requested\",\n",
            "    \"Task.create.requested\",\n    \"Encounter.update.in-progress\",\n",
        ),
        ("[view]\n", "[view]\nEncounter = [\"status\", \"period\"]\n"),
    ] {
        assert!(intake.contains(from), "{from}");
        *intake = intake.replace(from, to);
    }
    let tool = "tools/set_visit_reason.toml".to_owned();
    files.insert(tool, SET_VISIT_REASON.to_owned());
    let bundle = bundle(&files);
    let (store, ehr, clock) = (bench.store.clone(), bench.ehr.clone(), bench.clock.clone());
    bench.engine = start(&bundle, store, ehr, clock).await;
    show(&bench.engine, &bench.ehr).await;
    for patient in ["p1", "p2"] {
        bench.ehr.put(json!({
            "resourceType": "Encounter", "id": format!("visit-{patient}"), "status": "in-progress",
            "class": { "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB" },
            "subject": { "reference": format!("Patient/{patient}") },
            "period": { "start": "2030-01-01T11:00:00Z" },
        }));
    }
    bench
}

/// Proposed by the agent of [`visiting`], and not yet approved.
pub(crate) async fn proposed_reason(bench: &Bench, patient: &str) -> WritebackId {
    let agent = bench
        .caller(&nurse(), "intake-agent", "intake", patient)
        .await;
    let read = bench.call(&agent, "list_encounters", json!({})).await;
    let arguments = json!({
        "visit": read["resources"][0]["id"], "reason": "Cough", "idempotency_key": patient,
    });
    let answer = bench.call(&agent, "set_visit_reason", arguments).await;
    answer["proposal"].as_str().unwrap().parse().unwrap()
}

async fn reasoned(bench: &Bench, patient: &str) -> WritebackId {
    let id = proposed_reason(bench, patient).await;
    done(bench, id).await;
    id
}

pub(crate) async fn a_change_is_put_back_and_one_that_others_built_on_is_not(db: Db) {
    let bench = visiting(db).await;
    let visit = |patient: &str| {
        let id = format!("visit-{patient}");
        bench.ehr.resource("Encounter", &id).unwrap()
    };
    let before = visit("p1");
    let (id, other) = (reasoned(&bench, "p1").await, reasoned(&bench, "p2").await);
    assert_eq!(visit("p1")["reasonCode"][0]["text"], "Cough");
    undone(&bench, id).await;
    let (mut now, mut before) = (visit("p1"), before);
    for it in [&mut now, &mut before] {
        it["meta"] = Value::Null;
    }
    assert_eq!(now, before);

    let mut changed = visit("p2");
    changed["priority"] = json!({ "text": "urgent" });
    bench.ehr.put(changed);
    assert_eq!(
        needs_person(&bench, other).await,
        PersonNeeded::ChangedSince
    );
    assert_eq!(visit("p2")["reasonCode"][0]["text"], "Cough");
}

pub(crate) async fn what_the_ehr_shows_a_part_of_a_person_corrects(db: Db) {
    let bench = visiting(db).await;
    let id = reasoned(&bench, "p1").await;
    let mut shown = bench.ehr.resource("Encounter", "visit-p1").unwrap();
    shown["meta"]["tag"] = json!([{
        "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED",
    }]);
    bench.ehr.put(shown);
    assert_eq!(needs_person(&bench, id).await, PersonNeeded::ShownInPart);
    let now = bench.ehr.resource("Encounter", "visit-p1").unwrap();
    assert_eq!(now["reasonCode"][0]["text"], "Cough");
}

pub(crate) async fn what_cannot_be_undone_by_a_machine_goes_to_a_person(db: Db) {
    // What was sent is not kept any more.
    let bench = bench_on(db, Strategy::Conditional).await;
    let (id, at) = delivered_task(&bench, "1").await;
    let stream = chaperone_core::event::StreamId::Writeback(id);
    let events = bench.store.stream(&tenant(), &stream).await.unwrap();
    let order = events.iter().find_map(|it| match &it.event {
        chaperone_core::event::Event::Writeback(
            chaperone_core::writeback::WritebackEvent::Ruled { order, .. },
        ) => Some(order.address),
        _ => None,
    });
    let mut commit = chaperone_core::ports::Commit::new(
        tenant(),
        bench.engine.now(),
        chaperone_core::principal::Actor::Anonymous,
    );
    commit.erased.push(order.unwrap());
    bench.store.commit(commit).await.unwrap();
    let found = bench
        .engine
        .undo_plan(&chaperone_core::undo::UndoSelection {
            model: Some(chaperone_core::undo::VersionName::new("any").unwrap()),
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!((found.items.len(), found.unreadable), (0, 1));
    assert_eq!(needs_person(&bench, id).await, PersonNeeded::OrderGone);
    assert_eq!(status_at_ehr(&bench, "Task", &at), "requested");

    // Somebody marked it already: nothing is left to do, and nobody is bothered.
    let (id, at) = delivered_task(&bench, "2").await;
    let mut task = bench.ehr.resource("Task", &at).unwrap();
    task["status"] = json!("entered-in-error");
    bench.ehr.put(task);
    let run = undo(&bench, of_one(id)).await;
    assert_eq!(step(&bench, run, id).await, UndoStep::Nothing);

    // An EHR that does not answer is asked again.
    let (id, _) = delivered_task(&bench, "3").await;
    bench.ehr.set_down(true);
    let run = undo(&bench, of_one(id)).await;
    assert_eq!(step(&bench, run, id).await, UndoStep::Found);
    bench.ehr.set_down(false);
    settle(&bench, run).await;
    proposed(&bench, run, id).await;
}
