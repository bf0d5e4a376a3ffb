//! Prints how many durable commits per second a store takes from many callers: each commit with three
//! events, three rows, two payloads of 2 kB and one work item. A look, not a test: figures depend on the
//! machine.
//!
//! ```text
//! cargo run --release -p chaperone-store --example commit_rate -- sqlite:rate.db
//! scripts/with-postgres sh -c 'cargo run --release -p chaperone-store --example commit_rate -- "$CHAPERONE_TEST_POSTGRES"'
//! ```

#![expect(clippy::print_stdout, reason = "a program for the terminal")]
#![allow(
    clippy::disallowed_methods,
    clippy::allow_attributes,
    reason = "measures the real clock"
)]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chaperone_core::Timestamp;
use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{TenantId, WorkId, WritebackId};
use chaperone_core::ports::{
    Claim, Commit, Expected, PayloadClass, Record, RecordChange, RecordKey, SealedPayload, Store,
    WorkChange, WorkItem, WorkKind,
};
use chaperone_core::principal::{Actor, SystemPart};
use chaperone_store::{Options, open};

const CALLERS: u64 = 64;
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(5);

type Failed = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let url = std::env::args()
        .nth(1)
        .ok_or("give the URL of a store, such as sqlite:rate.db")?;
    let store = open(&url, Options::default()).await?;
    let run = Timestamp::now().as_nanosecond().unsigned_abs();
    round(&store, run, 0, WARM_UP).await?;
    let mut latencies = round(&store, run, 1, MEASURED).await?;
    latencies.sort();
    let count = latencies.len();
    let at = |share: usize| {
        let index = count.saturating_sub(1) * share / 100;
        latencies.get(index).copied().unwrap_or_default()
    };
    println!(
        "commits: {:.0} per second from {CALLERS} callers; latency p50 {:.1?}, p99 {:.1?}, max {:.1?}",
        count as f64 / MEASURED.as_secs_f64(),
        at(50),
        at(99),
        at(100)
    );
    read_rates(&store).await
}

fn tenant() -> Result<TenantId, Failed> {
    Ok(TenantId::new("rate")?)
}

async fn round(
    store: &Arc<dyn Store>,
    run: u128,
    part: u64,
    during: Duration,
) -> Result<Vec<Duration>, Failed> {
    let mut callers = tokio::task::JoinSet::new();
    let end = Instant::now() + during;
    for caller in 0..CALLERS {
        let store = Arc::clone(store);
        let tenant = tenant()?;
        callers.spawn(async move {
            let mut latencies = Vec::new();
            let mut n = 0;
            while Instant::now() < end {
                let id = run ^ (u128::from(part) << 120) ^ (u128::from(caller) << 96) ^ n;
                n += 1;
                let commit = commit(tenant.clone(), id.to_be_bytes());
                let begun = Instant::now();
                store.commit(commit).await?;
                latencies.push(begun.elapsed());
            }
            Ok::<_, Failed>(latencies)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = callers.join_next().await {
        all.extend(done??);
    }
    Ok(all)
}

fn commit(tenant: TenantId, id: [u8; 16]) -> Commit {
    let now = Timestamp::now();
    let part = SystemPart::Gateway;
    let mut commit = Commit::new(tenant, now, Actor::System { part });
    let stream = StreamId::Writeback(WritebackId::from_random(id));
    let digest = Digest::of_bytes(&id);
    for version in 0..3 {
        let event = Event::StepUpPassed { digest };
        commit.append(stream.clone(), Expected::Version(version), event);
    }
    let value = serde_json::json!({ "digest": digest.to_string(), "state": "proposed" });
    let row = Record::new("rate", digest, value).indexed("proposed", now.to_string());
    commit.records.push(RecordChange::Create(row.clone()));
    commit.projections.push(row.clone());
    let mut second = row;
    second.key.collection = "rate-second".to_owned();
    commit.projections.push(second);
    for salt in [1, 2] {
        let sealed: Vec<u8> = digest
            .as_bytes()
            .iter()
            .copied()
            .cycle()
            .take(2_048)
            .collect();
        commit.payloads.push(SealedPayload {
            address: PayloadAddress::of(&[salt; 32], &id),
            class: PayloadClass::Clinical,
            key: "key".to_owned(),
            sealed,
        });
    }
    commit.work.push(WorkChange::Enqueue(WorkItem {
        id: WorkId::from_random(id),
        kind: WorkKind::Deliver,
        subject: stream.to_string(),
        order_key: Some(digest.to_string()),
        due: now,
    }));
    commit
}

async fn read_rates(store: &Arc<dyn Store>) -> Result<(), Failed> {
    let (tenant, now) = (tenant()?, Timestamp::now());
    let begun = Instant::now();
    const READS: u32 = 500;
    for _ in 0..READS {
        let key = RecordKey::new("rate", "nothing");
        store.record(&tenant, &key, now).await?;
    }
    println!("one record: {:.1?} per read", begun.elapsed() / READS);
    for _ in 0..3 {
        let begun = Instant::now();
        let claim = Claim {
            tenant: tenant.clone(),
            lane: None,
            worker: "rate".to_owned(),
            now,
            lease_ms: 60_000,
            limit: 100,
        };
        let claimed = store.claim_due(claim).await?.len();
        println!("claim of {claimed} items: {:.1?}", begun.elapsed());
    }
    Ok(())
}
