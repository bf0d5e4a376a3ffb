//! The store: events, records, projections, payloads, work and tree hashes in one database, so that
//! a decision, its event and the work it creates commit together.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::digest::{Digest, PayloadAddress};
use crate::event::{Event, Recorded, StreamId};
use crate::ids::{TenantId, WorkId, WritebackId};
use crate::ports::work::{Claim, ClaimedWork, WorkChange, WorkRow};
use crate::principal::Actor;

/// What the stream's version must be for an append to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Exactly this version; 0 for a stream that must not exist.
    Version(u64),
    /// Any version: for access events, which append unconditionally.
    Any,
}

/// One event to append.
#[derive(Debug, Clone)]
pub struct Append {
    /// The stream.
    pub stream: StreamId,
    /// Version before this append. Several appends to one stream in one commit count on.
    pub expected: Expected,
    /// What happened.
    pub event: Event,
}

/// A condition on something that the commit does not change.
#[derive(Debug, Clone)]
pub enum Guard {
    /// The stream is still at this version.
    StreamAt {
        /// The stream.
        stream: StreamId,
        /// Its version.
        version: u64,
    },
    /// The lease of this name still has this epoch and has not run out at the commit's time.
    Epoch {
        /// Name of the lease.
        lease: String,
        /// The epoch.
        epoch: u64,
    },
    /// The record still has this revision; `None` for a record that must not exist.
    RecordAt {
        /// The record.
        key: RecordKey,
        /// Its revision.
        revision: Option<u64>,
    },
}

/// Names one record or projection row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// The collection, a fixed name of the engine.
    pub collection: String,
    /// The key inside the collection. Never PHI.
    pub key: String,
}

impl RecordKey {
    /// Names a record.
    pub fn new(collection: &str, key: impl ToString) -> Self {
        Self {
            collection: collection.to_owned(),
            key: key.to_string(),
        }
    }
}

/// One record or projection row. Values are JSON; anything about a patient inside is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub key: RecordKey,
    /// Groups rows for listing, such as a state; listing is by exact match.
    pub index: Option<String>,
    /// Sorts rows in a listing, ascending bytewise, before the key.
    pub sort: String,
    /// The value.
    pub value: serde_json::Value,
    /// After this the record counts as absent and may be swept away.
    pub expires: Option<Timestamp>,
    /// Counts changes, from 1. Set by the store.
    pub revision: u64,
}

impl Record {
    /// A record without index or expiry.
    pub fn new(collection: &str, key: impl ToString, value: serde_json::Value) -> Self {
        Self {
            key: RecordKey::new(collection, key),
            index: None,
            sort: String::new(),
            value,
            expires: None,
            revision: 0,
        }
    }

    /// The same record in a group.
    #[must_use]
    pub fn indexed(mut self, index: impl Into<String>, sort: impl Into<String>) -> Self {
        self.index = Some(index.into());
        self.sort = sort.into();
        self
    }

    /// The same record with an end.
    #[must_use]
    pub fn expiring(mut self, at: Timestamp) -> Self {
        self.expires = Some(at);
        self
    }
}

/// A change to an authoritative record.
#[derive(Debug, Clone)]
pub enum RecordChange {
    /// Must not exist (an expired record does not exist). The guard of everything single-use.
    Create(Record),
    /// Replaces whatever is there.
    Put(Record),
    /// Must exist with this revision.
    Update(Record, u64),
    /// Must exist, and is gone afterwards: how single-use things are consumed.
    Consume(RecordKey),
    /// Gone afterwards, whether it existed or not.
    Delete(RecordKey),
}

/// Which rows to list.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Only rows with this index.
    pub index: Option<String>,
    /// Only rows whose `(sort, key)` comes after this one.
    pub after: Option<(String, String)>,
    /// Newest (greatest sort) first.
    pub descending: bool,
    /// At most this many, capped by the store at [`LISTED_MAX`].
    pub limit: u32,
}

/// Most rows that one listing gives.
pub const LISTED_MAX: u32 = 1_000;

impl Default for Listing {
    fn default() -> Self {
        Self {
            index: None,
            after: None,
            descending: false,
            limit: LISTED_MAX,
        }
    }
}

/// Separate stores of the vault; each class has keys and retention of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayloadClass {
    /// Content of the record: write orders, base versions.
    Clinical,
    /// What agents sent: arguments, rationale.
    Transcript,
    /// Findings and other derived data.
    Derived,
    /// What humans wrote when deciding.
    ApprovalNote,
    /// Texts of operators that concern no patient.
    Operational,
}

impl PayloadClass {
    /// Every class.
    pub const ALL: [PayloadClass; 5] = [
        PayloadClass::Clinical,
        PayloadClass::Transcript,
        PayloadClass::Derived,
        PayloadClass::ApprovalNote,
        PayloadClass::Operational,
    ];

    /// The stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            PayloadClass::Clinical => "clinical",
            PayloadClass::Transcript => "transcript",
            PayloadClass::Derived => "derived",
            PayloadClass::ApprovalNote => "approval_note",
            PayloadClass::Operational => "operational",
        }
    }
}

/// An encrypted payload, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedPayload {
    /// Where it is found.
    pub address: PayloadAddress,
    /// Its store.
    pub class: PayloadClass,
    /// The key it is sealed under.
    pub key: String,
    /// Ciphertext with nonce; opaque to the store.
    pub sealed: Vec<u8>,
}

/// One payload as retention sees it; its content stays where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadRow {
    /// Where it is found.
    pub address: PayloadAddress,
    /// Its store.
    pub class: PayloadClass,
    /// The key it is sealed under.
    pub key: String,
    /// The write-back that it was put with; none for what belongs to none, and for what a version put that did
    /// not note it.
    pub writeback: Option<WritebackId>,
    /// When it was put; for what a version put that did not note it, when the store was brought up to date.
    pub at: Timestamp,
}

/// Which payloads to list: one class, oldest first.
#[derive(Debug, Clone)]
pub struct PayloadListing {
    /// The class.
    pub class: PayloadClass,
    /// Only those sealed under this key. Looked for row by row, so for rare work alone.
    pub key: Option<String>,
    /// Only those put before this.
    pub before: Timestamp,
    /// Only those that come after this one.
    pub after: Option<(Timestamp, PayloadAddress)>,
    /// At most this many, capped by the store at [`LISTED_MAX`].
    pub limit: u32,
}

/// How many payloads of a class there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadCount {
    /// The class.
    pub class: PayloadClass,
    /// How many.
    pub count: u64,
    /// When the oldest was put.
    pub oldest: Timestamp,
}

/// Everything that happens together, or not at all. One tenant.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The organisation.
    pub tenant: TenantId,
    /// When, by the engine's clock.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// Events, in order.
    pub appends: Vec<Append>,
    /// Conditions.
    pub guards: Vec<Guard>,
    /// Authoritative records.
    pub records: Vec<RecordChange>,
    /// Projection rows to put; a row whose value is `null` is removed.
    pub projections: Vec<Record>,
    /// Payloads. The same address twice is fine: it is the same payload. They belong to the write-back whose
    /// stream the commit appends to, if there is one.
    pub payloads: Vec<SealedPayload>,
    /// Payloads that go, whether they are there or not.
    pub erased: Vec<PayloadAddress>,
    /// Work.
    pub work: Vec<WorkChange>,
}

impl Commit {
    /// An empty commit.
    pub fn new(tenant: TenantId, at: Timestamp, actor: Actor) -> Self {
        Self {
            tenant,
            at,
            actor,
            appends: Vec::new(),
            guards: Vec::new(),
            records: Vec::new(),
            projections: Vec::new(),
            payloads: Vec::new(),
            erased: Vec::new(),
            work: Vec::new(),
        }
    }

    /// The write-back that the commit's payloads belong to: the first whose stream it appends to.
    pub fn writeback(&self) -> Option<WritebackId> {
        self.appends.iter().find_map(|append| match append.stream {
            StreamId::Writeback(id) => Some(id),
            _ => None,
        })
    }

    /// Adds an event.
    pub fn append(&mut self, stream: StreamId, expected: Expected, event: Event) -> &mut Self {
        self.appends.push(Append {
            stream,
            expected,
            event,
        });
        self
    }
}

/// What a commit made durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Sequence numbers of the events, in order.
    pub seqs: Vec<u64>,
}

/// Why nothing of a commit happened, or why it is not known.
#[derive(Debug, thiserror::Error)]
pub enum CommitFailed {
    /// A stream is at another version: somebody else was first. Read again and decide again.
    #[error("stream `{stream}` is at version {actual}")]
    Conflict {
        /// The stream.
        stream: StreamId,
        /// Its version.
        actual: u64,
    },
    /// A record that must not exist does, or the reverse, or its revision differs.
    #[error("a record of `{collection}` is not as expected")]
    Record {
        /// The collection.
        collection: String,
    },
    /// A lease is no longer held.
    #[error("the writer's lease has moved on")]
    StaleEpoch,
    /// A claim on work no longer holds.
    #[error("the claim on this work has run out")]
    ClaimLost,
    /// Nothing happened, and trying again later may help.
    #[error("the store is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection broke while committing: it may have happened. Read the stream to find out.
    #[error("the store did not say whether it committed")]
    Indeterminate(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a read failed. Reads have no effect and may be repeated.
#[derive(Debug, thiserror::Error)]
pub enum StoreFailed {
    /// Trying again later may help.
    #[error("the store is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is stored cannot be read; a human must look.
    #[error("stored data is not what Chaperone writes: {0}")]
    Corrupt(String),
}

/// A writer's lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Grows with each change of holder.
    pub epoch: u64,
    /// When it runs out unless renewed.
    pub until: Timestamp,
}

/// Somebody else holds the lease.
#[derive(Debug, thiserror::Error)]
pub enum LeaseRefused {
    /// Held by another until then.
    #[error("the lease is held by another node")]
    Held {
        /// Until when.
        until: Timestamp,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// A signed tree head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRow {
    /// Leaves covered.
    pub size: u64,
    /// Root over them.
    pub root: Digest,
    /// The signed note (C2SP tlog-checkpoint).
    pub note: String,
    /// When it was signed.
    pub at: Timestamp,
}

/// Most events that one read of a stream gives.
pub const STREAM_EVENTS_MAX: u32 = 10_000;

/// The store contract. All methods are safe to call from many tasks; every method names its tenant,
/// and no method can reach another tenant's rows (invariant 14).
///
/// **Durability.** When `commit` returns `Ok`, everything in it survives the loss of process and power.
/// **Order.** Sequence numbers of a tenant have no gaps and follow commit order.
/// **Atomicity.** A commit happens as a whole or not at all, also when it shares a database
/// transaction with others (group commit); one refused commit does not disturb its neighbours.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Commits. Retry duty: after `Unavailable` the caller may repeat the same commit; after
    /// `Indeterminate` it must read first; after the others it must decide again.
    async fn commit(&self, commit: Commit) -> Result<Committed, CommitFailed>;

    /// The events of a stream behind a version, oldest first; empty when there is none. At most
    /// 10,000: who must have them all asks again behind the last one.
    async fn stream_after(
        &self,
        tenant: &TenantId,
        stream: &StreamId,
        version: u64,
    ) -> Result<Vec<Recorded>, StoreFailed>;

    /// The first 10,000 events of a stream, oldest first. For streams that cannot grow beyond that.
    async fn stream(
        &self,
        tenant: &TenantId,
        stream: &StreamId,
    ) -> Result<Vec<Recorded>, StoreFailed> {
        self.stream_after(tenant, stream, 0).await
    }

    /// Stored leaf bytes from a sequence number on, oldest first.
    async fn leaves(
        &self,
        tenant: &TenantId,
        from: u64,
        limit: u32,
    ) -> Result<Vec<Vec<u8>>, StoreFailed>;

    /// How many events the tenant has.
    async fn size(&self, tenant: &TenantId) -> Result<u64, StoreFailed>;

    /// One authoritative record; expired ones are absent at `now`.
    async fn record(
        &self,
        tenant: &TenantId,
        key: &RecordKey,
        now: Timestamp,
    ) -> Result<Option<Record>, StoreFailed>;

    /// Records of a collection, in `(sort, key)` order, without expired ones.
    async fn records(
        &self,
        tenant: &TenantId,
        collection: &str,
        listing: Listing,
        now: Timestamp,
    ) -> Result<Vec<Record>, StoreFailed>;

    /// One projection row.
    async fn projection(
        &self,
        tenant: &TenantId,
        key: &RecordKey,
    ) -> Result<Option<Record>, StoreFailed>;

    /// Projection rows of a collection, in `(sort, key)` order.
    async fn projections(
        &self,
        tenant: &TenantId,
        collection: &str,
        listing: Listing,
    ) -> Result<Vec<Record>, StoreFailed>;

    /// How many projection rows a collection has, in one group or in all.
    async fn projections_count(
        &self,
        tenant: &TenantId,
        collection: &str,
        index: Option<&str>,
    ) -> Result<u64, StoreFailed>;

    /// Drops all projection rows of the tenant, before a replay.
    async fn projections_clear(&self, tenant: &TenantId) -> Result<(), StoreFailed>;

    /// One sealed payload.
    async fn payload(
        &self,
        tenant: &TenantId,
        address: &PayloadAddress,
    ) -> Result<Option<SealedPayload>, StoreFailed>;

    /// Payloads of one class, oldest first, without their content.
    async fn payloads(
        &self,
        tenant: &TenantId,
        listing: PayloadListing,
    ) -> Result<Vec<PayloadRow>, StoreFailed>;

    /// How many payloads there are, by class; classes without any are left out.
    async fn payload_counts(&self, tenant: &TenantId) -> Result<Vec<PayloadCount>, StoreFailed>;

    /// Records that expired before a time, those that ended first first.
    async fn records_expired(
        &self,
        tenant: &TenantId,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(RecordKey, Timestamp)>, StoreFailed>;

    /// Work that is done and was due before a time, the oldest first.
    async fn work_done(
        &self,
        tenant: &TenantId,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<WorkId>, StoreFailed>;

    /// Claims due work of one tenant, at most one item per order key: the oldest unfinished one, and
    /// only if it is waiting and due, or its claim has run out. A held item blocks its order key.
    async fn claim_due(&self, claim: Claim) -> Result<Vec<ClaimedWork>, StoreFailed>;

    /// Unfinished work of a tenant, oldest first.
    async fn work(&self, tenant: &TenantId, limit: u32) -> Result<Vec<WorkRow>, StoreFailed>;

    /// Takes or renews a lease. A new holder gets the next epoch, and only after the old lease ran out.
    async fn lease(
        &self,
        tenant: &TenantId,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl_ms: i64,
    ) -> Result<Lease, LeaseRefused>;

    /// Tree hashes by their storage index (RFC 6962 tree, as `tlog_tiles` numbers them).
    async fn tree_hashes(
        &self,
        tenant: &TenantId,
        indexes: &[u64],
    ) -> Result<Vec<Digest>, StoreFailed>;

    /// The newest checkpoint.
    async fn checkpoint(&self, tenant: &TenantId) -> Result<Option<CheckpointRow>, StoreFailed>;

    /// Stores the next checkpoint and the tree hashes it adds, if the newest one still has
    /// `size_before` leaves (0 for none). False when somebody else was first.
    async fn checkpoint_put(
        &self,
        tenant: &TenantId,
        size_before: u64,
        hashes: &[(u64, Digest)],
        checkpoint: CheckpointRow,
    ) -> Result<bool, StoreFailed>;

    /// Tenants that have events.
    async fn tenants(&self) -> Result<Vec<TenantId>, StoreFailed>;
}
