//! A booking waits until a source that the bundle trusts attests that the patient confirmed it: what counts, each
//! beside its nearest neighbour that does not.

use std::sync::{Arc, LazyLock};

use chaperone_core::digest::Digest;
use chaperone_core::event::{DecisionKind, Event};
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::WritebackId;
use chaperone_core::ports::Clock;
use chaperone_core::principal::Role;
use chaperone_core::verification::{VerificationMethod, VerifiedBy};
use chaperone_core::writeback::{StateName, WritebackEvent};
use chaperone_engine::portal::{Portal, ProposalAsked};
use chaperone_engine::retention::holds::HoldChange;
use chaperone_engine::verification::{Attestation, VerifyFailed, Verifying};
use chaperone_engine::{Engine, EngineConfig};
use chaperone_policy::Bundle;
use serde_json::json;

use crate::bench::*;
use crate::deliveries::slot;
use crate::retention::{WHY, change, privacy};

/// The default bundle, in which one portal may attest that a patient confirmed something.
static TRUSTING: LazyLock<Arc<Bundle>> =
    LazyLock::new(|| trusting_for(r#"["patient_confirmed", "proxy_session"]"#));

fn trusting_for(facts: &str) -> Arc<Bundle> {
    let mut files = chaperone_policy::embedded::files();
    let rules = files.get_mut("rules/verification.toml").unwrap();
    rules.push_str(&format!(
        "\n[[sources]]\nsource = \"portal\"\nfacts = {facts}\nvalid_s = 600\n"
    ));
    bundle(&files)
}

pub(crate) struct Held {
    pub(crate) bench: Bench,
    pub(crate) ids: Vec<WritebackId>,
}

/// So many bookings that wait for the patient's confirmation, each in a slot of its own.
async fn held(db: Db, count: usize) -> Held {
    held_under(db, TRUSTING.clone(), count).await
}

async fn bench_under(db: Db, rules: Arc<Bundle>) -> Bench {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let config = EngineConfig {
        event_sources: event_sources(),
        ..EngineConfig::new(tenant(), "http://127.0.0.1:8080")
    };
    let ports = ports(bench.store.clone(), bench.ehr.clone(), bench.clock.clone());
    bench.engine = Engine::start(config, rules, ports).await.unwrap();
    bench
}

/// An engine whose bundle trusts one portal to attest that a patient confirmed something.
pub(crate) async fn trusting_bench(db: Db) -> Bench {
    bench_under(db, TRUSTING.clone()).await
}

async fn held_under(db: Db, rules: Arc<Bundle>, count: usize) -> Held {
    let bench = bench_under(db, rules).await;
    let slots: Vec<_> = (0..count)
        .map(|n| slot(&format!("s{n}"), "free", Some("124")))
        .collect();
    let (agent, tokens) = bench.scheduler(&slots).await;
    let mut ids = Vec::new();
    for (n, token) in tokens.iter().enumerate() {
        let arguments = json!({
            "idempotency_key": format!("held {n}"), "slot": token, "visit_type": "ROUTINE",
            // What an agent says is no evidence.
            "rationale": "The patient confirmed this on the telephone.",
        });
        let answer = bench.call(&agent, "confirm_appointment", arguments).await;
        assert_eq!(answer["state"], "awaiting_verification", "{answer}");
        ids.push(answer["proposal"].as_str().unwrap().parse().unwrap());
    }
    Held { bench, ids }
}

impl Held {
    pub(crate) async fn portal(&self) -> Portal {
        self.bench.portal("portal", PORTAL_SECRET).await
    }

    async fn digest(&self, id: WritebackId) -> Digest {
        self.bench.row(id).await.digest.unwrap()
    }

    /// What is right for one of them.
    pub(crate) async fn attestation(&self, n: usize) -> Attestation {
        Attestation {
            id: format!("confirmation {n}"),
            writeback: self.ids[n],
            digest: self.digest(self.ids[n]).await,
            patient: "Patient/p1".to_owned(),
            fact: "patient_confirmed".to_owned(),
            method: VerificationMethod::Session,
            proxy: None,
            at: self.bench.clock.now(),
        }
    }

    pub(crate) async fn take(&self, attestation: Attestation) -> Result<Verifying, VerifyFailed> {
        let from = self.portal().await;
        self.bench.engine.take_attestation(&from, attestation).await
    }

    async fn refused(&self, attestation: Attestation) -> &'static str {
        let id = attestation.writeback;
        let code = self.take(attestation).await.unwrap_err().code().unwrap();
        assert_eq!(self.bench.state(id).await, StateName::AwaitingVerification);
        code
    }
}

pub(crate) async fn evidence_made_here_verifies_its_own_order_once(db: Db) {
    let held = held(db, 2).await;
    let right = held.attestation(0).await;
    let passed = held.take(right.clone()).await.unwrap();
    assert!(matches!(&passed, Verifying::Passed(row) if row.state == StateName::Ready));
    // Once more for the same: nothing waits. The same for the other: it is about other content.
    let again = held.take(right.clone()).await.unwrap_err();
    assert_eq!(again.code(), Some("not-waiting"));
    let other = Attestation {
        writeback: held.ids[1],
        ..right.clone()
    };
    assert_eq!(held.refused(other).await, "other-content");
    // The other's own content under a used id.
    let reused = Attestation {
        id: right.id.clone(),
        ..held.attestation(1).await
    };
    assert_eq!(held.refused(reused).await, "attestation-used");
    held.bench.deliver().await;
    let written = held.bench.ehr.written();
    assert_eq!(written.len(), 1);
    assert_eq!(written[0].0, held.ids[0]);
    // What it rested on is in the ledger, and so is what was refused.
    let recorded = held.bench.recorded().await;
    let evidence = recorded.iter().find_map(|it| match &it.event {
        Event::Writeback(WritebackEvent::Verified { evidence, .. }) => evidence.first(),
        _ => None,
    });
    let evidence = evidence.unwrap();
    assert_eq!(evidence.digest, right.digest);
    assert!(
        matches!(&evidence.verified, VerifiedBy::Source { source, method: Some(VerificationMethod::Session), proxy: None } if source.as_str() == "portal")
    );
    let refused: Vec<&str> = recorded
        .iter()
        .filter_map(|it| match &it.event {
            Event::DecisionRefused {
                decision: DecisionKind::Verify,
                code,
                ..
            } => Some(code.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(
        refused,
        ["not-waiting", "other-content", "attestation-used"]
    );
}

pub(crate) async fn evidence_of_other_things_leaves_it_held(db: Db) {
    let held = held(db, 1).await;
    let right = held.attestation(0).await;
    let at = |seconds: i64| {
        let span = jiff::SignedDuration::from_secs(seconds);
        held.bench.clock.now().checked_add(span).unwrap()
    };
    let cases = [
        (
            Attestation {
                digest: Digest::of_bytes(b"other content"),
                ..right.clone()
            },
            "other-content",
        ),
        (
            Attestation {
                patient: "Patient/p2".to_owned(),
                ..right.clone()
            },
            "other-content",
        ),
        // Nor is it told that this gate does not ask for it.
        (
            Attestation {
                patient: "Patient/p2".to_owned(),
                fact: "proxy_session".to_owned(),
                method: VerificationMethod::StepUp,
                ..right.clone()
            },
            "other-content",
        ),
        (
            Attestation {
                at: at(-600),
                ..right.clone()
            },
            "out-of-time",
        ),
        (
            Attestation {
                at: at(61),
                ..right.clone()
            },
            "out-of-time",
        ),
        (
            Attestation {
                fact: "slot_free".to_owned(),
                ..right.clone()
            },
            "source-not-trusted",
        ),
        (
            Attestation {
                fact: "portal_patient".to_owned(),
                ..right.clone()
            },
            "source-not-trusted",
        ),
        (
            Attestation {
                method: VerificationMethod::Lookup,
                ..right.clone()
            },
            "method-refused",
        ),
        // This gate does not ask for it, and nobody is one without a name.
        (
            Attestation {
                fact: "proxy_session".to_owned(),
                method: VerificationMethod::StepUp,
                ..right.clone()
            },
            "not-needed",
        ),
    ];
    for (wrong, code) in cases {
        assert_eq!(held.refused(wrong).await, code);
    }
    // The slot went meanwhile: confirmed or not, nothing is booked by itself.
    let mut taken = slot("s0", "free", Some("124"));
    taken["status"] = json!("busy");
    held.bench.ehr.put(taken);
    let missing = held.take(right.clone()).await.unwrap();
    assert!(
        matches!(&missing, Verifying::Held { missing } if missing.iter().eq(["slot_free"])),
        "{missing:?}"
    );
    held.bench.deliver().await;
    assert!(held.bench.ehr.written().is_empty());
    // It is free again, and the patient confirms once more.
    held.bench.ehr.put(slot("s0", "free", Some("124")));
    let again = Attestation {
        id: "confirmed again".to_owned(),
        ..right
    };
    assert!(matches!(held.take(again).await, Ok(Verifying::Passed(_))));
}

/// A relative of a patient, as the EHR has them.
fn related(id: &str, patient: &str, code: &str) -> serde_json::Value {
    json!({
        "resourceType": "RelatedPerson", "id": id, "active": true,
        "patient": { "reference": format!("Patient/{patient}") },
        "relationship": [{ "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/v3-RoleCode", "code": code,
        }] }],
    })
}

pub(crate) async fn a_proxy_speaks_for_a_patient_when_the_ehr_says_so_now(db: Db) {
    let held = held(db, 1).await;
    let right = held.attestation(0).await;
    let by = |proxy: &str| Attestation {
        proxy: Some(format!("RelatedPerson/{proxy}")),
        id: format!("by {proxy}"),
        ..right.clone()
    };
    let ehr = &held.bench.ehr;
    ehr.put(related("guardian", "p1", "GUARD"));
    ehr.put(related("of-another", "p2", "GUARD"));
    ehr.put(related("neighbour", "p1", "NBOR"));
    let mut inactive = related("inactive", "p1", "GUARD");
    inactive["active"] = json!(false);
    ehr.put(inactive);
    let mut ended = related("ended", "p1", "GUARD");
    ended["period"] = json!({ "end": "2020-01-01" });
    ehr.put(ended);
    for proxy in ["nobody", "of-another", "neighbour", "inactive", "ended"] {
        assert_eq!(held.refused(by(proxy)).await, "proxy-refused", "{proxy}");
        // Nor is such a person shown what is proposed.
        let asked = ProposalAsked {
            writeback: held.ids[0],
            patient: "Patient/p1".to_owned(),
            proxy: Some(format!("RelatedPerson/{proxy}")),
        };
        let from = held.portal().await;
        let shown = held.bench.engine.proposal_for_patient(&from, asked).await;
        assert_eq!(shown.unwrap_err().code(), Some("proxy-refused"), "{proxy}");
    }
    // A patient cannot be their own proxy, and nobody stands in for an adolescent.
    let as_patient = Attestation {
        proxy: Some("Patient/p1".to_owned()),
        ..right.clone()
    };
    assert_eq!(held.refused(as_patient).await, "proxy-refused");
    let born = |born: &str| {
        ehr.put(json!({ "resourceType": "Patient", "id": "p1", "birthDate": born }));
    };
    let year = i32::from(
        held.bench
            .clock
            .now()
            .to_zoned(jiff::tz::TimeZone::UTC)
            .year(),
    );
    born(&format!("{}-01-01", year - 15));
    assert_eq!(held.refused(by("guardian")).await, "proxy-refused");
    born("1950-02-03");
    let passed = held.take(by("guardian")).await.unwrap();
    assert!(matches!(&passed, Verifying::Passed(row) if row.state == StateName::Ready));
    let recorded = held.bench.recorded().await;
    let by_proxy = recorded.iter().any(|it| match &it.event {
        Event::Writeback(WritebackEvent::Verified { evidence, .. }) => evidence
            .iter()
            .any(|it| matches!(&it.verified, VerifiedBy::Source { proxy: Some(_), .. })),
        _ => false,
    });
    assert!(by_proxy);
    let ledger = serde_json::to_string(&recorded).unwrap();
    assert!(!ledger.contains("guardian"));
}

pub(crate) async fn who_has_no_say_is_shown_nothing(db: Db) {
    let asked = |held: &Held| ProposalAsked {
        writeback: held.ids[0],
        patient: "Patient/p1".to_owned(),
        proxy: None,
    };
    let told = async |facts: &str| {
        let held = held_under(db, trusting_for(facts), 1).await;
        let from = held.portal().await;
        let told = held
            .bench
            .engine
            .proposal_for_patient(&from, asked(&held))
            .await;
        told.map(|_| ()).map_err(|refused| refused.code())
    };
    assert_eq!(told(r#"["patient_confirmed"]"#).await, Ok(()));
    // It is a portal that the bundle trusts, for something else.
    let refused = told(r#"["proxy_session"]"#).await;
    assert_eq!(refused, Err(Some("source-not-trusted")));
}

pub(crate) async fn what_is_near_by_now_is_not_cancelled_by_a_patients_word(db: Db) {
    let mut held = held(db, 0).await;
    let bench = &held.bench;
    let mut ids = Vec::new();
    // Three hours later one is still more than a day ahead.
    for hours in [26, 29] {
        let start = jiff::SignedDuration::from_hours(hours);
        let start = bench.clock.now().checked_add(start).unwrap();
        bench.ehr.put(json!({
            "resourceType": "Appointment", "id": format!("a{hours}"), "status": "booked",
            "start": start.to_string(), "end": start.to_string(),
            "serviceType": slot("s", "free", Some("124"))["serviceType"],
            "participant": [{ "actor": { "reference": "Patient/p1" }, "status": "accepted" }],
        }));
    }
    let desk = human(4, &[Role::Scheduler]);
    let agent = bench
        .caller(&desk, "scheduler-agent", "schedule-appointment", "p1")
        .await;
    let list = bench.call(&agent, "list_appointments", json!({})).await;
    for n in 0..2 {
        let appointment = &list["resources"][n]["id"];
        let arguments = json!({ "idempotency_key": format!("{n}"), "appointment": appointment });
        let answer = bench.call(&agent, "cancel_appointment", arguments).await;
        assert_eq!(answer["state"], "awaiting_verification", "{answer}");
        ids.push(answer["proposal"].as_str().unwrap().parse().unwrap());
    }
    held.ids = ids;
    held.bench.clock.advance_s(3 * 3_600);
    let late = held.attestation(0).await;
    assert_eq!(held.refused(late).await, "no-longer-so");
    let in_time = held.attestation(1).await;
    assert!(matches!(held.take(in_time).await, Ok(Verifying::Passed(_))));
}

pub(crate) async fn a_hold_placed_while_something_waits_is_seen_before_it_passes(db: Db) {
    let held = held(db, 2).await;
    let officer = privacy();
    let everybody = HoldChange::Place(None);
    let hold = change(&held.bench, &officer, everybody, WHY).await.unwrap();
    let under = held.attestation(0).await;
    assert_eq!(held.refused(under.clone()).await, "no-longer-so");
    let release = HoldChange::Release(hold);
    change(&held.bench, &officer, release, WHY).await.unwrap();
    let free = held.attestation(1).await;
    assert!(matches!(held.take(free).await, Ok(Verifying::Passed(_))));
    held.bench.deliver().await;
    assert_eq!(held.bench.ehr.written().len(), 1);
}

pub(crate) async fn an_attestation_for_another_organisation_finds_nothing(db: Db) {
    let held = held(db, 1).await;
    let right = held.attestation(0).await;
    let config = EngineConfig {
        event_sources: event_sources(),
        ..EngineConfig::new(
            chaperone_core::ids::TenantId::new("other-clinic").unwrap(),
            "http://127.0.0.1:8080",
        )
    };
    let bench = &held.bench;
    let ports = ports(bench.store.clone(), bench.ehr.clone(), bench.clock.clone());
    let other = Engine::start(config, TRUSTING.clone(), ports)
        .await
        .unwrap();
    let from = held.portal().await;
    let there = other.take_attestation(&from, right.clone()).await;
    assert_eq!(there.unwrap_err().code(), Some("not-waiting"));
    assert_eq!(
        bench.state(held.ids[0]).await,
        StateName::AwaitingVerification
    );
    assert!(matches!(held.take(right).await, Ok(Verifying::Passed(_))));
}
