//! People who change what an agent proposed instead of deciding about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use chaperone_core::gate::Gate;
use chaperone_core::ids::WritebackId;
use chaperone_engine::approve::DecideFailed;
use chaperone_engine::edit::{EditFailed, EditRequest};
use chaperone_engine::projection::WritebackRow;

use super::play::Play;
use super::state::Edited;
use super::world::SECOND;

/// How often a person tries when the node does not answer.
const TRIES_MAX: u32 = 4;

/// One person changes what waits. The id of what it was changed into, if they were told.
pub(crate) async fn edit(play: &Arc<Play>, row: &WritebackRow) -> Option<WritebackId> {
    let world = &play.cluster.world;
    let (gate, digest) = (row.gate.as_ref()?, row.digest?);
    let inputs = changed(play, row)?;
    let by = match gate {
        // Orders are changed by the clinician who asked for them, or by nobody.
        Gate::Approve2f { .. } | Gate::TwoPerson { .. } => play.people.requester(),
        Gate::Approve { roles } => play.people.holding(*roles.first()?),
        _ => return None,
    };
    let request = EditRequest {
        writeback: row.id,
        digest,
        inputs,
        reason: "put right".to_owned(),
    };
    let number = world.with(|inner| {
        let truth = &mut inner.state.truth;
        let human = truth.human(&by);
        truth.edited.push(Edited {
            of: row.id,
            human,
            at: inner.now,
            into: None,
        });
        truth.edited.len().saturating_sub(1)
    });
    for _ in 0..TRIES_MAX {
        let (node, who, asked) = (play.some_node(), by.clone(), request.clone());
        let answer = play
            .cluster
            .on(node, move |engine| async move {
                engine.edit(&who, asked).await.map(|made| made.id)
            })
            .await;
        match answer {
            Some(Ok(into)) => {
                world.with(|inner| {
                    let truth = &mut inner.state.truth;
                    if let Some(edited) = truth.edited.get_mut(number) {
                        edited.into = Some(into);
                    }
                    if let Some(patient) = truth.patient_of.get(&row.id).cloned() {
                        truth.patient_of.insert(into, patient);
                    }
                });
                return Some(into);
            }
            Some(Err(
                EditFailed::Decide(
                    DecideFailed::Store(_)
                    | DecideFailed::Commit(_)
                    | DecideFailed::Keys(_)
                    | DecideFailed::Switched
                    | DecideFailed::Conflict,
                )
                | EditFailed::Call(_),
            ))
            | None => world.sleep(2 * SECOND).await,
            Some(Err(refused)) => {
                world.with(|inner| {
                    let now = inner.now;
                    let code = refused.code();
                    inner
                        .trace
                        .say(now, format_args!("an edit is refused: {code}"));
                });
                return None;
            }
        }
    }
    None
}

/// What a person writes in the form.
fn changed(play: &Play, row: &WritebackRow) -> Option<BTreeMap<String, String>> {
    let drawn = play.cluster.world.with(|inner| inner.chance.below(3));
    let of = |all: [&'static str; 3]| {
        usize::try_from(drawn)
            .ok()
            .and_then(|at| all.get(at).copied())
    };
    let (name, value) = match row.tool.as_str() {
        "draft_note" => (
            "text",
            of(["Seen. Call soon.", "Seen today.", "Not seen."])?,
        ),
        "order_lab" => ("test", of(["2345-7", "2160-0", "3016-3"])?),
        "order_medication" => ("dose", of(["5", "8", "9"])?),
        _ => return None,
    };
    Some(BTreeMap::from([(name.to_owned(), value.to_owned())]))
}
