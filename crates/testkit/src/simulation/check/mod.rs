//! The checker: what must hold after a seed, judged by what the EHR and the people of the world really did and
//! by the ledger's leaves.
//!
//! It shares no code with the engine, the state machine or the ledger crate: of `chaperone_core` it takes the
//! form of events, ids and digests, and folds, counts and hashes by itself.

mod as_one;
mod authority;
mod cards;
mod claims;
mod delivery;
mod excepted;
mod ledger;
mod linked;
mod lists;
mod promises;
mod rules;
mod signatures;
mod together;

use std::collections::BTreeMap;

use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, Recorded, StreamId};
use chaperone_core::ids::{TenantId, WritebackId};
use chaperone_core::writeback::{DeliveryStart, OrderRef, WritebackEvent};
use serde_json::Value;

use super::faults::Fault;
use super::server::ServerProfile;
use super::state::{State, Truth};
use super::world::Micros;

macro_rules! properties {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal;)*) => {
        /// What must hold.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Property { $($(#[doc = $doc])* $name,)* }

        impl Property {
            /// Every one.
            pub const ALL: &'static [Property] = &[$(Property::$name,)*];

            /// Its name in summaries.
            pub fn as_str(self) -> &'static str {
                match self { $(Property::$name => $text,)* }
            }

            /// What it says, in a line.
            pub fn words(self) -> &'static str {
                match self { $(Property::$name => concat!($($doc),*),)* }
            }
        }
    };
}

properties! {
    /// Nothing is sent without a ruling and the approvals that it demands.
    Authorised = "authorised";
    /// An approval is what a person agreed to, of the digest that they saw, in time.
    Agreed = "agreed";
    /// What is placed unsigned counts once it is signed as it was placed, in time, by one who may; and then it does.
    SignedAsPlaced = "signed-as-placed";
    /// An approval counts once, and so does a second factor.
    ApprovedOnce = "approved-once";
    /// Two people are two humans.
    TwoHumans = "two-humans";
    /// What arrives is what was approved, byte for byte, under the condition that was approved.
    ByteForByte = "byte-for-byte";
    /// Nothing is sent after its deliver-by.
    InTime = "in-time";
    /// Every send follows a durable start of its own.
    StartedFirst = "started-first";
    /// Where conditions are honoured, everything takes effect at most once.
    OnceAtMost = "once-at-most";
    /// Nothing is sent again before it is known, or a human said, that it was not applied.
    NotAgainBlindly = "not-again-blindly";
    /// Of several changes that were decided as one all take effect, in one step, or none; and so they are undone.
    AllOrNothing = "all-or-nothing";
    /// What is recorded as not applied was not.
    NotAppliedIsTrue = "not-applied-is-true";
    /// What is recorded as delivered is at the EHR, and what is at the EHR is recorded as nothing else.
    OutcomeIsTrue = "outcome-is-true";
    /// Writes for one patient are sent in the order in which they entered the queue.
    OrderKept = "order-kept";
    /// Nothing starts under a switch that forbids it.
    ModeKept = "mode-kept";
    /// Of a proposal and what a person made of it one counts; what a person made of it needs no less.
    OneOfEdited = "one-of-edited";
    /// What was set aside stays where it is until a person lets it go, and is undone only by what took effect.
    SetAside = "set-aside";
    /// While somebody has something in hand, nobody else decides about it.
    ClaimKept = "claim-kept";
    /// What is approved together with others is light, and needs one person's word.
    LightTogether = "light-together";
    /// No order is approved over something critical that nobody went on over.
    CardsKept = "cards-kept";
    /// An exception is granted by another, and used once, in its time, for the same, which two people approve.
    ExceptionKept = "exception-kept";
    /// Nobody comes before an agent by a list but whom another person saw on it and approved, once.
    ListKept = "list-kept";
    /// Nothing is approved, released or started by other rules than those that ruled on it.
    RulesKept = "rules-kept";
    /// Nothing starts after consent was withdrawn.
    ConsentKept = "consent-kept";
    /// A writer whose lease has moved on sends nothing.
    EpochKept = "epoch-kept";
    /// What an agent or a person was told is in the ledger, and was before they were told.
    ToldIsDurable = "told-is-durable";
    /// One idempotency key makes one write-back.
    OneForAKey = "one-for-a-key";
    /// Everything that was taken in comes to an end.
    ComesToRest = "comes-to-rest";
    /// Every refusal that an agent was told is recorded is in the ledger.
    RefusalsRecorded = "refusals-recorded";
    /// The ledger has no gap, and its signed heads are heads of what it holds.
    LedgerWhole = "ledger-whole";
}

/// Something that must hold and did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What must hold.
    pub property: Property,
    /// What was seen instead.
    pub seen: String,
}

/// One event of a write-back, with when it became durable.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) seq: u64,
    /// True time of the commit.
    pub(crate) done: Micros,
    /// What the node's clock said.
    pub(crate) at: chaperone_core::Timestamp,
    pub(crate) event: WritebackEvent,
}

/// One write-back as the ledger tells it.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) steps: Vec<Step>,
}

impl Story {
    pub(crate) fn order(&self) -> Option<&OrderRef> {
        self.steps.iter().find_map(|step| match &step.event {
            WritebackEvent::Ruled { order, .. } => Some(order),
            _ => None,
        })
    }

    /// Steps that were durable at a true time.
    pub(crate) fn until(&self, at: Micros) -> impl DoubleEndedIterator<Item = &Step> {
        self.steps.iter().filter(move |step| step.done <= at)
    }

    pub(crate) fn starts(&self) -> impl Iterator<Item = (&Step, &DeliveryStart)> {
        self.steps.iter().filter_map(|step| match &step.event {
            WritebackEvent::DeliveryStarted(start) => Some((step, start)),
            _ => None,
        })
    }

    /// The last event that gave it its place in the queue, before some event: what was let go goes to the end.
    pub(crate) fn placed_before(&self, seq: u64) -> Option<&Step> {
        let let_go =
            self.steps.iter().rev().find(|step| {
                step.seq < seq && matches!(step.event, WritebackEvent::Released { .. })
            });
        let queued = self.queued_before(seq);
        [queued, let_go]
            .into_iter()
            .flatten()
            .max_by_key(|step| step.seq)
    }

    /// The last event that put it into the queue, before some event.
    pub(crate) fn queued_before(&self, seq: u64) -> Option<&Step> {
        let enters = |step: &&Step| {
            matches!(
                step.event,
                WritebackEvent::Ruled { .. }
                    | WritebackEvent::Verified { .. }
                    | WritebackEvent::Approved { .. }
                    | WritebackEvent::Requeued { .. }
            )
        };
        self.steps
            .iter()
            .rev()
            .filter(|step| step.seq < seq)
            .find(enters)
    }

    /// What it came to.
    pub(crate) fn end(&self) -> Option<&WritebackEvent> {
        self.steps.last().map(|step| &step.event)
    }
}

/// Everything that is judged.
pub(crate) struct Case<'s> {
    pub(crate) tenant: &'s TenantId,
    pub(crate) state: &'s State,
    pub(crate) profile: ServerProfile,
    pub(crate) leaves: Vec<Vec<u8>>,
    pub(crate) recorded: Vec<Recorded>,
    pub(crate) stories: BTreeMap<WritebackId, Story>,
    /// Orders as the vault holds them.
    pub(crate) orders: &'s BTreeMap<WritebackId, Vec<u8>>,
    pub(crate) faults: &'s BTreeMap<Fault, u64>,
    pub(crate) is_at_rest: bool,
    found: Vec<Violation>,
}

impl<'s> Case<'s> {
    pub(crate) fn truth(&self) -> &'s Truth {
        &self.state.truth
    }

    pub(crate) fn broken(&mut self, property: Property, seen: impl Into<String>) {
        let seen = seen.into();
        self.found.push(Violation { property, seen });
    }

    /// When an event became durable.
    pub(crate) fn done(&self, seq: u64) -> Micros {
        let at = usize::try_from(seq).unwrap_or(usize::MAX);
        self.truth()
            .committed
            .get(at)
            .copied()
            .unwrap_or(Micros::MAX)
    }

    pub(crate) fn happened(&self, fault: Fault) -> bool {
        self.faults.get(&fault).is_some_and(|count| *count > 0)
    }

    /// An order, opened.
    pub(crate) fn opened(&self, id: WritebackId) -> Option<(Digest, Value)> {
        let bytes = self.orders.get(&id)?;
        let order = serde_json::from_slice(bytes).ok()?;
        Some((Digest::of_bytes(bytes), order))
    }
}

/// Judges one seed.
pub(crate) fn judge(
    tenant: &TenantId,
    state: &State,
    orders: &BTreeMap<WritebackId, Vec<u8>>,
    faults: &BTreeMap<Fault, u64>,
    is_at_rest: bool,
) -> Vec<Violation> {
    let leaves = state.tables.of(tenant).leaves(0, u32::MAX);
    let mut case = Case {
        tenant,
        state,
        profile: state.ehr.profile,
        recorded: Vec::with_capacity(leaves.len()),
        leaves,
        stories: BTreeMap::new(),
        orders,
        faults,
        is_at_rest,
        found: Vec::new(),
    };
    ledger::check(&mut case);
    let recorded = std::mem::take(&mut case.recorded);
    for it in &recorded {
        if let (StreamId::Writeback(id), Event::Writeback(event)) = (&it.stream, &it.event) {
            let step = Step {
                seq: it.seq,
                done: case.done(it.seq),
                at: it.at,
                event: event.clone(),
            };
            case.stories.entry(*id).or_default().steps.push(step);
        }
    }
    case.recorded = recorded;
    authority::check(&mut case);
    signatures::check(&mut case);
    rules::check(&mut case);
    linked::check(&mut case);
    claims::check(&mut case);
    together::check(&mut case);
    cards::check(&mut case);
    excepted::check(&mut case);
    lists::check(&mut case);
    as_one::check(&mut case);
    delivery::check(&mut case);
    promises::check(&mut case);
    case.found
}
