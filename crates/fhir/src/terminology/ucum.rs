//! Units of measure: which are valid, which measure the same thing, and how much one is of another.
//!
//! The grammar and the tables are those of a library; this is the seam around it: it limits what is
//! looked at, keeps what was parsed, refuses instead of rounding where a library call would not be exact,
//! and speaks decimal text, so that no value passes through binary floating point on a linear scale.
//! It knows UCUM codes only, not the words that people write instead.
//! Start at [`Ucum::unit`] and [`Unit::canonical_value`].
//!
//! # Source
//! The Unified Code for Units of Measure, version 2.2, <https://ucum.org/ucum>; sections are named below.

use std::cmp::Ordering;
use std::sync::{Arc, PoisonError, RwLock};

use octofhir_ucum::{Dimension, ErrorKind, EvalResult, Number, SpecialKind};
use rustc_hash::FxHashMap;

/// The code system of units.
pub const SYSTEM: &str = "http://unitsofmeasure.org";

/// Longest unit that is looked at, in bytes. Real ones have fewer than 40.
const UNIT_BYTES_MAX: usize = 128;
/// Longest number that is looked at, in bytes.
const NUMBER_BYTES_MAX: usize = 64;
/// Largest power of ten of a number that is looked at; beyond it no measurement lies.
const EXPONENT_MAX: i32 = 400;
/// Most significant digits of a result.
const DIGITS_MAX: u32 = 24;
/// Most units that are kept; more are parsed at each use.
const KEPT_MAX: usize = 4096;

/// Units that were parsed, by code. Shared by all threads.
#[derive(Debug, Default)]
pub struct Ucum {
    kept: RwLock<FxHashMap<Box<str>, Understood>>,
}

type Understood = Result<Arc<Unit>, NotAUnit>;

/// Why a text is not a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAUnit {
    /// Nothing, or more than the limit.
    #[error("it is empty or longer than any unit")]
    Length,
    /// White space or another character that no unit has.
    #[error("units have no white space and only ASCII characters")]
    Character,
    /// The syntax is wrong.
    #[error("it does not have the syntax of a UCUM unit")]
    Syntax,
    /// It is made of something that is no unit.
    #[error("it names a unit that UCUM does not have (case matters: `mm[Hg]`, `mL`, `Cel`)")]
    UnknownUnit,
    /// Special units such as `Cel` cannot be multiplied, divided or raised to a power.
    #[error("a unit on its own scale, such as `Cel`, cannot be combined with others")]
    SpecialCombined,
    /// An exponent or factor beyond any measurement.
    #[error("its size is beyond the limit")]
    Size,
}

/// Why two quantities cannot be compared, or one not be converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotConvertible {
    /// The units measure different things, or at least one is an arbitrary unit of its own.
    #[error("the units do not measure the same thing")]
    OtherDimension,
    /// A logarithmic or other non-linear scale, where exact arithmetic is not possible.
    #[error("a unit on a logarithmic or other non-linear scale is not converted")]
    NotLinear,
    /// The text is not a decimal number within the limits.
    #[error("the value is not a decimal number within the limits")]
    NotANumber,
}

/// A unit, understood.
#[derive(Clone, Debug)]
pub struct Unit {
    canonical: Box<str>,
    dimension: Dimension,
    arbitrary: Box<[(&'static str, i32)]>,
    scale: Scale,
}

/// How values of a unit relate to its canonical unit.
#[derive(Clone, Copy, Debug)]
enum Scale {
    /// `value × factor + offset`.
    Linear { factor: Number, offset: Number },
    /// By another function.
    Special,
}

impl Ucum {
    /// Understands a unit.
    ///
    /// # Errors
    /// The text is not a UCUM unit (case sensitive).
    pub fn unit(&self, code: &str) -> Result<Arc<Unit>, NotAUnit> {
        if code.is_empty() || code.len() > UNIT_BYTES_MAX {
            return Err(NotAUnit::Length);
        }
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(unit) = kept.get(code) {
            return unit.clone();
        }
        drop(kept);
        let unit = understand(code).map(Arc::new);
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.insert(code.into(), unit.clone());
        }
        unit
    }

    /// Compares two quantities, each a decimal number and a UCUM unit.
    ///
    /// # Errors
    /// The units do not measure the same thing on a linear scale, or a text is not a number or unit.
    pub fn compare(
        &self,
        left: (&str, &str),
        right: (&str, &str),
    ) -> Result<Ordering, NotConvertible> {
        if left.1 == right.1 && self.unit(left.1).is_ok() {
            let number = |text| number(text).ok_or(NotConvertible::NotANumber);
            return Ok(compare(number(left.0)?, number(right.0)?));
        }
        let (left_unit, right_unit) = self.same(left.1, right.1)?;
        let left = left_unit.canonical_number(left.0)?;
        let right = right_unit.canonical_number(right.0)?;
        Ok(compare(left, right))
    }

    /// Converts a decimal number from one UCUM unit to another; the result has up to 24 significant
    /// digits.
    ///
    /// # Errors
    /// The units do not measure the same thing on a linear scale, or a text is not a number or unit.
    pub fn convert(&self, value: &str, from: &str, to: &str) -> Result<String, NotConvertible> {
        let (from, to) = self.same(from, to)?;
        let base = from.canonical_number(value)?;
        let Scale::Linear { factor, offset } = to.scale else {
            return Err(NotConvertible::NotLinear);
        };
        base.checked_sub(offset)
            .and_then(|it| it.checked_div(factor))
            .and_then(rounded)
            .and_then(plain)
            .ok_or(NotConvertible::NotANumber)
    }

    /// The value in canonical units, and their code: 1 `[in_i]` is 0.0254 `m`.
    ///
    /// # Errors
    /// The unit is not on a linear scale, or a text is not a number or unit.
    pub fn canonical(&self, value: &str, unit: &str) -> Result<(String, String), NotConvertible> {
        let unit = self
            .unit(unit)
            .map_err(|_| NotConvertible::OtherDimension)?;
        let value = unit.canonical_value(value)?;
        Ok((value, unit.canonical.to_string()))
    }

    fn same(&self, left: &str, right: &str) -> Result<(Arc<Unit>, Arc<Unit>), NotConvertible> {
        let unit = |code| self.unit(code).map_err(|_| NotConvertible::OtherDimension);
        let (left, right) = (unit(left)?, unit(right)?);
        if left.is_comparable(&right) {
            Ok((left, right))
        } else {
            Err(NotConvertible::OtherDimension)
        }
    }
}

impl Unit {
    /// The canonical unit: base units and arbitrary units with their exponents, `g.m-1.s-2` for the
    /// pascal, `1` for a mere number.
    #[must_use]
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// Whether values of the two can be compared (UCUM sections 17 and 25): the same dimension and the
    /// same arbitrary units.
    #[must_use]
    pub fn is_comparable(&self, other: &Unit) -> bool {
        self.dimension == other.dimension && self.arbitrary == other.arbitrary
    }

    /// A decimal number in this unit, in the canonical unit.
    ///
    /// # Errors
    /// The unit is not on a linear scale, or the text is not a number.
    pub fn canonical_value(&self, value: &str) -> Result<String, NotConvertible> {
        rounded(self.canonical_number(value)?)
            .and_then(plain)
            .ok_or(NotConvertible::NotANumber)
    }

    fn canonical_number(&self, value: &str) -> Result<Number, NotConvertible> {
        let Scale::Linear { factor, offset } = self.scale else {
            return Err(NotConvertible::NotLinear);
        };
        number(value)
            .and_then(|it| it.checked_mul(factor))
            .and_then(|it| it.checked_add(offset))
            .ok_or(NotConvertible::NotANumber)
    }
}

fn understand(code: &str) -> Result<Unit, NotAUnit> {
    if !code.bytes().all(|it| it.is_ascii_graphic()) {
        return Err(NotAUnit::Character);
    }
    let expression = octofhir_ucum::parse_expression(code).map_err(|it| reason(&it.kind))?;
    let result = octofhir_ucum::evaluate(&expression).map_err(|it| reason(&it.kind))?;
    let scale = scale(&result).ok_or(NotAUnit::Size)?;
    Ok(Unit {
        canonical: canonical(&result),
        dimension: result.dim,
        arbitrary: result.arbitrary.into_boxed_slice(),
        scale,
    })
}

fn reason(kind: &ErrorKind) -> NotAUnit {
    match kind {
        ErrorKind::UnitNotFound { .. } => NotAUnit::UnknownUnit,
        ErrorKind::SpecialUnitError { .. } => NotAUnit::SpecialCombined,
        ErrorKind::PrecisionOverflow { .. } | ErrorKind::NestingTooDeep { .. } => NotAUnit::Size,
        _ => NotAUnit::Syntax,
    }
}

/// How values relate to the canonical unit. Of special units, only temperatures are linear (section 22.4).
fn scale(result: &EvalResult) -> Option<Scale> {
    let within = |it: Number| it.to_integer_and_exponent().1.abs() <= EXPONENT_MAX;
    let Some(special) = result.special else {
        return within(result.factor).then_some(Scale::Linear {
            factor: result.factor,
            offset: Number::ZERO,
        });
    };
    let degrees = match special.unit.special {
        SpecialKind::Celsius => "273.15",
        SpecialKind::Fahrenheit => "459.67",
        SpecialKind::Reaumur => "218.52",
        _ => return Some(Scale::Special),
    };
    let factor = special.scale.checked_mul(result.factor)?;
    let offset = Number::parse(degrees)?.checked_mul(result.factor)?;
    within(factor).then_some(Scale::Linear { factor, offset })
}

/// Base units in the order mass, length, time, angle, temperature, charge, light; then arbitrary ones.
fn canonical(result: &EvalResult) -> Box<str> {
    let [length, time, mass, rest @ ..] = result.dim.0;
    let base = [("g", mass), ("m", length), ("s", time)]
        .into_iter()
        .chain(["rad", "K", "C", "cd"].into_iter().zip(rest))
        .map(|(unit, exponent)| (unit, i32::from(exponent)))
        .chain(result.arbitrary.iter().copied());
    let mut text = String::new();
    for (unit, exponent) in base.filter(|(_, exponent)| *exponent != 0) {
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(unit);
        if exponent != 1 {
            text.push_str(&exponent.to_string());
        }
    }
    if text.is_empty() {
        text.push('1');
    }
    text.into()
}

/// The order of two results. A difference in digits that are only traces of rounding is none.
fn compare(left: Number, right: Number) -> Ordering {
    let Some(difference) = left.checked_sub(right) else {
        return Ordering::Greater;
    };
    let least = magnitude(left)
        .max(magnitude(right))
        .saturating_sub(i64::from(DIGITS_MAX));
    if difference.is_zero() || magnitude(difference) < least {
        Ordering::Equal
    } else if difference.is_negative() {
        Ordering::Less
    } else {
        Ordering::Greater
    }
}

/// The power of ten of the first digit; zero is below everything.
fn magnitude(number: Number) -> i64 {
    if number.is_zero() {
        return i64::MIN;
    }
    let (digits, exponent) = number.to_integer_and_exponent();
    let digits = digits.unsigned_abs().checked_ilog10().unwrap_or(0);
    i64::from(exponent) + i64::from(digits)
}

/// Without the last of the 28 digits that are calculated, where factors such as 5/9 leave their traces:
/// 37 `Cel` is 98.6 `[degF]`, not 98.60000000000000000000000005.
fn rounded(number: Number) -> Option<Number> {
    let (digits, exponent) = number.to_integer_and_exponent();
    let excess = digits
        .unsigned_abs()
        .checked_ilog10()
        .map_or(0, |it| it + 1)
        .saturating_sub(DIGITS_MAX);
    if excess == 0 {
        return Some(number);
    }
    let unit = 10_i128.checked_pow(excess)?;
    let half = digits.signum() * (unit / 2);
    let kept = digits.checked_add(half)? / unit;
    let exponent = exponent.checked_add(i32::try_from(excess).ok()?)?;
    Number::parse(&format!("{kept}e{exponent}"))
}

/// Reads a decimal as FHIR and JSON write it.
fn number(text: &str) -> Option<Number> {
    if text.len() > NUMBER_BYTES_MAX {
        return None;
    }
    let number = Number::parse(text)?;
    (number.to_integer_and_exponent().1.abs() <= EXPONENT_MAX).then_some(number)
}

/// Writes a number without exponent, as FHIR's `decimal` prefers.
fn plain(number: Number) -> Option<String> {
    let (digits, exponent) = number.to_integer_and_exponent();
    if exponent.abs() > EXPONENT_MAX {
        return None;
    }
    let sign = if digits < 0 { "-" } else { "" };
    let digits = digits.unsigned_abs().to_string();
    let shift = usize::try_from(exponent.unsigned_abs()).ok()?;
    if exponent >= 0 {
        return Some(format!("{sign}{digits}{}", "0".repeat(shift)));
    }
    match digits.len().checked_sub(shift) {
        Some(at) if at > 0 => {
            let (whole, fraction) = digits.split_at_checked(at)?;
            Some(format!("{sign}{whole}.{fraction}"))
        }
        _ => Some(format!("{sign}0.{digits:0>shift$}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_the_nearest_text_that_is_none() {
        let ucum = Ucum::default();
        for unit in [
            "1",
            "%",
            "/min",
            "{score}",
            "{#}/a",
            "10*3/uL",
            "10*6/uL",
            "mm[Hg]",
            "[degF]",
            "Cel",
            "kg/m2",
            "mL/min/{1.73_m2}",
            "[in_i]",
            "[lb_av]",
            "ug/kg/min",
            "U/L",
            "[IU]/mL",
            "meq/L",
            "mmol/mol",
            "{RBC}/[HPF]",
            "ng/mL{FEU}",
            "m[H2O]",
            "[pH]",
            "dB[SPL]",
            "wk",
            "a",
            "mo",
            "min/d",
            "g%",
            "10^3/uL",
            "(kg)",
            "J/C",
            "cal_th",
        ] {
            assert_eq!(ucum.unit(unit).err(), None, "{unit}");
        }
        for (text, why) in [
            ("", NotAUnit::Length),
            ("mmHg", NotAUnit::UnknownUnit),
            ("MMOL/L", NotAUnit::UnknownUnit),
            ("KG", NotAUnit::UnknownUnit),
            ("celsius", NotAUnit::UnknownUnit),
            ("degF", NotAUnit::UnknownUnit),
            ("lbs", NotAUnit::UnknownUnit),
            ("mcg", NotAUnit::UnknownUnit),
            ("beats/min", NotAUnit::UnknownUnit),
            ("µg", NotAUnit::Character),
            ("mm Hg", NotAUnit::Character),
            ("{Heart beats}/min", NotAUnit::Character),
            ("{}", NotAUnit::Syntax),
            ("m{}", NotAUnit::Syntax),
            ("m/", NotAUnit::Syntax),
            ("m//s", NotAUnit::Syntax),
            ("(m", NotAUnit::Syntax),
            ("0.5.mL", NotAUnit::Syntax),
            ("Cel.m", NotAUnit::SpecialCombined),
            ("[degF]2", NotAUnit::SpecialCombined),
            ("m999", NotAUnit::Size),
        ] {
            assert_eq!(ucum.unit(text).err(), Some(why), "{text}");
        }
        assert_eq!(ucum.unit(&"m.".repeat(65)).err(), Some(NotAUnit::Length));
    }

    #[test]
    fn values_are_converted_exactly() {
        let ucum = Ucum::default();
        for (value, from, to, wanted) in [
            ("98.6", "[degF]", "Cel", "37"),
            ("37.0", "Cel", "[degF]", "98.6"),
            ("-40", "Cel", "[degF]", "-40"),
            ("0", "Cel", "K", "273.15"),
            ("70", "[in_i]", "cm", "177.8"),
            ("150", "[lb_av]", "kg", "68.0388555"),
            ("1.50", "g", "mg", "1500"),
            ("5", "10*3/uL", "10*9/L", "5"),
            ("250", "{RBC}/uL", "/mL", "250000"),
            ("1", "a", "d", "365.25"),
            ("0.1", "1", "%", "10"),
            ("120", "mm[Hg]", "kPa", "15.99864"),
            ("3", "[IU]/mL", "[IU]/L", "3000"),
            ("1e-3", "L", "mL", "1"),
        ] {
            assert_eq!(
                ucum.convert(value, from, to).as_deref(),
                Ok(wanted),
                "{value} {from} {to}"
            );
        }
        for (value, from, to, why) in [
            ("1", "kg", "m", NotConvertible::OtherDimension),
            ("1", "[IU]", "mg", NotConvertible::OtherDimension),
            ("1", "[IU]", "[arb'U]", NotConvertible::OtherDimension),
            ("1", "mmHg", "kPa", NotConvertible::OtherDimension),
            ("7", "[pH]", "mol/L", NotConvertible::NotLinear),
            ("1", "dB[SPL]", "Pa", NotConvertible::NotLinear),
            ("1,5", "g", "mg", NotConvertible::NotANumber),
            ("", "g", "mg", NotConvertible::NotANumber),
            ("1e999999", "g", "mg", NotConvertible::NotANumber),
            ("NaN", "g", "mg", NotConvertible::NotANumber),
        ] {
            assert_eq!(
                ucum.convert(value, from, to),
                Err(why),
                "{value} {from} {to}"
            );
        }
    }

    #[test]
    fn quantities_compare_across_units() {
        let ucum = Ucum::default();
        for (left, right, wanted) in [
            (("1", "kg"), ("1000", "g"), Ok(Ordering::Equal)),
            (("1.000", "kg"), ("1001", "g"), Ok(Ordering::Less)),
            (("37.1", "Cel"), ("98.6", "[degF]"), Ok(Ordering::Greater)),
            (("98.6", "[degF]"), ("37", "Cel"), Ok(Ordering::Equal)),
            (("37.7", "Cel"), ("99.86", "[degF]"), Ok(Ordering::Equal)),
            (
                ("37.7", "Cel"),
                ("99.860000001", "[degF]"),
                Ok(Ordering::Less),
            ),
            (("-1", "m"), ("-2", "m"), Ok(Ordering::Greater)),
            (("0", "m"), ("0", "km"), Ok(Ordering::Equal)),
            (
                ("0", "m"),
                ("0.000000000000000000000000000001", "km"),
                Ok(Ordering::Less),
            ),
            (("7.4", "[pH]"), ("7.40", "[pH]"), Ok(Ordering::Equal)),
            (
                ("50", "kg"),
                ("10", "[mi_i]"),
                Err(NotConvertible::OtherDimension),
            ),
        ] {
            assert_eq!(ucum.compare(left, right), wanted, "{left:?} {right:?}");
        }
    }

    #[test]
    fn canonical_units_tell_what_is_measured() {
        let ucum = Ucum::default();
        for (unit, canonical) in [
            ("km", "m"),
            ("N", "g.m.s-2"),
            ("mm[Hg]", "g.m-1.s-2"),
            ("%", "1"),
            ("[IU]/mL", "m-3.[iU]"),
            ("Cel", "K"),
        ] {
            assert_eq!(ucum.unit(unit).unwrap().canonical(), canonical);
        }
        assert_eq!(
            ucum.canonical("-2.5", "km"),
            Ok(("-2500".to_owned(), "m".to_owned()))
        );
        assert_eq!(
            ucum.canonical("2.5", "um"),
            Ok(("0.0000025".to_owned(), "m".to_owned()))
        );
    }
}
