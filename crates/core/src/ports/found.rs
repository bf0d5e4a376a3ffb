//! What reading back shows of every change that was sent as one, and the one outcome of them all.

use super::{EhrReadFailed, EntryWritten, Reconciliation, WriteReceipt};
use crate::writeback::HumanNeeded;

/// What became of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It took effect.
    There(There),
    /// It is not there.
    Missing,
    /// It cannot be told.
    Unclear(HumanNeeded),
}

/// A change that took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct There {
    /// What can be shown of it.
    pub written: EntryWritten,
    /// Whether its Provenance is there too.
    pub provenance_written: bool,
    /// Whether it took effect so lately that a search may not show everything yet.
    pub is_young: bool,
}

impl Reconciliation {
    /// One outcome of everything that was sent as one: all of it, nothing, or what no atomic server leaves.
    /// Where nothing was looked at, nothing is known: it must not pass for missing, which is sent again.
    ///
    /// # Errors
    /// `Unavailable` where some are there so lately that others may only not be shown yet.
    pub fn of_all(found: Vec<Found>) -> Result<Self, EhrReadFailed> {
        let mut there = Vec::new();
        let mut missing = false;
        let mut unclear = None;
        for one in found {
            match one {
                Found::There(one) => there.push(one),
                Found::Missing => missing = true,
                Found::Unclear(reason) => unclear = unclear.or(Some(reason)),
            }
        }
        // Some there and some not is what it is, whatever cannot be told of the rest.
        if missing && !there.is_empty() {
            if there.iter().any(|one| one.is_young) {
                return Err(EhrReadFailed::Unavailable);
            }
            return Ok(Self::Undecidable(HumanNeeded::PartlyApplied));
        }
        if let Some(reason) = unclear {
            return Ok(Self::Undecidable(reason));
        }
        let provenance_written = there.iter().all(|one| one.provenance_written);
        let shown = there.into_iter().map(|one| one.written).collect();
        let receipt = WriteReceipt::of_all(shown, provenance_written);
        Ok(match receipt {
            Some(receipt) => Self::Applied(receipt),
            None if missing => Self::Missing,
            None => Self::Undecidable(HumanNeeded::EndpointCannotTell),
        })
    }
}

impl WriteReceipt {
    /// What all changes of an order can show, in its order; nothing where there is none.
    #[must_use]
    pub fn of_all(shown: Vec<EntryWritten>, provenance_written: bool) -> Option<Self> {
        let mut shown = shown.into_iter();
        let first = shown.next()?;
        Some(Self {
            location: first.location,
            version: first.version,
            read_back: first.read_back,
            provenance_written,
            also: shown.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(id: &str, is_young: bool) -> Found {
        let written = EntryWritten {
            location: format!("Task/{id}"),
            version: None,
            read_back: None,
        };
        Found::There(There {
            written,
            provenance_written: id != "bare",
            is_young,
        })
    }

    /// The places of what was found, or why there is no such thing.
    fn outcome(found: &[Found]) -> String {
        match Reconciliation::of_all(found.to_vec()) {
            Ok(Reconciliation::Applied(receipt)) => {
                let also = receipt.also.iter().map(|it| it.location.clone());
                let places: Vec<String> = [receipt.location].into_iter().chain(also).collect();
                format!("{} {}", places.join(" "), receipt.provenance_written)
            }
            Ok(other) => format!("{other:?}"),
            Err(failed) => format!("{failed:?}"),
        }
    }

    #[test]
    fn what_was_sent_as_one_is_all_there_or_missing_or_a_persons_to_look_at() {
        let unclear = Found::Unclear(HumanNeeded::MoreThanOne);
        for (found, expected) in [
            (Vec::new(), "Undecidable(EndpointCannotTell)"),
            (
                vec![there("1", false), there("2", true)],
                "Task/1 Task/2 true",
            ),
            (
                vec![there("1", false), there("bare", false)],
                "Task/1 Task/bare false",
            ),
            (vec![Found::Missing, Found::Missing], "Missing"),
            (
                vec![there("1", false), Found::Missing],
                "Undecidable(PartlyApplied)",
            ),
            (
                vec![Found::Missing, there("1", false)],
                "Undecidable(PartlyApplied)",
            ),
            (vec![there("1", true), Found::Missing], "Unavailable"),
            (
                vec![there("1", false), unclear.clone()],
                "Undecidable(MoreThanOne)",
            ),
            (
                vec![Found::Missing, unclear.clone()],
                "Undecidable(MoreThanOne)",
            ),
            (
                vec![there("1", false), unclear, Found::Missing],
                "Undecidable(PartlyApplied)",
            ),
        ] {
            assert_eq!(outcome(&found), expected, "{found:?}");
        }
    }
}
