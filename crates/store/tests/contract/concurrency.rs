//! Many callers at once. What must hold does not depend on who comes first.

use std::collections::BTreeSet;
use std::sync::Arc;

use chaperone_core::event::{Recorded, StreamId};
use chaperone_core::ports::{
    Claim, CommitFailed, Expected, RecordChange, RecordKey, Store, WorkChange,
};
use tokio::task::JoinSet;

use crate::bench::{
    account, at, change, clinic, commit_at, commit_of, event, item, record, tenant,
};

const CALLERS: u8 = 32;

/// Runs something once per caller, all at the same time, and collects what they answer.
async fn all_at_once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    run: impl Fn(u8) -> F,
) -> Vec<T> {
    let mut callers = JoinSet::new();
    for n in 0..CALLERS {
        callers.spawn(run(n));
    }
    callers.join_all().await
}

pub(crate) async fn sequence_numbers_have_no_gaps(store: Arc<dyn Store>) {
    let answered = all_at_once(|n| {
        let store = Arc::clone(&store);
        async move {
            let mut seqs = Vec::new();
            for round in 0..5 {
                let mut commit = commit_at(0);
                commit
                    .append(
                        account(&format!("a{n}")),
                        Expected::Version(2 * round),
                        event(n),
                    )
                    .append(StreamId::Refusals, Expected::Any, event(n))
                    .append(
                        account(&format!("a{n}")),
                        Expected::Version(2 * round + 1),
                        event(n),
                    );
                let got = store.commit(commit).await.unwrap().seqs;
                // Events of one commit stand together.
                assert_eq!(got[2], got[0] + 2);
                seqs.extend(got);
                // A refused commit uses no number.
                let mut refused = commit_at(0);
                refused.append(account(&format!("a{n}")), Expected::Version(77), event(n));
                assert!(store.commit(refused).await.is_err());
                // Another tenant counts for itself.
                let mut other = commit_of(tenant("clinic-b"), 0);
                other.append(StreamId::Refusals, Expected::Any, event(n));
                store.commit(other).await.unwrap();
            }
            seqs
        }
    })
    .await;
    let total = u64::from(CALLERS) * 15;
    let seqs: BTreeSet<u64> = answered.into_iter().flatten().collect();
    assert!(seqs.into_iter().eq(0..total));
    let leaves = store.leaves(&clinic(), 0, 10_000).await.unwrap();
    let stored = leaves
        .iter()
        .map(|leaf| Recorded::from_leaf(leaf).unwrap().seq);
    assert!(stored.eq(0..total));
    let other = tenant("clinic-b");
    assert_eq!(store.size(&other).await.unwrap(), u64::from(CALLERS) * 5);
}

pub(crate) async fn one_of_many_appends_to_a_version_wins(store: Arc<dyn Store>) {
    let results = all_at_once(|n| {
        let mut commit = commit_at(0);
        commit.append(StreamId::Modes, Expected::Version(0), event(n));
        let store = Arc::clone(&store);
        async move { store.commit(commit).await }
    })
    .await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for lost in results.into_iter().filter_map(Result::err) {
        assert!(matches!(lost, CommitFailed::Conflict { actual: 1, .. }));
    }
    assert_eq!(store.size(&clinic()).await.unwrap(), 1);
}

pub(crate) async fn a_refused_commit_does_not_disturb_its_neighbours(store: Arc<dyn Store>) {
    change(&store, 0, [RecordChange::Create(record("taken", 1))])
        .await
        .unwrap();
    let results = all_at_once(|n| {
        let mut commit = commit_at(0);
        commit.append(account(&format!("a{n}")), Expected::Version(0), event(n));
        commit.projections.push(record(&format!("p{n}"), 1));
        if n % 2 == 1 {
            commit
                .records
                .push(RecordChange::Create(record("taken", 2)));
        }
        let store = Arc::clone(&store);
        async move { (n, store.commit(commit).await) }
    })
    .await;
    for (n, result) in results {
        let refused = n % 2 == 1;
        assert_eq!(result.is_err(), refused, "{n}: {result:?}");
        let stream = account(&format!("a{n}"));
        let events = store.stream(&clinic(), &stream).await.unwrap();
        assert_eq!(events.len(), usize::from(!refused), "{n}");
        let key = RecordKey::new("things", format!("p{n}"));
        let projection = store.projection(&clinic(), &key).await.unwrap();
        assert_eq!(projection.is_some(), !refused, "{n}");
    }
    let size = store.size(&clinic()).await.unwrap();
    assert_eq!(size, u64::from(CALLERS) / 2);
}

pub(crate) async fn a_single_use_record_is_consumed_once(store: Arc<dyn Store>) {
    change(&store, 0, [RecordChange::Create(record("grant", 1))])
        .await
        .unwrap();
    let results = all_at_once(|_| {
        let store = Arc::clone(&store);
        let key = RecordKey::new("things", "grant");
        async move { change(&store, 0, [RecordChange::Consume(key)]).await }
    })
    .await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
}

pub(crate) async fn an_item_is_claimed_by_one_worker(store: Arc<dyn Store>) {
    let mut commit = commit_at(0);
    for n in 0..60 {
        let order_key = (n % 3 == 0).then(|| format!("order {}", n % 2));
        let item = item(n, order_key.as_deref(), 0);
        commit.work.push(WorkChange::Enqueue(item));
    }
    store.commit(commit).await.unwrap();
    let claimed = all_at_once(|n| {
        let store = Arc::clone(&store);
        async move {
            let claim = Claim {
                tenant: clinic(),
                lane: None,
                worker: format!("worker {n}"),
                now: at(1),
                lease_ms: 60_000,
                limit: 3,
            };
            store.claim_due(claim).await.unwrap()
        }
    })
    .await;
    let items: Vec<_> = claimed.into_iter().flatten().collect();
    let ids: BTreeSet<_> = items.iter().map(|claimed| claimed.item.id).collect();
    assert_eq!(ids.len(), items.len());
    let order_keys: Vec<_> = items
        .iter()
        .filter_map(|claimed| claimed.item.order_key.as_deref())
        .collect();
    let distinct: BTreeSet<_> = order_keys.iter().collect();
    assert_eq!(distinct.len(), order_keys.len());
}
