//! Exceptions on the page: from what was refused to the grant with a code, its use, and the look at it afterwards.

use axum::http::StatusCode;
use chaperone_core::principal::Role;
use chaperone_core::writeback::StateName;
use serde_json::json;

use super::bench::Bench;

#[tokio::test]
async fn what_was_refused_goes_on_by_exception_and_is_looked_at() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let desk = bench.person(&admin, "ana", &[Role::Scheduler]).await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let pia = bench.person(&admin, "pia", &[Role::Privacy]).await;
    bench.ehr.put(json!({
        "resourceType": "Slot", "id": "s1", "status": "free",
        "start": "2026-09-20T09:00:00Z", "end": "2026-09-20T09:30:00Z",
        "serviceType": [{ "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/service-type", "code": "117",
        }] }],
    }));
    let agent = bench
        .envelope(&desk, "scheduler-agent", "schedule-appointment", "a")
        .await;
    let span = json!({ "from": "2026-09-02T00:00:00Z", "until": "2026-10-01T00:00:00Z" });
    let found = bench.call(&agent, "find_slots", span).await;
    let slot = &found["resources"][0]["id"];
    let book = json!({ "idempotency_key": "1", "slot": slot, "visit_type": "ROUTINE" });
    let answer = bench.call(&agent, "book_appointment", book).await;
    assert_eq!(answer["state"], "refused");
    let of = answer["proposal"].as_str().unwrap().to_owned();

    // The page of what was refused leads there; nothing is in an address but its id.
    let review = bench
        .get(&format!("/console/writebacks/{of}"), &desk.cookie)
        .await;
    let path = format!("/console/exceptions/{of}");
    assert!(review.body.contains(&path), "{}", review.body);
    let page = bench.get(&path, &desk.cookie).await;
    assert!(page.body.contains("Ask for an exception"), "{}", page.body);
    let others = bench.get(&path, &lee.cookie).await;
    assert!(!others.body.contains("id=\"ask\""), "{}", others.body);

    let post = async |verb: &str, by: &super::bench::Someone, fields: &[(&str, &str)]| {
        let mut form = vec![("csrf", by.csrf.as_str())];
        form.extend_from_slice(fields);
        bench
            .post(&format!("{path}/{verb}"), &by.cookie, &form)
            .await
    };
    let short = post("request", &desk, &[("reason", "so")]).await;
    assert_eq!(short.status, StatusCode::UNPROCESSABLE_ENTITY);
    let why = "the chair is free & nobody <b>else</b> can book it";
    let asked = post("request", &desk, &[("reason", why)]).await;
    assert_eq!(asked.status, StatusCode::SEE_OTHER, "{}", asked.body);
    assert_eq!(asked.location(), path);

    // Who asked is not offered to grant it; a clinician is, with a code for exactly this.
    let own = bench.get(&path, &desk.cookie).await;
    assert!(!own.body.contains("id=\"grant\""));
    let page = bench.get(&path, &lee.cookie).await;
    assert!(page.body.contains("id=\"grant\"") && !page.body.contains("<b>else</b>"));
    let binding = page.after("name=\"binding\" value=\"").to_owned();
    let wrong = [("binding", binding.as_str()), ("code", "000000")];
    assert_eq!(
        post("grant", &lee, &wrong).await.status,
        StatusCode::FORBIDDEN
    );
    let early = post("use", &desk, &[]).await;
    assert_eq!(early.status, StatusCode::CONFLICT);
    bench.clock.advance_s(30);
    let code = bench.code(&lee);
    let right = [("binding", binding.as_str()), ("code", code.as_str())];
    let granted = post("grant", &lee, &right).await;
    assert_eq!(granted.status, StatusCode::SEE_OTHER, "{}", granted.body);

    let used = post("use", &desk, &[]).await;
    assert_eq!(used.status, StatusCode::SEE_OTHER, "{}", used.body);
    let new = used.location().rsplit('/').next().unwrap().to_owned();
    assert_ne!(new, of);
    let row = bench.engine.writeback(new.parse().unwrap()).await.unwrap();
    assert_eq!(row.unwrap().state, StateName::AwaitingApproval);
    let review = bench
        .get(&format!("/console/writebacks/{new}"), &lee.cookie)
        .await;
    assert!(
        review.body.contains("By exception from the matrix"),
        "{}",
        review.body
    );

    // It is on the list of whoever looks at it, without a patient's name, until they have.
    let list = bench.get("/console/exceptions", &pia.cookie).await;
    assert!(list.body.contains(&path) && list.body.contains("to be looked at"));
    assert!(!list.body.contains("Sample"), "a list names no patient");
    let finding = [("finding", "justified"), ("note", "it was right")];
    assert_eq!(
        post("review", &lee, &finding).await.status,
        StatusCode::FORBIDDEN
    );
    let reviewed = post("review", &pia, &finding).await;
    assert_eq!(reviewed.status, StatusCode::SEE_OTHER, "{}", reviewed.body);
    let page = bench.get(&path, &pia.cookie).await;
    assert!(page.body.contains("looked at: justified"));
    // Whoever has no part in it has no page.
    let admin_page = bench.get("/console/exceptions", &admin.cookie).await;
    assert_eq!(admin_page.status, StatusCode::FORBIDDEN);
}
