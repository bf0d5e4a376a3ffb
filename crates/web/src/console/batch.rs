//! Light proposals of one kind on one page: each with what it changes, none ticked, each decided by itself in the
//! engine, which says what became of it.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use chaperone_core::digest::Digest;
use chaperone_core::ids::WritebackId;
use chaperone_core::phi::ExposedFor;
use chaperone_core::writeback::StateName;
use chaperone_engine::views::batch::BatchItem;

use super::ConsoleState;
use super::decide::review_ms;
use super::page::{Chrome, Here, render_as};
use super::phrases::{self, Moment};
use super::refusal::Refusal;
use super::review::{DiffRow, diff_rows, id_of};
use super::session::{Person, Submitted};
use super::setup::capital;

#[derive(Template)]
#[template(path = "batch.html")]
struct BatchPage {
    chrome: Chrome,
    like: String,
    rows: Vec<BatchRow>,
    done: Vec<DoneRow>,
    opened: i64,
    /// How long each is on the screen before it can be approved, in milliseconds.
    after_ms: u32,
}

struct BatchRow {
    id: String,
    digest: String,
    words: String,
    patient: String,
    patient_href: String,
    diff: Vec<DiffRow>,
    left: Moment,
}

struct DoneRow {
    id: String,
    words: String,
    is_approved: bool,
}

impl BatchRow {
    fn of(item: BatchItem, now: chaperone_core::Timestamp) -> Self {
        let shown = item.patient.as_ref().and_then(|it| it.shown.as_ref());
        Self {
            id: item.id.to_string(),
            digest: item.digest.to_string(),
            words: item.words.into_exposed(ExposedFor::Person),
            patient: shown.map_or_else(String::new, |shown| {
                let shown = shown.expose(ExposedFor::Person);
                format!("{}, {}", shown.initials, shown.age)
            }),
            patient_href: item
                .patient
                .as_ref()
                .map(|patient| format!("/console/patients/{}", patient.token))
                .unwrap_or_default(),
            diff: diff_rows(item.diff.into_exposed(ExposedFor::Person)),
            left: phrases::left(item.deadline, now),
        }
    }
}

pub(super) async fn show(
    State(state): State<ConsoleState>,
    person: Person,
    Path(like): Path<String>,
) -> Result<Response, Refusal> {
    page(&state, &person, id_of(&like)?, Vec::new(), StatusCode::OK).await
}

async fn page(
    state: &ConsoleState,
    person: &Person,
    like: WritebackId,
    done: Vec<DoneRow>,
    status: StatusCode,
) -> Result<Response, Refusal> {
    let items = state.engine.batch(&person.human, like).await?;
    let shown: Vec<_> = items.iter().map(|item| (item.id, item.digest)).collect();
    state.engine.put_on_screen(&person.human, &shown).await?;
    let now = state.engine.now();
    let page = BatchPage {
        chrome: Chrome::of(state, person, "Several", Here::Inbox).await?,
        like: like.to_string(),
        rows: items.into_iter().map(|it| BatchRow::of(it, now)).collect(),
        done,
        opened: now.as_millisecond(),
        after_ms: state
            .engine
            .least_on_screen_ms(chaperone_core::change::ChangeClass::M0, 1),
    };
    Ok(render_as(status, &page))
}

pub(super) async fn approve(
    State(state): State<ConsoleState>,
    Path(like): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let like = id_of(&like)?;
    let picked = fields.all("item");
    let most = usize::try_from(state.engine.batch_max()).unwrap_or(0);
    if picked.is_empty() || picked.len() > most {
        return Err(Refusal::BadRequest("Tick those that you approve."));
    }
    let mut items: Vec<(WritebackId, Digest)> = Vec::with_capacity(picked.len());
    for text in picked {
        let parsed = text
            .split_once(' ')
            .and_then(|(id, digest)| Some((id.parse().ok()?, digest.parse().ok()?)));
        let unfit = Refusal::BadRequest("The form does not name what it decides about.");
        items.push(parsed.ok_or(unfit)?);
    }
    let took_ms = review_ms(&state, fields.one("opened")?);
    let several = state
        .engine
        .approve_several(&person.human, &items, took_ms)
        .await
        .map_err(|_| Refusal::BadRequest("Tick each of them once, and no more than stand here."))?;
    let status = match several.iter().all(|one| one.done.is_ok()) {
        true => StatusCode::OK,
        false => StatusCode::CONFLICT,
    };
    let done = several
        .into_iter()
        .map(|one| DoneRow {
            id: one.writeback.to_string(),
            is_approved: one
                .done
                .as_ref()
                .is_ok_and(|row| row.state != StateName::CanarySettled),
            words: match one.done {
                Ok(row) if row.state == StateName::CanarySettled => {
                    "This was a test, and something was wrong with it. Open it to see what."
                        .to_owned()
                }
                Ok(_) => "Approved. It is on its way.".to_owned(),
                Err(failed) => format!("Not approved. {}", capital(&failed.to_string())),
            },
        })
        .collect();
    page(&state, &person, like, done, status).await
}
