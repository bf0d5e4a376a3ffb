//! What an agent learns of a list that people approved: grants of its own, one at a time, and nothing of the list.

use std::collections::BTreeMap;

use chaperone_core::digest::Digest;
use chaperone_core::ids::{CohortJobId, PersonId, StepUpId};
use chaperone_core::ports::{Clock as _, Commit, Record, RecordChange, Store as _};
use chaperone_core::principal::{Human, Role};
use chaperone_engine::cohort::CohortRequest;
use serde_json::{Value, json};

use crate::house::*;

fn person(n: u8, role: Role) -> Human {
    Human {
        account: format!("person-{n}").parse().unwrap(),
        person: PersonId::from_random([n; 16]),
        roles: vec![role],
    }
}

/// A second factor that was given a moment ago.
async fn factor(house: &House, by: &Human, digest: Digest) -> StepUpId {
    let now = house.clock.now();
    let id = StepUpId::from_random([7; 16]);
    let mut commit = Commit::new(house.engine.tenant().clone(), now, by.into());
    let value = json!({ "account": by.account, "person": by.person, "digest": digest,
        "verified_at": now, "tries": 0, "subject": { "for": "matter" } });
    let record = Record::new("step_up", id, value);
    commit.records.push(RecordChange::Put(record));
    house.store.commit(commit).await.unwrap();
    id
}

/// Three patients who missed a visit, on a list that one person asked for and another approved.
async fn approved(house: &House) -> CohortJobId {
    for n in 1..=3 {
        let id = format!("m{n}");
        house.ehr.put(json!({
            "resourceType": "Patient", "id": id, "birthDate": "1950-02-03",
            "name": [{ "family": format!("Canary-Missed-{n}"), "given": ["Una"] }],
        }));
        house.ehr.put(json!({
            "resourceType": "Appointment", "id": format!("missed-{n}"), "status": "noshow",
            "start": "2027-02-20T09:00:00Z",
            "participant": [{ "actor": { "reference": format!("Patient/{id}") } }],
        }));
    }
    let request = CohortRequest {
        cohort: "missed-visits".parse().unwrap(),
        arguments: BTreeMap::new(),
        reason: "the clinic has free times".to_owned(),
    };
    let desk = person(4, Role::Scheduler);
    let clinician = person(8, Role::Clinician);
    let job = house.engine.request_cohort(&desk, &request).await.unwrap();
    let shown = house.engine.cohort_view(&clinician, job).await.unwrap();
    let list = shown.status.job.list;
    assert_eq!(shown.patients.len(), 3);
    let step = factor(house, &clinician, list).await;
    house
        .engine
        .approve_cohort(&clinician, job, list, step)
        .await
        .unwrap();
    job
}

async fn waiting(house: &House, agent: &str) -> Vec<Value> {
    let token = house.token(agent, "collect", None).await;
    let answer = house.send(get(&token, "/v1/grants")).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.body["grants"].as_array().unwrap().clone()
}

async fn open(house: &House, grant: &Value) -> Answer {
    let grant = grant["grant"].as_str().unwrap().parse().unwrap();
    let assertion = house.assertion(SCHEDULER);
    let request = token_request(&assertion, "schedule-appointment", Some(&grant));
    house.send(request).await
}

fn opt_out(house: &House, patient: &str) {
    for channel in ["portal", "letter"] {
        house.ehr.put(json!({
            "resourceType": "Consent", "id": format!("{patient}-{channel}"), "status": "active",
            "scope": { "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy",
            }] },
            "category": [{ "coding": [{
                "system": "urn:chaperone:consent-category", "code": "contact-preference",
            }] }],
            "patient": { "reference": format!("Patient/{patient}") },
            "dateTime": "2027-01-01",
            "policyRule": { "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTOUT",
            }] },
            "provision": { "type": "deny", "class": [{
                "system": "urn:chaperone:contact-channel", "code": channel,
            }] },
        }));
    }
}

#[tokio::test]
async fn an_agent_gets_the_patients_of_a_list_one_by_one_and_learns_nothing_of_it() {
    let house = House::new().await;
    let job = approved(&house).await;
    assert!(waiting(&house, SCHEDULER).await.is_empty());
    assert_eq!(house.engine.advance_cohorts().await.unwrap(), 3);
    let grants = waiting(&house, SCHEDULER).await;
    assert_eq!(grants.len(), 3);
    let said = Value::Array(grants.clone()).to_string();
    for secret in [
        job.to_string().as_str(),
        "pat_",
        "Canary",
        "missed",
        "cohort",
    ] {
        assert!(!said.contains(secret), "{secret}: {said}");
    }
    // Another agent is told of none of them.
    assert!(waiting(&house, INTAKE).await.is_empty());

    // One envelope, once, about one patient.
    let opened = open(&house, &grants[0]).await;
    assert_eq!(opened.status, 200, "{:?}", opened.body);
    let again = open(&house, &grants[0]).await;
    assert_eq!((again.status, again.code()), (400, "invalid-grant"));
    let token = opened.body["access_token"].as_str().unwrap();
    let visits = house
        .send(rest(token, "list_appointments", &json!({})))
        .await;
    assert_eq!(visits.status, 200, "{:?}", visits.body);
    assert_eq!(visits.body["resources"].as_array().map_or(0, Vec::len), 1);

    // Who opted out since does not come before the agent, which hears what it hears of any grant.
    for n in 1..=3 {
        opt_out(&house, &format!("m{n}"));
    }
    let refused = open(&house, &grants[1]).await;
    assert_eq!((refused.status, refused.code()), (400, "invalid-grant"));
    let said = refused.body.to_string();
    assert!(!said.contains("onsent") && !said.contains("list"), "{said}");

    // What was stopped opens nothing.
    let desk = person(4, Role::Scheduler);
    house.engine.stop_cohort(&desk, job).await.unwrap();
    assert!(waiting(&house, SCHEDULER).await.is_empty());
    let refused = open(&house, &grants[2]).await;
    assert_eq!((refused.status, refused.code()), (400, "invalid-grant"));
}

#[tokio::test]
async fn a_grant_that_its_list_counts_as_over_meanwhile_opens_nothing() {
    let house = House::new().await;
    approved(&house).await;
    assert_eq!(house.engine.advance_cohorts().await.unwrap(), 3);
    let grants = waiting(&house, SCHEDULER).await;
    let held = house.store.hold_next_commit();
    let meanwhile = async {
        held.arrived().await;
        // To a clock that is ahead its time is over.
        house.clock.advance_s(4 * 3_600 + 1);
        assert_eq!(house.engine.advance_cohorts().await.unwrap(), 3);
        held.release();
    };
    let (refused, ()) = futures::join!(open(&house, &grants[0]), meanwhile);
    assert_eq!((refused.status, refused.code()), (400, "invalid-grant"));
}
