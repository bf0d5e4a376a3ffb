//! JSON Patch on an instance and in transactions: what is applied, and each thing that is refused with nothing changed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chaperone_sandbox::{FaultKind, FaultRule, ServerProfile};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::{Bench, appointment, bench, json_of, outcome, patient};

const JSON_PATCH: &str = "application/json-patch+json";

async fn booked(profile: ServerProfile) -> Bench {
    let bench = bench(profile).await;
    let mut booked = appointment("p1", "key-1");
    booked["id"] = json!("a1");
    bench.handle().put(&booked).unwrap();
    bench
}

async fn patch(bench: &Bench, path: &str, etag: Option<&str>, patch: &Value) -> Response {
    let mut request = bench
        .request(Method::PATCH, path)
        .header("content-type", JSON_PATCH)
        .body(patch.to_string());
    if let Some(etag) = etag {
        request = request.header("if-match", etag);
    }
    request.send().await.unwrap()
}

fn cancel() -> Value {
    json!([
        { "op": "test", "path": "/status", "value": "booked" },
        { "op": "replace", "path": "/status", "value": "cancelled" },
    ])
}

fn entry(patch: &Value, etag: &str) -> Value {
    json!({
        "resource": { "resourceType": "Binary", "contentType": JSON_PATCH,
                      "data": STANDARD.encode(patch.to_string()) },
        "request": { "method": "PATCH", "url": "Appointment/a1", "ifMatch": etag },
    })
}

fn transaction(entries: &[Value]) -> Value {
    json!({ "resourceType": "Bundle", "type": "transaction", "entry": entries })
}

#[tokio::test]
async fn a_patch_changes_what_it_names_under_the_version_it_was_made_for() {
    for profile in [ServerProfile::Full, ServerProfile::Patching] {
        let bench = booked(profile).await;
        let before = bench.handle().resource("Appointment", "a1").unwrap();
        let stale = patch(&bench, "Appointment/a1", Some("W/\"9\""), &cancel()).await;
        assert_eq!(outcome(stale, 412).await, "conflict");
        let done = patch(&bench, "Appointment/a1", Some("W/\"1\""), &cancel()).await;
        assert_eq!(done.status(), 200);
        assert_eq!(done.headers()["etag"], "W/\"2\"");
        let now = json_of(done).await;
        assert_eq!(now["status"], "cancelled");
        assert_eq!(now["meta"]["versionId"], "2");
        for kept in ["identifier", "start", "end", "participant"] {
            assert_eq!(now[kept], before[kept], "{kept}");
        }
        // Its test no longer holds, and nothing of it takes effect.
        let again = patch(&bench, "Appointment/a1", None, &cancel()).await;
        assert_eq!(outcome(again, 422).await, "processing");
        let stale = patch(&bench, "Appointment/a1", Some("W/\"1\""), &cancel()).await;
        assert_eq!(outcome(stale, 412).await, "conflict");
        assert_eq!(bench.handle().changes_by_request().len(), 1);
        // A search finds it by what it is now.
        assert_eq!(bench.ids("Appointment?status=cancelled").await, ["a1"]);
    }
}

#[tokio::test]
async fn what_a_patch_may_not_do_is_refused_and_changes_nothing() {
    let bench = booked(ServerProfile::Full).await;
    let set = |path: &str, value: &str| json!([{ "op": "replace", "path": path, "value": value }]);
    let unprocessable = [
        set("/id", "a2"),
        set("/resourceType", "Patient"),
        set("/meta/versionId", "7"),
        set("/meta/lastUpdated", "2020-01-01T00:00:00Z"),
        json!([{ "op": "remove", "path": "/id" }]),
        json!([{ "op": "remove", "path": "/meta" }]),
        json!([{ "op": "replace", "path": "", "value": { "resourceType": "Appointment" } }]),
        json!([{ "op": "move", "from": "/id", "path": "/comment" }]),
        set("/nowhere", "x"),
        json!([{ "op": "remove", "path": "/participant/5" }]),
        json!([{ "op": "replace", "path": "/status", "value": "cancelled" },
               { "op": "test", "path": "/status", "value": "booked" }]),
    ];
    for bad in unprocessable {
        let refused = patch(&bench, "Appointment/a1", Some("W/\"1\""), &bad).await;
        assert_eq!(outcome(refused, 422).await, "processing", "{bad}");
    }
    for bad in [
        json!({ "status": "cancelled" }),
        json!([{ "op": "set", "path": "/status", "value": "cancelled" }]),
        json!([{ "op": "replace", "path": "status", "value": "cancelled" }]),
        json!([{ "op": "replace", "path": "/status" }]),
    ] {
        let refused = patch(&bench, "Appointment/a1", Some("W/\"1\""), &bad).await;
        assert_eq!(outcome(refused, 400).await, "invalid", "{bad}");
    }
    // What an update with the same body would be refused for.
    let mut deep = json!("x");
    for _ in 0..60 {
        deep = json!([deep]);
    }
    let nested = json!([{ "op": "add", "path": "/comment", "value": deep }]);
    let refused = patch(&bench, "Appointment/a1", None, &nested).await;
    assert_eq!(outcome(refused, 400).await, "too-costly");
    let copies: Vec<Value> = (0..9)
        .map(|n| json!({ "op": "copy", "from": "", "path": format!("/x{n}") }))
        .collect();
    let refused = patch(&bench, "Appointment/a1", None, &json!(copies)).await;
    assert_eq!(outcome(refused, 413).await, "too-costly");

    for kind in [
        "application/json",
        "application/fhir+json",
        "application/merge-patch+json",
    ] {
        let request = bench.request(Method::PATCH, "Appointment/a1");
        let request = request
            .header("content-type", kind)
            .body(cancel().to_string());
        let refused = request.send().await.unwrap();
        assert_eq!(outcome(refused, 415).await, "not-supported", "{kind}");
    }
    let nobody = patch(&bench, "Appointment/a9", None, &cancel()).await;
    assert_eq!(outcome(nobody, 404).await, "not-found");
    let many = patch(&bench, "Appointment?status=booked", None, &cancel()).await;
    assert_eq!(many.status(), 405);
    assert!(bench.handle().changes_by_request().is_empty());
    let right = patch(&bench, "Appointment/a1", Some("W/\"1\""), &cancel()).await;
    assert_eq!(right.status(), 200);
}

#[tokio::test]
async fn a_patch_in_a_transaction_happens_with_everything_else_or_not_at_all() {
    let bench = booked(ServerProfile::Patching).await;
    let task = json!({
        "resource": { "resourceType": "Task", "status": "requested", "intent": "order" },
        "request": { "method": "POST", "url": "Task" },
    });
    let with = |entry: Value| transaction(&[task.clone(), entry]);
    let mut plain = entry(&cancel(), "W/\"1\"");
    plain["resource"]["contentType"] = json!("application/json");
    let mut whole = entry(&cancel(), "W/\"1\"");
    whole["resource"] = json!({ "resourceType": "Appointment", "id": "a1", "status": "cancelled" });
    let mut empty = entry(&cancel(), "W/\"1\"");
    empty["resource"]["data"] = json!("!");
    let touches = json!([{ "op": "replace", "path": "/id", "value": "a2" }]);
    for (bad, status) in [
        (entry(&cancel(), "W/\"9\""), 412),
        (entry(&touches, "W/\"1\""), 422),
        (plain, 415),
        (whole, 400),
        (empty, 400),
    ] {
        assert_eq!(bench.post("", &with(bad)).await.status(), status);
        assert!(bench.handle().changes_by_request().is_empty(), "{status}");
    }
    let done = bench.post("", &with(entry(&cancel(), "W/\"1\""))).await;
    assert_eq!(done.status(), 200);
    let answer = json_of(done).await;
    assert_eq!(answer["entry"][1]["response"]["status"], "200 OK");
    assert_eq!(answer["entry"][1]["response"]["etag"], "W/\"2\"");
    let now = bench.handle().resource("Appointment", "a1").unwrap();
    assert_eq!(now["status"], "cancelled");
    assert_eq!(bench.handle().resources("Task").len(), 1);
    assert!(bench.handle().resources("Binary").is_empty());
    // Twice the same resource is one too many.
    let twice = [entry(&json!([]), "W/\"2\""), entry(&json!([]), "W/\"2\"")];
    assert_eq!(bench.post("", &transaction(&twice)).await.status(), 400);
}

#[tokio::test]
async fn where_patches_are_the_only_way_nothing_clinical_is_replaced() {
    let bench = booked(ServerProfile::Patching).await;
    let mut whole = bench.handle().resource("Appointment", "a1").unwrap();
    whole["status"] = json!("cancelled");
    let refused = bench.put("Appointment/a1", &whole).await;
    assert_eq!(refused.status(), 405);
    let put = json!({ "resource": whole, "request": { "method": "PUT", "url": "Appointment/a1" } });
    let refused = bench.post("", &transaction(&[put])).await;
    assert_eq!(refused.status(), 405);
    // Who somebody is may be replaced, and patched.
    assert_eq!(bench.put("Patient/p1", &patient("p1")).await.status(), 201);
    let moved = json!([{ "op": "add", "path": "/address", "value": [{ "city": "Elsewhere" }] }]);
    assert_eq!(
        patch(&bench, "Patient/p1", None, &moved).await.status(),
        200
    );
    // Nowhere else are patches taken.
    for profile in [
        ServerProfile::Plain,
        ServerProfile::ReadOnly,
        ServerProfile::Vendor,
        ServerProfile::Staged,
    ] {
        let bench = booked(profile).await;
        let refused = patch(&bench, "Appointment/a1", None, &cancel()).await;
        assert_eq!(refused.status(), 405, "{profile:?}");
    }
}

#[tokio::test]
async fn faults_strike_patches_alone_and_in_transactions() {
    let bench = booked(ServerProfile::Full).await;
    let lost = FaultKind::TimeoutAfterCommit { hold_ms: 0 };
    let strike = || {
        let rule = FaultRule::once("PATCH", "Appointment", lost.clone());
        bench.handle().inject(rule);
    };
    strike();
    let sent = bench
        .request(Method::PATCH, "Appointment/a1")
        .header("content-type", JSON_PATCH)
        .body(cancel().to_string());
    assert!(sent.send().await.is_err());
    assert_eq!(bench.handle().changes_by_request().len(), 1);
    strike();
    let back = json!([{ "op": "replace", "path": "/status", "value": "booked" }]);
    let body = transaction(&[entry(&back, "W/\"2\"")]).to_string();
    let sent = bench
        .request(Method::POST, "")
        .header("content-type", "application/fhir+json")
        .body(body);
    assert!(sent.send().await.is_err());
    let now = bench.handle().resource("Appointment", "a1").unwrap();
    assert_eq!(now["status"], "booked");
}
