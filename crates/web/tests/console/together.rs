//! Several changes that take effect as one, on one page: all of them stand open, and each takes its time. What is decided
//! about them is with the engine's tests.

use chaperone_core::ports::Clock;
use chaperone_core::principal::Role;
use serde_json::json;

use super::bench::Bench;

#[tokio::test]
async fn several_changes_are_shown_in_full_and_each_takes_its_time_to_read() {
    let bench = Bench::with_readers().await;
    let admin = bench.admin().await;
    let nurse = bench.person(&admin, "nurse-ng", &[Role::MaRn]).await;
    let caller = bench.envelope(&nurse, "intake-agent", "intake", "a").await;
    let vital = |kg: u32| {
        json!({ "tool": "record_vital", "inputs": {
            "measure": "29463-7", "value": kg, "unit": "kg", "measured_at": bench.clock.now().to_string(),
        } })
    };
    let task = json!({ "tool": "create_task", "inputs": { "summary": "Weigh again.", "pool": "nursing" } });
    let answer = bench
        .call(
            &caller,
            "propose_together",
            json!({ "idempotency_key": "several", "changes": [vital(80), task],
                "rationale": "They belong together." }),
        )
        .await;
    assert_eq!(answer["state"], "awaiting_approval", "{answer}");
    let id = answer["proposal"].as_str().unwrap();
    let path = format!("/console/writebacks/{id}");
    let page = bench.get(&path, &nurse.cookie).await;
    let at = |text: &str| {
        page.body
            .find(text)
            .unwrap_or_else(|| panic!("{text}: {}", page.body))
    };
    assert!(at("2 changes that are made together or not at all") < at("<h3>1. "));
    assert!(at("<h3>1. ") < at("<h3>2. "));
    // Both stand open before the end that has to be reached.
    assert!(at("<h3>2. ") < at("Weigh again."));
    assert!(at("Weigh again.") < at("id=\"change-end\""));
    assert!(page.body.contains("data-after-view=\"#change-end\""));
    assert!(
        page.body.contains("data-after-ms=\"4000\""),
        "{}",
        page.body
    );
    let digest = page.after("name=\"digest\" value=\"").to_owned();
    let form = [
        ("csrf", nurse.csrf.as_str()),
        ("digest", digest.as_str()),
        ("opened", "0"),
        ("override", "benefit-outweighs"),
    ];
    // As long as one change takes is too short for two.
    bench.clock.advance_s(2);
    let early = bench
        .post(&format!("{path}/approve"), &nurse.cookie, &form)
        .await;
    assert!(early.body.contains("Read it first"), "{}", early.body);
    bench.clock.advance_s(2);
    let done = bench
        .post(&format!("{path}/approve"), &nurse.cookie, &form)
        .await;
    assert_eq!(
        done.location(),
        format!("{path}?done=approved"),
        "{}",
        done.body
    );
}
