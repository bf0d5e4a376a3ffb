//! Turns the discriminators of a slicing into direct tests, one list for each slice.
//!
//! A discriminator's path is a small part of FHIRPath: names, `$this`, `extension('url')`, `ofType(T)` and
//! `resolve()`. What a slice expects at the end of it stands at the element there, at an element on the
//! way (as part of a larger fixed or pattern value), below it, or in a profile that a type names.
//! Start at [`matcher`]; the tests are run by [`super::slicing`].
//!
//! # Source
//! FHIR R4, <https://hl7.org/fhir/R4/profiling.html#discriminator>.

use std::sync::Arc;

use serde_json::Value as Json;

use super::binding::BindingRule;
use super::snapshot_tree::{SnapshotTree, last_name, stated, type_code};
use super::store::Profiles;
use super::tree::{Expected, Matcher, ProfileLink, Step, Test};
use crate::canonical::{ElementDefinition, Slicing};

/// Most profiles followed on the way of one discriminator.
const PROFILES_FOLLOWED_MAX: usize = 8;
/// Most levels looked through below the end of a path for fixed values.
const LEVELS_BELOW_MAX: usize = 6;
/// Most steps of one path.
const STEPS_MAX: usize = 32;

/// The tests for the slice at `place` of the sliced element.
pub(super) fn matcher(
    profiles: &Profiles,
    tree: &Arc<SnapshotTree>,
    sliced: &ElementDefinition,
    place: usize,
) -> Matcher {
    let implied;
    let slicing = match &sliced.slicing {
        Some(slicing) if !slicing.discriminator.is_empty() => slicing,
        _ => {
            implied = implied_slicing(sliced);
            &implied
        }
    };
    let mut tests = Vec::new();
    for it in &slicing.discriminator {
        let Some(steps) = parse(&it.path) else {
            return Matcher::Undecidable;
        };
        let mut search = Search {
            profiles,
            kind: &it.kind,
            tests: Vec::new(),
            followed: 0,
        };
        search.from(tree, place, &steps, &steps);
        tests.append(&mut search.tests);
    }
    if tests.is_empty() {
        Matcher::Undecidable
    } else {
        Matcher::All(tests)
    }
}

/// What tells slices apart where the snapshot does not say: choices by type, extensions by URL.
fn implied_slicing(sliced: &ElementDefinition) -> Slicing {
    let (kind, path) = if last_name(sliced).ends_with("[x]") {
        ("type", "$this")
    } else if sliced.types.iter().any(|it| it.code == "Extension") {
        ("value", "url")
    } else {
        return Slicing::default();
    };
    Slicing {
        discriminator: vec![crate::canonical::Discriminator {
            kind: kind.to_owned(),
            path: path.to_owned(),
        }],
        ..Slicing::default()
    }
}

/// The steps of a discriminator's path; `None` if it is more than the subset that discriminators may use.
fn parse(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = path.trim();
    while !rest.is_empty() {
        if steps.len() == STEPS_MAX {
            return None;
        }
        // A step ends at the next dot outside parentheses.
        let mut depth = 0_u32;
        let end = rest
            .char_indices()
            .find(|(_, c)| {
                match c {
                    '(' => depth += 1,
                    ')' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                *c == '.' && depth == 0
            })
            .map_or(rest.len(), |(at, _)| at);
        let (step, tail) = rest.split_at_checked(end)?;
        rest = tail.strip_prefix('.').unwrap_or(tail);
        let argument = |name: &str| {
            step.strip_prefix(name)?
                .strip_prefix('(')?
                .strip_suffix(')')
        };
        if step == "$this" {
            continue;
        }
        steps.push(if step == "resolve()" {
            Step::Resolve
        } else if let Some(url) = argument("extension") {
            Step::Extension(url.trim_matches(['\'', '"']).into())
        } else if let Some(type_name) = argument("ofType") {
            let name = type_name.trim();
            Step::OfType(name.strip_prefix("FHIR.").unwrap_or(name).into())
        } else if step.contains(['(', ')', ' ', '=']) {
            return None;
        } else {
            Step::Child(step.strip_suffix("[x]").unwrap_or(step).into())
        });
    }
    Some(steps)
}

/// The URL that an extension slice is for: that of its profile, or the fixed one.
pub(super) fn extension_url(tree: &SnapshotTree, slice: usize) -> Option<String> {
    let element = tree.element(slice)?;
    let of_profile = element
        .types
        .iter()
        .flat_map(|it| &it.profile)
        .map(|it| crate::canonical::split_version(it).0.to_owned())
        .next();
    of_profile.or_else(|| {
        let url = tree.element(tree.child(slice, "url")?)?;
        match stated(url, "fixed").or_else(|| stated(url, "pattern"))? {
            Json::String(url) => Some(url),
            _ => None,
        }
    })
}

struct Search<'c> {
    profiles: &'c Profiles,
    kind: &'c str,
    tests: Vec<Test>,
    followed: usize,
}

impl Search<'_> {
    fn is_by_value(&self) -> bool {
        matches!(self.kind, "value" | "pattern")
    }

    fn expect(&mut self, path: &[Step], expected: Expected) {
        self.tests.push(Test {
            path: path.into(),
            expected,
        });
    }

    /// Follows `steps` from the element; `path` is the whole path. Recursion is bounded by the steps and by
    /// [`PROFILES_FOLLOWED_MAX`].
    fn from(&mut self, tree: &Arc<SnapshotTree>, at: usize, steps: &[Step], path: &[Step]) {
        let Some(element) = tree.element(at) else {
            return;
        };
        let Some((step, rest)) = steps.split_first() else {
            self.end(tree, at, path, 0);
            return;
        };
        if self.is_by_value()
            && let Some(whole) = stated(element, "fixed").or_else(|| stated(element, "pattern"))
        {
            let mut parts = Vec::new();
            part_of(&whole, steps, &mut parts);
            for part in &parts {
                self.expect(path, Expected::Pattern((*part).clone()));
            }
            if !parts.is_empty() {
                return;
            }
        }
        match step {
            Step::Child(name) if &**name == "url" && rest.is_empty() && self.is_by_value() => {
                if element.types.iter().any(|it| it.code == "Extension") {
                    if let Some(url) = extension_url(tree, at) {
                        self.expect(path, Expected::Fixed(Json::String(url)));
                    }
                } else {
                    self.child(tree, at, name, rest, path);
                }
            }
            Step::Child(name) => self.child(tree, at, name, rest, path),
            Step::Extension(url) => {
                let slice = tree.child(at, "extension").and_then(|extension| {
                    tree.slices(extension)
                        .iter()
                        .copied()
                        .find(|slice| extension_url(tree, *slice).as_deref() == Some(&**url))
                });
                match slice {
                    Some(slice) if self.kind == "exists" && rest.is_empty() => {
                        self.end(tree, slice, path, 0);
                    }
                    Some(slice) => {
                        let before = self.tests.len();
                        self.from(tree, slice, rest, path);
                        if self.tests.len() == before {
                            self.follow_profiles(tree, slice, rest, path);
                        }
                    }
                    None => self.follow_profiles(tree, at, steps, path),
                }
            }
            Step::OfType(wanted) => {
                let slice = tree.slices(at).iter().copied().find(|slice| {
                    tree.element(*slice)
                        .is_some_and(|it| it.types.iter().any(|it| type_code(it) == &**wanted))
                });
                self.from(tree, slice.unwrap_or(at), rest, path);
            }
            Step::Resolve => self.resolved(element, rest, path),
        }
    }

    fn child(
        &mut self,
        tree: &Arc<SnapshotTree>,
        at: usize,
        name: &str,
        rest: &[Step],
        path: &[Step],
    ) {
        let Some(child) = tree.child(at, name) else {
            let referenced = tree
                .element(at)
                .and_then(|it| it.content_reference.as_deref())
                .and_then(|it| tree.referenced(it.split_once('#')?.1));
            match referenced {
                Some(referenced) if self.followed < PROFILES_FOLLOWED_MAX => {
                    self.followed += 1;
                    self.child(tree, referenced, name, rest, path);
                }
                _ => {
                    let mut steps = vec![Step::Child(name.into())];
                    steps.extend_from_slice(rest);
                    self.follow_profiles(tree, at, &steps, path);
                }
            }
            return;
        };
        // Where the child is itself sliced, what its obligatory slices state is more than what it states.
        let before = self.tests.len();
        for slice in tree.slices(child) {
            if tree
                .element(*slice)
                .is_some_and(|it| it.min.unwrap_or_default() > 0)
            {
                self.from(tree, *slice, rest, path);
            }
        }
        if self.tests.len() == before {
            self.from(tree, child, rest, path);
        }
    }

    /// Looks for the rest of the way in the profile that the element's type names.
    fn follow_profiles(
        &mut self,
        tree: &Arc<SnapshotTree>,
        at: usize,
        steps: &[Step],
        path: &[Step],
    ) {
        let Some(element) = tree.element(at) else {
            return;
        };
        let urls: Vec<&String> = element.types.iter().flat_map(|it| &it.profile).collect();
        if let [url] = urls.as_slice() {
            self.follow_profile(url, steps, path);
        }
    }

    fn follow_profile(&mut self, url: &str, steps: &[Step], path: &[Step]) {
        if self.followed >= PROFILES_FOLLOWED_MAX {
            return;
        }
        self.followed += 1;
        if let Some(definition) = self.profiles.definition(url) {
            let tree = Arc::new(SnapshotTree::of(definition));
            self.from(&tree, 0, steps, path);
        }
    }

    fn resolved(&mut self, element: &ElementDefinition, rest: &[Step], path: &[Step]) {
        let targets: Vec<&String> = element
            .types
            .iter()
            .flat_map(|it| &it.target_profile)
            .collect();
        if targets.is_empty() {
            return;
        }
        match (self.kind, rest) {
            ("type", []) => {
                let names = targets
                    .iter()
                    .filter_map(|it| self.profiles.type_of(it))
                    .collect();
                self.expect(path, Expected::Types(names));
            }
            ("profile", []) => {
                let links = targets.iter().map(|it| ProfileLink::new(it)).collect();
                self.expect(path, Expected::Profiles(links));
            }
            _ => {
                if let [target] = targets.as_slice() {
                    self.follow_profile(target, rest, path);
                }
            }
        }
    }

    /// What is expected at the element at the end of the path.
    fn end(&mut self, tree: &Arc<SnapshotTree>, at: usize, path: &[Step], levels: usize) {
        let Some(element) = tree.element(at) else {
            return;
        };
        let is_obligatory = element.min.unwrap_or_default() > 0;
        match self.kind {
            "exists" => {
                if element.max.as_deref() == Some("0") {
                    self.expect(path, Expected::Absent);
                } else if is_obligatory {
                    self.expect(path, Expected::Present);
                }
            }
            "type" => {
                let names: Vec<Box<str>> = element
                    .types
                    .iter()
                    .map(|it| type_code(it).into())
                    .collect();
                if !names.is_empty() {
                    self.expect(path, Expected::Types(names));
                }
            }
            "profile" => {
                let links: Vec<ProfileLink> = element
                    .types
                    .iter()
                    .flat_map(|it| &it.profile)
                    .map(|it| ProfileLink::new(it))
                    .collect();
                if !links.is_empty() {
                    self.expect(path, Expected::Profiles(links));
                }
            }
            _ => self.end_by_value(tree, at, path, levels),
        }
    }

    fn end_by_value(&mut self, tree: &Arc<SnapshotTree>, at: usize, path: &[Step], levels: usize) {
        let Some(element) = tree.element(at) else {
            return;
        };
        if let Some(fixed) = stated(element, "fixed") {
            self.expect(path, Expected::Fixed(fixed));
            return;
        }
        if let Some(pattern) = stated(element, "pattern") {
            self.expect(path, Expected::Pattern(pattern));
            return;
        }
        let before = self.tests.len();
        if levels < LEVELS_BELOW_MAX {
            for child in tree.children(at) {
                let is_obligatory = |at: usize| {
                    tree.element(at)
                        .is_some_and(|it| it.min.unwrap_or_default() > 0)
                };
                let Some(name) = tree.element(*child).map(last_name) else {
                    continue;
                };
                let mut below = path.to_vec();
                below.push(Step::Child(name.strip_suffix("[x]").unwrap_or(name).into()));
                for slice in tree.slices(*child).iter().filter(|it| is_obligatory(**it)) {
                    self.end_by_value(tree, *slice, &below, levels + 1);
                }
                if is_obligatory(*child) {
                    self.end_by_value(tree, *child, &below, levels + 1);
                }
            }
        }
        if self.tests.len() > before || levels > 0 {
            return;
        }
        let is_required = element
            .binding
            .as_ref()
            .is_some_and(|it| it.strength == "required");
        let binding = is_required.then(|| BindingRule::of(element)).flatten();
        if let Some(binding) = binding {
            self.expect(path, Expected::Bound(Box::new(binding)));
            return;
        }
        self.follow_profiles(tree, at, &[], path);
        if self.tests.len() == before && !path.is_empty() && element.min.unwrap_or_default() > 0 {
            self.expect(path, Expected::Present);
        }
    }
}

/// The parts of a fixed or pattern value that a path leads to; nothing for paths beyond names.
fn part_of<'j>(whole: &'j Json, steps: &[Step], found: &mut Vec<&'j Json>) {
    if let Json::Array(items) = whole {
        for item in items {
            part_of(item, steps, found);
        }
        return;
    }
    match steps.split_first() {
        None => found.push(whole),
        Some((Step::Child(name), rest)) => {
            if let Some(part) = whole.get(&**name) {
                part_of(part, rest, found);
            }
        }
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_paths_of_discriminators() {
        let child = |name: &str| Step::Child(name.into());
        for (path, expected) in [
            ("$this", Some(vec![])),
            ("", Some(vec![])),
            (
                "code.coding.code",
                Some(vec![child("code"), child("coding"), child("code")]),
            ),
            ("$this.resolve()", Some(vec![Step::Resolve])),
            (
                "extension('http://x.org/a').value",
                Some(vec![
                    Step::Extension("http://x.org/a".into()),
                    child("value"),
                ]),
            ),
            (
                "value.ofType(Quantity)",
                Some(vec![child("value"), Step::OfType("Quantity".into())]),
            ),
            ("value[x]", Some(vec![child("value")])),
            ("code.where(x = 'y')", None),
            ("a = b", None),
        ] {
            assert_eq!(parse(path), expected, "{path}");
        }
    }
}
