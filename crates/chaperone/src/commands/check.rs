//! `chaperone check`: whether a governance bundle loads.

use std::collections::BTreeMap;
use std::process::ExitCode;

use chaperone_policy::Bundle;
use serde_json::json;

use crate::bundle_files;
use crate::cli::{self, BundleArgs};
use crate::demo::print_line;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    bundle: BundleArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs it: exit 0 when the bundle loads, 1 when it does not.
pub(crate) fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let files = bundle_files::read(args.bundle.bundle.as_deref())?;
    match loaded(&files) {
        Ok(bundle) => {
            if args.json {
                print_line(
                    &json!({
                        "loads": true, "version": bundle.version(), "digest": bundle.digest(),
                        "agents": bundle.agents().count(), "intents": bundle.intents().count(),
                        "tools": bundle.tools().count(), "problems": [],
                    })
                    .to_string(),
                );
            } else {
                print_line(&format!(
                    "The bundle loads: version {}, {} agents, {} intents, {} tools.\ndigest {}",
                    bundle.version(),
                    bundle.agents().count(),
                    bundle.intents().count(),
                    bundle.tools().count(),
                    bundle.digest(),
                ));
                for agent in bundle.agents().filter(|agent| agent.keys.is_empty()) {
                    eprintln!(
                        "note: agent `{}` has no key and cannot authenticate; see `chaperone agent-key`",
                        agent.id
                    );
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => {
            if args.json {
                print_line(&json!({ "loads": false, "problems": problems }).to_string());
            } else {
                print_line(&format!(
                    "The bundle does not load:\n  {}",
                    problems.join("\n  ")
                ));
            }
            Ok(cli::no())
        }
    }
}

/// The bundle, if an engine would start with it, or everything that is wrong with it.
pub(super) fn loaded(files: &BTreeMap<String, String>) -> Result<Bundle, Vec<String>> {
    let bundle = Bundle::load(files)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    match chaperone_engine::check_bundle(&bundle) {
        Ok(()) => Ok(bundle),
        Err(unusable) => Err(vec![unusable.to_string()]),
    }
}
