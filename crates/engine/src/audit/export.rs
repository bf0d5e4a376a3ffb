//! AuditEvents of a span of time, written out: NDJSON or one Bundle.

use std::io::Write;

use chaperone_core::event::AuditUse;
use chaperone_core::ids::PatientToken;
use serde_json::{Value, json};

use super::{Asker, AuditFailed, Span};
use crate::context::Engine;

/// Leaves read at once.
const LEAVES_AT_ONCE: u32 = 1_000;

/// How AuditEvents are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditFormat {
    /// One AuditEvent a line.
    Ndjson,
    /// One FHIR Bundle of type `collection`.
    Bundle,
}

/// Which AuditEvents.
#[derive(Debug, Clone, Copy)]
pub struct AuditExport {
    /// Of which time.
    pub span: Span,
    /// About whom; everybody when absent.
    pub patient: Option<PatientToken>,
    /// How they are written.
    pub format: AuditFormat,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuditWritten {
    /// Entries of the ledger that were looked at.
    pub entries: u64,
    /// AuditEvents written.
    pub events: u64,
}

impl Engine {
    /// Writes AuditEvents. The export is recorded first, and tells itself: it is the last entry written.
    ///
    /// # Errors
    /// [`AuditFailed`]; what was written then is not whole.
    pub async fn export_audit_events<W: Write>(
        &self,
        asker: Asker<'_>,
        export: AuditExport,
        out: &mut W,
    ) -> Result<AuditWritten, AuditFailed> {
        self.record_question(asker, AuditUse::Export, export.patient, export.span)
            .await?;
        let size = self.index_accesses(u64::MAX).await?.size;
        let mut written = AuditWritten::default();
        let mut next = 0;
        if export.format == AuditFormat::Bundle {
            write(
                out,
                "{\"resourceType\":\"Bundle\",\"type\":\"collection\",\"entry\":[",
            )?;
        }
        while next < size {
            let wanted = u32::try_from(size.saturating_sub(next)).unwrap_or(u32::MAX);
            let leaves = self
                .store
                .leaves(&self.config.tenant, next, wanted.min(LEAVES_AT_ONCE))
                .await?;
            if leaves.is_empty() {
                break;
            }
            next = next.saturating_add(leaves.len() as u64);
            for leaf in leaves {
                written.entries += 1;
                if let Some(event) = self.wanted_event(leaf, &export).await? {
                    write_event(out, export.format, &event, written.events == 0)?;
                    written.events += 1;
                }
            }
        }
        if export.format == AuditFormat::Bundle {
            write(out, "]}\n")?;
        }
        out.flush().map_err(AuditFailed::Write)?;
        Ok(written)
    }

    async fn wanted_event(
        &self,
        leaf: Vec<u8>,
        export: &AuditExport,
    ) -> Result<Option<Value>, AuditFailed> {
        let entry = self.entry_of(leaf).await?;
        let is_wanted = export.span.holds(entry.recorded.at)
            && (export.patient.is_none() || entry.patient() == export.patient);
        if is_wanted {
            self.told(&entry).await
        } else {
            Ok(None)
        }
    }
}

fn write<W: Write>(out: &mut W, text: &str) -> Result<(), AuditFailed> {
    out.write_all(text.as_bytes()).map_err(AuditFailed::Write)
}

fn write_event<W: Write>(
    out: &mut W,
    format: AuditFormat,
    event: &Value,
    is_first: bool,
) -> Result<(), AuditFailed> {
    match format {
        AuditFormat::Ndjson => write(out, &format!("{event}\n")),
        AuditFormat::Bundle => {
            let id = event.get("id").and_then(Value::as_str).unwrap_or_default();
            let entry = json!({ "fullUrl": format!("urn:uuid:{id}"), "resource": event });
            let comma = if is_first { "" } else { "," };
            write(out, &format!("{comma}{entry}"))
        }
    }
}
