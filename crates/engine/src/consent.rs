//! Consent at work: the patient's Consents read from the EHR, kept for a minute at most, and asked at every read,
//! for every resource found, and at every proposal. What they mean is decided in `chaperone_phi::consent`.
//!
//! ```text
//! the environment's own rule (a port; it can only deny) ─▶ Consents of the patient, kept or read now
//!     ─▶ may anything of this type be seen? no: the whole read is refused (403, recorded)
//!     ─▶ may this resource be seen? no: it is left out, as if it did not exist; how many were, is recorded
//! ```
//! Consents that cannot be read refuse. An opt-out that Chaperone has taken in and not yet delivered counts as if it
//! stood in the EHR already. Right before a send `queued` asks again, without what is kept here.
//! Start at [`Engine::consult`].

mod book;
mod queued;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chaperone_core::change::Direction;
use chaperone_core::ids::{AgentId, PatientToken};
use chaperone_core::ports::{
    ConsentDecision, ConsentQuestion, EhrReadFailed, EhrSearch, LISTED_MAX, PayloadClass,
};
use chaperone_core::resource::{Code, ResourceType};
use chaperone_core::writeback::StateName;
use chaperone_phi::consent::{
    Action, Asker, Basis, CONSENTS_MAX, ConsentTable, Consents, Decision, Denial, Home,
    Obligations, Question, Subject, Unclear, decide, leave_out,
};
use chaperone_policy::Bundle;
use serde_json::Value;

pub(crate) use book::ConsentBook;
pub(crate) use queued::{SendConsent, is_message};

use crate::call::Admitted;
use crate::context::{Engine, StartFailed};
use crate::errors::CallError;
use crate::propose::Inputs;

/// Characters of a Consent's name in the record.
const NAME_CHARS: usize = 16;
/// Most Consents that a basis names.
const NAMED_MAX: usize = 4;

/// Where Consents come from at this connection. Always said, never guessed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ConsentSource {
    /// The EHR keeps them; when they cannot be read, access is refused.
    #[default]
    Read,
    /// The EHR has none, and the organisation has said so: what holds without consent holds, and the record of
    /// every access says on what ground.
    NoneAtThisEhr,
}

impl ConsentSource {
    /// As configuration and record spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            ConsentSource::Read => "read",
            ConsentSource::NoneAtThisEhr => "none-at-this-ehr",
        }
    }
}

/// A patient's Consents, as they were read.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) consents: Consents,
    /// What the record calls each, by its logical id: ids can be guessed, and what is recorded must not confirm one.
    names: BTreeMap<String, String>,
}

/// Why Consents could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsentUnread {
    #[error(transparent)]
    Ehr(#[from] EhrReadFailed),
    #[error("a Consent of somebody else came back")]
    Foreign,
    #[error(transparent)]
    Call(#[from] CallError),
}

impl From<ConsentUnread> for CallError {
    fn from(unread: ConsentUnread) -> Self {
        tracing::warn!(error = %unread, "a patient's consents could not be read");
        CallError::consent_unread()
    }
}

/// What consent allows one access, for the resources it finds.
#[derive(Debug)]
pub(crate) struct Consulted {
    known: Arc<Known>,
    agent: AgentId,
    purpose: Code,
    /// What is recorded.
    pub(crate) basis: String,
    /// The patient whose Consents should be read anew beside the answer.
    renew: Option<PatientToken>,
}

/// The resources of an answer that may be seen.
#[derive(Debug, Default)]
pub(crate) struct Seen<'r> {
    pub(crate) visible: Vec<Cow<'r, Value>>,
    /// Elements that an obligation left out.
    pub(crate) withheld: BTreeSet<String>,
    /// What must be said with the answer.
    pub(crate) notices: BTreeSet<String>,
    /// How many resources were left out.
    pub(crate) left_out: u32,
}

/// The table of the bundle.
///
/// # Errors
/// [`StartFailed::Table`].
pub(crate) fn table_of(bundle: &Bundle) -> Result<ConsentTable, StartFailed> {
    bundle
        .rule_text(chaperone_phi::consent::RULES)
        .ok_or_else(|| "it is missing; `chaperone init` writes one to start from".to_owned())
        .and_then(|text| ConsentTable::parse(text).map_err(|why| why.to_string()))
        .map_err(|why| StartFailed::Table {
            file: "rules/consent.toml",
            why,
        })
}

impl Engine {
    /// Asks whether a call may go on; what it finds is asked about one by one, with the answer.
    ///
    /// # Errors
    /// `consent-denied`, and `consent-unreadable` when the Consents cannot be read.
    pub(crate) async fn consult(
        &self,
        admitted: &Admitted<'_>,
        resource: &ResourceType,
        is_about_patient: bool,
        action: Action,
    ) -> Result<Consulted, CallError> {
        let envelope = &admitted.caller.envelope;
        let is_write = action != Action::Read;
        let asked = ConsentQuestion {
            tenant: self.config.tenant.clone(),
            environment: self.ehr.environment(),
            patient: envelope.patient,
            intent: envelope.intent.clone(),
            purpose: envelope.purpose.clone(),
            resource: resource.clone(),
            write: is_write,
        };
        let ground = match self.consent.decide(asked).await {
            ConsentDecision::Permit { basis } => basis,
            ConsentDecision::Deny { code } => return Err(denied(code)),
        };
        let patient = envelope.patient.filter(|_| is_about_patient);
        let (known, renew) = match patient {
            Some(patient) => self.consents_of(patient).await?,
            None => (Arc::default(), false),
        };
        let mut consulted = Consulted {
            known,
            agent: envelope.agent.clone(),
            purpose: envelope.purpose.clone(),
            basis: String::new(),
            renew: patient.filter(|_| renew),
        };
        let subject = Subject::Type(resource.as_str());
        let basis = match self.ask(&consulted, action, subject) {
            // What a patient says about consents is governed by the matrix, not by the consents it changes.
            _ if is_write && resource.as_str() == "Consent" => "consent-itself".to_owned(),
            Decision::Permit { basis, .. } => consulted.known.words(&basis),
            Decision::Deny(denial) => return Err(consulted.known.denied(&denial)),
        };
        let source = match self.config.consent_source {
            ConsentSource::Read => "",
            ConsentSource::NoneAtThisEhr => "none-at-this-ehr/",
        };
        consulted.basis = format!("{source}{basis} + {ground}");
        Ok(consulted)
    }

    fn ask(&self, consulted: &Consulted, action: Action, subject: Subject<'_>) -> Decision {
        let question = Question {
            purpose: consulted.purpose.as_str(),
            action,
            asker: Asker::Agent(consulted.agent.as_str()),
            subject,
            break_glass: false,
            // What goes into the patient's own record is received by nobody else.
            can_notify: true,
            now: self.now(),
        };
        decide(&self.consent_table, &consulted.known.consents, &question)
    }

    /// The resources of an answer that consent lets the agent see; the others are left out without a trace in it.
    pub(crate) fn seen_by<'r>(&self, consulted: &Consulted, found: &'r [Value]) -> Seen<'r> {
        let mut seen = Seen::default();
        for resource in found {
            match self.ask(consulted, Action::Read, Subject::Resource(resource)) {
                Decision::Permit { obligations, .. } => seen.take(resource, obligations),
                Decision::Deny(_) => {
                    metrics::counter!("chaperone_consent_left_out_total").increment(1);
                    seen.left_out = seen.left_out.saturating_add(1);
                }
            }
        }
        seen
    }

    /// Whether consent covers a proposal: what it was made from, and what it would write.
    pub(crate) fn consent_to_proposal(
        &self,
        consulted: &Consulted,
        inputs: &Inputs,
        resource: &Value,
    ) -> Result<(), CallError> {
        for (name, input) in &inputs.resources {
            if let Decision::Deny(denial) =
                self.ask(consulted, Action::Read, Subject::Resource(input))
            {
                // The same as if it did not exist: a read would not have shown it.
                return Err(CallError::not_found()
                    .about(name.as_str())
                    .because(denial.code())
                    .by_consent(consulted.known.name_of(&denial)));
            }
        }
        if resource.get("resourceType").and_then(Value::as_str) == Some("Consent") {
            return Ok(());
        }
        match self.ask(consulted, Action::Write, Subject::Resource(resource)) {
            Decision::Permit { .. } => {}
            Decision::Deny(denial) => return Err(consulted.known.denied(&denial)),
        }
        self.may_reach(&consulted.known, resource, inputs.patient.as_ref())
            .map_err(|denial| denied(denial.to_string()))
    }

    /// Reads the Consents anew where they will soon be too old, beside an answer that still rests on them.
    pub(crate) async fn renew_consents(&self, consulted: &Consulted) {
        if let Some(patient) = consulted.renew
            && let Err(unread) = self.read_consents(patient).await
        {
            tracing::info!(error = %unread, "consents could not be read anew");
        }
    }

    /// What is known of a patient's Consents, and whether to read them anew beside.
    async fn consents_of(
        &self,
        patient: PatientToken,
    ) -> Result<(Arc<Known>, bool), ConsentUnread> {
        match self.consents.known(patient, self.now()) {
            Some(known) => Ok(known),
            None => Ok((self.read_consents(patient).await?, false)),
        }
    }

    /// Reads the Consents of a patient, and the opt-outs that are not in the EHR yet.
    pub(crate) async fn read_consents(
        &self,
        patient: PatientToken,
    ) -> Result<Arc<Known>, ConsentUnread> {
        let (at, round) = (self.now(), self.consents.round());
        let id = self.patient_id(patient).await.map_err(CallError::from)?;
        let (found, own) = futures::join!(self.search_consents(&id), self.own_opt_outs(patient));
        let (mut found, more) = found?;
        for body in own? {
            // A change of one that stands there takes its place.
            let replaced = body.get("id").cloned();
            found.retain(|it| replaced.is_none() || it.get("id") != replaced.as_ref());
            found.push(body);
        }
        let home = Home {
            patient: &id,
            base_url: self.ehr.endpoint(),
        };
        let mut consents = Consents::read(&found, home);
        if more {
            consents.unclear = Some(Unclear::Limit);
        }
        let known = Arc::new(Known {
            names: self.names_of(patient, &found).await?,
            consents,
        });
        self.consents.keep(round, at, patient, &known);
        Ok(known)
    }

    async fn search_consents(&self, id: &str) -> Result<(Vec<Value>, bool), ConsentUnread> {
        if self.config.consent_source == ConsentSource::NoneAtThisEhr {
            return Ok((Vec::new(), false));
        }
        let resource = ResourceType::new("Consent").map_err(|_| CallError::internal())?;
        let found = self
            .ehr
            .search(EhrSearch {
                resource,
                parameters: vec![("patient".to_owned(), format!("Patient/{id}"))],
                limit: u32::try_from(CONSENTS_MAX).unwrap_or(u32::MAX),
            })
            .await?;
        let is_own = |consent: &Value| {
            consent.get("resourceType").and_then(Value::as_str) == Some("Consent")
                && self.belongs_to(consent, id)
        };
        match found.resources.iter().all(is_own) {
            true => Ok((found.resources, found.more)),
            false => Err(ConsentUnread::Foreign),
        }
    }

    /// Opt-outs that were taken in here and are on their way, or wait for a person to enter them. That the EHR
    /// does not have them yet is not the patient's concern.
    async fn own_opt_outs(&self, patient: PatientToken) -> Result<Vec<Value>, CallError> {
        const ON_THEIR_WAY: [StateName; 4] = [
            StateName::Ready,
            StateName::Delivering,
            StateName::Unknown,
            StateName::DeadLetter,
        ];
        let mut bodies = Vec::new();
        for row in self.newest_of_patient(patient, LISTED_MAX).await? {
            let is_consent = row
                .resource
                .as_ref()
                .is_some_and(|it| it.as_str() == "Consent");
            if !is_consent || !ON_THEIR_WAY.contains(&row.state) {
                continue;
            }
            let hand = self
                .take_in_hand(row.id)
                .await
                .map_err(crate::propose::move_failed)?;
            let Some(ruled) = hand.state.ruled() else {
                continue;
            };
            if ruled.change.direction != Direction::MorePrivate {
                continue;
            }
            // An opting out is never proposed together with anything else: these are its one body.
            let own = self
                .order_bodies(&ruled.order.address)
                .await
                .map_err(|failed| {
                    tracing::warn!(error = %failed, "an opt-out on its way cannot be opened");
                    CallError::consent_unread()
                })?;
            bodies.extend(own);
        }
        Ok(bodies)
    }

    /// What the record calls each Consent: the same one the same, and nothing that lets its id be tried out.
    async fn names_of(
        &self,
        patient: PatientToken,
        consents: &[Value],
    ) -> Result<BTreeMap<String, String>, CallError> {
        let mut names = BTreeMap::new();
        for consent in consents {
            let text = |pointer: &str| {
                consent
                    .pointer(pointer)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            let (id, version) = (text("/id"), text("/meta/versionId"));
            let parts: [&[u8]; 3] = [b"consent", id.as_bytes(), version.as_bytes()];
            let digest = self
                .keyed_digest(PayloadClass::Derived, Some(patient), &parts)
                .await?;
            let text = digest.to_string();
            let from = text.len().saturating_sub(NAME_CHARS);
            names.insert(
                id.to_owned(),
                text.get(from..).unwrap_or_default().to_owned(),
            );
        }
        Ok(names)
    }
}

impl Known {
    /// A refusal, with what decided for the record alone.
    fn denied(&self, denial: &Denial) -> CallError {
        denied(denial.code()).by_consent(self.name_of(denial))
    }

    /// What the record calls the Consent that refused, where one did.
    fn name_of(&self, denial: &Denial) -> Option<String> {
        match denial {
            Denial::Refused(id) => self.names.get(id).cloned(),
            _ => None,
        }
    }

    /// What a permission rests on, as it is recorded.
    fn words(&self, basis: &Basis) -> String {
        match basis {
            Basis::WithoutConsent => "without-consent".to_owned(),
            Basis::BreakGlass => "break-glass".to_owned(),
            Basis::Consents(ids) => {
                let names: BTreeSet<&str> = ids
                    .iter()
                    .filter_map(|id| self.names.get(id))
                    .map(String::as_str)
                    .take(NAMED_MAX)
                    .collect();
                format!(
                    "consent/{}",
                    names.into_iter().collect::<Vec<_>>().join("/")
                )
            }
        }
    }
}

impl<'r> Seen<'r> {
    fn take(&mut self, resource: &'r Value, obligations: Obligations) {
        self.notices.extend(obligations.notices);
        if obligations.leave_out.is_empty() {
            self.visible.push(Cow::Borrowed(resource));
            return;
        }
        let mut reduced = resource.clone();
        let gone = leave_out(&mut reduced, &obligations.leave_out);
        self.withheld.extend(gone);
        self.visible.push(Cow::Owned(reduced));
    }
}

/// What the agent hears is the same whatever decided; what decided is recorded.
fn denied(code: String) -> CallError {
    CallError::consent_denied().because(code)
}
