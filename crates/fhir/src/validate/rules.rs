//! Rules of particular datatypes: extensions, required bindings.
//!
//! Invariants in general are FHIRPath and belong to a later stage; these few decide whether the structure
//! can be trusted at all.
//! Start at [`Walk::apply_rule`].

use super::element::Walk;
use super::path::quotable;
use crate::definitions::tables::{
    Binding, BindingStrength, CodeList, Element, Node, NodeRule, TypeUse,
};
use crate::finding::{Severity, id};
use crate::json::{Kind, Value};

/// Longest list of codes that a message spells out.
const LISTED_CODES_MAX: usize = 12;

impl<'d> Walk<'d> {
    /// Applies what the node's rule asks beyond its elements; the members have been checked before.
    pub(super) fn apply_rule(
        &mut self,
        value: Value<'d>,
        node: &Node,
        type_use: Option<&'d TypeUse>,
    ) {
        match node.rule {
            NodeRule::Extension => self.extension(value),
            NodeRule::Reference => self.reference(value, type_use),
            NodeRule::Coding => self.system(value),
            NodeRule::None => self.datatype(value, node),
            NodeRule::Resource | NodeRule::CodeableConcept | NodeRule::Narrative => {}
        }
    }

    /// Invariant ext-1: a value or nested extensions, not both.
    fn extension(&mut self, value: Value<'d>) {
        let has_nested = value.get("extension").is_some();
        let has_value = value
            .children()
            .filter_map(Value::key)
            .any(|key| key.strip_prefix('_').unwrap_or(key).starts_with("value"));
        if has_nested && has_value {
            let message =
                "an extension has either a value or nested extensions, not both".to_owned();
            self.error(id::EXTENSION_VALUE_AND_NESTED, value, message);
        } else if !has_nested && !has_value {
            let message = "an extension needs a value (`value[x]`) or nested extensions".to_owned();
            self.error(id::EXTENSION_EMPTY, value, message);
        }
        if let Some(url) = value.get("url")
            && url
                .as_str()
                .is_some_and(|url| !url.is_empty() && !url.contains(':'))
            && !self.path.is_nested_extension()
        {
            let message =
                "the URL of an extension must be absolute (only nested extensions use plain names)"
                    .to_owned();
            self.report(
                id::EXTENSION_URL_RELATIVE,
                Severity::Warning,
                url,
                None,
                message,
            );
        }
    }

    /// The required binding of an element with its code list, if there is one.
    fn required_binding(&self, element: &Element) -> Option<(&'d Binding, Option<&'d CodeList>)> {
        let binding = self.definitions.binding(element.binding)?;
        (binding.strength == BindingStrength::Required).then(|| {
            (
                binding,
                self.definitions
                    .code_list(binding.list)
                    .filter(|list| list.is_decidable),
            )
        })
    }

    /// Checks a plain code.
    pub(super) fn code_binding(&mut self, value: Value<'d>, element: &Element) {
        let Some((binding, list)) = self.required_binding(element) else {
            return;
        };
        let Some(list) = list else {
            self.not_checked(value, element, binding);
            return;
        };
        let Some(code) = value.as_str() else { return };
        if !self.definitions.list_has(list, None, code) {
            self.not_in_list(value, code, binding, list);
        }
    }

    /// A required binding on an element that has extensions but no value.
    pub(super) fn no_code(&mut self, at: Value<'d>, element: &Element) {
        if let Some((binding, _)) = self.required_binding(element) {
            let value_set = self.definitions.text(binding.value_set);
            let message =
                format!("a code from {value_set} is required; an extension cannot stand in for it");
            self.error(id::BINDING_NO_CODE, at, message);
        }
    }

    /// Checks a Coding or CodeableConcept.
    pub(super) fn concept_binding(&mut self, value: Value<'d>, node: &Node, element: &Element) {
        let Some((binding, list)) = self.required_binding(element) else {
            return;
        };
        let codings: &mut dyn Iterator<Item = Value<'d>> = match node.rule {
            NodeRule::CodeableConcept => {
                &mut value.get("coding").into_iter().flat_map(Value::children)
            }
            NodeRule::Coding => &mut std::iter::once(value),
            _ => return,
        };
        let mut first = None;
        for coding in codings {
            let Some(code) = coding.get("code").and_then(Value::as_str) else {
                continue;
            };
            let Some(list) = list else {
                self.not_checked(value, element, binding);
                return;
            };
            let system = coding
                .get("system")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if self.definitions.list_has(list, Some(system), code) {
                return;
            }
            first.get_or_insert((coding, code));
        }
        match (first, list) {
            (Some((coding, code)), Some(list)) => self.not_in_list(coding, code, binding, list),
            _ => {
                let value_set = self.definitions.text(binding.value_set);
                let message = format!("a coding from {value_set} is required");
                self.error(id::BINDING_NO_CODE, value, message);
            }
        }
    }

    fn not_in_list(&mut self, at: Value<'d>, code: &str, binding: &Binding, list: &CodeList) {
        let value_set = self.definitions.text(binding.value_set);
        let mut message = format!(
            "`{}` is not in the required value set {value_set}",
            quotable(code)
        );
        if list.codes.len() <= LISTED_CODES_MAX {
            let codes: Vec<_> = self.definitions.list_codes(list).collect();
            message.push_str("; allowed: ");
            message.push_str(&codes.join(", "));
        }
        self.error(id::BINDING_REQUIRED, at, message);
    }

    /// Says once per value set that its codes were not checked.
    fn not_checked(&mut self, at: Value<'d>, element: &Element, binding: &Binding) {
        if at.kind() == Kind::Null || self.unchecked_lists.contains(&element.binding) {
            return;
        }
        self.unchecked_lists.push(element.binding);
        let value_set = self.definitions.text(binding.value_set);
        let message =
            format!("codes of {value_set} cannot be checked with the code systems at hand");
        self.report(
            id::BINDING_NOT_CHECKED,
            Severity::Information,
            at,
            None,
            message,
        );
    }
}
