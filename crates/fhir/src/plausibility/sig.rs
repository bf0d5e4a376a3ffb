//! Dosages, as elements and as text: amount of one dose, times a day, route.
//!
//! The text is read only as far as a few plain phrases go; what it does not plainly say is not compared.
//! Start at [`Dosing::read`].

use serde_json::Value;

use super::drugs::{Drug, DrugTable};
use super::element::{codings, list, quantity, text, words};
use super::{prose, units};

/// One dosage of a medication.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Dosing {
    /// Path below the resource.
    pub(super) path: String,
    /// Least and greatest amount of one dose, in mg.
    pub(super) mg: Option<(f64, f64)>,
    /// The UCUM code in which the dose is given.
    pub(super) unit: String,
    /// Most doses a day.
    pub(super) per_day: Option<f64>,
    /// A stated ceiling for a day, in mg.
    pub(super) cap_mg: Option<f64>,
}

impl Dosing {
    /// The dosages of a resource, for one of its drugs.
    pub(super) fn read(resource: &Value, drug: &Drug) -> Vec<Self> {
        dosages(resource)
            .into_iter()
            .map(|(path, dosage)| {
                let medication = medication_words(resource);
                let strength = |value: f64, unit: &str| in_mg(value, unit, drug, &medication);
                let (mg, unit) = dose(dosage)
                    .map(|(low, high, unit)| {
                        let both = strength(low, unit).zip(strength(high, unit));
                        (both, unit.to_owned())
                    })
                    .unwrap_or_default();
                Self {
                    path,
                    mg,
                    unit,
                    per_day: per_day(dosage),
                    cap_mg: cap(dosage).and_then(|(value, unit)| strength(value, unit)),
                }
            })
            .collect()
    }

    /// Most in a day, in mg.
    pub(super) fn daily_mg(&self) -> Option<f64> {
        let daily = self
            .mg
            .zip(self.per_day)
            .map(|((_, high), times)| high * times);
        match (daily, self.cap_mg) {
            (Some(daily), Some(cap)) => Some(daily.min(cap)),
            (daily, cap) => daily.or(cap),
        }
    }
}

/// The Dosage elements of a resource.
pub(super) fn dosages(resource: &Value) -> Vec<(String, &Value)> {
    let mut found = super::element::each(resource, "dosageInstruction");
    found.extend(super::element::each(resource, "dosage"));
    found
}

/// Displays and text of the medication, in lower case.
pub(super) fn medication_words(resource: &Value) -> Vec<String> {
    medication(resource).map(words).unwrap_or_default()
}

/// The concept of a resource's medication: its own, or that of the contained Medication it names.
pub(super) fn medication(resource: &Value) -> Option<&Value> {
    if let Some(concept) = resource.get("medicationCodeableConcept") {
        return Some(concept);
    }
    let reference = resource.get("medicationReference")?;
    let id = text(reference, "reference")?.strip_prefix('#')?;
    list(resource, "contained")
        .iter()
        .find(|it| text(it, "id") == Some(id))?
        .get("code")
}

/// Least and greatest number of one dose, and its unit.
pub(super) fn dose(dosage: &Value) -> Option<(f64, f64, &str)> {
    let holder = list(dosage, "doseAndRate").first().unwrap_or(dosage);
    let one = holder
        .get("doseQuantity")
        .or_else(|| holder.get("dose"))
        .and_then(quantity);
    if let Some(it) = one {
        let unit = if it.code.is_empty() { it.unit } else { it.code };
        return Some((it.value, it.value, unit));
    }
    let range = holder.get("doseRange")?;
    let high = range.get("high").and_then(quantity)?;
    let low = range
        .get("low")
        .and_then(quantity)
        .map_or(high.value, |it| it.value);
    Some((
        low,
        high.value,
        if high.code.is_empty() {
            high.unit
        } else {
            high.code
        },
    ))
}

/// `maxDosePerPeriod` where the period is a day.
fn cap(dosage: &Value) -> Option<(f64, &str)> {
    let ratio = dosage.get("maxDosePerPeriod")?;
    let dose = ratio.get("numerator").and_then(quantity)?;
    let period = ratio.get("denominator").and_then(quantity)?;
    let days = units::convert(period.value, period.code, "d").filter(|it| *it > 0.0)?;
    Some((
        dose.value / days,
        if dose.code.is_empty() {
            dose.unit
        } else {
            dose.code
        },
    ))
}

/// Most doses a day, from the timing.
pub(super) fn per_day(dosage: &Value) -> Option<f64> {
    let timing = dosage.get("timing")?;
    if let Some(repeat) = timing.get("repeat") {
        let number = |key| repeat.get(key).and_then(Value::as_f64);
        if let (Some(period), Some(unit)) = (number("period"), text(repeat, "periodUnit")) {
            let times = number("frequencyMax")
                .or(number("frequency"))
                .unwrap_or(1.0);
            let days = units::convert(period, unit, "d").filter(|it| *it > 0.0)?;
            return Some(times / days);
        }
        let days = list(repeat, "dayOfWeek").len();
        let times = list(repeat, "timeOfDay")
            .len()
            .max(list(repeat, "when").len());
        #[expect(clippy::cast_precision_loss, reason = "counts of list items are small")]
        match (days, times) {
            (0, 0) => {}
            (0, times) => return Some(times as f64),
            (days, times) => return Some((days * times.max(1)) as f64 / 7.0),
        }
    }
    let code = timing.get("code")?;
    codings(code).find_map(|it| abbreviated(it.code))
}

/// Doses a day of R4's timing abbreviations.
///
/// # Source
/// FHIR R4 value set timing-abbreviation (HL7 v3 GTSAbbreviation).
fn abbreviated(code: &str) -> Option<f64> {
    Some(match code {
        "QD" | "AM" | "PM" | "BED" => 1.0,
        "BID" => 2.0,
        "TID" => 3.0,
        "QID" => 4.0,
        "QOD" => 0.5,
        "Q1H" => 24.0,
        "Q2H" => 12.0,
        "Q3H" => 8.0,
        "Q4H" => 6.0,
        "Q6H" => 4.0,
        "Q8H" => 3.0,
        "WK" => 1.0 / 7.0,
        "MO" => 1.0 / 30.0,
        _ => return None,
    })
}

/// An amount in mg: a mass as it is, pieces and millilitres by the strength in the medication's name.
fn in_mg(value: f64, unit: &str, drug: &Drug, medication: &[String]) -> Option<f64> {
    if let Some(mg) = units::convert(value, unit, "mg") {
        return Some(mg);
    }
    let unit = unit.to_lowercase();
    let is_piece = [
        "tbl",
        "tab",
        "cap",
        "{tablet}",
        "{capsule}",
        "1",
        "patch",
        "suppos",
    ]
    .iter()
    .any(|it| {
        if *it == "1" {
            unit == "1"
        } else {
            unit.contains(it)
        }
    });
    let is_volume = unit == "ml";
    medication.iter().find_map(|name| {
        let ingredient = name.split(" / ").find(|it| drug.is_named(it))?;
        let (mg, is_per_ml) = strength(ingredient)?;
        ((is_piece && !is_per_ml) || (is_volume && is_per_ml)).then_some(mg * value)
    })
}

/// The strength in an ingredient's name, in mg, and whether it is that of a millilitre.
fn strength(ingredient: &str) -> Option<(f64, bool)> {
    let amount = prose::amounts(ingredient)
        .into_iter()
        .find(|it| matches!(it.unit.as_str(), "mg" | "mcg" | "ug" | "µg" | "μg" | "g"))?;
    let per_ml = ingredient
        .split_once(&format!("{} mg/ml", amount.written))
        .is_some()
        || ingredient.contains("mg/ml");
    Some((mass_in_mg(amount.value, &amount.unit)?, per_ml))
}

/// A mass in mg, by the words of a text.
pub(super) fn mass_in_mg(value: f64, unit: &str) -> Option<f64> {
    match unit {
        "mg" => Some(value),
        "g" | "gram" | "grams" => Some(value * 1_000.0),
        "mcg" | "ug" | "µg" | "μg" | "microgram" | "micrograms" => Some(value / 1_000.0),
        _ => None,
    }
}

/// What a dosage's text plainly says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Told {
    pub(super) mg: Vec<f64>,
    pub(super) per_day: Option<f64>,
    pub(super) route: Option<String>,
}

impl Told {
    pub(super) fn read(text: &str, table: &DrugTable) -> Self {
        Self {
            mg: prose::amounts(text)
                .iter()
                .filter_map(|it| mass_in_mg(it.value, &it.unit))
                .collect(),
            per_day: told_per_day(text),
            route: table.route_in(text).map(str::to_owned),
        }
    }
}

/// Phrases for doses a day; a longer phrase stands before those it contains.
const FREQUENCIES: &[(&str, f64)] = &[
    ("every other day", 0.5),
    ("once every week", 1.0 / 7.0),
    ("once weekly", 1.0 / 7.0),
    ("once a week", 1.0 / 7.0),
    ("every week", 1.0 / 7.0),
    ("weekly", 1.0 / 7.0),
    ("four times daily", 4.0),
    ("four times a day", 4.0),
    ("4 times daily", 4.0),
    ("4 times a day", 4.0),
    ("qid", 4.0),
    ("three times daily", 3.0),
    ("three times a day", 3.0),
    ("3 times daily", 3.0),
    ("3 times a day", 3.0),
    ("tid", 3.0),
    ("twice daily", 2.0),
    ("twice a day", 2.0),
    ("two times daily", 2.0),
    ("two times a day", 2.0),
    ("2 times daily", 2.0),
    ("2 times a day", 2.0),
    ("bid", 2.0),
    ("once daily", 1.0),
    ("once a day", 1.0),
    ("one time daily", 1.0),
    ("1 time daily", 1.0),
    ("every day", 1.0),
    ("each day", 1.0),
    ("every morning", 1.0),
    ("every evening", 1.0),
    ("every night", 1.0),
    ("at bedtime", 1.0),
    ("nightly", 1.0),
    ("qd", 1.0),
    ("daily", 1.0),
];

fn told_per_day(text: &str) -> Option<f64> {
    let words = prose::words(text);
    // "every 4 to 6 hours" and "q4h" mean at most every four hours.
    for (at, word) in words.iter().enumerate() {
        if word == "every"
            && let Some(hours) = words.get(at + 1).and_then(|it| it.parse::<f64>().ok())
            && words
                .iter()
                .skip(at + 2)
                .take(3)
                .any(|it| it.starts_with("hour") || it == "hrs" || it == "hr")
            && hours > 0.0
        {
            return Some(24.0 / hours);
        }
        if let Some(hours) = word.strip_prefix('q').and_then(|it| it.strip_suffix('h'))
            && let Ok(hours) = hours.parse::<f64>()
            && hours > 0.0
        {
            return Some(24.0 / hours);
        }
    }
    let mut found = FREQUENCIES
        .iter()
        .filter(|(phrase, _)| prose::has_phrase(&words, phrase));
    let (_, first) = found.next()?;
    // "twice daily" contains "daily"; two phrases that disagree otherwise are not plain.
    let disagrees =
        found.any(|(phrase, times)| times != first && *phrase != "daily" && *phrase != "weekly");
    (!disagrees).then_some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_frequencies_are_read() {
        for (text, wanted) in [
            ("Take 1 tablet twice daily", Some(2.0)),
            ("1 tab PO BID", Some(2.0)),
            ("every 4 to 6 hours as needed", Some(6.0)),
            ("q8h", Some(3.0)),
            ("once a week on Monday", Some(1.0 / 7.0)),
            ("one daily", Some(1.0)),
            ("as directed", None),
            ("twice daily for a week, then once daily", None),
        ] {
            assert_eq!(told_per_day(text), wanted, "{text}");
        }
    }

    #[test]
    fn strengths_are_read_from_names() {
        assert_eq!(
            strength("lisinopril 10 mg oral tablet"),
            Some((10.0, false))
        );
        assert_eq!(
            strength("amoxicillin 80 mg/ml oral suspension"),
            Some((80.0, true))
        );
        assert_eq!(
            strength("levothyroxine sodium 75 mcg"),
            Some((0.075, false))
        );
        assert_eq!(strength("insulin lispro"), None);
    }
}
