//! Health: the queue, what waits for a person, the EHR, the ledger.

use chaperone_core::Timestamp;
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::{ConnectionId, WritebackId};
use chaperone_core::ports::{EhrReadFailed, EhrSearch, Environment, WorkKind, WorkState};
use chaperone_core::principal::{Human, Role};
use chaperone_core::resource::ResourceType;
use chaperone_core::writeback::StateName;

use super::{ROWS_MAX, ViewFailed};
use crate::conformance::WriteBack;
use crate::context::Engine;
use crate::deliver::Sending;
use crate::projection::WritebackRow;

/// Most queue rows shown.
const WORK_MAX: u32 = 100;

/// The health page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthView {
    /// The EHR connection.
    pub ehr: EhrHealth,
    /// Unfinished work, oldest first, as far as shown.
    pub work: Vec<WorkView>,
    /// When the oldest unfinished work was due.
    pub oldest_due: Option<Timestamp>,
    /// What was given up for now.
    pub dead_letters: Vec<WritebackRow>,
    /// Sends of unknown outcome that wait for a person.
    pub unknown: Vec<WritebackRow>,
    /// Orders that a person must enter into the EHR and attest.
    pub to_enter: Vec<WritebackRow>,
    /// What was void before it was delivered, in the last two weeks, newest first.
    pub void: Vec<WritebackRow>,
    /// Approved orders in the queue.
    pub ready: u64,
    /// Proposals awaiting approval.
    pub awaiting: u64,
    /// Events in the ledger.
    pub ledger_size: u64,
    /// Events covered by the newest signed checkpoint.
    pub checkpoint_size: u64,
    /// When it was signed.
    pub checkpoint_at: Option<Timestamp>,
    /// Name of this node.
    pub node: String,
    /// Whether this person may requeue and abandon.
    pub may_operate: bool,
    /// When the page was made.
    pub now: Timestamp,
}

impl HealthView {
    /// Events that no signed checkpoint covers yet.
    pub fn ledger_lag(&self) -> u64 {
        self.ledger_size.saturating_sub(self.checkpoint_size)
    }
}

/// The state of the EHR connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EhrHealth {
    /// Its name.
    pub connection: ConnectionId,
    /// What it is for.
    pub environment: Environment,
    /// What a search answered just now.
    pub now: Result<(), EhrReadFailed>,
    /// Until when writes may be sent, or why they may not, in words.
    pub write_back: Result<Timestamp, String>,
    /// How sending of each kind stands at this node.
    pub sending: Vec<Sending>,
}

/// One piece of unfinished work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkView {
    /// What kind.
    pub kind: WorkKind,
    /// Whether somebody has it.
    pub state: WorkState,
    /// The write-back it is about.
    pub writeback: Option<WritebackId>,
    /// Not before.
    pub due: Timestamp,
}

impl Engine {
    /// The health page.
    ///
    /// # Errors
    /// When the store fails; an EHR that does not answer is part of the page.
    pub async fn health(&self, by: &Human) -> Result<HealthView, ViewFailed> {
        let tenant = &self.config.tenant;
        let work: Vec<WorkView> = self
            .store
            .work(tenant, WORK_MAX)
            .await?
            .into_iter()
            .map(|row| WorkView {
                kind: row.item.kind,
                state: row.state,
                writeback: row.item.subject.parse().ok(),
                due: row.item.due,
            })
            .collect();
        // Endings wait for their time by design and say nothing about the queue's health.
        let oldest_due = work
            .iter()
            .filter(|w| w.kind != WorkKind::Expire)
            .map(|w| w.due)
            .min();
        let checkpoint = self.store.checkpoint(tenant).await?;
        let mut unknown = self.rows_in(StateName::Unknown, ROWS_MAX).await?;
        unknown.retain(|row| row.human_needed.is_some());
        let mut to_enter = self.rows_in(StateName::Delivering, ROWS_MAX).await?;
        to_enter.retain(|row| row.strategy == Some(Strategy::HumanEntry));
        let count = |state: StateName| {
            self.store
                .projections_count(tenant, crate::projection::BY_STATE, Some(state.as_str()))
        };
        Ok(HealthView {
            ehr: self.ehr_health().await?,
            work,
            oldest_due,
            dead_letters: self.rows_in(StateName::DeadLetter, ROWS_MAX).await?,
            unknown,
            to_enter,
            void: self.lately_in(StateName::Void).await?,
            ready: count(StateName::Ready).await?,
            awaiting: count(StateName::AwaitingApproval).await?,
            ledger_size: self.store.size(tenant).await?,
            checkpoint_size: checkpoint.as_ref().map_or(0, |c| c.size),
            checkpoint_at: checkpoint.map(|c| c.at),
            node: self.config.node.clone(),
            may_operate: [Role::ItAdmin, Role::Clinician, Role::Him]
                .into_iter()
                .any(|role| by.holds(role)),
            now: self.now(),
        })
    }

    /// Asks the EHR for one patient of nobody in particular; what comes back is not looked at.
    async fn ehr_health(&self) -> Result<EhrHealth, ViewFailed> {
        let now = match ResourceType::new("Patient") {
            Ok(resource) => self
                .ehr
                .search(EhrSearch {
                    resource,
                    parameters: Vec::new(),
                    limit: 1,
                })
                .await
                .map(|_| ()),
            Err(_) => Err(EhrReadFailed::Unsupported),
        };
        let connection = self.ehr.connection().clone();
        let write_back = match self.write_back().await? {
            WriteBack::On { until, .. } => Ok(until),
            WriteBack::Off(why) => Err(why.say(&connection)),
        };
        Ok(EhrHealth {
            connection,
            environment: self.ehr.environment(),
            now,
            write_back,
            sending: self.traffic.standing(self.now()),
        })
    }
}
