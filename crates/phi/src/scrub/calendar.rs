//! Days as texts name them: which numbers can be one, and which days they name.
//!
//! Not here: where dates stand in a text ([`super::dates`]). Start at [`Day`].

use jiff::civil::Date;

/// Earliest and latest year that counts as one.
const YEARS: std::ops::RangeInclusive<i16> = 1880..=2120;

/// A date, with as much of it as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Day {
    pub(crate) year: Option<i16>,
    pub(crate) month: Option<i8>,
    pub(crate) day: Option<i8>,
    /// Whether month and day could also be the other way round.
    pub(crate) is_ambiguous: bool,
    /// Whether only the last two digits of the year were written.
    pub(crate) is_short_year: bool,
}

impl Day {
    /// Year, month and day as numbers, when they make a date.
    pub(crate) fn new(year: Option<i16>, month: u32, day: Option<u32>) -> Option<Self> {
        let month = i8::try_from(month)
            .ok()
            .filter(|it| (1..=12).contains(it))?;
        let day = match day {
            None => None,
            Some(day) => Some(i8::try_from(day).ok().filter(|it| (1..=31).contains(it))?),
        };
        let found = Self {
            year,
            month: Some(month),
            day,
            ..Self::default()
        };
        // 30 February is no date whatever the year; a leap year is assumed where none is named.
        let exists = Date::new(year.unwrap_or(2000), month, day.unwrap_or(1)).is_ok();
        exists.then_some(found)
    }

    /// Two numbers whose order is not known, American first.
    pub(crate) fn either(year: Option<i16>, first: u32, second: u32) -> Option<Self> {
        let american = Self::new(year, first, Some(second));
        let other = Self::new(year, second, Some(first));
        match (american, other) {
            (Some(day), Some(_)) => Some(Self {
                is_ambiguous: first != second,
                ..day
            }),
            (day, None) | (None, day) => day,
        }
    }

    /// Reads the date part of a FHIR `date`, `dateTime` or `instant`: `2024`, `2024-05`, `2024-05-06…`.
    pub(crate) fn of_fhir(text: &str) -> Option<Self> {
        let date = text.split('T').next().unwrap_or(text);
        let mut parts = date.split('-');
        let year = parts.next().filter(|it| it.len() == 4)?;
        let year = Self::year(year.parse().ok()?)?;
        let (month, day) = (parts.next(), parts.next());
        if parts.next().is_some() {
            return None;
        }
        let two = |part: &str| part.parse().ok().filter(|_| part.len() == 2);
        match (month, day) {
            (None, _) => Some(Self {
                year: Some(year),
                ..Self::default()
            }),
            (Some(month), None) => Self::new(Some(year), two(month)?, None),
            (Some(month), Some(day)) => Self::new(Some(year), two(month)?, Some(two(day)?)),
        }
    }

    /// A year of four digits that can be one.
    pub(crate) fn year(number: u32) -> Option<i16> {
        i16::try_from(number).ok().filter(|it| YEARS.contains(it))
    }

    /// The year that two digits mean: the century that ends in 2030.
    pub(crate) fn short_year(number: u32) -> Option<i16> {
        let number = i16::try_from(number).ok().filter(|it| *it < 100)?;
        Some(if number <= 30 {
            2000 + number
        } else {
            1900 + number
        })
    }

    /// Whether a written date can be this known one.
    pub(crate) fn names(self, known: Day) -> bool {
        let same_year = match (self.year, known.year) {
            (Some(a), Some(b)) if self.is_short_year => a.rem_euclid(100) == b.rem_euclid(100),
            (Some(a), Some(b)) => a == b,
            _ => false,
        };
        let straight = self.month == known.month && self.day == known.day;
        let turned = self.is_ambiguous && self.month == known.day && self.day == known.month;
        known.month.is_some() && same_year && (straight || turned)
    }
}

/// The number of a month's name or abbreviation, folded.
pub(crate) fn month(fold: &str) -> Option<u32> {
    Some(match fold {
        "january" | "jan" | "enero" => 1,
        "february" | "feb" | "febr" | "febrero" => 2,
        "march" | "mar" | "marzo" => 3,
        "april" | "apr" | "abril" => 4,
        "may" => 5,
        "june" | "jun" | "junio" => 6,
        "july" | "jul" | "julio" => 7,
        "august" | "aug" | "agosto" => 8,
        "september" | "sep" | "sept" | "septiembre" => 9,
        "october" | "oct" | "octubre" => 10,
        "november" | "nov" | "noviembre" => 11,
        "december" | "dec" | "diciembre" => 12,
        _ => return None,
    })
}

/// Whether it is a day of the week, or its usual abbreviation.
pub(crate) fn is_weekday(fold: &str) -> bool {
    matches!(
        fold,
        "monday"
            | "tuesday"
            | "wednesday"
            | "thursday"
            | "friday"
            | "saturday"
            | "sunday"
            | "mon"
            | "tue"
            | "tues"
            | "weds"
            | "thu"
            | "thur"
            | "thurs"
            | "fri"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_that_exist_and_days_that_do_not() {
        assert!(Day::new(Some(2023), 2, Some(29)).is_none());
        assert!(Day::new(Some(2024), 2, Some(29)).is_some());
        assert!(Day::new(None, 2, Some(29)).is_some());
        assert!(Day::new(None, 13, None).is_none());
        let day = Day::either(Some(2023), 4, 12).unwrap();
        assert!(day.is_ambiguous && day.month == Some(4));
        assert_eq!(Day::either(Some(2023), 25, 12).unwrap().day, Some(25));
        assert!(Day::either(Some(2023), 25, 13).is_none());
    }

    #[test]
    fn fhir_dates_and_what_is_none() {
        assert_eq!(Day::of_fhir("2024-05-06T07:08:09Z").unwrap().day, Some(6));
        assert_eq!(Day::of_fhir("2024-05").unwrap().day, None);
        for no in [
            "24-05-06",
            "2024-5-6",
            "2024-05-06-07",
            "final",
            "",
            "2024-13",
        ] {
            assert_eq!(Day::of_fhir(no), None, "{no}");
        }
    }

    #[test]
    fn a_known_day_is_named_by_its_forms_and_not_by_its_neighbour() {
        let known = Day::new(Some(1958), 4, Some(12)).unwrap();
        assert!(Day::either(Some(1958), 12, 4).unwrap().names(known));
        let short = Day {
            is_short_year: true,
            ..Day::either(Day::short_year(58), 4, 12).unwrap()
        };
        assert!(short.names(known));
        assert!(!Day::either(Some(1958), 4, 13).unwrap().names(known));
    }
}
