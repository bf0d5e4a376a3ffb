//! Human decisions about a write-back: approve, reject; and, for what could not be sent, requeue,
//! abandon, resolve, attest, decline.
//!
//! An approval names the digest that was on the screen. When anything about the order changed since,
//! the digest differs and the approval is refused; when the gate demands a second factor, the step-up
//! must have been given for the same digest, and is consumed in the same commit.

use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::event::StreamId;
use chaperone_core::evidence::{Approval, ApprovalRecord, Factor};
use chaperone_core::gate::{Gate, ProofLevel};
use chaperone_core::ids::{OverrideReason, PersonId, StepUpId, WorkId, WritebackId};
use chaperone_core::ports::{
    Commit, CommitFailed, Guard, KeyVaultFailed, PayloadClass, RecordChange, RecordKey,
    StoreFailed, WorkChange,
};
use chaperone_core::principal::{Actor, Human, Role, SystemPart};
use chaperone_core::writeback::{
    Command, DeliveryReceipt, NotAppliedBasis, Refusal, RefusedBy, Ruled, Writeback,
};

use crate::context::Engine;
use crate::deliver::{HELD, approval_ran_out};
use crate::oversight::Paced;
use crate::people::{StepUpBy, StepUpFor, StepUpState};
use crate::projection::WritebackRow;
use crate::transition::{InHand, MoveFailed};

/// Collection of step-ups; written by `people`, consumed here.
pub(crate) const STEP_UPS: &str = "step_up";

/// What a human approves.
#[derive(Debug, Clone)]
pub struct ApproveRequest {
    /// The write-back.
    pub writeback: WritebackId,
    /// The digest that was on the screen.
    pub digest: Digest,
    /// The step-up, where the gate demands one.
    pub step_up: Option<StepUpId>,
    /// Why it is approved although a plausibility rule warns, where one does: a code of
    /// `rules/override-reasons.toml`.
    pub override_reason: Option<OverrideReason>,
    /// Milliseconds between opening the review and deciding.
    pub review_ms: u64,
}

/// Why a decision was not taken.
#[derive(Debug, thiserror::Error)]
pub enum DecideFailed {
    /// There is no such write-back.
    #[error("there is no such write-back")]
    Missing,
    /// The state machine refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The step-up is unknown, somebody else's, for other content, too old, or used.
    #[error("the second factor was not given for this change, or is too old; give it again")]
    StepUp,
    /// It was ruled on under a bundle that is no longer in force, and has been ended.
    #[error(
        "the rules changed since this was ruled on, so it was ended; the agent can propose it again"
    )]
    RulesChanged,
    /// A switch holds back what people decide.
    #[error(
        "a switch stands at read only, so nothing is approved or changed now; you can still say no"
    )]
    Switched,
    /// The person approved too much or too fast, and pauses. Nothing urgent is held up by it.
    #[error(
        "you approved many changes in a short time, so pause until {until}; the others who may decide were told, and you can still say no"
    )]
    Pause {
        /// Until when.
        until: Timestamp,
    },
    /// Somebody else has it in hand.
    #[error(
        "this is in the hands of {holder}; take it over with a note, or wait until they let it go"
    )]
    Claimed {
        /// Who, in words.
        holder: String,
        /// Until when by itself.
        until: Timestamp,
    },
    /// It was not before them long enough.
    #[error("read it first: it can be decided once it has been before you for {} seconds", .least_ms.div_ceil(1_000))]
    NotRead {
        /// How long, in milliseconds.
        least_ms: u32,
    },
    /// Too grave, or of another kind, to be decided together with others.
    #[error("this is decided by itself; open it")]
    ByItself,
    /// More at once than the bundle allows, or one of them twice.
    #[error("these are too many to decide together")]
    TooManyAtOnce,
    /// The reason for approving over a warning is not one that the bundle lists.
    #[error("this is not one of the reasons for approving over a warning")]
    OverrideReasonUnknown,
    /// Decision support stands against it.
    #[error(transparent)]
    DecisionSupport(#[from] crate::decision_support::SupportStands),
    /// There is no such critical card about this order that waits for a decision.
    #[error("this card is not open any more; look at the order again")]
    CardUnknown,
    /// A reason is needed.
    #[error("a reason is needed, of 3 to 2,000 characters")]
    ReasonNeeded,
    /// A draft that was to be signed at the EHR is not there as it was placed.
    #[error(
        "the EHR does not show it as it was placed; take away there what is there of it, and then say that it is not there"
    )]
    NotAsPlaced,
    /// The EHR must be asked, and does not answer.
    #[error("the EHR does not answer now; try again shortly")]
    EhrAway,
    /// Somebody else was first.
    #[error("somebody else acted on this just now; look at it again")]
    Conflict,
    /// The store failed.
    #[error(transparent)]
    Store(StoreFailed),
    /// The decision could not be recorded, so it was not taken.
    #[error("the decision could not be recorded, so it was not taken")]
    Commit(#[source] CommitFailed),
    /// The key vault failed.
    #[error(transparent)]
    Keys(#[from] KeyVaultFailed),
}

impl From<MoveFailed> for DecideFailed {
    fn from(failed: MoveFailed) -> Self {
        match failed {
            MoveFailed::Missing => DecideFailed::Missing,
            MoveFailed::Refused(refusal) => DecideFailed::Refused(refusal),
            MoveFailed::Store(failed) => DecideFailed::Store(failed),
        }
    }
}

impl From<StoreFailed> for DecideFailed {
    fn from(failed: StoreFailed) -> Self {
        DecideFailed::Store(failed)
    }
}

impl From<CommitFailed> for DecideFailed {
    fn from(failed: CommitFailed) -> Self {
        match failed {
            CommitFailed::Conflict { .. } => DecideFailed::Conflict,
            CommitFailed::Record { collection } if collection == STEP_UPS => DecideFailed::StepUp,
            CommitFailed::Record { .. } | CommitFailed::ClaimLost => DecideFailed::Conflict,
            other => DecideFailed::Commit(other),
        }
    }
}

impl DecideFailed {
    /// Whether it failed on our side, so that it is no refusal.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(
            self,
            DecideFailed::Store(_)
                | DecideFailed::Commit(_)
                | DecideFailed::Keys(_)
                | DecideFailed::EhrAway
        )
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            DecideFailed::Missing => "not-found",
            DecideFailed::Refused(refusal) => refusal.code(),
            DecideFailed::StepUp => "second-factor-required",
            DecideFailed::RulesChanged => "rules-changed",
            DecideFailed::Switched => "read-only",
            DecideFailed::Pause { .. } => "pause",
            DecideFailed::Claimed { .. } => "claimed-by-another",
            DecideFailed::NotRead { .. } => "not-read-yet",
            DecideFailed::ByItself => "decided-by-itself",
            DecideFailed::TooManyAtOnce => "too-many-at-once",
            DecideFailed::OverrideReasonUnknown => "override-reason-unknown",
            DecideFailed::DecisionSupport(stands) => stands.code(),
            DecideFailed::CardUnknown => "card-unknown",
            DecideFailed::ReasonNeeded => "reason-needed",
            DecideFailed::NotAsPlaced => "not-as-placed",
            DecideFailed::EhrAway => "ehr-unavailable",
            DecideFailed::Conflict => "conflict",
            DecideFailed::Store(_) | DecideFailed::Commit(_) => "ledger-unavailable",
            DecideFailed::Keys(_) => "internal",
        }
    }
}

/// Who may enter a change into the EHR by hand, and say so.
pub(crate) const ENTERS: [Role; 6] = [
    Role::Clinician,
    Role::Him,
    Role::Rn,
    Role::MaRn,
    Role::Scheduler,
    Role::Pharmacist,
];
/// Who may look up in the EHR what became of a send.
pub(crate) const RESOLVES: [Role; 5] = [
    Role::Clinician,
    Role::Him,
    Role::Rn,
    Role::MaRn,
    Role::Scheduler,
];
/// Who may put back or give up what could not be sent.
pub(crate) const OPERATES: [Role; 3] = [Role::ItAdmin, Role::Clinician, Role::Him];

/// Characters of a reason.
const REASON_CHARS: std::ops::RangeInclusive<usize> = 3..=2_000;

/// What [`crate::decide`] asks, which says what each is for and records what is refused.
impl Engine {
    pub(crate) async fn try_approve(
        &self,
        by: &Human,
        request: ApproveRequest,
        among: u32,
    ) -> Result<WritebackRow, DecideFailed> {
        if let Some(reason) = &request.override_reason
            && !self
                .tables
                .override_reasons()
                .iter()
                .any(|it| it.code == *reason)
        {
            return Err(DecideFailed::OverrideReasonUnknown);
        }
        let mut hand = self.take_in_hand(request.writeback).await?;
        let role = open_role(&hand.state, by)?;
        let ruled = hand.state.ruled().ok_or(DecideFailed::Missing)?;
        if ruled.ruling.bundle != *self.bundle.digest() {
            return self.end_outdated(hand, self.now()).await;
        }
        let (takes_decisions, modes_version) = self.takes_decisions(ruled).await?;
        if !takes_decisions {
            return Err(DecideFailed::Switched);
        }
        let class = ruled.ruling.class;
        let read_ms = self.require_read(by, &hand, &request.digest, among).await?;
        let mut commit = self.commit_as(Actor::from(by));
        commit.guards.push(Guard::StreamAt {
            stream: StreamId::Modes,
            version: modes_version,
        });
        self.end_claim(by, request.writeback, &mut commit).await?;
        let factor = match request.step_up {
            Some(step_up) => {
                let writeback = request.writeback;
                let subject = StepUpFor::Approval { writeback };
                self.consume_step_up(by, step_up, subject, &request.digest, &mut commit)
                    .await?
            }
            None => Factor::None,
        };
        // The share of each change, where several are decided together or as one.
        let changes = hand
            .state
            .ruled()
            .map_or(1, |ruled| ruled.changes().count());
        let changes = u32::try_from(changes).unwrap_or(u32::MAX).max(1);
        let shared_by = u64::from(among.max(1)).saturating_mul(u64::from(changes));
        let review_ms = read_ms.unwrap_or(request.review_ms)
            / match read_ms {
                Some(_) => shared_by,
                None => u64::from(changes),
            };
        let approved_at = |at: Timestamp| {
            granted(ApprovalRecord {
                digest: request.digest,
                person: by.person,
                account: by.account.clone(),
                role,
                factor: factor.clone(),
                at,
                review_ms,
                override_reason: request.override_reason.clone(),
                in_training: by.is_in_training(),
            })
        };
        // Only what would count is held against the person's pace.
        let now = self.now();
        let approval = approved_at(now);
        let as_it_waits = hand.clone();
        hand.clone().step(
            Command::Approve {
                approval: &approval,
            },
            now,
        )?;
        self.support_allows(&mut hand, by).await?;
        let paced = self
            .pace(by, class, (changes, review_ms), &mut commit)
            .await;
        if matches!(paced, Err(DecideFailed::Pause { .. })) {
            self.notify_waiting(&as_it_waits);
        }
        let paced = paced?;
        // After everything that had to be waited for, and for the record as well: what took too long is too late.
        let now = self.now();
        commit.at = now;
        let approval = approved_at(now);
        hand.step(
            Command::Approve {
                approval: &approval,
            },
            now,
        )?;
        if matches!(paced, Paced::PassesUrgent) {
            self.tell_of_urgent(request.writeback);
        }
        if matches!(hand.state, Writeback::Ready(_)) {
            self.enqueue(&hand, &mut commit);
        }
        self.finish(hand, commit).await
    }

    /// Whether no switch holds back what people decide about it, and the version of the switches that say so.
    pub(crate) async fn takes_decisions(&self, ruled: &Ruled) -> Result<(bool, u64), StoreFailed> {
        let (modes, version) = self.modes().await?;
        let taken = ruled.touched().all(|it| modes.effective(it).decides());
        Ok((taken, version))
    }

    /// Ends what was ruled on under other rules than those in force: nobody is asked to agree to a ruling
    /// that would not be made any more.
    pub(crate) async fn end_outdated(
        &self,
        mut hand: InHand,
        now: Timestamp,
    ) -> Result<WritebackRow, DecideFailed> {
        let refused = RefusedBy::RulesChanged;
        hand.step(Command::Refuse { refused }, now)?;
        let commit = self.commit_as(Actor::System {
            part: SystemPart::Expiry,
        });
        self.finish(hand, commit).await?;
        Err(DecideFailed::RulesChanged)
    }

    pub(crate) async fn try_reject(
        &self,
        by: &Human,
        writeback: WritebackId,
        digest: Digest,
        reason: &str,
    ) -> Result<WritebackRow, DecideFailed> {
        let mut hand = self.take_in_hand(writeback).await?;
        gate_role(&hand.state, by)?;
        if hand
            .state
            .ruled()
            .is_none_or(|ruled| ruled.order.digest != digest)
        {
            return Err(Refusal::ApprovalMismatch.into());
        }
        self.require_read(by, &hand, &digest, 1).await?;
        let mut commit = self.commit_as(Actor::from(by));
        self.end_claim(by, writeback, &mut commit).await?;
        let reason = self.seal_reason(&hand, reason, &mut commit).await?;
        let refused = RefusedBy::Human {
            person: by.person,
            reason,
        };
        hand.step(Command::Refuse { refused }, self.now())?;
        self.finish(hand, commit).await
    }

    pub(crate) async fn try_requeue(
        &self,
        by: &Human,
        writeback: WritebackId,
        reason: &str,
    ) -> Result<WritebackRow, DecideFailed> {
        require(by, &OPERATES)?;
        let mut hand = self.take_in_hand(writeback).await?;
        if let Writeback::DeadLetter(dead) = &hand.state
            && approval_ran_out(dead.ready(), self.now())
        {
            return Err(Refusal::OutsideDeliveryWindow.into());
        }
        let mut commit = self.commit_as(Actor::from(by));
        let reason = self.seal_reason(&hand, reason, &mut commit).await?;
        hand.step(
            Command::Requeue {
                person: by.person,
                reason,
            },
            self.now(),
        )?;
        self.enqueue(&hand, &mut commit);
        self.finish(hand, commit).await
    }

    pub(crate) async fn try_abandon(
        &self,
        by: &Human,
        writeback: WritebackId,
        reason: &str,
    ) -> Result<WritebackRow, DecideFailed> {
        require(by, &OPERATES)?;
        let mut hand = self.take_in_hand(writeback).await?;
        let mut commit = self.commit_as(Actor::from(by));
        let reason = self.seal_reason(&hand, reason, &mut commit).await?;
        hand.step(
            Command::Abandon {
                person: by.person,
                reason,
            },
            self.now(),
        )?;
        self.finish(hand, commit).await
    }

    pub(crate) async fn try_resolve_unknown(
        &self,
        by: &Human,
        writeback: WritebackId,
        applied: bool,
        note: &str,
    ) -> Result<WritebackRow, DecideFailed> {
        require(by, &RESOLVES)?;
        let now = self.now();
        let mut hand = self.take_in_hand(writeback).await?;
        let Writeback::Unknown(unknown) = &hand.state else {
            return Err(Refusal::NotNow(hand.state.told_name()).into());
        };
        if unknown.human_needed().is_none() {
            return Err(Refusal::NotNow(hand.state.told_name()).into());
        }
        if applied && unknown.is_placed_unsigned() {
            let unknown = unknown.clone();
            return self.draft_is_there(by, hand, &unknown).await;
        }
        let mut commit = self.commit_as(Actor::from(by));
        let note = self.seal_reason(&hand, note, &mut commit).await?;
        let held = self.release_held(writeback, &mut commit).await?;
        if applied {
            let receipt = attested(by.person, note);
            hand.step(Command::FindApplied { receipt }, now)?;
            commit
                .work
                .extend(held.map(|id| WorkChange::Complete { id, claim: None }));
        } else {
            let basis = NotAppliedBasis::Human { person: by.person };
            hand.step(
                Command::FindNotApplied {
                    basis,
                    retry_at: now,
                },
                now,
            )?;
            match held {
                Some(id) => commit.work.push(WorkChange::Defer {
                    id,
                    claim: None,
                    due: now,
                    kind: Some(chaperone_core::ports::WorkKind::Deliver),
                }),
                None => self.enqueue(&hand, &mut commit),
            }
        }
        self.finish(hand, commit).await
    }

    pub(crate) async fn try_decline_entry(
        &self,
        by: &Human,
        writeback: WritebackId,
        reason: &str,
    ) -> Result<WritebackRow, DecideFailed> {
        require(by, &ENTERS)?;
        let mut hand = self.take_in_hand(writeback).await?;
        if !matches!(&hand.state, Writeback::Delivering(entry) if entry.is_human_entry()) {
            return Err(Refusal::NotNow(hand.state.told_name()).into());
        }
        let mut commit = self.commit_as(Actor::from(by));
        let reason = self.seal_reason(&hand, reason, &mut commit).await?;
        let person = by.person;
        hand.step(Command::Abandon { person, reason }, self.now())?;
        let held = self.release_held(writeback, &mut commit).await?;
        commit
            .work
            .extend(held.map(|id| WorkChange::Complete { id, claim: None }));
        self.finish(hand, commit).await
    }

    pub(crate) async fn try_attest_entry(
        &self,
        by: &Human,
        writeback: WritebackId,
        note: &str,
    ) -> Result<WritebackRow, DecideFailed> {
        require(by, &ENTERS)?;
        let mut hand = self.take_in_hand(writeback).await?;
        let Writeback::Delivering(in_delivery) = &hand.state else {
            return Err(Refusal::NotNow(hand.state.told_name()).into());
        };
        if !in_delivery.is_human_entry() {
            return Err(Refusal::NotNow(hand.state.told_name()).into());
        }
        let delivering = self
            .delivering_again(in_delivery)
            .await
            .map_err(|_| DecideFailed::Conflict)?;
        let mut commit = self.commit_as(Actor::from(by));
        let note = self.seal_reason(&hand, note, &mut commit).await?;
        let receipt = attested(by.person, note);
        hand.step(
            Command::ConfirmDelivery {
                delivering: &delivering,
                receipt,
            },
            self.now(),
        )?;
        let held = self.release_held(writeback, &mut commit).await?;
        commit
            .work
            .extend(held.map(|id| WorkChange::Complete { id, claim: None }));
        self.finish(hand, commit).await
    }

    pub(crate) async fn finish(
        &self,
        mut hand: InHand,
        mut commit: Commit,
    ) -> Result<WritebackRow, DecideFailed> {
        self.tell_patient_later(&hand, &mut commit);
        let row = hand.write_into(&mut commit)?;
        self.store.commit(commit).await?;
        self.announce_change();
        self.notify_waiting(&hand);
        Ok(row)
    }

    /// Checks a step-up and puts its consumption into the commit: it is used at most once.
    pub(crate) async fn consume_step_up(
        &self,
        by: &Human,
        step_up: StepUpId,
        subject: StepUpFor,
        digest: &Digest,
        commit: &mut Commit,
    ) -> Result<Factor, DecideFailed> {
        let key = RecordKey::new(STEP_UPS, step_up);
        let now = self.now();
        let record = self
            .store
            .record(&self.config.tenant, &key, now)
            .await?
            .ok_or(DecideFailed::StepUp)?;
        let found: StepUpState =
            serde_json::from_value(record.value).map_err(|_| DecideFailed::StepUp)?;
        let fresh = found
            .verified_at
            .filter(|at| now.duration_since(*at).as_secs() <= self.config.step_up_s && *at <= now);
        match fresh {
            Some(at)
                if found.person == by.person
                    && found.account == by.account
                    && found.subject == subject
                    && found.digest == *digest =>
            {
                commit.records.push(RecordChange::Consume(key));
                Ok(match found.by {
                    StepUpBy::Code => Factor::Totp { at },
                    StepUpBy::Passkey { credential } => Factor::Passkey { at, credential },
                })
            }
            _ => Err(DecideFailed::StepUp),
        }
    }

    pub(crate) async fn seal_reason(
        &self,
        hand: &InHand,
        reason: &str,
        commit: &mut Commit,
    ) -> Result<chaperone_core::digest::PayloadAddress, DecideFailed> {
        let reason = reason.trim();
        if !REASON_CHARS.contains(&reason.chars().count()) {
            return Err(DecideFailed::ReasonNeeded);
        }
        let patient = hand.state.proposal().patient;
        let sealed = self
            .seal(PayloadClass::ApprovalNote, patient, reason.as_bytes())
            .await?;
        let address = sealed.address;
        commit.payloads.push(sealed);
        Ok(address)
    }

    /// The work item that holds a write-back's place in its patient's order; the note of it is taken
    /// away in the commit that lets it go.
    pub(crate) async fn release_held(
        &self,
        writeback: WritebackId,
        commit: &mut Commit,
    ) -> Result<Option<WorkId>, StoreFailed> {
        let key = RecordKey::new(HELD, writeback);
        let record = self
            .store
            .record(&self.config.tenant, &key, self.now())
            .await?;
        let Some(record) = record else {
            return Ok(None);
        };
        commit.records.push(RecordChange::Consume(key));
        serde_json::from_value(record.value)
            .map(Some)
            .map_err(|e| StoreFailed::Corrupt(e.to_string()))
    }
}

/// Makes a record evidence: of a person who is signed in here, or of one whose signature the EHR reports.
#[expect(
    clippy::disallowed_methods,
    reason = "the one site: signed in with the step-up checked, or signed in the EHR (`deliver::signature`)"
)]
pub(crate) fn granted(record: ApprovalRecord) -> Approval {
    Approval::grant(record)
}

/// A human's attestation as a receipt: their note stands where a location would.
fn attested(person: PersonId, note: chaperone_core::digest::PayloadAddress) -> DeliveryReceipt {
    DeliveryReceipt {
        proof: ProofLevel::P0,
        location: note,
        read_back: None,
        provenance_written: false,
        attested_by: Some(person),
        also: Vec::new(),
    }
}

/// The role under which a person has a say about a waiting write-back: whoever may approve may refuse,
/// also after having approved, while nothing is in the queue. Under a protocol that is whom it names, even when it has
/// ended meanwhile: to refuse is still theirs.
pub(crate) fn gate_role(state: &Writeback, by: &Human) -> Result<Role, DecideFailed> {
    let Some(waiting) = state.before_people() else {
        return Err(Refusal::NotNow(state.told_name()).into());
    };
    let roles: Vec<Role> = match &waiting.ruled().ruling.gate {
        Gate::Approve { roles } | Gate::Approve2f { roles } => roles.iter().copied().collect(),
        Gate::TwoPerson { first, second } => vec![*first, *second],
        Gate::Auto | Gate::AutoVerified { .. } | Gate::Deny => Vec::new(),
    };
    let role = roles.into_iter().find(|role| by.holds(*role));
    let role = role.ok_or(Refusal::RoleNotPermitted)?;
    let protocol = waiting.ruled().ruling.protocol.as_ref();
    if protocol.is_some_and(|it| !it.names(&by.account)) {
        return Err(Refusal::NotNamedByProtocol.into());
    }
    Ok(role)
}

/// The role under which a person can approve a waiting write-back.
fn open_role(state: &Writeback, by: &Human) -> Result<Role, DecideFailed> {
    let Some(waiting) = state.before_people() else {
        return Err(Refusal::NotNow(state.told_name()).into());
    };
    let given = |role: Role| waiting.approvals().iter().any(|a| a.role == role);
    let roles: Vec<Role> = match &waiting.ruled().ruling.gate {
        Gate::Approve { roles } | Gate::Approve2f { roles } => roles.iter().copied().collect(),
        Gate::TwoPerson { first, second } => [*first, *second]
            .into_iter()
            .filter(|role| !given(*role))
            .collect(),
        Gate::Auto | Gate::AutoVerified { .. } | Gate::Deny => Vec::new(),
    };
    roles
        .into_iter()
        .find(|role| by.holds(*role))
        .ok_or_else(|| Refusal::RoleNotPermitted.into())
}

pub(crate) fn require(by: &Human, roles: &[Role]) -> Result<(), DecideFailed> {
    if roles.iter().any(|role| by.holds(*role)) {
        Ok(())
    } else {
        Err(Refusal::RoleNotPermitted.into())
    }
}
