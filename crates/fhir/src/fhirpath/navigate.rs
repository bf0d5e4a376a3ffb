//! From an element to its children: by name, by choice (`value` finds `valueQuantity`), or all of them.
//!
//! The JSON members are looked at first and the definitions only where a name fits, because most paths of
//! invariants lead to nothing. Items are handed to a function one by one; nothing is collected.
//! Start at [`named`] and [`children`].

use super::EvaluationError;
use super::item::{ElementItem, Shape};
use crate::Definitions;
use crate::definitions::tables::flag;
use crate::json::{Kind, Value};

/// Whether the receiver wants more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    More,
    Enough,
}

pub(super) type Passed = Result<Flow, EvaluationError>;

/// Hands the children of that name to `sink`, in the order of the source.
pub(super) fn named<'a>(
    definitions: &Definitions,
    element: &ElementItem<'a>,
    name: &str,
    sink: &mut dyn FnMut(ElementItem<'a>) -> Passed,
) -> Passed {
    let Some(object) = element.object() else {
        return Ok(Flow::More);
    };
    let mut main = None;
    let mut sibling = None;
    for child in object.children() {
        if let Some((plain, is_sibling)) = fitting(definitions, element.shape(), child, name) {
            let place = if is_sibling { &mut sibling } else { &mut main };
            place.get_or_insert((child, plain));
        }
    }
    match (main, sibling) {
        (None, None) => Ok(Flow::More),
        (Some((value, key)), sibling) => {
            let sibling = sibling.filter(|(_, other)| *other == key).map(|(it, _)| it);
            members(definitions, element, key, Some(value), sibling, sink)
        }
        (None, Some((value, key))) => members(definitions, element, key, None, Some(value), sink),
    }
}

/// Whether there is a child of that name; its type is not looked up.
pub(super) fn has_named(definitions: &Definitions, element: &ElementItem<'_>, name: &str) -> bool {
    element.object().is_some_and(|object| {
        object.children().any(|child| {
            fitting(definitions, element.shape(), child, name).is_some() && is_filled(child)
        })
    })
}

/// Whether a member gives at least one element.
pub(super) fn is_filled(value: Value<'_>) -> bool {
    match value.kind() {
        Kind::Null => false,
        Kind::Array => value.children().any(|item| item.kind() != Kind::Null),
        _ => true,
    }
}

/// The key without `_` and whether it had one, if the member belongs to the child of that name.
fn fitting<'a>(
    definitions: &Definitions,
    shape: Shape,
    member: Value<'a>,
    name: &str,
) -> Option<(&'a str, bool)> {
    let key = member.key()?;
    let (plain, is_sibling) = match key.strip_prefix('_') {
        Some(plain) => (plain, true),
        None => (key, false),
    };
    if plain.len() < name.len() || !plain.starts_with(name) {
        return None;
    }
    (plain.len() == name.len() || is_choice_of(definitions, shape, plain, name))
        .then_some((plain, is_sibling))
}

/// Whether a member such as `valueQuantity` is the choice element of that name.
fn is_choice_of(definitions: &Definitions, shape: Shape, key: &str, name: &str) -> bool {
    let Shape::Node(node) = shape else {
        return false;
    };
    if !key
        .as_bytes()
        .get(name.len())
        .is_some_and(u8::is_ascii_uppercase)
    {
        return false;
    }
    definitions
        .name(definitions.node(node), key)
        .map(|found| definitions.element(found.element))
        .is_some_and(|it| it.has(flag::CHOICE) && definitions.text(it.name) == name)
}

/// Hands all child elements to `sink`, in the order of the source. `resourceType` is no element.
pub(super) fn children<'a>(
    definitions: &Definitions,
    element: &ElementItem<'a>,
    sink: &mut dyn FnMut(ElementItem<'a>) -> Passed,
) -> Passed {
    let Some(object) = element.object() else {
        return Ok(Flow::More);
    };
    for child in object.children() {
        let Some(key) = child.key() else { continue };
        if key == "resourceType" {
            continue;
        }
        let flow = match key.strip_prefix('_') {
            Some(plain) => {
                // Beside a value it was handed on with the value.
                if object.get(plain).is_some() {
                    continue;
                }
                members(definitions, element, plain, None, Some(child), sink)?
            }
            None => {
                let sibling = if is_maybe_primitive(child) {
                    sibling_of(object, key)
                } else {
                    None
                };
                members(definitions, element, key, Some(child), sibling, sink)?
            }
        };
        if flow == Flow::Enough {
            return Ok(Flow::Enough);
        }
    }
    Ok(Flow::More)
}

/// Whether the value, or the first of an array, is no object.
fn is_maybe_primitive(value: Value<'_>) -> bool {
    match value.kind() {
        Kind::Object => false,
        Kind::Array => value
            .children()
            .next()
            .is_none_or(|first| first.kind() != Kind::Object),
        _ => true,
    }
}

fn sibling_of<'a>(object: Value<'a>, name: &str) -> Option<Value<'a>> {
    object.children().find(|child| {
        child
            .key()
            .and_then(|key| key.strip_prefix('_'))
            .is_some_and(|plain| plain == name)
    })
}

/// Hands on the one or many elements of a member, each with its sibling.
fn members<'a>(
    definitions: &Definitions,
    parent: &ElementItem<'a>,
    key: &str,
    value: Option<Value<'a>>,
    sibling: Option<Value<'a>>,
    sink: &mut dyn FnMut(ElementItem<'a>) -> Passed,
) -> Passed {
    let is_array = |it: Option<Value<'_>>| it.is_some_and(|it| it.kind() == Kind::Array);
    if !is_array(value) && !is_array(sibling) {
        return one(definitions, parent, key, value, sibling, sink);
    }
    let mut values = value.into_iter().flat_map(items);
    let mut siblings = sibling.into_iter().flat_map(items);
    // Bounded by the number of JSON values.
    loop {
        let (value, sibling) = (values.next(), siblings.next());
        if value.is_none() && sibling.is_none() {
            return Ok(Flow::More);
        }
        if one(definitions, parent, key, value, sibling, sink)? == Flow::Enough {
            return Ok(Flow::Enough);
        }
    }
}

/// The items of an array, or the value itself.
fn items(value: Value<'_>) -> impl Iterator<Item = Value<'_>> {
    let is_array = value.kind() == Kind::Array;
    let single = (!is_array).then_some(value);
    let many = is_array.then(|| value.children());
    single.into_iter().chain(many.into_iter().flatten())
}

fn one<'a>(
    definitions: &Definitions,
    parent: &ElementItem<'a>,
    key: &str,
    value: Option<Value<'a>>,
    sibling: Option<Value<'a>>,
    sink: &mut dyn FnMut(ElementItem<'a>) -> Passed,
) -> Passed {
    let given = |it: &Value<'_>| it.kind() != Kind::Null;
    let (value, sibling) = (value.filter(given), sibling.filter(given));
    if value.is_none() && sibling.is_none() {
        return Ok(Flow::More);
    }
    sink(typed(definitions, parent, key, value, sibling))
}

/// A child with the type that the definitions give it.
fn typed<'a>(
    definitions: &Definitions,
    parent: &ElementItem<'a>,
    key: &str,
    value: Option<Value<'a>>,
    sibling: Option<Value<'a>>,
) -> ElementItem<'a> {
    let node = match parent.shape() {
        Shape::Node(node) => node,
        // Id and extensions of a primitive.
        Shape::Primitive(_) => definitions.tables.element_node,
        Shape::Unknown => return ElementItem::unknown(value, sibling),
    };
    match definitions.name(definitions.node(node), key) {
        Some(name) => ElementItem::of_use(
            definitions,
            definitions.type_use(name.type_use),
            value,
            sibling,
        ),
        None => ElementItem::unknown(value, sibling),
    }
}
