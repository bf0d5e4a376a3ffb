//! What arguments give: one integer, one text, or nothing.
//!
//! Start at [`Run::text_argument`].
//!
//! # Source
//! FHIRPath N1, singleton evaluation of collections.

use std::borrow::Cow;

use super::evaluate::{Run, Scope};
use super::item::Item;
use super::syntax::Id;
use super::{EvaluationError, EvaluationErrorKind};

impl<'a> Run<'a, '_> {
    /// The integer that an argument gives.
    pub(super) fn integer_argument(
        &self,
        id: Id,
        scope: &Scope<'a, '_>,
    ) -> Result<Option<i64>, EvaluationError> {
        let Some(item) = self.single(id, scope)? else {
            return Ok(None);
        };
        match self.plain(&item) {
            Some(Item::Integer(value)) => Ok(Some(value)),
            None => Ok(None),
            Some(other) => Err(self.error_at(
                id,
                EvaluationErrorKind::Kind {
                    what: "the argument",
                    expected: "an Integer",
                    found: other.kind_name(),
                },
            )),
        }
    }

    /// The text that an argument gives.
    pub(super) fn text_argument(
        &self,
        id: Id,
        scope: &Scope<'a, '_>,
    ) -> Result<Option<Cow<'a, str>>, EvaluationError> {
        match self.single(id, scope)? {
            None => Ok(None),
            Some(item) => self.text_of(id, item, "the argument"),
        }
    }

    /// The text of an item: a String, or a primitive written as a string.
    pub(super) fn text_of(
        &self,
        id: Id,
        item: Item<'a>,
        what: &'static str,
    ) -> Result<Option<Cow<'a, str>>, EvaluationError> {
        match item {
            Item::String(text) => Ok(Some(text)),
            Item::Element(element) => match element.text() {
                Some(text) => Ok(Some(Cow::Borrowed(text))),
                None if element.value().is_none() => Ok(None),
                None => Err(self.wrong_kind(id, what, "a String", "an element of another type")),
            },
            other => Err(self.wrong_kind(id, what, "a String", other.kind_name())),
        }
    }

    pub(super) fn wrong_kind(
        &self,
        id: Id,
        what: &'static str,
        expected: &'static str,
        found: &'static str,
    ) -> EvaluationError {
        self.error_at(
            id,
            EvaluationErrorKind::Kind {
                what,
                expected,
                found,
            },
        )
    }
}
