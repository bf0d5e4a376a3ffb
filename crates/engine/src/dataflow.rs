//! The living diagram of data flows: drawn from what is enforced, and compared with what the ledger saw.
//!
//! What is declared comes from the bundle alone: agents with everyone who sees what they see, intents, tools, the
//! elements each tool shows under each intent, and the vendors with what they may be sent. What was seen comes from
//! the events of the ledger since this bundle came into force. No patient is in either.
//!
//! Reading order: [`DataFlow`] (nodes and flows), [`DataFlow::declared`], [`observed`] (what the ledger saw),
//! [`Comparison`]. Not here: how it is drawn, which is the binary's.
//!
//! # Source
//! Requirement R067; 45 CFR 164.308(a)(1)(ii)(A).

pub mod observed;

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::bundle::{
    AgentDeclaration, IntentDeclaration, PatientBinding, ToolAction, ToolDeclaration,
};
use chaperone_core::change::Destination;
use chaperone_core::egress::DataClass;
use chaperone_core::resource::{Interaction, ResourceType};
use chaperone_policy::Bundle;
use chaperone_policy::bundle::fields_shown;
use serde::Serialize;

pub use observed::{Comparison, Observed};

/// The node of Chaperone's own process.
pub(crate) const GATEWAY: &str = "chaperone:gateway";
/// Where texts and orders rest.
pub(crate) const VAULT: &str = "chaperone:vault";
/// Where events rest.
pub(crate) const LEDGER: &str = "chaperone:ledger";
/// Where people work.
pub(crate) const CONSOLE: &str = "chaperone:console";

/// Where a node stands, from those who ask to those who are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Column {
    /// Whoever sees what agents see.
    Providers,
    /// Agents, and events that put patients before them.
    Agents,
    /// Intents.
    Intents,
    /// Tools.
    Tools,
    /// Chaperone's own parts.
    Chaperone,
    /// The EHR, by type of resource.
    Ehr,
    /// Vendors.
    Vendors,
}

impl Column {
    /// All of them, in order.
    pub const ALL: [Column; 7] = [
        Column::Providers,
        Column::Agents,
        Column::Intents,
        Column::Tools,
        Column::Chaperone,
        Column::Ehr,
        Column::Vendors,
    ];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Column::Providers => "Providers of agents",
            Column::Agents => "Agents and events",
            Column::Intents => "Intents",
            Column::Tools => "Tools",
            Column::Chaperone => "Chaperone",
            Column::Ehr => "EHR",
            Column::Vendors => "Vendors",
        }
    }
}

/// Somebody or something that data comes from or goes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its id: kind and name, such as `agent:scribe-agent`.
    pub id: String,
    /// Where it stands.
    pub column: Column,
    /// Its name.
    pub title: String,
    /// What else is said of it, a line each.
    pub notes: Vec<String>,
}

/// Data that goes from one node to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// From which node.
    pub from: String,
    /// To which node.
    pub to: String,
    /// The gravest class that may go there.
    pub class: DataClass,
    /// What, in order: elements of a type, channels, names of intents.
    pub what: BTreeSet<String>,
}

/// A diagram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DataFlow {
    /// Name and version of the bundle. Not its digest, which changes with much that changes no flow.
    pub bundle: String,
    /// Regions in which data made from patients' data may be.
    pub regions: Vec<String>,
    /// Nodes, by column and id.
    pub nodes: Vec<Node>,
    /// Flows, by their ends.
    pub flows: Vec<Flow>,
}

/// Gathers nodes and flows in order.
#[derive(Default)]
struct Drawing {
    nodes: BTreeMap<(Column, String), Node>,
    flows: BTreeMap<(String, String), Flow>,
}

impl Drawing {
    fn node(&mut self, column: Column, id: &str, title: &str, notes: Vec<String>) {
        let node = Node {
            id: id.to_owned(),
            column,
            title: title.to_owned(),
            notes,
        };
        self.nodes.insert((column, id.to_owned()), node);
    }

    fn flow(
        &mut self,
        from: &str,
        to: &str,
        class: DataClass,
        what: impl IntoIterator<Item = String>,
    ) {
        let flow = self
            .flows
            .entry((from.to_owned(), to.to_owned()))
            .or_insert_with(|| Flow {
                from: from.to_owned(),
                to: to.to_owned(),
                class,
                what: BTreeSet::new(),
            });
        flow.class = flow.class.max(class);
        flow.what.extend(what);
    }
}

impl DataFlow {
    /// What a bundle lets flow.
    pub fn declared(bundle: &Bundle) -> Self {
        let mut drawing = Drawing::default();
        own_parts(&mut drawing);
        for agent in bundle.agents() {
            agent_flows(&mut drawing, bundle, agent);
        }
        for event in bundle.ehr_events() {
            let id = format!("event:{}", event.event_type);
            let notes = vec![format!("an event of the EHR about a {}", event.resource)];
            drawing.node(Column::Agents, &id, event.event_type.as_str(), notes);
            drawing.flow(
                &id,
                &format!("agent:{}", event.agent),
                DataClass::Phi,
                [format!("a patient for {}", event.intent)],
            );
        }
        for intent in bundle.intents() {
            intent_flows(&mut drawing, bundle, intent);
        }
        for tool in bundle.tools() {
            tool_flows(&mut drawing, tool);
        }
        vendor_flows(&mut drawing, bundle);
        let manifest = bundle.manifest();
        Self {
            bundle: format!("{} {}", manifest.name, manifest.version),
            regions: bundle
                .vendors()
                .regions
                .iter()
                .map(ToString::to_string)
                .collect(),
            nodes: drawing.nodes.into_values().collect(),
            flows: drawing.flows.into_values().collect(),
        }
    }
}

/// Chaperone's own parts, and what goes between them whatever the bundle says.
fn own_parts(drawing: &mut Drawing) {
    for (id, title, note) in [
        (GATEWAY, "gateway", "decides, records, sends"),
        (VAULT, "vault", "texts and orders, sealed"),
        (LEDGER, "ledger", "events with tokens and digests"),
        (CONSOLE, "console", "people with a part in it"),
    ] {
        drawing.node(Column::Chaperone, id, title, vec![note.to_owned()]);
    }
    drawing.flow(GATEWAY, LEDGER, DataClass::Phi, ["events".to_owned()]);
    drawing.flow(
        GATEWAY,
        VAULT,
        DataClass::Phi,
        ["texts and orders".to_owned()],
    );
    drawing.flow(
        VAULT,
        CONSOLE,
        DataClass::Phi,
        ["what waits for people".to_owned()],
    );
    drawing.flow(LEDGER, CONSOLE, DataClass::Phi, ["who did what".to_owned()]);
}

fn agent_flows(drawing: &mut Drawing, bundle: &Bundle, agent: &AgentDeclaration) {
    let id = format!("agent:{}", agent.id);
    let notes = vec![
        format!("version {}, {}", agent.version, agent.vendor),
        format!("model {}", agent.model),
        format!("runs at: {}", agent.runtime),
        format!("answered for by: {}", agent.owner),
    ];
    drawing.node(Column::Agents, &id, agent.id.as_str(), notes);
    let class = agent
        .intents
        .iter()
        .filter_map(|intent| bundle.intent(intent))
        .map(class_of)
        .max()
        .unwrap_or(DataClass::Operational);
    for provider in &agent.providers {
        let role = serde_json::to_value(provider.role).ok();
        let role = role.as_ref().and_then(|it| it.as_str()).unwrap_or_default();
        // Two agents may have agreements of their own with the same provider.
        let provider_id = format!("provider:{}:{}", provider.name, provider.baa);
        let notes = vec![
            format!(
                "{}, until {}",
                provider.baa,
                provider.baa_expires.strftime("%Y-%m-%d")
            ),
            format!(
                "region {}, keeps {} days",
                provider.region, provider.retention_days
            ),
            "no training".to_owned(),
        ];
        drawing.node(Column::Providers, &provider_id, &provider.name, notes);
        drawing.flow(&id, &provider_id, class, [format!("as {role}")]);
    }
    for intent in &agent.intents {
        let class = bundle
            .intent(intent)
            .map_or(DataClass::Operational, class_of);
        drawing.flow(
            &id,
            &format!("intent:{intent}"),
            class,
            ["calls".to_owned()],
        );
        drawing.flow(
            &format!("intent:{intent}"),
            &id,
            class,
            ["answers".to_owned()],
        );
    }
    for dispatch in &agent.dispatches {
        let to = format!("agent:{}", dispatch.agent);
        let what = format!("a patient for {}", dispatch.intent);
        drawing.flow(&id, &to, DataClass::Phi, [what]);
    }
}

fn class_of(intent: &IntentDeclaration) -> DataClass {
    match intent.patient {
        PatientBinding::Required => DataClass::Phi,
        PatientBinding::None => DataClass::Operational,
    }
}

fn intent_flows(drawing: &mut Drawing, bundle: &Bundle, intent: &IntentDeclaration) {
    let id = format!("intent:{}", intent.id);
    let notes = vec![
        format!("purpose {}", intent.purpose_of_use),
        match intent.patient {
            PatientBinding::Required => "one patient".to_owned(),
            PatientBinding::None => "no patient".to_owned(),
        },
    ];
    drawing.node(Column::Intents, &id, intent.id.as_str(), notes);
    for tool in intent.tools.iter().filter_map(|name| bundle.tool(name)) {
        let tool_id = format!("tool:{}", tool.name);
        drawing.flow(&id, &tool_id, class_of(intent), ["calls".to_owned()]);
        let shown = shown(intent, tool);
        if !shown.is_empty() {
            drawing.flow(&tool_id, &id, class_of(intent), shown);
        }
    }
}

/// What a tool shows under an intent: `Type.element`, and scrubbed text as such.
fn shown(intent: &IntentDeclaration, tool: &ToolDeclaration) -> Vec<String> {
    let Some(ToolAction::Read(read)) = tool.action() else {
        return Vec::new();
    };
    let Some(resource) = searched(&read.query) else {
        return Vec::new();
    };
    let Ok(kind) = ResourceType::new(resource) else {
        return Vec::new();
    };
    let of = |view: &BTreeMap<ResourceType, Vec<String>>, fields: &[String]| {
        let open = view.get(&kind).map(Vec::as_slice).unwrap_or_default();
        fields_shown(open, fields)
    };
    let elements = of(&intent.view, &read.fields);
    let texts = of(&intent.text, &read.text);
    let elements = elements.iter().map(|path| format!("{resource}.{path}"));
    let texts = texts
        .iter()
        .map(|path| format!("{resource}.{path} (scrubbed)"));
    elements.chain(texts).collect()
}

/// The type that a query searches.
fn searched(query: &str) -> Option<&str> {
    query.split('?').next().filter(|kind| !kind.is_empty())
}

fn tool_flows(drawing: &mut Drawing, tool: &ToolDeclaration) {
    let id = format!("tool:{}", tool.name);
    match tool.action() {
        Some(ToolAction::Read(read)) => {
            drawing.node(
                Column::Tools,
                &id,
                tool.name.as_str(),
                vec!["reads".to_owned()],
            );
            let Some(resource) = searched(&read.query) else {
                return;
            };
            let elements = read.fields.iter().map(|path| format!("{resource}.{path}"));
            let texts = read
                .text
                .iter()
                .map(|path| format!("{resource}.{path} (scrubbed)"));
            let ehr = ehr_node(drawing, resource);
            drawing.flow(&ehr, &id, DataClass::Phi, elements.chain(texts));
        }
        Some(ToolAction::Write(write)) => {
            drawing.node(
                Column::Tools,
                &id,
                tool.name.as_str(),
                vec!["proposes".to_owned()],
            );
            drawing.flow(&id, VAULT, DataClass::Phi, ["proposals".to_owned()]);
            if write.destination == Destination::Ehr {
                let what = match write.interaction {
                    Interaction::Create => "create",
                    Interaction::Update => "update",
                    Interaction::Delete => "delete",
                };
                let ehr = ehr_node(drawing, write.resource.as_str());
                drawing.flow(&id, &ehr, DataClass::Phi, [what.to_owned()]);
            }
        }
        // What it sends is what the tools would send whose calls it takes.
        Some(ToolAction::Together(_)) => {
            let notes = vec!["proposes several as one".to_owned()];
            drawing.node(Column::Tools, &id, tool.name.as_str(), notes);
            drawing.flow(&id, VAULT, DataClass::Phi, ["proposals".to_owned()]);
        }
        Some(ToolAction::Templates) => {
            let notes = vec!["tells the note templates".to_owned()];
            drawing.node(Column::Tools, &id, tool.name.as_str(), notes);
        }
        Some(ToolAction::Status) | None => {
            let notes = vec!["tells the state of proposals".to_owned()];
            drawing.node(Column::Tools, &id, tool.name.as_str(), notes);
            drawing.flow(VAULT, &id, DataClass::Operational, ["states".to_owned()]);
        }
    }
}

fn ehr_node(drawing: &mut Drawing, resource: &str) -> String {
    let id = format!("ehr:{resource}");
    drawing.node(Column::Ehr, &id, resource, Vec::new());
    id
}

fn vendor_flows(drawing: &mut Drawing, bundle: &Bundle) {
    for vendor in &bundle.vendors().vendors {
        let id = format!("vendor:{}", vendor.id);
        let relation = serde_json::to_value(vendor.relation).ok();
        let relation = relation
            .as_ref()
            .and_then(|it| it.as_str())
            .unwrap_or_default();
        let agreement = match (&vendor.baa, vendor.baa_expires) {
            (Some(baa), Some(until)) => format!("{baa}, until {}", until.strftime("%Y-%m-%d")),
            _ => format!("no agreement ({relation})"),
        };
        let classes: Vec<&str> = vendor.data_classes.iter().map(|it| it.as_str()).collect();
        let notes = vec![
            vendor.legal_name.clone(),
            agreement,
            format!("region {}; review by {}", vendor.region, vendor.review_by),
            format!("may have: {}", classes.join(", ")),
        ];
        drawing.node(Column::Vendors, &id, vendor.id.as_str(), notes);
        let class = vendor.data_classes.iter().copied().max();
        let what = vendor.channels.iter().map(ToString::to_string);
        drawing.flow(GATEWAY, &id, class.unwrap_or(DataClass::None), what);
    }
}
