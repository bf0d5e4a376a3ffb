//! What the subcommands answer, and with which exit code: 0 done, 1 done and the answer is no, 2 could not
//! be done.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use chaperone_connect::anchor::FileAnchor;
use chaperone_sandbox::ServerProfile;
use serde_json::{Value, json};

use crate::agents::{Dispatcher, SCHEDULER, agent, call, enter, free_slots};
use crate::ehr;
use crate::export::Export;
use crate::installation::{Installation, Settings, chaperone, printed};
use crate::needle::Search;
use crate::searched::Searched;

const SQLITE: &str = "sqlite:data/chaperone.db";

/// Exit code, and everything that was said.
fn answered(output: &Output) -> (i32, String) {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    (output.status.code().unwrap(), said)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn initialised() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("clinic");
    printed(&chaperone(&["init", text(&home)]));
    (folder, home)
}

#[test]
fn what_init_writes_passes_the_check() {
    let (_folder, home) = initialised();
    let bundle = home.join("governance");
    let checked = printed(&chaperone(&["check", "--bundle", text(&bundle), "--json"]));
    let checked: Value = serde_json::from_str(&checked).unwrap();
    assert_eq!(checked["loads"], true);
    assert_eq!(checked["problems"], json!([]));
    let built_in: Value = serde_json::from_str(&printed(&chaperone(&["check", "--json"]))).unwrap();
    assert_eq!(checked["digest"], built_in["digest"]);
    // What is there already is not written over.
    let (code, said) = answered(&chaperone(&["init", text(&home)]));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("not empty"), "{said}");
}

#[test]
fn a_broken_bundle_is_refused_and_the_place_is_named() {
    const BOOKING: &str = "tools/book_appointment.toml";
    const NOTE: &str = "intents/draft-note.toml";
    const SCRIBE: &str = "agents/scribe-agent.toml";
    const ORDERS: &str = "policies/matrix-orders.cedar";
    const CASES: &str = "policies/cases/orders.json";
    const CHART: &str = "intents/chart-summary.toml";
    const VISITS: &str = "rules/self-schedule.toml";
    const SCHEDULE: &str = "intents/schedule-appointment.toml";
    const EVENTS: &str = "rules/ehr-events.toml";
    for (file, before, after, named) in [
        (BOOKING, "[write]", "[wright]", BOOKING),
        (BOOKING, "\"proposed\"", "\"booked\"", SCHEDULE),
        (BOOKING, "\"Appointment\"", "\"Apointment\"", SCHEDULE),
        (
            NOTE,
            "\"DocumentReference.create.preliminary\"",
            "\"*\"",
            NOTE,
        ),
        (NOTE, "\"draft_note\"", "\"draft_a_note\"", NOTE),
        (SCRIBE, "\"draft-note\"", "\"draft-notes\"", SCRIBE),
        (ORDERS, "@gate(\"approve_2f\")", "@gate(\"auto\")", ORDERS),
        (ORDERS, "@class(\"M4\")", "@class(\"M1\")", ORDERS),
        (ORDERS, "permit (", "permitted (", ORDERS),
        (CASES, "\"gate\": \"auto\"", "\"gate\": \"deny\"", CASES),
        (
            VISITS,
            "\nself_schedule = true",
            "\nself_schedule = 1",
            VISITS,
        ),
        (VISITS, "\nsensitive = true", "\nsensitiv = true", VISITS),
        (CHART, "\"onsetDateTime\"", "\"onsetDayTime\"", CHART),
        (EVENTS, "\"participant.actor\"", "\"participant\"", EVENTS),
        (EVENTS, "\"booked\"", "\"bokked\"", EVENTS),
        (EVENTS, "\"intake-agent\"", "\"scribe-agent\"", EVENTS),
    ] {
        let (_folder, home) = initialised();
        let path = home.join("governance").join(file);
        let good = fs::read_to_string(&path).unwrap();
        assert!(good.contains(before), "{file} has no {before}");
        fs::write(&path, good.replacen(before, after, 1)).unwrap();
        let bundle = home.join("governance");
        let (code, said) = answered(&chaperone(&["check", "--bundle", text(&bundle)]));
        assert_eq!(code, 1, "{file}, {after}: {said}");
        assert!(said.contains(named), "{file}, {after}: {said}");
    }
}

#[test]
fn a_bundle_that_is_not_there_cannot_be_checked() {
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = answered(&chaperone(&["check", "--bundle", text(folder.path())]));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("chaperone init"), "{said}");
}

#[test]
fn the_matrix_is_the_same_in_three_formats() {
    let printed_as = |format| printed(&chaperone(&["matrix", "--format", format]));
    let json: Value = serde_json::from_str(&printed_as("json")).unwrap();
    let rows = json["rows"].as_array().unwrap();
    assert!(rows.len() > 50, "{} rows", rows.len());
    let (csv, markdown) = (printed_as("csv"), printed_as("markdown"));
    assert!(csv.starts_with("row,resource,action,"));
    assert_eq!(csv.lines().count(), rows.len() + 1);
    let table: Vec<&str> = markdown
        .lines()
        .filter(|line| line.starts_with('|'))
        .collect();
    assert_eq!(table.len(), rows.len() + 2);
    for ((row, csv), markdown) in rows.iter().zip(csv.lines().skip(1)).zip(&table[2..]) {
        let policy = row["policy"].as_str().unwrap();
        assert!(csv.ends_with(policy), "{csv}");
        assert!(markdown.ends_with(&format!("| {policy} |")), "{markdown}");
    }
}

#[test]
fn an_unknown_key_in_the_configuration_is_named() {
    for (before, after, named) in [
        ("public_url", "publik_url", "publik_url"),
        ("settle_ms", "settle_s", "settle_s"),
        ("claim_ms", "claim", "claim"),
        ("profile = \"full\"", "profile = \"fool\"", "fool"),
        ("environment = \"test\"", "environment = \"life\"", "life"),
    ] {
        let (_folder, home) = initialised();
        let config = home.join("chaperone.toml");
        let good = fs::read_to_string(&config).unwrap();
        fs::write(&config, good.replace(before, after)).unwrap();
        for (command, expected) in [("serve", 2), ("doctor", 1)] {
            let (code, said) = answered(&chaperone(&[command, "--config", text(&config)]));
            assert_eq!(code, expected, "{command}, {after}: {said}");
            assert!(said.contains(named), "{command}, {after}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_says_what_stands_well_and_what_to_mend() {
    let sandbox = ehr::start(ServerProfile::Full).await;
    let installation = Installation::new(&Settings::new(SQLITE, &sandbox.base_url, "full"));
    assert!(installation.start().await.stop().await.success());
    let (code, looks) = looks(&installation);
    assert_eq!(code, 0, "{looks}");
    for what in [
        "configuration",
        "bundle",
        "listener",
        "keys",
        "ehr",
        "ehr events",
        "portals",
        "projections",
    ] {
        assert_eq!(verdict(&looks, what), "good", "{looks}");
    }
    assert_eq!(verdict(&looks, "write-back"), "warning", "{looks}");
    assert!(
        looks
            .to_string()
            .contains("chaperone conformance run --ehr ehr")
    );
    let rebuilt = printed(&installation.run(&["ledger", "rebuild"]));
    assert!(rebuilt.contains("from 0 write-backs"), "{rebuilt}");
    installation.prove_conformance();
    let (_, looks) = self::looks(&installation);
    assert_eq!(verdict(&looks, "write-back"), "good", "{looks}");

    let config = fs::read_to_string(installation.config()).unwrap();
    let nowhere = format!("{}0", sandbox.base_url);
    for (before, after, what) in [
        (
            "environment = \"test\"",
            "environment = \"production\"",
            "ehr",
        ),
        (
            &*format!("base_url = \"{}\"", sandbox.base_url),
            &*format!("base_url = \"{nowhere}\""),
            "ehr",
        ),
        (
            "[listen]\naddress = \"127.0.0.1",
            "[listen]\naddress = \"192.0.2.1",
            "listener",
        ),
        (
            "url = \"sqlite:data",
            "url = \"sqlite:chaperone.toml",
            "store",
        ),
        (
            "[times]",
            "[[ehr_events]]\nsource = \"ehr\"\nsecret_file = \"none\"\n[times]",
            "ehr events",
        ),
    ] {
        assert!(config.contains(before), "{before}");
        fs::write(installation.config(), config.replacen(before, after, 1)).unwrap();
        let (code, looks) = self::looks(&installation);
        assert_eq!(code, 1, "{after}: {looks}");
        assert_eq!(verdict(&looks, what), "bad", "{after}: {looks}");
    }
    sandbox.stop().await;
}

fn looks(installation: &Installation) -> (i32, Value) {
    let output = installation.run(&["doctor", "--json"]);
    let (code, said) = answered(&output);
    let looks = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    (code, looks)
}

/// The worst that was said about one thing.
fn verdict(looks: &Value, what: &str) -> String {
    let about = |look: &&Value| {
        let name = look["what"].as_str().unwrap();
        name == what || name.starts_with(&format!("{what}:"))
    };
    let verdicts: Vec<&str> = looks["looks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(about)
        .map(|look| look["verdict"].as_str().unwrap())
        .collect();
    ["bad", "warning", "good"]
        .into_iter()
        .find(|verdict| verdicts.contains(verdict))
        .unwrap_or("not looked at")
        .to_owned()
}

#[test]
fn the_demo_on_a_full_ehr() {
    demo("full", |writes| writes > 0);
}

#[test]
fn the_demo_on_a_plain_ehr() {
    demo("plain", |writes| writes > 0);
}

#[test]
fn the_demo_on_an_ehr_that_takes_no_writes() {
    demo("read-only", |writes| writes == 0);
}

#[test]
fn the_demo_on_an_ehr_with_an_operation_of_its_own() {
    demo("vendor", |writes| writes > 0);
}

#[test]
fn the_demo_on_an_ehr_where_orders_are_signed() {
    demo("staged", |writes| writes > 0);
}

#[test]
fn the_demo_on_an_ehr_that_takes_changes_as_patches_alone() {
    demo("patching", |writes| writes > 0);
}

/// What identifies the demo's patients: names, numbers, telephones, streets, days of birth.
fn demo_identifiers() -> Vec<String> {
    const SEED: u64 = 20_261_121;
    const COUNT: usize = 12;
    let bundles = chaperone_sandbox::synthetic::patients(SEED, COUNT, jiff::Timestamp::now());
    let mut found = Vec::new();
    for bundle in &bundles {
        let entries = bundle["entry"].as_array().unwrap();
        let is_patient = |entry: &&Value| entry["resource"]["resourceType"] == "Patient";
        let patient = &entries.iter().find(is_patient).unwrap()["resource"];
        for at in [
            "/name/0/family",
            "/name/0/given/0",
            "/identifier/0/value",
            "/telecom/0/value",
            "/telecom/1/value",
            "/address/0/line/0",
            "/birthDate",
        ] {
            let text = patient.pointer(at).and_then(Value::as_str);
            found.extend(text.filter(|text| text.len() > 4).map(str::to_owned));
        }
    }
    assert!(found.len() > 5 * COUNT, "{found:?}");
    found
}

fn demo(profile: &str, writes_are_right: impl Fn(u64) -> bool) {
    let output = chaperone(&[
        "demo",
        "--once",
        "--json",
        "--profile",
        profile,
        "--log",
        "debug",
    ]);
    let mut searched = Searched::of(&format!("demo, {profile}"));
    let search = Search::only(&demo_identifiers());
    searched.look("log", &search, "the log", &output.stderr);
    searched.look("summary", &search, "the summary", &output.stdout);
    searched.holds_nothing(&["log", "summary"]);
    let summary: Value = serde_json::from_str(&printed(&output)).unwrap();
    let number = |at: &str| {
        let value = summary.pointer(at).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("no {at}: {summary}"))
    };
    let keys: Vec<&str> = summary
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        keys,
        [
            "patients",
            "reads",
            "proposals",
            "gates",
            "refused",
            "ehr_writes",
            "duplicates",
            "unapproved",
            "ledger"
        ]
    );
    assert_eq!(number("/patients"), 12);
    assert!(number("/reads") >= 48, "{summary}");
    assert_eq!(number("/duplicates"), 0);
    assert_eq!(number("/unapproved"), 0);
    assert!(writes_are_right(number("/ehr_writes")), "{summary}");
    assert!(number("/ledger/entries") > 0);
    assert_eq!(summary["ledger"]["verified"], true);
    for gate in [
        "auto",
        "auto_verified",
        "approve",
        "approve_2f",
        "two_person",
    ] {
        assert!(number(&format!("/gates/{gate}")) > 0, "{gate}: {summary}");
    }
    let gates = summary["gates"].as_object().unwrap();
    let gates: u64 = gates.values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(gates, number("/proposals"), "{summary}");
    assert!(number("/refused/human") > 0);
}

/// A ledger on disk, with everything that is needed to verify it and nothing else.
struct Evidence {
    folder: tempfile::TempDir,
    key: String,
    /// Lines of the newest export, with their newlines.
    lines: Vec<String>,
    /// An export from before the last entries.
    earlier: PathBuf,
    receipt: PathBuf,
}

impl Evidence {
    /// Bookings, an export, more bookings, another export, a receipt; then the installation goes away.
    async fn collect() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = ehr::start(ServerProfile::Full).await;
        let installation = Installation::new(&Settings::new(SQLITE, &sandbox.base_url, "full"));
        installation.prove_conformance();
        let scheduler = agent(&installation, SCHEDULER);
        let file = |name: &str| folder.path().join(name);
        let mut proposals = Vec::new();
        for (position, export) in ["earlier.jsonl", "newest.jsonl"].into_iter().enumerate() {
            let server = installation.start().await;
            let slots = free_slots(&scheduler).await;
            let dispatcher = Dispatcher::sign_in(&installation).await;
            let mrn = ehr::add_patient(&sandbox, position);
            let token = enter(&scheduler, &dispatcher, &mrn).await.unwrap();
            for (count, slot) in slots.iter().take(3).enumerate() {
                let key = format!("evidence-{position}-{count}");
                let arguments = json!({ "slot": slot });
                let answer = call(
                    &scheduler,
                    &token,
                    "book_appointment",
                    &arguments,
                    Some(&key),
                )
                .await
                .unwrap();
                proposals.push(answer.body["proposal"].as_str().unwrap().to_owned());
            }
            assert!(server.stop().await.success());
            printed(&installation.run(&["ledger", "export", text(&file(export))]));
        }
        let key = printed(&installation.run(&["ledger", "key"]))
            .trim()
            .to_owned();
        let receipt = file("receipt.json");
        let written =
            installation.run(&["ledger", "receipt", &proposals[0], "--out", text(&receipt)]);
        printed(&written);
        fs::copy(installation.anchors(), file("anchors")).unwrap();
        sandbox.stop().await;
        drop(installation);
        let newest = fs::read_to_string(file("newest.jsonl")).unwrap();
        let lines = newest.split_inclusive('\n').map(str::to_owned).collect();
        Self {
            key,
            lines,
            earlier: file("earlier.jsonl"),
            receipt: file("receipt.json"),
            folder,
        }
    }

    /// Verifies some content as an export: exit code and report.
    fn verify(&self, content: &[u8]) -> (i32, Value) {
        let file = self.folder.path().join("under-test.jsonl");
        fs::write(&file, content).unwrap();
        self.verify_file(&file)
    }

    fn verify_file(&self, file: &Path) -> (i32, Value) {
        let anchors = self.folder.path().join("anchors");
        let output = chaperone(&[
            "ledger",
            "verify",
            text(file),
            "--key",
            &self.key,
            "--anchors",
            text(&anchors),
            "--json",
        ]);
        let (code, said) = answered(&output);
        let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
        (code, report)
    }

    /// The lines that are entries, as positions among the lines, with their numbers.
    fn entries(&self) -> Vec<(usize, u64)> {
        let number = |line: &String| {
            serde_json::from_str::<Value>(line)
                .ok()?
                .get("seq")?
                .as_u64()
        };
        self.lines
            .iter()
            .enumerate()
            .filter_map(|(position, line)| Some((position, number(line)?)))
            .collect()
    }
}

/// Whether a report names an entry, or the line of the file it stands on.
fn names(report: &Value, seq: u64, position: usize) -> bool {
    let line = position as u64 + 1;
    let problems = report["problems"].as_array().unwrap();
    problems
        .iter()
        .any(|problem| problem["seq"] == seq || problem["line"] == line)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_verifies_with_the_server_gone_and_not_when_it_was_touched() {
    let evidence = Evidence::collect().await;
    let whole = evidence.lines.concat();
    let (code, report) = evidence.verify(whole.as_bytes());
    assert_eq!(code, 0, "{report}");
    assert_eq!(
        (&report["integrity"], &report["completeness"]),
        (&json!("holds"), &json!("holds"))
    );
    let entries = evidence.entries();
    assert_eq!(report["entries"], entries.len());
    assert!(entries.len() > 40);

    flipped_bytes(&evidence);
    for pick in [1, entries.len() / 2, entries.len() - 2] {
        let (position, seq) = entries[pick];
        let mut removed = evidence.lines.clone();
        removed.remove(position);
        let (code, report) = evidence.verify(removed.concat().as_bytes());
        assert_eq!(code, 1, "{report}");
        assert_eq!(report["completeness"], "broken", "{report}");
        assert!(
            names(&report, seq, position),
            "entry {seq} removed: {report}"
        );

        let (next, _) = entries[pick + 1];
        let mut swapped = evidence.lines.clone();
        swapped.swap(position, next);
        let (code, report) = evidence.verify(swapped.concat().as_bytes());
        assert_eq!(code, 1, "{report}");
        assert!(names(&report, seq, next), "entry {seq} swapped: {report}");
    }
}

/// One byte in each line, in a different place of it each time.
fn flipped_bytes(evidence: &Evidence) {
    let entries: std::collections::BTreeMap<usize, u64> = evidence.entries().into_iter().collect();
    let step = (evidence.lines.len() / 40).max(1);
    let ends = [0, evidence.lines.len() - 2, evidence.lines.len() - 1];
    let chosen = (0..evidence.lines.len()).step_by(step).chain(ends);
    for (count, position) in chosen.enumerate() {
        let mut lines: Vec<Vec<u8>> = evidence
            .lines
            .iter()
            .map(|line| line.clone().into_bytes())
            .collect();
        let line = &mut lines[position];
        let at = (count * 37 + 11) % (line.len() - 1);
        // Another letter of the same kind: the file stays text, and mostly stays JSON.
        line[at] = if line[at] == b'0' { b'1' } else { b'0' };
        let (code, report) = evidence.verify(&lines.concat());
        assert_eq!(code, 1, "line {position}, byte {at}: {report}");
        if let Some(seq) = entries.get(&position) {
            assert!(
                names(&report, *seq, position),
                "entry {seq}, byte {at}: {report}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_cut_off_behind_the_newest_outside_checkpoint_is_missed() {
    let evidence = Evidence::collect().await;
    let entries = evidence.entries();
    let earlier = fs::read_to_string(&evidence.earlier).unwrap();
    let known = earlier
        .lines()
        .filter(|line| line.contains("\"seq\":"))
        .count() as u64;
    assert!(known < entries.len() as u64);

    // An honest file of yesterday: nothing in it is wrong, and it is not all.
    let (code, report) = evidence.verify_file(&evidence.earlier);
    assert_eq!(code, 1, "{report}");
    assert_eq!(
        (&report["integrity"], &report["completeness"]),
        (&json!("holds"), &json!("broken"))
    );
    assert_eq!(report["problems"][0]["kind"], "tail_cut", "{report}");
    assert_eq!(report["problems"][0]["seq"], known, "{report}");

    // The same file without checkpoints from outside proves itself, and says what is missing.
    let file = text(&evidence.earlier);
    let alone = chaperone(&["ledger", "verify", file, "--key", &evidence.key, "--json"]);
    let report: Value = serde_json::from_str(&printed(&alone)).unwrap();
    assert_eq!(report["completeness"], "unproven", "{report}");

    // Lines cut off as they are, with and without the last line.
    let (position, seq) = entries[entries.len() - 5];
    for end in [None, evidence.lines.last()] {
        let mut cut = evidence.lines[..position].concat();
        cut.extend(end.map(String::as_str));
        let (code, report) = evidence.verify(cut.as_bytes());
        assert_eq!(
            (code, &report["completeness"]),
            (1, &json!("broken")),
            "{report}"
        );
        assert!(names(&report, seq, position), "{report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_is_verified_offline_and_fails_when_it_was_touched() {
    let evidence = Evidence::collect().await;
    let receipt = fs::read_to_string(&evidence.receipt).unwrap();
    let key_file = evidence.folder.path().join("key");
    fs::write(&key_file, &evidence.key).unwrap();
    let verify_with = |content: &str, key: &str, more: &[&str]| {
        let file = evidence.folder.path().join("receipt-under-test.json");
        fs::write(&file, content).unwrap();
        let command = ["ledger", "verify", "--receipt", text(&file), "--key", key];
        answered(&chaperone(&[&command[..], more].concat()))
    };
    let verify = |content: &str, key: &str| verify_with(content, key, &[]);
    let (code, said) = verify(&receipt, &evidence.key);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("The receipt holds"), "{said}");
    assert!(said.contains("was not held against a checkpoint"), "{said}");
    for word in ["agent scheduler-agent: Proposed", "Ruled", "signed at"] {
        assert!(said.contains(word), "{word} is not in\n{said}");
    }

    // The key from a file, and the checkpoints that were kept outside.
    let anchors = evidence.folder.path().join("anchors");
    let with_anchors = ["--checkpoint", text(&anchors)];
    let (code, said) = verify_with(&receipt, text(&key_file), &with_anchors);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("kept outside the database says the same"),
        "{said}"
    );
    let old = evidence.folder.path().join("first-checkpoint");
    let first = FileAnchor::read_all(&anchors).unwrap().remove(0);
    fs::write(&old, first.note).unwrap();
    let (code, said) = verify_with(&receipt, text(&key_file), &["--checkpoint", text(&old)]);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("no checkpoint kept outside is over"),
        "{said}"
    );

    assert!(receipt.contains("book_appointment"));
    for (before, after, named) in [
        ("book_appointment", "book_appointmant", "entry "),
        (
            "\\\"what\\\":\\\"delivered\\\"",
            "\\\"what\\\":\\\"abandoned\\\"",
            "entry ",
        ),
        ("chaperone-receipt/1", "chaperone-receipt/2", "format"),
        ("\"seq\": ", "\"seq\":  ", "line "),
        (
            "\"checkpoint\": \"",
            "\"checkpoint\": \"x",
            "the checkpoint",
        ),
    ] {
        let touched = receipt.replacen(before, after, 1);
        assert_ne!(touched, receipt, "{before}");
        let (code, said) = verify(&touched, &evidence.key);
        assert_eq!(code, 1, "{said}");
        assert!(
            said.contains("does not hold") && said.contains(named),
            "{said}"
        );
    }

    // Another ledger's key.
    let elsewhere = Installation::new(&Settings::new(SQLITE, "http://127.0.0.1:9/fhir", "full"));
    let other = printed(&elsewhere.run(&["ledger", "key"]));
    let (code, said) = verify(&receipt, other.trim());
    assert_eq!(code, 1, "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_does_not_write_over_a_file() {
    let sandbox = ehr::start(ServerProfile::Full).await;
    let installation = Installation::new(&Settings::new(SQLITE, &sandbox.base_url, "full"));
    let file = installation.file("ledger.jsonl");
    printed(&installation.run(&["ledger", "export", text(&file)]));
    let before = fs::read(&file).unwrap();
    let (code, said) = answered(&installation.run(&["ledger", "export", text(&file)]));
    assert_eq!(code, 2, "{said}");
    assert_eq!(fs::read(&file).unwrap(), before);
    assert!(!Export::read(&file).events.is_empty());
    sandbox.stop().await;
}
