//! Events of the EHR: what one causes, beside everything that causes nothing. On both databases.

use std::sync::Arc;

use aws_lc_rs::hmac;
use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::envelope::{Grant, GrantSource};
use chaperone_core::event::{EhrEventRefusal, Event, Recorded};
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::{AgentId, ConnectionId, IntentId, PatientToken};
use chaperone_core::mode::{Mode, ModeScope};
use chaperone_core::ports::{Clock as _, Store as _};
use chaperone_core::principal::Role;
use chaperone_core::resource::ResourceType;
use chaperone_engine::CallError;
use chaperone_engine::ehr_event::{Delivery, Notification};
use chaperone_engine::grant::{GrantRequest, PatientRef};
use chaperone_engine::{Engine, EngineConfig, Ports};
use chaperone_testkit::{FakeEhr, FaultyStore, SeededClock, SeededRandom};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::bench::*;

/// An engine that knows one source, at a time at which the agreements of the default bundle hold.
struct Announced {
    engine: Arc<Engine>,
    store: Arc<FaultyStore>,
    ehr: Arc<FakeEhr>,
    clock: Arc<SeededClock>,
    _bench: Bench,
}

async fn announced(db: Db) -> Announced {
    let bench = bench_on(db, Strategy::Conditional).await;
    let store = Arc::new(FaultyStore::new(bench.store.clone()));
    let start: Timestamp = "2027-03-01T12:00:00Z".parse().unwrap();
    let clock = Arc::new(SeededClock::at(start));
    let ehr = bench.ehr.clone();
    for patient in ["p1", "p2"] {
        ehr.put(appointment(&format!("of-{patient}"), &[patient]));
    }
    Announced {
        engine: node(2, &store, &ehr, &clock).await,
        store,
        ehr,
        clock,
        _bench: bench,
    }
}

/// One more node of the same installation, or the same one after a restart.
async fn node(
    seed: u64,
    store: &Arc<FaultyStore>,
    ehr: &Arc<FakeEhr>,
    clock: &Arc<SeededClock>,
) -> Arc<Engine> {
    let ports = Ports {
        random: Arc::new(SeededRandom::new(seed)),
        ..ports(store.clone(), ehr.clone(), clock.clone())
    };
    let config = EngineConfig {
        event_sources: event_sources(),
        ..EngineConfig::new(tenant(), "http://127.0.0.1:8080")
    };
    Engine::start(config, BUNDLE.clone(), ports).await.unwrap()
}

fn appointment(id: &str, patients: &[&str]) -> Value {
    let mut participants = vec![json!({ "actor": { "reference": "Practitioner/dr" } })];
    for patient in patients {
        let reference = if patient.contains(':') {
            (*patient).to_owned()
        } else {
            format!("Patient/{patient}")
        };
        participants.push(json!({ "actor": { "reference": reference } }));
    }
    json!({
        "resourceType": "Appointment", "id": id, "status": "booked", "participant": participants,
    })
}

pub(crate) async fn announce(engine: &Engine, notification: &Value) -> Result<(), CallError> {
    let body = notification.to_string();
    let timestamp = engine.now().as_second().to_string();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let tag = hmac::sign(&key, format!("{timestamp}.{body}").as_bytes());
    let signature = format!("v1={}", hex::encode(tag.as_ref()));
    let delivery = Delivery {
        source: "integration",
        timestamp: Some(&timestamp),
        signature: Some(&signature),
        body: body.as_bytes(),
    };
    let correlation = engine.correlation();
    let from = engine.authenticate_event(delivery, correlation).await?;
    let notification: Notification = serde_json::from_str(&body).unwrap();
    engine.take_event(&from, notification, correlation).await
}

impl Announced {
    /// An appointment of the first patient was booked just now.
    fn booked(&self, id: &str) -> Value {
        json!({
            "id": id, "type": "appointment-booked", "occurred": self.clock.now().to_string(),
            "resource": "Appointment/of-p1", "patient": "Patient/p1",
        })
    }

    async fn announce(&self, notification: &Value) -> Result<(), CallError> {
        announce(&self.engine, notification).await
    }

    async fn recorded(&self) -> Vec<Recorded> {
        let leaves = self.store.leaves(&tenant(), 0, 1_000).await.unwrap();
        leaves
            .iter()
            .map(|leaf| Recorded::from_leaf(leaf).unwrap())
            .collect()
    }

    /// The grants that events made.
    async fn grants(&self) -> Vec<Grant> {
        let recorded = self.recorded().await;
        recorded
            .into_iter()
            .filter_map(|recorded| match recorded.event {
                Event::GrantIssued(grant)
                    if matches!(grant.source, GrantSource::EhrNotification { .. }) =>
                {
                    Some(*grant)
                }
                _ => None,
            })
            .collect()
    }

    async fn newest_refusal(&self) -> EhrEventRefusal {
        let recorded = self.recorded().await;
        let refused = recorded
            .into_iter()
            .rev()
            .find_map(|recorded| match recorded.event {
                Event::EhrEventRefused(refusal) => Some(refusal),
                _ => None,
            });
        refused.unwrap()
    }

    /// The token under which a patient is known, as a person's assignment shows it.
    async fn token_of(&self, patient: &str) -> PatientToken {
        let request = GrantRequest {
            agent: AgentId::new("intake-agent").unwrap(),
            intent: IntentId::new("intake").unwrap(),
            patient: PatientRef::LogicalId(patient.to_owned()),
            encounter: None,
            presence: false,
        };
        let nurse = nurse();
        let author = &nurse;
        let grant = self.engine.issue_grant(author, request).await;
        grant.unwrap().patient.unwrap()
    }
}

pub(crate) async fn an_event_puts_the_ehrs_own_patient_before_its_agent_once(db: Db) {
    let at = announced(db).await;
    let event = at.booked("event-1");
    at.announce(&event).await.unwrap();
    let [grant] = at.grants().await.try_into().unwrap();
    assert_eq!(grant.agent.as_str(), "intake-agent");
    assert_eq!(grant.intent.as_str(), "intake");
    assert_eq!(grant.patient, Some(at.token_of("p1").await));
    assert_ne!(grant.patient, Some(at.token_of("p2").await));
    assert!(grant.work_item.is_some() && grant.presence.is_none());
    let wait = grant.expires.duration_since(at.clock.now());
    assert_eq!(wait.as_secs(), 14_400);
    let GrantSource::EhrNotification {
        notified_by,
        event_type,
        event: digest,
    } = &grant.source
    else {
        panic!("{:?}", grant.source)
    };
    assert_eq!(
        (notified_by.as_str(), event_type.as_str()),
        ("integration", "appointment-booked")
    );
    // The ledger lets nobody try out event ids.
    for guess in [
        Digest::of_bytes(b"event-1"),
        Digest::of_parts([&b"integration"[..], b"event-1"]),
        Digest::of_parts([&b"ehr event"[..], b"integration", b"event-1"]),
        Digest::of_parts([&b"clinic"[..], b"ehr event", b"integration", b"event-1"]),
    ] {
        assert_ne!(*digest, guess);
    }
    let ledger = format!("{:?}", at.recorded().await);
    for said in ["event-1", "of-p1", "Patient/p1"] {
        assert!(!ledger.contains(said), "{said}");
    }

    // The same again: at once, written otherwise, at another node, after a restart, and when the EHR is down.
    at.announce(&event).await.unwrap();
    let text = format!(
        r#"{{"patient": "Patient/p1","resource":"Appointment/of-p1","occurred":{},"type":"appointment-booked","id":"event-1"}}"#,
        event["occurred"]
    );
    let reordered: Value = serde_json::from_str(&text).unwrap();
    at.announce(&reordered).await.unwrap();
    let other = node(3, &at.store, &at.ehr, &at.clock).await;
    announce(&other, &event).await.unwrap();
    at.ehr.set_down(true);
    announce(&other, &event).await.unwrap();
    at.ehr.set_down(false);
    assert_eq!(at.grants().await.len(), 1);

    // Another event under its id is none.
    for (key, value) in [
        ("resource", "Appointment/of-p2"),
        ("type", "appointment-cancelled"),
        ("patient", "Patient/p2"),
        ("occurred", "2027-03-01T11:59:59Z"),
    ] {
        let mut changed = event.clone();
        changed[key] = json!(value);
        let refused = at.announce(&changed).await.unwrap_err();
        assert_eq!(
            (refused.code, refused.status),
            ("event-conflict", 409),
            "{key}"
        );
        let refusal = at.newest_refusal().await;
        assert_eq!(refusal.code, "event-conflict");
        assert_eq!(refusal.event, Some(*digest));
    }
    assert_eq!(at.grants().await.len(), 1);

    // It is remembered for as long as it could be taken.
    at.clock.advance_s(24 * 3_600);
    at.announce(&event).await.unwrap();
    at.clock.advance_s(2 * 3_600);
    let refused = at.announce(&event).await.unwrap_err();
    assert_eq!(refused.code, "event-out-of-time");
    assert_eq!(at.grants().await.len(), 1);
}

pub(crate) async fn an_event_sent_many_times_at_once_makes_one_grant(db: Db) {
    let at = announced(db).await;
    let other = node(3, &at.store, &at.ehr, &at.clock).await;
    // Tokens are minted on first sight; that is another race, decided elsewhere.
    at.announce(&at.booked("before")).await.unwrap();
    let event = at.booked("at-once");
    let mut conflicting = event.clone();
    conflicting["patient"] = json!(null);
    conflicting.as_object_mut().unwrap().remove("patient");
    let sent = (0..8).map(|n| {
        let engine = if n % 2 == 0 { &at.engine } else { &other };
        let notification = if n < 6 { &event } else { &conflicting };
        announce(engine, notification)
    });
    let answers = join_all(sent).await;
    assert_eq!(at.grants().await.len(), 2);
    // Whichever was first was taken, and all that say the same with it; the others are refused.
    let mut taken = [0, 0];
    for (n, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(()) => taken[usize::from(n >= 6)] += 1,
            Err(refused) => assert_eq!(refused.code, "event-conflict"),
        }
    }
    assert!(matches!(taken, [6, 0] | [0, 2]), "{taken:?}");
}

pub(crate) async fn what_the_ehr_does_not_confirm_makes_no_grant(db: Db) {
    let at = announced(db).await;
    let put = |resource: Value| at.ehr.put(resource);
    put(appointment("of-nobody", &[]));
    put(appointment("of-two", &["p1", "p2"]));
    put(appointment(
        "of-elsewhere",
        &["http://elsewhere.test/fhir/Patient/p1"],
    ));
    put(appointment(
        "of-both",
        &["p1", "http://elsewhere.test/fhir/Patient/p1"],
    ));
    put(appointment("of-unknown", &["p9"]));
    put(appointment("of-inactive", &["inactive"]));
    put(json!({ "resourceType": "Patient", "id": "inactive", "active": false }));
    let mut changed = appointment("cancelled", &["p1"]);
    changed["status"] = json!("cancelled");
    put(changed);
    let mut changed = appointment("restricted", &["p1"]);
    changed["meta"] = json!({ "security": [{
        "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "V",
    }] });
    put(changed);
    put(
        json!({ "resourceType": "Encounter", "id": "e1", "status": "finished",
        "subject": { "reference": "Patient/p1" } }),
    );

    let unconfirmed = |reason| ("event-unconfirmed", reason);
    let same = |code| (code, code);
    // What is sent, what differs from the permitted event, and what is answered and recorded.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], (&'a str, &'a str));
    let cases: [Case<'_>; 19] = [
        (
            "another patient's than claimed",
            &[("patient", "Patient/p2")],
            unconfirmed("other-patient"),
        ),
        (
            "a patient who is not there",
            &[("patient", "Patient/p9")],
            unconfirmed("patient-not-found"),
        ),
        (
            "a resource that is not there",
            &[("resource", "Appointment/none")],
            unconfirmed("resource-not-found"),
        ),
        (
            "another patient's resource",
            &[("resource", "Appointment/of-p2")],
            unconfirmed("other-patient"),
        ),
        (
            "nobody's",
            &[("resource", "Appointment/of-nobody")],
            unconfirmed("patient-unclear"),
        ),
        (
            "two patients'",
            &[("resource", "Appointment/of-two")],
            unconfirmed("patient-unclear"),
        ),
        (
            "of another server's patient",
            &[("resource", "Appointment/of-elsewhere")],
            unconfirmed("patient-unclear"),
        ),
        (
            "also of such a one",
            &[("resource", "Appointment/of-both")],
            unconfirmed("patient-unclear"),
        ),
        (
            "of a patient who is not there",
            &[("resource", "Appointment/of-unknown")],
            unconfirmed("patient-not-found"),
        ),
        (
            "of a record out of use",
            &[("resource", "Appointment/of-inactive")],
            unconfirmed("patient-not-found"),
        ),
        (
            "in another state",
            &[("resource", "Appointment/cancelled")],
            unconfirmed("other-status"),
        ),
        (
            "restricted",
            &[("resource", "Appointment/restricted")],
            unconfirmed("resource-restricted"),
        ),
        (
            "of another type",
            &[("resource", "Encounter/e1")],
            same("invalid-argument"),
        ),
        (
            "at another server",
            &[("resource", "http://elsewhere.test/fhir/Appointment/of-p1")],
            same("invalid-argument"),
        ),
        (
            "of one version",
            &[("resource", "Appointment/of-p1/_history/1")],
            same("invalid-argument"),
        ),
        (
            "by a search",
            &[("resource", "Appointment?_id=of-p1")],
            same("invalid-argument"),
        ),
        (
            "not listed",
            &[("type", "appointment-dreamt-of")],
            same("event-unlisted"),
        ),
        (
            "of yesterday",
            &[("occurred", "2027-02-28T11:59:59Z")],
            same("event-out-of-time"),
        ),
        (
            "of tomorrow",
            &[("occurred", "2027-03-01T12:05:01Z")],
            same("event-out-of-time"),
        ),
    ];
    for (what, changes, (code, reason)) in cases {
        let mut event = at.booked("refused");
        for (key, value) in changes {
            event[*key] = json!(value);
        }
        let refused = at.announce(&event).await.unwrap_err();
        assert_eq!((refused.code, refused.recorded), (code, true), "{what}");
        let refusal = at.newest_refusal().await;
        assert_eq!(refusal.code, reason, "{what}");
        assert_eq!(refusal.notified_by.as_str(), "integration");
        assert_eq!(refusal.event_type.is_some(), code != "event-unlisted");
        assert!(refusal.event.is_some());
        for said in ["p1", "p2", "p9", "of-", "elsewhere", "refused"] {
            assert!(
                !refused.message.contains(said),
                "{what}: {}",
                refused.message
            );
        }
    }
    at.ehr.set_down(true);
    let refused = at.announce(&at.booked("refused")).await.unwrap_err();
    assert_eq!((refused.code, refused.status), ("ehr-unavailable", 503));
    at.ehr.set_down(false);
    assert_eq!(at.grants().await, []);
    // None of all that has used the id up.
    at.announce(&at.booked("refused")).await.unwrap();
    assert_eq!(at.grants().await.len(), 1);
}

pub(crate) async fn an_event_about_a_merged_record_leads_to_the_surviving_one(db: Db) {
    let at = announced(db).await;
    at.ehr.put(
        json!({ "resourceType": "Patient", "id": "old", "active": false,
        "link": [{ "type": "replaced-by", "other": { "reference": "Patient/p1" } }] }),
    );
    at.ehr.put(appointment("of-old", &["old"]));
    let mut event = at.booked("1");
    event["resource"] = json!("Appointment/of-old");
    for (n, claimed) in ["Patient/old", "Patient/p1"].into_iter().enumerate() {
        event["id"] = json!(format!("claims-{n}"));
        event["patient"] = json!(claimed);
        at.announce(&event).await.unwrap();
    }
    // Whoever still says the old record of what stands under the new one says the same patient.
    event["id"] = json!("claims-the-old-one");
    event["resource"] = json!("http://ehr.test/fhir/Appointment/of-p1");
    event["patient"] = json!("Patient/old");
    at.announce(&event).await.unwrap();
    event["id"] = json!("claims-another");
    event["patient"] = json!("Patient/p2");
    assert_eq!(
        at.announce(&event).await.unwrap_err().code,
        "event-unconfirmed"
    );
    let grants = at.grants().await;
    let survivor = at.token_of("p1").await;
    assert_eq!(grants.len(), 3);
    assert!(grants.iter().all(|grant| grant.patient == Some(survivor)));
    // What stands under the old record is not shown in the new one's context, so it is not named either.
    let named: Vec<bool> = grants.iter().map(|g| g.work_item.is_some()).collect();
    assert_eq!(named, [false, false, true]);
}

pub(crate) async fn an_encounter_is_the_context_of_the_work_it_causes(db: Db) {
    let at = announced(db).await;
    at.ehr.put(
        json!({ "resourceType": "Encounter", "id": "e1", "status": "finished",
        "subject": { "reference": "Patient/p2" } }),
    );
    let mut event = at.booked("1");
    event["type"] = json!("encounter-finished");
    event["resource"] = json!("Encounter/e1");
    event["patient"] = json!("Patient/p2");
    at.announce(&event).await.unwrap();
    let [grant] = at.grants().await.try_into().unwrap();
    assert_eq!(grant.agent.as_str(), "scribe-agent");
    assert_eq!(grant.patient, Some(at.token_of("p2").await));
    assert!(grant.encounter.is_some() && grant.encounter == grant.work_item);
}

pub(crate) async fn an_event_whose_record_failed_is_sent_again_and_taken_once(db: Db) {
    let at = announced(db).await;
    let event = at.booked("failed-before");
    at.store.refuse_commits(true);
    let refused = at.announce(&event).await.unwrap_err();
    assert_eq!((refused.code, refused.status), ("ledger-unavailable", 503));
    at.store.refuse_commits(false);
    assert_eq!(at.grants().await, []);
    at.announce(&event).await.unwrap();
    assert_eq!(at.grants().await.len(), 1);

    // It happened, and nobody was told.
    let event = at.booked("failed-after");
    at.store.lose_next_answer();
    let refused = at.announce(&event).await.unwrap_err();
    assert_eq!((refused.code, refused.status), ("ledger-unavailable", 503));
    assert_eq!(at.grants().await.len(), 2);
    at.announce(&event).await.unwrap();
    assert_eq!(at.grants().await.len(), 2);
}

pub(crate) async fn switches_and_lapsed_agreements_stop_events(db: Db) {
    let at = announced(db).await;
    let operator = human(9, &[Role::ItAdmin]);
    let switch = async |scope: &ModeScope, mode| {
        let switched = at
            .engine
            .switch_mode(&operator, scope.clone(), mode, "a drill");
        switched.await.unwrap();
    };
    let agent = |id: &str| ModeScope::Agent(AgentId::new(id).unwrap());
    let intent = |id: &str| ModeScope::Intent(IntentId::new(id).unwrap());
    let resource = |name: &str| ModeScope::Resource(ResourceType::new(name).unwrap());
    let ehr = ModeScope::Ehr(ConnectionId::new("fake").unwrap());
    let mut taken = 0;
    for (n, (scope, mode, stops)) in [
        (ModeScope::Tenant, Mode::Halted, true),
        (ModeScope::Tenant, Mode::ReadOnly, false),
        (agent("intake-agent"), Mode::Halted, true),
        (agent("scribe-agent"), Mode::Halted, false),
        (intent("intake"), Mode::Halted, true),
        (intent("draft-note"), Mode::Halted, false),
        (resource("Appointment"), Mode::Halted, true),
        (resource("Observation"), Mode::Halted, false),
        (ehr, Mode::Halted, true),
    ]
    .into_iter()
    .enumerate()
    {
        switch(&scope, mode).await;
        let event = at.booked(&format!("event-{n}"));
        let answer = at.announce(&event).await;
        switch(&scope, Mode::Normal).await;
        if stops {
            let refused = answer.unwrap_err();
            assert_eq!((refused.code, refused.status), ("halted", 503), "{scope:?}");
            assert_eq!(at.newest_refusal().await.code, "halted");
            assert_eq!(at.grants().await.len(), taken, "{scope:?}");
            at.announce(&event).await.unwrap();
        } else {
            answer.unwrap();
        }
        taken += 1;
        assert_eq!(at.grants().await.len(), taken, "{scope:?}");
    }
    let expires: Timestamp = "2099-12-31T00:00:00Z".parse().unwrap();
    let left = expires.duration_since(at.clock.now());
    at.clock.advance_s(left.as_secs() - 1);
    at.announce(&at.booked("in time")).await.unwrap();
    at.clock.advance_s(1);
    let refused = at.announce(&at.booked("too late")).await.unwrap_err();
    assert_eq!((refused.code, refused.status), ("agent-refused", 403));
    assert_eq!(at.grants().await.len(), taken + 1);
}
