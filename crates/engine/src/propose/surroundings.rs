//! What the plausibility rules rest on beside the proposal: the patient's lists, read at the EHR.
//!
//! Only what the rules look at for this resource is read, all of it at once, bounded and strict: every hit
//! of a list must be of the type and the patient's own; whose the encounter is that the proposal names is
//! what a rule asks. A list that cannot be had, that is longer than is looked at,
//! or that holds somebody else's data is *missed*: nothing of it is used, the rules that need it count as
//! not checked, and a human looks instead. Nothing here is shown to an agent.
//! Start at [`Engine::surroundings`].

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::Timestamp;
use chaperone_core::evidence::LookedUp;
use chaperone_core::ports::{EhrReadFailed, EhrSearch};
use chaperone_core::resource::ResourceType;
use chaperone_core::search::escape_search_value;
use chaperone_fhir::plausibility::{
    Context, Needs, ObservationNeed, Observed, Part, Patient, When,
};
use chaperone_fhir::references::{ReferenceForm, references};
use chaperone_phi::labels::Labels;
use serde_json::Value;

use super::gather::Inputs;
use crate::context::Engine;
use crate::merge::instant;

/// Most resources of one list; a longer one is not looked at.
const LISTED_MAX: u32 = 200;
/// Newest encounters among which the last visit is sought.
const VISITS_MAX: u32 = 20;
/// States of an encounter at which the patient was, or is, there.
const ATTENDED: [&str; 5] = ["arrived", "triaged", "in-progress", "onleave", "finished"];
const LOINC: &str = "http://loinc.org";

/// What the rules are given, and what they could not be given.
pub(super) struct Surroundings {
    pub(super) context: Context,
    /// Parts that were asked for and could not be had.
    pub(super) missed: BTreeSet<Part>,
    /// Parts made of something that is not for everybody's eyes: rules may use it, and repeat none of it.
    pub(super) restricted: BTreeSet<Part>,
    /// What was looked up, for the record.
    pub(super) looked_up: Vec<LookedUp>,
}

/// How a look ended.
enum Looked<T> {
    /// No rule needs it.
    NotAsked,
    /// It was needed and could not be had.
    Missed,
    /// Here it is, and what it was made of.
    Found(T, Seen),
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    resources: u32,
    /// Whether one of them is not for everybody's eyes.
    is_restricted: bool,
}

impl Seen {
    fn of(resources: &[Value]) -> Self {
        let mut labels = resources.iter().map(Labels::of);
        Self {
            resources: u32::try_from(resources.len()).unwrap_or(u32::MAX),
            is_restricted: labels.any(|it| it.restriction().is_some()),
        }
    }
}

impl Surroundings {
    /// Takes what a look brought, and notes how it ended.
    fn take<T>(&mut self, what: &str, looked: Looked<T>, parts: &[Part]) -> Option<T> {
        let (found, resources) = match looked {
            Looked::NotAsked => return None,
            Looked::Missed => {
                self.missed.extend(parts);
                (None, None)
            }
            Looked::Found(found, seen) => {
                if seen.is_restricted {
                    self.restricted.extend(parts);
                }
                (Some(found), Some(seen.resources))
            }
        };
        if let Ok(what) = ResourceType::new(what) {
            self.looked_up.push(LookedUp { what, resources });
        }
        found
    }
}

impl Engine {
    /// Reads what the rules look at for the merged resource. Never fails: what cannot be had is missed.
    pub(super) async fn surroundings(
        &self,
        inputs: &Inputs,
        resource: &Value,
        now: Timestamp,
    ) -> Surroundings {
        let needs = self.rules.plausibility.needs(resource, now);
        let mut found = Surroundings {
            context: Context::at(now),
            missed: BTreeSet::new(),
            restricted: BTreeSet::new(),
            looked_up: Vec::new(),
        };
        found.context.base_urls = Some(vec![self.ehr.endpoint().to_owned()]);
        found.context.prior = match &inputs.base {
            Some(base) => Observed::Present(base.clone()),
            None => Observed::Absent,
        };
        let slots: Vec<Value> = inputs.of_type("Slot").cloned().collect();
        found.context.slots = (!slots.is_empty()).then_some(slots);
        match (&inputs.patient_id, &inputs.patient) {
            (Some(id), Some(patient)) => {
                match Patient::read(patient, None) {
                    Some(read) => found.context.patient = Observed::Present(read),
                    None => found.missed.extend([Part::Patient]),
                }
                self.look_up(inputs, &needs, id, now, &mut found).await;
            }
            _ => found.context.patient = Observed::Absent,
        }
        found.context.references = known_references(inputs, resource, &found.context.encounter);
        found
    }

    /// The patient's lists, all at once.
    async fn look_up(
        &self,
        inputs: &Inputs,
        needs: &Needs,
        patient_id: &str,
        now: Timestamp,
        found: &mut Surroundings,
    ) {
        let list = async |is_needed: bool, kind: &str, also: Vec<(&str, String)>| {
            if is_needed {
                self.listed(patient_id, kind, also, LISTED_MAX).await
            } else {
                Looked::NotAsked
            }
        };
        let taken = vec![("status", "active,on-hold".to_owned())];
        let around = needs.appointments.map_or_else(Vec::new, |[from, until]| {
            vec![
                ("date", format!("ge{}", instant(from))),
                ("date", format!("le{}", instant(until))),
            ]
        });
        let (encounter, medications, allergies, conditions, observations, appointments, visit) = futures::join!(
            self.encounter_named(inputs, needs),
            list(needs.medications, "MedicationRequest", taken),
            list(needs.allergies, "AllergyIntolerance", Vec::new()),
            list(needs.conditions, "Condition", Vec::new()),
            self.observed(patient_id, &needs.observations),
            list(needs.appointments.is_some(), "Appointment", around),
            self.last_visit(patient_id, needs.last_visit, now),
        );
        if let Some(encounter) = found.take("Encounter", encounter, &[Part::Encounter]) {
            found.context.encounter = encounter;
        }
        let medications = found.take("MedicationRequest", medications, &[Part::Medications]);
        found.context.medications = medications.map(|list| with_gathered(list, inputs));
        found.context.allergies = found.take("AllergyIntolerance", allergies, &[Part::Allergies]);
        found.context.conditions = found.take(
            "Condition",
            conditions,
            &[Part::Conditions, Part::Pregnancy],
        );
        found.context.observations = found.take(
            "Observation",
            observations,
            &[
                Part::Observations,
                Part::KidneyFunction,
                Part::Weight,
                Part::Pregnancy,
            ],
        );
        found.context.appointments = found.take("Appointment", appointments, &[Part::Appointments]);
        if let Some(visit) = found.take("Encounter", visit, &[Part::LastVisit]) {
            found.context.last_visit = visit;
        }
    }

    /// The patient's resources of a type.
    async fn listed(
        &self,
        patient_id: &str,
        kind: &str,
        also: Vec<(&str, String)>,
        limit: u32,
    ) -> Looked<Vec<Value>> {
        match self.search_own(patient_id, kind, also, limit).await {
            Some((list, false)) => {
                let seen = Seen::of(&list);
                Looked::Found(list, seen)
            }
            Some((_, true)) => {
                tracing::warn!(resource = kind, "a list is longer than is looked at");
                Looked::Missed
            }
            None => Looked::Missed,
        }
    }

    /// What a search found, when all of it is the patient's own, and whether there is more.
    async fn search_own(
        &self,
        patient_id: &str,
        kind: &str,
        also: Vec<(&str, String)>,
        limit: u32,
    ) -> Option<(Vec<Value>, bool)> {
        let found = match search_of(patient_id, kind, also, limit) {
            Ok(search) => self.searched_own(patient_id, search).await,
            Err(failed) => Err(failed),
        };
        logged(kind, found)
    }

    /// What a search found, and whether there is more. What holds anything that is not the patient's own is
    /// [`EhrReadFailed::Unusable`].
    async fn searched_own(
        &self,
        patient_id: &str,
        search: EhrSearch,
    ) -> Result<(Vec<Value>, bool), EhrReadFailed> {
        let found = self.ehr.search(search.clone()).await?;
        let is_own = found
            .resources
            .iter()
            .all(|it| self.is_expected(it, &search, Some(patient_id)));
        if !is_own {
            tracing::warn!(
                resource = %search.resource,
                "the EHR returned something outside the patient's compartment; no rule is given it"
            );
            return Err(EhrReadFailed::Unusable);
        }
        Ok((found.resources, found.more))
    }

    /// Every medication request of a patient, whatever became of it; none when there are more than are looked at.
    ///
    /// # Errors
    /// When the EHR does not say.
    pub(crate) async fn all_medication_requests(
        &self,
        patient_id: &str,
    ) -> Result<Option<Vec<Value>>, EhrReadFailed> {
        let search = search_of(patient_id, "MedicationRequest", Vec::new(), LISTED_MAX)?;
        let (list, more) = self.searched_own(patient_id, search).await?;
        Ok((!more).then_some(list))
    }

    /// Observations for one need, newest first as far as the EHR sorts; none where some are left off that may count.
    async fn observed_for(
        &self,
        patient_id: &str,
        need: &ObservationNeed,
    ) -> Result<Option<Vec<Value>>, EhrReadFailed> {
        let codes: Vec<String> = need
            .codes
            .iter()
            .map(|code| format!("{LOINC}|{}", escape_search_value(code)))
            .collect();
        let also = vec![
            ("code", codes.join(",")),
            ("date", format!("ge{}", instant(need.since))),
            ("_sort", "-date".to_owned()),
        ];
        let search = search_of(patient_id, "Observation", also, LISTED_MAX)?;
        let (list, more) = self.searched_own(patient_id, search).await?;
        // Newest first: what is left off is older than the oldest here.
        let reaches = || {
            is_newest_first(list.iter().map(observed_at))
                && list.iter().any(|it| is_before(it, need.enough))
        };
        Ok((!more || reaches()).then_some(list))
    }

    /// Observations for each need, each once.
    async fn observed(&self, patient_id: &str, needs: &[ObservationNeed]) -> Looked<Vec<Value>> {
        if needs.is_empty() {
            return Looked::NotAsked;
        }
        let searches = needs.iter().map(async |need| {
            let found = self.observed_for(patient_id, need).await;
            logged("Observation", found).flatten()
        });
        let mut all: BTreeMap<String, Value> = BTreeMap::new();
        for found in futures::future::join_all(searches).await {
            let Some(list) = found else {
                return Looked::Missed;
            };
            all.extend(list.into_iter().map(|it| (id_of(&it).to_owned(), it)));
        }
        let all: Vec<Value> = all.into_values().collect();
        let seen = Seen::of(&all);
        Looked::Found(all, seen)
    }

    /// The encounter that the resource names: gathered already, or read now.
    async fn encounter_named(&self, inputs: &Inputs, needs: &Needs) -> Looked<Observed<Value>> {
        let Some(id) = &needs.encounter else {
            return Looked::NotAsked;
        };
        if let Some(known) = inputs.of_type("Encounter").find(|it| id_of(it) == id) {
            return found_one(known.clone());
        }
        let Ok(kind) = ResourceType::new("Encounter") else {
            return Looked::Missed;
        };
        match self.ehr.read(&kind, id).await {
            Ok(encounter) => found_one(encounter),
            Err(EhrReadFailed::NotFound) => Looked::Found(Observed::Absent, Seen::default()),
            Err(error) => {
                tracing::warn!(%error, "the encounter of a proposal could not be read");
                Looked::Missed
            }
        }
    }

    /// Whether the patient was certainly there since a time.
    ///
    /// # Errors
    /// When the EHR does not say.
    pub(crate) async fn was_there_since(
        &self,
        patient_id: &str,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<bool, EhrReadFailed> {
        let (list, more) = self.visits(patient_id).await?;
        let last = newest_visit(&list, more, now);
        Ok(matches!(last, Some(Observed::Present(when)) if when.earliest >= since))
    }

    /// The results that were measured since a time, or may have been, as far as the EHR returns them for it; and when.
    /// None when there are more than are looked at.
    ///
    /// # Errors
    /// When the EHR does not say.
    pub(crate) async fn results_since(
        &self,
        patient_id: &str,
        codes: &BTreeSet<String>,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<(Measured, Value)>, EhrReadFailed> {
        let need = ObservationNeed {
            codes: codes.clone(),
            since,
            enough: since,
        };
        let found = self.observed_for(patient_id, &need).await?;
        let is_it = |it: &Value| {
            let codings = it.pointer("/code/coding").and_then(Value::as_array);
            codings.into_iter().flatten().any(|coding| {
                let text = |name: &str| coding.get(name).and_then(Value::as_str);
                text("system") == Some(LOINC)
                    && text("code").is_some_and(|code| codes.contains(code))
            })
        };
        let measured = found.unwrap_or_default().into_iter().filter_map(|it| {
            let at = measured_at(&it);
            let counts = is_it(&it) && at.latest >= since && at.earliest <= now;
            counts.then_some((at, it))
        });
        Ok(measured.collect())
    }

    /// Encounters, newest first as far as the EHR sorts, and whether there are more.
    async fn visits(&self, patient_id: &str) -> Result<(Vec<Value>, bool), EhrReadFailed> {
        let newest = vec![("_sort", "-date".to_owned())];
        let search = search_of(patient_id, "Encounter", newest, VISITS_MAX)?;
        self.searched_own(patient_id, search).await
    }

    /// When the patient was last there.
    async fn last_visit(
        &self,
        patient_id: &str,
        is_needed: bool,
        now: Timestamp,
    ) -> Looked<Observed<When>> {
        if !is_needed {
            return Looked::NotAsked;
        }
        let Some((list, more)) = logged("Encounter", self.visits(patient_id).await) else {
            return Looked::Missed;
        };
        match newest_visit(&list, more, now) {
            Some(last) => Looked::Found(last, Seen::of(&list)),
            None => Looked::Missed,
        }
    }
}

/// When the patient was last there, by a list of encounters; none where it does not show that.
fn newest_visit(list: &[Value], more: bool, now: Timestamp) -> Option<Observed<When>> {
    let attended = list.iter().filter(|it| {
        let status = it.get("status").and_then(Value::as_str);
        status.is_some_and(|status| ATTENDED.contains(&status))
    });
    let last = attended
        .filter_map(begun_at)
        .filter(|when| when.earliest <= now)
        .max_by_key(|when| when.earliest);
    // Some were left off: older ones, if the EHR sorts as it was asked.
    if more && (last.is_none() || !is_newest_first(list.iter().map(begun_at))) {
        return None;
    }
    Some(last.map_or(Observed::Absent, Observed::Present))
}

/// A search for the patient's resources of a type.
fn search_of(
    patient_id: &str,
    kind: &str,
    also: Vec<(&str, String)>,
    limit: u32,
) -> Result<EhrSearch, EhrReadFailed> {
    let mut parameters = vec![("patient".to_owned(), format!("Patient/{patient_id}"))];
    parameters.extend(
        also.into_iter()
            .map(|(name, value)| (name.to_owned(), value)),
    );
    Ok(EhrSearch {
        resource: ResourceType::new(kind).map_err(|_| EhrReadFailed::Unsupported)?,
        parameters,
        limit,
    })
}

/// What a look brought; why it brought nothing is logged.
fn logged<T>(kind: &str, looked: Result<T, EhrReadFailed>) -> Option<T> {
    looked
        .inspect_err(|error| {
            tracing::warn!(resource = kind, %error, "what a rule rests on could not be read");
        })
        .ok()
}

fn found_one(resource: Value) -> Looked<Observed<Value>> {
    let seen = Seen::of(std::slice::from_ref(&resource));
    Looked::Found(Observed::Present(resource), seen)
}

fn id_of(resource: &Value) -> &str {
    resource
        .get("id")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// When an encounter began, as far as it says.
fn begun_at(encounter: &Value) -> Option<When> {
    When::parse(encounter.pointer("/period/start")?.as_str()?, None)
}

/// When an observation was made, as far as it says.
fn observed_at(observation: &Value) -> Option<When> {
    let text = |key: &str| observation.get(key).and_then(Value::as_str);
    let written = text("effectiveDateTime").or_else(|| text("effectiveInstant"))?;
    When::parse(written, None)
}

/// Between which instants a result was measured, as far as it says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) earliest: Timestamp,
    pub(crate) latest: Timestamp,
}

/// When a result was measured: what does not say so in a way that is read here, or ends before it begins, may be of any
/// time.
fn measured_at(observation: &Value) -> Measured {
    let bound = |name: &str| {
        let text = observation
            .pointer("/effectivePeriod")?
            .get(name)?
            .as_str()?;
        When::parse(text, None)
    };
    let at = observed_at(observation);
    let earliest = at.or_else(|| bound("start")).map(|when| when.earliest);
    let latest = at.or_else(|| bound("end")).map(|when| when.latest);
    let any_time = (Timestamp::MIN, Timestamp::MAX);
    let said = (earliest.unwrap_or(any_time.0), latest.unwrap_or(any_time.1));
    let (earliest, latest) = if said.0 <= said.1 { said } else { any_time };
    Measured { earliest, latest }
}

/// Whether an observation was made before a time, as far as it says.
fn is_before(observation: &Value, at: Timestamp) -> bool {
    observed_at(observation).is_some_and(|when| when.is_before_instant(at))
}

/// Whether a list is sorted as it was asked for. A server may ignore how, and then what it left off may be
/// newer than all that it gave. What has no time may stand anywhere.
fn is_newest_first(times: impl Iterator<Item = Option<When>>) -> bool {
    let times: Vec<When> = times.flatten().collect();
    times.is_sorted_by(|before, behind| before.latest >= behind.earliest)
}

/// The list with the prescriptions that the proposal names, whatever their status.
fn with_gathered(mut list: Vec<Value>, inputs: &Inputs) -> Vec<Value> {
    for gathered in inputs.of_type("MedicationRequest") {
        if !list.iter().any(|it| id_of(it) == id_of(gathered)) {
            list.push(gathered.clone());
        }
    }
    list
}

/// Puts what goes together with a proposal into the lists that the rules are given: in the place of what it changes,
/// or as something more. A list that nobody needs, or that could not be had, stays none.
pub(super) fn add_beside(context: &mut Context, beside: &[&Value]) {
    for resource in beside {
        let kind = resource.get("resourceType").and_then(Value::as_str);
        let list = match kind.unwrap_or_default() {
            "MedicationRequest" | "MedicationStatement" => &mut context.medications,
            "AllergyIntolerance" => &mut context.allergies,
            "Condition" => &mut context.conditions,
            "Observation" => &mut context.observations,
            "Appointment" => &mut context.appointments,
            "Claim" => &mut context.claims,
            _ => continue,
        };
        let Some(list) = list else { continue };
        let id = resource.get("id").and_then(Value::as_str);
        list.retain(|known| id.is_none() || known.get("id").and_then(Value::as_str) != id);
        list.push((*resource).clone());
    }
}

/// To whom the targets of the references belong, when all of them are known; else nobody looked.
fn known_references(
    inputs: &Inputs,
    resource: &Value,
    encounter: &Observed<Value>,
) -> Option<BTreeMap<String, Option<String>>> {
    let own = inputs.patient_id.as_ref().map(|id| format!("Patient/{id}"));
    let mut known: BTreeMap<String, Option<String>> = BTreeMap::new();
    for target in inputs.targets.values() {
        let owner = target.patient.is_some().then(|| own.clone()).flatten();
        known.insert(format!("{}/{}", target.resource, target.id), owner);
    }
    if let Some(encounter) = encounter.present() {
        let subject = encounter.pointer("/subject/reference");
        let subject = subject.and_then(Value::as_str).map(str::to_owned);
        known
            .entry(format!("Encounter/{}", id_of(encounter)))
            .or_insert(subject);
    }
    if let Some(own) = own {
        known.insert(own.clone(), Some(own));
    }
    let is_known = |reference: &str| match ReferenceForm::parse(reference) {
        ReferenceForm::Typed {
            resource_type, id, ..
        } => known.contains_key(&format!("{resource_type}/{id}")),
        // These forms speak for themselves.
        _ => true,
    };
    references(resource)
        .iter()
        .all(|it| is_known(&it.reference))
        .then_some(known)
}
