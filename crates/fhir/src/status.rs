//! Which status changes are allowed, and which states count as a draft that an agent may create.
//!
//! The graphs are data that the caller brings (`governance/rules/status-transitions.toml`); this file
//! only reads and applies them. It does not say who may make a change: that is policy.
//! What no graph lists is refused or unlisted, never quietly allowed.
//! Start at [`Transitions::parse`] and [`Transitions::allowed`].

mod data;

use std::collections::BTreeMap;

use serde_json::Value;

pub use data::TransitionsError;
use data::{DraftRule, Graph};

/// The status graphs and draft rules of a governance bundle.
#[derive(Clone, Debug)]
pub struct Transitions {
    version: String,
    /// By resource type, then element; the first element is the main one.
    graphs: BTreeMap<String, Vec<Graph>>,
    drafts: BTreeMap<String, DraftRule>,
    no_draft: BTreeMap<String, String>,
}

/// What the graphs say about a change of status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransitionVerdict {
    /// A new resource in a state that counts as a draft.
    Draft,
    /// A new resource in another state that the graph knows; policy decides.
    Created,
    /// No change.
    Unchanged,
    /// A change that the graph allows.
    Moved,
    /// Not allowed by the graph.
    Forbidden {
        /// Id of the graph.
        graph: String,
        /// What would be allowed from there, or, for a new resource, the states to start in.
        allowed: Vec<String>,
    },
    /// No graph covers this resource type and element.
    Unlisted,
}

impl TransitionVerdict {
    /// Whether the change may go on to policy. `Unlisted` may not.
    #[must_use]
    pub fn is_permitted(&self) -> bool {
        matches!(
            self,
            Self::Draft | Self::Created | Self::Unchanged | Self::Moved
        )
    }
}

/// Whether a new resource is a draft that an agent may create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DraftVerdict {
    /// It is.
    Draft,
    /// It is not: that element is not in a draft state.
    NotDraft {
        /// The element.
        element: String,
        /// The states it would have to be in.
        allowed: Vec<String>,
    },
    /// The type has no draft state at all; keep the draft inside the product.
    NoDraftState,
    /// No rule covers the type.
    Unlisted,
}

/// Something about a change that the graphs do not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransitionProblem {
    /// The element, such as `status`.
    pub element: String,
    /// State before; `None` for a new resource or an element that was not there.
    pub from: Option<String>,
    /// State after; `None` if the element was taken away.
    pub to: Option<String>,
    /// States that would be allowed; empty for an element that must not change.
    pub allowed: Vec<String>,
    /// Id of the graph or rule.
    pub rule: String,
}

impl Transitions {
    /// Reads the graphs from TOML.
    ///
    /// # Errors
    /// The text is not TOML of the expected shape, has unknown keys or another schema version, or a
    /// graph contradicts itself.
    pub fn parse(toml: &str) -> Result<Self, TransitionsError> {
        data::parse(toml)
    }

    /// Version of the data, for the decision record.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Judges a change of the main status element of a resource type (the first graph in the data).
    ///
    /// `from` is `None` for a new resource.
    #[must_use]
    pub fn allowed(&self, resource_type: &str, from: Option<&str>, to: &str) -> TransitionVerdict {
        match self
            .graphs
            .get(resource_type)
            .and_then(|graphs| graphs.first())
        {
            Some(graph) => judge(graph, from, to),
            None => TransitionVerdict::Unlisted,
        }
    }

    /// Judges a change of a named element, such as `docStatus`.
    #[must_use]
    pub fn allowed_element(
        &self,
        resource_type: &str,
        element: &str,
        from: Option<&str>,
        to: &str,
    ) -> TransitionVerdict {
        let graphs = self.graphs.get(resource_type);
        match graphs.and_then(|graphs| graphs.iter().find(|graph| graph.element == element)) {
            Some(graph) => judge(graph, from, to),
            None => TransitionVerdict::Unlisted,
        }
    }

    /// Judges a whole change: every graph of the type, and elements that must not change in place.
    ///
    /// An empty answer means that no graph objects; whether any graph covers the type is what
    /// [`Transitions::covers`] says.
    #[must_use]
    pub fn check(&self, before: Option<&Value>, after: &Value) -> Vec<TransitionProblem> {
        let resource_type = after
            .get("resourceType")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let mut problems = Vec::new();
        for graph in self.graphs.get(resource_type).into_iter().flatten() {
            let from = before.and_then(|before| state_of(before, &graph.element));
            let to = state_of(after, &graph.element);
            let allowed = match to {
                Some(to) => match judge(graph, from, to) {
                    TransitionVerdict::Forbidden { allowed, .. } => Some(allowed),
                    _ => None,
                },
                // A status that was there must not be taken away.
                None if from.is_some() => {
                    Some(from.map(|from| graph.next(from)).unwrap_or_default())
                }
                None => None,
            };
            if let Some(allowed) = allowed {
                problems.push(TransitionProblem {
                    element: graph.element.clone(),
                    from: from.map(str::to_owned),
                    to: to.map(str::to_owned),
                    allowed,
                    rule: graph.id.clone(),
                });
            }
        }
        if let (Some(before), Some(rule)) = (before, self.drafts.get(resource_type)) {
            for element in &rule.frozen {
                let (from, to) = (state_of(before, element), state_of(after, element));
                if from != to {
                    problems.push(TransitionProblem {
                        element: element.clone(),
                        from: from.map(str::to_owned),
                        to: to.map(str::to_owned),
                        allowed: Vec::new(),
                        rule: "frozen".to_owned(),
                    });
                }
            }
        }
        problems
    }

    /// Whether any graph covers the resource type.
    #[must_use]
    pub fn covers(&self, resource_type: &str) -> bool {
        self.graphs.contains_key(resource_type)
    }

    /// Whether a new resource is in a state in which an agent may create it.
    #[must_use]
    pub fn draft(&self, resource: &Value) -> DraftVerdict {
        let resource_type = resource
            .get("resourceType")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if self.no_draft.contains_key(resource_type) {
            return DraftVerdict::NoDraftState;
        }
        let Some(rule) = self.drafts.get(resource_type) else {
            return DraftVerdict::Unlisted;
        };
        for (element, states) in &rule.require {
            let state = state_of(resource, element);
            if !state.is_some_and(|state| states.iter().any(|allowed| allowed == state)) {
                return DraftVerdict::NotDraft {
                    element: element.clone(),
                    allowed: states.clone(),
                };
            }
        }
        DraftVerdict::Draft
    }
}

/// The state in an element: a plain code, or the code of a CodeableConcept with exactly one coding.
fn state_of<'v>(resource: &'v Value, element: &str) -> Option<&'v str> {
    match resource.get(element)? {
        Value::String(code) => Some(code),
        concept => match concept.get("coding")?.as_array()?.as_slice() {
            [coding] => coding.get("code")?.as_str(),
            _ => None,
        },
    }
}

fn judge(graph: &Graph, from: Option<&str>, to: &str) -> TransitionVerdict {
    let forbidden = |allowed| TransitionVerdict::Forbidden {
        graph: graph.id.clone(),
        allowed,
    };
    let Some(from) = from else {
        return if graph.draft.iter().any(|state| state == to) {
            TransitionVerdict::Draft
        } else if graph.initial.iter().any(|state| state == to) {
            TransitionVerdict::Created
        } else {
            forbidden(graph.initial.clone())
        };
    };
    if !graph.knows(to) {
        return forbidden(graph.next(from));
    }
    if from == to {
        return TransitionVerdict::Unchanged;
    }
    let next = graph.next(from);
    if next.iter().any(|state| state == to) {
        TransitionVerdict::Moved
    } else {
        forbidden(next)
    }
}

#[cfg(test)]
mod tests;
