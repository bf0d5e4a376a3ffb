//! `chaperone deid`: a Safe Harbor copy of a record.
//!
//! Not here: what is kept (`chaperone_phi::deidentify`). Errors name elements, never what stands there.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use chaperone_phi::deidentify::safe_harbor;
use chaperone_phi::scrub::Lexicon;

use super::scrub::{read_record, this_year};

/// Arguments of `deid`.
#[derive(Debug, clap::Args)]
pub(crate) struct DeidArgs {
    /// A Bundle, or one resource (JSON).
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write the copy to a new file instead of standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The year that ages are counted from, not before this year; this one when absent.
    #[arg(long, value_name = "YEAR")]
    as_of: Option<i16>,
}

/// Runs it. What was removed is counted on standard error.
pub(crate) fn run(args: DeidArgs) -> anyhow::Result<ExitCode> {
    let this_year = this_year();
    let as_of = args.as_of.unwrap_or(this_year);
    if as_of < this_year {
        bail!(
            "`--as-of` must not be before {this_year}: people over 89 would keep their year of birth"
        );
    }
    let record = read_record(&args.file)?;
    let copy = safe_harbor(Lexicon::embedded()?, &record, as_of)
        .with_context(|| format!("no copy of `{}`", args.file.display()))?;
    let mut out: Box<dyn Write> = match &args.out {
        Some(path) => {
            let created = OpenOptions::new().write(true).create_new(true).open(path);
            Box::new(created.with_context(|| format!("cannot create `{}`", path.display()))?)
        }
        None => Box::new(io::stdout().lock()),
    };
    let mut writer = BufWriter::new(&mut out);
    serde_json::to_writer_pretty(&mut writer, &copy.value)?;
    writeln!(writer)?;
    writer.flush().context("the copy cannot be written")?;
    let total: usize = copy.removed.values().sum();
    eprintln!("chaperone: {total} elements removed");
    for (name, count) in &copy.removed {
        eprintln!("  {count:>6}  {name}");
    }
    eprintln!(
        "chaperone: nobody may actually know that the rest identifies somebody (45 CFR 164.514(b)(2)(ii)); a person has to judge that"
    );
    Ok(ExitCode::SUCCESS)
}
