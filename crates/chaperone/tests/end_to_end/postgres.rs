//! A PostgreSQL of one test's own, which it can kill and start again. The shared one of `cluster` serves tests that
//! only use a database.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

/// A throw-away cluster; gone when dropped, or when the process ends however it ends.
pub(crate) struct OwnPostgres {
    pub(crate) url: String,
    control: String,
    /// Holds the pipe open that keeps the cluster.
    _script: Child,
}

impl OwnPostgres {
    /// Makes one and starts it.
    pub(crate) fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/with-postgres");
        let mut child = Command::new(script)
            .env_remove("CHAPERONE_TEST_POSTGRES")
            .args([
                "sh",
                "-c",
                "echo \"$CHAPERONE_TEST_POSTGRES\"; echo \"$CHAPERONE_TEST_POSTGRES_CONTROL\"; cat >/dev/null",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{script} cannot be run: {error}"));
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = || {
            let mut text = String::new();
            out.read_line(&mut text).unwrap();
            text.trim().to_owned()
        };
        let (url, control) = (line(), line());
        if url.is_empty() || control.is_empty() {
            let mut said = String::new();
            let mut err = child.stderr.take().unwrap();
            err.read_to_string(&mut said).unwrap_or_default();
            panic!("no PostgreSQL for this test: {said}");
        }
        Self {
            url,
            control,
            _script: child,
        }
    }

    /// `kill` (SIGKILL to the server), `immediate` (stopped without a checkpoint) or `start`.
    pub(crate) fn control(&self, what: &str) {
        let output = Command::new(&self.control)
            .arg(what)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "PostgreSQL, {what}: {said}");
    }
}
