//! `chaperone matrix`: the table that clinical owners sign, or each line of it beside its nearest neighbour.

use std::process::ExitCode;

use chaperone_policy::pairs;
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
    /// Print for each row, escalator and vector the case that reaches it and its nearest neighbour.
    #[arg(long)]
    pairs: bool,
}

/// Runs it.
pub(crate) fn run(args: MatrixArgs) -> anyhow::Result<ExitCode> {
    let bundle = bundle_files::load(&bundle_files::read(args.bundle.bundle.as_deref())?)?;
    let text = match (args.pairs, args.format) {
        (false, Format::Markdown) => bundle.matrix().markdown(),
        (false, Format::Csv) => bundle.matrix().csv(),
        (false, Format::Json) => bundle.matrix().json().to_string(),
        (true, Format::Markdown) => pairs::markdown(bundle.pairs()),
        (true, Format::Csv) => pairs::csv(bundle.pairs()),
        (true, Format::Json) => serde_json::to_string(bundle.pairs())?,
    };
    print_line(text.trim_end());
    Ok(ExitCode::SUCCESS)
}
