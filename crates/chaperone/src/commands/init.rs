//! `chaperone init`: a folder to start from.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::bundle_files;
use crate::config;
use crate::demo::print_line;

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// Folder to write to; must be empty or absent.
    #[arg(value_name = "DIR", default_value = "chaperone")]
    dir: PathBuf,
}

/// Runs it.
pub(crate) fn run(args: InitArgs) -> anyhow::Result<ExitCode> {
    if args.dir.exists() && std::fs::read_dir(&args.dir)?.next().is_some() {
        bail!("`{}` is not empty; choose a new folder", args.dir.display());
    }
    let governance = args.dir.join("governance");
    for (path, text) in bundle_files::read(None)? {
        let file = governance.join(&path);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&file, text).with_context(|| format!("cannot write `{path}`"))?;
    }
    // Where the configuration's `store.url` points.
    std::fs::create_dir_all(args.dir.join("data"))?;
    std::fs::write(args.dir.join("chaperone.toml"), config::TEMPLATE)?;
    print_line(&format!(
        "Wrote the default bundle to `{0}/governance` and a commented configuration to `{0}/chaperone.toml`.\nNext: give each agent a key (`chaperone agent-key`), run `chaperone check --bundle {0}/governance`, then `chaperone doctor --config {0}/chaperone.toml`.",
        args.dir.display()
    ));
    Ok(ExitCode::SUCCESS)
}
