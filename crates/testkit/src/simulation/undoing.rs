//! Undo runs: an operator undoes what an agent did; what was not sent is set aside, and people let it go or reject it;
//! what was delivered gets a compensation, which people decide about like anything else.

use std::sync::Arc;

use chaperone_core::ids::{AgentId, WritebackId};
use chaperone_core::undo::UndoSelection;
use chaperone_engine::projection::WritebackRow;
use chaperone_engine::undo::UndoRequest;
use serde_json::json;

use super::bugs::Bug;
use super::people::{decide, rows, second_factor};
use super::play::Play;
use super::world::{OUTSIDE, SECOND};

/// The agents of the play.
const AGENTS: [&str; 4] = [
    "intake-agent",
    "scheduler-agent",
    "scribe-agent",
    "order-agent",
];

/// An operator starts a run.
pub(crate) async fn start(play: Arc<Play>) {
    let world = Arc::clone(&play.cluster.world);
    let by = play.people.operator();
    let Some(agent) = world.with(|inner| {
        let agent = inner.chance.pick(&AGENTS).copied()?;
        AgentId::new(agent).ok()
    }) else {
        return;
    };
    let request = UndoRequest {
        selection: UndoSelection {
            agent: Some(agent),
            ..UndoSelection::default()
        },
        reason: "its model is not to be trusted".to_owned(),
        stop_agent: false,
    };
    let Some(digest) = play
        .cluster
        .engine(1)
        .and_then(|engine| engine.undo_digest(&request).ok())
    else {
        return;
    };
    let factor = second_factor(&play, &by, json!({ "for": "matter" }), digest);
    let node = play.some_node();
    let started = play
        .cluster
        .on(node, move |engine| async move {
            engine.start_undo(&by, &request, factor).await.is_ok()
        })
        .await;
    world.with(|inner| {
        let now = inner.now;
        let line = format_args!("an undo run was started: {started:?}");
        inner.trace.say(now, line);
    });
}

/// Somebody looks at one thing that was set aside: it goes on where it was, or is rejected.
pub(crate) async fn look_at_aside(play: &Arc<Play>, row: &WritebackRow) {
    let world = &play.cluster.world;
    let (id, by, node) = (row.id, play.people.prescriber(), play.some_node());
    let is_let_go = world.with(|inner| inner.chance.in_thousand(500));
    let by_itself = play.cluster.bug == Some(Bug::ReleasedByNobody);
    if is_let_go && !by_itself {
        world.with(|inner| {
            let now = inner.now;
            inner.state.truth.released.push((id, now));
        });
    }
    let _ = play
        .cluster
        .on(node, move |engine| async move {
            if (is_let_go || by_itself)
                && engine.release_aside(&by, id, "it was right").await.is_ok()
            {
                return;
            }
            // What cannot go on any more is rejected.
            drop(engine.reject_aside(&by, id, "not needed").await);
        })
        .await;
}

/// People decide about compensations, and about what was let go, once each.
pub(crate) fn decide_what_waits(play: &Arc<Play>, known: &mut Vec<WritebackId>) {
    let released: Vec<WritebackId> = play.cluster.world.with(|inner| {
        let released = inner.state.truth.released.iter();
        released.map(|(id, _)| *id).collect()
    });
    for row in rows(play, &["awaiting_approval"]) {
        let waits = row.agent.as_str() == "chaperone" || released.contains(&row.id);
        if waits && !known.contains(&row.id) {
            known.push(row.id);
            let world = &play.cluster.world;
            world.spawn(OUTSIDE, decide(Arc::clone(play), row.id));
        }
    }
}

/// How often runs are gone on with.
pub(crate) const ADVANCE_EVERY: u64 = 7 * SECOND;
