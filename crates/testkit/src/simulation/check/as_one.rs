//! Several changes that were decided as one: all of them take effect, in one step, or none; what is recorded of them is
//! so of each; and they are undone as one.

use chaperone_core::ids::WritebackId;
use chaperone_core::writeback::{DeliveryReceipt, WritebackEvent};
use serde_json::Value;

use super::delivery::{is_placed_unsigned, same_but_for_meta};
use super::signatures::same_but_for_id;
use super::{Case, Property, Story};
use crate::simulation::server::{Effect, Exchange};

/// Everything that an order changes, in order.
pub(super) fn entries(order: &Value) -> impl Iterator<Item = &Value> {
    let also = order.get("also").and_then(Value::as_array);
    std::iter::once(order).chain(also.into_iter().flatten())
}

pub(super) fn check(case: &mut Case<'_>) {
    let mut found = Vec::new();
    for (id, story) in &case.stories {
        let Some((_, order)) = case.opened(*id) else {
            continue;
        };
        steps(case, *id, &order, &mut found);
        for step in &story.steps {
            match &step.event {
                WritebackEvent::Delivered(receipt) if !is_placed_unsigned(story) => {
                    delivered(case, *id, &order, receipt, &mut found);
                }
                WritebackEvent::Compensated { by } => undone(case, *id, *by, &mut found),
                _ => {}
            }
        }
        if entries(&order).count() > 1 {
            ruled(*id, &order, story, &mut found);
        }
    }
    for (property, seen) in found {
        case.broken(property, seen);
    }
}

type Found = Vec<(Property, String)>;

/// What was sent for a write-back, as the EHR saw it.
fn exchanges<'c>(case: &'c Case<'_>, id: WritebackId) -> impl Iterator<Item = &'c Exchange> {
    let history = case.state.ehr.history.iter();
    history.filter(move |it| it.request.writeback == id)
}

/// Whatever does something does all of it.
fn steps(case: &Case<'_>, id: WritebackId, order: &Value, found: &mut Found) {
    let all = entries(order).count();
    for exchange in exchanges(case, id) {
        let made = exchange.effects().count();
        // An EHR that breaks its word leaves what it leaves; it is not recorded as anything else.
        if made > 0 && made < all && !exchange.is_in_part {
            let seen = format!(
                "{made} of the {all} changes of {id} took effect at {:.3} s without the others",
                exchange.at as f64 / 1e6
            );
            found.push((Property::AllOrNothing, seen));
        }
    }
}

/// Each of them was ruled on.
fn ruled(id: WritebackId, order: &Value, story: &Story, found: &mut Found) {
    let all = entries(order).count();
    for step in &story.steps {
        if let WritebackEvent::Ruled { ruling, .. } = &step.event
            && ruling.entries.len() != all
        {
            let seen = format!(
                "{id} makes {all} changes, and {} rulings are recorded",
                ruling.entries.len()
            );
            found.push((Property::Authorised, seen));
        }
    }
}

/// What was read back is there as it was approved, each change of it; a person's word stands for itself.
fn delivered(
    case: &Case<'_>,
    id: WritebackId,
    order: &Value,
    receipt: &DeliveryReceipt,
    found: &mut Found,
) {
    if receipt.attested_by.is_some() {
        return;
    }
    let first = receipt.read_back;
    let also = receipt.also.iter().map(|it| it.read_back);
    let shown: Vec<bool> = std::iter::once(first)
        .chain(also)
        .map(|it| it.is_some())
        .collect();
    let all = entries(order).count();
    if shown.len() != all {
        let seen = format!(
            "{id} makes {all} changes, and {} are recorded as delivered",
            shown.len()
        );
        found.push((Property::OutcomeIsTrue, seen));
    }
    for (entry, is_shown) in entries(order).zip(shown) {
        if is_shown && !is_kept(case, id, entry) {
            let path = entry
                .get("path")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let seen =
                format!("{id} is recorded as read back, and {path} never was as it was approved");
            found.push((Property::OutcomeIsTrue, seen));
        }
    }
}

/// Whether the EHR came to hold a change as it was approved, whoever else may have made the same.
fn is_kept(case: &Case<'_>, id: WritebackId, entry: &Value) -> bool {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    let ehr = &case.state.ehr;
    let is_it = |it: &Value| same_but_for_id(&it.to_string(), text("body"));
    let path = text("path").unwrap_or_default();
    match path.split_once('/') {
        Some((kind, of)) => ehr.versions(kind, of).iter().any(is_it),
        None => exchanges(case, id)
            .flat_map(Exchange::effects)
            .filter(|did| did.kind == path)
            .filter_map(|did| ehr.at_version(&did.kind, &did.id, did.version))
            .any(is_it),
    }
}

/// Whether what was there before was the same already: then there is nothing to put back.
fn changed_nothing(case: &Case<'_>, did: &Effect) -> bool {
    let at = |version| case.state.ehr.at_version(&did.kind, &did.id, version);
    let before = did.version.checked_sub(1).and_then(at);
    let (Some(before), Some(after)) = (before, at(did.version)) else {
        return false;
    };
    same_but_for_meta(&before.to_string(), Some(&after.to_string()))
}

/// What is recorded as undone is undone in each part, unless somebody else changed it since.
fn undone(case: &Case<'_>, id: WritebackId, by: WritebackId, found: &mut Found) {
    let (Some((_, order)), Some((_, remedy))) = (case.opened(id), case.opened(by)) else {
        return;
    };
    // One change has no parts: what else was made of it, an earlier attempt made, and a person took away.
    if entries(&order).count() < 2 {
        return;
    }
    let undone = |did: &Effect| {
        let path = format!("{}/{}", did.kind, did.id);
        let mut remedied = entries(&remedy).filter_map(|it| it.get("path")?.as_str());
        remedied.any(|it| it == path)
            || case
                .state
                .ehr
                .at_version(&did.kind, &did.id, did.version.saturating_add(1))
                .is_some()
            || changed_nothing(case, did)
    };
    let made = exchanges(case, id).flat_map(Exchange::effects);
    let made: Vec<bool> = made.map(undone).collect();
    if made.len() > 1 && !made.iter().all(|it| *it) {
        let seen = format!("{id} was undone by {by} in part");
        found.push((Property::AllOrNothing, seen));
    }
}
