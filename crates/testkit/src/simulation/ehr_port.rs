//! An EHR connection as one process has it: what `chaperone_connect::ehr` does, over the simulator's network.
//!
//! It is written anew, so it is not the adapter itself that is tested here but what the engine makes of one
//! that keeps the contract of the port. What each answer proves is the same table.

use std::sync::Arc;

use async_trait::async_trait;
use chaperone_core::content::{content_digest, same_content};
use chaperone_core::digest::Digest;
use chaperone_core::evidence::{Delivering, Strategy, WriteOrder};
use chaperone_core::ids::ConnectionId;
use chaperone_core::ports::{
    DeliveryProfile, Ehr, EhrRead, EhrReadFailed, EhrSearch, EntryWritten, Environment, Found,
    InteractionSupport, Reconciliation, Signature, There, Version, WriteFailed, WriteReceipt,
};
use chaperone_core::resource::{Interaction, ResourceType};
use chaperone_core::together::OneChange;
use chaperone_core::writeback::{FailureCause, HumanNeeded};
use serde_json::{Value, json};

use super::bugs::Bug;
use super::ehr_as_one::{request, taken_on_trust};
use super::faults::Fault;
use super::server::{
    Answer, Effect, Exchange, Further, Mishap, Request, SEARCH_LAG, SETTLE_MS, Server,
    ServerProfile, TOOK_NOTE, carries,
};
use super::signers;
use super::state::Sent;
use super::world::{Asked, Inner, Journey, MILLI, Micros, Process, SECOND, World};

/// How long an exchange may take.
const PATIENCE: Micros = 15 * SECOND;
/// The latest that a late write arrives: before a miss could mean anything.
const LATE_MAX: Micros = 16 * SECOND;
/// How often what was written is read back before giving up for now.
const READ_BACKS_MAX: u32 = 3;
/// The latest that an operation files what it acknowledged: before a person looks.
const FILED_MAX: Micros = 12 * SECOND;
/// The name of that operation.
const OPERATION: &str = "$file-entry";
const IDENTIFIER: &str = "urn:chaperone:writeback";
/// What people sign on the screens of an EHR that takes it unsigned.
const SIGNED_THERE: [&str; 3] = ["DocumentReference", "MedicationRequest", "ServiceRequest"];
const TYPES: [&str; 8] = [
    "Appointment",
    "DocumentReference",
    "MedicationRequest",
    "Observation",
    "Patient",
    "QuestionnaireResponse",
    "ServiceRequest",
    "Task",
];

/// The EHR connection of one process.
pub(crate) struct SimEhr {
    pub(crate) world: Arc<World>,
    pub(crate) process: Process,
    pub(crate) profile: ServerProfile,
    pub(crate) connection: ConnectionId,
    pub(crate) bug: Option<Bug>,
}

pub(super) fn not_applied(cause: FailureCause) -> WriteFailed {
    WriteFailed::NotApplied {
        cause,
        retry_after_ms: None,
    }
}

fn cannot_tell() -> Reconciliation {
    Reconciliation::Undecidable(HumanNeeded::EndpointCannotTell)
}

impl SimEhr {
    fn is_cut(&self, inner: &Inner) -> bool {
        let node = inner.nodes.get(self.process.node);
        node.is_some_and(|node| inner.now < node.no_ehr_until)
    }

    /// Reads something of the server as it is, or was a moment ago.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        is_search: bool,
        mut question: impl FnMut(&Server, Micros, Micros) -> T + Send + 'static,
    ) -> Result<T, EhrReadFailed> {
        let planned = self.world.with(|inner| {
            let cut = self.is_cut(inner);
            let Inner {
                chance,
                faults,
                trace,
                now,
                ..
            } = inner;
            if cut || faults.happens(Fault::ReadFails, chance) {
                trace.fault(*now, Fault::ReadFails, self.process);
                return None;
            }
            let mut journey = Journey {
                changes: false,
                there: Some(chance.skewed(MILLI, 80 * MILLI)),
                back: Some(chance.skewed(0, 20 * MILLI)),
                again: None,
                patience: PATIENCE,
            };
            if faults.happens(Fault::EhrSlow, chance) {
                trace.fault(*now, Fault::EhrSlow, self.process);
                journey.back = Some(chance.skewed(100 * MILLI, 20 * SECOND));
            }
            let mut lag = 0;
            if is_search && faults.happens(Fault::StaleSearch, chance) {
                trace.fault(*now, Fault::StaleSearch, self.process);
                lag = chance.between(1, SEARCH_LAG);
            }
            Some((journey, lag))
        });
        let Some((journey, lag)) = planned else {
            self.world.sleep(5 * MILLI).await;
            return Err(EhrReadFailed::Unavailable);
        };
        let asked = self.world.ask(self.process, journey, move |inner| {
            question(&inner.state.ehr, inner.now, lag)
        });
        match asked.await {
            Asked::Answered(answer) => Ok(answer),
            Asked::Silence => Err(EhrReadFailed::Unavailable),
        }
    }

    pub(super) async fn read_one(&self, kind: &str, id: &str) -> Result<Value, EhrReadFailed> {
        let (kind, id) = (kind.to_owned(), id.to_owned());
        self.look(false, move |server, _, _| server.now(&kind, &id).cloned())
            .await?
            .ok_or(EhrReadFailed::NotFound)
    }

    async fn send(&self, delivering: &Delivering) -> Result<Answer, WriteFailed> {
        let request = self.request_of(delivering.order())?;
        if self.bug == Some(Bug::AsOneByOne) && !request.also.is_empty() {
            return self.send_one_by_one(delivering, &request).await;
        }
        self.send_request(delivering, request, true).await
    }

    /// What leaves for an order: one change, or all of a transaction.
    fn request_of(&self, order: &WriteOrder) -> Result<Request, WriteFailed> {
        let rejected = || not_applied(FailureCause::Rejected);
        let without = |bug: Bug, header: Option<&str>| {
            header.filter(|_| self.bug != Some(bug)).map(str::to_owned)
        };
        let mut parts = Vec::new();
        for change in order.changes() {
            let id = match change.interaction {
                Interaction::Create => None,
                Interaction::Update => change.path.split_once('/').map(|(_, id)| id.to_owned()),
                Interaction::Delete => return Err(rejected()),
            };
            let mut body = match self.bug {
                Some(Bug::PlacedInForce) => change.body.to_owned(),
                _ => sent_form(order, &change).ok_or_else(rejected)?,
            };
            if self.bug == Some(Bug::OtherBody) {
                body = body.replace("Call", "Ring");
            }
            parts.push(Further {
                kind: change.resource.as_str().to_owned(),
                id,
                if_none_exist: without(Bug::NoIfNoneExist, change.if_none_exist),
                if_match: without(Bug::NoIfMatch, change.if_match),
                body,
            });
        }
        self.bend_further(&mut parts);
        let message = (order.strategy == Strategy::VendorOp)
            .then(|| format!("{IDENTIFIER}|{}", order.writeback));
        request(order.writeback, message, parts).ok_or_else(rejected)
    }

    /// Sends one request; the first of an attempt counts as its send.
    pub(super) async fn send_request(
        &self,
        delivering: &Delivering,
        mut request: Request,
        is_first: bool,
    ) -> Result<Answer, WriteFailed> {
        let order = delivering.order();
        let planned = self.world.with(|inner| {
            let clock = inner.clock(self.process.node);
            if delivering.not_after().is_some_and(|until| clock >= until) {
                let now = inner.now;
                let line = format_args!("{} is too late to send {}", self.process, name(order));
                inner.trace.say(now, line);
                return None;
            }
            let journey = self.journey(inner, !request.also.is_empty())?;
            let sends = &mut inner.state.truth.sends;
            if is_first {
                sends.push(Sent {
                    writeback: order.writeback,
                    attempt: delivering.attempt(),
                    process: self.process,
                    left: inner.now,
                });
            }
            request.number = (sends.len() as u64).saturating_sub(1);
            let paths: Vec<String> = request.parts().map(|part| part.path()).collect();
            let line = format_args!(
                "{} sends {} of {}, attempt {}",
                self.process,
                paths.join(" and "),
                name(order),
                delivering.attempt()
            );
            let now = inner.now;
            inner.trace.say(now, line);
            Some(journey)
        });
        let Some((journey, mishap)) = planned else {
            self.world.sleep(5 * MILLI).await;
            return Err(not_applied(FailureCause::Unreachable));
        };
        let asked = self.world.ask(self.process, journey, move |inner| {
            let now = inner.now;
            let answer = inner.state.ehr.take(now, &request, mishap);
            if answer.is_filed_later {
                let (request, id) = (request.clone(), answer.id.clone());
                let after = inner.chance.between(SECOND, FILED_MAX);
                inner.later(after, move |inner| {
                    let now = inner.now;
                    inner.state.ehr.file(now, &request, &id);
                });
            }
            let last = inner.state.ehr.history.last();
            let did: Vec<Effect> = last
                .into_iter()
                .flat_map(Exchange::effects)
                .cloned()
                .collect();
            for effect in &did {
                signers::see(inner, request.writeback, effect);
            }
            let did = match did.as_slice() {
                [] => "nothing".to_owned(),
                did => {
                    let places = did
                        .iter()
                        .map(|it| format!("{}/{} version {}", it.kind, it.id, it.version));
                    places.collect::<Vec<_>>().join(" and ")
                }
            };
            let line = format_args!(
                "EHR answers {} to send {}: {did}",
                answer.status, request.number
            );
            inner.trace.say(now, line);
            answer
        });
        match asked.await {
            Asked::Answered(answer) => Ok(answer),
            Asked::Silence => Err(WriteFailed::Unknown),
        }
    }

    /// How a write travels, and what goes wrong at the server; none when nothing is sent.
    fn journey(&self, inner: &mut Inner, is_together: bool) -> Option<(Journey, Mishap)> {
        let cut = self.is_cut(inner);
        let Inner {
            chance,
            faults,
            trace,
            now,
            ..
        } = inner;
        let mut happens = |fault: Fault, chance: &mut _| {
            let happens = faults.happens(fault, chance);
            if happens {
                trace.fault(*now, fault, self.process);
            }
            happens
        };
        if happens(Fault::EhrUnreachable, chance) || (cut && chance.in_thousand(700)) {
            return None;
        }
        let mut journey = Journey {
            changes: true,
            there: Some(chance.skewed(2 * MILLI, 150 * MILLI)),
            back: Some(chance.skewed(MILLI, 50 * MILLI)),
            again: None,
            patience: PATIENCE,
        };
        if happens(Fault::EhrSlow, chance) {
            journey.back = Some(chance.skewed(100 * MILLI, 20 * SECOND));
        }
        if cut || happens(Fault::WriteLost, chance) {
            journey.there = None;
        } else if happens(Fault::WriteLate, chance) {
            journey.there = Some(chance.between(14 * SECOND, LATE_MAX));
        } else if happens(Fault::WriteAnswerLost, chance) {
            journey.back = None;
        } else if happens(Fault::WriteTwice, chance) {
            journey.again = Some((chance.skewed(MILLI, 2 * SECOND), false));
        } else if happens(Fault::WriteTwiceSecondCounts, chance) {
            journey.again = Some((chance.skewed(MILLI, 2 * SECOND), true));
        }
        let is_operation = self.profile == ServerProfile::Vendor;
        let of_operation = [
            (Fault::TookNote, Mishap::TookNote),
            (Fault::FilesLater, Mishap::FilesLater),
        ]
        .into_iter()
        .filter(|_| is_operation);
        let of_several = [
            (Fault::KeepsOtherOfSeveral, Mishap::KeepsOther),
            (Fault::TakesInPart, Mishap::TakesInPart),
        ]
        .into_iter()
        .filter(|_| is_together);
        let mishap = [
            (Fault::ErrorBefore, Mishap::ErrorBefore),
            (Fault::ErrorAfter, Mishap::ErrorAfter),
            (Fault::TooManyRequests, Mishap::TooMany),
            (Fault::Rejects, Mishap::Rejects),
            (Fault::Unauthorised, Mishap::Unauthorised),
            (Fault::KeepsOther, Mishap::KeepsOther),
        ]
        .into_iter()
        .chain(of_operation)
        .chain(of_several)
        .find(|(fault, _)| happens(*fault, chance));
        Some((journey, mishap.map_or(Mishap::None, |(_, mishap)| mishap)))
    }

    async fn deliver(&self, delivering: &Delivering) -> Result<WriteReceipt, WriteFailed> {
        let order = delivering.order();
        let is_conditional = order.strategy == Strategy::Conditional;
        let is_create = order.interaction == Interaction::Create;
        if is_conditional && (is_create || order.is_together()) && delivering.attempt() > 1 {
            match self.find_all(order).await {
                Ok(Reconciliation::Applied(receipt)) => return Ok(receipt),
                // The rest of what is there in part is not sent after it.
                Ok(Reconciliation::Undecidable(HumanNeeded::PartlyApplied)) => {
                    return Err(WriteFailed::Unknown);
                }
                // Nor is what nobody could look for sent once more, where one may be there without the others.
                Ok(Reconciliation::Undecidable(HumanNeeded::EndpointCannotTell)) | Err(_)
                    if order.is_together() =>
                {
                    return Err(WriteFailed::Unknown);
                }
                _ => {}
            }
        }
        if !is_conditional && !is_create {
            self.base_unchanged(order).await?;
        }
        let mut sent = self.send(delivering).await;
        if self.bug == Some(Bug::RetryBeforeReconcile) && sent == Err(WriteFailed::Unknown) {
            sent = self.send(delivering).await;
        }
        let answer = match sent {
            Err(WriteFailed::Unknown) if self.bug == Some(Bug::UnknownIsFailed) => {
                return Err(not_applied(FailureCause::Unreachable));
            }
            Err(WriteFailed::Unknown) if self.bug == Some(Bug::UnknownIsApplied) => {
                return Ok(WriteReceipt {
                    location: format!("{}/unseen", order.resource),
                    version: Some(Version("1".to_owned())),
                    read_back: Some(Digest::of_bytes(order.body.as_bytes())),
                    provenance_written: false,
                    also: Vec::new(),
                });
            }
            sent => sent?,
        };
        match answer.status {
            200 | 201 => {}
            412 if order.is_together() => return Err(self.refused_as_one(order).await),
            412 if is_conditional && is_create => return Err(WriteFailed::Unknown),
            412 => return Err(WriteFailed::Stale),
            429 => {
                return Err(WriteFailed::NotApplied {
                    cause: FailureCause::RateLimited,
                    retry_after_ms: answer.retry_after_ms,
                });
            }
            TOOK_NOTE | 500 if self.bug == Some(Bug::AnyAnswerAcknowledges) => {
                return Ok(WriteReceipt {
                    location: format!("{}/unseen", order.resource),
                    version: None,
                    read_back: Some(Digest::of_bytes(order.body.as_bytes())),
                    provenance_written: false,
                    also: Vec::new(),
                });
            }
            401 | 403 => return Err(not_applied(FailureCause::Unauthorized)),
            400..=499 => return Err(not_applied(FailureCause::Rejected)),
            _ => return Err(WriteFailed::Unknown),
        }
        self.read_back(order, &answer).await
    }

    /// What is offered for one kind of write.
    fn support(&self, kind: &str, verb: &str) -> Option<InteractionSupport> {
        let by = InteractionSupport::by;
        Some(match self.profile {
            ServerProfile::ReadOnly => return None,
            ServerProfile::Full => InteractionSupport {
                provenance: true,
                atomic: true,
                ..by(Strategy::Conditional)
            },
            ServerProfile::Vendor => InteractionSupport {
                operation: Some(OPERATION.to_owned()),
                ..by(Strategy::VendorOp)
            },
            ServerProfile::Staged if SIGNED_THERE.contains(&kind) => {
                // What is signed there, nobody changes from outside.
                return (verb == "create").then(|| InteractionSupport {
                    signs_with_second_factor: true,
                    ..by(Strategy::EhrStaged)
                });
            }
            ServerProfile::Plain | ServerProfile::Staged => by(Strategy::PlainPost),
        })
    }

    async fn base_unchanged(&self, order: &WriteOrder) -> Result<(), WriteFailed> {
        let (_, id) = order.path.split_once('/').unwrap_or_default();
        match self.read_one(order.resource.as_str(), id).await {
            Ok(base) if order.base_digest == Some(content_digest(&base)) => Ok(()),
            Ok(_) | Err(EhrReadFailed::NotFound) => Err(WriteFailed::Stale),
            Err(_) => Err(not_applied(FailureCause::Unreachable)),
        }
    }

    /// Reads back every change, and compares it.
    async fn read_back(
        &self,
        order: &WriteOrder,
        answer: &Answer,
    ) -> Result<WriteReceipt, WriteFailed> {
        let mut shown = Vec::new();
        for (change, (id, version)) in order.changes().zip(answer.places()) {
            let is_taken_on_trust = self.bug == Some(Bug::FirstReadBackAlone) && !shown.is_empty();
            shown.push(match is_taken_on_trust {
                true => taken_on_trust(&change, id),
                false => self.read_back_one(order, &change, (id, version)).await?,
            });
        }
        if shown.len() != order.changes().count() {
            return Err(WriteFailed::Unknown);
        }
        let provenance_written = order.changes().all(|it| takes_provenance(order, &it));
        WriteReceipt::of_all(shown, provenance_written).ok_or(WriteFailed::Unknown)
    }

    async fn read_back_one(
        &self,
        order: &WriteOrder,
        change: &OneChange<'_>,
        (id, version): (&str, Option<u64>),
    ) -> Result<EntryWritten, WriteFailed> {
        let kind = change.resource.as_str();
        for _ in 0..READ_BACKS_MAX {
            let (of, named) = (kind.to_owned(), id.to_owned());
            let found = self
                .look(false, move |server, _, _| {
                    let exact = |it: &&Value| version.is_none() || number_of(it) == version;
                    let versions = server.versions(&of, &named);
                    versions.iter().find(exact).cloned()
                })
                .await;
            match found {
                Ok(Some(found)) if is_same(order, change, &found) => {
                    return Ok(written(change, id, &found));
                }
                Ok(Some(_)) => return Err(WriteFailed::Unknown),
                Ok(None) | Err(_) => self.world.sleep(100 * MILLI).await,
            }
        }
        if order.strategy == Strategy::Conditional {
            return Err(WriteFailed::Unknown);
        }
        Ok(EntryWritten {
            location: format!("{kind}/{id}"),
            version: None,
            read_back: None,
        })
    }

    /// What became of one change.
    pub(super) async fn find_one(
        &self,
        order: &WriteOrder,
        change: &OneChange<'_>,
    ) -> Result<Found, EhrReadFailed> {
        match change.interaction {
            Interaction::Create => self.find_created(order, change).await,
            _ => self.find_updated(order, change).await,
        }
    }

    async fn find_created(
        &self,
        order: &WriteOrder,
        change: &OneChange<'_>,
    ) -> Result<Found, EhrReadFailed> {
        let named = change.if_none_exist.and_then(|it| it.split_once('|'));
        let value = named.map_or_else(|| order.writeback.to_string(), |(_, it)| it.to_owned());
        let kind = change.resource.as_str().to_owned();
        let found = self
            .look(true, move |server, now, lag| {
                let mut found = server.found(&kind, now, lag);
                found.retain(|it| carries(it, IDENTIFIER, &value));
                found
            })
            .await?;
        match found.as_slice() {
            [] => Ok(Found::Missing),
            [one] => self.found_or_earlier(order, change, one, None).await,
            _ => Ok(Found::Unclear(HumanNeeded::MoreThanOne)),
        }
    }

    async fn find_updated(
        &self,
        order: &WriteOrder,
        change: &OneChange<'_>,
    ) -> Result<Found, EhrReadFailed> {
        let unclear = Found::Unclear(HumanNeeded::EndpointCannotTell);
        let (_, id) = change.path.split_once('/').unwrap_or_default();
        let Some(base) = change.base_version.and_then(|it| it.parse().ok()) else {
            return Ok(unclear);
        };
        match self.read_one(change.resource.as_str(), id).await {
            Ok(now) if number_of(&now) == Some(base) => Ok(Found::Missing),
            Ok(now) => self.found_or_earlier(order, change, &now, Some(base)).await,
            Err(EhrReadFailed::NotFound) => Ok(unclear),
            Err(failed) => Err(failed),
        }
    }

    async fn found_or_earlier(
        &self,
        order: &WriteOrder,
        change: &OneChange<'_>,
        now: &Value,
        base: Option<u64>,
    ) -> Result<Found, EhrReadFailed> {
        let id = now
            .get("id")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let there = |found: &Value| {
            Found::There(There {
                written: written(change, &id, found),
                provenance_written: takes_provenance(order, change),
                is_young: self.is_young(found),
            })
        };
        if is_same(order, change, now) {
            return Ok(there(now));
        }
        let (kind, of) = (change.resource.as_str().to_owned(), id.clone());
        let versions = self
            .look(false, move |server, _, _| server.versions(&kind, &of))
            .await?;
        let after_base = |it: &&Value| base.is_none_or(|base| number_of(it) > Some(base));
        let earlier = versions
            .iter()
            .take_while(after_base)
            .find(|it| is_same(order, change, it));
        Ok(match earlier {
            Some(found) => there(found),
            None => Found::Unclear(HumanNeeded::ContentDiffers),
        })
    }
}

/// Whether a change's Provenance goes with it, in one request.
pub(super) fn takes_provenance(order: &WriteOrder, change: &OneChange<'_>) -> bool {
    order.strategy == Strategy::Conditional && change.provenance.is_some()
}

fn name(order: &WriteOrder) -> String {
    let id = order.writeback.to_string();
    id.get(..12).unwrap_or(&id).to_owned()
}

/// What a change leaves in: as it was approved, or with the one element set back that says it is signed.
pub(super) fn sent_form(order: &WriteOrder, change: &OneChange<'_>) -> Option<String> {
    let Some(form) = &order.signed_form else {
        return Some(change.body.to_owned());
    };
    let mut body: Value = serde_json::from_str(change.body).ok()?;
    *body.get_mut(&form.element)? = json!(form.unsigned);
    Some(body.to_string())
}

fn is_same(order: &WriteOrder, change: &OneChange<'_>, found: &Value) -> bool {
    let sent = sent_form(order, change).and_then(|text| serde_json::from_str::<Value>(&text).ok());
    sent.is_some_and(|sent| same_content(&sent, found))
}

pub(super) fn number_of(resource: &Value) -> Option<u64> {
    resource.pointer("/meta/versionId")?.as_str()?.parse().ok()
}

/// What can be shown of a change that was found.
fn written(change: &OneChange<'_>, id: &str, found: &Value) -> EntryWritten {
    let (kind, version) = (change.resource, number_of(found));
    EntryWritten {
        location: match version {
            Some(version) => format!("{kind}/{id}/_history/{version}"),
            None => format!("{kind}/{id}"),
        },
        version: version.map(|it| Version(it.to_string())),
        read_back: Some(content_digest(found)),
    }
}

#[async_trait]
impl Ehr for SimEhr {
    fn connection(&self) -> &ConnectionId {
        &self.connection
    }

    fn environment(&self) -> Environment {
        Environment::Sandbox
    }

    fn endpoint(&self) -> &str {
        "http://ehr.test/fhir"
    }

    fn profile(&self) -> DeliveryProfile {
        let mut offered = std::collections::BTreeMap::new();
        for kind in TYPES {
            for verb in ["create", "update"] {
                if let Some(support) = self.support(kind, verb) {
                    offered.insert(format!("{kind}.{verb}"), support);
                }
            }
        }
        DeliveryProfile {
            support: offered,
            settle_ms: SETTLE_MS,
        }
    }

    async fn read(&self, resource: &ResourceType, id: &str) -> Result<Value, EhrReadFailed> {
        self.read_one(resource.as_str(), id).await
    }

    async fn search(&self, search: EhrSearch) -> Result<EhrRead, EhrReadFailed> {
        if self.bug == Some(Bug::ConsentNotChecked) && search.resource.as_str() == "Consent" {
            let resources = Vec::new();
            return Ok(EhrRead {
                resources,
                more: false,
            });
        }
        let limit = usize::try_from(search.limit).unwrap_or(usize::MAX);
        let mut resources = self
            .look(true, move |server, now, lag| {
                let mut found = server.found(search.resource.as_str(), now, lag);
                found.retain(|it| {
                    search
                        .parameters
                        .iter()
                        .all(|(name, value)| matches(it, name, value))
                });
                found
            })
            .await?;
        let more = resources.len() > limit;
        resources.truncate(limit);
        Ok(EhrRead { resources, more })
    }

    async fn write(&self, delivering: &Delivering) -> Result<WriteReceipt, WriteFailed> {
        self.deliver(delivering).await
    }

    async fn signature(
        &self,
        delivering: &Delivering,
        location: &str,
    ) -> Result<Signature, EhrReadFailed> {
        self.find_signature(delivering.order(), location).await
    }

    async fn reconcile(&self, delivering: &Delivering) -> Result<Reconciliation, EhrReadFailed> {
        let order = delivering.order();
        match (order.strategy, order.interaction) {
            (Strategy::Conditional, _) => self.find_all(order).await,
            // Found is there. Not found proves nothing: such an EHR does not promise to find what it filed.
            (Strategy::VendorOp | Strategy::EhrStaged, Interaction::Create) => {
                match self.find_all(order).await? {
                    Reconciliation::Missing => Ok(cannot_tell()),
                    found => Ok(found),
                }
            }
            _ => Ok(cannot_tell()),
        }
    }
}

/// Whether a resource matches one parameter, of the few that matter here; others filter nothing.
fn matches(resource: &Value, name: &str, value: &str) -> bool {
    let name = name.split(':').next().unwrap_or(name);
    match name {
        "_id" => value
            .split(',')
            .any(|one| resource.get("id") == Some(&json!(one))),
        "patient" | "subject" => {
            let wanted = value.trim_start_matches("Patient/");
            [
                "/subject/reference",
                "/patient/reference",
                "/participant/0/actor/reference",
            ]
            .into_iter()
            .filter_map(|pointer| resource.pointer(pointer)?.as_str())
            .any(|reference| reference.trim_start_matches("Patient/") == wanted)
        }
        "identifier" => {
            let (system, value) = value.split_once('|').unwrap_or(("", value));
            carries(resource, system, value)
        }
        _ => true,
    }
}
