//! `chaperone dataflow`: where data goes, drawn from the bundle, and beside it what the ledger saw.
//!
//! Exit 1 means that something differs: something was seen that is not declared, a declared flow was never seen and
//! `--strict` was asked for, or the drawing is not the one of `--check`.

mod mermaid;
mod svg;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use chaperone_core::event::Recorded;
use chaperone_engine::dataflow::{Comparison, DataFlow, Observed};
use chaperone_policy::Bundle;
use clap::ValueEnum;
use serde_json::json;

use crate::bundle_files;
use crate::cli;
use crate::config::Config;
use crate::demo::print_line;

/// Leaves read at once.
const LEAVES_AT_ONCE: u32 = 1_000;

/// Arguments of `dataflow`.
#[derive(Debug, clap::Args)]
pub(crate) struct DataflowArgs {
    /// Folder of the governance bundle; the built-in default when neither this nor --config is given.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    bundle: Option<PathBuf>,
    /// Configuration file; its bundle is drawn.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Compare with what the ledger saw since the bundle came into force.
    #[arg(long, requires = "config")]
    observed: bool,
    /// A declared flow that was never seen is a difference too.
    #[arg(long, requires = "observed")]
    strict: bool,
    /// How it is drawn.
    #[arg(long, value_enum, default_value_t = Format::Mermaid)]
    format: Format,
    /// Compare the drawing with a file instead of printing it.
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A Mermaid flowchart.
    Mermaid,
    /// An SVG image.
    Svg,
    /// One JSON object with nodes, flows and differences.
    Json,
}

/// Runs it.
pub(crate) fn run(args: DataflowArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.as_deref().map(Config::read).transpose()?;
    let folder = match (&args.bundle, &config) {
        (Some(folder), _) => Some(folder.as_path()),
        (None, Some(config)) => Some(config.governance.as_path()),
        (None, None) => None,
    };
    let bundle = bundle_files::load(&bundle_files::read(folder)?)?;
    let declared = DataFlow::declared(&bundle);
    let comparison = match &config {
        Some(config) if args.observed => {
            let runtime = tokio::runtime::Runtime::new()?;
            Some(runtime.block_on(observe(config, &bundle, &declared))?)
        }
        _ => None,
    };
    let drawn = draw(args.format, &declared, comparison.as_ref())?;
    if let Some(file) = &args.check {
        let known = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read `{}`", file.display()))?;
        if known.trim_end() != drawn.trim_end() {
            eprintln!(
                "`{}` is not what the bundle says; draw it again with `chaperone dataflow` and review what changed",
                file.display()
            );
            return Ok(cli::no());
        }
    } else {
        print_line(&drawn);
    }
    let Some(comparison) = comparison else {
        return Ok(ExitCode::SUCCESS);
    };
    if comparison.since.is_none() {
        bail!(
            "the ledger does not say that this bundle ever came into force; start `serve` with it first"
        );
    }
    tell(&comparison);
    let differs =
        !comparison.undeclared.is_empty() || (args.strict && !comparison.never_seen.is_empty());
    Ok(if differs {
        cli::no()
    } else {
        ExitCode::SUCCESS
    })
}

fn draw(
    format: Format,
    declared: &DataFlow,
    comparison: Option<&Comparison>,
) -> anyhow::Result<String> {
    Ok(match format {
        Format::Mermaid => mermaid::draw(declared, comparison),
        Format::Svg => svg::draw(declared, comparison),
        Format::Json => serde_json::to_string_pretty(&json!({
            "declared": declared,
            "observed": comparison,
        }))?,
    })
}

/// What differs, on standard error, so that the drawing stays alone on standard output.
fn tell(comparison: &Comparison) {
    for (heading, differences) in [
        ("seen, but not declared", &comparison.undeclared),
        ("declared, but never seen", &comparison.never_seen),
    ] {
        if differences.is_empty() {
            continue;
        }
        eprintln!("{heading}:");
        for difference in differences {
            let what = if difference.what.is_empty() {
                String::new()
            } else {
                format!(": {}", difference.what.join(", "))
            };
            eprintln!("  {} → {}{what}", difference.from, difference.to);
        }
    }
}

/// Reads the ledger. Nothing of it is recorded, because nothing of a patient is shown.
async fn observe(
    config: &Config,
    bundle: &Bundle,
    declared: &DataFlow,
) -> anyhow::Result<Comparison> {
    let store =
        chaperone_store::open(&config.store.url, chaperone_store::Options::default()).await?;
    let mut observed = Observed::default();
    let mut next = 0;
    loop {
        let leaves = store.leaves(&config.tenant, next, LEAVES_AT_ONCE).await?;
        if leaves.is_empty() {
            return Ok(observed.compare(declared));
        }
        next += leaves.len() as u64;
        for leaf in leaves {
            observed.fold(&Recorded::from_leaf(&leaf)?, bundle.digest());
        }
    }
}

/// What of a flow stands beside its line: the class, and as much as there is room for.
fn label(class: &str, what: impl Iterator<Item = String>, room: usize) -> String {
    let what: Vec<String> = what.collect();
    let shown = what
        .iter()
        .take(room)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match what.len().checked_sub(room) {
        Some(more) if more > 0 => format!("{class}: {shown} and {more} more"),
        _ if shown.is_empty() => class.to_owned(),
        _ => format!("{class}: {shown}"),
    }
}
