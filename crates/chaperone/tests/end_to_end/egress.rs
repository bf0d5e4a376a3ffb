//! What leaves, seen from outside: the server process, what others received, what the ledger says, and the diagram of
//! it all.

use std::time::Duration;

use chaperone_sandbox::ServerProfile;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::agents::{Dispatcher, SCHEDULER, agent, call, enter};
use crate::ehr;
use crate::installation::{Installation, Settings, chaperone, printed};

/// How long what happens behind an answer may take.
const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn audit_events_reach_a_fhir_server_and_the_diagram_is_what_the_ledger_saw() {
    let sandbox = ehr::start(ServerProfile::Full).await;
    let repository = ehr::start(ServerProfile::Full).await;
    let mrn = ehr::add_patient(&sandbox, 1);
    let mut settings = Settings::new("sqlite:chaperone.db", &sandbox.base_url, "full");
    settings.further = format!(
        "[audit_stream.fhir]\nbase_url = \"{}\"",
        repository.base_url
    );
    let installation = Installation::new(&settings);
    let server = installation.start().await;
    let scheduler = agent(&installation, SCHEDULER);
    let dispatcher = Dispatcher::sign_in(&installation).await;
    let token = enter(&scheduler, &dispatcher, &mrn).await.unwrap();
    let answer = call(&scheduler, &token, "get_patient_context", &json!({}), None)
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);

    // The read is there, and the passage of the stream itself, which is told once and keeps nothing going.
    let deadline = Instant::now() + SOON;
    let held = loop {
        let held = repository.handle.resources("AuditEvent");
        let text = Value::from(held.clone()).to_string();
        if text.contains("Patient/kill-1") && text.contains("\"audit-stream\"") {
            break held;
        }
        assert!(Instant::now() < deadline, "{} AuditEvents came", held.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(server.stop().await.success());
    let file = installation.file("events.ndjson");
    let exported = installation.run(&["audit", "export", file.to_str().unwrap()]);
    assert!(exported.status.success());
    let exported = std::fs::read_to_string(&file).unwrap();
    for event in &held {
        let id = event["id"].as_str().unwrap();
        let same = exported.lines().filter(|line| line.contains(id)).count();
        assert_eq!(same, 1, "{id}");
    }
    let passed = exported
        .lines()
        .filter(|line| line.contains("egress-passed") && line.contains("\"audit-stream\""))
        .count();
    // When it first happened, and before the stop.
    assert!((1..=2).contains(&passed), "{passed}");

    let drawn = |format: &str| {
        let output = installation.run(&["dataflow", "--observed", "--format", format]);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        printed(&output)
    };
    let told: Value = serde_json::from_str(&drawn("json")).unwrap();
    let observed = &told["observed"];
    assert_eq!(observed["undeclared"], json!([]), "{observed}");
    for seen in [
        "intent:schedule-appointment → tool:get_patient_context",
        "ehr:Patient → tool:get_patient_context",
        "tool:get_patient_context → intent:schedule-appointment",
        "agent:intake-dispatcher → agent:scheduler-agent",
        "chaperone:gateway → vendor:this-machine",
    ] {
        assert!(
            observed["seen"][seen].as_u64() > Some(0),
            "{seen}: {observed}"
        );
    }
    let (mermaid, svg) = (drawn("mermaid"), drawn("svg"));
    assert_eq!(mermaid, drawn("mermaid"));
    for text in [&told.to_string(), &mermaid, &svg] {
        for withheld in ["kill-1", "Testcase", mrn.as_str(), "pat_"] {
            assert!(!text.contains(withheld), "{withheld}");
        }
    }
    // Most of what the bundle allows never happened here.
    let strict = installation.run(&["dataflow", "--observed", "--strict"]);
    assert_eq!(strict.status.code(), Some(1));
    let said = String::from_utf8_lossy(&strict.stderr).into_owned();
    assert!(
        said.contains("declared, but never seen") && said.contains("tool:order_lab"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_longer_listed_is_not_reached_and_the_ledger_says_why() {
    let sandbox = ehr::start(ServerProfile::Full).await;
    let repository = ehr::start(ServerProfile::Full).await;
    let mut settings = Settings::new("sqlite:chaperone.db", &sandbox.base_url, "full");
    settings.further = format!(
        "[audit_stream.fhir]\nbase_url = \"{}\"",
        repository.base_url
    );
    let installation = Installation::new(&settings);
    // This machine serves everything but the stream of AuditEvents.
    let vendors = installation.home().join("governance/rules/vendors.toml");
    let text = std::fs::read_to_string(&vendors).unwrap();
    let changed = text.replacen(
        "\"mail\", \"audit-stream\", \"anchor\"",
        "\"mail\", \"anchor\"",
        1,
    );
    assert_ne!(text, changed);
    std::fs::write(&vendors, changed).unwrap();

    let server = installation.start().await;
    let deadline = Instant::now() + SOON;
    loop {
        let file = installation.file("events.ndjson");
        let exported = installation.run(&["audit", "export", file.to_str().unwrap()]);
        assert!(exported.status.success());
        let text = std::fs::read_to_string(&file).unwrap();
        if let Some(line) = text.lines().find(|line| line.contains("egress-refused")) {
            assert!(line.contains("channel-not-declared, "), "{line}");
            assert!(
                line.contains("\"this-machine\"") && line.contains("\"phi\""),
                "{line}"
            );
            break;
        }
        assert!(Instant::now() < deadline, "no refusal was recorded: {text}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(server.stop().await.success());
    assert_eq!(repository.handle.requests().len(), 0);

    let output = installation.run(&["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("`audit_stream.fhir.base_url` refused by the rule `channel-not-declared`"),
        "{said}"
    );
}

#[test]
fn the_diagram_of_the_default_bundle_is_the_one_in_the_documents() {
    let documents = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    for (format, name) in [("mermaid", "dataflow.mmd"), ("svg", "dataflow.svg")] {
        let file = documents.join(name);
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            let drawn = printed(&chaperone(&["dataflow", "--format", format]));
            std::fs::write(&file, drawn).unwrap();
        }
        let file = file.to_str().unwrap();
        let checked = chaperone(&["dataflow", "--format", format, "--check", file]);
        assert_eq!(
            checked.status.code(),
            Some(0),
            "draw it again with UPDATE_EXPECT=1: {}",
            String::from_utf8_lossy(&checked.stderr)
        );
    }
}
