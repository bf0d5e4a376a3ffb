//! FHIR dates as half-open ranges of milliseconds, and the comparison prefixes over them.
//!
//! Not a calendar: a date without an offset is read as UTC. Start at [`DateRange::parse`].
//!
//! # Source
//! FHIR R4, search on dates, <https://hl7.org/fhir/R4/search.html#date>.

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// Milliseconds in a second.
const SECOND_MS: i64 = 1_000;
/// Milliseconds in a minute.
const MINUTE_MS: i64 = 60 * SECOND_MS;

/// The instants a partial date covers: from `low_ms` up to but not including `high_ms`, in
/// milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DateRange {
    pub(crate) low_ms: i64,
    pub(crate) high_ms: i64,
}

/// How a search value is compared with the range of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefix {
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
    LessOrEqual,
    Less,
    StartsAfter,
    EndsBefore,
    Approximately,
}

impl Prefix {
    /// Splits a search value into its prefix (equal when there is none) and the rest.
    pub(crate) fn split(value: &str) -> (Self, &str) {
        let known = [
            ("eq", Self::Equal),
            ("ne", Self::NotEqual),
            ("ge", Self::GreaterOrEqual),
            ("gt", Self::Greater),
            ("le", Self::LessOrEqual),
            ("lt", Self::Less),
            ("sa", Self::StartsAfter),
            ("eb", Self::EndsBefore),
            ("ap", Self::Approximately),
        ];
        known
            .into_iter()
            .find_map(|(text, prefix)| value.strip_prefix(text).map(|rest| (prefix, rest)))
            .unwrap_or((Self::Equal, value))
    }

    /// Whether an element covering `element` satisfies this prefix with the value `wanted`.
    pub(crate) fn holds(self, element: DateRange, wanted: DateRange) -> bool {
        let contained = wanted.low_ms <= element.low_ms && element.high_ms <= wanted.high_ms;
        match self {
            Self::Equal => contained,
            Self::NotEqual => !contained,
            Self::GreaterOrEqual => element.high_ms > wanted.low_ms,
            Self::Greater => element.high_ms > wanted.high_ms,
            Self::LessOrEqual => element.low_ms < wanted.high_ms,
            Self::Less => element.low_ms < wanted.low_ms,
            Self::StartsAfter => element.low_ms >= wanted.high_ms,
            Self::EndsBefore => element.high_ms <= wanted.low_ms,
            Self::Approximately => {
                element.high_ms > wanted.low_ms && element.low_ms < wanted.high_ms
            }
        }
    }
}

impl DateRange {
    /// Reads a FHIR date, dateTime or instant of any precision from year to millisecond.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.len() {
            4 => {
                let year = number(text)?;
                Some(Self {
                    low_ms: day_ms(year, 1, 1)?,
                    high_ms: day_ms(year.checked_add(1)?, 1, 1)?,
                })
            }
            7 => {
                let (year, month) = text.split_once('-')?;
                let (year, month) = (number(year)?, number(month)?);
                let next = if month == 12 {
                    day_ms(year.checked_add(1)?, 1, 1)?
                } else {
                    day_ms(year, month.checked_add(1)?, 1)?
                };
                Some(Self {
                    low_ms: day_ms(year, month, 1)?,
                    high_ms: next,
                })
            }
            10 => {
                let low_ms = date_ms(text.parse().ok()?)?;
                Some(Self {
                    low_ms,
                    high_ms: low_ms.checked_add(24 * 60 * MINUTE_MS)?,
                })
            }
            _ => Self::parse_date_time(text),
        }
    }

    fn parse_date_time(text: &str) -> Option<Self> {
        let (date, rest) = text.split_once('T')?;
        let (clock, offset_ms) = split_offset(rest)?;
        let precision_ms = match clock.len() {
            5 => MINUTE_MS,
            8 => SECOND_MS,
            _ if clock.contains('.') => 1,
            _ => return None,
        };
        let time: Time = if clock.len() == 5 {
            format!("{clock}:00").parse().ok()?
        } else {
            clock.parse().ok()?
        };
        let within_day_ms = i64::from(time.hour()) * 60 * MINUTE_MS
            + i64::from(time.minute()) * MINUTE_MS
            + i64::from(time.second()) * SECOND_MS
            + i64::from(time.millisecond());
        let low_ms = date_ms(date.parse().ok()?)?
            .checked_add(within_day_ms)?
            .checked_sub(offset_ms)?;
        Some(Self {
            low_ms,
            high_ms: low_ms.checked_add(precision_ms)?,
        })
    }

    /// Reads an element that holds a date, a dateTime, an instant or a Period.
    pub(crate) fn of_element(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Self::parse(text),
            Value::Object(period) => {
                let bound = |name: &str| period.get(name).and_then(Value::as_str);
                let start = bound("start").map(Self::parse);
                let end = bound("end").map(Self::parse);
                if start.is_none() && end.is_none() {
                    return None;
                }
                Some(Self {
                    low_ms: start.flatten().map_or(i64::MIN, |range| range.low_ms),
                    high_ms: end.flatten().map_or(i64::MAX, |range| range.high_ms),
                })
            }
            _ => None,
        }
    }
}

/// Splits a time from its offset. A `+` that a careless client left unencoded arrives as a space.
fn split_offset(rest: &str) -> Option<(&str, i64)> {
    if let Some(clock) = rest.strip_suffix('Z') {
        return Some((clock, 0));
    }
    let Some(at) = rest.find(['+', '-', ' ']) else {
        return Some((rest, 0));
    };
    let (clock, offset) = rest.split_at_checked(at)?;
    let negative = offset.starts_with('-');
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    if !(0..=14).contains(&hours) || !(0..60).contains(&minutes) {
        return None;
    }
    let offset_ms = (i64::from(hours) * 60 + i64::from(minutes)) * MINUTE_MS;
    Some((clock, if negative { -offset_ms } else { offset_ms }))
}

/// Midnight UTC of the day of `now`.
pub(crate) fn midnight(now: Timestamp) -> Timestamp {
    let day_ms = 24 * 60 * MINUTE_MS;
    let start = now
        .as_millisecond()
        .div_euclid(day_ms)
        .saturating_mul(day_ms);
    Timestamp::from_millisecond(start).unwrap_or(now)
}

/// `days` and `minutes` after `from` (before, when negative); `from` itself where time ends.
pub(crate) fn shifted(from: Timestamp, days: i64, minutes: i64) -> Timestamp {
    let minutes = days.saturating_mul(24 * 60).saturating_add(minutes);
    from.checked_add(SignedDuration::from_secs(minutes.saturating_mul(60)))
        .unwrap_or(from)
}

/// The calendar day of an instant in UTC, `YYYY-MM-DD`.
pub(crate) fn day(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).date().to_string()
}

/// Whether an instant falls on Monday to Friday in UTC.
pub(crate) fn is_working_day(at: Timestamp) -> bool {
    !matches!(
        at.to_zoned(TimeZone::UTC).weekday(),
        Weekday::Saturday | Weekday::Sunday
    )
}

fn number(text: &str) -> Option<i16> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn day_ms(year: i16, month: i16, day: i8) -> Option<i64> {
    date_ms(Date::new(year, i8::try_from(month).ok()?, day).ok()?)
}

fn date_ms(date: Date) -> Option<i64> {
    let midnight = date.to_zoned(TimeZone::UTC).ok()?;
    Some(midnight.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(value: &str, element: &str) -> bool {
        let (prefix, rest) = Prefix::split(value);
        prefix.holds(
            DateRange::parse(element).unwrap(),
            DateRange::parse(rest).unwrap(),
        )
    }

    #[test]
    fn every_precision_is_read_and_nonsense_is_not() {
        for good in [
            "2024",
            "2024-02",
            "2024-12",
            "2024-02-29",
            "2024-02-29T10:30Z",
            "2024-02-29T10:30:15",
            "2024-02-29T10:30:15+02:00",
            "2024-02-29T10:30:15.250-05:00",
        ] {
            assert!(DateRange::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "20x4",
            "2024-13",
            "2024-02-30",
            "2024-02-29T",
            "2024-02-29T25:00Z",
            "yesterday",
            "2024-02-29T10:30:15+99:00",
            "2024-02-29 10:30",
        ] {
            assert!(DateRange::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn offsets_shift_the_instant() {
        assert_eq!(
            DateRange::parse("2024-05-01T12:00:00+02:00"),
            DateRange::parse("2024-05-01T10:00:00Z")
        );
        assert_eq!(
            DateRange::parse("2024-05-01T12:00:00 02:00"),
            DateRange::parse("2024-05-01T10:00:00Z")
        );
    }

    #[test]
    fn prefixes_compare_ranges() {
        assert!(holds("2024", "2024-05-01"));
        assert!(!holds("2024-05-01", "2024"));
        assert!(holds("ge2024-05-01", "2024-05-01T08:00:00Z"));
        assert!(!holds("gt2024-05-01", "2024-05-01T08:00:00Z"));
        assert!(holds("gt2024-05-01", "2024-05-02T00:00:00Z"));
        assert!(holds("le2024-05-01", "2024-05-01T23:59:59Z"));
        assert!(!holds("lt2024-05-01", "2024-05-01T00:00:00Z"));
        assert!(holds("lt2024-05-01", "2024-04-30T23:59:59Z"));
        assert!(holds("ne2024", "2023-12-31"));
        assert!(holds("sa2024", "2025-01-01") && !holds("sa2024", "2024-12-31"));
        assert!(holds("eb2024", "2023-12-31") && !holds("eb2024", "2024-01-01"));
    }

    #[test]
    fn an_open_period_reaches_to_the_end_of_time() {
        let open = DateRange::of_element(&serde_json::json!({"start": "2024-01-01"})).unwrap();
        assert!(Prefix::GreaterOrEqual.holds(open, DateRange::parse("2090").unwrap()));
        assert!(!Prefix::Less.holds(open, DateRange::parse("2023").unwrap()));
        assert!(DateRange::of_element(&serde_json::json!({})).is_none());
    }
}
