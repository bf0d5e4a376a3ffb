//! Breaking the glass: what it opens, for whom and how long, beside everything that stays closed.

use chaperone_core::event::{BreakGlassEnd, Event};
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::PatientToken;
use chaperone_core::ports::Notice;
use chaperone_core::principal::{Human, Role};
use chaperone_engine::break_glass::{BREAK_GLASS_S, BreakGlassFailed};
use chaperone_engine::views::ViewFailed;
use serde_json::{Value, json};

use crate::bench::*;

const REASON: &str = "unconscious after a fall, allergies unknown";

fn clinician() -> Human {
    human(2, &[Role::Clinician])
}

fn allergy(id: &str, labels: &[&str]) -> Value {
    let labels: Vec<Value> = labels
        .iter()
        .map(|code| json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": code}))
        .collect();
    json!({
        "resourceType": "AllergyIntolerance", "id": id, "patient": {"reference": "Patient/p1"},
        "meta": {"security": labels},
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "91936005", "display": "Penicillin"}]},
    })
}

/// A patient who has refused everything, with one ordinary and three restricted entries.
async fn refusing(db: Db) -> (Bench, PatientToken) {
    let bench = bench_on(db, Strategy::Conditional).await;
    for (id, labels) in [
        ("a1", vec![]),
        ("a2", vec!["SUD"]),
        ("a3", vec!["PSYTHPN"]),
        ("a4", vec!["COURT-ORDER"]),
    ] {
        bench.ehr.put(allergy(id, &labels));
    }
    bench.ehr.put(json!({
        "resourceType": "Consent", "id": "k1", "status": "active",
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "patient": {"reference": "Patient/p1"}, "provision": {"type": "deny"},
    }));
    let caller = bench
        .caller(&clinician(), "order-agent", "chart-summary", "p1")
        .await;
    let patient = caller.envelope.patient.unwrap();
    (bench, patient)
}

fn is_closed<T: std::fmt::Debug>(result: Result<T, ViewFailed>) -> bool {
    matches!(result, Err(ViewFailed::NotPermitted))
}

pub(crate) async fn a_person_breaks_the_glass_for_themselves_and_for_a_time(db: Db) {
    let (bench, patient) = refusing(db).await;
    let (engine, clinician) = (bench.engine.clone(), clinician());
    assert!(is_closed(
        engine.emergency_record(&clinician, patient).await
    ));
    let broken = engine
        .break_glass(&clinician, patient, REASON)
        .await
        .unwrap();
    let record = engine.emergency_record(&clinician, patient).await.unwrap();
    assert_eq!(record.until, broken.until);
    let (name, allergies) = &record.lists[0];
    assert_eq!((*name, allergies.as_ref().unwrap().len()), ("Allergies", 2));
    // Psychotherapy notes and what a court sealed stay closed; substance use comes with its notice.
    assert_eq!((record.left_out, record.notices.len()), (2, 1));
    // Nobody else's glass is broken, of whatever role.
    let other = human(3, &[Role::Clinician]);
    assert!(is_closed(engine.emergency_record(&other, patient).await));
    bench.clock.advance_s(BREAK_GLASS_S - 1);
    assert!(engine.emergency_record(&clinician, patient).await.is_ok());
    assert_eq!(engine.end_broken_glass().await.unwrap(), 0);
    bench.clock.advance_s(1);
    assert!(is_closed(
        engine.emergency_record(&clinician, patient).await
    ));
    assert_eq!(engine.end_broken_glass().await.unwrap(), 1);
    assert_eq!(engine.end_broken_glass().await.unwrap(), 0);
    // Ended by hand, it is over at once.
    engine
        .break_glass(&clinician, patient, REASON)
        .await
        .unwrap();
    assert!(engine.mend_glass(&clinician, patient).await.unwrap());
    assert!(!engine.mend_glass(&clinician, patient).await.unwrap());
    assert!(is_closed(
        engine.emergency_record(&clinician, patient).await
    ));

    let told = bench.notices().await;
    let privacy = Notice::GlassBroken {
        roles: vec![Role::Privacy],
    };
    assert_eq!(told.iter().filter(|notice| **notice == privacy).count(), 2);
    let leaves = bench.store.leaves(&tenant(), 0, 1_000).await.unwrap();
    let words: Vec<&str> = leaves
        .iter()
        .map(|leaf| chaperone_core::event::Recorded::from_leaf(leaf).unwrap())
        .filter_map(|recorded| match recorded.event {
            Event::BreakGlassStarted { .. } => Some("started"),
            Event::BreakGlassEnded { cause, .. } => Some(match cause {
                BreakGlassEnd::Expired => "expired",
                BreakGlassEnd::Stopped => "stopped",
            }),
            Event::ReadPermitted(look) if look.tool.as_str() == "console.emergency" => {
                assert_eq!(look.purpose.unwrap().as_str(), "BTG");
                assert_eq!(
                    (look.patient, &*look.consent),
                    (Some(patient), "break-glass")
                );
                Some("look")
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        words,
        ["started", "look", "look", "expired", "started", "stopped"]
    );
    // The reason is in the vault, not in the ledger.
    for leaf in leaves {
        assert!(!String::from_utf8_lossy(&leaf).contains("unconscious"));
    }
}

pub(crate) async fn what_breaking_the_glass_does_not_open(db: Db) {
    let (bench, patient) = refusing(db).await;
    let engine = bench.engine.clone();
    for role in [Role::Scheduler, Role::Biller, Role::Privacy, Role::ItAdmin] {
        let refused = engine
            .break_glass(&human(7, &[role]), patient, REASON)
            .await;
        assert!(
            matches!(refused, Err(BreakGlassFailed::NotPermitted)),
            "{role:?}"
        );
    }
    for reason in ["", "urgent", "   short     "] {
        let refused = engine.break_glass(&clinician(), patient, reason).await;
        assert!(
            matches!(refused, Err(BreakGlassFailed::ReasonUnfit)),
            "{reason}"
        );
    }
    let nobody = PatientToken::from_random([9; 16]);
    let refused = engine.break_glass(&clinician(), nobody, REASON).await;
    assert!(matches!(refused, Err(BreakGlassFailed::Missing)));
    // Broken by the person for whom an agent works and who is present, it is still not the agent's.
    engine
        .break_glass(&clinician(), patient, REASON)
        .await
        .unwrap();
    let agent = bench
        .caller(&clinician(), "order-agent", "chart-summary", "p1")
        .await;
    let refused = bench.try_call(&agent, "list_allergies", json!({})).await;
    assert_eq!(refused.unwrap_err().code, "consent-denied");
}
