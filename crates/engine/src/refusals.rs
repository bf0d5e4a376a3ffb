//! How many refusals outside envelopes are recorded one by one: so many a minute of each kind, the rest
//! counted.
//!
//! A stranger, or a source that goes astray, must not be able to fill the ledger; nor may one use up what is
//! kept for another, so they count by whom they named, or who was shown to have sent them. What is counted is
//! held here and recorded as one entry when its minute is over, or at the latest when the node stops; a
//! node that dies loses the count of a minute. Refusals inside an envelope are all recorded.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use chaperone_core::Timestamp;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{AgentId, EhrEventSource};
use chaperone_core::ports::{CommitFailed, Expected};
use chaperone_core::principal::Actor;

use crate::context::Engine;

/// Refusals of one kind recorded one by one in a window.
const RECORDED_MAX: u64 = 20;
/// A window, in seconds.
const WINDOW_S: i64 = 60;
/// Kinds that are told apart; all further ones count as one.
const KINDS_MAX: usize = 256;

/// What was refused, and whom it concerns.
type Kind = (&'static str, Named);

/// Whom a refusal concerns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Named {
    Nobody,
    /// A registered agent that the request named; nothing has shown that it came from there.
    Agent(AgentId),
    /// A source of EHR events that signed what was refused.
    Source(EhrEventSource),
}

#[derive(Debug, Clone, Copy)]
struct Window {
    since: Timestamp,
    seen: u64,
}

/// The windows that are open.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<Kind, Window>>);

/// Refusals that were counted and not recorded one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counted {
    kind: Kind,
    count: u64,
    since: Timestamp,
}

impl Refusals {
    /// Counts one, and says whether it is recorded by itself.
    pub(crate) fn admits(&self, code: &'static str, named: Named, now: Timestamp) -> bool {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kind = (code, named);
        if windows.len() >= KINDS_MAX && !windows.contains_key(&kind) {
            kind = ("various", Named::Nobody);
        }
        let window = windows.entry(kind).or_insert(Window {
            since: now,
            seen: 0,
        });
        window.seen = window.seen.saturating_add(1);
        window.seen <= RECORDED_MAX
    }

    /// Closes the windows that are over, or all of them, and gives what was only counted in them.
    fn close(&self, now: Timestamp, all: bool) -> Vec<Counted> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counted = Vec::new();
        windows.retain(|kind, window| {
            // A clock that was set back closes the window too.
            let age_s = now.duration_since(window.since).as_secs();
            let is_open = !all && (0..WINDOW_S).contains(&age_s);
            let count = window.seen.saturating_sub(RECORDED_MAX);
            if !is_open && count > 0 {
                counted.push(Counted {
                    kind: kind.clone(),
                    count,
                    since: window.since,
                });
            }
            is_open
        });
        counted
    }

    /// Takes back what could not be recorded.
    fn reopen(&self, counted: Vec<Counted>) {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for Counted { kind, count, since } in counted {
            let window = windows.entry(kind).or_insert(Window {
                since,
                seen: RECORDED_MAX,
            });
            window.since = window.since.min(since);
            window.seen = window.seen.max(RECORDED_MAX).saturating_add(count);
        }
    }
}

impl Engine {
    /// Records what was only counted in the minutes that are over; with `all`, also in the one that runs,
    /// as before a stop.
    ///
    /// # Errors
    /// When nothing can be recorded; the counts are kept and tried again.
    pub async fn record_counted_refusals(&self, all: bool) -> Result<(), CommitFailed> {
        let counted = self.refusals.close(self.now(), all);
        if counted.is_empty() {
            return Ok(());
        }
        let mut commit = self.commit_as(Actor::Anonymous);
        for Counted { kind, count, since } in &counted {
            let (agent, notified_by) = match &kind.1 {
                Named::Nobody => (None, None),
                Named::Agent(agent) => (Some(agent.clone()), None),
                Named::Source(source) => (None, Some(source.clone())),
            };
            let event = Event::RefusalsCounted {
                code: kind.0.to_owned(),
                agent,
                notified_by,
                count: *count,
                since: *since,
            };
            commit.append(StreamId::Refusals, Expected::Any, event);
        }
        self.store
            .commit(commit)
            .await
            .map(|_| ())
            .inspect_err(|_| {
                self.refusals.reopen(counted);
            })
    }
}
