//! Work that waits, who has it, and how it changes: what the store keeps in one order for each key.
//!
//! Not here: what the work is about (the engine's), and how items are claimed (the store's).

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::ids::{TenantId, WorkId};

/// What kind of work waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkKind {
    /// Deliver a write-back.
    Deliver,
    /// Find out what became of a send.
    Reconcile,
    /// End something that ran out of time.
    Expire,
}

impl WorkKind {
    /// The stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkKind::Deliver => "deliver",
            WorkKind::Reconcile => "reconcile",
            WorkKind::Expire => "expire",
        }
    }

    /// Reads the stored name.
    pub fn parse(text: &str) -> Option<WorkKind> {
        [WorkKind::Deliver, WorkKind::Reconcile, WorkKind::Expire]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// One piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkItem {
    /// Its id.
    pub id: WorkId,
    /// What kind.
    pub kind: WorkKind,
    /// What it is about, such as a write-back's id.
    pub subject: String,
    /// Items with the same order key run one at a time, in the order they were enqueued.
    /// Items without one run freely.
    pub order_key: Option<String>,
    /// Not before.
    pub due: Timestamp,
}

/// Whether an item can be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkState {
    /// Waiting for its time, its turn or a worker.
    Waiting,
    /// A worker has it.
    Claimed,
    /// Waits for a human; still holds its place in the order.
    Held,
}

impl WorkState {
    /// The stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkState::Waiting => "waiting",
            WorkState::Claimed => "claimed",
            WorkState::Held => "held",
        }
    }

    /// Reads the stored name.
    pub fn parse(text: &str) -> Option<WorkState> {
        [WorkState::Waiting, WorkState::Claimed, WorkState::Held]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// A change to the work queue, in the same transaction as the events it follows from.
#[derive(Debug, Clone)]
pub enum WorkChange {
    /// New work. Same id twice is a conflict.
    Enqueue(WorkItem),
    /// Done. With a claim number, only while that claim holds.
    Complete {
        /// The item.
        id: WorkId,
        /// The claim, when a worker completes it.
        claim: Option<u64>,
    },
    /// Again later, in the same place of its order. Becomes `Waiting`, with a new kind if given.
    Defer {
        /// The item.
        id: WorkId,
        /// The claim, when a worker defers it.
        claim: Option<u64>,
        /// Not before.
        due: Timestamp,
        /// Continue as this kind.
        kind: Option<WorkKind>,
    },
    /// Waits for a human from now on, in its place.
    Hold {
        /// The item.
        id: WorkId,
        /// The claim, when a worker holds it.
        claim: Option<u64>,
    },
    /// The row of an item that is done goes; its id must not be used again.
    Forget {
        /// The item.
        id: WorkId,
    },
}

/// Which work: the order of a patient's writes must never hold up what needs no order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Work with an order key.
    Ordered,
    /// Work without one.
    Free,
}

/// A request for work.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Whose work.
    pub tenant: TenantId,
    /// Which work; absent means any.
    pub lane: Option<Lane>,
    /// Who claims, for the health page.
    pub worker: String,
    /// Now, by the engine's clock.
    pub now: Timestamp,
    /// How long the claim holds, in milliseconds. After that others may claim.
    pub lease_ms: i64,
    /// At most this many.
    pub limit: u32,
}

/// Work that a worker has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedWork {
    /// The organisation.
    pub tenant: TenantId,
    /// The item.
    pub item: WorkItem,
    /// Proves the claim when completing; grows with each claim of the item.
    pub claim: u64,
}

/// Work as the health page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkRow {
    /// The item.
    pub item: WorkItem,
    /// Its state.
    pub state: WorkState,
}
