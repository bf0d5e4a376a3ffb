//! Functions on numbers. Whole powers, roundings and roots are exact to 28 digits; `exp`, `ln`, `log` and
//! broken powers have 15.
//!
//! Start at [`Run::math`].
//!
//! # Source
//! FHIRPath N1, math.

use rust_decimal::prelude::{FromPrimitive, ToPrimitive};
use rust_decimal::{Decimal, MathematicalOps, RoundingStrategy};

use super::super::EvaluationErrorKind;
use super::super::equality::number;
use super::super::evaluate::{Run, Scope};
use super::super::item::Item;
use super::super::quantity::Quantity;
use super::super::syntax::Function;
use super::{Answer, Call};

/// Most decimal places that a number can be rounded to.
const PLACES_MAX: i64 = 28;

impl<'a> Run<'a, '_> {
    pub(super) fn math(&self, call: Call<'a>, item: Item<'a>, scope: &Scope<'a, '_>) -> Answer<'a> {
        use Function as F;
        let Some(plain) = self.plain(&item) else {
            return match item {
                Item::Element(element) if element.value().is_none() => Ok(None),
                _ => Err(self.wrong_kind(
                    call.id,
                    call.function.name(),
                    "a number",
                    "an element of another type",
                )),
            };
        };
        let places = match (call.function, call.argument(0)) {
            (F::Round, Some(argument)) => match self.integer_argument(argument, scope)? {
                Some(places) => places,
                None => return Ok(None),
            },
            _ => 0,
        };
        if !(0..=PLACES_MAX).contains(&places) {
            return Err(self.error_at(call.id, EvaluationErrorKind::Range("round")));
        }
        let stays_integer = matches!(call.function, F::Abs | F::Ceiling | F::Floor | F::Truncate);
        match &plain {
            Item::Integer(value) if stays_integer => {
                let value = if call.function == F::Abs {
                    value.checked_abs()
                } else {
                    Some(*value)
                };
                return Ok(value.map(Item::Integer));
            }
            Item::Quantity(quantity) => {
                let Some(value) = rounded(call.function, quantity.value, places) else {
                    return Err(self.wrong_kind(
                        call.id,
                        call.function.name(),
                        "a number",
                        "Quantity",
                    ));
                };
                return Ok(Some(Item::Quantity(Box::new(Quantity {
                    value,
                    unit: quantity.unit.clone(),
                }))));
            }
            _ => {}
        }
        let Some(value) = number(&plain) else {
            return Err(self.wrong_kind(
                call.id,
                call.function.name(),
                "a number",
                plain.kind_name(),
            ));
        };
        if let Some(result) = rounded(call.function, value, places) {
            let is_whole = matches!(call.function, F::Ceiling | F::Floor | F::Truncate);
            return Ok(if is_whole {
                let whole: Option<i32> = result.try_into().ok();
                whole.map(|it| Item::Integer(i64::from(it)))
            } else {
                Some(Item::Decimal(result))
            });
        }
        let argument = match call.argument(0) {
            None => Decimal::ZERO,
            Some(argument) => {
                let argument = self.single(argument, scope)?;
                let Some(argument) = argument.and_then(|it| self.plain(&it)) else {
                    return Ok(None);
                };
                number(&argument).ok_or_else(|| {
                    self.wrong_kind(call.id, "the argument", "a number", argument.kind_name())
                })?
            }
        };
        let result = match call.function {
            F::Sqrt => value.sqrt(),
            F::Exp => of_float(value.to_f64().map(f64::exp)),
            F::Ln => of_float(value.to_f64().map(f64::ln)),
            F::Log => of_float(logarithm(value, argument)),
            _ => power(value, argument),
        };
        Ok(result.map(|it| Item::Decimal(it.normalize())))
    }
}

fn rounded(function: Function, value: Decimal, places: i64) -> Option<Decimal> {
    Some(match function {
        Function::Abs => value.abs(),
        Function::Ceiling => value.ceil(),
        Function::Floor => value.floor(),
        Function::Truncate => value.trunc(),
        Function::Round => value.round_dp_with_strategy(
            u32::try_from(places).ok()?,
            RoundingStrategy::MidpointAwayFromZero,
        ),
        _ => return None,
    })
}

/// The logarithm; exact where the base is 2 or 10 and the number one of its powers.
fn logarithm(value: Decimal, base: Decimal) -> Option<f64> {
    let number = value.to_f64()?;
    if base == Decimal::TEN {
        Some(number.log10())
    } else if base == Decimal::TWO {
        Some(number.log2())
    } else {
        Some(number.ln() / base.to_f64()?.ln())
    }
}

/// `None` if there is no such power, or it is out of range.
fn power(value: Decimal, exponent: Decimal) -> Option<Decimal> {
    if let Some(whole) = exponent.to_i64().filter(|_| exponent.fract().is_zero())
        && whole.unsigned_abs() <= 1_000
    {
        if value.is_zero() && whole < 0 {
            return None;
        }
        let raised = value.checked_powi(whole.abs())?;
        return if whole < 0 {
            Decimal::ONE.checked_div(raised)
        } else {
            Some(raised)
        };
    }
    of_float(Some(value.to_f64()?.powf(exponent.to_f64()?)))
}

fn of_float(value: Option<f64>) -> Option<Decimal> {
    value
        .filter(|it| it.is_finite())
        .and_then(Decimal::from_f64)
}
