//! The order of a proposal: every part as it will be sent, with everything that was agreed to beside it.

use chaperone_core::content::content_digest;
use chaperone_core::digest::Digest;
use chaperone_core::edit::CallKept;
use chaperone_core::evidence::{
    AgentVersion, Resemblance, Ruling, Strategy, ValidationRecord, WriteOrder,
};
use chaperone_core::ports::DeliveryProfile;
use chaperone_core::request::WriteRequest;
use chaperone_core::resource::Interaction;
use chaperone_core::together::OrderEntry;
use serde_json::Value;

use super::part::Part;
use crate::call::Admitted;
use crate::context::Engine;
use crate::errors::CallError;
use crate::merge::{business_identifier, instant};
use crate::observe::rests_on;
use crate::order::{ToSend, Way, if_none_exist, patch_of, provenance_template, way_of};
use crate::transition::InHand;

/// How one part is sent.
struct Sent {
    path: String,
    if_none_exist: Option<String>,
    if_match: Option<String>,
    base_version: Option<String>,
    base_digest: Option<Digest>,
    base: Option<String>,
    patch: Option<String>,
    provenance: Option<String>,
}

impl Engine {
    pub(super) async fn make_order(
        &self,
        parts: &[Part<'_>],
        validation: ValidationRecord,
        ruling: &Ruling,
        asked: &[WriteRequest],
        hand: &InHand,
    ) -> Result<WriteOrder, CallError> {
        let (Some((part, others)), Some((own, _))) = (parts.split_first(), asked.split_first())
        else {
            return Err(CallError::internal());
        };
        let (admitted, write, merged) = (part.admitted(), part.write, &part.merged);
        let envelope = &admitted.caller.envelope;
        let record = ruling.record();
        let profile = self.delivery_profile().await?;
        let way = if others.is_empty() {
            let support = profile.of(&write.resource, write.interaction);
            let base = part.inputs.base.as_ref().map(Value::to_string);
            way_of(
                &support,
                record,
                &validation,
                to_send(part, base.as_deref()),
            )
        } else {
            Way::as_transaction()
        };
        let author = self.author(admitted)?;
        let sent = |at: usize, part: &Part<'_>| {
            self.as_sent(part, (hand.id, at), way.strategy, &profile, &author, ruling)
        };
        let first = sent(0, part)?;
        let mut also = Vec::with_capacity(others.len());
        for ((at, part), asked) in (1_usize..).zip(others).zip(asked.iter().skip(1)) {
            let sent = sent(at, part)?;
            also.push(OrderEntry {
                interaction: part.write.interaction,
                resource: part.write.resource.clone(),
                path: sent.path,
                if_none_exist: sent.if_none_exist,
                if_match: sent.if_match,
                base_version: sent.base_version,
                base_digest: sent.base_digest,
                base: sent.base,
                body: part.merged.body.clone(),
                patch: sent.patch,
                provenance: sent.provenance,
                rests_on: rests_on(&asked.facts),
                asked: Box::new(asked.clone()),
            });
        }
        Ok(WriteOrder {
            salt: merged.salt,
            tenant: self.config.tenant.clone(),
            writeback: hand.id,
            patient: envelope.patient,
            connection: self.ehr.connection().clone(),
            endpoint: self.ehr.endpoint().to_owned(),
            interaction: write.interaction,
            resource: write.resource.clone(),
            path: first.path,
            if_none_exist: first.if_none_exist,
            if_match: first.if_match,
            base_version: first.base_version,
            base_digest: first.base_digest,
            base: first.base,
            body: merged.body.clone(),
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
            rests_on: rests_on(&own.facts),
            resembles: resembles(parts),
            asked: Some(Box::new(own.clone())),
            // What a person changes is one call; several that belong together are proposed anew.
            call: others.is_empty().then(|| {
                Box::new(CallKept {
                    inputs: admitted.arguments.inputs.clone(),
                    encounter: envelope.encounter,
                    purpose: envelope.purpose.clone(),
                })
            }),
            edit: admitted.edited.as_ref().map(|edited| edited.link.clone()),
            also,
        })
    }

    fn as_sent(
        &self,
        part: &Part<'_>,
        (id, at): (chaperone_core::ids::WritebackId, usize),
        strategy: Strategy,
        profile: &DeliveryProfile,
        author: &AgentVersion,
        ruling: &Ruling,
    ) -> Result<Sent, CallError> {
        let (write, base) = (part.write, part.inputs.base.as_ref());
        let base_text = |pointer: &str| base?.pointer(pointer)?.as_str();
        let base_version = base_text("/meta/versionId").map(str::to_owned);
        let path = match (write.interaction, base_text("/id")) {
            (Interaction::Create, _) => write.resource.to_string(),
            (_, Some(base_id)) => format!("{}/{base_id}", write.resource),
            (_, None) => return Err(CallError::invalid_proposal()),
        };
        let is_conditional = strategy == Strategy::Conditional;
        let is_create = write.interaction == Interaction::Create;
        let support = profile.of(&write.resource, write.interaction);
        let edit = part.admitted().edited.as_ref().map(|edited| &edited.link);
        let provenance = support.provenance.then(|| {
            let recorded = instant(self.now());
            provenance_template(author, edit, write.interaction, ruling.record(), &recorded)
                .to_string()
        });
        let kept = base.map(Value::to_string);
        let patch = if is_conditional && support.patch {
            let patch = patch_of(&to_send(part, kept.as_deref()));
            // Alone it would be a person's to enter; together with others there is no other way.
            Some(patch.ok_or_else(CallError::not_together)?)
        } else {
            None
        };
        Ok(Sent {
            path,
            if_none_exist: (is_conditional && is_create)
                .then(|| if_none_exist(&business_identifier(id, at))),
            if_match: match (is_conditional, is_create, &base_version) {
                (true, false, Some(version)) => Some(format!("W/\"{version}\"")),
                _ => None,
            },
            base_version,
            base_digest: base.map(content_digest),
            base: kept,
            patch,
            provenance,
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

fn to_send<'a>(part: &'a Part<'_>, base: Option<&'a str>) -> ToSend<'a> {
    ToSend {
        resource: &part.write.resource,
        interaction: part.write.interaction,
        body: &part.merged.body,
        base,
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
