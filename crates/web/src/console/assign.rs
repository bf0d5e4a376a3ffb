//! Assigning: a person puts a patient before an agent. The search travels in a form, never in an
//! address.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chaperone_core::bundle::PatientBinding;
use chaperone_core::ids::{AgentId, IntentId, PatientToken};
use chaperone_core::phi::ExposedFor;
use chaperone_core::principal::Role;
use chaperone_engine::grant::{GrantFailed, GrantRequest, PatientRef};
use chaperone_engine::views::patients::PatientHit;

use super::ConsoleState;
use super::page::{Chrome, Here, render_as};
use super::phrases;
use super::refusal::Refusal;
use super::session::{Person, Submitted};
use super::setup::capital;

#[derive(Template)]
#[template(path = "assign.html")]
pub(super) struct AssignPage {
    pub(super) chrome: Chrome,
    pub(super) problem: String,
    pub(super) query: String,
    pub(super) searched: bool,
    pub(super) hits: Vec<HitRow>,
    pub(super) pairs: Vec<PairRow>,
    pub(super) clinician: bool,
    pub(super) granted: Option<GrantedRows>,
}

/// One search hit.
pub(super) struct HitRow {
    pub(super) token: String,
    pub(super) name: String,
    pub(super) birth_date: String,
    pub(super) age: String,
    pub(super) identifiers: Vec<(String, String)>,
}

/// One agent with one of its intents.
pub(super) struct PairRow {
    pub(super) value: String,
    pub(super) label: String,
}

/// A grant that was just made.
pub(super) struct GrantedRows {
    pub(super) id: String,
    pub(super) agent: String,
    pub(super) intent: String,
    pub(super) left: phrases::Moment,
    pub(super) presence: bool,
}

pub(super) async fn show(
    State(state): State<ConsoleState>,
    person: Person,
) -> Result<Response, Refusal> {
    page(&state, &person, Shown::default(), StatusCode::OK).await
}

pub(super) async fn search(
    State(state): State<ConsoleState>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let query = fields.one("query")?.trim().to_owned();
    let hits = state.engine.patients_search(&person.human, &query).await?;
    let shown = Shown {
        query,
        searched: true,
        hits,
        ..Shown::default()
    };
    page(&state, &person, shown, StatusCode::OK).await
}

pub(super) async fn submit(
    State(state): State<ConsoleState>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let pair = fields.one("pair")?.split_once('/');
    let pair: Option<(AgentId, IntentId)> =
        pair.and_then(|(agent, intent)| Some((agent.parse().ok()?, intent.parse().ok()?)));
    let patient: Option<PatientToken> = fields.one("patient")?.parse().ok();
    let (Some((agent, intent)), Some(patient)) = (pair, patient) else {
        let problem = "Choose a patient, and an agent with its intent.".to_owned();
        let shown = Shown {
            problem,
            ..Shown::default()
        };
        return page(&state, &person, shown, StatusCode::UNPROCESSABLE_ENTITY).await;
    };
    let request = GrantRequest {
        agent,
        intent,
        patient: PatientRef::Token(patient),
        encounter: None,
        presence: fields.one("presence")? == "yes",
    };
    match state.engine.issue_grant(&person.human, request).await {
        Ok(grant) => {
            let granted = GrantedRows {
                id: grant.id.to_string(),
                agent: grant.agent.to_string(),
                intent: grant.intent.to_string(),
                left: phrases::left(grant.expires, state.engine.now()),
                presence: grant.presence.is_some(),
            };
            let shown = Shown {
                granted: Some(granted),
                ..Shown::default()
            };
            page(&state, &person, shown, StatusCode::OK).await
        }
        Err(failed) => {
            let status = match &failed {
                GrantFailed::NotPermitted => StatusCode::FORBIDDEN,
                GrantFailed::NotRegistered
                | GrantFailed::AgentRefused
                | GrantFailed::PatientFree
                | GrantFailed::PatientNotFound
                | GrantFailed::EncounterNotFound => StatusCode::UNPROCESSABLE_ENTITY,
                GrantFailed::Ehr(_) => StatusCode::SERVICE_UNAVAILABLE,
                GrantFailed::Token(_) | GrantFailed::Store(_) | GrantFailed::Commit(_) => {
                    tracing::error!(error = %failed, "a grant could not be made");
                    return Err(Refusal::Internal);
                }
            };
            let shown = Shown {
                problem: capital(&failed.to_string()),
                ..Shown::default()
            };
            page(&state, &person, shown, status).await
        }
    }
}

impl HitRow {
    /// For the person whose search found the patient; the look is recorded.
    pub(super) fn of(hit: PatientHit) -> Self {
        let found = hit.shown.into_exposed(ExposedFor::Person);
        Self {
            token: hit.token.to_string(),
            name: found.name,
            birth_date: found.birth_date,
            age: found.age,
            identifiers: found.identifiers,
        }
    }
}

#[derive(Default)]
struct Shown {
    problem: String,
    query: String,
    searched: bool,
    hits: Vec<PatientHit>,
    granted: Option<GrantedRows>,
}

async fn page(
    state: &ConsoleState,
    person: &Person,
    shown: Shown,
    status: StatusCode,
) -> Result<Response, Refusal> {
    if !chaperone_engine::views::patients::sees_patients(&person.human) {
        return Err(Refusal::Forbidden(
            "Your roles do not cover patients, so you cannot put one before an agent.",
        ));
    }
    let bundle = state.engine.bundle();
    let mut pairs = Vec::new();
    for agent in bundle.agents() {
        for id in &agent.intents {
            let about_patient = bundle
                .intent(id)
                .is_some_and(|intent| intent.patient == PatientBinding::Required);
            if about_patient {
                let value = format!("{}/{id}", agent.id);
                pairs.push(PairRow {
                    value,
                    label: format!("{} · {id}", agent.id),
                });
            }
        }
    }
    let page = AssignPage {
        chrome: Chrome::of(state, person, "Assign", Here::Assign).await?,
        problem: shown.problem,
        query: shown.query,
        searched: shown.searched,
        hits: shown.hits.into_iter().map(HitRow::of).collect(),
        pairs,
        clinician: person.human.holds(Role::Clinician),
        granted: shown.granted,
    };
    Ok(render_as(status, &page))
}
