//! Whether an extension may stand where it does.
//!
//! A context names a type (`Patient`, `HumanName`, `Element`), a path below one (`Patient.contact`), another
//! extension, or a FHIRPath expression.
//! Start at [`Walk::stands_in_context`].
//!
//! # Source
//! FHIR R4, <https://hl7.org/fhir/R4/defining-extensions.html#context>.

use super::base_walk::Place;
use super::tree::ExtensionRule;
use super::walk::{Item, Walk};
use crate::canonical::Context;
use crate::definitions::tables::StructureKind;
use crate::json::Value;

impl<'d> Walk<'d> {
    pub(super) fn stands_in_context(
        &mut self,
        rule: &ExtensionRule,
        place: &Place<'_, 'd>,
    ) -> bool {
        let Some(container) = place.parent else {
            return true;
        };
        rule.contexts.is_empty()
            || rule.contexts.iter().any(|it| self.is_in(it, container))
            || self.is_in_published_exception(place.value, container)
    }

    /// Places where FHIR's own publications put an extension beside its stated context.
    ///
    /// # Source
    /// FHIR R4's own StructureDefinitions: `structuredefinition-fhir-type` is stated for
    /// `ElementDefinition.type.code` and used on `ElementDefinition.type`.
    fn is_in_published_exception(&self, extension: Value<'d>, container: &Place<'_, 'd>) -> bool {
        extension
            .get("url")
            .and_then(Value::as_str)
            .and_then(|it| it.strip_prefix(super::BASE_URL))
            == Some("structuredefinition-fhir-type")
            && self.is_element("ElementDefinition.type", container)
    }

    fn is_in(&mut self, context: &Context, container: &Place<'_, 'd>) -> bool {
        match context.kind.as_str() {
            "extension" => {
                let wanted = context.expression.split('#').next().unwrap_or_default();
                container.type_code == "Extension"
                    && container.value.get("url").and_then(Value::as_str) == Some(wanted)
            }
            "fhirpath" => self.is_selected(&context.expression, container),
            _ => self.is_element(&context.expression, container),
        }
    }

    fn is_element(&self, expression: &str, container: &Place<'_, 'd>) -> bool {
        // `http://…/StructureDefinition/X#X.path` names an element of a profile; its path decides.
        let expression = expression
            .rsplit_once('#')
            .map_or(expression, |(_, path)| path);
        if let Some((_, type_name)) = expression.rsplit_once('/') {
            return self.is_type(type_name, container);
        }
        let segments: Vec<&str> = expression
            .split('.')
            .map(|it| it.split(':').next().unwrap_or(it))
            .map(|it| it.strip_suffix("[x]").unwrap_or(it))
            .collect();
        let [first, below @ ..] = segments.as_slice() else {
            return false;
        };
        if below.is_empty() {
            return self.is_type(first, container);
        }
        let path = segments.join(".");
        let definitions = self.basis.profiles.definitions;
        if definitions.text(definitions.node(container.node).path) == path {
            return true;
        }
        if let Some(parent) = container.parent {
            let parent_path = definitions.text(definitions.node(parent.node).path);
            if path
                .strip_suffix(container.element)
                .and_then(|it| it.strip_suffix('.'))
                == Some(parent_path)
            {
                return true;
            }
        }
        let mut at = container;
        for segment in below.iter().rev() {
            if at.element != *segment {
                return false;
            }
            match at.parent {
                Some(parent) => at = parent,
                None => return false,
            }
        }
        self.is_type(first, at)
    }

    /// Whether the container is of a type, or of one derived from it.
    fn is_type(&self, wanted: &str, container: &Place<'_, 'd>) -> bool {
        let definitions = self.basis.profiles.definitions;
        let own = container.type_code;
        let is_resource = container.element.is_empty();
        let is_quantity = matches!(
            own,
            "Age" | "Count" | "Distance" | "Duration" | "MoneyQuantity" | "SimpleQuantity"
        );
        let is_backbone = own == "BackboneElement"
            || matches!(
                own,
                "Dosage" | "Timing" | "ElementDefinition" | "DataRequirement"
            );
        match wanted {
            // `Element` is meant, and used by FHIR's own extensions, for resources too.
            "*" | "Element" => true,
            _ if wanted == own => true,
            "BackboneElement" => is_backbone,
            "Resource" => is_resource,
            "DomainResource" => is_resource && !matches!(own, "Bundle" | "Binary" | "Parameters"),
            "CanonicalResource" | "MetadataResource" => {
                is_resource
                    && definitions
                        .name(definitions.node(container.node), "url")
                        .is_some()
            }
            "Quantity" => is_quantity,
            "uri" => matches!(own, "url" | "canonical" | "oid" | "uuid"),
            "string" => matches!(own, "code" | "id" | "markdown"),
            "integer" => matches!(own, "positiveInt" | "unsignedInt"),
            "BackboneType" | "DataType" | "PrimitiveType" => definitions
                .structure_named(own)
                .is_some_and(|it| match wanted {
                    "PrimitiveType" => it.kind == StructureKind::Primitive,
                    "BackboneType" => is_backbone,
                    _ => it.kind == StructureKind::Datatype,
                }),
            _ => false,
        }
    }

    /// Invariants on where an extension may stand; `%extension` is the extension itself.
    pub(super) fn context_invariants(
        &mut self,
        rule: &ExtensionRule,
        extension: Value<'d>,
        place: &Place<'_, 'd>,
    ) {
        if rule.invariants.is_empty() {
            return;
        }
        let Some(container) = place.parent else {
            return;
        };
        for invariant in &rule.invariants {
            self.invariant_of_context(
                invariant,
                Item::of(container.value, container.type_code),
                extension,
            );
        }
    }
}
