//! Contained resources: what `#id` references can name, and the rules that contained resources obey.
//!
//! Start at [`Walk::open_scope`].
//!
//! Rules: <https://hl7.org/fhir/R4/references.html#contained>, invariants dom-2 to dom-5 and ref-1.

use std::collections::{HashMap, HashSet};

use super::element::Walk;
use crate::finding::{Severity, id};
use crate::json::{Kind, Value};

/// The resources that local references can name.
#[derive(Default)]
pub(super) struct Scope<'d> {
    by_id: HashMap<&'d str, Value<'d>>,
}

impl<'d> Scope<'d> {
    /// The contained resource of that id.
    pub(super) fn find(&self, wanted: &str) -> Option<Value<'d>> {
        self.by_id.get(wanted).copied()
    }
}

impl<'d> Walk<'d> {
    /// Enters a resource that is not itself contained, and checks what it contains: ids, nesting, metadata,
    /// and that each is referred to.
    pub(super) fn open_scope(&mut self, resource: Value<'d>) {
        let mut scope = Scope::default();
        let Some(contained) = resource.get("contained") else {
            self.scope = Some(scope);
            return;
        };
        let mut local = HashSet::new();
        local_references(resource, &mut local);
        self.path.push("contained");
        for (index, item) in contained.children().enumerate() {
            self.path.at(Some(index));
            match item.get("id") {
                None => {
                    let message =
                        "a contained resource needs an `id` by which it is referred to".to_owned();
                    self.error(id::CONTAINED_ID_MISSING, item, message);
                }
                Some(own) => {
                    let is_repeated = own
                        .as_str()
                        .is_some_and(|text| scope.by_id.insert(text, item).is_some());
                    if is_repeated {
                        let message = "another contained resource has the same id".to_owned();
                        self.error(id::CONTAINED_ID_DUPLICATE, own, message);
                    }
                    if own.as_str().is_some_and(|it| !local.contains(it)) {
                        self.is_referred_to(item);
                    }
                }
            }
            if let Some(nested) = item.get("contained") {
                let message =
                    "a contained resource must not contain others; move them to the outer resource"
                        .to_owned();
                self.error(id::CONTAINED_NESTED, nested, message);
            }
            self.contained_meta(item);
        }
        self.path.pop();
        self.scope = Some(scope);
    }

    /// Invariant dom-3: a contained resource is referred to, or refers to its container.
    fn is_referred_to(&mut self, item: Value<'d>) {
        let mut own = HashSet::new();
        local_references(item, &mut own);
        if !own.contains("") {
            let message = "nothing in this resource refers to the contained resource, and it does not refer to its container; refer to it by `#id` or remove it".to_owned();
            self.error(id::CONTAINED_UNREFERENCED, item, message);
        }
    }

    /// Invariants dom-4 and dom-5: a contained resource has no life of its own.
    fn contained_meta(&mut self, item: Value<'d>) {
        let Some(meta) = item.get("meta") else { return };
        for name in ["versionId", "lastUpdated", "security"] {
            if let Some(at) = meta.get(name) {
                let message =
                    format!("a contained resource must not have `meta.{name}`; remove it");
                self.report(
                    id::CONTAINED_META,
                    Severity::Error,
                    at,
                    Some("meta"),
                    message,
                );
            }
        }
    }
}

/// The fragments that any element below refers to (`#id` gives `id`). A canonical may carry them behind a
/// URL only in other resources, so only texts that begin with `#` count.
fn local_references<'d>(resource: Value<'d>, found: &mut HashSet<&'d str>) {
    let mut open = vec![resource.children()];
    while let Some(children) = open.last_mut() {
        match children.next() {
            None => {
                open.pop();
            }
            Some(value) => match value.kind() {
                Kind::Object | Kind::Array => open.push(value.children()),
                Kind::String => {
                    found.extend(value.as_str().and_then(|text| text.strip_prefix('#')));
                }
                Kind::Null | Kind::Bool | Kind::Number => {}
            },
        }
    }
}
