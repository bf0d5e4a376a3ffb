//! The one definition of everything that is recorded. Serialisation here is a promise: fields are
//! added with defaults, kinds are never renamed, and what was written once is read for ever.
//!
//! Events carry tokens, digests and our own identifiers. Every string that came from an agent, a
//! human or an EHR rests in the vault and appears here as its address (invariant 6).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::claim::ClaimEvent;
use crate::cohort::CohortEvent;
use crate::conformance::ConformanceReported;
use crate::cover::CoverEvent;
use crate::decision_support::DecisionSupportEvent;
use crate::digest::{Digest, PayloadAddress};
use crate::egress::{Channel, DataClass, EgressRule};
use crate::envelope::{Envelope, Grant};
use crate::exception::ExceptionEvent;
use crate::ids::{
    AccountName, AgentId, CohortJobId, ConnectionId, CorrelationId, EhrEventSource, EhrEventType,
    EnvelopeId, GrantId, IdInvalid, PatientToken, PersonId, PolicyId, Region, ResourceToken,
    TenantId, ToolName, UndoId, VendorId, WritebackId,
};
use crate::key_event::KeyEvent;
use crate::launch::LaunchEvent;
use crate::mode::{Mode, ModeScope};
use crate::oversight::OversightEvent;
use crate::passkey::PasskeyEvent;
use crate::patient_mail::PatientMailEvent;
use crate::principal::{Actor, Role};
use crate::resource::{Code, ResourceType};
use crate::retention::RetentionEvent;
use crate::undo::UndoEvent;
use crate::writeback::WritebackEvent;

/// Version of the leaf format.
pub const LEAF_FORMAT: u16 = 1;

/// The stream an event belongs to; versions count per stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StreamId {
    /// One write-back.
    Writeback(WritebackId),
    /// One context grant.
    Grant(GrantId),
    /// One envelope, with its accesses.
    Envelope(EnvelopeId),
    /// One account.
    Account(AccountName),
    /// The mode switches of the tenant.
    Modes,
    /// Refusals that belong to no envelope.
    Refusals,
    /// What went at the end of its time, what is held back, and who was shredded.
    Retention,
    /// Set-up and configuration of the tenant.
    Tenant,
    /// The life of the tenant's keys: rotation, destruction, escrow.
    Keys,
    /// Which rows were demoted for whom, and restored.
    Oversight,
    /// One run that undoes what went wrong.
    Undo(UndoId),
    /// One cohort job.
    Cohort(CohortJobId),
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamId::Writeback(id) => write!(f, "writeback/{id}"),
            StreamId::Grant(id) => write!(f, "grant/{id}"),
            StreamId::Envelope(id) => write!(f, "envelope/{id}"),
            StreamId::Account(name) => write!(f, "account/{name}"),
            StreamId::Modes => f.write_str("modes"),
            StreamId::Refusals => f.write_str("refusals"),
            StreamId::Retention => f.write_str("retention"),
            StreamId::Tenant => f.write_str("tenant"),
            StreamId::Keys => f.write_str("keys"),
            StreamId::Oversight => f.write_str("oversight"),
            StreamId::Undo(id) => write!(f, "undo/{id}"),
            StreamId::Cohort(id) => write!(f, "cohort/{id}"),
        }
    }
}

impl From<StreamId> for String {
    fn from(stream: StreamId) -> String {
        stream.to_string()
    }
}

impl TryFrom<String> for StreamId {
    type Error = IdInvalid;
    fn try_from(text: String) -> Result<Self, IdInvalid> {
        match text.split_once('/') {
            None if text == "modes" => Ok(StreamId::Modes),
            None if text == "refusals" => Ok(StreamId::Refusals),
            None if text == "retention" => Ok(StreamId::Retention),
            None if text == "tenant" => Ok(StreamId::Tenant),
            None if text == "keys" => Ok(StreamId::Keys),
            None if text == "oversight" => Ok(StreamId::Oversight),
            Some(("writeback", id)) => id.parse().map(StreamId::Writeback),
            Some(("grant", id)) => id.parse().map(StreamId::Grant),
            Some(("envelope", id)) => id.parse().map(StreamId::Envelope),
            Some(("account", name)) => name.parse().map(StreamId::Account),
            Some(("undo", id)) => id.parse().map(StreamId::Undo),
            Some(("cohort", id)) => id.parse().map(StreamId::Cohort),
            _ => Err(IdInvalid::Named { what: "stream" }),
        }
    }
}

/// What a read may show at most, made durable before the answer leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadCeiling {
    /// The request.
    pub correlation: CorrelationId,
    /// The tool.
    pub tool: ToolName,
    /// The EHR connection.
    pub connection: ConnectionId,
    /// The type searched.
    pub resource: ResourceType,
    /// The patient, unless the intent is patient-free.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub patient: Option<PatientToken>,
    /// Element paths that may be shown.
    pub fields: Vec<String>,
    /// Element paths of free text that may be shown after scrubbing.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub text: Vec<String>,
    /// Policies that permitted it.
    pub policies: Vec<PolicyId>,
    /// The consent decision it rests on.
    pub consent: String,
    /// The purpose of use, where it is another than the envelope's: `BTG` under a broken glass.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub purpose: Option<Code>,
}

/// Why an agent's request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRefusal {
    /// The request.
    pub correlation: CorrelationId,
    /// The agent, once known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<AgentId>,
    /// The tool, when it is one we know; a name we do not know is not repeated.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tool: Option<ToolName>,
    /// Stable reason code.
    pub code: String,
    /// Which rule decided, where the agent is told less: such as the code of a consent's refusal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub because: Option<String>,
    /// The Consent that refused, by the name that the record has for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub consent: Option<String>,
}

/// What a person wanted to do about a write-back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    /// Agree to it.
    Approve,
    /// Say no to it.
    Reject,
    /// Put back what could not be sent.
    Requeue,
    /// Give up what could not be sent.
    Abandon,
    /// Say what became of a send of unknown outcome.
    Resolve,
    /// Decline to enter it by hand.
    Decline,
    /// Say that it was entered by hand.
    Attest,
    /// Let what was set aside go on.
    Release,
    /// Verify a fact that its gate names.
    Verify,
    /// Change what it says.
    Edit,
    /// Go on over a critical card of decision support.
    OverrideCard,
}

impl DecisionKind {
    /// As a word.
    pub fn as_str(self) -> &'static str {
        match self {
            DecisionKind::Approve => "approve",
            DecisionKind::Reject => "reject",
            DecisionKind::Requeue => "requeue",
            DecisionKind::Abandon => "abandon",
            DecisionKind::Resolve => "resolve",
            DecisionKind::Decline => "decline",
            DecisionKind::Attest => "attest",
            DecisionKind::Release => "release",
            DecisionKind::Verify => "verify",
            DecisionKind::Edit => "edit",
            DecisionKind::OverrideCard => "override-card",
        }
    }
}

/// Why breaking the glass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakGlassEnd {
    /// Whoever broke it said that it is over.
    Stopped,
    /// Its time was up.
    Expired,
}

/// Why an event of the EHR, announced by a known source, caused nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EhrEventRefusal {
    /// The request.
    pub correlation: CorrelationId,
    /// Who announced it.
    pub notified_by: EhrEventSource,
    /// What is said to have happened, when the bundle lists it; a name we do not know is not repeated.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub event_type: Option<EhrEventType>,
    /// A keyed digest of source and event id, once the id could be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub event: Option<Digest>,
    /// Stable reason code; says more than the source is told.
    pub code: String,
}

/// What the ledger was read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditUse {
    /// AuditEvents were written to a file.
    Export,
    /// Who saw something of a patient was asked.
    WhoSaw,
    /// An accounting of disclosures was made.
    Accounting,
}

impl AuditUse {
    /// The stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            AuditUse::Export => "export",
            AuditUse::WhoSaw => "who_saw",
            AuditUse::Accounting => "accounting",
        }
    }
}

/// The ledger was read for somebody; recorded before anything is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditUsed {
    /// The request.
    pub correlation: CorrelationId,
    /// What for.
    pub used_for: AuditUse,
    /// About whom; absent for everybody.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub patient: Option<PatientToken>,
    /// From when on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<Timestamp>,
    /// Before when.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<Timestamp>,
}

/// Everything that is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The tenant was set up.
    TenantInitialised {
        /// The governance bundle.
        bundle: Digest,
    },
    /// A governance bundle came into force.
    BundleActivated {
        /// The bundle.
        bundle: Digest,
    },
    /// What an endpoint can do was checked.
    ConformanceReported(Box<ConformanceReported>),
    /// A human was given an account.
    AccountCreated {
        /// The account.
        account: AccountName,
        /// The person.
        person: PersonId,
        /// Their roles.
        roles: Vec<Role>,
    },
    /// A human signed in.
    SignedIn,
    /// A sign-in failed.
    SignInFailed,
    /// A human signed out, or an idle session ended.
    SignedOut,
    /// A second factor was given for one digest.
    StepUpPassed {
        /// What it is bound to.
        digest: Digest,
    },
    /// A second factor was wrong or reused.
    StepUpFailed,
    /// A passkey was added, removed or refused.
    Passkey(PasskeyEvent),
    /// Somebody came from inside the EHR, or could not.
    Launch(LaunchEvent),
    /// Somebody covers for whoever is away.
    Cover(CoverEvent),
    /// On the stream of a write-back: somebody took it in hand, or let it go.
    Claim(ClaimEvent),
    /// On the stream of a write-back: a patient was written to about it, or could not be.
    PatientMail(PatientMailEvent),
    /// A switch was moved.
    ModeSwitched {
        /// Which.
        scope: ModeScope,
        /// To where.
        mode: Mode,
        /// The reason given, in the vault.
        reason: PayloadAddress,
    },
    /// A context grant was made.
    GrantIssued(Box<Grant>),
    /// A context grant was spent.
    GrantConsumed {
        /// The envelope it opened.
        envelope: EnvelopeId,
    },
    /// An envelope was opened.
    EnvelopeOpened(Box<Envelope>),
    /// A read was permitted; the ceiling of what may be seen.
    ReadPermitted(Box<ReadCeiling>),
    /// What a read showed.
    ReadReleased {
        /// The request.
        correlation: CorrelationId,
        /// Resources shown.
        resources: u32,
        /// Digest over type, id and version of each, in the order shown.
        versions: Digest,
        /// Element paths shown.
        fields: Vec<String>,
        /// Security labels on what was shown.
        labels: Vec<String>,
        /// Element paths withheld.
        withheld: Vec<String>,
        /// Element paths of free text shown after scrubbing.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        text: Vec<String>,
        /// How many identifiers in it were replaced by slots, by class.
        #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
        replaced: BTreeMap<String, u32>,
        /// Resources left out because consent, or the law before it, does not open them.
        #[serde(skip_serializing_if = "is_zero", default)]
        left_out: u32,
    },
    /// A read ended without showing anything.
    ReadFailed {
        /// The request.
        correlation: CorrelationId,
        /// Stable reason code.
        code: String,
    },
    /// An agent's request was refused.
    CallRefused(CallRefusal),
    /// An event that a source announced caused nothing.
    EhrEventRefused(EhrEventRefusal),
    /// A source announced that a patient's Consents changed: what was known of them is forgotten.
    ConsentAnnounced {
        /// Who announced it.
        notified_by: EhrEventSource,
        /// Whose, as the EHR says; nobody where it does not, and then everybody's are forgotten.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        patient: Option<PatientToken>,
    },
    /// A person's decision about a write-back was refused; it has not moved.
    DecisionRefused {
        /// The write-back they named.
        writeback: WritebackId,
        /// What they wanted.
        decision: DecisionKind,
        /// Stable reason code.
        code: String,
    },
    /// A person broke the glass for a patient.
    BreakGlassStarted {
        /// The patient.
        patient: PatientToken,
        /// Until when it holds.
        until: Timestamp,
        /// The reason given, in the vault.
        reason: PayloadAddress,
    },
    /// Breaking the glass ended.
    BreakGlassEnded {
        /// The patient.
        patient: PatientToken,
        /// How.
        cause: BreakGlassEnd,
    },
    /// Refusals of one kind that came so often that they were counted instead of recorded one by one.
    RefusalsCounted {
        /// Stable error code.
        code: String,
        /// The agent they named, where they named a registered one.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        agent: Option<AgentId>,
        /// The source of EHR events that sent what was refused.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        notified_by: Option<EhrEventSource>,
        /// How many, beside those that are recorded.
        count: u64,
        /// Since when.
        since: Timestamp,
    },
    /// A patient or resource token was minted.
    TokenMinted {
        /// What kind of thing it stands for.
        resource: ResourceType,
        /// The patient in whose context it was made, or whom it stands for.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        patient: Option<PatientToken>,
    },
    /// Resource tokens that an agent sent were followed to what they stand for.
    TokensResolved {
        /// The request.
        correlation: CorrelationId,
        /// The tool that declares them.
        tool: ToolName,
        /// The patient in whose context they were followed.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        patient: Option<PatientToken>,
        /// The tokens, in order and each once.
        tokens: Vec<ResourceToken>,
    },
    /// A person was told what a token stands for.
    TokenRevealed {
        /// What kind of thing it stands for.
        resource: ResourceType,
        /// The token; absent where it is the patient's own.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        token: Option<ResourceToken>,
        /// The patient whom it concerns.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        patient: Option<PatientToken>,
        /// Why, in the vault.
        reason: PayloadAddress,
    },
    /// Slots were made for identifiers in free text.
    SlotsMinted {
        /// The request.
        correlation: CorrelationId,
        /// How many, by class.
        classes: BTreeMap<String, u32>,
    },
    /// Slots in what an agent sent were put back.
    SlotsResolved {
        /// The request.
        correlation: CorrelationId,
        /// The tool.
        tool: ToolName,
        /// How many, by class.
        classes: BTreeMap<String, u32>,
    },
    /// The ledger was read for somebody.
    AuditUsed(AuditUsed),
    /// Something happened to keys.
    Key(KeyEvent),
    /// Something that was kept went, or is held back.
    Retention(RetentionEvent),
    /// Data of one class went to a vendor: told when it first does, and counted from then on.
    EgressPassed {
        /// What for.
        channel: Channel,
        /// What it was declared to be.
        class: DataClass,
        /// To whom.
        vendor: VendorId,
        /// Where the vendor is.
        region: Region,
        /// How many times.
        count: u64,
        /// Since when.
        since: Timestamp,
    },
    /// Something did not leave: told when a rule first stands against it, and counted from then on.
    EgressRefused {
        /// What for.
        channel: Channel,
        /// What it was declared to be.
        class: DataClass,
        /// The vendor whose address it was, where one has it.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        vendor: Option<VendorId>,
        /// The rule.
        rule: EgressRule,
        /// How many times.
        count: u64,
        /// Since when.
        since: Timestamp,
    },
    /// What people let agents do was looked at, or how they do it.
    Oversight(OversightEvent),
    /// Decision support was asked about an order, or a person went on over what it said.
    DecisionSupport(DecisionSupportEvent),
    /// An exception from the matrix was asked for, granted, used or looked at.
    Exception(ExceptionEvent),
    /// Something was undone, or is to be.
    Undo(UndoEvent),
    /// A list of patients was asked for, approved, worked off or ended.
    Cohort(CohortEvent),
    /// A write-back moved.
    Writeback(WritebackEvent),
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Event {
    /// The kind as indexed: for write-backs, keys, retention, overseeing, exceptions, undoing, cohorts, passkeys, launches,
    /// cover, claims and mail to patients, `writeback.`, `key.`, `retention.`, `oversight.`, `exception.`, `undo.`, `cohort.`, `passkey.`, `launch.`,
    /// `cover.`, `claim.` or `patient_mail.` and what happened.
    pub fn kind(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        let text = |key: &str| {
            value
                .get(key)
                .and_then(|v| v.as_str())
                .unwrap_or("unknown")
                .to_owned()
        };
        match self {
            Event::Writeback(_) => format!("writeback.{}", text("what")),
            Event::Key(_) => format!("key.{}", text("what")),
            Event::Retention(_) => format!("retention.{}", text("what")),
            Event::Oversight(_) => format!("oversight.{}", text("what")),
            Event::Undo(_) => format!("undo.{}", text("what")),
            Event::Cohort(_) => format!("cohort.{}", text("what")),
            Event::Passkey(_) => format!("passkey.{}", text("what")),
            Event::Launch(_) => format!("launch.{}", text("what")),
            Event::Cover(_) => format!("cover.{}", text("what")),
            Event::Claim(_) => format!("claim.{}", text("what")),
            Event::PatientMail(_) => format!("patient_mail.{}", text("what")),
            Event::Exception(_) => format!("exception.{}", text("what")),
            Event::DecisionSupport(_) => format!("decision_support.{}", text("what")),
            _ => text("kind"),
        }
    }
}

/// An event as the ledger holds it. The leaf is the JSON of this struct; the stored bytes are hashed,
/// folded and served as they are, and nobody re-serialises to verify.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Leaf format, [`LEAF_FORMAT`].
    pub format: u16,
    /// The organisation.
    pub tenant: TenantId,
    /// Position in the tenant's ledger, from 0, without gaps.
    pub seq: u64,
    /// The stream.
    pub stream: StreamId,
    /// Version of the stream after this event, from 1.
    pub version: u64,
    /// When it happened, by the clock of the node that recorded it.
    pub at: Timestamp,
    /// Who caused it.
    pub actor: Actor,
    /// What happened.
    pub event: Event,
}

/// Stored bytes that are not a leaf of a known format.
#[derive(Debug, thiserror::Error)]
pub enum LeafInvalid {
    /// Not the JSON of a leaf.
    #[error("the stored bytes are not a ledger leaf")]
    Malformed(#[source] serde_json::Error),
    /// Written by a newer version.
    #[error("leaf format {0} is not known to this version")]
    UnknownFormat(u16),
}

impl Recorded {
    /// The leaf bytes: made once, when the event is appended.
    ///
    /// # Errors
    /// When the event cannot be serialised, which no event of this version does.
    pub fn to_leaf(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Reads stored leaf bytes.
    ///
    /// # Errors
    /// [`LeafInvalid`] for other bytes or a newer format.
    pub fn from_leaf(leaf: &[u8]) -> Result<Self, LeafInvalid> {
        let recorded: Recorded = serde_json::from_slice(leaf).map_err(LeafInvalid::Malformed)?;
        if recorded.format == LEAF_FORMAT {
            Ok(recorded)
        } else {
            Err(LeafInvalid::UnknownFormat(recorded.format))
        }
    }
}
