//! Quantities: a decimal with a UCUM unit, a calendar unit, or a unit of another system.
//!
//! The UCUM library stands behind the few functions at the end of this file.
//! Start at [`Quantity::compare`].
//!
//! # Source
//! FHIRPath N1, quantities and time-valued quantities; UCUM.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use octofhir_ucum::{EvalResult, Number};
use rust_decimal::Decimal;

use super::moment::Shift;

/// A unit of the calendar, whose length can depend on the date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the names of the units")]
pub enum CalendarUnit {
    Year,
    Month,
    Week,
    Day,
    Hour,
    Minute,
    Second,
    Millisecond,
}

impl CalendarUnit {
    /// The unit of a word, singular or plural.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Some(match word {
            "year" | "years" => Self::Year,
            "month" | "months" => Self::Month,
            "week" | "weeks" => Self::Week,
            "day" | "days" => Self::Day,
            "hour" | "hours" => Self::Hour,
            "minute" | "minutes" => Self::Minute,
            "second" | "seconds" => Self::Second,
            "millisecond" | "milliseconds" => Self::Millisecond,
            _ => return None,
        })
    }

    fn word(self) -> &'static str {
        match self {
            Self::Year => "year",
            Self::Month => "month",
            Self::Week => "week",
            Self::Day => "day",
            Self::Hour => "hour",
            Self::Minute => "minute",
            Self::Second => "second",
            Self::Millisecond => "millisecond",
        }
    }

    /// The UCUM unit of definite length that stands nearest; equal to it but for years and months.
    fn definite(self) -> &'static str {
        match self {
            Self::Year => "a",
            Self::Month => "mo",
            Self::Week => "wk",
            Self::Day => "d",
            Self::Hour => "h",
            Self::Minute => "min",
            Self::Second => "s",
            Self::Millisecond => "ms",
        }
    }

    fn is_indefinite(self) -> bool {
        matches!(self, Self::Year | Self::Month)
    }

    fn of_definite(unit: &str) -> Option<Self> {
        [
            Self::Week,
            Self::Day,
            Self::Hour,
            Self::Minute,
            Self::Second,
            Self::Millisecond,
        ]
        .into_iter()
        .find(|it| it.definite() == unit)
    }
}

/// The unit of a quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unit<'a> {
    /// A unit of the calendar.
    Calendar(CalendarUnit),
    /// A UCUM code; `1` for a plain number.
    Ucum(Cow<'a, str>),
    /// A unit of another system, or without one: comparable with itself alone.
    Other(Cow<'a, str>),
}

impl Unit<'static> {
    /// The unit that a literal's text names: calendar words may be quoted too (`1 'month'`).
    pub(super) fn of_text(text: &str) -> Self {
        match CalendarUnit::of(text) {
            Some(unit) => Unit::Calendar(unit),
            None => Unit::Ucum(Cow::Owned(text.to_owned())),
        }
    }
}

/// A number with a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantity<'a> {
    /// The number.
    pub value: Decimal,
    /// Its unit.
    pub unit: Unit<'a>,
}

/// How much two quantities that are compared may be bent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bend {
    /// `=`, `<`: a calendar year is not `1 'a'`.
    Strict,
    /// `~`: it is.
    Loose,
}

impl<'a> Quantity<'a> {
    /// A plain number.
    pub(super) fn number(value: Decimal) -> Self {
        Self {
            value,
            unit: Unit::Ucum(Cow::Borrowed("1")),
        }
    }

    /// The order of two quantities; `None` if their units cannot be compared.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        let (one, two) = self.in_common(other, Bend::Strict, Grain::Fine)?;
        Some(one.cmp(&two))
    }

    /// Both values in the coarser of the two units, for equivalence.
    pub(super) fn in_coarser(&self, other: &Self) -> Option<(Decimal, Decimal)> {
        self.in_common(other, Bend::Loose, Grain::Coarse)
    }

    /// Whether the units can be converted into each other.
    pub(super) fn is_comparable(&self, other: &Self) -> bool {
        self.in_common(other, Bend::Strict, Grain::Fine).is_some()
    }

    fn in_common(&self, other: &Self, bend: Bend, grain: Grain) -> Option<(Decimal, Decimal)> {
        if self.unit == other.unit {
            return Some((self.value, other.value));
        }
        match (&self.unit, &other.unit) {
            (Unit::Calendar(one), Unit::Calendar(two)) => {
                if one.is_indefinite() && two.is_indefinite() {
                    let months = |unit: &CalendarUnit| match unit {
                        CalendarUnit::Year => Number::from_i64(12),
                        _ => Number::ONE,
                    };
                    return grain.apply(self.value, months(one), other.value, months(two));
                }
                grain.apply(
                    self.value,
                    calendar_milliseconds(*one),
                    other.value,
                    calendar_milliseconds(*two),
                )
            }
            (Unit::Calendar(unit), Unit::Ucum(_)) | (Unit::Ucum(_), Unit::Calendar(unit))
                if unit.is_indefinite() && bend == Bend::Strict =>
            {
                None
            }
            (Unit::Other(_), _) | (_, Unit::Other(_)) => None,
            _ => {
                let (one, two) = (factor(self.ucum()?)?, factor(other.ucum()?)?);
                if !one.is_commensurable(&two) {
                    return None;
                }
                grain.apply(self.value, one.factor, other.value, two.factor)
            }
        }
    }

    /// The UCUM code of the unit.
    fn ucum(&self) -> Option<&str> {
        match &self.unit {
            Unit::Calendar(unit) => Some(unit.definite()),
            Unit::Ucum(code) => Some(code),
            Unit::Other(_) => None,
        }
    }

    /// The sum or difference in the unit of the first; `None` if the units do not go together.
    pub(super) fn plus(&self, other: &Self, is_minus: bool) -> Option<Self> {
        let addend = if self.unit == other.unit {
            other.value
        } else {
            other.converted(&self.unit)?.value
        };
        let value = if is_minus {
            self.value.checked_sub(addend)
        } else {
            self.value.checked_add(addend)
        }?;
        Some(Self {
            value,
            unit: self.unit.clone(),
        })
    }

    /// The same quantity in another unit.
    pub(super) fn converted<'b>(&self, unit: &Unit<'b>) -> Option<Quantity<'b>> {
        let target = Quantity {
            value: Decimal::ONE,
            unit: unit.clone(),
        };
        let ratio = match (&self.unit, unit) {
            (Unit::Calendar(one), Unit::Calendar(two))
                if one.is_indefinite() == two.is_indefinite() =>
            {
                let months = |unit: &CalendarUnit| match unit {
                    CalendarUnit::Year => Number::from_i64(12),
                    CalendarUnit::Month => Number::ONE,
                    other => calendar_milliseconds(*other),
                };
                months(one).checked_div(months(two))?
            }
            (Unit::Calendar(one), Unit::Calendar(two)) => {
                calendar_milliseconds(*one).checked_div(calendar_milliseconds(*two))?
            }
            _ => {
                let (from, to) = (factor(self.ucum()?)?, factor(target.ucum()?)?);
                if !from.is_commensurable(&to) {
                    return None;
                }
                from.factor.checked_div(to.factor)?
            }
        };
        Some(Quantity {
            value: multiply(self.value, ratio)?,
            unit: unit.clone(),
        })
    }

    /// The product, in the product of the units.
    pub(super) fn times(&self, other: &Self) -> Option<Quantity<'static>> {
        let unit = combined(self.ucum()?, other.ucum()?, false)?;
        Some(Quantity {
            value: self.value.checked_mul(other.value)?.normalize(),
            unit,
        })
    }

    /// The quotient, in the quotient of the units; `None` when dividing by zero.
    pub(super) fn over(&self, other: &Self) -> Option<Quantity<'static>> {
        let unit = combined(self.ucum()?, other.ucum()?, true)?;
        Some(Quantity {
            value: self.value.checked_div(other.value)?,
            unit,
        })
    }

    /// The duration to add to a date or time; `None` if the unit is no duration that dates can be shifted by.
    ///
    /// UCUM's years and months are refused: their length is an average, which no date can be shifted by.
    pub(super) fn shift(&self, is_minus: bool) -> Option<Shift> {
        let unit = match &self.unit {
            Unit::Calendar(unit) => *unit,
            Unit::Ucum(code) => CalendarUnit::of_definite(code)?,
            Unit::Other(_) => return None,
        };
        let whole: i64 = self.value.trunc().try_into().ok()?;
        let whole = if is_minus {
            whole.checked_neg()?
        } else {
            whole
        };
        Some(match unit {
            CalendarUnit::Year => Shift::Months(whole.checked_mul(12)?),
            CalendarUnit::Month => Shift::Months(whole),
            CalendarUnit::Week => Shift::Days(whole.checked_mul(7)?),
            CalendarUnit::Day => Shift::Days(whole),
            CalendarUnit::Hour => Shift::Milliseconds(whole.checked_mul(3_600_000)?),
            CalendarUnit::Minute => Shift::Milliseconds(whole.checked_mul(60_000)?),
            CalendarUnit::Second => Shift::Milliseconds(whole.checked_mul(1_000)?),
            CalendarUnit::Millisecond => Shift::Milliseconds(whole),
        })
    }
}

impl Quantity<'static> {
    /// Reads `4`, `4.5 'mg'`, `4 days`; `None` for other text.
    ///
    /// # Source
    /// FHIRPath N1, `toQuantity`: the regular expression of quantities.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let digits = unsigned
            .find(|it: char| !it.is_ascii_digit() && it != '.')
            .unwrap_or(unsigned.len());
        let sign = text.len() - unsigned.len();
        let number = text.get(..sign + digits)?;
        let value = super::functions::read_decimal(number)?;
        let rest = text.get(sign + digits..)?.trim();
        let unit = match rest.strip_prefix('\'') {
            Some(quoted) => {
                let code = quoted.strip_suffix('\'')?;
                if code.is_empty() || code.contains('\'') {
                    return None;
                }
                Unit::of_text(code)
            }
            None if rest.is_empty() => Unit::Ucum(Cow::Borrowed("1")),
            None => Unit::Calendar(CalendarUnit::of(rest)?),
        };
        Some(Self { value, unit })
    }
}

impl fmt::Display for Quantity<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.unit {
            Unit::Calendar(unit) => {
                let plural = if self.value == Decimal::ONE { "" } else { "s" };
                write!(formatter, "{} {}{plural}", self.value, unit.word())
            }
            Unit::Ucum(code) | Unit::Other(code) => write!(formatter, "{} '{code}'", self.value),
        }
    }
}

/// In which of two units both values are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grain {
    /// The smaller unit: the factor between them is whole for most units, so nothing is rounded.
    Fine,
    /// The larger unit: precision is not raised by the conversion.
    Coarse,
}

impl Grain {
    fn apply(
        self,
        one: Decimal,
        one_factor: Number,
        two: Decimal,
        two_factor: Number,
    ) -> Option<(Decimal, Decimal)> {
        let ratio = one_factor.checked_div(two_factor)?;
        let first_is_larger = !ratio.checked_sub(Number::ONE)?.is_negative();
        if first_is_larger == (self == Grain::Fine) {
            Some((multiply(one, ratio)?, two))
        } else {
            let ratio = two_factor.checked_div(one_factor)?;
            Some((one, multiply(two, ratio)?))
        }
    }
}

/// Length of a calendar unit when calendar units are compared with each other.
///
/// # Source
/// FHIRPath, conversion factors for calendar durations: a year has 365 days, a month 30.
fn calendar_milliseconds(unit: CalendarUnit) -> Number {
    Number::from_i64(match unit {
        CalendarUnit::Year => 365 * 86_400_000,
        CalendarUnit::Month => 30 * 86_400_000,
        CalendarUnit::Week => 7 * 86_400_000,
        CalendarUnit::Day => 86_400_000,
        CalendarUnit::Hour => 3_600_000,
        CalendarUnit::Minute => 60_000,
        CalendarUnit::Second => 1_000,
        CalendarUnit::Millisecond => 1,
    })
}

/// Longest unit that is read, in bytes.
const UNIT_BYTES_MAX: usize = 256;

/// The magnitude and dimension of a UCUM unit; `None` for what is no UCUM unit, and for special units
/// (`Cel`, `[pH]`), which convert by functions and not by factors.
fn factor(unit: &str) -> Option<EvalResult> {
    if unit.len() > UNIT_BYTES_MAX {
        return None;
    }
    let parsed = octofhir_ucum::parse_expression(unit).ok()?;
    let result = octofhir_ucum::evaluate(&parsed).ok()?;
    result.special.is_none().then_some(result)
}

/// The product or quotient of two units.
fn combined(one: &str, two: &str, is_quotient: bool) -> Option<Unit<'static>> {
    if one.len() + two.len() > UNIT_BYTES_MAX {
        return None;
    }
    let unit = if two == "1" {
        one.to_owned()
    } else if is_quotient && one == two {
        "1".to_owned()
    } else if !is_quotient && one == "1" {
        two.to_owned()
    } else if is_quotient {
        octofhir_ucum::unit_divide(one, two).ok()?.expression
    } else {
        octofhir_ucum::unit_multiply(one, two).ok()?.expression
    };
    Some(Unit::Ucum(Cow::Owned(unit)))
}

fn multiply(value: Decimal, ratio: Number) -> Option<Decimal> {
    let (whole, exponent) = ratio.to_integer_and_exponent();
    let scale = u32::try_from(-exponent.min(0)).ok()?;
    let up = u32::try_from(exponent.max(0)).ok()?;
    let number = Decimal::try_from_i128_with_scale(whole, scale).ok()?;
    let power = Decimal::try_from_i128_with_scale(10_i128.checked_pow(up)?, 0).ok()?;
    value.checked_mul(number)?.checked_mul(power)
}
