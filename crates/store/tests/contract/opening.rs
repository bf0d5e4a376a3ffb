//! Opening and examining stores: what is refused, and that the refusal says what to do.

use chaperone_core::Timestamp;
use chaperone_store::{Aspect, Backend, Diagnosis, OpenFailed, Options, Verdict, diagnose, open};

use crate::bench::{Bench, connect, schema_of};

async fn refusal(url: &str) -> OpenFailed {
    match open(url, Options::default()).await {
        Err(refused) => refused,
        Ok(_) => panic!("{url} was opened"),
    }
}

async fn examined(url: &str) -> Diagnosis {
    diagnose(url, &Timestamp::now).await.unwrap()
}

fn verdict_on(diagnosis: &Diagnosis, aspect: Aspect) -> Option<Verdict> {
    let mut findings = diagnosis.findings.iter();
    findings
        .find(|finding| finding.aspect == aspect)
        .map(|finding| finding.verdict)
}

#[tokio::test]
async fn only_urls_of_a_known_backend_are_opened() {
    for url in ["", "store.db", "mysql://localhost/db", "/tmp/store.db"] {
        assert!(matches!(refusal(url).await, OpenFailed::UnknownScheme));
    }
    for url in [
        "sqlite:",
        "sqlite::memory:",
        "sqlite:/no/such/folder/store.db",
    ] {
        assert!(matches!(refusal(url).await, OpenFailed::UrlInvalid(_)));
    }
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_refused_without_its_password() {
    // Nobody listens on the discard port.
    let url = "postgres://u:topsecret@127.0.0.1:9/db";
    let refused = refusal(url).await;
    assert!(matches!(refused, OpenFailed::Unreachable(_)));
    assert!(!format!("{refused:?}").contains("topsecret"));
    let diagnosis = examined(url).await;
    assert_eq!(diagnosis.verdict(), Verdict::Bad);
    assert!(!format!("{diagnosis:?}").contains("topsecret"));
}

#[tokio::test]
async fn a_foreign_sqlite_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other
        .execute_batch("CREATE TABLE recipe (name TEXT)")
        .unwrap();
    let url = format!("sqlite:{}", path.display());
    assert!(matches!(refusal(&url).await, OpenFailed::NotOurs));
    std::fs::write(
        folder.path().join("text.db"),
        "not a database at all, but long enough",
    )
    .unwrap();
    let url = format!("sqlite:{}", folder.path().join("text.db").display());
    assert!(matches!(refusal(&url).await, OpenFailed::Unreachable(_)));
}

#[tokio::test]
async fn a_newer_sqlite_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let url = format!("sqlite:{}", path.display());
    drop(open(&url, Options::default()).await.unwrap());
    let direct = rusqlite::Connection::open(&path).unwrap();
    direct.pragma_update(None, "user_version", 99).unwrap();
    let refused = refusal(&url).await;
    assert!(matches!(refused, OpenFailed::Newer { found: 99, .. }));
    assert_eq!(
        verdict_on(&examined(&url).await, Aspect::Schema),
        Some(Verdict::Bad)
    );
}

#[tokio::test]
async fn a_newer_postgres_schema_is_refused() {
    let bench = Bench::postgres().await;
    let schema = schema_of(bench.url());
    let insert = format!("INSERT INTO {schema}.chaperone_migration VALUES (99, '0099_later')");
    connect().await.batch_execute(&insert).await.unwrap();
    let refused = refusal(bench.url()).await;
    assert!(matches!(refused, OpenFailed::Newer { found: 99, .. }));
    assert_eq!(
        verdict_on(&examined(bench.url()).await, Aspect::Schema),
        Some(Verdict::Bad)
    );
    bench.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_nodes_may_start_at_once() {
    let url = crate::cluster::fresh_url();
    let starting = (0..6).map(|_| open(&url, Options::default()));
    for started in futures::future::join_all(starting).await {
        assert!(started.unwrap().tenants().await.unwrap().is_empty());
    }
    let drop = format!("DROP SCHEMA {} CASCADE", schema_of(&url));
    connect().await.batch_execute(&drop).await.unwrap();
}

#[tokio::test]
async fn a_sqlite_store_is_examined_without_changing_it() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("store.db").display());
    let before = examined(&url).await;
    assert_eq!(before.backend, Backend::Sqlite);
    assert_eq!(before.verdict(), Verdict::Warning);
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
    let store = open(&url, Options::default()).await.unwrap();
    assert_eq!(examined(&url).await.verdict(), Verdict::Good);
    drop(store);
}

#[tokio::test]
async fn a_postgres_store_is_examined_without_changing_it() {
    let url = crate::cluster::fresh_url();
    let before = examined(&url).await;
    assert_eq!(verdict_on(&before, Aspect::Schema), Some(Verdict::Warning));
    assert_eq!(verdict_on(&before, Aspect::Role), Some(Verdict::Good));

    let bench = Bench::postgres().await;
    let after = examined(bench.url()).await;
    assert_eq!(after.backend, Backend::Postgres);
    assert_eq!(after.verdict(), Verdict::Good, "{after:?}");
    assert_eq!(after.findings.len(), 7);

    // A clock an hour ahead is noticed, and so is a table without its policy.
    let ahead = || Timestamp::now() + std::time::Duration::from_secs(3_600);
    let diagnosis = diagnose(bench.url(), &ahead).await.unwrap();
    assert_eq!(
        verdict_on(&diagnosis, Aspect::Clock),
        Some(Verdict::Warning)
    );
    let schema = schema_of(bench.url());
    let weaken = format!("ALTER TABLE {schema}.record NO FORCE ROW LEVEL SECURITY");
    connect().await.batch_execute(&weaken).await.unwrap();
    let weakened = examined(bench.url()).await;
    assert_eq!(
        verdict_on(&weakened, Aspect::RowSecurity),
        Some(Verdict::Bad)
    );
    bench.clean().await;
}
