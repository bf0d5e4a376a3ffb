//! Several light proposals on one page of the console: nothing is ticked, and each says what became of it. What may be
//! decided so is with the engine's tests.

use axum::http::StatusCode;
use chaperone_core::ids::WritebackId;
use chaperone_core::ports::Clock;
use chaperone_core::principal::Role;
use serde_json::json;

use super::bench::{Bench, Someone};

async fn weight(bench: &Bench, by: &Someone, n: u8) -> WritebackId {
    let caller = bench.envelope(by, "intake-agent", "intake", "a").await;
    let arguments = json!({
        "measure": "29463-7", "value": 80 + n, "unit": "kg", "idempotency_key": format!("w{n}"),
        "measured_at": bench.clock.now().to_string(),
    });
    let answer = bench.call(&caller, "record_vital", arguments).await;
    answer["proposal"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn light_ones_are_ticked_and_each_says_what_became_of_it() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let desk = bench.person(&admin, "nurse-lee", &[Role::MaRn]).await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(weight(&bench, &lee, n).await);
    }
    let inbox = bench.get("/console", &desk.cookie).await;
    assert!(inbox.body.contains("3 of this kind"), "{}", inbox.body);
    let path = format!("/console/several/{}", ids[0]);
    let page = bench.get(&path, &desk.cookie).await;
    assert_eq!(
        page.body.matches("name=\"item\"").count(),
        3,
        "{}",
        page.body
    );
    assert!(
        !page.body.contains("checked>") && !page.body.contains("checked="),
        "nothing is ticked"
    );
    assert!(page.body.len() < 50_000);
    let value = |id: WritebackId| {
        let marker = format!("value=\"{id} ");
        format!("{id} {}", page.after(&marker))
    };
    let (first, second) = (value(ids[0]), value(ids[1]));
    let csrf = ("csrf", desk.csrf.as_str());
    for (form, status) in [
        (vec![csrf], StatusCode::BAD_REQUEST),
        (vec![csrf, ("item", "x")], StatusCode::BAD_REQUEST),
        (
            vec![csrf, ("item", first.as_str()), ("item", first.as_str())],
            StatusCode::BAD_REQUEST,
        ),
        (
            vec![("csrf", "other"), ("item", first.as_str())],
            StatusCode::FORBIDDEN,
        ),
    ] {
        let refused = bench.post(&path, &desk.cookie, &form).await;
        assert_eq!(refused.status, status, "{}", refused.body);
    }
    let other = bench.get(&path, &admin.cookie).await;
    assert_eq!(other.status, StatusCode::NOT_FOUND);
    // The second changes hands meanwhile.
    bench
        .engine
        .claim(
            &bench.person(&admin, "nurse-kim", &[Role::MaRn]).await.human,
            ids[1],
        )
        .await
        .unwrap();
    let form = [
        csrf,
        ("opened", "0"),
        ("item", first.as_str()),
        ("item", second.as_str()),
    ];
    let done = bench.post(&path, &desk.cookie, &form).await;
    assert_eq!(done.status, StatusCode::CONFLICT);
    assert!(
        done.body.contains("Approved. It is on its way."),
        "{}",
        done.body
    );
    assert!(
        done.body.contains("in the hands of nurse-kim"),
        "{}",
        done.body
    );
}
