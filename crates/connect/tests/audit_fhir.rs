//! An audit repository that answers, and ones that do not: every AuditEvent is there once, whatever was lost.

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

use chaperone_connect::audit_fhir::{
    AuditHandover, AuditRepositoryConfig, AuditRepositoryInvalid, FhirAuditSink,
};
use chaperone_connect::clock::SystemClock;
use chaperone_connect::egress::Gate;
use chaperone_connect::random::OsRandom;
use chaperone_core::ids::TenantId;
use chaperone_core::ports::{AuditLine, AuditSink as _, Clock as _};
use chaperone_sandbox::{
    FaultKind, FaultRule, RunningSandbox, Sandbox, SandboxConfig, ServerProfile,
};
use serde_json::{Value, json};

/// Everything that one test works with.
struct Bench {
    sandbox: RunningSandbox,
    sink: FhirAuditSink,
}

async fn bench(profile: ServerProfile, handover: AuditHandover) -> Bench {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = SandboxConfig::new(profile, Arc::new(|| SystemClock.now()));
    let sandbox = Sandbox::start(config).await.unwrap();
    let sink = sink(&sandbox.base_url, handover).unwrap();
    Bench { sandbox, sink }
}

fn sink(base_url: &str, handover: AuditHandover) -> Result<FhirAuditSink, AuditRepositoryInvalid> {
    let clock = Arc::new(SystemClock);
    let config = AuditRepositoryConfig {
        base_url: base_url.to_owned(),
        auth: None,
        handover,
        extra_root_pem: None,
    };
    let gate = Gate::to_this_machine(clock.clone());
    FhirAuditSink::new(config, &gate, clock, Arc::new(OsRandom))
}

fn tenant() -> TenantId {
    TenantId::new("clinic").unwrap()
}

fn line(number: u32) -> AuditLine {
    let id = format!("0198c0de-0000-8000-8000-{number:012}");
    let event = json!({
        "resourceType": "AuditEvent",
        "id": id,
        "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest"},
        "recorded": "2027-01-15T08:00:00Z",
        "agent": [{"requestor": true}],
        "source": {"observer": {"display": "chaperone"}},
        "entity": [{"what": {"reference": "Patient/1"}}],
    });
    AuditLine {
        id,
        json: event.to_string(),
    }
}

fn lines(numbers: std::ops::Range<u32>) -> Vec<AuditLine> {
    numbers.map(line).collect()
}

/// What the repository holds, by id, without what the server adds.
fn held(bench: &Bench) -> Vec<Value> {
    let mut held = bench.sandbox.handle.resources("AuditEvent");
    for event in &mut held {
        event.as_object_mut().unwrap().remove("meta");
    }
    held.sort_by_key(|event| event["id"].as_str().unwrap().to_owned());
    held
}

fn as_sent(lines: &[AuditLine]) -> Vec<Value> {
    lines
        .iter()
        .map(|line| serde_json::from_str(&line.json).unwrap())
        .collect()
}

#[tokio::test]
async fn each_audit_event_is_there_once_under_its_id() {
    for handover in [AuditHandover::Batch, AuditHandover::Single] {
        let bench = bench(ServerProfile::Full, handover).await;
        let events = lines(0..120);
        bench.sink.take(&tenant(), &events).await.unwrap();
        assert_eq!(held(&bench), as_sent(&events), "{handover:?}");
        // A repetition is no second one.
        bench.sink.take(&tenant(), &events[..3]).await.unwrap();
        assert_eq!(held(&bench).len(), 120, "{handover:?}");
    }
}

#[tokio::test]
async fn what_failed_and_what_was_applied_without_an_answer_are_both_sent_again() {
    let lost = [
        // Failed: nothing was applied.
        FaultKind::TimeoutBeforeCommit { hold_ms: 0 },
        FaultKind::Status { code: 503 },
        FaultKind::TooManyRequests { retry_after_s: 1 },
        // Applied, and the answer was lost.
        FaultKind::TimeoutAfterCommit { hold_ms: 0 },
    ];
    for handover in [AuditHandover::Batch, AuditHandover::Single] {
        for kind in &lost {
            let bench = bench(ServerProfile::Full, handover).await;
            let of = match handover {
                AuditHandover::Batch => ("POST", "Bundle"),
                AuditHandover::Single => ("PUT", "AuditEvent"),
            };
            bench.sandbox.handle.inject(FaultRule {
                method: Some(of.0.to_owned()),
                resource_type: Some(of.1.to_owned()),
                parameter: None,
                kind: kind.clone(),
                times: 1,
            });
            let events = lines(0..5);
            let failed = bench.sink.take(&tenant(), &events).await;
            let failed = failed.unwrap_err().to_string();
            // What went wrong is said, and nothing of what was in it.
            assert!(
                !failed.contains("Patient") && !failed.contains("0198c0de"),
                "{failed}"
            );
            let applied = matches!(kind, FaultKind::TimeoutAfterCommit { .. });
            assert_eq!(!held(&bench).is_empty(), applied, "{handover:?} {kind:?}");
            bench.sink.take(&tenant(), &events).await.unwrap();
            assert_eq!(held(&bench), as_sent(&events), "{handover:?} {kind:?}");
        }
    }
}

#[tokio::test]
async fn a_batch_of_which_one_entry_was_refused_was_not_taken() {
    let bench = bench(ServerProfile::Full, AuditHandover::Batch).await;
    let mut events = lines(0..3);
    // Another id in the resource than in the request.
    events[1].json = line(9).json;
    let failed = bench.sink.take(&tenant(), &events).await.unwrap_err();
    assert!(
        failed.to_string().contains("an entry with status 4"),
        "{failed}"
    );
    events[1] = line(1);
    bench.sink.take(&tenant(), &events).await.unwrap();
    assert_eq!(held(&bench), as_sent(&events));
}

#[tokio::test]
async fn a_server_without_batches_is_asked_one_by_one_or_not_at_all() {
    let bench = bench(ServerProfile::Plain, AuditHandover::Batch).await;
    assert!(bench.sink.take(&tenant(), &lines(0..2)).await.is_err());
    assert_eq!(held(&bench), Vec::<Value>::new());
}

#[test]
fn another_machine_needs_tls_and_credentials() {
    assert!(matches!(
        sink("http://audit.example/fhir", AuditHandover::Batch),
        Err(AuditRepositoryInvalid::Url(_))
    ));
    assert!(matches!(
        sink("https://audit.example/fhir", AuditHandover::Batch),
        Err(AuditRepositoryInvalid::Open)
    ));
}
