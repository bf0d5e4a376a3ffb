//! Transactions that name their tenant. Row-level security shows and accepts only the rows of the tenant
//! in the setting `chaperone.tenant`, which lives as long as the transaction; every statement of this
//! adapter runs behind [`Sessions::read`] or [`begin`].
//!
//! Two things look across tenants: claiming due work, and listing tenants. They set `chaperone.worker`
//! in place of a tenant, and policies let them see `work` and `head`, update `work`, and nothing else.

use std::error::Error;

use chaperone_core::ids::TenantId;
use chaperone_core::ports::StoreFailed;
use deadpool_postgres::{Object, Pool, PoolError, Transaction};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{IsolationLevel, Row};

/// Parameters of a statement.
pub(super) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

const SCOPE: &str =
    "SELECT set_config('chaperone.tenant', $1, true), set_config('chaperone.worker', $2, true)";

const SCOPE_TO_READ: &str = "SELECT set_config('chaperone.tenant', $1, true), set_config('chaperone.worker', $2, true), set_config('statement_timeout', '30s', true)";

/// Whose rows a transaction sees.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scope<'a> {
    /// One tenant's.
    Tenant(&'a TenantId),
    /// Everybody's work and heads.
    Worker,
}

impl Scope<'_> {
    fn settings(&self) -> (&str, &'static str) {
        match self {
            Scope::Tenant(tenant) => (tenant.as_str(), "off"),
            Scope::Worker => ("", "on"),
        }
    }
}

/// A failure of the database or of the way to it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// No connection.
    #[error("no connection to the database")]
    Pool(#[from] PoolError),
    /// A statement failed.
    #[error("the database refused a statement")]
    Statement(#[from] tokio_postgres::Error),
    /// What is stored makes no sense.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

impl Trouble {
    /// Whether the connection broke, so that the same may succeed on another.
    pub(super) fn is_lost_connection(&self) -> bool {
        matches!(self, Trouble::Statement(error) if is_lost(error))
    }

    /// The database's code for it, for the log: its words can quote a row.
    pub(super) fn sqlstate(&self) -> Option<String> {
        match self {
            Trouble::Statement(error) => sqlstate(error),
            Trouble::Pool(_) | Trouble::Store(_) => None,
        }
    }

    /// Whether the database understood and said no to what a statement holds: malformed or forbidden
    /// data, or too much of it. Waiting too long for a lock, or running out of space, says nothing about
    /// any one commit.
    pub(super) fn is_refused_statement(&self) -> bool {
        let Trouble::Statement(error) = self else {
            return false;
        };
        let class = error.code().and_then(|code| code.code().get(..2));
        matches!(class, Some("22" | "23" | "42" | "44" | "54" | "P0"))
    }
}

impl From<Trouble> for StoreFailed {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Store(failed) => failed,
            Trouble::Pool(error) => StoreFailed::Unavailable(Box::new(error)),
            Trouble::Statement(error) => StoreFailed::Unavailable(Box::new(error)),
        }
    }
}

/// The SQLSTATE of an error behind an `S`, so that it reads as a word.
pub(super) fn sqlstate(error: &tokio_postgres::Error) -> Option<String> {
    error.code().map(|state| format!("S{}", state.code()))
}

/// Whether an error means that the connection is gone: it was closed, or the server is ending it.
pub(super) fn is_lost(error: &tokio_postgres::Error) -> bool {
    let Some(code) = error.code() else {
        return error.is_closed()
            || error
                .source()
                .is_some_and(|source| source.is::<std::io::Error>());
    };
    [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    ]
    .contains(code)
        || code.code().starts_with("08")
}

/// The way to the database.
#[derive(Clone)]
pub(super) struct Sessions {
    pool: Pool,
}

impl Sessions {
    pub(super) fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// A connection for [`begin`].
    pub(super) async fn connection(&self) -> Result<Object, Trouble> {
        Ok(self.pool.get().await?)
    }

    /// Drops the connections that nobody uses: after one was lost, the others are likely gone as well.
    pub(super) fn forget_idle(&self) {
        let _removed = self.pool.retain(|_, _| false);
    }

    /// Runs one reading statement. Repeats it once when the connection turns out to be gone, as pooled
    /// connections do after the server restarted.
    pub(super) async fn read(
        &self,
        scope: Scope<'_>,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, StoreFailed> {
        match self.read_once(scope, sql, parameters).await {
            Err(trouble) if trouble.is_lost_connection() => {
                self.forget_idle();
                Ok(self.read_once(scope, sql, parameters).await?)
            }
            result => Ok(result?),
        }
    }

    async fn read_once(
        &self,
        scope: Scope<'_>,
        sql: &str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, Trouble> {
        let mut client = self.connection().await?;
        let tx = client.build_transaction().read_only(true).start().await?;
        let set = tx.prepare_cached(SCOPE_TO_READ).await?;
        let statement = tx.prepare_cached(sql).await?;
        let (tenant, worker) = scope.settings();
        // Both are sent at once; the server runs them in this order.
        let scoped: Parameters<'_> = &[&tenant, &worker];
        let (_, rows) =
            futures::try_join!(tx.query(&set, scoped), tx.query(&statement, parameters))?;
        // Dropping the transaction ends it; nobody needs to wait for that.
        Ok(rows)
    }
}

/// Begins a transaction that may write.
pub(super) async fn begin<'a>(
    client: &'a mut Object,
    scope: Scope<'_>,
) -> Result<Transaction<'a>, Trouble> {
    let tx = client
        .build_transaction()
        .isolation_level(IsolationLevel::ReadCommitted)
        .read_only(false)
        .start()
        .await?;
    let set = tx.prepare_cached(SCOPE).await?;
    let (tenant, worker) = scope.settings();
    tx.query(&set, &[&tenant, &worker]).await?;
    Ok(tx)
}

/// What a failed COMMIT means.
pub(super) enum CommitFate {
    /// The database says that it rolled back.
    RolledBack,
    /// It did not get to say.
    Unknown,
}

/// Only errors by which PostgreSQL states that the transaction is gone count as rolled back.
pub(super) fn fate(error: &tokio_postgres::Error) -> CommitFate {
    let rolled_back = error.code().is_some_and(|code| {
        let class = code.code().get(..2).unwrap_or_default();
        matches!(class, "23" | "25" | "40") && *code != SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
    });
    if rolled_back {
        CommitFate::RolledBack
    } else {
        CommitFate::Unknown
    }
}
