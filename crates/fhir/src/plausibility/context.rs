//! What the caller observed about the patient, the visit and the organisation, for the plausibility rules.
//!
//! Every part may be missing. "Not looked up" and "looked up and not there" are different answers: the first
//! is never a pass. Nothing an agent says belongs here; the caller fills it from the EHR, the directory and
//! the clock. Start at [`Context::from_resources`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::Value;

use super::element::{self, list, state, text};
use super::moment::{self, When};

/// Most resources of one kind that are looked at; a longer list counts as not looked up.
pub const LISTED_MAX: usize = 2_000;

/// One thing that was looked up.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Observed<T> {
    /// Nobody looked.
    #[default]
    Unknown,
    /// It is not there.
    Absent,
    /// Here it is.
    Present(T),
}

impl<T> Observed<T> {
    /// What is there.
    pub fn present(&self) -> Option<&T> {
        match self {
            Observed::Present(value) => Some(value),
            Observed::Unknown | Observed::Absent => None,
        }
    }
}

/// Sex, as far as rules about anatomy may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sex {
    /// Female.
    Female,
    /// Male.
    Male,
    /// Other, unknown, or specified in a way that no rule can judge.
    Unjudged,
}

/// Whether the patient has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deceased {
    /// Not that the record says.
    No,
    /// Yes, at some time before now.
    Yes,
    /// At that time.
    At(When),
}

/// The patient to whom the run is bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Patient {
    /// Logical id at the EHR.
    pub id: String,
    /// Ids of records that were merged into this one.
    pub merged_ids: Vec<String>,
    /// Birth date.
    pub birth: Option<When>,
    /// Whether and when the patient died.
    pub deceased: Deceased,
    /// Sex for clinical use if it is recorded, else administrative gender.
    pub sex: Sex,
    /// `active`; a record that does not say is in use.
    pub is_active: bool,
    /// Whether another record replaces this one.
    pub is_replaced: bool,
    /// The words of each name.
    pub names: Vec<Vec<String>>,
    /// Values of the identifiers.
    pub identifiers: Vec<String>,
}

/// What the rules may rest on besides the resource.
///
/// For lists, `None` means that nobody looked, and an empty list that there is nothing.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The time of the check.
    pub now: Timestamp,
    /// The time zone of the site.
    pub time_zone: Option<TimeZone>,
    /// Base URLs of the EHR's own FHIR endpoint.
    pub base_urls: Option<Vec<String>>,
    /// The patient of the run.
    pub patient: Observed<Patient>,
    /// The version that the resource would replace; absent for a new resource.
    pub prior: Observed<Value>,
    /// The encounter that the resource names.
    pub encounter: Observed<Value>,
    /// MedicationRequest and MedicationStatement of the patient.
    pub medications: Option<Vec<Value>>,
    /// AllergyIntolerance of the patient.
    pub allergies: Option<Vec<Value>>,
    /// Condition of the patient.
    pub conditions: Option<Vec<Value>>,
    /// Recent Observation of the patient.
    pub observations: Option<Vec<Value>>,
    /// Appointment of the patient.
    pub appointments: Option<Vec<Value>>,
    /// Slot of the schedule for which an appointment is asked.
    pub slots: Option<Vec<Value>>,
    /// Claim of the patient.
    pub claims: Option<Vec<Value>>,
    /// Whether the patient is pregnant, where somebody recorded it.
    pub pregnant: Option<bool>,
    /// Newest eGFR in mL/min/1.73 m2, if it was looked up apart from the observations.
    pub egfr: Option<f64>,
    /// `Type/id` of all who are in a care relationship with the patient.
    pub care_team: Option<Vec<String>>,
    /// `Type/id` of the practitioners, organisations, devices and places of the tenant.
    pub tenant: Option<Vec<String>>,
    /// What references lead to: `Type/id` to the patient of the target (`None` if it has none, as a Location).
    /// A reference that is not a key was looked up and not found.
    pub references: Option<BTreeMap<String, Option<String>>>,
    /// What was said or written at the source.
    pub quotes: Option<Vec<String>>,
    /// The patient's last visit to this practice.
    pub last_visit: Observed<When>,
    /// What the clock of the sending device said when the reading arrived.
    pub device_clock: Option<Timestamp>,
}

/// Why a context cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// Not JSON of the expected shape.
    #[error("the context does not have the expected shape")]
    Shape(#[source] serde_json::Error),
    /// An element is not what it must be.
    #[error("the context's `{0}` {1}")]
    Element(&'static str, &'static str),
}

/// The JSON form; see [`Context::from_resources`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resources {
    now: String,
    time_zone: Option<String>,
    base_urls: Option<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    patient: Option<Value>,
    #[serde(default)]
    merged_ids: Vec<String>,
    #[serde(default, deserialize_with = "given")]
    prior: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    encounter: Option<Value>,
    medications: Option<Vec<Value>>,
    allergies: Option<Vec<Value>>,
    conditions: Option<Vec<Value>>,
    observations: Option<Vec<Value>>,
    appointments: Option<Vec<Value>>,
    slots: Option<Vec<Value>>,
    claims: Option<Vec<Value>>,
    pregnant: Option<bool>,
    egfr: Option<f64>,
    care_team: Option<Vec<String>>,
    tenant: Option<Vec<String>>,
    references: Option<BTreeMap<String, Option<String>>>,
    quotes: Option<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    last_visit: Option<Value>,
    device_clock: Option<String>,
}

/// Tells a `null`, which says that nothing is there, from a missing key.
fn given<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

/// A resource that was looked up; it must be of the type.
fn observed(
    element: &'static str,
    resource_type: Option<&str>,
    found: Option<Value>,
) -> Result<Observed<Value>, ContextError> {
    match found {
        None => Ok(Observed::Unknown),
        Some(Value::Null) => Ok(Observed::Absent),
        Some(value) => {
            let found = element::resource_type(&value);
            if found.is_empty() || resource_type.is_some_and(|wanted| wanted != found) {
                Err(ContextError::Element(
                    element,
                    "must be a resource of its type, or null",
                ))
            } else {
                Ok(Observed::Present(value))
            }
        }
    }
}

fn listed(
    element: &'static str,
    types: &[&str],
    found: Option<Vec<Value>>,
) -> Result<Option<Vec<Value>>, ContextError> {
    let Some(items) = found else {
        return Ok(None);
    };
    if items
        .iter()
        .any(|it| !types.contains(&element::resource_type(it)))
    {
        return Err(ContextError::Element(
            element,
            "must hold resources of its type alone",
        ));
    }
    Ok((items.len() <= LISTED_MAX).then_some(items))
}

impl Context {
    /// A context of which only the time is known.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self {
            now,
            ..Self::default()
        }
    }

    /// Builds a context from FHIR resources in one JSON object.
    ///
    /// Keys: `now` (instant, required); `time_zone` (IANA name or POSIX rule); `base_urls`; `patient`,
    /// `prior`, `encounter` (a resource; `null` says that there is none); `merged_ids`; `medications`,
    /// `allergies`, `conditions`, `observations`, `appointments`, `slots`, `claims` (lists of resources);
    /// `pregnant`; `egfr`; `care_team`, `tenant` (lists of `Type/id`); `references` (object of `Type/id` to
    /// `Patient/id` or `null`); `quotes`; `last_visit` (date or `null`); `device_clock` (instant).
    /// A key that is left out says that nobody looked. A list longer than [`LISTED_MAX`] counts so too.
    ///
    /// # Errors
    /// Unknown keys, a wrong shape or type of resource, an unreadable time or time zone.
    pub fn from_resources(resources: Value) -> Result<Self, ContextError> {
        let given: Resources = serde_json::from_value(resources).map_err(ContextError::Shape)?;
        let instant = |element, text: &str| {
            text.parse::<Timestamp>()
                .map_err(|_| ContextError::Element(element, "must be an instant with time zone"))
        };
        let time_zone = given
            .time_zone
            .map(|name| {
                moment::time_zone(&name).ok_or(ContextError::Element(
                    "time_zone",
                    "must be an IANA name or a POSIX rule",
                ))
            })
            .transpose()?;
        let patient = match observed("patient", Some("Patient"), given.patient)? {
            Observed::Present(resource) => {
                let mut patient = Patient::read(&resource, time_zone.as_ref())
                    .ok_or(ContextError::Element("patient", "must have an id"))?;
                patient.merged_ids.extend(given.merged_ids);
                Observed::Present(patient)
            }
            Observed::Absent => Observed::Absent,
            Observed::Unknown => Observed::Unknown,
        };
        let last_visit = match given.last_visit {
            None => Observed::Unknown,
            Some(Value::Null) => Observed::Absent,
            Some(value) => Observed::Present(
                value
                    .as_str()
                    .and_then(|text| When::parse(text, time_zone.as_ref()))
                    .ok_or(ContextError::Element(
                        "last_visit",
                        "must be a date or null",
                    ))?,
            ),
        };
        Ok(Self {
            now: instant("now", &given.now)?,
            base_urls: given.base_urls,
            patient,
            prior: observed("prior", None, given.prior)?,
            encounter: observed("encounter", Some("Encounter"), given.encounter)?,
            medications: listed(
                "medications",
                &["MedicationRequest", "MedicationStatement"],
                given.medications,
            )?,
            allergies: listed("allergies", &["AllergyIntolerance"], given.allergies)?,
            conditions: listed("conditions", &["Condition"], given.conditions)?,
            observations: listed("observations", &["Observation"], given.observations)?,
            appointments: listed("appointments", &["Appointment"], given.appointments)?,
            slots: listed("slots", &["Slot"], given.slots)?,
            claims: listed("claims", &["Claim"], given.claims)?,
            pregnant: given.pregnant,
            egfr: given.egfr.filter(|it| it.is_finite()),
            care_team: given.care_team,
            tenant: given.tenant,
            references: given.references,
            quotes: given.quotes,
            last_visit,
            device_clock: given
                .device_clock
                .map(|text| instant("device_clock", &text))
                .transpose()?,
            time_zone,
        })
    }
}

/// Extensions that hold the sex for clinical use, with the codes that are plainly female or male.
///
/// # Source
/// HL7 Gender Harmony, `patient-sexParameterForClinicalUse`; US Core 8.0.0 `us-core-sex` is not one of them.
const SEX_FOR_CLINICAL_USE: &str =
    "http://hl7.org/fhir/StructureDefinition/patient-sexParameterForClinicalUse";

impl Patient {
    /// Reads a Patient resource; `None` if it has no id.
    #[must_use]
    pub fn read(resource: &Value, zone: Option<&TimeZone>) -> Option<Self> {
        let deceased = match (
            text(resource, "deceasedDateTime"),
            resource.get("deceasedBoolean"),
        ) {
            (Some(at), _) => When::parse(at, zone).map_or(Deceased::Yes, Deceased::At),
            (None, Some(Value::Bool(true))) => Deceased::Yes,
            _ => Deceased::No,
        };
        let links = list(resource, "link");
        Some(Self {
            id: text(resource, "id")?.to_owned(),
            merged_ids: links
                .iter()
                .filter(|link| text(link, "type") == Some("replaces"))
                .filter_map(|link| element::reference(link, "other"))
                .filter_map(|it| it.strip_prefix("Patient/").map(str::to_owned))
                .collect(),
            birth: text(resource, "birthDate").and_then(|it| When::parse(it, zone)),
            deceased,
            sex: sex(resource),
            is_active: resource.get("active") != Some(&Value::Bool(false)),
            is_replaced: links
                .iter()
                .any(|link| text(link, "type") == Some("replaced-by")),
            names: list(resource, "name").iter().map(name_words).collect(),
            identifiers: list(resource, "identifier")
                .iter()
                .filter_map(|it| text(it, "value"))
                .map(str::to_owned)
                .collect(),
        })
    }

    /// Whether a `Type/id` reference names this patient, under its own id or one merged into it.
    #[must_use]
    pub fn is_named_by(&self, reference: &str) -> bool {
        reference
            .strip_prefix("Patient/")
            .is_some_and(|id| id == self.id || self.merged_ids.iter().any(|it| it == id))
    }
}

fn name_words(name: &Value) -> Vec<String> {
    let given = list(name, "given").iter().filter_map(Value::as_str);
    given
        .chain(text(name, "family"))
        .chain(text(name, "text"))
        .flat_map(|part| part.split(|c: char| !c.is_alphanumeric()))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

fn sex(patient: &Value) -> Sex {
    let recorded = list(patient, "extension")
        .iter()
        .find(|it| text(it, "url") == Some(SEX_FOR_CLINICAL_USE));
    if let Some(extension) = recorded {
        let value = list(extension, "extension")
            .iter()
            .find(|it| text(it, "url") == Some("value"))
            .unwrap_or(extension);
        return match state(value, "valueCodeableConcept") {
            Some("female-typical" | "female") => Sex::Female,
            Some("male-typical" | "male") => Sex::Male,
            _ => Sex::Unjudged,
        };
    }
    match text(patient, "gender") {
        Some("female") => Sex::Female,
        Some("male") => Sex::Male,
        _ => Sex::Unjudged,
    }
}
