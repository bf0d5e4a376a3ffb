//! A prescription is renewed under a signed protocol; beside it, everything that no protocol covers, each one step
//! away from what one does.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::{RulingRecord, Strategy};
use chaperone_core::gate::Gate;
use chaperone_core::ids::{OverrideReason, WritebackId};
use chaperone_core::phi::ExposedFor;
use chaperone_core::ports::Clock as _;
use chaperone_core::principal::Role;
use chaperone_core::writeback::{StateName, VoidReason, WritebackEvent};
use chaperone_engine::approve::ApproveRequest;
use chaperone_engine::edit::EditRequest;
use chaperone_engine::refill::protocols_of;
use chaperone_policy::Bundle;
use serde_json::{Value, json};

use crate::bench::*;
use crate::plausible::id_of;
use crate::retention::factor_for;

const RULES: &str = "rules/refill-protocols.toml";
const UCUM: &str = "http://unitsofmeasure.org";
/// Named by the account of the bench's nurse.
const PROTOCOL: &str = r#"
[[protocols]]
id = "statin-renewal"
version = 3
source = "standing order"
owner = "medication safety team"
reviewed = "2029-12-01"
review_by = "2030-12-01"
prescriber = "Practitioner/d1"
from = "2029-12-05"
until = "2030-06-01"
approvers = ["person-1"]
drugs = ["statin"]
refills_max = 1
supply_days_max = 30
prescribed_within_days = 365
visit_within_days = 180
[[protocols.labs]]
what = "ALT"
codes = ["1742-6"]
within_days = 180
maximum = 120
unit = "U/L"
"#;

fn with_protocol(text: &str) -> BTreeMap<String, String> {
    let mut files = chaperone_policy::embedded::files();
    files.get_mut(RULES).unwrap().push_str(text);
    files
}

static UNSIGNED: LazyLock<Arc<Bundle>> = LazyLock::new(|| bundle(&with_protocol(PROTOCOL)));

/// The bundle with the protocol, signed as its prescriber would.
static SIGNED: LazyLock<Arc<Bundle>> = LazyLock::new(|| {
    let standing = protocols_of(&UNSIGNED).unwrap();
    assert!(!standing[0].is_signed);
    let signature = format!(
        "[protocols.signature]\nprescriber = \"Practitioner/d1\"\nat = \"2029-12-02T10:00:00Z\"\ndigest = \"{}\"\n",
        standing[0].digest
    );
    let signed = bundle(&with_protocol(&format!("{PROTOCOL}{signature}")));
    assert!(protocols_of(&signed).unwrap()[0].is_signed);
    signed
});

/// What the record holds of a patient whose renewal is routine.
fn record() -> BTreeMap<&'static str, Value> {
    let patient = json!({ "reference": "Patient/p1" });
    BTreeMap::from([
        (
            "patient",
            json!({
                "resourceType": "Patient", "id": "p1", "birthDate": "1950-02-03", "gender": "male",
            }),
        ),
        (
            "prior",
            json!({
                "resourceType": "MedicationRequest", "id": "rx", "status": "active", "intent": "order",
                "subject": patient, "authoredOn": "2029-12-01",
                "requester": { "reference": "Practitioner/d1" },
                "medicationCodeableConcept": { "coding": [{
                    "system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "617311",
                    "display": "atorvastatin 40 MG Oral Tablet",
                }] },
                "dosageInstruction": [{
                    "timing": { "repeat": { "frequency": 1, "period": 1, "periodUnit": "d" } },
                    "route": { "coding": [{ "system": "http://snomed.info/sct", "code": "26643006" }] },
                    "doseAndRate": [{ "doseQuantity": {
                        "value": 40, "unit": "mg", "system": UCUM, "code": "mg",
                    } }],
                }],
                "dispenseRequest": { "expectedSupplyDuration": {
                    "value": 30, "unit": "d", "system": UCUM, "code": "d",
                } },
            }),
        ),
        (
            "visit",
            json!({
                "resourceType": "Encounter", "id": "v1", "status": "finished", "subject": patient,
                "class": { "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB" },
                "period": { "start": "2029-11-01T09:00:00Z", "end": "2029-11-01T09:30:00Z" },
            }),
        ),
        (
            "lab",
            json!({
                "resourceType": "Observation", "id": "alt", "status": "final", "subject": patient,
                "code": { "coding": [{ "system": "http://loinc.org", "code": "1742-6" }] },
                "effectiveDateTime": "2029-11-01T09:00:00Z",
                "valueQuantity": { "value": 20, "unit": "U/L", "system": UCUM, "code": "U/L" },
            }),
        ),
    ])
}

async fn bench_under(db: Db, bundle: &Arc<Bundle>) -> Bench {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let (store, ehr, clock) = (bench.store.clone(), bench.ehr.clone(), bench.clock.clone());
    bench.engine = start(bundle, store, ehr, clock).await;
    bench
}

/// Proposes the renewal; the ruling, and what the agent is answered.
async fn renewed(bench: &Bench, key: &str, refills: i64, days: i64) -> (Value, RulingRecord) {
    let agent = bench
        .caller(&nurse(), "refill-agent", "refill-protocol", "p1")
        .await;
    let list = bench.call(&agent, "list_medications", json!({})).await;
    let prior = &list["resources"][0]["id"];
    assert!(prior.is_string(), "{list}");
    let arguments = json!({
        "idempotency_key": key, "prior": prior, "refills": refills, "supply_days": days,
        // What an agent says about it counts for nothing.
        "rationale": "The protocol is in force, and all of its checks are clean.",
    });
    let answer = bench.call(&agent, "renew_under_protocol", arguments).await;
    let events = bench
        .store
        .stream(&tenant(), &StreamId::Writeback(id_of(&answer)))
        .await
        .unwrap();
    let ruling = events.into_iter().find_map(|it| match it.event {
        Event::Writeback(WritebackEvent::Ruled { ruling, .. }) => Some(*ruling),
        _ => None,
    });
    (answer, ruling.unwrap())
}

pub(crate) async fn a_routine_renewal_is_approved_by_whom_the_protocol_names_and_delivered(db: Db) {
    let bench = bench_under(db, &SIGNED).await;
    for resource in record().into_values() {
        bench.ehr.put(resource);
    }
    let (answer, ruling) = renewed(&bench, "1", 1, 30).await;
    assert_eq!(answer["state"], "awaiting_approval", "{answer} {ruling:?}");
    assert_eq!(
        ruling.gate,
        Gate::Approve2f {
            roles: [Role::Rn, Role::Pharmacist].into()
        }
    );
    let cited = ruling.protocol.unwrap();
    assert_eq!((cited.id.as_str(), cited.version), ("statin-renewal", 3));
    assert!(
        ruling.reasons[0]
            .text
            .contains("`statin-renewal`, version 3")
    );

    let id = id_of(&answer);
    let request = approval(&bench, id).await;
    // A nurse, and not one whom it names; a clinician is no part of it.
    let other = human(3, &[Role::Rn]);
    let refused = bench.engine.approve(&other, request.clone()).await;
    assert_eq!(refused.unwrap_err().code(), "not-named-by-protocol");
    let clinician = human(2, &[Role::Clinician]);
    let refused = bench.engine.approve(&clinician, request.clone()).await;
    assert_eq!(refused.unwrap_err().code(), "role-not-permitted");
    // Nor can who is not named change or reject it; whom it names is offered both.
    let seen = |human| {
        let engine = bench.engine.clone();
        async move {
            let review = engine.review(&human, id).await.unwrap();
            let content = review.content.unwrap().into_exposed(ExposedFor::Person);
            (review.turn.is_yours(), !content.edit.is_empty())
        }
    };
    assert_eq!(seen(nurse()).await, (true, true));
    assert_eq!(seen(other.clone()).await, (false, false));
    let counted = async |human| bench.engine.inbox_count(&human).await.unwrap();
    assert_eq!(
        (counted(nurse()).await, counted(other.clone()).await),
        (1, 0)
    );
    let rejected = bench.engine.reject(&other, id, request.digest, "not so");
    assert_eq!(rejected.await.unwrap_err().code(), "not-named-by-protocol");
    let change = EditRequest {
        writeback: id,
        digest: request.digest,
        inputs: [("refills".to_owned(), "0".to_owned())].into(),
        reason: "fewer of it".to_owned(),
    };
    let changed = bench.engine.edit(&other, change).await;
    assert_eq!(changed.unwrap_err().code(), "not-named-by-protocol");
    // Whom it names needs the second factor like anybody.
    let refused = bench.engine.approve(&nurse(), request.clone()).await;
    assert_eq!(refused.unwrap_err().code(), "second-factor-required");
    assert_eq!(bench.state(id).await, StateName::AwaitingApproval);
    bench.deliver().await;
    assert!(bench.ehr.written().is_empty());

    approve(&bench, id).await;
    bench.deliver().await;
    assert_eq!(bench.state(id).await, StateName::Delivered);
    assert_eq!(bench.ehr.written().len(), 1);

    // Once: what came of it is not asked.
    let (again, _) = renewed(&bench, "2", 1, 30).await;
    assert_eq!(again["state"], "refused", "{again}");
}

async fn approval(bench: &Bench, id: WritebackId) -> ApproveRequest {
    ApproveRequest {
        writeback: id,
        digest: bench.row(id).await.digest.unwrap(),
        step_up: None,
        override_reason: Some(OverrideReason::new("benefit-outweighs").unwrap()),
        review_ms: 5_000,
    }
}

/// Approves as whom the protocol names, with a second factor.
async fn approve(bench: &Bench, id: WritebackId) {
    let mut request = approval(bench, id).await;
    let (store, clock) = (bench.store.as_ref(), bench.clock.as_ref());
    let subject = json!({ "for": "approval", "writeback": id });
    request.step_up = Some(factor_for(store, clock, &nurse(), request.digest, subject).await);
    bench.engine.approve(&nurse(), request).await.unwrap();
}

/// Proposed and approved, so that only the send is left.
async fn ready(bench: &Bench, key: &str) -> WritebackId {
    let (answer, ruling) = renewed(bench, key, 1, 30).await;
    assert_eq!(answer["state"], "awaiting_approval", "{answer} {ruling:?}");
    let id = id_of(&answer);
    approve(bench, id).await;
    id
}

async fn deliver_for_a_while(bench: &Bench) {
    for _ in 0..4 {
        bench.clock.advance_s(60);
        bench.deliver().await;
    }
}

pub(crate) async fn of_two_renewals_of_one_prescription_one_is_sent(db: Db) {
    let bench = bench_under(db, &SIGNED).await;
    for resource in record().into_values() {
        bench.ehr.put(resource);
    }
    let both = [ready(&bench, "1").await, ready(&bench, "2").await];
    deliver_for_a_while(&bench).await;
    let written = bench.ehr.written();
    assert_eq!(written.len(), 1);
    for id in both {
        let row = bench.row(id).await;
        let expected = if written[0].0 == id {
            (StateName::Delivered, None)
        } else {
            (StateName::Void, Some(VoidReason::Stale))
        };
        assert_eq!((row.state, row.void), expected);
    }
}

pub(crate) async fn a_renewal_is_looked_at_again_right_before_it_is_sent(db: Db) {
    let prior = || record()["prior"].clone();
    let with = |pointer: &str, value: Value| {
        let mut changed = prior();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed
    };
    let other = |status: &str, renews: &str| {
        let mut other = with("/id", json!("rx2"));
        other["status"] = json!(status);
        other["priorPrescription"] = json!({ "reference": renews });
        other
    };
    let dose = "/dosageInstruction/0/doseAndRate/0/doseQuantity/value";
    let base = "https://ehr.example.org/fhir/MedicationRequest/rx/_history/2";
    for (what, since, is_sent) in [
        ("nothing", prior(), true),
        ("stopped", with("/status", json!("stopped")), false),
        ("another dose", with(dose, json!(20)), false),
        (
            "another's by now",
            with("/requester/reference", json!("Practitioner/d2")),
            false,
        ),
        (
            "of another patient",
            with("/subject/reference", json!("Patient/p2")),
            false,
        ),
        (
            "renewed by somebody",
            other("active", "MedicationRequest/rx"),
            false,
        ),
        (
            "renewed, and that was stopped",
            other("stopped", base),
            false,
        ),
        (
            "renewed, and that was withdrawn",
            other("cancelled", base),
            true,
        ),
        (
            "another one renewed",
            {
                let mut of_another_drug = other("active", "MedicationRequest/rx0");
                of_another_drug["medicationCodeableConcept"]["coding"][0] = json!({
                    "system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "314076",
                    "display": "lisinopril 10 MG Oral Tablet",
                });
                of_another_drug
            },
            true,
        ),
        (
            "another one renewed, of the same drug",
            other("active", "MedicationRequest/rx0"),
            false,
        ),
    ] {
        let bench = bench_under(db, &SIGNED).await;
        for resource in record().into_values() {
            bench.ehr.put(resource);
        }
        let id = ready(&bench, "1").await;
        bench.ehr.put(since);
        // What is not there to be asked says neither.
        bench.ehr.set_unsearchable("MedicationRequest", true);
        bench.ehr.set_unreadable("MedicationRequest", true);
        bench.deliver().await;
        assert_eq!(bench.state(id).await, StateName::Ready, "{what}");
        bench.ehr.set_unreadable("MedicationRequest", false);
        bench.ehr.set_unsearchable("MedicationRequest", false);
        deliver_for_a_while(&bench).await;
        let row = bench.row(id).await;
        let expected = if is_sent {
            (StateName::Delivered, None)
        } else {
            (StateName::Void, Some(VoidReason::Stale))
        };
        assert_eq!((row.state, row.void), expected, "{what}");
        assert_eq!(bench.ehr.written().len(), usize::from(is_sent), "{what}");
    }
}

pub(crate) async fn visits_and_results_are_looked_at_again_right_before_a_renewal_is_sent(db: Db) {
    let with = |of: &str, pointer: &str, value: Value| {
        let mut changed = record()[of].clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed
    };
    let newer = |at: &str, status: &str, value: f64, unit: &str| {
        let mut newer = with("lab", "/id", json!("alt-2"));
        newer["effectiveDateTime"] = json!(at);
        newer["status"] = json!(status);
        newer["valueQuantity"]["value"] = json!(value);
        newer["valueQuantity"]["code"] = json!(unit);
        newer
    };
    let (before, since) = ("2029-10-01T09:00:00Z", "2029-12-20T09:00:00Z");
    let over = |start: Option<&str>, end: &str, value: f64| {
        let mut lasting = newer(since, "final", value, "U/L");
        let members = lasting.as_object_mut().unwrap();
        members.remove("effectiveDateTime");
        let mut period = json!({ "end": end });
        if let Some(start) = start {
            period["start"] = json!(start);
        }
        members.insert("effectivePeriod".to_owned(), period);
        lasting
    };
    let mut allergy = json!({
        "resourceType": "AllergyIntolerance", "id": "al", "patient": { "reference": "Patient/p1" },
        "clinicalStatus": { "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active",
        }] },
        "code": { "coding": [{
            "system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "83367", "display": "atorvastatin",
        }] },
    });
    let to_it = allergy.clone();
    allergy["code"] = json!({ "coding": [{
        "system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "723", "display": "amoxicillin",
    }] });
    for (what, since, is_sent) in [
        ("nothing", record()["visit"].clone(), true),
        (
            "the visit was cancelled",
            with("visit", "/status", json!("cancelled")),
            false,
        ),
        (
            "the result was withdrawn",
            with("lab", "/status", json!("entered-in-error")),
            false,
        ),
        (
            "a newer result, at its bound",
            newer(since, "final", 120.0, "U/L"),
            true,
        ),
        (
            "a newer result, beyond it",
            newer(since, "final", 120.1, "U/L"),
            false,
        ),
        (
            "the same, not final yet",
            newer(since, "preliminary", 120.1, "U/L"),
            false,
        ),
        (
            "the same, withdrawn",
            newer(since, "entered-in-error", 120.1, "U/L"),
            true,
        ),
        (
            "the same, of before",
            newer(before, "final", 120.1, "U/L"),
            true,
        ),
        (
            "a result of some day of the year, beyond it",
            newer("2029", "final", 120.1, "U/L"),
            false,
        ),
        (
            "the same, within it",
            newer("2029", "final", 119.9, "U/L"),
            true,
        ),
        (
            "a result over a day, beyond it",
            over(Some("2029-12-20T09:00:00Z"), "2029-12-21T09:00:00Z", 120.1),
            false,
        ),
        (
            "a result up to a day, beyond it",
            over(None, "2029-12-21T09:00:00Z", 120.1),
            false,
        ),
        (
            "the same, within it",
            over(None, "2029-12-21T09:00:00Z", 119.9),
            true,
        ),
        (
            "a result that ends before it begins, beyond it",
            over(Some("2029-12-20T09:00:00Z"), "2029-12-15T09:00:00Z", 120.1),
            false,
        ),
        (
            "a result up to a day of before, beyond it",
            over(None, "2029-10-21T09:00:00Z", 120.1),
            true,
        ),
        (
            "a newer result in another unit",
            newer(since, "final", 20.0, "mmol/L"),
            false,
        ),
        ("an allergy to something else", allergy, true),
        ("an allergy to the drug", to_it, false),
    ] {
        let bench = bench_under(db, &SIGNED).await;
        for resource in record().into_values() {
            bench.ehr.put(resource);
        }
        let id = ready(&bench, "1").await;
        bench.ehr.put(since);
        // What is not there to be asked says neither.
        let asked = ["Encounter", "Observation", "AllergyIntolerance"];
        for kind in asked.into_iter().filter(|_| what == "nothing") {
            bench.ehr.set_unsearchable(kind, true);
            bench.deliver().await;
            assert_eq!(bench.state(id).await, StateName::Ready, "{what}, {kind}");
            bench.ehr.set_unsearchable(kind, false);
            bench.clock.advance_s(60);
        }
        deliver_for_a_while(&bench).await;
        let row = bench.row(id).await;
        let expected = if is_sent {
            (StateName::Delivered, None)
        } else {
            (StateName::Void, Some(VoidReason::Stale))
        };
        assert_eq!((row.state, row.void), expected, "{what}");
        assert_eq!(bench.ehr.written().len(), usize::from(is_sent), "{what}");
    }
}

pub(crate) async fn what_no_protocol_covers_is_refused_whatever_the_agent_says(db: Db) {
    let bench = bench_under(db, &SIGNED).await;
    let change = |of: &str, pointer: &str, value: Value| {
        let mut changed = record()[of].clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed
    };
    let code = "/medicationCodeableConcept/coding/0";
    let mut without_dose = record()["prior"].clone();
    without_dose["dosageInstruction"][0]
        .as_object_mut()
        .unwrap()
        .remove("doseAndRate");
    let cases: Vec<(&str, Value)> = vec![
        (
            "seen too long ago",
            change("visit", "/period/start", json!("2029-06-30T09:00:00Z")),
        ),
        (
            "a visit that did not take place",
            change("visit", "/status", json!("cancelled")),
        ),
        (
            "measured too long ago",
            change("lab", "/effectiveDateTime", json!("2029-06-30T09:00:00Z")),
        ),
        (
            "a result that is not final",
            change("lab", "/status", json!("preliminary")),
        ),
        (
            "another measurement",
            change("lab", "/code/coding/0/code", json!("1743-4")),
        ),
        (
            "another's prescription",
            change("prior", "/requester/reference", json!("Practitioner/d2")),
        ),
        (
            "a prescription that was stopped",
            change("prior", "/status", json!("stopped")),
        ),
        (
            "one that is too old",
            change("prior", "/authoredOn", json!("2028-12-01")),
        ),
        (
            "too soon: most of the supply is still there",
            change("prior", "/authoredOn", json!("2029-12-30")),
        ),
        (
            "a drug of another class",
            change(
                "prior",
                code,
                json!({
                    "system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "314076",
                    "display": "lisinopril 10 MG Oral Tablet",
                }),
            ),
        ),
        ("a dose that nobody can compare", without_dose),
        ("a renewal itself", {
            let mut renewal = record()["prior"].clone();
            renewal["priorPrescription"] = json!({ "reference": "MedicationRequest/rx0" });
            renewal
        }),
        ("a result that is said to be absent", {
            let mut absent = record()["lab"].clone();
            absent["dataAbsentReason"] = json!({ "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "not-performed",
            }] });
            absent
        }),
        ("a result without a value", {
            let mut empty = record()["lab"].clone();
            empty.as_object_mut().unwrap().remove("valueQuantity");
            empty
        }),
        (
            "a result beyond the protocol's bound",
            change("lab", "/valueQuantity/value", json!(121)),
        ),
        (
            "a result of a time to come",
            change("lab", "/effectiveDateTime", json!("2030-02-01T09:00:00Z")),
        ),
        ("a result in words", {
            let mut words = record()["lab"].clone();
            words.as_object_mut().unwrap().remove("valueQuantity");
            words["valueString"] = json!("haemolysed");
            words
        }),
    ];
    let put_all = |bench: &Bench| {
        for resource in record().into_values() {
            bench.ehr.put(resource);
        }
    };
    for (n, (what, changed)) in cases.into_iter().enumerate() {
        put_all(&bench);
        bench.ehr.put(changed);
        let (answer, ruling) = renewed(&bench, &format!("case {n}"), 1, 30).await;
        assert_eq!(answer["state"], "refused", "{what}: {answer}");
        assert_eq!(ruling.gate, Gate::Deny, "{what}");
        assert!(ruling.protocol.is_none(), "{what}");
    }
    put_all(&bench);
    for (key, refills, days) in [("one repeat more", 2, 30), ("one day more", 1, 31)] {
        let (answer, _) = renewed(&bench, key, refills, days).await;
        assert_eq!(answer["state"], "refused", "{key}: {answer}");
    }
    // What cannot be looked up is not covered.
    bench.ehr.set_unsearchable("Encounter", true);
    let (answer, _) = renewed(&bench, "no visits to be had", 1, 30).await;
    assert_eq!(answer["state"], "refused", "{answer}");
    bench.ehr.set_unsearchable("Encounter", false);
    let (answer, _) = renewed(&bench, "as it should be", 1, 30).await;
    assert_eq!(answer["state"], "awaiting_approval", "{answer}");
}

pub(crate) async fn a_protocol_that_is_unsigned_or_over_covers_nothing(db: Db) {
    let bench = bench_under(db, &UNSIGNED).await;
    for resource in record().into_values() {
        bench.ehr.put(resource);
    }
    let (answer, _) = renewed(&bench, "unsigned", 1, 30).await;
    assert_eq!(answer["state"], "refused", "{answer}");

    // At its last moment, and when it is over: all else is as fresh as it was.
    for (at, state) in [
        ("2030-05-31T23:59:59Z", "awaiting_approval"),
        ("2030-06-01T00:00:00Z", "refused"),
    ] {
        let bench = bench_under(db, &SIGNED).await;
        let at: chaperone_core::Timestamp = at.parse().unwrap();
        let ahead = at.duration_since(bench.clock.now());
        bench.clock.advance_s(ahead.as_secs());
        let before = |days: i64| {
            let span = jiff::SignedDuration::from_hours(24 * days);
            json!(at.checked_sub(span).unwrap().to_string())
        };
        let mut record = record();
        for (of, pointer, days) in [
            ("prior", "/authoredOn", 31),
            ("visit", "/period/start", 60),
            ("visit", "/period/end", 60),
            ("lab", "/effectiveDateTime", 60),
        ] {
            *record.get_mut(of).unwrap().pointer_mut(pointer).unwrap() = before(days);
        }
        for resource in record.into_values() {
            bench.ehr.put(resource);
        }
        let (answer, _) = renewed(&bench, "at the end", 1, 30).await;
        assert_eq!(answer["state"], state, "{at}: {answer}");
    }
}
