//! One change or several, each with its Provenance, in one atomic transaction, and what its answer says.
//!
//! # Source
//! FHIR R4, RESTful API, "batch/transaction".

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chaperone_core::digest::Digest;
use chaperone_core::patch::JSON_PATCH;
use chaperone_core::ports::WriteFailed;
use chaperone_core::resource::ResourceType;
use chaperone_core::writeback::FailureCause;
use reqwest::StatusCode;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::FhirEndpoint;
use super::answer::{Accepted, Condition, Stated, not_applied, refused};
use super::sendable::{Sendable, Target};
use super::write::{condition_of, with_target};
use crate::http::Answer;

/// The request line of one entry.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EntryRequest<'a> {
    method: &'static str,
    url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    if_none_exist: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    if_match: Option<&'a str>,
}

/// One entry. Its resource goes in byte for byte.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    full_url: String,
    resource: &'a RawValue,
    request: EntryRequest<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Transaction<'a> {
    resource_type: &'static str,
    r#type: &'static str,
    entry: &'a [Entry<'a>],
}

impl FhirEndpoint {
    /// Sends every change with its Provenance as one transaction: the changes first, then the Provenances.
    pub(super) async fn send_transaction(
        &self,
        sendable: &Sendable<'_>,
    ) -> Result<Vec<Accepted>, WriteFailed> {
        let order = sendable.order;
        let unsendable = || not_applied(FailureCause::Rejected);
        let url = self.base.at("").ok_or_else(unsendable)?;
        let (body, entries) = self.transaction_of(sendable).ok_or_else(unsendable)?;
        let request = self.write_client.post(url).body(body);
        let answer = self.send_once(request, sendable.not_after).await?;
        self.log_status(order, answer.status);
        if answer.status != StatusCode::OK {
            return Err(self.refused_transaction(sendable, &answer).await);
        }
        let bundle = answer.json().ok_or(WriteFailed::Unknown)?;
        let expected = sendable
            .parts()
            .map(|part| (part.change.resource, part.target.known_id()));
        first_entries(&bundle, entries, expected)
    }

    /// The bytes of the transaction, and how many entries it has.
    fn transaction_of(&self, sendable: &Sendable<'_>) -> Option<(Vec<u8>, usize)> {
        let mut patches = Vec::new();
        let mut provenances = Vec::new();
        let mut names = (0_u8..=u8::MAX).map(|n| entry_name(sendable.digest, n));
        let mut urls = Vec::new();
        for part in sendable.parts() {
            let name = names.next()?;
            urls.push(match (part.target, part.patch) {
                (Target::Existing { .. }, None) => self.base.at(part.change.path)?.into(),
                // The Binary that holds a patch is nothing that stays; the entry's request says what it changes.
                (Target::New, _) | (Target::Existing { .. }, Some(_)) => name.clone(),
            });
            let reference = match part.target {
                Target::New => name,
                Target::Existing { .. } => part.change.path.to_owned(),
            };
            let held = part.patch.map(|patch| to_raw_value(&patch_binary(patch)));
            patches.push(held.transpose().ok()?);
            if let Some(provenance) = &part.provenance {
                provenances.push(to_raw_value(&with_target(provenance, &reference)).ok()?);
            }
        }
        let mut entries = Vec::new();
        for ((part, full_url), held) in sendable.parts().zip(urls).zip(&patches) {
            let condition = condition_of(sendable.order.strategy, part);
            let if_match = matches!(condition, Condition::Match | Condition::MatchPatch);
            entries.push(Entry {
                full_url,
                resource: match held {
                    Some(held) => held,
                    None => serde_json::from_str(part.change.body).ok()?,
                },
                request: EntryRequest {
                    method: match (part.target, part.patch) {
                        (Target::New, _) => "POST",
                        (Target::Existing { .. }, None) => "PUT",
                        (Target::Existing { .. }, Some(_)) => "PATCH",
                    },
                    url: part.change.path,
                    if_none_exist: part
                        .change
                        .if_none_exist
                        .filter(|_| condition == Condition::NoneExist),
                    if_match: part.change.if_match.filter(|_| if_match),
                },
            });
        }
        for provenance in &provenances {
            entries.push(provenance_entry(names.next()?, provenance));
        }
        Some((transaction(&entries)?, entries.len()))
    }

    /// What the refusal of a transaction proves. Of several changes under conditions of both kinds, a conflict does not
    /// say whose it is, so it is looked at: what is still to be made was not made, and of what is to be changed
    /// something is another version than was approved, which is not ours.
    async fn refused_transaction(&self, sendable: &Sendable<'_>, answer: &Answer) -> WriteFailed {
        let now = self.clock.now();
        let verdicts: Vec<WriteFailed> = sendable
            .parts()
            .map(|part| refused(answer, condition_of(sendable.order.strategy, part), now))
            .collect();
        if let Some((first, others)) = verdicts.split_first()
            && others.iter().all(|other| other == first)
        {
            return first.clone();
        }
        match self.soon(self.overtaken(sendable)).await {
            Ok(Ok(true)) => WriteFailed::Stale,
            _ => WriteFailed::Unknown,
        }
    }
}

/// A name for a resource inside one transaction, made from the order's digest: the same order always
/// gives the same bytes.
///
/// # Source
/// RFC 9562, UUID version 8.
fn entry_name(digest: &Digest, part: u8) -> String {
    let derived = Digest::of_parts([digest.as_bytes().as_slice(), &[part]]);
    let hex = derived.to_string();
    let at = |range| hex.get(range).unwrap_or_default();
    format!(
        "urn:uuid:{}-{}-8{}-8{}-{}",
        at(0..8),
        at(8..12),
        at(13..16),
        at(17..20),
        at(20..32)
    )
}

/// The transaction's bytes.
fn transaction(entries: &[Entry<'_>]) -> Option<Vec<u8>> {
    serde_json::to_vec(&Transaction {
        resource_type: "Bundle",
        r#type: "transaction",
        entry: entries,
    })
    .ok()
}

/// The entry of a Provenance.
fn provenance_entry(full_url: String, provenance: &RawValue) -> Entry<'_> {
    Entry {
        full_url,
        resource: provenance,
        request: EntryRequest {
            method: "POST",
            url: "Provenance",
            if_none_exist: None,
            if_match: None,
        },
    }
}

/// The resource of an entry that patches: the patch, byte for byte, as the content of a Binary.
///
/// # Source
/// FHIR R4, RESTful API, "patch": patches in batches and transactions.
pub(super) fn patch_binary(patch: &str) -> Value {
    json!({
        "resourceType": "Binary",
        "contentType": JSON_PATCH,
        "data": STANDARD.encode(patch),
    })
}

/// What the server made of a transaction's first entries: one for each of `expected`, which are the types and known ids
/// of what is written, in the order of the entries. `entries` is how many were sent, Provenances included.
///
/// # Errors
/// `Unknown` unless the answer is a `transaction-response` with as many entries as were sent, all of them successes: a
/// server that reports success and failure together, or is silent about an entry, was not atomic.
fn first_entries<'a>(
    answer: &Value,
    entries: usize,
    expected: impl Iterator<Item = (&'a ResourceType, Option<&'a str>)>,
) -> Result<Vec<Accepted>, WriteFailed> {
    if answer.get("type").and_then(Value::as_str) != Some("transaction-response") {
        return Err(WriteFailed::Unknown);
    }
    let answered = answer.get("entry").and_then(Value::as_array);
    let answered = answered
        .filter(|answered| answered.len() == entries)
        .ok_or(WriteFailed::Unknown)?;
    let statuses: Vec<u16> = answered
        .iter()
        .map(success)
        .collect::<Option<_>>()
        .ok_or(WriteFailed::Unknown)?;
    let told = answered.iter().zip(statuses);
    expected
        .zip(told)
        .map(|((resource, known_id), (entry, status))| {
            let text = |name: &str| entry.pointer(name).and_then(Value::as_str);
            let stated = Stated {
                location: text("/response/location"),
                etag: text("/response/etag"),
                body: entry.get("resource"),
            };
            let existed = status == 200 && known_id.is_none();
            stated.accepted(resource, known_id, existed)
        })
        .collect()
}

fn success(entry: &Value) -> Option<u16> {
    let status = entry.pointer("/response/status")?.as_str()?;
    let code: u16 = status.get(..3)?.parse().ok()?;
    matches!(code, 200 | 201).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_goes_in_byte_for_byte() {
        let body = r#"{"resourceType":"Task", "x":1.50}"#;
        let digest = Digest::of_bytes(b"order");
        let target = Entry {
            full_url: entry_name(&digest, 0),
            resource: serde_json::from_str(body).unwrap(),
            request: EntryRequest {
                method: "POST",
                url: "Task",
                if_none_exist: Some("identifier=a|b"),
                if_match: None,
            },
        };
        let provenance = serde_json::value::to_raw_value(&json!({"a": 1})).unwrap();
        let entries = [
            target,
            provenance_entry("urn:uuid:p".to_owned(), &provenance),
        ];
        let text = String::from_utf8(transaction(&entries).unwrap()).unwrap();
        assert!(text.contains(body), "{text}");
        assert!(text.contains(r#""ifNoneExist":"identifier=a|b""#));
        assert!(!text.contains("ifMatch"));
    }

    #[test]
    fn names_are_uuids_and_differ() {
        let digest = Digest::of_bytes(b"order");
        let name = entry_name(&digest, 0);
        assert_eq!(name.len(), "urn:uuid:".len() + 36);
        assert_eq!(name.as_bytes()["urn:uuid:".len() + 14], b'8');
        assert_ne!(name, entry_name(&digest, 1));
        assert_eq!(name, entry_name(&digest, 0));
    }

    #[test]
    fn only_successes_of_every_entry_are_a_success() {
        let [task, observation] =
            ["Task", "Observation"].map(|name| ResourceType::new(name).unwrap());
        let entry = |status: &str, of: &str| json!({"response": {"status": status, "location": format!("{of}/7/_history/1"), "etag": "W/\"1\""}});
        let answer = |entries: &[Value]| json!({"resourceType": "Bundle", "type": "transaction-response", "entry": entries});
        let one = |answer: &Value| first_entries(answer, 2, [(&task, None)].into_iter());
        let provenance = json!({"response": {"status": "201"}});
        let good = answer(&[entry("201 Created", "Task"), provenance.clone()]);
        let made = one(&good).unwrap();
        assert_eq!((made[0].id.as_str(), made[0].existed), ("7", false));
        let again = one(&answer(&[entry("200 OK", "Task"), provenance.clone()])).unwrap();
        assert!(again[0].existed);
        let failed = json!({"response": {"status": "400 Bad Request"}});
        for bad in [
            answer(&[entry("201", "Task"), failed]),
            answer(&[entry("412", "Task"), provenance.clone()]),
            // One entry that nothing is said of, and one too many.
            answer(&[entry("201", "Task")]),
            answer(&[entry("201", "Task"), provenance.clone(), provenance.clone()]),
            // Something else was made than was asked for.
            answer(&[entry("201", "Patient"), provenance.clone()]),
        ] {
            assert_eq!(one(&bad), Err(WriteFailed::Unknown), "{bad}");
        }
        let mut batch = good;
        batch["type"] = json!("batch-response");
        assert!(one(&batch).is_err());
        // Several, each with its own place.
        let several = answer(&[entry("201", "Task"), entry("200", "Observation")]);
        let expected = [(&task, None), (&observation, Some("7"))];
        let made = first_entries(&several, 2, expected.into_iter()).unwrap();
        assert_eq!(made.len(), 2);
        assert!(!made[1].existed);
        assert!(first_entries(&several, 3, expected.into_iter()).is_err());
    }
}
