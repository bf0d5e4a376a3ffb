//! Contained resources: what `#id` references can name, and the rules that contained resources obey.
//!
//! Start at [`Walk::open_scope`].
//!
//! Rules: <https://hl7.org/fhir/R4/references.html#contained>, invariants dom-2 and ref-1.

use super::element::Walk;
use crate::finding::id;
use crate::json::Value;

/// The resources that local references can name: the container and what it contains.
pub(super) struct Scope<'d> {
    contained: Option<Value<'d>>,
}

impl<'d> Scope<'d> {
    /// The contained resource of that id.
    pub(super) fn find(&self, wanted: &str) -> Option<Value<'d>> {
        self.contained?.children().find(|it| it.get("id").and_then(Value::as_str) == Some(wanted))
    }
}

impl<'d> Walk<'d> {
    /// Enters a resource that is not itself contained, and checks the ids of what it contains.
    pub(super) fn open_scope(&mut self, resource: Value<'d>) {
        let contained = resource.get("contained");
        self.scope = Some(Scope { contained });
        let Some(contained) = contained else { return };
        self.path.push("contained");
        for (index, item) in contained.children().enumerate() {
            self.path.at(Some(index));
            match item.get("id") {
                None => {
                    let message = "a contained resource needs an `id` by which it is referred to".to_owned();
                    self.error(id::CONTAINED_ID_MISSING, item, message);
                }
                Some(own) => {
                    let text = own.as_str();
                    let is_repeated = text.is_some()
                        && contained.children().take(index).any(|it| it.get("id").and_then(Value::as_str) == text);
                    if is_repeated {
                        let message = "another contained resource has the same id".to_owned();
                        self.error(id::CONTAINED_ID_DUPLICATE, own, message);
                    }
                }
            }
            if let Some(nested) = item.get("contained") {
                let message = "a contained resource must not contain others; move them to the outer resource".to_owned();
                self.error(id::CONTAINED_NESTED, nested, message);
            }
        }
        self.path.pop();
    }
}
