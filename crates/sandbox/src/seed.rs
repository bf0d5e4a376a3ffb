//! What a working day needs and loaded records usually lack: schedules with slots, appointments,
//! notes, care teams, encounters in progress.
//!
//! Nothing random: the same data and time give the same resources. What the data has is left
//! alone. Start at [`seed`].

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::dates::{day, is_working_day, midnight, shifted};
use crate::definitions::{ResourceType, resource_type};
use crate::index::IndexValue;
use crate::load::{LoadError, put};
use crate::storage::{Narrowing, Storage, Version};
use crate::synthetic::mixed;

/// The most practitioners who get a schedule, those with most encounters first.
const PRACTITIONERS_MAX: usize = 10;
/// How many days ahead slots are laid out; weekends have none.
const DAYS_AHEAD: i64 = 14;
/// When slots start on a working day, in minutes after midnight UTC.
const SLOT_MINUTES: [i64; 4] = [14 * 60, 15 * 60 + 30, 18 * 60, 19 * 60 + 30];
/// How long a slot or an appointment lasts, in minutes.
const APPOINTMENT_MINUTES: i64 = 30;
/// The most problems a seeded note mentions.
const PROBLEMS_NAMED_MAX: usize = 3;

/// How many resources seeding added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SeedReport {
    /// Schedules.
    pub schedules: usize,
    /// Slots, free and busy.
    pub slots: usize,
    /// Appointments, past and future.
    pub appointments: usize,
    /// Clinical notes.
    pub notes: usize,
    /// Care teams.
    pub care_teams: usize,
    /// Encounters in progress.
    pub encounters: usize,
}

/// A free slot, before anybody has taken it.
struct Slot {
    id: String,
    schedule: String,
    practitioner: String,
    start: Timestamp,
    taken: bool,
}

/// Adds what is missing around `now`. Every type seeded is held by every profile.
pub(crate) fn seed(storage: &mut Storage, now: Timestamp) -> Result<SeedReport, LoadError> {
    let mut report = SeedReport::default();
    let mut made: Vec<Value> = Vec::new();
    let mut slots = schedules(storage, now, &mut made, &mut report);
    let patients = patients(storage);
    for (position, patient) in patients.iter().enumerate() {
        let practitioner = usual_practitioner(storage, &patient.id)
            .or_else(|| slots.first().map(|slot| slot.practitioner.clone()));
        let context = Context {
            patient,
            practitioner: practitioner.as_deref(),
            now,
        };
        appointments(
            storage,
            &context,
            position,
            &mut slots,
            &mut made,
            &mut report,
        );
        if !has_any(storage, "DocumentReference", &patient.id) {
            made.push(note(storage, &context));
            report.notes += 1;
        }
        if !has_any(storage, "CareTeam", &patient.id) {
            made.push(care_team(&context));
            report.care_teams += 1;
        }
        if !patient.deceased && !is_being_seen(storage, &patient.id) {
            made.push(encounter(&context));
            report.encounters += 1;
        }
    }
    for slot in &slots {
        made.push(slot_resource(slot));
        report.slots += 1;
    }
    for resource in &made {
        put(storage, resource, now)?;
    }
    Ok(report)
}

struct Patient {
    id: String,
    deceased: bool,
}

struct Context<'a> {
    patient: &'a Patient,
    /// `Practitioner/<id>`.
    practitioner: Option<&'a str>,
    now: Timestamp,
}

impl Context<'_> {
    fn subject(&self) -> Value {
        json!({"reference": format!("Patient/{}", self.patient.id)})
    }

    fn id(&self, what: &str) -> String {
        seeded_id(what, &self.patient.id, 0)
    }
}

/// An id that depends only on what it is for.
fn seeded_id(what: &str, whose: &str, which: u64) -> String {
    let digest = what
        .bytes()
        .chain([0])
        .chain(whose.bytes())
        .fold(mixed(which), |digest, byte| mixed(digest ^ u64::from(byte)));
    format!("seed-{digest:016x}")
}

fn patients(storage: &Storage) -> Vec<Patient> {
    let mut patients = Vec::new();
    visit(storage, "Patient", Narrowing::All, |version| {
        let body = body(version);
        let deceased = body.get("deceasedDateTime").is_some()
            || body.get("deceasedBoolean") == Some(&Value::Bool(true));
        patients.push(Patient {
            id: version.id.to_string(),
            deceased,
        });
    });
    patients
}

fn visit<'a>(
    storage: &'a Storage,
    kind: &str,
    narrowing: Narrowing<'_>,
    mut visitor: impl FnMut(&'a Version),
) {
    if let Some(kind) = resource_type(kind) {
        storage.visit(kind, narrowing, |version| visitor(version));
    }
}

fn body(version: &Version) -> Value {
    version
        .body
        .as_deref()
        .and_then(|body| serde_json::from_str(body.get()).ok())
        .unwrap_or_default()
}

fn values<'a>(version: &'a Version, name: &str) -> impl Iterator<Item = &'a IndexValue> {
    let kind: &ResourceType = version.kind;
    kind.parameter(name)
        .into_iter()
        .flat_map(|(position, _)| version.index.values(position))
}

fn practitioner_of<'a>(version: &'a Version, name: &str) -> Option<&'a str> {
    values(version, name).find_map(|value| match value {
        IndexValue::Reference(reference) if reference.starts_with("Practitioner/") => {
            Some(&**reference)
        }
        _ => None,
    })
}

fn has_any(storage: &Storage, kind: &str, patient: &str) -> bool {
    let mut any = false;
    visit(storage, kind, Narrowing::Patients(&[patient]), |_| {
        any = true
    });
    any
}

fn is_being_seen(storage: &Storage, patient: &str) -> bool {
    let mut any = false;
    visit(
        storage,
        "Encounter",
        Narrowing::Patients(&[patient]),
        |version| {
            any |= values(version, "status")
                .any(|value| *value == IndexValue::Code("in-progress".into()));
        },
    );
    any
}

/// The practitioner of the patient's latest encounter.
fn usual_practitioner(storage: &Storage, patient: &str) -> Option<String> {
    let mut latest: Option<(i64, &str)> = None;
    visit(
        storage,
        "Encounter",
        Narrowing::Patients(&[patient]),
        |version| {
            let start = values(version, "date").find_map(|value| match value {
                IndexValue::Date(range) => Some(range.low_ms),
                _ => None,
            });
            if let (Some(start), Some(practitioner)) =
                (start, practitioner_of(version, "participant"))
                && latest.is_none_or(|(before, _)| start > before)
            {
                latest = Some((start, practitioner));
            }
        },
    );
    latest.map(|(_, practitioner)| practitioner.to_owned())
}

/// Lays out schedules for the busiest practitioners who have none, and returns their slots.
fn schedules(
    storage: &Storage,
    now: Timestamp,
    made: &mut Vec<Value>,
    report: &mut SeedReport,
) -> Vec<Slot> {
    let mut scheduled: BTreeSet<&str> = BTreeSet::new();
    visit(storage, "Schedule", Narrowing::All, |version| {
        if let Some(practitioner) = practitioner_of(version, "actor") {
            scheduled.insert(practitioner);
        }
    });
    let mut encounters: BTreeMap<String, usize> = BTreeMap::new();
    visit(storage, "Practitioner", Narrowing::All, |version| {
        encounters.insert(format!("Practitioner/{}", version.id), 0);
    });
    visit(storage, "Encounter", Narrowing::All, |version| {
        if let Some(count) =
            practitioner_of(version, "participant").and_then(|who| encounters.get_mut(who))
        {
            *count += 1;
        }
    });
    let mut busiest: Vec<(String, usize)> = encounters
        .into_iter()
        .filter(|(practitioner, _)| !scheduled.contains(practitioner.as_str()))
        .collect();
    busiest.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0)));
    busiest.truncate(PRACTITIONERS_MAX);

    let tomorrow = shifted(midnight(now), 1, 0);
    let mut slots = Vec::new();
    for (practitioner, _) in busiest {
        let schedule = seeded_id("schedule", &practitioner, 0);
        made.push(json!({
            "resourceType": "Schedule",
            "id": schedule,
            "active": true,
            "actor": [{"reference": practitioner}],
            "planningHorizon": {
                "start": tomorrow.to_string(),
                "end": shifted(tomorrow, DAYS_AHEAD, 0).to_string(),
            },
        }));
        report.schedules += 1;
        let starts = (0..DAYS_AHEAD)
            .map(|days| shifted(tomorrow, days, 0))
            .filter(|date| is_working_day(*date))
            .flat_map(|date| SLOT_MINUTES.map(|minutes| shifted(date, 0, minutes)));
        for (which, start) in (0_u64..).zip(starts) {
            slots.push(Slot {
                id: seeded_id("slot", &practitioner, which),
                schedule: schedule.clone(),
                practitioner: practitioner.clone(),
                start,
                taken: false,
            });
        }
    }
    slots
}

fn slot_resource(slot: &Slot) -> Value {
    json!({
        "resourceType": "Slot",
        "id": slot.id,
        "schedule": {"reference": format!("Schedule/{}", slot.schedule)},
        "serviceType": [service_type()],
        "status": if slot.taken { "busy" } else { "free" },
        "start": slot.start.to_string(),
        "end": shifted(slot.start, 0, APPOINTMENT_MINUTES).to_string(),
    })
}

/// What seeded slots and appointments are for.
fn service_type() -> Value {
    json!({"coding": [{
        "system": "http://terminology.hl7.org/CodeSystem/service-type",
        "code": "124",
        "display": "General Practice",
    }]})
}

/// One past and one future appointment, where the patient has none on that side of `now`.
fn appointments(
    storage: &Storage,
    context: &Context<'_>,
    position: usize,
    slots: &mut [Slot],
    made: &mut Vec<Value>,
    report: &mut SeedReport,
) {
    let now_ms = context.now.as_millisecond();
    let (mut past, mut future) = (false, false);
    let own = [context.patient.id.as_str()];
    visit(
        storage,
        "Appointment",
        Narrowing::Patients(&own),
        |version| {
            for value in values(version, "date") {
                if let IndexValue::Date(range) = value {
                    past |= range.low_ms < now_ms;
                    future |= range.low_ms >= now_ms;
                }
            }
        },
    );
    if !past {
        let start = shifted(midnight(context.now), -30, 15 * 60);
        made.push(appointment(context, "past", "fulfilled", start, None));
        report.appointments += 1;
    }
    if !future && !context.patient.deceased {
        // Steps of seven spread the patients over practitioners and days.
        let from = position.saturating_mul(7) % slots.len().max(1);
        let at = (0..slots.len())
            .map(|step| (from + step) % slots.len().max(1))
            .find(|at| slots.get(*at).is_some_and(|slot| !slot.taken));
        let slot = at.and_then(|at| slots.get_mut(at));
        let booked = match slot {
            Some(slot) => {
                slot.taken = true;
                let with_slot = Context {
                    practitioner: Some(&slot.practitioner),
                    ..*context
                };
                appointment(&with_slot, "future", "booked", slot.start, Some(&slot.id))
            }
            None => {
                let start = shifted(midnight(context.now), 8, 15 * 60);
                appointment(context, "future", "booked", start, None)
            }
        };
        made.push(booked);
        report.appointments += 1;
    }
}

fn appointment(
    context: &Context<'_>,
    which: &str,
    status: &str,
    start: Timestamp,
    slot: Option<&str>,
) -> Value {
    let mut participants = vec![json!({"actor": context.subject(), "status": "accepted"})];
    if let Some(practitioner) = context.practitioner {
        participants.push(json!({"actor": {"reference": practitioner}, "status": "accepted"}));
    }
    let mut appointment = json!({
        "resourceType": "Appointment",
        "id": context.id(which),
        "status": status,
        "serviceType": [service_type()],
        "description": "Follow-up visit",
        "start": start.to_string(),
        "end": shifted(start, 0, APPOINTMENT_MINUTES).to_string(),
        "created": day(shifted(context.now, -60, 0)),
        "participant": participants,
    });
    if let (Some(slot), Some(members)) = (slot, appointment.as_object_mut()) {
        members.insert(
            "slot".to_owned(),
            json!([{"reference": format!("Slot/{slot}")}]),
        );
    }
    appointment
}

fn note(storage: &Storage, context: &Context<'_>) -> Value {
    let at = shifted(midnight(context.now), -30, 15 * 60 + APPOINTMENT_MINUTES);
    let problems = problems(storage, &context.patient.id);
    let problems = if problems.is_empty() {
        "none on record".to_owned()
    } else {
        problems.join("; ")
    };
    let text = format!(
        "PROGRESS NOTE\n\nReason for visit: follow-up.\nProblems considered: {problems}.\n\n\
         The patient reports no new complaints. Vital signs are recorded in the flowsheet.\n\n\
         Assessment: stable.\nPlan: continue current treatment, follow-up visit as booked.\n"
    );
    let mut note = json!({
        "resourceType": "DocumentReference",
        "id": context.id("note"),
        "status": "current",
        "docStatus": "final",
        "type": {
            "coding": [{
                "system": "http://loinc.org",
                "code": "11506-3",
                "display": "Progress note",
            }],
            "text": "Progress note",
        },
        "category": [{"coding": [{
            "system": "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category",
            "code": "clinical-note",
            "display": "Clinical Note",
        }]}],
        "subject": context.subject(),
        "date": at.to_string(),
        "content": [{"attachment": {
            "contentType": "text/plain; charset=utf-8",
            "language": "en-US",
            "data": STANDARD.encode(text),
            "title": "Progress note",
        }}],
    });
    if let (Some(practitioner), Some(members)) = (context.practitioner, note.as_object_mut()) {
        members.insert("author".to_owned(), json!([{"reference": practitioner}]));
    }
    note
}

/// The displays of the patient's latest conditions.
fn problems(storage: &Storage, patient: &str) -> Vec<String> {
    let mut found: Vec<(i64, String)> = Vec::new();
    visit(
        storage,
        "Condition",
        Narrowing::Patients(&[patient]),
        |version| {
            let onset = values(version, "onset-date").find_map(|value| match value {
                IndexValue::Date(range) => Some(range.low_ms),
                _ => None,
            });
            let display = body(version)
                .pointer("/code/coding/0/display")
                .and_then(Value::as_str)
                .map(str::to_owned);
            if let Some(display) = display {
                found.push((onset.unwrap_or(i64::MIN), display));
            }
        },
    );
    found.sort_by(|left, right| right.cmp(left));
    found
        .into_iter()
        .map(|(_, display)| display)
        .take(PROBLEMS_NAMED_MAX)
        .collect()
}

fn care_team(context: &Context<'_>) -> Value {
    let mut participants = vec![json!({
        "role": [{"text": "Patient"}],
        "member": context.subject(),
    })];
    if let Some(practitioner) = context.practitioner {
        participants.push(json!({
            "role": [{"text": "Primary care practitioner"}],
            "member": {"reference": practitioner},
        }));
    }
    json!({
        "resourceType": "CareTeam",
        "id": context.id("care-team"),
        "status": "active",
        "name": "Primary care team",
        "subject": context.subject(),
        "participant": participants,
    })
}

fn encounter(context: &Context<'_>) -> Value {
    let mut encounter = json!({
        "resourceType": "Encounter",
        "id": context.id("encounter"),
        "status": "in-progress",
        "class": {
            "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
            "code": "AMB",
            "display": "ambulatory",
        },
        "subject": context.subject(),
        "period": {"start": shifted(context.now, 0, -20).to_string()},
    });
    if let (Some(practitioner), Some(members)) = (context.practitioner, encounter.as_object_mut()) {
        members.insert(
            "participant".to_owned(),
            json!([{"individual": {"reference": practitioner}}]),
        );
    }
    encounter
}
