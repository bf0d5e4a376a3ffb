//! Emergency access to one patient's record: the form that breaks the glass, and what is then shown.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use chaperone_core::ids::PatientToken;
use chaperone_engine::break_glass::{BREAK_GLASS_S, BreakGlassFailed, may_break_glass};
use chaperone_engine::views::ViewFailed;

use super::ConsoleState;
use super::page::{Chrome, Here, render_as};
use super::phrases::{self, Moment};
use super::refusal::Refusal;
use super::session::{Person, Submitted};
use super::setup::capital;

#[derive(Template)]
#[template(path = "emergency.html")]
pub(super) struct EmergencyPage {
    pub(super) chrome: Chrome,
    pub(super) token: String,
    pub(super) problem: String,
    pub(super) reason: String,
    pub(super) may_break: bool,
    pub(super) minutes: i64,
    pub(super) open: Option<OpenRecord>,
}

/// What a broken glass shows.
pub(super) struct OpenRecord {
    pub(super) until: Moment,
    pub(super) notices: Vec<String>,
    pub(super) lists: Vec<WordsList>,
    pub(super) left_out: usize,
}

/// One list of the record.
pub(super) struct WordsList {
    pub(super) name: &'static str,
    pub(super) failed: bool,
    pub(super) words: Vec<String>,
}

fn token_of(text: &str) -> Result<PatientToken, Refusal> {
    text.parse().map_err(|_| Refusal::NotFound)
}

pub(super) async fn show(
    State(state): State<ConsoleState>,
    person: Person,
    Path(token): Path<String>,
) -> Result<Response, Refusal> {
    let token = token_of(&token)?;
    page(
        &state,
        &person,
        token,
        (String::new(), String::new()),
        StatusCode::OK,
    )
    .await
}

async fn page(
    state: &ConsoleState,
    person: &Person,
    token: PatientToken,
    (problem, reason): (String, String),
    status: StatusCode,
) -> Result<Response, Refusal> {
    let now = state.engine.now();
    let open = match state.engine.emergency_record(&person.human, token).await {
        Ok(record) => Some(OpenRecord {
            until: phrases::left(record.until, now),
            notices: record.notices,
            lists: record
                .lists
                .into_iter()
                .map(|(name, words)| WordsList {
                    name,
                    failed: words.is_none(),
                    words: words.unwrap_or_default(),
                })
                .collect(),
            left_out: record.left_out,
        }),
        // No glass is broken, or not any more.
        Err(ViewFailed::NotPermitted) => None,
        Err(failed) => return Err(failed.into()),
    };
    let page = EmergencyPage {
        chrome: Chrome::of(state, person, "Emergency access", Here::Patients).await?,
        token: token.to_string(),
        problem,
        reason,
        may_break: may_break_glass(&person.human),
        minutes: BREAK_GLASS_S / 60,
        open,
    };
    Ok(render_as(status, &page))
}

pub(super) async fn start(
    State(state): State<ConsoleState>,
    Path(token): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let token = token_of(&token)?;
    let reason = fields.one("reason")?.to_owned();
    let failed = match state
        .engine
        .break_glass(&person.human, token, &reason)
        .await
    {
        Ok(_) => return Ok(back(token)),
        Err(failed) => failed,
    };
    let status = match &failed {
        BreakGlassFailed::NotPermitted => StatusCode::FORBIDDEN,
        BreakGlassFailed::ReasonUnfit => StatusCode::UNPROCESSABLE_ENTITY,
        BreakGlassFailed::Missing => return Err(Refusal::NotFound),
        BreakGlassFailed::Keys(_) | BreakGlassFailed::Store(_) | BreakGlassFailed::Commit(_) => {
            tracing::error!(error = %failed, "an emergency access could not be recorded");
            return Err(Refusal::Unavailable(
                "The emergency access could not be recorded, so nothing was opened.",
            ));
        }
    };
    let problem = capital(&failed.to_string());
    page(&state, &person, token, (problem, reason), status).await
}

pub(super) async fn end(
    State(state): State<ConsoleState>,
    Path(token): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let token = token_of(&token)?;
    if let Err(failed) = state.engine.mend_glass(&form.person.human, token).await {
        tracing::error!(error = %failed, "the end of an emergency access could not be recorded");
        return Err(Refusal::Unavailable(
            "The end could not be recorded; the access ends by itself in time.",
        ));
    }
    Ok(back(token))
}

fn back(token: PatientToken) -> Response {
    Redirect::to(&format!("/console/patients/{token}/emergency")).into_response()
}
