//! What a proposal is made of beside its arguments: what its tokens stand for, and the patient.
//!
//! Everything must be the patient's own, or nobody's. What the plausibility rules rest on beyond this is
//! looked up later, in [`super::surroundings`].

use std::collections::BTreeMap;

use chaperone_core::bundle::{TARGET_PATIENT, WriteAction};
use chaperone_core::evidence::Resemblance;
use chaperone_core::resource::ResourceType;
use serde_json::Value;

use crate::call::{Admitted, is_token};
use crate::context::Engine;
use crate::errors::CallError;
use crate::tokens::TokenTarget;

/// What was read from the EHR to make the proposal concrete.
pub(crate) struct Inputs {
    pub(crate) targets: BTreeMap<String, TokenTarget>,
    pub(crate) resources: BTreeMap<String, Value>,
    /// Types of what the agent says it rests on.
    pub(crate) sources: Vec<ResourceType>,
    pub(crate) base: Option<Value>,
    pub(crate) patient_id: Option<String>,
    /// The patient, as the EHR has them now.
    pub(crate) patient: Option<Value>,
    pub(crate) encounter: Option<TokenTarget>,
    /// Texts that agents were shown of the patient and that say what this proposal says.
    pub(crate) resembles: Vec<Resemblance>,
}

impl Inputs {
    /// Whether the result holds anything that the agent did not send: the version on record, or elements
    /// copied from it.
    pub(crate) fn holds_record(&self, write: &WriteAction) -> bool {
        self.base.is_some() || write.copy.is_some()
    }

    /// The gathered resources of a type.
    pub(crate) fn of_type<'i>(&'i self, name: &'i str) -> impl Iterator<Item = &'i Value> {
        self.resources
            .values()
            .filter(move |it| it.get("resourceType").and_then(Value::as_str) == Some(name))
    }
}

impl Engine {
    /// Follows token arguments and reads what the tool needs; everything must be the patient's own.
    pub(super) async fn gather(
        &self,
        admitted: &Admitted<'_>,
        write: &WriteAction,
    ) -> Result<Inputs, CallError> {
        let envelope = &admitted.caller.envelope;
        let patient_id = match envelope.patient {
            Some(token) => Some(self.patient_id(token).await?),
            None => None,
        };
        let encounter = match envelope.encounter {
            Some(token) => Some(self.resource_target(token).await?),
            None => None,
        };
        let (patient, followed) = futures::join!(
            self.read_patient(patient_id.as_deref()),
            self.follow_tokens(admitted, patient_id.as_deref())
        );
        let (targets, resources) = followed?;
        let patient = patient?;
        let mut sources = Vec::with_capacity(admitted.arguments.sources.len());
        for source in &admitted.arguments.sources {
            let target = self.resource_target(*source).await?;
            if target.patient.is_some() && target.patient != envelope.patient {
                return Err(CallError::not_found().about("sources"));
            }
            sources.push(target.resource);
        }
        let base = match write.target.as_deref() {
            Some(TARGET_PATIENT) => patient.clone(),
            Some(name) => resources.get(name).cloned(),
            None => None,
        };
        if base.as_ref().is_some_and(is_part) {
            return Err(CallError::ehr_unusable().saying(
                "the EHR shows a part of this alone, and what is not shown must not be lost",
            ));
        }
        Ok(Inputs {
            targets,
            resources,
            sources,
            base,
            patient_id,
            patient,
            encounter,
            resembles: Vec::new(),
        })
    }

    async fn read_patient(&self, id: Option<&str>) -> Result<Option<Value>, CallError> {
        let Some(id) = id else {
            return Ok(None);
        };
        let kind = ResourceType::new("Patient").map_err(|_| CallError::internal())?;
        Ok(Some(self.ehr.read(&kind, id).await?))
    }

    async fn follow_tokens(
        &self,
        admitted: &Admitted<'_>,
        patient_id: Option<&str>,
    ) -> Result<(BTreeMap<String, TokenTarget>, BTreeMap<String, Value>), CallError> {
        let mut targets = BTreeMap::new();
        let mut resources = BTreeMap::new();
        for (name, value) in &admitted.arguments.inputs {
            if !is_token(admitted.tool, name) {
                continue;
            }
            let token = value.as_str().unwrap_or_default();
            let target = self.own_target(admitted, name, token).await?;
            let resource = self
                .ehr
                .read(&target.resource, &target.id)
                .await
                .map_err(|failed| CallError::from(failed).about(name.as_str()))?;
            let is_own = match (&target.patient, patient_id) {
                (Some(_), Some(id)) if self.is_patient_data(&resource) => {
                    self.belongs_to(&resource, id)
                }
                _ => !self.is_patient_data(&resource),
            };
            if !is_own {
                return Err(CallError::not_found().about(name.as_str()));
            }
            targets.insert(name.clone(), target);
            resources.insert(name.clone(), resource);
        }
        Ok((targets, resources))
    }

    pub(crate) fn is_patient_data(&self, resource: &Value) -> bool {
        !chaperone_fhir::references::patient_references(self.definitions, resource).is_empty()
            || resource.get("resourceType").and_then(Value::as_str) == Some("Patient")
    }
}

/// Whether the EHR says that this is not all that it holds of a resource.
///
/// # Source
/// FHIR R4, Resource, "meta.tag": `SUBSETTED`. Nobody updates what they were shown a part of.
pub(crate) fn is_part(resource: &Value) -> bool {
    let tags = resource.pointer("/meta/tag").and_then(Value::as_array);
    tags.into_iter()
        .flatten()
        .any(|tag| tag.get("code").and_then(Value::as_str) == Some("SUBSETTED"))
}
