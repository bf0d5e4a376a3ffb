//! A tool call: find the tool in the envelope, ask policy, check the arguments, do it.

use chaperone_core::bundle::{InputType, IntentDeclaration, ToolAction, ToolDeclaration};
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::{CorrelationId, PolicyId, ToolName, WritebackId};
use chaperone_core::mode::{Mode, ModeSubject};
use chaperone_core::request::{AccessDecision, AccessRequest};
use chaperone_core::resource::ResourceType;
use chaperone_core::signed_form::SignedForm;
use serde_json::{Map, Value, json};

use crate::arguments::{Arguments, input_schema};
use crate::context::Engine;
use crate::edit::Edited;
use crate::errors::CallError;
use crate::open_envelope::Caller;
use crate::projection::{BY_STATE, row_of};

/// A tool as agents see it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolDescription {
    /// Its name.
    pub name: ToolName,
    /// What it does.
    pub description: String,
    /// JSON Schema of its arguments.
    pub input_schema: Value,
    /// Whether it changes nothing.
    pub read_only: bool,
}

/// What a tool call has passed when it reaches its tool.
pub(crate) struct Admitted<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) intent: &'a IntentDeclaration,
    pub(crate) tool: &'a ToolDeclaration,
    pub(crate) arguments: Arguments,
    pub(crate) policies: Vec<PolicyId>,
    pub(crate) correlation: CorrelationId,
    /// For what a person makes of another proposal.
    pub(crate) edited: Option<Edited>,
}

impl Engine {
    /// The tools of the caller's envelope, and no others.
    pub fn tools(&self, caller: &Caller) -> Vec<ToolDescription> {
        let Some(intent) = self.bundle.intent(&caller.envelope.intent) else {
            return Vec::new();
        };
        intent
            .tools
            .iter()
            .filter_map(|name| self.bundle.tool(name))
            .map(|tool| describe(tool, Some(&intent.tools)))
            .collect()
    }

    /// Every tool of the bundle, for the OpenAPI document.
    pub fn all_tools(&self) -> Vec<ToolDescription> {
        let tools = self.bundle.tools();
        tools.map(|tool| describe(tool, None)).collect()
    }

    /// Calls a tool. Every refusal is recorded with the correlation id.
    ///
    /// # Errors
    /// [`CallError`], with advice on how to go on.
    pub async fn call(
        &self,
        caller: &Caller,
        tool: &str,
        arguments: Map<String, Value>,
        correlation: CorrelationId,
    ) -> Result<Value, CallError> {
        // A name that is no tool of ours is not repeated anywhere.
        let known = ToolName::new(tool)
            .ok()
            .filter(|name| self.bundle.tool(name).is_some());
        match self.try_call(caller, tool, arguments, correlation).await {
            Ok(answer) => {
                metrics::counter!("chaperone_calls_total").increment(1);
                Ok(answer)
            }
            Err(error) => Err(self
                .record_refusal(Some(caller), None, known, error, correlation)
                .await),
        }
    }

    async fn try_call(
        &self,
        caller: &Caller,
        tool: &str,
        arguments: Map<String, Value>,
        correlation: CorrelationId,
    ) -> Result<Value, CallError> {
        let envelope = &caller.envelope;
        if !envelope.is_open(self.now()) {
            return Err(CallError::expired_token());
        }
        // The scopes that are fixed in code have no tools.
        let intent = self
            .bundle
            .intent(&envelope.intent)
            .ok_or_else(CallError::unknown_tool)?;
        let name = ToolName::new(tool).map_err(|_| CallError::unknown_tool())?;
        let tool = Some(&name)
            .filter(|name| intent.tools.contains(name))
            .and_then(|name| self.bundle.tool(name))
            .ok_or_else(CallError::unknown_tool)?;
        let action = tool.action().ok_or_else(CallError::unknown_tool)?;
        let resource = resource_of(action)?;
        let mode = self.check_mode(caller, resource.as_ref()).await?;
        let policies = self.check_access(caller, intent, tool, resource, mode)?;
        let arguments = Arguments::check(tool, arguments)?;
        let admitted = Admitted {
            caller,
            intent,
            tool,
            arguments,
            policies,
            correlation,
            edited: None,
        };
        match action {
            ToolAction::Read(read) => self.read(&admitted, read).await,
            ToolAction::Write(write) => self.propose(&admitted, write).await,
            ToolAction::Together(of) => self.propose_together(&admitted, of).await,
            ToolAction::Status => self.proposal_status(&admitted).await,
            ToolAction::Templates => self.told_note_templates(),
        }
    }

    pub(crate) async fn check_mode(
        &self,
        caller: &Caller,
        resource: Option<&ResourceType>,
    ) -> Result<Mode, CallError> {
        let mode = self
            .mode_of(ModeSubject {
                agent: Some(&caller.envelope.agent),
                intent: Some(&caller.envelope.intent),
                resource,
                ehr: Some(self.ehr.connection()),
            })
            .await?;
        match mode.calls() {
            true => Ok(mode),
            false => Err(CallError::halted()),
        }
    }

    pub(crate) fn check_access(
        &self,
        caller: &Caller,
        intent: &IntentDeclaration,
        tool: &ToolDeclaration,
        resource: Option<ResourceType>,
        mode: Mode,
    ) -> Result<Vec<PolicyId>, CallError> {
        let envelope = &caller.envelope;
        let agent = self
            .bundle
            .agent(&envelope.agent)
            .ok_or_else(CallError::agent_refused)?;
        let now = self.now();
        let decision = self.bundle.permit_access(&AccessRequest {
            agent: agent.id.clone(),
            agent_intents: agent.intents.clone(),
            intent: intent.id.clone(),
            intent_tools: intent.tools.clone(),
            binding: intent.patient,
            patient_bound: envelope.patient.is_some(),
            purpose: envelope.purpose.clone(),
            tool: tool.name.clone(),
            resource,
            write: tool.proposes(),
            connection: self.ehr.connection().clone(),
            environment: self.ehr.environment(),
            presence_live: intent
                .presence
                .then(|| envelope.presence.as_ref().is_some_and(|p| now < p.until)),
            agreements_in_force: !agent.providers.is_empty()
                && agent
                    .providers
                    .iter()
                    .all(|provider| now < provider.baa_expires),
            mode,
        });
        match decision {
            AccessDecision::Permit { policies } => Ok(policies),
            AccessDecision::Deny { code, .. } if code == "policy-error" => {
                Err(CallError::denied()
                    .saying("policy could not be evaluated, so nothing is allowed"))
            }
            AccessDecision::Deny { .. } => Err(CallError::denied()),
        }
    }

    /// Where one of the agent's own proposals stands; no PHI.
    async fn proposal_status(&self, admitted: &Admitted<'_>) -> Result<Value, CallError> {
        let id: WritebackId = admitted
            .arguments
            .text("proposal")
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| CallError::not_found().about("proposal"))?;
        let key = chaperone_core::ports::RecordKey::new(BY_STATE, id);
        let record = self
            .store
            .projection(&self.config.tenant, &key)
            .await?
            .ok_or_else(|| CallError::not_found().about("proposal"))?;
        let row = row_of(&record)?;
        if row.agent != admitted.caller.envelope.agent {
            return Err(CallError::not_found().about("proposal"));
        }
        Ok(proposal_answer(&row))
    }
}

/// The gate as agents are told it: that people decide, not how many of them with what. How far a gate is
/// raised can rest on the record (an allergy, a death), which is none of the agent's business (invariant 10).
pub(crate) fn told_gate(level: chaperone_core::gate::GateLevel) -> chaperone_core::gate::GateLevel {
    use chaperone_core::gate::GateLevel as L;
    match level {
        L::Auto | L::AutoVerified | L::Deny => level,
        L::Approve | L::Approve2f | L::TwoPerson => L::Approve,
    }
}

/// The state as agents are told it. One person's approval may be a signature in the EHR, and that of two is always
/// given here: said apart, the two would tell how far the gate was raised.
fn told_state(row: &crate::projection::WritebackRow) -> chaperone_core::writeback::StateName {
    use chaperone_core::writeback::StateName as S;
    let is_signed_somewhere = row
        .resource
        .as_ref()
        .is_some_and(|resource| SignedForm::of(resource).is_some());
    match (row.state, row.strategy) {
        (S::Ready | S::Delivering | S::AwaitingSignature, Some(Strategy::EhrStaged)) => {
            S::AwaitingApproval
        }
        // What one signature cannot decide is entered by hand after people agreed here.
        (S::Ready | S::Delivering, Some(Strategy::HumanEntry)) if is_signed_somewhere => {
            S::AwaitingApproval
        }
        // Not signed, or not as it was placed: nobody agreed.
        (S::Void, Some(Strategy::EhrStaged)) if row.void.is_some_and(nobody_agreed) => S::Refused,
        (state, _) => state,
    }
}

fn nobody_agreed(void: chaperone_core::writeback::VoidReason) -> bool {
    use chaperone_core::writeback::VoidReason as V;
    match void {
        V::NotSigned | V::ChangedBeforeSigning | V::SignerNotPermitted | V::DeclinedAtEhr => true,
        V::Stale | V::Consent | V::DeliverBy | V::DigestMismatch | V::AuthorityChanged => false,
    }
}

/// What agents are told about a proposal: state and gate, nothing from the record.
pub(crate) fn proposal_answer(row: &crate::projection::WritebackRow) -> Value {
    use chaperone_core::writeback::{StateName as S, VoidReason};
    let state = told_state(row);
    let (poll_after_s, resume) = match state {
        S::AwaitingApproval | S::AwaitingSignature => (
            Some(30),
            "a human decides; ask again with check_proposal_status",
        ),
        S::AwaitingVerification => (
            Some(15),
            "held until the facts its gate names are established by somebody else than you",
        ),
        S::Ready | S::Delivering => (Some(2), "on its way to the EHR"),
        S::Unknown | S::DeadLetter | S::Quarantined => (Some(60), "a human is looking at it"),
        S::Staged => (None, "kept as a draft for a human to take up"),
        S::Delivered => (None, "done"),
        S::Refused if row.edited_into.is_some() => (
            None,
            "a person changed it, and the proposal under `edited_into` took its place; do not propose it again",
        ),
        S::Refused if row.rules_changed => (
            None,
            "the rules changed before a human decided; propose it again, with a new idempotency key",
        ),
        S::Refused => (None, "refused; do not propose the same again"),
        S::Void => (
            None,
            "no longer valid; propose again from current data if still needed",
        ),
        S::Proposed | S::Validated => (Some(5), "being decided"),
        S::Abandoned | S::Compensated => (None, "ended by a human"),
        // No agent has one to ask about.
        S::Canary | S::CanarySettled => (None, "unknown"),
    };
    // Why it is void, as far as that concerns what the agent saw itself (invariant 10).
    let void = row.void.and_then(|reason| match reason {
        VoidReason::Stale => Some("stale"),
        VoidReason::DeliverBy => Some("too-late"),
        VoidReason::AuthorityChanged => Some("rules-changed"),
        VoidReason::Consent
        | VoidReason::DigestMismatch
        | VoidReason::NotSigned
        | VoidReason::ChangedBeforeSigning
        | VoidReason::SignerNotPermitted
        | VoidReason::DeclinedAtEhr => None,
    });
    let mut answer = json!({
        "proposal": row.id,
        "state": state,
        "gate": row.gate.as_ref().map(|gate| told_gate(gate.level())),
        "class": row.class,
        "poll_after": poll_after_s,
        "resume": resume,
    });
    if let (Some(void), Some(object)) = (void, answer.as_object_mut()) {
        object.insert("reason".to_owned(), json!(void));
    }
    if let (Some(into), Some(object)) = (row.edited_into, answer.as_object_mut()) {
        object.insert("reason".to_owned(), json!("edited"));
        object.insert("edited_into".to_owned(), json!(into));
    }
    answer
}

fn resource_of(action: ToolAction<'_>) -> Result<Option<ResourceType>, CallError> {
    match action {
        ToolAction::Read(read) => {
            let name = read.query.split('?').next().unwrap_or_default();
            ResourceType::new(name)
                .map(Some)
                .map_err(|_| CallError::internal())
        }
        ToolAction::Write(write) => Ok(Some(write.resource.clone())),
        // Each of several changes is asked about by itself.
        ToolAction::Together(_) | ToolAction::Status | ToolAction::Templates => Ok(None),
    }
}

fn describe(tool: &ToolDeclaration, listed: Option<&[ToolName]>) -> ToolDescription {
    ToolDescription {
        name: tool.name.clone(),
        description: tool.description.clone(),
        input_schema: input_schema(tool, listed),
        read_only: !tool.proposes(),
    }
}

/// Whether an input is a resource token.
pub(crate) fn is_token(tool: &ToolDeclaration, input: &str) -> bool {
    tool.inputs
        .get(input)
        .is_some_and(|i| i.input_type == InputType::Token)
}
