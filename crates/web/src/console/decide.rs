//! Decisions about one write-back: approve, reject; requeue, abandon, resolve, attest, decline.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use chaperone_core::digest::Digest;
use chaperone_core::ids::{OverrideReason, WritebackId};
use chaperone_core::writeback::{Refusal as Refused, StateName};
use chaperone_engine::approve::{ApproveRequest, DecideFailed};
use chaperone_engine::people::{StepUpFor, StepUpRefused};
use chaperone_engine::views::Turn;

use super::ConsoleState;
use super::refusal::Refusal;
use super::review::{Again, id_of, page};
use super::session::{Person, Submitted};
use super::setup::capital;

/// Longest time a review counts as one, in milliseconds.
const REVIEW_MS_MAX: i64 = 24 * 3_600 * 1_000;

pub(super) async fn approve(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let id = id_of(&id)?;
    let digest = digest_of(fields.one("digest")?)?;
    let opened = fields.one("opened")?.to_owned();
    let override_reason = override_reason_of(fields.one("override")?)?;
    match state.engine.turn(&person.human, id).await? {
        // Asked for before the code is, which counts once.
        Turn::Yours {
            over_warning: true, ..
        } if override_reason.is_none() => {
            let failed = DecideFailed::Refused(Refused::OverrideReasonRequired);
            return not_taken(&state, &person, id, failed, Again::default()).await;
        }
        Turn::Yours {
            second_factor: true,
            ..
        } => {
            // Said before the factor is given, which counts once.
            if let Err(failed) = state.engine.has_read(&person.human, id, &digest).await {
                return not_taken(&state, &person, id, failed, Again::default()).await;
            }
            let support = state.engine.decision_support(&person.human, id).await?;
            if let Some(stands) = support.and_then(|support| support.stands) {
                let failed = DecideFailed::DecisionSupport(stands);
                return not_taken(&state, &person, id, failed, Again::default()).await;
            }
            return begin_step_up(&state, &person, id, digest, &opened, override_reason).await;
        }
        _ => {}
    }
    let request = ApproveRequest {
        writeback: id,
        digest,
        step_up: None,
        override_reason: override_reason.clone(),
        review_ms: review_ms(&state, &opened),
    };
    let from_list = fields.one("from")? == "inbox";
    match state.engine.approve(&person.human, request).await {
        Ok(row) => Ok(approved(row.state, id, from_list)),
        Err(failed) => {
            let again = Again {
                override_reason,
                ..Again::default()
            };
            not_taken(&state, &person, id, failed, again).await
        }
    }
}

/// The reason for approving over a warning; empty where none is asked for.
pub(super) fn override_reason_of(text: &str) -> Result<Option<OverrideReason>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let unknown = |_| Refusal::BadRequest("The form names a reason that there is not.");
    OverrideReason::new(text).map(Some).map_err(unknown)
}

async fn begin_step_up(
    state: &ConsoleState,
    person: &Person,
    id: WritebackId,
    digest: Digest,
    opened: &str,
    override_reason: Option<OverrideReason>,
) -> Result<Response, Refusal> {
    match state
        .engine
        .step_up_begin(&person.human, StepUpFor::Approval { writeback: id }, digest)
        .await
    {
        Ok(step) => {
            let opened: i64 = opened.parse().unwrap_or(0);
            let mut to = format!("/console/writebacks/{id}/step-up/{step}?opened={opened}");
            if let Some(reason) = override_reason {
                to.push_str("&override=");
                to.push_str(reason.as_str());
            }
            Ok(Redirect::to(&to).into_response())
        }
        Err(StepUpRefused::NotEnrolled) => Err(Refusal::EnrolFirst),
        Err(refused @ StepUpRefused::Wait { .. }) => {
            let again = Again {
                problem: capital(&refused.to_string()),
                ..Again::default()
            };
            page(state, person, id, again, StatusCode::TOO_MANY_REQUESTS).await
        }
        Err(failed) => {
            tracing::error!(error = %failed, "a second factor could not be asked for");
            Err(Refusal::Internal)
        }
    }
}

pub(super) async fn reject(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let id = id_of(&id)?;
    let digest = digest_of(fields.one("digest")?)?;
    let reason = fields.one("reason")?;
    match state.engine.reject(&person.human, id, digest, reason).await {
        Ok(row) if row.state == StateName::CanarySettled => Ok(back(id, "tested")),
        Ok(_) => Ok(back(id, "rejected")),
        Err(failed) => not_taken(&state, &person, id, failed, reason_typed(reason)).await,
    }
}

pub(super) async fn requeue(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let id = id_of(&id)?;
    let reason = fields.one("reason")?;
    match state.engine.requeue(&person.human, id, reason).await {
        Ok(_) => Ok(back(id, "requeued")),
        Err(failed) => not_taken(&state, &person, id, failed, reason_typed(reason)).await,
    }
}

pub(super) async fn abandon(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let id = id_of(&id)?;
    let reason = fields.one("reason")?;
    match state.engine.abandon(&person.human, id, reason).await {
        Ok(_) => Ok(back(id, "abandoned")),
        Err(failed) => not_taken(&state, &person, id, failed, reason_typed(reason)).await,
    }
}

pub(super) async fn resolve(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let id = id_of(&id)?;
    let applied = match fields.one("found")? {
        "applied" => true,
        "not-applied" => false,
        _ => return Err(Refusal::BadRequest("Say what you found in the EHR.")),
    };
    let note = fields.one("reason")?;
    match state
        .engine
        .resolve_unknown(&person.human, id, applied, note)
        .await
    {
        Ok(_) => Ok(back(id, "resolved")),
        Err(failed) => not_taken(&state, &person, id, failed, reason_typed(note)).await,
    }
}

pub(super) async fn attest(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let id = id_of(&id)?;
    let note = fields.one("reason")?;
    match state.engine.attest_entry(&person.human, id, note).await {
        Ok(_) => Ok(back(id, "attested")),
        Err(failed) => not_taken(&state, &person, id, failed, reason_typed(note)).await,
    }
}

pub(super) async fn decline(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let id = id_of(&id)?;
    let reason = fields.one("reason")?;
    match state.engine.decline_entry(&person.human, id, reason).await {
        Ok(_) => Ok(back(id, "declined")),
        Err(failed) => not_taken(&state, &person, id, failed, reason_typed(reason)).await,
    }
}

/// What was set aside goes on.
pub(super) async fn release(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let id = id_of(&id)?;
    let reason = fields.one("reason")?;
    match state.engine.release_aside(&person.human, id, reason).await {
        Ok(_) => Ok(back(id, "released")),
        Err(failed) => not_taken(&state, &person, id, failed, reason_typed(reason)).await,
    }
}

/// What was set aside is rejected.
pub(super) async fn drop_aside(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let id = id_of(&id)?;
    let reason = fields.one("reason")?;
    match state.engine.reject_aside(&person.human, id, reason).await {
        Ok(_) => Ok(back(id, "dropped")),
        Err(failed) => not_taken(&state, &person, id, failed, reason_typed(reason)).await,
    }
}

/// Where to go after an approval.
pub(super) fn approved(state: StateName, id: WritebackId, from_list: bool) -> Response {
    // Its page says at once what it was.
    if state == StateName::CanarySettled {
        return back(id, "tested");
    }
    let done = if state == StateName::AwaitingApproval {
        "approved-half"
    } else {
        "approved"
    };
    if from_list {
        Redirect::to(&format!("/console?done={done}")).into_response()
    } else {
        back(id, done)
    }
}

fn back(id: WritebackId, done: &str) -> Response {
    Redirect::to(&format!("/console/writebacks/{id}?done={done}")).into_response()
}

/// Milliseconds between opening the review and now, by our own clock. The browser sends back when we
/// rendered the page; it can only make a person look slower or quicker than they were.
pub(super) fn review_ms(state: &ConsoleState, opened: &str) -> u64 {
    let opened: i64 = opened.parse().unwrap_or(0);
    let now = state.engine.now().as_millisecond();
    u64::try_from(now.saturating_sub(opened).clamp(0, REVIEW_MS_MAX)).unwrap_or(0)
}

pub(super) fn digest_of(text: &str) -> Result<Digest, Refusal> {
    text.parse()
        .map_err(|_| Refusal::BadRequest("The form does not name what it decides about."))
}

fn reason_typed(reason: &str) -> Again {
    Again {
        reason: reason.to_owned(),
        ..Again::default()
    }
}

/// Shows the review again with what went wrong, and what was typed.
pub(super) async fn not_taken(
    state: &ConsoleState,
    person: &Person,
    id: WritebackId,
    failed: DecideFailed,
    typed: Again,
) -> Result<Response, Refusal> {
    let (status, problem) = match &failed {
        DecideFailed::Missing => return Err(Refusal::NotFound),
        DecideFailed::Refused(refused) => explain(refused),
        DecideFailed::Claimed { .. } | DecideFailed::NotRead { .. } => {
            (StatusCode::CONFLICT, capital(&failed.to_string()))
        }
        DecideFailed::StepUp => (StatusCode::FORBIDDEN, capital(&failed.to_string())),
        DecideFailed::ReasonNeeded => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "Say why, in 3 to 2,000 characters. The reason goes into the record.".to_owned(),
        ),
        DecideFailed::ByItself | DecideFailed::TooManyAtOnce => {
            (StatusCode::CONFLICT, capital(&failed.to_string()))
        }
        DecideFailed::OverrideReasonUnknown => (
            StatusCode::UNPROCESSABLE_ENTITY,
            capital(&failed.to_string()),
        ),
        DecideFailed::Pause { until } => (
            StatusCode::TOO_MANY_REQUESTS,
            format!(
                "You approved many changes in a short time. Pause until {}. The others who may decide were told that this waits, and you can still say no.",
                super::phrases::exact(*until)
            ),
        ),
        DecideFailed::EhrAway | DecideFailed::Switched => (
            StatusCode::SERVICE_UNAVAILABLE,
            capital(&failed.to_string()),
        ),
        DecideFailed::Conflict
        | DecideFailed::NotAsPlaced
        | DecideFailed::RulesChanged
        | DecideFailed::CardUnknown
        | DecideFailed::DecisionSupport(_) => (StatusCode::CONFLICT, capital(&failed.to_string())),
        DecideFailed::Store(_) | DecideFailed::Commit(_) | DecideFailed::Keys(_) => {
            tracing::error!(error = %failed, "a decision could not be recorded");
            return Err(Refusal::Unavailable(
                "The decision could not be recorded, so it was not taken. Try again.",
            ));
        }
    };
    page(state, person, id, Again { problem, ..typed }, status).await
}

fn explain(refused: &Refused) -> (StatusCode, String) {
    let status = match refused {
        Refused::RoleNotPermitted
        | Refused::SamePerson
        | Refused::NotNamedByProtocol
        | Refused::SecondFactorRequired => StatusCode::FORBIDDEN,
        Refused::OverrideReasonRequired => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::CONFLICT,
    };
    let text = match refused {
        Refused::ApprovalMismatch => {
            "What you decided about is not what stands here now. Look at it again.".to_owned()
        }
        Refused::NotNow(state) => {
            let (words, _) = super::phrases::state(*state);
            format!("This is no longer open to that: it is {words}.")
        }
        other => capital(&other.to_string()),
    };
    (status, text)
}
