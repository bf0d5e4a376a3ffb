//! The state that a history of events leads to. A total match; what is not listed is illegal.

use super::*;

impl Writeback {
    /// The first event makes the first state.
    ///
    /// # Errors
    /// [`Illegal`] when the history does not start with a proposal, or with a canary that may be one.
    pub fn begin(event: &WritebackEvent) -> Result<Writeback, Illegal> {
        match event {
            WritebackEvent::Proposed(proposal) => Ok(Writeback::Proposed(Box::new(Proposed {
                proposal: (**proposal).clone(),
            }))),
            WritebackEvent::CanarySeeded(seed) => Canary::seeded((**seed).clone())
                .map(|canary| Writeback::Canary(Box::new(canary)))
                .ok_or(Illegal {
                    state: StateName::Canary,
                }),
            _ => Err(Illegal {
                state: StateName::Proposed,
            }),
        }
    }

    /// What was asked.
    pub fn proposal(&self) -> &Proposal {
        match self {
            Writeback::Proposed(s) => &s.proposal,
            Writeback::Validated(s) => &s.proposal,
            Writeback::Refused(s) => &s.proposal,
            Writeback::Quarantined(s) => s.held.proposal(),
            Writeback::Staged(s) => &s.ruled.proposal,
            Writeback::AwaitingVerification(s) => &s.ruled.proposal,
            Writeback::AwaitingApproval(s) => &s.ruled.proposal,
            Writeback::Ready(s) => &s.ruled.proposal,
            Writeback::Delivering(s) => &s.ready.ruled.proposal,
            Writeback::Unknown(s) => &s.ready.ruled.proposal,
            Writeback::AwaitingSignature(s) => &s.ready.ruled.proposal,
            Writeback::Delivered(s) => &s.ready.ruled.proposal,
            Writeback::DeadLetter(s) => &s.ready.ruled.proposal,
            Writeback::Void(s) => &s.ready.ruled.proposal,
            Writeback::Abandoned(s) => &s.ready.ruled.proposal,
            Writeback::Compensated(s) => &s.delivered.ready.ruled.proposal,
            Writeback::Canary(s) => &s.waiting.ruled.proposal,
            Writeback::CanarySettled(s) => &s.ruled.proposal,
        }
    }

    /// What was ruled, in every state after the ruling.
    pub fn ruled(&self) -> Option<&Ruled> {
        match self {
            Writeback::Proposed(_) | Writeback::Validated(_) => None,
            Writeback::Staged(s) => Some(&s.ruled),
            Writeback::AwaitingVerification(s) => Some(&s.ruled),
            Writeback::AwaitingApproval(s) => Some(&s.ruled),
            Writeback::Ready(s) => Some(&s.ruled),
            Writeback::Delivering(s) => Some(&s.ready.ruled),
            Writeback::Unknown(s) => Some(&s.ready.ruled),
            Writeback::AwaitingSignature(s) => Some(&s.ready.ruled),
            Writeback::Delivered(s) => Some(&s.ready.ruled),
            Writeback::DeadLetter(s) => Some(&s.ready.ruled),
            Writeback::Refused(s) => s.ruled.as_ref(),
            Writeback::Void(s) => Some(&s.ready.ruled),
            Writeback::Abandoned(s) => Some(&s.ready.ruled),
            Writeback::Quarantined(s) => s.held.ruled(),
            Writeback::Compensated(s) => Some(&s.delivered.ready.ruled),
            Writeback::Canary(s) => Some(&s.waiting.ruled),
            Writeback::CanarySettled(s) => Some(&s.ruled),
        }
    }

    /// What a person is asked about: what waits for approval, or looks as if it did. It can be shown and decided about;
    /// only what is in [`StateName::AwaitingApproval`] can be sent.
    pub fn before_people(&self) -> Option<&AwaitingApproval> {
        match self {
            Writeback::AwaitingApproval(s) => Some(s),
            Writeback::Canary(s) => Some(&s.waiting),
            _ => None,
        }
    }

    /// The state as refusals name it: a canary waits like everything else that waits for a person.
    pub fn told_name(&self) -> StateName {
        match self.name() {
            StateName::Canary => StateName::AwaitingApproval,
            name => name,
        }
    }

    /// The approvals given so far, or spent.
    pub fn approvals(&self) -> &[ApprovalRecord] {
        match self {
            Writeback::AwaitingApproval(s) => &s.approvals,
            Writeback::Ready(s) => &s.approvals,
            Writeback::Delivering(s) => &s.ready.approvals,
            Writeback::Unknown(s) => &s.ready.approvals,
            Writeback::AwaitingSignature(s) => s.approval.as_slice(),
            Writeback::Delivered(s) => &s.ready.approvals,
            Writeback::DeadLetter(s) => &s.ready.approvals,
            Writeback::Void(s) => &s.ready.approvals,
            Writeback::Abandoned(s) => &s.ready.approvals,
            Writeback::Compensated(s) => &s.delivered.ready.approvals,
            Writeback::Quarantined(s) => s.held.approvals(),
            Writeback::Proposed(_)
            | Writeback::Validated(_)
            | Writeback::Staged(_)
            | Writeback::AwaitingVerification(_)
            | Writeback::Refused(_)
            | Writeback::Canary(_)
            | Writeback::CanarySettled(_) => &[],
        }
    }

    /// Folds one recorded event into the state.
    ///
    /// # Errors
    /// [`Illegal`] when the state cannot take the event.
    pub fn evolve(self, event: &WritebackEvent, at: Timestamp) -> Result<Writeback, Illegal> {
        use WritebackEvent as E;
        let state = self.name();
        let next = match (self, event) {
            (
                Writeback::Proposed(s),
                E::Validated {
                    validation,
                    change,
                    class,
                    entries,
                },
            ) => Writeback::Validated(Box::new(s.validated(
                (**validation).clone(),
                (**change).clone(),
                *class,
                entries.clone(),
            ))),
            (Writeback::Proposed(s), E::Refused { refused }) => {
                Writeback::Refused(Box::new(s.refused(refused.clone())))
            }
            (Writeback::Validated(s), E::Ruled { ruling, order }) => {
                s.ruled((**ruling).clone(), order.clone(), at)
            }
            (Writeback::Validated(s), E::Refused { refused }) => {
                Writeback::Refused(Box::new(s.refused(refused.clone())))
            }
            (Writeback::Staged(s), E::Promoted { by }) if s.promoted_by.is_none() => {
                Writeback::Staged(Box::new(Staged {
                    promoted_by: Some(*by),
                    ..*s
                }))
            }
            (Writeback::Staged(s), E::Refused { refused }) if s.promoted_by.is_none() => {
                Writeback::Refused(Box::new(Refused {
                    proposal: s.ruled.proposal.clone(),
                    ruled: Some(s.ruled),
                    by: refused.clone(),
                }))
            }
            (Writeback::AwaitingVerification(s), E::Verified { .. }) => s.verified(at),
            (Writeback::AwaitingVerification(s), E::Refused { refused }) => {
                Writeback::Refused(Box::new(s.refused(refused.clone())))
            }
            (Writeback::AwaitingApproval(s), E::Approved { approval }) => {
                s.approved(approval.clone(), at)
            }
            (Writeback::AwaitingApproval(s), E::Refused { refused }) => {
                Writeback::Refused(Box::new(s.refused(refused.clone())))
            }
            (Writeback::Ready(s), E::DeliveryStarted(start)) => {
                Writeback::Delivering(Box::new(s.start_delivery(start.clone())))
            }
            (Writeback::Ready(s), E::Voided { reason }) => {
                Writeback::Void(Box::new(s.voided(*reason)))
            }
            (Writeback::Ready(s), E::DeadLettered { cause }) => {
                Writeback::DeadLetter(Box::new(DeadLetter {
                    ready: *s,
                    cause: *cause,
                }))
            }
            (Writeback::Delivering(s), E::DraftPlaced(receipt)) if s.is_placed_unsigned() => {
                Writeback::AwaitingSignature(Box::new(s.placed(receipt.clone(), at)))
            }
            (Writeback::Unknown(s), E::DraftPlaced(receipt)) if s.is_placed_unsigned() => {
                Writeback::AwaitingSignature(Box::new(s.placed(receipt.clone(), at)))
            }
            (Writeback::AwaitingSignature(s), E::Approved { approval }) if s.approval.is_none() => {
                Writeback::AwaitingSignature(Box::new(s.signed(approval.clone())))
            }
            (Writeback::AwaitingSignature(s), E::Delivered(receipt)) if s.approval.is_some() => {
                s.delivered(receipt.clone(), at)
            }
            (Writeback::AwaitingSignature(s), E::Voided { reason }) => {
                Writeback::Void(Box::new(s.ready.voided(*reason)))
            }
            (Writeback::Delivering(s), E::Delivered(receipt)) if !s.is_placed_unsigned() => {
                delivered(s.ready, receipt.clone(), at)
            }
            (Writeback::Delivering(s), E::NotApplied { retry_at, .. }) => s.ready.again(*retry_at),
            (Writeback::Delivering(s), E::OutcomeUnknown) => {
                Writeback::Unknown(Box::new(s.outcome_unknown(at)))
            }
            (Writeback::Delivering(s), E::DeadLettered { cause }) => {
                Writeback::DeadLetter(Box::new(DeadLetter {
                    ready: s.ready,
                    cause: *cause,
                }))
            }
            (Writeback::Delivering(s), E::Voided { reason }) => {
                Writeback::Void(Box::new(s.ready.voided(*reason)))
            }
            (Writeback::Unknown(s), E::Delivered(receipt)) if !s.is_placed_unsigned() => {
                delivered(s.ready, receipt.clone(), at)
            }
            (Writeback::Unknown(s), E::FoundNotApplied { retry_at, .. }) => {
                s.ready.again(*retry_at)
            }
            (Writeback::Unknown(s), E::HumanNeeded { reason }) => {
                Writeback::Unknown(Box::new(Unknown {
                    human_needed: Some(*reason),
                    ..*s
                }))
            }
            (Writeback::Delivered(s), E::Compensated { by }) => {
                Writeback::Compensated(Box::new(Compensated {
                    delivered: *s,
                    by: *by,
                }))
            }
            (Writeback::DeadLetter(s), E::Requeued { .. }) => {
                Writeback::Ready(Box::new(Ready::enter(s.ready.ruled, s.ready.approvals, at)))
            }
            (Writeback::Delivering(s), E::Abandoned { person, .. }) if s.is_human_entry() => {
                Writeback::Abandoned(Box::new(Abandoned {
                    ready: s.ready,
                    person: *person,
                }))
            }
            (Writeback::DeadLetter(s), E::Abandoned { person, .. }) => {
                Writeback::Abandoned(Box::new(Abandoned {
                    ready: s.ready,
                    person: *person,
                }))
            }
            (
                held @ (Writeback::Proposed(_)
                | Writeback::Validated(_)
                | Writeback::Staged(_)
                | Writeback::AwaitingVerification(_)
                | Writeback::AwaitingApproval(_)
                | Writeback::Ready(_)
                | Writeback::DeadLetter(_)),
                E::Quarantined { reason },
            ) => Writeback::Quarantined(Box::new(Quarantined {
                held,
                reason: *reason,
            })),
            (Writeback::Canary(s), E::CanaryMissed(miss)) => {
                s.settled(CanaryOutcome::Missed(miss.clone()))
            }
            (Writeback::Canary(s), E::CanaryCaught { person, reason }) => {
                s.settled(CanaryOutcome::Caught {
                    person: *person,
                    reason: *reason,
                })
            }
            (Writeback::Canary(s), E::CanaryWithdrawn(end)) => {
                s.settled(CanaryOutcome::Withdrawn(end.clone()))
            }
            (Writeback::Quarantined(s), E::Released { .. }) => s.held,
            (Writeback::Quarantined(s), E::Refused { refused }) => {
                Writeback::Refused(Box::new(Refused {
                    proposal: s.held.proposal().clone(),
                    ruled: s.held.ruled().cloned(),
                    by: refused.clone(),
                }))
            }
            _ => return Err(Illegal { state }),
        };
        Ok(next)
    }
}

pub(super) fn delivered(ready: Ready, receipt: DeliveryReceipt, at: Timestamp) -> Writeback {
    Writeback::Delivered(Box::new(Delivered { ready, receipt, at }))
}
