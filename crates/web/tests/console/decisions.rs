//! Approving, rejecting, second factors and two people.

use axum::http::StatusCode;
use chaperone_core::event::StreamId;
use chaperone_core::principal::Role;

use super::bench::{self, Bench, HOSTILE};

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
        "Approve, with second factor",
        "Clinical plausibility",
        "Rests on the proposal",
        "What no rule could check",
        "Rules plausibility/",
        "AllergyIntolerance (1)",
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
    let approving = async |reason: &str| {
        let form = [
            ("csrf", lee.csrf.as_str()),
            ("digest", digest.as_str()),
            ("opened", "0"),
            ("override", reason),
        ];
        bench.post(&approve, &lee.cookie, &form).await
    };
    // A rule warns, so the reason comes before the code; one that is no word at all is no form of ours.
    let unsaid = approving("").await;
    assert_eq!(unsaid.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(unsaid.body.contains("Pick a reason to approve"));
    assert!(
        unsaid
            .body
            .contains("I looked up what could not be checked")
    );
    assert_eq!(approving("<b>").await.status, StatusCode::BAD_REQUEST);
    let asked = approving("looked-up").await;
    assert_eq!(asked.status, StatusCode::SEE_OTHER, "{}", asked.body);
    let step_up = asked.location().to_owned();
    assert!(step_up.starts_with(&format!("/console/writebacks/{id}/step-up/step_")));
    let page = bench.get(&step_up, &lee.cookie).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.contains("Una Sample"));
    let reason = page.after("name=\"override\" value=\"").to_owned();
    assert_eq!(reason, "looked-up");

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
        ("override", reason.as_str()),
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
    // It is not hers to read either.
    assert_eq!(not_hers.status, StatusCode::NOT_FOUND);
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
        ("override", "benefit-outweighs"),
    ];
    let step_up = bench
        .post(&format!("{path}/approve"), &lee.cookie, &form)
        .await;
    let code = bench.code(&lee);
    let sent = [
        ("csrf", lee.csrf.as_str()),
        ("code", code.as_str()),
        ("opened", "0"),
        ("override", "benefit-outweighs"),
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
        ("override", "benefit-outweighs"),
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
async fn who_is_none_of_two_people_reads_why() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let learns = [Role::Clinician, Role::Trainee];
    let trainee = bench.person(&admin, "dr-new", &learns).await;
    let pharmacist = bench.person(&admin, "pharma", &[Role::Pharmacist]).await;
    let nurse = bench.person(&admin, "nurse-ana", &[Role::Rn]).await;
    let id = bench.order(&lee, "warfarin").await;
    let path = format!("/console/writebacks/{id}");
    let waits = "It waits for: clinician, pharmacist.";
    let in_training = "You are in training, and cannot be one of those whose word counts here.";
    let has_asked = "You asked for this or changed it";
    for (who, why) in [(&trainee, in_training), (&lee, has_asked)] {
        let page = bench.get(&path, &who.cookie).await.body;
        assert!(page.contains(waits), "{page}");
        for words in [in_training, has_asked] {
            assert_eq!(page.contains(words), why == words, "{page}");
        }
        assert!(!page.contains("id=\"approve\""), "{page}");
    }
    let page = bench.get(&path, &nurse.cookie).await;
    assert_eq!(page.status, StatusCode::NOT_FOUND);
    assert!(!page.body.contains(waits));
    let page = bench.get(&path, &pharmacist.cookie).await.body;
    assert!(!page.contains(waits) && page.contains("id=\"approve\""));
}
