//! What runs in the background: delivery, the ledger's integrator, afterwork, the list of accesses, the sweeper, undo runs, cohort
//! jobs, canaries, telling the ledger what left, and the stream of AuditEvents where one is configured.
//!
//! The engine never spawns and never sleeps; this file does both for it, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use chaperone_connect::egress::Gate;
use chaperone_core::ports::AuditSink;
use chaperone_engine::Engine;
use chaperone_engine::deliver::UnderWay;
use chaperone_engine::ledger::LEAVES_AT_ONCE;
use chaperone_engine::retention::sweep::{SweepFailed, SweepOptions};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long the delivery worker waits when there is nothing to do.
const IDLE: Duration = Duration::from_millis(250);
/// How long it waits after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How often the integrator looks for new entries.
///
/// Every look that finds some costs two flushes; every leaf found makes the one commit longer behind which
/// reads and writes wait.
const INTEGRATE_EVERY: Duration = Duration::from_millis(100);
/// How many of these looks pass between two at emergency accesses whose time is up.
const GLASS_EVERY: u32 = 100;
/// How often the list of accesses looks for new entries once it has followed the ledger to its end.
const INDEX_EVERY: Duration = Duration::from_secs(2);
/// Entries it takes at once.
const INDEX_AT_ONCE: u64 = 64;
/// While others come in, it rests so many times as long as it has worked: reads and writes go first.
const INDEX_RESTS: u32 = 4;
/// For how long what follows an answer is gathered, so that it reaches the disk together.
const AFTERWORK_EVERY: Duration = Duration::from_millis(20);
/// How often the sweeper looks whether anybody was shredded at another node.
const RETENTION_EVERY: Duration = Duration::from_secs(60);
/// How many of these looks pass between two sweeps; the first comes after a few.
const SWEEP_EVERY: u32 = 60;
const SWEEP_FIRST: u32 = 2;
/// How often overseeing looks for new entries, and how many it takes before it rests.
const OVERSEE_EVERY: Duration = Duration::from_secs(1);
const OVERSEE_AT_ONCE: u64 = 256;
/// How often canaries are looked after.
const CANARIES_EVERY: Duration = Duration::from_secs(60);
/// How often runs that undo something are looked at.
const UNDO_EVERY: Duration = Duration::from_secs(1);
/// How often approved lists of patients are gone on with.
const COHORTS_EVERY: Duration = Duration::from_secs(1);
/// How long the stream of AuditEvents waits when there is nothing new.
const STREAM_EVERY: Duration = Duration::from_secs(1);
/// How long it waits after a failure; twice as long after each further one, up to the second.
const STREAM_AFTER_FAILURE: Duration = Duration::from_secs(1);
const STREAM_AFTER_FAILURE_MAX: Duration = Duration::from_secs(300);
/// How often the gate is asked what the ledger should be told.
const COUNT_EVERY: Duration = Duration::from_millis(500);

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
            tokio::spawn(index(Arc::clone(engine), stopped.clone())),
            tokio::spawn(retain(Arc::clone(engine), stopped.clone())),
            tokio::spawn(undo(Arc::clone(engine), stopped.clone())),
            tokio::spawn(cohorts(Arc::clone(engine), stopped.clone())),
            tokio::spawn(oversee(Arc::clone(engine), stopped.clone())),
            tokio::spawn(canaries(Arc::clone(engine), stopped.clone())),
            tokio::spawn(afterwork(Arc::clone(engine), stopped)),
        ];
        Self { stop, tasks }
    }

    /// The same with AuditEvents streamed to a sink.
    /// `name` is what its place in the ledger is kept under.
    pub(crate) fn streaming(
        mut self,
        engine: &Arc<Engine>,
        name: &'static str,
        sink: Arc<dyn AuditSink>,
    ) -> Self {
        let stopped = self.stop.subscribe();
        self.tasks.push(tokio::spawn(stream(
            Arc::clone(engine),
            name,
            sink,
            stopped,
        )));
        self
    }

    /// The same with the ledger told what passed the gate and what did not.
    pub(crate) fn counting(mut self, engine: &Arc<Engine>, gate: Gate) -> Self {
        let stopped = self.stop.subscribe();
        self.tasks
            .push(tokio::spawn(count(Arc::clone(engine), gate, stopped)));
        self
    }

    /// Lets each finish what it has in hand.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            if let Err(failed) = task.await {
                tracing::error!(panicked = failed.is_panic(), "a worker ended badly");
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
        if let Err(failed) = engine.record_key_events(is_last).await {
            tracing::error!(error = %failed, "what keys were used for is not recorded yet");
        }
        rounds = rounds.wrapping_add(1);
        if rounds.is_multiple_of(GLASS_EVERY)
            && let Err(failed) = engine.end_broken_glass().await
        {
            tracing::error!(error = %failed, "the end of an emergency access is not recorded yet");
        }
        if rounds.is_multiple_of(GLASS_EVERY)
            && let Err(failed) = engine.end_exceptions().await
        {
            tracing::error!(error = %failed, "the end of an exception is not recorded yet");
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

async fn index(engine: Arc<Engine>, mut stopped: watch::Receiver<bool>) {
    let mut size = 0;
    while !*stopped.borrow() {
        let began = tokio::time::Instant::now();
        let pause = match engine.index_accesses(INDEX_AT_ONCE).await {
            Ok(indexed) if indexed.behind() == 0 => INDEX_EVERY,
            // Nothing came in since: what is left is worked off without a pause.
            Ok(indexed) if indexed.size == size => continue,
            Ok(indexed) => {
                size = indexed.size;
                began.elapsed().saturating_mul(INDEX_RESTS)
            }
            Err(failed) => {
                tracing::warn!(error = %failed, "the list of accesses waits");
                INDEX_EVERY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stopped.changed() => {}
        }
    }
}

async fn retain(engine: Arc<Engine>, mut stopped: watch::Receiver<bool>) {
    let mut rounds: u32 = 0;
    while !*stopped.borrow() {
        if let Err(failed) = engine.notice_shreds().await {
            tracing::error!(error = %failed, "a shredding is not gone on with yet");
        }
        if rounds % SWEEP_EVERY == SWEEP_FIRST {
            // Whatever was looked up long ago.
            engine.forget_lookups();
            sweep(&engine, &stopped).await;
        }
        rounds = rounds.wrapping_add(1);
        tokio::select! {
            () = tokio::time::sleep(RETENTION_EVERY) => {}
            _ = stopped.changed() => {}
        }
    }
}

async fn undo(engine: Arc<Engine>, mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        match engine.advance_undo_runs().await {
            // What moved may let something else move.
            Ok(moved) if moved > 0 => continue,
            Ok(_) => {}
            Err(failed) => tracing::warn!(error = %failed, "undo runs wait"),
        }
        // Not at every change: a busy system changes many times a second, and a run waits for people.
        tokio::select! {
            () = tokio::time::sleep(UNDO_EVERY) => {}
            _ = stopped.changed() => {}
        }
    }
}

async fn cohorts(engine: Arc<Engine>, mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        if let Err(failed) = engine.advance_cohorts().await {
            tracing::warn!(error = %failed, "cohort jobs wait");
        }
        tokio::select! {
            () = tokio::time::sleep(COHORTS_EVERY) => {}
            _ = stopped.changed() => {}
        }
    }
}

async fn oversee(engine: Arc<Engine>, mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        let pause = match engine.follow_oversight(OVERSEE_AT_ONCE).await {
            // Reads and writes go first, so it rests between pages of a backlog too.
            Ok(followed) if followed.behind() > 0 => OVERSEE_EVERY / 10,
            Ok(_) => OVERSEE_EVERY,
            Err(failed) => {
                tracing::warn!(error = %failed, "overseeing waits");
                OVERSEE_EVERY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stopped.changed() => {}
        }
    }
}

async fn canaries(engine: Arc<Engine>, mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        if let Err(failed) = engine.tend_canaries().await {
            tracing::warn!(error = %failed, "canaries wait");
        }
        tokio::select! {
            () = tokio::time::sleep(CANARIES_EVERY) => {}
            _ = stopped.changed() => {}
        }
    }
}

async fn sweep(engine: &Engine, stopped: &watch::Receiver<bool>) {
    loop {
        match engine.sweep_retention(SweepOptions::default()).await {
            Ok(swept) if swept.more && !*stopped.borrow() => {}
            Ok(_) | Err(SweepFailed::Elsewhere { .. }) => return,
            Err(failed) => {
                tracing::error!(error = %failed, "the sweeper waits");
                return;
            }
        }
    }
}

async fn stream(
    engine: Arc<Engine>,
    name: &'static str,
    sink: Arc<dyn AuditSink>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut after_failure = STREAM_AFTER_FAILURE;
    while !*stopped.borrow() {
        let pause = match engine.stream_audit_events(name, sink.as_ref()).await {
            Ok(streamed) => {
                after_failure = STREAM_AFTER_FAILURE;
                if streamed.entries > 0 {
                    continue;
                }
                STREAM_EVERY
            }
            Err(failed) => {
                tracing::error!(stream = name, error = %failed, "the stream of AuditEvents waits");
                let pause = after_failure;
                after_failure = pause.saturating_mul(2).min(STREAM_AFTER_FAILURE_MAX);
                pause
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stopped.changed() => {}
        }
    }
}

async fn count(engine: Arc<Engine>, gate: Gate, mut stopped: watch::Receiver<bool>) {
    loop {
        let is_last = *stopped.borrow();
        tell_egress(&engine, &gate, is_last).await;
        if is_last {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(COUNT_EVERY) => {}
            _ = stopped.changed() => {}
        }
    }
}

/// Tells the ledger what passed the gate and what did not; what cannot be recorded is kept.
pub(crate) async fn tell_egress(engine: &Engine, gate: &Gate, all: bool) {
    let due = gate.due(all);
    if let Err(failed) = engine.record_egress(&due).await {
        tracing::error!(error = %failed, "what left is not recorded yet");
        gate.take_back(due);
    }
}

async fn afterwork(engine: Arc<Engine>, mut stopped: watch::Receiver<bool>) {
    let Some(mut queue) = engine.afterwork() else {
        return;
    };
    while !*stopped.borrow() {
        tokio::select! {
            more = engine.run_afterwork(&mut queue) => if !more { return },
            _ = stopped.changed() => continue,
        }
        tokio::select! {
            () = tokio::time::sleep(AFTERWORK_EVERY) => {}
            _ = stopped.changed() => {}
        }
    }
    engine.drain_afterwork(&mut queue).await;
}
