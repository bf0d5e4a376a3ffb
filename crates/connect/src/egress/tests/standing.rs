//! Vendors over time: agreements end, assessments become overdue, budgets run out and come back.

use std::sync::Arc;

use chaperone_core::egress::{Channel, DataClass, EgressRule};
use chaperone_core::ids::Region;
use reqwest::StatusCode;

use super::surroundings::{
    HandClock, Server, ToldNames, client, counted, gate_with, sent, url, vendor,
};
use crate::egress::Gate;
use crate::egress::class::Phi;

const ALL: [DataClass; 2] = [DataClass::Operational, DataClass::Phi];

async fn post(gate: &Gate, server: &Server, body: &str) -> Result<StatusCode, EgressRule> {
    let hook = client::<Phi>(gate, Channel::Webhook);
    let address = url(&format!("http://127.0.0.1:{}/", server.port()));
    sent(hook.post(address).body(body.to_owned())).await
}

#[tokio::test]
async fn an_open_gate_closes_when_the_agreement_ends() {
    let server = Server::new().await;
    let hosts = [format!("http://127.0.0.1:{}", server.port())];
    let clock = HandClock::new();
    let mut bound = vendor("bound", &hosts, &ALL);
    bound.baa_expires = Some("2027-01-15T09:00:00Z".parse().unwrap());
    let gate = gate_with(vec![bound], Arc::clone(&clock), ToldNames::of(&[]));
    assert_eq!(post(&gate, &server, "{}").await, Ok(StatusCode::NO_CONTENT));
    // 2027-01-15T08:00:00Z and an hour.
    clock.advance_s(3_600);
    assert_eq!(
        post(&gate, &server, "{}").await,
        Err(EgressRule::AgreementExpired)
    );
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn a_vendor_abroad_or_not_assessed_is_none() {
    let server = Server::new().await;
    let hosts = [format!("http://127.0.0.1:{}", server.port())];
    let mut abroad = vendor("abroad", &hosts, &ALL);
    abroad.region = Region::new("eu-west-1").unwrap();
    let gate = gate_with(vec![abroad], HandClock::new(), ToldNames::of(&[]));
    assert_eq!(
        post(&gate, &server, "{}").await,
        Err(EgressRule::RegionNotPinned)
    );
    let mut overdue = vendor("overdue", &hosts, &ALL);
    overdue.review_by = "2027-01-14".parse().unwrap();
    let gate = gate_with(vec![overdue.clone()], HandClock::new(), ToldNames::of(&[]));
    assert_eq!(
        post(&gate, &server, "{}").await,
        Err(EgressRule::ReviewOverdue)
    );
    assert_eq!(server.received(), Vec::<String>::new());
    overdue.review_by = "2027-01-15".parse().unwrap();
    let gate = gate_with(vec![overdue], HandClock::new(), ToldNames::of(&[]));
    assert_eq!(post(&gate, &server, "{}").await, Ok(StatusCode::NO_CONTENT));
}

#[tokio::test]
async fn budgets_end_and_begin_again() {
    let server = Server::new().await;
    let hosts = [format!("http://127.0.0.1:{}", server.port())];
    let clock = HandClock::new();
    let mut small = vendor("small", &hosts, &ALL);
    small.requests_per_minute_max = 2;
    small.request_bytes_max = 4;
    let gate = gate_with(vec![small], Arc::clone(&clock), ToldNames::of(&[]));
    assert_eq!(
        post(&gate, &server, "12345").await,
        Err(EgressRule::RequestTooLarge)
    );
    assert_eq!(
        post(&gate, &server, "1234").await,
        Ok(StatusCode::NO_CONTENT)
    );
    assert_eq!(post(&gate, &server, "1").await, Ok(StatusCode::NO_CONTENT));
    assert_eq!(
        post(&gate, &server, "1").await,
        Err(EgressRule::BudgetSpent)
    );
    clock.advance_s(59);
    assert_eq!(
        post(&gate, &server, "1").await,
        Err(EgressRule::BudgetSpent)
    );
    clock.advance_s(1);
    assert_eq!(post(&gate, &server, "1").await, Ok(StatusCode::NO_CONTENT));
    assert_eq!(server.received().len(), 3);
    assert_eq!(
        counted(&gate),
        [
            "webhook phi small request-too-large 1",
            "webhook phi small budget-spent 2",
            "webhook phi small passed 3",
        ]
    );
}
