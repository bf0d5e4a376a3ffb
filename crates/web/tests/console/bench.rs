//! A whole console on a real store, with a fake EHR, a clock that stands still, and a browser that
//! keeps cookies. Agents are put into envelopes directly; how they get there is the gateway's tests.

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use chaperone_core::envelope::{Envelope, Presence};
use chaperone_core::event::StreamId;
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::{AccountName, ConnectionId, EnvelopeId, IntentId, TenantId, WritebackId};
use chaperone_core::ports::{Clock, DecisionSupport, Random, Store};
use chaperone_core::principal::{Human, Role};
use chaperone_core::resource::Code;
use chaperone_engine::grant::{GrantRequest, PatientRef};
use chaperone_engine::launch::Launches;
use chaperone_engine::open_envelope::Caller;
use chaperone_engine::people::{NewAccount, Password, PasswordHash, RelyingParty, totp};
use chaperone_engine::{Engine, EngineConfig, Ports};
use chaperone_testkit::{
    FakeEhr, MemoryAnchor, MemoryKeyVault, PermitConsent, SeededClock, SeededRandom, SilentNotifier,
};
use chaperone_web::console::{ConsoleState, CookieSecurity, router};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

pub(crate) const PASSWORD: &str = "a calm grey morning";
/// Where pages that may use passkeys are.
pub(crate) const ORIGIN: &str = "http://localhost:8080";
/// A name that tries to be markup wherever it is shown.
pub(crate) const HOSTILE: &str = "<script>alert(1)</script>";

/// Read once: proving its cases takes a second without optimisation, and nothing changes it.
static BUNDLE: LazyLock<Arc<chaperone_policy::Bundle>> = LazyLock::new(|| {
    let loaded = chaperone_policy::Bundle::load(&chaperone_policy::embedded::files());
    Arc::new(loaded.unwrap_or_else(|problems| panic!("{problems:?}")))
});

pub(crate) struct Bench {
    pub(crate) engine: Arc<Engine>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<SeededClock>,
    pub(crate) ehr: Arc<FakeEhr>,
    random: SeededRandom,
    router: Router,
    _dir: tempfile::TempDir,
}

/// A signed-in person with their authenticator.
pub(crate) struct Someone {
    pub(crate) human: Human,
    pub(crate) secret: [u8; totp::SECRET_BYTES],
    pub(crate) cookie: String,
    pub(crate) csrf: String,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn location(&self) -> &str {
        self.headers
            .get(header::LOCATION)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The value of the first attribute after a marker.
    pub(crate) fn after(&self, marker: &str) -> &str {
        let rest = self
            .body
            .split_once(marker)
            .unwrap_or_else(|| panic!("no {marker}: {}", self.body))
            .1;
        rest.split_once('"').unwrap().0
    }
}

pub(crate) fn tenant() -> TenantId {
    TenantId::new("clinic").unwrap()
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::delivering_by(Strategy::Conditional).await
    }

    /// The same where a decision waits until the change was read.
    pub(crate) async fn with_readers() -> Self {
        let reads = |config: &mut EngineConfig| config.decides_after_reading = true;
        Self::made(Strategy::Conditional, BUNDLE.clone(), reads).await
    }

    /// The same where there may be canaries.
    pub(crate) async fn with_canaries() -> Self {
        let tests = |config: &mut EngineConfig| {
            config.canaries = Some(chaperone_engine::canary::CanariesDisclosed {
                since: chaperone_core::Timestamp::UNIX_EPOCH,
            });
        };
        Self::made(Strategy::Conditional, BUNDLE.clone(), tests).await
    }

    /// The same where a CDS service is asked about orders.
    pub(crate) async fn with_decision_support(service: Arc<dyn DecisionSupport>) -> Self {
        let mut files = chaperone_policy::embedded::files();
        let table = files.get_mut("rules/decision-support.toml").unwrap();
        table.push_str(
            "\n[[services]]\nid = \"checks\"\nname = \"Order checks\"\nprefetch = [\"patient\"]\n",
        );
        let loaded = chaperone_policy::Bundle::load(&files);
        let bundle = loaded.unwrap_or_else(|problems| panic!("{problems:?}"));
        let asks = |config: &mut EngineConfig| config.decision_support = Some(service);
        Self::made(Strategy::Conditional, Arc::new(bundle), asks).await
    }

    /// The same where people come from inside the EHR.
    pub(crate) async fn with_launches(launches: Launches) -> Self {
        let takes = |config: &mut EngineConfig| config.launches = Some(launches);
        Self::made(Strategy::Conditional, BUNDLE.clone(), takes).await
    }

    /// The same in front of an EHR that takes writes in another way.
    pub(crate) async fn delivering_by(strategy: Strategy) -> Self {
        Self::made(strategy, BUNDLE.clone(), |_| ()).await
    }

    async fn made(
        strategy: Strategy,
        bundle: Arc<chaperone_policy::Bundle>,
        adapt: impl FnOnce(&mut EngineConfig),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("console.db").display());
        let store = chaperone_store::open(&url, Default::default())
            .await
            .unwrap();
        let clock = Arc::new(SeededClock::at("2026-09-01T09:00:00Z".parse().unwrap()));
        let ehr =
            Arc::new(FakeEhr::new(ConnectionId::new("fake").unwrap()).delivering_by(strategy));
        for resource in records() {
            ehr.put(resource);
        }
        let ports = Ports {
            store: store.clone(),
            ehr: ehr.clone(),
            keys: Arc::new(MemoryKeyVault::new(1)),
            clock: clock.clone(),
            random: Arc::new(SeededRandom::new(1)),
            consent: Arc::new(PermitConsent),
            notifier: Arc::new(SilentNotifier::default()),
            anchor: Arc::new(MemoryAnchor::default()),
        };
        let mut config = EngineConfig::new(tenant(), "http://127.0.0.1:8080");
        config.passkeys = RelyingParty::at(ORIGIN);
        config.decides_after_reading = false;
        adapt(&mut config);
        let engine = Engine::start(config, bundle, ports).await.unwrap();
        let report = engine.conformance_report(chaperone_testkit::shown(ehr.as_ref()), 300);
        engine.record_conformance(&report).await.unwrap();
        let router = router(ConsoleState::new(engine.clone(), CookieSecurity::Loopback));
        Self {
            engine,
            store,
            clock,
            ehr,
            random: SeededRandom::new(2),
            router,
            _dir: dir,
        }
    }

    pub(crate) async fn get(&self, path: &str, cookie: &str) -> Answer {
        self.send(Request::get(path), cookie, Body::empty()).await
    }

    pub(crate) async fn post(&self, path: &str, cookie: &str, form: &[(&str, &str)]) -> Answer {
        self.send(Request::post(path), cookie, Body::from(encode(form)))
            .await
    }

    pub(crate) async fn send(
        &self,
        request: axum::http::request::Builder,
        cookie: &str,
        body: Body,
    ) -> Answer {
        let request = request
            .header(header::HOST, "127.0.0.1:8080")
            .header(header::COOKIE, cookie)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body)
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(bytes.to_vec()).unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    /// The first account, signed in, with its second factor.
    pub(crate) async fn admin(&self) -> Someone {
        let code = self.engine.bootstrap_code().await.unwrap().unwrap();
        let account = NewAccount {
            name: AccountName::new("admin").unwrap(),
            person: None,
            roles: vec![],
        };
        let human = self.engine.bootstrap(&code, account, hash()).await.unwrap();
        self.ready(human).await
    }

    /// Another account, signed in, with its second factor.
    pub(crate) async fn person(&self, admin: &Someone, name: &str, roles: &[Role]) -> Someone {
        let account = NewAccount {
            name: AccountName::new(name).unwrap(),
            person: None,
            roles: roles.to_vec(),
        };
        let code = self
            .engine
            .create_account(&admin.human, account)
            .await
            .unwrap();
        let human = self.engine.enrol(name, &code, hash()).await.unwrap();
        self.ready(human).await
    }

    async fn ready(&self, human: Human) -> Someone {
        let enrolment = self.engine.second_factor_begin(&human).await.unwrap();
        let secret = decode_base32(&enrolment.secret).try_into().unwrap();
        // The code of the step before, so that the present one stays free.
        let before = self
            .clock
            .now()
            .checked_sub(jiff::SignedDuration::from_secs(30))
            .unwrap();
        self.engine
            .second_factor_confirm(&human, &totp::code_at(secret, before))
            .await
            .unwrap();
        let session = self.engine.sign_in_enrolled(&human).await.unwrap();
        let cookie = format!("chaperone={}", session.token);
        let csrf = self
            .get("/console/health", &cookie)
            .await
            .after("name=\"csrf\" value=\"")
            .to_owned();
        Someone {
            human,
            secret,
            cookie,
            csrf,
        }
    }

    pub(crate) fn code(&self, someone: &Someone) -> String {
        totp::code_at(someone.secret, self.clock.now())
    }

    /// Puts a patient before an agent and opens an envelope.
    pub(crate) async fn envelope(
        &self,
        by: &Someone,
        agent: &str,
        intent: &str,
        patient: &str,
    ) -> Caller {
        let request = GrantRequest {
            agent: agent.parse().unwrap(),
            intent: intent.parse().unwrap(),
            patient: PatientRef::LogicalId(patient.to_owned()),
            encounter: None,
            presence: true,
        };
        let grant = self.engine.issue_grant(&by.human, request).await.unwrap();
        let now = self.clock.now();
        let intent = IntentId::new(intent).unwrap();
        let envelope = Envelope {
            id: EnvelopeId::from_random(self.random.id()),
            tenant: tenant(),
            agent: grant.agent.clone(),
            intent,
            grant: Some(grant.id),
            patient: grant.patient,
            encounter: None,
            presence: Some(Presence {
                person: by.human.person,
                until: grant.expires,
            }),
            purpose: Code::new("TREAT").unwrap(),
            bundle: *self.engine.bundle().digest(),
            opened: now,
            expires: now
                .checked_add(jiff::SignedDuration::from_secs(300))
                .unwrap(),
        };
        Caller {
            envelope: Arc::new(envelope),
        }
    }

    pub(crate) async fn call(&self, caller: &Caller, tool: &str, arguments: Value) -> Value {
        let Value::Object(arguments) = arguments else {
            panic!("arguments are an object")
        };
        let correlation = self.engine.correlation();
        self.engine
            .call(caller, tool, arguments, correlation)
            .await
            .unwrap_or_else(|failed| panic!("{tool}: {failed:?}"))
    }

    /// An order that waits for approval: of lisinopril for one clinician, of warfarin for two people.
    pub(crate) async fn order(&self, by: &Someone, drug: &str) -> WritebackId {
        let caller = self.envelope(by, "order-agent", "submit-order", "a").await;
        let list = self.call(&caller, "list_medications", json!({})).await;
        let resources = list["resources"].as_array().unwrap();
        let code = match drug {
            "lisinopril" => "314076",
            _ => "855332",
        };
        let prior = resources
            .iter()
            .find(|one| one.to_string().contains(code))
            .unwrap_or_else(|| panic!("no {drug} in {list}"));
        let answer = self
            .call(
                &caller,
                "order_medication",
                json!({
                    "prior": token_of(prior), "dose": 20, "unit": "mg", "frequency": 1,
                    "idempotency_key": format!("{drug}-{}", caller.envelope.id),
                    "rationale": format!("Blood pressure above target {HOSTILE}"),
                    "confidence": 0.9, "sources": [token_of(prior)],
                }),
            )
            .await;
        proposal_of(&answer)
    }

    /// A note that waits for one clinician, without a second factor.
    pub(crate) async fn note(&self, by: &Someone) -> WritebackId {
        let caller = self.envelope(by, "scribe-agent", "draft-note", "a").await;
        let list = self.call(&caller, "list_encounters", json!({})).await;
        let answer = self
            .call(
                &caller,
                "draft_note",
                json!({
                    "encounter_token": token_of(&list["resources"][0]),
                    "text": format!("Seen today. {HOSTILE}"),
                    "idempotency_key": format!("note-{}", caller.envelope.id),
                }),
            )
            .await;
        proposal_of(&answer)
    }

    /// Approves a note at the console and lets the worker have it.
    pub(crate) async fn approved_note(&self, by: &Someone) -> WritebackId {
        let id = self.note(by).await;
        let page = self
            .get(&format!("/console/writebacks/{id}"), &by.cookie)
            .await;
        let digest = page.after("name=\"digest\" value=\"").to_owned();
        let form = [
            ("csrf", by.csrf.as_str()),
            ("digest", digest.as_str()),
            ("opened", "0"),
        ];
        let path = format!("/console/writebacks/{id}/approve");
        let taken = self.post(&path, &by.cookie, &form).await;
        assert_eq!(taken.status, StatusCode::SEE_OTHER, "{}", taken.body);
        id
    }

    /// Works until nothing is due, over an hour in steps.
    pub(crate) async fn work(&self) {
        for _ in 0..60 {
            self.engine.deliver_due("worker").await.unwrap();
            self.clock.advance_s(5);
        }
    }

    pub(crate) async fn kinds(&self, stream: StreamId) -> Vec<String> {
        let events = self.store.stream(&tenant(), &stream).await.unwrap();
        events
            .iter()
            .map(|recorded| recorded.event.kind())
            .collect()
    }
}

fn token_of(resource: &Value) -> String {
    let text = resource.to_string();
    let at = text
        .find("res_")
        .unwrap_or_else(|| panic!("no token in {text}"));
    text[at..at + 36].to_owned()
}

fn proposal_of(answer: &Value) -> WritebackId {
    answer["proposal"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"))
        .parse()
        .unwrap()
}

fn hash() -> PasswordHash {
    PasswordHash::make(&Password::chosen(PASSWORD.to_owned()).unwrap(), [3; 16]).unwrap()
}

pub(crate) fn encode(form: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish()
}

/// RFC 4648 base 32, for reading back what is shown to people.
fn decode_base32(text: &str) -> Vec<u8> {
    let (mut bytes, mut bits, mut have) = (Vec::new(), 0_u32, 0);
    for c in text.bytes() {
        let value = if c.is_ascii_uppercase() {
            c - b'A'
        } else {
            c - b'2' + 26
        };
        bits = bits << 5 | u32::from(value);
        have += 5;
        if have >= 8 {
            have -= 8;
            bytes.push((bits >> have) as u8);
            bits &= (1 << have) - 1;
        }
    }
    bytes
}

/// Two synthetic patients, of whom one has a record.
fn records() -> Vec<Value> {
    let medication = |id: &str, code: &str, name: &str| {
        json!({
            "resourceType": "MedicationRequest", "id": id, "status": "active", "intent": "order",
            "subject": {"reference": "Patient/a"}, "authoredOn": "2026-05-01T10:00:00Z",
            "medicationCodeableConcept": {"coding": [{
                "system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": code, "display": name,
            }], "text": name},
            "dosageInstruction": [{
                "timing": {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}},
                "doseAndRate": [{"doseQuantity": {
                    "value": 10, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg",
                }}],
            }],
        })
    };
    let mrn = |value: &str| {
        json!([{
            "type": {"coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR",
            }]},
            "system": "urn:example:mrn", "value": value,
        }])
    };
    vec![
        json!({
            "resourceType": "Patient", "id": "a", "active": true, "gender": "female",
            "birthDate": "1950-02-03", "name": [{"family": "Sample", "given": ["Una"]}],
            "identifier": mrn("MRN0001"),
        }),
        json!({
            "resourceType": "Patient", "id": "b", "active": true, "gender": "male",
            "birthDate": "1980-07-08", "name": [{"family": HOSTILE, "given": ["Ben"]}],
            "identifier": mrn("MRN0002"),
        }),
        json!({
            "resourceType": "AllergyIntolerance", "id": "p", "patient": {"reference": "Patient/a"},
            "code": {"coding": [{
                "system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "723",
                "display": "amoxicillin",
            }]},
        }),
        json!({
            "resourceType": "Encounter", "id": "e", "status": "in-progress",
            "class": {
                "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB",
            },
            "subject": {"reference": "Patient/a"}, "period": {"start": "2026-09-01T08:45:00Z"},
        }),
        medication("lis", "314076", "lisinopril"),
        medication("war", "855332", "warfarin"),
    ]
}
