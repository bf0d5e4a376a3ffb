//! What rests in the memory store, and how it is read. Everything is of one tenant.

use std::collections::BTreeMap;
use std::ops::Bound;

use chaperone_core::Timestamp;
use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::event::{Recorded, StreamId};
use chaperone_core::ids::{TenantId, WorkId, WritebackId};
use chaperone_core::ports::{
    CheckpointRow, Claim, ClaimedWork, LISTED_MAX, Lane, Lease, LeaseRefused, Listing,
    PayloadClass, PayloadCount, PayloadListing, PayloadRow, Record, RecordKey, STREAM_EVENTS_MAX,
    SealedPayload, StoreFailed, WorkItem, WorkRow, WorkState,
};

/// What a store of the simulator forgets to look at; nothing, unless a bug is planted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Forgets {
    /// Expected versions of streams.
    pub(crate) versions: bool,
    /// Guards on streams that a commit does not append to.
    pub(crate) guards: bool,
    /// Whether a lease is still held.
    pub(crate) epochs: bool,
    /// The order of work with the same key.
    pub(crate) order: bool,
    /// That work somebody has is nobody else's.
    pub(crate) claims: bool,
}

/// Where a work item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Waiting,
    Claimed,
    Held,
    Done,
}

/// One work item.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) item: WorkItem,
    pub(super) standing: Standing,
    pub(super) claim: u64,
    /// Microseconds; the past unless claimed.
    pub(super) claimed_until: i64,
}

/// A place in the order in which work was enqueued.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Taken(Work),
    /// Its row was taken away.
    Empty,
}

#[derive(Debug, Clone)]
pub(super) struct Payload {
    pub(super) sealed: SealedPayload,
    pub(super) at: Timestamp,
    pub(super) writeback: Option<WritebackId>,
}

/// A lease as it stands.
#[derive(Debug, Clone)]
pub(super) struct Held {
    holder: String,
    pub(super) epoch: u64,
    /// Microseconds.
    pub(super) until: i64,
}

/// Everything of one tenant.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tenant {
    pub(super) leaves: Vec<Vec<u8>>,
    pub(super) streams: BTreeMap<StreamId, Vec<Recorded>>,
    pub(super) records: BTreeMap<RecordKey, Record>,
    pub(super) projections: BTreeMap<RecordKey, Record>,
    pub(super) payloads: BTreeMap<PayloadAddress, Payload>,
    pub(super) works: Vec<Place>,
    pub(super) place: BTreeMap<WorkId, usize>,
    pub(super) leases: BTreeMap<String, Held>,
    pub(super) hashes: BTreeMap<u64, Digest>,
    pub(super) checkpoints: BTreeMap<u64, CheckpointRow>,
}

pub(super) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
}

fn at_most(limit: u32) -> usize {
    limit.min(LISTED_MAX) as usize
}

fn corrupt(what: &str) -> StoreFailed {
    StoreFailed::Corrupt(what.to_owned())
}

impl Tenant {
    pub(super) fn version(&self, stream: &StreamId) -> u64 {
        self.streams.get(stream).map_or(0, |it| it.len() as u64)
    }

    pub(crate) fn events(&self, stream: &StreamId, after: u64) -> Vec<Recorded> {
        let skipped = usize::try_from(after).unwrap_or(usize::MAX);
        let events = self.streams.get(stream).into_iter().flatten();
        let wanted = events.skip(skipped).take(STREAM_EVENTS_MAX as usize);
        wanted.cloned().collect()
    }

    pub(crate) fn leaves(&self, from: u64, limit: u32) -> Vec<Vec<u8>> {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let wanted = self.leaves.iter().skip(from).take(limit as usize);
        wanted.cloned().collect()
    }

    pub(crate) fn size(&self) -> u64 {
        self.leaves.len() as u64
    }

    pub(crate) fn record(&self, key: &RecordKey, now: Timestamp) -> Option<Record> {
        let found = self.records.get(key);
        found
            .filter(|it| it.expires.is_none_or(|end| micros(now) < micros(end)))
            .cloned()
    }

    pub(crate) fn records(
        &self,
        collection: &str,
        listing: &Listing,
        now: Timestamp,
    ) -> Vec<Record> {
        let live = |it: &&Record| it.expires.is_none_or(|end| micros(now) < micros(end));
        list(of(&self.records, collection).filter(live), listing)
    }

    pub(crate) fn projection(&self, key: &RecordKey) -> Option<Record> {
        self.projections.get(key).cloned()
    }

    pub(crate) fn projections(&self, collection: &str, listing: &Listing) -> Vec<Record> {
        list(of(&self.projections, collection), listing)
    }

    pub(crate) fn projections_count(&self, collection: &str, index: Option<&str>) -> u64 {
        let counts = |it: &&Record| index.is_none() || it.index.as_deref() == index;
        of(&self.projections, collection).filter(counts).count() as u64
    }

    pub(crate) fn payload(&self, address: &PayloadAddress) -> Option<SealedPayload> {
        self.payloads.get(address).map(|it| it.sealed.clone())
    }

    pub(crate) fn payloads(&self, listing: &PayloadListing) -> Vec<PayloadRow> {
        let mut rows: Vec<PayloadRow> = self
            .payloads
            .values()
            .filter(|it| it.sealed.class == listing.class && it.at < listing.before)
            .filter(|it| listing.key.as_ref().is_none_or(|key| *key == it.sealed.key))
            .filter(|it| {
                listing
                    .after
                    .is_none_or(|after| (it.at, it.sealed.address) > after)
            })
            .map(|it| PayloadRow {
                address: it.sealed.address,
                class: it.sealed.class,
                key: it.sealed.key.clone(),
                writeback: it.writeback,
                at: it.at,
            })
            .collect();
        rows.sort_by_key(|row| (row.at, row.address));
        rows.truncate(at_most(listing.limit));
        rows
    }

    pub(crate) fn payload_counts(&self) -> Vec<PayloadCount> {
        let mut counts: Vec<PayloadCount> = PayloadClass::ALL
            .into_iter()
            .filter_map(|class| {
                let of_class = self.payloads.values().filter(|it| it.sealed.class == class);
                let ages = of_class.map(|it| it.at);
                Some(PayloadCount {
                    class,
                    count: ages.clone().count() as u64,
                    oldest: ages.min()?,
                })
            })
            .collect();
        counts.sort_by_key(|it| it.class.as_str());
        counts
    }

    pub(crate) fn records_expired(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Vec<(RecordKey, Timestamp)> {
        let mut ended: Vec<(RecordKey, Timestamp)> = self
            .records
            .values()
            .filter_map(|it| Some((it.key.clone(), it.expires?)))
            .filter(|(_, end)| micros(*end) < micros(before))
            .collect();
        ended.sort_by_key(|(_, end)| *end);
        ended.truncate(at_most(limit));
        ended
    }

    fn taken(&self) -> impl Iterator<Item = &Work> {
        self.works.iter().filter_map(|place| match place {
            Place::Taken(work) => Some(work),
            Place::Empty => None,
        })
    }

    pub(super) fn work(&self, id: WorkId) -> Option<&Work> {
        let place = self.place.get(&id)?;
        match self.works.get(*place)? {
            Place::Taken(work) => Some(work),
            Place::Empty => None,
        }
    }

    pub(super) fn place_of(&mut self, id: WorkId) -> Option<&mut Place> {
        let place = self.place.get(&id)?;
        self.works.get_mut(*place)
    }

    pub(crate) fn work_done(&self, before: Timestamp, limit: u32) -> Vec<WorkId> {
        let mut done: Vec<&Work> = self
            .taken()
            .filter(|it| it.standing == Standing::Done && it.item.due < before)
            .collect();
        done.sort_by_key(|it| it.item.due);
        done.iter()
            .take(at_most(limit))
            .map(|it| it.item.id)
            .collect()
    }

    pub(crate) fn open_work(&self, limit: u32) -> Vec<WorkRow> {
        let open = self.taken().filter_map(|it| {
            let state = match it.standing {
                Standing::Waiting => WorkState::Waiting,
                Standing::Claimed => WorkState::Claimed,
                Standing::Held => WorkState::Held,
                Standing::Done => return None,
            };
            let item = it.item.clone();
            Some(WorkRow { item, state })
        });
        open.take(at_most(limit)).collect()
    }

    pub(super) fn claim_due(
        &mut self,
        tenant: &TenantId,
        claim: &Claim,
        forgets: Forgets,
    ) -> Vec<ClaimedWork> {
        let now = micros(claim.now);
        let mut first_of: BTreeMap<&str, WorkId> = BTreeMap::new();
        let mut due: Vec<(Timestamp, usize)> = Vec::new();
        for (position, place) in self.works.iter().enumerate() {
            let Place::Taken(work) = place else { continue };
            if work.standing == Standing::Done {
                continue;
            }
            let is_first = match work.item.order_key.as_deref() {
                Some(key) if !forgets.order => {
                    *first_of.entry(key).or_insert(work.item.id) == work.item.id
                }
                _ => true,
            };
            let in_lane = match claim.lane {
                None => true,
                Some(Lane::Ordered) => work.item.order_key.is_some(),
                Some(Lane::Free) => work.item.order_key.is_none(),
            };
            let is_free = match work.standing {
                Standing::Waiting => true,
                Standing::Claimed => work.claimed_until <= now || forgets.claims,
                Standing::Held | Standing::Done => false,
            };
            if is_first && in_lane && is_free && micros(work.item.due) <= now {
                due.push((work.item.due, position));
            }
        }
        due.sort_unstable();
        let until = now.saturating_add(claim.lease_ms.saturating_mul(1_000));
        let mut claimed = Vec::new();
        for (_, position) in due.into_iter().take(at_most(claim.limit)) {
            if let Some(Place::Taken(work)) = self.works.get_mut(position) {
                work.standing = Standing::Claimed;
                work.claim = work.claim.saturating_add(1);
                work.claimed_until = until;
                claimed.push(ClaimedWork {
                    tenant: tenant.clone(),
                    item: work.item.clone(),
                    claim: work.claim,
                });
            }
        }
        claimed
    }

    pub(super) fn lease(
        &mut self,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl_ms: i64,
    ) -> Result<Lease, LeaseRefused> {
        let epoch = match self.leases.get(name) {
            None => 1,
            Some(held) if held.holder == holder => held.epoch,
            Some(held) if held.until <= micros(now) => held.epoch.saturating_add(1),
            Some(held) => {
                let until = timestamp(held.until);
                return Err(LeaseRefused::Held { until });
            }
        };
        let until = micros(now).saturating_add(ttl_ms.saturating_mul(1_000));
        let held = Held {
            holder: holder.to_owned(),
            epoch,
            until,
        };
        self.leases.insert(name.to_owned(), held);
        Ok(Lease {
            epoch,
            until: timestamp(until),
        })
    }

    pub(crate) fn tree_hashes(&self, indexes: &[u64]) -> Result<Vec<Digest>, StoreFailed> {
        let hash = |index: &u64| self.hashes.get(index).copied();
        let found: Option<Vec<Digest>> = indexes.iter().map(hash).collect();
        found.ok_or_else(|| corrupt("a tree hash is missing"))
    }

    pub(crate) fn checkpoint(&self) -> Option<CheckpointRow> {
        self.checkpoints.values().next_back().cloned()
    }

    /// Every checkpoint, the oldest first.
    pub(crate) fn checkpoints(&self) -> impl Iterator<Item = &CheckpointRow> {
        self.checkpoints.values()
    }

    pub(super) fn checkpoint_put(
        &mut self,
        size_before: u64,
        hashes: &[(u64, Digest)],
        checkpoint: CheckpointRow,
    ) -> Result<bool, StoreFailed> {
        if self.checkpoint().map_or(0, |it| it.size) != size_before {
            return Ok(false);
        }
        if checkpoint.size < size_before {
            return Err(corrupt("a checkpoint would shrink the tree"));
        }
        if hashes
            .iter()
            .any(|(index, _)| self.hashes.contains_key(index))
        {
            return Err(corrupt("a tree hash would be replaced"));
        }
        self.hashes.extend(hashes.iter().copied());
        self.checkpoints.insert(checkpoint.size, checkpoint);
        Ok(true)
    }
}

/// The rows of one collection, in the order of their keys.
fn of<'r>(
    rows: &'r BTreeMap<RecordKey, Record>,
    collection: &'r str,
) -> impl Iterator<Item = &'r Record> {
    let from = RecordKey::new(collection, "");
    rows.range((Bound::Included(from), Bound::Unbounded))
        .take_while(move |(key, _)| key.collection == collection)
        .map(|(_, row)| row)
}

fn list<'r>(rows: impl Iterator<Item = &'r Record>, listing: &Listing) -> Vec<Record> {
    let place = |row: &Record| (row.sort.clone(), row.key.key.clone());
    let mut found: Vec<&Record> = rows
        .filter(|row| listing.index.is_none() || row.index == listing.index)
        .filter(|row| match &listing.after {
            None => true,
            Some(after) if listing.descending => place(row) < *after,
            Some(after) => place(row) > *after,
        })
        .collect();
    found.sort_by_key(|row| place(row));
    if listing.descending {
        found.reverse();
    }
    found.truncate(at_most(listing.limit));
    found.into_iter().cloned().collect()
}
