//! The scrubber as a whole: for each thing that goes, its nearest neighbour that stays.

use super::*;

mod cases;
mod documents;
mod record;
