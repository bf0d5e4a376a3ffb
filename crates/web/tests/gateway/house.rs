//! One Chaperone with its surroundings, driven in-process.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use chaperone_core::Timestamp;
use chaperone_core::event::{Event, Recorded};
use chaperone_core::ids::{
    AccountName, AgentId, ConnectionId, EhrEventSource, GrantId, IntentId, PersonId, TenantId,
};
use chaperone_core::ports::{Clock as _, ConsentHook, Store};
use chaperone_core::principal::{Human, Role};
use chaperone_engine::ehr_event::{EventSources, SourceKind, SourceSecrets};
use chaperone_engine::grant::{GrantRequest, PatientRef};
use chaperone_engine::launch::Launches;
use chaperone_engine::launch::card::CardClient;
use chaperone_engine::{Engine, EngineConfig, Ports};
use chaperone_policy::Bundle;
use chaperone_testkit::{
    FakeEhr, FakeLaunchServer, FaultyStore, KeptMail, MemoryAnchor, MemoryKeyVault, PermitConsent,
    SeededClock, SeededRandom, SilentNotifier,
};
use chaperone_web::App;
use chaperone_web::gateway::{GatewayLimits, GatewayState};
use ed25519_dalek::SigningKey;
use http_body_util::BodyExt as _;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};
use tower::ServiceExt as _;

pub(crate) const BASE: &str = "https://chaperone.example";
/// `iss` of the EHR that asks for cards.
pub(crate) const EHR_ISSUER: &str = "https://ehr.test";
pub(crate) const SCHEDULER: &str = "scheduler-agent";
pub(crate) const SCRIBE: &str = "scribe-agent";
pub(crate) const DISPATCHER: &str = "intake-dispatcher";
pub(crate) const INTAKE: &str = "intake-agent";
pub(crate) const CONTACT: &str = "contact-agent";
/// The secret of the source `integration`, and the one before it.
pub(crate) const EVENT_SECRET: &[u8] = b"the secret of the integration engine";
pub(crate) const PORTAL_SECRET: &[u8] = b"the secret of the portal of patients";
pub(crate) const EVENT_SECRET_BEFORE: &[u8] = b"the secret of the engine before that";
/// The tool whose access policy fails to evaluate in the edited bundle.
pub(crate) const FAILING_TOOL: &str = "list_recent_vitals";

/// A moment at which the agreements of the default bundle hold.
fn start() -> Timestamp {
    "2027-03-01T12:00:00Z".parse().unwrap()
}

pub(crate) struct House {
    pub(crate) engine: Arc<Engine>,
    pub(crate) router: Router,
    pub(crate) clock: Arc<SeededClock>,
    pub(crate) ehr: Arc<FakeEhr>,
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) mail: Arc<KeptMail>,
    counter: std::sync::atomic::AtomicU64,
    _folder: tempfile::TempDir,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The stable code, wherever the shape of the answer carries it.
    pub(crate) fn code(&self) -> &str {
        [
            "/code",
            "/error/data/code",
            "/result/structuredContent/code",
        ]
        .into_iter()
        .find_map(|at| self.body.pointer(at)?.as_str())
        .unwrap_or("")
    }

    pub(crate) fn correlation(&self) -> &str {
        self.headers
            .get("x-correlation-id")
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

impl House {
    pub(crate) async fn new() -> Self {
        Self::with_limits(GatewayLimits::default()).await
    }

    pub(crate) async fn with_limits(limits: GatewayLimits) -> Self {
        Self::with(limits, Arc::new(PermitConsent)).await
    }

    pub(crate) async fn with(limits: GatewayLimits, consent: Arc<dyn ConsentHook>) -> Self {
        Self::made(limits, consent, Some(launches())).await
    }

    /// The same where no EHR may ask for cards.
    pub(crate) async fn without_cards() -> Self {
        Self::made(GatewayLimits::default(), Arc::new(PermitConsent), None).await
    }

    async fn made(
        limits: GatewayLimits,
        consent: Arc<dyn ConsentHook>,
        launches: Option<Launches>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("test.db").display());
        let store = chaperone_store::open(&url, chaperone_store::Options::default())
            .await
            .unwrap();
        let store = Arc::new(FaultyStore::new(store));
        let clock = Arc::new(SeededClock::at(start()));
        let ehr = Arc::new(FakeEhr::new(ConnectionId::new("fake").unwrap()));
        fill(&ehr);
        let ports = Ports {
            store: store.clone(),
            ehr: ehr.clone(),
            keys: Arc::new(MemoryKeyVault::new(7)),
            clock: clock.clone(),
            random: Arc::new(SeededRandom::new(7)),
            consent,
            notifier: Arc::new(SilentNotifier::default()),
            anchor: Arc::new(MemoryAnchor::default()),
        };
        let mail = Arc::new(KeptMail::default());
        let config = EngineConfig {
            event_sources: event_sources(),
            launches,
            patient_mail: Some(mail.clone()),
            ..EngineConfig::new(TenantId::new("clinic").unwrap(), BASE)
        };
        let bundle =
            Bundle::load(&bundle_files()).unwrap_or_else(|problems| panic!("{problems:?}"));
        let engine = Engine::start(config, Arc::new(bundle), ports)
            .await
            .unwrap();
        let report = engine.conformance_report(chaperone_testkit::shown(ehr.as_ref()), 300);
        engine.record_conformance(&report).await.unwrap();
        let router = chaperone_web::app(App {
            gateway: GatewayState::new(engine.clone(), limits),
            operators: None,
            console: None,
        });
        Self {
            engine,
            router,
            clock,
            ehr,
            store,
            mail,
            counter: std::sync::atomic::AtomicU64::new(0),
            _folder: folder,
        }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        }
    }

    /// A grant for a patient of the fake EHR, by a nurse.
    pub(crate) async fn grant(&self, agent: &str, intent: &str, patient: &str) -> GrantId {
        let request = GrantRequest {
            agent: AgentId::new(agent).unwrap(),
            intent: IntentId::new(intent).unwrap(),
            patient: PatientRef::LogicalId(patient.to_owned()),
            encounter: None,
            presence: false,
        };
        let nurse = Human {
            account: AccountName::new("nurse").unwrap(),
            person: PersonId::from_random([9; 16]),
            roles: vec![Role::Rn],
        };
        let granted = self.engine.issue_grant(&nurse, request).await;
        granted.unwrap().id
    }

    /// An access token, through the token endpoint.
    pub(crate) async fn token(&self, agent: &str, intent: &str, patient: Option<&str>) -> String {
        let grant = match patient {
            Some(patient) => Some(self.grant(agent, intent, patient).await),
            None => None,
        };
        let answer = self
            .send(token_request(
                &self.assertion(agent),
                intent,
                grant.as_ref(),
            ))
            .await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        answer.body["access_token"].as_str().unwrap().to_owned()
    }

    pub(crate) fn assertion(&self, agent: &str) -> String {
        self.assertion_with(agent, agent, &json!({}))
    }

    /// A number that was not given before.
    pub(crate) fn next(&self) -> u64 {
        self.counter
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    /// An assertion signed with `key_of`'s key, with some claims replaced.
    pub(crate) fn assertion_with(&self, agent: &str, key_of: &str, claims: &Value) -> String {
        let count = self.next();
        let now = self.clock.now().as_second();
        let mut all = json!({
            "iss": agent, "sub": agent, "aud": format!("{BASE}/oauth/token"),
            "iat": now, "exp": now + 120, "jti": format!("jti-{count}"),
        });
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some("k1".to_owned());
        jsonwebtoken::encode(&header, &all, &encoding_key(key_of)).unwrap()
    }

    /// Everything recorded so far.
    pub(crate) async fn ledger(&self) -> Vec<Recorded> {
        let tenant = self.engine.tenant();
        let leaves = self.store.leaves(tenant, 0, 1_000).await.unwrap();
        leaves
            .iter()
            .map(|leaf| Recorded::from_leaf(leaf).unwrap())
            .collect()
    }

    /// The code under which a request's refusal is recorded.
    pub(crate) async fn recorded_refusal(&self, correlation: &str) -> Option<String> {
        self.ledger()
            .await
            .into_iter()
            .find_map(|recorded| match recorded.event {
                Event::CallRefused(refusal) if refusal.correlation.to_string() == correlation => {
                    Some(refusal.code)
                }
                Event::EhrEventRefused(refusal)
                    if refusal.correlation.to_string() == correlation =>
                {
                    Some(refusal.code)
                }
                _ => None,
            })
    }
}

pub(crate) fn token_request(
    assertion: &str,
    intent: &str,
    grant: Option<&GrantId>,
) -> Request<Body> {
    let details = grant.map(|grant| json!([{"type": "chaperone_context", "grant": grant}]));
    // Neither dispatching nor collecting opens an intent.
    let scope = match intent {
        "dispatch" | "collect" => intent.to_owned(),
        intent => format!("intent/{intent}"),
    };
    form(&[
        ("grant_type", "client_credentials"),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_assertion", assertion),
        ("scope", &scope),
        (
            "authorization_details",
            &details.map_or(String::new(), |details| details.to_string()),
        ),
    ])
}

pub(crate) fn form(fields: &[(&str, &str)]) -> Request<Body> {
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(fields);
    Request::post("/oauth/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(body.finish()))
        .unwrap()
}

pub(crate) fn rest(token: &str, tool: &str, arguments: &Value) -> Request<Body> {
    json_post(
        &format!("/v1/tools/{tool}"),
        Some(token),
        arguments.to_string(),
    )
}

pub(crate) fn get(token: &str, path: &str) -> Request<Body> {
    bare("GET", Some(token), path)
}

pub(crate) fn bare(method: &str, token: Option<&str>, path: &str) -> Request<Body> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "chaperone.example");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(Body::empty()).unwrap()
}

pub(crate) fn json_post(path: &str, token: Option<&str>, body: impl Into<Body>) -> Request<Body> {
    let mut request = bare("POST", token, path);
    request
        .headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    *request.body_mut() = body.into();
    request
}

/// A message of revision 2025-11-25.
pub(crate) fn mcp(token: Option<&str>, method: &str, params: &Value) -> Request<Body> {
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    mcp_raw(token, message.to_string())
}

pub(crate) fn mcp_raw(token: Option<&str>, body: impl Into<Body>) -> Request<Body> {
    let mut request = json_post("/mcp", token, body);
    let headers = request.headers_mut();
    headers.insert(
        "accept",
        "application/json, text/event-stream".parse().unwrap(),
    );
    headers.insert("mcp-protocol-version", "2025-11-25".parse().unwrap());
    request
}

pub(crate) fn mcp_call(token: &str, tool: &str, arguments: &Value) -> Request<Body> {
    mcp(
        Some(token),
        "tools/call",
        &json!({"name": tool, "arguments": arguments}),
    )
}

/// A window that holds the slot of the fake EHR.
pub(crate) fn window() -> Value {
    json!({"from": "2027-03-02T00:00:00Z", "until": "2027-03-09T00:00:00Z"})
}

/// The key that the EHR signs with when it asks for cards, and its public half.
pub(crate) static CARD_KEY: LazyLock<(EncodingKey, Map<String, Value>)> = LazyLock::new(|| {
    use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
    use base64::Engine as _;
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
    let point = pair.public_key().as_ref();
    let jwk = json!({
        "kty": "EC", "crv": "P-384", "kid": "k1",
        "x": base64(&point[1..49]), "y": base64(&point[49..97]),
    });
    let der = pair.to_pkcs8v1().unwrap();
    let key = EncodingKey::from_ec_der(der.as_ref());
    (key, jwk.as_object().unwrap().clone())
});

fn launches() -> Launches {
    Launches {
        server: Arc::new(FakeLaunchServer::of("http://ehr.test/fhir")),
        users: BTreeMap::new(),
        card_clients: vec![CardClient {
            issuer: EHR_ISSUER.to_owned(),
            keys: vec![CARD_KEY.1.clone()],
        }],
    }
}

fn event_sources() -> EventSources {
    let source = |name: &str, current, previous| SourceSecrets {
        source: EhrEventSource::new(name).unwrap(),
        kind: match name {
            "portal" => SourceKind::Portal,
            _ => SourceKind::Announcer,
        },
        current,
        previous,
        window_s: 300,
    };
    EventSources::new([
        source("integration", EVENT_SECRET, Some(EVENT_SECRET_BEFORE)),
        source("lab", b"the secret of the laboratory system", None),
        source("portal", PORTAL_SECRET, None),
    ])
    .unwrap()
}

fn seed_of(agent: &str) -> [u8; 32] {
    let mut seed = [9; 32];
    seed[..agent.len()].copy_from_slice(agent.as_bytes());
    seed
}

/// PKCS#8 of an Ed25519 seed (RFC 8410, section 7).
fn encoding_key(agent: &str) -> EncodingKey {
    let mut der = hex::decode("302e020100300506032b657004220420").unwrap();
    der.extend(seed_of(agent));
    EncodingKey::from_ed_der(&der)
}

fn public_x(agent: &str) -> String {
    use base64::Engine as _;
    let key = SigningKey::from_bytes(&seed_of(agent)).verifying_key();
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key.as_bytes())
}

/// The default bundle with keys for its agents and one access policy that cannot be evaluated.
fn bundle_files() -> BTreeMap<String, String> {
    let mut files = chaperone_policy::embedded::files();
    for agent in [SCHEDULER, SCRIBE, INTAKE, CONTACT, DISPATCHER] {
        let file = files.get_mut(&format!("agents/{agent}.toml")).unwrap();
        let key = format!(
            "keys = [{{ kty = \"OKP\", crv = \"Ed25519\", alg = \"EdDSA\", use = \"sig\", kid = \"k1\", x = \"{}\" }}]",
            public_x(agent)
        );
        assert!(file.contains("keys = []"));
        *file = file.replace("keys = []", &key);
        if agent == DISPATCHER {
            // Its own agreements outlast those of the agents that it serves.
            *file = file.replace("2027-12-31T00:00:00Z", "2028-12-31T00:00:00Z");
        }
    }
    files.get_mut("rules/verification.toml").unwrap().push_str(
        "\n[[sources]]\nsource = \"portal\"\nfacts = [\"patient_confirmed\", \"portal_patient\"]\nvalid_s = 600\n",
    );
    let access = files.get_mut("policies/access.cedar").unwrap();
    access.push_str(
        "\n@id(\"access-failing\")\n@denial(\"failing\")\n@text(\"A policy that cannot be evaluated.\")\n\
         forbid (principal, action == Action::\"access\", resource)\n\
         when { resource.type == \"Observation\" && 9223372036854775807 + 1 > 0 };\n",
    );
    files
}

/// Two synthetic patients, each with an appointment; one free slot.
fn fill(ehr: &FakeEhr) {
    for (id, name) in [("a", "Canary-Alpha"), ("b", "Canary-Beta")] {
        ehr.put(json!({
            "resourceType": "Patient", "id": id, "active": true, "birthDate": "1950-02-03",
            "gender": "female", "name": [{"family": name, "given": ["Una"]}],
            "identifier": [{"system": "urn:example:mrn", "value": format!("CANARY-MRN-{id}")}],
        }));
        ehr.put(json!({
            "resourceType": "Appointment", "id": format!("appt-{id}"), "status": "booked",
            "start": "2027-03-20T09:00:00Z", "end": "2027-03-20T09:30:00Z",
            "participant": [{"actor": {"reference": format!("Patient/{id}")}, "status": "accepted"}],
        }));
    }
    ehr.put(json!({
        "resourceType": "Slot", "id": "slot-1", "status": "free",
        "schedule": {"reference": "Schedule/s"},
        "serviceType": [{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/service-type", "code": "124",
        }]}],
        "start": "2027-03-03T09:00:00Z", "end": "2027-03-03T09:30:00Z",
    }));
}

pub(crate) fn signature(secret: &[u8], timestamp: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, format!("{timestamp}.{body}").as_bytes());
    format!("v1={}", hex::encode(tag.as_ref()))
}

pub(crate) fn with_headers(
    path: &str,
    body: &str,
    headers: &[(&'static str, &str)],
) -> Request<Body> {
    let mut request = json_post(path, None, body.to_owned());
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

/// A delivery signed by a secret, a number of seconds from now.
pub(crate) fn sent_at(
    house: &House,
    path: &str,
    secret: &[u8],
    ahead_s: i64,
    body: &str,
) -> Request<Body> {
    let timestamp = (house.clock.now().as_second() + ahead_s).to_string();
    let signature = signature(secret, &timestamp, body);
    with_headers(
        path,
        body,
        &[
            ("x-chaperone-timestamp", &timestamp),
            ("x-chaperone-signature", &signature),
        ],
    )
}
