//! `chaperone bench`: figures of this machine. A measurement, not a test: what misses its aim is
//! printed as such, and the exit code stays 0.
//!
//! Reading order: `bed` (what is put up to be measured), `pace` (how load is made), `upstream` (how long
//! the EHR took, per request), then one file per figure: `reads`, `proposals`, `rulings`, `start`; and
//! `figures` (what is printed) with `disk` (flushes and memory of this machine). `validation` measures
//! the validator alone.

mod bed;
mod disk;
mod figures;
mod pace;
mod proposals;
mod reads;
mod rulings;
mod start;
mod upstream;
mod validation;
mod writeback;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::demo::print_line;
use crate::telemetry;
use figures::{Report, Skipped};

/// Longest measurement, in seconds: an envelope lives five minutes, and one measurement is one envelope.
const SECONDS_MAX: u64 = 200;
/// Highest arrival rate, per second.
const RATE_MAX: u32 = 100_000;
/// Seconds per measurement with `--quick`.
const QUICK_SECONDS: u64 = 1;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    command: Option<BenchCommand>,
    #[command(flatten)]
    whole: WholeArgs,
}

#[derive(Debug, clap::Subcommand)]
enum BenchCommand {
    /// Figures of the validator alone, on files given.
    Validate(validation::ValidationArgs),
    /// Figures of the write path alone: proposals, from approval to delivery, deliveries.
    Writeback(writeback::WritebackArgs),
}

/// Arguments of `bench` without a subcommand.
#[derive(Debug, clap::Args)]
struct WholeArgs {
    /// URL of a PostgreSQL to measure beside SQLite; a schema `chaperone_bench_…` is made in it and
    /// left there. Taken from CHAPERONE_TEST_POSTGRES when absent.
    #[arg(
        long,
        value_name = "URL",
        env = "CHAPERONE_TEST_POSTGRES",
        hide_env_values = true
    )]
    postgres: Option<String>,
    /// Seconds per measurement.
    #[arg(long, value_name = "N", default_value_t = 5)]
    seconds: u64,
    /// One second per measurement: a first impression.
    #[arg(long, conflicts_with = "seconds")]
    quick: bool,
    /// Reads that arrive per second, whatever is answered.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    rate: u32,
    /// Folder on the disk to measure: a temporary folder is made in it and removed.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print the figures as one JSON object.
    #[arg(long)]
    json: bool,
}

impl WholeArgs {
    fn span(&self) -> anyhow::Result<Duration> {
        let seconds = if self.quick {
            QUICK_SECONDS
        } else {
            self.seconds
        };
        if !(1..=SECONDS_MAX).contains(&seconds) {
            bail!("`--seconds` must be from 1 to {SECONDS_MAX}");
        }
        if !(1..=RATE_MAX).contains(&self.rate) {
            bail!("`--rate` must be from 1 to {RATE_MAX}");
        }
        if let Some(url) = &self.postgres
            && chaperone_store::Backend::of_url(url).ok()
                != Some(chaperone_store::Backend::Postgres)
        {
            bail!("`--postgres` must be a URL that starts with `postgres://` or `postgresql://`");
        }
        Ok(Duration::from_secs(seconds))
    }
}

/// Runs it.
pub(crate) fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        Some(BenchCommand::Validate(args)) => return validation::run(args),
        Some(BenchCommand::Writeback(args)) => return writeback::run(args),
        None => {}
    }
    let args = args.whole;
    let span = args.span()?;
    say_debug();
    let folder = disk::folder(args.dir.as_deref())?;
    let times = upstream::start_tracing()?;
    let metrics = telemetry::start_metrics()?;
    let runtime = tokio::runtime::Runtime::new().context("the runtime cannot start")?;
    let report = runtime.block_on(async {
        let plan = Plan {
            span,
            rate: args.rate,
            folder: folder.path(),
            times,
            metrics,
        };
        measure(&plan, args.postgres.as_deref()).await
    })?;
    if args.json {
        print_line(&serde_json::to_string_pretty(&report)?);
    } else {
        print_line(report.in_words().trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

fn say_debug() {
    if cfg!(debug_assertions) {
        eprintln!(
            "bench: this is a debug build; its figures say nothing about a release build (cargo build --release -p chaperone)"
        );
    }
}

/// What every measurement is told.
struct Plan<'a> {
    span: Duration,
    rate: u32,
    folder: &'a std::path::Path,
    times: upstream::Times,
    metrics: metrics_exporter_prometheus::PrometheusHandle,
}

async fn measure(plan: &Plan<'_>, postgres: Option<&str>) -> anyhow::Result<Report> {
    let mut report = Report::of_this_machine(plan.span, plan.rate);
    say("time to ready and memory of `serve`");
    report.start = Some(start::measure(plan.folder).await?);
    say("rulings with the full matrix");
    report.rulings = Some(rulings::measure(plan.span)?);
    let sqlite = format!("sqlite:{}", plan.folder.join("bench.db").display());
    report
        .databases
        .push(measure_database(plan, "SQLite", &sqlite).await?);
    match postgres {
        Some(url) => {
            let url = bed::with_own_schema(url);
            report
                .databases
                .push(measure_database(plan, "PostgreSQL", &url).await?);
        }
        None => report.skipped.push(Skipped {
            what: "PostgreSQL".to_owned(),
            how: "give a database with --postgres URL or CHAPERONE_TEST_POSTGRES".to_owned(),
        }),
    }
    report.bench_resident_bytes = disk::resident_bytes(None);
    Ok(report)
}

async fn measure_database(
    plan: &Plan<'_>,
    name: &str,
    url: &str,
) -> anyhow::Result<figures::Database> {
    let bed = bed::Bed::put_up(plan.folder, name, url, plan.metrics.clone()).await?;
    let measured = measure_on(plan, name, &bed).await;
    bed.take_down().await;
    measured.with_context(|| format!("measuring on {name}"))
}

async fn measure_on(
    plan: &Plan<'_>,
    name: &str,
    bed: &bed::Bed,
) -> anyhow::Result<figures::Database> {
    let mut database = figures::Database::named(name);
    for clients in reads::CLIENTS {
        say(&format!("{name}: reads from {clients} clients"));
        let asked = reads::Asked {
            clients,
            rate: plan.rate,
            span: plan.span,
        };
        database
            .reads
            .push(reads::measure(bed, &asked, plan.folder, &plan.times).await?);
    }
    say(&format!("{name}: reads as fast as they are answered"));
    database.reads_most = Some(reads::most(bed, plan.span).await?);
    say(&format!("{name}: proposals"));
    database.proposals = proposals::measure(bed, plan.span).await?;
    Ok(database)
}

fn say(what: &str) {
    eprintln!("bench: {what}");
}
