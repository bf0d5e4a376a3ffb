//! The inbox: what needs me, by deadline then class.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{Redirect, Response};
use chaperone_core::change::ChangeClass;
use chaperone_core::phi::ExposedFor;
use chaperone_core::principal::Role;
use chaperone_engine::claim::ClaimShown;
use chaperone_engine::views::Turn;
use chaperone_engine::views::inbox::{InboxFilter, InboxItem};

use super::ConsoleState;
use super::page::{Chrome, Done, Here, render};
use super::phrases::{self, Moment};
use super::refusal::Refusal;
use super::session::Person;

/// Most proposals on one page; the rest is counted, and a filter finds them.
const SHOWN_MAX: usize = 40;

#[derive(Template)]
#[template(path = "inbox.html")]
pub(super) struct InboxPage {
    pub(super) chrome: Chrome,
    pub(super) done: &'static str,
    pub(super) rows: Vec<InboxRow>,
    pub(super) fell_through: Vec<FellRow>,
    pub(super) elsewhere: usize,
    /// Whether there may be canaries among them.
    pub(super) canaries: bool,
    pub(super) more: bool,
    pub(super) filtered: bool,
    pub(super) last_handled: Option<Moment>,
    pub(super) oldest: Option<Moment>,
    pub(super) roles: Vec<Choice>,
    pub(super) classes: Vec<Choice>,
    pub(super) intents: Vec<Choice>,
    pub(super) agents: Vec<Choice>,
}

/// One line of what was agreed to and did not happen.
pub(super) struct FellRow {
    pub(super) id: String,
    pub(super) words: String,
    pub(super) class: String,
    pub(super) class_css: String,
    pub(super) why: String,
    pub(super) at: Moment,
}

/// One option of a filter.
pub(super) struct Choice {
    pub(super) value: String,
    pub(super) label: String,
    pub(super) selected: bool,
}

/// One line of the list.
pub(super) struct InboxRow {
    pub(super) id: String,
    pub(super) words: String,
    pub(super) class: String,
    pub(super) class_css: String,
    pub(super) class_words: &'static str,
    pub(super) patient: String,
    pub(super) patient_href: String,
    pub(super) agent: String,
    pub(super) intent: String,
    pub(super) gate: &'static str,
    pub(super) since: Moment,
    pub(super) left: Moment,
    pub(super) tainted: bool,
    pub(super) waits: bool,
    pub(super) quick: bool,
    /// How many of its kind can be decided on one page with it; 0 where none can.
    pub(super) together: usize,
    pub(super) digest: String,
    pub(super) opened: i64,
    /// Who has it in hand; empty where nobody has.
    pub(super) claim: String,
    /// How long it is on the screen before it can be approved, in milliseconds.
    pub(super) after_ms: u32,
}

/// The filters as they stand in the address: names of our own only.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Filters {
    #[serde(default)]
    role: String,
    #[serde(default)]
    class: String,
    #[serde(default)]
    intent: String,
    #[serde(default)]
    agent: String,
}

pub(super) async fn show(
    State(state): State<ConsoleState>,
    person: Person,
    Query(filters): Query<Filters>,
    Query(done): Query<Done>,
) -> Result<Response, Refusal> {
    let filter = InboxFilter {
        role: Role::parse(&filters.role),
        class: ChangeClass::parse(&filters.class),
        intent: filters.intent.parse().ok(),
        agent: filters.agent.parse().ok(),
    };
    let inbox = state.engine.inbox(&person.human, &filter).await?;
    let now = inbox.now;
    let claims = state.engine.claims(&person.human).await?;
    // What can be approved from the list is before them now.
    let quick = inbox.items.iter().take(SHOWN_MAX).filter(|item| item.quick);
    let shown: Vec<_> = quick.map(|item| (item.id, item.digest)).collect();
    state.engine.put_on_screen(&person.human, &shown).await?;
    let choices = |names: Vec<String>, selected: Option<String>| {
        names
            .into_iter()
            .map(|value| Choice {
                selected: selected.as_deref() == Some(value.as_str()),
                label: value.clone(),
                value,
            })
            .collect()
    };
    let page = InboxPage {
        chrome: Chrome::of(&state, &person, "Inbox", Here::Inbox).await?,
        done: done.words(),
        canaries: state.engine.canaries_disclosed().is_some(),
        rows: inbox
            .items
            .iter()
            .take(SHOWN_MAX)
            .map(|item| {
                let mut row = InboxRow::of(item, now);
                let alike = |it: &&InboxItem| {
                    it.together && it.tool == item.tool && it.intent == item.intent
                };
                let count = inbox.items.iter().filter(alike).count();
                row.together = if item.together && count > 1 { count } else { 0 };
                row.in_hand(
                    claims.get(&item.id),
                    state.engine.least_on_screen_ms(item.class, 1),
                    now,
                )
            })
            .collect(),
        fell_through: inbox
            .fell_through
            .iter()
            .map(|fell| FellRow {
                id: fell.id.to_string(),
                words: fell.words.expose(ExposedFor::Person).clone(),
                class: fell
                    .class
                    .map(|class| class.to_string())
                    .unwrap_or_default(),
                class_css: fell.class.map(phrases::class_css).unwrap_or_default(),
                why: fell.why.clone(),
                at: phrases::ago(fell.at, now),
            })
            .collect(),
        elsewhere: inbox.elsewhere,
        more: inbox.more || inbox.items.len() > SHOWN_MAX,
        filtered: filter != InboxFilter::default(),
        last_handled: inbox.last_handled.map(|at| phrases::ago(at, now)),
        oldest: inbox
            .items
            .iter()
            .map(|item| item.since)
            .min()
            .map(|at| phrases::waited(at, now)),
        roles: person
            .human
            .roles
            .iter()
            .map(|role| Choice {
                value: role.as_str().to_owned(),
                label: phrases::role(*role).to_owned(),
                selected: filter.role == Some(*role),
            })
            .collect(),
        classes: choices(
            ChangeClass::ALL.iter().map(ToString::to_string).collect(),
            filter.class.map(|class| class.to_string()),
        ),
        intents: choices(
            inbox.intents.iter().map(ToString::to_string).collect(),
            filter.intent.as_ref().map(ToString::to_string),
        ),
        agents: choices(
            inbox.agents.iter().map(ToString::to_string).collect(),
            filter.agent.as_ref().map(ToString::to_string),
        ),
    };
    Ok(render(&page))
}

impl InboxRow {
    fn of(item: &InboxItem, now: chaperone_core::Timestamp) -> Self {
        let patient = item.patient.as_ref();
        Self {
            id: item.id.to_string(),
            words: item.words.expose(ExposedFor::Person).clone(),
            class: item.class.to_string(),
            class_css: phrases::class_css(item.class),
            class_words: phrases::class(item.class),
            patient: match patient.map(|patient| &patient.shown) {
                Some(Some(shown)) => {
                    let shown = shown.expose(ExposedFor::Person);
                    format!("{}, {}", shown.initials, shown.age)
                }
                Some(None) => "patient (EHR does not answer)".to_owned(),
                None => String::new(),
            },
            patient_href: patient
                .map(|patient| format!("/console/patients/{}", patient.token))
                .unwrap_or_default(),
            agent: item.agent.to_string(),
            intent: item.intent.to_string(),
            gate: phrases::gate_short(&item.gate),
            since: phrases::waited(item.since, now),
            left: phrases::left(item.deadline, now),
            tainted: item.tainted,
            waits: item.turn == Turn::WaitsForOther,
            quick: item.quick,
            together: 0,
            digest: item.digest.to_string(),
            opened: now.as_millisecond(),
            claim: String::new(),
            after_ms: 0,
        }
    }

    /// With who has it in hand; what somebody else has is not approved from the list.
    fn in_hand(
        self,
        claim: Option<&ClaimShown>,
        after_ms: u32,
        now: chaperone_core::Timestamp,
    ) -> Self {
        Self {
            quick: self.quick && claim.is_none_or(|claim| claim.yours),
            claim: claim
                .map(|claim| super::claims::words(claim, now))
                .unwrap_or_default(),
            after_ms,
            ..self
        }
    }
}

/// `/console/` with the slash people type.
pub(super) async fn home() -> Redirect {
    Redirect::permanent("/console")
}

/// A sign of life from a page in use: keeps the session open.
pub(super) async fn alive(_person: Person) -> StatusCode {
    StatusCode::NO_CONTENT
}
