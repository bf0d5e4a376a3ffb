//! Logs and metrics. A log line holds fixed texts and listed fields; what libraries say, and what a panic says, is
//! left out.
//!
//! Reading order: `fields` (what may appear), `journal` (what writes lines), then this file, which starts both.

mod fields;
mod journal;

use anyhow::bail;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub(crate) use self::journal::journal;

/// The levels that may be asked for. No directives for single libraries: they are silent below warnings.
const LEVELS: [(&str, LevelFilter); 4] = [
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
];

/// Starts logging to standard error: `level` is error, warn, info or debug.
pub(crate) fn start_logs(level: &str, json: bool) -> anyhow::Result<()> {
    let Some((_, filter)) = LEVELS.iter().find(|(name, _)| *name == level) else {
        let names: Vec<&str> = LEVELS.iter().map(|(name, _)| *name).collect();
        bail!(
            "the log level `{level}` is not one of: {}",
            names.join(", ")
        );
    };
    tracing_subscriber::registry()
        .with(journal(*filter, json, std::io::stderr))
        .try_init()?;
    quiet_panics();
    Ok(())
}

/// A panic says where it was. What it says may hold anything, and standard error is the log.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let (file, line) = panic
            .location()
            .map_or(("unknown", 0), |at| (at.file(), at.line()));
        // Of a library, the file without where it lies on the machine that built it.
        let file = file.split_once("/src/").map_or(file, |(before, within)| {
            let from = before.rfind('/').map_or(0, |slash| slash.saturating_add(1));
            file.get(from..).unwrap_or(within)
        });
        tracing::error!(file, line, "a part of Chaperone panicked");
    }));
}

/// Starts collecting metrics; the handle renders them.
pub(crate) fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    Ok(PrometheusBuilder::new().install_recorder()?)
}
