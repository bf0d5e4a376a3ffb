//! Stores to test, and the small things cases are made of.

use std::sync::Arc;

use chaperone_core::Timestamp;
use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{AccountName, TenantId, WorkId};
use chaperone_core::ports::{
    Commit, CommitFailed, PayloadClass, Record, RecordChange, SealedPayload, Store, WorkChange,
    WorkItem, WorkKind,
};
use chaperone_core::principal::{Actor, SystemPart};
use chaperone_store::{Options, open};

/// A store of its own.
pub(crate) struct Bench {
    store: Arc<dyn Store>,
    url: String,
    _folder: Option<tempfile::TempDir>,
}

impl Bench {
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("store.db").display());
        Self {
            store: open(&url, Options::default()).await.unwrap(),
            url,
            _folder: Some(folder),
        }
    }

    pub(crate) async fn postgres() -> Self {
        let url = crate::cluster::fresh_url();
        Self {
            store: open(&url, Options::default()).await.unwrap(),
            url,
            _folder: None,
        }
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The same database through connections of its own.
    pub(crate) async fn second(&self) -> Arc<dyn Store> {
        open(&self.url, Options::default()).await.unwrap()
    }

    /// Removes the schema. After a failed test it stays, to be looked at.
    pub(crate) async fn clean(self) {
        let schema = schema_of(&self.url);
        let client = connect().await;
        let drop = format!("DROP SCHEMA {schema} CASCADE");
        client.batch_execute(&drop).await.unwrap();
    }
}

/// The schema named in a test URL.
pub(crate) fn schema_of(url: &str) -> &str {
    url.split("schema=").nth(1).unwrap()
}

/// A connection to the test database without any of the store's settings.
pub(crate) async fn connect() -> tokio_postgres::Client {
    let url = crate::cluster::url();
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

/// The tenant of cases that need only one.
pub(crate) fn clinic() -> TenantId {
    tenant("clinic-a")
}

/// Seconds after some moment, with a fraction that microseconds can hold.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_microsecond((1_800_000_000 + seconds) * 1_000_000 + 123_456).unwrap()
}

pub(crate) fn account(name: &str) -> StreamId {
    StreamId::Account(AccountName::new(name).unwrap())
}

/// An empty commit of the one tenant, `seconds` after the start.
pub(crate) fn commit_at(seconds: i64) -> Commit {
    commit_of(clinic(), seconds)
}

pub(crate) fn commit_of(tenant: TenantId, seconds: i64) -> Commit {
    let part = SystemPart::Gateway;
    Commit::new(tenant, at(seconds), Actor::System { part })
}

pub(crate) fn event(n: u8) -> Event {
    Event::StepUpPassed {
        digest: Digest::of_bytes(&[n]),
    }
}

pub(crate) fn payload(n: u64) -> SealedPayload {
    let sealed = n.to_be_bytes().repeat(8);
    SealedPayload {
        address: PayloadAddress::of(&[7; 32], &sealed),
        class: PayloadClass::Clinical,
        key: "key-of-a-test".to_owned(),
        sealed,
    }
}

pub(crate) fn record(key: &str, value: i64) -> Record {
    Record::new("things", key, serde_json::json!({ "n": value }))
}

pub(crate) fn work_id(n: u64) -> WorkId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    WorkId::from_random(bytes)
}

/// Work due `due` seconds after the start.
pub(crate) fn item(n: u64, order_key: Option<&str>, due: i64) -> WorkItem {
    WorkItem {
        id: work_id(n),
        kind: WorkKind::Deliver,
        subject: format!("subject {n}"),
        order_key: order_key.map(str::to_owned),
        due: at(due),
    }
}

/// Commits some record changes at a time.
pub(crate) async fn change(
    store: &Arc<dyn Store>,
    seconds: i64,
    changes: impl IntoIterator<Item = RecordChange>,
) -> Result<(), CommitFailed> {
    let mut commit = commit_at(seconds);
    commit.records.extend(changes);
    store.commit(commit).await.map(drop)
}

/// Commits some work changes at a time.
pub(crate) async fn change_work(
    store: &Arc<dyn Store>,
    seconds: i64,
    changes: impl IntoIterator<Item = WorkChange>,
) -> Result<(), CommitFailed> {
    let mut commit = commit_at(seconds);
    commit.work.extend(changes);
    store.commit(commit).await.map(drop)
}
