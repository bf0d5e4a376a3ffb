//! What is made up for a canary, and an EHR that has it: pages that ask for the patient are shown them, and whatever
//! would write is refused.
//!
//! The real EHR is asked the same thing first. So a canary looks as everything else does when the EHR is slow or down,
//! and nothing is shown of a patient whom the EHR knows after all.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chaperone_core::Timestamp;
use chaperone_core::evidence::Delivering;
use chaperone_core::ids::ConnectionId;
use chaperone_core::ports::{
    DeliveryProfile, Ehr, EhrRead, EhrReadFailed, EhrSearch, Environment, Random, Reconciliation,
    WriteFailed, WriteReceipt,
};
use chaperone_core::resource::ResourceType;
use chaperone_core::writeback::FailureCause;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::rules::CanaryDeclared;
use crate::merge::instant;

/// Characters from which on an id is taken to be random.
const RANDOM_CHARS_MIN: usize = 16;
/// Digits from which on an identifier is taken to be a number: with fewer, what is left of it might be a name.
const NUMBER_DIGITS_MIN: usize = 4;
/// By how many digits an id that may be counted up is longer.
const FURTHER_DIGITS: u32 = 6;

/// What rests in the vault of a canary.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Imagination {
    /// What is wrong, told to whoever decided.
    pub(super) wrong: String,
    /// The patient and their records, with their ids.
    resources: Vec<Value>,
}

/// Ids that look like the EHR's own.
pub(super) struct Likeness<'a> {
    /// A patient of the EHR.
    pub(super) of: &'a Value,
    pub(super) random: &'a dyn Random,
}

impl Likeness<'_> {
    /// A text in the form of a given one: digits for digits, and letters for letters, which may be somebody's name.
    fn like(&self, given: &str) -> String {
        let is_hex = given.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        given
            .chars()
            .map(|c| match c {
                '0'..='9' => self.one_of(b"0123456789"),
                'a'..='f' if is_hex => self.one_of(b"abcdef"),
                'A'..='F' if is_hex => self.one_of(b"ABCDEF"),
                'a'..='z' => self.one_of(b"abcdefghijklmnopqrstuvwxyz"),
                'A'..='Z' => self.one_of(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
                other => other,
            })
            .collect()
    }

    fn one_of(&self, all: &[u8]) -> char {
        let mut byte = [0; 1];
        self.random.fill(&mut byte);
        let at = usize::from(byte[0]).checked_rem(all.len()).unwrap_or(0);
        char::from(all.get(at).copied().unwrap_or(b'0'))
    }

    /// A logical id that the EHR does not give: long ones are random, and short ones, which may be counted up, are
    /// longer than any that is counted to.
    fn id(&self) -> String {
        let given = self.of.get("id").and_then(Value::as_str).unwrap_or("0");
        if given.len() >= RANDOM_CHARS_MIN {
            return self.like(given);
        }
        let mut id = self.like(given);
        id.extend((0..FURTHER_DIGITS).map(|_| self.one_of(b"0123456789")));
        id
    }

    /// Identifiers of the kinds that the other patient has, with values that nobody is known by. Left out are those
    /// that are hardly numbers, and those with letters of which no others can be drawn.
    fn identifiers(&self) -> Vec<Value> {
        let all = self.of.get("identifier").and_then(Value::as_array);
        all.into_iter()
            .flatten()
            .filter_map(|identifier| {
                let value = identifier.get("value")?.as_str()?;
                let digits = value.chars().filter(char::is_ascii_digit).count();
                if digits < NUMBER_DIGITS_MIN || !value.is_ascii() {
                    return None;
                }
                let mut made = json!({ "value": self.like(value) });
                for kept in ["system", "type", "use"] {
                    if let (Some(it), Some(made)) = (identifier.get(kept), made.as_object_mut()) {
                        made.insert(kept.to_owned(), it.clone());
                    }
                }
                Some(made)
            })
            .collect()
    }
}

/// What was made up, with the id of each record by its name.
pub(super) struct MadeUp {
    pub(super) imagination: Imagination,
    pub(super) patient_id: String,
    /// Values of the identifiers that were made up.
    pub(super) identifiers: Vec<(String, String)>,
    /// Type and id of each record.
    pub(super) records: BTreeMap<String, (String, String)>,
    /// What `{now}` stands for.
    pub(super) lately: Timestamp,
}

/// Makes up a patient and their records.
pub(super) fn make_up(canary: &CanaryDeclared, like: &Likeness<'_>, lately: Timestamp) -> MadeUp {
    let patient_id = like.id();
    let identifiers = like.identifiers();
    let patient = json!({
        "resourceType": "Patient",
        "id": patient_id,
        "active": true,
        "identifier": identifiers,
        "name": [{
            "use": "official",
            "family": canary.patient.family,
            "given": canary.patient.given,
        }],
        "gender": canary.patient.gender,
        "birthDate": canary.patient.birth_date,
    });
    let mut records = BTreeMap::new();
    let mut resources = vec![patient];
    for (name, declared) in &canary.records {
        let id = like.id();
        let mut resource = declared.clone();
        put_in(&mut resource, &patient_id, lately);
        if let Some(members) = resource.as_object_mut() {
            members.insert("id".to_owned(), Value::from(id.clone()));
        }
        let kind = resource.get("resourceType").and_then(Value::as_str);
        records.insert(name.clone(), (kind.unwrap_or_default().to_owned(), id));
        resources.push(resource);
    }
    let text = |identifier: &Value, member: &str| {
        let text = identifier.get(member).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    MadeUp {
        imagination: Imagination {
            wrong: canary.wrong.trim().to_owned(),
            resources,
        },
        identifiers: identifiers
            .iter()
            .map(|it| (text(it, "system"), text(it, "value")))
            .collect(),
        patient_id,
        records,
        lately,
    }
}

/// Puts what placeholders stand for in their place.
pub(super) fn put_in(value: &mut Value, patient_id: &str, lately: Timestamp) {
    match value {
        Value::String(text) if text == "{now}" => *text = instant(lately),
        Value::String(text) => *text = text.replace("{patient}", patient_id),
        Value::Array(items) => {
            for item in items {
                put_in(item, patient_id, lately);
            }
        }
        Value::Object(members) => {
            for member in members.values_mut() {
                put_in(member, patient_id, lately);
            }
        }
        _ => {}
    }
}

/// An EHR that has what was made up, and nothing else.
pub(super) struct Imagined {
    pub(super) real: Arc<dyn Ehr>,
    pub(super) has: Imagination,
}

impl Imagined {
    fn of_type(&self, kind: &ResourceType) -> impl Iterator<Item = &Value> {
        let kind = kind.as_str().to_owned();
        self.has.resources.iter().filter(move |resource| {
            resource.get("resourceType").and_then(Value::as_str) == Some(kind.as_str())
        })
    }
}

#[async_trait]
impl Ehr for Imagined {
    fn connection(&self) -> &ConnectionId {
        self.real.connection()
    }

    fn environment(&self) -> Environment {
        self.real.environment()
    }

    fn endpoint(&self) -> &str {
        self.real.endpoint()
    }

    fn profile(&self) -> DeliveryProfile {
        self.real.profile()
    }

    async fn read(&self, resource: &ResourceType, id: &str) -> Result<Value, EhrReadFailed> {
        match self.real.read(resource, id).await {
            Err(EhrReadFailed::NotFound) => self
                .of_type(resource)
                .find(|it| it.get("id").and_then(Value::as_str) == Some(id))
                .cloned()
                .ok_or(EhrReadFailed::NotFound),
            Err(failed) => Err(failed),
            // Somebody's after all.
            Ok(_) => Err(EhrReadFailed::NotFound),
        }
    }

    async fn search(&self, search: EhrSearch) -> Result<EhrRead, EhrReadFailed> {
        let kind = search.resource.clone();
        match self.real.search(search).await {
            Ok(found) if found.resources.is_empty() => {}
            Err(EhrReadFailed::NotFound) => {}
            Ok(_) => return Err(EhrReadFailed::Unusable),
            Err(failed) => return Err(failed),
        }
        Ok(EhrRead {
            resources: self.of_type(&kind).cloned().collect(),
            more: false,
        })
    }

    async fn write(&self, _delivering: &Delivering) -> Result<WriteReceipt, WriteFailed> {
        Err(WriteFailed::NotApplied {
            cause: FailureCause::Rejected,
            retry_after_ms: None,
        })
    }

    async fn reconcile(&self, _delivering: &Delivering) -> Result<Reconciliation, EhrReadFailed> {
        Err(EhrReadFailed::Unsupported)
    }
}

#[cfg(test)]
mod tests {
    use chaperone_testkit::SeededRandom;

    use super::*;

    #[test]
    fn what_is_made_up_has_the_form_of_the_ehrs_and_is_nobodys() {
        let random = SeededRandom::new(3);
        let made = |id: &str| {
            let of = json!({
                "resourceType": "Patient", "id": id,
                "identifier": [
                    { "system": "urn:mrn", "value": "MRN-00417", "period": {} },
                    { "system": "urn:name", "value": "DOE-JANE-197" },
                    { "system": "urn:name", "value": "Müller-1970" },
                ],
            });
            let like = Likeness {
                of: &of,
                random: &random,
            };
            (like.id(), like.identifiers())
        };
        let (id, identifiers) = made("12724066");
        assert_eq!(id.len(), 14);
        assert!(id.chars().all(|c| c.is_ascii_digit()), "{id}");
        let value = identifiers[0]["value"].as_str().unwrap();
        assert_eq!(identifiers.len(), 1, "{identifiers:?}");
        let (letters, digits) = value.split_once('-').unwrap();
        assert!(letters.len() == 3 && letters.chars().all(|c| c.is_ascii_uppercase()));
        assert!(digits.len() == 5 && digits.chars().all(|c| c.is_ascii_digit()));
        assert!(letters != "MRN" && digits != "00417", "{value}");
        assert_eq!(identifiers[0]["system"], "urn:mrn");
        assert!(identifiers[0].get("period").is_none());
        let (id, _) = made("doe-jane");
        assert!(
            id.len() == 14 && !id.contains("doe") && !id.contains("jane"),
            "{id}"
        );
        let given = "0f3a9c1e-77b2-4d1a-9e55-1c2d3e4f5a6b";
        let (id, _) = made(given);
        assert_eq!(id.len(), given.len());
        assert_ne!(id, given);
        for (one, other) in id.chars().zip(given.chars()) {
            assert_eq!(one == '-', other == '-', "{id}");
            assert!(one == '-' || one.is_ascii_hexdigit(), "{id}");
        }
    }
}
