//! What a seed reached: a simulator that does nothing finds nothing either.

use std::collections::BTreeMap;

use chaperone_core::event::Event;
use chaperone_core::ids::TenantId;
use chaperone_core::ports::Listing;

use super::as_one;
use super::world::Inner;

/// How often each thing was reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Faults by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// Moves of write-backs, `event` or `event:detail`, and of what hangs on them by the kind of event.
    pub moves: BTreeMap<String, u64>,
    /// States in which write-backs ended.
    pub ends: BTreeMap<String, u64>,
    /// What the EHR did.
    pub effects: u64,
    /// Writes that left a node.
    pub sends: u64,
    /// Write-backs.
    pub writebacks: u64,
    /// Entries in the ledger.
    pub entries: u64,
}

impl Coverage {
    pub(crate) fn of(tenant: &TenantId, inner: &Inner) -> Self {
        let mut reached = Self::default();
        for (fault, count) in &inner.trace.faults {
            reached.faults.insert(fault.as_str(), *count);
        }
        let tables = inner.state.tables.of(tenant);
        for leaf in tables.leaves(0, u32::MAX) {
            reached.entries = reached.entries.saturating_add(1);
            let Ok(recorded) = chaperone_core::event::Recorded::from_leaf(&leaf) else {
                continue;
            };
            let event = match recorded.event {
                Event::Writeback(event) => event,
                Event::Claim(_)
                | Event::Cover(_)
                | Event::Exception(_)
                | Event::Cohort(_)
                | Event::DecisionSupport(_) => {
                    let count = reached.moves.entry(recorded.event.kind()).or_default();
                    *count = count.saturating_add(1);
                    continue;
                }
                _ => continue,
            };
            let value = serde_json::to_value(&event).unwrap_or_default();
            let text = |pointer: &str| value.pointer(pointer).and_then(serde_json::Value::as_str);
            let what = text("/what").unwrap_or_default();
            let detail = ["/reason", "/cause", "/refused/by", "/basis/basis", "/proof"]
                .into_iter()
                .find_map(text)
                .filter(|detail| detail.len() < 30);
            let name = match detail {
                Some(detail) => format!("{what}:{detail}"),
                None => what.to_owned(),
            };
            let count = reached.moves.entry(name).or_default();
            *count = count.saturating_add(1);
        }
        let agreed = inner.state.truth.agreed.iter();
        let together = agreed.filter(|it| it.together && it.taken).count();
        if together > 0 {
            let count = together as u64;
            reached.moves.insert("approved:together".to_owned(), count);
        }
        let leaves = tables.leaves(0, u32::MAX);
        as_one::reached(&inner.state.truth, &leaves, &mut reached.moves);
        let listing = Listing {
            limit: 1_000,
            ..Listing::default()
        };
        for row in tables.projections("writeback", &listing) {
            reached.writebacks = reached.writebacks.saturating_add(1);
            let count = reached
                .ends
                .entry(row.index.unwrap_or_default())
                .or_default();
            *count = count.saturating_add(1);
        }
        reached.sends = inner.state.truth.sends.len() as u64;
        let effects = inner
            .state
            .ehr
            .history
            .iter()
            .filter(|it| it.effects().next().is_some());
        reached.effects = effects.count() as u64;
        reached
    }

    /// Adds what another seed reached.
    pub fn add(&mut self, other: &Coverage) {
        let plus = |count: &mut u64, more: u64| *count = count.saturating_add(more);
        for (name, count) in &other.faults {
            plus(self.faults.entry(name).or_default(), *count);
        }
        for (name, count) in &other.moves {
            plus(self.moves.entry(name.clone()).or_default(), *count);
        }
        for (name, count) in &other.ends {
            plus(self.ends.entry(name.clone()).or_default(), *count);
        }
        plus(&mut self.effects, other.effects);
        plus(&mut self.sends, other.sends);
        plus(&mut self.writebacks, other.writebacks);
        plus(&mut self.entries, other.entries);
    }
}
