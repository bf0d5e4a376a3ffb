//! The frame around every page, and how a template becomes an answer.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use chaperone_core::mode::Mode;
use chaperone_core::principal::Role;

use super::ConsoleState;
use super::phrases;
use super::refusal::Refusal;
use super::session::Person;

/// Which part of the console a page belongs to, for the menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Here {
    Inbox,
    Patients,
    Agents,
    Assign,
    Modes,
    Ledger,
    Health,
    Answers,
    Retention,
    Oversight,
    Exceptions,
    Cohorts,
    Undo,
    People,
    Account,
}

/// One entry of the menu.
pub(super) struct NavEntry {
    pub(super) href: &'static str,
    pub(super) label: &'static str,
    pub(super) current: bool,
    pub(super) count: usize,
}

/// The frame. Titles name the kind of page and never a patient.
pub(super) struct Chrome {
    pub(super) title: &'static str,
    pub(super) account: String,
    pub(super) roles: String,
    pub(super) csrf: String,
    pub(super) nav: Vec<NavEntry>,
    /// What is switched off, in words; empty in normal operation.
    pub(super) banner: String,
    /// Whether agents are cut off altogether.
    pub(super) halted: bool,
    /// After how many seconds without activity the page locks.
    pub(super) idle_s: i64,
}

impl Chrome {
    /// The frame for a person.
    pub(super) async fn of(
        state: &ConsoleState,
        person: &Person,
        title: &'static str,
        here: Here,
    ) -> Result<Self, Refusal> {
        let switched = state.engine.switched().await?;
        let waiting = state.engine.inbox_count(&person.human).await?;
        let banner: Vec<String> = switched
            .iter()
            .map(|(scope, mode)| {
                format!(
                    "{}: {}",
                    phrases::scope(scope),
                    phrases::mode(*mode).to_lowercase()
                )
            })
            .collect();
        let entry = |it: Here, href, label, count| NavEntry {
            href,
            label,
            current: it == here,
            count,
        };
        let mut nav = vec![
            entry(Here::Inbox, "/console", "Inbox", waiting),
            entry(Here::Patients, "/console/patients", "Patients", 0),
            entry(Here::Assign, "/console/assign", "Assign", 0),
            entry(Here::Agents, "/console/agents", "Agents", 0),
            entry(Here::Modes, "/console/modes", "Modes", 0),
            entry(Here::Ledger, "/console/ledger", "Ledger", 0),
            entry(Here::Health, "/console/health", "Health", 0),
        ];
        if chaperone_engine::audit::may_ask(&person.human) {
            nav.push(entry(Here::Answers, "/console/answers", "Who saw what", 0));
        }
        if chaperone_engine::retention::holds::may_hold(&person.human) {
            nav.push(entry(Here::Retention, "/console/retention", "Retention", 0));
        }
        if super::oversight::may_oversee(&state.engine, &person.human) {
            nav.push(entry(Here::Oversight, "/console/oversight", "Oversight", 0));
        }
        if state.engine.sees_exceptions(&person.human) {
            let exceptions = "/console/exceptions";
            nav.push(entry(Here::Exceptions, exceptions, "Exceptions", 0));
        }
        if state.engine.sees_cohorts(&person.human) {
            nav.push(entry(Here::Cohorts, "/console/cohorts", "Cohorts", 0));
        }
        if chaperone_engine::undo::may_undo(&person.human) {
            nav.push(entry(Here::Undo, "/console/undo", "Undo", 0));
        }
        if person.human.holds(Role::ItAdmin) {
            nav.push(entry(Here::People, "/console/people", "People", 0));
        }
        Ok(Self {
            title,
            account: person.human.account.to_string(),
            roles: phrases::roles(&person.human.roles),
            csrf: person.csrf.clone(),
            nav,
            halted: switched.iter().any(|(_, mode)| *mode == Mode::Halted),
            banner: banner.join(" · "),
            idle_s: state.engine.config().session_idle_s,
        })
    }
}

/// Renders a page.
pub(super) fn render(template: &impl Template) -> Response {
    render_as(StatusCode::OK, template)
}

/// Renders a page with a status.
pub(super) fn render_as(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(page) => (status, Html(page)).into_response(),
        Err(_) => {
            tracing::error!("a template could not be rendered");
            Refusal::Internal.into_response()
        }
    }
}

/// Everything under `/console` that is no page.
pub(super) async fn not_found(State(_): State<ConsoleState>) -> Refusal {
    Refusal::NotFound
}

/// The notice after a form was taken, from a fixed vocabulary: addresses carry only its key.
#[derive(Debug, Clone, Default, serde::Deserialize)]
pub(super) struct Done {
    #[serde(default)]
    done: String,
}

impl Done {
    /// The words for the key; nothing for an unknown one.
    pub(super) fn words(&self) -> &'static str {
        match self.done.as_str() {
            "approved" => "Approved. It is on its way.",
            "approved-half" => "Your approval is recorded. The other person's is still needed.",
            "edited" => {
                "Changed. It waits for its approval as it stands here; the agent's proposal ended."
            }
            "tested" => "Recorded.",
            "rejected" => "Rejected. The agent will be told that a person said no.",
            "requeued" => "Back in the queue.",
            "abandoned" => "Given up.",
            "resolved" => "Recorded what you found in the EHR.",
            "attested" => "Your attestation is recorded.",
            "declined" => "Declined. It was given up, and the patient's other changes go on.",
            "released" => "Let go on where it was.",
            "dropped" => "Rejected. It will not be sent.",
            "looked-at" => "Recorded what you found.",
            "restored" => "The row goes by what it says again.",
            "switched" => "The switch was moved.",
            "enrolled" => "Your second factor is set up. You are ready.",
            "claimed" => "You have it in hand.",
            "let-go" => "Let go. Whoever is first decides it.",
            "taken-over" => "You took it over.",
            "handed-over" => "Handed over.",
            "passkey-added" => "The passkey is set up.",
            "cover-set" => "Said who covers. What is handed over goes there while it lasts.",
            "cover-ended" => "Nobody covers any more.",
            "passkey-removed" => "The passkey is removed. It opens nothing here any more.",
            _ => "",
        }
    }
}
