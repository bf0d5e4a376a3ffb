//! The review of one proposal: what changes, for whom, why, what was checked, what happens next.
//!
//! Before and after come from the order itself, so that what is shown is what the digest covers. The
//! EHR is asked once more at display time: when the record changed since, the page says so, and the
//! approval would end in nothing.

use chaperone_core::Timestamp;
use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::{
    Resemblance, RulesRecord, RulingRecord, StageRecord, Strategy, WriteOrder,
};
use chaperone_core::facts::{FactKind, FactValue};
use chaperone_core::gate::{Gate, ProofLevel};
use chaperone_core::ids::WritebackId;
use chaperone_core::phi::Phi;
use chaperone_core::principal::Human;
use chaperone_core::request::WriteRequest;
use chaperone_core::retention::Deletion;
use chaperone_core::undo::UndoLink;
use chaperone_core::writeback::{
    OrderRef, Proposal, RefusedBy, Ruled, VoidReason, Writeback, WritebackEvent,
};
use chaperone_fhir::words;
pub use chaperone_fhir::words::DiffLine;
use serde::Deserialize;

use super::changes::{ChangeView, OrderContent};
use super::displays::for_words;
use super::drops::drops_of;
use super::edited::EditedView;
use super::part::Part;
use super::patients::PatientHeader;
use super::timeline::TimelineEntry;
use super::{Turn, ViewFailed};
use crate::context::Engine;
use crate::edit::EditField;
use crate::projection::WritebackRow;
use crate::retention::receipt::deletions;
use crate::transition::InHand;

/// The review page.
#[derive(Debug, Clone, PartialEq)]
pub struct Review {
    /// The row: ids, state, class, gate, deadline.
    pub row: WritebackRow,
    /// What only roles that see patients are shown; nothing for operators.
    pub content: Option<Phi<ReviewContent>>,
    /// What was ruled, once it was.
    pub ruling: Option<RulingRecord>,
    /// What was checked, once it was.
    pub stages: Vec<StageRecord>,
    /// Validator and packages.
    pub validator: String,
    /// What the plausibility rules were and were given, once they ran.
    pub rules: Option<RulesRecord>,
    /// What an approval leads to.
    pub outcome: Option<OutcomeView>,
    /// Calibrated confidence that the ruling saw, in percent.
    pub calibrated_pct: Option<i64>,
    /// Agent, version, model, as the order names them.
    pub author: Option<String>,
    /// What the intent is for, from the bundle.
    pub purpose: Option<String>,
    /// What it undoes, or asks a person about, where Chaperone itself proposed it.
    pub undo: Option<UndoLink>,
    /// What this person can do.
    pub turn: Turn,
    /// Whether a switch holds back approvals.
    pub is_switched: bool,
    /// What happened so far, oldest first.
    pub timeline: Vec<TimelineEntry>,
    /// Whether how it came to wait is kept back until it is decided.
    pub keeps_opening_back: bool,
    /// Why it ended, in words, when it did.
    pub ended: Option<String>,
    /// What of it was deleted since, by which rule and when.
    pub deleted: Vec<String>,
    /// When the page was made.
    pub now: Timestamp,
}

/// What concerns the patient.
#[derive(Debug, Clone, PartialEq)]
pub struct ReviewContent {
    /// The change in one line.
    pub words: Phi<String>,
    /// Each change, in order: one, or all of those that take effect as one.
    pub changes: Vec<ChangeView>,
    /// For what a person made of another proposal: who, why, and how it differs from the agent's.
    pub edited: Option<EditedView>,
    /// The inputs that this person can change; none where they cannot.
    pub edit: Vec<EditField>,
    /// The patient.
    pub patient: PatientShown,
    /// Why, in the agent's words: a claim.
    pub rationale: Option<String>,
    /// How sure the agent says it is: a claim, from 0 to 1.
    pub confidence: Option<f64>,
    /// What it rests on.
    pub sources: Vec<SourceView>,
    /// Texts from outside that say the same, though the agent named no such source.
    pub resembles: Vec<ResemblesView>,
    /// What validation found.
    pub findings: Vec<FindingView>,
    /// What the person who refused gave as the reason.
    pub refusal_reason: Option<String>,
}

/// The patient on the review page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatientShown {
    /// The intent is about no patient.
    NoPatient,
    /// As the EHR has them now.
    Known(Phi<Box<PatientHeader>>),
    /// The EHR does not answer: the change must not be approved blind.
    Unavailable,
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceView {
    /// What it says, in words.
    pub words: String,
    /// Whether its text comes from outside the organisation's own staff.
    pub untrusted: bool,
}

/// A text from outside beside what was proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResemblesView {
    /// What the text stands in; empty when there was too much to compare.
    pub stands_in: String,
    /// The passage; empty when there was too much to compare.
    pub passage: String,
    /// What the agent wrote.
    pub proposed: String,
}

fn resembles(order: &WriteOrder) -> Vec<ResemblesView> {
    let view = |it: &Resemblance| ResemblesView {
        stands_in: it
            .resource
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        passage: it.passage.clone().unwrap_or_default(),
        proposed: it.proposed.clone(),
    };
    order.resembles.iter().map(view).collect()
}

/// One finding of validation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FindingView {
    /// Stable id.
    pub id: String,
    /// How serious.
    pub severity: String,
    /// Where.
    pub expression: String,
    /// What is wrong.
    pub message: String,
    /// What it rests on, in words.
    #[serde(default)]
    pub basis: Vec<String>,
    /// A value that would be plausible; nobody applies it but a person.
    #[serde(default)]
    pub proposed: Option<String>,
}

impl FindingView {
    /// Whether it says that something was not checked, and nothing else.
    pub fn is_unchecked(&self) -> bool {
        self.id.ends_with("not-checked") && self.severity == "information"
    }
}

/// What happens when it is approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutcomeView {
    /// How it is delivered.
    pub strategy: Strategy,
    /// Whether the changed elements of what is there already are sent, and nothing else.
    pub patched: bool,
    /// Whether several changes go as one.
    pub several: bool,
    /// Whether it goes to the EHR or stays here.
    pub staged: bool,
    /// The proof that can be reached.
    pub proof: ProofLevel,
    /// What this EHR will not keep.
    pub drops: Vec<&'static str>,
    /// How long it may wait in the queue, in seconds.
    pub deliver_within_s: i64,
}

/// What the ruling was told of the agent's confidence, beside its own word; of several changes the least, and nothing
/// where it was told nothing about one of them.
fn calibrated(opened: &OrderContent) -> Option<i64> {
    let of_one = |asked: WriteRequest| {
        let fact = asked.facts.get("confidence_pct")?;
        match (&fact.value, fact.kind) {
            (FactValue::Long(pct), FactKind::Observed) => Some(*pct),
            _ => None,
        }
    };
    let asked = opened.order.questions()?;
    let all: Option<Vec<i64>> = asked.into_iter().map(of_one).collect();
    all?.into_iter().min()
}

#[derive(Debug, Default, Deserialize)]
struct AgentsWords {
    #[serde(default)]
    rationale: Option<String>,
    #[serde(default)]
    confidence: Option<f64>,
    #[serde(default)]
    sources: Vec<chaperone_core::ids::ResourceToken>,
}

impl Engine {
    /// Opens an order and checks it against its digest: what is shown is what would be approved.
    pub(super) async fn order_content(&self, order: &OrderRef) -> Result<OrderContent, ViewFailed> {
        let bytes = self.unseal(&order.address).await?;
        if Digest::of_bytes(&bytes) != order.digest {
            return Err(corrupt("a stored order is not what its digest names"));
        }
        let order =
            serde_json::from_slice(&bytes).map_err(|_| corrupt("a stored order cannot be read"))?;
        OrderContent::of(order)
    }

    /// The review page.
    ///
    /// # Errors
    /// [`ViewFailed::Missing`] for an unknown id, and for who has no part in it; vault and store failures.
    pub async fn review(&self, by: &Human, id: WritebackId) -> Result<Review, ViewFailed> {
        let hand = self.take_in_hand(id).await?;
        match self.beholding(&hand.state).await? {
            Some(engine) => engine.review_of(by, id, hand).await,
            None => self.review_of(by, id, hand).await,
        }
    }

    async fn review_of(
        &self,
        by: &Human,
        id: WritebackId,
        hand: InHand,
    ) -> Result<Review, ViewFailed> {
        let row = self.row(id).await?.shown_among_others();
        let part = Part::of(&hand.state, by);
        if part == Part::None {
            return Err(ViewFailed::Missing);
        }
        let events = self
            .store
            .stream(&self.config.tenant, &StreamId::Writeback(id))
            .await?;
        let timeline = self.timeline_of(by, &hand.state, &events);
        let findings = events.iter().find_map(|recorded| match &recorded.event {
            Event::Writeback(WritebackEvent::Refused {
                refused: RefusedBy::Validation { findings },
            }) => Some(*findings),
            Event::Writeback(WritebackEvent::Validated { validation, .. }) => validation.findings,
            Event::Writeback(WritebackEvent::CanarySeeded(seed)) => seed.ruled.validation.findings,
            _ => None,
        });
        let ruled = hand.state.ruled();
        let mut deleted = deleted_words(&deletions(&events));
        let opened = match ruled {
            Some(ruled) => match self.order_content(&ruled.order).await {
                Ok(opened) => Some(opened),
                Err(failed) if failed.is_gone() => {
                    if deleted.is_empty() {
                        deleted.push(SHREDDED.to_owned());
                    }
                    None
                }
                Err(failed) => return Err(failed),
            },
            None => None,
        };
        let content = if part == Part::Content {
            let proposal = hand.state.proposal();
            let ruling = ruled.map(|ruled| &ruled.ruling);
            let mut content = self
                .review_content(by, proposal, opened.as_ref(), ruling)
                .await?;
            if let Some(opened) = &opened {
                content.edit = self.edit_fields(&hand.state, &opened.order, by);
            }
            if let Some(address) = findings {
                content.findings = match self.unless_gone(&address).await? {
                    Some(bytes) => serde_json::from_slice(&bytes)
                        .map_err(|_| corrupt("stored findings cannot be read"))?,
                    None => Vec::new(),
                };
            }
            if let Writeback::Refused(refused) = &hand.state
                && let RefusedBy::Human { reason, .. } | RefusedBy::Edited { reason, .. } =
                    refused.by()
            {
                content.refusal_reason = self.unseal_text(reason).await.ok();
            }
            Some(Phi::new(content))
        } else {
            None
        };
        let turn = turn_in(&hand.state, by);
        let is_switched = match ruled {
            Some(ruled) => !self.takes_decisions(ruled).await?.0,
            None => false,
        };
        let validation = ruled.map(|ruled| &ruled.validation);
        Ok(Review {
            content,
            ruling: ruled.map(|ruled| ruled.ruling.clone()),
            stages: validation.map(|v| v.stages.clone()).unwrap_or_default(),
            validator: validation
                .map(|v| format!("{} with {}", v.validator, v.packages.join(", ")))
                .unwrap_or_default(),
            rules: validation.and_then(|v| v.rules.clone()),
            outcome: ruled
                .zip(opened.as_ref())
                .map(|(ruled, opened)| outcome(ruled, opened)),
            calibrated_pct: opened.as_ref().and_then(calibrated),
            author: opened.as_ref().map(|opened| {
                let author = &opened.order.author;
                format!("{} {} on {}", author.agent, author.version, author.model)
            }),
            purpose: self
                .bundle
                .intent(&row.intent)
                .map(|intent| intent.purpose.clone()),
            undo: hand.state.proposal().undo.clone(),
            turn,
            is_switched,
            timeline,
            keeps_opening_back: self.keeps_opening_back(&hand.state),
            ended: match &hand.state {
                Writeback::CanarySettled(settled) => Some(self.told_afterwards(settled).await),
                state => ended_words(state),
            },
            deleted,
            now: self.now(),
            row,
        })
    }

    /// Opens a payload; nothing when it was deleted, or the key it was sealed under.
    async fn unless_gone(&self, address: &PayloadAddress) -> Result<Option<Vec<u8>>, ViewFailed> {
        match self.unseal(address).await.map_err(ViewFailed::from) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(failed) if failed.is_gone() => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    async fn review_content(
        &self,
        by: &Human,
        proposal: &Proposal,
        opened: Option<&OrderContent>,
        ruling: Option<&RulingRecord>,
    ) -> Result<ReviewContent, ViewFailed> {
        // The look is recorded by the patient's header, before anything is opened for the page.
        let patient = match proposal.patient {
            None => PatientShown::NoPatient,
            Some(token) => match self.patient_header(by, token).await {
                Ok(Some(header)) => PatientShown::Known(header.map(Box::new)),
                Ok(None) | Err(ViewFailed::Missing) => {
                    self.record_look(by, "console.review", Some(token), &["change"])
                        .await?;
                    PatientShown::Unavailable
                }
                Err(failed) => return Err(failed),
            },
        };
        let said: AgentsWords = match self.unless_gone(&proposal.payload).await? {
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|_| corrupt("what an agent sent cannot be read"))?,
            None => AgentsWords::default(),
        };
        let mut sources = Vec::with_capacity(said.sources.len());
        for token in &said.sources {
            sources.push(self.source(*token).await);
        }
        let (changes, words) = match (opened, ruling) {
            (Some(opened), Some(ruling)) => (
                self.change_views(opened, proposal, ruling).await,
                opened.words(),
            ),
            _ => (Vec::new(), Phi::default()),
        };
        Ok(ReviewContent {
            words,
            changes,
            edited: self.edited_view(proposal, opened).await?,
            edit: Vec::new(),
            patient,
            rationale: said.rationale,
            confidence: said.confidence,
            sources,
            resembles: opened.map_or_else(Vec::new, |it| resembles(&it.order)),
            findings: Vec::new(),
            refusal_reason: None,
        })
    }

    /// A source as the EHR has it now. Documents, messages and answers are text from outside.
    async fn source(&self, token: chaperone_core::ids::ResourceToken) -> SourceView {
        const OUTSIDE: [&str; 3] = [
            "DocumentReference",
            "Communication",
            "QuestionnaireResponse",
        ];
        let Ok(target) = self.resource_target(token).await else {
            return SourceView {
                words: format!("{token} (not known here)"),
                untrusted: true,
            };
        };
        let untrusted = OUTSIDE.contains(&target.resource.as_str());
        let words = match self.ehr.read(&target.resource, &target.id).await {
            Ok(resource) => words::describe(&for_words(&resource)),
            Err(_) => format!("{} (cannot be read now)", target.resource),
        };
        SourceView { words, untrusted }
    }

    /// What a person can do about a write-back now.
    ///
    /// # Errors
    /// [`ViewFailed::Missing`] for an unknown id; store failures.
    pub async fn turn(&self, by: &Human, id: WritebackId) -> Result<Turn, ViewFailed> {
        Ok(turn_in(&self.take_in_hand(id).await?.state, by))
    }

    /// Whether a person may open anything of a write-back.
    ///
    /// # Errors
    /// [`ViewFailed::Missing`] for an unknown id, and for who has no part in it; store failures.
    pub async fn may_open(&self, by: &Human, id: WritebackId) -> Result<(), ViewFailed> {
        match Part::of(&self.take_in_hand(id).await?.state, by) {
            Part::None => Err(ViewFailed::Missing),
            Part::Content | Part::Outline => Ok(()),
        }
    }

    /// Whether a person may see what a write-back says, or its outline only.
    pub(crate) fn sees_content(&self, state: &Writeback, by: &Human) -> Result<bool, ViewFailed> {
        match Part::of(state, by) {
            Part::None => Err(ViewFailed::Missing),
            part => Ok(part == Part::Content),
        }
    }

    /// Whether approvals of this write-back are still secret from a person.
    pub(crate) async fn hides_approvals(
        &self,
        by: &Human,
        id: WritebackId,
    ) -> Result<bool, ViewFailed> {
        Ok(hides_approvals(&self.take_in_hand(id).await?.state, by))
    }
}

pub(super) fn turn_in(state: &Writeback, by: &Human) -> Turn {
    match state.before_people() {
        Some(waiting) => {
            let ruled = waiting.ruled();
            Turn::of_ruled(
                ruled,
                waiting.approvals(),
                ruled.validation.needs_override(),
                by,
            )
        }
        None => Turn::NotYours {
            roles: Vec::new(),
            barred: None,
        },
    }
}

/// The first verdict of a pair stays secret from everyone who has not given one.
pub(super) fn hides_approvals(state: &Writeback, by: &Human) -> bool {
    let Writeback::AwaitingApproval(waiting) = state else {
        return false;
    };
    let has_decided = waiting
        .approvals()
        .iter()
        .any(|approval| approval.person == by.person);
    matches!(waiting.ruled().ruling.gate, Gate::TwoPerson { .. }) && !has_decided
}

fn outcome(ruled: &Ruled, opened: &OrderContent) -> OutcomeView {
    let order = &opened.order;
    OutcomeView {
        strategy: order.strategy,
        patched: order.changes().all(|change| change.patch.is_some()),
        several: !order.also.is_empty(),
        staged: ruled.ruling.destination == chaperone_core::change::Destination::Staged,
        proof: order.strategy.proof(),
        drops: drops_of(order),
        deliver_within_s: ruled.order.deliver_within_s,
    }
}

pub(super) fn ended_words(state: &Writeback) -> Option<String> {
    use super::timeline::{cause_words, needed_words, void_words};
    match state {
        Writeback::Refused(refused) => Some(match refused.by() {
            RefusedBy::Validation { .. } => "It is not valid and was refused.".to_owned(),
            RefusedBy::Policy { code } => format!("Policy refused it: {code}."),
            RefusedBy::Human { .. } => "A person refused it.".to_owned(),
            RefusedBy::Edited { into, .. } => {
                format!("A person changed it, and {into} took its place.")
            }
            RefusedBy::Expiry => "Nobody decided in time.".to_owned(),
            RefusedBy::Withdrawn => "The agent took it back.".to_owned(),
            RefusedBy::RulesChanged => {
                "The rules changed since it was ruled on. The agent can propose it again."
                    .to_owned()
            }
        }),
        Writeback::Void(void)
            if void.reason() == VoidReason::DeliverBy
                && void.ready().ruled().order.strategy == Strategy::HumanEntry =>
        {
            Some(
                "Nobody attested its entry in time. Look in the EHR whether it was entered."
                    .to_owned(),
            )
        }
        Writeback::Void(void) => Some(format!("It is void: {}.", void_words(void.reason()))),
        Writeback::DeadLetter(dead) => Some(format!(
            "It could not be delivered: {}.",
            cause_words(dead.cause())
        )),
        Writeback::Unknown(unknown) => Some(match unknown.human_needed() {
            Some(reason) => format!("Its outcome is not known: {}.", needed_words(reason)),
            None => "Its outcome is being looked up.".to_owned(),
        }),
        Writeback::Abandoned(abandoned)
            if abandoned.ready().ruled().order.strategy == Strategy::HumanEntry =>
        {
            Some("The person who was to enter it declined.".to_owned())
        }
        Writeback::Abandoned(_) => Some("An operator gave it up.".to_owned()),
        _ => None,
    }
}

/// What is said where nothing opens and no rule deleted it.
const SHREDDED: &str =
    "What it held cannot be opened any more: the keys of the patient were destroyed.";

/// What was deleted, in words, one line for each rule.
fn deleted_words(deletions: &[(Timestamp, Deletion)]) -> Vec<String> {
    let line = |(at, deletion): &(Timestamp, Deletion)| {
        let what = match deletion.artefact.as_str() {
            "payload/clinical" => "The order and where the EHR keeps it",
            "payload/transcript" => "What the agent sent",
            "payload/derived" => "What validation found",
            "payload/approval_note" => "What people wrote when they decided",
            _ => "What belonged to it",
        };
        format!(
            "{what} was deleted on {} under retention rule {}.",
            at.to_zoned(jiff::tz::TimeZone::UTC).date(),
            deletion.rule
        )
    };
    deletions.iter().map(line).collect()
}

pub(super) fn corrupt(what: &str) -> ViewFailed {
    ViewFailed::Store(chaperone_core::ports::StoreFailed::Corrupt(what.to_owned()))
}
