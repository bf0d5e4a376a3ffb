//! The earliest and latest moment that a partial date or time can mean.
//!
//! Start at [`Moment::boundary`].

use super::{Moment, MomentKind, Precision, days_in_month};

impl Moment {
    /// The lowest (`is_high` false) or highest moment, written with `digits` digits; `None` if the type cannot be
    /// written with so many.
    ///
    /// An hour alone is read as its first minute, because FHIR has no times without minutes. A DateTime
    /// without timezone gets the timezone that makes it earliest (+14:00) or latest (-12:00).
    ///
    /// # Source
    /// FHIRPath, `lowBoundary` and `highBoundary` (STU), with the timezones of the R4 tests.
    pub(in crate::fhirpath) fn boundary(self, is_high: bool, digits: Option<i64>) -> Option<Self> {
        let most = match self.kind {
            MomentKind::Date => 8,
            MomentKind::DateTime => 17,
            MomentKind::Time => 9,
        };
        let digits = digits.unwrap_or(most);
        let whole = match self.kind {
            MomentKind::Time => digits + 8,
            MomentKind::Date | MomentKind::DateTime => digits,
        };
        if digits > most {
            return None;
        }
        let (precision, fraction_digits) = match whole {
            4 => (Precision::Year, 0),
            6 => (Precision::Month, 0),
            8 => (Precision::Day, 0),
            10 => (Precision::Hour, 0),
            12 => (Precision::Minute, 0),
            14 => (Precision::Second, 0),
            17 => (Precision::Fraction, 3),
            _ => return None,
        };
        let filled = self.filled(is_high);
        Some(Self {
            precision,
            fraction_digits,
            offset: match (self.kind, precision >= Precision::Hour, self.offset) {
                (MomentKind::DateTime, true, None) => {
                    Some(if is_high { -12 * 60 } else { 14 * 60 })
                }
                (MomentKind::DateTime, true, given) => given,
                _ => None,
            },
            ..filled
        })
    }

    /// All components given, at their lowest or highest.
    fn filled(self, is_high: bool) -> Self {
        let mut filled = self;
        let is_time = self.kind == MomentKind::Time;
        if !is_time && self.precision < Precision::Month {
            filled.month = if is_high { 12 } else { 1 };
        }
        if !is_time && self.precision < Precision::Day {
            filled.day = if is_high {
                days_in_month(filled.year, filled.month)
            } else {
                1
            };
        }
        if self.precision < Precision::Hour {
            filled.hour = if is_high { 23 } else { 0 };
            filled.minute = if is_high { 59 } else { 0 };
        }
        if self.precision < Precision::Second {
            filled.second = if is_high { 59 } else { 0 };
        }
        if self.precision < Precision::Fraction {
            filled.nanosecond = if is_high { 999_000_000 } else { 0 };
        } else if is_high && self.fraction_digits < 3 {
            // `.1` may be anything up to `.199`.
            let unit = 10_u32.pow(9 - u32::from(self.fraction_digits));
            filled.nanosecond = self.nanosecond + unit - 1_000_000;
        }
        filled
    }
}
