//! Faults on demand, in pairs: failed and lost, failed but applied.

use crate::support::{FhirBody, appointment, bench, bench_with, json_of, outcome, patient};
use chaperone_sandbox::{FaultKind, FaultRule, ServerProfile};
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn a_timeout_before_commit_loses_and_one_after_commit_applies() {
    for (kind, applied) in [
        (FaultKind::TimeoutBeforeCommit { hold_ms: 0 }, 0),
        (FaultKind::TimeoutAfterCommit { hold_ms: 0 }, 1),
    ] {
        let bench = bench(ServerProfile::Full).await;
        bench
            .handle()
            .inject(FaultRule::once("POST", "Appointment", kind));
        let lost = bench
            .request(Method::POST, "Appointment")
            .fhir(&appointment("p1", "key-1"))
            .send()
            .await;
        // The client learns nothing: no status, no body, a broken connection.
        assert!(lost.is_err());
        assert_eq!(bench.handle().requests()[0].status, None);
        assert_eq!(bench.handle().changes_by_request().len(), applied);
        let found = bench
            .ids("Appointment?identifier=urn:chaperone:writeback|key-1")
            .await;
        assert_eq!(found.len(), applied);
        // Spent: the next one goes through.
        let next = bench.post("Appointment", &appointment("p1", "key-2")).await;
        assert_eq!(next.status(), 201);
    }
}

#[tokio::test]
async fn a_held_request_is_given_up_by_the_client_and_stays_without_effect() {
    let bench = bench(ServerProfile::Full).await;
    bench.handle().inject(FaultRule::once(
        "POST",
        "Appointment",
        FaultKind::TimeoutBeforeCommit { hold_ms: 600_000 },
    ));
    let request = bench
        .request(Method::POST, "Appointment")
        .fhir(&appointment("p1", "key-1"))
        .send();
    let client = tokio::spawn(request);
    while !bench.handle().faults_pending().is_empty() {
        tokio::task::yield_now().await;
    }
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    assert!(bench.handle().changes_by_request().is_empty());
    // A request that is still held does not keep the server from stopping.
    bench.handle().inject(FaultRule::once(
        "GET",
        "Patient",
        FaultKind::Latency { ms: 600_000 },
    ));
    let client = bench.client.clone();
    let url = format!("{}/Patient?name=x", bench.running.base_url);
    let held = tokio::spawn(async move { client.get(url).send().await });
    while bench.handle().requests().len() < 2 {
        tokio::task::yield_now().await;
    }
    bench.running.stop().await;
    // Released early, it was either answered or cut.
    held.await.unwrap().ok();
}

#[tokio::test]
async fn statuses_are_answered_without_effect() {
    let bench = bench(ServerProfile::Full).await;
    let handle = bench.handle();
    handle.inject(FaultRule::once(
        "POST",
        "Appointment",
        FaultKind::Status { code: 503 },
    ));
    handle.inject(FaultRule::once(
        "POST",
        "Appointment",
        FaultKind::PreconditionFailed,
    ));
    handle.inject(FaultRule::once(
        "POST",
        "Appointment",
        FaultKind::TooManyRequests { retry_after_s: 7 },
    ));
    let booking = appointment("p1", "key-1");
    let send = || bench.post("Appointment", &booking);
    outcome(send().await, 503).await;
    outcome(send().await, 412).await;
    let busy = send().await;
    assert_eq!(busy.headers()["retry-after"], "7");
    outcome(busy, 429).await;
    assert!(bench.handle().changes_by_request().is_empty());
    // Latency only delays: the effect and the answer are the ordinary ones.
    handle.inject(FaultRule::once(
        "POST",
        "Appointment",
        FaultKind::Latency { ms: 1 },
    ));
    assert_eq!(send().await.status(), 201);
    assert!(handle.faults_pending().is_empty());
}

#[tokio::test]
async fn a_rule_strikes_only_what_it_names() {
    let bench = bench(ServerProfile::Full).await;
    bench.handle().put(&patient("p1")).unwrap();
    let rule = FaultRule::once("POST", "Appointment", FaultKind::Status { code: 500 });
    bench.handle().inject(rule.clone());
    // Neither a read, nor a search by POST, nor another type.
    assert_eq!(bench.get("Patient/p1").await.status(), 200);
    assert_eq!(bench.get("Appointment?patient=p1").await.status(), 200);
    let search = bench
        .request(Method::POST, "Appointment/_search")
        .send()
        .await
        .unwrap();
    assert_eq!(search.status(), 200);
    assert_eq!(bench.post("Patient", &patient("x")).await.status(), 201);
    assert_eq!(bench.handle().faults_pending(), [rule]);
    // But a transaction that holds such an entry, and then as a whole.
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"request": {"method": "POST", "url": "Patient"}, "resource": patient("y")},
        {"request": {"method": "POST", "url": "Appointment"},
         "resource": appointment("p1", "key-1")},
    ]});
    outcome(bench.post("", &bundle).await, 500).await;
    assert!(bench.handle().resources("Appointment").is_empty());
    assert_eq!(bench.handle().changes_by_request().len(), 1);
    bench.handle().inject(FaultRule::once(
        "POST",
        "Bundle",
        FaultKind::TimeoutAfterCommit { hold_ms: 0 },
    ));
    let applied = bench.request(Method::POST, "").fhir(&bundle).send().await;
    assert!(applied.is_err());
    assert_eq!(bench.handle().resources("Appointment").len(), 1);
}

#[tokio::test]
async fn the_control_route_injects_and_is_absent_unless_asked_for() {
    let without = bench(ServerProfile::Full).await;
    let control = without.running.base_url.replace("/fhir", "/_faults");
    outcome(without.client.get(&control).send().await.unwrap(), 404).await;

    let with = bench_with(ServerProfile::Full, |config| config.with_control_route()).await;
    let control = with.running.base_url.replace("/fhir", "/_faults");
    let post = |body: serde_json::Value| with.client.post(&control).json(&body).send();
    let injected = post(json!({
        "method": "GET",
        "resource_type": "Patient",
        "times": 2,
        "kind": {"type": "too-many-requests", "retry_after_s": 3},
    }));
    assert_eq!(injected.await.unwrap().status(), 204);
    outcome(
        post(json!({"kind": {"type": "meteor"}})).await.unwrap(),
        400,
    )
    .await;
    outcome(with.get("Patient?name=x").await, 429).await;
    let pending = json_of(with.client.get(&control).send().await.unwrap()).await;
    assert_eq!(pending[0]["times"], 1);
    let cleared = with.client.delete(&control).send().await.unwrap();
    assert_eq!(cleared.status(), 204);
    assert_eq!(with.get("Patient?name=x").await.status(), 200);
    let requests = control.replace("_faults", "_requests");
    let requests = json_of(with.client.get(requests).send().await.unwrap()).await;
    assert_eq!(requests[0]["status"], 429);
}
