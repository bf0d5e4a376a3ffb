//! The timeline of any object: a write-back, an envelope, a grant, an account, the switches.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use chaperone_core::event::StreamId;

use super::ConsoleState;
use super::page::{Chrome, Here, render};
use super::refusal::Refusal;
use super::review::TimelineRow;
use super::session::Person;

#[derive(Template)]
#[template(path = "stream.html")]
pub(super) struct StreamPage {
    pub(super) chrome: Chrome,
    pub(super) heading: &'static str,
    pub(super) name: String,
    pub(super) link: String,
    pub(super) timeline: Vec<TimelineRow>,
    pub(super) left_off: usize,
}

/// Most lines shown, the newest ones.
const LINES_MAX: usize = 200;

pub(super) async fn show(
    State(state): State<ConsoleState>,
    person: Person,
    Path((kind, id)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    page(&state, &person, format!("{kind}/{id}")).await
}

/// Streams of which there is one.
pub(super) async fn show_single(
    State(state): State<ConsoleState>,
    person: Person,
    Path(kind): Path<String>,
) -> Result<Response, Refusal> {
    page(&state, &person, kind).await
}

async fn page(state: &ConsoleState, person: &Person, name: String) -> Result<Response, Refusal> {
    let stream = StreamId::try_from(name.clone()).map_err(|_| Refusal::NotFound)?;
    let timeline = state.engine.timeline(&person.human, &stream).await?;
    let now = state.engine.now();
    let (heading, link) = match &stream {
        StreamId::Writeback(id) => ("Write-back", format!("/console/writebacks/{id}")),
        StreamId::Grant(_) => ("Context grant", String::new()),
        StreamId::Envelope(_) => ("Envelope", String::new()),
        StreamId::Account(_) => ("Account", String::new()),
        StreamId::Modes => ("Switches", "/console/modes".to_owned()),
        StreamId::Refusals => ("Refusals outside of envelopes", String::new()),
        StreamId::Retention => ("Retention", "/console/retention".to_owned()),
        StreamId::Tenant => ("The organisation", String::new()),
        StreamId::Keys => ("Keys", String::new()),
        StreamId::Oversight => ("Oversight", "/console/oversight".to_owned()),
        StreamId::Cohort(id) => ("Cohort job", format!("/console/cohorts/{id}")),
        StreamId::Undo(id) => ("Undo run", format!("/console/undo/{id}")),
    };
    let left_off = timeline.len().saturating_sub(LINES_MAX);
    let page = StreamPage {
        chrome: Chrome::of(state, person, "Timeline", Here::Ledger).await?,
        heading,
        name,
        link,
        timeline: timeline
            .iter()
            .skip(left_off)
            .map(|entry| TimelineRow::of(entry, now))
            .collect(),
        left_off,
    };
    Ok(render(&page))
}
