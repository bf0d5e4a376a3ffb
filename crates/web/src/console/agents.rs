//! Agents and intents: who may do what, in which version, and what became of it.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use chaperone_core::bundle::PatientBinding;

use super::ConsoleState;
use super::modes::mode_css;
use super::page::{Chrome, Here, render};
use super::phrases;
use super::refusal::Refusal;
use super::session::Person;

#[derive(Template)]
#[template(path = "agents.html")]
pub(super) struct AgentsPage {
    pub(super) chrome: Chrome,
    pub(super) agents: Vec<AgentRow>,
    pub(super) intents: Vec<IntentRow>,
    pub(super) bundle: String,
    pub(super) owner: String,
    pub(super) review_by: String,
    pub(super) counted: usize,
}

/// One agent.
pub(super) struct AgentRow {
    pub(super) id: String,
    pub(super) version: String,
    pub(super) owner: String,
    pub(super) vendor: String,
    pub(super) model: String,
    pub(super) prompts: String,
    pub(super) providers: Vec<(String, String)>,
    pub(super) intents: Vec<String>,
    pub(super) mode: &'static str,
    pub(super) mode_css: &'static str,
    pub(super) agreement_expired: bool,
    pub(super) can_sign_in: bool,
    pub(super) proposed: usize,
    pub(super) done: usize,
    pub(super) waiting: usize,
    pub(super) refused: usize,
}

/// One intent.
pub(super) struct IntentRow {
    pub(super) id: String,
    pub(super) purpose: String,
    pub(super) purpose_of_use: String,
    pub(super) patient: &'static str,
    pub(super) presence: bool,
    pub(super) ttl: String,
    pub(super) tools: Vec<String>,
    pub(super) writes: Vec<String>,
    pub(super) view: Vec<(String, String)>,
}

pub(super) async fn show(
    State(state): State<ConsoleState>,
    person: Person,
) -> Result<Response, Refusal> {
    let view = state.engine.agents_page().await?;
    let page = AgentsPage {
        chrome: Chrome::of(&state, &person, "Agents and intents", Here::Agents).await?,
        agents: view
            .agents
            .iter()
            .map(|agent| {
                let declared = &agent.declared;
                AgentRow {
                    id: declared.id.to_string(),
                    version: declared.version.clone(),
                    owner: declared.owner.clone(),
                    vendor: declared.vendor.clone(),
                    model: declared.model.clone(),
                    prompts: declared.prompts.join(", "),
                    providers: declared
                        .providers
                        .iter()
                        .map(|provider| {
                            (
                                provider.name.clone(),
                                provider.baa_expires.strftime("%Y-%m-%d").to_string(),
                            )
                        })
                        .collect(),
                    intents: declared.intents.iter().map(ToString::to_string).collect(),
                    mode: phrases::mode(agent.mode),
                    mode_css: mode_css(agent.mode),
                    agreement_expired: agent.agreement_expired,
                    can_sign_in: !declared.keys.is_empty(),
                    proposed: agent.outcomes.proposed,
                    done: agent.outcomes.done,
                    waiting: agent.outcomes.waiting,
                    refused: agent.outcomes.refused,
                }
            })
            .collect(),
        intents: view
            .intents
            .iter()
            .map(|intent| IntentRow {
                id: intent.id.to_string(),
                purpose: intent.purpose.clone(),
                purpose_of_use: intent.purpose_of_use.to_string(),
                patient: match intent.patient {
                    PatientBinding::Required => "one patient, from a grant",
                    PatientBinding::None => "no patient",
                },
                presence: intent.presence,
                ttl: phrases::duration(intent.ttl_s),
                tools: intent.tools.iter().map(ToString::to_string).collect(),
                writes: intent.writes.clone(),
                view: intent
                    .view
                    .iter()
                    .map(|(resource, fields)| (resource.to_string(), fields.join(", ")))
                    .collect(),
            })
            .collect(),
        bundle: view.bundle,
        owner: view.owner,
        review_by: view.review_by,
        counted: view.counted,
    };
    Ok(render(&page))
}
