//! Decision support: nobody approves an order about which it was not asked, nor over something critical that it says
//! and nobody went on over. What was said is what the service really said; who went on is who really did.

use chaperone_core::decision_support::{DecisionSupportEvent, ServiceAsked};
use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::Factor;
use chaperone_core::ids::WritebackId;
use chaperone_core::principal::Actor;
use chaperone_core::writeback::WritebackEvent;
use serde_json::{Value, json};

use super::{Case, Property};
use crate::simulation::state::CardsTold;
use crate::simulation::world::{Micros, SECOND};

/// What is an order.
const ORDERS: [&str; 2] = ["MedicationRequest", "ServiceRequest"];
/// How long after it was said it is recorded by a node that goes on; another answer is asked for later than that.
const RECORDED_WITHIN: Micros = 25 * SECOND;

/// What happened between an order and decision support.
enum Heard<'e> {
    Asked {
        order: Digest,
        services: &'e [ServiceAsked],
    },
    Overridden {
        order: Digest,
        card: Digest,
    },
}

/// The same with its number.
type Steps<'e> = Vec<(u64, Heard<'e>)>;

pub(super) fn check(case: &mut Case<'_>) {
    let mut found = Vec::new();
    for id in case.stories.keys() {
        of_one(case, *id, &mut found);
    }
    for seen in found {
        case.broken(Property::CardsKept, seen);
    }
}

fn of_one(case: &Case<'_>, id: WritebackId, found: &mut Vec<String>) {
    let mut steps: Steps<'_> = Vec::new();
    let of_it = case.recorded.iter();
    for it in of_it.filter(|it| it.stream == StreamId::Writeback(id)) {
        match &it.event {
            Event::DecisionSupport(DecisionSupportEvent::Asked {
                order, services, ..
            }) => {
                let order = *order;
                steps.push((it.seq, Heard::Asked { order, services }));
            }
            Event::DecisionSupport(DecisionSupportEvent::Overridden { order, card, .. }) => {
                if !is_meant(case, id, *card, &it.actor, case.done(it.seq)) {
                    found.push(format!("{id} went on over a card, and nobody had said so"));
                }
                let (order, card) = (*order, *card);
                steps.push((it.seq, Heard::Overridden { order, card }));
            }
            Event::Writeback(WritebackEvent::Approved { approval })
                if !matches!(approval.factor, Factor::EhrSignature { .. }) =>
            {
                let Some(draft) = draft(case, id) else {
                    continue;
                };
                if let Some(why) = stands(case, id, &steps, approval.digest, &draft) {
                    found.push(format!("{id} was approved, and {why}"));
                }
            }
            _ => {}
        }
    }
}

fn is_meant(case: &Case<'_>, id: WritebackId, card: Digest, by: &Actor, done: Micros) -> bool {
    let truth = case.truth();
    let human = match by {
        Actor::Human { person, .. } => truth.humans.get(person).copied(),
        _ => None,
    };
    truth
        .overrode
        .iter()
        .any(|it| it.writeback == id && it.card == card && Some(it.human) == human && it.at <= done)
}

/// An order that goes into force, as services are told it; nothing for what nobody is asked about.
fn draft(case: &Case<'_>, id: WritebackId) -> Option<Value> {
    let (_, order) = case.opened(id)?;
    let body = order.get("body").and_then(Value::as_str)?;
    let mut draft: Value = serde_json::from_str(body).ok()?;
    let text = |name: &str| draft.get(name).and_then(Value::as_str);
    let is_order = text("resourceType").is_some_and(|it| ORDERS.contains(&it));
    if !is_order || text("status") != Some("active") {
        return None;
    }
    let members = draft.as_object_mut()?;
    members.retain(|name, _| !["meta", "identifier", "text"].contains(&name.as_str()));
    members.insert("id".to_owned(), json!("draft-1"));
    members.insert("status".to_owned(), json!("draft"));
    Some(draft)
}

/// What stands against an approval.
fn stands(
    case: &Case<'_>,
    id: WritebackId,
    steps: &Steps<'_>,
    digest: Digest,
    draft: &Value,
) -> Option<String> {
    let mut is_asked = false;
    for (seq, step) in steps.iter().rev() {
        let Heard::Asked { order, services } = step else {
            continue;
        };
        if *order != digest {
            continue;
        }
        is_asked = true;
        if services.iter().any(|it| it.not_heard.is_some()) {
            // What it said before counts.
            continue;
        }
        let said = said(case, *seq, draft);
        if said.is_empty() {
            return Some(
                "what decision support is recorded to have said it did not say".to_owned(),
            );
        }
        let is_open = |critical: &str| {
            !steps
                .iter()
                .any(|(_, it)| is_over(case, id, digest, it, critical))
        };
        // Of two answers at one moment one counted.
        let open: Vec<&String> = said
            .iter()
            .map(|told| told.critical.iter().find(|it| is_open(it)))
            .collect::<Option<_>>()?;
        return open
            .first()
            .map(|critical| format!("nobody went on over what decision support said: {critical}"));
    }
    (!is_asked).then(|| "decision support was not asked about it".to_owned())
}

/// What a node was told about an order that it then recorded: just before, or before it was stopped for a while.
fn said<'c>(case: &'c Case<'_>, seq: u64, draft: &Value) -> Vec<&'c CardsTold> {
    let (done, at) = (case.done(seq), usize::try_from(seq).unwrap_or(usize::MAX));
    let truth = case.truth();
    let process = truth.committed_by.get(at);
    let told = truth.told_cards.iter();
    let told: Vec<&CardsTold> = told
        .filter(|it| Some(&it.process) == process && it.at <= done && it.draft == *draft)
        .collect();
    let is_just_before = |it: &&CardsTold| done.saturating_sub(it.at) <= RECORDED_WITHIN;
    match told.last() {
        Some(last) if !is_just_before(last) => vec![*last],
        _ => told.into_iter().filter(is_just_before).collect(),
    }
}

/// Whether a step is somebody's word that an order goes on over something critical.
fn is_over(
    case: &Case<'_>,
    id: WritebackId,
    digest: Digest,
    step: &Heard<'_>,
    critical: &str,
) -> bool {
    let Heard::Overridden { order, card } = step else {
        return false;
    };
    let truth = case.truth();
    *order == digest
        && truth
            .overrode
            .iter()
            .any(|it| it.writeback == id && it.card == *card && it.summary == critical)
}
