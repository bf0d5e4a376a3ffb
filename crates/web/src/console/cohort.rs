//! Cohort jobs: which lists of patients there are, and one of them, to read, strike patients from, approve or stop. The
//! list of jobs says nothing of patients; the page of one shows them as other lists do, each look recorded.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use chaperone_core::cohort::{CohortCounts, CohortStep};
use chaperone_core::digest::Digest;
use chaperone_core::ids::{CohortId, CohortJobId, PatientToken};
use chaperone_core::phi::ExposedFor;
use chaperone_engine::cohort::{
    CohortFailed, CohortRequest, CohortStage, CohortStatus, CohortView, ListedPatient,
};
use chaperone_engine::people::{StepUpFor, StepUpRefused};
use chaperone_engine::views::ViewFailed;

use super::ConsoleState;
use super::page::{Chrome, Here, render_as};
use super::phrases::{self, Moment};
use super::refusal::Refusal;
use super::session::{Person, Submitted};
use super::setup::capital;

/// How much of a digest people compare.
const DIGEST_SHOWN: usize = 16;

#[derive(Template)]
#[template(path = "cohorts.html")]
pub(super) struct CohortsPage {
    pub(super) chrome: Chrome,
    pub(super) problem: String,
    pub(super) cohorts: Vec<CohortRow>,
    pub(super) jobs: Vec<JobRow>,
    pub(super) reason: String,
}

/// A cohort of the bundle.
pub(super) struct CohortRow {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) purpose: String,
    pub(super) words: String,
    pub(super) can_request: bool,
    pub(super) arguments: Vec<ArgumentRow>,
}

/// What may be chosen.
pub(super) struct ArgumentRow {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) minimum: i64,
    pub(super) maximum: i64,
    pub(super) default: i64,
}

/// A job in the list.
pub(super) struct JobRow {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) by: String,
    pub(super) requested: Moment,
    pub(super) reason: String,
    pub(super) words: String,
    pub(super) open: bool,
}

#[derive(Template)]
#[template(path = "cohort.html")]
pub(super) struct CohortPage {
    pub(super) chrome: Chrome,
    pub(super) problem: String,
    pub(super) job: JobRow,
    pub(super) purpose: String,
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) counts: Vec<(&'static str, u64)>,
    pub(super) removed: Vec<(&'static str, u64)>,
    pub(super) list: String,
    pub(super) list_short: String,
    pub(super) listed: u64,
    pub(super) patients: Vec<PatientRow>,
    pub(super) can_approve: bool,
    pub(super) can_strike: bool,
    pub(super) can_stop: bool,
}

/// A patient of the list.
pub(super) struct PatientRow {
    pub(super) token: String,
    pub(super) initials: String,
    pub(super) age: String,
    pub(super) words: &'static str,
    pub(super) listed: bool,
}

pub(super) async fn list(
    State(state): State<ConsoleState>,
    person: Person,
) -> Result<Response, Refusal> {
    all(&state, &person, String::new(), "", StatusCode::OK).await
}

async fn all(
    state: &ConsoleState,
    person: &Person,
    problem: String,
    reason: &str,
    status: StatusCode,
) -> Result<Response, Refusal> {
    let engine = &state.engine;
    let jobs = engine.cohort_jobs(&person.human).await.map_err(refused)?;
    let now = engine.now();
    let cohorts = engine.cohorts_for(&person.human).into_iter().map(|cohort| {
        let argument =
            |(name, it): (&String, &chaperone_core::cohort::CohortArgument)| ArgumentRow {
                name: name.clone(),
                title: it.title.clone(),
                minimum: it.minimum,
                maximum: it.maximum,
                default: it.default,
            };
        CohortRow {
            id: cohort.id.to_string(),
            title: cohort.title.clone(),
            purpose: cohort.purpose.clone(),
            words: format!(
                "{} for {}, at most {} patients, {} a minute",
                cohort.agent, cohort.intent, cohort.cap, cohort.grants_per_minute
            ),
            can_request: engine.may_request_cohort(&person.human, cohort),
            arguments: cohort.arguments.iter().map(argument).collect(),
        }
    });
    let page = CohortsPage {
        chrome: Chrome::of(state, person, "Cohorts", Here::Cohorts).await?,
        problem,
        cohorts: cohorts.collect(),
        jobs: jobs.iter().map(|job| job_row(job, now)).collect(),
        reason: reason.to_owned(),
    };
    Ok(render_as(status, &page))
}

/// Asks for a list.
pub(super) async fn request(
    State(state): State<ConsoleState>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let reason = fields.one("reason")?.trim();
    let cohort: Result<CohortId, _> = fields.one("cohort")?.parse();
    let cohort = cohort.map_err(|_| Refusal::BadRequest("The form names no cohort."))?;
    let mut arguments = BTreeMap::new();
    let declared = state.engine.bundle().cohort(&cohort);
    for name in declared.into_iter().flat_map(|it| it.arguments.keys()) {
        let typed = fields.one(name)?.trim();
        if typed.is_empty() {
            continue;
        }
        let Ok(number) = typed.parse() else {
            let problem = "Give whole numbers.".to_owned();
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return all(&state, &person, problem, reason, status).await;
        };
        arguments.insert(name.clone(), number);
    }
    let request = CohortRequest {
        cohort,
        arguments,
        reason: reason.to_owned(),
    };
    match state.engine.request_cohort(&person.human, &request).await {
        Ok(job) => Ok(Redirect::to(&format!("/console/cohorts/{job}")).into_response()),
        Err(failed) => {
            let (status, problem) = told(failed)?;
            all(&state, &person, problem, reason, status).await
        }
    }
}

pub(super) async fn show(
    State(state): State<ConsoleState>,
    person: Person,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    page(&state, &person, job_of(&id)?, String::new(), StatusCode::OK).await
}

/// Strikes a patient.
pub(super) async fn strike(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let (id, list) = (job_of(&id)?, digest_of(fields.one("list")?)?);
    let patient: Result<PatientToken, _> = fields.one("patient")?.parse();
    let patient = patient.map_err(|_| Refusal::BadRequest("The form names no patient."))?;
    let engine = &state.engine;
    let done = engine
        .strike_from_cohort(&person.human, id, list, patient)
        .await;
    done_or_again(&state, &person, id, done.map(|_| ())).await
}

/// Approves the list, with a code for exactly this.
pub(super) async fn approve(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let (id, list) = (job_of(&id)?, digest_of(fields.one("list")?)?);
    let engine = &state.engine;
    let step = match engine
        .step_up_begin(&person.human, StepUpFor::Matter, list)
        .await
    {
        Ok(step) => step,
        Err(failed) => return no_factor(&state, &person, id, failed).await,
    };
    let code = fields.one("code")?.trim();
    if let Err(failed) = engine.step_up_verify(&person.human, step, code).await {
        return no_factor(&state, &person, id, failed).await;
    }
    let done = engine.approve_cohort(&person.human, id, list, step).await;
    done_or_again(&state, &person, id, done.map(|_| ())).await
}

/// Says no, or stops it.
pub(super) async fn stop(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let id = job_of(&id)?;
    let done = state.engine.stop_cohort(&form.person.human, id).await;
    done_or_again(&state, &form.person, id, done).await
}

async fn done_or_again(
    state: &ConsoleState,
    person: &Person,
    id: CohortJobId,
    done: Result<(), CohortFailed>,
) -> Result<Response, Refusal> {
    match done {
        Ok(()) => Ok(Redirect::to(&format!("/console/cohorts/{id}")).into_response()),
        Err(failed) => {
            let (status, problem) = told(failed)?;
            page(state, person, id, problem, status).await
        }
    }
}

async fn no_factor(
    state: &ConsoleState,
    person: &Person,
    id: CohortJobId,
    refused: StepUpRefused,
) -> Result<Response, Refusal> {
    let status = match &refused {
        StepUpRefused::NotEnrolled => {
            let problem =
                "Approving a list takes a code of an authenticator app, and your account has none.";
            let status = StatusCode::FORBIDDEN;
            return page(state, person, id, problem.to_owned(), status).await;
        }
        StepUpRefused::Wait { .. } => StatusCode::TOO_MANY_REQUESTS,
        StepUpRefused::CodeRefused { .. }
        | StepUpRefused::CodesOff
        | StepUpRefused::PasskeyRefused(_)
        | StepUpRefused::Again
        | StepUpRefused::Gone => StatusCode::FORBIDDEN,
        StepUpRefused::Vault(_) | StepUpRefused::Store(_) | StepUpRefused::Commit(_) => {
            tracing::error!(error = %refused, "a second factor could not be checked");
            return Err(Refusal::Internal);
        }
    };
    page(state, person, id, capital(&refused.to_string()), status).await
}

async fn page(
    state: &ConsoleState,
    person: &Person,
    id: CohortJobId,
    problem: String,
    status: StatusCode,
) -> Result<Response, Refusal> {
    let view = state.engine.cohort_view(&person.human, id).await;
    let CohortView {
        status: job,
        purpose,
        turn,
        patients,
    } = view.map_err(refused)?;
    let now = state.engine.now();
    let list = job.job.list.to_string();
    let removed = job.job.removed.iter();
    let page = CohortPage {
        chrome: Chrome::of(state, person, "Cohort job", Here::Cohorts).await?,
        problem,
        facts: facts(&job),
        counts: counted(&job.counts),
        removed: removed.map(|(why, count)| (why.words(), *count)).collect(),
        list_short: list
            .get(list.len().saturating_sub(DIGEST_SHOWN)..)
            .unwrap_or_default()
            .to_owned(),
        list,
        listed: job.counts.listed,
        patients: patients.into_iter().map(patient_row).collect(),
        can_approve: turn.approve && job.counts.listed > 0,
        can_strike: turn.strike,
        can_stop: turn.stop,
        job: job_row(&job, now),
        purpose,
    };
    Ok(render_as(status, &page))
}

fn patient_row(patient: ListedPatient) -> PatientRow {
    let shown = patient
        .shown
        .map(|shown| shown.into_exposed(ExposedFor::Person));
    let (initials, age) = shown.map_or_else(
        || ("not in the EHR".to_owned(), String::new()),
        |it| (it.initials, it.age),
    );
    PatientRow {
        token: patient.token.to_string(),
        initials,
        age,
        words: patient.step.words(),
        listed: patient.step == CohortStep::Listed,
    }
}

fn facts(status: &CohortStatus) -> Vec<(&'static str, String)> {
    let job = &status.job;
    let mut facts = vec![
        ("Agent", format!("{} for {}", job.agent, job.intent)),
        ("Counts until", phrases::exact(job.until)),
    ];
    if let CohortStage::Approved { approver, .. } = &job.stage {
        facts.push(("Approved by", approver.to_string()));
    }
    for (name, value) in &job.arguments {
        facts.push(("Chosen", format!("{name}: {value}")));
    }
    facts
}

fn counted(counts: &CohortCounts) -> Vec<(&'static str, u64)> {
    vec![
        ("On the list, nothing done yet", counts.listed),
        ("Waiting for the agent", counts.granted),
        ("Taken by the agent", counts.used),
        ("Ran out unused", counts.unused),
        ("Left out", counts.left_out),
    ]
}

fn job_row(status: &CohortStatus, now: chaperone_core::Timestamp) -> JobRow {
    let job = &status.job;
    let words = match &job.stage {
        CohortStage::Listed => "waits to be approved",
        CohortStage::Approved { .. } => "approved, being worked off",
        CohortStage::Ended { cause, .. } => cause.words(),
    };
    JobRow {
        id: job.id.to_string(),
        title: status
            .title
            .clone()
            .unwrap_or_else(|| job.cohort.to_string()),
        by: job.account.to_string(),
        requested: phrases::ago(job.requested, now),
        reason: status
            .why
            .clone()
            .unwrap_or_else(|| "(cannot be opened)".to_owned()),
        words: words.to_owned(),
        open: !matches!(job.stage, CohortStage::Ended { .. }),
    }
}

fn job_of(id: &str) -> Result<CohortJobId, Refusal> {
    id.parse().map_err(|_| Refusal::NotFound)
}

fn digest_of(text: &str) -> Result<Digest, Refusal> {
    text.parse()
        .map_err(|_| Refusal::BadRequest("The form names no list."))
}

/// What a person is told, with the status; Chaperone's own failures are pages of their own.
fn told(failed: CohortFailed) -> Result<(StatusCode, String), Refusal> {
    let status = match &failed {
        CohortFailed::NotPermitted
        | CohortFailed::SamePerson
        | CohortFailed::NotSeen
        | CohortFailed::StepUp => StatusCode::FORBIDDEN,
        CohortFailed::UnderWay(_)
        | CohortFailed::OtherList
        | CohortFailed::NotNow
        | CohortFailed::RulesChanged
        | CohortFailed::Again => StatusCode::CONFLICT,
        CohortFailed::UnknownCohort
        | CohortFailed::Argument { .. }
        | CohortFailed::ReasonUnfit
        | CohortFailed::AgentRefused
        | CohortFailed::Nobody(_)
        | CohortFailed::OverCap { .. }
        | CohortFailed::TooManyFound(_) => StatusCode::UNPROCESSABLE_ENTITY,
        CohortFailed::Ehr(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => return Err(refused(failed)),
    };
    Ok((status, capital(&failed.to_string())))
}

fn refused(failed: CohortFailed) -> Refusal {
    match failed {
        CohortFailed::NotPermitted => ViewFailed::NotPermitted.into(),
        CohortFailed::Missing => Refusal::NotFound,
        CohortFailed::Ehr(failed) => ViewFailed::Ehr(failed).into(),
        failed => {
            tracing::error!(error = %failed, "a cohort job could not be looked at or moved");
            Refusal::Unavailable(
                "This could not be done, and nothing was changed by it. Try again.",
            )
        }
    }
}
