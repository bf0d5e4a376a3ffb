//! `chaperone cohort`: asks for a list of patients, tells how jobs stand, approves a list and stops a job, as the console
//! does. Each step that changes something names a person, whose password and code are asked for. Prints ids, counts and
//! reasons; nothing of a patient: who approves a list reads it at the console first.

use std::collections::BTreeMap;
use std::process::ExitCode;

use chaperone_core::digest::Digest;
use chaperone_core::ids::{CohortId, CohortJobId};
use chaperone_engine::Engine;
use chaperone_engine::cohort::{CohortRequest, CohortStage, CohortStatus};
use clap::Subcommand;

use super::person;
use crate::config::ConfigArgs;
use crate::demo::print_line;

/// Arguments of `cohort`.
#[derive(Debug, clap::Args)]
pub(crate) struct CohortArgs {
    #[command(subcommand)]
    command: CohortCommand,
}

#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    config: ConfigArgs,
    /// The account of who does it; its password and a code are asked for.
    #[arg(long = "as", value_name = "ACCOUNT")]
    account: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum CohortCommand {
    /// The cohorts of the bundle, and the jobs under way and lately ended.
    List {
        #[command(flatten)]
        config: ConfigArgs,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Ask for a list: search, leave out who may not be on it, and fix what remains for somebody else to approve.
    Run {
        #[command(flatten)]
        common: Common,
        /// The cohort, as the bundle calls it.
        cohort: CohortId,
        /// What is chosen for an argument of the cohort, such as `days=60`.
        #[arg(long = "set", value_name = "NAME=NUMBER", value_parser = argument)]
        set: Vec<(String, i64)>,
        /// Why, in 10 to 1,000 characters, without names of patients.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// How a job stands: its report.
    Show {
        #[command(flatten)]
        config: ConfigArgs,
        /// The job, `cohort_…`.
        job: CohortJobId,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Approve exactly the list of this digest, which you have read at the console.
    Approve {
        #[command(flatten)]
        common: Common,
        /// The job, `cohort_…`.
        job: CohortJobId,
        /// The digest of the list, as the console and `show` print it.
        #[arg(long, value_name = "DIGEST")]
        list: Digest,
    },
    /// Say no to a list, or stop what is left of an approved one.
    Stop {
        #[command(flatten)]
        common: Common,
        /// The job, `cohort_…`.
        job: CohortJobId,
    },
}

fn argument(text: &str) -> Result<(String, i64), String> {
    let (name, number) = text
        .split_once('=')
        .ok_or_else(|| "write it as NAME=NUMBER, such as days=60".to_owned())?;
    let number = number
        .parse()
        .map_err(|_| format!("`{number}` is no whole number"))?;
    Ok((name.to_owned(), number))
}

/// Runs it.
pub(crate) fn run(args: CohortArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        CohortCommand::List { config, json } => {
            config.with_engine(async |engine| list(&engine, json).await)
        }
        CohortCommand::Run {
            common,
            cohort,
            set,
            reason,
        } => common.config.clone().with_engine(async |engine| {
            let digest = bound_to("run", cohort.as_str());
            let (human, _) = person::with_factor(&engine, &common.account, digest).await?;
            let request = CohortRequest {
                cohort,
                arguments: set.into_iter().collect::<BTreeMap<_, _>>(),
                reason,
            };
            let job = engine.request_cohort(&human, &request).await?;
            tell(&engine, job, common.json).await
        }),
        CohortCommand::Show { config, job, json } => {
            config.with_engine(async |engine| tell(&engine, job, json).await)
        }
        CohortCommand::Approve { common, job, list } => {
            common.config.clone().with_engine(async |engine| {
                let (human, factor) = person::with_factor(&engine, &common.account, list).await?;
                engine.approve_cohort(&human, job, list, factor).await?;
                tell(&engine, job, common.json).await
            })
        }
        CohortCommand::Stop { common, job } => common.config.clone().with_engine(async |engine| {
            let digest = bound_to("stop", &job.to_string());
            let (human, _) = person::with_factor(&engine, &common.account, digest).await?;
            engine.stop_cohort(&human, job).await?;
            tell(&engine, job, common.json).await
        }),
    }
}

/// What the code of a step is for that takes none by itself: it says who is at the command line.
fn bound_to(step: &str, what: &str) -> Digest {
    Digest::of_parts([b"cohort-cli".as_slice(), step.as_bytes(), what.as_bytes()])
}

async fn list(engine: &Engine, json: bool) -> anyhow::Result<ExitCode> {
    let jobs = engine.all_cohort_jobs().await?;
    let cohorts: Vec<_> = engine.bundle().cohorts().collect();
    if json {
        let all = serde_json::json!({ "cohorts": cohorts, "jobs": jobs });
        print_line(&all.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    for cohort in cohorts {
        print_line(&format!(
            "{}  {}: {} for {}, at most {}",
            cohort.id, cohort.title, cohort.agent, cohort.intent, cohort.cap
        ));
    }
    for status in &jobs {
        print_line(&line(status));
    }
    Ok(ExitCode::SUCCESS)
}

async fn tell(engine: &Engine, job: CohortJobId, json: bool) -> anyhow::Result<ExitCode> {
    let status = engine.cohort_status(job).await?;
    if json {
        print_line(&serde_json::to_string(&status)?);
        return Ok(ExitCode::SUCCESS);
    }
    print_line(&line(&status));
    print_line(&format!("    list    {}", status.job.list));
    let counts = &status.counts;
    print_line(&format!(
        "    {} on the list, {} waiting for the agent, {} taken, {} ran out unused, {} left out",
        counts.listed, counts.granted, counts.used, counts.unused, counts.left_out
    ));
    for (because, count) in &status.job.removed {
        print_line(&format!("    not listed: {count} {}", because.words()));
    }
    Ok(ExitCode::SUCCESS)
}

fn line(status: &CohortStatus) -> String {
    let job = &status.job;
    let stands = match &job.stage {
        CohortStage::Listed => format!("waits to be approved until {}", job.until),
        CohortStage::Approved { approver, .. } => {
            format!("approved by {approver}; goes on until {}", job.until)
        }
        CohortStage::Ended { cause, at } => format!("{} at {at}", cause.words()),
    };
    format!(
        "{}  {}, asked for {} by {}  {stands}",
        job.id, job.cohort, job.requested, job.account
    )
}
