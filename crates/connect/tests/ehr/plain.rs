//! The plain strategy against a server without conditions, versions and Provenance.

use chaperone_core::evidence::Strategy;
use chaperone_core::ports::{Ehr, Reconciliation, ServerKind, WriteFailed};
use chaperone_core::writeback::HumanNeeded;
use chaperone_sandbox::{FaultKind, FaultRule, ServerProfile};
use serde_json::json;

use crate::support::{
    RawServer, Reaction, bench, create, endpoint, kind, raw_answer, reconcile, task, update, write,
};

const PLAIN: Strategy = Strategy::PlainPost;

#[tokio::test]
async fn a_create_is_read_back_by_the_id_it_was_given() {
    let bench = bench(ServerProfile::Plain).await;
    let order = create(&bench.ehr, 1, PLAIN, &task(1, "x"));
    let receipt = write(&bench.ehr, &order).await.unwrap();
    assert!(receipt.read_back.is_some());
    assert_eq!(receipt.version, None);
    assert!(!receipt.provenance_written);
    let id = bench.sandbox.handle.resources("Task")[0]["id"].clone();
    assert_eq!(receipt.location, format!("Task/{}", id.as_str().unwrap()));
}

#[tokio::test]
async fn an_unknown_outcome_always_goes_to_a_human() {
    for (fault, effects) in [
        (FaultKind::TimeoutBeforeCommit { hold_ms: 0 }, 0),
        (FaultKind::TimeoutAfterCommit { hold_ms: 0 }, 1),
        (FaultKind::Status { code: 502 }, 0),
    ] {
        let bench = bench(ServerProfile::Plain).await;
        let order = create(&bench.ehr, 1, PLAIN, &task(1, "x"));
        bench
            .sandbox
            .handle
            .inject(FaultRule::once("POST", "Task", fault));
        assert_eq!(write(&bench.ehr, &order).await, Err(WriteFailed::Unknown));
        assert_eq!(
            reconcile(&bench.ehr, &order).await,
            Reconciliation::Undecidable(HumanNeeded::EndpointCannotTell)
        );
        assert_eq!(bench.sandbox.handle.resources("Task").len(), effects);
    }
}

#[tokio::test]
async fn an_update_is_sent_only_onto_the_base_it_was_made_from() {
    let bench = bench(ServerProfile::Plain).await;
    let handle = &bench.sandbox.handle;
    let mut base = task(9, "before");
    base["id"] = json!("t1");
    handle.put(&base).unwrap();
    let base = bench.ehr.read(&kind("Task"), "t1").await.unwrap();
    let mut body = base.clone();
    body["description"] = json!("after");
    let order = update(&bench.ehr, 1, PLAIN, &base, &body);
    assert!(write(&bench.ehr, &order).await.unwrap().read_back.is_some());

    handle.clear_requests();
    assert_eq!(write(&bench.ehr, &order).await, Err(WriteFailed::Stale));
    assert!(handle.requests().iter().all(|r| r.method == "GET"));

    let mut gone = update(&bench.ehr, 1, PLAIN, &base, &body);
    gone.path = "Task/t2".to_owned();
    let mut other = body.clone();
    other["id"] = json!("t2");
    gone.body = other.to_string();
    assert_eq!(write(&bench.ehr, &gone).await, Err(WriteFailed::Stale));
}

#[tokio::test]
async fn a_success_that_cannot_be_read_back_is_acknowledged_and_no_more() {
    let bench = bench(ServerProfile::Plain).await;
    bench
        .sandbox
        .handle
        .inject(FaultRule::once("GET", "Task", FaultKind::Status { code: 503 }).times(3));
    let order = create(&bench.ehr, 1, PLAIN, &task(1, "x"));
    let receipt = write(&bench.ehr, &order).await.unwrap();
    assert_eq!(receipt.read_back, None);
}

#[tokio::test]
async fn a_server_that_stores_something_else_is_noticed() {
    let stored = {
        let mut stored = task(1, "shortened");
        stored["id"] = json!("1");
        stored.to_string()
    };
    let server = RawServer::start(move |number| {
        Reaction::Answer(match number {
            1 => raw_answer("201 Created", "Location: Task/1\r\n", ""),
            _ => raw_answer("200 OK", "", &stored),
        })
    })
    .await;
    let ehr = endpoint(&server.base_url, ServerKind::Plain);
    let order = create(&ehr, 1, PLAIN, &task(1, "the whole text"));
    assert_eq!(write(&ehr, &order).await, Err(WriteFailed::Unknown));
}

#[tokio::test]
async fn a_success_that_does_not_say_what_was_made_is_unknown() {
    for answer in [
        raw_answer("201 Created", "", ""),
        raw_answer("202 Accepted", "Location: Task/1\r\n", ""),
        raw_answer("201 Created", "Location: Patient/1\r\n", ""),
    ] {
        let server = RawServer::start(move |_| Reaction::Answer(answer.clone())).await;
        let ehr = endpoint(&server.base_url, ServerKind::Plain);
        let order = create(&ehr, 1, PLAIN, &task(1, "x"));
        assert_eq!(write(&ehr, &order).await, Err(WriteFailed::Unknown));
        assert_eq!(server.requests().len(), 1);
    }
}
