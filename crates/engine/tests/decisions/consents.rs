//! Consent from the outside: what agents see, what is sent and what is recorded, each permitted thing beside the
//! nearest one that is not. The rules themselves have their cases in `chaperone-phi`.

use std::sync::Arc;

use chaperone_core::event::Event;
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::WritebackId;
use chaperone_core::ports::{Clock as _, Notice};
use chaperone_core::principal::Role;
use chaperone_core::writeback::{StateName, VoidReason};
use chaperone_engine::approve::ApproveRequest;
use chaperone_engine::consent::ConsentSource;
use chaperone_engine::open_envelope::Caller;
use chaperone_engine::{Engine, EngineConfig};
use serde_json::{Value, json};

use crate::bench::*;
use crate::events::announce;

const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";

/// A privacy consent in force.
fn consent(id: &str, patient: &str, provision: Value) -> Value {
    json!({
        "resourceType": "Consent", "id": id, "status": "active",
        "scope": {"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy",
        }]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": format!("Patient/{patient}")},
        "dateTime": "2029-01-01",
        "policyRule": {"coding": [{"system": ACT_CODE, "code": "OPTOUT"}]},
        "provision": provision,
    })
}

pub(crate) fn refusal(id: &str, patient: &str) -> Value {
    consent(id, patient, json!({"type": "deny"}))
}

fn without(class: &str) -> Value {
    json!({"type": "permit", "provision": [{"type": "deny", "class": [
        {"system": "http://hl7.org/fhir/resource-types", "code": class},
    ]}]})
}

pub(crate) fn problem(id: &str, label: Option<&str>) -> Value {
    let mut problem = json!({
        "resourceType": "Condition", "id": id, "subject": {"reference": "Patient/p1"},
        "clinicalStatus": {"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active",
        }]},
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "38341003"}]},
    });
    if let Some(label) = label {
        problem["meta"] = json!({"security": [{"system": ACT_CODE, "code": label}]});
    }
    problem
}

pub(crate) async fn reader(bench: &Bench) -> Caller {
    let clinician = human(2, &[Role::Clinician]);
    bench
        .caller(&clinician, "order-agent", "chart-summary", "p1")
        .await
}

pub(crate) async fn problems(bench: &Bench, caller: &Caller) -> Result<usize, &'static str> {
    bench
        .try_call(caller, "list_problems", json!({}))
        .await
        .map(|answer| answer["resources"].as_array().unwrap().len())
        .map_err(|error| error.code)
}

/// What reads were permitted on, and why calls were refused.
pub(crate) async fn grounds(bench: &Bench) -> Vec<String> {
    let words = |event: Event| match event {
        Event::ReadPermitted(ceiling) => Some(ceiling.consent),
        Event::CallRefused(refusal) => Some(format!(
            "{} {}",
            refusal.code,
            refusal.because.unwrap_or_default()
        )),
        _ => None,
    };
    let recorded = bench.recorded().await;
    recorded
        .into_iter()
        .filter_map(|it| words(it.event))
        .collect()
}

pub(crate) async fn announce_change(bench: &Bench, resource: &str) {
    let notification = json!({
        "id": format!("change-of-{resource}"), "type": "consent-changed",
        "occurred": bench.clock.now().to_string(), "resource": resource,
    });
    announce(&bench.engine, &notification).await.unwrap();
}

pub(crate) async fn a_read_is_refused_reduced_or_permitted_as_the_patients_consents_say(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    bench.ehr.put(problem("c1", None));
    bench.ehr.put(problem("c2", Some("HIV")));
    bench.ehr.put(problem("c3", Some("PSYTHPN")));
    bench
        .ehr
        .put(consent("k1", "p1", without("AllergyIntolerance")));
    let reader = reader(&bench).await;
    bench.ehr.searched();
    assert_eq!(problems(&bench, &reader).await, Ok(1));
    // The neighbour is refused, and the EHR is not even asked for it.
    let refused = bench
        .try_call(&reader, "list_allergies", json!({}))
        .await
        .unwrap_err();
    assert_eq!((refused.code, refused.status), ("consent-denied", 403));
    assert!(!refused.body("c").to_string().contains("consent-refuses"));
    assert_eq!(bench.ehr.searched(), ["Consent", "Condition"]);

    let recorded = bench.recorded().await;
    let released = recorded.iter().find_map(|it| match &it.event {
        Event::ReadReleased {
            resources,
            left_out,
            labels,
            ..
        } => Some((*resources, *left_out, labels.clone())),
        _ => None,
    });
    assert_eq!(released, Some((1, 2, Vec::new())));
    let grounds = grounds(&bench).await;
    assert!(grounds[0].starts_with("consent/"), "{grounds:?}");
    // Nothing recorded names a Consent by the EHR's own id.
    assert!(!grounds[0].contains("k1"));
    assert_eq!(grounds[1], "consent-denied consent-refuses");
    // Which Consent refused is recorded, by the name that the permission beside it has.
    let named = recorded.iter().find_map(|it| match &it.event {
        Event::CallRefused(refusal) => refusal.consent.clone(),
        _ => None,
    });
    let ground = format!("consent/{}", named.unwrap());
    assert!(grounds[0].starts_with(&ground), "{grounds:?} {ground}");
}

pub(crate) async fn what_consent_opens_comes_with_its_obligations(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    bench.ehr.put(problem("c1", Some("42CFRPart2")));
    bench.ehr.put(problem("c2", Some("HIV")));
    let part_2 =
        json!({"type": "permit", "securityLabel": [{"system": ACT_CODE, "code": "42CFRPart2"}]});
    bench.ehr.put(consent("k1", "p1", part_2));
    let reader = reader(&bench).await;
    let answer = bench.call(&reader, "list_problems", json!({})).await;
    assert_eq!(answer["resources"].as_array().unwrap().len(), 1);
    let said = answer["obligations"][0].as_str().unwrap();
    assert!(said.contains("42 CFR Part 2"), "{said}");
    // Ordinary answers oblige to nothing.
    let other = bench.call(&reader, "list_recent_vitals", json!({})).await;
    assert!(other.get("obligations").is_none());

    // An obligation to leave elements out is kept before the view is made.
    let redact =
        json!({"type": "permit", "securityLabel": [{"system": ACT_CODE, "code": "REDACT"}]});
    bench.ehr.put(consent("k1", "p1", redact));
    announce_change(&bench, "Consent/k1").await;
    let patient = bench.call(&reader, "get_patient_context", json!({})).await;
    assert!(patient["resources"][0].get("birthDate").is_none());
    assert!(patient["withheld"].to_string().contains("birthDate"));
}

pub(crate) async fn what_cannot_be_read_refuses_and_an_ehr_without_consents_is_declared(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    bench.ehr.put(problem("c1", None));
    let reader = reader(&bench).await;
    bench.ehr.set_unsearchable("Consent", true);
    assert_eq!(problems(&bench, &reader).await, Err("consent-unreadable"));
    let proposed = bench
        .try_call(
            &bench.caller(&nurse(), "intake-agent", "intake", "p1").await,
            "create_task",
            json!({"idempotency_key": "1", "summary": "Call.", "pool": "nursing"}),
        )
        .await;
    assert_eq!(proposed.unwrap_err().code, "consent-unreadable");
    // Declared so, such a connection is read on what holds without consent, and the record says it.
    let mut declared = bench_on(db, Strategy::Conditional).await;
    declared.engine = Engine::start(
        EngineConfig {
            consent_source: ConsentSource::NoneAtThisEhr,
            ..EngineConfig::new(tenant(), "http://127.0.0.1:8080")
        },
        BUNDLE.clone(),
        ports(
            declared.store.clone(),
            declared.ehr.clone(),
            declared.clock.clone(),
        ),
    )
    .await
    .unwrap();
    declared.ehr.set_unsearchable("Consent", true);
    declared.ehr.put(problem("c1", None));
    declared.ehr.put(problem("c2", Some("HIV")));
    let other = self::reader(&declared).await;
    let answer = declared.call(&other, "list_problems", json!({})).await;
    assert_eq!(answer["resources"].as_array().unwrap().len(), 1);
    let said = grounds(&declared).await;
    assert_eq!(
        said.last().map(String::as_str),
        Some("none-at-this-ehr/without-consent + test")
    );
    bench.ehr.set_unsearchable("Consent", false);
    // Somebody else's Consent in the answer, and one that nobody can read, refuse as well.
    bench.clock.advance_s(61);
    let mut strange = consent("k1", "p1", json!({"type": "permit"}));
    strange["patient"] = json!({"reference": "Patient/p2"});
    strange["subject"] = json!({"reference": "Patient/p1"});
    bench.ehr.put(strange);
    assert_eq!(problems(&bench, &reader).await, Err("consent-unreadable"));
    let mut unclear = consent("k1", "p1", json!({"type": "permit"}));
    unclear["status"] = json!("enabled");
    bench.ehr.put(unclear);
    assert_eq!(problems(&bench, &reader).await, Err("consent-denied"));
    let because = grounds(&bench).await;
    assert!(because.last().unwrap().ends_with("consent-unclear-status"));
}

pub(crate) async fn consents_are_asked_for_once_a_minute_and_a_withdrawal_counts_within_it(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    bench.ehr.put(problem("c1", None));
    let reader = reader(&bench).await;
    bench.ehr.searched();
    for _ in 0..3 {
        assert_eq!(problems(&bench, &reader).await, Ok(1));
    }
    assert_eq!(
        bench.ehr.searched(),
        ["Consent", "Condition", "Condition", "Condition"]
    );
    bench.ehr.put(refusal("k1", "p1"));
    bench.clock.advance_s(29);
    assert_eq!(problems(&bench, &reader).await, Ok(1));
    bench.clock.advance_s(31);
    assert_eq!(problems(&bench, &reader).await, Err("consent-denied"));
    // Beside an answer, what will soon be too old is read anew.
    let mut ended = refusal("k1", "p1");
    ended["status"] = json!("inactive");
    bench.ehr.put(ended);
    bench.clock.advance_s(60);
    assert_eq!(problems(&bench, &reader).await, Ok(1));
    bench.ehr.put(refusal("k1", "p1"));
    bench.clock.advance_s(31);
    assert_eq!(problems(&bench, &reader).await, Ok(1));
    assert_eq!(problems(&bench, &reader).await, Err("consent-denied"));
}

pub(crate) async fn an_announced_withdrawal_counts_at_once(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    bench.ehr.put(problem("c1", None));
    let reader = reader(&bench).await;
    assert_eq!(problems(&bench, &reader).await, Ok(1));
    bench.ehr.put(refusal("k1", "p1"));
    assert_eq!(problems(&bench, &reader).await, Ok(1));
    announce_change(&bench, "Consent/k1").await;
    assert_eq!(problems(&bench, &reader).await, Err("consent-denied"));
    let recorded = bench.recorded().await;
    let announced = recorded.iter().find_map(|it| match &it.event {
        Event::ConsentAnnounced { patient, .. } => Some(*patient),
        _ => None,
    });
    assert_eq!(announced, Some(reader.envelope.patient));
    // One that the EHR does not have any more: nobody knows whose it was, so nothing kept counts.
    let mut ended = refusal("k1", "p1");
    ended["status"] = json!("inactive");
    bench.ehr.put(ended);
    announce_change(&bench, "Consent/gone").await;
    assert_eq!(problems(&bench, &reader).await, Ok(1));
    // It says nothing about anything but Consents.
    let odd = json!({
        "id": "odd", "type": "consent-changed", "occurred": bench.clock.now().to_string(),
        "resource": "Patient/p1",
    });
    let refused = announce(&bench.engine, &odd).await.unwrap_err();
    assert_eq!(refused.code, "invalid-argument");
}

/// A note of an encounter, approved.
pub(crate) async fn approved_note(bench: &Bench) -> WritebackId {
    bench.ehr.put(json!({
        "resourceType": "Encounter", "id": "e1", "status": "in-progress",
        "class": {"code": "AMB"}, "subject": {"reference": "Patient/p1"},
    }));
    let clinician = human(2, &[Role::Clinician]);
    let scribe = bench
        .caller(&clinician, "scribe-agent", "draft-note", "p1")
        .await;
    let read = bench.call(&scribe, "list_encounters", json!({})).await;
    let note = json!({
        "idempotency_key": "note", "encounter_token": read["resources"][0]["id"],
        "text": "Seen for a visit. Plan unchanged.",
    });
    let answer = bench.call(&scribe, "draft_note", note).await;
    let id = answer["proposal"].as_str().unwrap().parse().unwrap();
    approve(bench, id).await;
    id
}

pub(crate) async fn approve(bench: &Bench, id: WritebackId) {
    let request = ApproveRequest {
        writeback: id,
        digest: bench.row(id).await.digest.unwrap(),
        step_up: None,
        override_reason: None,
        review_ms: 5_000,
    };
    let approver = human(3, &[Role::Clinician]);
    bench.engine.approve(&approver, request).await.unwrap();
    assert_eq!(bench.state(id).await, StateName::Ready);
}

pub(crate) async fn consent_withdrawn_between_approval_and_send_is_not_sent(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let id = approved_note(&bench).await;
    let other = bench.caller(&nurse(), "intake-agent", "intake", "p2").await;
    let beside = bench.task(&other, "1", json!([])).await.id;
    // Unannounced, and well within the minute.
    bench.ehr.put(refusal("k1", "p1"));
    bench.deliver().await;
    let row = bench.row(id).await;
    assert_eq!(
        (row.state, row.void),
        (StateName::Void, Some(VoidReason::Consent))
    );
    assert_eq!(bench.state(beside).await, StateName::Delivered);
    let written: Vec<_> = bench.ehr.written().into_iter().map(|(id, _)| id).collect();
    assert_eq!(written, [beside]);
    let told = bench.notices().await;
    let fell_through = Notice::ApprovedNotDelivered {
        writeback: id,
        roles: vec![Role::Clinician],
    };
    assert!(told.contains(&fell_through), "{told:?}");
}

pub(crate) async fn a_withdrawal_voids_what_is_queued_at_once(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let id = approved_note(&bench).await;
    let other = bench.caller(&nurse(), "intake-agent", "intake", "p2").await;
    let beside = bench.task(&other, "1", json!([])).await.id;
    bench.ehr.put(consent("k1", "p1", without("Observation")));
    announce_change(&bench, "Consent/k1").await;
    assert_eq!(bench.state(id).await, StateName::Ready);
    bench
        .ehr
        .put(consent("k1", "p1", without("DocumentReference")));
    announce_change(&bench, "Consent/k1").await;
    assert_eq!(bench.row(id).await.void, Some(VoidReason::Consent));
    assert_eq!(bench.state(beside).await, StateName::Ready);
    // The work that is left finds nothing to send.
    bench.deliver().await;
    let written: Vec<_> = bench.ehr.written().into_iter().map(|(id, _)| id).collect();
    assert_eq!(written, [beside]);
    assert_eq!(bench.engine.in_motion().await.unwrap(), 0);
}

pub(crate) async fn a_send_waits_while_consents_cannot_be_read(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let id = approved_note(&bench).await;
    bench.ehr.set_unsearchable("Consent", true);
    bench.deliver().await;
    assert_eq!(bench.state(id).await, StateName::Ready);
    assert!(bench.ehr.written().is_empty());
    bench.ehr.set_unsearchable("Consent", false);
    bench.clock.advance_s(60);
    bench.deliver().await;
    assert_eq!(bench.state(id).await, StateName::Delivered);
}

/// The default bundle with an intent that writes messages and one that takes in opt-outs.
fn talking_bundle() -> Arc<chaperone_policy::Bundle> {
    let mut files = chaperone_policy::embedded::files();
    let agent = files.get_mut("agents/intake-agent.toml").unwrap();
    *agent = agent.replace(
        "intents = [\"intake\"]",
        "intents = [\"intake\", \"patient-message\", \"consent-capture\"]",
    );
    for (path, text) in [
        ("intents/patient-message.toml", PATIENT_MESSAGE),
        ("intents/consent-capture.toml", CONSENT_CAPTURE),
        ("tools/send_message.toml", SEND_MESSAGE),
        ("tools/record_opt_out.toml", RECORD_OPT_OUT),
    ] {
        files.insert(path.to_owned(), text.to_owned());
    }
    bundle(&files)
}

const PATIENT_MESSAGE: &str = r#"
id = "patient-message"
purpose = "Write to a patient."
purpose_of_use = "TREAT"
ttl_s = 300
patient = "required"
tools = ["send_message"]
writes = ["Communication.create.completed"]
"#;

const CONSENT_CAPTURE: &str = r#"
id = "consent-capture"
purpose = "Take in what a patient says about consent."
purpose_of_use = "PATADMIN"
ttl_s = 300
patient = "required"
tools = ["record_opt_out"]
writes = ["Consent.create.active"]
"#;

const SEND_MESSAGE: &str = r#"
name = "send_message"
description = "Write to the patient."

[write]
resource = "Communication"
interaction = "create"
destination = "ehr"

[write.template]
status = "completed"
subject = "{patient}"
recipient = ["{patient}"]
sent = "{now}"
medium = [{ coding = [{ system = "urn:chaperone:contact-channel", code = "{channel}" }] }]
category = [{ coding = [{ system = "urn:chaperone:contact-purpose", code = "reminder" }] }]
payload = [{ contentString = "{text}" }]

[inputs.channel]
description = "How."
type = "code"
one_of = ["sms", "portal", "email"]
required = true

[inputs.text]
description = "What."
type = "string"
max_length = 160
required = true
"#;

const RECORD_OPT_OUT: &str = r#"
name = "record_opt_out"
description = "The patient wants no more text messages."

[write]
resource = "Consent"
interaction = "create"
destination = "ehr"

[write.template]
status = "active"
scope = { coding = [{ system = "http://terminology.hl7.org/CodeSystem/consentscope", code = "patient-privacy" }] }
category = [{ coding = [{ system = "urn:chaperone:consent-category", code = "contact-preference" }] }]
patient = "{patient}"
dateTime = "{now}"
policyRule = { coding = [{ system = "http://terminology.hl7.org/CodeSystem/v3-ActCode", code = "OPTOUT" }] }

[write.template.provision]
type = "deny"
class = [{ system = "urn:chaperone:contact-channel", code = "{channel}" }]

[inputs.channel]
description = "Which."
type = "code"
one_of = ["sms", "email"]
required = true
"#;

/// A bench that can write to patients, each of whom has a telephone and no wishes yet.
pub(crate) async fn talking(db: Db, strategy: Strategy) -> Bench {
    let mut bench = bench_on(db, strategy).await;
    let bundle = talking_bundle();
    let config = EngineConfig {
        event_sources: event_sources(),
        ..EngineConfig::new(tenant(), "http://127.0.0.1:8080")
    };
    let ports = chaperone_engine::Ports {
        notifier: bench.notifier.clone(),
        ..ports(bench.store.clone(), bench.ehr.clone(), bench.clock.clone())
    };
    bench.engine = Engine::start(config, bundle, ports).await.unwrap();
    show(&bench.engine, &bench.ehr).await;
    for id in ["p1", "p2"] {
        bench.ehr.put(json!({
            "resourceType": "Patient", "id": id, "birthDate": "1950-02-03",
            "telecom": [{"system": "phone", "value": "555-0100", "use": "mobile"}],
        }));
    }
    bench
}

pub(crate) fn wish(id: &str, patient: &str, kind: &str, channel: &str) -> Value {
    let class = json!([{"system": "urn:chaperone:contact-channel", "code": channel}]);
    let mut wish = consent(id, patient, json!({"type": kind, "class": class}));
    wish["category"] = json!([{"coding": [{"system": "urn:chaperone:consent-category", "code": "contact-preference"}]}]);
    wish
}

pub(crate) async fn message(
    bench: &Bench,
    caller: &Caller,
    key: &str,
    channel: &str,
) -> Result<WritebackId, &'static str> {
    let arguments =
        json!({"idempotency_key": key, "channel": channel, "text": "See you on Monday."});
    bench
        .try_call(caller, "send_message", arguments)
        .await
        .map(|answer| {
            assert_eq!(answer["state"], "awaiting_approval", "{answer}");
            answer["proposal"].as_str().unwrap().parse().unwrap()
        })
        .map_err(|error| error.code)
}

pub(crate) async fn a_message_goes_only_where_the_patient_agreed(db: Db) {
    let bench = talking(db, Strategy::Conditional).await;
    bench.ehr.put(wish("k1", "p1", "permit", "sms"));
    let one = bench
        .caller(&nurse(), "intake-agent", "patient-message", "p1")
        .await;
    let two = bench
        .caller(&nurse(), "intake-agent", "patient-message", "p2")
        .await;
    // Agreed to, beside what was not: another channel, another patient, a channel without an address.
    let text = message(&bench, &one, "1", "sms").await.unwrap();
    assert_eq!(
        message(&bench, &one, "2", "email").await,
        Err("consent-denied")
    );
    assert_eq!(
        message(&bench, &two, "3", "sms").await,
        Err("consent-denied")
    );
    bench.ehr.put(wish("k2", "p2", "permit", "email"));
    announce_change(&bench, "Consent/k2").await;
    assert_eq!(
        message(&bench, &two, "4", "email").await,
        Err("consent-denied")
    );
    let because = grounds(&bench).await;
    let last: Vec<&str> = because
        .iter()
        .rev()
        .take(3)
        .rev()
        .map(String::as_str)
        .collect();
    assert_eq!(
        last,
        [
            "consent-denied contact-not-agreed",
            "consent-denied contact-not-agreed",
            "consent-denied contact-point-missing"
        ]
    );
    // The portal needs no agreement for a reminder.
    let portal = message(&bench, &one, "5", "portal").await.unwrap();
    approve(&bench, text).await;
    approve(&bench, portal).await;
    // STOP: at once for what is queued on that channel, and for nothing else.
    bench.ehr.put(wish("k3", "p1", "deny", "sms"));
    announce_change(&bench, "Consent/k3").await;
    assert_eq!(bench.row(text).await.void, Some(VoidReason::Consent));
    // What is left of it goes first, and finds nothing to send.
    bench.deliver().await;
    bench.deliver().await;
    assert_eq!(bench.state(portal).await, StateName::Delivered);
    assert_eq!(bench.ehr.written().len(), 1);
    assert_eq!(
        message(&bench, &one, "6", "sms").await,
        Err("consent-denied")
    );
}

pub(crate) async fn an_opt_out_counts_before_the_ehr_has_it(db: Db) {
    // An EHR into which people enter everything by hand.
    let bench = talking(db, Strategy::HumanEntry).await;
    bench.ehr.put(wish("k1", "p1", "permit", "sms"));
    let one = bench
        .caller(&nurse(), "intake-agent", "patient-message", "p1")
        .await;
    let text = message(&bench, &one, "1", "sms").await.unwrap();
    approve(&bench, text).await;
    let capture = bench
        .caller(&nurse(), "intake-agent", "consent-capture", "p1")
        .await;
    let stop = json!({"idempotency_key": "stop", "channel": "sms"});
    let answer = bench.call(&capture, "record_opt_out", stop).await;
    assert_eq!(
        (&answer["state"], &answer["gate"]),
        (&json!("ready"), &json!("auto")),
        "{answer}"
    );
    assert_eq!(bench.row(text).await.void, Some(VoidReason::Consent));
    bench.deliver().await;
    // It waits for a person to enter it; that is not the patient's concern.
    let id = answer["proposal"].as_str().unwrap().parse().unwrap();
    assert_eq!(bench.state(id).await, StateName::Delivering);
    bench.clock.advance_s(120);
    assert_eq!(
        message(&bench, &one, "2", "sms").await,
        Err("consent-denied")
    );
    assert!(message(&bench, &one, "3", "portal").await.is_ok());
}
