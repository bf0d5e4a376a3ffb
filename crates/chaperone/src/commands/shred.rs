//! `chaperone shred`: in two steps. The first shows what would go and what stands against it; the second, with the
//! code that the first printed, does it.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use chaperone_core::digest::Digest;
use chaperone_engine::retention::shred::ShredPlan;

use super::person;
use crate::cli;
use crate::config::ConfigArgs;
use crate::demo::print_line;

/// Characters of the code that the second step repeats.
const CODE_CHARS: usize = 12;

/// Arguments of `shred`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShredArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The patient: `Patient/[id]` at the EHR, `system|value` of an identifier, or a token `pat_…`.
    #[arg(long, value_name = "PATIENT")]
    patient: String,
    /// The code that the first step printed: it shreds what was shown, and nothing else.
    #[arg(long, value_name = "CODE", requires_all = ["account", "reason"])]
    confirm: Option<String>,
    /// The privacy officer's account; its password and a code are asked for.
    #[arg(long = "as", value_name = "ACCOUNT")]
    account: Option<String>,
    /// Why, in 10 to 1,000 characters, without names.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(args: ShredArgs) -> anyhow::Result<ExitCode> {
    args.config.with_engine(async |engine| {
        let patient = engine.patient_meant(&args.patient).await?;
        let plan = engine.shred_plan(patient).await?;
        let code = code_of(&plan)?;
        let Some(confirm) = &args.confirm else {
            show(&plan, &code, args.json)?;
            return Ok(match plan.objection() {
                None => ExitCode::SUCCESS,
                Some(_) => cli::no(),
            });
        };
        if *confirm != code {
            bail!("this is not the code of what would be shredded now; look again without --confirm");
        }
        let account = args.account.as_deref().context("--as is missing")?;
        let reason = args.reason.as_deref().context("--reason is missing")?;
        let digest = engine.shred_digest(patient, reason);
        let (human, factor) = person::with_factor(&engine, account, digest).await?;
        let shredded = engine.shred(&human, patient, reason, factor).await?;
        if args.json {
            print_line(&serde_json::to_string(&shredded)?);
        } else {
            print_line(&format!(
                "{patient} is shredded: {} keys, {} payloads, {} rows. The receipt stands in the ledger.",
                shredded.keys.len(),
                shredded.payloads,
                shredded.records.values().sum::<u64>()
            ));
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn code_of(plan: &ShredPlan) -> anyhow::Result<String> {
    let digest = Digest::of_bytes(&serde_json::to_vec(plan)?).to_string();
    Ok(digest.chars().take(CODE_CHARS).collect())
}

fn show(plan: &ShredPlan, code: &str, json: bool) -> anyhow::Result<()> {
    let objection = plan.objection().map(|why| why.to_string());
    if json {
        let shown = serde_json::json!({
            "plan": plan,
            "allowed_from": plan.allowed_from(),
            "objection": objection,
            "confirm": objection.is_none().then_some(code),
        });
        print_line(&shown.to_string());
        return Ok(());
    }
    print_line(&format!("Shredding {} would destroy", plan.patient));
    print_line(&format!(
        "  {} keys: {}",
        plan.keys.len(),
        plan.keys.join(", ")
    ));
    for (class, count) in &plan.payloads {
        print_line(&format!("  {count} payloads of class {class}"));
    }
    for (collection, count) in &plan.records {
        print_line(&format!("  {count} rows of {collection}"));
    }
    for law in &plan.law {
        print_line(&format!(
            "Law stands against it until {}: {} ({})",
            law.until, law.artefact, law.source
        ));
    }
    for writeback in &plan.in_work {
        print_line(&format!("Not at its end: {writeback}"));
    }
    for hold in &plan.holds {
        print_line(&format!("On hold: {hold}"));
    }
    print_line(&match objection {
        Some(why) => format!("It is refused: {why}."),
        None => format!(
            "Nothing stands against it. It cannot be undone. To do it, add\n  --confirm {code} --as ACCOUNT --reason TEXT"
        ),
    });
    Ok(())
}
