//! What base types demand beyond their structure: invariants and bindings, by node of the definitions.
//!
//! Structure itself (names, kinds, base cardinality, formats, closed code lists) is checked in
//! [`crate::validate`] and not repeated here.
//! Start at [`NodeRules::compile`].

use std::sync::Arc;

use super::BASE_URL;
use super::binding::BindingRule;
use super::invariant::Invariant;
use super::snapshot_tree::type_code;
use super::store::Profiles;
use crate::canonical::{Constraint, ElementDefinition, StructureDefinition};
use crate::definitions::tables::flag;

/// What a node demands.
#[derive(Debug, Default)]
pub(super) struct NodeRules {
    /// Invariants of the type, if the node is the root of one.
    pub(super) invariants: Box<[Arc<Invariant>]>,
    /// By place among the node's elements.
    pub(super) elements: Box<[ElementRules]>,
}

/// What an element demands of each of its values.
#[derive(Debug, Default)]
pub(super) struct ElementRules {
    pub(super) invariants: Box<[Arc<Invariant>]>,
    /// The binding, unless the structural walk decides it.
    pub(super) binding: Option<Box<BindingRule>>,
}

impl NodeRules {
    pub(super) fn compile(profiles: &Profiles, node_index: u32) -> Self {
        let definitions = profiles.definitions;
        let node = definitions.node(node_index);
        let path = definitions.text(node.path);
        let type_name = path.split('.').next().unwrap_or_default();
        let Some(definition) = profiles.definition(&format!("{BASE_URL}{type_name}")) else {
            return Self::default();
        };
        let source = &definition.url;
        let invariants = if path.contains('.') {
            Box::default()
        } else {
            find(&definition, path)
                .map(|it| share(profiles, &it.constraint, source))
                .unwrap_or_default()
        };
        let elements = node
            .elements
            .indices()
            .map(|index| {
                let element = definitions.element(index);
                let name = definitions.text(element.name);
                let suffix = if element.has(flag::CHOICE) { "[x]" } else { "" };
                let Some(stated) = find(&definition, &format!("{path}.{name}{suffix}")) else {
                    return ElementRules::default();
                };
                let constraints = own_constraints(profiles, &definition, stated);
                let is_decided_before = definitions
                    .binding(element.binding)
                    .and_then(|it| definitions.code_list(it.list))
                    .is_some_and(|it| it.is_decidable);
                ElementRules {
                    invariants: share(profiles, &constraints, source),
                    binding: BindingRule::of(stated)
                        .filter(|it| !(is_decided_before && it.is_only_required()))
                        .map(Box::new),
                }
            })
            .collect();
        Self {
            invariants,
            elements,
        }
    }
}

fn find<'s>(definition: &'s StructureDefinition, path: &str) -> Option<&'s ElementDefinition> {
    definition
        .snapshot
        .element
        .iter()
        .find(|it| it.path == path)
}

fn share(profiles: &Profiles, constraints: &[Constraint], source: &str) -> Box<[Arc<Invariant>]> {
    constraints
        .iter()
        .filter_map(|it| profiles.invariant(it, source))
        .collect()
}

/// The constraints of an element that its type does not state itself; those of the element whose content
/// it has are added.
fn own_constraints(
    profiles: &Profiles,
    definition: &StructureDefinition,
    stated: &ElementDefinition,
) -> Vec<Constraint> {
    let referenced = stated
        .content_reference
        .as_deref()
        .and_then(|it| find(definition, it.split_once('#')?.1));
    let mut constraints: Vec<Constraint> = stated
        .constraint
        .iter()
        .chain(referenced.into_iter().flat_map(|it| &it.constraint))
        .filter(|it| it.key != "ele-1")
        .cloned()
        .collect();
    constraints.dedup();
    for type_ref in &stated.types {
        if let Some(root) = profiles.base_element(type_code(type_ref)) {
            constraints.retain(|it| {
                !root
                    .element()
                    .constraint
                    .iter()
                    .any(|other| other.key == it.key && other.expression == it.expression)
            });
        }
    }
    constraints
}
