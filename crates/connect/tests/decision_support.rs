//! A CDS service that answers, ones that do not as they should, and one that may not be asked.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::disallowed_methods,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason
    )
)]

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use axum::{Json, Router};
use chaperone_connect::clock::SystemClock;
use chaperone_connect::decision_support::{ANSWER_BYTES_MAX, CdsServices, CdsServicesInvalid};
use chaperone_connect::egress::Gate;
use chaperone_core::decision_support::NotHeard;
use chaperone_core::ids::CdsServiceId;
use chaperone_core::ports::DecisionSupport;
use serde_json::{Value, json};

fn gate() -> Gate {
    Gate::to_this_machine(Arc::new(SystemClock))
}

async fn services() -> CdsServices {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let app = Router::new()
        .route(
            "/cds-services/interactions",
            post(|headers: HeaderMap, Json(asked): Json<Value>| async move {
                assert_eq!(headers[header::AUTHORIZATION], "Bearer secret");
                let card = json!({ "summary": asked["hook"], "indicator": "info" });
                Json(json!({ "cards": [card] }))
            }),
        )
        .route("/cds-services/prose", post(|| async { "no cards today" }))
        .route(
            "/cds-services/endless",
            post(|| async { "x".repeat(ANSWER_BYTES_MAX + 1) }),
        )
        .route(
            "/cds-services/ill",
            post(|| async { StatusCode::INTERNAL_SERVER_ERROR }),
        )
        .route(
            "/cds-services/blind",
            post(|| async { StatusCode::PRECONDITION_FAILED }),
        )
        .route(
            "/cds-services/moved",
            post(|| async {
                let elsewhere = [(header::LOCATION, "https://elsewhere.example/")];
                (StatusCode::TEMPORARY_REDIRECT, elsewhere)
            }),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let token = Some("secret".to_owned());
    CdsServices::new(&format!("http://{address}"), token, &gate()).unwrap()
}

#[tokio::test]
async fn a_service_is_heard_or_it_is_said_why_not() {
    let services = services().await;
    let ask = async |name: &str| {
        let id = CdsServiceId::new(name).unwrap();
        services.ask(&id, &json!({ "hook": "order-sign" })).await
    };
    let heard = ask("interactions").await.unwrap();
    assert_eq!(heard["cards"][0]["summary"], "order-sign");
    for (name, why) in [
        ("prose", NotHeard::Unusable),
        ("endless", NotHeard::Unusable),
        ("ill", NotHeard::Failed),
        ("blind", NotHeard::NoPrefetch),
        ("moved", NotHeard::Failed),
        ("nobody", NotHeard::Failed),
    ] {
        assert_eq!(ask(name).await, Err(why), "{name}");
    }
}

#[tokio::test]
async fn nobody_is_asked_without_saying_who_asks_or_where_nobody_is_listed() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let open = CdsServices::new("https://cds.example.org", None, &gate());
    assert!(matches!(open, Err(CdsServicesInvalid::Open)));
    let plain = CdsServices::new("http://cds.example.org", Some("t".to_owned()), &gate());
    assert!(matches!(plain, Err(CdsServicesInvalid::Url(_))));
    // A gate that knows this machine only lets nothing go anywhere else.
    let stranger =
        CdsServices::new("https://cds.example.org", Some("t".to_owned()), &gate()).unwrap();
    let id = CdsServiceId::new("interactions").unwrap();
    assert_eq!(stranger.ask(&id, &json!({})).await, Err(NotHeard::Refused));
    let closed = CdsServices::new("http://127.0.0.1:1", None, &gate()).unwrap();
    assert_eq!(closed.ask(&id, &json!({})).await, Err(NotHeard::NoAnswer));
}
