//! Updates that go as patches: what is approved is the merged body and the patch together, and what is sent is the patch.

use chaperone_core::digest::Digest;
use chaperone_core::evidence::{Strategy, WriteOrder};
use chaperone_core::gate::ProofLevel;
use chaperone_core::ids::WritebackId;
use chaperone_core::principal::{Human, Role};
use chaperone_core::writeback::{StateName, VoidReason};
use chaperone_engine::approve::ApproveRequest;
use chaperone_engine::open_envelope::Caller;
use chaperone_testkit::WriteFault;
use serde_json::{Value, json};

use crate::bench::*;
use crate::undo::{approve, delivered_task, of_one, proposed, undo};

fn desk() -> Human {
    human(4, &[Role::Scheduler])
}

fn appointment(id: &str, start: &str) -> Value {
    json!({
        "resourceType": "Appointment", "id": id, "status": "booked", "start": start,
        "text": { "status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\">Booked</div>" },
        "end": "2031-03-03T09:30:00Z",
        "comment": "Brings an interpreter.",
        "participant": [{ "actor": { "reference": "Patient/p1" }, "status": "accepted" }],
    })
}

/// A bench whose EHR takes updates as patches alone, and was shown to.
async fn patching(db: Db) -> Bench {
    let bench = bench_on(db, Strategy::Conditional).await;
    bench.ehr.take_patches(true);
    show(&bench.engine, &bench.ehr).await;
    bench
}

/// An agent of the desk, and the token of an appointment that it may cancel.
async fn agent_of(bench: &Bench) -> (Caller, Value) {
    bench.ehr.put(appointment("a1", "2031-03-03T09:00:00Z"));
    let agent = bench
        .caller(&desk(), "scheduler-agent", "schedule-appointment", "p1")
        .await;
    let list = bench.call(&agent, "list_appointments", json!({})).await;
    let token = list["resources"][0]["id"].clone();
    (agent, token)
}

async fn cancelling(bench: &Bench, of: &(Caller, Value), key: &str) -> ApproveRequest {
    let arguments = json!({ "idempotency_key": key, "appointment": of.1 });
    let answer = bench.call(&of.0, "cancel_appointment", arguments).await;
    let writeback: WritebackId = answer["proposal"].as_str().unwrap().parse().unwrap();
    ApproveRequest {
        writeback,
        digest: bench.row(writeback).await.digest.unwrap(),
        step_up: None,
        override_reason: "benefit-outweighs".parse().ok(),
        review_ms: 5_000,
    }
}

async fn cancelled(bench: &Bench, of: &(Caller, Value), key: &str) -> WritebackId {
    let request = cancelling(bench, of, key).await;
    let id = request.writeback;
    bench.engine.approve(&desk(), request).await.unwrap();
    id
}

async fn order_of(bench: &Bench, id: WritebackId) -> WriteOrder {
    serde_json::from_slice(&bench.engine.order_bytes(id).await.unwrap()).unwrap()
}

pub(crate) async fn an_update_goes_as_the_patch_that_was_approved_once(db: Db) {
    let bench = patching(db).await;
    let of = agent_of(&bench).await;
    let request = cancelling(&bench, &of, "1").await;
    let id = request.writeback;

    // The body is what is shown and ruled on; the patch beside it names what changes and nothing else.
    let order = order_of(&bench, id).await;
    let body: Value = serde_json::from_str(&order.body).unwrap();
    assert_eq!(body["comment"], "Brings an interpreter.");
    assert_eq!(order.if_match.as_deref(), Some("W/\"1\""));
    let patch = order.patch.clone().unwrap();
    assert!(patch.contains("cancelled") && !patch.contains("interpreter"));
    let review = bench.engine.review(&desk(), id).await.unwrap();
    let outcome = review.outcome.unwrap();
    assert!(outcome.patched);
    assert_eq!(outcome.proof, ProofLevel::P3);

    // Another patch is other content than was approved.
    let other = WriteOrder {
        patch: Some(patch.replace("cancelled", "noshow")),
        ..order
    };
    let wrong = ApproveRequest {
        digest: Digest::of_bytes(&serde_json::to_vec(&other).unwrap()),
        ..request.clone()
    };
    let refused = bench.engine.approve(&desk(), wrong).await;
    assert_eq!(refused.unwrap_err().code(), "approval-payload-mismatch");

    bench.engine.approve(&desk(), request).await.unwrap();
    for _ in 0..3 {
        bench.deliver().await;
        bench.clock.advance_s(60);
    }
    assert_eq!(bench.state(id).await, StateName::Delivered);
    assert_eq!(
        bench.ehr.written(),
        [(id, "Appointment/a1".to_owned())],
        "once"
    );
    let now = bench.ehr.resource("Appointment", "a1").unwrap();
    assert_eq!(now["status"], "cancelled");
    assert_eq!(now["comment"], "Brings an interpreter.");
    assert!(now.get("text").is_none(), "a narrative that no longer fits");
    assert_eq!(now["meta"]["versionId"], "2");
}

pub(crate) async fn a_patch_of_unknown_outcome_takes_effect_once(db: Db) {
    for fault in [WriteFault::LostBefore, WriteFault::LostAfter] {
        let bench = patching(db).await;
        let of = agent_of(&bench).await;
        bench.ehr.fail_next_write(fault);
        let id = cancelled(&bench, &of, "1").await;
        bench.deliver().await;
        assert_eq!(bench.state(id).await, StateName::Unknown, "{fault:?}");
        for _ in 0..6 {
            bench.clock.advance_s(60);
            bench.deliver().await;
        }
        assert_eq!(bench.state(id).await, StateName::Delivered, "{fault:?}");
        assert_eq!(bench.ehr.written().len(), 1, "{fault:?}");
    }
}

pub(crate) async fn a_patch_of_what_somebody_changed_is_not_sent(db: Db) {
    let bench = patching(db).await;
    let of = agent_of(&bench).await;
    let id = cancelled(&bench, &of, "1").await;
    bench.ehr.put(appointment("a1", "2031-03-03T09:10:00Z"));
    bench.deliver().await;
    let row = bench.row(id).await;
    assert_eq!(
        (row.state, row.void),
        (StateName::Void, Some(VoidReason::Stale))
    );
    assert!(bench.ehr.written().is_empty());
    let now = bench.ehr.resource("Appointment", "a1").unwrap();
    assert_eq!(now["status"], "booked");
}

pub(crate) async fn what_was_shown_of_one_way_shows_nothing_of_the_other(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let of = agent_of(&bench).await;
    // Claimed and not shown: a person enters it.
    bench.ehr.take_patches(true);
    let by_hand = cancelling(&bench, &of, "1").await.writeback;
    let order = order_of(&bench, by_hand).await;
    assert_eq!(
        (order.strategy, order.patch),
        (Strategy::HumanEntry, None),
        "nothing was shown of patches"
    );
    // Shown when it was made, and another way since: it waits until it is shown again.
    show(&bench.engine, &bench.ehr).await;
    let waits = cancelled(&bench, &of, "2").await;
    bench.ehr.take_patches(false);
    show(&bench.engine, &bench.ehr).await;
    for _ in 0..3 {
        bench.deliver().await;
        bench.clock.advance_s(60);
    }
    assert_eq!(bench.state(waits).await, StateName::Ready);
    assert_eq!(bench.ehr.arrived(), 0);
    bench.ehr.take_patches(true);
    show(&bench.engine, &bench.ehr).await;
    bench.clock.advance_s(60);
    bench.deliver().await;
    assert_eq!(bench.state(waits).await, StateName::Delivered);
    assert_eq!(bench.ehr.written().len(), 1);
}

pub(crate) async fn a_correction_goes_as_a_patch_too(db: Db) {
    let bench = patching(db).await;
    let (id, at) = delivered_task(&bench, "1").await;
    assert_eq!(order_of(&bench, id).await.patch, None, "a create is none");
    let run = undo(&bench, of_one(id)).await;
    let by = proposed(&bench, run, id).await;
    assert!(order_of(&bench, by).await.patch.is_some());
    let clinician = human(8, &[Role::Clinician]);
    approve(&bench, &clinician, by, true).await.unwrap();
    bench.deliver().await;
    assert_eq!(bench.state(by).await, StateName::Delivered);
    let task = bench.ehr.resource("Task", &at).unwrap();
    assert_eq!(task["status"], "entered-in-error");
    assert_eq!(task["description"], "Call back.");
}
