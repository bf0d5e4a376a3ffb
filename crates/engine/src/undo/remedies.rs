//! What undoes which type of resource: `rules/undo.toml`, read once. Data; nothing is decided here.

use std::collections::BTreeMap;

use chaperone_core::resource::{Code, ResourceType};
use chaperone_policy::Bundle;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::context::StartFailed;

/// The file of the bundle.
const FILE: &str = "rules/undo.toml";
/// Longest text of a corrective message, in characters.
const TEXT_CHARS_MAX: usize = 500;

/// The remedies of a bundle.
#[derive(Debug, Clone)]
pub(crate) struct Remedies {
    types: BTreeMap<ResourceType, Remedy>,
    pub(super) message: String,
}

/// What undoes one type.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Remedy {
    resource: ResourceType,
    /// The element that says that an entry was an error.
    #[serde(default)]
    element: Option<String>,
    #[serde(default)]
    code: Option<Code>,
    /// For a CodeableConcept.
    #[serde(default)]
    system: Option<String>,
    /// Elements that FHIR forbids beside it.
    #[serde(default)]
    without: Vec<String>,
    #[serde(default)]
    cancel: Option<Cancel>,
    /// Whether a change may be put back.
    pub(super) restore: bool,
}

/// Where cancelling is the truth, rather than an error.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancel {
    from: Vec<Code>,
    to: Code,
    #[serde(default)]
    with: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    owner: String,
    source: String,
    reviewed: String,
    review_by: String,
    message: Message,
    types: Vec<Remedy>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    text: String,
}

impl Remedies {
    /// The remedies of a bundle.
    ///
    /// # Errors
    /// [`StartFailed::Table`] says what is wrong.
    pub(crate) fn of(bundle: &Bundle) -> Result<Self, StartFailed> {
        let wrong = |why: String| StartFailed::Table { file: FILE, why };
        let text = bundle.rule_text("undo").ok_or_else(|| {
            wrong("it is missing; `chaperone init` writes one to start from".to_owned())
        })?;
        Self::parse(text).map_err(wrong)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let said = [&file.owner, &file.source, &file.reviewed, &file.review_by];
        if said.iter().any(|it| it.trim().is_empty()) {
            return Err("it must name its owner, its source and its reviews".to_owned());
        }
        let message = file.message.text.trim().to_owned();
        if message.is_empty() || message.chars().count() > TEXT_CHARS_MAX {
            return Err(format!(
                "the message needs a text of at most {TEXT_CHARS_MAX} characters"
            ));
        }
        let mut types = BTreeMap::new();
        for remedy in file.types {
            let name = remedy.resource.clone();
            if remedy.element.is_some() != remedy.code.is_some() {
                return Err(format!("{name}: `element` and `code` go together"));
            }
            if types.insert(name.clone(), remedy).is_some() {
                return Err(format!("{name} is listed twice"));
            }
        }
        Ok(Self { types, message })
    }

    pub(super) fn get(&self, resource: &ResourceType) -> Option<&Remedy> {
        self.types.get(resource)
    }
}

impl Remedy {
    /// Whether the resource says already that it was an error, or that it is cancelled.
    pub(super) fn is_done(&self, resource: &Value) -> bool {
        let is = |code: &Code| self.status(resource) == Some(code.as_str());
        self.code.as_ref().is_some_and(is)
            || self.cancel.as_ref().is_some_and(|cancel| is(&cancel.to))
    }

    /// The resource marked as entered in error; nothing where its type cannot be.
    pub(super) fn as_error(&self, resource: &Value) -> Option<Value> {
        let (element, code) = (self.element.as_ref()?, self.code.as_ref()?);
        let mut marked = without_server_parts(resource)?;
        // A narrative that no longer matches the coded content is worse than none.
        marked.remove("text");
        for gone in &self.without {
            marked.remove(gone);
        }
        let value = match &self.system {
            Some(system) => json!({ "coding": [{ "system": system, "code": code }] }),
            None => json!(code),
        };
        marked.insert(element.clone(), value);
        Some(Value::Object(marked))
    }

    /// The resource cancelled, where that is the truth about it.
    pub(super) fn as_cancelled(&self, resource: &Value) -> Option<Value> {
        let cancel = self.cancel.as_ref()?;
        let status = self.status(resource)?;
        if !cancel.from.iter().any(|from| from.as_str() == status) {
            return None;
        }
        let mut cancelled = without_server_parts(resource)?;
        cancelled.remove("text");
        cancelled.insert(self.element.clone()?, json!(cancel.to));
        for (element, value) in &cancel.with {
            cancelled.insert(element.clone(), value.clone());
        }
        Some(Value::Object(cancelled))
    }

    fn status<'r>(&self, resource: &'r Value) -> Option<&'r str> {
        let element = resource.get(self.element.as_deref()?)?;
        element
            .as_str()
            .or_else(|| element.pointer("/coding/0/code")?.as_str())
    }
}

/// A resource without what its server assigns, but for its id.
pub(super) fn without_server_parts(resource: &Value) -> Option<Map<String, Value>> {
    let mut resource = resource.as_object()?.clone();
    if let Some(Value::Object(meta)) = resource.get_mut("meta") {
        for assigned in ["versionId", "lastUpdated", "source"] {
            meta.remove(assigned);
        }
        if meta.is_empty() {
            resource.remove("meta");
        }
    }
    Some(resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Remedies {
        let files = chaperone_policy::embedded::files();
        Remedies::parse(&files["rules/undo.toml"]).unwrap()
    }

    fn remedy(remedies: &Remedies, name: &str) -> Remedy {
        let resource = ResourceType::new(name).unwrap();
        remedies.get(&resource).unwrap().clone()
    }

    #[test]
    fn each_type_says_that_it_was_an_error_in_its_own_way() {
        let remedies = shipped();
        let condition = json!({
            "resourceType": "Condition", "id": "c", "meta": { "versionId": "3" },
            "clinicalStatus": { "coding": [{ "code": "active" }] }, "text": { "status": "generated" },
        });
        assert_eq!(
            remedy(&remedies, "Condition").as_error(&condition),
            Some(json!({
                "resourceType": "Condition", "id": "c",
                "verificationStatus": { "coding": [{
                    "system": "http://terminology.hl7.org/CodeSystem/condition-ver-status",
                    "code": "entered-in-error",
                }] },
            }))
        );
        let task = json!({ "resourceType": "Task", "id": "t", "status": "requested" });
        let marked = remedy(&remedies, "Task").as_error(&task).unwrap();
        assert_eq!(marked["status"], "entered-in-error");
        assert!(remedy(&remedies, "Task").is_done(&marked));
        assert!(!remedy(&remedies, "Task").is_done(&task));
        // A person has no such status.
        assert_eq!(remedy(&remedies, "Patient").as_error(&json!({})), None);
    }

    #[test]
    fn a_booking_is_cancelled_and_a_visit_that_took_place_is_not() {
        let remedies = shipped();
        let appointment = remedy(&remedies, "Appointment");
        let with = |status: &str| json!({ "resourceType": "Appointment", "status": status });
        let cancelled = appointment.as_cancelled(&with("booked")).unwrap();
        assert_eq!(cancelled["status"], "cancelled");
        assert!(cancelled["cancelationReason"]["coding"][0]["code"].is_string());
        assert!(appointment.is_done(&cancelled));
        for other in ["arrived", "fulfilled", "noshow", "cancelled"] {
            assert_eq!(appointment.as_cancelled(&with(other)), None, "{other}");
        }
    }

    #[test]
    fn a_table_that_says_half_does_not_load() {
        let text = chaperone_policy::embedded::files()["rules/undo.toml"].clone();
        let breaks = [
            (
                "code = \"entered-in-error\"\nrestore = true",
                "restore = true",
            ),
            ("owner = \"health", "owner = \"\"\nwho = \"health"),
            ("restore = true", "restore = true\ndelete = true"),
        ];
        for (from, to) in breaks {
            let broken = text.replacen(from, to, 1);
            assert_ne!(broken, text, "{from}");
            assert!(Remedies::parse(&broken).is_err(), "{to}");
        }
    }
}
