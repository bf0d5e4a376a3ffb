//! Verifying what an `auto_verified` gate names, after the ruling: by what a source signed that the bundle trusts
//! for the fact (`rules/verification.toml`), such as a portal in which the patient confirmed the appointment.
//!
//! ```text
//! authenticate_event ─▶ take_attestation ─▶ about this order, patient, time? ─▶ not used before?
//!                                                                                     │
//!      ready, or held until more comes ◀─ Verify with everything that counts now ◀────┘
//! ```
//!
//! Evidence is bound to one order digest, one patient and a time, and is used up in the commit that it lets pass.
//! What the order rested on at the EHR, such as a free slot, is looked at again here and once more right before it
//! is sent. An agent has no way in here. Not here: the signature (`ehr_event`), and the page of a portal.
//!
//! # Source
//! Requirements R031 and R033.

use std::collections::BTreeSet;

use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::event::{DecisionKind, Event, StreamId};
use chaperone_core::evidence::WriteOrder;
use chaperone_core::facts::{FactValue, Facts};
use chaperone_core::gate::Gate;
use chaperone_core::ids::WritebackId;
use chaperone_core::ports::{
    Commit, CommitFailed, EhrReadFailed, Expected, KeyVaultFailed, PayloadClass, Record,
    RecordChange, RecordKey, StoreFailed,
};
use chaperone_core::principal::{Actor, SystemPart};
use chaperone_core::verification::{Verification, VerificationRecord, VerifiedBy};
use chaperone_core::writeback::{Command, Refusal, Ruled, Writeback};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::{Engine, after};
use crate::ehr_event::Authenticated;
use crate::observe::LOOKED_AT_AGAIN;
use crate::projection::WritebackRow;
use crate::tokens::TokenFailed;
use crate::transition::{InHand, MoveFailed};
use crate::vault::VaultFailed;

/// Evidence that waits for more, and attestations that were used.
const VERIFICATIONS: &str = "verification";
/// Pieces of evidence that may wait for one write-back.
const EVIDENCE_MAX: usize = 16;
/// How far ahead of our clock an attestation may have been made, in seconds.
const AHEAD_S_MAX: i64 = 60;
/// Longest id of an attestation, in bytes.
const ID_BYTES_MAX: usize = 128;

/// What a source attests, as it stands in the body that it signed. Unknown keys are refused.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attestation {
    /// The attestation, as the source counts them; it counts once.
    pub id: String,
    /// The write-back that waits.
    pub writeback: WritebackId,
    /// The order that the patient was shown.
    pub digest: Digest,
    /// The patient whom the source dealt with, `Patient/id`; compared, never used.
    pub patient: String,
    /// The fact.
    pub fact: String,
    /// When it was verified.
    pub at: Timestamp,
}

impl std::fmt::Debug for Attestation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Attestation(withheld)")
    }
}

/// What came of evidence.
#[derive(Debug, Clone, PartialEq)]
pub enum Verifying {
    /// Everything is verified; it goes on.
    Passed(Box<WritebackRow>),
    /// It counts, and more is needed.
    Held {
        /// Facts that nothing shows yet.
        missing: BTreeSet<String>,
    },
}

/// Why something verifies nothing; the write-back stays held.
#[derive(Debug, thiserror::Error)]
pub enum VerifyFailed {
    /// There is no such write-back, or it does not wait for a verification.
    #[error("nothing of this name waits for a verification")]
    NotWaiting,
    /// Its time to be verified is over, or the state machine refuses otherwise.
    #[error(transparent)]
    Refused(Refusal),
    /// It was ruled on under a bundle that is no longer in force.
    #[error("the rules changed since this was ruled on; it must be proposed again")]
    RulesChanged,
    /// The gate does not name the fact.
    #[error("this write-back needs no such verification")]
    NotNeeded,
    /// The bundle does not trust the source for the fact.
    #[error("this source may not attest this fact")]
    NotTrusted,
    /// The attestation is about other content or another patient.
    #[error("the attestation is about other content or another patient")]
    OtherContent,
    /// It is too old, or from the future.
    #[error("the attestation is too old, or of a time to come")]
    OutOfTime,
    /// It was used before.
    #[error("the attestation was used before")]
    Used,
    /// Somebody else acted on it.
    #[error("somebody else acted on this just now; try again")]
    Conflict,
    /// The EHR does not say whether what it rests on is still so.
    #[error("the EHR does not say whether this is still possible; try again")]
    Ehr(#[source] EhrReadFailed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// It could not be recorded, so it was not done.
    #[error("it could not be recorded, so it was not done")]
    Commit(#[source] CommitFailed),
    /// The key vault failed.
    #[error(transparent)]
    Keys(#[from] KeyVaultFailed),
    /// The order cannot be read any more.
    #[error("what is to be verified cannot be read")]
    Order,
}

impl VerifyFailed {
    /// The stable code of a refusal; `None` for what failed on our side.
    pub fn code(&self) -> Option<&'static str> {
        Some(match self {
            VerifyFailed::NotWaiting => "not-waiting",
            VerifyFailed::Refused(refusal) => refusal.code(),
            VerifyFailed::RulesChanged => "rules-changed",
            VerifyFailed::NotNeeded => "not-needed",
            VerifyFailed::NotTrusted => "source-not-trusted",
            VerifyFailed::OtherContent => "other-content",
            VerifyFailed::OutOfTime => "out-of-time",
            VerifyFailed::Used => "attestation-used",
            VerifyFailed::Conflict
            | VerifyFailed::Ehr(_)
            | VerifyFailed::Store(_)
            | VerifyFailed::Commit(_)
            | VerifyFailed::Keys(_)
            | VerifyFailed::Order => return None,
        })
    }
}

impl From<MoveFailed> for VerifyFailed {
    fn from(failed: MoveFailed) -> Self {
        match failed {
            MoveFailed::Missing => VerifyFailed::NotWaiting,
            MoveFailed::Refused(refusal) => VerifyFailed::Refused(refusal),
            MoveFailed::Store(failed) => VerifyFailed::Store(failed),
        }
    }
}

impl From<CommitFailed> for VerifyFailed {
    fn from(failed: CommitFailed) -> Self {
        match failed {
            CommitFailed::Conflict { .. }
            | CommitFailed::Record { .. }
            | CommitFailed::ClaimLost => VerifyFailed::Conflict,
            other => VerifyFailed::Commit(other),
        }
    }
}

impl From<VaultFailed> for VerifyFailed {
    fn from(failed: VaultFailed) -> Self {
        match failed {
            VaultFailed::Store(failed) => VerifyFailed::Store(failed),
            VaultFailed::Keys(failed) => VerifyFailed::Keys(failed),
            VaultFailed::Missing | VaultFailed::Sealed => VerifyFailed::Order,
        }
    }
}

impl From<TokenFailed> for VerifyFailed {
    fn from(failed: TokenFailed) -> Self {
        match failed {
            TokenFailed::Store(failed) => VerifyFailed::Store(failed),
            TokenFailed::Keys(failed) => VerifyFailed::Keys(failed),
            _ => VerifyFailed::OtherContent,
        }
    }
}

/// A write-back that waits, with what it waits for.
struct Waiting {
    hand: InHand,
    ruled: Ruled,
    named: BTreeSet<String>,
    order: WriteOrder,
}

impl Engine {
    /// Takes what a source attests, whose signature was right.
    ///
    /// # Errors
    /// [`VerifyFailed`]; a refusal is recorded, and the write-back stays held.
    pub async fn take_attestation(
        &self,
        from: &Authenticated,
        attestation: Attestation,
    ) -> Result<Verifying, VerifyFailed> {
        let writeback = attestation.writeback;
        let done = self.try_take_attestation(from, attestation).await;
        self.verification_recorded(writeback, done).await
    }

    async fn try_take_attestation(
        &self,
        from: &Authenticated,
        attestation: Attestation,
    ) -> Result<Verifying, VerifyFailed> {
        let now = self.now();
        let trusted_s = self
            .tables
            .trusted_for(from.source(), &attestation.fact)
            .ok_or(VerifyFailed::NotTrusted)?;
        let waiting = self.waiting(attestation.writeback).await?;
        if !waiting.named.contains(&attestation.fact) {
            return Err(VerifyFailed::NotNeeded);
        }
        let patient = waiting.ruled.proposal.patient;
        let expected = match patient {
            Some(token) => format!("Patient/{}", self.patient_id(token).await?),
            None => return Err(VerifyFailed::OtherContent),
        };
        if attestation.digest != waiting.ruled.order.digest || attestation.patient != expected {
            return Err(VerifyFailed::OtherContent);
        }
        let until = after(attestation.at, trusted_s);
        if attestation.at > after(now, AHEAD_S_MAX) || now >= until {
            return Err(VerifyFailed::OutOfTime);
        }
        if attestation.id.is_empty() || attestation.id.len() > ID_BYTES_MAX {
            return Err(VerifyFailed::Used);
        }
        // Named by a digest, since an id of a source could say something about a patient.
        let parts = [from.source().as_str().as_bytes(), attestation.id.as_bytes()];
        let id = self
            .keyed_digest(PayloadClass::Derived, patient, &parts)
            .await?;
        let used = RecordKey::new(VERIFICATIONS, format!("used/{id}"));
        let tenant = &self.config.tenant;
        if self.store.record(tenant, &used, now).await?.is_some() {
            return Err(VerifyFailed::Used);
        }
        let shown = VerificationRecord {
            fact: attestation.fact,
            verified: VerifiedBy::Source {
                source: from.source().clone(),
            },
            patient,
            digest: attestation.digest,
            at: attestation.at.min(now),
            until,
        };
        let mut commit = self.commit_as(system());
        // Kept for as long as it could come again.
        let kept = record(
            format!("used/{id}"),
            &Value::Null,
            after(until, AHEAD_S_MAX),
        )?;
        commit.records.push(RecordChange::Create(kept));
        self.verify_with(waiting, shown, commit).await
    }

    /// Verifies with everything that counts now; what does not suffice waits for more.
    async fn verify_with(
        &self,
        waiting: Waiting,
        shown: VerificationRecord,
        mut commit: Commit,
    ) -> Result<Verifying, VerifyFailed> {
        let Waiting {
            mut hand,
            ruled,
            named,
            order,
        } = waiting;
        let now = self.now();
        let key = RecordKey::new(VERIFICATIONS, format!("evidence/{}", hand.id));
        let kept = self.store.record(&self.config.tenant, &key, now).await?;
        let revision = kept.as_ref().map(|it| it.revision);
        let mut records: Vec<VerificationRecord> = match kept {
            Some(kept) => read(kept.value)?,
            None => Vec::new(),
        };
        records.retain(|it| it.fact != shown.fact && now < it.until);
        records.push(shown);
        records.truncate(EVIDENCE_MAX);
        let evidence: Vec<Verification> = records.iter().map(established).collect();
        let facts = self.facts_now(&order).await?;
        let verify = Command::Verify {
            facts: &facts,
            evidence: &evidence,
        };
        match hand.step(verify, now) {
            Ok(()) => {
                if revision.is_some() {
                    commit.records.push(RecordChange::Consume(key));
                }
                self.enqueue(&hand, &mut commit);
                let row = hand.write_into(&mut commit)?;
                self.store.commit(commit).await?;
                self.announce_change();
                self.after_consent(&hand).await;
                Ok(Verifying::Passed(Box::new(row)))
            }
            Err(MoveFailed::Refused(Refusal::NotVerified)) => {
                let is_shown = |name: &&String| {
                    facts.is_established_for(name, &ruled.order.digest)
                        || records.iter().any(|it| it.fact == **name)
                };
                let missing = named
                    .iter()
                    .filter(|name| !is_shown(name))
                    .cloned()
                    .collect();
                let name = format!("evidence/{}", hand.id);
                let kept = record(name, &records, ruled.order.approve_by)?;
                commit.records.push(match revision {
                    Some(revision) => RecordChange::Update(kept, revision),
                    None => RecordChange::Create(kept),
                });
                self.store.commit(commit).await?;
                Ok(Verifying::Held { missing })
            }
            Err(failed) => Err(failed.into()),
        }
    }

    /// What was established when it was ruled on, with what others can change looked at again.
    async fn facts_now(&self, order: &WriteOrder) -> Result<Facts, VerifyFailed> {
        let asked = order.asked.as_ref().ok_or(VerifyFailed::Order)?;
        let mut facts = asked.facts.clone();
        if !self.still_holds(order).await.map_err(VerifyFailed::Ehr)? {
            for name in LOOKED_AT_AGAIN {
                facts.observe(name, FactValue::Bool(false));
            }
        }
        Ok(facts)
    }

    async fn waiting(&self, writeback: WritebackId) -> Result<Waiting, VerifyFailed> {
        let hand = self.take_in_hand(writeback).await?;
        let Writeback::AwaitingVerification(state) = &hand.state else {
            return Err(VerifyFailed::NotWaiting);
        };
        let ruled = state.ruled().clone();
        if ruled.ruling.bundle != *self.bundle.digest() {
            return Err(VerifyFailed::RulesChanged);
        }
        let Gate::AutoVerified { facts } = &ruled.ruling.gate else {
            return Err(VerifyFailed::NotWaiting);
        };
        let named = facts.clone();
        let bytes = self.unseal(&ruled.order.address).await?;
        if Digest::of_bytes(&bytes) != ruled.order.digest {
            return Err(VerifyFailed::Order);
        }
        let order = serde_json::from_slice(&bytes).map_err(|_| VerifyFailed::Order)?;
        Ok(Waiting {
            hand,
            ruled,
            named,
            order,
        })
    }

    /// The same result, after a refusal was recorded. What failed on our side is no refusal.
    async fn verification_recorded(
        &self,
        writeback: WritebackId,
        done: Result<Verifying, VerifyFailed>,
    ) -> Result<Verifying, VerifyFailed> {
        let code = done.as_ref().err().and_then(VerifyFailed::code);
        let Some(code) = code.filter(|code| self.admits_refused_verification(code)) else {
            return done;
        };
        let mut commit = self.commit_as(system());
        commit.append(
            StreamId::Refusals,
            Expected::Any,
            Event::DecisionRefused {
                writeback,
                decision: DecisionKind::Verify,
                code: code.to_owned(),
            },
        );
        if let Err(lost) = self.store.commit(commit).await {
            tracing::error!(error = %lost, "a refused decision could not be recorded");
        }
        done
    }

    fn admits_refused_verification(&self, code: &'static str) -> bool {
        self.refusals
            .admits(code, crate::refusals::Named::Nobody, self.now())
    }
}

fn system() -> Actor {
    Actor::System {
        part: SystemPart::Gateway,
    }
}

fn established(record: &VerificationRecord) -> Verification {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place where evidence becomes a verification"
    )]
    let verification = Verification::establish(record.clone());
    verification
}

fn record(name: String, value: &impl Serialize, until: Timestamp) -> Result<Record, StoreFailed> {
    let value = serde_json::to_value(value).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
    Ok(Record::new(VERIFICATIONS, name, value).expiring(until))
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, StoreFailed> {
    serde_json::from_value(value).map_err(|e| StoreFailed::Corrupt(e.to_string()))
}
