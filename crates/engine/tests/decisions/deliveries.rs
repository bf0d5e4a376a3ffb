//! Deliveries: who holds up whom, what is looked at again, what ends without being sent.

use chaperone_core::evidence::Strategy;
use chaperone_core::ids::{OverrideReason, TenantId, WorkId, WritebackId};
use chaperone_core::ports::{Clock, Commit, Listing, Notice, WorkChange, WorkItem, WorkKind};
use chaperone_core::principal::{Actor, Role, SystemPart};
use chaperone_core::writeback::{FailureCause, HumanNeeded, StateName, VoidReason};
use chaperone_engine::approve::{ApproveRequest, DecideFailed};
use chaperone_engine::deliver::UnderWay;
use chaperone_engine::open_envelope::Caller;
use chaperone_engine::projection::{Agreement, examine};
use chaperone_engine::views::inbox::InboxFilter;
use chaperone_testkit::WriteFault;
use serde_json::{Value, json};

use crate::bench::*;
use crate::undo::approve;
use crate::undo_kinds::{proposed_reason, visiting};

/// Polls what is under way until no more of it ends by itself.
async fn settle(bench: &Bench, under_way: &mut UnderWay<'_>, hanging: usize) {
    tokio::select! {
        () = under_way.finish() => {}
        () = async { while bench.ehr.hanging() < hanging { tokio::task::yield_now().await; } } => {}
    }
}

pub(crate) async fn a_delivery_goes_on_while_the_store_is_asked_for_more(db: Db) {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let store = bench.behind_a_faulty_store().await;
    let caller = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
    bench.task(&caller, "1", json!([])).await;
    let mut under_way = UnderWay::default();
    let started = bench.engine.start_due("worker", &mut under_way).await;
    assert_eq!(started.unwrap(), 1);
    let held = store.hold_next_claim();
    // The claim is answered only when what is under way has written.
    let written = async {
        held.arrived().await;
        while bench.ehr.written().is_empty() {
            tokio::task::yield_now().await;
        }
        held.release();
    };
    let (started, ()) = futures::join!(bench.engine.start_due("worker", &mut under_way), written);
    assert_eq!(started.unwrap(), 0);
    under_way.finish().await;
}

pub(crate) async fn a_slow_ehr_holds_up_nobody_elses_writes(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let one = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
    let other = bench.caller(&nurse(), "intake-agent", "intake", "p2").await;
    let first = bench.task(&one, "1", json!([])).await.id;
    let second = bench.task(&one, "2", json!([])).await.id;
    bench.ehr.hang_writes_with("Patient/p1");
    let mut under_way = UnderWay::default();
    let started = bench.engine.start_due("worker", &mut under_way).await;
    assert_eq!(started.unwrap(), 1);
    settle(&bench, &mut under_way, 1).await;
    // It came later, and does not wait for the one that hangs; the same patient's does.
    let third = bench.task(&other, "3", json!([])).await.id;
    let started = bench.engine.start_due("worker", &mut under_way).await;
    assert_eq!(started.unwrap(), 1);
    under_way.next().await;
    for (id, state) in [
        (first, StateName::Delivering),
        (second, StateName::Ready),
        (third, StateName::Delivered),
    ] {
        assert_eq!(bench.state(id).await, state);
    }
    let started = bench.engine.start_due("worker", &mut under_way).await;
    assert_eq!(started.unwrap(), 0);
    bench.ehr.let_go();
    under_way.finish().await;
    bench.deliver().await;
    let order: Vec<_> = bench.ehr.written().into_iter().map(|(id, _)| id).collect();
    assert_eq!(order, [third, first, second]);
}

pub(crate) async fn what_needs_no_order_has_places_of_its_own(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    bench.ehr.put(json!({
        "resourceType": "DocumentReference", "id": "d1", "status": "current",
        "subject": { "reference": "Patient/p1" },
    }));
    let (waits, _) = waiting_task(&bench).await;
    let until = bench.engine.config().approve_within_s;
    bench.clock.advance_s(until);
    let mut callers = Vec::new();
    for n in 1..=18 {
        let id = format!("p{n}");
        bench
            .ehr
            .put(json!({ "resourceType": "Patient", "id": id, "birthDate": "1950" }));
        callers.push(bench.caller(&nurse(), "intake-agent", "intake", &id).await);
    }
    for (n, caller) in callers.iter().enumerate() {
        bench.task(caller, &format!("slow-{n}"), json!([])).await;
    }
    bench.ehr.hang_writes_with("Patient/p");
    let mut under_way = UnderWay::default();
    // As many as there are places, and beside them what has no order.
    let started = bench.engine.start_due("worker", &mut under_way).await;
    assert_eq!(started.unwrap(), 16 + 1);
    settle(&bench, &mut under_way, 16).await;
    if bench.state(waits).await != StateName::Refused {
        under_way.next().await;
    }
    assert_eq!(bench.state(waits).await, StateName::Refused);
    assert_eq!(bench.ehr.hanging(), 16);
    bench.ehr.let_go();
    under_way.finish().await;
    bench.deliver().await;
    assert_eq!(bench.ehr.written().len(), 18);
}

/// A task that waits for a nurse's approval, because it rests on text from outside.
async fn waiting_task(bench: &Bench) -> (WritebackId, ApproveRequest) {
    let clinician = human(2, &[Role::Clinician]);
    let reader = bench
        .caller(&clinician, "order-agent", "chart-summary", "p1")
        .await;
    let read = bench.call(&reader, "list_documents", json!({})).await;
    let document = read["resources"][0]["id"].clone();
    let agent = bench
        .caller(&clinician, "refill-agent", "refill-request", "p1")
        .await;
    let row = bench.task(&agent, "tainted", json!([document])).await;
    assert_eq!(row.state, StateName::AwaitingApproval);
    let request = ApproveRequest {
        writeback: row.id,
        digest: row.digest.unwrap(),
        step_up: None,
        override_reason: None,
        review_ms: 5_000,
    };
    (row.id, request)
}

pub(crate) fn slot(id: &str, status: &str, service: Option<&str>) -> Value {
    let mut slot = json!({
        "resourceType": "Slot", "id": id, "status": status,
        "start": "2031-03-03T09:00:00Z", "end": "2031-03-03T09:30:00Z",
    });
    if let Some(code) = service {
        slot["serviceType"] = json!([{ "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/service-type", "code": code,
        }] }]);
    }
    slot
}

async fn booked(
    bench: &Bench,
    agent: &Caller,
    tool: &str,
    key: &str,
    slot: &Value,
    visit: &str,
) -> (WritebackId, Value) {
    let arguments = json!({ "idempotency_key": key, "slot": slot, "visit_type": visit });
    let answer = bench.call(agent, tool, arguments).await;
    (
        answer["proposal"].as_str().unwrap().parse().unwrap(),
        answer,
    )
}

#[tokio::test]
async fn an_agents_own_visit_type_opens_no_gate() {
    let bench = bench(Strategy::Conditional).await;
    let slots = [
        slot("s1", "free", Some("124")),
        slot("s2", "free", None),
        slot("s3", "free", Some("117")),
        slot("s4", "free", Some("9999")),
    ];
    let (agent, tokens) = bench.scheduler(&slots).await;
    // Slot, what the agent says, the gate of a proposal, the gate of a booking.
    let cases = [
        (0, "ROUTINE", "auto", "auto_verified"),
        (0, "EMERGENCY", "deny", "approve"),
        (1, "ROUTINE", "deny", "approve"),
        (2, "ROUTINE", "deny", "approve"),
        (3, "ROUTINE", "deny", "approve"),
    ];
    for (n, (slot, visit, propose, confirm)) in cases.into_iter().enumerate() {
        for (tool, gate) in [
            ("book_appointment", propose),
            ("confirm_appointment", confirm),
        ] {
            let key = format!("{tool}-{n}");
            let (_, answer) = booked(&bench, &agent, tool, &key, &tokens[slot], visit).await;
            assert_eq!(answer["gate"], gate, "{tool} {slot} {visit}");
        }
    }
}

pub(crate) async fn a_slot_taken_before_the_send_is_not_booked(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let slots = [
        slot("s1", "free", Some("124")),
        slot("s2", "free", Some("124")),
        slot("s3", "busy", Some("124")),
    ];
    let (agent, tokens) = bench.scheduler(&slots).await;
    let book = async |key: &str, slot: usize| {
        booked(
            &bench,
            &agent,
            "book_appointment",
            key,
            &tokens[slot],
            "ROUTINE",
        )
        .await
        .0
    };
    let (taken, free) = (book("1", 0).await, book("2", 1).await);
    bench.ehr.put(slot("s1", "busy", Some("124")));
    // An EHR that does not answer says neither.
    bench.ehr.set_down(true);
    bench.deliver().await;
    assert_eq!(bench.state(taken).await, StateName::Ready);
    bench.ehr.set_down(false);
    for _ in 0..4 {
        bench.clock.advance_s(60);
        bench.deliver().await;
    }
    assert_eq!(bench.state(taken).await, StateName::Void);
    assert_eq!(bench.row(taken).await.void, Some(VoidReason::Stale));
    assert_eq!(bench.state(free).await, StateName::Delivered);
    let written: Vec<_> = bench.ehr.written().into_iter().map(|(id, _)| id).collect();
    assert_eq!(written, [free]);
    // The agent and the console see why.
    let status = json!({ "proposal": taken });
    let answer = bench.call(&agent, "check_proposal_status", status).await;
    assert_eq!(
        (&answer["state"], &answer["reason"]),
        (&json!("void"), &json!("stale"))
    );
    let health = bench.engine.health(&nurse()).await.unwrap();
    assert_eq!(
        health.void.iter().map(|row| row.id).collect::<Vec<_>>(),
        [taken]
    );

    // A slot that a scheduler saw to be taken may be booked over, and stays taken.
    let (over, _) = booked(
        &bench,
        &agent,
        "confirm_appointment",
        "3",
        &tokens[2],
        "ROUTINE",
    )
    .await;
    let request = ApproveRequest {
        writeback: over,
        digest: bench.row(over).await.digest.unwrap(),
        step_up: None,
        override_reason: Some(OverrideReason::new("does-not-apply").unwrap()),
        review_ms: 5_000,
    };
    let desk = human(5, &[Role::Scheduler]);
    bench.engine.approve(&desk, request).await.unwrap();
    bench.deliver().await;
    assert_eq!(bench.state(over).await, StateName::Delivered);
}

pub(crate) async fn an_entry_by_hand_is_declined_with_a_reason(db: Db) {
    let bench = bench_on(db, Strategy::HumanEntry).await;
    let agent = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
    let entry = bench.task(&agent, "1", json!([])).await.id;
    let next = bench.task(&agent, "2", json!([])).await.id;
    let decline = async |by: &_, id, reason: &str| bench.engine.decline_entry(by, id, reason).await;
    // Not before it waits for somebody, not by anybody, not without a reason.
    let early = decline(&nurse(), entry, "nobody is here").await;
    assert!(matches!(early, Err(DecideFailed::Refused(_))));
    bench.deliver().await;
    let biller = human(7, &[Role::Biller]);
    let other = decline(&biller, entry, "nobody is here").await;
    assert!(matches!(other, Err(DecideFailed::Refused(_))));
    let silent = decline(&nurse(), entry, " ").await;
    assert!(matches!(silent, Err(DecideFailed::ReasonNeeded)));
    assert_eq!(bench.state(entry).await, StateName::Delivering);
    assert_eq!(bench.state(next).await, StateName::Ready);

    decline(&nurse(), entry, "the patient was called already")
        .await
        .unwrap();
    assert_eq!(bench.state(entry).await, StateName::Abandoned);
    // What comes after it goes on, and can be attested as before.
    bench.deliver().await;
    assert_eq!(bench.state(next).await, StateName::Delivering);
    bench
        .engine
        .attest_entry(&nurse(), next, "entered")
        .await
        .unwrap();
    assert_eq!(bench.state(next).await, StateName::Delivered);
    let again = decline(&nurse(), next, "too late for that").await;
    assert!(matches!(again, Err(DecideFailed::Refused(_))));
}

pub(crate) async fn an_entry_by_hand_ends_when_its_time_is_up(db: Db) {
    let bench = bench_on(db, Strategy::HumanEntry).await;
    let agent = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
    let entry = bench.task(&agent, "1", json!([])).await.id;
    bench.deliver().await;
    let within = bench.engine.config().deliver_within_s;
    bench.clock.advance_s(within - 1);
    let agent = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
    let next = bench.task(&agent, "2", json!([])).await.id;
    bench.deliver().await;
    assert_eq!(bench.state(entry).await, StateName::Delivering);
    assert_eq!(bench.state(next).await, StateName::Ready);
    bench.clock.advance_s(1);
    bench.deliver().await;
    assert_eq!(bench.row(entry).await.void, Some(VoidReason::DeliverBy));
    bench.deliver().await;
    assert_eq!(bench.state(next).await, StateName::Delivering);
    // Those who could have entered it see that somebody must look; others do not.
    let fell = async |who: &_| {
        let inbox = bench
            .engine
            .inbox(who, &InboxFilter::default())
            .await
            .unwrap();
        inbox
            .fell_through
            .iter()
            .map(|fell| fell.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(fell(&nurse()).await, [entry]);
    assert!(fell(&human(7, &[Role::Biller])).await.is_empty());
    let told = bench.notices().await;
    let expired = |notice: &Notice| {
        matches!(notice, Notice::OperatorNeeded { writeback, code }
            if *writeback == entry && code == "human-entry-expired")
    };
    assert_eq!(told.iter().filter(|notice| expired(notice)).count(), 1);
}

pub(crate) async fn who_approved_is_told_when_it_does_not_happen(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    bench.ehr.put(json!({
        "resourceType": "DocumentReference", "id": "d1", "status": "current",
        "subject": { "reference": "Patient/p1" },
    }));
    let (id, request) = waiting_task(&bench).await;
    let approver = human(3, &[Role::MaRn]);
    bench.engine.approve(&approver, request).await.unwrap();
    bench
        .ehr
        .fail_next_write(WriteFault::Refuse(FailureCause::Rejected));
    bench.deliver().await;
    assert_eq!(bench.state(id).await, StateName::DeadLetter);
    let fell = async |who: &_| {
        let inbox = bench
            .engine
            .inbox(who, &InboxFilter::default())
            .await
            .unwrap();
        inbox.fell_through.len()
    };
    assert_eq!(fell(&approver).await, 1);
    assert_eq!(fell(&human(6, &[Role::MaRn])).await, 0);
    let told = bench.notices().await;
    let by_role = Notice::ApprovedNotDelivered {
        writeback: id,
        roles: vec![Role::MaRn],
    };
    assert_eq!(told.iter().filter(|notice| **notice == by_role).count(), 1);
    bench
        .engine
        .requeue(&human(2, &[Role::Clinician]), id, "mended")
        .await
        .unwrap();
    bench.deliver().await;
    assert_eq!(bench.state(id).await, StateName::Delivered);
    assert_eq!(fell(&approver).await, 0);
}

pub(crate) async fn an_engine_leaves_other_tenants_work_alone(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let other = TenantId::new("other-clinic").unwrap();
    let part = SystemPart::Delivery;
    let mut commit = Commit::new(other.clone(), bench.clock.now(), Actor::System { part });
    commit.work.push(WorkChange::Enqueue(WorkItem {
        id: WorkId::from_random([5; 16]),
        kind: WorkKind::Deliver,
        subject: WritebackId::from_random([5; 16]).to_string(),
        order_key: None,
        due: bench.clock.now(),
    }));
    bench.store.commit(commit).await.unwrap();
    bench.deliver().await;
    let work = bench.store.work(&other, 10).await.unwrap();
    assert_eq!(work[0].state, chaperone_core::ports::WorkState::Waiting);
}

pub(crate) async fn rebuilt_projections_are_the_live_ones(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    // As in the world, no two readings of the clock agree.
    bench.clock.tick_us(250);
    bench.ehr.put(json!({
        "resourceType": "DocumentReference", "id": "d1", "status": "current",
        "subject": { "reference": "Patient/p1" },
    }));
    let agent = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
    for key in ["1", "2", "3"] {
        bench.task(&agent, key, json!([])).await;
    }
    bench
        .ehr
        .fail_next_write(WriteFault::Refuse(FailureCause::Rejected));
    bench.deliver().await;
    bench.deliver().await;
    let (_, request) = waiting_task(&bench).await;
    let (agent, tokens) = bench.scheduler(&[slot("s1", "free", None)]).await;
    booked(
        &bench,
        &agent,
        "book_appointment",
        "4",
        &tokens[0],
        "ROUTINE",
    )
    .await;
    bench
        .engine
        .approve(&human(3, &[Role::MaRn]), request)
        .await
        .unwrap();
    let rows = async || {
        let mut rows = Vec::new();
        for collection in ["writeback", "writeback_by_patient"] {
            let listing = Listing {
                limit: 1_000,
                ..Listing::default()
            };
            rows.push(
                bench
                    .store
                    .projections(&tenant(), collection, listing)
                    .await
                    .unwrap(),
            );
        }
        rows
    };
    let live = rows().await;
    assert_eq!((live[0].len(), live[1].len()), (5, 5));
    let size = bench.store.size(&tenant()).await.unwrap();
    let agreement = async || examine(&*bench.store, &tenant()).await.unwrap();
    let whole = Agreement {
        writebacks: 5,
        ..Agreement::default()
    };
    assert_eq!(agreement().await, whole);
    assert!(whole.is_whole());
    // One row is gone, one says something else, and one belongs to nothing.
    let mut spoilt = Commit::new(
        tenant(),
        bench.clock.now(),
        Actor::System {
            part: SystemPart::Setup,
        },
    );
    let mut gone = live[0][0].clone();
    gone.value = json!(null);
    let mut other = live[1][1].clone();
    other.value["attempts"] = json!(77);
    let mut stray = live[0][2].clone();
    stray.key.key = "wb_00000000000000000000000000000000".to_owned();
    spoilt.projections.extend([gone, other, stray]);
    bench.store.commit(spoilt).await.unwrap();
    let spoilt = agreement().await;
    assert_eq!((spoilt.missing, spoilt.differing, spoilt.stray), (1, 1, 1));
    assert!(!spoilt.is_whole());
    assert_eq!(bench.engine.rebuild_projections().await.unwrap(), 5);
    assert_eq!(rows().await, live);
    assert_eq!(agreement().await, whole);
    bench.store.projections_clear(&tenant()).await.unwrap();
    assert_eq!(agreement().await.missing, 10);
    assert_eq!(bench.engine.rebuild_projections().await.unwrap(), 5);
    assert_eq!(rows().await, live);
    // Folding adds nothing to what it folds.
    assert_eq!(bench.store.size(&tenant()).await.unwrap(), size);
}

pub(crate) async fn a_rebuild_takes_nothing_back_that_moves_meanwhile(db: Db) {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let store = bench.behind_a_faulty_store().await;
    let caller = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
    let moved = bench.task(&caller, "1", json!([])).await.id;
    let held = store.hold_next_commit();
    // Between the folding and the putting one is delivered, and another is proposed.
    let meanwhile = async {
        held.arrived().await;
        assert_eq!(bench.state(moved).await, StateName::Ready);
        bench.deliver().await;
        let made = bench.task(&caller, "2", json!([])).await.id;
        held.release();
        made
    };
    let (rebuilt, made) = futures::join!(bench.engine.rebuild_projections(), meanwhile);
    assert_eq!(rebuilt.unwrap(), 1);
    assert_eq!(bench.state(moved).await, StateName::Delivered);
    assert_eq!(bench.state(made).await, StateName::Ready);
    let agreement = examine(&*bench.store, &tenant()).await.unwrap();
    assert!(agreement.is_whole(), "{agreement:?}");
}

/// An EHR that says "changed since" is asked whose change it was: a message that came twice meets its own effect.
pub(crate) async fn a_change_since_is_ours_or_somebody_elses(db: Db) {
    let bench = visiting(db).await;
    let who = human(11, &[Role::Scheduler, Role::Clinician, Role::MaRn]);
    let (ours, theirs) = (
        proposed_reason(&bench, "p1").await,
        proposed_reason(&bench, "p2").await,
    );
    approve(&bench, &who, ours, true).await.unwrap();
    bench.ehr.fail_next_write(WriteFault::Twice);
    bench.deliver().await;
    assert_eq!(bench.state(ours).await, StateName::Delivered);

    approve(&bench, &who, theirs, true).await.unwrap();
    bench.ehr.fail_next_write(WriteFault::Stale);
    bench.deliver().await;
    assert_eq!(bench.state(theirs).await, StateName::Void);
    assert_eq!(bench.row(theirs).await.void, Some(VoidReason::Stale));
    let written: Vec<WritebackId> = bench.ehr.written().into_iter().map(|(id, _)| id).collect();
    assert_eq!(written, [ours]);
}

/// Where nothing at the EHR is what was sent, what we wanted to change tells whose change it was.
pub(crate) async fn what_an_ehr_changes_on_its_way_in_is_put_before_a_person(db: Db) {
    let bench = visiting(db).await;
    let who = human(11, &[Role::Scheduler, Role::Clinician, Role::MaRn]);
    let (ours, theirs) = (
        proposed_reason(&bench, "p1").await,
        proposed_reason(&bench, "p2").await,
    );
    approve(&bench, &who, ours, true).await.unwrap();
    bench.ehr.fail_next_write(WriteFault::TwiceAltered);
    bench.deliver().await;
    bench.clock.advance_s(60);
    bench.deliver().await;
    let row = bench.row(ours).await;
    assert_eq!(row.state, StateName::Unknown);
    assert_eq!(row.human_needed, Some(HumanNeeded::ContentDiffers));

    approve(&bench, &who, theirs, true).await.unwrap();
    bench.ehr.fail_next_write(WriteFault::Overtaken);
    bench.deliver().await;
    let row = bench.row(theirs).await;
    assert_eq!(row.state, StateName::Void);
    assert_eq!(row.void, Some(VoidReason::Stale));
    let written: Vec<WritebackId> = bench.ehr.written().into_iter().map(|(id, _)| id).collect();
    assert_eq!(written, [ours]);
}
