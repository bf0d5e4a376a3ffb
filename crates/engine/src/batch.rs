//! Several light proposals of one kind approved from one page: each is an approval of its own, of its own digest, by
//! the ordinary way.
//!
//! What may be decided so is the bundle's to say, within bounds (`rules/deciding.toml`): what one person approves
//! without a second factor, of a light class, made by one tool for one intent, with nothing that warns, no text from
//! outside and no message, neither changed by a person nor an undoing. Each must have been before the person for its
//! share of the time, and counts for their pace with that share; one that is refused holds up no other. What the page
//! shows is in `views::batch`.

use chaperone_core::change::ChangeClass;
use chaperone_core::digest::Digest;
use chaperone_core::event::DecisionKind;
use chaperone_core::gate::Gate;
use chaperone_core::ids::WritebackId;
use chaperone_core::principal::Human;
use chaperone_core::resource::{Interaction, ResourceType};
use chaperone_core::writeback::Ruled;
use serde::Deserialize;

use crate::approve::{ApproveRequest, DecideFailed};
use crate::context::Engine;
use crate::projection::WritebackRow;

/// What may be decided together; `rules/deciding.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchRules {
    /// The gravest class.
    pub(crate) class_max: ChangeClass,
    /// Most at once; 0 where nothing is decided together.
    pub(crate) items_max: u32,
}

impl Default for BatchRules {
    fn default() -> Self {
        Self {
            class_max: ChangeClass::M0,
            items_max: 0,
        }
    }
}

impl BatchRules {
    /// Whether a proposal is light enough, whoever decides.
    pub(crate) fn admits(&self, ruled: &Ruled) -> bool {
        const MESSAGES: [&str; 2] = ["Communication", "CommunicationRequest"];
        let (proposal, change) = (&ruled.proposal, &ruled.change);
        self.items_max > 0
            && ruled.ruling.class <= self.class_max
            && matches!(ruled.ruling.gate, Gate::Approve { .. })
            && change.interaction != Interaction::Delete
            && !MESSAGES.contains(&change.resource.as_str())
            && !proposal.tainted
            && proposal.undo.is_none()
            && !ruled.is_together()
            && proposal.edit.is_none()
            && ruled.validation.is_clean()
    }
}

/// What proposals of one kind have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kind {
    intent: chaperone_core::ids::IntentId,
    tool: chaperone_core::ids::ToolName,
    resource: ResourceType,
    interaction: Interaction,
}

impl Kind {
    pub(crate) fn of(ruled: &Ruled) -> Self {
        Self {
            intent: ruled.proposal.intent.clone(),
            tool: ruled.proposal.tool.clone(),
            resource: ruled.change.resource.clone(),
            interaction: ruled.change.interaction,
        }
    }
}

/// One decision of several.
#[derive(Debug)]
pub struct Batched {
    /// The write-back.
    pub writeback: WritebackId,
    /// What became of it.
    pub done: Result<WritebackRow, DecideFailed>,
}

impl Engine {
    /// Approves several, one after the other. `review_ms` is the time that the person took for all of them, where the
    /// engine does not measure it itself.
    ///
    /// # Errors
    /// [`DecideFailed::TooManyAtOnce`] when they are more than the bundle allows, or one stands there twice; nothing is
    /// decided then. What becomes of each is told with it.
    pub async fn approve_several(
        &self,
        by: &Human,
        items: &[(WritebackId, Digest)],
        review_ms: u64,
    ) -> Result<Vec<Batched>, DecideFailed> {
        let most = self.tables.batch_rules().items_max;
        let among = u32::try_from(items.len()).unwrap_or(u32::MAX);
        let ids: std::collections::BTreeSet<_> = items.iter().map(|(id, _)| id).collect();
        if among > most || ids.len() != items.len() {
            return Err(DecideFailed::TooManyAtOnce);
        }
        let mut kind: Option<Kind> = None;
        let mut several = Vec::with_capacity(items.len());
        for (writeback, digest) in items {
            let request = ApproveRequest {
                writeback: *writeback,
                digest: *digest,
                step_up: None,
                override_reason: None,
                review_ms: review_ms / u64::from(among.max(1)),
            };
            let done = self.approve_one_of(by, request, among, &mut kind).await;
            let done = self
                .recorded(by, *writeback, DecisionKind::Approve, done)
                .await;
            several.push(Batched {
                writeback: *writeback,
                done,
            });
        }
        Ok(several)
    }

    async fn approve_one_of(
        &self,
        by: &Human,
        request: ApproveRequest,
        among: u32,
        kind: &mut Option<Kind>,
    ) -> Result<WritebackRow, DecideFailed> {
        let hand = self.take_in_hand(request.writeback).await?;
        // What no longer waits is left for the approval itself to refuse, which says why.
        if let Some(waiting) = hand.state.before_people() {
            let ruled = waiting.ruled();
            let own = Kind::of(ruled);
            let is_alike = kind.get_or_insert_with(|| own.clone()) == &own;
            // Whoever signs beside somebody in training reads it by itself, as does whoever is in training.
            let by_itself = by.is_in_training() || !waiting.approvals().is_empty();
            if by_itself || !is_alike || !self.tables.batch_rules().admits(ruled) {
                return Err(DecideFailed::ByItself);
            }
        }
        self.try_approve(by, request, among).await
    }
}
