//! `chaperone conformance`: what an EHR connection is shown to do, and with that, whether writes go there.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use chaperone_connect::ehr::FhirEndpoint;
use chaperone_connect::ehr::conformance::RoundTrip;
use chaperone_core::conformance::{CheckOutcome, ConformanceReport, ConformanceVerdict};
use chaperone_core::ports::Environment;
use chaperone_engine::Engine;
use chaperone_engine::conformance::{VALID_DAYS, VALID_DAYS_MAX, needs_of, report_bytes};
use clap::Subcommand;

use crate::bundle_files;
use crate::cli;
use crate::compose::Basics;
use crate::config::{Config, ConfigArgs, Started};
use crate::demo::print_line;

/// Arguments of `conformance`.
#[derive(Debug, clap::Args)]
pub(crate) struct ConformanceArgs {
    #[command(subcommand)]
    command: ConformanceCommand,
}

#[derive(Debug, Subcommand)]
enum ConformanceCommand {
    /// Check an EHR connection and record the report. In a test tenant, synthetic drafts are written,
    /// changed, read back and retired; nothing is sent to an EHR without a passing report.
    Run(RunArgs),
}

/// Arguments of `conformance run`.
#[derive(Debug, clap::Args)]
struct RunArgs {
    /// The connection, as the configuration names it.
    #[arg(long, value_name = "NAME")]
    ehr: String,
    #[command(flatten)]
    config: ConfigArgs,
    /// Write drafts about this test patient, by logical id, instead of a synthetic one made for it.
    #[arg(long, value_name = "ID")]
    patient: Option<String>,
    /// Write drafts although the connection is not declared a test tenant; needs --patient.
    #[arg(long, requires = "patient")]
    round_trip: bool,
    /// Only look at what the server states; such a report switches nothing on.
    #[arg(long, conflicts_with = "round_trip")]
    read_only: bool,
    /// How long the report counts, in days.
    #[arg(long, value_name = "DAYS", default_value_t = VALID_DAYS,
          value_parser = clap::value_parser!(i64).range(1..=VALID_DAYS_MAX))]
    valid_days: i64,
    /// Where the report goes; `conformance/NAME-TIME.json` beside the configuration when absent.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print the report as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: ConformanceArgs) -> anyhow::Result<ExitCode> {
    let ConformanceCommand::Run(args) = args.command;
    let config = args.config.read()?;
    if config.ehr.connection.as_str() != args.ehr {
        bail!(
            "the configuration has no EHR connection `{}`; it has `{}`",
            args.ehr,
            config.ehr.connection
        );
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(check(&config, &args))
}

async fn check(config: &Config, args: &RunArgs) -> anyhow::Result<ExitCode> {
    let basics = Basics::of_this_machine();
    let round_trip = match (config.ehr.environment, &args.patient) {
        _ if args.read_only => RoundTrip::Off,
        (Environment::Production, Some(patient)) if args.round_trip => {
            RoundTrip::WithPatient(patient.clone())
        }
        (Environment::Production, _) => RoundTrip::Off,
        (_, Some(patient)) => RoundTrip::WithPatient(patient.clone()),
        (_, None) => RoundTrip::WithOwnPatient,
    };
    let bundle = bundle_files::load(&bundle_files::read(Some(&config.governance))?)?;
    let gate = config.gate(&bundle, &basics)?;
    let endpoint = config.endpoint(&gate, &basics).await?;
    let needs = needs_of(&bundle, basics.clock.now());
    let found = endpoint
        .conformance(&needs, &round_trip, &run_name(&basics))
        .await
        .context("the EHR's CapabilityStatement cannot be read")?;
    let Started { engine, escrow, .. } = config
        .start(&basics)
        .await
        .context("the connection was checked, and the report cannot be recorded")?;
    if let Some(escrow) = escrow {
        crate::keys::tell_escrow(&config.tenant, &escrow);
    }
    let report = engine.conformance_report(found, args.valid_days);
    let to = match &args.report {
        Some(file) => file.clone(),
        None => default_file(args.config.config.parent(), &report)?,
    };
    let bytes = report_bytes(&report)?;
    std::fs::write(&to, &bytes).with_context(|| format!("cannot write `{}`", to.display()))?;
    let digest = engine.record_conformance(&report).await?;
    crate::workers::tell_egress(&engine, &gate, true).await;
    while engine.integrate_ledger().await? > 0 {}
    if args.json {
        print_line(&serde_json::to_string(&report)?);
    } else {
        print_line(&in_words(&report));
        print_line(&format!(
            "report {} (SHA-256 {digest}), recorded in the ledger",
            to.display()
        ));
    }
    Ok(match report.verdict {
        ConformanceVerdict::Pass => ExitCode::SUCCESS,
        ConformanceVerdict::Fail | ConformanceVerdict::Incomplete => cli::no(),
    })
}

/// Checks an endpoint and records the report at once: for the embedded sandbox.
pub(crate) async fn prove(
    engine: &Arc<Engine>,
    endpoint: &FhirEndpoint,
    basics: &Basics,
) -> anyhow::Result<()> {
    let needs = needs_of(engine.bundle(), engine.now());
    let found = endpoint
        .conformance(&needs, &RoundTrip::WithOwnPatient, &run_name(basics))
        .await?;
    let report = engine.conformance_report(found, VALID_DAYS);
    engine.record_conformance(&report).await?;
    if report.verdict != ConformanceVerdict::Pass {
        bail!("the sandbox EHR does not conform:\n{}", in_words(&report));
    }
    Ok(())
}

/// Unlike any other run's.
fn run_name(basics: &Basics) -> String {
    let mut bytes = [0; 8];
    basics.random.fill(&mut bytes);
    format!("run-{:016x}", u64::from_be_bytes(bytes))
}

fn default_file(home: Option<&Path>, report: &ConformanceReport) -> anyhow::Result<PathBuf> {
    let folder = home.unwrap_or(Path::new("")).join("conformance");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make `{}`", folder.display()))?;
    let time = report.at.strftime("%Y%m%dT%H%M%SZ");
    Ok(folder.join(format!("{}-{time}.json", report.connection)))
}

fn in_words(report: &ConformanceReport) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let found = &report.found;
    // Writing to a string cannot fail.
    let _ = writeln!(text, "EHR connection {}", report.connection);
    if let Some(server) = &found.server {
        let _ = writeln!(text, "server     {server}");
    }
    let _ = writeln!(text, "packages   {}", report.packages.join(", "));
    let _ = writeln!(text, "validator  {}", report.validator);
    for check in &found.checks {
        let _ = writeln!(
            text,
            "  {:<12} {:<15} {:<26} {}",
            check.outcome.as_str(),
            check.check,
            check.subject,
            check.say
        );
    }
    let _ = writeln!(text, "delivery");
    for (key, entry) in &found.profile.support {
        let strategy = match entry.strategy {
            chaperone_core::evidence::Strategy::Conditional => "conditional, read back",
            chaperone_core::evidence::Strategy::PlainPost => "plain, read back",
            chaperone_core::evidence::Strategy::VendorOp => "by the EHR's own operation, read back",
            chaperone_core::evidence::Strategy::EhrStaged => "placed unsigned, signed in the EHR",
            chaperone_core::evidence::Strategy::HumanEntry => "entered by people",
        };
        let provenance = match (entry.provenance, entry.atomic) {
            (true, true) => ", with Provenance in the same transaction",
            (true, false) => ", then Provenance",
            (false, _) => "",
        };
        let _ = writeln!(text, "  {key:<26} {strategy}{provenance}");
    }
    if found.profile.support.is_empty() {
        let _ = writeln!(text, "  everything is entered by people");
    }
    let failed = found
        .checks
        .iter()
        .filter(|check| check.outcome == CheckOutcome::Failed)
        .count();
    let verdict = match report.verdict {
        ConformanceVerdict::Pass => format!(
            "PASS: writes may go there until {}",
            report.expires.strftime("%Y-%m-%d")
        ),
        ConformanceVerdict::Fail => {
            format!("FAIL: {failed} checks failed; nothing is sent there")
        }
        ConformanceVerdict::Incomplete => {
            "INCOMPLETE: nothing was tried, so nothing is sent there".to_owned()
        }
    };
    text.push_str(&verdict);
    text
}
