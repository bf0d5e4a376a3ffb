//! Strict mode: checks an expression against the definitions without evaluating it.
//!
//! Start at [`check`].

use super::syntax::Compiled;
use crate::Definitions;

/// Why an expression cannot be right for a type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {position}: {message}")]
pub struct SemanticError {
    /// Byte position in the expression.
    pub position: usize,
    /// What is wrong.
    pub message: String,
}

pub(super) fn check(
    _compiled: &Compiled,
    _definitions: &Definitions,
    _root_type: &str,
) -> Result<(), SemanticError> {
    Ok(())
}
