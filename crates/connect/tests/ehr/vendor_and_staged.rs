//! An operation of the EHR's own, and orders that people sign on its screens, against the sandbox of each kind.

use chaperone_connect::ehr::{EhrConfig, ProfileSource};
use chaperone_core::evidence::{Strategy, WriteOrder};
use chaperone_core::ports::{
    Ehr, EhrReadFailed, Reconciliation, ServerKind, Signature, WriteFailed,
};
use chaperone_core::signed_form::SignedForm;
use chaperone_core::writeback::{FailureCause, HumanNeeded};
use chaperone_sandbox::{FaultKind, FaultRule, ServerProfile};
use serde_json::{Value, json};

use crate::support::{
    Bench, attempt, config, create, endpoint_of, kind, reconcile, sandbox, task, update, write,
    writeback,
};

async fn at(profile: ServerProfile, source: ProfileSource) -> Bench {
    settling(profile, source, 0).await
}

/// One whose searches may be so late, in milliseconds.
async fn settling(profile: ServerProfile, source: ProfileSource, settle_ms: i64) -> Bench {
    let sandbox = sandbox(profile).await;
    let ehr = endpoint_of(EhrConfig {
        profile: source,
        settle_ms,
        ..config(&sandbox.base_url, ServerKind::Plain)
    });
    Bench { sandbox, ehr }
}

async fn vendor() -> Bench {
    let source = ProfileSource::Vendor {
        operation: "$file-entry".to_owned(),
        types: Vec::new(),
    };
    at(ServerProfile::Vendor, source).await
}

fn filed(mut order: WriteOrder) -> WriteOrder {
    order.operation = Some("$file-entry".to_owned());
    order
}

#[tokio::test]
async fn an_operation_files_what_was_approved_and_it_is_read_back() {
    let bench = vendor().await;
    let order = filed(create(&bench.ehr, 1, Strategy::VendorOp, &task(1, "x")));
    let receipt = write(&bench.ehr, &order).await.unwrap();
    assert!(receipt.read_back.is_some() && !receipt.provenance_written);
    // The same message again files nothing, should it ever be sent.
    assert_eq!(write(&bench.ehr, &order).await.unwrap(), receipt);
    assert_eq!(bench.sandbox.handle.resources("Task").len(), 1);
    // A change goes the same way, and only onto the base it was made from.
    let id = receipt.location.trim_start_matches("Task/").to_owned();
    let base = bench.ehr.read(&kind("Task"), &id).await.unwrap();
    let mut body = base.clone();
    body["description"] = json!("after");
    let change = filed(update(&bench.ehr, 2, Strategy::VendorOp, &base, &body));
    assert!(
        write(&bench.ehr, &change)
            .await
            .unwrap()
            .read_back
            .is_some()
    );
    let stale = filed(update(&bench.ehr, 3, Strategy::VendorOp, &base, &body));
    assert_eq!(write(&bench.ehr, &stale).await, Err(WriteFailed::Stale));
}

#[tokio::test]
async fn another_operation_or_another_way_is_not_sent() {
    let bench = vendor().await;
    let rejected = WriteFailed::NotApplied {
        cause: FailureCause::Rejected,
        retry_after_ms: None,
    };
    let mut other = filed(create(&bench.ehr, 1, Strategy::VendorOp, &task(1, "x")));
    other.operation = Some("$other".to_owned());
    let mut none = other.clone();
    none.operation = None;
    let mut elsewhere = other.clone();
    elsewhere.operation = Some("../admin".to_owned());
    let plain = create(&bench.ehr, 1, Strategy::PlainPost, &task(1, "x"));
    let staged = create(&bench.ehr, 1, Strategy::EhrStaged, &task(1, "x"));
    for order in [other, none, elsewhere, plain, staged] {
        assert_eq!(write(&bench.ehr, &order).await, Err(rejected.clone()));
    }
    assert!(bench.sandbox.handle.requests().is_empty());
}

#[tokio::test]
async fn what_was_filed_is_found_and_what_was_not_proves_nothing() {
    for (fault, effects) in [
        (FaultKind::TimeoutBeforeCommit { hold_ms: 0 }, 0),
        (FaultKind::TimeoutAfterCommit { hold_ms: 0 }, 1),
        (FaultKind::Status { code: 503 }, 0),
    ] {
        let bench = vendor().await;
        let order = filed(create(&bench.ehr, 1, Strategy::VendorOp, &task(1, "x")));
        bench
            .sandbox
            .handle
            .inject(FaultRule::once("POST", "$file-entry", fault));
        assert_eq!(write(&bench.ehr, &order).await, Err(WriteFailed::Unknown));
        match reconcile(&bench.ehr, &order).await {
            Reconciliation::Applied(receipt) => {
                assert_eq!(effects, 1);
                assert!(receipt.read_back.is_some());
            }
            found => {
                let cannot_tell = HumanNeeded::EndpointCannotTell;
                assert_eq!(
                    (effects, found),
                    (0, Reconciliation::Undecidable(cannot_tell))
                );
            }
        }
        assert_eq!(bench.sandbox.handle.resources("Task").len(), effects);
    }
}

#[tokio::test]
async fn a_wish_to_be_left_alone_is_heard_with_the_answer() {
    let bench = vendor().await;
    assert_eq!(bench.ehr.rests_until(), None);
    let busy = FaultKind::TooManyRequests { retry_after_s: 30 };
    bench
        .sandbox
        .handle
        .inject(FaultRule::once("POST", "Task", busy));
    let order = filed(create(&bench.ehr, 1, Strategy::VendorOp, &task(1, "x")));
    let refused = WriteFailed::NotApplied {
        cause: FailureCause::RateLimited,
        retry_after_ms: Some(30_000),
    };
    assert_eq!(write(&bench.ehr, &order).await, Err(refused));
    assert!(bench.ehr.rests_until().is_some());
}

fn staging() -> ProfileSource {
    ProfileSource::Staging {
        signs_with_second_factor: true,
        types: Vec::new(),
    }
}

async fn staged() -> Bench {
    at(ServerProfile::Staged, staging()).await
}

fn prescription(number: u8, status: &str) -> Value {
    json!({
        "resourceType": "MedicationRequest",
        "identifier": [{"system": "urn:chaperone:writeback", "value": writeback(number).to_string()}],
        "status": status, "intent": "order",
        "subject": {"reference": "Patient/p1"},
        "medicationCodeableConcept": {"text": "lisinopril 20 mg"},
    })
}

fn to_sign(bench: &Bench, number: u8) -> WriteOrder {
    let body = prescription(number, "active");
    let mut order = create(&bench.ehr, number, Strategy::EhrStaged, &body);
    order.signed_form = SignedForm::of(&order.resource);
    order
}

async fn look(bench: &Bench, order: &WriteOrder, location: &str) -> Signature {
    let delivering = attempt(order, 1);
    bench.ehr.signature(&delivering, location).await.unwrap()
}

/// Places an order; what it can show, and the id.
async fn placed(bench: &Bench, order: &WriteOrder) -> (String, String) {
    let receipt = write(&bench.ehr, order).await.unwrap();
    let id = receipt.location.split('/').nth(1).unwrap().to_owned();
    (receipt.location, id)
}

#[tokio::test]
async fn an_order_is_placed_unsigned_and_its_signature_seen() {
    let bench = staged().await;
    let handle = &bench.sandbox.handle;
    let order = to_sign(&bench, 1);
    let (location, id) = placed(&bench, &order).await;
    let status = |id: &str| handle.resource("MedicationRequest", id).unwrap()["status"].clone();
    assert_eq!(status(&id), "draft");
    assert_eq!(look(&bench, &order, &location).await, Signature::Awaited);
    // A lost answer: it is found as it was placed, and not placed again.
    assert!(matches!(
        reconcile(&bench.ehr, &order).await,
        Reconciliation::Applied(_)
    ));

    handle
        .sign("MedicationRequest", &id, "Practitioner/dr-1")
        .unwrap();
    let Signature::Given {
        signer, receipt, ..
    } = look(&bench, &order, &location).await
    else {
        panic!("not seen")
    };
    assert_eq!(signer, "Practitioner/dr-1");
    assert_eq!(
        receipt.location,
        format!("MedicationRequest/{id}/_history/2")
    );
    // What happens to it afterwards does not take the signature away.
    let mut stopped = handle.resource("MedicationRequest", &id).unwrap();
    stopped["status"] = json!("stopped");
    handle.put(&stopped).unwrap();
    assert!(matches!(
        look(&bench, &order, &location).await,
        Signature::Given { .. }
    ));
}

#[tokio::test]
async fn a_signature_that_may_not_show_yet_is_looked_for_again() {
    let bench = settling(ServerProfile::Staged, staging(), 1_000).await;
    let handle = &bench.sandbox.handle;
    let order = to_sign(&bench, 1);
    let (location, id) = placed(&bench, &order).await;
    // In force, and no Provenance is found that says by whom: there may be one in a moment.
    let mut there = handle.resource("MedicationRequest", &id).unwrap();
    there["status"] = json!("active");
    handle.put(&there).unwrap();
    let looked = bench.ehr.signature(&attempt(&order, 1), &location).await;
    assert_eq!(looked, Err(EhrReadFailed::Unavailable));
    // A draft that was changed has no signature to wait for.
    there["status"] = json!("draft");
    there["dosageInstruction"] = json!([{"text": "twice"}]);
    handle.put(&there).unwrap();
    assert_eq!(look(&bench, &order, &location).await, Signature::Changed);
}

#[tokio::test]
async fn a_signature_of_anything_else_is_none() {
    type Happens = fn(&mut Value);
    // What somebody does at the EHR, whether it is signed then, and what that is.
    let cases: [(&str, Happens, bool, Signature); 5] = [
        (
            "another dose",
            |it| it["dosageInstruction"] = json!([{"text": "twice"}]),
            false,
            Signature::Changed,
        ),
        (
            "another dose, signed",
            |it| it["dosageInstruction"] = json!([{"text": "twice"}]),
            true,
            Signature::Changed,
        ),
        (
            "another patient, signed",
            |it| it["subject"]["reference"] = json!("Patient/p2"),
            true,
            Signature::Changed,
        ),
        (
            "active by nobody",
            |it| it["status"] = json!("active"),
            false,
            Signature::Changed,
        ),
        (
            "cancelled",
            |it| it["status"] = json!("cancelled"),
            false,
            Signature::Declined,
        ),
    ];
    for (number, (name, happens, is_signed, expected)) in cases.into_iter().enumerate() {
        let bench = staged().await;
        let handle = &bench.sandbox.handle;
        let order = to_sign(&bench, number as u8 + 1);
        let (location, id) = placed(&bench, &order).await;
        let mut there = handle.resource("MedicationRequest", &id).unwrap();
        happens(&mut there);
        handle.put(&there).unwrap();
        if is_signed {
            assert!(
                handle
                    .sign("MedicationRequest", &id, "Practitioner/dr-1")
                    .unwrap()
            );
        }
        assert_eq!(look(&bench, &order, &location).await, expected, "{name}");
    }
}

#[tokio::test]
async fn nothing_is_placed_signed() {
    let bench = staged().await;
    let rejected = Err(WriteFailed::NotApplied {
        cause: FailureCause::Rejected,
        retry_after_ms: None,
    });
    // Signed already, without its form, or plainly where it would count at once.
    let mut no_form = to_sign(&bench, 1);
    no_form.signed_form = None;
    let mut draft = to_sign(&bench, 2);
    draft.body = prescription(2, "draft").to_string();
    let plain = create(
        &bench.ehr,
        3,
        Strategy::PlainPost,
        &prescription(3, "active"),
    );
    for order in [no_form, draft, plain] {
        assert_eq!(write(&bench.ehr, &order).await, rejected);
    }
    assert!(bench.sandbox.handle.requests().is_empty());
    // A draft that is to stay one is simply posted, and waits for nobody.
    let stays = create(
        &bench.ehr,
        4,
        Strategy::PlainPost,
        &prescription(4, "draft"),
    );
    assert!(write(&bench.ehr, &stays).await.is_ok());
    let looked = bench
        .ehr
        .signature(&attempt(&stays, 1), "MedicationRequest/1")
        .await;
    assert_eq!(looked, Err(EhrReadFailed::Unsupported));
}
