//! What can be asked on the command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands;
use crate::demo;

/// The governed decision layer between AI agents and an EHR.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything embedded: store, sandbox EHR, synthetic patients, scripted agents, console.
    Demo(demo::DemoArgs),
    /// Serve agents and people, as a configuration file says.
    Serve(commands::serve::ServeArgs),
    /// Check configuration, database, clock, EHR and keys, and say what to mend.
    Doctor(commands::doctor::DoctorArgs),
    /// Write the default governance bundle and a commented configuration file to a folder.
    Init(commands::init::InitArgs),
    /// Check a governance bundle: declarations, policies against the schema, cases; on request, proofs.
    Check(commands::check::CheckArgs),
    /// Print the write-back matrix of a bundle.
    Matrix(commands::matrix::MatrixArgs),
    /// Check what an EHR connection can do; nothing is written there without a passing report.
    Conformance(commands::conformance::ConformanceArgs),
    /// Check FHIR resources: one outcome for each file.
    Validate(commands::validate::ValidateArgs),
    /// List, add and show conformance packages.
    Packages(commands::packages::PackagesArgs),
    /// Replace what identifies patients in texts and FHIR resources by slots.
    Scrub(commands::scrub::ScrubArgs),
    /// Write a Safe Harbor copy of a record: no identifiers, no free text, years only.
    Deid(commands::deid::DeidArgs),
    /// Make a key pair for an agent: the public half is printed for its declaration.
    AgentKey(commands::agent_key::AgentKeyArgs),
    /// How old the keys are, and their rotation.
    Keys(commands::keys::KeysArgs),
    /// Export, verify and prove.
    Ledger(commands::ledger::LedgerArgs),
    /// Export FHIR AuditEvents of what the ledger holds.
    Audit(commands::audit::AuditArgs),
    /// Who saw or changed something of a patient, when and why.
    WhoSaw(commands::audit::PatientArgs),
    /// The accounting of disclosures for a patient.
    Accounting(commands::audit::PatientArgs),
    /// How long things are kept: how it stands, sweep, legal holds, receipts.
    Retention(commands::retention::RetentionArgs),
    /// Make everything of one patient unreadable for good, once law allows it.
    Shred(commands::shred::ShredArgs),
    /// Exceptions from the matrix: ask for one, grant, decline, use it, look at it afterwards.
    Exception(commands::exception::ExceptionArgs),
    /// Cohort jobs: ask for a list of patients, look how it stands, approve it, stop it.
    Cohort(commands::cohort::CohortArgs),
    /// Undo what an agent, a model, a prompt or a time did: set aside, compensate, ask people.
    Undo(commands::undo::UndoArgs),
    /// What people found in what went through: demoted rows, samples to look at, borne-out confidence.
    Oversight(commands::oversight::OversightArgs),
    /// Ask policy again what it was asked about a write-back: the same answer, or not.
    Replay(commands::replay::ReplayArgs),
    /// Which recorded rulings would be others under another bundle.
    Backtest(commands::replay::BacktestArgs),
    /// Where anything rests, who can reach it and how long it is kept.
    Inventory(commands::inventory::InventoryArgs),
    /// Draw where data goes, from what is enforced, and compare it with what the ledger saw.
    Dataflow(commands::dataflow::DataflowArgs),
    /// Play seeds of the simulator: everything that can go wrong between Chaperone and an EHR, judged by a checker.
    Simulate(commands::simulate::SimulateArgs),
    /// Print figures of this machine.
    Bench(commands::bench::BenchArgs),
}

/// Where a bundle comes from.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct BundleArgs {
    /// Folder of the governance bundle; the built-in default when absent.
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
}

/// Exit code for misuse and for what could not be done; 1 means "done, and the answer is no".
const FAILED: u8 = 2;

pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Serve(args) => commands::serve::run(args),
        Command::Doctor(args) => commands::doctor::run(args),
        Command::Init(args) => commands::init::run(args),
        Command::Check(args) => commands::check::run(args),
        Command::Matrix(args) => commands::matrix::run(args),
        Command::Conformance(args) => commands::conformance::run(args),
        Command::Validate(args) => commands::validate::run(args),
        Command::Packages(args) => commands::packages::run(args),
        Command::Scrub(args) => commands::scrub::run(args),
        Command::Deid(args) => commands::deid::run(args),
        Command::AgentKey(args) => commands::agent_key::run(args),
        Command::Keys(args) => commands::keys::run(args),
        Command::Ledger(args) => commands::ledger::run(args),
        Command::Audit(args) => commands::audit::run(args),
        Command::WhoSaw(args) => commands::audit::who_saw(args),
        Command::Accounting(args) => commands::audit::accounting(args),
        Command::Retention(args) => commands::retention::run(args),
        Command::Shred(args) => commands::shred::run(args),
        Command::Exception(args) => commands::exception::run(args),
        Command::Cohort(args) => commands::cohort::run(args),
        Command::Undo(args) => commands::undo::run(args),
        Command::Oversight(args) => commands::oversight::run(args),
        Command::Replay(args) => commands::replay::replay(args),
        Command::Backtest(args) => commands::replay::backtest(args),
        Command::Inventory(args) => commands::inventory::run(args),
        Command::Dataflow(args) => commands::dataflow::run(args),
        Command::Simulate(args) => commands::simulate::run(args),
        Command::Bench(args) => commands::bench::run(args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("chaperone: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// "Done, and the answer is no."
pub(crate) fn no() -> ExitCode {
    ExitCode::from(1)
}
