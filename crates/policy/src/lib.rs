//! Policy: the governance bundle, what it lets agents call, and how much human authority a change
//! needs.
//!
//! Pure: files come in as text, answers are plain data (invariant 1). Cedar stands behind the answers
//! and appears in no public signature. What a change weighs is not decided here but in
//! `chaperone_core::change`; nothing in a bundle can go below it (invariant 7).
//!
//! Reading order:
//! 1. [`problem`]: what is wrong with a bundle, and where.
//! 2. [`facts`]: the closed vocabulary of what policies may rest on.
//! 3. [`bundle`]: agents, intents and tools, and how they must fit together.
//! 4. `row`: what the annotations of a policy mean. `set`: policies parsed, validated and sorted
//!    by what they apply to.
//! 5. [`access`]: may this tool be called? [`ruling`]: what gate does this change meet? `together`: what
//!    several that are made as one need.
//! 6. [`cases`]: the tests a bundle carries, and the ones it cannot drop. [`pairs`]: each beside its nearest
//!    neighbour. [`matrix`]: the policies as the table that clinical owners sign.
//! 7. [`invariants`]: what a bundle says must always hold. `prove`, behind the feature of that name:
//!    whether it does, for every request.
//! 8. [`embedded`]: the default bundle.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::disallowed_methods,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason
    )
)]

pub mod problem;

pub mod facts;

pub mod bundle;

mod est;
mod row;
mod set;

mod question;

pub mod access;
pub mod ruling;
mod together;

pub mod cases;
pub mod matrix;
pub mod pairs;

pub mod invariants;
#[cfg(feature = "prove")]
pub mod prove;

pub mod embedded;

pub use bundle::Bundle;
pub use problem::LoadProblem;
pub use ruling::RulingFailed;
