//! Several changes as one transaction: everything or nothing, each way a send can end, servers that are not what they
//! say, and each order that must not be sent.

use axum::http::StatusCode;
use chaperone_connect::ehr::{EhrConfig, EhrLimits, FhirEndpoint, ProfileSource};
use chaperone_core::change::{Change, ChangeClass, Destination, Direction};
use chaperone_core::digest::Digest;
use chaperone_core::evidence::{Strategy, WriteOrder};
use chaperone_core::facts::Facts;
use chaperone_core::ids::{AgentId, IntentId, ToolName};
use chaperone_core::patch;
use chaperone_core::ports::{
    Ehr, EhrReadFailed, Reconciliation, ServerKind, Version, WriteFailed, WriteReceipt,
};
use chaperone_core::request::WriteRequest;
use chaperone_core::together::{NEVER_TOGETHER, OrderEntry};
use chaperone_core::writeback::{FailureCause, HumanNeeded};
use chaperone_sandbox::{FaultKind, FaultRule, RunningSandbox, ServerProfile};
use serde_json::{Value, json};

use crate::support::{
    Otherwise, attempt, attempt_where, config, create, endpoint_of, entries, in_front_of, kind,
    reconcile, sandbox, task, update, write, writeback,
};

const CONDITIONAL: Strategy = Strategy::Conditional;

fn rejected() -> WriteFailed {
    WriteFailed::NotApplied {
        cause: FailureCause::Rejected,
        retry_after_ms: None,
    }
}

fn asked(order: &WriteOrder) -> WriteRequest {
    WriteRequest {
        agent: AgentId::new("agent").unwrap(),
        intent: IntentId::new("intent").unwrap(),
        intent_writes: Vec::new(),
        tool: ToolName::new("a_tool").unwrap(),
        change: Change {
            resource: order.resource.clone(),
            interaction: order.interaction,
            destination: Destination::Ehr,
            from: None,
            to: None,
            clinical_status: None,
            request_intent: None,
            categories: Default::default(),
            elements: Default::default(),
            direction: Direction::default(),
            audience: None,
            from_template: false,
        },
        class: ChangeClass::M0,
        facts: Facts::default(),
        tainted: false,
        bundle: Digest::of_bytes(b"bundle"),
        at_least: None,
        protocol: None,
    }
}

/// One order of several: the first, and the others beside it.
fn together(orders: Vec<WriteOrder>) -> WriteOrder {
    let mut orders = orders.into_iter();
    let mut whole = orders.next().unwrap();
    whole.also = orders
        .map(|order| OrderEntry {
            asked: Box::new(asked(&order)),
            interaction: order.interaction,
            resource: order.resource,
            path: order.path,
            if_none_exist: order.if_none_exist,
            if_match: order.if_match,
            base_version: order.base_version,
            base_digest: order.base_digest,
            base: order.base,
            body: order.body,
            patch: order.patch,
            provenance: order.provenance,
            rests_on: order.rests_on,
        })
        .collect();
    whole
}

struct Pair {
    sandbox: RunningSandbox,
    ehr: FhirEndpoint,
    base: Value,
}

fn source(atomic: bool, updates_as_patches: bool) -> ProfileSource {
    ProfileSource::Kind {
        kind: ServerKind::Full,
        types: Vec::new(),
        transactions_are_atomic: atomic,
        updates_as_patches,
    }
}

async fn pair_at(server: ServerProfile, atomic: bool) -> Pair {
    let sandbox = sandbox(server).await;
    let ehr = endpoint_of(EhrConfig {
        profile: source(atomic, server == ServerProfile::Patching),
        settle_ms: 0,
        ..config(&sandbox.base_url, ServerKind::Full)
    });
    let base = json!({ "resourceType": "Appointment", "id": "a1", "status": "booked",
                       "participant": [{ "status": "accepted" }] });
    sandbox.handle.put(&base).unwrap();
    let base = ehr.read(&kind("Appointment"), "a1").await.unwrap();
    Pair { sandbox, ehr, base }
}

async fn pair() -> Pair {
    pair_at(ServerProfile::Full, true).await
}

impl Pair {
    fn cancelled(&self) -> Value {
        let mut body = self.base.clone();
        body["status"] = json!("cancelled");
        body
    }

    /// A new task, and the appointment cancelled.
    fn order(&self) -> WriteOrder {
        self.order_for(&self.ehr)
    }

    fn order_for(&self, ehr: &FhirEndpoint) -> WriteOrder {
        let body = self.cancelled();
        let mut cancel = update(ehr, 1, CONDITIONAL, &self.base, &body);
        cancel.base = Some(self.base.to_string());
        let update = chaperone_core::resource::Interaction::Update;
        if ehr.profile().of(&kind("Appointment"), update).patch {
            cancel.patch = patch::between(&self.base.to_string(), &body.to_string());
        }
        let new = create(ehr, 1, CONDITIONAL, &task(1, "call the patient"));
        together(vec![new, cancel])
    }

    fn fault(&self, kind: FaultKind) {
        let rule = FaultRule::once("POST", "Bundle", kind);
        self.sandbox.handle.inject(rule);
    }

    /// How many tasks there are, and what became of the appointment.
    fn stands(&self) -> (usize, Value) {
        let handle = &self.sandbox.handle;
        let appointment = handle.resource("Appointment", "a1").unwrap();
        (
            handle.resources("Task").len(),
            appointment["status"].clone(),
        )
    }

    /// How many transactions arrived.
    fn transactions(&self) -> usize {
        let requests = self.sandbox.handle.requests().into_iter();
        requests
            .filter(|it| it.method == "POST" && it.path == "/")
            .count()
    }

    fn somebody_moves_it(&self) {
        let mut theirs = self.base.clone();
        theirs["comment"] = json!("moved");
        self.sandbox.handle.put(&theirs).unwrap();
    }
}

fn applied(reconciliation: Reconciliation) -> WriteReceipt {
    match reconciliation {
        Reconciliation::Applied(receipt) => receipt,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn several_changes_go_as_one_transaction_with_the_provenance_of_each() {
    for server in [ServerProfile::Full, ServerProfile::Patching] {
        let pair = pair_at(server, true).await;
        let order = pair.order();
        let receipt = write(&pair.ehr, &order).await.unwrap();
        assert_eq!(pair.stands(), (1, json!("cancelled")));
        let changes = pair.sandbox.handle.changes_by_request();
        let kinds: Vec<&str> = changes.iter().map(|it| it.resource_type).collect();
        assert_eq!(kinds, ["Task", "Appointment", "Provenance", "Provenance"]);
        assert!(changes.iter().all(|it| it.request == changes[0].request));

        // A receipt for each, in order.
        assert!(receipt.location.starts_with("Task/"));
        assert!(receipt.read_back.is_some() && receipt.provenance_written);
        let [of_update] = receipt.also.as_slice() else {
            panic!("{receipt:?}");
        };
        assert_eq!(of_update.location, "Appointment/a1/_history/2");
        assert_eq!(of_update.version, Some(Version("2".to_owned())));
        assert!(of_update.read_back.is_some());
        let targets: Vec<String> = pair
            .sandbox
            .handle
            .resources("Provenance")
            .iter()
            .map(|it| it["target"][0]["reference"].as_str().unwrap().to_owned())
            .collect();
        assert!(targets.iter().any(|it| it.starts_with("Task/")));
        assert!(targets.iter().any(|it| it == "Appointment/a1"));

        // A later attempt finds all of it, and sends nothing.
        let again = pair.ehr.write(&attempt(&order, 2)).await.unwrap();
        assert_eq!(again, receipt);
        assert_eq!(pair.sandbox.handle.changes_by_request().len(), 4);
    }
}

#[tokio::test]
async fn a_transaction_of_unknown_outcome_is_found_out_as_a_whole() {
    let pair = pair().await;
    let order = pair.order();
    for lost in [
        FaultKind::TimeoutBeforeCommit { hold_ms: 0 },
        FaultKind::Status { code: 500 },
    ] {
        pair.fault(lost);
        assert_eq!(write(&pair.ehr, &order).await, Err(WriteFailed::Unknown));
        assert_eq!(reconcile(&pair.ehr, &order).await, Reconciliation::Missing);
        assert_eq!(pair.stands(), (0, json!("booked")));
    }
    pair.fault(FaultKind::TimeoutAfterCommit { hold_ms: 0 });
    assert_eq!(write(&pair.ehr, &order).await, Err(WriteFailed::Unknown));
    let receipt = applied(reconcile(&pair.ehr, &order).await);
    assert_eq!(receipt.also.len(), 1);
    assert!(receipt.provenance_written);
    assert_eq!(pair.stands(), (1, json!("cancelled")));
    // Changed since by somebody else: it still shows that all of it took effect.
    pair.somebody_moves_it();
    assert_eq!(applied(reconcile(&pair.ehr, &order).await), receipt);
    let again = pair.ehr.write(&attempt(&order, 2)).await.unwrap();
    assert_eq!(again, receipt);
    assert_eq!(pair.sandbox.handle.resources("Task").len(), 1);
}

#[tokio::test]
async fn one_change_that_cannot_be_made_keeps_all_of_them_back() {
    // Somebody was faster with the one: nothing of the other is made, and it is known why.
    let pair = pair().await;
    let order = pair.order();
    pair.somebody_moves_it();
    assert_eq!(write(&pair.ehr, &order).await, Err(WriteFailed::Stale));
    assert_eq!(pair.stands(), (0, json!("booked")));
    // Updates alone say so by themselves.
    let pair = self::pair().await;
    let mut base = task(7, "before");
    base["id"] = json!("t1");
    pair.sandbox.handle.put(&base).unwrap();
    let base = pair.ehr.read(&kind("Task"), "t1").await.unwrap();
    let mut body = base.clone();
    body["description"] = json!("after");
    let updates = || {
        let first = update(&pair.ehr, 1, CONDITIONAL, &base, &body);
        let second = update(&pair.ehr, 1, CONDITIONAL, &pair.base, &pair.cancelled());
        together(vec![first, second])
    };
    let right = updates();
    pair.somebody_moves_it();
    assert_eq!(write(&pair.ehr, &right).await, Err(WriteFailed::Stale));
    let now = pair.sandbox.handle.resource("Task", "t1").unwrap();
    assert_eq!(now["description"], "before");
    // A conflict for another reason than a version is looked up.
    let pair = self::pair().await;
    let order = pair.order();
    pair.fault(FaultKind::PreconditionFailed);
    assert_eq!(write(&pair.ehr, &order).await, Err(WriteFailed::Unknown));
    assert_eq!(reconcile(&pair.ehr, &order).await, Reconciliation::Missing);
    pair.fault(FaultKind::Status { code: 422 });
    assert_eq!(write(&pair.ehr, &order).await, Err(rejected()));
    assert!(write(&pair.ehr, &order).await.is_ok());
}

#[tokio::test]
async fn what_cannot_be_one_transaction_never_leaves() {
    let pair = pair().await;
    let good = pair.order();
    let mut bad = Vec::new();
    let mut change = |how: &dyn Fn(&mut WriteOrder)| {
        let mut order = good.clone();
        how(&mut order);
        bad.push(order);
    };
    // In no other way than under conditions.
    change(&|o| o.strategy = Strategy::PlainPost);
    change(&|o| o.strategy = Strategy::HumanEntry);
    change(&|o| {
        o.strategy = Strategy::VendorOp;
        o.operation = Some("$file-entry".to_owned());
    });
    // Each under its own, and each what it says it is.
    change(&|o| o.also[0].if_match = None);
    change(&|o| o.if_none_exist = None);
    change(&|o| o.also[0].path = "Appointment/../Patient/p1".to_owned());
    change(&|o| o.also[0].path = "Appointment/a2".to_owned());
    change(&|o| o.also[0].body = "{}".to_owned());
    change(&|o| o.also[0].provenance = Some("{}".to_owned()));
    // And each with its Provenance.
    change(&|o| o.also[0].provenance = None);
    change(&|o| o.provenance = None);
    change(&|o| o.also[0].interaction = chaperone_core::resource::Interaction::Delete);
    change(&|o| o.also[0].patch = Some("[]".to_owned()));
    // No resource twice, whether it is there already or is to be made.
    change(&|o| o.also.push(o.also[0].clone()));
    change(&|o| {
        let twice = together(vec![o.clone(), o.clone()]).also.remove(0);
        o.also.push(twice);
    });
    // Not without end, and not what goes alone.
    change(&|o| o.also = vec![o.also[0].clone(); 10]);
    for alone in NEVER_TOGETHER {
        let body = json!({ "resourceType": alone, "identifier": [{
            "system": "urn:chaperone:writeback", "value": writeback(3).to_string() }] });
        let alone = create(&pair.ehr, 3, CONDITIONAL, &body);
        bad.push(together(vec![
            create(&pair.ehr, 1, CONDITIONAL, &task(1, "x")),
            alone,
        ]));
    }
    pair.sandbox.handle.clear_requests();
    for order in bad {
        let sent = write(&pair.ehr, &order).await;
        assert_eq!(sent, Err(rejected()), "{order:?} {:?}", order.also);
    }
    // Nor where transactions are not atomic, for one of the types or for all.
    let one_type = |atomic: bool| {
        let mut profile = pair.ehr.profile();
        for (key, entry) in &mut profile.support {
            entry.atomic = atomic || key.starts_with("Task");
        }
        endpoint_of(EhrConfig {
            profile: ProfileSource::Declared(profile),
            ..config(&pair.sandbox.base_url, ServerKind::Full)
        })
    };
    let not_atomic = endpoint_of(EhrConfig {
        profile: source(false, false),
        ..config(&pair.sandbox.base_url, ServerKind::Full)
    });
    for ehr in [not_atomic, one_type(false)] {
        assert_eq!(write(&ehr, &good).await, Err(rejected()));
    }
    // Nor where that is claimed and was not shown, or where no Provenance is taken.
    let unshown = attempt_where(&good, 1, false);
    assert_eq!(pair.ehr.write(&unshown).await, Err(rejected()));
    let mut unsigned = pair.ehr.profile();
    for (key, entry) in &mut unsigned.support {
        entry.provenance = key.starts_with("Task");
    }
    let unsigned = endpoint_of(EhrConfig {
        profile: ProfileSource::Declared(unsigned),
        ..config(&pair.sandbox.base_url, ServerKind::Full)
    });
    assert_eq!(write(&unsigned, &good).await, Err(rejected()));
    assert_eq!(pair.sandbox.handle.requests(), []);
    assert!(write(&one_type(true), &good).await.is_ok());
}

/// Does all of it and is silent about the last entry.
const FEWER_ENTRIES: Otherwise = Otherwise {
    asked: |_| None,
    told: |_, told| {
        entries(told).pop();
        None
    },
};

fn first_entry_alone(asked: &mut Value) -> Option<StatusCode> {
    entries(asked).truncate(1);
    None
}

/// Does the first entry alone and fails.
const HALF_AND_FAILS: Otherwise = Otherwise {
    asked: first_entry_alone,
    told: |_, _| Some(StatusCode::INTERNAL_SERVER_ERROR),
};

/// Does the first entry alone and says that all went well.
const HALF_AND_SAYS_ALL: Otherwise = Otherwise {
    asked: first_entry_alone,
    told: |asked, told| {
        let all = asked["entry"].as_array().unwrap().len();
        let good = json!({ "response": { "status": "200 OK", "etag": "W/\"2\"" } });
        entries(told).resize(all, good);
        None
    },
};

async fn odd(pair: &Pair, how: Otherwise, settle_ms: i64) -> FhirEndpoint {
    let base_url = in_front_of(&pair.sandbox, how).await;
    endpoint_of(EhrConfig {
        profile: source(true, false),
        settle_ms,
        ..config(&base_url, ServerKind::Full)
    })
}

#[tokio::test]
async fn a_server_that_is_silent_about_an_entry_is_asked_what_it_did() {
    let pair = pair().await;
    let ehr = odd(&pair, FEWER_ENTRIES, 0).await;
    let order = pair.order_for(&ehr);
    assert_eq!(write(&ehr, &order).await, Err(WriteFailed::Unknown));
    let receipt = applied(reconcile(&ehr, &order).await);
    assert_eq!(receipt.also.len(), 1);
    assert_eq!(pair.stands(), (1, json!("cancelled")));
}

#[tokio::test]
async fn a_server_that_does_half_of_it_is_put_before_a_human() {
    for how in [HALF_AND_FAILS, HALF_AND_SAYS_ALL] {
        let pair = pair().await;
        let ehr = odd(&pair, how, 0).await;
        let order = pair.order_for(&ehr);
        assert_eq!(write(&ehr, &order).await, Err(WriteFailed::Unknown));
        let partly = Reconciliation::Undecidable(HumanNeeded::PartlyApplied);
        assert_eq!(reconcile(&ehr, &order).await, partly);
        assert_eq!(pair.stands(), (1, json!("booked")));
        // The rest is not sent after it.
        let sent = pair.transactions();
        let again = ehr.write(&attempt(&order, 2)).await;
        assert_eq!(again, Err(WriteFailed::Unknown));
        assert_eq!(pair.stands(), (1, json!("booked")));
        // While a search may not show all of it yet, it is looked at again, and nothing is sent.
        let settling = odd(&pair, how, 60_000).await;
        let order = pair.order_for(&settling);
        let looked = settling.reconcile(&attempt(&order, 1)).await;
        assert_eq!(looked, Err(EhrReadFailed::Unavailable));
        let again = settling.write(&attempt(&order, 2)).await;
        assert_eq!(again, Err(WriteFailed::Unknown));
        assert_eq!(pair.transactions(), sent);
    }
}

#[tokio::test]
async fn a_later_attempt_that_cannot_look_sends_nothing() {
    let pair = pair().await;
    let hasty = endpoint_of(EhrConfig {
        profile: source(true, false),
        limits: EhrLimits {
            connect_timeout_ms: 100,
            exchange_timeout_ms: 300,
            ..EhrLimits::default()
        },
        ..config(&pair.sandbox.base_url, ServerKind::Full)
    });
    for (ehr, fault) in [
        (&pair.ehr, FaultKind::Status { code: 503 }),
        (&hasty, FaultKind::Latency { ms: 2_000 }),
    ] {
        let order = pair.order_for(ehr);
        let rule = FaultRule::once("GET", "Appointment", fault).times(3);
        pair.sandbox.handle.inject(rule);
        let later = ehr.write(&attempt(&order, 2)).await;
        assert_eq!(later, Err(WriteFailed::Unknown));
        assert_eq!(pair.transactions(), 0);
        pair.sandbox.handle.clear_faults();
    }
    // It is looked up, and once that shows that nothing is there it goes.
    let order = pair.order();
    assert_eq!(reconcile(&pair.ehr, &order).await, Reconciliation::Missing);
    assert!(pair.ehr.write(&attempt(&order, 3)).await.is_ok());
    assert_eq!(pair.transactions(), 1);
}

#[tokio::test]
async fn what_cannot_be_told_of_one_change_cannot_be_told_of_all() {
    let pair = pair().await;
    let order = pair.order();
    pair.fault(FaultKind::TimeoutAfterCommit { hold_ms: 0 });
    assert_eq!(write(&pair.ehr, &order).await, Err(WriteFailed::Unknown));
    // A second task carries the identifier: which of them is ours nobody can say.
    let mut copy = task(1, "call the patient");
    copy["id"] = json!("copy");
    pair.sandbox.handle.put(&copy).unwrap();
    assert_eq!(
        reconcile(&pair.ehr, &order).await,
        Reconciliation::Undecidable(HumanNeeded::MoreThanOne)
    );
    // An EHR that does not answer says nothing of either.
    let down = FaultKind::Status { code: 503 };
    let rule = FaultRule::once("GET", "Appointment", down).times(3);
    pair.sandbox.handle.inject(rule);
    let looked = pair.ehr.reconcile(&attempt(&order, 1)).await;
    assert_eq!(looked, Err(EhrReadFailed::Unavailable));
}
