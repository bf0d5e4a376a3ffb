//! `--context FILE`: what is known about the patient beside the resource, for the plausibility rules.
//!
//! The file is one JSON object, as `Context::from_resources` takes it (the time may be left out), or a
//! Bundle of the same resources. Not here: the rules (`chaperone_fhir::plausibility`), nor any look at a
//! server. Start at [`Surroundings::read`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail};
use chaperone_fhir::finding::{Finding, Severity, id};
use chaperone_fhir::json::{Document, JsonLimits};
use chaperone_fhir::plausibility::{Context, Observed, Plausibility, RuleFiles};
use serde_json::{Map, Value, json};

use crate::package_store::read_bounded;

/// Types of a Bundle that become lists of the context, with the key of each.
const LISTS: [(&str, &str); 8] = [
    ("MedicationRequest", "medications"),
    ("MedicationStatement", "medications"),
    ("AllergyIntolerance", "allergies"),
    ("Condition", "conditions"),
    ("Observation", "observations"),
    ("Appointment", "appointments"),
    ("Slot", "slots"),
    ("Claim", "claims"),
];

/// The rules with what they rest on.
pub(super) struct Surroundings {
    rules: Plausibility,
    context: Context,
    /// Resources of a Bundle by `Type/id`: prior versions and encounters among them.
    entries: BTreeMap<String, Value>,
}

impl Surroundings {
    /// Reads a context, and the rules of a folder, or the built-in ones.
    pub(super) fn read(file: &Path, rules: Option<&Path>, now: &str) -> anyhow::Result<Self> {
        let name = file.display();
        let bytes = read_bounded(file, JsonLimits::default().bytes_max as u64)?;
        // The strict reader refuses what the lenient one would pass over, such as a repeated key.
        let document = Document::parse(&bytes, &JsonLimits::default())
            .map_err(|error| anyhow::anyhow!("the context `{name}` is not JSON: {error}"))?;
        if let Some(twice) = document.duplicate_keys().next() {
            let (line, column) = document.line_and_column(twice.offset());
            bail!("the context `{name}` has a key twice in one object, at {line}:{column}");
        }
        let given: Value = serde_json::from_slice(&bytes)
            .with_context(|| format!("the context `{name}` is not JSON"))?;
        let Value::Object(given) = given else {
            bail!("the context `{name}` must be one JSON object, or a FHIR Bundle");
        };
        let mut entries = BTreeMap::new();
        let mut keys = match given.get("resourceType").and_then(Value::as_str) {
            None => given,
            Some("Bundle") => {
                of_bundle(&given, &mut entries).with_context(|| format!("the context `{name}`"))?
            }
            Some(other) => bail!(
                "the context `{name}` is a {other}; it must be a Bundle, or an object with the keys of docs/validator.md"
            ),
        };
        keys.entry("now").or_insert_with(|| json!(now));
        let context = Context::from_resources(Value::Object(keys))
            .with_context(|| format!("the context `{name}` cannot be used"))?;
        Ok(Self {
            rules: rules_of(rules)?,
            context,
            entries,
        })
    }

    /// What the rules say about a text that was read, after everything else.
    pub(super) fn check(&self, bytes: &[u8], document: &Document<'_>) -> Vec<Finding> {
        let Ok(resource) = serde_json::from_slice::<Value>(bytes) else {
            // Such as a number that no calculation can hold.
            return vec![Finding::new(
                id::PLAUSIBILITY_NOT_CHECKED,
                Severity::Information,
                String::new(),
                "the plausibility rules cannot read this resource".to_owned(),
            )];
        };
        let mut report = self.rules.check(&resource, &self.context_for(&resource));
        report.locate(document);
        let mut findings = report.findings();
        let type_name = resource.get("resourceType").and_then(Value::as_str);
        for finding in &mut findings {
            if finding.expression.is_empty() {
                type_name
                    .unwrap_or_default()
                    .clone_into(&mut finding.expression);
            }
        }
        findings
    }

    /// The context with what a Bundle has for this resource: its prior version and its encounter.
    fn context_for(&self, resource: &Value) -> Cow<'_, Context> {
        if self.entries.is_empty() {
            return Cow::Borrowed(&self.context);
        }
        let mut context = Cow::Borrowed(&self.context);
        let text = |key: &str| resource.get(key).and_then(Value::as_str);
        if let (Some(kind), Some(own)) = (text("resourceType"), text("id"))
            && let Some(prior) = self.entries.get(&format!("{kind}/{own}"))
        {
            context.to_mut().prior = Observed::Present(prior.clone());
        }
        let named = self.rules.needs(resource, self.context.now).encounter;
        if let Some(named) = named
            && let Some(encounter) = self.entries.get(&format!("Encounter/{named}"))
        {
            context.to_mut().encounter = Observed::Present(encounter.clone());
        }
        context
    }
}

/// The keys of a context from a Bundle. What it does not hold, nobody looked up.
fn of_bundle(
    bundle: &Map<String, Value>,
    entries: &mut BTreeMap<String, Value>,
) -> anyhow::Result<Map<String, Value>> {
    let mut keys = Map::new();
    if let Some(at) = bundle.get("timestamp") {
        keys.insert("now".to_owned(), at.clone());
    }
    let listed = bundle.get("entry").and_then(Value::as_array);
    let resources = listed
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.get("resource"));
    for resource in resources {
        let text = |key: &str| resource.get(key).and_then(Value::as_str);
        let kind = text("resourceType").context("has an entry without a resourceType")?;
        if kind == "Patient"
            && keys
                .insert("patient".to_owned(), resource.clone())
                .is_some()
        {
            bail!("holds several patients; a context is about one");
        }
        if let Some((_, key)) = LISTS.iter().find(|(listed, _)| *listed == kind)
            && let Some(list) = keys.entry(*key).or_insert_with(|| json!([])).as_array_mut()
        {
            list.push(resource.clone());
        }
        if let Some(own) = text("id") {
            entries.insert(format!("{kind}/{own}"), resource.clone());
        }
    }
    Ok(keys)
}

/// The rules of a folder such as `governance/rules`, or those that are built in.
fn rules_of(folder: Option<&Path>) -> anyhow::Result<Plausibility> {
    const RULE_BYTES_MAX: u64 = 4 << 20;
    let mut texts = BTreeMap::new();
    match folder {
        Some(folder) => {
            for name in RuleFiles::NAMES {
                let file = folder.join(format!("{name}.toml"));
                let bytes = read_bounded(&file, RULE_BYTES_MAX)?;
                let text = String::from_utf8(bytes)
                    .with_context(|| format!("`{}` is not text", file.display()))?;
                texts.insert(name, text);
            }
        }
        None => {
            let mut embedded = chaperone_policy::embedded::files();
            for name in RuleFiles::NAMES {
                if let Some(text) = embedded.remove(&format!("rules/{name}.toml")) {
                    texts.insert(name, text);
                }
            }
        }
    }
    let files = RuleFiles::from_named(|name| texts.get(name).map(String::as_str))?;
    Ok(Plausibility::parse(&files)?)
}
