//! What policy is asked, and what it answers. Plain data; Cedar stands behind it in `policy`.

use crate::bundle::PatientBinding;
use crate::change::{Change, ChangeClass};
use crate::digest::Digest;
use crate::facts::Facts;
use crate::gate::Gate;
use crate::ids::{AgentId, ConnectionId, IntentId, PolicyId, ToolName};
use crate::mode::Mode;
use crate::ports::Environment;
use crate::protocol::ProtocolCited;
use crate::resource::{Code, ResourceType};
use serde::{Deserialize, Serialize};

/// May this agent, inside this intent, call this tool on this type?
#[derive(Debug, Clone)]
pub struct AccessRequest {
    /// The agent.
    pub agent: AgentId,
    /// Intents the agent is registered for.
    pub agent_intents: Vec<IntentId>,
    /// The intent of the envelope.
    pub intent: IntentId,
    /// Tools of the intent.
    pub intent_tools: Vec<ToolName>,
    /// Whether the intent is about one patient.
    pub binding: PatientBinding,
    /// Whether the envelope holds a patient.
    pub patient_bound: bool,
    /// Purpose of use.
    pub purpose: Code,
    /// The tool.
    pub tool: ToolName,
    /// The type it touches; absent for status tools.
    pub resource: Option<ResourceType>,
    /// Whether it proposes a change.
    pub write: bool,
    /// The connection.
    pub connection: ConnectionId,
    /// What the connection is for.
    pub environment: Environment,
    /// Whether a clinician is present, as observed; `None` when the intent does not ask.
    pub presence_live: Option<bool>,
    /// Whether everyone who sees what the agent sees is bound by an agreement that is in force.
    pub agreements_in_force: bool,
    /// The strictest mode that applies to the call.
    pub mode: Mode,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessDecision {
    /// Allowed by these policies.
    Permit {
        /// Determining policies.
        policies: Vec<PolicyId>,
    },
    /// Not allowed.
    Deny {
        /// Stable reason code: `policy-denied`, or `policy-error` when evaluation failed.
        code: String,
        /// Determining policies; empty for the default.
        policies: Vec<PolicyId>,
    },
}

/// How much human authority does this change need? Rests in the order, so that the ruling can be repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteRequest {
    /// The agent.
    pub agent: AgentId,
    /// The intent.
    pub intent: IntentId,
    /// What that intent may propose, `Type.interaction[.status]`.
    pub intent_writes: Vec<String>,
    /// The tool.
    pub tool: ToolName,
    /// What the change is.
    pub change: Change,
    /// Its computed class.
    pub class: ChangeClass,
    /// What is known, with its kind.
    pub facts: Facts,
    /// Whether untrusted content was in the agent's context.
    pub tainted: bool,
    /// The bundle in force.
    pub bundle: Digest,
    /// What it may not be lighter than, whatever the policies say: the gate of what it takes the place of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at_least: Option<Gate>,
    /// The delegated protocol that covers it, where one does: held against the EHR, never said by an agent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub protocol: Option<ProtocolCited>,
}
