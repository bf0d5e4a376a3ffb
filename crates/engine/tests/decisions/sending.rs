//! What goes to the EHR at once, when nothing does, and the two ways of delivery that are no ordinary writes: an
//! operation of the EHR's own, and what is placed unsigned and signed there.

use chaperone_core::Timestamp;
use chaperone_core::breaker::BreakerState;
use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::{Factor, Strategy};
use chaperone_core::gate::ProofLevel;
use chaperone_core::ids::{AccountName, WritebackId};
use chaperone_core::ports::{Clock, Signature, Version, WriteReceipt};
use chaperone_core::principal::{Human, Role};
use chaperone_core::writeback::{FailureCause, StateName, VoidReason, WritebackEvent};
use chaperone_engine::approve::ApproveRequest;
use chaperone_engine::deliver::{SendKind, Sending, UnderWay};
use chaperone_engine::people::{NewAccount, Password, PasswordHash};
use chaperone_testkit::WriteFault;
use serde_json::{Value, json};

use crate::bench::*;
use crate::undo::delivered_task;

/// A task for a patient of its own, whom nothing else holds up.
async fn task(bench: &Bench, n: usize) -> WritebackId {
    let id = format!("q{n}");
    bench
        .ehr
        .put(json!({ "resourceType": "Patient", "id": id, "birthDate": "1950" }));
    let caller = bench.caller(&nurse(), "intake-agent", "intake", &id).await;
    bench
        .task(&caller, &format!("task-{n}"), json!([]))
        .await
        .id
}

async fn creates(bench: &Bench) -> Sending {
    let health = bench.engine.health(&nurse()).await.unwrap();
    let mut sending = health.ehr.sending.into_iter();
    sending.find(|it| it.kind == SendKind::Create).unwrap()
}

pub(crate) async fn what_a_report_does_not_show_of_transactions_is_not_used(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    delivered_task(&bench, "shown").await;
    // The endpoint claims it as before; the newest report does not bear it out.
    let mut found = chaperone_testkit::shown(&*bench.ehr);
    for entry in found.profile.support.values_mut() {
        entry.atomic = false;
    }
    let report = bench.engine.conformance_report(found, 300);
    bench.engine.record_conformance(&report).await.unwrap();
    delivered_task(&bench, "not shown").await;
    assert_eq!(bench.ehr.shown_atomic(), [true, false]);
}

pub(crate) async fn nothing_is_sent_while_the_ehr_fails_until_one_is_tried(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let down = WriteFault::Refuse(FailureCause::Unreachable);
    let mut tasks = Vec::new();
    for n in 0..5 {
        assert!(!creates(&bench).await.holds_back());
        tasks.push(task(&bench, n).await);
        bench.ehr.fail_next_write(down);
        bench.deliver().await;
        assert_eq!(bench.ehr.arrived(), n + 1);
    }
    // Five in a row: what comes now waits, with its attempts unspent.
    assert!(matches!(
        creates(&bench).await.state,
        BreakerState::Open { .. }
    ));
    let waits = task(&bench, 5).await;
    tasks.push(waits);
    for _ in 0..4 {
        bench.deliver().await;
        bench.clock.advance_s(1);
    }
    assert_eq!(bench.ehr.arrived(), 5);
    let row = bench.row(waits).await;
    assert_eq!((row.state, row.attempts), (StateName::Ready, 0));
    // One is tried; it fails, so the others wait on, and longer.
    bench.clock.advance_s(3);
    bench.ehr.fail_next_write(down);
    bench.deliver().await;
    bench.clock.advance_s(8);
    bench.deliver().await;
    assert_eq!(bench.ehr.arrived(), 6);
    // One is tried; it is answered, and everything goes on, once.
    for _ in 0..20 {
        bench.clock.advance_s(4);
        bench.deliver().await;
    }
    assert!(!creates(&bench).await.holds_back());
    for id in tasks {
        assert_eq!(bench.state(id).await, StateName::Delivered);
    }
    assert_eq!(bench.ehr.written().len(), 6);
}

pub(crate) async fn a_wish_to_be_left_alone_is_kept(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let first = task(&bench, 0).await;
    bench.ehr.fail_next_write(WriteFault::Busy(30_000));
    bench.deliver().await;
    let second = task(&bench, 1).await;
    bench.clock.advance_s(29);
    bench.deliver().await;
    assert_eq!(bench.ehr.arrived(), 1);
    let sending = creates(&bench).await;
    assert!(sending.holds_back() && matches!(sending.state, BreakerState::Closed { .. }));
    bench.clock.advance_s(3);
    bench.deliver().await;
    // The same beside an answer that leaves the outcome unknown: it is looked up, and nothing else is sent.
    let third = task(&bench, 2).await;
    let in_a_minute = jiff::SignedDuration::from_secs(60);
    let until = bench.clock.now().checked_add(in_a_minute).unwrap();
    bench.ehr.wants_rest_until(until);
    bench.ehr.fail_next_write(WriteFault::LostAfter);
    bench.deliver().await;
    let fourth = task(&bench, 3).await;
    bench.clock.advance_s(50);
    bench.deliver().await;
    assert_eq!(bench.state(third).await, StateName::Delivered);
    assert_eq!(bench.ehr.arrived(), 4);
    bench.clock.advance_s(15);
    bench.deliver().await;
    for id in [first, second, third, fourth] {
        assert_eq!(bench.state(id).await, StateName::Delivered);
    }
}

pub(crate) async fn no_more_than_so_many_are_under_way(db: Db) {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    bench
        .restart(|config| config.deliveries_under_way_max = 4)
        .await;
    for n in 0..6 {
        task(&bench, n).await;
    }
    bench.ehr.hang_writes_with("Patient/q");
    let mut under_way = UnderWay::default();
    // Three of four: one place is kept for what waits for nothing.
    let started = bench.engine.start_due("worker", &mut under_way).await;
    assert_eq!((started.unwrap(), under_way.len()), (3, 3));
    let again = bench.engine.start_due("worker", &mut under_way).await;
    assert_eq!(again.unwrap(), 0);
    let hang = async {
        while bench.ehr.hanging() < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = under_way.finish() => panic!("nothing hangs"),
        () = hang => {}
    }
    bench.ehr.let_go();
    under_way.finish().await;
    bench.deliver().await;
    assert_eq!(bench.ehr.written().len(), 6);
}

pub(crate) async fn what_an_operation_filed_is_found_and_what_it_did_not_is_asked_about(db: Db) {
    let bench = bench_on(db, Strategy::VendorOp).await;
    let plain = task(&bench, 0).await;
    bench.deliver().await;
    assert_eq!(bench.state(plain).await, StateName::Delivered);
    assert_eq!(proof(&bench, plain).await, ProofLevel::P2);
    // Failed but applied: found under its identifier, and not sent again.
    let applied = task(&bench, 1).await;
    bench.ehr.fail_next_write(WriteFault::LostAfter);
    // Failed and lost: not finding it proves nothing here.
    let lost = task(&bench, 2).await;
    bench.ehr.fail_next_write(WriteFault::LostBefore);
    for _ in 0..10 {
        bench.deliver().await;
        bench.clock.advance_s(5);
    }
    let mut states = [bench.state(applied).await, bench.state(lost).await];
    states.sort();
    assert_eq!(states, [StateName::Unknown, StateName::Delivered]);
    let unknown = match bench.state(lost).await {
        StateName::Unknown => lost,
        _ => applied,
    };
    assert!(bench.row(unknown).await.human_needed.is_some());
    assert_eq!((bench.ehr.arrived(), bench.ehr.written().len()), (3, 2));
}

async fn proof(bench: &Bench, id: WritebackId) -> ProofLevel {
    let stream = StreamId::Writeback(id);
    let events = bench.store.stream(&tenant(), &stream).await.unwrap();
    let proof = |event: &Event| match event {
        Event::Writeback(WritebackEvent::Delivered(receipt)) => Some(receipt.proof),
        _ => None,
    };
    events.iter().find_map(|it| proof(&it.event)).unwrap()
}

const DOCTOR: &str = "Practitioner/dr-1";
const NURSE: &str = "Practitioner/rn-1";

/// An engine for which a doctor and a nurse sign in the EHR, who have accounts here.
async fn ward(db: Db) -> Bench {
    let mut bench = bench_on(db, Strategy::EhrStaged).await;
    let account = |name: &str| name.parse::<AccountName>().unwrap();
    bench
        .restart(|config| {
            let signers = [(DOCTOR, "dr-1"), (NURSE, "rn-1")];
            config.signers = signers
                .map(|(there, here)| (there.to_owned(), account(here)))
                .into();
        })
        .await;
    let engine = &bench.engine;
    let password = Password::chosen("a long enough passphrase".to_owned()).unwrap();
    let hash = || PasswordHash::make(&password, engine.password_salt()).unwrap();
    let new = |name: &str, role| NewAccount {
        name: account(name),
        person: None,
        roles: vec![role],
    };
    let code = engine.bootstrap_code().await.unwrap().unwrap();
    let admin = engine
        .bootstrap(&code, new("admin", Role::ItAdmin), hash())
        .await
        .unwrap();
    for (name, role) in [("dr-1", Role::Clinician), ("rn-1", Role::Rn)] {
        let code = engine
            .create_account(&admin, new(name, role))
            .await
            .unwrap();
        engine.enrol(name, &code, hash()).await.unwrap();
    }
    bench
}

fn clinician() -> Human {
    human(2, &[Role::Clinician])
}

/// A laboratory order for p1: what the agent was told, and the write-back.
async fn order(bench: &Bench, key: &str) -> (WritebackId, Value) {
    let agent = bench
        .caller(&clinician(), "order-agent", "submit-order", "p1")
        .await;
    let arguments = json!({ "idempotency_key": key, "test": "4548-4" });
    let answer = bench.call(&agent, "order_lab", arguments).await;
    let id = answer["proposal"].as_str().unwrap().parse().unwrap();
    (id, answer)
}

/// Where what was placed last is.
fn place(bench: &Bench) -> String {
    bench.ehr.written().last().unwrap().1.clone()
}

fn given(signer: &str, at: Timestamp, place: &str) -> Signature {
    Signature::Given {
        signer: signer.to_owned(),
        at,
        receipt: WriteReceipt {
            location: format!("{place}/_history/2"),
            version: Some(Version("2".to_owned())),
            read_back: Some(Digest::of_bytes(b"signed")),
            provenance_written: false,
            also: Vec::new(),
        },
    }
}

async fn wait_s(bench: &Bench, seconds: i64) {
    bench.clock.advance_s(seconds);
    bench.deliver().await;
}

pub(crate) async fn a_signature_in_the_ehr_is_the_approval(db: Db) {
    let bench = ward(db).await;
    let (id, told) = order(&bench, "1").await;
    // The agent hears that people decide, and not where.
    assert_eq!(
        (&told["state"], &told["gate"]),
        (&json!("awaiting_approval"), &json!("approve"))
    );
    assert_eq!(bench.state(id).await, StateName::Ready);
    bench.deliver().await;
    assert_eq!(bench.state(id).await, StateName::AwaitingSignature);
    let place = place(&bench);
    let resource = |bench: &Bench| {
        let (kind, id) = place.split_once('/').unwrap();
        bench.ehr.resource(kind, id).unwrap()
    };
    assert_eq!(resource(&bench)["status"], "draft");
    // It holds up nothing else of the patient, and nobody approves it here.
    let caller = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
    let other = bench.task(&caller, "task", json!([])).await.id;
    bench.deliver().await;
    assert_eq!(bench.state(other).await, StateName::Delivered);
    let here = ApproveRequest {
        writeback: id,
        digest: bench.row(id).await.digest.unwrap(),
        step_up: None,
        override_reason: None,
        review_ms: 5_000,
    };
    assert!(bench.engine.approve(&clinician(), here).await.is_err());
    wait_s(&bench, 60).await;
    assert_eq!(bench.state(id).await, StateName::AwaitingSignature);

    bench
        .ehr
        .decide_signature(&place, given(DOCTOR, bench.clock.now(), &place));
    wait_s(&bench, 30).await;
    assert_eq!(bench.state(id).await, StateName::Delivered);
    assert_eq!(proof(&bench, id).await, ProofLevel::P2);
    let stream = StreamId::Writeback(id);
    let events = bench.store.stream(&tenant(), &stream).await.unwrap();
    let approvals: Vec<_> = events
        .iter()
        .filter_map(|it| match &it.event {
            Event::Writeback(WritebackEvent::Approved { approval }) => Some(approval),
            _ => None,
        })
        .collect();
    let [approval] = approvals.as_slice() else {
        panic!("{approvals:?}")
    };
    assert_eq!(
        (approval.account.as_str(), approval.role),
        ("dr-1", Role::Clinician)
    );
    assert!(matches!(approval.factor, Factor::EhrSignature { .. }));
    assert_eq!(approval.digest, bench.row(id).await.digest.unwrap());
    // One was placed, once, and looking changed nothing.
    let placed = bench.ehr.written().into_iter().filter(|(by, _)| *by == id);
    assert_eq!(placed.count(), 1);
}

pub(crate) async fn what_is_not_signed_as_it_was_placed_does_not_count(db: Db) {
    let bench = ward(db).await;
    let second = jiff::SignedDuration::from_secs(1);
    // What became of it, how long it is waited for, and why it is void.
    type Case = (
        &'static str,
        fn(Timestamp, &str) -> Signature,
        i64,
        VoidReason,
    );
    let cases: [Case; 7] = [
        (
            "a stranger signs",
            |now, place| given("Practitioner/nobody", now, place),
            30,
            VoidReason::SignerNotPermitted,
        ),
        (
            "one signs who may not approve it here",
            |now, place| given(NURSE, now, place),
            30,
            VoidReason::SignerNotPermitted,
        ),
        (
            "it is changed",
            |_, _| Signature::Changed,
            30,
            VoidReason::ChangedBeforeSigning,
        ),
        (
            "it is taken away",
            |_, _| Signature::Declined,
            30,
            VoidReason::DeclinedAtEhr,
        ),
        (
            "nobody signs",
            |_, _| Signature::Awaited,
            901,
            VoidReason::NotSigned,
        ),
        (
            "it is signed too late",
            |now, place| given(DOCTOR, now + jiff::SignedDuration::from_secs(901), place),
            902,
            VoidReason::NotSigned,
        ),
        (
            "it is signed too late by the EHR's clock, and ours is behind",
            |now, place| given(DOCTOR, now + jiff::SignedDuration::from_secs(901), place),
            30,
            VoidReason::NotSigned,
        ),
    ];
    for (name, became, seconds, void) in cases {
        let (id, _) = order(&bench, name).await;
        bench.deliver().await;
        let place = place(&bench);
        bench
            .ehr
            .decide_signature(&place, became(bench.clock.now(), &place));
        wait_s(&bench, seconds).await;
        let row = bench.row(id).await;
        assert_eq!(
            (row.state, row.void),
            (StateName::Void, Some(void)),
            "{name}"
        );
        assert!(row.approvers.is_empty(), "{name}");
        bench.clock.advance_s(60);
    }
    // The nearest that counts: signed in the last second, and seen long after, because the EHR was away.
    let (id, _) = order(&bench, "in time").await;
    let by = bench.clock.now() + jiff::SignedDuration::from_secs(900) - second;
    bench.deliver().await;
    let place = place(&bench);
    bench.ehr.set_down(true);
    wait_s(&bench, 1_000).await;
    assert_eq!(bench.state(id).await, StateName::AwaitingSignature);
    bench.ehr.set_down(false);
    bench
        .ehr
        .decide_signature(&place, given(DOCTOR, by, &place));
    wait_s(&bench, 60).await;
    assert_eq!(bench.state(id).await, StateName::Delivered);
}

pub(crate) async fn a_draft_that_was_lost_is_found_and_nobodys_word_delivers_it(db: Db) {
    let bench = ward(db).await;
    // Failed but applied: found, and its signature is awaited like any other.
    let (found, _) = order(&bench, "applied").await;
    bench.ehr.fail_next_write(WriteFault::LostAfter);
    bench.deliver().await;
    assert_eq!(bench.state(found).await, StateName::Unknown);
    bench.deliver().await;
    assert_eq!(bench.state(found).await, StateName::AwaitingSignature);
    // Failed and lost: a human looks. Their word that it is there makes no approval of it.
    let (lost, _) = order(&bench, "lost").await;
    bench.ehr.fail_next_write(WriteFault::LostBefore);
    bench.deliver().await;
    bench.deliver().await;
    assert!(bench.row(lost).await.human_needed.is_some());
    let engine = &bench.engine;
    let by = clinician();
    let says = engine.resolve_unknown(&by, lost, true, "it is there").await;
    assert_eq!(says.unwrap_err().code(), "not-as-placed");
    engine
        .resolve_unknown(&clinician(), lost, false, "it is not there")
        .await
        .unwrap();
    bench.deliver().await;
    assert_eq!(bench.state(lost).await, StateName::AwaitingSignature);
    assert_eq!(bench.ehr.written().len(), 2);
}

pub(crate) async fn a_draft_that_a_person_says_is_there_is_looked_for_again(db: Db) {
    let bench = ward(db).await;
    let (id, _) = order(&bench, "applied").await;
    bench.ehr.fail_next_write(WriteFault::LostAfter);
    bench.deliver().await;
    // Nothing could be looked up for so long that a human was asked.
    bench.ehr.set_down(true);
    wait_s(&bench, 3_601).await;
    assert!(bench.row(id).await.human_needed.is_some());
    let by = clinician();
    let says = bench.engine.resolve_unknown(&by, id, true, "it is there");
    assert_eq!(says.await.unwrap_err().code(), "ehr-unavailable");
    assert_eq!(bench.state(id).await, StateName::Unknown);
    // It is found as it was placed, and is no more delivered by that than by anybody's word.
    bench.ehr.set_down(false);
    let says = bench.engine.resolve_unknown(&by, id, true, "it is there");
    assert_eq!(says.await.unwrap().state, StateName::AwaitingSignature);
    assert_eq!(bench.ehr.written().len(), 1);
    let (_, _) = order(&bench, "the next").await;
    bench.deliver().await;
    assert_eq!(bench.ehr.written().len(), 2, "nothing holds the others up");
}
