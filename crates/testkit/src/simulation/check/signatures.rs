//! Signatures: what was placed unsigned is delivered by a signature that was really given at the EHR, to exactly what
//! was placed, in time and by somebody who may; and a signature like that is not lost.

use chaperone_core::evidence::{ApprovalRecord, Factor};
use chaperone_core::gate::Gate;
use chaperone_core::ids::WritebackId;
use chaperone_core::writeback::{VoidReason, WritebackEvent};

use super::delivery::{is_placed_unsigned, same_but_for_meta};
use super::{Case, Property, Story};
use crate::simulation::faults::Fault;
use crate::simulation::state::SignedThere;
use crate::simulation::world::{Micros, instant};

pub(super) fn check(case: &mut Case<'_>) {
    let stories = std::mem::take(&mut case.stories);
    let mut found = Vec::new();
    for (id, story) in &stories {
        approvals(case, *id, story, &mut found);
        if is_placed_unsigned(story) {
            ends(case, *id, story, &mut found);
        }
    }
    case.stories = stories;
    for seen in found {
        case.broken(Property::SignedAsPlaced, seen);
    }
}

fn approvals(case: &Case<'_>, id: WritebackId, story: &Story, found: &mut Vec<String>) {
    for step in &story.steps {
        let WritebackEvent::Approved { approval } = &step.event else {
            continue;
        };
        let is_signature = matches!(approval.factor, Factor::EhrSignature { .. });
        if is_signature != is_placed_unsigned(story) {
            found.push(format!("{id} was approved in a way that is not its own"));
        }
        if is_signature && !is_true(case, id, story, approval, step.done) {
            found.push(format!(
                "{id} is recorded as signed, and nobody who may had signed it in time as it was placed"
            ));
        }
    }
}

fn ends(case: &Case<'_>, id: WritebackId, story: &Story, found: &mut Vec<String>) {
    let is_approved = story
        .steps
        .iter()
        .any(|it| matches!(it.event, WritebackEvent::Approved { .. }));
    match story.end() {
        Some(WritebackEvent::Delivered(_)) if !is_approved => {
            found.push(format!(
                "{id} is recorded as delivered, and nobody signed it"
            ));
        }
        Some(WritebackEvent::Voided { reason }) if is_lost(case, id, story, *reason) => {
            found.push(format!("{id} was signed in time, and is recorded as void"));
        }
        _ => {}
    }
}

/// Whether a signature at the EHR is one that counts: of what was approved, in time, under a role of the gate.
fn counts(case: &Case<'_>, story: &Story, signed: &SignedThere) -> bool {
    let gate = story.steps.iter().find_map(|step| match &step.event {
        WritebackEvent::Ruled { ruling, .. } => Some(&ruling.gate),
        _ => None,
    });
    let may = match gate {
        Some(Gate::Approve { roles } | Gate::Approve2f { roles }) => {
            signed.roles.iter().any(|role| roles.contains(role))
        }
        _ => false,
    };
    let learns = signed
        .human
        .is_some_and(|human| case.truth().in_training.contains(&human));
    let is_in_time = story
        .order()
        .is_some_and(|order| instant(signed.at, 0) <= order.approve_by);
    let version = case
        .state
        .ehr
        .at_version(&signed.kind, &signed.id, signed.version)
        .map(ToString::to_string);
    let order = case.opened(signed.writeback).map(|(_, order)| order);
    let body = order.as_ref().and_then(|it| it.get("body")?.as_str());
    let is_as_placed = version.is_some_and(|it| same_but_for_id(&it, body));
    signed.human.is_some() && may && !learns && is_in_time && is_as_placed
}

/// The same content; the id is the server's.
pub(super) fn same_but_for_id(one: &str, other: Option<&str>) -> bool {
    let without = |text: &str| {
        let mut value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        if let Some(members) = value.as_object_mut() {
            members.remove("id");
        }
        value.to_string()
    };
    same_but_for_meta(&without(one), other.map(without).as_deref())
}

fn is_true(
    case: &Case<'_>,
    id: WritebackId,
    story: &Story,
    approval: &ApprovalRecord,
    done: Micros,
) -> bool {
    let truth = case.truth();
    let who = truth.humans.get(&approval.person).copied();
    truth
        .signed
        .iter()
        .filter(|it| it.writeback == id && it.at <= done && it.human == who)
        .any(|it| counts(case, story, it) && it.roles.contains(&approval.role))
}

/// Whether a signature that counts was not taken for one. One of two drafts that were made of one may be another than
/// the one that is looked at, and a clock that is ahead ends the wait too early.
fn is_lost(case: &Case<'_>, id: WritebackId, story: &Story, reason: VoidReason) -> bool {
    let of_signing = matches!(
        reason,
        VoidReason::NotSigned
            | VoidReason::ChangedBeforeSigning
            | VoidReason::SignerNotPermitted
            | VoidReason::DeclinedAtEhr
    );
    let placed = case.state.ehr.history.iter();
    let placed = placed.filter(|it| it.request.writeback == id && it.effect.is_some());
    let clocks_hold = !case.happened(Fault::ClockForward) && !case.happened(Fault::ClockBack);
    of_signing
        && clocks_hold
        && placed.count() == 1
        && case
            .truth()
            .signed
            .iter()
            .any(|it| it.writeback == id && counts(case, story, it))
}
