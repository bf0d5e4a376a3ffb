//! A clock that moves when told to, and randomness that repeats.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::ports::{Clock, Random};

/// A clock that stands still until it is moved, or moves at each reading.
#[derive(Debug)]
pub struct SeededClock {
    now: Mutex<Timestamp>,
    tick_us: AtomicI64,
}

impl SeededClock {
    /// A clock standing at a time.
    pub fn at(now: Timestamp) -> Self {
        Self {
            now: Mutex::new(now),
            tick_us: AtomicI64::new(0),
        }
    }

    /// From now on each reading moves the clock on by so many microseconds, as time goes by in the world.
    pub fn tick_us(&self, microseconds: i64) {
        self.tick_us.store(microseconds, Ordering::Relaxed);
    }

    /// A clock standing at a fixed, unremarkable time: 2030-01-01T12:00:00Z.
    pub fn new() -> Self {
        Self::at(Timestamp::from_second(1_893_499_200).unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// Moves the clock forward by whole seconds.
    pub fn advance_s(&self, seconds: i64) {
        self.advance_ms(seconds.saturating_mul(1_000));
    }

    /// Moves the clock forward by milliseconds.
    pub fn advance_ms(&self, milliseconds: i64) {
        let mut now = lock(&self.now);
        *now = Timestamp::from_millisecond(now.as_millisecond().saturating_add(milliseconds))
            .unwrap_or(*now);
    }
}

impl Default for SeededClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SeededClock {
    fn now(&self) -> Timestamp {
        let mut now = lock(&self.now);
        let read = *now;
        let tick_us = self.tick_us.load(Ordering::Relaxed);
        *now = Timestamp::from_microsecond(read.as_microsecond().saturating_add(tick_us))
            .unwrap_or(read);
        read
    }
}

/// Bytes that look random and repeat with the seed: a hash chain over a counter.
#[derive(Debug)]
pub struct SeededRandom {
    seed: u64,
    drawn: Mutex<u64>,
}

impl SeededRandom {
    /// A source for a seed.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            drawn: Mutex::new(0),
        }
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let mut drawn = lock(&self.drawn);
            let block = Digest::of_parts([&self.seed.to_be_bytes()[..], &drawn.to_be_bytes()[..]]);
            *drawn = drawn.wrapping_add(1);
            for (to, from) in chunk.iter_mut().zip(block.as_bytes()) {
                *to = *from;
            }
        }
    }
}

/// A lock that survives a panicking test.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_repeats_and_another_does_not() {
        let draw = |seed| {
            let random = SeededRandom::new(seed);
            (random.id(), random.key())
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let (id, key) = draw(1);
        assert_ne!(id[..], key[..16]);
    }

    #[test]
    fn the_clock_moves_only_when_told() {
        let clock = SeededClock::new();
        let before = clock.now();
        assert_eq!(clock.now(), before);
        clock.advance_s(90);
        assert_eq!(clock.now().as_second(), before.as_second() + 90);
    }
}
