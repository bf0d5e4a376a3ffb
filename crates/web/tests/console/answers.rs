//! Who saw what: for the privacy officer and nobody else, and looking is recorded.

use axum::http::StatusCode;
use chaperone_core::event::StreamId;
use chaperone_core::principal::Role;

use super::bench::{Bench, HOSTILE};

#[tokio::test]
async fn the_privacy_officer_sees_who_saw_a_patient_and_nobody_else_does() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let priya = bench.person(&admin, "priya", &[Role::Privacy]).await;
    let id = bench.note(&lee).await;
    bench
        .get(&format!("/console/writebacks/{id}"), &lee.cookie)
        .await;

    let search = async |someone: &super::bench::Someone, query: &str| {
        let form = [("csrf", someone.csrf.as_str()), ("query", query)];
        bench.post("/console/answers", &someone.cookie, &form).await
    };
    let found = search(&priya, "Sample 1950-02-03").await;
    assert_eq!(found.status, StatusCode::OK);
    let token = found.after("href=\"/console/answers/").to_owned();
    assert!(token.starts_with("pat_"));
    let page = bench
        .get(&format!("/console/answers/{token}"), &priya.cookie)
        .await;
    assert_eq!(page.status, StatusCode::OK);
    for shown in [
        "agent scribe-agent",
        "draft_note",
        "dr-lee",
        "console.review",
        "console.search",
    ] {
        assert!(page.body.contains(shown), "{shown}: {}", page.body);
    }
    assert!(
        !page.body.contains("Sample"),
        "names of elements, never content"
    );

    // Another patient's page lists nothing of this one.
    let other = search(&priya, "1980-07-08").await;
    assert!(!other.body.contains(HOSTILE));
    let other = other.after("href=\"/console/answers/").to_owned();
    assert_ne!(other, token);
    let others = bench
        .get(&format!("/console/answers/{other}"), &priya.cookie)
        .await;
    assert!(
        !others.body.contains("draft_note") && !others.body.contains("dr-lee"),
        "{}",
        others.body
    );

    let account = StreamId::Account(priya.human.account.clone());
    let asked = bench.kinds(account).await;
    assert_eq!(asked.iter().filter(|kind| *kind == "audit_used").count(), 2);

    for someone in [&lee, &admin] {
        for path in [
            "/console/answers".to_owned(),
            format!("/console/answers/{token}"),
        ] {
            let refused = bench.get(&path, &someone.cookie).await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}");
            assert!(!refused.body.contains("draft_note"));
        }
        assert_eq!(
            search(someone, "Sample").await.status,
            StatusCode::FORBIDDEN
        );
        assert!(
            !bench
                .get("/console", &someone.cookie)
                .await
                .body
                .contains("/console/answers")
        );
    }
    let nobody = format!("/console/answers/pat_{}", "0".repeat(32));
    assert_eq!(
        bench.get(&nobody, &priya.cookie).await.status,
        StatusCode::NOT_FOUND
    );
    for wrong in ["?from=yesterday", "?after=here"] {
        let page = bench
            .get(&format!("/console/answers/{token}{wrong}"), &priya.cookie)
            .await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    let nothing = bench
        .get(
            &format!("/console/answers/{token}?to=2020-01-01"),
            &priya.cookie,
        )
        .await;
    assert!(
        nothing
            .body
            .contains("Nobody saw or changed anything in this time.")
    );
}

#[tokio::test]
async fn the_privacy_officer_is_told_what_a_token_stands_for_and_nobody_else_is() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let priya = bench.person(&admin, "priya", &[Role::Privacy]).await;
    let id = bench.note(&lee).await;
    let row = bench.engine.writeback(id).await.unwrap().unwrap();
    let token = row.patient.unwrap().to_string();
    let reason = "a complaint names this token";
    let ask = async |someone: &super::bench::Someone, token: &str, reason: &str| {
        let form = [
            ("csrf", someone.csrf.as_str()),
            ("token", token),
            ("reason", reason),
        ];
        let path = "/console/answers/token";
        bench.post(path, &someone.cookie, &form).await
    };
    for someone in [&lee, &admin] {
        let refused = ask(someone, &token, reason).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        assert!(!refused.body.contains("Patient/"));
    }
    for (token, reason) in [(token.as_str(), "why not"), ("pat_1", reason)] {
        let refused = ask(&priya, token, reason).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.body.contains("role=\"alert\"") && !refused.body.contains("Patient/"));
    }
    let told = ask(&priya, &token, reason).await;
    assert_eq!(told.status, StatusCode::OK);
    assert!(told.body.contains("Patient/"), "{}", told.body);
    assert!(told.body.contains(&format!("/console/answers/{token}\"")));
    let kinds = bench
        .kinds(StreamId::Account(priya.human.account.clone()))
        .await;
    let told = kinds.iter().filter(|kind| *kind == "token_revealed");
    assert_eq!(told.count(), 1);
}
