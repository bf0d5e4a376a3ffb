//! `chaperone ledger`: export, verify, receipts, and the lists that are folded from it. Verifying needs the
//! file and nothing else.

use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use chaperone_connect::anchor::FileAnchor;
use chaperone_core::ids::WritebackId;
use chaperone_ledger::checkpoint::VerifyingKey;
use chaperone_ledger::receipt::{self, Receipt};
use chaperone_ledger::verify::{VerifyOptions, verify_export};
use clap::Subcommand;

use crate::cli;
use crate::config::ConfigArgs;
use crate::demo::print_line;

/// Arguments of `ledger`.
#[derive(Debug, clap::Args)]
pub(crate) struct LedgerArgs {
    #[command(subcommand)]
    command: LedgerCommand,
}

#[derive(Debug, Subcommand)]
enum LedgerCommand {
    /// Write the whole ledger to a file.
    Export {
        #[command(flatten)]
        config: ConfigArgs,
        /// Where to; must not exist.
        #[arg(value_name = "FILE")]
        to: PathBuf,
    },
    /// Print the ledger's public key, to be kept by whoever will verify.
    Key {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Verify an export: integrity and completeness, naming what is wrong.
    Verify {
        /// The export.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The ledger's public key, from elsewhere than the file.
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// A file of checkpoints that were anchored outside the database.
        #[arg(long, value_name = "FILE")]
        anchors: Option<PathBuf>,
        /// Print the report as one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Fold the lists of write-backs anew from the ledger, when `doctor` says that they differ.
    Rebuild {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Write or verify the receipt of one write-back.
    Receipt {
        #[command(subcommand)]
        command: ReceiptCommand,
    },
}

#[derive(Debug, Subcommand)]
enum ReceiptCommand {
    /// Write the receipt of a write-back to standard output.
    Write {
        #[command(flatten)]
        config: ConfigArgs,
        /// The write-back.
        writeback: WritebackId,
    },
    /// Verify a receipt, offline.
    Verify {
        /// The receipt.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The ledger's public key.
        #[arg(long, value_name = "KEY")]
        key: String,
    },
}

/// Runs it.
pub(crate) fn run(args: LedgerArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        LedgerCommand::Verify {
            file,
            key,
            anchors,
            json,
        } => verify(&file, key, anchors, json),
        LedgerCommand::Receipt {
            command: ReceiptCommand::Verify { file, key },
        } => verify_receipt(&file, &key),
        LedgerCommand::Export { config, to } => config.with_engine(async |engine| {
            let out = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&to)
                .with_context(|| format!("cannot create `{}`", to.display()))?;
            while engine.integrate_ledger().await? > 0 {}
            let entries = engine.export_ledger(std::io::BufWriter::new(out)).await?;
            print_line(&format!("{entries} entries written to `{}`", to.display()));
            Ok(ExitCode::SUCCESS)
        }),
        LedgerCommand::Key { config } => config.with_engine(async |engine| {
            print_line(&engine.ledger_key().await?);
            Ok(ExitCode::SUCCESS)
        }),
        LedgerCommand::Rebuild { config } => config.with_engine(async |engine| {
            let writebacks = engine.rebuild_projections().await?;
            print_line(&format!(
                "The lists were folded anew from {writebacks} write-backs."
            ));
            Ok(ExitCode::SUCCESS)
        }),
        LedgerCommand::Receipt {
            command: ReceiptCommand::Write { config, writeback },
        } => config.with_engine(async |engine| {
            while engine.integrate_ledger().await? > 0 {}
            let receipt = engine.receipt_of(writeback).await?;
            print_line(&serde_json::to_string_pretty(&receipt)?);
            Ok(ExitCode::SUCCESS)
        }),
    }
}

fn verify(
    file: &std::path::Path,
    key: Option<String>,
    anchors: Option<PathBuf>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let outside = match anchors {
        Some(path) => FileAnchor::read_all(&path)?
            .into_iter()
            .map(|a| a.note)
            .collect(),
        None => Vec::new(),
    };
    let input =
        std::fs::File::open(file).with_context(|| format!("cannot open `{}`", file.display()))?;
    let report = verify_export(
        BufReader::new(input),
        &VerifyOptions {
            trusted_key: key,
            outside,
        },
    );
    if json {
        print_line(&serde_json::to_string(&report)?);
    } else {
        print_line(&report.to_string());
    }
    Ok(if report.is_sound() {
        ExitCode::SUCCESS
    } else {
        cli::no()
    })
}

fn verify_receipt(file: &std::path::Path, key: &str) -> anyhow::Result<ExitCode> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let key = VerifyingKey::parse(key)?;
    let proven = Receipt::from_json(&bytes).and_then(|receipt| receipt::verify(&receipt, &key));
    match proven {
        Ok(proven) => {
            print_line(&format!(
                "The receipt holds: {} events, under a checkpoint over {} entries.",
                proven.events.len(),
                proven.head.size
            ));
            for event in &proven.events {
                print_line(&format!(
                    "  {:>8}  {}  {}",
                    event.seq,
                    event.at,
                    event.event.kind()
                ));
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(invalid) => {
            print_line(&format!("The receipt does not hold: {invalid}"));
            Ok(cli::no())
        }
    }
}
