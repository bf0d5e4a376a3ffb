//! The sweeper: what has been kept long enough goes, in small commits, each with its receipt.
//!
//! ```text
//! payloads of a class, oldest first ─▶ which write-back, how did it end, when ─▶ rule ─▶ its time is up?
//!   ─▶ in work: stays   held: stays   a minor's: stays until majority and more
//!   ─▶ one commit { payload gone, receipt on the write-back's stream, nobody moved it, no hold came in between }
//! ```
//! A crash leaves whole commits: what is gone has its receipt, what has none is still there and is found again. One
//! node sweeps at a time, by a lease; two would do no harm. Nothing here sleeps: a worker drives it.
//!
//! What is still of use is never touched: a write-back that can still move (queued, waiting for anybody, of unknown
//! outcome), the secret of a second factor, the conformance report in force.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chaperone_core::Timestamp;
use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{PatientToken, WritebackId};
use chaperone_core::ports::{
    Commit, CommitFailed, Expected, Guard, LeaseRefused, Listing, PayloadClass, PayloadListing,
    PayloadRow, Record, RecordChange, RecordKey, StoreFailed, WorkChange,
};
use chaperone_core::principal::{Actor, SystemPart};
use chaperone_core::retention::{Deletion, RetentionEvent};
use serde::{Deserialize, Serialize};

use super::holds::Holds;
use super::patient::{Born, patient_of};
use super::rules::{CountedFrom, Outcome, Rule};
use crate::context::Engine;
use crate::projection::{BY_STATE, row_of};
use crate::transition::{InHand, MoveFailed};

/// Which node sweeps.
const LEASE: &str = "retention";
/// How long a node sweeps without renewing, in milliseconds.
const LEASE_MS: i64 = 120_000;
/// Rows looked at at once, and most that one commit takes: reads and writes wait behind it.
const AT_ONCE: u32 = 64;
/// When it was swept last.
const PLACE: &str = "retention";
const LAST: &str = "last-sweep";
/// Collections whose rows name payloads that are in use.
const IN_USE: [&str; 6] = [
    "account",
    "conformance",
    "break_glass",
    "decision_support",
    "exception",
    "legal_hold",
];

/// How far a sweep goes.
#[derive(Debug, Clone, Copy)]
pub struct SweepOptions {
    /// Look, and delete nothing.
    pub dry_run: bool,
    /// Delete at most about so many; what is left is for the next one.
    pub deletions_max: u64,
}

impl Default for SweepOptions {
    fn default() -> Self {
        Self {
            dry_run: false,
            deletions_max: 50_000,
        }
    }
}

/// What a sweep did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// How many went, by rule.
    pub went: BTreeMap<String, u64>,
    /// How many are over their time and on hold.
    pub held: u64,
    /// How many are old, and belong to work that is not at its end, or are in use.
    pub in_use: u64,
    /// How many stay because they may be a minor's and the EHR did not say when the patient was born.
    pub waits_for_ehr: u64,
    /// How many were left because somebody else was at them; the next sweep takes them.
    pub again: u64,
    /// Whether there is more than this sweep took.
    pub more: bool,
}

impl Swept {
    /// How many went in all.
    pub fn total(&self) -> u64 {
        self.went.values().sum()
    }

    fn count(&mut self, rule: &str, count: u64) {
        let sum = self.went.entry(rule.to_owned()).or_default();
        *sum = sum.saturating_add(count);
    }
}

/// Why a sweep ended early. What it had deleted is gone, with receipts.
#[derive(Debug, thiserror::Error)]
pub enum SweepFailed {
    /// Another node is at it.
    #[error("another node sweeps until {until}")]
    Elsewhere {
        /// Until when, unless it goes on.
        until: Timestamp,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// It could not be recorded, so it was not deleted.
    #[error("a deletion could not be recorded, so nothing was deleted")]
    Commit(#[from] CommitFailed),
}

/// The last sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSweep {
    /// When it ended.
    pub at: Timestamp,
    /// What it did.
    pub swept: Swept,
}

/// A sweep under way.
struct Sweep<'e> {
    engine: &'e Engine,
    options: SweepOptions,
    now: Timestamp,
    holds: Holds,
    births: HashMap<PatientToken, Born>,
    in_use: BTreeSet<PayloadAddress>,
    /// What open write-backs name; read when first needed.
    open: Option<BTreeSet<PayloadAddress>>,
    swept: Swept,
}

/// What is to be said of one payload.
enum Verdict {
    /// It goes, under this rule.
    Goes(Rule),
    /// Its time is not up.
    Stays,
    Held,
    InUse,
    WaitsForEhr,
}

impl Engine {
    /// Deletes what has been kept long enough, or says what it would delete.
    ///
    /// # Errors
    /// [`SweepFailed`]; whatever went has its receipt.
    pub async fn sweep_retention(&self, options: SweepOptions) -> Result<Swept, SweepFailed> {
        if !options.dry_run {
            self.take_sweep_lease().await?;
        }
        let mut sweep = Sweep {
            engine: self,
            options,
            now: self.now(),
            holds: self.legal_holds().await?,
            births: HashMap::new(),
            in_use: self.payloads_in_use().await?,
            open: None,
            swept: Swept::default(),
        };
        for class in PayloadClass::ALL {
            sweep.payloads(class).await?;
        }
        sweep.records().await?;
        sweep.work().await?;
        let swept = sweep.swept;
        if !options.dry_run {
            self.note_sweep(&swept).await?;
        }
        Ok(swept)
    }

    /// The last sweep, if there was one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn last_sweep(&self) -> Result<Option<LastSweep>, StoreFailed> {
        let key = RecordKey::new(PLACE, LAST);
        let record = self
            .store
            .record(&self.config.tenant, &key, self.now())
            .await?;
        record
            .map(|record| serde_json::from_value(record.value))
            .transpose()
            .map_err(|e| StoreFailed::Corrupt(e.to_string()))
    }

    async fn take_sweep_lease(&self) -> Result<(), SweepFailed> {
        let (tenant, node) = (&self.config.tenant, &self.config.node);
        let lease = self
            .store
            .lease(tenant, LEASE, node, self.now(), LEASE_MS)
            .await;
        match lease {
            Ok(_) => Ok(()),
            Err(LeaseRefused::Held { until }) => Err(SweepFailed::Elsewhere { until }),
            Err(LeaseRefused::Store(failed)) => Err(failed.into()),
        }
    }

    async fn note_sweep(&self, swept: &Swept) -> Result<(), SweepFailed> {
        let last = LastSweep {
            at: self.now(),
            swept: swept.clone(),
        };
        let value = serde_json::to_value(&last).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
        let mut commit = self.commit_as(sweeper());
        commit
            .records
            .push(RecordChange::Put(Record::new(PLACE, LAST, value)));
        self.store.commit(commit).await?;
        Ok(())
    }

    /// Payloads that records of today name: secrets of second factors, reports in force, holds.
    async fn payloads_in_use(&self) -> Result<BTreeSet<PayloadAddress>, StoreFailed> {
        let mut named = BTreeSet::new();
        for collection in IN_USE {
            let mut after = None;
            loop {
                let listing = Listing {
                    after,
                    ..Listing::default()
                };
                let rows = self
                    .store
                    .records(&self.config.tenant, collection, listing, self.now())
                    .await?;
                for row in &rows {
                    addresses_in(&row.value, &mut named);
                }
                after = rows
                    .last()
                    .map(|last| (last.sort.clone(), last.key.key.clone()));
                if rows.len() < chaperone_core::ports::LISTED_MAX as usize {
                    break;
                }
            }
        }
        Ok(named)
    }

    /// Payloads that write-backs name which can still move: for those of which nobody noted whose they are.
    async fn payloads_in_work(&self) -> Result<BTreeSet<PayloadAddress>, StoreFailed> {
        let mut named = BTreeSet::new();
        let mut after = None;
        loop {
            let listing = Listing {
                after,
                ..Listing::default()
            };
            let rows = self
                .store
                .projections(&self.config.tenant, BY_STATE, listing)
                .await?;
            for row in &rows {
                let row = row_of(row)?;
                if Outcome::of(row.state).is_some() {
                    continue;
                }
                let stream = StreamId::Writeback(row.id);
                for recorded in self.store.stream(&self.config.tenant, &stream).await? {
                    let event = serde_json::to_value(&recorded.event)
                        .map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
                    addresses_in(&event, &mut named);
                }
            }
            after = rows
                .last()
                .map(|last| (last.sort.clone(), last.key.key.clone()));
            if rows.len() < chaperone_core::ports::LISTED_MAX as usize {
                return Ok(named);
            }
        }
    }
}

fn sweeper() -> Actor {
    Actor::System {
        part: SystemPart::Retention,
    }
}

/// Every text that could be an address; that some are other digests does no harm.
fn addresses_in(value: &serde_json::Value, found: &mut BTreeSet<PayloadAddress>) {
    /// Deeper than any row or event.
    const DEPTH_MAX: u32 = 16;
    fn walk(value: &serde_json::Value, found: &mut BTreeSet<PayloadAddress>, depth: u32) {
        if depth > DEPTH_MAX {
            return;
        }
        match value {
            serde_json::Value::String(text) => {
                if let Ok(digest) = text.parse::<Digest>() {
                    found.insert(PayloadAddress::from_digest(digest));
                }
            }
            serde_json::Value::Array(all) => all.iter().for_each(|it| walk(it, found, depth + 1)),
            serde_json::Value::Object(all) => {
                all.values().for_each(|it| walk(it, found, depth + 1));
            }
            _ => {}
        }
    }
    walk(value, found, 0);
}

/// What goes together in one commit: payloads of write-backs, and of none.
#[derive(Default)]
struct Batch {
    of_writebacks: BTreeMap<WritebackId, (InHand, Vec<(Rule, PayloadAddress)>)>,
    of_none: Vec<(Rule, PayloadAddress)>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.of_writebacks.is_empty() && self.of_none.is_empty()
    }
}

impl Sweep<'_> {
    fn is_full(&mut self) -> bool {
        let full = self.swept.total() >= self.options.deletions_max;
        self.swept.more |= full;
        full
    }

    async fn payloads(&mut self, class: PayloadClass) -> Result<(), SweepFailed> {
        let Some(shortest) = self.engine.retention.shortest(class) else {
            return Ok(());
        };
        let mut after = None;
        loop {
            if self.is_full() {
                return Ok(());
            }
            let listing = PayloadListing {
                class,
                key: None,
                before: shortest.before(self.now),
                after,
                limit: AT_ONCE,
            };
            let tenant = &self.engine.config.tenant;
            let rows = self.engine.store.payloads(tenant, listing).await?;
            let mut batch = Batch::default();
            for row in &rows {
                self.judge_into(&mut batch, row).await?;
            }
            self.delete(batch).await?;
            if rows.len() < AT_ONCE as usize {
                return Ok(());
            }
            after = rows.last().map(|last| (last.at, last.address));
        }
    }

    /// Judges a payload, and puts it into the batch when it goes.
    async fn judge_into(&mut self, batch: &mut Batch, row: &PayloadRow) -> Result<(), SweepFailed> {
        let hand = match row.writeback {
            None => None,
            Some(id) => match batch.of_writebacks.get(&id) {
                Some((hand, _)) => Some(hand.clone()),
                None => match self.engine.take_in_hand(id).await {
                    Ok(hand) => Some(hand),
                    // The write-back is not in this ledger: nothing says that it is over.
                    Err(MoveFailed::Missing) => {
                        self.swept.in_use = self.swept.in_use.saturating_add(1);
                        return Ok(());
                    }
                    Err(MoveFailed::Store(failed)) => return Err(failed.into()),
                    Err(MoveFailed::Refused(refused)) => {
                        return Err(StoreFailed::Corrupt(refused.to_string()).into());
                    }
                },
            },
        };
        match self.judge(row, hand.as_ref()).await? {
            Verdict::Goes(rule) => match (row.writeback, hand) {
                (Some(id), Some(hand)) => {
                    let entry = batch.of_writebacks.entry(id);
                    let (_, going) = entry.or_insert_with(|| (hand, Vec::new()));
                    going.push((rule, row.address));
                }
                _ => batch.of_none.push((rule, row.address)),
            },
            Verdict::Stays => {}
            Verdict::Held => self.swept.held = self.swept.held.saturating_add(1),
            Verdict::InUse => self.swept.in_use = self.swept.in_use.saturating_add(1),
            Verdict::WaitsForEhr => {
                self.swept.waits_for_ehr = self.swept.waits_for_ehr.saturating_add(1);
            }
        }
        Ok(())
    }

    async fn judge(
        &mut self,
        row: &PayloadRow,
        hand: Option<&InHand>,
    ) -> Result<Verdict, SweepFailed> {
        let (outcome, ended) = match hand {
            None => (None, row.at),
            Some(hand) => match Outcome::of(hand.state.name()) {
                None => return Ok(Verdict::InUse),
                Some(outcome) => (Some(outcome), hand.moved()),
            },
        };
        let Some(rule) = self.engine.retention.of_payload(row.class, outcome) else {
            return Ok(Verdict::Stays);
        };
        let rule = rule.clone();
        let from = match rule.from {
            CountedFrom::Ended => ended.max(row.at),
            _ => row.at,
        };
        if rule.keep.after(from) > self.now {
            return Ok(Verdict::Stays);
        }
        if self.in_use.contains(&row.address) {
            return Ok(Verdict::InUse);
        }
        if row.writeback.is_none() && row.class != PayloadClass::Operational {
            if self.open.is_none() {
                self.open = Some(self.engine.payloads_in_work().await?);
            }
            let is_open = |open: &BTreeSet<PayloadAddress>| open.contains(&row.address);
            if self.open.as_ref().is_some_and(is_open) {
                return Ok(Verdict::InUse);
            }
        }
        let patient = patient_of(row);
        if self.holds.on(patient).is_some() {
            return Ok(Verdict::Held);
        }
        let minors = self.engine.retention.minors(&rule).cloned();
        if let (Some(minors), Some(patient)) = (minors, patient) {
            let born = match self.births.get(&patient) {
                Some(born) => *born,
                None => self.engine.born(patient).await?,
            };
            self.births.insert(patient, born);
            let until = match born {
                Born::By(day) => minors.until(day),
                Born::Unknown => minors.until(row.at),
                Born::NotNow => return Ok(Verdict::WaitsForEhr),
            };
            if until > self.now {
                return Ok(Verdict::Stays);
            }
        }
        Ok(Verdict::Goes(rule))
    }

    async fn delete(&mut self, batch: Batch) -> Result<(), SweepFailed> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut went: BTreeMap<String, u64> = BTreeMap::new();
        let mut commit = self.begin();
        for (mut hand, going) in batch.of_writebacks.into_values() {
            for (rule, payloads) in by_rule(going) {
                *went.entry(rule.id.clone()).or_default() += payloads.len() as u64;
                commit.erased.extend(&payloads);
                let event = self.receipt(&rule, payloads);
                hand.note(&mut commit, event)?;
            }
        }
        for (rule, payloads) in by_rule(batch.of_none) {
            *went.entry(rule.id.clone()).or_default() += payloads.len() as u64;
            commit.erased.extend(&payloads);
            let event = self.receipt(&rule, payloads);
            commit.append(StreamId::Retention, Expected::Any, event);
        }
        self.finish(commit, went).await
    }

    fn begin(&self) -> Commit {
        let mut commit = self.engine.commit_as(sweeper());
        commit.guards.push(self.holds.unchanged());
        commit
    }

    fn receipt(&self, rule: &Rule, payloads: Vec<PayloadAddress>) -> Event {
        Event::Retention(RetentionEvent::Deleted(Box::new(Deletion {
            artefact: rule.artefact.clone(),
            rule: rule.id.clone(),
            rules: self.engine.retention.digest(),
            count: payloads.len() as u64,
            manifest: Deletion::manifest_of(&payloads),
            payloads,
        })))
    }

    async fn finish(
        &mut self,
        commit: Commit,
        went: BTreeMap<String, u64>,
    ) -> Result<(), SweepFailed> {
        if !self.options.dry_run {
            self.engine.take_sweep_lease().await?;
            match self.engine.store.commit(commit).await {
                Ok(_) => {}
                // Something moved, or somebody placed a hold: what it was decided on is no longer so.
                Err(CommitFailed::Conflict { .. } | CommitFailed::Record { .. }) => {
                    self.swept.again = self.swept.again.saturating_add(went.values().sum());
                    self.holds = self.engine.legal_holds().await?;
                    return Ok(());
                }
                Err(failed) => return Err(failed.into()),
            }
        }
        for (rule, count) in went {
            self.swept.count(&rule, count);
        }
        Ok(())
    }

    /// Records past their end. Writing new ones clears old ones away as well; this takes what is left.
    async fn records(&mut self) -> Result<(), SweepFailed> {
        let tenant = &self.engine.config.tenant;
        // A hold on everything keeps what is of use; what has expired counts as absent anyway.
        loop {
            if self.is_full() {
                return Ok(());
            }
            let found = self
                .engine
                .store
                .records_expired(tenant, self.now, AT_ONCE)
                .await?;
            let mut going: BTreeMap<String, (Rule, Vec<RecordKey>)> = BTreeMap::new();
            for (key, expired) in &found {
                let artefact = format!("record/{}", key.collection);
                let Some(rule) = self.engine.retention.of_artefact(&artefact) else {
                    continue;
                };
                let end = match rule.from {
                    CountedFrom::OwnEnd => rule.keep.after(*expired),
                    _ => *expired,
                };
                if end > self.now {
                    continue;
                }
                let entry = going.entry(rule.id.clone());
                let (_, keys) = entry.or_insert_with(|| (rule.clone(), Vec::new()));
                keys.push(key.clone());
            }
            let taken: usize = going.values().map(|(_, keys)| keys.len()).sum();
            if taken == 0 {
                return Ok(());
            }
            let before = self.swept.total();
            let mut went = BTreeMap::new();
            let mut commit = self.engine.commit_as(sweeper());
            for (id, (rule, keys)) in going {
                went.insert(id, keys.len() as u64);
                let parts = keys.iter().map(|key| key.key.as_bytes());
                let event = RetentionEvent::Deleted(Box::new(Deletion {
                    artefact: rule.artefact,
                    rule: rule.id,
                    rules: self.engine.retention.digest(),
                    count: keys.len() as u64,
                    manifest: Digest::of_parts(parts),
                    payloads: Vec::new(),
                }));
                commit.append(StreamId::Retention, Expected::Any, Event::Retention(event));
                for key in keys {
                    // Somebody may have made it anew meanwhile.
                    commit.guards.push(Guard::RecordAt {
                        key: key.clone(),
                        revision: None,
                    });
                    commit.records.push(RecordChange::Delete(key));
                }
            }
            self.finish(commit, went).await?;
            let is_last = found.len() < AT_ONCE as usize || taken < found.len();
            if is_last || self.options.dry_run || self.swept.total() == before {
                return Ok(());
            }
        }
    }

    /// Work that is done.
    async fn work(&mut self) -> Result<(), SweepFailed> {
        let tenant = &self.engine.config.tenant;
        let Some(rule) = self.engine.retention.of_artefact("work").cloned() else {
            return Ok(());
        };
        loop {
            if self.is_full() {
                return Ok(());
            }
            let before = rule.keep.before(self.now);
            let done = self.engine.store.work_done(tenant, before, AT_ONCE).await?;
            if done.is_empty() {
                return Ok(());
            }
            let ids: Vec<String> = done.iter().map(ToString::to_string).collect();
            let mut commit = self.engine.commit_as(sweeper());
            let event = RetentionEvent::Deleted(Box::new(Deletion {
                artefact: rule.artefact.clone(),
                rule: rule.id.clone(),
                rules: self.engine.retention.digest(),
                count: ids.len() as u64,
                manifest: Digest::of_parts(ids.iter().map(|id| id.as_bytes())),
                payloads: Vec::new(),
            }));
            commit.append(StreamId::Retention, Expected::Any, Event::Retention(event));
            let is_last = done.len() < AT_ONCE as usize;
            let went = BTreeMap::from([(rule.id.clone(), done.len() as u64)]);
            commit
                .work
                .extend(done.into_iter().map(|id| WorkChange::Forget { id }));
            let before = self.swept.total();
            self.finish(commit, went).await?;
            if is_last || self.options.dry_run || self.swept.total() == before {
                return Ok(());
            }
        }
    }
}

/// Addresses under each rule, in order.
fn by_rule(going: Vec<(Rule, PayloadAddress)>) -> Vec<(Rule, Vec<PayloadAddress>)> {
    let mut sorted: BTreeMap<String, (Rule, Vec<PayloadAddress>)> = BTreeMap::new();
    for (rule, address) in going {
        let entry = sorted.entry(rule.id.clone());
        let (_, addresses) = entry.or_insert_with(|| (rule, Vec::new()));
        addresses.push(address);
    }
    sorted.into_values().collect()
}
