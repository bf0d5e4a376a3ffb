//! What hangs together: a proposal and what a person made of it; what an undo run set aside and what lets it go; an
//! effect and what undid it.

use chaperone_core::gate::Gate;
use chaperone_core::ids::WritebackId;
use chaperone_core::writeback::{Proposal, RefusedBy, WritebackEvent};

use super::{Case, Property, Story};

pub(super) fn check(case: &mut Case<'_>) {
    let mut found = Vec::new();
    for (id, story) in &case.stories {
        if let Some(Proposal {
            edit: Some(edit), ..
        }) = proposal(story)
        {
            edited(case, *id, story, edit.of, &mut found);
        }
        aside(case, *id, story, &mut found);
    }
    for edited in &case.truth().edited {
        let Some(into) = edited.into else { continue };
        if ended_into(case.stories.get(&edited.of)) != Some(into) {
            let seen = format!("{} was changed, and its end does not say so", edited.of);
            found.push((Property::ToldIsDurable, seen));
        }
    }
    for (property, seen) in found {
        case.broken(property, seen);
    }
}

type Found = Vec<(Property, String)>;

fn proposal(story: &Story) -> Option<&Proposal> {
    story.steps.iter().find_map(|step| match &step.event {
        WritebackEvent::Proposed(proposal) => Some(&**proposal),
        _ => None,
    })
}

fn gate(story: &Story) -> Option<&Gate> {
    story.steps.iter().find_map(|step| match &step.event {
        WritebackEvent::Ruled { ruling, .. } => Some(&ruling.gate),
        _ => None,
    })
}

/// What a story says that its proposal was changed into.
fn ended_into(story: Option<&Story>) -> Option<WritebackId> {
    match story?.end()? {
        WritebackEvent::Refused {
            refused: RefusedBy::Edited { into, .. },
        } => Some(*into),
        _ => None,
    }
}

/// How much a gate asks of people.
pub(super) fn weight(gate: &Gate) -> u8 {
    match gate {
        Gate::Auto => 0,
        Gate::AutoVerified { .. } => 1,
        Gate::Approve { .. } => 2,
        Gate::Approve2f { .. } => 3,
        Gate::TwoPerson { .. } => 4,
        Gate::Deny => 5,
    }
}

fn edited(case: &Case<'_>, id: WritebackId, story: &Story, of: WritebackId, found: &mut Found) {
    let mut say = |seen: String| found.push((Property::OneOfEdited, seen));
    let before = case.stories.get(&of);
    if ended_into(before) != Some(id) {
        say(format!("{id} was made of {of}, which did not end with it"));
    }
    let Some(before) = before else { return };
    if before.starts().next().is_some() {
        say(format!("{of} was changed into {id}, and was started"));
    }
    let is_lighter = gate(story)
        .zip(gate(before))
        .is_some_and(|(new, old)| weight(new) < weight(old));
    if is_lighter {
        say(format!("{id} needs less than {of}, of which it was made"));
    }
    let is_told = |who: Option<usize>, at| {
        let mut edits = case.truth().edited.iter();
        edits.any(|it| it.of == of && Some(it.human) == who && it.at <= at)
    };
    let edit = proposal(story).and_then(|it| it.edit.as_ref());
    let first = story.steps.first();
    if let (Some(edit), Some(first)) = (edit, first) {
        let who = case.truth().humans.get(&edit.person).copied();
        if !is_told(who, first.done) {
            say(format!("{id} was made of {of} by nobody"));
        }
    }
}

fn aside(case: &Case<'_>, id: WritebackId, story: &Story, found: &mut Found) {
    let mut is_aside = false;
    for step in &story.steps {
        let seen = match &step.event {
            WritebackEvent::Quarantined { .. } => {
                is_aside = true;
                continue;
            }
            WritebackEvent::Released { .. } => {
                is_aside = false;
                let mut released = case.truth().released.iter();
                let is_meant = released.any(|(of, at)| *of == id && *at <= step.done);
                (!is_meant).then(|| format!("{id} was let go, and nobody had said so"))
            }
            WritebackEvent::Approved { .. }
            | WritebackEvent::Verified { .. }
            | WritebackEvent::Requeued { .. }
            | WritebackEvent::DeliveryStarted(_)
                if is_aside =>
            {
                Some(format!("{id} went on although it was set aside"))
            }
            WritebackEvent::Compensated { by } => {
                let is_done = case.stories.get(by).is_some_and(|other| {
                    other.steps.iter().any(|it| {
                        it.done <= step.done && matches!(it.event, WritebackEvent::Delivered(_))
                    })
                });
                (!is_done).then(|| format!("{id} is recorded as undone, and nothing undid it"))
            }
            _ => None,
        };
        found.extend(seen.map(|seen| (Property::SetAside, seen)));
    }
}
