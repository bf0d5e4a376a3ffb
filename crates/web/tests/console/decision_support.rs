//! Decision support on the review page: cards are text, a critical one is decided about there, and what was not heard
//! says so.

use std::sync::Arc;

use async_trait::async_trait;
use axum::http::StatusCode;
use chaperone_core::decision_support::NotHeard;
use chaperone_core::ids::CdsServiceId;
use chaperone_core::ports::DecisionSupport;
use chaperone_core::principal::Role;
use serde_json::{Value, json};

use crate::bench::*;

/// A service that always says the same.
#[derive(Debug)]
struct Says(Result<Value, NotHeard>);

#[async_trait]
impl DecisionSupport for Says {
    async fn ask(&self, _service: &CdsServiceId, _request: &Value) -> Result<Value, NotHeard> {
        self.0.clone()
    }
}

#[tokio::test]
async fn a_card_is_text_and_a_critical_one_is_decided_on_the_page() {
    let card = json!({
        "summary": format!("{HOSTILE} stop"), "detail": "<unknown> CrCl <30 mL/min",
        "indicator": "critical", "suggestions": [{ "label": "Another drug" }],
        "links": [{ "label": "Approve here", "url": "https://evil.example", "type": "absolute" }],
    });
    let service = Arc::new(Says(Ok(json!({ "cards": [card] }))));
    let bench = Bench::with_decision_support(service).await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let id = bench.order(&lee, "lisinopril").await;
    let path = format!("/console/writebacks/{id}");
    let review = bench.get(&path, &lee.cookie).await;
    for shown in [
        "says something critical about this order",
        "alert(1) stop",
        "CrCl",
        "30 mL/min",
        "Order checks",
        "none is applied",
        "Go on over this card",
    ] {
        assert!(review.body.contains(shown), "{shown}: {}", review.body);
    }
    for hidden in [HOSTILE, "<unknown>", "Approve here", "evil.example"] {
        assert!(!review.body.contains(hidden), "{hidden}");
    }

    let digest = review.after("name=\"digest\" value=\"").to_owned();
    let card = review.after("name=\"card\" value=\"").to_owned();
    let over = async |who: &Someone, card: &str, reason: &str| {
        let form = [
            ("csrf", who.csrf.as_str()),
            ("digest", digest.as_str()),
            ("card", card),
            ("reason", reason),
        ];
        let path = format!("{path}/override-card");
        bench.post(&path, &who.cookie, &form).await
    };
    let status =
        async |who: &Someone, card: &str, reason: &str| over(who, card, reason).await.status;
    // Said before a second factor is asked for, which counts once.
    let approve = async || {
        let form = [
            ("csrf", lee.csrf.as_str()),
            ("digest", digest.as_str()),
            ("opened", "0"),
            ("override", "monitored"),
        ];
        bench
            .post(&format!("{path}/approve"), &lee.cookie, &form)
            .await
    };
    let refused = approve().await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.body.contains("says something critical"));
    assert!(!refused.body.contains("name=\"code\""));

    assert_eq!(status(&lee, &card, "").await, StatusCode::BAD_REQUEST);
    assert_eq!(
        status(&lee, "another", "monitored").await,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        status(&lee, &card, "because").await,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(
        status(&lee, &digest, "monitored").await,
        StatusCode::CONFLICT
    );
    assert_eq!(
        status(&lee, &card, "monitored").await,
        StatusCode::SEE_OTHER
    );
    let after = bench.get(&path, &lee.cookie).await;
    assert!(after.body.contains("Decided: It will be monitored"));
    assert!(!after.body.contains("Go on over this card"));
    assert!(!after.body.contains("says something critical"));
    assert_eq!(approve().await.status, StatusCode::SEE_OTHER);

    // Who sees the outline only sees no card.
    let outline = bench.get(&path, &admin.cookie).await;
    assert!(!outline.body.contains("CrCl"));
}

#[tokio::test]
async fn what_was_not_heard_is_shown_as_not_checked() {
    let service = Arc::new(Says(Err(NotHeard::NoAnswer)));
    let bench = Bench::with_decision_support(service).await;
    let admin = bench.admin().await;
    let lee = bench.person(&admin, "dr-lee", &[Role::Clinician]).await;
    let id = bench.order(&lee, "lisinopril").await;
    let path = format!("/console/writebacks/{id}");
    let review = bench.get(&path, &lee.cookie).await;
    for shown in [
        "Order checks",
        "not checked, it did not answer in time",
        "No service was heard",
    ] {
        assert!(review.body.contains(shown), "{shown}: {}", review.body);
    }
    // A note is no order: nobody is asked about it, and nothing is said of it.
    let note = bench.note(&lee).await;
    let review = bench
        .get(&format!("/console/writebacks/{note}"), &lee.cookie)
        .await;
    assert!(!review.body.contains("Order checks"));
}
