//! One entry with what it takes to tell it: its envelope, the access it belongs to, and what tokens stand for.
//! What is resolved here goes into an AuditEvent and nowhere else.

use chaperone_core::bundle::ToolAction;
use chaperone_core::event::{Event, Recorded};
use chaperone_core::ids::PatientToken;
use chaperone_core::ports::Environment;
use chaperone_core::writeback::WritebackEvent;
use chaperone_ledger::audit::access::{Access, AccessKind, Book, ReadEnd, Wanted, Work, wanted};
use chaperone_ledger::audit::event::{About, AuditPatient, AuditSystem, audit_event, patient_of};
use chaperone_ledger::tree;
use serde_json::Value;

use super::AuditFailed;
use crate::context::Engine;
use crate::tokens::TokenFailed;
use crate::vault::VaultFailed;

/// An entry and the rows about it.
pub(super) struct Entry {
    pub(super) recorded: Recorded,
    leaf: Vec<u8>,
    work: Option<Work>,
    access: Option<Access>,
}

impl Entry {
    /// The patient it concerns.
    pub(super) fn patient(&self) -> Option<PatientToken> {
        patient_of(&self.recorded, self.work.as_ref(), self.access.as_ref())
    }

    /// Whether it is a read of which no end is recorded.
    pub(super) fn is_open_read(&self) -> bool {
        matches!(self.recorded.event, Event::ReadPermitted(_))
            && self.access.as_ref().is_some_and(|access| {
                matches!(&access.kind, AccessKind::Read(read) if read.end == ReadEnd::None)
                    // What a person saw at the console is the ceiling itself; no end is recorded.
                    && access.agent().is_some()
            })
    }
}

impl Engine {
    /// Reads a stored leaf and the rows about it.
    pub(super) async fn entry_of(&self, leaf: Vec<u8>) -> Result<Entry, AuditFailed> {
        let recorded = Recorded::from_leaf(&leaf)?;
        let mut book = Book::default();
        self.bring(&mut book, &recorded).await?;
        let mut entry = Entry {
            work: book.work_of(&recorded).cloned(),
            access: None,
            leaf,
            recorded,
        };
        for row in wanted(&entry.recorded) {
            if let Wanted::Access(key) = row {
                entry.access = book.accesses.remove(&key).or(entry.access);
            }
        }
        Ok(entry)
    }

    /// The AuditEvent of an entry; `None` when another entry tells it.
    pub(super) async fn told(&self, entry: &Entry) -> Result<Option<Value>, AuditFailed> {
        let recorded = &entry.recorded;
        let patient = match entry.patient() {
            Some(token) => Some(self.audit_patient(token).await?),
            None => None,
        };
        let work = entry
            .work
            .as_ref()
            .or_else(|| entry.access.as_ref()?.work.as_ref());
        let is_of_bundle = work
            .and_then(|work| work.bundle)
            .is_none_or(|bundle| bundle == *self.bundle.digest());
        let version = work
            .filter(|_| is_of_bundle)
            .and_then(|work| self.bundle.agent(&work.agent))
            .map(|agent| agent.version.clone());
        let query = self.query_of(recorded, patient.as_ref(), is_of_bundle);
        let about = About {
            work: entry.work.as_ref(),
            access: entry.access.as_ref(),
            agent_version: version,
            query,
            locations: self.locations_of(recorded).await?,
            patient,
        };
        let leaf = tree::leaf_hash(&entry.leaf);
        Ok(audit_event(
            recorded,
            leaf,
            self.tables.audit_codes(),
            &self.audit_system(),
            &about,
        ))
    }

    fn audit_system(&self) -> AuditSystem {
        AuditSystem {
            tenant: self.config.tenant.clone(),
            site: self.config.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            connection: self.ehr.connection().clone(),
            endpoint: self.ehr.endpoint().to_owned(),
            is_test: self.ehr.environment() != Environment::Production,
        }
    }

    async fn audit_patient(&self, token: PatientToken) -> Result<AuditPatient, AuditFailed> {
        let reference = match self.patient_id(token).await {
            Ok(id) => Some(format!("Patient/{id}")),
            // Erased: the token is all that is left.
            Err(TokenFailed::Unknown | TokenFailed::Unreadable(_)) => None,
            Err(failed) => return Err(failed.into()),
        };
        Ok(AuditPatient { token, reference })
    }

    /// The search that a tool declares, with the patient filled in. Only under the bundle in force is it known.
    fn query_of(
        &self,
        recorded: &Recorded,
        patient: Option<&AuditPatient>,
        is_of_bundle: bool,
    ) -> Option<String> {
        let Event::ReadPermitted(ceiling) = &recorded.event else {
            return None;
        };
        let tool = self.bundle.tool(&ceiling.tool).filter(|_| is_of_bundle)?;
        let Some(ToolAction::Read(read)) = tool.action() else {
            return None;
        };
        let reference = patient.and_then(|patient| patient.reference.as_deref());
        Some(match reference {
            Some(reference) => read.query.replace("{patient}", reference),
            None => read.query.clone(),
        })
    }

    /// Where everything is that a delivery made or changed, as the EHR names it; nothing where any of it was erased.
    async fn locations_of(&self, recorded: &Recorded) -> Result<Vec<String>, AuditFailed> {
        let Event::Writeback(
            WritebackEvent::Delivered(receipt) | WritebackEvent::DraftPlaced(receipt),
        ) = &recorded.event
        else {
            return Ok(Vec::new());
        };
        let also = receipt.also.iter().map(|entry| &entry.location);
        let mut locations = Vec::new();
        for address in std::iter::once(&receipt.location).chain(also) {
            match self.unseal_text(address).await {
                Ok(location) if is_reference(&location) => locations.push(location),
                Err(VaultFailed::Store(failed)) => return Err(failed.into()),
                // Erased, or its key is gone.
                Ok(_) | Err(_) => return Ok(Vec::new()),
            }
        }
        Ok(locations)
    }
}

/// Whether a text is `[type]/[id]`, with or without a version. What people attest is not.
fn is_reference(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    let is_type = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_uppercase())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let is_id = |part: &str| {
        (1..=64).contains(&part.len())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
    };
    match parts.as_slice() {
        [kind, id] => is_type(kind) && is_id(id),
        [kind, id, "_history", version] => is_type(kind) && is_id(id) && is_id(version),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_reference;

    #[test]
    fn places_at_an_ehr_and_what_is_none() {
        for place in ["Task/1", "Task/1/_history/2"] {
            assert!(is_reference(place), "{place}");
        }
        for other in [
            "",
            "Task",
            "task/1",
            "Task/1/2",
            "entered by hand",
            "Task/a b",
            "https://ehr.test/Task/1",
        ] {
            assert!(!is_reference(other), "{other}");
        }
    }
}
