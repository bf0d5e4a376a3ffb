//! `[retention]`: where it is kept, outside the database, who was shredded.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chaperone_connect::tombstones::FileTombstones;
use chaperone_engine::retention::tombstones::Tombstones;
use serde::Deserialize;

/// The section.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retention {
    #[serde(default = "tombstones")]
    tombstones: PathBuf,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            tombstones: tombstones(),
        }
    }
}

fn tombstones() -> PathBuf {
    PathBuf::from("tombstones")
}

impl Retention {
    /// Makes the path relative to the configuration file.
    pub(super) fn settle_in(&mut self, home: &Path) {
        self.tombstones = home.join(&self.tombstones);
    }

    /// The place.
    pub(super) fn tombstones(&self) -> Tombstones {
        Tombstones::kept_by(Arc::new(FileTombstones::new(&self.tombstones)))
    }
}
