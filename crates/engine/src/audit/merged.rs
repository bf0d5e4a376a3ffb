//! Records that the EHR says are one person's: what was merged is asked about together, from either side.
//!
//! A merge is told by `Patient.link` of type `replaced-by` or `replaces`, and only at the EHR: rows and events keep
//! the record under which something happened. Links of other types say that records are related, not that they are
//! one. Start at [`Engine::same_person`].
//!
//! # Source
//! FHIR R4 Patient.link (<https://hl7.org/fhir/R4/patient.html#links>).

use std::collections::BTreeSet;

use chaperone_core::ids::PatientToken;
use chaperone_core::ports::{EhrReadFailed, EhrSearch};
use chaperone_core::resource::ResourceType;
use serde_json::Value;

use super::AuditFailed;
use crate::context::Engine;

/// Most records that are followed for one person.
const RECORDS_MAX: usize = 16;
/// Links by which one record takes another's place.
const MERGES: [&str; 2] = ["replaced-by", "replaces"];

/// The records of one person.
pub(super) struct SamePerson {
    /// Those of which anything was ever handled here, the one that was asked about first.
    pub(super) tokens: Vec<PatientToken>,
    /// Whether the EHR said all that there is to say.
    pub(super) is_whole: bool,
}

impl Engine {
    /// Every record that was merged with this one. No token is made.
    pub(super) async fn same_person(
        &self,
        patient: PatientToken,
    ) -> Result<SamePerson, AuditFailed> {
        let mut tokens = vec![patient];
        let Ok(id) = self.patient_id(patient).await else {
            // Erased since: what it stood for is not known any more.
            let is_whole = false;
            return Ok(SamePerson { tokens, is_whole });
        };
        let (records, is_whole) = self.records_of(&id).await;
        for record in records {
            if let Some(token) = self.known_patient_token(&record).await? {
                tokens.push(token);
            }
        }
        Ok(SamePerson { tokens, is_whole })
    }

    /// The logical ids of the other records of one person, over any number of steps; and whether the EHR could tell.
    pub(super) async fn records_of(&self, id: &str) -> (BTreeSet<String>, bool) {
        let mut known = BTreeSet::from([id.to_owned()]);
        let mut waiting = vec![id.to_owned()];
        let mut is_whole = true;
        while let Some(next) = waiting.pop() {
            let (linked, could_tell) = self.linked_with(&next).await;
            is_whole &= could_tell;
            for other in linked {
                if known.len() >= RECORDS_MAX {
                    is_whole = false;
                    break;
                }
                if known.insert(other.clone()) {
                    waiting.push(other);
                }
            }
        }
        known.remove(id);
        (known, is_whole)
    }

    /// The records that one record names as merged, and those that name it; and whether the EHR could tell.
    async fn linked_with(&self, id: &str) -> (BTreeSet<String>, bool) {
        let Ok(kind) = ResourceType::new("Patient") else {
            return (BTreeSet::new(), false);
        };
        let search = EhrSearch {
            resource: kind.clone(),
            parameters: vec![("link".to_owned(), format!("Patient/{id}"))],
            limit: u32::try_from(RECORDS_MAX).unwrap_or(u32::MAX),
        };
        let (own, naming) = futures::join!(self.ehr.read(&kind, id), self.ehr.search(search));
        let mut linked = BTreeSet::new();
        let mut is_whole = true;
        match own {
            Ok(own) => linked.extend(self.merged_in(&own)),
            // Some servers drop what was merged away; whoever took its place may still name it.
            Err(EhrReadFailed::NotFound) => {}
            Err(_) => is_whole = false,
        }
        match naming {
            Ok(found) => {
                is_whole &= !found.more;
                // A server that passes over the parameter finds everybody: what counts is what a hit says.
                let names_it = found
                    .resources
                    .iter()
                    .filter(|hit| self.merged_in(hit).contains(id));
                linked.extend(names_it.filter_map(|hit| Some(hit.get("id")?.as_str()?.to_owned())));
            }
            Err(_) => is_whole = false,
        }
        linked.remove(id);
        (linked, is_whole)
    }

    /// The logical ids of the records that a record says it was merged with, at this EHR.
    fn merged_in(&self, patient: &Value) -> BTreeSet<String> {
        let links = patient.get("link").and_then(Value::as_array);
        links
            .into_iter()
            .flatten()
            .take(RECORDS_MAX)
            .filter(|link| {
                let kind = link.get("type").and_then(Value::as_str);
                kind.is_some_and(|kind| MERGES.contains(&kind))
            })
            .filter_map(|link| link.pointer("/other/reference")?.as_str())
            .filter_map(|reference| self.own(reference, "Patient"))
            .map(str::to_owned)
            .collect()
    }
}
