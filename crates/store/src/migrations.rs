//! The schema's history, embedded: one list per backend, with the same names. Migrations only add
//! (expand); what is no longer used is removed by a later release, when no running version reads it.
//! A published migration is never edited.

/// One step of a schema.
pub(crate) struct Migration {
    /// `NNNN_name`.
    pub(crate) name: &'static str,
    /// The statements.
    pub(crate) sql: &'static str,
}

macro_rules! migrations {
    ($($name:literal),* $(,)?) => {
        /// SQLite's schema, oldest step first.
        pub(crate) const SQLITE: &[Migration] = &[$(Migration {
            name: $name,
            sql: include_str!(concat!("../migrations/sqlite/", $name, ".sql")),
        }),*];
        /// PostgreSQL's schema, oldest step first.
        pub(crate) const POSTGRES: &[Migration] = &[$(Migration {
            name: $name,
            sql: include_str!(concat!("../migrations/postgres/", $name, ".sql")),
        }),*];
    };
}

migrations!["0001_start", "0002_claim_by_tenant", "0003_payload_age"];

/// Newest schema version this program knows; versions count from 1.
pub(crate) fn newest() -> i64 {
    i64::try_from(SQLITE.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The macro embeds both lists by name, so a missing file does not compile; this finds a file
    /// that nobody embedded.
    #[test]
    fn both_backends_have_exactly_the_listed_migrations() {
        for (folder, list) in [("sqlite", SQLITE), ("postgres", POSTGRES)] {
            let path = format!("{}/migrations/{folder}", env!("CARGO_MANIFEST_DIR"));
            let mut files: Vec<String> = std::fs::read_dir(path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            files.sort();
            let listed: Vec<String> = list.iter().map(|m| format!("{}.sql", m.name)).collect();
            assert_eq!(files, listed, "{folder}");
        }
    }

    #[test]
    fn migrations_are_numbered_in_order() {
        for (n, migration) in SQLITE.iter().enumerate() {
            assert!(migration.name.starts_with(&format!("{:04}_", n + 1)));
        }
    }
}
