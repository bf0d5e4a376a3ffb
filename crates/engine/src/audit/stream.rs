//! New AuditEvents on their way to a sink, in the order of the ledger, each at least once.
//!
//! ```text
//! place (record) ─▶ leaves ─▶ AuditEvents ─▶ sink says it has them ─▶ place moves on
//! ```
//! A crash between the last two sends them again, under the same ids. One node streams at a time, by a lease.
//! A read is told with what it showed, so the stream waits for its end, for [`READ_ENDS_WITHIN_S`] at most; after
//! that it is told with the most that it may have shown.

use chaperone_core::ports::{
    AuditLine, AuditSink, AuditSinkFailed, CommitFailed, LeaseRefused, Record, RecordChange,
    RecordKey, StoreFailed,
};
use chaperone_core::principal::{Actor, SystemPart};
use serde_json::json;

use super::AuditFailed;
use crate::context::Engine;

/// How long a read may go without a record of its end, in seconds: longer than any EHR is waited for.
pub const READ_ENDS_WITHIN_S: i64 = 120;
/// Entries taken at once.
const ENTRIES_AT_ONCE: u32 = 200;
/// Entries indexed before streaming goes on.
const INDEX_AT_ONCE: u64 = 5_000;
/// How far each stream has come.
const PLACES: &str = "audit_stream";
/// Which node streams.
const LEASE: &str = "audit-stream";
/// How long a node streams without renewing, in milliseconds.
const LEASE_MS: i64 = 30_000;

/// Why nothing was streamed.
#[derive(Debug, thiserror::Error)]
pub enum StreamFailed {
    /// The AuditEvents could not be made.
    #[error(transparent)]
    Audit(#[from] AuditFailed),
    /// The sink did not take them; they are sent again.
    #[error(transparent)]
    Sink(#[from] AuditSinkFailed),
    /// The place could not be stored; what was taken is sent again.
    #[error("how far the stream has come could not be stored")]
    Place(#[from] CommitFailed),
}

impl From<StoreFailed> for StreamFailed {
    fn from(failed: StoreFailed) -> Self {
        StreamFailed::Audit(failed.into())
    }
}

/// What one step of a stream did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Streamed {
    /// Entries that are done with.
    pub entries: u64,
    /// AuditEvents handed over.
    pub events: u64,
}

impl Engine {
    /// Hands the next AuditEvents to a sink; `name` tells streams apart, each with a place of its own. Does
    /// nothing while another node streams.
    ///
    /// # Errors
    /// [`StreamFailed`]; the same entries come again next time.
    pub async fn stream_audit_events(
        &self,
        name: &str,
        sink: &dyn AuditSink,
    ) -> Result<Streamed, StreamFailed> {
        let tenant = &self.config.tenant;
        let now = self.now();
        let lease = format!("{LEASE}/{name}");
        match self
            .store
            .lease(tenant, &lease, &self.config.node, now, LEASE_MS)
            .await
        {
            Ok(_) => {}
            Err(LeaseRefused::Held { .. }) => return Ok(Streamed::default()),
            Err(LeaseRefused::Store(failed)) => return Err(failed.into()),
        }
        let key = RecordKey::new(PLACES, name);
        let place = self.store.record(tenant, &key, now).await?;
        let from = place
            .as_ref()
            .and_then(|place| place.value.as_u64())
            .unwrap_or(0);
        let indexed = self.index_accesses(INDEX_AT_ONCE).await?;
        let wanted = indexed.entries.saturating_sub(from);
        let wanted = u32::try_from(wanted)
            .unwrap_or(u32::MAX)
            .min(ENTRIES_AT_ONCE);
        if wanted == 0 {
            return Ok(Streamed::default());
        }
        let mut streamed = Streamed::default();
        let mut lines = Vec::new();
        for leaf in self.store.leaves(tenant, from, wanted).await? {
            let entry = self.entry_of(leaf).await?;
            let age_s = now.duration_since(entry.recorded.at).as_secs();
            if entry.is_open_read() && age_s < READ_ENDS_WITHIN_S {
                break;
            }
            if let Some(event) = self.told(&entry).await? {
                let id = event
                    .get("id")
                    .and_then(|id| id.as_str())
                    .unwrap_or_default();
                lines.push(AuditLine {
                    id: id.to_owned(),
                    json: event.to_string(),
                });
            }
            streamed.entries += 1;
        }
        streamed.events = lines.len() as u64;
        if streamed.entries == 0 {
            return Ok(streamed);
        }
        if !lines.is_empty() {
            sink.take(tenant, &lines).await?;
        }
        let reached = Record::new(PLACES, name, json!(from.saturating_add(streamed.entries)));
        let mut commit = self.commit_as(Actor::System {
            part: SystemPart::Setup,
        });
        commit.records.push(match &place {
            Some(place) => RecordChange::Update(reached, place.revision),
            None => RecordChange::Create(reached),
        });
        self.store.commit(commit).await?;
        Ok(streamed)
    }
}
