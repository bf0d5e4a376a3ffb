//! The page of overseeing: who has it, a look afterwards, and a row that is demoted and restored.

use axum::http::StatusCode;
use chaperone_core::ids::WritebackId;
use chaperone_core::principal::Role;
use serde_json::json;

use crate::bench::*;

async fn task(bench: &Bench, by: &Someone, key: &str) -> WritebackId {
    let agent = bench.envelope(by, "intake-agent", "intake", "a").await;
    let arguments = json!({ "idempotency_key": key, "summary": "Call back.", "pool": "nursing" });
    let answer = bench.call(&agent, "create_task", arguments).await;
    answer["proposal"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_went_through_is_looked_at_demoted_and_restored() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let asked = bench.person(&admin, "nina", &[Role::Rn]).await;
    let looks = bench.person(&admin, "rob", &[Role::Rn]).await;
    let clinician = bench.person(&admin, "ada", &[Role::Clinician]).await;
    let mut ids = Vec::new();
    for key in ["1", "2", "3", "4", "5"] {
        ids.push(task(&bench, &asked, key).await);
        // Without letting time go by: a session ends when nobody uses it.
        for _ in 0..3 {
            bench.engine.deliver_due("worker").await.unwrap();
        }
    }
    bench.engine.follow_oversight(u64::MAX).await.unwrap();

    // Not for those who decide nothing clinical, and not in their menu.
    let refused = bench.get("/console/oversight", &admin.cookie).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let inbox = bench.get("/console", &admin.cookie).await;
    assert!(!inbox.body.contains("/console/oversight"));
    let shown = bench.get("/console/oversight", &looks.cookie).await;
    assert_eq!(shown.status, StatusCode::OK);
    assert!(shown.body.contains("To be looked at (5)"), "{}", shown.body);
    assert!(
        !shown.body.contains("Sample"),
        "a list of samples names no patient"
    );
    let own = bench.get("/console/oversight", &asked.cookie).await;
    assert!(own.body.contains("To be looked at (0)"), "{}", own.body);

    let say = async |by: &Someone, id: WritebackId, verdict: &str, reason: &str| {
        let form = [
            ("csrf", by.csrf.as_str()),
            ("verdict", verdict),
            ("reason", reason),
        ];
        bench
            .post(&format!("/console/oversight/{id}"), &by.cookie, &form)
            .await
    };
    let one = bench
        .get(&format!("/console/oversight/{}", ids[0]), &looks.cookie)
        .await;
    assert_eq!(one.status, StatusCode::OK);
    assert!(
        one.body.contains("Would you have let it through"),
        "{}",
        one.body
    );
    let silent = say(&looks, ids[0], "disagree", "").await;
    assert_eq!(silent.status, StatusCode::UNPROCESSABLE_ENTITY);
    for id in &ids {
        let said = say(&looks, *id, "disagree", "nobody asked for this").await;
        assert_eq!(
            said.location(),
            "/console/oversight?done=looked-at",
            "{}",
            said.body
        );
    }
    let gone = bench
        .get(&format!("/console/oversight/{}", ids[0]), &looks.cookie)
        .await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    bench.engine.follow_oversight(u64::MAX).await.unwrap();

    let demoted = bench.get("/console/oversight", &clinician.cookie).await;
    assert!(demoted.body.contains("task-request"), "{}", demoted.body);
    let row = demoted.after("name=\"row\" value=\"").to_owned();
    let restore = async |by: &Someone, code: &str, reason: &str| {
        let form = [
            ("csrf", by.csrf.as_str()),
            ("row", row.as_str()),
            ("reason", reason),
            ("code", code),
        ];
        bench
            .post("/console/oversight/restore", &by.cookie, &form)
            .await
    };
    let why = "the prompt was put right and looked at for a week";
    let nurse = restore(&looks, &bench.code(&looks), why).await;
    assert_eq!(nurse.status, StatusCode::FORBIDDEN);
    let wrong = restore(&clinician, "000000", why).await;
    assert_eq!(wrong.status, StatusCode::FORBIDDEN);
    assert!(wrong.body.contains(why), "what was typed is kept");
    bench.clock.advance_s(30);
    let done = restore(&clinician, &bench.code(&clinician), why).await;
    assert_eq!(
        done.location(),
        "/console/oversight?done=restored",
        "{}",
        done.body
    );
    let after = bench
        .get("/console/oversight?done=restored", &clinician.cookie)
        .await;
    assert!(after.body.contains("The row goes by what it says again."));
    assert!(!after.body.contains("name=\"row\""));
}
