//! Carrying a shredding out, going on with one that was cut short, and doing again what a restored database undid.

use std::collections::BTreeMap;

use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{PatientToken, StepUpId};
use chaperone_core::ports::{
    Expected, KeyVaultFailed, Listing, PayloadClass, Record, RecordChange, RecordKey,
    ShredTombstone, StoreFailed,
};
use chaperone_core::principal::{Actor, Human, SystemPart};
use chaperone_core::retention::{RetentionEvent, Shredded};
use serde::{Deserialize, Serialize};

use super::super::holds::{REASON_CHARS, may_hold};
use super::{ShredFailed, ShredRefused, keys_of};
use crate::context::{Engine, after};
use crate::people::StepUpFor;
use crate::tokens::TOKENS;

/// Patients whose shredding is under way, or was done a while ago.
const SHREDS: &str = "shred";
/// How long a finished one is remembered, in seconds: nodes look at it to forget what they hold in memory.
const REMEMBERED_S: i64 = 24 * 3_600;
/// How long after it was decided another node goes on with it, in seconds: whoever began it may still be at it.
const GO_ON_S: i64 = 300;
/// Rows of one commit.
const AT_ONCE: usize = 200;

/// How far a shredding has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    Decided,
    Done,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stored {
    patient: PatientToken,
    stage: Stage,
    at: Timestamp,
}

impl Stored {
    fn record(&self) -> Result<Record, StoreFailed> {
        let value = serde_json::to_value(self).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
        Ok(Record::new(SHREDS, self.patient, value))
    }
}

fn stored_in(record: &Record) -> Result<Stored, StoreFailed> {
    serde_json::from_value(record.value.clone()).map_err(|e| StoreFailed::Corrupt(e.to_string()))
}

impl Engine {
    /// Shreds a patient, when nothing stands against it. What it did is in the record.
    ///
    /// # Errors
    /// [`ShredFailed`]. After [`ShredFailed::Commit`] and failures of keys or tombstones it is decided, and gone on
    /// with at the next start or sweep.
    pub async fn shred(
        &self,
        by: &Human,
        patient: PatientToken,
        reason: &str,
        step_up: StepUpId,
    ) -> Result<Shredded, ShredFailed> {
        if !may_hold(by) {
            return Err(ShredFailed::NotPermitted);
        }
        let digest = self.shred_digest(patient, reason);
        let reason = reason.trim();
        if !REASON_CHARS.contains(&reason.chars().count()) {
            return Err(ShredFailed::ReasonUnfit);
        }
        let holds = self.legal_holds().await?;
        let plan = self.shred_plan(patient).await?;
        if let Some(objection) = plan.objection() {
            return Err(objection.into());
        }
        let sealed = self
            .seal(PayloadClass::Operational, None, reason.as_bytes())
            .await?;
        let mut commit = self.commit_as(by.into());
        commit.guards.push(holds.unchanged());
        self.consume_step_up(by, step_up, StepUpFor::Matter, &digest, &mut commit)
            .await?;
        let event = RetentionEvent::ShredStarted {
            patient,
            reason: sealed.address,
            rules: self.retention.digest(),
        };
        commit.append(StreamId::Retention, Expected::Any, Event::Retention(event));
        commit.payloads.push(sealed);
        let decided = Stored {
            patient,
            stage: Stage::Decided,
            at: commit.at,
        };
        commit.records.push(RecordChange::Put(decided.record()?));
        self.store.commit(commit).await?;
        self.carry_out(&decided, by.into(), Reason::Decided).await
    }

    /// Goes on with what was decided, and does again what a restored database brought back. A start does this before
    /// anything is served, and the sweeper now and then; safe to do at any time and on any node.
    ///
    /// # Errors
    /// [`ShredFailed`]; nothing may be served then.
    pub async fn replay_shreds(&self) -> Result<u64, ShredFailed> {
        let tenant = &self.config.tenant;
        let mut replayed: u64 = 0;
        let mut forgets = false;
        let listing = Listing::default();
        let begun = self
            .store
            .records(tenant, SHREDS, listing, self.now())
            .await?;
        for record in begun {
            forgets = true;
            let stored = stored_in(&record)?;
            if stored.stage == Stage::Decided {
                self.carry_out(&stored, replayer(), Reason::Decided).await?;
                replayed = replayed.saturating_add(1);
            }
        }
        if let Some(place) = self.config.tombstones.place() {
            for tombstone in place.of(tenant).await? {
                let own = RecordKey::new(TOKENS, tombstone.patient);
                if self.store.record(tenant, &own, self.now()).await?.is_none() {
                    continue;
                }
                let stored = Stored {
                    patient: tombstone.patient,
                    stage: Stage::Decided,
                    at: tombstone.at,
                };
                self.carry_out(&stored, replayer(), Reason::Restored)
                    .await?;
                replayed = replayed.saturating_add(1);
            }
        }
        if forgets {
            self.forget_lookups();
        }
        Ok(replayed)
    }

    /// Goes on with shreddings that were begun, here or elsewhere, and forgets whom another node shredded: what is
    /// kept in memory to save look-ups.
    ///
    /// # Errors
    /// [`ShredFailed`]; it is tried again.
    pub async fn notice_shreds(&self) -> Result<(), ShredFailed> {
        let tenant = &self.config.tenant;
        let listing = Listing::default();
        let known = self
            .store
            .records(tenant, SHREDS, listing, self.now())
            .await?;
        for record in &known {
            let stored = stored_in(record)?;
            let is_due = after(stored.at, GO_ON_S) <= self.now();
            if stored.stage == Stage::Decided && is_due {
                self.carry_out(&stored, replayer(), Reason::Decided).await?;
            }
            self.forget_patient(stored.patient);
        }
        Ok(())
    }

    async fn carry_out(
        &self,
        decided: &Stored,
        actor: Actor,
        reason: Reason,
    ) -> Result<Shredded, ShredFailed> {
        let patient = decided.patient;
        let tenant = &self.config.tenant;
        let place = self.config.tombstones.place();
        let place = place.ok_or(ShredRefused::NoTombstones)?;
        self.keep_for_accounting(patient).await?;
        place
            .put(&ShredTombstone {
                format: ShredTombstone::FORMAT,
                tenant: tenant.clone(),
                patient,
                at: decided.at,
            })
            .await?;
        let keys = keys_of(patient);
        for key in &keys {
            match self.keys.destroy(tenant, key).await {
                Ok(()) | Err(KeyVaultFailed::Destroyed) => {}
                Err(failed) => return Err(failed.into()),
            }
        }
        self.forget_patient(patient);
        let found = self.find_of(patient).await?;
        let mut shredded = Shredded {
            patient,
            keys,
            payloads: 0,
            records: BTreeMap::new(),
            manifest: Digest::of_parts([]),
        };
        let mut manifest: Vec<Vec<u8>> = Vec::new();
        for payloads in found.payloads.values() {
            for several in payloads.chunks(AT_ONCE) {
                let mut commit = self.commit_as(replayer());
                commit.erased.extend_from_slice(several);
                self.store.commit(commit).await?;
                shredded.payloads = shredded.payloads.saturating_add(several.len() as u64);
                manifest.extend(several.iter().map(|it| it.digest().as_bytes().to_vec()));
            }
        }
        for (collection, keys) in &found.records {
            for several in keys.chunks(AT_ONCE) {
                let mut commit = self.commit_as(replayer());
                let deletes = several.iter().cloned().map(RecordChange::Delete);
                commit.records.extend(deletes);
                self.store.commit(commit).await?;
                manifest.extend(several.iter().map(|it| it.key.as_bytes().to_vec()));
            }
            shredded
                .records
                .insert(collection.clone(), keys.len() as u64);
        }
        let mut commit = self.commit_as(actor);
        for key in found.own {
            let count = shredded.records.entry(key.collection.clone()).or_default();
            *count = count.saturating_add(1);
            manifest.push(key.key.as_bytes().to_vec());
            commit.records.push(RecordChange::Delete(key));
        }
        shredded.manifest = Digest::of_parts(manifest.iter().map(Vec::as_slice));
        let done = Stored {
            stage: Stage::Done,
            ..decided.clone()
        };
        let done = done.record()?.expiring(after(commit.at, REMEMBERED_S));
        commit.records.push(RecordChange::Put(done));
        let receipt = Box::new(shredded.clone());
        let event = match reason {
            Reason::Decided => RetentionEvent::ShredEnded(receipt),
            Reason::Restored => RetentionEvent::ShredReplayed(receipt),
        };
        commit.append(StreamId::Retention, Expected::Any, Event::Retention(event));
        self.store.commit(commit).await?;
        // What was looked up while the rows went.
        self.forget_patient(patient);
        self.announce_change();
        Ok(shredded)
    }

    fn forget_patient(&self, patient: PatientToken) {
        self.forget_lookups();
        self.consents.forget(Some(patient));
    }

    /// Drops what is kept in memory to save look-ups: tokens, and people of free text.
    pub fn forget_lookups(&self) {
        self.tokens.forget();
        self.people.forget();
    }
}

/// Why it is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Decided,
    Restored,
}

fn replayer() -> Actor {
    Actor::System {
        part: SystemPart::Retention,
    }
}
