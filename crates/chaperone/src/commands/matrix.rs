//! `chaperone matrix`: the table that clinical owners sign.

use std::process::ExitCode;

use clap::ValueEnum;

use crate::bundle_files;
use crate::cli::BundleArgs;
use crate::demo::print_line;

/// How to print it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Markdown,
    Csv,
    Json,
}

/// Arguments of `matrix`.
#[derive(Debug, clap::Args)]
pub(crate) struct MatrixArgs {
    #[command(flatten)]
    bundle: BundleArgs,
    /// How to print it.
    #[arg(long, value_enum, default_value = "markdown")]
    format: Format,
}

/// Runs it.
pub(crate) fn run(args: MatrixArgs) -> anyhow::Result<ExitCode> {
    let bundle = bundle_files::load(&bundle_files::read(args.bundle.bundle.as_deref())?)?;
    let matrix = bundle.matrix();
    let text = match args.format {
        Format::Markdown => matrix.markdown(),
        Format::Csv => matrix.csv(),
        Format::Json => matrix.json().to_string(),
    };
    print_line(text.trim_end());
    Ok(ExitCode::SUCCESS)
}
