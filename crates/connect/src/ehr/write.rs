//! Delivery: one send by the order's strategy, Provenance, and reading back.
//!
//! Nothing here repeats a write. Everything that can be refused is refused before a byte is sent.

use std::time::Duration;

use chaperone_core::Timestamp;
use chaperone_core::content::{content_digest, same_content};
use chaperone_core::digest::Digest;
use chaperone_core::evidence::{Delivering, Strategy, WriteOrder};
use chaperone_core::patch::JSON_PATCH;
use chaperone_core::ports::{
    EhrReadFailed, EhrSearch, EntryWritten, InteractionSupport, Reconciliation, Version,
    WriteFailed, WriteReceipt,
};
use chaperone_core::resource::ResourceType;
use chaperone_core::together::OneChange;
use chaperone_core::writeback::{FailureCause, HumanNeeded};
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, IF_MATCH};
use serde_json::{Value, json};

use super::answer::{Accepted, Condition, accepted, broken, not_applied, refused, token_failed};

use super::operation::{acknowledged, call};
use super::read::{FHIR_JSON, PREFER, Turn};
use super::sendable::{Part, Sendable, Target, offers};
use super::{FhirEndpoint, answer};
use crate::egress::{Outgoing, class, exchange};
use crate::http::Answer;

pub(super) const IF_NONE_EXIST: HeaderName = HeaderName::from_static("if-none-exist");

/// How often a resource that was just written is read back before giving up for now.
const READ_BACK_ATTEMPTS_MAX: u32 = 3;

/// The wait before reading back again, in milliseconds, times the attempt.
const READ_BACK_WAIT_MS: u64 = 100;

impl FhirEndpoint {
    pub(super) async fn deliver(
        &self,
        delivering: &Delivering,
    ) -> Result<WriteReceipt, WriteFailed> {
        let order = delivering.order();
        // A claim that transactions are atomic counts as far as a report showed it.
        let support = |change: &OneChange<'_>| {
            let claimed = self.support(change.resource, change.interaction);
            InteractionSupport {
                atomic: claimed.atomic && delivering.is_shown_atomic(),
                ..claimed
            }
        };
        let offered = order
            .changes()
            .try_for_each(|change| offers(&support(&change), order, &change));
        let mut sendable = offered
            .and_then(|()| self.sendable(delivering))
            .map_err(|why| {
                tracing::error!(
                    connection = %self.connection,
                    writeback = %order.writeback,
                    reason = %why,
                    "the order was not sent"
                );
                not_applied(FailureCause::Rejected)
            })?;
        for part in sendable.parts_mut() {
            if !support(&part.change).provenance {
                part.provenance = None;
            }
        }
        if delivering.attempt() > 1
            && let Some(found) = self.applied_meanwhile(&sendable).await
        {
            return found;
        }
        match order.strategy {
            Strategy::Conditional => {
                let atomic = support(&sendable.part.change).atomic;
                self.deliver_conditional(&sendable, atomic).await
            }
            Strategy::PlainPost | Strategy::VendorOp | Strategy::EhrStaged => {
                self.deliver_plain(&sendable).await
            }
            Strategy::HumanEntry => Err(not_applied(FailureCause::Rejected)),
        }
    }

    /// What comes before a send may take as long as one exchange: the worker's claim on the order is
    /// sized by that, and a send must not begin after the claim has run out.
    pub(super) async fn soon<T>(
        &self,
        step: impl Future<Output = T>,
    ) -> Result<T, tokio::time::error::Elapsed> {
        let limit = Duration::from_millis(self.limits.exchange_timeout_ms);
        tokio::time::timeout(limit, step).await
    }

    /// What an earlier attempt did after all, if it shows now. Without this look, a transaction that
    /// finds its target in place would still write a second Provenance.
    async fn applied_meanwhile(
        &self,
        sendable: &Sendable<'_>,
    ) -> Option<Result<WriteReceipt, WriteFailed>> {
        let is_create =
            (sendable.order.strategy, sendable.part.target) == (Strategy::Conditional, Target::New);
        if !is_create && sendable.also.is_empty() {
            return None;
        }
        match self.soon(self.find_conditional(sendable)).await {
            Ok(Ok(Reconciliation::Applied(receipt))) => Some(Ok(receipt)),
            // The rest of what is there in part is not sent after it: a person looks.
            Ok(Ok(Reconciliation::Undecidable(HumanNeeded::PartlyApplied))) => {
                Some(Err(WriteFailed::Unknown))
            }
            // Of several, what cannot be seen now may be there in part: it is looked up before anything is sent.
            Ok(Ok(Reconciliation::Undecidable(HumanNeeded::EndpointCannotTell)) | Err(_))
            | Err(_)
                if !sendable.also.is_empty() =>
            {
                Some(Err(WriteFailed::Unknown))
            }
            // What was seen of several, and one change alone, is settled by the conditions under which it is sent.
            Ok(_) | Err(_) => None,
        }
    }

    async fn deliver_conditional(
        &self,
        sendable: &Sendable<'_>,
        atomic: bool,
    ) -> Result<WriteReceipt, WriteFailed> {
        let is_together = !sendable.also.is_empty();
        let has_provenance = sendable.part.provenance.is_some();
        let (accepted, provenance_written) = if is_together || (atomic && has_provenance) {
            let accepted = self.send_transaction(sendable).await?;
            let written = sendable.parts().all(|part| part.provenance.is_some());
            (accepted, written)
        } else {
            let accepted = self.send_target(sendable).await?;
            let written = self.send_provenance(sendable, &accepted).await;
            (vec![accepted], written)
        };
        let mut shown = Vec::with_capacity(accepted.len());
        for (part, accepted) in sendable.parts().zip(&accepted) {
            let ReadBack::Same { digest, version } = self.read_back(part, accepted).await else {
                // Reconciling reads again and, if the difference stands, puts it before a human.
                return Err(WriteFailed::Unknown);
            };
            shown.push(written(part, accepted, version, Some(digest)));
        }
        WriteReceipt::of_all(shown, provenance_written).ok_or(WriteFailed::Unknown)
    }

    async fn deliver_plain(&self, sendable: &Sendable<'_>) -> Result<WriteReceipt, WriteFailed> {
        let part = &sendable.part;
        if let Target::Existing { id } = part.target {
            self.soon(self.base_unchanged(sendable.order, id))
                .await
                .unwrap_or_else(|_| Err(not_applied(FailureCause::Unreachable)))?;
        }
        let accepted = self.send_target(sendable).await?;
        let provenance_written = self.send_provenance(sendable, &accepted).await;
        let (digest, version) = match self.read_back(part, &accepted).await {
            ReadBack::Same { digest, version } => (Some(digest), version),
            // Acknowledged, not shown: asking again later cannot do better here.
            ReadBack::Unreadable => (None, None),
            ReadBack::Differs => return Err(WriteFailed::Unknown),
        };
        let shown = vec![written(part, &accepted, version, digest)];
        WriteReceipt::of_all(shown, provenance_written).ok_or(WriteFailed::Unknown)
    }

    /// Reads the base again. Between this and the send another writer may still come in; that is why the
    /// strategy reaches P2 and no more.
    async fn base_unchanged(&self, order: &WriteOrder, id: &str) -> Result<(), WriteFailed> {
        let base = self
            .read_one(Turn::Delivery, &order.resource, id)
            .await
            .map_err(|failed| match failed {
                EhrReadFailed::NotFound => WriteFailed::Stale,
                EhrReadFailed::Unavailable => not_applied(FailureCause::Unreachable),
                EhrReadFailed::RateLimited => not_applied(FailureCause::RateLimited),
                EhrReadFailed::Unauthorized => not_applied(FailureCause::Unauthorized),
                EhrReadFailed::Unsupported | EhrReadFailed::Unusable => {
                    not_applied(FailureCause::Rejected)
                }
            })?;
        if order.base_digest == Some(content_digest(&base)) {
            Ok(())
        } else {
            Err(WriteFailed::Stale)
        }
    }

    /// Sends the target alone.
    async fn send_target(&self, sendable: &Sendable<'_>) -> Result<Accepted, WriteFailed> {
        let order = sendable.order;
        if let Some(operation) = &order.operation {
            return self.send_operation(sendable, operation).await;
        }
        let url = self
            .base
            .at(&order.path)
            .ok_or_else(|| not_applied(FailureCause::Rejected))?;
        let part = &sendable.part;
        let mut request = match (part.target, part.patch) {
            (Target::New, _) => self.write_client.post(url),
            (Target::Existing { .. }, None) => self.write_client.put(url),
            (Target::Existing { .. }, Some(_)) => self.write_client.patch(url),
        };
        let condition = condition_of(order.strategy, part);
        match condition {
            Condition::NoneExist => {
                request =
                    request.header(IF_NONE_EXIST, order.if_none_exist.as_deref().unwrap_or(""));
            }
            Condition::Match | Condition::MatchPatch => {
                request = request.header(IF_MATCH, order.if_match.as_deref().unwrap_or(""));
            }
            Condition::None => {}
        }
        // Byte for byte as approved; what is placed unsigned is the same with one element set back.
        let (kind, body) = match (part.patch, &sendable.signed_body) {
            (Some(patch), _) => (JSON_PATCH, patch.to_owned()),
            (None, None) => (FHIR_JSON, order.body.clone()),
            (None, Some(_)) => (FHIR_JSON, part.body.to_string()),
        };
        let request = request.body(body);
        let answer = self.send_typed(request, kind, sendable.not_after).await?;
        self.log_status(order, answer.status);
        if !matches!(answer.status, StatusCode::OK | StatusCode::CREATED) {
            return Err(refused(&answer, condition, self.clock.now()));
        }
        accepted(&answer, &order.resource, part.target.known_id(), condition)
    }

    /// Sends the target to an operation of the EHR's own.
    async fn send_operation(
        &self,
        sendable: &Sendable<'_>,
        operation: &str,
    ) -> Result<Accepted, WriteFailed> {
        let order = sendable.order;
        let unsendable = || not_applied(FailureCause::Rejected);
        let url = self.base.at(operation).ok_or_else(unsendable)?;
        let message_id = format!("urn:chaperone:writeback|{}", order.writeback);
        let body = call(&message_id, &order.body).ok_or_else(unsendable)?;
        let request = self.write_client.post(url).body(body);
        let answer = self.send_once(request, sendable.not_after).await?;
        self.log_status(order, answer.status);
        if !matches!(answer.status, StatusCode::OK | StatusCode::CREATED) {
            return Err(refused(&answer, Condition::None, self.clock.now()));
        }
        let said = answer.json().ok_or(WriteFailed::Unknown)?;
        acknowledged(&said, &order.resource, sendable.part.target.known_id())
    }

    /// Writes the Provenance of a target that stands alone. Whatever becomes of it, the target is there:
    /// the ledger holds the same facts.
    async fn send_provenance(&self, sendable: &Sendable<'_>, accepted: &Accepted) -> bool {
        let Some(template) = &sendable.part.provenance else {
            return false;
        };
        let resource = &sendable.order.resource;
        let version = accepted.version.as_ref();
        let id = accepted.id.as_str();
        if accepted.existed && self.provenance_exists(resource, id, version).await {
            return true;
        }
        let reference = location(resource, id, version);
        let Some(url) = self.base.at("Provenance") else {
            return false;
        };
        let body = with_target(template, &reference).to_string();
        let sent = self
            .send_once(self.write_client.post(url).body(body), sendable.not_after)
            .await;
        let written = sent
            .as_ref()
            .is_ok_and(|answer| answer.status == StatusCode::CREATED);
        if !written {
            tracing::warn!(
                connection = %self.connection,
                writeback = %sendable.order.writeback,
                status = sent.map(|answer| answer.status.as_u16()).unwrap_or_default(),
                "the Provenance was not written"
            );
        }
        written
    }

    /// Whether a Provenance points at the resource. No answer counts as no.
    ///
    /// A server should find a reference to a version by its resource; some compare the text as written.
    pub(super) async fn provenance_exists(
        &self,
        resource: &ResourceType,
        id: &str,
        version: Option<&Version>,
    ) -> bool {
        self.provenance_targets(location(resource, id, None)).await
            || (version.is_some()
                && self
                    .provenance_targets(location(resource, id, version))
                    .await)
    }

    async fn provenance_targets(&self, reference: String) -> bool {
        let Ok(kind) = ResourceType::new("Provenance") else {
            return false;
        };
        let search = EhrSearch {
            resource: kind,
            parameters: vec![("target".to_owned(), reference)],
            limit: 1,
        };
        self.search_all(Turn::Delivery, search)
            .await
            .is_ok_and(|found| !found.resources.is_empty())
    }

    /// Sends a write once, with the write client's token, unless it is too late: what was looked at before, and
    /// the token, may have taken their time, and meanwhile another node may have taken over.
    pub(super) async fn send_once(
        &self,
        request: Outgoing<class::Phi>,
        not_after: Option<Timestamp>,
    ) -> Result<Answer, WriteFailed> {
        self.send_typed(request, FHIR_JSON, not_after).await
    }

    /// The same for a body of another media type.
    pub(super) async fn send_typed(
        &self,
        request: Outgoing<class::Phi>,
        media_type: &'static str,
        not_after: Option<Timestamp>,
    ) -> Result<Answer, WriteFailed> {
        let mut request = request
            .header(ACCEPT, FHIR_JSON)
            .header(CONTENT_TYPE, media_type)
            .header(PREFER, "return=representation");
        let mut used = None;
        if let Some(auth) = &self.write_auth {
            let header = self
                .soon(auth.authorization())
                .await
                .map_err(|_| not_applied(FailureCause::Unreachable))?
                .map_err(token_failed)?;
            request = request.header(AUTHORIZATION, header.clone());
            used = Some((auth, header));
        }
        if not_after.is_some_and(|until| self.clock.now() >= until) {
            tracing::warn!(connection = %self.connection, "a send came too late and was not sent");
            return Err(not_applied(FailureCause::Unreachable));
        }
        if let Some(until) = not_after {
            // No longer than lease and claim hold: an answer that comes later is looked up by whoever has them then.
            let left = until.duration_since(self.clock.now()).as_millis();
            let left = u64::try_from(left).unwrap_or(1).max(1);
            request = request.within_ms(left.min(self.limits.exchange_timeout_ms));
        }
        let answer = exchange(request, self.limits.body_bytes_max)
            .await
            .map_err(broken)?;
        self.hear_wish_to_rest(&answer);
        if let Some((auth, header)) = used
            && answer.status == StatusCode::UNAUTHORIZED
        {
            auth.forget(&header).await;
        }
        Ok(answer)
    }

    /// Remembers until when the EHR wants no writes. What the answer proves about this one is judged elsewhere.
    ///
    /// # Source
    /// RFC 9110, section 10.2.3; RFC 6585, section 4.
    fn hear_wish_to_rest(&self, answer: &Answer) {
        let is_wish = matches!(
            answer.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        let now = self.clock.now();
        let Some(wait_ms) = answer.retry_after_ms(now).filter(|_| is_wish) else {
            return;
        };
        let wait = jiff::SignedDuration::from_millis(wait_ms);
        if let Ok(until) = now.checked_add(wait) {
            let mut rests = self
                .rests_until
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            *rests = (*rests).max(Some(until));
        }
    }

    /// Reads what was written, the exact version where the server told it, and compares.
    async fn read_back(&self, part: &Part<'_>, accepted: &Accepted) -> ReadBack {
        let resource = part.change.resource;
        for attempt in 1..=READ_BACK_ATTEMPTS_MAX {
            match self.read_written(resource, accepted).await {
                Ok(found) if same_content(&part.body, &found) => {
                    return ReadBack::Same {
                        digest: content_digest(&found),
                        version: answer::version_of(&found),
                    };
                }
                Ok(_) => return ReadBack::Differs,
                Err(EhrReadFailed::Unauthorized | EhrReadFailed::Unsupported) => {
                    return ReadBack::Unreadable;
                }
                Err(_) if attempt < READ_BACK_ATTEMPTS_MAX => {
                    let wait = READ_BACK_WAIT_MS.saturating_mul(u64::from(attempt));
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                }
                Err(_) => {}
            }
        }
        ReadBack::Unreadable
    }

    async fn read_written(
        &self,
        resource: &ResourceType,
        accepted: &Accepted,
    ) -> Result<Value, EhrReadFailed> {
        if let Some(Version(version)) = &accepted.version {
            let path = format!("{resource}/{}/_history/{version}", accepted.id);
            match self.get(Turn::Delivery, &path, resource.as_str()).await {
                Err(
                    EhrReadFailed::NotFound | EhrReadFailed::Unsupported | EhrReadFailed::Unusable,
                ) => {}
                found => return found,
            }
        }
        self.read_one(Turn::Delivery, resource, &accepted.id).await
    }

    pub(super) fn log_status(&self, order: &WriteOrder, status: StatusCode) {
        tracing::debug!(
            connection = %self.connection,
            writeback = %order.writeback,
            status = status.as_u16(),
            "the EHR answered a write"
        );
    }
}

enum ReadBack {
    Same {
        digest: Digest,
        version: Option<Version>,
    },
    Differs,
    Unreadable,
}

/// `[type]/[id]`, with `/_history/[version]` where it is known.
pub(super) fn location(resource: &ResourceType, id: &str, version: Option<&Version>) -> String {
    match version {
        Some(Version(version)) => format!("{resource}/{id}/_history/{version}"),
        None => format!("{resource}/{id}"),
    }
}

/// What one change can show.
fn written(
    part: &Part<'_>,
    accepted: &Accepted,
    version_read: Option<Version>,
    read_back: Option<Digest>,
) -> EntryWritten {
    let version = version_read.or_else(|| accepted.version.clone());
    EntryWritten {
        location: location(part.change.resource, &accepted.id, version.as_ref()),
        version,
        read_back,
    }
}

pub(super) fn condition_of(strategy: Strategy, part: &Part<'_>) -> Condition {
    match (strategy, part.target) {
        (Strategy::Conditional, Target::New) => Condition::NoneExist,
        (Strategy::Conditional, Target::Existing { .. }) if part.patch.is_some() => {
            Condition::MatchPatch
        }
        (Strategy::Conditional, Target::Existing { .. }) => Condition::Match,
        _ => Condition::None,
    }
}

pub(super) fn with_target(provenance: &Value, reference: &str) -> Value {
    let mut filled = provenance.clone();
    if let Some(members) = filled.as_object_mut() {
        members.insert("target".to_owned(), json!([{ "reference": reference }]));
    }
    filled
}
