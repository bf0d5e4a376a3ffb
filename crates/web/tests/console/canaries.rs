//! Canaries at the console: staff are told that there may be some, nothing on a page tells one apart, and whoever decided
//! about one is told at once what it was.

use chaperone_core::event::StreamId;
use chaperone_core::ids::WritebackId;
use chaperone_core::ports::Listing;
use chaperone_core::principal::Role;
use serde_json::json;

use crate::bench::*;

/// More than enough for the draw of any week to come.
const STEPS_MAX: u32 = 80;

/// A note that reads as an agent's would.
async fn note(bench: &Bench, by: &Someone, key: &str) -> WritebackId {
    let caller = bench.envelope(by, "scribe-agent", "draft-note", "a").await;
    let list = bench.call(&caller, "list_encounters", json!({})).await;
    let arguments = json!({
        "encounter_token": list["resources"][0]["id"], "text": "Seen today. Plan unchanged.",
        "idempotency_key": key, "rationale": "The visit ended.", "confidence": 0.9,
    });
    let answer = bench.call(&caller, "draft_note", arguments).await;
    answer["proposal"].as_str().unwrap().parse().unwrap()
}

async fn canary(bench: &Bench) -> WritebackId {
    for _ in 0..STEPS_MAX {
        bench.engine.tend_canaries().await.unwrap();
        let listing = Listing {
            index: Some("canary".to_owned()),
            limit: 1,
            ..Listing::default()
        };
        let tenant = tenant();
        let rows = bench.store.projections(&tenant, "writeback", listing);
        if let Some(row) = rows.await.unwrap().first() {
            return row.value["id"].as_str().unwrap().parse().unwrap();
        }
        bench.clock.advance_s(3 * 3_600);
    }
    panic!("no canary came in {STEPS_MAX} steps")
}

/// The tags of a page with the names of their attributes and their classes: what it says is left out, and of a list of
/// elements how long it is.
fn skeleton(page: &str) -> Vec<String> {
    let mut tags: Vec<String> = Vec::new();
    for piece in page.split('<').skip(1) {
        let tag = piece.split('>').next().unwrap();
        let mut parts = tag.split('"');
        let mut shape = String::new();
        while let Some(name) = parts.next() {
            shape.push_str(name);
            let value = parts.next().unwrap_or_default();
            if name.ends_with("class=") || name.ends_with("name=") || name.ends_with("id=") {
                shape.push_str(value);
            }
        }
        tags.push(shape);
    }
    // A list is as long as it is, and a name may have allergies or none.
    let is_of_a_list = |tag: &String| ["li", "/li", "ul", "/ul"].contains(&tag.as_str());
    tags.retain(|tag| !is_of_a_list(tag));
    tags.dedup();
    tags
}

/// The part of a page between two markers.
fn part<'p>(page: &'p str, from: &str, to: &str) -> &'p str {
    let rest = page
        .split_once(from)
        .unwrap_or_else(|| panic!("no {from}"))
        .1;
    rest.split_once(to).map_or(rest, |(part, _)| part)
}

#[tokio::test]
async fn a_page_of_a_canary_tells_nothing_until_it_is_decided() {
    let bench = Bench::with_canaries().await;
    let admin = bench.admin().await;
    let early = bench.person(&admin, "ada", &[Role::Clinician]).await;
    note(&bench, &early, "first").await;
    let id = canary(&bench).await;
    let by = bench.person(&admin, "bea", &[Role::Clinician]).await;
    let real = note(&bench, &by, "second").await;

    let inbox = bench.get("/console", &by.cookie).await.body;
    assert!(inbox.contains("may be tests"), "staff are told: {inbox}");
    let row = |id: WritebackId| {
        let row = part(&inbox, &format!("<li data-key=\"{id}\">"), "</li>");
        skeleton(row)
    };
    assert_eq!(row(id), row(real));

    let page = async |id: WritebackId| {
        let path = format!("/console/writebacks/{id}");
        let answer = bench.get(&path, &by.cookie).await;
        (answer.status, answer.body)
    };
    let ((status, one), (_, other)) = (page(id).await, page(real).await);
    assert!(status.is_success());
    for telling in ["canary", "Canary", "invented", "imagined"] {
        assert!(!one.contains(telling), "{telling}");
    }
    let whole = |page: &str| skeleton(part(page, "<div class=\"reviewing\">", "</main>"));
    let (one_tags, other_tags) = (whole(&one), whole(&other));
    assert_eq!(one_tags, other_tags);
    assert!(
        !one.contains("/console/streams/envelope/")
            && !other.contains("/console/streams/envelope/")
    );

    // The patient's page, the stream and the ledger say no more.
    let patient = part(&one, "<a href=\"/console/patients/", "\"");
    let answer = bench
        .get(&format!("/console/patients/{patient}"), &by.cookie)
        .await;
    assert!(answer.status.is_success());
    assert!(!answer.body.contains("anary"), "{}", answer.body);
    for path in [
        format!("/console/streams/writeback/{id}"),
        "/console/ledger".to_owned(),
        "/console/patients".to_owned(),
        "/console/agents".to_owned(),
    ] {
        let answer = bench.get(&path, &by.cookie).await;
        assert!(answer.status.is_success(), "{path}");
        assert!(!answer.body.contains("anary"), "{path}: {}", answer.body);
    }

    // Approved: told at once, and nobody else is.
    let digest = part(&one, "name=\"digest\" value=\"", "\"").to_owned();
    let form = [
        ("csrf", by.csrf.as_str()),
        ("digest", digest.as_str()),
        ("opened", "0"),
        ("from", "inbox"),
    ];
    let path = format!("/console/writebacks/{id}/approve");
    let taken = bench.post(&path, &by.cookie, &form).await;
    assert_eq!(
        taken.location(),
        format!("/console/writebacks/{id}?done=tested"),
        "{}",
        taken.body
    );
    let told = bench.get(taken.location(), &by.cookie).await.body;
    assert!(
        told.contains("This was a test, and you approved it."),
        "{told}"
    );
    assert!(told.contains("What was wrong:"), "{told}");
    let colleague = bench.person(&admin, "cy", &[Role::Clinician]).await;
    let closed = bench
        .get(&format!("/console/writebacks/{id}"), &colleague.cookie)
        .await;
    assert_eq!(closed.status, axum::http::StatusCode::NOT_FOUND);
    bench.work().await;
    assert_eq!(
        bench.kinds(StreamId::Writeback(id)).await,
        ["writeback.canary_seeded", "writeback.canary_missed"]
    );
    assert!(bench.ehr.written().is_empty());

    // By row and role on the page of overseeing, and too few to say a share.
    let overseer = bench.person(&admin, "dee", &[Role::Clinician]).await;
    let page = bench.get("/console/oversight", &overseer.cookie).await.body;
    let attention = part(&page, "id=\"attention\"", "</section>");
    assert!(attention.contains("note-draft") && attention.contains("too few to say"));
    assert!(!attention.contains("bea"), "{attention}");
}

#[tokio::test]
async fn without_canaries_nothing_is_said_of_them_and_nothing_kept_back() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let by = bench.person(&admin, "ada", &[Role::Clinician]).await;
    let id = note(&bench, &by, "first").await;
    let inbox = bench.get("/console", &by.cookie).await.body;
    assert!(!inbox.contains("may be tests"));
    let page = bench
        .get(&format!("/console/writebacks/{id}"), &by.cookie)
        .await
        .body;
    assert!(page.contains("/console/streams/envelope/"));
    assert!(page.contains("Passed validation"));
}
