//! One event of the ledger as a FHIR R4 AuditEvent.
//!
//! Each entry gives at most one AuditEvent, about at most one patient, under an id that follows from the entry
//! itself: sent twice, it can be recognised. Real references to patients and resources may stand in it, because
//! it goes to an audit store; nothing of it may go to a log.
//! Start at [`audit_event`].

use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, Recorded};
use chaperone_core::ids::{AgentId, ConnectionId, CorrelationId, PatientToken, TenantId};
use chaperone_core::key_event::KeyEvent;
use chaperone_core::launch::LaunchEvent;
use chaperone_core::passkey::PasskeyEvent;
use chaperone_core::patient_mail::PatientMailEvent;
use chaperone_core::writeback::{RefusedBy, WritebackEvent};
use serde::Serialize;
use serde_json::{Value, json};

use super::access::{Access, AccessKind, ReadAccess, ReadEnd, Work, WriteAccess};
use super::codes::{AuditCodes, CaseRow};
use super::{AuditCase, agents, entities};

/// Who records, and about which EHR.
#[derive(Debug, Clone)]
pub struct AuditSystem {
    /// The organisation.
    pub tenant: TenantId,
    /// Region or instance: `source.site`.
    pub site: String,
    /// Version of the software.
    pub version: String,
    /// The EHR connection.
    pub connection: ConnectionId,
    /// Its base URL.
    pub endpoint: String,
    /// Whether its patients are synthetic: then everything is labelled as test data.
    pub is_test: bool,
}

/// The patient of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPatient {
    /// The token in the ledger.
    pub token: PatientToken,
    /// `Patient/[id]` at the EHR; absent when the token stands for nothing any more.
    pub reference: Option<String>,
}

/// What the entry itself does not say.
#[derive(Debug, Clone, Default)]
pub struct About<'a> {
    /// The envelope in whose stream it stands.
    pub work: Option<&'a Work>,
    /// The access that it begins or belongs to.
    pub access: Option<&'a Access>,
    /// The patient, as [`patient_of`] says.
    pub patient: Option<AuditPatient>,
    /// Version of the agent, when it is known.
    pub agent_version: Option<String>,
    /// For searches: what the tool declares, with the patient filled in and everything else in braces.
    pub query: Option<String>,
    /// For deliveries: `[type]/[id]/_history/[version]` of each change; empty where it was erased.
    pub locations: Vec<String>,
}

/// Everything in hand while one AuditEvent is made.
pub(super) struct Telling<'a> {
    pub(super) recorded: &'a Recorded,
    pub(super) case: AuditCase,
    pub(super) row: &'a CaseRow,
    pub(super) codes: &'a AuditCodes,
    pub(super) system: &'a AuditSystem,
    pub(super) about: &'a About<'a>,
    pub(super) leaf: Digest,
}

/// The patient whom an event concerns, as far as event, envelope and access say.
pub fn patient_of(
    recorded: &Recorded,
    work: Option<&Work>,
    access: Option<&Access>,
) -> Option<PatientToken> {
    match &recorded.event {
        Event::GrantIssued(grant) => grant.patient,
        Event::EnvelopeOpened(envelope) => envelope.patient,
        Event::ReadPermitted(ceiling) => ceiling.patient,
        Event::TokenMinted { patient, .. }
        | Event::TokensResolved { patient, .. }
        | Event::TokenRevealed { patient, .. } => *patient,
        Event::AuditUsed(used) => used.patient,
        Event::BreakGlassStarted { patient, .. } | Event::BreakGlassEnded { patient, .. } => {
            Some(*patient)
        }
        Event::ConsentAnnounced { patient, .. }
        | Event::Launch(LaunchEvent::Entered { patient, .. }) => *patient,
        Event::Retention(event) => event.patient(),
        Event::Cohort(event) => event.patient(),
        Event::PatientMail(
            PatientMailEvent::Sending { patient, .. } | PatientMailEvent::NotSent { patient, .. },
        ) => *patient,
        Event::Writeback(WritebackEvent::Proposed(proposal)) => proposal.patient,
        _ => access
            .and_then(|access| access.patient)
            .or_else(|| work.and_then(|work| work.patient)),
    }
}

/// The AuditEvent of an entry; `None` when another entry tells it.
///
/// `leaf` is the leaf hash of the entry (RFC 6962), which leads to its proof in the tree.
pub fn audit_event(
    recorded: &Recorded,
    leaf: Digest,
    codes: &AuditCodes,
    system: &AuditSystem,
    about: &About<'_>,
) -> Option<Value> {
    let case = AuditCase::of(recorded, about.work, about.access)?;
    let row = codes.row(case)?;
    let telling = Telling {
        recorded,
        case,
        row,
        codes,
        system,
        about,
        leaf,
    };
    Some(telling.event())
}

impl Telling<'_> {
    fn event(&self) -> Value {
        let (outcome, why) = self.outcome();
        let mut event = json!({
            "resourceType": "AuditEvent",
            "id": self.id(),
            "meta": self.meta(&outcome),
            "type": self.codes.coding(&self.row.event_type),
            "action": self.row.action,
            "recorded": instant(self.recorded),
            "outcome": outcome,
            "agent": agents::of(self),
            "source": {
                "site": self.system.site,
                "observer": self.observer(),
                "type": [{
                    "system": "http://terminology.hl7.org/CodeSystem/security-source-type",
                    "code": if self.is_policy() { "6" } else { "4" },
                }],
            },
            "entity": entities::of(self),
        });
        let subtypes: Vec<Value> = self
            .row
            .subtypes
            .iter()
            .map(|code| self.codes.coding(code))
            .collect();
        if let Some(fields) = event.as_object_mut() {
            if !subtypes.is_empty() {
                fields.insert("subtype".to_owned(), json!(subtypes));
            }
            if let Some(why) = why.filter(|why| !why.is_empty()) {
                fields.insert("outcomeDesc".to_owned(), json!(why));
            }
            if let Some(purpose) = self.purpose() {
                fields.insert("purposeOfEvent".to_owned(), json!([purpose]));
            }
        }
        event
    }

    /// What saw it: Chaperone itself, which is also what decides.
    pub(super) fn observer(&self) -> Value {
        json!({ "identifier": {
            "system": "urn:chaperone:service",
            "value": format!("chaperone/{}", self.system.version),
        } })
    }

    /// The same entry always has the same id: 128 bits of a digest over tenant, place and leaf.
    fn id(&self) -> String {
        let digest = Digest::of_parts([
            &b"audit event 1"[..],
            self.system.tenant.as_str().as_bytes(),
            &self.recorded.seq.to_be_bytes(),
            self.leaf.as_bytes(),
        ]);
        uuid_of(&digest)
    }

    fn meta(&self, outcome: &str) -> Value {
        let row = self.row;
        let of_patient = self.about.patient.is_some() && !row.patient_profiles.is_empty();
        let mut profiles = if of_patient {
            row.patient_profiles.clone()
        } else {
            row.profiles.clone()
        };
        if of_patient && outcome == "0" {
            profiles.extend(row.success_profiles.iter().cloned());
        }
        let mut meta = json!({ "profile": profiles });
        if self.system.is_test
            && let Some(meta) = meta.as_object_mut()
        {
            let label = json!([{ "system": ACT_REASON, "code": "HTEST" }]);
            meta.insert("security".to_owned(), label);
        }
        meta
    }

    /// Whether it is the policy engine that speaks.
    fn is_policy(&self) -> bool {
        matches!(
            self.case,
            AuditCase::CallRefused
                | AuditCase::ConsentDenied
                | AuditCase::DecisionRefused
                | AuditCase::EhrEventRefused
                | AuditCase::RefusalsCounted
                | AuditCase::EgressRefused
                | AuditCase::Denied
                | AuditCase::ConsentLost
                | AuditCase::Ruled
        )
    }

    /// Outcome and why. Reasons are stable codes, never anybody's words.
    fn outcome(&self) -> (String, Option<String>) {
        let usual = || self.row.outcome.clone();
        match &self.recorded.event {
            Event::ReadPermitted(_) => match self.read().map(|read| &read.end) {
                Some(ReadEnd::Failed { code, .. }) => ("4".to_owned(), Some(code.clone())),
                _ => (usual(), None),
            },
            Event::CallRefused(refusal) => (usual(), Some(refusal.code.clone())),
            Event::DecisionRefused { code, .. } => (usual(), Some(code.clone())),
            Event::Passkey(PasskeyEvent::Refused { code, .. }) => (usual(), Some(code.clone())),
            Event::Launch(LaunchEvent::Refused { reason, .. }) => {
                (usual(), Some(reason.as_str().to_owned()))
            }
            Event::EhrEventRefused(refusal) => (usual(), Some(refusal.code.clone())),
            Event::RefusalsCounted { code, count, .. } => {
                (usual(), Some(format!("{code}, {count} times")))
            }
            Event::Key(KeyEvent::Failed { code, count, .. }) => {
                (usual(), Some(format!("{code}, {count} times")))
            }
            Event::EgressRefused { rule, count, .. } => {
                (usual(), Some(format!("{}, {count} times", rule.as_str())))
            }
            Event::Writeback(event) => self.outcome_of(event),
            _ => (usual(), None),
        }
    }

    fn outcome_of(&self, event: &WritebackEvent) -> (String, Option<String>) {
        use WritebackEvent as E;
        let usual = || self.row.outcome.clone();
        match event {
            E::Ruled { ruling, .. } => {
                let why = ruling.denial.clone();
                let denied = self.case == AuditCase::Denied;
                (usual(), why.or_else(|| denied.then(|| "denied".to_owned())))
            }
            E::Refused { refused } => {
                let why = match refused {
                    RefusedBy::Policy { code } => code.clone(),
                    RefusedBy::Validation { .. } => "validation".to_owned(),
                    RefusedBy::Human { .. } => "rejected".to_owned(),
                    RefusedBy::Edited { .. } => "edited".to_owned(),
                    RefusedBy::Expiry => "expired".to_owned(),
                    RefusedBy::Withdrawn => "withdrawn".to_owned(),
                    RefusedBy::RulesChanged => "rules-changed".to_owned(),
                };
                (usual(), Some(why))
            }
            E::Voided { reason } => (usual(), name_of(reason)),
            E::NotApplied { cause, .. } => ("4".to_owned(), name_of(cause)),
            E::HumanNeeded { reason } => (usual(), name_of(reason)),
            E::DeadLettered { cause } => (usual(), name_of(cause)),
            E::Quarantined { reason } => (usual(), name_of(reason)),
            E::OutcomeUnknown => (usual(), Some("outcome-unknown".to_owned())),
            _ => (usual(), None),
        }
    }

    /// Purpose of use as a CodeableConcept.
    pub(super) fn purpose(&self) -> Option<Value> {
        let code = match &self.recorded.event {
            Event::EnvelopeOpened(envelope) => envelope.purpose.as_str(),
            Event::BreakGlassStarted { .. } | Event::BreakGlassEnded { .. } => "BTG",
            Event::ReadPermitted(ceiling) if ceiling.purpose.is_some() => {
                ceiling.purpose.as_ref()?.as_str()
            }
            _ => self.work()?.purpose.as_ref()?.as_str(),
        };
        Some(json!({ "coding": [{ "system": ACT_REASON, "code": code }] }))
    }

    /// The envelope it belongs to.
    pub(super) fn work(&self) -> Option<&Work> {
        self.about
            .work
            .or_else(|| self.about.access.and_then(|access| access.work.as_ref()))
    }

    /// The read, for an event of one.
    pub(super) fn read(&self) -> Option<&ReadAccess> {
        match &self.about.access?.kind {
            AccessKind::Read(read) => Some(read),
            _ => None,
        }
    }

    /// The write, for an event of one.
    pub(super) fn write(&self) -> Option<&WriteAccess> {
        match &self.about.access?.kind {
            AccessKind::Write(write) => Some(write),
            _ => None,
        }
    }

    /// The agent it is about, whoever acted.
    pub(super) fn agent(&self) -> Option<&AgentId> {
        use chaperone_core::principal::Actor;
        match (&self.recorded.event, &self.recorded.actor) {
            (Event::GrantIssued(grant), _) => Some(&grant.agent),
            (Event::EnvelopeOpened(envelope), _) => Some(&envelope.agent),
            (Event::RefusalsCounted { agent, .. }, _) => agent.as_ref(),
            (_, Actor::Agent { agent, .. }) => Some(agent),
            _ => self.work().map(|work| &work.agent),
        }
    }

    /// The request, where the event belongs to one.
    pub(super) fn correlation(&self) -> Option<CorrelationId> {
        match &self.recorded.event {
            Event::ReadPermitted(ceiling) => Some(ceiling.correlation),
            Event::CallRefused(refusal) => Some(refusal.correlation),
            Event::EhrEventRefused(refusal) => Some(refusal.correlation),
            Event::TokensResolved { correlation, .. }
            | Event::SlotsMinted { correlation, .. }
            | Event::SlotsResolved { correlation, .. } => Some(*correlation),
            Event::AuditUsed(used) => Some(used.correlation),
            Event::Writeback(WritebackEvent::Proposed(proposal)) => Some(proposal.correlation),
            Event::Writeback(_) => self.write().map(|write| write.correlation),
            _ => None,
        }
    }
}

/// A digest as a UUID of version 8, which is for values made by rules of one's own (RFC 9562).
fn uuid_of(digest: &Digest) -> String {
    let mut bytes = [0_u8; 16];
    for (byte, drawn) in bytes.iter_mut().zip(digest.as_bytes()) {
        *byte = *drawn;
    }
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
    *version = (*version & 0x0f) | 0x80;
    *variant = (*variant & 0x3f) | 0x80;
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

const ACT_REASON: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";

fn instant(recorded: &Recorded) -> String {
    recorded.at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// The stored name of a unit variant.
pub(super) fn name_of(value: &impl Serialize) -> Option<String> {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
}
