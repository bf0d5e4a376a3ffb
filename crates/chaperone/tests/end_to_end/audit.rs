//! What the ledger says to people outside, by the commands that an operator has: two patients, a read of one, and
//! a stream into files.

use chaperone_sandbox::ServerProfile;
use serde_json::{Value, json};

use crate::agents::{Dispatcher, SCHEDULER, agent, call, enter};
use crate::ehr;
use crate::installation::{Installation, Settings, chaperone, printed};
use crate::needle::FAMILY;
use crate::searched::{addresses_at, nothing_is_left};

#[tokio::test(flavor = "multi_thread")]
async fn who_saw_what_is_asked_exported_and_streamed_from_the_command_line() {
    let sandbox = ehr::start(ServerProfile::Full).await;
    let (first, second) = (ehr::add_patient(&sandbox, 1), ehr::add_patient(&sandbox, 2));
    let mut settings = Settings::new("sqlite:chaperone.db", &sandbox.base_url, "full");
    settings.further = "[audit_stream]\ndir = \"audit\"".to_owned();
    let installation = Installation::new(&settings);
    let server = installation.start().await;
    let scheduler = agent(&installation, SCHEDULER);
    let dispatcher = Dispatcher::sign_in(&installation).await;
    for mrn in [&first, &second] {
        let token = enter(&scheduler, &dispatcher, mrn).await.unwrap();
        let answer = call(&scheduler, &token, "get_patient_context", &json!({}), None)
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let stream = installation.home().join("audit/clinic.audit.ndjson");
    // What is streamed was in the ledger before; the newest read is waited for.
    let streamed = async || {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let text = std::fs::read_to_string(&stream).unwrap_or_default();
            if text.contains("Patient/kill-2") && text.contains("PatientQuery") {
                return text;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "nothing was streamed: {text}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let streamed = streamed().await;
    assert!(server.stop().await.success());

    let said = printed(&installation.run(&["who-saw", "--patient", "Patient/kill-1", "--json"]));
    let rows: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let read = rows.iter().find(|row| row["did"] == "read").unwrap();
    assert_eq!(read["agent"], SCHEDULER);
    assert_eq!(read["purpose"], "PATADMIN");
    assert_eq!(read["is_ceiling"], false);
    assert!(!said.contains("kill-2") && !said.contains(FAMILY));
    let words =
        printed(&installation.run(&["who-saw", "--patient", &format!("{}|{second}", ehr::MRN)]));
    assert!(
        words.contains("get_patient_context") && words.contains("This question is one of them.")
    );
    let nobody = installation.run(&["who-saw", "--patient", "Patient/nobody"]);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("no patient is known by this"));
    let accounting = printed(&installation.run(&["accounting", "--patient", "Patient/kill-1"]));
    assert!(accounting.contains("Nothing was disclosed that must be accounted for."));
    assert!(accounting.contains("1 accesses are not listed: to carry out health care operations"));

    let file = installation.file("events.ndjson");
    let to = file.to_str().unwrap();
    let exported = installation.run(&["audit", "export", "--patient", "Patient/kill-1", to]);
    assert!(exported.status.success());
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("Patient/kill-1") && !text.contains("Patient/kill-2"));
    // What was streamed and what is exported are the same resources.
    let of_query = |text: &str| {
        text.lines()
            .find(|line| line.contains("PatientQuery") && line.contains("Patient/kill-1"))
            .unwrap()
            .to_owned()
    };
    assert_eq!(of_query(&text), of_query(&streamed));
    let profiles = installation.home().join("governance/profiles");
    let mut arguments = vec!["validate".to_owned(), "--ndjson".to_owned()];
    for entry in std::fs::read_dir(profiles).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "json") {
            arguments.extend(["--supporting".to_owned(), path.display().to_string()]);
        }
    }
    arguments.push(to.to_owned());
    let checked = chaperone(&arguments);
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stdout)
    );
    assert!(
        !installation.run(&["audit", "export", to]).status.success(),
        "never over a file"
    );
    let addresses = addresses_at(&sandbox);
    nothing_is_left("who saw what", &installation, &addresses, &ehr::ADDED);
}
