//! The store as one process sees it: the tables of the world, behind time and failure. What a flavour adds is
//! what can be seen of the database behind it.

use std::sync::Arc;

use async_trait::async_trait;
use chaperone_core::Timestamp;
use chaperone_core::cohort::CohortEvent;
use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::event::{Event, Recorded, StreamId};
use chaperone_core::ids::{PatientToken, TenantId, WorkId};
use chaperone_core::ports::{
    Append, CheckpointRow, Claim, ClaimedWork, Commit, CommitFailed, Committed, Guard, Lease,
    LeaseRefused, Listing, PayloadCount, PayloadListing, PayloadRow, Record, RecordChange,
    RecordKey, SealedPayload, Store, StoreFailed, WorkRow,
};
use chaperone_core::writeback::{RefusedBy, WritebackEvent};
use serde_json::{Value, json};

use super::bugs::Bug;
use super::faults::Fault;
use super::state::{Claimed, Leased};
use super::world::{Asked, Inner, Journey, MILLI, Process, SECOND, World};
use crate::memory::{Tables, Tenant};

/// Collections whose contents are bent.
const CLAIMS: &str = "claim";
const EXCEPTIONS: &str = "exception";
const JOBS: &str = "cohort_job";
const PATIENTS: &str = "cohort_patient";
/// How long a process waits for the store.
const PATIENCE: u64 = 10 * SECOND;

/// Which database stands behind the store, as far as it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flavour {
    /// In the process: one node, and whoever commits hears what became of it unless the process dies.
    Sqlite,
    /// On the network: several nodes, and answers that are lost.
    Postgres,
}

impl Flavour {
    /// Its name in traces and summaries.
    pub fn as_str(self) -> &'static str {
        match self {
            Flavour::Sqlite => "sqlite",
            Flavour::Postgres => "postgres",
        }
    }
}

/// The store of one process.
pub(crate) struct SimStore {
    pub(crate) world: Arc<World>,
    pub(crate) process: Process,
    pub(crate) flavour: Flavour,
    pub(crate) bug: Option<Bug>,
}

fn unavailable() -> StoreFailed {
    StoreFailed::Unavailable("the simulated store does not answer".into())
}

impl SimStore {
    /// How a question travels; none when it is refused at once.
    fn journey(&self, inner: &mut Inner, is_commit: bool) -> Option<Journey> {
        let Inner {
            chance,
            faults,
            nodes,
            trace,
            now,
            ..
        } = inner;
        let is_remote = self.flavour == Flavour::Postgres;
        let cut = nodes
            .get(self.process.node)
            .is_some_and(|node| *now < node.no_store_until);
        if (cut && is_remote && chance.in_thousand(700))
            || faults.happens(Fault::StoreUnavailable, chance)
        {
            trace.fault(*now, Fault::StoreUnavailable, self.process);
            return None;
        }
        let mut journey = Journey {
            changes: is_commit,
            there: Some(chance.skewed(30, 3 * MILLI)),
            back: Some(if is_remote {
                chance.skewed(0, 2 * MILLI)
            } else {
                0
            }),
            again: None,
            patience: PATIENCE,
        };
        if cut && is_remote {
            journey.there = None;
        }
        if faults.happens(Fault::StoreSlow, chance) {
            trace.fault(*now, Fault::StoreSlow, self.process);
            journey.there = Some(chance.skewed(10 * MILLI, 8 * SECOND));
        }
        if is_commit && is_remote {
            if faults.happens(Fault::CommitLost, chance) {
                trace.fault(*now, Fault::CommitLost, self.process);
                journey.there = None;
            } else if faults.happens(Fault::CommitAnswerLost, chance) {
                trace.fault(*now, Fault::CommitAnswerLost, self.process);
                journey.back = None;
            }
        }
        Some(journey)
    }

    /// Bends rulings so that they seem to be made by the rules that this process goes by.
    fn show_rules_in_force(&self, events: &mut [Recorded]) {
        let process = self.process;
        let bundle = self
            .world
            .with(|inner| inner.state.truth.goes_by.get(&process).copied());
        let Some(bundle) = bundle else { return };
        for recorded in events {
            if let Event::Writeback(WritebackEvent::Ruled { ruling, .. }) = &mut recorded.event {
                ruling.bundle = bundle;
            }
        }
    }

    /// Bends a record as it is shown.
    fn show(&self, record: &mut Record) {
        let collection = record.key.collection.as_str();
        let Some(value) = record.value.as_object_mut() else {
            return;
        };
        let is_at = |stage: &str| value.get("stage") == Some(&Value::from(stage));
        match self.bug {
            Some(Bug::ExceptionNeverEnds) if collection == EXCEPTIONS && is_at("granted") => {
                value.insert("until".to_owned(), Value::from("2099-01-01T00:00:00Z"));
            }
            Some(Bug::ListsApproved) if collection == JOBS && is_at("listed") => {
                value.insert("stage".to_owned(), Value::from("approved"));
                let requester = value.get("requester").cloned().unwrap_or_default();
                let account = value.get("account").cloned().unwrap_or_default();
                value.insert("person".to_owned(), requester);
                value.insert("approver".to_owned(), account);
            }
            _ => {}
        }
    }

    /// Asks the tables something.
    async fn ask<T: Send + 'static>(
        &self,
        mut question: impl FnMut(&mut Tables) -> T + Send + 'static,
    ) -> Result<T, StoreFailed> {
        let journey = self.world.with(|inner| self.journey(inner, false));
        let Some(journey) = journey else {
            self.world.sleep(MILLI).await;
            return Err(unavailable());
        };
        let asked = self.world.ask(self.process, journey, move |inner| {
            question(&mut inner.state.tables)
        });
        match asked.await {
            Asked::Answered(answer) => Ok(answer),
            Asked::Silence => Err(unavailable()),
        }
    }

    /// The same about one tenant.
    async fn of<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        mut question: impl FnMut(&Tenant) -> T + Send + 'static,
    ) -> Result<T, StoreFailed> {
        let tenant = tenant.clone();
        self.ask(move |tables| question(tables.of(&tenant))).await
    }
}

/// Applies a commit and remembers when.
fn committed(
    inner: &mut Inner,
    process: Process,
    commit: &Commit,
) -> Result<Committed, CommitFailed> {
    let done = inner.state.tables.commit(commit);
    let now = inner.now;
    if let Ok(done) = &done {
        let truth = &mut inner.state.truth;
        truth.committed.extend(done.seqs.iter().map(|_| now));
        truth.committed_by.extend(done.seqs.iter().map(|_| process));
    }
    if !commit.appends.is_empty() {
        let what: Vec<String> = commit
            .appends
            .iter()
            .map(|it| format!("{} {}", short(&it.stream), it.event.kind()))
            .collect();
        let how = match &done {
            Ok(_) => "committed".to_owned(),
            Err(failed) => format!("refused ({failed})"),
        };
        inner
            .trace
            .say(now, format_args!("{process} {how}: {}", what.join(", ")));
    } else if let Err(failed) = &done {
        inner
            .trace
            .say(now, format_args!("{process} refused ({failed})"));
    }
    done
}

/// Takes out of a commit what the store forgets under a bug.
fn bend(bug: Option<Bug>, commit: &mut Commit) {
    match bug {
        Some(Bug::RefusalsDropped) => commit.appends.retain(|it| {
            !matches!(
                it.event,
                Event::CallRefused(_) | Event::RefusalsCounted { .. }
            )
        }),
        Some(Bug::EditKeepsBoth) => commit.appends.retain(|it| !is_end_of_edited(&it.event)),
        Some(Bug::ClaimsNotShown) => {
            let is_claim =
                |it: &Guard| matches!(it, Guard::RecordAt { key, .. } if key.collection == CLAIMS);
            commit.guards.retain(|it| !is_claim(it));
        }
        Some(Bug::ExceptionNotUsedUp) => {
            let is_used = |it: &RecordChange| {
                matches!(it, RecordChange::Update(record, _) if record.key.collection == EXCEPTIONS
                    && record.value.get("stage") == Some(&Value::from("used")))
            };
            commit.records.retain(|it| !is_used(it));
        }
        Some(Bug::StruckStays) => {
            let strikes =
                |it: &Append| matches!(it.event, Event::Cohort(CohortEvent::Struck { .. }));
            let is_patient = |it: &RecordChange| matches!(it, RecordChange::Update(record, _) if record.key.collection == PATIENTS);
            if commit.appends.iter().any(strikes) {
                commit.records.retain(|it| !is_patient(it));
            }
        }
        _ => {}
    }
}

/// Puts one patient more on a list that is being approved.
fn grow_list(inner: &Inner, commit: &mut Commit) {
    let approved = commit
        .appends
        .iter()
        .find_map(|it| match (&it.event, &it.stream) {
            (Event::Cohort(CohortEvent::Approved { .. }), StreamId::Cohort(job)) => Some(*job),
            _ => None,
        });
    let Some(job) = approved else { return };
    let tenant = inner.state.tables.of(&commit.tenant);
    let all = Listing {
        limit: 1_000,
        ..Listing::default()
    };
    let listed: Vec<String> = tenant
        .records(PATIENTS, &all, commit.at)
        .into_iter()
        .map(|it| it.key.key)
        .collect();
    let tokens = tenant.records("token", &all, commit.at).into_iter();
    let key = |token: &PatientToken| format!("{job}/{token}");
    let other = tokens
        .filter_map(|it| it.key.key.parse::<PatientToken>().ok())
        .find(|token| !listed.contains(&key(token)));
    if let Some(token) = other {
        let value = json!({ "patient": token, "place": 99, "step": "listed" });
        let record = Record::new(PATIENTS, key(&token), value).indexed(job.to_string(), "000099");
        commit.records.push(RecordChange::Create(record));
    }
}

/// Whether an event ends a proposal because a person changed it.
fn is_end_of_edited(event: &Event) -> bool {
    let Event::Writeback(WritebackEvent::Refused { refused }) = event else {
        return false;
    };
    matches!(refused, RefusedBy::Edited { .. })
}

/// A stream's name, short enough to be read in a trace.
fn short(stream: &StreamId) -> String {
    let name = stream.to_string();
    match name.split_once('/') {
        Some((kind, id)) => format!("{kind}/{}", id.get(..12).unwrap_or(id)),
        None => name,
    }
}

#[async_trait]
impl Store for SimStore {
    async fn commit(&self, commit: Commit) -> Result<Committed, CommitFailed> {
        let journey = self.world.with(|inner| self.journey(inner, true));
        let Some(journey) = journey else {
            self.world.sleep(MILLI).await;
            return Err(CommitFailed::Unavailable(
                "the simulated store does not answer".into(),
            ));
        };
        let (process, bug) = (self.process, self.bug);
        let mut commit = commit;
        bend(bug, &mut commit);
        let asked = self.world.ask(process, journey, move |inner| {
            if bug == Some(Bug::ListGrows) {
                grow_list(inner, &mut commit);
            }
            if bug != Some(Bug::AckBeforeDurable) {
                return committed(inner, process, &commit);
            }
            let told = inner.state.tables.clone().commit(&commit);
            if told.is_ok() {
                let late = inner.chance.skewed(MILLI, 400 * MILLI);
                let commit = commit.clone();
                inner.later(late, move |inner| {
                    if inner.lives(process) {
                        let _ = committed(inner, process, &commit);
                    }
                });
            }
            told
        });
        match asked.await {
            Asked::Answered(done) => done,
            Asked::Silence if self.flavour == Flavour::Sqlite => Err(CommitFailed::Unavailable(
                "the simulated disk does not answer".into(),
            )),
            Asked::Silence => Err(CommitFailed::Indeterminate("the connection broke".into())),
        }
    }

    async fn stream_after(
        &self,
        tenant: &TenantId,
        stream: &StreamId,
        version: u64,
    ) -> Result<Vec<Recorded>, StoreFailed> {
        if self.bug == Some(Bug::ModeNotChecked) && *stream == StreamId::Modes {
            return Ok(Vec::new());
        }
        let stream = stream.clone();
        let mut events = self
            .of(tenant, move |it| it.events(&stream, version))
            .await?;
        if self.bug == Some(Bug::RulesNotCompared) {
            self.show_rules_in_force(&mut events);
        }
        Ok(events)
    }

    async fn leaves(
        &self,
        tenant: &TenantId,
        from: u64,
        limit: u32,
    ) -> Result<Vec<Vec<u8>>, StoreFailed> {
        self.of(tenant, move |it| it.leaves(from, limit)).await
    }

    async fn size(&self, tenant: &TenantId) -> Result<u64, StoreFailed> {
        self.of(tenant, Tenant::size).await
    }

    async fn record(
        &self,
        tenant: &TenantId,
        key: &RecordKey,
        now: Timestamp,
    ) -> Result<Option<Record>, StoreFailed> {
        if self.bug == Some(Bug::ClaimsNotShown) && key.collection == CLAIMS {
            return Ok(None);
        }
        let key = key.clone();
        let mut record = self.of(tenant, move |it| it.record(&key, now)).await?;
        record.iter_mut().for_each(|it| self.show(it));
        Ok(record)
    }

    async fn records(
        &self,
        tenant: &TenantId,
        collection: &str,
        listing: Listing,
        now: Timestamp,
    ) -> Result<Vec<Record>, StoreFailed> {
        let collection = collection.to_owned();
        let mut records = self
            .of(tenant, move |it| it.records(&collection, &listing, now))
            .await?;
        records.iter_mut().for_each(|it| self.show(it));
        Ok(records)
    }

    async fn projection(
        &self,
        tenant: &TenantId,
        key: &RecordKey,
    ) -> Result<Option<Record>, StoreFailed> {
        let key = key.clone();
        self.of(tenant, move |it| it.projection(&key)).await
    }

    async fn projections(
        &self,
        tenant: &TenantId,
        collection: &str,
        listing: Listing,
    ) -> Result<Vec<Record>, StoreFailed> {
        let collection = collection.to_owned();
        self.of(tenant, move |it| it.projections(&collection, &listing))
            .await
    }

    async fn projections_count(
        &self,
        tenant: &TenantId,
        collection: &str,
        index: Option<&str>,
    ) -> Result<u64, StoreFailed> {
        let (collection, index) = (collection.to_owned(), index.map(str::to_owned));
        self.of(tenant, move |it| {
            it.projections_count(&collection, index.as_deref())
        })
        .await
    }

    async fn projections_clear(&self, tenant: &TenantId) -> Result<(), StoreFailed> {
        let tenant = tenant.clone();
        self.ask(move |tables| tables.projections_clear(&tenant))
            .await
    }

    async fn payload(
        &self,
        tenant: &TenantId,
        address: &PayloadAddress,
    ) -> Result<Option<SealedPayload>, StoreFailed> {
        let address = *address;
        self.of(tenant, move |it| it.payload(&address)).await
    }

    async fn payloads(
        &self,
        tenant: &TenantId,
        listing: PayloadListing,
    ) -> Result<Vec<PayloadRow>, StoreFailed> {
        self.of(tenant, move |it| it.payloads(&listing)).await
    }

    async fn payload_counts(&self, tenant: &TenantId) -> Result<Vec<PayloadCount>, StoreFailed> {
        self.of(tenant, Tenant::payload_counts).await
    }

    async fn records_expired(
        &self,
        tenant: &TenantId,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(RecordKey, Timestamp)>, StoreFailed> {
        self.of(tenant, move |it| it.records_expired(before, limit))
            .await
    }

    async fn work_done(
        &self,
        tenant: &TenantId,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<WorkId>, StoreFailed> {
        self.of(tenant, move |it| it.work_done(before, limit)).await
    }

    async fn claim_due(&self, claim: Claim) -> Result<Vec<ClaimedWork>, StoreFailed> {
        let process = self.process;
        let journey = self.world.with(|inner| self.journey(inner, false));
        let Some(journey) = journey else {
            self.world.sleep(MILLI).await;
            return Err(unavailable());
        };
        let asked = self.world.ask(process, journey, move |inner| {
            let claimed = inner.state.tables.claim_due(&claim);
            let now = inner.now;
            for work in &claimed {
                let subject = work.item.subject.clone();
                let id = subject.get(..12).unwrap_or(&subject);
                let kind = work.item.kind.as_str();
                let line = format_args!("{process} claims {kind} {id}, claim {}", work.claim);
                inner.trace.say(now, line);
                let at = now;
                inner.state.truth.claimed.push(Claimed { subject, at });
            }
            claimed
        });
        match asked.await {
            Asked::Answered(claimed) => Ok(claimed),
            Asked::Silence => Err(unavailable()),
        }
    }

    async fn work(&self, tenant: &TenantId, limit: u32) -> Result<Vec<WorkRow>, StoreFailed> {
        self.of(tenant, move |it| it.open_work(limit)).await
    }

    async fn lease(
        &self,
        tenant: &TenantId,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl_ms: i64,
    ) -> Result<Lease, LeaseRefused> {
        let journey = self.world.with(|inner| self.journey(inner, false));
        let Some(journey) = journey else {
            self.world.sleep(MILLI).await;
            return Err(unavailable().into());
        };
        let (tenant, name, holder) = (tenant.clone(), name.to_owned(), holder.to_owned());
        let process = self.process;
        let asked = self.world.ask(process, journey, move |inner| {
            let lease = inner
                .state
                .tables
                .lease(&tenant, &name, &holder, now, ttl_ms);
            let at = inner.now;
            if let Ok(Lease { epoch, .. }) = &lease {
                let leased = &mut inner.state.truth.leased;
                if leased.last().is_none_or(|last| last.epoch != *epoch) {
                    leased.push(Leased { epoch: *epoch, at });
                    inner
                        .trace
                        .say(at, format_args!("{process} holds the lease, epoch {epoch}"));
                }
            }
            lease
        });
        match asked.await {
            Asked::Answered(lease) => lease,
            Asked::Silence => Err(unavailable().into()),
        }
    }

    async fn tree_hashes(
        &self,
        tenant: &TenantId,
        indexes: &[u64],
    ) -> Result<Vec<Digest>, StoreFailed> {
        let indexes = indexes.to_vec();
        self.of(tenant, move |it| it.tree_hashes(&indexes)).await?
    }

    async fn checkpoint(&self, tenant: &TenantId) -> Result<Option<CheckpointRow>, StoreFailed> {
        self.of(tenant, Tenant::checkpoint).await
    }

    async fn checkpoint_put(
        &self,
        tenant: &TenantId,
        size_before: u64,
        hashes: &[(u64, Digest)],
        checkpoint: CheckpointRow,
    ) -> Result<bool, StoreFailed> {
        let (tenant, hashes) = (tenant.clone(), hashes.to_vec());
        self.ask(move |tables| {
            tables.checkpoint_put(&tenant, size_before, &hashes, checkpoint.clone())
        })
        .await?
    }

    async fn tenants(&self) -> Result<Vec<TenantId>, StoreFailed> {
        self.ask(|tables| tables.tenants()).await
    }
}
