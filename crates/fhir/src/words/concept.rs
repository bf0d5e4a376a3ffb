//! Words for FHIR's datatypes: codes, quantities, periods, references.
//!
//! Displays are shown with their code, because nobody has checked yet that they belong together.
//! Start at [`concept`].

use serde_json::Value;

use super::FREE_TEXT_CHARACTERS_MAX;

/// Short names of code systems.
const SYSTEMS: [(&str, &str); 11] = [
    ("http://www.nlm.nih.gov/research/umls/rxnorm", "RxNorm"),
    ("http://loinc.org", "LOINC"),
    ("http://snomed.info/sct", "SNOMED CT"),
    ("http://hl7.org/fhir/sid/icd-10-cm", "ICD-10-CM"),
    ("http://hl7.org/fhir/sid/icd-10", "ICD-10"),
    ("http://hl7.org/fhir/sid/cvx", "CVX"),
    ("http://www.ama-assn.org/go/cpt", "CPT"),
    ("http://hl7.org/fhir/sid/ndc", "NDC"),
    ("http://fdasis.nlm.nih.gov", "UNII"),
    ("http://unitsofmeasure.org", "UCUM"),
    ("urn:ietf:bcp:47", "language"),
];

/// The text of a member.
pub(super) fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str)
}

/// The items of a member that is a list; nothing otherwise.
pub(super) fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Free text, marked as such and cut to a readable length.
pub(super) fn free_text(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return "nothing stated".to_owned();
    }
    let mut shown: String = line.chars().take(FREE_TEXT_CHARACTERS_MAX).collect();
    if shown.len() < line.len() {
        shown.push('…');
    }
    format!("free text (unchecked): “{shown}”")
}

/// Short name of a code system, or its URI.
fn system_name(system: &str) -> &str {
    SYSTEMS.iter().find(|(uri, _)| *uri == system).map_or_else(
        || {
            // FHIR's own systems are named by their last part.
            system
                .strip_prefix("http://terminology.hl7.org/CodeSystem/")
                .or_else(|| system.strip_prefix("http://hl7.org/fhir/"))
                .unwrap_or(system)
        },
        |(_, name)| name,
    )
}

/// A Coding in words: `display (system code)`.
#[must_use]
pub fn coding(value: &Value) -> String {
    let code = match (text(value, "system"), text(value, "code")) {
        (Some(system), Some(code)) => format!("{} {code}", system_name(system)),
        (None, Some(code)) => format!("code {code} without system"),
        (Some(system), None) => format!("{} without code", system_name(system)),
        (None, None) => "no code".to_owned(),
    };
    match text(value, "display") {
        Some(display) => format!("{display} ({code})"),
        None => code,
    }
}

/// A CodeableConcept in words: the display of the first coding that has one, else its code, else the
/// text marked as unchecked. Codings are alternatives for one meaning, so one is enough for a line.
#[must_use]
pub fn concept(value: &Value) -> String {
    let codings = list(value, "coding");
    if let Some(display) = codings.iter().find_map(|it| text(it, "display")) {
        return display.to_owned();
    }
    if let Some(first) = codings.first() {
        return coding(first);
    }
    free_text(text(value, "text").unwrap_or_default())
}

/// A Quantity in words: comparator, value as written, unit.
#[must_use]
pub fn quantity(value: &Value) -> String {
    let number = value
        .get("value")
        .map_or_else(|| "no value".to_owned(), Value::to_string);
    let comparator = text(value, "comparator")
        .map(|it| format!("{it} "))
        .unwrap_or_default();
    let unit = text(value, "unit")
        .or_else(|| text(value, "code"))
        .map(|it| format!(" {it}"));
    format!("{comparator}{number}{}", unit.unwrap_or_default())
}

/// A Range in words.
pub(super) fn range(value: &Value) -> String {
    match (value.get("low"), value.get("high")) {
        (Some(low), Some(high)) => format!("{} to {}", quantity(low), quantity(high)),
        (Some(low), None) => format!("at least {}", quantity(low)),
        (None, Some(high)) => format!("at most {}", quantity(high)),
        (None, None) => "no range".to_owned(),
    }
}

/// A Ratio in words.
pub(super) fn ratio(value: &Value) -> String {
    let part = |key| value.get(key).map_or_else(|| "?".to_owned(), quantity);
    format!("{} per {}", part("numerator"), part("denominator"))
}

/// A Period in words.
pub(super) fn period(value: &Value) -> String {
    match (text(value, "start"), text(value, "end")) {
        (Some(start), Some(end)) => format!("from {} to {}", date(start), date(end)),
        (Some(start), None) => format!("from {}", date(start)),
        (None, Some(end)) => format!("until {}", date(end)),
        (None, None) => "period not stated".to_owned(),
    }
}

/// A Reference in words: display with the literal reference.
pub(super) fn reference(value: &Value) -> String {
    match (text(value, "display"), text(value, "reference")) {
        (Some(display), Some(reference)) => format!("{display} ({reference})"),
        (Some(display), None) => display.to_owned(),
        (None, Some(reference)) => reference.to_owned(),
        (None, None) => "someone not named".to_owned(),
    }
}

/// A date or time for reading: `2026-01-02T10:30:00-05:00` becomes `2026-01-02 10:30 (UTC-05:00)`.
///
/// The time stays in the timezone it was given in; anything unexpected is shown as it is.
pub(super) fn date(value: &str) -> String {
    let Some((day, time)) = value.split_once('T') else {
        return value.to_owned();
    };
    let Some(zone_at) = time.find(['Z', '+', '-']) else {
        return value.to_owned();
    };
    let (clock, zone) = time.split_at(zone_at);
    let zone = if zone == "Z" { "" } else { zone };
    // Seconds are dropped only when they say nothing.
    let clock = match clock.split_once('.').map_or(clock, |(whole, _)| whole) {
        whole if whole.len() == 8 && whole.ends_with(":00") => {
            whole.strip_suffix(":00").unwrap_or(whole)
        }
        whole => whole,
    };
    format!("{day} {clock} (UTC{zone})")
}
