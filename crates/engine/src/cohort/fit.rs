//! Who is found for a cohort, and who may not be on its list. The same questions are asked when a list is made, right
//! before each grant, and when an agent uses one: of the EHR, as it is then.
//!
//! What cannot be told leaves a patient out; an EHR that does not answer leaves everything as it is.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::cohort::{CohortDeclaration, CohortRemoval, Minors};
use chaperone_core::ids::PatientToken;
use chaperone_core::ports::{ConsentDecision, ConsentQuestion, EhrReadFailed, KeyVaultFailed};
use chaperone_core::resource::{Code, ResourceType};
use chaperone_fhir::Definitions;
use chaperone_phi::consent::contact::{Contact, ContactDenial, is_contact, is_of_age, may_contact};
use chaperone_phi::consent::{
    Action, Asker, ConsentTable, Consents, Decision, Question, Subject, decide,
};
use chaperone_phi::labels::Labels;
use chaperone_policy::Bundle;
use futures::StreamExt as _;
use serde_json::Value;

use super::CohortFailed;
use crate::consent::ConsentUnread;
use crate::context::{Engine, StartFailed};
use crate::grant::{GrantFailed, PatientRef};
use crate::tokens::TokenFailed;

/// Patients looked at at the same time.
const AT_ONCE: usize = 8;
/// Most resources looked at to tell whether one patient still fits.
const OF_PATIENT_MAX: u32 = 100;

/// Who was found.
pub(super) struct Found {
    /// Who may be on the list, in the order of the EHR, each once.
    pub(super) fitting: Vec<PatientToken>,
    /// How many may not.
    pub(super) removed: BTreeMap<CohortRemoval, u64>,
}

/// Whether a token leads nowhere any more: it stands for nothing, or its patient was shredded.
pub(super) fn is_gone(failed: &TokenFailed) -> bool {
    matches!(
        failed,
        TokenFailed::Unknown
            | TokenFailed::Unreadable(_)
            | TokenFailed::Keys(KeyVaultFailed::Destroyed)
    )
}

/// What only FHIR's definitions and the table of consent can say about cohorts.
///
/// # Errors
/// [`StartFailed::Table`] names what is wrong.
pub(crate) fn check_cohorts(
    bundle: &Bundle,
    definitions: &Definitions,
    consent: &ConsentTable,
) -> Result<(), StartFailed> {
    let wrong = |why: String| StartFailed::Table {
        file: chaperone_policy::bundle::COHORTS_PATH,
        why,
    };
    let searches = bundle.cohort_bounds().map(|bounds| &bounds.searches);
    for (resource, searchable) in searches.into_iter().flatten() {
        let type_name = resource.as_str();
        if !definitions.is_resource_type(type_name) {
            return Err(wrong(format!("`{type_name}` is no type of resource")));
        }
        let paths = searchable.codes.values().chain(searchable.dates.values());
        for path in paths.chain([&searchable.patient]) {
            if definitions.element_type(type_name, path).is_none() {
                return Err(wrong(format!("`{path}` is no element of {type_name}")));
            }
        }
    }
    for cohort in bundle.cohorts() {
        let Some(contact) = &cohort.contact else {
            continue;
        };
        for channel in &contact.channels {
            let wanted = Contact {
                channel: channel.clone(),
                purpose: contact.purpose.clone(),
            };
            if !is_contact(consent, &wanted) {
                return Err(wrong(format!(
                    "cohort `{}`: `{channel}` for `{}` is no channel and purpose of contact that rules/consent.toml lists",
                    cohort.id, contact.purpose
                )));
            }
        }
    }
    Ok(())
}

impl Engine {
    /// Everybody whom the cohort's search finds, as far as they may be on a list.
    pub(super) async fn find_cohort(
        &self,
        cohort: &CohortDeclaration,
        arguments: &BTreeMap<String, i64>,
    ) -> Result<Found, CohortFailed> {
        let bounds = self.bundle.cohort_bounds();
        let bounds = bounds.ok_or(CohortFailed::UnknownCohort)?;
        let searched = self
            .searched(&cohort.search, arguments, None, bounds.found_max)
            .await?;
        if searched.more {
            return Err(CohortFailed::TooManyFound(bounds.found_max));
        }
        let mut seen = BTreeSet::new();
        let named: Vec<String> = searched
            .matches
            .into_iter()
            .map(|(patient, _)| patient)
            .filter(|patient| seen.insert(patient.clone()))
            .collect();
        let looks = named.into_iter().map(|id| async move {
            // A record that was merged into another stands for that one.
            match self.in_use(&id).await? {
                None => Ok((None, Err(CohortRemoval::NotFound))),
                Some(id) => {
                    let token = match self.patient_token(&id).await {
                        Ok(token) => token,
                        Err(failed) if is_gone(&failed) => {
                            return Ok((None, Err(CohortRemoval::NotFound)));
                        }
                        Err(failed) => return Err(failed.into()),
                    };
                    let fits = self.fits(cohort, arguments, &id, token).await?;
                    Ok::<_, CohortFailed>((Some(token), fits))
                }
            }
        });
        let mut looked = futures::stream::iter(looks).buffered(AT_ONCE);
        let mut found = Found {
            fitting: Vec::new(),
            removed: BTreeMap::new(),
        };
        let mut taken = BTreeSet::new();
        while let Some(outcome) = looked.next().await {
            let (token, fits) = outcome?;
            // Two records of one patient are one patient.
            if token.is_some_and(|token| !taken.insert(token)) {
                continue;
            }
            match (token, fits) {
                (Some(token), Ok(())) => found.fitting.push(token),
                (_, Err(because)) => {
                    let count = found.removed.entry(because).or_default();
                    *count = count.saturating_add(1);
                }
                (None, Ok(())) => {}
            }
        }
        Ok(found)
    }

    /// Whether a patient of a list may still come before the agent: the record in use, and all that `fits` asks.
    pub(super) async fn still_fits(
        &self,
        cohort: &CohortDeclaration,
        arguments: &BTreeMap<String, i64>,
        patient: PatientToken,
    ) -> Result<Result<(), CohortRemoval>, CohortFailed> {
        let id = match self.patient_id(patient).await {
            Ok(id) => id,
            Err(failed) if is_gone(&failed) => return Ok(Err(CohortRemoval::NotFound)),
            Err(failed) => return Err(failed.into()),
        };
        match self.in_use(&id).await? {
            None => Ok(Err(CohortRemoval::NotFound)),
            Some(now) if now != id => Ok(Err(CohortRemoval::Merged)),
            Some(id) => self.fits(cohort, arguments, &id, patient).await,
        }
    }

    async fn in_use(&self, id: &str) -> Result<Option<String>, CohortFailed> {
        let patient = PatientRef::LogicalId(id.to_owned());
        match self.surviving_patient(&patient).await {
            Ok(id) => Ok(Some(id)),
            Err(GrantFailed::PatientNotFound) => Ok(None),
            Err(GrantFailed::Ehr(failed)) => Err(CohortFailed::Ehr(failed)),
            Err(GrantFailed::Token(failed)) => Err(CohortFailed::Token(failed)),
            Err(GrantFailed::Store(failed)) => Err(CohortFailed::Store(failed)),
            Err(_) => Err(CohortFailed::Internal),
        }
    }

    async fn fits(
        &self,
        cohort: &CohortDeclaration,
        arguments: &BTreeMap<String, i64>,
        id: &str,
        token: PatientToken,
    ) -> Result<Result<(), CohortRemoval>, CohortFailed> {
        let kind = ResourceType::new("Patient").map_err(|_| CohortFailed::Internal)?;
        let patient = match self.ehr.read(&kind, id).await {
            Ok(patient) => patient,
            Err(EhrReadFailed::NotFound) => return Ok(Err(CohortRemoval::NotFound)),
            Err(failed) => return Err(failed.into()),
        };
        if patient.get("deceasedBoolean") == Some(&Value::Bool(true))
            || patient.get("deceasedDateTime").is_some()
        {
            return Ok(Err(CohortRemoval::Deceased));
        }
        if Labels::of(&patient).restriction().is_some() {
            return Ok(Err(CohortRemoval::Restricted));
        }
        if cohort.minors == Minors::LeaveOut
            && !is_of_age(&self.consent_table, &patient, self.now())
        {
            return Ok(Err(CohortRemoval::Minor));
        }
        // Read anew each time: what a minute ago was agreed to may be withdrawn.
        let known = match self.read_consents(token).await {
            Ok(known) => known,
            Err(ConsentUnread::Ehr(failed)) => return Err(failed.into()),
            Err(ConsentUnread::Call(failed)) => return Err(failed.into()),
            Err(ConsentUnread::Foreign) => return Ok(Err(CohortRemoval::Consent)),
        };
        if !self
            .cohort_consents(cohort, &known.consents, token, &patient)
            .await
        {
            return Ok(Err(CohortRemoval::Consent));
        }
        if let Err(because) = self.may_be_reached(cohort, &known.consents, &patient) {
            return Ok(Err(because));
        }
        self.is_due(cohort, arguments, id, &known.consents).await
    }

    /// Whether the environment's own rule and the patient's Consents let the agent see the patient for this purpose.
    async fn cohort_consents(
        &self,
        cohort: &CohortDeclaration,
        consents: &Consents,
        token: PatientToken,
        patient: &Value,
    ) -> bool {
        let Some(intent) = self.bundle.intent(&cohort.intent) else {
            return false;
        };
        let Ok(resource) = ResourceType::new("Patient") else {
            return false;
        };
        let asked = ConsentQuestion {
            tenant: self.config.tenant.clone(),
            environment: self.ehr.environment(),
            patient: Some(token),
            intent: intent.id.clone(),
            purpose: intent.purpose_of_use.clone(),
            resource,
            write: false,
        };
        match self.consent.decide(asked).await {
            ConsentDecision::Deny { .. } => false,
            ConsentDecision::Permit { .. } => {
                self.opens(cohort, &intent.purpose_of_use, consents, patient)
            }
        }
    }

    /// Whether Consents let the cohort's agent see one resource.
    fn opens(
        &self,
        cohort: &CohortDeclaration,
        purpose: &Code,
        consents: &Consents,
        resource: &Value,
    ) -> bool {
        let question = Question {
            purpose: purpose.as_str(),
            action: Action::Read,
            asker: Asker::Agent(cohort.agent.as_str()),
            subject: Subject::Resource(resource),
            break_glass: false,
            can_notify: true,
            now: self.now(),
        };
        matches!(
            decide(&self.consent_table, consents, &question),
            Decision::Permit { .. }
        )
    }

    /// Whether one of the cohort's channels is open for its purpose.
    fn may_be_reached(
        &self,
        cohort: &CohortDeclaration,
        consents: &Consents,
        patient: &Value,
    ) -> Result<(), CohortRemoval> {
        let Some(contact) = &cohort.contact else {
            return Ok(());
        };
        let mut because = CohortRemoval::NoContact;
        for channel in &contact.channels {
            let wanted = Contact {
                channel: channel.clone(),
                purpose: contact.purpose.clone(),
            };
            let table = &self.consent_table;
            match may_contact(table, consents, patient, &wanted, self.now()) {
                Ok(_) => return Ok(()),
                Err(ContactDenial::Minor) => because = CohortRemoval::Minor,
                Err(ContactDenial::Unclear) => because = CohortRemoval::Consent,
                Err(_) => {}
            }
        }
        Err(because)
    }

    /// Whether the patient still has what the cohort looks for, in something that Consents open, and nothing that it
    /// excludes. What excludes counts whoever may see it.
    async fn is_due(
        &self,
        cohort: &CohortDeclaration,
        arguments: &BTreeMap<String, i64>,
        id: &str,
        consents: &Consents,
    ) -> Result<Result<(), CohortRemoval>, CohortFailed> {
        let Some(intent) = self.bundle.intent(&cohort.intent) else {
            return Ok(Err(CohortRemoval::RulesChanged));
        };
        let found = self
            .searched(&cohort.search, arguments, Some(id), OF_PATIENT_MAX)
            .await?;
        let is_open =
            |resource: &Value| self.opens(cohort, &intent.purpose_of_use, consents, resource);
        if found.matches.is_empty() {
            return Ok(Err(CohortRemoval::NotDue));
        }
        if !found.matches.iter().any(|(_, resource)| is_open(resource)) {
            return Ok(Err(CohortRemoval::Consent));
        }
        for unless in &cohort.unless {
            let found = self
                .searched(unless, arguments, Some(id), OF_PATIENT_MAX)
                .await?;
            // More than is looked at may hold what excludes: that is not told apart.
            if found.more || !found.matches.is_empty() {
                return Ok(Err(CohortRemoval::NotDue));
            }
        }
        Ok(Ok(()))
    }
}
