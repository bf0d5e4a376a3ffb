//! `validate` and `packages` as somebody at a terminal uses them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::installation::{chaperone, printed};

/// With a narrative, which FHIR recommends: nothing at all is to be said about it.
const GOOD: &str = r#"{"resourceType": "Patient", "text": {"status": "generated",
 "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\">A patient</div>"}, "gender": "female"}"#;
const BAD: &str = "{\"resourceType\": \"Patient\",\n \"gender\": \"f\"}";

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let file = self.0.path().join(name);
        fs::write(&file, text).unwrap();
        file
    }

    fn packages(&self) -> PathBuf {
        self.0.path().join("packages")
    }

    /// Runs a subcommand with this folder's packages.
    fn run(&self, arguments: &[&str]) -> Output {
        let packages = self.packages();
        let mut all = arguments.to_vec();
        all.extend(["--packages-dir", packages.to_str().unwrap()]);
        chaperone(&all)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A package with one profile: patients must have a name.
fn package(version: &str) -> Vec<u8> {
    let manifest = json!({
        "name": "example.named", "version": version, "fhirVersions": ["4.0.1"], "license": "CC0-1.0",
        "dependencies": { "hl7.fhir.r4.core": "4.0.1" },
    });
    let profile = json!({
        "resourceType": "StructureDefinition", "id": "named",
        "url": "urn:example:named", "version": version, "name": "Named", "status": "active",
        "fhirVersion": "4.0.1", "kind": "resource", "abstract": false, "type": "Patient",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient",
        "derivation": "constraint",
        "differential": { "element": [
            { "id": "Patient", "path": "Patient" },
            { "id": "Patient.name", "path": "Patient.name", "min": 1 },
        ] },
    });
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(encoder);
    for (name, content) in [
        ("package/package.json", manifest),
        ("package/StructureDefinition-named.json", profile),
    ] {
        let bytes = content.to_string().into_bytes();
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, bytes.as_slice())
            .unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

#[test]
fn one_outcome_for_each_file_in_the_order_given_and_an_exit_code() {
    let folder = Folder::new();
    let (good, bad) = (folder.file("good.json", GOOD), folder.file("bad.json", BAD));
    let check = |files: &[&Path], code: i32| {
        let mut arguments = vec!["validate", "--format", "json"];
        arguments.extend(files.iter().map(|file| text(file)));
        let output = folder.run(&arguments);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let lines = String::from_utf8(output.stdout).unwrap();
        lines
            .lines()
            .map(|line| {
                let outcome: Value = serde_json::from_str(line).unwrap();
                assert_eq!(outcome["resourceType"], "OperationOutcome");
                let severities: Vec<&str> = outcome["issue"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|issue| issue["severity"].as_str().unwrap())
                    .collect();
                let gravest = ["fatal", "error", "warning", "information"]
                    .into_iter()
                    .find(|severity| severities.contains(severity));
                gravest.unwrap().to_owned()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(check(&[&good], 0), ["information"]);
    assert_eq!(check(&[&bad], 1), ["error"]);
    assert_eq!(
        check(&[&bad, &good, &bad], 1),
        ["error", "information", "error"]
    );

    let words = String::from_utf8(folder.run(&["validate", text(&bad)]).stdout).unwrap();
    assert!(
        words.contains("1 error") && words.contains("2:12"),
        "{words}"
    );
    assert!(words.contains("Patient.gender"), "{words}");
    // What cannot be read, and what is not asked properly, is misuse.
    for misuse in [
        vec!["validate", "absent.json"],
        vec!["validate"],
        vec!["validate", text(&good), "--package", "nowhere.tgz"],
    ] {
        assert_eq!(folder.run(&misuse).status.code(), Some(2), "{misuse:?}");
    }
}

#[test]
fn a_stream_is_checked_line_by_line_whatever_the_number_of_threads() {
    let mut lines = String::new();
    for number in 0..300 {
        let resource = if number % 7 == 0 { BAD } else { GOOD };
        lines.push_str(&resource.replace('\n', ""));
        lines.push('\n');
    }
    let run = |jobs: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_chaperone"))
            .args([
                "validate", "--ndjson", "--format", "json", "--jobs", jobs, "-",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let text = lines.clone();
        let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.starts_with("300 resources, 43 with errors, "),
            "{said}"
        );
        assert!(said.trim_end().ends_with("resources/s"), "{said}");
        String::from_utf8(output.stdout).unwrap()
    };
    let one = run("1");
    assert_eq!(one.lines().count(), 300);
    assert_eq!(run("3"), one);
}

#[test]
fn packages_are_locked_and_their_profiles_demanded() {
    let folder = Folder::new();
    let patient = folder.file("patient.json", GOOD);
    let tgz = folder.file("named.tgz", package("1.0.0"));
    let asked = ["validate", text(&patient), "--profile", "urn:example:named"];
    let with = |package: &str| {
        let mut arguments = asked.to_vec();
        arguments.extend(["--package", package]);
        folder.run(&arguments)
    };
    // From the file, and not from the folder before it was added.
    let output = with(text(&tgz));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("name"));
    assert_eq!(with("example.named").status.code(), Some(2));

    printed(&folder.run(&["packages", "add", text(&tgz)]));
    assert_eq!(with("example.named").status.code(), Some(1));
    assert_eq!(with("example.named#1.0.0").status.code(), Some(1));
    assert_eq!(with("example.named#2.0.0").status.code(), Some(2));
    let listed = printed(&folder.run(&["packages", "list"]));
    assert!(listed.contains("hl7.fhir.r4.core#4.0.1"), "{listed}");
    assert!(listed.contains("example.named#1.0.0"), "{listed}");
    let shown = printed(&folder.run(&["packages", "show", "example.named", "--json"]));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["defines"]["StructureDefinition"], 1);

    // A second version stands beside the first; the newest is meant where none is named.
    let newer = folder.file("newer.tgz", package("1.0.10"));
    printed(&folder.run(&["packages", "add", text(&newer)]));
    let shown = printed(&folder.run(&["packages", "show", "example.named"]));
    assert!(shown.contains("example.named#1.0.10"), "{shown}");

    // Other bytes under a locked name are refused, in the folder and on the way into it.
    let stored = folder.packages().join("example.named-1.0.0.tgz");
    let mut other = package("1.0.0");
    let last = other.len() - 5;
    other[last] ^= 1;
    fs::write(&stored, &other).unwrap();
    assert_eq!(with("example.named#1.0.0").status.code(), Some(2));
    let other = folder.file("other.tgz", {
        let mut again = package("1.0.0");
        again[4] = 1; // the gzip header's time: another file with the same content
        again
    });
    let output = folder.run(&["packages", "add", text(&other)]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("already locked"));
    // Without a registry nothing is fetched.
    let output = folder.run(&["packages", "add", "example.other#1.0.0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("registry"));
}

#[test]
fn supporting_files_are_what_references_lead_to() {
    let folder = Folder::new();
    let condition = json!({
        "resourceType": "Condition", "subject": { "reference": "Patient/p1" }, "code": { "text": "x" },
        "clinicalStatus": { "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active",
        }] },
    });
    let condition = folder.file("condition.json", condition.to_string());
    let patient = folder.file("patient.json", r#"{"resourceType": "Patient", "id": "p1"}"#);
    let output = folder.run(&["validate", text(&condition), "--supporting", text(&patient)]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // A file that is none is named.
    let none = folder.file("none.json", "not JSON");
    let output = folder.run(&["validate", text(&condition), "--supporting", text(&none)]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("none.json"));
}
