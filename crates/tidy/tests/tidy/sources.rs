//! Rules on Rust files: module documents, size, names, and what pure crates and the engine never say.

use crate::none;
use crate::tree::{files, rust_files};

/// A file this long asks to be split by idea.
const FILE_LINES_MAX: usize = 800;

/// Names of files that say nothing about what they hold.
const FILE_NAMES_BANNED: [&str; 7] = [
    "utils", "util", "common", "types", "helpers", "helper", "misc",
];

/// Endings of type names that say nothing about what the type is.
const TYPE_ENDINGS_BANNED: [&str; 4] = ["Manager", "Helper", "Service", "Processor"];

/// Crates that do no I/O (invariant 1).
const PURE: [&str; 5] = ["core", "ledger", "policy", "fhir", "phi"];

/// What a pure crate never names.
const IMPURE: [&str; 9] = [
    "std::fs",
    "std::net",
    "std::env::",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "tokio::",
];

/// A trait that a pure crate must name to be written to, in memory: by the symbolic compiler, whose questions
/// somebody else puts to a solver.
const IN_MEMORY: [(&str, &str); 1] = [("crates/policy/src/prove/port.rs", "tokio::")];

/// The engine is driven: it neither starts tasks nor waits for time to pass.
const UNDRIVEN: [&str; 5] = [
    "tokio::spawn",
    "task::spawn",
    "thread::spawn",
    "time::sleep",
    "thread::sleep",
];

/// Where each kind of evidence is made (invariants 3, 4 and 7); the lint says the same per call.
const EVIDENCE: [(&str, &str); 4] = [
    ("Conformant::attest(", "crates/engine/src/propose"),
    ("Ruling::issue(", "crates/policy/src/"),
    ("Approval::grant(", "crates/engine/src/approve"),
    ("Delivering::begin(", "crates/engine/src/deliver"),
];

/// How a client for HTTP or mail is made or used, and the folder where alone that is done: everything leaves by one
/// gate. Written apart so that this file does not hold them.
const CLIENTS: [&str; 9] = [
    concat!("Client::", "builder("),
    concat!("Client::", "new("),
    concat!("ClientBuilder::", "new("),
    concat!("reqwest::", "get("),
    concat!("reqwest::", "blocking"),
    concat!(".exec", "ute(request)"),
    concat!("SmtpTrans", "port::<"),
    concat!("SmtpTrans", "port::builder"),
    concat!("TcpStream::", "connect("),
];
const GATE: &str = "crates/connect/src/egress";

/// Measures how soon its own server takes a connection, on this machine.
const MAY_CONNECT: [&str; 1] = ["crates/chaperone/src/commands/bench/start.rs"];

/// Marks of unfinished work, written apart so that this file does not hold them.
const UNFINISHED: [&str; 4] = [
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

pub(crate) fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.starts_with("crates/testkit/")
}

/// The code that ships: without comments, and without the test module that stands last in a file.
pub(crate) fn shipped(text: &str) -> String {
    let before_tests = match text.find("#[cfg(test)]\nmod ") {
        Some(start) => &text[..start],
        None => text.split("#[cfg(test)]\n#[").next().unwrap_or(text),
    };
    before_tests
        .lines()
        .map(|line| line.split("//").next().unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n")
}

fn problems(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut say = |what: String| problems.push(format!("{path}: {what}"));

    if !text.starts_with("//!") {
        say("does not open with `//!`".to_owned());
    }
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        say(format!("{lines} lines; split it by idea"));
    }
    if path
        .trim_end_matches(".rs")
        .split('/')
        .any(|part| FILE_NAMES_BANNED.contains(&part))
    {
        say("its name says nothing about what it holds".to_owned());
    }
    for line in text.lines() {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        while let Some(word) = words.next() {
            if matches!(word, "struct" | "enum" | "trait")
                && let Some(name) = words.next()
                && TYPE_ENDINGS_BANNED.iter().any(|end| name.ends_with(end))
                && !line.trim_start().starts_with("//")
            {
                say(format!("`{name}` says nothing about what it is"));
            }
        }
    }
    for mark in UNFINISHED {
        if text.contains(mark) {
            say(format!("holds `{mark}`"));
        }
    }
    if text.contains(concat!("#[ig", "nore")) {
        say("a test that does not run is no test".to_owned());
    }

    let code = shipped(text);
    let folder = path.split('/').nth(1).unwrap_or_default();
    let library = !is_test(path) && path.contains("/src/") && !path.contains("/src/bin/");
    if PURE.contains(&folder) && library {
        let impure = IMPURE
            .iter()
            .filter(|name| code.contains(*name) && !IN_MEMORY.contains(&(path, **name)));
        for name in impure {
            say(format!("a pure crate does not use `{name}` (invariant 1)"));
        }
    }
    if folder == "engine" && library {
        for name in UNDRIVEN.iter().filter(|name| code.contains(*name)) {
            say(format!("the engine is driven and does not use `{name}`"));
        }
    }
    if library {
        for (constructor, place) in EVIDENCE {
            if code.contains(constructor) && !path.starts_with(place) {
                say(format!("`{constructor}…)` belongs to {place} alone"));
            }
        }
    }
    if library && !path.starts_with(GATE) && !MAY_CONNECT.contains(&path) {
        // The name of a client of ours may end like one of theirs.
        let code = code
            .replace("AgentClient::new(", "")
            .replace("SmartClient::new(", "");
        for client in CLIENTS.iter().filter(|client| code.contains(*client)) {
            say(format!("`{client}…)` belongs to {GATE} alone"));
        }
    }
    if is_test(path)
        && ["thread::sleep", "time::sleep"]
            .iter()
            .any(|s| text.contains(s))
        && folder != "tidy"
        // Looking again at another process, with a bound, is the only way to wait for it.
        && !path.starts_with("crates/chaperone/tests/end_to_end/")
    {
        say("a test does not sleep".to_owned());
    }
    problems
}

#[test]
fn rust_files_keep_the_house_rules() {
    let problems: Vec<String> = rust_files()
        .iter()
        .flat_map(|file| problems(&file.path, &file.text))
        .collect();
    none(&problems);
}

/// What makes a client for HTTP or mail, anywhere but in the gate, is seen by the rule above; this says that the gate
/// itself is where the rule thinks it is.
#[test]
fn one_place_makes_clients() {
    let making: Vec<String> = rust_files()
        .into_iter()
        .filter(|file| !is_test(&file.path) && file.path.contains("/src/"))
        .filter(|file| shipped(&file.text).contains(concat!("Client::", "builder()")))
        .map(|file| file.path)
        .collect();
    assert_eq!(making, [format!("{GATE}/http.rs")]);
    let mailing: Vec<String> = rust_files()
        .into_iter()
        .filter(|file| !is_test(&file.path) && file.path.contains("/src/"))
        .filter(|file| shipped(&file.text).contains(concat!("SmtpTrans", "port::<")))
        .map(|file| file.path)
        .collect();
    assert_eq!(mailing, [format!("{GATE}/mail.rs")]);
}

#[test]
fn each_house_rule_sees_its_breach_and_lets_its_neighbour_pass() {
    let clean = "//! What it is.\nstruct Ledger;\n";
    assert_eq!(
        problems("crates/core/src/ledger.rs", clean),
        Vec::<String>::new()
    );
    let breach = |path: &str, text: &str| problems(path, &format!("//! What it is.\n{text}")).len();
    assert_eq!(problems("crates/core/src/a.rs", "struct A;\n").len(), 1);
    assert_eq!(breach("crates/web/src/utils.rs", ""), 1);
    assert_eq!(breach("crates/web/src/common/page.rs", ""), 1);
    assert_eq!(breach("crates/web/src/commons.rs", ""), 0);
    assert_eq!(
        breach(
            "crates/web/src/a.rs",
            concat!("pub str", "uct QueueManager {")
        ),
        1
    );
    assert_eq!(breach("crates/web/src/a.rs", "pub struct ManagerRole {"), 0);
    assert_eq!(breach("crates/web/src/a.rs", concat!("to", "do!()")), 1);
    assert_eq!(
        breach("crates/web/src/a.rs", &"\n".repeat(FILE_LINES_MAX)),
        1
    );
    assert_eq!(breach("crates/core/src/a.rs", "use std::fs;"), 1);
    assert_eq!(breach("crates/core/src/a.rs", "// not std::fs"), 0);
    assert_eq!(
        breach(
            "crates/core/src/a.rs",
            "#[cfg(test)]\nmod tests { use std::fs; }"
        ),
        0
    );
    assert_eq!(breach("crates/store/src/a.rs", "use std::fs;"), 0);
    assert_eq!(breach("crates/engine/src/read.rs", "tokio::spawn(f)"), 1);
    assert_eq!(breach("crates/web/src/read.rs", "tokio::spawn(f)"), 0);
    assert_eq!(breach("crates/web/src/a.rs", "Approval::grant(record)"), 1);
    assert_eq!(
        breach("crates/engine/src/approve.rs", "Approval::grant(record)"),
        0
    );
    assert_eq!(
        breach("crates/engine/src/propose.rs", "Delivering::begin(order)"),
        1
    );
    assert_eq!(
        breach(
            "crates/connect/src/ehr/a.rs",
            concat!("Client::", "builder()")
        ),
        1
    );
    assert_eq!(
        breach(
            "crates/connect/src/egress/a.rs",
            concat!("Client::", "builder()")
        ),
        0
    );
    assert_eq!(
        breach(
            "crates/chaperone/src/a.rs",
            concat!("TcpStream::", "connect(a)")
        ),
        1
    );
    assert_eq!(
        breach("crates/store/tests/a.rs", "std::thread::sleep(d)"),
        1
    );
    assert_eq!(
        breach("crates/store/tests/a.rs", concat!("#[ig", "nore]")),
        1
    );
}

/// Paths of one machine, as they begin; the word before decides whether it is such a path.
const MACHINE_PATHS: [&str; 4] = [
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
];

fn machine_path(text: &str) -> Option<&'static str> {
    MACHINE_PATHS.into_iter().find(|path| {
        text.match_indices(path).any(|(start, _)| {
            text[..start]
                .chars()
                .next_back()
                .is_none_or(|before| before.is_whitespace() || "\"'`(=:<[".contains(before))
        })
    })
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    assert_eq!(machine_path(concat!("crates/wo", "rk/a")), None);
    assert_eq!(machine_path("https://example.org/home/"), None);
    assert!(machine_path(concat!("see /ho", "me/somebody")).is_some());
    let problems: Vec<String> = files("")
        .iter()
        .filter_map(|file| {
            let path = machine_path(&file.text)?;
            Some(format!("{}: names {path}", file.path))
        })
        .collect();
    none(&problems);
}

#[test]
fn both_databases_have_the_same_migrations() {
    let names = |backend: &str| -> Vec<String> {
        files(&format!("crates/store/migrations/{backend}"))
            .into_iter()
            .filter_map(|file| Some(file.path.rsplit('/').next()?.to_owned()))
            .collect()
    };
    let sqlite = names("sqlite");
    assert!(!sqlite.is_empty(), "no migration was found");
    assert_eq!(sqlite, names("postgres"));
}
