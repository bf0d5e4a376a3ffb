//! What could not be delivered, what nobody knows, what people enter by hand, and hostile text.

use axum::http::StatusCode;
use chaperone_core::evidence::Strategy;
use chaperone_core::principal::Role;
use chaperone_core::writeback::FailureCause;
use chaperone_testkit::WriteFault;

use super::bench::{self, Bench, HOSTILE};

#[tokio::test]
async fn what_could_not_be_delivered_is_requeued_with_a_reason_or_given_up() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    bench
        .ehr
        .fail_next_write(WriteFault::Refuse(FailureCause::Rejected));
    let id = bench.approved_note(&lee).await;
    bench.work().await;
    let path = format!("/console/writebacks/{id}");
    let health = bench.get("/console/health", &lee.cookie).await;
    assert!(health.body.contains(&path), "{}", health.body);
    let page = bench.get(&path, &lee.cookie).await;
    assert!(page.body.contains("the EHR refused the content") && page.body.contains("Requeue"));
    let act = async |verb: &str, reason: &str, by: &bench::Someone| {
        let form = [("csrf", by.csrf.as_str()), ("reason", reason)];
        bench
            .post(&format!("{path}/{verb}"), &by.cookie, &form)
            .await
    };
    let desk = bench.person(&admin, "front-desk", &[Role::Scheduler]).await;
    assert_eq!(
        act("requeue", "not mine", &desk).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        act("requeue", "", &lee).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    let wrong = act("attest", "entered by hand", &lee).await;
    assert_eq!(
        wrong.status,
        StatusCode::CONFLICT,
        "it does not wait for that"
    );
    let back = act("requeue", "mended at the EHR", &lee).await;
    assert_eq!(
        back.location(),
        format!("{path}?done=requeued"),
        "{}",
        back.body
    );
    bench.work().await;
    assert!(
        bench
            .get(&path, &lee.cookie)
            .await
            .body
            .contains("delivered")
    );
    assert_eq!(bench.ehr.written().len(), 1);
    assert_eq!(
        act("abandon", "too late", &lee).await.status,
        StatusCode::CONFLICT
    );
}

#[tokio::test]
async fn a_send_of_unknown_outcome_waits_for_what_a_person_finds() {
    let bench = Bench::delivering_by(Strategy::PlainPost).await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    bench.ehr.fail_next_write(WriteFault::LostAfter);
    let id = bench.approved_note(&lee).await;
    bench.work().await;
    let path = format!("/console/writebacks/{id}");
    let page = bench.get(&path, &lee.cookie).await;
    assert!(
        page.body.contains("outcome unknown") && page.body.contains("It is there"),
        "{}",
        page.body
    );
    assert_eq!(
        bench.ehr.written().len(),
        1,
        "nothing is sent a second time"
    );
    let resolve = async |found: &str, note: &str| {
        let form = [
            ("csrf", lee.csrf.as_str()),
            ("found", found),
            ("reason", note),
        ];
        bench
            .post(&format!("{path}/resolve"), &lee.cookie, &form)
            .await
    };
    assert_eq!(resolve("", "seen").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        resolve("applied", "").await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    let done = resolve("applied", "seen in the chart").await;
    assert_eq!(
        done.location(),
        format!("{path}?done=resolved"),
        "{}",
        done.body
    );
    bench.work().await;
    assert!(
        bench
            .get(&path, &lee.cookie)
            .await
            .body
            .contains("proof level P0")
    );
    assert_eq!(bench.ehr.written().len(), 1);
}

#[tokio::test]
async fn what_the_ehr_takes_from_nobody_is_entered_and_attested() {
    let bench = Bench::delivering_by(Strategy::HumanEntry).await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let id = bench.approved_note(&lee).await;
    bench.work().await;
    let path = format!("/console/writebacks/{id}");
    let health = bench.get("/console/health", &lee.cookie).await;
    assert!(health.body.contains(&path), "{}", health.body);
    let page = bench.get(&path, &lee.cookie).await;
    assert!(page.body.contains("I have entered it"), "{}", page.body);
    let form = [
        ("csrf", lee.csrf.as_str()),
        ("reason", "entered in the chart"),
    ];
    let done = bench
        .post(&format!("{path}/attest"), &lee.cookie, &form)
        .await;
    assert_eq!(
        done.location(),
        format!("{path}?done=attested"),
        "{}",
        done.body
    );
    assert!(bench.ehr.written().is_empty());
}

#[tokio::test]
async fn what_people_type_comes_back_as_text() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let sign_in = [("account", HOSTILE), ("password", "x"), ("code", HOSTILE)];
    let enrol = [
        ("account", HOSTILE),
        ("code", HOSTILE),
        ("password", "x"),
        ("password_again", "y"),
    ];
    let people = [
        ("csrf", admin.csrf.as_str()),
        ("account", HOSTILE),
        ("roles", HOSTILE),
    ];
    let modes = [
        ("csrf", admin.csrf.as_str()),
        ("scope", HOSTILE),
        ("mode", HOSTILE),
        ("reason", HOSTILE),
    ];
    for (path, form) in [
        ("/console/sign-in", &sign_in[..]),
        ("/console/enrol", &enrol[..]),
        ("/console/people", &people[..]),
        ("/console/modes", &modes[..]),
    ] {
        let answer = bench.post(path, &admin.cookie, form).await;
        assert!(answer.status.is_client_error(), "{path}: {}", answer.status);
        assert!(!answer.body.contains(HOSTILE), "{path}");
        assert!(
            answer.body.contains("role=\"alert\""),
            "{path}: {}",
            answer.body
        );
    }
}

#[tokio::test]
async fn an_order_that_follows_another_shows_what_it_replaces() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let id = bench.order(&lee, "lisinopril").await;
    let page = bench
        .get(&format!("/console/writebacks/{id}"), &lee.cookie)
        .await;
    assert!(
        page.body.contains("Until now, as the EHR has it"),
        "{}",
        page.body
    );
    assert!(
        page.body.contains("<del>10 mg</del><ins>20 mg</ins>"),
        "{}",
        page.body
    );
    assert!(page.body.contains("Oral route") && !page.body.contains("20 mg SNOMED"));
}
