//! The last gate before a send: whether this node may still send now, by its own clock.
//!
//! The commit that starts an attempt is guarded by the lease, but an EHR cannot check an epoch. A node that is
//! stopped between that commit and the send (a paused virtual machine, SIGSTOP) would send when it goes on, long
//! after another node has taken over and a person may have decided. So the time is looked at once more, right
//! before the send, without asking anybody: what was known to hold until then. The EHR connection looks at it
//! again, because it may have to look at something else first.
//!
//! What remains is the time between this look and the packet; conditional headers close it where the EHR honours
//! them (invariant 5).

use std::sync::{Mutex, PoisonError};

use chaperone_core::Timestamp;
use chaperone_core::ports::Lease;

use super::queue::later;

/// The writer's lease, as this node last heard of it.
#[derive(Debug, Default)]
pub(crate) struct Fence(Mutex<Option<Lease>>);

/// What one piece of work was taken up under.
#[derive(Debug, Clone, Copy)]
pub(super) struct TakenUp {
    pub(super) epoch: u64,
    /// Until when the claim holds, and the order may be sent.
    until: Timestamp,
}

impl TakenUp {
    pub(super) fn new(epoch: u64, now: Timestamp, claim_ms: i64) -> Self {
        Self {
            epoch,
            until: later(now, claim_ms),
        }
    }

    /// Not longer than until then.
    pub(super) fn ending_by(self, end: Timestamp) -> Self {
        Self {
            until: self.until.min(end),
            ..self
        }
    }
}

impl Fence {
    /// The lease was taken or renewed.
    pub(super) fn renewed(&self, lease: &Lease) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease.clone());
    }

    /// Until when lease and claim hold; nothing when they do not any more.
    pub(super) fn open_until(&self, taken_up: TakenUp, now: Timestamp) -> Option<Timestamp> {
        let lease = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lease = lease.as_ref().filter(|it| it.epoch == taken_up.epoch)?;
        let until = lease.until.min(taken_up.until);
        (now < until).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn a_send_passes_while_lease_and_claim_hold_and_not_a_moment_longer() {
        let fence = Fence::default();
        let taken_up = TakenUp::new(3, at(0), 60_000);
        assert_eq!(fence.open_until(taken_up, at(0)), None);
        let lease = |epoch, until| Lease {
            epoch,
            until: at(until),
        };
        fence.renewed(&lease(3, 15));
        assert_eq!(fence.open_until(taken_up, at(14)), Some(at(15)));
        assert_eq!(fence.open_until(taken_up, at(15)), None);
        // Renewed meanwhile; then the claim ends.
        fence.renewed(&lease(3, 90));
        assert_eq!(fence.open_until(taken_up, at(59)), Some(at(60)));
        assert_eq!(fence.open_until(taken_up, at(60)), None);
        // The order's own time ends before.
        assert_eq!(
            fence.open_until(taken_up.ending_by(at(20)), at(19)),
            Some(at(20))
        );
        assert_eq!(fence.open_until(taken_up.ending_by(at(20)), at(20)), None);
        // Another epoch: somebody else wrote in between.
        fence.renewed(&lease(5, 90));
        assert_eq!(fence.open_until(taken_up, at(20)), None);
    }
}
