//! MCP as its clients speak it, in both revisions.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::house::*;

/// A message of revision 2026-07-28: no handshake, everything with the request.
fn modern(token: &str, method: &str, mut params: Value) -> Request<Body> {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let tool = params["name"].as_str().map(str::to_owned);
    let message = json!({"jsonrpc": "2.0", "id": "m-1", "method": method, "params": params});
    let mut request = mcp_raw(Some(token), message.to_string());
    let headers = request.headers_mut();
    headers.insert("mcp-protocol-version", "2026-07-28".parse().unwrap());
    headers.insert("mcp-method", method.parse().unwrap());
    if let Some(tool) = tool {
        headers.insert("mcp-name", tool.parse().unwrap());
    }
    request
}

fn names(answer: &Answer) -> Vec<String> {
    let tools = answer.body["result"]["tools"]
        .as_array()
        .unwrap_or_else(|| panic!("{:?}", answer.body));
    tools
        .iter()
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn revision_2025_11_25_shakes_hands_and_calls_without_a_session() {
    let house = House::new().await;
    let token = house.token(SCHEDULER, "find-slots", None).await;
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"}});
    let answer = house.send(mcp(Some(&token), "initialize", &hello)).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert_eq!(answer.body["result"]["protocolVersion"], "2025-11-25");
    let capabilities = answer.body["result"]["capabilities"].as_object().unwrap();
    assert_eq!(capabilities.keys().collect::<Vec<_>>(), ["tools"]);
    assert_eq!(answer.header("mcp-session-id"), "");
    let done = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(
        house
            .send(mcp_raw(Some(&token), done.to_string()))
            .await
            .status,
        202
    );

    let listed = house
        .send(mcp(Some(&token), "tools/list", &json!({})))
        .await;
    assert_eq!(names(&listed), ["find_slots"]);
    assert_eq!(
        listed.body["result"]["tools"][0]["inputSchema"]["additionalProperties"],
        false
    );
    let called = house.send(mcp_call(&token, "find_slots", &window())).await;
    let result = &called.body["result"];
    assert_eq!(called.header("content-type"), "application/json");
    assert_eq!(result["isError"], false, "{result}");
    let text: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(text, result["structuredContent"]);
    assert_eq!(
        result["structuredContent"]["correlation"],
        called.correlation()
    );
    assert!(result.get("resultType").is_none());

    // An older revision is answered with ours; without a handshake it is not served.
    let old = json!({"protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"}});
    let mut request = mcp(Some(&token), "initialize", &old);
    request.headers_mut().remove("mcp-protocol-version");
    assert_eq!(
        house.send(request).await.body["result"]["protocolVersion"],
        "2025-11-25"
    );
    let mut request = mcp(Some(&token), "tools/list", &json!({}));
    request
        .headers_mut()
        .insert("mcp-protocol-version", "2025-06-18".parse().unwrap());
    let answer = house.send(request).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid-request"));
}

#[tokio::test]
async fn revision_2026_07_28_needs_no_handshake() {
    let house = House::new().await;
    let token = house.token(SCHEDULER, "find-slots", None).await;
    let discovered = house
        .send(modern(&token, "server/discover", json!({})))
        .await;
    assert_eq!(discovered.status, 200, "{:?}", discovered.body);
    let versions = &discovered.body["result"]["supportedVersions"];
    assert_eq!(versions, &json!(["2025-11-25", "2026-07-28"]));
    let listed = house.send(modern(&token, "tools/list", json!({}))).await;
    assert_eq!(names(&listed), ["find_slots"]);
    // What is listed is of one envelope: nobody may keep it for another.
    assert_eq!(listed.body["result"]["cacheScope"], "private");
    let call = json!({"name": "find_slots", "arguments": window()});
    let called = house.send(modern(&token, "tools/call", call)).await;
    assert_eq!(called.status, 200);
    assert_eq!(called.body["id"], "m-1");
    assert_eq!(called.body["result"]["isError"], false, "{:?}", called.body);
    assert_eq!(called.body["result"]["resultType"], "complete");

    let mut unknown = modern(&token, "tools/list", json!({}));
    *unknown.body_mut() = Body::from(
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": {
            "io.modelcontextprotocol/protocolVersion": "2099-01-01",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }}})
        .to_string(),
    );
    unknown
        .headers_mut()
        .insert("mcp-protocol-version", "2099-01-01".parse().unwrap());
    let answer = house.send(unknown).await;
    assert_eq!(
        (answer.status, &answer.body["error"]["code"]),
        (400, &json!(-32022))
    );
    assert!(answer.body["error"]["data"]["supported"].is_array());
}

#[tokio::test]
async fn what_is_no_message_of_ours_is_refused_in_json_rpc_and_recorded() {
    let house = House::new().await;
    let token = house.token(SCHEDULER, "find-slots", None).await;
    let raw = |body: &str| mcp_raw(Some(&token), body.to_owned());
    let without = |header: &str| {
        let mut request = mcp(Some(&token), "tools/list", &json!({}));
        request.headers_mut().remove(header);
        request
    };
    for (what, request, status, code, rpc) in [
        ("no JSON", raw("{"), 400, "malformed", -32700),
        ("a batch", raw("[]"), 400, "invalid-request", -32600),
        (
            "no method",
            raw(r#"{"jsonrpc":"2.0","id":1}"#),
            400,
            "invalid-request",
            -32600,
        ),
        (
            "resources",
            mcp(Some(&token), "resources/list", &json!({})),
            404,
            "unknown-method",
            -32601,
        ),
        (
            "prompts",
            mcp(Some(&token), "prompts/list", &json!({})),
            404,
            "unknown-method",
            -32601,
        ),
        (
            "arguments that are none",
            mcp(
                Some(&token),
                "tools/call",
                &json!({"name": "find_slots", "arguments": 1}),
            ),
            422,
            "invalid-argument",
            -32602,
        ),
        (
            "no Accept",
            without("accept"),
            406,
            "not-acceptable",
            -32000,
        ),
        (
            "no content type",
            without("content-type"),
            415,
            "unsupported-media-type",
            -32000,
        ),
        (
            "GET",
            bare("GET", Some(&token), "/mcp"),
            405,
            "method-not-allowed",
            -32000,
        ),
    ] {
        let answer = house.send(request).await;
        assert_eq!(
            (answer.status, answer.code()),
            (status, code),
            "{what}: {:?}",
            answer.body
        );
        assert_eq!(answer.body["error"]["code"], rpc, "{what}");
        assert_eq!(answer.body["jsonrpc"], "2.0");
        let recorded = house.recorded_refusal(answer.correlation()).await;
        assert_eq!(recorded.as_deref(), Some(code), "{what}");
    }
}
