//! Undoing what went wrong: what an agent, a model, a prompt, an intent or a time did, found through the record,
//! set aside where it was not sent, and compensated where it was.
//!
//! ```text
//! selection ─▶ effects and what rests on them ─┬─ not sent ─────▶ set aside (a person releases or rejects it)
//!                                              ├─ a draft here ─▶ withdrawn
//!                                              ├─ on its way ───▶ waited for, then one of the others
//!                                              ├─ delivered ────▶ a compensation is proposed ─▶ ruled ─▶ approved
//!                                              │                  ─▶ delivered ─▶ the effect is Compensated
//!                                              └─ none of these ▶ a person is asked
//! ```
//! Nothing is deleted and nothing is overwritten blindly: a compensation is a write-back of its own, with its ruling,
//! its approvals, `If-Match` on what is there now, and a Provenance that names the error. Every step of a run is one
//! commit, guarded by what it saw, so that a run goes on after a crash and running twice undoes once.
//!
//! Reading order: this file (a run), `found` (which effects), `remedy` (what undoes one), `advance` (one step of a run),
//! `aside` (release and rejection of what was set aside).
//!
//! # Source
//! Requirements R041 (amend, never delete) and R140 (the output of a bad run is set aside).

mod advance;
mod aside;
mod found;
mod propose;
mod remedies;
mod remedy;
mod status;

use chaperone_core::Timestamp;
use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{AccountName, PersonId, StepUpId, UndoId, WritebackId};
use chaperone_core::mode::{Mode, ModeScope};
use chaperone_core::ports::{
    CommitFailed, EhrReadFailed, Expected, KeyVaultFailed, PayloadClass, Record, RecordChange,
    StoreFailed,
};
use chaperone_core::principal::{Human, Role};
use chaperone_core::undo::{UndoCounts, UndoEvent, UndoSelection, UndoStep};
use serde::{Deserialize, Serialize};

use crate::approve::DecideFailed;
use crate::context::Engine;
use crate::errors::CallError;
use crate::people::StepUpFor;
use crate::projection::sortable;
use crate::switch_mode::SwitchFailed;
use crate::tokens::TokenFailed;
use crate::transition::MoveFailed;
use crate::vault::VaultFailed;

pub use advance::UndoAdvanced;
pub(crate) use remedies::Remedies;
pub use status::{Planned, PlannedItem, UndoItem, UndoPlan, UndoStatus};

/// Who proposes compensations: Chaperone itself. No agent of a bundle may have this name.
pub(crate) const CHAPERONE: &str = "chaperone";
/// What compensations are proposed for. No intent of a bundle may have this name.
pub(crate) const REMEDIATE: &str = "remediate";
/// Their purpose of use: the organisation puts its own record right.
pub(crate) const PURPOSE: &str = "HOPERAT";
const TOOL: &str = "undo";

/// Runs, by whether they are at their end.
const RUNS: &str = "undo_run";
/// Effects, by run.
const ITEMS: &str = "undo_item";
const OPEN: &str = "open";
const CLOSED: &str = "closed";
/// Most effects of one run.
pub const EFFECTS_MAX: usize = 2_000;
/// How long a run can be looked at after it finished, in seconds: 90 days. Its events stay as long as the ledger.
const KEPT_S: i64 = 90 * 24 * 3_600;
/// Fewest and most characters of a reason.
const REASON_CHARS: std::ops::RangeInclusive<usize> = 10..=1_000;
/// Who may undo: whoever operates Chaperone, and whoever answers for the record or for privacy. They propose; who
/// approves is the matrix's business.
const MAY_UNDO: [Role; 3] = [Role::ItAdmin, Role::Him, Role::Privacy];

/// Whether a person may start an undo run, and look at one.
pub fn may_undo(by: &Human) -> bool {
    MAY_UNDO.into_iter().any(|role| by.holds(role))
}

/// Why something is not undone.
#[derive(Debug, thiserror::Error)]
pub enum UndoFailed {
    /// The roles do not allow it.
    #[error("undoing is for operators, health-information management and the privacy officer")]
    NotPermitted,
    /// No selector.
    #[error("say what to undo: at least one of agent, model, prompt, intent, time or write-back")]
    NothingSelected,
    /// An empty span of time.
    #[error("the time to undo must begin before it ends")]
    TimeBackwards,
    /// No such write-back.
    #[error("there is no such write-back")]
    UnknownWriteback,
    /// Nothing was found.
    #[error("nothing was found that could be undone")]
    NothingFound,
    /// Too many effects.
    #[error("that is more than {EFFECTS_MAX} effects; undo them in parts, by a shorter time")]
    TooMany,
    /// Too short or too long.
    #[error(
        "say why, in 10 to 1,000 characters, without names of patients; it goes into the record"
    )]
    ReasonUnfit,
    /// No second factor, or one for something else.
    #[error("this needs a fresh second factor, for exactly this")]
    StepUp,
    /// Only an agent can be stopped.
    #[error("name the agent that is to be stopped")]
    NobodyToStop,
    /// The agent was not stopped, so nothing was begun.
    #[error("the agent was not stopped, so nothing was undone: {0}")]
    NotStopped(#[source] Box<SwitchFailed>),
    /// No such run.
    #[error("there is no such undo run; what runs did stays in the ledger")]
    UnknownRun,
    /// Somebody else was first; nothing of this step happened.
    #[error("somebody acted on this at the same moment; it is looked at again")]
    Again,
    /// The EHR did not say what is there now; nothing of this step happened.
    #[error("the EHR does not answer now; it is looked at again")]
    Ehr(#[from] EhrReadFailed),
    /// A move that the state machine refuses.
    #[error(transparent)]
    Move(MoveFailed),
    /// Something in the vault cannot be opened.
    #[error(transparent)]
    Vault(#[from] VaultFailed),
    /// The key vault failed.
    #[error(transparent)]
    Keys(#[from] KeyVaultFailed),
    /// A token cannot be followed.
    #[error(transparent)]
    Token(#[from] TokenFailed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// It could not be recorded.
    #[error(transparent)]
    Commit(CommitFailed),
    /// A part of Chaperone failed.
    #[error("a part of Chaperone failed")]
    Internal,
}

impl From<CommitFailed> for UndoFailed {
    fn from(failed: CommitFailed) -> Self {
        match failed {
            CommitFailed::Conflict { .. } | CommitFailed::Record { .. } => UndoFailed::Again,
            other => UndoFailed::Commit(other),
        }
    }
}

impl From<MoveFailed> for UndoFailed {
    fn from(failed: MoveFailed) -> Self {
        match failed {
            MoveFailed::Store(failed) => UndoFailed::Store(failed),
            MoveFailed::Missing => UndoFailed::UnknownWriteback,
            refused @ MoveFailed::Refused(_) => UndoFailed::Move(refused),
        }
    }
}

impl From<DecideFailed> for UndoFailed {
    fn from(failed: DecideFailed) -> Self {
        match failed {
            DecideFailed::Store(failed) => UndoFailed::Store(failed),
            _ => UndoFailed::StepUp,
        }
    }
}

impl From<CallError> for UndoFailed {
    fn from(_: CallError) -> Self {
        UndoFailed::Internal
    }
}

/// A run, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoRun {
    /// Its id.
    pub id: UndoId,
    /// Who began it.
    pub person: PersonId,
    /// The account used.
    pub account: AccountName,
    /// What is undone.
    pub selection: UndoSelection,
    /// Why, in the vault.
    pub reason: PayloadAddress,
    /// When it began.
    pub started: Timestamp,
    /// When it came to its end.
    #[serde(default)]
    pub finished: Option<Timestamp>,
    /// Orders that could not be opened.
    pub unreadable: u64,
}

/// One effect of a run, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Item {
    writeback: WritebackId,
    /// What it rests on, when it was not selected itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    on: Option<WritebackId>,
    #[serde(flatten)]
    step: UndoStep,
    /// Place in the list.
    place: usize,
}

/// What to undo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoRequest {
    /// Which effects.
    pub selection: UndoSelection,
    /// Why.
    pub reason: String,
    /// Whether the selected agent is cut off first.
    pub stop_agent: bool,
}

impl Engine {
    /// What a second factor for an undo run is bound to.
    ///
    /// # Errors
    /// When the selection cannot be written, which none can.
    pub fn undo_digest(&self, request: &UndoRequest) -> Result<Digest, UndoFailed> {
        let selection = serde_json::to_vec(&request.selection).map_err(|_| UndoFailed::Internal)?;
        let stop: &[u8] = if request.stop_agent { b"stop" } else { b"" };
        Ok(self.tenant_digest(&[b"undo", &selection, stop, request.reason.trim().as_bytes()]))
    }

    /// Starts a run: everything that is to be undone is recorded at once, and nothing is done yet.
    ///
    /// # Errors
    /// [`UndoFailed`]; nothing is undone then. A stopped agent stays stopped.
    pub async fn start_undo(
        &self,
        by: &Human,
        request: &UndoRequest,
        step_up: StepUpId,
    ) -> Result<UndoId, UndoFailed> {
        check_request(by, request)?;
        let digest = self.undo_digest(request)?;
        if request.stop_agent {
            self.stop_selected(by, request).await?;
        }
        let found = self.found(&request.selection).await?;
        if found.chosen.is_empty() {
            return Err(UndoFailed::NothingFound);
        }
        let reason = request.reason.trim();
        let sealed = self
            .seal(PayloadClass::Operational, None, reason.as_bytes())
            .await?;
        let mut commit = self.commit_as(by.into());
        self.consume_step_up(by, step_up, StepUpFor::Matter, &digest, &mut commit)
            .await?;
        let run = UndoRun {
            id: UndoId::from_random(self.random.id()),
            person: by.person,
            account: by.account.clone(),
            selection: request.selection.clone(),
            reason: sealed.address,
            started: commit.at,
            finished: None,
            unreadable: found.unreadable,
        };
        commit.payloads.push(sealed);
        commit.records.push(RecordChange::Create(run_record(&run)?));
        let started = UndoEvent::Started {
            selection: Box::new(run.selection.clone()),
            reason: run.reason,
            effects: found.chosen.len() as u64,
            unreadable: run.unreadable,
        };
        let stream = StreamId::Undo(run.id);
        commit.append(stream.clone(), Expected::Version(0), Event::Undo(started));
        for (place, chosen) in found.chosen.iter().enumerate() {
            let item = Item {
                writeback: chosen.row.id,
                on: chosen.on,
                step: UndoStep::Found,
                place,
            };
            let record = item_record(run.id, &item)?;
            commit.records.push(RecordChange::Create(record));
            if let Some(on) = chosen.on {
                let writeback = chosen.row.id;
                let joined = UndoEvent::Joined { writeback, on };
                commit.append(stream.clone(), Expected::Any, Event::Undo(joined));
            }
        }
        self.store.commit(commit).await?;
        self.announce_change();
        metrics::counter!("chaperone_undo_runs_total").increment(1);
        Ok(run.id)
    }

    async fn stop_selected(&self, by: &Human, request: &UndoRequest) -> Result<(), UndoFailed> {
        let agent = request
            .selection
            .agent
            .clone()
            .ok_or(UndoFailed::NobodyToStop)?;
        let scope = ModeScope::Agent(agent);
        let stopped = self
            .switch_mode(by, scope, Mode::Halted, &request.reason)
            .await;
        match stopped {
            // Stopped already is stopped.
            Ok(()) | Err(SwitchFailed::NoChange) => Ok(()),
            Err(failed) => Err(UndoFailed::NotStopped(Box::new(failed))),
        }
    }

    async fn undo_run(&self, run: UndoId) -> Result<(UndoRun, u64), UndoFailed> {
        let key = chaperone_core::ports::RecordKey::new(RUNS, run);
        let record = self
            .store
            .record(&self.config.tenant, &key, self.now())
            .await?
            .ok_or(UndoFailed::UnknownRun)?;
        let found = serde_json::from_value(record.value)
            .map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
        Ok((found, record.revision))
    }

    async fn undo_items(&self, run: UndoId) -> Result<Vec<(Item, u64)>, UndoFailed> {
        let mut items = Vec::new();
        let mut after = None;
        loop {
            let listing = chaperone_core::ports::Listing {
                index: Some(run.to_string()),
                after: after.take(),
                ..Default::default()
            };
            let records = self
                .store
                .records(&self.config.tenant, ITEMS, listing, self.now())
                .await?;
            for record in &records {
                let item: Item = serde_json::from_value(record.value.clone())
                    .map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
                items.push((item, record.revision));
            }
            match records.last() {
                Some(last) if records.len() >= chaperone_core::ports::LISTED_MAX as usize => {
                    after = Some((last.sort.clone(), last.key.key.clone()));
                }
                _ => return Ok(items),
            }
        }
    }
}

fn check_request(by: &Human, request: &UndoRequest) -> Result<(), UndoFailed> {
    if !may_undo(by) {
        return Err(UndoFailed::NotPermitted);
    }
    check_selection(&request.selection)?;
    if request.stop_agent && request.selection.agent.is_none() {
        return Err(UndoFailed::NobodyToStop);
    }
    if !REASON_CHARS.contains(&request.reason.trim().chars().count()) {
        return Err(UndoFailed::ReasonUnfit);
    }
    Ok(())
}

fn check_selection(selection: &UndoSelection) -> Result<(), UndoFailed> {
    if selection.is_empty() {
        return Err(UndoFailed::NothingSelected);
    }
    match (selection.from, selection.to) {
        (Some(from), Some(to)) if from >= to => Err(UndoFailed::TimeBackwards),
        _ => Ok(()),
    }
}

fn run_record(run: &UndoRun) -> Result<Record, UndoFailed> {
    let value = serde_json::to_value(run).map_err(|_| UndoFailed::Internal)?;
    let index = if run.finished.is_some() { CLOSED } else { OPEN };
    Ok(Record::new(RUNS, run.id, value).indexed(index, sortable(run.started)))
}

fn item_record(run: UndoId, item: &Item) -> Result<Record, UndoFailed> {
    let value = serde_json::to_value(item).map_err(|_| UndoFailed::Internal)?;
    let key = format!("{run}/{}", item.writeback);
    Ok(Record::new(ITEMS, key, value).indexed(run.to_string(), format!("{:06}", item.place)))
}

fn counts(items: &[(Item, u64)]) -> UndoCounts {
    UndoCounts::of(items.iter().map(|(item, _)| &item.step))
}
