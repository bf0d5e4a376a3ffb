//! One ledger entry: its stored bytes, and the proof that the signed tree holds them.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use chaperone_engine::views::timeline::TimelineEntry;

use super::ConsoleState;
use super::page::{Chrome, Here, render};
use super::phrases;
use super::refusal::Refusal;
use super::review::TimelineRow;
use super::session::Person;

#[derive(Template)]
#[template(path = "entry.html")]
pub(super) struct EntryPage {
    pub(super) chrome: Chrome,
    pub(super) line: TimelineRow,
    /// Empty where it is kept back.
    pub(super) stream: String,
    pub(super) leaf: String,
    pub(super) hash: String,
    pub(super) proof: Option<ProofRows>,
    pub(super) previous: Option<u64>,
}

/// The proof.
pub(super) struct ProofRows {
    pub(super) holds: bool,
    pub(super) hashes: Vec<String>,
    pub(super) size: u64,
    pub(super) root: String,
    pub(super) note: String,
    pub(super) at: phrases::Moment,
}

pub(super) async fn show(
    State(state): State<ConsoleState>,
    person: Person,
    Path(seq): Path<String>,
) -> Result<Response, Refusal> {
    let seq: u64 = seq.parse().map_err(|_| Refusal::NotFound)?;
    let view = state.engine.entry(&person.human, seq).await?;
    let now = state.engine.now();
    let page = EntryPage {
        chrome: Chrome::of(&state, &person, "Ledger entry", Here::Ledger).await?,
        line: TimelineRow::of(&view.entry, now),
        stream: stream_name(&view.entry),
        leaf: pretty(&view.leaf),
        hash: view.hash.to_string(),
        proof: view.proof.map(|proof| ProofRows {
            holds: proof.holds,
            hashes: proof.hashes.iter().map(ToString::to_string).collect(),
            size: proof.checkpoint.size,
            root: proof.checkpoint.root.to_string(),
            note: proof.checkpoint.note,
            at: phrases::ago(proof.checkpoint.at, now),
        }),
        previous: seq.checked_sub(1),
    };
    Ok(render(&page))
}

/// The stream of an entry; empty where it is kept back.
pub(super) fn stream_name(entry: &TimelineEntry) -> String {
    let stream = entry.stream.as_ref();
    stream.map(ToString::to_string).unwrap_or_default()
}

/// Laid out for reading; the hash is over the stored bytes, which have no layout.
fn pretty(leaf: &str) -> String {
    serde_json::from_str::<serde_json::Value>(leaf)
        .and_then(|value| serde_json::to_string_pretty(&value))
        .unwrap_or_else(|_| leaf.to_owned())
}
