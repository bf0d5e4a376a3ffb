//! First run: the first account, made with the code that Chaperone printed on its terminal.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use chaperone_core::ids::AccountName;
use chaperone_core::principal::Role;
use chaperone_engine::people::{
    BootstrapFailed, EnrolmentCode, NewAccount, Password, PasswordHash,
};

use super::ConsoleState;
use super::page::render_as;
use super::people::{RoleChoice, role_choices};
use super::refusal::Refusal;
use super::session::{Fields, OpenForm};
use super::sign_in::begin;

#[derive(Template)]
#[template(path = "setup.html")]
pub(super) struct SetupPage {
    pub(super) problem: String,
    pub(super) account: String,
    pub(super) roles: Vec<RoleChoice>,
}

pub(super) async fn show(State(state): State<ConsoleState>) -> Result<Response, Refusal> {
    if !state.engine.needs_setup().await? {
        return Ok(Redirect::to("/console/sign-in").into_response());
    }
    let page = SetupPage {
        problem: String::new(),
        account: String::new(),
        roles: role_choices(&[], &[Role::ItAdmin]),
    };
    Ok(render_as(StatusCode::OK, &page))
}

/// `/console/setup`, as people also write it.
pub(super) async fn other_spelling() -> Redirect {
    Redirect::permanent("/console/set-up")
}

pub(super) async fn submit(
    State(state): State<ConsoleState>,
    OpenForm(fields): OpenForm,
) -> Result<Response, Refusal> {
    state.passwords.check().map_err(|_| Refusal::TooMany)?;
    let again = |problem: String, status: StatusCode| -> Result<Response, Refusal> {
        let page = SetupPage {
            problem,
            account: fields.one("account")?.to_owned(),
            roles: role_choices(fields.all("roles"), &[Role::ItAdmin]),
        };
        Ok(render_as(status, &page))
    };
    let Ok(name) = AccountName::new(fields.one("account")?.trim().to_lowercase()) else {
        return again(ACCOUNT_RULE.to_owned(), StatusCode::UNPROCESSABLE_ENTITY);
    };
    let password = match chosen_password(&state, &fields).await? {
        Ok(password) => password,
        Err(problem) => return again(problem, StatusCode::UNPROCESSABLE_ENTITY),
    };
    let account = NewAccount {
        name,
        person: None,
        roles: fields
            .all("roles")
            .iter()
            .filter_map(|role| Role::parse(role))
            .collect(),
    };
    let code = EnrolmentCode::typed(fields.one("code")?);
    match state.engine.bootstrap(&code, account, password).await {
        Ok(human) => match state.engine.sign_in_enrolled(&human).await {
            Ok(session) => begin(&state, &session, "/console/second-factor"),
            Err(_) => Ok(Redirect::to("/console/sign-in?after=password").into_response()),
        },
        Err(BootstrapFailed::CodeRefused) => again(
            BootstrapFailed::CodeRefused.to_string(),
            StatusCode::FORBIDDEN,
        ),
        Err(failed) => {
            tracing::error!(error = %failed, "the first account could not be made");
            Err(Refusal::Internal)
        }
    }
}

/// What an account may be called.
pub(super) const ACCOUNT_RULE: &str =
    "An account name is 1 to 64 small letters, digits, `-`, `_` or `.`, such as `dr-lee`.";

/// The password of a form, hashed where blocking is allowed; or what is wrong with it.
pub(super) async fn chosen_password(
    state: &ConsoleState,
    fields: &Fields,
) -> Result<Result<PasswordHash, String>, Refusal> {
    let typed = fields.one("password")?;
    if typed != fields.one("password_again")? {
        return Ok(Err("The two passwords differ.".to_owned()));
    }
    let password = match Password::chosen(typed.to_owned()) {
        Ok(password) => password,
        Err(unfit) => return Ok(Err(capital(&unfit.to_string()))),
    };
    let salt = state.engine.password_salt();
    let hash = tokio::task::spawn_blocking(move || PasswordHash::make(&password, salt))
        .await
        .map_err(|_| Refusal::Internal)?
        .map_err(|_| Refusal::Internal)?;
    Ok(Ok(hash))
}

/// A message as a sentence.
pub(super) fn capital(message: &str) -> String {
    let mut chars = message.chars();
    let sentence: String = chars
        .next()
        .map(|c| c.to_uppercase().chain(chars).collect())
        .unwrap_or_default();
    if sentence.ends_with('.') {
        sentence
    } else {
        format!("{sentence}.")
    }
}
