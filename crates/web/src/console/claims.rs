//! Who has a proposal in hand: claimed, let go, taken over, handed over; and how pages say it.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use chaperone_core::claim::ClaimHolder;
use chaperone_core::ids::{AccountName, WritebackId};
use chaperone_core::phi::ExposedFor;
use chaperone_core::principal::Role;
use chaperone_engine::claim::{ClaimFailed, ClaimShown, Colleague, HandChoices, HandTo};

use super::ConsoleState;
use super::phrases;
use super::refusal::Refusal;
use super::review::{Again, id_of, page};
use super::session::{Person, Submitted};
use super::setup::capital;

/// What the review page shows of it to somebody who can decide.
pub(super) struct ClaimRows {
    /// Who has it, and for how long; empty where nobody has.
    pub(super) words: String,
    /// What came with it.
    pub(super) note: String,
    pub(super) yours: bool,
    pub(super) held: bool,
    /// Value and label.
    pub(super) colleagues: Vec<(String, String)>,
    /// Value and label.
    pub(super) pools: Vec<(String, String)>,
}

/// Who has it in hand, in words.
pub(super) fn words(claim: &ClaimShown, now: chaperone_core::Timestamp) -> String {
    let left = phrases::left(claim.until, now).words;
    match (&claim.holder, claim.yours) {
        (ClaimHolder::Person { .. }, true) => format!("in your hands, {left}"),
        (ClaimHolder::Person { account, .. }, false) => {
            format!("in the hands of {account}, {left}")
        }
        (ClaimHolder::Pool { role }, _) => {
            format!("handed to: {}, {left}", phrases::role(*role).to_lowercase())
        }
    }
}

/// What the review page shows; nothing for somebody who cannot decide.
pub(super) async fn rows(
    state: &ConsoleState,
    person: &Person,
    id: WritebackId,
) -> Result<Option<ClaimRows>, Refusal> {
    let seen = match state.engine.claim_seen(&person.human, id).await {
        Ok(seen) => seen,
        Err(ClaimFailed::Missing) => return Ok(None),
        Err(failed) => return Err(internal(&failed)),
    };
    let choices = match state.engine.hand_choices(&person.human, id).await {
        Ok(choices) => choices,
        Err(ClaimFailed::NotOpen | ClaimFailed::NotYours | ClaimFailed::Missing) => {
            HandChoices::default()
        }
        Err(failed) => return Err(internal(&failed)),
    };
    let now = state.engine.now();
    let (claim, note) = match seen {
        Some((claim, note)) => (Some(claim), note),
        None => (None, None),
    };
    Ok(Some(ClaimRows {
        words: claim
            .as_ref()
            .map(|claim| capital(&words(claim, now)))
            .unwrap_or_default(),
        note: note
            .map(|note| note.into_exposed(ExposedFor::Person))
            .unwrap_or_default(),
        yours: claim.as_ref().is_some_and(|claim| claim.yours),
        held: claim.is_some(),
        colleagues: choices.colleagues.iter().map(colleague).collect(),
        pools: choices
            .pools
            .iter()
            .map(|role| (role.as_str().to_owned(), phrases::role(*role).to_owned()))
            .collect(),
    }))
}

fn colleague(colleague: &Colleague) -> (String, String) {
    let account = colleague.account.to_string();
    let label = match &colleague.cover {
        Some(cover) => format!("{account} (away: goes to {cover})"),
        None => account.clone(),
    };
    (account, label)
}

pub(super) async fn claim(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let id = id_of(&id)?;
    let done = state.engine.claim(&form.person.human, id).await;
    answer(&state, &form.person, id, "claimed", "", done).await
}

pub(super) async fn let_go(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let id = id_of(&id)?;
    let done = state.engine.release_claim(&form.person.human, id).await;
    answer(&state, &form.person, id, "let-go", "", done).await
}

pub(super) async fn take_over(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let id = id_of(&id)?;
    let note = fields.one("note")?;
    let done = state.engine.take_over(&person.human, id, note).await;
    answer(&state, &person, id, "taken-over", note, done).await
}

pub(super) async fn hand_over(
    State(state): State<ConsoleState>,
    Path(id): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let id = id_of(&id)?;
    let note = fields.one("note")?;
    let nobody = Refusal::BadRequest("Say to whom it is handed.");
    let to = match fields.one("to")?.split_once(':') {
        Some(("account", name)) => HandTo::Colleague(AccountName::new(name).map_err(|_| nobody)?),
        Some(("role", role)) => HandTo::Pool(Role::parse(role).ok_or(nobody)?),
        _ => return Err(nobody),
    };
    let done = state.engine.hand_over(&person.human, id, to, note).await;
    answer(&state, &person, id, "handed-over", note, done).await
}

async fn answer(
    state: &ConsoleState,
    person: &Person,
    id: WritebackId,
    done: &'static str,
    note: &str,
    outcome: Result<(), ClaimFailed>,
) -> Result<Response, Refusal> {
    let failed = match outcome {
        Ok(()) => {
            let to = format!("/console/writebacks/{id}?done={done}");
            return Ok(Redirect::to(&to).into_response());
        }
        Err(failed) => failed,
    };
    let status = match &failed {
        ClaimFailed::Missing => return Err(Refusal::NotFound),
        ClaimFailed::NotYours => StatusCode::FORBIDDEN,
        ClaimFailed::NoteNeeded | ClaimFailed::NotTheirs | ClaimFailed::BothAway => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        ClaimFailed::NotOpen
        | ClaimFailed::Held { .. }
        | ClaimFailed::NotHeld
        | ClaimFailed::TooLate
        | ClaimFailed::Conflict => StatusCode::CONFLICT,
        ClaimFailed::Vault(_)
        | ClaimFailed::Keys(_)
        | ClaimFailed::Store(_)
        | ClaimFailed::Commit(_) => return Err(internal(&failed)),
    };
    let again = Again {
        problem: capital(&failed.to_string()),
        reason: note.to_owned(),
        ..Again::default()
    };
    page(state, person, id, again, status).await
}

fn internal(failed: &ClaimFailed) -> Refusal {
    tracing::error!(error = %failed, "who has something in hand could not be read or recorded");
    Refusal::Internal
}
