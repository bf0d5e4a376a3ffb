//! Evidence: values that exist only because a step was really taken.
//!
//! Each evidence type wraps a record. The record may be read back from an event by anyone; the
//! evidence itself has one constructor, which `clippy.toml` bans everywhere but at its one site:
//!
//! | evidence | made by | proves |
//! |---|---|---|
//! | [`Conformant`] | `engine::validate` | the bytes are valid |
//! | [`Ruling`] | `policy` | the matrix ruled on the change |
//! | [`Approval`] | `engine::approve` | a human of the right role agreed to one digest |
//! | [`Delivering`] | `engine::deliver` | ruling, approval, mode and epoch were checked just now |

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::change::{ChangeClass, Destination};
use crate::digest::{Digest, PayloadAddress, Salt};
use crate::edit::{CallKept, EditLink};
use crate::gate::{Gate, ProofLevel};
use crate::ids::{
    AccountName, AgentId, ConnectionId, OverrideReason, PatientToken, PersonId, PolicyId, TenantId,
    WritebackId,
};
use crate::principal::Role;
use crate::protocol::ProtocolCited;
use crate::request::WriteRequest;
use crate::resource::{Interaction, ResourceType};
use crate::signed_form::SignedForm;
use crate::together::OrderEntry;

/// What one validation stage found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageRecord {
    /// `structure`, `business-rules` or `plausibility`.
    pub stage: String,
    /// Whether the stage ran; a stage that could not run is shown as such, never as passed.
    pub ran: bool,
    /// Findings of severity error or fatal.
    pub errors: u32,
    /// Findings of severity warning.
    pub warnings: u32,
}

impl StageRecord {
    /// Name of the stage that asks whether what is valid can be true.
    pub const PLAUSIBILITY: &str = "plausibility";

    /// Whether it found nothing that a person must read before they approve.
    pub fn is_clean(&self) -> bool {
        self.errors == 0 && self.warnings == 0
    }
}

/// What a validation did, with names and versions of what it used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidationRecord {
    /// Name and version of the validator.
    pub validator: String,
    /// Packages with version, `name#version`.
    pub packages: Vec<String>,
    /// The stages in order.
    pub stages: Vec<StageRecord>,
    /// What the plausibility stage went by, when it ran.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rules: Option<RulesRecord>,
    /// Digest of the exact body that was validated: SHA-256(salt of the order ‖ body).
    pub body: Digest,
    /// The findings in the vault, when there are any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub findings: Option<PayloadAddress>,
}

impl ValidationRecord {
    /// Whether no stage found anything that a person must read before they approve.
    pub fn is_clean(&self) -> bool {
        self.stages.iter().all(StageRecord::is_clean)
    }

    /// Whether a plausibility rule warns, so that whoever approves must say why.
    pub fn needs_override(&self) -> bool {
        self.stages
            .iter()
            .any(|it| it.stage == StageRecord::PLAUSIBILITY && !it.is_clean())
    }
}

/// What the plausibility rules were, and what they were given beside the proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesRecord {
    /// Name and version of the rules, `name/version`.
    pub rule_set: String,
    /// Digest of the rule files of the bundle.
    pub digest: Digest,
    /// What was looked up at the EHR for them.
    pub looked_up: Vec<LookedUp>,
    /// How many rules could not be applied, for want of something to look at. They have not passed.
    pub not_checked: u32,
}

/// One look at the patient's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookedUp {
    /// The type.
    pub what: ResourceType,
    /// How many there were; absent when they could not be had.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resources: Option<u32>,
}

/// Proof that exact bytes are valid: schema, profiles and business rules found no error. What plausibility
/// found is policy's to rule on.
#[derive(Debug, Clone)]
pub struct Conformant(ValidationRecord);

impl Conformant {
    /// Attests a validation without errors of schema, profile or business rules. Called by `engine::validate` alone.
    pub fn attest(record: ValidationRecord) -> Self {
        Self(record)
    }

    /// What was done.
    pub fn record(&self) -> &ValidationRecord {
        &self.0
    }
}

/// One policy's part in a ruling, in words a clinician can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The policy.
    pub policy: PolicyId,
    /// Its plain text, from the bundle.
    pub text: String,
}

/// The outcome of policy on a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulingRecord {
    /// How much human authority is demanded.
    pub gate: Gate,
    /// The computed class of the change.
    pub class: ChangeClass,
    /// Where the result rests.
    pub destination: Destination,
    /// Policies that determined the gate before escalation.
    pub determining: Vec<PolicyId>,
    /// Policies that raised it.
    pub raised_by: Vec<PolicyId>,
    /// Plain reasons, determining policies first.
    pub reasons: Vec<Reason>,
    /// For a denial, its stable reason code, such as `delete-prohibited`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub denial: Option<String>,
    /// The least proof level the row accepts.
    pub proof_min: ProofLevel,
    /// Roles to be told, beside those who approve.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notify: Vec<Role>,
    /// The governance bundle that ruled.
    pub bundle: Digest,
    /// The delegated protocol under which it passes, where it is one that lets it: it names who may approve.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub protocol: Option<ProtocolCited>,
    /// Of several changes that are decided as one: the ruling on each, in order. Empty for a single change.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub entries: Vec<RulingRecord>,
}

/// Proof that the matrix ruled.
#[derive(Debug, Clone)]
pub struct Ruling(RulingRecord);

impl Ruling {
    /// Issues a ruling. Called by the policy engine alone.
    pub fn issue(record: RulingRecord) -> Self {
        Self(record)
    }

    /// The ruling.
    pub fn record(&self) -> &RulingRecord {
        &self.0
    }
}

/// A second factor that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "factor", rename_all = "snake_case")]
pub enum Factor {
    /// None was asked for.
    None,
    /// A time-based one-time password, used once, for this digest.
    Totp {
        /// When it was verified.
        at: Timestamp,
    },
    /// The EHR's own signature on the version that was placed there unsigned.
    EhrSignature {
        /// When it was given, by the EHR's clock.
        at: Timestamp,
    },
    /// A passkey, which verified its holder, for this digest.
    Passkey {
        /// When it was verified.
        at: Timestamp,
        /// Which of the account's keys: the digest of its credential id.
        credential: Digest,
    },
}

/// One human's approval of one digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRecord {
    /// What was approved.
    pub digest: Digest,
    /// The person.
    pub person: PersonId,
    /// The account used.
    pub account: AccountName,
    /// The role under which they approved.
    pub role: Role,
    /// The second factor.
    pub factor: Factor,
    /// When.
    pub at: Timestamp,
    /// Milliseconds between opening the review and deciding.
    pub review_ms: u64,
    /// Why they approved what a plausibility rule warns of, where one does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub override_reason: Option<OverrideReason>,
    /// Whether whoever gave it is in training: then it opens nothing until a colleague of a role that may
    /// has approved the same.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub in_training: bool,
}

/// Proof that a human of the right role agreed to one digest.
#[derive(Debug, Clone)]
pub struct Approval(ApprovalRecord);

impl Approval {
    /// Grants an approval. Called by `engine::approve` alone.
    pub fn grant(record: ApprovalRecord) -> Self {
        Self(record)
    }

    /// The approval.
    pub fn record(&self) -> &ApprovalRecord {
        &self.0
    }
}

/// How a write reaches an EHR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Business identifier, conditional headers, read back and compared. Proof P3.
    Conditional,
    /// One send, read back by content. Proof P2.
    PlainPost,
    /// An operation of the EHR's own that acknowledges; read back by content. Proof P2, or P1 where it cannot be read.
    VendorOp,
    /// Placed unsigned; a person signs it in the EHR, and that signature is the approval. Proof P2.
    EhrStaged,
    /// A human enters it and attests. Proof P0.
    HumanEntry,
}

impl Strategy {
    /// The best proof the strategy can reach.
    pub fn proof(self) -> ProofLevel {
        match self {
            Strategy::Conditional => ProofLevel::P3,
            Strategy::PlainPost | Strategy::VendorOp | Strategy::EhrStaged => ProofLevel::P2,
            Strategy::HumanEntry => ProofLevel::P0,
        }
    }
}

/// A text from outside that says what a proposal says. Holds PHI; stands in orders alone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resemblance {
    /// The type of what the text stands in; absent when there was too much to compare.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resource: Option<ResourceType>,
    /// The passage; absent when there was too much to compare.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub passage: Option<String>,
    /// What the agent wrote.
    pub proposed: String,
}

impl fmt::Debug for Resemblance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resemblance(withheld)")
    }
}

/// Everything that was agreed to, complete: what is approved is what is sent, byte for byte
/// (invariant 4). Rests in the vault as JSON; its digest is the digest of those bytes, which hold the salt.
///
/// `Debug` shows which order it is and nothing of what it says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteOrder {
    /// Random, so that the digests of this write-back in the ledger let nobody guess its content.
    pub salt: Salt,
    /// The organisation.
    pub tenant: TenantId,
    /// The write-back.
    pub writeback: WritebackId,
    /// The patient.
    pub patient: Option<PatientToken>,
    /// The EHR connection.
    pub connection: ConnectionId,
    /// Its base URL when the order was made.
    pub endpoint: String,
    /// Create or update.
    pub interaction: Interaction,
    /// Type of the resource.
    pub resource: ResourceType,
    /// `[type]` for a create, `[type]/[id]` for an update.
    pub path: String,
    /// `If-None-Exist`, where the strategy uses it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub if_none_exist: Option<String>,
    /// `If-Match`, where the strategy uses it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub if_match: Option<String>,
    /// Version id of the base, for an update.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base_version: Option<String>,
    /// Digest of the base's content, for endpoints without versions.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base_digest: Option<Digest>,
    /// The base as read, for an update: what the reviewer's "before" is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base: Option<String>,
    /// The exact body.
    pub body: String,
    /// Where the update goes as a patch: the exact JSON Patch that makes the body of the base, and the only thing that
    /// is sent of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub patch: Option<String>,
    /// The Provenance that goes with it; its target is filled in at delivery.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub provenance: Option<String>,
    /// How it will be sent.
    pub strategy: Strategy,
    /// The EHR's own operation that it is sent to, where the strategy uses one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub operation: Option<String>,
    /// For what is placed unsigned: the element by which it differs from the body until it is signed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signed_form: Option<SignedForm>,
    /// The gate it had to pass.
    pub gate: Gate,
    /// Its class.
    pub class: ChangeClass,
    /// The bundle that ruled.
    pub bundle: Digest,
    /// The validator and packages used.
    pub validation: ValidationRecord,
    /// The agent, with model and prompt versions.
    pub author: AgentVersion,
    /// Digests of what the reviewer is shown beside the change: rationale, sources.
    pub evidence: Vec<Digest>,
    /// Facts that the ruling saw to be true and that must be so again right before each send.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub rests_on: BTreeSet<String>,
    /// Where texts that agents were shown of the patient say the same, though the agent named no such source.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub resembles: Vec<Resemblance>,
    /// What policy was asked; absent in orders of versions that did not keep it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub asked: Option<Box<WriteRequest>>,
    /// The call that brought it; absent for what Chaperone itself proposes, and in orders of versions that did not
    /// keep it, which cannot be changed by a person.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub call: Option<Box<CallKept>>,
    /// For what a person made of another proposal: which one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub edit: Option<EditLink>,
    /// Where several changes are sent as one transaction: those after the first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub also: Vec<OrderEntry>,
}

impl fmt::Debug for WriteOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteOrder")
            .field("writeback", &self.writeback)
            .field("connection", &self.connection)
            .field("interaction", &self.interaction)
            .field("resource", &self.resource)
            .field("strategy", &self.strategy)
            .finish_non_exhaustive()
    }
}

/// Which version of an agent asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentVersion {
    /// The agent.
    pub agent: AgentId,
    /// Its registered version.
    pub version: String,
    /// The model it runs on.
    pub model: String,
    /// Its prompt versions, as registered.
    pub prompts: Vec<String>,
}

/// Proof that everything a send rests on was checked in the transaction that recorded its start.
/// The only value `Ehr::write` accepts (invariant 3).
#[derive(Debug, Clone)]
pub struct Delivering {
    order: WriteOrder,
    digest: Digest,
    attempt: u32,
    not_after: Option<Timestamp>,
    shown_atomic: bool,
}

impl Delivering {
    /// Begins a delivery. Called by `engine::deliver` alone, after `DeliveryStarted` is durable.
    pub fn begin(order: WriteOrder, digest: Digest, attempt: u32) -> Self {
        Self {
            order,
            digest,
            attempt,
            not_after: None,
            shown_atomic: false,
        }
    }

    /// The same, by an endpoint of which a report showed whether its transactions are atomic for all of the order.
    /// What nobody showed is not used, whatever the endpoint claims.
    #[must_use]
    pub fn shown_atomic(mut self, is_shown: bool) -> Self {
        self.shown_atomic = is_shown;
        self
    }

    /// Whether transactions were shown to be atomic for all of the order.
    pub fn is_shown_atomic(&self) -> bool {
        self.shown_atomic
    }

    /// The same, to be sent before a time: until then the writer's lease and its claim on the work hold.
    #[must_use]
    pub fn before(mut self, not_after: Timestamp) -> Self {
        self.not_after = Some(not_after);
        self
    }

    /// From when on it must not leave any more, by the sender's clock.
    pub fn not_after(&self) -> Option<Timestamp> {
        self.not_after
    }

    /// What to send.
    pub fn order(&self) -> &WriteOrder {
        &self.order
    }

    /// The digest that was approved.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}
