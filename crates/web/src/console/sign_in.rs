//! Signing in and out.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use chaperone_engine::people::{NewSession, Password, SignInRefused};

use super::ConsoleState;
use super::page::render_as;
use super::passkeys::{AskRows, assertion_of};
use super::phrases;
use super::refusal::Refusal;
use super::session::{NewcomerForm, OpenForm};
use super::setup::capital;

#[derive(Template)]
#[template(path = "sign_in.html")]
pub(super) struct SignInPage {
    pub(super) notice: String,
    pub(super) problem: String,
    pub(super) account: String,
}

#[derive(Template)]
#[template(path = "sign_in_passkey.html")]
pub(super) struct PasskeyPage {
    pub(super) ticket: String,
    pub(super) passkey: AskRows,
}

#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct After {
    #[serde(default)]
    after: String,
}

pub(super) async fn show(
    State(state): State<ConsoleState>,
    Query(after): Query<After>,
) -> Result<Response, Refusal> {
    if state.engine.needs_setup().await? {
        return Ok(Redirect::to("/console/set-up").into_response());
    }
    let notice = match after.after.as_str() {
        "idle" => "You were away for a while, so the page was locked.",
        "sign-out" => "You are signed out.",
        "password" => "Your password is set. Sign in with it.",
        _ => "",
    };
    let page = SignInPage {
        notice: notice.to_owned(),
        problem: String::new(),
        account: String::new(),
    };
    Ok(render_as(StatusCode::OK, &page))
}

pub(super) async fn submit(
    State(state): State<ConsoleState>,
    OpenForm(fields): OpenForm,
) -> Result<Response, Refusal> {
    state.passwords.check().map_err(|_| Refusal::TooMany)?;
    let account = fields.one("account")?.trim().to_lowercase();
    let password = Password::typed(fields.one("password")?.to_owned());
    let code = fields.one("code")?.trim().to_owned();
    let outcome = match state.engine.sign_in_begin(&account).await {
        Ok(attempt) => {
            // Hashing takes a core for tens of milliseconds: not where requests are served.
            let checked = tokio::task::spawn_blocking(move || attempt.check(&password))
                .await
                .map_err(|_| Refusal::Internal)?;
            let code = (!code.is_empty()).then_some(code.as_str());
            state.engine.sign_in_finish(checked, code).await
        }
        Err(refused) => Err(refused),
    };
    match outcome {
        Ok(session) => begin(&state, &session, "/console"),
        Err(SignInRefused::PasskeyAsked(ticket)) => {
            let page = PasskeyPage {
                ticket: ticket.ticket,
                passkey: ticket.asked.into(),
            };
            Ok(render_as(StatusCode::OK, &page))
        }
        Err(refused) => again(&state, &refused, account),
    }
}

/// The passkey of somebody whose password was right.
pub(super) async fn submit_passkey(
    State(state): State<ConsoleState>,
    OpenForm(fields): OpenForm,
) -> Result<Response, Refusal> {
    state.passwords.check().map_err(|_| Refusal::TooMany)?;
    let sent = assertion_of(&fields)?.unwrap_or_default();
    match state
        .engine
        .sign_in_passkey(fields.one("ticket")?, &sent)
        .await
    {
        Ok(session) => begin(&state, &session, "/console"),
        Err(refused) => again(&state, &refused, String::new()),
    }
}

fn again(
    state: &ConsoleState,
    refused: &SignInRefused,
    account: String,
) -> Result<Response, Refusal> {
    let (status, problem) = explain(refused, state.engine.now())?;
    let page = SignInPage {
        notice: String::new(),
        problem,
        account,
    };
    Ok(render_as(status, &page))
}

/// Sends a session's cookie along with a redirect.
pub(super) fn begin(
    state: &ConsoleState,
    session: &NewSession,
    to: &'static str,
) -> Result<Response, Refusal> {
    let cookie = state
        .cookies
        .cookie(&session.token)
        .ok_or(Refusal::Internal)?;
    Ok(([(SET_COOKIE, cookie)], Redirect::to(to)).into_response())
}

pub(super) fn explain(
    refused: &SignInRefused,
    now: chaperone_core::Timestamp,
) -> Result<(StatusCode, String), Refusal> {
    match refused {
        SignInRefused::NotMatching => Ok((
            StatusCode::UNAUTHORIZED,
            "Account, password or code do not match. Administrators need a code as well; each code \
             works once."
                .to_owned(),
        )),
        SignInRefused::Wait { until } => Ok((
            StatusCode::TOO_MANY_REQUESTS,
            format!("Too many attempts. Try again in {}.", phrases::left(*until, now).words.replace(" left", "")),
        )),
        SignInRefused::Again => Ok((
            StatusCode::CONFLICT,
            "Another attempt was under way at the same moment. Try again.".to_owned(),
        )),
        SignInRefused::PasskeyRefused(_)
        | SignInRefused::TicketGone
        | SignInRefused::PasskeyAsked(_) => {
            Ok((StatusCode::UNAUTHORIZED, capital(&refused.to_string())))
        }
        SignInRefused::FactorUnusable => {
            Ok((StatusCode::FORBIDDEN, capital(&refused.to_string())))
        }
        SignInRefused::Vault(_) | SignInRefused::Store(_) | SignInRefused::Commit(_) => {
            tracing::error!(error = %refused, "a sign-in could not be recorded");
            Err(Refusal::Internal)
        }
    }
}

pub(super) async fn sign_out(
    State(state): State<ConsoleState>,
    headers: HeaderMap,
    _form: NewcomerForm,
) -> Result<Response, Refusal> {
    if let Some(token) = state.cookies.token(&headers)
        && let Err(failed) = state.engine.sign_out(&token).await
    {
        tracing::error!(error = %failed, "a sign-out could not be recorded");
        return Err(Refusal::Internal);
    }
    let cookie = state.cookies.cookie("").ok_or(Refusal::Internal)?;
    Ok((
        [(SET_COOKIE, cookie)],
        Redirect::to("/console/sign-in?after=sign-out"),
    )
        .into_response())
}
