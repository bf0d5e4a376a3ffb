//! Compares answers with the values that a form states. Whatever cannot be decided is `None`.
//!
//! Start at [`order`] and [`is_same`].

use std::cmp::Ordering;

use serde_json::Value as Json;

use super::Terms;
use crate::json::{Kind, Value};

const UCUM: &str = "http://unitsofmeasure.org";

/// Compares two decimal numbers.
pub(super) fn numbers(left: &str, right: &str) -> Option<Ordering> {
    let left: f64 = left.parse().ok()?;
    let right: f64 = right.parse().ok()?;
    left.partial_cmp(&right)
}

/// Compares dates and times as texts: sound where precision and timezone are the same.
fn texts(left: &str, right: &str) -> Option<Ordering> {
    if left == right {
        return Some(Ordering::Equal);
    }
    let zone = |text: &str| {
        text.find('T').and_then(|at| {
            let time = text.get(at..)?;
            let from = time.find(['Z', '+', '-'])?;
            time.get(from..).map(str::to_owned)
        })
    };
    // The common part decides if it differs; a difference in precision alone decides nothing.
    let shared = left.len().min(right.len());
    if zone(left) != zone(right) {
        // A day's difference is more than any timezone can bridge.
        let (left, right) = (day(left)?, day(right)?);
        return (left.abs_diff(right) > 1).then(|| left.cmp(&right));
    }
    let (head, other) = (left.get(..shared)?, right.get(..shared)?);
    match head.cmp(other) {
        Ordering::Equal => None,
        decided => Some(decided),
    }
}

/// A number that grows by at least 1 from day to day.
fn day(text: &str) -> Option<i64> {
    let year: i64 = text.get(..4)?.parse().ok()?;
    let month: i64 = text.get(5..7)?.parse().ok()?;
    let day: i64 = text.get(8..10)?.parse().ok()?;
    Some((year * 12 + month) * 31 + day)
}

/// The order of an answer (`name` is its JSON name, such as `valueDate`) and a value of the form.
pub(super) fn order(
    name: &str,
    answer: Value<'_>,
    stated: &Json,
    terms: &dyn Terms,
) -> Option<Ordering> {
    match name {
        "valueInteger" | "valueDecimal" => {
            numbers(answer.as_number()?, &stated.as_number()?.to_string())
        }
        "valueDate" | "valueDateTime" | "valueTime" => texts(answer.as_str()?, stated.as_str()?),
        "valueString" => Some(answer.as_str()?.cmp(stated.as_str()?)),
        "valueQuantity" => quantities(answer, stated, terms),
        _ => None,
    }
}

/// Whether both quantities have a UCUM unit.
pub(super) fn is_formal(answer: Value<'_>, stated: &Json) -> bool {
    answer.get("system").and_then(Value::as_str) == Some(UCUM)
        && stated["system"] == UCUM
        && answer.get("code").is_some()
        && stated["code"].is_string()
}

fn quantities(answer: Value<'_>, stated: &Json, terms: &dyn Terms) -> Option<Ordering> {
    let value = answer.get("value")?.as_number()?;
    let other = stated["value"].as_number()?.to_string();
    if is_formal(answer, stated) {
        let unit = answer.get("code")?.as_str()?;
        return terms.compare((value, unit), (&other, stated["code"].as_str()?));
    }
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    let is_same_unit = ["system", "code", "unit"]
        .iter()
        .all(|name| text(name) == stated[*name].as_str());
    if is_same_unit {
        numbers(value, &other)
    } else {
        None
    }
}

/// Whether an answer is the value that the form states.
pub(super) fn is_same(
    name: &str,
    answer: Value<'_>,
    stated: &Json,
    terms: &dyn Terms,
) -> Option<bool> {
    match name {
        "valueBoolean" => Some(answer.as_bool()? == stated.as_bool()?),
        "valueCoding" => Some(is_same_coding(answer, stated)),
        "valueReference" => {
            Some(answer.get("reference")?.as_str()? == stated["reference"].as_str()?)
        }
        "valueUri" => Some(answer.as_str()? == stated.as_str()?),
        _ => Some(order(name, answer, stated, terms)? == Ordering::Equal),
    }
}

/// Code and system agree; a missing system agrees with a missing one only.
pub(super) fn is_same_coding(answer: Value<'_>, stated: &Json) -> bool {
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    text("code") == stated["code"].as_str()
        && text("system") == stated["system"].as_str()
        && answer.kind() == Kind::Object
        // Without codes, the texts are all there is.
        && (text("code").is_some() || text("display") == stated["display"].as_str())
}
