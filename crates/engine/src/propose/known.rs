//! Resources of the same patient that were gathered for a proposal, for references to lead to.
//!
//! So that a profile's demands on the target of a reference are checked where the target is at hand; for
//! every other target they count as not checked. Nothing is read here.

use std::collections::BTreeMap;

use chaperone_fhir::json::{Document, JsonLimits, Value};
use chaperone_fhir::validator::Supporting;

use super::gather::Inputs;

/// Gathered resources by `Type/id`.
pub(super) struct KnownResources<'t> {
    documents: BTreeMap<&'t str, Document<'t>>,
    /// Base URL of the EHR, with a slash at its end.
    base: String,
}

impl<'t> KnownResources<'t> {
    /// The resources as texts, which [`KnownResources::read`] borrows.
    pub(super) fn texts(inputs: &Inputs) -> BTreeMap<String, String> {
        let resources = inputs.resources.values().chain(&inputs.patient);
        resources
            .filter_map(|resource| {
                let text = |name: &str| resource.get(name).and_then(serde_json::Value::as_str);
                let name = format!("{}/{}", text("resourceType")?, text("id")?);
                Some((name, resource.to_string()))
            })
            .collect()
    }

    /// Reads the texts; one that cannot be read is not at hand.
    pub(super) fn read(texts: &'t BTreeMap<String, String>, endpoint: &str) -> Self {
        let limits = JsonLimits::default();
        let documents = texts.iter().filter_map(|(name, text)| {
            let document = Document::parse(text.as_bytes(), &limits).ok()?;
            Some((name.as_str(), document))
        });
        Self {
            documents: documents.collect(),
            base: format!("{}/", endpoint.trim_end_matches('/')),
        }
    }
}

impl Supporting for KnownResources<'_> {
    fn find(&self, reference: &str) -> Option<Value<'_>> {
        let reference = reference
            .strip_prefix(self.base.as_str())
            .unwrap_or(reference);
        Some(self.documents.get(reference)?.root())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_was_gathered_here_is_at_hand() {
        let slot = json!({ "resourceType": "Slot", "id": "s1", "status": "free" });
        let inputs = Inputs {
            targets: BTreeMap::new(),
            resources: [("slot".to_owned(), slot)].into(),
            sources: Vec::new(),
            base: None,
            patient_id: Some("p1".to_owned()),
            patient: Some(json!({ "resourceType": "Patient", "id": "p1", "gender": "male" })),
            encounter: None,
            resembles: Vec::new(),
        };
        let texts = KnownResources::texts(&inputs);
        let known = KnownResources::read(&texts, "https://ehr.example/fhir/");
        for here in ["Patient/p1", "Slot/s1", "https://ehr.example/fhir/Slot/s1"] {
            assert!(known.find(here).is_some(), "{here}");
        }
        for elsewhere in [
            "Patient/p2",
            "Slot/p1",
            "https://other.example/fhir/Slot/s1",
            "#s1",
        ] {
            assert!(known.find(elsewhere).is_none(), "{elsewhere}");
        }
        let gender = known.find("Patient/p1").unwrap();
        assert_eq!(gender.get("gender").unwrap().as_str(), Some("male"));
    }
}
