//! A proposal made of another one by a person: the agent's call once more with other inputs, through the whole way of a
//! proposal.
//!
//! Agent, intent, tool, patient, encounter, purpose and what is referred to are those of the call before; sources and
//! rationale go along, and so do taint and what resembles a text from outside. What was observed, verified or approved
//! for the other does not: all of it is found out anew. The ruling is held to the other's gate at least.
//!
//! A clinician counts as present, and as treating the patient, where the matrix asks for it, only when whoever changes
//! the proposal is the clinician who put the patient before the agent.

use std::sync::Arc;

use chaperone_core::bundle::{IntentDeclaration, WriteAction};
use chaperone_core::edit::CallKept;
use chaperone_core::envelope::{Envelope, Presence};
use chaperone_core::evidence::{Resemblance, Strategy};
use chaperone_core::ids::{ResourceToken, WritebackId};
use chaperone_core::ports::{Commit, PayloadClass};
use chaperone_core::principal::{Human, Role};
use chaperone_core::writeback::{Proposal, Ruled, Writeback, WritebackEvent};
use chaperone_phi::consent::Action;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::move_failed;
use super::part::shown_of_all;
use super::ruled::MadeBy;
use crate::approve::DecideFailed;
use crate::arguments::Arguments;
use crate::call::Admitted;
use crate::context::{Engine, after};
use crate::edit::{EditFailed, Edited, denied};
use crate::errors::CallError;
use crate::open_envelope::Caller;
use crate::transition::InHand;

/// How long whoever submits a change counts as present, in seconds.
const PRESENT_S: i64 = 60;

/// What an agent said beside its inputs.
#[derive(Debug, Default, Deserialize)]
struct Said {
    #[serde(default)]
    rationale: Option<String>,
    #[serde(default)]
    confidence: Option<f64>,
    #[serde(default)]
    sources: Vec<ResourceToken>,
}

impl Engine {
    /// Puts the changed proposal into a commit, as a write-back that waits for its approval. The caller writes its
    /// rows, with those of the one whose place it takes.
    pub(crate) async fn propose_edited(
        &self,
        by: &Human,
        edited: Edited,
        commit: &mut Commit,
    ) -> Result<InHand, EditFailed> {
        let before = edited.before.clone();
        let old = &before.proposal;
        let (intent, write) = self.may_still_propose(&before).await?;
        let tool = self.bundle.tool(&old.tool).ok_or(EditFailed::NotKept)?;
        let call = edited.order.call.clone().ok_or(EditFailed::NotKept)?;
        let arguments = self.arguments_again(&edited, &call).await?;
        let caller = Caller {
            envelope: Arc::new(self.envelope_again(by, old, &call)),
        };
        let resembled = edited.order.resembles.clone();
        let admitted = Admitted {
            caller: &caller,
            intent,
            tool,
            arguments,
            policies: Vec::new(),
            correlation: self.correlation(),
            edited: Some(edited),
        };
        let consulted = self
            .consult(&admitted, &write.resource, true, Action::Write)
            .await?;
        let mut inputs = self.gather(&admitted, write).await?;
        inputs.resembles = self.resembling(&admitted, &inputs).await?;
        add_all(&mut inputs.resembles, resembled);
        let id = WritebackId::from_random(self.random.id());
        let mut parts = [self.part_of(&admitted, write, inputs, id)?];
        let [part] = &parts;
        self.consent_to_proposal(&consulted, &part.inputs, &part.merged.resource)?;
        if !part.is_valid() {
            let errors = part
                .merged
                .findings
                .iter()
                .filter(|it| it.severity.is_error());
            return Err(EditFailed::NotValid {
                findings: errors.map(|it| it.message.clone()).collect(),
            });
        }
        self.judge_all(&mut parts).await;
        let findings = self
            .seal_findings(&admitted, &shown_of_all(&parts), commit)
            .await?;
        let [part] = &parts;
        let tainted = old.tainted || self.is_tainted(&admitted, &part.inputs);
        let proposal = self
            .edited_proposal(&admitted, old, id, tainted, commit)
            .await?;
        let now = self.now();
        let mut hand = InHand::propose(WritebackEvent::Proposed(Box::new(proposal)), id, now)
            .map_err(move_failed)?;
        self.decide_valid(&parts, MadeBy::Person, findings, &mut hand, commit)
            .await?;
        // What is to be signed in the EHR is on its way there, unsigned, as an agent's own would be.
        match &hand.state {
            Writeback::AwaitingApproval(_) => Ok(hand),
            Writeback::Ready(ready) if ready.ruled().order.strategy == Strategy::EhrStaged => {
                Ok(hand)
            }
            _ => Err(denied(&hand)),
        }
    }

    /// The intent and the write of the tool, where the agent could still make the proposal.
    async fn may_still_propose(
        &self,
        ruled: &Ruled,
    ) -> Result<(&IntentDeclaration, &WriteAction), EditFailed> {
        let proposal = &ruled.proposal;
        let agent = self
            .bundle
            .agent(&proposal.agent)
            .filter(|agent| agent.intents.contains(&proposal.intent))
            .ok_or(EditFailed::AgentChanged)?;
        self.check_standing(agent, self.now())
            .map_err(|_lapsed| EditFailed::AgentChanged)?;
        let intent = self
            .bundle
            .intent(&proposal.intent)
            .filter(|intent| intent.tools.contains(&proposal.tool))
            .ok_or(EditFailed::AgentChanged)?;
        let write = self
            .bundle
            .tool(&proposal.tool)
            .and_then(|tool| tool.write.as_ref())
            .ok_or(EditFailed::AgentChanged)?;
        match self.takes_decisions(ruled).await? {
            (true, _) => Ok((intent, write)),
            (false, _) => Err(DecideFailed::Switched.into()),
        }
    }

    /// The arguments with the changed inputs, and with what the agent said beside them.
    async fn arguments_again(
        &self,
        edited: &Edited,
        call: &CallKept,
    ) -> Result<Arguments, EditFailed> {
        let failed = |error: &dyn std::fmt::Display| {
            tracing::error!(%error, "what an agent sent could not be opened to change it");
            CallError::internal()
        };
        let bytes = self
            .unseal(&edited.before.proposal.payload)
            .await
            .map_err(|error| failed(&error))?;
        let mut raw: Map<String, Value> =
            serde_json::from_slice(&bytes).map_err(|error| failed(&error))?;
        let said: Said =
            serde_json::from_value(Value::Object(raw.clone())).map_err(|error| failed(&error))?;
        // What the agent wrote stays as it was sent, and what a person wrote takes its place.
        for (name, value) in &edited.inputs {
            if call.inputs.get(name) != Some(value) {
                raw.insert(name.clone(), value.clone());
            }
        }
        raw.retain(|name, _| edited.inputs.contains_key(name) || !call.inputs.contains_key(name));
        Ok(Arguments {
            inputs: edited.inputs.clone(),
            idempotency_key: String::new(),
            rationale: said.rationale,
            confidence: said.confidence,
            sources: said.sources,
            changes: Vec::new(),
            raw,
        })
    }

    /// The envelope of the call before, for this change alone: it opens nothing.
    fn envelope_again(&self, by: &Human, old: &Proposal, call: &CallKept) -> Envelope {
        let now = self.now();
        let is_treating = old.requester == Some(by.person) && by.holds(Role::Clinician);
        Envelope {
            id: old.envelope,
            tenant: self.config.tenant.clone(),
            agent: old.agent.clone(),
            intent: old.intent.clone(),
            grant: None,
            patient: old.patient,
            encounter: call.encounter,
            presence: is_treating.then(|| Presence {
                person: by.person,
                until: after(now, PRESENT_S),
            }),
            purpose: call.purpose.clone(),
            bundle: *self.bundle.digest(),
            opened: now,
            expires: now,
        }
    }

    async fn edited_proposal(
        &self,
        admitted: &Admitted<'_>,
        old: &Proposal,
        id: WritebackId,
        tainted: bool,
        commit: &mut Commit,
    ) -> Result<Proposal, EditFailed> {
        let class = PayloadClass::Transcript;
        let said = serde_json::to_vec(&json!(admitted.arguments.raw))
            .map_err(|_| CallError::internal())?;
        let payload = self.seal_request(admitted, commit).await?;
        let own_key = [b"edit".as_slice(), &id.to_string().into_bytes()].concat();
        let digests = async {
            let key = self.keyed_digest(class, None, &[&own_key]).await?;
            let request = self.keyed_digest(class, old.patient, &[&said]).await?;
            Ok::<_, chaperone_core::ports::KeyVaultFailed>((key, request))
        };
        let (idempotency_key, request) = digests.await.map_err(CallError::from)?;
        Ok(Proposal {
            id,
            connection: self.ehr.connection().clone(),
            correlation: admitted.correlation,
            idempotency_key,
            request,
            payload,
            tainted,
            undo: None,
            // What a person wrote bears out nothing of the agent's work, and is not calibrated by it.
            maker: None,
            edit: admitted.edited.as_ref().map(|edited| edited.link.clone()),
            ..old.clone()
        })
    }
}

fn add_all(found: &mut Vec<Resemblance>, before: Vec<Resemblance>) {
    for one in before {
        if !found.contains(&one) {
            found.push(one);
        }
    }
}
