//! Rules V-01, V-02, V-06 and K-06: one value against what is possible, what is alarming, and what was said of it.
//!
//! An alert blocks nothing; it calls a human. A slip of the unit is proposed, never applied.
//! Start at [`Checking::values`]; values over time are in [`super::trends`].

use serde_json::Value;

use super::code_tables::{Group, is_in_force};
use super::element::{codings, each, list, number, quantity};
use super::measures::Reading;
use super::{Checking, Part, Proposal, rule, units};

impl<'c> Checking<'c> {
    pub(super) fn values(&mut self) {
        if self.is_retracted() {
            return;
        }
        let rules = self.rules;
        for reading in rules.measures.readings(self.resource) {
            self.hard_range(&reading);
            self.unit_slip(&reading);
            self.alert(&reading);
        }
        if self.type_name == "Observation" {
            self.interpretation("", self.resource);
            for (path, component) in each(self.resource, "component") {
                self.interpretation(&path, component);
            }
        }
    }

    /// V-01.
    fn hard_range(&mut self, reading: &Reading<'c, 'c>) {
        let measure = reading.measure;
        let path = reading.path();
        let value = number(reading.given);
        if measure.is_whole && reading.given.fract() != 0.0 {
            let words = [("name", measure.name.as_str()), ("value", value.as_str())];
            self.fire(&rule::V_01, "whole-number", &path, &[], &words);
            return;
        }
        let rules = self.rules;
        let Some((range, in_unit)) = rules.measures.hard_range(reading) else {
            return;
        };
        if !(range.low..=range.high).contains(&in_unit) {
            let (value, low, high) = (number(in_unit), number(range.low), number(range.high));
            let words = [
                ("name", measure.name.as_str()),
                ("value", value.as_str()),
                ("unit", shown(&measure.unit, reading)),
                ("low", low.as_str()),
                ("high", high.as_str()),
            ];
            self.fire(&rule::V_01, "range", &path, &[], &words);
        }
    }

    /// K-06: what is implausible as given but plausible in another unit.
    fn unit_slip(&mut self, reading: &Reading<'c, 'c>) {
        let measure = reading.measure;
        let Some(value) = reading.value else {
            return;
        };
        if measure.is_whole {
            return;
        }
        let rules = self.rules;
        let is_adult = self
            .age_at_event()
            .is_some_and(|(low, _)| low >= self.limit(&rule::V_02, "adult_years"));
        let hard = rules.measures.hard_range_in_unit(measure);
        let (range, parts): ([f64; 2], &[Part]) = match (measure.usual, hard) {
            (Some(usual), _) if is_adult => (usual, &[Part::Patient]),
            (_, Some(hard)) => ([hard.low, hard.high], &[]),
            _ => return,
        };
        let is_usual = |value: f64| (range[0]..=range[1]).contains(&value);
        let earlier = self.earlier_value(reading);
        let is_jump = |value: f64| earlier.is_some_and(|before| (value / before - 1.0).abs() > 0.4);
        let is_back = |value: f64| earlier.is_some_and(|before| (value / before - 1.0).abs() < 0.1);
        if is_usual(value) && !is_jump(value) {
            return;
        }
        let others = measure
            .slips
            .iter()
            .map(|slip| (slip.unit.as_str(), slip.factor))
            .chain(measure.units.iter().map(|unit| (unit.as_str(), None)));
        for (unit, factor) in others {
            if unit == reading.unit {
                continue;
            }
            let meant = match factor {
                Some(factor) => Some(reading.given * factor),
                None => units::convert(reading.given, unit, &measure.unit),
            };
            let Some(meant) = meant else { continue };
            let explains = if is_usual(value) {
                is_back(meant)
            } else {
                is_usual(meant)
            };
            if !explains || (meant - value).abs() < 1e-9 {
                continue;
            }
            let given = number(reading.given);
            let words = [
                ("name", measure.name.as_str()),
                ("value", given.as_str()),
                ("unit", reading.unit),
                ("proposed", given.as_str()),
                ("proposed_unit", unit),
            ];
            let proposal = Proposal {
                value: reading.given,
                unit: unit.to_owned(),
            };
            let parts: &[Part] = if is_usual(value) {
                &[Part::Observations]
            } else {
                parts
            };
            let path = reading.path();
            self.fire_proposing(&rule::K_06, "value", &path, parts, &words, Some(proposal));
            return;
        }
    }

    /// V-02, as far as one value goes.
    fn alert(&mut self, reading: &Reading<'c, 'c>) {
        let measure = reading.measure;
        let Some(value) = reading.value else {
            return;
        };
        let path = reading.path();
        let shown_value = number(value);
        let unit = shown(&measure.unit, reading);
        if measure.is_crisis {
            if measure.alert_from.is_some_and(|from| value >= from) {
                let words = [
                    ("name", measure.name.as_str()),
                    ("value", shown_value.as_str()),
                ];
                self.fire(&rule::V_02, "answer", &path, &[], &words);
            }
            return;
        }
        let has_alert = measure.alert_below.is_some()
            || measure.alert_above.is_some()
            || measure.alert_from.is_some();
        if measure.is_whole {
            self.adult_alert(reading, value, &[]);
            return;
        }
        let Some((age, _)) = self.age_at_event() else {
            if has_alert || measure.usual.is_some() {
                self.unchecked(&rule::V_02, Part::Patient);
            }
            return;
        };
        if age >= self.limit(&rule::V_02, "adult_years") {
            self.adult_alert(reading, value, &[Part::Patient]);
            return;
        }
        let rules = self.rules;
        let years = number(age.max(0.0).floor());
        if let Some([low, high]) = rules.measures.band(measure, age) {
            let case = match value {
                value if value < low => Some(("child-low", low)),
                value if value > high => Some(("child-high", high)),
                _ => None,
            };
            if let Some((case, limit)) = case {
                let limit = number(limit);
                let words = [
                    ("name", measure.name.as_str()),
                    ("value", shown_value.as_str()),
                    ("unit", unit),
                    ("limit", limit.as_str()),
                    ("age", years.as_str()),
                ];
                self.fire(&rule::V_02, case, &path, &[Part::Patient], &words);
            }
        } else if !matches!(measure.id.as_str(), "systolic" | "diastolic") && has_alert {
            // Temperature, oxygen and laboratory alerts hold for children too.
            self.adult_alert(reading, value, &[Part::Patient]);
        }
        if measure.id == "systolic"
            && let Some(floor) = rules.measures.hypotension_floor(age)
            && value < floor
        {
            let limit = number(floor);
            let words = [
                ("name", measure.name.as_str()),
                ("value", shown_value.as_str()),
                ("unit", unit),
                ("limit", limit.as_str()),
                ("age", years.as_str()),
            ];
            self.fire(&rule::V_02, "hypotension", &path, &[Part::Patient], &words);
        }
    }

    fn adult_alert(&mut self, reading: &Reading<'c, 'c>, value: f64, parts: &[Part]) {
        let measure = reading.measure;
        let path = reading.path();
        let shown_value = number(value);
        let unit = shown(&measure.unit, reading);
        let fire = |checking: &mut Self, case, limit: f64, parts: &[Part]| {
            let limit = number(limit);
            let words = [
                ("name", measure.name.as_str()),
                ("value", shown_value.as_str()),
                ("unit", unit),
                ("limit", limit.as_str()),
            ];
            checking.fire(&rule::V_02, case, &path, parts, &words);
        };
        if let Some(limit) = measure.alert_below.filter(|limit| value < *limit) {
            fire(self, "low", limit, parts);
            return;
        }
        let high = measure
            .alert_above
            .filter(|limit| value > *limit)
            .or(measure.alert_from.filter(|limit| value >= *limit));
        if let Some(limit) = high {
            fire(self, "high", limit, parts);
            return;
        }
        let weak = measure.immunocompromised_from.filter(|it| value >= *it);
        let vomiting = self.limit(&rule::V_02, "vomiting_glucose");
        let ketones = (measure.id == "glucose" && value > vomiting).then_some(vomiting);
        for (limit, group) in [
            (weak, Group::Immunocompromised),
            (ketones, Group::VomitingOrKetones),
        ] {
            let Some(limit) = limit else { continue };
            match self.has_condition(group) {
                None => self.unchecked(&rule::V_02, Part::Conditions),
                Some(false) => {}
                Some(true) => {
                    let mut parts = parts.to_vec();
                    parts.push(Part::Conditions);
                    fire(self, "condition", limit, &parts);
                    return;
                }
            }
        }
        if measure.is_unusual_shown
            && let Some([low, high]) = measure.usual
            && !(low..=high).contains(&value)
        {
            let limit = if value < low { low } else { high };
            fire(self, "unusual", limit, parts);
        }
    }

    /// Whether the patient has a condition of the group in force; `None` if nobody looked.
    pub(super) fn has_condition(&self, group: Group) -> Option<bool> {
        let conditions = self.context.conditions.as_ref()?;
        Some(conditions.iter().filter(|it| is_in_force(it)).any(|it| {
            it.get("code")
                .is_some_and(|code| self.rules.codes.means(group, code))
        }))
    }

    /// V-06.
    fn interpretation(&mut self, at: &str, holder: &Value) {
        let Some(given) = holder.get("valueQuantity").and_then(quantity) else {
            return;
        };
        let said = list(holder, "interpretation")
            .iter()
            .flat_map(codings)
            .map(|it| it.code)
            .find(|it| matches!(*it, "H" | "HH" | "HU" | "L" | "LL" | "LU" | "N"));
        let Some(said) = said else { return };
        let (low, high) = self.normal_range(holder, given.code);
        if low.is_none() && high.is_none() {
            return;
        }
        let is_low = low.is_some_and(|low| given.value < low);
        let is_high = high.is_some_and(|high| given.value > high);
        let contradicts = match said.chars().next() {
            Some('H') => is_low || (high.is_some() && !is_high),
            Some('L') => is_high || (low.is_some() && !is_low),
            _ => is_low || is_high,
        };
        if contradicts {
            let edge = |it: Option<f64>| it.map_or_else(|| "open".to_owned(), number);
            let (value, low, high) = (number(given.value), edge(low), edge(high));
            let words = [
                ("value", value.as_str()),
                ("unit", given.code),
                ("interpretation", said),
                ("low", low.as_str()),
                ("high", high.as_str()),
            ];
            let path = if at.is_empty() {
                "interpretation".to_owned()
            } else {
                format!("{at}.interpretation")
            };
            self.fire(&rule::V_06, "contradiction", &path, &[], &words);
        }
    }

    /// The reference range that came with the value, in its unit. Without one there is nothing to contradict.
    fn normal_range(&self, holder: &Value, unit: &str) -> (Option<f64>, Option<f64>) {
        let ranges = list(holder, "referenceRange");
        // Several ranges may be for different people.
        let [range] = ranges else {
            return (None, None);
        };
        let edge = |key| {
            let edge = range.get(key).and_then(quantity)?;
            (edge.code == unit || edge.code.is_empty()).then_some(edge.value)
        };
        (edge("low"), edge("high"))
    }
}

/// The unit to show beside a value in the measure's unit; scores have none.
fn shown<'s>(unit: &'s str, reading: &Reading<'_, '_>) -> &'s str {
    if reading.measure.is_whole { "" } else { unit }
}
