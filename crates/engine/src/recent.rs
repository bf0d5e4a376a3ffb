//! What was read from the store a moment ago, so that a call does not read it again: the switches, and
//! envelopes that are open.
//!
//! Nothing is kept longer than [`NOTICED_MS_MAX`]. A switch moved at this node counts at once; one moved
//! at another node, and an envelope withdrawn there, within that time. Whether an envelope has expired is
//! looked at in every call, whatever is kept here. Delivery does not use this: it reads the switches
//! themselves, and guards its commit by their version.
//!
//! ```text
//! call:    note the round ─▶ read ─▶ keep, if the round is still the same
//! switch:  commit ─▶ next round, forget
//! ```
//! So a call that read before the switch does not keep what the switch made obsolete.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chaperone_core::Timestamp;
use chaperone_core::envelope::Envelope;
use chaperone_core::ids::EnvelopeId;
use chaperone_core::mode::Modes;

/// Longest time that something moved at another node goes unnoticed here, in milliseconds.
///
/// # Source
/// A switch takes effect within five seconds (requirement R139).
pub(crate) const NOTICED_MS_MAX: i64 = 1_000;

/// Most envelopes kept. When full, all are forgotten, which costs look-ups and nothing else.
const ENVELOPES_MAX: usize = 10_000;

/// Something as it was at a time.
#[derive(Debug, Clone)]
struct Seen<T> {
    at: Timestamp,
    value: Arc<T>,
}

impl<T> Seen<T> {
    /// The value, unless it is too old, or from the future, as after a clock was set back.
    fn while_fresh(&self, now: Timestamp) -> Option<Arc<T>> {
        let age_ms = now.duration_since(self.at).as_millis();
        (0..i128::from(NOTICED_MS_MAX))
            .contains(&age_ms)
            .then(|| Arc::clone(&self.value))
    }
}

#[derive(Debug, Default)]
struct Switches {
    round: u64,
    seen: Option<Seen<Modes>>,
}

/// What is kept.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    switches: Mutex<Switches>,
    envelopes: Mutex<HashMap<EnvelopeId, Seen<Envelope>>>,
}

/// When a reading of the switches began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round(u64);

impl Recent {
    /// The switches, or the round to read them in.
    pub(crate) fn modes(&self, now: Timestamp) -> Result<Arc<Modes>, Round> {
        let switches = lock(&self.switches);
        let fresh = switches.seen.as_ref().and_then(|s| s.while_fresh(now));
        fresh.ok_or(Round(switches.round))
    }

    /// Keeps the switches as they were read; `at` is from before the reading.
    pub(crate) fn keep_modes(&self, round: Round, at: Timestamp, modes: Modes) -> Arc<Modes> {
        let value = Arc::new(modes);
        let mut switches = lock(&self.switches);
        if switches.round == round.0 {
            let value = Arc::clone(&value);
            switches.seen = Some(Seen { at, value });
        }
        value
    }

    /// A switch was moved here, or may have been.
    pub(crate) fn forget_modes(&self) {
        let mut switches = lock(&self.switches);
        switches.round = switches.round.wrapping_add(1);
        switches.seen = None;
    }

    /// An envelope as it was a moment ago; the caller looks whether it is still open.
    pub(crate) fn envelope(&self, id: EnvelopeId, now: Timestamp) -> Option<Arc<Envelope>> {
        lock(&self.envelopes).get(&id)?.while_fresh(now)
    }

    /// Keeps an envelope as it was read; `at` is from before the reading.
    pub(crate) fn keep_envelope(&self, at: Timestamp, envelope: Envelope) -> Arc<Envelope> {
        let value = Arc::new(envelope);
        let mut envelopes = lock(&self.envelopes);
        if envelopes.len() >= ENVELOPES_MAX {
            envelopes.clear();
        }
        let seen = Seen {
            at,
            value: Arc::clone(&value),
        };
        envelopes.insert(value.id, seen);
        value
    }
}

/// A poisoned lock guards values that are whole after every single operation.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use chaperone_core::mode::{Mode, ModeScope};

    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap()
    }

    fn halted() -> Modes {
        let mut modes = Modes::default();
        modes.set(ModeScope::Tenant, Mode::Halted);
        modes
    }

    #[test]
    fn switches_are_kept_for_the_time_they_may_go_unnoticed_and_no_longer() {
        let recent = Recent::default();
        let round = recent.modes(at(0)).unwrap_err();
        recent.keep_modes(round, at(0), halted());
        assert_eq!(*recent.modes(at(NOTICED_MS_MAX - 1)).unwrap(), halted());
        assert!(recent.modes(at(NOTICED_MS_MAX)).is_err());
        assert!(recent.modes(at(-1)).is_err());
    }

    #[test]
    fn what_was_read_before_a_switch_moved_is_not_kept_after_it() {
        let recent = Recent::default();
        let before = recent.modes(at(0)).unwrap_err();
        recent.forget_modes();
        assert_eq!(
            *recent.keep_modes(before, at(0), Modes::default()),
            Modes::default()
        );
        let after = recent.modes(at(0)).unwrap_err();
        recent.keep_modes(after, at(0), halted());
        assert_eq!(*recent.modes(at(0)).unwrap(), halted());
        recent.forget_modes();
        assert!(recent.modes(at(0)).is_err());
    }
}
