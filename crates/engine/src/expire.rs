//! Expiry: what nobody decided in time ends as refused, and somebody is told.

use chaperone_core::ids::WritebackId;
use chaperone_core::ports::{ClaimedWork, Notice, WorkChange};
use chaperone_core::principal::{Actor, SystemPart};
use chaperone_core::writeback::{Command, RefusedBy, Writeback};

use crate::afterwork::Piece;
use crate::context::Engine;
use crate::transition::MoveFailed;

impl Engine {
    /// Ends a write-back whose time to decide has passed; completes the work item in any case.
    pub(crate) async fn expire_one(
        &self,
        id: WritebackId,
        work: &ClaimedWork,
    ) -> Result<(), MoveFailed> {
        let now = self.now();
        let mut hand = self.take_in_hand(id).await?;
        let deadline = match &hand.state {
            Writeback::AwaitingApproval(waiting) => Some(waiting.ruled().order.approve_by),
            Writeback::AwaitingVerification(waiting) => Some(waiting.ruled().order.approve_by),
            _ => None,
        };
        let mut commit = self.commit_as(Actor::System {
            part: SystemPart::Expiry,
        });
        if deadline.is_some_and(|deadline| now >= deadline) {
            hand.step(
                Command::Refuse {
                    refused: RefusedBy::Expiry,
                },
                now,
            )?;
            hand.write_into(&mut commit)?;
            let notice = Notice::OperatorNeeded {
                writeback: id,
                code: "expired".to_owned(),
            };
            self.after(Piece::Notify(self.config.tenant.clone(), notice));
        }
        commit.work.push(WorkChange::Complete {
            id: work.item.id,
            claim: Some(work.claim),
        });
        self.store
            .commit(commit)
            .await
            .map_err(|e| chaperone_core::ports::StoreFailed::Unavailable(Box::new(e)))?;
        Ok(())
    }
}
