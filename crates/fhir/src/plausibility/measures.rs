//! `vital-ranges.toml`: measures with their LOINC codes, units, hard ranges, alerts and children's bands.
//!
//! The hard ranges (`[[ranges]]`) are also read by others; a measure refers to them by its codes.
//! Start at [`Measures::parse`] and [`Measures::readings`].

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::Deserialize;
use serde_json::Value;

use super::element::{self, LOINC, codings, each, list, quantity, text};
use super::register::{self, RuleError, inconsistent};
use super::units;

const FILE: &str = "vital-ranges.toml";
/// Most items of a questionnaire that are read.
const ITEMS_MAX: usize = 2_000;
/// Deepest nesting of questionnaire items.
const ITEM_DEPTH_MAX: usize = 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    owner: String,
    #[serde(rename = "reviewed")]
    _reviewed: String,
    review_by: String,
    source: String,
    ranges: Vec<Range>,
    measures: Vec<Measure>,
    bands: Vec<Band>,
    hypotension: Vec<Floor>,
    sums: Vec<Sum>,
    answers: BTreeMap<String, f64>,
}

/// What a value can be at all, for one code and unit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    id: String,
    code: String,
    unit: String,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// Something that is measured.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Measure {
    pub(super) id: String,
    pub(super) name: String,
    /// What its codes may be called.
    pub(super) words: Vec<String>,
    pub(super) codes: Vec<String>,
    /// The UCUM unit in which its numbers here are written.
    pub(super) unit: String,
    /// The units that R4's vital signs profiles, or the table's owner, allow.
    pub(super) units: Vec<String>,
    /// Whether R4's vital signs profiles fix its unit and category.
    #[serde(default)]
    pub(super) is_vital: bool,
    /// Whether it only takes whole numbers.
    #[serde(default)]
    pub(super) is_whole: bool,
    /// Whether an alert is a crisis that cannot wait.
    #[serde(default)]
    pub(super) is_crisis: bool,
    pub(super) alert_below: Option<f64>,
    pub(super) alert_above: Option<f64>,
    pub(super) alert_from: Option<f64>,
    /// As `alert_from`, for patients with a weak immune system.
    pub(super) immunocompromised_from: Option<f64>,
    /// What is usual for adults; outside, look for a slip of the unit.
    pub(super) usual: Option<[f64; 2]>,
    /// Whether an adult's value outside what is usual is worth a look by itself.
    #[serde(default)]
    pub(super) is_unusual_shown: bool,
    /// Units in which it may really have been measured.
    #[serde(default)]
    pub(super) slips: Vec<Slip>,
    /// Greatest change within the hours of V-03.
    pub(super) delta: Option<f64>,
    pub(super) delta_percent: Option<f64>,
    source: String,
}

/// A unit that is mistaken for the right one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Slip {
    pub(super) unit: String,
    /// By what a number in it must be multiplied, where UCUM alone cannot say (amount of substance to mass).
    pub(super) factor: Option<f64>,
}

/// What is usual for children from an age on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Band {
    months: f64,
    /// Id of the measure to low and high.
    ranges: BTreeMap<String, [f64; 2]>,
    source: String,
}

/// The systolic pressure below which a child is hypotensive, up to an age.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Floor {
    below_years: f64,
    floor: f64,
    #[serde(default)]
    per_year: f64,
    source: String,
}

/// A total that must be the sum of its items.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sum {
    id: String,
    pub(super) name: String,
    pub(super) total: Vec<String>,
    pub(super) items: Vec<String>,
    source: String,
}

/// The tables, read.
#[derive(Clone, Debug)]
pub(super) struct Measures {
    pub(super) review_by: Date,
    ranges: Vec<Range>,
    measures: Vec<Measure>,
    /// Youngest first.
    bands: Vec<Band>,
    hypotension: Vec<Floor>,
    pub(super) sums: Vec<Sum>,
    answers: BTreeMap<String, f64>,
}

/// A number that was measured or scored.
#[derive(Clone, Debug)]
pub(super) struct Reading<'m, 'v> {
    pub(super) measure: &'m Measure,
    /// The LOINC code by which the measure was found.
    pub(super) code: &'v str,
    /// In the measure's unit; `None` if the given unit cannot be converted.
    pub(super) value: Option<f64>,
    pub(super) given: f64,
    /// The UCUM code as given; empty for scores.
    pub(super) unit: &'v str,
    /// Path below the resource of the holder of the value; empty for the resource itself.
    pub(super) holder: String,
    /// Name of the element with the value.
    pub(super) element: &'static str,
}

impl Reading<'_, '_> {
    /// Path of the value below the resource.
    pub(super) fn path(&self) -> String {
        if self.holder.is_empty() {
            self.element.to_owned()
        } else {
            format!("{}.{}", self.holder, self.element)
        }
    }
}

impl Measures {
    pub(super) fn parse(text: &str) -> Result<Self, RuleError> {
        let mut file: File = register::read(FILE, text)?;
        if file.owner.trim().is_empty() || file.source.trim().is_empty() {
            return inconsistent(FILE, "owner", "owner and source must be named");
        }
        let Ok(review_by) = file.review_by.parse() else {
            return inconsistent(FILE, "review_by", "`review_by` must be a date");
        };
        for range in &file.ranges {
            if !units::is_unit(&range.unit) || range.low.is_nan() || range.low >= range.high {
                return inconsistent(FILE, &range.id, "needs a UCUM unit, and `low` below `high`");
            }
        }
        let mut codes = std::collections::BTreeSet::new();
        for measure in &file.measures {
            if measure.source.trim().is_empty() {
                return inconsistent(FILE, &measure.id, "its source must be named");
            }
            if let Some(code) = measure.codes.iter().find(|it| !codes.insert((*it).clone())) {
                return inconsistent(
                    FILE,
                    &measure.id,
                    format!("another measure has code {code}"),
                );
            }
            let mut all = measure
                .units
                .iter()
                .chain(measure.slips.iter().map(|it| &it.unit));
            if !units::is_unit(&measure.unit) || all.any(|it| !units::is_unit(it)) {
                return inconsistent(FILE, &measure.id, "a unit of it is no UCUM unit");
            }
        }
        let sourced = file
            .bands
            .iter()
            .map(|it| &it.source)
            .chain(file.hypotension.iter().map(|it| &it.source))
            .chain(file.sums.iter().map(|it| &it.source));
        if sourced.into_iter().any(|it| it.trim().is_empty()) {
            return inconsistent(
                FILE,
                "bands, hypotension, sums",
                "each row must name its source",
            );
        }
        if let Some(sum) = file
            .sums
            .iter()
            .find(|it| it.total.is_empty() || it.items.is_empty())
        {
            return inconsistent(FILE, &sum.id, "needs a total and items");
        }
        file.bands
            .sort_by(|one, other| one.months.total_cmp(&other.months));
        file.hypotension
            .sort_by(|one, other| one.below_years.total_cmp(&other.below_years));
        Ok(Self {
            review_by,
            ranges: file.ranges,
            measures: file.measures,
            bands: file.bands,
            hypotension: file.hypotension,
            sums: file.sums,
            answers: file.answers,
        })
    }

    pub(super) fn by_code(&self, code: &str) -> Option<&Measure> {
        self.measures
            .iter()
            .find(|measure| measure.codes.iter().any(|it| it == code))
    }

    /// The LOINC codes of a measure, by its id.
    pub(super) fn codes_of(&self, id: &str) -> impl Iterator<Item = &str> {
        self.measures
            .iter()
            .filter(move |measure| measure.id == id)
            .flat_map(|measure| measure.codes.iter().map(String::as_str))
    }

    /// The hard range of a code and the value in its unit.
    pub(super) fn hard_range(&self, reading: &Reading<'_, '_>) -> Option<(&Range, f64)> {
        let of_code = || self.ranges.iter().filter(|it| it.code == reading.code);
        if reading.measure.is_whole {
            return of_code().next().map(|it| (it, reading.given));
        }
        of_code()
            .find(|it| it.unit == reading.unit)
            .map(|it| (it, reading.given))
            .or_else(|| {
                of_code().find_map(|it| {
                    let value = units::convert(reading.given, reading.unit, &it.unit)?;
                    Some((it, value))
                })
            })
    }

    /// What a value of the measure can be at all, in the measure's own unit.
    pub(super) fn hard_range_in_unit(&self, measure: &Measure) -> Option<&Range> {
        self.ranges
            .iter()
            .find(|it| it.unit == measure.unit && measure.codes.contains(&it.code))
    }

    /// What is usual for a child of that age.
    pub(super) fn band(&self, measure: &Measure, years: f64) -> Option<[f64; 2]> {
        let months = years * 12.0;
        let of_age = self.bands.iter().rev().find(|it| it.months <= months);
        of_age
            .or(self.bands.first())
            .and_then(|it| it.ranges.get(&measure.id).copied())
    }

    /// Whether there are values of a measure, at any age, that call a human.
    pub(super) fn has_alert_limits(&self, measure: &Measure) -> bool {
        let own = [
            measure.alert_below,
            measure.alert_above,
            measure.alert_from,
            measure.immunocompromised_from,
        ];
        own.iter().any(Option::is_some)
            || self
                .bands
                .iter()
                .any(|it| it.ranges.contains_key(&measure.id))
    }

    /// The systolic pressure below which a child of that age is hypotensive.
    pub(super) fn hypotension_floor(&self, years: f64) -> Option<f64> {
        let row = self.hypotension.iter().find(|it| years < it.below_years)?;
        Some(row.floor + row.per_year * years.floor())
    }

    /// The readings of an Observation with its components, or of a QuestionnaireResponse.
    pub(super) fn readings<'m, 'v>(&'m self, resource: &'v Value) -> Vec<Reading<'m, 'v>> {
        let mut found = Vec::new();
        match element::resource_type(resource) {
            "Observation" => {
                found.extend(self.reading(resource, String::new()));
                for (path, component) in each(resource, "component") {
                    found.extend(self.reading(component, path));
                }
            }
            "QuestionnaireResponse" => self.answered(resource, "", 0, &mut found),
            _ => {}
        }
        found
    }

    fn reading<'m, 'v>(&'m self, holder: &'v Value, path: String) -> Option<Reading<'m, 'v>> {
        let (code, measure) = codings(holder.get("code")?)
            .filter(|it| it.system == LOINC)
            .find_map(|it| Some((it.code, self.by_code(it.code)?)))?;
        let (given, unit, element) =
            if let Some(it) = holder.get("valueQuantity").and_then(quantity) {
                (it.value, it.code, "valueQuantity")
            } else if let Some(it) = holder.get("valueInteger").and_then(Value::as_f64) {
                (it, "", "valueInteger")
            } else {
                let concept = holder.get("valueCodeableConcept")?;
                let score = codings(concept).find_map(|it| self.answers.get(it.code))?;
                (*score, "", "valueCodeableConcept")
            };
        Some(Reading {
            measure,
            code,
            value: self.in_unit(measure, given, unit),
            given,
            unit,
            holder: path,
            element,
        })
    }

    fn in_unit(&self, measure: &Measure, given: f64, unit: &str) -> Option<f64> {
        if measure.is_whole {
            return Some(given);
        }
        units::convert(given, unit, &measure.unit)
    }

    fn answered<'m, 'v>(
        &'m self,
        holder: &'v Value,
        path: &str,
        depth: usize,
        found: &mut Vec<Reading<'m, 'v>>,
    ) {
        if depth > ITEM_DEPTH_MAX {
            return;
        }
        for (at, item) in each(holder, "item") {
            if found.len() >= ITEMS_MAX {
                return;
            }
            let path = if path.is_empty() {
                at
            } else {
                format!("{path}.{at}")
            };
            let link = text(item, "linkId").unwrap_or_default();
            let code = link.rsplit('/').next().unwrap_or_default();
            let answer = list(item, "answer").first();
            let score = answer.and_then(|it| {
                it.get("valueInteger")
                    .or_else(|| it.get("valueDecimal"))
                    .and_then(Value::as_f64)
                    .map(|value| (value, "valueInteger"))
                    .or_else(|| {
                        let code = element::text_at(it, "/valueCoding/code")?;
                        self.answers.get(code).map(|value| (*value, "valueCoding"))
                    })
            });
            if let (Some(measure), Some((given, element))) = (self.by_code(code), score) {
                found.push(Reading {
                    measure,
                    code,
                    value: self.in_unit(measure, given, ""),
                    given,
                    unit: "",
                    holder: format!("{path}.answer[0]"),
                    element,
                });
            }
            self.answered(item, &path, depth + 1, found);
        }
    }
}
