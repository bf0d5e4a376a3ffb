//! The order of a proposal: every part as it will be sent, with everything that was agreed to beside it.

use chaperone_core::digest::Digest;
use chaperone_core::edit::CallKept;
use chaperone_core::evidence::{AgentVersion, Resemblance, Ruling, ValidationRecord, WriteOrder};
use chaperone_core::gate::Gate;
use chaperone_core::request::WriteRequest;
use serde_json::Value;

use super::part::Part;
use crate::call::Admitted;
use crate::context::Engine;
use crate::errors::CallError;
use crate::merge::instant;
use crate::order::{ChangeSent, ToSend, Way, provenance_template, sent_as, way_of, with_patient};
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
        let (part, others) = parts.split_first().ok_or_else(CallError::internal)?;
        let (admitted, write, merged) = (part.admitted(), part.write, &part.merged);
        let envelope = &admitted.caller.envelope;
        let record = ruling.record();
        let profile = self.delivery_profile().await?;
        let way = if others.is_empty() {
            let support = profile.of(&write.resource, write.interaction);
            let base = part.inputs.base.as_ref().map(Value::to_string);
            let sent = ToSend {
                resource: &write.resource,
                interaction: write.interaction,
                body: &merged.body,
                base: base.as_deref(),
            };
            way_of(&support, record, &validation, &sent)
        } else {
            Way::as_transaction()
        };
        let author = self.author(admitted)?;
        let edit = admitted.edited.as_ref().map(|edited| &edited.link);
        let recorded = instant(self.now());
        let sent = |at: usize, part: &Part<'_>, asked: &WriteRequest| {
            let write = part.write;
            let support = profile.of(&write.resource, write.interaction);
            let provenance = support.provenance.then(|| {
                let made = provenance_template(&author, edit, write.interaction, record, &recorded);
                match &part.inputs.patient_id {
                    Some(patient) => with_patient(made, record, patient),
                    None => made,
                }
                .to_string()
            });
            let change = ChangeSent {
                id: hand.id,
                at,
                write,
                base: part.inputs.base.as_ref(),
                body: &part.merged.body,
                // What is refused is kept as it was proposed; nothing of it travels.
                as_patch: support.patch && record.gate != Gate::Deny,
            };
            sent_as(&change, way.strategy, provenance, asked)
                .ok_or_else(CallError::invalid_proposal)
        };
        let mut sent_all = Vec::with_capacity(parts.len());
        for (at, (part, asked)) in parts.iter().zip(asked).enumerate() {
            sent_all.push(sent(at, part, asked)?);
        }
        let mut also = sent_all.into_iter();
        let first = also.next().ok_or_else(CallError::internal)?;
        Ok(WriteOrder {
            salt: merged.salt,
            tenant: self.config.tenant.clone(),
            writeback: hand.id,
            patient: envelope.patient,
            connection: self.ehr.connection().clone(),
            endpoint: self.ehr.endpoint().to_owned(),
            interaction: first.interaction,
            resource: first.resource,
            path: first.path,
            if_none_exist: first.if_none_exist,
            if_match: first.if_match,
            base_version: first.base_version,
            base_digest: first.base_digest,
            base: first.base,
            body: first.body,
            patch: first.patch,
            provenance: first.provenance,
            strategy: way.strategy,
            operation: way.operation,
            signed_form: way.signed_form,
            gate: record.gate.clone(),
            class: record.class,
            bundle: record.bundle,
            validation,
            author,
            evidence: evidence_digests(admitted),
            rests_on: first.rests_on,
            resembles: resembles(parts),
            asked: Some(first.asked),
            // What a person changes is one call; several that belong together are proposed anew.
            call: others.is_empty().then(|| {
                Box::new(CallKept {
                    inputs: admitted.arguments.inputs.clone(),
                    encounter: envelope.encounter,
                    purpose: envelope.purpose.clone(),
                })
            }),
            edit: admitted.edited.as_ref().map(|edited| edited.link.clone()),
            also: also.collect(),
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
