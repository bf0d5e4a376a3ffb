//! Passkeys: one's own account page, where they are added and removed, and what pages ask a browser for one.
//!
//! Each change is confirmed with a second factor given for it alone. Not here: approving with a passkey (`step_up`),
//! signing in with one (`sign_in`), and the first one (`enrol`).

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use chaperone_core::digest::Digest;
use chaperone_core::ids::StepUpId;
use chaperone_engine::people::passkeys::PasskeyChange;
use chaperone_engine::people::{
    AssertionSent, CreationSent, PasskeyAsked, PasskeyFailed, PasskeyOffer, StepUpFor,
    StepUpRefused,
};

use super::ConsoleState;
use super::page::{Chrome, Done, Here, render_as};
use super::phrases::{self, Moment};
use super::refusal::Refusal;
use super::session::{Fields, Person, Submitted};
use super::setup::capital;

#[derive(Template)]
#[template(path = "account.html")]
pub(super) struct AccountPage {
    pub(super) chrome: Chrome,
    pub(super) done: &'static str,
    pub(super) problem: String,
    pub(super) passkeys: Vec<PasskeyRow>,
    pub(super) takes_passkeys: bool,
    pub(super) app: bool,
    pub(super) takes_codes: bool,
}

/// One passkey of the account.
pub(super) struct PasskeyRow {
    pub(super) credential: String,
    pub(super) name: String,
    pub(super) added: Moment,
    pub(super) used: Option<Moment>,
    pub(super) suspended: bool,
}

#[derive(Template)]
#[template(path = "account_confirm.html")]
pub(super) struct ConfirmPage {
    pub(super) chrome: Chrome,
    pub(super) problem: String,
    pub(super) words: String,
    pub(super) action: String,
    pub(super) passkey: Option<AskRows>,
    pub(super) takes_codes: bool,
}

#[derive(Template)]
#[template(path = "account_add.html")]
pub(super) struct AddPage {
    pub(super) chrome: Chrome,
    pub(super) problem: String,
    pub(super) step: String,
    pub(super) offer: OfferRows,
}

/// What a page asks the browser when a key is to be used.
pub(super) struct AskRows {
    pub(super) challenge: String,
    pub(super) rp_id: String,
    pub(super) allow: String,
}

/// What a page asks the browser when a key is to be made.
pub(super) struct OfferRows {
    pub(super) challenge: String,
    pub(super) rp_id: String,
    pub(super) user: String,
    pub(super) account: String,
    pub(super) exclude: String,
    /// What was typed as its name.
    pub(super) name: String,
}

impl From<PasskeyAsked> for AskRows {
    fn from(asked: PasskeyAsked) -> Self {
        Self {
            challenge: asked.challenge,
            rp_id: asked.rp_id,
            allow: asked.allow.join(" "),
        }
    }
}

impl OfferRows {
    pub(super) fn of(offer: PasskeyOffer, name: &str) -> Self {
        Self {
            challenge: offer.challenge,
            rp_id: offer.rp_id,
            user: offer.user_handle,
            account: offer.account,
            exclude: offer.exclude.join(" "),
            name: name.to_owned(),
        }
    }
}

/// What the script put into a form after a key was used; nothing where the form is one for a code.
pub(super) fn assertion_of(fields: &Fields) -> Result<Option<AssertionSent>, Refusal> {
    if fields.one("method")? != "passkey" {
        return Ok(None);
    }
    Ok(Some(AssertionSent {
        credential: fields.one("credential")?.to_owned(),
        client_data: fields.one("client_data")?.to_owned(),
        authenticator_data: fields.one("authenticator_data")?.to_owned(),
        signature: fields.one("signature")?.to_owned(),
    }))
}

/// What the script put into a form after a key was made.
pub(super) fn creation_of(fields: &Fields) -> Result<CreationSent, Refusal> {
    Ok(CreationSent {
        client_data: fields.one("client_data")?.to_owned(),
        authenticator_data: fields.one("authenticator_data")?.to_owned(),
    })
}

/// Checks what a form holds, a code or a passkey's answer.
pub(super) async fn verify(
    state: &ConsoleState,
    person: &Person,
    step: StepUpId,
    fields: &Fields,
) -> Result<Result<(), StepUpRefused>, Refusal> {
    let engine = &state.engine;
    Ok(match assertion_of(fields)? {
        Some(sent) => {
            engine
                .step_up_verify_passkey(&person.human, step, &sent)
                .await
        }
        None => {
            let code = fields.one("code")?;
            engine.step_up_verify(&person.human, step, code).await
        }
    })
}

/// Which change of one's keys an address or a form names.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Change {
    #[serde(default)]
    change: String,
    #[serde(default)]
    credential: String,
}

impl Change {
    fn parsed(&self) -> Result<PasskeyChange, Refusal> {
        match self.change.as_str() {
            "add" => Ok(PasskeyChange::Add),
            "remove" => {
                let credential: Digest = self.credential.parse().map_err(|_| Refusal::NotFound)?;
                Ok(PasskeyChange::Remove(credential))
            }
            _ => Err(Refusal::BadRequest("The form does not say what to change.")),
        }
    }

    fn query(&self) -> String {
        match self.change.as_str() {
            "remove" => format!("?change=remove&credential={}", self.credential),
            _ => "?change=add".to_owned(),
        }
    }
}

pub(super) async fn show(
    State(state): State<ConsoleState>,
    person: Person,
    Query(done): Query<Done>,
) -> Result<Response, Refusal> {
    page(&state, &person, done.words(), String::new(), StatusCode::OK).await
}

async fn page(
    state: &ConsoleState,
    person: &Person,
    done: &'static str,
    problem: String,
    status: StatusCode,
) -> Result<Response, Refusal> {
    let factors = state.engine.second_factors(&person.human).await?;
    let now = state.engine.now();
    let passkeys = factors.passkeys.into_iter().map(|key| PasskeyRow {
        credential: key.credential.to_string(),
        name: key.name,
        added: phrases::ago(key.added, now),
        used: key.used.map(|used| phrases::ago(used, now)),
        suspended: key.suspended,
    });
    let page = AccountPage {
        chrome: Chrome::of(state, person, "Your account", Here::Account).await?,
        done,
        problem,
        passkeys: passkeys.collect(),
        takes_passkeys: factors.takes_passkeys,
        app: factors.app,
        takes_codes: factors.takes_codes,
    };
    Ok(render_as(status, &page))
}

/// Asks for the second factor that a change takes.
pub(super) async fn begin(
    State(state): State<ConsoleState>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let change = Change {
        change: fields.one("change")?.to_owned(),
        credential: fields.one("credential")?.to_owned(),
    };
    let digest = state
        .engine
        .passkey_change_digest(&person.human, change.parsed()?);
    let begun = state
        .engine
        .step_up_begin(&person.human, StepUpFor::Passkeys, digest)
        .await;
    match begun {
        Ok(step) => {
            let to = format!("/console/account/confirm/{step}{}", change.query());
            Ok(Redirect::to(&to).into_response())
        }
        Err(refused) => over(&state, &person, &refused).await,
    }
}

pub(super) async fn confirm(
    State(state): State<ConsoleState>,
    person: Person,
    Path(step): Path<String>,
    Query(change): Query<Change>,
) -> Result<Response, Refusal> {
    let step = step_of(&step)?;
    confirm_page(
        &state,
        &person,
        step,
        &change,
        String::new(),
        StatusCode::OK,
    )
    .await
}

async fn confirm_page(
    state: &ConsoleState,
    person: &Person,
    step: StepUpId,
    change: &Change,
    problem: String,
    status: StatusCode,
) -> Result<Response, Refusal> {
    let parsed = change.parsed()?;
    let asked = match bound(state, person, step, parsed).await? {
        Ok(asked) => asked,
        Err(refused) => return over(state, person, &refused).await,
    };
    let factors = state.engine.second_factors(&person.human).await?;
    let words = match parsed {
        PasskeyChange::Add => "You are about to add a passkey to your account.".to_owned(),
        PasskeyChange::Remove(credential) => {
            let key = factors
                .passkeys
                .iter()
                .find(|key| key.credential == credential);
            let name = key.map(|key| key.name.as_str()).ok_or(Refusal::NotFound)?;
            format!("You are about to remove the passkey \u{201c}{name}\u{201d} from your account.")
        }
    };
    let page = ConfirmPage {
        chrome: Chrome::of(state, person, "Your account", Here::Account).await?,
        problem,
        words,
        action: format!("/console/account/confirm/{step}{}", change.query()),
        passkey: asked.map(AskRows::from),
        takes_codes: factors.app && factors.takes_codes,
    };
    Ok(render_as(status, &page))
}

/// What the passkey is asked, when the step-up is one for this change.
async fn bound(
    state: &ConsoleState,
    person: &Person,
    step: StepUpId,
    change: PasskeyChange,
) -> Result<Result<Option<PasskeyAsked>, StepUpRefused>, Refusal> {
    let engine = &state.engine;
    let known = match engine.step_up(&person.human, step).await {
        Ok(known) => known,
        Err(refused) => return Ok(Err(refused)),
    };
    let digest = engine.passkey_change_digest(&person.human, change);
    if known.subject != StepUpFor::Passkeys || known.digest != digest {
        return Err(Refusal::NotFound);
    }
    Ok(engine.step_up_challenge(&person.human, step).await)
}

pub(super) async fn submit_confirm(
    State(state): State<ConsoleState>,
    Path(step): Path<String>,
    Query(change): Query<Change>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let (step, parsed) = (step_of(&step)?, change.parsed()?);
    match verify(&state, &person, step, &fields).await? {
        Ok(()) => {}
        Err(
            refused @ (StepUpRefused::CodeRefused { left: 1.. }
            | StepUpRefused::PasskeyRefused(_)
            | StepUpRefused::Again),
        ) => {
            let problem = capital(&refused.to_string());
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return confirm_page(&state, &person, step, &change, problem, status).await;
        }
        Err(refused) => return over(&state, &person, &refused).await,
    }
    let PasskeyChange::Remove(credential) = parsed else {
        let to = format!("/console/account/add/{step}");
        return Ok(Redirect::to(&to).into_response());
    };
    match state
        .engine
        .passkey_remove(&person.human, credential, step)
        .await
    {
        Ok(()) => Ok(Redirect::to("/console/account?done=passkey-removed").into_response()),
        Err(failed) => {
            let (status, problem) = explain(&failed)?;
            page(&state, &person, "", problem, status).await
        }
    }
}

pub(super) async fn add(
    State(state): State<ConsoleState>,
    person: Person,
    Path(step): Path<String>,
) -> Result<Response, Refusal> {
    let step = step_of(&step)?;
    add_page(&state, &person, step, String::new(), "", StatusCode::OK).await
}

async fn add_page(
    state: &ConsoleState,
    person: &Person,
    step: StepUpId,
    problem: String,
    name: &str,
    status: StatusCode,
) -> Result<Response, Refusal> {
    let offer = match state.engine.passkey_offer(&person.human).await {
        Ok(offer) => offer,
        Err(failed) => {
            let (status, problem) = explain(&failed)?;
            return page(state, person, "", problem, status).await;
        }
    };
    let page = AddPage {
        chrome: Chrome::of(state, person, "Your account", Here::Account).await?,
        problem,
        step: step.to_string(),
        offer: OfferRows::of(offer, name),
    };
    Ok(render_as(status, &page))
}

pub(super) async fn submit_add(
    State(state): State<ConsoleState>,
    Path(step): Path<String>,
    form: Submitted,
) -> Result<Response, Refusal> {
    let Submitted { person, fields } = form;
    let step = step_of(&step)?;
    let name = fields.one("name")?;
    let sent = creation_of(&fields)?;
    match state
        .engine
        .passkey_add(&person.human, name, &sent, Some(step))
        .await
    {
        Ok(()) => Ok(Redirect::to("/console/account?done=passkey-added").into_response()),
        Err(PasskeyFailed::StepUp) => {
            let problem = capital(&PasskeyFailed::StepUp.to_string());
            page(&state, &person, "", problem, StatusCode::FORBIDDEN).await
        }
        Err(failed) => {
            let (status, problem) = explain(&failed)?;
            add_page(&state, &person, step, problem, name, status).await
        }
    }
}

/// Back to the account page, with what went wrong.
async fn over(
    state: &ConsoleState,
    person: &Person,
    refused: &StepUpRefused,
) -> Result<Response, Refusal> {
    let status = match refused {
        StepUpRefused::Vault(_) | StepUpRefused::Store(_) | StepUpRefused::Commit(_) => {
            tracing::error!(error = %refused, "a second factor could not be checked");
            return Err(Refusal::Internal);
        }
        StepUpRefused::NotEnrolled => return Err(Refusal::EnrolFirst),
        StepUpRefused::Wait { .. } => StatusCode::TOO_MANY_REQUESTS,
        StepUpRefused::Gone
        | StepUpRefused::Again
        | StepUpRefused::CodesOff
        | StepUpRefused::CodeRefused { .. }
        | StepUpRefused::PasskeyRefused(_) => StatusCode::FORBIDDEN,
    };
    page(state, person, "", capital(&refused.to_string()), status).await
}

/// Status and words of a change that was not made.
pub(super) fn explain(failed: &PasskeyFailed) -> Result<(StatusCode, String), Refusal> {
    let status = match failed {
        PasskeyFailed::Store(_) | PasskeyFailed::Commit(_) => {
            tracing::error!(error = %failed, "a passkey could not be changed");
            return Err(Refusal::Internal);
        }
        PasskeyFailed::Missing => return Err(Refusal::NotFound),
        PasskeyFailed::StepUp => StatusCode::FORBIDDEN,
        PasskeyFailed::Off
        | PasskeyFailed::TooMany
        | PasskeyFailed::Known
        | PasskeyFailed::LastFactor
        | PasskeyFailed::Again => StatusCode::CONFLICT,
        PasskeyFailed::NameUnfit | PasskeyFailed::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Ok((status, capital(&failed.to_string())))
}

fn step_of(text: &str) -> Result<StepUpId, Refusal> {
    text.parse().map_err(|_| Refusal::NotFound)
}
