//! The switches.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use chaperone_core::mode::{Mode, ModeScope};
use chaperone_core::resource::ResourceType;
use chaperone_engine::switch_mode::SwitchFailed;
use chaperone_engine::views::modes::mode_words;
use chaperone_engine::views::timeline::actor_words;

use super::ConsoleState;
use super::page::{Chrome, Done, Here, render_as};
use super::phrases::{self, Moment};
use super::refusal::Refusal;
use super::session::{Person, Submitted};
use super::setup::capital;

const MODES: [Mode; 4] = [
    Mode::Normal,
    Mode::WritePaused,
    Mode::ReadOnly,
    Mode::Halted,
];

#[derive(Template)]
#[template(path = "modes.html")]
pub(super) struct ModesPage {
    pub(super) chrome: Chrome,
    pub(super) done: &'static str,
    pub(super) problem: String,
    pub(super) switches: Vec<SwitchRow>,
    pub(super) positions: Vec<PositionRow>,
    pub(super) moves: Vec<MoveRow>,
    pub(super) may_stop: bool,
    pub(super) may_release: bool,
    pub(super) reason: String,
}

/// One switch.
pub(super) struct SwitchRow {
    pub(super) value: String,
    pub(super) label: String,
    pub(super) mode: &'static str,
    pub(super) css: &'static str,
    pub(super) queued: usize,
    pub(super) awaiting: usize,
    pub(super) selected: bool,
}

/// One position.
pub(super) struct PositionRow {
    pub(super) value: &'static str,
    pub(super) label: &'static str,
    pub(super) words: &'static str,
    pub(super) selected: bool,
    pub(super) offered: bool,
}

/// One move of the past.
pub(super) struct MoveRow {
    pub(super) seq: u64,
    pub(super) at: Moment,
    pub(super) actor: String,
    pub(super) scope: String,
    pub(super) mode: &'static str,
    pub(super) reason: String,
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

#[derive(Default)]
struct Typed {
    done: &'static str,
    problem: String,
    scope: String,
    mode: String,
    reason: String,
}

async fn page(
    state: &ConsoleState,
    person: &Person,
    typed: Typed,
    status: StatusCode,
) -> Result<Response, Refusal> {
    let view = state.engine.modes_view(&person.human).await?;
    let now = state.engine.now();
    let page = ModesPage {
        chrome: Chrome::of(state, person, "Modes", Here::Modes).await?,
        done: typed.done,
        problem: typed.problem,
        switches: view
            .switches
            .iter()
            .map(|switch| {
                let value = scope_value(&switch.scope);
                SwitchRow {
                    selected: value == typed.scope,
                    value,
                    label: phrases::scope(&switch.scope),
                    mode: phrases::mode(switch.mode),
                    css: mode_css(switch.mode),
                    queued: switch.queued,
                    awaiting: switch.awaiting,
                }
            })
            .collect(),
        positions: MODES
            .into_iter()
            .map(|mode| PositionRow {
                value: mode.as_str(),
                label: phrases::mode(mode),
                words: mode_words(mode),
                selected: typed.mode == mode.as_str(),
                offered: view.may_release || mode != Mode::Normal,
            })
            .collect(),
        moves: view
            .moves
            .into_iter()
            .map(|one| MoveRow {
                seq: one.seq,
                at: phrases::ago(one.at, now),
                actor: actor_words(&one.actor),
                scope: phrases::scope(&one.scope),
                mode: phrases::mode(one.mode),
                reason: one
                    .reason
                    .unwrap_or_else(|| "(cannot be opened)".to_owned()),
            })
            .collect(),
        may_stop: view.may_stop,
        may_release: view.may_release,
        reason: typed.reason,
    };
    Ok(render_as(status, &page))
}

pub(super) async fn submit(
    State(state): State<ConsoleState>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let typed = Typed {
        scope: fields.one("scope")?.to_owned(),
        mode: fields.one("mode")?.to_owned(),
        reason: fields.one("reason")?.to_owned(),
        ..Typed::default()
    };
    let mode = MODES.into_iter().find(|mode| mode.as_str() == typed.mode);
    let (Some(scope), Some(mode)) = (scope_of(&typed.scope), mode) else {
        let problem = "Choose what to switch, and where to.".to_owned();
        return page(
            &state,
            &person,
            Typed { problem, ..typed },
            StatusCode::UNPROCESSABLE_ENTITY,
        )
        .await;
    };
    let failed = match state
        .engine
        .switch_mode(&person.human, scope, mode, &typed.reason)
        .await
    {
        Ok(()) => return Ok(Redirect::to("/console/modes?done=switched").into_response()),
        Err(failed) => failed,
    };
    let status = match &failed {
        SwitchFailed::NotPermitted => StatusCode::FORBIDDEN,
        SwitchFailed::ReasonUnfit | SwitchFailed::UnknownScope => StatusCode::UNPROCESSABLE_ENTITY,
        SwitchFailed::NoChange | SwitchFailed::Again => StatusCode::CONFLICT,
        SwitchFailed::Keys(_) | SwitchFailed::Store(_) | SwitchFailed::Commit(_) => {
            tracing::error!(error = %failed, "a switch could not be moved");
            return Err(Refusal::Unavailable(
                "The switch could not be recorded, so it was not moved.",
            ));
        }
    };
    let problem = capital(&failed.to_string());
    page(&state, &person, Typed { problem, ..typed }, status).await
}

pub(super) fn mode_css(mode: Mode) -> &'static str {
    match mode {
        Mode::Normal => "good",
        Mode::WritePaused | Mode::ReadOnly => "warn",
        Mode::Halted => "bad",
    }
}

fn scope_value(scope: &ModeScope) -> String {
    match scope {
        ModeScope::Tenant => "tenant".to_owned(),
        ModeScope::Agent(agent) => format!("agent/{agent}"),
        ModeScope::Intent(intent) => format!("intent/{intent}"),
        ModeScope::Resource(resource) => format!("resource/{resource}"),
        ModeScope::Ehr(connection) => format!("ehr/{connection}"),
    }
}

fn scope_of(value: &str) -> Option<ModeScope> {
    match value.split_once('/') {
        None => (value == "tenant").then_some(ModeScope::Tenant),
        Some(("agent", name)) => name.parse().ok().map(ModeScope::Agent),
        Some(("intent", name)) => name.parse().ok().map(ModeScope::Intent),
        Some(("resource", name)) => ResourceType::new(name).ok().map(ModeScope::Resource),
        Some(("ehr", name)) => name.parse().ok().map(ModeScope::Ehr),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_survive_the_form_and_others_are_refused() {
        let scopes = [
            ModeScope::Tenant,
            ModeScope::Agent("scheduler".parse().unwrap()),
            ModeScope::Intent("draft-note".parse().unwrap()),
            ModeScope::Resource(ResourceType::new("Observation").unwrap()),
            ModeScope::Ehr("sandbox".parse().unwrap()),
        ];
        for scope in scopes {
            assert_eq!(scope_of(&scope_value(&scope)), Some(scope));
        }
        for bad in [
            "",
            "tenants",
            "agent/",
            "agent/UPPER",
            "resource/observation",
            "other/x",
        ] {
            assert_eq!(scope_of(bad), None, "{bad}");
        }
    }
}
