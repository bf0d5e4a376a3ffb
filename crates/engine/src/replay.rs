//! Rulings once more: one as it was asked (`replay`), and those of a span of time under another bundle
//! (`backtest`). What policy was asked is part of the order, so nothing has to be gathered again.
//!
//! Changes nothing and records nothing. Not here: whether an agent may call a tool at all; only write rulings are
//! repeated. Facts stay as they were seen, also those that tables of the bundle gave.

use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, Recorded, StreamId};
use chaperone_core::evidence::{RulingRecord, WriteOrder};
use chaperone_core::facts::Facts;
use chaperone_core::ids::WritebackId;
use chaperone_core::ports::StoreFailed;
use chaperone_core::request::WriteRequest;
use chaperone_core::writeback::{OrderRef, WritebackEvent};
use chaperone_policy::{Bundle, RulingFailed};

use crate::audit::Span;
use crate::context::Engine;
use crate::vault::VaultFailed;

/// Leaves read at once.
const LEAVES_AT_ONCE: u32 = 1_000;

/// Why a ruling cannot be repeated.
#[derive(Debug, thiserror::Error)]
pub enum ReplayFailed {
    /// Unknown.
    #[error("there is no such write-back")]
    Missing,
    /// It ended before policy was asked.
    #[error("no ruling was made: it was not valid")]
    NotRuled,
    /// The order was made by a version that did not keep what policy was asked.
    #[error("this ruling was made by a version that did not keep what policy was asked")]
    NotKept,
    /// The order's payload is gone.
    #[error("the order is gone: it was deleted by its retention rule, or its key was destroyed")]
    Gone,
    /// Another bundle ruled.
    #[error("the bundle {ruled} ruled, and this is {given}; give the folder of that one")]
    OtherBundle {
        /// Whose ruling it is.
        ruled: Digest,
        /// Which bundle there is.
        given: Digest,
    },
    /// Policy could not be asked.
    #[error(transparent)]
    Policy(#[from] RulingFailed),
    /// The store or the keys failed, or what is stored makes no sense.
    #[error(transparent)]
    Vault(#[from] VaultFailed),
}

impl From<StoreFailed> for ReplayFailed {
    fn from(failed: StoreFailed) -> Self {
        ReplayFailed::Vault(failed.into())
    }
}

/// A ruling, and the same question asked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// As the ledger has it.
    pub recorded: RulingRecord,
    /// As policy answers now.
    pub again: RulingRecord,
    /// What policy is told beside the change, of each change: what was observed, fixed, attested and claimed. Says
    /// things of the patient.
    pub facts: Vec<Facts>,
}

impl Replayed {
    /// Whether both agree in everything.
    pub fn is_same(&self) -> bool {
        self.recorded == self.again
    }
}

/// One recorded ruling under another bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retried {
    /// The write-back.
    pub writeback: WritebackId,
    /// When it was ruled on.
    pub at: Timestamp,
    /// The entry of the ledger.
    pub seq: u64,
    /// As the ledger has it.
    pub recorded: RulingRecord,
    /// What the other bundle says.
    pub other: OtherRuling,
}

/// What another bundle says of a recorded question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OtherRuling {
    /// It rules.
    Ruled(Box<RulingRecord>),
    /// It does not get as far: agent, intent or tool are not declared so that they could ask.
    NotDeclared,
    /// Nobody can say: what was asked is not kept, is gone, or policy fails on it.
    Unknown(&'static str),
}

/// How one ruling differs from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flip {
    /// The gate and what it asks for are the same.
    Same,
    /// More is demanded.
    Stricter,
    /// As much is demanded, of other people or with another proof.
    Other,
    /// Less is demanded.
    Weaker,
    /// Nobody can say.
    Unknown,
}

impl Retried {
    /// How the other bundle's ruling differs.
    pub fn flip(&self) -> Flip {
        let before = &self.recorded;
        let after = match &self.other {
            OtherRuling::Ruled(after) => after,
            OtherRuling::NotDeclared if before.denial.is_some() => return Flip::Same,
            OtherRuling::NotDeclared => return Flip::Stricter,
            OtherRuling::Unknown(_) => return Flip::Unknown,
        };
        match after.gate.level().cmp(&before.gate.level()) {
            std::cmp::Ordering::Greater => Flip::Stricter,
            std::cmp::Ordering::Less => Flip::Weaker,
            std::cmp::Ordering::Equal => {
                let is_same = after.gate == before.gate
                    && after.denial == before.denial
                    && after.proof_min == before.proof_min
                    && after.notify == before.notify;
                if is_same { Flip::Same } else { Flip::Other }
            }
        }
    }
}

impl Engine {
    /// Asks the bundle again what it was asked about a write-back. It must be the bundle that ruled.
    ///
    /// # Errors
    /// [`ReplayFailed`].
    pub async fn replay(&self, id: WritebackId, bundle: &Bundle) -> Result<Replayed, ReplayFailed> {
        let stream = StreamId::Writeback(id);
        let events = self.store.stream(&self.config.tenant, &stream).await?;
        if events.is_empty() {
            return Err(ReplayFailed::Missing);
        }
        let ruled = events.iter().find_map(ruling_in);
        let (recorded, order) = ruled.ok_or(ReplayFailed::NotRuled)?;
        let given = *bundle.digest();
        if recorded.bundle != given {
            let ruled = recorded.bundle;
            return Err(ReplayFailed::OtherBundle { ruled, given });
        }
        let asked = self.what_was_asked(order).await?;
        let again = bundle.rule_all(&asked)?.record().clone();
        Ok(Replayed {
            recorded: recorded.clone(),
            again,
            facts: asked.into_iter().map(|one| one.facts).collect(),
        })
    }

    /// Asks another bundle what was asked in a span of time, and tells each answer, oldest first.
    ///
    /// # Errors
    /// When the store fails. A ruling that cannot be repeated is told as unknown.
    pub async fn backtest(
        &self,
        bundle: &Bundle,
        span: Span,
        mut tell: impl FnMut(Retried),
    ) -> Result<(), ReplayFailed> {
        let tenant = &self.config.tenant;
        let size = self.store.size(tenant).await?;
        let mut next = 0;
        while next < size {
            let leaves = self.store.leaves(tenant, next, LEAVES_AT_ONCE).await?;
            if leaves.is_empty() {
                break;
            }
            next = next.saturating_add(leaves.len() as u64);
            for leaf in leaves {
                let entry = Recorded::from_leaf(&leaf)
                    .map_err(|failed| StoreFailed::Corrupt(failed.to_string()))?;
                let StreamId::Writeback(writeback) = entry.stream else {
                    continue;
                };
                let Some((recorded, order)) = ruling_in(&entry) else {
                    continue;
                };
                if span.holds(entry.at) {
                    tell(Retried {
                        writeback,
                        at: entry.at,
                        seq: entry.seq,
                        recorded: recorded.clone(),
                        other: self.ask_other(bundle, order).await?,
                    });
                }
            }
        }
        Ok(())
    }

    async fn ask_other(
        &self,
        bundle: &Bundle,
        order: &OrderRef,
    ) -> Result<OtherRuling, ReplayFailed> {
        let asked = match self.what_was_asked(order).await {
            Ok(asked) => asked,
            Err(ReplayFailed::NotKept) => return Ok(OtherRuling::Unknown("not-kept")),
            Err(ReplayFailed::Gone) => return Ok(OtherRuling::Unknown("gone")),
            Err(failed) => return Err(failed),
        };
        let mut again = Vec::with_capacity(asked.len());
        for one in asked {
            match asked_of(bundle, one) {
                Some(one) => again.push(one),
                None => return Ok(OtherRuling::NotDeclared),
            }
        }
        Ok(match bundle.rule_all(&again) {
            Ok(ruling) => OtherRuling::Ruled(Box::new(ruling.record().clone())),
            Err(_) => OtherRuling::Unknown("policy-failed"),
        })
    }

    /// What policy was asked about each change of an order.
    async fn what_was_asked(&self, order: &OrderRef) -> Result<Vec<WriteRequest>, ReplayFailed> {
        let bytes = match self.unseal(&order.address).await {
            Ok(bytes) => bytes,
            Err(failed @ VaultFailed::Store(_)) => return Err(failed.into()),
            Err(_) => return Err(ReplayFailed::Gone),
        };
        if Digest::of_bytes(&bytes) != order.digest {
            let what = "a stored order is not what its digest names".to_owned();
            return Err(StoreFailed::Corrupt(what).into());
        }
        let order: WriteOrder = serde_json::from_slice(&bytes)
            .map_err(|_| StoreFailed::Corrupt("a stored order cannot be read".to_owned()))?;
        order.questions().ok_or(ReplayFailed::NotKept)
    }
}

/// The question as another bundle would be asked it; nothing where agent, intent or tool are not declared so that they
/// could ask.
fn asked_of(bundle: &Bundle, asked: WriteRequest) -> Option<WriteRequest> {
    // What Chaperone itself proposes, to undo something, is declared in no bundle.
    let is_own = asked.agent.as_str() == crate::undo::CHAPERONE;
    let declared = bundle
        .agent(&asked.agent)
        .zip(bundle.intent(&asked.intent))
        .filter(|(agent, intent)| {
            agent.intents.contains(&asked.intent)
                && intent.tools.contains(&asked.tool)
                && bundle.tool(&asked.tool).is_some()
        });
    let intent_writes = match declared {
        Some((_, intent)) => intent.writes.clone(),
        None if is_own => asked.intent_writes.clone(),
        None => return None,
    };
    Some(WriteRequest {
        intent_writes,
        bundle: *bundle.digest(),
        ..asked
    })
}

fn ruling_in(entry: &Recorded) -> Option<(&RulingRecord, &OrderRef)> {
    match &entry.event {
        Event::Writeback(WritebackEvent::Ruled { ruling, order }) => Some((ruling, order)),
        _ => None,
    }
}
