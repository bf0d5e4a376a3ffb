//! Pairs: beside each thing that the matrix decides, the nearest one that it decides otherwise.
//!
//! `policies/cases/pairs.json` names a case and changes one single thing in it. Loading runs both and refuses
//! a bundle in which a row, a prohibition, an escalator or a vector has no pair, or one that shows nothing:
//!
//! | what is shown | the case | its neighbour |
//! |---|---|---|
//! | a row | meets the row's own gate | is never lighter, and graver or for another row |
//! | a prohibition, or the default | is refused by it | is decided by something else |
//! | an escalator | fires it | does not fire it, or is graver |
//! | a vector | as it says | has another outcome |
//!
//! What no single ruling can show (an approval, a delivery, a loading) is in `policies/cases/vectors.json`,
//! by the names of the tests that show it and its neighbour; `crates/tidy` looks that those exist.
//! Not here: the cases themselves ([`crate::cases`]).

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::change::ChangeClass;
use chaperone_core::evidence::RulingRecord;
use chaperone_core::gate::{Gate, GateLevel};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bundle::Bundle;
use crate::bundle::read::files_in;
use crate::cases::WriteCase;
use crate::matrix::{csv_table, markdown_table};
use crate::problem::{Problems, line_of};
use crate::row::{Action, Meaning};
use crate::ruling::DEFAULT_DENY;

/// Where pairs stand.
pub const PAIRS_PATH: &str = "policies/cases/pairs.json";
/// Where the vectors stand that tests show.
pub const VECTORS_PATH: &str = "policies/cases/vectors.json";

/// Test vectors of the write-back matrix, `W-01` to this.
///
/// # Source
/// The vectors that requirements R023 and R029 to R032 name.
pub const VECTORS_COUNT: u8 = 22;

/// What raises a gate or ends an approval without a policy, because it happens after the ruling.
///
/// # Source
/// Requirements R029, R033 and R038.
pub const AFTER_THE_RULING: [&str; 6] = [
    "stale-basis",
    "version-changed",
    "approval-too-old",
    "deliver-by-passed",
    "degraded-mode",
    "approver-not-entitled",
];

/// A case, one change to it, and the answer expected then.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Declared {
    /// Policies, `default-deny` or vectors.
    shows: Vec<String>,
    /// Name of the case.
    case: String,
    /// The one thing that differs, such as `"observed.slot_free": false`; `null` takes it away.
    but: BTreeMap<String, Value>,
    gate: String,
    #[serde(default)]
    class: Option<ChangeClass>,
    #[serde(default)]
    policies: Vec<String>,
    #[serde(default)]
    raised_by: Vec<String>,
    #[serde(default)]
    denial: Option<String>,
}

/// A vector that tests show.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByTests {
    /// `W-06`, or one of [`AFTER_THE_RULING`].
    pub vector: String,
    /// What must happen.
    pub says: String,
    /// Tests in which it does.
    pub tests: Vec<String>,
    /// Tests in which the nearest neighbour goes the other way; may be the same ones.
    pub neighbours: Vec<String>,
}

/// A pair whose neighbour is a case too.
#[derive(Debug)]
pub(crate) struct Pair {
    declared: Declared,
    but: String,
    neighbour: WriteCase,
}

/// Everything that is paired in a bundle.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    of_cases: Vec<Pair>,
    by_tests: Vec<ByTests>,
}

/// One line of what `chaperone matrix --pairs` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PairLine {
    /// Number in the matrix, `escalator`, or `vector`.
    pub row: String,
    /// The policy, or the vector.
    pub shows: String,
    /// The case that reaches it, or what must happen.
    pub case: String,
    /// What it meets.
    pub gate: String,
    /// The one thing that differs, or the tests.
    pub but: String,
    /// What that meets.
    pub then: String,
}

impl PairLine {
    const HEADINGS: [&str; 6] = ["row", "shows", "case", "gate", "but", "then"];

    fn cells(&self) -> [&str; 6] {
        [
            &self.row,
            &self.shows,
            &self.case,
            &self.gate,
            &self.but,
            &self.then,
        ]
    }
}

/// Pairs as a Markdown table.
pub fn markdown(lines: &[PairLine]) -> String {
    markdown_table(&PairLine::HEADINGS, lines.iter().map(PairLine::cells))
}

/// Pairs as comma-separated values with a header line.
pub fn csv(lines: &[PairLine]) -> String {
    csv_table(&PairLine::HEADINGS, lines.iter().map(PairLine::cells))
}

/// Reads the pairs of a bundle.
pub(crate) fn parse(files: &BTreeMap<String, String>, problems: &mut Problems) -> Pairs {
    let mut pairs = Pairs::default();
    let raw = raw_cases(files);
    for declared in read::<Declared>(files, PAIRS_PATH, problems) {
        let at = files
            .get(PAIRS_PATH)
            .and_then(|text| line_of(text, &declared.case));
        match neighbour(&raw, &declared) {
            Ok((but, neighbour)) => pairs.of_cases.push(Pair {
                declared,
                but,
                neighbour,
            }),
            Err(why) => problems.add_at(PAIRS_PATH, at, &declared.case, why),
        }
    }
    pairs.by_tests = read(files, VECTORS_PATH, problems);
    pairs
}

fn read<'a, T: Deserialize<'a>>(
    files: &'a BTreeMap<String, String>,
    path: &str,
    problems: &mut Problems,
) -> Vec<T> {
    let Some(text) = files.get(path) else {
        return Vec::new();
    };
    serde_json::from_str(text).unwrap_or_else(|error| {
        let line = u32::try_from(error.line()).ok();
        problems.add_at(path, line, "", error.to_string());
        Vec::new()
    })
}

/// The write cases as they stand in their files. What does not parse is reported where cases are read.
fn raw_cases(files: &BTreeMap<String, String>) -> BTreeMap<String, Value> {
    let mut raw = BTreeMap::new();
    for (_, stem, text) in files_in(files, "policies/cases/", ".json") {
        if stem.starts_with("access") || is_about_pairs(stem) {
            continue;
        }
        for case in serde_json::from_str::<Vec<Value>>(text).unwrap_or_default() {
            if let Some(name) = case.get("name").and_then(Value::as_str) {
                raw.insert(name.to_owned(), case.clone());
            }
        }
    }
    raw
}

/// Whether a file of cases holds pairs or vectors.
pub(crate) fn is_about_pairs(stem: &str) -> bool {
    ["pairs", "vectors"].contains(&stem)
}

/// The neighbour of a case, and what differs in words.
fn neighbour(
    raw: &BTreeMap<String, Value>,
    declared: &Declared,
) -> Result<(String, WriteCase), String> {
    let case = raw
        .get(&declared.case)
        .ok_or("no case for a ruling has this name")?;
    let mut changes = declared.but.iter();
    let (Some((path, value)), None) = (changes.next(), changes.next()) else {
        return Err("`but` changes exactly one thing".to_owned());
    };
    let but = format!("{path} = {value}");
    let mut altered = case.clone();
    set(&mut altered, path, value)?;
    if altered == *case {
        return Err(format!("`but` changes nothing: `{but}` is so already"));
    }
    let object = altered.as_object_mut().ok_or("the case is no object")?;
    for (name, expected) in [
        (
            "name",
            Value::String(format!("{}; but {but}", declared.case)),
        ),
        ("gate", Value::String(declared.gate.clone())),
        ("class", json_of(&declared.class)),
        ("policies", json_of(&declared.policies)),
        ("raised_by", json_of(&declared.raised_by)),
        ("denial", json_of(&declared.denial)),
    ] {
        object.insert(name.to_owned(), expected);
    }
    let neighbour = serde_json::from_value(altered).map_err(|error| error.to_string())?;
    Ok((but, neighbour))
}

fn json_of(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn set(case: &mut Value, path: &str, value: &Value) -> Result<(), String> {
    const GROUPS: [&str; 5] = ["change", "observed", "attested", "fixed", "claimed"];
    let case = case.as_object_mut().ok_or("the case is no object")?;
    let (of, name) = match path.split_once('.') {
        Some((group, name)) if GROUPS.contains(&group) => {
            let group = case
                .entry(group)
                .or_insert_with(|| Value::Object(serde_json::Map::new()));
            (group.as_object_mut().ok_or("the case is no object")?, name)
        }
        None if ["intent", "tainted"].contains(&path) => (case, path),
        _ => {
            return Err(format!(
                "`{path}` is not `intent`, `tainted`, or something in {}",
                GROUPS.join(", ")
            ));
        }
    };
    if value.is_null() {
        of.remove(name);
    } else {
        of.insert(name.to_owned(), value.clone());
    }
    Ok(())
}

impl Pairs {
    /// The neighbours, as cases of their own.
    pub(crate) fn neighbours(&self) -> impl Iterator<Item = (String, WriteCase)> {
        self.of_cases
            .iter()
            .map(|pair| (PAIRS_PATH.to_owned(), pair.neighbour.clone()))
    }

    /// Checks that every pair shows what it says, and that nothing is without one.
    pub(crate) fn prove(
        &self,
        bundle: &Bundle,
        files: &BTreeMap<String, String>,
        answers: &BTreeMap<&str, RulingRecord>,
        problems: &mut Problems,
    ) -> Vec<PairLine> {
        let mut shown = BTreeSet::new();
        let mut lines = Vec::new();
        for pair in &self.of_cases {
            let answer = |name: &str| answers.get(name);
            // What could not be asked is reported with the case.
            let (Some(base), Some(neighbour)) =
                (answer(&pair.declared.case), answer(&pair.neighbour.name))
            else {
                continue;
            };
            for id in &pair.declared.shows {
                let wrong = shows(bundle, id, base, neighbour);
                if let Err(why) = wrong {
                    let line = files
                        .get(PAIRS_PATH)
                        .and_then(|text| line_of(text, &pair.declared.case));
                    let place = format!("{id}, {}", pair.declared.case);
                    problems.add_at(PAIRS_PATH, line, &place, why);
                    continue;
                }
                shown.insert(id.clone());
                lines.push(PairLine {
                    row: row_of(bundle, id),
                    shows: id.clone(),
                    case: pair.declared.case.clone(),
                    gate: outcome(base),
                    but: pair.but.clone(),
                    then: outcome(neighbour),
                });
            }
        }
        for vector in &self.by_tests {
            if vector.tests.is_empty() || vector.neighbours.is_empty() {
                problems.add(
                    VECTORS_PATH,
                    &vector.vector,
                    "names no test, or none of its nearest neighbour",
                );
                continue;
            }
            shown.insert(vector.vector.clone());
            lines.push(PairLine {
                row: "vector".to_owned(),
                shows: vector.vector.clone(),
                case: vector.says.clone(),
                gate: format!("tests: {}", vector.tests.join(", ")),
                but: "in the tests".to_owned(),
                then: format!("tests: {}", vector.neighbours.join(", ")),
            });
        }
        for (place, id) in wanted(bundle) {
            if !shown.contains(&id) {
                problems.add(
                    &place,
                    &id,
                    format!(
                        "nothing shows this beside its nearest neighbour: add a pair to {PAIRS_PATH}"
                    ),
                );
            }
        }
        lines.sort_by_key(|line| (crate::matrix::order(&line.row), line.shows.clone()));
        lines
    }
}

/// Everything that must be paired, with the file to blame.
fn wanted(bundle: &Bundle) -> Vec<(String, String)> {
    let policies = bundle
        .sets
        .in_order()
        .into_iter()
        .filter(|entry| entry.action != Action::Access)
        .map(|entry| (entry.file.clone(), entry.id.as_str().to_owned()));
    let vectors = (1..=VECTORS_COUNT).map(|number| format!("W-{number:02}"));
    let others = vectors
        .chain(AFTER_THE_RULING.map(str::to_owned))
        .map(|id| (VECTORS_PATH.to_owned(), id));
    policies
        .chain([(PAIRS_PATH.to_owned(), DEFAULT_DENY.to_owned())])
        .chain(others)
        .collect()
}

fn row_of(bundle: &Bundle, id: &str) -> String {
    if id == DEFAULT_DENY {
        return "65".to_owned();
    }
    let number = meaning(bundle, id).map(|meaning| match meaning {
        Meaning::Row(row) => Some(row.number.clone()),
        Meaning::Prohibition(prohibition) => prohibition.number.clone(),
        Meaning::Escalator(_) | Meaning::Access => None,
    });
    match number {
        Some(number) => number.unwrap_or_else(|| "escalator".to_owned()),
        None => "vector".to_owned(),
    }
}

fn meaning<'b>(bundle: &'b Bundle, id: &str) -> Option<&'b Meaning> {
    bundle
        .sets
        .in_order()
        .into_iter()
        .find(|entry| entry.id.as_str() == id && entry.action != Action::Access)
        .map(|entry| &entry.meaning)
}

fn is_vector(id: &str) -> bool {
    AFTER_THE_RULING.contains(&id)
        || id
            .strip_prefix("W-")
            .and_then(|number| number.parse::<u8>().ok())
            .is_some_and(|number| (1..=VECTORS_COUNT).contains(&number))
}

fn outcome(record: &RulingRecord) -> String {
    match &record.denial {
        Some(denial) => format!("deny: {denial}"),
        None => record.gate.to_string(),
    }
}

fn has(record: &RulingRecord, id: &str) -> bool {
    record.reasons.iter().any(|it| it.policy.as_str() == id)
}

/// Whether the first gate asks for more than the second.
fn is_graver(one: &Gate, other: &Gate) -> bool {
    let more_facts = match (one, other) {
        (Gate::AutoVerified { facts: one }, Gate::AutoVerified { facts: other }) => {
            one.is_superset(other) && one != other
        }
        _ => false,
    };
    one.level() > other.level() || more_facts
}

/// Whether a case and its neighbour show something.
fn shows(
    bundle: &Bundle,
    id: &str,
    base: &RulingRecord,
    neighbour: &RulingRecord,
) -> Result<(), &'static str> {
    let graver = is_graver(&neighbour.gate, &base.gate);
    match meaning(bundle, id) {
        Some(Meaning::Row(row)) => {
            let decides =
                |record: &RulingRecord| record.determining.iter().any(|it| it.as_str() == id);
            if !decides(base) || base.gate != row.gate || base.class != row.class {
                return Err("the case does not meet this row with its own class and gate");
            }
            if neighbour.gate.level() < base.gate.level() {
                return Err("the neighbour meets a lighter gate; show a graver one");
            }
            (graver || !decides(neighbour))
                .then_some(())
                .ok_or("the neighbour meets the same row and gate, so it shows nothing")
        }
        Some(Meaning::Prohibition(prohibition)) => {
            if !has(base, id) || base.denial.as_ref() != Some(&prohibition.denial) {
                return Err("the case is not refused by this prohibition");
            }
            (!has(neighbour, id))
                .then_some(())
                .ok_or("the neighbour is refused by the same prohibition")
        }
        Some(Meaning::Escalator(_)) => {
            if !has(base, id) || base.gate.level() == GateLevel::Deny {
                return Err("the case does not fire this escalator, or is refused besides");
            }
            (graver || !has(neighbour, id))
                .then_some(())
                .ok_or("the neighbour fires the same escalator and is no graver")
        }
        Some(Meaning::Access) => Err("a policy about calls is shown by cases alone"),
        None if id == DEFAULT_DENY => {
            let refused = |record: &RulingRecord| record.denial.as_deref() == Some(DEFAULT_DENY);
            (refused(base) && !refused(neighbour))
                .then_some(())
                .ok_or("the case is refused by default, and its neighbour by nothing or by name")
        }
        None if is_vector(id) => (outcome(base) != outcome(neighbour)
            || base.determining != neighbour.determining)
            .then_some(())
            .ok_or("the neighbour has the same outcome"),
        None => Err("is no policy about changes, and no vector"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn raw() -> BTreeMap<String, Value> {
        let case = json!({
            "name": "a task", "intent": "intake", "gate": "auto",
            "change": { "resource": "Task", "to": "requested" },
        });
        BTreeMap::from([("a task".to_owned(), case)])
    }

    fn but(change: Value) -> Result<String, String> {
        let declared = json!({
            "shows": ["task-request"], "case": "a task", "but": change, "gate": "deny",
        });
        let declared: Declared = serde_json::from_value(declared).unwrap();
        neighbour(&raw(), &declared).map(|(but, _)| but)
    }

    #[test]
    fn a_neighbour_differs_in_exactly_one_thing() {
        assert_eq!(
            but(json!({ "change.to": "accepted" })).unwrap(),
            "change.to = \"accepted\""
        );
        assert!(but(json!({ "observed.legal_hold": true })).is_ok());
        assert!(but(json!({ "tainted": true })).is_ok());
        for (change, why) in [
            (json!({}), "exactly one"),
            (
                json!({ "tainted": true, "intent": "triage" }),
                "exactly one",
            ),
            (json!({ "change.to": "requested" }), "changes nothing"),
            (json!({ "gate": "auto" }), "is not `intent`"),
            (json!({ "change": {} }), "is not `intent`"),
            (json!({ "change.colour": "red" }), "unknown field"),
        ] {
            let wrong = but(change.clone()).unwrap_err();
            assert!(wrong.contains(why), "{change}: {wrong}");
        }
    }
}
