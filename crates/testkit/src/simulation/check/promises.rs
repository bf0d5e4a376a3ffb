//! Promises: what agents and people were told is so, and everything comes to an end.

use std::collections::BTreeSet;

use chaperone_core::event::Event;
use chaperone_core::writeback::WritebackEvent;

use super::{Case, Property};

pub(super) fn check(case: &mut Case<'_>) {
    let truth = case.truth();
    let mut found = Vec::new();
    for told in &truth.acknowledged {
        let first = case
            .stories
            .get(&told.writeback)
            .and_then(|story| story.steps.first());
        match first {
            None => found.push((
                Property::ToldIsDurable,
                format!(
                    "{} was acknowledged for {} and is not there",
                    told.writeback, told.key
                ),
            )),
            Some(step) if step.done > told.at => {
                found.push((
                    Property::ToldIsDurable,
                    format!("{} was acknowledged before it was durable", told.writeback),
                ));
            }
            Some(_) => {}
        }
    }
    for agreed in truth.agreed.iter().filter(|it| it.taken) {
        let is_there = case.stories.get(&agreed.writeback).is_some_and(|story| {
            story.steps.iter().any(|step| match &step.event {
                WritebackEvent::Approved { approval } => {
                    truth.humans.get(&approval.person) == Some(&agreed.human)
                }
                _ => false,
            })
        });
        if !is_there {
            found.push((
                Property::ToldIsDurable,
                format!(
                    "an approval of {} was taken and is not there",
                    agreed.writeback
                ),
            ));
        }
    }
    for (first, second) in &truth.twice {
        found.push((
            Property::OneForAKey,
            format!("one key made {first} and {second}"),
        ));
    }
    if !case.is_at_rest {
        let open: Vec<String> = case
            .stories
            .iter()
            .filter(|(_, story)| !ended(story.end()))
            .map(|(id, _)| id.to_string())
            .collect();
        found.push((
            Property::ComesToRest,
            format!("still open: {}", open.join(", ")),
        ));
    }
    let mut known = BTreeSet::new();
    let mut counted = BTreeSet::new();
    for it in &case.recorded {
        match &it.event {
            Event::CallRefused(refusal) => drop(known.insert(refusal.correlation)),
            Event::ReadFailed { correlation, .. } => drop(known.insert(*correlation)),
            Event::RefusalsCounted { code, .. } => drop(counted.insert(code.as_str())),
            _ => {}
        }
    }
    for refused in truth.refused.iter().filter(|it| it.recorded) {
        if !known.contains(&refused.correlation) && !counted.contains(refused.code) {
            found.push((
                Property::RefusalsRecorded,
                format!(
                    "a refusal ({}) at {:.3} s is not there",
                    refused.code,
                    refused.at as f64 / 1e6
                ),
            ));
        }
    }
    for (property, seen) in found {
        case.broken(property, seen);
    }
}

fn ended(event: Option<&WritebackEvent>) -> bool {
    matches!(
        event,
        Some(
            WritebackEvent::Delivered(_)
                | WritebackEvent::Refused { .. }
                | WritebackEvent::Voided { .. }
                | WritebackEvent::Abandoned { .. }
                | WritebackEvent::Compensated { .. }
                | WritebackEvent::Promoted { .. }
                | WritebackEvent::CanaryMissed(_)
                | WritebackEvent::CanaryCaught { .. }
                | WritebackEvent::CanaryWithdrawn(_)
        )
    )
}
