//! `POST /portals/{portal}/proposals`, `…/attestations`, `…/codes` and `…/codes/confirm`: a portal asks what waits for
//! a patient's word, says that the patient gave it, has a code sent to a new address, and hands it in.
//!
//! Here stands the form. A portal signs; an agent's token opens nothing here. Whose word counts for what is decided in
//! `chaperone_engine::verification`, and what a portal is shown in `chaperone_engine::portal`. All are posted, so that no
//! patient stands in an address. Start at [`attest`].

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{Response, StatusCode};
use chaperone_core::phi::ExposedFor;
use chaperone_engine::CallError;
use chaperone_engine::portal::{ChangeForPatient, ForPatient, Portal, ProposalAsked};
use chaperone_engine::verification::{Attestation, CodeAsked, CodeGiven, Verifying};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::limits::NOTIFICATION_BYTES_MAX;
use super::refusal::{self, json_response};
use super::{Asked, GatewayState, signed};

/// `POST /portals/{portal}/proposals`.
pub(super) async fn proposal(
    State(gateway): State<GatewayState>,
    at: Asked,
    portal: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response<Body> {
    let done = try_proposal(&gateway, &at, portal, request).await;
    answer(&gateway, &at, done)
}

async fn try_proposal(
    gateway: &GatewayState,
    at: &Asked,
    portal: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Value, CallError> {
    let (from, asked) = received::<ProposalAsked>(gateway, at, portal, request).await?;
    let shown = gateway.engine.proposal_for_patient(&from, asked).await?;
    Ok(shown_to_patient(&shown))
}

/// `POST /portals/{portal}/attestations`.
pub(super) async fn attest(
    State(gateway): State<GatewayState>,
    at: Asked,
    portal: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response<Body> {
    let done = try_attest(&gateway, &at, portal, request).await;
    answer(&gateway, &at, done)
}

async fn try_attest(
    gateway: &GatewayState,
    at: &Asked,
    portal: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Value, CallError> {
    let (from, attestation) = received::<Attestation>(gateway, at, portal, request).await?;
    let verifying = gateway.engine.take_attestation(&from, attestation).await?;
    Ok(what_came_of_it(&verifying))
}

fn what_came_of_it(verifying: &Verifying) -> Value {
    match verifying {
        Verifying::Passed(_) => json!({ "state": "verified" }),
        Verifying::Held { missing } => json!({ "state": "held", "needs": missing }),
    }
}

/// `POST /portals/{portal}/codes`.
pub(super) async fn send_code(
    State(gateway): State<GatewayState>,
    at: Asked,
    portal: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response<Body> {
    let done = try_send_code(&gateway, &at, portal, request).await;
    answer(&gateway, &at, done)
}

async fn try_send_code(
    gateway: &GatewayState,
    at: &Asked,
    portal: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Value, CallError> {
    let (from, asked) = received::<CodeAsked>(gateway, at, portal, request).await?;
    let sent = gateway.engine.send_code(&from, asked).await?;
    Ok(json!({ "state": "sent", "until": sent.until, "left": sent.left }))
}

/// `POST /portals/{portal}/codes/confirm`.
pub(super) async fn take_code(
    State(gateway): State<GatewayState>,
    at: Asked,
    portal: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response<Body> {
    let done = try_take_code(&gateway, &at, portal, request).await;
    answer(&gateway, &at, done)
}

async fn try_take_code(
    gateway: &GatewayState,
    at: &Asked,
    portal: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Value, CallError> {
    let (from, given) = received::<CodeGiven>(gateway, at, portal, request).await?;
    let verifying = gateway.engine.take_code(&from, given).await?;
    Ok(what_came_of_it(&verifying))
}

fn answer(gateway: &GatewayState, at: &Asked, done: Result<Value, CallError>) -> Response<Body> {
    match done {
        Ok(body) => json_response(StatusCode::OK, &body),
        Err(error) => gateway.answer(at, &error),
    }
}

/// What a portal sent, and which one. Refusals are recorded.
async fn received<T: DeserializeOwned>(
    gateway: &GatewayState,
    at: &Asked,
    portal: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<(Portal, T), CallError> {
    let engine = &gateway.engine;
    let signed = match signed::read(portal, request, NOTIFICATION_BYTES_MAX).await {
        Ok(signed) => signed,
        Err(error) => return Err(engine.refuse(None, error, at.correlation).await),
    };
    let from = engine
        .authenticate_portal(signed.delivery(), at.correlation)
        .await?;
    let read = match gateway.throttle.source(from.name()) {
        Ok(()) => signed::parse(signed.body(), CallError::portal_malformed),
        Err(wait) => Err(refusal::rate_limited(wait.retry_after_s)),
    };
    match read {
        Ok(read) => Ok((from, read)),
        Err(error) => Err(engine.refuse_portal(&from, error, at.correlation).await),
    }
}

/// A single change stands at the top. Several stand in `changes` alone, so that a portal which knows nothing of them
/// shows nothing rather than the first.
fn shown_to_patient(shown: &ForPatient) -> Value {
    let mut told = json!({
        "writeback": shown.writeback,
        "digest": shown.digest,
        "until": shown.until,
        "needs": shown.needs,
    });
    let change = |one: &ChangeForPatient| {
        json!({
            "interaction": one.interaction,
            "resource": one.resource.expose(ExposedFor::Person),
        })
    };
    if let Some(members) = told.as_object_mut() {
        match shown.changes.as_slice() {
            [only] => {
                if let Value::Object(only) = change(only) {
                    members.extend(only);
                }
            }
            several => {
                let several = several.iter().map(change).collect();
                members.insert("changes".to_owned(), Value::Array(several));
            }
        }
    }
    told
}
