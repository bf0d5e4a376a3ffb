//! The form by which a person changes what an agent proposed, and its answer. What may be changed, and all that is
//! checked, is the engine's; what was typed is shown again where something stands against it.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use chaperone_core::ids::WritebackId;
use chaperone_core::writeback::StateName;
use chaperone_engine::edit::{EditFailed, EditField, EditKind, EditRequest};
use chaperone_engine::views::edited::EditedView;

use super::ConsoleState;
use super::decide::{digest_of, not_taken};
use super::refusal::Refusal;
use super::review::{Again, DiffRow, diff_rows, id_of, page};
use super::session::{Person, Submitted};
use super::setup::capital;

/// Longest form of a change, in bytes: a long note, with each letter of another script in its longest spelling.
pub(super) const EDIT_BYTES_MAX: usize = 512 * 1024;
/// What the names of inputs begin with in the form.
const INPUT: &str = "input.";

/// One input in the form.
pub(super) struct EditRow {
    pub(super) name: String,
    pub(super) label: String,
    pub(super) description: String,
    pub(super) value: String,
    /// Longest text; none for what is not one.
    pub(super) chars_max: Option<u32>,
    /// What it may be, and whether it is; empty for what is written freely.
    pub(super) choices: Vec<(String, bool)>,
    pub(super) required: bool,
}

/// What was changed before.
pub(super) struct EditedRows {
    pub(super) of: String,
    pub(super) by: String,
    pub(super) reason: String,
    pub(super) diff: Vec<DiffRow>,
}

/// The inputs, with what was typed in their place where the form is shown again.
pub(super) fn rows(
    fields: Vec<EditField>,
    typed: Option<&BTreeMap<String, String>>,
) -> Vec<EditRow> {
    let row = |field: EditField| {
        let value = typed
            .and_then(|typed| typed.get(&field.name).cloned())
            .unwrap_or(field.value);
        let (chars_max, choices) = match field.kind {
            EditKind::Text { chars_max } => (Some(chars_max), Vec::new()),
            EditKind::OneOf(codes) => {
                let choice = |code: String| (code.clone(), code == value);
                (None, codes.into_iter().map(choice).collect())
            }
            EditKind::Plain => (None, Vec::new()),
        };
        EditRow {
            label: field.name.replace('_', " "),
            name: field.name,
            description: field.description,
            value,
            chars_max,
            choices,
            required: field.required,
        }
    };
    fields.into_iter().map(row).collect()
}

/// What was changed before, for the page.
pub(super) fn edited_rows(edited: EditedView) -> EditedRows {
    EditedRows {
        of: edited.of.to_string(),
        by: edited.by,
        reason: edited.reason,
        diff: diff_rows(edited.diff),
    }
}

pub(super) async fn submit(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let id = id_of(&id)?;
    let reason = fields.one("edit_reason")?.to_owned();
    let inputs = fields.starting_with(INPUT)?;
    let request = EditRequest {
        writeback: id,
        digest: digest_of(fields.one("digest")?)?,
        inputs: inputs.clone(),
        reason: reason.clone(),
    };
    match state.engine.edit(&person.human, request).await {
        Ok(row) => {
            let done = match row.state {
                StateName::CanarySettled => "tested",
                _ => "edited",
            };
            let to = format!("/console/writebacks/{}?done={done}", row.id);
            Ok(Redirect::to(&to).into_response())
        }
        Err(failed) => {
            let typed = Again {
                edit: Some(inputs),
                edit_reason: reason,
                ..Again::default()
            };
            refused(&state, &person, id, failed, typed).await
        }
    }
}

async fn refused(
    state: &ConsoleState,
    person: &Person,
    id: WritebackId,
    failed: EditFailed,
    typed: Again,
) -> Result<Response, Refusal> {
    let status = match &failed {
        EditFailed::Decide(_) => StatusCode::CONFLICT,
        EditFailed::Call(call) => {
            if call.status >= 500 {
                tracing::error!(code = call.code, "a change could not be made");
            }
            StatusCode::from_u16(call.status).unwrap_or(StatusCode::CONFLICT)
        }
        EditFailed::Denied { .. } | EditFailed::Input { .. } | EditFailed::NotValid { .. } => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        EditFailed::Unchanged => StatusCode::UNPROCESSABLE_ENTITY,
        EditFailed::NotKept | EditFailed::TooOften | EditFailed::AgentChanged => {
            StatusCode::CONFLICT
        }
    };
    match failed {
        EditFailed::Decide(failed) => not_taken(state, person, id, failed, typed).await,
        failed => {
            let problem = format!("Not changed. {}", capital(&failed.to_string()));
            page(state, person, id, Again { problem, ..typed }, status).await
        }
    }
}
