//! Ways around an approval that somebody who controls an agent, an account, a node or a message might try. Each is
//! blocked, nothing reaches the EHR by it, and the attempt is in the ledger; beside it stands the right way.

use std::sync::Arc;

use chaperone_core::digest::Digest;
use chaperone_core::event::{DecisionKind, Event, StreamId};
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::{OverrideReason, TenantId, WorkId, WritebackId};
use chaperone_core::mode::{Mode, ModeScope};
use chaperone_core::ports::{Clock, Commit, Store, WorkChange, WorkItem, WorkKind};
use chaperone_core::principal::{Actor, Human, Role, SystemPart};
use chaperone_core::writeback::{StateName, VoidReason, WritebackEvent};
use chaperone_engine::approve::ApproveRequest;
use chaperone_engine::open_envelope::Caller;
use chaperone_engine::{Engine, EngineConfig, Ports};
use chaperone_testkit::{FaultyStore, MemoryKeyVault};
use serde_json::{Value, json};

use crate::bench::*;

fn clinician() -> Human {
    human(2, &[Role::Clinician])
}

fn approver() -> Human {
    human(3, &[Role::MaRn])
}

/// An agent whose tasks wait for a person, because a document from outside stands behind them.
async fn agent_of(bench: &Bench, patient: &str) -> (Caller, Value) {
    bench.ehr.put(json!({
        "resourceType": "DocumentReference", "id": format!("d-{patient}"), "status": "current",
        "subject": { "reference": format!("Patient/{patient}") },
    }));
    let reader = bench
        .caller(&clinician(), "order-agent", "chart-summary", patient)
        .await;
    let read = bench.call(&reader, "list_documents", json!({})).await;
    let agent = bench
        .caller(&clinician(), "refill-agent", "refill-request", patient)
        .await;
    (agent, json!([read["resources"][0]["id"]]))
}

async fn waiting(bench: &Bench, of: &(Caller, Value), key: &str) -> ApproveRequest {
    let row = bench.task(&of.0, key, of.1.clone()).await;
    assert_eq!(row.state, StateName::AwaitingApproval);
    ApproveRequest {
        writeback: row.id,
        digest: row.digest.unwrap(),
        step_up: None,
        override_reason: None,
        review_ms: 5_000,
    }
}

/// Codes of refused decisions about a write-back, oldest first.
async fn refused(bench: &Bench, by: &Human, about: WritebackId) -> Vec<String> {
    let stream = StreamId::Account(by.account.clone());
    let events = bench.store.stream(&tenant(), &stream).await.unwrap();
    let codes = events.into_iter().filter_map(|it| match it.event {
        Event::DecisionRefused {
            writeback,
            decision: DecisionKind::Approve,
            code,
        } if writeback == about => Some(code),
        _ => None,
    });
    codes.collect()
}

/// One of the bundle's reasons for approving over a warning.
fn reason() -> Option<OverrideReason> {
    "benefit-outweighs".parse().ok()
}

fn one_byte_changed(digest: Digest) -> Digest {
    let mut bytes = *digest.as_bytes();
    bytes[31] ^= 1;
    Digest::from_bytes(bytes)
}

pub(crate) async fn an_approval_of_something_else_approves_nothing(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (one, other) = (agent_of(&bench, "p1").await, agent_of(&bench, "p2").await);
    let request = waiting(&bench, &one, "1").await;
    let of_other_patient = waiting(&bench, &other, "2").await;
    let of_other_content = waiting(&bench, &one, "3").await;
    let id = request.writeback;
    for digest in [
        one_byte_changed(request.digest),
        of_other_patient.digest,
        of_other_content.digest,
    ] {
        let wrong = ApproveRequest {
            digest,
            ..request.clone()
        };
        let done = bench.engine.approve(&approver(), wrong).await;
        assert_eq!(done.unwrap_err().code(), "approval-payload-mismatch");
    }
    // Somebody whose role the gate does not name, with everything else right.
    let systems = human(6, &[Role::ItAdmin]);
    let done = bench.engine.approve(&systems, request.clone()).await;
    assert_eq!(done.unwrap_err().code(), "role-not-permitted");
    assert_eq!(
        refused(&bench, &approver(), id).await,
        ["approval-payload-mismatch"; 3]
    );
    assert_eq!(refused(&bench, &systems, id).await, ["role-not-permitted"]);
    assert_eq!(bench.state(id).await, StateName::AwaitingApproval);
    bench.deliver().await;
    assert!(bench.ehr.written().is_empty());

    // The right one is spent once: not again before it is sent, and not after.
    bench
        .engine
        .approve(&approver(), request.clone())
        .await
        .unwrap();
    for state in [StateName::Ready, StateName::Delivered] {
        assert_eq!(bench.state(id).await, state);
        let again = bench.engine.approve(&approver(), request.clone()).await;
        assert_eq!(again.unwrap_err().code(), "not-now");
        bench.deliver().await;
    }
    assert_eq!(refused(&bench, &approver(), id).await[3..], ["not-now"; 2]);
    let written = bench.ehr.written();
    assert_eq!(written.len(), 1, "nothing else rode on it");
    assert_eq!(written[0].0, id);
}

pub(crate) async fn an_approval_in_another_tenant_finds_nothing(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let one = agent_of(&bench, "p1").await;
    let request = waiting(&bench, &one, "1").await;
    let elsewhere = TenantId::new("other-clinic").unwrap();
    let config = EngineConfig::new(elsewhere.clone(), "http://127.0.0.1:8080");
    let ports = ports(bench.store.clone(), bench.ehr.clone(), bench.clock.clone());
    let other = Engine::start(config, BUNDLE.clone(), ports).await.unwrap();
    let done = other.approve(&approver(), request.clone()).await;
    assert_eq!(done.unwrap_err().code(), "not-found");
    let stream = StreamId::Account(approver().account);
    let there = bench.store.stream(&elsewhere, &stream).await.unwrap();
    assert_eq!(there.len(), 1, "recorded where it was tried");
    assert_eq!(
        bench.state(request.writeback).await,
        StateName::AwaitingApproval
    );
    other.deliver_due("other").await.unwrap();
    assert!(bench.ehr.written().is_empty());
    bench.engine.approve(&approver(), request).await.unwrap();
}

pub(crate) async fn what_changed_after_the_approval_is_not_sent(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let appointment = |start: &str| {
        json!({
            "resourceType": "Appointment", "id": "a1", "status": "booked", "start": start,
            "end": "2031-03-03T09:30:00Z",
            "participant": [{ "actor": { "reference": "Patient/p1" }, "status": "accepted" }],
        })
    };
    bench.ehr.put(appointment("2031-03-03T09:00:00Z"));
    let desk = human(4, &[Role::Scheduler]);
    let agent = bench
        .caller(&desk, "scheduler-agent", "schedule-appointment", "p1")
        .await;
    let list = bench.call(&agent, "list_appointments", json!({})).await;
    let token = list["resources"][0]["id"].clone();
    let cancel = async |key: &str| {
        let arguments = json!({ "idempotency_key": key, "appointment": token });
        let answer = bench.call(&agent, "cancel_appointment", arguments).await;
        let id: WritebackId = answer["proposal"].as_str().unwrap().parse().unwrap();
        let row = bench.row(id).await;
        let request = ApproveRequest {
            writeback: id,
            digest: row.digest.unwrap(),
            step_up: None,
            override_reason: reason(),
            review_ms: 5_000,
        };
        bench.engine.approve(&desk, request).await.unwrap();
        id
    };
    // Somebody moved it meanwhile: what was approved rests on a version that is gone.
    let id = cancel("1").await;
    bench.ehr.put(appointment("2031-03-03T09:10:00Z"));
    bench.deliver().await;
    let row = bench.row(id).await;
    assert_eq!(
        (row.state, row.void),
        (StateName::Void, Some(VoidReason::Stale))
    );
    assert!(bench.ehr.written().is_empty());
    // The neighbour, with nobody in between.
    let id = cancel("2").await;
    bench.deliver().await;
    assert_eq!(bench.state(id).await, StateName::Delivered);
    assert_eq!(bench.ehr.written().len(), 1);
}

pub(crate) async fn an_approval_under_rules_that_are_gone_is_not_sent(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let one = agent_of(&bench, "p1").await;
    let request = waiting(&bench, &one, "1").await;
    let id = request.writeback;
    bench.engine.approve(&approver(), request).await.unwrap();
    let mut files = chaperone_policy::embedded::files();
    let text = files.get_mut("bundle.toml").unwrap();
    *text = text.replace("version = \"1.0.0\"", "version = \"1.0.1\"");
    let next = start(
        &bundle(&files),
        bench.store.clone(),
        bench.ehr.clone(),
        bench.clock.clone(),
    )
    .await;
    next.deliver_due("worker").await.unwrap();
    let row = next.writeback(id).await.unwrap().unwrap();
    assert_eq!(
        (row.state, row.void),
        (StateName::Void, Some(VoidReason::AuthorityChanged))
    );
    assert!(bench.ehr.written().is_empty());
}

pub(crate) async fn two_accounts_of_one_person_are_one_person(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    bench.ehr.put(json!({
        "resourceType": "MedicationRequest", "id": "rx", "status": "active", "intent": "order",
        "subject": { "reference": "Patient/p1" }, "authoredOn": "2029-12-01",
        "medicationCodeableConcept": { "coding": [{
            "system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "314076",
            "display": "lisinopril 10 MG Oral Tablet",
        }] },
        "dosageInstruction": [{
            "timing": { "repeat": { "frequency": 1, "period": 1, "periodUnit": "d" } },
            "doseAndRate": [{ "doseQuantity": {
                "value": 10, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg",
            } }],
        }],
    }));
    bench.ehr.put(json!({
        "resourceType": "AllergyIntolerance", "id": "allergy", "category": ["medication"],
        "patient": { "reference": "Patient/p1" }, "code": { "text": "lisinopril" },
    }));
    let agent = bench
        .caller(&clinician(), "order-agent", "submit-order", "p1")
        .await;
    let list = bench.call(&agent, "list_medications", json!({})).await;
    let arguments = json!({
        "idempotency_key": "1", "prior": list["resources"][0]["id"], "dose": 20, "unit": "mg",
        "frequency": 1,
    });
    let answer = bench.call(&agent, "order_medication", arguments).await;
    let id: WritebackId = answer["proposal"].as_str().unwrap().parse().unwrap();
    let request = ApproveRequest {
        writeback: id,
        digest: bench.row(id).await.digest.unwrap(),
        step_up: None,
        override_reason: reason(),
        review_ms: 5_000,
    };
    let pharmacist = human(8, &[Role::Pharmacist]);
    // The one the agent acts for, who asked for it, is neither of the two, under whatever role.
    let asked = Human {
        roles: vec![Role::Pharmacist, Role::Clinician],
        ..clinician()
    };
    let done = bench.engine.approve(&asked, request.clone()).await;
    assert_eq!(done.unwrap_err().code(), "same-person");
    bench
        .engine
        .approve(&pharmacist, request.clone())
        .await
        .unwrap();
    let second_account = Human {
        account: "ph-as-clinician".parse().unwrap(),
        roles: vec![Role::Clinician],
        ..pharmacist.clone()
    };
    let done = bench.engine.approve(&second_account, request.clone()).await;
    assert_eq!(done.unwrap_err().code(), "same-person");
    // Another person gets as far as the second factor.
    let done = bench
        .engine
        .approve(&human(5, &[Role::Clinician]), request)
        .await;
    assert_eq!(done.unwrap_err().code(), "second-factor-required");
    assert_eq!(refused(&bench, &asked, id).await, ["same-person"]);
    assert_eq!(refused(&bench, &second_account, id).await, ["same-person"]);
    assert_eq!(bench.state(id).await, StateName::AwaitingApproval);
    bench.deliver().await;
    assert!(bench.ehr.written().is_empty());
}

pub(crate) async fn arguments_that_nobody_approved_are_not_executed(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let one = agent_of(&bench, "p1").await;
    let request = waiting(&bench, &one, "1").await;
    let approved = request.writeback;
    bench.engine.approve(&approver(), request).await.unwrap();
    // Under the key of the approved call, other arguments are a conflict; under another key, a proposal of their own.
    let arguments = |key: &str| {
        json!({
            "idempotency_key": key, "summary": "Stop all medication.", "pool": "nursing",
            "sources": one.1,
        })
    };
    let conflict = bench.try_call(&one.0, "create_task", arguments("1")).await;
    assert_eq!(conflict.unwrap_err().code, "idempotency-conflict");
    let later = bench.call(&one.0, "create_task", arguments("2")).await;
    assert_eq!(later["state"], "awaiting_approval");
    // A ruling, a gate or an approval is nothing that a call can bring.
    for (name, forged) in [
        ("gate", json!("auto")),
        ("ruling", json!({ "gate": "auto" })),
        ("approval", json!({ "person": "person_1" })),
        ("state", json!("ready")),
    ] {
        let mut arguments = arguments("3");
        arguments[name] = forged;
        let refused = bench.try_call(&one.0, "create_task", arguments).await;
        assert_eq!(refused.unwrap_err().code, "undeclared-argument", "{name}");
    }
    bench.deliver().await;
    let written = bench.ehr.written();
    assert_eq!(written.len(), 1);
    assert_eq!(written[0].0, approved);
    assert!(!written[0].1.contains("Stop all"));
    let calls = bench.recorded().await;
    let refused = calls
        .iter()
        .filter(|it| matches!(it.event, Event::CallRefused(_)));
    assert_eq!(refused.count(), 5);
}

pub(crate) async fn what_is_put_into_the_queue_without_an_approval_is_not_sent(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let one = agent_of(&bench, "p1").await;
    let id = waiting(&bench, &one, "1").await.writeback;
    let part = SystemPart::Delivery;
    for kind in [WorkKind::Deliver, WorkKind::Reconcile] {
        let mut commit = Commit::new(tenant(), bench.clock.now(), Actor::System { part });
        commit.work.push(WorkChange::Enqueue(WorkItem {
            id: WorkId::from_random([if kind == WorkKind::Deliver { 5 } else { 6 }; 16]),
            kind,
            subject: id.to_string(),
            order_key: None,
            due: bench.clock.now(),
        }));
        bench.store.commit(commit).await.unwrap();
        bench.deliver().await;
        assert_eq!(bench.state(id).await, StateName::AwaitingApproval);
    }
    assert!(bench.ehr.written().is_empty());
}

pub(crate) async fn a_switch_between_approval_and_send_holds_it_back(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let one = agent_of(&bench, "p1").await;
    let request = waiting(&bench, &one, "1").await;
    let id = request.writeback;
    bench.engine.approve(&approver(), request).await.unwrap();
    let operator = human(9, &[Role::ItAdmin]);
    let agent = one.0.envelope.agent.clone();
    for scope in [ModeScope::Tenant, ModeScope::Agent(agent)] {
        for mode in [Mode::WritePaused, Mode::ReadOnly, Mode::Halted] {
            let switch = async |mode| {
                let switched = bench
                    .engine
                    .switch_mode(&operator, scope.clone(), mode, "a drill");
                switched.await.unwrap();
            };
            switch(mode).await;
            bench.clock.advance_s(60);
            bench.deliver().await;
            assert_eq!(
                bench.state(id).await,
                StateName::Ready,
                "{scope:?} {mode:?}"
            );
            assert!(bench.ehr.written().is_empty());
            switch(Mode::Normal).await;
        }
    }
    bench.clock.advance_s(60);
    bench.deliver().await;
    assert_eq!(bench.state(id).await, StateName::Delivered);
}

pub(crate) async fn while_a_switch_stands_proposals_are_taken_and_wait(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let one = agent_of(&bench, "p1").await;
    let alone = bench.caller(&nurse(), "intake-agent", "intake", "p2").await;
    let operator = human(9, &[Role::ItAdmin]);
    let switch = async |mode| {
        let switched = bench
            .engine
            .switch_mode(&operator, ModeScope::Tenant, mode, "a drill");
        switched.await.unwrap();
        bench.clock.advance_s(5);
    };
    let approve = async |request: &ApproveRequest| {
        let done = bench.engine.approve(&approver(), request.clone()).await;
        done.map_or_else(|failed| failed.code(), |_| "approved")
    };
    let mut taken = Vec::new();
    let mut held_back = None;
    for (mode, key, answer) in [
        (Mode::WritePaused, "paused", "approved"),
        (Mode::ReadOnly, "read-only", "read-only"),
    ] {
        switch(mode).await;
        bench.call(&one.0, "list_medications", json!({})).await;
        let ready = bench.task(&alone, key, json!([])).await;
        assert_eq!(ready.state, StateName::Ready, "{mode:?}");
        let request = waiting(&bench, &one, key).await;
        assert_eq!(approve(&request).await, answer, "{mode:?}");
        bench.clock.advance_s(60);
        bench.deliver().await;
        assert!(bench.ehr.written().is_empty(), "{mode:?}");
        taken.extend([ready.id, request.writeback]);
        held_back = Some(request);
    }
    let held_back = held_back.unwrap();
    let id = held_back.writeback;
    assert_eq!(bench.state(id).await, StateName::AwaitingApproval);
    // A no is taken.
    let unwanted = waiting(&bench, &one, "unwanted").await;
    let by = approver();
    let said_no = bench
        .engine
        .reject(&by, unwanted.writeback, unwanted.digest, "not needed");
    assert_eq!(said_no.await.unwrap().state, StateName::Refused);
    switch(Mode::Halted).await;
    let called = bench.try_call(&one.0, "list_medications", json!({})).await;
    assert_eq!(called.unwrap_err().code, "halted");
    assert_eq!(approve(&held_back).await, "read-only");
    assert_eq!(
        refused(&bench, &approver(), id).await,
        ["read-only", "read-only"]
    );
    switch(Mode::Normal).await;
    assert_eq!(approve(&held_back).await, "approved");
    for id in taken {
        bench.deliver().await;
        bench.clock.advance_s(60);
        bench.deliver().await;
        assert_eq!(bench.state(id).await, StateName::Delivered);
    }
    assert_eq!(bench.ehr.written().len(), 4);
}

pub(crate) async fn a_switch_that_is_moved_while_somebody_approves_counts(db: Db) {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let store = bench.behind_a_faulty_store().await;
    let one = agent_of(&bench, "p1").await;
    let request = waiting(&bench, &one, "1").await;
    let id = request.writeback;
    let held = store.hold_next_commit();
    let meanwhile = async {
        held.arrived().await;
        let operator = human(9, &[Role::ItAdmin]);
        let switched =
            bench
                .engine
                .switch_mode(&operator, ModeScope::Tenant, Mode::ReadOnly, "a drill");
        switched.await.unwrap();
        held.release();
    };
    let by = approver();
    let approving = bench.engine.approve(&by, request);
    let (approved, ()) = futures::join!(approving, meanwhile);
    assert_eq!(approved.unwrap_err().code(), "conflict");
    assert_eq!(bench.state(id).await, StateName::AwaitingApproval);
}

pub(crate) async fn a_node_whose_epoch_is_over_sends_nothing(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let keys = Arc::new(MemoryKeyVault::new(2));
    let node = async |name: &str, store: Arc<dyn Store>| {
        let ports = Ports {
            keys: keys.clone(),
            ..ports(store, bench.ehr.clone(), bench.clock.clone())
        };
        let mut config = EngineConfig::new(tenant(), "http://127.0.0.1:8080");
        config.node = name.to_owned();
        Engine::start(config, BUNDLE.clone(), ports).await.unwrap()
    };
    let faulty = Arc::new(FaultyStore::new(bench.store.clone()));
    let (stale, current) = (
        node("stale", faulty.clone()).await,
        node("current", bench.store.clone()).await,
    );
    let (store, ehr, clock, dir) = (
        bench.store.clone(),
        bench.ehr.clone(),
        bench.clock.clone(),
        bench.dir,
    );
    let bench = Bench {
        engine: stale.clone(),
        store,
        ehr,
        clock,
        notifier: bench.notifier,
        dir,
    };
    let caller = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
    let id = bench.task(&caller, "1", json!([])).await.id;
    assert_eq!(bench.state(id).await, StateName::Ready);
    // It has claimed the work, and stands still before the start of the attempt is durable.
    let held = faulty.hold_next_commit();
    let overtaken = async {
        held.arrived().await;
        bench.clock.advance_s(3_600);
        current.deliver_due("current").await.unwrap();
        let row = current.writeback(id).await.unwrap().unwrap();
        assert_eq!(row.state, StateName::Delivered);
        held.release();
    };
    let (woken, ()) = futures::join!(stale.deliver_due("stale"), overtaken);
    woken.unwrap();
    assert_eq!(bench.ehr.written().len(), 1);
    let started = bench.recorded().await.into_iter().filter(|it| {
        matches!(
            it.event,
            Event::Writeback(WritebackEvent::DeliveryStarted(_))
        )
    });
    assert_eq!(started.count(), 1);
}
