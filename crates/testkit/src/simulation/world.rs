//! The world of one seed: true time, what is about to happen, and who is waiting for it. One thread, no
//! runtime, no clock but its own: the same seed and the same program give the same history.
//!
//! ```text
//! a task asks something of a port ──▶ it arrives ──▶ it takes effect ──▶ the answer arrives ──▶ the task goes on
//!                                   (lost, late, twice)               (lost, late)
//! ```
//! Every arrow is an event with a time; chance decides the times, and which of those that are ready goes on
//! first. Tasks belong to a process; a process that crashes loses its tasks wherever they wait, and what it had
//! asked arrives or does not. A process that is stopped keeps its tasks and does not run them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use chaperone_core::Timestamp;
use chaperone_core::ports::Clock;

use super::chance::Chance;
use super::faults::{Fault, Faults};
use super::state::State;
use super::trace::Trace;
use crate::time::lock;

/// Microseconds of true time since the seed began.
pub(crate) type Micros = u64;

/// One second.
pub(crate) const SECOND: Micros = 1_000_000;
/// One millisecond.
pub(crate) const MILLI: Micros = 1_000;

/// When every seed begins: 2026-12-01T15:00:00Z, a working day.
const BEGINS_S: i64 = 1_796_137_200;

/// A process: a node of Chaperone in one of its lives, or the outside, which never crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Process {
    /// 0 is the outside; nodes count from 1.
    pub(crate) node: usize,
    /// Counts starts.
    pub(crate) life: u32,
}

/// Agents, people and whatever else is no node of ours.
pub(crate) const OUTSIDE: Process = Process { node: 0, life: 0 };

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == OUTSIDE {
            return f.write_str("outside");
        }
        write!(f, "node-{}.{}", self.node, self.life)
    }
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;
type Happening = Box<dyn FnOnce(&mut Inner) + Send>;

struct Task {
    process: Process,
    work: Option<Work>,
    waker: Arc<TaskWaker>,
}

struct Due {
    at: Micros,
    tie: u32,
    count: u64,
    happening: Happening,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.tie, self.count).cmp(&(other.at, other.tie, other.count))
    }
}

/// How one node stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeState {
    pub(crate) life: u32,
    pub(crate) is_up: bool,
    /// Stopped (as by SIGSTOP) until then.
    pub(crate) stopped_until: Micros,
    /// How far its clock is off, in microseconds.
    pub(crate) clock_off: i64,
    /// Cut off from the store until then.
    pub(crate) no_store_until: Micros,
    /// Cut off from the EHR until then.
    pub(crate) no_ehr_until: Micros,
    /// What it asked and has not arrived yet dies with it, if chance says so.
    in_flight: Vec<Arc<AtomicBool>>,
}

/// What happens to a node in the middle of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doom {
    Crash,
    Stop,
}

/// Carries out what happens to nodes.
type Fates = Box<dyn Fn(usize, Doom) + Send>;

/// Everything but the tasks' code.
pub(crate) struct Inner {
    pub(crate) now: Micros,
    pub(crate) chance: Chance,
    pub(crate) faults: Faults,
    pub(crate) nodes: Vec<NodeState>,
    pub(crate) state: State,
    pub(crate) trace: Trace,
    pub(crate) steps: u64,
    queue: BinaryHeap<Reverse<Due>>,
    count: u64,
    tasks: BTreeMap<u64, Task>,
    next_task: u64,
    doomed: Vec<(usize, Doom)>,
}

impl Inner {
    /// Lets something happen some time later.
    pub(crate) fn later(
        &mut self,
        after: Micros,
        happening: impl FnOnce(&mut Inner) + Send + 'static,
    ) {
        self.count = self.count.saturating_add(1);
        let tie = (self.chance.next() >> 32) as u32;
        self.queue.push(Reverse(Due {
            at: self.now.saturating_add(after),
            tie,
            count: self.count,
            happening: Box::new(happening),
        }));
    }

    /// Whether a process is the present life of its node.
    pub(crate) fn lives(&self, process: Process) -> bool {
        process == OUTSIDE
            || self
                .nodes
                .get(process.node)
                .is_some_and(|node| node.is_up && node.life == process.life)
    }

    fn is_stopped(&self, process: Process) -> bool {
        self.nodes
            .get(process.node)
            .is_some_and(|node| self.now < node.stopped_until)
    }

    /// What the clock of a node says.
    pub(crate) fn clock(&self, node: usize) -> Timestamp {
        let off = self.nodes.get(node).map_or(0, |it| it.clock_off);
        instant(self.now, off)
    }

    /// Whoever asked may not live to hear the answer. What only looks is met more seldom: there is more of it.
    fn doom(&mut self, process: Process, journey: Journey) {
        if process == OUTSIDE {
            return;
        }
        for (fault, doom) in [
            (Fault::CrashInFlight, Doom::Crash),
            (Fault::StopInFlight, Doom::Stop),
        ] {
            let is_met = journey.changes || self.chance.in_thousand(40);
            if is_met && self.faults.happens(fault, &mut self.chance) {
                let (there, back) = (journey.there.unwrap_or(0), journey.back.unwrap_or(0));
                let within = there.saturating_add(back).saturating_add(MILLI);
                let after = self.chance.below(within);
                self.later(after, move |inner| {
                    if inner.lives(process) {
                        let now = inner.now;
                        inner.trace.fault(now, fault, process);
                        inner.doomed.push((process.node, doom));
                    }
                });
            }
        }
    }

    fn sent_by(&mut self, process: Process) -> Arc<AtomicBool> {
        let arrives = Arc::new(AtomicBool::new(true));
        if let Some(node) = self.nodes.get_mut(process.node) {
            if node.in_flight.len() > 64 {
                node.in_flight.retain(|it| Arc::strong_count(it) > 1);
            }
            node.in_flight.push(Arc::clone(&arrives));
        }
        arrives
    }
}

/// A true time as a clock shows it that is so many microseconds off.
pub(crate) fn instant(now: Micros, off: i64) -> Timestamp {
    let begins = BEGINS_S.saturating_mul(1_000_000);
    let micros = begins.saturating_add_unsigned(now).saturating_add(off);
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
}

/// The world, as tasks and ports hold it.
pub(crate) struct World {
    inner: Mutex<Inner>,
    ready: Arc<Mutex<VecDeque<u64>>>,
    fates: Mutex<Option<Fates>>,
}

struct TaskWaker {
    id: u64,
    is_queued: AtomicBool,
    ready: Arc<Mutex<VecDeque<u64>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::Relaxed) {
            lock(&self.ready).push_back(self.id);
        }
    }
}

/// Where an answer is put, and who waits for it.
struct Slot<T> {
    answer: Option<T>,
    waker: Option<Waker>,
}

/// Waits for something in the world.
pub(crate) struct Waiting<T>(Arc<Mutex<Slot<T>>>);

/// Ends a wait.
pub(crate) struct Teller<T>(Arc<Mutex<Slot<T>>>);

impl<T> Clone for Teller<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Teller<T> {
    /// The first thing told counts.
    pub(crate) fn tell(&self, answer: T) {
        let mut slot = lock(&self.0);
        if slot.answer.is_none() {
            slot.answer = Some(answer);
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }
}

impl<T> Waiting<T> {
    /// Whether it is over.
    pub(crate) fn is_told(&self) -> bool {
        lock(&self.0).answer.is_some()
    }

    /// What was told, if anything was.
    pub(crate) fn take(&mut self) -> Option<T> {
        lock(&self.0).answer.take()
    }
}

impl<T> Future for Waiting<T> {
    type Output = T;
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut slot = lock(&self.0);
        match slot.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// A wait, and what ends it.
pub(crate) fn wait<T>() -> (Teller<T>, Waiting<T>) {
    let slot = Arc::new(Mutex::new(Slot {
        answer: None,
        waker: None,
    }));
    (Teller(Arc::clone(&slot)), Waiting(slot))
}

/// When something asked takes effect and is answered; without a time it never is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Journey {
    /// Whether it changes something.
    pub(crate) changes: bool,
    pub(crate) there: Option<Micros>,
    pub(crate) back: Option<Micros>,
    /// Arrives once more, so long after the first time; the answer to that is lost, or the one that counts.
    pub(crate) again: Option<(Micros, bool)>,
    /// How long whoever asked waits.
    pub(crate) patience: Micros,
}

/// What came of asking.
#[derive(Debug)]
pub(crate) enum Asked<T> {
    Answered(T),
    /// Nobody knows.
    Silence,
}

impl World {
    pub(crate) fn new(
        chance: Chance,
        faults: Faults,
        nodes: usize,
        state: State,
        trace: Trace,
    ) -> Arc<Self> {
        let inner = Inner {
            now: 0,
            chance,
            faults,
            nodes: vec![NodeState::default(); nodes.saturating_add(1)],
            state,
            trace,
            steps: 0,
            queue: BinaryHeap::new(),
            count: 0,
            tasks: BTreeMap::new(),
            next_task: 0,
            doomed: Vec::new(),
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            ready: Arc::default(),
            fates: Mutex::default(),
        })
    }

    /// Says who carries out what happens to nodes.
    pub(crate) fn fated(&self, fates: impl Fn(usize, Doom) + Send + 'static) {
        *lock(&self.fates) = Some(Box::new(fates));
    }

    /// Looks at the world, or changes it. Never while a task's code runs inside.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Inner) -> T) -> T {
        look(&mut lock(&self.inner))
    }

    /// Gives a process a task.
    pub(crate) fn spawn(&self, process: Process, work: impl Future<Output = ()> + Send + 'static) {
        let mut inner = lock(&self.inner);
        let id = inner.next_task;
        inner.next_task = id.saturating_add(1);
        let waker = Arc::new(TaskWaker {
            id,
            is_queued: AtomicBool::new(false),
            ready: Arc::clone(&self.ready),
        });
        let task = Task {
            process,
            work: Some(Box::pin(work)),
            waker: Arc::clone(&waker),
        };
        inner.tasks.insert(id, task);
        drop(inner);
        waker.wake();
    }

    /// Asks a port something: what it does to the world, and when. The question arrives even when who asked
    /// has gone, unless it was still in that process when it crashed.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        process: Process,
        journey: Journey,
        mut effect: impl FnMut(&mut Inner) -> T + Send + 'static,
    ) -> Waiting<Asked<T>> {
        let (teller, waiting) = wait();
        let mut inner = lock(&self.inner);
        let arrives = inner.sent_by(process);
        inner.doom(process, journey);
        let patience = teller.clone();
        if let Some(there) = journey.there {
            inner.later(there, move |inner| {
                if !arrives.load(Ordering::Relaxed) {
                    return;
                }
                let first = effect(inner);
                let answer_of_second = journey.again.is_some_and(|(_, counts)| counts);
                match journey.back {
                    Some(0) if !answer_of_second => teller.tell(Asked::Answered(first)),
                    Some(back) if !answer_of_second => {
                        let teller = teller.clone();
                        inner.later(back, move |_| teller.tell(Asked::Answered(first)));
                    }
                    _ => {}
                }
                if let Some((after, counts)) = journey.again {
                    inner.later(after, move |inner| {
                        let second = effect(inner);
                        if let (true, Some(back)) = (counts, journey.back) {
                            inner.later(back, move |_| teller.tell(Asked::Answered(second)));
                        }
                    });
                }
            });
        }
        let is_certain = matches!(
            (journey.there, journey.back, journey.again),
            (Some(_), Some(_), None)
        );
        let arrives_in = journey
            .there
            .unwrap_or(0)
            .saturating_add(journey.back.unwrap_or(0));
        if !is_certain || arrives_in > journey.patience {
            inner.later(journey.patience, move |_| patience.tell(Asked::Silence));
        } else if process != OUTSIDE {
            // The question may die with the process; nobody is left to wait then.
            drop(patience);
        }
        waiting
    }

    /// Lets time pass.
    pub(crate) fn sleep(&self, after: Micros) -> Waiting<()> {
        let (teller, waiting) = wait();
        lock(&self.inner).later(after, move |_| teller.tell(()));
        waiting
    }

    /// Ends the present life of a node: its tasks are gone, and what it had asked arrives or does not.
    pub(crate) fn crash(&self, node: usize) {
        let mut gone = Vec::new();
        let mut inner = lock(&self.inner);
        let inner_now = &mut *inner;
        let Some(state) = inner_now.nodes.get_mut(node) else {
            return;
        };
        state.is_up = false;
        state.stopped_until = 0;
        for arrives in state.in_flight.drain(..) {
            if inner_now.chance.in_thousand(500) {
                arrives.store(false, Ordering::Relaxed);
            }
        }
        let of_node: Vec<u64> = inner
            .tasks
            .iter()
            .filter(|(_, task)| task.process.node == node)
            .map(|(id, _)| *id)
            .collect();
        for id in of_node {
            gone.extend(inner.tasks.remove(&id));
        }
        drop(inner);
        // Dropping a task runs its code, which may look at the world.
        drop(gone);
    }

    /// Runs until nothing is left to do, or somebody says that it is enough, or the steps are used up.
    pub(crate) fn run(
        &self,
        steps_max: u64,
        mut is_enough: impl FnMut(&mut Inner) -> bool,
    ) -> bool {
        loop {
            while let Some(id) = self.next_ready() {
                self.poll(id);
            }
            let mut inner = lock(&self.inner);
            if is_enough(&mut inner) {
                return true;
            }
            inner.steps = inner.steps.saturating_add(1);
            if inner.steps > steps_max {
                return false;
            }
            let Some(Reverse(due)) = inner.queue.pop() else {
                return true;
            };
            inner.now = inner.now.max(due.at);
            (due.happening)(&mut inner);
            let doomed = std::mem::take(&mut inner.doomed);
            drop(inner);
            if let (false, Some(fates)) = (doomed.is_empty(), lock(&self.fates).as_ref()) {
                doomed
                    .into_iter()
                    .for_each(|(node, doom)| fates(node, doom));
            }
        }
    }

    /// Ends it: whatever still waits is dropped.
    pub(crate) fn end(&self) {
        let (tasks, queue) = self.with(|inner| {
            (
                std::mem::take(&mut inner.tasks),
                std::mem::take(&mut inner.queue),
            )
        });
        let fates = lock(&self.fates).take();
        drop((tasks, queue, fates));
        lock(&self.ready).clear();
    }

    /// One of the tasks that can go on, by chance.
    fn next_ready(&self) -> Option<u64> {
        let mut inner = lock(&self.inner);
        let mut ready = lock(&self.ready);
        let inner = &mut *inner;
        let can_go_on: Vec<usize> = ready
            .iter()
            .enumerate()
            .filter(|(_, id)| {
                let task = inner.tasks.get(id);
                task.is_none_or(|task| !inner.is_stopped(task.process))
            })
            .map(|(at, _)| at)
            .collect();
        let at = match can_go_on.as_slice() {
            [] => return None,
            [one] => *one,
            several => *inner.chance.pick(several)?,
        };
        ready.remove(at)
    }

    fn poll(&self, id: u64) {
        let Some((mut work, waker)) = lock(&self.inner)
            .tasks
            .get_mut(&id)
            .and_then(|task| Some((task.work.take()?, Arc::clone(&task.waker))))
        else {
            return;
        };
        waker.is_queued.store(false, Ordering::Relaxed);
        let waker = Waker::from(waker);
        let polled = work.as_mut().poll(&mut Context::from_waker(&waker));
        let mut inner = lock(&self.inner);
        match (polled, inner.tasks.get_mut(&id)) {
            (Poll::Pending, Some(task)) => task.work = Some(work),
            (Poll::Ready(()), Some(_)) => {
                let gone = inner.tasks.remove(&id);
                drop(inner);
                drop((work, gone));
            }
            // It crashed itself.
            (_, None) => {
                drop(inner);
                drop(work);
            }
        }
    }
}

/// The clock of one node.
pub(crate) struct NodeClock {
    pub(crate) world: Arc<World>,
    pub(crate) node: usize,
}

impl Clock for NodeClock {
    fn now(&self) -> Timestamp {
        self.world.with(|inner| inner.clock(self.node))
    }
}
