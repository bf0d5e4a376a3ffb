//! People at the command line: an undo run and a list of patients, each step put down to somebody by a password and a
//! code; and the nearest step that is refused. On both databases.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use chaperone_sandbox::{RunningSandbox, ServerProfile};
use serde_json::{Value, json};

use crate::agents::{Dispatcher, SCHEDULER, agent, call, enter};
use crate::cluster;
use crate::console::Person;
use crate::ehr;
use crate::installation::{Installation, Settings, printed};
use crate::needle::FAMILY;
use crate::wire::{Whom, Wire};

/// How long a machine that is busy may take to deliver.
const DELIVERED_WITHIN: Duration = Duration::from_secs(60);
const WHY: &str = "the model of this agent is not to be trusted";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite_what_an_agent_did_is_undone_from_the_command_line() {
    undone("sqlite:chaperone.db").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_what_an_agent_did_is_undone_from_the_command_line() {
    undone(&postgres().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite_a_list_is_asked_for_approved_and_stopped_from_the_command_line() {
    listed("sqlite:chaperone.db").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_list_is_asked_for_approved_and_stopped_from_the_command_line() {
    listed(&postgres().await).await;
}

async fn postgres() -> String {
    let url = tokio::task::spawn_blocking(cluster::fresh_url).await;
    url.unwrap()
}

/// An installation over an EHR.
fn installed(store: &str, sandbox: &RunningSandbox) -> Installation {
    Installation::new(&Settings::new(store, &sandbox.base_url, "full"))
}

/// Runs a subcommand as somebody who types a password and a code.
fn run_as(installation: &Installation, arguments: &[&str], code: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_chaperone"))
        .args(arguments)
        .arg("--config")
        .arg(installation.config())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let typed = format!("{}\n{code}\n", Person::PASSWORD);
    let mut stdin = child.stdin.take().unwrap();
    // What refuses before it asks reads nothing.
    let _ = stdin.write_all(typed.as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_str(&printed(output)).unwrap()
}

fn said(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn undone(store: &str) {
    let sandbox = ehr::start(ServerProfile::Full).await;
    let mrn = ehr::add_patient(&sandbox, 1);
    let installation = installed(store, &sandbox);
    installation.prove_conformance();
    let server = installation.start().await;
    let wire = Wire::new(&installation.base_url);
    let log = std::fs::read_to_string(installation.log()).unwrap();
    let lee = Person::set_up(&wire, &log, &["it_admin", "clinician"]).await;
    let privacy = lee.invite("pia", &["privacy"]).await;
    let ana = lee.invite("ana", &["rn"]).await;
    let scheduler = agent(&installation, SCHEDULER);
    let dispatcher = Dispatcher::sign_in(&installation).await;
    let token = enter(&scheduler, &dispatcher, &mrn).await.unwrap();
    let asked = json!({ "idempotency_key": "1", "summary": "Call back.", "pool": "nursing" });
    let answer = call(&scheduler, &token, "create_task", &asked, Some("1")).await;
    let answer = answer.unwrap().body;
    let id = answer["proposal"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"));
    let tasks = || sandbox.handle.resources("Task").len();
    let deadline = tokio::time::Instant::now() + DELIVERED_WITHIN;
    while ehr::effects(&sandbox) == 0 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "nothing is delivered"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let made = tasks();
    assert!(server.stop().await.success());

    let of_agent = ["undo", "--agent", SCHEDULER];
    let with = |more: &[&'static str]| [&of_agent[..], more].concat();
    let nothing = installation.run(&["undo"]);
    assert!(said(&nothing).contains("say what to undo"));
    let plan = json_of(&installation.run(&with(&["--dry-run", "--json"])));
    assert_eq!(plan["items"].as_array().map(Vec::len), Some(1), "{plan}");
    assert_eq!(plan["items"][0]["writeback"], id);
    // Whoever administers has a code to give at the sign-in already, and goes to the console.
    let steps = ["--as", "pia", "--reason", WHY, "--json"];
    let administers = with(&["--as", "dr-lee", "--reason", WHY, "--json"]);
    let refused = run_as(&installation, &administers, &lee.code());
    assert!(said(&refused).contains("use the console"));
    // Nobody without the role, nor with another's code, nor without a reason starts a run.
    let nurse = with(&["--as", "ana", "--reason", WHY, "--json"]);
    let refused = run_as(&installation, &nurse, &ana.code());
    assert!(said(&refused).contains("undoing is for"), "{refused:?}");
    let refused = run_as(&installation, &with(&steps), "000000");
    assert!(said(&refused).contains("not a fresh code"), "{refused:?}");
    let refused = run_as(&installation, &with(&["--as", "pia"]), &privacy.code());
    assert!(said(&refused).contains("--reason is missing"));

    let run = json_of(&run_as(&installation, &with(&steps), &privacy.code()));
    assert_eq!(run["by"], "pia", "{run}");
    let item = &run["items"][0];
    assert_eq!(item["writeback"], id);
    assert_eq!(item["step"], "proposed", "{run}");
    // What undoes it waits for people, and nothing changed in the EHR.
    let people = json!({ "gate": "approve_2f", "roles": ["clinician", "him"] });
    assert_eq!(item["gate"], people, "{run}");
    assert_eq!(item["compensation"], "awaiting_approval", "{run}");
    assert_eq!(tasks(), made);
    let name = run["run"].as_str().unwrap().to_owned();
    let status = installation.run(&["undo", "status", &name, "--json"]);
    assert_eq!(status.status.code(), Some(1), "people have not decided yet");
    let shown = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(shown.contains(&name) && !shown.contains(FAMILY), "{shown}");
}

async fn listed(store: &str) {
    let sandbox = ehr::start(ServerProfile::Full).await;
    for number in 1..=3 {
        ehr::add_patient(&sandbox, number);
        let missed = json!({
            "resourceType": "Appointment", "id": format!("missed-{number}"), "status": "noshow",
            "start": (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(72)).to_string(),
            "participant": [{ "actor": { "reference": format!("Patient/kill-{number}") }, "status": "accepted" }],
        });
        sandbox.handle.put(&missed).unwrap();
    }
    let installation = installed(store, &sandbox);
    let server = installation.start().await;
    let wire = Wire::new(&installation.base_url);
    let log = std::fs::read_to_string(installation.log()).unwrap();
    let admin = Person::set_up(&wire, &log, &["it_admin"]).await;
    let desk = admin.invite("desk", &["scheduler"]).await;
    let nurse = admin.invite("nurse", &["rn"]).await;
    let other_nurse = admin.invite("nurse-2", &["rn"]).await;
    assert!(server.stop().await.success());

    let known = json_of(&installation.run(&["cohort", "list", "--json"]));
    let ids: Vec<&str> = known["cohorts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["id"].as_str().unwrap())
        .collect();
    assert!(ids.contains(&"missed-visits"), "{known}");
    let asks = |by: &'static str| {
        [
            "cohort",
            "run",
            "missed-visits",
            "--set",
            "days=60",
            "--as",
            by,
            "--reason",
            "there are free times next week",
            "--json",
        ]
    };
    let wrong = [
        "cohort",
        "run",
        "missed-visits",
        "--set",
        "days=600",
        "--as",
        "nurse",
        "--reason",
        "there are free times next week",
    ];
    let refused = run_as(&installation, &wrong, &nurse.code());
    assert!(said(&refused).contains("must be 1 to 180"), "{refused:?}");
    let job = json_of(&run_as(&installation, &asks("desk"), &desk.code()));
    let id = job["id"].as_str().unwrap().to_owned();
    let list = job["list"].as_str().unwrap().to_owned();
    assert_eq!(job["counts"]["listed"], 3, "{job}");
    assert!(!job.to_string().contains("kill-") && !job.to_string().contains(FAMILY));

    // A list is read before it is approved, and by somebody else than who asked.
    let server = installation.start().await;
    let page = nurse
        .get(Whom::Clinician, &format!("/console/cohorts/{id}"))
        .await;
    assert_eq!(page.status, 200, "{}", page.body);
    assert!(server.stop().await.success());
    let approves = |by: &'static str| {
        vec![
            "cohort",
            "approve",
            id.as_str(),
            "--list",
            list.as_str(),
            "--as",
            by,
            "--json",
        ]
    };
    let refused = run_as(&installation, &approves("desk"), &desk.next_code());
    assert!(said(&refused).contains("roles"), "{refused:?}");
    let other = chaperone_core::digest::Digest::of_bytes(b"another list").to_string();
    let another = [
        "cohort",
        "approve",
        id.as_str(),
        "--list",
        other.as_str(),
        "--as",
        "nurse",
    ];
    let refused = run_as(&installation, &another, "000000");
    assert!(said(&refused).contains("not a fresh code"), "{refused:?}");
    let approved = json_of(&run_as(
        &installation,
        &approves("nurse"),
        &nurse.next_code(),
    ));
    assert_eq!(approved["stage"], "approved", "{approved}");
    assert_eq!(approved["approver"], "nurse");

    let told = printed(&installation.run(&["cohort", "show", &id]));
    assert!(
        told.contains("approved by nurse") && !told.contains(FAMILY),
        "{told}"
    );
    let stops = |by: &'static str| ["cohort", "stop", id.as_str(), "--as", by, "--json"];
    let refused = run_as(&installation, &stops("nurse-2"), "000000");
    assert!(said(&refused).contains("not a fresh code"), "{refused:?}");
    let told = printed(&installation.run(&["cohort", "show", &id]));
    assert!(told.contains("approved by nurse"), "{told}");
    let stopped = json_of(&run_as(
        &installation,
        &stops("nurse-2"),
        &other_nurse.code(),
    ));
    assert_eq!(stopped["stage"], "ended", "{stopped}");
    assert_eq!(stopped["counts"]["left_out"], 3, "{stopped}");
}
