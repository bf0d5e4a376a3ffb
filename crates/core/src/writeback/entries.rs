//! Several changes of one write-back: that those which are ruled on are those which are valid, each with its own class
//! and its own ruling, and that what is demanded of all of them is what each of them needs.

use super::decide::Refusal;
use super::event::OrderRef;
use crate::change::{Change, ChangeClass, Destination};
use crate::evidence::{RulingRecord, Strategy};
use crate::gate::Gate;
use crate::together::{ENTRIES_MAX, EntryValidated, NEVER_TOGETHER};

/// The class of a change, or the gravest of several. Each is computed here, whatever its entry says.
///
/// # Errors
/// [`Refusal::Unclassifiable`]; [`Refusal::EntriesDiffer`] when the entries are not those of the change, when there
/// are too many, when an entry says another class than is computed, or when it may not go together with others.
pub(super) fn class_of_all(
    change: &Change,
    entries: &[EntryValidated],
) -> Result<ChangeClass, Refusal> {
    let mut class = change.class()?;
    let Some(first) = entries.first() else {
        return Ok(class);
    };
    if first.change != *change || entries.len() < 2 || entries.len() > ENTRIES_MAX {
        return Err(Refusal::EntriesDiffer);
    }
    for entry in entries {
        let own = entry.change.class()?;
        let alone = NEVER_TOGETHER.contains(&entry.change.resource.as_str())
            || entry.change.destination != Destination::Ehr;
        if own != entry.class || alone {
            return Err(Refusal::EntriesDiffer);
        }
        class = class.max(own);
    }
    Ok(class)
}

/// Whether a ruling on several changes rules on each of them, and demands what each of them needs: one that is
/// refused refuses all, and the gate of all is no weaker than that of any.
pub(super) fn covers_each(
    entries: &[EntryValidated],
    record: &RulingRecord,
    order: &OrderRef,
) -> Result<(), Refusal> {
    if entries.is_empty() && record.entries.is_empty() {
        return Ok(());
    }
    let is_of_each = entries.len() == record.entries.len()
        && entries.iter().zip(&record.entries).all(|(entry, ruling)| {
            ruling.class == entry.class
                && ruling.destination == entry.change.destination
                && ruling.bundle == record.bundle
                && ruling.entries.is_empty()
        });
    if !is_of_each {
        return Err(Refusal::EntriesDiffer);
    }
    for own in &record.entries {
        if own.gate != Gate::Deny && own.gate.level() < own.class.floor() {
            return Err(Refusal::BelowFloor);
        }
        if !opens(&record.gate, &own.gate) || record.proof_min < own.proof_min {
            return Err(Refusal::BelowFloor);
        }
    }
    // One transaction, or nothing: no other way takes all of them or none.
    if record.gate != Gate::Deny && order.strategy != Strategy::Conditional {
        return Err(Refusal::EntriesDiffer);
    }
    Ok(())
}

/// Whether whoever opens the gate of all could open that of one: it is no weaker, and it asks for nobody who may not
/// decide on this one.
fn opens(all: &Gate, own: &Gate) -> bool {
    let is_no_weaker = all.clone().and(own.clone()) == *all;
    let by_its_own = match (all, own) {
        (
            Gate::Approve { roles } | Gate::Approve2f { roles },
            Gate::Approve { roles: own } | Gate::Approve2f { roles: own },
        ) => roles.is_subset(own),
        // Of a pair, the first gives the second factor.
        (Gate::TwoPerson { first, .. }, Gate::Approve2f { roles: own }) => own.contains(first),
        (Gate::TwoPerson { first, second }, Gate::Approve { roles: own }) => {
            own.contains(first) || own.contains(second)
        }
        _ => true,
    };
    is_no_weaker && by_its_own
}
