//! Finding the element that a differential means, spelling out the tree as far as it goes.
//!
//! A path may go below what the base spells out (into a datatype, a profile of it, the target of a
//! content reference), may name a slice that begins here, and may name a choice by one of its types
//! (`valueQuantity`). Start at [`Walk::apply`].

use std::collections::BTreeMap;

use super::merge::merge;
use super::tree::{Tree, id, renamed};
use super::{
    ELEMENTS_MAX, Problem, Resolve, ResolveError, SEGMENTS_MAX, SnapshotProblem, copied_from,
};
use crate::canonical::{
    Constraint, Discriminator, ElementBase, ElementDefinition, Slicing, TypeRef,
};

/// Where the types of R4 are defined.
const TYPES: &str = "http://hl7.org/fhir/StructureDefinition/";

pub(super) struct Walk<'r> {
    pub(super) tree: Tree,
    resolve: &'r mut dyn Resolve,
    url: &'r str,
    is_constraint: bool,
    problems: Vec<SnapshotProblem>,
    shortcuts: Vec<Shortcut>,
    /// How many types of a choice were used as its name, by the id of the choice.
    named: BTreeMap<String, usize>,
    /// Ids of choices whose types or slicing the differential states itself.
    stated: Vec<String>,
}

/// A choice that was named by one of its types.
struct Shortcut {
    /// Id of the choice, such as `Observation.value[x]`.
    choice: String,
    /// Id of the slice.
    slice: String,
    type_code: String,
}

/// One part of an id.
struct Segment<'i> {
    name: &'i str,
    slice: Option<&'i str>,
}

impl<'r> Walk<'r> {
    pub(super) fn new(
        tree: Tree,
        resolve: &'r mut dyn Resolve,
        url: &'r str,
        is_constraint: bool,
    ) -> Self {
        Self {
            tree,
            resolve,
            url,
            is_constraint,
            problems: Vec::new(),
            shortcuts: Vec::new(),
            named: BTreeMap::new(),
            stated: Vec::new(),
        }
    }

    /// Lays one element of the differential over the tree.
    pub(super) fn apply(&mut self, element: &ElementDefinition, element_id: &str) {
        let problems = match self.find(element, element_id) {
            Ok(found) => {
                if element.slicing.is_some() || !element.types.is_empty() {
                    let stated = self.tree.get(found).map(|it| id(it).to_owned());
                    self.stated.extend(stated);
                }
                self.tree
                    .get_mut(found)
                    .map(|it| merge(it, element, self.url))
                    .unwrap_or_default()
            }
            Err(problem) => vec![problem],
        };
        for problem in problems {
            self.problem(element_id, problem);
        }
    }

    /// The elements and what was wrong.
    pub(super) fn finish(mut self) -> (Vec<ElementDefinition>, Vec<SnapshotProblem>) {
        self.narrow_choices();
        for element in &mut self.tree.elements {
            if element.base.is_none() {
                element.base = Some(ElementBase {
                    path: element.path.clone(),
                    min: element.min.unwrap_or_default(),
                    max: element.max.clone().unwrap_or_default(),
                });
            }
        }
        (self.tree.elements, self.problems)
    }

    /// A choice that is named by one of its types only, without a word on its slicing, is narrowed to
    /// that type where a value of it is required, and inside of slices. Otherwise the other types remain
    /// as they are; so they do where several types are named, or where the base slices the choice.
    /// Inside of a slice the choice itself then takes the place of its only slice.
    fn narrow_choices(&mut self) {
        // The innermost come last, and are done first, as the ids of outer ones may change.
        while let Some(shortcut) = self.shortcuts.pop() {
            let names: usize = self
                .named
                .get(&shortcut.choice)
                .copied()
                .unwrap_or_default();
            let is_inside = shortcut.choice.contains(':');
            let (Some(choice), Some(slice)) = (
                self.tree.position(&shortcut.choice),
                self.tree.position(&shortcut.slice),
            ) else {
                continue;
            };
            let least = self
                .tree
                .get(slice)
                .and_then(|it| it.min)
                .unwrap_or_default();
            if names > 1 || self.stated.contains(&shortcut.choice) || (least == 0 && !is_inside) {
                continue;
            }
            let has_children = self.tree.has_children(choice);
            let Some(element) = self.tree.get_mut(choice) else {
                continue;
            };
            element.types.retain(|it| it.code == shortcut.type_code);
            let least = element.min.unwrap_or_default().max(least);
            element.min = Some(least);
            if let Some(slicing) = &mut element.slicing {
                slicing.rules = "closed".to_owned();
            }
            if is_inside && !has_children {
                if let Some(slice) = self.tree.get_mut(slice) {
                    slice.min = Some(least);
                    slice.slice_name = None;
                }
                self.tree.replace(choice, slice);
            }
        }
    }

    fn find(&mut self, element: &ElementDefinition, element_id: &str) -> Result<usize, Problem> {
        let mut segments = element_id.split('.').map(|it| match it.split_once(':') {
            Some((name, slice)) => Segment {
                name,
                slice: Some(slice),
            },
            None => Segment {
                name: it,
                slice: None,
            },
        });
        let Some(root) = segments.next() else {
            return Err(Problem::NotInBase);
        };
        if self.tree.elements.is_empty() {
            self.tree.insert(0, vec![bare(root.name, root.name)]);
        }
        let root_is_right = self.tree.get(0).is_some_and(|it| it.path == root.name);
        if !root_is_right || element_id.split('.').count() > SEGMENTS_MAX {
            return Err(Problem::NotInBase);
        }
        let mut found = 0;
        let mut segments = segments.peekable();
        while let Some(segment) = segments.next() {
            let is_last = segments.peek().is_none();
            found = match self.step(found, &segment) {
                Err(Problem::NotInBase) if is_last && !self.is_constraint => {
                    self.add(found, segment.name, element)
                }
                other => other?,
            };
        }
        Ok(found)
    }

    /// From an element to one directly below it.
    fn step(&mut self, parent: usize, segment: &Segment<'_>) -> Result<usize, Problem> {
        if !self.tree.has_children(parent) {
            match self.expand(parent) {
                // A type of its own may add what its elements hold.
                Err(_) if !self.is_constraint => {}
                other => other?,
            }
        }
        let plain = self
            .tree
            .children(parent)
            .find(|(_, name)| *name == segment.name)
            .map(|(at, _)| at);
        if let Some(at) = plain {
            return match segment.slice {
                None => Ok(at),
                Some(slice) => self.slice(at, slice),
            };
        }
        let (at, type_code) = self
            .choice(parent, segment.name)
            .ok_or(Problem::NotInBase)?;
        self.shortcut(at, segment.name, type_code)
    }

    /// The choice below an element that a name such as `valueQuantity` means, and the type.
    fn choice(&self, parent: usize, name: &str) -> Option<(usize, String)> {
        self.tree.children(parent).find_map(|(at, child)| {
            let of_type = name.strip_prefix(child.strip_suffix("[x]")?)?;
            let types = &self.tree.get(at)?.types;
            let found = types.iter().find(|it| is_capitalised(of_type, &it.code))?;
            Some((at, found.code.clone()))
        })
    }

    /// The slice of a choice for one type, made if need be.
    fn shortcut(&mut self, at: usize, name: &str, type_code: String) -> Result<usize, Problem> {
        let Some(choice) = self.tree.get(at) else {
            return Err(Problem::NotInBase);
        };
        let choice_id = id(choice).to_owned();
        let was_sliced = !self.named.contains_key(&choice_id)
            && (choice.slicing.is_some() || self.tree.has_slices(at));
        // With one type left there is nothing to tell apart.
        let is_single = matches!(choice.types.as_slice(), [only] if only.code == type_code);
        if is_single && !was_sliced {
            return Ok(at);
        }
        if let Some(existing) = self.slice_of_type(at, &type_code) {
            return Ok(existing);
        }
        let found = self.slice(at, name)?;
        if let Some(slice) = self.tree.get_mut(found) {
            slice.types.retain(|it| it.code == type_code);
            if !was_sliced {
                *self.named.entry(choice_id.clone()).or_default() += 1;
                self.shortcuts.push(Shortcut {
                    slice: id(slice).to_owned(),
                    choice: choice_id,
                    type_code,
                });
            }
        }
        Ok(found)
    }

    /// The slice of a choice that holds one type only, that one.
    fn slice_of_type(&self, at: usize, type_code: &str) -> Option<usize> {
        let start = id(self.tree.get(at)?);
        (self.tree.subtree_end(at)..self.tree.group_end(at)).find(|slice| {
            self.tree.get(*slice).is_some_and(|it| {
                let is_slice = id(it)
                    .strip_prefix(start)
                    .and_then(|it| it.strip_prefix(':'))
                    .is_some_and(|it| !it.contains(['.', '/']));
                is_slice && matches!(it.types.as_slice(), [only] if only.code == type_code)
            })
        })
    }

    /// A slice of an element, made if need be. `a/b` is slice `b` of slice `a`.
    fn slice(&mut self, sliced: usize, name: &str) -> Result<usize, Problem> {
        let Some(sliced_id) = self.tree.get(sliced).map(|it| id(it).to_owned()) else {
            return Err(Problem::NotInBase);
        };
        let slice_id = format!("{sliced_id}:{name}");
        if let Some(at) = self.tree.position(&slice_id) {
            return Ok(at);
        }
        if self.is_single_without_slicing(sliced) {
            self.problem(&sliced_id, Problem::NoSlicing);
            return Ok(sliced);
        }
        // A slice of a slice is a copy of that one, where it is there.
        let source = name
            .rsplit_once('/')
            .and_then(|(outer, _)| self.tree.position(&format!("{sliced_id}:{outer}")))
            .unwrap_or(sliced);
        let mut copy = self.tree.copied(source, &slice_id);
        if let Some(first) = copy.first_mut() {
            first.slicing = None;
            first.slice_name = Some(name.to_owned());
            // However many values the element must have, none of them need be in this slice.
            first.min = Some(0);
        }
        let problem = self.ensure_slicing(source);
        let at = self.tree.group_end(source);
        self.tree.insert(at, copy);
        if let Some(problem) = problem {
            self.problem(&sliced_id, problem);
        }
        Ok(at)
    }

    /// Notes a problem once.
    fn problem(&mut self, element: &str, problem: Problem) {
        let problem = SnapshotProblem {
            element: element.to_owned(),
            problem,
        };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// An element with at most one value that nobody says how to slice: a slice name on it is no more
    /// than a name, and what is said of the slice is said of the element.
    fn is_single_without_slicing(&self, at: usize) -> bool {
        self.tree.get(at).is_some_and(|it| {
            it.slicing.is_none()
                && it.max.as_deref() == Some("1")
                && !it.path.ends_with("[x]")
                && !it.path.ends_with("xtension")
        })
    }

    /// Extensions are always sliced by URL and choices by type; anything else must say what tells its
    /// slices apart.
    fn ensure_slicing(&mut self, at: usize) -> Option<Problem> {
        let element = self.tree.get_mut(at)?;
        if element.slicing.is_some() {
            return None;
        }
        let by = |kind: &str, path: &str| {
            vec![Discriminator {
                kind: kind.to_owned(),
                path: path.to_owned(),
            }]
        };
        let (discriminator, problem) = if element.path.ends_with("xtension") {
            (by("value", "url"), None)
        } else if element.path.ends_with("[x]") {
            (by("type", "$this"), None)
        } else {
            (Vec::new(), Some(Problem::NoSlicing))
        };
        element.slicing = Some(Slicing {
            discriminator,
            ordered: false,
            rules: "open".to_owned(),
        });
        problem
    }

    /// Puts the elements of an element's content below it.
    fn expand(&mut self, at: usize) -> Result<(), Problem> {
        let Some(element) = self.tree.get(at) else {
            return Err(Problem::NotInBase);
        };
        let (element_id, path) = (id(element).to_owned(), element.path.clone());
        if let Some(reference) = element.content_reference.clone() {
            return self.expand_reference(at, &element_id, &path, &reference);
        }
        let types = element.types.clone();
        if types.is_empty() && !self.is_constraint {
            return Ok(());
        }
        let content = self.content(&types, &path)?;
        let Some(root) = content.first().cloned() else {
            return Ok(());
        };
        let (old_id, old_path) = (id(&root).to_owned(), root.path);
        let children = content
            .into_iter()
            .skip(1)
            .take(ELEMENTS_MAX)
            .map(|mut it| {
                renamed(&mut it, &old_id, &element_id, &old_path, &path);
                it
            })
            .collect();
        self.tree.insert(at + 1, children);
        Ok(())
    }

    /// The elements of the content of a type, its root first.
    fn content(
        &mut self,
        types: &[TypeRef],
        path: &str,
    ) -> Result<Vec<ElementDefinition>, Problem> {
        let not_loaded = || Problem::ContentNotLoaded(path.to_owned());
        let (canonical, part) = match types {
            [] => return Err(Problem::NotInBase),
            [only] => match only.profile.as_slice() {
                [profile] => (
                    profile.clone(),
                    only.profile_element.0.first().cloned().flatten(),
                ),
                _ => (type_url(&only.code), None),
            },
            [first, rest @ ..] if rest.iter().all(|it| it.code == first.code) => {
                (type_url(&first.code), None)
            }
            // All datatypes have the elements of `Element` in common.
            _ => (type_url("Element"), None),
        };
        let found = match (self.resolve.structure(&canonical), types) {
            (Ok(found), _) => found,
            // A profile that is not at hand, or that is being made just now: its type will do here.
            (Err(ResolveError::NotLoaded | ResolveError::Circle), [only])
                if !only.profile.is_empty() =>
            {
                self.resolve
                    .structure(&type_url(&only.code))
                    .map_err(|_| not_loaded())?
            }
            (Err(_), _) => return Err(not_loaded()),
        };
        let content = Tree::new(copied_from(&found));
        Ok(match part.and_then(|it| content.position(&it)) {
            Some(at) => content
                .elements
                .get(at..content.subtree_end(at))
                .unwrap_or_default()
                .to_vec(),
            None => content.elements,
        })
    }

    /// Puts a copy of what the referenced element holds below an element, which then is of its type.
    fn expand_reference(
        &mut self,
        at: usize,
        element_id: &str,
        path: &str,
        reference: &str,
    ) -> Result<(), Problem> {
        let not_loaded = || Problem::ContentNotLoaded(path.to_owned());
        let (definition, target_id) = reference.split_once('#').ok_or_else(not_loaded)?;
        let elsewhere = if definition.is_empty() || definition == self.url {
            None
        } else {
            let found = self.resolve.structure(definition).ok();
            found.map(|it| Tree::new(copied_from(&it)))
        };
        let source = elsewhere.as_ref().unwrap_or(&self.tree);
        let target = source.position(target_id).ok_or_else(not_loaded)?;
        let types = source.get(target).map(|it| it.types.clone());
        let mut copy = source.copied(target, element_id);
        if copy.is_empty() {
            return Err(not_loaded());
        }
        let old_path = copy.remove(0).path;
        for it in &mut copy {
            renamed(it, "", "", &old_path, path);
        }
        if let Some(element) = self.tree.get_mut(at) {
            element.content_reference = None;
            element.types = types.unwrap_or_default();
        }
        self.tree.insert(at + 1, copy);
        Ok(())
    }

    /// A new element at the end of another's, as a type of its own may add.
    fn add(&mut self, parent: usize, name: &str, element: &ElementDefinition) -> usize {
        let parent_id = self.tree.get(parent).map(id).unwrap_or_default();
        let new_id = format!("{parent_id}.{name}");
        let at = self.tree.group_end(parent);
        let mut new = bare(&new_id, &element.path);
        new.constraint = self.constraints_of_elements(&element.types);
        self.tree.insert(at, vec![new]);
        at
    }

    /// The invariants that hold for every element, whatever its type; those of its type are found there.
    /// What FHIRPath defines and whole resources are no elements in that sense.
    fn constraints_of_elements(&mut self, types: &[TypeRef]) -> Vec<Constraint> {
        let system = "http://hl7.org/fhirpath/System.";
        let is_no_element = |code: &str| code.starts_with(system) || code == "Resource";
        if types.iter().any(|it| is_no_element(&it.code)) {
            return Vec::new();
        }
        let extension = types.iter().any(|it| it.code == "Extension");
        let root = type_url(if extension { "Extension" } else { "Element" });
        let found = self.resolve.structure(&root).ok();
        let root = found.as_ref().and_then(|it| it.snapshot.element.first());
        root.map(|it| it.constraint.clone()).unwrap_or_default()
    }
}

fn bare(id: &str, path: &str) -> ElementDefinition {
    ElementDefinition {
        id: Some(id.to_owned()),
        path: path.to_owned(),
        ..ElementDefinition::default()
    }
}

/// Whether a name is that of a type with its first letter in upper case.
pub(super) fn is_capitalised(name: &str, type_code: &str) -> bool {
    let (mut name, mut code) = (name.chars(), type_code.chars());
    name.next() == code.next().map(|it| it.to_ascii_uppercase()) && name.as_str() == code.as_str()
}

/// Types of R4 are named by their last segment, others by their URL.
fn type_url(code: &str) -> String {
    if code.contains("://") {
        code.to_owned()
    } else {
        format!("{TYPES}{code}")
    }
}
