//! References: their form, and whether the type they state is allowed where they stand.
//!
//! Nothing is resolved beyond the resource itself; what a reference does not state is not judged.
//! Start at [`Walk::reference`].
//!
//! Rules: <https://hl7.org/fhir/R4/references.html>.

use super::element::Walk;
use super::path::quotable;
use crate::definitions::tables::TypeUse;
use crate::finding::{Severity, id};
use crate::json::Value;
use crate::references::ReferenceForm;

impl<'d> Walk<'d> {
    pub(super) fn reference(&mut self, value: Value<'d>, type_use: Option<&'d TypeUse>) {
        let text = value.get("reference").filter(|it| it.as_str().is_some());
        let mut stated = None;
        if let Some(at) = text {
            let reference = at.as_str().unwrap_or_default();
            match ReferenceForm::parse(reference) {
                ReferenceForm::Contained { id } => stated = self.contained_type(at, id),
                ReferenceForm::Typed { resource_type, .. }
                | ReferenceForm::Conditional { resource_type } => {
                    if self.definitions.is_resource_type(resource_type) {
                        stated = Some(resource_type);
                    } else if !reference.contains(':') {
                        let message =
                            format!("`{}` is not a resource type", quotable(resource_type));
                        self.report(
                            id::REFERENCE_UNRECOGNISED,
                            Severity::Error,
                            at,
                            None,
                            message,
                        );
                    }
                }
                ReferenceForm::Urn | ReferenceForm::OtherAbsolute => {}
                ReferenceForm::Unrecognised => {
                    if !reference.is_empty() {
                        let message =
                            "expected `Type/id`, an absolute URL, `urn:uuid:…`, `urn:oid:…` or `#id`".to_owned();
                        self.report(
                            id::REFERENCE_UNRECOGNISED,
                            Severity::Error,
                            at,
                            None,
                            message,
                        );
                    }
                }
            }
        }
        let type_value = value.get("type");
        let named = type_value
            .and_then(Value::as_str)
            .filter(|name| self.definitions.is_resource_type(name));
        if let (Some(stated), Some(named), Some(at)) = (stated, named, type_value)
            && stated != named
        {
            let message = format!("`type` says {named}, but the reference says {stated}");
            self.error(id::REFERENCE_TYPE_MISMATCH, at, message);
        }
        let Some(type_use) = type_use else { return };
        for (claimed, at) in [
            (stated, text),
            (named.filter(|_| stated.is_none()), type_value),
        ] {
            if let (Some(claimed), Some(at)) = (claimed, at) {
                self.target_type(at, claimed, type_use);
            }
        }
    }

    /// The type of the contained resource that `#id` names; `#` alone is the container.
    fn contained_type(&mut self, at: Value<'d>, wanted: &str) -> Option<&'d str> {
        if wanted.is_empty() {
            return None;
        }
        match self.scope.as_ref()?.find(wanted) {
            Some(resource) => resource.get("resourceType").and_then(Value::as_str),
            None => {
                let message = "no contained resource has this id".to_owned();
                self.error(id::REFERENCE_CONTAINED_MISSING, at, message);
                None
            }
        }
    }

    fn target_type(&mut self, at: Value<'d>, claimed: &str, type_use: &TypeUse) {
        let definitions = self.definitions;
        let targets = definitions.targets(type_use.targets);
        if targets.is_empty() {
            return;
        }
        let is_allowed = definitions
            .resource_index(claimed)
            .is_some_and(|index| targets.contains(&index));
        if !is_allowed {
            let allowed: Vec<_> = targets
                .iter()
                .map(|target| definitions.text(definitions.structure(*target).type_name))
                .collect();
            let message = format!(
                "{} may not be referred to here; allowed: {}",
                quotable(claimed),
                allowed.join(", ")
            );
            self.error(id::REFERENCE_TARGET_TYPE, at, message);
        }
    }
}
