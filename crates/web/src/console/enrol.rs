//! Enrolment: a password with a one-time code, then a second factor: a passkey, or an app.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use chaperone_engine::people::{
    EnrolFailed, EnrolmentCode, PasskeyFailed, SecondFactor, SecondFactorFailed, TotpEnrolment,
};

use super::ConsoleState;
use super::page::render_as;
use super::passkeys::{OfferRows, creation_of};
use super::phrases;
use super::refusal::Refusal;
use super::session::{Newcomer, NewcomerForm, OpenForm};
use super::setup::{capital, chosen_password};
use super::sign_in::begin;

#[derive(Template)]
#[template(path = "enrol.html")]
pub(super) struct EnrolPage {
    pub(super) problem: String,
    pub(super) account: String,
}

#[derive(Template)]
#[template(path = "second_factor.html")]
pub(super) struct SecondFactorPage {
    pub(super) problem: String,
    pub(super) account: String,
    pub(super) csrf: String,
    pub(super) secret: String,
    pub(super) uri: String,
    pub(super) offer: Option<OfferRows>,
}

pub(super) async fn show() -> Response {
    let page = EnrolPage {
        problem: String::new(),
        account: String::new(),
    };
    render_as(StatusCode::OK, &page)
}

pub(super) async fn submit(
    State(state): State<ConsoleState>,
    OpenForm(fields): OpenForm,
) -> Result<Response, Refusal> {
    state.passwords.check().map_err(|_| Refusal::TooMany)?;
    let account = fields.one("account")?.trim().to_lowercase();
    let again = |problem: String, status: StatusCode| {
        Ok(render_as(
            status,
            &EnrolPage {
                problem,
                account: account.clone(),
            },
        ))
    };
    let password = match chosen_password(&state, &fields).await? {
        Ok(password) => password,
        Err(problem) => return again(problem, StatusCode::UNPROCESSABLE_ENTITY),
    };
    let code = EnrolmentCode::typed(fields.one("code")?);
    match state.engine.enrol(&account, &code, password).await {
        Ok(human) => match state.engine.sign_in_enrolled(&human).await {
            Ok(session) => begin(&state, &session, "/console/second-factor"),
            Err(_) => Ok(Redirect::to("/console/sign-in?after=password").into_response()),
        },
        Err(EnrolFailed::CodeRefused) => again(
            capital(&EnrolFailed::CodeRefused.to_string()),
            StatusCode::FORBIDDEN,
        ),
        Err(EnrolFailed::Wait { until }) => {
            let wait = phrases::left(until, state.engine.now()).words;
            again(
                format!("Too many attempts; {wait} until the next."),
                StatusCode::TOO_MANY_REQUESTS,
            )
        }
        Err(failed) => {
            tracing::error!(error = %failed, "an enrolment failed");
            Err(Refusal::Internal)
        }
    }
}

pub(super) async fn show_second_factor(
    State(state): State<ConsoleState>,
    newcomer: Newcomer,
) -> Result<Response, Refusal> {
    if newcomer.second_factor == SecondFactor::Enrolled {
        return Ok(Redirect::to("/console").into_response());
    }
    second_factor_page(&state, &newcomer, String::new(), StatusCode::OK).await
}

pub(super) async fn submit_second_factor(
    State(state): State<ConsoleState>,
    form: NewcomerForm,
) -> Result<Response, Refusal> {
    let NewcomerForm { newcomer, fields } = form;
    match state
        .engine
        .second_factor_confirm(&newcomer.human, fields.one("code")?)
        .await
    {
        Ok(()) => Ok(Redirect::to("/console?done=enrolled").into_response()),
        Err(SecondFactorFailed::Enrolled) => Ok(Redirect::to("/console").into_response()),
        Err(SecondFactorFailed::CodeRefused) => {
            let problem = capital(&SecondFactorFailed::CodeRefused.to_string());
            second_factor_page(&state, &newcomer, problem, StatusCode::UNPROCESSABLE_ENTITY).await
        }
        Err(SecondFactorFailed::Wait { until }) => {
            let wait = phrases::left(until, state.engine.now()).words;
            let problem = format!("Too many attempts; {wait} until the next.");
            second_factor_page(&state, &newcomer, problem, StatusCode::TOO_MANY_REQUESTS).await
        }
        Err(failed) => Err(internal(&failed)),
    }
}

/// The first passkey of an account without a second factor.
pub(super) async fn submit_passkey(
    State(state): State<ConsoleState>,
    form: NewcomerForm,
) -> Result<Response, Refusal> {
    let NewcomerForm { newcomer, fields } = form;
    if newcomer.second_factor == SecondFactor::Enrolled {
        return Ok(Redirect::to("/console").into_response());
    }
    let sent = creation_of(&fields)?;
    let name = fields.one("name")?;
    match state
        .engine
        .passkey_add(&newcomer.human, name, &sent, None)
        .await
    {
        Ok(()) => Ok(Redirect::to("/console?done=enrolled").into_response()),
        Err(PasskeyFailed::StepUp) => Ok(Redirect::to("/console").into_response()),
        Err(failed) => {
            let (status, problem) = super::passkeys::explain(&failed)?;
            second_factor_page(&state, &newcomer, problem, status).await
        }
    }
}

async fn second_factor_page(
    state: &ConsoleState,
    newcomer: &Newcomer,
    problem: String,
    status: StatusCode,
) -> Result<Response, Refusal> {
    let TotpEnrolment { secret, uri } = state
        .engine
        .second_factor_begin(&newcomer.human)
        .await
        .map_err(|failed| internal(&failed))?;
    let offer = match state.engine.passkey_offer(&newcomer.human).await {
        Ok(offer) => Some(OfferRows::of(offer, "")),
        Err(PasskeyFailed::Off | PasskeyFailed::TooMany) => None,
        Err(failed) => {
            tracing::error!(error = %failed, "a passkey could not be offered");
            return Err(Refusal::Internal);
        }
    };
    let groups: Vec<String> = secret
        .as_bytes()
        .chunks(4)
        .map(|group| String::from_utf8_lossy(group).into_owned())
        .collect();
    let page = SecondFactorPage {
        problem,
        account: newcomer.human.account.to_string(),
        csrf: newcomer.csrf.clone(),
        secret: groups.join(" "),
        uri,
        offer,
    };
    Ok(render_as(status, &page))
}

fn internal(failed: &SecondFactorFailed) -> Refusal {
    tracing::error!(error = %failed, "a second factor could not be enrolled");
    Refusal::Internal
}
