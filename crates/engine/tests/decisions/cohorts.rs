//! Cohort jobs: who may ask for a list and who approves it, who is on it, how each patient comes before the agent once,
//! and everything that stops it. On both databases.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chaperone_core::cohort::{CohortEnd, CohortEvent, CohortRemoval, CohortStep};
use chaperone_core::digest::Digest;
use chaperone_core::envelope::{Grant, GrantSource};
use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::{CohortId, CohortJobId, EnvelopeId, PatientToken};
use chaperone_core::mode::{Mode, ModeScope};
use chaperone_core::ports::{Commit, Expected, KeyVault as _, RecordChange, RecordKey, Store};
use chaperone_core::principal::{Actor, Human, Role};
use chaperone_engine::cohort::{
    CohortFailed, CohortJob, CohortRequest, CohortStage, CohortStatus, CohortView,
};
use chaperone_engine::grant::PatientRef;
use chaperone_engine::{Engine, EngineConfig, Ports};
use chaperone_policy::Bundle;
use chaperone_testkit::{FaultyStore, MemoryKeyVault, SeededRandom};
use serde_json::{Value, json};

use crate::bench::*;
use crate::consents::{refusal, wish};
use crate::retention::factor;

const WHY: &str = "the clinic has free times next week";

/// Who asks.
fn desk() -> Human {
    human(4, &[Role::Scheduler])
}

/// Who approves.
fn clinician() -> Human {
    human(8, &[Role::Clinician])
}

fn missed(id: &str, patient: &str, status: &str, start: &str) -> Value {
    json!({
        "resourceType": "Appointment", "id": id, "status": status, "start": start,
        "participant": [{ "actor": { "reference": format!("Patient/{patient}") } }],
    })
}

fn patient(id: &str, more: Value) -> Value {
    let mut patient = json!({
        "resourceType": "Patient", "id": id, "birthDate": "1950-02-03",
        "name": [{ "family": "Sample", "given": ["Una"] }],
    });
    for (name, value) in more.as_object().unwrap() {
        patient[name.as_str()] = value.clone();
    }
    patient
}

const LATELY: &str = "2029-12-20T09:00:00Z";

/// Two patients who missed a visit, and the nearest ones who did, and must not be on a list.
async fn clinic(db: Db) -> Bench {
    let bench = bench_on(db, Strategy::Conditional).await;
    let put = |resource| bench.ehr.put(resource);
    for id in ["p1", "p2"] {
        put(patient(id, json!({})));
        put(missed(&format!("of-{id}"), id, "noshow", LATELY));
    }
    bench
}

/// Everybody else who is found and left out, by reason.
fn nearest(bench: &Bench) {
    let put = |resource| bench.ehr.put(resource);
    let label = json!([{ "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R" }]);
    for (id, more) in [
        ("dead", json!({ "deceasedDateTime": "2029-12-24" })),
        ("child", json!({ "birthDate": "2020-05-05" })),
        ("unborn", json!({ "birthDate": null })),
        ("hidden", json!({ "meta": { "security": label } })),
        ("refuses", json!({})),
        ("silent", json!({})),
        ("booked", json!({})),
        ("gone", json!({ "active": false })),
        (
            "old-p2",
            json!({ "link": [{ "type": "replaced-by", "other": { "reference": "Patient/p2" } }] }),
        ),
        // Found, and not what was asked for.
        ("came", json!({})),
        ("long-ago", json!({})),
        ("two", json!({})),
    ] {
        put(patient(id, more));
        put(missed(&format!("of-{id}"), id, "noshow", LATELY));
    }
    put(refusal("c1", "refuses"));
    for channel in ["portal", "letter"] {
        put(wish(&format!("w-{channel}"), "silent", "deny", channel));
    }
    put(missed("next", "booked", "booked", "2030-02-01T09:00:00Z"));
    put(missed("of-came", "came", "fulfilled", LATELY));
    put(missed(
        "of-long-ago",
        "long-ago",
        "noshow",
        "2029-11-01T09:00:00Z",
    ));
    let mut two = missed("of-two", "two", "noshow", LATELY);
    let other = json!({ "actor": { "reference": "Patient/p1" } });
    two["participant"].as_array_mut().unwrap().push(other);
    put(two);
}

/// Another node of the same installation, or the same one after a restart, under a bundle.
async fn node(bench: &Bench, seed: u64, bundle: &Arc<Bundle>) -> Arc<Engine> {
    node_on(bench, seed, bundle, bench.store.clone()).await
}

async fn node_on(
    bench: &Bench,
    seed: u64,
    bundle: &Arc<Bundle>,
    store: Arc<dyn Store>,
) -> Arc<Engine> {
    // The keys that are there already: this vault knows those that were asked for once.
    let keys = MemoryKeyVault::new(1);
    let mut names = vec!["token/tenant".to_owned()];
    for recorded in bench.recorded().await {
        if let Event::TokenMinted {
            patient: Some(patient),
            ..
        } = recorded.event
        {
            names.push(format!("token/{patient}"));
        }
    }
    for name in names {
        keys.data_key(&tenant(), &name).await.unwrap();
    }
    let ports = Ports {
        keys: Arc::new(keys),
        random: Arc::new(SeededRandom::new(seed)),
        ..ports(store, bench.ehr.clone(), bench.clock.clone())
    };
    let config = EngineConfig::new(tenant(), "http://127.0.0.1:8080");
    Engine::start(config, bundle.clone(), ports).await.unwrap()
}

fn request(cohort: &str) -> CohortRequest {
    CohortRequest {
        cohort: CohortId::new(cohort).unwrap(),
        arguments: BTreeMap::new(),
        reason: WHY.to_owned(),
    }
}

async fn asked(bench: &Bench) -> CohortJobId {
    let request = request("missed-visits");
    bench
        .engine
        .request_cohort(&desk(), &request)
        .await
        .unwrap()
}

async fn approve(bench: &Bench, by: &Human, id: CohortJobId) -> Result<CohortJob, CohortFailed> {
    let view = bench.engine.cohort_view(by, id).await?;
    let list = view.status.job.list;
    approve_list(bench, by, id, list, list).await
}

async fn approve_list(
    bench: &Bench,
    by: &Human,
    id: CohortJobId,
    list: Digest,
    factor_for: Digest,
) -> Result<CohortJob, CohortFailed> {
    let step = factor(bench.store.as_ref(), bench.clock.as_ref(), by, factor_for).await;
    bench.engine.approve_cohort(by, id, list, step).await
}

async fn approved(bench: &Bench) -> CohortJobId {
    let id = asked(bench).await;
    approve(bench, &clinician(), id).await.unwrap();
    id
}

async fn advance(bench: &Bench) -> u64 {
    bench.engine.advance_cohorts().await.unwrap()
}

async fn status(bench: &Bench, id: CohortJobId) -> CohortStatus {
    bench.engine.cohort_status(id).await.unwrap()
}

async fn view(bench: &Bench, id: CohortJobId) -> CohortView {
    bench.engine.cohort_view(&clinician(), id).await.unwrap()
}

fn ended(status: &CohortStatus) -> Option<CohortEnd> {
    match status.job.stage {
        CohortStage::Ended { cause, .. } => Some(cause),
        _ => None,
    }
}

/// The grants that lists made.
async fn grants(bench: &Bench) -> Vec<Grant> {
    let recorded = bench.recorded().await;
    recorded
        .into_iter()
        .filter_map(|recorded| match recorded.event {
            Event::GrantIssued(grant) if matches!(grant.source, GrantSource::Cohort { .. }) => {
                Some(*grant)
            }
            _ => None,
        })
        .collect()
}

/// The token under which a patient is known, as a person's assignment shows it.
async fn token_of(bench: &Bench, id: &str) -> PatientToken {
    let patient = PatientRef::LogicalId(id.to_owned());
    let grant = bench
        .grant(&desk(), "scheduler-agent", "schedule-appointment", patient)
        .await
        .unwrap();
    grant.patient.unwrap()
}

/// What opening an envelope does to a grant.
async fn used(bench: &Bench, grant: &Grant) {
    let envelope = EnvelopeId::from_random([9; 16]);
    let actor = Actor::Agent {
        agent: grant.agent.clone(),
        envelope: Some(envelope),
    };
    let mut commit = Commit::new(tenant(), bench.engine.now(), actor);
    commit
        .records
        .push(RecordChange::Consume(RecordKey::new("grant", grant.id)));
    commit.append(
        StreamId::Grant(grant.id),
        Expected::Version(1),
        Event::GrantConsumed { envelope },
    );
    bench.store.commit(commit).await.unwrap();
}

pub(crate) async fn a_list_is_asked_for_approved_and_worked_off_once_each(db: Db) {
    let bench = clinic(db).await;
    nearest(&bench);
    let id = asked(&bench).await;
    let listed = view(&bench, id).await;
    let tokens: BTreeSet<PatientToken> = listed.patients.iter().map(|it| it.token).collect();
    let wanted = [token_of(&bench, "p1").await, token_of(&bench, "p2").await];
    assert_eq!(tokens, BTreeSet::from(wanted));
    let removed = &listed.status.job.removed;
    assert_eq!(
        *removed,
        BTreeMap::from([
            (CohortRemoval::NotFound, 1),
            (CohortRemoval::Deceased, 1),
            (CohortRemoval::Restricted, 1),
            (CohortRemoval::Minor, 2),
            (CohortRemoval::Consent, 1),
            (CohortRemoval::NoContact, 1),
            (CohortRemoval::NotDue, 1),
        ])
    );
    assert!(listed.patients.iter().all(|it| it.shown.is_some()));
    // Nothing happens before somebody else has agreed.
    assert_eq!(advance(&bench).await, 0);
    assert!(grants(&bench).await.is_empty());

    approve(&bench, &clinician(), id).await.unwrap();
    assert_eq!(advance(&bench).await, 2);
    assert_eq!(advance(&bench).await, 0);
    let made = grants(&bench).await;
    assert_eq!(made.len(), 2);
    for grant in &made {
        assert_eq!(grant.agent.as_str(), "scheduler-agent");
        assert_eq!(grant.intent.as_str(), "schedule-appointment");
        assert_eq!(
            grant.source,
            GrantSource::Cohort {
                job: id,
                requester: desk().person
            }
        );
        assert!(grant.presence.is_none());
        let wait = grant.expires.duration_since(bench.engine.now());
        assert_eq!(wait.as_secs(), 240 * 60);
    }
    let of: BTreeSet<_> = made.iter().map(|grant| grant.patient.unwrap()).collect();
    assert_eq!(of, BTreeSet::from(wanted));

    // One is used, the other runs out, and both are told.
    used(&bench, &made[0]).await;
    assert_eq!(advance(&bench).await, 1);
    assert_eq!(ended(&status(&bench, id).await), None);
    bench.clock.advance_s(240 * 60);
    assert_eq!(advance(&bench).await, 1);
    let done = status(&bench, id).await;
    assert_eq!(ended(&done), Some(CohortEnd::Finished));
    assert_eq!((done.counts.used, done.counts.unused), (1, 1));
    let stream = bench.store.stream(&tenant(), &StreamId::Cohort(id)).await;
    let kinds: Vec<String> = stream.unwrap().iter().map(|it| it.event.kind()).collect();
    assert_eq!(kinds, ["cohort.listed", "cohort.approved", "cohort.ended"]);
    // Who was shown whom stands in the record, each patient on their own.
    let looks = bench.recorded().await.into_iter().filter(|it| {
        matches!(&it.event, Event::ReadPermitted(read) if read.tool.as_str() == "console.cohort"
            && read.patient == Some(wanted[0]))
    });
    assert!(looks.count() >= 1);
}

pub(crate) async fn who_asked_does_not_approve_and_who_has_no_part_sees_nothing(db: Db) {
    let bench = clinic(db).await;
    let ask = async |by: &Human| {
        let request = request("missed-visits");
        bench.engine.request_cohort(by, &request).await
    };
    for by in [
        human(5, &[Role::Biller]),
        human(5, &[Role::ItAdmin]),
        human(5, &[Role::Him]),
        human(5, &[Role::Patient]),
    ] {
        assert!(matches!(ask(&by).await, Err(CohortFailed::NotPermitted)));
    }
    // Whoever may do both still does one of them.
    let both = human(4, &[Role::Scheduler, Role::Clinician]);
    let id = ask(&both).await.unwrap();
    assert!(matches!(ask(&desk()).await, Err(CohortFailed::UnderWay(it)) if it == id));
    let second_account = Human {
        account: "person-99".parse().unwrap(),
        ..both.clone()
    };
    for by in [both, second_account] {
        let refused = approve(&bench, &by, id).await;
        assert!(
            matches!(refused, Err(CohortFailed::SamePerson)),
            "{refused:?}"
        );
    }
    let trainee = human(6, &[Role::Clinician, Role::Trainee]);
    let refused = approve(&bench, &trainee, id).await;
    assert!(
        matches!(refused, Err(CohortFailed::NotPermitted)),
        "{refused:?}"
    );
    // A role that asks is none that approves, and others are not told that there is a job.
    let refused = approve(&bench, &human(6, &[Role::Scheduler]), id).await;
    assert!(
        matches!(refused, Err(CohortFailed::NotPermitted)),
        "{refused:?}"
    );
    for by in [human(5, &[Role::Biller]), human(5, &[Role::ItAdmin])] {
        let refused = bench.engine.cohort_view(&by, id).await;
        assert!(matches!(refused, Err(CohortFailed::Missing)));
        let refused = bench.engine.cohort_jobs(&by).await;
        assert!(matches!(refused, Err(CohortFailed::NotPermitted)));
    }
    assert!(grants(&bench).await.is_empty());
    approve(&bench, &clinician(), id).await.unwrap();
    assert_eq!(advance(&bench).await, 2);
}

pub(crate) async fn exactly_the_list_that_was_shown_is_approved(db: Db) {
    let bench = clinic(db).await;
    let id = asked(&bench).await;
    let first = status(&bench, id).await.job.list;
    // Not without having seen it.
    let unseen = approve_list(&bench, &clinician(), id, first, first).await;
    assert!(matches!(unseen, Err(CohortFailed::NotSeen)), "{unseen:?}");
    let shown = view(&bench, id).await;
    // Not with a factor for something else.
    let other = Digest::of_bytes(b"another list");
    let refused = approve_list(&bench, &clinician(), id, first, other).await;
    assert!(matches!(refused, Err(CohortFailed::StepUp)), "{refused:?}");

    // Somebody strikes a patient: it is another list, which nobody has seen yet.
    let out = shown.patients[0].token;
    let stranger = bench
        .engine
        .strike_from_cohort(&human(5, &[Role::Biller]), id, first, out)
        .await;
    assert!(matches!(stranger, Err(CohortFailed::NotPermitted)));
    let job = bench
        .engine
        .strike_from_cohort(&desk(), id, first, out)
        .await
        .unwrap();
    assert_ne!(job.list, first);
    for (list, wanted) in [(first, "OtherList"), (job.list, "NotSeen")] {
        let refused = approve_list(&bench, &clinician(), id, list, list).await;
        assert_eq!(format!("{:?}", refused.unwrap_err()), wanted);
    }
    let again = bench
        .engine
        .strike_from_cohort(&desk(), id, job.list, out)
        .await;
    assert!(matches!(again, Err(CohortFailed::OtherList)));
    approve(&bench, &clinician(), id).await.unwrap();
    // Once.
    let twice = approve(&bench, &clinician(), id).await;
    assert!(matches!(twice, Err(CohortFailed::NotNow)), "{twice:?}");
    // What was approved is not struck any more.
    let late = bench
        .engine
        .strike_from_cohort(&desk(), id, job.list, shown.patients[1].token)
        .await;
    assert!(matches!(late, Err(CohortFailed::NotNow)));
    assert_eq!(advance(&bench).await, 1);
    let made = grants(&bench).await;
    assert_eq!(made.len(), 1);
    assert_ne!(made[0].patient, Some(out));
}

pub(crate) async fn a_list_ends_with_its_time_and_with_its_rules(db: Db) {
    let mut bench = clinic(db).await;
    let id = asked(&bench).await;
    view(&bench, id).await;
    let list = status(&bench, id).await.job.list;
    bench.clock.advance_s(24 * 3_600 - 1);
    view(&bench, id).await;
    bench.clock.advance_s(1);
    let late = approve_list(&bench, &clinician(), id, list, list).await;
    assert!(matches!(late, Err(CohortFailed::NotNow)), "{late:?}");
    advance(&bench).await;
    assert_eq!(
        ended(&status(&bench, id).await),
        Some(CohortEnd::NotApproved)
    );
    assert!(grants(&bench).await.is_empty());

    // Under other rules it counts no more, whether it was approved or not.
    let waiting = asked(&bench).await;
    view(&bench, waiting).await;
    let mut files = chaperone_policy::embedded::files();
    let changed = files["cohorts/missed-visits.toml"].replace("cap = 50", "cap = 49");
    files.insert("cohorts/missed-visits.toml".to_owned(), changed);
    let other = bundle(&files);
    bench.engine = node(&bench, 2, &other).await;
    let list = status(&bench, waiting).await.job.list;
    let refused = approve_list(&bench, &clinician(), waiting, list, list).await;
    assert!(
        matches!(refused, Err(CohortFailed::RulesChanged)),
        "{refused:?}"
    );
    advance(&bench).await;
    let done = status(&bench, waiting).await;
    assert_eq!(ended(&done), Some(CohortEnd::RulesChanged));

    // What is approved and not worked off in time is left out.
    let slow = approved(&bench).await;
    bench.clock.advance_s(24 * 3_600);
    assert_eq!(advance(&bench).await, 2);
    let done = status(&bench, slow).await;
    assert_eq!(done.counts.left_out, 2);
    assert_eq!(ended(&done), Some(CohortEnd::Finished));
    assert!(grants(&bench).await.is_empty());
}

pub(crate) async fn a_list_that_is_too_long_is_refused_or_cut_as_the_cohort_says(db: Db) {
    let mut bench = clinic(db).await;
    let text = chaperone_policy::embedded::files()["cohorts/missed-visits.toml"].clone();
    let under = |change: &dyn Fn(&str) -> String| {
        let mut files = chaperone_policy::embedded::files();
        files.insert("cohorts/missed-visits.toml".to_owned(), change(&text));
        bundle(&files)
    };
    let refusing = under(&|text| text.replace("cap = 50", "cap = 1"));
    bench.engine = node(&bench, 2, &refusing).await;
    let request = request("missed-visits");
    let refused = bench.engine.request_cohort(&desk(), &request).await;
    assert!(
        matches!(refused, Err(CohortFailed::OverCap { found: 2, cap: 1 })),
        "{refused:?}"
    );
    assert!(bench.engine.cohort_jobs(&desk()).await.unwrap().is_empty());
    let cutting = under(&|text| {
        text.replace("cap = 50", "cap = 1")
            .replace("over_cap = \"refuse\"", "over_cap = \"cut\"")
    });
    bench.engine = node(&bench, 3, &cutting).await;
    let id = asked(&bench).await;
    let cut = status(&bench, id).await;
    assert_eq!(cut.counts.listed, 1);
    assert_eq!(cut.job.removed[&CohortRemoval::OverCap], 1);

    // Nothing is listed for what nobody declared, chose within bounds or gave a reason for.
    bench.engine.stop_cohort(&desk(), id).await.unwrap();
    let ask = async |change: &dyn Fn(&mut CohortRequest)| {
        let mut wanted = request.clone();
        change(&mut wanted);
        let asked = bench.engine.request_cohort(&desk(), &wanted).await;
        format!("{:?}", asked.unwrap_err())
    };
    let days = |wanted: &mut CohortRequest, days| {
        wanted.arguments.insert("days".to_owned(), days);
    };
    assert!(ask(&|it| days(it, 181)).await.starts_with("Argument"));
    assert!(ask(&|it| days(it, 0)).await.starts_with("Argument"));
    let unknown = |it: &mut CohortRequest| {
        it.arguments.insert("weeks".to_owned(), 1);
    };
    assert!(ask(&unknown).await.starts_with("Argument"));
    assert_eq!(
        ask(&|it| it.reason = "because".to_owned()).await,
        "ReasonUnfit"
    );
    let none = |it: &mut CohortRequest| it.cohort = CohortId::new("everybody").unwrap();
    assert_eq!(ask(&none).await, "UnknownCohort");
    assert!(ask(&|it| days(it, 5)).await.starts_with("Nobody"));
    bench.ehr.set_unsearchable("Appointment", true);
    assert!(ask(&|_| {}).await.starts_with("Ehr"));
}

pub(crate) async fn each_patient_is_looked_at_again_right_before_their_grant(db: Db) {
    let bench = clinic(db).await;
    let id = approved(&bench).await;
    // While consents cannot be read, nothing is done, and nothing is lost.
    bench.ehr.set_unsearchable("Consent", true);
    assert_eq!(advance(&bench).await, 0);
    assert!(grants(&bench).await.is_empty());
    bench.ehr.set_unsearchable("Consent", false);
    // One has booked meanwhile, the other opted out.
    bench
        .ehr
        .put(missed("next", "p1", "booked", "2030-02-01T09:00:00Z"));
    for channel in ["portal", "letter"] {
        bench
            .ehr
            .put(wish(&format!("w-{channel}"), "p2", "deny", channel));
    }
    assert_eq!(advance(&bench).await, 2);
    assert!(grants(&bench).await.is_empty());
    let done = view(&bench, id).await;
    let steps: BTreeMap<PatientToken, CohortStep> = done
        .patients
        .iter()
        .map(|it| (it.token, it.step.clone()))
        .collect();
    let left_out = |because| CohortStep::LeftOut { because };
    assert_eq!(
        steps[&token_of(&bench, "p1").await],
        left_out(CohortRemoval::NotDue)
    );
    assert_eq!(
        steps[&token_of(&bench, "p2").await],
        left_out(CohortRemoval::NoContact)
    );
    assert_eq!(ended(&done.status), Some(CohortEnd::Finished));
}

pub(crate) async fn a_record_that_was_merged_since_gets_no_grant(db: Db) {
    let bench = clinic(db).await;
    approved(&bench).await;
    bench.ehr.put(patient(
        "p1",
        json!({ "link": [{ "type": "replaced-by", "other": { "reference": "Patient/p9" } }] }),
    ));
    bench.ehr.put(patient("p9", json!({})));
    assert_eq!(advance(&bench).await, 2);
    let made = grants(&bench).await;
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].patient, Some(token_of(&bench, "p2").await));
}

pub(crate) async fn grants_are_made_so_many_a_minute_and_none_while_anything_is_switched_off(
    db: Db,
) {
    let bench = clinic(db).await;
    for n in 0..6 {
        let id = format!("q{n}");
        bench.ehr.put(patient(&id, json!({})));
        bench
            .ehr
            .put(missed(&format!("of-{id}"), &id, "noshow", LATELY));
    }
    let id = approved(&bench).await;
    let operator = human(9, &[Role::ItAdmin]);
    for mode in [Mode::Halted, Mode::ReadOnly, Mode::WritePaused] {
        let switched = bench
            .engine
            .switch_mode(&operator, ModeScope::Tenant, mode, "a drill");
        switched.await.unwrap();
        assert_eq!(advance(&bench).await, 0, "{mode:?}");
    }
    let switched = bench
        .engine
        .switch_mode(&operator, ModeScope::Tenant, Mode::Normal, "over");
    switched.await.unwrap();
    assert_eq!(advance(&bench).await, 5);
    assert_eq!(advance(&bench).await, 0);
    bench.clock.advance_s(59);
    assert_eq!(advance(&bench).await, 0);
    bench.clock.advance_s(1);
    assert_eq!(advance(&bench).await, 3);
    assert_eq!(status(&bench, id).await.counts.granted, 8);
}

pub(crate) async fn a_stopped_job_takes_back_what_was_not_used(db: Db) {
    let bench = clinic(db).await;
    let id = approved(&bench).await;
    assert_eq!(advance(&bench).await, 2);
    let made = grants(&bench).await;
    used(&bench, &made[0]).await;
    let stranger = bench
        .engine
        .stop_cohort(&human(5, &[Role::Biller]), id)
        .await;
    assert!(matches!(stranger, Err(CohortFailed::NotPermitted)));
    // Whoever operates Chaperone may stop it, and see nobody by it.
    bench
        .engine
        .stop_cohort(&human(9, &[Role::ItAdmin]), id)
        .await
        .unwrap();
    let done = status(&bench, id).await;
    assert_eq!(ended(&done), Some(CohortEnd::Stopped));
    assert_eq!((done.counts.used, done.counts.left_out), (1, 1));
    let key = RecordKey::new("grant", made[1].id);
    let left = bench
        .store
        .record(&tenant(), &key, bench.engine.now())
        .await;
    assert!(left.unwrap().is_none(), "the grant opens nothing any more");
    let taken_back = bench.recorded().await.into_iter().any(|it| {
        matches!(it.event, Event::Cohort(CohortEvent::LeftOut { grant: Some(grant), because: CohortRemoval::Stopped, .. })
            if grant == made[1].id)
    });
    assert!(taken_back);
    assert_eq!(advance(&bench).await, 0);
    assert_eq!(grants(&bench).await.len(), 2);
    let again = bench.engine.stop_cohort(&desk(), id).await;
    assert!(matches!(again, Err(CohortFailed::NotNow)));
}

pub(crate) async fn a_job_that_is_cut_short_goes_on_with_each_patient_once(db: Db) {
    let mut bench = clinic(db).await;
    let id = approved(&bench).await;
    let store = Arc::new(FaultyStore::new(bench.store.clone()));
    bench.engine = node_on(&bench, 2, &BUNDLE, store.clone()).await;
    // The grant was made, and the node that made it never heard.
    store.lose_next_answer();
    advance(&bench).await;
    // It starts anew, beside another node that is at the same job.
    let other = node(&bench, 3, &BUNDLE).await;
    bench.engine = node(&bench, 4, &BUNDLE).await;
    for _ in 0..4 {
        let (one, two) = futures::join!(bench.engine.advance_cohorts(), other.advance_cohorts());
        one.unwrap();
        two.unwrap();
    }
    let made = grants(&bench).await;
    let of: BTreeSet<_> = made.iter().map(|grant| grant.patient).collect();
    assert_eq!((made.len(), of.len()), (2, 2));
    assert_eq!(status(&bench, id).await.counts.granted, 2);
}
