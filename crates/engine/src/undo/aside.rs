//! What becomes of what was set aside: a person lets it go on where it was, or rejects it, with a reason.
//! Called by `decide`, which records what is refused.

use chaperone_core::ids::WritebackId;
use chaperone_core::principal::{Actor, Human};
use chaperone_core::writeback::{Command, Refusal, RefusedBy, Writeback};

use crate::approve::{DecideFailed, OPERATES, require};
use crate::context::Engine;
use crate::deliver::approval_ran_out;
use crate::projection::WritebackRow;

impl Engine {
    /// [`Engine::release_aside`], without the record of a refusal.
    pub(crate) async fn try_release_aside(
        &self,
        by: &Human,
        writeback: WritebackId,
        reason: &str,
    ) -> Result<WritebackRow, DecideFailed> {
        require(by, &OPERATES)?;
        let mut hand = self.take_in_hand(writeback).await?;
        let now = self.now();
        let Writeback::Quarantined(aside) = &hand.state else {
            return Err(Refusal::NotNow(hand.state.told_name()).into());
        };
        if let Writeback::Ready(ready) = aside.held()
            && approval_ran_out(ready, now)
        {
            return Err(Refusal::OutsideDeliveryWindow.into());
        }
        let ruled_by = hand.state.ruled().map(|ruled| ruled.ruling.bundle);
        if ruled_by.is_some_and(|bundle| bundle != *self.bundle.digest()) {
            return Err(DecideFailed::RulesChanged);
        }
        let mut commit = self.commit_as(Actor::from(by));
        let reason = self.seal_reason(&hand, reason, &mut commit).await?;
        let person = by.person;
        hand.step(Command::Release { person, reason }, now)?;
        self.enqueue(&hand, &mut commit);
        self.finish(hand, commit).await
    }

    /// [`Engine::reject_aside`], without the record of a refusal.
    pub(crate) async fn try_reject_aside(
        &self,
        by: &Human,
        writeback: WritebackId,
        reason: &str,
    ) -> Result<WritebackRow, DecideFailed> {
        require(by, &OPERATES)?;
        let mut hand = self.take_in_hand(writeback).await?;
        if !matches!(hand.state, Writeback::Quarantined(_)) {
            return Err(Refusal::NotNow(hand.state.told_name()).into());
        }
        let mut commit = self.commit_as(Actor::from(by));
        let reason = self.seal_reason(&hand, reason, &mut commit).await?;
        let person = by.person;
        let refused = RefusedBy::Human { person, reason };
        hand.step(Command::Refuse { refused }, self.now())?;
        self.finish(hand, commit).await
    }
}
