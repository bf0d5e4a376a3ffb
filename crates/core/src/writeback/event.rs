//! What can happen to a write-back, in past tense. Serialised: a promise (see [`crate::event`]).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::canary::{CanaryEnd, CanaryMiss, CanarySeed};
use crate::change::{Change, ChangeClass};
use crate::digest::{Digest, PayloadAddress};
use crate::edit::EditLink;
use crate::evidence::{ApprovalRecord, RulingRecord, Strategy, ValidationRecord};
use crate::gate::ProofLevel;
use crate::ids::{
    AgentId, ConnectionId, CorrelationId, EnvelopeId, IntentId, PatientToken, PersonId, ToolName,
    WritebackId,
};
use crate::oversight::Maker;
use crate::together::{EntryReceipt, EntryValidated};
use crate::undo::UndoLink;
use crate::verification::VerificationRecord;

/// What was asked, by whom, inside which envelope. Texts are in the vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The write-back.
    pub id: WritebackId,
    /// The envelope it was made in.
    pub envelope: EnvelopeId,
    /// The agent.
    pub agent: AgentId,
    /// The intent.
    pub intent: IntentId,
    /// The tool called.
    pub tool: ToolName,
    /// The patient bound by the envelope.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub patient: Option<PatientToken>,
    /// The human the agent acted for; can never be the second person of a two-person gate.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub requester: Option<PersonId>,
    /// The EHR connection it is meant for.
    pub connection: ConnectionId,
    /// The request that brought it.
    pub correlation: CorrelationId,
    /// Digest of the idempotency key, bound to agent and tenant.
    pub idempotency_key: Digest,
    /// Digest of the arguments as received.
    pub request: Digest,
    /// What the agent sent: arguments, rationale, confidence, sources.
    pub payload: PayloadAddress,
    /// Whether untrusted content was in the agent's context.
    pub tainted: bool,
    /// For what Chaperone itself proposes: which effect it undoes. No agent can set it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub undo: Option<UndoLink>,
    /// Which model and prompts made it; absent for what Chaperone itself proposes, and for older ones.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub maker: Option<Maker>,
    /// For what a person made of another proposal: which one it took the place of. No agent can set it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub edit: Option<EditLink>,
}

impl Proposal {
    /// Whether a person asked for it: the one the agent acted for, or one who changed what it says. Where two people
    /// must agree, none of them is one of the two.
    pub fn is_asked_by(&self, person: PersonId) -> bool {
        self.requester == Some(person)
            || self
                .edit
                .iter()
                .flat_map(EditLink::people)
                .any(|editor| editor == person)
    }
}

/// Where the write order rests and what was agreed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRef {
    /// The digest an approval must name.
    pub digest: Digest,
    /// The order in the vault.
    pub address: PayloadAddress,
    /// How it will be sent.
    pub strategy: Strategy,
    /// When an approval given later no longer counts.
    pub approve_by: Timestamp,
    /// How long after entering the queue it may still be sent, in seconds.
    pub deliver_within_s: i64,
}

/// Who or what refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum RefusedBy {
    /// Validation found errors.
    Validation {
        /// Findings in the vault.
        findings: PayloadAddress,
    },
    /// The matrix denied it.
    Policy {
        /// Stable reason code.
        code: String,
    },
    /// A human said no.
    Human {
        /// The person.
        person: PersonId,
        /// Their reason, in the vault.
        reason: PayloadAddress,
    },
    /// A person changed it: another write-back took its place.
    Edited {
        /// The person.
        person: PersonId,
        /// Their reason, in the vault.
        reason: PayloadAddress,
        /// The other write-back.
        into: WritebackId,
    },
    /// Nobody decided in time.
    Expiry,
    /// The agent took it back.
    Withdrawn,
    /// The bundle that ruled is no longer in force: it must be proposed and ruled on again.
    RulesChanged,
}

/// Why an order that had its approval is no longer valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VoidReason {
    /// The base changed at the EHR.
    Stale,
    /// Consent no longer allows it.
    Consent,
    /// Its time in the queue ran out.
    DeliverBy,
    /// The stored order is not what was approved.
    DigestMismatch,
    /// Agent, policy bundle or intent are no longer what they were.
    AuthorityChanged,
    /// It was placed unsigned, and nobody signed it in the EHR in time.
    NotSigned,
    /// It was placed unsigned, and changed in the EHR before it was signed, or with the signature.
    ChangedBeforeSigning,
    /// It was placed unsigned, and somebody signed it in the EHR who may not approve it here.
    SignerNotPermitted,
    /// It was placed unsigned, and taken away in the EHR.
    DeclinedAtEhr,
}

/// The start of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryStart {
    /// The digest about to be sent.
    pub digest: Digest,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The epoch of the writer's lease.
    pub epoch: u64,
}

/// What a finished delivery can show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryReceipt {
    /// The level reached.
    pub proof: ProofLevel,
    /// The resource as written, `[type]/[id]/_history/[version]`, in the vault.
    pub location: PayloadAddress,
    /// What was read back, where it could be read: SHA-256(salt of the order ‖ digest of the content).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub read_back: Option<Digest>,
    /// Whether Provenance was written with it.
    pub provenance_written: bool,
    /// Who attested it, for human entry and human resolution.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attested_by: Option<PersonId>,
    /// Of several changes that were sent as one: those after the first, in order.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub also: Vec<EntryReceipt>,
}

/// Why an attempt is known not to have taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCause {
    /// The EHR could not be reached; nothing was sent.
    Unreachable,
    /// The EHR asked to slow down.
    RateLimited,
    /// The EHR answered with a server error before doing anything, as reconciling showed.
    ServerError,
    /// The EHR refused the content.
    Rejected,
    /// The EHR refused our authority.
    Unauthorized,
}

/// How it is known that an attempt of unknown outcome did not take effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "basis", rename_all = "snake_case")]
pub enum NotAppliedBasis {
    /// The endpoint honours business identifiers and had none after the settle window.
    MissAfterSettle,
    /// A human looked.
    Human {
        /// The person.
        person: PersonId,
    },
}

/// Why a send of unknown outcome waits for a human.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HumanNeeded {
    /// The endpoint cannot tell whether it applied the write.
    EndpointCannotTell,
    /// More than one resource carries the business identifier.
    MoreThanOne,
    /// What was read back is not what was sent.
    ContentDiffers,
    /// Reading back failed for too long.
    ReadBackFails,
    /// Of several changes that were to take effect as one, some are there and some are not.
    PartlyApplied,
}

/// Why outputs were set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuarantineReason {
    /// Made by an agent, model or prompt version under suspicion.
    BadRun,
    /// An operator's decision.
    Operator,
}

/// Everything that can happen to a write-back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum WritebackEvent {
    /// An agent asked.
    Proposed(Box<Proposal>),
    /// The merged result passed validation.
    Validated {
        /// What was checked.
        validation: Box<ValidationRecord>,
        /// What the change is; of several, the first.
        change: Box<Change>,
        /// How material it is; of several changes, the gravest.
        class: ChangeClass,
        /// Of several changes that are decided as one: each of them, in order. Empty for a single change.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        entries: Vec<EntryValidated>,
    },
    /// The matrix ruled, and the order was made.
    Ruled {
        /// The ruling.
        ruling: Box<RulingRecord>,
        /// The order.
        order: OrderRef,
    },
    /// The facts its gate names were established.
    Verified {
        /// Names of facts.
        facts: BTreeSet<String>,
        /// What was verified after the ruling, where something was.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        evidence: Vec<VerificationRecord>,
    },
    /// A human approved.
    Approved {
        /// The approval.
        approval: ApprovalRecord,
    },
    /// It ended before it was ready.
    Refused {
        /// By whom or what.
        refused: RefusedBy,
    },
    /// An approved order became invalid.
    Voided {
        /// Why.
        reason: VoidReason,
    },
    /// An attempt began.
    DeliveryStarted(DeliveryStart),
    /// The EHR has it unsigned; it counts once a person signs it there.
    DraftPlaced(DeliveryReceipt),
    /// The EHR has it.
    Delivered(DeliveryReceipt),
    /// The attempt did not take effect; it will be tried again.
    NotApplied {
        /// Why.
        cause: FailureCause,
        /// Not before.
        retry_at: Timestamp,
    },
    /// Nobody knows whether the attempt took effect.
    OutcomeUnknown,
    /// Reconciling showed that it did not.
    FoundNotApplied {
        /// How that is known.
        basis: NotAppliedBasis,
        /// Not before.
        retry_at: Timestamp,
    },
    /// Reconciling cannot decide; a human must.
    HumanNeeded {
        /// Why.
        reason: HumanNeeded,
    },
    /// It will not be tried again without an operator.
    DeadLettered {
        /// The last cause.
        cause: FailureCause,
    },
    /// An operator put it back.
    Requeued {
        /// The operator.
        person: PersonId,
        /// Their reason, in the vault.
        reason: PayloadAddress,
    },
    /// An operator gave it up, or the person who was to enter it by hand declined.
    Abandoned {
        /// The person.
        person: PersonId,
        /// Their reason, in the vault.
        reason: PayloadAddress,
    },
    /// It was set aside.
    Quarantined {
        /// Why.
        reason: QuarantineReason,
    },
    /// It was taken out of quarantine, back to where it was.
    Released {
        /// The person.
        person: PersonId,
        /// Their reason, in the vault.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<PayloadAddress>,
    },
    /// A linked write-back undid it.
    Compensated {
        /// The other write-back.
        by: WritebackId,
    },
    /// A staged draft was taken up by a linked write-back.
    Promoted {
        /// The other write-back.
        by: WritebackId,
    },
    /// A canary was put before its approvers. Nobody proposed it, and nothing of it reaches the EHR.
    CanarySeeded(Box<CanarySeed>),
    /// A person approved a canary.
    CanaryMissed(CanaryMiss),
    /// A person rejected a canary.
    CanaryCaught {
        /// The person.
        person: PersonId,
        /// Their reason, in the vault.
        reason: PayloadAddress,
    },
    /// A canary was taken back; it counts for nothing.
    CanaryWithdrawn(CanaryEnd),
}
