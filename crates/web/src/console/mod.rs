//! The console: what people see and do. Server-rendered pages, one stylesheet, one small script.
//!
//! Handlers read the request, call one use case of the engine and render one typed template; they
//! decide nothing. No page puts anything about a patient into an address or a title, and every answer
//! forbids storing it.
//!
//! Reading order: [`session`] (who is there, and that a form is theirs), [`guard`] (headers and the
//! origin of requests), [`page`] (the frame around every page), [`phrases`] (how things are said),
//! then one file per page.

mod agents;
mod answers;
mod assets;
mod assign;
mod batch;
mod claims;
mod cohort;
mod cover;
mod decide;
mod decision_support;
mod edit;
mod emergency;
mod enrol;
mod entry;
mod events;
mod exception;
mod guard;
mod health;
mod inbox;
mod launch;
mod ledger;
mod modes;
mod oversight;
mod page;
mod passkeys;
mod people;
mod phrases;
mod queue;
mod refusal;
mod retention;
mod review;
mod session;
mod setup;
mod sign_in;
mod step_up;
mod stream;
mod undo;

use std::num::NonZeroU32;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn;
use axum::routing::{get, post};
use chaperone_engine::Engine;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::Semaphore;

/// Largest form, in bytes.
const FORM_BYTES_MAX: usize = 64 * 1024;
/// Most pages that follow changes at once.
const LIVE_PAGES_MAX: usize = 256;
/// Password checks per second, over all accounts; each takes tens of milliseconds of a core.
const PASSWORDS_PER_SECOND: NonZeroU32 = match NonZeroU32::new(5) {
    Some(five) => five,
    None => NonZeroU32::MIN,
};
/// Password checks that may come at once.
const PASSWORDS_AT_ONCE: NonZeroU32 = match NonZeroU32::new(20) {
    Some(twenty) => twenty,
    None => NonZeroU32::MIN,
};

/// Launches from the EHR per second, over everybody: each asks the EHR's authorization server.
const LAUNCHES_PER_SECOND: NonZeroU32 = match NonZeroU32::new(20) {
    Some(twenty) => twenty,
    None => NonZeroU32::MIN,
};

/// How the session cookie is protected on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CookieSecurity {
    /// The console is served over TLS, by us or by a proxy in front: `__Host-` and `Secure`.
    Tls,
    /// Plain HTTP on a loopback address.
    Loopback,
}

/// What the console's handlers share.
#[derive(Clone)]
pub struct ConsoleState {
    engine: Arc<Engine>,
    cookies: CookieSecurity,
    passwords: Arc<DefaultDirectRateLimiter>,
    launches: Arc<DefaultDirectRateLimiter>,
    live_pages: Arc<Semaphore>,
}

impl ConsoleState {
    /// The console of one engine.
    pub fn new(engine: Arc<Engine>, cookies: CookieSecurity) -> Self {
        let quota = Quota::per_second(PASSWORDS_PER_SECOND).allow_burst(PASSWORDS_AT_ONCE);
        Self {
            engine,
            cookies,
            passwords: Arc::new(RateLimiter::direct(quota)),
            launches: Arc::new(RateLimiter::direct(Quota::per_second(LAUNCHES_PER_SECOND))),
            live_pages: Arc::new(Semaphore::new(LIVE_PAGES_MAX)),
        }
    }
}

/// The console under `/console`.
pub fn router(state: ConsoleState) -> Router {
    Router::new()
        .route("/console", get(inbox::show))
        .route("/console/", get(inbox::home))
        .route("/console/alive", get(inbox::alive))
        .route("/console/events", get(events::follow))
        .route("/console/sign-in", get(sign_in::show).post(sign_in::submit))
        .route("/console/sign-in/passkey", post(sign_in::submit_passkey))
        .route("/console/sign-out", post(sign_in::sign_out))
        .route("/console/launch", get(launch::begin))
        .route("/console/launch/return", get(launch::returned))
        .route("/console/launch/enter", post(launch::enter))
        .route("/console/launch/nothing", get(launch::nothing))
        .route("/console/set-up", get(setup::show).post(setup::submit))
        .route("/console/setup", get(setup::other_spelling))
        .route("/console/enrol", get(enrol::show).post(enrol::submit))
        .route(
            "/console/second-factor",
            get(enrol::show_second_factor).post(enrol::submit_second_factor),
        )
        .route(
            "/console/second-factor/passkey",
            post(enrol::submit_passkey),
        )
        .route("/console/cover", get(cover::show).post(cover::submit))
        .route("/console/account", get(passkeys::show))
        .route("/console/account/passkeys", post(passkeys::begin))
        .route(
            "/console/account/confirm/{step}",
            get(passkeys::confirm).post(passkeys::submit_confirm),
        )
        .route(
            "/console/account/add/{step}",
            get(passkeys::add).post(passkeys::submit_add),
        )
        .route(
            "/console/several/{id}",
            get(batch::show).post(batch::approve),
        )
        .route("/console/writebacks/{id}", get(review::show))
        .route("/console/writebacks/{id}/receipt", get(review::receipt))
        .route("/console/writebacks/{id}/approve", post(decide::approve))
        .route("/console/writebacks/{id}/claim", post(claims::claim))
        .route("/console/writebacks/{id}/let-go", post(claims::let_go))
        .route(
            "/console/writebacks/{id}/take-over",
            post(claims::take_over),
        )
        .route(
            "/console/writebacks/{id}/hand-over",
            post(claims::hand_over),
        )
        .route(
            "/console/writebacks/{id}/edit",
            post(edit::submit).layer(DefaultBodyLimit::max(edit::EDIT_BYTES_MAX)),
        )
        .route("/console/writebacks/{id}/reject", post(decide::reject))
        .route(
            "/console/writebacks/{id}/override-card",
            post(decision_support::submit),
        )
        .route("/console/writebacks/{id}/requeue", post(decide::requeue))
        .route("/console/writebacks/{id}/abandon", post(decide::abandon))
        .route("/console/writebacks/{id}/resolve", post(decide::resolve))
        .route("/console/writebacks/{id}/attest", post(decide::attest))
        .route("/console/writebacks/{id}/decline", post(decide::decline))
        .route("/console/writebacks/{id}/release", post(decide::release))
        .route("/console/writebacks/{id}/drop", post(decide::drop_aside))
        .route(
            "/console/writebacks/{id}/step-up/{step}",
            get(step_up::show).post(step_up::submit),
        )
        .route("/console/patients", get(queue::list))
        .route("/console/patients/{token}", get(queue::show))
        .route(
            "/console/patients/{token}/emergency",
            get(emergency::show).post(emergency::start),
        )
        .route(
            "/console/patients/{token}/emergency/end",
            post(emergency::end),
        )
        .route("/console/answers", get(answers::show).post(answers::search))
        .route("/console/answers/token", post(answers::reveal))
        .route("/console/answers/{token}", get(answers::of_patient))
        .route("/console/retention", get(retention::show))
        .route("/console/modes", get(modes::show).post(modes::submit))
        .route("/console/oversight", get(oversight::show))
        .route("/console/oversight/restore", post(oversight::restore))
        .route(
            "/console/oversight/{id}",
            get(oversight::sample).post(oversight::verdict),
        )
        .route("/console/exceptions", get(exception::list))
        .route("/console/exceptions/{id}", get(exception::show))
        .route("/console/exceptions/{id}/request", post(exception::request))
        .route("/console/exceptions/{id}/grant", post(exception::grant))
        .route("/console/exceptions/{id}/decline", post(exception::decline))
        .route("/console/exceptions/{id}/use", post(exception::spend))
        .route("/console/exceptions/{id}/review", post(exception::review))
        .route("/console/cohorts", get(cohort::list))
        .route("/console/cohorts/request", post(cohort::request))
        .route("/console/cohorts/{id}", get(cohort::show))
        .route("/console/cohorts/{id}/strike", post(cohort::strike))
        .route("/console/cohorts/{id}/approve", post(cohort::approve))
        .route("/console/cohorts/{id}/stop", post(cohort::stop))
        .route("/console/undo", get(undo::show))
        .route("/console/undo/preview", post(undo::preview))
        .route("/console/undo/start", post(undo::start))
        .route("/console/undo/{run}", get(undo::run))
        .route("/console/ledger", get(ledger::show))
        .route("/console/ledger/verify", post(ledger::verify))
        .route("/console/ledger/{seq}", get(entry::show))
        .route("/console/streams/{kind}", get(stream::show_single))
        .route("/console/streams/{kind}/{id}", get(stream::show))
        .route("/console/health", get(health::show))
        .route("/console/agents", get(agents::show))
        .route("/console/assign", get(assign::show).post(assign::submit))
        .route(
            "/console/assign/search",
            get(assign::show).post(assign::search),
        )
        .route("/console/people", get(people::show).post(people::create))
        .route("/console/people/{account}/reissue", post(people::reissue))
        .route("/console/static/console.css", get(assets::stylesheet))
        .route("/console/static/console.js", get(assets::script))
        .route("/console/static/passkeys.js", get(assets::passkeys))
        .route("/console/{*rest}", get(page::not_found))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(from_fn(guard::same_origin))
        .layer(from_fn(guard::headers))
        .with_state(state)
}
