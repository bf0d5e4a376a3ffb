//! How long: a number and a unit, in the calendar of UTC.

use std::fmt;
use std::str::FromStr;

use chaperone_core::Timestamp;
use jiff::{Span, ToSpan};
use serde::{Serialize, Serializer};

/// A duration such as `6 years`. Never nothing and never without an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    amount: u16,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Minute,
    Hour,
    Day,
    Month,
    Year,
}

impl Unit {
    const ALL: [(Unit, &'static str); 5] = [
        (Unit::Minute, "minute"),
        (Unit::Hour, "hour"),
        (Unit::Day, "day"),
        (Unit::Month, "month"),
        (Unit::Year, "year"),
    ];
}

/// Not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a duration is a number from 1 to 9999 and a unit, such as `6 years` or `90 days`; nothing is kept for ever"
)]
pub struct TermInvalid;

impl Term {
    /// So many years, at least one.
    pub(crate) fn years(amount: u16) -> Self {
        Self {
            amount: amount.max(1),
            unit: Unit::Year,
        }
    }

    fn span(self) -> Span {
        let amount = i64::from(self.amount);
        match self.unit {
            Unit::Minute => amount.minutes(),
            Unit::Hour => amount.hours(),
            Unit::Day => amount.days(),
            Unit::Month => amount.months(),
            Unit::Year => amount.years(),
        }
    }

    /// When it is over, counted from a time; the end of time when there is none.
    pub fn after(self, from: Timestamp) -> Timestamp {
        from.to_zoned(jiff::tz::TimeZone::UTC)
            .checked_add(self.span())
            .map_or(Timestamp::MAX, |end| end.timestamp())
    }

    /// A time of which it is over now; the beginning of time when there is none. Of what began later, it is not
    /// over; of what began earlier by less than the difference of two months, see [`Term::after`].
    pub(crate) fn before(self, now: Timestamp) -> Timestamp {
        now.to_zoned(jiff::tz::TimeZone::UTC)
            .checked_sub(self.span())
            .map_or(Timestamp::MIN, |begin| begin.timestamp())
    }

    /// Whether it is shorter than another, counted from the same day.
    pub(crate) fn is_shorter_than(self, other: Term) -> bool {
        self.after(Timestamp::UNIX_EPOCH) < other.after(Timestamp::UNIX_EPOCH)
    }
}

impl FromStr for Term {
    type Err = TermInvalid;
    fn from_str(text: &str) -> Result<Self, TermInvalid> {
        let (amount, unit) = text.trim().split_once(' ').ok_or(TermInvalid)?;
        let amount: u16 = amount.parse().map_err(|_| TermInvalid)?;
        let unit = unit.trim();
        let (unit, _) = Unit::ALL
            .into_iter()
            .find(|(_, name)| unit == *name || unit.strip_suffix('s') == Some(name))
            .ok_or(TermInvalid)?;
        if (1..=9_999).contains(&amount) {
            Ok(Self { amount, unit })
        } else {
            Err(TermInvalid)
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Unit::ALL
            .into_iter()
            .find(|(unit, _)| *unit == self.unit)
            .map_or("", |(_, name)| name);
        let plural = if self.amount == 1 { "" } else { "s" };
        write!(f, "{} {name}{plural}", self.amount)
    }
}

impl Serialize for Term {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_read_and_everything_without_an_end_is_not() {
        for (text, said) in [
            ("6 years", "6 years"),
            ("1 year", "1 year"),
            ("90 days", "90 days"),
            ("1 hour", "1 hour"),
            ("18 months", "18 months"),
            ("5 minutes", "5 minutes"),
        ] {
            assert_eq!(text.parse::<Term>().unwrap().to_string(), said);
        }
        for text in [
            "",
            "0",
            "0 days",
            "-1 days",
            "6",
            "years",
            "for ever",
            "forever",
            "never",
            "null",
            "none",
            "∞",
            "inf",
            "6 decades",
            "10000 years",
            "6.5 years",
            "6years",
        ] {
            assert_eq!(text.parse::<Term>(), Err(TermInvalid), "{text}");
        }
    }

    #[test]
    fn years_are_years_of_the_calendar() {
        let from: Timestamp = "2024-02-29T12:00:00Z".parse().unwrap();
        let term: Term = "6 years".parse().unwrap();
        assert_eq!(term.after(from), "2030-02-28T12:00:00Z".parse().unwrap());
        assert_eq!(
            term.before("2030-03-01T00:00:00Z".parse().unwrap()),
            "2024-03-01T00:00:00Z".parse().unwrap()
        );
        assert_eq!(term.after(Timestamp::MAX), Timestamp::MAX);
        assert!("2190 days".parse::<Term>().unwrap().is_shorter_than(term));
        assert!(!"2200 days".parse::<Term>().unwrap().is_shorter_than(term));
    }
}
