//! Several changes in one proposal: each is checked and ruled on as if it were alone, and none takes effect without the
//! others (requirement R024). Each beside its nearest neighbour.

use chaperone_core::event::Event;
use chaperone_core::evidence::{RulingRecord, Strategy};
use chaperone_core::gate::GateLevel;
use chaperone_core::ids::WritebackId;
use chaperone_core::mode::{Mode, ModeScope};
use chaperone_core::phi::ExposedFor;
use chaperone_core::ports::Notice;
use chaperone_core::principal::Role;
use chaperone_core::resource::ResourceType;
use chaperone_core::undo::UndoStep;
use chaperone_core::writeback::{
    DeliveryReceipt, FailureCause, StateName, VoidReason, WritebackEvent,
};
use chaperone_engine::open_envelope::Caller;
use chaperone_engine::portal::ProposalAsked;
use chaperone_testkit::WriteFault;
use serde_json::{Value, json};

use crate::bench::*;
use crate::deliveries::slot;
use crate::undo::{approve, of_one, proposed, records, status_at_ehr, step, undo};
use crate::verifications::{Held, trusting_bench};

const TOOL: &str = "propose_together";

fn task(summary: &str) -> Value {
    json!({ "tool": "create_task", "inputs": { "summary": summary, "pool": "nursing" } })
}

fn booking(tool: &str, slot: &Value) -> Value {
    json!({ "tool": tool, "inputs": { "slot": slot, "visit_type": "ROUTINE" } })
}

fn all(key: &str, changes: &[Value]) -> Value {
    json!({ "idempotency_key": key, "changes": changes, "rationale": "They belong together." })
}

async fn propose(
    bench: &Bench,
    agent: &Caller,
    key: &str,
    changes: &[Value],
) -> (WritebackId, Value) {
    let answer = bench.call(agent, TOOL, all(key, changes)).await;
    (
        answer["proposal"].as_str().unwrap().parse().unwrap(),
        answer,
    )
}

async fn ruling_of(bench: &Bench, id: WritebackId) -> RulingRecord {
    let ruled = bench
        .recorded()
        .await
        .into_iter()
        .find_map(|it| match it.event {
            Event::Writeback(WritebackEvent::Ruled { ruling, .. })
                if it.stream == chaperone_core::event::StreamId::Writeback(id) =>
            {
                Some(*ruling)
            }
            _ => None,
        });
    ruled.unwrap()
}

async fn receipt_of(bench: &Bench) -> DeliveryReceipt {
    let mut receipts = bench
        .recorded()
        .await
        .into_iter()
        .filter_map(|it| match it.event {
            Event::Writeback(WritebackEvent::Delivered(receipt)) => Some(receipt),
            _ => None,
        });
    receipts.next_back().unwrap()
}

pub(crate) async fn several_changes_take_effect_as_one(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (agent, tokens) = bench.scheduler(&[slot("s1", "free", Some("124"))]).await;
    let changes = [task("Call back."), booking("book_appointment", &tokens[0])];
    let (id, answer) = propose(&bench, &agent, "1", &changes).await;
    assert_eq!(answer["state"], "ready", "{answer}");
    assert_eq!(answer["changes"][0]["gate"], "auto");
    assert_eq!(answer["changes"][1]["tool"], "book_appointment");
    // The same key again is the same proposal.
    let again = propose(&bench, &agent, "1", &changes).await.0;
    assert_eq!(again, id);
    bench.deliver().await;
    assert_eq!(bench.state(id).await, StateName::Delivered);
    let written = bench.ehr.written();
    assert_eq!(written.len(), 2);
    assert!(written.iter().all(|(of, _)| *of == id));
    // Each is found again by a name of its own, which says whose it is.
    let named = |kind: &str, n: usize| {
        let resource = bench.ehr.resource(kind, &format!("new-{n}")).unwrap();
        resource["identifier"][0]["value"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(named("Task", 1), id.to_string());
    assert_eq!(named("Appointment", 2), format!("{id}.2"));
    let receipt = receipt_of(&bench).await;
    assert_eq!(receipt.also.len(), 1);
    assert!(receipt.also[0].read_back.is_some() && receipt.provenance_written);
    // Each was ruled on, and what was asked is what the ledger can be asked again.
    let ruling = ruling_of(&bench, id).await;
    assert_eq!(ruling.entries.len(), 2);
    let same = bench
        .engine
        .replay(id, bench.engine.bundle())
        .await
        .unwrap();
    assert!(same.is_same());
}

pub(crate) async fn one_refused_change_refuses_all_and_each_has_a_decision(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    // A visit that patients do not book by themselves.
    let slots = [
        slot("s1", "free", Some("124")),
        slot("s2", "free", Some("117")),
    ];
    // And one that took place, which nobody can cancel any more.
    bench.ehr.put(json!({
        "resourceType": "Appointment", "id": "a1", "status": "fulfilled",
        "start": "2031-04-03T09:00:00Z", "end": "2031-04-03T09:30:00Z",
        "participant": [{ "actor": { "reference": "Patient/p1" }, "status": "accepted" }],
    }));
    let (agent, tokens) = bench.scheduler(&slots).await;
    let changes = [task("Call back."), booking("book_appointment", &tokens[1])];
    let (id, answer) = propose(&bench, &agent, "1", &changes).await;
    assert_eq!(answer["state"], "refused", "{answer}");
    assert_eq!(answer["refusal"]["by"], "policy");
    let decisions = answer["changes"].as_array().unwrap();
    // Of the other, the agent is told nothing that could rest on the record.
    assert_eq!(decisions[0], json!({ "tool": "create_task", "gate": null }));
    assert_eq!(decisions[1]["gate"], "deny");
    assert_eq!(decisions[1]["code"], answer["refusal"]["code"]);
    let ruling = ruling_of(&bench, id).await;
    let levels: Vec<GateLevel> = ruling.entries.iter().map(|it| it.gate.level()).collect();
    assert_eq!(levels, [GateLevel::Auto, GateLevel::Deny]);
    assert_eq!(ruling.gate.level(), GateLevel::Deny);
    // One that is not valid refuses all before anything is ruled on.
    let listed = bench.call(&agent, "list_appointments", json!({})).await;
    let appointment = listed["resources"][0]["id"].clone();
    let cancel = json!({ "tool": "cancel_appointment", "inputs": { "appointment": appointment } });
    let (invalid, answer) = propose(&bench, &agent, "invalid", &[task("Call back."), cancel]).await;
    assert_eq!(answer["state"], "refused", "{answer}");
    assert_eq!(
        answer["refusal"],
        json!({ "by": "validation", "code": "invalid-proposal" })
    );
    assert_eq!(
        answer["changes"],
        json!([
            { "tool": "create_task", "gate": null },
            { "tool": "cancel_appointment", "gate": "deny", "code": "invalid-proposal" },
        ])
    );
    assert_eq!(bench.row(invalid).await.gate, None);
    // One that its own tool would not take makes no proposal.
    let dated = json!({ "tool": "create_task", "inputs": { "summary": "Call back.", "pool": "nursing",
        "due": "2001-01-01T00:00:00Z" } });
    let refused = bench
        .try_call(&agent, TOOL, all("2", &[task("Call back."), dated]))
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code, refused.field.as_deref()),
        ("undeclared-argument", Some("changes[1].due"))
    );
    bench.deliver().await;
    assert!(bench.ehr.written().is_empty());
    // The same without it.
    let changes = [task("Call back."), booking("book_appointment", &tokens[0])];
    let (id, _) = propose(&bench, &agent, "3", &changes).await;
    bench.deliver().await;
    assert_eq!(bench.state(id).await, StateName::Delivered);
}

pub(crate) async fn what_does_not_belong_together_is_not_proposed(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    bench.ehr.put(json!({
        "resourceType": "Appointment", "id": "a1", "status": "booked",
        "serviceType": [{ "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/service-type", "code": "124",
        }] }],
        "start": "2031-03-03T09:00:00Z", "end": "2031-03-03T09:30:00Z",
        "participant": [{ "actor": { "reference": "Patient/p1" }, "status": "accepted" }],
    }));
    let (agent, _) = bench.scheduler(&[]).await;
    let listed = bench.call(&agent, "list_appointments", json!({})).await;
    let appointment = listed["resources"][0]["id"].clone();
    let cancel = json!({ "tool": "cancel_appointment", "inputs": { "appointment": appointment } });
    let refused = async |changes: &[Value]| {
        let error = bench
            .try_call(&agent, TOOL, all("1", changes))
            .await
            .unwrap_err();
        (error.code, error.field.unwrap_or_default())
    };
    assert_eq!(
        refused(&[task("one")]).await,
        ("invalid-argument", "changes".to_owned())
    );
    let many: Vec<Value> = (0..11).map(|_| task("one")).collect();
    assert_eq!(refused(&many).await.0, "invalid-argument");
    // Another tool of the envelope that proposes nothing, one that another intent has, and itself.
    for tool in ["list_appointments", "record_vital", TOOL, "no_such_tool"] {
        let other = json!({ "tool": tool, "inputs": {} });
        let at = ("unknown-tool", "changes[1].tool".to_owned());
        assert_eq!(refused(&[task("one"), other]).await, at, "{tool}");
    }
    // What is said once for all is said once.
    let mut keyed = task("one");
    keyed["inputs"]["idempotency_key"] = json!("mine");
    let at = (
        "undeclared-argument",
        "changes[1].idempotency_key".to_owned(),
    );
    assert_eq!(refused(&[task("one"), keyed]).await, at);
    let mut further = task("one");
    further["confidence"] = json!(1.0);
    assert_eq!(refused(&[task("one"), further]).await.0, "invalid-argument");
    // Neither of two changes of one appointment would know what it changes.
    let twice = refused(&[cancel.clone(), cancel.clone()]).await;
    assert_eq!(twice, ("invalid-proposal", "changes".to_owned()));
    // What another envelope was given is nothing here.
    let others = bench
        .caller(
            &human(4, &[Role::Scheduler]),
            "scheduler-agent",
            "schedule-appointment",
            "p2",
        )
        .await;
    let foreign = bench
        .try_call(&others, TOOL, all("1", &[task("one"), cancel.clone()]))
        .await
        .unwrap_err();
    assert_eq!(
        (foreign.code, foreign.field.as_deref()),
        ("not-found", Some("changes[1].appointment"))
    );
    assert!(bench.ehr.written().is_empty());
    // And the nearest that does belong together.
    let (id, _) = propose(&bench, &agent, "2", &[task("one"), cancel]).await;
    assert_eq!(bench.state(id).await, StateName::AwaitingVerification);
}

#[tokio::test]
async fn an_ehr_that_takes_no_transactions_gets_no_several() {
    for strategy in [
        Strategy::PlainPost,
        Strategy::VendorOp,
        Strategy::HumanEntry,
    ] {
        let bench = bench(strategy).await;
        let (agent, _) = bench.scheduler(&[]).await;
        let changes = [task("one"), task("two")];
        let error = bench
            .try_call(&agent, TOOL, all("1", &changes))
            .await
            .unwrap_err();
        assert_eq!(error.code, "not-together", "{strategy:?}");
        assert!(bench.recorded().await.iter().any(|it| {
            matches!(&it.event, Event::CallRefused(refusal) if refusal.code == "not-together")
        }));
    }
}

pub(crate) async fn people_see_all_of_it_and_decide_on_all_of_it(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    // Nobody knows what kind of visit it is, so that a scheduler decides; the task by itself would need nobody.
    let (agent, tokens) = bench.scheduler(&[slot("s1", "free", Some("9999"))]).await;
    let changes = [
        task("Call back."),
        booking("confirm_appointment", &tokens[0]),
    ];
    let (id, answer) = propose(&bench, &agent, "1", &changes).await;
    assert_eq!(answer["state"], "awaiting_approval", "{answer}");
    let ruling = ruling_of(&bench, id).await;
    assert_eq!(ruling.entries[0].gate.level(), GateLevel::Auto);
    assert_eq!(ruling.gate, ruling.entries[1].gate);
    let desk = human(9, &[Role::Scheduler]);
    let review = bench.engine.review(&desk, id).await.unwrap();
    let content = review.content.unwrap();
    let content = content.expose(ExposedFor::Person);
    assert_eq!(content.changes.len(), 2);
    assert!(content.changes.iter().all(|change| !change.diff.is_empty()));
    let alone: Vec<GateLevel> = content
        .changes
        .iter()
        .map(|change| change.alone.as_ref().unwrap().gate.level())
        .collect();
    assert_eq!(alone, [GateLevel::Auto, GateLevel::Approve]);
    // It is neither decided from the list nor with others, and nobody changes a part of it.
    let inbox = bench
        .engine
        .inbox(&desk, &Default::default())
        .await
        .unwrap();
    let item = inbox.items.iter().find(|item| item.id == id).unwrap();
    assert!(!item.quick && !item.together);
    assert!(content.edit.is_empty());
    // Somebody who may decide on neither decides on nothing.
    let other = approve(&bench, &human(10, &[Role::Biller]), id, false).await;
    assert_eq!(other.unwrap_err().code(), "role-not-permitted");
    bench.deliver().await;
    assert!(bench.ehr.written().is_empty());
    approve(&bench, &desk, id, false).await.unwrap();
    bench.deliver().await;
    assert_eq!(bench.state(id).await, StateName::Delivered);
    assert_eq!(bench.ehr.written().len(), 2);
}

pub(crate) async fn what_holds_for_one_of_them_holds_for_all(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let slots = [
        slot("s1", "free", Some("124")),
        slot("s2", "free", Some("124")),
    ];
    let (agent, tokens) = bench.scheduler(&slots).await;
    let both = |n: usize| [task("Call back."), booking("book_appointment", &tokens[n])];
    // A switch on the type of the second holds the first back as well.
    let (switched, _) = propose(&bench, &agent, "1", &both(0)).await;
    let it = human(11, &[Role::ItAdmin]);
    let scope = ModeScope::Resource(ResourceType::new("Appointment").unwrap());
    let switch = async |mode| {
        let switched = bench
            .engine
            .switch_mode(&it, scope.clone(), mode, "a drill");
        switched.await.unwrap();
    };
    switch(Mode::WritePaused).await;
    bench.deliver().await;
    assert_eq!(bench.state(switched).await, StateName::Ready);
    assert!(bench.ehr.written().is_empty());
    switch(Mode::Normal).await;
    bench.clock.advance_s(60);
    bench.deliver().await;
    assert_eq!(bench.state(switched).await, StateName::Delivered);
    // What the second rests on is looked at again right before the send.
    let (taken, _) = propose(&bench, &agent, "2", &both(1)).await;
    bench.ehr.put(slot("s2", "busy", Some("124")));
    bench.deliver().await;
    assert_eq!(bench.row(taken).await.void, Some(VoidReason::Stale));
    assert_eq!(bench.ehr.written().len(), 2);
}

pub(crate) async fn all_or_nothing_of_it_is_there_whatever_the_network_does(db: Db) {
    let all_of_it = (StateName::Delivered, 2);
    let faults = [
        (WriteFault::Refuse(FailureCause::Unreachable), all_of_it),
        (WriteFault::LostBefore, all_of_it),
        (WriteFault::LostAfter, all_of_it),
        (WriteFault::Twice, all_of_it),
        // An EHR that refuses the content is not asked again.
        (
            WriteFault::Refuse(FailureCause::Rejected),
            (StateName::DeadLetter, 0),
        ),
    ];
    for (fault, (state, effects)) in faults {
        let bench = bench_on(db, Strategy::Conditional).await;
        let (agent, _) = bench.scheduler(&[]).await;
        let (id, _) = propose(&bench, &agent, "1", &[task("one"), task("two")]).await;
        bench.ehr.fail_next_write(fault);
        for _ in 0..6 {
            bench.deliver().await;
            bench.clock.advance_s(60);
        }
        assert_eq!(bench.state(id).await, state, "{fault:?}");
        assert_eq!(bench.ehr.written().len(), effects, "{fault:?}");
    }
}

pub(crate) async fn what_is_there_in_part_is_a_persons_to_look_at(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (agent, _) = bench.scheduler(&[]).await;
    let both = [task("one"), task("two")];
    // The neighbour, of which nothing is there, is over.
    let (nothing, _) = propose(&bench, &agent, "1", &both).await;
    bench.ehr.fail_next_write(WriteFault::Stale);
    bench.deliver().await;
    assert_eq!(bench.state(nothing).await, StateName::Void);
    let (half, _) = propose(&bench, &agent, "2", &both).await;
    bench.ehr.fail_next_write(WriteFault::StaleInPart);
    for _ in 0..6 {
        bench.deliver().await;
        bench.clock.advance_s(60);
    }
    assert_eq!(bench.state(half).await, StateName::Unknown);
    assert!(bench.ehr.written().is_empty());
    let told = bench.notices().await;
    let asked = told.iter().filter_map(|it| match it {
        Notice::OperatorNeeded { writeback, code } => Some((*writeback, code.as_str())),
        _ => None,
    });
    let asked: Vec<_> = asked.collect();
    assert_eq!(asked, [(nothing, "void"), (half, "unknown-outcome")]);
}

pub(crate) async fn an_update_that_is_stale_takes_the_rest_with_it(db: Db) {
    let bench = trusting_bench(db).await;
    let booked = json!({
        "resourceType": "Appointment", "id": "a1", "status": "booked",
        "serviceType": [{ "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/service-type", "code": "124",
        }] }],
        "start": "2031-03-03T09:00:00Z", "end": "2031-03-03T09:30:00Z",
        "participant": [{ "actor": { "reference": "Patient/p1" }, "status": "accepted" }],
    });
    bench.ehr.put(booked.clone());
    let (agent, _) = bench.scheduler(&[]).await;
    let listed = bench.call(&agent, "list_appointments", json!({})).await;
    let appointment = listed["resources"][0]["id"].clone();
    let cancel = json!({ "tool": "cancel_appointment", "inputs": { "appointment": appointment } });
    let (id, _) = propose(&bench, &agent, "1", &[task("Call back."), cancel]).await;
    assert_eq!(bench.state(id).await, StateName::AwaitingVerification);
    let ruling = ruling_of(&bench, id).await;
    assert_eq!(ruling.gate, ruling.entries[1].gate);
    // Whoever confirms it is shown both, and confirms both.
    let held = Held {
        bench,
        ids: vec![id],
    };
    let asked = ProposalAsked {
        writeback: id,
        patient: "Patient/p1".to_owned(),
        proxy: None,
    };
    let portal = held.portal().await;
    let shown = held.bench.engine.proposal_for_patient(&portal, asked).await;
    assert_eq!(shown.unwrap().changes.len(), 2);
    let attestation = held.attestation(0).await;
    held.take(attestation).await.unwrap();
    let bench = held.bench;
    assert_eq!(bench.state(id).await, StateName::Ready);
    bench.ehr.put(booked);
    bench.deliver().await;
    assert_eq!(bench.row(id).await.void, Some(VoidReason::Stale));
    assert!(bench.ehr.written().is_empty());
}

pub(crate) async fn what_was_made_as_one_is_undone_as_one(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (agent, _) = bench.scheduler(&[]).await;
    let (id, _) = propose(&bench, &agent, "1", &[task("one"), task("two")]).await;
    bench.deliver().await;
    let run = undo(&bench, of_one(id)).await;
    let by = proposed(&bench, run, id).await;
    let ruling = ruling_of(&bench, by).await;
    assert_eq!(ruling.entries.len(), 2);
    for approver in [
        human(8, &[Role::Clinician]),
        records(),
        human(12, &[Role::Him]),
    ] {
        if approve(&bench, &approver, by, true).await.is_ok()
            && bench.state(by).await == StateName::Ready
        {
            break;
        }
    }
    bench.deliver().await;
    crate::undo::settle(&bench, run).await;
    assert!(matches!(
        step(&bench, run, id).await,
        UndoStep::Undone { .. }
    ));
    for n in [1, 2] {
        let task = bench.ehr.resource("Task", &format!("new-{n}")).unwrap();
        assert_eq!(task["status"], "entered-in-error", "{n}");
    }
    // Where somebody changed one of them since, neither is touched by a machine.
    let (id, _) = propose(&bench, &agent, "2", &[task("three"), task("four")]).await;
    bench.deliver().await;
    assert_eq!(bench.state(id).await, StateName::Delivered);
    let written = bench.ehr.written();
    let id_at = |at: usize| written[at].1.split_once('/').unwrap().1.to_owned();
    // Two that were made, both undone, and these two.
    assert_eq!(written.len(), 6);
    let (sibling, last) = (id_at(4), id_at(5));
    let mut changed = bench.ehr.resource("Task", &last).unwrap();
    changed["status"] = json!("entered-in-error");
    bench.ehr.put(changed);
    let run = undo(&bench, of_one(id)).await;
    let by = proposed(&bench, run, id).await;
    // That one is done; the other is put right by itself, once people agree.
    assert!(ruling_of(&bench, by).await.entries.is_empty());
    assert_eq!(bench.state(by).await, StateName::AwaitingApproval);
    bench.deliver().await;
    assert_eq!(bench.ehr.written(), written);
    assert_eq!(status_at_ehr(&bench, "Task", &sibling), "requested");
}

pub(crate) async fn each_is_judged_as_if_the_others_were_on_record(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let mut later = slot("s3", "free", Some("124"));
    later["start"] = json!("2031-03-04T09:00:00Z");
    later["end"] = json!("2031-03-04T09:30:00Z");
    let slots = [
        slot("s1", "free", Some("124")),
        slot("s2", "free", Some("124")),
        later,
    ];
    let (agent, tokens) = bench.scheduler(&slots).await;
    let two = |n: usize, m: usize| [n, m].map(|at| booking("confirm_appointment", &tokens[at]));
    // Two bookings of one hour are each harmless alone, and neither is beside the other.
    let (_, clash) = propose(&bench, &agent, "1", &two(0, 1)).await;
    let (_, apart) = propose(&bench, &agent, "2", &two(0, 2)).await;
    assert_eq!(apart["gate"], "auto_verified", "{apart}");
    assert_eq!(clash["gate"], "deny", "{clash}");
    assert_eq!(clash["refusal"]["code"], "implausible", "{clash}");
    for at in [0_usize, 1] {
        assert_eq!(clash["changes"][at]["gate"], "deny", "{clash}");
    }
}

#[tokio::test]
async fn what_the_ehr_shows_a_part_of_is_not_updated() {
    let bench = bench(Strategy::Conditional).await;
    let mut booked = json!({
        "resourceType": "Appointment", "id": "a1", "status": "booked",
        "start": "2031-03-03T09:00:00Z", "end": "2031-03-03T09:30:00Z",
        "participant": [{ "actor": { "reference": "Patient/p1" }, "status": "accepted" }],
    });
    bench.ehr.put(booked.clone());
    let (agent, _) = bench.scheduler(&[]).await;
    let listed = bench.call(&agent, "list_appointments", json!({})).await;
    let appointment = listed["resources"][0]["id"].clone();
    let cancel = |key: &str| json!({ "idempotency_key": key, "appointment": appointment });
    bench
        .call(&agent, "cancel_appointment", cancel("whole"))
        .await;
    booked["meta"] = json!({ "tag": [{
        "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED",
    }] });
    bench.ehr.put(booked);
    let part = bench
        .try_call(&agent, "cancel_appointment", cancel("part"))
        .await;
    assert_eq!(part.unwrap_err().code, "ehr-answer-unusable");
}
