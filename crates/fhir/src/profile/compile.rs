//! Reads a snapshot into a tree of what it demands beyond its base.
//!
//! What the base type says as well is left out here and checked with the base. An element's origin is named
//! by `base.path`; the definition there says what is not new.
//! Start at [`compile`].

use std::collections::HashMap;
use std::sync::Arc;

use super::binding::BindingRule;
use super::discriminator;
use super::invariant::Invariant;
use super::range::Range;
use super::snapshot_tree::{SnapshotTree, last_name, stated, type_code};
use super::store::Profiles;
use super::tree::{
    Aggregation, ChildName, ExtensionRule, Node, Profile, ProfileLink, Slice, Slicing,
    SlicingRules, TypeRule, Versioning,
};
use crate::canonical::{
    Constraint, ElementDefinition, StructureDefinition, TypeRef, split_version,
};
use crate::definitions::tables::choice_name;

/// Most profiles that one imposes, with all that these impose, and most definitions looked at for them.
const IMPOSED_MAX: usize = 64;
/// Name of the slice that takes the values of no other slice.
const DEFAULT_SLICE: &str = "@default";

/// Compiles a definition with a snapshot; `None` if there is no snapshot.
pub(super) fn compile(
    profiles: &Profiles,
    definition: Arc<StructureDefinition>,
) -> Option<Profile> {
    if definition.snapshot.element.is_empty() {
        return None;
    }
    let tree = Arc::new(SnapshotTree::of(definition));
    let mut compiler = Compiler {
        profiles,
        tree: &tree,
        nodes: Vec::new(),
        places: HashMap::new(),
        references: Vec::new(),
    };
    let root = match compiler.element(0, false) {
        Some(root) => root,
        None => compiler.push(Node::default()),
    };
    compiler.link_references();
    let Compiler { nodes, .. } = compiler;
    Some(Profile {
        imposed: imposed(profiles, &tree.definition),
        url: tree.definition.url.as_str().into(),
        type_name: tree.definition.type_name.as_str().into(),
        nodes,
        root,
        extension: (tree.definition.type_name == "Extension")
            .then(|| extension_rule(profiles, &tree)),
    })
}

/// The profiles that a definition imposes, directly, through its bases or through those that it imposes.
///
/// # Source
/// FHIR Extensions Pack, `structuredefinition-imposeProfile`.
fn imposed(profiles: &Profiles, definition: &Arc<StructureDefinition>) -> Vec<ProfileLink> {
    let mut links = Vec::new();
    let mut seen: Vec<String> = vec![definition.url.clone()];
    let mut open = vec![Arc::clone(definition)];
    while let Some(definition) = open.pop() {
        for url in &definition.imposes.0 {
            if links.len() < IMPOSED_MAX && !seen.contains(url) {
                seen.push(url.clone());
                links.push(ProfileLink::new(url));
                open.extend(profiles.definition(url));
            }
        }
        let base = definition.base_definition.as_ref();
        if let Some(base) = base.filter(|it| !seen.contains(it) && seen.len() < IMPOSED_MAX) {
            seen.push(base.clone());
            open.extend(profiles.definition(base));
        }
    }
    links
}

struct Compiler<'c> {
    profiles: &'c Profiles,
    tree: &'c Arc<SnapshotTree>,
    nodes: Vec<Node>,
    /// Node of each place that has one.
    places: HashMap<usize, u32>,
    /// Nodes whose content is that of another place.
    references: Vec<(u32, usize)>,
}

impl Compiler<'_> {
    fn push(&mut self, node: Node) -> u32 {
        let index = self.nodes.len() as u32;
        self.nodes.push(node);
        index
    }

    /// Compiles the element at a place with everything below it; `None` if nothing is demanded.
    ///
    /// Recursion goes down the path of the snapshot, whose length the reader of JSON has bounded.
    fn element(&mut self, at: usize, is_slice: bool) -> Option<u32> {
        let tree = self.tree;
        let element = tree.element(at)?;
        let mut node = self.own(element, is_slice);
        let mut children = Vec::new();
        let mut names = Vec::new();
        if element.max.as_deref() != Some("0") {
            for child in tree.children(at) {
                if let (Some(compiled), Some(definition)) =
                    (self.element(*child, false), tree.element(*child))
                {
                    let place = children.len() as u32;
                    children.push(compiled);
                    self.child_names(definition, place, &mut names);
                }
            }
            node.slicing = self.slicing(at, element);
        }
        names.sort_by(|a: &ChildName, b| a.json_name.cmp(&b.json_name));
        node.names = names.into();
        node.children = children.into();
        let reference = element.content_reference.as_deref().and_then(|it| {
            let (url, id) = it.split_once('#')?;
            (url.is_empty() || url == tree.definition.url).then_some(id)
        });
        let referenced = reference
            .filter(|_| tree.children(at).is_empty())
            .and_then(|id| tree.referenced(id));
        if node.is_empty() && referenced.is_none() {
            return None;
        }
        let index = self.push(node);
        self.places.insert(at, index);
        if let Some(referenced) = referenced {
            self.references.push((index, referenced));
        }
        Some(index)
    }

    /// Gives nodes that refer to another's content the children of that one.
    fn link_references(&mut self) {
        for (from, to) in std::mem::take(&mut self.references) {
            let Some(to) = self
                .places
                .get(&to)
                .and_then(|it| self.nodes.get(*it as usize))
            else {
                continue;
            };
            let children = to.children.clone();
            let names = to
                .names
                .iter()
                .map(|it| ChildName {
                    json_name: it.json_name.clone(),
                    place: it.place,
                    type_code: it.type_code,
                    type_use: it.type_use,
                })
                .collect();
            let invariants = to.invariants.clone();
            if let Some(node) = self.nodes.get_mut(from as usize) {
                node.children = children;
                node.names = names;
                node.invariants = invariants;
            }
        }
    }

    /// What the element itself demands beyond its base.
    fn own(&self, element: &ElementDefinition, is_slice: bool) -> Node {
        let base_path = element
            .base
            .as_ref()
            .map_or(element.path.as_str(), |it| it.path.as_str());
        let origin = self.profiles.base_element(base_path);
        let base = origin.as_ref().map(|it| it.element());
        let (base_min, base_max) = match (&element.base, base) {
            (Some(base), _) => (base.min, base.max.as_str()),
            (None, Some(base)) => (
                base.min.unwrap_or_default(),
                base.max.as_deref().unwrap_or("*"),
            ),
            (None, None) => (0, "*"),
        };
        let is_root = !element.path.contains('.');
        let min = element.min.unwrap_or_default();
        let max = element.max.as_deref().unwrap_or("*");
        let mut node = Node {
            label: label(element),
            ..Node::default()
        };
        if !is_root && (is_slice || min > base_min) {
            node.min = min;
        }
        if !is_root && max != "*" && (is_slice || max != base_max) {
            node.max = max.parse().ok();
        }
        if is_root || max == "0" {
            node.invariants = self.invariants(element, base).into();
            return node;
        }
        node.types = type_rules(element, base);
        node.fixed = stated(element, "fixed").map(Box::new);
        node.pattern = stated(element, "pattern").map(Box::new);
        node.range = range(element, base);
        let is_bound_anew = base.and_then(|it| it.binding.as_ref()).is_none_or(|base| {
            element
                .binding
                .as_ref()
                .is_some_and(|own| own.strength != base.strength || own.value_set != base.value_set)
        });
        node.binding = is_bound_anew
            .then(|| BindingRule::of(element))
            .flatten()
            .map(Box::new);
        node.invariants = self.invariants(element, base).into();
        node
    }

    /// Invariants that neither the base element nor the types state.
    fn invariants(
        &self,
        element: &ElementDefinition,
        base: Option<&ElementDefinition>,
    ) -> Vec<Arc<Invariant>> {
        let is_known = |it: &Constraint, definition: &ElementDefinition| {
            definition
                .constraint
                .iter()
                .any(|other| other.key == it.key && other.expression == it.expression)
        };
        element
            .constraint
            .iter()
            .filter(|it| !base.is_some_and(|base| is_known(it, base)))
            .filter(|it| {
                !element.types.iter().any(|type_ref| {
                    self.profiles
                        .base_element(type_code(type_ref))
                        .is_some_and(|root| is_known(it, root.element()))
                })
            })
            .filter_map(|it| self.profiles.invariant(it, &self.tree.definition.url))
            .collect()
    }

    fn child_names(&self, element: &ElementDefinition, place: u32, names: &mut Vec<ChildName>) {
        let name = last_name(element);
        let base_path = element
            .base
            .as_ref()
            .map_or(element.path.as_str(), |it| it.path.as_str());
        let Some(stem) = name.strip_suffix("[x]") else {
            let type_code = match element.types.as_slice() {
                [only] => type_code(only),
                _ => "",
            };
            names.push(ChildName {
                json_name: name.into(),
                place,
                type_code: self.profiles.type_name(type_code).unwrap_or_default(),
                type_use: self.profiles.type_use(base_path, name),
            });
            return;
        };
        let origin = self.profiles.base_element(base_path);
        let types = origin
            .as_ref()
            .map_or(&element.types, |it| &it.element().types);
        let mut codes: Vec<&str> = types.iter().map(type_code).collect();
        if codes == ["*"] {
            codes = element.types.iter().map(type_code).collect();
        }
        for code in codes {
            let json_name = choice_name(stem, code);
            names.push(ChildName {
                type_use: self.profiles.type_use(base_path, &json_name),
                json_name: json_name.into(),
                place,
                type_code: self.profiles.type_name(code).unwrap_or_default(),
            });
        }
    }

    fn slicing(&mut self, at: usize, element: &ElementDefinition) -> Option<Box<Slicing>> {
        let tree = self.tree;
        let stated = element.slicing.as_ref();
        let rules = match stated.map(|it| it.rules.as_str()) {
            Some("closed") => SlicingRules::Closed,
            Some("openAtEnd") => SlicingRules::OpenAtEnd,
            _ => SlicingRules::Open,
        };
        let is_ordered = stated.is_some_and(|it| it.ordered);
        let mut slices = Vec::new();
        let mut default = None;
        for place in tree.slices(at) {
            let Some(slice) = tree.element(*place) else {
                continue;
            };
            let name = slice.slice_name.as_deref().unwrap_or_default();
            let node = self.element(*place, true);
            if name == DEFAULT_SLICE {
                default = node;
                continue;
            }
            // With open rules, a slice that demands nothing changes nothing.
            if node.is_none()
                && !is_ordered
                && rules == SlicingRules::Open
                && !has_default(tree, at)
            {
                continue;
            }
            slices.push(Slice {
                name: name.into(),
                node,
                matcher: discriminator::matcher(self.profiles, tree, element, *place),
            });
        }
        if slices.is_empty() && default.is_none() {
            return None;
        }
        Some(Box::new(Slicing {
            is_ordered,
            rules,
            slices,
            default,
        }))
    }
}

fn has_default(tree: &SnapshotTree, at: usize) -> bool {
    tree.slices(at).iter().any(|it| {
        tree.element(*it)
            .is_some_and(|it| it.slice_name.as_deref() == Some(DEFAULT_SLICE))
    })
}

fn label(element: &ElementDefinition) -> Box<str> {
    match (&element.id, &element.slice_name) {
        (Some(id), _) => id.as_str().into(),
        (None, Some(slice)) => format!("{}:{slice}", element.path).into(),
        (None, None) => element.path.as_str().into(),
    }
}

fn range(element: &ElementDefinition, base: Option<&ElementDefinition>) -> Option<Box<Range>> {
    let range = Range {
        least: stated(element, "minValue"),
        greatest: stated(element, "maxValue"),
        length_max: element
            .max_length
            .filter(|_| base.is_none_or(|it| it.max_length != element.max_length)),
    };
    (range.least.is_some() || range.greatest.is_some() || range.length_max.is_some())
        .then(|| Box::new(range))
}

/// The types with their profiles and targets, unless the base says the same.
fn type_rules(
    element: &ElementDefinition,
    base: Option<&ElementDefinition>,
) -> Option<Box<[TypeRule]>> {
    if element.types.is_empty() {
        return None;
    }
    // Extensions are checked against the definition that their own URL names.
    let profiles_count = |it: &TypeRef| it.code != "Extension" && !it.profile.is_empty();
    let is_as_in_base = |it: &TypeRef| {
        let other = base.and_then(|base| base.types.iter().find(|other| other.code == it.code));
        let targets_are_new = match other {
            Some(other) => !is_same_targets(&it.target_profile, &other.target_profile),
            None => !it.target_profile.is_empty(),
        };
        let profiles_are_new =
            profiles_count(it) && other.is_none_or(|other| other.profile != it.profile);
        !targets_are_new
            && !profiles_are_new
            && it.aggregation.is_empty()
            && it.versioning.as_deref().is_none_or(|it| it == "either")
    };
    let is_same_list = base.is_none_or(|base| {
        base.types.len() <= element.types.len() || base.types.iter().any(|it| it.code == "*")
    });
    if is_same_list && element.types.iter().all(is_as_in_base) {
        return None;
    }
    let links = |urls: &[String]| urls.iter().map(|it| ProfileLink::new(it)).collect();
    let mut types: Vec<TypeRef> = Vec::new();
    for it in &element.types {
        match types.iter_mut().find(|other| other.code == it.code) {
            Some(other) => {
                other.profile_element.0.resize(other.profile.len(), None);
                other
                    .profile_element
                    .0
                    .extend(it.profile_element.0.iter().cloned());
                other.profile.extend(it.profile.iter().cloned());
                other
                    .target_profile
                    .extend(it.target_profile.iter().cloned());
            }
            None => types.push(it.clone()),
        }
    }
    Some(
        types
            .iter()
            .map(|it| TypeRule {
                code: type_code(it).into(),
                profiles: if profiles_count(it) {
                    type_links(it)
                } else {
                    Box::default()
                },
                targets: links(&it.target_profile),
                aggregation: it
                    .aggregation
                    .iter()
                    .filter_map(|it| match it.as_str() {
                        "contained" => Some(Aggregation::Contained),
                        "referenced" => Some(Aggregation::Referenced),
                        "bundled" => Some(Aggregation::Bundled),
                        _ => None,
                    })
                    .collect(),
                versioning: match it.versioning.as_deref() {
                    Some("independent") => Versioning::Independent,
                    Some("specific") => Versioning::Specific,
                    _ => Versioning::Either,
                },
            })
            .collect(),
    )
}

/// The profiles of a type, each as a whole or one element of it.
///
/// # Source
/// FHIR R4, extension `elementdefinition-profile-element`.
fn type_links(of: &TypeRef) -> Box<[ProfileLink]> {
    let elements = of.profile_element.0.iter().map(Option::as_deref);
    of.profile
        .iter()
        .zip(elements.chain(std::iter::repeat(None)))
        .map(|(url, element)| ProfileLink {
            element: element.map(|it| it.trim_start_matches('#').into()),
            ..ProfileLink::new(url)
        })
        .collect()
}

fn is_same_targets(own: &[String], base: &[String]) -> bool {
    let url = |it: &String| split_version(it).0.to_owned();
    own.len() == base.len()
        && own
            .iter()
            .all(|it| base.iter().any(|other| url(other) == url(it)))
}

fn extension_rule(profiles: &Profiles, tree: &SnapshotTree) -> ExtensionRule {
    let definition = &tree.definition;
    let nested = tree
        .child(0, "extension")
        .map(|at| tree.slices(at))
        .unwrap_or_default()
        .iter()
        .filter_map(|slice| discriminator::extension_url(tree, *slice))
        .map(Into::into)
        .collect();
    ExtensionRule {
        contexts: definition.context.clone(),
        invariants: definition
            .context_invariant
            .iter()
            .enumerate()
            .filter_map(|(index, expression)| {
                let constraint = Constraint {
                    key: format!("context-{}", index + 1),
                    human: format!("the extension may stand only where `{expression}`"),
                    expression: Some(expression.clone()),
                    ..Constraint::default()
                };
                profiles.invariant(&constraint, &definition.url)
            })
            .collect(),
        is_modifier: definition
            .snapshot
            .element
            .first()
            .and_then(|it| it.is_modifier)
            .unwrap_or_default(),
        nested,
    }
}
