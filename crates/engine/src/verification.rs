//! Verifying what an `auto_verified` gate names, after the ruling: by what a portal signed that the bundle trusts
//! for the fact (`rules/verification.toml`), such as that the patient confirmed the appointment.
//!
//! ```text
//! authenticate_portal ─▶ take_attestation ─▶ about this order, patient, time? ─▶ not used before?
//!                                                                                     │
//!      ready, or held until more comes ◀─ Verify with everything that counts now ◀────┘
//! ```
//!
//! Evidence is bound to one order digest, one patient and a time, and is used up in the commit that it lets pass.
//! What the order rested on at the EHR, such as a free slot, is looked at again here and once more right before it
//! is sent. An agent has no way in here. Whose word verifies what is `trust`, who may act in a patient's place `proxy`,
//! what Chaperone sees itself by a code that it sends `codes`.
//! Not here: who signed, and what a portal is shown (`crate::portal`).
//!
//! # Source
//! Requirements R031 and R033.

mod codes;
pub(crate) mod contact;
mod mails;
mod proxy;
mod trust;

use std::collections::BTreeSet;

use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::event::{DecisionKind, Event, StreamId};
use chaperone_core::evidence::WriteOrder;
use chaperone_core::facts::{FactValue, Facts};
use chaperone_core::gate::Gate;
use chaperone_core::ids::PatientToken;
use chaperone_core::ids::WritebackId;
use chaperone_core::ports::{
    Commit, CommitFailed, EhrReadFailed, Expected, KeyVaultFailed, PayloadClass, Record,
    RecordChange, RecordKey, StoreFailed,
};
use chaperone_core::together::facts_of_all;
use chaperone_core::verification::{
    Verification, VerificationMethod, VerificationRecord, VerifiedBy,
};
use chaperone_core::writeback::{Command, Refusal, Ruled, Writeback};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::{Engine, after};
use crate::observe::HOURS_AHEAD;
use crate::portal::Portal;
use crate::projection::WritebackRow;
use crate::propose::LEGAL_HOLD;
use crate::refusals::Named;
use crate::tokens::TokenFailed;
use crate::transition::{InHand, MoveFailed};
use crate::vault::VaultFailed;

pub use codes::{CodeAsked, CodeGiven, CodeSent};
pub(crate) use trust::Trust;
pub use trust::trusted_portals;

/// Evidence that waits for more, attestations that were used, and codes that were sent.
const VERIFICATIONS: &str = "verification";
/// Pieces of evidence that may wait for one write-back.
const EVIDENCE_MAX: usize = 16;
/// How far ahead of our clock an attestation may have been made, in seconds.
const AHEAD_S_MAX: i64 = 60;
/// Longest id of an attestation, in bytes.
pub const ATTESTATION_ID_BYTES_MAX: usize = 128;

/// What a portal attests, as it stands in the body that it signed. Unknown keys are refused.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attestation {
    /// The attestation, as the portal counts them; it counts once.
    pub id: String,
    /// The write-back that waits.
    pub writeback: WritebackId,
    /// The order that the patient was shown.
    pub digest: Digest,
    /// The patient whom the portal dealt with, `Patient/id`; compared, never used.
    pub patient: String,
    /// The fact.
    pub fact: String,
    /// By what step it was verified.
    pub method: VerificationMethod,
    /// Who acted in the patient's place, `RelatedPerson/id`, where it was not the patient.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proxy: Option<String>,
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
    /// Time has gone by since it was ruled on, or a hold was placed: the matrix would ask for more by now.
    #[error("by now this needs more than it did when it was proposed; it must be proposed again")]
    NoLongerSo,
    /// The gate does not name the fact.
    #[error("this write-back needs no such verification")]
    NotNeeded,
    /// The bundle does not trust the portal for the fact.
    #[error("this portal may not attest this fact")]
    NotTrusted,
    /// That step does not show the fact.
    #[error("this step does not verify this fact")]
    Method,
    /// Nobody's word stands for the patient's about this fact, or the EHR does not show that this person's does.
    #[error("this person may not act in the patient's place here")]
    Proxy,
    /// The id is empty, too long, or holds control characters.
    #[error("an attestation has an id of 1 to {ATTESTATION_ID_BYTES_MAX} bytes")]
    IdUnfit,
    /// There is no way to send a code: no one new e-mail address, no mail server that may have it, or no text for it.
    #[error("no code can be sent for this; the portal verifies it, or a person decides")]
    NoChannel,
    /// So many codes were made for this order, or so many wrong ones handed in, as may be.
    #[error("no more codes are made or taken for this; it must be proposed again")]
    CodesSpent,
    /// So many codes were sent for this patient within a day as may be.
    #[error("too many codes were sent for this patient lately")]
    TooManyCodes,
    /// The code was made and the mail did not leave.
    #[error("the mail with the code was not sent; ask for another one")]
    CodeNotSent,
    /// It is another code than the newest one.
    #[error("this is not the code that was sent last")]
    CodeWrong,
    /// No code of this order counts now: none was sent, its time is over, or it came back already.
    #[error("no code counts for this now; ask for a new one")]
    CodeOver,
    /// Agent access is halted, and with it what patients are written to about.
    #[error("everything is halted by a switch")]
    Halted,
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
            VerifyFailed::NoLongerSo => "no-longer-so",
            VerifyFailed::NotNeeded => "not-needed",
            VerifyFailed::NotTrusted => "source-not-trusted",
            VerifyFailed::Method => "method-refused",
            VerifyFailed::Proxy => "proxy-refused",
            VerifyFailed::IdUnfit => "invalid-argument",
            VerifyFailed::OtherContent => "other-content",
            VerifyFailed::OutOfTime => "out-of-time",
            VerifyFailed::Used => "attestation-used",
            VerifyFailed::NoChannel => "no-channel",
            VerifyFailed::CodesSpent => "codes-spent",
            VerifyFailed::TooManyCodes => "too-many-codes",
            VerifyFailed::CodeWrong => "code-wrong",
            VerifyFailed::CodeOver => "code-over",
            VerifyFailed::Halted => "halted",
            VerifyFailed::CodeNotSent
            | VerifyFailed::Conflict
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
            TokenFailed::Commit(failed) => failed.into(),
            _ => VerifyFailed::OtherContent,
        }
    }
}

/// A write-back that waits, with what it waits for.
pub(crate) struct Waiting {
    hand: InHand,
    pub(crate) ruled: Ruled,
    named: BTreeSet<String>,
    pub(crate) order: WriteOrder,
}

impl Waiting {
    /// Facts that its gate names and that nothing shows yet: neither what was established when it was ruled on, nor
    /// evidence that came since.
    fn missing(&self, facts: &Facts, records: &[VerificationRecord]) -> BTreeSet<String> {
        let is_shown = |name: &&String| {
            facts.is_established_for(name, &self.ruled.order.digest)
                || records.iter().any(|it| it.fact == **name)
        };
        let missing = self.named.iter().filter(|name| !is_shown(name));
        missing.cloned().collect()
    }
}

impl Engine {
    /// Takes what a portal attests, whose signature was right.
    ///
    /// # Errors
    /// [`VerifyFailed`]; a refusal is recorded, and the write-back stays held.
    pub async fn take_attestation(
        &self,
        from: &Portal,
        attestation: Attestation,
    ) -> Result<Verifying, VerifyFailed> {
        let writeback = attestation.writeback;
        let done = self.try_take_attestation(from, attestation).await;
        self.verification_recorded(from, writeback, done).await
    }

    async fn try_take_attestation(
        &self,
        from: &Portal,
        attestation: Attestation,
    ) -> Result<Verifying, VerifyFailed> {
        let now = self.now();
        let trust = self.tables.trust();
        let trusted_s = trust
            .valid_s(from.name(), &attestation.fact)
            .ok_or(VerifyFailed::NotTrusted)?;
        if !trust.shows(attestation.method, &attestation.fact) {
            return Err(VerifyFailed::Method);
        }
        let id = attestation.id.as_str();
        let is_fit = (1..=ATTESTATION_ID_BYTES_MAX).contains(&id.len());
        if !is_fit || id.chars().any(char::is_control) {
            return Err(VerifyFailed::IdUnfit);
        }
        // Patient and content first: about anybody else's, nothing is told.
        let about = (attestation.patient.as_str(), Some(&attestation.digest));
        let (waiting, patient) = self.waiting(attestation.writeback, about).await?;
        if !waiting.named.contains(&attestation.fact) {
            return Err(VerifyFailed::NotNeeded);
        }
        let until = after(attestation.at, trusted_s);
        if attestation.at > after(now, AHEAD_S_MAX) || now >= until {
            return Err(VerifyFailed::OutOfTime);
        }
        let proxy = match &attestation.proxy {
            // That somebody acts in the patient's place says nothing without who.
            None if trust::is_about_proxies(&attestation.fact) => return Err(VerifyFailed::Proxy),
            None => None,
            Some(_) if trust.proxies_for(&attestation.fact).is_none() => {
                return Err(VerifyFailed::Proxy);
            }
            Some(reference) => Some(self.proxy_of(reference, (patient.0, &patient.1)).await?),
        };
        let patient = Some(patient.0);
        // Named by a digest, since an id of a portal could say something about a patient.
        let parts = [from.name().as_str().as_bytes(), id.as_bytes()];
        let id = self
            .keyed_digest(PayloadClass::Derived, patient, &parts)
            .await?;
        let used = RecordKey::new(VERIFICATIONS, format!("used/{id}"));
        let tenant = &self.config.tenant;
        if self.store.record(tenant, &used, now).await?.is_some() {
            return Err(VerifyFailed::Used);
        }
        let verified = VerificationRecord {
            fact: attestation.fact,
            verified: VerifiedBy::Source {
                source: from.name().clone(),
                method: Some(attestation.method),
                proxy,
            },
            patient,
            digest: attestation.digest,
            at: attestation.at.min(now),
            until,
        };
        let mut shown = vec![verified.clone()];
        // The EHR showed it just now; no portal can say it.
        if proxy.is_some() && waiting.named.contains(trust::AUTHORITY) {
            shown.push(VerificationRecord {
                fact: trust::AUTHORITY.to_owned(),
                ..verified
            });
        }
        let mut commit = self.commit_as(from.actor());
        // Kept for as long as it could come again.
        let kept = record(
            format!("used/{id}"),
            &Value::Null,
            after(until, AHEAD_S_MAX),
        )?;
        commit.records.push(RecordChange::Create(kept));
        self.verify_with(waiting, shown, commit).await
    }

    /// The patient whom a held write-back is about, if a portal names the same: the token, and the logical id.
    async fn same_patient(
        &self,
        ruled: &Ruled,
        named: &str,
    ) -> Result<(PatientToken, String), VerifyFailed> {
        let token = ruled.proposal.patient;
        let token = token.ok_or(VerifyFailed::OtherContent)?;
        let id = self.patient_id(token).await?;
        if named == format!("Patient/{id}") {
            Ok((token, id))
        } else {
            Err(VerifyFailed::OtherContent)
        }
    }

    /// Whether a person may be shown, in the patient's place, what is proposed.
    pub(crate) async fn may_see_for(
        &self,
        reference: &str,
        (token, id): (PatientToken, &str),
    ) -> Result<(), VerifyFailed> {
        self.proxy_of(reference, (token, id)).await.map(|_| ())
    }

    /// What a held write-back still waits for, as far as is known now.
    pub(crate) async fn missing_of(
        &self,
        waiting: &Waiting,
    ) -> Result<BTreeSet<String>, VerifyFailed> {
        let asked = waiting.order.questions().ok_or(VerifyFailed::Order)?;
        let facts = facts_of_all(&asked, &waiting.ruled.ruling);
        let (records, _) = self.evidence_kept(waiting.hand.id).await?;
        Ok(waiting.missing(&facts, &records))
    }

    /// Evidence that came before and counts still, and the revision of its record.
    async fn evidence_kept(
        &self,
        writeback: WritebackId,
    ) -> Result<(Vec<VerificationRecord>, Option<u64>), VerifyFailed> {
        let now = self.now();
        let key = evidence_key(writeback);
        let kept = self.store.record(&self.config.tenant, &key, now).await?;
        let Some(kept) = kept else {
            return Ok((Vec::new(), None));
        };
        let mut records: Vec<VerificationRecord> = read(kept.value)?;
        records.retain(|it| now < it.until);
        Ok((records, Some(kept.revision)))
    }

    /// Verifies with everything that counts now; what does not suffice waits for more.
    async fn verify_with(
        &self,
        waiting: Waiting,
        shown: Vec<VerificationRecord>,
        mut commit: Commit,
    ) -> Result<Verifying, VerifyFailed> {
        let now = self.now();
        if !self.is_ruled_the_same(&waiting).await? {
            return Err(VerifyFailed::NoLongerSo);
        }
        let key = evidence_key(waiting.hand.id);
        let (mut records, revision) = self.evidence_kept(waiting.hand.id).await?;
        records.retain(|it| !shown.iter().any(|new| new.fact == it.fact));
        records.extend(shown);
        records.truncate(EVIDENCE_MAX);
        let evidence: Vec<Verification> = records.iter().map(established).collect();
        let facts = self.facts_now(&waiting).await?;
        let verify = Command::Verify {
            facts: &facts,
            evidence: &evidence,
        };
        let mut hand = waiting.hand.clone();
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
                let missing = waiting.missing(&facts, &records);
                let until = waiting.ruled.order.approve_by;
                let kept = record(key.key, &records, until)?;
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

    /// Whether the matrix still asks for this evidence and nothing else, although time has gone by since it was asked,
    /// and the patient may be under legal hold by now. What is not a full hour yet has not gone by: the hours that it
    /// had were full ones too.
    async fn is_ruled_the_same(&self, waiting: &Waiting) -> Result<bool, VerifyFailed> {
        let mut asked = waiting.order.questions().ok_or(VerifyFailed::Order)?;
        let gone = self
            .now()
            .duration_since(waiting.hand.proposed())
            .as_hours();
        let is_held = self.is_held(waiting.hand.state.proposal().patient).await?;
        for one in &mut asked {
            one.facts.observe(LEGAL_HOLD, FactValue::Bool(is_held));
            if let Some(FactValue::Long(hours)) = one.facts.get(HOURS_AHEAD).map(|fact| &fact.value)
            {
                let left = FactValue::Long(hours.saturating_sub(gone));
                one.facts.observe(HOURS_AHEAD, left);
            }
        }
        let ruling = self.bundle.rule_all(&asked);
        let ruling = ruling.map_err(|_| VerifyFailed::NoLongerSo)?;
        Ok(ruling.record().gate == waiting.ruled.ruling.gate)
    }

    /// What was established when it was ruled on, with what others can change looked at again.
    async fn facts_now(&self, waiting: &Waiting) -> Result<Facts, VerifyFailed> {
        let order = &waiting.order;
        let mut asked = order.questions().ok_or(VerifyFailed::Order)?;
        if !self.still_holds(order).await.map_err(VerifyFailed::Ehr)? {
            for (one, change) in asked.iter_mut().zip(order.changes()) {
                for name in change.rests_on {
                    one.facts.observe(name, FactValue::Bool(false));
                }
            }
        }
        Ok(facts_of_all(&asked, &waiting.ruled.ruling))
    }

    /// What waits under an id, about whom and which content a portal names; and the patient.
    pub(crate) async fn waiting(
        &self,
        writeback: WritebackId,
        (named, content): (&str, Option<&Digest>),
    ) -> Result<(Waiting, (PatientToken, String)), VerifyFailed> {
        let hand = self.take_in_hand(writeback).await?;
        let Writeback::AwaitingVerification(state) = &hand.state else {
            return Err(VerifyFailed::NotWaiting);
        };
        let ruled = state.ruled().clone();
        let patient = self.same_patient(&ruled, named).await?;
        if content.is_some_and(|digest| *digest != ruled.order.digest) {
            return Err(VerifyFailed::OtherContent);
        }
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
        let waiting = Waiting {
            hand,
            ruled,
            named,
            order,
        };
        Ok((waiting, patient))
    }

    /// The same result, after a refusal was recorded. What failed on our side is no refusal.
    pub(crate) async fn verification_recorded<T>(
        &self,
        from: &Portal,
        writeback: WritebackId,
        done: Result<T, VerifyFailed>,
    ) -> Result<T, VerifyFailed> {
        let Some(code) = done.as_ref().err().and_then(VerifyFailed::code) else {
            return done;
        };
        let named = Named::Source(from.name().clone());
        if !self.refusals.admits(code, named, self.now()) {
            return done;
        }
        let mut commit = self.commit_as(from.actor());
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
}

fn evidence_key(writeback: WritebackId) -> RecordKey {
    RecordKey::new(VERIFICATIONS, format!("evidence/{writeback}"))
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
