//! Patients with something pending, and everything about one of them. Prints as the downtime pack.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use chaperone_core::ids::PatientToken;
use chaperone_core::phi::ExposedFor;
use chaperone_engine::break_glass::may_break_glass;
use chaperone_engine::views::queue::QueueItem;

use super::ConsoleState;
use super::page::{Chrome, Here, render};
use super::phrases::{self, Moment};
use super::refusal::Refusal;
use super::session::Person;

#[derive(Template)]
#[template(path = "patients.html")]
pub(super) struct PatientsPage {
    pub(super) chrome: Chrome,
    pub(super) queues: Vec<QueueRow>,
}

/// One patient of the list.
pub(super) struct QueueRow {
    pub(super) token: String,
    pub(super) shown: String,
    pub(super) pending: usize,
    pub(super) oldest: Moment,
}

#[derive(Template)]
#[template(path = "queue.html")]
pub(super) struct QueuePage {
    pub(super) chrome: Chrome,
    pub(super) token: String,
    pub(super) name: String,
    pub(super) facts: String,
    pub(super) identifiers: Vec<(String, String)>,
    pub(super) allergies: String,
    pub(super) lists: Vec<QueueList>,
    pub(super) made: String,
    /// Whether this person may break the glass.
    pub(super) may_break: bool,
}

/// One list of the page.
pub(super) struct QueueList {
    pub(super) id: &'static str,
    pub(super) heading: &'static str,
    pub(super) empty: &'static str,
    pub(super) items: Vec<ItemRow>,
}

/// One write-back.
pub(super) struct ItemRow {
    pub(super) id: String,
    pub(super) words: String,
    pub(super) class: String,
    pub(super) class_css: String,
    pub(super) state: &'static str,
    pub(super) state_css: &'static str,
    pub(super) agent: String,
    pub(super) intent: String,
    pub(super) moved: Moment,
    pub(super) deadline: Option<Moment>,
}

impl ItemRow {
    fn of(item: &QueueItem, now: chaperone_core::Timestamp) -> Self {
        let (state, state_css) = phrases::state(item.row.state);
        Self {
            id: item.row.id.to_string(),
            words: item.words.expose(ExposedFor::Person).clone(),
            class: item
                .row
                .class
                .map(|class| class.to_string())
                .unwrap_or_default(),
            class_css: item.row.class.map(phrases::class_css).unwrap_or_default(),
            state,
            state_css,
            agent: item.row.agent.to_string(),
            intent: item.row.intent.to_string(),
            moved: phrases::ago(item.row.moved, now),
            deadline: item
                .row
                .deadline
                .map(|deadline| phrases::left(deadline, now)),
        }
    }
}

pub(super) async fn list(
    State(state): State<ConsoleState>,
    person: Person,
) -> Result<Response, Refusal> {
    let queues = state.engine.patient_queues(&person.human).await?;
    let now = state.engine.now();
    let page = PatientsPage {
        chrome: Chrome::of(&state, &person, "Patients", Here::Patients).await?,
        queues: queues
            .into_iter()
            .map(|queue| QueueRow {
                token: queue.patient.token.to_string(),
                shown: match queue.patient.shown {
                    Some(shown) => {
                        let shown = shown.into_exposed(ExposedFor::Person);
                        format!("{}, {}", shown.initials, shown.age)
                    }
                    None => "patient (EHR does not answer)".to_owned(),
                },
                pending: queue.pending,
                oldest: phrases::waited(queue.oldest, now),
            })
            .collect(),
    };
    Ok(render(&page))
}

pub(super) async fn show(
    State(state): State<ConsoleState>,
    person: Person,
    Path(token): Path<String>,
) -> Result<Response, Refusal> {
    let token: PatientToken = token.parse().map_err(|_| Refusal::NotFound)?;
    let queue = state.engine.patient_queue(&person.human, token).await?;
    let now = state.engine.now();
    let rows = |items: &[QueueItem]| items.iter().map(|item| ItemRow::of(item, now)).collect();
    let patient = queue.patient.map(|it| it.into_exposed(ExposedFor::Person));
    let (name, facts, identifiers, allergies) = match patient {
        Some(patient) => (
            patient.name,
            format!(
                "born {} ({}), {}",
                patient.birth_date, patient.age, patient.gender
            ),
            patient.identifiers,
            match patient.allergies {
                None => "Allergies could not be read.".to_owned(),
                Some(none) if none.is_empty() => "No allergies recorded.".to_owned(),
                Some(some) => some.join("; "),
            },
        ),
        None => {
            let name = "The EHR does not answer, so the patient cannot be shown".to_owned();
            (name, String::new(), Vec::new(), String::new())
        }
    };
    let page = QueuePage {
        chrome: Chrome::of(&state, &person, "Patient queue", Here::Patients).await?,
        token: token.to_string(),
        name,
        facts,
        identifiers,
        allergies,
        lists: vec![
            QueueList {
                id: "pending",
                heading: "Pending",
                empty: "Nothing is pending.",
                items: rows(&queue.pending),
            },
            QueueList {
                id: "done",
                heading: "Done",
                empty: "Nothing was done yet.",
                items: rows(&queue.done),
            },
            QueueList {
                id: "ended",
                heading: "Refused or void",
                empty: "Nothing was refused.",
                items: rows(&queue.ended),
            },
        ],
        made: phrases::exact(now),
        may_break: may_break_glass(&person.human),
    };
    Ok(render(&page))
}
