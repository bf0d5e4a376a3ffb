//! Health: EHR, queue, what waits for a person, ledger.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use chaperone_core::ports::{EhrReadFailed, Environment, WorkKind, WorkState};
use chaperone_engine::views::WritebackRow;
use chaperone_engine::views::timeline::{needed_words, void_words};

use super::ConsoleState;
use super::page::{Chrome, Here, render};
use super::phrases::{self, Moment};
use super::refusal::Refusal;
use super::session::Person;

#[derive(Template)]
#[template(path = "health.html")]
pub(super) struct HealthPage {
    pub(super) chrome: Chrome,
    pub(super) ehr_name: String,
    pub(super) ehr_purpose: &'static str,
    pub(super) ehr_words: &'static str,
    /// Why nothing is sent to the EHR, if nothing is.
    pub(super) write_back: Option<String>,
    /// What is held back because the EHR fails or asked to be left alone, a line for each kind.
    pub(super) sending: Vec<String>,
    pub(super) ehr_ok: bool,
    pub(super) node: String,
    pub(super) awaiting: u64,
    pub(super) ready: u64,
    pub(super) oldest: Option<Moment>,
    pub(super) ledger_size: u64,
    pub(super) ledger_lag: u64,
    pub(super) checkpoint_at: Option<Moment>,
    pub(super) waiting: Vec<WaitingList>,
    pub(super) work: Vec<WorkRow>,
}

/// A list of write-backs that wait for a person.
pub(super) struct WaitingList {
    pub(super) id: &'static str,
    pub(super) heading: &'static str,
    pub(super) help: &'static str,
    pub(super) rows: Vec<WaitingRow>,
}

/// One of them.
pub(super) struct WaitingRow {
    pub(super) id: String,
    pub(super) what: String,
    pub(super) class: String,
    pub(super) class_css: String,
    pub(super) why: String,
    pub(super) since: Moment,
}

/// One piece of work.
pub(super) struct WorkRow {
    pub(super) kind: &'static str,
    pub(super) state: &'static str,
    pub(super) writeback: String,
    pub(super) due: Moment,
}

pub(super) async fn show(
    State(state): State<ConsoleState>,
    person: Person,
) -> Result<Response, Refusal> {
    let view = state.engine.health(&person.human).await?;
    let now = view.now;
    let rows = |rows: &[WritebackRow]| rows.iter().map(|row| WaitingRow::of(row, now)).collect();
    let lists = [
        (
            "dead",
            "Not deliverable",
            "Tried often enough. Requeue with a reason, or abandon.",
            rows(&view.dead_letters),
        ),
        (
            "unknown",
            "Outcome unknown",
            "Look in the EHR and say whether it is there. Nothing is sent again before that.",
            rows(&view.unknown),
        ),
        (
            "enter",
            "To be entered by a person",
            "This EHR takes no such write. Enter it there, then attest.",
            rows(&view.to_enter),
        ),
        (
            "void",
            "Void lately",
            "Agreed to, and then no longer valid, so it was not sent. Whoever approved it sees it in the inbox.",
            rows(&view.void),
        ),
    ];
    let page = HealthPage {
        chrome: Chrome::of(&state, &person, "Health", Here::Health).await?,
        ehr_name: view.ehr.connection.to_string(),
        ehr_purpose: match view.ehr.environment {
            Environment::Sandbox => "sandbox, synthetic patients",
            Environment::Test => "test system, synthetic patients",
            Environment::Production => "production",
        },
        ehr_words: match view.ehr.now {
            Ok(()) => "answers",
            Err(EhrReadFailed::Unauthorized) => "refuses our authority",
            Err(EhrReadFailed::RateLimited) => "asks to slow down",
            Err(EhrReadFailed::Unsupported | EhrReadFailed::NotFound) => {
                "answers, without this search"
            }
            Err(EhrReadFailed::Unavailable) => "does not answer",
            Err(EhrReadFailed::Unusable) => "answers what cannot be used",
        },
        write_back: view.ehr.write_back.clone().err(),
        sending: view
            .ehr
            .sending
            .iter()
            .filter_map(|sending| phrases::held_back(*sending, now))
            .collect(),
        ehr_ok: matches!(
            view.ehr.now,
            Ok(()) | Err(EhrReadFailed::Unsupported | EhrReadFailed::NotFound)
        ),
        node: view.node.clone(),
        awaiting: view.awaiting,
        ready: view.ready,
        oldest: view
            .oldest_due
            .filter(|due| *due <= now)
            .map(|due| phrases::ago(due, now)),
        ledger_size: view.ledger_size,
        ledger_lag: view.ledger_lag(),
        checkpoint_at: view.checkpoint_at.map(|at| phrases::ago(at, now)),
        waiting: lists
            .into_iter()
            .map(|(id, heading, help, rows)| WaitingList {
                id,
                heading,
                help,
                rows,
            })
            .collect(),
        work: view
            .work
            .iter()
            .map(|work| WorkRow {
                kind: match work.kind {
                    WorkKind::Deliver => "deliver",
                    WorkKind::Reconcile => "find out the outcome",
                    WorkKind::Expire => "end when time is up",
                },
                state: match work.state {
                    WorkState::Waiting => "waiting",
                    WorkState::Claimed => "being done",
                    WorkState::Held => "waits for a person",
                },
                writeback: work.writeback.map(|id| id.to_string()).unwrap_or_default(),
                due: phrases::ago(work.due, now),
            })
            .collect(),
    };
    Ok(render(&page))
}

impl WaitingRow {
    fn of(row: &WritebackRow, now: chaperone_core::Timestamp) -> Self {
        let resource = row
            .resource
            .as_ref()
            .map_or_else(|| row.tool.to_string(), ToString::to_string);
        Self {
            id: row.id.to_string(),
            what: format!("{resource}, by {} for {}", row.agent, row.intent),
            class: row.class.map(|class| class.to_string()).unwrap_or_default(),
            class_css: row.class.map(phrases::class_css).unwrap_or_default(),
            why: row
                .human_needed
                .map(|reason| needed_words(reason).to_owned())
                .or_else(|| row.void.map(|reason| void_words(reason).to_owned()))
                .unwrap_or_else(|| format!("{} attempts", row.attempts)),
            since: phrases::ago(row.moved, now),
        }
    }
}
