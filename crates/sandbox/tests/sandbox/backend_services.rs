//! SMART Backend Services: tokens for registered clients, and nothing without one.

use crate::support::{Bench, FhirBody, bench_with, json_of, outcome, patient};
use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chaperone_sandbox::{
    Authentication, BackendClient, Sandbox, SandboxConfig, ServerProfile, StartError,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::{Method, Response};
use serde_json::{Value, json};

struct Key {
    signing: EncodingKey,
    jwks: Value,
}

fn key() -> Key {
    let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
    // An uncompressed point: 4, then x and y of 48 bytes each.
    let point = pair.public_key().as_ref().to_vec();
    let jwks = json!({"keys": [{
        "kty": "EC", "crv": "P-384", "use": "sig", "alg": "ES384", "kid": "k1",
        "x": URL_SAFE_NO_PAD.encode(&point[1..49]),
        "y": URL_SAFE_NO_PAD.encode(&point[49..97]),
    }]});
    let private = pair.to_pkcs8v1().unwrap();
    Key {
        signing: EncodingKey::from_ec_der(private.as_ref()),
        jwks,
    }
}

fn client(id: &str, key: &Key, scopes: &[&str]) -> BackendClient {
    BackendClient {
        client_id: id.to_owned(),
        jwks: key.jwks.clone(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
    }
}

async fn guarded(clients: Vec<BackendClient>) -> Bench {
    bench_with(ServerProfile::Full, |config| {
        config.with_authentication(Authentication::SmartBackend { clients })
    })
    .await
}

fn claims(bench: &Bench, client: &str, jti: &str) -> Value {
    json!({
        "iss": client,
        "sub": client,
        "aud": bench.handle().token_url(),
        "exp": bench.now().as_second() + 240,
        "jti": jti,
    })
}

fn assertion(key: &Key, claims: &Value) -> String {
    let mut header = Header::new(Algorithm::ES384);
    header.kid = Some("k1".to_owned());
    encode(&header, claims, &key.signing).unwrap()
}

async fn ask(bench: &Bench, assertion: &str, scope: &str) -> Response {
    bench
        .client
        .post(bench.handle().token_url())
        .form(&[
            ("grant_type", "client_credentials"),
            ("scope", scope),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", assertion),
        ])
        .send()
        .await
        .unwrap()
}

async fn token(bench: &Bench, key: &Key, client: &str, scope: &str) -> String {
    let response = ask(bench, &assertion(key, &claims(bench, client, scope)), scope).await;
    assert_eq!(response.status(), 200);
    let body = json_of(response).await;
    assert_eq!(body["expires_in"], 300);
    body["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_reader_reads_a_writer_writes_and_neither_does_the_other() {
    let (reading, writing) = (key(), key());
    let bench = guarded(vec![
        client("reader", &reading, &["system/*.read"]),
        client("writer", &writing, &["system/*.write"]),
    ])
    .await;
    bench.handle().put(&patient("p1")).unwrap();

    assert_eq!(bench.get("metadata").await.status(), 200);
    let configuration = json_of(bench.get(".well-known/smart-configuration").await).await;
    assert_eq!(configuration["token_endpoint"], bench.handle().token_url());
    let anonymous = bench.get("Patient/p1").await;
    assert_eq!(anonymous.headers()["www-authenticate"], "Bearer");
    outcome(anonymous, 401).await;
    // Not even which types exist.
    outcome(bench.get("Potion/p1").await, 401).await;

    let read = token(&bench, &reading, "reader", "system/*.read").await;
    let write = token(&bench, &writing, "writer", "system/*.write").await;
    let get = |token: &str, path: &str| bench.request(Method::GET, path).bearer_auth(token).send();
    let post = |token: &str, path: &str, body: Value| {
        bench
            .request(Method::POST, path)
            .bearer_auth(token)
            .fhir(&body)
            .send()
    };
    assert_eq!(get(&read, "Patient/p1").await.unwrap().status(), 200);
    outcome(post(&read, "Patient", patient("p2")).await.unwrap(), 403).await;
    assert_eq!(
        post(&write, "Patient", patient("p2"))
            .await
            .unwrap()
            .status(),
        201
    );
    outcome(get(&write, "Patient/p1").await.unwrap(), 403).await;
    let bundle = |method: &str| {
        json!({"resourceType": "Bundle", "type": "transaction", "entry": [{
            "request": {"method": method, "url": "Patient/p1"}, "resource": patient("p1"),
        }]})
    };
    outcome(post(&read, "", bundle("PUT")).await.unwrap(), 403).await;
    assert_eq!(post(&read, "", bundle("GET")).await.unwrap().status(), 200);
    assert_eq!(post(&write, "", bundle("PUT")).await.unwrap().status(), 200);

    bench.advance_s(301);
    outcome(get(&read, "Patient/p1").await.unwrap(), 401).await;
}

#[tokio::test]
async fn only_a_fresh_assertion_by_the_registered_key_gets_a_token() {
    let (own, foreign) = (key(), key());
    let bench = guarded(vec![client("reader", &own, &["system/*.read"])]).await;
    let good = claims(&bench, "reader", "one");
    let with = |name: &str, value: Value| {
        let mut changed = claims(&bench, "reader", name);
        changed[name] = value;
        changed
    };
    let now_s = bench.now().as_second();
    let refused = [
        assertion(&foreign, &good),
        assertion(&own, &with("aud", json!("https://other.example.org/token"))),
        assertion(&own, &with("iss", json!("somebody"))),
        assertion(&own, &with("sub", json!("somebody"))),
        assertion(&own, &with("exp", json!(now_s))),
        assertion(&own, &with("exp", json!(now_s + 301))),
        "nonsense".to_owned(),
        String::new(),
    ];
    for assertion in refused {
        let response = ask(&bench, &assertion, "system/*.read").await;
        assert_eq!(response.status(), 401);
        assert_eq!(json_of(response).await["error"], "invalid_client");
    }
    let good = assertion(&own, &good);
    let response = ask(&bench, &good, "system/*.write").await;
    assert_eq!(json_of(response).await["error"], "invalid_scope");
    assert_eq!(
        ask(&bench, &good, "system/*.read system/*.write")
            .await
            .status(),
        200
    );
    // Replayed.
    assert_eq!(ask(&bench, &good, "system/*.read").await.status(), 401);
}

#[tokio::test]
async fn unusable_clients_stop_the_start() {
    let own = key();
    let clock = std::sync::Arc::new(|| crate::support::START.parse().unwrap());
    for bad in [
        BackendClient {
            jwks: json!({"keys": []}),
            ..client("a", &own, &["system/*.read"])
        },
        client("b", &own, &["patient/*.read"]),
    ] {
        let config = SandboxConfig::new(ServerProfile::Full, clock.clone())
            .with_authentication(Authentication::SmartBackend { clients: vec![bad] });
        assert!(matches!(
            Sandbox::start(config).await,
            Err(StartError::Client(_))
        ));
    }
}
