//! A decision that waits too long is told to more people, each step once.
//!
//! The work item that would end it in time walks through the steps on its way. Nobody gets a right to decide by being
//! told; who may, the gate says.

use chaperone_core::Timestamp;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::oversight::OversightEvent;
use chaperone_core::ports::{ClaimedWork, Commit, Notice, StoreFailed, WorkChange};
use chaperone_core::principal::Role;
use chaperone_core::writeback::{AwaitingApproval, Ruled};

use crate::context::{Engine, after};
use crate::transition::InHand;

impl Engine {
    /// When a decision that waits is looked at first: at its first step, or when its time is up.
    pub(crate) fn first_look(&self, ruled: &Ruled, since: Timestamp) -> Timestamp {
        let by = ruled.order.approve_by;
        let steps = self.oversight.overdue_of(ruled.ruling.class);
        steps
            .first()
            .map_or(by, |step| after(since, step.after_s).min(by))
    }

    /// Takes the step that is due into a commit, and puts the work item off until the next; says who is to be told.
    pub(crate) async fn take_overdue_step(
        &self,
        hand: &mut InHand,
        waiting: &AwaitingApproval,
        work: &ClaimedWork,
        commit: &mut Commit,
    ) -> Result<Option<Notice>, StoreFailed> {
        let now = self.now();
        let ruled = waiting.ruled();
        let since = hand.proposed();
        let steps = self.oversight.overdue_of(ruled.ruling.class);
        let due = |after_s: i64| after(since, after_s);
        let next = steps
            .iter()
            .map(|step| due(step.after_s))
            .find(|at| *at > now)
            .map_or(ruled.order.approve_by, |at| at.min(ruled.order.approve_by));
        commit.work.push(WorkChange::Defer {
            id: work.item.id,
            claim: Some(work.claim),
            due: next,
            kind: None,
        });
        let reached = steps.iter().filter(|step| due(step.after_s) <= now).count();
        let Some(newest) = reached.checked_sub(1).and_then(|at| steps.get(at)) else {
            return Ok(None);
        };
        let step = u8::try_from(reached).unwrap_or(u8::MAX);
        let stream = StreamId::Writeback(hand.id);
        let events = self.store.stream(&self.config.tenant, &stream).await?;
        let told = events.iter().any(|it| {
            matches!(&it.event, Event::Oversight(OversightEvent::Overdue { step: earlier, .. }) if *earlier >= step)
        });
        if told {
            return Ok(None);
        }
        let roles: Vec<Role> = newest.tell.clone();
        hand.note(
            commit,
            Event::Oversight(OversightEvent::Overdue {
                step,
                roles: roles.clone(),
            }),
        )?;
        Ok(Some(Notice::ApprovalWaiting {
            writeback: hand.id,
            roles,
        }))
    }
}
