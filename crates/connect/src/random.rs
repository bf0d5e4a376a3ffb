//! The operating system's randomness behind the `Random` port. The only site that draws it.

use chaperone_core::ports::Random;

/// The operating system's cryptographically secure source.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one adapter that draws randomness"
    )]
    #[expect(
        clippy::expect_used,
        reason = "the source fails only when the system is broken; going on with predictable keys \
                  would be worse than stopping"
    )]
    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).expect("the system has no randomness");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        assert_ne!(OsRandom.key(), OsRandom.key());
    }
}
