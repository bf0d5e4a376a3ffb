//! Coming from inside the EHR over HTTP: cookies, redirects and pages, and what another site, another browser or a link
//! can make of them. What a launch may lead to is with the engine's tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use chaperone_core::ids::AccountName;
use chaperone_core::launch::{LaunchContext, LaunchServerFailed};
use chaperone_core::phi::Phi;
use chaperone_core::principal::Role;
use chaperone_engine::launch::Launches;
use chaperone_testkit::FakeLaunchServer;

use crate::bench::*;

const EHR: &str = "http://ehr.test/fhir";
const BEGIN: &str = "/console/launch?iss=http%3A%2F%2Fehr.test%2Ffhir&launch=xyz";

async fn bench() -> (Bench, Arc<FakeLaunchServer>) {
    let server = Arc::new(FakeLaunchServer::of(EHR));
    let users = [("lee", "dr-lee"), ("ana", "nurse-ana"), ("ada", "admin")];
    let user = |(id, account): &(&str, &str)| {
        let account = AccountName::new(*account).unwrap();
        (format!("Practitioner/{id}"), account)
    };
    let launches = Launches {
        server: server.clone(),
        users: users.iter().map(user).collect::<BTreeMap<_, _>>(),
        card_clients: Vec::new(),
    };
    (Bench::with_launches(launches).await, server)
}

fn open(user: &str, patient: Option<&str>, card: Option<String>) -> LaunchContext {
    LaunchContext {
        user: format!("Practitioner/{user}"),
        patient: patient.map(|id| Phi::new(id.to_owned())),
        app_context: card,
    }
}

/// The value that a cookie is set to, and how.
fn set(answer: &Answer, name: &str) -> Option<(String, String)> {
    let all = answer.headers.get_all(header::SET_COOKIE).iter();
    let all = all.map(|value| value.to_str().unwrap());
    let one = all.filter_map(|text| text.split_once(';'));
    one.filter_map(|(pair, how)| Some((pair.split_once('=')?, how)))
        .find(|((one, _), _)| *one == name)
        .map(|((_, value), how)| (value.to_owned(), how.to_owned()))
}

/// Begins a launch: the cookie of the browser, and where it comes back to.
async fn begun(
    bench: &Bench,
    server: &FakeLaunchServer,
    context: LaunchContext,
) -> (String, String) {
    let answer = bench.get(BEGIN, "").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    let (value, how) = set(&answer, "chaperone-launch").unwrap();
    assert!(
        how.contains("HttpOnly") && how.contains("SameSite=Lax") && how.contains("Max-Age=600")
    );
    let through = server.let_through(answer.location(), context).unwrap();
    let back = format!(
        "/console/launch/return?code={}&state={}&iss=http%3A%2F%2Fehr.test",
        through.code, through.state
    );
    (format!("chaperone-launch={value}"), back)
}

#[tokio::test]
async fn a_launch_leads_by_one_click_to_the_patient_who_is_open() {
    let (bench, server) = bench().await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let ana = bench.person(&admin, "nurse-ana", &[Role::Rn]).await;
    let id = bench.order(&lee, "lisinopril").await;
    let token = bench.engine.writeback(id).await.unwrap().unwrap();
    let token = token.patient.unwrap();

    let (browser, back) = begun(&bench, &server, open("lee", Some("a"), None)).await;
    let page = bench.get(&back, &browser).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    assert!(page.body.contains("Go on as dr-lee?"));
    // Who is open in the EHR is said by no page before the session, and nobody is signed in by a link.
    for hidden in [
        "Sample",
        "MRN0001",
        &token.to_string(),
        &id.to_string(),
        "1950",
    ] {
        assert!(!page.body.contains(hidden), "{hidden}");
    }
    assert!(set(&page, "chaperone").is_none());
    assert_eq!(
        page.headers[header::CACHE_CONTROL].to_str().unwrap(),
        "no-store"
    );

    let ticket = page.after("name=\"ticket\" value=\"").to_owned();
    // The nurse was signed in here so far.
    let cookies = format!("{browser}; {}", ana.cookie);
    let form = [("ticket", ticket.as_str())];
    let entered = bench.post("/console/launch/enter", &cookies, &form).await;
    assert_eq!(entered.status, StatusCode::SEE_OTHER, "{}", entered.body);
    assert_eq!(entered.location(), format!("/console/patients/{token}"));
    let (session, how) = set(&entered, "chaperone").unwrap();
    assert!(how.contains("SameSite=Strict") && how.contains("HttpOnly"));
    let (ended, how) = set(&entered, "chaperone-launch").unwrap();
    assert!(ended.is_empty() && how.contains("Max-Age=0"));
    let cookie = format!("chaperone={session}");
    let queue = bench.get(entered.location(), &cookie).await;
    assert!(queue.body.contains("Sample") && queue.body.contains("isinopril"));
    // A second factor is asked for as ever, and the nurse is signed out.
    let review = bench
        .get(&format!("/console/writebacks/{id}"), &cookie)
        .await;
    assert!(review.body.contains("second factor"), "{}", review.body);
    let gone = bench.get("/console", &ana.cookie).await;
    assert_eq!(gone.location(), "/console/sign-in");

    let card = Some(id.to_string());
    let (browser, back) = begun(&bench, &server, open("lee", Some("a"), card)).await;
    let page = bench.get(&back, &browser).await;
    assert!(page.body.contains("the proposal that the card named"));
    let ticket = page.after("name=\"ticket\" value=\"").to_owned();
    let form = [("ticket", ticket.as_str())];
    let entered = bench.post("/console/launch/enter", &browser, &form).await;
    assert_eq!(entered.location(), format!("/console/writebacks/{id}"));

    // Of somebody about whom no agent was ever asked, there is nothing here.
    let (browser, back) = begun(&bench, &server, open("lee", Some("b"), None)).await;
    let page = bench.get(&back, &browser).await;
    let ticket = page.after("name=\"ticket\" value=\"").to_owned();
    let form = [("ticket", ticket.as_str())];
    let entered = bench.post("/console/launch/enter", &browser, &form).await;
    assert_eq!(entered.location(), "/console/launch/nothing");
    let (session, _) = set(&entered, "chaperone").unwrap();
    let nothing = bench
        .get(entered.location(), &format!("chaperone={session}"))
        .await;
    assert!(nothing.body.contains("Nothing waits here") && !nothing.body.contains("Ben"));
}

#[tokio::test]
async fn another_site_or_browser_makes_nothing_of_a_launch() {
    let (bench, server) = bench().await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    bench.person(&admin, "nurse-ana", &[Role::Rn]).await;
    let (browser, back) = begun(&bench, &server, open("lee", None, None)).await;
    let (attackers, theirs) = begun(&bench, &server, open("ana", None, None)).await;
    // A code and a state in another browser than the one that asked: the attacker's in the victim's, and the other way
    // round; with no cookie, and with a session in place of one.
    for (path, cookie) in [
        (&theirs, browser.as_str()),
        (&back, attackers.as_str()),
        (&back, ""),
        (&back, lee.cookie.as_str()),
    ] {
        let refused = bench.get(path, cookie).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        assert!(refused.body.contains("began in another browser"));
        assert!(set(&refused, "chaperone").is_none());
    }
    let page = bench.get(&back, &browser).await;
    let ticket = page.after("name=\"ticket\" value=\"").to_owned();
    let again = bench.get(&back, &browser).await;
    assert_eq!(again.status, StatusCode::FORBIDDEN);
    // The click comes from our page and from this browser, or it is none.
    let enter = async |cookie: &str, site: Option<&str>| {
        let mut request = Request::post("/console/launch/enter");
        if let Some(site) = site {
            request = request.header("sec-fetch-site", site);
        }
        let body = Body::from(format!("ticket={ticket}"));
        bench.send(request, cookie, body).await
    };
    for site in ["cross-site", "same-site", "none"] {
        let refused = enter(&browser, Some(site)).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{site}");
    }
    assert_eq!(enter(&attackers, None).await.status, StatusCode::FORBIDDEN);
    assert_eq!(enter("", None).await.status, StatusCode::FORBIDDEN);
    let entered = enter(&browser, Some("same-origin")).await;
    assert_eq!(entered.location(), "/console");
    // A session that somebody fixed before is not the one that is opened.
    let (session, _) = set(&entered, "chaperone").unwrap();
    assert!(!browser.contains(&session) && session != ticket);
    assert_eq!(
        enter(&browser, Some("same-origin")).await.status,
        StatusCode::FORBIDDEN
    );
    // No address of a request is ever gone to.
    for extra in [
        "&redirect_uri=https%3A%2F%2Fevil.example",
        "&next=https%3A%2F%2Fevil.example",
        "&authorize=https%3A%2F%2Fevil.example",
    ] {
        let answer = bench.get(&format!("{BEGIN}{extra}"), "").await;
        assert!(
            answer
                .location()
                .starts_with("http://ehr.test/authorize?state="),
            "{extra}"
        );
        let state = answer.location().split('=').nth(1).unwrap();
        let asked = server.asked(state).unwrap();
        assert_eq!(
            asked.redirect_uri,
            "http://127.0.0.1:8080/console/launch/return"
        );
        assert_eq!(asked.challenge.len(), 43);
    }
}

#[tokio::test]
async fn who_is_refused_hears_what_to_do_and_nobody_is_named() {
    let (bench, server) = bench().await;
    let admin = bench.admin().await;
    bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let launch = "/console/launch";
    for (path, status, says) in [
        (
            format!("{launch}?iss=https%3A%2F%2Fevil.example&launch=xyz"),
            StatusCode::FORBIDDEN,
            "not connected here",
        ),
        (
            launch.to_owned(),
            StatusCode::BAD_REQUEST,
            "not of the form",
        ),
        (
            format!("{BEGIN}&iss=https%3A%2F%2Fevil.example"),
            StatusCode::BAD_REQUEST,
            "a field twice",
        ),
        (
            format!("{BEGIN}{}", "x".repeat(20_000)),
            StatusCode::BAD_REQUEST,
            "too long",
        ),
        (
            "/console/launch/return?code=x&state=y".to_owned(),
            StatusCode::FORBIDDEN,
            "Open Chaperone from the EHR once more",
        ),
    ] {
        let answer = bench.get(&path, "").await;
        assert_eq!(answer.status, status, "{says}");
        let text = answer.body.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(says), "{says}: {text}");
        assert!(!text.contains("evil"));
    }
    for (user, says) in [
        ("stranger", "No account here is linked"),
        ("ana", "not in use yet"),
        ("ada", "sign in at its own page"),
    ] {
        let (browser, back) = begun(&bench, &server, open(user, Some("a"), None)).await;
        let answer = bench.get(&back, &browser).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{user}");
        assert!(answer.body.contains(says), "{}", answer.body);
    }
    let (browser, back) = begun(&bench, &server, open("lee", Some("none"), None)).await;
    let answer = bench.get(&back, &browser).await;
    assert!(answer.body.contains("which patient is open"));
    // The person said no at the EHR: the code that came along counts for nothing.
    let (browser, back) = begun(&bench, &server, open("lee", None, None)).await;
    let answer = bench
        .get(&format!("{back}&error=access_denied"), &browser)
        .await;
    assert!(answer.body.contains("did not let you through"));
    server.fails(Some(LaunchServerFailed::NotAvailable));
    let answer = bench.get(BEGIN, "").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    // Where no launches are taken, there is nothing at the address.
    let without = Bench::new().await;
    let answer = without.get(BEGIN, "").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}
