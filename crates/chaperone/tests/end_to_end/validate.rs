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
    // That they lead somewhere is a matter of asking.
    let run = |more: &[&str]| {
        let mut arguments = vec!["validate", text(&condition)];
        arguments.extend(more);
        folder.run(&arguments).status.code()
    };
    assert_eq!(run(&[]), Some(0));
    assert_eq!(run(&["--resolve-references"]), Some(1));
    assert_eq!(
        run(&["--resolve-references", "--supporting", text(&patient)]),
        Some(0)
    );
    // A file that is none is named.
    let none = folder.file("none.json", "not JSON");
    let output = folder.run(&["validate", text(&condition), "--supporting", text(&none)]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("none.json"));
}

const NOW: &str = "2026-06-15T15:00:00Z";

fn order() -> Value {
    json!({
        "resourceType": "MedicationRequest", "id": "new", "status": "active", "intent": "order",
        "medicationCodeableConcept": { "coding": [{
            "system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "314076",
            "display": "lisinopril 10 MG Oral Tablet",
        }] },
        "subject": { "reference": "Patient/p1" }, "authoredOn": "2026-06-15T14:50:00Z",
        "encounter": { "reference": "Encounter/e1" },
        "dosageInstruction": [{
            "timing": { "repeat": { "frequency": 1, "period": 1, "periodUnit": "d" } },
            "route": { "coding": [{ "system": "http://snomed.info/sct", "code": "26643006" }] },
            "doseAndRate": [{ "doseQuantity": {
                "value": 10, "unit": "mg", "system": "http://unitsofmeasure.org", "code": "mg",
            } }],
        }],
    })
}

/// Resources that a context is made of: patient, encounter, an allergy.
fn known(allergy: &str) -> [Value; 3] {
    [
        json!({ "resourceType": "Patient", "id": "p1", "gender": "male", "birthDate": "1980-04-12" }),
        json!({
            "resourceType": "Encounter", "id": "e1", "status": "in-progress",
            "class": { "code": "AMB" }, "subject": { "reference": "Patient/p1" },
            "period": { "start": "2026-06-15T14:00:00Z" },
        }),
        json!({
            "resourceType": "AllergyIntolerance", "id": "a1",
            "patient": { "reference": "Patient/p1" }, "code": { "text": allergy },
        }),
    ]
}

/// Ids of the issues of each line.
fn issues(output: &Output) -> Vec<Vec<Value>> {
    let lines = String::from_utf8(output.stdout.clone()).unwrap();
    let of_line = |line: &str| {
        let outcome: Value = serde_json::from_str(line).unwrap();
        outcome["issue"].as_array().unwrap().clone()
    };
    lines.lines().map(of_line).collect()
}

fn has(issues: &[Value], id: &str) -> bool {
    issues.iter().any(|issue| issue.to_string().contains(id))
}

#[test]
fn what_is_known_about_the_patient_makes_a_resource_implausible_or_not() {
    let folder = Folder::new();
    let file = folder.file("order.json", serde_json::to_vec_pretty(&order()).unwrap());
    let object = |allergy: &str| {
        let [patient, encounter, allergy] = known(allergy);
        json!({
            "now": NOW, "patient": patient, "encounter": encounter, "prior": null,
            "medications": [], "allergies": [allergy], "conditions": [], "observations": [],
            "pregnant": false,
        })
    };
    let bundle = |allergy: &str| {
        let entries: Vec<Value> = known(allergy)
            .into_iter()
            .map(|resource| json!({ "resource": resource }))
            .collect();
        json!({
            "resourceType": "Bundle", "type": "collection", "timestamp": NOW, "entry": entries,
        })
    };
    let run = |context: &Value, arguments: &[&str]| {
        let context = folder.file("context.json", context.to_string());
        let mut all = vec!["validate", "--format", "json", "--context", text(&context)];
        all.extend(arguments);
        folder.run(&all)
    };
    for known in [&object as &dyn Fn(&str) -> Value, &bundle] {
        let (allergic, other) = (known("lisinopril"), known("penicillin"));
        let output = run(&allergic, &[text(&file)]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let found = &issues(&output)[0];
        assert!(has(found, "plausibility.M-02"), "{found:?}");
        let output = run(&other, &[text(&file)]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(!has(&issues(&output)[0], "plausibility.M-02"));

        // A stream is judged by the same context, each line by itself.
        let mut high = order();
        high["dosageInstruction"][0]["doseAndRate"][0]["doseQuantity"]["value"] = json!(400);
        let stream = folder.file("orders.ndjson", format!("{}\n{high}\n", order()));
        let output = run(&other, &["--ndjson", text(&stream)]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let found = issues(&output);
        assert!(!has(&found[0], "plausibility.M-04"));
        assert!(has(&found[1], "plausibility.M-04"));
    }
    // Without a context the rules do not run at all.
    let output = folder.run(&["validate", "--format", "json", text(&file)]);
    assert!(!has(&issues(&output)[0], "plausibility"));
}

#[test]
fn plausibility_comes_after_schema_with_line_and_column() {
    let folder = Folder::new();
    let mut wrong = order();
    wrong["status"] = json!("activ");
    wrong["authoredOn"] = json!("2026-06-20");
    let file = folder.file("order.json", serde_json::to_vec_pretty(&wrong).unwrap());
    let [patient, ..] = known("");
    let context = json!({ "now": NOW, "patient": patient });
    let context = folder.file("context.json", context.to_string());
    let arguments = ["validate", "--context", text(&context), text(&file)];
    let words = String::from_utf8(folder.run(&arguments).stdout).unwrap();
    let at = |needle: &str| {
        words
            .find(needle)
            .unwrap_or_else(|| panic!("{needle}: {words}"))
    };
    let line = serde_json::to_string_pretty(&wrong)
        .unwrap()
        .lines()
        .position(|line| line.contains("authoredOn"))
        .unwrap()
        + 1;
    assert!(at("MedicationRequest.status") < at("plausibility.D-03"));
    assert!(
        at(&format!("{line}:17")) < at("plausibility.D-03"),
        "{words}"
    );
    // What nobody looked up is said, and is no error.
    assert!(words.contains("plausibility.not-checked"), "{words}");
}

#[test]
fn a_prior_version_in_the_context_is_that_of_the_resource() {
    let folder = Folder::new();
    let file = folder.file("order.json", order().to_string());
    let run = |status: &str| {
        let mut prior = order();
        prior["status"] = json!(status);
        let entries: Vec<Value> = known("penicillin")
            .into_iter()
            .chain([prior])
            .map(|resource| json!({ "resource": resource }))
            .collect();
        let context = json!({
            "resourceType": "Bundle", "type": "collection", "timestamp": NOW, "entry": entries,
        });
        let context = folder.file("context.json", context.to_string());
        let arguments = ["validate", "--format", "json", "--context", text(&context)];
        folder.run(&[&arguments[..], &[text(&file)]].concat())
    };
    assert!(has(&issues(&run("completed"))[0], "plausibility.K-12"));
    assert!(!has(&issues(&run("on-hold"))[0], "plausibility.K-12"));
}

#[test]
fn a_context_that_cannot_be_used_is_refused() {
    let folder = Folder::new();
    let file = folder.file("good.json", GOOD);
    let [patient, ..] = known("");
    let two = json!({ "resourceType": "Bundle", "type": "collection", "entry": [
        { "resource": patient }, { "resource": patient },
    ] });
    let cases = [
        ("not JSON", "{".to_owned()),
        ("one JSON object", "[]".to_owned()),
        (
            "a key twice",
            r#"{"now": "2026-06-15T15:00:00Z", "now": "2026-06-15T15:00:00Z"}"#.to_owned(),
        ),
        (
            "unknown field `allergie`",
            json!({ "allergie": [] }).to_string(),
        ),
        (
            "`allergies` must hold",
            json!({ "allergies": [{ "resourceType": "Patient" }] }).to_string(),
        ),
        (
            "`now` must be an instant",
            json!({ "now": "today" }).to_string(),
        ),
        ("several patients", two.to_string()),
        ("is a Patient", patient.to_string()),
    ];
    for (why, context) in cases {
        let context = folder.file("context.json", context);
        let output = folder.run(&["validate", "--context", text(&context), text(&file)]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{why}: {said}");
        assert!(said.contains(why), "{why}: {said}");
        assert!(output.stdout.is_empty(), "{why}");
    }
    let output = folder.run(&["validate", "--context", "absent.json", text(&file)]);
    assert_eq!(output.status.code(), Some(2));
    let output = folder.run(&["validate", "--rules", "governance/rules", text(&file)]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn extensions_are_known_and_texts_plain_if_that_is_asked_for() {
    let folder = Folder::new();
    let patient = |place: &str, domain: &str| {
        let url = format!("http://{domain}/StructureDefinition/unheard-of");
        let patient = json!({ "resourceType": "Patient", "name": [{ "text": "<b>Ada</b>" }],
            place: [{ "url": url, "valueString": "x" }] });
        folder.file(&format!("{place}-{domain}.json"), patient.to_string())
    };
    let run = |file: &Path, more: &[&str]| {
        let mut arguments = vec!["validate", text(file)];
        arguments.extend(more);
        folder.run(&arguments).status.code()
    };
    let example = patient("extension", "fhir.example.org");
    let unknown = patient("extension", "fhir.vendor.internal");
    let modifier = patient("modifierExtension", "fhir.vendor.internal");
    let cases: [(&Path, &[&str], i32); 8] = [
        (&example, &[], 0),
        (&example, &["--no-example-extensions"], 1),
        (&example, &["--plain-text-only"], 1),
        (&unknown, &[], 1),
        (&unknown, &["--any-extension"], 0),
        (&modifier, &[], 1),
        (&modifier, &["--any-extension"], 1),
        (&example, &["--any-extension", "--no-example-extensions"], 2),
    ];
    for (file, more, expected) in cases {
        assert_eq!(run(file, more), Some(expected), "{file:?} {more:?}");
    }
}
