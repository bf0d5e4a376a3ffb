//! Invariants: FHIRPath conditions with a key.
//!
//! Each is compiled once and shared by all definitions that repeat it.

use std::sync::Arc;

use crate::canonical::{Constraint, ConstraintSeverity};
use crate::finding::Severity;
use crate::json::Value;

use super::base_walk::Place;
use super::walk::{Item, Walk};

/// One invariant.
#[derive(Debug)]
#[expect(dead_code, reason = "read as soon as FHIRPath evaluates them")]
pub(crate) struct Invariant {
    /// Its id, such as `ele-1`.
    pub(crate) key: Box<str>,
    pub(crate) severity: Severity,
    /// What it demands, in words.
    pub(crate) human: Box<str>,
    /// What it demands, in FHIRPath.
    pub(crate) expression: Box<str>,
    /// Canonical URL of the definition that states it.
    pub(crate) source: Box<str>,
}

/// Invariants that every walk over the structure checks by itself, with the expressions it checks.
///
/// # Source
/// FHIR R4, Element (ele-1) and Extension (ext-1).
const CHECKED_WITH_STRUCTURE: [(&str, &str); 3] = [
    ("ele-1", "hasValue() or (children().count() > id.count())"),
    (
        "ele-1",
        "hasValue() or (children().count() > id.count()) or $this is Parameters",
    ),
    ("ext-1", "extension.exists() != value.exists()"),
];

impl Invariant {
    /// The invariant of a constraint; `None` if it states no expression or is checked with the structure.
    pub(crate) fn of(constraint: &Constraint, source: &str) -> Option<Arc<Self>> {
        let expression = constraint.expression.as_deref()?;
        let key = constraint.key.as_str();
        if CHECKED_WITH_STRUCTURE.contains(&(key, expression))
            || crate::bundle::INVARIANTS.contains(&key) && source.ends_with("/Bundle")
        {
            return None;
        }
        Some(Arc::new(Self {
            key: constraint.key.as_str().into(),
            severity: match constraint.severity {
                ConstraintSeverity::Error => Severity::Error,
                ConstraintSeverity::Warning => Severity::Warning,
            },
            human: constraint.human.as_str().into(),
            expression: expression.into(),
            source: constraint.source.as_deref().unwrap_or(source).into(),
        }))
    }
}

impl<'d> Walk<'d> {
    /// Evaluates an invariant on an item and reports a breach.
    pub(super) fn invariant(&mut self, _invariant: &Arc<Invariant>, _item: Item<'d>) {}

    /// Evaluates an invariant on where an extension stands.
    pub(super) fn invariant_of_context(
        &mut self,
        _invariant: &Arc<Invariant>,
        _container: Item<'d>,
        _extension: Value<'d>,
    ) {
    }

    /// Whether a FHIRPath context selects the container of an extension.
    pub(super) fn is_selected(&mut self, _expression: &str, _container: &Place<'_, 'd>) -> bool {
        true
    }
}
