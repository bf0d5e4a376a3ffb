//! What agents propose as one: all of it is made, or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chaperone_core::event::{Event, Recorded, StreamId};
use chaperone_core::writeback::WritebackEvent;
use serde_json::{Value, json};

use super::agents::{Errand, as_map, ask};
use super::play::Play;
use super::state::Truth;

/// The tool that takes several changes.
pub(crate) const TOOL: &str = "propose_together";

/// The code of the refusal where the EHR takes no transactions: the same call is refused again.
pub(crate) const REFUSED: &str = "not-together";

/// Changes that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Several {
    /// Two pieces of work for humans: they go by themselves.
    Tasks,
    /// An appointment is taken back and another booked in its place: a scheduler decides about both.
    Rebooking,
    /// An appointment, and work that comes of it: they go by themselves while the slot is free.
    Booking,
}

impl Several {
    pub(crate) const ALL: [Several; 3] = [Several::Tasks, Several::Rebooking, Several::Booking];

    /// The calls that make it up. What they are about is found once.
    pub(crate) async fn changes(self, play: &Arc<Play>, errand: &Errand) -> Option<Vec<Value>> {
        Some(match self {
            Several::Tasks => vec![task("Call back."), task("Call the family.")],
            Several::Rebooking => {
                let appointment = found(play, errand, "list_appointments", json!({})).await?;
                vec![
                    json!({ "tool": "cancel_appointment", "inputs": { "appointment": appointment } }),
                    booking(play, errand).await?,
                ]
            }
            Several::Booking => vec![booking(play, errand).await?, task("Call before the visit.")],
        })
    }
}

fn task(summary: &str) -> Value {
    json!({ "tool": "create_task", "inputs": { "summary": summary, "pool": "nursing" } })
}

async fn booking(play: &Arc<Play>, errand: &Errand) -> Option<Value> {
    let span =
        json!({ "from": "2026-11-01T00:00:00Z", "until": "2027-03-09T00:00:00Z", "count": 50 });
    let slot = found(play, errand, "find_slots", span).await?;
    Some(json!({ "tool": "book_appointment", "inputs": { "slot": slot } }))
}

/// The token of something that a tool found, by chance.
async fn found(
    play: &Arc<Play>,
    errand: &Errand,
    tool: &'static str,
    asked: Value,
) -> Option<Value> {
    let (found, _) = ask(play, errand, tool, &as_map(asked)).await?;
    let all = found.get("resources").and_then(Value::as_array)?.clone();
    let chosen = play
        .cluster
        .world
        .with(|inner| inner.chance.pick(&all).cloned())?;
    chosen.get("id").cloned()
}

/// Counts what was reached of it in one seed: what was delivered as one, what was undone by that, and what an EHR that
/// takes no transactions was not asked for.
pub(crate) fn reached(truth: &Truth, leaves: &[Vec<u8>], moves: &mut BTreeMap<String, u64>) {
    let mut remedies = BTreeSet::new();
    let mut count = |name: &str| {
        let count = moves.entry(name.to_owned()).or_default();
        *count = count.saturating_add(1);
    };
    for recorded in leaves
        .iter()
        .filter_map(|leaf| Recorded::from_leaf(leaf).ok())
    {
        let (StreamId::Writeback(id), Event::Writeback(event)) = (recorded.stream, recorded.event)
        else {
            continue;
        };
        match event {
            WritebackEvent::Proposed(proposal) if proposal.undo.is_some() => {
                remedies.insert(id);
            }
            WritebackEvent::Delivered(receipt) if !receipt.also.is_empty() => {
                count("delivered:as-one");
                if remedies.contains(&id) {
                    count("undone:as-one");
                }
            }
            _ => {}
        }
    }
    let refused = truth.refused.iter();
    refused
        .filter(|it| it.code == REFUSED)
        .for_each(|_| count("refused_call:not-together"));
}
