//! An engine on a real store, with an EHR in memory and a clock that stands still.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::hmac;
use chaperone_core::envelope::Envelope;
use chaperone_core::event::Recorded;
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::{
    AccountName, AgentId, ConnectionId, EhrEventSource, EnvelopeId, IntentId, PersonId, TenantId,
    WritebackId,
};
use chaperone_core::ports::{Clock, Notice, Store};
use chaperone_core::principal::{Human, Role};
use chaperone_core::resource::Code;
use chaperone_core::writeback::StateName;
use chaperone_engine::ehr_event::{Delivery, EventSources, SourceKind, SourceSecrets};
use chaperone_engine::grant::{GrantFailed, GrantRequest, PatientRef};
use chaperone_engine::open_envelope::Caller;
use chaperone_engine::portal::Portal;
use chaperone_engine::projection::WritebackRow;
use chaperone_engine::{CallError, Engine, EngineConfig, Ports};
use chaperone_policy::Bundle;
use chaperone_testkit::{
    FakeEhr, FaultyStore, MemoryAnchor, MemoryKeyVault, PermitConsent, SeededClock, SeededRandom,
    SilentNotifier,
};
use serde_json::{Value, json};

/// Read once: proving its cases takes a second without optimisation, and nothing changes it.
pub(crate) static BUNDLE: LazyLock<Arc<Bundle>> =
    LazyLock::new(|| bundle(&chaperone_policy::embedded::files()));

/// A bundle whose agents are answered for until after the clock's days.
pub(crate) fn bundle(files: &std::collections::BTreeMap<String, String>) -> Arc<Bundle> {
    let mut files = files.clone();
    for (path, text) in &mut files {
        if path.starts_with("agents/") {
            *text = text.replace("baa_expires = \"2027-", "baa_expires = \"2099-");
        }
    }
    Arc::new(Bundle::load(&files).unwrap_or_else(|problems| panic!("{problems:?}")))
}

pub(crate) struct Bench {
    pub(crate) engine: Arc<Engine>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) ehr: Arc<FakeEhr>,
    pub(crate) clock: Arc<SeededClock>,
    pub(crate) notifier: Arc<SilentNotifier>,
    pub(crate) dir: Option<tempfile::TempDir>,
}

/// Which database a case runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Db {
    Sqlite,
    Postgres,
}

pub(crate) async fn bench(strategy: Strategy) -> Bench {
    bench_on(Db::Sqlite, strategy).await
}

pub(crate) async fn bench_on(db: Db, strategy: Strategy) -> Bench {
    bench_and_url(db, strategy).await.0
}

/// The same with the address of its database.
pub(crate) async fn bench_and_url(db: Db, strategy: Strategy) -> (Bench, String) {
    let dir = (db == Db::Sqlite).then(|| tempfile::tempdir().unwrap());
    let url = match &dir {
        Some(dir) => format!("sqlite:{}", dir.path().join("decisions.db").display()),
        None => crate::cluster::fresh_url(),
    };
    let store = chaperone_store::open(&url, Default::default())
        .await
        .unwrap();
    let clock = Arc::new(SeededClock::new());
    let fake = FakeEhr::new(ConnectionId::new("fake").unwrap());
    let ehr = Arc::new(fake.delivering_by(strategy));
    for id in ["p1", "p2"] {
        ehr.put(json!({
            "resourceType": "Patient", "id": id, "birthDate": "1950-02-03",
            "identifier": [{ "system": "urn:example:mrn", "value": format!("MRN-{id}") }],
        }));
    }
    let notifier = Arc::new(SilentNotifier::default());
    let ports = Ports {
        notifier: notifier.clone(),
        ..ports(store.clone(), ehr.clone(), clock.clone())
    };
    let config = EngineConfig {
        event_sources: event_sources(),
        ..EngineConfig::new(tenant(), "http://127.0.0.1:8080")
    };
    let engine = Engine::start(config, BUNDLE.clone(), ports).await.unwrap();
    show(&engine, &ehr).await;
    let bench = Bench {
        engine,
        store,
        ehr,
        clock,
        notifier,
        dir,
    };
    (bench, url)
}

pub(crate) async fn start(
    bundle: &Arc<Bundle>,
    store: Arc<dyn Store>,
    ehr: Arc<FakeEhr>,
    clock: Arc<SeededClock>,
) -> Arc<Engine> {
    let config = EngineConfig::new(tenant(), "http://127.0.0.1:8080");
    let ports = ports(store, ehr, clock);
    Engine::start(config, bundle.clone(), ports).await.unwrap()
}

/// Records that the EHR was shown to do what it says.
pub(crate) async fn show(engine: &Engine, ehr: &FakeEhr) {
    let report = engine.conformance_report(chaperone_testkit::shown(ehr), 300);
    engine.record_conformance(&report).await.unwrap();
}

pub(crate) fn ports(store: Arc<dyn Store>, ehr: Arc<FakeEhr>, clock: Arc<SeededClock>) -> Ports {
    Ports {
        store,
        ehr,
        keys: Arc::new(MemoryKeyVault::new(1)),
        clock,
        random: Arc::new(SeededRandom::new(1)),
        consent: Arc::new(PermitConsent),
        notifier: Arc::new(SilentNotifier::default()),
        anchor: Arc::new(MemoryAnchor::default()),
    }
}

/// What the one source signs with.
pub(crate) const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

/// What the one portal signs with.
pub(crate) const PORTAL_SECRET: &[u8] = b"the secret of the portal of patients";

pub(crate) fn event_sources() -> EventSources {
    let source = |name: &str, kind, current| SourceSecrets {
        source: EhrEventSource::new(name).unwrap(),
        kind,
        current,
        previous: None,
        window_s: 300,
    };
    EventSources::new([
        source("integration", SourceKind::Announcer, SECRET),
        source("portal", SourceKind::Portal, PORTAL_SECRET),
    ])
    .unwrap()
}

pub(crate) fn tenant() -> TenantId {
    TenantId::new("clinic").unwrap()
}

pub(crate) fn human(n: u8, roles: &[Role]) -> Human {
    Human {
        account: AccountName::new(format!("person-{n}")).unwrap(),
        person: PersonId::from_random([n; 16]),
        roles: roles.to_vec(),
    }
}

impl Bench {
    /// Starts the engine anew on a store that can be told to fail and to wait.
    pub(crate) async fn behind_a_faulty_store(&mut self) -> Arc<FaultyStore> {
        let store = Arc::new(FaultyStore::new(self.store.clone()));
        let (ehr, clock) = (self.ehr.clone(), self.clock.clone());
        self.engine = start(&BUNDLE, store.clone(), ehr, clock).await;
        store
    }

    /// Starts the engine anew with other settings.
    pub(crate) async fn restart(&mut self, change: impl FnOnce(&mut EngineConfig)) {
        let mut config = EngineConfig::new(tenant(), "http://127.0.0.1:8080");
        change(&mut config);
        let ports = ports(self.store.clone(), self.ehr.clone(), self.clock.clone());
        self.engine = Engine::start(config, BUNDLE.clone(), ports).await.unwrap();
    }

    pub(crate) async fn grant(
        &self,
        by: &Human,
        agent: &str,
        intent: &str,
        patient: PatientRef,
    ) -> Result<chaperone_core::envelope::Grant, GrantFailed> {
        let request = GrantRequest {
            agent: AgentId::new(agent).unwrap(),
            intent: IntentId::new(intent).unwrap(),
            patient,
            encounter: None,
            presence: true,
        };
        self.engine.issue_grant(by, request).await
    }

    /// An agent in an envelope that a person opened the way for.
    pub(crate) async fn caller(
        &self,
        by: &Human,
        agent: &str,
        intent: &str,
        patient: &str,
    ) -> Caller {
        let patient = PatientRef::LogicalId(patient.to_owned());
        let grant = self.grant(by, agent, intent, patient).await.unwrap();
        let now = self.clock.now();
        Caller {
            envelope: Arc::new(Envelope {
                id: EnvelopeId::from_random([7; 16]),
                tenant: tenant(),
                agent: grant.agent,
                intent: grant.intent,
                grant: Some(grant.id),
                patient: grant.patient,
                encounter: grant.encounter,
                presence: grant.presence,
                purpose: Code::new("TREAT").unwrap(),
                bundle: *self.engine.bundle().digest(),
                opened: now,
                expires: now
                    .checked_add(jiff::SignedDuration::from_secs(300))
                    .unwrap(),
            }),
        }
    }

    /// A portal, which signs with its secret.
    pub(crate) async fn portal(&self, source: &str, secret: &[u8]) -> Portal {
        let body = b"what a portal sends";
        let timestamp = self.engine.now().as_second().to_string();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let signed = [timestamp.as_bytes(), b".", body].concat();
        let signature = format!("v1={}", hex::encode(hmac::sign(&key, &signed).as_ref()));
        let delivery = Delivery {
            source,
            timestamp: Some(&timestamp),
            signature: Some(&signature),
            body,
        };
        let correlation = self.engine.correlation();
        let from = self.engine.authenticate_portal(delivery, correlation);
        from.await.unwrap()
    }

    /// A scheduler agent of p1, and the tokens of these slots in the order of their ids.
    pub(crate) async fn scheduler(&self, slots: &[Value]) -> (Caller, Vec<Value>) {
        for slot in slots {
            self.ehr.put(slot.clone());
        }
        let desk = human(4, &[Role::Scheduler]);
        let agent = self
            .caller(&desk, "scheduler-agent", "schedule-appointment", "p1")
            .await;
        let span = json!({ "from": "2030-12-01T00:00:00Z", "until": "2031-03-09T00:00:00Z" });
        let found = self.call(&agent, "find_slots", span).await;
        let tokens = found["resources"].as_array().unwrap().iter();
        (agent, tokens.map(|slot| slot["id"].clone()).collect())
    }

    pub(crate) async fn call(&self, caller: &Caller, tool: &str, arguments: Value) -> Value {
        let Value::Object(arguments) = arguments else {
            panic!("arguments are an object")
        };
        let correlation = self.engine.correlation();
        self.engine
            .call(caller, tool, arguments, correlation)
            .await
            .unwrap()
    }

    /// The same where a refusal is expected or possible.
    pub(crate) async fn try_call(
        &self,
        caller: &Caller,
        tool: &str,
        arguments: Value,
    ) -> Result<Value, CallError> {
        let Value::Object(arguments) = arguments else {
            panic!("arguments are an object")
        };
        let correlation = self.engine.correlation();
        self.engine.call(caller, tool, arguments, correlation).await
    }

    /// Everything recorded so far; what waits to be recorded is worked off first.
    pub(crate) async fn recorded(&self) -> Vec<Recorded> {
        if let Some(mut queue) = self.engine.afterwork() {
            self.engine.drain_afterwork(&mut queue).await;
        }
        let leaves = self.store.leaves(&tenant(), 0, 1_000).await.unwrap();
        leaves
            .iter()
            .map(|leaf| Recorded::from_leaf(leaf).unwrap())
            .collect()
    }

    pub(crate) async fn task(&self, caller: &Caller, key: &str, sources: Value) -> WritebackRow {
        let answer = self
            .call(
                caller,
                "create_task",
                json!({ "idempotency_key": key, "summary": "Call back.", "pool": "nursing", "sources": sources }),
            )
            .await;
        self.row(answer["proposal"].as_str().unwrap().parse().unwrap())
            .await
    }

    pub(crate) async fn row(&self, id: WritebackId) -> WritebackRow {
        self.engine.writeback(id).await.unwrap().unwrap()
    }

    /// Everything noticed so far; what waits to be noticed is worked off first.
    pub(crate) async fn notices(&self) -> Vec<Notice> {
        let mut queue = self.engine.afterwork().unwrap();
        self.engine.drain_afterwork(&mut queue).await;
        self.notifier.notices()
    }

    pub(crate) async fn deliver(&self) {
        self.engine.deliver_due("worker").await.unwrap();
    }

    pub(crate) async fn state(&self, id: WritebackId) -> StateName {
        self.row(id).await.state
    }
}

pub(crate) fn nurse() -> Human {
    human(1, &[Role::Rn])
}
