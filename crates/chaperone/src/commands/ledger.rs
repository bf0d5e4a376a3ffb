//! `chaperone ledger`: export, verify, receipts, and the lists that are folded from it. Verifying needs the
//! file and nothing else.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use chaperone_connect::anchor::FileAnchor;
use chaperone_core::event::StreamId;
use chaperone_core::ids::WritebackId;
use chaperone_engine::views::timeline::TimelineEntry;
use chaperone_ledger::checkpoint::VerifyingKey;
use chaperone_ledger::receipt::{self, Proven, Receipt};
use chaperone_ledger::verify::{VerifyOptions, verify_export};
use clap::Subcommand;

use crate::cli;
use crate::config::ConfigArgs;
use crate::demo::print_line;

/// Longest file that holds a key, in bytes.
const KEY_BYTES_MAX: u64 = 4 << 10;
/// Longest file that holds one checkpoint, in bytes.
const CHECKPOINT_BYTES_MAX: u64 = 64 << 10;

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
    /// Verify an export, or with `--receipt` the receipt of one write-back: offline, naming what is wrong.
    Verify {
        /// The export.
        #[arg(
            value_name = "FILE",
            required_unless_present = "receipt",
            conflicts_with = "receipt"
        )]
        file: Option<PathBuf>,
        /// A receipt, as `ledger receipt` wrote it.
        #[arg(long, value_name = "FILE", requires = "key")]
        receipt: Option<PathBuf>,
        /// The ledger's public key, from elsewhere than what is verified: a file that holds it, or the key itself.
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// For an export: a file of checkpoints that were anchored outside the database.
        #[arg(long, value_name = "FILE", conflicts_with = "receipt")]
        anchors: Option<PathBuf>,
        /// For a receipt: a checkpoint, or a file of checkpoints, that was kept outside the database.
        #[arg(long, value_name = "FILE", requires = "receipt")]
        checkpoint: Option<PathBuf>,
        /// Print the report as one JSON object.
        #[arg(long, conflicts_with = "receipt")]
        json: bool,
    },
    /// Fold the lists of write-backs anew from the ledger, when `doctor` says that they differ.
    Rebuild {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Write the receipt of one write-back: its events, each with a proof that the signed ledger holds it.
    Receipt {
        #[command(flatten)]
        config: ConfigArgs,
        /// The write-back.
        writeback: WritebackId,
        /// Where to; must not exist. `WRITEBACK.receipt.json` here when absent.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Runs it.
pub(crate) fn run(args: LedgerArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        LedgerCommand::Verify {
            file,
            receipt,
            key,
            anchors,
            checkpoint,
            json,
        } => match (file, receipt, key.map(|it| key_text(&it)).transpose()?) {
            (None, Some(receipt), Some(key)) => {
                verify_receipt(&receipt, &key, checkpoint.as_deref())
            }
            (Some(file), None, key) => verify(&file, key, anchors, json),
            _ => anyhow::bail!("name an export, or a receipt with `--receipt` and `--key`"),
        },
        LedgerCommand::Export { config, to } => config.with_engine(async |engine| {
            let out = new_file(&to)?;
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
            config,
            writeback,
            out,
        } => config.with_engine(async |engine| {
            while engine.integrate_ledger().await? > 0 {}
            let receipt = engine.receipt_of(writeback).await?;
            let to = out.unwrap_or_else(|| PathBuf::from(format!("{writeback}.receipt.json")));
            new_file(&to)?
                .write_all(receipt.to_file().as_bytes())
                .with_context(|| format!("cannot write `{}`", to.display()))?;
            print_line(&format!(
                "{} events written to `{}`",
                receipt.entries.len(),
                to.display()
            ));
            Ok(ExitCode::SUCCESS)
        }),
    }
}

/// A file that did not exist before.
fn new_file(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .with_context(|| format!("cannot create `{}`", path.display()))
}

/// The key that an argument is, or that stands in the file it names.
fn key_text(argument: &str) -> anyhow::Result<String> {
    if !Path::new(argument).is_file() {
        return Ok(argument.to_owned());
    }
    let text = read_at_most(Path::new(argument), KEY_BYTES_MAX)?;
    Ok(String::from_utf8(text)
        .with_context(|| format!("`{argument}` holds no key"))?
        .trim()
        .to_owned())
}

fn read_at_most(path: &Path, bytes_max: u64) -> anyhow::Result<Vec<u8>> {
    let file = File::open(path).with_context(|| format!("cannot open `{}`", path.display()))?;
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    anyhow::ensure!(
        bytes.len() as u64 <= bytes_max,
        "`{}` is larger than {bytes_max} bytes",
        path.display()
    );
    Ok(bytes)
}

fn verify(
    file: &Path,
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
    let input = File::open(file).with_context(|| format!("cannot open `{}`", file.display()))?;
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

fn verify_receipt(file: &Path, key: &str, checkpoint: Option<&Path>) -> anyhow::Result<ExitCode> {
    let bytes = read_at_most(file, receipt::RECEIPT_BYTES_MAX as u64)?;
    let key = VerifyingKey::parse(key)?;
    let outside = checkpoint.map(checkpoints_in).transpose()?;
    let proven = Receipt::from_file(&bytes).and_then(|receipt| {
        let proven = receipt::verify(&receipt, &key)?;
        if let Some(outside) = &outside {
            proven.agrees_with(outside, &key)?;
        }
        Ok((receipt.stream, proven))
    });
    match proven {
        Ok((stream, proven)) => {
            print_line(&story(&stream, &proven, outside.is_some()));
            Ok(ExitCode::SUCCESS)
        }
        Err(invalid) => {
            print_line(&format!("The receipt does not hold: {invalid}"));
            if let Some(source) = std::error::Error::source(&invalid) {
                print_line(&format!("  {source}"));
            }
            Ok(cli::no())
        }
    }
}

/// The checkpoints of a file: anchored ones, or the one that the file is.
fn checkpoints_in(path: &Path) -> anyhow::Result<Vec<String>> {
    let anchored = FileAnchor::read_all(path)?;
    if anchored.is_empty() {
        let note = read_at_most(path, CHECKPOINT_BYTES_MAX)?;
        let note = String::from_utf8(note)
            .with_context(|| format!("`{}` holds no checkpoint", path.display()))?;
        return Ok(vec![note]);
    }
    Ok(anchored.into_iter().map(|it| it.note).collect())
}

/// What a receipt shows, in plain words.
fn story(stream: &StreamId, proven: &Proven, is_compared: bool) -> String {
    let head = &proven.head;
    let mut lines = vec![
        format!(
            "The receipt holds. It is of {stream}, from the ledger of {}.",
            head.tenant
        ),
        format!(
            "Its {} events stand in a ledger of {} entries that was signed at {}.",
            proven.events.len(),
            head.size,
            head.at
        ),
        if is_compared {
            "A checkpoint kept outside the database says the same of that ledger.".to_owned()
        } else {
            "It was not held against a checkpoint kept outside the database (`--checkpoint`)."
                .to_owned()
        },
        String::new(),
    ];
    for recorded in &proven.events {
        let entry = TimelineEntry::from(recorded);
        lines.push(format!(
            "  {:>8}  {}  {}: {}",
            entry.seq, entry.at, entry.actor, entry.words
        ));
    }
    lines.push(String::new());
    lines.push("It does not show what was recorded after that checkpoint.".to_owned());
    lines.join("\n")
}
