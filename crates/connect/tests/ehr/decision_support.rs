//! CDS services: one that answers, ones that do not as they should, ones that may not be asked, and what they are told
//! about who asks.

use std::sync::{Arc, Mutex};

use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chaperone_connect::decision_support::{
    ANSWER_BYTES_MAX, CdsClientKey, CdsCredential, CdsServices, CdsServicesInvalid,
};
use chaperone_connect::random::OsRandom;
use chaperone_connect::smart::SmartAlgorithm;
use chaperone_core::decision_support::NotHeard;
use chaperone_core::ids::CdsServiceId;
use chaperone_core::ports::{Clock, DecisionSupport};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::backend_services::{Key, key};
use crate::support::{HandClock, gate, install_tls};

const ELSEWHERE: &str = "https://cds.example.org";

fn bearer(token: &str) -> CdsCredential {
    CdsCredential::Bearer(Zeroizing::new(token.to_owned()))
}

fn signed(key: &Key, algorithm: SmartAlgorithm, jwks_url: Option<&str>) -> CdsCredential {
    CdsCredential::Signed(CdsClientKey {
        issuer: "https://chaperone.example.org".to_owned(),
        key_id: "k1".to_owned(),
        key_pem: Zeroizing::new(key.pem.clone()),
        algorithm,
        jwks_url: jwks_url.map(str::to_owned),
    })
}

fn services_at(
    base_url: &str,
    credential: CdsCredential,
    clock: Arc<HandClock>,
) -> Result<CdsServices, CdsServicesInvalid> {
    install_tls();
    CdsServices::new(base_url, credential, &gate(), clock, Arc::new(OsRandom))
}

async fn listening(app: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    format!("http://{address}")
}

async fn ask(services: &CdsServices, name: &str) -> Result<Value, NotHeard> {
    let id = CdsServiceId::new(name).unwrap();
    services.ask(&id, &json!({ "hook": "order-sign" })).await
}

#[tokio::test]
async fn a_service_is_heard_or_it_is_said_why_not() {
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
            "/cds-services/silent",
            post(|| async { std::future::pending::<StatusCode>().await }),
        )
        .route(
            "/cds-services/moved",
            post(|| async {
                let elsewhere = [(header::LOCATION, "/cds-services/interactions")];
                (StatusCode::TEMPORARY_REDIRECT, elsewhere)
            }),
        );
    let base = listening(app).await;
    let services = services_at(&base, bearer("secret"), HandClock::new()).unwrap();
    let heard = ask(&services, "interactions").await.unwrap();
    assert_eq!(heard["cards"][0]["summary"], "order-sign");
    for (name, why) in [
        ("prose", NotHeard::Unusable),
        ("endless", NotHeard::Unusable),
        ("ill", NotHeard::Failed),
        ("blind", NotHeard::NoPrefetch),
        ("silent", NotHeard::NoAnswer),
        // Also to where it would answer: what is sent holds health information, and goes where it was meant to.
        ("moved", NotHeard::Failed),
        ("nobody", NotHeard::Failed),
    ] {
        assert_eq!(ask(&services, name).await, Err(why), "{name}");
    }
}

#[tokio::test]
async fn nobody_is_asked_without_saying_who_asks_or_where_nobody_is_listed() {
    let at = |base: &str, credential| services_at(base, credential, HandClock::new());
    let refused = |made: Result<CdsServices, CdsServicesInvalid>| made.map(|_| ()).unwrap_err();
    assert!(matches!(
        refused(at(ELSEWHERE, CdsCredential::None)),
        CdsServicesInvalid::Open
    ));
    for unusable in ["", "two\nlines"] {
        assert!(matches!(
            refused(at(ELSEWHERE, bearer(unusable))),
            CdsServicesInvalid::Token
        ));
    }
    assert!(matches!(
        refused(at("http://cds.example.org", bearer("t"))),
        CdsServicesInvalid::Url(_)
    ));
    // A gate that knows this machine only lets nothing go anywhere else.
    let stranger = at(ELSEWHERE, bearer("t")).unwrap();
    assert_eq!(ask(&stranger, "interactions").await, Err(NotHeard::Refused));
    let closed = at("http://127.0.0.1:1", CdsCredential::None).unwrap();
    assert_eq!(ask(&closed, "interactions").await, Err(NotHeard::NoAnswer));
}

#[tokio::test]
async fn each_request_is_signed_for_one_service_and_five_minutes() {
    let mine = key();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&seen);
    let listen = move |headers: HeaderMap| {
        let value = headers[header::AUTHORIZATION].to_str().unwrap().to_owned();
        into.lock().unwrap().push(value);
        async { Json(json!({ "cards": [] })) }
    };
    let app = Router::new().route("/r4/cds-services/interactions", post(listen));
    let base = format!("{}/r4", listening(app).await);
    let jwks_url = "https://chaperone.example.org/jwks.json";
    let clock = HandClock::new();
    let credential = signed(&mine, SmartAlgorithm::Es384, Some(jwks_url));
    let services = services_at(&base, credential, Arc::clone(&clock)).unwrap();
    for _ in 0..2 {
        ask(&services, "interactions").await.unwrap();
    }
    let seen = seen.lock().unwrap().clone();
    assert_ne!(seen[0], seen[1], "a token is for one request");

    let token = seen[0].strip_prefix("Bearer ").unwrap();
    let said = jsonwebtoken::decode_header(token).unwrap();
    assert_eq!(said.alg, Algorithm::ES384);
    assert_eq!(said.typ.as_deref(), Some("JWT"));
    assert_eq!(said.kid.as_deref(), Some("k1"));
    assert_eq!(said.jku.as_deref(), Some(jwks_url));
    // The signature is this key's; a stranger's does not open it.
    let verified = |key: &Key| {
        let jwk = serde_json::from_value(key.jwks["keys"][0].clone()).unwrap();
        let mut checks = Validation::new(Algorithm::ES384);
        checks.set_audience(&[format!("{base}/cds-services/interactions")]);
        checks.set_required_spec_claims(&["iss", "aud", "exp"]);
        checks.validate_exp = false;
        jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(&jwk).unwrap(), &checks)
    };
    assert!(verified(&key()).is_err());
    let claims = verified(&mine).unwrap().claims;
    assert_eq!(claims["iss"], "https://chaperone.example.org");
    let now = clock.now().as_second();
    assert_eq!(claims["iat"], now);
    let until = claims["exp"].as_i64().unwrap();
    assert!(until > now && until <= now + 300);
    assert_eq!(claims["jti"].as_str().unwrap().len(), 32);
    // Nothing about anybody is in it.
    let parts: Vec<&str> = token.split('.').collect();
    let bytes = URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
    let mut names: Vec<String> = serde_json::from_slice::<Value>(&bytes)
        .unwrap()
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    names.sort();
    assert_eq!(names, ["aud", "exp", "iat", "iss", "jti"]);

    // A key of another kind signs nothing.
    let wrong = signed(&mine, SmartAlgorithm::Rs384, None);
    assert!(matches!(
        services_at(&base, wrong, HandClock::new())
            .map(|_| ())
            .unwrap_err(),
        CdsServicesInvalid::Key(SmartAlgorithm::Rs384)
    ));
}
