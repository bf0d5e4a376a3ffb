//! The elements of a snapshot in tree order, found and moved about by their ids.
//!
//! An id is the path with slice names, such as `Observation.component:systolic.code`. It knows nothing
//! of types or rules. Start at [`Tree`].

use std::collections::BTreeMap;

use crate::canonical::ElementDefinition;

/// Elements in tree order; each has an id.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) elements: Vec<ElementDefinition>,
}

/// The id of an element in a tree; the empty text where there is none, which does not happen.
pub(super) fn id(element: &ElementDefinition) -> &str {
    element.id_or_path()
}

impl Tree {
    pub(super) fn new(mut elements: Vec<ElementDefinition>) -> Self {
        let ids = ids(&elements);
        for (element, id) in elements.iter_mut().zip(ids) {
            element.id = Some(id);
        }
        Self { elements }
    }

    /// Gives every path and id another first segment.
    pub(super) fn rename_root(&mut self, name: &str) {
        let Some(old) = self.elements.first().map(|it| it.path.clone()) else {
            return;
        };
        if old == name || name.is_empty() {
            return;
        }
        for element in &mut self.elements {
            renamed(element, &old, name, &old, name);
        }
    }

    pub(super) fn position(&self, wanted: &str) -> Option<usize> {
        self.elements.iter().position(|it| id(it) == wanted)
    }

    pub(super) fn get(&self, at: usize) -> Option<&ElementDefinition> {
        self.elements.get(at)
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut ElementDefinition> {
        self.elements.get_mut(at)
    }

    /// Where what belongs to an element ends: its descendants, without its slices.
    pub(super) fn subtree_end(&self, at: usize) -> usize {
        self.end(at, |rest| rest.starts_with('.'))
    }

    /// Where an element, its descendants and its slices end.
    pub(super) fn group_end(&self, at: usize) -> usize {
        self.end(at, |rest| rest.starts_with(['.', ':', '/']))
    }

    fn end(&self, at: usize, belongs: impl Fn(&str) -> bool) -> usize {
        let Some(start) = self.elements.get(at).map(id) else {
            return at;
        };
        let rest = self.elements.get(at + 1..).unwrap_or_default();
        at + 1
            + rest
                .iter()
                .take_while(|it| id(it).strip_prefix(start).is_some_and(&belongs))
                .count()
    }

    pub(super) fn has_children(&self, at: usize) -> bool {
        self.subtree_end(at) > at + 1
    }

    /// Whether some slice of the element is there.
    pub(super) fn has_slices(&self, at: usize) -> bool {
        self.group_end(at) > self.subtree_end(at)
    }

    /// The elements directly below another, without slices.
    pub(super) fn children(&self, at: usize) -> impl Iterator<Item = (usize, &str)> {
        let start = self.elements.get(at).map(id).unwrap_or_default();
        let end = self.subtree_end(at);
        (at + 1..end).filter_map(move |child| {
            let name = id(self.elements.get(child)?)
                .strip_prefix(start)?
                .strip_prefix('.')?;
            (!name.contains(['.', ':'])).then_some((child, name))
        })
    }

    pub(super) fn insert(&mut self, at: usize, elements: Vec<ElementDefinition>) {
        let at = at.min(self.elements.len());
        self.elements.splice(at..at, elements);
    }

    /// Puts a slice, with what is below it, into the place of the element that it is a slice of.
    pub(super) fn replace(&mut self, sliced: usize, slice: usize) {
        let Some((sliced_id, slice_id)) = self
            .get(sliced)
            .zip(self.get(slice))
            .map(|(a, b)| (id(a).to_owned(), id(b).to_owned()))
        else {
            return;
        };
        let end = self.subtree_end(slice);
        for element in self.elements.get_mut(slice..end).unwrap_or_default() {
            let path = element.path.clone();
            renamed(element, &slice_id, &sliced_id, &path, &path);
        }
        self.elements.remove(sliced);
    }

    /// Copies of an element and of its descendants under another id.
    pub(super) fn copied(&self, at: usize, new_id: &str) -> Vec<ElementDefinition> {
        let Some(first) = self.elements.get(at) else {
            return Vec::new();
        };
        let end = self.subtree_end(at);
        let old_id = id(first).to_owned();
        let path = first.path.clone();
        self.elements
            .get(at..end)
            .unwrap_or_default()
            .iter()
            .map(|it| {
                let mut it = it.clone();
                renamed(&mut it, &old_id, new_id, &path, &path);
                it
            })
            .collect()
    }
}

/// Gives an element another beginning of its id and of its path.
pub(super) fn renamed(
    element: &mut ElementDefinition,
    old_id: &str,
    new_id: &str,
    old_path: &str,
    new_path: &str,
) {
    if let Some(rest) = id(element).strip_prefix(old_id) {
        element.id = Some(format!("{new_id}{rest}"));
    }
    if let Some(rest) = element.path.strip_prefix(old_path) {
        element.path = format!("{new_path}{rest}");
    }
}

/// The ids of elements in tree order. An id that is stated counts where it fits the path; otherwise it
/// follows from the paths and slice names up to there.
pub(super) fn ids(elements: &[ElementDefinition]) -> Vec<String> {
    // The last id under each path, as far as it is still open.
    let mut last: BTreeMap<&str, String> = BTreeMap::new();
    let mut ids = Vec::with_capacity(elements.len());
    for element in elements {
        let stated = element.id.as_deref().filter(|it| {
            let segments = it
                .split('.')
                .map(|it| it.split(':').next().unwrap_or_default());
            segments.eq(element.path.split('.'))
        });
        let id = match stated {
            Some(stated) => stated.to_owned(),
            None => {
                let mut id = match nearest(&last, &element.path) {
                    Some((known, rest)) => format!("{known}{rest}"),
                    None => element.path.clone(),
                };
                if let Some(slice) = &element.slice_name {
                    id.push(':');
                    id.push_str(slice);
                }
                id
            }
        };
        // What stood below an earlier element of this path is closed.
        last.retain(|path, _| {
            path.strip_prefix(element.path.as_str())
                .is_none_or(|rest| !rest.starts_with('.'))
        });
        last.insert(&element.path, id.clone());
        ids.push(id);
    }
    ids
}

/// The id of the nearest element above a path, and what of the path comes after it.
fn nearest<'i, 'p>(last: &'i BTreeMap<&str, String>, path: &'p str) -> Option<(&'i str, &'p str)> {
    path.rmatch_indices('.').find_map(|(dot, _)| {
        let (above, rest) = path.split_at(dot);
        last.get(above).map(|id| (id.as_str(), rest))
    })
}
