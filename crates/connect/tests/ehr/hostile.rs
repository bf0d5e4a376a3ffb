//! Servers that close, redirect, lead elsewhere or never end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use axum::routing::any;
use chaperone_connect::ehr::{EhrConfigInvalid, FhirEndpoint};
use chaperone_connect::random::OsRandom;
use chaperone_core::evidence::Strategy;
use chaperone_core::ports::{Ehr, EhrReadFailed, EhrSearch, Environment, ServerKind, WriteFailed};
use serde_json::json;

use crate::support::{
    HandClock, RawServer, Reaction, config, create, endpoint, endpoint_of, gate, install_tls, kind,
    raw_answer, serve, task, write,
};

fn tasks() -> EhrSearch {
    EhrSearch {
        resource: kind("Task"),
        parameters: vec![("status".to_owned(), "requested".to_owned())],
        limit: 50,
    }
}

#[test]
fn plain_http_to_another_machine_is_refused() {
    install_tls();
    for bad in [
        "http://ehr.example/fhir",
        "http://10.1.2.3/fhir",
        "ehr.example",
        "https://user:secret@ehr.example/fhir",
    ] {
        let refused = FhirEndpoint::new(
            config(bad, ServerKind::Full),
            &gate(),
            HandClock::new(),
            Arc::new(OsRandom),
        );
        let Err(EhrConfigInvalid::BaseUrl { .. }) = &refused else {
            panic!("{bad}: {refused:?}");
        };
        assert!(!refused.unwrap_err().to_string().contains("secret"));
    }
    let mut open = config("https://ehr.example/fhir", ServerKind::Full);
    open.environment = Environment::Production;
    assert!(matches!(
        FhirEndpoint::new(open, &gate(), HandClock::new(), Arc::new(OsRandom)),
        Err(EhrConfigInvalid::OpenProduction { .. })
    ));
}

#[tokio::test]
async fn a_slow_server_is_asked_no_more_at_once_than_allowed() {
    const TOGETHER: usize = 2;
    let under_way = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let meeting = Arc::new(tokio::sync::Barrier::new(TOGETHER));
    let (now, seen) = (Arc::clone(&under_way), Arc::clone(&most));
    let app = Router::new().fallback(any(move || {
        let (now, seen, meeting) = (Arc::clone(&now), Arc::clone(&seen), Arc::clone(&meeting));
        async move {
            let here = now.fetch_add(1, Ordering::SeqCst) + 1;
            seen.fetch_max(here, Ordering::SeqCst);
            // Answers only when as many as are allowed are here at once.
            meeting.wait().await;
            now.fetch_sub(1, Ordering::SeqCst);
            axum::Json(json!({ "resourceType": "Task", "id": "a" }))
        }
    }));
    let mut settings = config(&serve(app).await, ServerKind::Full);
    settings.limits.reads_under_way_max = TOGETHER;
    let ehr = Arc::new(endpoint_of(settings));
    let mut reads = tokio::task::JoinSet::new();
    for _ in 0..3 * TOGETHER {
        let ehr = Arc::clone(&ehr);
        reads.spawn(async move { ehr.read(&kind("Task"), "a").await });
    }
    for read in reads.join_all().await {
        read.unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), TOGETHER);
}

#[tokio::test]
async fn a_connection_that_closes_gets_a_write_once() {
    for strategy in [Strategy::Conditional, Strategy::PlainPost] {
        let server = RawServer::start(|_| Reaction::Close).await;
        let ehr = endpoint(&server.base_url, ServerKind::Full);
        let order = create(&ehr, 1, strategy, &task(1, "x"));
        assert_eq!(write(&ehr, &order).await, Err(WriteFailed::Unknown));
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_server_that_never_answers_leaves_the_outcome_unknown() {
    let server = RawServer::start(|_| Reaction::Silence).await;
    let mut settings = config(&server.base_url, ServerKind::Plain);
    // Seconds of the real clock: a busy machine must still get as far as the silence.
    settings.limits.connect_timeout_ms = 2_000;
    settings.limits.exchange_timeout_ms = 3_000;
    let ehr = endpoint_of(settings);
    let order = create(&ehr, 1, Strategy::PlainPost, &task(1, "x"));
    assert_eq!(write(&ehr, &order).await, Err(WriteFailed::Unknown));
    assert_eq!(server.requests().len(), 1);
    assert_eq!(
        ehr.read(&kind("Task"), "1").await,
        Err(EhrReadFailed::Unavailable)
    );
}

#[tokio::test]
async fn a_success_needs_no_body() {
    let server = RawServer::start(|number| match number {
        1 => Reaction::Answer(
            "HTTP/1.1 201 Created\r\nLocation: Task/1\r\nContent-Length: 0\r\n\r\n".to_owned(),
        ),
        2 => {
            let mut found = task(1, "x");
            found["id"] = json!("1");
            Reaction::Answer(raw_answer("200 OK", "", &found.to_string()))
        }
        _ => Reaction::Close,
    })
    .await;
    let ehr = endpoint(&server.base_url, ServerKind::Plain);
    let order = create(&ehr, 1, Strategy::PlainPost, &task(1, "x"));
    assert!(write(&ehr, &order).await.unwrap().read_back.is_some());
}

#[tokio::test]
async fn writes_never_go_over_a_connection_used_before() {
    // Were connections kept, the second write would meet one that the server closes without answer.
    let server = RawServer::start(|number| match number {
        1 | 2 => Reaction::Answer(raw_answer("422 Unprocessable", "", "")),
        _ => Reaction::Close,
    })
    .await;
    let ehr = endpoint(&server.base_url, ServerKind::Plain);
    let order = create(&ehr, 1, Strategy::PlainPost, &task(1, "x"));
    for _ in 0..2 {
        assert!(matches!(
            write(&ehr, &order).await,
            Err(WriteFailed::NotApplied { .. })
        ));
    }
    assert_eq!((server.requests().len(), server.connections()), (2, 2));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let reached = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reached);
    let elsewhere = serve(Router::new().fallback(any(move || async move {
        count.fetch_add(1, Ordering::SeqCst);
        StatusCode::OK
    })))
    .await;
    let target = format!("{elsewhere}/Task/1");
    let base =
        serve(Router::new().fallback(any(move || async move { Redirect::temporary(&target) })))
            .await;
    let ehr = endpoint(&base, ServerKind::Plain);
    assert_eq!(
        ehr.read(&kind("Task"), "1").await,
        Err(EhrReadFailed::Unusable)
    );
    assert!(ehr.search(tasks()).await.is_err());
    let order = create(&ehr, 1, Strategy::PlainPost, &task(1, "x"));
    assert!(write(&ehr, &order).await.is_err());
    assert_eq!(reached.load(Ordering::SeqCst), 0);
}

/// A server that answers every search with one Task and this `next` link.
async fn with_next(next: &'static str) -> String {
    serve(
        Router::new().fallback(any(move |request: Request| async move {
            let host = request.headers()["host"].to_str().unwrap().to_owned();
            let next = next.replace("{host}", &host);
            axum::Json(json!({
                "resourceType": "Bundle", "type": "searchset",
                "link": [{"relation": "next", "url": next}],
                "entry": [{"resource": {"resourceType": "Task", "id": "1"}}],
            }))
        })),
    )
    .await
}

#[tokio::test]
async fn next_links_stay_below_the_base() {
    for bad in [
        "http://127.0.0.1:1/fhir?page=2",
        "http://{host}/other?page=2",
        "http://{host}/fhir/../other",
        "https://{host}/fhir?page=2",
        "//ehr.example/fhir",
        "file:///etc/passwd",
    ] {
        let ehr = endpoint(&with_next(bad).await, ServerKind::Full);
        assert_eq!(
            ehr.search(tasks()).await,
            Err(EhrReadFailed::Unusable),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn pages_without_end_are_cut_off() {
    for good in [
        "http://{host}/fhir?page=2",
        "Task?page=2",
        "/fhir/Task?page=2",
    ] {
        let mut settings = config(&with_next(good).await, ServerKind::Full);
        settings.limits.pages_max = 3;
        let found = endpoint_of(settings).search(tasks()).await.unwrap();
        assert_eq!((found.resources.len(), found.more), (3, true), "{good}");
    }
}

#[tokio::test]
async fn an_answer_larger_than_the_limit_is_not_read() {
    let base = serve(Router::new().fallback(any(|| async {
        let filler = "x".repeat(10_000);
        axum::Json(json!({"resourceType": "Task", "id": "1", "description": filler}))
    })))
    .await;
    let mut settings = config(&base, ServerKind::Full);
    settings.limits.body_bytes_max = 10_100;
    assert!(
        endpoint_of(settings.clone())
            .read(&kind("Task"), "1")
            .await
            .is_ok()
    );
    settings.limits.body_bytes_max = 9_999;
    assert_eq!(
        endpoint_of(settings).read(&kind("Task"), "1").await,
        Err(EhrReadFailed::Unusable)
    );
}

#[tokio::test]
async fn what_is_not_what_was_asked_for_is_unusable() {
    for body in [
        json!({"resourceType": "Patient", "id": "1"}),
        json!({"resourceType": "Task", "id": "2"}),
        json!([1]),
    ] {
        let base = serve(Router::new().fallback(any(move || {
            let body = body.clone();
            async move { axum::Json(body).into_response() }
        })))
        .await;
        let ehr = endpoint(&base, ServerKind::Full);
        assert_eq!(
            ehr.read(&kind("Task"), "1").await,
            Err(EhrReadFailed::Unusable)
        );
        assert_eq!(ehr.search(tasks()).await, Err(EhrReadFailed::Unusable));
    }
}

#[tokio::test]
async fn outcomes_and_includes_are_dropped_and_foreign_matches_refused() {
    let serving = |entries: serde_json::Value| async move {
        serve(Router::new().fallback(any(move || {
            let entries = entries.clone();
            async move {
                axum::Json(json!({"resourceType": "Bundle", "type": "searchset", "entry": entries}))
            }
        })))
        .await
    };
    let mixed = json!([
        {"resource": {"resourceType": "OperationOutcome"}, "search": {"mode": "outcome"}},
        {"resource": {"resourceType": "OperationOutcome"}},
        {"resource": {"resourceType": "Patient", "id": "p"}, "search": {"mode": "include"}},
        {"resource": {"resourceType": "Task", "id": "a"}, "search": {"mode": "match"}},
        {"resource": {"resourceType": "Task", "id": "b"}},
    ]);
    let ehr = endpoint(&serving(mixed).await, ServerKind::Full);
    let ids: Vec<_> = ehr.search(tasks()).await.unwrap().resources;
    assert_eq!(ids.iter().map(|r| &r["id"]).collect::<Vec<_>>(), ["a", "b"]);

    let foreign =
        json!([{"resource": {"resourceType": "Patient", "id": "p"}, "search": {"mode": "match"}}]);
    let ehr = endpoint(&serving(foreign).await, ServerKind::Full);
    assert_eq!(ehr.search(tasks()).await, Err(EhrReadFailed::Unusable));
}
