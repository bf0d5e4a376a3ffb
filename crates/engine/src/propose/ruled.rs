//! From valid parts to a ruling and the order it is about: facts are observed, policy is asked, and what follows is
//! stepped through in the caller's commit.

use chaperone_core::digest::PayloadAddress;
use chaperone_core::evidence::ValidationRecord;
use chaperone_core::facts::FactValue;
use chaperone_core::ports::{Commit, PayloadClass};
use chaperone_core::request::WriteRequest;
use chaperone_core::together::{EntryValidated, facts_of_all, validation_of_all};
use chaperone_core::writeback::{Command, OrderRef, Proposal, Writeback};

use super::part::Part;
use super::validate::conformant;
use super::{BULK_LIMIT_REACHED, CROSS_PATIENT, LEGAL_HOLD, move_failed};
use crate::context::{Engine, after};
use crate::errors::CallError;
use crate::order::order_bytes;
use crate::refill::PROTOCOL_IN_FORCE;
use crate::transition::{InHand, MoveFailed};

/// Who made a proposal that is ruled on: only what an agent itself did is held against how much it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MadeBy {
    /// The agent, by a call.
    Agent,
    /// A person, who changed what an agent proposed. That one's gate holds.
    Person,
    /// Nobody: it was made up.
    Nobody,
}

/// What is so of patient and agent, whatever the change.
#[derive(Debug, Clone, Copy)]
struct Standing {
    legal_hold: bool,
    bulk: bool,
}

impl Engine {
    /// Rules on what is valid, and puts the order and what follows into hand and commit. `findings` is where what
    /// was found rests, where anything was.
    pub(super) async fn decide_valid(
        &self,
        parts: &[Part<'_>],
        made: MadeBy,
        findings: Option<PayloadAddress>,
        hand: &mut InHand,
        commit: &mut Commit,
    ) -> Result<(), CallError> {
        let now = self.now();
        let first = parts.first().ok_or_else(CallError::internal)?;
        let validation = ValidationRecord {
            findings,
            ..whole(parts)?
        };
        let conformant = conformant(validation.clone());
        let command = Command::Validate {
            conformant: &conformant,
            change: first.merged.change.clone(),
            entries: entries(parts)?,
        };
        hand.step(command, now).map_err(move_failed)?;
        let mut asked = Vec::with_capacity(parts.len());
        let standing = self
            .standing(hand.state.proposal(), made, parts.len())
            .await?;
        for part in parts {
            asked.push(self.asked_about(part, parts, standing, hand).await?);
        }
        let maker = hand.state.proposal().maker.clone();
        let (asked, ruling) = self.rule_all_overseen(asked, maker.as_ref()).await?;
        let order = self
            .make_order(parts, validation, &ruling, &asked, hand)
            .await?;
        let (bytes, digest) = order_bytes(&order).map_err(|_| CallError::internal())?;
        let patient = first.admitted().caller.envelope.patient;
        let sealed = self.seal(PayloadClass::Clinical, patient, &bytes).await?;
        let class = ruling.record().class;
        let reference = OrderRef {
            digest,
            address: sealed.address,
            strategy: order.strategy,
            approve_by: after(now, self.config.approve_within_s(class)),
            deliver_within_s: self.config.deliver_within_s(class),
        };
        commit.payloads.push(sealed);
        let rule = Command::Rule {
            ruling: &ruling,
            order: reference,
        };
        hand.step(rule, now).map_err(move_failed)?;
        if matches!(hand.state, Writeback::AwaitingVerification(_)) {
            // Held, not refused, when the facts are not established yet.
            let verify = Command::Verify {
                facts: &facts_of_all(&asked, ruling.record()),
                evidence: &[],
            };
            match hand.step(verify, now) {
                Ok(()) | Err(MoveFailed::Refused(_)) => {}
                Err(failed) => return Err(move_failed(failed)),
            }
        }
        Ok(())
    }

    /// What is so of patient and agent, whatever the change.
    async fn standing(
        &self,
        proposal: &Proposal,
        made: MadeBy,
        changes: usize,
    ) -> Result<Standing, CallError> {
        Ok(Standing {
            legal_hold: self.is_held(proposal.patient).await?,
            bulk: made == MadeBy::Agent && self.is_bulk(proposal, changes).await?,
        })
    }

    /// What policy is asked about one part.
    async fn asked_about(
        &self,
        part: &Part<'_>,
        parts: &[Part<'_>],
        standing: Standing,
        hand: &InHand,
    ) -> Result<WriteRequest, CallError> {
        let (admitted, write, merged) = (part.admitted(), part.write, &part.merged);
        let judged = part.judged.as_ref().ok_or_else(CallError::internal)?;
        let mut facts = self
            .observe(
                admitted,
                write,
                &part.inputs,
                &merged.resource,
                judged.plausible,
            )
            .await?;
        facts.observe(LEGAL_HOLD, FactValue::Bool(standing.legal_hold));
        facts.observe(BULK_LIMIT_REACHED, FactValue::Bool(standing.bulk));
        if parts.len() > 1 {
            let foreign = parts.iter().any(|it| !self.is_of_bound_patient(it));
            facts.observe(CROSS_PATIENT, FactValue::Bool(foreign));
        }
        // Found out here, never said: which protocol covers it comes with the ruling.
        let mut protocol = None;
        if write.observe.iter().any(|name| name == PROTOCOL_IN_FORCE) {
            protocol = self.refill_protocol(&part.inputs, &merged.resource).await;
            facts.observe(PROTOCOL_IN_FORCE, FactValue::Bool(protocol.is_some()));
        }
        let proposal = hand.state.proposal();
        let called = (&admitted.intent.id, &admitted.tool.name);
        self.observe_calibrated(proposal.maker.as_ref(), called, &merged.change, &mut facts)
            .await?;
        Ok(WriteRequest {
            agent: admitted.caller.envelope.agent.clone(),
            intent: admitted.intent.id.clone(),
            intent_writes: admitted.intent.writes.clone(),
            tool: admitted.tool.name.clone(),
            class: merged.change.class().map_err(|_| CallError::denied())?,
            change: merged.change.clone(),
            facts,
            tainted: proposal.tainted,
            bundle: *self.bundle.digest(),
            at_least: admitted
                .edited
                .as_ref()
                .map(|edited| edited.before.ruling.gate.clone()),
            protocol,
        })
    }

    /// Whether everything about a part that belongs to a patient belongs to the one of the envelope.
    fn is_of_bound_patient(&self, part: &Part<'_>) -> bool {
        let own = |resource: &serde_json::Value| match part.inputs.patient_id.as_deref() {
            Some(id) => !self.is_patient_data(resource) || self.belongs_to(resource, id),
            None => !self.is_patient_data(resource),
        };
        own(&part.merged.resource) && part.inputs.base.as_ref().is_none_or(own)
    }
}

/// What was checked, of all parts.
fn whole(parts: &[Part<'_>]) -> Result<ValidationRecord, CallError> {
    let records: Vec<ValidationRecord> = parts
        .iter()
        .map(|part| part.merged.validation.clone())
        .collect();
    validation_of_all(&records).ok_or_else(CallError::internal)
}

/// The parts as they are recorded where there are several.
fn entries(parts: &[Part<'_>]) -> Result<Vec<EntryValidated>, CallError> {
    if parts.len() < 2 {
        return Ok(Vec::new());
    }
    parts
        .iter()
        .map(|part| {
            let change = part.merged.change.clone();
            Ok(EntryValidated {
                tool: part.as_sent.tool.name.clone(),
                class: change.class().map_err(|_| CallError::denied())?,
                change,
                stages: part.merged.validation.stages.clone(),
                body: part.merged.validation.body,
            })
        })
        .collect()
}
