//! Context grants and envelopes: who put which patient before which agent, and for how long.
//!
//! An agent can neither name nor choose a patient (invariant 8): the patient comes from a grant that
//! the agent could not have made, and the grant is spent when the envelope opens.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::digest::Digest;
use crate::ids::{
    AgentId, CohortJobId, EhrEventSource, EhrEventType, EnvelopeId, GrantId, IntentId,
    PatientToken, PersonId, ResourceToken, TenantId,
};
use crate::resource::Code;

/// Longest life of an envelope and of the token that names it, in seconds.
pub const ENVELOPE_SECONDS_MAX: i64 = 300;

/// Who made a context grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum GrantSource {
    /// A human assigned the patient or work item at the console.
    Human {
        /// The person.
        person: PersonId,
    },
    /// An event or work item of the EHR of which nothing more is recorded.
    EhrEvent,
    /// An event of the EHR that a source announced and the EHR itself confirmed.
    EhrNotification {
        /// Who announced it.
        notified_by: EhrEventSource,
        /// What happened.
        event_type: EhrEventType,
        /// A keyed digest of source and event id: the same for the same event, and saying nothing about it
        /// to whoever lacks the key.
        event: Digest,
    },
    /// The patient's own authenticated session.
    PatientSession,
    /// A dispatcher on the allow-list.
    Dispatcher {
        /// The dispatching agent.
        dispatcher: AgentId,
    },
    /// A list of patients that one person asked for and another approved.
    Cohort {
        /// The job.
        job: CohortJobId,
        /// Who asked for the list.
        requester: PersonId,
    },
}

/// A human that the agent acts for, present during the envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// The person.
    pub person: PersonId,
    /// Until when the presence counts as live.
    pub until: Timestamp,
}

/// A context grant: single-use, bound to agent, intent, patient, encounter and presence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its id; what the agent presents.
    pub id: GrantId,
    /// The organisation.
    pub tenant: TenantId,
    /// The only agent that may use it.
    pub agent: AgentId,
    /// The only intent it opens.
    pub intent: IntentId,
    /// The patient, unless the intent is patient-free.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub patient: Option<PatientToken>,
    /// The encounter, when the work belongs to one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub encounter: Option<ResourceToken>,
    /// What the work is about, such as the appointment that was booked, when an event named it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub work_item: Option<ResourceToken>,
    /// The human the agent acts for, when one is present.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub presence: Option<Presence>,
    /// Who made it.
    pub source: GrantSource,
    /// When it stops being usable.
    pub expires: Timestamp,
}

/// An open envelope: every call of an agent happens inside one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Its id; all that the access token carries.
    pub id: EnvelopeId,
    /// The organisation.
    pub tenant: TenantId,
    /// The agent.
    pub agent: AgentId,
    /// The intent.
    pub intent: IntentId,
    /// The grant it was opened with, unless the intent is patient-free.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub grant: Option<GrantId>,
    /// The patient, unless the intent is patient-free.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub patient: Option<PatientToken>,
    /// The encounter, when the work belongs to one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub encounter: Option<ResourceToken>,
    /// The human the agent acts for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub presence: Option<Presence>,
    /// Purpose of use, a v3-ActReason code.
    pub purpose: Code,
    /// The governance bundle in force when it opened.
    pub bundle: Digest,
    /// When it opened.
    pub opened: Timestamp,
    /// When it closes.
    pub expires: Timestamp,
}

impl Envelope {
    /// Whether calls are still accepted.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.opened <= now && now < self.expires
    }
}
