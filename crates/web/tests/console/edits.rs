//! Changing a proposal at the console: the form, what it refuses, and what both pages say afterwards. What a change may
//! be in full is with the engine's tests.

use axum::http::StatusCode;
use chaperone_core::principal::Role;

use super::bench::{Answer, Bench, Someone};

async fn change(bench: &Bench, by: &Someone, path: &str, more: &[(&str, &str)]) -> Answer {
    let page = bench.get(path, &by.cookie).await;
    let digest = page.after("name=\"digest\" value=\"").to_owned();
    let mut form = vec![("csrf", by.csrf.as_str()), ("digest", digest.as_str())];
    form.extend(more);
    bench.post(&format!("{path}/edit"), &by.cookie, &form).await
}

#[tokio::test]
async fn a_note_is_changed_in_a_form_and_waits_as_it_then_stands() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let desk = bench.person(&admin, "desk", &[Role::Scheduler]).await;
    let id = bench.note(&lee).await;
    let path = format!("/console/writebacks/{id}");
    let page = bench.get(&path, &lee.cookie).await;
    assert!(page.body.contains("name=\"input.text\""), "{}", page.body);
    assert!(!page.body.contains("input.encounter_token"));
    assert!(page.body.len() < 50_000);
    // Who only operates has no form, and their post changes nothing.
    let outline = bench.get(&path, &admin.cookie).await;
    assert!(!outline.body.contains("name=\"input.text\""));
    let text = ("input.text", "Seen <b>today</b>.");
    let forged = bench
        .post(
            &format!("{path}/edit"),
            &lee.cookie,
            &[("csrf", "other"), ("digest", "x"), text],
        )
        .await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN);
    let digest = page.after("name=\"digest\" value=\"").to_owned();
    let form = [
        ("csrf", desk.csrf.as_str()),
        ("digest", digest.as_str()),
        ("edit_reason", "as she said"),
        text,
    ];
    let other = bench
        .post(&format!("{path}/edit"), &desk.cookie, &form)
        .await;
    assert_ne!(other.status, StatusCode::SEE_OTHER, "{}", other.body);
    // What is wrong is said, and what was typed stays.
    let why = ("edit_reason", "as she said");
    for (more, said) in [
        (vec![("input.text", ""), why], "this is required"),
        (vec![text], "Say why"),
        (vec![("input.kind", "1-8"), text, why], "one of:"),
    ] {
        let refused = change(&bench, &lee, &path, &more).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.body.contains(said), "{said}: {}", refused.body);
        assert!(refused.body.contains("id=\"edit\" open"));
        if more.contains(&text) {
            assert!(
                refused.body.contains("Seen &#60;b&#62;today&#60;/b&#62;."),
                "{}",
                refused.body
            );
        }
    }
    let unchanged = change(&bench, &lee, &path, &[why]).await;
    assert!(
        unchanged.body.contains("Nothing was changed"),
        "{}",
        unchanged.body
    );
    let done = change(&bench, &lee, &path, &[text, why]).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    let new = done.location().to_owned();
    let page = bench.get(&new, &lee.cookie).await;
    for said in [
        "Changed. It waits for its approval",
        "dr-lee changed what the agent proposed",
        "as she said",
        &format!("href=\"{path}\""),
    ] {
        assert!(page.body.contains(said), "{said}: {}", page.body);
    }
    assert!(!page.body.contains("<b>today</b>"));
    let old = bench.get(&path, &lee.cookie).await;
    let into = new.split('?').next().unwrap();
    assert!(
        old.body.contains(&format!("href=\"{into}\"")),
        "{}",
        old.body
    );
    assert!(!old.body.contains("name=\"input.text\""));
    // A second form of the old page changes nothing any more.
    let late = bench
        .post(
            &format!("{path}/edit"),
            &lee.cookie,
            &[
                ("csrf", lee.csrf.as_str()),
                ("digest", digest.as_str()),
                text,
                why,
            ],
        )
        .await;
    assert_eq!(late.status, StatusCode::CONFLICT, "{}", late.body);
}

#[tokio::test]
async fn a_change_is_made_by_who_has_read_what_it_changes() {
    let bench = Bench::with_readers().await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let id = bench.note(&lee).await;
    let path = format!("/console/writebacks/{id}");
    let form = [("input.text", "Seen."), ("edit_reason", "shorter")];
    let early = change(&bench, &lee, &path, &form).await;
    assert_eq!(early.status, StatusCode::CONFLICT);
    assert!(early.body.contains("Read it first"), "{}", early.body);
    bench.clock.advance_s(2);
    let done = change(&bench, &lee, &path, &form).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    // What it became is read anew before it is approved.
    let new = done.location().split('?').next().unwrap().to_owned();
    let page = bench.get(&new, &lee.cookie).await;
    let digest = page.after("name=\"digest\" value=\"").to_owned();
    let form = [
        ("csrf", lee.csrf.as_str()),
        ("digest", digest.as_str()),
        ("opened", "0"),
    ];
    let early = bench
        .post(&format!("{new}/approve"), &lee.cookie, &form)
        .await;
    assert!(early.body.contains("Read it first"), "{}", early.body);
    bench.clock.advance_s(2);
    let done = bench
        .post(&format!("{new}/approve"), &lee.cookie, &form)
        .await;
    assert_eq!(done.location(), format!("{new}?done=approved"));
}
