//! `chaperone demo`: everything embedded, synthetic patients, scripted agents and the console.
//!
//! Reading order: `world` (what is put up), `agents` (how a scripted agent talks), `scenes` (what they
//! do, and what the scripted humans answer), `audit` (an independent count of what happened).

mod agents;
mod audit;
mod people;
mod scenes;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::ValueEnum;

use crate::cli;
use crate::telemetry;

/// How the sandbox EHR behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// Conditional headers, versions, transactions, Provenance.
    Full,
    /// Plain create and read: no conditional headers, no versions, no Provenance.
    Plain,
    /// No writes: humans enter everything.
    ReadOnly,
    /// Every write by one operation of its own, which acknowledges.
    Vendor,
    /// Orders are placed unsigned and signed in the EHR; the rest as plain.
    Staged,
    /// As full, but updates are taken as patches alone.
    Patching,
}

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Run the scenes once with scripted approvers, print what happened, and stop.
    #[arg(long)]
    once: bool,
    /// Print the summary as one JSON object.
    #[arg(long)]
    json: bool,
    /// Folder (or .tar.gz) of FHIR transaction bundles to use instead of the synthetic patients.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Server profile of the sandbox EHR.
    #[arg(long, value_enum, default_value = "full")]
    profile: Profile,
    /// URL of the store; an embedded database in a temporary folder when absent.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Port of console and gateway on the loopback address; 0 takes any free port.
    #[arg(long, default_value_t = 8443)]
    port: u16,
    /// Write addresses and evaluation accounts to this file when ready.
    #[arg(long, value_name = "FILE")]
    state_file: Option<PathBuf>,
    /// Write what the sandbox EHR was asked, as its access log would have it, to this file when stopping.
    #[arg(long, value_name = "FILE", hide = true)]
    ehr_log: Option<PathBuf>,
    /// How much to log: error, warn, info or debug.
    #[arg(long, default_value = "warn")]
    log: String,
}

/// Runs it.
pub(crate) fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    telemetry::start_logs(&args.log, false)?;
    let runtime = tokio::runtime::Runtime::new().context("the runtime cannot start")?;
    runtime.block_on(play(args))
}

async fn play(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let world = world::World::put_up(&args).await?;
    if !args.once {
        return world.stay_open(&args).await;
    }
    let played = scenes::play_all(&world, args.json).await;
    let summary = match played {
        Ok(()) => {
            world.settle().await?;
            audit::summarise(&world).await
        }
        Err(failed) => Err(failed),
    };
    world.take_down().await;
    let summary = summary?;
    if args.json {
        print_line(&serde_json::to_string(&summary)?);
    } else {
        print_line(&summary.in_words());
    }
    Ok(if summary.is_good() {
        ExitCode::SUCCESS
    } else {
        cli::no()
    })
}

/// The answer goes to standard output; everything else to standard error.
pub(crate) fn print_line(text: &str) {
    use std::io::Write as _;
    // A reader that has gone away, such as `head`, is no error of ours.
    let _ = writeln!(std::io::stdout(), "{text}");
}

#[cfg(test)]
mod tests;
