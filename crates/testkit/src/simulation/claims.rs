//! People who take in hand what waits: they keep it, let it go, hand it to a colleague or to a role, are taken over, and
//! go away with somebody covering for them.

use std::future::Future;
use std::sync::Arc;

use chaperone_core::ids::WritebackId;
use chaperone_core::principal::{Human, Role};
use chaperone_engine::Engine;
use chaperone_engine::claim::{ClaimFailed, HandTo};

use super::play::Play;
use super::world::{OUTSIDE, SECOND, instant};

/// How often a person tries when the node does not answer.
const TRIES_MAX: u32 = 3;
/// How long somebody is away.
const AWAY: u64 = 300 * SECOND;
const NOTE: &str = "seen, and not decided";

/// Somebody takes it in hand before it is decided by whoever holds the role; not always whoever then decides.
pub(crate) async fn take_in_hand(play: &Arc<Play>, id: WritebackId, role: Role) {
    let world = &play.cluster.world;
    let people = &play.people;
    let (own, other) = (people.holding(role), people.beside(role));
    let what = world.with(|inner| inner.chance.below(8));
    match what {
        0 => {
            claim(play, &own, id).await;
        }
        1 => {
            claim(play, &other, id).await;
            let (after, lets_go) = world.with(|inner| {
                let after = inner.chance.skewed(SECOND, 60 * SECOND);
                (after, inner.chance.in_thousand(600))
            });
            if lets_go {
                let (play, world_) = (Arc::clone(play), Arc::clone(world));
                world.spawn(OUTSIDE, async move {
                    world_.sleep(after).await;
                    release(&play, &other, id).await;
                });
            }
        }
        2 => {
            claim(play, &own, id).await;
            hand(play, &own, id, HandTo::Pool(role)).await;
        }
        3 => {
            claim(play, &own, id).await;
            hand(play, &own, id, HandTo::Colleague(other.account)).await;
        }
        4 => {
            claim(play, &own, id).await;
            release(play, &own, id).await;
        }
        5 => {
            claim(play, &other, id).await;
            take_over(play, &own, id).await;
        }
        _ => {
            // What is handed to the one who asked, and is away, is the prescriber's.
            cover(play).await;
            let to = HandTo::Colleague(people.requester().account);
            hand(play, &other, id, to).await;
        }
    }
}

/// One person does something with a claim, and again where nobody could tell what came of it.
async fn act<F>(play: &Arc<Play>, ask: impl Fn(Arc<Engine>) -> F) -> bool
where
    F: Future<Output = Result<(), ClaimFailed>> + Send + 'static,
{
    let is_open = |failed: &ClaimFailed| {
        matches!(
            failed,
            ClaimFailed::Conflict
                | ClaimFailed::Vault(_)
                | ClaimFailed::Keys(_)
                | ClaimFailed::Store(_)
                | ClaimFailed::Commit(_)
        )
    };
    let told = play.ask_again(TRIES_MAX, is_open, ask).await;
    matches!(told, Some(Ok(())))
}

async fn claim(play: &Arc<Play>, by: &Human, id: WritebackId) -> bool {
    act(play, |engine| {
        let by = by.clone();
        async move { engine.claim(&by, id).await }
    })
    .await
}

async fn release(play: &Arc<Play>, by: &Human, id: WritebackId) -> bool {
    act(play, |engine| {
        let by = by.clone();
        async move { engine.release_claim(&by, id).await }
    })
    .await
}

/// Takes over what somebody else has in hand.
pub(crate) async fn take_over(play: &Arc<Play>, by: &Human, id: WritebackId) -> bool {
    act(play, |engine| {
        let by = by.clone();
        async move { engine.take_over(&by, id, NOTE).await }
    })
    .await
}

async fn hand(play: &Arc<Play>, by: &Human, id: WritebackId, to: HandTo) -> bool {
    act(play, |engine| {
        let (by, to) = (by.clone(), to.clone());
        async move { engine.hand_over(&by, id, to, NOTE).await }
    })
    .await
}

/// The clinician who asks is away for some minutes, and the prescriber covers.
async fn cover(play: &Arc<Play>) {
    let node = play.some_node();
    let (away, covers) = (play.people.requester(), play.people.prescriber());
    let span = play.cluster.world.with(|inner| {
        let until = inner.now.saturating_add(AWAY);
        (instant(inner.now, 0), instant(until, 0))
    });
    let _ = play
        .cluster
        .on(node, move |engine| async move {
            let set = engine.cover_set(&away, &away.account, &covers.account, span);
            set.await.is_ok()
        })
        .await;
}
