//! Primitive elements: the value, its `_` sibling with id and extensions, and lists of both.
//!
//! Start at [`Walk::primitive_member`].
//!
//! Rules: <https://hl7.org/fhir/R4/json.html#primitive>.

use super::element::Walk;
use crate::definitions::tables::{Content, Element, TypeUse, flag};
use crate::finding::{Severity, id};
use crate::json::{Kind, Value};
use crate::primitive::{Fault, Primitive};
use crate::xhtml::{self, FaultKind};

impl<'d> Walk<'d> {
    /// Checks a primitive element: `value` is `name`, `sibling` is `_name`; at least one is there.
    pub(super) fn primitive_member(
        &mut self,
        value: Option<Value<'d>>,
        sibling: Option<Value<'d>>,
        element: &'d Element,
        type_use: &'d TypeUse,
    ) {
        let Content::Primitive(primitive) = type_use.content else {
            return;
        };
        if value.is_some_and(|value| !self.is_list_as_defined(value, element)) {
            return;
        }
        if sibling.is_some_and(|sibling| !self.is_list_as_defined(sibling, element)) {
            return;
        }
        if !element.has(flag::ARRAY) {
            self.primitive_item(value, sibling, element, primitive);
            return;
        }
        let length = |list: Option<Value<'d>>| list.map_or(0, |list| list.children().count());
        let (values, siblings) = (
            length(value),
            if sibling.is_some() {
                length(sibling)
            } else {
                0
            },
        );
        if let (Some(_), Some(sibling)) = (value, sibling)
            && values != siblings
        {
            let message = format!(
                "the list of values has {values} places and its `_` sibling {siblings}; fill up with null"
            );
            self.report(
                id::SIBLING_LENGTH,
                Severity::Warning,
                sibling,
                None,
                message,
            );
        }
        let mut value_items = value.map(Value::children);
        let mut sibling_items = sibling.map(Value::children);
        for index in 0..values.max(siblings) {
            self.path.at(Some(index));
            let item = value_items.as_mut().and_then(Iterator::next);
            let beside = sibling_items.as_mut().and_then(Iterator::next);
            let filled = |value: &Value<'d>| value.kind() != Kind::Null;
            let (kept, kept_beside) = (item.filter(filled), beside.filter(filled));
            if kept.is_none() && kept_beside.is_none() {
                if let Some(at) = item.or(beside) {
                    let message =
                        "this place holds neither a value nor an extension; remove it".to_owned();
                    self.error(id::NULL_WITHOUT_EXTENSION, at, message);
                }
                continue;
            }
            self.primitive_item(kept, kept_beside, element, primitive);
        }
        self.path.at(None);
        if let Some(list) = value.or(sibling) {
            self.count(list, element, values.max(siblings));
        }
    }

    fn primitive_item(
        &mut self,
        value: Option<Value<'d>>,
        sibling: Option<Value<'d>>,
        element: &'d Element,
        primitive: Primitive,
    ) {
        if let Some(sibling) = sibling {
            let node = self.definitions.node(self.definitions.tables.element_node);
            self.object(sibling, node, None);
        }
        match value {
            Some(value) => {
                let is_sound = self.primitive_value(value, primitive);
                if is_sound && element.binding != u32::MAX {
                    self.code_binding(value, element);
                }
            }
            None => {
                if let Some(at) = sibling
                    && element.binding != u32::MAX
                {
                    self.no_code(at, element);
                }
            }
        }
    }

    /// Checks format and kind; answers whether the value can be looked at further.
    fn primitive_value(&mut self, value: Value<'d>, primitive: Primitive) -> bool {
        let Err(fault) = primitive.check(value) else {
            if primitive == Primitive::Xhtml {
                self.narrative(value);
            }
            return true;
        };
        let expected = primitive.expected();
        let name = primitive.name();
        let (finding_id, severity, message) = match fault {
            Fault::Kind => {
                let kind = value.kind();
                if kind == Kind::Array {
                    (
                        id::ARRAY_NOT_ALLOWED,
                        Severity::Error,
                        "one value is expected here, not a list".to_owned(),
                    )
                } else {
                    let message = format!(
                        "{name} is written as {} in JSON; this is {}",
                        primitive.json_kind().with_article(),
                        kind.with_article()
                    );
                    (id::WRONG_JSON_KIND, Severity::Error, message)
                }
            }
            Fault::Empty => (
                id::PRIMITIVE_EMPTY,
                Severity::Error,
                "the value is empty; leave the element out".to_owned(),
            ),
            Fault::Blank => (
                id::PRIMITIVE_BLANK,
                Severity::Warning,
                "the value is only white space; leave the element out".to_owned(),
            ),
            Fault::Format if primitive == Primitive::Xhtml => (
                id::NARRATIVE_DIV,
                Severity::Error,
                format!("narrative must be {expected}"),
            ),
            Fault::Format => (
                id::PRIMITIVE_FORMAT,
                Severity::Error,
                format!("not a valid {name}: expected {expected}"),
            ),
            Fault::ImpossibleDate => {
                let message = format!("there is no such day or time; {name} is {expected}");
                (id::PRIMITIVE_IMPOSSIBLE_DATE, Severity::Error, message)
            }
            Fault::TimezoneMissing => (
                id::PRIMITIVE_TIMEZONE_MISSING,
                Severity::Error,
                "a date with a time needs a timezone: add Z, +hh:mm or -hh:mm".to_owned(),
            ),
            Fault::OutOfRange => (
                id::PRIMITIVE_OUT_OF_RANGE,
                Severity::Error,
                format!("out of range: expected {expected}"),
            ),
            Fault::TooLong => (
                id::PRIMITIVE_TOO_LONG,
                Severity::Error,
                format!("too long for {name}"),
            ),
        };
        self.report(finding_id, severity, value, None, message);
        severity < Severity::Error
    }

    /// Checks the inside of a `div`.
    fn narrative(&mut self, value: Value<'d>) {
        for fault in xhtml::check(value.as_str().unwrap_or_default()) {
            let finding_id = match fault.kind {
                FaultKind::NotXml
                | FaultKind::Entity(_)
                | FaultKind::NotADiv
                | FaultKind::Namespace => id::NARRATIVE_DIV,
                FaultKind::Element(_) | FaultKind::Attribute(..) | FaultKind::Instruction => {
                    id::NARRATIVE_CONTENT
                }
                FaultKind::Active(_) => id::NARRATIVE_ACTIVE,
                FaultKind::Nothing => id::NARRATIVE_EMPTY,
            };
            let message = format!(
                "{} (line {}, column {} of the narrative)",
                fault.kind.message(),
                fault.line,
                fault.column
            );
            self.error(finding_id, value, message);
        }
    }
}
