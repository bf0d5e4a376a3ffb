//! What decision support says, as part of the review: cards as plain words, what was not heard, and the form by which
//! somebody goes on over a critical card.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use chaperone_core::ids::{OverrideReason, WritebackId};
use chaperone_engine::decision_support::{Indicator, OverCard};

use super::ConsoleState;
use super::decide::not_taken;
use super::phrases::{self, Moment};
use super::refusal::Refusal;
use super::review::{Again, id_of};
use super::session::{Person, Submitted};
use super::setup::capital;

/// What the page shows.
pub(super) struct SupportRows {
    pub(super) cards: Vec<CardRow>,
    pub(super) heard: Vec<String>,
    pub(super) unheard: Vec<(String, &'static str)>,
    pub(super) stands: String,
    pub(super) asked: Moment,
    /// Entries of the record that services were not told of.
    pub(super) left_out: u32,
    /// Code and words of why somebody may go on.
    pub(super) reasons: Vec<(String, String)>,
}

/// One card.
pub(super) struct CardRow {
    pub(super) id: String,
    pub(super) service: String,
    pub(super) css: &'static str,
    pub(super) grade: &'static str,
    pub(super) summary: String,
    pub(super) detail: String,
    pub(super) source: String,
    pub(super) suggests: bool,
    pub(super) overridden: String,
    pub(super) is_open: bool,
}

/// Asks, where it is time to; nothing where nobody is asked about this.
pub(super) async fn support_rows(
    state: &ConsoleState,
    person: &Person,
    id: WritebackId,
) -> Result<Option<SupportRows>, Refusal> {
    let view = state.engine.decision_support(&person.human, id).await?;
    let Some(view) = view else {
        return Ok(None);
    };
    let cards = view.cards.into_iter().map(|view| {
        let (grade, css) = match view.card.indicator {
            Indicator::Critical => ("critical", "bad"),
            Indicator::Warning => ("warning", "warn"),
            Indicator::Info => ("for information", "quiet"),
        };
        CardRow {
            id: view.card.id.to_string(),
            service: view.card.service,
            css,
            grade,
            summary: view.card.summary,
            detail: view.card.detail,
            source: view.card.source,
            suggests: view.card.suggests,
            is_open: view.card.indicator == Indicator::Critical && view.overridden.is_none(),
            overridden: view.overridden.unwrap_or_default(),
        }
    });
    let choices = state.engine.override_choices().iter();
    Ok(Some(SupportRows {
        cards: cards.collect(),
        heard: view.heard,
        left_out: view.left_out,
        unheard: view.unheard,
        stands: view
            .stands
            .map(|stands| capital(&stands.to_string()))
            .unwrap_or_default(),
        asked: phrases::ago(view.asked, state.engine.now()),
        reasons: choices
            .map(|it| (it.code.to_string(), it.words.clone()))
            .collect(),
    }))
}

/// Goes on over a critical card, with a reason of the list.
pub(super) async fn submit(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let id = id_of(&id)?;
    let bad = |_| Refusal::BadRequest("The form does not name a card of this order.");
    let order = fields.one("digest")?.parse().map_err(bad)?;
    let card = fields.one("card")?.parse().map_err(bad)?;
    let reason = OverrideReason::new(fields.one("reason")?)
        .map_err(|_| Refusal::BadRequest("The form names a reason that there is not."))?;
    let over = OverCard {
        order,
        card,
        reason,
    };
    match state.engine.override_card(&person.human, id, over).await {
        Ok(()) => Ok(Redirect::to(&format!("/console/writebacks/{id}")).into_response()),
        Err(failed) => not_taken(&state, &person, id, failed, Again::default()).await,
    }
}
