//! A package registry that answers, and ones that do not as they should.

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

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use chaperone_connect::clock::SystemClock;
use chaperone_connect::egress::Gate;
use chaperone_connect::package_registry::{
    PackageFetchFailed, PackageRegistry, PackageRegistryInvalid,
};

fn gate() -> Gate {
    Gate::to_this_machine(Arc::new(SystemClock))
}

async fn registry() -> PackageRegistry {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let app = Router::new()
        .route(
            "/example.package",
            get(|| async {
                r#"{"name": "example.package", "versions": {"1.0.0": {}, "1.1.0": {}}}"#
            }),
        )
        .route(
            "/example.package/1.1.0",
            get(|| async { b"bytes".to_vec() }),
        )
        .route("/not.a.listing", get(|| async { "[]" }))
        .route(
            "/moved/1.0.0",
            get(|| async {
                (
                    StatusCode::FOUND,
                    [(header::LOCATION, "https://elsewhere.example/")],
                )
            }),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    PackageRegistry::new(&format!("http://{address}"), &gate()).unwrap()
}

#[tokio::test]
async fn packages_come_by_name_and_version_and_from_nowhere_else() {
    let registry = registry().await;
    let mut versions = registry.versions("example.package").await.unwrap();
    versions.sort();
    assert_eq!(versions, ["1.0.0", "1.1.0"]);
    assert_eq!(
        registry.fetch("example.package", "1.1.0").await.unwrap(),
        b"bytes"
    );
    let cases = [
        ("example.package", "2.0.0", PackageFetchFailed::Missing),
        ("../example", "1.0.0", PackageFetchFailed::Name),
        ("example.package", "1.1.0/x", PackageFetchFailed::Name),
        // A registry that sends elsewhere is not followed.
        ("moved", "1.0.0", PackageFetchFailed::Refused(302)),
    ];
    for (name, version, expected) in cases {
        assert_eq!(registry.fetch(name, version).await, Err(expected), "{name}");
    }
    assert_eq!(
        registry.versions("not.a.listing").await,
        Err(PackageFetchFailed::Unusable)
    );
}

#[test]
fn an_address_in_the_clear_is_refused() {
    assert!(matches!(
        PackageRegistry::new("http://packages.example/", &gate()),
        Err(PackageRegistryInvalid::Url(_))
    ));
}
