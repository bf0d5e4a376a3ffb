//! What bounds guessing: failures counted per account name, with a growing delay.
//!
//! Counted for names that exist and for names that do not, so that a delay tells nothing. The record
//! is changed by revision: of many guesses sent at once, one is judged and the others are told to try
//! again, whatever they held.

use chaperone_core::Timestamp;
use chaperone_core::ids::AccountName;
use chaperone_core::ports::{Commit, Guard, Record, RecordChange, RecordKey, StoreFailed};
use serde::{Deserialize, Serialize};

use super::{parse, value_of};
use crate::context::{Engine, after};

const ATTEMPTS: &str = "attempts";
/// Failures before the first delay.
const FREE: u32 = 5;
/// The first delay, in seconds; doubles with each further failure.
const DELAY_S: i64 = 30;
/// The longest delay, in seconds.
///
/// # Source
/// OWASP ASVS 4.0.3, 2.2.1: no more than 100 failed attempts per hour on one account. Five free
/// ones and doubling delays leave fewer than 15.
const DELAY_S_MAX: i64 = 3_600;
/// How long failures are remembered after the last one, in seconds.
const REMEMBERED_S: i64 = 24 * 3_600;

/// What is being guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guessed {
    Password,
    Code,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counted {
    failures: u32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    locked_until: Option<Timestamp>,
}

/// Failures so far, with what is needed to change them safely.
#[derive(Debug, Clone)]
pub(crate) struct Attempts {
    key: RecordKey,
    counted: Counted,
    revision: Option<u64>,
}

impl Attempts {
    /// Until when nothing is judged.
    pub(crate) fn locked(&self, now: Timestamp) -> Option<Timestamp> {
        self.counted.locked_until.filter(|until| now < *until)
    }

    /// Adds one failure to a commit.
    pub(crate) fn failed(&self, commit: &mut Commit, now: Timestamp) -> Result<(), StoreFailed> {
        let failures = self.counted.failures.saturating_add(1);
        let locked_until = failures.checked_sub(FREE).map(|beyond| {
            let delay = DELAY_S.saturating_mul(1 << beyond.min(7)).min(DELAY_S_MAX);
            after(now, delay)
        });
        self.put(
            commit,
            Counted {
                failures,
                locked_until,
            },
            after(now, REMEMBERED_S),
        )
    }

    /// Clears the failures in a commit that only holds while nobody else failed meanwhile.
    pub(crate) fn passed(&self, commit: &mut Commit, now: Timestamp) -> Result<(), StoreFailed> {
        if self.revision.is_none() {
            commit.guards.push(Guard::RecordAt {
                key: self.key.clone(),
                revision: None,
            });
            return Ok(());
        }
        self.put(commit, Counted::default(), after(now, 1))
    }

    fn put(
        &self,
        commit: &mut Commit,
        counted: Counted,
        until: Timestamp,
    ) -> Result<(), StoreFailed> {
        let mut record =
            Record::new(&self.key.collection, &self.key.key, value_of(&counted)?).expiring(until);
        record.revision = self.revision.unwrap_or_default();
        commit.records.push(match self.revision {
            Some(revision) => RecordChange::Update(record, revision),
            None => RecordChange::Create(record),
        });
        Ok(())
    }
}

impl Engine {
    /// The failures of one account name.
    pub(crate) async fn attempts(
        &self,
        guessed: Guessed,
        account: &AccountName,
    ) -> Result<Attempts, StoreFailed> {
        let what = match guessed {
            Guessed::Password => "password",
            Guessed::Code => "code",
        };
        let key = RecordKey::new(ATTEMPTS, format!("{what}/{account}"));
        let record = self
            .store
            .record(&self.config.tenant, &key, self.now())
            .await?;
        let (counted, revision) = match record {
            Some(record) => (parse(record.value)?, Some(record.revision)),
            None => (Counted::default(), None),
        };
        Ok(Attempts {
            key,
            counted,
            revision,
        })
    }
}

#[cfg(test)]
mod tests {
    use chaperone_core::ids::TenantId;
    use chaperone_core::principal::Actor;

    use super::*;

    #[test]
    fn an_hour_of_guessing_is_far_below_a_hundred() {
        let mut now = Timestamp::from_second(1_000_000).unwrap();
        let start = now;
        let mut attempts = Attempts {
            key: RecordKey::new(ATTEMPTS, "password/a"),
            counted: Counted::default(),
            revision: None,
        };
        let mut judged = 0;
        while now.as_second() - start.as_second() < 3_600 {
            match attempts.locked(now) {
                Some(until) => now = until,
                None => {
                    judged += 1;
                    let tenant = TenantId::new("t").unwrap();
                    let mut commit = Commit::new(tenant, now, Actor::Anonymous);
                    attempts.failed(&mut commit, now).unwrap();
                    let (RecordChange::Create(record) | RecordChange::Update(record, _)) =
                        commit.records.remove(0)
                    else {
                        panic!("a failure is recorded");
                    };
                    attempts.counted = parse(record.value).unwrap();
                    attempts.revision = Some(judged);
                }
            }
        }
        assert!((5..=15).contains(&judged), "{judged}");
    }
}
