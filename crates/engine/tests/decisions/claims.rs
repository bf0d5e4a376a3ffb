//! Claims, take-overs and hand-overs, and that nobody decides about what they did not read: what each allows, beside
//! the nearest thing that it does not. On both databases.

use chaperone_core::claim::{ClaimEvent, ClaimHolder};
use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::{AccountName, OverrideReason, PersonId, WritebackId};
use chaperone_core::phi::ExposedFor;
use chaperone_core::principal::{Human, Role};
use chaperone_core::writeback::{StateName, WritebackEvent};
use chaperone_engine::approve::{ApproveRequest, DecideFailed};
use chaperone_engine::claim::{ClaimFailed, HandTo};
use chaperone_engine::people::{NewAccount, Password, PasswordHash};
use chaperone_engine::views::{Cosign, Turn};
use chaperone_engine::{Engine, EngineConfig};

use crate::bench::*;
use crate::reviews::waiting_note;

pub(crate) async fn admin(bench: &Bench) -> Human {
    let code = bench.engine.bootstrap_code().await.unwrap().unwrap();
    let account = new("admin", None, &[]);
    bench
        .engine
        .bootstrap(&code, account, hash())
        .await
        .unwrap()
}

pub(crate) fn new(name: &str, person: Option<PersonId>, roles: &[Role]) -> NewAccount {
    NewAccount {
        name: AccountName::new(name).unwrap(),
        person,
        roles: roles.to_vec(),
    }
}

fn hash() -> PasswordHash {
    let password = Password::chosen("a calm grey morning".to_owned()).unwrap();
    PasswordHash::make(&password, [3; 16]).unwrap()
}

pub(crate) async fn account(bench: &Bench, admin: &Human, account: NewAccount) -> Human {
    let name = account.name.clone();
    let code = bench.engine.create_account(admin, account).await.unwrap();
    bench
        .engine
        .enrol(name.as_str(), &code, hash())
        .await
        .unwrap()
}

fn clinician(n: u8) -> Human {
    human(n, &[Role::Clinician])
}

pub(crate) async fn approve(
    bench: &Bench,
    by: &Human,
    id: WritebackId,
) -> Result<StateName, DecideFailed> {
    let request = ApproveRequest {
        writeback: id,
        digest: bench.row(id).await.digest.unwrap(),
        step_up: None,
        override_reason: Some(OverrideReason::new("benefit-outweighs").unwrap()),
        review_ms: 5_000,
    };
    bench.engine.approve(by, request).await.map(|row| row.state)
}

pub(crate) async fn claim_events(bench: &Bench, id: WritebackId) -> Vec<ClaimEvent> {
    let stream = StreamId::Writeback(id);
    let events = bench.store.stream(&tenant(), &stream).await.unwrap();
    let claim = |event: Event| match event {
        Event::Claim(event) => Some(event),
        _ => None,
    };
    events
        .into_iter()
        .filter_map(|it| claim(it.event))
        .collect()
}

pub(crate) async fn what_somebody_has_in_hand_is_theirs_until_they_let_go_or_it_ends(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let engine = bench.engine.clone();
    let id = waiting_note(&bench).await;
    let (lee, kim) = (clinician(20), clinician(21));
    // Who cannot decide it cannot claim it.
    let refused = engine.claim(&human(22, &[Role::Scheduler]), id).await;
    assert!(matches!(refused, Err(ClaimFailed::NotYours)), "{refused:?}");
    engine.claim(&lee, id).await.unwrap();
    engine.claim(&lee, id).await.unwrap();
    let seen = engine.claims(&kim).await.unwrap();
    assert!(!seen[&id].yours, "others see it");
    assert!(engine.claims(&lee).await.unwrap()[&id].yours);
    let refused = engine.claim(&kim, id).await;
    assert!(matches!(refused, Err(ClaimFailed::Held { .. })));
    let refused = engine.release_claim(&kim, id).await;
    assert!(matches!(refused, Err(ClaimFailed::NotHeld)));
    // Neither decision is another's, and the record says that they tried.
    let refused = approve(&bench, &kim, id).await;
    assert!(
        matches!(refused, Err(DecideFailed::Claimed { .. })),
        "{refused:?}"
    );
    let digest = bench.row(id).await.digest.unwrap();
    let refused = engine.reject(&kim, id, digest, "not so").await;
    assert!(matches!(refused, Err(DecideFailed::Claimed { .. })));
    let recorded = bench.recorded().await;
    let refusals = recorded.iter().filter(|it| {
        matches!(&it.event, Event::DecisionRefused { code, .. } if code == "claimed-by-another")
    });
    assert_eq!(refusals.count(), 2);
    // Let go, it is whoever's is first; and it ends by itself.
    engine.release_claim(&lee, id).await.unwrap();
    engine.claim(&kim, id).await.unwrap();
    bench.clock.advance_s(899);
    assert!(matches!(
        engine.claim(&lee, id).await,
        Err(ClaimFailed::Held { .. })
    ));
    bench.clock.advance_s(1);
    assert!(engine.claims(&kim).await.unwrap().is_empty());
    engine.claim(&lee, id).await.unwrap();
    // Another account of the same person is the same person.
    let other_account = Human {
        account: AccountName::new("lee-second").unwrap(),
        ..lee.clone()
    };
    assert_eq!(
        approve(&bench, &other_account, id).await.unwrap(),
        StateName::Ready
    );
    assert!(
        engine.claims(&lee).await.unwrap().is_empty(),
        "the decision ends it"
    );
    let refused = engine.claim(&lee, id).await;
    assert!(matches!(refused, Err(ClaimFailed::NotOpen)), "{refused:?}");
    assert_eq!(claim_events(&bench, id).await.len(), 4);
    // What was folded from the events is what is there.
    assert_eq!(bench.state(id).await, StateName::Ready);
}

pub(crate) async fn what_a_trainee_approves_waits_for_a_colleague_who_signs_beside_them(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let engine = bench.engine.clone();
    let id = waiting_note(&bench).await;
    let trainee = |n| human(n, &[Role::Clinician, Role::Trainee]);
    let (tess, tom, lee) = (trainee(30), trainee(31), clinician(20));
    assert_eq!(
        approve(&bench, &tess, id).await.unwrap(),
        StateName::AwaitingApproval
    );
    bench.deliver().await;
    assert_eq!(bench.state(id).await, StateName::AwaitingApproval);
    for (by, code) in [(&tess, "same-person"), (&tom, "in-training")] {
        let refused = approve(&bench, by, id).await.unwrap_err();
        assert_eq!(refused.code(), code);
    }
    // It stands in the inbox of those who can sign beside them, and they see who approved.
    assert_eq!(engine.turn(&tess, id).await.unwrap(), Turn::WaitsForOther);
    assert!(!engine.turn(&tom, id).await.unwrap().is_yours());
    let turn = engine.turn(&lee, id).await.unwrap();
    assert!(
        matches!(
            turn,
            Turn::Yours {
                cosign: Cosign::Theirs,
                ..
            }
        ),
        "{turn:?}"
    );
    let waiting = bench.row(id).await;
    assert_eq!(waiting.approvers, [tess.person]);
    assert_eq!(approve(&bench, &lee, id).await.unwrap(), StateName::Ready);
    bench.deliver().await;
    let delivered = bench.row(id).await;
    assert_eq!(delivered.state, StateName::Delivered);
    assert_eq!(delivered.approvers, [tess.person, lee.person]);
}

pub(crate) async fn what_a_trainee_approves_a_colleague_can_refuse(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let id = waiting_note(&bench).await;
    let tess = human(30, &[Role::Clinician, Role::Trainee]);
    approve(&bench, &tess, id).await.unwrap();
    let digest = bench.row(id).await.digest.unwrap();
    let lee = clinician(20);
    let refused = bench.engine.reject(&lee, id, digest, "not so").await;
    assert_eq!(refused.unwrap().state, StateName::Refused);
    bench.deliver().await;
    assert_eq!(bench.state(id).await, StateName::Refused);
}

pub(crate) async fn what_somebody_has_in_hand_is_taken_over_with_a_note(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let engine = bench.engine.clone();
    let id = waiting_note(&bench).await;
    let (lee, kim) = (clinician(20), clinician(21));
    let refused = engine.take_over(&kim, id, "nobody has it").await;
    assert!(matches!(refused, Err(ClaimFailed::NotHeld)));
    engine.claim(&lee, id).await.unwrap();
    for note in ["", "  x "] {
        let refused = engine.take_over(&kim, id, note).await;
        assert!(
            matches!(refused, Err(ClaimFailed::NoteNeeded)),
            "{refused:?}"
        );
    }
    let refused = engine
        .take_over(&human(22, &[Role::Rn]), id, "I am here")
        .await;
    assert!(matches!(refused, Err(ClaimFailed::NotYours)));
    engine
        .take_over(&kim, id, "Lee was called away")
        .await
        .unwrap();
    let refused = approve(&bench, &lee, id).await;
    assert!(matches!(refused, Err(DecideFailed::Claimed { holder, .. }) if holder == "person-21"));
    // The note is for whoever can decide, and rests in the vault, not in the ledger.
    let (_, note) = engine.claim_seen(&lee, id).await.unwrap().unwrap();
    assert_eq!(
        note.unwrap().into_exposed(ExposedFor::Person),
        "Lee was called away"
    );
    let refused = engine.claim_seen(&human(22, &[Role::ItAdmin]), id).await;
    assert!(matches!(refused, Err(ClaimFailed::Missing)));
    for entry in bench.recorded().await {
        let leaf = String::from_utf8(entry.to_leaf().unwrap()).unwrap();
        assert!(!leaf.contains("called away"), "{leaf}");
    }
    let events = claim_events(&bench, id).await;
    let ClaimEvent::TakenOver { from, .. } = &events[1] else {
        panic!("{events:?}");
    };
    assert!(matches!(from, ClaimHolder::Person { person, .. } if *person == lee.person));
    assert_eq!(approve(&bench, &kim, id).await.unwrap(), StateName::Ready);
}

pub(crate) async fn something_is_handed_to_who_can_decide_it_and_to_nobody_else(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let engine = bench.engine.clone();
    let admin = admin(&bench).await;
    let lee = account(&bench, &admin, new("dr-lee", None, &[Role::Clinician])).await;
    let second = new("dr-lee-two", Some(lee.person), &[Role::Clinician]);
    account(&bench, &admin, second).await;
    let kim = account(&bench, &admin, new("dr-kim", None, &[Role::Clinician])).await;
    account(&bench, &admin, new("front-desk", None, &[Role::Scheduler])).await;
    engine
        .create_account(&admin, new("not-here-yet", None, &[Role::Clinician]))
        .await
        .unwrap();
    let id = waiting_note(&bench).await;
    let choices = engine.hand_choices(&lee, id).await.unwrap();
    let names = choices.colleagues.iter().map(|one| one.account.as_str());
    let names: Vec<&str> = names.collect();
    assert_eq!(names, ["dr-kim"]);
    assert!(choices.pools.contains(&Role::Clinician) && !choices.pools.contains(&Role::Scheduler));
    let to = |name: &str| HandTo::Colleague(AccountName::new(name).unwrap());
    for wrong in [
        to("dr-lee"),
        to("dr-lee-two"),
        to("front-desk"),
        to("not-here-yet"),
        to("nobody"),
        HandTo::Pool(Role::Scheduler),
    ] {
        let refused = engine.hand_over(&lee, id, wrong.clone(), "for you").await;
        assert!(
            matches!(refused, Err(ClaimFailed::NotTheirs)),
            "{wrong:?}: {refused:?}"
        );
    }
    let refused = engine.hand_over(&lee, id, to("dr-kim"), "").await;
    assert!(matches!(refused, Err(ClaimFailed::NoteNeeded)));
    assert!(claim_events(&bench, id).await.is_empty());
    engine
        .hand_over(&lee, id, to("dr-kim"), "you know her")
        .await
        .unwrap();
    assert!(engine.claims(&kim).await.unwrap()[&id].yours);
    let refused = approve(&bench, &lee, id).await;
    assert!(matches!(refused, Err(DecideFailed::Claimed { .. })));
    let refused = engine
        .hand_over(&lee, id, HandTo::Pool(Role::Clinician), "no, all of us")
        .await;
    assert!(
        matches!(refused, Err(ClaimFailed::Held { .. })),
        "handed over is handed over"
    );
    // Back to everybody of the role, of whom one takes it.
    engine
        .hand_over(&kim, id, HandTo::Pool(Role::Clinician), "whoever is in")
        .await
        .unwrap();
    assert!(engine.claims(&lee).await.unwrap()[&id].yours);
    engine.claim(&lee, id).await.unwrap();
    assert!(!engine.claims(&kim).await.unwrap()[&id].yours);
    let refused = approve(&bench, &kim, id).await;
    assert!(matches!(refused, Err(DecideFailed::Claimed { .. })));
    assert_eq!(approve(&bench, &lee, id).await.unwrap(), StateName::Ready);
}

pub(crate) async fn nobody_decides_what_was_not_on_their_screen_for_a_while(db: Db) {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let id = waiting_note(&bench).await;
    let config = EngineConfig {
        decides_after_reading: true,
        ..EngineConfig::new(tenant(), "http://127.0.0.1:8080")
    };
    let ports = ports(bench.store.clone(), bench.ehr.clone(), bench.clock.clone());
    bench.engine = Engine::start(config, BUNDLE.clone(), ports).await.unwrap();
    let engine = bench.engine.clone();
    let (lee, kim) = (clinician(20), clinician(21));
    let digest = bench.row(id).await.digest.unwrap();
    let unread = |refused: &Result<StateName, DecideFailed>| {
        matches!(refused, Err(DecideFailed::NotRead { least_ms: 2_000 }))
    };
    // Never shown; shown to somebody else; other content shown.
    assert!(unread(&approve(&bench, &lee, id).await));
    engine.put_on_screen(&kim, &[(id, digest)]).await.unwrap();
    let other = chaperone_core::digest::Digest::of_bytes(b"before it changed");
    engine.put_on_screen(&lee, &[(id, other)]).await.unwrap();
    bench.clock.advance_s(60);
    assert!(unread(&approve(&bench, &lee, id).await));
    // Shown, and too soon, whatever the browser says; loading the page again does not start anew.
    engine.put_on_screen(&lee, &[(id, digest)]).await.unwrap();
    assert!(unread(&approve(&bench, &lee, id).await));
    let refused = engine.reject(&lee, id, digest, "not so").await;
    assert!(matches!(refused, Err(DecideFailed::NotRead { .. })));
    bench.clock.advance_ms(1_999);
    engine.put_on_screen(&lee, &[(id, digest)]).await.unwrap();
    assert!(unread(&approve(&bench, &lee, id).await));
    bench.clock.advance_ms(1);
    assert_eq!(approve(&bench, &lee, id).await.unwrap(), StateName::Ready);
    // The record says how long it really was.
    let events = bench
        .store
        .stream(&tenant(), &StreamId::Writeback(id))
        .await
        .unwrap();
    let review_ms = events.into_iter().find_map(|it| match it.event {
        Event::Writeback(WritebackEvent::Approved { approval }) => Some(approval.review_ms),
        _ => None,
    });
    assert_eq!(review_ms, Some(2_000));
}
