//! Follows the ledger: counts what people found, draws what is looked at afterwards, demotes a row where too much was
//! wrong.
//!
//! Counts are projections, folded from the ledger; what follows from them is recorded once:
//!
//! ```text
//! place (record: how far was acted) ┐
//! mark (row: how far was folded)    ├▶ leaves ─▶ counts; beyond the place: Sampled, Demoted ─▶ one commit
//! ```
//! Rows that were dropped take the mark with them; folding begins anew in a generation of its own, and nothing is
//! drawn or demoted a second time. Any number of nodes may follow: of two that took the same leaves, the revision of
//! the place lets one through. Draws are made by a keyed digest, so that no agent can tell which it will be.

use std::collections::BTreeMap;

use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, Recorded, StreamId};
use chaperone_core::ids::WritebackId;
use chaperone_core::oversight::calibration::Cell;
use chaperone_core::oversight::{Combination, OversightEvent, Verdict};
use chaperone_core::ports::{
    Commit, CommitFailed, Expected, KeyVaultFailed, Notice, PayloadClass, Record, RecordChange,
    RecordKey, StoreFailed,
};
use chaperone_core::principal::{Actor, SystemPart};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::sample::Sample;
use super::tally::{Counted, Judged, Seen, TALLIES, Tally, is_telling};
use crate::afterwork::Piece;
use crate::context::Engine;
use crate::projection::sortable;
use crate::transition::MoveFailed;

/// Rows that are demoted, by the key of their combination. Authoritative: while one is here, people decide.
pub(super) const DEMOTIONS: &str = "oversight_demotion";
/// What is, or was, to be looked at.
pub(super) const SAMPLES: &str = "oversight_sample";
/// How far the ledger was followed.
const PLACE: &str = "oversight_place";
const FOLLOWED: &str = "followed";
/// Leaves folded at once.
const LEAVES_AT_ONCE: u32 = 64;
/// Times that a page is tried again when somebody else was first.
const AGAIN_MAX: u32 = 8;

/// How far the ledger was followed, and what came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Followed {
    /// Entries folded.
    pub entries: u64,
    /// Entries in the ledger.
    pub size: u64,
    /// Drawn for a look afterwards.
    pub drawn: u32,
    /// Rows demoted.
    pub demoted: u32,
}

impl Followed {
    /// Entries that are not folded yet.
    pub fn behind(&self) -> u64 {
        self.size.saturating_sub(self.entries)
    }
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Place {
    /// Entries after which nothing was drawn or demoted yet.
    acted: u64,
    generation: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Mark {
    folded: u64,
    generation: u64,
}

/// A row that is demoted, as it rests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Demotion {
    pub(super) combination: Combination,
    pub(super) at: chaperone_core::Timestamp,
    pub(super) reviewed: u32,
    pub(super) disagreed: u32,
}

/// What one page of leaves comes to.
struct Page {
    commit: Commit,
    generation: u64,
    tallies: BTreeMap<Digest, Tally>,
    samples: BTreeMap<WritebackId, Sample>,
    /// The write-backs whose review demoted a row.
    demoted_by: Vec<WritebackId>,
    drawn: u32,
}

/// Why a page could not be followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowFailed {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// The key that draws could not be had.
    #[error(transparent)]
    Keys(#[from] KeyVaultFailed),
    /// It could not be recorded.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
}

impl Engine {
    /// Follows the ledger, at most so many entries (rounded up to a page).
    ///
    /// # Errors
    /// [`FollowFailed`]; what was followed stays so.
    pub async fn follow_oversight(&self, entries_max: u64) -> Result<Followed, FollowFailed> {
        let tenant = &self.config.tenant;
        let key = RecordKey::new(PLACE, FOLLOWED);
        let mut done = Followed::default();
        let (mut taken, mut again) = (0, 0);
        loop {
            let record = self.store.record(tenant, &key, self.now()).await?;
            let place: Place = match &record {
                Some(record) => parsed(record)?,
                None => Place::default(),
            };
            let mark = match self.store.projection(tenant, &key).await? {
                Some(row) => Some(parsed::<Mark>(&row)?),
                None => None,
            };
            let mark = mark
                .filter(|mark| mark.generation == place.generation)
                .unwrap_or(Mark {
                    folded: 0,
                    generation: place.generation.saturating_add(1),
                });
            done.entries = mark.folded;
            done.size = self.store.size(tenant).await?;
            if done.behind() == 0 || taken >= entries_max {
                return Ok(done);
            }
            let leaves = self
                .store
                .leaves(tenant, mark.folded, LEAVES_AT_ONCE)
                .await?;
            if leaves.is_empty() {
                return Ok(done);
            }
            let reached = mark.folded.saturating_add(leaves.len() as u64);
            let mut page = Page {
                commit: self.commit_as(Actor::System {
                    part: SystemPart::Oversight,
                }),
                generation: mark.generation,
                tallies: BTreeMap::new(),
                samples: BTreeMap::new(),
                demoted_by: Vec::new(),
                drawn: 0,
            };
            for leaf in &leaves {
                let recorded =
                    Recorded::from_leaf(leaf).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
                if let StreamId::Writeback(id) = &recorded.stream
                    && is_telling(&recorded.event)
                {
                    self.follow_one(*id, &recorded, place.acted, &mut page)
                        .await?;
                }
            }
            let next = Place {
                acted: place.acted.max(reached),
                generation: mark.generation,
            };
            let mark = Mark {
                folded: reached,
                generation: mark.generation,
            };
            let demotions = page.demoted_by.clone();
            let drawn = page.drawn;
            match self.store.commit(page.sealed(next, mark, record)?).await {
                Ok(_) => {}
                Err(CommitFailed::Record { .. } | CommitFailed::Conflict { .. })
                    if again < AGAIN_MAX =>
                {
                    again += 1;
                    continue;
                }
                Err(failed) => return Err(failed.into()),
            }
            taken = taken.saturating_add(leaves.len() as u64);
            done.drawn = done.drawn.saturating_add(drawn);
            for writeback in demotions {
                done.demoted = done.demoted.saturating_add(1);
                let notice = Notice::OperatorNeeded {
                    writeback,
                    code: "row-demoted".to_owned(),
                };
                self.after(Piece::Notify(tenant.clone(), notice));
            }
            if drawn > 0 {
                self.announce_change();
            }
        }
    }

    /// Makes the counts be folded from the first entry on. Whoever is folding just now is refused.
    pub(crate) async fn reset_oversight(&self) -> Result<(), StoreFailed> {
        let tenant = &self.config.tenant;
        let key = RecordKey::new(PLACE, FOLLOWED);
        let mut again = 0;
        loop {
            let Some(known) = self.store.record(tenant, &key, self.now()).await? else {
                return Ok(());
            };
            let place: Place = parsed(&known)?;
            let next = Place {
                generation: place.generation.saturating_add(1),
                ..place
            };
            let mut commit = self.commit_as(Actor::System {
                part: SystemPart::Oversight,
            });
            let record = Record::new(PLACE, FOLLOWED, written(&next)?);
            commit
                .records
                .push(RecordChange::Update(record, known.revision));
            match self.store.commit(commit).await {
                Ok(_) => return Ok(()),
                Err(CommitFailed::Record { .. }) if again < AGAIN_MAX => again += 1,
                Err(failed) => return Err(StoreFailed::Unavailable(Box::new(failed))),
            }
        }
    }

    async fn follow_one(
        &self,
        id: WritebackId,
        recorded: &Recorded,
        acted: u64,
        page: &mut Page,
    ) -> Result<(), FollowFailed> {
        let rules = &self.oversight;
        let events = self
            .store
            .stream(&self.config.tenant, &StreamId::Writeback(id))
            .await?;
        let seen = Seen::at(&events, recorded.version, rules.calibration.review_ms_min)?;
        let Some(seen) = seen.filter(|seen| seen.maker().is_some()) else {
            return Ok(());
        };
        if let Some(judged) = seen.judged {
            for of in seen.counted() {
                let counts = &mut self.tally(page, of).await?.counts;
                match judged {
                    Judged::Counted(cell, right) => counts.add(cell, right),
                    Judged::TurnedOutWrong(cell) => counts.turned_out_wrong(cell),
                }
            }
        }
        let is_new = recorded.seq >= acted;
        match &recorded.event {
            Event::Writeback(_) if seen.went_through_alone() => {
                let was_drawn = events
                    .iter()
                    .any(|it| it.event == Event::Oversight(OversightEvent::Sampled));
                let week = Cell::of(recorded.at.as_second(), None).week();
                let drawn = was_drawn || (is_new && self.is_drawn(id, &seen, week, page).await?);
                if drawn {
                    for of in seen.counted() {
                        self.tally(page, of).await?.draw(week);
                    }
                }
                if drawn && !was_drawn {
                    page.drawn = page.drawn.saturating_add(1);
                    let mut hand = self.take_in_hand(id).await.map_err(moved)?;
                    hand.note(&mut page.commit, Event::Oversight(OversightEvent::Sampled))?;
                }
            }
            Event::Oversight(OversightEvent::Sampled) => {
                page.samples
                    .insert(id, Sample::of(&seen, recorded.at, None));
            }
            Event::Oversight(OversightEvent::Reviewed { verdict, .. }) => {
                let drawn_at = events
                    .iter()
                    .find(|it| it.event == Event::Oversight(OversightEvent::Sampled))
                    .map_or(recorded.at, |it| it.at);
                page.samples
                    .insert(id, Sample::of(&seen, drawn_at, Some(*verdict)));
                for of in seen.counted() {
                    if of.combination.row.is_some() {
                        self.judge_row(id, of, *verdict, is_new, page).await?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether this one is looked at: by lot, and until the week has its least number.
    async fn is_drawn(
        &self,
        id: WritebackId,
        seen: &Seen,
        week: i64,
        page: &mut Page,
    ) -> Result<bool, FollowFailed> {
        let sampling = &self.oversight.sampling;
        for of in seen.counted() {
            let is_row = of.combination.row.is_some();
            let drawn = self.tally(page, of).await?.drawn_in(week);
            if is_row && drawn < sampling.weekly_min {
                return Ok(true);
            }
        }
        let name = id.to_string();
        let parts: [&[u8]; 2] = [b"oversight draw 1", name.as_bytes()];
        let lot = self
            .keyed_digest(PayloadClass::Operational, None, &parts)
            .await?;
        Ok(is_in_lot(&lot, sampling.per_ten_thousand))
    }

    /// Takes a verdict on a row, and demotes it where there were too many that disagree.
    async fn judge_row(
        &self,
        id: WritebackId,
        of: Counted,
        verdict: Verdict,
        is_new: bool,
        page: &mut Page,
    ) -> Result<(), FollowFailed> {
        let drift = &self.oversight.drift;
        let combination = of.combination.clone();
        let tally = self.tally(page, of).await?;
        let Some((reviewed, disagreed)) = tally.take(verdict, drift.window, drift.disagreed_max())
        else {
            return Ok(());
        };
        let key = RecordKey::new(DEMOTIONS, combination.key());
        let known = self
            .store
            .record(&self.config.tenant, &key, self.now())
            .await?;
        if !is_new || known.is_some() {
            return Ok(());
        }
        let demotion = Demotion {
            combination: combination.clone(),
            at: page.commit.at,
            reviewed,
            disagreed,
        };
        page.commit.records.push(RecordChange::Create(Record::new(
            DEMOTIONS,
            combination.key(),
            written(&demotion)?,
        )));
        page.commit.append(
            StreamId::Oversight,
            Expected::Any,
            Event::Oversight(OversightEvent::Demoted {
                combination: Box::new(combination),
                reviewed,
                disagreed,
            }),
        );
        page.demoted_by.push(id);
        Ok(())
    }

    /// Counts in hand, read when they are first needed.
    async fn tally<'a>(
        &self,
        page: &'a mut Page,
        of: Counted,
    ) -> Result<&'a mut Tally, StoreFailed> {
        let key = of.key();
        let generation = page.generation;
        let known = match page.tallies.contains_key(&key) {
            true => None,
            false => {
                let row = RecordKey::new(TALLIES, key);
                self.store.projection(&self.config.tenant, &row).await?
            }
        };
        let known = known.as_ref().map(parsed::<Tally>).transpose()?;
        let known = known.filter(|tally| tally.generation == generation);
        let new = || known.unwrap_or_else(|| Tally::new(of, generation));
        Ok(page.tallies.entry(key).or_insert_with(new))
    }
}

impl Page {
    fn sealed(
        self,
        place: Place,
        mark: Mark,
        known: Option<Record>,
    ) -> Result<Commit, StoreFailed> {
        let mut commit = self.commit;
        for (key, tally) in &self.tallies {
            commit
                .projections
                .push(Record::new(TALLIES, key, written(tally)?));
        }
        for (id, sample) in &self.samples {
            let index = match sample.verdict {
                None => super::sample::OPEN,
                Some(_) => super::sample::DONE,
            };
            commit.projections.push(
                Record::new(SAMPLES, id, written(sample)?)
                    .indexed(index, sortable(sample.drawn_at)),
            );
        }
        commit
            .projections
            .push(Record::new(PLACE, FOLLOWED, written(&mark)?));
        let record = Record::new(PLACE, FOLLOWED, written(&place)?);
        commit.records.push(match known {
            Some(known) => RecordChange::Update(record, known.revision),
            None => RecordChange::Create(record),
        });
        Ok(commit)
    }
}

/// Whether a keyed digest falls into the share that is drawn.
fn is_in_lot(lot: &Digest, per_ten_thousand: u16) -> bool {
    let eight = lot.as_bytes().first_chunk::<8>();
    let number = eight.map_or(0, |bytes| u64::from_be_bytes(*bytes));
    number % 10_000 < u64::from(per_ten_thousand)
}

pub(super) fn parsed<T: serde::de::DeserializeOwned>(record: &Record) -> Result<T, StoreFailed> {
    serde_json::from_value(record.value.clone())
        .map_err(|e| StoreFailed::Corrupt(format!("a row of oversight cannot be read: {e}")))
}

pub(super) fn written(row: &impl Serialize) -> Result<serde_json::Value, StoreFailed> {
    Ok(json!(
        serde_json::to_value(row).map_err(|e| StoreFailed::Corrupt(e.to_string()))?
    ))
}

fn moved(failed: MoveFailed) -> StoreFailed {
    match failed {
        MoveFailed::Store(failed) => failed,
        other => StoreFailed::Corrupt(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lot_falls_as_often_as_it_should() {
        let drawn = |share| {
            (0..20_000_u32)
                .filter(|n| is_in_lot(&Digest::of_bytes(&n.to_be_bytes()), share))
                .count()
        };
        assert_eq!((drawn(0), drawn(10_000)), (0, 20_000));
        assert!((850..1_150).contains(&drawn(500)), "{}", drawn(500));
    }
}
