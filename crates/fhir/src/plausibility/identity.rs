//! Rules C-01 to C-07: whose the resource is, and whom its references lead to.
//!
//! References are judged by what they say and by what the caller found behind them; nothing is fetched.
//! Start at [`Checking::identity`].

use std::collections::BTreeSet;

use serde_json::Value;

use super::element::{self, list, reference_of, text, walk};
use super::moment::hours_from;
use super::{Checking, Observed, Part, Patient, rule};
use crate::Definitions;
use crate::definitions::LinkKind;
use crate::references::{ReferenceForm, patient_references};

/// Resource types that belong to a patient, with the element that says to which.
///
/// # Source
/// FHIR R4, the `patient` and `subject` elements of the types that the write-back matrix knows.
const SUBJECTS: &[(&str, &str)] = &[
    ("AllergyIntolerance", "patient"),
    ("CarePlan", "subject"),
    ("CareTeam", "subject"),
    ("Claim", "patient"),
    ("ClinicalImpression", "subject"),
    ("Communication", "subject"),
    ("CommunicationRequest", "subject"),
    ("Composition", "subject"),
    ("Condition", "subject"),
    ("Consent", "patient"),
    ("Coverage", "beneficiary"),
    ("CoverageEligibilityRequest", "patient"),
    ("DetectedIssue", "patient"),
    ("DiagnosticReport", "subject"),
    ("DocumentReference", "subject"),
    ("Encounter", "subject"),
    ("FamilyMemberHistory", "patient"),
    ("Flag", "subject"),
    ("Goal", "subject"),
    ("Immunization", "patient"),
    ("MedicationAdministration", "subject"),
    ("MedicationDispense", "subject"),
    ("MedicationRequest", "subject"),
    ("MedicationStatement", "subject"),
    ("NutritionOrder", "patient"),
    ("Observation", "subject"),
    ("Procedure", "subject"),
    ("QuestionnaireResponse", "subject"),
    ("RelatedPerson", "patient"),
    ("RiskAssessment", "subject"),
    ("ServiceRequest", "subject"),
    ("Task", "for"),
];

/// Elements that name who acts or receives.
const ACTORS: &[&str] = &[
    "performer",
    "author",
    "recipient",
    "requester",
    "recorder",
    "asserter",
    "sender",
    "actor",
    "individual",
    "owner",
    "provider",
    "informationSource",
];

/// Types whose members act for the organisation.
const ACTING: &[&str] = &["Practitioner", "PractitionerRole", "CareTeam"];
/// Types that only have to belong to the organisation.
const BELONGING: &[&str] = &["Organization", "Device", "Location", "HealthcareService"];

impl Checking<'_> {
    pub(super) fn identity(&mut self) {
        self.subject();
        self.record_state();
        if self.bundle.is_none() {
            self.one_patient(self.resource);
        }
        self.encounter();
        self.actors();
        self.references();
    }

    /// C-01.
    fn subject(&mut self) {
        if self.type_name == "Patient" {
            // A new Patient has no id yet; registration is not bound to one.
            let Some(id) = text(self.resource, "id") else {
                return;
            };
            let Some(patient) = self.patient_for(&rule::C_01) else {
                return;
            };
            if !patient.is_named_by(&format!("Patient/{id}")) {
                self.fire(
                    &rule::C_01,
                    "other",
                    "id",
                    &[Part::Patient],
                    &[("element", "id")],
                );
            }
            return;
        }
        let named = self.named_patients(self.resource);
        let wanted = SUBJECTS.iter().find(|(name, _)| *name == self.type_name);
        if named.is_empty() {
            if let Some((_, element)) = wanted {
                self.fire(&rule::C_01, "missing", "", &[], &[("element", element)]);
            } else if self.type_name == "Appointment" {
                self.fire(
                    &rule::C_01,
                    "missing",
                    "",
                    &[],
                    &[("element", "participant.actor")],
                );
            }
            return;
        }
        let Some(patient) = self.patient_for(&rule::C_01) else {
            return;
        };
        for (path, reference) in named {
            if !patient.is_named_by(&reference) {
                let words = [("element", path.as_str())];
                self.fire(&rule::C_01, "other", &path, &[Part::Patient], &words);
            }
        }
    }

    /// The patients that the linking elements of a resource name. A reference within a Bundle counts as the
    /// entry it leads to.
    fn named_patients(&self, resource: &Value) -> Vec<(String, String)> {
        patient_references(Definitions::r4(), resource)
            .into_iter()
            // A link that only takes part (a practitioner) names no patient.
            .filter_map(|link| {
                let reference = link.reference?;
                let reference = self.in_bundle(&reference).unwrap_or(reference);
                let named = match ReferenceForm::parse(&reference) {
                    ReferenceForm::Typed {
                        resource_type: "Patient",
                        id,
                        ..
                    } => format!("Patient/{id}"),
                    ReferenceForm::Typed { .. } | ReferenceForm::Contained { .. } => return None,
                    // A form that cannot be resolved is no other patient by itself unless it is the subject.
                    _ if link.kind == Some(LinkKind::Participant) => return None,
                    _ => reference,
                };
                Some((link.path, named))
            })
            .collect()
    }

    /// `Type/id` of the entry whose fullUrl the reference is.
    fn in_bundle(&self, reference: &str) -> Option<String> {
        let entry = list(self.bundle?, "entry")
            .iter()
            .find(|entry| text(entry, "fullUrl") == Some(reference))?;
        let resource = entry.get("resource")?;
        let id = text(resource, "id").unwrap_or(reference);
        Some(format!("{}/{id}", element::resource_type(resource)))
    }

    /// C-02, for a Bundle and for one resource.
    pub(super) fn one_patient(&mut self, resource: &Value) {
        let mut patients: BTreeSet<String> = BTreeSet::new();
        let resources: Vec<&Value> = match element::resource_type(resource) {
            "Bundle" => list(resource, "entry")
                .iter()
                .filter_map(|entry| entry.get("resource"))
                .collect(),
            _ => vec![resource],
        };
        for resource in resources {
            if element::resource_type(resource) == "Patient" {
                patients.extend(text(resource, "id").map(|id| format!("Patient/{id}")));
            } else {
                patients.extend(self.named_patients(resource).into_iter().map(|(_, it)| it));
            }
        }
        // Records that were merged are one patient.
        let mut parts: &[Part] = &[];
        if let Observed::Present(bound) = &self.context.patient {
            let before = patients.len();
            let is_there = patients.iter().any(|it| bound.is_named_by(it));
            patients.retain(|it| !bound.is_named_by(it));
            if is_there {
                patients.insert(format!("Patient/{}", bound.id));
            }
            if patients.len() != before {
                parts = &[Part::Patient];
            }
        }
        if patients.len() > 1 {
            let count = patients.len().to_string();
            self.fire(&rule::C_02, "several", "", parts, &[("count", &count)]);
        }
    }

    /// C-03.
    fn record_state(&mut self) {
        let Some(patient) = self.patient_for(&rule::C_03) else {
            return;
        };
        if !patient.is_active {
            self.fire(&rule::C_03, "inactive", "", &[Part::Patient], &[]);
        }
        if patient.is_replaced {
            self.fire(&rule::C_03, "replaced", "", &[Part::Patient], &[]);
        }
    }

    /// C-04 and C-05.
    fn encounter(&mut self) {
        let Some((path, reference)) = self.named_encounter() else {
            return;
        };
        let encounter = match &self.context.encounter {
            Observed::Present(encounter) => encounter,
            Observed::Absent => {
                self.fire(&rule::C_04, "unresolved", &path, &[Part::Encounter], &[]);
                return;
            }
            Observed::Unknown => {
                self.unchecked(&rule::C_04, Part::Encounter);
                self.unchecked(&rule::C_05, Part::Encounter);
                return;
            }
        };
        let id = text(encounter, "id").unwrap_or_default();
        if reference != format!("Encounter/{id}") {
            // The caller looked up another encounter than the one that is named.
            self.unchecked(&rule::C_04, Part::Encounter);
            self.unchecked(&rule::C_05, Part::Encounter);
            return;
        }
        let subject = element::reference(encounter, "subject");
        let own = self.named_patients(self.resource);
        let is_same =
            |patient: &Patient| subject.as_deref().is_some_and(|it| patient.is_named_by(it));
        let agrees = match &self.context.patient {
            Observed::Present(patient) => {
                is_same(patient) && own.iter().all(|(_, it)| patient.is_named_by(it))
            }
            _ => own.iter().all(|(_, it)| Some(it) == subject.as_ref()),
        };
        if !agrees {
            let parts = [Part::Encounter, Part::Patient];
            self.fire(&rule::C_04, "other-patient", &path, &parts, &[]);
        }
        self.encounter_time(encounter, &path);
    }

    pub(super) fn named_encounter(&self) -> Option<(String, String)> {
        if self.type_name == "Encounter" {
            return None;
        }
        let direct = self.resource.get("encounter");
        let (path, element) = match direct {
            Some(Value::Array(items)) => ("encounter[0]", items.first()?),
            Some(element) => ("encounter", element),
            None => (
                "context.encounter[0]",
                self.resource.pointer("/context/encounter/0")?,
            ),
        };
        let reference = reference_of(element)?;
        let reference = self.in_bundle(&reference).unwrap_or(reference);
        Some((path.to_owned(), reference))
    }

    /// C-05.
    fn encounter_time(&mut self, encounter: &Value, path: &str) {
        if let Some(status @ ("cancelled" | "entered-in-error")) = text(encounter, "status") {
            let words = [("status", status)];
            self.fire(&rule::C_05, "status", path, &[Part::Encounter], &words);
        }
        let edge = |key| {
            encounter
                .pointer(key)
                .and_then(Value::as_str)
                .and_then(|it| self.when(it))
        };
        let (start, end) = (edge("/period/start"), edge("/period/end"));
        let before = self.limit(&rule::C_05, "before_hours");
        let after = self.limit(&rule::C_05, "after_hours");
        for (path, written, when) in self.event_times() {
            let is_early = start
                .as_ref()
                .is_some_and(|it| when.is_before_instant(hours_from(it.earliest, -before)));
            let is_late = end
                .as_ref()
                .is_some_and(|it| when.is_after_instant(hours_from(it.latest, after)));
            if is_early || is_late {
                let words = [("date", written.as_str())];
                self.fire(&rule::C_05, "outside", &path, &[Part::Encounter], &words);
                return;
            }
        }
    }

    /// C-06.
    fn actors(&mut self) {
        let mut named: Vec<(String, String)> = Vec::new();
        walk(self.resource, &mut |path, key, value| {
            if ACTORS.contains(&key)
                && let Some(reference) = value.as_object().and_then(|_| reference_of(value))
            {
                named.push((path.to_owned(), reference));
            }
        });
        for (path, reference) in named {
            let kind = reference.split('/').next().unwrap_or_default();
            let acts = ACTING.contains(&kind);
            let is_related = kind == "RelatedPerson";
            if !acts && !is_related && !BELONGING.contains(&kind) {
                continue;
            }
            let words = [("element", path.as_str())];
            if !is_related {
                match &self.context.tenant {
                    None => self.unchecked(&rule::C_06, Part::Tenant),
                    Some(members) if !members.contains(&reference) => {
                        self.fire(&rule::C_06, "foreign", &path, &[Part::Tenant], &words);
                        continue;
                    }
                    Some(_) => {}
                }
            }
            if !acts && !is_related {
                continue;
            }
            match &self.context.care_team {
                None => self.unchecked(&rule::C_06, Part::CareTeam),
                Some(team) if !team.contains(&reference) => {
                    self.fire(
                        &rule::C_06,
                        "no-relationship",
                        &path,
                        &[Part::CareTeam],
                        &words,
                    );
                }
                Some(_) => {}
            }
        }
    }

    /// C-07.
    fn references(&mut self) {
        for (path, contained) in element::each(self.resource, "contained") {
            let is_patient = element::resource_type(contained) == "Patient";
            let names_other = match &self.context.patient {
                Observed::Present(bound) => self
                    .named_patients(contained)
                    .iter()
                    .any(|(_, it)| !bound.is_named_by(it)),
                _ => false,
            };
            if is_patient || names_other {
                let parts: &[Part] = if is_patient { &[] } else { &[Part::Patient] };
                let words = [("element", path.as_str())];
                self.fire(&rule::C_07, "contained-patient", &path, parts, &words);
            }
        }
        for found in crate::references::references(self.resource) {
            self.reference_target(&found.path, &found.reference);
        }
    }

    fn reference_target(&mut self, path: &str, reference: &str) {
        if self.in_bundle(reference).is_some() {
            return;
        }
        let words = [("element", path)];
        let target = match ReferenceForm::parse(reference) {
            ReferenceForm::Contained { .. } | ReferenceForm::Conditional { .. } => return,
            ReferenceForm::Typed {
                base,
                resource_type,
                id,
                ..
            } => {
                if let Some(base) = base {
                    match &self.context.base_urls {
                        None => {
                            self.unchecked(&rule::C_07, Part::Tenant);
                            return;
                        }
                        Some(own) if !own.iter().any(|it| it.trim_end_matches('/') == base) => {
                            self.fire(&rule::C_07, "foreign-host", path, &[Part::Tenant], &words);
                            return;
                        }
                        Some(_) => {}
                    }
                }
                format!("{resource_type}/{id}")
            }
            ReferenceForm::OtherAbsolute => {
                self.fire(&rule::C_07, "foreign-host", path, &[], &words);
                return;
            }
            ReferenceForm::Urn | ReferenceForm::Unrecognised => {
                self.fire(&rule::C_07, "unresolved", path, &[], &words);
                return;
            }
        };
        let Some(known) = &self.context.references else {
            self.unchecked(&rule::C_07, Part::References);
            return;
        };
        let parts = [Part::References];
        match (known.get(&target), &self.context.patient) {
            (None, Observed::Present(patient)) if patient.is_named_by(&target) => {}
            (None, _) => self.fire(&rule::C_07, "unresolved", path, &parts, &words),
            (Some(Some(owner)), Observed::Present(patient)) if !patient.is_named_by(owner) => {
                self.fire(
                    &rule::C_07,
                    "other-patient",
                    path,
                    &[Part::References, Part::Patient],
                    &words,
                );
            }
            (Some(Some(_)), Observed::Unknown | Observed::Absent) => {
                self.unchecked(&rule::C_07, Part::Patient);
            }
            (Some(_), _) => {}
        }
    }
}
