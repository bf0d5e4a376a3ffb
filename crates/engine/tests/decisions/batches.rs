//! Several light proposals at once: each is an approval of its own; what is grave, of another kind, unread or somebody
//! else's is not taken, and holds up nothing else. On both databases.

use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::WritebackId;
use chaperone_core::phi::ExposedFor;
use chaperone_core::ports::Clock;
use chaperone_core::principal::{Human, Role};
use chaperone_core::writeback::{StateName, WritebackEvent};
use chaperone_engine::approve::DecideFailed;
use chaperone_engine::edit::EditRequest;
use chaperone_engine::views::ViewFailed;
use chaperone_engine::{Engine, EngineConfig};
use serde_json::json;

use crate::bench::*;
use crate::reviews::waiting_note;

fn decider() -> Human {
    human(5, &[Role::MaRn])
}

/// A weight that waits for somebody of the practice.
async fn weight(bench: &Bench, n: u8) -> WritebackId {
    let agent = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
    let arguments = json!({
        "idempotency_key": format!("w{n}"), "measure": "29463-7", "value": 80.0 + f64::from(n), "unit": "kg",
        "measured_at": bench.clock.now().to_string(),
    });
    let answer = bench.call(&agent, "record_vital", arguments).await;
    assert_eq!(answer["state"], "awaiting_approval", "{answer}");
    answer["proposal"].as_str().unwrap().parse().unwrap()
}

async fn weights(bench: &Bench, count: u8) -> Vec<WritebackId> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(weight(bench, n).await);
    }
    ids
}

async fn item(bench: &Bench, id: WritebackId) -> (WritebackId, Digest) {
    (id, bench.row(id).await.digest.unwrap())
}

/// What became of each: approved, or the code of what stood against it.
async fn several(bench: &Bench, by: &Human, items: &[(WritebackId, Digest)]) -> Vec<String> {
    let done = bench
        .engine
        .approve_several(by, items, 60_000)
        .await
        .unwrap();
    let said = done.iter().map(|one| match &one.done {
        Ok(row) => row.state.to_string(),
        Err(failed) => failed.code().to_owned(),
    });
    said.collect()
}

async fn refusals(bench: &Bench) -> Vec<String> {
    let code = |event: Event| match event {
        Event::DecisionRefused { code, .. } => Some(code),
        _ => None,
    };
    let events = bench.recorded().await.into_iter();
    events.filter_map(|it| code(it.event)).collect()
}

pub(crate) async fn light_ones_of_a_kind_are_approved_each_by_itself(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let ids = weights(&bench, 3).await;
    let note = waiting_note(&bench).await;
    let shown = bench.engine.batch(&decider(), ids[0]).await.unwrap();
    let listed: Vec<_> = shown.iter().map(|it| it.id).collect();
    assert_eq!(listed.len(), 3, "{listed:?}");
    for one in &shown {
        assert!(!one.diff.expose(ExposedFor::Person).is_empty());
        assert!(
            !format!("{one:?}").contains("29463-7"),
            "nothing of it in a log"
        );
    }
    // Of others' work, and of what is decided by itself, there is no such page.
    for (by, like, count) in [
        (human(9, &[Role::Scheduler]), ids[0], 0),
        (human(3, &[Role::Clinician]), note, 0),
        (decider(), note, 0),
    ] {
        let found = bench.engine.batch(&by, like).await.unwrap();
        assert_eq!(found.len(), count, "{by:?}");
    }
    let admin = bench
        .engine
        .batch(&human(8, &[Role::ItAdmin]), ids[0])
        .await;
    assert!(matches!(admin, Err(ViewFailed::Missing)));
    // One that is refused holds up no other, and says why.
    let mut items = Vec::new();
    for id in &ids {
        items.push(item(&bench, *id).await);
    }
    items[1].1 = Digest::of_bytes(b"before it changed");
    let became = several(&bench, &decider(), &items).await;
    assert_eq!(became, ["ready", "approval-payload-mismatch", "ready"]);
    assert_eq!(refusals(&bench).await, ["approval-payload-mismatch"]);
    assert_eq!(bench.state(ids[1]).await, StateName::AwaitingApproval);
    // Each is a record of its own, with its share of the time.
    for (id, digest) in [&items[0], &items[2]] {
        let stream = StreamId::Writeback(*id);
        let events = bench.store.stream(&tenant(), &stream).await.unwrap();
        let approval = events.into_iter().find_map(|it| match it.event {
            Event::Writeback(WritebackEvent::Approved { approval }) => Some(approval),
            _ => None,
        });
        let approval = approval.unwrap();
        assert_eq!((approval.digest, approval.review_ms), (*digest, 20_000));
    }
    bench.deliver().await;
    assert_eq!(bench.state(ids[0]).await, StateName::Delivered);
    // Once more, it is not approved twice.
    let again = several(&bench, &decider(), &items[..1]).await;
    assert_eq!(again, ["not-now"]);
}

pub(crate) async fn what_is_not_light_is_decided_by_itself(db: Db) {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let ids = weights(&bench, 4).await;
    let note = waiting_note(&bench).await;
    let first = item(&bench, ids[0]).await;
    // Twice the same, and more than the bundle allows: nothing is decided.
    let too_many: Vec<_> = (0..9)
        .map(|n| (WritebackId::from_random([n; 16]), first.1))
        .collect();
    for items in [&[first, first][..], &too_many] {
        let refused = bench.engine.approve_several(&decider(), items, 1).await;
        assert!(
            matches!(refused, Err(DecideFailed::TooManyAtOnce)),
            "{refused:?}"
        );
    }
    // A note weighs more, whoever decides it.
    let both = human(3, &[Role::Clinician, Role::MaRn]);
    let items = [item(&bench, note).await];
    assert_eq!(several(&bench, &both, &items).await, ["decided-by-itself"]);
    // What a person changed is read by itself; what another has in hand is theirs; roles are as ever.
    let request = EditRequest {
        writeback: ids[1],
        digest: bench.row(ids[1]).await.digest.unwrap(),
        inputs: [("value".to_owned(), "79".to_owned())].into(),
        reason: "misread the scale".to_owned(),
    };
    let changed = bench.engine.edit(&decider(), request).await.unwrap().id;
    bench
        .engine
        .claim(&human(6, &[Role::MaRn]), ids[2])
        .await
        .unwrap();
    let items = [
        item(&bench, ids[0]).await,
        item(&bench, changed).await,
        item(&bench, ids[2]).await,
    ];
    let other = several(&bench, &human(9, &[Role::Scheduler]), &items[..1]).await;
    assert_eq!(other, ["role-not-permitted"]);
    let listed = bench.engine.batch(&decider(), ids[0]).await.unwrap();
    assert_eq!(listed.len(), 2, "neither the changed one nor the other's");
    let became = several(&bench, &decider(), &items).await;
    assert_eq!(became, ["ready", "decided-by-itself", "claimed-by-another"]);

    // Each takes its time: two of them twice as long as one.
    bench
        .engine
        .release_claim(&human(6, &[Role::MaRn]), ids[2])
        .await
        .unwrap();
    let config = EngineConfig {
        decides_after_reading: true,
        ..EngineConfig::new(tenant(), "http://127.0.0.1:8080")
    };
    let ports = ports(bench.store.clone(), bench.ehr.clone(), bench.clock.clone());
    bench.engine = Engine::start(config, BUNDLE.clone(), ports).await.unwrap();
    let items = [item(&bench, ids[2]).await, item(&bench, ids[3]).await];
    bench
        .engine
        .put_on_screen(&decider(), &items)
        .await
        .unwrap();
    bench.clock.advance_ms(3_999);
    let early = several(&bench, &decider(), &items).await;
    assert_eq!(early, ["not-read-yet", "not-read-yet"]);
    bench.clock.advance_ms(1);
    assert_eq!(
        several(&bench, &decider(), &items).await,
        ["ready", "ready"]
    );
}

#[tokio::test]
async fn a_bundle_says_what_is_decided_together_and_not_more_than_it_may() {
    let bench = bench(Strategy::Conditional).await;
    let id = weight(&bench, 0).await;
    for (from, to, starts) in [
        ("items_max = 8", "items_max = 20", true),
        ("items_max = 8", "items_max = 21", false),
        ("class_max = \"M2\"", "class_max = \"M1\"", true),
        ("class_max = \"M2\"", "class_max = \"M3\"", false),
    ] {
        let mut files = chaperone_policy::embedded::files();
        let text = files.get_mut("rules/deciding.toml").unwrap();
        assert!(text.contains(from));
        *text = text.replace(from, to);
        let config = EngineConfig::new(tenant(), "http://127.0.0.1:8080");
        let ports = ports(bench.store.clone(), bench.ehr.clone(), bench.clock.clone());
        let started = Engine::start(config, bundle(&files), ports).await;
        assert_eq!(started.is_ok(), starts, "{to}");
        if let (Ok(engine), true) = (started, to.contains("M1")) {
            assert!(engine.batch(&decider(), id).await.unwrap().is_empty());
        }
    }
}
