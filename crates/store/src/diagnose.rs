//! What `doctor` says about a store: reachable, of the right version, writable, durable, on the same
//! clock, and with row-level security in force. Looks only; it neither creates nor migrates anything.

use std::fmt;

use chaperone_core::Timestamp;

use crate::migrations;
use crate::open::{Backend, OpenFailed, sqlite_path};
use crate::{postgres, sqlite};

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// It answers.
    Reachable,
    /// Its schema is one this program can use.
    Schema,
    /// Writes are accepted.
    Writable,
    /// What is committed survives the loss of power.
    Durable,
    /// Its clock agrees with ours.
    Clock,
    /// Row-level security is on for every table.
    RowSecurity,
    /// Our role is one that row-level security binds.
    Role,
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Aspect::Reachable => "reachable",
            Aspect::Schema => "schema",
            Aspect::Writable => "writable",
            Aspect::Durable => "durable",
            Aspect::Clock => "clock",
            Aspect::RowSecurity => "row-level security",
            Aspect::Role => "role",
        })
    }
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Works, and should be looked at.
    Warning,
    /// Must be put right first.
    Bad,
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub aspect: Aspect,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found, and what to do about it. Never the URL or a password.
    pub say: String,
}

impl Finding {
    pub(crate) fn good(aspect: Aspect, say: impl Into<String>) -> Self {
        Self {
            aspect,
            verdict: Verdict::Good,
            say: say.into(),
        }
    }

    pub(crate) fn warning(aspect: Aspect, say: impl Into<String>) -> Self {
        Self {
            aspect,
            verdict: Verdict::Warning,
            say: say.into(),
        }
    }

    pub(crate) fn bad(aspect: Aspect, say: impl Into<String>) -> Self {
        Self {
            aspect,
            verdict: Verdict::Bad,
            say: say.into(),
        }
    }

    /// What a schema version means for this program.
    pub(crate) fn schema(found: i64) -> Self {
        let known = migrations::newest();
        if found > known {
            Finding::bad(
                Aspect::Schema,
                OpenFailed::Newer { found, known }.to_string(),
            )
        } else if found < known {
            Finding::warning(
                Aspect::Schema,
                format!("schema {found} of {known}; the next start brings it up to date"),
            )
        } else {
            Finding::good(Aspect::Schema, format!("schema {found}, the newest"))
        }
    }
}

/// What was found about a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// Which backend.
    pub backend: Backend,
    /// Everything looked at, in the order of [`Aspect`]; what could not be looked at is missing.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// The worst of the verdicts.
    pub fn verdict(&self) -> Verdict {
        let verdicts = || self.findings.iter().map(|finding| finding.verdict);
        if verdicts().any(|verdict| verdict == Verdict::Bad) {
            Verdict::Bad
        } else if verdicts().any(|verdict| verdict == Verdict::Warning) {
            Verdict::Warning
        } else {
            Verdict::Good
        }
    }
}

/// Looks at the store at `url`. `clock` tells the time of this node, to compare with the database's.
///
/// # Errors
/// [`OpenFailed::UnknownScheme`]; everything else is a finding.
pub async fn diagnose(
    url: &str,
    clock: &(dyn Fn() -> Timestamp + Send + Sync),
) -> Result<Diagnosis, OpenFailed> {
    let backend = Backend::of_url(url)?;
    let findings = match backend {
        Backend::Sqlite => {
            let path = sqlite_path(url).unwrap_or_default().to_owned();
            tokio::task::spawn_blocking(move || sqlite::examine(&path))
                .await
                .map_err(OpenFailed::unreachable)?
        }
        Backend::Postgres => postgres::examine(url, clock).await,
    };
    Ok(Diagnosis { backend, findings })
}
