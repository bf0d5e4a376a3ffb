//! `chaperone undo`: finds what an agent, a model, a prompt, an intent or a time did, shows it, and undoes it through
//! compensations that people approve; `chaperone undo status` tells how a run stands. Prints ids, types and codes;
//! nothing of a patient.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use chaperone_core::ids::{AgentId, IntentId, UndoId, WritebackId};
use chaperone_core::undo::{UndoCounts, UndoSelection, UndoStep, VersionName};
use chaperone_engine::Engine;
use chaperone_engine::undo::{Planned, UndoPlan, UndoRequest, UndoStatus};
use chaperone_engine::views::timeline::step_words;
use clap::Subcommand;

use super::audit::SpanArgs;
use super::person;
use crate::cli;
use crate::config::ConfigArgs;
use crate::demo::print_line;

/// Most effects that are printed one by one as text.
const PRINTED_MAX: usize = 200;
/// Passes over a run before the command leaves the rest to the server.
const PASSES_MAX: usize = 8;

/// Arguments of `undo`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct UndoArgs {
    #[command(subcommand)]
    command: Option<UndoCommand>,
    #[command(flatten)]
    config: ConfigArgs,
    /// What this agent proposed.
    #[arg(long, value_name = "ID")]
    agent: Option<AgentId>,
    /// What was proposed while the agent ran on this model.
    #[arg(long, value_name = "MODEL")]
    model: Option<VersionName>,
    /// What was proposed with this prompt, `id@version`.
    #[arg(long, value_name = "PROMPT")]
    prompt: Option<VersionName>,
    /// What was proposed for this intent.
    #[arg(long, value_name = "ID")]
    intent: Option<IntentId>,
    #[command(flatten)]
    span: SpanArgs,
    /// This write-back, `wb_…`.
    #[arg(long, value_name = "ID")]
    writeback: Option<WritebackId>,
    /// Show what would be done and who would have to agree, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Cut the selected agent off first; a switch under Modes lets it go on again.
    #[arg(long, requires = "agent")]
    stop_agent: bool,
    /// The account of who answers for it; its password and a code are asked for.
    #[arg(long = "as", value_name = "ACCOUNT")]
    account: Option<String>,
    /// Why, in 10 to 1,000 characters, without names of patients.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum UndoCommand {
    /// How a run stands; exit 0 once nothing more happens by itself, 1 before.
    Status {
        #[command(flatten)]
        config: ConfigArgs,
        /// The run, `undo_…`.
        run: UndoId,
        /// Go on with it here as far as it can now; a server does that by itself.
        #[arg(long)]
        advance: bool,
        /// Print one JSON object: the report.
        #[arg(long)]
        json: bool,
    },
}

/// Runs it.
pub(crate) fn run(args: UndoArgs) -> anyhow::Result<ExitCode> {
    if let Some(UndoCommand::Status {
        config,
        run,
        advance,
        json,
    }) = args.command
    {
        return config.with_engine(async |engine| {
            if advance {
                go_on(&engine, run).await?;
            }
            let status = engine.undo_status(run).await?;
            tell(&status, json)
        });
    }
    let selection = selection(&args)?;
    if selection.is_empty() {
        bail!(
            "say what to undo: at least one of --agent, --model, --prompt, --intent, --from, --to, --writeback"
        );
    }
    args.config.clone().with_engine(async |engine| {
        let plan = engine.undo_plan(&selection).await?;
        if args.dry_run {
            show(&plan, args.json)?;
            return Ok(ExitCode::SUCCESS);
        }
        if plan.items.is_empty() {
            show(&plan, args.json)?;
            return Ok(cli::no());
        }
        let account = args
            .account
            .as_deref()
            .context("--as is missing; with --dry-run nothing is done and nobody is asked")?;
        let reason = args.reason.clone().context("--reason is missing")?;
        if !args.json {
            show(&plan, false)?;
        }
        let request = UndoRequest {
            selection,
            reason,
            stop_agent: args.stop_agent,
        };
        let digest = engine.undo_digest(&request)?;
        let (human, factor) = person::with_factor(&engine, account, digest).await?;
        let run = engine.start_undo(&human, &request, factor).await?;
        go_on(&engine, run).await?;
        let status = engine.undo_status(run).await?;
        tell(&status, args.json)?;
        Ok(ExitCode::SUCCESS)
    })
}

fn selection(args: &UndoArgs) -> anyhow::Result<UndoSelection> {
    let span = args.span.span()?;
    Ok(UndoSelection {
        agent: args.agent.clone(),
        model: args.model.clone(),
        prompt: args.prompt.clone(),
        intent: args.intent.clone(),
        from: span.from,
        to: span.to,
        writeback: args.writeback,
    })
}

/// Goes on until nothing moves; what waits for people or for the EHR is a server's to go on with.
async fn go_on(engine: &Engine, run: UndoId) -> anyhow::Result<()> {
    for _ in 0..PASSES_MAX {
        let advanced = engine.advance_undo(run).await?;
        if advanced.finished || advanced.moved == 0 {
            break;
        }
    }
    Ok(())
}

fn show(plan: &UndoPlan, json: bool) -> anyhow::Result<()> {
    if json {
        print_line(&serde_json::to_string(plan)?);
        return Ok(());
    }
    for item in plan.items.iter().take(PRINTED_MAX) {
        let what = match (&item.resource, item.interaction) {
            (Some(resource), Some(interaction)) => format!("{} {resource}", interaction.as_str()),
            _ => "not ruled on".to_owned(),
        };
        print_line(&format!(
            "{}  {what}, by {} for {}, proposed {}",
            item.writeback, item.agent, item.intent, item.proposed
        ));
        print_line(&format!("    stands  {}", item.state));
        if let Some(on) = item.on {
            print_line(&format!("    rests on {on}"));
        }
        print_line(&format!("    would   {}", planned_words(&item.planned)));
    }
    if plan.items.len() > PRINTED_MAX {
        print_line(&format!("… and {} more", plan.items.len() - PRINTED_MAX));
    }
    print_line(&format!("{} effects", plan.items.len()));
    if plan.unreadable > 0 {
        print_line(&format!(
            "{} orders are not kept any more, so nobody can say which version made them",
            plan.unreadable
        ));
    }
    Ok(())
}

fn planned_words(planned: &Planned) -> String {
    match planned {
        Planned::SetAside => "be set aside; nothing was sent".to_owned(),
        Planned::Withdraw => "be withdrawn; it is a draft of Chaperone's own".to_owned(),
        Planned::Wait => "be waited for: it is on its way".to_owned(),
        Planned::Compensate { gate, to: Some(to) } => {
            format!("be compensated (becomes {to}); needs {gate}")
        }
        Planned::Compensate { gate, to: None } => format!("be put back; needs {gate}"),
        Planned::Proposed { by } => format!("stay with {by}, which undoes it"),
        Planned::Nothing => "stay: there is nothing to undo".to_owned(),
        Planned::Person { needed } => format!("go to a person: {}", needed.words()),
        Planned::NotKnown => "be looked at again: the EHR does not answer now".to_owned(),
    }
}

fn tell(status: &UndoStatus, json: bool) -> anyhow::Result<ExitCode> {
    let settled = status.finished.is_some();
    if json {
        print_line(&serde_json::to_string(status)?);
    } else {
        print_line(&format!(
            "{}  begun {} by {}{}",
            status.run,
            status.started,
            status.by,
            match status.finished {
                Some(at) => format!(", finished {at}"),
                None => ", under way".to_owned(),
            }
        ));
        print_line(&format!("    {}", counts_words(&status.counts)));
        for item in status.items.iter().take(PRINTED_MAX) {
            let kind = item.resource.as_ref().map_or("", |it| it.as_str());
            let mut line = format!("{}  {kind}  {}", item.writeback, step_words(&item.step));
            if let (UndoStep::Proposed { .. }, Some(state)) = (&item.step, item.compensation) {
                line.push_str(&format!(" ({state}"));
                if let Some(gate) = &item.gate {
                    line.push_str(&format!("; needs {gate}"));
                }
                line.push(')');
            }
            print_line(&line);
        }
        if !settled {
            print_line("A server goes on with it; people find what waits for them in their inbox.");
        }
    }
    Ok(if settled {
        ExitCode::SUCCESS
    } else {
        cli::no()
    })
}

fn counts_words(counts: &UndoCounts) -> String {
    [
        (counts.undone, "undone"),
        (counts.set_aside, "set aside"),
        (counts.withdrawn, "withdrawn"),
        (counts.proposed, "with a compensation on its way"),
        (counts.waiting, "on their way"),
        (counts.found, "not looked at yet"),
        (counts.person, "with a person"),
        (counts.nothing, "with nothing to undo"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, words)| format!("{count} {words}"))
    .collect::<Vec<_>>()
    .join(", ")
}
