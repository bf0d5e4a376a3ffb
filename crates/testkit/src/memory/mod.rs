//! A store in memory that keeps the contract of the databases: `crates/store/tests/contract` runs the same
//! cases on it as on them.
//!
//! Not a cache and not a database: nothing outlives the process, and a call takes no time. It shares no
//! code with the adapters of the databases, so that what they agree on is the contract. The simulator puts
//! time, failures and planted bugs in front of [`Tables`]; [`MemoryStore`] is the plain store.

mod commit;
mod rows;

use std::collections::BTreeMap;
use std::sync::Mutex;

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

pub(crate) use self::rows::{Forgets, Tenant};
use crate::time::lock;

/// What rests for all tenants.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tables {
    tenants: BTreeMap<TenantId, Tenant>,
    empty: Tenant,
    pub(crate) forgets: Forgets,
}

impl Tables {
    /// What rests for one tenant.
    pub(crate) fn of(&self, tenant: &TenantId) -> &Tenant {
        self.tenants.get(tenant).unwrap_or(&self.empty)
    }

    fn of_mut(&mut self, tenant: &TenantId) -> &mut Tenant {
        self.tenants.entry(tenant.clone()).or_default()
    }

    pub(crate) fn commit(&mut self, commit: &Commit) -> Result<Committed, CommitFailed> {
        let forgets = self.forgets;
        commit::apply(self.of_mut(&commit.tenant), commit, forgets)
    }

    pub(crate) fn claim_due(&mut self, claim: &Claim) -> Vec<ClaimedWork> {
        let forgets = self.forgets;
        self.of_mut(&claim.tenant)
            .claim_due(&claim.tenant, claim, forgets)
    }

    pub(crate) fn lease(
        &mut self,
        tenant: &TenantId,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl_ms: i64,
    ) -> Result<Lease, LeaseRefused> {
        self.of_mut(tenant).lease(name, holder, now, ttl_ms)
    }

    pub(crate) fn checkpoint_put(
        &mut self,
        tenant: &TenantId,
        size_before: u64,
        hashes: &[(u64, Digest)],
        checkpoint: CheckpointRow,
    ) -> Result<bool, StoreFailed> {
        self.of_mut(tenant)
            .checkpoint_put(size_before, hashes, checkpoint)
    }

    pub(crate) fn projections_clear(&mut self, tenant: &TenantId) {
        self.of_mut(tenant).projections.clear();
    }

    /// Changes a stored leaf, as nobody may.
    pub(crate) fn spoil(&mut self, tenant: &TenantId, nth: usize) {
        if let Some(byte) = self
            .of_mut(tenant)
            .leaves
            .get_mut(nth)
            .and_then(|leaf| leaf.last_mut())
        {
            *byte = b' ';
        }
    }

    pub(crate) fn tenants(&self) -> Vec<TenantId> {
        let with_events = self.tenants.iter().filter(|(_, it)| it.size() > 0);
        with_events.map(|(tenant, _)| tenant.clone()).collect()
    }
}

/// A store in memory, which never fails.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Tables>);

#[async_trait]
impl Store for MemoryStore {
    async fn commit(&self, commit: Commit) -> Result<Committed, CommitFailed> {
        lock(&self.0).commit(&commit)
    }

    async fn stream_after(
        &self,
        tenant: &TenantId,
        stream: &StreamId,
        version: u64,
    ) -> Result<Vec<Recorded>, StoreFailed> {
        Ok(lock(&self.0).of(tenant).events(stream, version))
    }

    async fn leaves(
        &self,
        tenant: &TenantId,
        from: u64,
        limit: u32,
    ) -> Result<Vec<Vec<u8>>, StoreFailed> {
        Ok(lock(&self.0).of(tenant).leaves(from, limit))
    }

    async fn size(&self, tenant: &TenantId) -> Result<u64, StoreFailed> {
        Ok(lock(&self.0).of(tenant).size())
    }

    async fn record(
        &self,
        tenant: &TenantId,
        key: &RecordKey,
        now: Timestamp,
    ) -> Result<Option<Record>, StoreFailed> {
        Ok(lock(&self.0).of(tenant).record(key, now))
    }

    async fn records(
        &self,
        tenant: &TenantId,
        collection: &str,
        listing: Listing,
        now: Timestamp,
    ) -> Result<Vec<Record>, StoreFailed> {
        Ok(lock(&self.0).of(tenant).records(collection, &listing, now))
    }

    async fn projection(
        &self,
        tenant: &TenantId,
        key: &RecordKey,
    ) -> Result<Option<Record>, StoreFailed> {
        Ok(lock(&self.0).of(tenant).projection(key))
    }

    async fn projections(
        &self,
        tenant: &TenantId,
        collection: &str,
        listing: Listing,
    ) -> Result<Vec<Record>, StoreFailed> {
        Ok(lock(&self.0).of(tenant).projections(collection, &listing))
    }

    async fn projections_count(
        &self,
        tenant: &TenantId,
        collection: &str,
        index: Option<&str>,
    ) -> Result<u64, StoreFailed> {
        Ok(lock(&self.0)
            .of(tenant)
            .projections_count(collection, index))
    }

    async fn projections_clear(&self, tenant: &TenantId) -> Result<(), StoreFailed> {
        lock(&self.0).projections_clear(tenant);
        Ok(())
    }

    async fn payload(
        &self,
        tenant: &TenantId,
        address: &PayloadAddress,
    ) -> Result<Option<SealedPayload>, StoreFailed> {
        Ok(lock(&self.0).of(tenant).payload(address))
    }

    async fn payloads(
        &self,
        tenant: &TenantId,
        listing: PayloadListing,
    ) -> Result<Vec<PayloadRow>, StoreFailed> {
        Ok(lock(&self.0).of(tenant).payloads(&listing))
    }

    async fn payload_counts(&self, tenant: &TenantId) -> Result<Vec<PayloadCount>, StoreFailed> {
        Ok(lock(&self.0).of(tenant).payload_counts())
    }

    async fn records_expired(
        &self,
        tenant: &TenantId,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(RecordKey, Timestamp)>, StoreFailed> {
        Ok(lock(&self.0).of(tenant).records_expired(before, limit))
    }

    async fn work_done(
        &self,
        tenant: &TenantId,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<WorkId>, StoreFailed> {
        Ok(lock(&self.0).of(tenant).work_done(before, limit))
    }

    async fn claim_due(&self, claim: Claim) -> Result<Vec<ClaimedWork>, StoreFailed> {
        Ok(lock(&self.0).claim_due(&claim))
    }

    async fn work(&self, tenant: &TenantId, limit: u32) -> Result<Vec<WorkRow>, StoreFailed> {
        Ok(lock(&self.0).of(tenant).open_work(limit))
    }

    async fn lease(
        &self,
        tenant: &TenantId,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl_ms: i64,
    ) -> Result<Lease, LeaseRefused> {
        lock(&self.0).lease(tenant, name, holder, now, ttl_ms)
    }

    async fn tree_hashes(
        &self,
        tenant: &TenantId,
        indexes: &[u64],
    ) -> Result<Vec<Digest>, StoreFailed> {
        lock(&self.0).of(tenant).tree_hashes(indexes)
    }

    async fn checkpoint(&self, tenant: &TenantId) -> Result<Option<CheckpointRow>, StoreFailed> {
        Ok(lock(&self.0).of(tenant).checkpoint())
    }

    async fn checkpoint_put(
        &self,
        tenant: &TenantId,
        size_before: u64,
        hashes: &[(u64, Digest)],
        checkpoint: CheckpointRow,
    ) -> Result<bool, StoreFailed> {
        lock(&self.0).checkpoint_put(tenant, size_before, hashes, checkpoint)
    }

    async fn tenants(&self) -> Result<Vec<TenantId>, StoreFailed> {
        Ok(lock(&self.0).tenants())
    }
}
