//! The order of a proposal: every part as it will be sent, with everything that was agreed to beside it.

use chaperone_core::digest::Digest;
use chaperone_core::edit::CallKept;
use chaperone_core::evidence::{AgentVersion, Resemblance, Ruling, ValidationRecord, WriteOrder};
use chaperone_core::request::WriteRequest;

use super::part::Part;
use crate::call::Admitted;
use crate::context::Engine;
use crate::errors::CallError;
use crate::merge::instant;
use crate::order::{ChangeSent, OrderHead, order_of, provenance_template, with_patient};
use crate::transition::InHand;

impl Engine {
    pub(super) async fn make_order(
        &self,
        parts: &[Part<'_>],
        validation: ValidationRecord,
        ruling: &Ruling,
        asked: &[WriteRequest],
        hand: &InHand,
    ) -> Result<WriteOrder, CallError> {
        let part = parts.first().ok_or_else(CallError::internal)?;
        let admitted = part.admitted();
        let envelope = &admitted.caller.envelope;
        let record = ruling.record();
        let profile = self.delivery_profile().await?;
        let author = self.author(admitted)?;
        let edit = admitted.edited.as_ref().map(|edited| &edited.link);
        let recorded = instant(self.now());
        let sent = |(part, asked)| {
            let part: &Part<'_> = part;
            let made =
                provenance_template(&author, edit, part.write.interaction, record, &recorded);
            ChangeSent {
                write: part.write,
                base: part.inputs.base.as_ref(),
                body: &part.merged.body,
                provenance: match &part.inputs.patient_id {
                    Some(patient) => with_patient(made, record, patient),
                    None => made,
                },
                asked,
            }
        };
        let changes = parts.iter().zip(asked).map(sent).collect();
        let head = OrderHead {
            salt: part.merged.salt,
            tenant: self.config.tenant.clone(),
            writeback: hand.id,
            patient: envelope.patient,
            connection: self.ehr.connection().clone(),
            endpoint: self.ehr.endpoint().to_owned(),
            validation,
            author: author.clone(),
        };
        let order = order_of(head, changes, record, &profile).map_err(|at| match parts.len() {
            1 => CallError::invalid_proposal(),
            // They are whole and valid: it is the EHR that takes them in no such way.
            several => CallError::not_together().of_change(at, several),
        })?;
        Ok(WriteOrder {
            evidence: evidence_digests(admitted),
            resembles: resembles(parts),
            // What a person changes is one call; several that belong together are proposed anew.
            call: (parts.len() == 1).then(|| {
                Box::new(CallKept {
                    inputs: admitted.arguments.inputs.clone(),
                    encounter: envelope.encounter,
                    purpose: envelope.purpose.clone(),
                })
            }),
            edit: edit.cloned(),
            ..order
        })
    }

    fn author(&self, admitted: &Admitted<'_>) -> Result<AgentVersion, CallError> {
        let agent = self
            .bundle
            .agent(&admitted.caller.envelope.agent)
            .ok_or_else(CallError::agent_refused)?;
        Ok(AgentVersion {
            agent: agent.id.clone(),
            version: agent.version.clone(),
            model: agent.model.clone(),
            prompts: agent.prompts.clone(),
        })
    }
}

fn evidence_digests(admitted: &Admitted<'_>) -> Vec<Digest> {
    let rationale = admitted
        .arguments
        .rationale
        .iter()
        .map(|text| Digest::of_bytes(text.as_bytes()));
    let sources = admitted
        .arguments
        .sources
        .iter()
        .map(|token| Digest::of_bytes(token.to_string().as_bytes()));
    rationale.chain(sources).collect()
}

/// Where texts that agents were shown say what any of the parts says, each once.
fn resembles(parts: &[Part<'_>]) -> Vec<Resemblance> {
    let mut all: Vec<Resemblance> = Vec::new();
    for one in parts.iter().flat_map(|part| &part.inputs.resembles) {
        if !all.contains(one) {
            all.push(one.clone());
        }
    }
    all
}
