//! `chaperone replay` and `chaperone backtest`: recorded rulings once more, under the bundle that made them and
//! under another one. Prints codes, ids and counts; nothing of a patient.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chaperone_core::evidence::RulingRecord;
use chaperone_core::gate::Gate;
use chaperone_core::ids::WritebackId;
use chaperone_engine::replay::{Flip, OtherRuling, Retried};
use chaperone_policy::Bundle;
use serde_json::{Value, json};

use super::audit::SpanArgs;
use crate::bundle_files;
use crate::cli;
use crate::config::ConfigArgs;
use crate::demo::print_line;

/// Most flips that are printed one by one as text; beyond that they are counted.
const PRINTED_MAX: usize = 200;

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The write-back, `wb_…`.
    #[arg(value_name = "WRITEBACK")]
    writeback: WritebackId,
    /// Folder of the bundle that ruled, when it is no longer the one in force.
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Arguments of `backtest`.
#[derive(Debug, clap::Args)]
pub(crate) struct BacktestArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Folder of the other bundle.
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    #[command(flatten)]
    span: SpanArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs `replay`: exit 0 when policy answers as it did, 1 when it does not.
pub(crate) fn replay(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let other = args.bundle.as_deref().map(bundle_of).transpose()?;
    args.config.with_engine(async |engine| {
        let bundle = other.as_ref().unwrap_or_else(|| engine.bundle());
        let replayed = engine.replay(args.writeback, bundle).await?;
        let is_same = replayed.is_same();
        if args.json {
            print_line(
                &json!({
                    "writeback": args.writeback, "same": is_same,
                    "recorded": replayed.recorded, "again": replayed.again,
                })
                .to_string(),
            );
        } else {
            let said = if is_same { "The same" } else { "DIFFERENT" };
            print_line(&format!(
                "{said}\nrecorded  {}\nagain     {}",
                in_words(&replayed.recorded),
                in_words(&replayed.again),
            ));
        }
        Ok(if is_same {
            ExitCode::SUCCESS
        } else {
            cli::no()
        })
    })
}

/// Runs `backtest`: exit 0 when nothing flips, 1 when something does or nobody can say.
pub(crate) fn backtest(args: BacktestArgs) -> anyhow::Result<ExitCode> {
    let bundle = bundle_of(&args.bundle)?;
    let span = args.span.span()?;
    args.config.with_engine(async |engine| {
        let mut report = Report::default();
        engine
            .backtest(&bundle, span, |retried| report.take(retried))
            .await?;
        let lines = match args.json {
            true => report.json(&bundle).to_string(),
            false => report.text(),
        };
        print_line(&lines);
        Ok(match report.flips.is_empty() && report.rulings > 0 {
            true => ExitCode::SUCCESS,
            false => cli::no(),
        })
    })
}

fn bundle_of(folder: &Path) -> anyhow::Result<Bundle> {
    let files = bundle_files::read(Some(folder))?;
    super::check::loaded(&files).map_err(|problems| {
        anyhow::anyhow!("the bundle does not load:\n  {}", problems.join("\n  "))
    })
}

#[derive(Default)]
struct Report {
    rulings: u64,
    /// All but the same ones.
    flips: Vec<(Flip, Retried)>,
    /// Flips by the rows that determined the recorded ruling.
    by_row: BTreeMap<(String, Flip), u64>,
}

impl Report {
    fn take(&mut self, retried: Retried) {
        self.rulings = self.rulings.saturating_add(1);
        let flip = retried.flip();
        if flip == Flip::Same {
            return;
        }
        for row in &retried.recorded.determining {
            let count = self.by_row.entry((row.to_string(), flip)).or_default();
            *count = count.saturating_add(1);
        }
        self.flips.push((flip, retried));
    }

    fn text(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        for (flip, it) in self.flips.iter().take(PRINTED_MAX) {
            let _ = writeln!(
                text,
                "{:<8}  entry {:<8} {}  {}  →  {}",
                word(*flip),
                it.seq,
                it.writeback,
                in_words(&it.recorded),
                other_words(&it.other)
            );
        }
        if self.flips.len() > PRINTED_MAX {
            let _ = writeln!(text, "… and {} more", self.flips.len() - PRINTED_MAX);
        }
        for ((row, flip), count) in &self.by_row {
            let _ = writeln!(text, "row {row}: {count} {}", word(*flip));
        }
        let _ = write!(
            text,
            "{} rulings, {} would flip",
            self.rulings,
            self.flips.len()
        );
        if self.rulings == 0 {
            text.push_str("; nothing was ruled on in this time, so this says nothing");
        }
        text
    }

    fn json(&self, bundle: &Bundle) -> Value {
        let flips: Vec<Value> = self
            .flips
            .iter()
            .map(|(flip, it)| {
                let after = match &it.other {
                    OtherRuling::Ruled(after) => json!(after),
                    OtherRuling::NotDeclared => json!("not-declared"),
                    OtherRuling::Unknown(why) => json!(why),
                };
                json!({
                    "flip": word(*flip), "entry": it.seq, "writeback": it.writeback, "at": it.at,
                    "before": it.recorded, "after": after,
                })
            })
            .collect();
        let rows: Vec<Value> = self
            .by_row
            .iter()
            .map(|((row, flip), count)| json!({ "row": row, "flip": word(*flip), "count": count }))
            .collect();
        json!({
            "bundle": bundle.digest(), "rulings": self.rulings, "rows": rows, "flips": flips,
        })
    }
}

fn word(flip: Flip) -> &'static str {
    match flip {
        Flip::Same => "same",
        Flip::Stricter => "stricter",
        Flip::Other => "other",
        Flip::Weaker => "WEAKER",
        Flip::Unknown => "unknown",
    }
}

fn other_words(other: &OtherRuling) -> String {
    match other {
        OtherRuling::Ruled(after) => in_words(after),
        OtherRuling::NotDeclared => "agent, intent or tool are not declared so".to_owned(),
        OtherRuling::Unknown(why) => format!("nobody can say: {why}"),
    }
}

/// Gate, who, why, by which rows.
fn in_words(ruling: &RulingRecord) -> String {
    let roles: Vec<&str> = match &ruling.gate {
        Gate::Approve { roles } | Gate::Approve2f { roles } => {
            roles.iter().map(|role| role.as_str()).collect()
        }
        Gate::TwoPerson { first, second } => vec![first.as_str(), second.as_str()],
        Gate::Auto | Gate::AutoVerified { .. } | Gate::Deny => Vec::new(),
    };
    let rows: Vec<&str> = ruling
        .determining
        .iter()
        .chain(&ruling.raised_by)
        .map(|row| row.as_str())
        .collect();
    let mut text = ruling.gate.level().as_str().to_owned();
    if !roles.is_empty() {
        text.push_str(&format!(" ({})", roles.join(", ")));
    }
    if let Some(denial) = &ruling.denial {
        text.push_str(&format!(" ({denial})"));
    }
    format!("{text} by {}", rows.join(", "))
}
