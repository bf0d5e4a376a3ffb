//! Rules on log lines: fixed messages, listed fields, nothing by its `Debug`, nothing recorded by an attribute.
//!
//! What appears is decided again at run time by `crates/chaperone/src/telemetry/fields.rs`; here a line that
//! would lose something there is found before it is written.

use std::collections::BTreeSet;

use crate::none;
use crate::sources::{is_test, shipped};
use crate::tree::{root, rust_files};

/// The macros that make events and spans.
const MACROS: [&str; 11] = [
    "trace",
    "debug",
    "info",
    "warn",
    "error",
    "event",
    "span",
    "trace_span",
    "debug_span",
    "info_span",
    "warn_span",
];

/// Crates whose standard error is nobody's log.
const PRINTS: &str = "chaperone";

/// The names of the list of fields.
fn listed() -> BTreeSet<String> {
    let path = root().join("crates/chaperone/src/telemetry/fields.rs");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once("const FIELDS:").unwrap();
    let (_, rest) = rest.split_once("= [").unwrap();
    let (table, _) = rest.split_once("\n];").unwrap();
    table
        .split("Kind::")
        .filter_map(|before| before.rsplit('"').nth(1).map(str::to_owned))
        .filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .collect()
}

/// What stands between the parentheses that open at a position, split at its commas.
fn arguments(code: &str) -> Vec<String> {
    let (mut depth, mut in_text, mut is_escaped) = (0_u32, false, false);
    let mut parts = vec![String::new()];
    for c in code.chars() {
        let part = parts.last_mut().unwrap();
        if in_text {
            part.push(c);
            in_text = is_escaped || c != '"';
            is_escaped = !is_escaped && c == '\\';
            continue;
        }
        match c {
            '"' => in_text = true,
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        part.push(c);
    }
    parts
        .iter()
        .map(|part| part.trim().to_owned())
        .filter(|part| !part.is_empty())
        .collect()
}

/// What is wrong with one argument of such a macro.
fn wrong(argument: &str, listed: &BTreeSet<String>) -> Option<String> {
    if argument.starts_with('"') {
        return argument
            .contains('{')
            .then(|| format!("the message {argument} is not fixed"));
    }
    let is_name = |text: &str| {
        text.chars()
            .all(|c| c.is_ascii_lowercase() || "._".contains(c))
    };
    let (name, value) = match argument.split_once('=') {
        Some((name, value)) if is_name(name.trim()) => (name.trim(), value.trim()),
        _ if argument.starts_with("target:") || argument.starts_with("parent:") => return None,
        _ if argument.starts_with("tracing::Level") || argument.starts_with("Level::") => {
            return None;
        }
        _ => (argument.trim_start_matches(['%', '?']), argument),
    };
    if value.starts_with('?') {
        return Some(format!("`{argument}` shows a value by its Debug"));
    }
    (!listed.contains(name))
        .then(|| format!("the field `{name}` is not in crates/chaperone/src/telemetry/fields.rs"))
}

fn problems(path: &str, text: &str, listed: &BTreeSet<String>) -> Vec<String> {
    let code = shipped(text);
    let mut problems = Vec::new();
    for name in MACROS {
        let call = format!("tracing::{name}!(");
        for (at, _) in code.match_indices(&call) {
            let found = arguments(&code[at + call.len()..]);
            problems.extend(found.iter().filter_map(|it| wrong(it, listed)));
        }
    }
    if code.contains("instrument(") && code.contains("#[") && code.lines().any(is_attribute) {
        problems.push("an attribute records every argument of its function".to_owned());
    }
    let imports = code
        .lines()
        .filter(|line| line.trim_start().starts_with("use tracing::"));
    for line in imports {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        // `tracing::span` is a module as well.
        if words.any(|word| word != "span" && MACROS.contains(&word)) {
            problems.push("a macro of tracing is called by its full name".to_owned());
        }
    }
    let folder = path.split('/').nth(1).unwrap_or_default();
    if folder != PRINTS && code.contains("eprint") {
        problems.push("a library prints nothing".to_owned());
    }
    problems
        .into_iter()
        .map(|problem| format!("{path}: {problem}"))
        .collect()
}

fn is_attribute(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("#[instrument") || line.starts_with("#[tracing::instrument")
}

#[test]
fn log_lines_have_fixed_messages_and_listed_fields() {
    let listed = listed();
    assert!(
        listed.len() > 20 && listed.contains("correlation"),
        "{listed:?}"
    );
    let mut lines = 0;
    let mut found = Vec::new();
    for file in rust_files() {
        let is_library = file.path.contains("/src/") && !file.path.contains("/src/bin/");
        if is_library && !is_test(&file.path) && !file.path.starts_with("crates/tidy/") {
            lines += file.text.matches("tracing::").count();
            found.extend(problems(&file.path, &file.text, &listed));
        }
    }
    assert!(lines > 50, "{lines} log lines were found");
    none(&found);
}

#[test]
fn each_rule_on_log_lines_sees_its_breach_and_lets_its_neighbour_pass() {
    let listed: BTreeSet<String> = ["error", "code"].map(str::to_owned).into();
    let found = |path: &str, code: &str| problems(path, code, &listed).len();
    let web = |code: &str| found("crates/web/src/a.rs", code);
    assert_eq!(
        web("tracing::warn!(error = %failed, code, \"it (or so) failed, again\");"),
        0
    );
    assert_eq!(
        web("tracing::warn!(\n    error = %a(b, c),\n    \"it failed\"\n);"),
        0
    );
    assert_eq!(
        web("tracing::warn!(%error, code = Empty, \"it failed\");"),
        0
    );
    assert_eq!(web("tracing::info!(target: TARGET, code = 5);"), 0);
    assert_eq!(web("tracing::warn!(\"{name} failed\");"), 1);
    assert_eq!(web("tracing::warn!(patient = %name, \"it failed\");"), 1);
    assert_eq!(web("tracing::warn!(%patient, \"it failed\");"), 1);
    assert_eq!(web("tracing::warn!(error = ?failed, \"it failed\");"), 1);
    assert_eq!(web("tracing::warn!(?error, \"it failed\");"), 1);
    assert_eq!(web("use tracing::{info, Span};"), 1);
    assert_eq!(web("use tracing::field::Empty;"), 0);
    assert_eq!(web("#[tracing::instrument(skip(self))]\nfn a() {}"), 1);
    assert_eq!(web("tracing::Instrument::instrument(call, span)"), 0);
    assert_eq!(web("eprintln!(\"a\");"), 1);
    assert_eq!(found("crates/chaperone/src/a.rs", "eprintln!(\"a\");"), 0);
}
