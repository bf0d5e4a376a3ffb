//! The TOML form of status graphs, and the checks that make them trustworthy.
//!
//! Start at [`parse`].

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::Transitions;

/// Schema version that this build reads.
const SCHEMA: u32 = 1;

/// Why the data could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TransitionsError {
    /// Not TOML of the expected shape; the message names line and key.
    #[error("status transitions cannot be read")]
    Shape(#[source] Box<toml::de::Error>),
    /// Written for another version.
    #[error("status transitions have schema {0}; this build reads {SCHEMA}")]
    Schema(u32),
    /// A graph contradicts itself or another.
    #[error("graph `{graph}`: {what}")]
    Inconsistent {
        /// Id of the graph, or the resource type of a draft rule.
        graph: String,
        /// What is wrong.
        what: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    version: String,
    owner: String,
    reviewed: toml::value::Datetime,
    review_by: toml::value::Datetime,
    graph: Vec<GraphEntry>,
    #[serde(default)]
    draft_states: Vec<DraftEntry>,
    #[serde(default)]
    no_draft: Vec<NoDraftEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GraphEntry {
    id: String,
    resource_type: String,
    element: String,
    source: String,
    #[serde(default)]
    initial: Vec<String>,
    #[serde(default)]
    draft: Vec<String>,
    #[serde(default)]
    from_any: Vec<String>,
    moves: Vec<Move>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Move {
    from: String,
    to: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftEntry {
    resource_type: String,
    require: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    frozen: Vec<String>,
    source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoDraftEntry {
    resource_type: String,
    source: String,
}

/// One graph.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    pub(super) id: String,
    pub(super) element: String,
    pub(super) initial: Vec<String>,
    pub(super) draft: Vec<String>,
    from_any: Vec<String>,
    moves: BTreeMap<String, Vec<String>>,
    pub(super) states: BTreeSet<String>,
}

impl Graph {
    pub(super) fn knows(&self, state: &str) -> bool {
        self.states.contains(state)
    }

    /// States that may follow.
    pub(super) fn next(&self, from: &str) -> Vec<String> {
        let mut next = self.moves.get(from).cloned().unwrap_or_default();
        next.extend(self.from_any.iter().filter(|state| *state != from).cloned());
        next
    }
}

/// The draft rule of a resource type.
#[derive(Clone, Debug)]
pub(super) struct DraftRule {
    pub(super) require: BTreeMap<String, Vec<String>>,
    pub(super) frozen: Vec<String>,
}

pub(super) fn parse(text: &str) -> Result<Transitions, TransitionsError> {
    let file: File =
        toml::from_str(text).map_err(|error| TransitionsError::Shape(Box::new(error)))?;
    if file.schema != SCHEMA {
        return Err(TransitionsError::Schema(file.schema));
    }
    let bad = |graph: &str, what| {
        Err(TransitionsError::Inconsistent {
            graph: graph.to_owned(),
            what,
        })
    };
    if file.version.is_empty() || file.owner.is_empty() {
        return bad("(file)", "version and owner must be named");
    }
    if file.reviewed.date.is_none() || file.review_by.date <= file.reviewed.date {
        return bad(
            "(file)",
            "`reviewed` must be a date, and `review_by` a later one",
        );
    }
    let mut graphs: BTreeMap<String, Vec<Graph>> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for entry in file.graph {
        if !ids.insert(entry.id.clone()) {
            return bad(&entry.id, "another graph has the same id");
        }
        if entry.source.is_empty() {
            return bad(&entry.id, "its source must be named");
        }
        let of_type = graphs.entry(entry.resource_type.clone()).or_default();
        if of_type.iter().any(|other| other.element == entry.element) {
            return bad(&entry.id, "another graph covers the same element");
        }
        of_type.push(graph(entry)?);
    }
    let mut drafts = BTreeMap::new();
    for entry in file.draft_states {
        if entry.require.is_empty() || entry.source.is_empty() {
            return bad(
                &entry.resource_type,
                "a draft rule needs required states and a source",
            );
        }
        for graph in graphs.get(&entry.resource_type).into_iter().flatten() {
            let listed = entry.require.get(&graph.element);
            if listed.is_none_or(|listed| !listed.iter().all(|state| graph.draft.contains(state))) {
                return bad(
                    &graph.id,
                    "its draft states disagree with the draft rule of the type",
                );
            }
        }
        let rule = DraftRule {
            require: entry.require,
            frozen: entry.frozen,
        };
        if drafts.insert(entry.resource_type.clone(), rule).is_some() {
            return bad(&entry.resource_type, "two draft rules for one type");
        }
    }
    let mut no_draft = BTreeMap::new();
    for entry in file.no_draft {
        if drafts.contains_key(&entry.resource_type) {
            return bad(
                &entry.resource_type,
                "it has a draft rule and is also listed as having none",
            );
        }
        no_draft.insert(entry.resource_type, entry.source);
    }
    Ok(Transitions {
        version: file.version,
        graphs,
        drafts,
        no_draft,
    })
}

fn graph(entry: GraphEntry) -> Result<Graph, TransitionsError> {
    let mut states = BTreeSet::new();
    let mut moves = BTreeMap::new();
    states.extend(
        entry
            .initial
            .iter()
            .chain(&entry.draft)
            .chain(&entry.from_any)
            .cloned(),
    );
    for step in entry.moves {
        states.insert(step.from.clone());
        states.extend(step.to.iter().cloned());
        let is_loop = step.to.contains(&step.from);
        if is_loop || moves.insert(step.from, step.to).is_some() {
            return Err(TransitionsError::Inconsistent {
                graph: entry.id,
                what: "a state is listed twice under moves, or moves to itself",
            });
        }
    }
    // Nothing is created as a mistake.
    let initial = if entry.initial.is_empty() {
        states
            .iter()
            .filter(|state| !entry.from_any.contains(*state))
            .cloned()
            .collect()
    } else {
        entry.initial
    };
    Ok(Graph {
        id: entry.id,
        element: entry.element,
        initial,
        draft: entry.draft,
        from_any: entry.from_any,
        moves,
        states,
    })
}
