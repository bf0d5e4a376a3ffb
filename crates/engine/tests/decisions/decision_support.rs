//! Decision support before an order is approved: what a service is told, what its cards hold up and what not, and what
//! it means that it was not heard.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chaperone_core::decision_support::NotHeard;
use chaperone_core::digest::Digest;
use chaperone_core::event::{DecisionKind, Event, StreamId};
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::{CdsServiceId, OverrideReason, WritebackId};
use chaperone_core::ports::DecisionSupport;
use chaperone_core::principal::{Human, Role};
use chaperone_core::writeback::StateName;
use chaperone_engine::approve::{ApproveRequest, DecideFailed};
use chaperone_engine::decision_support::{OverCard, SupportStands, SupportView};
use chaperone_engine::{Engine, EngineConfig, Ports};
use chaperone_testkit::SeededRandom;
use serde_json::{Value, json};

use crate::bench::*;
use crate::undo::approve;

/// A service that answers what it is told to, and remembers what it was asked.
#[derive(Debug, Default)]
struct Spoken {
    answers: Mutex<VecDeque<Result<Value, NotHeard>>>,
    asked: Mutex<Vec<Value>>,
}

#[async_trait]
impl DecisionSupport for Spoken {
    async fn ask(&self, _service: &CdsServiceId, request: &Value) -> Result<Value, NotHeard> {
        self.asked.lock().unwrap().push(request.clone());
        let next = self.answers.lock().unwrap().pop_front();
        next.unwrap_or(Ok(json!({ "cards": [] })))
    }
}

impl Spoken {
    fn says(&self, answer: Result<Value, NotHeard>) {
        self.answers.lock().unwrap().push_back(answer);
    }

    fn times(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn critical() -> Value {
    json!({ "cards": [{
        "summary": "<b>Duplicate</b> test", "detail": "Done yesterday.", "indicator": "critical",
        "source": { "label": "Checks" }, "suggestions": [{ "label": "Leave it", "actions": [
            { "type": "update", "description": "Cancel", "resource": { "resourceType": "ServiceRequest" } },
        ] }],
    }], "systemActions": [{ "type": "delete", "resourceId": "ServiceRequest/1" }] })
}

fn clinician() -> Human {
    human(2, &[Role::Clinician])
}

/// A bench with one service listed, and what it says.
async fn listening(db: Db, unanswered: &str) -> (Bench, Arc<Spoken>) {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let mut files = chaperone_policy::embedded::files();
    let table = files.get_mut("rules/decision-support.toml").unwrap();
    *table = table.replace(
        "unanswered = \"warn\"",
        &format!("unanswered = \"{unanswered}\""),
    );
    *table = table.replace("fresh_minutes = 10", "fresh_minutes = 2");
    table.push_str(
        "\n[[services]]\nid = \"checks\"\nname = \"Order checks\"\nprefetch = [\"patient\", \"allergies\"]\n",
    );
    let spoken = Arc::new(Spoken::default());
    let config = EngineConfig {
        decision_support: Some(spoken.clone()),
        ..EngineConfig::new(tenant(), "http://127.0.0.1:8080")
    };
    // As another process on the same store, which draws other ids.
    let ports = Ports {
        random: Arc::new(SeededRandom::new(2)),
        ..ports(bench.store.clone(), bench.ehr.clone(), bench.clock.clone())
    };
    let engine = Engine::start(config, bundle(&files), ports).await.unwrap();
    show(&engine, &bench.ehr).await;
    bench.engine = engine;
    (bench, spoken)
}

async fn ordered(bench: &Bench, key: &str) -> WritebackId {
    let agent = bench
        .caller(&clinician(), "order-agent", "submit-order", "p1")
        .await;
    let order = json!({ "idempotency_key": key, "test": "4548-4", "priority": "routine" });
    let answer = bench.call(&agent, "order_lab", order).await;
    let id = answer["proposal"].as_str().unwrap().parse().unwrap();
    assert_eq!(
        bench.state(id).await,
        StateName::AwaitingApproval,
        "{answer}"
    );
    id
}

async fn shown(bench: &Bench, id: WritebackId) -> SupportView {
    let view = bench.engine.decision_support(&clinician(), id).await;
    view.unwrap().unwrap()
}

fn stands(refused: Result<StateName, DecideFailed>) -> SupportStands {
    match refused {
        Err(DecideFailed::DecisionSupport(stands)) => stands,
        other => panic!("{other:?}"),
    }
}

/// Refused decisions of a person, oldest first.
async fn tries(bench: &Bench, by: &Human) -> Vec<(DecisionKind, String)> {
    let stream = StreamId::Account(by.account.clone());
    let events = bench.store.stream(&tenant(), &stream).await.unwrap();
    let tries = events.into_iter().filter_map(|it| match it.event {
        Event::DecisionRefused { decision, code, .. } => Some((decision, code)),
        _ => None,
    });
    tries.collect()
}

pub(crate) async fn a_critical_card_holds_an_order_until_somebody_says_why_it_goes_on(db: Db) {
    let (bench, spoken) = listening(db, "warn").await;
    bench.ehr.put(json!({
        "resourceType": "AllergyIntolerance", "id": "a1", "patient": { "reference": "Patient/p1" },
        "code": { "text": "Penicillin" }, "note": [{ "text": "private words" }],
    }));
    let id = ordered(&bench, "1").await;
    spoken.says(Ok(critical()));
    let view = shown(&bench, id).await;
    assert_eq!(view.stands, Some(SupportStands::Critical));
    assert_eq!(view.cards.len(), 1);
    let card = &view.cards[0].card;
    assert_eq!(
        (card.summary.as_str(), card.suggests),
        ("Duplicate test", true)
    );

    // What it was told: the order as a draft, and no more of the patient than the table says.
    let asked = spoken.asked.lock().unwrap()[0].clone();
    assert_eq!(asked["hook"], "order-sign");
    let draft = &asked["context"]["draftOrders"]["entry"][0]["resource"];
    assert_eq!(
        (draft["status"].as_str(), draft.get("identifier")),
        (Some("draft"), None)
    );
    assert_eq!(asked["prefetch"]["patient"]["birthDate"], "1950-02-03");
    assert!(asked["prefetch"]["patient"].get("identifier").is_none());
    let told = asked.to_string();
    assert!(
        told.contains("Penicillin") && !told.contains("private words") && !told.contains("MRN")
    );
    assert!(asked.get("fhirAuthorization").is_none());

    // Looking again asks nobody again; approving is refused, whoever tries.
    shown(&bench, id).await;
    assert_eq!(spoken.times(), 1);
    let refused = approve(&bench, &clinician(), id, true).await;
    assert_eq!(stands(refused), SupportStands::Critical);

    // Only a reason of the list, for this card of this order, by somebody who could approve it; whoever tries
    // otherwise is on record.
    let order = bench.row(id).await.digest.unwrap();
    let over = async |by: &Human, order, card, reason: &str| {
        let reason = OverrideReason::new(reason).unwrap();
        let over = OverCard {
            order,
            card,
            reason,
        };
        bench.engine.override_card(by, id, over).await
    };
    let stranger = human(5, &[Role::Scheduler]);
    for (by, order, card, reason, code) in [
        (
            clinician(),
            order,
            card.id,
            "because",
            "override-reason-unknown",
        ),
        (stranger, order, card.id, "monitored", "role-not-permitted"),
        (
            clinician(),
            card.id,
            card.id,
            "monitored",
            "approval-payload-mismatch",
        ),
        (clinician(), order, order, "monitored", "card-unknown"),
    ] {
        let refused = over(&by, order, card, reason).await.unwrap_err();
        assert_eq!(refused.code(), code);
        let tries = tries(&bench, &by).await;
        assert_eq!(
            tries.last(),
            Some(&(DecisionKind::OverrideCard, code.to_owned()))
        );
    }
    over(&clinician(), order, card.id, "monitored")
        .await
        .unwrap();
    let again = over(&clinician(), order, card.id, "monitored").await;
    assert_eq!(again.unwrap_err().code(), "card-unknown");
    let view = shown(&bench, id).await;
    assert_eq!(view.stands, None);
    assert_eq!(
        view.cards[0].overridden.as_deref(),
        Some("It will be monitored")
    );

    // An old answer is asked for again; the same card about the same order stays decided, a new one does not.
    bench.clock.advance_s(2 * 60);
    spoken.says(Ok(critical()));
    assert_eq!(
        approve(&bench, &clinician(), id, true).await.unwrap(),
        StateName::Ready
    );
    assert_eq!(spoken.times(), 2);
    bench.deliver().await;
    assert_eq!(bench.state(id).await, StateName::Delivered);
    // Nothing that a service suggests is ever done.
    assert_eq!(bench.ehr.written().len(), 1);
    let stream = StreamId::Writeback(id);
    let events = bench.store.stream(&tenant(), &stream).await.unwrap();
    let kinds: Vec<String> = events.iter().map(|it| it.event.kind()).collect();
    let support: Vec<&str> = kinds
        .iter()
        .filter_map(|kind| kind.strip_prefix("decision_support."))
        .collect();
    assert_eq!(support, ["asked", "overridden", "asked"]);
    let leaves = bench.store.leaves(&tenant(), 0, 1_000).await.unwrap();
    let is_silent = |leaf: &Vec<u8>| !String::from_utf8_lossy(leaf).contains("Duplicate");
    assert!(leaves.iter().all(is_silent));
}

pub(crate) async fn a_new_critical_card_at_approval_holds_it(db: Db) {
    let (bench, spoken) = listening(db, "warn").await;
    let id = ordered(&bench, "1").await;
    assert_eq!(shown(&bench, id).await.stands, None);
    // Later the service knows more, and nobody looked.
    bench.clock.advance_s(2 * 60);
    spoken.says(Ok(critical()));
    let refused = approve(&bench, &clinician(), id, true).await;
    assert_eq!(stands(refused), SupportStands::Critical);
    assert_eq!(bench.state(id).await, StateName::AwaitingApproval);
    // That it falls silent takes nothing back, also where silence alone would hold nothing up.
    bench.clock.advance_s(2 * 60);
    spoken.says(Err(NotHeard::NoAnswer));
    let refused = approve(&bench, &clinician(), id, true).await;
    assert_eq!(stands(refused), SupportStands::Critical);
    let view = shown(&bench, id).await;
    assert_eq!((view.cards.len(), view.unheard.len()), (1, 1));
    // Another order is asked about for itself, also while that one is held.
    let other = ordered(&bench, "2").await;
    assert_eq!(
        approve(&bench, &clinician(), other, true).await.unwrap(),
        StateName::Ready
    );
    assert_eq!(spoken.times(), 4);
}

pub(crate) async fn a_service_that_is_not_heard_is_shown_and_holds_what_the_table_says(db: Db) {
    for (unanswered, holds) in [("warn", false), ("block", true)] {
        let (bench, spoken) = listening(db, unanswered).await;
        let id = ordered(&bench, "1").await;
        spoken.says(Err(NotHeard::NoAnswer));
        let view = shown(&bench, id).await;
        assert_eq!(
            view.unheard,
            [("Order checks".to_owned(), "it did not answer in time")]
        );
        assert_eq!(view.stands.is_some(), holds, "{unanswered}");
        let approved = approve(&bench, &clinician(), id, true).await;
        assert_eq!(approved.is_ok(), holds.eq(&false), "{approved:?}");
        if holds {
            // It is asked again soon, and then the order goes on.
            bench.clock.advance_s(30);
            assert_eq!(
                approve(&bench, &clinician(), id, true).await.unwrap(),
                StateName::Ready
            );
        }
    }
    // An answer that is none counts as not heard; a task is no order, and nobody is asked about it.
    let (bench, spoken) = listening(db, "block").await;
    let id = ordered(&bench, "1").await;
    spoken.says(Ok(json!({ "cards": "none" })));
    assert_eq!(
        stands(approve(&bench, &clinician(), id, true).await),
        SupportStands::NotHeard
    );
    let agent = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
    let task = bench.task(&agent, "t", json!([])).await;
    assert!(
        bench
            .engine
            .decision_support(&nurse(), task.id)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(spoken.times(), 1);
}

pub(crate) async fn only_whose_turn_it_is_causes_a_question_and_cards_below_critical_hold_nothing(
    db: Db,
) {
    let (bench, spoken) = listening(db, "warn").await;
    let id = ordered(&bench, "1").await;
    // Somebody else's look, another digest, a missing second factor: nobody outside hears of the patient for it.
    let scheduler = human(5, &[Role::Scheduler]);
    assert!(bench.engine.decision_support(&scheduler, id).await.is_err());
    let admin = human(6, &[Role::ItAdmin]);
    let outline = bench.engine.decision_support(&admin, id).await.unwrap();
    assert!(outline.is_none());
    let request = ApproveRequest {
        writeback: id,
        digest: Digest::of_bytes(b"other content"),
        step_up: None,
        override_reason: None,
        review_ms: 5_000,
    };
    let refused = bench.engine.approve(&clinician(), request).await;
    assert!(matches!(refused, Err(DecideFailed::Refused(_))));
    assert!(approve(&bench, &clinician(), id, false).await.is_err());
    assert_eq!(spoken.times(), 0);

    let card = |indicator: &str| json!({ "summary": indicator, "indicator": indicator });
    spoken.says(Ok(json!({ "cards": [card("info"), card("warning")] })));
    let view = shown(&bench, id).await;
    let order: Vec<&str> = view
        .cards
        .iter()
        .map(|it| it.card.summary.as_str())
        .collect();
    assert_eq!((order, view.stands), (vec!["warning", "info"], None));
    // What is no critical card is not decided about.
    let over = OverCard {
        order: bench.row(id).await.digest.unwrap(),
        card: view.cards[0].card.id,
        reason: OverrideReason::new("monitored").unwrap(),
    };
    let refused = bench.engine.override_card(&clinician(), id, over).await;
    assert_eq!(refused.unwrap_err().code(), "card-unknown");
    assert_eq!(
        approve(&bench, &clinician(), id, true).await.unwrap(),
        StateName::Ready
    );
    // What was heard can still be read, and holds nothing any more.
    assert_eq!(shown(&bench, id).await.cards.len(), 2);
    assert_eq!(spoken.times(), 1);
}

pub(crate) async fn what_is_specially_protected_is_told_to_nobody_and_that_is_said(db: Db) {
    let (bench, spoken) = listening(db, "block").await;
    let label = |code: &str| {
        json!({ "security": [{
            "system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": code,
        }] })
    };
    for (id, code, text) in [("a1", "N", "Penicillin"), ("a2", "R", "Methadone")] {
        bench.ehr.put(json!({
            "resourceType": "AllergyIntolerance", "id": id, "meta": label(code),
            "patient": { "reference": "Patient/p1" }, "code": { "text": text },
        }));
    }
    let id = ordered(&bench, "1").await;
    let view = shown(&bench, id).await;
    assert_eq!((view.left_out, view.stands), (1, None));
    let told = spoken.asked.lock().unwrap()[0].to_string();
    assert!(
        told.contains("Penicillin") && !told.contains("Methadone"),
        "{told}"
    );

    // Where the patient is, nobody is told anything, and that counts as not heard.
    let mut patient = bench.ehr.resource("Patient", "p1").unwrap();
    patient["meta"] = label("V");
    bench.ehr.put(patient);
    bench.clock.advance_s(2 * 60);
    let view = shown(&bench, id).await;
    assert_eq!(view.stands, Some(SupportStands::NotHeard));
    assert_eq!(
        view.unheard,
        [("Order checks".to_owned(), NotHeard::Protected.words())]
    );
    assert_eq!(spoken.times(), 1);
}
