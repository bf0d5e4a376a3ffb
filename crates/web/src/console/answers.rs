//! Who saw or changed something of a patient: for the privacy officer. Looking is itself recorded.
//!
//! The search travels in a form, never in an address; addresses carry the patient's token and days.

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use chaperone_core::Timestamp;
use chaperone_core::ids::PatientToken;
use chaperone_core::phi::ExposedFor;
use chaperone_engine::audit::who_saw::{ACCESSES_AT_ONCE, Seen, WhoSawQuestion};
use chaperone_engine::audit::{Asker, AuditFailed, Span, may_ask};
use chaperone_engine::reveal::RevealFailed;

use super::ConsoleState;
use super::assign::HitRow;
use super::page::{Chrome, Here, render, render_as};
use super::phrases::{self, Moment};
use super::refusal::Refusal;
use super::session::{Person, Submitted};
use super::setup::capital;

#[derive(Template)]
#[template(path = "answers.html")]
pub(super) struct AnswersPage {
    pub(super) chrome: Chrome,
    pub(super) query: String,
    pub(super) searched: bool,
    pub(super) hits: Vec<HitRow>,
    pub(super) asked: AskedToken,
}

/// A question about a token, and what came of it.
#[derive(Default)]
pub(super) struct AskedToken {
    pub(super) token: String,
    pub(super) reason: String,
    pub(super) problem: String,
    /// Type and logical id at the EHR; empty until told.
    pub(super) reference: String,
    /// The patient whom it concerns.
    pub(super) patient: String,
}

#[derive(Template)]
#[template(path = "who_saw.html")]
pub(super) struct WhoSawPage {
    pub(super) chrome: Chrome,
    pub(super) token: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) rows: Vec<SeenRow>,
    pub(super) next: String,
    pub(super) entries: u64,
    pub(super) merged: usize,
    pub(super) is_whole: bool,
    pub(super) at_once: u32,
}

/// One access.
pub(super) struct SeenRow {
    pub(super) at: Moment,
    pub(super) did: &'static str,
    pub(super) actor: String,
    pub(super) human: String,
    pub(super) why: String,
    pub(super) what: String,
    pub(super) elements: String,
    pub(super) is_ceiling: bool,
    pub(super) agreed: String,
    pub(super) policies: String,
    pub(super) outcome: String,
    pub(super) entry: u64,
}

#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Window {
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
    #[serde(default)]
    after: String,
}

pub(super) async fn show(
    State(state): State<ConsoleState>,
    person: Person,
) -> Result<Response, Refusal> {
    page(&state, &person, String::new(), None, AskedToken::default()).await
}

pub(super) async fn search(
    State(state): State<ConsoleState>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    if !may_ask(&person.human) {
        return Err(AuditFailed::NotPermitted.into());
    }
    let query = fields.one("query")?.trim().to_owned();
    let hits = state.engine.patients_search(&person.human, &query).await?;
    let hits = hits.into_iter().map(HitRow::of).collect();
    page(&state, &person, query, Some(hits), AskedToken::default()).await
}

/// Tells what a token stands for, once, on the page that answers the form.
pub(super) async fn reveal(
    State(state): State<ConsoleState>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let mut asked = AskedToken {
        token: fields.one("token")?.trim().to_owned(),
        reason: fields.one("reason")?.to_owned(),
        ..AskedToken::default()
    };
    match state
        .engine
        .reveal(&person.human, &asked.token, &asked.reason)
        .await
    {
        Ok(revealed) => {
            asked.reference = revealed.reference.into_exposed(ExposedFor::Person);
            asked.patient = revealed
                .patient
                .map(|it| it.to_string())
                .unwrap_or_default();
        }
        Err(failed @ (RevealFailed::ReasonUnfit | RevealFailed::Unknown)) => {
            asked.problem = capital(&failed.to_string());
        }
        Err(RevealFailed::NotPermitted) => return Err(AuditFailed::NotPermitted.into()),
        Err(failed) => {
            tracing::error!(error = %failed, "that a token was asked about could not be recorded");
            return Err(Refusal::Unavailable(
                "The question could not be recorded, so nothing is told.",
            ));
        }
    }
    page(&state, &person, String::new(), None, asked).await
}

async fn page(
    state: &ConsoleState,
    person: &Person,
    query: String,
    hits: Option<Vec<HitRow>>,
    asked: AskedToken,
) -> Result<Response, Refusal> {
    if !may_ask(&person.human) {
        return Err(AuditFailed::NotPermitted.into());
    }
    let status = match asked.problem.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let page = AnswersPage {
        chrome: Chrome::of(state, person, "Who saw what", Here::Answers).await?,
        query,
        searched: hits.is_some(),
        hits: hits.unwrap_or_default(),
        asked,
    };
    Ok(render_as(status, &page))
}

pub(super) async fn of_patient(
    State(state): State<ConsoleState>,
    person: Person,
    Path(token): Path<String>,
    window: Result<Query<Window>, QueryRejection>,
) -> Result<Response, Refusal> {
    if !may_ask(&person.human) {
        return Err(AuditFailed::NotPermitted.into());
    }
    let Query(window) = window.map_err(|_| Refusal::BadRequest("Write days as 2026-01-31."))?;
    // A token that was never made and a text that is none look the same.
    let token: PatientToken = token.parse().map_err(|_| Refusal::NotFound)?;
    let token = state.engine.patient_meant(&token.to_string()).await?;
    let question = WhoSawQuestion {
        span: Span::of_days(&window.from, &window.to)?,
        after: Some(window.after.clone()).filter(|after| !after.is_empty()),
    };
    let answer = state
        .engine
        .who_saw(Asker::Human(&person.human), token, &question)
        .await?;
    let now = state.engine.now();
    let next = answer.next.map(|next| {
        let (from, to) = (&window.from, &window.to);
        format!("/console/answers/{token}?from={from}&to={to}&after={next}")
    });
    Ok(render(&WhoSawPage {
        chrome: Chrome::of(&state, &person, "Who saw what", Here::Answers).await?,
        token: token.to_string(),
        from: window.from,
        to: window.to,
        rows: answer
            .accesses
            .iter()
            .map(|seen| SeenRow::of(seen, now))
            .collect(),
        next: next.unwrap_or_default(),
        entries: answer.entries,
        merged: answer.merged.len(),
        is_whole: answer.is_whole,
        at_once: ACCESSES_AT_ONCE,
    }))
}

impl SeenRow {
    fn of(seen: &Seen, now: Timestamp) -> Self {
        let joined = |parts: [&Option<String>; 2]| {
            let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
            parts.join(" · ")
        };
        let agreed = match (seen.is_automated, seen.approved_by.is_empty()) {
            (_, false) => format!("approved: {}", seen.approved_by.join("; ")),
            (true, true) => "automated".to_owned(),
            (false, true) => "by a person".to_owned(),
        };
        Self {
            at: phrases::ago(seen.when, now),
            did: seen.did,
            actor: seen.actor.clone(),
            human: seen.human.clone().unwrap_or_default(),
            why: joined([&seen.purpose, &seen.intent]),
            what: joined([&seen.tool, &seen.resource]),
            elements: seen.fields.join(", "),
            is_ceiling: seen.is_ceiling,
            agreed: match &seen.ruling {
                Some(ruling) => format!("{agreed} · {ruling}"),
                None => agreed,
            },
            policies: seen.policies.join(", "),
            outcome: match seen.record {
                Some(record) => format!("{} (under {record}, which was merged)", seen.outcome),
                None => seen.outcome.clone(),
            },
            entry: seen.entry,
        }
    }
}
