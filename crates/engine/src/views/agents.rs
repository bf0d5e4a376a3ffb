//! Agents and intents as declared, with what became of their proposals.

use std::collections::BTreeMap;

use chaperone_core::bundle::{AgentDeclaration, IntentDeclaration};
use chaperone_core::ids::AgentId;
use chaperone_core::mode::{Mode, ModeSubject};
use chaperone_core::ports::Listing;
use chaperone_core::writeback::StateName;

use super::ViewFailed;
use crate::context::Engine;
use crate::projection::{BY_STATE, row_of};

/// Newest proposals that the figures rest on.
const COUNTED_MAX: u32 = 1_000;

/// The page of agents and intents.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentsView {
    /// Registered agents.
    pub agents: Vec<AgentView>,
    /// Declared intents.
    pub intents: Vec<IntentDeclaration>,
    /// Name and version of the bundle.
    pub bundle: String,
    /// Who answers for it.
    pub owner: String,
    /// When it must be reviewed again.
    pub review_by: String,
    /// How many proposals the figures rest on.
    pub counted: usize,
}

/// One agent.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentView {
    /// As declared.
    pub declared: AgentDeclaration,
    /// The mode that applies to it.
    pub mode: Mode,
    /// Whether an agreement in its chain has run out.
    pub agreement_expired: bool,
    /// What became of its newest proposals.
    pub outcomes: Outcomes,
}

/// What became of proposals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// All of them.
    pub proposed: usize,
    /// Delivered, or staged as a draft.
    pub done: usize,
    /// Waiting for somebody or something.
    pub waiting: usize,
    /// Refused, void or abandoned.
    pub refused: usize,
}

impl Outcomes {
    fn add(&mut self, state: StateName) {
        // No agent made a canary.
        if matches!(state, StateName::Canary | StateName::CanarySettled) {
            return;
        }
        self.proposed += 1;
        match state {
            StateName::Canary | StateName::CanarySettled => {}
            StateName::Delivered | StateName::Staged | StateName::Compensated => self.done += 1,
            StateName::Refused | StateName::Void | StateName::Abandoned => self.refused += 1,
            StateName::Proposed
            | StateName::Validated
            | StateName::AwaitingVerification
            | StateName::AwaitingApproval
            | StateName::Ready
            | StateName::Delivering
            | StateName::Unknown
            | StateName::AwaitingSignature
            | StateName::DeadLetter
            | StateName::Quarantined => self.waiting += 1,
        }
    }
}

impl Engine {
    /// Agents and intents.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn agents_page(&self) -> Result<AgentsView, ViewFailed> {
        let listing = Listing {
            descending: true,
            limit: COUNTED_MAX,
            ..Listing::default()
        };
        let rows = self
            .store
            .projections(&self.config.tenant, BY_STATE, listing)
            .await?;
        let mut outcomes: BTreeMap<AgentId, Outcomes> = BTreeMap::new();
        for record in &rows {
            let row = row_of(record)?;
            outcomes.entry(row.agent).or_default().add(row.state);
        }
        let (modes, _) = self.modes().await?;
        let now = self.now();
        let agents = self
            .bundle
            .agents()
            .map(|declared| AgentView {
                mode: modes.effective(ModeSubject {
                    agent: Some(&declared.id),
                    ..Default::default()
                }),
                agreement_expired: declared.providers.iter().any(|p| p.baa_expires <= now),
                outcomes: outcomes.get(&declared.id).copied().unwrap_or_default(),
                declared: declared.clone(),
            })
            .collect();
        let manifest = self.bundle.manifest();
        Ok(AgentsView {
            agents,
            intents: self.bundle.intents().cloned().collect(),
            bundle: format!("{} {}", manifest.name, manifest.version),
            owner: manifest.owner.clone(),
            review_by: manifest.review_by.clone(),
            counted: rows.len(),
        })
    }
}
