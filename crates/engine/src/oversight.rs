//! Overseeing what agents get right and how people decide.
//!
//! ```text
//! ledger ─▶ follow: counts by intent, row, model, prompts ─▶ calibrated confidence ─▶ a fact for rulings
//!                 └▶ a drawn sample ─▶ sample: a person agrees or not ─▶ too much wrong ─▶ the row is demoted
//!                                                                    └▶ ruling: a person decides first, until restore
//! approvals of a person ─▶ pace: asked to pause
//! decisions that wait   ─▶ overdue: told to more people
//! ```
//! Nothing here lowers a gate below what its row says; the numbers are data of the bundle (`rules`).
//! Not here: what a ruling makes of the facts (`governance/policies`), and how a number comes about
//! (`chaperone_core::oversight::calibration`).

mod follow;
mod overdue;
mod pace;
mod restore;
pub(crate) mod rules;
mod ruling;
mod sample;
mod status;
mod tally;

pub use follow::{FollowFailed, Followed};
pub(crate) use pace::Paced;
pub use restore::RestoreFailed;
pub(crate) use ruling::maker_of;
pub use sample::SampleFailed;
pub use status::{DemotedRow, OversightView, SampleRow, TallyRow};
