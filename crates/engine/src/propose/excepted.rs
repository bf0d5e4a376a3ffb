//! What the matrix refused, proposed once more under an exception: the same content, looked at again, with one fact
//! more. Who may ask for an exception, and grant one, is `crate::exception`'s business.
//!
//! Nothing of the refused proposal is taken on trust that could have changed: the bundle, the agent's registration and
//! agreements, the switches, the version on record, the patient, conformance and plausibility. What was seen at a
//! moment that has passed, such as a clinician's presence, counts as not seen. Consents are asked right before the
//! send, as for every other.

use chaperone_core::content::content_digest;
use chaperone_core::digest::{Digest, Salt};
use chaperone_core::evidence::{Ruling, WriteOrder};
use chaperone_core::facts::{FactKind, FactValue, Facts};
use chaperone_core::gate::GateLevel;
use chaperone_core::ids::{PersonId, WritebackId};
use chaperone_core::ports::{Commit, EhrReadFailed, KeyVaultFailed, PayloadClass, StoreFailed};
use chaperone_core::request::WriteRequest;
use chaperone_core::resource::{Interaction, ResourceType};
use chaperone_core::writeback::{Command, OrderRef, Proposal, Ruled, WritebackEvent};
use chaperone_phi::labels::Labels;
use serde_json::{Value, json};

use super::gather::Inputs;
use super::plausible::Shown;
use super::{BULK_LIMIT_REACHED, LEGAL_HOLD, change_of, conformant};
use crate::context::{Engine, after};
use crate::errors::CallError;
use crate::merge::{WRITEBACK_SYSTEM, instant};
use crate::observe::rests_on;
use crate::order::{ToSend, if_none_exist, order_bytes, patch_of, provenance_template, way_of};
use crate::tokens::TokenFailed;
use crate::transition::{InHand, MoveFailed};
use crate::vault::VaultFailed;

/// The fact that policy is told.
const EXCEPTION_GRANTED: &str = "exception_granted";
/// Facts of a moment: they were true of who was there then, and nobody sees them again here.
const OF_A_MOMENT: [&str; 9] = [
    // An exception is a person's; the agent's hour is not counted against it.
    BULK_LIMIT_REACHED,
    "clinician_present",
    "treatment_relationship",
    "portal_patient",
    "proxy_session",
    "patient_confirmed",
    "contact_code_confirmed",
    "encounter_open",
    "quiet_hours_ok",
];
/// What is confidential stays so.
const ADOLESCENT: &str = "adolescent_confidential";
/// What the plausibility rules say, gravest last.
const GRAVITY: [&str; 4] = ["clear", "warn", "two_person", "block"];

/// Why something is not proposed again under an exception.
#[derive(Debug, thiserror::Error)]
pub enum NotExcepted {
    /// The order cannot be opened any more, or does not say what policy was asked.
    #[error("what was proposed is not kept any more")]
    Gone,
    /// It makes several changes at once, and an exception is for one.
    #[error("an exception is for a single change; the agent can propose the changes one by one")]
    Several,
    /// Another bundle is in force.
    #[error("the rules changed since; the agent can propose it again")]
    RulesChanged,
    /// The agent may not do this any more.
    #[error("the agent is not registered for this any more, or an agreement behind it has ended")]
    AgentChanged,
    /// A switch stands against it.
    #[error("a switch stops decisions now")]
    Switched,
    /// Somebody changed the record since.
    #[error("somebody changed the record since; the agent can propose it again")]
    BaseChanged,
    /// The content is not valid any more.
    #[error("it is not valid any more")]
    NotValid,
    /// No exception lifts what stands against it.
    #[error("nothing can lift what stands against it ({0})")]
    Denied(String),
    /// The EHR did not answer.
    #[error("the EHR does not answer now: {0}")]
    Ehr(#[from] EhrReadFailed),
    /// A part of Chaperone failed.
    #[error("a part of Chaperone failed")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl NotExcepted {
    fn internal(failed: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        NotExcepted::Internal(failed.into())
    }
}

impl From<StoreFailed> for NotExcepted {
    fn from(failed: StoreFailed) -> Self {
        NotExcepted::internal(failed)
    }
}

impl From<KeyVaultFailed> for NotExcepted {
    fn from(failed: KeyVaultFailed) -> Self {
        NotExcepted::internal(failed)
    }
}

impl From<VaultFailed> for NotExcepted {
    fn from(failed: VaultFailed) -> Self {
        match failed {
            VaultFailed::Store(failed) => failed.into(),
            _ => NotExcepted::Gone,
        }
    }
}

impl From<TokenFailed> for NotExcepted {
    fn from(failed: TokenFailed) -> Self {
        NotExcepted::internal(failed)
    }
}

impl From<MoveFailed> for NotExcepted {
    fn from(failed: MoveFailed) -> Self {
        NotExcepted::internal(failed)
    }
}

impl From<CallError> for NotExcepted {
    fn from(failed: CallError) -> Self {
        NotExcepted::internal(failed)
    }
}

/// The refused order, opened, and what policy was asked about it.
struct Refused {
    order: WriteOrder,
    asked: WriteRequest,
}

impl Engine {
    /// Whether an exception would get it as far as two people, as things stood when it was refused.
    pub(crate) async fn would_be_excepted(&self, ruled: &Ruled) -> Result<(), NotExcepted> {
        let Refused { asked, .. } = self.refused_order(ruled).await?;
        let facts = lasting(&asked.facts);
        self.rule_excepted(WriteRequest { facts, ..asked })
            .map(|_| ())
    }

    /// Puts it into a commit once more, as a write-back of its own that waits for its two people.
    pub(crate) async fn propose_excepted(
        &self,
        ruled: &Ruled,
        requester: PersonId,
        reason: &str,
        commit: &mut Commit,
    ) -> Result<InHand, NotExcepted> {
        let now = commit.at;
        let Refused { order, asked } = self.refused_order(ruled).await?;
        self.check_agent(ruled).await?;
        let tool = self.bundle.tool(&ruled.proposal.tool);
        let write = tool
            .and_then(|tool| tool.write.as_ref())
            .ok_or(NotExcepted::AgentChanged)?;
        let id = WritebackId::from_random(self.random.id());
        let resource = renamed(&order, id)?;
        let inputs = self.inputs_again(ruled, &order).await?;
        let change = change_of(write, inputs.base.as_ref(), &resource)?;
        if change != asked.change {
            return Err(NotExcepted::BaseChanged);
        }
        let body = serde_json::to_string(&resource).map_err(NotExcepted::internal)?;
        let mut salt = [0; 32];
        self.random.fill(&mut salt);
        let salt = Salt::from_random(salt);
        let (mut validation, findings) =
            self.validate(write, &salt, &body, &resource, &change, &inputs);
        if findings.iter().any(|it| it.severity.is_error()) {
            return Err(NotExcepted::NotValid);
        }
        let judged = self.judge(write, &inputs, &resource, &[]).await;
        judged.note_in(&mut validation);
        let mut shown: Vec<Shown> = findings.into_iter().map(Shown::from).collect();
        shown.extend(judged.shown.iter().cloned());
        let patient = ruled.proposal.patient;
        if !shown.is_empty() {
            let bytes = serde_json::to_vec(&shown).map_err(NotExcepted::internal)?;
            let sealed = self.seal(PayloadClass::Derived, patient, &bytes).await?;
            validation.findings = Some(sealed.address);
            commit.payloads.push(sealed);
        }
        let mut facts = self.facts_again(&asked.facts, &inputs, &resource, judged.plausible.word());
        let is_held = self.is_held(patient).await?;
        facts.observe(LEGAL_HOLD, FactValue::Bool(is_held));
        let (asked, ruling) = self.rule_excepted(WriteRequest { facts, ..asked })?;

        let proposal = self
            .excepted_proposal(ruled, requester, reason, id, commit)
            .await?;
        let mut hand = InHand::propose(WritebackEvent::Proposed(Box::new(proposal)), id, now)?;
        let attested = conformant(validation.clone());
        hand.step(
            Command::Validate {
                conformant: &attested,
                change,
                entries: Vec::new(),
            },
            now,
        )?;
        let class = ruling.record().class;
        let order = WriteOrder {
            salt,
            writeback: id,
            body,
            validation,
            asked: Some(Box::new(asked)),
            ..order
        };
        let order = self.excepted_order(order, &ruling, reason).await?;
        let (bytes, digest) = order_bytes(&order).map_err(NotExcepted::internal)?;
        let sealed = self.seal(PayloadClass::Clinical, patient, &bytes).await?;
        let reference = OrderRef {
            digest,
            address: sealed.address,
            strategy: order.strategy,
            approve_by: after(now, self.config.approve_within_s(class)),
            deliver_within_s: self.config.deliver_within_s(class),
        };
        commit.payloads.push(sealed);
        hand.step(
            Command::Rule {
                ruling: &ruling,
                order: reference,
            },
            now,
        )?;
        self.enqueue(&hand, commit);
        hand.write_into(commit)?;
        Ok(hand)
    }

    async fn refused_order(&self, ruled: &Ruled) -> Result<Refused, NotExcepted> {
        let bytes = self.unseal(&ruled.order.address).await?;
        if Digest::of_bytes(&bytes) != ruled.order.digest {
            return Err(NotExcepted::internal("a stored order is not its digest's"));
        }
        let order: WriteOrder = serde_json::from_slice(&bytes).map_err(NotExcepted::internal)?;
        if order.is_together() {
            return Err(NotExcepted::Several);
        }
        let asked = order.asked.clone().ok_or(NotExcepted::Gone)?;
        if order.bundle != *self.bundle.digest() || asked.bundle != order.bundle {
            return Err(NotExcepted::RulesChanged);
        }
        Ok(Refused {
            order,
            asked: *asked,
        })
    }

    /// Asks policy with the exception. An exception that led to less than two people would be a fault of the bundle,
    /// and is refused here too.
    fn rule_excepted(&self, asked: WriteRequest) -> Result<(WriteRequest, Ruling), NotExcepted> {
        let mut asked = asked;
        asked
            .facts
            .observe(EXCEPTION_GRANTED, FactValue::Bool(true));
        let ruling = self.bundle.rule(&asked).map_err(NotExcepted::internal)?;
        let record = ruling.record();
        if record.gate.level() != GateLevel::TwoPerson {
            let code = record.denial.as_deref().unwrap_or("too-weak");
            return Err(NotExcepted::Denied(code.to_owned()));
        }
        Ok((asked, ruling))
    }

    /// Whether the agent could still propose it: registered for the intent, agreements in force, no switch against it.
    async fn check_agent(&self, ruled: &Ruled) -> Result<(), NotExcepted> {
        let proposal = &ruled.proposal;
        let agent = self
            .bundle
            .agent(&proposal.agent)
            .filter(|agent| agent.intents.contains(&proposal.intent))
            .ok_or(NotExcepted::AgentChanged)?;
        self.check_standing(agent, self.now())
            .map_err(|_lapsed| NotExcepted::AgentChanged)?;
        match self.takes_decisions(ruled).await? {
            (true, _) => Ok(()),
            (false, _) => Err(NotExcepted::Switched),
        }
    }

    /// The patient and the version on record, as the EHR has them now.
    async fn inputs_again(&self, ruled: &Ruled, order: &WriteOrder) -> Result<Inputs, NotExcepted> {
        let patient_id = match ruled.proposal.patient {
            Some(token) => Some(self.patient_id(token).await?),
            None => None,
        };
        let patient = match &patient_id {
            Some(id) => {
                let kind = ResourceType::new("Patient").map_err(NotExcepted::internal)?;
                Some(self.ehr.read(&kind, id).await?)
            }
            None => None,
        };
        let base = match order.interaction {
            Interaction::Create => None,
            Interaction::Update | Interaction::Delete => {
                let id = order.path.rsplit('/').next().unwrap_or_default();
                let now = match self.ehr.read(&order.resource, id).await {
                    Ok(now) => now,
                    Err(EhrReadFailed::NotFound) => return Err(NotExcepted::BaseChanged),
                    Err(failed) => return Err(failed.into()),
                };
                let version = now.pointer("/meta/versionId").and_then(Value::as_str);
                let is_same = order.base_digest == Some(content_digest(&now))
                    && order.base_version.as_deref() == version;
                if !is_same {
                    return Err(NotExcepted::BaseChanged);
                }
                Some(now)
            }
        };
        Ok(Inputs {
            targets: Default::default(),
            resources: Default::default(),
            sources: Vec::new(),
            base,
            patient_id,
            patient,
            encounter: None,
            resembles: order.resembles.clone(),
        })
    }

    /// What is known now: what the content and the tables say stays, what is seen again is seen again, and what the
    /// rules found counts by its graver reading, since less is at hand for them here than there was then.
    fn facts_again(&self, then: &Facts, inputs: &Inputs, resource: &Value, word: &str) -> Facts {
        let mut facts = lasting(then);
        if let Some(patient) = &inputs.patient {
            self.observe_patient(patient, &mut facts);
            // What was gathered then is not at hand any more: what it said stays.
            let was = facts
                .get(ADOLESCENT)
                .is_some_and(|it| it.value == FactValue::Bool(true));
            let touched = inputs.base.iter().chain([resource]);
            self.observe_confidential(patient, touched, &mut facts);
            if was {
                facts.observe(ADOLESCENT, FactValue::Bool(true));
            }
        }
        let is_restricted = |resource: &Value| Labels::of(resource).restriction().is_some();
        if is_restricted(resource) || inputs.base.as_ref().is_some_and(is_restricted) {
            facts.observe("restricted_label", FactValue::Bool(true));
        }
        let gravity = |word: &str| GRAVITY.iter().position(|it| *it == word);
        let before = match then.get("plausibility").map(|fact| &fact.value) {
            Some(FactValue::Text(before)) => before.as_str(),
            _ => "clear",
        };
        // A word that is not known is the gravest.
        let graver = match (gravity(before), gravity(word)) {
            (Some(before), Some(now)) => GRAVITY.get(before.max(now)).copied(),
            _ => None,
        };
        let graver = graver.unwrap_or("block").to_owned();
        facts.observe("plausibility", FactValue::Text(graver));
        facts
    }

    async fn excepted_proposal(
        &self,
        ruled: &Ruled,
        requester: PersonId,
        reason: &str,
        id: WritebackId,
        commit: &mut Commit,
    ) -> Result<Proposal, NotExcepted> {
        let before = &ruled.proposal;
        let class = PayloadClass::Transcript;
        let said = self.unseal(&before.payload).await?;
        let mut said: Value = serde_json::from_slice(&said).map_err(NotExcepted::internal)?;
        if let Some(object) = said.as_object_mut() {
            let own = object.get("rationale").and_then(Value::as_str);
            let own = own.unwrap_or("nothing");
            let rationale = format!(
                "By exception from the matrix, which refused {}. A person asked for it: {reason} \
                 The agent had said: {own}",
                before.id
            );
            object.insert("rationale".to_owned(), json!(rationale));
        }
        let said = serde_json::to_vec(&said).map_err(NotExcepted::internal)?;
        let sealed = self.seal(class, before.patient, &said).await?;
        let payload = sealed.address;
        commit.payloads.push(sealed);
        let own_key = [b"exception".as_slice(), &id.to_string().into_bytes()].concat();
        Ok(Proposal {
            id,
            requester: Some(requester),
            connection: self.ehr.connection().clone(),
            correlation: self.correlation(),
            idempotency_key: self.keyed_digest(class, None, &[&own_key]).await?,
            request: self.keyed_digest(class, before.patient, &[&said]).await?,
            payload,
            undo: None,
            ..before.clone()
        })
    }

    /// The order with what follows from the new ruling.
    async fn excepted_order(
        &self,
        order: WriteOrder,
        ruling: &Ruling,
        reason: &str,
    ) -> Result<WriteOrder, NotExcepted> {
        let record = ruling.record();
        let profile = self.delivery_profile().await?;
        let support = profile.of(&order.resource, order.interaction);
        let sent = ToSend {
            resource: &order.resource,
            interaction: order.interaction,
            body: &order.body,
            base: order.base.as_deref(),
        };
        let way = way_of(&support, record, &order.validation, &sent);
        let strategy = way.strategy;
        let is_conditional = strategy == chaperone_core::evidence::Strategy::Conditional;
        let is_create = order.interaction == Interaction::Create;
        let as_patch = is_conditional && support.patch;
        let patch = as_patch.then(|| patch_of(&sent)).flatten();
        let recorded = instant(self.now());
        let provenance = support.provenance.then(|| {
            let edit = order.edit.as_ref();
            provenance_template(&order.author, edit, order.interaction, record, &recorded)
                .to_string()
        });
        let mut evidence = order.evidence.clone();
        evidence.push(Digest::of_bytes(reason.as_bytes()));
        let rests_on = order.asked.as_ref().map(|asked| rests_on(&asked.facts));
        Ok(WriteOrder {
            connection: self.ehr.connection().clone(),
            endpoint: self.ehr.endpoint().to_owned(),
            if_none_exist: (is_conditional && is_create)
                .then(|| if_none_exist(&order.writeback.to_string())),
            if_match: match (is_conditional, is_create, &order.base_version) {
                (true, false, Some(version)) => Some(format!("W/\"{version}\"")),
                _ => None,
            },
            provenance,
            strategy,
            operation: way.operation,
            signed_form: way.signed_form,
            patch,
            gate: record.gate.clone(),
            class: record.class,
            bundle: record.bundle,
            evidence,
            rests_on: rests_on.unwrap_or_default(),
            ..order
        })
    }
}

/// Facts without those of a moment. Claims stay: they only raise.
fn lasting(facts: &Facts) -> Facts {
    let mut kept = Facts::default();
    for (name, fact) in facts.iter() {
        let has_passed = fact.kind != FactKind::Claimed && OF_A_MOMENT.contains(&name);
        if !has_passed {
            kept.add(name, fact.clone());
        }
    }
    kept
}

/// The content under the id of the new write-back, which is the one thing of it that changes.
fn renamed(order: &WriteOrder, id: WritebackId) -> Result<Value, NotExcepted> {
    let mut resource: Value = serde_json::from_str(&order.body).map_err(NotExcepted::internal)?;
    let old = json!({ "system": WRITEBACK_SYSTEM, "value": order.writeback.to_string() });
    let identifiers = resource.get_mut("identifier").and_then(Value::as_array_mut);
    for identifier in identifiers.into_iter().flatten() {
        if *identifier == old {
            *identifier = json!({ "system": WRITEBACK_SYSTEM, "value": id.to_string() });
        }
    }
    Ok(resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_true_of_a_moment_is_not_true_for_ever() {
        let mut facts = Facts::default();
        facts.observe("clinician_present", FactValue::Bool(true));
        facts.observe("medication_controlled", FactValue::Bool(true));
        facts.claim("patient_confirmed", FactValue::Bool(true));
        let kept = lasting(&facts);
        assert!(kept.get("clinician_present").is_none());
        assert!(kept.is_established("medication_controlled"));
        assert!(kept.get("patient_confirmed").is_some());
    }
}
