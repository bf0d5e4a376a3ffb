//! What a person decides about a write-back, and the record of a decision that was refused.
//!
//! A decision that is taken is an event of the write-back. One that is refused moves nothing, and still says that
//! somebody tried: the wrong digest, role, factor or time, or somebody else was first. It stands with the account of
//! whoever tried. What each decision does is in `approve`,
//! and for what was set aside in `undo::aside`.

use chaperone_core::digest::Digest;
use chaperone_core::event::{DecisionKind, Event, StreamId};
use chaperone_core::ids::WritebackId;
use chaperone_core::ports::Expected;
use chaperone_core::principal::{Actor, Human};

use crate::approve::{ApproveRequest, DecideFailed};
use crate::context::Engine;
use crate::decision_support::OverCard;
use crate::projection::WritebackRow;

impl Engine {
    /// Approves. The role used is the first of the gate's roles that the person holds and that is
    /// still open.
    ///
    /// # Errors
    /// [`DecideFailed`]; the write-back has not moved then.
    pub async fn approve(
        &self,
        by: &Human,
        request: ApproveRequest,
    ) -> Result<WritebackRow, DecideFailed> {
        let writeback = request.writeback;
        let done = self.try_approve(by, request, 1).await;
        self.recorded(by, writeback, DecisionKind::Approve, done)
            .await
    }

    /// Goes on over a critical card of decision support, with a reason of the bundle's list: only who could decide
    /// about the order now, and only for this card of this order.
    ///
    /// # Errors
    /// [`DecideFailed`]; the card holds the order then.
    pub async fn override_card(
        &self,
        by: &Human,
        writeback: WritebackId,
        over: OverCard,
    ) -> Result<(), DecideFailed> {
        let done = self.try_override_card(by, writeback, over).await;
        self.recorded(by, writeback, DecisionKind::OverrideCard, done)
            .await
    }

    /// Rejects, with a reason.
    ///
    /// # Errors
    /// [`DecideFailed`]; the write-back has not moved then.
    pub async fn reject(
        &self,
        by: &Human,
        writeback: WritebackId,
        digest: Digest,
        reason: &str,
    ) -> Result<WritebackRow, DecideFailed> {
        let done = self.try_reject(by, writeback, digest, reason).await;
        self.recorded(by, writeback, DecisionKind::Reject, done)
            .await
    }

    /// Puts a dead letter back into the queue, while the approvals it rests on are young enough to be
    /// acted on; after that it must be proposed and approved anew.
    ///
    /// # Errors
    /// [`DecideFailed`]; nothing is queued then.
    pub async fn requeue(
        &self,
        by: &Human,
        writeback: WritebackId,
        reason: &str,
    ) -> Result<WritebackRow, DecideFailed> {
        let done = self.try_requeue(by, writeback, reason).await;
        self.recorded(by, writeback, DecisionKind::Requeue, done)
            .await
    }

    /// Gives a dead letter up.
    ///
    /// # Errors
    /// [`DecideFailed`]; it stays a dead letter then.
    pub async fn abandon(
        &self,
        by: &Human,
        writeback: WritebackId,
        reason: &str,
    ) -> Result<WritebackRow, DecideFailed> {
        let done = self.try_abandon(by, writeback, reason).await;
        self.recorded(by, writeback, DecisionKind::Abandon, done)
            .await
    }

    /// Decides about a send of unknown outcome after looking in the EHR. "Not there" puts it back
    /// into the queue; "there" ends it with the person's attestation.
    ///
    /// Only once reconciling has put it before a human: until then the send may still be under way,
    /// and "not there" would be seen too early (invariant 5).
    ///
    /// # Errors
    /// [`DecideFailed`]; it stays unknown then.
    pub async fn resolve_unknown(
        &self,
        by: &Human,
        writeback: WritebackId,
        applied: bool,
        note: &str,
    ) -> Result<WritebackRow, DecideFailed> {
        let done = self.try_resolve_unknown(by, writeback, applied, note).await;
        self.recorded(by, writeback, DecisionKind::Resolve, done)
            .await
    }

    /// Declines to enter a change by hand, with a reason. Nothing was sent, so it is given up, and the
    /// patient's other writes go on.
    ///
    /// # Errors
    /// [`DecideFailed`]; it stays open then.
    pub async fn decline_entry(
        &self,
        by: &Human,
        writeback: WritebackId,
        reason: &str,
    ) -> Result<WritebackRow, DecideFailed> {
        let done = self.try_decline_entry(by, writeback, reason).await;
        self.recorded(by, writeback, DecisionKind::Decline, done)
            .await
    }

    /// Attests that a human entered the change in the EHR, for connections or rows that need it.
    ///
    /// # Errors
    /// [`DecideFailed`]; it stays open then.
    pub async fn attest_entry(
        &self,
        by: &Human,
        writeback: WritebackId,
        note: &str,
    ) -> Result<WritebackRow, DecideFailed> {
        let done = self.try_attest_entry(by, writeback, note).await;
        self.recorded(by, writeback, DecisionKind::Attest, done)
            .await
    }

    /// Lets what was set aside go on where it was: with the approvals it had, while they still count, and under the
    /// rules that ruled on it, while they are in force. Whether its base is still there is looked at when it is sent.
    ///
    /// # Errors
    /// [`DecideFailed`]; it stays set aside then, and can be rejected and proposed anew.
    pub async fn release_aside(
        &self,
        by: &Human,
        writeback: WritebackId,
        reason: &str,
    ) -> Result<WritebackRow, DecideFailed> {
        let done = self.try_release_aside(by, writeback, reason).await;
        self.recorded(by, writeback, DecisionKind::Release, done)
            .await
    }

    /// Rejects what was set aside.
    ///
    /// # Errors
    /// [`DecideFailed`]; it stays set aside then.
    pub async fn reject_aside(
        &self,
        by: &Human,
        writeback: WritebackId,
        reason: &str,
    ) -> Result<WritebackRow, DecideFailed> {
        let done = self.try_reject_aside(by, writeback, reason).await;
        self.recorded(by, writeback, DecisionKind::Reject, done)
            .await
    }

    /// The same result, after a refusal was recorded. What failed on our side is no refusal.
    pub(crate) async fn recorded<T>(
        &self,
        by: &Human,
        writeback: WritebackId,
        decision: DecisionKind,
        done: Result<T, DecideFailed>,
    ) -> Result<T, DecideFailed> {
        let Err(failed) = &done else {
            return done;
        };
        if !failed.is_ours() {
            self.record_refused_decision(by, writeback, decision, failed.code())
                .await;
        }
        done
    }

    /// Records that somebody tried, with the stable code of what stood against it.
    pub(crate) async fn record_refused_decision(
        &self,
        by: &Human,
        writeback: WritebackId,
        decision: DecisionKind,
        code: &str,
    ) {
        let mut commit = self.commit_as(Actor::from(by));
        commit.append(
            StreamId::Account(by.account.clone()),
            Expected::Any,
            Event::DecisionRefused {
                writeback,
                decision,
                code: code.to_owned(),
            },
        );
        if let Err(lost) = self.store.commit(commit).await {
            tracing::error!(error = %lost, "a refused decision could not be recorded");
        }
    }
}
