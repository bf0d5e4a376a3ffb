//! The ledger: entries, checkpoints, anchors, and the check of everything.

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use chaperone_engine::ledger::LedgerFailed;
use chaperone_engine::views::ledger_pages::CONSOLE_VERIFY_MAX;

use super::ConsoleState;
use super::entry::stream_name;
use super::page::{Chrome, Here, render_as};
use super::phrases;
use super::refusal::Refusal;
use super::review::TimelineRow;
use super::session::{Person, Submitted};

#[derive(Template)]
#[template(path = "ledger.html")]
pub(super) struct LedgerPage {
    pub(super) chrome: Chrome,
    pub(super) entries: Vec<EntryRow>,
    pub(super) size: u64,
    pub(super) checkpoint: Option<CheckpointRows>,
    pub(super) anchored: String,
    pub(super) anchor_lags: bool,
    pub(super) key: String,
    pub(super) newer: String,
    pub(super) older: String,
    pub(super) report: Option<ReportRows>,
}

/// One entry of the list.
pub(super) struct EntryRow {
    pub(super) line: TimelineRow,
    /// Empty where it is kept back.
    pub(super) stream: String,
}

/// The newest checkpoint.
pub(super) struct CheckpointRows {
    pub(super) size: u64,
    pub(super) root: String,
    pub(super) at: phrases::Moment,
    pub(super) lag: u64,
}

/// What the check found.
pub(super) struct ReportRows {
    pub(super) sound: bool,
    pub(super) entries: u64,
    pub(super) integrity: String,
    pub(super) completeness: String,
    pub(super) problems: Vec<String>,
    pub(super) remarks: Vec<String>,
}

#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Window {
    #[serde(default)]
    before: Option<u64>,
    #[serde(default)]
    entry: String,
}

pub(super) async fn show(
    State(state): State<ConsoleState>,
    person: Person,
    window: Result<Query<Window>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(window) =
        window.map_err(|_| Refusal::BadRequest("Entries are named by their number."))?;
    // The search box: an entry by its number.
    if let Ok(entry) = window.entry.trim().parse::<u64>() {
        return Ok(Redirect::to(&format!("/console/ledger/{entry}")).into_response());
    }
    page(&state, &person, window.before, None).await
}

pub(super) async fn verify(
    State(state): State<ConsoleState>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let report = match state.engine.ledger_verify().await {
        Ok(Some(report)) => ReportRows {
            sound: report.is_sound(),
            entries: report.entries,
            integrity: report.integrity.to_string(),
            completeness: report.completeness.to_string(),
            problems: report
                .problems
                .iter()
                .map(|problem| match problem.seq {
                    Some(seq) => format!("Entry {seq}: {}", problem.text),
                    None => problem.text.clone(),
                })
                .collect(),
            remarks: report.remarks,
        },
        Ok(None) => ReportRows {
            sound: true,
            entries: 0,
            integrity: "not checked here".to_owned(),
            completeness: "not checked here".to_owned(),
            problems: Vec::new(),
            remarks: vec![format!(
                "Above {CONSOLE_VERIFY_MAX} entries the check is made on an export: `chaperone ledger export`, then `chaperone ledger verify`."
            )],
        },
        Err(LedgerFailed::NotCovered) => {
            return Err(Refusal::Unavailable(
                "Nothing is signed yet. Try again in a moment.",
            ));
        }
        Err(failed) => {
            tracing::error!(error = %failed, "the ledger could not be checked");
            return Err(Refusal::Internal);
        }
    };
    page(&state, &form.person, None, Some(report)).await
}

async fn page(
    state: &ConsoleState,
    person: &Person,
    before: Option<u64>,
    report: Option<ReportRows>,
) -> Result<Response, Refusal> {
    let view = state.engine.ledger_page(&person.human, before).await?;
    let now = state.engine.now();
    let covered = view
        .checkpoint
        .as_ref()
        .map_or(0, |checkpoint| checkpoint.size);
    let (anchored, anchor_lags) = match &view.anchored {
        Ok(Some(size)) => (format!("{size} entries"), *size < covered),
        Ok(None) => ("none yet".to_owned(), covered > 0),
        Err(why) => (why.clone(), true),
    };
    let page = LedgerPage {
        chrome: Chrome::of(state, person, "Ledger", Here::Ledger).await?,
        entries: view
            .entries
            .iter()
            .map(|entry| EntryRow {
                line: TimelineRow::of(entry, now),
                stream: stream_name(entry),
            })
            .collect(),
        size: view.size,
        checkpoint: view.checkpoint.as_ref().map(|checkpoint| CheckpointRows {
            size: checkpoint.size,
            root: checkpoint.root.to_string(),
            at: phrases::ago(checkpoint.at, now),
            lag: view.size.saturating_sub(checkpoint.size),
        }),
        anchored,
        anchor_lags,
        key: view.key,
        newer: view
            .newer
            .map(|end| format!("/console/ledger?before={end}"))
            .unwrap_or_default(),
        older: view
            .older
            .map(|end| format!("/console/ledger?before={end}"))
            .unwrap_or_default(),
        report,
    };
    Ok(render_as(StatusCode::OK, &page))
}
