//! A request that a solver found, as one that Chaperone can be asked: read from the model, given readable
//! names, made as small as it can be, and written as a case.
//!
//! Policies compare texts with what they name and with each other, never with patterns; so a text that no
//! policy names may be any other such text, and gets a name that says so.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::EvalResult;
use cedar_policy_symcc::Env;
use chaperone_core::change::{Audience, Change, ChangeClass, Destination, Direction};
use chaperone_core::evidence::RulingRecord;
use chaperone_core::facts::{Fact, FactKind, FactValue, Facts};
use chaperone_core::ids::{AgentId, IntentId, PolicyId, ToolName};
use chaperone_core::request::WriteRequest;
use chaperone_core::resource::{Code, Interaction, ResourceType};
use serde_json::{Map, Value, json};

use crate::bundle::{Bundle, scope};
use crate::facts;
use crate::prove::ProofFailed;

/// Most rounds of leaving things out.
const ROUNDS_MAX: usize = 4;

/// A way to make a request simpler.
type Step = Box<dyn Fn(&Asked) -> Asked>;

/// What is asked about a change.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    pub(super) intent: String,
    pub(super) tool: String,
    pub(super) change: Change,
    pub(super) established: BTreeMap<String, FactValue>,
    pub(super) claimed: BTreeMap<String, FactValue>,
    pub(super) tainted: bool,
}

/// Gives texts of a model readable names: those that policies name stay.
pub(super) struct Names<'n> {
    known: &'n BTreeSet<String>,
    given: BTreeMap<String, String>,
}

impl<'n> Names<'n> {
    pub(super) fn new(known: &'n BTreeSet<String>) -> Self {
        Self {
            known,
            given: BTreeMap::new(),
        }
    }

    pub(super) fn of(&mut self, text: &str) -> String {
        if self.known.contains(text) && Code::new(text).is_ok() {
            return text.to_owned();
        }
        let next = self.given.len().saturating_add(1);
        self.given
            .entry(text.to_owned())
            .or_insert_with(|| format!("other-{next}"))
            .clone()
    }

    fn code(&mut self, text: &str) -> Option<Code> {
        if text.is_empty() {
            None
        } else {
            Code::new(&self.of(text)).ok()
        }
    }
}

fn missing(what: &str) -> ProofFailed {
    ProofFailed::NotReadable(format!("the model says nothing of {what}"))
}

pub(super) fn as_text(value: Option<EvalResult>, what: &str) -> Result<String, ProofFailed> {
    match value {
        Some(EvalResult::String(text)) => Ok(text),
        _ => Err(missing(what)),
    }
}

pub(super) fn as_truth(value: Option<EvalResult>, what: &str) -> Result<bool, ProofFailed> {
    match value {
        Some(EvalResult::Bool(truth)) => Ok(truth),
        _ => Err(missing(what)),
    }
}

pub(super) fn as_texts(value: Option<EvalResult>, what: &str) -> Result<Vec<String>, ProofFailed> {
    match value {
        Some(EvalResult::Set(set)) => set
            .iter()
            .map(|member| as_text(Some(member.clone()), what))
            .collect(),
        _ => Err(missing(what)),
    }
}

impl Asked {
    /// Reads a request about a change of a type from a model.
    pub(super) fn read(
        env: &Env,
        resource: &str,
        known: &BTreeSet<String>,
    ) -> Result<Asked, ProofFailed> {
        let mut names = Names::new(known);
        let proposal = env
            .request
            .resource()
            .and_then(|uid| env.entities.get(uid))
            .ok_or_else(|| missing("the change"))?;
        let of = |name: &str| proposal.attr(name).and_then(Result::ok);
        let text = |name: &str| as_text(of(name), name);
        let interaction = match text("interaction")?.as_str() {
            "create" => Interaction::Create,
            "update" => Interaction::Update,
            "delete" => Interaction::Delete,
            other => return Err(ProofFailed::NotReadable(format!("interaction `{other}`"))),
        };
        let destination = match text("destination")?.as_str() {
            "staged" => Destination::Staged,
            _ => Destination::Ehr,
        };
        let direction = match text("direction")?.as_str() {
            "more_private" => Direction::MorePrivate,
            "less_private" => Direction::LessPrivate,
            _ => Direction::Neutral,
        };
        let audience = match text("audience")?.as_str() {
            "patient" => Some(Audience::Patient),
            "care_team" => Some(Audience::CareTeam),
            _ => None,
        };
        let [from, to, clinical, request_intent] = [
            text("from")?,
            text("to")?,
            text("clinical_status")?,
            text("request_intent")?,
        ];
        let change = Change {
            resource: ResourceType::new(resource).map_err(|_| missing("the type"))?,
            interaction,
            destination,
            from: names.code(&from),
            to: names.code(&to),
            clinical_status: names.code(&clinical),
            request_intent: names.code(&request_intent),
            categories: as_texts(of("categories"), "categories")?
                .iter()
                .filter_map(|text| Code::new(&names.of(text)).ok())
                .collect(),
            elements: as_texts(of("elements"), "elements")?
                .iter()
                .map(|text| names.of(text))
                .collect(),
            direction,
            audience,
            from_template: as_truth(of("from_template"), "from_template")?,
        };
        let context = env
            .request
            .context()
            .ok_or_else(|| missing("the context"))?;
        // A text that is no name at all is one that no policy compares names with.
        let named =
            |text: String, fits: bool, other: &str| if fits { text } else { other.to_owned() };
        let intent = names.of(&as_text(context.get("intent"), "intent")?);
        let fits = IntentId::new(&intent).is_ok();
        let intent = named(intent, fits, "other-intent");
        let tool = names.of(&as_text(context.get("tool"), "tool")?);
        let fits = ToolName::new(&tool).is_ok();
        let tool = named(tool, fits, "other_tool");
        let mut facts = |record: &str| match context.get(record) {
            Some(EvalResult::Record(record)) => record
                .iter()
                .map(|(name, value)| Ok((name.clone(), fact(value, &mut names)?)))
                .collect::<Result<BTreeMap<_, _>, ProofFailed>>(),
            _ => Err(missing(record)),
        };
        Ok(Asked {
            intent,
            tool,
            change,
            established: facts("facts")?,
            claimed: facts("claimed")?,
            tainted: as_truth(context.get("tainted"), "tainted")?,
        })
    }

    /// The request as policy is asked it, by an intent that lists the change.
    pub(super) fn request(&self, bundle: &Bundle) -> Result<WriteRequest, ProofFailed> {
        let unreadable =
            |error: &dyn std::fmt::Display| ProofFailed::NotReadable(error.to_string());
        let mut held = Facts::default();
        for (name, value) in &self.established {
            let kind = facts::lookup(name)
                .and_then(|known| known.kinds.first().copied())
                .unwrap_or(FactKind::Observed);
            let fact = Fact {
                kind,
                value: value.clone(),
                bound_to: None,
            };
            held.add(name, fact);
        }
        for (name, value) in &self.claimed {
            held.claim(name, value.clone());
        }
        Ok(WriteRequest {
            agent: AgentId::new("case-agent").map_err(|error| unreadable(&error))?,
            intent: IntentId::new(&self.intent).map_err(|error| unreadable(&error))?,
            intent_writes: vec![scope::of_change(&self.change)],
            tool: ToolName::new(&self.tool).map_err(|error| unreadable(&error))?,
            change: self.change.clone(),
            class: self.change.class().unwrap_or(ChangeClass::M5),
            facts: held,
            tainted: self.tainted,
            bundle: *bundle.digest(),
            at_least: None,
            protocol: None,
        })
    }

    /// Leaves out what a finding does not need.
    pub(super) fn smallest(self, still: &dyn Fn(&Asked) -> bool) -> Asked {
        let mut asked = self;
        for _ in 0..ROUNDS_MAX {
            let before = asked.clone();
            for simpler in asked.simpler() {
                let smaller = simpler(&asked);
                if smaller != asked && still(&smaller) {
                    asked = smaller;
                }
            }
            if asked == before {
                break;
            }
        }
        let names: Vec<String> = asked.established.keys().cloned().collect();
        for name in names {
            asked.nearest_to_zero(&name, still);
        }
        asked
    }

    /// Takes a number as near to zero as a finding lets it.
    fn nearest_to_zero(&mut self, name: &str, still: &dyn Fn(&Asked) -> bool) {
        for bit in (0..i64::BITS.saturating_sub(1)).rev() {
            let Some(FactValue::Long(value)) = self.established.get(name) else {
                return;
            };
            let (value, step) = (*value, 1_i64 << bit);
            if value.unsigned_abs() < step.unsigned_abs() {
                continue;
            }
            let nearer = if value > 0 {
                value.saturating_sub(step)
            } else {
                value.saturating_add(step)
            };
            let mut smaller = self.clone();
            smaller
                .established
                .insert(name.to_owned(), FactValue::Long(nearer));
            if still(&smaller) {
                *self = smaller;
            }
        }
    }

    fn simpler(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        let mut step = |change: fn(&mut Asked)| {
            steps.push(Box::new(move |asked: &Asked| {
                let mut asked = asked.clone();
                change(&mut asked);
                asked
            }));
        };
        step(|asked| "case_tool".clone_into(&mut asked.tool));
        step(|asked| asked.established.clear());
        step(|asked| asked.claimed.clear());
        step(|asked| asked.tainted = false);
        step(|asked| asked.change.from_template = false);
        step(|asked| asked.change.from = None);
        step(|asked| asked.change.clinical_status = None);
        step(|asked| asked.change.request_intent = None);
        step(|asked| asked.change.audience = None);
        step(|asked| asked.change.direction = Direction::Neutral);
        step(|asked| asked.change.categories.clear());
        step(|asked| asked.change.elements.clear());
        step(|asked| asked.change.interaction = Interaction::Create);
        step(|asked| asked.change.destination = Destination::Ehr);
        type Removal = (Vec<String>, fn(&mut Asked, &str));
        let removals: [Removal; 4] = [
            (self.established.keys().cloned().collect(), |asked, name| {
                asked.established.remove(name);
            }),
            (self.claimed.keys().cloned().collect(), |asked, name| {
                asked.claimed.remove(name);
            }),
            (
                self.change.elements.iter().cloned().collect(),
                |asked, name| {
                    asked.change.elements.remove(name);
                },
            ),
            (
                self.change
                    .categories
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
                |asked, name| asked.change.categories.retain(|code| code.as_str() != name),
            ),
        ];
        for (names, remove) in removals {
            for name in names {
                steps.push(Box::new(move |asked: &Asked| {
                    let mut asked = asked.clone();
                    remove(&mut asked, &name);
                    asked
                }));
            }
        }
        steps
    }

    /// The request as a case of a bundle, with the answer that it gets.
    pub(super) fn case(&self, name: &str, record: &RulingRecord) -> Value {
        let change = &self.change;
        let mut shown = Map::new();
        let mut put = |name: &str, value: Value| {
            shown.insert(name.to_owned(), value);
        };
        put("resource", json!(change.resource));
        if change.interaction != Interaction::Create {
            put("interaction", json!(change.interaction));
        }
        if change.destination != Destination::Ehr {
            put("destination", json!(change.destination));
        }
        for (name, code) in [
            ("from", &change.from),
            ("to", &change.to),
            ("clinical_status", &change.clinical_status),
            ("request_intent", &change.request_intent),
        ] {
            if let Some(code) = code {
                put(name, json!(code));
            }
        }
        if !change.categories.is_empty() {
            put("categories", json!(change.categories));
        }
        if !change.elements.is_empty() {
            put("elements", json!(change.elements));
        }
        if change.direction != Direction::Neutral {
            put("direction", json!(change.direction));
        }
        if let Some(audience) = change.audience {
            put("audience", json!(audience));
        }
        if change.from_template {
            put("from_template", json!(true));
        }
        let mut case = Map::new();
        case.insert("name".to_owned(), json!(name));
        case.insert("intent".to_owned(), json!(self.intent));
        case.insert("change".to_owned(), Value::Object(shown));
        let of_kind = |fixed: bool| -> BTreeMap<&String, &FactValue> {
            self.established
                .iter()
                .filter(|(name, _)| {
                    let kinds = facts::lookup(name).map_or(&[][..], |known| known.kinds);
                    (kinds.first() == Some(&FactKind::Fixed)) == fixed
                })
                .collect()
        };
        for (name, facts) in [("observed", of_kind(false)), ("fixed", of_kind(true))] {
            if !facts.is_empty() {
                case.insert(name.to_owned(), json!(facts));
            }
        }
        if !self.claimed.is_empty() {
            case.insert("claimed".to_owned(), json!(self.claimed));
        }
        if self.tainted {
            case.insert("tainted".to_owned(), json!(true));
        }
        let ids =
            |ids: &[PolicyId]| -> Vec<String> { ids.iter().map(ToString::to_string).collect() };
        case.insert("gate".to_owned(), json!(record.gate.to_string()));
        if let Ok(class) = change.class() {
            case.insert("class".to_owned(), json!(class));
        }
        if !record.determining.is_empty() {
            case.insert("policies".to_owned(), json!(ids(&record.determining)));
        }
        if !record.raised_by.is_empty() {
            case.insert("raised_by".to_owned(), json!(ids(&record.raised_by)));
        }
        if let Some(denial) = &record.denial {
            case.insert("denial".to_owned(), json!(denial));
        }
        Value::Object(case)
    }

    /// The request in lines for a reader.
    pub(super) fn lines(&self) -> Vec<String> {
        let change = &self.change;
        let place = match change.destination {
            Destination::Staged => "held in Chaperone",
            Destination::Ehr => "in the EHR",
        };
        let mut what = vec![format!(
            "{} {} {place}",
            change.interaction.as_str(),
            change.resource
        )];
        match (&change.from, &change.to) {
            (Some(from), Some(to)) => what.push(format!("status {from} to {to}")),
            (None, Some(to)) => what.push(format!("status {to}")),
            (Some(from), None) => what.push(format!("status {from} to none")),
            (None, None) => {}
        }
        if let Some(status) = &change.clinical_status {
            what.push(format!("clinical status {status}"));
        }
        if let Some(intent) = &change.request_intent {
            what.push(format!("request intent {intent}"));
        }
        if !change.categories.is_empty() {
            what.push(format!("category {}", listed(&change.categories)));
        }
        if !change.elements.is_empty() {
            what.push(format!("elements {}", listed(&change.elements)));
        }
        match change.direction {
            Direction::Neutral => {}
            Direction::MorePrivate => what.push("more private".to_owned()),
            Direction::LessPrivate => what.push("less private".to_owned()),
        }
        match change.audience {
            Some(Audience::Patient) => what.push("to the patient".to_owned()),
            Some(Audience::CareTeam) => what.push("to the care team".to_owned()),
            None => {}
        }
        if change.from_template {
            what.push("from an approved template".to_owned());
        }
        let facts = |facts: &BTreeMap<String, FactValue>| {
            if facts.is_empty() {
                "nothing".to_owned()
            } else {
                facts
                    .iter()
                    .map(|(name, value)| format!("{name} = {}", in_words(value)))
                    .collect::<Vec<_>>()
                    .join(", ")
            }
        };
        let class = change
            .class()
            .map_or("none".to_owned(), |class| class.to_string());
        vec![
            format!("change       {}", what.join(", ")),
            format!("class        {class}"),
            format!("intent       {}", self.intent),
            format!("established  {}", facts(&self.established)),
            format!("agent claims {}", facts(&self.claimed)),
            format!("tainted      {}", if self.tainted { "yes" } else { "no" }),
        ]
    }
}

fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items
        .into_iter()
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

fn in_words(value: &FactValue) -> String {
    match value {
        FactValue::Bool(value) => value.to_string(),
        FactValue::Long(value) => value.to_string(),
        FactValue::Text(value) => value.clone(),
        FactValue::Set(values) => values.join(" and "),
    }
}

fn fact(value: &EvalResult, names: &mut Names<'_>) -> Result<FactValue, ProofFailed> {
    Ok(match value {
        EvalResult::Bool(value) => FactValue::Bool(*value),
        EvalResult::Long(value) => FactValue::Long(*value),
        EvalResult::String(text) => FactValue::Text(names.of(text)),
        EvalResult::Set(set) => FactValue::Set(
            set.iter()
                .map(|member| as_text(Some(member.clone()), "a fact").map(|text| names.of(&text)))
                .collect::<Result<_, _>>()?,
        ),
        _ => {
            return Err(ProofFailed::NotReadable(
                "a fact of another type".to_owned(),
            ));
        }
    })
}
