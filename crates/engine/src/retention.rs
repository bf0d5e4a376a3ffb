//! What happens to what is kept: it goes at the end of its time, with a receipt; somebody holds it back; a patient is
//! shredded.
//!
//! ```text
//! rules (data) ─▶ sweep: what is due ─▶ still in work? held? ─▶ one commit: it goes, and the receipt is there
//! hold ─▶ nothing of the patient, or of anybody, goes          shred ─▶ tombstone ─▶ keys ─▶ rows ─▶ receipt
//! ```
//! Reading order: [`rules`] (how long), [`sweep`] (what goes), [`holds`] (what does not), [`status`] (how it stands),
//! [`shred`] (one patient, for good), [`tombstones`] (so that a restore does not undo it).

pub mod holds;
mod patient;
pub mod receipt;
mod remembered;
pub mod rules;
pub mod shred;
pub mod status;
pub mod sweep;
pub mod term;
pub mod tombstones;
