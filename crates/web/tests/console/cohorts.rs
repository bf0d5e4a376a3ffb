//! The pages of cohort jobs: who may ask, what is shown of whom, who approves, and how it ends.

use axum::http::StatusCode;
use chaperone_core::principal::Role;
use serde_json::json;

use crate::bench::*;

const WHY: &str = "the clinic has free times next week";

fn missed(bench: &Bench) {
    for patient in ["a", "b"] {
        bench.ehr.put(json!({
            "resourceType": "Appointment", "id": format!("missed-{patient}"), "status": "noshow",
            "start": "2026-08-20T09:00:00Z",
            "participant": [{ "actor": { "reference": format!("Patient/{patient}") } }],
        }));
    }
}

#[tokio::test]
async fn a_list_is_asked_for_read_struck_and_approved_by_another() {
    let bench = Bench::new().await;
    missed(&bench);
    let admin = bench.admin().await;
    let desk = bench.person(&admin, "dora", &[Role::Scheduler]).await;
    let clinician = bench.person(&admin, "ada", &[Role::Clinician]).await;
    let biller = bench.person(&admin, "bill", &[Role::Biller]).await;

    // Not for everybody, and not in their menu.
    for stranger in [&admin, &biller] {
        let refused = bench.get("/console/cohorts", &stranger.cookie).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        let inbox = bench.get("/console", &stranger.cookie).await;
        assert!(!inbox.body.contains("/console/cohorts"));
    }
    let page = bench.get("/console/cohorts", &desk.cookie).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.contains("Missed visits") && page.body.contains("scheduler-agent"));
    assert!(!page.body.contains("Una"));

    // A reason is needed, and what was typed stays.
    let ask = async |who: &Someone, days: &str, reason: &str| {
        let form = [
            ("csrf", who.csrf.as_str()),
            ("cohort", "missed-visits"),
            ("days", days),
            ("reason", reason),
        ];
        bench
            .post("/console/cohorts/request", &who.cookie, &form)
            .await
    };
    let short = ask(&desk, "30", "why").await;
    assert_eq!(short.status, StatusCode::UNPROCESSABLE_ENTITY);
    let far = ask(&desk, "1000", WHY).await;
    assert_eq!(far.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        far.body.contains(WHY) && far.body.contains("1 to 180"),
        "{}",
        far.body
    );
    let refused = ask(&biller, "30", WHY).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let asked = ask(&desk, "30", WHY).await;
    assert_eq!(asked.status, StatusCode::SEE_OTHER, "{}", asked.body);
    let job = asked.location().to_owned();

    // Initials and age, as other lists; the name that tries to be markup is text.
    let own = bench.get(&job, &desk.cookie).await;
    assert!(
        own.body.contains("US") && !own.body.contains("Sample"),
        "{}",
        own.body
    );
    assert!(!own.body.contains(HOSTILE));
    assert!(
        !own.body.contains("Approve this list"),
        "who asked approves nothing"
    );
    for stranger in [&admin, &biller] {
        let refused = bench.get(&job, &stranger.cookie).await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND);
    }

    // Somebody else strikes one of them, and approves what is left with a code.
    let shown = bench.get(&job, &clinician.cookie).await;
    assert!(
        shown.body.contains("Approve this list of 2"),
        "{}",
        shown.body
    );
    let list = shown.after("name=\"list\" value=\"").to_owned();
    let patient = shown.after("name=\"patient\" value=\"").to_owned();
    let csrf = clinician.csrf.as_str();
    let form = [("csrf", csrf), ("list", &list), ("patient", &patient)];
    let path = format!("{job}/strike");
    let struck = bench.post(&path, &clinician.cookie, &form).await;
    assert_eq!(struck.status, StatusCode::SEE_OTHER, "{}", struck.body);
    let approve = async |who: &Someone, list: &str, code: &str| {
        let form = [("csrf", who.csrf.as_str()), ("list", list), ("code", code)];
        bench
            .post(&format!("{job}/approve"), &who.cookie, &form)
            .await
    };
    let stale = approve(&clinician, &list, &bench.code(&clinician)).await;
    assert_eq!(stale.status, StatusCode::CONFLICT, "{}", stale.body);
    let shown = bench.get(&job, &clinician.cookie).await;
    assert!(
        shown.body.contains("Approve this list of 1"),
        "{}",
        shown.body
    );
    let list = shown.after("name=\"list\" value=\"").to_owned();
    let wrong = approve(&clinician, &list, "000000").await;
    assert_eq!(wrong.status, StatusCode::FORBIDDEN);
    bench.clock.advance_s(30);
    let by_asker = approve(&desk, &list, &bench.code(&desk)).await;
    assert_eq!(by_asker.status, StatusCode::FORBIDDEN, "{}", by_asker.body);
    let approved = approve(&clinician, &list, &bench.code(&clinician)).await;
    assert_eq!(approved.status, StatusCode::SEE_OTHER, "{}", approved.body);

    // One patient comes before the agent; then it is stopped, and the report says so.
    assert_eq!(bench.engine.advance_cohorts().await.unwrap(), 1);
    let shown = bench.get(&job, &desk.cookie).await;
    assert!(shown.body.contains("waits for the agent"), "{}", shown.body);
    let form = [("csrf", desk.csrf.as_str())];
    let stopped = bench
        .post(&format!("{job}/stop"), &desk.cookie, &form)
        .await;
    assert_eq!(stopped.status, StatusCode::SEE_OTHER, "{}", stopped.body);
    let shown = bench.get(&job, &desk.cookie).await;
    assert!(shown.body.contains("the job was stopped"), "{}", shown.body);
    let stream = job.replace("/console/cohorts/", "/console/streams/cohort/");
    let stream = bench.get(&stream, &desk.cookie).await;
    assert!(
        stream.body.contains("The list of 1 patients was approved"),
        "{}",
        stream.body
    );
}
