//! The named-entity model of an organisation, if it has one, watched: what fails or comes late withholds the text,
//! and a model that was late once is not asked again for the same answer.
//!
//! Not here: the other layers of the scrubber, and what a model is. Nothing of Chaperone ships one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chaperone_core::ports::Clock;
use chaperone_phi::scrub::{Entity, EntityFinder, FinderFailed};

/// How long a model may take for one text, in milliseconds: what comes later is not used.
pub const FINDER_MS_MAX: i64 = 500;

/// A model behind the scrubber's port.
#[derive(Clone)]
pub struct Entities(Arc<dyn EntityFinder>);

impl Entities {
    /// With this model as the scrubber's last layer. It sees texts before anything is taken out of them.
    pub fn found_by(finder: Arc<dyn EntityFinder>) -> Self {
        Self(finder)
    }

    /// For the texts of one answer.
    pub(crate) fn watched<'e>(&'e self, clock: &'e dyn Clock) -> Watched<'e> {
        Watched {
            finder: self.0.as_ref(),
            clock,
            is_late: AtomicBool::new(false),
        }
    }
}

impl fmt::Debug for Entities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entities(..)")
    }
}

/// A model and the time it takes.
pub(crate) struct Watched<'e> {
    finder: &'e dyn EntityFinder,
    clock: &'e dyn Clock,
    is_late: AtomicBool,
}

impl EntityFinder for Watched<'_> {
    fn find(&self, text: &str) -> Result<Vec<Entity>, FinderFailed> {
        if self.is_late.load(Ordering::Relaxed) {
            return Err(FinderFailed);
        }
        let started = self.clock.now();
        let found = self.finder.find(text);
        let took = self.clock.now().duration_since(started);
        if took.as_millis() > i128::from(FINDER_MS_MAX) {
            self.is_late.store(true, Ordering::Relaxed);
            return Err(FinderFailed);
        }
        found
    }
}
