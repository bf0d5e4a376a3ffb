//! Leases, the epoch guard, checkpoints and tree hashes.

use std::sync::Arc;

use chaperone_core::digest::Digest;
use chaperone_core::event::StreamId;
use chaperone_core::ports::{
    CheckpointRow, CommitFailed, Expected, Guard, Lease, LeaseRefused, Store, StoreFailed,
};

use crate::bench::{at, clinic, commit_at, commit_of, event, record, tenant};

/// Takes the lease `writer` for ten seconds.
pub(crate) async fn take(
    store: &Arc<dyn Store>,
    holder: &str,
    seconds: i64,
) -> Result<Lease, LeaseRefused> {
    store
        .lease(&clinic(), "writer", holder, at(seconds), 10_000)
        .await
}

fn held_until(result: &Result<Lease, LeaseRefused>) -> Option<chaperone_core::Timestamp> {
    match result {
        Err(LeaseRefused::Held { until }) => Some(*until),
        _ => None,
    }
}

pub(crate) async fn a_lease_is_taken_renewed_and_passed_on(store: Arc<dyn Store>) {
    let lease = |epoch, until| Lease {
        epoch,
        until: at(until),
    };
    assert_eq!(take(&store, "a", 0).await.unwrap(), lease(1, 10));
    assert_eq!(take(&store, "a", 5).await.unwrap(), lease(1, 15));
    // The last moment in which it is held, and the first in which it is not.
    assert_eq!(held_until(&take(&store, "b", 14).await), Some(at(15)));
    assert_eq!(take(&store, "b", 15).await.unwrap(), lease(2, 25));
    assert_eq!(held_until(&take(&store, "a", 16).await), Some(at(25)));
    assert_eq!(take(&store, "a", 30).await.unwrap(), lease(3, 40));
    // Nobody came between, so the epoch stays.
    assert_eq!(take(&store, "a", 99).await.unwrap(), lease(3, 109));
}

pub(crate) async fn leases_of_tenants_and_names_are_separate(store: Arc<dyn Store>) {
    take(&store, "a", 0).await.unwrap();
    for (owner, name) in [(clinic(), "other"), (tenant("clinic-b"), "writer")] {
        let lease = store.lease(&owner, name, "b", at(0), 10_000).await.unwrap();
        assert_eq!(lease.epoch, 1);
    }
}

pub(crate) async fn an_epoch_guard_holds_while_the_lease_does(store: Arc<dyn Store>) {
    let guarded = |epoch, seconds| {
        let mut commit = commit_at(seconds);
        commit.append(StreamId::Refusals, Expected::Any, event(1));
        commit.guards.push(Guard::Epoch {
            lease: "writer".to_owned(),
            epoch,
        });
        let store = Arc::clone(&store);
        async move { store.commit(commit).await }
    };
    let stale = |result| matches!(result, Err(CommitFailed::StaleEpoch));
    assert!(stale(guarded(1, 0).await));
    take(&store, "a", 0).await.unwrap();
    guarded(1, 9).await.unwrap();
    assert!(stale(guarded(2, 9).await));
    assert!(stale(guarded(1, 10).await));
    take(&store, "b", 10).await.unwrap();
    assert!(stale(guarded(1, 11).await));
    guarded(2, 11).await.unwrap();
    assert_eq!(store.size(&clinic()).await.unwrap(), 2);
}

fn checkpoint(size: u64) -> CheckpointRow {
    CheckpointRow {
        size,
        root: Digest::of_bytes(&size.to_be_bytes()),
        note: format!("log\n{size}\nroot\n\n— key signature\n"),
        at: at(i64::try_from(size).unwrap()),
    }
}

fn hash(index: u64) -> (u64, Digest) {
    (index, Digest::of_bytes(&(index + 1_000).to_be_bytes()))
}

pub(crate) async fn checkpoints_follow_each_other(store: Arc<dyn Store>) {
    let put = |before, hashes: Vec<(u64, Digest)>, size| {
        let store = Arc::clone(&store);
        async move {
            store
                .checkpoint_put(&clinic(), before, &hashes, checkpoint(size))
                .await
        }
    };
    assert_eq!(store.checkpoint(&clinic()).await.unwrap(), None);
    assert!(!put(3, vec![hash(0)], 5).await.unwrap());
    assert!(put(0, vec![hash(0), hash(1)], 2).await.unwrap());
    assert!(!put(0, vec![hash(2)], 3).await.unwrap());
    assert!(put(2, vec![hash(2)], 5).await.unwrap());
    assert_eq!(
        store.checkpoint(&clinic()).await.unwrap(),
        Some(checkpoint(5))
    );
    // What lost the race left no hash behind.
    assert!(put(5, vec![hash(3)], 6).await.unwrap());
    // Signed again without growth, but never shrunk, and no hash is replaced.
    assert!(put(6, vec![], 6).await.unwrap());
    assert!(matches!(
        put(6, vec![], 5).await,
        Err(StoreFailed::Corrupt(_))
    ));
    assert!(matches!(
        put(6, vec![hash(3)], 7).await,
        Err(StoreFailed::Corrupt(_))
    ));
    assert_eq!(
        store.checkpoint(&clinic()).await.unwrap(),
        Some(checkpoint(6))
    );
    assert_eq!(store.checkpoint(&tenant("clinic-b")).await.unwrap(), None);

    let racers =
        futures::future::join_all((0..8).map(|n| put(6, vec![hash(10 + n)], 20 + n))).await;
    assert_eq!(
        racers
            .into_iter()
            .filter(|won| *won.as_ref().unwrap())
            .count(),
        1
    );
}

pub(crate) async fn tree_hashes_are_read_in_the_order_asked(store: Arc<dyn Store>) {
    let hashes: Vec<_> = (0..5).map(hash).collect();
    assert!(
        store
            .checkpoint_put(&clinic(), 0, &hashes, checkpoint(3))
            .await
            .unwrap()
    );
    let read = store.tree_hashes(&clinic(), &[4, 0, 4]).await.unwrap();
    assert_eq!(read, [hash(4).1, hash(0).1, hash(4).1]);
    assert!(store.tree_hashes(&clinic(), &[]).await.unwrap().is_empty());
    for missing in [5, u64::MAX] {
        let read = store.tree_hashes(&clinic(), &[0, missing]).await;
        assert!(matches!(read, Err(StoreFailed::Corrupt(_))));
    }
    let other = store.tree_hashes(&tenant("clinic-b"), &[0]).await;
    assert!(other.is_err());
}

pub(crate) async fn tenants_are_those_with_events(store: Arc<dyn Store>) {
    assert!(store.tenants().await.unwrap().is_empty());
    let mut without_events = commit_of(tenant("clinic-c"), 0);
    without_events.projections.push(record("a", 1));
    store.commit(without_events).await.unwrap();
    for name in ["clinic-b", "clinic-a"] {
        let mut commit = commit_of(tenant(name), 0);
        commit.append(StreamId::Tenant, Expected::Version(0), event(1));
        store.commit(commit).await.unwrap();
    }
    let tenants = store.tenants().await.unwrap();
    assert_eq!(tenants, [tenant("clinic-a"), tenant("clinic-b")]);
}
