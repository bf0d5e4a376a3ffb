//! `chaperone exception`: asks for, grants, declines, uses and looks at exceptions from the matrix, as the console does.
//! Each step names a person, whose password and code are asked for. Prints ids, classes and codes; nothing of a patient.

use std::process::ExitCode;

use chaperone_core::digest::Digest;
use chaperone_core::exception::ExceptionFinding;
use chaperone_core::ids::WritebackId;
use chaperone_engine::exception::{ExceptionCase, ExceptionRow};
use clap::Subcommand;

use super::person;
use crate::config::ConfigArgs;
use crate::demo::print_line;

/// Arguments of `exception`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExceptionArgs {
    #[command(subcommand)]
    command: ExceptionCommand,
}

#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    config: ConfigArgs,
    /// The write-back that was refused, `wb_…`: an exception goes by its id.
    writeback: WritebackId,
    /// The account of who does it; its password and a code are asked for.
    #[arg(long = "as", value_name = "ACCOUNT")]
    account: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum ExceptionCommand {
    /// What waits, what is to be looked at, and what is closed.
    List {
        #[command(flatten)]
        config: ConfigArgs,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Ask for one.
    Request {
        #[command(flatten)]
        common: Common,
        /// Why it is needed, in 3 to 2,000 characters.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Grant one that somebody else asked for.
    Grant {
        #[command(flatten)]
        common: Common,
    },
    /// Say no to one.
    Decline {
        #[command(flatten)]
        common: Common,
        /// Why, in 3 to 2,000 characters.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Use one that was granted: the same content is proposed once more and waits for two people.
    Use {
        #[command(flatten)]
        common: Common,
    },
    /// Record what you found who look at a used one.
    Review {
        #[command(flatten)]
        common: Common,
        /// `justified`, `change_the_matrix` or `not_justified`.
        #[arg(long, value_name = "FINDING", value_parser = finding)]
        finding: ExceptionFinding,
        /// In your words, in 3 to 2,000 characters.
        #[arg(long, value_name = "TEXT")]
        note: String,
    },
}

fn finding(text: &str) -> Result<ExceptionFinding, String> {
    ExceptionFinding::parse(text)
        .ok_or_else(|| "one of justified, change_the_matrix, not_justified".to_owned())
}

/// Runs it.
pub(crate) fn run(args: ExceptionArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        ExceptionCommand::List { config, json } => config.with_engine(async |engine| {
            let (open, closed) = engine.exceptions_listed().await?;
            list(&open, &closed, json)
        }),
        ExceptionCommand::Request { common, reason } => {
            common.config.clone().with_engine(async |engine| {
                let digest = bound_to("request", &common);
                let (human, _) = person::with_factor(&engine, &common.account, digest).await?;
                let case = engine
                    .request_exception(&human, common.writeback, &reason)
                    .await?;
                tell(&case, common.json)
            })
        }
        ExceptionCommand::Grant { common } => common.config.clone().with_engine(async |engine| {
            let (open, _) = engine.exceptions_listed().await?;
            let case = open.iter().find(|row| row.case.of == common.writeback);
            let binding = case.map(|row| row.case.binding);
            let binding = binding.ok_or_else(|| anyhow::anyhow!("no such exception waits"))?;
            let (human, factor) = person::with_factor(&engine, &common.account, binding).await?;
            let case = engine
                .grant_exception(&human, common.writeback, binding, factor)
                .await?;
            tell(&case, common.json)
        }),
        ExceptionCommand::Decline { common, reason } => {
            common.config.clone().with_engine(async |engine| {
                let digest = bound_to("decline", &common);
                let (human, _) = person::with_factor(&engine, &common.account, digest).await?;
                let case = engine
                    .decline_exception(&human, common.writeback, &reason)
                    .await?;
                tell(&case, common.json)
            })
        }
        ExceptionCommand::Use { common } => common.config.clone().with_engine(async |engine| {
            let digest = bound_to("use", &common);
            let (human, _) = person::with_factor(&engine, &common.account, digest).await?;
            let row = engine.use_exception(&human, common.writeback).await?;
            if common.json {
                print_line(
                    &serde_json::json!({ "proposed": row.id, "state": row.state }).to_string(),
                );
            } else {
                print_line(&format!(
                    "{}  proposed once more; it waits for its two people",
                    row.id
                ));
            }
            Ok(ExitCode::SUCCESS)
        }),
        ExceptionCommand::Review {
            common,
            finding,
            note,
        } => common.config.clone().with_engine(async |engine| {
            let digest = bound_to("review", &common);
            let (human, _) = person::with_factor(&engine, &common.account, digest).await?;
            let case = engine
                .review_exception(&human, common.writeback, finding, &note)
                .await?;
            tell(&case, common.json)
        }),
    }
}

/// What the code of a step is for that takes none by itself: it says who is at the command line.
fn bound_to(step: &str, common: &Common) -> Digest {
    let writeback = common.writeback.to_string();
    Digest::of_parts([
        b"exception-cli".as_slice(),
        step.as_bytes(),
        writeback.as_bytes(),
    ])
}

fn tell(case: &ExceptionCase, json: bool) -> anyhow::Result<ExitCode> {
    let text = match json {
        true => serde_json::to_string(case)?,
        false => line(case, false),
    };
    print_line(&text);
    Ok(ExitCode::SUCCESS)
}

fn list(open: &[ExceptionRow], closed: &[ExceptionRow], json: bool) -> anyhow::Result<ExitCode> {
    if json {
        let cases = |rows: &[ExceptionRow]| -> Vec<serde_json::Value> {
            let case = |row: &ExceptionRow| serde_json::json!({ "case": row.case, "overdue": row.overdue });
            rows.iter().map(case).collect()
        };
        let all = serde_json::json!({ "open": cases(open), "closed": cases(closed) });
        print_line(&all.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    for row in open.iter().chain(closed) {
        print_line(&line(&row.case, row.overdue));
    }
    print_line(&format!("{} waiting, {} closed", open.len(), closed.len()));
    Ok(ExitCode::SUCCESS)
}

fn line(case: &ExceptionCase, overdue: bool) -> String {
    use chaperone_engine::exception::ExceptionStage as S;
    let stands = match &case.stage {
        S::Requested { until } => format!("waits to be granted until {until}"),
        S::Granted { until, .. } => format!("granted; can be used until {until}"),
        S::Used { by, review_by, .. } => {
            let when = if overdue { "overdue since" } else { "by" };
            format!("used as {by}; to be looked at, {when} {review_by}")
        }
        S::Reviewed { finding, .. } => format!("looked at: {}", finding.as_str()),
        S::Declined => "declined".to_owned(),
        S::Expired { granted: true } => "ran out unused".to_owned(),
        S::Expired { granted: false } => "not granted in time".to_owned(),
    };
    format!(
        "{}  {}  {} for {}  {stands}",
        case.of, case.class, case.agent, case.intent
    )
}
