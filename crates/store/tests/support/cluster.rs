//! A PostgreSQL for tests: the one named in `CHAPERONE_TEST_POSTGRES`, or a throw-away cluster that lives
//! as long as the test process. Depends on nothing, so that other crates include it by `#[path]`. Not a
//! fake: tests that need PostgreSQL fail where there is none.
//!
//! The cluster itself is `scripts/with-postgres`; this only starts the script and keeps a pipe to it
//! open. When the process ends, however it ends, the pipe closes and the script cleans up.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct Cluster {
    url: String,
    /// Holds the pipe open.
    _script: Option<Child>,
}

/// URL of a database whose role may create schemas and databases and is not a superuser.
pub(crate) fn url() -> &'static str {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    &CLUSTER.get_or_init(start).url
}

/// The same with a schema that nobody else uses; opening a store there creates it.
pub(crate) fn fresh_url() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let started = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let separator = if url().contains('?') { '&' } else { '?' };
    format!("{}{separator}schema=t{process}_{count}_{started}", url())
}

fn start() -> Cluster {
    if let Ok(url) = std::env::var("CHAPERONE_TEST_POSTGRES") {
        return Cluster { url, _script: None };
    }
    // Every crate's manifest folder is `crates/NAME`.
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/with-postgres");
    let mut child = Command::new(script)
        .args([
            "sh",
            "-c",
            "echo \"$CHAPERONE_TEST_POSTGRES\"; cat >/dev/null",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{script} cannot be run: {error}"));
    let mut url = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut url).unwrap_or_default();
    }
    let url = url.trim().to_owned();
    if url.is_empty() {
        let mut said = String::new();
        if let Some(mut err) = child.stderr.take() {
            err.read_to_string(&mut said).unwrap_or_default();
        }
        panic!("no PostgreSQL for this test: {said}");
    }
    Cluster {
        url,
        _script: Some(child),
    }
}
