//! Since when a person has had a proposal on their screen, by the server's own clock: nobody decides about what they
//! were not shown, and nobody decides faster than it can be read.
//!
//! The console says what it serves ([`Engine::put_on_screen`]); a decision asks how long ago that was. It counts for one
//! person, one write-back and one digest: what changed since is read anew. What a browser says about it counts for
//! nothing.
//!
//! # Source
//! Requirements R103 and R104: a person reviews before they decide. The least time is the organisation's decision, in
//! `rules/deciding.toml`.

use chaperone_core::Timestamp;
use chaperone_core::change::ChangeClass;
use chaperone_core::digest::Digest;
use chaperone_core::ids::WritebackId;
use chaperone_core::ports::{CommitFailed, Record, RecordChange, RecordKey, StoreFailed};
use chaperone_core::principal::{Actor, Human};
use serde::{Deserialize, Serialize};

use crate::approve::DecideFailed;
use crate::context::{Engine, after};
use crate::transition::InHand;

/// Collection of what is on whose screen.
const SHOWN: &str = "review_shown";
/// How long it is remembered that something was shown, in seconds. Beyond it, it is shown anew.
const REMEMBERED_S: i64 = 24 * 3_600;

/// How long something is on the screen at least; `rules/deciding.toml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScreenRules {
    /// Milliseconds, for classes up to M3.
    pub(crate) least_ms: u32,
    /// Milliseconds, for M4 and M5.
    pub(crate) least_grave_ms: u32,
}

impl ScreenRules {
    /// Milliseconds for a class.
    pub(crate) fn least_ms(&self, class: ChangeClass) -> u32 {
        if class >= ChangeClass::M4 {
            self.least_grave_ms
        } else {
            self.least_ms
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    digest: Digest,
    since: Timestamp,
}

impl Engine {
    /// How long so many changes of a class must be on the screen before they can be decided, in milliseconds; 0 where
    /// this engine does not ask for it.
    pub fn least_on_screen_ms(&self, class: ChangeClass, changes: usize) -> u32 {
        if self.config.decides_after_reading {
            let each = self.tables.screen_rules().least_ms(class);
            each.saturating_mul(u32::try_from(changes).unwrap_or(u32::MAX))
        } else {
            0
        }
    }

    /// Remembers since when a person has had proposals before them. What they had before counts from then.
    ///
    /// # Errors
    /// When it cannot be recorded: then it must not be shown as something that can be decided.
    pub async fn put_on_screen(
        &self,
        by: &Human,
        items: &[(WritebackId, Digest)],
    ) -> Result<(), StoreFailed> {
        if !self.config.decides_after_reading {
            return Ok(());
        }
        let now = self.now();
        let mut commit = self.commit_as(Actor::from(by));
        for (id, digest) in items {
            let known = self.shown(by, *id).await?;
            if known.is_some_and(|known| known.digest == *digest) {
                continue;
            }
            let shown = Shown {
                digest: *digest,
                since: now,
            };
            let value =
                serde_json::to_value(&shown).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
            commit.records.push(RecordChange::Put(
                Record::new(SHOWN, screen_key(by, *id), value).expiring(after(now, REMEMBERED_S)),
            ));
        }
        if commit.records.is_empty() {
            return Ok(());
        }
        match self.store.commit(commit).await {
            // Two pages at once: either says since when.
            Ok(_) | Err(CommitFailed::Record { .. }) => Ok(()),
            Err(failed) => Err(StoreFailed::Unavailable(Box::new(failed))),
        }
    }

    /// Whether a person has had this before them long enough to decide; for pages that ask for a second factor first.
    ///
    /// # Errors
    /// [`DecideFailed::NotRead`] when they had not; [`DecideFailed::Missing`], store failures.
    pub async fn has_read(
        &self,
        by: &Human,
        id: WritebackId,
        digest: &Digest,
    ) -> Result<(), DecideFailed> {
        let hand = self.take_in_hand(id).await?;
        self.require_read(by, &hand, digest, 1).await.map(|_| ())
    }

    /// How long a person has had this before them, in milliseconds; nothing where this engine does not ask for it.
    /// Each change takes its time, and so does each of so many that are decided with it.
    ///
    /// # Errors
    /// [`DecideFailed::NotRead`] when they had not, or not long enough.
    pub(crate) async fn require_read(
        &self,
        by: &Human,
        hand: &InHand,
        digest: &Digest,
        among: u32,
    ) -> Result<Option<u64>, DecideFailed> {
        if !self.config.decides_after_reading {
            return Ok(None);
        }
        let ruled = hand.state.ruled();
        let class = ruled.map_or(ChangeClass::M5, |ruled| ruled.ruling.class);
        let changes = ruled.map_or(1, |ruled| ruled.changes().count());
        let least = i128::from(self.least_on_screen_ms(class, changes))
            .saturating_mul(i128::from(among.max(1)));
        let shown = self.shown(by, hand.id).await?;
        let since = shown.filter(|shown| shown.digest == *digest);
        let on_screen = since.map_or(-1, |shown| {
            self.now().duration_since(shown.since).as_millis()
        });
        if on_screen < least {
            return Err(DecideFailed::NotRead {
                least_ms: u32::try_from(least).unwrap_or(u32::MAX),
            });
        }
        Ok(u64::try_from(on_screen).ok())
    }

    async fn shown(&self, by: &Human, id: WritebackId) -> Result<Option<Shown>, StoreFailed> {
        let key = RecordKey::new(SHOWN, screen_key(by, id));
        let record = self
            .store
            .record(&self.config.tenant, &key, self.now())
            .await?;
        record
            .map(|record| {
                serde_json::from_value(record.value)
                    .map_err(|e| StoreFailed::Corrupt(e.to_string()))
            })
            .transpose()
    }
}

fn screen_key(by: &Human, id: WritebackId) -> String {
    format!("{}/{id}", by.person)
}
