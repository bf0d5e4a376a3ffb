//! The conditional strategy against a server that honours conditions: each way a send can end.

use chaperone_core::evidence::Strategy;
use chaperone_core::ports::{Clock as _, Ehr, Reconciliation, ServerKind, Version, WriteFailed};
use chaperone_core::resource::Interaction;
use chaperone_core::writeback::{FailureCause, HumanNeeded};
use chaperone_sandbox::{FaultKind, FaultRule, ServerProfile};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{
    Bench, HandClock, attempt, bench, create, endpoint, kind, reconcile, task, update, write,
};

const CONDITIONAL: Strategy = Strategy::Conditional;

fn not_applied(cause: FailureCause) -> WriteFailed {
    WriteFailed::NotApplied {
        cause,
        retry_after_ms: None,
    }
}

fn applied(reconciliation: Reconciliation) -> chaperone_core::ports::WriteReceipt {
    match reconciliation {
        Reconciliation::Applied(receipt) => receipt,
        other => panic!("{other:?}"),
    }
}

impl Bench {
    fn fault(&self, method: &str, kind: FaultKind) {
        self.fault_on(method, "Task", kind);
    }

    fn fault_on(&self, method: &str, resource: &str, kind: FaultKind) {
        self.sandbox
            .handle
            .inject(FaultRule::once(method, resource, kind));
    }

    fn count(&self, resource: &str) -> usize {
        self.sandbox.handle.resources(resource).len()
    }

    /// A Task that the EHR already has, as read.
    async fn existing(&self) -> Value {
        let mut base = task(99, "before");
        base["id"] = json!("t1");
        self.sandbox.handle.put(&base).unwrap();
        self.ehr.read(&kind("Task"), "t1").await.unwrap()
    }
}

fn changed(base: &Value) -> Value {
    let mut body = base.clone();
    body["description"] = json!("after");
    body
}

#[tokio::test]
async fn a_create_is_read_back_and_comes_with_its_provenance() {
    let bench = bench(ServerProfile::Full).await;
    let body = task(1, "call the patient");
    let receipt = write(&bench.ehr, &create(&bench.ehr, 1, CONDITIONAL, &body))
        .await
        .unwrap();
    assert_eq!(receipt.version, Some(Version("1".to_owned())));
    assert!(receipt.location.ends_with("/_history/1"));
    assert!(receipt.read_back.is_some());
    assert!(receipt.provenance_written);

    let provenances = bench.sandbox.handle.resources("Provenance");
    let task_id = bench.sandbox.handle.resources("Task")[0]["id"].clone();
    let target = provenances[0]["target"][0]["reference"].as_str().unwrap();
    assert!(target.contains(task_id.as_str().unwrap()), "{target}");
    // Target and Provenance went in one request.
    let writes = bench.sandbox.handle.changes_by_request();
    assert_eq!(writes.len(), 2);
    assert_eq!(writes[0].request, writes[1].request);
}

#[tokio::test]
async fn a_send_that_was_lost_is_found_missing() {
    for fault in [
        FaultKind::TimeoutBeforeCommit { hold_ms: 0 },
        FaultKind::Status { code: 500 },
        FaultKind::Status { code: 503 },
    ] {
        let bench = bench(ServerProfile::Full).await;
        let order = create(&bench.ehr, 1, CONDITIONAL, &task(1, "x"));
        bench.fault("POST", fault);
        assert_eq!(write(&bench.ehr, &order).await, Err(WriteFailed::Unknown));
        assert_eq!(reconcile(&bench.ehr, &order).await, Reconciliation::Missing);
        assert_eq!(bench.count("Task"), 0);
    }
}

#[tokio::test]
async fn a_send_that_was_applied_although_it_failed_is_found() {
    let bench = bench(ServerProfile::Full).await;
    let order = create(&bench.ehr, 1, CONDITIONAL, &task(1, "x"));
    bench.fault("POST", FaultKind::TimeoutAfterCommit { hold_ms: 0 });
    assert_eq!(write(&bench.ehr, &order).await, Err(WriteFailed::Unknown));
    let receipt = applied(reconcile(&bench.ehr, &order).await);
    assert!(receipt.provenance_written && receipt.read_back.is_some());
    assert_eq!(receipt.version, Some(Version("1".to_owned())));

    // Sent again in spite of that: nothing takes effect twice.
    let again = bench.ehr.write(&attempt(&order, 2)).await.unwrap();
    assert_eq!(again.location, receipt.location);
    assert_eq!((bench.count("Task"), bench.count("Provenance")), (1, 1));
}

#[tokio::test]
async fn a_first_attempt_that_finds_itself_applied_has_no_second_effect() {
    let bench = bench(ServerProfile::Full).await;
    let order = create(&bench.ehr, 1, CONDITIONAL, &task(1, "x"));
    let first = write(&bench.ehr, &order).await.unwrap();
    let second = write(&bench.ehr, &order).await.unwrap();
    assert_eq!(first.location, second.location);
    assert_eq!(bench.count("Task"), 1);
}

#[tokio::test]
async fn a_later_change_by_somebody_else_does_not_hide_what_was_applied() {
    let bench = bench(ServerProfile::Full).await;
    let order = create(&bench.ehr, 1, CONDITIONAL, &task(1, "x"));
    bench.fault("POST", FaultKind::TimeoutAfterCommit { hold_ms: 0 });
    assert_eq!(write(&bench.ehr, &order).await, Err(WriteFailed::Unknown));
    let mut theirs = bench.sandbox.handle.resources("Task").remove(0);
    theirs["status"] = json!("completed");
    bench.sandbox.handle.put(&theirs).unwrap();
    let receipt = applied(reconcile(&bench.ehr, &order).await);
    assert_eq!(receipt.version, Some(Version("1".to_owned())));
}

#[tokio::test]
async fn other_content_under_our_identifier_goes_to_a_human() {
    let bench = bench(ServerProfile::Full).await;
    let mut theirs = task(1, "something else");
    theirs["id"] = json!("theirs");
    bench.sandbox.handle.put(&theirs).unwrap();
    let order = create(&bench.ehr, 1, CONDITIONAL, &task(1, "x"));
    assert_eq!(write(&bench.ehr, &order).await, Err(WriteFailed::Unknown));
    assert_eq!(
        reconcile(&bench.ehr, &order).await,
        Reconciliation::Undecidable(HumanNeeded::ContentDiffers)
    );
}

#[tokio::test]
async fn two_resources_with_our_identifier_go_to_a_human() {
    let bench = bench(ServerProfile::Full).await;
    for id in ["a", "b"] {
        let mut copy = task(1, "x");
        copy["id"] = json!(id);
        bench.sandbox.handle.put(&copy).unwrap();
    }
    let order = create(&bench.ehr, 1, CONDITIONAL, &task(1, "x"));
    assert_eq!(write(&bench.ehr, &order).await, Err(WriteFailed::Unknown));
    assert_eq!(
        reconcile(&bench.ehr, &order).await,
        Reconciliation::Undecidable(HumanNeeded::MoreThanOne)
    );
}

#[tokio::test]
async fn a_refusal_is_certain() {
    let bench = bench(ServerProfile::Full).await;
    let order = create(&bench.ehr, 1, CONDITIONAL, &task(1, "x"));
    bench.fault("POST", FaultKind::TooManyRequests { retry_after_s: 7 });
    assert_eq!(
        write(&bench.ehr, &order).await,
        Err(WriteFailed::NotApplied {
            cause: FailureCause::RateLimited,
            retry_after_ms: Some(7_000)
        })
    );
    for (code, cause) in [
        (422, FailureCause::Rejected),
        (403, FailureCause::Unauthorized),
    ] {
        bench.fault("POST", FaultKind::Status { code });
        assert_eq!(write(&bench.ehr, &order).await, Err(not_applied(cause)));
    }
    assert_eq!(bench.count("Task"), 0);
}

#[tokio::test]
async fn an_ehr_that_is_not_there_was_not_reached() {
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let ehr = endpoint(&format!("http://127.0.0.1:{port}/fhir"), ServerKind::Full);
    let order = create(&ehr, 1, CONDITIONAL, &task(1, "x"));
    assert_eq!(
        write(&ehr, &order).await,
        Err(not_applied(FailureCause::Unreachable))
    );
}

#[tokio::test]
async fn an_update_goes_onto_the_version_it_was_made_from() {
    let bench = bench(ServerProfile::Full).await;
    let base = bench.existing().await;
    let body = changed(&base);
    let order = update(&bench.ehr, 1, CONDITIONAL, &base, &body);
    let receipt = write(&bench.ehr, &order).await.unwrap();
    assert!(receipt.read_back.is_some() && receipt.provenance_written);
    assert_eq!(receipt.version, Some(Version("2".to_owned())));

    // The same order again stands on a version that is no longer current.
    assert_eq!(write(&bench.ehr, &order).await, Err(WriteFailed::Stale));
    assert_eq!(bench.sandbox.handle.history("Task", "t1").len(), 2);
    assert_eq!(bench.count("Provenance"), 1);
}

#[tokio::test]
async fn an_update_of_unknown_outcome_is_found_out_by_version_and_content() {
    let bench = bench(ServerProfile::Full).await;
    let base = bench.existing().await;
    let order = update(&bench.ehr, 1, CONDITIONAL, &base, &changed(&base));

    bench.fault("PUT", FaultKind::TimeoutBeforeCommit { hold_ms: 0 });
    assert_eq!(write(&bench.ehr, &order).await, Err(WriteFailed::Unknown));
    assert_eq!(reconcile(&bench.ehr, &order).await, Reconciliation::Missing);

    bench.fault("PUT", FaultKind::TimeoutAfterCommit { hold_ms: 0 });
    assert_eq!(write(&bench.ehr, &order).await, Err(WriteFailed::Unknown));
    let receipt = applied(reconcile(&bench.ehr, &order).await);
    assert_eq!(receipt.version, Some(Version("2".to_owned())));

    // Changed once more by somebody else: the history still shows it.
    let mut theirs = base.clone();
    theirs["description"] = json!("theirs");
    bench.sandbox.handle.put(&theirs).unwrap();
    let receipt = applied(reconcile(&bench.ehr, &order).await);
    assert_eq!(receipt.version, Some(Version("2".to_owned())));
}

#[tokio::test]
async fn an_update_overtaken_by_another_writer_goes_to_a_human() {
    let bench = bench(ServerProfile::Full).await;
    let base = bench.existing().await;
    let order = update(&bench.ehr, 1, CONDITIONAL, &base, &changed(&base));
    bench.fault("PUT", FaultKind::TimeoutBeforeCommit { hold_ms: 0 });
    assert_eq!(write(&bench.ehr, &order).await, Err(WriteFailed::Unknown));
    let mut theirs = base.clone();
    theirs["description"] = json!("theirs");
    bench.sandbox.handle.put(&theirs).unwrap();
    assert_eq!(
        reconcile(&bench.ehr, &order).await,
        Reconciliation::Undecidable(HumanNeeded::ContentDiffers)
    );
}

#[tokio::test]
async fn a_success_that_cannot_be_read_back_is_reconciled() {
    let bench = bench(ServerProfile::Full).await;
    let order = create(&bench.ehr, 1, CONDITIONAL, &task(1, "x"));
    bench
        .sandbox
        .handle
        .inject(FaultRule::once("GET", "Task", FaultKind::Status { code: 503 }).times(3));
    assert_eq!(write(&bench.ehr, &order).await, Err(WriteFailed::Unknown));
    assert!(applied(reconcile(&bench.ehr, &order).await).provenance_written);
    assert_eq!(bench.count("Task"), 1);
}

#[tokio::test]
async fn a_write_is_read_back_while_every_place_for_reads_is_taken() {
    use crate::support::{config, endpoint_of};
    let sandbox = crate::support::sandbox(ServerProfile::Full).await;
    let mut settings = config(&sandbox.base_url, ServerKind::Full);
    settings.limits.reads_under_way_max = 1;
    let ehr = endpoint_of(settings);
    let held = FaultKind::TimeoutBeforeCommit { hold_ms: 600_000 };
    sandbox
        .handle
        .inject(FaultRule::once("GET", "Patient", held));
    let patient = kind("Patient");
    let order = create(&ehr, 1, CONDITIONAL, &task(1, "x"));
    let receipt = tokio::select! {
        // Polled first, so that it has the one place.
        biased;
        read = ehr.read(&patient, "a") => panic!("{read:?}"),
        receipt = write(&ehr, &order) => receipt.unwrap(),
    };
    assert!(receipt.read_back.is_some());
}

#[tokio::test]
async fn without_atomic_transactions_provenance_follows_and_may_fail() {
    use crate::support::{config, endpoint_of};
    use chaperone_connect::ehr::ProfileSource;
    let sandbox = crate::support::sandbox(ServerProfile::Full).await;
    let mut settings = config(&sandbox.base_url, ServerKind::Full);
    settings.profile = ProfileSource::Kind {
        kind: ServerKind::Full,
        types: vec![kind("Task")],
        transactions_are_atomic: false,
        updates_as_patches: false,
    };
    let ehr = endpoint_of(settings);

    let receipt = write(&ehr, &create(&ehr, 1, CONDITIONAL, &task(1, "x")))
        .await
        .unwrap();
    assert!(receipt.provenance_written);
    let target = &sandbox.handle.resources("Provenance")[0]["target"][0]["reference"];
    assert_eq!(target.as_str(), Some(receipt.location.as_str()));

    // An attempt that finds target and Provenance in place adds neither.
    let again = write(&ehr, &create(&ehr, 1, CONDITIONAL, &task(1, "x")))
        .await
        .unwrap();
    assert!(again.provenance_written);
    assert_eq!(sandbox.handle.resources("Provenance").len(), 1);

    sandbox.handle.inject(FaultRule::once(
        "POST",
        "Provenance",
        FaultKind::Status { code: 500 },
    ));
    let receipt = write(&ehr, &create(&ehr, 2, CONDITIONAL, &task(2, "y")))
        .await
        .unwrap();
    assert!(!receipt.provenance_written && receipt.read_back.is_some());
}

#[tokio::test]
async fn what_must_not_be_sent_is_not() {
    let bench = bench(ServerProfile::Full).await;
    let good = create(&bench.ehr, 1, CONDITIONAL, &task(1, "x"));
    let base = bench.existing().await;
    let good_update = update(&bench.ehr, 1, CONDITIONAL, &base, &changed(&base));
    bench.sandbox.handle.clear_requests();

    let mut bad = Vec::new();
    let mut change =
        |of: &chaperone_core::evidence::WriteOrder,
         how: &dyn Fn(&mut chaperone_core::evidence::WriteOrder)| {
            let mut order = of.clone();
            how(&mut order);
            bad.push(order);
        };
    change(&good, &|o| o.strategy = Strategy::HumanEntry);
    change(&good, &|o| o.interaction = Interaction::Delete);
    change(&good, &|o| {
        o.endpoint = "http://127.0.0.1:1/fhir".to_owned()
    });
    change(&good, &|o| o.if_none_exist = None);
    change(&good, &|o| o.if_none_exist = Some("a\r\nX: y".to_owned()));
    change(&good, &|o| o.path = "Task/t1".to_owned());
    change(&good, &|o| o.body = "{}".to_owned());
    change(&good, &|o| o.provenance = Some("{}".to_owned()));
    change(&good, &|o| o.resource = kind("Basic"));
    change(&good_update, &|o| o.if_match = None);
    change(&good_update, &|o| o.path = "Task/t2".to_owned());
    change(&good_update, &|o| o.path = "Task/../Patient/1".to_owned());
    for order in bad {
        assert_eq!(
            write(&bench.ehr, &order).await,
            Err(not_applied(FailureCause::Rejected)),
            "{order:?}"
        );
    }
    assert_eq!(bench.sandbox.handle.requests(), []);
    assert!(write(&bench.ehr, &good).await.is_ok());
}

#[tokio::test]
async fn a_profile_that_offers_less_than_the_order_asks_sends_nothing() {
    let bench = bench(ServerProfile::Full).await;
    let lesser = endpoint(&bench.sandbox.base_url, ServerKind::Plain);
    let order = create(&lesser, 1, CONDITIONAL, &task(1, "x"));
    assert_eq!(
        write(&lesser, &order).await,
        Err(not_applied(FailureCause::Rejected))
    );
    assert_eq!(bench.sandbox.handle.requests(), []);
    // But what was sent before the profile changed can still be found out.
    write(&bench.ehr, &order).await.unwrap();
    applied(reconcile(&lesser, &order).await);
}

#[tokio::test]
async fn nothing_leaves_once_its_time_has_come() {
    let bench = bench(ServerProfile::Full).await;
    let order = create(&bench.ehr, 1, CONDITIONAL, &task(1, "call the patient"));
    // The connection goes by a clock that stands still.
    let now = HandClock::new().now();
    let late = bench.ehr.write(&attempt(&order, 1).before(now)).await;
    assert_eq!(late, Err(not_applied(FailureCause::Unreachable)));
    assert_eq!(bench.count("Task"), 0);
    // What is left then is a limit by the real clock.
    let left = jiff::SignedDuration::from_secs(60);
    let until = now.checked_add(left).unwrap();
    assert!(
        bench
            .ehr
            .write(&attempt(&order, 1).before(until))
            .await
            .is_ok()
    );
    assert_eq!(bench.count("Task"), 1);
}
