//! Exceptions from the matrix: the list of what waits, and one of them, to ask for, grant, decline, use or look at
//! afterwards. The list names ids, agents and classes and nothing about patients.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use chaperone_core::exception::ExceptionFinding;
use chaperone_core::ids::WritebackId;
use chaperone_core::phi::ExposedFor;
use chaperone_engine::exception::{
    ExceptionFailed, ExceptionRow, ExceptionStage, ExceptionTurn, ExceptionView,
};
use chaperone_engine::people::{StepUpFor, StepUpRefused};
use chaperone_engine::views::ViewFailed;
use chaperone_engine::views::review::PatientShown;

use super::ConsoleState;
use super::page::{Chrome, Here, render, render_as};
use super::phrases::{self, Moment};
use super::refusal::Refusal;
use super::review::id_of;
use super::session::{Person, Submitted};
use super::setup::capital;

#[derive(Template)]
#[template(path = "exceptions.html")]
pub(super) struct ExceptionsPage {
    pub(super) chrome: Chrome,
    pub(super) open: Vec<ListRow>,
    pub(super) closed: Vec<ListRow>,
}

/// One exception in a list.
pub(super) struct ListRow {
    pub(super) id: String,
    pub(super) agent: String,
    pub(super) intent: String,
    pub(super) class: String,
    pub(super) class_css: String,
    pub(super) requested: Moment,
    pub(super) words: String,
    pub(super) css: &'static str,
}

#[derive(Template)]
#[template(path = "exception.html")]
pub(super) struct ExceptionPage {
    pub(super) chrome: Chrome,
    pub(super) id: String,
    pub(super) problem: String,
    pub(super) row: Option<ListRow>,
    pub(super) reason: String,
    pub(super) not_possible: String,
    pub(super) words: String,
    pub(super) patient: String,
    pub(super) used_by: String,
    pub(super) binding: String,
    pub(super) binding_short: String,
    pub(super) granters: String,
    pub(super) reviewers: String,
    pub(super) can_request: bool,
    pub(super) can_grant: bool,
    pub(super) can_decline: bool,
    pub(super) can_use: bool,
    pub(super) can_review: bool,
    pub(super) typed: String,
}

pub(super) async fn list(
    State(state): State<ConsoleState>,
    person: Person,
) -> Result<Response, Refusal> {
    let (open, closed) = state
        .engine
        .exceptions(&person.human)
        .await
        .map_err(refused)?;
    let now = state.engine.now();
    let rows = |rows: Vec<ExceptionRow>| rows.iter().map(|row| list_row(row, now)).collect();
    Ok(render(&ExceptionsPage {
        chrome: Chrome::of(&state, &person, "Exceptions", Here::Exceptions).await?,
        open: rows(open),
        closed: rows(closed),
    }))
}

pub(super) async fn show(
    State(state): State<ConsoleState>,
    person: Person,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let again = (String::new(), String::new());
    page(&state, &person, id_of(&id)?, again, StatusCode::OK).await
}

pub(super) async fn request(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let id = id_of(&id)?;
    let reason = fields.one("reason")?;
    let done = state
        .engine
        .request_exception(&person.human, id, reason)
        .await;
    done_or_again(&state, &person, id, done.map(|_| ()), reason).await
}

/// Grants it, with a code for exactly this.
pub(super) async fn grant(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let id = id_of(&id)?;
    let binding = fields.one("binding")?;
    let binding = binding
        .parse()
        .map_err(|_| Refusal::BadRequest("The form names no exception."))?;
    let step = match state
        .engine
        .step_up_begin(&person.human, StepUpFor::Matter, binding)
        .await
    {
        Ok(step) => step,
        Err(failed) => return no_factor(&state, &person, id, failed).await,
    };
    let code = fields.one("code")?.trim();
    if let Err(failed) = state.engine.step_up_verify(&person.human, step, code).await {
        return no_factor(&state, &person, id, failed).await;
    }
    let done = state
        .engine
        .grant_exception(&person.human, id, binding, step)
        .await;
    done_or_again(&state, &person, id, done.map(|_| ()), "").await
}

pub(super) async fn decline(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let id = id_of(&id)?;
    let reason = fields.one("reason")?;
    let done = state
        .engine
        .decline_exception(&person.human, id, reason)
        .await;
    done_or_again(&state, &person, id, done.map(|_| ()), reason).await
}

/// Uses it: leads to the write-back that now waits for its two people.
pub(super) async fn spend(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let person = form.person;
    let id = id_of(&id)?;
    match state.engine.use_exception(&person.human, id).await {
        Ok(row) => Ok(Redirect::to(&format!("/console/writebacks/{}", row.id)).into_response()),
        Err(failed) => done_or_again(&state, &person, id, Err(failed), "").await,
    }
}

pub(super) async fn review(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let id = id_of(&id)?;
    let finding = ExceptionFinding::parse(fields.one("finding")?)
        .ok_or(Refusal::BadRequest("The form names no finding."))?;
    let note = fields.one("note")?;
    let done = state
        .engine
        .review_exception(&person.human, id, finding, note)
        .await;
    done_or_again(&state, &person, id, done.map(|_| ()), note).await
}

async fn done_or_again(
    state: &ConsoleState,
    person: &Person,
    id: WritebackId,
    done: Result<(), ExceptionFailed>,
    typed: &str,
) -> Result<Response, Refusal> {
    let failed = match done {
        Ok(()) => return Ok(Redirect::to(&format!("/console/exceptions/{id}")).into_response()),
        Err(failed) => failed,
    };
    let status = match &failed {
        ExceptionFailed::NotPermitted
        | ExceptionFailed::SamePerson
        | ExceptionFailed::NotYours
        | ExceptionFailed::StepUp => StatusCode::FORBIDDEN,
        ExceptionFailed::ReasonUnfit | ExceptionFailed::NotPossible(_) => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        ExceptionFailed::AskedAlready
        | ExceptionFailed::TeamUnknown
        | ExceptionFailed::NotNow
        | ExceptionFailed::Changed(_)
        | ExceptionFailed::Conflict => StatusCode::CONFLICT,
        _ => return Err(refused(failed)),
    };
    let again = (capital(&failed.to_string()), typed.to_owned());
    page(state, person, id, again, status).await
}

async fn no_factor(
    state: &ConsoleState,
    person: &Person,
    id: WritebackId,
    failed: StepUpRefused,
) -> Result<Response, Refusal> {
    let status = match &failed {
        StepUpRefused::NotEnrolled => return Err(Refusal::EnrolFirst),
        StepUpRefused::Wait { .. } => StatusCode::TOO_MANY_REQUESTS,
        StepUpRefused::CodeRefused { .. } | StepUpRefused::Again | StepUpRefused::Gone => {
            StatusCode::FORBIDDEN
        }
        _ => {
            tracing::error!(error = %failed, "a second factor could not be checked");
            return Err(Refusal::Internal);
        }
    };
    let again = (capital(&failed.to_string()), String::new());
    page(state, person, id, again, status).await
}

async fn page(
    state: &ConsoleState,
    person: &Person,
    id: WritebackId,
    (problem, typed): (String, String),
    status: StatusCode,
) -> Result<Response, Refusal> {
    let view = state
        .engine
        .exception(&person.human, id)
        .await
        .map_err(refused)?;
    let ExceptionView {
        case,
        not_possible,
        reason,
        turn,
        granters,
        reviewers,
        now,
    } = view;
    // What it is about, for whoever may open the write-back that was refused.
    let (words, patient) = match state.engine.review(&person.human, id).await {
        Ok(review) => match review.content {
            Some(content) => {
                let content = content.into_exposed(ExposedFor::Person);
                let patient = match &content.patient {
                    PatientShown::Known(header) => {
                        let header = header.expose(ExposedFor::Person);
                        format!(
                            "{}, born {} ({})",
                            header.name, header.birth_date, header.age
                        )
                    }
                    PatientShown::NoPatient => String::new(),
                    PatientShown::Unavailable => {
                        "The patient cannot be shown, because the EHR does not answer.".to_owned()
                    }
                };
                (content.words.into_exposed(ExposedFor::Person), patient)
            }
            None => (String::new(), String::new()),
        },
        Err(ViewFailed::Missing | ViewFailed::NotPermitted) => (String::new(), String::new()),
        Err(failed) => return Err(failed.into()),
    };
    let binding = case.as_ref().map(|case| case.binding.to_string());
    let binding = binding.unwrap_or_default();
    let used_by = case.as_ref().and_then(|case| match case.stage {
        ExceptionStage::Used { by, .. } | ExceptionStage::Reviewed { by, .. } => Some(by),
        _ => None,
    });
    let row = case.map(|case| {
        let overdue =
            matches!(case.stage, ExceptionStage::Used { review_by, .. } if review_by <= now);
        list_row(&ExceptionRow { case, overdue }, now)
    });
    let page = ExceptionPage {
        chrome: Chrome::of(state, person, "Exception", Here::Exceptions).await?,
        id: id.to_string(),
        problem,
        row,
        reason: reason
            .map(|reason| reason.into_exposed(ExposedFor::Person))
            .unwrap_or_default(),
        not_possible: not_possible.map(|why| capital(&why)).unwrap_or_default(),
        words,
        patient,
        used_by: used_by.map(|by| by.to_string()).unwrap_or_default(),
        binding_short: binding.chars().take(12).collect(),
        binding,
        granters: phrases::roles(&granters),
        reviewers: phrases::roles(&reviewers),
        can_request: turn == ExceptionTurn::Request,
        can_grant: turn == ExceptionTurn::Grant,
        can_decline: matches!(turn, ExceptionTurn::Grant | ExceptionTurn::Decline),
        can_use: turn == ExceptionTurn::Use,
        can_review: turn == ExceptionTurn::Review,
        typed,
    };
    Ok(render_as(status, &page))
}

fn refused(failed: ExceptionFailed) -> Refusal {
    match failed {
        ExceptionFailed::NotPermitted => ViewFailed::NotPermitted.into(),
        ExceptionFailed::Missing => Refusal::NotFound,
        failed => {
            tracing::error!(error = %failed, "an exception could not be looked at or moved");
            Refusal::Unavailable("This could not be done, and nothing happened. Try again.")
        }
    }
}

fn list_row(row: &ExceptionRow, now: chaperone_core::Timestamp) -> ListRow {
    let case = &row.case;
    let (words, css) = match &case.stage {
        ExceptionStage::Requested { until } => (
            format!("waits to be granted, {}", phrases::left(*until, now).words),
            "warn",
        ),
        ExceptionStage::Granted { until, .. } => (
            format!("granted; can be used, {}", phrases::left(*until, now).words),
            "warn",
        ),
        ExceptionStage::Used { .. } if row.overdue => {
            ("used; overdue to be looked at".to_owned(), "bad")
        }
        ExceptionStage::Used { review_by, .. } => (
            format!(
                "used; to be looked at, {}",
                phrases::left(*review_by, now).words
            ),
            "warn",
        ),
        ExceptionStage::Reviewed { finding, .. } => match finding {
            ExceptionFinding::Justified => ("looked at: justified".to_owned(), "good"),
            ExceptionFinding::ChangeTheMatrix => (
                "looked at: justified; the matrix should have a row".to_owned(),
                "good",
            ),
            ExceptionFinding::NotJustified => ("looked at: not justified".to_owned(), "bad"),
        },
        ExceptionStage::Declined => ("declined".to_owned(), "quiet"),
        ExceptionStage::Expired { granted: true } => ("ran out unused".to_owned(), "quiet"),
        ExceptionStage::Expired { granted: false } => ("not granted in time".to_owned(), "quiet"),
    };
    ListRow {
        id: case.of.to_string(),
        agent: case.agent.to_string(),
        intent: case.intent.to_string(),
        class: case.class.to_string(),
        class_css: phrases::class_css(case.class),
        requested: phrases::ago(case.requested, now),
        words,
        css,
    }
}
