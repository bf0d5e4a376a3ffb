//! Type specifiers (`Quantity`, `FHIR.code`, `System.String`) and the hierarchy of R4's types.
//!
//! Start at [`Specifier::accepts`].

use super::item::{ElementItem, Item, Shape};
use super::moment::MomentKind;
use crate::Definitions;
use crate::primitive::Primitive;

/// A type as it is named in an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Specifier {
    namespace: Namespace,
    name: Box<str>,
    system: Option<SystemType>,
    primitive: Option<Primitive>,
    /// Whether R4 has such a complex type.
    is_complex: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Namespace {
    None,
    Fhir,
    System,
}

/// FHIRPath's own types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SystemType {
    Any,
    Boolean,
    String,
    Integer,
    Decimal,
    Date,
    DateTime,
    Time,
    Quantity,
}

impl SystemType {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "Any" => Self::Any,
            "Boolean" => Self::Boolean,
            "String" => Self::String,
            "Integer" => Self::Integer,
            "Decimal" => Self::Decimal,
            "Date" => Self::Date,
            "DateTime" => Self::DateTime,
            "Time" => Self::Time,
            "Quantity" => Self::Quantity,
            _ => return None,
        })
    }
}

/// How a test treats FHIR's primitive types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// `is`: a `code` is a `string`.
    Subtypes,
    /// `as` and `ofType`: a `code` is not given out as a `string`. Complex types still match with subtypes.
    ///
    /// R4's dom-3 counts on it (`as(canonical) | as(uri) | as(url)`), and so do the R4 tests.
    ExactPrimitives,
}

impl Specifier {
    pub(super) fn new(parts: &[String]) -> Self {
        let (namespace, name) = match parts {
            [namespace, name] if namespace == "FHIR" => (Namespace::Fhir, name.as_str()),
            [namespace, name] if namespace == "System" => (Namespace::System, name.as_str()),
            [.., name] => (Namespace::None, name.as_str()),
            [] => (Namespace::None, ""),
        };
        Self {
            namespace,
            name: name.into(),
            system: match namespace {
                Namespace::Fhir => None,
                Namespace::None | Namespace::System => SystemType::of(name),
            },
            primitive: match namespace {
                Namespace::System => None,
                Namespace::None | Namespace::Fhir => Primitive::from_name(name),
            },
            is_complex: namespace != Namespace::System
                && (parent(name).is_some()
                    || matches!(name, "Element" | "Resource" | "BackboneElement")),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The primitive type, if it is one.
    pub(super) fn primitive(&self) -> Option<Primitive> {
        self.primitive
    }

    /// Whether there is such a type.
    pub(super) fn is_known(&self, definitions: &Definitions) -> bool {
        self.system.is_some()
            || self.primitive.is_some()
            || self.is_complex
            || (self.namespace != Namespace::System
                && definitions.structure_named(&self.name).is_some())
    }

    /// Whether the item is of this type.
    pub(super) fn accepts(&self, definitions: &Definitions, item: &Item<'_>, how: Match) -> bool {
        match item {
            Item::Element(element) => self.accepts_element(definitions, element, how),
            other => self.system.is_some_and(|system| {
                matches!(
                    (system, other),
                    (SystemType::Any, _)
                        | (SystemType::Boolean, Item::Boolean(_))
                        | (SystemType::String, Item::String(_))
                        | (SystemType::Integer, Item::Integer(_))
                        | (SystemType::Decimal, Item::Decimal(_))
                        | (SystemType::Quantity, Item::Quantity(_))
                ) || matches!(
                    (system, other),
                    (SystemType::Date, Item::Moment(it)) if it.kind() == MomentKind::Date)
                    || matches!(
                    (system, other),
                    (SystemType::DateTime, Item::Moment(it)) if it.kind() == MomentKind::DateTime)
                    || matches!(
                    (system, other),
                    (SystemType::Time, Item::Moment(it)) if it.kind() == MomentKind::Time)
            }),
        }
    }

    fn accepts_element(
        &self,
        definitions: &Definitions,
        element: &ElementItem<'_>,
        how: Match,
    ) -> bool {
        if self.namespace == Namespace::System {
            return false;
        }
        match (element.shape(), self.primitive) {
            (Shape::Primitive(own), Some(wanted)) => {
                own == wanted || (how == Match::Subtypes && primitive_is(own, wanted))
            }
            (Shape::Primitive(_), None) => &*self.name == "Element",
            (Shape::Node(_) | Shape::Unknown, Some(_)) => false,
            (Shape::Node(_), None) => is_a(element.type_code(definitions), &self.name),
            (Shape::Unknown, None) => false,
        }
    }
}

/// Whether one primitive type specialises another.
///
/// # Source
/// FHIR R4 §datatypes, the hierarchy of primitive types.
pub(super) fn primitive_is(own: Primitive, wanted: Primitive) -> bool {
    match wanted {
        Primitive::String => matches!(own, Primitive::Code | Primitive::Id | Primitive::Markdown),
        Primitive::Uri => matches!(
            own,
            Primitive::Url | Primitive::Canonical | Primitive::Oid | Primitive::Uuid
        ),
        Primitive::Integer => matches!(own, Primitive::UnsignedInt | Primitive::PositiveInt),
        _ => false,
    }
}

/// Most steps of the type hierarchy.
const HIERARCHY_STEPS_MAX: usize = 8;

/// Whether a complex type or resource is of a type or specialises it.
pub(super) fn is_a(own: &str, wanted: &str) -> bool {
    let mut at = own;
    for _ in 0..HIERARCHY_STEPS_MAX {
        if at == wanted {
            return true;
        }
        match parent(at) {
            Some(next) => at = next,
            None => return false,
        }
    }
    false
}

/// The type that a complex type or resource specialises; `None` at the top and for what is no type.
///
/// # Source
/// FHIR R4 core package, `StructureDefinition.baseDefinition` of the types.
fn parent(name: &str) -> Option<&'static str> {
    Some(match name {
        "" | "Element" | "Resource" | "xhtml" => return None,
        "Age" | "Count" | "Distance" | "Duration" | "MoneyQuantity" | "SimpleQuantity" => {
            "Quantity"
        }
        "Dosage" | "ElementDefinition" | "MarketingStatus" | "Population"
        | "ProdCharacteristic" | "ProductShelfLife" | "SubstanceAmount" | "Timing" => {
            "BackboneElement"
        }
        "BackboneElement"
        | "Address"
        | "Annotation"
        | "Attachment"
        | "CodeableConcept"
        | "Coding"
        | "ContactDetail"
        | "ContactPoint"
        | "Contributor"
        | "DataRequirement"
        | "Expression"
        | "Extension"
        | "HumanName"
        | "Identifier"
        | "Meta"
        | "Money"
        | "Narrative"
        | "ParameterDefinition"
        | "Period"
        | "Quantity"
        | "Range"
        | "Ratio"
        | "Reference"
        | "RelatedArtifact"
        | "SampledData"
        | "Signature"
        | "TriggerDefinition"
        | "UsageContext" => "Element",
        "Binary" | "Bundle" | "Parameters" | "DomainResource" => "Resource",
        _ => {
            return crate::Definitions::r4()
                .is_resource_type(name)
                .then_some("DomainResource");
        }
    })
}
