//! Legal holds: while one is in force, nothing of the patient, or of anybody, is deleted or shredded.
//!
//! All holds rest in one record, so that whoever deletes can make it a condition of the same commit that no hold came
//! in between. Placing and releasing is the privacy officer's, with a reason and a second factor for exactly that.
//!
//! # Source
//! Requirement R055; Federal Rules of Civil Procedure 37(e): what is to be preserved for litigation.

use chaperone_core::Timestamp;
use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{AccountName, HoldId, PatientToken, StepUpId};
use chaperone_core::ports::{
    CommitFailed, Expected, Guard, KeyVaultFailed, PayloadClass, Record, RecordChange, RecordKey,
    StoreFailed,
};
use chaperone_core::principal::{Human, Role};
use chaperone_core::retention::RetentionEvent;
use serde::{Deserialize, Serialize};

use crate::approve::DecideFailed;
use crate::context::Engine;
use crate::people::StepUpFor;

const HOLDS: &str = "legal_hold";
const IN_FORCE: &str = "in-force";
/// Most holds in force.
const HOLDS_MAX: usize = 1_000;
/// Fewest and most characters of a reason: a word is none.
pub(super) const REASON_CHARS: std::ops::RangeInclusive<usize> = 10..=1_000;

/// Whether a person may place and release holds, and shred.
pub fn may_hold(by: &Human) -> bool {
    by.holds(Role::Privacy)
}

/// One hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its id.
    pub id: HoldId,
    /// On whom; on everything when absent.
    pub patient: Option<PatientToken>,
    /// Who placed it.
    pub by: AccountName,
    /// When.
    pub at: Timestamp,
    /// Why, in the vault.
    pub reason: PayloadAddress,
}

/// The holds in force, as they were read.
#[derive(Debug, Clone, Default)]
pub struct Holds {
    holds: Vec<Hold>,
    revision: Option<u64>,
}

impl Holds {
    /// Every one.
    pub fn all(&self) -> &[Hold] {
        &self.holds
    }

    /// The hold that keeps something of this patient, or of nobody, where it is.
    pub fn on(&self, patient: Option<PatientToken>) -> Option<&Hold> {
        self.holds
            .iter()
            .find(|hold| hold.patient.is_none() || hold.patient == patient)
    }

    /// The condition that nobody placed or released one since.
    pub(super) fn unchanged(&self) -> Guard {
        Guard::RecordAt {
            key: RecordKey::new(HOLDS, IN_FORCE),
            revision: self.revision,
        }
    }
}

/// Why a hold was not placed or released.
#[derive(Debug, thiserror::Error)]
pub enum HoldFailed {
    /// The roles do not allow it.
    #[error("legal holds are placed and released by the privacy officer")]
    NotPermitted,
    /// Too short or too long.
    #[error("say why, in 10 to 1,000 characters; it goes into the record")]
    ReasonUnfit,
    /// No second factor, or one for something else.
    #[error("this needs a fresh second factor, for exactly this")]
    StepUp,
    /// Whoever it is about.
    #[error("no such patient is known here")]
    UnknownPatient,
    /// There is none.
    #[error("no such hold is in force; `chaperone retention hold list` shows those that are")]
    UnknownHold,
    /// Too many.
    #[error("there are {HOLDS_MAX} holds in force; release some, or hold everything")]
    TooMany,
    /// Somebody else changed the holds just now.
    #[error("somebody changed the holds at the same moment; look again and decide again")]
    Again,
    /// The reason cannot be sealed.
    #[error(transparent)]
    Keys(#[from] KeyVaultFailed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// It could not be recorded.
    #[error(transparent)]
    Commit(CommitFailed),
}

impl From<CommitFailed> for HoldFailed {
    fn from(failed: CommitFailed) -> Self {
        match failed {
            CommitFailed::Record { .. } => HoldFailed::Again,
            other => HoldFailed::Commit(other),
        }
    }
}

impl From<DecideFailed> for HoldFailed {
    fn from(failed: DecideFailed) -> Self {
        match failed {
            DecideFailed::Store(failed) => HoldFailed::Store(failed),
            _ => HoldFailed::StepUp,
        }
    }
}

/// What is to be done about a hold; a second factor is for exactly this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldChange {
    /// Place one, on a patient or on everything.
    Place(Option<PatientToken>),
    /// Release one.
    Release(HoldId),
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    holds: Vec<Hold>,
}

impl Engine {
    /// The holds in force.
    ///
    /// # Errors
    /// When the store fails or they cannot be read; nothing may be deleted then.
    pub async fn legal_holds(&self) -> Result<Holds, StoreFailed> {
        let key = RecordKey::new(HOLDS, IN_FORCE);
        let record = self
            .store
            .record(&self.config.tenant, &key, self.now())
            .await?;
        let Some(record) = record else {
            return Ok(Holds::default());
        };
        let stored: Stored = serde_json::from_value(record.value)
            .map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
        Ok(Holds {
            holds: stored.holds,
            revision: Some(record.revision),
        })
    }

    /// Whether a hold keeps something of this patient, or of nobody.
    ///
    /// # Errors
    /// As [`Engine::legal_holds`].
    pub(crate) async fn is_held(&self, patient: Option<PatientToken>) -> Result<bool, StoreFailed> {
        Ok(self.legal_holds().await?.on(patient).is_some())
    }

    /// What a second factor for a change of holds is bound to.
    pub fn hold_digest(&self, change: HoldChange, reason: &str) -> Digest {
        let what = match change {
            HoldChange::Place(Some(patient)) => format!("place {patient}"),
            HoldChange::Place(None) => "place everything".to_owned(),
            HoldChange::Release(hold) => format!("release {hold}"),
        };
        self.tenant_digest(&[b"legal hold", what.as_bytes(), reason.trim().as_bytes()])
    }

    /// Places or releases a hold; says which.
    ///
    /// # Errors
    /// [`HoldFailed`]; the holds stay as they were.
    pub async fn change_hold(
        &self,
        by: &Human,
        change: HoldChange,
        reason: &str,
        step_up: StepUpId,
    ) -> Result<Hold, HoldFailed> {
        if !may_hold(by) {
            return Err(HoldFailed::NotPermitted);
        }
        let digest = self.hold_digest(change, reason);
        let reason = reason.trim();
        if !REASON_CHARS.contains(&reason.chars().count()) {
            return Err(HoldFailed::ReasonUnfit);
        }
        let mut held = self.legal_holds().await?;
        let mut commit = self.commit_as(by.into());
        let concerned = match change {
            HoldChange::Place(patient) => patient,
            HoldChange::Release(id) => {
                let hold = held.holds.iter().find(|hold| hold.id == id);
                hold.ok_or(HoldFailed::UnknownHold)?.patient
            }
        };
        // Whoever releases a hold gives a reason also where the patient's key is gone.
        let sealed = self
            .seal(PayloadClass::Operational, None, reason.as_bytes())
            .await?;
        let reason = sealed.address;
        let (hold, event) = match change {
            HoldChange::Place(patient) => {
                if let Some(patient) = patient
                    && self.patient_id(patient).await.is_err()
                {
                    return Err(HoldFailed::UnknownPatient);
                }
                if held.holds.len() >= HOLDS_MAX {
                    return Err(HoldFailed::TooMany);
                }
                let hold = Hold {
                    id: HoldId::from_random(self.random.id()),
                    patient,
                    by: by.account.clone(),
                    at: commit.at,
                    reason,
                };
                held.holds.push(hold.clone());
                let event = RetentionEvent::HoldPlaced {
                    hold: hold.id,
                    patient,
                    reason,
                };
                (hold, event)
            }
            HoldChange::Release(id) => {
                let at = held.holds.iter().position(|hold| hold.id == id);
                let hold = held.holds.remove(at.ok_or(HoldFailed::UnknownHold)?);
                let event = RetentionEvent::HoldReleased {
                    hold: id,
                    patient: concerned,
                    reason,
                };
                (hold, event)
            }
        };
        self.consume_step_up(by, step_up, StepUpFor::Matter, &digest, &mut commit)
            .await?;
        let value = serde_json::to_value(Stored { holds: held.holds })
            .map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
        let record = Record::new(HOLDS, IN_FORCE, value);
        commit.records.push(match held.revision {
            Some(revision) => RecordChange::Update(record, revision),
            None => RecordChange::Create(record),
        });
        commit.payloads.push(sealed);
        let event = Event::Retention(event);
        commit.append(StreamId::Retention, Expected::Any, event);
        self.store.commit(commit).await?;
        self.announce_change();
        Ok(hold)
    }

    /// Why a hold was placed; nothing where that cannot be opened.
    pub async fn hold_reason(&self, hold: &Hold) -> Option<String> {
        self.unseal_text(&hold.reason).await.ok()
    }
}
