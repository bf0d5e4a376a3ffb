//! `chaperone retention`: how it stands with what is kept, the sweeper, legal holds, receipts of deletions.

use std::process::ExitCode;

use chaperone_core::ids::{HoldId, PatientToken};
use chaperone_engine::Engine;
use chaperone_engine::retention::holds::HoldChange;
use chaperone_engine::retention::sweep::{SweepOptions, Swept};
use clap::Subcommand;

use super::person;
use crate::cli;
use crate::config::ConfigArgs;
use crate::demo::print_line;

/// Arguments of `retention`.
#[derive(Debug, clap::Args)]
pub(crate) struct RetentionArgs {
    #[command(subcommand)]
    command: RetentionCommand,
}

#[derive(Debug, Subcommand)]
enum RetentionCommand {
    /// Each rule, what is stored, holds, the last sweep; exit 1 where something needs a person.
    Status {
        #[command(flatten)]
        config: ConfigArgs,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Delete what has been kept long enough. `serve` does this every hour.
    Sweep {
        #[command(flatten)]
        config: ConfigArgs,
        /// Say what would go, and delete nothing.
        #[arg(long)]
        dry_run: bool,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Check the receipt of a deletion: its place in the ledger, as the sweep's timeline shows it.
    Receipt {
        #[command(flatten)]
        config: ConfigArgs,
        /// Entry of the ledger.
        entry: u64,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Legal holds.
    Hold {
        #[command(subcommand)]
        command: HoldCommand,
    },
}

#[derive(Debug, Subcommand)]
enum HoldCommand {
    /// Keep everything of a patient, or everything, whatever the rules say.
    Add {
        #[command(flatten)]
        config: ConfigArgs,
        /// The patient: `Patient/[id]` at the EHR, `system|value` of an identifier, or a token `pat_…`.
        #[arg(long, value_name = "PATIENT", required_unless_present = "everything")]
        patient: Option<String>,
        /// Everything, of everybody.
        #[arg(long, conflicts_with = "patient")]
        everything: bool,
        #[command(flatten)]
        who: WhoArgs,
    },
    /// Keep it no longer.
    Release {
        #[command(flatten)]
        config: ConfigArgs,
        /// The hold, `hold_…`.
        hold: HoldId,
        #[command(flatten)]
        who: WhoArgs,
    },
    /// Those in force.
    List {
        #[command(flatten)]
        config: ConfigArgs,
        /// Print one JSON object a line.
        #[arg(long)]
        json: bool,
    },
}

/// Who decides, and why.
#[derive(Debug, clap::Args)]
pub(crate) struct WhoArgs {
    /// The privacy officer's account; its password and a code are asked for.
    #[arg(long = "as", value_name = "ACCOUNT")]
    pub(crate) account: String,
    /// Why, in 10 to 1,000 characters, without names of patients.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

/// Runs it.
pub(crate) fn run(args: RetentionArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        RetentionCommand::Status { config, json } => {
            config.with_engine(async |engine| status(&engine, json).await)
        }
        RetentionCommand::Sweep {
            config,
            dry_run,
            json,
        } => config.with_engine(async |engine| sweep(&engine, dry_run, json).await),
        RetentionCommand::Receipt {
            config,
            entry,
            json,
        } => config.with_engine(async |engine| receipt(&engine, entry, json).await),
        RetentionCommand::Hold { command } => match command {
            HoldCommand::Add {
                config,
                patient,
                who,
                ..
            } => config.with_engine(async |engine| {
                let patient = match &patient {
                    Some(patient) => Some(engine.patient_meant(patient).await?),
                    None => None,
                };
                hold(&engine, HoldChange::Place(patient), &who).await
            }),
            HoldCommand::Release {
                config,
                hold: id,
                who,
            } => config
                .with_engine(async |engine| hold(&engine, HoldChange::Release(id), &who).await),
            HoldCommand::List { config, json } => {
                config.with_engine(async |engine| holds(&engine, json).await)
            }
        },
    }
}

async fn hold(engine: &Engine, change: HoldChange, who: &WhoArgs) -> anyhow::Result<ExitCode> {
    let digest = engine.hold_digest(change, &who.reason);
    let (human, factor) = person::with_factor(engine, &who.account, digest).await?;
    let hold = engine
        .change_hold(&human, change, &who.reason, factor)
        .await?;
    print_line(&match change {
        HoldChange::Place(_) => format!("{} keeps {}", hold.id, whom(hold.patient)),
        HoldChange::Release(_) => format!("{} keeps {} no longer", hold.id, whom(hold.patient)),
    });
    Ok(ExitCode::SUCCESS)
}

fn whom(patient: Option<PatientToken>) -> String {
    patient.map_or_else(
        || "everything".to_owned(),
        |token| format!("everything of {token}"),
    )
}

async fn holds(engine: &Engine, json: bool) -> anyhow::Result<ExitCode> {
    let holds = engine.legal_holds().await?;
    for hold in holds.all() {
        if json {
            print_line(&serde_json::to_string(hold)?);
            continue;
        }
        let reason = engine.hold_reason(hold).await;
        print_line(&format!(
            "{}  {}\n    since  {} by {}\n    why    {}",
            hold.id,
            whom(hold.patient),
            hold.at,
            hold.by,
            reason.as_deref().unwrap_or("(cannot be opened)")
        ));
    }
    if holds.all().is_empty() && !json {
        print_line("No legal hold is in force.");
    }
    Ok(ExitCode::SUCCESS)
}

async fn status(engine: &Engine, json: bool) -> anyhow::Result<ExitCode> {
    let status = engine.retention_status().await?;
    let needs_somebody = status.is_sweep_late
        || !status.to_shred.is_empty()
        || !status.by_hand.is_empty()
        || status.rules.iter().any(|it| it.is_review_overdue);
    if json {
        print_line(&serde_json::to_string(&status)?);
    } else {
        for standing in &status.rules {
            let rule = &standing.rule;
            print_line(&format!("{}  {}: {}", rule.id, rule.artefact, rule.words()));
            if let Some(law) = &standing.law {
                print_line(&format!("    law      at least {law}"));
            }
            if let Some(how) = &rule.how {
                print_line(&format!("    by hand  {how}"));
            }
            if standing.is_review_overdue {
                print_line(&format!(
                    "    OVERDUE  {} was to look at it again by {}",
                    rule.owner, rule.review_by
                ));
            }
        }
        print_line("\nStored payloads");
        for stored in &status.stored {
            print_line(&format!(
                "  {}: {}, the oldest of {}",
                stored.artefact, stored.count, stored.oldest
            ));
        }
        print_line(&format!("Legal holds in force: {}", status.holds.len()));
        match &status.last_sweep {
            Some(last) => print_line(&format!(
                "Last sweep: {}, {} went",
                last.at,
                last.swept.total()
            )),
            None => print_line("Last sweep: never"),
        }
        if status.is_sweep_late {
            print_line("LATE  nothing was swept for two days: is `chaperone serve` running?");
        }
        for patient in &status.to_shred {
            print_line(&format!(
                "DUE   nothing happened to {patient} for as long as the rules say: chaperone shred --patient {patient}"
            ));
        }
        for (rule, how) in &status.by_hand {
            print_line(&format!("DUE   {rule}: {how}"));
        }
    }
    Ok(if needs_somebody {
        cli::no()
    } else {
        ExitCode::SUCCESS
    })
}

async fn sweep(engine: &Engine, dry_run: bool, json: bool) -> anyhow::Result<ExitCode> {
    let options = SweepOptions {
        dry_run,
        ..SweepOptions::default()
    };
    let mut all = Swept::default();
    loop {
        let swept = engine.sweep_retention(options).await?;
        let more = swept.more && !dry_run;
        add(&mut all, swept);
        if !more {
            break;
        }
    }
    if json {
        print_line(&serde_json::to_string(&all)?);
        return Ok(ExitCode::SUCCESS);
    }
    let verb = if dry_run { "would go" } else { "went" };
    for (rule, count) in &all.went {
        print_line(&format!("{count} {verb} under {rule}"));
    }
    if all.went.is_empty() {
        print_line("Nothing is over its time.");
    }
    for (count, why) in [
        (all.held, "stay: a legal hold keeps them"),
        (
            all.in_use,
            "stay: they are in use, or their work is not at its end",
        ),
        (
            all.waits_for_ehr,
            "stay: the EHR does not say whether the patient is a minor",
        ),
        (all.again, "were being worked on; the next sweep takes them"),
    ] {
        if count > 0 {
            print_line(&format!("{count} {why}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn add(all: &mut Swept, swept: Swept) {
    for (rule, count) in swept.went {
        let sum = all.went.entry(rule).or_default();
        *sum = sum.saturating_add(count);
    }
    // These stay, so that each sweep counts them anew.
    all.held = swept.held;
    all.in_use = swept.in_use;
    all.waits_for_ehr = swept.waits_for_ehr;
    all.again = swept.again;
    all.more = swept.more;
}

async fn receipt(engine: &Engine, entry: u64, json: bool) -> anyhow::Result<ExitCode> {
    let checked = engine.check_receipt(entry).await?;
    if json {
        print_line(&serde_json::to_string(&checked)?);
    } else {
        let deletion = &checked.deletion;
        print_line(&format!(
            "entry {} of {}, on {}\n    what      {} of {}\n    rule      {}, of the rules {}\n    manifest  {}: {}\n    gone      {}",
            checked.entry,
            checked.at,
            checked.stream,
            deletion.count,
            deletion.artefact,
            deletion.rule,
            deletion.rules,
            deletion.manifest,
            if checked.is_whole {
                "covers what it names"
            } else {
                "DOES NOT FIT"
            },
            match checked.still_there.len() {
                0 => "yes".to_owned(),
                left => format!("NO: {left} are still there"),
            }
        ));
        print_line("That the entry is in the signed ledger: chaperone ledger verify");
    }
    Ok(if checked.is_true() {
        ExitCode::SUCCESS
    } else {
        cli::no()
    })
}
