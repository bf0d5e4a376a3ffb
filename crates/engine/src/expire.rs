//! Expiry: what nobody decided in time ends as refused, what nobody entered in time as void, and somebody
//! is told.

use chaperone_core::Timestamp;
use chaperone_core::ids::WritebackId;
use chaperone_core::ports::{ClaimedWork, CommitFailed, Notice, StoreFailed, WorkChange};
use chaperone_core::principal::{Actor, SystemPart};
use chaperone_core::writeback::{Command, RefusedBy, VoidReason, Writeback};

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
        let mut hand = self.take_in_hand(id).await?;
        let now = self.now();
        let mut commit = self.commit_as(Actor::System {
            part: SystemPart::Expiry,
        });
        if let Writeback::AwaitingApproval(waiting) = hand.state.clone()
            && now < waiting.ruled().order.approve_by
        {
            let notice = self
                .take_overdue_step(&mut hand, &waiting, work, &mut commit)
                .await?;
            self.store.commit(commit).await.map_err(unavailable)?;
            if let Some(notice) = notice {
                self.after(Piece::Notify(self.config.tenant.clone(), notice));
                self.announce_change();
            }
            return Ok(());
        }
        // Taken up by a clock that was set back since: it would never be looked at again if this ended here.
        if let Some(due) = ends_at(&hand.state).filter(|due| now < *due) {
            commit.work.push(WorkChange::Defer {
                id: work.item.id,
                claim: Some(work.claim),
                due,
                kind: None,
            });
            self.store.commit(commit).await.map_err(unavailable)?;
            return Ok(());
        }
        let ended = match &hand.state {
            Writeback::AwaitingApproval(_) | Writeback::AwaitingVerification(_) => {
                Some(("expired", refused_by_time()))
            }
            // Whether it was entered and only the attestation is missing, a person must look up.
            Writeback::Delivering(entry) if entry.is_human_entry() => {
                let held = self.release_held(id, &mut commit).await?;
                commit
                    .work
                    .extend(held.map(|id| WorkChange::Complete { id, claim: None }));
                let reason = VoidReason::DeliverBy;
                Some(("human-entry-expired", Command::Void { reason }))
            }
            _ => None,
        };
        let code = ended.as_ref().map(|(code, _)| *code);
        if let Some((_, command)) = ended {
            hand.step(command, now)?;
            hand.write_into(&mut commit)?;
        }
        commit.work.push(WorkChange::Complete {
            id: work.item.id,
            claim: Some(work.claim),
        });
        self.store.commit(commit).await.map_err(unavailable)?;
        if let Some(code) = code {
            let notice = Notice::OperatorNeeded {
                writeback: id,
                code: code.to_owned(),
            };
            self.after(Piece::Notify(self.config.tenant.clone(), notice));
            self.tell_approvers(&hand);
        }
        Ok(())
    }
}

/// When time ends it, for what time ends.
fn ends_at(state: &Writeback) -> Option<Timestamp> {
    match state {
        Writeback::AwaitingApproval(waiting) => Some(waiting.ruled().order.approve_by),
        Writeback::AwaitingVerification(waiting) => Some(waiting.ruled().order.approve_by),
        Writeback::Delivering(entry) if entry.is_human_entry() => Some(entry.ready().deliver_by()),
        _ => None,
    }
}

fn unavailable(failed: CommitFailed) -> StoreFailed {
    StoreFailed::Unavailable(Box::new(failed))
}

fn refused_by_time() -> Command<'static> {
    Command::Refuse {
        refused: RefusedBy::Expiry,
    }
}
