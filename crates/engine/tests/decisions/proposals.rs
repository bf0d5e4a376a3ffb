//! Proposals, grants, bundles, switches: one database is enough for these.

use std::sync::Arc;

use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::Strategy;
use chaperone_core::gate::GateLevel;
use chaperone_core::ids::{TenantId, WorkId, WritebackId};
use chaperone_core::mode::{Mode, ModeScope};
use chaperone_core::ports::{
    Anchor, AnchorFailed, Clock, Commit, Expected, WorkChange, WorkItem, WorkKind,
};
use chaperone_core::principal::{Actor, Role, SystemPart};
use chaperone_core::resource::ResourceType;
use chaperone_core::writeback::{FailureCause, StateName, WritebackEvent};
use chaperone_engine::approve::{ApproveRequest, DecideFailed};
use chaperone_engine::grant::{GrantFailed, PatientRef};
use chaperone_engine::open_envelope::Caller;
use chaperone_engine::{Engine, EngineConfig, Ports};
use chaperone_testkit::{MemoryAnchor, MemoryKeyVault, WriteFault};
use serde_json::{Value, json};

use crate::bench::*;

#[tokio::test]
async fn a_bundle_is_recorded_however_much_the_tenant_has_done_since() {
    let bench = bench(Strategy::Conditional).await;
    let mut commit = Commit::new(
        tenant(),
        bench.clock.now(),
        Actor::System {
            part: SystemPart::Gateway,
        },
    );
    for _ in 0..9_999 {
        let resource = ResourceType::new("Slot").unwrap();
        commit.append(
            StreamId::Tenant,
            Expected::Any,
            Event::TokenMinted {
                resource,
                patient: None,
            },
        );
    }
    bench.store.commit(commit.clone()).await.unwrap();
    bench.store.commit(commit).await.unwrap();
    let before = bench.store.size(&tenant()).await.unwrap();

    let mut files = chaperone_policy::embedded::files();
    let text = files.get_mut("bundle.toml").unwrap();
    *text = text.replace("version = \"1.0.0\"", "version = \"1.0.1\"");
    let next = bundle(&files);
    for (bundle, events) in [(&next, 1), (&next, 1), (&*BUNDLE, 2)] {
        start(
            bundle,
            bench.store.clone(),
            bench.ehr.clone(),
            bench.clock.clone(),
        )
        .await;
        let after = bench.store.size(&tenant()).await.unwrap();
        assert_eq!(after - before, events);
    }
}

#[tokio::test]
async fn a_patient_is_found_by_the_identifier_itself_and_not_by_what_a_server_makes_of_it() {
    let bench = bench(Strategy::Conditional).await;
    let by = |system: &str| PatientRef::Identifier {
        system: system.to_owned(),
        value: "MRN-p1".to_owned(),
    };
    let nurse = nurse();
    let found = |patient| bench.grant(&nurse, "intake-agent", "intake", patient);
    assert!(found(by("urn:example:mrn")).await.is_ok());
    // This EHR passes over the system.
    assert!(matches!(
        found(by("urn:example:other")).await,
        Err(GrantFailed::PatientNotFound)
    ));
}

#[tokio::test]
async fn a_merged_record_leads_to_the_surviving_one_or_nowhere() {
    let bench = bench(Strategy::Conditional).await;
    let merged = |reference: Value| {
        json!({ "resourceType": "Patient", "id": "old",
            "link": [{ "type": "replaced-by", "other": reference }] })
    };
    let nurse = nurse();
    let grant = || {
        let old = PatientRef::LogicalId("old".to_owned());
        bench.grant(&nurse, "intake-agent", "intake", old)
    };
    let direct = PatientRef::LogicalId("p1".to_owned());
    let survivor = bench
        .grant(&nurse, "intake-agent", "intake", direct)
        .await
        .unwrap()
        .patient;
    for followed in ["Patient/p1", "http://ehr.test/fhir/Patient/p1"] {
        bench.ehr.put(merged(json!({ "reference": followed })));
        assert_eq!(grant().await.unwrap().patient, survivor, "{followed}");
    }
    for lost in [
        json!({ "reference": "http://elsewhere.test/fhir/Patient/p1" }),
        json!({ "identifier": { "system": "urn:example:mrn", "value": "MRN-p1" } }),
    ] {
        bench.ehr.put(merged(lost.clone()));
        assert!(
            matches!(grant().await, Err(GrantFailed::PatientNotFound)),
            "{lost}"
        );
    }
}

#[tokio::test]
async fn a_source_from_outside_taints_whatever_the_intent_reads() {
    let bench = bench(Strategy::Conditional).await;
    bench.ehr.put(json!({
        "resourceType": "DocumentReference", "id": "d1", "status": "current",
        "subject": { "reference": "Patient/p1" },
    }));
    let clinician = human(2, &[Role::Clinician]);
    let reader = bench
        .caller(&clinician, "order-agent", "chart-summary", "p1")
        .await;
    let read = bench.call(&reader, "list_documents", json!({})).await;
    let document = read["resources"][0]["id"].clone();
    let agent = bench
        .caller(&clinician, "refill-agent", "refill-request", "p1")
        .await;
    let clean = bench.task(&agent, "1", json!([])).await;
    assert!(!clean.tainted && clean.gate.unwrap().level() == GateLevel::Auto);
    let tainted = bench.task(&agent, "2", json!([document])).await;
    assert!(tainted.tainted && tainted.gate.unwrap().level() == GateLevel::Approve);
}

#[tokio::test]
async fn who_put_the_patient_before_the_agent_is_the_requester() {
    let bench = bench(Strategy::Conditional).await;
    let nurse = nurse();
    let agent = bench.caller(&nurse, "intake-agent", "intake", "p1").await;
    // A nurse's presence does not count, and yet the request is theirs.
    assert_eq!(agent.envelope.presence, None);
    let row = bench.task(&agent, "1", json!([])).await;
    assert_eq!(row.requester, Some(nurse.person));
}

#[tokio::test]
async fn the_ledger_holds_no_digest_that_lets_arguments_be_guessed() {
    let bench = bench(Strategy::Conditional).await;
    let agent = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
    let row = bench.task(&agent, "1", json!([])).await;
    let stream = StreamId::Writeback(row.id);
    let events = bench.store.stream(&tenant(), &stream).await.unwrap();
    let Event::Writeback(WritebackEvent::Proposed(proposal)) = &events[0].event else {
        panic!("a write-back begins with a proposal");
    };
    let tenant = tenant();
    let guess = chaperone_core::digest::Digest::of_parts([
        tenant.as_str().as_bytes(),
        b"intake-agent",
        b"1",
    ]);
    assert_ne!(proposal.idempotency_key, guess);
    // The same key and content is the same proposal.
    assert_eq!(bench.task(&agent, "1", json!([])).await.id, row.id);
}

#[tokio::test]
async fn nobody_decides_about_an_unknown_outcome_before_it_was_looked_up() {
    let bench = bench(Strategy::Conditional).await;
    let nurse = nurse();
    let agent = bench.caller(&nurse, "intake-agent", "intake", "p1").await;
    bench.ehr.fail_next_write(WriteFault::LostAfter);
    let id = bench.task(&agent, "1", json!([])).await.id;
    bench.deliver().await;
    assert_eq!(bench.state(id).await, StateName::Unknown);
    let decided = bench
        .engine
        .resolve_unknown(&nurse, id, false, "not there")
        .await;
    assert!(matches!(decided, Err(DecideFailed::Refused(_))));
    bench.deliver().await;
    assert_eq!(bench.state(id).await, StateName::Delivered);
    assert_eq!(bench.ehr.written().len(), 1);
}

#[tokio::test]
async fn a_decision_frees_the_patients_order_however_much_else_waits() {
    let bench = bench(Strategy::PlainPost).await;
    let mut commit = Commit::new(
        tenant(),
        bench.clock.now(),
        Actor::System {
            part: SystemPart::Expiry,
        },
    );
    let later = bench
        .clock
        .now()
        .checked_add(jiff::SignedDuration::from_hours(24))
        .unwrap();
    for n in 0..1_100_u16 {
        let mut raw = [9; 16];
        raw[..2].copy_from_slice(&n.to_be_bytes());
        commit.work.push(WorkChange::Enqueue(WorkItem {
            id: WorkId::from_random(raw),
            kind: WorkKind::Expire,
            subject: WritebackId::from_random(raw).to_string(),
            order_key: None,
            due: later,
        }));
    }
    bench.store.commit(commit).await.unwrap();

    let nurse = nurse();
    let agent = bench.caller(&nurse, "intake-agent", "intake", "p1").await;
    for (applied, key) in [(true, "1"), (false, "2")] {
        bench.ehr.fail_next_write(WriteFault::LostAfter);
        let id = bench.task(&agent, key, json!([])).await.id;
        bench.deliver().await;
        bench.deliver().await;
        assert!(bench.row(id).await.human_needed.is_some());
        bench
            .engine
            .resolve_unknown(&nurse, id, applied, "looked")
            .await
            .unwrap();
        bench.deliver().await;
        assert_eq!(bench.state(id).await, StateName::Delivered);
    }
    let next = bench.task(&agent, "3", json!([])).await.id;
    bench.deliver().await;
    assert_eq!(bench.state(next).await, StateName::Delivered);
}

/// A task that a nurse had to approve, so that an approval is behind it.
async fn approved_task(bench: &Bench, document: &Value, agent: &Caller, key: &str) -> WritebackId {
    let row = bench.task(agent, key, json!([document])).await;
    let request = ApproveRequest {
        writeback: row.id,
        digest: row.digest.unwrap(),
        step_up: None,
        override_reason: None,
        review_ms: 5_000,
    };
    let approver = human(3, &[Role::MaRn]);
    bench.engine.approve(&approver, request).await.unwrap();
    row.id
}

#[tokio::test]
async fn a_dead_letter_goes_back_only_while_its_approval_is_young_enough() {
    let bench = bench(Strategy::Conditional).await;
    bench.ehr.put(json!({
        "resourceType": "DocumentReference", "id": "d1", "status": "current",
        "subject": { "reference": "Patient/p1" },
    }));
    let clinician = human(2, &[Role::Clinician]);
    let reader = bench
        .caller(&clinician, "order-agent", "chart-summary", "p1")
        .await;
    let read = bench.call(&reader, "list_documents", json!({})).await;
    let document = read["resources"][0]["id"].clone();
    let agent = bench
        .caller(&clinician, "refill-agent", "refill-request", "p1")
        .await;
    let within = bench.engine.config().deliver_within_s;
    let mut dead = Vec::new();
    for key in ["1", "2", "3"] {
        bench
            .ehr
            .fail_next_write(WriteFault::Refuse(FailureCause::Rejected));
        dead.push(approved_task(&bench, &document, &agent, key).await);
        bench.deliver().await;
        assert_eq!(
            bench.state(dead[dead.len() - 1]).await,
            StateName::DeadLetter
        );
    }
    let requeue = |id| bench.engine.requeue(&clinician, id, "the EHR is mended");
    requeue(dead[0]).await.unwrap();
    bench.deliver().await;
    assert_eq!(bench.state(dead[0]).await, StateName::Delivered);
    // Put back in time, and then not sent in time: the approval has not become younger.
    bench.clock.advance_s(within - 10);
    requeue(dead[1]).await.unwrap();
    bench.clock.advance_s(20);
    bench.deliver().await;
    assert_eq!(bench.state(dead[1]).await, StateName::Void);
    assert!(matches!(
        requeue(dead[2]).await,
        Err(DecideFailed::Refused(_))
    ));
    assert_eq!(bench.ehr.written().len(), 1);
    drop(bench.dir);
}

/// An anchor that is out of reach for a while.
#[derive(Debug, Default)]
struct AwayAnchor {
    away: std::sync::atomic::AtomicBool,
    kept: MemoryAnchor,
}

#[async_trait::async_trait]
impl Anchor for AwayAnchor {
    async fn anchor(&self, tenant: &TenantId, size: u64, note: &str) -> Result<(), AnchorFailed> {
        if self.away.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(AnchorFailed("away".to_owned()));
        }
        self.kept.anchor(tenant, size, note).await
    }

    async fn newest(&self, tenant: &TenantId) -> Result<Option<String>, AnchorFailed> {
        self.kept.newest(tenant).await
    }
}

#[tokio::test]
async fn a_checkpoint_that_could_not_be_anchored_is_anchored_once_that_works_again() {
    let bench = bench(Strategy::Conditional).await;
    let anchor = Arc::new(AwayAnchor::default());
    let ports = Ports {
        anchor: anchor.clone(),
        ..ports(bench.store.clone(), bench.ehr.clone(), bench.clock.clone())
    };
    let config = EngineConfig::new(tenant(), "http://127.0.0.1:8080");
    let engine = Engine::start(config, BUNDLE.clone(), ports).await.unwrap();
    let away = |away| {
        anchor
            .away
            .store(away, std::sync::atomic::Ordering::Relaxed)
    };
    away(true);
    assert!(engine.integrate_ledger().await.is_err());
    assert!(engine.integrate_ledger().await.is_err());
    away(false);
    // Nothing new has happened, and the checkpoint is anchored all the same, once.
    for _ in 0..2 {
        assert_eq!(engine.integrate_ledger().await.unwrap(), 0);
        assert_eq!(anchor.kept.anchored().len(), 1);
    }
}

pub(crate) async fn a_switch_stops_calls_at_once_here_and_within_a_second_at_another_node(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    // Two nodes that share store and keys.
    let keys = Arc::new(MemoryKeyVault::new(2));
    let node = async || {
        let ports = Ports {
            keys: keys.clone(),
            ..ports(bench.store.clone(), bench.ehr.clone(), bench.clock.clone())
        };
        let config = EngineConfig::new(tenant(), "http://127.0.0.1:8080");
        Engine::start(config, BUNDLE.clone(), ports).await.unwrap()
    };
    let (here, other) = (node().await, node().await);
    let bench = Bench {
        engine: here,
        ..bench
    };
    let caller = bench
        .caller(&nurse(), "order-agent", "chart-summary", "p1")
        .await;
    let reads = async |engine: &Arc<Engine>| {
        let correlation = engine.correlation();
        engine
            .call(
                &caller,
                "list_recent_vitals",
                Default::default(),
                correlation,
            )
            .await
            .map_or_else(|refused| refused.code, |_| "ok")
    };
    assert_eq!([reads(&bench.engine).await, reads(&other).await], ["ok"; 2]);
    let operator = human(9, &[Role::ItAdmin]);
    let switch = async |engine: &Arc<Engine>, mode| {
        let switched = engine.switch_mode(&operator, ModeScope::Tenant, mode, "a drill");
        switched.await.unwrap();
    };
    switch(&bench.engine, Mode::Halted).await;
    assert_eq!(reads(&bench.engine).await, "halted");
    bench.clock.advance_ms(1_000);
    assert_eq!(reads(&other).await, "halted");
    switch(&other, Mode::Normal).await;
    assert_eq!(reads(&other).await, "ok");
    bench.clock.advance_ms(1_000);
    assert_eq!(reads(&bench.engine).await, "ok");
}

#[tokio::test]
async fn nothing_is_sent_before_the_ehr_was_shown_to_take_it() {
    let bench = bench(Strategy::Conditional).await;
    // A report of another endpoint is none.
    let mut report = bench
        .engine
        .conformance_report(chaperone_testkit::shown(bench.ehr.as_ref()), 30);
    report.endpoint = "http://other.test/fhir".to_owned();
    bench.engine.record_conformance(&report).await.unwrap();
    let agent = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
    let row = bench.task(&agent, "k1", json!([])).await;
    assert_eq!(row.state, StateName::Ready);
    for _ in 0..3 {
        bench.deliver().await;
        bench.clock.advance_ms(10_000);
    }
    assert_eq!(bench.state(row.id).await, StateName::Ready);
    assert!(bench.ehr.written().is_empty());
    // It waits, and goes once the EHR was shown to take it.
    show(&bench.engine, &bench.ehr).await;
    bench.deliver().await;
    assert_eq!(bench.state(row.id).await, StateName::Delivered);
    assert_eq!(bench.ehr.written().len(), 1);
}

#[tokio::test]
async fn what_is_valid_r4_and_violates_the_tenants_profile_is_refused_with_its_path() {
    let bench = bench(Strategy::Conditional).await;
    let profile = json!({
        "resourceType": "StructureDefinition", "url": "urn:example:task-with-reason",
        "name": "TaskWithReason", "status": "active", "fhirVersion": "4.0.1", "kind": "resource",
        "abstract": false, "type": "Task", "derivation": "constraint",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Task",
        "differential": { "element": [
            { "id": "Task", "path": "Task" },
            { "id": "Task.reasonCode", "path": "Task.reasonCode", "min": 1 },
        ] },
    });
    let mut catalogue =
        chaperone_fhir::catalogue::Catalogue::with_base(chaperone_fhir::catalogue::Catalogue::r4());
    catalogue
        .add_resource("profile", profile.to_string().as_bytes())
        .unwrap();
    let validator = chaperone_engine::validator_over(Arc::new(catalogue));
    let engine_with = async |manifest: &str| {
        let mut files = chaperone_policy::embedded::files();
        files.get_mut("bundle.toml").unwrap().push_str(manifest);
        let ports = ports(bench.store.clone(), bench.ehr.clone(), bench.clock.clone());
        let config = EngineConfig {
            validator: validator.clone(),
            ..EngineConfig::new(tenant(), "http://127.0.0.1:8080")
        };
        Engine::start(config, bundle(&files), ports).await
    };
    let strict = engine_with("[profiles]\nTask = [\"urn:example:task-with-reason\"]\n")
        .await
        .unwrap();
    let bench = Bench {
        engine: strict,
        ..bench
    };
    let agent = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
    let task = json!({ "idempotency_key": "k1", "summary": "Call back.", "pool": "nursing" });
    let answer = bench.call(&agent, "create_task", task).await;
    assert_eq!(answer["state"], "refused", "{answer}");
    let findings = answer["findings"].to_string();
    assert!(findings.contains("Task"), "{answer}");
    assert!(findings.contains("reasonCode"), "{answer}");
}

#[tokio::test]
async fn an_engine_starts_with_exactly_the_packages_of_its_bundle() {
    let bench = bench(Strategy::Conditional).await;
    let mut files = chaperone_policy::embedded::files();
    files.get_mut("bundle.toml").unwrap().push_str(&format!(
        "[[packages]]\nname = \"example.package\"\nversion = \"1.0.0\"\nsha256 = \"{}\"\n",
        "0".repeat(64)
    ));
    let ports = ports(bench.store.clone(), bench.ehr.clone(), bench.clock.clone());
    let config = EngineConfig::new(tenant(), "http://127.0.0.1:8080");
    let refused = Engine::start(config, bundle(&files), ports).await.err();
    let said = refused
        .map(|refused| refused.to_string())
        .unwrap_or_default();
    assert!(said.contains("example.package#1.0.0"), "{said}");
    assert!(said.contains("chaperone packages add"), "{said}");
}
