//! The inbox: what needs this person, by deadline, then by class.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::Timestamp;
use chaperone_core::change::ChangeClass;
use chaperone_core::digest::Digest;
use chaperone_core::evidence::Strategy;
use chaperone_core::gate::Gate;
use chaperone_core::ids::{AgentId, IntentId, PatientToken, ToolName, WritebackId};
use chaperone_core::phi::Phi;
use chaperone_core::ports::Listing;
use chaperone_core::principal::{Human, Role};
use chaperone_core::writeback::StateName;

use super::patients::{PatientBrief, sees_patients};
use super::review::ended_words;
use super::{ROWS_MAX, Turn, ViewFailed};
use crate::approve::ENTERS;
use crate::context::Engine;
use crate::projection::{BY_STATE, WritebackRow, row_of};

/// What to leave out. Absent means everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InboxFilter {
    /// Only what this role decides.
    pub role: Option<Role>,
    /// Only this class.
    pub class: Option<ChangeClass>,
    /// Only this intent.
    pub intent: Option<IntentId>,
    /// Only this agent.
    pub agent: Option<AgentId>,
}

/// The inbox of one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbox {
    /// What needs them, most urgent first; then what waits for the other person of a pair.
    pub items: Vec<InboxItem>,
    /// What this person approved, or could have entered, and what never reached the EHR; newest first.
    pub fell_through: Vec<FellThrough>,
    /// How many proposals wait for others only.
    pub elsewhere: usize,
    /// Whether there are more than were read.
    pub more: bool,
    /// When anything was last delivered or refused, for the empty page.
    pub last_handled: Option<Timestamp>,
    /// Agents and intents among the items, for the filters.
    pub agents: BTreeSet<AgentId>,
    /// Intents among the items.
    pub intents: BTreeSet<IntentId>,
    /// When the page was made.
    pub now: Timestamp,
}

/// One proposal that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxItem {
    /// The write-back.
    pub id: WritebackId,
    /// The change in words.
    pub words: Phi<String>,
    /// The patient.
    pub patient: Option<PatientBrief>,
    /// The agent.
    pub agent: AgentId,
    /// The intent.
    pub intent: IntentId,
    /// The class.
    pub class: ChangeClass,
    /// The gate.
    pub gate: Gate,
    /// What an approval must name.
    pub digest: Digest,
    /// Since when it waits.
    pub since: Timestamp,
    /// Until when it can be decided.
    pub deadline: Timestamp,
    /// Whether text from outside was in the agent's context.
    pub tainted: bool,
    /// What this person can do.
    pub turn: Turn,
    /// Whether it may be approved from the list: light, one person, no second factor, no outside text.
    pub quick: bool,
    /// Whether it may be approved together with others of its kind.
    pub together: bool,
    /// The tool that made it.
    pub tool: ToolName,
}

/// Something that was agreed to and did not happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FellThrough {
    /// The write-back.
    pub id: WritebackId,
    /// The change in words.
    pub words: Phi<String>,
    /// Its class.
    pub class: Option<ChangeClass>,
    /// Why, in words.
    pub why: String,
    /// When.
    pub at: Timestamp,
}

/// Most rows of what fell through.
const FELL_THROUGH_MAX: usize = 20;

impl Engine {
    /// The inbox.
    ///
    /// # Errors
    /// Store and vault failures. An EHR that does not answer only leaves initials out.
    pub async fn inbox(&self, by: &Human, filter: &InboxFilter) -> Result<Inbox, ViewFailed> {
        let rows = self.before_people().await?;
        let more = rows.len() >= usize::try_from(ROWS_MAX).unwrap_or(usize::MAX);
        let mut inbox = Inbox {
            items: Vec::new(),
            fell_through: self.fell_through(by).await?,
            elsewhere: 0,
            more,
            last_handled: self.last_handled().await?,
            agents: BTreeSet::new(),
            intents: BTreeSet::new(),
            now: self.now(),
        };
        let mut patients: BTreeMap<PatientToken, PatientBrief> = BTreeMap::new();
        for row in &rows {
            let Some(mut item) = self.inbox_item(by, row).await? else {
                inbox.elsewhere = inbox.elsewhere.saturating_add(1);
                continue;
            };
            inbox.agents.insert(item.agent.clone());
            inbox.intents.insert(item.intent.clone());
            if !filter.admits(&item) {
                continue;
            }
            if let Some(token) = row.patient {
                let brief = match patients.get(&token) {
                    Some(brief) => brief.clone(),
                    None => self.brief_in(by, row, token).await?,
                };
                patients.insert(token, brief.clone());
                item.patient = Some(brief);
            }
            inbox.items.push(item);
        }
        inbox.items.sort_by_key(|item| {
            (
                !item.turn.is_yours(),
                item.deadline,
                std::cmp::Reverse(item.class),
                item.id,
            )
        });
        Ok(inbox)
    }

    /// How many proposals this person can decide now, for the badge.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn inbox_count(&self, by: &Human) -> Result<usize, ViewFailed> {
        let rows = self.before_people().await?;
        Ok(rows.iter().filter(|row| could_be_theirs(row, by)).count())
    }

    /// What people are asked about, oldest first.
    pub(super) async fn before_people(&self) -> Result<Vec<WritebackRow>, ViewFailed> {
        let mut rows = self.rows_in(StateName::AwaitingApproval, ROWS_MAX).await?;
        rows.extend(self.rows_in(StateName::Canary, ROWS_MAX).await?);
        rows.sort_by_key(|row| (row.proposed, row.id));
        Ok(rows)
    }

    /// What a person relies on having happened, and did not.
    async fn fell_through(&self, by: &Human) -> Result<Vec<FellThrough>, ViewFailed> {
        if !sees_patients(by) {
            return Ok(Vec::new());
        }
        let mut rows = self.lately_in(StateName::Void).await?;
        rows.extend(self.lately_in(StateName::DeadLetter).await?);
        rows.retain(|row| {
            let was_to_enter = row.state == StateName::Void
                && row.strategy == Some(Strategy::HumanEntry)
                && ENTERS.iter().any(|role| by.holds(*role));
            row.approvers.contains(&by.person) || was_to_enter
        });
        rows.sort_by_key(|row| std::cmp::Reverse((row.moved, row.id)));
        rows.truncate(FELL_THROUGH_MAX);
        let mut fell = Vec::with_capacity(rows.len());
        for row in rows {
            let hand = self.take_in_hand(row.id).await?;
            let (Some(ruled), Some(why)) = (hand.state.ruled(), ended_words(&hand.state)) else {
                continue;
            };
            let words = match self.order_content(&ruled.order).await {
                Ok(content) => content.words(),
                Err(failed) if failed.is_gone() => continue,
                Err(failed) => return Err(failed),
            };
            fell.push(FellThrough {
                id: row.id,
                words,
                class: row.class,
                why,
                at: row.moved,
            });
        }
        Ok(fell)
    }

    /// An item this person has a part in; nothing for others'.
    async fn inbox_item(
        &self,
        by: &Human,
        row: &WritebackRow,
    ) -> Result<Option<InboxItem>, ViewFailed> {
        if !sees_patients(by) {
            return Ok(None);
        }
        let hand = self.take_in_hand(row.id).await?;
        // The row may be a moment behind the stream.
        let Some(waiting) = hand.state.before_people() else {
            return Ok(None);
        };
        let ruled = waiting.ruled();
        let gate = ruled.ruling.gate.clone();
        let turn = Turn::of_ruled(
            ruled,
            waiting.approvals(),
            ruled.validation.needs_override(),
            by,
        );
        if matches!(turn, Turn::NotYours { .. }) {
            return Ok(None);
        }
        let content = self.order_content(&ruled.order).await?;
        let class = ruled.ruling.class;
        Ok(Some(InboxItem {
            id: row.id,
            words: content.words(),
            patient: None,
            agent: row.agent.clone(),
            intent: row.intent.clone(),
            class,
            quick: turn.is_yours()
                && class <= ChangeClass::M2
                && matches!(gate, Gate::Approve { .. })
                && !row.tainted
                // What warns, and what a person changed, is read before it is approved.
                && ruled.proposal.edit.is_none()
                // Each of several is read before all of them are approved.
                && !ruled.is_together()
                && content.order.validation.is_clean(),
            together: turn.is_yours()
                && !by.is_in_training()
                && waiting.approvals().is_empty()
                && self.tables.batch_rules().admits(ruled),
            tool: row.tool.clone(),
            gate,
            digest: ruled.order.digest,
            since: row.proposed,
            deadline: ruled.order.approve_by,
            tainted: row.tainted,
            turn,
        }))
    }

    /// The patient of a row, for a list.
    pub(super) async fn brief_in(
        &self,
        by: &Human,
        row: &WritebackRow,
        token: PatientToken,
    ) -> Result<PatientBrief, ViewFailed> {
        match row.state {
            StateName::Canary => {
                let hand = self.take_in_hand(row.id).await?;
                match self.beholding(&hand.state).await? {
                    Some(engine) => engine.patient_brief(by, token).await,
                    None => self.patient_brief(by, token).await,
                }
            }
            _ => self.patient_brief(by, token).await,
        }
    }

    async fn last_handled(&self) -> Result<Option<Timestamp>, ViewFailed> {
        let mut newest = None;
        for state in [StateName::Delivered, StateName::Refused, StateName::Staged] {
            let listing = Listing {
                index: Some(state.as_str().to_owned()),
                descending: true,
                limit: 1,
                ..Listing::default()
            };
            let rows = self
                .store
                .projections(&self.config.tenant, BY_STATE, listing)
                .await?;
            for record in &rows {
                newest = newest.max(Some(row_of(record)?.moved));
            }
        }
        Ok(newest)
    }
}

impl InboxFilter {
    fn admits(&self, item: &InboxItem) -> bool {
        let role = self.role.is_none_or(|role| match &item.gate {
            Gate::Approve { roles } | Gate::Approve2f { roles } => roles.contains(&role),
            Gate::TwoPerson { first, second } => role == *first || role == *second,
            Gate::Auto | Gate::AutoVerified { .. } | Gate::Deny => false,
        });
        role && self.class.is_none_or(|class| item.class == class)
            && self
                .intent
                .as_ref()
                .is_none_or(|intent| item.intent == *intent)
            && self.agent.as_ref().is_none_or(|agent| item.agent == *agent)
    }
}

/// Whether a proposal may be one that this person can decide, by its row alone.
pub(crate) fn could_be_theirs(row: &WritebackRow, by: &Human) -> bool {
    let named = row.named.as_ref();
    if named.is_some_and(|named| !named.contains(&by.account)) {
        return false;
    }
    match &row.gate {
        Some(Gate::Approve { roles } | Gate::Approve2f { roles }) => {
            roles.iter().any(|role| by.holds(*role))
        }
        Some(Gate::TwoPerson { first, second }) => {
            (by.holds(*first) || by.holds(*second))
                && !row.approvers.contains(&by.person)
                && row.requester != Some(by.person)
                && !row.editors.contains(&by.person)
        }
        _ => false,
    }
}
