//! Date, DateTime and Time with the precision they were written with, and with or without timezone.
//!
//! Comparison follows the standard: it goes from the coarsest component to the finest and is undecided
//! (`None`) where one value ends before the other. There is no clock here.
//! Start at [`Moment::parse`] and [`Moment::compare`].

mod arithmetic;
mod boundary;

use std::cmp::Ordering;
use std::fmt;

use crate::primitive::dates::Scan;

pub(super) use arithmetic::Shift;

/// Which of the three types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MomentKind {
    /// A day, month or year.
    Date,
    /// The same, possibly with a time.
    DateTime,
    /// A time of day.
    Time,
}

/// The finest component that is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the variants are the names of the components")]
pub enum Precision {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    /// A fraction of the second.
    Fraction,
}

/// A Date, DateTime or Time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    kind: MomentKind,
    precision: Precision,
    year: u16,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    nanosecond: u32,
    /// Digits that the fraction was written with.
    fraction_digits: u8,
    /// Minutes east of UTC.
    offset: Option<i16>,
}

/// Most digits of a fraction that are kept.
const FRACTION_DIGITS_MAX: u8 = 9;
/// Farthest east and west of UTC that a timezone can be, in minutes.
const OFFSET_EAST_MAX: i64 = 14 * 60;
const OFFSET_WEST_MAX: i64 = 12 * 60;

impl Scan<'_> {
    /// A mark that two digits follow, as in `:30`.
    fn marked(&mut self, mark: u8) -> Option<u32> {
        match self.rest {
            [first, one, two, ..]
                if *first == mark && one.is_ascii_digit() && two.is_ascii_digit() =>
            {
                self.take(mark);
                self.digits(2)
            }
            _ => None,
        }
    }
}

impl Moment {
    const ZERO: Self = Self {
        kind: MomentKind::Date,
        precision: Precision::Year,
        year: 1,
        month: 1,
        day: 1,
        hour: 0,
        minute: 0,
        second: 0,
        nanosecond: 0,
        fraction_digits: 0,
        offset: None,
    };

    /// Which type it is.
    #[must_use]
    pub fn kind(&self) -> MomentKind {
        self.kind
    }

    /// The finest component that is given.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Reads `YYYY[-MM[-DD]]` as a Date, the same with `T…` and a timezone as a DateTime, `hh[:mm[:ss[.f]]]`
    /// as a Time. `None` if the text is none or names a day or time that does not exist.
    #[must_use]
    pub fn parse(text: &str, kind: MomentKind) -> Option<Self> {
        let mut scan = Scan {
            rest: text.as_bytes(),
        };
        let mut moment = Self { kind, ..Self::ZERO };
        match kind {
            MomentKind::Time => moment.read_time(&mut scan)?,
            MomentKind::Date => moment.read_date(&mut scan)?,
            MomentKind::DateTime => {
                moment.read_date(&mut scan)?;
                if scan.take(b'T') && !scan.rest.is_empty() {
                    if moment.precision != Precision::Day {
                        return None;
                    }
                    moment.read_time(&mut scan)?;
                    moment.read_offset(&mut scan)?;
                }
            }
        }
        scan.rest.is_empty().then_some(moment)
    }

    /// Reads what stands behind the `@` of a literal: with a `T` it is a DateTime, before the digits a Time.
    pub(super) fn parse_literal(text: &str) -> Option<Self> {
        if let Some(time) = text.strip_prefix('T') {
            Self::parse(time, MomentKind::Time)
        } else if text.contains('T') {
            Self::parse(text, MomentKind::DateTime)
        } else {
            Self::parse(text, MomentKind::Date)
        }
    }

    /// How many bytes from the start belong to a literal.
    pub(super) fn literal_length(bytes: &[u8]) -> usize {
        let mut scan = Scan { rest: bytes };
        let is_time = scan.take(b'T');
        let mut has_time = is_time;
        if !is_time {
            let _ = scan.digits(4);
            while scan.marked(b'-').is_some() {}
            has_time = scan.take(b'T');
        }
        if has_time && scan.digits(2).is_some() {
            while scan.marked(b':').is_some() {}
            if let [b'.', digit, ..] = scan.rest
                && digit.is_ascii_digit()
            {
                scan.take(b'.');
                while scan.digits(1).is_some() {}
            }
            if !scan.take(b'Z') {
                match scan.rest {
                    [b'+' | b'-', a, b, b':', c, d, ..]
                        if [a, b, c, d].iter().all(|it| it.is_ascii_digit()) =>
                    {
                        scan.rest = scan.rest.get(6..).unwrap_or_default();
                    }
                    _ => {}
                }
            }
        }
        bytes.len() - scan.rest.len()
    }

    fn read_date(&mut self, scan: &mut Scan<'_>) -> Option<()> {
        self.year = scan.digits(4)? as u16;
        self.precision = Precision::Year;
        if self.year == 0 {
            return None;
        }
        if scan.take(b'-') {
            self.month = scan.digits(2)? as u8;
            self.precision = Precision::Month;
            if !(1..=12).contains(&self.month) {
                return None;
            }
            if scan.take(b'-') {
                self.day = scan.digits(2)? as u8;
                self.precision = Precision::Day;
                if self.day == 0 || self.day > days_in_month(self.year, self.month) {
                    return None;
                }
            }
        }
        Some(())
    }

    fn read_time(&mut self, scan: &mut Scan<'_>) -> Option<()> {
        self.hour = scan.digits(2)? as u8;
        self.precision = Precision::Hour;
        if let Some(minute) = scan.marked(b':') {
            self.minute = minute as u8;
            self.precision = Precision::Minute;
            if let Some(second) = scan.marked(b':') {
                self.second = second as u8;
                self.precision = Precision::Second;
                if scan.take(b'.') {
                    self.read_fraction(scan)?;
                }
            }
        }
        // A leap second is a second that exists.
        (self.hour < 24 && self.minute < 60 && self.second <= 60).then_some(())
    }

    fn read_fraction(&mut self, scan: &mut Scan<'_>) -> Option<()> {
        let mut digits = 0;
        let mut number = scan.digits(1)?;
        loop {
            digits += 1;
            let Some(next) = scan.digits(1) else { break };
            if digits < FRACTION_DIGITS_MAX {
                number = number * 10 + next;
            } else {
                digits = FRACTION_DIGITS_MAX - 1;
            }
        }
        for _ in digits..FRACTION_DIGITS_MAX {
            number *= 10;
        }
        self.nanosecond = number;
        self.fraction_digits = digits;
        self.precision = Precision::Fraction;
        Some(())
    }

    fn read_offset(&mut self, scan: &mut Scan<'_>) -> Option<()> {
        if scan.rest.is_empty() {
            return Some(());
        }
        if scan.take(b'Z') {
            self.offset = Some(0);
            return Some(());
        }
        let sign = if scan.take(b'-') {
            -1
        } else if scan.take(b'+') {
            1
        } else {
            return None;
        };
        let hours = scan.digits(2)? as i16;
        let minutes = scan.marked(b':')? as i16;
        if hours > 14 || minutes > 59 || hours * 60 + minutes > 14 * 60 {
            return None;
        }
        self.offset = Some(sign * (hours * 60 + minutes));
        Some(())
    }

    /// The digits of precision: 4 for a year to 17 for a DateTime with milliseconds, 2 to 9 for a Time.
    pub(super) fn digits(&self) -> u32 {
        let whole = match self.precision {
            Precision::Year => 4,
            Precision::Month => 6,
            Precision::Day => 8,
            Precision::Hour => 10,
            Precision::Minute => 12,
            Precision::Second => 14,
            Precision::Fraction => 14 + u32::from(self.fraction_digits),
        };
        match self.kind {
            MomentKind::Time => whole - 8,
            MomentKind::Date | MomentKind::DateTime => whole,
        }
    }

    /// A Date as a DateTime of the same precision.
    pub(super) fn to_date_time(self) -> Self {
        Self {
            kind: MomentKind::DateTime,
            ..self
        }
    }

    /// The date part.
    pub(super) fn to_date(self) -> Self {
        Self {
            kind: MomentKind::Date,
            precision: self.precision.min(Precision::Day),
            offset: None,
            ..self
        }
    }

    /// The time part; `None` if there is none.
    pub(super) fn to_time(self) -> Option<Self> {
        (self.precision >= Precision::Hour).then_some(Self {
            kind: MomentKind::Time,
            offset: None,
            ..self
        })
    }

    /// A component, if it is given.
    pub(super) fn component(&self, precision: Precision) -> Option<i64> {
        let is_time = self.kind == MomentKind::Time;
        if (is_time && precision < Precision::Hour)
            || (precision > self.precision && precision != Precision::Fraction)
            || (precision == Precision::Fraction && self.precision < Precision::Second)
        {
            return None;
        }
        Some(match precision {
            Precision::Year => i64::from(self.year),
            Precision::Month => i64::from(self.month),
            Precision::Day => i64::from(self.day),
            Precision::Hour => i64::from(self.hour),
            Precision::Minute => i64::from(self.minute),
            Precision::Second => i64::from(self.second),
            Precision::Fraction => i64::from(self.nanosecond),
        })
    }

    /// Minutes east of UTC, if a timezone is given.
    pub(super) fn offset_minutes(&self) -> Option<i16> {
        self.offset
    }

    /// The order of two values; `None` if their precision or timezones do not decide it, or the types differ.
    ///
    /// # Source
    /// FHIRPath N1, comparison and equality of Date, DateTime and Time. A DateTime without timezone may lie
    /// anywhere from 12 hours west to 14 hours east of UTC when it is compared with one that has a timezone.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        if (self.kind == MomentKind::Time) != (other.kind == MomentKind::Time) {
            return None;
        }
        match (self.offset, other.offset) {
            (Some(one), Some(two)) if one != two => {
                self.to_utc().compare_components(&other.to_utc())
            }
            (None, None) | (Some(_), Some(_)) => self.compare_components(other),
            (Some(_), None) => self.compare_spans(other),
            (None, Some(_)) => other.compare_spans(self).map(Ordering::reverse),
        }
    }

    /// So many of a UCUM unit of time later, or earlier for a negative number; years and months are those of
    /// the calendar. `None` if it is no unit of time, or the result is beyond the calendar.
    pub(crate) fn moved(&self, count: i64, unit: &str) -> Option<Self> {
        self.plus(match unit {
            "a" => Shift::Months(count.checked_mul(12)?),
            "mo" => Shift::Months(count),
            "wk" => Shift::Days(count.checked_mul(7)?),
            "d" => Shift::Days(count),
            "h" => Shift::Milliseconds(count.checked_mul(3_600_000)?),
            "min" => Shift::Milliseconds(count.checked_mul(60_000)?),
            "s" => Shift::Milliseconds(count.checked_mul(1_000)?),
            _ => return None,
        })
    }

    fn compare_components(&self, other: &Self) -> Option<Ordering> {
        let first = if self.kind == MomentKind::Time {
            Precision::Hour
        } else {
            Precision::Year
        };
        for precision in [
            Precision::Year,
            Precision::Month,
            Precision::Day,
            Precision::Hour,
            Precision::Minute,
            Precision::Second,
            Precision::Fraction,
        ] {
            if precision < first {
                continue;
            }
            match (self.component(precision), other.component(precision)) {
                (Some(one), Some(two)) if one == two => {}
                (Some(one), Some(two)) => return Some(one.cmp(&two)),
                (None, None) => break,
                _ => return None,
            }
        }
        Some(Ordering::Equal)
    }

    /// Compares a value with timezone with one without, as spans of time.
    fn compare_spans(&self, unzoned: &Self) -> Option<Ordering> {
        let offset = i64::from(self.offset.unwrap_or_default()) * 60;
        let (start, end) = self.span();
        let (start, end) = (start - offset, end - offset);
        let (low, high) = unzoned.span();
        let (low, high) = (low - OFFSET_EAST_MAX * 60, high + OFFSET_WEST_MAX * 60);
        if end < low {
            Some(Ordering::Less)
        } else if start > high {
            Some(Ordering::Greater)
        } else {
            None
        }
    }

    /// First and last second of the local time, in seconds since 1970-01-01T00:00:00.
    fn span(&self) -> (i64, i64) {
        let start = self.seconds();
        let length = match self.precision {
            Precision::Year => {
                86_400
                    * if days_in_month(self.year, 2) == 29 {
                        366
                    } else {
                        365
                    }
            }
            Precision::Month => 86_400 * i64::from(days_in_month(self.year, self.month)),
            Precision::Day => 86_400,
            Precision::Hour => 3_600,
            Precision::Minute => 60,
            Precision::Second | Precision::Fraction => 1,
        };
        (start, start + length - 1)
    }
}

/// Days of a month of the Gregorian calendar.
fn days_in_month(year: u16, month: u8) -> u8 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl fmt::Display for Moment {
    /// As FHIR writes it, without the `@` and `T` of literals.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind != MomentKind::Time {
            write!(formatter, "{:04}", self.year)?;
            if self.precision >= Precision::Month {
                write!(formatter, "-{:02}", self.month)?;
            }
            if self.precision >= Precision::Day {
                write!(formatter, "-{:02}", self.day)?;
            }
            if self.precision < Precision::Hour {
                return Ok(());
            }
            formatter.write_str("T")?;
        }
        write!(formatter, "{:02}", self.hour)?;
        if self.precision >= Precision::Minute {
            write!(formatter, ":{:02}", self.minute)?;
        }
        if self.precision >= Precision::Second {
            write!(formatter, ":{:02}", self.second)?;
        }
        if self.precision >= Precision::Fraction {
            let all = format!("{:09}", self.nanosecond);
            let shown = all.get(..usize::from(self.fraction_digits)).unwrap_or(&all);
            write!(formatter, ".{shown}")?;
        }
        match self.offset {
            None => Ok(()),
            Some(0) => formatter.write_str("Z"),
            Some(minutes) => write!(
                formatter,
                "{}{:02}:{:02}",
                if minutes < 0 { '-' } else { '+' },
                minutes.abs() / 60,
                minutes.abs() % 60
            ),
        }
    }
}
