//! What happened, line by line: the last lines to be read, a hash over all of them to compare runs by, and how
//! often each kind of thing happened.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;

use chaperone_core::digest::Digest;

use super::faults::Fault;
use super::world::Micros;

/// Lines kept for reading.
const LINES_MAX: usize = 400;

/// The trace of one seed.
#[derive(Debug)]
pub(crate) struct Trace {
    last: VecDeque<String>,
    hash: Digest,
    /// How often each fault happened.
    pub(crate) faults: BTreeMap<Fault, u64>,
}

impl Trace {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            last: VecDeque::new(),
            hash: Digest::of_bytes(&seed.to_be_bytes()),
            faults: BTreeMap::new(),
        }
    }

    /// Adds a line.
    pub(crate) fn say(&mut self, now: Micros, line: impl Display) {
        let line = format!("{:>11.6} {line}", now as f64 / 1e6);
        self.hash = Digest::of_parts([&self.hash.as_bytes()[..], line.as_bytes()]);
        if self.last.len() >= LINES_MAX {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// Counts a fault and adds a line about it.
    pub(crate) fn fault(&mut self, now: Micros, fault: Fault, whom: impl Display) {
        let count = self.faults.entry(fault).or_default();
        *count = count.saturating_add(1);
        self.say(now, format_args!("FAULT {} {whom}", fault.as_str()));
    }

    pub(crate) fn hash(&self) -> Digest {
        self.hash
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }
}
