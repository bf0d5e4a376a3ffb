//! What escalators rest on is observed for every proposal: legal holds, how much an agent wrote, alert limits,
//! confidential services for adolescents. Each beside its nearest neighbour, where nothing is raised.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chaperone_core::evidence::{RulingRecord, Strategy};
use chaperone_core::facts::{FactKind, FactValue, Facts};
use chaperone_core::gate::GateLevel;
use chaperone_core::ids::WritebackId;
use chaperone_core::ports::Clock;
use chaperone_core::principal::Role;
use chaperone_core::writeback::StateName;
use chaperone_engine::open_envelope::Caller;
use chaperone_engine::retention::holds::HoldChange;
use chaperone_engine::{Engine, EngineConfig, Ports};
use chaperone_testkit::{MemoryKeyVault, SeededRandom};
use serde_json::json;

use crate::bench::*;
use crate::deliveries::slot;
use crate::plausible::id_of;
use crate::retention::{WHY, change, privacy};

const HOUR_S: i64 = 3_600;

/// Facts of escalators that nobody observes, and why. A claim about them still counts.
const NOBODY_OBSERVES: [(&str, &str); 1] = [(
    "red_flag",
    "there is no channel on which patients say what ails them",
)];

async fn asked(bench: &Bench, id: WritebackId) -> (RulingRecord, Vec<Facts>) {
    let bundle = bench.engine.bundle();
    let replayed = bench.engine.replay(id, bundle).await.unwrap();
    assert!(replayed.is_same());
    (replayed.recorded, replayed.facts)
}

/// What was observed of a fact, of the first change.
async fn observed(bench: &Bench, id: WritebackId, name: &str) -> Option<FactValue> {
    let (_, facts) = asked(bench, id).await;
    let fact = facts[0].get(name)?;
    assert_eq!(fact.kind, FactKind::Observed);
    Some(fact.value.clone())
}

fn raised(ruling: &RulingRecord, by: &str) -> bool {
    ruling.raised_by.iter().any(|it| it.as_str() == by)
}

async fn intake(bench: &Bench, patient: &str) -> Caller {
    bench
        .caller(&nurse(), "intake-agent", "intake", patient)
        .await
}

async fn gate(bench: &Bench, agent: &Caller, key: &str) -> GateLevel {
    let row = bench.task(agent, key, json!([])).await;
    row.gate.unwrap().level()
}

pub(crate) async fn what_is_under_legal_hold_is_decided_by_a_person_who_is_not_alone_to_know(
    db: Db,
) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (held, free) = (intake(&bench, "p1").await, intake(&bench, "p2").await);
    assert_eq!(gate(&bench, &held, "before").await, GateLevel::Auto);
    let officer = privacy();
    let place = HoldChange::Place(held.envelope.patient);
    let hold = change(&bench, &officer, place, WHY).await.unwrap();
    let row = bench.task(&held, "held", json!([])).await;
    assert_eq!(row.state, StateName::AwaitingApproval);
    let (ruling, _) = asked(&bench, row.id).await;
    assert!(raised(&ruling, "legal-hold") && ruling.notify.contains(&Role::Privacy));
    let row = bench.task(&free, "free", json!([])).await;
    assert_eq!(row.state, StateName::Ready);
    let is_held = observed(&bench, row.id, "legal_hold").await;
    assert_eq!(is_held, Some(FactValue::Bool(false)));
    // A hold on everything is one on each.
    change(&bench, &officer, HoldChange::Release(hold), WHY)
        .await
        .unwrap();
    assert_eq!(gate(&bench, &held, "released").await, GateLevel::Auto);
    change(&bench, &officer, HoldChange::Place(None), WHY)
        .await
        .unwrap();
    assert_eq!(gate(&bench, &free, "all held").await, GateLevel::Approve);
}

/// What a node that starts anew finds as it was.
struct Kept {
    keys: Arc<MemoryKeyVault>,
    random: Arc<SeededRandom>,
}

/// A bench with limits of its own.
async fn limited_bench(db: Db, writes: u32, patients: u32) -> (Bench, Kept) {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let kept = Kept {
        keys: Arc::new(MemoryKeyVault::new(2)),
        random: Arc::new(SeededRandom::new(2)),
    };
    restart_limited(&mut bench, &kept, writes, patients).await;
    (bench, kept)
}

async fn restart_limited(bench: &mut Bench, kept: &Kept, writes: u32, patients: u32) {
    let mut files = chaperone_policy::embedded::files();
    let table = files.get_mut("rules/bulk.toml").unwrap();
    let own = table.split_once("[[agents]]").unwrap().0.to_owned();
    *table = own
        .replace(
            "writes_per_hour = 300",
            &format!("writes_per_hour = {writes}"),
        )
        .replace(
            "patients_per_hour = 100",
            &format!("patients_per_hour = {patients}"),
        );
    assert!(table.contains(&format!("writes_per_hour = {writes}")));
    let (store, ehr, clock) = (bench.store.clone(), bench.ehr.clone(), bench.clock.clone());
    let ports = Ports {
        keys: kept.keys.clone(),
        random: kept.random.clone(),
        ..ports(store, ehr, clock)
    };
    let config = EngineConfig::new(tenant(), "http://127.0.0.1:8080");
    bench.engine = Engine::start(config, bundle(&files), ports).await.unwrap();
    show(&bench.engine, &bench.ehr).await;
}

pub(crate) async fn an_agent_that_writes_too_much_goes_on_with_two_people(db: Db) {
    let (mut bench, kept) = limited_bench(db, 3, 100).await;
    let agent = intake(&bench, "p1").await;
    for key in ["1", "2", "3"] {
        assert_eq!(gate(&bench, &agent, key).await, GateLevel::Auto, "{key}");
    }
    // What is asked for again is the same, and counts no more.
    assert_eq!(gate(&bench, &agent, "3").await, GateLevel::Auto);
    let fourth = bench.task(&agent, "4", json!([])).await;
    assert_eq!(fourth.gate.unwrap().level(), GateLevel::TwoPerson);
    assert_eq!(fourth.state, StateName::AwaitingApproval);
    assert!(raised(&asked(&bench, fourth.id).await.0, "bulk"));
    // Another agent is none of its business.
    let other = bench
        .caller(&nurse(), "refill-agent", "refill-request", "p1")
        .await;
    assert_eq!(gate(&bench, &other, "other").await, GateLevel::Auto);
    // A node that starts anew knows what was recorded, whichever node it was.
    restart_limited(&mut bench, &kept, 3, 100).await;
    assert_eq!(gate(&bench, &agent, "5").await, GateLevel::TwoPerson);
    restart_limited(&mut bench, &kept, 6, 100).await;
    let agent = intake(&bench, "p1").await;
    assert_eq!(gate(&bench, &agent, "6").await, GateLevel::Auto);
    assert_eq!(gate(&bench, &agent, "7").await, GateLevel::TwoPerson);
    // An hour later it is as if nothing had been; a moment before, it is not.
    bench.clock.advance_s(HOUR_S - 1);
    show(&bench.engine, &bench.ehr).await;
    let agent = intake(&bench, "p1").await;
    assert_eq!(gate(&bench, &agent, "8").await, GateLevel::TwoPerson);
    bench.clock.advance_s(1);
    assert_eq!(gate(&bench, &agent, "9").await, GateLevel::Auto);
}

pub(crate) async fn an_agent_that_turns_to_too_many_patients_goes_on_with_two_people(db: Db) {
    let (bench, _) = limited_bench(db, 100, 2).await;
    let mut agents = Vec::new();
    bench.ehr.put(json!({
        "resourceType": "Patient", "id": "p3", "birthDate": "1950-02-03",
    }));
    for patient in ["p1", "p2", "p3"] {
        agents.push(intake(&bench, patient).await);
    }
    for (agent, key) in [(0, "1"), (1, "2"), (0, "3"), (1, "4")] {
        let level = gate(&bench, &agents[agent], key).await;
        assert_eq!(level, GateLevel::Auto, "{key}");
    }
    assert_eq!(gate(&bench, &agents[2], "5").await, GateLevel::TwoPerson);
}

pub(crate) async fn several_changes_of_one_proposal_count_each(db: Db) {
    let (bench, _) = limited_bench(db, 3, 100).await;
    bench.ehr.put(slot("s1", "free", Some("124")));
    let (agent, _) = bench.scheduler(&[slot("s1", "free", Some("124"))]).await;
    let task =
        json!({ "tool": "create_task", "inputs": { "summary": "Call.", "pool": "nursing" } });
    let two = |key: &str| json!({ "idempotency_key": key, "changes": [task, task], "rationale": "Both." });
    let first = bench.call(&agent, "propose_together", two("1")).await;
    assert_eq!(first["state"], "ready", "{first}");
    let second = bench.call(&agent, "propose_together", two("2")).await;
    assert_eq!(second["state"], "awaiting_approval", "{second}");
    let (ruling, facts) = asked(&bench, id_of(&second)).await;
    assert_eq!(ruling.gate.level(), GateLevel::TwoPerson);
    assert_eq!(facts.len(), 2);
    assert!(
        facts
            .iter()
            .all(|it| it.is_established("bulk_limit_reached"))
    );
}

/// Records a heart rate.
async fn pulse(bench: &Bench, agent: &Caller, per_minute: u32) -> WritebackId {
    let now = bench.clock.now().to_string();
    let vital = json!({
        "idempotency_key": format!("pulse-{per_minute}"), "measure": "8867-4",
        "value": per_minute, "unit": "/min", "measured_at": now,
    });
    id_of(&bench.call(agent, "record_vital", vital).await)
}

pub(crate) async fn a_value_outside_its_alert_limits_is_told_to_a_nurse(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let agent = intake(&bench, "p1").await;
    // `rules/vital-ranges.toml`: above 130 calls a human, 130 does not.
    for (per_minute, within) in [(130, true), (131, false), (40, true), (39, false)] {
        let id = pulse(&bench, &agent, per_minute).await;
        let said = observed(&bench, id, "in_alert_range").await;
        assert_eq!(said, Some(FactValue::Bool(within)), "{per_minute}");
        let (ruling, _) = asked(&bench, id).await;
        assert_eq!(ruling.notify.contains(&Role::Rn), !within, "{per_minute}");
    }
    // What has no limits is neither within nor outside.
    let task = bench.task(&agent, "task", json!([])).await.id;
    assert_eq!(observed(&bench, task, "in_alert_range").await, None);
}

/// Takes back an ordinary visit with a reason, of a patient born on that day.
async fn taken_back(db: Db, born: Option<&str>, reason: &str) -> (Bench, WritebackId) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let mut patient = json!({ "resourceType": "Patient", "id": "p1" });
    if let Some(born) = born {
        patient["birthDate"] = json!(born);
    }
    bench.ehr.put(patient);
    bench.ehr.put(json!({
        "resourceType": "Appointment", "id": "a1", "status": "booked",
        "serviceType": [{ "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/service-type", "code": "124",
        }] }],
        "reasonCode": [{ "coding": [{
            "system": "http://hl7.org/fhir/sid/icd-10-cm", "code": reason,
        }] }],
        "start": "2031-03-03T09:00:00Z", "end": "2031-03-03T09:30:00Z",
        "participant": [{ "actor": { "reference": "Patient/p1" }, "status": "accepted" }],
    }));
    let (agent, _) = bench.scheduler(&[]).await;
    let listed = bench.call(&agent, "list_appointments", json!({})).await;
    let cancel = json!({ "idempotency_key": "1", "appointment": listed["resources"][0]["id"] });
    let id = id_of(&bench.call(&agent, "cancel_appointment", cancel).await);
    (bench, id)
}

pub(crate) async fn a_confidential_service_for_an_adolescent_is_a_clinicians(db: Db) {
    // Contraception, and a vaccination; the bench's clock stands at noon UTC of 2030-01-01.
    for (born, reason, is_one) in [
        (Some("2015-06-01"), "Z30.011", true),
        (Some("2015-06-01"), "Z23", false),
        (Some("1990-06-01"), "Z30.011", false),
        // `rules/verification.toml`: from the day they are 12, which somewhere is the second already, to the last day
        // before they are 18 everywhere.
        (Some("2018-01-03"), "Z30.011", false),
        (Some("2018-01-02"), "Z30.011", true),
        (Some("2012-01-02"), "Z30.011", true),
        (Some("2012-01-01"), "Z30.011", false),
        // Who may be one counts as one.
        (Some("2012"), "Z30.011", true),
        (None, "Z30.011", true),
    ] {
        let (bench, id) = taken_back(db, born, reason).await;
        let said = observed(&bench, id, "adolescent_confidential").await;
        assert_eq!(said, Some(FactValue::Bool(is_one)), "{born:?} {reason}");
        let (ruling, _) = asked(&bench, id).await;
        let by = raised(&ruling, "adolescent-confidential");
        assert_eq!(by, is_one, "{born:?} {reason}: {ruling:?}");
    }
}

/// The facts that escalators of the default bundle rest on, other than by claim.
fn rested_on() -> BTreeSet<String> {
    let files = chaperone_policy::embedded::files();
    let text = &files["policies/escalators.cedar"];
    let mut names = BTreeSet::new();
    for after in text.split("context.facts").skip(1) {
        let after = after.trim_start_matches([' ', '.']);
        let after = after.strip_prefix("has ").unwrap_or(after);
        let name: String = after
            .chars()
            .take_while(|it| it.is_ascii_alphanumeric() || *it == '_')
            .collect();
        assert!(chaperone_policy::facts::lookup(&name).is_some(), "{name}");
        names.insert(name);
    }
    names
}

/// Facts of escalators that are observed only where a tool names them, or where a person or a portal has a part; each
/// has tests of its own.
const ON_OCCASION: [(&str, &str); 9] = [
    ("confidence_pct", "oversight"),
    ("critical_drug", "of what a patient takes"),
    ("cross_patient", "where there are several changes"),
    ("document_kind", "fixed by the tool that drafts notes"),
    ("in_alert_range", "where a measure has alert limits"),
    ("proxy_authority", "verifications"),
    ("proxy_session", "verifications"),
    ("row_demoted", "oversight"),
    ("patient_minor", "where the record has a birth date"),
];

pub(crate) async fn whatever_escalators_rest_on_is_observed_or_named_with_the_reason(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let agent = intake(&bench, "p1").await;
    let task = bench.task(&agent, "task", json!([])).await.id;
    let vital = pulse(&bench, &agent, 70).await;
    let mut seen = BTreeSet::new();
    for id in [task, vital] {
        for facts in asked(&bench, id).await.1 {
            seen.extend(facts.iter().map(|(name, _)| name.to_owned()));
        }
    }
    let unseen: BTreeSet<String> = &rested_on() - &seen;
    let elsewhere: BTreeMap<&str, &str> = NOBODY_OBSERVES.into_iter().chain(ON_OCCASION).collect();
    for name in &unseen {
        assert!(
            elsewhere.contains_key(name.as_str()),
            "nobody observes `{name}`"
        );
    }
    for name in elsewhere.keys() {
        assert!(
            rested_on().contains(*name),
            "no escalator rests on `{name}`"
        );
    }
}
