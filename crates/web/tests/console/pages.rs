//! The other pages: patients, people, ledger, and what all pages have in common.

use axum::http::StatusCode;
use chaperone_core::event::StreamId;
use chaperone_core::principal::Role;

use super::bench::{Bench, HOSTILE, PASSWORD};

/// Largest page, in bytes.
const PAGE_BYTES_MAX: usize = 50_000;

#[tokio::test]
async fn every_look_at_a_patient_is_recorded_once_in_five_minutes() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let id = bench.note(&lee).await;
    let account = StreamId::Account(lee.human.account.clone());
    let looks = async || {
        bench
            .kinds(account.clone())
            .await
            .iter()
            .filter(|kind| *kind == "read_permitted")
            .count()
    };
    assert_eq!(looks().await, 0);
    let path = format!("/console/writebacks/{id}");
    bench.get(&path, &lee.cookie).await;
    bench.get(&path, &lee.cookie).await;
    assert_eq!(looks().await, 1);
    bench.get("/console", &lee.cookie).await;
    assert_eq!(looks().await, 2, "the list is another look");
    bench.clock.advance_s(301);
    bench.get(&path, &lee.cookie).await;
    assert_eq!(looks().await, 3);
    bench.get(&path, &admin.cookie).await;
    let admins = StreamId::Account(admin.human.account.clone());
    assert!(
        !bench
            .kinds(admins)
            .await
            .iter()
            .any(|kind| kind == "read_permitted")
    );
}

#[tokio::test]
async fn a_patient_is_found_and_put_before_an_agent_without_a_name_in_an_address() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let search = async |query: &str| {
        let form = [("csrf", lee.csrf.as_str()), ("query", query)];
        bench
            .post("/console/assign/search", &lee.cookie, &form)
            .await
    };
    let nobody = search("Nobodyson").await;
    assert!(nobody.body.contains("Nobody matches."));
    let hostile = search("Ben").await;
    assert!(hostile.body.contains("1980-07-08") && !hostile.body.contains(HOSTILE));
    let found = search("Sample 1950-02-03").await;
    let patient = found.after("name=\"patient\" value=\"").to_owned();
    assert!(patient.starts_with("pat_"));
    let assign = async |pair: &str, patient: &str| {
        let form = [
            ("csrf", lee.csrf.as_str()),
            ("patient", patient),
            ("pair", pair),
        ];
        bench.post("/console/assign", &lee.cookie, &form).await
    };
    let granted = assign("scribe-agent/draft-note", &patient).await;
    assert_eq!(granted.status, StatusCode::OK);
    assert!(granted.body.contains("grant_"), "{}", granted.body);
    let foreign = assign("scribe-agent/submit-order", &patient).await;
    assert_eq!(foreign.status, StatusCode::UNPROCESSABLE_ENTITY);
    let nobody = assign(
        "scribe-agent/draft-note",
        &format!("pat_{}", "0".repeat(32)),
    )
    .await;
    assert!(nobody.status.is_client_error() || nobody.status.is_server_error());
    assert!(!nobody.body.contains("grant_"));
}

#[tokio::test]
async fn administrators_make_accounts_whose_code_is_shown_once() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let make = async |account: &str, role: &str| {
        let form = [
            ("csrf", admin.csrf.as_str()),
            ("account", account),
            ("roles", role),
        ];
        bench.post("/console/people", &admin.cookie, &form).await
    };
    let bad = make("Dr Lee", "clinician").await;
    assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY);
    let none = make("dr-lee", "").await;
    assert_eq!(none.status, StatusCode::UNPROCESSABLE_ENTITY);
    let made = make("dr-lee", "clinician").await;
    let code = made.body.split("id=\"enrolment-code\">").nth(1).unwrap()[..19].to_owned();
    assert!(
        !bench
            .get("/console/people", &admin.cookie)
            .await
            .body
            .contains(&code)
    );
    let enrol = async |code: &str| {
        let form = [
            ("account", "dr-lee"),
            ("code", code),
            ("password", PASSWORD),
            ("password_again", PASSWORD),
        ];
        bench.post("/console/enrol", "", &form).await
    };
    assert_eq!(
        enrol("0000-0000-0000-0000").await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(enrol(&code).await.location(), "/console/second-factor");
    assert_eq!(enrol(&code).await.status, StatusCode::FORBIDDEN, "used");
}

#[tokio::test]
async fn the_ledger_shows_its_entries_their_proofs_and_that_it_verifies() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let unsigned = bench.get("/console/ledger/0", &admin.cookie).await;
    assert!(
        unsigned
            .body
            .contains("No signed checkpoint covers this entry yet")
    );
    bench.engine.integrate_ledger().await.unwrap();
    let page = bench.get("/console/ledger", &admin.cookie).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.contains("Account admin was made"));
    let entry = bench.get("/console/ledger/0", &admin.cookie).await;
    assert!(
        entry.body.contains("holds this entry; checked just now"),
        "{}",
        entry.body
    );
    let verified = bench
        .post(
            "/console/ledger/verify",
            &admin.cookie,
            &[("csrf", &admin.csrf)],
        )
        .await;
    assert!(
        verified.body.contains("The ledger verifies"),
        "{}",
        verified.body
    );
}

#[tokio::test]
async fn pages_stay_small_and_their_titles_and_addresses_name_nobody() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let lee = bench
        .person(&admin, "dr-lee", &[Role::Clinician, Role::Pharmacist])
        .await;
    let mut newest = bench.note(&lee).await;
    for _ in 0..3 {
        newest = bench.order(&lee, "lisinopril").await;
    }
    bench.engine.integrate_ledger().await.unwrap();
    let patients = bench.get("/console/patients", &lee.cookie).await;
    let queue = format!(
        "/console/patients/pat_{}",
        patients.after("href=\"/console/patients/pat_")
    );
    for path in [
        "/console".to_owned(),
        "/console/patients".to_owned(),
        queue,
        format!("/console/writebacks/{newest}"),
        "/console/modes".to_owned(),
        "/console/ledger".to_owned(),
        "/console/ledger/3".to_owned(),
        "/console/health".to_owned(),
        "/console/agents".to_owned(),
        "/console/assign".to_owned(),
        format!("/console/streams/writeback/{newest}"),
    ] {
        let page = bench.get(&path, &lee.cookie).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.body);
        assert!(
            page.body.len() < PAGE_BYTES_MAX,
            "{path}: {} bytes",
            page.body.len()
        );
        let title = page
            .body
            .split("<title>")
            .nth(1)
            .unwrap()
            .split("</title>")
            .next()
            .unwrap();
        assert!(
            !title.contains("Sample") && !title.contains("Una"),
            "{title}"
        );
        for address in page
            .body
            .split("href=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap())
        {
            assert!(
                !address.contains("Sample") && !address.contains("MRN"),
                "{path}: {address}"
            );
        }
        for forbidden in ["style=\"", " onclick", "<style", "javascript:"] {
            assert!(!page.body.contains(forbidden), "{path}: {forbidden}");
        }
        assert_eq!(page.body.matches("<script").count(), 1, "{path}");
    }
}
