//! What expressions work on: elements of a resource, and FHIRPath's own values.
//!
//! An element borrows from the document: its JSON value, the `_name` sibling that carries id and extensions
//! of a primitive, and its type as an index into the definitions. Nothing is decoded until it is compared.
//! Start at [`Item`].

use std::borrow::Cow;

use rust_decimal::Decimal;
use smallvec::SmallVec;

use super::moment::{Moment, MomentKind};
use super::quantity::{Quantity, Unit};
use crate::Definitions;
use crate::definitions::tables::{Content, StrId, TypeUse};
use crate::json::{Kind, Value};
use crate::primitive::Primitive;

/// What an element is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A primitive type.
    Primitive(Primitive),
    /// The elements of that node of the definitions.
    Node(u32),
    /// Something the definitions do not know.
    Unknown,
}

/// An element of a resource, or a resource.
#[derive(Clone, Copy)]
pub struct ElementItem<'a> {
    value: Option<Value<'a>>,
    sibling: Option<Value<'a>>,
    /// Type code; empty for what the definitions do not know.
    code: StrId,
    shape: Shape,
}

impl std::fmt::Debug for ElementItem<'_> {
    /// Where it is and what it is, never what it says.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ElementItem")
            .field("value_at", &self.value.map(Value::offset))
            .field("sibling_at", &self.sibling.map(Value::offset))
            .field("shape", &self.shape)
            .finish()
    }
}

/// The code of elements without a known type: beyond every table, so its text is empty.
const NO_CODE: StrId = StrId(u32::MAX);

impl<'a> ElementItem<'a> {
    /// A resource; `None` if the value states no resource type that the definitions know.
    #[must_use]
    pub fn resource(definitions: &Definitions, value: Value<'a>) -> Option<Self> {
        let structure = definitions.resource(value.get("resourceType")?.as_str()?)?;
        Some(Self {
            value: Some(value),
            sibling: None,
            code: structure.type_name,
            shape: Shape::Node(structure.root),
        })
    }

    /// A value of a datatype or resource type named by its type, such as `HumanName` or `dateTime`.
    #[must_use]
    pub fn of_type(
        definitions: &Definitions,
        type_name: &str,
        value: Option<Value<'a>>,
        sibling: Option<Value<'a>>,
    ) -> Option<Self> {
        let structure = definitions.structure_named(type_name)?;
        let shape = match Primitive::from_name(type_name) {
            Some(primitive) => Shape::Primitive(primitive),
            None => Shape::Node(structure.root),
        };
        Some(Self {
            value,
            sibling,
            code: structure.type_name,
            shape,
        })
    }

    /// An element as a walk over the definitions meets it: its type, its value, and for a primitive the
    /// value of the `_` sibling.
    pub(crate) fn of_use(
        definitions: &Definitions,
        type_use: &TypeUse,
        value: Option<Value<'a>>,
        sibling: Option<Value<'a>>,
    ) -> Self {
        let (code, shape) = match type_use.content {
            Content::Primitive(primitive) => (type_use.code, Shape::Primitive(primitive)),
            Content::Node(node) => (type_use.code, Shape::Node(node)),
            Content::AnyResource => {
                return value
                    .and_then(|it| Self::resource(definitions, it))
                    .unwrap_or(Self::unknown(value, sibling));
            }
        };
        Self {
            value,
            sibling,
            code,
            shape,
        }
    }

    pub(crate) fn unknown(value: Option<Value<'a>>, sibling: Option<Value<'a>>) -> Self {
        Self {
            value,
            sibling,
            code: NO_CODE,
            shape: Shape::Unknown,
        }
    }

    /// The JSON value; `None` for a primitive that has extensions only.
    #[must_use]
    pub fn value(&self) -> Option<Value<'a>> {
        self.value
    }

    /// The `_` sibling of a primitive.
    #[must_use]
    pub fn sibling(&self) -> Option<Value<'a>> {
        self.sibling
    }

    /// The type code (`Quantity`, `code`, `BackboneElement`); empty if the definitions do not know it.
    #[must_use]
    pub fn type_code<'d>(&self, definitions: &'d Definitions) -> &'d str {
        if self.code == NO_CODE {
            ""
        } else {
            definitions.text(self.code)
        }
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// The object that holds child elements: the value itself, or the sibling of a primitive.
    pub(crate) fn object(&self) -> Option<Value<'a>> {
        match self.shape {
            Shape::Primitive(_) => self.sibling,
            Shape::Node(_) | Shape::Unknown => self.value,
        }
    }

    /// Whether this is a primitive with a value (`hasValue()`).
    pub(crate) fn has_value(&self) -> bool {
        match self.shape {
            Shape::Primitive(_) => self.value.is_some(),
            Shape::Unknown => self
                .value
                .is_some_and(|it| !matches!(it.kind(), Kind::Object | Kind::Array | Kind::Null)),
            Shape::Node(_) => false,
        }
    }

    /// Whether both are the same place of the same document.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        match (self.value, other.value) {
            (Some(one), Some(two)) => one.is_same(two),
            (None, None) => match (self.sibling, other.sibling) {
                (Some(one), Some(two)) => one.is_same(two),
                _ => false,
            },
            _ => false,
        }
    }

    /// The text of a primitive that is written as a string.
    pub(super) fn text(&self) -> Option<&'a str> {
        match self.shape {
            Shape::Primitive(_) | Shape::Unknown => self.value?.as_str(),
            Shape::Node(_) => None,
        }
    }

    /// The FHIRPath value of a primitive or of a Quantity; `None` for other types, and without a value.
    ///
    /// # Source
    /// FHIR R4 §FHIRPath, mapping of primitive types and of Quantity.
    pub(super) fn plain(&self, definitions: &Definitions) -> Option<Item<'a>> {
        match self.shape {
            Shape::Primitive(primitive) => plain_primitive(self.value?, Some(primitive)),
            Shape::Unknown => plain_primitive(self.value?, None),
            Shape::Node(_) => {
                if !super::specifier::is_a(self.type_code(definitions), "Quantity") {
                    return None;
                }
                quantity(self.value?).map(|quantity| Item::Quantity(Box::new(quantity)))
            }
        }
    }
}

fn plain_primitive<'a>(value: Value<'a>, primitive: Option<Primitive>) -> Option<Item<'a>> {
    if let Some(text) = value.as_str() {
        let moment = match primitive {
            Some(Primitive::Date) => Moment::parse(text, MomentKind::Date),
            Some(Primitive::DateTime | Primitive::Instant) => {
                Moment::parse(text, MomentKind::DateTime)
            }
            Some(Primitive::Time) => Moment::parse(text, MomentKind::Time),
            _ => None,
        };
        return Some(match moment {
            Some(moment) => Item::Moment(moment),
            None => Item::String(Cow::Borrowed(text)),
        });
    }
    if let Some(text) = value.as_number() {
        if primitive != Some(Primitive::Decimal)
            && let Ok(integer) = text.parse::<i64>()
        {
            return Some(Item::Integer(integer));
        }
        return decimal(text).map(Item::Decimal);
    }
    value.as_bool().map(Item::Boolean)
}

/// A JSON number as a decimal of at most 28 digits; `None` beyond that range.
pub(crate) fn decimal(text: &str) -> Option<Decimal> {
    if text.contains(['e', 'E']) {
        Decimal::from_scientific(text).ok()
    } else {
        text.parse().ok()
    }
}

/// A FHIR Quantity as a FHIRPath one; `None` without a value or with a comparator, which is no number.
fn quantity(value: Value<'_>) -> Option<Quantity<'_>> {
    let mut number = None;
    let (mut unit, mut system, mut code) = (None, None, None);
    for child in value.children() {
        match child.key() {
            Some("value") => number = child.as_number().and_then(decimal),
            Some("comparator") => return None,
            Some("unit") => unit = child.as_str(),
            Some("system") => system = child.as_str(),
            Some("code") => code = child.as_str(),
            _ => {}
        }
    }
    let unit = match (system, code, unit) {
        (Some("http://unitsofmeasure.org"), Some(code), _) => Unit::Ucum(Cow::Borrowed(code)),
        (_, Some(code), _) => Unit::Other(Cow::Borrowed(code)),
        (_, None, Some(unit)) => Unit::Other(Cow::Borrowed(unit)),
        (_, None, None) => Unit::Ucum(Cow::Borrowed("1")),
    };
    Some(Quantity {
        value: number?,
        unit,
    })
}

/// A type as `type()` gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeName {
    /// `System` or `FHIR`.
    pub namespace: &'static str,
    /// Such as `Integer` or `Patient`.
    pub name: String,
}

/// One item of a collection.
#[derive(Clone, Debug)]
pub enum Item<'a> {
    /// An element of a resource, or a resource.
    Element(ElementItem<'a>),
    /// A boolean.
    Boolean(bool),
    /// An integer.
    Integer(i64),
    /// A decimal number, of up to 28 digits.
    Decimal(Decimal),
    /// Text.
    String(Cow<'a, str>),
    /// A Date, DateTime or Time.
    Moment(Moment),
    /// A number with a unit.
    Quantity(Box<Quantity<'a>>),
    /// What `type()` gives.
    Type(Box<TypeName>),
}

impl<'a> Item<'a> {
    /// A resource; `None` if the value states no resource type that the definitions know.
    #[must_use]
    pub fn resource(definitions: &Definitions, value: Value<'a>) -> Option<Self> {
        ElementItem::resource(definitions, value).map(Item::Element)
    }

    /// The name of the item's type: `Patient`, `code`, or of FHIRPath's own types `Integer` and so on.
    #[must_use]
    pub fn type_name<'d>(&self, definitions: &'d Definitions) -> &'d str {
        match self {
            Item::Element(element) => element.type_code(definitions),
            other => other.kind_name(),
        }
    }

    /// The element, if it is one.
    #[must_use]
    pub fn as_element(&self) -> Option<&ElementItem<'a>> {
        match self {
            Item::Element(element) => Some(element),
            _ => None,
        }
    }

    /// The item as text: a string or the text of a primitive element written as a string.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Item::String(text) => Some(text),
            Item::Element(element) => element.text(),
            _ => None,
        }
    }

    /// Name of the kind, for messages: never a value.
    pub(super) fn kind_name(&self) -> &'static str {
        match self {
            Item::Element(_) => "an element",
            Item::Boolean(_) => "Boolean",
            Item::Integer(_) => "Integer",
            Item::Decimal(_) => "Decimal",
            Item::String(_) => "String",
            Item::Moment(moment) => match moment.kind() {
                MomentKind::Date => "Date",
                MomentKind::DateTime => "DateTime",
                MomentKind::Time => "Time",
            },
            Item::Quantity(_) => "Quantity",
            Item::Type(_) => "TypeInfo",
        }
    }

    /// FHIRPath's own value: of a primitive element or Quantity its value, of others themselves.
    pub(super) fn plain(&self, definitions: &Definitions) -> Option<Item<'a>> {
        match self {
            Item::Element(element) => element.plain(definitions),
            other => Some(other.clone()),
        }
    }
}

/// The result of an evaluation: items in order.
#[derive(Clone, Debug, Default)]
pub struct Collection<'a>(pub(super) SmallVec<[Item<'a>; 2]>);

impl<'a> Collection<'a> {
    /// A collection of the items.
    #[must_use]
    pub fn of(items: impl IntoIterator<Item = Item<'a>>) -> Self {
        Self(items.into_iter().collect())
    }

    /// The items.
    #[must_use]
    pub fn into_vec(self) -> Vec<Item<'a>> {
        self.0.into_vec()
    }
}

impl<'a> std::ops::Deref for Collection<'a> {
    type Target = [Item<'a>];

    fn deref(&self) -> &[Item<'a>] {
        &self.0
    }
}

impl<'a> IntoIterator for Collection<'a> {
    type Item = Item<'a>;
    type IntoIter = smallvec::IntoIter<[Item<'a>; 2]>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
