//! PostgreSQL: for more than one node. Each tenant's commits go through a task of its own that commits
//! in groups under the tenant's locked head row (`commit`); reads, claims and leases are short
//! transactions (`read`, `work`). Every transaction names its tenant for row-level security (`session`).
//!
//! Start with `session`, then `commit`.

mod aged;
mod commit;
mod connect;
mod examine;
mod group;
mod migrate;
mod read;
mod session;
mod work;

use async_trait::async_trait;
use chaperone_core::Timestamp;
use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::event::{Recorded, StreamId};
use chaperone_core::ids::{TenantId, WorkId};
use chaperone_core::ports::Store;
use chaperone_core::ports::{
    CheckpointRow, Claim, ClaimedWork, Commit, CommitFailed, Committed, Lease, LeaseRefused,
    Listing, PayloadCount, PayloadListing, PayloadRow, Record, RecordKey, SealedPayload,
    StoreFailed, WorkRow,
};

pub(crate) use examine::examine;

use crate::listing::Table;
use crate::open::{OpenFailed, Options};
use crate::succession::LeaseAsked;
use group::Groups;
use session::Sessions;

/// The store on a PostgreSQL database.
pub(crate) struct PostgresStore {
    sessions: Sessions,
    groups: Groups,
}

impl PostgresStore {
    /// Connects and brings the schema up to date.
    pub(crate) async fn open(url: &str, options: &Options) -> Result<Self, OpenFailed> {
        let target = connect::Target::parse(url, &options.application_name)?;
        let pool = target.pool(options.connections_max)?;
        migrate::migrate(&pool, target.schema()).await?;
        let sessions = Sessions::new(pool);
        Ok(Self {
            groups: Groups::new(sessions.clone()),
            sessions,
        })
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn commit(&self, commit: Commit) -> Result<Committed, CommitFailed> {
        self.groups.commit(commit).await
    }

    async fn stream_after(
        &self,
        tenant: &TenantId,
        stream: &StreamId,
        version: u64,
    ) -> Result<Vec<Recorded>, StoreFailed> {
        read::stream(&self.sessions, tenant, stream, version).await
    }

    async fn leaves(
        &self,
        tenant: &TenantId,
        from: u64,
        limit: u32,
    ) -> Result<Vec<Vec<u8>>, StoreFailed> {
        read::leaves(&self.sessions, tenant, from, limit).await
    }

    async fn size(&self, tenant: &TenantId) -> Result<u64, StoreFailed> {
        read::size(&self.sessions, tenant).await
    }

    async fn record(
        &self,
        tenant: &TenantId,
        key: &RecordKey,
        now: Timestamp,
    ) -> Result<Option<Record>, StoreFailed> {
        read::row(&self.sessions, Table::Record(now), tenant, key).await
    }

    async fn records(
        &self,
        tenant: &TenantId,
        collection: &str,
        listing: Listing,
        now: Timestamp,
    ) -> Result<Vec<Record>, StoreFailed> {
        read::rows(
            &self.sessions,
            Table::Record(now),
            tenant,
            collection,
            listing,
        )
        .await
    }

    async fn projection(
        &self,
        tenant: &TenantId,
        key: &RecordKey,
    ) -> Result<Option<Record>, StoreFailed> {
        read::row(&self.sessions, Table::Projection, tenant, key).await
    }

    async fn projections(
        &self,
        tenant: &TenantId,
        collection: &str,
        listing: Listing,
    ) -> Result<Vec<Record>, StoreFailed> {
        read::rows(
            &self.sessions,
            Table::Projection,
            tenant,
            collection,
            listing,
        )
        .await
    }

    async fn projections_count(
        &self,
        tenant: &TenantId,
        collection: &str,
        index: Option<&str>,
    ) -> Result<u64, StoreFailed> {
        read::projections_count(&self.sessions, tenant, collection, index).await
    }

    async fn projections_clear(&self, tenant: &TenantId) -> Result<(), StoreFailed> {
        work::projections_clear(&self.sessions, tenant).await
    }

    async fn payload(
        &self,
        tenant: &TenantId,
        address: &PayloadAddress,
    ) -> Result<Option<SealedPayload>, StoreFailed> {
        read::payload(&self.sessions, tenant, *address).await
    }

    async fn payloads(
        &self,
        tenant: &TenantId,
        listing: PayloadListing,
    ) -> Result<Vec<PayloadRow>, StoreFailed> {
        aged::payloads(&self.sessions, tenant, &listing).await
    }

    async fn payload_counts(&self, tenant: &TenantId) -> Result<Vec<PayloadCount>, StoreFailed> {
        aged::payload_counts(&self.sessions, tenant).await
    }

    async fn records_expired(
        &self,
        tenant: &TenantId,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(RecordKey, Timestamp)>, StoreFailed> {
        aged::records_expired(&self.sessions, tenant, before, limit).await
    }

    async fn work_done(
        &self,
        tenant: &TenantId,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<WorkId>, StoreFailed> {
        aged::work_done(&self.sessions, tenant, before, limit).await
    }

    async fn claim_due(&self, claim: Claim) -> Result<Vec<ClaimedWork>, StoreFailed> {
        work::claim_due(&self.sessions, &claim).await
    }

    async fn work(&self, tenant: &TenantId, limit: u32) -> Result<Vec<WorkRow>, StoreFailed> {
        work::open_items(&self.sessions, tenant, limit).await
    }

    async fn lease(
        &self,
        tenant: &TenantId,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl_ms: i64,
    ) -> Result<Lease, LeaseRefused> {
        let asked = LeaseAsked {
            name: name.to_owned(),
            holder: holder.to_owned(),
            now,
            ttl_ms,
        };
        work::lease(&self.sessions, tenant, &asked).await
    }

    async fn tree_hashes(
        &self,
        tenant: &TenantId,
        indexes: &[u64],
    ) -> Result<Vec<Digest>, StoreFailed> {
        read::tree_hashes(&self.sessions, tenant, indexes).await
    }

    async fn checkpoint(&self, tenant: &TenantId) -> Result<Option<CheckpointRow>, StoreFailed> {
        read::checkpoint(&self.sessions, tenant).await
    }

    async fn checkpoint_put(
        &self,
        tenant: &TenantId,
        size_before: u64,
        hashes: &[(u64, Digest)],
        checkpoint: CheckpointRow,
    ) -> Result<bool, StoreFailed> {
        work::checkpoint_put(&self.sessions, tenant, size_before, hashes, &checkpoint).await
    }

    async fn tenants(&self) -> Result<Vec<TenantId>, StoreFailed> {
        read::tenants(&self.sessions).await
    }
}
