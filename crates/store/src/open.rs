//! Opening a store by URL: which backend, how it may fail. The adapters do the work.

use std::fmt;
use std::sync::Arc;

use chaperone_core::ports::Store;

use crate::postgres::PostgresStore;
use crate::sqlite::SqliteStore;

/// Which database stands behind a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// `sqlite:PATH`: one file, one node.
    Sqlite,
    /// `postgres://…` or `postgresql://…`: any number of nodes.
    Postgres,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Sqlite => "SQLite",
            Backend::Postgres => "PostgreSQL",
        })
    }
}

impl Backend {
    /// The backend of a URL.
    ///
    /// # Errors
    /// [`OpenFailed::UnknownScheme`].
    pub fn of_url(url: &str) -> Result<Backend, OpenFailed> {
        if sqlite_path(url).is_some() {
            Ok(Backend::Sqlite)
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Ok(Backend::Postgres)
        } else {
            Err(OpenFailed::UnknownScheme)
        }
    }
}

/// The path of a SQLite URL: `sqlite:relative`, `sqlite:/absolute` or `sqlite:///absolute`.
pub(crate) fn sqlite_path(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("sqlite:")?;
    Some(rest.strip_prefix("//").unwrap_or(rest))
}

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Most connections to the database at the same time, at least 2.
    pub connections_max: usize,
    /// What the database's own views call this program.
    pub application_name: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connections_max: 16,
            application_name: "chaperone".to_owned(),
        }
    }
}

/// Why a store could not be opened. No variant repeats the URL: it may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum OpenFailed {
    /// Neither of the backends.
    #[error(
        "the store URL must start with `sqlite:`, `postgres://` or `postgresql://`, such as `sqlite:chaperone.db`"
    )]
    UnknownScheme,
    /// The URL cannot be read.
    #[error("the store URL is malformed: {0}")]
    UrlInvalid(String),
    /// Without TLS, only a database on this machine is spoken to.
    #[error(
        "the database is on another machine, and `sslmode=disable` would send everything in the clear; use `sslmode=require`"
    )]
    Plaintext,
    /// The certificates to trust cannot be loaded.
    #[error("the TLS set-up failed: {0}")]
    Tls(String),
    /// The database does not answer, or not to this role.
    #[error("the database cannot be opened")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A role that row-level security does not bind.
    #[error(
        "the database role is a superuser or has BYPASSRLS, so row-level security would not separate tenants; connect as an ordinary role that owns the database"
    )]
    RoleBypassesRowSecurity,
    /// There is something else in this database.
    #[error("the database holds tables that are not Chaperone's; use one of its own")]
    NotOurs,
    /// A newer version of Chaperone was here.
    #[error(
        "the database has schema {found}, this version of Chaperone knows up to {known}; start the newer version, or restore a backup from before the upgrade"
    )]
    Newer {
        /// Schema version of the database.
        found: i64,
        /// Newest schema version of this program.
        known: i64,
    },
    /// A migration failed and was rolled back.
    #[error("the migration `{name}` failed and was rolled back")]
    Migration {
        /// Which.
        name: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl OpenFailed {
    pub(crate) fn unreachable(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        OpenFailed::Unreachable(Box::new(source))
    }
}

/// Opens the store at `url` and brings its schema up to date. Must be called inside a tokio runtime.
///
/// `sqlite:PATH` creates the file if it is missing, but not its folder.
/// `postgres://…` takes the usual parameters and two of our own: `schema=NAME` uses (and creates) that
/// schema in place of the role's own, `sslrootcert=FILE` trusts the certificates in a PEM file in place
/// of the system's.
///
/// # Errors
/// [`OpenFailed`]; a failed migration leaves the database as it was.
pub async fn open(url: &str, options: Options) -> Result<Arc<dyn Store>, OpenFailed> {
    match Backend::of_url(url)? {
        Backend::Sqlite => {
            let path = sqlite_path(url).unwrap_or_default();
            Ok(Arc::new(SqliteStore::open(path, &options).await?))
        }
        Backend::Postgres => Ok(Arc::new(PostgresStore::open(url, &options).await?)),
    }
}
