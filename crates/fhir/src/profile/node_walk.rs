//! Follows a compiled profile over a value.
//!
//! Start at [`Walk::whole`].

use std::sync::Arc;

use super::pattern::{holds_pattern, is_fixed, shown};
use super::range::{Breach, Measure};
use super::report::Draft;
use super::tree::{ChildName, Node, Profile, ProfileLink, TypeRule};
use super::walk::{Frame, Item, Walk, resource_type};
use crate::definitions::tables::Content;
use crate::finding::id;
use crate::json::{Kind, Value};
use crate::validate::quotable;

impl<'d> Walk<'d> {
    /// Checks a whole resource against a profile; the frame is the resource's own.
    pub(super) fn whole(&mut self, profile: &Arc<Profile>, resource: Value<'d>) {
        self.item_of_profile(profile, Item::of(resource, ""));
    }

    /// Checks a value against a profile and those that it imposes. A resource inside that of the frame is
    /// checked in a frame of its own.
    pub(super) fn item_of_profile(&mut self, profile: &Arc<Profile>, item: Item<'d>) {
        let inner = item
            .value
            .filter(|it| !it.is_same(self.frame.resource) && resource_type(*it).is_some());
        if let Some(inner) = inner {
            let frame = self.frame_of_inner(inner);
            self.within(frame, |walk| walk.item_in_frame(profile, item));
        } else {
            self.item_in_frame(profile, item);
        }
    }

    fn item_in_frame(&mut self, profile: &Arc<Profile>, item: Item<'d>) {
        if let Some(root) = profile.node(profile.root) {
            self.item(profile, root, item);
        }
        for link in &profile.imposed {
            let Some(at) = item.at() else { return };
            if let Some(imposed) = self.follow(link, at)
                && let Some(root) = imposed.node(imposed.root)
            {
                self.item(&imposed, root, item);
            }
        }
    }

    /// Checks the values of one element (or slice) together and one by one.
    pub(super) fn items(
        &mut self,
        profile: &Profile,
        node: &Node,
        items: &[Item<'d>],
        parent: Value<'d>,
    ) {
        let count = items.len();
        if count < node.min as usize {
            let message = if node.min == 1 && count == 0 {
                format!("`{}` must be given", node.label)
            } else {
                format!(
                    "`{}` is needed at least {} times; {count} given",
                    node.label, node.min
                )
            };
            self.report.add(
                parent,
                Draft::error(id::PROFILE_TOO_FEW, message).of_profile(&profile.url),
            );
        }
        if let Some(max) = node.max
            && count > max as usize
        {
            let at = items.get(max as usize).and_then(Item::at).unwrap_or(parent);
            let message = if max == 0 {
                format!("`{}` must not be given", node.label)
            } else {
                format!(
                    "`{}` is allowed at most {max} times; {count} given",
                    node.label
                )
            };
            self.report.add(
                at,
                Draft::error(id::PROFILE_TOO_MANY, message).of_profile(&profile.url),
            );
        }
        if let Some(slicing) = &node.slicing {
            self.slices(profile, node, slicing, items, parent);
        }
        if !node.asks_nothing_of_values() {
            for item in items {
                self.item(profile, node, *item);
            }
        }
    }

    /// Checks one value.
    fn item(&mut self, profile: &Profile, node: &Node, item: Item<'d>) {
        let Some(at) = item.at() else { return };
        if !self.step(at) {
            return;
        }
        if let Some(types) = &node.types {
            self.types(profile, node, types, item);
        }
        if let Some(value) = item.value {
            self.value(profile, node, value);
        } else if node.fixed.is_some() {
            let message = format!("`{}` must have its fixed value", node.label);
            self.report.add(
                at,
                Draft::error(id::PROFILE_FIXED, message).of_profile(&profile.url),
            );
        }
        if let Some(binding) = &node.binding {
            self.bound(binding, item, Some(&profile.url));
        }
        if !node.children.is_empty() {
            // Below a resource that stands in this one, `%resource` is that inner resource.
            let is_inner = item
                .type_use
                .is_some_and(|it| it.content == Content::AnyResource);
            match item.object() {
                Some(object) if is_inner && resource_type(object).is_some() => {
                    let frame = self.frame_of_inner(object);
                    self.within(frame, |walk| walk.children(profile, node, item, at));
                }
                _ => self.children(profile, node, item, at),
            }
        }
        for invariant in &node.invariants {
            self.invariant(invariant, item);
        }
    }

    fn value(&mut self, profile: &Profile, node: &Node, value: Value<'d>) {
        if let Some(fixed) = &node.fixed
            && !is_fixed(value, fixed)
        {
            let message = format!("`{}` must be exactly {}", node.label, shown(fixed));
            self.report.add(
                value,
                Draft::error(id::PROFILE_FIXED, message).of_profile(&profile.url),
            );
        }
        if let Some(pattern) = &node.pattern
            && !holds_pattern(value, pattern)
        {
            let message = format!("`{}` must hold {}", node.label, shown(pattern));
            self.report.add(
                value,
                Draft::error(id::PROFILE_PATTERN, message).of_profile(&profile.url),
            );
        }
        let measure = Measure {
            ucum: self.basis.terminology.ucum(),
            now: self.basis.now,
        };
        let range = node.range.as_ref();
        if let Some(breach) = range.and_then(|it| it.breach(value, &measure)) {
            let (finding_id, message) = match breach {
                Breach::BelowLeast(least) => (
                    id::PROFILE_RANGE,
                    format!("`{}` must not be below {least}", node.label),
                ),
                Breach::AboveGreatest(greatest) => (
                    id::PROFILE_RANGE,
                    format!("`{}` must not be above {greatest}", node.label),
                ),
                Breach::TooLong(most) => (
                    id::PROFILE_MAX_LENGTH,
                    format!("`{}` may have at most {most} characters", node.label),
                ),
            };
            self.report.add(
                value,
                Draft::error(finding_id, message).of_profile(&profile.url),
            );
        }
    }

    /// Goes through the members of an item once, and gives each child its values. Of a primitive, the members
    /// stand in the `_` object, and `value` is the value itself; findings on what is missing are `at` the item.
    fn children(&mut self, profile: &Profile, node: &Node, item: Item<'d>, at: Value<'d>) {
        let mut found: Vec<(u32, Item<'d>)> = Vec::new();
        let mut has_siblings = None;
        let object = item.object();
        let primitive = item.value.filter(|it| it.kind() != Kind::Object);
        if let Some(child) = node.child("value").filter(|_| primitive.is_some()) {
            push_items(&mut found, child, primitive, None);
        }
        for member in object.into_iter().flat_map(Value::children) {
            let Some(key) = member.key() else { continue };
            let (name, is_beside) = match key.strip_prefix('_') {
                Some(name) => (name, true),
                None => (key, false),
            };
            let Some(child) = node.child(name) else {
                continue;
            };
            if is_beside {
                if object.is_some_and(|it| it.get(name).is_none()) {
                    push_items(&mut found, child, None, Some(member));
                }
                continue;
            }
            let members = || object.into_iter().flat_map(Value::children);
            let has_siblings = *has_siblings.get_or_insert_with(|| {
                members().any(|it| it.key().is_some_and(|it| it.starts_with('_')))
            });
            let beside = has_siblings
                .then(|| {
                    members().find(|it| it.key().and_then(|it| it.strip_prefix('_')) == Some(name))
                })
                .flatten();
            push_items(&mut found, child, Some(member), beside);
        }
        let mut items = Vec::new();
        for (place, child) in node.children.iter().enumerate() {
            let Some(child) = profile.node(*child) else {
                continue;
            };
            items.clear();
            items.extend(
                found
                    .iter()
                    .filter(|(it, _)| *it as usize == place)
                    .map(|(_, item)| *item),
            );
            self.items(profile, child, &items, at);
        }
    }

    fn types(&mut self, profile: &Profile, node: &Node, types: &[TypeRule], item: Item<'d>) {
        let Some(at) = item.at() else { return };
        let resource = item.value.filter(|it| it.kind() == Kind::Object);
        let stated = resource.and_then(resource_type);
        let actual = stated.unwrap_or(item.type_code);
        let rule = types.iter().find(|it| {
            *it.code == *actual
                || stated.is_some() && matches!(&*it.code, "Resource" | "DomainResource")
        });
        let Some(rule) = rule else {
            if !actual.is_empty() {
                let allowed: Vec<&str> = types.iter().map(|it| &*it.code).collect();
                let message = format!(
                    "`{}` must not be of type {}; allowed: {}",
                    node.label,
                    quotable(actual),
                    allowed.join(", ")
                );
                self.report.add(
                    at,
                    Draft::error(id::PROFILE_TYPE, message).of_profile(&profile.url),
                );
            }
            return;
        };
        if !rule.profiles.is_empty() {
            self.one_of(profile, node, &rule.profiles, item);
        }
        if rule.asks_of_references() {
            self.reference(profile, node, rule, item);
        }
    }

    /// The frame of a resource inside the current one, as far as profiles need it.
    pub(super) fn frame_of_inner(&self, resource: Value<'d>) -> Frame<'d> {
        let outer = self.frame.resource;
        if resource_type(outer) == Some("Bundle") {
            return self.resolver.entry_frame(outer, resource).unwrap_or(Frame {
                bundle: Some(outer),
                ..Frame::of(resource)
            });
        }
        let is_contained = outer
            .get("contained")
            .into_iter()
            .flat_map(Value::children)
            .any(|it| it.is_same(resource));
        if is_contained {
            return Frame {
                resource,
                ..self.frame
            };
        }
        self.frame
            .bundle
            .and_then(|it| self.resolver.entry_frame(it, resource))
            .unwrap_or(Frame::of(resource))
    }

    /// Checks a value against a profile, or the element of it that the link names.
    fn item_of_link(&mut self, profile: &Arc<Profile>, link: &ProfileLink, item: Item<'d>) {
        match &link.element {
            None => self.item_of_profile(profile, item),
            Some(element) => {
                if let Some(node) = profile.node_of(element) {
                    self.item(profile, node, item);
                }
            }
        }
    }

    fn conforms_to_link(
        &mut self,
        profile: &Arc<Profile>,
        link: &ProfileLink,
        item: Item<'d>,
    ) -> bool {
        if link.element.is_none() {
            return self.conforms(profile, item);
        }
        let mark = self.report.mark();
        self.item_of_link(profile, link, item);
        let conforms = !self.report.has_errors_since(mark);
        self.report.forget_since(mark);
        conforms
    }

    /// A value must conform to one of the profiles.
    fn one_of(&mut self, profile: &Profile, node: &Node, links: &[ProfileLink], item: Item<'d>) {
        let Some(at) = item.at() else { return };
        if let [link] = links {
            if let Some(demanded) = self.follow(link, at) {
                self.item_of_link(&demanded, link, item);
            }
            return;
        }
        let mut all_known = true;
        for link in links {
            match self.basis.profiles.follow(link) {
                Some(candidate) if self.conforms_to_link(&candidate, link, item) => return,
                Some(_) => {}
                None => all_known = false,
            }
        }
        if !all_known {
            for link in links {
                self.follow(link, at);
            }
            return;
        }
        let urls: Vec<&str> = links.iter().map(|it| &*it.url).collect();
        let message = format!(
            "`{}` must conform to one of: {}",
            node.label,
            urls.join(", ")
        );
        self.report.add(
            at,
            Draft::error(id::PROFILE_VALUE, message).of_profile(&profile.url),
        );
    }
}

/// Adds the values of a member: one, or each of a list, with what stands beside.
fn push_items<'d>(
    found: &mut Vec<(u32, Item<'d>)>,
    child: &ChildName,
    value: Option<Value<'d>>,
    beside: Option<Value<'d>>,
) {
    let is_list = |it: Option<Value<'d>>| it.is_some_and(|it| it.kind() == Kind::Array);
    if !is_list(value) && !is_list(beside) {
        let item = Item {
            value: value.filter(|it| it.kind() != Kind::Null),
            beside,
            type_use: child.type_use,
            type_code: child.type_code,
        };
        found.push((child.place, item));
        return;
    }
    let mut values = value.map(Value::children);
    let mut besides = beside.map(Value::children);
    loop {
        let value = values.as_mut().and_then(Iterator::next);
        let beside = besides.as_mut().and_then(Iterator::next);
        if value.is_none() && beside.is_none() {
            return;
        }
        let item = Item {
            value: value.filter(|it| it.kind() != Kind::Null),
            beside: beside.filter(|it| it.kind() != Kind::Null),
            type_use: child.type_use,
            type_code: child.type_code,
        };
        found.push((child.place, item));
    }
}
