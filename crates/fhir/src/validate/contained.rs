//! Contained resources: what `#id` references can name, and the rules that contained resources obey.
//!
//! Start at [`Walk::open_scope`].
//!
//! Rules: <https://hl7.org/fhir/R4/references.html#contained>, invariants dom-2 and ref-1.

use std::collections::HashMap;

use super::element::Walk;
use crate::finding::id;
use crate::json::Value;

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
    /// Enters a resource that is not itself contained, and checks the ids of what it contains.
    pub(super) fn open_scope(&mut self, resource: Value<'d>) {
        let mut scope = Scope::default();
        let Some(contained) = resource.get("contained") else {
            self.scope = Some(scope);
            return;
        };
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
                }
            }
            if let Some(nested) = item.get("contained") {
                let message =
                    "a contained resource must not contain others; move them to the outer resource"
                        .to_owned();
                self.error(id::CONTAINED_NESTED, nested, message);
            }
        }
        self.path.pop();
        self.scope = Some(scope);
    }
}
