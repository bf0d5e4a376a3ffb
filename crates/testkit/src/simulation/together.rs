//! Somebody who ticks everything that waits and approves it at once, light or not.

use std::sync::Arc;

use chaperone_core::digest::Digest;
use chaperone_core::ids::WritebackId;
use chaperone_core::principal::Human;
use chaperone_engine::approve::ApproveRequest;

use super::bugs::Bug;
use super::people::{agreed, waiting};
use super::play::Play;

/// Most that are ticked.
const TICKED_MAX: usize = 6;

/// Ticks one thing and whatever else waits. Whether the one was approved.
pub(crate) async fn decide(play: &Arc<Play>, by: &Human, own: (WritebackId, Digest)) -> bool {
    let mut items = vec![own];
    for row in waiting(play) {
        if let Some(digest) = row.digest
            && row.id != own.0
        {
            items.push((row.id, digest));
        }
    }
    items.truncate(TICKED_MAX);
    let numbers: Vec<usize> = items
        .iter()
        .map(|(id, digest)| agreed(play, by, (*id, *digest), (false, true)))
        .collect();
    let (node, who, ticked) = (play.some_node(), by.clone(), items.clone());
    let one_by_one = play.cluster.bug == Some(Bug::TogetherOneByOne);
    let done = play
        .cluster
        .on(node, move |engine| async move {
            if !one_by_one {
                let several = engine.approve_several(&who, &ticked, 60_000).await;
                let several = several.into_iter().flatten();
                return several.map(|it| it.done.is_ok()).collect::<Vec<bool>>();
            }
            let mut done = Vec::new();
            for (writeback, digest) in ticked {
                let request = ApproveRequest {
                    writeback,
                    digest,
                    step_up: None,
                    override_reason: None,
                    review_ms: 9_000,
                };
                done.push(engine.approve(&who, request).await.is_ok());
            }
            done
        })
        .await;
    let done = done.unwrap_or_default();
    play.cluster.world.with(|inner| {
        for (number, is_done) in numbers.iter().zip(&done) {
            if let (true, Some(agreed)) = (*is_done, inner.state.truth.agreed.get_mut(*number)) {
                agreed.taken = true;
            }
        }
    });
    done.first().copied().unwrap_or(false)
}
