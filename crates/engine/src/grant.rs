//! Context grants: how a patient comes before an agent. An agent can neither name nor choose one.
//!
//! Three ways in: a human assigns at the console, an EHR event arrives (`crate::ehr_event`), or a
//! dispatcher on the allow-list asks. In each, the patient is resolved at the EHR, merged records are
//! followed to the surviving one, and what the grant carries is a token. How an agent hears of what waits
//! for it is `crate::collect`.

use chaperone_core::bundle::PatientBinding;
use chaperone_core::envelope::{Grant, GrantSource, Presence};
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{AgentId, CorrelationId, GrantId, IntentId, PatientToken};
use chaperone_core::ports::{
    Commit, CommitFailed, EhrReadFailed, EhrSearch, Expected, Record, RecordChange, StoreFailed,
};
use chaperone_core::principal::{Actor, Human, Role};
use chaperone_core::resource::ResourceType;
use chaperone_core::search::escape_search_value;
use serde::Deserialize;
use serde_json::Value;

use crate::context::{Engine, after};
use crate::errors::CallError;
use crate::open_envelope::{Caller, GRANTS};
use crate::projection::sortable;
use crate::tokens::{TokenFailed, TokenTarget};

/// How long a grant waits to be used, in seconds.
const GRANT_SECONDS: i64 = 15 * 60;
/// How many `replaced-by` links are followed.
const MERGES_MAX: u32 = 3;
/// Roles that may put a patient before an agent.
const ASSIGNERS: [Role; 6] = [
    Role::Clinician,
    Role::Rn,
    Role::MaRn,
    Role::Pharmacist,
    Role::Scheduler,
    Role::Him,
];

/// Which patient is meant.
#[derive(Debug, Clone)]
pub enum PatientRef {
    /// By token, as the console's pages know patients.
    Token(PatientToken),
    /// By logical id at the EHR.
    LogicalId(String),
    /// By business identifier.
    Identifier {
        /// Its system.
        system: String,
        /// Its value.
        value: String,
    },
}

/// What a grant is for.
#[derive(Debug, Clone)]
pub struct GrantRequest {
    /// The agent that may use it.
    pub agent: AgentId,
    /// The intent it opens.
    pub intent: IntentId,
    /// The patient.
    pub patient: PatientRef,
    /// Logical id of the encounter, when the work belongs to one.
    pub encounter: Option<String>,
    /// Whether the human stays present; ignored for other authors.
    pub presence: bool,
}

/// A dispatcher's request, as it arrives.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DispatchRequest {
    /// The agent that may use the grant.
    pub agent: AgentId,
    /// The intent it opens.
    pub intent: IntentId,
    /// Business identifier of the patient.
    pub patient: DispatchPatient,
    /// Logical id of the encounter.
    #[serde(default)]
    pub encounter: Option<String>,
}

/// How a dispatcher names a patient.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DispatchPatient {
    /// System of the identifier.
    pub system: String,
    /// Its value.
    pub value: String,
}

/// Why no grant was made.
#[derive(Debug, thiserror::Error)]
pub enum GrantFailed {
    /// The person's roles do not allow it.
    #[error("your roles do not allow assigning patients to agents")]
    NotPermitted,
    /// The agent is not registered for the intent.
    #[error("this agent is not registered for this intent")]
    NotRegistered,
    /// An agreement in the agent's provider chain has expired.
    #[error("an agreement in this agent's provider chain is missing or has expired")]
    AgentRefused,
    /// The intent is about no patient.
    #[error("this intent is about no patient and takes no grant")]
    PatientFree,
    /// No such patient, or more than one.
    #[error("exactly one patient must match; none or several did")]
    PatientNotFound,
    /// The encounter is not one of this patient.
    #[error("the encounter is not one of this patient")]
    EncounterNotFound,
    /// The EHR failed.
    #[error(transparent)]
    Ehr(EhrReadFailed),
    /// A token failed.
    #[error(transparent)]
    Token(#[from] TokenFailed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// The grant could not be recorded.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
}

impl From<GrantFailed> for CallError {
    fn from(failed: GrantFailed) -> Self {
        match failed {
            GrantFailed::NotPermitted | GrantFailed::NotRegistered | GrantFailed::PatientFree => {
                CallError::denied()
            }
            GrantFailed::AgentRefused => CallError::agent_refused(),
            GrantFailed::PatientNotFound | GrantFailed::EncounterNotFound => CallError::not_found(),
            GrantFailed::Ehr(failed) => failed.into(),
            GrantFailed::Token(failed) => failed.into(),
            GrantFailed::Store(failed) => failed.into(),
            GrantFailed::Commit(failed) => failed.into(),
        }
    }
}

impl Engine {
    /// Makes a grant for a human at the console or for an EHR event.
    ///
    /// # Errors
    /// [`GrantFailed`]; nothing is recorded then.
    pub async fn issue_grant(
        &self,
        by: &Human,
        request: GrantRequest,
    ) -> Result<Grant, GrantFailed> {
        let now = self.now();
        if !ASSIGNERS.into_iter().any(|role| by.holds(role)) {
            return Err(GrantFailed::NotPermitted);
        }
        // Only a clinician's presence counts where an intent demands presence.
        let presence = (request.presence && by.holds(Role::Clinician)).then(|| Presence {
            person: by.person,
            until: after(now, GRANT_SECONDS),
        });
        let source = GrantSource::Human { person: by.person };
        let actor = Actor::from(by);
        self.make_grant(request, source, actor, presence).await
    }

    /// Makes a grant for a dispatcher on the allow-list.
    ///
    /// # Errors
    /// `denied` when the pair of agent and intent is not on the dispatcher's list, `not-found` when
    /// not exactly one patient matches.
    pub async fn dispatch_grant(
        &self,
        caller: &Caller,
        request: DispatchRequest,
        correlation: CorrelationId,
    ) -> Result<Grant, CallError> {
        let dispatcher = caller.envelope.agent.clone();
        let is_dispatching = caller.envelope.intent.as_str() == crate::open_envelope::DISPATCH;
        let allowed = is_dispatching
            && self.bundle.agent(&dispatcher).is_some_and(|agent| {
                agent
                    .dispatches
                    .iter()
                    .any(|d| d.agent == request.agent && d.intent == request.intent)
            });
        let made = if allowed {
            let grant = GrantRequest {
                agent: request.agent,
                intent: request.intent,
                patient: PatientRef::Identifier {
                    system: request.patient.system,
                    value: request.patient.value,
                },
                encounter: request.encounter,
                presence: false,
            };
            self.make_grant(
                grant,
                GrantSource::Dispatcher { dispatcher },
                caller.actor(),
                None,
            )
            .await
        } else {
            Err(GrantFailed::NotPermitted)
        };
        match made {
            Ok(grant) => Ok(grant),
            Err(failed) => Err(self
                .record_refusal(Some(caller), None, None, failed.into(), correlation)
                .await),
        }
    }

    async fn make_grant(
        &self,
        request: GrantRequest,
        source: GrantSource,
        actor: Actor,
        presence: Option<Presence>,
    ) -> Result<Grant, GrantFailed> {
        let agent = self
            .bundle
            .agent(&request.agent)
            .ok_or(GrantFailed::NotRegistered)?;
        let intent = self
            .bundle
            .intent(&request.intent)
            .ok_or(GrantFailed::NotRegistered)?;
        if !agent.intents.contains(&intent.id) {
            return Err(GrantFailed::NotRegistered);
        }
        if intent.patient == PatientBinding::None {
            return Err(GrantFailed::PatientFree);
        }
        self.check_standing(agent, self.now())
            .map_err(|_lapsed| GrantFailed::AgentRefused)?;
        let patient_id = self.surviving_patient(&request.patient).await?;
        let patient = self.patient_token(&patient_id).await?;
        let encounter = match &request.encounter {
            None => None,
            Some(id) => Some(self.encounter_of(id, &patient_id, patient).await?),
        };
        let grant = Grant {
            id: GrantId::from_random(self.random.id()),
            tenant: self.config.tenant.clone(),
            agent: agent.id.clone(),
            intent: intent.id.clone(),
            patient: Some(patient),
            encounter,
            work_item: None,
            presence,
            source,
            expires: after(self.now(), GRANT_SECONDS),
        };
        let mut commit = self.commit_as(actor);
        self.put_grant(&mut commit, &grant)?;
        self.store.commit(commit).await?;
        Ok(grant)
    }

    /// Puts a grant into a commit: the record that is used up once, and the event.
    pub(crate) fn put_grant(&self, commit: &mut Commit, grant: &Grant) -> Result<(), StoreFailed> {
        let value = serde_json::to_value(grant).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
        let mut record = Record::new(GRANTS, grant.id, value).expiring(grant.expires);
        if is_collected(&grant.source) {
            record = record.indexed(grant.agent.as_str(), sortable(commit.at));
        }
        commit.records.push(RecordChange::Create(record));
        commit.append(
            StreamId::Grant(grant.id),
            Expected::Version(0),
            Event::GrantIssued(Box::new(grant.clone())),
        );
        Ok(())
    }

    /// The logical id of the patient meant, following merges to the record that survived.
    pub(crate) async fn surviving_patient(
        &self,
        patient: &PatientRef,
    ) -> Result<String, GrantFailed> {
        let mut id = match patient {
            PatientRef::Token(token) => self.patient_id(*token).await?,
            PatientRef::LogicalId(id) => id.clone(),
            PatientRef::Identifier { system, value } => self.identified(system, value).await?,
        };
        for _ in 0..MERGES_MAX {
            let record = match self.ehr.read(&resource_type("Patient")?, &id).await {
                Ok(record) => record,
                Err(EhrReadFailed::NotFound) => return Err(GrantFailed::PatientNotFound),
                Err(failed) => return Err(GrantFailed::Ehr(failed)),
            };
            match self.surviving(&record) {
                Surviving::Other(next) => id = next,
                Surviving::This => return Ok(id),
                Surviving::Unclear => return Err(GrantFailed::PatientNotFound),
            }
        }
        Err(GrantFailed::PatientNotFound)
    }

    async fn identified(&self, system: &str, value: &str) -> Result<String, GrantFailed> {
        let token = format!(
            "{}|{}",
            escape_search_value(system),
            escape_search_value(value)
        );
        let found = self
            .ehr
            .search(EhrSearch {
                resource: resource_type("Patient")?,
                parameters: vec![("identifier".to_owned(), token)],
                limit: 2,
            })
            .await
            .map_err(GrantFailed::Ehr)?;
        match found.resources.as_slice() {
            // A server that passes over the parameter, or reads it its own way, finds somebody else.
            [one] if !found.more && carries(one, system, value) => one
                .get("id")
                .and_then(Value::as_str)
                .map(str::to_owned)
                .ok_or(GrantFailed::PatientNotFound),
            _ => Err(GrantFailed::PatientNotFound),
        }
    }

    /// Where a merged record leads. A link that cannot be followed is no reason to use the old record.
    fn surviving(&self, patient: &Value) -> Surviving {
        let links = patient.get("link").and_then(Value::as_array);
        let replaced = links
            .into_iter()
            .flatten()
            .find(|link| link.get("type").and_then(Value::as_str) == Some("replaced-by"));
        let Some(link) = replaced else {
            return match patient.get("active").and_then(Value::as_bool) {
                Some(false) => Surviving::Unclear,
                _ => Surviving::This,
            };
        };
        let reference = link.pointer("/other/reference").and_then(Value::as_str);
        match reference.and_then(|reference| self.own(reference, "Patient")) {
            Some(id) => Surviving::Other(id.to_owned()),
            None => Surviving::Unclear,
        }
    }

    /// The token of an encounter that is this patient's own.
    pub(crate) async fn encounter_of(
        &self,
        id: &str,
        patient_id: &str,
        patient: PatientToken,
    ) -> Result<chaperone_core::ids::ResourceToken, GrantFailed> {
        let encounter = resource_type("Encounter")?;
        let record = match self.ehr.read(&encounter, id).await {
            Ok(record) => record,
            Err(EhrReadFailed::NotFound) => return Err(GrantFailed::EncounterNotFound),
            Err(failed) => return Err(GrantFailed::Ehr(failed)),
        };
        if !self.belongs_to(&record, patient_id) {
            return Err(GrantFailed::EncounterNotFound);
        }
        let target = TokenTarget {
            resource: encounter,
            id: id.to_owned(),
            patient: Some(patient),
        };
        let tokens = self.resource_tokens(&[target]).await?;
        tokens
            .first()
            .copied()
            .ok_or(GrantFailed::EncounterNotFound)
    }
}

/// Whether the agent asks for grants of this kind itself. A dispatcher hands over its own.
fn is_collected(source: &GrantSource) -> bool {
    match source {
        GrantSource::Human { .. }
        | GrantSource::EhrNotification { .. }
        | GrantSource::Cohort { .. } => true,
        // The first is of old ledgers: events are announced by sources now.
        GrantSource::EhrEvent | GrantSource::PatientSession | GrantSource::Dispatcher { .. } => {
            false
        }
    }
}

fn resource_type(name: &str) -> Result<ResourceType, StoreFailed> {
    ResourceType::new(name).map_err(|e| StoreFailed::Corrupt(e.to_string()))
}

/// Which record of a patient is in use.
enum Surviving {
    This,
    Other(String),
    Unclear,
}

fn carries(patient: &Value, system: &str, value: &str) -> bool {
    let identifiers = patient.get("identifier").and_then(Value::as_array);
    identifiers.into_iter().flatten().any(|identifier| {
        let is =
            |name: &str, wanted: &str| identifier.get(name).and_then(Value::as_str) == Some(wanted);
        is("system", system) && is("value", value)
    })
}
