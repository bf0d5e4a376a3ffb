//! Declarations of the governance bundle: agents, intents and tools, as data.
//!
//! These are the parsed shapes of `governance/agents`, `intents` and `tools`. Reading files, checking
//! one declaration against another and against FHIR is `policy::bundle`'s business; nothing here
//! decides anything. Unknown keys are refused: a misspelt restriction must not be silently absent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::ids::{AgentId, EhrEventType, IntentId, NoteTemplateId, Region, ToolName};
use crate::resource::{Code, Interaction, ResourceType};

/// A registered agent: `agents/<id>.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentDeclaration {
    /// Its id; the OAuth client id.
    pub id: AgentId,
    /// Version of the agent as a whole.
    pub version: String,
    /// Who answers for it inside the organisation, as a role or team.
    pub owner: String,
    /// Who makes it.
    pub vendor: String,
    /// Where it runs: the place, in words. Who runs it there is a provider of the role `runtime`.
    pub runtime: String,
    /// The model, with version.
    pub model: String,
    /// Prompt versions, `id@version`.
    #[serde(default)]
    pub prompts: Vec<String>,
    /// Everyone who may see what the agent sees: who runs the model, who runs the agent, and who works for them.
    pub providers: Vec<ProviderDeclaration>,
    /// Intents it may open envelopes for.
    pub intents: Vec<IntentId>,
    /// Intents for which it may make context grants for other agents: the dispatcher allow-list.
    #[serde(default)]
    pub dispatches: Vec<DispatchDeclaration>,
    /// Public keys, as JSON Web Keys (RFC 7517). Empty: the agent cannot authenticate.
    #[serde(default)]
    pub keys: Vec<serde_json::Map<String, serde_json::Value>>,
}

/// What a provider does for an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderRole {
    /// Runs the model.
    Model,
    /// Runs the agent itself.
    Runtime,
    /// Works for one of them and may see what they see.
    Subcontractor,
}

/// One link of an agent's chain of business associate agreements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderDeclaration {
    /// Its name in contracts.
    pub name: String,
    /// What it does for the agent.
    pub role: ProviderRole,
    /// The business associate agreement: its reference in the organisation's files.
    pub baa: String,
    /// Until when that holds. Past it, no envelope opens, and open ones end.
    pub baa_expires: Timestamp,
    /// How long it keeps what it was sent, in days; 0 keeps nothing.
    pub retention_days: u32,
    /// Whether it has agreed not to train on the data.
    pub training_banned: bool,
    /// Where it keeps and handles the data.
    pub region: Region,
}

/// An agent and intent that a dispatcher may make grants for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DispatchDeclaration {
    /// The agent that may use the grant.
    pub agent: AgentId,
    /// The intent it opens.
    pub intent: IntentId,
}

/// A named task: `intents/<id>.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntentDeclaration {
    /// Its id.
    pub id: IntentId,
    /// What it is for, in one sentence, for reviewers.
    pub purpose: String,
    /// Purpose of use, a v3-ActReason code.
    pub purpose_of_use: Code,
    /// Life of its envelopes, in seconds; at most 300.
    pub ttl_s: i64,
    /// Whether envelopes are about one patient.
    pub patient: PatientBinding,
    /// Whether a clinician must be present for as long as the envelope is used.
    #[serde(default)]
    pub presence: bool,
    /// Tools that may be called.
    pub tools: Vec<ToolName>,
    /// The most that may be read: element paths per resource type. A tool shows the intersection of
    /// this and its own fields.
    #[serde(default)]
    pub view: BTreeMap<ResourceType, Vec<String>>,
    /// The most free text that may be read, scrubbed: element paths per resource type. A tool shows the
    /// intersection of this and its own text; what is not named here stays withheld.
    #[serde(default)]
    pub text: BTreeMap<ResourceType, Vec<String>>,
    /// What may be proposed, `Type.interaction.status`, such as `Appointment.create.booked`;
    /// `Type.interaction` where the type carries no status. Never a `*`.
    #[serde(default)]
    pub writes: Vec<String>,
}

/// Whether an envelope is about one patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PatientBinding {
    /// One patient, from a context grant.
    Required,
    /// None: such as a search for free slots. Tools must not touch patient compartments.
    None,
}

/// Longest time that a grant made for an event of the EHR waits to be used, in seconds: a day.
pub const EVENT_GRANT_SECONDS_MAX: i64 = 24 * 3_600;

/// What events of the EHR may cause: `rules/ehr-events.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EhrEventsTable {
    /// Where the table comes from.
    pub source: String,
    /// Who answers for it, as a role or team.
    pub owner: String,
    /// Day of the last review, `YYYY-MM-DD`.
    pub reviewed: String,
    /// Day by which it must be reviewed again, `YYYY-MM-DD`.
    pub review_by: String,
    /// One entry for each type of event. What is not listed causes nothing.
    #[serde(default)]
    pub events: Vec<EhrEventDeclaration>,
}

/// What one type of event may cause: a context grant for one agent and one intent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EhrEventDeclaration {
    /// The type, as sources announce it.
    #[serde(rename = "type")]
    pub event_type: EhrEventType,
    /// The agent that may use the grant.
    pub agent: AgentId,
    /// The intent it opens.
    pub intent: IntentId,
    /// The type of the resource that the event names; it is read from the EHR.
    pub resource: ResourceType,
    /// The element of that resource that names the patient; absent where the resource is the Patient.
    #[serde(default)]
    pub patient: Option<String>,
    /// Statuses that the resource must have at the EHR for the event to count; empty asks for none.
    #[serde(default)]
    pub status: Vec<Code>,
    /// The element that names the encounter which the work belongs to. An Encounter is its own.
    #[serde(default)]
    pub encounter: Option<String>,
    /// Whether the agent is handed a token of the resource, as what its work is about.
    #[serde(default)]
    pub work_item: bool,
    /// How long the grant waits to be used, in seconds; at most [`EVENT_GRANT_SECONDS_MAX`].
    pub expires_s: i64,
}

/// A tool: `tools/<name>.toml`. Exactly one of `read`, `write`, `together`, `status` and `templates` is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolDeclaration {
    /// Its MCP name.
    pub name: ToolName,
    /// What it does, for the agent.
    pub description: String,
    /// A search with a projection.
    #[serde(default)]
    pub read: Option<ReadAction>,
    /// A proposal to change something.
    #[serde(default)]
    pub write: Option<WriteAction>,
    /// Several proposals of these tools as one: all of them or none.
    #[serde(default)]
    pub together: Vec<ToolName>,
    /// The status of the agent's own proposals. Touches no EHR.
    #[serde(default)]
    pub status: bool,
    /// The note templates of the bundle. Touches no EHR.
    #[serde(default)]
    pub templates: bool,
    /// Its inputs, by name.
    #[serde(default)]
    pub inputs: BTreeMap<String, InputDeclaration>,
}

/// What a tool does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ToolAction<'a> {
    /// Reads.
    Read(&'a ReadAction),
    /// Proposes.
    Write(&'a WriteAction),
    /// Proposes what several calls of these tools would, as one.
    Together(&'a [ToolName]),
    /// Tells the status of the agent's own proposals.
    Status,
    /// Tells the note templates.
    Templates,
}

impl ToolDeclaration {
    /// The one thing it does; `None` when the declaration names none or several.
    pub fn action(&self) -> Option<ToolAction<'_>> {
        let together = (!self.together.is_empty()).then_some(&self.together);
        match (
            &self.read,
            &self.write,
            together,
            self.status,
            self.templates,
        ) {
            (Some(read), None, None, false, false) => Some(ToolAction::Read(read)),
            (None, Some(write), None, false, false) => Some(ToolAction::Write(write)),
            (None, None, Some(tools), false, false) => Some(ToolAction::Together(tools)),
            (None, None, None, true, false) => Some(ToolAction::Status),
            (None, None, None, false, true) => Some(ToolAction::Templates),
            _ => None,
        }
    }

    /// Whether calling it proposes a change.
    pub fn proposes(&self) -> bool {
        matches!(
            self.action(),
            Some(ToolAction::Write(_) | ToolAction::Together(_))
        )
    }
}

/// What a read tool searches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadAction {
    /// `Type?name=value&…`. A value may hold `{patient}`, `{encounter}`, `{now}` or `{input}`; a
    /// parameter whose input is absent is left out.
    pub query: String,
    /// Element paths that may be returned.
    pub fields: Vec<String>,
    /// Element paths of free text that may be returned after scrubbing.
    #[serde(default)]
    pub text: Vec<String>,
}

/// The `target` of a tool that changes the record of the envelope's own patient, whom no agent names.
pub const TARGET_PATIENT: &str = "{patient}";

/// What a write tool proposes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteAction {
    /// The type.
    pub resource: ResourceType,
    /// Create or update.
    pub interaction: Interaction,
    /// Where the result rests: `staged` for drafts that this product holds, `ehr` otherwise.
    pub destination: crate::change::Destination,
    /// For an update, the token input that names the resource to change, or [`TARGET_PATIENT`].
    #[serde(default)]
    pub target: Option<String>,
    /// Elements copied as they are from another resource of the patient.
    #[serde(default)]
    pub copy: Option<CopyDeclaration>,
    /// The resource, as a template. A string that is exactly `{name}` is replaced by the input's
    /// value, and its element is left out when the input is absent. `{name|reference}` makes a
    /// Reference from a token input, `{name|base64}` encodes text. Fixed placeholders: `{patient}`
    /// and `{encounter}` (References), `{now}` (instant). Everything else is fixed by the tool.
    pub template: serde_json::Map<String, serde_json::Value>,
    /// For an update, elements of the template whose items are put behind those that the resource has, in place of
    /// taking their place.
    #[serde(default)]
    pub append: Vec<String>,
    /// Profiles that the proposal must conform to, beside those that the bundle names for its type:
    /// canonical URLs.
    #[serde(default)]
    pub profiles: Vec<String>,
    /// Facts that Chaperone observes before ruling, by name; see `engine::observe`.
    #[serde(default)]
    pub observe: Vec<String>,
    /// Facts that the tool fixes.
    #[serde(default)]
    pub facts: BTreeMap<String, crate::facts::FactValue>,
    /// Where the tool drafts a note: the inputs that say which template it follows.
    #[serde(default)]
    pub note: Option<NoteInputs>,
}

/// The inputs of a tool that drafts a note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoteInputs {
    /// The input that names the template.
    pub template: String,
    /// The input that holds the LOINC type.
    pub kind: String,
    /// The input that holds the text.
    pub text: String,
}

/// A note template: `templates/<id>.toml`.
///
/// # Source
/// Requirement R077.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoteTemplate {
    /// Its id.
    pub id: NoteTemplateId,
    /// What it is called.
    pub title: String,
    /// LOINC types of the notes that follow it.
    pub kinds: Vec<Code>,
    /// Longest note, in characters.
    pub chars_max: u32,
    /// Its sections, in order; a note without sections has none.
    #[serde(default)]
    pub sections: Vec<NoteSection>,
    /// Where it comes from.
    pub source: String,
    /// Who answers for it, as a role or team.
    pub owner: String,
    /// Day of the last review, `YYYY-MM-DD`.
    pub reviewed: String,
    /// Day by which it must be reviewed again, `YYYY-MM-DD`.
    pub review_by: String,
}

/// One section of a note template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoteSection {
    /// Its title, as a note writes it.
    pub title: String,
    /// Whether a note must have it.
    pub required: bool,
    /// Longest text, in characters.
    pub chars_max: u32,
}

/// Elements copied from another resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyDeclaration {
    /// The token input that names the resource.
    pub from: String,
    /// Top-level elements to copy.
    pub elements: Vec<String>,
}

/// One input of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputDeclaration {
    /// What it is, for the agent.
    #[serde(default)]
    pub description: String,
    /// Its type.
    #[serde(rename = "type")]
    pub input_type: InputType,
    /// Whether it must be given.
    #[serde(default)]
    pub required: bool,
    /// Value when absent.
    #[serde(default)]
    pub default: Option<serde_json::Value>,
    /// For numbers.
    #[serde(default)]
    pub minimum: Option<f64>,
    /// For numbers.
    #[serde(default)]
    pub maximum: Option<f64>,
    /// For strings: characters at most. Required for `string`.
    #[serde(default)]
    pub max_length: Option<u32>,
    /// For codes: the allowed values. Required for `code`.
    #[serde(default)]
    pub one_of: Vec<String>,
    /// For tokens: the type of resource it must stand for. Required for `token`.
    #[serde(default)]
    pub resource: Option<ResourceType>,
    /// For strings of write tools: whether slots that the envelope gave out are resolved in it. Where they are
    /// not, what reads like a slot is refused.
    #[serde(default)]
    pub slots: bool,
}

/// Types of inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputType {
    /// Free text: rests in the vault, never in a query.
    String,
    /// One of the listed codes.
    Code,
    /// A whole number.
    Integer,
    /// A decimal number.
    Number,
    /// True or false.
    Boolean,
    /// A FHIR date.
    Date,
    /// A FHIR dateTime with time zone.
    DateTime,
    /// A resource token that Chaperone handed out in this envelope's patient context.
    Token,
}
