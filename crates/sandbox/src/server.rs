//! HTTP: routes, headers, bodies, and where faults strike.
//!
//! What an interaction does is in `operations` and `transaction`. Start at [`router`] and
//! [`answer`], which walks a request through in this order:
//!
//! ```text
//! note it → token → interaction → body → permission → profile → fault → carry out → answer
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get};
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

use crate::auth::{Authority, Denied, TokenRefused, TokenRequest};
use crate::config::Clock;
use crate::connection::Scissors;
use crate::faults::{FaultKind, FaultRule, Faults, HOLD_MS_MAX, faces};
use crate::filing::{Filed, entry, file};
use crate::interaction::Interaction;
use crate::launch::{LaunchAuthority, OpenInEhr};
use crate::operations::{Answer, Circumstances, Conditions, offered, perform, perform_read};
use crate::outcome::Refusal;
use crate::patching::{JSON_PATCH, of_bytes};
use crate::profile::ServerProfile;
use crate::requests::{ReceivedRequest, RequestLog};
use crate::search::Handling;
use crate::storage::{Resource, Storage};
use crate::transaction::{interactions, perform_bundle};

/// The largest body taken, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The largest body of the token endpoint and of the control route, in bytes.
const SMALL_BODY_BYTES_MAX: usize = 64 * 1024;
/// The path of the FHIR base.
pub(crate) const FHIR_PATH: &str = "/fhir";
/// The path of the token endpoint.
pub(crate) const TOKEN_PATH: &str = "/oauth/token";
const FHIR_JSON: HeaderValue = HeaderValue::from_static("application/fhir+json; charset=utf-8");

/// What the handlers share.
pub(crate) struct Shared {
    pub(crate) profile: ServerProfile,
    pub(crate) clock: Clock,
    pub(crate) storage: RwLock<Storage>,
    pub(crate) filed: Mutex<Filed>,
    pub(crate) faults: Faults,
    pub(crate) requests: RequestLog,
    pub(crate) authority: Option<Authority>,
    pub(crate) launch: Option<LaunchAuthority>,
    pub(crate) capability: Bytes,
    pub(crate) base_url: String,
    pub(crate) token_url: String,
    /// True once the server is to stop; releases held requests.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// The routes of the sandbox.
pub(crate) fn router(shared: Arc<Shared>, control_route: bool) -> Router {
    let mut router = Router::new()
        .route(FHIR_PATH, any(fhir))
        .route("/fhir/", any(fhir))
        .route("/fhir/{*path}", any(fhir))
        .route(TOKEN_PATH, any(token))
        .route("/oauth/launcher", get(launcher))
        .route("/oauth/authorize", get(authorize))
        .route("/oauth/jwks", get(jwks));
    if control_route {
        router = router
            .route("/_faults", any(control_faults))
            .route("/_requests", any(control_requests));
    }
    router
        .fallback(|| async { refuse(&Refusal::unknown_type()) })
        .with_state(shared)
}

async fn fhir(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let path = path.strip_prefix(FHIR_PATH).unwrap_or(path);
    let number = shared
        .requests
        .begin(noted(&parts.method, path, &parts.uri, &parts.headers));
    let incoming = Incoming {
        number,
        method: &parts.method,
        path: path.trim_start_matches('/'),
        query: parts.uri.query().unwrap_or(""),
        headers: &parts.headers,
    };
    match answer(&shared, &incoming, body).await {
        Ok(response) => {
            shared.requests.answered(number, response.status().as_u16());
            response
        }
        Err(Stop::Refused(refusal)) => {
            shared.requests.answered(number, refusal.status.as_u16());
            refuse(&refusal)
        }
        Err(Stop::TryLater { retry_after_s }) => {
            let refusal = Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "throttled",
                "too many requests; see Retry-After",
            );
            shared.requests.answered(number, refusal.status.as_u16());
            let mut response = refuse(&refusal);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
            response
        }
        Err(Stop::Hung { hold_ms }) => {
            hold(&shared, hold_ms).await;
            scissors.cut();
            // Never arrives: the connection is cut.
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A request, without its body.
struct Incoming<'a> {
    number: u64,
    method: &'a Method,
    path: &'a str,
    query: &'a str,
    headers: &'a HeaderMap,
}

/// Why no ordinary answer is sent.
enum Stop {
    Refused(Refusal),
    TryLater { retry_after_s: u32 },
    Hung { hold_ms: u64 },
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

async fn answer(shared: &Shared, incoming: &Incoming<'_>, body: Body) -> Result<Response, Stop> {
    if incoming.path == ".well-known/smart-configuration" {
        return smart_configuration(shared, incoming.method).map_err(Stop::from);
    }
    acceptable(incoming.headers)?;
    let parsed = Interaction::parse(incoming.method, incoming.path, incoming.query);
    let open_to_all = matches!(parsed, Ok(Interaction::Metadata));
    if !open_to_all {
        admit(shared, incoming, &[])?;
    }
    let mut interaction = parsed?;

    let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-long",
            format!("a body may have at most {BODY_BYTES_MAX} bytes"),
        )
    })?;
    let mut resource = None;
    match &mut interaction {
        Interaction::Search { query, .. } if *incoming.method == Method::POST => {
            append_form(query, incoming.headers, &body)?;
        }
        Interaction::Bundle
        | Interaction::FileEntry
        | Interaction::Create { .. }
        | Interaction::Update { .. } => {
            resource = Some(json_body(incoming.headers, &body)?);
        }
        Interaction::Patch { patch, .. } => {
            if !content_type_is(incoming.headers, &[JSON_PATCH]) {
                return Err(unsupported_media(JSON_PATCH).into());
            }
            *patch = of_bytes(&body)?;
        }
        _ => {}
    }
    let entries = match (&interaction, &resource) {
        (Interaction::Bundle, Some(bundle)) => interactions(bundle),
        (Interaction::FileEntry, Some(message)) => entry(message).into_iter().collect(),
        _ => Vec::new(),
    };
    if !open_to_all {
        let mut needed: Vec<&Interaction> = entries.iter().collect();
        needed.push(&interaction);
        admit(shared, incoming, &needed)?;
    }
    offered(&interaction, shared.profile)?;

    let query = match &interaction {
        Interaction::Search { query, .. } => query.as_str(),
        _ => "",
    };
    let fault = shared.faults.take(&faces(&interaction, &entries), query);
    let mut hang_after = None;
    match fault {
        None => {}
        Some(FaultKind::Latency { ms }) => hold(shared, ms).await,
        Some(FaultKind::Status { code }) => {
            let status = StatusCode::from_u16(code)
                .ok()
                .filter(|status| status.is_client_error() || status.is_server_error())
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return Err(Refusal::new(status, "transient", "the server failed, on demand").into());
        }
        Some(FaultKind::TimeoutBeforeCommit { hold_ms }) => return Err(Stop::Hung { hold_ms }),
        Some(FaultKind::TimeoutAfterCommit { hold_ms }) => hang_after = Some(hold_ms),
        Some(FaultKind::PreconditionFailed) => {
            return Err(
                Refusal::precondition("conflict", "a precondition failed, on demand").into(),
            );
        }
        Some(FaultKind::TooManyRequests { retry_after_s }) => {
            return Err(Stop::TryLater { retry_after_s });
        }
    }

    let response = carry_out(shared, incoming, &interaction, resource);
    match hang_after {
        Some(hold_ms) => Err(Stop::Hung { hold_ms }),
        None => response.map_err(Stop::from),
    }
}

/// Carries the interaction out under the lock and writes the response.
fn carry_out(
    shared: &Shared,
    incoming: &Incoming<'_>,
    interaction: &Interaction,
    resource: Option<Resource>,
) -> Result<Response, Refusal> {
    if matches!(interaction, Interaction::Metadata) {
        return Ok(json_response(StatusCode::OK, shared.capability.clone()));
    }
    let prefer = Preference::of(incoming.headers);
    if !interaction.writes() {
        let storage = shared
            .storage
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let answer = perform_read(&storage, interaction, prefer.handling)?;
        drop(storage);
        return Ok(respond(shared, &answer, Representation::Full));
    }
    let circumstances = Circumstances {
        profile: shared.profile,
        handling: prefer.handling,
        now: (shared.clock)(),
        request: incoming.number,
    };
    let conditions = if shared.profile.honours_conditions() {
        Conditions {
            if_none_exist: header_text(incoming.headers, "if-none-exist"),
            if_match: header_text(incoming.headers, "if-match"),
        }
    } else {
        Conditions::default()
    };
    let mut storage = shared
        .storage
        .write()
        .unwrap_or_else(PoisonError::into_inner);
    let answer = match (interaction, resource) {
        (Interaction::Bundle, Some(bundle)) => {
            perform_bundle(&mut storage, &bundle, circumstances)?
        }
        (Interaction::FileEntry, Some(message)) => {
            let mut filed = shared.filed.lock().unwrap_or_else(PoisonError::into_inner);
            file(&mut storage, &mut filed, &message, circumstances)?
        }
        (_, resource) => perform(
            &mut storage,
            interaction,
            resource,
            &conditions,
            circumstances,
        )?,
    };
    drop(storage);
    Ok(respond(shared, &answer, prefer.representation))
}

/// Waits, but no longer than the server runs.
async fn hold(shared: &Shared, ms: u64) {
    let mut stopping = shared.stopping.clone();
    let wait = Duration::from_millis(ms.min(HOLD_MS_MAX));
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
}

/// Checks the bearer token where the sandbox demands one.
fn admit(
    shared: &Shared,
    incoming: &Incoming<'_>,
    interactions: &[&Interaction],
) -> Result<(), Refusal> {
    let Some(authority) = &shared.authority else {
        return Ok(());
    };
    let authorization = header_text(incoming.headers, "authorization");
    let token = authorization
        .as_deref()
        .and_then(|value| value.strip_prefix("Bearer "));
    match authority.admits(token, interactions, (shared.clock)()) {
        Ok(()) => Ok(()),
        Err(Denied::Unauthorized) => Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "login",
            "a valid bearer token is needed; see .well-known/smart-configuration",
        )),
        Err(Denied::Forbidden) => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "the scopes of the token do not cover this request",
        )),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Representation {
    Full,
    Minimal,
}

#[derive(Debug, Clone, Copy)]
struct Preference {
    handling: Handling,
    representation: Representation,
}

impl Preference {
    /// Reads `Prefer`, which may be repeated and may hold several preferences.
    fn of(headers: &HeaderMap) -> Self {
        let mut preference = Self {
            handling: Handling::Lenient,
            representation: Representation::Full,
        };
        for value in headers.get_all("prefer") {
            let text = value.to_str().unwrap_or("");
            for part in text.split([',', ';']).map(str::trim) {
                match part {
                    "handling=strict" => preference.handling = Handling::Strict,
                    "return=minimal" => preference.representation = Representation::Minimal,
                    _ => {}
                }
            }
        }
        preference
    }
}

fn respond(shared: &Shared, answer: &Answer, representation: Representation) -> Response {
    let body = match representation {
        Representation::Minimal if answer.bundle.is_none() => None,
        Representation::Full | Representation::Minimal => answer.body(),
    };
    let mut response = match body {
        Some(body) => json_response(answer.status, Bytes::copy_from_slice(body.get().as_bytes())),
        None => answer.status.into_response(),
    };
    let Some(version) = &answer.version else {
        return response;
    };
    let headers = response.headers_mut();
    let modified = jiff::fmt::rfc2822::DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&version.at)
        .ok();
    insert_text(headers, header::LAST_MODIFIED, modified);
    let place = format!("{}/{}/{}", shared.base_url, version.kind.name, version.id);
    let place = if shared.profile.shows_versions() {
        insert_text(
            headers,
            header::ETAG,
            Some(format!("W/\"{}\"", version.number)),
        );
        format!("{place}/_history/{}", version.number)
    } else {
        place
    };
    if representation == Representation::Minimal || answer.status == StatusCode::CREATED {
        insert_text(headers, header::LOCATION, Some(place));
    }
    response
}

fn insert_text(headers: &mut HeaderMap, name: header::HeaderName, text: Option<String>) {
    if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.insert(name, value);
    }
}

fn json_response(status: StatusCode, body: Bytes) -> Response {
    (status, [(header::CONTENT_TYPE, FHIR_JSON)], body).into_response()
}

fn refuse(refusal: &Refusal) -> Response {
    let body = Bytes::from(refusal.outcome().to_string());
    let mut response = json_response(refusal.status, body);
    if refusal.status == StatusCode::UNAUTHORIZED {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn noted(method: &Method, path: &str, uri: &Uri, headers: &HeaderMap) -> ReceivedRequest {
    ReceivedRequest {
        number: 0,
        method: method.to_string(),
        path: path.to_owned(),
        query: uri.query().map(str::to_owned),
        prefer: header_text(headers, "prefer"),
        if_none_exist: header_text(headers, "if-none-exist"),
        if_match: header_text(headers, "if-match"),
        status: None,
    }
}

fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
}

fn acceptable(headers: &HeaderMap) -> Result<(), Refusal> {
    match header_text(headers, "accept") {
        Some(accept) if !accept.contains("json") && !accept.contains("*/*") => Err(Refusal::new(
            StatusCode::NOT_ACCEPTABLE,
            "not-supported",
            "only application/fhir+json is offered",
        )),
        _ => Ok(()),
    }
}

fn content_type_is(headers: &HeaderMap, accepted: &[&str]) -> bool {
    let text = header_text(headers, "content-type").unwrap_or_default();
    let essence = text.split(';').next().unwrap_or("").trim();
    accepted.iter().any(|one| essence.eq_ignore_ascii_case(one))
}

fn json_body(headers: &HeaderMap, body: &[u8]) -> Result<Resource, Refusal> {
    if !content_type_is(headers, &["application/fhir+json", "application/json"]) {
        return Err(unsupported_media("application/fhir+json"));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(resource)) => Ok(resource),
        _ => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "structure",
            "the body is not a JSON object, or is nested too deeply",
        )),
    }
}

fn append_form(query: &mut String, headers: &HeaderMap, body: &[u8]) -> Result<(), Refusal> {
    if body.is_empty() {
        return Ok(());
    }
    if !content_type_is(headers, &["application/x-www-form-urlencoded"]) {
        return Err(unsupported_media("application/x-www-form-urlencoded"));
    }
    let form = str::from_utf8(body).map_err(|_| Refusal::invalid("the form is not UTF-8"))?;
    if !query.is_empty() {
        query.push('&');
    }
    query.push_str(form);
    Ok(())
}

fn unsupported_media(wanted: &str) -> Refusal {
    Refusal::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "not-supported",
        format!("the body must be {wanted}"),
    )
}

fn smart_configuration(shared: &Shared, method: &Method) -> Result<Response, Refusal> {
    let mut configuration = match (&shared.authority, &shared.launch) {
        (Some(authority), _) => authority.smart_configuration(),
        (None, Some(_)) => serde_json::json!({}),
        (None, None) => Value::Null,
    };
    if let Some(launch) = &shared.launch {
        launch.add_to(&mut configuration);
    }
    match configuration {
        Value::Object(_) if *method == Method::GET => {
            Ok(plain_json(StatusCode::OK, &configuration))
        }
        _ => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "not-supported",
            "this server needs no authorization",
        )),
    }
}

fn plain_json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => {
            let kind = HeaderValue::from_static("application/json");
            (status, [(header::CONTENT_TYPE, kind)], body).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn token(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let error = |status, error: &str, description: &str| {
        plain_json(
            status,
            &serde_json::json!({"error": error, "error_description": description}),
        )
    };
    if shared.authority.is_none() && shared.launch.is_none() {
        return refuse(&Refusal::unknown_type());
    }
    let is_form = content_type_is(request.headers(), &["application/x-www-form-urlencoded"]);
    if *request.method() != Method::POST || !is_form {
        return error(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "POST a form to this endpoint",
        );
    }
    let Ok(body) = to_bytes(request.into_body(), SMALL_BODY_BYTES_MAX).await else {
        return error(
            StatusCode::PAYLOAD_TOO_LARGE,
            "invalid_request",
            "the form is too large",
        );
    };
    let Some(request) = TokenRequest::of_form(&body) else {
        return error(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "a parameter is repeated",
        );
    };
    let now = (shared.clock)();
    let issued = match (&shared.authority, &shared.launch) {
        (_, Some(launch)) if request.has_code() => launch.redeem(&request, now),
        (Some(authority), _) => authority.issue(&request, now),
        (None, _) => Err(TokenRefused {
            error: "unsupported_grant_type",
            description: "only codes of launches are exchanged",
        }),
    };
    let mut response = match issued {
        Ok(token) => plain_json(StatusCode::OK, &token),
        Err(refused) if refused.error == "invalid_client" => {
            error(StatusCode::UNAUTHORIZED, refused.error, refused.description)
        }
        Err(refused) => error(StatusCode::BAD_REQUEST, refused.error, refused.description),
    };
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The button in the EHR: opens a launch for `user`, `patient` and `app_context`, and goes to the app.
async fn launcher(
    State(shared): State<Arc<Shared>>,
    Query(asked): Query<HashMap<String, String>>,
) -> Response {
    let Some(launch) = &shared.launch else {
        return refuse(&Refusal::unknown_type());
    };
    let some = |name: &str| asked.get(name).cloned().filter(|text| !text.is_empty());
    let context = OpenInEhr {
        user: some("user").unwrap_or_default(),
        patient: some("patient"),
        app_context: some("app_context"),
    };
    match launch.open(context, None, (shared.clock)()) {
        Some(id) => Redirect::to(&launch.launch_address(&id)).into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn authorize(
    State(shared): State<Arc<Shared>>,
    Query(asked): Query<HashMap<String, String>>,
) -> Response {
    let Some(launch) = &shared.launch else {
        return refuse(&Refusal::unknown_type());
    };
    match launch.authorize(&asked, (shared.clock)()) {
        Ok(to) => Redirect::to(&to).into_response(),
        Err(why) => refuse(&Refusal::invalid(why)),
    }
}

async fn jwks(State(shared): State<Arc<Shared>>) -> Response {
    match &shared.launch {
        Some(launch) => plain_json(StatusCode::OK, launch.jwks()),
        None => refuse(&Refusal::unknown_type()),
    }
}

/// `GET` lists the rules that wait, `POST` adds one, `DELETE` clears them.
async fn control_faults(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match *request.method() {
        Method::GET => plain_json(StatusCode::OK, &shared.faults.pending()),
        Method::DELETE => {
            shared.faults.clear();
            StatusCode::NO_CONTENT.into_response()
        }
        Method::POST => {
            let body = to_bytes(request.into_body(), SMALL_BODY_BYTES_MAX).await;
            let rule = body
                .ok()
                .and_then(|body| serde_json::from_slice::<FaultRule>(&body).ok());
            match rule {
                Some(rule) => {
                    shared.faults.inject(rule);
                    StatusCode::NO_CONTENT.into_response()
                }
                None => refuse(&Refusal::invalid("the body is not a fault rule")),
            }
        }
        _ => refuse(&Refusal::not_offered("this method on the control route")),
    }
}

/// `GET` lists the requests received so far.
async fn control_requests(State(shared): State<Arc<Shared>>) -> Response {
    plain_json(StatusCode::OK, &shared.requests.all())
}
