//! The projection of write-backs: one row each, derived from events, disposable (invariant 11). Whether the
//! rows still agree with the events, and folding them anew, is `rebuild`.

mod rebuild;

use std::collections::BTreeSet;

use chaperone_core::Timestamp;
use chaperone_core::change::ChangeClass;
use chaperone_core::digest::Digest;
use chaperone_core::edit::EditLink;
use chaperone_core::evidence::Strategy;
use chaperone_core::gate::Gate;
use chaperone_core::ids::{
    AccountName, AgentId, CorrelationId, EnvelopeId, IntentId, PatientToken, PersonId, ToolName,
    WritebackId,
};
use chaperone_core::ports::{Commit, Listing, Record, RecordKey, StoreFailed};
use chaperone_core::resource::{Interaction, ResourceType};
use chaperone_core::writeback::{HumanNeeded, RefusedBy, StateName, VoidReason, Writeback};
use serde::{Deserialize, Serialize};

use crate::canary::CanaryRow;
use crate::context::Engine;

pub use rebuild::{Agreement, examine};

/// All write-backs, grouped by state.
pub(crate) const BY_STATE: &str = "writeback";
/// All write-backs, grouped by patient token.
pub(crate) const BY_PATIENT: &str = "writeback_by_patient";

/// A write-back as lists show it. Holds no PHI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WritebackRow {
    /// The write-back.
    pub id: WritebackId,
    /// Its state.
    pub state: StateName,
    /// Version of its stream.
    pub version: u64,
    /// The patient.
    pub patient: Option<PatientToken>,
    /// The agent.
    pub agent: AgentId,
    /// The intent.
    pub intent: IntentId,
    /// The tool.
    pub tool: ToolName,
    /// The envelope.
    pub envelope: EnvelopeId,
    /// The request that brought it.
    pub correlation: CorrelationId,
    /// The human the agent acted for.
    pub requester: Option<PersonId>,
    /// Whether untrusted content was in the agent's context.
    pub tainted: bool,
    /// Type of the resource, once known.
    pub resource: Option<ResourceType>,
    /// The types of the others, where several changes are made as one.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub resources_also: BTreeSet<ResourceType>,
    /// Create or update, once known.
    pub interaction: Option<Interaction>,
    /// Its class, once known.
    pub class: Option<ChangeClass>,
    /// Its gate, once ruled.
    pub gate: Option<Gate>,
    /// The digest to approve, once ruled.
    pub digest: Option<Digest>,
    /// How it is sent, once ruled.
    pub strategy: Option<Strategy>,
    /// People who have approved.
    pub approvers: Vec<PersonId>,
    /// Attempts at delivery.
    pub attempts: u32,
    /// Why a human must decide about an unknown outcome.
    pub human_needed: Option<HumanNeeded>,
    /// When it was proposed.
    pub proposed: Timestamp,
    /// When it last moved.
    pub moved: Timestamp,
    /// When what it waits for must have happened.
    pub deadline: Option<Timestamp>,
    /// Why it is void, when it is.
    #[serde(default)]
    pub void: Option<VoidReason>,
    /// Whether it ended because the rules changed before it was decided.
    #[serde(default)]
    pub rules_changed: bool,
    /// What took its place, when a person changed it.
    #[serde(default)]
    pub edited_into: Option<WritebackId>,
    /// Who changed what it says, oldest first.
    #[serde(default)]
    pub editors: Vec<PersonId>,
    /// Of a canary, which it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryRow>,
    /// Of what was ruled on under a protocol, whom it names: nobody else can decide it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<BTreeSet<AccountName>>,
}

impl WritebackRow {
    /// As pages show it: a canary that waits is one of those that wait.
    pub(crate) fn shown_among_others(self) -> Self {
        match self.state {
            StateName::Canary => Self {
                state: StateName::AwaitingApproval,
                canary: None,
                ..self
            },
            _ => self,
        }
    }

    fn new(state: &Writeback, version: u64, proposed: Timestamp, moved: Timestamp) -> Self {
        let proposal = state.proposal();
        let ruled = state.ruled();
        let mut row = Self {
            id: proposal.id,
            state: state.name(),
            version,
            patient: proposal.patient,
            agent: proposal.agent.clone(),
            intent: proposal.intent.clone(),
            tool: proposal.tool.clone(),
            envelope: proposal.envelope,
            correlation: proposal.correlation,
            requester: proposal.requester,
            tainted: proposal.tainted,
            resource: ruled.map(|r| r.change.resource.clone()),
            resources_also: ruled
                .map(|r| r.entries.iter().skip(1))
                .into_iter()
                .flatten()
                .map(|entry| entry.change.resource.clone())
                .collect(),
            interaction: ruled.map(|r| r.change.interaction),
            class: ruled.map(|r| r.ruling.class),
            gate: ruled.map(|r| r.ruling.gate.clone()),
            digest: ruled.map(|r| r.order.digest),
            strategy: ruled.map(|r| r.order.strategy),
            approvers: state.approvals().iter().map(|a| a.person).collect(),
            attempts: 0,
            human_needed: None,
            proposed,
            moved,
            deadline: None,
            void: None,
            rules_changed: false,
            edited_into: None,
            editors: proposal.edit.iter().flat_map(EditLink::people).collect(),
            canary: CanaryRow::of(state),
            named: ruled
                .and_then(|r| r.ruling.protocol.as_ref())
                .map(|it| it.approvers.clone()),
        };
        match state {
            Writeback::Canary(s) => row.deadline = Some(s.waiting().ruled().order.approve_by),
            Writeback::AwaitingApproval(s) => {
                row.deadline = Some(s.ruled().order.approve_by);
            }
            Writeback::AwaitingVerification(s) => row.deadline = Some(s.ruled().order.approve_by),
            Writeback::Ready(s) => {
                row.attempts = s.attempts();
                row.deadline = Some(s.deliver_by());
            }
            Writeback::Delivering(s) => {
                row.attempts = s.start().attempt;
                row.deadline = s.is_human_entry().then(|| s.ready().deliver_by());
            }
            Writeback::AwaitingSignature(s) => {
                row.attempts = s.start().attempt;
                row.deadline = Some(s.sign_by());
            }
            Writeback::Void(s) => row.void = Some(s.reason()),
            Writeback::Refused(s) => {
                row.rules_changed = *s.by() == RefusedBy::RulesChanged;
                if let RefusedBy::Edited { into, .. } = s.by() {
                    row.edited_into = Some(*into);
                }
            }
            Writeback::Unknown(s) => {
                row.attempts = s.start().attempt;
                row.human_needed = s.human_needed();
            }
            _ => {}
        }
        row
    }
}

/// Puts the rows of one write-back into a commit.
pub(crate) fn project(
    commit: &mut Commit,
    state: &Writeback,
    version: u64,
    proposed: Timestamp,
    moved: Timestamp,
) -> Result<WritebackRow, StoreFailed> {
    let row = WritebackRow::new(state, version, proposed, moved);
    let value = serde_json::to_value(&row)
        .map_err(|e| StoreFailed::Corrupt(format!("a projection row cannot be written: {e}")))?;
    let sort = sortable(proposed);
    commit.projections.push(
        Record::new(BY_STATE, row.id, value.clone()).indexed(row.state.as_str(), sort.clone()),
    );
    if let Some(patient) = row.patient {
        commit
            .projections
            .push(Record::new(BY_PATIENT, row.id, value).indexed(patient.to_string(), sort));
    }
    Ok(row)
}

/// A time as a string that sorts like the time.
pub(crate) fn sortable(at: Timestamp) -> String {
    format!("{:020}", at.as_microsecond())
}

/// Reads a row back.
pub(crate) fn row_of(record: &Record) -> Result<WritebackRow, StoreFailed> {
    serde_json::from_value(record.value.clone())
        .map_err(|e| StoreFailed::Corrupt(format!("a projection row cannot be read: {e}")))
}

impl Engine {
    /// A patient's newest write-backs, at most so many (and at most a listing's).
    pub(crate) async fn newest_of_patient(
        &self,
        patient: PatientToken,
        rows_max: u32,
    ) -> Result<Vec<WritebackRow>, StoreFailed> {
        let listing = Listing {
            index: Some(patient.to_string()),
            descending: true,
            limit: rows_max,
            ..Listing::default()
        };
        let tenant = &self.config.tenant;
        let records = self.store.projections(tenant, BY_PATIENT, listing).await?;
        records.iter().map(row_of).collect()
    }

    /// How many write-backs are on their way: in the queue, being sent, or being reconciled. Those
    /// that wait for a person are not.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn in_motion(&self) -> Result<usize, StoreFailed> {
        const STATES: [StateName; 3] =
            [StateName::Ready, StateName::Delivering, StateName::Unknown];
        let mut moving = 0;
        for state in STATES {
            let listing = Listing {
                index: Some(state.as_str().to_owned()),
                limit: 1_000,
                ..Listing::default()
            };
            for record in self
                .store
                .projections(&self.config.tenant, BY_STATE, listing)
                .await?
            {
                let row = row_of(&record)?;
                let waits_for_person = row.human_needed.is_some()
                    || (state == StateName::Delivering
                        && row.strategy == Some(Strategy::HumanEntry));
                moving += usize::from(!waits_for_person);
            }
        }
        Ok(moving)
    }

    /// One write-back as lists show it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn writeback(&self, id: WritebackId) -> Result<Option<WritebackRow>, StoreFailed> {
        let key = RecordKey::new(BY_STATE, id);
        let record = self.store.projection(&self.config.tenant, &key).await?;
        record.as_ref().map(row_of).transpose()
    }

    /// Write-backs that a human must enter into the EHR and attest.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn waiting_for_entry(&self) -> Result<Vec<WritebackRow>, StoreFailed> {
        let listing = Listing {
            index: Some(StateName::Delivering.as_str().to_owned()),
            limit: 1_000,
            ..Listing::default()
        };
        let records = self
            .store
            .projections(&self.config.tenant, BY_STATE, listing)
            .await?;
        let rows: Result<Vec<WritebackRow>, StoreFailed> = records.iter().map(row_of).collect();
        Ok(rows?
            .into_iter()
            .filter(|r| r.strategy == Some(Strategy::HumanEntry))
            .collect())
    }
}
