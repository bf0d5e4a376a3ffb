//! Precision and boundaries of numbers and dates, the parts of dates, and whether quantities compare.
//!
//! Start at [`Run::boundary_function`].
//!
//! # Source
//! FHIRPath (STU): `lowBoundary`, `highBoundary`, `precision`, `comparable`, date and time components.

use rust_decimal::{Decimal, RoundingStrategy};

use super::super::EvaluationErrorKind;
use super::super::evaluate::{Run, Scope};
use super::super::item::Item;
use super::super::moment::{MomentKind, Precision};
use super::super::quantity::Quantity;
use super::super::syntax::Function;
use super::{Answer, Call};

/// Decimal places of a boundary if none are asked for.
const PLACES_DEFAULT: i64 = 8;
/// Most decimal places that a number can have.
const PLACES_MAX: i64 = 28;

impl<'a> Run<'a, '_> {
    pub(super) fn boundary_function(
        &self,
        call: Call<'a>,
        item: Item<'a>,
        scope: &Scope<'a, '_>,
    ) -> Answer<'a> {
        use Function as F;
        let Some(plain) = self.plain(&item) else {
            return Ok(None);
        };
        match call.function {
            F::LowBoundary | F::HighBoundary => {
                let digits = match call.argument(0) {
                    Some(argument) => self.integer_argument(argument, scope)?,
                    None => None,
                };
                let is_high = call.function == F::HighBoundary;
                Ok(match plain {
                    Item::Integer(value) => {
                        boundary(Decimal::from(value), is_high, digits).map(Item::Decimal)
                    }
                    Item::Decimal(value) => boundary(value, is_high, digits).map(Item::Decimal),
                    Item::Quantity(quantity) => {
                        boundary(quantity.value, is_high, digits).map(|value| {
                            Item::Quantity(Box::new(Quantity {
                                value,
                                unit: quantity.unit,
                            }))
                        })
                    }
                    Item::Moment(moment) => moment.boundary(is_high, digits).map(Item::Moment),
                    other => {
                        return Err(self.wrong_kind(
                            call.id,
                            call.function.name(),
                            "a number, Quantity, date or time",
                            other.kind_name(),
                        ));
                    }
                })
            }
            F::Precision => match plain {
                Item::Integer(_) => Ok(Some(Item::Integer(0))),
                Item::Decimal(value) => Ok(Some(Item::Integer(i64::from(value.scale())))),
                Item::Moment(moment) => Ok(Some(Item::Integer(i64::from(moment.digits())))),
                other => Err(self.wrong_kind(
                    call.id,
                    "precision",
                    "a number, date or time",
                    other.kind_name(),
                )),
            },
            F::Comparable => self.comparable(call, &plain, scope),
            _ => Ok(part(call.function, &plain)),
        }
    }

    fn comparable(&self, call: Call<'a>, item: &Item<'a>, scope: &Scope<'a, '_>) -> Answer<'a> {
        let other = match call.argument(0) {
            Some(argument) => self.single(argument, scope)?,
            None => None,
        };
        let Some(other) = other.and_then(|it| self.plain(&it)) else {
            return Ok(None);
        };
        match (item, &other) {
            (Item::Quantity(one), Item::Quantity(two)) => {
                Ok(Some(Item::Boolean(one.is_comparable(two))))
            }
            _ => Err(self.error_at(
                call.id,
                EvaluationErrorKind::Kind {
                    what: "comparable",
                    expected: "two Quantities",
                    found: other.kind_name(),
                },
            )),
        }
    }
}

/// The least or greatest number that rounds to `value`, cut or rounded to so many decimal places.
///
/// The boundary that lies nearer to zero is cut, the other one rounded, as the R4 tests have it.
fn boundary(value: Decimal, is_high: bool, places: Option<i64>) -> Option<Decimal> {
    let places = places.unwrap_or(PLACES_DEFAULT);
    if !(0..=PLACES_MAX).contains(&places) {
        return None;
    }
    let half = Decimal::try_new(5, value.scale().checked_add(1)?).ok()?;
    let exact = if is_high {
        value.checked_add(half)
    } else {
        value.checked_sub(half)
    }?;
    let is_inner = value.is_sign_negative() == is_high;
    let strategy = if is_inner {
        RoundingStrategy::ToZero
    } else {
        RoundingStrategy::MidpointAwayFromZero
    };
    let places = u32::try_from(places).ok()?;
    let mut result = exact.round_dp_with_strategy(places, strategy);
    result.rescale(places);
    (result.scale() == places).then_some(result)
}

/// A component of a date or time; `None` if it is not given.
fn part<'a>(function: Function, item: &Item<'a>) -> Option<Item<'a>> {
    use Function as F;
    let Item::Moment(moment) = item else {
        return None;
    };
    let integer = |precision| moment.component(precision).map(Item::Integer);
    let is_time = moment.kind() == MomentKind::Time;
    match function {
        F::YearOf => integer(Precision::Year),
        F::MonthOf => integer(Precision::Month),
        F::DayOf => integer(Precision::Day),
        F::HourOf => integer(Precision::Hour),
        F::MinuteOf => integer(Precision::Minute),
        F::SecondOf => integer(Precision::Second),
        F::MillisecondOf => (moment.precision() == Precision::Fraction)
            .then(|| moment.component(Precision::Fraction))
            .flatten()
            .map(|nanoseconds| Item::Integer(nanoseconds / 1_000_000)),
        F::TimezoneOffsetOf => moment.offset_minutes().and_then(|minutes| {
            let hours = Decimal::from(minutes).checked_div(Decimal::from(60))?;
            Some(Item::Decimal(hours.normalize()))
        }),
        F::DateOf => (!is_time).then(|| Item::Moment(moment.to_date())),
        _ if is_time => None,
        _ => moment.to_time().map(Item::Moment),
    }
}
