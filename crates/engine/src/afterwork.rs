//! Work that follows an answer and must not delay it: what a read released, notices to humans.
//!
//! The queue is in memory and bounded. Losing it loses no state: a missing `read_released` leaves the
//! ceiling that `read_permitted` recorded, and the console's badge does not depend on notices.

use std::sync::Mutex;

use chaperone_core::ids::TenantId;
use chaperone_core::ports::{Commit, Notice};
use tokio::sync::mpsc;

use crate::context::Engine;

/// Most pieces of afterwork that wait; beyond that the newest is dropped and counted.
const WAITING_MAX: usize = 16_384;

/// One piece of afterwork.
#[derive(Debug)]
pub(crate) enum Piece {
    Record(Box<Commit>),
    Notify(TenantId, Notice),
}

#[derive(Debug)]
pub(crate) struct Afterwork {
    sender: mpsc::Sender<Piece>,
    receiver: Mutex<Option<mpsc::Receiver<Piece>>>,
}

impl Default for Afterwork {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
        }
    }
}

/// The receiving end, for the worker that runs it.
#[derive(Debug)]
pub struct AfterworkQueue(mpsc::Receiver<Piece>);

impl Engine {
    pub(crate) fn after(&self, piece: Piece) {
        if self.afterwork.sender.try_send(piece).is_err() {
            metrics::counter!("chaperone_afterwork_dropped_total").increment(1);
        }
    }

    /// Takes the queue; the one worker that drives it does this once.
    pub fn afterwork(&self) -> Option<AfterworkQueue> {
        let mut slot = self.afterwork.receiver.lock().ok()?;
        slot.take().map(AfterworkQueue)
    }

    /// Waits for afterwork and does what is there. False when the queue is closed.
    ///
    /// Cancel-safe while it waits.
    pub async fn run_afterwork(&self, queue: &mut AfterworkQueue) -> bool {
        const BATCH: usize = 256;
        let mut pieces = Vec::with_capacity(BATCH);
        if queue.0.recv_many(&mut pieces, BATCH).await == 0 {
            return false;
        }
        self.do_pieces(pieces).await;
        true
    }

    /// Does what waits now, without waiting for more: the last act of a shutdown.
    pub async fn drain_afterwork(&self, queue: &mut AfterworkQueue) {
        let mut pieces = Vec::new();
        while let Ok(piece) = queue.0.try_recv() {
            pieces.push(piece);
        }
        self.do_pieces(pieces).await;
    }

    async fn do_pieces(&self, pieces: Vec<Piece>) {
        // All at once, so that the store can commit them as one group.
        let all = pieces.into_iter().map(|piece| async {
            match piece {
                Piece::Record(commit) => {
                    if let Err(failed) = self.store.commit(*commit).await {
                        tracing::warn!(error = %failed, "what a read released was not recorded");
                    }
                }
                Piece::Notify(tenant, notice) => self.notifier.notify(&tenant, notice).await,
            }
        });
        futures::future::join_all(all).await;
    }
}
