//! What the ledger saw flow since a bundle came into force, and how that differs from what the bundle declares.
//!
//! Only events are read: tokens, names of tools and elements, never a value.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::Timestamp;
use chaperone_core::change::Destination;
use chaperone_core::digest::Digest;
use chaperone_core::envelope::GrantSource;
use chaperone_core::event::{Event, Recorded, StreamId};
use chaperone_core::ids::{AgentId, EnvelopeId, IntentId, ToolName, WritebackId};
use chaperone_core::resource::Interaction;
use chaperone_core::writeback::WritebackEvent;
use serde::Serialize;

use super::{DataFlow, GATEWAY, VAULT};

/// Most envelopes that are remembered at once: far more than can be open. The oldest go first.
const ENVELOPES_MAX: usize = 100_000;

/// Traffic between two nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// How many times.
    pub count: u64,
    /// When last.
    pub last: Timestamp,
    /// What of what is named was seen; how often each is not counted.
    pub what: BTreeSet<String>,
}

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    flows: BTreeMap<(String, String), Seen>,
    /// What an envelope is for.
    envelopes: BTreeMap<EnvelopeId, (AgentId, IntentId)>,
    order: std::collections::VecDeque<EnvelopeId>,
    /// Which tool proposed what.
    proposals: BTreeMap<WritebackId, Proposed>,
    since: Option<Timestamp>,
    entries: u64,
}

/// What a tool proposed.
#[derive(Debug, Clone)]
struct Proposed {
    tool: ToolName,
    /// Whose change it is, the type at the EHR and the interaction, once they are known.
    targets: Vec<(ToolName, String, &'static str)>,
}

/// A flow that differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Difference {
    /// From which node.
    pub from: String,
    /// To which node.
    pub to: String,
    /// What of it differs; everything where this is empty.
    pub what: Vec<String>,
}

/// Declared and seen, side by side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// When the bundle came into force, as the ledger says; absent where it never did.
    pub since: Option<Timestamp>,
    /// Entries of the ledger since then.
    pub entries: u64,
    /// How often each declared flow was seen, `from → to`.
    pub seen: BTreeMap<String, u64>,
    /// Declared, and not seen.
    pub never_seen: Vec<Difference>,
    /// Seen, and not declared.
    pub undeclared: Vec<Difference>,
}

impl Observed {
    /// Takes one entry of the ledger, in order. When another bundle comes into force, everything begins again: what
    /// flowed under earlier rules says nothing about these.
    pub fn fold(&mut self, recorded: &Recorded, bundle: &Digest) {
        match &recorded.event {
            Event::TenantInitialised { bundle: now } | Event::BundleActivated { bundle: now } => {
                *self = Self {
                    since: (now == bundle).then_some(recorded.at),
                    ..Self::default()
                };
                return;
            }
            _ if self.since.is_none() => return,
            _ => self.entries = self.entries.saturating_add(1),
        }
        let at = recorded.at;
        match &recorded.event {
            Event::GrantIssued(grant) => {
                let from = match &grant.source {
                    GrantSource::Dispatcher { dispatcher } => format!("agent:{dispatcher}"),
                    GrantSource::EhrNotification { event_type, .. } => {
                        format!("event:{event_type}")
                    }
                    _ => return,
                };
                let what = format!("a patient for {}", grant.intent);
                self.see(&from, &format!("agent:{}", grant.agent), at, [what]);
            }
            Event::EnvelopeOpened(envelope) => {
                let held = (envelope.agent.clone(), envelope.intent.clone());
                self.remember(envelope.id, held);
            }
            Event::ReadPermitted(ceiling) => {
                let Some((agent, intent)) = self.envelope_of(&recorded.stream) else {
                    // What people look at, at the console.
                    return;
                };
                let tool = format!("tool:{}", ceiling.tool);
                let kind = &ceiling.resource;
                let elements = ceiling.fields.iter().map(|path| format!("{kind}.{path}"));
                let texts = ceiling
                    .text
                    .iter()
                    .map(|path| format!("{kind}.{path} (scrubbed)"));
                let what: Vec<String> = elements.chain(texts).collect();
                self.call(&agent, &intent, &tool, at);
                self.see(&format!("ehr:{kind}"), &tool, at, what.iter().cloned());
                self.see(&tool, &format!("intent:{intent}"), at, what);
            }
            Event::Writeback(event) => self.write(&recorded.stream, event, at),
            Event::EgressPassed {
                channel,
                vendor,
                count,
                ..
            } => {
                let to = format!("vendor:{vendor}");
                self.see(GATEWAY, &to, at, [channel.to_string()]);
                if let Some(seen) = self.flows.get_mut(&(GATEWAY.to_owned(), to)) {
                    seen.count = seen.count.saturating_add(count.saturating_sub(1));
                }
            }
            _ => {}
        }
    }

    fn write(&mut self, stream: &StreamId, event: &WritebackEvent, at: Timestamp) {
        let StreamId::Writeback(id) = stream else {
            return;
        };
        match event {
            // What Chaperone itself proposes comes from nobody outside.
            WritebackEvent::Proposed(proposal) if proposal.undo.is_some() => {}
            WritebackEvent::Proposed(proposal) => {
                let tool = format!("tool:{}", proposal.tool);
                self.call(&proposal.agent, &proposal.intent, &tool, at);
                self.see(&tool, VAULT, at, ["proposals".to_owned()]);
                let proposed = Proposed {
                    tool: proposal.tool.clone(),
                    targets: Vec::new(),
                };
                self.proposals.insert(*id, proposed);
            }
            WritebackEvent::Validated {
                change, entries, ..
            } => {
                let Some(proposed) = self.proposals.get_mut(id) else {
                    return;
                };
                let only = entries.is_empty().then_some((&proposed.tool, &**change));
                let each = entries.iter().map(|entry| (&entry.tool, &entry.change));
                proposed.targets = only
                    .into_iter()
                    .chain(each)
                    .filter(|(_, change)| change.destination == Destination::Ehr)
                    .map(|(tool, change)| {
                        let what = match change.interaction {
                            Interaction::Create => "create",
                            Interaction::Update => "update",
                            Interaction::Delete => "delete",
                        };
                        (tool.clone(), change.resource.to_string(), what)
                    })
                    .collect();
            }
            WritebackEvent::DeliveryStarted(_) => {
                let targets = self.proposals.get(id).map(|it| it.targets.clone());
                for (tool, resource, what) in targets.unwrap_or_default() {
                    let (from, to) = (format!("tool:{tool}"), format!("ehr:{resource}"));
                    self.see(&from, &to, at, [what.to_owned()]);
                }
            }
            _ => {}
        }
    }

    fn call(&mut self, agent: &AgentId, intent: &IntentId, tool: &str, at: Timestamp) {
        let (agent, intent) = (format!("agent:{agent}"), format!("intent:{intent}"));
        self.see(&agent, &intent, at, ["calls".to_owned()]);
        self.see(&intent, &agent, at, ["answers".to_owned()]);
        self.see(&intent, tool, at, ["calls".to_owned()]);
    }

    fn see(&mut self, from: &str, to: &str, at: Timestamp, what: impl IntoIterator<Item = String>) {
        let seen = self
            .flows
            .entry((from.to_owned(), to.to_owned()))
            .or_insert(Seen {
                count: 0,
                last: at,
                what: BTreeSet::new(),
            });
        seen.count = seen.count.saturating_add(1);
        seen.last = seen.last.max(at);
        seen.what.extend(what);
    }

    fn remember(&mut self, id: EnvelopeId, held: (AgentId, IntentId)) {
        if self.envelopes.insert(id, held).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > ENVELOPES_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.envelopes.remove(&oldest);
            }
        }
    }

    fn envelope_of(&self, stream: &StreamId) -> Option<(AgentId, IntentId)> {
        match stream {
            StreamId::Envelope(id) => self.envelopes.get(id).cloned(),
            _ => None,
        }
    }

    /// Lays what was seen beside what is declared. Flows that the ledger does not record, such as what a provider of
    /// an agent sees, count as neither seen nor missing.
    pub fn compare(&self, declared: &DataFlow) -> Comparison {
        let mut comparison = Comparison {
            since: self.since,
            entries: self.entries,
            seen: BTreeMap::new(),
            never_seen: Vec::new(),
            undeclared: Vec::new(),
        };
        let tells_states = |id: &str| {
            let states = |flow: &super::Flow| flow.from == VAULT && flow.to == id;
            declared.flows.iter().any(states)
        };
        for flow in &declared.flows {
            if !is_recorded(&flow.from, &flow.to) || tells_states(&flow.to) {
                continue;
            }
            let key = (flow.from.clone(), flow.to.clone());
            let differs = |what| Difference {
                from: flow.from.clone(),
                to: flow.to.clone(),
                what,
            };
            let Some(seen) = self.flows.get(&key) else {
                comparison.never_seen.push(differs(Vec::new()));
                continue;
            };
            comparison
                .seen
                .insert(format!("{} → {}", flow.from, flow.to), seen.count);
            let missing: Vec<String> = flow.what.difference(&seen.what).cloned().collect();
            if !missing.is_empty() {
                comparison.never_seen.push(differs(missing));
            }
            let beyond: Vec<String> = seen
                .what
                .iter()
                .filter(|what| !is_within(&flow.what, what))
                .cloned()
                .collect();
            if !beyond.is_empty() {
                comparison.undeclared.push(differs(beyond));
            }
        }
        for ((from, to), _) in self.flows.iter().filter(|((from, to), _)| {
            !declared
                .flows
                .iter()
                .any(|flow| flow.from == *from && flow.to == *to)
        }) {
            comparison.undeclared.push(Difference {
                from: from.clone(),
                to: to.clone(),
                what: Vec::new(),
            });
        }
        comparison
    }
}

/// Whether what was seen is one of what is declared, or a part of it: a view may open less of an element than the
/// tool names.
fn is_within(declared: &BTreeSet<String>, seen: &str) -> bool {
    declared.contains(seen)
        || declared.iter().any(|whole| {
            seen.strip_prefix(whole.as_str())
                .is_some_and(|rest| rest.starts_with('.'))
        })
}

/// Whether the ledger would show a flow.
fn is_recorded(from: &str, to: &str) -> bool {
    let is = |id: &str, kind: &str| id.starts_with(kind);
    match (from, to) {
        _ if is(to, "provider:") => false,
        // Between Chaperone's own parts, and the state of an agent's own proposals.
        _ if is(from, "chaperone:") => is(to, "vendor:"),
        _ => true,
    }
}
