//! A look afterwards at what went through without anybody: which, by whom, and what they say.
//!
//! Nothing is undone by it: whoever disagrees says why, and `crate::undo` puts right what must be.

use chaperone_core::Timestamp;
use chaperone_core::change::ChangeClass;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{AgentId, IntentId, PersonId, PolicyId, ToolName, WritebackId};
use chaperone_core::oversight::{OversightEvent, Verdict};
use chaperone_core::ports::{CommitFailed, KeyVaultFailed, PayloadClass, StoreFailed};
use chaperone_core::principal::{Actor, Human};
use chaperone_core::resource::ResourceType;
use serde::{Deserialize, Serialize};

use super::tally::Seen;
use crate::context::Engine;
use crate::transition::MoveFailed;
use crate::views::sees_patients;

/// Index of samples that nobody has looked at.
pub(super) const OPEN: &str = "open";
/// Index of the others.
pub(super) const DONE: &str = "done";
/// Characters of a reason.
const REASON_CHARS: std::ops::RangeInclusive<usize> = 3..=2_000;

/// One that was drawn, as lists show it: nothing about the patient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sample {
    pub(super) writeback: WritebackId,
    pub(super) agent: AgentId,
    pub(super) intent: IntentId,
    pub(super) tool: ToolName,
    pub(super) resource: Option<ResourceType>,
    pub(super) class: Option<ChangeClass>,
    pub(super) rows: Vec<PolicyId>,
    pub(super) requester: Option<PersonId>,
    pub(super) drawn_at: Timestamp,
    pub(super) verdict: Option<Verdict>,
}

impl Sample {
    pub(super) fn of(seen: &Seen, drawn_at: Timestamp, verdict: Option<Verdict>) -> Self {
        let proposal = seen.proposal();
        let ruled = seen.ruled();
        Self {
            writeback: proposal.id,
            agent: proposal.agent.clone(),
            intent: proposal.intent.clone(),
            tool: proposal.tool.clone(),
            resource: ruled.map(|ruled| ruled.change.resource.clone()),
            class: ruled.map(|ruled| ruled.ruling.class),
            rows: seen.rows().to_vec(),
            requester: proposal.requester,
            drawn_at,
            verdict,
        }
    }
}

/// Why a look was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum SampleFailed {
    /// There is no such write-back, or it was not drawn.
    #[error("there is nothing of this name to look at afterwards")]
    Missing,
    /// Somebody said so before.
    #[error("somebody looked at this already")]
    Already,
    /// The role does not review.
    #[error("your roles do not look at this afterwards")]
    NotPermitted,
    /// Whoever asked for it does not judge it.
    #[error("you asked for this yourself; somebody else looks at it")]
    SamePerson,
    /// Whoever disagrees says why.
    #[error("say what is wrong, in 3 to 2,000 characters")]
    ReasonNeeded,
    /// Somebody else was first.
    #[error("somebody else acted on this just now; look at it again")]
    Conflict,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// The reason cannot be sealed.
    #[error(transparent)]
    Keys(#[from] KeyVaultFailed),
    /// It could not be recorded.
    #[error(transparent)]
    Commit(CommitFailed),
}

impl From<CommitFailed> for SampleFailed {
    fn from(failed: CommitFailed) -> Self {
        match failed {
            CommitFailed::Conflict { .. } => SampleFailed::Conflict,
            other => SampleFailed::Commit(other),
        }
    }
}

impl Engine {
    /// Whether a person looks at things afterwards at all.
    pub fn may_review_samples(&self, by: &Human) -> bool {
        let reviewers = &self.oversight.sampling.reviewers;
        sees_patients(by) && !by.is_in_training() && reviewers.iter().any(|role| by.holds(*role))
    }

    /// Records what a person says of something that was drawn.
    ///
    /// # Errors
    /// [`SampleFailed`]; nothing is recorded then.
    pub async fn review_sample(
        &self,
        by: &Human,
        writeback: WritebackId,
        verdict: Verdict,
        reason: &str,
    ) -> Result<(), SampleFailed> {
        if !self.may_review_samples(by) {
            return Err(SampleFailed::NotPermitted);
        }
        let mut hand = self
            .take_in_hand(writeback)
            .await
            .map_err(|failed| match failed {
                MoveFailed::Store(failed) => SampleFailed::Store(failed),
                MoveFailed::Missing | MoveFailed::Refused(_) => SampleFailed::Missing,
            })?;
        if hand.state.proposal().requester == Some(by.person) {
            return Err(SampleFailed::SamePerson);
        }
        let stream = StreamId::Writeback(writeback);
        let events = self.store.stream(&self.config.tenant, &stream).await?;
        let has = |is: fn(&OversightEvent) -> bool| {
            events
                .iter()
                .any(|it| matches!(&it.event, Event::Oversight(event) if is(event)))
        };
        if !has(|event| matches!(event, OversightEvent::Sampled)) {
            return Err(SampleFailed::Missing);
        }
        if has(|event| matches!(event, OversightEvent::Reviewed { .. })) {
            return Err(SampleFailed::Already);
        }
        let reason = reason.trim();
        let is_long_enough = REASON_CHARS.contains(&reason.chars().count());
        let mut commit = self.commit_as(Actor::from(by));
        let reason = match (verdict, reason.is_empty()) {
            (Verdict::Agree, true) => None,
            _ if !is_long_enough => return Err(SampleFailed::ReasonNeeded),
            _ => {
                let patient = hand.state.proposal().patient;
                let sealed = self
                    .seal(PayloadClass::ApprovalNote, patient, reason.as_bytes())
                    .await?;
                let address = sealed.address;
                commit.payloads.push(sealed);
                Some(address)
            }
        };
        // Of two at once, the version of the stream lets one through.
        hand.note(
            &mut commit,
            Event::Oversight(OversightEvent::Reviewed { verdict, reason }),
        )?;
        self.store.commit(commit).await?;
        self.announce_change();
        Ok(())
    }
}
