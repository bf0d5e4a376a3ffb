//! MCP over streamable HTTP at `/mcp`, revisions 2025-11-25 and 2026-07-28, without sessions: every
//! request carries its own token and stands for itself.
//!
//! The protocol is rmcp's. Here stands what it is not given to see: a body that can be read in two
//! ways, members that no message has, methods that are not served. And what it does not do: record a
//! refusal. Start at [`serve`].

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Response};
use axum::routing::post;
use chaperone_engine::open_envelope::Caller;
use chaperone_engine::{CallError, Engine};
use futures::FutureExt as _;
use http_body_util::Full;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ErrorData, Implementation,
    ListToolsResult, PaginatedRequestParams, ProtocolVersion, ServerCapabilities, ServerConfig,
    Tool, ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{RoleServer, ServerHandler};
use serde_json::{Map, Value};

use super::body::read_object;
use super::limits::BODY_BYTES_MAX;
use super::refusal::AnsweredCode;
use super::{Asked, Entered, GatewayState, refusal, wrong_method};

/// The revisions that are served.
const REVISIONS: [ProtocolVersion; 2] =
    [ProtocolVersion::V_2025_11_25, ProtocolVersion::V_2026_07_28];
const REVISION_HEADER: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// Methods that are served. Notifications are accepted and mean nothing here.
const METHODS: [&str; 5] = [
    "initialize",
    "ping",
    "server/discover",
    "tools/list",
    "tools/call",
];
/// Members of a request or notification.
const MESSAGE_MEMBERS: [&str; 4] = ["jsonrpc", "id", "method", "params"];
/// Members of the parameters of a tool call.
const CALL_MEMBERS: [&str; 3] = ["name", "arguments", "_meta"];

const INSTRUCTIONS: &str = "Every tool works on the one patient of your envelope, or on none; you cannot name another. \
A write tool makes a proposal and answers {proposal, state, poll_after, resume}: it is not in the record until its \
state says delivered. Values such as pat_… and res_… are tokens of this server; use them as they are. An error says \
in `retry` and `next` how to go on.";

type Mcp = StreamableHttpService<AgentTools, NeverSessionManager>;

/// The route, before the bearer check is put around it.
pub(super) fn routes(gateway: &GatewayState) -> Router<GatewayState> {
    let mcp = mcp(gateway);
    Router::new().route(
        "/mcp",
        post(move |state, entered, request| serve(mcp.clone(), state, entered, request))
            .fallback(wrong_method),
    )
}

fn mcp(gateway: &GatewayState) -> Mcp {
    let hosts = [gateway.urls.host.as_str(), "localhost", "127.0.0.1", "::1"];
    // Origin is checked before, for every route of the agents' side.
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_allowed_hosts(hosts)
        .enforce_origin_validation()
        .with_allowed_origins(origins(&gateway.urls.origin))
        .with_max_request_body_bytes(BODY_BYTES_MAX);
    let engine = Arc::clone(&gateway.engine);
    StreamableHttpService::new(
        move || {
            Ok(AgentTools {
                engine: Arc::clone(&engine),
            })
        },
        Arc::new(NeverSessionManager::default()),
        config,
    )
}

/// The origin with its port written out: rmcp takes an entry without one for any port.
fn origins(origin: &str) -> Vec<String> {
    let Ok(url) = url::Url::parse(origin) else {
        return Vec::new();
    };
    match (url.host_str(), url.port_or_known_default()) {
        (Some(host), Some(port)) => vec![format!("{}://{host}:{port}", url.scheme())],
        _ => Vec::new(),
    }
}

/// `POST /mcp`.
async fn serve(
    mcp: Mcp,
    State(gateway): State<GatewayState>,
    Entered { at, caller }: Entered,
    request: Request,
) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    let (message, bytes) = match read_object(&parts.headers, body).await {
        Ok(read) => read,
        Err(error) => return gateway.refuse(&at, Some(&caller), error).await,
    };
    let at = at.answering(id_of(&message));
    if let Err(error) = check_message(&message, &parts.headers) {
        return gateway.refuse(&at, Some(&caller), error).await;
    }
    let said = Said::default();
    parts.extensions.insert(said.clone());
    parts.extensions.insert(CallSpan(tracing::Span::current()));
    let response = mcp
        .handle(Request::from_parts(parts, Full::new(bytes)))
        .await;
    answered(&gateway, &at, &caller, &said, response.map(Body::new)).await
}

/// rmcp says some refusals in plain text. An agent is told all of them in one form.
async fn answered(
    gateway: &GatewayState,
    at: &Asked,
    caller: &Caller,
    said: &Said,
    mut response: Response<Body>,
) -> Response<Body> {
    let status = response.status();
    let is_json = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if is_json || status.is_success() {
        let code = said.0.get().copied();
        if let Some(code) = code.or_else(|| (!status.is_success()).then_some("protocol")) {
            response.extensions_mut().insert(AnsweredCode(code));
        }
        return response;
    }
    let error = match status.as_u16() {
        403 => refusal::origin_refused(),
        405 => refusal::method_not_allowed(),
        406 => refusal::not_acceptable(),
        413 => CallError::too_large(),
        415 => refusal::unsupported_media_type("application/json"),
        400..=499 => refusal::invalid_request(
            "the message is not one of a revision of MCP that is served here",
            "use revision 2026-07-28 or 2025-11-25, and name it in MCP-Protocol-Version",
        ),
        _ => CallError::internal(),
    };
    gateway.refuse(at, Some(caller), error).await
}

fn id_of(message: &Map<String, Value>) -> Value {
    match message.get("id") {
        Some(id @ (Value::String(_) | Value::Number(_))) => id.clone(),
        _ => Value::Null,
    }
}

/// Refuses what rmcp would pass over in silence, or answer without a record of it.
fn check_message(message: &Map<String, Value>, headers: &HeaderMap) -> Result<(), CallError> {
    let method = message.get("method").and_then(Value::as_str);
    let (Some(method), Some("2.0")) = (method, message.get("jsonrpc").and_then(Value::as_str))
    else {
        return Err(refusal::invalid_request(
            "the body is not a JSON-RPC 2.0 request",
            "send one message with `jsonrpc`, `id`, `method` and `params`",
        ));
    };
    only(message, &MESSAGE_MEMBERS)?;
    if message.get("id").is_none() && method.starts_with("notifications/") {
        return Ok(());
    }
    if !METHODS.contains(&method) {
        return Err(refusal::unknown_method());
    }
    let params = match message.get("params") {
        None => None,
        Some(Value::Object(params)) => Some(params),
        Some(_) => {
            return Err(CallError::invalid_argument()
                .about("params")
                .saying("must be an object"));
        }
    };
    check_revision(method, params, headers)?;
    if method == "tools/call" {
        check_call(params)
    } else {
        Ok(())
    }
}

/// A revision that a request names must be served. `initialize` negotiates its own, and a request that
/// names one in its `_meta` is answered by rmcp with the list of those that are.
fn check_revision(
    method: &str,
    params: Option<&Map<String, Value>>,
    headers: &HeaderMap,
) -> Result<(), CallError> {
    let in_meta = params
        .and_then(|params| params.get("_meta"))
        .and_then(|meta| meta.get("io.modelcontextprotocol/protocolVersion"));
    let Some(named) = headers.get(REVISION_HEADER) else {
        return Ok(());
    };
    if method == "initialize"
        || in_meta.is_some()
        || REVISIONS
            .iter()
            .any(|served| named.as_bytes() == served.as_str().as_bytes())
    {
        return Ok(());
    }
    Err(refusal::invalid_request(
        "this revision of MCP is not served here",
        "use revision 2026-07-28 or 2025-11-25, and name it in MCP-Protocol-Version",
    ))
}

fn check_call(params: Option<&Map<String, Value>>) -> Result<(), CallError> {
    let wrong = |field: &str, why: &str| CallError::invalid_argument().about(field).saying(why);
    let params = params.ok_or_else(|| wrong("params", "a call names its tool in `params`"))?;
    only(params, &CALL_MEMBERS)?;
    if !params.get("name").is_some_and(Value::is_string) {
        return Err(wrong("name", "must be the name of a tool"));
    }
    if !params.get("arguments").is_none_or(Value::is_object) {
        return Err(wrong("arguments", "must be an object"));
    }
    Ok(())
}

/// A member that the message does not have may be meant for somebody who reads more leniently. Its
/// name is not repeated: it is not one of ours.
fn only(object: &Map<String, Value>, members: &[&str]) -> Result<(), CallError> {
    if object.keys().all(|name| members.contains(&name.as_str())) {
        return Ok(());
    }
    Err(CallError::undeclared_argument().saying(format!(
        "the message may hold only {} here",
        members.join(", ")
    )))
}

/// The code of a refusal that a tool's answer carries, for the metrics.
#[derive(Clone, Default)]
struct Said(Arc<OnceLock<&'static str>>);

/// The span of the request; rmcp answers in a task of its own.
#[derive(Clone)]
struct CallSpan(tracing::Span);

/// The tools, as rmcp asks for them. What it may not know without a token it does not know: the
/// envelope comes with each request.
#[derive(Clone)]
struct AgentTools {
    engine: Arc<Engine>,
}

impl AgentTools {
    fn entered(context: &RequestContext<RoleServer>) -> Result<(&Parts, Asked, Caller), ErrorData> {
        let missing = || ErrorData::internal_error("the request could not be completed", None);
        let parts = context.extensions.get::<Parts>().ok_or_else(missing)?;
        let at = parts
            .extensions
            .get::<Asked>()
            .cloned()
            .ok_or_else(missing)?;
        let caller = parts
            .extensions
            .get::<Caller>()
            .cloned()
            .ok_or_else(missing)?;
        Ok((parts, at, caller))
    }
}

impl ServerHandler for AgentTools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("chaperone", env!("CARGO_PKG_VERSION")))
            .with_protocol_version(ProtocolVersion::V_2025_11_25)
            .with_instructions(INSTRUCTIONS)
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(&REVISIONS)
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let (_, _, caller) = Self::entered(&context)?;
        if request.is_some_and(|request| request.cursor.is_some()) {
            return Err(ErrorData::invalid_params(
                "there is one page; send no cursor",
                None,
            ));
        }
        let tools = self.engine.tools(&caller).into_iter().map(|tool| {
            let schema = match tool.input_schema {
                Value::Object(schema) => schema,
                _ => Map::new(),
            };
            let hints = ToolAnnotations::new()
                .read_only(tool.read_only)
                .destructive(false)
                .idempotent(true)
                .open_world(false);
            Tool::new(tool.name.to_string(), tool.description, schema).with_annotations(hints)
        });
        Ok(ListToolsResult::with_all_items(tools.collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let (parts, at, caller) = Self::entered(&context)?;
        let said = parts.extensions.get::<Said>().cloned().unwrap_or_default();
        let span = parts
            .extensions
            .get::<CallSpan>()
            .map(|span| span.0.clone());
        let arguments = request.arguments.unwrap_or_default();
        let call = self
            .engine
            .call(&caller, &request.name, arguments, at.correlation);
        let call = tracing::Instrument::instrument(call, span.unwrap_or_else(tracing::Span::none));
        // In rmcp's task a panic would leave the request without an answer.
        let answered = AssertUnwindSafe(call)
            .catch_unwind()
            .await
            .unwrap_or_else(|_panic| Err(CallError::internal()));
        let result = match answered {
            Ok(value) => CallToolResult::structured(value),
            // A tool's error is an answer that the model reads and recovers from, also when it asked
            // for a tool that is not there; a protocol error would end at the client's code.
            Err(error) => {
                let _ = said.0.set(error.code);
                CallToolResult::structured_error(error.body(&at.correlation.to_string()))
            }
        };
        Ok(CallToolResponse::Complete(result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use serde_json::json;

    fn code(message: Value) -> &'static str {
        code_under(message, None)
    }

    fn code_under(message: Value, revision: Option<&'static str>) -> &'static str {
        let Value::Object(message) = message else {
            panic!()
        };
        let mut headers = HeaderMap::new();
        if let Some(revision) = revision {
            headers.insert(REVISION_HEADER, HeaderValue::from_static(revision));
        }
        check_message(&message, &headers).map_or_else(|error| error.code, |()| "ok")
    }

    #[test]
    fn a_message_has_its_members_and_no_others() {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
        assert_eq!(code(message.clone()), "ok");
        let with = |name: &str| {
            let mut message = message.clone();
            message[name] = json!("x");
            code(message)
        };
        assert_eq!(with("patient"), "undeclared-argument");
        assert_eq!(with("params"), "invalid-argument");
        assert_eq!(with("method"), "unknown-method");
        assert_eq!(with("jsonrpc"), "invalid-request");
        assert_eq!(
            code(json!({"jsonrpc": "2.0", "id": 1, "result": {}})),
            "invalid-request"
        );
    }

    #[test]
    fn a_call_names_a_tool_and_arguments_and_nothing_else() {
        let call = |params: Value| {
            code(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}))
        };
        assert_eq!(call(json!({"name": "t"})), "ok");
        assert_eq!(
            call(json!({"name": "t", "arguments": {}, "_meta": {}})),
            "ok"
        );
        assert_eq!(
            call(json!({"name": "t", "patient": "p"})),
            "undeclared-argument"
        );
        assert_eq!(
            call(json!({"name": "t", "arguments": []})),
            "invalid-argument"
        );
        assert_eq!(call(json!({"arguments": {}})), "invalid-argument");
    }

    #[test]
    fn only_tools_are_served() {
        for method in [
            "resources/read",
            "prompts/list",
            "logging/setLevel",
            "tasks/get",
        ] {
            let message = json!({"jsonrpc": "2.0", "id": 1, "method": method});
            assert_eq!(code(message), "unknown-method", "{method}");
        }
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(code(initialized), "ok");
        let disguised = json!({"jsonrpc": "2.0", "id": 1, "method": "notifications/x"});
        assert_eq!(code(disguised), "unknown-method");
    }

    #[test]
    fn an_old_revision_is_refused_unless_it_is_being_negotiated() {
        let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
        let open = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize"});
        assert_eq!(code_under(list.clone(), Some("2025-11-25")), "ok");
        assert_eq!(code_under(list.clone(), Some("2026-07-28")), "ok");
        assert_eq!(code_under(list, Some("2025-06-18")), "invalid-request");
        assert_eq!(code_under(open, Some("2025-06-18")), "ok");
    }

    #[test]
    fn an_allowed_origin_names_its_port() {
        assert_eq!(origins("https://c.example"), ["https://c.example:443"]);
        assert_eq!(origins("http://127.0.0.1:8080"), ["http://127.0.0.1:8080"]);
    }
}
