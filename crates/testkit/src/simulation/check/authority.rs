//! Authority: what every start of a delivery rests on, and whether what arrived is what was agreed to.

use std::collections::BTreeSet;

use chaperone_core::event::Event;
use chaperone_core::evidence::{ApprovalRecord, Factor, Strategy};
use chaperone_core::gate::Gate;
use chaperone_core::ids::{PersonId, WritebackId};
use chaperone_core::mode::{Mode, ModeScope};
use chaperone_core::principal::Actor;
use chaperone_core::writeback::{OrderRef, WritebackEvent};
use serde_json::Value;

use super::as_one::entries;
use super::linked::weight;
use super::{Case, Property, Step, Story};
use crate::simulation::server::ServerProfile;

pub(super) fn check(case: &mut Case<'_>) {
    let stories = std::mem::take(&mut case.stories);
    for (id, story) in &stories {
        approvals(case, *id, story);
        for (step, start) in story.starts() {
            let authority = authority(story, step, |person| is_in_training(case, person));
            if let Err(lacks) = authority {
                case.broken(
                    Property::Authorised,
                    format!("{id} was started without {lacks}"),
                );
            }
            if story.order().map(|order| order.digest) != Some(start.digest) {
                case.broken(
                    Property::ByteForByte,
                    format!("{id} was started for another digest than was ruled on"),
                );
            }
            if let Some(late) = late(story, step) {
                case.broken(
                    Property::InTime,
                    format!("{id} was started {late} s after its deliver-by"),
                );
            }
        }
    }
    switches(case, &stories);
    case.stories = stories;
    bodies(case);
}

fn is_in_training(case: &Case<'_>, person: &PersonId) -> bool {
    let truth = case.truth();
    let human = truth.humans.get(person);
    human.is_some_and(|human| truth.in_training.contains(human))
}

/// What the start of a delivery lacks.
fn authority(
    story: &Story,
    start: &Step,
    learns: impl Fn(&PersonId) -> bool,
) -> Result<(), String> {
    let before = || story.steps.iter().filter(|step| step.seq < start.seq);
    let ruling = before().find_map(|step| match &step.event {
        WritebackEvent::Ruled { ruling, order } => Some((ruling, order)),
        _ => None,
    });
    let Some((ruling, order)) = ruling else {
        return Err("a ruling".to_owned());
    };
    let given: Vec<&ApprovalRecord> = before()
        .filter_map(|step| match &step.event {
            WritebackEvent::Approved { approval } if approval.digest == order.digest => {
                Some(approval)
            }
            _ => None,
        })
        .collect();
    // What somebody in training approved opens nothing by itself.
    let given: Vec<&ApprovalRecord> = given.into_iter().filter(|it| !learns(&it.person)).collect();
    // What one of several changes needs, all of them need; what needs less is given by more.
    let whole = weight(&ruling.gate);
    let parts = ruling.entries.iter().map(|entry| &entry.gate);
    let parts = parts.filter(|gate| weight(gate) >= whole);
    for gate in std::iter::once(&ruling.gate).chain(parts) {
        met(gate, order, before(), &given)?;
    }
    Ok(())
}

/// What a gate demands and was not given.
fn met<'s>(
    gate: &Gate,
    order: &OrderRef,
    mut before: impl Iterator<Item = &'s Step>,
    given: &[&ApprovalRecord],
) -> Result<(), String> {
    let with_factor = |it: &&ApprovalRecord| it.factor != Factor::None;
    match gate {
        // Placed unsigned it has no effect; what it takes to have one is checked of the signature.
        Gate::Approve { .. } | Gate::Approve2f { .. }
            if order.strategy == Strategy::EhrStaged =>
        {
            Ok(())
        }
        Gate::Auto => Ok(()),
        Gate::AutoVerified { facts } => before
            .any(|step| matches!(&step.event, WritebackEvent::Verified { facts: seen, .. } if seen.is_superset(facts)))
            .then_some(())
            .ok_or_else(|| "the facts that its gate names".to_owned()),
        Gate::Approve { roles } => given
            .iter()
            .any(|it| roles.contains(&it.role))
            .then_some(())
            .ok_or_else(|| "an approval".to_owned()),
        Gate::Approve2f { roles } => given
            .iter()
            .filter(|it| roles.contains(&it.role))
            .any(with_factor)
            .then_some(())
            .ok_or_else(|| "an approval with a second factor".to_owned()),
        Gate::TwoPerson { first, second } => {
            let firsts = given.iter().filter(|it| it.role == *first).any(with_factor);
            let seconds = given.iter().any(|it| it.role == *second);
            (firsts && seconds)
                .then_some(())
                .ok_or_else(|| "the approvals of two people".to_owned())
        }
        Gate::Deny => Err("anything that could allow it".to_owned()),
    }
}

/// How late a start is, in seconds.
fn late(story: &Story, start: &Step) -> Option<i64> {
    let queued = story.queued_before(start.seq)?;
    let within = story.order()?.deliver_within_s;
    let waited = start.at.duration_since(queued.at).as_secs();
    (waited > within).then(|| waited.saturating_sub(within))
}

fn approvals(case: &mut Case<'_>, id: WritebackId, story: &Story) {
    let Some(order) = story.order() else { return };
    let proposal = story.steps.iter().find_map(|step| match &step.event {
        WritebackEvent::Proposed(proposal) => Some(proposal),
        _ => None,
    });
    let requester = proposal.and_then(|it| it.requester);
    let editors: Vec<PersonId> = proposal
        .and_then(|it| it.edit.as_ref())
        .map(|edit| {
            let earlier = edit.earlier.iter().copied();
            earlier.chain([edit.person]).collect()
        })
        .unwrap_or_default();
    let gate = story.steps.iter().find_map(|step| match &step.event {
        WritebackEvent::Ruled { ruling, .. } => Some(&ruling.gate),
        _ => None,
    });
    let needed = match gate {
        Some(Gate::Approve { .. } | Gate::Approve2f { .. }) => 1,
        Some(Gate::TwoPerson { .. }) => 2,
        _ => 0,
    };
    let truth = case.truth();
    let human = |person: &PersonId| truth.humans.get(person).copied();
    let mut humans = BTreeSet::new();
    let mut given = 0;
    let mut found = Vec::new();
    for step in &story.steps {
        let WritebackEvent::Approved { approval } = &step.event else {
            continue;
        };
        // Beside what somebody in training approved a colleague approves the same.
        if !(needed == 1 && is_in_training(case, &approval.person)) {
            given += 1;
        }
        let who = human(&approval.person);
        let is_signature = matches!(approval.factor, Factor::EhrSignature { .. });
        let meant = is_signature
            || truth.agreed.iter().any(|agreed| {
                agreed.writeback == id
                    && Some(agreed.human) == who
                    && agreed.digest == approval.digest
                    && agreed.at <= step.done
                    && (agreed.with_factor || approval.factor == Factor::None)
            });
        if !meant {
            found.push((
                Property::Agreed,
                format!("nobody agreed to what is recorded as approved of {id}"),
            ));
        }
        if approval.digest != order.digest {
            found.push((
                Property::Agreed,
                format!("another digest than the order's was approved of {id}"),
            ));
        }
        let given_at = match approval.factor {
            Factor::EhrSignature { at } => at,
            _ => step.at,
        };
        if given_at > order.approve_by {
            found.push((
                Property::Agreed,
                format!("{id} was approved after its time"),
            ));
        }
        if !humans.insert(who) {
            found.push((
                Property::TwoHumans,
                format!("one human approved {id} twice"),
            ));
        }
        let is_two = matches!(gate, Some(Gate::TwoPerson { .. }));
        if is_two && editors.iter().any(|it| human(it) == who) {
            found.push((
                Property::TwoHumans,
                format!("who changed {id} is one of its two people"),
            ));
        }
        if is_two && is_in_training(case, &approval.person) {
            found.push((
                Property::TwoHumans,
                format!("somebody in training is one of the two people of {id}"),
            ));
        }
        if is_two && requester.is_some() && requester.and_then(|it| human(&it)) == who {
            found.push((
                Property::TwoHumans,
                format!("who asked for {id} is one of its two people"),
            ));
        }
    }
    if given > needed {
        found.push((
            Property::ApprovedOnce,
            format!("{given} approvals of {id} count where {needed} are needed"),
        ));
    }
    for (property, seen) in found {
        case.broken(property, seen);
    }
}

/// Nothing starts under a switch, and nobody approves under one that says so: in the order of the ledger, which is the
/// order of commits.
fn switches(case: &mut Case<'_>, stories: &std::collections::BTreeMap<WritebackId, Story>) {
    let mut moved: Vec<(ModeScope, Mode)> = Vec::new();
    let mut found = Vec::new();
    for it in &case.recorded {
        match &it.event {
            Event::ModeSwitched { scope, mode, .. } => {
                moved.retain(|(known, _)| known != scope);
                moved.push((scope.clone(), *mode));
            }
            Event::Writeback(event) => {
                let chaperone_core::event::StreamId::Writeback(id) = it.stream else {
                    continue;
                };
                let (what, under): (_, &[Mode]) = match event {
                    WritebackEvent::DeliveryStarted(_) => (
                        "started",
                        &[Mode::WritePaused, Mode::ReadOnly, Mode::Halted],
                    ),
                    // A signature that is found in the EHR was given there.
                    WritebackEvent::Approved { .. } if matches!(it.actor, Actor::Human { .. }) => {
                        ("approved", &[Mode::ReadOnly, Mode::Halted])
                    }
                    _ => continue,
                };
                let applies = moved
                    .iter()
                    .find(|(scope, mode)| under.contains(mode) && touches(scope, stories.get(&id)));
                if let Some((_, mode)) = applies {
                    found.push(format!(
                        "{id} was {what} while a switch stood at {}",
                        mode.as_str()
                    ));
                }
            }
            _ => {}
        }
    }
    for seen in found {
        case.broken(Property::ModeKept, seen);
    }
}

fn touches(scope: &ModeScope, story: Option<&Story>) -> bool {
    let proposal = story.and_then(|story| {
        story.steps.iter().find_map(|step| match &step.event {
            WritebackEvent::Proposed(proposal) => Some(proposal),
            _ => None,
        })
    });
    match (scope, proposal) {
        (ModeScope::Tenant, _) => true,
        (ModeScope::Agent(agent), Some(it)) => it.agent == *agent,
        (ModeScope::Intent(intent), Some(it)) => it.intent == *intent,
        (ModeScope::Ehr(connection), Some(it)) => it.connection == *connection,
        (ModeScope::Resource(_), _) | (_, None) => false,
    }
}

/// Whether a body is the order's with the one element set back that says it is signed.
fn is_placed_form(order: &Value, body: &str) -> bool {
    let part = |pointer: &str| order.pointer(pointer).and_then(Value::as_str);
    let (Some(approved), Some(element), Some(unsigned)) = (
        part("/body"),
        part("/signed_form/element"),
        part("/signed_form/unsigned"),
    ) else {
        return false;
    };
    let (Ok(mut approved), Ok(body)) = (
        serde_json::from_str::<Value>(approved),
        serde_json::from_str::<Value>(body),
    ) else {
        return false;
    };
    if let Some(value) = approved.get_mut(element) {
        *value = Value::from(unsigned);
    }
    approved == body
}

/// What arrived, beside the order that was approved.
fn bodies(case: &mut Case<'_>) {
    let mut found = Vec::new();
    for exchange in &case.state.ehr.history {
        let request = &exchange.request;
        let id = request.writeback;
        let Some((digest, order)) = case.opened(id) else {
            found.push(format!("{id} was sent, and its order cannot be opened"));
            continue;
        };
        let ruled = case
            .stories
            .get(&id)
            .and_then(Story::order)
            .map(|it| it.digest);
        if ruled != Some(digest) {
            found.push(format!(
                "the order of {id} is not the one that was ruled on"
            ));
        }
        let mut awaited: Vec<&Value> = entries(&order).collect();
        for part in request.parts() {
            let text = |entry: &Value, name: &str| entry.get(name)?.as_str().map(str::to_owned);
            let path = part.path();
            let is_at = |it: &Value| text(it, "path").as_ref() == Some(&path);
            let is_it = |it: &Value| match text(&order, "strategy").as_deref() {
                Some("ehr-staged") => is_placed_form(it, part.body),
                _ => text(it, "body").as_deref() == Some(part.body),
            };
            let exact = awaited.iter().position(|it| is_at(it) && is_it(it));
            let Some(at) = exact.or_else(|| awaited.iter().position(|it| is_at(it))) else {
                found.push(format!("{id} went to {path}"));
                continue;
            };
            let entry = awaited.remove(at);
            if exact.is_none() {
                found.push(format!(
                    "the body of {id} arrived otherwise than it was approved"
                ));
            }
            if case.profile != ServerProfile::Full {
                continue;
            }
            let conditions = [
                ("if_none_exist", part.if_none_exist),
                ("if_match", part.if_match),
            ];
            for (name, arrived) in conditions {
                if text(entry, name).as_deref() != arrived {
                    found.push(format!("{id} arrived without the {name} that was approved"));
                }
            }
            if conditions.iter().all(|(_, arrived)| arrived.is_none()) {
                found.push(format!("{id} arrived without a condition"));
            }
        }
        if case.profile == ServerProfile::Vendor
            && request.message.as_deref() != Some(&format!("urn:chaperone:writeback|{id}"))
        {
            found.push(format!("{id} went under another message id"));
        }
    }
    for seen in found {
        case.broken(Property::ByteForByte, seen);
    }
}
