//! What runs in the background: delivery, the ledger's integrator, afterwork.
//!
//! The engine never spawns and never sleeps; this file does both for it, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use chaperone_engine::Engine;
use chaperone_engine::deliver::UnderWay;
use chaperone_engine::ledger::LEAVES_AT_ONCE;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long the delivery worker waits when there is nothing to do.
const IDLE: Duration = Duration::from_millis(250);
/// How long it waits after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How often the integrator looks for new entries.
const INTEGRATE_EVERY: Duration = Duration::from_millis(250);

/// How many of these looks pass between two at emergency accesses whose time is up.
const GLASS_EVERY: u32 = 40;

/// The background of one engine.
pub(crate) struct Workers {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts them.
    pub(crate) fn start(engine: &Arc<Engine>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let tasks = vec![
            tokio::spawn(deliver(Arc::clone(engine), stopped.clone())),
            tokio::spawn(integrate(Arc::clone(engine), stopped.clone())),
            tokio::spawn(afterwork(Arc::clone(engine), stopped)),
        ];
        Self { stop, tasks }
    }

    /// Lets each finish what it has in hand.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            if let Err(failed) = task.await {
                tracing::error!(error = %failed, "a worker ended badly");
            }
        }
    }
}

async fn deliver(engine: Arc<Engine>, mut stopped: watch::Receiver<bool>) {
    let mut changes = engine.changes();
    let mut under_way = UnderWay::default();
    while !*stopped.borrow() {
        let pause = match engine.start_due("delivery", &mut under_way).await {
            Ok(_) => IDLE,
            Err(failed) => {
                tracing::warn!(error = %failed, "delivery waits");
                AFTER_FAILURE
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = under_way.next() => {}
            _ = changes.changed() => {}
            _ = stopped.changed() => {}
        }
    }
    under_way.finish().await;
}

async fn integrate(engine: Arc<Engine>, mut stopped: watch::Receiver<bool>) {
    let mut rounds: u32 = 0;
    loop {
        let is_last = *stopped.borrow();
        if let Err(failed) = engine.record_counted_refusals(is_last).await {
            tracing::error!(error = %failed, "refusals that were counted are not recorded yet");
        }
        rounds = rounds.wrapping_add(1);
        if rounds.is_multiple_of(GLASS_EVERY)
            && let Err(failed) = engine.end_broken_glass().await
        {
            tracing::error!(error = %failed, "the end of an emergency access is not recorded yet");
        }
        match engine.integrate_ledger().await {
            Ok(0) if is_last => return,
            // Each checkpoint is signed and flushed twice: entries that come in one by one are gathered
            // for a moment, and only a backlog is worked off without a pause.
            Ok(taken) if is_last || taken >= u64::from(LEAVES_AT_ONCE) => continue,
            Ok(_) => {}
            Err(failed) => {
                tracing::error!(error = %failed, "the ledger was not integrated");
                if is_last {
                    return;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(INTEGRATE_EVERY) => {}
            _ = stopped.changed() => {}
        }
    }
}

async fn afterwork(engine: Arc<Engine>, mut stopped: watch::Receiver<bool>) {
    let Some(mut queue) = engine.afterwork() else {
        return;
    };
    while !*stopped.borrow() {
        tokio::select! {
            more = engine.run_afterwork(&mut queue) => if !more { return },
            _ = stopped.changed() => {}
        }
    }
    engine.drain_afterwork(&mut queue).await;
}
