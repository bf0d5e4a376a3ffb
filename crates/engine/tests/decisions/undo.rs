//! Undoing what went wrong: what is set aside, what is compensated and by whose agreement, what goes to people, and
//! that a run which is cut short goes on without doing anything twice.

use chaperone_core::event::{DecisionKind, Event, StreamId};
use chaperone_core::evidence::Strategy;
use chaperone_core::gate::Gate;
use chaperone_core::ids::{AgentId, UndoId, WritebackId};
use chaperone_core::principal::{Human, Role};
use chaperone_core::undo::{PersonNeeded, UndoEvent, UndoSelection, UndoStep, VersionName};
use chaperone_core::writeback::{Refusal, StateName, WritebackEvent};
use chaperone_engine::approve::{ApproveRequest, DecideFailed};
use chaperone_engine::projection::examine;
use chaperone_engine::undo::{Planned, UndoFailed, UndoRequest};
use chaperone_testkit::WriteFault;
use serde_json::{Value, json};

use crate::bench::*;
use crate::retention::{factor, factor_for};

const WHY: &str = "the prompt was wrong since this morning";

pub(crate) fn records() -> Human {
    human(7, &[Role::Him])
}

fn clinician() -> Human {
    human(8, &[Role::Clinician])
}

fn of_agent(agent: &str) -> UndoSelection {
    UndoSelection {
        agent: Some(AgentId::new(agent).unwrap()),
        ..UndoSelection::default()
    }
}

pub(crate) fn of_one(writeback: WritebackId) -> UndoSelection {
    UndoSelection {
        writeback: Some(writeback),
        ..UndoSelection::default()
    }
}

async fn start(
    bench: &Bench,
    by: &Human,
    selection: UndoSelection,
    stop_agent: bool,
) -> Result<UndoId, UndoFailed> {
    let request = UndoRequest {
        selection,
        reason: WHY.to_owned(),
        stop_agent,
    };
    let digest = bench.engine.undo_digest(&request).unwrap();
    let step = factor(bench.store.as_ref(), bench.clock.as_ref(), by, digest).await;
    bench.engine.start_undo(by, &request, step).await
}

/// Starts a run and goes on with it until nothing moves.
pub(crate) async fn undo(bench: &Bench, selection: UndoSelection) -> UndoId {
    let run = start(bench, &records(), selection, false).await.unwrap();
    settle(bench, run).await;
    run
}

pub(crate) async fn settle(bench: &Bench, run: UndoId) {
    for _ in 0..16 {
        if bench.engine.advance_undo(run).await.unwrap().moved == 0 {
            return;
        }
    }
    panic!("the run does not come to rest");
}

pub(crate) async fn step(bench: &Bench, run: UndoId, of: WritebackId) -> UndoStep {
    let status = bench.engine.undo_status(run).await.unwrap();
    let item = status.items.into_iter().find(|it| it.writeback == of);
    item.unwrap_or_else(|| panic!("{of} is not in the run"))
        .step
}

pub(crate) async fn proposed(bench: &Bench, run: UndoId, of: WritebackId) -> WritebackId {
    match step(bench, run, of).await {
        UndoStep::Proposed { by } => by,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn approve(
    bench: &Bench,
    by: &Human,
    id: WritebackId,
    with_factor: bool,
) -> Result<StateName, DecideFailed> {
    let digest = bench.row(id).await.digest.unwrap();
    let step_up = match with_factor {
        true => {
            let subject = json!({ "for": "approval", "writeback": id });
            let (store, clock) = (bench.store.as_ref(), bench.clock.as_ref());
            Some(factor_for(store, clock, by, digest, subject).await)
        }
        false => None,
    };
    let request = ApproveRequest {
        writeback: id,
        digest,
        step_up,
        override_reason: None,
        review_ms: 5_000,
    };
    bench.engine.approve(by, request).await.map(|row| row.state)
}

/// A delivered task of p1, and its id at the EHR.
pub(crate) async fn delivered_task(bench: &Bench, key: &str) -> (WritebackId, String) {
    let agent = bench
        .caller(&nurse(), "refill-agent", "refill-request", "p1")
        .await;
    let id = bench.task(&agent, key, json!([])).await.id;
    // What is before it in the patient's order goes first.
    for _ in 0..3 {
        bench.deliver().await;
    }
    assert_eq!(bench.state(id).await, StateName::Delivered);
    (id, place(bench, id))
}

pub(crate) fn place(bench: &Bench, id: WritebackId) -> String {
    let written = bench.ehr.written();
    let (_, at) = written.iter().find(|(by, _)| *by == id).unwrap();
    at.split_once('/').unwrap().1.to_owned()
}

pub(crate) fn status_at_ehr(bench: &Bench, kind: &str, id: &str) -> Value {
    bench.ehr.resource(kind, id).unwrap()["status"].clone()
}

pub(crate) async fn what_was_delivered_is_marked_as_an_error_once_people_agree(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (id, at) = delivered_task(&bench, "1").await;

    // Shown first: what, where it stands, whose agreement it takes; and nothing happens.
    let plan = bench
        .engine
        .undo_plan(&of_agent("refill-agent"))
        .await
        .unwrap();
    assert_eq!(plan.items.len(), 1);
    assert_eq!(plan.items[0].writeback, id);
    let Planned::Compensate { gate, to } = &plan.items[0].planned else {
        panic!("{plan:?}");
    };
    assert_eq!(
        *gate,
        Gate::Approve2f {
            roles: [Role::Clinician, Role::Him].into()
        }
    );
    assert_eq!(to.as_deref(), Some("entered-in-error"));
    assert_eq!(bench.ehr.written().len(), 1);

    let run = undo(&bench, of_agent("refill-agent")).await;
    let by = proposed(&bench, run, id).await;
    assert_eq!(bench.state(by).await, StateName::AwaitingApproval);
    assert_eq!(status_at_ehr(&bench, "Task", &at), "requested");
    bench.deliver().await;
    assert_eq!(
        bench.ehr.written().len(),
        1,
        "nothing is sent before people agree"
    );

    let refused = approve(&bench, &records(), by, false).await;
    assert!(matches!(
        refused,
        Err(DecideFailed::Refused(Refusal::SecondFactorRequired))
    ));
    let refused = approve(&bench, &nurse(), by, true).await;
    assert!(matches!(
        refused,
        Err(DecideFailed::Refused(Refusal::RoleNotPermitted))
    ));
    assert_eq!(
        approve(&bench, &clinician(), by, true).await.unwrap(),
        StateName::Ready
    );
    bench.deliver().await;
    assert_eq!(bench.state(by).await, StateName::Delivered);
    // The error stays, marked as one; nothing else of it changed, and nothing was deleted.
    let task = bench.ehr.resource("Task", &at).unwrap();
    assert_eq!(task["status"], "entered-in-error");
    assert_eq!(task["description"], "Call back.");

    settle(&bench, run).await;
    assert_eq!(bench.state(id).await, StateName::Compensated);
    assert_eq!(step(&bench, run, id).await, UndoStep::Undone { by });
    let status = bench.engine.undo_status(run).await.unwrap();
    assert_eq!((status.counts.undone, status.finished.is_some()), (1, true));
    assert_eq!(status.reason.as_deref(), Some(WHY));

    // Both tell of each other, and the run is in the ledger from its beginning to its end.
    let stream = bench
        .store
        .stream(&tenant(), &StreamId::Writeback(id))
        .await
        .unwrap();
    assert!(stream.iter().any(|it| matches!(&it.event,
        Event::Undo(UndoEvent::CompensationProposed { run: of, by: it }) if *of == run && *it == by)));
    assert!(
        stream
            .iter()
            .any(|it| it.event == Event::Writeback(WritebackEvent::Compensated { by }))
    );
    let kinds: Vec<String> = bench
        .store
        .stream(&tenant(), &StreamId::Undo(run))
        .await
        .unwrap()
        .iter()
        .map(|it| it.event.kind())
        .collect();
    assert_eq!(
        kinds,
        ["undo.started", "undo.moved", "undo.moved", "undo.finished"]
    );

    // What is undone is not undone again.
    let again = start(&bench, &records(), of_agent("refill-agent"), false).await;
    assert!(matches!(again, Err(UndoFailed::NothingFound)));
    let checked = chaperone_engine::projection::examine(bench.store.as_ref(), &tenant())
        .await
        .unwrap();
    assert!(checked.is_whole(), "{checked:?}");
}

pub(crate) async fn two_runs_make_one_compensation(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (id, _) = delivered_task(&bench, "1").await;
    let first = undo(&bench, of_agent("refill-agent")).await;
    let second = undo(&bench, of_one(id)).await;
    let by = proposed(&bench, first, id).await;
    assert_eq!(proposed(&bench, second, id).await, by);
    approve(&bench, &clinician(), by, true).await.unwrap();
    bench.deliver().await;
    settle(&bench, first).await;
    settle(&bench, second).await;
    for run in [first, second] {
        assert_eq!(step(&bench, run, id).await, UndoStep::Undone { by });
    }
    assert_eq!(bench.ehr.written().len(), 2);
}

pub(crate) async fn what_others_changed_since_takes_two_people_and_keeps_their_change(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (id, at) = delivered_task(&bench, "1").await;
    let mut task = bench.ehr.resource("Task", &at).unwrap();
    task["note"] = json!([{ "text": "Called, nobody answered." }]);
    bench.ehr.put(task.clone());
    let run = undo(&bench, of_one(id)).await;
    let by = proposed(&bench, run, id).await;
    let gate = bench.row(by).await.gate.unwrap();
    assert_eq!(
        gate,
        Gate::TwoPerson {
            first: Role::Him,
            second: Role::Clinician
        }
    );
    // Whoever began the run is not one of the two.
    let refused = approve(&bench, &records(), by, true).await;
    assert!(matches!(
        refused,
        Err(DecideFailed::Refused(Refusal::SamePerson))
    ));
    let other = human(9, &[Role::Him]);
    assert_eq!(
        approve(&bench, &other, by, true).await.unwrap(),
        StateName::AwaitingApproval
    );
    assert_eq!(
        approve(&bench, &clinician(), by, false).await.unwrap(),
        StateName::Ready
    );

    // And somebody changes it once more before it is sent: it is not overwritten, but worked out anew.
    task["note"] = json!([{ "text": "Called again." }]);
    bench.ehr.put(task);
    bench.deliver().await;
    assert_eq!(bench.state(by).await, StateName::Void);
    settle(&bench, run).await;
    let anew = proposed(&bench, run, id).await;
    assert_ne!(anew, by);
    approve(&bench, &other, anew, true).await.unwrap();
    approve(&bench, &clinician(), anew, false).await.unwrap();
    bench.deliver().await;
    settle(&bench, run).await;
    let task = bench.ehr.resource("Task", &at).unwrap();
    assert_eq!(task["status"], "entered-in-error");
    assert_eq!(task["note"][0]["text"], "Called again.");
    assert_eq!(step(&bench, run, id).await, UndoStep::Undone { by: anew });
}

/// A task that waits for approval, a draft of Chaperone's own, and one in the queue.
async fn unsent(bench: &Bench) -> [WritebackId; 3] {
    bench.ehr.put(json!({
        "resourceType": "DocumentReference", "id": "d1", "status": "current",
        "subject": { "reference": "Patient/p1" },
    }));
    bench.ehr.put(json!({
        "resourceType": "MedicationRequest", "id": "m1", "status": "active", "intent": "order",
        "subject": { "reference": "Patient/p1" },
        "medicationCodeableConcept": { "coding": [{
            "system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "314076", "display": "lisinopril",
        }] },
    }));
    let reader = bench
        .caller(&clinician(), "order-agent", "chart-summary", "p1")
        .await;
    let read = bench.call(&reader, "list_documents", json!({})).await;
    let document = read["resources"][0]["id"].clone();
    let agent = bench
        .caller(&clinician(), "refill-agent", "refill-request", "p1")
        .await;
    let waits = bench.task(&agent, "waits", json!([document])).await;
    assert_eq!(waits.state, StateName::AwaitingApproval);
    let list = bench.call(&agent, "list_medications", json!({})).await;
    let prior = list["resources"][0]["id"].clone();
    let answer = bench
        .call(
            &agent,
            "request_refill",
            json!({ "idempotency_key": "refill", "prior": prior }),
        )
        .await;
    let staged: WritebackId = answer["proposal"].as_str().unwrap().parse().unwrap();
    // A rule warns, so that a person takes it in; it stays a draft of Chaperone's own.
    let request = ApproveRequest {
        writeback: staged,
        digest: bench.row(staged).await.digest.unwrap(),
        step_up: None,
        override_reason: Some(bench.engine.override_choices()[0].code.clone()),
        review_ms: 5_000,
    };
    bench.engine.approve(&clinician(), request).await.unwrap();
    assert_eq!(bench.state(staged).await, StateName::Staged);
    let queued = bench.task(&agent, "queued", json!([])).await;
    assert_eq!(queued.state, StateName::Ready);
    [waits.id, staged, queued.id]
}

pub(crate) async fn what_was_not_sent_is_set_aside_and_a_person_decides(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let [waits, staged, queued] = unsent(&bench).await;
    let (digest, request) = (
        bench.row(waits).await.digest.unwrap(),
        bench.row(waits).await,
    );
    let run = undo(&bench, of_agent("refill-agent")).await;
    for (id, state, at) in [
        (waits, StateName::Quarantined, UndoStep::SetAside),
        (staged, StateName::Refused, UndoStep::Withdrawn),
        (queued, StateName::Quarantined, UndoStep::SetAside),
    ] {
        assert_eq!(bench.state(id).await, state, "{id}");
        assert_eq!(step(&bench, run, id).await, at);
    }
    assert!(
        bench
            .engine
            .undo_status(run)
            .await
            .unwrap()
            .finished
            .is_some()
    );
    bench.deliver().await;
    assert!(
        bench.ehr.written().is_empty(),
        "what is set aside is not sent"
    );
    // Set aside, it cannot be approved.
    assert!(approve(&bench, &nurse(), waits, false).await.is_err());

    // Not by anybody, and not without a reason.
    let (desk, it) = (human(4, &[Role::Scheduler]), human(5, &[Role::ItAdmin]));
    assert!(
        bench
            .engine
            .release_aside(&desk, queued, WHY)
            .await
            .is_err()
    );
    assert!(bench.engine.release_aside(&it, queued, "").await.is_err());
    let row = bench.engine.release_aside(&it, queued, WHY).await.unwrap();
    assert_eq!(row.state, StateName::Ready);
    let row = bench.engine.release_aside(&it, waits, WHY).await.unwrap();
    assert_eq!(
        (row.state, row.digest),
        (StateName::AwaitingApproval, Some(digest))
    );
    assert_eq!(row.deadline, request.deadline);
    bench.deliver().await;
    assert_eq!(bench.ehr.written().len(), 1);
    assert!(bench.engine.release_aside(&it, queued, WHY).await.is_err());

    // What ran out of time while it was set aside does not come back; it can be rejected.
    let run = start(&bench, &records(), of_one(waits), false)
        .await
        .unwrap();
    settle(&bench, run).await;
    bench
        .clock
        .advance_s(bench.engine.config().approve_within_s + 1);
    let late = bench.engine.release_aside(&it, waits, WHY).await;
    assert!(matches!(
        late,
        Err(DecideFailed::Refused(Refusal::OutsideDeliveryWindow))
    ));
    assert!(bench.engine.reject_aside(&desk, waits, WHY).await.is_err());
    let row = bench.engine.reject_aside(&it, waits, WHY).await.unwrap();
    assert_eq!(row.state, StateName::Refused);

    // What was tried in vain is on record.
    let tried: Vec<(DecisionKind, WritebackId)> = bench
        .recorded()
        .await
        .into_iter()
        .filter_map(|it| match it.event {
            Event::DecisionRefused {
                decision,
                writeback,
                ..
            } => Some((decision, writeback)),
            _ => None,
        })
        .collect();
    assert_eq!(
        tried,
        [
            (DecisionKind::Approve, waits),
            (DecisionKind::Release, queued),
            (DecisionKind::Release, queued),
            (DecisionKind::Release, queued),
            (DecisionKind::Release, waits),
            (DecisionKind::Reject, waits),
        ]
    );
}

pub(crate) async fn an_unknown_outcome_is_found_out_before_it_is_undone(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let agent = bench
        .caller(&nurse(), "refill-agent", "refill-request", "p1")
        .await;
    let (there, not_there) = (
        bench.task(&agent, "there", json!([])).await.id,
        bench.task(&agent, "not-there", json!([])).await.id,
    );
    bench.ehr.fail_next_write(WriteFault::LostAfter);
    bench.deliver().await;
    assert_eq!(bench.state(there).await, StateName::Unknown);
    let run = undo(&bench, of_agent("refill-agent")).await;
    assert_eq!(step(&bench, run, there).await, UndoStep::Waiting);
    assert_eq!(step(&bench, run, not_there).await, UndoStep::SetAside);
    assert!(
        bench
            .engine
            .undo_status(run)
            .await
            .unwrap()
            .finished
            .is_none()
    );
    bench.deliver().await;
    assert_eq!(bench.state(there).await, StateName::Delivered);
    settle(&bench, run).await;
    proposed(&bench, run, there).await;
}

pub(crate) async fn what_a_person_entered_a_person_corrects(db: Db) {
    let bench = bench_on(db, Strategy::HumanEntry).await;
    let agent = bench
        .caller(&nurse(), "refill-agent", "refill-request", "p1")
        .await;
    let id = bench.task(&agent, "1", json!([])).await.id;
    bench.deliver().await;
    let run = undo(&bench, of_agent("refill-agent")).await;
    assert_eq!(step(&bench, run, id).await, UndoStep::Waiting);
    bench
        .engine
        .attest_entry(&nurse(), id, "Task list, third line")
        .await
        .unwrap();
    settle(&bench, run).await;
    // No task is made where the EHR would have a person enter that as well.
    let needed = PersonNeeded::EnteredByHand;
    assert_eq!(
        step(&bench, run, id).await,
        UndoStep::Person { needed, task: None }
    );
    assert_eq!(bench.state(id).await, StateName::Delivered);
    let status = bench.engine.undo_status(run).await.unwrap();
    assert_eq!((status.counts.person, status.finished.is_some()), (1, true));
}

pub(crate) async fn what_moves_while_a_run_looks_at_it_stays_where_it_went(db: Db) {
    let mut bench = bench_on(db, Strategy::HumanEntry).await;
    let store = bench.behind_a_faulty_store().await;
    show(&bench.engine, &bench.ehr).await;
    let agent = bench
        .caller(&nurse(), "refill-agent", "refill-request", "p1")
        .await;
    let id = bench.task(&agent, "1", json!([])).await.id;
    bench.deliver().await;
    assert_eq!(bench.state(id).await, StateName::Delivering);
    let started = start(&bench, &records(), of_agent("refill-agent"), false).await;
    let run = started.unwrap();
    // The run has seen that a person enters it, and is about to note that it waits for them.
    let held = store.hold_next_commit();
    let by = nurse();
    let meanwhile = async {
        held.arrived().await;
        let entered = bench.engine.attest_entry(&by, id, "Task list, third line");
        entered.await.unwrap();
        held.release();
    };
    let (advanced, ()) = futures::join!(bench.engine.advance_undo(run), meanwhile);
    assert_eq!(advanced.unwrap().moved, 0);
    assert_eq!(bench.state(id).await, StateName::Delivered);
    let agreement = examine(&*bench.store, &tenant()).await.unwrap();
    assert!(agreement.is_whole(), "{agreement:?}");
    settle(&bench, run).await;
    let needed = PersonNeeded::EnteredByHand;
    assert_eq!(
        step(&bench, run, id).await,
        UndoStep::Person { needed, task: None }
    );
}

pub(crate) async fn what_rests_on_an_undone_effect_comes_to_light(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    bench.ehr.put(json!({
        "resourceType": "Encounter", "id": "e1", "status": "in-progress",
        "class": { "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB" },
        "subject": { "reference": "Patient/p1" }, "period": { "start": "2030-01-01T11:00:00Z" },
    }));
    let scribe = bench
        .caller(&clinician(), "scribe-agent", "draft-note", "p1")
        .await;
    let visits = bench.call(&scribe, "list_encounters", json!({})).await;
    let answer = bench
        .call(&scribe, "draft_note", json!({
            "encounter_token": visits["resources"][0]["id"], "text": "Seen today.", "idempotency_key": "note",
        }))
        .await;
    let note: WritebackId = answer["proposal"].as_str().unwrap().parse().unwrap();
    approve(&bench, &clinician(), note, false).await.unwrap();
    bench.deliver().await;
    let at = place(&bench, note);
    let reader = bench
        .caller(&clinician(), "order-agent", "chart-summary", "p1")
        .await;
    let read = bench.call(&reader, "list_documents", json!({})).await;
    let document = read["resources"][0]["id"].clone();
    let agent = bench
        .caller(&nurse(), "refill-agent", "refill-request", "p1")
        .await;
    // One rests on the note, another of the same agent and patient does not.
    let rests = bench.task(&agent, "rests", json!([document])).await;
    let apart = bench.task(&agent, "apart", json!([])).await;
    let plan = bench
        .engine
        .undo_plan(&of_agent("scribe-agent"))
        .await
        .unwrap();
    let found: Vec<_> = plan.items.iter().map(|it| (it.writeback, it.on)).collect();
    assert_eq!(found, [(note, None), (rests.id, Some(note))]);

    let run = undo(&bench, of_agent("scribe-agent")).await;
    assert_eq!(bench.state(rests.id).await, StateName::Quarantined);
    assert_eq!(bench.state(apart.id).await, StateName::Ready);
    let by = proposed(&bench, run, note).await;
    approve(&bench, &clinician(), by, true).await.unwrap();
    // In the order of the patient's writes, behind those that were set aside and the one that was not.
    for _ in 0..4 {
        bench.deliver().await;
    }
    // One more, while the run waits for its end, joins it.
    let later = bench.task(&agent, "later", json!([document])).await;
    settle(&bench, run).await;
    assert_eq!(
        status_at_ehr(&bench, "DocumentReference", &at),
        "entered-in-error"
    );
    assert_eq!(step(&bench, run, later.id).await, UndoStep::SetAside);
    assert!(
        bench
            .engine
            .undo_status(run)
            .await
            .unwrap()
            .finished
            .is_some()
    );
}

pub(crate) async fn a_run_that_is_cut_short_goes_on_and_does_nothing_twice(db: Db) {
    // Each commit of a run fails once before it happens, and once after.
    for fails_after in [false, true] {
        let mut bench = bench_on(db, Strategy::Conditional).await;
        let store = bench.behind_a_faulty_store().await;
        let (id, at) = delivered_task(&bench, "1").await;
        let agent = bench
            .caller(&nurse(), "refill-agent", "refill-request", "p1")
            .await;
        let queued = bench.task(&agent, "2", json!([])).await.id;
        let run = start(&bench, &records(), of_agent("refill-agent"), false)
            .await
            .unwrap();
        for _ in 0..12 {
            if fails_after {
                store.lose_next_answer();
            } else {
                store.refuse_commits(true);
            }
            let _ = bench.engine.advance_undo(run).await;
            store.refuse_commits(false);
            // Another process goes on.
            let _ = bench.engine.advance_undo(run).await;
            if let UndoStep::Proposed { by } = step(&bench, run, id).await
                && bench.state(by).await == StateName::AwaitingApproval
            {
                let _ = approve(&bench, &clinician(), by, true).await;
            }
            // Often enough to find out what became of a send whose answer was lost.
            for _ in 0..6 {
                let _ = bench.engine.deliver_due("worker").await;
                bench.clock.advance_s(20);
            }
        }
        let status = bench.engine.undo_status(run).await.unwrap();
        assert!(status.finished.is_some(), "{status:?}");
        assert_eq!((status.counts.undone, status.counts.set_aside), (1, 1));
        assert_eq!(bench.state(queued).await, StateName::Quarantined);
        assert_eq!(status_at_ehr(&bench, "Task", &at), "entered-in-error");
        let effects = bench.ehr.written().len();
        assert_eq!(effects, 2, "the task, and what marks it as an error");
    }
}

pub(crate) async fn who_may_undo_and_what_it_takes(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (id, _) = delivered_task(&bench, "1").await;
    for role in Role::ALL {
        let started = start(&bench, &human(6, &[role]), of_one(id), false).await;
        let may = [Role::ItAdmin, Role::Him, Role::Privacy].contains(&role);
        assert_eq!(started.is_ok(), may, "{role}");
    }
    let by = records();
    let none = start(&bench, &by, UndoSelection::default(), false).await;
    assert!(matches!(none, Err(UndoFailed::NothingSelected)));
    let nobody = start(&bench, &by, of_one(id), true).await;
    assert!(matches!(nobody, Err(UndoFailed::NobodyToStop)));
    // A second factor for one selection does for no other.
    let request = |selection| UndoRequest {
        selection,
        reason: WHY.to_owned(),
        stop_agent: false,
    };
    let digest = bench.engine.undo_digest(&request(of_one(id))).unwrap();
    let step = factor(bench.store.as_ref(), bench.clock.as_ref(), &by, digest).await;
    let other = request(of_agent("refill-agent"));
    let refused = bench.engine.start_undo(&by, &other, step).await;
    assert!(matches!(refused, Err(UndoFailed::StepUp)));
    // Stopping an agent is for whoever may move its switch.
    let stopped = start(&bench, &by, of_agent("refill-agent"), true).await;
    assert!(matches!(stopped, Err(UndoFailed::NotStopped(_))));
    start(
        &bench,
        &human(5, &[Role::ItAdmin]),
        of_agent("refill-agent"),
        true,
    )
    .await
    .unwrap();
    let agent = bench
        .caller(&nurse(), "refill-agent", "refill-request", "p1")
        .await;
    let halted = bench.try_call(&agent, "list_medications", json!({})).await;
    assert!(halted.is_err());
}

pub(crate) async fn a_model_a_prompt_and_a_time_select_what_they_made(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (first, _) = delivered_task(&bench, "1").await;
    let between = bench.engine.now();
    bench.clock.advance_s(60);
    let (second, _) = delivered_task(&bench, "2").await;
    let agent = bench
        .engine
        .bundle()
        .agent(&AgentId::new("refill-agent").unwrap())
        .unwrap();
    let model = VersionName::new(agent.model.clone()).unwrap();
    let prompt = VersionName::new(agent.prompts[0].clone()).unwrap();
    let found = async |selection: UndoSelection| -> Vec<WritebackId> {
        let plan = bench.engine.undo_plan(&selection).await.unwrap();
        plan.items.iter().map(|it| it.writeback).collect()
    };
    let some = UndoSelection {
        model: Some(model),
        ..UndoSelection::default()
    };
    assert_eq!(found(some.clone()).await, [first, second]);
    let later = between
        .checked_add(jiff::SignedDuration::from_secs(1))
        .unwrap();
    assert_eq!(
        found(UndoSelection {
            from: Some(later),
            ..some.clone()
        })
        .await,
        [second]
    );
    assert_eq!(
        found(UndoSelection {
            to: Some(later),
            ..some.clone()
        })
        .await,
        [first]
    );
    let by_prompt = UndoSelection {
        prompt: Some(prompt),
        to: Some(later),
        ..some.clone()
    };
    assert_eq!(found(by_prompt).await, [first]);
    let other = VersionName::new("another-model").unwrap();
    assert!(
        found(UndoSelection {
            model: Some(other),
            ..some
        })
        .await
        .is_empty()
    );
}

pub(crate) async fn a_person_who_says_no_ends_it_and_is_asked_by_a_task(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (id, at) = delivered_task(&bench, "1").await;
    let run = undo(&bench, of_one(id)).await;
    let by = proposed(&bench, run, id).await;
    let digest = bench.row(by).await.digest.unwrap();
    bench
        .engine
        .reject(&clinician(), by, digest, "It was right after all.")
        .await
        .unwrap();
    settle(&bench, run).await;
    let UndoStep::Person {
        needed,
        task: Some(task),
    } = step(&bench, run, id).await
    else {
        panic!("nobody was asked");
    };
    assert_eq!(needed, PersonNeeded::Rejected);
    bench.deliver().await;
    assert_eq!(bench.state(task).await, StateName::Delivered);
    let asks = bench.ehr.resource("Task", &place(&bench, task)).unwrap();
    assert_eq!(asks["focus"]["reference"], format!("Task/{at}"));
    assert_eq!(status_at_ehr(&bench, "Task", &at), "requested");
    // A later run asks again: another person may see it otherwise.
    let again = undo(&bench, of_one(id)).await;
    assert_ne!(proposed(&bench, again, id).await, by);
}
