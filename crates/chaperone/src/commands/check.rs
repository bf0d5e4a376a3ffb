//! `chaperone check`: whether a governance bundle loads; with `--prove`, also whether what it says must
//! always hold does hold, for every request there can be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chaperone_engine::refill::protocols_of;
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
    /// Prove the statements of policies/invariants.cedar for every request, with the solver cvc5.
    #[arg(long)]
    prove: bool,
    /// The solver; `cvc5` of the path when absent.
    #[arg(long, value_name = "PATH", requires = "prove")]
    solver: Option<PathBuf>,
    /// Prove this statement alone.
    #[arg(long, value_name = "ID", requires = "prove")]
    statement: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs it: exit 0 when the bundle loads and what was to be proved holds, 1 when not, 2 without a solver.
pub(crate) fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let files = bundle_files::read(args.bundle.bundle.as_deref())?;
    match loaded(&files) {
        Ok(bundle) => {
            let proof = args
                .prove
                .then(|| proved(&bundle, args.solver.as_deref(), args.statement.as_deref()))
                .transpose()?;
            if args.json {
                let mut answer = json!({
                    "loads": true, "version": bundle.version(), "digest": bundle.digest(),
                    "agents": bundle.agents().count(), "intents": bundle.intents().count(),
                    "tools": bundle.tools().count(), "problems": [],
                });
                if let (Some(proof), Some(answer)) = (&proof, answer.as_object_mut()) {
                    answer.insert("holds".to_owned(), json!(proof.holds));
                    answer.insert("proof".to_owned(), proof.json.clone());
                }
                print_line(&answer.to_string());
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
                for protocol in protocols_of(&bundle)?.iter().filter(|it| !it.is_signed) {
                    eprintln!(
                        "note: protocol `{}`, version {}, is not signed as it stands and covers nothing; its digest is {}",
                        protocol.id, protocol.version, protocol.digest
                    );
                }
                if let Some(proof) = &proof {
                    print_line(&format!("\n{}", proof.text));
                }
            }
            Ok(match proof {
                Some(proof) if !proof.holds => cli::no(),
                _ => ExitCode::SUCCESS,
            })
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

/// Policies are walked by recursion; a bundle may hold two thousand of them.
#[cfg(feature = "prove")]
const PROOF_STACK_BYTES: usize = 64 << 20;

/// What came out of a proof.
struct Proof {
    holds: bool,
    text: String,
    json: serde_json::Value,
}

#[cfg(feature = "prove")]
fn proved(bundle: &Bundle, solver: Option<&Path>, only: Option<&str>) -> anyhow::Result<Proof> {
    let mut solver = crate::solver::Cvc5::start(solver)?;
    let report = std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(PROOF_STACK_BYTES)
            .spawn_scoped(scope, || {
                chaperone_policy::prove::prove(bundle, only, &mut solver)
            })
            .map(std::thread::ScopedJoinHandle::join)
    })?
    .map_err(|_| anyhow::anyhow!("the proof ended unexpectedly"))??;
    if let (Some(id), true) = (only, report.proved.is_empty()) {
        anyhow::bail!("there is no statement `{id}`; policies/invariants.cedar names them");
    }
    Ok(Proof {
        holds: report.holds(),
        text: report.to_string(),
        json: serde_json::to_value(&report)?,
    })
}

#[cfg(not(feature = "prove"))]
fn proved(_: &Bundle, _: Option<&Path>, _: Option<&str>) -> anyhow::Result<Proof> {
    anyhow::bail!(
        "this binary was built without proofs; build it with: cargo build --features prove"
    )
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
