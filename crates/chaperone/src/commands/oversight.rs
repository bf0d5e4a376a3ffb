//! `chaperone oversight`: which rows people decide on until they are restored, what waits for a look afterwards, and
//! what confidence is borne out. Prints ids, names of models and prompts, and counts; nothing of a patient. Looking
//! and restoring are done at the console, by whoever answers for it.

use std::process::ExitCode;

use chaperone_core::oversight::Combination;
use chaperone_engine::oversight::OversightView;

use crate::cli;
use crate::config::ConfigArgs;
use crate::demo::print_line;

/// Arguments of `oversight`.
#[derive(Debug, clap::Args)]
pub(crate) struct OversightArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs it: exit 0 while every row goes by what it says, 1 while one is demoted.
pub(crate) fn run(args: OversightArgs) -> anyhow::Result<ExitCode> {
    args.config.with_engine(async |engine| {
        engine.follow_oversight(u64::MAX).await?;
        let view = engine.oversight(None).await?;
        print_line(&match args.json {
            true => serde_json::to_string(&view)?,
            false => text(&view),
        });
        Ok(match view.demoted.is_empty() {
            true => ExitCode::SUCCESS,
            false => cli::no(),
        })
    })
}

fn text(view: &OversightView) -> String {
    let mut lines = vec![format!("demoted  {}", view.demoted.len())];
    lines.extend(view.demoted.iter().map(|row| {
        format!(
            "  {}  {} of {} were wrong, since {}",
            words(&row.combination),
            row.disagreed,
            row.reviewed,
            row.at
        )
    }));
    lines.push(format!("to look at  {}", view.waiting.len()));
    lines.extend(view.waiting.iter().map(|sample| {
        format!(
            "  {}  {} for {}, drawn {}",
            sample.writeback, sample.agent, sample.intent, sample.drawn_at
        )
    }));
    lines.push(format!("counted  {}", view.tallies.len()));
    lines.extend(view.tallies.iter().map(|tally| {
        let borne_out = match (tally.confidence_pct, &tally.tool) {
            (Some(pct), _) => format!(", borne out {pct} %"),
            (None, Some(_)) => format!(", none under {} decisions", view.decisions_min),
            (None, None) => String::new(),
        };
        let tool = tally.tool.as_ref();
        format!(
            "  {}{}  right {}, wrong {}{borne_out}",
            tool.map_or_else(String::new, |tool| format!("tool {tool}, ")),
            words(&tally.combination),
            tally.right,
            tally.wrong
        )
    }));
    lines.push(format!("attention  {}", view.vigilance.len()));
    lines.extend(view.vigilance.iter().map(|row| {
        let share = match (row.caught_pct, row.is_low) {
            (Some(pct), true) => format!(", {pct} % caught, too few"),
            (Some(pct), false) => format!(", {pct} % caught"),
            (None, _) => ", too few decisions to say".to_owned(),
        };
        format!(
            "  {}, {}: {} decided{share}",
            row.row, row.pool, row.decided
        )
    }));
    lines.join("\n")
}

fn words(combination: &Combination) -> String {
    let row = combination
        .row
        .as_ref()
        .map_or("all rows", |row| row.as_str());
    let prompts: Vec<&str> = combination.prompts.iter().map(|it| it.as_str()).collect();
    format!(
        "{row}, {} on {} with [{}]",
        combination.intent,
        combination.model,
        prompts.join(", ")
    )
}
