//! The canaries of a bundle: `rules/canaries.toml`, read once. Data; nothing is made here.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::Timestamp;
use chaperone_core::bundle::{InputType, ToolAction};
use chaperone_core::ids::{AgentId, CanaryId, IntentId, ToolName};
use chaperone_core::principal::Role;
use chaperone_core::resource::Interaction;
use chaperone_policy::Bundle;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::imagined::put_in;
use crate::arguments::Arguments;
use crate::context::StartFailed;

/// The file of the bundle.
const FILE: &str = "rules/canaries.toml";
/// Most canaries of a list.
const CANARIES_MAX: usize = 200;
/// Most of one pool in a week.
const PER_WEEK_MAX: u32 = 5;
/// Characters of what is told afterwards.
const WRONG_CHARS: std::ops::RangeInclusive<usize> = 10..=1_000;
/// Words of FHIR's request priorities that take people away from something else.
const URGENT: [&str; 4] = ["urgent", "asap", "stat", "critical"];

/// The rules of a bundle.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CanaryRules {
    owner: String,
    source: String,
    reviewed: String,
    review_by: String,
    /// Most real proposals that wait for a pool while a canary does.
    pub(super) waiting_max: usize,
    /// Fewest of them, so that a canary is one among others.
    pub(super) waiting_min: usize,
    /// Weeks until one of the list is used again.
    pub(super) again_after_weeks: u32,
    /// Fewest decisions that make a share.
    pub(super) decided_min: u32,
    /// Fewest people behind them.
    pub(super) people_min: u32,
    /// The share, in percent, below which overseers are told.
    pub(super) caught_pct_min: u8,
    #[serde(default)]
    pub(super) pools: Vec<Pool>,
    #[serde(default)]
    pub(super) canaries: Vec<CanaryDeclared>,
}

/// Whose attention is measured.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pool {
    /// A role of the gate.
    pub(super) role: Role,
    /// How many a week.
    pub(super) per_week: u32,
}

/// One canary: what an agent might have proposed, and what is wrong with it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CanaryDeclared {
    pub(super) id: CanaryId,
    pub(super) pool: Role,
    pub(crate) agent: AgentId,
    pub(crate) intent: IntentId,
    pub(crate) tool: ToolName,
    /// What is wrong, told to whoever decided.
    pub(super) wrong: String,
    pub(super) rationale: String,
    pub(super) confidence: f64,
    pub(super) patient: Invented,
    pub(super) inputs: Map<String, Value>,
    #[serde(default)]
    pub(super) records: BTreeMap<String, Value>,
}

/// A patient who does not exist. Identifiers are made up in the form that the EHR's have.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Invented {
    pub(super) given: Vec<String>,
    pub(super) family: String,
    pub(super) gender: String,
    pub(super) birth_date: String,
}

impl CanaryRules {
    /// The rules of a bundle.
    ///
    /// # Errors
    /// [`StartFailed::Table`] says what is wrong.
    pub(crate) fn of(bundle: &Bundle) -> Result<Self, StartFailed> {
        let wrong = |why: String| StartFailed::Table { file: FILE, why };
        let text = bundle.rule_text("canaries").ok_or_else(|| {
            wrong("it is missing; `chaperone init` writes one to start from".to_owned())
        })?;
        let rules = Self::parse(text).map_err(wrong)?;
        for canary in &rules.canaries {
            canary
                .fits(bundle)
                .map_err(|why| wrong(format!("`{}`: {why}", canary.id)))?;
        }
        Ok(rules)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let rules: Self = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let said = [
            &rules.owner,
            &rules.source,
            &rules.reviewed,
            &rules.review_by,
        ];
        if said.iter().any(|it| it.trim().is_empty()) {
            return Err("it must name its owner, its source and its reviews".to_owned());
        }
        let roles: BTreeSet<Role> = rules.pools.iter().map(|pool| pool.role).collect();
        let ids: BTreeSet<&CanaryId> = rules.canaries.iter().map(|it| &it.id).collect();
        let unfit = [
            (
                rules.waiting_min == 0 || rules.waiting_max < rules.waiting_min,
                "waiting_min is at least 1, and waiting_max not below it: a canary alone is known for one",
            ),
            (
                rules.again_after_weeks == 0,
                "again_after_weeks is at least 1",
            ),
            (
                rules.decided_min < 10 || rules.people_min < 2,
                "a share rests on 10 decisions of 2 people at least",
            ),
            (rules.caught_pct_min > 100, "caught_pct_min is a percentage"),
            (
                roles.len() != rules.pools.len(),
                "each pool stands there once",
            ),
            (
                rules.pools.iter().any(|it| it.per_week > PER_WEEK_MAX),
                "at most 5 a week for each pool",
            ),
            (
                ids.len() != rules.canaries.len() || ids.len() > CANARIES_MAX,
                "each canary has an id of its own, and there are 200 at most",
            ),
        ];
        if let Some((_, why)) = unfit.into_iter().find(|(is_wrong, _)| *is_wrong) {
            return Err(why.to_owned());
        }
        for canary in &rules.canaries {
            let id = &canary.id;
            if !roles.contains(&canary.pool) {
                return Err(format!("`{id}` is for a pool that is not listed"));
            }
            if !WRONG_CHARS.contains(&canary.wrong.trim().chars().count()) {
                return Err(format!(
                    "`{id}` must say what is wrong, in 10 to 1,000 characters"
                ));
            }
            if canary.inputs.values().any(is_urgent) || canary.records.values().any(is_urgent) {
                return Err(format!("`{id}` is marked urgent; no canary may be"));
            }
        }
        Ok(rules)
    }
}

impl CanaryDeclared {
    /// Whether the bundle has what it pretends to come from.
    fn fits(&self, bundle: &Bundle) -> Result<(), String> {
        let agent = bundle.agent(&self.agent);
        if !agent.is_some_and(|agent| agent.intents.contains(&self.intent)) {
            return Err("no agent of the bundle has this intent".to_owned());
        }
        let intent = bundle.intent(&self.intent);
        if !intent.is_some_and(|intent| intent.tools.contains(&self.tool)) {
            return Err("the intent does not have this tool".to_owned());
        }
        let tool = bundle
            .tool(&self.tool)
            .ok_or_else(|| "there is no such tool".to_owned())?;
        let Some(ToolAction::Write(write)) = tool.action() else {
            return Err("the tool proposes nothing".to_owned());
        };
        if write.interaction != Interaction::Create {
            return Err("a canary is a new record: there is none to change".to_owned());
        }
        for (name, input) in &tool.inputs {
            let record = self.inputs.get(name).and_then(record_named);
            if input.input_type == InputType::Token && self.inputs.contains_key(name) {
                let named = record.and_then(|record| self.records.get(record));
                if named.is_none() {
                    return Err(format!("`{name}` must name one of its records"));
                }
            }
        }
        for name in self.inputs.keys() {
            if !tool.inputs.contains_key(name) {
                return Err(format!("the tool has no input `{name}`"));
            }
        }
        for (name, record) in &self.records {
            if record.get("resourceType").and_then(Value::as_str).is_none() {
                return Err(format!("the record `{name}` has no resourceType"));
            }
        }
        let token = |_: &str| Value::from("res_00000000000000000000000000000000");
        let sent = self.said(token, "0", Timestamp::UNIX_EPOCH);
        Arguments::check(tool, sent)
            .map(|_| ())
            .map_err(|failed| failed.message)
    }

    /// Family name and birth date.
    pub(super) fn known_by(&self) -> (&str, &str) {
        (&self.patient.family, &self.patient.birth_date)
    }

    /// What an agent would have sent, with what placeholders stand for.
    pub(super) fn said(
        &self,
        token: impl Fn(&str) -> Value,
        patient_id: &str,
        lately: Timestamp,
    ) -> Map<String, Value> {
        let mut sent = self.inputs.clone();
        for value in sent.values_mut() {
            match record_named(value).map(&token) {
                Some(token) => *value = token,
                None => put_in(value, patient_id, lately),
            }
        }
        sent.insert("rationale".to_owned(), Value::from(self.rationale.clone()));
        sent.insert("confidence".to_owned(), Value::from(self.confidence));
        sent.insert(
            "idempotency_key".to_owned(),
            Value::from(format!("canary-{}", self.id)),
        );
        sent
    }
}

/// The record that an input stands for.
fn record_named(value: &Value) -> Option<&str> {
    value.as_str()?.strip_prefix("{record:")?.strip_suffix('}')
}

/// Whether anything in it says that it is urgent.
fn is_urgent(value: &Value) -> bool {
    match value {
        Value::String(text) => URGENT.contains(&text.as_str()),
        Value::Array(items) => items.iter().any(is_urgent),
        Value::Object(members) => members.values().any(is_urgent),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: &str = include_str!("../../../../governance/rules/canaries.toml");

    #[test]
    fn the_default_list_is_read_and_one_that_would_do_harm_is_not() {
        let rules = CanaryRules::parse(DEFAULT).unwrap();
        assert!(rules.canaries.len() >= 4);
        for (from, to) in [
            (
                "owner = \"chief medical information officer\"",
                "owner = \"\"",
            ),
            ("waiting_min = 1", "waiting_min = 0"),
            ("waiting_max = 10", "waiting_max = 0"),
            ("again_after_weeks = 26", "again_after_weeks = 0"),
            ("decided_min = 20", "decided_min = 9"),
            ("people_min = 3", "people_min = 1"),
            ("caught_pct_min = 80", "caught_pct_min = 101"),
            ("per_week = 1", "per_week = 6"),
            ("role = \"ma_rn\"", "role = \"clinician\""),
            ("role = \"ma_rn\"", "role = \"rn\""),
            (
                "id = \"note-of-another-person\"",
                "id = \"note-penicillin-given\"",
            ),
            ("status = \"finished\"", "priority = \"stat\""),
            ("kind = \"11506-3\"", "kind = \"urgent\""),
            ("waiting_min = 1", "waiting_min = 1\nfurther = 1"),
        ] {
            let changed = DEFAULT.replacen(from, to, 1);
            assert_ne!(changed, DEFAULT, "{from}");
            assert!(CanaryRules::parse(&changed).is_err(), "{to}");
        }
    }

    #[test]
    fn a_canary_comes_from_what_the_bundle_has() {
        let bundle = Bundle::load(&chaperone_policy::embedded::files()).unwrap();
        let rules = CanaryRules::of(&bundle).unwrap();
        let note = rules.canaries.first().unwrap();
        assert!(note.fits(&bundle).is_ok());
        let other = |change: &dyn Fn(&mut CanaryDeclared)| {
            let mut changed = note.clone();
            change(&mut changed);
            changed.fits(&bundle).unwrap_err()
        };
        other(&|it| it.agent = AgentId::new("refill-agent").unwrap());
        other(&|it| it.intent = IntentId::new("intake").unwrap());
        // A tool that changes what is there, one that reads, and one of another intent.
        other(&|it| it.tool = ToolName::new("list_encounters").unwrap());
        other(&|it| it.tool = ToolName::new("record_vital").unwrap());
        other(&|it| {
            it.inputs.remove("text");
        });
        other(&|it| {
            it.inputs.insert("further".to_owned(), Value::from("x"));
        });
        other(&|it| {
            it.records.remove("encounter");
        });
    }
}
