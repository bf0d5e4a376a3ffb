//! What retention looks through and takes away: payloads by age, records past their end, work that is done. Each of
//! the tenant asked for alone.

use std::sync::Arc;

use chaperone_core::Timestamp;
use chaperone_core::event::StreamId;
use chaperone_core::ids::WritebackId;
use chaperone_core::ports::{
    CommitFailed, Expected, PayloadClass, PayloadListing, PayloadRow, RecordChange, Store,
    WorkChange,
};

use crate::bench::{
    at, change_work, clinic, commit_at, commit_of, event, item, payload, record, tenant, work_id,
};

fn listing(class: PayloadClass, before: i64) -> PayloadListing {
    PayloadListing {
        class,
        key: None,
        before: at(before),
        after: None,
        limit: 100,
    }
}

async fn list(store: &Arc<dyn Store>, listing: PayloadListing) -> Vec<PayloadRow> {
    store.payloads(&clinic(), listing).await.unwrap()
}

pub(crate) async fn payloads_are_listed_by_age_and_erased(store: Arc<dyn Store>) {
    let class = payload(1).class;
    let id = WritebackId::from_random([4; 16]);
    for (n, seconds) in [(3, 30), (1, 10), (2, 20)] {
        let mut commit = commit_at(seconds);
        if n == 2 {
            commit.append(StreamId::Writeback(id), Expected::Any, event(1));
        }
        commit.payloads.push(payload(n));
        store.commit(commit).await.unwrap();
    }
    let mut other = commit_of(tenant("other"), 10);
    other.payloads.push(payload(9));
    store.commit(other).await.unwrap();

    let rows = list(&store, listing(class, 30)).await;
    let addresses: Vec<_> = rows.iter().map(|row| row.address).collect();
    assert_eq!(addresses, [payload(1).address, payload(2).address]);
    assert_eq!((rows[0].writeback, rows[1].writeback), (None, Some(id)));
    assert_eq!((rows[0].at, &rows[0].key), (at(10), &payload(1).key));
    // Pages follow each other.
    let mut page = listing(class, 100);
    page.limit = 1;
    let mut seen = Vec::new();
    while let Some(row) = list(&store, page.clone()).await.pop() {
        page.after = Some((row.at, row.address));
        seen.push(row.address);
    }
    assert_eq!(seen, [1, 2, 3].map(|n| payload(n).address));
    // Under one key alone, and of another class none.
    let mut of_key = listing(class, 100);
    of_key.key = Some("no such key".to_owned());
    assert!(list(&store, of_key.clone()).await.is_empty());
    of_key.key = Some(payload(1).key);
    assert!(!list(&store, of_key).await.is_empty());
    let neighbour = PayloadClass::ALL.into_iter().find(|it| *it != class);
    assert!(
        list(&store, listing(neighbour.unwrap(), 100))
            .await
            .is_empty()
    );
    let counts = store.payload_counts(&clinic()).await.unwrap();
    assert_eq!(counts.len(), 1);
    assert_eq!(
        (counts[0].class, counts[0].count, counts[0].oldest),
        (class, 3, at(10))
    );

    // What is erased is gone, its neighbours stay, another tenant's as well; twice is fine.
    for _ in 0..2 {
        let mut commit = commit_at(40);
        commit.erased = vec![payload(1).address, payload(9).address];
        store.commit(commit).await.unwrap();
    }
    assert_eq!(
        store.payload(&clinic(), &payload(1).address).await.unwrap(),
        None
    );
    assert!(
        store
            .payload(&clinic(), &payload(2).address)
            .await
            .unwrap()
            .is_some()
    );
    let others = store.payload(&tenant("other"), &payload(9).address).await;
    assert!(others.unwrap().is_some());
    // A refused commit erases nothing.
    let mut refused = commit_at(50);
    refused.erased.push(payload(2).address);
    refused.append(StreamId::Modes, Expected::Version(7), event(1));
    assert!(store.commit(refused).await.is_err());
    assert!(
        store
            .payload(&clinic(), &payload(2).address)
            .await
            .unwrap()
            .is_some()
    );
}

pub(crate) async fn records_past_their_end_are_listed(store: Arc<dyn Store>) {
    let mut commit = commit_at(0);
    for (key, ends) in [("late", Some(90)), ("soon", Some(10)), ("never", None)] {
        let mut record = record(key, 1);
        record.expires = ends.map(at);
        commit.records.push(RecordChange::Create(record));
    }
    store.commit(commit).await.unwrap();
    let expired = async |before: i64| {
        let found = store
            .records_expired(&clinic(), at(before), 10)
            .await
            .unwrap();
        found
            .into_iter()
            .map(|(key, at)| (key.key, at))
            .collect::<Vec<(String, Timestamp)>>()
    };
    let soon = (record("soon", 1).key.key, at(10));
    let late = (record("late", 1).key.key, at(90));
    assert_eq!(expired(10).await, []);
    assert_eq!(expired(11).await, std::slice::from_ref(&soon));
    assert_eq!(expired(100).await, [soon, late]);
    let others = store.records_expired(&tenant("other"), at(100), 10).await;
    assert_eq!(others.unwrap(), []);
}

pub(crate) async fn finished_work_is_forgotten_and_nothing_else(store: Arc<dyn Store>) {
    let items = [(1, 10), (2, 20), (3, 30)];
    let enqueued = items.map(|(n, due)| WorkChange::Enqueue(item(n, None, due)));
    change_work(&store, 0, enqueued).await.unwrap();
    let complete = [1, 2].map(|n| WorkChange::Complete {
        id: work_id(n),
        claim: None,
    });
    change_work(&store, 1, complete).await.unwrap();
    let done = async |before: i64| store.work_done(&clinic(), at(before), 10).await.unwrap();
    assert_eq!(done(20).await, [work_id(1)]);
    assert_eq!(done(100).await, [work_id(1), work_id(2)]);
    assert_eq!(
        store
            .work_done(&tenant("other"), at(100), 10)
            .await
            .unwrap(),
        []
    );
    change_work(&store, 2, [WorkChange::Forget { id: work_id(1) }])
        .await
        .unwrap();
    assert_eq!(done(100).await, [work_id(2)]);
    // What is not finished, and what is not there, is not forgotten.
    for n in [3, 1] {
        let refused = change_work(&store, 3, [WorkChange::Forget { id: work_id(n) }]).await;
        assert!(matches!(refused, Err(CommitFailed::Record { .. })), "{n}");
    }
    assert_eq!(store.work(&clinic(), 10).await.unwrap().len(), 1);
}
