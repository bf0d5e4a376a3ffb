//! Logs and metrics. Logs carry ids, codes and counts; the libraries that could print URLs or frames
//! are held at warnings.

use anyhow::bail;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Libraries whose debug output holds requests.
const QUIET: &str =
    "hyper=warn,hyper_util=warn,h2=warn,reqwest=warn,lettre=warn,tokio_postgres=warn,rustls=warn";

/// The levels that may be asked for. No directives: a finer one could undo [`QUIET`].
const LEVELS: [&str; 4] = ["error", "warn", "info", "debug"];

/// Starts logging to standard error: `level` is error, warn, info or debug.
pub(crate) fn start_logs(level: &str, json: bool) -> anyhow::Result<()> {
    if !LEVELS.contains(&level) {
        bail!(
            "the log level `{level}` is not one of: {}",
            LEVELS.join(", ")
        );
    }
    let always = chaperone_web::LOG_DIRECTIVES_ALWAYS.join(",");
    let filter = EnvFilter::try_new(format!("{level},{QUIET},{always}"))?;
    let registry = tracing_subscriber::registry().with(filter);
    if json {
        let layer = tracing_subscriber::fmt::layer()
            .json()
            .with_writer(std::io::stderr);
        registry.with(layer).try_init()?;
    } else {
        let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        registry.with(layer).try_init()?;
    }
    Ok(())
}

/// Starts collecting metrics; the handle renders them.
pub(crate) fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    Ok(PrometheusBuilder::new().install_recorder()?)
}
