//! A patient unlike any other goes the whole way: agents read and propose over MCP and REST, people
//! decide at the console, the EHR fails in every way it can, careless and hostile requests come in. Nothing
//! that identifies the patient may be found afterwards in a log, a metric, a mail, an error, a header, an
//! address, an answer to an agent, the database as it lies on the disk, or the exported ledger.

mod hostile;
mod play;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chaperone_connect::agent_client::AgentClient;
use chaperone_sandbox::{FaultKind, FaultRule, RunningSandbox, ServerProfile};
use jiff::{SignedDuration, Timestamp};
use reqwest::RequestBuilder;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::agents::agent;
use crate::console::Person;
use crate::ehr::{self, MRN as MRN_SYSTEM};
use crate::export::last_export;
use crate::installation::{Installation, Settings, chaperone, printed, tail};
use crate::mail;
use crate::needle::{
    BIRTH, CITY, EMAIL, FAMILY, GIVEN, LEGIBLE, MRN, PHONE, REMARK, STREET, Search, careless_text,
    legible_note,
};
use crate::searched::{Searched, addresses_at};
use crate::wire::{Answer, Whom, Wire};
use play::{Play, Proposed};

/// How long everything that was proposed may take to come to rest.
const AT_REST_WITHIN: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The agents and intents of the default bundle that are about a patient.
const SESSIONS: [(&str, &str); 7] = [
    ("order-agent", "chart-summary"),
    ("scribe-agent", "transcription-summary"),
    ("scribe-agent", "draft-note"),
    ("scheduler-agent", "schedule-appointment"),
    ("intake-agent", "intake"),
    ("refill-agent", "refill-request"),
    ("order-agent", "submit-order"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_patient_gets_out() {
    let sandbox = ehr::start(ServerProfile::Full).await;
    let logical_id = admit(&sandbox);
    let (mail_port, mails) = mail::start().await;
    let mut settings = Settings::new("sqlite:data/chaperone.db", &sandbox.base_url, "full");
    settings.log_level = "debug";
    settings.further = format!(
        r#"[mail]
host = "127.0.0.1"
port = {mail_port}
encryption = "plain-loopback"
from = "chaperone@clinic.example"
operators = ["it@clinic.example"]
[mail.approvers]
clinician = ["rounds@clinic.example"]
pharmacist = ["pharmacy@clinic.example"]
"#
    );
    let installation = Installation::new(&settings);
    installation.prove_conformance();
    let server = installation.start().await;
    let wire = Wire::new(&installation.base_url);
    let log = fs::read_to_string(installation.log()).unwrap();
    let clinician = Person::set_up(
        &wire,
        &log,
        &["clinician", "rn", "ma_rn", "scheduler", "pharmacist"],
    )
    .await;
    let operator = clinician.invite("it-desk", &["it_admin"]).await;

    let play = Play {
        sandbox: &sandbox,
        installation: &installation,
        wire: &wire,
        clinician: &clinician,
    };
    let mut proposals = Vec::new();
    for (agent, intent) in SESSIONS {
        proposals.extend(play.session(agent, intent).await);
    }
    play.decide(&proposals).await;
    play.faults().await;
    play.careless_requests().await;
    play.pages(&operator, &proposals).await;
    play.operators_endpoints().await;
    play.at_rest(&proposals).await;
    play.pages(&operator, &proposals).await;
    play.operators_endpoints().await;

    let export = last_export(&installation, server).await;
    let effects = ehr::effects(&sandbox);
    assert!(effects >= 5, "{effects} effects at the EHR");
    let kinds: Vec<&str> = export
        .events
        .iter()
        .map(|recorded| recorded["event"]["kind"].as_str().unwrap())
        .collect();
    for kind in [
        "read_released",
        "read_failed",
        "call_refused",
        "grant_issued",
        "step_up_passed",
        "slots_minted",
        "slots_resolved",
    ] {
        assert!(kinds.contains(&kind), "the run has no {kind}");
    }

    // Agents did read notes about the patient; what else they were shown of them is searched below.
    let is_legible = |(place, content): &(String, String)| {
        place.contains("Agent") && content.contains(LEGIBLE) && content.contains("[NAME-")
    };
    assert!(wire.to_be_searched().iter().any(is_legible));

    let mut searched = Searched::of("a patient's whole way");
    // What reaches the EHR names the patient by the id under which the EHR knows them, and by no more.
    let addresses = addresses_at(&sandbox);
    searched.look(
        "addresses at the EHR",
        &Search::new(&[]),
        "URLs at the EHR",
        addresses.as_bytes(),
    );

    let search = Search::new(&[&logical_id]);
    let in_answers = Search::where_birth_is_shown(&[&logical_id]);
    for (place, content) in wire.to_be_searched() {
        let (kind, search) = match place.contains("to Agent's") {
            true => ("answers to agents", &in_answers),
            false => ("pages, headers and metrics", &search),
        };
        searched.look(kind, search, &place, content.as_bytes());
    }
    searched.look("mails", &search, "mails", mails.text().as_bytes());
    assert!(
        mails.text().contains("rounds@clinic.example"),
        "no mail came: {}",
        mails.text()
    );
    let printed = afterwards(&installation, &proposals);
    searched.look(
        "commands",
        &search,
        "what commands print",
        printed.as_bytes(),
    );
    let log = fs::read_to_string(installation.log()).unwrap();
    assert!(
        log.contains("\"level\":\"DEBUG\""),
        "{}",
        tail(&installation.log())
    );
    for line in log.lines() {
        searched.look("log", &search, "the log", line.as_bytes());
    }
    searched.folder("disk", &search, &installation.home(), &[]);
    assert!(installation.home().join("data/chaperone.db").exists());
    for file in installation.exports() {
        let bytes = fs::read(&file).unwrap();
        searched.look("ledger", &search, &file.display().to_string(), &bytes);
    }
    searched.holds_nothing(&[
        "addresses at the EHR",
        "answers to agents",
        "pages, headers and metrics",
        "mails",
        "commands",
        "log",
        "disk",
        "ledger",
    ]);
}

/// Receipts, the doctor's findings and the verification of the ledger, with the server gone.
fn afterwards(installation: &Installation, proposals: &[Proposed]) -> String {
    let mut all = String::new();
    for proposed in proposals {
        let file = installation.file(&format!("{}.receipt.json", proposed.id));
        let out = file.to_str().unwrap();
        all.push_str(&printed(&installation.run(&[
            "ledger",
            "receipt",
            &proposed.id,
            "--out",
            out,
        ])));
        all.push_str(&std::fs::read_to_string(&file).unwrap());
    }
    all.push_str(&printed(&installation.run(&["doctor"])));
    let export = installation.file("ledger-0.jsonl");
    all.push_str(&printed(&chaperone(&[
        "ledger",
        "verify",
        export.to_str().unwrap(),
    ])));
    all
}

/// Turns the first charted patient into the canary and returns their logical id. Everything of theirs
/// carries the name somewhere: in references, narratives, notes, attachments.
fn admit(sandbox: &RunningSandbox) -> String {
    let handle = &sandbox.handle;
    let mut patient = handle
        .resources("Patient")
        .into_iter()
        .find(|patient| patient["identifier"][0]["value"] == "SYN-100000")
        .expect("the first synthetic patient");
    let id = patient["id"].as_str().unwrap().to_owned();
    patient["identifier"][0]["value"] = json!(MRN);
    patient["name"] = json!([{ "use": "official", "family": FAMILY, "given": [GIVEN] }]);
    patient["telecom"] = json!([
        { "system": "phone", "value": PHONE, "use": "mobile" },
        { "system": "email", "value": EMAIL },
    ]);
    patient["address"] =
        json!([{ "use": "home", "line": [STREET], "city": CITY, "country": "US" }]);
    patient["birthDate"] = json!(BIRTH);
    patient["contact"] = json!([{
        "name": { "family": FAMILY },
        "telecom": [{ "system": "phone", "value": PHONE }],
    }]);
    patient["text"] = narrative();
    handle.put(&patient).unwrap();
    let reference = format!("Patient/{id}");
    for mut resource in handle.all_resources() {
        if !resource.to_string().contains(&reference) {
            continue;
        }
        name_references(&mut resource, &reference);
        resource["text"] = narrative();
        let kin = json!({
            "resourceType": "RelatedPerson", "id": "kin", "name": [{ "text": careless_text() }],
            "patient": { "reference": reference },
        });
        match resource["resourceType"].as_str().unwrap() {
            "DocumentReference" => {
                resource["description"] = json!(careless_text());
                let attachment = &mut resource["content"][0]["attachment"];
                attachment["data"] = json!(STANDARD.encode(legible_note()));
                resource["contained"] = json!([kin]);
                let attachment = &mut resource["content"][0]["attachment"];
                attachment["title"] = json!(format!("{FAMILY}_{GIVEN}_{BIRTH}_{REMARK}.txt"));
                resource["extension"] =
                    json!([{ "url": "urn:example:remark", "valueString": careless_text() }]);
            }
            "Appointment" => {
                resource["description"] = json!(careless_text());
                resource["comment"] = json!(careless_text());
                resource["patientInstruction"] = json!(careless_text());
            }
            "Encounter" => {
                resource["identifier"] = json!([{ "system": MRN_SYSTEM, "value": MRN }]);
            }
            kind @ ("Condition" | "MedicationRequest" | "AllergyIntolerance") => {
                // A prescription is what others are made after.
                if kind != "MedicationRequest" {
                    resource["contained"] = json!([kin]);
                }
                resource["note"] = json!([{ "authorString": FAMILY, "text": legible_note() }]);
            }
            _ => resource["note"] = json!([{ "text": careless_text() }]),
        }
        handle.put(&resource).unwrap();
    }
    id
}

fn narrative() -> Value {
    let text = careless_text();
    json!({
        "status": "generated",
        "div": format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{text}</div>"),
    })
}

/// As servers do that put a name beside every reference.
fn name_references(value: &mut Value, reference: &str) {
    match value {
        Value::Object(object) => {
            if object.get("reference").and_then(Value::as_str) == Some(reference) {
                object.insert("display".to_owned(), json!(format!("{GIVEN} {FAMILY}")));
            }
            for inner in object.values_mut() {
                name_references(inner, reference);
            }
        }
        Value::Array(list) => {
            for inner in list {
                name_references(inner, reference);
            }
        }
        _ => {}
    }
}
