//! `chaperone simulate`: seeds of the deterministic simulator, each a history of its own in which everything goes
//! wrong that can, judged by a checker. Touches no database, no network and no file.
//!
//! A failure names its seed; the same seed gives the same history again, byte for byte.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chaperone_engine::{Engine, PreparedBundle};
use chaperone_testkit::simulation::{
    Bug, Coverage, Options, Outcome, Rules, STEPS, StartEngine, played, replacing, simulate,
};
use console::Term;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::bundle_files;
use crate::cli::{self, BundleArgs};
use crate::demo::print_line;

/// Lines of a trace that are printed.
const LINES_SHOWN: usize = 60;
/// The word that asks for the list of bugs.
const LIST: &str = "list";

/// Arguments of `simulate`.
#[derive(Debug, clap::Args)]
pub(crate) struct SimulateArgs {
    #[command(flatten)]
    bundle: BundleArgs,
    /// The first seed.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// How many seeds, from the first on.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Most steps of one seed; one that needs more has not come to rest.
    #[arg(long, value_name = "M", default_value_t = STEPS)]
    steps: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Plant a bug outside of the engine, to see that it is found; `list` names them.
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
    /// Print the whole trace that is kept, also when nothing is violated.
    #[arg(long)]
    trace: bool,
}

/// What many seeds came to.
#[derive(Default)]
struct Tally {
    seeds: u64,
    steps: u64,
    simulated_us: u64,
    reached: Coverage,
    flavours: BTreeMap<&'static str, u64>,
    profiles: BTreeMap<&'static str, u64>,
    /// The violated seeds, by number.
    violated: BTreeMap<u64, Outcome>,
    last: Option<Outcome>,
}

impl Tally {
    fn take(&mut self, outcome: Outcome) {
        self.seeds = self.seeds.saturating_add(1);
        self.steps = self.steps.saturating_add(outcome.steps);
        self.simulated_us = self.simulated_us.saturating_add(outcome.simulated_us);
        self.reached.add(&outcome.coverage);
        for (counts, name) in [
            (&mut self.flavours, outcome.flavour.as_str()),
            (&mut self.profiles, outcome.profile.as_str()),
        ] {
            let count = counts.entry(name).or_default();
            *count = count.saturating_add(1);
        }
        if outcome.violations.is_empty() {
            self.last = Some(outcome);
        } else {
            self.violated.insert(outcome.seed, outcome);
        }
    }
}

/// Runs it: exit 0 when nothing was violated, 1 when something was.
pub(crate) fn run(args: SimulateArgs) -> anyhow::Result<ExitCode> {
    if args.bug.as_deref() == Some(LIST) {
        for bug in Bug::ALL {
            print_line(&format!("{:<24} {}", bug.as_str(), bug.words().trim()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let bug = match &args.bug {
        None => None,
        Some(name) => Some(Bug::parse(name).with_context(|| {
            format!("there is no bug `{name}`; `chaperone simulate --bug {LIST}` names them")
        })?),
    };
    let files = played(&bundle_files::read(args.bundle.bundle.as_deref())?);
    let start = starting(&files)?;
    let began = now();
    let tally = play(&start, &args, bug);
    let took = began.elapsed();
    if args.json {
        print_line(&summary(&tally, took).to_string());
    } else {
        report(&tally, &args, took);
    }
    Ok(if tally.violated.is_empty() {
        ExitCode::SUCCESS
    } else {
        cli::no()
    })
}

fn starting(files: &BTreeMap<String, String>) -> anyhow::Result<StartEngine> {
    let first = PreparedBundle::of(bundle_files::load(files)?)?;
    let second = PreparedBundle::of(bundle_files::load(&replacing(files))?)?;
    Ok(Arc::new(move |rules, config, ports| {
        let bundle = match rules {
            Rules::First => first.clone(),
            Rules::Second => second.clone(),
        };
        Box::pin(Engine::start_prepared(config, bundle, ports))
    }))
}

/// Plays the seeds, each on one thread, as many at once as the machine has processors. With a planted bug, no
/// further seed is begun once one has found it.
fn play(start: &StartEngine, args: &SimulateArgs, bug: Option<Bug>) -> Tally {
    let tally = Mutex::new(Tally::default());
    let next = AtomicU64::new(0);
    let bar = progress(args);
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    if nth >= args.count {
                        return;
                    }
                    let outcome = simulate(
                        start,
                        Options {
                            seed: args.seed.wrapping_add(nth),
                            steps: args.steps,
                            bug,
                        },
                    );
                    bar.inc(1);
                    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                    tally.take(outcome);
                    if bug.is_some() && !tally.violated.is_empty() {
                        next.store(args.count, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    bar.finish_and_clear();
    tally.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn progress(args: &SimulateArgs) -> ProgressBar {
    if args.count < 2 || args.json || !Term::stderr().is_term() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(args.count);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {pos}/{len} seeds, {per_sec}, {eta} left")
    {
        bar.set_style(style);
    }
    bar
}

fn per_minute(tally: &Tally, took: Duration) -> u64 {
    (tally.seeds as f64 * 60.0 / took.as_secs_f64().max(0.001)) as u64
}

fn summary(tally: &Tally, took: Duration) -> Value {
    let reached = &tally.reached;
    let fault = |name: &str| reached.faults.get(name).copied().unwrap_or(0);
    let violations: Vec<Value> = tally
        .violated
        .values()
        .flat_map(|outcome| {
            outcome.violations.iter().map(|it| {
                json!({ "seed": outcome.seed, "property": it.property.as_str(), "seen": it.seen })
            })
        })
        .collect();
    let hash = tally.last.as_ref().or(tally.violated.values().next());
    json!({
        "seeds": tally.seeds,
        "steps": tally.steps,
        "simulated_hours": tally.simulated_us / 3_600_000_000,
        "databases": tally.flavours,
        "servers": tally.profiles,
        "writebacks": reached.writebacks,
        "sends": reached.sends,
        "effects": reached.effects,
        "ledger_entries": reached.entries,
        "crashes": fault("crash"),
        "faults": reached.faults,
        "moves": reached.moves,
        "ends": reached.ends,
        "violations": violations,
        "trace_hash": hash.filter(|_| tally.seeds == 1).map(|it| it.trace_hash),
        "seconds": (took.as_secs_f64() * 1_000.0).round() / 1_000.0,
        "seeds_per_minute": per_minute(tally, took),
    })
}

fn report(tally: &Tally, args: &SimulateArgs, took: Duration) {
    let shown = match tally.violated.values().next() {
        Some(violated) => Some(violated),
        None if args.trace => tally.last.as_ref(),
        None => None,
    };
    if let Some(outcome) = shown {
        let lines = if args.trace { usize::MAX } else { LINES_SHOWN };
        let from = outcome.trace.len().saturating_sub(lines);
        for line in outcome.trace.iter().skip(from) {
            print_line(line);
        }
        for violation in &outcome.violations {
            print_line("");
            print_line(&format!(
                "VIOLATED {}: {}",
                violation.property.as_str(),
                violation.seen
            ));
            print_line(violation.property.words().trim());
        }
        if !outcome.violations.is_empty() {
            print_line(&format!(
                "Seed {}; `chaperone simulate --seed {} --trace` plays it again.",
                outcome.seed, outcome.seed
            ));
        }
    }
    let reached = &tally.reached;
    let faults: u64 = reached.faults.values().sum();
    print_line(&format!(
        "{} seed(s), {} violated. {} write-backs, {} sends, {} effects, {} faults of {} kinds, {} steps, {} simulated hours. {:.1} s, {} seeds per minute.",
        tally.seeds,
        tally.violated.len(),
        reached.writebacks,
        reached.sends,
        reached.effects,
        faults,
        reached.faults.len(),
        tally.steps,
        tally.simulated_us / 3_600_000_000,
        took.as_secs_f64(),
        per_minute(tally, took),
    ));
}

#[expect(
    clippy::disallowed_methods,
    reason = "how fast seeds are played is measured at the edge; nothing in a seed sees it"
)]
fn now() -> Instant {
    Instant::now()
}
