//! Emergency access over HTTP: who is offered it, what the form must carry, what is shown and how it ends.

use axum::http::StatusCode;
use chaperone_core::event::StreamId;
use chaperone_core::ids::AccountName;
use chaperone_core::principal::Role;

use super::bench::{self, Bench};

#[tokio::test]
async fn a_clinician_breaks_the_glass_with_a_reason_and_others_do_not() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let desk = bench.person(&admin, "front-desk", &[Role::Scheduler]).await;
    let id = bench.note(&lee).await;
    let row = bench.engine.writeback(id).await.unwrap().unwrap();
    let path = format!("/console/patients/{}/emergency", row.patient.unwrap());
    let start = async |by: &bench::Someone, reason: &str| {
        let form = [("csrf", by.csrf.as_str()), ("reason", reason)];
        bench.post(&path, &by.cookie, &form).await
    };
    // Who does not treat patients is not offered it, and does not get it.
    let page = bench.get(&path, &desk.cookie).await;
    assert!(!page.body.contains("<textarea"), "{}", page.body);
    let reason = "unconscious, allergies unknown";
    assert_eq!(start(&desk, reason).await.status, StatusCode::FORBIDDEN);
    assert_eq!(
        start(&lee, "urgent").await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    let page = bench.get(&path, &lee.cookie).await;
    assert!(page.body.contains("Break the glass") && !page.body.contains("Medication"));
    let broken = start(&lee, reason).await;
    assert_eq!(broken.location(), path, "{}", broken.body);
    let page = bench.get(&path, &lee.cookie).await;
    assert!(page.body.contains("Medication") && page.body.contains("The emergency is over"));
    // It is hers alone, and over when she says so.
    let page = bench.get(&path, &desk.cookie).await;
    assert!(!page.body.contains("Medication"));
    let form = [("csrf", lee.csrf.as_str())];
    let ended = bench.post(&format!("{path}/end"), &lee.cookie, &form).await;
    assert_eq!(ended.location(), path);
    let page = bench.get(&path, &lee.cookie).await;
    assert!(!page.body.contains("Medication"));
    let kinds = bench
        .kinds(StreamId::Account(AccountName::new("dr-lee").unwrap()))
        .await;
    let about: Vec<&String> = kinds
        .iter()
        .filter(|kind| kind.contains("break_glass"))
        .collect();
    assert_eq!(about, ["break_glass_started", "break_glass_ended"]);
}
