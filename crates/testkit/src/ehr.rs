//! An EHR in memory: reads, lenient searches, versions, business identifiers, faults on demand.
//!
//! It is not the sandbox EHR: it checks no FHIR, and a search parameter it does not know filters
//! nothing. It records every write it applied, so that a test can count effects.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use chaperone_core::Timestamp;
use chaperone_core::conformance::Conformance;
use chaperone_core::digest::Digest;
use chaperone_core::evidence::{Delivering, Strategy, WriteOrder};
use chaperone_core::ids::{ConnectionId, WritebackId};
use chaperone_core::ports::{
    DeliveryProfile, Ehr, EhrRead, EhrReadFailed, EhrSearch, EntryWritten, Environment,
    InteractionSupport, Reconciliation, Signature, Version, WriteFailed, WriteReceipt,
};
use chaperone_core::resource::{Interaction, ResourceType};
use chaperone_core::signed_form::SignedForm;
use chaperone_core::together::OneChange;
use chaperone_core::writeback::{FailureCause, HumanNeeded};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::time::lock;

/// What checks would have found at an endpoint that does what its profile says.
pub fn shown(ehr: &dyn Ehr) -> Conformance {
    Conformance {
        round_trip: true,
        profile: ehr.profile(),
        ..Conformance::default()
    }
}

/// What the next write does instead of succeeding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteFault {
    /// Certainly nothing happened.
    Refuse(FailureCause),
    /// Certainly nothing happened: it asks to be left alone for so many milliseconds.
    Busy(i64),
    /// The resource changed since.
    Stale,
    /// A part of several changes happened, and of another the resource changed since.
    StaleInPart,
    /// Nothing happened, and the caller does not know.
    LostBefore,
    /// It happened, and the caller does not know.
    LostAfter,
    /// The network brings the message twice: the caller sees the answer to the second.
    Twice,
    /// The same, and the EHR keeps more than it was sent.
    TwiceAltered,
    /// Somebody else changes the resource right before.
    Overtaken,
}

#[derive(Debug, Default)]
struct Held {
    resources: BTreeMap<(String, String), Value>,
    by_writeback: BTreeMap<WritebackId, Vec<String>>,
    /// Writes of which nothing that is held says that it is theirs.
    unlike: BTreeSet<WritebackId>,
    /// Writes of which a part is there.
    in_part: BTreeSet<WritebackId>,
    /// What became of what was placed unsigned, by location.
    signatures: BTreeMap<String, Signature>,
    rests_until: Option<Timestamp>,
    written: Vec<(WritebackId, String)>,
    faults: VecDeque<WriteFault>,
    down: bool,
    /// Types that cannot be searched.
    unsearchable: BTreeSet<String>,
    /// Types that cannot be read.
    unreadable: BTreeSet<String>,
    arrived: usize,
    searched: Vec<String>,
    next: u64,
    takes_patches: bool,
    /// Of each write, whether transactions were shown to be atomic for it.
    shown_atomic: Vec<bool>,
}

impl Held {
    /// Adds an element that nobody sent, as a version of its own or within the one that is there.
    fn alter(&mut self, order: &WriteOrder, as_another: bool) {
        self.unlike.insert(order.writeback);
        let Some((kind, id)) = order.path.split_once('/') else {
            return;
        };
        let key = (kind.to_owned(), id.to_owned());
        let version = version_of(self.resources.get(&key));
        if let Some(resource) = self.resources.get_mut(&key) {
            if let Some(members) = resource.as_object_mut() {
                members.insert("language".to_owned(), json!("en"));
            }
            set_version(resource, version + u64::from(as_another));
        }
    }
}

/// An EHR in memory.
#[derive(Debug)]
pub struct FakeEhr {
    connection: ConnectionId,
    environment: Environment,
    strategy: Strategy,
    held: Mutex<Held>,
    hangs: Mutex<Option<String>>,
    hanging: AtomicUsize,
    go_on: Notify,
}

impl FakeEhr {
    /// An empty sandbox that takes conditional writes.
    pub fn new(connection: ConnectionId) -> Self {
        Self {
            connection,
            environment: Environment::Sandbox,
            strategy: Strategy::Conditional,
            held: Mutex::default(),
            hangs: Mutex::default(),
            hanging: AtomicUsize::new(0),
            go_on: Notify::new(),
        }
    }

    /// The same with another way of delivery.
    #[must_use]
    pub fn delivering_by(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// The same declared for another purpose.
    #[must_use]
    pub fn declared(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// Takes updates as patches and in no other way from now on, or as whole resources again.
    pub fn take_patches(&self, takes_patches: bool) {
        lock(&self.held).takes_patches = takes_patches;
    }

    /// Of each write that arrived, whether the caller says that transactions were shown to be atomic for it.
    pub fn shown_atomic(&self) -> Vec<bool> {
        lock(&self.held).shown_atomic.clone()
    }

    /// Puts a resource with `resourceType` and `id`; anything else is ignored.
    pub fn put(&self, mut resource: Value) {
        let text = |name: &str| {
            resource
                .get(name)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        if let (Some(kind), Some(id)) = (text("resourceType"), text("id")) {
            let mut held = lock(&self.held);
            let version = version_of(held.resources.get(&(kind.clone(), id.clone()))) + 1;
            set_version(&mut resource, version);
            held.resources.insert((kind, id), resource);
        }
    }

    /// Queues a fault for a coming write.
    pub fn fail_next_write(&self, fault: WriteFault) {
        lock(&self.held).faults.push_back(fault);
    }

    /// Makes writes whose body holds a text hang until [`FakeEhr::let_go`].
    pub fn hang_writes_with(&self, text: &str) {
        *lock(&self.hangs) = Some(text.to_owned());
    }

    /// How many writes hang now.
    pub fn hanging(&self) -> usize {
        self.hanging.load(Ordering::SeqCst)
    }

    /// How many writes arrived, whatever became of them.
    pub fn arrived(&self) -> usize {
        lock(&self.held).arrived
    }

    /// Says from now on, beside whatever it answers, that it wants to be left alone until a time.
    pub fn wants_rest_until(&self, until: Timestamp) {
        lock(&self.held).rests_until = Some(until);
    }

    /// What became of what was placed unsigned at `[type]/[id]`; until this is called it is awaited.
    pub fn decide_signature(&self, location: &str, signature: Signature) {
        let mut held = lock(&self.held);
        held.signatures.insert(location.to_owned(), signature);
    }

    /// Lets all hanging writes go on, and no more hang.
    pub fn let_go(&self) {
        *lock(&self.hangs) = None;
        self.go_on.notify_waiters();
    }

    /// Makes every read fail as unavailable, or work again.
    pub fn set_down(&self, down: bool) {
        lock(&self.held).down = down;
    }

    /// Makes searches of one type fail as unavailable, or work again.
    pub fn set_unsearchable(&self, kind: &str, is_unsearchable: bool) {
        let mut held = lock(&self.held);
        if is_unsearchable {
            held.unsearchable.insert(kind.to_owned());
        } else {
            held.unsearchable.remove(kind);
        }
    }

    /// Makes reads of one type fail as refused, or work again.
    pub fn set_unreadable(&self, kind: &str, is_unreadable: bool) {
        let mut held = lock(&self.held);
        if is_unreadable {
            held.unreadable.insert(kind.to_owned());
        } else {
            held.unreadable.remove(kind);
        }
    }

    /// The types searched since the last look, in order.
    pub fn searched(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.held).searched)
    }

    /// Every write that took effect, oldest first: the write-back and `[type]/[id]`.
    pub fn written(&self) -> Vec<(WritebackId, String)> {
        lock(&self.held).written.clone()
    }

    /// A resource as it is now.
    pub fn resource(&self, kind: &str, id: &str) -> Option<Value> {
        lock(&self.held)
            .resources
            .get(&(kind.to_owned(), id.to_owned()))
            .cloned()
    }

    /// All of an order or nothing of it.
    fn apply(held: &mut Held, delivering: &Delivering) -> Result<WriteReceipt, WriteFailed> {
        let order = delivering.order();
        if order.if_none_exist.is_some()
            && let Some(locations) = held.by_writeback.get(&order.writeback)
        {
            return Ok(receipt(&first_versions(locations), order));
        }
        let (before, next) = (held.resources.clone(), held.next);
        let mut written = Vec::new();
        for change in order.changes() {
            match Self::apply_one(held, order, &change) {
                Ok(one) => written.push(one),
                Err(failed) => {
                    held.resources = before;
                    held.next = next;
                    return Err(failed);
                }
            }
        }
        let locations: Vec<String> = written.iter().map(|(at, _)| at.clone()).collect();
        let done = locations.iter().map(|at| (order.writeback, at.clone()));
        held.written.extend(done);
        held.by_writeback.insert(order.writeback, locations);
        Ok(receipt(&written, order))
    }

    /// One change: where it is, and its version.
    fn apply_one(
        held: &mut Held,
        order: &WriteOrder,
        change: &OneChange<'_>,
    ) -> Result<(String, u64), WriteFailed> {
        let rejected = WriteFailed::NotApplied {
            cause: FailureCause::Rejected,
            retry_after_ms: None,
        };
        let mut body: Value = serde_json::from_str(change.body).map_err(|_| rejected.clone())?;
        let kind = change.resource.as_str().to_owned();
        let id = match change.interaction {
            Interaction::Create => {
                held.next += 1;
                format!("new-{}", held.next)
            }
            Interaction::Update => change
                .path
                .rsplit_once('/')
                .map(|(_, id)| id.to_owned())
                .ok_or_else(|| rejected.clone())?,
            Interaction::Delete => return Err(rejected),
        };
        let key = (kind.clone(), id.clone());
        let before = version_of(held.resources.get(&key));
        let expected = change
            .if_match
            .map(|tag| tag.trim_start_matches("W/").trim_matches('"'));
        if expected.is_some_and(|tag| tag != before.to_string()) {
            return Err(WriteFailed::Stale);
        }
        let is_patched = held.takes_patches && change.interaction == Interaction::Update;
        if change.patch.is_some() != is_patched {
            return Err(rejected);
        }
        if let Some(patch) = change.patch {
            // What is held changes by the patch alone, whatever the body says.
            let parsed: json_patch::Patch =
                serde_json::from_str(patch).map_err(|_| rejected.clone())?;
            body = held.resources.get(&key).cloned().unwrap_or_default();
            json_patch::patch_unsafe(&mut body, &parsed).map_err(|_| rejected.clone())?;
        }
        if let Some(form) = &order.signed_form {
            body = form.unsigned_of(&body).ok_or(rejected)?;
        }
        if let Some(object) = body.as_object_mut() {
            object.insert("id".to_owned(), json!(id));
        }
        set_version(&mut body, before + 1);
        held.resources.insert(key, body);
        Ok((format!("{kind}/{id}"), before + 1))
    }
}

fn first_versions(locations: &[String]) -> Vec<(String, u64)> {
    locations.iter().map(|at| (at.clone(), 1)).collect()
}

/// What can be shown of the changes of an order, which are at these places.
fn receipt(written: &[(String, u64)], order: &WriteOrder) -> WriteReceipt {
    let conditional = order.strategy == Strategy::Conditional;
    let mut entries = written
        .iter()
        .zip(order.changes())
        .map(|((at, version), change)| EntryWritten {
            location: if conditional {
                format!("{at}/_history/{version}")
            } else {
                at.clone()
            },
            version: conditional.then(|| Version(version.to_string())),
            read_back: Some(Digest::of_bytes(change.body.as_bytes())),
        });
    let first = entries.next();
    WriteReceipt {
        location: first
            .as_ref()
            .map(|it| it.location.clone())
            .unwrap_or_default(),
        version: first.as_ref().and_then(|it| it.version.clone()),
        read_back: first.and_then(|it| it.read_back),
        provenance_written: conditional && order.changes().all(|it| it.provenance.is_some()),
        also: entries.collect(),
    }
}

fn version_of(resource: Option<&Value>) -> u64 {
    resource
        .and_then(|r| r.pointer("/meta/versionId"))
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

fn set_version(resource: &mut Value, version: u64) {
    if let Some(object) = resource.as_object_mut() {
        let meta = object.entry("meta").or_insert_with(|| json!({}));
        if let Some(meta) = meta.as_object_mut() {
            meta.insert("versionId".to_owned(), json!(version.to_string()));
        }
    }
}

#[async_trait]
impl Ehr for FakeEhr {
    fn connection(&self) -> &ConnectionId {
        &self.connection
    }

    fn environment(&self) -> Environment {
        self.environment
    }

    fn endpoint(&self) -> &str {
        "http://ehr.test/fhir"
    }

    fn profile(&self) -> DeliveryProfile {
        let takes_patches = lock(&self.held).takes_patches;
        let conditional = self.strategy == Strategy::Conditional;
        let support = InteractionSupport {
            provenance: conditional,
            atomic: conditional,
            operation: (self.strategy == Strategy::VendorOp).then(|| "$file-entry".to_owned()),
            signs_with_second_factor: self.strategy == Strategy::EhrStaged,
            ..InteractionSupport::by(self.strategy)
        };
        let types = [
            "Appointment",
            "Communication",
            "CommunicationRequest",
            "Condition",
            "Consent",
            "DocumentReference",
            "Encounter",
            "MedicationRequest",
            "Observation",
            "Patient",
            "ServiceRequest",
            "Task",
        ];
        DeliveryProfile {
            support: types
                .into_iter()
                .flat_map(|kind| {
                    // Where people sign, the rest is plain.
                    let is_signed =
                        ResourceType::new(kind).is_ok_and(|it| SignedForm::of(&it).is_some());
                    let entry = match self.strategy {
                        Strategy::EhrStaged if !is_signed => {
                            InteractionSupport::by(Strategy::PlainPost)
                        }
                        _ => support.clone(),
                    };
                    ["create", "update"].map(|verb| {
                        let entry = InteractionSupport {
                            patch: takes_patches && verb == "update",
                            ..entry.clone()
                        };
                        (format!("{kind}.{verb}"), entry)
                    })
                })
                .collect(),
            settle_ms: 1_000,
        }
    }

    async fn read(&self, resource: &ResourceType, id: &str) -> Result<Value, EhrReadFailed> {
        let held = lock(&self.held);
        if held.down {
            return Err(EhrReadFailed::Unavailable);
        }
        if held.unreadable.contains(resource.as_str()) {
            return Err(EhrReadFailed::Unauthorized);
        }
        held.resources
            .get(&(resource.as_str().to_owned(), id.to_owned()))
            .cloned()
            .ok_or(EhrReadFailed::NotFound)
    }

    async fn search(&self, search: EhrSearch) -> Result<EhrRead, EhrReadFailed> {
        let mut held = lock(&self.held);
        held.searched.push(search.resource.as_str().to_owned());
        if held.down || held.unsearchable.contains(search.resource.as_str()) {
            return Err(EhrReadFailed::Unavailable);
        }
        let mut resources: Vec<Value> = held
            .resources
            .iter()
            .filter(|((kind, _), _)| kind == search.resource.as_str())
            .map(|(_, resource)| resource)
            .filter(|resource| {
                search
                    .parameters
                    .iter()
                    .all(|(name, value)| matches(resource, name, value))
            })
            .cloned()
            .collect();
        let limit = usize::try_from(search.limit).unwrap_or(usize::MAX);
        let more = resources.len() > limit;
        resources.truncate(limit);
        Ok(EhrRead { resources, more })
    }

    async fn write(&self, delivering: &Delivering) -> Result<WriteReceipt, WriteFailed> {
        let hangs = lock(&self.hangs)
            .as_ref()
            .is_some_and(|text| delivering.order().body.contains(text.as_str()));
        if hangs {
            self.hanging.fetch_add(1, Ordering::SeqCst);
            self.go_on.notified().await;
            self.hanging.fetch_sub(1, Ordering::SeqCst);
        }
        let mut held = lock(&self.held);
        held.arrived += 1;
        held.shown_atomic.push(delivering.is_shown_atomic());
        match held.faults.pop_front() {
            Some(WriteFault::Refuse(cause)) => Err(WriteFailed::NotApplied {
                cause,
                retry_after_ms: None,
            }),
            Some(WriteFault::Busy(wait_ms)) => Err(WriteFailed::NotApplied {
                cause: FailureCause::RateLimited,
                retry_after_ms: Some(wait_ms),
            }),
            Some(WriteFault::Stale) => Err(WriteFailed::Stale),
            Some(WriteFault::StaleInPart) => {
                held.in_part.insert(delivering.order().writeback);
                Err(WriteFailed::Stale)
            }
            Some(WriteFault::LostBefore) => Err(WriteFailed::Unknown),
            Some(WriteFault::LostAfter) => {
                Self::apply(&mut held, delivering)?;
                Err(WriteFailed::Unknown)
            }
            Some(WriteFault::Twice) => {
                Self::apply(&mut held, delivering)?;
                Self::apply(&mut held, delivering)
            }
            Some(WriteFault::TwiceAltered) => {
                Self::apply(&mut held, delivering)?;
                held.alter(delivering.order(), false);
                Self::apply(&mut held, delivering)
            }
            Some(WriteFault::Overtaken) => {
                held.alter(delivering.order(), true);
                Self::apply(&mut held, delivering)
            }
            None => Self::apply(&mut held, delivering),
        }
    }

    fn rests_until(&self) -> Option<Timestamp> {
        lock(&self.held).rests_until
    }

    async fn signature(
        &self,
        _delivering: &Delivering,
        location: &str,
    ) -> Result<Signature, EhrReadFailed> {
        let held = lock(&self.held);
        if held.down {
            return Err(EhrReadFailed::Unavailable);
        }
        let decided = held.signatures.get(location).cloned();
        Ok(decided.unwrap_or(Signature::Awaited))
    }

    async fn reconcile(&self, delivering: &Delivering) -> Result<Reconciliation, EhrReadFailed> {
        let held = lock(&self.held);
        if held.down {
            return Err(EhrReadFailed::Unavailable);
        }
        // Those that can be asked by our identifier, and prove nothing by not finding it.
        if matches!(self.strategy, Strategy::VendorOp | Strategy::EhrStaged)
            && let Some(locations) = held.by_writeback.get(&delivering.order().writeback)
        {
            let receipt = receipt(&first_versions(locations), delivering.order());
            return Ok(Reconciliation::Applied(receipt));
        }
        if self.strategy != Strategy::Conditional {
            return Ok(Reconciliation::Undecidable(HumanNeeded::EndpointCannotTell));
        }
        if held.in_part.contains(&delivering.order().writeback) {
            return Ok(Reconciliation::Undecidable(HumanNeeded::PartlyApplied));
        }
        if held.unlike.contains(&delivering.order().writeback) {
            return Ok(Reconciliation::Undecidable(HumanNeeded::ContentDiffers));
        }
        Ok(match held.by_writeback.get(&delivering.order().writeback) {
            Some(locations) => {
                Reconciliation::Applied(receipt(&first_versions(locations), delivering.order()))
            }
            None => Reconciliation::Missing,
        })
    }
}

/// Whether a resource matches one parameter, for the few that tests search by.
fn matches(resource: &Value, name: &str, value: &str) -> bool {
    let (name, modifier) = name.split_once(':').unwrap_or((name, ""));
    let text = |pointer: &str| resource.pointer(pointer).and_then(Value::as_str);
    match name {
        "_id" => text("/id").is_some_and(|id| value.split(',').any(|one| one == id)),
        "patient" | "subject" => {
            let wanted = value.trim_start_matches("Patient/");
            [
                "/subject/reference",
                "/patient/reference",
                "/participant/0/actor/reference",
            ]
            .into_iter()
            .filter_map(text)
            .any(|reference| reference.trim_start_matches("Patient/") == wanted)
        }
        "birthdate" => text("/birthDate") == Some(value),
        "name" | "family" | "given" => {
            let wanted = value.to_lowercase();
            let names = resource
                .get("name")
                .map(Value::to_string)
                .unwrap_or_default();
            modifier != "exact" && names.to_lowercase().contains(&wanted)
        }
        "identifier" => {
            let wanted = value.rsplit('|').next().unwrap_or(value);
            resource
                .get("identifier")
                .and_then(Value::as_array)
                .is_some_and(|all| {
                    all.iter()
                        .any(|one| one.get("value") == Some(&json!(wanted)))
                })
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ehr() -> FakeEhr {
        let ehr = FakeEhr::new(ConnectionId::new("fake").unwrap());
        ehr.put(
            json!({"resourceType": "Patient", "id": "a", "birthDate": "1950-02-03",
            "name": [{"family": "Sample", "given": ["Una"]}]}),
        );
        ehr.put(json!({"resourceType": "Observation", "id": "o", "subject": {"reference": "Patient/a"}}));
        ehr
    }

    async fn hits(ehr: &FakeEhr, kind: &str, name: &str, value: &str) -> usize {
        let search = EhrSearch {
            resource: ResourceType::new(kind).unwrap(),
            parameters: vec![(name.to_owned(), value.to_owned())],
            limit: 10,
        };
        ehr.search(search).await.unwrap().resources.len()
    }

    #[tokio::test]
    async fn searches_find_what_matches_and_not_its_neighbour() {
        let ehr = ehr();
        assert_eq!(hits(&ehr, "Patient", "name", "sam").await, 1);
        assert_eq!(hits(&ehr, "Patient", "name", "other").await, 0);
        assert_eq!(hits(&ehr, "Observation", "patient", "a").await, 1);
        assert_eq!(hits(&ehr, "Observation", "patient", "b").await, 0);
    }

    #[tokio::test]
    async fn an_ehr_that_is_down_answers_nothing() {
        let ehr = ehr();
        ehr.set_down(true);
        let patient = ResourceType::new("Patient").unwrap();
        assert_eq!(
            ehr.read(&patient, "a").await,
            Err(EhrReadFailed::Unavailable)
        );
        ehr.set_down(false);
        assert!(ehr.read(&patient, "a").await.is_ok());
        assert_eq!(ehr.read(&patient, "b").await, Err(EhrReadFailed::NotFound));
    }
}
