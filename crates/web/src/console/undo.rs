//! Undoing what went wrong: choose what, see what would be done and who would have to agree, start it with a reason and
//! a code, and watch it. Ids, types and codes; nothing about patients.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use chaperone_core::gate::Gate;
use chaperone_core::ids::UndoId;
use chaperone_core::undo::{UndoSelection, UndoStep};
use chaperone_engine::audit::Span;
use chaperone_engine::people::{StepUpFor, StepUpRefused};
use chaperone_engine::undo::{Planned, UndoFailed, UndoPlan, UndoRequest, UndoStatus, may_undo};
use chaperone_engine::views::ViewFailed;
use chaperone_engine::views::timeline::step_words;

use super::ConsoleState;
use super::page::{Chrome, Here, render_as};
use super::phrases::{self, Moment};
use super::refusal::Refusal;
use super::session::{Fields, Person, Submitted};
use super::setup::capital;

/// Most effects shown one by one.
const ROWS_MAX: usize = 200;

#[derive(Template)]
#[template(path = "undo.html")]
pub(super) struct UndoPage {
    pub(super) chrome: Chrome,
    pub(super) problem: String,
    pub(super) typed: Typed,
    pub(super) agents: Vec<String>,
    pub(super) intents: Vec<String>,
    pub(super) plan: Option<PlanRows>,
    pub(super) runs: Vec<RunRow>,
}

/// What was typed, as it goes back into the form.
#[derive(Default, Clone)]
pub(super) struct Typed {
    pub(super) agent: String,
    pub(super) model: String,
    pub(super) prompt: String,
    pub(super) intent: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) writeback: String,
    pub(super) reason: String,
    pub(super) stop: bool,
}

/// What would be done.
pub(super) struct PlanRows {
    pub(super) rows: Vec<EffectRow>,
    pub(super) total: usize,
    pub(super) left_off: usize,
    pub(super) unreadable: u64,
}

/// One effect, before or during a run.
pub(super) struct EffectRow {
    pub(super) id: String,
    pub(super) what: String,
    pub(super) state: &'static str,
    pub(super) state_css: &'static str,
    pub(super) on: String,
    pub(super) words: String,
    pub(super) link: String,
}

/// One run in the list.
pub(super) struct RunRow {
    pub(super) id: String,
    pub(super) by: String,
    pub(super) started: Moment,
    pub(super) reason: String,
    pub(super) words: String,
    pub(super) open: bool,
}

#[derive(Template)]
#[template(path = "undo_run.html")]
pub(super) struct UndoRunPage {
    pub(super) chrome: Chrome,
    pub(super) run: RunRow,
    pub(super) selection: Vec<(&'static str, String)>,
    pub(super) counts: Vec<(&'static str, u64)>,
    pub(super) rows: Vec<EffectRow>,
    pub(super) left_off: usize,
    pub(super) unreadable: u64,
}

pub(super) async fn show(
    State(state): State<ConsoleState>,
    person: Person,
) -> Result<Response, Refusal> {
    page(
        &state,
        &person,
        Typed::default(),
        None,
        String::new(),
        StatusCode::OK,
    )
    .await
}

async fn page(
    state: &ConsoleState,
    person: &Person,
    typed: Typed,
    plan: Option<UndoPlan>,
    problem: String,
    status: StatusCode,
) -> Result<Response, Refusal> {
    if !may_undo(&person.human) {
        return Err(ViewFailed::NotPermitted.into());
    }
    let now = state.engine.now();
    let runs = state
        .engine
        .undo_runs(&person.human)
        .await
        .map_err(unavailable)?;
    let bundle = state.engine.bundle();
    let page = UndoPage {
        chrome: Chrome::of(state, person, "Undo", Here::Undo).await?,
        problem,
        typed,
        agents: bundle.agents().map(|it| it.id.to_string()).collect(),
        intents: bundle.intents().map(|it| it.id.to_string()).collect(),
        plan: plan.map(plan_rows),
        runs: runs.iter().map(|run| run_row(run, now)).collect(),
    };
    Ok(render_as(status, &page))
}

/// Shows what would be done; nothing is.
pub(super) async fn preview(
    State(state): State<ConsoleState>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    if !may_undo(&person.human) {
        return Err(ViewFailed::NotPermitted.into());
    }
    let typed = typed_of(&fields)?;
    let planned = match selection_of(&typed) {
        Ok(selection) => state.engine.undo_plan(&selection).await,
        Err(problem) => return unfit(&state, &person, typed, problem).await,
    };
    match planned {
        Ok(plan) if plan.items.is_empty() => {
            let problem = "Nothing was found that could be undone.".to_owned();
            page(&state, &person, typed, None, problem, StatusCode::OK).await
        }
        Ok(plan) => {
            page(
                &state,
                &person,
                typed,
                Some(plan),
                String::new(),
                StatusCode::OK,
            )
            .await
        }
        Err(failed) => not_started(&state, &person, typed, failed).await,
    }
}

/// Starts a run, with a code for exactly this.
pub(super) async fn start(
    State(state): State<ConsoleState>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    if !may_undo(&person.human) {
        return Err(ViewFailed::NotPermitted.into());
    }
    let typed = typed_of(&fields)?;
    let selection = match selection_of(&typed) {
        Ok(selection) => selection,
        Err(problem) => return unfit(&state, &person, typed, problem).await,
    };
    let request = UndoRequest {
        selection,
        reason: typed.reason.clone(),
        stop_agent: typed.stop,
    };
    let digest = state.engine.undo_digest(&request).map_err(unavailable)?;
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
    match state.engine.start_undo(&person.human, &request, step).await {
        Ok(run) => Ok(Redirect::to(&format!("/console/undo/{run}")).into_response()),
        Err(failed) => not_started(&state, &person, typed, failed).await,
    }
}

/// One run.
pub(super) async fn run(
    State(state): State<ConsoleState>,
    person: Person,
    Path(run): Path<String>,
) -> Result<Response, Refusal> {
    if !may_undo(&person.human) {
        return Err(ViewFailed::NotPermitted.into());
    }
    let run: UndoId = run.parse().map_err(|_| Refusal::NotFound)?;
    let status = match state.engine.undo_status(run).await {
        Ok(status) => status,
        Err(UndoFailed::UnknownRun) => return Err(Refusal::NotFound),
        Err(failed) => return Err(unavailable(failed)),
    };
    let left_off = status.items.len().saturating_sub(ROWS_MAX);
    let rows = status.items.iter().take(ROWS_MAX).map(|item| {
        let (state, state_css) = item.state.map_or(("not kept", "warn"), phrases::state);
        let link = match &item.step {
            UndoStep::Proposed { by } | UndoStep::Undone { by } => by.to_string(),
            UndoStep::Person {
                task: Some(task), ..
            } => task.to_string(),
            _ => String::new(),
        };
        let mut words = capital(&step_words(&item.step));
        if let (UndoStep::Proposed { .. }, Some(compensation)) = (&item.step, item.compensation) {
            words = format!(
                "What undoes it: {}{}",
                phrases::state(compensation).0,
                needs(item.gate.as_ref())
            );
        }
        EffectRow {
            id: item.writeback.to_string(),
            what: item
                .resource
                .as_ref()
                .map_or("", |it| it.as_str())
                .to_owned(),
            state,
            state_css,
            on: item.on.map(|on| on.to_string()).unwrap_or_default(),
            words,
            link,
        }
    });
    let page = UndoRunPage {
        chrome: Chrome::of(&state, &person, "Undo run", Here::Undo).await?,
        run: run_row(&status, state.engine.now()),
        selection: selected(&status.selection),
        counts: counted(&status),
        rows: rows.collect(),
        left_off,
        unreadable: status.unreadable,
    };
    Ok(render_as(StatusCode::OK, &page))
}

fn typed_of(fields: &Fields) -> Result<Typed, Refusal> {
    let one = |name: &str| fields.one(name).map(|it| it.trim().to_owned());
    Ok(Typed {
        agent: one("agent")?,
        model: one("model")?,
        prompt: one("prompt")?,
        intent: one("intent")?,
        from: one("from")?,
        to: one("to")?,
        writeback: one("writeback")?,
        reason: one("reason")?,
        stop: fields.one("stop")? == "yes",
    })
}

/// What was typed, as a selection, or what is wrong with it.
fn selection_of(typed: &Typed) -> Result<UndoSelection, String> {
    fn some<T: std::str::FromStr>(text: &str, what: &str) -> Result<Option<T>, String> {
        match text {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| format!("This is no {what}.")),
        }
    }
    let span = Span::of_days(&typed.from, &typed.to)
        .map_err(|_| "Write days as 2026-01-31.".to_owned())?;
    let selection = UndoSelection {
        agent: some(&typed.agent, "agent")?,
        model: some(&typed.model, "model's name")?,
        prompt: some(&typed.prompt, "prompt's version")?,
        intent: some(&typed.intent, "intent")?,
        from: span.from,
        to: span.to,
        writeback: some(&typed.writeback, "write-back's id")?,
    };
    if selection.is_empty() {
        return Err("Say what to undo: fill in at least one field.".to_owned());
    }
    Ok(selection)
}

async fn unfit(
    state: &ConsoleState,
    person: &Person,
    typed: Typed,
    problem: String,
) -> Result<Response, Refusal> {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    page(state, person, typed, None, problem, status).await
}

/// The preview again, with what went wrong.
async fn again(
    state: &ConsoleState,
    person: &Person,
    typed: Typed,
    problem: String,
    status: StatusCode,
) -> Result<Response, Refusal> {
    let plan = match selection_of(&typed) {
        Ok(selection) => state.engine.undo_plan(&selection).await.ok(),
        Err(_) => None,
    };
    let plan = plan.filter(|plan| !plan.items.is_empty());
    page(state, person, typed, plan, problem, status).await
}

async fn no_factor(
    state: &ConsoleState,
    person: &Person,
    typed: Typed,
    refused: StepUpRefused,
) -> Result<Response, Refusal> {
    let status = match &refused {
        StepUpRefused::NotEnrolled => {
            let problem =
                "Undoing takes a code of an authenticator app, and your account has none.";
            let status = StatusCode::FORBIDDEN;
            return again(state, person, typed, problem.to_owned(), status).await;
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
    let problem = capital(&refused.to_string());
    again(state, person, typed, problem, status).await
}

async fn not_started(
    state: &ConsoleState,
    person: &Person,
    typed: Typed,
    failed: UndoFailed,
) -> Result<Response, Refusal> {
    let status = match &failed {
        UndoFailed::NotPermitted | UndoFailed::StepUp => StatusCode::FORBIDDEN,
        UndoFailed::NothingSelected
        | UndoFailed::TimeBackwards
        | UndoFailed::UnknownWriteback
        | UndoFailed::NothingFound
        | UndoFailed::TooMany
        | UndoFailed::ReasonUnfit
        | UndoFailed::NobodyToStop => StatusCode::UNPROCESSABLE_ENTITY,
        UndoFailed::NotStopped(_) | UndoFailed::Again => StatusCode::CONFLICT,
        _ => return Err(unavailable(failed)),
    };
    let problem = capital(&failed.to_string());
    again(state, person, typed, problem, status).await
}

fn unavailable(failed: UndoFailed) -> Refusal {
    if matches!(failed, UndoFailed::NotPermitted) {
        return ViewFailed::NotPermitted.into();
    }
    tracing::error!(error = %failed, "an undo run could not be looked at or begun");
    Refusal::Unavailable("This could not be done, and nothing was undone by it. Try again.")
}

fn plan_rows(plan: UndoPlan) -> PlanRows {
    let total = plan.items.len();
    let rows = plan.items.iter().take(ROWS_MAX).map(|item| {
        let (state, state_css) = phrases::state(item.state);
        let what = match (&item.resource, item.interaction) {
            (Some(resource), Some(interaction)) => format!("{} {resource}", interaction.as_str()),
            _ => "not ruled on".to_owned(),
        };
        EffectRow {
            id: item.writeback.to_string(),
            what: format!("{what}, by {} for {}", item.agent, item.intent),
            state,
            state_css,
            on: item.on.map(|on| on.to_string()).unwrap_or_default(),
            words: planned_words(&item.planned),
            link: String::new(),
        }
    });
    PlanRows {
        rows: rows.collect(),
        total,
        left_off: total.saturating_sub(ROWS_MAX),
        unreadable: plan.unreadable,
    }
}

fn needs(gate: Option<&Gate>) -> String {
    gate.map(|gate| format!("; needs {}", phrases::gate(gate)))
        .unwrap_or_default()
}

fn planned_words(planned: &Planned) -> String {
    match planned {
        Planned::SetAside => "Set aside; nothing was sent".to_owned(),
        Planned::Withdraw => "Withdrawn; it is a draft of Chaperone's own".to_owned(),
        Planned::Wait => "Waited for: it is on its way".to_owned(),
        Planned::Compensate { gate, to: Some(to) } => {
            format!("Compensated: becomes {to}{}", needs(Some(gate)))
        }
        Planned::Compensate { gate, to: None } => format!("Put back{}", needs(Some(gate))),
        Planned::Proposed { by } => format!("Stays with {by}, which undoes it"),
        Planned::Nothing => "Nothing to undo".to_owned(),
        Planned::Person { needed } => format!("Goes to a person: {}", needed.words()),
        Planned::NotKnown => "Looked at again: the EHR does not answer now".to_owned(),
    }
}

fn run_row(run: &UndoStatus, now: chaperone_core::Timestamp) -> RunRow {
    let words = match run.finished {
        Some(at) => format!("finished {}", phrases::ago(at, now).words),
        None => "under way".to_owned(),
    };
    RunRow {
        id: run.run.to_string(),
        by: run.by.to_string(),
        started: phrases::ago(run.started, now),
        reason: run
            .reason
            .clone()
            .unwrap_or_else(|| "(cannot be opened)".to_owned()),
        words: format!(
            "{words}; {} of {} undone",
            run.counts.undone,
            run.counts.total()
        ),
        open: run.finished.is_none(),
    }
}

fn selected(selection: &UndoSelection) -> Vec<(&'static str, String)> {
    let text = |value: Option<String>| value.unwrap_or_default();
    let day = |at: Option<chaperone_core::Timestamp>| text(at.map(phrases::exact));
    [
        (
            "Agent",
            text(selection.agent.as_ref().map(ToString::to_string)),
        ),
        (
            "Model",
            text(selection.model.as_ref().map(ToString::to_string)),
        ),
        (
            "Prompt",
            text(selection.prompt.as_ref().map(ToString::to_string)),
        ),
        (
            "Intent",
            text(selection.intent.as_ref().map(ToString::to_string)),
        ),
        ("From", day(selection.from)),
        ("Before", day(selection.to)),
        (
            "Write-back",
            text(selection.writeback.map(|it| it.to_string())),
        ),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .collect()
}

fn counted(status: &UndoStatus) -> Vec<(&'static str, u64)> {
    let counts = &status.counts;
    [
        ("Undone", counts.undone),
        ("Set aside", counts.set_aside),
        ("Withdrawn", counts.withdrawn),
        ("Waiting for people or for the EHR", counts.proposed),
        ("On their way", counts.waiting),
        ("Not looked at yet", counts.found),
        ("With a person", counts.person),
        ("Nothing to undo", counts.nothing),
    ]
    .into_iter()
    .filter(|(_, count)| *count > 0)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_selects_and_nothing_typed_selects_nothing() {
        let typed = |agent: &str, model: &str, from: &str| Typed {
            agent: agent.to_owned(),
            model: model.to_owned(),
            from: from.to_owned(),
            ..Typed::default()
        };
        let selection = selection_of(&typed("refill-agent", "", "2026-11-22")).unwrap();
        assert!(selection.agent.is_some() && selection.from.is_some() && selection.to.is_none());
        for (agent, model, from) in [
            ("", "", ""),
            ("Refill Agent", "", ""),
            ("", "Una Sample", ""),
            ("refill-agent", "", "yesterday"),
        ] {
            assert!(selection_of(&typed(agent, model, from)).is_err());
        }
    }
}
