//! The work queue: order, claims, and what a stale claim can still do (nothing).

use std::sync::Arc;

use chaperone_core::event::StreamId;
use chaperone_core::ids::TenantId;
use chaperone_core::ports::{
    Claim, ClaimedWork, CommitFailed, Expected, Lane, Store, WorkChange, WorkKind, WorkState,
};

use crate::bench::{at, change_work, clinic, commit_at, commit_of, event, item, tenant, work_id};

const LEASE_SECONDS: i64 = 60;

async fn claim_up_to(store: &Arc<dyn Store>, seconds: i64, limit: u32) -> Vec<ClaimedWork> {
    claim_of(store, clinic(), None, seconds, limit).await
}

async fn claim_of(
    store: &Arc<dyn Store>,
    owner: TenantId,
    lane: Option<Lane>,
    seconds: i64,
    limit: u32,
) -> Vec<ClaimedWork> {
    let claim = Claim {
        tenant: owner,
        lane,
        worker: "worker 1".to_owned(),
        now: at(seconds),
        lease_ms: LEASE_SECONDS * 1_000,
        limit,
    };
    store.claim_due(claim).await.unwrap()
}

async fn claim(store: &Arc<dyn Store>, seconds: i64) -> Vec<ClaimedWork> {
    claim_up_to(store, seconds, 100).await
}

fn numbers(claimed: &[ClaimedWork]) -> Vec<u64> {
    let number = |claimed: &ClaimedWork| {
        let n = claimed.item.subject.strip_prefix("subject ");
        n.unwrap().parse().unwrap()
    };
    claimed.iter().map(number).collect()
}

async fn enqueue(store: &Arc<dyn Store>, items: &[(u64, Option<&str>, i64)]) {
    let changes = items
        .iter()
        .map(|(n, order_key, due)| WorkChange::Enqueue(item(*n, *order_key, *due)));
    change_work(store, 0, changes).await.unwrap();
}

fn complete(n: u64, claim: Option<u64>) -> WorkChange {
    let id = work_id(n);
    WorkChange::Complete { id, claim }
}

fn defer(n: u64, claim: Option<u64>, due: i64, kind: Option<WorkKind>) -> WorkChange {
    WorkChange::Defer {
        id: work_id(n),
        claim,
        due: at(due),
        kind,
    }
}

fn hold(n: u64, claim: Option<u64>) -> WorkChange {
    let id = work_id(n);
    WorkChange::Hold { id, claim }
}

/// Number and state of the unfinished items.
async fn states(store: &Arc<dyn Store>) -> Vec<(u64, WorkState)> {
    let rows = store.work(&clinic(), 100).await.unwrap();
    rows.into_iter()
        .map(|row| {
            let n = row.item.subject.strip_prefix("subject ").unwrap();
            (n.parse().unwrap(), row.state)
        })
        .collect()
}

fn is_claim_lost(result: &Result<(), CommitFailed>) -> bool {
    matches!(result, Err(CommitFailed::ClaimLost))
}

fn is_work_refused(result: &Result<(), CommitFailed>) -> bool {
    matches!(result, Err(CommitFailed::Record { collection }) if collection == "work")
}

pub(crate) async fn due_work_is_claimed_in_order_of_time(store: Arc<dyn Store>) {
    enqueue(&store, &[(1, None, 30), (2, None, 10), (3, None, 20)]).await;
    assert!(claim(&store, 9).await.is_empty());
    let claimed = claim(&store, 20).await;
    assert_eq!(numbers(&claimed), [2, 3]);
    assert_eq!(claimed[0].tenant, clinic());
    assert_eq!(claimed[0].item, item(2, None, 10));
    assert_eq!(claimed[0].claim, 1);
    assert_eq!(numbers(&claim(&store, 30).await), [1]);
}

pub(crate) async fn work_of_one_tenant_is_claimed_up_to_the_limit(store: Arc<dyn Store>) {
    for (n, owner) in [(1, clinic()), (2, tenant("clinic-b")), (3, clinic())] {
        let mut commit = commit_of(owner, 0);
        commit
            .work
            .push(WorkChange::Enqueue(item(n, Some("same"), 0)));
        store.commit(commit).await.unwrap();
    }
    let claimed = claim_up_to(&store, 0, 5).await;
    let owners: Vec<_> = claimed.iter().map(|work| work.tenant.clone()).collect();
    assert_eq!(owners, [clinic()]);
    // Nobody took the other's, and the order key of one tenant does not order another's work.
    assert_eq!(
        numbers(&claim_of(&store, tenant("clinic-b"), None, 0, 5).await),
        [2]
    );
    enqueue(&store, &[(4, None, 0), (5, None, 0), (6, None, 0)]).await;
    assert!(claim_up_to(&store, 0, 0).await.is_empty());
    assert_eq!(claim_up_to(&store, 0, 2).await.len(), 2);
    assert_eq!(claim_up_to(&store, 0, 2).await.len(), 1);
}

pub(crate) async fn one_order_key_runs_one_at_a_time(store: Arc<dyn Store>) {
    // Enqueued in this order; the times tempt to another.
    enqueue(
        &store,
        &[(1, Some("p"), 5), (2, Some("p"), 0), (3, Some("q"), 0)],
    )
    .await;
    assert_eq!(numbers(&claim(&store, 10).await), [3, 1]);
    assert!(claim(&store, 11).await.is_empty());
    change_work(&store, 12, [complete(1, Some(1))])
        .await
        .unwrap();
    assert_eq!(numbers(&claim(&store, 12).await), [2]);
}

pub(crate) async fn work_without_an_order_key_runs_freely(store: Arc<dyn Store>) {
    enqueue(&store, &[(1, None, 0), (2, None, 0), (3, None, 0)]).await;
    assert_eq!(numbers(&claim(&store, 0).await), [1, 2, 3]);
}

pub(crate) async fn a_lane_is_claimed_without_the_other(store: Arc<dyn Store>) {
    let items: Vec<_> = (1..=6_u64)
        .map(|n| {
            (
                n,
                (n % 2 == 0).then(|| ["p", "q", "r"][n as usize / 2 - 1]),
                0,
            )
        })
        .collect();
    enqueue(&store, &items).await;
    let free = claim_of(&store, clinic(), Some(Lane::Free), 0, 2).await;
    assert_eq!(numbers(&free), [1, 3]);
    let ordered = claim_of(&store, clinic(), Some(Lane::Ordered), 0, 10).await;
    assert_eq!(numbers(&ordered), [2, 4, 6]);
    assert_eq!(numbers(&claim(&store, 0).await), [5]);
}

pub(crate) async fn an_item_that_is_not_due_blocks_its_order_key(store: Arc<dyn Store>) {
    enqueue(&store, &[(1, Some("p"), 100), (2, Some("p"), 0)]).await;
    assert!(claim(&store, 99).await.is_empty());
    assert_eq!(numbers(&claim(&store, 100).await), [1]);
}

pub(crate) async fn a_held_item_blocks_until_it_is_deferred(store: Arc<dyn Store>) {
    enqueue(
        &store,
        &[(1, Some("p"), 0), (2, Some("p"), 0), (3, None, 0)],
    )
    .await;
    change_work(&store, 0, [hold(1, None)]).await.unwrap();
    assert_eq!(numbers(&claim(&store, 1_000).await), [3]);
    assert_eq!(
        states(&store).await,
        [
            (1, WorkState::Held),
            (2, WorkState::Waiting),
            (3, WorkState::Claimed)
        ]
    );
    change_work(&store, 1_000, [defer(1, None, 1_010, None)])
        .await
        .unwrap();
    assert!(claim(&store, 1_009).await.is_empty());
    assert_eq!(numbers(&claim(&store, 1_010).await), [1]);
}

pub(crate) async fn a_claim_that_ran_out_passes_to_another_worker(store: Arc<dyn Store>) {
    enqueue(&store, &[(1, Some("p"), 0), (2, Some("p"), 0)]).await;
    assert_eq!(claim(&store, 0).await[0].claim, 1);
    assert!(claim(&store, LEASE_SECONDS - 1).await.is_empty());
    let again = claim(&store, LEASE_SECONDS).await;
    assert_eq!((numbers(&again), again[0].claim), (vec![1], 2));

    // The first worker comes back late, the second is in time.
    let late = change_work(&store, LEASE_SECONDS, [complete(1, Some(1))]).await;
    assert!(is_claim_lost(&late));
    change_work(&store, LEASE_SECONDS + 1, [complete(1, Some(2))])
        .await
        .unwrap();
    assert_eq!(states(&store).await, [(2, WorkState::Waiting)]);
}

pub(crate) async fn a_stale_claim_changes_nothing(store: Arc<dyn Store>) {
    enqueue(&store, &[(1, None, 0)]).await;
    // Never claimed.
    assert!(is_claim_lost(
        &change_work(&store, 0, [complete(1, Some(0))]).await
    ));
    assert!(is_claim_lost(
        &change_work(&store, 0, [complete(1, Some(1))]).await
    ));
    claim(&store, 0).await;
    let stale = |seconds, claim: u64| {
        let store = Arc::clone(&store);
        async move {
            for change in [
                complete(1, Some(claim)),
                defer(1, Some(claim), 5, None),
                hold(1, Some(claim)),
            ] {
                let mut commit = commit_at(seconds);
                commit.append(StreamId::Refusals, Expected::Any, event(1));
                commit.work.push(change);
                let refused = store.commit(commit).await;
                assert!(matches!(refused, Err(CommitFailed::ClaimLost)));
            }
        }
    };
    // Another number, and the right one after it has run out.
    stale(0, 2).await;
    stale(LEASE_SECONDS, 1).await;
    // After somebody without a claim took it away.
    change_work(&store, 1, [hold(1, None)]).await.unwrap();
    stale(1, 1).await;
    assert_eq!(states(&store).await, [(1, WorkState::Held)]);
    change_work(&store, 1, [complete(1, None)]).await.unwrap();
    stale(1, 1).await;
    // An item nobody knows.
    let unknown = change_work(&store, 1, [complete(9, Some(1))]).await;
    assert!(is_claim_lost(&unknown));
    assert_eq!(store.size(&clinic()).await.unwrap(), 0);
}

pub(crate) async fn work_is_completed_without_a_claim_by_others(store: Arc<dyn Store>) {
    enqueue(&store, &[(1, None, 0), (2, None, 0)]).await;
    change_work(&store, 0, [complete(1, None)]).await.unwrap();
    assert_eq!(states(&store).await, [(2, WorkState::Waiting)]);
    assert_eq!(numbers(&claim(&store, 0).await), [2]);
    // Finished or unknown work cannot be moved any more.
    for change in [
        complete(1, None),
        hold(1, None),
        defer(1, None, 0, None),
        complete(9, None),
    ] {
        assert!(is_work_refused(&change_work(&store, 0, [change]).await));
    }
}

pub(crate) async fn an_id_is_used_once(store: Arc<dyn Store>) {
    let again = || change_work(&store, 0, [WorkChange::Enqueue(item(1, None, 0))]);
    again().await.unwrap();
    assert!(is_work_refused(&again().await));
    change_work(&store, 0, [complete(1, None)]).await.unwrap();
    assert!(is_work_refused(&again().await));
    let twice = [
        WorkChange::Enqueue(item(2, None, 0)),
        WorkChange::Enqueue(item(2, None, 0)),
    ];
    assert!(is_work_refused(&change_work(&store, 0, twice).await));
    assert!(states(&store).await.is_empty());
}

pub(crate) async fn deferred_work_keeps_its_place_and_may_change_kind(store: Arc<dyn Store>) {
    enqueue(&store, &[(1, Some("p"), 0), (2, Some("p"), 0)]).await;
    claim(&store, 0).await;
    let changed = defer(1, Some(1), 10, Some(WorkKind::Reconcile));
    change_work(&store, 1, [changed]).await.unwrap();
    assert!(claim(&store, 9).await.is_empty());
    let claimed = claim(&store, 10).await;
    assert_eq!(numbers(&claimed), [1]);
    assert_eq!(claimed[0].item.kind, WorkKind::Reconcile);
    assert_eq!(claimed[0].item.due, at(10));
    assert_eq!(claimed[0].claim, 2);
    // Without a kind, it stays what it is; two moves in one commit count together.
    let moves = [defer(1, Some(2), 20, None), hold(1, None)];
    change_work(&store, 11, moves).await.unwrap();
    let rows = store.work(&clinic(), 1).await.unwrap();
    assert_eq!(rows[0].state, WorkState::Held);
    assert_eq!(rows[0].item.kind, WorkKind::Reconcile);
    assert_eq!(rows[0].item.due, at(20));
}

pub(crate) async fn work_of_one_commit_and_its_events_appear_together(store: Arc<dyn Store>) {
    let mut commit = commit_at(0);
    commit.append(StreamId::Modes, Expected::Version(0), event(1));
    commit.work = vec![
        WorkChange::Enqueue(item(1, None, 0)),
        WorkChange::Enqueue(item(2, None, 0)),
        complete(1, None),
        hold(2, None),
    ];
    store.commit(commit.clone()).await.unwrap();
    assert_eq!(states(&store).await, [(2, WorkState::Held)]);
    // The event is refused, and with it the work.
    commit.work = vec![complete(2, None)];
    assert!(store.commit(commit).await.is_err());
    assert_eq!(states(&store).await, [(2, WorkState::Held)]);
}
