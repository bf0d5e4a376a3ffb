//! What is left after something broke: a store dropped in the middle, connections cut by the server.

use std::sync::Arc;

use chaperone_core::event::{Event, Recorded, StreamId};
use chaperone_core::ports::{CommitFailed, Expected, Guard, LeaseRefused, Store};
use chaperone_store::{Options, open};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::bench::{Bench, account, clinic, commit_at, connect, event, record, schema_of};
use crate::succession::take;

async fn append(
    store: &Arc<dyn Store>,
    stream: StreamId,
    version: u64,
) -> Result<u64, CommitFailed> {
    let mut commit = commit_at(0);
    commit.append(stream, Expected::Version(version), event(1));
    store
        .commit(commit)
        .await
        .map(|committed| committed.seqs[0])
}

#[tokio::test]
async fn sqlite_has_everything_after_being_dropped_without_a_close() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("store.db").display());
    for version in 0..5 {
        // The store before is dropped with its log not merged into the file; while its thread ends,
        // this one is already open.
        let store = open(&url, Options::default()).await.unwrap();
        assert_eq!(store.size(&clinic()).await.unwrap(), version);
        assert_eq!(
            append(&store, StreamId::Modes, version).await.unwrap(),
            version
        );
    }
}

/// A copy of the files at a moment when nothing was closed is what a crash leaves behind.
#[tokio::test]
async fn sqlite_recovers_from_the_files_as_a_crash_leaves_them() {
    let folder = tempfile::tempdir().unwrap();
    let live = folder.path().join("live.db");
    let store = open(&format!("sqlite:{}", live.display()), Options::default())
        .await
        .unwrap();
    for version in 0..20 {
        append(&store, StreamId::Modes, version).await.unwrap();
    }
    let copied = folder.path().join("copied.db");
    std::fs::copy(&live, &copied).unwrap();
    // Only the log, not the shared memory, and with the torn beginning of a further write.
    let mut log = std::fs::read(folder.path().join("live.db-wal")).unwrap();
    log.extend_from_slice(&[0x5a; 1_000]);
    std::fs::write(folder.path().join("copied.db-wal"), log).unwrap();

    let recovered = open(&format!("sqlite:{}", copied.display()), Options::default())
        .await
        .unwrap();
    let leaves = recovered.leaves(&clinic(), 0, 100).await.unwrap();
    assert_eq!(leaves, store.leaves(&clinic(), 0, 100).await.unwrap());
    assert_eq!(leaves.len(), 20);
    append(&recovered, StreamId::Modes, 20).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sqlite_stores_on_one_file_agree() {
    let bench = Bench::sqlite().await;
    let both = [bench.store(), bench.second().await];
    let mut callers = JoinSet::new();
    for n in 0..20 {
        let store = Arc::clone(&both[n % 2]);
        callers.spawn(async move { append(&store, StreamId::Refusals, 0).await });
        let store = Arc::clone(&both[n % 2]);
        callers.spawn(async move { append(&store, account(&format!("a{n}")), 0).await });
    }
    let won = callers
        .join_all()
        .await
        .into_iter()
        .filter(Result::is_ok)
        .count();
    assert_eq!(won, 21);
    for store in both {
        assert_eq!(store.leaves(&clinic(), 0, 100).await.unwrap().len(), 21);
    }
}

/// Ends every connection of the store; true when there were some.
async fn cut_connections(direct: &tokio_postgres::Client, application: &str) -> bool {
    let cut = direct
        .query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1 AND pid <> pg_backend_pid()",
            &[&application],
        )
        .await
        .unwrap();
    !cut.is_empty()
}

fn options(application_name: &str) -> Options {
    Options {
        connections_max: 4,
        application_name: application_name.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_goes_on_after_its_connections_were_cut() {
    let bench = Bench::postgres().await;
    let name = format!("cut {}", schema_of(bench.url()));
    let store = open(bench.url(), options(&name)).await.unwrap();
    let direct = connect().await;
    for version in 0..5 {
        append(&store, StreamId::Modes, version).await.unwrap();
        assert!(cut_connections(&direct, &name).await);
        // A read and a write each find the cut connection and go on with another.
        assert_eq!(store.size(&clinic()).await.unwrap(), version + 1);
        cut_connections(&direct, &name).await;
    }
    bench.clean().await;
}

/// Cuts connections while commits are under way. Whatever a caller was told must be true afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_tells_the_truth_while_connections_are_cut() {
    let bench = Bench::postgres().await;
    let name = format!("storm {}", schema_of(bench.url()));
    let store = open(bench.url(), options(&name)).await.unwrap();
    let mut callers = JoinSet::new();
    for n in 0..8_u8 {
        let store = Arc::clone(&store);
        callers.spawn(async move {
            let stream = account(&format!("caller-{n}"));
            let mut told = Vec::new();
            for _ in 0..40_u8 {
                let mut commit = commit_at(0);
                commit.append(stream.clone(), Expected::Any, event(n));
                told.push(store.commit(commit).await);
            }
            (stream, told)
        });
    }
    let direct = connect().await;
    let mut finished = Vec::new();
    while !callers.is_empty() {
        cut_connections(&direct, &name).await;
        while let Some(done) = callers.try_join_next() {
            finished.push(done.unwrap());
        }
        tokio::task::yield_now().await;
    }
    let fresh = bench.second().await;
    let mut total = 0;
    for (stream, told) in finished {
        let stored = fresh.stream(&clinic(), &stream).await.unwrap().len();
        let done = told.iter().filter(|told| told.is_ok()).count();
        let unknown = told
            .iter()
            .filter(|told| matches!(told, Err(CommitFailed::Indeterminate(_))))
            .count();
        assert!(
            (done..=done + unknown).contains(&stored),
            "{stored} of {done} and {unknown}"
        );
        total += stored;
    }
    let leaves = fresh.leaves(&clinic(), 0, 10_000).await.unwrap();
    assert_eq!(leaves.len(), total);
    let passed = |leaf: &Vec<u8>| {
        let recorded = Recorded::from_leaf(leaf).unwrap();
        matches!(recorded.event, Event::StepUpPassed { .. })
    };
    assert!(leaves.iter().all(passed));
    // The store itself has recovered as well.
    append(&store, StreamId::Modes, 0).await.unwrap();
    bench.clean().await;
}

/// What runs on a runtime of its own stops in the middle, sessions open, as soon as nobody drives that runtime.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn lease_and_append(
    store: &Arc<dyn Store>,
    holder: &str,
    seconds: i64,
) -> Result<u64, CommitFailed> {
    let lease = take(store, holder, seconds).await.unwrap();
    append_in(store, lease.epoch, seconds).await
}

async fn append_in(store: &Arc<dyn Store>, epoch: u64, seconds: i64) -> Result<u64, CommitFailed> {
    let mut commit = commit_at(seconds);
    commit.append(StreamId::Modes, Expected::Any, event(1));
    commit.guards.push(Guard::Epoch {
        lease: "writer".to_owned(),
        epoch,
    });
    let committed = store.commit(commit).await?;
    Ok(committed.seqs[0])
}

/// The longest chain there is: a commit holds the tenant's head and waits for the lease, which the same node was
/// about to renew. First one session is ended, then the other, and within ten seconds another node delivers.
#[test]
fn postgres_lets_another_node_take_over_from_one_that_is_stopped_between_two_statements() {
    let (elsewhere, stopped) = (runtime(), runtime());
    let bench = elsewhere.block_on(Bench::postgres());
    let schema = schema_of(bench.url());
    let name = format!("stopped {schema}");
    let node = stopped.block_on(async {
        let store = open(bench.url(), options(&name)).await.unwrap();
        lease_and_append(&store, "a", 0).await.unwrap();
        store
    });
    let (in_the_way, looking) = elsewhere.block_on(async { (connect().await, connect().await) });
    let settings = format!(
        "SET search_path = {schema}; SET chaperone.tenant = '{}'; SET lock_timeout = '8s'",
        clinic()
    );
    elsewhere.block_on(async {
        in_the_way.batch_execute(&settings).await.unwrap();
        let locked = "BEGIN; SELECT 1 FROM lease FOR UPDATE";
        in_the_way.batch_execute(locked).await.unwrap();
    });
    let until_so_many_wait = |wanted: usize| {
        let waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'";
        while elsewhere
            .block_on(looking.query(waiting, &[&name]))
            .unwrap()
            .len()
            < wanted
        {
            stopped.block_on(tokio::task::yield_now());
        }
    };
    let renewing = Arc::clone(&node);
    let renewed = stopped.spawn(async move { take(&renewing, "a", 1).await });
    until_so_many_wait(1);
    let committing = Arc::clone(&node);
    let committed = stopped.spawn(async move { append_in(&committing, 1, 1).await });
    until_so_many_wait(2);
    let locked_head = elsewhere.block_on(async {
        in_the_way.batch_execute("ROLLBACK").await.unwrap();
        let head = "SELECT 1 FROM head FOR UPDATE";
        in_the_way.execute(head, &[]).await
    });
    assert_eq!(locked_head.unwrap(), 1);

    let took_over = elsewhere.block_on(async {
        let second = bench.second().await;
        lease_and_append(&second, "b", 10).await
    });
    assert_eq!(took_over.unwrap(), 1);
    // It goes on, and nothing of what it was about to do happens.
    let (renewed, committed) =
        stopped.block_on(async { (renewed.await.unwrap(), committed.await.unwrap()) });
    assert!(
        matches!(renewed, Err(LeaseRefused::Store(_))),
        "{renewed:?}"
    );
    assert!(
        matches!(committed, Err(CommitFailed::StaleEpoch)),
        "{committed:?}"
    );
    assert_eq!(stopped.block_on(node.size(&clinic())).unwrap(), 2);
    elsewhere.block_on(bench.clean());
}

/// Commits forty at once, a quarter of which the database itself refuses.
async fn commit_with_poison(store: &Arc<dyn Store>) {
    let mut callers = JoinSet::new();
    for n in 0..40_u8 {
        let store = Arc::clone(store);
        callers.spawn(async move {
            let poisonous = n % 4 == 3;
            let key = if poisonous {
                "poison".to_owned()
            } else {
                format!("k{n}")
            };
            let mut commit = commit_at(0);
            commit.append(account(&format!("a{n}")), Expected::Version(0), event(n));
            commit.projections.push(record(&key, 1));
            (poisonous, store.commit(commit).await)
        });
    }
    for (poisonous, result) in callers.join_all().await {
        match result {
            Ok(_) => assert!(!poisonous),
            Err(failed) => {
                assert!(
                    poisonous && matches!(failed, CommitFailed::Unavailable(_)),
                    "{failed:?}"
                );
            }
        }
    }
    let leaves = store.leaves(&clinic(), 0, 100).await.unwrap();
    assert_eq!(leaves.len(), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_postgres_refuses_fails_alone() {
    let bench = Bench::postgres().await;
    let schema = schema_of(bench.url());
    let trigger = format!(
        "SET search_path = {schema};
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'refused'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON projection FOR EACH ROW
         WHEN (NEW.key = 'poison') EXECUTE FUNCTION refuse();"
    );
    connect().await.batch_execute(&trigger).await.unwrap();
    commit_with_poison(&bench.store()).await;
    bench.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_sqlite_refuses_fails_alone() {
    let bench = Bench::sqlite().await;
    let path = bench.url().strip_prefix("sqlite:").unwrap();
    let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON projection WHEN NEW.key = 'poison'
                   BEGIN SELECT RAISE(ABORT, 'refused'); END";
    rusqlite::Connection::open(path)
        .unwrap()
        .execute_batch(trigger)
        .unwrap();
    commit_with_poison(&bench.store()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_survives_the_loss_of_a_shared_transaction() {
    let bench = Bench::sqlite().await;
    let store = bench.store();
    let path = bench.url().strip_prefix("sqlite:").unwrap();
    let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON projection WHEN NEW.key = 'poison'
                   BEGIN SELECT RAISE(ROLLBACK, 'refused'); END";
    rusqlite::Connection::open(path)
        .unwrap()
        .execute_batch(trigger)
        .unwrap();
    let mut callers = JoinSet::new();
    for n in 0..40_u8 {
        let store = Arc::clone(&store);
        callers.spawn(async move {
            let mut commit = commit_at(0);
            commit.append(StreamId::Refusals, Expected::Any, event(n));
            if n % 8 == 7 {
                commit.projections.push(record("poison", 1));
            }
            store.commit(commit).await
        });
    }
    let told = callers.join_all().await;
    // Neighbours of a lost transaction hear that nothing happened, and nothing did.
    let done = told.iter().filter(|told| told.is_ok()).count();
    let undone = told
        .iter()
        .filter(|told| matches!(told, Err(CommitFailed::Unavailable(_))))
        .count();
    assert_eq!(done + undone, 40);
    assert_eq!(store.leaves(&clinic(), 0, 100).await.unwrap().len(), done);
    append(&store, StreamId::Modes, 0).await.unwrap();
}
