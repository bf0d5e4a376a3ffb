//! Checks over the repository itself: what no compiler sees and reviewers forget.
//!
//! Each module holds functions from text to problems, tested on bad samples first and then run over
//! the tree. They read files and never build anything. Start at [`layering`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason
)]

mod documents;
mod layering;
mod logging;
mod sources;
mod tree;

/// Fails with all problems at once, one per line.
#[track_caller]
fn none(problems: &[String]) {
    assert!(
        problems.is_empty(),
        "{} problem(s):\n{}",
        problems.len(),
        problems.join("\n")
    );
}
