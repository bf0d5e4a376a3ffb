//! Authoritative records and projection rows, one by one.

use std::sync::Arc;

use chaperone_core::ports::{CommitFailed, Guard, Record, RecordChange, RecordKey, Store};
use serde_json::json;

use crate::bench::{at, change, clinic, commit_at, commit_of, record, tenant};

fn key(name: &str) -> RecordKey {
    RecordKey::new("things", name)
}

async fn read(store: &Arc<dyn Store>, name: &str, seconds: i64) -> Option<Record> {
    store
        .record(&clinic(), &key(name), at(seconds))
        .await
        .unwrap()
}

/// Value and revision, as far as there is a record.
async fn state(store: &Arc<dyn Store>, name: &str) -> Option<(i64, u64)> {
    let found = read(store, name, 0).await?;
    Some((found.value["n"].as_i64().unwrap(), found.revision))
}

fn is_refused(result: &Result<(), CommitFailed>) -> bool {
    matches!(result, Err(CommitFailed::Record { collection }) if collection == "things")
}

pub(crate) async fn a_record_is_created_once(store: Arc<dyn Store>) {
    let create = |n| change(&store, 0, [RecordChange::Create(record("a", n))]);
    create(1).await.unwrap();
    assert!(is_refused(&create(2).await));
    assert_eq!(state(&store, "a").await, Some((1, 1)));
    // The same key in another collection is another record.
    let elsewhere = Record::new("others", "a", json!({}));
    change(&store, 0, [RecordChange::Create(elsewhere)])
        .await
        .unwrap();
}

pub(crate) async fn an_expired_record_counts_as_absent(store: Arc<dyn Store>) {
    let expiring = |n| record("a", n).expiring(at(10));
    change(&store, 0, [RecordChange::Create(expiring(1))])
        .await
        .unwrap();
    assert_eq!(read(&store, "a", 9).await.unwrap().expires, Some(at(10)));
    assert_eq!(read(&store, "a", 10).await, None);

    // The last moment in which it exists, and the first in which it does not.
    assert!(is_refused(
        &change(&store, 9, [RecordChange::Create(record("a", 2))]).await
    ));
    assert!(is_refused(
        &change(&store, 10, [RecordChange::Update(record("a", 2), 1)]).await
    ));
    assert!(is_refused(
        &change(&store, 10, [RecordChange::Consume(key("a"))]).await
    ));
    change(&store, 10, [RecordChange::Create(record("a", 3))])
        .await
        .unwrap();
    let found = read(&store, "a", 99).await.unwrap();
    assert_eq!((found.expires, found.revision), (None, 1));
}

pub(crate) async fn put_replaces_and_counts(store: Arc<dyn Store>) {
    for n in 1..4 {
        change(&store, 0, [RecordChange::Put(record("a", n))])
            .await
            .unwrap();
    }
    assert_eq!(state(&store, "a").await, Some((3, 3)));
}

pub(crate) async fn an_update_needs_the_revision(store: Arc<dyn Store>) {
    let update = |n, revision| change(&store, 0, [RecordChange::Update(record("a", n), revision)]);
    assert!(is_refused(&update(1, 0).await));
    assert!(is_refused(&update(1, 1).await));
    change(&store, 0, [RecordChange::Create(record("a", 1))])
        .await
        .unwrap();
    update(2, 1).await.unwrap();
    assert!(is_refused(&update(3, 1).await));
    assert!(is_refused(&update(3, 3).await));
    assert_eq!(state(&store, "a").await, Some((2, 2)));
}

pub(crate) async fn consuming_needs_the_record(store: Arc<dyn Store>) {
    let consume = || change(&store, 0, [RecordChange::Consume(key("a"))]);
    assert!(is_refused(&consume().await));
    change(&store, 0, [RecordChange::Create(record("a", 1))])
        .await
        .unwrap();
    consume().await.unwrap();
    assert!(is_refused(&consume().await));
    assert_eq!(state(&store, "a").await, None);
}

pub(crate) async fn deleting_does_not(store: Arc<dyn Store>) {
    let delete = || change(&store, 0, [RecordChange::Delete(key("a"))]);
    delete().await.unwrap();
    change(&store, 0, [RecordChange::Create(record("a", 1))])
        .await
        .unwrap();
    delete().await.unwrap();
    assert_eq!(state(&store, "a").await, None);
}

pub(crate) async fn changes_of_one_key_follow_each_other(store: Arc<dyn Store>) {
    let changes = [
        RecordChange::Create(record("a", 1)),
        RecordChange::Update(record("a", 2), 1),
        RecordChange::Consume(key("a")),
        RecordChange::Create(record("a", 3)),
        RecordChange::Put(record("a", 4)),
        RecordChange::Create(record("b", 5)),
        RecordChange::Delete(key("b")),
    ];
    change(&store, 0, changes).await.unwrap();
    assert_eq!(state(&store, "a").await, Some((4, 2)));
    assert_eq!(state(&store, "b").await, None);

    let consumed_twice = [
        RecordChange::Consume(key("a")),
        RecordChange::Consume(key("a")),
    ];
    assert!(is_refused(&change(&store, 0, consumed_twice).await));
    assert_eq!(state(&store, "a").await, Some((4, 2)));
}

pub(crate) async fn a_record_guard_sees_revision_and_absence(store: Arc<dyn Store>) {
    let guarded = |seconds, revision| {
        let mut commit = commit_at(seconds);
        let key = key("a");
        commit.guards.push(Guard::RecordAt { key, revision });
        let store = Arc::clone(&store);
        async move { store.commit(commit).await.map(drop) }
    };
    guarded(0, None).await.unwrap();
    assert!(is_refused(&guarded(0, Some(1)).await));
    let expiring = record("a", 1).expiring(at(10));
    change(&store, 0, [RecordChange::Create(expiring)])
        .await
        .unwrap();
    guarded(9, Some(1)).await.unwrap();
    assert!(is_refused(&guarded(9, Some(2)).await));
    assert!(is_refused(&guarded(9, None).await));
    guarded(10, None).await.unwrap();
    assert!(is_refused(&guarded(10, Some(1)).await));
}

pub(crate) async fn values_come_back_as_they_were(store: Arc<dyn Store>) {
    let value = json!({
        "z": 1, "a": [null, true, 1.5, -3, 18_446_744_073_709_551_615_u64],
        "text": "naïve 日本 \u{0} \" \\ \u{1F600}", "empty": {}
    });
    let wanted = Record::new("things", "ключ/1", value)
        .indexed("gruppe ä", "sort-é")
        .expiring(at(100));
    let mut commit = commit_at(0);
    commit.records.push(RecordChange::Put(wanted.clone()));
    commit.projections.push(wanted.clone());
    store.commit(commit).await.unwrap();

    let found = read(&store, "ключ/1", 0).await.unwrap();
    assert_eq!(
        found,
        Record {
            revision: 1,
            ..wanted.clone()
        }
    );
    // Order of fields included.
    assert_eq!(found.value.to_string(), wanted.value.to_string());
    let projected = store.projection(&clinic(), &wanted.key).await.unwrap();
    let expected = Record {
        expires: None,
        revision: 0,
        ..wanted
    };
    assert_eq!(projected, Some(expected));
}

/// What was swept away is gone for every clock; what expired lately is still there for a slow one.
pub(crate) async fn records_that_expired_long_ago_make_room(store: Arc<dyn Store>) {
    let old = (0..6).map(|n| RecordChange::Put(record(&format!("old{n}"), n).expiring(at(n))));
    change(&store, 0, old).await.unwrap();
    let present = || {
        let store = Arc::clone(&store);
        async move {
            let mut present = 0;
            for n in 0..6 {
                let found = read(&store, &format!("old{n}"), -1).await;
                present += u32::from(found.is_some());
            }
            present
        }
    };
    // A commit without such a record sweeps nothing, nor does one within the hour.
    change(&store, 9_000, [RecordChange::Put(record("lasting", 1))])
        .await
        .unwrap();
    let expiring = |name, now: i64| RecordChange::Put(record(name, 1).expiring(at(now + 60)));
    change(&store, 3_599, [expiring("a", 3_599)]).await.unwrap();
    assert_eq!(present().await, 6);
    // The oldest first, no more than four for each record written.
    change(&store, 3_602, [expiring("b", 3_602)]).await.unwrap();
    assert_eq!(present().await, 3);
    change(&store, 9_000, [expiring("old5", 9_000)])
        .await
        .unwrap();
    assert_eq!(present().await, 1);
    assert_eq!(read(&store, "old5", 9_000).await.unwrap().revision, 1);
    assert!(read(&store, "lasting", 0).await.is_some());
}

pub(crate) async fn projections_are_put_and_removed(store: Arc<dyn Store>) {
    let put = |values: Vec<serde_json::Value>| {
        let mut commit = commit_at(0);
        commit.projections = values
            .into_iter()
            .map(|value| Record::new("things", "a", value))
            .collect();
        let store = Arc::clone(&store);
        async move {
            store.commit(commit).await.unwrap();
            let found = store.projection(&clinic(), &key("a")).await.unwrap();
            found.map(|row| row.value)
        }
    };
    assert_eq!(put(vec![json!(1)]).await, Some(json!(1)));
    assert_eq!(put(vec![json!(2), json!(3)]).await, Some(json!(3)));
    assert_eq!(put(vec![json!(4), json!(null)]).await, None);
    assert_eq!(put(vec![json!(null)]).await, None);
    assert_eq!(put(vec![json!(null), json!(5)]).await, Some(json!(5)));
    // A projection is no record.
    assert_eq!(read(&store, "a", 0).await, None);
}

pub(crate) async fn projections_are_counted_and_cleared_per_tenant(store: Arc<dyn Store>) {
    let other = tenant("clinic-b");
    for owner in [clinic(), other.clone()] {
        let mut commit = commit_of(owner, 0);
        for n in 0..5 {
            let group = if n < 2 { "open" } else { "closed" };
            let row = record(&format!("p{n}"), n).indexed(group, "");
            commit.projections.push(row);
        }
        commit.records.push(RecordChange::Put(record("r", 1)));
        store.commit(commit).await.unwrap();
    }
    let counts = |owner| {
        let store = Arc::clone(&store);
        async move {
            let mut counts = Vec::new();
            for group in [None, Some("open"), Some("nosuch")] {
                let count = store.projections_count(&owner, "things", group).await;
                counts.push(count.unwrap());
            }
            counts
        }
    };
    assert_eq!(counts(clinic()).await, [5, 2, 0]);
    store.projections_clear(&clinic()).await.unwrap();
    assert_eq!(counts(clinic()).await, [0, 0, 0]);
    assert_eq!(counts(other).await, [5, 2, 0]);
    // Records are authoritative and stay.
    assert_eq!(state(&store, "r").await, Some((1, 1)));
}
