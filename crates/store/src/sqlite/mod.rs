//! SQLite: the embedded default. One thread owns the only write connection and commits in groups
//! (`write`); a few read-only connections answer reads (`read`). Write-ahead log with
//! `synchronous=FULL`, so that an answered commit survives the loss of power.
//!
//! Start with `write`, then `commit`.

mod aged;
mod commit;
mod open;
mod read;
mod wal;
mod work;
mod write;

use std::sync::Arc;

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

pub(crate) use open::examine;

use crate::listing::Table;
use crate::open::{OpenFailed, Options};
use crate::plan;
use crate::succession::LeaseAsked;
use read::Readers;
use write::{Undone, WriteFailed, Writer};

/// A failure inside an operation.
#[derive(Debug)]
enum Fault {
    /// SQLite said no.
    Sqlite(rusqlite::Error),
    /// What is stored makes no sense, or the operation found the store failed.
    Store(StoreFailed),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Fault::Sqlite(error)
    }
}

impl From<StoreFailed> for Fault {
    fn from(failed: StoreFailed) -> Self {
        Fault::Store(failed)
    }
}

impl From<Fault> for StoreFailed {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Store(failed) => failed,
            Fault::Sqlite(error) => match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                    StoreFailed::Corrupt("SQLite finds the file damaged".to_owned())
                }
                _ => StoreFailed::Unavailable(Box::new(error)),
            },
        }
    }
}

/// The store on one SQLite file.
pub(crate) struct SqliteStore {
    writer: Writer,
    readers: Arc<Readers>,
}

impl SqliteStore {
    /// Opens or creates the file and brings its schema up to date.
    pub(crate) async fn open(path: &str, options: &Options) -> Result<Self, OpenFailed> {
        let path = open::checked_path(path)?;
        let connection = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || open::open_and_migrate(&path))
                .await
                .map_err(OpenFailed::unreachable)??
        };
        let writer = Writer::start(path.clone(), connection).map_err(OpenFailed::unreachable)?;
        let readers = Arc::new(Readers::new(path, options.connections_max));
        Ok(Self { writer, readers })
    }

    async fn rows(
        &self,
        table: Table,
        tenant: &TenantId,
        collection: &str,
        listing: Listing,
    ) -> Result<Vec<Record>, StoreFailed> {
        let query = crate::listing::query(table, '?', tenant.as_str(), collection, listing);
        self.readers
            .run(move |connection| read::listing(connection, &query))
            .await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn commit(&self, commit: Commit) -> Result<Committed, CommitFailed> {
        plan::fit(&commit)?;
        let written = self.writer.run(move |connection| {
            let tenant = commit.tenant.as_str();
            commit::apply(connection, tenant, &commit)
        });
        written.await.map_err(|failed| match failed {
            WriteFailed::Refused(refused) => refused,
            WriteFailed::Undone(source) => CommitFailed::Unavailable(source),
            WriteFailed::Unknown(source) => CommitFailed::Indeterminate(source),
            WriteFailed::Corrupt(what) => {
                CommitFailed::Unavailable(Box::new(StoreFailed::Corrupt(what)))
            }
        })
    }

    async fn stream_after(
        &self,
        tenant: &TenantId,
        stream: &StreamId,
        version: u64,
    ) -> Result<Vec<Recorded>, StoreFailed> {
        let (tenant, stream) = (tenant.clone(), stream.to_string());
        self.readers
            .run(move |connection| read::stream(connection, &tenant, &stream, version))
            .await
    }

    async fn leaves(
        &self,
        tenant: &TenantId,
        from: u64,
        limit: u32,
    ) -> Result<Vec<Vec<u8>>, StoreFailed> {
        let tenant = tenant.clone();
        self.readers
            .run(move |connection| read::leaves(connection, &tenant, from, limit))
            .await
    }

    async fn size(&self, tenant: &TenantId) -> Result<u64, StoreFailed> {
        let tenant = tenant.clone();
        self.readers
            .run(move |connection| commit::next_seq(connection, tenant.as_str()))
            .await
    }

    async fn record(
        &self,
        tenant: &TenantId,
        key: &RecordKey,
        now: Timestamp,
    ) -> Result<Option<Record>, StoreFailed> {
        let (tenant, key) = (tenant.clone(), key.clone());
        self.readers
            .run(move |connection| read::row(connection, Table::Record(now), &tenant, &key))
            .await
    }

    async fn records(
        &self,
        tenant: &TenantId,
        collection: &str,
        listing: Listing,
        now: Timestamp,
    ) -> Result<Vec<Record>, StoreFailed> {
        self.rows(Table::Record(now), tenant, collection, listing)
            .await
    }

    async fn projection(
        &self,
        tenant: &TenantId,
        key: &RecordKey,
    ) -> Result<Option<Record>, StoreFailed> {
        let (tenant, key) = (tenant.clone(), key.clone());
        self.readers
            .run(move |connection| read::row(connection, Table::Projection, &tenant, &key))
            .await
    }

    async fn projections(
        &self,
        tenant: &TenantId,
        collection: &str,
        listing: Listing,
    ) -> Result<Vec<Record>, StoreFailed> {
        self.rows(Table::Projection, tenant, collection, listing)
            .await
    }

    async fn projections_count(
        &self,
        tenant: &TenantId,
        collection: &str,
        index: Option<&str>,
    ) -> Result<u64, StoreFailed> {
        let (tenant, collection) = (tenant.clone(), collection.to_owned());
        let index = index.map(str::to_owned);
        self.readers
            .run(move |connection| {
                read::projections_count(connection, &tenant, &collection, index.as_deref())
            })
            .await
    }

    async fn projections_clear(&self, tenant: &TenantId) -> Result<(), StoreFailed> {
        let tenant = tenant.clone();
        let cleared = self.writer.run(move |connection| {
            connection
                .prepare_cached("DELETE FROM projection WHERE tenant = ?1")?
                .execute([tenant.as_str()])?;
            Ok(())
        });
        cleared.await.map_err(store_failed)
    }

    async fn payload(
        &self,
        tenant: &TenantId,
        address: &PayloadAddress,
    ) -> Result<Option<SealedPayload>, StoreFailed> {
        let (tenant, address) = (tenant.clone(), *address);
        self.readers
            .run(move |connection| read::payload(connection, &tenant, address))
            .await
    }

    async fn payloads(
        &self,
        tenant: &TenantId,
        listing: PayloadListing,
    ) -> Result<Vec<PayloadRow>, StoreFailed> {
        let tenant = tenant.clone();
        self.readers
            .run(move |connection| aged::payloads(connection, &tenant, &listing))
            .await
    }

    async fn payload_counts(&self, tenant: &TenantId) -> Result<Vec<PayloadCount>, StoreFailed> {
        let tenant = tenant.clone();
        self.readers
            .run(move |connection| aged::payload_counts(connection, &tenant))
            .await
    }

    async fn records_expired(
        &self,
        tenant: &TenantId,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<(RecordKey, Timestamp)>, StoreFailed> {
        let tenant = tenant.clone();
        self.readers
            .run(move |connection| aged::records_expired(connection, &tenant, before, limit))
            .await
    }

    async fn work_done(
        &self,
        tenant: &TenantId,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<WorkId>, StoreFailed> {
        let tenant = tenant.clone();
        self.readers
            .run(move |connection| aged::work_done(connection, &tenant, before, limit))
            .await
    }

    async fn claim_due(&self, claim: Claim) -> Result<Vec<ClaimedWork>, StoreFailed> {
        let claimed = self
            .writer
            .run(move |connection| work::claim_due(connection, &claim).map_err(Undone::from));
        claimed.await.map_err(store_failed)
    }

    async fn work(&self, tenant: &TenantId, limit: u32) -> Result<Vec<WorkRow>, StoreFailed> {
        let tenant = tenant.clone();
        self.readers
            .run(move |connection| work::open_items(connection, &tenant, limit))
            .await
    }

    async fn lease(
        &self,
        tenant: &TenantId,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl_ms: i64,
    ) -> Result<Lease, LeaseRefused> {
        let tenant = tenant.clone();
        let asked = LeaseAsked {
            name: name.to_owned(),
            holder: holder.to_owned(),
            now,
            ttl_ms,
        };
        let taken = self
            .writer
            .run(move |connection| work::lease(connection, &tenant, &asked));
        taken.await.map_err(|failed| match failed {
            WriteFailed::Refused(refused) => refused,
            WriteFailed::Undone(source) | WriteFailed::Unknown(source) => {
                LeaseRefused::Store(StoreFailed::Unavailable(source))
            }
            WriteFailed::Corrupt(what) => LeaseRefused::Store(StoreFailed::Corrupt(what)),
        })
    }

    async fn tree_hashes(
        &self,
        tenant: &TenantId,
        indexes: &[u64],
    ) -> Result<Vec<Digest>, StoreFailed> {
        let (tenant, indexes) = (tenant.clone(), indexes.to_vec());
        self.readers
            .run(move |connection| read::tree_hashes(connection, &tenant, &indexes))
            .await
    }

    async fn checkpoint(&self, tenant: &TenantId) -> Result<Option<CheckpointRow>, StoreFailed> {
        let tenant = tenant.clone();
        self.readers
            .run(move |connection| read::checkpoint(connection, &tenant))
            .await
    }

    async fn checkpoint_put(
        &self,
        tenant: &TenantId,
        size_before: u64,
        hashes: &[(u64, Digest)],
        checkpoint: CheckpointRow,
    ) -> Result<bool, StoreFailed> {
        let (tenant, hashes) = (tenant.clone(), hashes.to_vec());
        let put = self.writer.run(move |connection| {
            work::checkpoint_put(connection, &tenant, size_before, &hashes, &checkpoint)
                .map_err(Undone::from)
        });
        put.await.map_err(store_failed)
    }

    async fn tenants(&self) -> Result<Vec<TenantId>, StoreFailed> {
        self.readers.run(read::tenants).await
    }
}

/// A write whose refusals are failures of the store. Not knowing is then like failing: these writes
/// are repeated or run out by themselves.
fn store_failed(failed: WriteFailed<StoreFailed>) -> StoreFailed {
    match failed {
        WriteFailed::Refused(refused) => refused,
        WriteFailed::Undone(source) | WriteFailed::Unknown(source) => {
            StoreFailed::Unavailable(source)
        }
        WriteFailed::Corrupt(what) => StoreFailed::Corrupt(what),
    }
}
