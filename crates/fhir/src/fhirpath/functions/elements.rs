//! Functions on elements: children, extensions, references, types, and what the ports decide.
//!
//! Start at [`Run::element_function`].
//!
//! # Source
//! FHIRPath N1, tree navigation and reflection; FHIR R4 §FHIRPath, additional functions.

use super::super::evaluate::{Run, Scope, Sink};
use super::super::item::{ElementItem, Item, TypeName};
use super::super::navigate::{self, Flow, Passed};
use super::super::syntax::Function;
use super::super::{EvaluationError, EvaluationErrorKind};
use super::Call;
use crate::json::Value;

/// Prefix of the canonical URLs of FHIR's own types.
const CORE: &str = "http://hl7.org/fhir/StructureDefinition/";

impl<'a> Run<'a, '_> {
    #[inline(never)]
    pub(super) fn element_function(
        &self,
        call: Call<'a>,
        scope: &Scope<'a, '_>,
        sink: &mut Sink<'a, '_>,
    ) -> Passed {
        use Function as F;
        let argument = match (call.function, call.argument(0)) {
            (F::Extension | F::ConformsTo | F::MemberOf, Some(argument)) => {
                match self.text_argument(argument, scope)? {
                    Some(text) => Some(text),
                    None => return Ok(Flow::More),
                }
            }
            _ => None,
        };
        let text = argument.as_deref().unwrap_or_default();
        match call.function {
            F::Children => self.each_base(call.base, scope, &mut |item| match item {
                Item::Element(element) => {
                    navigate::children(self.definitions(), &element, &mut |child| {
                        self.step()?;
                        sink(Item::Element(child))
                    })
                }
                _ => Ok(Flow::More),
            }),
            F::Descendants => self.each_base(call.base, scope, &mut |item| match item {
                Item::Element(element) => self.descend(&element, sink),
                _ => Ok(Flow::More),
            }),
            F::Extension => self.each_base(call.base, scope, &mut |item| match item {
                Item::Element(element) => self.extensions(&element, text, sink),
                _ => Ok(Flow::More),
            }),
            F::GetValue => self.each_base(call.base, scope, &mut |item| match &item {
                Item::Element(element) if element.has_value() => {
                    self.pass_all(self.plain_element(element), sink)
                }
                _ => Ok(Flow::More),
            }),
            F::Type => self.each_base(call.base, scope, &mut |item| {
                let type_name = TypeName {
                    namespace: match item {
                        Item::Element(_) => "FHIR",
                        _ => "System",
                    },
                    name: item.type_name(self.definitions()).to_owned(),
                };
                sink(Item::Type(Box::new(type_name)))
            }),
            F::Resolve => {
                self.each_base(call.base, scope, &mut |item| match self.resolved(&item) {
                    Some(found) => sink(found),
                    None => Ok(Flow::More),
                })
            }
            F::HtmlChecks => self.each_base(call.base, scope, &mut |item| {
                let is_right = item.as_text().is_none_or(crate::xhtml::is_sound);
                sink(Item::Boolean(is_right))
            }),
            _ => {
                let Some(item) = self.single_base(call, scope)? else {
                    return Ok(Flow::More);
                };
                let answer = match call.function {
                    F::ConformsTo => Some(self.conforms_to(call, &item, text)?),
                    F::MemberOf => Some(self.member_of(call, &item, text)?),
                    _ => self.subsumes(call, &item, scope)?,
                };
                self.pass_all(answer.map(Item::Boolean), sink)
            }
        }
    }

    fn descend(&self, element: &ElementItem<'a>, sink: &mut Sink<'a, '_>) -> Passed {
        self.nested(|| {
            navigate::children(self.definitions(), element, &mut |child| {
                self.step()?;
                if sink(Item::Element(child))? == Flow::Enough {
                    return Ok(Flow::Enough);
                }
                self.descend(&child, sink)
            })
        })
    }

    fn extensions(&self, element: &ElementItem<'a>, url: &str, sink: &mut Sink<'a, '_>) -> Passed {
        self.step()?;
        navigate::named(self.definitions(), element, "extension", &mut |extension| {
            let own = extension.value().and_then(|it| it.get("url"));
            if own.and_then(Value::as_str) == Some(url) {
                sink(Item::Element(extension))
            } else {
                Ok(Flow::More)
            }
        })
    }

    /// The resource that a Reference, uri or text points to.
    fn resolved(&self, item: &Item<'a>) -> Option<Item<'a>> {
        let reference = match item {
            Item::Element(element) => match element.text() {
                Some(text) => text,
                None => element.value()?.get("reference")?.as_str()?,
            },
            Item::String(std::borrow::Cow::Borrowed(text)) => text,
            _ => return self.resolved_elsewhere(item.as_text()?),
        };
        let root = self.environment.root_resource.or(self.environment.resource);
        let root = root.or(match self.input() {
            Item::Element(element) => Some(*element),
            _ => None,
        });
        if let Some(id) = reference.strip_prefix('#') {
            let root = root?;
            if id.is_empty() {
                return Some(Item::Element(root));
            }
            return contained(root.value()?, id)
                .and_then(|value| Item::resource(self.definitions(), value));
        }
        root.and_then(|root| entry(root.value()?, reference))
            .and_then(|value| Item::resource(self.definitions(), value))
            .or_else(|| self.resolved_elsewhere(reference))
    }

    fn resolved_elsewhere(&self, reference: &str) -> Option<Item<'a>> {
        self.environment.resolver?.resolve(reference)
    }

    fn conforms_to(
        &self,
        call: Call<'a>,
        item: &Item<'a>,
        profile: &str,
    ) -> Result<bool, EvaluationError> {
        if let Some(port) = self.environment.conformance
            && let Some(answer) = port.conforms_to(item, profile)
        {
            return Ok(answer);
        }
        // FHIR's own types say nothing that the structural check has not said.
        let known = profile
            .strip_prefix(CORE)
            .filter(|name| self.definitions().structure_named(name).is_some());
        match known {
            Some(name) => {
                let own = item.type_name(self.definitions());
                Ok(own == name || super::super::specifier::is_a(own, name))
            }
            None => Err(self.error_at(call.id, EvaluationErrorKind::UnknownProfile)),
        }
    }

    fn member_of(
        &self,
        call: Call<'a>,
        item: &Item<'a>,
        value_set: &str,
    ) -> Result<bool, EvaluationError> {
        self.environment
            .terminology
            .and_then(|port| port.member_of(item, value_set))
            .ok_or_else(|| {
                self.error_at(
                    call.id,
                    EvaluationErrorKind::Missing("a terminology service"),
                )
            })
    }

    fn subsumes(
        &self,
        call: Call<'a>,
        item: &Item<'a>,
        scope: &Scope<'a, '_>,
    ) -> Result<Option<bool>, EvaluationError> {
        let Some(argument) = call.argument(0) else {
            return Ok(None);
        };
        let Some(other) = self.single(argument, scope)? else {
            return Ok(None);
        };
        let (general, specific) = if call.function == Function::Subsumes {
            (item, &other)
        } else {
            (&other, item)
        };
        if self.equal(general, specific)? == Some(true) {
            return Ok(Some(true));
        }
        self.environment
            .terminology
            .and_then(|port| port.subsumes(general, specific))
            .map(Some)
            .ok_or_else(|| {
                self.error_at(
                    call.id,
                    EvaluationErrorKind::Missing("a terminology service"),
                )
            })
    }

    /// `now()`, `today()`, `timeOfDay()`: from the moment that the caller gave.
    pub(super) fn current(&self, call: Call<'a>) -> Result<Option<Item<'a>>, EvaluationError> {
        let Some(now) = self.environment.now else {
            return Err(self.error_at(call.id, EvaluationErrorKind::Missing("the current time")));
        };
        Ok(match call.function {
            Function::Now => Some(Item::Moment(now.to_date_time())),
            Function::Today => Some(Item::Moment(now.to_date())),
            _ => now.to_time().map(Item::Moment),
        })
    }
}

/// The contained resource with that id.
fn contained<'a>(root: Value<'a>, id: &str) -> Option<Value<'a>> {
    root.get("contained")?
        .children()
        .find(|it| it.get("id").and_then(Value::as_str) == Some(id))
}

/// The resource of a Bundle entry that a reference names by its fullUrl, or by type and id.
fn entry<'a>(root: Value<'a>, reference: &str) -> Option<Value<'a>> {
    if root.get("resourceType")?.as_str()? != "Bundle" {
        return None;
    }
    let unversioned = reference
        .split_once("/_history/")
        .map_or(reference, |(before, _)| before);
    let is_meant = |full_url: &str| {
        full_url == unversioned
            || full_url
                .strip_suffix(unversioned)
                .is_some_and(|base| base.ends_with('/') && unversioned.contains('/'))
    };
    root.get("entry")?
        .children()
        .find(|entry| {
            entry
                .get("fullUrl")
                .and_then(Value::as_str)
                .is_some_and(is_meant)
        })?
        .get("resource")
}

#[cfg(test)]
mod tests {
    use super::super::super::item::Shape;
    use super::*;

    #[test]
    fn shapes_are_small() {
        assert!(size_of::<Item<'_>>() <= 64);
        assert!(size_of::<Shape>() <= 8);
    }
}
