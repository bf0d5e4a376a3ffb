//! What consent does to work that waits: at night, and on another node of the same installation.

use std::sync::Arc;

use chaperone_core::evidence::Strategy;
use chaperone_core::writeback::{StateName, VoidReason};
use chaperone_engine::{Engine, EngineConfig, Ports};
use chaperone_testkit::MemoryKeyVault;
use serde_json::json;

use crate::bench::*;
use crate::consents::*;

pub(crate) async fn a_text_waits_for_the_morning_and_holds_up_nothing_else(db: Db) {
    // It is noon in London: seven in New York, and two at night in Honolulu.
    let bench = talking(db, Strategy::Conditional).await;
    bench.ehr.put(wish("k1", "p1", "permit", "sms"));
    let caller = bench
        .caller(&nurse(), "intake-agent", "patient-message", "p1")
        .await;
    let text = message(&bench, &caller, "1", "sms").await.unwrap();
    let portal = message(&bench, &caller, "2", "portal").await.unwrap();
    approve(&bench, text).await;
    let note = approved_note(&bench).await;
    for _ in 0..3 {
        bench.deliver().await;
    }
    assert_eq!(bench.state(text).await, StateName::Ready);
    // What belongs into the record does not wait with it.
    assert_eq!(bench.state(note).await, StateName::Delivered);
    // Nobody knows where the patient lives, so it waits until it is day everywhere.
    bench.clock.advance_s(6 * 3_600 - 60);
    show(&bench.engine, &bench.ehr).await;
    bench.deliver().await;
    assert_eq!(bench.state(text).await, StateName::Ready);
    bench.clock.advance_s(60);
    bench.deliver().await;
    assert_eq!(bench.state(text).await, StateName::Delivered);
    // Nobody is disturbed by the portal, whatever the hour.
    bench.clock.advance_s(10 * 3_600);
    show(&bench.engine, &bench.ehr).await;
    approve(&bench, portal).await;
    bench.deliver().await;
    assert_eq!(bench.state(portal).await, StateName::Delivered);
}

pub(crate) async fn a_message_that_the_patient_should_not_get_is_refused(db: Db) {
    let bench = talking(db, Strategy::Conditional).await;
    let patient = |born: Option<&str>| {
        let mut patient = json!({ "resourceType": "Patient", "id": "p1" });
        if let Some(born) = born {
            patient["birthDate"] = json!(born);
        }
        patient
    };
    let caller = bench
        .caller(&nurse(), "intake-agent", "patient-message", "p1")
        .await;
    // Today is 1 January 2030.
    for (key, born, expected) in [
        ("1", Some("2011-12-30"), true),
        ("2", Some("2012-01-02"), false),
        ("3", Some("2012"), false),
        ("4", None, false),
    ] {
        bench.ehr.put(patient(born));
        let said = message(&bench, &caller, key, "portal").await;
        assert_eq!(said.is_ok(), expected, "{born:?}: {said:?}");
    }
    let because = grounds(&bench).await;
    let minors = because
        .iter()
        .filter(|it| *it == "consent-denied contact-minor");
    assert_eq!(minors.count(), 3, "{because:?}");
}

pub(crate) async fn a_withdrawal_told_to_one_node_voids_the_queue_of_all_and_is_seen_by_all_within_a_minute(
    db: Db,
) {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    bench.ehr.put(problem("c1", None));
    let keys = Arc::new(MemoryKeyVault::new(1));
    let node = async |bench: &Bench, name: &str| {
        let config = EngineConfig {
            event_sources: event_sources(),
            node: name.to_owned(),
            ..EngineConfig::new(tenant(), "http://127.0.0.1:8080")
        };
        let ports = Ports {
            keys: keys.clone(),
            ..ports(bench.store.clone(), bench.ehr.clone(), bench.clock.clone())
        };
        Engine::start(config, BUNDLE.clone(), ports).await.unwrap()
    };
    let first = node(&bench, "node-1").await;
    let second = node(&bench, "node-2").await;
    bench.engine = Arc::clone(&first);
    show(&bench.engine, &bench.ehr).await;

    let reader = reader(&bench).await;
    assert_eq!(problems(&bench, &reader).await, Ok(1));
    let queued = approved_note(&bench).await;
    bench.engine = second;
    assert_eq!(problems(&bench, &reader).await, Ok(1));
    // The second node hears of it. The queue is one, and what is void in it is void for all.
    bench.ehr.put(refusal("k1", "p1"));
    announce_change(&bench, "Consent/k1").await;
    assert_eq!(bench.row(queued).await.void, Some(VoidReason::Consent));
    assert_eq!(problems(&bench, &reader).await, Err("consent-denied"));
    // The first one goes by what it keeps, for a minute at most, and sends nothing meanwhile.
    bench.engine = first;
    assert_eq!(problems(&bench, &reader).await, Ok(1));
    bench.deliver().await;
    assert!(bench.ehr.written().is_empty());
    bench.clock.advance_s(60);
    assert_eq!(problems(&bench, &reader).await, Err("consent-denied"));
}
