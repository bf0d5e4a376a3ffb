//! The console over HTTP: who gets in, what a form must carry, what each role sees and may do, and a
//! proposal from the inbox to the queue. Beside each permitted thing the nearest forbidden one.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod bench;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use bench::{Bench, HOSTILE, PASSWORD, encode};
use chaperone_core::event::StreamId;
use chaperone_core::evidence::Strategy;
use chaperone_core::principal::Role;
use chaperone_core::writeback::FailureCause;
use chaperone_testkit::WriteFault;

/// Largest page, in bytes.
const PAGE_BYTES_MAX: usize = 50_000;

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

#[tokio::test]
async fn an_order_goes_from_the_inbox_over_the_second_factor_into_the_queue() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let id = bench.order(&lee, "lisinopril").await;
    let inbox = bench.get("/console", &lee.cookie).await;
    assert!(
        inbox.body.contains(&format!("/console/writebacks/{id}")),
        "{}",
        inbox.body
    );
    assert!(inbox.body.contains("US, 76 y") && !inbox.body.contains("Una Sample"));

    let review = bench
        .get(&format!("/console/writebacks/{id}"), &lee.cookie)
        .await;
    for shown in [
        "Una Sample",
        "1950-02-03",
        "MRN0001",
        "amoxicillin",
        "20 mg",
        "Approve, with code",
    ] {
        assert!(review.body.contains(shown), "{shown}: {}", review.body);
    }
    assert!(!review.body.contains(HOSTILE), "the agent's words are text");
    let questions = [
        "What changes",
        "For whom",
        "Why",
        "What was checked",
        "What happens if it is approved",
    ];
    let places: Vec<usize> = questions
        .iter()
        .map(|question| review.body.find(&format!(">{question}")).unwrap())
        .collect();
    assert!(places.is_sorted(), "{places:?}");
    let digest = review.after("name=\"digest\" value=\"").to_owned();

    let approve = format!("/console/writebacks/{id}/approve");
    let form = [
        ("csrf", lee.csrf.as_str()),
        ("digest", digest.as_str()),
        ("opened", "0"),
    ];
    let asked = bench.post(&approve, &lee.cookie, &form).await;
    assert_eq!(asked.status, StatusCode::SEE_OTHER, "{}", asked.body);
    let step_up = asked.location().to_owned();
    assert!(step_up.starts_with(&format!("/console/writebacks/{id}/step-up/step_")));
    let page = bench.get(&step_up, &lee.cookie).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.contains("Una Sample"));

    // Nobody else can use it, and a wrong code gets nowhere.
    let mallory = bench.person(&admin, "dr-moe", &[Role::Clinician]).await;
    let code = bench.code(&mallory);
    let sent = [
        ("csrf", mallory.csrf.as_str()),
        ("code", code.as_str()),
        ("opened", "0"),
    ];
    assert_eq!(
        bench.post(&step_up, &mallory.cookie, &sent).await.status,
        StatusCode::CONFLICT
    );
    let sent = [
        ("csrf", lee.csrf.as_str()),
        ("code", "000000"),
        ("opened", "0"),
    ];
    let wrong = bench.post(&step_up, &lee.cookie, &sent).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);

    let code = bench.code(&lee);
    let sent = [
        ("csrf", lee.csrf.as_str()),
        ("code", code.as_str()),
        ("opened", "0"),
    ];
    let done = bench.post(&step_up, &lee.cookie, &sent).await;
    assert_eq!(
        done.location(),
        format!("/console/writebacks/{id}?done=approved"),
        "{}",
        done.body
    );
    let again = bench.post(&step_up, &lee.cookie, &sent).await;
    assert_eq!(again.status, StatusCode::CONFLICT, "a step-up is used once");
    let page = bench.get(done.location(), &lee.cookie).await;
    assert!(page.body.contains("in the queue") && !page.body.contains("id=\"approve\""));
    let kinds = bench.kinds(StreamId::Writeback(id)).await;
    assert_eq!(kinds.last().map(String::as_str), Some("writeback.approved"));
}

#[tokio::test]
async fn an_approval_names_what_was_on_the_screen() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let note = bench.note(&lee).await;
    let other = bench.order(&lee, "lisinopril").await;
    let digest_of = async |id| {
        let page = bench
            .get(&format!("/console/writebacks/{id}"), &lee.cookie)
            .await;
        page.after("name=\"digest\" value=\"").to_owned()
    };
    let (note_digest, other_digest) = (digest_of(note).await, digest_of(other).await);
    let approve = async |digest: &str, cookie: &str, csrf: &str| {
        let form = [("csrf", csrf), ("digest", digest), ("opened", "0")];
        bench
            .post(
                &format!("/console/writebacks/{note}/approve"),
                cookie,
                &form,
            )
            .await
    };
    assert_eq!(
        approve("", &lee.cookie, &lee.csrf).await.status,
        StatusCode::BAD_REQUEST
    );
    let swapped = approve(&other_digest, &lee.cookie, &lee.csrf).await;
    assert_eq!(swapped.status, StatusCode::CONFLICT);
    let desk = bench.person(&admin, "front-desk", &[Role::Scheduler]).await;
    let not_hers = approve(&note_digest, &desk.cookie, &desk.csrf).await;
    assert_eq!(not_hers.status, StatusCode::FORBIDDEN);
    let taken = approve(&note_digest, &lee.cookie, &lee.csrf).await;
    assert_eq!(
        taken.location(),
        format!("/console/writebacks/{note}?done=approved"),
        "{}",
        taken.body
    );
    let twice = approve(&note_digest, &lee.cookie, &lee.csrf).await;
    assert_eq!(twice.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn rejecting_needs_a_reason_and_the_reason_is_shown_as_text() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let id = bench.note(&lee).await;
    let page = bench
        .get(&format!("/console/writebacks/{id}"), &lee.cookie)
        .await;
    assert!(!page.body.contains(HOSTILE), "the note is text");
    let digest = page.after("name=\"digest\" value=\"").to_owned();
    let reject = async |reason: &str| {
        let form = [
            ("csrf", lee.csrf.as_str()),
            ("digest", digest.as_str()),
            ("reason", reason),
        ];
        bench
            .post(
                &format!("/console/writebacks/{id}/reject"),
                &lee.cookie,
                &form,
            )
            .await
    };
    let bare = reject("  ").await;
    assert_eq!(bare.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(bare.body.contains("Say why"));
    let done = reject(&format!("wrong visit {HOSTILE}")).await;
    assert_eq!(
        done.location(),
        format!("/console/writebacks/{id}?done=rejected")
    );
    let page = bench.get(done.location(), &lee.cookie).await;
    assert!(page.body.contains("wrong visit") && !page.body.contains(HOSTILE));
    assert!(
        bench
            .get("/console", &lee.cookie)
            .await
            .body
            .contains("Nothing needs you.")
    );
}

#[tokio::test]
async fn the_second_of_two_people_does_not_see_the_first_verdict() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let requester = bench.person(&admin, "dr-req", &[Role::Clinician]).await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let pharmacist = bench.person(&admin, "pharma", &[Role::Pharmacist]).await;
    let id = bench.order(&requester, "warfarin").await;
    let path = format!("/console/writebacks/{id}");
    let requesters = bench.get(&path, &requester.cookie).await;
    assert!(
        !requesters.body.contains("id=\"approve\""),
        "nobody approves what they asked for"
    );
    let page = bench.get(&path, &lee.cookie).await;
    let digest = page.after("name=\"digest\" value=\"").to_owned();
    let form = [
        ("csrf", lee.csrf.as_str()),
        ("digest", digest.as_str()),
        ("opened", "0"),
    ];
    let step_up = bench
        .post(&format!("{path}/approve"), &lee.cookie, &form)
        .await;
    let code = bench.code(&lee);
    let sent = [
        ("csrf", lee.csrf.as_str()),
        ("code", code.as_str()),
        ("opened", "0"),
    ];
    let half = bench.post(step_up.location(), &lee.cookie, &sent).await;
    assert_eq!(
        half.location(),
        format!("{path}?done=approved-half"),
        "{}",
        half.body
    );

    // The first person sees that it waits; the second sees neither who nor what.
    let mine = bench.get("/console", &lee.cookie).await;
    assert!(mine.body.contains("waiting for the other person"));
    let events = bench
        .store
        .stream(&bench::tenant(), &StreamId::Writeback(id))
        .await
        .unwrap();
    let seq = events.last().unwrap().seq;
    for hidden in [
        path.clone(),
        "/console".to_owned(),
        "/console/ledger".to_owned(),
        format!("/console/ledger/{seq}"),
        format!("/console/streams/writeback/{id}"),
    ] {
        let page = bench.get(&hidden, &pharmacist.cookie).await;
        assert_eq!(page.status, StatusCode::OK, "{hidden}");
        assert!(!page.body.contains("Approved as"), "{hidden}");
        assert!(!page.body.contains("writeback.approved"), "{hidden}");
    }
    assert!(
        bench
            .get(&path, &lee.cookie)
            .await
            .body
            .contains("Approved as clinician")
    );

    let form = [
        ("csrf", pharmacist.csrf.as_str()),
        ("digest", digest.as_str()),
        ("opened", "0"),
    ];
    let done = bench
        .post(&format!("{path}/approve"), &pharmacist.cookie, &form)
        .await;
    assert_eq!(
        done.location(),
        format!("{path}?done=approved"),
        "{}",
        done.body
    );
    assert!(
        bench
            .get(&path, &pharmacist.cookie)
            .await
            .body
            .contains("Approved as clinician")
    );
}

#[tokio::test]
async fn nobody_approves_blind_when_the_ehr_is_down() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let id = bench.note(&lee).await;
    bench.ehr.set_down(true);
    let page = bench
        .get(&format!("/console/writebacks/{id}"), &lee.cookie)
        .await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(
        page.body.contains("The patient cannot be shown") && !page.body.contains("id=\"approve\"")
    );
    let inbox = bench.get("/console", &lee.cookie).await;
    assert!(inbox.body.contains("EHR does not answer"), "{}", inbox.body);
    assert!(
        bench
            .get("/console/health", &lee.cookie)
            .await
            .body
            .contains("does not answer")
    );
}

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
        StatusCode::FORBIDDEN
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
