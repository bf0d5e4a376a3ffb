//! Follows the base definitions over a resource: invariants, bindings, extensions, references.
//!
//! Start at [`Walk::base_resource`]. The depth of the text is bounded by its reader, and so is recursion here.

use super::report::Draft;
use super::walk::{Frame, Item, Walk};
use crate::definitions::tables::{Content, NodeRule, Span, TypeUse};
use crate::finding::id;
use crate::json::{Kind, Value};
use crate::validate::quotable;

/// Where the walk is: a value and the way to it from its resource.
pub(super) struct Place<'p, 'd> {
    pub(super) parent: Option<&'p Place<'p, 'd>>,
    pub(super) value: Value<'d>,
    /// Node of the definitions that describes the value.
    pub(super) node: u32,
    /// Name of the element without `[x]`; empty for a resource.
    pub(super) element: &'static str,
    pub(super) type_code: &'static str,
    /// Whether the value is the `_` object beside a primitive value, and so need not hold anything itself.
    pub(super) has_value_beside: bool,
}

impl<'d> Walk<'d> {
    /// Checks a resource (in its own frame) against the rules of its type.
    pub(super) fn base_resource(
        &mut self,
        resource: Value<'d>,
        node: u32,
        type_code: &'static str,
    ) {
        let place = Place {
            parent: None,
            value: resource,
            node,
            element: "",
            type_code,
            has_value_beside: false,
        };
        self.base_object(resource, &place, Span::default());
    }

    fn base_object(&mut self, object: Value<'d>, place: &Place<'_, 'd>, targets: Span) {
        if object.kind() != Kind::Object || !self.step(object) {
            return;
        }
        let definitions = self.basis.profiles.definitions;
        let profiles = self.basis.profiles;
        let node = definitions.node(place.node);
        let Some(rules) = profiles.base_rules(place.node) else {
            return;
        };
        if !rules.invariants.is_empty() {
            let item = Item::of(object, place.type_code);
            for invariant in &rules.invariants {
                self.invariant(invariant, item);
            }
        }
        match node.rule {
            NodeRule::Extension => self.extension(object, place),
            NodeRule::Reference => {
                self.target_at_hand(object, targets);
                if self.basis.options.references_resolve {
                    self.must_resolve(object);
                }
            }
            NodeRule::Coding => self.coding(object),
            NodeRule::None
            | NodeRule::Resource
            | NodeRule::CodeableConcept
            | NodeRule::Narrative => {}
        }
        let mut has_more_than_id = false;
        for member in object.children() {
            let Some(key) = member.key() else { continue };
            has_more_than_id |= key != "id";
            let (stem, is_beside) = match key.strip_prefix('_') {
                Some(stem) => (stem, true),
                None => (key, false),
            };
            let Some(name) = definitions.name(node, stem) else {
                continue;
            };
            let element = definitions.element(name.element);
            let element_rules = rules
                .elements
                .get((name.element - node.elements.start) as usize);
            let type_use = definitions.type_use(name.type_use);
            let below = Below {
                parent: object,
                element: definitions.text(element.name),
                type_use,
                rules: element_rules,
            };
            match type_use.content {
                Content::Primitive(_) if is_beside => self.base_beside(member, stem, place, &below),
                Content::Primitive(_) => self.base_primitive(member, stem, &below),
                Content::Node(next) => {
                    each(member, |value| {
                        self.base_complex(value, next, place, &below)
                    });
                }
                Content::AnyResource => {
                    let is_entry = definitions.text(node.path) == "Bundle.entry";
                    each(member, |value| self.inner_resource(value, is_entry, &below));
                }
            }
        }
        if !has_more_than_id && node.rule != NodeRule::Resource && !place.has_value_beside {
            let message = "an element must have a value or children (ele-1); only an id is given";
            self.report.add(
                object,
                Draft::error(id::INVARIANT, message.to_owned()).of_constraint("ele-1"),
            );
        }
    }

    fn base_complex(
        &mut self,
        value: Value<'d>,
        node: u32,
        parent: &Place<'_, 'd>,
        below: &Below<'_, 'd>,
    ) {
        let type_code = self.basis.profiles.definitions.text(below.type_use.code);
        let item = Item {
            type_use: Some(below.type_use),
            ..Item::of(value, type_code)
        };
        self.element_rules(item, below);
        let place = Place {
            parent: Some(parent),
            value,
            node,
            element: below.element,
            type_code,
            has_value_beside: false,
        };
        if matches!(
            type_code,
            "Quantity" | "SimpleQuantity" | "Age" | "Duration" | "Count" | "Distance"
        ) {
            self.unit(value);
        }
        self.base_object(value, &place, below.type_use.targets);
    }

    fn element_rules(&mut self, item: Item<'d>, below: &Below<'_, 'd>) {
        let Some(rules) = below.rules else { return };
        for invariant in &rules.invariants {
            self.invariant(invariant, item);
        }
        if let Some(binding) = &rules.binding {
            self.bound(binding, item, None);
        }
    }

    fn base_primitive(&mut self, member: Value<'d>, stem: &str, below: &Below<'_, 'd>) {
        if below
            .rules
            .is_none_or(|it| it.invariants.is_empty() && it.binding.is_none())
        {
            return;
        }
        let type_code = self.basis.profiles.definitions.text(below.type_use.code);
        let beside = below
            .parent
            .children()
            .find(|it| it.key().and_then(|it| it.strip_prefix('_')) == Some(stem));
        if member.kind() == Kind::Array {
            let mut besides = beside.map(Value::children);
            for value in member.children() {
                let item = Item {
                    value: Some(value).filter(|it| it.kind() != Kind::Null),
                    beside: besides
                        .as_mut()
                        .and_then(Iterator::next)
                        .filter(|it| it.kind() != Kind::Null),
                    type_use: Some(below.type_use),
                    type_code,
                };
                self.element_rules(item, below);
            }
        } else {
            let item = Item {
                value: Some(member),
                beside,
                type_use: Some(below.type_use),
                type_code,
            };
            self.element_rules(item, below);
        }
    }

    /// The `_` object beside a primitive: its extensions, and its element's rules if there is no value.
    fn base_beside(
        &mut self,
        member: Value<'d>,
        stem: &str,
        parent: &Place<'_, 'd>,
        below: &Below<'_, 'd>,
    ) {
        let type_code = self.basis.profiles.definitions.text(below.type_use.code);
        let value = below.parent.get(stem);
        let has_value = value.is_some();
        let mut values = value
            .filter(|it| it.kind() == Kind::Array)
            .map(Value::children);
        let node = self.basis.profiles.definitions.tables.element_node;
        each(member, |beside| {
            let own = match &mut values {
                Some(values) => values.next(),
                None => value,
            };
            if !has_value {
                let item = Item {
                    value: None,
                    beside: Some(beside),
                    type_use: Some(below.type_use),
                    type_code,
                };
                self.element_rules(item, below);
            }
            let place = Place {
                parent: Some(parent),
                value: beside,
                node,
                element: below.element,
                type_code,
                has_value_beside: own.is_some_and(|it| it.kind() != Kind::Null),
            };
            self.base_object(beside, &place, Span::default());
        });
    }

    /// A resource inside another, in a frame of its own.
    fn inner_resource(&mut self, value: Value<'d>, is_entry: bool, below: &Below<'_, 'd>) {
        let frame = if is_entry {
            Frame {
                bundle: Some(self.frame.resource),
                full_url: below.parent.get("fullUrl").and_then(Value::as_str),
                ..Frame::of(value)
            }
        } else if below.element == "contained" {
            Frame {
                resource: value,
                ..self.frame
            }
        } else {
            Frame {
                bundle: self.frame.bundle,
                full_url: self.frame.full_url,
                ..Frame::of(value)
            }
        };
        self.within(frame, |walk| walk.resource(value, &[]));
    }

    /// The type of what a reference points to, if that is at hand; types that the reference itself states
    /// are checked with the structure.
    fn target_at_hand(&mut self, reference: Value<'d>, targets: Span) {
        let definitions = self.basis.profiles.definitions;
        let targets = definitions.targets(targets);
        if targets.is_empty() || !self.resolver.has_surroundings(&self.frame) {
            return;
        }
        let Some(text) = reference.get("reference") else {
            return;
        };
        let is_stated =
            |it: &str| it.starts_with('#') || self.stated_target_type(reference).is_some();
        let Some(wanted) = text.as_str().filter(|it| !is_stated(it)) else {
            return;
        };
        let Some(target) = self.resolver.resolve(wanted, &self.frame) else {
            return;
        };
        let Some(type_name) = super::walk::resource_type(target.value) else {
            return;
        };
        let is_allowed = definitions
            .resource_index(type_name)
            .is_none_or(|it| targets.contains(&it));
        if !is_allowed {
            let allowed: Vec<_> = targets
                .iter()
                .map(|it| definitions.text(definitions.structure(*it).type_name))
                .collect();
            let message = format!(
                "{} may not be referred to here; allowed: {}",
                quotable(type_name),
                allowed.join(", ")
            );
            self.report
                .add(text, Draft::error(id::REFERENCE_TARGET_TYPE, message));
        }
    }
}

/// A member of an object and what its definition says.
struct Below<'r, 'd> {
    parent: Value<'d>,
    element: &'static str,
    type_use: &'static TypeUse,
    rules: Option<&'r super::base::ElementRules>,
}

/// Each value of a member: the items of a list, or the one value.
fn each<'d>(member: Value<'d>, mut visit: impl FnMut(Value<'d>)) {
    if member.kind() == Kind::Array {
        for value in member.children() {
            visit(value);
        }
    } else {
        visit(member);
    }
}
