//! Creating, updating and deleting, with and without conditions, on each profile.

use crate::support::{FhirBody, appointment, bench, json_of, outcome, patient};
use chaperone_sandbox::{ChangeKind, Sandbox, SandboxConfig, ServerProfile, StartError};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn conditional_create_makes_one_resource_however_often_it_is_sent() {
    let bench = bench(ServerProfile::Full).await;
    let body = appointment("p1", "key-1");
    let condition = "identifier=urn:chaperone:writeback|key-1";
    let send = || {
        bench
            .request(Method::POST, "Appointment")
            .header("If-None-Exist", condition)
            .fhir(&body)
            .send()
    };
    let first = send().await.unwrap();
    assert_eq!(first.status(), 201);
    assert_eq!(first.headers()["etag"], "W/\"1\"");
    assert!(first.headers().contains_key("last-modified"));
    let location = first.headers()["location"].to_str().unwrap().to_owned();
    assert!(location.contains("/fhir/Appointment/") && location.ends_with("/_history/1"));
    let first = json_of(first).await;

    let second = send().await.unwrap();
    assert_eq!(second.status(), 200);
    assert_eq!(json_of(second).await, first);
    assert_eq!(bench.handle().changes_by_request().len(), 1);

    // Another key is another resource; two that share a key make the condition ambiguous.
    bench.post("Appointment", &appointment("p1", "key-1")).await;
    let code = outcome(send().await.unwrap(), 412).await;
    assert_eq!(code, "multiple-matches");
    assert_eq!(bench.handle().resources("Appointment").len(), 2);
}

#[tokio::test]
async fn a_condition_that_says_nothing_is_refused() {
    let bench = bench(ServerProfile::Full).await;
    for condition in ["_count=1", "nonsense=1", ""] {
        let response = bench
            .request(Method::POST, "Appointment")
            .header("If-None-Exist", condition)
            .fhir(&appointment("p1", "key"))
            .send()
            .await
            .unwrap();
        outcome(response, 400).await;
    }
    assert!(bench.handle().changes().is_empty());
}

#[tokio::test]
async fn if_match_admits_the_version_read_and_refuses_any_other() {
    let bench = bench(ServerProfile::Full).await;
    bench.handle().put(&patient("p1")).unwrap();
    let update = |etag: &'static str, city: &str| {
        let mut body = patient("p1");
        body["address"] = json!([{"city": city}]);
        bench
            .request(Method::PUT, "Patient/p1")
            .header("If-Match", etag)
            .fhir(&body)
            .send()
    };
    let done = update("W/\"1\"", "Fictionville").await.unwrap();
    assert_eq!(done.status(), 200);
    assert_eq!(done.headers()["etag"], "W/\"2\"");
    outcome(update("W/\"1\"", "Elsewhere").await.unwrap(), 412).await;
    outcome(update("2", "Elsewhere").await.unwrap(), 400).await;
    let now = bench.handle().resource("Patient", "p1").unwrap();
    assert_eq!(now["address"][0]["city"], "Fictionville");
    assert_eq!(now["meta"]["versionId"], "2");

    // The version of something that is not there cannot match.
    let response = bench
        .request(Method::PUT, "Patient/p9")
        .header("If-Match", "W/\"1\"")
        .fhir(&patient("p9"))
        .send()
        .await
        .unwrap();
    outcome(response, 412).await;
    assert_eq!(bench.put("Patient/p9", &patient("p9")).await.status(), 201);
}

#[tokio::test]
async fn the_plain_profile_ignores_conditions_and_shows_no_versions() {
    let bench = bench(ServerProfile::Plain).await;
    for _ in 0..2 {
        let response = bench
            .request(Method::POST, "Appointment")
            .header("If-None-Exist", "identifier=urn:chaperone:writeback|key-1")
            .fhir(&appointment("p1", "key-1"))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 201);
        assert!(!response.headers().contains_key("etag"));
        let location = response.headers()["location"].to_str().unwrap();
        assert!(!location.contains("_history"), "{location}");
        assert!(json_of(response).await["meta"]["versionId"].is_null());
    }
    assert_eq!(bench.handle().resources("Appointment").len(), 2);

    let found = bench
        .ids("Appointment?identifier=urn:chaperone:writeback|key-1")
        .await;
    assert_eq!(found.len(), 2);
    let mut body = appointment("p1", "key-1");
    body["id"] = json!(found[0]);
    let response = bench
        .request(Method::PUT, &format!("Appointment/{}", found[0]))
        .header("If-Match", "W/\"99\"")
        .fhir(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);

    let path = format!("Appointment/{}/_history", found[0]);
    outcome(bench.get(&path).await, 405).await;
    outcome(bench.get(&format!("{path}/1")).await, 405).await;
    let provenance = json!({"resourceType": "Provenance"});
    outcome(bench.post("Provenance", &provenance).await, 404).await;
    outcome(bench.get("Provenance?target=Patient/p1").await, 404).await;
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": []});
    outcome(bench.post("", &bundle).await, 405).await;
}

#[tokio::test]
async fn the_read_only_profile_reads_and_refuses_every_write() {
    let bench = bench(ServerProfile::ReadOnly).await;
    bench.handle().put(&patient("p1")).unwrap();
    let read = bench.get("Patient/p1").await;
    assert_eq!(read.status(), 200);
    assert_eq!(read.headers()["etag"], "W/\"1\"");
    outcome(bench.post("Patient", &patient("p2")).await, 405).await;
    outcome(bench.put("Patient/p1", &patient("p1")).await, 405).await;
    let delete = bench
        .request(Method::DELETE, "Patient/p1")
        .send()
        .await
        .unwrap();
    outcome(delete, 405).await;
    let bundle = json!({"resourceType": "Bundle", "type": "batch", "entry": []});
    outcome(bench.post("", &bundle).await, 405).await;
    assert!(bench.handle().changes_by_request().is_empty());
}

#[tokio::test]
async fn versions_are_kept_through_update_and_delete() {
    let bench = bench(ServerProfile::Full).await;
    assert_eq!(bench.put("Patient/p1", &patient("p1")).await.status(), 201);
    assert_eq!(bench.put("Patient/p1", &patient("p1")).await.status(), 200);
    let delete = || bench.request(Method::DELETE, "Patient/p1").send();
    assert_eq!(delete().await.unwrap().status(), 204);
    assert_eq!(delete().await.unwrap().status(), 204);
    outcome(bench.get("Patient/p1").await, 410).await;
    outcome(bench.get("Patient/p2").await, 404).await;
    assert!(bench.ids("Patient?name=Testfell").await.is_empty());
    assert_eq!(bench.get("Patient/p1/_history/2").await.status(), 200);
    outcome(bench.get("Patient/p1/_history/3").await, 410).await;
    outcome(bench.get("Patient/p1/_history/4").await, 404).await;

    let history = json_of(bench.get("Patient/p1/_history").await).await;
    assert_eq!(history["type"], "history");
    let methods: Vec<&Value> = history["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["request"]["method"])
        .collect();
    assert_eq!(methods, ["DELETE", "PUT", "POST"]);
    let kinds: Vec<ChangeKind> = bench
        .handle()
        .changes_by_request()
        .iter()
        .map(|change| change.kind)
        .collect();
    assert_eq!(
        kinds,
        [
            ChangeKind::Created,
            ChangeKind::Updated,
            ChangeKind::Deleted
        ]
    );
    // It can come back, and its versions go on.
    let back = bench.put("Patient/p1", &patient("p1")).await;
    assert_eq!(back.status(), 201);
    assert_eq!(back.headers()["etag"], "W/\"4\"");
    assert_eq!(bench.ids("Patient?name=Testfell").await, ["p1"]);
}

#[tokio::test]
async fn bodies_that_do_not_fit_the_url_are_refused() {
    let bench = bench(ServerProfile::Full).await;
    outcome(bench.post("Observation", &patient("p1")).await, 400).await;
    outcome(bench.put("Patient/p1", &patient("p2")).await, 400).await;
    outcome(
        bench
            .put("Patient/p1", &json!(["not", "an", "object"]))
            .await,
        400,
    )
    .await;
    outcome(bench.post("Medicine", &patient("p1")).await, 404).await;
    let mut deep = json!({});
    for _ in 0..60 {
        deep = json!({"extension": [deep]});
    }
    deep["resourceType"] = json!("Patient");
    outcome(bench.post("Patient", &deep).await, 400).await;
    let text = bench
        .request(Method::POST, "Patient")
        .header("content-type", "text/plain")
        .body(patient("p1").to_string())
        .send()
        .await
        .unwrap();
    outcome(text, 415).await;
    let huge = bench
        .request(Method::POST, "Patient")
        .header("content-type", "application/fhir+json")
        .body(vec![b' '; 16 * 1024 * 1024 + 1])
        .send()
        .await
        .unwrap();
    outcome(huge, 413).await;
    let xml = bench
        .request(Method::GET, "Patient/p1")
        .header("accept", "application/fhir+xml")
        .send()
        .await
        .unwrap();
    outcome(xml, 406).await;
    assert!(bench.handle().changes().is_empty());
}

#[tokio::test]
async fn a_sandbox_stays_on_this_machine() {
    let clock = std::sync::Arc::new(|| crate::support::START.parse().unwrap());
    let config = SandboxConfig::new(ServerProfile::Full, clock).at("0.0.0.0:0".parse().unwrap());
    let refused = Sandbox::start(config).await;
    assert!(matches!(refused, Err(StartError::NotLoopback { .. })));
}

#[tokio::test]
async fn what_was_received_is_remembered_with_its_effects() {
    let bench = bench(ServerProfile::Full).await;
    bench.post("Patient", &patient("ignored")).await;
    let strict = bench
        .request(Method::GET, "Patient?name=Testfell")
        .header("Prefer", "handling=strict")
        .send()
        .await
        .unwrap();
    assert_eq!(strict.status(), 200);
    let requests = bench.handle().requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(
        (requests[0].method.as_str(), requests[0].path.as_str()),
        ("POST", "/Patient")
    );
    assert_eq!(requests[0].status, Some(201));
    assert_eq!(requests[1].query.as_deref(), Some("name=Testfell"));
    assert_eq!(requests[1].prefer.as_deref(), Some("handling=strict"));
    let changes = bench.handle().changes_by_request();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].request, Some(requests[0].number));
    bench.handle().clear_requests();
    assert!(bench.handle().requests().is_empty());
}
