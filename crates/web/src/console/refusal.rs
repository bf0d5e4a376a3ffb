//! Answers that are not the page asked for: one table from causes to status and plain words.

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use chaperone_engine::audit::AuditFailed;
use chaperone_engine::views::ViewFailed;

/// Why a request did not get its page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nobody is signed in: to the sign-in page.
    SignIn,
    /// The same for a request of the page's script.
    SignInLive,
    /// The second factor is still to be enrolled.
    EnrolFirst,
    /// Signed in, and not allowed.
    Forbidden(&'static str),
    /// Nothing here, or not for this person: the same answer.
    NotFound,
    /// The request makes no sense.
    BadRequest(&'static str),
    /// Too often.
    TooMany,
    /// Something that is needed does not answer.
    Unavailable(&'static str),
    /// A part of Chaperone failed.
    Internal,
}

#[derive(Template)]
#[template(path = "refusal.html")]
pub(super) struct RefusalPage {
    pub(super) title: &'static str,
    pub(super) text: &'static str,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, title, text) = match self {
            Refusal::SignIn => return Redirect::to("/console/sign-in").into_response(),
            Refusal::SignInLive => return StatusCode::UNAUTHORIZED.into_response(),
            Refusal::EnrolFirst => return Redirect::to("/console/second-factor").into_response(),
            Refusal::Forbidden(text) => (StatusCode::FORBIDDEN, "Not allowed", text),
            Refusal::NotFound => {
                let text = "There is nothing at this address, or it is not for you.";
                (StatusCode::NOT_FOUND, "Nothing here", text)
            }
            Refusal::BadRequest(text) => (StatusCode::BAD_REQUEST, "That did not work", text),
            Refusal::TooMany => {
                let text = "Too many requests just now. Wait a few seconds and try again.";
                (StatusCode::TOO_MANY_REQUESTS, "One moment", text)
            }
            Refusal::Unavailable(text) => {
                (StatusCode::SERVICE_UNAVAILABLE, "Not available now", text)
            }
            Refusal::Internal => {
                let text = "A part of Chaperone failed, and nothing was changed. Try again; if it \
                    happens again, tell your operator the time.";
                (StatusCode::INTERNAL_SERVER_ERROR, "Something failed", text)
            }
        };
        let mut response = match (RefusalPage { title, text }).render() {
            Ok(page) => (status, Html(page)).into_response(),
            Err(_) => status.into_response(),
        };
        if status == StatusCode::TOO_MANY_REQUESTS {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

impl From<ViewFailed> for Refusal {
    fn from(failed: ViewFailed) -> Self {
        match failed {
            ViewFailed::NotPermitted => Refusal::Forbidden(
                "Your roles do not cover this page. Ask an administrator if that is wrong.",
            ),
            ViewFailed::Missing => Refusal::NotFound,
            ViewFailed::Ehr(_) => Refusal::Unavailable(
                "The EHR does not answer now. The health page shows since when.",
            ),
            ViewFailed::Token(_) | ViewFailed::Vault(_) | ViewFailed::Store(_) => {
                tracing::error!(error = %failed, "a page could not be made");
                Refusal::Internal
            }
            ViewFailed::Commit(_) => {
                tracing::error!(error = %failed, "a look could not be recorded");
                Refusal::Unavailable("The look could not be recorded, so nothing is shown.")
            }
        }
    }
}

impl From<AuditFailed> for Refusal {
    fn from(failed: AuditFailed) -> Self {
        match failed {
            AuditFailed::NotPermitted => Refusal::Forbidden(
                "Who saw what is for the privacy officer. Ask an administrator if that is wrong.",
            ),
            AuditFailed::UnknownPatient | AuditFailed::NeverHandled => Refusal::NotFound,
            AuditFailed::NotADay => Refusal::BadRequest("Write days as 2026-01-31."),
            AuditFailed::NoSuchPage => {
                Refusal::BadRequest("Pages go on where the page before says.")
            }
            AuditFailed::TooMany(_) => {
                Refusal::BadRequest("That is too much for one answer. Ask for a shorter time.")
            }
            AuditFailed::Ehr(failed) => ViewFailed::Ehr(failed).into(),
            AuditFailed::Behind { .. } => Refusal::Unavailable(
                "The list is being brought up to date with the ledger. Try again in a moment.",
            ),
            AuditFailed::Commit(failed) => ViewFailed::Commit(failed).into(),
            AuditFailed::Store(failed) => ViewFailed::Store(failed).into(),
            AuditFailed::Token(_)
            | AuditFailed::Vault(_)
            | AuditFailed::Leaf(_)
            | AuditFailed::Write(_) => {
                tracing::error!(error = %failed, "a question about the ledger failed");
                Refusal::Internal
            }
        }
    }
}

impl From<chaperone_core::ports::StoreFailed> for Refusal {
    fn from(failed: chaperone_core::ports::StoreFailed) -> Self {
        ViewFailed::Store(failed).into()
    }
}
