//! What is refused before anything else happens: strangers without end, production, foreign hits.

use std::sync::Arc;

use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::ConnectionId;
use chaperone_core::ports::Environment;
use chaperone_engine::context::StartFailed;
use chaperone_engine::errors::CallError;
use chaperone_engine::{Engine, EngineConfig};
use chaperone_testkit::FakeEhr;
use serde_json::{Value, json};

use crate::bench::*;

pub(crate) async fn strangers_cannot_fill_the_ledger(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let knock = async |error: fn() -> CallError, times: u32| {
        for _ in 0..times {
            let correlation = bench.engine.correlation();
            let refused = bench.engine.refuse(None, error(), correlation).await;
            assert!(refused.recorded);
        }
    };
    let recorded = async || {
        let events = bench
            .store
            .stream(&tenant(), &StreamId::Refusals)
            .await
            .unwrap();
        let mut counted = Vec::new();
        let mut single = 0;
        for recorded in events {
            match recorded.event {
                Event::RefusalsCounted { code, count, .. } => counted.push((code, count)),
                Event::CallRefused(_) => single += 1,
                other => panic!("{other:?}"),
            }
        }
        (single, counted)
    };
    knock(CallError::no_token, 500).await;
    // Another kind has a share of its own, and below it nothing is only counted.
    knock(CallError::bad_token, 20).await;
    bench.engine.record_counted_refusals(false).await.unwrap();
    assert_eq!(recorded().await, (40, Vec::new()));
    bench.clock.advance_s(60);
    bench.engine.record_counted_refusals(false).await.unwrap();
    assert_eq!(recorded().await, (40, vec![("no-token".to_owned(), 480)]));
    // The next minute begins anew; a stop does not wait for its end.
    knock(CallError::no_token, 21).await;
    bench.engine.record_counted_refusals(true).await.unwrap();
    let (single, counted) = recorded().await;
    assert_eq!((single, counted[1].1), (60, 1));
}

#[tokio::test]
async fn an_engine_does_not_start_on_a_production_connection() {
    let bench = bench(Strategy::Conditional).await;
    for (environment, starts) in [
        (Environment::Sandbox, true),
        (Environment::Test, true),
        (Environment::Production, false),
    ] {
        let ehr = FakeEhr::new(ConnectionId::new("fake").unwrap()).declared(environment);
        let ports = ports(bench.store.clone(), Arc::new(ehr), bench.clock.clone());
        let config = EngineConfig::new(tenant(), "http://127.0.0.1:8080");
        match Engine::start(config, BUNDLE.clone(), ports).await {
            Ok(_) => assert!(starts, "{environment:?}"),
            Err(StartFailed::ProductionRefused(_)) => assert!(!starts, "{environment:?}"),
            Err(other) => panic!("{other}"),
        }
    }
}

fn weight(id: &str, subject: &str) -> Value {
    json!({
        "resourceType": "Observation", "id": id, "status": "final",
        "category": [{ "coding": [{ "code": "vital-signs" }] }],
        "code": { "coding": [{ "system": "http://loinc.org", "code": "29463-7" }] },
        "subject": { "reference": format!("Patient/{subject}") },
        // By this the EHR here takes it for the first patient's, whoever's it is.
        "patient": { "reference": "Patient/p1" },
    })
}

#[tokio::test]
async fn one_foreign_hit_empties_the_answer() {
    let bench = bench(Strategy::Conditional).await;
    let agent = bench
        .caller(&nurse(), "order-agent", "chart-summary", "p1")
        .await;
    for id in ["o1", "o2", "o3"] {
        bench.ehr.put(weight(id, "p1"));
    }
    let own = bench.call(&agent, "list_recent_vitals", json!({})).await;
    assert_eq!(own["resources"].as_array().unwrap().len(), 3);
    bench.ehr.put(weight("o4", "p2"));
    let correlation = bench.engine.correlation();
    let answer = bench
        .engine
        .call(
            &agent,
            "list_recent_vitals",
            Default::default(),
            correlation,
        )
        .await;
    assert_eq!(answer.unwrap_err().code, CallError::ehr_unusable().code);
}

#[tokio::test]
async fn an_agent_is_shown_as_many_as_it_asked_for_and_told_of_more() {
    let bench = bench(Strategy::Conditional).await;
    let agent = bench
        .caller(&nurse(), "order-agent", "chart-summary", "p1")
        .await;
    for number in 0..6 {
        bench.ehr.put(weight(&format!("o{number}"), "p1"));
    }
    for (asked, shown, more) in [
        (json!({}), 5, true),
        (json!({ "count": 2 }), 2, true),
        (json!({ "count": 6 }), 6, false),
    ] {
        let answer = bench.call(&agent, "list_recent_vitals", asked).await;
        assert_eq!(answer["resources"].as_array().unwrap().len(), shown);
        assert_eq!(answer["more"], more);
    }
}

#[tokio::test]
async fn every_placeholder_of_a_query_value_is_filled() {
    let bench = bench(Strategy::Conditional).await;
    let mut files = chaperone_policy::embedded::files();
    let tool = files.get_mut("tools/find_slots.toml").unwrap();
    *tool = tool.replace(
        "start=lt{until}",
        "start=lt{until}&identifier={from}|{until}",
    );
    let engine = start(
        &bundle(&files),
        bench.store.clone(),
        bench.ehr.clone(),
        bench.clock.clone(),
    )
    .await;
    let bench = Bench { engine, ..bench };
    let (from, until) = ("2031-03-01T00:00:00Z", "2031-03-09T00:00:00Z");
    for (id, value) in [("s1", until), ("s2", "{until}")] {
        bench.ehr.put(json!({
            "resourceType": "Slot", "id": id, "status": "free",
            "identifier": [{ "system": from, "value": value }],
            "start": "2031-03-03T09:00:00Z", "end": "2031-03-03T09:30:00Z",
        }));
    }
    let desk = human(4, &[chaperone_core::principal::Role::Scheduler]);
    let agent = bench
        .caller(&desk, "scheduler-agent", "schedule-appointment", "p1")
        .await;
    let found = bench
        .call(
            &agent,
            "find_slots",
            json!({ "from": from, "until": until }),
        )
        .await;
    assert_eq!(found["resources"].as_array().unwrap().len(), 1);
}
