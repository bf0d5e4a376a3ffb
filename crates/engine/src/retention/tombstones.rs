//! Where it is kept who was shredded, outside the database; and what a start does about it.

use std::fmt;
use std::sync::Arc;

use chaperone_core::ports::ShredTombstones;

/// The place, if there is one. Without it nobody can be shredded: a restore would bring them back.
#[derive(Clone, Default)]
pub struct Tombstones(Option<Arc<dyn ShredTombstones>>);

impl Tombstones {
    /// Kept here.
    pub fn kept_by(place: Arc<dyn ShredTombstones>) -> Self {
        Self(Some(place))
    }

    pub(crate) fn place(&self) -> Option<&dyn ShredTombstones> {
        self.0.as_deref()
    }
}

impl fmt::Debug for Tombstones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = if self.0.is_some() { "kept" } else { "none" };
        write!(f, "Tombstones({kept})")
    }
}
