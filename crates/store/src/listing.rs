//! The text of listings of records and projections: the one query with optional parts. Only fixed
//! fragments are put together; every value is a parameter. Both databases take the same text but for
//! the marker of a parameter.

use chaperone_core::Timestamp;
use chaperone_core::ports::Listing;

use crate::LISTED_MAX;
use crate::rows::micros;

/// What is listed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Table {
    /// Live records at a time.
    Record(Timestamp),
    /// Projection rows.
    Projection,
}

/// A parameter.
#[derive(Debug)]
pub(crate) enum Value {
    /// Text.
    Text(String),
    /// A number.
    Int(i64),
}

/// A query with its parameters. Columns: collection, key, idx, sort, value, expires, revision.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) sql: String,
    pub(crate) values: Vec<Value>,
}

/// Columns of one row, and where they are found.
pub(crate) fn columns(table: Table) -> &'static str {
    match table {
        Table::Record(_) => {
            "SELECT collection, key, idx, sort, value, expires, revision FROM record"
        }
        Table::Projection => {
            "SELECT collection, key, idx, sort, value, CAST(NULL AS bigint), CAST(0 AS bigint) FROM projection"
        }
    }
}

/// The query of a listing; `marker` is `?` for SQLite and `$` for PostgreSQL.
pub(crate) fn query(
    table: Table,
    marker: char,
    tenant: &str,
    collection: &str,
    listing: Listing,
) -> Query {
    let mut values = Vec::with_capacity(7);
    let mut bind = |value: Value| {
        values.push(value);
        format!("{marker}{}", values.len())
    };
    let mut sql = format!(
        "{} WHERE tenant = {} AND collection = {}",
        columns(table),
        bind(Value::Text(tenant.to_owned())),
        bind(Value::Text(collection.to_owned())),
    );
    if let Some(index) = listing.index {
        sql += &format!(" AND idx = {}", bind(Value::Text(index)));
    }
    if let Some((sort, key)) = listing.after {
        let past = if listing.descending { '<' } else { '>' };
        let (sort, key) = (bind(Value::Text(sort)), bind(Value::Text(key)));
        sql += &format!(" AND (sort, key) {past} ({sort}, {key})");
    }
    if let Table::Record(now) = table {
        let now = bind(Value::Int(micros(now)));
        sql += &format!(" AND (expires IS NULL OR expires > {now})");
    }
    let order = if listing.descending { " DESC" } else { "" };
    let limit = bind(Value::Int(i64::from(listing.limit.min(LISTED_MAX))));
    sql += &format!(" ORDER BY sort{order}, key{order} LIMIT {limit}");
    Query { sql, values }
}
