//! Overseeing: what went through without anybody and is to be looked at, which rows people decide on until they are
//! restored, and what confidence is borne out. Names of models and prompts and counts; the page of one sample shows
//! the change, and that it was shown is recorded.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use chaperone_core::digest::Digest;
use chaperone_core::oversight::{Combination, Verdict};
use chaperone_core::phi::ExposedFor;
use chaperone_core::principal::Human;
use chaperone_engine::Engine;
use chaperone_engine::oversight::{OversightView, RestoreFailed, SampleFailed};
use chaperone_engine::people::{StepUpFor, StepUpRefused};
use chaperone_engine::views::ViewFailed;

use super::ConsoleState;
use super::page::{Chrome, Done, Here, render_as};
use super::phrases::{self, Moment};
use super::refusal::Refusal;
use super::review::id_of;
use super::session::{Person, Submitted};
use super::setup::capital;

/// Whether somebody has this page at all: who looks at samples, or restores rows.
pub(super) fn may_oversee(engine: &Engine, by: &Human) -> bool {
    engine.may_review_samples(by) || engine.may_restore_rows(by)
}

#[derive(Template)]
#[template(path = "oversight.html")]
pub(super) struct OversightPage {
    pub(super) chrome: Chrome,
    pub(super) done: &'static str,
    pub(super) problem: String,
    pub(super) may_review: bool,
    pub(super) may_restore: bool,
    pub(super) waiting: Vec<WaitingRow>,
    pub(super) demoted: Vec<DemotedRow>,
    pub(super) tallies: Vec<TallyRow>,
    pub(super) decisions_min: u32,
    pub(super) attention: Vec<AttentionRow>,
    pub(super) reason: String,
}

/// One that waits for a look.
pub(super) struct WaitingRow {
    pub(super) id: String,
    pub(super) what: String,
    pub(super) rows: String,
    pub(super) class: String,
    pub(super) class_css: String,
    pub(super) drawn: Moment,
}

/// One row that people decide on.
pub(super) struct DemotedRow {
    pub(super) key: String,
    pub(super) row: String,
    pub(super) whose: String,
    pub(super) since: Moment,
    pub(super) reviewed: u32,
    pub(super) disagreed: u32,
    /// Whether what was typed is about this one.
    pub(super) typed: bool,
}

/// Counts of one combination.
pub(super) struct TallyRow {
    pub(super) row: String,
    pub(super) whose: String,
    pub(super) right: u32,
    pub(super) wrong: u32,
    pub(super) confidence: String,
}

/// Attention of one pool on one row.
pub(super) struct AttentionRow {
    pub(super) row: String,
    pub(super) pool: &'static str,
    pub(super) decided: u32,
    pub(super) caught: String,
    pub(super) is_low: bool,
}

#[derive(Template)]
#[template(path = "oversight_sample.html")]
pub(super) struct SamplePage {
    pub(super) chrome: Chrome,
    pub(super) problem: String,
    pub(super) id: String,
    pub(super) words: String,
    pub(super) diff: Vec<(String, String, String)>,
    pub(super) documents: Vec<String>,
    pub(super) rationale: String,
    pub(super) who: String,
    pub(super) reasons: Vec<String>,
    pub(super) reason: String,
}

#[derive(Default)]
struct Typed {
    done: &'static str,
    problem: String,
    key: String,
    reason: String,
}

pub(super) async fn show(
    State(state): State<ConsoleState>,
    person: Person,
    Query(done): Query<Done>,
) -> Result<Response, Refusal> {
    let typed = Typed {
        done: done.words(),
        ..Typed::default()
    };
    page(&state, &person, typed, StatusCode::OK).await
}

async fn page(
    state: &ConsoleState,
    person: &Person,
    typed: Typed,
    status: StatusCode,
) -> Result<Response, Refusal> {
    let by = &person.human;
    if !may_oversee(&state.engine, by) {
        return Err(ViewFailed::NotPermitted.into());
    }
    let now = state.engine.now();
    let OversightView {
        demoted,
        waiting,
        tallies,
        decisions_min,
        vigilance,
    } = state
        .engine
        .oversight(Some(by))
        .await
        .map_err(ViewFailed::from)?;
    let waiting = waiting.into_iter().map(|sample| WaitingRow {
        id: sample.writeback.to_string(),
        what: format!(
            "{} by {} for {}",
            sample
                .resource
                .as_ref()
                .map_or("a change", |it| it.as_str()),
            sample.agent,
            sample.intent
        ),
        rows: listed(sample.rows.iter().map(|it| it.as_str())),
        class: sample.class.map(|it| it.to_string()).unwrap_or_default(),
        class_css: sample.class.map(phrases::class_css).unwrap_or_default(),
        drawn: phrases::ago(sample.drawn_at, now),
    });
    let demoted = demoted.into_iter().map(|row| DemotedRow {
        typed: row.key.to_string() == typed.key,
        key: row.key.to_string(),
        row: row_words(&row.combination),
        whose: whose(&row.combination),
        since: phrases::ago(row.at, now),
        reviewed: row.reviewed,
        disagreed: row.disagreed,
    });
    let tallies = tallies.into_iter().map(|tally| TallyRow {
        row: match &tally.tool {
            Some(tool) => format!("tool {tool}"),
            None => row_words(&tally.combination),
        },
        whose: whose(&tally.combination),
        right: tally.right,
        wrong: tally.wrong,
        confidence: match tally.confidence_pct {
            Some(pct) => format!("{pct} %"),
            None if tally.tool.is_none() => String::new(),
            None => "too few decisions".to_owned(),
        },
    });
    let page = OversightPage {
        may_review: state.engine.may_review_samples(by),
        may_restore: state.engine.may_restore_rows(by),
        waiting: waiting.collect(),
        demoted: demoted.collect(),
        tallies: tallies.collect(),
        decisions_min,
        attention: vigilance
            .into_iter()
            .map(|it| AttentionRow {
                row: it.row.to_string(),
                pool: super::phrases::role(it.pool),
                decided: it.decided,
                caught: match it.caught_pct {
                    Some(pct) => format!("{pct} %"),
                    None => "too few to say".to_owned(),
                },
                is_low: it.is_low,
            })
            .collect(),
        chrome: Chrome::of(state, person, "Oversight", Here::Oversight).await?,
        done: typed.done,
        problem: typed.problem,
        reason: typed.reason,
    };
    Ok(render_as(status, &page))
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

fn row_words(combination: &Combination) -> String {
    match &combination.row {
        Some(row) => row.to_string(),
        None => "all rows".to_owned(),
    }
}

fn whose(combination: &Combination) -> String {
    let prompts = listed(combination.prompts.iter().map(|it| it.as_str()));
    let prompts = match prompts.is_empty() {
        true => "no prompt".to_owned(),
        false => prompts,
    };
    format!(
        "{} on {} with {prompts}",
        combination.intent, combination.model
    )
}

/// One sample.
pub(super) async fn sample(
    State(state): State<ConsoleState>,
    person: Person,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    sample_page(&state, &person, &id, Typed::default(), StatusCode::OK).await
}

async fn sample_page(
    state: &ConsoleState,
    person: &Person,
    id: &str,
    typed: Typed,
    status: StatusCode,
) -> Result<Response, Refusal> {
    let id = id_of(id)?;
    if !state.engine.may_review_samples(&person.human) {
        return Err(ViewFailed::NotPermitted.into());
    }
    let is_open = state.engine.is_sample_open(id).await;
    if !is_open.map_err(ViewFailed::from)? {
        return Err(Refusal::NotFound);
    }
    let review = state.engine.review(&person.human, id).await?;
    let Some(content) = review.content else {
        return Err(Refusal::NotFound);
    };
    let content = content.expose(ExposedFor::Person);
    let page = SamplePage {
        chrome: Chrome::of(state, person, "A look afterwards", Here::Oversight).await?,
        problem: typed.problem,
        id: id.to_string(),
        words: content.words.expose(ExposedFor::Person).clone(),
        diff: (1_usize..)
            .zip(&content.changes)
            .flat_map(|(at, change)| change.diff.iter().map(move |line| (at, line)))
            .map(|(at, line)| {
                // Of several that took effect as one, which it is.
                let path = match content.changes.len() {
                    1 => line.path.clone(),
                    _ => format!("{at}. {}", line.path),
                };
                (
                    path,
                    line.before.clone().unwrap_or_default(),
                    line.after.clone().unwrap_or_default(),
                )
            })
            .collect(),
        documents: content
            .changes
            .iter()
            .flat_map(|change| change.documents.clone())
            .collect(),
        rationale: content.rationale.clone().unwrap_or_default(),
        who: format!("{} for {}", review.row.agent, review.row.intent),
        reasons: review
            .ruling
            .map(|ruling| ruling.reasons.into_iter().map(|it| it.text).collect())
            .unwrap_or_default(),
        reason: typed.reason,
    };
    Ok(render_as(status, &page))
}

/// What somebody says of a sample.
pub(super) async fn verdict(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let verdict = match fields.one("verdict")? {
        "agree" => Verdict::Agree,
        "disagree" => Verdict::Disagree,
        _ => return Err(Refusal::BadRequest("Say whether you agree.")),
    };
    let reason = fields.one("reason")?;
    let done = state
        .engine
        .review_sample(&person.human, id_of(&id)?, verdict, reason)
        .await;
    let failed = match done {
        Ok(()) => return Ok(Redirect::to("/console/oversight?done=looked-at").into_response()),
        Err(failed) => failed,
    };
    let problem = capital(&failed.to_string());
    match failed {
        SampleFailed::Missing => Err(Refusal::NotFound),
        SampleFailed::NotPermitted => Err(ViewFailed::NotPermitted.into()),
        SampleFailed::ReasonNeeded => {
            let typed = Typed {
                problem,
                reason: reason.to_owned(),
                ..Typed::default()
            };
            sample_page(
                &state,
                &person,
                &id,
                typed,
                StatusCode::UNPROCESSABLE_ENTITY,
            )
            .await
        }
        SampleFailed::Already | SampleFailed::SamePerson | SampleFailed::Conflict => {
            let typed = Typed {
                problem,
                ..Typed::default()
            };
            page(&state, &person, typed, StatusCode::CONFLICT).await
        }
        SampleFailed::Store(_) | SampleFailed::Keys(_) | SampleFailed::Commit(_) => {
            tracing::error!(error = %failed, "a look afterwards could not be recorded");
            Err(Refusal::Unavailable(
                "What you said could not be recorded. Try again.",
            ))
        }
    }
}

/// A row goes by what it says again, with a code for exactly this.
pub(super) async fn restore(
    State(state): State<ConsoleState>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let typed = Typed {
        key: fields.one("row")?.to_owned(),
        reason: fields.one("reason")?.trim().to_owned(),
        ..Typed::default()
    };
    if !state.engine.may_restore_rows(&person.human) {
        return Err(ViewFailed::NotPermitted.into());
    }
    let row: Digest = typed
        .key
        .parse()
        .map_err(|_| Refusal::BadRequest("The form names no row."))?;
    let digest = match state.engine.restore_digest(&row, &typed.reason).await {
        Ok(digest) => digest,
        Err(failed) => return not_restored(&state, &person, typed, failed).await,
    };
    let step = match state
        .engine
        .step_up_begin(&person.human, StepUpFor::Matter, digest)
        .await
    {
        Ok(step) => step,
        Err(refused) => return no_factor(&state, &person, typed, refused).await,
    };
    let code = fields.one("code")?.trim();
    if let Err(refused) = state.engine.step_up_verify(&person.human, step, code).await {
        return no_factor(&state, &person, typed, refused).await;
    }
    let done = state
        .engine
        .restore_row(&person.human, &row, &typed.reason, step)
        .await;
    match done {
        Ok(()) => Ok(Redirect::to("/console/oversight?done=restored").into_response()),
        Err(failed) => not_restored(&state, &person, typed, failed).await,
    }
}

async fn not_restored(
    state: &ConsoleState,
    person: &Person,
    typed: Typed,
    failed: RestoreFailed,
) -> Result<Response, Refusal> {
    let status = match &failed {
        RestoreFailed::NotPermitted | RestoreFailed::StepUp => StatusCode::FORBIDDEN,
        RestoreFailed::ReasonNeeded => StatusCode::UNPROCESSABLE_ENTITY,
        RestoreFailed::Missing => StatusCode::CONFLICT,
        RestoreFailed::Store(_) | RestoreFailed::Keys(_) | RestoreFailed::Commit(_) => {
            tracing::error!(error = %failed, "a row could not be restored");
            return Err(Refusal::Unavailable(
                "This could not be recorded, so nothing was restored. Try again.",
            ));
        }
    };
    let problem = capital(&failed.to_string());
    page(state, person, Typed { problem, ..typed }, status).await
}

async fn no_factor(
    state: &ConsoleState,
    person: &Person,
    typed: Typed,
    refused: StepUpRefused,
) -> Result<Response, Refusal> {
    let status = match &refused {
        StepUpRefused::NotEnrolled => return Err(Refusal::EnrolFirst),
        StepUpRefused::Wait { .. } => StatusCode::TOO_MANY_REQUESTS,
        StepUpRefused::CodeRefused { .. } | StepUpRefused::Again | StepUpRefused::Gone => {
            StatusCode::FORBIDDEN
        }
        _ => {
            tracing::error!(error = %refused, "a second factor could not be checked");
            return Err(Refusal::Internal);
        }
    };
    let problem = capital(&refused.to_string());
    page(state, person, Typed { problem, ..typed }, status).await
}
