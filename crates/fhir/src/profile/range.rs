//! `minValue`, `maxValue` and `maxLength`.
//!
//! Values that cannot be compared (units of other kinds, dates of different precision) are not judged.
//! Start at [`Range::breach`].
//!
//! # Source
//! FHIR R4, <https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.minValue_x_>: also
//! that for dates and times the bound may be a duration, which is subtracted from the current time for the
//! least value and added to it for the greatest.

use std::cmp::Ordering;

use serde_json::Value as Json;

use super::number;
use crate::fhirpath::{Moment, MomentKind};
use crate::json::{Kind, Value};
use crate::terminology::ucum::{self, Ucum};

/// Bounds on a value.
#[derive(Debug, Default)]
pub(crate) struct Range {
    pub(crate) least: Option<Json>,
    pub(crate) greatest: Option<Json>,
    /// Most characters.
    pub(crate) length_max: Option<u32>,
}

/// What values are compared by.
#[derive(Clone, Copy)]
pub(crate) struct Measure<'m> {
    pub(crate) ucum: &'m Ucum,
    /// The current time, for bounds that are relative to it.
    pub(crate) now: Option<Moment>,
}

/// Which bound is broken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Breach {
    BelowLeast(String),
    AboveGreatest(String),
    TooLong(u32),
}

impl Range {
    /// The bound that the value breaks, if any.
    pub(crate) fn breach(&self, value: Value<'_>, measure: &Measure<'_>) -> Option<Breach> {
        if let (Some(most), Some(text)) = (self.length_max, value.as_str())
            && text.chars().count() > most as usize
        {
            return Some(Breach::TooLong(most));
        }
        if let Some(least) = &self.least
            && compare(value, least, -1, measure) == Some(Ordering::Less)
        {
            return Some(Breach::BelowLeast(shown(least)));
        }
        if let Some(greatest) = &self.greatest
            && compare(value, greatest, 1, measure) == Some(Ordering::Greater)
        {
            return Some(Breach::AboveGreatest(shown(greatest)));
        }
        None
    }
}

fn shown(bound: &Json) -> String {
    match bound {
        Json::Object(quantity) => {
            let part = |name: &str| quantity.get(name).map(shown).unwrap_or_default();
            format!("{} {}", part("value"), part("code"))
        }
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Numbers, dates and times, and quantities of the same kind. A duration counts from now, in that direction.
fn compare(
    value: Value<'_>,
    bound: &Json,
    direction: i64,
    measure: &Measure<'_>,
) -> Option<Ordering> {
    match (value.kind(), bound) {
        (Kind::Number, Json::Number(bound)) => {
            number::compare(value.as_number()?, &bound.to_string())
        }
        (Kind::String, Json::String(bound)) => compare_dates(value.as_str()?, bound),
        (Kind::String, Json::Object(_)) => {
            let count = bound.get("value")?.as_i64()?.checked_mul(direction)?;
            let unit = bound.get("code")?.as_str()?;
            let limit = measure.now?.moved(count, unit)?;
            Moment::parse(value.as_str()?, MomentKind::DateTime)?.compare(&limit)
        }
        (Kind::Object, Json::Object(bound)) => {
            let own = |name: &str| value.get(name).and_then(Value::as_str);
            let stated = |name: &str| bound.get(name).and_then(Json::as_str);
            let (number, limit) = (value.get("value")?.as_number()?, bound.get("value")?);
            let same = |name: &str| own(name) == stated(name);
            if same("system") && (same("code") || stated("code").is_none() && same("unit")) {
                return number::compare(number, &limit.to_string());
            }
            if own("system") != Some(ucum::SYSTEM) || stated("system") != Some(ucum::SYSTEM) {
                return None;
            }
            measure
                .ucum
                .compare(
                    (number, own("code")?),
                    (&limit.to_string(), stated("code")?),
                )
                .ok()
        }
        _ => None,
    }
}

/// Dates and times of the same precision and timezone sort as text; others are compared as far as the
/// shorter goes, and equal beginnings decide nothing.
fn compare_dates(value: &str, bound: &str) -> Option<Ordering> {
    let starts_with_digit = |text: &str| text.bytes().next().is_some_and(|it| it.is_ascii_digit());
    if !starts_with_digit(value) || !starts_with_digit(bound) {
        return None;
    }
    // Timezones shift by at most 14 hours: only whole days that differ by more than one decide across them.
    let day = |text: &str| text.get(..10.min(text.len())).map(str::to_owned);
    let zone = |text: &str| {
        let time = text.split_once('T').map(|(_, time)| time)?;
        let at = time.find(['Z', '+', '-'])?;
        time.get(at..).map(str::to_owned)
    };
    if zone(value) != zone(bound) {
        let (a, b) = (day(value)?, day(bound)?);
        let length = a.len().min(b.len());
        return match a.get(..length)?.cmp(b.get(..length)?) {
            Ordering::Equal => None,
            other => Some(other),
        };
    }
    let length = value.len().min(bound.len());
    match value.get(..length)?.cmp(bound.get(..length)?) {
        Ordering::Equal if value.len() != bound.len() => None,
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Document, JsonLimits};

    fn breach(range: &Range, text: &str) -> Option<Breach> {
        let document = Document::parse(text.as_bytes(), &JsonLimits::default()).unwrap();
        let measure = Measure {
            ucum: &Ucum::default(),
            now: Moment::parse("2026-11-22T12:30:00Z", MomentKind::DateTime),
        };
        range.breach(document.root(), &measure)
    }

    #[test]
    fn judges_numbers_dates_quantities_and_lengths() {
        let range = |least: Json, greatest: Json| Range {
            least: Some(least),
            greatest: Some(greatest),
            length_max: None,
        };
        let numbers = range(serde_json::json!(1), serde_json::json!(2.5));
        assert_eq!(breach(&numbers, "2.50"), None);
        assert_eq!(
            breach(&numbers, "2.51"),
            Some(Breach::AboveGreatest("2.5".to_owned()))
        );
        assert_eq!(
            breach(&numbers, "0.99"),
            Some(Breach::BelowLeast("1".to_owned()))
        );
        let dates = range(serde_json::json!("2000-01-01"), serde_json::json!("2020"));
        assert_eq!(breach(&dates, r#""2020-05-01""#), None);
        assert!(breach(&dates, r#""2021""#).is_some());
        assert!(breach(&dates, r#""1999-12-31""#).is_some());
        let quantity = |value: f64, code: &str| serde_json::json!({"value": value, "system": "http://unitsofmeasure.org", "code": code});
        let range = range(quantity(1.0, "kg"), quantity(3.0, "kg"));
        assert!(breach(&range, &quantity(4.0, "kg").to_string()).is_some());
        assert!(breach(&range, &quantity(4.0, "g").to_string()).is_some());
        assert!(breach(&range, &quantity(2000.0, "g").to_string()).is_none());
        assert!(breach(&range, &quantity(4.0, "cm").to_string()).is_none());
        let short = Range {
            length_max: Some(3),
            ..Range::default()
        };
        assert_eq!(breach(&short, r#""äöü""#), None);
        assert_eq!(breach(&short, r#""abcd""#), Some(Breach::TooLong(3)));
    }

    #[test]
    fn durations_count_from_now() {
        let duration = |value: u32, code: &str| {
            Some(
                serde_json::json!({"value": value, "system": "http://unitsofmeasure.org", "code": code}),
            )
        };
        let range = Range {
            least: duration(120, "a"),
            greatest: duration(2, "mo"),
            length_max: None,
        };
        for (text, is_within) in [
            (r#""1906-11-24""#, true),
            (r#""1906-11-20""#, false),
            (r#""2027-01-20""#, true),
            (r#""2027-01-25""#, false),
            (r#""2027-01-22T12:29:59Z""#, true),
            (r#""2027-01-22T12:30:01Z""#, false),
            // It is not said whether this is before or after.
            (r#""2027-01""#, true),
            (r#""2028""#, false),
        ] {
            assert_eq!(breach(&range, text).is_none(), is_within, "{text}");
        }
    }
}
