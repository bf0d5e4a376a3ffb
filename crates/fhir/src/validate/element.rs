//! The walk over a resource: which elements stand where, how often, and of which type.
//!
//! The tree's depth is bounded by the reader, so recursion here is bounded too. Nothing is allocated for
//! elements that are right.
//! Start at [`Walk::root`].

use std::collections::HashSet;

use super::contained::Scope;
use super::path::{Path, quotable};
use crate::definitions::Definitions;
use crate::definitions::tables::{
    Content, Element, Name, Node, NodeRule, TypeUse, UNBOUNDED, flag,
};
use crate::finding::{Finding, Position, RestsOn, Severity, id};
use crate::json::{Document, Kind, Locator, Value};

/// Which elements of a node were seen; one bit each.
#[derive(Clone, Copy, Default)]
struct Seen([u64; 4]);

impl Seen {
    fn has(&self, index: u32) -> bool {
        self.0
            .get((index / 64) as usize)
            .is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    fn set(&mut self, index: u32) {
        if let Some(word) = self.0.get_mut((index / 64) as usize) {
            *word |= 1 << (index % 64);
        }
    }
}

/// The state of one check.
pub(super) struct Walk<'d> {
    pub(super) definitions: &'d Definitions,
    document: &'d Document<'d>,
    locator: Locator<'d>,
    findings: Vec<Finding>,
    findings_max: usize,
    pub(super) path: Path<'d>,
    /// Resources that `#id` references can name here.
    pub(super) scope: Option<Scope<'d>>,
    /// Ids of the elements of the current resource, as far as it was walked.
    element_ids: HashSet<&'d str>,
    /// Code lists already reported as not checked.
    pub(super) unchecked_lists: Vec<u32>,
}

impl<'d> Walk<'d> {
    pub(super) fn new(
        definitions: &'d Definitions,
        document: &'d Document<'d>,
        findings_max: usize,
    ) -> Self {
        Self {
            definitions,
            document,
            locator: Locator::new(document),
            findings: Vec::new(),
            findings_max,
            path: Path::new(),
            scope: None,
            element_ids: HashSet::new(),
            unchecked_lists: Vec::new(),
        }
    }

    pub(super) fn finish(mut self) -> Vec<Finding> {
        if self.is_full() {
            self.findings.truncate(self.findings_max);
            self.findings.push(Finding {
                id: id::FINDINGS_LIMIT,
                severity: Severity::Error,
                expression: String::new(),
                position: None,
                message: "there are more findings than are reported; mend these and check again"
                    .to_owned(),
                rests_on: RestsOn::InputOnly,
                details: None,
            });
        }
        self.findings
    }

    fn is_full(&self) -> bool {
        self.findings.len() > self.findings_max
    }

    pub(super) fn root(&mut self) {
        let root = self.document.root();
        if root.kind() != Kind::Object {
            let message = format!(
                "a resource is a JSON object; this is {}",
                root.kind().with_article()
            );
            self.report(id::NOT_AN_OBJECT, Severity::Fatal, root, None, message);
            return;
        }
        self.resource(root, true);
    }

    /// Reports a finding at the current path (or one name below it).
    pub(super) fn report(
        &mut self,
        finding_id: &'static str,
        severity: Severity,
        at: Value<'d>,
        below: Option<&str>,
        message: String,
    ) {
        if self.is_full() {
            return;
        }
        let (line, column) = self.locator.locate(at.offset());
        self.findings.push(Finding {
            id: finding_id,
            severity,
            expression: self.path.render(below),
            position: Some(Position { line, column }),
            message,
            rests_on: RestsOn::InputOnly,
            details: None,
        });
    }

    pub(super) fn error(&mut self, finding_id: &'static str, at: Value<'d>, message: String) {
        self.report(finding_id, Severity::Error, at, None, message);
    }

    /// Checks a whole resource: the root, a contained one, or one inside another (`Bundle.entry.resource`).
    fn resource(&mut self, value: Value<'d>, is_root: bool) {
        let severity = if is_root {
            Severity::Fatal
        } else {
            Severity::Error
        };
        if !self.is_filled_object(value) {
            return;
        }
        let stated = value.get("resourceType");
        let Some(type_name) = stated.and_then(Value::as_str) else {
            let message =
                "a resource needs `resourceType`, a string that names its type".to_owned();
            self.report(
                id::RESOURCE_TYPE_MISSING,
                severity,
                stated.unwrap_or(value),
                None,
                message,
            );
            return;
        };
        let Some(structure) = self.definitions.resource(type_name) else {
            let version = &self.definitions.source().fhir_version;
            let message = format!(
                "`{}` is not a resource type of FHIR {version}",
                quotable(type_name)
            );
            self.report(
                id::RESOURCE_TYPE_UNKNOWN,
                severity,
                stated.unwrap_or(value),
                None,
                message,
            );
            return;
        };
        if is_root {
            self.path.push(type_name);
        }
        let node = self.definitions.node(structure.root);
        self.members(value, node, None);
        if is_root {
            self.path.pop();
        }
    }

    /// A resource inside another; a contained one keeps its container's scope, any other opens its own.
    fn inner_resource(&mut self, value: Value<'d>, element_name: &str) {
        let outer_ids = std::mem::take(&mut self.element_ids);
        if element_name == "contained" {
            self.resource(value, false);
        } else {
            let outer = self.scope.take();
            self.resource(value, false);
            self.scope = outer;
        }
        self.element_ids = outer_ids;
    }

    /// Whether the value is an object with members; reports if not.
    fn is_filled_object(&mut self, value: Value<'d>) -> bool {
        match value.kind() {
            Kind::Object if value.is_empty() => {
                self.error(
                    id::EMPTY_OBJECT,
                    value,
                    "an object must not be empty; leave the element out".to_owned(),
                );
                false
            }
            Kind::Object => true,
            Kind::Null => {
                self.error(
                    id::NULL,
                    value,
                    "`null` is not allowed here; leave the element out".to_owned(),
                );
                false
            }
            Kind::Array => {
                self.error(
                    id::ARRAY_NOT_ALLOWED,
                    value,
                    "a list is not allowed here; give a single object".to_owned(),
                );
                false
            }
            kind => {
                let message = format!(
                    "an object is expected here; this is {}",
                    kind.with_article()
                );
                self.error(id::WRONG_JSON_KIND, value, message);
                false
            }
        }
    }

    /// Checks an object against a node. `type_use` is how it is used, if not as a resource's root.
    pub(super) fn object(
        &mut self,
        value: Value<'d>,
        node: &'d Node,
        type_use: Option<&'d TypeUse>,
    ) {
        if self.is_filled_object(value) {
            self.members(value, node, type_use);
        }
    }

    fn members(&mut self, value: Value<'d>, node: &'d Node, type_use: Option<&'d TypeUse>) {
        let opens_scope = node.rule == NodeRule::Resource && self.scope.is_none();
        if opens_scope {
            self.open_scope(value);
        }
        let mut seen = Seen::default();
        // Most objects have no `_` members; knowing that once saves a search per value.
        let has_siblings = value
            .children()
            .any(|it| it.key().is_some_and(|key| key.starts_with('_')));
        for member in value.children() {
            if self.is_full() {
                break;
            }
            let key = member.key().unwrap_or_default();
            if key == "resourceType" && node.rule == NodeRule::Resource {
                continue;
            }
            if key == "id" && node.rule != NodeRule::Resource {
                self.element_id(member, node);
            }
            self.member(value, node, member, key, has_siblings, &mut seen);
        }
        self.required(value, node, &seen);
        self.apply_rule(value, node, type_use);
        if opens_scope {
            self.scope = None;
        }
    }

    fn member(
        &mut self,
        parent: Value<'d>,
        node: &'d Node,
        member: Value<'d>,
        key: &'d str,
        has_siblings: bool,
        seen: &mut Seen,
    ) {
        let definitions = self.definitions;
        let (json_name, is_sibling) = match key.strip_prefix('_') {
            Some(rest) => (rest, true),
            None => (key, false),
        };
        let Some(name) = definitions.name(node, json_name) else {
            self.unknown(node, member, key);
            return;
        };
        let element = definitions.element(name.element);
        let type_use = definitions.type_use(name.type_use);
        let is_primitive = matches!(type_use.content, Content::Primitive(_));
        if is_sibling && (!is_primitive || element.has(flag::ATTRIBUTE)) {
            self.unknown(node, member, key);
            return;
        }
        let index = name.element - node.elements.start;
        if element.has(flag::CHOICE)
            && seen.has(index)
            && !self.is_same_choice(parent, node, name, json_name, key)
        {
            let message = format!(
                "`{}[x]` may have one value only, and it was given with another type before",
                definitions.text(element.name)
            );
            self.report(
                id::CHOICE_REPEATED,
                Severity::Error,
                member,
                Some(json_name),
                message,
            );
        }
        seen.set(index);
        self.path.push(json_name);
        if element.max == 0 {
            self.error(
                id::TOO_MANY,
                member,
                "this element must not be used here".to_owned(),
            );
        } else if is_sibling {
            // A value and its sibling are checked together, when the value is met.
            if parent.get(json_name).is_none() {
                self.primitive_member(None, Some(member), element, type_use);
            }
        } else if is_primitive {
            let sibling = if has_siblings {
                self.sibling_of(parent, json_name)
            } else {
                None
            };
            self.primitive_member(Some(member), sibling, element, type_use);
        } else {
            self.complex_member(member, element, type_use);
        }
        self.path.pop();
    }

    /// The id of an element is unique within its resource.
    ///
    /// # Source
    /// FHIR R4, Element.id: unique id for the element within a resource. The ids of ElementDefinitions say
    /// which element they define, so a snapshot and a differential share them.
    fn element_id(&mut self, member: Value<'d>, node: &Node) {
        if member
            .as_str()
            .is_some_and(|id| id.contains(char::is_whitespace))
        {
            let message = "the id of an element must not contain white space".to_owned();
            self.report(
                id::PRIMITIVE_FORMAT,
                Severity::Error,
                member,
                Some("id"),
                message,
            );
        }
        if self.definitions.text(node.path) == "ElementDefinition" {
            return;
        }
        if member
            .as_str()
            .is_some_and(|id| !self.element_ids.insert(id))
        {
            let message = "another element of this resource has the same `id`; ids of elements are unique within a resource".to_owned();
            self.report(
                id::ELEMENT_ID_DUPLICATE,
                Severity::Error,
                member,
                Some("id"),
                message,
            );
        }
    }

    /// Whether an earlier occurrence of the choice was this same type (a value and its `_` sibling).
    fn is_same_choice(
        &self,
        parent: Value<'d>,
        node: &Node,
        name: Name,
        json_name: &str,
        key: &str,
    ) -> bool {
        parent
            .children()
            .take_while(|other| other.key() != Some(key))
            .filter_map(|other| other.key())
            .map(|other| other.strip_prefix('_').unwrap_or(other))
            .filter(|other| *other != json_name)
            .all(|other| {
                self.definitions
                    .name(node, other)
                    .is_none_or(|it| it.element != name.element)
            })
    }

    /// The `_name` member beside `name`, if there is one.
    fn sibling_of(&self, parent: Value<'d>, json_name: &str) -> Option<Value<'d>> {
        parent
            .children()
            .find(|other| other.key().and_then(|key| key.strip_prefix('_')) == Some(json_name))
    }

    fn unknown(&mut self, node: &Node, member: Value<'d>, key: &str) {
        let definitions = self.definitions;
        let place = definitions.text(node.path);
        let whole = node
            .elements
            .indices()
            .map(|index| definitions.element(index))
            .find(|element| element.has(flag::CHOICE) && definitions.text(element.name) == key);
        let message = match whole {
            Some(element) => {
                let example = definitions.type_use(element.types.start);
                format!(
                    "`{place}` has no element `{}`; it is a choice: write the type too, such as `{}`",
                    quotable(key),
                    crate::definitions::tables::choice_name(key, definitions.text(example.code)),
                )
            }
            None => format!(
                "`{place}` has no element `{}`; remove it or use an extension",
                quotable(key)
            ),
        };
        self.report(
            id::UNKNOWN_ELEMENT,
            Severity::Error,
            member,
            Some(key),
            message,
        );
    }

    fn complex_member(&mut self, member: Value<'d>, element: &'d Element, type_use: &'d TypeUse) {
        if !self.is_list_as_defined(member, element) {
            return;
        }
        if !element.has(flag::ARRAY) {
            self.one(member, element, type_use);
            return;
        }
        let mut count = 0;
        for item in member.children() {
            self.path.at(Some(count));
            self.one(item, element, type_use);
            count += 1;
        }
        self.path.at(None);
        self.count(member, element, count);
    }

    /// Whether list or single value is as the element says; reports if not.
    pub(super) fn is_list_as_defined(&mut self, value: Value<'d>, element: &Element) -> bool {
        match (value.kind(), element.has(flag::ARRAY)) {
            (Kind::Null, _) => {
                self.error(
                    id::NULL,
                    value,
                    "`null` is not allowed here; leave the element out".to_owned(),
                );
                false
            }
            (Kind::Array, true) if value.is_empty() => {
                self.error(
                    id::EMPTY_ARRAY,
                    value,
                    "a list must not be empty; leave the element out".to_owned(),
                );
                false
            }
            (Kind::Array, true) => true,
            (kind, true) => {
                let message = format!(
                    "a list is expected here; this is {}: put it into [ ]",
                    kind.with_article()
                );
                self.error(id::ARRAY_EXPECTED, value, message);
                false
            }
            (Kind::Array, false) => {
                self.error(
                    id::ARRAY_NOT_ALLOWED,
                    value,
                    "one value is expected here, not a list".to_owned(),
                );
                false
            }
            (_, false) => true,
        }
    }

    /// Checks how many values a list has.
    pub(super) fn count(&mut self, list: Value<'d>, element: &Element, count: usize) {
        if element.max != UNBOUNDED && count > usize::from(element.max) {
            let message = format!("at most {} allowed here, {count} given", element.max);
            self.error(id::TOO_MANY, list, message);
        }
        if count < usize::from(element.min) {
            let message = format!("at least {} needed here, {count} given", element.min);
            self.error(id::TOO_FEW, list, message);
        }
    }

    /// One object of a complex element.
    fn one(&mut self, value: Value<'d>, element: &'d Element, type_use: &'d TypeUse) {
        match type_use.content {
            Content::Node(node) => {
                let node = self.definitions.node(node);
                self.object(value, node, Some(type_use));
                if element.binding != u32::MAX && value.kind() == Kind::Object {
                    self.concept_binding(value, node, element);
                }
                if node.rule == NodeRule::Extension && element.has(flag::MODIFIER) {
                    let message = "a modifier extension changes the meaning of what it stands in; a human must look at it".to_owned();
                    self.report(
                        id::EXTENSION_MODIFIER,
                        Severity::Warning,
                        value,
                        None,
                        message,
                    );
                }
            }
            Content::AnyResource => self.inner_resource(value, self.definitions.text(element.name)),
            // Primitive elements take the other way; see `member`.
            Content::Primitive(_) => {}
        }
    }

    fn required(&mut self, value: Value<'d>, node: &Node, seen: &Seen) {
        for index in node.elements.indices() {
            let element = self.definitions.element(index);
            if element.min == 0 || seen.has(index - node.elements.start) {
                continue;
            }
            let name = self.definitions.text(element.name);
            let suffix = if element.has(flag::CHOICE) { "[x]" } else { "" };
            let message = format!(
                "`{}` must have `{name}{suffix}`",
                self.definitions.text(node.path)
            );
            self.report(id::MISSING_ELEMENT, Severity::Error, value, None, message);
        }
    }
}
