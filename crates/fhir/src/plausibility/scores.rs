//! Rule V-04: parts and wholes must fit: blood pressure, body mass index, sums of scores.
//!
//! Start at [`Checking::scores`].

use serde_json::Value;

use super::element::number;
use super::measures::Reading;
use super::{Checking, Part, rule};

/// Oldest weight and height with which a body mass index is compared, in days.
const WEIGHT_DAYS: f64 = 1.0;
/// As [`WEIGHT_DAYS`]; heights are measured less often.
const HEIGHT_DAYS: f64 = 365.0;

impl<'c> Checking<'c> {
    pub(super) fn scores(&mut self) {
        if self.is_retracted() {
            return;
        }
        let rules = self.rules;
        let readings = rules.measures.readings(self.resource);
        let value = |id: &str| {
            readings
                .iter()
                .find(|it| it.measure.id == id)
                .and_then(|it| it.value)
        };
        if let (Some(systolic), Some(diastolic)) = (value("systolic"), value("diastolic")) {
            self.pressure(systolic, diastolic);
        }
        if let Some(reading) = readings.iter().find(|it| it.measure.id == "bmi") {
            self.mass_index(reading, &readings);
        }
        self.sums(&readings);
    }

    fn pressure(&mut self, systolic: f64, diastolic: f64) {
        let pulse = systolic - diastolic;
        let value = number(pulse);
        if pulse <= 0.0 {
            let (systolic, diastolic) = (number(systolic), number(diastolic));
            let words = [
                ("value", systolic.as_str()),
                ("expected", diastolic.as_str()),
            ];
            self.fire(&rule::V_04, "pressure-order", "component", &[], &words);
            return;
        }
        let min = self.limit(&rule::V_04, "pulse_min");
        let max = self.limit(&rule::V_04, "pulse_max");
        if !(min..=max).contains(&pulse) {
            let words = [("value", value.as_str())];
            self.fire(&rule::V_04, "pulse-pressure", "component", &[], &words);
        }
    }

    fn mass_index(&mut self, reading: &Reading<'c, 'c>, own: &[Reading<'c, 'c>]) {
        let Some(value) = reading.value else { return };
        let beside = |id: &str| {
            own.iter()
                .find(|it| it.measure.id == id)
                .and_then(|it| it.value)
        };
        let (weight, height, parts): (_, _, &[Part]) = match (beside("weight"), beside("height")) {
            (Some(weight), Some(height)) => (weight, height, &[]),
            _ => match (
                self.near("weight", WEIGHT_DAYS),
                self.near("height", HEIGHT_DAYS),
            ) {
                (Some(weight), Some(height)) => (weight, height, &[Part::Observations]),
                _ => {
                    self.unchecked(&rule::V_04, Part::Observations);
                    return;
                }
            },
        };
        let expected = weight / (height / 100.0).powi(2);
        let percent = (value / expected - 1.0).abs() * 100.0;
        if percent > self.limit(&rule::V_04, "bmi_percent") {
            let (value, expected) = (number(value), number((expected * 10.0).round() / 10.0));
            let words = [("value", value.as_str()), ("expected", expected.as_str())];
            self.fire(&rule::V_04, "bmi", &reading.path(), parts, &words);
        }
    }

    /// The value of a measure nearest to the time of this resource, within so many days to either side.
    fn near(&self, id: &str, days: f64) -> Option<f64> {
        let at = self.event_times().first().map(|(_, _, when)| *when)?;
        let observations = self.context.observations.as_ref()?;
        observations
            .iter()
            .filter_map(|it| {
                let then = it.get("effectiveDateTime").and_then(Value::as_str);
                let then = then.and_then(|it| self.when(it))?;
                let gap = super::moment::hours_between(then.earliest, at.earliest).abs();
                let readings = self.rules.measures.readings(it);
                let value = readings.iter().find(|it| it.measure.id == id)?.value?;
                (gap <= days * 24.0).then_some((gap, value))
            })
            .min_by(|one, other| one.0.total_cmp(&other.0))
            .map(|(_, value)| value)
    }

    fn sums(&mut self, readings: &[Reading<'c, 'c>]) {
        let rules = self.rules;
        for sum in &rules.measures.sums {
            let Some(total) = readings
                .iter()
                .find(|it| sum.total.iter().any(|code| code == it.code))
            else {
                continue;
            };
            let items: Vec<f64> = sum
                .items
                .iter()
                .filter_map(|code| readings.iter().find(|it| it.code == code))
                .map(|it| it.given)
                .collect();
            // Some items may be left unanswered; then the sum is nobody's to check.
            if items.len() != sum.items.len() {
                continue;
            }
            let expected: f64 = items.iter().sum();
            if (expected - total.given).abs() > 1e-9 {
                let (value, expected) = (number(total.given), number(expected));
                let words = [
                    ("name", sum.name.as_str()),
                    ("value", value.as_str()),
                    ("expected", expected.as_str()),
                ];
                self.fire(&rule::V_04, "sum", &total.path(), &[], &words);
            }
        }
    }
}
