//! Checks of `rules/ehr-events.toml`: what an event of the EHR may cause. An event of a type that is not
//! listed causes nothing, so a bundle without the file takes no events.
//!
//! Not whether the elements it names exist: that needs FHIR's definitions, and the engine asks them when it
//! starts.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::bundle::{
    EVENT_GRANT_SECONDS_MAX, EhrEventDeclaration, EhrEventsTable, PatientBinding,
};
use chaperone_core::ids::EhrEventType;

use super::{DEFINITIONAL, Declared, read, tools};
use crate::problem::{Problems, line_of};

/// Name of the table among the rules.
const EHR_EVENTS: &str = "ehr-events";
/// Path of the table.
pub const EHR_EVENTS_PATH: &str = "rules/ehr-events.toml";
/// Shortest time that a grant made for an event waits to be used, in seconds: an agent must have the time
/// to ask for it.
const EXPIRES_S_MIN: i64 = 60;
/// Most types of events.
const EVENTS_MAX: usize = 200;

/// What the table lists, by type of event.
pub(super) fn load(
    declared: &Declared,
    rules: &BTreeMap<String, String>,
    problems: &mut Problems,
) -> BTreeMap<EhrEventType, EhrEventDeclaration> {
    let Some(text) = rules.get(EHR_EVENTS) else {
        return BTreeMap::new();
    };
    let Some(table) = read::parse::<EhrEventsTable>(EHR_EVENTS_PATH, text, problems) else {
        return BTreeMap::new();
    };
    for (key, said) in [("source", &table.source), ("owner", &table.owner)] {
        if said.trim().is_empty() {
            let why = format!("`{key}` is empty");
            problems.add_at(EHR_EVENTS_PATH, line_of(text, key), key, why);
        }
    }
    for (key, day) in [
        ("reviewed", &table.reviewed),
        ("review_by", &table.review_by),
    ] {
        if !read::is_day(day) {
            let why = "must be a day such as `2026-01-31`";
            problems.add_at(EHR_EVENTS_PATH, line_of(text, key), key, why);
        }
    }
    if table.events.len() > EVENTS_MAX {
        let why = format!("lists more than {EVENTS_MAX} types of events");
        problems.add(EHR_EVENTS_PATH, "events", why);
    }
    let mut seen = BTreeSet::new();
    for event in &table.events {
        let mut checked = Checked {
            text,
            event,
            problems: &mut *problems,
        };
        if !seen.insert(&event.event_type) {
            checked.problem("is listed twice; one event makes one grant".to_owned());
        }
        checked.authority(declared);
        checked.resource(declared);
    }
    table
        .events
        .into_iter()
        .map(|event| (event.event_type.clone(), event))
        .collect()
}

struct Checked<'a> {
    text: &'a str,
    event: &'a EhrEventDeclaration,
    problems: &'a mut Problems,
}

impl Checked<'_> {
    fn problem(&mut self, message: String) {
        let place = self.event.event_type.as_str();
        let line = line_of(self.text, &format!("\"{place}\""));
        self.problems.add_at(EHR_EVENTS_PATH, line, place, message);
    }

    /// Agent and intent: registered for each other, about a patient, and without a person's presence, which
    /// no event can bring.
    fn authority(&mut self, declared: &Declared) {
        let event = self.event;
        let (agent, intent) = (&event.agent, &event.intent);
        match declared.agents.get(agent) {
            None => self.problem(format!("agent `{agent}` is not declared")),
            Some((_, known)) if !known.intents.contains(intent) => self.problem(format!(
                "agent `{agent}` is not registered for intent `{intent}`"
            )),
            Some(_) => {}
        }
        match declared.intents.get(intent) {
            None => self.problem(format!("intent `{intent}` is not declared")),
            Some((_, known)) => {
                if known.patient == PatientBinding::None {
                    self.problem(format!(
                        "intent `{intent}` is about no patient and takes no grant"
                    ));
                }
                if known.presence {
                    self.problem(format!(
                        "intent `{intent}` needs a person who is present, and an event brings none"
                    ));
                }
            }
        }
        if !(EXPIRES_S_MIN..=EVENT_GRANT_SECONDS_MAX).contains(&event.expires_s) {
            self.problem(format!(
                "`expires_s` must be {EXPIRES_S_MIN} to {EVENT_GRANT_SECONDS_MAX} seconds"
            ));
        }
    }

    /// The resource, and which elements of it name patient and encounter.
    fn resource(&mut self, declared: &Declared) {
        let event = self.event;
        let resource = event.resource.as_str();
        if DEFINITIONAL.contains(&resource) {
            self.problem(format!("`{resource}` belongs to no patient"));
        }
        match (&event.patient, resource) {
            (None, "Patient") => {}
            (Some(_), "Patient") => {
                self.problem("a Patient is the patient itself; leave `patient` out".to_owned())
            }
            (None, _) => self.problem(format!(
                "`patient` must name the element of `{resource}` that names the patient"
            )),
            (Some(path), _) => self.path("patient", path),
        }
        match (&event.encounter, resource) {
            (None, _) => {}
            (Some(_), "Encounter") => self
                .problem("an Encounter is the encounter itself; leave `encounter` out".to_owned()),
            (Some(path), _) => self.path("encounter", path),
        }
        let is_seen = declared
            .intents
            .get(&event.intent)
            .is_none_or(|(_, intent)| intent.view.contains_key(&event.resource));
        if event.work_item && !is_seen {
            self.problem(format!(
                "`work_item` would hand out a `{resource}`, which the view of intent `{}` does not open",
                event.intent
            ));
        }
    }

    fn path(&mut self, key: &str, path: &str) {
        if !tools::is_element_path(path) {
            self.problem(format!("`{key}`: `{path}` is no element path"));
        }
    }
}
