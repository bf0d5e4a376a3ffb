//! The port for a named-entity model: a fourth layer behind record, patterns and lists. Off unless the
//! caller brings one; nothing of Chaperone ships one.

use super::class::Class;

/// A piece of a text that a model holds for an identifier, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entity {
    /// Where it begins.
    pub start: usize,
    /// Where it ends, exclusive.
    pub end: usize,
    /// What it is.
    pub class: Class,
}

/// The model did not answer; the text is then withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the entity finder did not answer")]
pub struct FinderFailed;

/// Finds identifiers that patterns and lists miss.
///
/// Durability: none. Concurrency: called from several threads. Retry: the caller never asks twice; a failure
/// withholds the text, and so does an answer that comes late. It holds a thread while it works, so an adapter gives
/// up by itself in time. It sees PHI: it must run inside the trusted boundary and keep nothing.
pub trait EntityFinder: Send + Sync {
    /// The identifiers of a text. Pieces that do not lie on character boundaries fail the text.
    ///
    /// # Errors
    /// [`FinderFailed`].
    fn find(&self, text: &str) -> Result<Vec<Entity>, FinderFailed>;
}
