//! `toInteger()` and its relatives, and `convertsTo…()`, which say whether they would give something.
//!
//! Start at [`Run::conversion`].
//!
//! # Source
//! FHIRPath N1, conversion.

use std::borrow::Cow;

use rust_decimal::Decimal;

use super::super::EvaluationError;
use super::super::evaluate::{Run, Scope};
use super::super::item::Item;
use super::super::moment::{Moment, MomentKind};
use super::super::quantity::{Quantity, Unit};
use super::super::syntax::Function;
use super::{Answer, Call};

/// A decimal written as digits with an optional sign and fraction; `None` for other text.
pub(in crate::fhirpath) fn read_decimal(text: &str) -> Option<Decimal> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    text.strip_prefix('+').unwrap_or(text).parse().ok()
}

fn read_integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    text.parse::<i32>().ok().map(i64::from)
}

fn read_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" | "1.0" => Some(true),
        "false" | "f" | "no" | "n" | "0" | "0.0" => Some(false),
        _ => None,
    }
}

impl<'a> Run<'a, '_> {
    pub(super) fn conversion(
        &self,
        call: Call<'a>,
        item: Item<'a>,
        scope: &Scope<'a, '_>,
    ) -> Answer<'a> {
        use Function as F;
        // The text of an element stays as it was written.
        if let (F::ToString, Item::Element(element)) = (call.function, &item)
            && let Some(text) = element.text()
        {
            return Ok(Some(Item::String(Cow::Borrowed(text))));
        }
        // A complex element converts to nothing.
        let converted = match self.plain(&item) {
            Some(plain) => self.converted(call, plain, scope)?,
            None => None,
        };
        Ok(match call.function {
            F::ConvertsToBoolean
            | F::ConvertsToInteger
            | F::ConvertsToDecimal
            | F::ConvertsToDate
            | F::ConvertsToDateTime
            | F::ConvertsToTime
            | F::ConvertsToString
            | F::ConvertsToQuantity => Some(Item::Boolean(converted.is_some())),
            _ => converted,
        })
    }

    fn converted(
        &self,
        call: Call<'a>,
        item: Item<'a>,
        scope: &Scope<'a, '_>,
    ) -> Result<Option<Item<'a>>, EvaluationError> {
        use Function as F;
        Ok(match call.function {
            F::ToBoolean | F::ConvertsToBoolean => to_boolean(&item).map(Item::Boolean),
            F::ToInteger | F::ConvertsToInteger => match item {
                Item::Integer(_) => Some(item),
                Item::Boolean(value) => Some(Item::Integer(i64::from(value))),
                Item::String(text) => read_integer(&text).map(Item::Integer),
                _ => None,
            },
            F::ToDecimal | F::ConvertsToDecimal => match item {
                Item::Decimal(_) => Some(item),
                Item::Integer(value) => Some(Item::Decimal(Decimal::from(value))),
                Item::Boolean(value) => Some(Item::Decimal(Decimal::new(i64::from(value) * 10, 1))),
                Item::String(text) => read_decimal(&text).map(Item::Decimal),
                _ => None,
            },
            F::ToDate | F::ConvertsToDate => match item {
                Item::Moment(moment) if moment.kind() != MomentKind::Time => {
                    Some(Item::Moment(moment.to_date()))
                }
                Item::String(text) => Moment::parse(&text, MomentKind::Date).map(Item::Moment),
                _ => None,
            },
            F::ToDateTime | F::ConvertsToDateTime => match item {
                Item::Moment(moment) if moment.kind() != MomentKind::Time => {
                    Some(Item::Moment(moment.to_date_time()))
                }
                Item::String(text) => Moment::parse(&text, MomentKind::DateTime).map(Item::Moment),
                _ => None,
            },
            F::ToTime | F::ConvertsToTime => match item {
                Item::Moment(moment) if moment.kind() == MomentKind::Time => Some(item),
                Item::String(text) => Moment::parse(&text, MomentKind::Time).map(Item::Moment),
                _ => None,
            },
            F::ToString | F::ConvertsToString => to_text(item).map(Item::String),
            _ => {
                let Some(quantity) = to_quantity(item) else {
                    return Ok(None);
                };
                let quantity = match call.argument(0) {
                    None => Some(quantity),
                    Some(argument) => match self.text_argument(argument, scope)? {
                        None => Some(quantity),
                        Some(unit) => in_unit(quantity, &unit),
                    },
                };
                quantity.map(|it| Item::Quantity(Box::new(it)))
            }
        })
    }
}

fn to_boolean(item: &Item<'_>) -> Option<bool> {
    match item {
        Item::Boolean(value) => Some(*value),
        Item::Integer(0) => Some(false),
        Item::Integer(1) => Some(true),
        Item::Decimal(value) if value.is_zero() => Some(false),
        Item::Decimal(value) if *value == Decimal::ONE => Some(true),
        Item::String(text) => read_boolean(text),
        _ => None,
    }
}

fn to_text(item: Item<'_>) -> Option<Cow<'_, str>> {
    Some(match item {
        Item::String(text) => text,
        Item::Boolean(true) => Cow::Borrowed("true"),
        Item::Boolean(false) => Cow::Borrowed("false"),
        Item::Integer(value) => Cow::Owned(value.to_string()),
        Item::Decimal(value) => Cow::Owned(value.to_string()),
        Item::Moment(moment) => Cow::Owned(moment.to_string()),
        Item::Quantity(quantity) => Cow::Owned(quantity.to_string()),
        Item::Element(_) | Item::Type(_) => return None,
    })
}

fn to_quantity(item: Item<'_>) -> Option<Quantity<'_>> {
    Some(match item {
        Item::Quantity(quantity) => *quantity,
        Item::Integer(value) => Quantity::number(Decimal::from(value)),
        Item::Decimal(value) => Quantity::number(value),
        Item::Boolean(value) => Quantity::number(Decimal::new(i64::from(value) * 10, 1)),
        Item::String(text) => Quantity::parse(&text)?,
        _ => return None,
    })
}

/// The quantity in a unit; a plain number takes the unit as it is.
fn in_unit<'a>(quantity: Quantity<'a>, unit: &str) -> Option<Quantity<'a>> {
    let unit = Unit::of_text(unit);
    if quantity.unit == Unit::Ucum(Cow::Borrowed("1")) {
        return Some(Quantity {
            value: quantity.value,
            unit,
        });
    }
    if quantity.unit == unit {
        return Some(quantity);
    }
    quantity.converted(&unit)
}
