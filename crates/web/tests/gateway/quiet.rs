//! Nothing of a patient, and nothing that was sent, reaches the log.

use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::house::*;

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Page {
    type Writer = Page;

    fn make_writer(&self) -> Page {
        self.clone()
    }
}

#[tokio::test]
async fn the_log_tells_of_requests_and_not_of_what_they_hold() {
    let page = Page::default();
    // The MCP library prints whole messages at its debug level; the program drops what libraries say.
    let directives = "trace,rmcp=off";
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives))
        .with_writer(page.clone())
        .with_ansi(false)
        .finish();
    let _quiet = tracing::subscriber::set_default(subscriber);

    let house = House::new().await;
    let token = house
        .token(SCHEDULER, "schedule-appointment", Some("a"))
        .await;
    let task =
        json!({"summary": "Canary summary", "pool": "nursing", "idempotency_key": "Canary-key"});
    let sent = [
        rest(&token, "list_appointments", &json!({})),
        rest(&token, "create_task", &task),
        mcp_call(&token, "create_task", &task),
        mcp_call(&token, "Canary-tool", &json!({"Canary": "Canary"})),
        get(&token, "/v1/tools?name=Canary"),
        get(&token, "/v1/Canary/Canary"),
        bare("GET", None, "/Canary"),
        bare("GET", Some("Canary"), "/v1/tools"),
        json_post("/v1/grants", Some(&token), r#"{"patient":"Canary"}"#),
        mcp_raw(Some(&token), "Canary"),
        form(&[("client_assertion", "Canary"), ("scope", "Canary")]),
    ];
    let mut correlations = Vec::new();
    for request in sent {
        correlations.push(house.send(request).await.correlation().to_owned());
    }
    let log = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
    for correlation in &correlations {
        assert!(
            log.contains(correlation.as_str()),
            "{correlation} is not in the log"
        );
    }
    let leaked: Vec<&str> = log
        .lines()
        .filter(|line| line.to_lowercase().contains("canary") || line.contains(&token))
        .collect();
    assert!(leaked.is_empty(), "{leaked:#?}");
    assert!(
        log.contains("route=/v1/tools/{name}") && log.contains("route=unmatched"),
        "{log}"
    );
}
