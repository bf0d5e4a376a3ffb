//! Whether what was placed unsigned has been signed in the EHR, by whom, and of which content. Reads only.
//!
//! A signature counts for the version it names, and only when that version is what was placed, with the one element
//! set that says it is signed. An order that is active without a signature which says whose it is counts as changed:
//! somebody acted on it, and nobody here knows who.
//!
//! Not here: whether the signer may approve it (the engine's).
//!
//! # Source
//! FHIR R4, Provenance (`target` names a version; `signature.who`, `signature.when`).

use chaperone_core::Timestamp;
use chaperone_core::content::{content_digest, same_content};
use chaperone_core::evidence::Delivering;
use chaperone_core::ports::{EhrReadFailed, EhrSearch, Signature, Version, WriteReceipt};
use chaperone_core::resource::ResourceType;
use serde_json::Value;

use super::FhirEndpoint;
use super::answer::{read_location, version_of};
use super::read::{Turn, is_id};
use super::sendable::Sendable;
use super::write::location as location_of;

/// Most Provenances of one resource that are looked through.
const SIGNATURES_MAX: u32 = 20;

/// A signature as a Provenance states it.
struct Stated {
    version: Version,
    signer: String,
    at: Timestamp,
}

impl FhirEndpoint {
    pub(super) async fn find_signature(
        &self,
        delivering: &Delivering,
        location: &str,
    ) -> Result<Signature, EhrReadFailed> {
        let Ok(sent) = self.sendable(delivering) else {
            return Err(EhrReadFailed::Unsupported);
        };
        let (Some(form), Some((id, _))) = (
            &sent.order.signed_form,
            read_location(location, &sent.order.resource),
        ) else {
            return Err(EhrReadFailed::Unsupported);
        };
        let kind = &sent.order.resource;
        let now = match self.read_one(Turn::Delivery, kind, &id).await {
            Ok(now) => now,
            Err(EhrReadFailed::NotFound) => return Ok(Signature::Declined),
            Err(failed) => return Err(failed),
        };
        if same_content(&sent.part.body, &now) {
            return Ok(Signature::Awaited);
        }
        if form.is_unsigned(&now) {
            return Ok(Signature::Changed);
        }
        let signatures = self.signatures_of(kind, &id).await?;
        for signature in &signatures {
            if let Some(receipt) = self.signed_version(&sent, &id, &now, signature).await? {
                return Ok(Signature::Given {
                    signer: signature.signer.clone(),
                    at: signature.at,
                    receipt,
                });
            }
        }
        // What was signed just now a search may not show yet.
        if is_young(&now, self.clock.now(), self.settle_ms) {
            return Err(EhrReadFailed::Unavailable);
        }
        Ok(if signatures.is_empty() && !form.is_signed(&now) {
            Signature::Declined
        } else {
            Signature::Changed
        })
    }

    /// What the version that a signature names can show, if it is what was placed, signed.
    async fn signed_version(
        &self,
        sent: &Sendable<'_>,
        id: &str,
        now: &Value,
        signature: &Stated,
    ) -> Result<Option<WriteReceipt>, EhrReadFailed> {
        let kind = &sent.order.resource;
        let earlier: Value;
        let version = if version_of(now).as_ref() == Some(&signature.version) {
            now
        } else {
            let Version(number) = &signature.version;
            let path = format!("{kind}/{id}/_history/{number}");
            match self.get(Turn::Delivery, &path, kind.as_str()).await {
                Ok(found) => {
                    earlier = found;
                    &earlier
                }
                Err(EhrReadFailed::NotFound | EhrReadFailed::Unsupported) => return Ok(None),
                Err(failed) => return Err(failed),
            }
        };
        let is_signed = sent
            .signed_body
            .as_ref()
            .is_some_and(|signed| same_content(signed, version));
        Ok(is_signed.then(|| WriteReceipt {
            location: location_of(kind, id, Some(&signature.version)),
            version: Some(signature.version.clone()),
            read_back: Some(content_digest(version)),
            provenance_written: false,
            also: Vec::new(),
        }))
    }

    /// The signatures on versions of a resource, in the server's order.
    async fn signatures_of(
        &self,
        kind: &ResourceType,
        id: &str,
    ) -> Result<Vec<Stated>, EhrReadFailed> {
        let search = EhrSearch {
            resource: ResourceType::new("Provenance").map_err(|_| EhrReadFailed::Unsupported)?,
            parameters: vec![("target".to_owned(), location_of(kind, id, None))],
            limit: SIGNATURES_MAX,
        };
        let found = self.search_all(Turn::Delivery, search).await?;
        Ok(found
            .resources
            .iter()
            .filter_map(|provenance| stated(provenance, kind, id))
            .collect())
    }
}

/// Whether a resource is as it is for less than the time after which a search of this server shows everything. One
/// that does not say since when is not.
pub(super) fn is_young(resource: &Value, now: Timestamp, settle_ms: i64) -> bool {
    let since = resource
        .pointer("/meta/lastUpdated")
        .and_then(Value::as_str);
    since
        .and_then(|text| text.parse::<Timestamp>().ok())
        .is_some_and(|since| now.duration_since(since).as_millis().abs() < i128::from(settle_ms))
}

/// The first signature of a Provenance about a version of one resource. Nothing for one about anything else, or that
/// does not say who signed and when.
fn stated(provenance: &Value, kind: &ResourceType, id: &str) -> Option<Stated> {
    let text = |pointer: &str| provenance.pointer(pointer).and_then(Value::as_str);
    // One that names several targets does not say which of them was looked at.
    let [target] = provenance.get("target")?.as_array()?.as_slice() else {
        return None;
    };
    let (of, version) = read_location(target.get("reference")?.as_str()?, kind)?;
    let signer = text("/signature/0/who/reference")?;
    let person = signer.strip_prefix("Practitioner/")?;
    (of == id && is_id(person)).then_some(())?;
    Some(Stated {
        version: version?,
        signer: signer.to_owned(),
        at: text("/signature/0/when")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_signed_just_now_is_looked_at_again() {
        let now: Timestamp = "2026-03-02T15:00:02Z".parse().unwrap();
        let since = |text: &str| json!({"meta": {"lastUpdated": text}});
        assert!(is_young(&since("2026-03-02T15:00:01.5Z"), now, 1_000));
        assert!(is_young(&since("2026-03-02T15:00:02.9Z"), now, 1_000));
        assert!(!is_young(&since("2026-03-02T15:00:01Z"), now, 1_000));
        // A clock that is far ahead holds nothing up.
        assert!(!is_young(&since("2026-03-02T16:00:00Z"), now, 1_000));
        assert!(!is_young(&since("2026-03-02T15:00:02Z"), now, 0));
        assert!(!is_young(&json!({}), now, 1_000));
    }

    #[test]
    fn a_signature_names_one_version_one_person_and_a_time() {
        let kind = ResourceType::new("MedicationRequest").unwrap();
        let whole = json!({
            "target": [{"reference": "MedicationRequest/1/_history/2"}],
            "signature": [{"when": "2026-03-02T15:00:00Z", "who": {"reference": "Practitioner/x"}}],
        });
        let found = stated(&whole, &kind, "1").unwrap();
        assert_eq!(
            (found.version.0.as_str(), found.signer.as_str()),
            ("2", "Practitioner/x")
        );
        assert!(stated(&whole, &kind, "2").is_none());
        for (pointer, value) in [
            ("/target", json!([])),
            ("/target", json!([whole["target"][0], whole["target"][0]])),
            ("/target/0/reference", json!("MedicationRequest/1")),
            ("/target/0/reference", json!("ServiceRequest/1/_history/2")),
            ("/signature/0/who/reference", json!("Device/x")),
            ("/signature/0/who/reference", json!("Practitioner/")),
            ("/signature/0/when", json!("today")),
            ("/signature", json!([])),
        ] {
            let mut other = whole.clone();
            *other.pointer_mut(pointer).unwrap() = value;
            assert!(stated(&other, &kind, "1").is_none(), "{pointer}");
        }
    }
}
