//! An event of the EHR, from the system that announces it to the agent that works on it, over HTTP and across
//! a restart; on both databases.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use aws_lc_rs::hmac;
use chaperone_sandbox::ServerProfile;
use serde_json::{Value, json};

use crate::agents::{agent, call, open};
use crate::cluster;
use crate::ehr;
use crate::export::last_export;
use crate::installation::{Installation, Settings, http};
use crate::searched::{addresses_at, nothing_is_left};

const INTAKE: &str = "intake-agent";
const SECRET: &str = "5f1d0c7be2a94386b0f3e8d2c6a71950";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite_an_announced_event_starts_its_agent_once() {
    announced("sqlite:data/chaperone.db").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_an_announced_event_starts_its_agent_once() {
    let url = tokio::task::spawn_blocking(cluster::fresh_url).await;
    announced(&url.unwrap()).await;
}

async fn announced(store: &str) {
    let sandbox = ehr::start(ServerProfile::Full).await;
    for number in [1, 2] {
        ehr::add_patient(&sandbox, number);
        let start = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(48);
        let appointment = json!({
            "resourceType": "Appointment", "id": format!("visit-{number}"), "status": "booked",
            "start": start.to_string(),
            "end": (start + jiff::SignedDuration::from_mins(20)).to_string(),
            "participant": [{
                "actor": { "reference": format!("Patient/kill-{number}") }, "status": "accepted",
            }],
        });
        sandbox.handle.put(&appointment).unwrap();
    }
    let mut settings = Settings::new(store, &sandbox.base_url, "full");
    settings.further =
        "\n[[ehr_events]]\nsource = \"engine\"\nsecret_file = \"ehr-events\"\n".to_owned();
    let installation = Installation::new(&settings);
    let secret = installation.home().join("ehr-events");
    fs::write(&secret, format!("{SECRET}\n")).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();

    let event = json!({
        "id": "NEEDLE-4711", "type": "appointment-booked",
        "occurred": jiff::Timestamp::now().to_string(),
        "resource": "Appointment/visit-1", "patient": "Patient/kill-1",
    });
    let server = installation.start().await;
    assert_eq!(announce(&installation, &event, SECRET).await, 202);
    let mut other = event.clone();
    other["patient"] = json!("Patient/kill-2");
    assert_eq!(announce(&installation, &other, SECRET).await, 409);
    other["id"] = json!("NEEDLE-4712");
    assert_eq!(announce(&installation, &other, SECRET).await, 404);
    let forged = SECRET.replace('5', "6");
    assert_eq!(announce(&installation, &event, &forged).await, 401);
    assert!(server.stop().await.success());

    // What was taken before the restart is still taken, and still waits.
    let server = installation.start().await;
    assert_eq!(announce(&installation, &event, SECRET).await, 202);
    let intake = agent(&installation, INTAKE);
    let waiting = waiting(&installation).await;
    let [found] = <[Value; 1]>::try_from(waiting).unwrap();
    let grant = found["grant"].as_str().unwrap().parse().unwrap();
    let token = open(&intake, "intake", Some(&grant))
        .await
        .unwrap()
        .unwrap();
    let read = call(&intake, &token, "list_appointments", &json!({}), None)
        .await
        .unwrap();
    let shown = read.body["resources"].as_array().unwrap();
    assert_eq!(shown.len(), 1, "{}", read.body);
    assert_eq!(shown[0]["id"], found["work_item"]);
    assert!(
        open(&intake, "intake", Some(&grant))
            .await
            .unwrap()
            .is_err()
    );
    assert!(self::waiting(&installation).await.is_empty());
    assert_eq!(announce(&installation, &event, SECRET).await, 202);
    assert!(self::waiting(&installation).await.is_empty());

    let export = last_export(&installation, server).await;
    let is_grant = |recorded: &&Value| recorded["event"]["kind"] == "grant_issued";
    assert_eq!(export.events.iter().filter(is_grant).count(), 1);
    let ledger = export
        .events
        .iter()
        .map(Value::to_string)
        .collect::<String>();
    let log = fs::read_to_string(installation.log()).unwrap();
    for said in ["NEEDLE", "visit-1", "kill-1", SECRET] {
        assert!(!log.contains(said), "the log says {said}");
        assert!(!ledger.contains(said), "the ledger says {said}");
    }
    let name = format!("announced events, {}", database_of(store));
    nothing_is_left(&name, &installation, &addresses_at(&sandbox), &ehr::ADDED);
    sandbox.stop().await;
}

/// Which database a store is on.
fn database_of(store: &str) -> &str {
    store.split(':').next().unwrap_or_default()
}

/// The status of the answer.
async fn announce(installation: &Installation, event: &Value, secret: &str) -> u16 {
    let body = event.to_string();
    let timestamp = jiff::Timestamp::now().as_second().to_string();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{timestamp}.{body}").as_bytes());
    let digits: String = tag
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let answer = http()
        .post(format!("{}/ehr-events/engine", installation.base_url))
        .header("content-type", "application/json")
        .header("x-chaperone-timestamp", timestamp)
        .header("x-chaperone-signature", format!("v1={digits}"))
        .body(body)
        .send()
        .await
        .unwrap();
    let status = answer.status().as_u16();
    let said = answer.text().await.unwrap();
    assert!(
        !said.contains("NEEDLE") && !said.contains("kill-"),
        "{said}"
    );
    status
}

/// What the agent is told that waits for it.
async fn waiting(installation: &Installation) -> Vec<Value> {
    let intake = agent(installation, INTAKE);
    let audience = format!("{}/oauth/token", installation.base_url);
    let assertion = intake.assertion(&audience).unwrap();
    let answer = intake
        .token_with(&assertion, "collect", None)
        .await
        .unwrap();
    let token = answer.body["access_token"].as_str().unwrap().to_owned();
    let answer = http()
        .get(format!("{}/v1/grants", installation.base_url))
        .bearer_auth(token)
        .send()
        .await
        .unwrap();
    let body: Value = answer.json().await.unwrap();
    body["grants"].as_array().unwrap().clone()
}
