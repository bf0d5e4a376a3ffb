//! Looks at a PostgreSQL database for `doctor`, in transactions that are rolled back.

use chaperone_core::Timestamp;
use deadpool_postgres::Object;
use tokio_postgres::error::SqlState;

use super::connect::Target;
use super::migrate::{ROLE_BYPASSES, VERSION};
use crate::diagnose::{Aspect, Finding};
use crate::rows::micros;

/// Clocks further apart than this are worth a warning: leases and expiry compare the nodes' clocks.
const CLOCK_DIFFERENCE_MS_MAX: i64 = 2_000;

/// Tables that hold tenants' rows.
const TENANT_TABLES: &[&str] = &[
    "head",
    "event",
    "record",
    "projection",
    "payload",
    "work",
    "lease",
    "tree_hash",
    "checkpoint",
];

/// Everything that can be found out.
pub(crate) async fn examine(
    url: &str,
    clock: &(dyn Fn() -> Timestamp + Send + Sync),
) -> Vec<Finding> {
    let client = match connect(url).await {
        Ok(client) => client,
        Err(why) => return vec![Finding::bad(Aspect::Reachable, why)],
    };
    let mut findings = Vec::new();
    let looked = look(&client, clock, &mut findings).await;
    if let Err(error) = looked {
        findings.push(Finding::bad(
            Aspect::Reachable,
            format!("the database stopped answering: {}", chain(&error)),
        ));
    }
    findings
}

async fn connect(url: &str) -> Result<Object, String> {
    let target = Target::parse(url, "chaperone doctor").map_err(|failed| failed.to_string())?;
    let pool = target.pool(2).map_err(|failed| failed.to_string())?;
    pool.get().await.map_err(|error| chain(&error))
}

/// An error with its causes; a driver's message alone says too little to act on.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    // The bound is far above what drivers nest.
    for _ in 0..8 {
        let Some(cause) = source else { break };
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

async fn look(
    client: &Object,
    clock: &(dyn Fn() -> Timestamp + Send + Sync),
    findings: &mut Vec<Finding>,
) -> Result<(), tokio_postgres::Error> {
    let version: String = one(client, "SELECT current_setting('server_version')").await?;
    findings.push(Finding::good(
        Aspect::Reachable,
        format!("the database answers (PostgreSQL {version})"),
    ));

    let migrated: bool = one(
        client,
        "SELECT to_regclass('chaperone_migration') IS NOT NULL",
    )
    .await?;
    let schema: i64 = if migrated {
        one(client, VERSION).await?
    } else {
        0
    };
    findings.push(Finding::schema(schema));

    findings.push(writable(client).await?);

    let durable: bool = one(
        client,
        "SELECT bool_and(current_setting(name) = 'on') FROM (VALUES ('fsync'), ('full_page_writes')) AS v (name)",
    )
    .await?;
    findings.push(if durable {
        Finding::good(Aspect::Durable, "commits wait for the disk")
    } else {
        Finding::bad(
            Aspect::Durable,
            "`fsync` or `full_page_writes` is off: a power loss would lose or damage what was answered as committed; turn both on",
        )
    });

    let before = micros(clock());
    let theirs: i64 = one(
        client,
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
    )
    .await?;
    let after = micros(clock());
    findings.push(clock_finding(before, theirs, after));

    if schema > 0 {
        findings.push(row_security(client).await?);
    }
    let bypasses: bool = one(client, ROLE_BYPASSES).await?;
    findings.push(if bypasses {
        Finding::bad(
            Aspect::Role,
            "the role is a superuser or has BYPASSRLS; connect as an ordinary role that owns the database",
        )
    } else {
        Finding::good(Aspect::Role, "the role is bound by row-level security")
    });
    Ok(())
}

async fn one<T>(client: &Object, sql: &str) -> Result<T, tokio_postgres::Error>
where
    T: for<'a> tokio_postgres::types::FromSql<'a>,
{
    client.query_one(sql, &[]).await?.try_get(0)
}

/// Writes a temporary table and takes it back.
async fn writable(client: &Object) -> Result<Finding, tokio_postgres::Error> {
    let tried = client
        .batch_execute(
            "BEGIN READ WRITE; CREATE TEMPORARY TABLE chaperone_probe (n bigint) ON COMMIT DROP; INSERT INTO chaperone_probe VALUES (1); ROLLBACK;",
        )
        .await;
    match tried {
        Ok(()) => Ok(Finding::good(Aspect::Writable, "writes are accepted")),
        Err(error) if error.as_db_error().is_some() => {
            client.batch_execute("ROLLBACK").await?;
            let read_only = error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION);
            Ok(Finding::bad(
                Aspect::Writable,
                if read_only {
                    "the database is read-only (a standby?); connect to the primary".to_owned()
                } else {
                    format!("writes are refused: {}", chain(&error))
                },
            ))
        }
        Err(error) => Err(error),
    }
}

/// Their time lies between the two readings of our clock when the clocks agree.
fn clock_finding(before: i64, theirs: i64, after: i64) -> Finding {
    let off_us = if theirs < before {
        before - theirs
    } else if theirs > after {
        theirs - after
    } else {
        0
    };
    let off_ms = off_us / 1_000;
    if off_ms > CLOCK_DIFFERENCE_MS_MAX {
        Finding::warning(
            Aspect::Clock,
            format!(
                "the database's clock differs from this node's by {off_ms} ms; keep all nodes on one time source"
            ),
        )
    } else {
        Finding::good(
            Aspect::Clock,
            format!("clocks agree within {} ms", off_ms + 1),
        )
    }
}

async fn row_security(client: &Object) -> Result<Finding, tokio_postgres::Error> {
    let forced: i64 = client
        .query_one(
            "SELECT count(*) FROM pg_class
             WHERE relnamespace = current_schema()::regnamespace AND relname = ANY ($1)
               AND relrowsecurity AND relforcerowsecurity",
            &[&TENANT_TABLES],
        )
        .await?
        .try_get(0)?;
    let wanted = TENANT_TABLES.len();
    Ok(if usize::try_from(forced) == Ok(wanted) {
        Finding::good(
            Aspect::RowSecurity,
            format!("row-level security is forced on all {wanted} tables"),
        )
    } else {
        Finding::bad(
            Aspect::RowSecurity,
            format!(
                "row-level security is forced on {forced} of {wanted} tables; somebody changed the schema: restore it from a backup"
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::Verdict;

    #[test]
    fn clocks_are_compared_beyond_the_time_of_asking() {
        // Asking took three seconds; theirs lies inside.
        assert_eq!(
            clock_finding(0, 2_900_000, 3_000_000).verdict,
            Verdict::Good
        );
        assert_eq!(
            clock_finding(0, 4_900_000, 3_000_000).verdict,
            Verdict::Good
        );
        assert_eq!(
            clock_finding(0, 5_100_000, 3_000_000).verdict,
            Verdict::Warning
        );
        assert_eq!(
            clock_finding(9_000_000, 0, 9_000_000).verdict,
            Verdict::Warning
        );
    }
}
