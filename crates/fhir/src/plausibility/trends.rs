//! Rules V-02 (changes), V-03 and V-05: a value against the patient's earlier ones, and against the device's clock.
//!
//! Earlier values are those of the context with the same measure and a certain time before this one.
//! Start at [`Checking::trends`].

use serde_json::Value;

use super::code_tables::Group;
use super::element::{self, number, text};
use super::measures::Reading;
use super::moment::hours_between;
use super::{Checking, Part, rule};

/// An earlier value of the same measure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Earlier {
    /// In the measure's unit.
    pub(super) value: f64,
    pub(super) hours_before: f64,
}

impl<'c> Checking<'c> {
    pub(super) fn trends(&mut self) {
        if self.type_name != "Observation" || self.is_retracted() {
            return;
        }
        let rules = self.rules;
        for reading in rules.measures.readings(self.resource) {
            let measure = reading.measure;
            let is_followed = measure.delta.is_some()
                || measure.delta_percent.is_some()
                || matches!(measure.id.as_str(), "weight" | "height" | "creatinine")
                || measure.is_vital;
            if !is_followed {
                continue;
            }
            let Some(value) = reading.value else { continue };
            let Some(earlier) = self.earlier(&reading) else {
                let watched = if measure.is_vital {
                    &rule::V_05
                } else {
                    &rule::V_02
                };
                self.unchecked(watched, Part::Observations);
                self.unchecked(&rule::V_03, Part::Observations);
                continue;
            };
            self.delta(&reading, value, &earlier);
            self.changed(&reading, value, &earlier);
            self.repeated(&reading, value, &earlier);
        }
        self.device_clock();
    }

    /// Earlier values of the same measure, newest first; `None` if nobody looked.
    pub(super) fn earlier(&self, reading: &Reading<'c, '_>) -> Option<Vec<Earlier>> {
        let known = self.context.observations.as_ref()?;
        let Some(at) = self.event_times().first().map(|(_, _, when)| when.earliest) else {
            return Some(Vec::new());
        };
        let id = text(self.resource, "id");
        let mut found: Vec<Earlier> = known
            .iter()
            .filter(|it| id.is_none() || text(it, "id") != id)
            .filter(|it| !matches!(text(it, "status"), Some("entered-in-error" | "cancelled")))
            .filter_map(|it| {
                let then = self.observed_at(it)?;
                let hours_before = hours_between(then, at);
                let value = self
                    .rules
                    .measures
                    .readings(it)
                    .iter()
                    .find(|other| other.measure.id == reading.measure.id)?
                    .value?;
                (hours_before > 0.0).then_some(Earlier {
                    value,
                    hours_before,
                })
            })
            .collect();
        found.sort_by(|one, other| one.hours_before.total_cmp(&other.hours_before));
        Some(found)
    }

    fn observed_at(&self, observation: &Value) -> Option<jiff::Timestamp> {
        text(observation, "effectiveDateTime")
            .or_else(|| text(observation, "effectiveInstant"))
            .or_else(|| element::text_at(observation, "/effectivePeriod/start"))
            .and_then(|it| self.when(it))
            .map(|it| it.earliest)
    }

    /// The newest earlier value.
    pub(super) fn earlier_value(&self, reading: &Reading<'c, '_>) -> Option<f64> {
        self.earlier(reading)?.first().map(|it| it.value)
    }

    /// V-03.
    fn delta(&mut self, reading: &Reading<'c, 'c>, value: f64, earlier: &[Earlier]) {
        let measure = reading.measure;
        let hours = self.limit(&rule::V_03, "hours");
        let Some(last) = earlier.first().filter(|it| it.hours_before <= hours) else {
            return;
        };
        let change = value - last.value;
        let limit = match (measure.delta, measure.delta_percent) {
            (Some(limit), _) => limit,
            (None, Some(percent)) => last.value * percent / 100.0,
            (None, None) => return,
        };
        if change.abs() > limit {
            let (value, change, limit) = (number(value), number(change), number(limit));
            let words = [
                ("name", measure.name.as_str()),
                ("value", value.as_str()),
                ("unit", measure.unit.as_str()),
                ("change", change.as_str()),
                ("limit", limit.as_str()),
            ];
            let path = reading.path();
            self.fire(&rule::V_03, "delta", &path, &[Part::Observations], &words);
        }
    }

    /// V-02, as far as it is about changes.
    fn changed(&mut self, reading: &Reading<'c, 'c>, value: f64, earlier: &[Earlier]) {
        match reading.measure.id.as_str() {
            "weight" => self.weight_changed(reading, value, earlier),
            "creatinine" => {
                let factor = self.limit(&rule::V_02, "creatinine_factor");
                let baseline = earlier.iter().map(|it| it.value).reduce(f64::min);
                if let Some(baseline) = baseline.filter(|it| value > factor * it) {
                    self.fire_change(reading, "creatinine", value, value / baseline, None, &[]);
                }
            }
            "height" => {
                let is_adult = self
                    .age_at_event()
                    .is_some_and(|(age, _)| age >= self.limit(&rule::V_02, "adult_years"));
                let most = self.limit(&rule::V_02, "height_cm");
                let change = earlier.first().map(|it| value - it.value);
                if let Some(change) = change.filter(|it| is_adult && it.abs() > most) {
                    self.fire_change(reading, "height", value, change, None, &[Part::Patient]);
                }
            }
            _ => {}
        }
    }

    fn weight_changed(&mut self, reading: &Reading<'c, 'c>, value: f64, earlier: &[Earlier]) {
        let days = self.limit(&rule::V_02, "weight_days");
        let percent = self.limit(&rule::V_02, "weight_percent");
        let within = |days: f64| {
            earlier
                .iter()
                .filter(move |it| it.hours_before <= days * 24.0)
        };
        let change = within(days)
            .map(|it| (value - it.value, (value / it.value - 1.0).abs() * 100.0))
            .find(|(_, of_weight)| *of_weight > percent);
        if let Some((change, _)) = change {
            self.fire_change(reading, "weight", value, change, Some(days), &[]);
        }
        let gained = [(1.0, "failure_day_kg"), (7.0, "failure_week_kg")]
            .into_iter()
            .find_map(|(days, limit)| {
                let least = within(days).map(|it| it.value).reduce(f64::min)?;
                // A hair below the limit is the limit: 1.4 kg is three pounds, rounded.
                (value - least >= self.limit(&rule::V_02, limit) - 1e-9)
                    .then_some((value - least, days))
            });
        if let Some((gain, days)) = gained {
            match self.has_condition(Group::HeartFailure) {
                None => self.unchecked(&rule::V_02, Part::Conditions),
                Some(false) => {}
                Some(true) => {
                    let parts = [Part::Conditions];
                    self.fire_change(reading, "heart-failure", value, gain, Some(days), &parts);
                }
            }
        }
    }

    fn fire_change(
        &mut self,
        reading: &Reading<'c, 'c>,
        case: &'static str,
        value: f64,
        change: f64,
        days: Option<f64>,
        parts: &[Part],
    ) {
        let (value, change) = (number(value), number((change * 100.0).round() / 100.0));
        let days = days.map(number).unwrap_or_default();
        let words = [
            ("name", reading.measure.name.as_str()),
            ("value", value.as_str()),
            ("unit", reading.measure.unit.as_str()),
            ("change", change.as_str()),
            ("days", days.as_str()),
        ];
        let mut parts = parts.to_vec();
        parts.push(Part::Observations);
        self.fire(&rule::V_02, case, &reading.path(), &parts, &words);
    }

    /// V-05, first half.
    fn repeated(&mut self, reading: &Reading<'c, 'c>, value: f64, earlier: &[Earlier]) {
        if !reading.measure.is_vital || reading.measure.id == "height" {
            return;
        }
        let same = earlier
            .iter()
            .take_while(|it| (it.value - value).abs() < 1e-9)
            .count()
            + 1;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a count of listed observations is small"
        )]
        if same as f64 >= self.limit(&rule::V_05, "same_count") {
            let count = same.to_string();
            let words = [("count", count.as_str())];
            let path = reading.path();
            self.fire(
                &rule::V_05,
                "repeated",
                &path,
                &[Part::Observations],
                &words,
            );
        }
    }

    /// V-05, second half.
    fn device_clock(&mut self) {
        if self.resource.get("device").is_none() {
            return;
        }
        let Some(clock) = self.context.device_clock else {
            self.unchecked(&rule::V_05, Part::DeviceClock);
            return;
        };
        let minutes = hours_between(clock, self.context.now).abs() * 60.0;
        if minutes > self.limit(&rule::V_05, "clock_minutes") {
            let minutes = number(minutes.round());
            let words = [("minutes", minutes.as_str())];
            self.fire(&rule::V_05, "clock", "device", &[Part::DeviceClock], &words);
        }
    }
}
