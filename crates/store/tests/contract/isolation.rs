//! No tenant's row is reachable with another tenant's context (invariant 14): through the contract on
//! both backends, and on PostgreSQL also by row-level security, for statements that forget to ask.

use std::sync::Arc;

use chaperone_core::digest::Digest;
use chaperone_core::event::StreamId;
use chaperone_core::ports::{
    CheckpointRow, Commit, Expected, Listing, RecordChange, RecordKey, Store, WorkChange,
};

use crate::bench::{
    Bench, at, clinic, commit_of, connect, event, item, payload, record, schema_of, tenant,
};

/// One of everything.
fn everything(owner: &str) -> Commit {
    let mut commit = commit_of(tenant(owner), 0);
    commit.append(StreamId::Modes, Expected::Version(0), event(1));
    commit.records.push(RecordChange::Create(record("r", 1)));
    commit.projections.push(record("p", 1));
    commit.payloads.push(payload(1));
    commit.work.push(WorkChange::Enqueue(item(1, None, 0)));
    commit
}

async fn fill(store: &Arc<dyn Store>, owner: &str) {
    store.commit(everything(owner)).await.unwrap();
    let owner = tenant(owner);
    let lease = store.lease(&owner, "writer", "a", at(0), 1_000);
    lease.await.unwrap();
    let root = Digest::of_bytes(b"root");
    let checkpoint = CheckpointRow {
        size: 1,
        root,
        note: "note".to_owned(),
        at: at(0),
    };
    let hashes = [(0, root)];
    let put = store.checkpoint_put(&owner, 0, &hashes, checkpoint);
    assert!(put.await.unwrap());
}

pub(crate) async fn tenants_do_not_see_each_other(store: Arc<dyn Store>) {
    fill(&store, "clinic-a").await;
    let other = tenant("clinic-b");
    let listing = || Listing {
        limit: 10,
        ..Listing::default()
    };
    let key = RecordKey::new("things", "r");
    let record = store.record(&other, &key, at(0));
    assert_eq!(record.await.unwrap(), None);
    let records = store.records(&other, "things", listing(), at(0));
    assert!(records.await.unwrap().is_empty());
    let key = RecordKey::new("things", "p");
    let projection = store.projection(&other, &key);
    assert_eq!(projection.await.unwrap(), None);
    let projections = store.projections(&other, "things", listing());
    assert!(projections.await.unwrap().is_empty());
    assert!(
        store
            .stream(&other, &StreamId::Modes)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(store.leaves(&other, 0, 10).await.unwrap().is_empty());
    let address = payload(1).address;
    let sealed = store.payload(&other, &address);
    assert_eq!(sealed.await.unwrap(), None);
    assert!(store.work(&other, 10).await.unwrap().is_empty());
    // The same names are free for the other tenant, and stay apart.
    fill(&store, "clinic-b").await;
    assert_eq!(store.size(&clinic()).await.unwrap(), 1);
    let events = store.stream(&other, &StreamId::Modes).await.unwrap();
    assert_eq!((events[0].seq, &events[0].tenant), (0, &other));
}

const TABLES: [&str; 9] = [
    "head",
    "event",
    "record",
    "projection",
    "payload",
    "work",
    "lease",
    "tree_hash",
    "checkpoint",
];

/// Statements without a tenant in them, in the same database and role as the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_level_security_hides_what_a_statement_forgets_to_exclude() {
    let bench = Bench::postgres().await;
    fill(&bench.store(), "clinic-a").await;
    fill(&bench.store(), "clinic-b").await;
    let mut client = connect().await;
    let schema = schema_of(bench.url());
    client
        .batch_execute(&format!("SET search_path = {schema}"))
        .await
        .unwrap();

    let seen = |settings: &'static str, table: &'static str| {
        let client = &client;
        async move {
            let sql = format!("{settings} SELECT count(*) FROM {table}");
            let answers = client.simple_query(&sql).await.unwrap();
            let count = answers.iter().find_map(|answer| match answer {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get("count"),
                _ => None,
            });
            count.unwrap().parse::<u64>().unwrap()
        }
    };
    for table in TABLES {
        assert_eq!(seen("", table).await, 0, "{table}");
        assert_eq!(
            seen("SET LOCAL chaperone.tenant = 'clinic-a';", table).await,
            1,
            "{table}"
        );
        // The worker's door opens to work and heads alone.
        let open = matches!(table, "work" | "head");
        let expected = if open { 2 } else { 0 };
        assert_eq!(
            seen("SET LOCAL chaperone.worker = 'on';", table).await,
            expected,
            "{table}"
        );
    }

    let refused = [
        (
            "SET LOCAL chaperone.tenant = 'clinic-a'",
            "INSERT INTO head VALUES ('clinic-c', 0)",
        ),
        (
            "SET LOCAL chaperone.tenant = 'clinic-a'",
            "UPDATE record SET tenant = 'clinic-b', key = 'z'",
        ),
        (
            "SET LOCAL chaperone.worker = 'on'",
            "INSERT INTO head VALUES ('clinic-c', 0)",
        ),
        (
            "SET LOCAL chaperone.tenant = 'clinic-a'",
            "UPDATE event SET at = 0",
        ),
        (
            "SET LOCAL chaperone.tenant = 'clinic-a'",
            "DELETE FROM event",
        ),
    ];
    for (setting, statement) in refused {
        let tx = client.transaction().await.unwrap();
        tx.batch_execute(setting).await.unwrap();
        assert!(tx.batch_execute(statement).await.is_err(), "{statement}");
    }
    let without_effect = [
        (
            "SET LOCAL chaperone.worker = 'on'",
            "UPDATE head SET next_seq = 9",
        ),
        ("SET LOCAL chaperone.worker = 'on'", "DELETE FROM work"),
        (
            "SET LOCAL chaperone.tenant = 'clinic-a'",
            "UPDATE record SET value = 'x' WHERE tenant = 'clinic-b'",
        ),
    ];
    for (setting, statement) in without_effect {
        let tx = client.transaction().await.unwrap();
        tx.batch_execute(setting).await.unwrap();
        assert_eq!(tx.execute(statement, &[]).await.unwrap(), 0, "{statement}");
    }
    bench.clean().await;
}
