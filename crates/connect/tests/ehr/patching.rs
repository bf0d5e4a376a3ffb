//! Updates that go as patches, against a server that takes no whole ones, and one that takes both: each way a send can
//! end, and each order that must not be sent.

use axum::http::StatusCode;
use chaperone_connect::ehr::conformance::RoundTrip;
use chaperone_connect::ehr::{EhrConfig, FhirEndpoint, ProfileSource};
use chaperone_core::conformance::{
    CheckOutcome, Conformance, ConformanceNeeds, ConformanceVerdict, WriteNeed,
};
use chaperone_core::content::content_digest;
use chaperone_core::evidence::{Strategy, WriteOrder};
use chaperone_core::ids::ToolName;
use chaperone_core::patch;
use chaperone_core::ports::{Ehr, Reconciliation, ServerKind, Version, WriteFailed};
use chaperone_core::resource::Interaction;
use chaperone_core::writeback::{FailureCause, HumanNeeded};
use chaperone_sandbox::{FaultKind, FaultRule, ServerProfile};
use serde_json::{Value, json};

use crate::support::{
    Bench, Otherwise, RawServer, Reaction, attempt_where, config, create, endpoint, endpoint_of,
    entries, in_front_of, kind, raw_answer, reconcile, sandbox, task, update, write,
};

const CONDITIONAL: Strategy = Strategy::Conditional;

fn declared(base_url: &str, atomic: bool) -> FhirEndpoint {
    endpoint_of(EhrConfig {
        profile: ProfileSource::Kind {
            kind: ServerKind::Full,
            types: Vec::new(),
            transactions_are_atomic: atomic,
            updates_as_patches: true,
        },
        ..config(base_url, ServerKind::Full)
    })
}

async fn bench(server: ServerProfile, atomic: bool) -> Bench {
    let sandbox = sandbox(server).await;
    let ehr = declared(&sandbox.base_url, atomic);
    Bench { sandbox, ehr }
}

/// A Task that the EHR already has, as read.
async fn existing(bench: &Bench) -> Value {
    let mut base = task(99, "before");
    base["id"] = json!("t1");
    base["note"] = json!([{ "text": "first" }, { "text": "second" }]);
    base["text"] = json!({ "status": "generated", "div": "<div/>" });
    bench.sandbox.handle.put(&base).unwrap();
    bench.ehr.read(&kind("Task"), "t1").await.unwrap()
}

/// The base as the engine would merge a change into it.
fn changed(base: &Value) -> Value {
    let mut body = base.clone();
    body["description"] = json!("after");
    body["note"] = json!([{ "text": "first" }]);
    let members = body.as_object_mut().unwrap();
    members.shift_remove("text");
    members.insert("meta".to_owned(), json!({ "security": [{ "code": "R" }] }));
    body
}

fn patched(ehr: &FhirEndpoint, base: &Value, body: &Value) -> WriteOrder {
    let mut order = update(ehr, 1, CONDITIONAL, base, body);
    order.patch = patch::between(&base.to_string(), &order.body);
    assert!(order.patch.is_some());
    order.base = Some(base.to_string());
    order
}

fn rejected() -> WriteFailed {
    WriteFailed::NotApplied {
        cause: FailureCause::Rejected,
        retry_after_ms: None,
    }
}

fn methods(bench: &Bench) -> Vec<String> {
    let requests = bench.sandbox.handle.requests().into_iter();
    requests
        .map(|it| it.method)
        .filter(|method| method != "GET")
        .collect()
}

#[tokio::test]
async fn an_update_goes_as_a_patch_with_its_provenance() {
    for server in [ServerProfile::Full, ServerProfile::Patching] {
        for atomic in [true, false] {
            let bench = bench(server, atomic).await;
            let base = existing(&bench).await;
            let order = patched(&bench.ehr, &base, &changed(&base));
            bench.sandbox.handle.clear_requests();
            let receipt = write(&bench.ehr, &order).await.unwrap();
            assert_eq!(receipt.version, Some(Version("2".to_owned())));
            assert!(receipt.read_back.is_some() && receipt.provenance_written);
            let sent = methods(&bench);
            let writes = bench.sandbox.handle.changes_by_request();
            assert_eq!(writes.len(), 2);
            if atomic {
                // Patch and Provenance in one request.
                assert_eq!(sent, ["POST"]);
                assert_eq!(writes[0].request, writes[1].request);
            } else {
                assert_eq!(sent, ["PATCH", "POST"]);
            }
            let now = bench.sandbox.handle.resource("Task", "t1").unwrap();
            assert_eq!(now["description"], "after");
            assert_eq!(now["note"], json!([{ "text": "first" }]));
            assert_eq!(now["identifier"], base["identifier"]);
            assert!(now.get("text").is_none());
            let provenance = &bench.sandbox.handle.resources("Provenance")[0];
            let target = provenance["target"][0]["reference"].as_str().unwrap();
            assert!(target.starts_with("Task/t1"), "{target}");

            // The same order again stands on a version that is no longer current.
            assert_eq!(write(&bench.ehr, &order).await, Err(WriteFailed::Stale));
            assert_eq!(bench.sandbox.handle.history("Task", "t1").len(), 2);
            assert_eq!(bench.sandbox.handle.resources("Provenance").len(), 1);
        }
    }
}

#[tokio::test]
async fn the_patch_leaves_byte_for_byte_under_its_version() {
    let base = json!({ "resourceType": "Task", "id": "t1", "status": "requested", "intent": "order",
                       "meta": { "versionId": "7" }, "restriction": { "repetitions": 1 } });
    let mut after = base.clone();
    after["status"] = json!("cancelled");
    after["meta"] = json!({ "versionId": "8" });
    let body = after.to_string();
    let server = RawServer::start(move |_| {
        Reaction::Answer(raw_answer("200 OK", "ETag: W/\"8\"\r\n", &body))
    })
    .await;
    let ehr = declared(&server.base_url, false);
    let mut order = patched(&ehr, &base, &after);
    order.provenance = None;
    write(&ehr, &order).await.unwrap();
    let sent = server.requests().remove(0);
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    assert!(head.starts_with("patch /fhir/task/t1 "), "{head}");
    assert!(head.contains("content-type: application/json-patch+json\r\n"));
    assert!(head.contains("if-match: w/\"7\""));
    assert_eq!(Some(body), order.patch.as_deref());
    assert_eq!(
        body,
        r#"[{"op":"replace","path":"/status","value":"cancelled"}]"#
    );
}

#[tokio::test]
async fn a_patch_of_unknown_outcome_is_found_out_by_version_and_content() {
    for atomic in [true, false] {
        let bench = bench(ServerProfile::Patching, atomic).await;
        let base = existing(&bench).await;
        let order = patched(&bench.ehr, &base, &changed(&base));
        let fault = |kind| {
            let rule = FaultRule::once("PATCH", "Task", kind);
            bench.sandbox.handle.inject(rule);
        };
        for lost in [
            FaultKind::TimeoutBeforeCommit { hold_ms: 0 },
            FaultKind::Status { code: 500 },
        ] {
            fault(lost);
            assert_eq!(write(&bench.ehr, &order).await, Err(WriteFailed::Unknown));
            assert_eq!(reconcile(&bench.ehr, &order).await, Reconciliation::Missing);
        }
        fault(FaultKind::TimeoutAfterCommit { hold_ms: 0 });
        assert_eq!(write(&bench.ehr, &order).await, Err(WriteFailed::Unknown));
        let found = |reconciliation| match reconciliation {
            Reconciliation::Applied(receipt) => receipt,
            other => panic!("{other:?}"),
        };
        let receipt = found(reconcile(&bench.ehr, &order).await);
        assert_eq!(receipt.version, Some(Version("2".to_owned())));
        // In one transaction the Provenance is there too; alone, it was never sent.
        assert_eq!(receipt.provenance_written, atomic);

        // Changed once more by somebody else: the history still shows it.
        let mut theirs = base.clone();
        theirs["description"] = json!("theirs");
        bench.sandbox.handle.put(&theirs).unwrap();
        let receipt = found(reconcile(&bench.ehr, &order).await);
        assert_eq!(receipt.version, Some(Version("2".to_owned())));
    }
}

#[tokio::test]
async fn a_patch_overtaken_by_another_writer_goes_to_a_human_and_changes_nothing() {
    let bench = bench(ServerProfile::Patching, true).await;
    let base = existing(&bench).await;
    let order = patched(&bench.ehr, &base, &changed(&base));
    let lost = FaultKind::TimeoutBeforeCommit { hold_ms: 0 };
    bench
        .sandbox
        .handle
        .inject(FaultRule::once("PATCH", "Task", lost));
    assert_eq!(write(&bench.ehr, &order).await, Err(WriteFailed::Unknown));
    let mut theirs = base.clone();
    theirs["priority"] = json!("urgent");
    bench.sandbox.handle.put(&theirs).unwrap();
    assert_eq!(
        reconcile(&bench.ehr, &order).await,
        Reconciliation::Undecidable(HumanNeeded::ContentDiffers)
    );
    assert_eq!(write(&bench.ehr, &order).await, Err(WriteFailed::Stale));
    let now = bench.sandbox.handle.resource("Task", "t1").unwrap();
    assert_eq!(
        (&now["description"], &now["priority"]),
        (&json!("before"), &json!("urgent"))
    );
}

#[tokio::test]
async fn what_a_refusal_of_a_patch_means() {
    let bench = bench(ServerProfile::Patching, false).await;
    let base = existing(&bench).await;
    let order = patched(&bench.ehr, &base, &changed(&base));
    let unauthorized = WriteFailed::NotApplied {
        cause: FailureCause::Unauthorized,
        retry_after_ms: None,
    };
    for (code, expected) in [
        (409, rejected()),
        (412, WriteFailed::Stale),
        (415, rejected()),
        (422, rejected()),
        (403, unauthorized),
        (503, WriteFailed::Unknown),
    ] {
        let fault = FaultKind::Status { code };
        bench
            .sandbox
            .handle
            .inject(FaultRule::once("PATCH", "Task", fault));
        assert_eq!(write(&bench.ehr, &order).await, Err(expected), "{code}");
    }
    assert_eq!(bench.sandbox.handle.history("Task", "t1").len(), 1);
}

#[tokio::test]
async fn a_patch_that_is_not_what_was_approved_never_leaves() {
    let bench = bench(ServerProfile::Full, true).await;
    let base = existing(&bench).await;
    let good = patched(&bench.ehr, &base, &changed(&base));
    bench.sandbox.handle.clear_requests();
    let mut bad = Vec::new();
    let mut change = |how: &dyn Fn(&mut WriteOrder)| {
        let mut order = good.clone();
        how(&mut order);
        bad.push(order);
    };
    let with = |order: &mut WriteOrder, find: &str, put: &str| {
        let patch = order.patch.take().unwrap();
        assert!(patch.contains(find), "{patch}");
        order.patch = Some(patch.replacen(find, put, 1));
    };
    // One value, one operation more, one less, another spelling, no patch at all.
    change(&|o| with(o, "\"after\"", "\"AFTER\""));
    change(&|o| {
        let more = r#"[{"op":"replace","path":"/status","value":"completed"},"#;
        with(o, "[", more);
    });
    change(&|o| o.patch = Some("[]".to_owned()));
    change(&|o| with(o, "[", "[ "));
    change(&|o| o.patch = Some("{".to_owned()));
    change(&|o| o.patch = Some(o.body.clone()));
    // The body that was shown, and another patch's; and a base that is not the one.
    change(&|o| o.body = o.body.replacen("after", "AFTER", 1));
    change(&|o| o.base = None);
    change(&|o| o.base = Some(o.base.take().unwrap().replacen("before", "BEFORE", 1)));
    change(&|o| o.base_digest = None);
    change(&|o| o.if_match = Some("W/\"2\"".to_owned()));
    change(&|o| o.base_version = Some("2".to_owned()));
    change(&|o| o.if_match = None);
    // In another way than under If-Match.
    change(&|o| o.strategy = Strategy::PlainPost);
    change(&|o| o.strategy = Strategy::HumanEntry);
    change(&|o| {
        o.strategy = Strategy::VendorOp;
        o.operation = Some("$file-entry".to_owned());
    });
    // Whole, where patches are what was declared.
    change(&|o| o.patch = None);
    // A create is no update.
    let mut new = create(&bench.ehr, 2, CONDITIONAL, &task(2, "x"));
    new.patch = Some("[]".to_owned());
    bad.push(new);
    for order in bad {
        let patch = order.patch.clone();
        assert_eq!(
            write(&bench.ehr, &order).await,
            Err(rejected()),
            "{patch:?}"
        );
    }
    // Nor where whole resources are what was declared.
    let whole = endpoint(&bench.sandbox.base_url, ServerKind::Full);
    assert_eq!(write(&whole, &good).await, Err(rejected()));
    assert_eq!(methods(&bench), Vec::<String>::new());
    assert!(write(&bench.ehr, &good).await.is_ok());
}

#[tokio::test]
async fn what_the_ehr_holds_and_does_not_show_stays_or_the_patch_is_refused() {
    // Read before somebody added to it what this reader is not shown: the version says so first, and where it did not,
    // the places in lists would.
    let bench = bench(ServerProfile::Patching, false).await;
    let base = existing(&bench).await;
    let order = patched(&bench.ehr, &base, &changed(&base));
    let mut holds = bench.sandbox.handle.resource("Task", "t1").unwrap();
    holds["extension"] = json!([{ "url": "urn:example:own", "valueString": "kept" }]);
    bench.sandbox.handle.put(&holds).unwrap();
    let seen_as_two = |order: &WriteOrder| {
        let mut base = base.clone();
        base["meta"]["versionId"] = json!("2");
        let mut again = order.clone();
        again.if_match = Some("W/\"2\"".to_owned());
        again.base_version = Some("2".to_owned());
        again.base_digest = Some(content_digest(&base));
        again.base = Some(base.to_string());
        again
    };
    let order = seen_as_two(&order);
    // It is read back and is not what was approved, so a person looks; and the hidden element is still there.
    assert_eq!(write(&bench.ehr, &order).await, Err(WriteFailed::Unknown));
    let now = bench.sandbox.handle.resource("Task", "t1").unwrap();
    assert_eq!(now["extension"], holds["extension"]);
    assert_eq!(now["description"], "after");

    // An entry that is not shown would make another one the second: nothing is changed.
    let bench = self::bench(ServerProfile::Patching, false).await;
    let base_again = existing(&bench).await;
    let order = patched(&bench.ehr, &base_again, &changed(&base_again));
    let mut holds = bench.sandbox.handle.resource("Task", "t1").unwrap();
    holds["note"] = json!([{ "text": "first" }, { "text": "hidden" }, { "text": "second" }]);
    bench.sandbox.handle.put(&holds).unwrap();
    assert_eq!(
        write(&bench.ehr, &seen_as_two(&order)).await,
        Err(rejected())
    );
    let now = bench.sandbox.handle.resource("Task", "t1").unwrap();
    assert_eq!(now["note"], holds["note"]);
}

fn needs() -> ConformanceNeeds {
    let write = |interaction| WriteNeed {
        resource: kind("Task"),
        interaction,
        tools: vec![ToolName::new("a_tool").unwrap()],
    };
    ConformanceNeeds {
        reads: Vec::new(),
        writes: vec![write(Interaction::Create), write(Interaction::Update)],
    }
}

#[tokio::test]
async fn patches_are_shown_where_they_are_going_to_be_used() {
    let probed = ProfileSource::Probed {
        transactions_are_atomic: true,
        updates_as_patches: false,
    };
    for server in [ServerProfile::Full, ServerProfile::Patching] {
        let sandbox = sandbox(server).await;
        let ehr = endpoint_of(EhrConfig {
            profile: probed.clone(),
            ..config(&sandbox.base_url, ServerKind::Full)
        });
        ehr.adopt_probe().await.unwrap();
        let found = ehr
            .conformance(&needs(), &RoundTrip::WithOwnPatient, "run-1")
            .await
            .unwrap();
        assert_eq!(found.verdict(), ConformanceVerdict::Pass, "{found:#?}");
        let is_patched = server == ServerProfile::Patching;
        let update = found.profile.of(&kind("Task"), Interaction::Update);
        assert_eq!((update.strategy, update.patch), (CONDITIONAL, is_patched));
        assert!(update.atomic && update.provenance);
        let create = found.profile.of(&kind("Task"), Interaction::Create);
        assert!(!create.patch);
        let outcome = |check: &str| {
            let mut found = found.checks.iter().filter(|one| one.check == check);
            found.next().map(|one| one.outcome)
        };
        let passed = Some(CheckOutcome::Passed);
        assert_eq!(outcome("patch"), passed.filter(|_| is_patched));
        assert_eq!(outcome("if-match"), passed.filter(|_| !is_patched));
        assert_eq!(
            outcome("patch-in-transaction"),
            passed.filter(|_| is_patched)
        );
        assert_eq!(outcome("transaction"), passed);
        // The draft is taken back in the way that was shown.
        assert_eq!(
            sandbox.handle.resources("Task")[0]["status"],
            "entered-in-error"
        );
        let put = sandbox.handle.requests().into_iter();
        let put = put.filter(|it| it.method == "PUT" && it.path.starts_with("/Task"));
        assert_eq!(put.count() == 0, is_patched);
    }
}

fn is_patch(entry: &Value) -> bool {
    entry["request"]["method"] == "PATCH"
}

/// Takes no transaction with a patch in it, and says so before it looks any further.
const REFUSES_PATCHES_UNREAD: Otherwise = Otherwise {
    asked: |asked| {
        let refuses = entries(asked).iter().any(is_patch);
        refuses.then_some(StatusCode::BAD_REQUEST)
    },
    told: |_, _| None,
};

/// Does the rest of a transaction with a patch in it, and says that all went well.
const IGNORES_PATCHES: Otherwise = Otherwise {
    asked: |asked| {
        entries(asked).retain(|entry| !is_patch(entry));
        None
    },
    told: |asked, told| {
        let asked = asked["entry"].as_array().unwrap().iter();
        for (at, _) in asked.enumerate().filter(|(_, entry)| is_patch(entry)) {
            let good = json!({ "response": { "status": "200 OK", "etag": "W/\"2\"" } });
            entries(told).insert(at, good);
        }
        None
    },
};

#[tokio::test]
async fn a_patch_that_goes_in_no_transaction_goes_before_its_provenance() {
    for odd in [REFUSES_PATCHES_UNREAD, IGNORES_PATCHES] {
        let sandbox = sandbox(ServerProfile::Patching).await;
        let ehr = declared(&in_front_of(&sandbox, odd).await, true);
        let bench = Bench { sandbox, ehr };
        let found = bench
            .ehr
            .conformance(&needs(), &RoundTrip::WithOwnPatient, "run-1")
            .await
            .unwrap();
        assert_eq!(found.verdict(), ConformanceVerdict::Pass, "{found:#?}");
        let support = |interaction| found.profile.of(&kind("Task"), interaction);
        let update = support(Interaction::Update);
        assert!(update.patch && update.provenance && !update.atomic);
        let outcome = |check: &str| {
            let mut found = found.checks.iter().filter(|one| one.check == check);
            found.next().map(|one| one.outcome)
        };
        let reduced = Some(CheckOutcome::Reduced);
        assert_eq!(outcome("patch-in-transaction"), reduced);
        // No other way of changing something is there, so nothing shows that a transaction is undone as a whole.
        assert!(!support(Interaction::Create).atomic);
        assert_eq!(outcome("transaction"), Some(CheckOutcome::NotChecked));

        // What is claimed is still a transaction; what was shown is one after the other.
        let base = existing(&bench).await;
        let order = patched(&bench.ehr, &base, &changed(&base));
        bench.sandbox.handle.clear_requests();
        let attempt = attempt_where(&order, 1, update.atomic);
        let receipt = bench.ehr.write(&attempt).await.unwrap();
        assert_eq!(receipt.version, Some(Version("2".to_owned())));
        assert!(receipt.read_back.is_some() && receipt.provenance_written);
        assert_eq!(methods(&bench), ["PATCH", "POST"]);
        let provenances = bench.sandbox.handle.resources("Provenance").into_iter();
        let about = |it: &Value| it["target"][0]["reference"].as_str().unwrap().to_owned();
        let about_it = provenances.filter(|it| about(it).starts_with("Task/t1"));
        assert_eq!(about_it.count(), 1);
    }
}

/// A server that is sent patches of tasks and whole observations, with what it is odd about.
async fn both_ways(odd: Otherwise) -> Conformance {
    let sandbox = sandbox(ServerProfile::Full).await;
    let base_url = in_front_of(&sandbox, odd).await;
    let mut profile = endpoint(&base_url, ServerKind::Full).profile();
    for (key, entry) in &mut profile.support {
        entry.patch = key == "Task.update";
    }
    let ehr = endpoint_of(EhrConfig {
        profile: ProfileSource::Declared(profile),
        ..config(&base_url, ServerKind::Full)
    });
    let mut needs = needs();
    for need in needs.writes.clone() {
        let resource = kind("Observation");
        needs.writes.push(WriteNeed { resource, ..need });
    }
    let found = ehr.conformance(&needs, &RoundTrip::WithOwnPatient, "run-1");
    let found = found.await.unwrap();
    for name in ["Task", "Observation"] {
        for draft in sandbox.handle.resources(name) {
            assert_eq!(draft["status"], "entered-in-error", "{draft}");
        }
    }
    found
}

/// What still goes in one transaction.
fn atomic(found: &Conformance) -> Vec<&str> {
    let entries = found.profile.support.iter();
    let atomic = entries.filter(|(_, entry)| entry.atomic);
    atomic.map(|(key, _)| key.as_str()).collect()
}

#[tokio::test]
async fn where_patches_go_in_no_transaction_whole_resources_may() {
    let whole = ["Observation.create", "Observation.update", "Task.create"];
    for odd in [REFUSES_PATCHES_UNREAD, IGNORES_PATCHES] {
        let found = both_ways(odd).await;
        assert_eq!(found.verdict(), ConformanceVerdict::Pass, "{found:#?}");
        assert_eq!(atomic(&found), whole, "{found:#?}");
    }
    let as_it_should = Otherwise::asked(|_| None);
    let found = both_ways(as_it_should).await;
    assert_eq!(atomic(&found).len(), 4, "{found:#?}");
}

/// Drops the condition of the entries that match.
fn without(asked: &mut Value, method: &str, condition: &str) {
    for entry in entries(asked) {
        let request = entry["request"].as_object_mut().unwrap();
        if request["method"] == method {
            request.shift_remove(condition);
        }
    }
}

#[tokio::test]
async fn a_transaction_that_ignores_a_condition_is_not_used() {
    type Asked = fn(&mut Value) -> Option<StatusCode>;
    let cases: [(Asked, &str, &str, CheckOutcome); 3] = [
        (
            |asked| {
                without(asked, "POST", "ifNoneExist");
                None
            },
            "create-in-transaction",
            "a condition does not hold",
            CheckOutcome::Reduced,
        ),
        (
            |asked| {
                without(asked, "PUT", "ifMatch");
                None
            },
            "transaction",
            "a PUT of an old version",
            CheckOutcome::Failed,
        ),
        (
            |asked| {
                without(asked, "PATCH", "ifMatch");
                None
            },
            "transaction",
            "a PATCH of an old version",
            CheckOutcome::Failed,
        ),
    ];
    for (asked, check, say, outcome) in cases {
        let found = both_ways(Otherwise::asked(asked)).await;
        assert!(atomic(&found).is_empty(), "{found:#?}");
        let tried = found.checks.iter().find(|one| one.check == check).unwrap();
        assert_eq!(tried.outcome, outcome, "{found:#?}");
        assert!(tried.say.contains(say), "{}", tried.say);
        // Alone, the conditions are kept.
        let mut entries = found.profile.support.values();
        assert!(entries.all(|entry| entry.strategy == CONDITIONAL));
    }
}

#[tokio::test]
async fn a_transaction_that_is_refused_unread_shows_nothing() {
    // Were the refusal of the old version taken for an undone transaction, creates would go in one.
    let found = both_ways(Otherwise::asked(|asked| {
        let mut entries = entries(asked).iter();
        let refuses = entries.any(|entry| entry["request"]["method"] == "PUT");
        refuses.then_some(StatusCode::BAD_REQUEST)
    }))
    .await;
    assert_eq!(found.verdict(), ConformanceVerdict::Pass, "{found:#?}");
    assert!(atomic(&found).is_empty(), "{found:#?}");
}

#[tokio::test]
async fn a_server_that_takes_no_patches_is_sent_none() {
    // Declared to take them; it does not, so people enter what there is to change, and creates go on.
    let sandbox = sandbox(ServerProfile::Plain).await;
    let ehr = declared(&sandbox.base_url, false);
    let found = ehr
        .conformance(&needs(), &RoundTrip::WithOwnPatient, "run-1")
        .await
        .unwrap();
    let update = found.profile.of(&kind("Task"), Interaction::Update);
    assert_eq!(
        (update.strategy, update.patch),
        (Strategy::HumanEntry, false)
    );
    let create = found.profile.of(&kind("Task"), Interaction::Create);
    assert_eq!(create.strategy, Strategy::PlainPost);
    let patch = found
        .checks
        .iter()
        .find(|one| one.check == "patch")
        .unwrap();
    assert_eq!(patch.outcome, CheckOutcome::Reduced);
    assert!(patch.say.contains("updates_as_patches"), "{}", patch.say);
}
