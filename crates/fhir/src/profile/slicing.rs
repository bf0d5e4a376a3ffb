//! Assigns values to slices, and checks what holds for slices together.
//!
//! Start at [`Walk::slices`].
//!
//! # Source
//! FHIR R4, <https://hl7.org/fhir/R4/profiling.html#slicing>.

use super::pattern::{holds_pattern, is_fixed};
use super::report::Draft;
use super::tree::{Expected, Matcher, Node, Profile, Slicing, SlicingRules, Step};
use super::walk::{Item, Walk, resource_type};
use crate::finding::{Severity, id};
use crate::json::{Kind, Value};

impl<'d> Walk<'d> {
    pub(super) fn slices(
        &mut self,
        profile: &Profile,
        node: &Node,
        slicing: &Slicing,
        items: &[Item<'d>],
        parent: Value<'d>,
    ) {
        let mut undecided = Vec::new();
        let assigned: Vec<Option<usize>> = items
            .iter()
            .map(|item| {
                slicing
                    .slices
                    .iter()
                    .enumerate()
                    .position(|(index, slice)| match self.matches(&slice.matcher, *item) {
                        Some(answer) => answer,
                        None => {
                            undecided.push(index);
                            false
                        }
                    })
            })
            .collect();
        let mut own = Vec::new();
        for (index, slice) in slicing.slices.iter().enumerate() {
            let Some(slice_node) = slice.node.and_then(|it| profile.node(it)) else {
                continue;
            };
            if matches!(slice.matcher, Matcher::Undecidable) || undecided.contains(&index) {
                if slice_node.min > 0 || !items.is_empty() {
                    let message = format!(
                        "it cannot be decided which values belong to the slice `{}` of `{}`, so it was not checked",
                        slice.name, node.label
                    );
                    self.report.add(
                        parent,
                        Draft::new(id::PROFILE_NOT_CHECKED, Severity::Information, message)
                            .of_profile(&profile.url),
                    );
                }
                continue;
            }
            collect(items, &assigned, Some(index), &mut own);
            self.items(profile, slice_node, &own, parent);
        }
        if let Some(default) = slicing.default.and_then(|it| profile.node(it)) {
            collect(items, &assigned, None, &mut own);
            self.items(profile, default, &own, parent);
        }
        self.rules(
            profile,
            node,
            slicing,
            items,
            &assigned,
            undecided.is_empty(),
        );
    }

    /// Closed, open at the end, ordered.
    fn rules(
        &mut self,
        profile: &Profile,
        node: &Node,
        slicing: &Slicing,
        items: &[Item<'d>],
        assigned: &[Option<usize>],
        all_decided: bool,
    ) {
        let is_decidable = all_decided
            && slicing
                .slices
                .iter()
                .all(|it| matches!(it.matcher, Matcher::All(_)));
        let mut last = 0;
        let mut outsider: Option<Item<'d>> = None;
        for (item, slice) in items.iter().zip(assigned) {
            let Some(at) = item.at() else { continue };
            match slice {
                None if slicing.rules == SlicingRules::Closed
                    && slicing.default.is_none()
                    && is_decidable =>
                {
                    let names: Vec<&str> = slicing.slices.iter().map(|it| &*it.name).collect();
                    let message = format!(
                        "the value belongs to no slice of `{}`, and others are not allowed; slices: {}",
                        node.label,
                        names.join(", ")
                    );
                    self.report.add(
                        at,
                        Draft::error(id::PROFILE_SLICE_CLOSED, message).of_profile(&profile.url),
                    );
                }
                None => outsider = outsider.or(Some(*item)),
                Some(slice) => {
                    if slicing.is_ordered && *slice < last {
                        let message = format!(
                            "the slices of `{}` must be in their order; `{}` comes too late",
                            node.label,
                            slicing.slices.get(*slice).map_or("", |it| &it.name)
                        );
                        self.report.add(
                            at,
                            Draft::error(id::PROFILE_SLICE_ORDER, message).of_profile(&profile.url),
                        );
                    }
                    last = last.max(*slice);
                    if slicing.rules == SlicingRules::OpenAtEnd
                        && let Some(at) = outsider.take().and_then(|it| it.at())
                    {
                        let message = format!(
                            "values that belong to no slice of `{}` must come after all others",
                            node.label
                        );
                        self.report.add(
                            at,
                            Draft::error(id::PROFILE_SLICE_ORDER, message).of_profile(&profile.url),
                        );
                    }
                }
            }
        }
    }

    /// Whether the value belongs to the slice; `None` if that cannot be decided.
    fn matches(&mut self, matcher: &Matcher, item: Item<'d>) -> Option<bool> {
        let Matcher::All(tests) = matcher else {
            return Some(false);
        };
        let mut answer = Some(true);
        for test in tests {
            let mut is_undecided = false;
            let passes = match &test.expected {
                Expected::Absent => {
                    !self.leads_to(item, &test.path, &Expected::Present, &mut is_undecided)
                }
                expected => self.leads_to(item, &test.path, expected, &mut is_undecided),
            };
            match (passes, is_undecided) {
                (true, _) => {}
                (false, true) => answer = None,
                (false, false) => return Some(false),
            }
        }
        answer
    }

    /// Whether some value at the end of the path is as expected. Recursion is bounded by the path.
    fn leads_to(
        &mut self,
        item: Item<'d>,
        path: &[Step],
        expected: &Expected,
        undecided: &mut bool,
    ) -> bool {
        let Some((step, rest)) = path.split_first() else {
            return self.is_expected(item, expected, undecided);
        };
        match step {
            Step::Child(name) => {
                let Some(object) = item.object() else {
                    return false;
                };
                for member in object.children() {
                    let Some(key) = member.key() else { continue };
                    let (stem, is_beside) = match key.strip_prefix('_') {
                        Some(stem) => (stem, true),
                        None => (key, false),
                    };
                    let Some(type_code) = self.type_under(name, stem) else {
                        continue;
                    };
                    if is_beside && object.get(stem).is_some() {
                        continue;
                    }
                    let items: &mut dyn Iterator<Item = Value<'d>> = if member.kind() == Kind::Array
                    {
                        &mut member.children()
                    } else {
                        &mut std::iter::once(member)
                    };
                    for value in items.filter(|it| it.kind() != Kind::Null) {
                        let (value, beside) = if is_beside {
                            (None, Some(value))
                        } else {
                            (Some(value), None)
                        };
                        let below = Item {
                            value,
                            beside,
                            type_use: None,
                            type_code,
                        };
                        if self.leads_to(below, rest, expected, undecided) {
                            return true;
                        }
                    }
                }
                false
            }
            Step::Extension(url) => item
                .object()
                .and_then(|it| it.get("extension"))
                .into_iter()
                .flat_map(Value::children)
                .filter(|it| it.get("url").and_then(Value::as_str) == Some(url))
                .any(|it| self.leads_to(Item::of(it, "Extension"), rest, expected, undecided)),
            Step::OfType(wanted) => {
                self.type_of(item) == &**wanted && self.leads_to(item, rest, expected, undecided)
            }
            Step::Resolve => {
                let reference = item.value.and_then(|it| match it.kind() {
                    Kind::Object => it.get("reference")?.as_str(),
                    _ => it.as_str(),
                });
                let target = reference.and_then(|it| self.resolver.resolve(it, &self.frame));
                match target {
                    Some(target) => self.within(target.frame, |walk| {
                        walk.leads_to(Item::of(target.value, ""), rest, expected, undecided)
                    }),
                    // What the reference itself says of its target decides types.
                    None => match (rest, expected, item.value) {
                        ([], Expected::Types(types), Some(value)) => self
                            .stated_target_type(value)
                            .is_some_and(|it| types.iter().any(|type_name| **type_name == *it)),
                        _ => false,
                    },
                }
            }
        }
    }

    /// The type of what stands under a JSON name, if that is the name of the element (or of one of the
    /// types of a choice); empty if the type is not known from the name.
    fn type_under(&self, element: &str, json_name: &str) -> Option<&'static str> {
        let rest = json_name.strip_prefix(element)?;
        if rest.is_empty() {
            return Some("");
        }
        rest.starts_with(|it: char| it.is_ascii_uppercase())
            .then(|| self.basis.profiles.type_of_suffix(rest))?
    }

    /// The type of a value: what a resource states, or what its name said.
    pub(super) fn type_of(&self, item: Item<'d>) -> &'d str {
        item.value
            .filter(|it| it.kind() == Kind::Object)
            .and_then(resource_type)
            .unwrap_or(item.type_code)
    }

    fn is_expected(&mut self, item: Item<'d>, expected: &Expected, undecided: &mut bool) -> bool {
        match (expected, item.value) {
            (Expected::Present, _) => true,
            (Expected::Fixed(fixed), Some(value)) => is_fixed(value, fixed),
            (Expected::Pattern(pattern), Some(value)) => holds_pattern(value, pattern),
            (Expected::Types(types), _) => {
                let own = self.type_of(item);
                types.iter().any(|it| {
                    **it == *own
                        || matches!(&**it, "Resource" | "DomainResource")
                            && item.value.is_some_and(|it| resource_type(it).is_some())
                })
            }
            (Expected::Profiles(links), _) => links.iter().any(|link| {
                self.basis
                    .profiles
                    .follow(link)
                    .is_some_and(|profile| self.conforms(&profile, item))
            }),
            (Expected::Bound(binding), _) => match self.is_bound(binding, item) {
                Some(answer) => answer,
                None => {
                    *undecided = true;
                    false
                }
            },
            (Expected::Absent | Expected::Fixed(_) | Expected::Pattern(_), _) => false,
        }
    }
}

fn collect<'d>(
    items: &[Item<'d>],
    assigned: &[Option<usize>],
    slice: Option<usize>,
    into: &mut Vec<Item<'d>>,
) {
    into.clear();
    into.extend(
        items
            .iter()
            .zip(assigned)
            .filter(|(_, assigned)| **assigned == slice)
            .map(|(item, _)| *item),
    );
}
