//! A canary on the way of a proposal: the same gathering, merging, checks and ruling, over what was made up, so that it
//! is what an agent's would be. What comes of it is put before people by `crate::canary`, and is no proposal.

use std::sync::Arc;

use chaperone_core::envelope::Envelope;
use chaperone_core::ids::{EnvelopeId, PatientToken, WritebackId};
use chaperone_core::ports::{Commit, PayloadClass};
use chaperone_core::writeback::{Proposal, Ruled, Writeback, WritebackEvent};
use serde_json::{Map, Value};

use super::part::{Part, shown_of_all};
use super::ruled::MadeBy;
use crate::arguments::Arguments;
use crate::call::Admitted;
use crate::canary::CanaryDeclared;
use crate::context::Engine;
use crate::errors::CallError;
use crate::open_envelope::Caller;
use crate::oversight::maker_of;
use crate::transition::InHand;

impl Engine {
    /// What an agent's call would have led to, with its payloads in the commit; nothing where it would not wait for
    /// approval. Called on an engine whose EHR has what was made up.
    pub(crate) async fn rule_imagined(
        &self,
        canary: &CanaryDeclared,
        id: WritebackId,
        patient: PatientToken,
        sent: Map<String, Value>,
        commit: &mut Commit,
    ) -> Result<Option<Ruled>, CallError> {
        let declared = (
            self.bundle.agent(&canary.agent),
            self.bundle.intent(&canary.intent),
            self.bundle.tool(&canary.tool),
        );
        let (Some(agent), Some(intent), Some(tool)) = declared else {
            return Ok(None);
        };
        let Some(write) = &tool.write else {
            return Ok(None);
        };
        let now = self.now();
        let caller = Caller {
            envelope: Arc::new(Envelope {
                // It was made in nobody's envelope; the id leads nowhere.
                id: EnvelopeId::from_random(self.random.id()),
                tenant: self.config.tenant.clone(),
                agent: agent.id.clone(),
                intent: intent.id.clone(),
                grant: None,
                patient: Some(patient),
                encounter: None,
                presence: None,
                purpose: intent.purpose_of_use.clone(),
                bundle: *self.bundle.digest(),
                opened: now,
                expires: now,
            }),
        };
        let admitted = Admitted {
            caller: &caller,
            intent,
            tool,
            arguments: Arguments::check(tool, sent)?,
            policies: Vec::new(),
            correlation: self.correlation(),
            edited: None,
        };
        let inputs = self.gather(&admitted, write).await?;
        let mut parts = [self.part_of(&admitted, write, inputs, id)?];
        if !parts.iter().all(Part::is_valid) {
            return Ok(None);
        }
        self.judge_all(&mut parts).await;
        let findings = self
            .seal_findings(&admitted, &shown_of_all(&parts), commit)
            .await?;
        let [part] = &parts;
        let tainted = self.is_tainted(&admitted, &part.inputs);
        let class = PayloadClass::Transcript;
        let said =
            serde_json::to_vec(&admitted.arguments.raw).map_err(|_| CallError::internal())?;
        let own_key = [b"canary".as_slice(), id.to_string().as_bytes()].concat();
        let proposal = Proposal {
            id,
            envelope: caller.envelope.id,
            agent: agent.id.clone(),
            intent: intent.id.clone(),
            tool: tool.name.clone(),
            patient: Some(patient),
            requester: None,
            connection: self.ehr.connection().clone(),
            correlation: admitted.correlation,
            idempotency_key: self.keyed_digest(class, None, &[&own_key]).await?,
            request: self.keyed_digest(class, Some(patient), &[&said]).await?,
            payload: self.seal_request(&admitted, commit).await?,
            tainted,
            undo: None,
            maker: maker_of(agent, admitted.arguments.confidence),
            edit: None,
        };
        // In hand alone: none of these steps is recorded.
        let mut hand = InHand::propose(WritebackEvent::Proposed(Box::new(proposal)), id, now)
            .map_err(super::move_failed)?;
        self.decide_valid(&parts, MadeBy::Nobody, findings, &mut hand, commit)
            .await?;
        Ok(match &hand.state {
            Writeback::AwaitingApproval(waiting) => Some(waiting.ruled().clone()),
            _ => None,
        })
    }
}
