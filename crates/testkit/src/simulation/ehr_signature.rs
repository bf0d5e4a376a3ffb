//! Looking for a signature, as `chaperone_connect::ehr` does it: it counts for the version it names, when that is
//! what was placed with the one element set.

use chaperone_core::Timestamp;
use chaperone_core::content::{content_digest, same_content};
use chaperone_core::digest::Digest;
use chaperone_core::evidence::WriteOrder;
use chaperone_core::ports::{EhrReadFailed, Signature, Version, WriteReceipt};
use serde_json::{Value, json};

use super::bugs::Bug;
use super::ehr_port::{SimEhr, number_of, sent_form};
use super::server::{SETTLE_MS, Signed};
use super::signers::DOCTOR;
use super::world::{MILLI, Micros, instant};

impl SimEhr {
    pub(super) async fn find_signature(
        &self,
        order: &WriteOrder,
        location: &str,
    ) -> Result<Signature, EhrReadFailed> {
        let place = location.split("/_history/").next().unwrap_or(location);
        let (Some(form), Some((kind, id))) = (&order.signed_form, place.split_once('/')) else {
            return Err(EhrReadFailed::Unsupported);
        };
        let now = match self.read_one(kind, id).await {
            Ok(now) => now,
            Err(EhrReadFailed::NotFound) => return Ok(Signature::Declined),
            Err(failed) => return Err(failed),
        };
        let read = |text: Option<String>| text.and_then(|it| serde_json::from_str(&it).ok());
        let placed = order.changes().next();
        let placed = placed.and_then(|change| sent_form(order, &change));
        let placed: Value = read(placed).ok_or(EhrReadFailed::Unusable)?;
        if same_content(&placed, &now) {
            return Ok(Signature::Awaited);
        }
        let state = now.get(&form.element);
        if state == Some(&json!(form.unsigned)) {
            return Ok(Signature::Changed);
        }
        let approved: Value = read(Some(order.body.clone())).ok_or(EhrReadFailed::Unusable)?;
        let (of, named) = (kind.to_owned(), id.to_owned());
        let (signatures, versions, is_young) = self
            .look(true, move |server, now, lag| {
                let since = server.since(&of, &named).unwrap_or_default();
                (
                    server.signatures(&of, &named, now, lag),
                    server.versions(&of, &named),
                    now.saturating_sub(since) < SETTLE,
                )
            })
            .await?;
        for signature in &signatures {
            let is_version = |it: &&Value| number_of(it) == Some(signature.version);
            let Some(version) = versions.iter().find(is_version) else {
                continue;
            };
            if same_content(&approved, version) {
                return Ok(self.given(signature, content_digest(version)));
            }
            if self.bug == Some(Bug::SignatureOfAnything) {
                return Ok(self.given(signature, content_digest(&approved)));
            }
        }
        // What was signed just now a search may not show yet.
        if is_young {
            return Err(EhrReadFailed::Unavailable);
        }
        Ok(
            if signatures.is_empty() && state != Some(&json!(form.signed)) {
                Signature::Declined
            } else {
                Signature::Changed
            },
        )
    }

    fn given(&self, signature: &Signed, read_back: Digest) -> Signature {
        let Signed {
            kind, id, version, ..
        } = signature;
        let signer = match self.bug {
            Some(Bug::SignerNotTold) => DOCTOR,
            _ => &signature.signer,
        };
        Signature::Given {
            signer: signer.to_owned(),
            at: time(signature.at),
            receipt: WriteReceipt {
                location: format!("{kind}/{id}/_history/{version}"),
                version: Some(Version(version.to_string())),
                read_back: Some(read_back),
                provenance_written: false,
                also: Vec::new(),
            },
        }
    }
}

/// How long a search may not show what is there.
const SETTLE: Micros = SETTLE_MS.unsigned_abs() * MILLI;

/// The EHR's clock is right.
fn time(at: Micros) -> Timestamp {
    instant(at, 0)
}
