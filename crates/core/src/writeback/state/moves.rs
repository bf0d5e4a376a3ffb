//! What each state tells, and what it may become: a transition consumes the state and takes its evidence.

use super::*;

impl Proposed {
    /// It passed validation.
    pub fn validated(
        self,
        validation: ValidationRecord,
        change: Change,
        class: ChangeClass,
        entries: Vec<EntryValidated>,
    ) -> Validated {
        Validated {
            proposal: self.proposal,
            validation,
            change,
            class,
            entries,
        }
    }

    /// It ended here.
    pub fn refused(self, by: RefusedBy) -> Refused {
        Refused {
            proposal: self.proposal,
            ruled: None,
            by,
        }
    }
}

impl Validated {
    /// What the change is.
    pub fn change(&self) -> &Change {
        &self.change
    }

    /// How material it is; of several changes, the gravest.
    pub fn class(&self) -> ChangeClass {
        self.class
    }

    /// Of several changes that are decided as one: each of them, in order.
    pub fn entries(&self) -> &[EntryValidated] {
        &self.entries
    }

    /// What was checked.
    pub fn validation(&self) -> &ValidationRecord {
        &self.validation
    }

    /// The matrix ruled; the gate decides where it goes.
    pub(super) fn ruled(self, ruling: RulingRecord, order: OrderRef, at: Timestamp) -> Writeback {
        let ruled = Ruled {
            proposal: self.proposal,
            validation: self.validation,
            change: self.change,
            entries: self.entries,
            ruling,
            order,
        };
        match (&ruled.ruling.gate, ruled.ruling.destination) {
            (Gate::Deny, _) => {
                let code = ruled
                    .ruling
                    .denial
                    .clone()
                    .unwrap_or_else(|| "denied".to_owned());
                Writeback::Refused(Box::new(Refused {
                    proposal: ruled.proposal.clone(),
                    ruled: Some(ruled),
                    by: RefusedBy::Policy { code },
                }))
            }
            (Gate::Auto, Destination::Staged) => Writeback::Staged(Box::new(Staged {
                ruled,
                promoted_by: None,
            })),
            (Gate::Auto, Destination::Ehr) => {
                Writeback::Ready(Box::new(Ready::enter(ruled, Vec::new(), at)))
            }
            // Unsigned it has no effect: the person who signs it in the EHR is who approves it.
            (Gate::Approve { .. } | Gate::Approve2f { .. }, Destination::Ehr)
                if ruled.order.strategy == Strategy::EhrStaged =>
            {
                Writeback::Ready(Box::new(Ready::enter(ruled, Vec::new(), at)))
            }
            (Gate::AutoVerified { .. }, _) => {
                Writeback::AwaitingVerification(Box::new(AwaitingVerification { ruled }))
            }
            (Gate::Approve { .. } | Gate::Approve2f { .. } | Gate::TwoPerson { .. }, _) => {
                Writeback::AwaitingApproval(Box::new(AwaitingApproval {
                    ruled,
                    approvals: Vec::new(),
                }))
            }
        }
    }

    /// It ended here.
    pub fn refused(self, by: RefusedBy) -> Refused {
        Refused {
            proposal: self.proposal,
            ruled: None,
            by,
        }
    }
}

impl Staged {
    /// What was ruled.
    pub fn ruled(&self) -> &Ruled {
        &self.ruled
    }

    /// The write-back that took it up.
    pub fn promoted_by(&self) -> Option<WritebackId> {
        self.promoted_by
    }
}

impl AwaitingVerification {
    /// What was ruled.
    pub fn ruled(&self) -> &Ruled {
        &self.ruled
    }

    /// The facts are established: it goes where its destination says.
    pub(super) fn verified(self, at: Timestamp) -> Writeback {
        match self.ruled.ruling.destination {
            Destination::Staged => Writeback::Staged(Box::new(Staged {
                ruled: self.ruled,
                promoted_by: None,
            })),
            Destination::Ehr => {
                Writeback::Ready(Box::new(Ready::enter(self.ruled, Vec::new(), at)))
            }
        }
    }

    /// It ended here.
    pub fn refused(self, by: RefusedBy) -> Refused {
        Refused {
            proposal: self.ruled.proposal.clone(),
            ruled: Some(self.ruled),
            by,
        }
    }
}

impl AwaitingApproval {
    /// What was ruled.
    pub fn ruled(&self) -> &Ruled {
        &self.ruled
    }

    /// Approvals given so far.
    pub fn approvals(&self) -> &[ApprovalRecord] {
        &self.approvals
    }

    /// Takes an approval; the last one needed spends them all and enters the queue.
    pub(super) fn approved(mut self, approval: ApprovalRecord, at: Timestamp) -> Writeback {
        let cosigned = !approval.in_training;
        self.approvals.push(approval);
        let complete = match self.ruled.ruling.gate {
            Gate::TwoPerson { .. } => self.approvals.len() >= 2,
            _ => cosigned,
        };
        if !complete {
            return Writeback::AwaitingApproval(Box::new(self));
        }
        match self.ruled.ruling.destination {
            Destination::Staged => Writeback::Staged(Box::new(Staged {
                ruled: self.ruled,
                promoted_by: None,
            })),
            Destination::Ehr => {
                Writeback::Ready(Box::new(Ready::enter(self.ruled, self.approvals, at)))
            }
        }
    }

    /// It ended here.
    pub fn refused(self, by: RefusedBy) -> Refused {
        Refused {
            proposal: self.ruled.proposal.clone(),
            ruled: Some(self.ruled),
            by,
        }
    }
}

impl Ready {
    pub(super) fn enter(ruled: Ruled, approvals: Vec<ApprovalRecord>, at: Timestamp) -> Self {
        let within = jiff::SignedDuration::from_secs(ruled.order.deliver_within_s.max(0));
        let deliver_by = at.checked_add(within).unwrap_or(Timestamp::MAX);
        Self {
            ruled,
            approvals,
            attempts: 0,
            deliver_by,
            not_before: None,
        }
    }

    /// What was ruled.
    pub fn ruled(&self) -> &Ruled {
        &self.ruled
    }

    /// The approvals that were spent on entering the queue; none for an automatic gate.
    pub fn approvals(&self) -> &[ApprovalRecord] {
        &self.approvals
    }

    /// Attempts so far.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// After this it is void.
    pub fn deliver_by(&self) -> Timestamp {
        self.deliver_by
    }

    /// Before this it is not tried again.
    pub fn not_before(&self) -> Option<Timestamp> {
        self.not_before
    }

    /// Starts an attempt.
    pub fn start_delivery(self, start: DeliveryStart) -> InDelivery {
        InDelivery {
            ready: Ready {
                attempts: start.attempt,
                ..self
            },
            start,
        }
    }

    /// It is no longer valid.
    pub fn voided(self, reason: VoidReason) -> Void {
        Void {
            ready: self,
            reason,
        }
    }

    pub(super) fn again(self, not_before: Timestamp) -> Writeback {
        Writeback::Ready(Box::new(Ready {
            not_before: Some(not_before),
            ..self
        }))
    }
}

impl InDelivery {
    /// What is being sent.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The attempt.
    pub fn start(&self) -> &DeliveryStart {
        &self.start
    }

    /// Whether it waits for a person to enter it, so that Chaperone itself sends nothing.
    pub fn is_human_entry(&self) -> bool {
        self.ready.ruled.order.strategy == Strategy::HumanEntry
    }

    /// Whether what is sent has no effect until a person signs it in the EHR.
    pub fn is_placed_unsigned(&self) -> bool {
        self.ready.ruled.order.strategy == Strategy::EhrStaged
    }

    /// The EHR has it unsigned.
    pub(super) fn placed(self, placed: DeliveryReceipt, since: Timestamp) -> AwaitingSignature {
        AwaitingSignature {
            ready: self.ready,
            start: self.start,
            placed,
            since,
            approval: None,
        }
    }

    /// Its outcome is not known.
    pub fn outcome_unknown(self, since: Timestamp) -> Unknown {
        Unknown {
            ready: self.ready,
            start: self.start,
            since,
            human_needed: None,
        }
    }
}

impl AwaitingSignature {
    /// What was placed.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The attempt that placed it.
    pub fn start(&self) -> &DeliveryStart {
        &self.start
    }

    /// What the placing can show.
    pub fn placed(&self) -> &DeliveryReceipt {
        &self.placed
    }

    /// Since when it waits.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Until when a signature counts: as long as an approval would have.
    pub fn sign_by(&self) -> Timestamp {
        self.ready.ruled.order.approve_by
    }

    /// The signature, once it was seen.
    pub fn approval(&self) -> Option<&ApprovalRecord> {
        self.approval.as_ref()
    }

    pub(super) fn signed(self, approval: ApprovalRecord) -> Self {
        Self {
            approval: Some(approval),
            ..self
        }
    }

    /// The signature is the approval, spent with the delivery that it makes.
    pub(super) fn delivered(self, receipt: DeliveryReceipt, at: Timestamp) -> Writeback {
        let ready = Ready {
            approvals: self.approval.into_iter().collect(),
            ..self.ready
        };
        super::history::delivered(ready, receipt, at)
    }
}

impl Unknown {
    /// Whether what was sent has no effect until a person signs it in the EHR.
    pub fn is_placed_unsigned(&self) -> bool {
        self.ready.ruled.order.strategy == Strategy::EhrStaged
    }

    /// The EHR has it unsigned.
    pub(super) fn placed(self, placed: DeliveryReceipt, since: Timestamp) -> AwaitingSignature {
        AwaitingSignature {
            ready: self.ready,
            start: self.start,
            placed,
            since,
            approval: None,
        }
    }

    /// What was being sent.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The attempt in question.
    pub fn start(&self) -> &DeliveryStart {
        &self.start
    }

    /// Since when.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Why a human must decide, once reconciling could not.
    pub fn human_needed(&self) -> Option<HumanNeeded> {
        self.human_needed
    }
}

impl Delivered {
    /// What was sent.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// What it can show.
    pub fn receipt(&self) -> &DeliveryReceipt {
        &self.receipt
    }

    /// When it was confirmed.
    pub fn at(&self) -> Timestamp {
        self.at
    }
}

impl DeadLetter {
    /// What could not be sent.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The last cause.
    pub fn cause(&self) -> FailureCause {
        self.cause
    }
}

impl Refused {
    /// By whom or what.
    pub fn by(&self) -> &RefusedBy {
        &self.by
    }

    /// The ruling, when it got that far.
    pub fn ruled(&self) -> Option<&Ruled> {
        self.ruled.as_ref()
    }
}

impl Void {
    /// What was approved.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Why it is void.
    pub fn reason(&self) -> VoidReason {
        self.reason
    }
}

impl Abandoned {
    /// What was given up.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Who gave it up.
    pub fn person(&self) -> PersonId {
        self.person
    }
}

impl Quarantined {
    /// Whether the time has passed in which it could still have been decided on, or sent.
    pub fn is_over(&self, now: Timestamp) -> bool {
        match &self.held {
            Writeback::AwaitingApproval(s) => now > s.ruled.order.approve_by,
            Writeback::AwaitingVerification(s) => now > s.ruled.order.approve_by,
            Writeback::Ready(s) => now > s.deliver_by,
            _ => false,
        }
    }

    /// The state it came from.
    pub fn held(&self) -> &Writeback {
        &self.held
    }

    /// Why it was set aside.
    pub fn reason(&self) -> QuarantineReason {
        self.reason
    }
}

impl Compensated {
    /// What was undone.
    pub fn delivered(&self) -> &Delivered {
        &self.delivered
    }

    /// The write-back that undid it.
    pub fn by(&self) -> WritebackId {
        self.by
    }
}

/// The gravest class of a canary: above it everything is urgent, and nobody's time is taken from that.
///
/// # Source
/// `rules/oversight.toml`, `[pace] urgent_from`: from M4 on nothing is held up.
pub const CANARY_CLASS_MAX: ChangeClass = ChangeClass::M3;

impl Canary {
    /// What was put before its approvers, where it is something that one person decides about and that is not grave.
    pub(super) fn seeded(seed: CanarySeed) -> Option<Self> {
        let CanarySeed { mark, ruled } = seed;
        let roles = match &ruled.ruling.gate {
            Gate::Approve { roles } | Gate::Approve2f { roles } => roles,
            _ => return None,
        };
        let is_fit = roles.contains(&mark.pool)
            && ruled.change.class().ok() == Some(ruled.ruling.class)
            && ruled.ruling.class <= CANARY_CLASS_MAX
            && ruled.proposal.undo.is_none()
            && ruled.proposal.edit.is_none();
        is_fit.then(|| Self {
            mark,
            waiting: AwaitingApproval {
                ruled,
                approvals: Vec::new(),
            },
        })
    }

    /// Which it is.
    pub fn mark(&self) -> &CanaryMark {
        &self.mark
    }

    /// What it looks like.
    pub fn waiting(&self) -> &AwaitingApproval {
        &self.waiting
    }

    /// It was decided about, or taken back.
    pub(super) fn settled(self, outcome: CanaryOutcome) -> Writeback {
        Writeback::CanarySettled(Box::new(CanarySettled {
            mark: self.mark,
            ruled: self.waiting.ruled,
            outcome,
        }))
    }
}

impl CanarySettled {
    /// Which it was.
    pub fn mark(&self) -> &CanaryMark {
        &self.mark
    }

    /// What became of it.
    pub fn outcome(&self) -> &CanaryOutcome {
        &self.outcome
    }
}
