//! The undo page: who may, what is shown first, what it takes to start, how it goes on, and what was set aside.

use axum::http::StatusCode;
use chaperone_core::principal::Role;
use chaperone_core::writeback::StateName;

use crate::bench::*;

const WHY: &str = "the scribe mixed up two visits this morning";

async fn state_of(bench: &Bench, id: chaperone_core::ids::WritebackId) -> StateName {
    bench.engine.writeback(id).await.unwrap().unwrap().state
}

#[tokio::test]
async fn what_was_delivered_is_shown_undone_and_watched() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let clinician = bench.person(&admin, "ada", &[Role::Clinician]).await;
    let records = bench.person(&admin, "rita", &[Role::Him]).await;
    let note = bench.approved_note(&clinician).await;
    bench.work().await;
    assert_eq!(state_of(&bench, note).await, StateName::Delivered);

    // Not for everybody, and not in their menu.
    let refused = bench.get("/console/undo", &clinician.cookie).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let inbox = bench.get("/console", &clinician.cookie).await;
    assert!(!inbox.body.contains("/console/undo"));
    let shown = bench.get("/console/undo", &records.cookie).await;
    assert_eq!(shown.status, StatusCode::OK);

    // Nothing typed selects nothing; what is typed is shown, and nothing happens.
    let csrf = records.csrf.as_str();
    let nothing = bench
        .post("/console/undo/preview", &records.cookie, &[("csrf", csrf)])
        .await;
    assert_eq!(nothing.status, StatusCode::UNPROCESSABLE_ENTITY);
    let form = [("csrf", csrf), ("agent", "scribe-agent")];
    let plan = bench
        .post("/console/undo/preview", &records.cookie, &form)
        .await;
    assert_eq!(plan.status, StatusCode::OK);
    for words in [
        "create DocumentReference",
        "becomes entered-in-error",
        "second factor",
    ] {
        assert!(plan.body.contains(words), "{words}: {}", plan.body);
    }
    assert!(
        !plan.body.contains("Sample"),
        "a page of operators names no patient"
    );
    let stranger = bench
        .post(
            "/console/undo/preview",
            &clinician.cookie,
            &[("csrf", &clinician.csrf), ("agent", "scribe-agent")],
        )
        .await;
    assert_eq!(stranger.status, StatusCode::FORBIDDEN);

    // A wrong code starts nothing; the right one does, with a reason.
    let start = async |code: &str, reason: &str| {
        let form = [
            ("csrf", csrf),
            ("agent", "scribe-agent"),
            ("reason", reason),
            ("code", code),
        ];
        bench
            .post("/console/undo/start", &records.cookie, &form)
            .await
    };
    let wrong = start("000000", WHY).await;
    assert_eq!(wrong.status, StatusCode::FORBIDDEN);
    assert!(wrong.body.contains(WHY), "what was typed is kept");
    bench.clock.advance_s(30);
    let short = start(&bench.code(&records), "why").await;
    assert_eq!(short.status, StatusCode::UNPROCESSABLE_ENTITY);
    bench.clock.advance_s(30);
    let started = start(&bench.code(&records), WHY).await;
    assert_eq!(started.status, StatusCode::SEE_OTHER, "{}", started.body);
    let run = started.location().to_owned();
    let page = bench.get(&run, &records.cookie).await;
    assert!(page.body.contains("under way") && page.body.contains(WHY));
    assert_eq!(
        bench.get(&run, &clinician.cookie).await.status,
        StatusCode::FORBIDDEN
    );

    // What undoes it waits for a clinician or records, with a code, and tells what it is.
    bench.engine.advance_undo_runs().await.unwrap();
    let page = bench.get(&run, &records.cookie).await;
    assert!(
        page.body.contains("What undoes it: waits for approval"),
        "{}",
        page.body
    );
    let at = page.body.split("What undoes it").nth(1).unwrap();
    let by = at
        .split("/console/writebacks/")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let review = bench
        .get(&format!("/console/writebacks/{by}"), &clinician.cookie)
        .await;
    assert!(review.body.contains("put right") && review.body.contains(&note.to_string()));
    let digest = review.after("name=\"digest\" value=\"").to_owned();
    let form = [
        ("csrf", clinician.csrf.as_str()),
        ("digest", &digest),
        ("opened", "0"),
    ];
    let asked = bench
        .post(
            &format!("/console/writebacks/{by}/approve"),
            &clinician.cookie,
            &form,
        )
        .await;
    let step = asked.location().to_owned();
    assert!(step.contains("/step-up/"), "{}", asked.body);
    let code = bench.code(&clinician);
    let form = [
        ("csrf", clinician.csrf.as_str()),
        ("opened", "0"),
        ("code", &code),
    ];
    let path = step.split('?').next().unwrap();
    let approved = bench.post(path, &clinician.cookie, &form).await;
    assert_eq!(approved.status, StatusCode::SEE_OTHER, "{}", approved.body);
    bench.work().await;
    bench.engine.advance_undo_runs().await.unwrap();
    assert_eq!(state_of(&bench, note).await, StateName::Compensated);
    let page = bench.get(&run, &records.cookie).await;
    assert!(page.body.contains("finished") && page.body.contains("1 of 1 undone"));
    let stream = run.replace("/console/undo/", "/console/streams/undo/");
    assert!(
        bench
            .get(&stream, &records.cookie)
            .await
            .body
            .contains("was started")
    );
}

#[tokio::test]
async fn what_was_set_aside_is_let_go_on_or_rejected_with_a_reason() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let clinician = bench.person(&admin, "ada", &[Role::Clinician]).await;
    let note = bench.note(&clinician).await;
    let aside = async || {
        bench.clock.advance_s(30);
        let code = bench.code(&admin);
        let form = [
            ("csrf", admin.csrf.as_str()),
            ("agent", "scribe-agent"),
            ("reason", WHY),
            ("code", &code),
        ];
        let started = bench
            .post("/console/undo/start", &admin.cookie, &form)
            .await;
        assert_eq!(started.status, StatusCode::SEE_OTHER, "{}", started.body);
        bench.engine.advance_undo_runs().await.unwrap();
        assert_eq!(state_of(&bench, note).await, StateName::Quarantined);
    };
    aside().await;
    let path = format!("/console/writebacks/{note}");
    let review = bench.get(&path, &clinician.cookie).await;
    assert!(review.body.contains("Let it go on"), "{}", review.body);
    let form = [("csrf", clinician.csrf.as_str()), ("reason", "")];
    let unsaid = bench
        .post(&format!("{path}/release"), &clinician.cookie, &form)
        .await;
    assert_eq!(unsaid.status, StatusCode::UNPROCESSABLE_ENTITY);
    let form = [
        ("csrf", clinician.csrf.as_str()),
        ("reason", "I read it; it is right."),
    ];
    let released = bench
        .post(&format!("{path}/release"), &clinician.cookie, &form)
        .await;
    assert_eq!(released.status, StatusCode::SEE_OTHER, "{}", released.body);
    assert_eq!(state_of(&bench, note).await, StateName::AwaitingApproval);
    aside().await;
    let dropped = bench
        .post(&format!("{path}/drop"), &clinician.cookie, &form)
        .await;
    assert_eq!(dropped.status, StatusCode::SEE_OTHER, "{}", dropped.body);
    assert_eq!(state_of(&bench, note).await, StateName::Refused);
}
