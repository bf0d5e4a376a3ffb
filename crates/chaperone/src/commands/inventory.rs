//! `chaperone inventory`: where PHI is, who can reach it, how long it is kept. Needs a bundle and nothing else.

use std::process::ExitCode;

use chaperone_engine::inventory::{Holds, Inventory};

use crate::bundle_files;
use crate::cli::BundleArgs;
use crate::demo::print_line;

/// Arguments of `inventory`.
#[derive(Debug, clap::Args)]
pub(crate) struct InventoryArgs {
    #[command(flatten)]
    bundle: BundleArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: InventoryArgs) -> anyhow::Result<ExitCode> {
    let bundle = bundle_files::load(&bundle_files::read(args.bundle.bundle.as_deref())?)?;
    let inventory = Inventory::of(&bundle)?;
    if args.json {
        print_line(&serde_json::to_string(&inventory)?);
        return Ok(ExitCode::SUCCESS);
    }
    for (holds, heading) in [
        (
            Holds::Phi,
            "Health information with what identifies the patient",
        ),
        (
            Holds::Pseudonyms,
            "Tokens and references that lead to a patient",
        ),
        (Holds::Nothing, "Nothing about patients"),
    ] {
        print_line(&format!("{heading}\n"));
        for place in inventory.places.iter().filter(|it| it.holds == holds) {
            print_line(&format!(
                "  {}\n    what    {}\n    rests   {}; key: {}\n    reached {}\n    kept    {}",
                place.artefact, place.what, place.store, place.key, place.reached_by, place.kept
            ));
        }
        print_line("");
    }
    print_line("What agents may see, by intent\n");
    for sight in &inventory.sights {
        let agents: Vec<&str> = sight.agents.iter().map(|agent| agent.as_str()).collect();
        print_line(&format!(
            "  {} ({}): {}",
            sight.intent,
            sight.purpose,
            agents.join(", ")
        ));
        for (resource, elements) in &sight.elements {
            print_line(&format!("    {resource}: {}", elements.join(", ")));
        }
    }
    Ok(ExitCode::SUCCESS)
}
