//! Exceptions: granted by somebody else than who asked, with their own agreement to exactly that; used once, in its
//! time, for the same content; and what comes of it needs two people. Nothing else comes of row 65.

use std::collections::BTreeMap;

use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::exception::ExceptionEvent;
use chaperone_core::gate::Gate;
use chaperone_core::ids::WritebackId;
use chaperone_core::principal::Actor;
use chaperone_core::writeback::WritebackEvent;
use serde_json::Value;

use super::{Case, Property, Story};

/// How it stands with one exception.
#[derive(Default)]
struct Exception {
    requester: Option<usize>,
    binding: Option<Digest>,
    asked_until: Option<Timestamp>,
    granter: Option<usize>,
    until: Option<Timestamp>,
    used: Option<WritebackId>,
}

pub(super) fn check(case: &mut Case<'_>) {
    let truth = case.truth();
    let mut exceptions: BTreeMap<WritebackId, Exception> = BTreeMap::new();
    let mut found = Vec::new();
    for it in &case.recorded {
        let (StreamId::Writeback(of), Event::Exception(event)) = (&it.stream, &it.event) else {
            continue;
        };
        let human = match &it.actor {
            Actor::Human { person, .. } => truth.humans.get(person).copied(),
            _ => None,
        };
        let mut say = |seen: &str| found.push(format!("{of} {seen}"));
        let known = exceptions.entry(*of).or_default();
        match event {
            ExceptionEvent::Requested { binding, until, .. } => {
                if known.requester.is_some() || human.is_none() {
                    say("has a second exception, or nobody's");
                }
                known.requester = human;
                (known.binding, known.asked_until) = (Some(*binding), Some(*until));
            }
            ExceptionEvent::Granted { binding, until } => {
                let is_meant = truth.granted.iter().any(|granted| {
                    granted.of == *of
                        && granted.binding == *binding
                        && Some(granted.human) == human
                        && granted.at <= case.done(it.seq)
                });
                let learns = human.is_some_and(|human| truth.in_training.contains(&human));
                if human == known.requester || learns || !is_meant {
                    say("was excepted by somebody who may not, or did not");
                }
                if Some(*binding) != known.binding || Some(it.at) >= known.asked_until {
                    say("was excepted for something else, or too late");
                }
                (known.granter, known.until) = (human, Some(*until));
            }
            ExceptionEvent::Declined { .. } | ExceptionEvent::Expired { .. } => known.until = None,
            ExceptionEvent::Used { by } => {
                if known.until.is_none_or(|until| it.at >= until) {
                    say("was used as an exception that nobody had granted, or after its end");
                }
                if let Some(first) = known.used.replace(*by) {
                    say(&format!("was used as an exception twice: {first} and {by}"));
                }
                if let Some(why) = other(case, *of, *by) {
                    say(&format!("was used for {by}, which {why}"));
                }
            }
            ExceptionEvent::Reviewed { .. } => {
                if human.is_none() || human == known.requester || human == known.granter {
                    say("was looked at by somebody who had a part in it");
                }
            }
        }
    }
    for (id, story) in &case.stories {
        let is_used = exceptions.values().any(|it| it.used == Some(*id));
        if is_excepted(story) && !is_used {
            found.push(format!("{id} was ruled on as an exception, and is none"));
        }
    }
    for seen in found {
        case.broken(Property::ExceptionKept, seen);
    }
}

/// Whether a ruling rests on an exception.
fn is_excepted(story: &Story) -> bool {
    story.steps.iter().any(|step| match &step.event {
        WritebackEvent::Ruled { ruling, .. } => ruling
            .determining
            .iter()
            .any(|policy| policy.as_str().starts_with("exception")),
        _ => false,
    })
}

/// In what the write-back that an exception led to is another than the one that was refused.
fn other(case: &Case<'_>, of: WritebackId, by: WritebackId) -> Option<&'static str> {
    let Some(story) = case.stories.get(&by) else {
        return Some("is not there");
    };
    let gate = story.steps.iter().find_map(|step| match &step.event {
        WritebackEvent::Ruled { ruling, .. } => Some(&ruling.gate),
        _ => None,
    });
    if !matches!(gate, Some(Gate::TwoPerson { .. })) {
        return Some("needs less than two people");
    }
    let (Some((_, refused)), Some((_, proposed))) = (case.opened(of), case.opened(by)) else {
        return Some("cannot be opened");
    };
    let part = |order: &Value, name: &str| order.get(name).cloned().unwrap_or_default();
    for name in ["path", "interaction", "resource", "if_match"] {
        if part(&refused, name) != part(&proposed, name) {
            return Some("goes elsewhere");
        }
    }
    let body = |order: &Value, id: WritebackId| {
        let text = order.get("body").and_then(Value::as_str)?;
        // Its own id is the one thing that differs.
        let text = text.replace(&id.to_string(), "");
        serde_json::from_str::<Value>(&text).ok()
    };
    match (body(&refused, of), body(&proposed, by)) {
        (Some(before), Some(after)) if before == after => None,
        _ => Some("says something else"),
    }
}
