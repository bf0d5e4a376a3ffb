//! What is printed: figures with their aims, as one JSON object or as a table.
//!
//! Times are microseconds in JSON. Start at [`Report`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

/// Aim: what a read adds beyond the EHR's own time and one flush, p99.
///
/// # Source
/// The product's aims for its figures, `docs/benchmarks.md`; so are the others.
pub(super) const READ_ADDED_US: f64 = 2_000.0;
/// Aim: a ruling with the full matrix, p99.
pub(super) const RULING_US: f64 = 100.0;
/// Aim: proposals made durable.
pub(super) const PROPOSALS_PER_S: f64 = 1_500.0;
/// Aim: from the start of the process to ready.
pub(super) const READY_US: f64 = 1_000_000.0;
/// Aim: resident memory.
pub(super) const RESIDENT_BYTES: u64 = 100_000_000;
/// A rate counts as held when this share of the arrivals was answered in time.
pub(super) const RATE_HELD: f64 = 0.98;

/// Half and nearly all of many times.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Spread {
    pub(super) count: usize,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

impl Spread {
    /// Of measured times.
    pub(super) fn of(times: Vec<Duration>) -> Self {
        Self::of_us(times.iter().map(|time| us(*time)).collect())
    }

    /// Of microseconds, which may be differences and so below zero.
    pub(super) fn of_us(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        Self {
            count: times.len(),
            p50_us: nearest_rank(&times, 50),
            p99_us: nearest_rank(&times, 99),
        }
    }

    /// The same with a constant taken away.
    pub(super) fn less(self, constant_us: f64) -> Self {
        Self {
            count: self.count,
            p50_us: self.p50_us - constant_us,
            p99_us: self.p99_us - constant_us,
        }
    }
}

/// The smallest value that this percentage of all does not exceed; 0 of nothing.
fn nearest_rank(sorted: &[f64], percent: usize) -> f64 {
    let rank = sorted.len().saturating_mul(percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

pub(super) fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Whether a figure reached its aim.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Aim {
    pub(super) aim: String,
    pub(super) met: bool,
}

impl Aim {
    pub(super) fn at_most_us(aim_us: f64, figure_us: f64) -> Self {
        Self {
            aim: format!("at most {}", in_words(aim_us)),
            met: figure_us <= aim_us,
        }
    }

    pub(super) fn at_least_per_s(aim: f64, figure: f64) -> Self {
        Self {
            aim: format!("at least {aim:.0} a second"),
            met: figure >= aim,
        }
    }

    pub(super) fn at_most_bytes(aim: u64, figure: u64) -> Self {
        Self {
            aim: format!("at most {} MB", aim / 1_000_000),
            met: figure <= aim,
        }
    }

    fn shown(&self) -> String {
        let said = if self.met { "met" } else { "MISSED" };
        format!("[{said}: {}]", self.aim)
    }
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    build: &'static str,
    cores: usize,
    seconds: u64,
    rate_per_s: u32,
    notes: Vec<&'static str>,
    pub(super) start: Option<Start>,
    pub(super) rulings: Option<Rulings>,
    pub(super) databases: Vec<Database>,
    /// Memory of the bench itself at its end: gateway, sandbox EHR, load and samples together.
    pub(super) bench_resident_bytes: Option<u64>,
    pub(super) skipped: Vec<Skipped>,
}

/// Time to ready and memory of `serve`.
#[derive(Debug, Serialize)]
pub(super) struct Start {
    pub(super) first_us: f64,
    pub(super) again_us: f64,
    pub(super) ready: Aim,
    pub(super) resident_bytes: Option<u64>,
    pub(super) resident: Option<Aim>,
}

/// Rulings.
#[derive(Debug, Serialize)]
pub(super) struct Rulings {
    pub(super) time: Spread,
    pub(super) aim: Aim,
}

/// What was measured on one database.
#[derive(Debug, Serialize)]
pub(super) struct Database {
    name: String,
    pub(super) reads: Vec<Reads>,
    pub(super) reads_most: Option<ReadsMost>,
    pub(super) proposals: Vec<Proposals>,
}

impl Database {
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            reads: Vec::new(),
            reads_most: None,
            proposals: Vec::new(),
        }
    }
}

/// Reads at a fixed rate of arrival.
#[derive(Debug, Serialize)]
pub(super) struct Reads {
    pub(super) clients: usize,
    pub(super) rate_per_s: u32,
    pub(super) answered_per_s: f64,
    pub(super) failed: BTreeMap<String, u64>,
    /// The same search by the same library, without Chaperone, at the same rate.
    pub(super) direct: Spread,
    /// From due to answered, through MCP.
    pub(super) total: Spread,
    /// What the EHR took of it.
    pub(super) upstream: Spread,
    /// Per request: total less upstream.
    pub(super) added: Spread,
    /// One flush of the same disk, in the same run.
    pub(super) flush: Spread,
    /// Added, less the median flush.
    pub(super) beyond_flush: Spread,
    pub(super) aim: Aim,
}

/// Reads as fast as they are answered.
#[derive(Debug, Serialize)]
pub(super) struct ReadsMost {
    pub(super) clients: usize,
    pub(super) per_s: f64,
    pub(super) total: Spread,
    /// Processor time of one read: gateway, sandbox EHR and load together.
    pub(super) processor_us: Option<f64>,
    pub(super) failed: BTreeMap<String, u64>,
}

/// Proposals as fast as they are answered.
#[derive(Debug, Serialize)]
pub(super) struct Proposals {
    /// How they came in.
    pub(super) way: &'static str,
    /// What answered the reads that a proposal needs.
    pub(super) upstream: &'static str,
    pub(super) callers: usize,
    pub(super) per_s: f64,
    pub(super) time: Spread,
    /// Processor time of one proposal: everything in this process together.
    pub(super) processor_us: Option<f64>,
    pub(super) failed: BTreeMap<String, u64>,
    pub(super) aim: Aim,
}

/// What was left out, and how to have it.
#[derive(Debug, Serialize)]
pub(super) struct Skipped {
    pub(super) what: String,
    pub(super) how: String,
}

impl Report {
    pub(super) fn of_this_machine(span: Duration, rate_per_s: u32) -> Self {
        Self {
            build: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            },
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            seconds: span.as_secs(),
            rate_per_s,
            notes: vec![
                "gateway, sandbox EHR and load share this machine and its cores",
                "the gateway's limits of rate and concurrency are raised for this instance, or they would be measured",
                "a request's time counts from when it was due, so that queueing counts",
            ],
            start: None,
            rulings: None,
            databases: Vec::new(),
            bench_resident_bytes: None,
            skipped: Vec::new(),
        }
    }

    /// For people.
    pub(super) fn in_words(&self) -> String {
        let mut text = String::new();
        let mut line = |words: String| {
            text.push_str(&words);
            text.push('\n');
        };
        line(format!(
            "Chaperone on this machine: {} cores, {} build, {} s per measurement.",
            self.cores, self.build, self.seconds
        ));
        for note in &self.notes {
            line(format!("  ({note})"));
        }
        if let Some(start) = &self.start {
            line(format!(
                "\nserve\n  ready          first start {}, next start {}  {}",
                in_words(start.first_us),
                in_words(start.again_us),
                start.ready.shown()
            ));
            line(match (&start.resident, start.resident_bytes) {
                (Some(aim), Some(bytes)) => {
                    format!("  resident       {}  {}", megabytes(bytes), aim.shown())
                }
                _ => "  resident       this system does not tell".to_owned(),
            });
        }
        if let Some(rulings) = &self.rulings {
            line(format!(
                "\nruling with the full matrix\n  {}  {}",
                rulings.time.shown(),
                rulings.aim.shown()
            ));
        }
        for database in &self.databases {
            line(database.in_words());
        }
        if let Some(bytes) = self.bench_resident_bytes {
            line(format!(
                "\nresident at the end: {} for gateway, sandbox EHR, load and samples together",
                megabytes(bytes)
            ));
        }
        for skipped in &self.skipped {
            line(format!("\n{} was skipped: {}", skipped.what, skipped.how));
        }
        text
    }
}

impl Spread {
    fn shown(&self) -> String {
        format!(
            "p50 {:>8}  p99 {:>8}",
            in_words(self.p50_us),
            in_words(self.p99_us)
        )
    }
}

impl Database {
    fn in_words(&self) -> String {
        let mut text = format!("\n{}", self.name);
        for reads in &self.reads {
            // Writing to a String does not fail.
            let _ = write!(
                text,
                "\n  governed reads, {} clients, {} a second due, {:.0} a second answered{}",
                reads.clients,
                reads.rate_per_s,
                reads.answered_per_s,
                failures(&reads.failed)
            );
            for (name, spread) in [
                ("EHR called directly", &reads.direct),
                ("through Chaperone", &reads.total),
                ("of it the EHR", &reads.upstream),
                ("added", &reads.added),
                ("one flush", &reads.flush),
            ] {
                let _ = write!(text, "\n    {name:<20} {}", spread.shown());
            }
            let _ = write!(
                text,
                "\n    {:<20} {}  {}",
                "beyond one flush",
                reads.beyond_flush.shown(),
                reads.aim.shown()
            );
        }
        if let Some(most) = &self.reads_most {
            let _ = write!(
                text,
                "\n  governed reads, {} clients, each waiting for its answer: {:.0} a second, {}{}{}",
                most.clients,
                most.per_s,
                most.total.shown(),
                processor(most.processor_us),
                failures(&most.failed)
            );
        }
        for proposals in &self.proposals {
            let _ = write!(
                text,
                "\n  durable proposals {} ({}), {} callers: {:.0} a second, {}{}{}  {}",
                proposals.way,
                proposals.upstream,
                proposals.callers,
                proposals.per_s,
                proposals.time.shown(),
                processor(proposals.processor_us),
                failures(&proposals.failed),
                proposals.aim.shown()
            );
        }
        text
    }
}

fn failures(failed: &BTreeMap<String, u64>) -> String {
    if failed.is_empty() {
        return String::new();
    }
    let each: Vec<String> = failed
        .iter()
        .map(|(said, count)| format!("{count} × {said}"))
        .collect();
    format!(", WITHOUT ANSWER: {}", each.join(", "))
}

fn processor(us: Option<f64>) -> String {
    us.map_or_else(String::new, |us| {
        format!(", {} of processor time each", in_words(us))
    })
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

pub(super) fn in_words(us: f64) -> String {
    if us.abs() >= 1_000_000.0 {
        format!("{:.2} s", us / 1e6)
    } else if us.abs() >= 1_000.0 {
        format!("{:.2} ms", us / 1e3)
    } else {
        format!("{us:.1} µs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let hundred = Spread::of_us((1..=100).rev().map(f64::from).collect());
        assert_eq!((hundred.p50_us, hundred.p99_us), (50.0, 99.0));
        let one = Spread::of(vec![Duration::from_micros(7)]);
        assert_eq!((one.count, one.p50_us, one.p99_us), (1, 7.0, 7.0));
        assert_eq!(Spread::of(Vec::new()).p99_us, 0.0);
    }

    #[test]
    fn an_aim_is_met_at_its_edge_and_missed_beyond() {
        assert!(Aim::at_most_us(100.0, 100.0).met);
        assert!(!Aim::at_most_us(100.0, 100.1).met);
        assert!(Aim::at_least_per_s(1_500.0, 1_500.0).met);
        assert!(!Aim::at_least_per_s(1_500.0, 1_499.9).met);
        assert!(!Aim::at_most_bytes(100, 101).met);
    }
}
