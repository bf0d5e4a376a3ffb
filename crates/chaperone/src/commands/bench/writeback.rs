//! The write path alone: proposals ruled and recorded, from an approval to its delivery, deliveries a second.
//!
//! Job queues do a part of it: they take a job durably, hand it to a worker and note that it is done.
//! `scripts/bench-writeback` measures two of them on the same PostgreSQL in the same run; what Chaperone does beyond
//! (validation, ruling, approval, a write to the EHR that is read back, and a ledger entry for each step) is the
//! difference to look at.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chaperone_core::ids::{AccountName, PersonId, WritebackId};
use chaperone_core::principal::{Human, Role};
use chaperone_core::writeback::StateName;
use chaperone_engine::Engine;
use chaperone_engine::approve::ApproveRequest;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use super::bed::{self, Bed};
use super::disk::{self, now};
use super::figures::{Spread, in_words};
use super::proposals;
use crate::demo::print_line;
use crate::telemetry;

/// Most write-backs of one measurement.
const JOBS_MAX: usize = 100_000;
/// Most at the same time.
const CONCURRENCY_MAX: usize = 256;
/// One of so many is measured alone, from its approval to its delivery.
const ALONE: usize = 5;
/// Longest that a delivery may take.
const DELIVERED_WITHIN: Duration = Duration::from_secs(60);
/// How often a state is looked at when nothing announces a change.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Arguments of `bench writeback`.
#[derive(Debug, clap::Args)]
pub(super) struct WritebackArgs {
    /// URL of a PostgreSQL to measure beside SQLite; a schema `chaperone_bench_…` is made in it and left there.
    #[arg(
        long,
        value_name = "URL",
        env = "CHAPERONE_TEST_POSTGRES",
        hide_env_values = true
    )]
    postgres: Option<String>,
    /// Write-backs on each database.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    jobs: usize,
    /// Agents and approvers at the same time.
    #[arg(long, value_name = "N", default_value_t = 8)]
    concurrency: usize,
    /// Folder on the disk to measure: a temporary folder is made in it and removed.
    #[arg(long, value_name = "DIR")]
    dir: Option<std::path::PathBuf>,
    /// Print the figures as one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    build: &'static str,
    jobs: usize,
    concurrency: usize,
    databases: Vec<Figures>,
}

/// What was measured on one database.
#[derive(Debug, Serialize)]
struct Figures {
    name: &'static str,
    /// Validated, ruled on and recorded.
    proposals_per_s: f64,
    /// One at a time.
    approval_to_delivery: Spread,
    /// From the first approval to the last delivery.
    deliveries_per_s: f64,
}

/// Runs it.
pub(super) fn run(args: &WritebackArgs) -> anyhow::Result<ExitCode> {
    if !(ALONE..=JOBS_MAX).contains(&args.jobs) {
        bail!("`--jobs` must be from {ALONE} to {JOBS_MAX}");
    }
    if !(1..=CONCURRENCY_MAX).contains(&args.concurrency) {
        bail!("`--concurrency` must be from 1 to {CONCURRENCY_MAX}");
    }
    super::say_debug();
    let folder = disk::folder(args.dir.as_deref())?;
    let metrics = telemetry::start_metrics()?;
    let runtime = tokio::runtime::Runtime::new().context("the runtime cannot start")?;
    let report = runtime.block_on(async {
        let mut report = Report {
            build: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
            jobs: args.jobs,
            concurrency: args.concurrency,
            databases: Vec::new(),
        };
        let sqlite = format!("sqlite:{}", folder.path().join("bench.db").display());
        let mut databases = vec![("SQLite", sqlite)];
        databases.extend(
            args.postgres
                .as_deref()
                .map(|url| ("PostgreSQL", bed::with_own_schema(url))),
        );
        for (name, url) in databases {
            super::say(name);
            let bed = Bed::put_up(folder.path(), name, &url, metrics.clone()).await?;
            let measured = measure(&bed, name, args.jobs, args.concurrency).await;
            bed.take_down().await;
            report
                .databases
                .push(measured.with_context(|| format!("measuring on {name}"))?);
        }
        anyhow::Ok(report)
    })?;
    if args.json {
        print_line(&serde_json::to_string_pretty(&report)?);
    } else {
        for it in &report.databases {
            print_line(&format!(
                "{:<12} {:>7.0} proposals/s   approval to delivery p50 {:>8}  p99 {:>8}   {:>7.0} deliveries/s   ({} at once)",
                it.name,
                it.proposals_per_s,
                in_words(it.approval_to_delivery.p50_us),
                in_words(it.approval_to_delivery.p99_us),
                it.deliveries_per_s,
                report.concurrency,
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(
    bed: &Bed,
    name: &'static str,
    jobs: usize,
    concurrency: usize,
) -> anyhow::Result<Figures> {
    let callers = proposals::callers(bed).await?;
    let begun = now();
    let waiting: Vec<WritebackId> = futures::stream::iter(0..jobs)
        .map(|number| {
            let caller = callers.get(number % callers.len().max(1));
            async move {
                let caller = caller.context("no caller")?;
                proposals::propose(&bed.engine, caller, number as u64).await
            }
        })
        .buffer_unordered(concurrency)
        .try_collect()
        .await?;
    let proposals_per_s = per_s(waiting.len(), begun.elapsed());

    let (alone, together) = waiting.split_at(jobs / ALONE);
    let mut times = Vec::with_capacity(alone.len());
    for (number, id) in alone.iter().enumerate() {
        let approver = approver(number)?;
        let begun = now();
        approve(&bed.engine, &approver, *id).await?;
        delivered(&bed.engine, *id).await?;
        times.push(begun.elapsed());
    }
    let begun = now();
    futures::stream::iter(together.iter().zip(alone.len()..))
        .map(|(id, number)| async move { approve(&bed.engine, &approver(number)?, *id).await })
        .buffer_unordered(concurrency)
        .try_collect::<Vec<()>>()
        .await?;
    for id in together {
        delivered(&bed.engine, *id).await?;
    }
    Ok(Figures {
        name,
        proposals_per_s,
        approval_to_delivery: Spread::of(times),
        deliveries_per_s: per_s(together.len(), begun.elapsed()),
    })
}

fn per_s(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(f64::EPSILON)
}

/// Somebody else for each: nobody may approve as fast as this is to show.
fn approver(number: usize) -> anyhow::Result<Human> {
    Ok(Human {
        account: AccountName::new(format!("bench-approver-{number}"))?,
        person: PersonId::from_random((number as u128).to_be_bytes()),
        roles: vec![Role::Clinician],
    })
}

async fn approve(engine: &Engine, by: &Human, writeback: WritebackId) -> anyhow::Result<()> {
    let row = engine
        .writeback(writeback)
        .await?
        .context("a proposal is gone")?;
    let request = ApproveRequest {
        writeback,
        digest: row.digest.context("a proposal has no order")?,
        step_up: None,
        override_reason: None,
        review_ms: 5_000,
    };
    engine.approve(by, request).await?;
    Ok(())
}

/// Waits until it is in the EHR and recorded as such.
async fn delivered(engine: &Engine, writeback: WritebackId) -> anyhow::Result<()> {
    let mut changes = engine.changes();
    let until = now() + DELIVERED_WITHIN;
    loop {
        let row = engine.writeback(writeback).await?;
        match row.map(|row| row.state) {
            Some(StateName::Delivered) => return Ok(()),
            Some(StateName::Ready | StateName::Delivering | StateName::Unknown)
                if now() < until =>
            {
                let _ = tokio::time::timeout(LOOK_EVERY, changes.changed()).await;
            }
            state => bail!("a write-back did not arrive: {state:?}"),
        }
    }
}
