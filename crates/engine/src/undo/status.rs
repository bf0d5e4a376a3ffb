//! How a run would go, and how it stands: for the command line and the console. Ids, types and codes; nothing about
//! patients.

use chaperone_core::Timestamp;
use chaperone_core::gate::Gate;
use chaperone_core::ids::{AccountName, AgentId, IntentId, UndoId, WritebackId};
use chaperone_core::ports::{LISTED_MAX, Listing};
use chaperone_core::principal::Human;
use chaperone_core::resource::{Interaction, ResourceType};
use chaperone_core::undo::{PersonNeeded, UndoCounts, UndoSelection, UndoStep};
use chaperone_core::writeback::{StateName, Writeback};
use serde::Serialize;

use super::remedy::Remedied;
use super::{RUNS, UndoFailed, UndoRun, check_selection, counts, may_undo};
use crate::context::Engine;
use crate::propose::never_waits;

/// Most runs of the list.
const RUNS_LISTED: u32 = 50;

/// What a run would do about one effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "would", rename_all = "snake_case")]
pub enum Planned {
    /// Set it aside; nothing was sent.
    SetAside,
    /// Withdraw a draft of Chaperone's own.
    Withdraw,
    /// Wait until it is known what becomes of it.
    Wait,
    /// Propose what undoes it, for these to agree to.
    Compensate {
        /// Who must agree.
        gate: Gate,
        /// The status that it would have then.
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<String>,
    },
    /// It is on its way, by this or another run.
    Proposed {
        /// What undoes it.
        by: WritebackId,
    },
    /// Nothing: it is so already, or never took effect.
    Nothing,
    /// Ask a person.
    Person {
        /// Why.
        needed: PersonNeeded,
    },
    /// The EHR does not say now what is there.
    NotKnown,
}

/// One effect, before a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedItem {
    /// The write-back.
    pub writeback: WritebackId,
    /// What it rests on, when it was not selected itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<WritebackId>,
    /// The agent.
    pub agent: AgentId,
    /// The intent.
    pub intent: IntentId,
    /// Where it stands.
    pub state: StateName,
    /// Its type, once known.
    pub resource: Option<ResourceType>,
    /// Create or update, once known.
    pub interaction: Option<Interaction>,
    /// When it was proposed.
    pub proposed: Timestamp,
    /// What would be done.
    #[serde(flatten)]
    pub planned: Planned,
}

/// What a run would find and do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UndoPlan {
    /// Each effect.
    pub items: Vec<PlannedItem>,
    /// Orders that cannot be opened any more, so that nobody can say which version made them.
    pub unreadable: u64,
}

/// One effect of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UndoItem {
    /// The write-back.
    pub writeback: WritebackId,
    /// What it rests on, when it was not selected itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<WritebackId>,
    /// Where it stands itself.
    pub state: Option<StateName>,
    /// Its type, once known.
    pub resource: Option<ResourceType>,
    /// Where the run stands with it.
    #[serde(flatten)]
    pub step: UndoStep,
    /// Where what undoes it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compensation: Option<StateName>,
    /// Who must agree to what undoes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UndoStatus {
    /// Its id.
    pub run: UndoId,
    /// Who began it.
    pub by: AccountName,
    /// What is undone.
    pub selection: UndoSelection,
    /// Why; nothing where that cannot be opened.
    pub reason: Option<String>,
    /// When it began.
    pub started: Timestamp,
    /// When it came to its end.
    pub finished: Option<Timestamp>,
    /// Orders that could not be opened.
    pub unreadable: u64,
    /// How many effects stand where.
    pub counts: UndoCounts,
    /// Each effect; left out in lists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<UndoItem>,
}

impl Engine {
    /// What a run would find and do, and whose agreement each of it would take. Changes nothing and records nothing.
    ///
    /// # Errors
    /// [`UndoFailed`].
    pub async fn undo_plan(&self, selection: &UndoSelection) -> Result<UndoPlan, UndoFailed> {
        check_selection(selection)?;
        let found = self.found(selection).await?;
        let mut items = Vec::with_capacity(found.chosen.len());
        for chosen in found.chosen {
            let hand = self.take_in_hand(chosen.row.id).await?;
            let planned = match &hand.state {
                Writeback::Refused(_)
                | Writeback::Abandoned(_)
                | Writeback::Compensated(_)
                | Writeback::Canary(_)
                | Writeback::CanarySettled(_) => Planned::Nothing,
                Writeback::Void(_) => Planned::Person {
                    needed: PersonNeeded::EnteredByHand,
                },
                Writeback::Staged(staged) if staged.promoted_by().is_some() => Planned::Nothing,
                Writeback::Staged(_) => Planned::Withdraw,
                Writeback::Ready(ready) if never_waits(ready.ruled()) => Planned::Wait,
                Writeback::Delivering(_)
                | Writeback::Unknown(_)
                | Writeback::AwaitingSignature(_) => Planned::Wait,
                Writeback::Delivered(delivered) if chosen.on.is_none() => {
                    self.planned_for(delivered, &hand).await?
                }
                Writeback::Delivered(_) => Planned::Person {
                    needed: PersonNeeded::RestsOnUndone,
                },
                _ => Planned::SetAside,
            };
            items.push(PlannedItem {
                writeback: chosen.row.id,
                on: chosen.on,
                agent: chosen.row.agent,
                intent: chosen.row.intent,
                state: hand.state.name(),
                resource: chosen.row.resource,
                interaction: chosen.row.interaction,
                proposed: chosen.row.proposed,
                planned,
            });
        }
        Ok(UndoPlan {
            items,
            unreadable: found.unreadable,
        })
    }

    async fn planned_for(
        &self,
        delivered: &chaperone_core::writeback::Delivered,
        hand: &crate::transition::InHand,
    ) -> Result<Planned, UndoFailed> {
        if let Some(by) = self.live_compensation(hand).await? {
            return Ok(Planned::Proposed { by });
        }
        let id = WritebackId::from_random(self.random.id());
        Ok(
            match self.remedy(delivered, hand.state.proposal(), id).await {
                Ok(Remedied::Write(draft)) => Planned::Compensate {
                    gate: draft.gate().clone(),
                    to: draft
                        .changes
                        .first()
                        .and_then(|it| it.change.to.as_ref().map(ToString::to_string)),
                },
                Ok(Remedied::Person(needed)) => Planned::Person { needed },
                Ok(Remedied::Nothing) => Planned::Nothing,
                Err(UndoFailed::Ehr(_)) => Planned::NotKnown,
                Err(failed) => return Err(failed),
            },
        )
    }

    /// How a run stands.
    ///
    /// # Errors
    /// [`UndoFailed::UnknownRun`], store failures.
    pub async fn undo_status(&self, run: UndoId) -> Result<UndoStatus, UndoFailed> {
        let (run, _) = self.undo_run(run).await?;
        let items = self.undo_items(run.id).await?;
        let counts = counts(&items);
        let mut shown = Vec::with_capacity(items.len());
        for (item, _) in items {
            let row = self.writeback(item.writeback).await?;
            let by = match &item.step {
                UndoStep::Proposed { by } | UndoStep::Undone { by } => Some(*by),
                _ => None,
            };
            let compensation = match by {
                Some(by) => self.writeback(by).await?,
                None => None,
            };
            shown.push(UndoItem {
                writeback: item.writeback,
                on: item.on,
                state: row.as_ref().map(|row| row.state),
                resource: row.and_then(|row| row.resource),
                step: item.step,
                compensation: compensation.as_ref().map(|row| row.state),
                gate: compensation.and_then(|row| row.gate),
            });
        }
        let mut status = self.without_items(run, counts).await;
        status.items = shown;
        Ok(status)
    }

    /// Runs for a person, those under way first, then newest first; without their effects.
    ///
    /// # Errors
    /// [`UndoFailed::NotPermitted`], store failures.
    pub async fn undo_runs(&self, by: &Human) -> Result<Vec<UndoStatus>, UndoFailed> {
        if !may_undo(by) {
            return Err(UndoFailed::NotPermitted);
        }
        let mut runs = Vec::new();
        for index in [super::OPEN, super::CLOSED] {
            let listing = Listing {
                index: Some(index.to_owned()),
                descending: true,
                limit: RUNS_LISTED.min(LISTED_MAX),
                ..Listing::default()
            };
            let records = self
                .store
                .records(&self.config.tenant, RUNS, listing, self.now())
                .await?;
            for record in records {
                let run: UndoRun = serde_json::from_value(record.value)
                    .map_err(|_| super::found::corrupt("an undo run cannot be read"))?;
                let counts = counts(&self.undo_items(run.id).await?);
                runs.push(self.without_items(run, counts).await);
            }
        }
        Ok(runs)
    }

    async fn without_items(&self, run: UndoRun, counts: UndoCounts) -> UndoStatus {
        UndoStatus {
            run: run.id,
            by: run.account,
            selection: run.selection,
            reason: self.unseal_text(&run.reason).await.ok(),
            started: run.started,
            finished: run.finished,
            unreadable: run.unreadable,
            counts,
            items: Vec::new(),
        }
    }
}
