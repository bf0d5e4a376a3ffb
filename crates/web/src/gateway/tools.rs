//! The tools as REST: the same tools as over MCP, with the same arguments and answers.
//!
//! - `GET /v1/tools`: the tools of the envelope.
//! - `POST /v1/tools/{name}`: a call; the body is the arguments.
//! - `GET /v1/proposals/{id}`: where a proposal stands, under a later token of the same agent.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::HeaderName;
use axum::http::{HeaderMap, Response, StatusCode};
use chaperone_core::ids::ToolName;
use chaperone_engine::open_envelope::Caller;
use chaperone_engine::{CallError, Engine};
use serde_json::{Map, Value, json};

use super::body::read_object;
use super::refusal::json_response;
use super::{Entered, GatewayState};

const IDEMPOTENCY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// The argument that the header stands for.
const IDEMPOTENCY_ARGUMENT: &str = "idempotency_key";

/// `GET /v1/tools`.
pub(super) async fn list(
    State(gateway): State<GatewayState>,
    Entered { caller, .. }: Entered,
) -> Response<Body> {
    let tools: Vec<Value> = gateway
        .engine
        .tools(&caller)
        .into_iter()
        .map(|tool| {
            json!({
                "name": tool.name,
                "description": tool.description,
                "input_schema": tool.input_schema,
                "read_only": tool.read_only,
            })
        })
        .collect();
    json_response(StatusCode::OK, &json!({ "tools": tools }))
}

/// `POST /v1/tools/{name}`.
pub(super) async fn call(
    State(gateway): State<GatewayState>,
    Entered { at, caller }: Entered,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response<Body> {
    // A name that cannot be read is the name of no tool.
    let name = name.map_or_else(|_| String::new(), |Path(name)| name);
    let (parts, body) = request.into_parts();
    let arguments = match read_object(&parts.headers, body).await {
        Ok((arguments, _)) => with_idempotency_key(arguments, &parts.headers, || {
            is_write(&gateway.engine, &caller, &name)
        }),
        Err(error) => Err(error),
    };
    let answered = match arguments {
        Ok(arguments) => {
            gateway
                .engine
                .call(&caller, &name, arguments, at.correlation)
                .await
        }
        Err(error) => Err(error),
    };
    match answered {
        Ok(value) => json_response(StatusCode::OK, &value),
        Err(error) => gateway.refuse(&at, Some(&caller), error).await,
    }
}

/// `GET /v1/proposals/{id}`: the status tool of the envelope, by another name.
pub(super) async fn proposal(
    State(gateway): State<GatewayState>,
    Entered { at, caller }: Entered,
    id: Result<Path<String>, PathRejection>,
) -> Response<Body> {
    let answered = match (status_tool(&gateway.engine, &caller), id) {
        (Some((tool, argument)), Ok(Path(id))) => {
            let arguments = Map::from_iter([(argument, Value::String(id))]);
            gateway
                .engine
                .call(&caller, tool.as_str(), arguments, at.correlation)
                .await
        }
        _ => Err(CallError::not_found()),
    };
    match answered {
        Ok(value) => json_response(StatusCode::OK, &value),
        // What is no proposal's id and what is none of the agent's proposals is the same.
        Err(error) if error.status == 422 => {
            gateway
                .refuse(&at, Some(&caller), CallError::not_found())
                .await
        }
        Err(error) => gateway.refuse(&at, Some(&caller), error).await,
    }
}

/// The status tool of the caller's envelope and the name of its one input.
fn status_tool(engine: &Engine, caller: &Caller) -> Option<(ToolName, String)> {
    engine.tools(caller).into_iter().find_map(|described| {
        let tool = engine
            .bundle()
            .tool(&described.name)
            .filter(|tool| tool.status)?;
        let argument = tool.inputs.keys().next()?.clone();
        Some((described.name, argument))
    })
}

fn is_write(engine: &Engine, caller: &Caller, name: &str) -> bool {
    engine
        .tools(caller)
        .iter()
        .any(|tool| tool.name.as_str() == name && !tool.read_only)
}

/// The key may come in the header instead of the body. To a tool that only reads it means nothing.
fn with_idempotency_key(
    mut arguments: Map<String, Value>,
    headers: &HeaderMap,
    is_write: impl FnOnce() -> bool,
) -> Result<Map<String, Value>, CallError> {
    let mut sent = headers.get_all(IDEMPOTENCY_HEADER).iter();
    let Some(key) = sent.next() else {
        return Ok(arguments);
    };
    let wrong = |why: &str| {
        CallError::invalid_argument()
            .about("Idempotency-Key")
            .saying(why)
    };
    let key = match (key.to_str(), sent.next()) {
        (Ok(key), None) if !key.is_empty() => Value::from(key),
        _ => return Err(wrong("send the header once, in visible ASCII characters")),
    };
    if !is_write() {
        return Ok(arguments);
    }
    match arguments.get(IDEMPOTENCY_ARGUMENT) {
        Some(argument) if *argument != key => Err(wrong(
            "the header and the argument `idempotency_key` differ; send one of them",
        )),
        _ => {
            arguments.insert(IDEMPOTENCY_ARGUMENT.to_owned(), key);
            Ok(arguments)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn keyed(body: Value, header: &[&'static str], write: bool) -> Result<Value, &'static str> {
        let mut headers = HeaderMap::new();
        for key in header {
            headers.append(IDEMPOTENCY_HEADER, HeaderValue::from_static(key));
        }
        let Value::Object(arguments) = body else {
            panic!()
        };
        with_idempotency_key(arguments, &headers, || write)
            .map(Value::Object)
            .map_err(|error| error.code)
    }

    #[test]
    fn the_header_fills_the_argument_of_a_write_and_may_not_contradict_it() {
        assert_eq!(
            keyed(json!({}), &["k"], true),
            Ok(json!({"idempotency_key": "k"}))
        );
        assert_eq!(keyed(json!({}), &["k"], false), Ok(json!({})));
        assert_eq!(keyed(json!({}), &[], true), Ok(json!({})));
        let same = json!({"idempotency_key": "k"});
        assert_eq!(keyed(same.clone(), &["k"], true), Ok(same.clone()));
        assert_eq!(keyed(same, &["other"], true), Err("invalid-argument"));
        assert_eq!(keyed(json!({}), &["k", "k"], true), Err("invalid-argument"));
    }
}
