//! Bindings of elements to value sets, as profiles and base types state them.
//!
//! What is in a value set is decided by terminology; here is only what a definition demands.

use super::walk::{Item, Walk};
use crate::canonical::Binding;
use crate::definitions::BindingStrength;
use crate::json::Value;

/// A binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BindingRule {
    pub(crate) strength: BindingStrength,
    /// Canonical URL, with version if stated.
    pub(crate) value_set: Box<str>,
}

impl BindingRule {
    /// The rule of a binding that names a value set.
    pub(crate) fn of(binding: &Binding) -> Option<Self> {
        let strength = match binding.strength.as_str() {
            "required" => BindingStrength::Required,
            "extensible" => BindingStrength::Extensible,
            "preferred" => BindingStrength::Preferred,
            _ => return None,
        };
        Some(Self {
            strength,
            value_set: binding.value_set.as_deref()?.into(),
        })
    }
}

impl<'d> Walk<'d> {
    /// Checks the codes of an item against a binding.
    pub(super) fn bound(
        &mut self,
        _binding: &BindingRule,
        _item: Item<'d>,
        _profile: Option<&str>,
    ) {
    }

    /// Whether the item holds a code of the value set; `None` if that cannot be decided.
    pub(super) fn is_bound(&mut self, _binding: &BindingRule, _item: Item<'d>) -> Option<bool> {
        None
    }

    /// Checks a Coding against its code system.
    pub(super) fn coding(&mut self, _coding: Value<'d>) {}
}
