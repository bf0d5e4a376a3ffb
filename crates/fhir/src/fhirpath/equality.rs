//! Equality (`=`) and equivalence (`~`) of items and collections.
//!
//! Equality can be undecided (`None`): dates of different precision, quantities of different kinds.
//! Start at [`Run::equal_collections`].
//!
//! # Source
//! FHIRPath N1, equality and equivalence.

use std::cmp::Ordering;

use rust_decimal::Decimal;

use super::evaluate::Run;
use super::item::{ElementItem, Item, Shape};
use super::quantity::Quantity;
use super::{EvaluationError, EvaluationErrorKind};
use crate::json::{Kind, Value};
use crate::primitive::Primitive;

impl<'a> Run<'a, '_> {
    /// `=` of two collections.
    pub(super) fn equal_collections(
        &self,
        one: &[Item<'a>],
        two: &[Item<'a>],
    ) -> Result<Option<bool>, EvaluationError> {
        if one.is_empty() || two.is_empty() {
            return Ok(None);
        }
        if one.len() != two.len() {
            return Ok(Some(false));
        }
        let mut all = Some(true);
        for (left, right) in one.iter().zip(two) {
            match self.equal(left, right)? {
                Some(true) => {}
                Some(false) => return Ok(Some(false)),
                None => all = None,
            }
        }
        Ok(all)
    }

    /// `=` of two items.
    pub(super) fn equal(
        &self,
        one: &Item<'a>,
        two: &Item<'a>,
    ) -> Result<Option<bool>, EvaluationError> {
        self.step()?;
        if let (Item::Element(left), Item::Element(right)) = (one, two) {
            return self.equal_elements(left, right);
        }
        // The common case, without decoding: the text of an element and a literal.
        if let (Item::Element(element), Item::String(text))
        | (Item::String(text), Item::Element(element)) = (one, two)
            && let Some(own) = element.text()
            && !is_moment(element)
        {
            return Ok(Some(own == text.as_ref()));
        }
        Ok(match (self.plain(one), self.plain(two)) {
            (Some(left), Some(right)) => equal_plain(&left, &right),
            // A complex element and a plain value.
            _ => match (one, two) {
                (Item::Element(element), _) | (_, Item::Element(element))
                    if !matches!(element.shape(), Shape::Node(_)) =>
                {
                    None
                }
                _ => Some(false),
            },
        })
    }

    fn equal_elements(
        &self,
        one: &ElementItem<'a>,
        two: &ElementItem<'a>,
    ) -> Result<Option<bool>, EvaluationError> {
        if one.is_same_place(two) {
            return Ok(Some(true));
        }
        let is_complex = |it: &ElementItem<'_>| matches!(it.shape(), Shape::Node(_));
        match (is_complex(one), is_complex(two)) {
            (true, true) => match (one.value(), two.value()) {
                (Some(left), Some(right)) => Ok(Some(self.equal_json(left, right)?)),
                _ => Ok(Some(false)),
            },
            (false, false) => {
                if let (Some(left), Some(right)) = (one.text(), two.text())
                    && is_moment(one) == is_moment(two)
                {
                    if left == right {
                        return Ok(Some(true));
                    }
                    if !is_moment(one) {
                        return Ok(Some(false));
                    }
                }
                Ok(match (self.plain_element(one), self.plain_element(two)) {
                    (Some(left), Some(right)) => equal_plain(&left, &right),
                    _ => None,
                })
            }
            _ => Ok(Some(false)),
        }
    }

    /// Whether two JSON values say the same: members in any order, arrays in order, numbers by value.
    fn equal_json(&self, one: Value<'a>, two: Value<'a>) -> Result<bool, EvaluationError> {
        self.step()?;
        match (one.kind(), two.kind()) {
            (Kind::Object, Kind::Object) => {
                if one.children().count() != two.children().count() {
                    return Ok(false);
                }
                for child in one.children() {
                    let other = child.key().and_then(|key| two.get(key));
                    match other {
                        Some(other) if self.equal_json(child, other)? => {}
                        _ => return Ok(false),
                    }
                }
                Ok(true)
            }
            (Kind::Array, Kind::Array) => {
                let (mut left, mut right) = (one.children(), two.children());
                loop {
                    match (left.next(), right.next()) {
                        (None, None) => return Ok(true),
                        (Some(left), Some(right)) if self.equal_json(left, right)? => {}
                        _ => return Ok(false),
                    }
                }
            }
            (Kind::Number, Kind::Number) => {
                let number = |it: Value<'_>| it.as_number().and_then(super::item::decimal);
                Ok(match (number(one), number(two)) {
                    (Some(left), Some(right)) => left == right,
                    _ => one.as_number() == two.as_number(),
                })
            }
            (Kind::String, Kind::String) => Ok(one.as_str() == two.as_str()),
            (Kind::Bool, Kind::Bool) => Ok(one.as_bool() == two.as_bool()),
            (Kind::Null, Kind::Null) => Ok(true),
            _ => Ok(false),
        }
    }

    /// `~` of two collections: the same items, in any order.
    pub(super) fn equivalent_collections(
        &self,
        one: &[Item<'a>],
        two: &[Item<'a>],
    ) -> Result<bool, EvaluationError> {
        if one.len() != two.len() {
            return Ok(false);
        }
        let mut taken = vec![false; two.len()];
        for left in one {
            let mut found = false;
            for (right, taken) in two.iter().zip(&mut taken) {
                if !*taken && self.equivalent(left, right)? {
                    *taken = true;
                    found = true;
                    break;
                }
            }
            if !found {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// `~` of two items.
    pub(super) fn equivalent(
        &self,
        one: &Item<'a>,
        two: &Item<'a>,
    ) -> Result<bool, EvaluationError> {
        self.step()?;
        if let (Item::Element(left), Item::Element(right)) = (one, two) {
            if left.is_same_place(right) {
                return Ok(true);
            }
            if let (Shape::Node(_), Shape::Node(_)) = (left.shape(), right.shape()) {
                return self.equivalent_elements(left, right);
            }
        }
        Ok(match (self.plain(one), self.plain(two)) {
            (Some(left), Some(right)) => equivalent_plain(&left, &right),
            _ => false,
        })
    }

    /// Each child of one has an equivalent child of the same name in the other.
    fn equivalent_elements(
        &self,
        one: &ElementItem<'a>,
        two: &ElementItem<'a>,
    ) -> Result<bool, EvaluationError> {
        let (Some(left), Some(right)) = (one.value(), two.value()) else {
            return Ok(false);
        };
        self.nested(|| {
            if left.children().count() != right.children().count() {
                return Ok(false);
            }
            for key in left.children().filter_map(Value::key) {
                let (mut mine, mut theirs) = (Vec::new(), Vec::new());
                let gather = |element: &ElementItem<'a>, into: &mut Vec<Item<'a>>| {
                    super::navigate::named(self.definitions(), element, key, &mut |child| {
                        into.push(Item::Element(child));
                        Ok(super::navigate::Flow::More)
                    })
                };
                if right.get(key).is_none() {
                    return Ok(false);
                }
                if key == "resourceType" || key.starts_with('_') {
                    continue;
                }
                gather(one, &mut mine)?;
                gather(two, &mut theirs)?;
                if !self.equivalent_collections(&mine, &theirs)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// `<`, `>` and their like; `None` if it is undecided.
    pub(super) fn order(
        &self,
        one: &Item<'a>,
        two: &Item<'a>,
        position: usize,
    ) -> Result<Option<Ordering>, EvaluationError> {
        self.step()?;
        // An element without a value, or a Quantity that is no number, is as good as none.
        let (Some(left), Some(right)) = (self.plain(one), self.plain(two)) else {
            let is_plain = |item: &Item<'_>| match item {
                Item::Element(element) => match element.shape() {
                    Shape::Node(_) => {
                        super::specifier::is_a(element.type_code(self.definitions()), "Quantity")
                    }
                    Shape::Primitive(_) | Shape::Unknown => true,
                },
                _ => true,
            };
            if is_plain(one) && is_plain(two) {
                return Ok(None);
            }
            return Err(self.error(
                position,
                EvaluationErrorKind::Kind {
                    what: "a comparison",
                    expected: "numbers, texts, dates, times or quantities",
                    found: "an element of another type",
                },
            ));
        };
        Ok(match (&left, &right) {
            (Item::String(left), Item::String(right)) => Some(left.cmp(right)),
            (Item::Moment(left), Item::Moment(right)) => left.compare(right),
            (Item::Quantity(left), Item::Quantity(right)) => left.compare(right),
            (Item::Quantity(left), other) => match number(other) {
                Some(right) => left.compare(&Quantity::number(right)),
                None => return Err(self.uncomparable(position, right.kind_name())),
            },
            (other, Item::Quantity(right)) => match number(other) {
                Some(left) => Quantity::number(left).compare(right),
                None => return Err(self.uncomparable(position, left.kind_name())),
            },
            _ => match (number(&left), number(&right)) {
                (Some(left), Some(right)) => Some(left.cmp(&right)),
                _ => return Err(self.uncomparable(position, right.kind_name())),
            },
        })
    }

    fn uncomparable(&self, position: usize, found: &'static str) -> EvaluationError {
        self.error(
            position,
            EvaluationErrorKind::Kind {
                what: "a comparison",
                expected: "two values of the same type",
                found,
            },
        )
    }
}

/// Whether the element is a date or time, whose text alone does not decide equality.
pub(super) fn is_moment(element: &ElementItem<'_>) -> bool {
    matches!(
        element.shape(),
        Shape::Primitive(
            Primitive::Date | Primitive::DateTime | Primitive::Instant | Primitive::Time
        )
    )
}

/// An Integer or Decimal as a decimal.
pub(super) fn number(item: &Item<'_>) -> Option<Decimal> {
    match item {
        Item::Integer(value) => Some(Decimal::from(*value)),
        Item::Decimal(value) => Some(*value),
        _ => None,
    }
}

fn equal_plain(one: &Item<'_>, two: &Item<'_>) -> Option<bool> {
    match (one, two) {
        (Item::Boolean(left), Item::Boolean(right)) => Some(left == right),
        (Item::String(left), Item::String(right)) => Some(left == right),
        (Item::Integer(left), Item::Integer(right)) => Some(left == right),
        (Item::Moment(left), Item::Moment(right)) => {
            use super::moment::MomentKind::Time;
            if (left.kind() == Time) != (right.kind() == Time) {
                return Some(false);
            }
            left.compare(right).map(|order| order == Ordering::Equal)
        }
        (Item::Quantity(left), Item::Quantity(right)) => {
            left.compare(right).map(|order| order == Ordering::Equal)
        }
        (Item::Quantity(left), other) | (other, Item::Quantity(left)) => match number(other) {
            Some(right) => left
                .compare(&Quantity::number(right))
                .map(|order| order == Ordering::Equal),
            None => Some(false),
        },
        (Item::Type(left), Item::Type(right)) => Some(left == right),
        _ => match (number(one), number(two)) {
            (Some(left), Some(right)) => Some(left == right),
            _ => Some(false),
        },
    }
}

fn equivalent_plain(one: &Item<'_>, two: &Item<'_>) -> bool {
    match (one, two) {
        (Item::String(left), Item::String(right)) => equivalent_text(left, right),
        (Item::Quantity(left), Item::Quantity(right)) => left
            .in_coarser(right)
            .is_some_and(|(one, two)| equivalent_decimals(one, two)),
        (Item::Quantity(left), other) | (other, Item::Quantity(left)) => number(other)
            .and_then(|right| left.in_coarser(&Quantity::number(right)))
            .is_some_and(|(one, two)| equivalent_decimals(one, two)),
        _ => match (number(one), number(two)) {
            (Some(left), Some(right)) => equivalent_decimals(left, right),
            _ => equal_plain(one, two) == Some(true),
        },
    }
}

/// Equal after rounding to the precision of the less precise one; trailing zeros do not count.
fn equivalent_decimals(one: Decimal, two: Decimal) -> bool {
    let (one, two) = (one.normalize(), two.normalize());
    let digits = one.scale().min(two.scale());
    let rounded = |value: Decimal| {
        value.round_dp_with_strategy(digits, rust_decimal::RoundingStrategy::MidpointAwayFromZero)
    };
    rounded(one) == rounded(two)
}

/// The same text but for case, with every white space counting as a blank.
fn equivalent_text(one: &str, two: &str) -> bool {
    let normal = |text: &str| -> Vec<char> {
        text.chars()
            .map(|it| if it.is_whitespace() { ' ' } else { it })
            .flat_map(char::to_lowercase)
            .collect()
    };
    one == two || normal(one) == normal(two)
}
