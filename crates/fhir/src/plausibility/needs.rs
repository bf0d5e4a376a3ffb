//! What the rules would look at for a resource, so that a caller looks up that and no more.
//!
//! It answers from the resource and the tables alone, before anything was looked up. What it leaves out, no
//! rule of this build rests on for this resource; what it names may still turn out not to matter.
//! Start at [`super::Plausibility::needs`].

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::code_tables::Group;
use super::drugs::Known;
use super::element::{self, LOINC, codings, text};
use super::moment::hours_from;
use super::{Checking, rule, sig};

/// How long a recorded pregnancy status says something, in days: longer than a pregnancy lasts.
const PREGNANCY_DAYS: f64 = 300.0;
/// How far back what was measured is followed, in days.
const MEASURED_DAYS: f64 = 366.0;
/// How far back heights are followed, in days: an adult's is compared with the last, however old.
const HEIGHT_DAYS: f64 = 7_305.0;
/// How far back the readings of a home device have to be known, in days, when there are very many of them: as
/// far as the rule about weights looks.
const VITAL_DAYS: f64 = 31.0;
/// How far around an appointment others are looked for, in hours: no appointment lasts longer.
const AROUND_HOURS: f64 = 24.0;

/// Parts of a context that rules look at for one resource, beside the patient and the prior version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Needs {
    /// Logical id of the Encounter that the resource names.
    pub encounter: Option<String>,
    /// The patient's medications.
    pub medications: bool,
    /// The patient's allergies.
    pub allergies: bool,
    /// The patient's conditions.
    pub conditions: bool,
    /// Observations; one search each.
    pub observations: Vec<ObservationNeed>,
    /// The patient's appointments that begin between these.
    pub appointments: Option<[Timestamp; 2]>,
    /// The patient's last visit.
    pub last_visit: bool,
}

/// Observations of some measures, back to a time.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservationNeed {
    /// LOINC codes, in order.
    pub codes: BTreeSet<String>,
    /// No older ones are looked at.
    pub since: Timestamp,
    /// The newest ones back to here are enough, when there are too many to look at.
    pub enough: Timestamp,
}

impl Checking<'_> {
    pub(super) fn needs(&self) -> Needs {
        let mut needs = Needs {
            encounter: self
                .named_encounter()
                .and_then(|(_, it)| it.strip_prefix("Encounter/").map(str::to_owned)),
            ..Needs::default()
        };
        if self.is_to_be_taken() {
            self.of_medication(&mut needs);
        }
        match self.type_name {
            "Observation" if !self.is_retracted() => self.of_observation(&mut needs),
            "Condition" => needs.conditions = !self.is_retracted(),
            "AllergyIntolerance" => needs.allergies = !self.is_retracted(),
            "Appointment" if self.is_to_come() => {
                let edge = |key| text(self.resource, key).and_then(|it| self.when(it));
                if let (Some(start), Some(end)) = (edge("start"), edge("end")) {
                    needs.appointments = Some([
                        hours_from(start.earliest, -AROUND_HOURS),
                        hours_from(end.latest, AROUND_HOURS),
                    ]);
                }
            }
            _ => {}
        }
        needs
    }

    fn of_medication(&self, needs: &mut Needs) {
        needs.medications = true;
        needs.allergies = true;
        let is_refill = self.type_name == "MedicationRequest"
            && element::reference(self.resource, "priorPrescription").is_some();
        needs.last_visit = is_refill;
        let rules = self.rules;
        let known = sig::medication(self.resource)
            .map_or(Known::Nothing, |concept| rules.drugs.concept(concept));
        for drug in known.drugs() {
            let for_liver = rules
                .drugs
                .max_daily_when
                .iter()
                .any(|row| row.drug == drug.id && row.liver_disease);
            let for_neoplasm = drug.weekly.as_ref().is_some_and(|it| it.unless_neoplasm);
            needs.conditions |= drug.pregnancy || for_liver || for_neoplasm;
            if drug.pregnancy {
                let codes = rules.codes.listed(Group::PregnancyStatus, LOINC);
                self.add(needs, codes, PREGNANCY_DAYS);
            }
            if drug.renal.is_some() {
                let days = self.limit(&rule::M_07, "days");
                self.add(needs, rules.measures.codes_of("egfr"), days);
            }
            if drug.per_kg.is_some() {
                let days = self.limit(&rule::M_06, "weight_days");
                self.add(needs, rules.measures.codes_of("weight"), days);
            }
            if is_refill {
                for row in rules.drugs.monitoring(drug) {
                    self.add(needs, row.codes.iter().map(String::as_str), row.days);
                }
            }
        }
    }

    fn of_observation(&self, needs: &mut Needs) {
        let rules = self.rules;
        let readings = rules.measures.readings(self.resource);
        let mut codes: BTreeSet<&str> = self
            .resource
            .get("code")
            .into_iter()
            .flat_map(codings)
            .filter(|it| it.system == LOINC && !it.code.is_empty())
            .map(|it| it.code)
            .collect();
        let (mut days, mut enough) = (MEASURED_DAYS, VITAL_DAYS);
        for reading in &readings {
            let measure = reading.measure;
            codes.extend(measure.codes.iter().map(String::as_str));
            if measure.id == "bmi" {
                codes.extend(rules.measures.codes_of("weight"));
                codes.extend(rules.measures.codes_of("height"));
            }
            if !measure.is_vital || matches!(measure.id.as_str(), "height" | "bmi") {
                enough = MEASURED_DAYS;
            }
            if matches!(measure.id.as_str(), "height" | "bmi") {
                days = HEIGHT_DAYS;
            }
            needs.conditions |= measure.immunocompromised_from.is_some()
                || matches!(measure.id.as_str(), "weight" | "glucose");
        }
        self.add_newest(needs, codes, days, enough);
    }

    /// Adds observations back to so many days before the event, or before now if that is earlier.
    fn add<'a>(&self, needs: &mut Needs, codes: impl IntoIterator<Item = &'a str>, days: f64) {
        self.add_newest(needs, codes, days, days);
    }

    /// The same, of which the newest are enough.
    fn add_newest<'a>(
        &self,
        needs: &mut Needs,
        codes: impl IntoIterator<Item = &'a str>,
        days: f64,
        enough_days: f64,
    ) {
        let codes: BTreeSet<String> = codes.into_iter().map(str::to_owned).collect();
        if codes.is_empty() {
            return;
        }
        let event = self.event_times().first().map(|(_, _, when)| when.earliest);
        let now = self.context.now;
        let back = |days: f64| hours_from(event.unwrap_or(now).min(now), -24.0 * days);
        let (since, enough) = (back(days), back(enough_days));
        match needs.observations.iter_mut().find(|it| it.codes == codes) {
            Some(known) => {
                known.since = known.since.min(since);
                known.enough = known.enough.min(enough);
            }
            None => needs.observations.push(ObservationNeed {
                codes,
                since,
                enough,
            }),
        }
    }
}
