//! A store whose commits can be made to fail, and whose calls can be held: for tests of what happens when
//! nothing can be recorded, or when something else happens first.
//!
//! Not a store of its own; it stands in front of one and passes everything else on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chaperone_core::Timestamp;
use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::event::{Recorded, StreamId};
use chaperone_core::ids::{TenantId, WorkId};
use chaperone_core::ports::{
    CheckpointRow, Claim, ClaimedWork, Commit, CommitFailed, Committed, Lease, LeaseRefused,
    Listing, PayloadCount, PayloadListing, PayloadRow, Record, RecordKey, SealedPayload, Store,
    StoreFailed, WorkRow,
};
use tokio::sync::Notify;

/// A store that can be told to take no commits, or to lose the answer to one.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    refuses_commits: AtomicBool,
    loses_answer: AtomicBool,
    next_commit: Mutex<Option<Arc<Hold>>>,
    next_claim: Mutex<Option<Arc<Hold>>>,
}

/// One call that is held.
#[derive(Debug, Default)]
pub struct Hold {
    arrived: Notify,
    released: Notify,
}

impl Hold {
    /// Waits until the call is there.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Lets it go on.
    pub fn release(&self) {
        self.released.notify_one();
    }

    async fn pass(&self) {
        self.arrived.notify_one();
        self.released.notified().await;
    }
}

/// Waits where a call is to be held.
async fn pass(held: &Mutex<Option<Arc<Hold>>>) {
    let hold = held.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(hold) = hold {
        hold.pass().await;
    }
}

fn hold(held: &Mutex<Option<Arc<Hold>>>) -> Arc<Hold> {
    let hold = Arc::new(Hold::default());
    *held.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&hold));
    hold
}

impl FaultyStore {
    /// In front of another store; works until told otherwise.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            refuses_commits: AtomicBool::new(false),
            loses_answer: AtomicBool::new(false),
            next_commit: Mutex::default(),
            next_claim: Mutex::default(),
        }
    }

    /// Holds the next commit, before anything of it happens.
    pub fn hold_next_commit(&self) -> Arc<Hold> {
        hold(&self.next_commit)
    }

    /// Holds the next claim of work, before anything is claimed.
    pub fn hold_next_claim(&self) -> Arc<Hold> {
        hold(&self.next_claim)
    }

    /// Makes every commit fail as unavailable, or work again.
    pub fn refuse_commits(&self, refuse: bool) {
        self.refuses_commits.store(refuse, Ordering::SeqCst);
    }

    /// Makes the next commit happen without its caller being told.
    pub fn lose_next_answer(&self) {
        self.loses_answer.store(true, Ordering::SeqCst);
    }
}

impl std::fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyStore").finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn commit(&self, commit: Commit) -> Result<Committed, CommitFailed> {
        if self.refuses_commits.load(Ordering::SeqCst) {
            return Err(CommitFailed::Unavailable("told to refuse".into()));
        }
        pass(&self.next_commit).await;
        let loses_answer = self.loses_answer.swap(false, Ordering::SeqCst);
        match self.inner.commit(commit).await {
            Ok(_) if loses_answer => Err(CommitFailed::Indeterminate("told to lose it".into())),
            committed => committed,
        }
    }

    async fn stream_after(
        &self,
        tenant: &TenantId,
        stream: &StreamId,
        version: u64,
    ) -> Result<Vec<Recorded>, StoreFailed> {
        self.inner.stream_after(tenant, stream, version).await
    }

    async fn leaves(
        &self,
        tenant: &TenantId,
        from: u64,
        limit: u32,
    ) -> Result<Vec<Vec<u8>>, StoreFailed> {
        self.inner.leaves(tenant, from, limit).await
    }

    async fn size(&self, tenant: &TenantId) -> Result<u64, StoreFailed> {
        self.inner.size(tenant).await
    }

    async fn record(
        &self,
        tenant: &TenantId,
        key: &RecordKey,
        now: Timestamp,
    ) -> Result<Option<Record>, StoreFailed> {
        self.inner.record(tenant, key, now).await
    }

    async fn records(
        &self,
        tenant: &TenantId,
        collection: &str,
        listing: Listing,
        now: Timestamp,
    ) -> Result<Vec<Record>, StoreFailed> {
        self.inner.records(tenant, collection, listing, now).await
    }

    async fn projection(
        &self,
        tenant: &TenantId,
        key: &RecordKey,
    ) -> Result<Option<Record>, StoreFailed> {
        self.inner.projection(tenant, key).await
    }

    async fn projections(
        &self,
        tenant: &TenantId,
        collection: &str,
        listing: Listing,
    ) -> Result<Vec<Record>, StoreFailed> {
        self.inner.projections(tenant, collection, listing).await
    }

    async fn projections_count(
        &self,
        tenant: &TenantId,
        collection: &str,
        index: Option<&str>,
    ) -> Result<u64, StoreFailed> {
        self.inner
            .projections_count(tenant, collection, index)
            .await
    }

    async fn projections_clear(&self, tenant: &TenantId) -> Result<(), StoreFailed> {
        self.inner.projections_clear(tenant).await
    }

    async fn payload(
        &self,
        tenant: &TenantId,
        address: &PayloadAddress,
    ) -> Result<Option<SealedPayload>, StoreFailed> {
        self.inner.payload(tenant, address).await
    }

    async fn payloads(
        &self,
        tenant: &TenantId,
        listing: PayloadListing,
    ) -> Result<Vec<PayloadRow>, StoreFailed> {
        self.inner.payloads(tenant, listing).await
    }

    async fn payload_counts(&self, tenant: &TenantId) -> Result<Vec<PayloadCount>, StoreFailed> {
        self.inner.payload_counts(tenant).await
    }

    async fn records_expired(
        &self,
        tenant: &TenantId,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(RecordKey, Timestamp)>, StoreFailed> {
        self.inner.records_expired(tenant, before, limit).await
    }

    async fn work_done(
        &self,
        tenant: &TenantId,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<WorkId>, StoreFailed> {
        self.inner.work_done(tenant, before, limit).await
    }

    async fn claim_due(&self, claim: Claim) -> Result<Vec<ClaimedWork>, StoreFailed> {
        pass(&self.next_claim).await;
        self.inner.claim_due(claim).await
    }

    async fn work(&self, tenant: &TenantId, limit: u32) -> Result<Vec<WorkRow>, StoreFailed> {
        self.inner.work(tenant, limit).await
    }

    async fn lease(
        &self,
        tenant: &TenantId,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl_ms: i64,
    ) -> Result<Lease, LeaseRefused> {
        self.inner.lease(tenant, name, holder, now, ttl_ms).await
    }

    async fn tree_hashes(
        &self,
        tenant: &TenantId,
        indexes: &[u64],
    ) -> Result<Vec<Digest>, StoreFailed> {
        self.inner.tree_hashes(tenant, indexes).await
    }

    async fn checkpoint(&self, tenant: &TenantId) -> Result<Option<CheckpointRow>, StoreFailed> {
        self.inner.checkpoint(tenant).await
    }

    async fn checkpoint_put(
        &self,
        tenant: &TenantId,
        size_before: u64,
        hashes: &[(u64, Digest)],
        checkpoint: CheckpointRow,
    ) -> Result<bool, StoreFailed> {
        self.inner
            .checkpoint_put(tenant, size_before, hashes, checkpoint)
            .await
    }

    async fn tenants(&self) -> Result<Vec<TenantId>, StoreFailed> {
        self.inner.tenants().await
    }
}
