//! SMART Backend Services: two clients, tokens kept and renewed, nothing sent without one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{any, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chaperone_connect::ehr::{EhrAuth, EhrConfig, EhrConfigInvalid, FhirEndpoint};
use chaperone_connect::random::OsRandom;
use chaperone_connect::smart::{SmartAlgorithm, SmartClientConfig};
use chaperone_core::evidence::Strategy;
use chaperone_core::ports::{Clock, Ehr, EhrReadFailed, ServerKind, WriteFailed};
use chaperone_core::writeback::FailureCause;
use chaperone_sandbox::{Authentication, BackendClient, Sandbox, SandboxConfig, ServerProfile};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::support::{HandClock, config, create, gate, install_tls, kind, serve, task, write};

pub(crate) struct Key {
    pub(crate) pem: String,
    pub(crate) jwks: Value,
}

pub(crate) fn key() -> Key {
    let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
    // An uncompressed point: 4, then x and y of 48 bytes each.
    let point = pair.public_key().as_ref().to_vec();
    let jwks = json!({"keys": [{
        "kty": "EC", "crv": "P-384", "use": "sig", "alg": "ES384", "kid": "k1",
        "x": URL_SAFE_NO_PAD.encode(&point[1..49]),
        "y": URL_SAFE_NO_PAD.encode(&point[49..97]),
    }]});
    let der = STANDARD.encode(pair.to_pkcs8v1().unwrap().as_ref());
    let lines: Vec<&str> = der
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        lines.join("\n")
    );
    Key { pem, jwks }
}

fn client(id: &str, key: &Key, scope: &str) -> Box<SmartClientConfig> {
    Box::new(SmartClientConfig {
        client_id: id.to_owned(),
        key_id: "k1".to_owned(),
        key_pem: Zeroizing::new(key.pem.clone()),
        algorithm: SmartAlgorithm::Es384,
        scope: scope.to_owned(),
        token_url: None,
    })
}

fn settings(base_url: &str, read: &Key, write: &Key) -> EhrConfig {
    let mut settings = config(base_url, ServerKind::Full);
    settings.auth = EhrAuth::SmartBackend {
        read: client("reader", read, "system/*.rs"),
        write: client("writer", write, "system/*.cu"),
    };
    settings
}

fn endpoint(settings: EhrConfig, clock: Arc<HandClock>) -> FhirEndpoint {
    install_tls();
    FhirEndpoint::new(settings, &gate(), clock, Arc::new(OsRandom)).unwrap()
}

#[tokio::test]
async fn reads_and_writes_go_by_different_clients() {
    let (reader, writer, stranger) = (key(), key(), key());
    let clock = HandClock::new();
    let sandbox_clock = Arc::clone(&clock);
    let registered = |id: &str, key: &Key, scope: &str| BackendClient {
        client_id: id.to_owned(),
        jwks: key.jwks.clone(),
        scopes: vec![scope.to_owned()],
    };
    let running = Sandbox::start(
        SandboxConfig::new(ServerProfile::Full, Arc::new(move || sandbox_clock.now()))
            .with_authentication(Authentication::SmartBackend {
                clients: vec![
                    registered("reader", &reader, "system/*.rs"),
                    registered("writer", &writer, "system/*.cu"),
                ],
            }),
    )
    .await
    .unwrap();
    let ehr = endpoint(
        settings(&running.base_url, &reader, &writer),
        Arc::clone(&clock),
    );
    ehr.check_credentials().await.unwrap();
    let order = create(&ehr, 1, Strategy::Conditional, &task(1, "x"));
    assert!(write(&ehr, &order).await.unwrap().read_back.is_some());
    // After the tokens have run out, new ones are fetched.
    clock.advance_s(600);
    let order = create(&ehr, 2, Strategy::Conditional, &task(2, "y"));
    assert!(write(&ehr, &order).await.unwrap().read_back.is_some());

    // A writer that holds the wrong key reads, and writes nothing.
    let ehr = endpoint(
        settings(&running.base_url, &reader, &stranger),
        Arc::clone(&clock),
    );
    assert_eq!(
        ehr.check_credentials().await,
        Err(EhrReadFailed::Unauthorized)
    );
    assert_eq!(
        ehr.read(&kind("Task"), "none").await,
        Err(EhrReadFailed::NotFound)
    );
    let order = create(&ehr, 3, Strategy::Conditional, &task(3, "z"));
    assert_eq!(
        write(&ehr, &order).await,
        Err(WriteFailed::NotApplied {
            cause: FailureCause::Unauthorized,
            retry_after_ms: None
        })
    );
    assert_eq!(running.handle.resources("Task").len(), 2);
}

/// An authorisation server and an EHR that count, and an EHR that refuses chosen tokens.
#[derive(Clone, Default)]
struct Counting {
    tokens: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    refused: Arc<Mutex<Vec<String>>>,
}

impl Counting {
    async fn start(&self) -> String {
        let (tokens, this) = (Arc::clone(&self.tokens), self.clone());
        let issue = move || {
            let number = tokens.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                Json(json!({
                    "access_token": format!("t{number}"), "token_type": "Bearer", "expires_in": 300
                }))
            }
        };
        let fhir = move |request: Request| {
            let this = this.clone();
            async move {
                let token = request.headers()["authorization"]
                    .to_str()
                    .unwrap()
                    .trim_start_matches("Bearer ")
                    .to_owned();
                this.requests
                    .lock()
                    .unwrap()
                    .push(format!("{} {token}", request.method()));
                if this.refused.lock().unwrap().contains(&token) {
                    return StatusCode::UNAUTHORIZED.into_response();
                }
                Json(json!({"resourceType": "Task", "id": "1"})).into_response()
            }
        };
        let discovery = |request: Request| async move {
            let host = request.headers()["host"].to_str().unwrap().to_owned();
            Json(json!({"token_endpoint": format!("http://{host}/token")}))
        };
        serve(
            Router::new()
                .route("/fhir/.well-known/smart-configuration", any(discovery))
                .route("/token", post(issue))
                .fallback(any(fhir)),
        )
        .await
    }

    fn tokens(&self) -> usize {
        self.tokens.load(Ordering::SeqCst)
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    fn refuse(&self, token: &str) {
        self.refused.lock().unwrap().push(token.to_owned());
    }
}

#[tokio::test]
async fn a_token_is_kept_until_shortly_before_its_end() {
    let server = Counting::default();
    let base = server.start().await;
    let (clock, key) = (HandClock::new(), key());
    let ehr = endpoint(settings(&base, &key, &key), Arc::clone(&clock));
    let task = kind("Task");
    let reads = (0..8).map(|_| ehr.read(&task, "1"));
    for read in futures_all(reads).await {
        read.unwrap();
    }
    assert_eq!(server.tokens(), 1);
    clock.advance_s(269);
    ehr.read(&task, "1").await.unwrap();
    assert_eq!(server.tokens(), 1);
    clock.advance_s(2);
    ehr.read(&task, "1").await.unwrap();
    assert_eq!(server.tokens(), 2);
}

async fn futures_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut set: Vec<_> = futures.map(Box::pin).collect();
    let mut done = Vec::new();
    // All are polled once before any is awaited to its end, so that they run side by side.
    for future in &mut set {
        tokio::select! {
            biased;
            value = future => done.push(value),
            () = std::future::ready(()) => {}
        }
    }
    assert!(done.is_empty());
    for future in set {
        done.push(future.await);
    }
    done
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_for_a_read_and_never_for_a_write() {
    let server = Counting::default();
    let base = server.start().await;
    let key = key();
    let ehr = endpoint(settings(&base, &key, &key), HandClock::new());
    server.refuse("t1");
    ehr.read(&kind("Task"), "1").await.unwrap();
    assert_eq!(server.requests(), ["GET t1", "GET t2"]);

    server.refuse("t2");
    server.refuse("t3");
    assert_eq!(
        ehr.read(&kind("Task"), "1").await,
        Err(EhrReadFailed::Unauthorized)
    );
    assert_eq!(server.requests(), ["GET t2", "GET t3"]);

    server.refuse("t4");
    let order = create(&ehr, 1, Strategy::PlainPost, &task(1, "x"));
    assert_eq!(
        write(&ehr, &order).await,
        Err(WriteFailed::NotApplied {
            cause: FailureCause::Unauthorized,
            retry_after_ms: None
        })
    );
    assert_eq!(server.requests(), ["POST t4"]);
    // The next attempt has a new token.
    let _read_back_differs = write(&ehr, &order).await;
    assert_eq!(server.requests()[0], "POST t5");
}

#[tokio::test]
async fn keys_and_token_endpoints_are_checked_at_the_start() {
    install_tls();
    let key = key();
    let refused = |change: &dyn Fn(&mut SmartClientConfig)| {
        let mut settings = settings("https://ehr.example/fhir", &key, &key);
        if let EhrAuth::SmartBackend { read, .. } = &mut settings.auth {
            change(read);
        }
        FhirEndpoint::new(settings, &gate(), HandClock::new(), Arc::new(OsRandom))
    };
    assert!(refused(&|_| {}).is_ok());
    let bad: [&dyn Fn(&mut SmartClientConfig); 3] = [
        &|client| client.key_pem = Zeroizing::new("very secret".to_owned()),
        &|client| client.algorithm = SmartAlgorithm::Rs384,
        &|client| client.token_url = Some("http://ehr.example/token".to_owned()),
    ];
    for change in bad {
        let Err(failed @ EhrConfigInvalid::Auth { .. }) = refused(change) else {
            panic!();
        };
        assert!(!format!("{failed} {failed:?}").contains("very secret"));
    }
}
