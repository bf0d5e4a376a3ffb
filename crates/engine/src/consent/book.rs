//! What was read of patients' Consents lately, so that a call does not ask the EHR again.
//!
//! Nothing is relied on longer than [`KEPT_MS_MAX`]. A Consent that changed here, or of which the EHR told us, is
//! forgotten at once; one that changed unannounced, or of which another node was told, counts within that time.
//! Right before anything is sent, nothing of this is used: the EHR is asked.
//!
//! ```text
//! read:    note the round ─▶ ask the EHR ─▶ keep, if the round is still the same
//! change:  next round, forget
//! ```
//! So what was read before a change is not kept after it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chaperone_core::Timestamp;
use chaperone_core::ids::PatientToken;

use super::Known;

/// Longest time that Consents are relied on, in milliseconds.
///
/// # Source
/// Requirements R062 and R135: caches of consent have short exposure windows; at most a minute.
pub(crate) const KEPT_MS_MAX: i64 = 60_000;
/// From what age on they are read anew beside an answer that still rests on them, in milliseconds.
const RENEWED_MS: i64 = 30_000;
/// Most patients kept. When full, all are forgotten, which costs a request each and nothing else.
const PATIENTS_MAX: usize = 10_000;

#[derive(Debug, Clone)]
struct Seen {
    at: Timestamp,
    known: Arc<Known>,
}

#[derive(Debug, Default)]
struct Kept {
    round: u64,
    by_patient: HashMap<PatientToken, Seen>,
}

/// What is kept.
#[derive(Debug, Default)]
pub(crate) struct ConsentBook(Mutex<Kept>);

/// When a reading began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round(u64);

impl ConsentBook {
    pub(super) fn round(&self) -> Round {
        Round(self.lock().round)
    }

    /// What is known, and whether it should be read anew beside. Nothing from the future, as after a clock was
    /// set back.
    pub(super) fn known(
        &self,
        patient: PatientToken,
        now: Timestamp,
    ) -> Option<(Arc<Known>, bool)> {
        let kept = self.lock();
        let seen = kept.by_patient.get(&patient)?;
        let age_ms = now.duration_since(seen.at).as_millis();
        (0..i128::from(KEPT_MS_MAX))
            .contains(&age_ms)
            .then(|| (Arc::clone(&seen.known), age_ms >= i128::from(RENEWED_MS)))
    }

    /// Keeps what was read; `at` is from before the reading.
    pub(super) fn keep(
        &self,
        round: Round,
        at: Timestamp,
        patient: PatientToken,
        known: &Arc<Known>,
    ) {
        let mut kept = self.lock();
        if kept.round != round.0 {
            return;
        }
        if kept.by_patient.len() >= PATIENTS_MAX {
            kept.by_patient.clear();
        }
        let known = Arc::clone(known);
        kept.by_patient.insert(patient, Seen { at, known });
    }

    /// Forgets a patient's, or everybody's.
    pub(crate) fn forget(&self, patient: Option<PatientToken>) {
        let mut kept = self.lock();
        kept.round = kept.round.wrapping_add(1);
        match patient {
            Some(patient) => {
                kept.by_patient.remove(&patient);
            }
            None => kept.by_patient.clear(),
        }
    }

    /// A poisoned lock guards values that are whole after every single operation.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap()
    }

    #[test]
    fn consents_are_relied_on_for_a_minute_and_no_longer() {
        let (book, patient) = (ConsentBook::default(), PatientToken::from_random([1; 16]));
        let known = Arc::new(Known::default());
        book.keep(book.round(), at(0), patient, &known);
        assert!(!book.known(patient, at(RENEWED_MS - 1)).unwrap().1);
        assert!(book.known(patient, at(KEPT_MS_MAX - 1)).unwrap().1);
        assert!(book.known(patient, at(KEPT_MS_MAX)).is_none());
        assert!(book.known(patient, at(-1)).is_none());
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let (book, patient) = (ConsentBook::default(), PatientToken::from_random([1; 16]));
        let other = PatientToken::from_random([2; 16]);
        let known = Arc::new(Known::default());
        let before = book.round();
        book.keep(before, at(0), other, &known);
        book.forget(Some(patient));
        book.keep(before, at(0), patient, &known);
        assert!(book.known(patient, at(1)).is_none());
        assert!(book.known(other, at(1)).is_some());
        book.forget(None);
        assert!(book.known(other, at(1)).is_none());
    }
}
