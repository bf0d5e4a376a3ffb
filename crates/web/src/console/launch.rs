//! Coming from inside the EHR: begun by its link, back from its authorization server, and in after a click.
//!
//! What a launch needs of the browser is one cookie that comes along when the EHR sends it back (`SameSite=Lax`); it
//! opens no page by itself. The session's own cookie stays `Strict`, so it is set only by the answer to the click, which
//! comes from our own page. Where that leads is the engine's word; no address is taken from a request.
//!
//! # Source
//! SMART App Launch 2.2, "EHR Launch"; RFC 9700 (best current practice for OAuth 2.0), sections 2.1 and 4.7.

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::http::header::{HeaderMap, SET_COOKIE};
use axum::response::{IntoResponse, Redirect, Response};
use chaperone_core::launch::LaunchRefusal;
use chaperone_engine::launch::{LaunchFailed, LaunchPlace, LaunchReturn};

use super::ConsoleState;
use super::page::{Chrome, Here, render};
use super::refusal::Refusal;
use super::session::{Fields, OpenForm, Person};

/// Longest query of an address, in bytes.
const QUERY_BYTES_MAX: usize = 16 * 1_024;

#[derive(Template)]
#[template(path = "launch.html")]
pub(super) struct LaunchPage {
    pub(super) account: String,
    pub(super) connection: String,
    pub(super) leads_to: &'static str,
    pub(super) ticket: String,
}

#[derive(Template)]
#[template(path = "launch_nothing.html")]
pub(super) struct NothingPage {
    pub(super) chrome: Chrome,
}

/// `GET /console/launch`: the launch URL that is registered at the EHR.
pub(super) async fn begin(
    State(state): State<ConsoleState>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    state.launches.check().map_err(|_| Refusal::TooMany)?;
    let fields = query_of(query)?;
    let begun = state
        .engine
        .launch_begin(fields.one("iss")?, fields.one("launch")?)
        .await?;
    let cookie = state
        .cookies
        .launch_cookie(&begun.browser)
        .ok_or(Refusal::Internal)?;
    Ok(([(SET_COOKIE, cookie)], Redirect::to(&begun.to)).into_response())
}

/// `GET /console/launch/return`: back from the EHR's authorization server.
pub(super) async fn returned(
    State(state): State<ConsoleState>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    state.launches.check().map_err(|_| Refusal::TooMany)?;
    let fields = query_of(query)?;
    let some = |name: &str| -> Result<Option<String>, Refusal> {
        Ok(Some(fields.one(name)?.to_owned()).filter(|text| !text.is_empty()))
    };
    let declined = some("error")?.is_some();
    let back = LaunchReturn {
        browser: state.cookies.launch_token(&headers).unwrap_or_default(),
        state: fields.one("state")?.to_owned(),
        code: some("code")?.filter(|_| !declined),
        issuer: some("iss")?,
    };
    let arrived = state.engine.launch_returned(&back).await?;
    let page = LaunchPage {
        account: arrived.account.to_string(),
        connection: arrived.connection.to_string(),
        leads_to: match arrived.place {
            LaunchPlace::Inbox => "your inbox",
            LaunchPlace::NothingHere | LaunchPlace::Patient { .. } => {
                "what waits for the patient who is open in the EHR"
            }
            LaunchPlace::Review { .. } => {
                "the proposal that the card named, for the patient who is open in the EHR"
            }
        },
        ticket: arrived.ticket,
    };
    Ok(render(&page))
}

/// `POST /console/launch/enter`: the click.
pub(super) async fn enter(
    State(state): State<ConsoleState>,
    headers: HeaderMap,
    OpenForm(fields): OpenForm,
) -> Result<Response, Refusal> {
    state.launches.check().map_err(|_| Refusal::TooMany)?;
    let browser = state.cookies.launch_token(&headers).unwrap_or_default();
    let so_far = state.cookies.token(&headers);
    let (session, place) = state
        .engine
        .launch_enter(&browser, fields.one("ticket")?, so_far.as_deref())
        .await?;
    let to = match place {
        LaunchPlace::Inbox => "/console".to_owned(),
        LaunchPlace::NothingHere => "/console/launch/nothing".to_owned(),
        LaunchPlace::Patient { patient } => format!("/console/patients/{patient}"),
        LaunchPlace::Review { writeback, .. } => format!("/console/writebacks/{writeback}"),
    };
    let mut response = Redirect::to(&to).into_response();
    for cookie in [
        state.cookies.cookie(&session.token),
        state.cookies.launch_cookie(""),
    ] {
        response
            .headers_mut()
            .append(SET_COOKIE, cookie.ok_or(Refusal::Internal)?);
    }
    Ok(response)
}

/// `GET /console/launch/nothing`: no agent was ever asked about the patient who is open.
pub(super) async fn nothing(
    State(state): State<ConsoleState>,
    person: Person,
) -> Result<Response, Refusal> {
    let page = NothingPage {
        chrome: Chrome::of(&state, &person, "From the EHR", Here::Patients).await?,
    };
    Ok(render(&page))
}

fn query_of(query: Option<String>) -> Result<Fields, Refusal> {
    let query = query.unwrap_or_default();
    if query.len() > QUERY_BYTES_MAX {
        return Err(Refusal::BadRequest("The address is too long."));
    }
    Fields::of_query(&query)
}

impl From<LaunchFailed> for Refusal {
    fn from(failed: LaunchFailed) -> Self {
        match failed {
            LaunchFailed::Refused(refusal) => explain(refusal),
            LaunchFailed::Store(_) | LaunchFailed::Commit(_) | LaunchFailed::Internal(_) => {
                tracing::error!(error = %failed, "a launch could not be finished");
                Refusal::Internal
            }
        }
    }
}

/// What to tell whoever came, and what they can do.
fn explain(refusal: LaunchRefusal) -> Refusal {
    match refusal {
        LaunchRefusal::NotOffered => Refusal::NotFound,
        LaunchRefusal::Malformed => Refusal::BadRequest(
            "The EHR's link is not of the form that a launch has. Open Chaperone from the EHR once \
             more; if it happens again, tell your operator.",
        ),
        LaunchRefusal::OtherIssuer => Refusal::Forbidden(
            "This launch is from an EHR that is not connected here. Open Chaperone from your own \
             EHR, or sign in with your account.",
        ),
        LaunchRefusal::NotBegun => Refusal::Forbidden(
            "This launch was used, is too old, or began in another browser. Open Chaperone from the \
             EHR once more.",
        ),
        LaunchRefusal::Declined => Refusal::Forbidden(
            "The EHR did not let you through. Open Chaperone from the EHR once more, or sign in with \
             your account.",
        ),
        LaunchRefusal::NotAvailable => Refusal::Unavailable(
            "The EHR does not answer as a launch needs it. Sign in with your account, and tell your \
             operator if it lasts.",
        ),
        LaunchRefusal::CodeRefused | LaunchRefusal::IdentityUnproven => Refusal::Forbidden(
            "The EHR's word on who you are could not be verified. Open Chaperone from the EHR once \
             more; if it happens again, sign in with your account and tell your operator.",
        ),
        LaunchRefusal::NotLinked => Refusal::Forbidden(
            "No account here is linked to your user in the EHR. Ask your operator to link it, or \
             sign in with your account.",
        ),
        LaunchRefusal::AccountUnusable => Refusal::Forbidden(
            "Your account is not in use yet. Set it up with your enrolment code, second factor \
             included, and come again.",
        ),
        LaunchRefusal::Administrator => Refusal::Forbidden(
            "Accounts that administer Chaperone sign in at its own page, with the second factor.",
        ),
        LaunchRefusal::PatientUnclear => Refusal::Forbidden(
            "The EHR does not say clearly which patient is open, or the record is out of use. Open \
             the patient's current record and launch again, or sign in with your account.",
        ),
        LaunchRefusal::OtherPatient => Refusal::Forbidden(
            "The card was about another patient than the one who is open in the EHR. Open that \
             patient and use the card there.",
        ),
    }
}
