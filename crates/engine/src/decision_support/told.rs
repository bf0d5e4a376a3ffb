//! What a service is told: the order as a draft, and the little of the record that the table names for it.
//!
//! Not here: who is asked about what (`rules`), and what becomes of the answer (the parent).
//!
//! # Source
//! HL7 CDS Hooks 2.0, "HTTP Request" and `order-sign`: `hook`, `hookInstance`, `context` and `prefetch`.

use chaperone_core::decision_support::NotHeard;
use chaperone_core::evidence::WriteOrder;
use chaperone_core::ports::EhrSearch;
use chaperone_core::principal::Human;
use chaperone_core::resource::ResourceType;
use chaperone_core::writeback::Ruled;
use chaperone_phi::labels::Labels;
use serde_json::{Value, json};

use super::rules::{Prefetch, ServiceRule};
use crate::context::Engine;

/// Most resources of one prefetch; a longer list is not sent in part.
const PREFETCH_MAX: u32 = 50;
/// Elements of the order that are Chaperone's own or say nothing to a service.
const NOT_TOLD: [&str; 3] = ["meta", "identifier", "text"];

/// What goes to a service.
pub(super) struct Told {
    pub(super) request: Value,
    /// Entries left out of it because they are specially protected.
    pub(super) left_out: u32,
}

/// Part of a record that a service is told.
struct Fetched {
    value: Value,
    left_out: u32,
}

impl Engine {
    /// The request to a service. No access to the EHR is handed over.
    ///
    /// # Errors
    /// [`NotHeard::Protected`] for an order or a patient that is specially protected, [`NotHeard::NoPrefetch`] where
    /// the EHR does not give what the table names.
    pub(super) async fn told_to_service(
        &self,
        service: &ServiceRule,
        ruled: &Ruled,
        order: &WriteOrder,
        by: &Human,
    ) -> Result<Told, NotHeard> {
        let token = ruled.proposal.patient.ok_or(NotHeard::NoPrefetch)?;
        let patient = self.patient_id(token).await;
        let patient = patient.map_err(|_| NotHeard::NoPrefetch)?;
        let mut drafts: Vec<Value> = Vec::new();
        for (change, sent) in ruled.changes().zip(order.changes()) {
            let mut draft: Value =
                serde_json::from_str(sent.body).map_err(|_| NotHeard::NoPrefetch)?;
            if Labels::of(&draft).restriction().is_some() {
                return Err(NotHeard::Protected);
            }
            if !self.decision_rules.is_order(change) {
                continue;
            }
            let fields = draft.as_object_mut().ok_or(NotHeard::NoPrefetch)?;
            for name in NOT_TOLD {
                fields.remove(name);
            }
            let number = drafts.len().saturating_add(1);
            fields.insert("id".to_owned(), json!(format!("draft-{number}")));
            fields.insert("status".to_owned(), json!("draft"));
            drafts.push(json!({ "resource": draft }));
        }
        let mut prefetch = serde_json::Map::new();
        let mut left_out: u32 = 0;
        for wanted in &service.prefetch {
            let found = self.prefetched(*wanted, &patient).await?;
            left_out = left_out.saturating_add(found.left_out);
            prefetch.insert(wanted.key().to_owned(), found.value);
        }
        let request = json!({
            "hook": "order-sign",
            "hookInstance": instance(self.random.id()),
            "context": {
                "userId": format!("Practitioner/{}", by.person.to_string().replace('_', "-")),
                "patientId": patient,
                "draftOrders": {
                    "resourceType": "Bundle", "type": "collection",
                    "entry": drafts,
                },
            },
            "prefetch": prefetch,
        });
        Ok(Told { request, left_out })
    }

    async fn prefetched(&self, wanted: Prefetch, patient: &str) -> Result<Fetched, NotHeard> {
        let kind = ResourceType::new(wanted.resource()).map_err(|_| NotHeard::NoPrefetch)?;
        if wanted == Prefetch::Patient {
            let found = self.ehr.read(&kind, patient).await;
            let found = found.map_err(|_| NotHeard::NoPrefetch)?;
            if Labels::of(&found).restriction().is_some() {
                return Err(NotHeard::Protected);
            }
            return Ok(Fetched {
                value: only(&found, wanted.fields()),
                left_out: 0,
            });
        }
        let mut parameters = vec![("patient".to_owned(), format!("Patient/{patient}"))];
        if wanted == Prefetch::Medications {
            parameters.push(("status".to_owned(), "active".to_owned()));
        }
        let search = EhrSearch {
            resource: kind,
            parameters,
            limit: PREFETCH_MAX,
        };
        let found = self.ehr.search(search).await;
        let found = found.map_err(|_| NotHeard::NoPrefetch)?;
        let is_theirs = |it: &Value| {
            it.get("resourceType").and_then(Value::as_str) == Some(wanted.resource())
                && self.belongs_to(it, patient)
        };
        if found.more || !found.resources.iter().all(is_theirs) {
            return Err(NotHeard::NoPrefetch);
        }
        // What is specially protected is told to nobody here.
        let (open, protected): (Vec<&Value>, Vec<&Value>) = found
            .resources
            .iter()
            .partition(|it| Labels::of(it).restriction().is_none());
        let entries: Vec<Value> = open
            .into_iter()
            .map(|it| json!({ "resource": only(it, wanted.fields()) }))
            .collect();
        Ok(Fetched {
            value: json!({ "resourceType": "Bundle", "type": "searchset", "entry": entries }),
            left_out: u32::try_from(protected.len()).unwrap_or(u32::MAX),
        })
    }
}

/// The named fields of a resource.
fn only(resource: &Value, fields: &[&str]) -> Value {
    let members = resource.as_object().into_iter().flatten();
    let kept = members.filter(|(name, _)| fields.contains(&name.as_str()));
    Value::Object(
        kept.map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    )
}

/// A random UUID, as the specification asks for (RFC 9562, version 4).
fn instance(random: [u8; 16]) -> String {
    let mut number = u128::from_be_bytes(random);
    number = number & !(0xf << 76) | (0x4 << 76);
    number = number & !(0x3 << 62) | (0x2 << 62);
    let digits = format!("{number:032x}");
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    [
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    ]
    .join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_a_random_uuid() {
        assert_eq!(instance([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(instance([0; 16]), "00000000-0000-4000-8000-000000000000");
    }

    #[test]
    fn what_is_told_is_what_is_named() {
        let patient = json!({ "resourceType": "Patient", "id": "p1", "name": [{ "family": "F" }], "gender": "male" });
        assert_eq!(
            only(&patient, &["resourceType", "id", "gender", "birthDate"]),
            json!({ "resourceType": "Patient", "id": "p1", "gender": "male" })
        );
    }
}
