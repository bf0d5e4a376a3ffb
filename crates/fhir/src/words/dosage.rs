//! A Dosage in words, from its structured elements.
//!
//! `Dosage.text` is what somebody wrote, not what was checked: it is added behind the structured words and
//! marked. What the structured part does not state is said to be missing rather than left out.
//! Start at [`dosage`].

use serde_json::Value;

use super::concept::{concept, free_text, list, period, quantity, range, ratio, text};

/// A Dosage in words: `10 mg by mouth, twice daily, as needed for pain, for 5 d`.
#[must_use]
pub fn dosage(value: &Value) -> String {
    let mut parts = Vec::new();
    let amounts: Vec<String> = list(value, "doseAndRate").iter().filter_map(dose).collect();
    let route = value.get("route").map(concept);
    let timing = value.get("timing").and_then(timing);
    match (amounts.is_empty(), route) {
        (false, Some(route)) => parts.push(format!("{} {route}", amounts.join(" or "))),
        (false, None) => parts.push(amounts.join(" or ")),
        (true, Some(route)) => parts.push(route),
        (true, None) => {}
    }
    parts.extend(timing);
    if value.get("asNeededBoolean").and_then(Value::as_bool) == Some(true) {
        parts.push("as needed".to_owned());
    }
    if let Some(reason) = value.get("asNeededCodeableConcept") {
        parts.push(format!("as needed for {}", concept(reason)));
    }
    parts.extend(list(value, "additionalInstruction").iter().map(concept));
    if let Some(most) = value.get("maxDosePerPeriod") {
        parts.push(format!("at most {}", ratio(most)));
    }
    if let Some(most) = value.get("maxDosePerAdministration") {
        parts.push(format!("at most {} at a time", quantity(most)));
    }
    if let Some(most) = value.get("maxDosePerLifetime") {
        parts.push(format!("at most {} in a lifetime", quantity(most)));
    }
    if parts.is_empty() {
        parts.push("no structured dosage".to_owned());
    }
    for key in ["text", "patientInstruction"] {
        parts.extend(text(value, key).map(free_text));
    }
    parts.join(", ")
}

fn dose(value: &Value) -> Option<String> {
    let amount = value
        .get("doseQuantity")
        .map(quantity)
        .or_else(|| value.get("doseRange").map(range));
    let rate = value
        .get("rateQuantity")
        .map(quantity)
        .or_else(|| value.get("rateRange").map(range))
        .or_else(|| value.get("rateRatio").map(ratio));
    match (amount, rate) {
        (Some(amount), Some(rate)) => Some(format!("{amount} at {rate}")),
        (Some(amount), None) => Some(amount),
        (None, Some(rate)) => Some(format!("at {rate}")),
        (None, None) => None,
    }
}

fn timing(value: &Value) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(repeat) = value.get("repeat") {
        parts.extend(frequency(repeat));
        let when: Vec<String> = list(repeat, "when")
            .iter()
            .filter_map(Value::as_str)
            .map(event)
            .collect();
        if !when.is_empty() {
            let offset = repeat
                .get("offset")
                .and_then(Value::as_u64)
                .map(|it| format!("{it} min "))
                .unwrap_or_default();
            parts.push(format!("{offset}{}", when.join(" and ")));
        }
        let days: Vec<&str> = list(repeat, "dayOfWeek")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        if !days.is_empty() {
            parts.push(format!("on {}", days.join(", ")));
        }
        let times: Vec<&str> = list(repeat, "timeOfDay")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        if !times.is_empty() {
            parts.push(format!("at {}", times.join(", ")));
        }
        if let Some(duration) = repeat.get("duration") {
            parts.push(format!(
                "over {duration} {}",
                text(repeat, "durationUnit").unwrap_or("units not stated")
            ));
        }
        if let Some(bounds) = repeat.get("boundsDuration") {
            parts.push(format!("for {}", quantity(bounds)));
        } else if let Some(bounds) = repeat.get("boundsRange") {
            parts.push(format!("for {}", range(bounds)));
        } else if let Some(bounds) = repeat.get("boundsPeriod") {
            parts.push(period(bounds));
        }
        match (repeat.get("count"), repeat.get("countMax")) {
            (Some(count), Some(most)) => parts.push(format!("{count} to {most} times in all")),
            (Some(count), None) => parts.push(format!("{count} times in all")),
            _ => {}
        }
    }
    if let Some(code) = value.get("code") {
        parts.push(timing_code(code));
    }
    let events: Vec<&str> = list(value, "event")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    if !events.is_empty() {
        parts.push(format!("on {}", events.join(", ")));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// `once daily`, `2 to 4 times daily`, `every 8 hours`, `3 times every 2 weeks`.
fn frequency(repeat: &Value) -> Option<String> {
    let number = |key: &str| repeat.get(key).map(Value::to_string);
    let unit = text(repeat, "periodUnit");
    let (period, period_max) = (number("period"), number("periodMax"));
    let count = number("frequency");
    if count.is_none() && period.is_none() {
        return None;
    }
    let is_once =
        matches!(count.as_deref(), None | Some("1")) && repeat.get("frequencyMax").is_none();
    let times = match (count.as_deref(), number("frequencyMax")) {
        (low, Some(high)) => format!("{} to {high} times", low.unwrap_or("1")),
        (None | Some("1"), None) => "once".to_owned(),
        (Some("2"), None) => "twice".to_owned(),
        (Some(count), None) => format!("{count} times"),
    };
    let Some(period) = period else {
        return Some(times);
    };
    let Some(unit) = unit else {
        return Some(format!("{times} every {period} units not stated"));
    };
    if period == "1" && period_max.is_none() {
        return Some(match unit {
            "d" => format!("{times} daily"),
            "wk" => format!("{times} weekly"),
            "mo" => format!("{times} monthly"),
            "a" => format!("{times} yearly"),
            _ if is_once => format!("every {}", unit_name(unit, false)),
            _ => format!("{times} every {}", unit_name(unit, false)),
        });
    }
    let span = match period_max {
        Some(most) => format!("{period} to {most}"),
        None => period,
    };
    let every = format!("every {span} {}", unit_name(unit, true));
    Some(if is_once {
        every
    } else {
        format!("{times} {every}")
    })
}

fn unit_name(unit: &str, is_plural: bool) -> &str {
    match (unit, is_plural) {
        ("s", false) => "second",
        ("s", true) => "seconds",
        ("min", false) => "minute",
        ("min", true) => "minutes",
        ("h", false) => "hour",
        ("h", true) => "hours",
        ("d", false) => "day",
        ("d", true) => "days",
        ("wk", false) => "week",
        ("wk", true) => "weeks",
        ("mo", false) => "month",
        ("mo", true) => "months",
        ("a", false) => "year",
        ("a", true) => "years",
        _ => unit,
    }
}

/// Codes of the FHIR value set event-timing.
fn event(code: &str) -> String {
    match code {
        "MORN" => "in the morning",
        "MORN.early" => "early in the morning",
        "MORN.late" => "late in the morning",
        "NOON" => "at noon",
        "AFT" => "in the afternoon",
        "AFT.early" => "early in the afternoon",
        "AFT.late" => "late in the afternoon",
        "EVE" => "in the evening",
        "EVE.early" => "early in the evening",
        "EVE.late" => "late in the evening",
        "NIGHT" => "at night",
        "PHS" => "after falling asleep",
        "HS" => "at bedtime",
        "WAKE" => "on waking",
        "C" => "with meals",
        "CM" => "with breakfast",
        "CD" => "with lunch",
        "CV" => "with dinner",
        "AC" => "before meals",
        "ACM" => "before breakfast",
        "ACD" => "before lunch",
        "ACV" => "before dinner",
        "PC" => "after meals",
        "PCM" => "after breakfast",
        "PCD" => "after lunch",
        "PCV" => "after dinner",
        other => return format!("at {other}"),
    }
    .to_owned()
}

/// Codes of the v3 code system GTSAbbreviation; others by their display.
fn timing_code(value: &Value) -> String {
    let code = list(value, "coding").iter().find_map(|it| text(it, "code"));
    match code {
        Some("QD") => "once daily",
        Some("BID") => "twice daily",
        Some("TID") => "3 times daily",
        Some("QID") => "4 times daily",
        Some("QOD") => "every other day",
        Some("Q1H") => "every hour",
        Some("Q2H") => "every 2 hours",
        Some("Q3H") => "every 3 hours",
        Some("Q4H") => "every 4 hours",
        Some("Q6H") => "every 6 hours",
        Some("Q8H") => "every 8 hours",
        Some("WK") => "weekly",
        Some("MO") => "monthly",
        Some("AM") => "every morning",
        Some("PM") => "every afternoon",
        Some("BED") => "at bedtime",
        _ => return concept(value),
    }
    .to_owned()
}
