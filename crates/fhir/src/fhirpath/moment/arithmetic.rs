//! Adding durations to dates and times, and the calendar behind it.
//!
//! Whole units only: a fraction of a unit is dropped. Years and months keep the day where it exists and
//! else take the last day of the month. Start at [`Moment::plus`].

use super::{Moment, MomentKind, Precision, days_in_month};

/// A duration: a whole number of one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fhirpath) enum Shift {
    Months(i64),
    Days(i64),
    Milliseconds(i64),
}

const DAY_MILLISECONDS: i64 = 86_400_000;

/// Days since 1970-01-01 of a day of the Gregorian calendar.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    // Years run from March here, so that the leap day is the last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a number of days since 1970-01-01.
fn date_of(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

impl Moment {
    /// Seconds since 1970-01-01T00:00:00 of the local time; of a Time, since midnight.
    pub(super) fn seconds(&self) -> i64 {
        let days = match self.kind {
            MomentKind::Time => 0,
            MomentKind::Date | MomentKind::DateTime => days_of(
                i64::from(self.year),
                i64::from(self.month),
                i64::from(self.day),
            ),
        };
        days * 86_400
            + i64::from(self.hour) * 3_600
            + i64::from(self.minute) * 60
            + i64::from(self.second)
    }

    /// The same moment in UTC, with the same precision.
    pub(super) fn to_utc(self) -> Self {
        let Some(offset) = self.offset else {
            return self;
        };
        if self.precision < Precision::Hour || offset == 0 {
            return self;
        }
        let seconds = self.seconds() - i64::from(offset) * 60;
        self.at_seconds(seconds).unwrap_or(self).with_offset(0)
    }

    fn with_offset(self, minutes: i16) -> Self {
        Self {
            offset: Some(minutes),
            ..self
        }
    }

    /// The same moment with the components of another local time; `None` outside of the years 1 to 9999.
    fn at_seconds(self, seconds: i64) -> Option<Self> {
        let (year, month, day) = date_of(seconds.div_euclid(86_400));
        let rest = seconds.rem_euclid(86_400);
        if !(1..=9_999).contains(&year) {
            return None;
        }
        let dated = match self.kind {
            MomentKind::Time => self,
            MomentKind::Date | MomentKind::DateTime => Self {
                year: year as u16,
                month: month as u8,
                day: day as u8,
                ..self
            },
        };
        Some(Self {
            hour: (rest / 3_600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
            ..dated
        })
    }

    /// The moment later by a duration; `None` outside of the years 1 to 9999 or if a Time is shifted by days.
    ///
    /// A duration finer than the precision counts in whole units of the precision.
    ///
    /// # Source
    /// FHIRPath N1, date and time arithmetic.
    pub(in crate::fhirpath) fn plus(self, shift: Shift) -> Option<Self> {
        if self.kind == MomentKind::Time {
            let Shift::Milliseconds(milliseconds) = shift else {
                return None;
            };
            return self.plus_milliseconds(milliseconds % DAY_MILLISECONDS);
        }
        match (shift, self.precision) {
            (Shift::Months(months), Precision::Year) => self.plus_months(months / 12 * 12),
            (Shift::Months(months), _) => self.plus_months(months),
            (Shift::Days(days), Precision::Year) => self.plus_months(days / 365 * 12),
            (Shift::Days(days), Precision::Month) => self.plus_months(days / 30),
            (Shift::Days(days), _) => {
                self.at_seconds(self.seconds().checked_add(days.checked_mul(86_400)?)?)
            }
            (Shift::Milliseconds(it), Precision::Year | Precision::Month | Precision::Day) => {
                self.plus(Shift::Days(it / DAY_MILLISECONDS))
            }
            (Shift::Milliseconds(milliseconds), _) => self.plus_milliseconds(milliseconds),
        }
    }

    fn plus_months(self, months: i64) -> Option<Self> {
        let total = (i64::from(self.year) * 12 + i64::from(self.month) - 1).checked_add(months)?;
        let (year, month) = (total.div_euclid(12), total.rem_euclid(12) + 1);
        if !(1..=9_999).contains(&year) {
            return None;
        }
        let (year, month) = (year as u16, month as u8);
        Some(Self {
            year,
            month,
            day: self.day.min(days_in_month(year, month)),
            ..self
        })
    }

    fn plus_milliseconds(self, milliseconds: i64) -> Option<Self> {
        // Coarser than the precision only: 90 minutes added to an hour are one hour.
        let unit = match self.precision {
            Precision::Hour => 3_600_000,
            Precision::Minute => 60_000,
            Precision::Second => 1_000,
            _ => 1,
        };
        let milliseconds = milliseconds / unit * unit;
        let nanoseconds = i64::from(self.nanosecond) + milliseconds.rem_euclid(1_000) * 1_000_000;
        let seconds = self
            .seconds()
            .checked_add(milliseconds.div_euclid(1_000))?
            .checked_add(nanoseconds / 1_000_000_000)?;
        Some(Self {
            nanosecond: (nanoseconds % 1_000_000_000) as u32,
            fraction_digits: if milliseconds % 1_000 != 0 {
                self.fraction_digits.max(3)
            } else {
                self.fraction_digits
            },
            ..self.at_seconds(seconds)?
        })
    }
}
