//! A default cohort against the sandbox EHR: what it searches is understood there.

use std::collections::BTreeMap;

use chaperone_core::cohort::CohortRemoval;
use chaperone_core::ids::PersonId;
use chaperone_core::principal::{Human, Role};
use chaperone_engine::cohort::{CohortFailed, CohortRequest};
use clap::Parser;

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
async fn a_default_cohort_is_understood_by_the_sandbox() {
    let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let once = Once::try_parse_from(["demo", "--once"]).unwrap();
    let world = World::put_up(&once.args).await.unwrap();
    let engine = world.engine.clone();
    // Found by an old result, and each of them was measured since: the EHR tells both.
    let asked = engine
        .request_cohort(&clinician(), &request("overdue-hba1c", 90))
        .await;
    match asked {
        Err(CohortFailed::Nobody(why)) => {
            assert!(why.contains(CohortRemoval::NotDue.words()), "{why}");
        }
        other => panic!("{other:?}"),
    }
    world.take_down().await;
}
