//! What the EHR itself says of the resource that an event names: whose it is, and whether it is as it must be.
//!
//! The patient is the one whom the EHR's resource names, and no other patient may stand anywhere in it. A
//! merged record leads to the surviving one. Which of the checks failed is for the ledger; the source hears
//! the same of all of them. Start at `Engine::subject_of`.

use std::collections::BTreeSet;

use chaperone_core::bundle::EhrEventDeclaration;
use chaperone_core::ids::{PatientToken, ResourceToken};
use chaperone_core::ports::EhrReadFailed;
use chaperone_fhir::Definitions;
use chaperone_fhir::references::ReferenceForm;
use chaperone_phi::labels::Labels;
use chaperone_policy::Bundle;
use chaperone_policy::bundle::EHR_EVENTS_PATH;
use serde_json::Value;

use super::{Declined, Notification};
use crate::context::{Engine, StartFailed};
use crate::errors::CallError;
use crate::grant::{GrantFailed, PatientRef};
use crate::tokens::{TokenFailed, TokenTarget};

/// Whom and what an event is about.
pub(super) struct Subject {
    pub(super) patient: PatientToken,
    pub(super) encounter: Option<ResourceToken>,
    pub(super) work_item: Option<ResourceToken>,
}

impl From<GrantFailed> for Declined {
    fn from(failed: GrantFailed) -> Self {
        match failed {
            GrantFailed::PatientNotFound => Declined::unconfirmed("patient-not-found"),
            GrantFailed::EncounterNotFound => Declined::unconfirmed("encounter-not-found"),
            failed => CallError::from(failed).into(),
        }
    }
}

impl From<TokenFailed> for Declined {
    fn from(failed: TokenFailed) -> Self {
        GrantFailed::from(failed).into()
    }
}

impl Engine {
    /// Reads the resource that an event names, and finds out whose it is.
    pub(super) async fn subject_of(
        &self,
        rule: &EhrEventDeclaration,
        notification: &Notification,
    ) -> Result<Subject, Declined> {
        let wrong = |field: &str| {
            CallError::event_malformed()
                .about(field)
                .saying("name it as `Type/id`, of the type that is listed for this event")
        };
        let id = self
            .own(&notification.resource, rule.resource.as_str())
            .ok_or_else(|| wrong("resource"))?;
        let claimed = match &notification.patient {
            Some(text) => Some(self.own(text, "Patient").ok_or_else(|| wrong("patient"))?),
            None => None,
        };
        let resource = match self.ehr.read(&rule.resource, id).await {
            Ok(resource) => resource,
            Err(EhrReadFailed::NotFound) => {
                return Err(Declined::unconfirmed("resource-not-found"));
            }
            Err(failed) => return Err(CallError::from(failed).into()),
        };
        let is_it =
            |name: &str, wanted: &str| resource.get(name).and_then(Value::as_str) == Some(wanted);
        if !is_it("resourceType", rule.resource.as_str()) || !is_it("id", id) {
            return Err(CallError::ehr_unusable().into());
        }
        // What is labelled so is left out of every read; the work it would cause must not tell of it.
        if Labels::of(&resource).restriction().is_some() {
            return Err(Declined::unconfirmed("resource-restricted"));
        }
        let status = resource.get("status").and_then(Value::as_str);
        let is_as_listed = |wanted: &str| status == Some(wanted);
        if !rule.status.is_empty() && !rule.status.iter().any(|code| is_as_listed(code.as_str())) {
            return Err(Declined::unconfirmed("other-status"));
        }
        let named = match &rule.patient {
            None => id,
            Some(path) => self
                .only_reference(&resource, path, "Patient")
                .ok_or_else(|| Declined::unconfirmed("patient-unclear"))?,
        };
        if !self.belongs_to(&resource, named) {
            return Err(Declined::unconfirmed("patient-unclear"));
        }
        let survivor = self.survivor(named).await?;
        if let Some(claimed) = claimed
            && claimed != named
            && claimed != survivor
            && self.survivor(claimed).await? != survivor
        {
            return Err(Declined::unconfirmed("other-patient"));
        }
        let patient = self.patient_token(&survivor).await?;
        self.work_of(rule, &resource, (id, named), (&survivor, patient))
            .await
    }

    /// Encounter and work item. What still stands under a record that was merged into another is not handed
    /// out: reads for the surviving record would not show it.
    async fn work_of(
        &self,
        rule: &EhrEventDeclaration,
        resource: &Value,
        (id, named): (&str, &str),
        (survivor, patient): (&str, PatientToken),
    ) -> Result<Subject, Declined> {
        let mut subject = Subject {
            patient,
            encounter: None,
            work_item: None,
        };
        if named != survivor {
            return Ok(subject);
        }
        let target = TokenTarget {
            resource: rule.resource.clone(),
            id: id.to_owned(),
            patient: Some(patient),
        };
        let is_encounter = rule.resource.as_str() == "Encounter";
        if (rule.work_item && rule.resource.as_str() != "Patient") || is_encounter {
            let token = self.resource_tokens(&[target]).await?.first().copied();
            subject.work_item = token.filter(|_| rule.work_item);
            subject.encounter = token.filter(|_| is_encounter);
        }
        if let Some(path) = &rule.encounter
            && !references_at(resource, path).is_empty()
        {
            let encounter = self
                .only_reference(resource, path, "Encounter")
                .ok_or_else(|| Declined::unconfirmed("encounter-unclear"))?;
            subject.encounter = Some(self.encounter_of(encounter, survivor, patient).await?);
        }
        Ok(subject)
    }

    pub(super) async fn survivor(&self, id: &str) -> Result<String, Declined> {
        let patient = PatientRef::LogicalId(id.to_owned());
        Ok(self.surviving_patient(&patient).await?)
    }

    /// The logical id in a reference of one type, if it leads to this EHR.
    pub(crate) fn own<'t>(&self, reference: &'t str, wanted: &str) -> Option<&'t str> {
        match ReferenceForm::parse(reference) {
            ReferenceForm::Typed {
                base,
                resource_type,
                id,
                version: None,
            } if resource_type == wanted
                && base.is_none_or(|base| base == self.ehr.endpoint().trim_end_matches('/')) =>
            {
                Some(id)
            }
            _ => None,
        }
    }

    /// The one resource of a type that the references at a path name; others may stand beside it.
    pub(crate) fn only_reference<'v>(
        &self,
        resource: &'v Value,
        path: &str,
        wanted: &str,
    ) -> Option<&'v str> {
        let found: BTreeSet<&str> = references_at(resource, path)
            .into_iter()
            .filter_map(|reference| self.own(reference, wanted))
            .collect();
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(one), None) => Some(one),
            _ => None,
        }
    }
}

/// The texts of all references at a dotted path, through lists. The path is as deep as the bundle says.
fn references_at<'v>(resource: &'v Value, path: &str) -> Vec<&'v str> {
    let mut here = vec![resource];
    for step in path.split('.').chain(std::iter::once("reference")) {
        let next = here.into_iter().filter_map(|value| value.get(step));
        here = next
            .flat_map(|value| match value {
                Value::Array(items) => items.iter().collect(),
                other => vec![other],
            })
            .collect();
    }
    here.into_iter().filter_map(Value::as_str).collect()
}

/// What only FHIR's definitions can say about the bundle's table of events.
///
/// # Errors
/// [`StartFailed::Table`] names the event.
pub(crate) fn check_table(bundle: &Bundle, definitions: &Definitions) -> Result<(), StartFailed> {
    for event in bundle.ehr_events() {
        if event.event_type.as_str() == super::consent::CONSENT_CHANGED {
            return Err(StartFailed::Table {
                file: EHR_EVENTS_PATH,
                why: format!(
                    "`{}` is taken: it says that a Consent changed, and causes nothing else",
                    event.event_type
                ),
            });
        }
        check_event(event, definitions).map_err(|why| StartFailed::Table {
            file: EHR_EVENTS_PATH,
            why: format!("`{}`: {why}", event.event_type),
        })?;
    }
    Ok(())
}

fn check_event(event: &EhrEventDeclaration, definitions: &Definitions) -> Result<(), String> {
    let resource = event.resource.as_str();
    if !definitions.is_resource_type(resource) {
        return Err(format!("`{resource}` is no type of resource"));
    }
    for (key, path, wanted) in [
        ("patient", &event.patient, "Patient"),
        ("encounter", &event.encounter, "Encounter"),
    ] {
        let Some(path) = path else { continue };
        let names_it = definitions
            .element_type(resource, path)
            .is_some_and(|element| {
                element.types.iter().any(|one| {
                    one.code == "Reference"
                        && (one.targets.is_empty() || one.targets.iter().any(|to| to == wanted))
                })
            });
        if !names_it {
            return Err(format!(
                "`{key}`: `{path}` is no element of {resource} that can name a {wanted}"
            ));
        }
    }
    if event.status.is_empty() {
        return Ok(());
    }
    let binding = definitions
        .element_type(resource, "status")
        .and_then(|element| element.binding);
    let codes = binding.and_then(|binding| definitions.codes(&binding.value_set));
    let Some(codes) = codes else {
        return Err(format!("{resource} has no `status` of fixed codes"));
    };
    match event
        .status
        .iter()
        .find(|wanted| !codes.iter().any(|(_, code)| *code == wanted.as_str()))
    {
        Some(unknown) => Err(format!("`{unknown}` is no status of {resource}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_are_found_through_lists_and_nowhere_else() {
        let appointment = json!({
            "participant": [
                { "actor": { "reference": "Patient/a" } },
                { "actor": { "display": "nobody" } },
                { "actor": { "reference": "Practitioner/b" } },
            ],
            "subject": { "reference": "Patient/c" },
        });
        assert_eq!(
            references_at(&appointment, "participant.actor"),
            ["Patient/a", "Practitioner/b"]
        );
        assert_eq!(references_at(&appointment, "subject"), ["Patient/c"]);
        assert!(references_at(&appointment, "participant").is_empty());
        assert!(references_at(&appointment, "patient").is_empty());
    }
}
