//! Rulings once more: the same question gives the same answer, and another bundle flips what it says and nothing else.

use std::collections::BTreeMap;

use chaperone_core::evidence::{RulingRecord, Strategy};
use chaperone_core::gate::{Gate, GateLevel};
use chaperone_core::ids::WritebackId;
use chaperone_engine::audit::Span;
use chaperone_engine::replay::{Flip, OtherRuling, ReplayFailed, Retried};
use chaperone_policy::{Bundle, embedded};
use serde_json::json;

use crate::bench::*;

/// A task from a clean context, and one from a tainted context.
async fn ruled(bench: &Bench) -> [WritebackId; 2] {
    bench.ehr.put(json!({
        "resourceType": "DocumentReference", "id": "d1", "status": "current",
        "subject": { "reference": "Patient/p1" },
    }));
    let nurse = nurse();
    let reader = bench
        .caller(&nurse, "order-agent", "chart-summary", "p1")
        .await;
    let read = bench.call(&reader, "list_documents", json!({})).await;
    let document = read["resources"][0]["id"].clone();
    let agent = bench
        .caller(&nurse, "refill-agent", "refill-request", "p1")
        .await;
    let clean = bench.task(&agent, "clean", json!([])).await;
    let tainted = bench.task(&agent, "tainted", json!([document])).await;
    assert_eq!(clean.gate.map(|gate| gate.level()), Some(GateLevel::Auto));
    assert_eq!(
        tainted.gate.map(|gate| gate.level()),
        Some(GateLevel::Approve)
    );
    [clean.id, tainted.id]
}

/// The default bundle after some replacements, each of which must be found.
fn changed(changes: &[(&str, &str, &str)]) -> Bundle {
    let mut files = embedded::files();
    for (file, from, to) in changes {
        let text = files.get_mut(*file).unwrap();
        assert!(text.contains(from), "{file}: {from}");
        *text = text.replace(from, to);
    }
    Bundle::load(&files).unwrap()
}

fn newer() -> Bundle {
    changed(&[("bundle.toml", "version = \"1.0.0\"", "version = \"1.0.1\"")])
}

/// Work for a human needs a human's approval.
fn stricter() -> Bundle {
    const CASES: &str = "policies/cases/administration.json";
    const ALONE: &str = "\"gate\": \"auto\", \"class\": \"M0\", \"policies\": [\"task-request\"]";
    const SEEN: &str = "\"gate\": \"approve(scheduler or ma_rn)\", \"class\": \"M0\", \"policies\": [\"task-request\"]";
    changed(&[
        (
            "policies/matrix-administration.cedar",
            "@id(\"task-request\") @row(\"23\") @class(\"M0\")\n@gate(\"auto\")",
            "@id(\"task-request\") @row(\"23\") @class(\"M0\")\n@gate(\"approve\")",
        ),
        (CASES, ALONE, SEEN),
        ("policies/cases/pairs.json", ALONE, SEEN),
        (
            CASES,
            "\"policies\": [\"task-request\"], \"raised_by\": [\"tainted\"]",
            "\"policies\": [\"task-request\"]",
        ),
    ])
}

async fn backtested(bench: &Bench, bundle: &Bundle, span: Span) -> BTreeMap<WritebackId, Retried> {
    let mut told = BTreeMap::new();
    bench
        .engine
        .backtest(bundle, span, |it| {
            assert!(told.insert(it.writeback, it).is_none());
        })
        .await
        .unwrap();
    told
}

pub(crate) async fn a_ruling_is_the_same_when_it_is_asked_again(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    for id in ruled(&bench).await {
        let replayed = bench
            .engine
            .replay(id, bench.engine.bundle())
            .await
            .unwrap();
        assert!(replayed.is_same(), "{replayed:?}");
        // Another bundle does not answer for the one that ruled, even where it would say the same.
        let other = bench.engine.replay(id, &newer()).await;
        assert!(matches!(other, Err(ReplayFailed::OtherBundle { .. })));
    }
    let unknown = WritebackId::from_random([9; 16]);
    let missing = bench.engine.replay(unknown, bench.engine.bundle()).await;
    assert!(matches!(missing, Err(ReplayFailed::Missing)));
}

pub(crate) async fn another_bundle_flips_what_it_rules_otherwise(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let [clean, tainted] = ruled(&bench).await;
    let before = bench.recorded().await.len();

    let told = backtested(&bench, &newer(), Span::default()).await;
    assert!(told.values().all(|it| it.flip() == Flip::Same), "{told:?}");
    assert_eq!(told.len(), 2);

    let told = backtested(&bench, &stricter(), Span::default()).await;
    assert_eq!(told[&clean].flip(), Flip::Stricter);
    // It needed a human already.
    assert_eq!(told[&tainted].flip(), Flip::Same);

    // An agent that may no longer ask gets no ruling at all.
    let narrower = changed(&[(
        "agents/refill-agent.toml",
        "intents = [\"refill-request\", \"refill-protocol\"]",
        "intents = [\"intake\"]",
    )]);
    let told = backtested(&bench, &narrower, Span::default()).await;
    assert_eq!(told[&clean].other, OtherRuling::NotDeclared);
    assert_eq!(told[&clean].flip(), Flip::Stricter);

    // Outside of the span nothing is asked, and nothing was recorded by asking.
    let now = bench.engine.now();
    let later = Span {
        from: now.checked_add(jiff::SignedDuration::from_secs(1)).ok(),
        to: None,
    };
    assert!(backtested(&bench, &stricter(), later).await.is_empty());
    assert_eq!(bench.recorded().await.len(), before);
}

#[tokio::test]
async fn flips_have_directions() {
    let bench = bench(Strategy::Conditional).await;
    let [clean, tainted] = ruled(&bench).await;
    let told = backtested(&bench, &newer(), Span::default()).await;
    let with = |id, change: &dyn Fn(&mut RulingRecord)| {
        let mut it: Retried = told[&id].clone();
        let OtherRuling::Ruled(after) = &mut it.other else {
            panic!("it was ruled on");
        };
        change(after);
        it.flip()
    };
    assert_eq!(with(tainted, &|_| ()), Flip::Same);
    assert_eq!(with(tainted, &|it| it.gate = Gate::Auto), Flip::Weaker);
    assert_eq!(with(clean, &|it| it.gate = Gate::Deny), Flip::Stricter);
    let people = |it: &mut RulingRecord| {
        it.gate = Gate::Approve {
            roles: [chaperone_core::principal::Role::Him].into(),
        };
    };
    assert_eq!(with(tainted, &people), Flip::Other);
    // Reasons and rows may differ without anybody noticing it in practice.
    assert_eq!(with(tainted, &|it| it.reasons.clear()), Flip::Same);
    let mut unknown = told[&clean].clone();
    unknown.other = OtherRuling::Unknown("gone");
    assert_eq!(unknown.flip(), Flip::Unknown);
}
