//! Giving a demoted row back what it says: a person of the right role, with a reason and a fresh second factor.

use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::StepUpId;
use chaperone_core::oversight::OversightEvent;
use chaperone_core::ports::{
    CommitFailed, Expected, KeyVaultFailed, PayloadClass, RecordChange, RecordKey, StoreFailed,
};
use chaperone_core::principal::{Actor, Human};

use super::follow::{DEMOTIONS, Demotion, parsed};
use crate::approve::DecideFailed;
use crate::context::Engine;
use crate::people::StepUpFor;

/// Characters of a reason.
const REASON_CHARS: std::ops::RangeInclusive<usize> = 10..=2_000;

/// Why a row was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreFailed {
    /// No such row is demoted, or somebody restored it just now.
    #[error("no such row is demoted")]
    Missing,
    /// The role does not restore.
    #[error("your roles do not restore a row")]
    NotPermitted,
    /// A reason is needed.
    #[error("say why it may pass again, in 10 to 2,000 characters; it goes into the record")]
    ReasonNeeded,
    /// The second factor was not given for this, or is too old.
    #[error("the second factor was not given for this, or is too old; give it again")]
    StepUp,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// The reason cannot be sealed.
    #[error(transparent)]
    Keys(#[from] KeyVaultFailed),
    /// It could not be recorded.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
}

impl Engine {
    /// Whether a person may restore rows.
    pub fn may_restore_rows(&self, by: &Human) -> bool {
        let roles = &self.oversight.drift.restored_by;
        !by.is_in_training() && roles.iter().any(|role| by.holds(*role))
    }

    /// What a second factor is given for when a row is restored: the row, since when it is demoted, and the reason.
    ///
    /// # Errors
    /// [`RestoreFailed::Missing`]; store failures.
    pub async fn restore_digest(
        &self,
        row: &Digest,
        reason: &str,
    ) -> Result<Digest, RestoreFailed> {
        let (demotion, _) = self.demotion(row).await?;
        Ok(digest_of(row, &demotion, reason.trim()))
    }

    /// Restores a row.
    ///
    /// # Errors
    /// [`RestoreFailed`]; it stays demoted then.
    pub async fn restore_row(
        &self,
        by: &Human,
        row: &Digest,
        reason: &str,
        step_up: StepUpId,
    ) -> Result<(), RestoreFailed> {
        if !self.may_restore_rows(by) {
            return Err(RestoreFailed::NotPermitted);
        }
        let reason = reason.trim();
        if !REASON_CHARS.contains(&reason.chars().count()) {
            return Err(RestoreFailed::ReasonNeeded);
        }
        let (demotion, key) = self.demotion(row).await?;
        let mut commit = self.commit_as(Actor::from(by));
        let digest = digest_of(row, &demotion, reason);
        self.consume_step_up(by, step_up, StepUpFor::Matter, &digest, &mut commit)
            .await
            .map_err(|failed| match failed {
                DecideFailed::Store(failed) => RestoreFailed::Store(failed),
                _ => RestoreFailed::StepUp,
            })?;
        let sealed = self
            .seal(PayloadClass::Operational, None, reason.as_bytes())
            .await?;
        commit.append(
            StreamId::Oversight,
            Expected::Any,
            Event::Oversight(OversightEvent::Restored {
                combination: Box::new(demotion.combination),
                reason: sealed.address,
            }),
        );
        commit.payloads.push(sealed);
        commit.records.push(RecordChange::Consume(key));
        match self.store.commit(commit).await {
            Ok(_) => {}
            Err(CommitFailed::Record { collection }) if collection == DEMOTIONS => {
                return Err(RestoreFailed::Missing);
            }
            Err(CommitFailed::Record { .. }) => return Err(RestoreFailed::StepUp),
            Err(failed) => return Err(failed.into()),
        }
        self.announce_change();
        Ok(())
    }

    async fn demotion(&self, row: &Digest) -> Result<(Demotion, RecordKey), RestoreFailed> {
        let key = RecordKey::new(DEMOTIONS, row);
        let record = self
            .store
            .record(&self.config.tenant, &key, self.now())
            .await?
            .ok_or(RestoreFailed::Missing)?;
        Ok((parsed(&record)?, key))
    }
}

fn digest_of(row: &Digest, demotion: &Demotion, reason: &str) -> Digest {
    let at = demotion.at.to_string();
    Digest::of_parts([
        &b"restore a row 1"[..],
        row.as_bytes(),
        at.as_bytes(),
        reason.as_bytes(),
    ])
}
