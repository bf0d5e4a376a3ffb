//! Decides commits: given what a commit touches as it is stored now, either all of its writes or the
//! reason why none of them happen. Pure, and shared by both adapters, so that the two databases cannot
//! come to differ about what a conflict is. No SQL here: an adapter loads [`Known`] for the [`Needs`] of
//! its commits under its own lock, calls [`decide`] for each in turn, and writes the plans.
//!
//! A refused commit leaves `Known` as it was; an accepted one moves it on, so that the next commit of
//! the same database transaction is decided against it.

use std::collections::{BTreeSet, HashMap};

use chaperone_core::Timestamp;
use chaperone_core::event::{LEAF_FORMAT, Recorded, StreamId};
use chaperone_core::ids::WorkId;
use chaperone_core::ports::{
    Append, Commit, CommitFailed, Expected, Guard, Record, RecordChange, RecordKey, WorkChange,
    WorkItem, WorkKind, WorkState,
};

use crate::rows::micros;

/// Most parts (events, guards, records, projections, payloads, work changes) of one commit.
pub(crate) const COMMIT_PARTS_MAX: usize = 10_000;

/// Most bytes of all sealed payloads of one commit: 64 MiB.
pub(crate) const COMMIT_BYTES_MAX: usize = 64 << 20;

/// A commit that no store could take, whatever is stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitUnfit {
    /// More parts than [`COMMIT_PARTS_MAX`].
    #[error("a commit of {0} parts is over the limit of {COMMIT_PARTS_MAX}")]
    TooManyParts(usize),
    /// Payloads over [`COMMIT_BYTES_MAX`].
    #[error("{0} bytes of payloads are over a commit's limit of {COMMIT_BYTES_MAX}")]
    PayloadsTooLarge(usize),
    /// PostgreSQL has no text with a zero byte, so neither backend takes it.
    #[error("a key, index, sort or subject holds a zero byte")]
    ZeroByte,
    /// The event has no JSON.
    #[error("the event cannot be serialised")]
    Leaf(#[source] serde_json::Error),
    /// A counter is beyond 2^63.
    #[error("a counter is out of range")]
    OutOfRange,
}

impl From<CommitUnfit> for CommitFailed {
    fn from(unfit: CommitUnfit) -> Self {
        CommitFailed::Unavailable(Box::new(unfit))
    }
}

/// What must be loaded to decide some commits of one tenant.
#[derive(Debug, Default)]
pub(crate) struct Needs<'c> {
    pub(crate) streams: BTreeSet<&'c StreamId>,
    pub(crate) records: BTreeSet<&'c RecordKey>,
    pub(crate) leases: BTreeSet<&'c str>,
    pub(crate) work: BTreeSet<WorkId>,
}

impl<'c> Needs<'c> {
    /// Adds what this commit touches.
    pub(crate) fn add(&mut self, commit: &'c Commit) {
        self.streams
            .extend(commit.appends.iter().map(|append| &append.stream));
        for guard in &commit.guards {
            match guard {
                Guard::StreamAt { stream, .. } => drop(self.streams.insert(stream)),
                Guard::Epoch { lease, .. } => drop(self.leases.insert(lease)),
                Guard::RecordAt { key, .. } => drop(self.records.insert(key)),
            }
        }
        self.records
            .extend(commit.records.iter().map(|change| match change {
                RecordChange::Create(record)
                | RecordChange::Put(record)
                | RecordChange::Update(record, _) => &record.key,
                RecordChange::Consume(key) | RecordChange::Delete(key) => key,
            }));
        self.work
            .extend(commit.work.iter().map(|change| match change {
                WorkChange::Enqueue(item) => item.id,
                WorkChange::Complete { id, .. }
                | WorkChange::Defer { id, .. }
                | WorkChange::Hold { id, .. }
                | WorkChange::Forget { id } => *id,
            }));
    }
}

/// A record as far as decisions need it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordAt {
    pub(crate) revision: u64,
    /// Microseconds.
    pub(crate) expires: Option<i64>,
}

impl RecordAt {
    fn lives_at(self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| micros(now) < expires)
    }
}

/// A lease as far as decisions need it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaseAt {
    pub(crate) epoch: u64,
    /// Microseconds.
    pub(crate) until: i64,
}

/// Where a stored work item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Unfinished.
    Open(WorkState),
    /// Finished; only its id is still of use.
    Done,
}

impl Stage {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Stage::Open(state) => state.as_str(),
            Stage::Done => "done",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Stage> {
        if text == Stage::Done.as_str() {
            Some(Stage::Done)
        } else {
            WorkState::parse(text).map(Stage::Open)
        }
    }
}

/// A work item as far as decisions need it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkAt {
    pub(crate) stage: Stage,
    pub(crate) claim: u64,
    /// Microseconds; set while claimed.
    pub(crate) claimed_until: Option<i64>,
}

/// What is stored now of everything in [`Needs`]; what is missing here does not exist.
#[derive(Debug, Default)]
pub(crate) struct Known<'c> {
    pub(crate) next_seq: u64,
    pub(crate) streams: HashMap<&'c StreamId, u64>,
    /// `None` for a record that an earlier commit removed.
    pub(crate) records: HashMap<&'c RecordKey, Option<RecordAt>>,
    pub(crate) leases: HashMap<&'c str, LeaseAt>,
    pub(crate) work: HashMap<WorkId, WorkAt>,
}

/// One row of `event`.
#[derive(Debug)]
pub(crate) struct EventRow {
    pub(crate) seq: i64,
    pub(crate) stream: String,
    pub(crate) version: i64,
    pub(crate) at: i64,
    pub(crate) kind: String,
    pub(crate) leaf: Vec<u8>,
}

/// One change of `record`.
#[derive(Debug)]
pub(crate) enum RecordWrite<'c> {
    Put { record: &'c Record, revision: i64 },
    Remove(&'c RecordKey),
}

/// One change of an existing `work` row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkWrite {
    pub(crate) id: WorkId,
    pub(crate) stage: Stage,
    pub(crate) due: Option<i64>,
    pub(crate) kind: Option<WorkKind>,
}

/// Everything an accepted commit writes; projections and payloads are taken from the commit itself.
#[derive(Debug)]
pub(crate) struct Plan<'c> {
    pub(crate) commit: &'c Commit,
    pub(crate) events: Vec<EventRow>,
    pub(crate) records: Vec<RecordWrite<'c>>,
    pub(crate) enqueues: Vec<&'c WorkItem>,
    /// In order; a later write of the same item wins.
    pub(crate) work: Vec<WorkWrite>,
    /// Finished items whose rows go.
    pub(crate) forgotten: Vec<WorkId>,
}

impl Plan<'_> {
    /// The sequence numbers given, in order.
    pub(crate) fn seqs(&self) -> Vec<u64> {
        self.events
            .iter()
            .map(|event| event.seq.unsigned_abs())
            .collect()
    }
}

/// Decides one commit that is [`fit`].
///
/// # Errors
/// The reason why nothing of it happens; `known` is then unchanged.
pub(crate) fn decide<'c>(
    known: &mut Known<'c>,
    commit: &'c Commit,
) -> Result<Plan<'c>, CommitFailed> {
    let mut draft = Draft {
        known,
        next_seq: known.next_seq,
        streams: HashMap::new(),
        records: HashMap::new(),
        work: HashMap::new(),
        plan: Plan {
            commit,
            events: Vec::with_capacity(commit.appends.len()),
            records: Vec::with_capacity(commit.records.len()),
            enqueues: Vec::new(),
            work: Vec::new(),
            forgotten: Vec::new(),
        },
    };
    for guard in &commit.guards {
        draft.guard(guard)?;
    }
    for append in &commit.appends {
        draft.append(append)?;
    }
    for change in &commit.records {
        draft.record(change)?;
    }
    for change in &commit.work {
        draft.work(change)?;
    }
    let Draft {
        next_seq,
        streams,
        records,
        work,
        plan,
        known: _,
    } = draft;
    known.next_seq = next_seq;
    known.streams.extend(streams);
    known.records.extend(records);
    known.work.extend(work);
    Ok(plan)
}

/// Whether a store could take this commit at all; asked before it joins others.
///
/// # Errors
/// [`CommitUnfit`], by its limits and texts.
pub(crate) fn fit(commit: &Commit) -> Result<(), CommitUnfit> {
    let parts = commit.appends.len()
        + commit.guards.len()
        + commit.records.len()
        + commit.projections.len()
        + commit.payloads.len()
        + commit.erased.len()
        + commit.work.len();
    if parts > COMMIT_PARTS_MAX {
        return Err(CommitUnfit::TooManyParts(parts));
    }
    let bytes = payload_bytes(commit);
    if bytes > COMMIT_BYTES_MAX {
        return Err(CommitUnfit::PayloadsTooLarge(bytes));
    }
    if texts(commit).any(|text| text.contains('\0')) {
        return Err(CommitUnfit::ZeroByte);
    }
    Ok(())
}

/// Bytes of all sealed payloads of a commit.
pub(crate) fn payload_bytes(commit: &Commit) -> usize {
    let bytes = commit.payloads.iter().map(|payload| payload.sealed.len());
    bytes.sum()
}

/// Every free text of the commit that becomes a text column. Identifiers cannot hold a zero byte, and
/// JSON escapes it.
fn texts(commit: &Commit) -> impl Iterator<Item = &str> {
    let changed = commit.records.iter().filter_map(|change| match change {
        RecordChange::Create(record)
        | RecordChange::Put(record)
        | RecordChange::Update(record, _) => Some(record),
        RecordChange::Consume(_) | RecordChange::Delete(_) => None,
    });
    let named = commit.records.iter().filter_map(|change| match change {
        RecordChange::Consume(key) | RecordChange::Delete(key) => Some(key),
        RecordChange::Create(_) | RecordChange::Put(_) | RecordChange::Update(..) => None,
    });
    let guarded = commit.guards.iter().flat_map(|guard| match guard {
        Guard::Epoch { lease, .. } => [lease.as_str(), ""],
        Guard::RecordAt { key, .. } => [key.collection.as_str(), key.key.as_str()],
        Guard::StreamAt { .. } => ["", ""],
    });
    let rows = changed.chain(&commit.projections).flat_map(|record| {
        [
            record.key.collection.as_str(),
            record.key.key.as_str(),
            record.sort.as_str(),
            record.index.as_deref().unwrap_or_default(),
        ]
    });
    let work = commit.work.iter().flat_map(|change| match change {
        WorkChange::Enqueue(item) => [
            item.subject.as_str(),
            item.order_key.as_deref().unwrap_or_default(),
        ],
        WorkChange::Complete { .. }
        | WorkChange::Defer { .. }
        | WorkChange::Hold { .. }
        | WorkChange::Forget { .. } => ["", ""],
    });
    rows.chain(named.flat_map(|key| [key.collection.as_str(), key.key.as_str()]))
        .chain(guarded)
        .chain(work)
        .chain(commit.payloads.iter().map(|payload| payload.key.as_str()))
}

/// A commit half decided: what it has changed so far lies over what is stored.
struct Draft<'k, 'c> {
    known: &'k Known<'c>,
    next_seq: u64,
    streams: HashMap<&'c StreamId, u64>,
    records: HashMap<&'c RecordKey, Option<RecordAt>>,
    work: HashMap<WorkId, WorkAt>,
    plan: Plan<'c>,
}

impl<'c> Draft<'_, 'c> {
    fn stream_version(&self, stream: &StreamId) -> u64 {
        let found = self.streams.get(stream);
        found
            .or_else(|| self.known.streams.get(stream))
            .copied()
            .unwrap_or(0)
    }

    /// The record, unless it is missing or has expired at the commit's time.
    fn record_now(&self, key: &RecordKey) -> Option<RecordAt> {
        let found = self.records.get(key);
        found
            .or_else(|| self.known.records.get(key))
            .copied()
            .flatten()
            .filter(|record| record.lives_at(self.plan.commit.at))
    }

    fn guard(&self, guard: &'c Guard) -> Result<(), CommitFailed> {
        match guard {
            Guard::StreamAt { stream, version } => {
                let actual = self.stream_version(stream);
                if actual == *version {
                    Ok(())
                } else {
                    Err(conflict(stream, actual))
                }
            }
            Guard::Epoch { lease, epoch } => {
                let holds = self.known.leases.get(lease.as_str()).is_some_and(|held| {
                    held.epoch == *epoch && micros(self.plan.commit.at) < held.until
                });
                if holds {
                    Ok(())
                } else {
                    Err(CommitFailed::StaleEpoch)
                }
            }
            Guard::RecordAt { key, revision } => {
                if self.record_now(key).map(|record| record.revision) == *revision {
                    Ok(())
                } else {
                    Err(record_differs(key))
                }
            }
        }
    }

    fn append(&mut self, append: &'c Append) -> Result<(), CommitFailed> {
        let actual = self.stream_version(&append.stream);
        match append.expected {
            Expected::Any => {}
            Expected::Version(expected) if expected == actual => {}
            Expected::Version(_) => return Err(conflict(&append.stream, actual)),
        }
        let commit = self.plan.commit;
        let version = actual + 1;
        let seq = self.next_seq;
        let leaf = Recorded {
            format: LEAF_FORMAT,
            tenant: commit.tenant.clone(),
            seq,
            stream: append.stream.clone(),
            version,
            at: commit.at,
            actor: commit.actor.clone(),
            event: append.event.clone(),
        }
        .to_leaf()
        .map_err(CommitUnfit::Leaf)?;
        self.plan.events.push(EventRow {
            seq: stored(seq)?,
            stream: append.stream.to_string(),
            version: stored(version)?,
            at: micros(commit.at),
            kind: append.event.kind(),
            leaf,
        });
        self.next_seq = seq + 1;
        self.streams.insert(&append.stream, version);
        Ok(())
    }

    fn record(&mut self, change: &'c RecordChange) -> Result<(), CommitFailed> {
        match change {
            RecordChange::Create(record) => match self.record_now(&record.key) {
                None => self.record_put(record, 1),
                Some(_) => Err(record_differs(&record.key)),
            },
            RecordChange::Put(record) => {
                let before = self.record_now(&record.key).map_or(0, |at| at.revision);
                self.record_put(record, before + 1)
            }
            RecordChange::Update(record, expected) => match self.record_now(&record.key) {
                Some(at) if at.revision == *expected => self.record_put(record, at.revision + 1),
                Some(_) | None => Err(record_differs(&record.key)),
            },
            RecordChange::Consume(key) => match self.record_now(key) {
                Some(_) => {
                    self.record_remove(key);
                    Ok(())
                }
                None => Err(record_differs(key)),
            },
            RecordChange::Delete(key) => {
                self.record_remove(key);
                Ok(())
            }
        }
    }

    fn record_put(&mut self, record: &'c Record, revision: u64) -> Result<(), CommitFailed> {
        self.plan.records.push(RecordWrite::Put {
            record,
            revision: stored(revision)?,
        });
        let at = RecordAt {
            revision,
            expires: record.expires.map(micros),
        };
        self.records.insert(&record.key, Some(at));
        Ok(())
    }

    fn record_remove(&mut self, key: &'c RecordKey) {
        self.plan.records.push(RecordWrite::Remove(key));
        self.records.insert(key, None);
    }

    fn work(&mut self, change: &'c WorkChange) -> Result<(), CommitFailed> {
        match change {
            WorkChange::Enqueue(item) => self.enqueue(item),
            WorkChange::Complete { id, claim } => self.work_move(*id, *claim, Stage::Done, None),
            WorkChange::Defer {
                id,
                claim,
                due,
                kind,
            } => self.work_move(
                *id,
                *claim,
                Stage::Open(WorkState::Waiting),
                Some((micros(*due), *kind)),
            ),
            WorkChange::Hold { id, claim } => {
                self.work_move(*id, *claim, Stage::Open(WorkState::Held), None)
            }
            WorkChange::Forget { id } => match self.work_now(*id) {
                Some(at) if at.stage == Stage::Done => {
                    self.plan.forgotten.push(*id);
                    Ok(())
                }
                Some(_) | None => Err(work_differs()),
            },
        }
    }

    fn work_now(&self, id: WorkId) -> Option<WorkAt> {
        let found = self.work.get(&id);
        found.or_else(|| self.known.work.get(&id)).copied()
    }

    fn enqueue(&mut self, item: &'c WorkItem) -> Result<(), CommitFailed> {
        if self.work_now(item.id).is_some() {
            return Err(work_differs());
        }
        self.plan.enqueues.push(item);
        let at = WorkAt {
            stage: Stage::Open(WorkState::Waiting),
            claim: 0,
            claimed_until: None,
        };
        self.work.insert(item.id, at);
        Ok(())
    }

    fn work_move(
        &mut self,
        id: WorkId,
        claim: Option<u64>,
        stage: Stage,
        again: Option<(i64, Option<WorkKind>)>,
    ) -> Result<(), CommitFailed> {
        let found = self.work_now(id);
        let now = micros(self.plan.commit.at);
        let at = match (claim, found) {
            (Some(claim), Some(at)) => {
                let holds = at.stage == Stage::Open(WorkState::Claimed)
                    && at.claim == claim
                    && at.claimed_until.is_some_and(|until| now < until);
                if !holds {
                    return Err(CommitFailed::ClaimLost);
                }
                at
            }
            (Some(_), None) => return Err(CommitFailed::ClaimLost),
            (None, Some(at)) if at.stage != Stage::Done => at,
            (None, Some(_) | None) => return Err(work_differs()),
        };
        let moved = WorkAt {
            stage,
            claimed_until: None,
            ..at
        };
        self.work.insert(id, moved);
        self.plan.work.push(WorkWrite {
            id,
            stage,
            due: again.map(|(due, _)| due),
            kind: again.and_then(|(_, kind)| kind),
        });
        Ok(())
    }
}

fn conflict(stream: &StreamId, actual: u64) -> CommitFailed {
    CommitFailed::Conflict {
        stream: stream.clone(),
        actual,
    }
}

fn record_differs(key: &RecordKey) -> CommitFailed {
    CommitFailed::Record {
        collection: key.collection.clone(),
    }
}

/// Work that must not exist does, or the reverse.
fn work_differs() -> CommitFailed {
    CommitFailed::Record {
        collection: "work".to_owned(),
    }
}

fn stored(counter: u64) -> Result<i64, CommitUnfit> {
    i64::try_from(counter).map_err(|_| CommitUnfit::OutOfRange)
}
