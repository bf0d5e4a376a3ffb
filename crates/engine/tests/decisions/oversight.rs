//! Overseeing: what goes through alone is drawn, looked at and demoted; what people decide makes confidence count; who
//! approves too fast pauses; what waits too long is told to more people. Beside each the nearest thing that must not be.

use std::sync::Arc;

use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::Strategy;
use chaperone_core::gate::GateLevel;
use chaperone_core::ids::{AccountName, WritebackId};
use chaperone_core::oversight::{OversightEvent, PaceLimit, Verdict};
use chaperone_core::ports::{Clock, Notice};
use chaperone_core::principal::{Human, Role};
use chaperone_core::writeback::StateName;
use chaperone_engine::approve::{ApproveRequest, DecideFailed};
use chaperone_engine::open_envelope::Caller;
use chaperone_engine::oversight::{RestoreFailed, SampleFailed};
use chaperone_engine::{Engine, EngineConfig, Ports};
use chaperone_policy::Bundle;
use chaperone_testkit::{MemoryKeyVault, SeededRandom};
use serde_json::json;

use crate::bench::*;
use crate::retention::factor;

const RULES: &str = "rules/oversight.toml";
const WHY: &str = "the prompt was put right and looked at for a week";

/// The default bundle with other rules of overseeing, or another prompt.
fn changed(changes: &[(&str, &str, &str)]) -> Arc<Bundle> {
    let mut files = chaperone_policy::embedded::files();
    for (path, from, to) in changes {
        let text = files.get_mut(*path).unwrap();
        assert!(text.contains(from), "{path}: {from}");
        *text = text.replacen(from, to, 1);
    }
    bundle(&files)
}

/// Another process on the same store and keys, which draws other ids.
async fn started(
    bench: &Bench,
    keys: &Arc<MemoryKeyVault>,
    seed: u64,
    changes: &[(&str, &str, &str)],
) -> Arc<Engine> {
    let (store, ehr) = (bench.store.clone(), bench.ehr.clone());
    let ports = Ports {
        keys: keys.clone(),
        random: Arc::new(SeededRandom::new(seed)),
        ..ports(store, ehr, bench.clock.clone())
    };
    let config = EngineConfig::new(tenant(), "http://127.0.0.1:8080");
    Engine::start(config, changed(changes), ports)
        .await
        .unwrap()
}

async fn follow(engine: &Engine) {
    let followed = engine.follow_oversight(u64::MAX).await.unwrap();
    assert_eq!(followed.behind(), 0);
}

async fn happened(bench: &Bench, is: fn(&OversightEvent) -> bool) -> usize {
    let events = bench.recorded().await;
    events
        .iter()
        .filter(|it| matches!(&it.event, Event::Oversight(event) if is(event)))
        .count()
}

/// A task for people: nobody agrees to it first.
async fn task(bench: &Bench, key: &str) -> WritebackId {
    let agent = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
    bench.task(&agent, key, json!([])).await.id
}

async fn delivered(bench: &Bench, key: &str) -> WritebackId {
    let id = task(bench, key).await;
    for _ in 0..3 {
        bench.deliver().await;
    }
    assert_eq!(bench.state(id).await, StateName::Delivered);
    id
}

/// A weight that the patient reports.
async fn weight(bench: &Bench, key: &str, confidence: Option<f64>) -> WritebackId {
    let agent: Caller = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
    let at = bench.clock.now().to_string();
    let mut arguments = json!({
        "idempotency_key": key, "measure": "29463-7", "value": 80.0, "unit": "kg", "measured_at": at,
    });
    if let Some(confidence) = confidence {
        arguments["confidence"] = json!(confidence);
    }
    let answer = bench.call(&agent, "record_vital", arguments).await;
    answer["proposal"].as_str().unwrap().parse().unwrap()
}

async fn level(bench: &Bench, id: WritebackId) -> GateLevel {
    bench.row(id).await.gate.unwrap().level()
}

async fn approve(
    bench: &Bench,
    by: &Human,
    id: WritebackId,
    review_ms: u64,
) -> Result<(), DecideFailed> {
    let request = ApproveRequest {
        writeback: id,
        digest: bench.row(id).await.digest.unwrap(),
        step_up: None,
        override_reason: None,
        review_ms,
    };
    bench.engine.approve(by, request).await.map(|_| ())
}

pub(crate) async fn what_people_find_wrong_is_no_longer_let_through_alone(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let rn = human(6, &[Role::Rn]);
    let mut ids = Vec::new();
    for key in ["1", "2", "3", "4", "5"] {
        ids.push(delivered(&bench, key).await);
    }
    let not_yet = bench
        .engine
        .review_sample(&rn, ids[0], Verdict::Agree, "")
        .await;
    assert!(matches!(not_yet, Err(SampleFailed::Missing)));
    follow(&bench.engine).await;
    let waiting = bench.engine.oversight(Some(&rn)).await.unwrap().waiting;
    assert_eq!(waiting.len(), 5);
    // Who asked for it is not shown it, and cannot judge it; nor can who decides nothing clinical.
    assert!(
        bench
            .engine
            .oversight(Some(&nurse()))
            .await
            .unwrap()
            .waiting
            .is_empty()
    );
    let review = async |by: &Human, id, verdict, reason: &str| {
        bench.engine.review_sample(by, id, verdict, reason).await
    };
    let own = review(&nurse(), ids[0], Verdict::Agree, "").await;
    assert!(matches!(own, Err(SampleFailed::SamePerson)));
    let operator = human(7, &[Role::ItAdmin]);
    let refused = review(&operator, ids[0], Verdict::Agree, "").await;
    assert!(matches!(refused, Err(SampleFailed::NotPermitted)));
    let silent = review(&rn, ids[0], Verdict::Disagree, " ").await;
    assert!(matches!(silent, Err(SampleFailed::ReasonNeeded)));

    for id in &ids[..4] {
        review(&rn, *id, Verdict::Disagree, "nobody asked for this")
            .await
            .unwrap();
    }
    let twice = review(&human(8, &[Role::Rn]), ids[0], Verdict::Agree, "").await;
    assert!(matches!(twice, Err(SampleFailed::Already)));
    follow(&bench.engine).await;
    let sixth = task(&bench, "6").await;
    assert_eq!(level(&bench, sixth).await, GateLevel::Auto);

    // The fifth of two hundred is more than two percent.
    review(&rn, ids[4], Verdict::Disagree, "nobody asked for this")
        .await
        .unwrap();
    follow(&bench.engine).await;
    let demoted = bench.engine.oversight(None).await.unwrap().demoted;
    assert_eq!(demoted.len(), 1);
    let row = demoted[0].combination.row.as_ref().unwrap();
    assert_eq!((row.as_str(), demoted[0].disagreed), ("task-request", 5));
    let notices = bench.notices().await;
    assert!(
        notices
            .iter()
            .any(|it| matches!(it, Notice::OperatorNeeded { code, .. } if code == "row-demoted"))
    );
    let held = task(&bench, "7").await;
    assert_eq!(bench.state(held).await, StateName::AwaitingApproval);
    let ruled = bench
        .engine
        .replay(held, bench.engine.bundle())
        .await
        .unwrap();
    assert!(ruled.is_same());
    assert!(
        ruled
            .recorded
            .raised_by
            .iter()
            .any(|it| it.as_str() == "demoted")
    );
    // Another intent is another combination.
    let other = bench
        .caller(&nurse(), "refill-agent", "refill-request", "p1")
        .await;
    let other = bench.task(&other, "other", json!([])).await;
    assert_eq!(other.gate.unwrap().level(), GateLevel::Auto);

    // Folded anew, the counts are what they were, and nothing is drawn or demoted a second time.
    let before = bench.engine.oversight(None).await.unwrap();
    let acted = |event: &OversightEvent| {
        matches!(
            event,
            OversightEvent::Sampled | OversightEvent::Demoted { .. }
        )
    };
    let acts = happened(&bench, acted).await;
    bench.engine.rebuild_projections().await.unwrap();
    follow(&bench.engine).await;
    assert_eq!(bench.engine.oversight(None).await.unwrap(), before);
    assert_eq!(happened(&bench, acted).await, acts);
    let agreement = chaperone_engine::projection::examine(bench.store.as_ref(), &tenant())
        .await
        .unwrap();
    assert!(agreement.is_whole(), "{agreement:?}");
    assert_eq!(
        level(&bench, task(&bench, "8").await).await,
        GateLevel::Approve
    );

    restored(&bench, demoted[0].key).await;
    assert_eq!(
        level(&bench, task(&bench, "9").await).await,
        GateLevel::Auto
    );
    follow(&bench.engine).await;
    assert!(
        bench
            .engine
            .oversight(None)
            .await
            .unwrap()
            .demoted
            .is_empty()
    );
}

/// A row comes back by the right person, with a reason and a factor for exactly this; and by nobody else.
async fn restored(bench: &Bench, row: Digest) {
    let (store, clock) = (bench.store.as_ref(), bench.clock.as_ref());
    let clinician = human(9, &[Role::Clinician]);
    let digest = bench.engine.restore_digest(&row, WHY).await.unwrap();
    let restore = async |by: &Human, digest, reason: &str| {
        let step_up = factor(store, clock, by, digest).await;
        bench.engine.restore_row(by, &row, reason, step_up).await
    };
    let nurse = restore(&nurse(), digest, WHY).await;
    assert!(matches!(nurse, Err(RestoreFailed::NotPermitted)));
    let short = restore(&clinician, digest, "fine").await;
    assert!(matches!(short, Err(RestoreFailed::ReasonNeeded)));
    let other = restore(&clinician, Digest::of_bytes(b"other"), WHY).await;
    assert!(matches!(other, Err(RestoreFailed::StepUp)));
    let other_words = restore(&clinician, digest, "because I was told to do so").await;
    assert!(matches!(other_words, Err(RestoreFailed::StepUp)));
    assert_eq!(bench.engine.oversight(None).await.unwrap().demoted.len(), 1);
    restore(&clinician, digest, WHY).await.unwrap();
    let again = restore(&clinician, digest, WHY).await;
    assert!(matches!(again, Err(RestoreFailed::Missing)));
    assert_eq!(
        happened(bench, |it| matches!(it, OversightEvent::Restored { .. })).await,
        1
    );
}

pub(crate) async fn who_agrees_lets_it_go_on_and_only_a_share_is_drawn(db: Db) {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let keys = Arc::new(MemoryKeyVault::new(1));
    let none = [
        (RULES, "per_ten_thousand = 500", "per_ten_thousand = 0"),
        (RULES, "weekly_min = 20", "weekly_min = 2"),
    ];
    bench.engine = started(&bench, &keys, 11, &none).await;
    for key in ["1", "2", "3", "4"] {
        delivered(&bench, key).await;
    }
    // What people agreed to before is not looked at afterwards.
    let seen = weight(&bench, "seen", None).await;
    approve(&bench, &human(5, &[Role::MaRn]), seen, 5_000)
        .await
        .unwrap();
    for _ in 0..3 {
        bench.deliver().await;
    }
    follow(&bench.engine).await;
    follow(&bench.engine).await;
    let rn = human(6, &[Role::Rn]);
    let waiting = bench.engine.oversight(Some(&rn)).await.unwrap().waiting;
    assert_eq!(waiting.len(), 2);
    for sample in &waiting {
        bench
            .engine
            .review_sample(&rn, sample.writeback, Verdict::Agree, "")
            .await
            .unwrap();
    }
    follow(&bench.engine).await;
    let view = bench.engine.oversight(Some(&rn)).await.unwrap();
    assert!(view.waiting.is_empty() && view.demoted.is_empty());
    let all = view
        .tallies
        .iter()
        .find(|it| {
            it.combination.row.is_none() && it.tool.as_ref().unwrap().as_str() == "create_task"
        })
        .unwrap();
    assert_eq!((all.right, all.wrong, all.confidence_pct), (2, 0, None));
}

pub(crate) async fn confidence_counts_once_people_have_borne_it_out(db: Db) {
    const ENOUGH: u8 = 35;
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let keys = Arc::new(MemoryKeyVault::new(1));
    let rules = [
        (RULES, "\ndecisions_min = 50", "\ndecisions_min = 35"),
        (RULES, "\nweekly_min = 20", "\nweekly_min = 0"),
    ];
    bench.engine = started(&bench, &keys, 11, &rules).await;
    // An agent that is sure of itself gets nothing by it.
    let sure = weight(&bench, "sure", Some(1.0)).await;
    assert_eq!(level(&bench, sure).await, GateLevel::Approve);
    // A quick approval shows that nobody looked.
    approve(&bench, &human(5, &[Role::MaRn]), sure, 1_499)
        .await
        .unwrap();
    for n in 0..ENOUGH {
        let id = weight(&bench, &format!("w{n}"), None).await;
        assert_eq!(level(&bench, id).await, GateLevel::Approve, "{n}");
        approve(&bench, &human(100 + n, &[Role::MaRn]), id, 5_000)
            .await
            .unwrap();
        if n + 2 >= ENOUGH {
            follow(&bench.engine).await;
        }
    }
    // What it did well with one tool says nothing of another.
    let view = bench.engine.oversight(None).await.unwrap();
    let borne_out: Vec<_> = view
        .tallies
        .iter()
        .filter_map(|it| Some((it.tool.as_ref()?.as_str(), it.confidence_pct?)))
        .collect();
    assert_eq!(borne_out, [("record_vital", 90)]);
    let alone = weight(&bench, "alone", None).await;
    assert_eq!(level(&bench, alone).await, GateLevel::AutoVerified);
    let replayed = bench
        .engine
        .replay(alone, bench.engine.bundle())
        .await
        .unwrap();
    assert!(replayed.is_same());
    // What it claims can only take away.
    let sure = weight(&bench, "sure again", Some(1.0)).await;
    assert_eq!(level(&bench, sure).await, GateLevel::AutoVerified);
    for (key, claim) in [("less", 0.89), ("unsure", 0.3)] {
        let id = weight(&bench, key, Some(claim)).await;
        assert_eq!(level(&bench, id).await, GateLevel::Approve, "{key}");
    }
    // Another prompt starts with nothing.
    let mut next = rules.to_vec();
    next.push(("agents/intake-agent.toml", "intake@3", "intake@4"));
    let other_prompt = started(&bench, &keys, 12, &next).await;
    let engine = std::mem::replace(&mut bench.engine, other_prompt);
    let other = weight(&bench, "other prompt", None).await;
    assert_eq!(level(&bench, other).await, GateLevel::Approve);
    bench.engine = engine;
    // One that a person says no to, and it is borne out no longer.
    let wrong = weight(&bench, "wrong", Some(0.5)).await;
    let digest = bench.row(wrong).await.digest.unwrap();
    let says_no = human(5, &[Role::MaRn]);
    bench
        .engine
        .reject(&says_no, wrong, digest, "misread")
        .await
        .unwrap();
    follow(&bench.engine).await;
    let after = weight(&bench, "after", None).await;
    assert_eq!(level(&bench, after).await, GateLevel::Approve);
}

pub(crate) async fn who_approves_too_fast_pauses_and_nothing_else_does(db: Db) {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let keys = Arc::new(MemoryKeyVault::new(1));
    bench.engine = started(&bench, &keys, 10, &[]).await;
    let hasty = human(5, &[Role::MaRn]);
    let mut ids = Vec::new();
    for n in 0..12 {
        ids.push(weight(&bench, &format!("w{n}"), None).await);
    }
    for id in &ids[..9] {
        approve(&bench, &hasty, *id, 1_000).await.unwrap();
    }
    let tenth = approve(&bench, &hasty, ids[9], 1_000).await;
    assert!(matches!(tenth, Err(DecideFailed::Pause { .. })));
    assert_eq!(bench.state(ids[9]).await, StateName::AwaitingApproval);
    let paused = bench.recorded().await;
    let paused: Vec<_> = paused
        .iter()
        .filter_map(|it| match &it.event {
            Event::Oversight(OversightEvent::Paused {
                limit, approvals, ..
            }) => Some((it.stream.clone(), *limit, *approvals)),
            _ => None,
        })
        .collect();
    let account = StreamId::Account(hasty.account.clone());
    assert_eq!(paused, [(account, PaceLimit::TooFast, 10)]);
    // However long they look now, and under whichever account.
    let slow = approve(&bench, &hasty, ids[9], 60_000).await;
    assert!(matches!(slow, Err(DecideFailed::Pause { .. })));
    let second = Human {
        account: AccountName::new("person-5-too").unwrap(),
        ..hasty.clone()
    };
    let second = approve(&bench, &second, ids[9], 60_000).await;
    assert!(matches!(second, Err(DecideFailed::Pause { .. })));
    // Somebody else may, and saying no is nobody's too much.
    approve(&bench, &human(6, &[Role::MaRn]), ids[9], 5_000)
        .await
        .unwrap();
    let digest = bench.row(ids[10]).await.digest.unwrap();
    bench
        .engine
        .reject(&hasty, ids[10], digest, "misread")
        .await
        .unwrap();
    // What is urgent is not held up.
    let urgent = [(RULES, "urgent_from = \"M4\"", "urgent_from = \"M2\"")];
    bench.engine = started(&bench, &keys, 11, &urgent).await;
    let now = weight(&bench, "urgent", None).await;
    approve(&bench, &hasty, now, 1_000).await.unwrap();
    bench.engine = started(&bench, &keys, 12, &[]).await;
    bench.clock.advance_s(300);
    let later = weight(&bench, "later", None).await;
    approve(&bench, &hasty, later, 5_000).await.unwrap();
}

pub(crate) async fn what_waits_too_long_is_told_once_and_can_still_be_decided(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let id = weight(&bench, "w", None).await;
    let steps = async || {
        let events = bench.recorded().await;
        events
            .iter()
            .filter_map(|it| match &it.event {
                Event::Oversight(OversightEvent::Overdue { step, roles }) => {
                    Some((*step, roles.clone()))
                }
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    bench.clock.advance_s(14_399);
    bench.deliver().await;
    assert_eq!(steps().await, []);
    bench.clock.advance_s(1);
    for _ in 0..3 {
        bench.deliver().await;
    }
    assert_eq!(steps().await, [(1, vec![Role::Rn, Role::Clinician])]);
    // Being told is no right to decide.
    let told = approve(&bench, &human(6, &[Role::Rn]), id, 5_000).await;
    assert!(matches!(told, Err(DecideFailed::Refused(_))));
    assert_eq!(bench.state(id).await, StateName::AwaitingApproval);
    let agreement = chaperone_engine::projection::examine(bench.store.as_ref(), &tenant())
        .await
        .unwrap();
    assert!(agreement.is_whole(), "{agreement:?}");
    bench.clock.advance_s(24 * 3_600 - 14_400);
    bench.deliver().await;
    assert_eq!(bench.state(id).await, StateName::Refused);
    assert_eq!(steps().await.len(), 1);
}
