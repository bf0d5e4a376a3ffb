//! What these tests share: a hand-turned clock, orders, and servers that do as they are told.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chaperone_connect::egress::Gate as EgressGate;
use chaperone_connect::ehr::{EhrAuth, EhrConfig, EhrLimits, FhirEndpoint, ProfileSource};
use chaperone_connect::random::OsRandom;
use chaperone_core::Timestamp;
use chaperone_core::change::ChangeClass;
use chaperone_core::content::content_digest;
use chaperone_core::digest::Digest;
use chaperone_core::evidence::{AgentVersion, Delivering, Strategy, ValidationRecord, WriteOrder};
use chaperone_core::gate::Gate;
use chaperone_core::ids::{AgentId, ConnectionId, TenantId, WritebackId};
use chaperone_core::ports::{
    Clock, Ehr, Environment, Reconciliation, ServerKind, WriteFailed, WriteReceipt,
};
use chaperone_core::resource::{Interaction, ResourceType};
use chaperone_sandbox::{RunningSandbox, Sandbox, SandboxConfig, ServerProfile};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The time at which tests begin.
const START_S: i64 = 1_772_463_600;

/// A clock that a test turns.
pub(crate) struct HandClock(AtomicI64);

impl HandClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(START_S)))
    }

    pub(crate) fn advance_s(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

pub(crate) fn install_tls() {
    // Fails only when another test of this process was faster, which is as good.
    let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Opens to this machine.
pub(crate) fn gate() -> EgressGate {
    EgressGate::to_this_machine(HandClock::new())
}

pub(crate) fn config(base_url: &str, kind: ServerKind) -> EhrConfig {
    EhrConfig {
        connection: ConnectionId::new("ehr").unwrap(),
        environment: Environment::Sandbox,
        base_url: base_url.to_owned(),
        auth: EhrAuth::Open,
        limits: EhrLimits::default(),
        profile: ProfileSource::Kind {
            kind,
            types: Vec::new(),
            transactions_are_atomic: true,
            updates_as_patches: false,
        },
        settle_ms: 1_000,
        extra_root_pem: None,
    }
}

pub(crate) fn endpoint(base_url: &str, kind: ServerKind) -> FhirEndpoint {
    endpoint_of(config(base_url, kind))
}

pub(crate) fn endpoint_of(config: EhrConfig) -> FhirEndpoint {
    install_tls();
    FhirEndpoint::new(config, &gate(), HandClock::new(), Arc::new(OsRandom)).unwrap()
}

/// A sandbox and an endpoint in front of it.
pub(crate) struct Bench {
    pub(crate) sandbox: RunningSandbox,
    pub(crate) ehr: FhirEndpoint,
}

pub(crate) async fn bench(profile: ServerProfile) -> Bench {
    let kind = match profile {
        ServerProfile::Full => ServerKind::Full,
        ServerProfile::Plain => ServerKind::Plain,
        ServerProfile::ReadOnly => ServerKind::ReadOnly,
        ServerProfile::Vendor | ServerProfile::Staged | ServerProfile::Patching => {
            panic!("these are declared otherwise")
        }
    };
    let sandbox = sandbox(profile).await;
    let ehr = endpoint(&sandbox.base_url, kind);
    Bench { sandbox, ehr }
}

pub(crate) async fn sandbox(profile: ServerProfile) -> RunningSandbox {
    let clock = HandClock::new();
    let config = SandboxConfig::new(profile, Arc::new(move || clock.now()));
    Sandbox::start(config).await.unwrap()
}

pub(crate) fn kind(name: &str) -> ResourceType {
    ResourceType::new(name).unwrap()
}

/// A Task that carries the identifier of write-back `number`.
pub(crate) fn task(number: u8, text: &str) -> Value {
    json!({
        "resourceType": "Task",
        "identifier": [{"system": "urn:chaperone:writeback", "value": writeback(number).to_string()}],
        "status": "requested",
        "intent": "order",
        "description": text,
    })
}

pub(crate) fn writeback(number: u8) -> WritebackId {
    WritebackId::from_random([number; 16])
}

fn provenance() -> String {
    json!({
        "resourceType": "Provenance",
        "recorded": "2026-03-02T15:00:00Z",
        "agent": [{"who": {"display": "an agent"}}],
    })
    .to_string()
}

fn order(ehr: &FhirEndpoint, number: u8, strategy: Strategy, body: &Value) -> WriteOrder {
    let resource = kind(body["resourceType"].as_str().unwrap());
    WriteOrder {
        tenant: TenantId::new("clinic").unwrap(),
        writeback: writeback(number),
        patient: None,
        connection: ehr.connection().clone(),
        endpoint: ehr.endpoint().to_owned(),
        interaction: Interaction::Create,
        path: resource.to_string(),
        resource,
        if_none_exist: None,
        if_match: None,
        base_version: None,
        base_digest: None,
        base: None,
        body: body.to_string(),
        patch: None,
        provenance: Some(provenance()),
        strategy,
        operation: None,
        signed_form: None,
        gate: Gate::Auto,
        class: ChangeClass::M0,
        bundle: Digest::of_bytes(b"bundle"),
        validation: ValidationRecord {
            validator: "test#1".to_owned(),
            packages: Vec::new(),
            stages: Vec::new(),
            body: Digest::of_bytes(b"body"),
            rules: None,
            findings: None,
        },
        author: AgentVersion {
            agent: AgentId::new("agent").unwrap(),
            version: "1".to_owned(),
            model: "model".to_owned(),
            prompts: Vec::new(),
        },
        evidence: Vec::new(),
        rests_on: Default::default(),
        resembles: Vec::new(),
        asked: None,
        call: None,
        edit: None,
        also: Vec::new(),
        salt: chaperone_core::digest::Salt::from_random([8; 32]),
    }
}

/// An order for a new Task.
pub(crate) fn create(
    ehr: &FhirEndpoint,
    number: u8,
    strategy: Strategy,
    body: &Value,
) -> WriteOrder {
    let mut order = order(ehr, number, strategy, body);
    if strategy == Strategy::Conditional {
        order.if_none_exist = Some(format!(
            "identifier=urn:chaperone:writeback|{}",
            writeback(number)
        ));
    }
    order
}

/// An order to change a resource that was read as `base`.
pub(crate) fn update(
    ehr: &FhirEndpoint,
    number: u8,
    strategy: Strategy,
    base: &Value,
    body: &Value,
) -> WriteOrder {
    let mut order = order(ehr, number, strategy, body);
    order.interaction = Interaction::Update;
    order.path = format!("{}/{}", order.resource, base["id"].as_str().unwrap());
    order.base_digest = Some(content_digest(base));
    if strategy == Strategy::Conditional {
        let version = base["meta"]["versionId"].as_str().unwrap();
        order.if_match = Some(format!("W/\"{version}\""));
        order.base_version = Some(version.to_owned());
    }
    order
}

/// An attempt at an endpoint of which a report showed all that is claimed of it.
pub(crate) fn attempt(order: &WriteOrder, number: u32) -> Delivering {
    attempt_where(order, number, true)
}

/// An attempt at an endpoint whose transactions a report showed to be atomic, or not.
pub(crate) fn attempt_where(order: &WriteOrder, number: u32, is_atomic: bool) -> Delivering {
    let bytes = serde_json::to_vec(order).unwrap();
    Delivering::begin(order.clone(), Digest::of_bytes(&bytes), number).shown_atomic(is_atomic)
}

pub(crate) async fn write(
    ehr: &FhirEndpoint,
    order: &WriteOrder,
) -> Result<WriteReceipt, WriteFailed> {
    ehr.write(&attempt(order, 1)).await
}

pub(crate) async fn reconcile(ehr: &FhirEndpoint, order: &WriteOrder) -> Reconciliation {
    ehr.reconcile(&attempt(order, 1)).await.unwrap()
}

/// Serves a router on a free port; the URL ends in `/fhir`.
pub(crate) async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/fhir")
}

/// What a server does otherwise than the sandbox behind it with the transactions that it is sent.
#[derive(Clone, Copy)]
pub(crate) struct Otherwise {
    /// What it makes of a transaction before it is carried out; with a status it refuses it unread.
    pub(crate) asked: fn(&mut Value) -> Option<StatusCode>,
    /// What it makes of the answer to what it was asked; with a status it says that alone.
    pub(crate) told: fn(&Value, &mut Value) -> Option<StatusCode>,
}

impl Otherwise {
    /// Makes something else of a transaction, and answers as it should.
    pub(crate) fn asked(asked: fn(&mut Value) -> Option<StatusCode>) -> Self {
        Self {
            asked,
            told: |_, _| None,
        }
    }
}

/// The entries of a transaction or of its answer.
pub(crate) fn entries(bundle: &mut Value) -> &mut Vec<Value> {
    let entries = &mut bundle["entry"];
    if entries.is_null() {
        *entries = json!([]);
    }
    entries.as_array_mut().unwrap()
}

/// A server in front of a sandbox that is odd about transactions and passes on everything else.
pub(crate) async fn in_front_of(sandbox: &RunningSandbox, odd: Otherwise) -> String {
    let behind = sandbox.base_url.clone();
    let router = Router::new().fallback(move |request: Request| {
        let behind = behind.clone();
        async move { pass_on(&behind, odd, request).await }
    });
    serve(router).await
}

async fn pass_on(behind: &str, odd: Otherwise, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut body = to_bytes(body, 1 << 20).await.unwrap();
    let path = parts.uri.path_and_query().unwrap().as_str();
    let path = path.strip_prefix("/fhir").unwrap();
    let asked: Option<Value> = serde_json::from_slice(&body).ok();
    let asked = asked.filter(|it| it["type"] == "transaction");
    if let Some(mut bundle) = asked.clone() {
        if let Some(refused) = (odd.asked)(&mut bundle) {
            return refused.into_response();
        }
        body = Bytes::from(bundle.to_string());
    }
    let mut sent = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .request(parts.method, format!("{behind}{path}"))
        .body(body);
    for (name, value) in &parts.headers {
        if !["host", "content-length"].contains(&name.as_str()) {
            sent = sent.header(name, value);
        }
    }
    let answer = sent.send().await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut text = answer.text().await.unwrap();
    if let (Some(asked), StatusCode::OK) = (asked, status) {
        let mut told: Value = serde_json::from_str(&text).unwrap();
        if let Some(said) = (odd.told)(&asked, &mut told) {
            return said.into_response();
        }
        text = told.to_string();
    }
    let mut response = (status, text).into_response();
    for name in ["content-type", "etag", "location"] {
        if let Some(value) = headers.get(name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// What a raw server does with a request it has read to its end.
pub(crate) enum Reaction {
    /// Closes the connection.
    Close,
    /// Says nothing until the client goes away.
    Silence,
    /// Sends these bytes and keeps the connection.
    Answer(String),
}

/// A server at the level of bytes, which sees every request that arrives, also a repeated one.
pub(crate) struct RawServer {
    pub(crate) base_url: String,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicI64>,
}

impl RawServer {
    pub(crate) async fn start(react: impl Fn(usize) -> Reaction + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicI64::new(0));
        let (seen, opened) = (Arc::clone(&requests), Arc::clone(&connections));
        let react = Arc::new(react);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                opened.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve_raw(stream, Arc::clone(&seen), Arc::clone(&react)));
            }
        });
        Self {
            base_url: format!("http://{address}/fhir"),
            requests,
            connections,
        }
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> i64 {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve_raw(
    mut stream: TcpStream,
    seen: Arc<Mutex<Vec<String>>>,
    react: Arc<impl Fn(usize) -> Reaction>,
) {
    while let Some(request) = read_request(&mut stream).await {
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(request);
            seen.len()
        };
        match react(number) {
            Reaction::Close => return,
            Reaction::Silence => {}
            Reaction::Answer(bytes) => {
                if stream.write_all(bytes.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .and_then(|(_, value)| value.parse::<usize>().ok())
                .unwrap_or(0);
            if body.len() >= length {
                return Some(text.into_owned());
            }
        }
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

/// A raw HTTP answer.
pub(crate) fn raw_answer(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/fhir+json\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}
