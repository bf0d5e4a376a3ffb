//! What is signed in the EHR: the one element by which a draft and the signed resource differ.
//!
//! Some EHRs take orders and notes from outside only unsigned; a person signs them on its own screens, and that
//! signature is the approval. What is approved is the signed form; what is placed is the same with this element set
//! back. Nothing else may differ, before or after.
//!
//! Not here: whether an EHR works that way (its profile), or who may sign (the gate).
//!
//! # Source
//! FHIR R4, value sets `medicationrequest-status` (draft: created but not yet actionable; active: actionable),
//! `request-status` (the same for ServiceRequest) and `composition-status` (preliminary: not yet verified; final:
//! complete and verified by an appropriate person).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::resource::ResourceType;

/// Type, element, its value while unsigned, its value once signed.
const FORMS: [(&str, &str, &str, &str); 3] = [
    ("DocumentReference", "docStatus", "preliminary", "final"),
    ("MedicationRequest", "status", "draft", "active"),
    ("ServiceRequest", "status", "draft", "active"),
];

/// How the unsigned and the signed form of a resource differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedForm {
    /// The element, at the top of the resource.
    pub element: String,
    /// Its value while nobody has signed.
    pub unsigned: String,
    /// Its value once somebody has.
    pub signed: String,
}

impl SignedForm {
    /// The form of a type, where it has one that a person signs.
    pub fn of(resource: &ResourceType) -> Option<Self> {
        FORMS
            .iter()
            .find(|(kind, ..)| *kind == resource.as_str())
            .map(|(_, element, unsigned, signed)| Self {
                element: (*element).to_owned(),
                unsigned: (*unsigned).to_owned(),
                signed: (*signed).to_owned(),
            })
    }

    /// Whether a resource is signed, by its own word.
    pub fn is_signed(&self, resource: &Value) -> bool {
        self.value_of(resource) == Some(self.signed.as_str())
    }

    /// Whether a resource still waits for its signature, by its own word.
    pub fn is_unsigned(&self, resource: &Value) -> bool {
        self.value_of(resource) == Some(self.unsigned.as_str())
    }

    /// The same resource unsigned. Nothing for one that is not in its signed form.
    pub fn unsigned_of(&self, resource: &Value) -> Option<Value> {
        if !self.is_signed(resource) {
            return None;
        }
        let mut draft = resource.clone();
        let value = draft.get_mut(&self.element)?;
        *value = Value::String(self.unsigned.clone());
        Some(draft)
    }

    fn value_of<'a>(&self, resource: &'a Value) -> Option<&'a str> {
        resource.get(&self.element).and_then(Value::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_element_is_set_back_and_nothing_else() {
        let form = SignedForm::of(&ResourceType::new("MedicationRequest").unwrap()).unwrap();
        let order = json!({"status": "active", "intent": "order", "note": [{"text": "active"}]});
        let draft = form.unsigned_of(&order).unwrap();
        assert_eq!(
            draft,
            json!({"status": "draft", "intent": "order", "note": [{"text": "active"}]})
        );
        assert!(form.is_unsigned(&draft) && !form.is_signed(&draft));
        // A draft has no draft of its own, and neither has what is over.
        assert_eq!(form.unsigned_of(&draft), None);
        assert_eq!(form.unsigned_of(&json!({"status": "stopped"})), None);
        assert_eq!(form.unsigned_of(&json!({})), None);
        for unsigned in ["Appointment", "Task", "Observation", "Consent"] {
            assert_eq!(SignedForm::of(&ResourceType::new(unsigned).unwrap()), None);
        }
    }
}
