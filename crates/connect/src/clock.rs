//! The system's clock behind the `Clock` port. The only site that reads it.

use chaperone_core::Timestamp;
use chaperone_core::ports::Clock;

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one adapter that reads the clock"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
