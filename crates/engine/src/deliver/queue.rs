//! The work items behind deliveries: done, later, or waiting for a human.

use chaperone_core::Timestamp;
use chaperone_core::ids::{WorkId, WritebackId};
use chaperone_core::ports::{
    ClaimedWork, Record, RecordChange, StoreFailed, WorkChange, WorkItem, WorkKind,
};

use super::{HELD, ItemFailed, delivery};
use crate::context::Engine;

impl Engine {
    pub(super) async fn complete(&self, work: &ClaimedWork) -> Result<(), ItemFailed> {
        self.change_work(self.completed(work)).await
    }

    /// The end of a wait for a person's entry: it holds up the patient's other writes no longer.
    pub(super) fn entry_ends(&self, id: WritebackId, due: Timestamp) -> WorkChange {
        WorkChange::Enqueue(WorkItem {
            id: WorkId::from_random(self.random.id()),
            kind: WorkKind::Expire,
            subject: id.to_string(),
            order_key: None,
            due,
        })
    }

    pub(super) async fn hold_entry(
        &self,
        id: WritebackId,
        due: Timestamp,
        work: &ClaimedWork,
    ) -> Result<(), ItemFailed> {
        let mut commit = self.commit_as(delivery());
        commit.work.push(held(work));
        commit.work.push(self.entry_ends(id, due));
        commit.records.push(held_by(id, work)?);
        self.store.commit(commit).await?;
        Ok(())
    }

    pub(super) async fn hold(&self, id: WritebackId, work: &ClaimedWork) -> Result<(), ItemFailed> {
        let mut commit = self.commit_as(delivery());
        commit.work.push(held(work));
        commit.records.push(held_by(id, work)?);
        self.store.commit(commit).await?;
        Ok(())
    }

    pub(super) async fn defer(
        &self,
        work: &ClaimedWork,
        wait_ms: i64,
        kind: Option<WorkKind>,
    ) -> Result<(), ItemFailed> {
        let due = later(self.now(), wait_ms);
        let claim = Some(work.claim);
        self.change_work(WorkChange::Defer {
            id: work.item.id,
            claim,
            due,
            kind,
        })
        .await
    }

    /// Again at a time, and a little after it, so that what waited together does not come back together.
    pub(super) async fn defer_until(
        &self,
        work: &ClaimedWork,
        until: Timestamp,
    ) -> Result<(), ItemFailed> {
        let due = later(until, self.backoff_ms(1));
        self.change_work(WorkChange::Defer {
            id: work.item.id,
            claim: Some(work.claim),
            due,
            kind: None,
        })
        .await
    }

    pub(super) async fn change_work(&self, change: WorkChange) -> Result<(), ItemFailed> {
        let mut commit = self.commit_as(delivery());
        commit.work.push(change);
        self.store.commit(commit).await?;
        Ok(())
    }

    pub(super) fn completed(&self, work: &ClaimedWork) -> WorkChange {
        WorkChange::Complete {
            id: work.item.id,
            claim: Some(work.claim),
        }
    }

    /// Exponential, with full jitter in the upper half.
    pub(super) fn backoff_ms(&self, attempt: u32) -> i64 {
        let doubled = self
            .config
            .backoff_ms
            .saturating_mul(1_i64 << attempt.saturating_sub(1).min(20))
            .clamp(1, self.config.backoff_ms_max.max(1));
        let mut random = [0; 8];
        self.random.fill(&mut random);
        let half = doubled / 2;
        half.saturating_add((u64::from_be_bytes(random) % (half.unsigned_abs() + 1)) as i64)
    }
}

pub(super) fn held(work: &ClaimedWork) -> WorkChange {
    WorkChange::Hold {
        id: work.item.id,
        claim: Some(work.claim),
    }
}

/// Names the work item that waits for a human, so that their decision finds it whatever else waits.
pub(super) fn held_by(id: WritebackId, work: &ClaimedWork) -> Result<RecordChange, StoreFailed> {
    let value =
        serde_json::to_value(work.item.id).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
    Ok(RecordChange::Put(Record::new(HELD, id, value)))
}

pub(super) fn deferred(work: &ClaimedWork, due: Timestamp, kind: WorkKind) -> WorkChange {
    WorkChange::Defer {
        id: work.item.id,
        claim: Some(work.claim),
        due,
        kind: Some(kind),
    }
}

pub(super) fn later(now: Timestamp, wait_ms: i64) -> Timestamp {
    now.checked_add(jiff::SignedDuration::from_millis(wait_ms))
        .unwrap_or(Timestamp::MAX)
}
