//! One commit, decided and applied: everything of it or nothing. Written anew from the contract of
//! `chaperone_core::ports::Store`, and shares no code with the databases' adapters.

use std::collections::BTreeMap;

use chaperone_core::event::{LEAF_FORMAT, Recorded, StreamId};
use chaperone_core::ids::WorkId;
use chaperone_core::ports::{
    Append, Commit, CommitFailed, Committed, Expected, Guard, Record, RecordChange, RecordKey,
    WorkChange, WorkItem,
};

use super::rows::{Forgets, Payload, Place, Standing, Tenant, Work, micros};

/// Most parts of one commit.
const PARTS_MAX: usize = 10_000;
/// Most bytes of its payloads.
const BYTES_MAX: usize = 64 << 20;

/// How long a record that ended stays, in microseconds.
const KEPT_US: i64 = 3_600 * 1_000_000;
/// Records that are swept for each that is written and will end.
const SWEPT_FOR_EACH: usize = 4;
/// Most records swept in one go.
const SWEPT_MAX: usize = 500;

/// Says why, as a store does that cannot take a commit at all.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("a commit of {0} parts is over the limit of {PARTS_MAX}")]
    TooManyParts(usize),
    #[error("{0} bytes of payloads are over a commit's limit of {BYTES_MAX}")]
    TooLarge(usize),
    #[error("a key, index, sort or subject holds a zero byte")]
    ZeroByte,
    #[error("the event cannot be serialised: {0}")]
    Leaf(String),
}

impl From<Unfit> for CommitFailed {
    fn from(unfit: Unfit) -> Self {
        CommitFailed::Unavailable(Box::new(unfit))
    }
}

/// A commit half decided: what it changed so far lies over what is stored.
struct Draft<'t> {
    stored: &'t Tenant,
    forgets: Forgets,
    at: i64,
    versions: BTreeMap<StreamId, u64>,
    events: Vec<(Vec<u8>, Recorded)>,
    records: BTreeMap<RecordKey, Option<Record>>,
    works: BTreeMap<WorkId, Work>,
    enqueued: Vec<WorkId>,
    forgotten: Vec<WorkId>,
}

/// Decides and applies.
pub(super) fn apply(
    stored: &mut Tenant,
    commit: &Commit,
    forgets: Forgets,
) -> Result<Committed, CommitFailed> {
    fit(commit)?;
    let mut draft = Draft {
        stored,
        forgets,
        at: micros(commit.at),
        versions: BTreeMap::new(),
        events: Vec::with_capacity(commit.appends.len()),
        records: BTreeMap::new(),
        works: BTreeMap::new(),
        enqueued: Vec::new(),
        forgotten: Vec::new(),
    };
    for guard in &commit.guards {
        draft.guard(guard)?;
    }
    for append in &commit.appends {
        draft.append(commit, append)?;
    }
    for change in &commit.records {
        draft.record(change)?;
    }
    for change in &commit.work {
        draft.work(change)?;
    }
    let Draft {
        events,
        records,
        works,
        enqueued,
        forgotten,
        ..
    } = draft;
    let mut seqs = Vec::with_capacity(events.len());
    for (leaf, recorded) in events {
        let seq = stored.leaves.len() as u64;
        seqs.push(seq);
        let stream = stored.streams.entry(recorded.stream.clone()).or_default();
        stream.push(recorded);
        stored.leaves.push(leaf);
    }
    let ending = records.values().flatten().filter(|it| it.expires.is_some());
    let swept = ending.count().saturating_mul(SWEPT_FOR_EACH);
    for (key, record) in records {
        match record {
            Some(record) => drop(stored.records.insert(key, record)),
            None => drop(stored.records.remove(&key)),
        }
    }
    sweep(stored, micros(commit.at), swept.min(SWEPT_MAX));
    let mut works = works;
    for id in enqueued {
        if let Some(work) = works.remove(&id) {
            stored.place.insert(id, stored.works.len());
            stored.works.push(Place::Taken(work));
        }
    }
    for (id, work) in works {
        if let Some(place) = stored.place_of(id) {
            *place = Place::Taken(work);
        }
    }
    for id in forgotten {
        if let Some(place) = stored.place_of(id) {
            *place = Place::Empty;
        }
        stored.place.remove(&id);
    }
    for row in &commit.projections {
        if row.value.is_null() {
            stored.projections.remove(&row.key);
        } else {
            let row = Record {
                expires: None,
                revision: 0,
                ..row.clone()
            };
            stored.projections.insert(row.key.clone(), row);
        }
    }
    let writeback = commit.writeback();
    for sealed in &commit.payloads {
        stored
            .payloads
            .entry(sealed.address)
            .or_insert_with(|| Payload {
                sealed: sealed.clone(),
                at: commit.at,
                writeback,
            });
    }
    for address in &commit.erased {
        stored.payloads.remove(address);
    }
    Ok(Committed { seqs })
}

/// Records that ended long ago make room for new ones that will end.
fn sweep(stored: &mut Tenant, now: i64, most: usize) {
    let mut old: Vec<(i64, RecordKey)> = stored
        .records
        .values()
        .filter_map(|it| Some((micros(it.expires?), it.key.clone())))
        .filter(|(end, _)| *end <= now.saturating_sub(KEPT_US))
        .collect();
    old.sort();
    for (_, key) in old.into_iter().take(most) {
        stored.records.remove(&key);
    }
}

impl Draft<'_> {
    fn version(&self, stream: &StreamId) -> u64 {
        let drafted = self.versions.get(stream).copied();
        drafted.unwrap_or_else(|| self.stored.version(stream))
    }

    fn guard(&self, guard: &Guard) -> Result<(), CommitFailed> {
        match guard {
            Guard::StreamAt { .. } if self.forgets.guards => Ok(()),
            Guard::StreamAt { stream, version } => {
                let actual = self.version(stream);
                if actual == *version {
                    return Ok(());
                }
                Err(conflict(stream, actual))
            }
            Guard::Epoch { .. } if self.forgets.epochs => Ok(()),
            Guard::Epoch { lease, epoch } => match self.stored.leases.get(lease) {
                Some(held) if held.epoch == *epoch && self.at < held.until => Ok(()),
                _ => Err(CommitFailed::StaleEpoch),
            },
            Guard::RecordAt { key, revision } => {
                if self.live(key).map(|record| record.revision) == *revision {
                    return Ok(());
                }
                Err(differs(&key.collection))
            }
        }
    }

    fn append(&mut self, commit: &Commit, append: &Append) -> Result<(), CommitFailed> {
        let actual = self.version(&append.stream);
        match append.expected {
            Expected::Version(expected) if expected != actual && !self.forgets.versions => {
                return Err(conflict(&append.stream, actual));
            }
            Expected::Version(_) | Expected::Any => {}
        }
        let version = actual.saturating_add(1);
        let seq = self.stored.leaves.len().saturating_add(self.events.len()) as u64;
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
        .map_err(|failed| Unfit::Leaf(failed.to_string()))?;
        // What is shown is read from the bytes, as from a database.
        let recorded =
            Recorded::from_leaf(&leaf).map_err(|failed| Unfit::Leaf(failed.to_string()))?;
        self.events.push((leaf, recorded));
        self.versions.insert(append.stream.clone(), version);
        Ok(())
    }

    fn live(&self, key: &RecordKey) -> Option<&Record> {
        let found = match self.records.get(key) {
            Some(drafted) => drafted.as_ref(),
            None => self.stored.records.get(key),
        };
        found.filter(|record| record.expires.is_none_or(|end| self.at < micros(end)))
    }

    fn record(&mut self, change: &RecordChange) -> Result<(), CommitFailed> {
        let (key, put) = match change {
            RecordChange::Create(record) => {
                if self.live(&record.key).is_some() {
                    return Err(differs(&record.key.collection));
                }
                (&record.key, Some((record, 1)))
            }
            RecordChange::Put(record) => {
                let before = self.live(&record.key).map_or(0, |live| live.revision);
                (&record.key, Some((record, before.saturating_add(1))))
            }
            RecordChange::Update(record, expected) => match self.live(&record.key) {
                Some(live) if live.revision == *expected => {
                    (&record.key, Some((record, expected.saturating_add(1))))
                }
                _ => return Err(differs(&record.key.collection)),
            },
            RecordChange::Consume(key) => {
                if self.live(key).is_none() {
                    return Err(differs(&key.collection));
                }
                (key, None)
            }
            RecordChange::Delete(key) => (key, None),
        };
        let row = put.map(|(record, revision)| Record {
            revision,
            ..record.clone()
        });
        self.records.insert(key.clone(), row);
        Ok(())
    }

    fn item(&self, id: WorkId) -> Option<&Work> {
        self.works.get(&id).or_else(|| self.stored.work(id))
    }

    fn work(&mut self, change: &WorkChange) -> Result<(), CommitFailed> {
        match change {
            WorkChange::Enqueue(item) => self.enqueue(item),
            WorkChange::Complete { id, claim } => {
                self.move_work(*id, *claim, |work| work.standing = Standing::Done)
            }
            WorkChange::Hold { id, claim } => {
                self.move_work(*id, *claim, |work| work.standing = Standing::Held)
            }
            WorkChange::Defer {
                id,
                claim,
                due,
                kind,
            } => self.move_work(*id, *claim, |work| {
                work.standing = Standing::Waiting;
                work.item.due = *due;
                work.item.kind = kind.unwrap_or(work.item.kind);
            }),
            WorkChange::Forget { id } => match self.item(*id) {
                Some(work) if work.standing == Standing::Done => {
                    self.forgotten.push(*id);
                    Ok(())
                }
                _ => Err(differs("work")),
            },
        }
    }

    fn enqueue(&mut self, item: &WorkItem) -> Result<(), CommitFailed> {
        if self.item(item.id).is_some() {
            return Err(differs("work"));
        }
        self.enqueued.push(item.id);
        let work = Work {
            item: item.clone(),
            standing: Standing::Waiting,
            claim: 0,
            claimed_until: i64::MIN,
        };
        self.works.insert(item.id, work);
        Ok(())
    }

    fn move_work(
        &mut self,
        id: WorkId,
        claim: Option<u64>,
        change: impl FnOnce(&mut Work),
    ) -> Result<(), CommitFailed> {
        let found = self.item(id);
        let mut work = match (claim, found) {
            (Some(claim), Some(work))
                if work.standing == Standing::Claimed
                    && work.claim == claim
                    && (self.at < work.claimed_until || self.forgets.claims) =>
            {
                work.clone()
            }
            (Some(_), _) => return Err(CommitFailed::ClaimLost),
            (None, Some(work)) if work.standing != Standing::Done => work.clone(),
            (None, _) => return Err(differs("work")),
        };
        work.claimed_until = i64::MIN;
        change(&mut work);
        self.works.insert(id, work);
        Ok(())
    }
}

fn fit(commit: &Commit) -> Result<(), Unfit> {
    let parts = commit.appends.len()
        + commit.guards.len()
        + commit.records.len()
        + commit.projections.len()
        + commit.payloads.len()
        + commit.erased.len()
        + commit.work.len();
    if parts > PARTS_MAX {
        return Err(Unfit::TooManyParts(parts));
    }
    let bytes = commit.payloads.iter().map(|it| it.sealed.len()).sum();
    if bytes > BYTES_MAX {
        return Err(Unfit::TooLarge(bytes));
    }
    if holds_zero(commit) {
        return Err(Unfit::ZeroByte);
    }
    Ok(())
}

/// Whether a free text of the commit holds a zero byte, which one of the databases cannot keep.
fn holds_zero(commit: &Commit) -> bool {
    let in_key = |key: &RecordKey| key.collection.contains('\0') || key.key.contains('\0');
    let in_row = |row: &Record| {
        in_key(&row.key)
            || row.sort.contains('\0')
            || row
                .index
                .as_deref()
                .is_some_and(|index| index.contains('\0'))
    };
    let in_record = |change: &RecordChange| match change {
        RecordChange::Create(row) | RecordChange::Put(row) | RecordChange::Update(row, _) => {
            in_row(row)
        }
        RecordChange::Consume(key) | RecordChange::Delete(key) => in_key(key),
    };
    let in_work = |change: &WorkChange| match change {
        WorkChange::Enqueue(item) => {
            let order_key = item.order_key.as_deref().unwrap_or_default();
            item.subject.contains('\0') || order_key.contains('\0')
        }
        WorkChange::Complete { .. }
        | WorkChange::Defer { .. }
        | WorkChange::Hold { .. }
        | WorkChange::Forget { .. } => false,
    };
    let in_guard = |guard: &Guard| match guard {
        Guard::Epoch { lease, .. } => lease.contains('\0'),
        Guard::RecordAt { key, .. } => in_key(key),
        Guard::StreamAt { .. } => false,
    };
    commit.records.iter().any(in_record)
        || commit.projections.iter().any(in_row)
        || commit.work.iter().any(in_work)
        || commit.guards.iter().any(in_guard)
        || commit.payloads.iter().any(|it| it.key.contains('\0'))
}

fn conflict(stream: &StreamId, actual: u64) -> CommitFailed {
    CommitFailed::Conflict {
        stream: stream.clone(),
        actual,
    }
}

fn differs(collection: &str) -> CommitFailed {
    CommitFailed::Record {
        collection: collection.to_owned(),
    }
}
