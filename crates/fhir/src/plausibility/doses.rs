//! Rules M-04 to M-06: the most in a day, weekly drugs, and children's doses by weight.
//!
//! Amounts that cannot be brought to milligrams are not checked, and a human must look.
//! Start at [`Checking::doses`].

use super::code_tables::Group;
use super::drugs::{Drug, PerKg};
use super::element::{LOINC, codings, each, number, text};
use super::moment::{age_years, hours_between};
use super::sig::{self, Dosing};
use super::{Checking, Part, When, rule};
use serde_json::Value;

/// From this many doses a week on, a weekly drug counts as taken too often.
const WEEKLY_TIMES_MAX: f64 = 1.5;
/// Younger children need a fresher weight, in years.
const INFANT_YEARS: f64 = 1.0;

impl<'c> Checking<'c> {
    pub(super) fn doses(&mut self, drug: &'c Drug) {
        let dosings = Dosing::read(self.resource, drug);
        self.weekly(drug, &dosings);
        let adult = self.limit(&rule::V_02, "adult_years");
        let by_weight = self.limit(&rule::M_06, "below_years");
        match self.age_now() {
            Some(age) if age < by_weight => self.by_weight(drug, &dosings, age),
            // Between, neither children's nor adults' maxima are anybody's to apply.
            Some(age) if age < adult => self.unchecked(&rule::M_04, Part::DrugKnowledge),
            age => self.daily(drug, &dosings, age),
        }
    }

    /// Age in years at the time of the check.
    pub(super) fn age_now(&self) -> Option<f64> {
        let birth = self.context.patient.present()?.birth?;
        let now = When {
            earliest: self.context.now,
            latest: self.context.now,
            ..birth
        };
        Some(age_years(&birth, &now).0)
    }

    /// M-04.
    fn daily(&mut self, drug: &'c Drug, dosings: &[Dosing], age: Option<f64>) {
        let rules = self.rules;
        if let Some(max) = rules.drugs.max_single(drug) {
            for dosing in dosings {
                if let Some((_, mg)) = dosing.mg.filter(|(_, mg)| *mg > max) {
                    let (dose, max) = (number(mg), number(max));
                    let words = [
                        ("drug", drug.id.as_str()),
                        ("dose", dose.as_str()),
                        ("max", max.as_str()),
                    ];
                    self.fire(&rule::M_04, "single", &dosing.path, &[], &words);
                }
            }
        }
        let Some(base) = rules.drugs.max_daily(drug) else {
            if rules.drugs.max_single(drug).is_none() {
                self.unchecked(&rule::M_04, Part::DrugKnowledge);
            }
            return;
        };
        let each: Vec<Option<f64>> = dosings.iter().map(Dosing::daily_mg).collect();
        if each.is_empty() || each.contains(&None) {
            self.unchecked(&rule::M_04, Part::DrugKnowledge);
            return;
        }
        let daily: f64 = each.iter().flatten().sum();
        let (max, because, parts) = self.maximum(drug, base, age);
        if daily > max * 1.000_001 {
            let far = self.limit(&rule::M_04, "block_factor");
            let case = if daily > far * max {
                "far-over"
            } else {
                "over"
            };
            let (dose, max) = (number(daily), number(max));
            let words = [
                ("drug", drug.id.as_str()),
                ("dose", dose.as_str()),
                ("max", max.as_str()),
                ("because", because),
            ];
            let path = dosings
                .first()
                .map(|it| it.path.as_str())
                .unwrap_or_default();
            self.fire(&rule::M_04, case, path, &parts, &words);
        }
    }

    /// The maximum that holds for this patient, why, and what that rests on.
    fn maximum(&mut self, drug: &Drug, base: f64, age: Option<f64>) -> (f64, &'c str, Vec<Part>) {
        let rules = self.rules;
        let mut found = (base, "for adults", Vec::new());
        for row in rules
            .drugs
            .max_daily_when
            .iter()
            .filter(|it| it.drug == drug.id)
        {
            let mut parts = Vec::new();
            let is_old = match (row.above_years, age) {
                (None, _) => true,
                (Some(years), Some(age)) => {
                    parts.push(Part::Patient);
                    age >= years + 1.0
                }
                (Some(_), None) => {
                    self.unchecked(&rule::M_04, Part::Patient);
                    false
                }
            };
            let is_ill = !row.liver_disease
                || match self.has_condition(Group::LiverDisease) {
                    Some(is_ill) => {
                        parts.push(Part::Conditions);
                        is_ill
                    }
                    None => {
                        self.unchecked(&rule::M_04, Part::Conditions);
                        false
                    }
                };
            if is_old && is_ill && row.mg < found.0 {
                found = (row.mg, row.because.as_str(), parts);
            }
        }
        found
    }

    /// M-05.
    fn weekly(&mut self, drug: &'c Drug, dosings: &[Dosing]) {
        let Some(weekly) = &drug.weekly else { return };
        let rules = self.rules;
        let all = sig::dosages(self.resource);
        for dosing in dosings {
            let dosage = all.iter().find(|(path, _)| *path == dosing.path);
            let route = dosage
                .and_then(|(_, it)| it.get("route"))
                .and_then(|it| rules.drugs.route(it));
            if weekly.unless_route.is_some() && weekly.unless_route.as_deref() == route {
                continue;
            }
            // A dose that is not known may be the weekly one.
            if dosing.mg.is_some_and(|(_, mg)| mg < weekly.from_mg) {
                continue;
            }
            let Some(per_day) = dosing.per_day else {
                self.unchecked(&rule::M_05, Part::DrugKnowledge);
                continue;
            };
            let times = per_day * 7.0;
            if times < WEEKLY_TIMES_MAX {
                continue;
            }
            let mut parts: &[Part] = &[];
            if weekly.unless_neoplasm {
                let has_reason = super::element::list(self.resource, "reasonCode")
                    .iter()
                    .any(|it| rules.codes.means(Group::Neoplasm, it));
                if has_reason || self.has_condition(Group::Neoplasm) == Some(true) {
                    continue;
                }
                parts = &[Part::Conditions];
            }
            let times = number(times);
            let words = [("drug", drug.id.as_str()), ("times", times.as_str())];
            self.fire(&rule::M_05, "daily", &dosing.path, parts, &words);
        }
    }

    /// M-06.
    fn by_weight(&mut self, drug: &'c Drug, dosings: &[Dosing], age: f64) {
        let Some(per_kg) = &drug.per_kg else {
            self.unchecked(&rule::M_06, Part::DrugKnowledge);
            return;
        };
        let name = ("drug", drug.id.as_str());
        if age * 12.0 < per_kg.from_months {
            let limit = number(per_kg.from_months);
            let words = [name, ("limit", limit.as_str())];
            self.fire(&rule::M_06, "too-young", "", &[Part::Patient], &words);
        }
        let days = if age < INFANT_YEARS {
            self.limit(&rule::M_06, "infant_weight_days")
        } else {
            self.limit(&rule::M_06, "weight_days")
        };
        let parts = [Part::Patient, Part::Weight];
        let limit = number(days);
        let words = [name, ("limit", limit.as_str())];
        let case = match self.newest("weight", days) {
            Newest::Value(kg) if kg > 0.0 => {
                self.per_kilogram(per_kg, dosings, name, kg);
                return;
            }
            Newest::NotLooked => {
                self.unchecked(&rule::M_06, Part::Weight);
                "not-looked"
            }
            Newest::None => "no-weight",
            Newest::Value(_) | Newest::Unreadable => "unreadable-weight",
        };
        self.fire(&rule::M_06, case, "", &parts, &words);
    }

    /// M-06, with a weight.
    fn per_kilogram(
        &mut self,
        per_kg: &PerKg,
        dosings: &[Dosing],
        name: (&'static str, &str),
        kg: f64,
    ) {
        let parts = [Part::Patient, Part::Weight];
        for dosing in dosings {
            let Some((least, most)) = dosing.mg else {
                self.unchecked(&rule::M_06, Part::DrugKnowledge);
                continue;
            };
            let judged = [
                per_kg
                    .dose
                    .map(|range| (range, least / kg, most / kg, "over-dose")),
                per_kg.day.and_then(|range| {
                    let daily = dosing.daily_mg()?;
                    Some((range, daily / kg, daily / kg, "over-day"))
                }),
            ];
            for ([low, high], least, most, over) in judged.into_iter().flatten() {
                // Doses are rounded to what a syringe or tablet can hold.
                let case = if most > high * 1.05 {
                    over
                } else if least < low * 0.95 {
                    "under-dose"
                } else {
                    continue;
                };
                let dose = number(if case == over { most } else { least });
                let (low, high) = (number(low), number(high));
                let words = [
                    name,
                    ("dose", dose.as_str()),
                    ("low", low.as_str()),
                    ("high", high.as_str()),
                ];
                self.fire(&rule::M_06, case, &dosing.path, &parts, &words);
            }
            if per_kg.day.is_some() && dosing.daily_mg().is_none() {
                self.unchecked(&rule::M_06, Part::DrugKnowledge);
            }
        }
    }

    /// The newest value of a measure within so many days before now.
    ///
    /// An observation of the measure whose value or time cannot be read may be the newest, so no older one counts
    /// in its place; one that lies ahead is of no use today.
    pub(super) fn newest(&self, measure: &str, days: f64) -> Newest {
        let Some(observations) = &self.context.observations else {
            return Newest::NotLooked;
        };
        let now = self.context.now;
        let mut newest: Option<(f64, Option<f64>)> = None;
        for observation in observations {
            if matches!(
                text(observation, "status"),
                Some("entered-in-error" | "cancelled")
            ) || !self.is_of(measure, observation)
            {
                continue;
            }
            let Some(then) = self.observed(observation) else {
                return Newest::Unreadable;
            };
            let hours = hours_between(then.latest, now).max(0.0);
            if then.is_after_instant(now) || hours > days * 24.0 {
                continue;
            }
            let readings = self.rules.measures.readings(observation);
            let value = readings
                .iter()
                .find(|it| it.measure.id == measure)
                .and_then(|it| it.value);
            // Of two at the same time the one that cannot be read counts.
            let is_newer = newest.is_none_or(|(least, known)| {
                hours < least || (hours <= least && known.is_some() && value.is_none())
            });
            if is_newer {
                newest = Some((hours, value));
            }
        }
        match newest {
            None => Newest::None,
            Some((_, None)) => Newest::Unreadable,
            Some((_, Some(value))) => Newest::Value(value),
        }
    }

    /// Whether an observation, or a component of it, is of a measure and says something of its value.
    fn is_of(&self, measure: &str, observation: &Value) -> bool {
        let components = each(observation, "component");
        let mut holders = components.iter().map(|(_, it)| *it).chain([observation]);
        holders.any(|holder| {
            let is_coded = holder.get("code").is_some_and(|code| {
                codings(code).any(|it| {
                    it.system == LOINC
                        && self
                            .rules
                            .measures
                            .by_code(it.code)
                            .is_some_and(|it| it.id == measure)
                })
            });
            is_coded
                && holder
                    .as_object()
                    .is_some_and(|it| it.keys().any(|key| key.starts_with("value")))
        })
    }

    /// When something was observed.
    fn observed(&self, observation: &Value) -> Option<When> {
        let period = observation.get("effectivePeriod");
        let edge = |key| period.and_then(|it| text(it, key));
        text(observation, "effectiveDateTime")
            .or_else(|| text(observation, "effectiveInstant"))
            .or_else(|| edge("end"))
            .or_else(|| edge("start"))
            .and_then(|it| self.when(it))
    }
}

/// What is known of a measure's newest value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Newest {
    /// Nobody looked.
    NotLooked,
    /// There is none.
    None,
    /// There is one whose value, unit or time is not understood.
    Unreadable,
    /// In the measure's unit.
    Value(f64),
}
