//! The second factor for one decision, a passkey or a code. What it is for is bound on the server, to the write-back
//! and the digest.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use chaperone_core::ids::{StepUpId, WritebackId};
use chaperone_core::phi::ExposedFor;
use chaperone_engine::approve::ApproveRequest;
use chaperone_engine::people::{StepUpFor, StepUpRefused};

use super::ConsoleState;
use super::decide::{approved, not_taken, override_reason_of, review_ms};
use super::page::{Chrome, Here, render_as};
use super::passkeys::{AskRows, verify};
use super::phrases;
use super::refusal::Refusal;
use super::review::{Again, id_of, page};
use super::session::{Person, Submitted};
use super::setup::capital;

#[derive(Template)]
#[template(path = "step_up.html")]
pub(super) struct StepUpPage {
    pub(super) chrome: Chrome,
    pub(super) id: String,
    pub(super) step: String,
    pub(super) words: String,
    pub(super) patient: String,
    pub(super) class: String,
    pub(super) class_css: String,
    pub(super) digest_short: String,
    pub(super) problem: String,
    pub(super) passkey: Option<AskRows>,
    pub(super) takes_codes: bool,
    /// Whether a code was just tried.
    pub(super) by_code: bool,
    pub(super) opened: i64,
    pub(super) override_reason: String,
}

#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Opened {
    #[serde(default)]
    opened: i64,
    /// Why it is approved over a warning; a code of the bundle, or empty.
    #[serde(default, rename = "override")]
    override_reason: String,
    /// Whether a code was just tried.
    #[serde(skip)]
    by_code: bool,
}

pub(super) async fn show(
    State(state): State<ConsoleState>,
    person: Person,
    Path((id, step)): Path<(String, String)>,
    Query(opened): Query<Opened>,
) -> Result<Response, Refusal> {
    let (id, step) = (id_of(&id)?, step_of(&step)?);
    form(
        &state,
        &person,
        id,
        step,
        opened,
        String::new(),
        StatusCode::OK,
    )
    .await
}

pub(super) async fn submit(
    State(state): State<ConsoleState>,
    Path((id, step)): Path<(String, String)>,
    form_sent: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form_sent;
    let (id, step) = (id_of(&id)?, step_of(&step)?);
    let opened = fields.one("opened")?;
    let override_reason = override_reason_of(fields.one("override")?)?;
    let bound = match state.engine.step_up(&person.human, step).await {
        Ok(bound) => bound,
        Err(refused) => return start_over(&state, &person, id, refused).await,
    };
    match verify(&state, &person, step, &fields).await? {
        Ok(()) => {}
        Err(
            refused @ (StepUpRefused::CodeRefused { left: 1.. }
            | StepUpRefused::PasskeyRefused(_)
            | StepUpRefused::Again),
        ) => {
            let problem = capital(&refused.to_string());
            let opened = Opened {
                opened: opened.parse().unwrap_or(0),
                override_reason: fields.one("override")?.to_owned(),
                by_code: fields.one("method")?.is_empty(),
            };
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return form(&state, &person, id, step, opened, problem, status).await;
        }
        Err(refused) => return start_over(&state, &person, id, refused).await,
    }
    let request = ApproveRequest {
        writeback: id,
        digest: bound.digest,
        step_up: Some(step),
        override_reason,
        review_ms: review_ms(&state, opened),
    };
    match state.engine.approve(&person.human, request).await {
        Ok(row) => Ok(approved(row.state, id, false)),
        Err(failed) => not_taken(&state, &person, id, failed, Again::default()).await,
    }
}

async fn form(
    state: &ConsoleState,
    person: &Person,
    id: WritebackId,
    step: StepUpId,
    opened: Opened,
    problem: String,
    status: StatusCode,
) -> Result<Response, Refusal> {
    use chaperone_engine::views::review::PatientShown;
    let bound = match state.engine.step_up(&person.human, step).await {
        Ok(bound) => bound,
        Err(refused) => return start_over(state, person, id, refused).await,
    };
    let review = state.engine.review(&person.human, id).await?;
    // The code is for this order and no other; a link put together by hand ends here.
    let is_for_this = bound.subject == (StepUpFor::Approval { writeback: id });
    if !is_for_this || review.row.digest != Some(bound.digest) {
        return Err(Refusal::NotFound);
    }
    let asked = match state.engine.step_up_challenge(&person.human, step).await {
        Ok(asked) => asked,
        Err(refused) => return start_over(state, person, id, refused).await,
    };
    let factors = state.engine.second_factors(&person.human).await?;
    let content = review.content.as_ref().ok_or(Refusal::NotFound)?;
    let content = content.expose(ExposedFor::Person);
    let digest = bound.digest.to_string();
    let page = StepUpPage {
        chrome: Chrome::of(state, person, "Second factor", Here::Inbox).await?,
        id: id.to_string(),
        step: step.to_string(),
        words: content.words.expose(ExposedFor::Person).clone(),
        patient: match &content.patient {
            PatientShown::Known(header) => {
                let header = header.expose(ExposedFor::Person);
                format!(
                    "{}, born {} ({})",
                    header.name, header.birth_date, header.age
                )
            }
            PatientShown::NoPatient => String::new(),
            PatientShown::Unavailable => {
                return Err(Refusal::Unavailable(
                    "The patient cannot be shown, because the EHR does not answer.",
                ));
            }
        },
        class: review
            .row
            .class
            .map(|class| class.to_string())
            .unwrap_or_default(),
        class_css: review.row.class.map(phrases::class_css).unwrap_or_default(),
        digest_short: digest.chars().take(12).collect(),
        problem,
        passkey: asked.map(AskRows::from),
        takes_codes: factors.app && factors.takes_codes,
        by_code: opened.by_code,
        opened: opened.opened,
        override_reason: override_reason_of(&opened.override_reason)?
            .map(|reason| reason.to_string())
            .unwrap_or_default(),
    };
    Ok(render_as(status, &page))
}

/// Back to the review, with what went wrong.
async fn start_over(
    state: &ConsoleState,
    person: &Person,
    id: WritebackId,
    refused: StepUpRefused,
) -> Result<Response, Refusal> {
    let status = match &refused {
        StepUpRefused::Gone | StepUpRefused::NotEnrolled | StepUpRefused::Again => {
            StatusCode::CONFLICT
        }
        StepUpRefused::CodeRefused { .. }
        | StepUpRefused::CodesOff
        | StepUpRefused::PasskeyRefused(_) => StatusCode::FORBIDDEN,
        StepUpRefused::Wait { .. } => StatusCode::TOO_MANY_REQUESTS,
        StepUpRefused::Vault(_) | StepUpRefused::Store(_) | StepUpRefused::Commit(_) => {
            tracing::error!(error = %refused, "a second factor could not be checked");
            return Err(Refusal::Internal);
        }
    };
    let again = Again {
        problem: capital(&refused.to_string()),
        ..Again::default()
    };
    page(state, person, id, again, status).await
}

fn step_of(text: &str) -> Result<StepUpId, Refusal> {
    text.parse().map_err(|_| Refusal::NotFound)
}
