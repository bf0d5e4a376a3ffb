//! Reading, searching and probing a server that behaves.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::any;
use chaperone_connect::ehr::{ProfileSource, escape_search_value};
use chaperone_core::evidence::Strategy;
use chaperone_core::ports::{Ehr, EhrReadFailed, EhrSearch, ServerKind};
use chaperone_core::resource::Interaction;
use chaperone_sandbox::{FaultKind, FaultRule, ServerProfile};
use serde_json::json;

use crate::support::{bench, config, endpoint, endpoint_of, kind, sandbox, serve, task};

fn search(name: &str, parameters: &[(&str, &str)], limit: u32) -> EhrSearch {
    EhrSearch {
        resource: kind(name),
        parameters: parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        limit,
    }
}

#[tokio::test]
async fn searches_are_strict_and_leave_no_trace_in_urls() {
    let bench = bench(ServerProfile::Full).await;
    for (id, text) in [("a", "x"), ("b", "y"), ("c", "z")] {
        let mut one = task(id.as_bytes()[0], text);
        one["id"] = json!(id);
        bench.sandbox.handle.put(&one).unwrap();
    }
    let found = bench
        .ehr
        .search(search("Task", &[("status", "requested")], 2))
        .await
        .unwrap();
    assert_eq!((found.resources.len(), found.more), (2, true));
    let mut settings = config(&bench.sandbox.base_url, ServerKind::Full);
    settings.limits.page_size_max = 1;
    let found = endpoint_of(settings)
        .search(search("Task", &[("status", "requested")], 50))
        .await
        .unwrap();
    assert_eq!((found.resources.len(), found.more), (3, false));

    let requests = bench.sandbox.handle.requests();
    assert!(requests[0].path.ends_with("/Task/_search"));
    assert_eq!(requests[0].query, None);
    assert!(
        requests
            .iter()
            .all(|r| r.prefer.as_deref() == Some("handling=strict"))
    );
    assert_eq!(
        bench
            .ehr
            .search(search("Task", &[("no-such-parameter", "1")], 2))
            .await,
        Err(EhrReadFailed::Unsupported)
    );
}

#[tokio::test]
async fn values_stand_for_themselves() {
    let bench = bench(ServerProfile::Full).await;
    let odd = r"a,b|c$d\e&f=g h+i%20";
    let mut one = task(1, "x");
    one["id"] = json!("odd");
    one["identifier"] = json!([{"system": "urn:x", "value": odd}]);
    bench.sandbox.handle.put(&one).unwrap();
    let value = format!("urn:x|{}", escape_search_value(odd));
    let found = bench
        .ehr
        .search(search("Task", &[("identifier", value.as_str())], 5))
        .await
        .unwrap();
    assert_eq!(found.resources.len(), 1);
    // The same text without escaping means something else.
    let raw = format!("urn:x|{odd}");
    let found = bench
        .ehr
        .search(search("Task", &[("identifier", raw.as_str())], 5))
        .await;
    assert!(found.is_err() || found.is_ok_and(|found| found.resources.is_empty()));
}

#[tokio::test]
async fn failures_of_a_read_are_told_apart() {
    let bench = bench(ServerProfile::Full).await;
    let tasks = kind("Task");
    let read = |id: &'static str| bench.ehr.read(&tasks, id);
    assert_eq!(read("none").await, Err(EhrReadFailed::NotFound));
    assert_eq!(read("../Patient").await, Err(EhrReadFailed::NotFound));
    for (code, expected) in [
        (500, EhrReadFailed::Unavailable),
        (503, EhrReadFailed::Unavailable),
        (403, EhrReadFailed::Unauthorized),
        (429, EhrReadFailed::RateLimited),
    ] {
        bench
            .sandbox
            .handle
            .inject(FaultRule::once("GET", "Task", FaultKind::Status { code }));
        assert_eq!(read("none").await, Err(expected));
    }
}

#[tokio::test]
async fn a_server_without_post_search_is_asked_by_get_from_then_on() {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&seen);
    let base = serve(Router::new().fallback(any(move |request: Request| {
        let log = Arc::clone(&log);
        async move {
            let path = request.uri().path().to_owned();
            log.lock()
                .unwrap()
                .push(format!("{} {path}", request.method()));
            if path.ends_with("_search") || path.ends_with("/Basic") {
                return StatusCode::METHOD_NOT_ALLOWED.into_response();
            }
            axum::Json(json!({"resourceType": "Bundle", "type": "searchset"})).into_response()
        }
    })))
    .await;
    let ehr = endpoint(&base, ServerKind::Full);
    // A type that fails by GET as well says nothing about the server.
    assert_eq!(
        ehr.search(search("Basic", &[], 1)).await,
        Err(EhrReadFailed::Unsupported)
    );
    for _ in 0..2 {
        assert!(ehr.search(search("Task", &[], 1)).await.is_ok());
    }
    assert_eq!(
        *seen.lock().unwrap(),
        [
            "POST /fhir/Basic/_search",
            "GET /fhir/Basic",
            "POST /fhir/Task/_search",
            "GET /fhir/Task",
            "GET /fhir/Task"
        ]
    );
}

#[tokio::test]
async fn a_server_with_post_search_is_never_asked_by_get() {
    let bench = bench(ServerProfile::Full).await;
    let look = async || {
        bench
            .ehr
            .search(search("Patient", &[("name", "x")], 1))
            .await
    };
    assert!(look().await.is_ok());
    for code in [404, 405, 501] {
        let fault = FaultKind::Status { code };
        bench
            .sandbox
            .handle
            .inject(FaultRule::once("GET", "Patient", fault));
        assert!(look().await.is_err(), "{code}");
    }
    assert!(look().await.is_ok());
    let requests = bench.sandbox.handle.requests();
    assert_eq!(requests.len(), 5);
    assert!(requests.iter().all(|request| request.query.is_none()));
}

#[tokio::test]
async fn a_server_that_ignored_a_parameter_is_not_believed() {
    let base = serve(Router::new().fallback(any(|| async {
        axum::Json(json!({
            "resourceType": "Bundle", "type": "searchset",
            "link": [{"relation": "self", "url": "Task?status=requested"}],
        }))
    })))
    .await;
    let ehr = endpoint(&base, ServerKind::Full);
    let status = ("status", "requested");
    assert!(ehr.search(search("Task", &[status], 1)).await.is_ok());
    assert_eq!(
        ehr.search(search("Task", &[status, ("patient", "1")], 1))
            .await,
        Err(EhrReadFailed::Unsupported)
    );
}

#[tokio::test]
async fn a_probe_finds_what_the_server_claims() {
    let strategies = |profile: &chaperone_core::ports::DeliveryProfile| {
        [Interaction::Create, Interaction::Update]
            .map(|interaction| profile.of(&kind("Task"), interaction).strategy)
    };
    for (server, expected) in [
        (ServerProfile::Full, Strategy::Conditional),
        (ServerProfile::Plain, Strategy::PlainPost),
        (ServerProfile::ReadOnly, Strategy::HumanEntry),
    ] {
        let running = sandbox(server).await;
        let mut settings = config(&running.base_url, ServerKind::Full);
        settings.profile = ProfileSource::Probed {
            transactions_are_atomic: true,
            updates_as_patches: false,
        };
        let ehr = endpoint_of(settings);
        // Before the probe nothing is assumed.
        assert_eq!(strategies(&ehr.profile()), [Strategy::HumanEntry; 2]);
        let probed = ehr.adopt_probe().await.unwrap();
        assert_eq!(strategies(&probed), [expected; 2]);
        assert_eq!(ehr.profile(), probed);
        let support = probed.of(&kind("Task"), Interaction::Create);
        let full = server == ServerProfile::Full;
        assert_eq!((support.provenance, support.atomic), (full, full));
    }
}
