//! Periods and dates of FHIR, as spans of time. A date without a time zone is taken in UTC.
//!
//! Not here: what lies inside which span means.

use chaperone_core::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::Value;

/// From (inclusive) until (exclusive); open where nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
}

impl Span {
    /// A FHIR `Period`; `None` when it is none, or ends before it starts.
    pub(super) fn of_period(period: &Value) -> Option<Self> {
        let period = period.as_object()?;
        let end = |name: &str| match period.get(name) {
            None => Some(None),
            Some(Value::String(text)) => Self::of_date(text).map(Some),
            Some(_) => None,
        };
        let span = Self {
            from: end("start")?.and_then(|span| span.from),
            until: end("end")?.and_then(|span| span.until),
        };
        let is_ordered = match (span.from, span.until) {
            (Some(from), Some(until)) => from < until,
            _ => true,
        };
        is_ordered.then_some(span)
    }

    /// A FHIR `dateTime`, `date` or `instant`, from its first moment to its last.
    pub(super) fn of_date(text: &str) -> Option<Self> {
        if text.contains('T') {
            let at: Timestamp = text.parse().ok()?;
            let until = at.checked_add(jiff::SignedDuration::from_secs(1)).ok()?;
            return Some(Self {
                from: Some(at),
                until: Some(until),
            });
        }
        let mut parts = text.splitn(3, '-');
        let number = |part: Option<&str>, digits: usize| match part {
            None => Some(None),
            Some(part) if part.len() == digits => part.parse::<i16>().ok().map(Some),
            Some(_) => None,
        };
        let year = number(parts.next(), 4)??;
        let month = number(parts.next(), 2)?;
        let day = number(parts.next(), 2)?;
        let small = |value: Option<i16>| i8::try_from(value.unwrap_or(1)).ok();
        let first = Date::new(year, small(month)?, small(day)?).ok()?;
        let length = match (month, day) {
            (None, _) => jiff::Span::new().years(1),
            (Some(_), None) => jiff::Span::new().months(1),
            (Some(_), Some(_)) => jiff::Span::new().days(1),
        };
        let moment = |date: Date| {
            date.to_zoned(TimeZone::UTC)
                .ok()
                .map(|zoned| zoned.timestamp())
        };
        Some(Self {
            from: Some(moment(first)?),
            until: Some(moment(first.checked_add(length).ok()?)?),
        })
    }

    pub(super) fn holds(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= at) && self.until.is_none_or(|until| at < until)
    }

    /// Whether two spans share a moment.
    pub(super) fn meets(&self, other: &Span) -> bool {
        let before = |until: Option<Timestamp>, from: Option<Timestamp>| match (until, from) {
            (Some(until), Some(from)) => until <= from,
            _ => false,
        };
        !before(self.until, other.from) && !before(other.until, self.from)
    }

    /// Whether the other lies wholly inside.
    pub(super) fn covers(&self, other: &Span) -> bool {
        let starts = match (self.from, other.from) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(ours), Some(theirs)) => ours <= theirs,
        };
        let ends = match (self.until, other.until) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(ours), Some(theirs)) => theirs <= ours,
        };
        starts && ends
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn partial_dates_are_as_long_as_they_say() {
        for (text, inside, outside) in [
            ("2030", "2030-12-31T23:59:59Z", "2031-01-01T00:00:00Z"),
            ("2030-02", "2030-02-28T23:59:59Z", "2030-03-01T00:00:00Z"),
            ("2030-02-03", "2030-02-03T12:00:00Z", "2030-02-04T00:00:00Z"),
        ] {
            let span = Span::of_date(text).unwrap();
            assert!(span.holds(at(inside)), "{text}");
            assert!(!span.holds(at(outside)), "{text}");
        }
        for text in [
            "",
            "30",
            "2030-2",
            "2030-13",
            "2030-02-30",
            "yesterday",
            "2030-02-03T",
        ] {
            assert_eq!(Span::of_date(text), None, "{text}");
        }
    }

    #[test]
    fn a_period_that_ends_before_it_starts_is_none() {
        let period = |start: &str, end: &str| Span::of_period(&json!({"start": start, "end": end}));
        assert!(period("2030-01-01", "2030-01-01").is_some());
        assert!(period("2030-01-02", "2030-01-01").is_none());
        assert!(Span::of_period(&json!({"start": 2030})).is_none());
        assert!(
            Span::of_period(&json!({}))
                .unwrap()
                .holds(at("2030-01-01T00:00:00Z"))
        );
    }
}
