//! Reviews: who may read one, what an approval rests on, what the ledger gives away.

use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::{Strategy, WriteOrder};
use chaperone_core::ids::WritebackId;
use chaperone_core::mode::{Mode, ModeScope};
use chaperone_core::phi::ExposedFor;
use chaperone_core::ports::{Clock, Commit, Expected};
use chaperone_core::principal::{Actor, Human, Role};
use chaperone_core::writeback::{StateName, WritebackEvent};
use chaperone_engine::approve::{ApproveRequest, DecideFailed};
use chaperone_engine::views::ViewFailed;
use serde_json::json;

use crate::bench::*;

/// A note that waits for a clinician.
pub(crate) async fn waiting_note(bench: &Bench) -> WritebackId {
    bench.ehr.put(json!({
        "resourceType": "Encounter", "id": "e1", "status": "in-progress",
        "class": { "code": "AMB" }, "subject": { "reference": "Patient/p1" },
    }));
    let scribe = bench
        .caller(
            &human(2, &[Role::Clinician]),
            "scribe-agent",
            "draft-note",
            "p1",
        )
        .await;
    let read = bench.call(&scribe, "list_encounters", json!({})).await;
    let note = json!({
        "idempotency_key": "note", "encounter_token": read["resources"][0]["id"],
        "text": "Seen for a visit. Plan unchanged.",
    });
    let answer = bench.call(&scribe, "draft_note", note).await;
    assert_eq!(answer["state"], "awaiting_approval");
    answer["proposal"].as_str().unwrap().parse().unwrap()
}

pub(crate) async fn a_review_is_for_who_has_a_part_in_it(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let id = waiting_note(&bench).await;
    let opens = async |who: &Human| match bench.engine.review(who, id).await {
        Ok(review) if review.content.is_some() => "content",
        Ok(_) => "outline",
        Err(ViewFailed::Missing) => "nothing",
        Err(other) => panic!("{other}"),
    };
    // The gate is a clinician's.
    for (role, expected) in [
        (Role::Clinician, "content"),
        (Role::ItAdmin, "outline"),
        (Role::Scheduler, "nothing"),
        (Role::Biller, "nothing"),
        (Role::Pharmacist, "nothing"),
        (Role::Privacy, "nothing"),
    ] {
        assert_eq!(opens(&human(20, &[role])).await, expected, "{role}");
        let may = bench.engine.may_open(&human(20, &[role]), id).await;
        assert_eq!(may.is_ok(), expected != "nothing", "{role}");
    }
    // Nor do the words of it appear in the patient's queue.
    let token = bench.row(id).await.patient.unwrap();
    let words = async |role: Role| {
        let queue = bench.engine.patient_queue(&human(20, &[role]), token).await;
        let words = queue.unwrap().pending[0].words.clone();
        words.into_exposed(ExposedFor::Person)
    };
    let said = words(Role::Clinician).await;
    assert_ne!(words(Role::Scheduler).await, said);
    assert!(
        words(Role::Scheduler)
            .await
            .starts_with("For others to decide")
    );
}

pub(crate) async fn nobody_approves_what_other_rules_ruled_on(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let id = waiting_note(&bench).await;
    let request = async || ApproveRequest {
        writeback: id,
        digest: bench.row(id).await.digest.unwrap(),
        step_up: None,
        override_reason: None,
        review_ms: 5_000,
    };
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
    let clinician = human(3, &[Role::Clinician]);
    // Who could not approve it anyway does not end it either.
    let other = next
        .approve(&human(5, &[Role::Scheduler]), request().await)
        .await;
    assert!(matches!(other, Err(DecideFailed::Refused(_))));
    assert_eq!(bench.state(id).await, StateName::AwaitingApproval);
    let approved = next.approve(&clinician, request().await).await;
    assert!(matches!(approved, Err(DecideFailed::RulesChanged)));
    let row = bench.row(id).await;
    assert!(row.state == StateName::Refused && row.rules_changed);
    bench.deliver().await;
    assert!(bench.ehr.written().is_empty());
}

pub(crate) async fn digests_in_the_ledger_say_nothing_without_the_salt(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let agent = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
    let id = bench.task(&agent, "1", json!([])).await.id;
    bench.deliver().await;
    let bytes = bench.engine.order_bytes(id).await.unwrap();
    let order: WriteOrder = serde_json::from_slice(&bytes).unwrap();
    let body = order.body.as_bytes();
    let (mut validated, mut ruled, mut read_back) = (None, None, None);
    let events = bench
        .store
        .stream(&tenant(), &StreamId::Writeback(id))
        .await
        .unwrap();
    for recorded in &events {
        match &recorded.event {
            Event::Writeback(WritebackEvent::Validated { validation, .. }) => {
                validated = Some(validation.body);
            }
            Event::Writeback(WritebackEvent::Ruled { order, .. }) => ruled = Some(order.digest),
            Event::Writeback(WritebackEvent::Delivered(receipt)) => read_back = receipt.read_back,
            _ => {}
        }
    }
    // With the salt all of them verify; without it, knowing the body exactly does not help.
    let content = Digest::of_bytes(body);
    assert_eq!(ruled, Some(Digest::of_bytes(&bytes)));
    assert_eq!(validated, Some(Digest::salted(&order.salt, body)));
    assert_eq!(
        read_back,
        Some(Digest::salted(&order.salt, content.as_bytes()))
    );
    let salt = chaperone_core::digest::Salt::from_random([0; 32]);
    let guess = serde_json::to_vec(&WriteOrder { salt, ..order }).unwrap();
    assert_ne!(ruled, Some(Digest::of_bytes(&guess)));
    assert!(![validated, read_back].contains(&Some(content)));
    let all = format!("{events:?}");
    assert!(!all.contains(&content.to_string()));
}

pub(crate) async fn the_newest_of_very_many_switches_counts(db: Db) {
    const SWITCHES: u64 = 10_000;
    let bench = bench_on(db, Strategy::Conditional).await;
    let operator = human(9, &[Role::ItAdmin]);
    let actor = Actor::from(&operator);
    let reason = chaperone_core::digest::PayloadAddress::of(&[1; 32], b"drill");
    let mut commit = Commit::new(tenant(), bench.clock.now(), actor);
    for version in 0..SWITCHES {
        let mode = Mode::Normal;
        let scope = ModeScope::Tenant;
        let event = Event::ModeSwitched {
            scope,
            mode,
            reason,
        };
        commit.append(StreamId::Modes, Expected::Version(version), event);
    }
    bench.store.commit(commit).await.unwrap();
    let halt = bench
        .engine
        .switch_mode(&operator, ModeScope::Tenant, Mode::Halted, "a drill");
    halt.await.unwrap();
    let switched = bench.engine.switched().await.unwrap();
    assert_eq!(switched, [(ModeScope::Tenant, Mode::Halted)]);
    let view = bench.engine.modes_view(&operator).await.unwrap();
    assert_eq!((view.moves[0].mode, view.moves.len()), (Mode::Halted, 20));
}
