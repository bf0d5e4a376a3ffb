//! How long things are kept, what is held back, and when it was swept last: for the privacy officer. Holds are placed
//! and released by command, with a second factor (`chaperone retention hold`); this page lists them.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use chaperone_core::ports::StoreFailed;
use chaperone_engine::retention::holds::may_hold;
use chaperone_engine::views::ViewFailed;

use super::ConsoleState;
use super::page::{Chrome, Here, render};
use super::phrases::{self, Moment};
use super::refusal::Refusal;
use super::session::Person;

#[derive(Template)]
#[template(path = "retention.html")]
pub(super) struct RetentionPage {
    pub(super) chrome: Chrome,
    pub(super) holds: Vec<HoldRow>,
    pub(super) rules: Vec<RuleRow>,
    pub(super) stored: Vec<StoredRow>,
    pub(super) last: Option<Moment>,
    pub(super) went: u64,
    pub(super) late: bool,
    pub(super) by_hand: Vec<(String, String)>,
    pub(super) to_shred: Vec<String>,
}

/// One hold.
pub(super) struct HoldRow {
    pub(super) id: String,
    pub(super) on: String,
    pub(super) by: String,
    pub(super) since: Moment,
    pub(super) reason: String,
}

/// One rule.
pub(super) struct RuleRow {
    pub(super) artefact: String,
    pub(super) words: String,
    pub(super) law: String,
    pub(super) how: String,
}

/// What is stored of a class.
pub(super) struct StoredRow {
    pub(super) artefact: String,
    pub(super) count: u64,
    pub(super) oldest: Moment,
}

fn failed(failed: StoreFailed) -> Refusal {
    ViewFailed::from(failed).into()
}

pub(super) async fn show(
    State(state): State<ConsoleState>,
    person: Person,
) -> Result<Response, Refusal> {
    if !may_hold(&person.human) {
        return Err(ViewFailed::NotPermitted.into());
    }
    let status = state.engine.retention_status().await.map_err(failed)?;
    let now = state.engine.now();
    let mut holds = Vec::with_capacity(status.holds.len());
    for hold in &status.holds {
        let reason = state.engine.hold_reason(hold).await;
        holds.push(HoldRow {
            id: hold.id.to_string(),
            on: match hold.patient {
                Some(patient) => patient.to_string(),
                None => "everything".to_owned(),
            },
            by: hold.by.to_string(),
            since: phrases::ago(hold.at, now),
            reason: reason.unwrap_or_else(|| "(cannot be opened)".to_owned()),
        });
    }
    Ok(render(&RetentionPage {
        chrome: Chrome::of(&state, &person, "Retention", Here::Retention).await?,
        holds,
        rules: status
            .rules
            .iter()
            .map(|standing| RuleRow {
                artefact: standing.rule.artefact.clone(),
                words: standing.rule.words(),
                law: standing.law.clone().unwrap_or_default(),
                how: standing.rule.how.clone().unwrap_or_default(),
            })
            .collect(),
        stored: status
            .stored
            .iter()
            .map(|stored| StoredRow {
                artefact: stored.artefact.clone(),
                count: stored.count,
                oldest: phrases::ago(stored.oldest, now),
            })
            .collect(),
        went: status
            .last_sweep
            .as_ref()
            .map_or(0, |last| last.swept.total()),
        last: status
            .last_sweep
            .as_ref()
            .map(|last| phrases::ago(last.at, now)),
        late: status.is_sweep_late,
        by_hand: status.by_hand,
        to_shred: status.to_shred.iter().map(ToString::to_string).collect(),
    }))
}
