//! Appends, guards, payloads, and that a commit happens as a whole or not at all.

use std::sync::Arc;

use chaperone_core::event::{Recorded, StreamId};
use chaperone_core::ports::{
    CommitFailed, Expected, Guard, Record, RecordChange, RecordKey, Store, WorkChange,
};

use crate::bench::{account, at, clinic, commit_at, event, item, payload, record, tenant};

fn conflict_at(result: &Result<impl Sized, CommitFailed>) -> Option<u64> {
    match result {
        Err(CommitFailed::Conflict { actual, .. }) => Some(*actual),
        _ => None,
    }
}

pub(crate) async fn a_new_stream_is_at_version_zero(store: Arc<dyn Store>) {
    let mut commit = commit_at(0);
    commit.append(StreamId::Modes, Expected::Version(0), event(1));
    assert_eq!(store.commit(commit).await.unwrap().seqs, [0]);

    let events = store.stream(&clinic(), &StreamId::Modes).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].seq, events[0].version), (0, 1));
    assert_eq!(events[0].at, at(0));
    assert_eq!(events[0].event, event(1));
    assert!(
        store
            .stream(&clinic(), &StreamId::Refusals)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(store.size(&clinic()).await.unwrap(), 1);
    assert_eq!(store.size(&tenant("nobody")).await.unwrap(), 0);
}

pub(crate) async fn an_append_to_another_version_is_refused(store: Arc<dyn Store>) {
    let append = |version| {
        let mut commit = commit_at(0);
        commit.append(StreamId::Modes, Expected::Version(version), event(1));
        store.commit(commit)
    };
    // Too high while there is nothing, then too low and too high once there is one.
    assert_eq!(conflict_at(&append(1).await), Some(0));
    append(0).await.unwrap();
    assert_eq!(conflict_at(&append(0).await), Some(1));
    assert_eq!(conflict_at(&append(2).await), Some(1));
    append(1).await.unwrap();
    assert_eq!(store.size(&clinic()).await.unwrap(), 2);
}

pub(crate) async fn several_appends_to_one_stream_count_on(store: Arc<dyn Store>) {
    let mut commit = commit_at(0);
    commit
        .append(account("ada"), Expected::Version(0), event(1))
        .append(account("ben"), Expected::Version(0), event(2))
        .append(account("ada"), Expected::Version(1), event(3))
        .append(account("ada"), Expected::Any, event(4));
    assert_eq!(store.commit(commit).await.unwrap().seqs, [0, 1, 2, 3]);
    let events = store.stream(&clinic(), &account("ada")).await.unwrap();
    let versions: Vec<(u64, u64)> = events.iter().map(|e| (e.seq, e.version)).collect();
    assert_eq!(versions, [(0, 1), (2, 2), (3, 3)]);

    let mut twice_the_same = commit_at(0);
    twice_the_same
        .append(account("ada"), Expected::Version(3), event(5))
        .append(account("ada"), Expected::Version(3), event(6));
    assert_eq!(conflict_at(&store.commit(twice_the_same).await), Some(4));
    assert_eq!(store.size(&clinic()).await.unwrap(), 4);
}

pub(crate) async fn an_unconditional_append_always_happens(store: Arc<dyn Store>) {
    for n in 0..3 {
        let mut commit = commit_at(0);
        commit.append(StreamId::Refusals, Expected::Any, event(n));
        assert_eq!(store.commit(commit).await.unwrap().seqs, [u64::from(n)]);
    }
}

pub(crate) async fn a_stream_guard_looks_at_the_stream_before_the_commit(store: Arc<dyn Store>) {
    let guarded = |version| {
        let mut commit = commit_at(0);
        commit.append(StreamId::Modes, Expected::Any, event(1));
        commit.guards.push(Guard::StreamAt {
            stream: StreamId::Modes,
            version,
        });
        store.commit(commit)
    };
    guarded(0).await.unwrap();
    assert_eq!(conflict_at(&guarded(0).await), Some(1));
    guarded(1).await.unwrap();
    assert_eq!(conflict_at(&guarded(3).await), Some(2));
}

pub(crate) async fn nothing_of_a_refused_commit_remains(store: Arc<dyn Store>) {
    let taken = record("taken", 1);
    crate::bench::change(&store, 0, [RecordChange::Create(taken.clone())])
        .await
        .unwrap();

    let mut commit = commit_at(0);
    commit.append(StreamId::Modes, Expected::Version(0), event(1));
    commit.records = vec![
        RecordChange::Create(record("fresh", 1)),
        RecordChange::Put(record("taken", 2)),
        RecordChange::Create(taken),
    ];
    commit
        .projections
        .push(Record::new("view", "one", serde_json::json!(1)));
    commit.payloads.push(payload(1));
    commit.work.push(WorkChange::Enqueue(item(1, None, 0)));
    let refused = store.commit(commit).await;
    assert!(matches!(refused, Err(CommitFailed::Record { collection }) if collection == "things"));

    let clinic = clinic();
    assert_eq!(store.size(&clinic).await.unwrap(), 0);
    assert!(store.leaves(&clinic, 0, 10).await.unwrap().is_empty());
    let read = |key: &str| {
        let key = RecordKey::new("things", key);
        let store = Arc::clone(&store);
        async move {
            store
                .record(&crate::bench::clinic(), &key, at(0))
                .await
                .unwrap()
        }
    };
    assert_eq!(read("fresh").await, None);
    assert_eq!(read("taken").await.unwrap().revision, 1);
    let view = RecordKey::new("view", "one");
    assert_eq!(store.projection(&clinic, &view).await.unwrap(), None);
    assert_eq!(
        store.payload(&clinic, &payload(1).address).await.unwrap(),
        None
    );
    assert!(store.work(&clinic, 10).await.unwrap().is_empty());
}

pub(crate) async fn an_empty_commit_succeeds(store: Arc<dyn Store>) {
    assert!(store.commit(commit_at(0)).await.unwrap().seqs.is_empty());
}

pub(crate) async fn leaves_are_what_the_stream_shows(store: Arc<dyn Store>) {
    let mut commit = commit_at(5);
    commit
        .append(StreamId::Modes, Expected::Any, event(1))
        .append(account("ada"), Expected::Any, event(2));
    store.commit(commit).await.unwrap();
    let leaves = store.leaves(&clinic(), 0, 10).await.unwrap();
    let shown = store.stream(&clinic(), &account("ada")).await.unwrap();
    assert_eq!(Recorded::from_leaf(&leaves[1]).unwrap(), shown[0]);
    // The bytes are made once; making them again gives the same.
    assert_eq!(leaves[1], shown[0].to_leaf().unwrap());
    assert_eq!(shown[0].tenant, clinic());
}

pub(crate) async fn leaves_are_read_from_a_position(store: Arc<dyn Store>) {
    let mut commit = commit_at(0);
    for n in 0..10 {
        commit.append(StreamId::Refusals, Expected::Any, event(n));
    }
    store.commit(commit).await.unwrap();
    let all = store.leaves(&clinic(), 0, 100).await.unwrap();
    assert_eq!(all.len(), 10);
    assert_eq!(store.leaves(&clinic(), 4, 3).await.unwrap(), all[4..7]);
    assert_eq!(store.leaves(&clinic(), 8, 100).await.unwrap(), all[8..]);
    for beyond in [10, u64::MAX] {
        assert!(store.leaves(&clinic(), beyond, 5).await.unwrap().is_empty());
    }
}

pub(crate) async fn payloads_are_put_once_and_read_back(store: Arc<dyn Store>) {
    for _ in 0..2 {
        let mut commit = commit_at(0);
        commit.payloads = vec![payload(1), payload(2), payload(1)];
        store.commit(commit).await.unwrap();
    }
    let found = store.payload(&clinic(), &payload(2).address).await.unwrap();
    assert_eq!(found, Some(payload(2)));
    let missing = store.payload(&clinic(), &payload(3).address).await.unwrap();
    assert_eq!(missing, None);
}

pub(crate) async fn a_commit_that_no_store_can_take_is_refused_alone(store: Arc<dyn Store>) {
    let good = |n: u8| {
        let mut commit = commit_at(0);
        commit.append(StreamId::Refusals, Expected::Any, event(n));
        store.commit(commit)
    };
    let zero_byte = {
        let mut commit = commit_at(0);
        commit.append(StreamId::Refusals, Expected::Any, event(9));
        commit.records.push(RecordChange::Put(record("a\0b", 1)));
        store.commit(commit)
    };
    let too_many = {
        let mut commit = commit_at(0);
        commit.projections = vec![record("x", 1); 10_001];
        store.commit(commit)
    };
    let (first, zero_byte, too_many, second) = tokio::join!(good(1), zero_byte, too_many, good(2));
    first.unwrap();
    second.unwrap();
    assert!(
        matches!(zero_byte, Err(CommitFailed::Unavailable(why)) if why.to_string().contains("zero byte"))
    );
    assert!(
        matches!(too_many, Err(CommitFailed::Unavailable(why)) if why.to_string().contains("10000"))
    );
    assert_eq!(store.size(&clinic()).await.unwrap(), 2);
}

pub(crate) async fn a_stream_is_read_on_behind_a_version(store: Arc<dyn Store>) {
    // One more than is read at once.
    const EVENTS: u64 = 10_001;
    let mut version = 0;
    while version < EVENTS {
        let mut commit = commit_at(0);
        for _ in 0..1_000.min(EVENTS - version) {
            commit.append(StreamId::Modes, Expected::Version(version), event(1));
            version += 1;
        }
        store.commit(commit).await.unwrap();
    }
    let first = store.stream(&clinic(), &StreamId::Modes).await.unwrap();
    assert_eq!((first.len(), first[9_999].version), (10_000, 10_000));
    let rest = store
        .stream_after(&clinic(), &StreamId::Modes, 10_000)
        .await
        .unwrap();
    assert_eq!((rest.len(), rest[0].version), (1, 10_001));
    let none = store
        .stream_after(&clinic(), &StreamId::Modes, EVENTS)
        .await;
    assert!(none.unwrap().is_empty());
}
