//! Setting up, signing in and out, forms, and what every answer forbids.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use chaperone_core::event::StreamId;
use chaperone_core::principal::Role;

use super::bench::{Bench, PASSWORD, encode};

#[tokio::test]
async fn the_first_visitor_sets_up_and_the_next_one_signs_in() {
    let bench = Bench::new().await;
    let sign_in = bench.get("/console/sign-in", "").await;
    assert_eq!(
        (sign_in.status, sign_in.location()),
        (StatusCode::SEE_OTHER, "/console/set-up")
    );
    let code = bench
        .engine
        .bootstrap_code()
        .await
        .unwrap()
        .unwrap()
        .expose();
    let form = |code: &str| {
        bench_form(&[
            ("code", code),
            ("account", "admin"),
            ("password", PASSWORD),
            ("password_again", PASSWORD),
            ("roles", "clinician"),
            ("roles", "pharmacist"),
        ])
    };
    let wrong = bench
        .send(
            Request::post("/console/set-up"),
            "",
            form("0000-0000-0000-0000"),
        )
        .await;
    assert_eq!(wrong.status, StatusCode::FORBIDDEN);
    assert!(wrong.headers.get(header::SET_COOKIE).is_none());
    let right = bench
        .send(
            Request::post("/console/set-up"),
            "",
            form(&code.to_lowercase()),
        )
        .await;
    assert_eq!(
        (right.status, right.location()),
        (StatusCode::SEE_OTHER, "/console/second-factor"),
        "{}",
        right.body
    );
    let cookie = right.headers[header::SET_COOKIE]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap();
    // Until the second factor is set up, nothing else is open.
    let inbox = bench.get("/console", cookie).await;
    assert_eq!(inbox.location(), "/console/second-factor");
    let page = bench.get("/console/second-factor", cookie).await;
    assert!(page.body.contains("otpauth://totp/Chaperone:admin"));
    // Set-up is closed.
    assert_eq!(
        bench.get("/console/set-up", "").await.location(),
        "/console/sign-in"
    );
    let signed_in = bench
        .post(
            "/console/sign-in",
            "",
            &[("account", "admin"), ("password", PASSWORD), ("code", "")],
        )
        .await;
    assert_eq!(
        (signed_in.status, signed_in.location()),
        (StatusCode::SEE_OTHER, "/console")
    );
    let wrong = bench
        .post(
            "/console/sign-in",
            "",
            &[("account", "admin"), ("password", "wrong"), ("code", "")],
        )
        .await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(wrong.headers.get(header::SET_COOKIE).is_none());
}

fn bench_form(form: &[(&str, &str)]) -> Body {
    Body::from(encode(form))
}

#[tokio::test]
async fn nobody_without_a_session_sees_anything() {
    let bench = Bench::new().await;
    bench.admin().await;
    let stranger = format!("chaperone={}", "0".repeat(64));
    for path in [
        "/console",
        "/console/patients",
        "/console/modes",
        "/console/ledger",
        "/console/ledger/0",
        "/console/health",
        "/console/agents",
        "/console/assign",
        "/console/people",
        "/console/streams/tenant",
    ] {
        for cookie in ["", stranger.as_str()] {
            let answer = bench.get(path, cookie).await;
            assert_eq!(answer.location(), "/console/sign-in", "{path}");
            assert!(answer.body.is_empty(), "{path}");
        }
    }
    assert_eq!(
        bench.get("/console/events", "").await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn every_answer_forbids_storing_embedding_and_foreign_content() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    for (path, cookie) in [
        ("/console", admin.cookie.as_str()),
        ("/console/sign-in", ""),
        ("/console/no-such-page", ""),
    ] {
        let headers = bench.get(path, cookie).await.headers;
        let text = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(text("cache-control"), "no-store", "{path}");
        assert_eq!(text("referrer-policy"), "no-referrer");
        assert_eq!(text("x-content-type-options"), "nosniff");
        let policy = text("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'self'; script-src 'self';"));
        assert!(!policy.contains("unsafe"), "{policy}");
    }
    let style = bench.get("/console/static/console.css", "").await;
    assert_eq!(style.status, StatusCode::OK);
    assert_eq!(style.headers["content-type"], "text/css; charset=utf-8");
}

#[tokio::test]
async fn a_form_without_this_sessions_token_or_from_elsewhere_changes_nothing() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let other = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let form = |csrf: &str| {
        [
            ("csrf", csrf.to_owned()),
            ("scope", "tenant".to_owned()),
            ("mode", "halted".to_owned()),
            ("reason", "a test of the switch".to_owned()),
        ]
    };
    for csrf in ["", "0", other.csrf.as_str()] {
        let fields = form(csrf);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let answer = bench.post("/console/modes", &admin.cookie, &fields).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{csrf}");
    }
    let good = form(&admin.csrf);
    let good: Vec<(&str, &str)> = good.iter().map(|(n, v)| (*n, v.as_str())).collect();
    for (name, value) in [
        ("origin", "https://evil.test"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let request = Request::post("/console/modes").header(name, value);
        let answer = bench
            .send(request, &admin.cookie, Body::from(encode(&good)))
            .await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{name}: {value}");
    }
    assert!(bench.kinds(StreamId::Modes).await.is_empty());
    let request = Request::post("/console/modes")
        .header("origin", "http://127.0.0.1:8080")
        .header("sec-fetch-site", "same-origin");
    let taken = bench
        .send(request, &admin.cookie, Body::from(encode(&good)))
        .await;
    assert_eq!(taken.status, StatusCode::SEE_OTHER, "{}", taken.body);
    assert_eq!(bench.kinds(StreamId::Modes).await, ["mode_switched"]);
    let page = bench.get("/console/modes", &admin.cookie).await;
    assert!(page.body.contains("a test of the switch") && page.body.contains("Halted"));
}

#[tokio::test]
async fn sessions_end_when_idle_and_live_requests_do_not_keep_them() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let live = || Request::get("/console").header("x-chaperone-live", "1");
    bench.clock.advance_s(14 * 60);
    assert_eq!(
        bench
            .send(live(), &admin.cookie, Body::empty())
            .await
            .status,
        StatusCode::OK
    );
    bench.clock.advance_s(60);
    let gone = bench.send(live(), &admin.cookie, Body::empty()).await;
    assert_eq!(
        gone.status,
        StatusCode::UNAUTHORIZED,
        "refreshing is no activity"
    );
    assert_eq!(
        bench.get("/console", &admin.cookie).await.location(),
        "/console/sign-in"
    );
}

#[tokio::test]
async fn signing_out_ends_the_session_for_good() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let out = bench
        .post("/console/sign-out", &admin.cookie, &[("csrf", &admin.csrf)])
        .await;
    assert_eq!(out.location(), "/console/sign-in?after=sign-out");
    assert!(
        out.headers[header::SET_COOKIE]
            .to_str()
            .unwrap()
            .contains("Max-Age=0")
    );
    assert_eq!(
        bench.get("/console", &admin.cookie).await.location(),
        "/console/sign-in"
    );
}

#[tokio::test]
async fn unknown_ids_and_pages_are_not_found() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let nobody = "0".repeat(32);
    for path in [
        format!("/console/writebacks/wb_{nobody}"),
        "/console/writebacks/1".to_owned(),
        format!("/console/patients/pat_{nobody}"),
        "/console/patients/Sample".to_owned(),
        "/console/ledger/999999".to_owned(),
        "/console/ledger/x".to_owned(),
        format!("/console/streams/writeback/wb_{nobody}"),
        "/console/streams/nothing".to_owned(),
        "/console/no-such-page".to_owned(),
    ] {
        let answer = bench.get(&path, &lee.cookie).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn operators_see_no_patients_and_clinicians_manage_no_accounts() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let id = bench.order(&lee, "lisinopril").await;
    for path in ["/console/patients", "/console/assign"] {
        assert_eq!(
            bench.get(path, &admin.cookie).await.status,
            StatusCode::FORBIDDEN,
            "{path}"
        );
        assert_eq!(
            bench.get(path, &lee.cookie).await.status,
            StatusCode::OK,
            "{path}"
        );
    }
    let review = format!("/console/writebacks/{id}");
    let page = bench.get(&review, &admin.cookie).await;
    assert_eq!(
        page.status,
        StatusCode::OK,
        "operators see that it is there"
    );
    assert!(
        !page.body.contains("Una Sample") && !page.body.contains("isinopril"),
        "{}",
        page.body
    );
    let page = bench.get(&review, &lee.cookie).await;
    assert!(page.body.contains("Una Sample") && page.body.contains("isinopril"));
    assert_eq!(
        bench.get("/console/people", &lee.cookie).await.status,
        StatusCode::FORBIDDEN
    );
    let make = [
        ("csrf", lee.csrf.as_str()),
        ("account", "friend"),
        ("roles", "clinician"),
    ];
    assert_eq!(
        bench
            .post("/console/people", &lee.cookie, &make)
            .await
            .status,
        StatusCode::FORBIDDEN
    );
    let switch = [
        ("csrf", lee.csrf.as_str()),
        ("scope", "tenant"),
        ("mode", "halted"),
        ("reason", "not mine to move"),
    ];
    assert_eq!(
        bench
            .post("/console/modes", &lee.cookie, &switch)
            .await
            .status,
        StatusCode::FORBIDDEN
    );
}
