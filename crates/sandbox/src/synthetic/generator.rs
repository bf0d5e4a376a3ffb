//! A tiny deterministic generator (SplitMix64).
//!
//! Not for secrets. Start at [`Generator::of_patient`].
//!
//! # Source
//! Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.

const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// Mixes a number into another one; different numbers give different results.
pub(crate) fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(GOLDEN_GAMMA);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// A stream of numbers that its seed determines.
#[derive(Debug, Clone)]
pub(crate) struct Generator(u64);

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mixed(seed))
    }

    /// The stream of one patient, independent of how many others are made.
    pub(crate) fn of_patient(seed: u64, position: usize) -> Self {
        let position = u64::try_from(position).unwrap_or(u64::MAX);
        Self::new(mixed(seed) ^ mixed(position.wrapping_add(1)).rotate_left(17))
    }

    pub(crate) fn next(&mut self) -> u64 {
        let number = mixed(self.0);
        self.0 = self.0.wrapping_add(GOLDEN_GAMMA);
        number
    }

    /// A number from `low` to `high`, both included; `low` when the range is empty.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        let width = u64::try_from(high.saturating_sub(low)).unwrap_or(0);
        let offset = self.next() % width.saturating_add(1);
        low.saturating_add(i64::try_from(offset).unwrap_or(0))
    }

    /// A version 4 UUID in its text form.
    pub(crate) fn uuid(&mut self) -> String {
        let high = (self.next() & 0xFFFF_FFFF_FFFF_0FFF) | 0x4000;
        let low = (self.next() & 0x3FFF_FFFF_FFFF_FFFF) | 0x8000_0000_0000_0000;
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xFFFF,
            high & 0xFFFF,
            low >> 48,
            low & 0xFFFF_FFFF_FFFF
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_in_range_and_uuids_have_their_shape() {
        let mut generator = Generator::new(1);
        for _ in 0..1_000 {
            assert!((-3..=4).contains(&generator.between(-3, 4)));
        }
        assert_eq!(generator.between(5, 5), 5);
        assert_eq!(generator.between(5, 4), 5);
        let uuid = generator.uuid();
        assert_eq!(uuid.len(), 36);
        assert_eq!(uuid.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&uuid.as_bytes()[19]));
    }
}
