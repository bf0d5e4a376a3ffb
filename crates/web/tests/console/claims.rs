//! Taking a proposal in hand at the console, and that a decision waits until the change was read. What each refuses in
//! full is with the engine's tests.

use axum::http::StatusCode;
use chaperone_core::principal::Role;

use super::bench::{Answer, Bench, Someone};

async fn decide(bench: &Bench, by: &Someone, path: &str, what: &str) -> Answer {
    let page = bench.get(path, &by.cookie).await;
    let digest = page.after("name=\"digest\" value=\"").to_owned();
    let form = [
        ("csrf", by.csrf.as_str()),
        ("digest", digest.as_str()),
        ("opened", "0"),
        ("reason", "not what was agreed"),
    ];
    bench
        .post(&format!("{path}/{what}"), &by.cookie, &form)
        .await
}

#[tokio::test]
async fn while_a_switch_stands_at_read_only_a_no_is_taken_and_a_yes_waits() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let path = format!("/console/writebacks/{}", bench.note(&lee).await);
    let switch = async |mode: &str| {
        let form = [
            ("csrf", admin.csrf.as_str()),
            ("scope", "tenant"),
            ("mode", mode),
            ("reason", "a drill of the switches"),
        ];
        let answer = bench.post("/console/modes", &admin.cookie, &form).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    };
    const HELD: &str = "A switch holds approvals back";
    const OFFERED: &str = "id=\"approve\"";
    let page = bench.get(&path, &lee.cookie).await;
    assert!(page.body.contains(OFFERED) && !page.body.contains(HELD));
    switch("read_only").await;
    let page = bench.get(&path, &lee.cookie).await;
    assert!(page.body.contains(HELD), "{}", page.body);
    assert!(!page.body.contains(OFFERED) && page.body.contains("id=\"reject\""));
    let yes = decide(&bench, &lee, &path, "approve").await;
    assert_eq!(yes.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(yes.body.contains("you can still say no"), "{}", yes.body);
    let no = decide(&bench, &lee, &path, "reject").await;
    assert_eq!(no.status, StatusCode::SEE_OTHER, "{}", no.body);
}

#[tokio::test]
async fn what_one_has_in_hand_others_see_and_take_over_with_a_note() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let kim = bench.person(&admin, "dr-kim", &[Role::Clinician]).await;
    let id = bench.note(&lee).await;
    let path = format!("/console/writebacks/{id}");
    let post = async |who: &Someone, what: &str, more: &[(&str, &str)]| {
        let mut form = vec![("csrf", who.csrf.as_str())];
        form.extend(more);
        bench
            .post(&format!("{path}/{what}"), &who.cookie, &form)
            .await
    };
    let taken = post(&lee, "claim", &[]).await;
    assert_eq!(
        taken.location(),
        format!("{path}?done=claimed"),
        "{}",
        taken.body
    );
    let inbox = bench.get("/console", &kim.cookie).await;
    assert!(
        inbox.body.contains("in the hands of dr-lee"),
        "{}",
        inbox.body
    );
    let refused = decide(&bench, &kim, &path, "approve").await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.body.contains("in the hands of dr-lee"));
    let refused = post(&kim, "take-over", &[("note", "")]).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let note = "<b>called away</b>";
    let over = post(&kim, "take-over", &[("note", note)]).await;
    assert_eq!(
        over.location(),
        format!("{path}?done=taken-over"),
        "{}",
        over.body
    );
    let page = bench.get(&path, &lee.cookie).await;
    assert!(
        page.body.contains("called away") && !page.body.contains(note),
        "notes are text"
    );
    // Whoever only operates sees neither note nor buttons, and changes nothing.
    let page = bench.get(&path, &admin.cookie).await;
    assert!(!page.body.contains("called away") && !page.body.contains("/take-over"));
    assert_eq!(
        post(&admin, "claim", &[]).await.status,
        StatusCode::FORBIDDEN
    );
    let handed = post(
        &kim,
        "hand-over",
        &[("to", "account:dr-lee"), ("note", "back again")],
    )
    .await;
    assert_eq!(
        handed.location(),
        format!("{path}?done=handed-over"),
        "{}",
        handed.body
    );
    for nobody in ["", "account:", "role:king", "dr-lee"] {
        let refused = post(&lee, "hand-over", &[("to", nobody), ("note", "for you")]).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{nobody}");
    }
    let done = decide(&bench, &lee, &path, "approve").await;
    assert_eq!(
        done.location(),
        format!("{path}?done=approved"),
        "{}",
        done.body
    );
}

#[tokio::test]
async fn a_decision_waits_until_the_change_was_read() {
    let bench = Bench::with_readers().await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let id = bench.note(&lee).await;
    let path = format!("/console/writebacks/{id}");
    let page = bench.get(&path, &lee.cookie).await;
    assert!(
        page.body.contains("data-after-ms=\"2000\""),
        "{}",
        page.body
    );
    for what in ["approve", "reject"] {
        let early = decide(&bench, &lee, &path, what).await;
        assert_eq!(early.status, StatusCode::CONFLICT);
        assert!(early.body.contains("Read it first"), "{}", early.body);
    }
    bench.clock.advance_s(2);
    let done = decide(&bench, &lee, &path, "approve").await;
    assert_eq!(
        done.location(),
        format!("{path}?done=approved"),
        "{}",
        done.body
    );

    // Where a second factor is asked for, the time is asked for first: a code counts once.
    let order = bench.order(&lee, "lisinopril").await;
    let path = format!("/console/writebacks/{order}");
    let page = bench.get(&path, &lee.cookie).await;
    let digest = page.after("name=\"digest\" value=\"").to_owned();
    let form = [
        ("csrf", lee.csrf.as_str()),
        ("digest", digest.as_str()),
        ("opened", "0"),
        ("override", "benefit-outweighs"),
    ];
    let early = bench
        .post(&format!("{path}/approve"), &lee.cookie, &form)
        .await;
    assert!(early.body.contains("Read it first"), "{}", early.body);
    bench.clock.advance_s(4);
    let asked = bench
        .post(&format!("{path}/approve"), &lee.cookie, &form)
        .await;
    assert!(asked.location().contains("/step-up/"), "{}", asked.body);
}

#[tokio::test]
async fn whoever_goes_away_says_who_covers_and_everybody_sees_it() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let kim = bench.person(&admin, "dr-kim", &[Role::Clinician]).await;
    let sam = bench.person(&admin, "dr-sam", &[Role::Clinician]).await;
    let submit = async |who: &Someone, away: &str, cover: &str, from: &str, until: &str| {
        let form = [
            ("csrf", who.csrf.as_str()),
            ("what", "set"),
            ("away", away),
            ("cover", cover),
            ("from", from),
            ("until", until),
        ];
        bench.post("/console/cover", &who.cookie, &form).await
    };
    let (first, last) = ("2026-09-01", "2026-09-03");
    let page = bench.get("/console/cover", &kim.cookie).await;
    assert!(page.body.contains("Nobody has said that they are away"));
    for (away, cover, from, until, status) in [
        ("dr-lee", "dr-sam", first, last, StatusCode::FORBIDDEN),
        (
            "dr-kim",
            "dr-kim",
            first,
            last,
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            "dr-kim",
            "dr-sam",
            last,
            first,
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            "dr-kim",
            "dr-sam",
            "tomorrow",
            last,
            StatusCode::BAD_REQUEST,
        ),
        ("dr-kim", "", first, last, StatusCode::BAD_REQUEST),
    ] {
        let answer = submit(&kim, away, cover, from, until).await;
        assert_eq!(answer.status, status, "{away} {cover} {from}");
    }
    let set = submit(&kim, "dr-kim", "dr-sam", first, last).await;
    assert_eq!(set.location(), "/console/cover?done=cover-set");
    let page = bench.get("/console/cover", &lee.cookie).await;
    assert!(page.body.contains("dr-sam for dr-kim"));
    assert!(
        page.body.contains("2026-09-04 00:00:00 UTC"),
        "{}",
        page.body
    );
    // Others see it, and cannot end it.
    assert!(!page.body.contains("End the cover"));
    let end = async |who: &Someone| {
        let form = [
            ("csrf", who.csrf.as_str()),
            ("what", "end"),
            ("away", "dr-kim"),
        ];
        bench.post("/console/cover", &who.cookie, &form).await
    };
    assert_eq!(end(&lee).await.status, StatusCode::FORBIDDEN);

    let id = bench.order(&lee, "lisinopril").await;
    let review = format!("/console/writebacks/{id}");
    let page = bench.get(&review, &lee.cookie).await;
    assert!(
        page.body.contains("dr-kim (away: goes to dr-sam)"),
        "{}",
        page.body
    );
    let form = [
        ("csrf", lee.csrf.as_str()),
        ("to", "account:dr-kim"),
        ("note", "you know her"),
    ];
    let handed = bench
        .post(&format!("{review}/hand-over"), &lee.cookie, &form)
        .await;
    assert_eq!(handed.status, StatusCode::SEE_OTHER, "{}", handed.body);
    let page = bench.get(&review, &sam.cookie).await;
    assert!(page.body.contains("In your hands"), "{}", page.body);
    assert_eq!(
        end(&admin).await.location(),
        "/console/cover?done=cover-ended"
    );
    assert_eq!(end(&kim).await.status, StatusCode::CONFLICT);
}
