//! Breaking the glass: a person who treats a patient looks at the record in an emergency, against what consent says,
//! with a reason, for a short time, and somebody looks into it afterwards.
//!
//! ```text
//! start (reason) ─▶ recorded, privacy officer told ─▶ looks, each recorded with purpose BTG ─▶ stopped, or its time is up
//! ```
//! It reaches the person who did it and nobody else: no agent has it, whoever it works for, and it opens neither
//! psychotherapy notes nor what is sealed by a court (the table of the bundle says which law lets it pass), nor anything
//! of another organisation. Start at [`Engine::break_glass`]; what is then shown is [`Engine::emergency_record`].

use chaperone_core::Timestamp;
use chaperone_core::digest::PayloadAddress;
use chaperone_core::event::{BreakGlassEnd, Event, ReadCeiling, StreamId};
use chaperone_core::ids::{AccountName, PatientToken, ToolName};
use chaperone_core::ports::{
    CommitFailed, EhrRead, EhrReadFailed, EhrSearch, Expected, KeyVaultFailed, Listing, Notice,
    PayloadClass, Record, RecordChange, RecordKey, StoreFailed,
};
use chaperone_core::principal::{Actor, Human, Role, SystemPart};
use chaperone_core::resource::{Code, ResourceType};
use chaperone_phi::consent::{
    Action, Asker, Consents, Decision, Question, Subject, decide, leave_out,
};
use serde::{Deserialize, Serialize};

use crate::afterwork::Piece;
use crate::context::{Engine, after};

use crate::projection::sortable;
use crate::views::ViewFailed;

/// Broken glass, by patient and account.
const BROKEN: &str = "break_glass";
/// How long it holds, in seconds.
///
/// # Source
/// An emergency access procedure is for the emergency (45 CFR 164.312(a)(2)(ii)): long enough to act, too short to
/// work under.
pub const BREAK_GLASS_S: i64 = 30 * 60;
/// How long after its end the record of it waits for the end to be recorded, in seconds.
const KEPT_S: i64 = 7 * 24 * 3_600;
/// Fewest characters of a reason: a word is none.
const REASON_CHARS_MIN: usize = 10;
/// Longest reason, in characters.
pub const REASON_CHARS_MAX: usize = 1_000;
/// Who may: those who treat patients in an emergency.
const MAY_BREAK: [Role; 3] = [Role::Clinician, Role::Rn, Role::Pharmacist];
/// Who is told.
const TOLD: [Role; 1] = [Role::Privacy];
/// The purpose of use.
const PURPOSE: &str = "BTG";
/// What an emergency asks for, and how it is called on the page.
const SHOWN: [(&str, &str); 5] = [
    ("AllergyIntolerance", "Allergies"),
    ("MedicationRequest", "Medication"),
    ("Condition", "Problems"),
    ("Encounter", "Visits"),
    ("Observation", "Results"),
];
/// Most resources of a type.
const RESOURCES_MAX: u32 = 50;
/// Most ends recorded at once.
const ENDED_MAX: u32 = 100;

/// A glass that is broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenGlass {
    /// The patient.
    pub patient: PatientToken,
    /// Who did it.
    pub account: AccountName,
    /// Until when it holds.
    pub until: Timestamp,
    /// The reason, in the vault.
    pub reason: PayloadAddress,
}

/// What an emergency look shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmergencyRecord {
    /// Until when it may be looked at.
    pub until: Timestamp,
    /// Each list with its name, in words; `None` where it could not be read, which is not the same as empty.
    pub lists: Vec<(&'static str, Option<Vec<String>>)>,
    /// How many resources stay closed even so.
    pub left_out: usize,
    /// What must be said to whoever sees it.
    pub notices: Vec<String>,
}

/// Why the glass was not broken.
#[derive(Debug, thiserror::Error)]
pub enum BreakGlassFailed {
    /// The roles do not allow it.
    #[error("breaking the glass is for clinicians, nurses and pharmacists who treat the patient")]
    NotPermitted,
    /// Too short or too long.
    #[error("say what the emergency is, in 10 to 1,000 characters; it goes into the record")]
    ReasonUnfit,
    /// No such patient.
    #[error("there is nothing here")]
    Missing,
    /// The reason cannot be sealed.
    #[error(transparent)]
    Keys(#[from] KeyVaultFailed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// It could not be recorded, so it did not happen.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
}

/// Whether a person may break the glass at all.
pub fn may_break_glass(by: &Human) -> bool {
    MAY_BREAK.into_iter().any(|role| by.holds(role))
}

impl Engine {
    /// Breaks the glass for a patient. Doing it again prolongs it, with a reason of its own.
    ///
    /// # Errors
    /// [`BreakGlassFailed`]; nothing is opened then.
    pub async fn break_glass(
        &self,
        by: &Human,
        patient: PatientToken,
        reason: &str,
    ) -> Result<BrokenGlass, BreakGlassFailed> {
        if !may_break_glass(by) {
            return Err(BreakGlassFailed::NotPermitted);
        }
        let reason = reason.trim();
        if !(REASON_CHARS_MIN..=REASON_CHARS_MAX).contains(&reason.chars().count()) {
            return Err(BreakGlassFailed::ReasonUnfit);
        }
        self.patient_id(patient)
            .await
            .map_err(|_| BreakGlassFailed::Missing)?;
        let now = self.now();
        let sealed = self
            .seal(PayloadClass::Operational, Some(patient), reason.as_bytes())
            .await?;
        let broken = BrokenGlass {
            patient,
            account: by.account.clone(),
            until: after(now, BREAK_GLASS_S),
            reason: sealed.address,
        };
        let mut commit = self.commit_as(by.into());
        commit.payloads.push(sealed);
        commit.records.push(RecordChange::Put(record_of(&broken)?));
        commit.append(
            StreamId::Account(by.account.clone()),
            Expected::Any,
            Event::BreakGlassStarted {
                patient,
                until: broken.until,
                reason: broken.reason,
            },
        );
        self.store.commit(commit).await?;
        metrics::counter!("chaperone_break_glass_total").increment(1);
        let roles = TOLD.to_vec();
        self.after(Piece::Notify(
            self.config.tenant.clone(),
            Notice::GlassBroken { roles },
        ));
        self.announce_change();
        Ok(broken)
    }

    /// The glass that a person has broken for a patient, while it holds.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn broken_glass(
        &self,
        by: &Human,
        patient: PatientToken,
    ) -> Result<Option<BrokenGlass>, StoreFailed> {
        let now = self.now();
        let key = key_of(patient, &by.account);
        let Some(record) = self.store.record(&self.config.tenant, &key, now).await? else {
            return Ok(None);
        };
        let broken = broken_of(&record)?;
        // Roles are looked at again: they may have been taken away since.
        Ok(Some(broken).filter(|it| now < it.until && may_break_glass(by)))
    }

    /// Says that the emergency is over. True when there was one.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn mend_glass(
        &self,
        by: &Human,
        patient: PatientToken,
    ) -> Result<bool, CommitFailed> {
        let mut commit = self.commit_as(by.into());
        commit
            .records
            .push(RecordChange::Consume(key_of(patient, &by.account)));
        commit.append(
            StreamId::Account(by.account.clone()),
            Expected::Any,
            Event::BreakGlassEnded {
                patient,
                cause: BreakGlassEnd::Stopped,
            },
        );
        match self.store.commit(commit).await {
            Ok(_) => {
                self.announce_change();
                Ok(true)
            }
            Err(CommitFailed::Record { .. }) => Ok(false),
            Err(failed) => Err(failed),
        }
    }

    /// Records the ends of those whose time is up. Whether one still holds does not wait for this.
    ///
    /// # Errors
    /// When the store fails; they are looked at again.
    pub async fn end_broken_glass(&self) -> Result<usize, StoreFailed> {
        let now = self.now();
        let listing = Listing {
            index: Some("until".to_owned()),
            limit: ENDED_MAX,
            ..Listing::default()
        };
        let records = self
            .store
            .records(&self.config.tenant, BROKEN, listing, now)
            .await?;
        let mut ended = 0;
        for record in &records {
            let broken = broken_of(record)?;
            if now < broken.until {
                continue;
            }
            let mut commit = self.commit_as(Actor::System {
                part: SystemPart::Expiry,
            });
            commit
                .records
                .push(RecordChange::Consume(record.key.clone()));
            commit.append(
                StreamId::Account(broken.account),
                Expected::Any,
                Event::BreakGlassEnded {
                    patient: broken.patient,
                    cause: BreakGlassEnd::Expired,
                },
            );
            match self.store.commit(commit).await {
                Ok(_) => ended += 1,
                // Another node was first, or the person themselves.
                Err(CommitFailed::Record { .. }) => {}
                Err(failed) => return Err(StoreFailed::Unavailable(Box::new(failed))),
            }
        }
        Ok(ended)
    }

    /// The record of a patient for whom this person has broken the glass. Each look is recorded before anything is
    /// shown.
    ///
    /// # Errors
    /// [`ViewFailed::NotPermitted`] without a broken glass that holds; EHR and store failures.
    pub async fn emergency_record(
        &self,
        by: &Human,
        patient: PatientToken,
    ) -> Result<EmergencyRecord, ViewFailed> {
        let broken = self
            .broken_glass(by, patient)
            .await?
            .ok_or(ViewFailed::NotPermitted)?;
        let id = self.patient_id(patient).await?;
        self.record_emergency_look(by, patient).await?;
        let searches = SHOWN.map(|(kind, _)| self.emergency_search(kind, &id));
        let found = futures::future::join_all(searches).await;
        let mut record = EmergencyRecord {
            until: broken.until,
            lists: Vec::with_capacity(SHOWN.len()),
            left_out: 0,
            notices: Vec::new(),
        };
        for ((_, name), found) in SHOWN.into_iter().zip(found) {
            let words = match found {
                Ok(found) => Some(self.emergency_words(&id, found, &mut record)),
                Err(failed) => {
                    tracing::warn!(error = %failed, "a list could not be read in an emergency");
                    None
                }
            };
            record.lists.push((name, words.flatten()));
        }
        Ok(record)
    }

    async fn emergency_search(&self, kind: &str, id: &str) -> Result<EhrRead, EhrReadFailed> {
        let resource = ResourceType::new(kind).map_err(|_| EhrReadFailed::Unsupported)?;
        self.ehr
            .search(EhrSearch {
                resource,
                parameters: vec![("patient".to_owned(), format!("Patient/{id}"))],
                limit: RESOURCES_MAX,
            })
            .await
    }

    /// What may be shown of one list, in words; nothing when somebody else's came back (invariant 8).
    fn emergency_words(
        &self,
        id: &str,
        found: EhrRead,
        record: &mut EmergencyRecord,
    ) -> Option<Vec<String>> {
        if !found.resources.iter().all(|it| self.belongs_to(it, id)) {
            tracing::warn!("resources of another patient came back; none are shown");
            return None;
        }
        let mut words = Vec::new();
        for mut resource in found.resources {
            let question = Question {
                purpose: PURPOSE,
                action: Action::Read,
                asker: Asker::Person,
                subject: Subject::Resource(&resource),
                break_glass: true,
                can_notify: true,
                now: self.now(),
            };
            match decide(&self.consent_table, &Consents::default(), &question) {
                Decision::Permit { obligations, .. } => {
                    leave_out(&mut resource, &obligations.leave_out);
                    for notice in obligations.notices {
                        if !record.notices.contains(&notice) {
                            record.notices.push(notice);
                        }
                    }
                    words.push(chaperone_fhir::words::describe(&resource));
                }
                Decision::Deny(_) => record.left_out = record.left_out.saturating_add(1),
            }
        }
        if found.more {
            words.push("… and more; see the record".to_owned());
        }
        Some(words)
    }

    async fn record_emergency_look(
        &self,
        by: &Human,
        patient: PatientToken,
    ) -> Result<(), ViewFailed> {
        let mut commit = self.commit_as(by.into());
        let ceiling = ReadCeiling {
            correlation: self.correlation(),
            tool: ToolName::new("console.emergency")
                .map_err(|e| StoreFailed::Corrupt(e.to_string()))?,
            connection: self.ehr.connection().clone(),
            resource: ResourceType::new("Patient")
                .map_err(|e| StoreFailed::Corrupt(e.to_string()))?,
            patient: Some(patient),
            fields: SHOWN.iter().map(|(kind, _)| (*kind).to_owned()).collect(),
            text: Vec::new(),
            policies: Vec::new(),
            consent: "break-glass".to_owned(),
            purpose: Code::new(PURPOSE).ok(),
        };
        commit.append(
            StreamId::Account(by.account.clone()),
            Expected::Any,
            Event::ReadPermitted(Box::new(ceiling)),
        );
        self.store.commit(commit).await?;
        Ok(())
    }
}

fn key_of(patient: PatientToken, account: &AccountName) -> RecordKey {
    RecordKey::new(BROKEN, format!("{patient}/{account}"))
}

fn record_of(broken: &BrokenGlass) -> Result<Record, StoreFailed> {
    let value = serde_json::to_value(broken).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
    let key = key_of(broken.patient, &broken.account);
    Ok(Record::new(BROKEN, key.key, value)
        .indexed("until", sortable(broken.until))
        .expiring(after(broken.until, KEPT_S)))
}

fn broken_of(record: &Record) -> Result<BrokenGlass, StoreFailed> {
    serde_json::from_value(record.value.clone()).map_err(|e| StoreFailed::Corrupt(e.to_string()))
}
