//! Several at once: what a person only ticked among others, and never approved by itself, is light.

use std::collections::BTreeSet;

use chaperone_core::change::ChangeClass;
use chaperone_core::gate::Gate;
use chaperone_core::ids::WritebackId;
use chaperone_core::resource::Interaction;
use chaperone_core::writeback::WritebackEvent;

use super::{Case, Property, Story};

/// What `docs/deciding.md` says that no bundle can go beyond.
const CLASS_MAX: ChangeClass = ChangeClass::M2;
const MESSAGES: [&str; 2] = ["Communication", "CommunicationRequest"];

pub(super) fn check(case: &mut Case<'_>) {
    let truth = case.truth();
    let mut found = Vec::new();
    for (id, story) in &case.stories {
        let mut approvals = 0;
        for step in &story.steps {
            let WritebackEvent::Approved { approval } = &step.event else {
                continue;
            };
            approvals += 1;
            let human = truth.humans.get(&approval.person).copied();
            let meant: BTreeSet<bool> = truth
                .agreed
                .iter()
                .filter(|it| it.writeback == *id && Some(it.human) == human && it.at <= step.done)
                .map(|it| it.together)
                .collect();
            if meant != BTreeSet::from([true]) {
                continue;
            }
            let learns = human.is_some_and(|human| truth.in_training.contains(&human));
            let why = match heavy(story) {
                _ if learns => Some("by somebody in training"),
                _ if approvals > 1 => Some("beside somebody in training"),
                why => why,
            };
            if let Some(why) = why {
                found.push(said(*id, why));
            }
        }
    }
    for seen in found {
        case.broken(Property::LightTogether, seen);
    }
}

fn said(id: WritebackId, why: &str) -> String {
    format!("{id} was approved together with others, {why}")
}

/// Why something is to be decided by itself.
fn heavy(story: &Story) -> Option<&'static str> {
    for step in &story.steps {
        let why = match &step.event {
            WritebackEvent::Proposed(it) if it.tainted => Some("and holds text from outside"),
            WritebackEvent::Proposed(it) if it.undo.is_some() => Some("and undoes something"),
            WritebackEvent::Proposed(it) if it.edit.is_some() => Some("and a person changed it"),
            WritebackEvent::Validated {
                validation, change, ..
            } => {
                let warns = validation
                    .stages
                    .iter()
                    .any(|it| it.errors + it.warnings > 0);
                let is_message = MESSAGES.contains(&change.resource.as_str());
                let deletes = change.interaction == Interaction::Delete;
                match (warns, is_message || deletes) {
                    (true, _) => Some("and something warned"),
                    (_, true) => Some("and is a message, or takes something away"),
                    _ => None,
                }
            }
            WritebackEvent::Ruled { ruling, .. } if ruling.class > CLASS_MAX => {
                Some("and is grave")
            }
            WritebackEvent::Ruled { ruling, .. }
                if !matches!(ruling.gate, Gate::Approve { .. }) =>
            {
                Some("and needs more than one person's word")
            }
            _ => None,
        };
        if why.is_some() {
            return why;
        }
    }
    None
}
