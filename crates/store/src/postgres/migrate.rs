//! Bringing the schema up to date, one process at a time, all or nothing. Refuses a role that row-level
//! security does not bind.

use deadpool_postgres::Pool;

use crate::migrations;
use crate::open::OpenFailed;

/// Whether the role of this session is above row-level security.
pub(super) const ROLE_BYPASSES: &str =
    "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user";

/// The schema version; only meaningful when `chaperone_migration` exists.
pub(super) const VERSION: &str = "SELECT coalesce(max(version), 0) FROM chaperone_migration";

pub(super) async fn migrate(pool: &Pool, schema: Option<&str>) -> Result<(), OpenFailed> {
    let mut client = pool.get().await.map_err(OpenFailed::unreachable)?;
    let bypasses: bool = client
        .query_one(ROLE_BYPASSES, &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(OpenFailed::unreachable)?;
    if bypasses {
        return Err(OpenFailed::RoleBypassesRowSecurity);
    }
    let tx = client
        .transaction()
        .await
        .map_err(OpenFailed::unreachable)?;
    let schema_first = match schema {
        // The name was checked when the URL was read.
        Some(schema) => format!("CREATE SCHEMA IF NOT EXISTS {schema};"),
        None => String::new(),
    };
    // Others that start at the same moment wait here, however long the migrations take.
    tx.batch_execute(&format!(
        "SET LOCAL lock_timeout = 0;
         SELECT pg_advisory_xact_lock(hashtextextended('chaperone migrations', 0));
         {schema_first}
         CREATE TABLE IF NOT EXISTS chaperone_migration (
             version    BIGINT PRIMARY KEY,
             name       TEXT NOT NULL,
             applied_at TIMESTAMPTZ NOT NULL DEFAULT now()
         );"
    ))
    .await
    .map_err(OpenFailed::unreachable)?;
    let known = migrations::newest();
    let found: i64 = tx
        .query_one(VERSION, &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(OpenFailed::unreachable)?;
    if found > known {
        return Err(OpenFailed::Newer { found, known });
    }
    for (version, migration) in (1_i64..).zip(migrations::POSTGRES) {
        if version <= found {
            continue;
        }
        let failed = |source: tokio_postgres::Error| OpenFailed::Migration {
            name: migration.name,
            source: Box::new(source),
        };
        tx.batch_execute(migration.sql).await.map_err(failed)?;
        tx.execute(
            "INSERT INTO chaperone_migration (version, name) VALUES ($1, $2)",
            &[&version, &migration.name],
        )
        .await
        .map_err(failed)?;
    }
    tx.commit().await.map_err(OpenFailed::unreachable)
}
