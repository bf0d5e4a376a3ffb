//! The one source of chance: everything that a seed decides is drawn here, in the order in which it happens.
//!
//! SplitMix64: small, fast, the same on every machine. Not for secrets.
//!
//! # Source
//! Guy Steele, Doug Lea, Christine Flood: Fast splittable pseudorandom number generators, OOPSLA 2014.

use std::sync::Mutex;

use chaperone_core::ports::Random;

use crate::time::lock;

/// A stream of chance.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream of its own for a part, so that what one part draws does not move what another draws.
    pub(crate) fn apart(&mut self) -> Self {
        Self(self.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below a bound; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// From one number to another, both included.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        let span = most.saturating_sub(least).saturating_add(1);
        least.saturating_add(self.below(span))
    }

    /// Whether something happens that happens so many times in a thousand.
    pub(crate) fn in_thousand(&mut self, times: u64) -> bool {
        self.below(1_000) < times
    }

    /// One of several; none of none.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let at = usize::try_from(self.below(of.len() as u64)).unwrap_or(0);
        of.get(at)
    }

    /// A duration that is mostly near the least and now and then near the most.
    pub(crate) fn skewed(&mut self, least: u64, most: u64) -> u64 {
        let span = most.saturating_sub(least);
        let shift = self.below(12);
        least.saturating_add(self.below((span >> shift).saturating_add(1)))
    }
}

/// The randomness of one process, as the engine draws it.
#[derive(Debug)]
pub(crate) struct NodeRandom(Mutex<Chance>);

impl NodeRandom {
    pub(crate) fn new(chance: Chance) -> Self {
        Self(Mutex::new(chance))
    }
}

impl Random for NodeRandom {
    fn fill(&self, bytes: &mut [u8]) {
        let mut chance = lock(&self.0);
        for chunk in bytes.chunks_mut(8) {
            let drawn = chance.next().to_le_bytes();
            for (to, from) in chunk.iter_mut().zip(drawn) {
                *to = from;
            }
        }
    }
}
