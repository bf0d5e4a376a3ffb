//! Who covers for whom: said by whoever goes away, or for them by an administrator; seen by everybody.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use chaperone_core::Timestamp;
use chaperone_core::ids::AccountName;
use chaperone_core::principal::Role;
use chaperone_engine::cover::{Cover, CoverFailed};

use super::ConsoleState;
use super::page::{Chrome, Done, Here, render_as};
use super::phrases::{self, Moment};
use super::refusal::Refusal;
use super::session::{Person, Submitted};
use super::setup::capital;

/// A day, in seconds.
const DAY_S: i64 = 24 * 3_600;
/// `2026-01-31`.
const DAY_CHARS: usize = 10;

#[derive(Template)]
#[template(path = "cover.html")]
pub(super) struct CoverPage {
    pub(super) chrome: Chrome,
    pub(super) done: &'static str,
    pub(super) problem: String,
    pub(super) rows: Vec<CoverRow>,
    /// Whose cover this person may set; their own account first.
    pub(super) whose: Vec<String>,
    pub(super) colleagues: Vec<String>,
    pub(super) today: String,
}

/// Somebody who is away, or will be.
pub(super) struct CoverRow {
    pub(super) away: String,
    pub(super) cover: String,
    pub(super) from: Moment,
    pub(super) until: Moment,
    pub(super) by: String,
    pub(super) is_now: bool,
    /// Whether this person may end it.
    pub(super) ends: bool,
}

pub(super) async fn show(
    State(state): State<ConsoleState>,
    person: Person,
    Query(done): Query<Done>,
) -> Result<Response, Refusal> {
    page(&state, &person, done.words(), String::new(), StatusCode::OK).await
}

async fn page(
    state: &ConsoleState,
    person: &Person,
    done: &'static str,
    problem: String,
    status: StatusCode,
) -> Result<Response, Refusal> {
    let now = state.engine.now();
    let own = &person.human.account;
    let administers = person.human.holds(Role::ItAdmin);
    let accounts = state.engine.accounts().await?;
    let others = accounts
        .iter()
        .filter(|account| account.active && account.name != *own)
        .map(|account| account.name.to_string());
    let colleagues: Vec<String> = others.collect();
    let mut whose = vec![own.to_string()];
    if administers {
        whose.extend(colleagues.iter().cloned());
    }
    let row = |cover: Cover| CoverRow {
        is_now: cover.is_now(now),
        ends: administers || cover.away == *own,
        away: cover.away.to_string(),
        cover: cover.cover.to_string(),
        from: phrases::ago(cover.from, now),
        until: phrases::left(cover.until, now),
        by: cover.by.to_string(),
    };
    let page = CoverPage {
        chrome: Chrome::of(state, person, "Away and covering", Here::Account).await?,
        done,
        problem,
        rows: state.engine.covers().await?.into_iter().map(row).collect(),
        whose,
        colleagues: if administers {
            accounts
                .iter()
                .filter(|account| account.active)
                .map(|account| account.name.to_string())
                .collect()
        } else {
            colleagues
        },
        today: now.to_string().chars().take(DAY_CHARS).collect(),
    };
    Ok(render_as(status, &page))
}

pub(super) async fn submit(
    State(state): State<ConsoleState>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let account = |name: &str| {
        AccountName::new(name).map_err(|_| Refusal::BadRequest("Say who is away, and who covers."))
    };
    let away = account(fields.one("away")?)?;
    let (outcome, done) = match fields.one("what")? {
        "set" => {
            let cover = account(fields.one("cover")?)?;
            let from = day(fields.one("from")?)?;
            // The last day is one of them.
            let until = day(fields.one("until")?)?.as_second().saturating_add(DAY_S);
            let until = Timestamp::from_second(until)
                .map_err(|_| Refusal::BadRequest("Write days as 2026-01-31."))?;
            let set = state
                .engine
                .cover_set(&person.human, &away, &cover, (from, until))
                .await;
            (set, "cover-set")
        }
        "end" => (
            state.engine.cover_end(&person.human, &away).await,
            "cover-ended",
        ),
        _ => return Err(Refusal::BadRequest("The form does not say what to do.")),
    };
    let failed = match outcome {
        Ok(()) => {
            let to = format!("/console/cover?done={done}");
            return Ok(Redirect::to(&to).into_response());
        }
        Err(failed) => failed,
    };
    let status = match &failed {
        CoverFailed::NotPermitted => StatusCode::FORBIDDEN,
        CoverFailed::Unknown
        | CoverFailed::SamePerson
        | CoverFailed::OtherRoles
        | CoverFailed::Times => StatusCode::UNPROCESSABLE_ENTITY,
        CoverFailed::Missing | CoverFailed::Conflict => StatusCode::CONFLICT,
        CoverFailed::Store(_) | CoverFailed::Commit(_) => {
            tracing::error!(error = %failed, "who covers for whom could not be read or recorded");
            return Err(Refusal::Internal);
        }
    };
    page(&state, &person, "", capital(&failed.to_string()), status).await
}

/// The beginning of a day, in UTC.
fn day(text: &str) -> Result<Timestamp, Refusal> {
    let is_day = text.len() == DAY_CHARS;
    let begin = format!("{text}T00:00:00Z").parse::<Timestamp>();
    begin
        .ok()
        .filter(|_| is_day)
        .ok_or(Refusal::BadRequest("Write days as 2026-01-31."))
}
