//! Delivery: what was sent when, what it did, and what was recorded of it.

use std::collections::BTreeMap;

use chaperone_core::evidence::Strategy;
use chaperone_core::ids::WritebackId;
use chaperone_core::writeback::{NotAppliedBasis, WritebackEvent};

use super::as_one::entries;
use super::{Case, Property, Step, Story};
use crate::simulation::faults::Fault;
use crate::simulation::server::{Exchange, SEARCH_LAG, ServerProfile};
use crate::simulation::state::Sent;
use crate::simulation::world::{Micros, SECOND};

/// A connection may look at the EHR for so long before a send that it has begun.
const LOOKS_FIRST: Micros = 31 * SECOND;

pub(super) fn check(case: &mut Case<'_>) {
    let stories = std::mem::take(&mut case.stories);
    let mut found = Vec::new();
    let mut sends: BTreeMap<WritebackId, Vec<&Sent>> = BTreeMap::new();
    for sent in &case.truth().sends {
        sends.entry(sent.writeback).or_default().push(sent);
    }
    for (id, sends) in &sends {
        let Some(story) = stories.get(id) else {
            found.push((
                Property::Authorised,
                format!("{id} was sent and is not in the ledger"),
            ));
            continue;
        };
        started_first(case, *id, story, sends, &mut found);
        not_again(case, *id, story, sends, &mut found);
    }
    for (id, story) in &stories {
        let effects: Vec<&Exchange> = case
            .state
            .ehr
            .history
            .iter()
            .filter(|it| it.request.writeback == *id && took_effect(case, story, it))
            .collect();
        let files_once = case.profile == ServerProfile::Vendor && !case.state.ehr.forgets_messages;
        let times = times(&effects);
        if (case.profile == ServerProfile::Full || files_once) && times > 1 {
            found.push((
                Property::OnceAtMost,
                format!("{id} took effect {times} times"),
            ));
        }
        outcome(case, *id, story, &effects, &mut found);
        consent(case, *id, story, &mut found);
    }
    order(case, &stories, &mut found);
    case.stories = stories;
    for (property, seen) in found {
        case.broken(property, seen);
    }
}

type Found = Vec<(Property, String)>;

fn started_first(
    case: &Case<'_>,
    id: WritebackId,
    story: &Story,
    sends: &[&Sent],
    found: &mut Found,
) {
    for sent in sends {
        // A node that was stopped goes by its own clock when it goes on; one that was set back tells it wrongly.
        let started = story
            .starts()
            .filter(|(step, _)| step.done <= sent.left)
            .last();
        let started = started.map_or(0, |(step, _)| step.done);
        let was_set_back = case
            .truth()
            .set_back
            .iter()
            .any(|(node, at)| *node == sent.process.node && (started..=sent.left).contains(at));
        if was_set_back {
            continue;
        }
        let last = story.until(sent.left).next_back().map(|step| &step.event);
        let start = match last {
            Some(WritebackEvent::DeliveryStarted(start)) if start.attempt == sent.attempt => start,
            other => {
                let name = other.map_or("nothing".to_owned(), name);
                let seen = format!(
                    "{id}, attempt {}, left {} at {:.3} s when the last thing recorded was {name}",
                    sent.attempt,
                    sent.process,
                    sent.left as f64 / 1e6
                );
                found.push((Property::StartedFirst, seen));
                continue;
            }
        };
        // What is looked at first may take its time; a lease that moves meanwhile cannot call it back.
        let asked = sent.left.saturating_sub(LOOKS_FIRST);
        let epoch = case.truth().leased.iter().rev().find(|it| it.at <= asked);
        if epoch.is_some_and(|it| it.epoch > start.epoch) {
            let seen = format!(
                "{id} was sent under epoch {}, long after it had ended",
                start.epoch
            );
            found.push((Property::EpochKept, seen));
        }
    }
    let leased = &case.truth().leased;
    for (step, start) in story.starts() {
        let held = leased.iter().rev().find(|it| it.at <= step.done);
        if held.is_none_or(|it| it.epoch != start.epoch) {
            let seen = format!(
                "{id} was started under epoch {}, which had ended",
                start.epoch
            );
            found.push((Property::EpochKept, seen));
        }
    }
}

fn name(event: &WritebackEvent) -> String {
    let value = serde_json::to_value(event).unwrap_or_default();
    let name = value.get("what").and_then(serde_json::Value::as_str);
    name.unwrap_or("unreadable").to_owned()
}

fn not_again(case: &Case<'_>, id: WritebackId, story: &Story, sends: &[&Sent], found: &mut Found) {
    for pair in sends.windows(2) {
        let [first, second] = pair else { continue };
        let between = |step: &&Step| first.left < step.done && step.done <= second.left;
        let is_known = story
            .steps
            .iter()
            .filter(between)
            .any(|step| match &step.event {
                WritebackEvent::NotApplied { .. } | WritebackEvent::DeadLettered { .. } => true,
                WritebackEvent::FoundNotApplied { basis, .. } => match basis {
                    NotAppliedBasis::MissAfterSettle => case.profile == ServerProfile::Full,
                    NotAppliedBasis::Human { .. } => case
                        .truth()
                        .looked
                        .iter()
                        .any(|it| it.writeback == id && !it.applied && it.at <= step.done),
                },
                _ => false,
            });
        if !is_known {
            let seen = format!(
                "{id} was sent again at {:.3} s, and nobody knew of the first",
                second.left as f64 / 1e6
            );
            found.push((Property::NotAgainBlindly, seen));
        }
    }
}

/// Whether a request did something. A draft that somebody took away at the EHR did not.
fn took_effect(case: &Case<'_>, story: &Story, exchange: &Exchange) -> bool {
    exchange.effects().any(|done| {
        !is_placed_unsigned(story) || case.state.ehr.now(&done.kind, &done.id).is_some()
    })
}

/// How often the change that was made most often was made.
fn times(effects: &[&Exchange]) -> usize {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for (part, did) in effects.iter().flat_map(|it| it.parts()) {
        if did.is_some() {
            *times.entry(part.body).or_default() += 1;
        }
    }
    times.into_values().max().unwrap_or_default()
}

/// Whether it is placed unsigned, to be signed at the EHR.
pub(super) fn is_placed_unsigned(story: &Story) -> bool {
    story.order().map(|order| order.strategy) == Some(Strategy::EhrStaged)
}

fn outcome(
    case: &Case<'_>,
    id: WritebackId,
    story: &Story,
    effects: &[&Exchange],
    found: &mut Found,
) {
    // Whether a clock told wrongly that the settling time had passed.
    let clocks_hold = !case.happened(Fault::ClockForward) && !case.happened(Fault::ClockBack);
    let first = effects.first().map(|it| it.at);
    for step in &story.steps {
        let says_not_applied = match &step.event {
            WritebackEvent::NotApplied { .. } => true,
            WritebackEvent::FoundNotApplied { basis, .. } => {
                *basis == NotAppliedBasis::MissAfterSettle && clocks_hold
            }
            _ => false,
        };
        if says_not_applied && first.is_some_and(|at| at < step.done.saturating_sub(SEARCH_LAG)) {
            found.push((
                Property::NotAppliedIsTrue,
                format!("{id} is recorded as not applied, and was"),
            ));
        }
    }
    match story.end() {
        // A draft has no effect; what its signature has is looked at elsewhere.
        _ if is_placed_unsigned(story) => {}
        Some(WritebackEvent::Delivered(receipt)) => {
            let is_there = || !effects.is_empty() || made_by_another(case, id);
            if receipt.attested_by.is_none() && !is_there() {
                found.push((
                    Property::OutcomeIsTrue,
                    format!("{id} is recorded as delivered, and nothing arrived"),
                ));
            }
        }
        Some(
            WritebackEvent::Voided { .. }
            | WritebackEvent::Abandoned { .. }
            | WritebackEvent::Refused { .. },
        ) if effects.iter().any(|it| !is_later_than_believed(story, it)) => {
            let end = story.end().map(name).unwrap_or_default();
            found.push((
                Property::OutcomeIsTrue,
                format!("{id} took effect, and is recorded as {end}"),
            ));
        }
        _ => {}
    }
}

/// Whether an effect came after it had been looked for, for as long as the connection says that it may take, and not been
/// found. Sent again, it would be found by its condition; nothing looks for what is then not to be sent any more, as the
/// documentation of delivery says.
fn is_later_than_believed(story: &Story, effect: &Exchange) -> bool {
    let mut believed = story.steps.iter().filter(|step| {
        let basis = NotAppliedBasis::MissAfterSettle;
        matches!(&step.event, WritebackEvent::FoundNotApplied { basis: by, .. } if *by == basis)
    });
    believed.any(|step| effect.at > step.done)
}

/// Whether another write-back made the very same changes of the same resources: then the EHR holds what was
/// approved, and nobody can tell whose it is.
fn made_by_another(case: &Case<'_>, id: WritebackId) -> bool {
    let Some((_, order)) = case.opened(id) else {
        return false;
    };
    entries(&order).all(|entry| {
        let text = |name: &str| entry.get(name).and_then(serde_json::Value::as_str);
        let mut made = case.state.ehr.history.iter().flat_map(Exchange::parts);
        made.any(|(part, did)| {
            did.is_some()
                && Some(&*part.path()) == text("path")
                && same_but_for_meta(part.body, text("body"))
        })
    })
}

/// The same change of the same base; what a server assigns does not count.
pub(super) fn same_but_for_meta(one: &str, other: Option<&str>) -> bool {
    let read = |text: &str| {
        let mut value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        if let Some(members) = value.as_object_mut() {
            members.remove("meta");
            members.remove("text");
        }
        value
    };
    other.is_some_and(|other| read(one) == read(other))
}

fn consent(case: &Case<'_>, id: WritebackId, story: &Story, found: &mut Found) {
    let truth = case.truth();
    let Some(patient) = truth.patient_of.get(&id) else {
        return;
    };
    let subject = id.to_string();
    for (step, _) in story.starts() {
        let claimed = truth
            .claimed
            .iter()
            .rev()
            .find(|it| it.subject == subject && it.at <= step.done);
        let Some(claimed) = claimed else { continue };
        // The EHR may show what is there a moment later; what was withdrawn while the send was prepared may
        // still go.
        let is_refused = truth.withdrawn.iter().any(|it| {
            it.patient == *patient
                && it.from.saturating_add(SEARCH_LAG) <= claimed.at
                && it.until.is_none_or(|until| until > step.done)
        });
        if is_refused {
            found.push((
                Property::ConsentKept,
                format!("{id} was started after {patient} had withdrawn consent"),
            ));
        }
    }
}

/// When a write-back waits in the queue of its patient.
struct Queued {
    id: WritebackId,
    patient: String,
    /// Its place.
    seq: u64,
    /// The place it may have kept: what was set aside and let go has it still if its turn did not come meanwhile.
    earliest: u64,
    from: Micros,
    until: Micros,
}

fn order(case: &Case<'_>, stories: &BTreeMap<WritebackId, Story>, found: &mut Found) {
    let mut queue: Vec<Queued> = Vec::new();
    for (id, story) in stories {
        let patient = story.steps.iter().find_map(|step| match &step.event {
            WritebackEvent::Proposed(proposal) => proposal.patient,
            _ => None,
        });
        let Some(patient) = patient.map(|it| it.to_string()) else {
            continue;
        };
        let mut open: Option<(u64, u64, Micros)> = None;
        for step in &story.steps {
            let enters = story.starts().any(|(start, _)| {
                story
                    .placed_before(start.seq)
                    .is_some_and(|it| it.seq == step.seq)
            });
            let ends = matches!(
                step.event,
                WritebackEvent::Delivered(_)
                    | WritebackEvent::DraftPlaced(_)
                    | WritebackEvent::Quarantined { .. }
                    | WritebackEvent::Voided { .. }
                    | WritebackEvent::DeadLettered { .. }
                    | WritebackEvent::Abandoned { .. }
                    // A human's "not there" may put it behind the others.
                    | WritebackEvent::FoundNotApplied { basis: NotAppliedBasis::Human { .. }, .. }
            );
            match open {
                None if enters => {
                    let earliest = story.queued_before(step.seq.saturating_add(1));
                    let earliest = earliest.map_or(step.seq, |it| it.seq);
                    open = Some((step.seq, earliest, step.done));
                }
                Some((seq, earliest, from)) if ends => {
                    queue.push(Queued {
                        id: *id,
                        patient: patient.clone(),
                        seq,
                        earliest,
                        from,
                        until: step.done,
                    });
                    open = None;
                }
                _ => {}
            }
        }
        if let Some((seq, earliest, from)) = open {
            queue.push(Queued {
                id: *id,
                patient,
                seq,
                earliest,
                from,
                until: Micros::MAX,
            });
        }
    }
    for sent in &case.truth().sends {
        let at = sent.left;
        let waits = |it: &&Queued| it.from <= at && at < it.until;
        let Some(own) = queue
            .iter()
            .filter(waits)
            .find(|it| it.id == sent.writeback)
        else {
            continue;
        };
        let earlier = queue
            .iter()
            .filter(waits)
            .find(|it| it.patient == own.patient && it.id != own.id && it.seq < own.earliest);
        if let Some(earlier) = earlier {
            let seen = format!("{} was sent while {} stood before it", own.id, earlier.id);
            found.push((Property::OrderKept, seen));
        }
    }
}
