//! That an accounting of disclosures can still be asked for somebody who was shredded.
//!
//! What is kept: a keyed digest of the patient's id at the EHR, with the token that the accesses stand under. The key
//! is one of its own, which shredding leaves; the row ends after the six years that an accounting reaches back. It
//! leads from an id, which whoever asks must have, to the token, and not the other way.
//!
//! # Source
//! 45 CFR 164.528(a)(1), (a)(3).

use chaperone_core::ids::PatientToken;
use chaperone_core::ports::{KeyVaultFailed, Record, RecordChange, RecordKey, StoreFailed};
use chaperone_core::principal::{Actor, SystemPart};
use serde::{Deserialize, Serialize};

use super::shred::ShredFailed;
use crate::context::Engine;
use crate::tokens::TokenFailed;

const REMEMBERED: &str = "accounting_patient";
/// The key of the digests.
const KEY: &str = "accounting/patients";
/// Most tokens of one person: so often they were shredded and came back.
const TOKENS_MAX: usize = 100;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Remembered {
    tokens: Vec<PatientToken>,
}

impl Engine {
    /// Keeps what leads to a patient's accesses, before the mapping of tokens goes.
    pub(super) async fn keep_for_accounting(
        &self,
        patient: PatientToken,
    ) -> Result<(), ShredFailed> {
        let id = match self.patient_id(patient).await {
            Ok(id) => id,
            // It went before: it was kept then. A key vault that does not answer is another matter.
            Err(
                TokenFailed::Unknown
                | TokenFailed::Unreadable(_)
                | TokenFailed::Keys(KeyVaultFailed::Destroyed),
            ) => return Ok(()),
            Err(failed) => return Err(failed.into()),
        };
        let index = self.patient_index(KEY, &id).await?;
        let key = RecordKey::new(REMEMBERED, index);
        let known = self
            .store
            .record(&self.config.tenant, &key, self.now())
            .await?;
        let mut remembered = match &known {
            Some(record) => remembered_in(record)?,
            None => Remembered::default(),
        };
        if remembered.tokens.contains(&patient) || remembered.tokens.len() >= TOKENS_MAX {
            return Ok(());
        }
        remembered.tokens.push(patient);
        let value =
            serde_json::to_value(&remembered).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
        let mut commit = self.commit_as(Actor::System {
            part: SystemPart::Retention,
        });
        let rule = self.retention.of_artefact("record/accounting_patient");
        let until = rule.map(|rule| rule.keep.after(commit.at));
        let mut record = Record::new(REMEMBERED, &key.key, value);
        record.expires = until;
        commit.records.push(match known {
            Some(known) => RecordChange::Update(record, known.revision),
            None => RecordChange::Create(record),
        });
        self.store.commit(commit).await?;
        Ok(())
    }

    /// The tokens under which somebody was known here who was shredded since, the newest last.
    pub(crate) async fn shredded_tokens(&self, id: &str) -> Result<Vec<PatientToken>, TokenFailed> {
        let index = self.patient_index(KEY, id).await?;
        let key = RecordKey::new(REMEMBERED, index);
        let record = self
            .store
            .record(&self.config.tenant, &key, self.now())
            .await?;
        Ok(match &record {
            Some(record) => remembered_in(record)?.tokens,
            None => Vec::new(),
        })
    }
}

fn remembered_in(record: &Record) -> Result<Remembered, StoreFailed> {
    serde_json::from_value(record.value.clone()).map_err(|e| StoreFailed::Corrupt(e.to_string()))
}
