//! Small ports: clock, randomness, consent, notices, anchors.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::ids::{IntentId, PatientToken, TenantId, WritebackId};
use crate::ports::ehr::Environment;
use crate::principal::Role;
use crate::resource::{Code, ResourceType};

/// The clock.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// A cryptographically secure source of randomness.
pub trait Random: Send + Sync + 'static {
    /// Fills the buffer.
    fn fill(&self, bytes: &mut [u8]);

    /// 16 bytes, for an id.
    fn id(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes
    }

    /// 32 bytes, for a salt or a key.
    fn key(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.fill(&mut bytes);
        bytes
    }
}

/// What is asked of consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentQuestion {
    /// The organisation.
    pub tenant: TenantId,
    /// What the connection is for.
    pub environment: Environment,
    /// The patient, unless the access is patient-free.
    pub patient: Option<PatientToken>,
    /// The intent.
    pub intent: IntentId,
    /// Purpose of use.
    pub purpose: Code,
    /// The type of resource.
    pub resource: ResourceType,
    /// Whether it is a write.
    pub write: bool,
}

/// The answer, with a name for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsentDecision {
    /// Allowed; the basis is recorded.
    Permit {
        /// What it rests on.
        basis: String,
    },
    /// Not allowed.
    Deny {
        /// Stable reason code.
        code: String,
    },
}

/// A further authority on consent, beside the Consents that the EHR keeps: the rules of an environment, or the
/// consent service of an organisation. It can only deny; what it permits, the patient's own Consents may still
/// refuse. An error does not exist: what cannot be decided is a deny.
#[async_trait]
pub trait ConsentHook: Send + Sync + 'static {
    /// Decides. Evaluated at read, at write and again at send time.
    async fn decide(&self, question: ConsentQuestion) -> ConsentDecision;
}

/// CDS services, asked about one order before it is signed. What is sent holds health information; whoever
/// implements this bounds time and size, tries nothing twice, and gives the answer as it came.
#[async_trait]
pub trait DecisionSupport: std::fmt::Debug + Send + Sync + 'static {
    /// Asks one service.
    ///
    /// # Errors
    /// Why it was not heard.
    async fn ask(
        &self,
        service: &crate::ids::CdsServiceId,
        request: &serde_json::Value,
    ) -> Result<serde_json::Value, crate::decision_support::NotHeard>;
}

/// The authorization server of the connected EHR, for people who come from inside it. Its addresses come from the
/// configuration, or from the EHR's own endpoint as configured; never from a request. Access tokens that it issues are
/// dropped unread. Nothing is tried twice: a code counts once.
#[async_trait]
pub trait LaunchServer: std::fmt::Debug + Send + Sync + 'static {
    /// Whether this names the FHIR endpoint whose launches are taken.
    fn is_issuer(&self, issuer: &str) -> bool;

    /// Where to send the browser.
    ///
    /// # Errors
    /// [`LaunchServerFailed::NotAvailable`](crate::launch::LaunchServerFailed::NotAvailable).
    async fn authorization_url(
        &self,
        asked: &crate::launch::AuthorizationAsked,
    ) -> Result<String, crate::launch::LaunchServerFailed>;

    /// Exchanges a code and verifies who the person is.
    ///
    /// # Errors
    /// What stands against it; the code is used up all the same.
    async fn redeem(
        &self,
        given: &crate::launch::CodeGiven,
    ) -> Result<crate::launch::LaunchContext, crate::launch::LaunchServerFailed>;
}

/// Something humans should know. Carries no PHI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub enum Notice {
    /// Something waits for approval.
    ApprovalWaiting {
        /// The write-back.
        writeback: WritebackId,
        /// Who can act.
        roles: Vec<Role>,
    },
    /// Something that was approved was not delivered, and will not be by itself.
    ApprovedNotDelivered {
        /// The write-back.
        writeback: WritebackId,
        /// The roles under which it was approved.
        roles: Vec<Role>,
    },
    /// Somebody broke the glass: looks at a patient against their consent, with a reason and for a time.
    GlassBroken {
        /// Who looks into it.
        roles: Vec<Role>,
    },
    /// Something waits for an operator.
    OperatorNeeded {
        /// The write-back.
        writeback: WritebackId,
        /// Why, as a stable code.
        code: String,
    },
}

/// Tells humans. Best effort: the console's badge does not depend on it.
#[async_trait]
pub trait Notifier: Send + Sync + 'static {
    /// Sends a notice; failures are logged by the adapter.
    async fn notify(&self, tenant: &TenantId, notice: Notice);
}

/// Mail to patients. The address and that somebody is a patient here are health information: whoever implements this
/// sends it where such data may go, or not at all.
#[async_trait]
pub trait PatientMailer: std::fmt::Debug + Send + Sync + 'static {
    /// Sends one mail, and returns when the mail server has taken it.
    ///
    /// # Errors
    /// Why it did not leave, or is not known to have left.
    async fn send(
        &self,
        to: &crate::phi::Phi<String>,
        mail: &crate::patient_mail::PatientMailText,
    ) -> Result<(), crate::patient_mail::PatientMailNotSent>;
}

/// Why a checkpoint could not be anchored.
#[derive(Debug, thiserror::Error)]
#[error("the checkpoint could not be anchored: {0}")]
pub struct AnchorFailed(pub String);

/// Keeps checkpoints outside the database's trust domain.
#[async_trait]
pub trait Anchor: Send + Sync + 'static {
    /// Appends a signed checkpoint; durable when it returns.
    async fn anchor(&self, tenant: &TenantId, size: u64, note: &str) -> Result<(), AnchorFailed>;

    /// The newest anchored checkpoint.
    async fn newest(&self, tenant: &TenantId) -> Result<Option<String>, AnchorFailed>;
}

/// One AuditEvent on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// Its logical id: the same each time that it is sent.
    pub id: String,
    /// The resource as JSON, without a line break. Holds references to patients.
    pub json: String,
}

/// Why AuditEvents were not taken; none, some or all of them may have been. Names no patient.
#[derive(Debug, thiserror::Error)]
#[error("the AuditEvents could not be handed over: {0}")]
pub struct AuditSinkFailed(pub String);

/// Where new AuditEvents go.
///
/// **Durability.** What was taken survives the loss of process and power when `take` returns.
/// **Retry duty.** After a failure the caller sends the same ones again: each arrives at least once, in the order
/// of the ledger, and is known by its id.
#[async_trait]
pub trait AuditSink: Send + Sync + 'static {
    /// Takes AuditEvents, in order.
    async fn take(&self, tenant: &TenantId, events: &[AuditLine]) -> Result<(), AuditSinkFailed>;
}

/// What was found in a text that should identify nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identifier {
    /// Its class, as a word. Never its text.
    pub class: &'static str,
    /// Where it begins, in bytes.
    pub start: usize,
    /// Where it ends, exclusive.
    pub end: usize,
}

/// The text cannot be judged, so it counts as one that identifies somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text cannot be read")]
pub struct NotInspected;

/// Looks for what identifies somebody in what is about to leave as operational or de-identified.
pub trait Detector: Send + Sync + 'static {
    /// Everything that identifies somebody, or may be a token that stands for somebody, in order.
    ///
    /// # Errors
    /// [`NotInspected`] when nothing is known about the text, which must not leave then.
    fn identifiers(&self, text: &str) -> Result<Vec<Identifier>, NotInspected>;
}
