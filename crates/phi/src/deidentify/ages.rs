//! Ages over 89 as quantities: they become "90 or more". Start at [`old`].
//!
//! Not here: ages in texts, which a Safe Harbor copy does not keep at all.
//!
//! # Source
//! 45 CFR 164.514(b)(2)(i)(C).

use serde_json::{Map, Value, json};

use crate::scrub::AGE_FOLDED_FROM;

/// What a quantity becomes when it tells an age over 89; `None` when it tells none.
///
/// So long a time is an age wherever it stands. Without a unit, or with one that
/// nobody knows, it counts years where an age is expected.
pub(super) fn old(quantity: &Map<String, Value>, is_age: bool) -> Option<Value> {
    let value = quantity.get("value")?.as_f64()?;
    let text = |name: &str| quantity.get(name).and_then(Value::as_str).unwrap_or("");
    let per_year = match (per_year(text("code")), per_year(text("unit"))) {
        (Some(code), Some(unit)) => f64::min(code, unit),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) if is_age => 1.0,
        (None, None) => return None,
    };
    (value / per_year >= f64::from(AGE_FOLDED_FROM)).then(|| {
        json!({ "value": AGE_FOLDED_FROM, "comparator": ">=", "unit": "a", "system": "http://unitsofmeasure.org", "code": "a" })
    })
}

/// How many of a unit of time a year has.
///
/// # Source
/// UCUM, units of time (`a`, `mo`, `wk`, `d`, `h`), and their English words.
fn per_year(unit: &str) -> Option<f64> {
    const DAYS: f64 = 365.25;
    Some(match unit.trim().to_ascii_lowercase().as_str() {
        "a" | "a_j" | "a_g" | "y" | "yr" | "yrs" | "yo" | "y/o" | "year" | "years" | "{years}"
        | "years old" => 1.0,
        "mo" | "mo_j" | "mo_g" | "month" | "months" | "mos" => 12.0,
        "wk" | "week" | "weeks" | "wks" => DAYS / 7.0,
        "d" | "day" | "days" => DAYS,
        "h" | "hr" | "hour" | "hours" => DAYS * 24.0,
        _ => return None,
    })
}

/// Names of elements that hold an age.
pub(super) fn is_age_name(key: &str) -> bool {
    key == "age"
        || key.ends_with("Age")
        || matches!(
            key,
            "ageRange" | "onsetRange" | "abatementRange" | "deceasedRange"
        )
}

/// Whether an Observation says how old somebody is.
///
/// # Source
/// LOINC: age, estimated, reported, calculated.
pub(super) fn tells_age(resource: &Map<String, Value>) -> bool {
    const CODES: [&str; 4] = ["30525-0", "21611-9", "21612-7", "29553-5"];
    resource
        .get("code")
        .and_then(|code| code.get("coding"))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|coding| coding.get("code").and_then(Value::as_str))
        .any(|code| CODES.contains(&code))
}

/// Of a resource that tells an age, only its value does.
pub(super) fn is_element_of_resource(own: Option<&str>, key: &str) -> bool {
    own.is_some() && !key.starts_with("value")
}
