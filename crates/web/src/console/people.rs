//! People: accounts, their roles, and the codes with which their holders enrol.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use chaperone_core::ids::AccountName;
use chaperone_core::principal::Role;
use chaperone_engine::people::{CreateAccountFailed, EnrolmentCode, NewAccount, SecondFactor};

use super::ConsoleState;
use super::page::{Chrome, Here, render_as};
use super::phrases::{self, Moment};
use super::refusal::Refusal;
use super::session::{Person, Submitted};
use super::setup::{ACCOUNT_RULE, capital};

#[derive(Template)]
#[template(path = "people.html")]
pub(super) struct PeoplePage {
    pub(super) chrome: Chrome,
    pub(super) problem: String,
    pub(super) code: Option<(String, String)>,
    pub(super) accounts: Vec<AccountRow>,
    pub(super) roles: Vec<RoleChoice>,
    pub(super) name: String,
}

/// One account.
pub(super) struct AccountRow {
    pub(super) name: String,
    pub(super) roles: String,
    pub(super) state: &'static str,
    pub(super) state_css: &'static str,
    pub(super) person: String,
    pub(super) person_short: String,
    pub(super) shares_person: bool,
    pub(super) created: Moment,
}

/// One role to tick.
pub(super) struct RoleChoice {
    pub(super) value: &'static str,
    pub(super) label: &'static str,
    pub(super) ticked: bool,
    pub(super) fixed: bool,
}

/// Every role a person of the organisation can hold.
pub(super) fn role_choices(ticked: &[String], fixed: &[Role]) -> Vec<RoleChoice> {
    Role::ALL
        .into_iter()
        .filter(|role| !matches!(role, Role::Patient | Role::Proxy))
        .map(|role| RoleChoice {
            value: role.as_str(),
            label: phrases::role(role),
            fixed: fixed.contains(&role),
            ticked: fixed.contains(&role) || ticked.iter().any(|one| one == role.as_str()),
        })
        .collect()
}

pub(super) async fn show(
    State(state): State<ConsoleState>,
    person: Person,
) -> Result<Response, Refusal> {
    page(&state, &person, Shown::default(), StatusCode::OK).await
}

pub(super) async fn create(
    State(state): State<ConsoleState>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let typed = fields.one("account")?.trim().to_lowercase();
    let ticked = fields.all("roles").to_vec();
    let again = |problem: String| Shown {
        problem,
        name: typed.clone(),
        ticked: ticked.clone(),
        code: None,
    };
    let Ok(name) = AccountName::new(typed.clone()) else {
        return page(
            &state,
            &person,
            again(ACCOUNT_RULE.to_owned()),
            StatusCode::UNPROCESSABLE_ENTITY,
        )
        .await;
    };
    // Another account of the same person, named by one they have.
    let same_as = fields.one("same_person")?;
    let accounts = state.engine.accounts().await?;
    let same = accounts
        .iter()
        .find(|account| account.name.as_str() == same_as);
    if !same_as.is_empty() && same.is_none() {
        let problem = "There is no account of that name to share a person with.".to_owned();
        return page(
            &state,
            &person,
            again(problem),
            StatusCode::UNPROCESSABLE_ENTITY,
        )
        .await;
    }
    let account = NewAccount {
        name: name.clone(),
        person: same.map(|account| account.person),
        roles: ticked.iter().filter_map(|role| Role::parse(role)).collect(),
    };
    match state.engine.create_account(&person.human, account).await {
        Ok(code) => with_code(&state, &person, &name, &code).await,
        Err(failed) => {
            let (status, problem) = explain(&failed)?;
            page(&state, &person, again(problem), status).await
        }
    }
}

pub(super) async fn reissue(
    State(state): State<ConsoleState>,
    Path(account): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let name = AccountName::new(account).map_err(|_| Refusal::NotFound)?;
    match state
        .engine
        .reissue_enrolment(&form.person.human, &name)
        .await
    {
        Ok(code) => with_code(&state, &form.person, &name, &code).await,
        Err(CreateAccountFailed::Missing) => Err(Refusal::NotFound),
        Err(failed) => {
            let (status, problem) = explain(&failed)?;
            page(
                &state,
                &form.person,
                Shown {
                    problem,
                    ..Shown::default()
                },
                status,
            )
            .await
        }
    }
}

async fn with_code(
    state: &ConsoleState,
    person: &Person,
    name: &AccountName,
    code: &EnrolmentCode,
) -> Result<Response, Refusal> {
    let shown = Shown {
        code: Some((name.to_string(), code.expose())),
        ..Shown::default()
    };
    page(state, person, shown, StatusCode::OK).await
}

fn explain(failed: &CreateAccountFailed) -> Result<(StatusCode, String), Refusal> {
    let status = match failed {
        CreateAccountFailed::NotPermitted => StatusCode::FORBIDDEN,
        CreateAccountFailed::Exists => StatusCode::CONFLICT,
        CreateAccountFailed::Missing | CreateAccountFailed::NoRole => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        CreateAccountFailed::Store(_) | CreateAccountFailed::Commit(_) => {
            tracing::error!(error = %failed, "an account could not be made");
            return Err(Refusal::Internal);
        }
    };
    Ok((status, capital(&failed.to_string())))
}

#[derive(Default)]
struct Shown {
    problem: String,
    name: String,
    ticked: Vec<String>,
    code: Option<(String, String)>,
}

async fn page(
    state: &ConsoleState,
    person: &Person,
    shown: Shown,
    status: StatusCode,
) -> Result<Response, Refusal> {
    if !person.human.holds(Role::ItAdmin) {
        return Err(Refusal::Forbidden("Only administrators manage accounts."));
    }
    let now = state.engine.now();
    let accounts = state.engine.accounts().await?;
    let rows = accounts
        .iter()
        .map(|account| {
            let (state, state_css) = match (account.active, account.second_factor) {
                (true, SecondFactor::Enrolled) => ("active", "good"),
                (true, SecondFactor::Missing) => ("second factor missing", "warn"),
                (false, _) => ("waits for enrolment", "warn"),
            };
            let person = account.person.to_string();
            AccountRow {
                name: account.name.to_string(),
                roles: phrases::roles(&account.roles),
                state,
                state_css,
                person_short: person.chars().take(13).collect(),
                person,
                shares_person: accounts
                    .iter()
                    .any(|other| other.person == account.person && other.name != account.name),
                created: phrases::ago(account.created, now),
            }
        })
        .collect();
    let page = PeoplePage {
        chrome: Chrome::of(state, person, "People", Here::People).await?,
        problem: shown.problem,
        code: shown.code,
        accounts: rows,
        roles: role_choices(&shown.ticked, &[]),
        name: shown.name,
    };
    Ok(render_as(status, &page))
}
