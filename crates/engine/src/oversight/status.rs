//! How it stands with overseeing: which rows are demoted, what waits for a look, what confidence is borne out. Names
//! of models, prompts and policies and numbers; nothing about patients.

use chaperone_core::Timestamp;
use chaperone_core::change::ChangeClass;
use chaperone_core::digest::Digest;
use chaperone_core::ids::{AgentId, IntentId, PolicyId, ToolName, WritebackId};
use chaperone_core::oversight::Combination;
use chaperone_core::ports::{Listing, StoreFailed};
use chaperone_core::principal::Human;
use chaperone_core::resource::ResourceType;
use serde::Serialize;

use super::follow::{DEMOTIONS, Demotion, SAMPLES, parsed};
use super::sample::{OPEN, Sample};
use super::tally::{TALLIES, Tally};
use crate::canary::VigilanceRow;
use crate::context::Engine;

/// Most rows of each list.
const ROWS_MAX: u32 = 200;

/// The page of overseeing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OversightView {
    /// Rows that people decide on until they are restored.
    pub demoted: Vec<DemotedRow>,
    /// What was drawn and nobody has looked at, oldest first.
    pub waiting: Vec<SampleRow>,
    /// Counts, by combination.
    pub tallies: Vec<TallyRow>,
    /// Fewest decisions that make a number.
    pub decisions_min: u32,
    /// Attention, as canaries measured it.
    pub vigilance: Vec<VigilanceRow>,
}

/// One row that is demoted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DemotedRow {
    /// What it is restored by.
    pub key: Digest,
    /// Whose.
    pub combination: Combination,
    /// Since when.
    pub at: Timestamp,
    /// How many were looked at.
    pub reviewed: u32,
    /// With how many people disagreed.
    pub disagreed: u32,
}

/// One that waits for a look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SampleRow {
    /// The write-back.
    pub writeback: WritebackId,
    /// The agent.
    pub agent: AgentId,
    /// The intent.
    pub intent: IntentId,
    /// The tool.
    pub tool: ToolName,
    /// What was written.
    pub resource: Option<ResourceType>,
    /// How much it weighs.
    pub class: Option<ChangeClass>,
    /// The rows that let it through.
    pub rows: Vec<PolicyId>,
    /// When it was drawn.
    pub drawn_at: Timestamp,
}

/// Counts of one combination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TallyRow {
    /// Whose.
    pub combination: Combination,
    /// The tool, where it is counted by tool and not by row.
    pub tool: Option<ToolName>,
    /// Decisions that count and were right.
    pub right: u32,
    /// Decisions that count and were wrong.
    pub wrong: u32,
    /// Calibrated confidence of a tool in percent, without a claim; nothing while there are too few.
    pub confidence_pct: Option<u8>,
}

impl Engine {
    /// How it stands. Somebody who is named is not shown what they asked for themselves as waiting for them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn oversight(&self, by: Option<&Human>) -> Result<OversightView, StoreFailed> {
        let tenant = &self.config.tenant;
        let now = self.now();
        let listing = || Listing {
            limit: ROWS_MAX,
            ..Listing::default()
        };
        let mut demoted = Vec::new();
        for record in self
            .store
            .records(tenant, DEMOTIONS, listing(), now)
            .await?
        {
            let demotion: Demotion = parsed(&record)?;
            demoted.push(DemotedRow {
                key: demotion.combination.key(),
                combination: demotion.combination,
                at: demotion.at,
                reviewed: demotion.reviewed,
                disagreed: demotion.disagreed,
            });
        }
        let mut waiting = Vec::new();
        let open = Listing {
            index: Some(OPEN.to_owned()),
            ..listing()
        };
        for row in self.store.projections(tenant, SAMPLES, open).await? {
            let sample: Sample = parsed(&row)?;
            if by.is_some_and(|by| sample.requester == Some(by.person)) {
                continue;
            }
            waiting.push(SampleRow {
                writeback: sample.writeback,
                agent: sample.agent,
                intent: sample.intent,
                tool: sample.tool,
                resource: sample.resource,
                class: sample.class,
                rows: sample.rows,
                drawn_at: sample.drawn_at,
            });
        }
        let rules = &self.oversight.calibration;
        let mut tallies = Vec::new();
        for row in self.store.projections(tenant, TALLIES, listing()).await? {
            let tally: Tally = parsed(&row)?;
            let total = tally.counts.total(rules, now.as_second());
            tallies.push(TallyRow {
                // Of a tool alone: that is what rulings are told.
                confidence_pct: tally
                    .of
                    .tool
                    .as_ref()
                    .and_then(|_| tally.counts.confidence_pct(rules, now.as_second(), None)),
                combination: tally.of.combination,
                tool: tally.of.tool,
                right: total.right,
                wrong: total.wrong,
            });
        }
        tallies.sort_by(|one: &TallyRow, other| {
            (&one.combination, &one.tool).cmp(&(&other.combination, &other.tool))
        });
        Ok(OversightView {
            demoted,
            waiting,
            tallies,
            decisions_min: rules.decisions_min,
            vigilance: self.vigilance().await?,
        })
    }

    /// Whether something waits for a look, and whether it is this write-back.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_sample_open(&self, id: WritebackId) -> Result<bool, StoreFailed> {
        use chaperone_core::event::{Event, StreamId};
        use chaperone_core::oversight::OversightEvent as E;
        let stream = StreamId::Writeback(id);
        let events = self.store.stream(&self.config.tenant, &stream).await?;
        let has = |is: fn(&E) -> bool| {
            events
                .iter()
                .any(|it| matches!(&it.event, Event::Oversight(event) if is(event)))
        };
        Ok(has(|it| matches!(it, E::Sampled)) && !has(|it| matches!(it, E::Reviewed { .. })))
    }
}
