//! Listings of records and projections: order, pages, groups, limits.

use std::sync::Arc;

use chaperone_core::ports::{Listing, Record, RecordChange, Store};

use crate::bench::{at, change, clinic, commit_at, record};

/// Stores rows as projections and as records, so that a case checks both.
async fn put(store: &Arc<dyn Store>, rows: Vec<Record>) {
    for part in rows.chunks(2_000) {
        let mut commit = commit_at(0);
        commit.projections = part.to_vec();
        commit.records = part.iter().cloned().map(RecordChange::Put).collect();
        store.commit(commit).await.unwrap();
    }
}

/// Sort and key of a listing, which records and projections must agree about.
async fn list(store: &Arc<dyn Store>, listing: Listing) -> Vec<(String, String)> {
    let names = |rows: Vec<Record>| -> Vec<(String, String)> {
        rows.into_iter()
            .map(|row| (row.sort, row.key.key))
            .collect()
    };
    let owner = clinic();
    let projections = store.projections(&owner, "things", listing.clone());
    let projections = names(projections.await.unwrap());
    let records = store.records(&owner, "things", listing, at(0));
    assert_eq!(names(records.await.unwrap()), projections);
    projections
}

fn all() -> Listing {
    Listing {
        limit: 1_000,
        ..Listing::default()
    }
}

pub(crate) async fn rows_are_in_bytewise_order_of_sort_and_key(store: Arc<dyn Store>) {
    let wanted = [
        ("", "b"),
        ("", "é"),
        ("B", "x"),
        ("a", "A"),
        ("a", "a"),
        ("a ", "-"),
        ("aa", "0"),
        ("é", "0"),
        ("日", "0"),
    ];
    let mut rows: Vec<Record> = wanted
        .iter()
        .map(|(sort, key)| {
            let mut row = record(key, 1);
            row.key.key = format!("{key}/{sort}");
            (*sort).clone_into(&mut row.sort);
            row
        })
        .collect();
    rows.reverse();
    put(&store, rows).await;
    let mut expected: Vec<(String, String)> = wanted
        .iter()
        .map(|(sort, key)| ((*sort).to_owned(), format!("{key}/{sort}")))
        .collect();
    assert_eq!(list(&store, all()).await, expected);
    expected.reverse();
    let descending = Listing {
        descending: true,
        ..all()
    };
    assert_eq!(list(&store, descending).await, expected);
}

pub(crate) async fn pages_follow_each_other_in_both_directions(store: Arc<dyn Store>) {
    let rows = (0..23_i64)
        .map(|n| record(&format!("k{n:02}"), n).indexed("g", format!("s{}", n / 4)))
        .collect();
    put(&store, rows).await;
    let whole = list(&store, all()).await;
    assert_eq!(whole.len(), 23);
    for descending in [false, true] {
        for index in [None, Some("g".to_owned())] {
            let mut seen = Vec::new();
            let mut after = None;
            loop {
                let page = list(
                    &store,
                    Listing {
                        index: index.clone(),
                        after: after.clone(),
                        descending,
                        limit: 5,
                    },
                )
                .await;
                assert!(page.len() <= 5);
                let Some(last) = page.last() else { break };
                after = Some(last.clone());
                seen.extend(page);
            }
            if descending {
                seen.reverse();
            }
            assert_eq!(seen, whole);
        }
    }
}

pub(crate) async fn a_group_is_listed_alone(store: Arc<dyn Store>) {
    let rows = vec![
        record("a", 1).indexed("open", "1"),
        record("b", 1).indexed("closed", "2"),
        record("c", 1),
        record("d", 1).indexed("open", "0"),
        Record::new("others", "e", serde_json::json!({})).indexed("open", "3"),
    ];
    put(&store, rows).await;
    let group = |name: &str| Listing {
        index: Some(name.to_owned()),
        ..all()
    };
    let keys = |rows: Vec<(String, String)>| -> Vec<String> {
        rows.into_iter().map(|(_, key)| key).collect()
    };
    assert_eq!(keys(list(&store, group("open")).await), ["d", "a"]);
    assert!(list(&store, group("ope")).await.is_empty());
    // A row moves from group to group.
    put(&store, vec![record("a", 2).indexed("closed", "9")]).await;
    assert_eq!(keys(list(&store, group("closed")).await), ["b", "a"]);
    assert_eq!(keys(list(&store, all()).await), ["c", "d", "b", "a"]);
}

pub(crate) async fn a_listing_has_at_most_a_thousand_rows(store: Arc<dyn Store>) {
    let rows = (0..1_050).map(|n| record(&format!("k{n:04}"), n)).collect();
    put(&store, rows).await;
    let limited = |limit| Listing {
        limit,
        ..Listing::default()
    };
    assert_eq!(list(&store, limited(u32::MAX)).await.len(), 1_000);
    assert_eq!(list(&store, Listing::default()).await.len(), 1_000);
    assert!(list(&store, limited(0)).await.is_empty());
}

pub(crate) async fn expired_records_are_not_listed(store: Arc<dyn Store>) {
    let changes = [
        RecordChange::Put(record("a", 1).expiring(at(10))),
        RecordChange::Put(record("b", 1).expiring(at(20))),
        RecordChange::Put(record("c", 1)),
    ];
    change(&store, 0, changes).await.unwrap();
    for (seconds, expected) in [(0, 3), (9, 3), (10, 2), (20, 1)] {
        let owner = clinic();
        let listed = store.records(&owner, "things", all(), at(seconds));
        assert_eq!(listed.await.unwrap().len(), expected, "at {seconds}");
    }
}
