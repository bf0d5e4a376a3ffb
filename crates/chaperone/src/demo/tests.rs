//! The default cohorts against the sandbox EHR: what they search is understood there, and who is found fits.

use std::collections::BTreeMap;

use chaperone_core::cohort::CohortRemoval;
use chaperone_core::ids::PersonId;
use chaperone_core::principal::{Human, Role};
use chaperone_engine::cohort::{CohortFailed, CohortRequest};
use clap::Parser;
use serde_json::json;

use super::DemoArgs;
use super::world::World;

#[derive(Parser)]
struct Once {
    #[command(flatten)]
    args: DemoArgs,
}

fn clinician() -> Human {
    Human {
        account: "reviewer".parse().unwrap(),
        person: PersonId::from_random([9; 16]),
        roles: vec![Role::Clinician],
    }
}

fn request(cohort: &str, days: i64) -> CohortRequest {
    CohortRequest {
        cohort: cohort.parse().unwrap(),
        arguments: BTreeMap::from([("days".to_owned(), days)]),
        reason: "to see whom it finds".to_owned(),
    }
}

#[tokio::test]
async fn the_default_cohorts_find_patients_of_the_sandbox() {
    let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let once = Once::try_parse_from(["demo", "--once"]).unwrap();
    let world = World::put_up(&once.args).await.unwrap();
    let engine = world.engine.clone();
    // Measured long ago and not since.
    let id = engine
        .request_cohort(&clinician(), &request("overdue-hba1c", 90))
        .await
        .unwrap();
    let found = engine.cohort_status(id).await.unwrap();
    assert!(found.counts.listed > 0, "{found:?}");
    let view = engine.cohort_view(&clinician(), id).await.unwrap();
    assert!(view.patients.iter().all(|it| it.shown.is_some()));

    // Nobody missed a visit; then somebody did who has another one booked, which the EHR knows.
    let ask = async || {
        engine
            .request_cohort(&clinician(), &request("missed-visits", 30))
            .await
    };
    let nobody = ask().await;
    assert!(
        matches!(&nobody, Err(CohortFailed::Nobody(why)) if why.is_empty()),
        "{nobody:?}"
    );
    let yesterday = engine
        .now()
        .checked_sub(jiff::SignedDuration::from_hours(24))
        .unwrap();
    for (n, patient) in world.patients.iter().enumerate() {
        let missed = json!({
            "resourceType": "Appointment", "id": format!("missed-{n}"), "status": "noshow",
            "start": yesterday.to_string(), "end": yesterday.to_string(),
            "participant": [{
                "actor": { "reference": format!("Patient/{patient}") }, "status": "accepted",
            }],
        });
        world.sandbox.handle.put(&missed).unwrap();
    }
    let asked = ask().await;
    match asked {
        Err(CohortFailed::Nobody(why)) => {
            assert!(why.contains(CohortRemoval::NotDue.words()), "{why}");
        }
        other => panic!("{other:?}"),
    }
    world.take_down().await;
}
