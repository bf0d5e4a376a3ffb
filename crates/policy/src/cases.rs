//! Policy cases: the tests that a bundle carries, and those it cannot drop.
//!
//! `policies/cases/*.json` hold lists of questions with the expected answer; files whose name starts
//! with `access` ask whether a tool may be called, all others ask for a ruling. A bundle loads only if
//!
//! - every case of its own gives exactly the expected gate, class, policies and denial,
//! - every policy on `write` and `escalate` decides at least one of them, and each row of the matrix
//!   one whose computed class is the row's `@class` and whose gate is the row's own,
//! - every policy on them has a case beside its nearest neighbour ([`crate::pairs`]),
//! - no case of the default bundle meets a weaker gate than it does there.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::bundle::PatientBinding;
use chaperone_core::change::{Audience, Change, ChangeClass, Destination, Direction};
use chaperone_core::digest::Digest;
use chaperone_core::evidence::RulingRecord;
use chaperone_core::facts::{Fact, FactKind, FactValue, Facts};
use chaperone_core::gate::{Gate, GateLevel};
use chaperone_core::ids::{AgentId, ConnectionId, IntentId, PolicyId, ToolName};
use chaperone_core::mode::Mode;
use chaperone_core::ports::Environment;
use chaperone_core::principal::Role;
use chaperone_core::request::{AccessDecision, AccessRequest, WriteRequest};
use chaperone_core::resource::{Code, Interaction, ResourceType};
use serde::Deserialize;

use crate::bundle::read::files_in;
use crate::bundle::{Bundle, scope};
use crate::embedded;
use crate::pairs::{self, PairLine, Pairs};
use crate::problem::{Problems, line_of};
use crate::row::Meaning;

/// Most cases in a bundle.
pub const CASES_MAX: usize = 10_000;

/// What was proved when a bundle was loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CasesPassed {
    /// Cases of the bundle itself.
    pub own: usize,
    /// Cases of the default bundle.
    pub embedded: usize,
}

/// Every case of a bundle, with the file it stands in.
#[derive(Debug, Default)]
pub(crate) struct Cases {
    write: Vec<(String, WriteCase)>,
    access: Vec<(String, AccessCase)>,
    pairs: Pairs,
}

/// A question for a ruling, with the expected answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WriteCase {
    pub(crate) name: String,
    intent: IntentId,
    /// What the intent may propose; exactly the change when absent.
    #[serde(default)]
    intent_writes: Option<Vec<String>>,
    change: CaseChange,
    #[serde(default)]
    observed: BTreeMap<String, FactValue>,
    #[serde(default)]
    attested: BTreeMap<String, FactValue>,
    #[serde(default)]
    fixed: BTreeMap<String, FactValue>,
    #[serde(default)]
    claimed: BTreeMap<String, FactValue>,
    #[serde(default)]
    tainted: bool,
    /// Expected gate, as rulings print it.
    gate: String,
    /// Expected class; absent when none can be computed.
    #[serde(default)]
    class: Option<ChangeClass>,
    /// Expected determining policies.
    #[serde(default)]
    policies: Vec<String>,
    /// Expected policies that raised the gate.
    #[serde(default)]
    raised_by: Vec<String>,
    /// Expected denial.
    #[serde(default)]
    denial: Option<String>,
}

/// A change, with what most cases have in common left out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseChange {
    resource: ResourceType,
    #[serde(default = "create")]
    interaction: Interaction,
    #[serde(default = "ehr")]
    destination: Destination,
    #[serde(default)]
    from: Option<Code>,
    #[serde(default)]
    to: Option<Code>,
    #[serde(default)]
    clinical_status: Option<Code>,
    #[serde(default)]
    request_intent: Option<Code>,
    #[serde(default)]
    categories: BTreeSet<Code>,
    #[serde(default)]
    elements: BTreeSet<String>,
    #[serde(default)]
    direction: Direction,
    #[serde(default)]
    audience: Option<Audience>,
    #[serde(default)]
    from_template: bool,
}

fn create() -> Interaction {
    Interaction::Create
}

fn ehr() -> Destination {
    Destination::Ehr
}

impl CaseChange {
    fn to_change(&self) -> Change {
        Change {
            resource: self.resource.clone(),
            interaction: self.interaction,
            destination: self.destination,
            from: self.from.clone(),
            to: self.to.clone(),
            clinical_status: self.clinical_status.clone(),
            request_intent: self.request_intent.clone(),
            categories: self.categories.clone(),
            elements: self.elements.clone(),
            direction: self.direction,
            audience: self.audience,
            from_template: self.from_template,
        }
    }
}

/// A question whether a tool may be called, with the expected answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessCase {
    name: String,
    agent_intents: Vec<IntentId>,
    intent: IntentId,
    intent_tools: Vec<ToolName>,
    #[serde(default = "required")]
    binding: PatientBinding,
    #[serde(default)]
    patient_bound: bool,
    tool: ToolName,
    #[serde(default)]
    resource: Option<ResourceType>,
    #[serde(default)]
    write: bool,
    #[serde(default = "sandbox")]
    environment: CaseEnvironment,
    #[serde(default)]
    presence_live: Option<bool>,
    #[serde(default = "yes")]
    agreements_in_force: bool,
    #[serde(default)]
    mode: Mode,
    /// Expected denial; absent when the call is permitted.
    #[serde(default)]
    denial: Option<String>,
}

fn yes() -> bool {
    true
}

fn required() -> PatientBinding {
    PatientBinding::Required
}

fn sandbox() -> CaseEnvironment {
    CaseEnvironment::Sandbox
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CaseEnvironment {
    Sandbox,
    Test,
    Production,
}

/// Reads the cases of a bundle.
pub(crate) fn parse_all(files: &BTreeMap<String, String>, problems: &mut Problems) -> Cases {
    let mut cases = Cases::default();
    for (path, stem, text) in files_in(files, "policies/cases/", ".json") {
        if pairs::is_about_pairs(stem) {
            continue;
        }
        if stem.starts_with("access") {
            parse(path, text, &mut cases.access, problems);
        } else {
            parse(path, text, &mut cases.write, problems);
        }
    }
    cases.pairs = pairs::parse(files, problems);
    cases.write.extend(cases.pairs.neighbours());
    if cases.write.len().saturating_add(cases.access.len()) > CASES_MAX {
        problems.add(
            "policies/cases",
            "",
            format!("a bundle holds at most {CASES_MAX} cases"),
        );
    }
    cases
}

fn parse<'a, Case: Deserialize<'a>>(
    path: &str,
    text: &'a str,
    into: &mut Vec<(String, Case)>,
    problems: &mut Problems,
) {
    match serde_json::from_str::<Vec<Case>>(text) {
        Ok(cases) => into.extend(cases.into_iter().map(|case| (path.to_owned(), case))),
        Err(error) => {
            let line = u32::try_from(error.line()).ok();
            problems.add_at(path, line, "", error.to_string());
        }
    }
}

/// Runs the bundle's own cases and those of the default bundle. Returns what the pairs show.
pub(crate) fn prove(
    bundle: &Bundle,
    files: &BTreeMap<String, String>,
    own: &Cases,
    problems: &mut Problems,
) -> (CasesPassed, Vec<PairLine>) {
    let mut covered = Covered::default();
    let mut answers = BTreeMap::new();
    for (path, case) in &own.write {
        let wrong = match ask(bundle, case) {
            Ok(record) => {
                covered.note(bundle, &record);
                let wrong = exact(case, &record);
                answers.insert(case.name.as_str(), record);
                wrong
            }
            Err(why) => vec![why],
        };
        report(path, files, &case.name, wrong, problems);
    }
    for (path, case) in &own.access {
        let denial = access_denial(bundle, case);
        if denial != case.denial {
            let wrong = format!(
                "expected {}, got {}",
                shown(case.denial.as_deref()),
                shown(denial.as_deref())
            );
            report(path, files, &case.name, vec![wrong], problems);
        }
    }
    covered.check(bundle, problems);
    let shown = own.pairs.prove(bundle, files, &answers, problems);
    let embedded_files = embedded::files();
    let mut unreadable = Problems::default();
    let default = parse_all(&embedded_files, &mut unreadable);
    for (path, case) in &default.write {
        // What cannot be ruled on is refused, which is never weaker.
        if let Ok(record) = ask(bundle, case)
            && let Some(weaker) = weaker(case, &record.gate)
        {
            problems.add(
                path,
                &case.name,
                format!("this case of the default bundle meets a weaker gate here: {weaker}"),
            );
        }
    }
    for (path, case) in &default.access {
        if case.denial.is_some() && access_denial(bundle, case).is_none() {
            problems.add(
                path,
                &case.name,
                "this case of the default bundle is denied there and permitted here",
            );
        }
    }
    let passed = CasesPassed {
        own: own.write.len().saturating_add(own.access.len()),
        embedded: default.write.len().saturating_add(default.access.len()),
    };
    (passed, shown)
}

fn report(
    path: &str,
    files: &BTreeMap<String, String>,
    name: &str,
    wrong: Vec<String>,
    problems: &mut Problems,
) {
    let line = files.get(path).and_then(|text| line_of(text, name));
    for message in wrong {
        problems.add_at(path, line, name, message);
    }
}

fn shown(denial: Option<&str>) -> String {
    denial.map_or("permit".to_owned(), |code| format!("denial `{code}`"))
}

fn write_request(bundle: &Bundle, case: &WriteCase) -> Result<WriteRequest, String> {
    let change = case.change.to_change();
    let mut facts = Facts::default();
    let groups = [
        (FactKind::Observed, &case.observed),
        (FactKind::Attested, &case.attested),
        (FactKind::Fixed, &case.fixed),
        (FactKind::Claimed, &case.claimed),
    ];
    for (kind, group) in groups {
        for (name, value) in group {
            if facts.get(name).is_some() {
                return Err(format!("fact `{name}` is given twice"));
            }
            let bound_to =
                (kind == FactKind::Attested).then(|| Digest::of_bytes(case.name.as_bytes()));
            facts.add(
                name,
                Fact {
                    kind,
                    value: value.clone(),
                    bound_to,
                },
            );
        }
    }
    Ok(WriteRequest {
        agent: AgentId::new("case-agent").map_err(|error| error.to_string())?,
        intent: case.intent.clone(),
        intent_writes: case
            .intent_writes
            .clone()
            .unwrap_or_else(|| vec![scope::of_change(&change)]),
        tool: ToolName::new("case_tool").map_err(|error| error.to_string())?,
        class: change.class().unwrap_or(ChangeClass::M5),
        change,
        facts,
        tainted: case.tainted,
        bundle: *bundle.digest(),
        at_least: None,
        protocol: None,
    })
}

fn ask(bundle: &Bundle, case: &WriteCase) -> Result<RulingRecord, String> {
    let request = write_request(bundle, case)?;
    match bundle.rule(&request) {
        Ok(ruling) => Ok(ruling.record().clone()),
        Err(failed) => Err(failed.to_string()),
    }
}

/// What differs from the expected answer.
fn exact(case: &WriteCase, record: &RulingRecord) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut compare = |what: &str, expected: String, got: String| {
        if expected != got {
            wrong.push(format!("expected {what} {expected}, got {got}"));
        }
    };
    compare("gate", case.gate.clone(), record.gate.to_string());
    let computed = case.change.to_change().class().ok();
    let class = |class: Option<ChangeClass>| class.map_or("none".to_owned(), |c| c.to_string());
    compare("class", class(case.class), class(computed));
    let names = |ids: &[PolicyId]| {
        ids.iter()
            .map(PolicyId::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    };
    compare(
        "policies",
        case.policies.join(", "),
        names(&record.determining),
    );
    compare(
        "raised by",
        case.raised_by.join(", "),
        names(&record.raised_by),
    );
    compare(
        "answer",
        shown(case.denial.as_deref()),
        shown(record.denial.as_deref()),
    );
    wrong
}

/// How a gate is weaker than the one a case expects; `None` when it is not.
///
/// Which roles decide is an organisation's own choice; how many people, with which factor, and after
/// which checks is not.
fn weaker(case: &WriteCase, gate: &Gate) -> Option<String> {
    let expected = parse_gate(&case.gate)?;
    let missing_check = match (&expected, gate) {
        (Gate::AutoVerified { facts: wanted }, Gate::AutoVerified { facts: given }) => {
            !wanted.is_subset(given)
        }
        _ => false,
    };
    (gate.level() < expected.level() || missing_check)
        .then(|| format!("expected {expected}, got {gate}"))
}

/// Reads a gate as rulings print it, such as `approve(clinician or him)`.
pub fn parse_gate(text: &str) -> Option<Gate> {
    let (name, inner) = match text.split_once('(') {
        None => (text, ""),
        Some((name, rest)) => (name, rest.strip_suffix(')')?),
    };
    let any_of = || -> Option<BTreeSet<Role>> { inner.split(" or ").map(Role::parse).collect() };
    Some(match GateLevel::parse(name)? {
        GateLevel::Auto if inner.is_empty() => Gate::Auto,
        GateLevel::Deny if inner.is_empty() => Gate::Deny,
        GateLevel::Auto | GateLevel::Deny => return None,
        GateLevel::AutoVerified => Gate::AutoVerified {
            facts: inner.split(", ").map(str::to_owned).collect(),
        },
        GateLevel::Approve => Gate::Approve { roles: any_of()? },
        GateLevel::Approve2f => Gate::Approve2f { roles: any_of()? },
        GateLevel::TwoPerson => {
            let (first, second) = inner.split_once(", ")?;
            Gate::TwoPerson {
                first: Role::parse(first)?,
                second: Role::parse(second)?,
            }
        }
    })
}

/// Which policies some case has shown at work.
#[derive(Default)]
struct Covered {
    decided: BTreeSet<String>,
    as_signed: BTreeSet<String>,
}

impl Covered {
    fn note(&mut self, bundle: &Bundle, record: &RulingRecord) {
        for reason in &record.reasons {
            self.decided.insert(reason.policy.as_str().to_owned());
        }
        for id in &record.determining {
            self.decided.insert(id.as_str().to_owned());
        }
        for entry in bundle.sets.in_order() {
            if let Meaning::Row(row) = &entry.meaning
                && record.determining.contains(&entry.id)
                && row.class == record.class
                && row.gate == record.gate
            {
                self.as_signed.insert(entry.id.as_str().to_owned());
            }
        }
    }

    fn check(&self, bundle: &Bundle, problems: &mut Problems) {
        for entry in bundle.sets.in_order() {
            let id = entry.id.as_str();
            let message = match &entry.meaning {
                Meaning::Access => continue,
                Meaning::Prohibition(_) if entry.action == crate::row::Action::Access => continue,
                Meaning::Row(row) if !self.as_signed.contains(id) => format!(
                    "no case shows this row with computed class {} and gate {}",
                    row.class, row.gate
                ),
                _ if !self.decided.contains(id) => "no case shows this policy at work".to_owned(),
                _ => continue,
            };
            problems.add(&entry.file, id, message);
        }
    }
}

fn access_denial(bundle: &Bundle, case: &AccessCase) -> Option<String> {
    let named = (
        AgentId::new("case-agent"),
        ConnectionId::new("case-connection"),
        Code::new("TREAT"),
    );
    let (Ok(agent), Ok(connection), Ok(purpose)) = named else {
        return Some("case-invalid".to_owned());
    };
    let decision = bundle.permit_access(&AccessRequest {
        agent,
        agent_intents: case.agent_intents.clone(),
        intent: case.intent.clone(),
        intent_tools: case.intent_tools.clone(),
        binding: case.binding,
        patient_bound: case.patient_bound,
        purpose,
        tool: case.tool.clone(),
        resource: case.resource.clone(),
        write: case.write,
        connection,
        environment: match case.environment {
            CaseEnvironment::Sandbox => Environment::Sandbox,
            CaseEnvironment::Test => Environment::Test,
            CaseEnvironment::Production => Environment::Production,
        },
        presence_live: case.presence_live,
        agreements_in_force: case.agreements_in_force,
        mode: case.mode,
    });
    match decision {
        AccessDecision::Permit { .. } => None,
        AccessDecision::Deny { code, .. } => Some(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_read_as_they_are_printed() {
        for text in [
            "auto",
            "auto_verified(patient_confirmed, slot_free)",
            "approve(clinician or him)",
            "approve_2f(clinician)",
            "two_person(clinician, pharmacist)",
            "deny",
        ] {
            assert_eq!(parse_gate(text).unwrap().to_string(), text);
        }
        for bad in [
            "",
            "approve",
            "approve()",
            "auto(x)",
            "two_person(clinician)",
            "deny(x)",
        ] {
            assert!(parse_gate(bad).is_none(), "{bad}");
        }
    }
}
