//! Load: arrivals at a fixed rate whatever is answered (open loop), or a fixed number of callers that
//! each wait for their answer (closed loop).
//!
//! In the open loop a request's time counts from the moment it was due, so that whatever queues up
//! counts, in the load's own threads too. Timers of the runtime are as coarse as a millisecond, so a
//! thread of its own keeps the pace.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::disk::{now, processor_time};
use super::figures::us;

/// Most requests under way at once; arrivals beyond it are not sent and count as given up.
const UNDER_WAY_MAX: usize = 4_096;
/// Most arrivals that wait for the sending thread.
const DUE_MAX: usize = 65_536;
/// How long after its preparation a measurement starts.
const RUN_UP: Duration = Duration::from_millis(50);

/// Arrivals at a fixed rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrivals {
    pub(super) rate: u32,
    pub(super) span: Duration,
}

/// What became of one request.
pub(super) struct Answered<T> {
    /// From due to answered.
    pub(super) total: Duration,
    /// What the sender noted.
    pub(super) note: T,
}

/// What became of all.
pub(super) struct Outcome<T> {
    pub(super) answered: Vec<Answered<T>>,
    /// Refused or broken, by what was said.
    pub(super) failed: BTreeMap<String, u64>,
    /// From the first arrival to the last answer.
    pub(super) took: Duration,
    /// Processor time of the whole process meanwhile.
    pub(super) processor: Option<Duration>,
}

impl<T> Outcome<T> {
    fn start() -> Self {
        Self {
            answered: Vec::new(),
            failed: BTreeMap::new(),
            took: Duration::ZERO,
            processor: None,
        }
    }

    fn take(&mut self, total: Duration, answer: Result<T, String>) {
        match answer {
            Ok(note) => self.answered.push(Answered { total, note }),
            Err(said) => {
                let count = self.failed.entry(said).or_default();
                *count = count.saturating_add(1);
            }
        }
    }

    /// Answers per second.
    pub(super) fn per_s(&self) -> f64 {
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 {
            self.answered.len() as f64 / seconds
        } else {
            0.0
        }
    }

    /// Processor time of one answer: gateway, sandbox EHR and load together.
    pub(super) fn processor_us(&self) -> Option<f64> {
        let answers = self.answered.len();
        (answers > 0).then_some(us(self.processor?) / answers as f64)
    }

    /// Requests that brought no answer.
    pub(super) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

/// Sends arrivals in a thread and runtime of their own. `send` is given the number of the arrival.
pub(super) async fn open_loop<T, S, F>(arrivals: Arrivals, send: S) -> anyhow::Result<Outcome<T>>
where
    T: Send + 'static,
    S: Fn(usize) -> F + Send + 'static,
    F: Future<Output = Result<T, String>> + Send + 'static,
{
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("the load's runtime cannot start")?;
        let (due, arriving) = mpsc::channel(DUE_MAX);
        let pace = std::thread::Builder::new()
            .name("bench-pace".to_owned())
            .spawn(move || keep_pace(arrivals, &due))
            .context("the thread that keeps the pace cannot start")?;
        let outcome = runtime.block_on(send_all(arriving, send));
        if pace.join().is_err() {
            anyhow::bail!("the thread that keeps the pace ended badly");
        }
        Ok(outcome)
    })
    .await
    .context("the load ended badly")?
}

async fn send_all<T, S, F>(mut arriving: mpsc::Receiver<Instant>, send: S) -> Outcome<T>
where
    T: Send + 'static,
    S: Fn(usize) -> F,
    F: Future<Output = Result<T, String>> + Send + 'static,
{
    let mut outcome = Outcome::start();
    let mut under_way = JoinSet::new();
    let mut first = None;
    let mut number = 0_usize;
    loop {
        tokio::select! {
            biased;
            due = arriving.recv() => {
                let Some(due) = due else { break };
                first.get_or_insert(due);
                if under_way.len() >= UNDER_WAY_MAX {
                    outcome.take(Duration::ZERO, Err("given up: too many under way".to_owned()));
                    continue;
                }
                let answer = send(number);
                number = number.saturating_add(1);
                under_way.spawn(async move {
                    let answer = answer.await;
                    (due.elapsed(), answer)
                });
            }
            Some(done) = under_way.join_next(), if !under_way.is_empty() => note(&mut outcome, done),
        }
    }
    while let Some(done) = under_way.join_next().await {
        note(&mut outcome, done);
    }
    outcome.took = first.map_or(Duration::ZERO, |first| first.elapsed());
    outcome
}

fn note<T>(
    outcome: &mut Outcome<T>,
    done: Result<(Duration, Result<T, String>), tokio::task::JoinError>,
) {
    match done {
        Ok((total, answer)) => outcome.take(total, answer),
        Err(_ended) => outcome.take(Duration::ZERO, Err("the sender ended badly".to_owned())),
    }
}

/// Says when each request is due. A thread that wakes late says so late, and the request's time has
/// begun all the same.
#[expect(
    clippy::disallowed_methods,
    reason = "this thread does nothing but wait for the next arrival"
)]
fn keep_pace(arrivals: Arrivals, due: &mpsc::Sender<Instant>) {
    let start = now() + RUN_UP;
    let count = u64::from(arrivals.rate).saturating_mul(arrivals.span.as_secs());
    for number in 0..count {
        let after_s = number as f64 / f64::from(arrivals.rate);
        let at = start + Duration::from_secs_f64(after_s);
        let left = at.saturating_duration_since(now());
        if !left.is_zero() {
            std::thread::sleep(left);
        }
        if due.blocking_send(at).is_err() {
            return;
        }
    }
}

/// Callers that each wait for their answer, on the runtime that this is called in. `call` is given the
/// caller's number and the number of the call.
pub(super) async fn closed_loop<T, S, F>(
    callers: usize,
    span: Duration,
    call: S,
) -> anyhow::Result<Outcome<T>>
where
    T: Send + 'static,
    S: Fn(usize, u64) -> F + Send + Sync + 'static,
    F: Future<Output = Result<T, String>> + Send + 'static,
{
    let call = Arc::new(call);
    let used_before = processor_time();
    let started = now();
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let call = Arc::clone(&call);
        tasks.spawn(async move {
            let mut outcome = Outcome::start();
            let mut number = 0_u64;
            while started.elapsed() < span {
                let sent = now();
                let answer = call(caller, number).await;
                number = number.saturating_add(1);
                outcome.take(sent.elapsed(), answer);
            }
            outcome
        });
    }
    let mut all = Outcome::start();
    while let Some(done) = tasks.join_next().await {
        let of_one = done.context("a caller ended badly")?;
        all.answered.extend(of_one.answered);
        for (said, count) in of_one.failed {
            let known = all.failed.entry(said).or_default();
            *known = known.saturating_add(count);
        }
    }
    all.took = started.elapsed();
    all.processor = processor_time()
        .zip(used_before)
        .and_then(|(after, before)| after.checked_sub(before));
    Ok(all)
}

/// The same in a thread and runtime of their own.
pub(super) async fn closed_loop_apart<T, S, F>(
    callers: usize,
    span: Duration,
    call: S,
) -> anyhow::Result<Outcome<T>>
where
    T: Send + 'static,
    S: Fn(usize, u64) -> F + Send + Sync + 'static,
    F: Future<Output = Result<T, String>> + Send + 'static,
{
    tokio::task::spawn_blocking(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("the load's runtime cannot start")?
            .block_on(closed_loop(callers, span, call))
    })
    .await
    .context("the load ended badly")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_arrival_is_answered_or_counted_as_failed() {
        let arrivals = Arrivals {
            rate: 50,
            span: Duration::from_secs(1),
        };
        let outcome = open_loop(arrivals, |number| async move {
            if number % 5 == 0 {
                Err("no".to_owned())
            } else {
                Ok(number)
            }
        })
        .await
        .unwrap();
        assert_eq!(outcome.answered.len(), 40);
        assert_eq!(outcome.failed.get("no"), Some(&10));
    }

    #[tokio::test]
    async fn an_answer_that_waited_counts_from_when_it_was_due() {
        let (due, arriving) = mpsc::channel(4);
        let long_ago = now().checked_sub(Duration::from_secs(7)).unwrap();
        due.send(long_ago).await.unwrap();
        drop(due);
        let outcome = send_all(arriving, |_| async { Ok(()) }).await;
        assert!(outcome.answered[0].total >= Duration::from_secs(7));
    }
}
