//! Claims: while somebody has something in hand, nobody else decides about it, hands it on or lets it go. They are
//! folded here anew, by the clock of whoever committed: a claim ends by that clock.

use std::collections::BTreeMap;

use chaperone_core::Timestamp;
use chaperone_core::claim::{ClaimEvent, ClaimHolder};
use chaperone_core::cover::CoverEvent;
use chaperone_core::decision_support::DecisionSupportEvent;
use chaperone_core::event::{Event, Recorded, StreamId};
use chaperone_core::evidence::Factor;
use chaperone_core::ids::{AccountName, PersonId, WritebackId};
use chaperone_core::principal::Actor;
use chaperone_core::writeback::{RefusedBy, WritebackEvent};

use super::{Case, Property};

/// Who has one thing in hand, and whether it was set aside meanwhile.
#[derive(Default)]
struct Hand {
    held: Option<(ClaimHolder, Timestamp)>,
    is_aside: bool,
}

/// Who covers for an account, from when to when.
type Covers = BTreeMap<AccountName, (AccountName, Timestamp, Timestamp)>;

pub(super) fn check(case: &mut Case<'_>) {
    let mut hands: BTreeMap<WritebackId, Hand> = BTreeMap::new();
    let mut covers = Covers::new();
    let mut found = Vec::new();
    for it in &case.recorded {
        match (&it.stream, &it.event) {
            (StreamId::Account(away), Event::Cover(CoverEvent::Set { cover, from, until })) => {
                covers.insert(away.clone(), (cover.clone(), *from, *until));
            }
            (StreamId::Account(away), Event::Cover(CoverEvent::Ended)) => {
                covers.remove(away);
            }
            (StreamId::Writeback(id), _) => {
                let hand = hands.entry(*id).or_default();
                if let Some(seen) = step(case, hand, &covers, it) {
                    found.push(format!("{id} {seen}"));
                }
            }
            _ => {}
        }
    }
    for seen in found {
        case.broken(Property::ClaimKept, seen);
    }
}

/// What one event does to a claim; what it must not.
fn step(case: &Case<'_>, hand: &mut Hand, covers: &Covers, it: &Recorded) -> Option<String> {
    let held = hand.held.clone().filter(|(_, until)| it.at < *until);
    let Actor::Human { account, person } = &it.actor else {
        match &it.event {
            Event::Writeback(WritebackEvent::Quarantined { .. }) => hand.is_aside = true,
            Event::Writeback(WritebackEvent::Approved { approval })
                if !matches!(approval.factor, Factor::EhrSignature { .. }) =>
            {
                return Some("was approved by nobody".to_owned());
            }
            _ => {}
        }
        return None;
    };
    let by = ClaimHolder::Person {
        person: *person,
        account: account.clone(),
    };
    let is_theirs = held
        .as_ref()
        .is_none_or(|(holder, _)| is_of(case, holder, &by));
    match &it.event {
        Event::Claim(event) => {
            let wrong = claimed(case, event, (&by, is_theirs), held.as_ref(), covers, it.at);
            hand.held = match event {
                ClaimEvent::Claimed { until } | ClaimEvent::TakenOver { until, .. } => {
                    Some((by, *until))
                }
                ClaimEvent::HandedOver { to, until, .. } => Some((to.clone(), *until)),
                ClaimEvent::Released => None,
            };
            wrong.map(str::to_owned)
        }
        Event::Writeback(WritebackEvent::Released { .. }) => {
            hand.is_aside = false;
            None
        }
        Event::Writeback(WritebackEvent::Quarantined { .. }) => {
            hand.is_aside = true;
            None
        }
        // What was set aside waits for nobody's approval.
        Event::Writeback(WritebackEvent::Refused { .. }) if hand.is_aside => None,
        Event::Writeback(
            WritebackEvent::Approved { .. }
            | WritebackEvent::Refused {
                refused: RefusedBy::Human { .. } | RefusedBy::Edited { .. },
            },
        ) => {
            hand.held = None;
            (!is_theirs).then(|| "was decided while somebody else had it in hand".to_owned())
        }
        Event::DecisionSupport(DecisionSupportEvent::Overridden { .. }) if !is_theirs => {
            Some("went on over a card while somebody else had it in hand".to_owned())
        }
        _ => None,
    }
}

fn claimed(
    case: &Case<'_>,
    event: &ClaimEvent,
    (by, is_theirs): (&ClaimHolder, bool),
    held: Option<&(ClaimHolder, Timestamp)>,
    covers: &Covers,
    at: Timestamp,
) -> Option<&'static str> {
    match event {
        ClaimEvent::Claimed { .. } if !is_theirs => {
            Some("was claimed while somebody else had it in hand")
        }
        ClaimEvent::Released if held.is_none() || !is_theirs => {
            Some("was let go by somebody who did not have it")
        }
        ClaimEvent::TakenOver { from, .. } if held.map(|(holder, _)| holder) != Some(from) => {
            Some("was taken over from somebody who did not have it")
        }
        ClaimEvent::HandedOver { .. } if !is_theirs => {
            Some("was handed on by somebody who did not have it")
        }
        ClaimEvent::HandedOver { to, instead_of, .. } => {
            if matches!(to, ClaimHolder::Person { .. }) && is_of(case, to, by) {
                return Some("was handed to whoever handed it on");
            }
            let ClaimHolder::Person { account: to, .. } = to else {
                return None;
            };
            let covered = |away: &AccountName| {
                let cover = covers.get(away);
                cover.filter(|(_, from, until)| *from <= at && at < *until)
            };
            match instead_of {
                Some(away) if covered(away).is_none_or(|(cover, ..)| cover != to) => {
                    Some("was handed to somebody who does not cover")
                }
                // A node whose clock is between reading and writing set anew may see the end of a cover early.
                None if covered(to).is_some_and(|(_, from, until)| {
                    let margin = jiff::SignedDuration::from_mins(5);
                    from.checked_add(margin).is_ok_and(|from| from <= at)
                        && at.checked_add(margin).is_ok_and(|at| at < *until)
                }) =>
                {
                    Some("was handed to somebody who is away")
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether one holder is, or belongs to, another: two accounts of one human are one.
fn is_of(case: &Case<'_>, holder: &ClaimHolder, by: &ClaimHolder) -> bool {
    let ClaimHolder::Person { person, account } = by else {
        return false;
    };
    let truth = case.truth();
    let human = |person: &PersonId| truth.humans.get(person).copied();
    match holder {
        ClaimHolder::Person { person: other, .. } => human(other) == human(person),
        ClaimHolder::Pool { role } => {
            let roles = truth.roles.get(account);
            roles.is_some_and(|roles| roles.contains(role))
        }
    }
}
