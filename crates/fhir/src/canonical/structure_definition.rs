//! StructureDefinition, without its prose.
//!
//! # Source
//! FHIR R4, <https://hl7.org/fhir/R4/structuredefinition.html> and
//! <https://hl7.org/fhir/R4/elementdefinition.html>.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A type, or a profile on one.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StructureDefinition {
    /// Canonical URL.
    pub url: String,
    /// Business version.
    pub version: Option<String>,
    /// Name for computers.
    pub name: String,
    /// `primitive-type`, `complex-type`, `resource` or `logical`.
    pub kind: String,
    /// Whether no instance can be of this type itself.
    #[serde(rename = "abstract")]
    pub is_abstract: bool,
    /// The type that is defined or constrained.
    #[serde(rename = "type")]
    pub type_name: String,
    /// What it is derived from.
    pub base_definition: Option<String>,
    /// `specialization` or `constraint`; absent for the roots.
    pub derivation: Option<String>,
    /// Where an extension may stand.
    pub context: Vec<Context>,
    /// FHIRPath conditions on where an extension may stand.
    pub context_invariant: Vec<String>,
    /// Every element, as it holds after everything that was inherited.
    pub snapshot: Element,
    /// Only what differs from the base.
    pub differential: Element,
}

/// A list of element definitions.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Element {
    /// In tree order.
    pub element: Vec<ElementDefinition>,
}

/// Where an extension may stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Context {
    /// `fhirpath`, `element` or `extension`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The path, element id or extension URL.
    pub expression: String,
}

/// What holds for one element.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ElementDefinition {
    /// Path with slice names, such as `Observation.component:systolic.code`.
    pub id: Option<String>,
    /// Path without slice names.
    pub path: String,
    /// `xmlAttr` and the like.
    pub representation: Vec<String>,
    /// Name of the slice, where this begins one.
    pub slice_name: Option<String>,
    /// How the values of this element are divided into slices.
    pub slicing: Option<Slicing>,
    /// Least number of values.
    pub min: Option<u32>,
    /// Most values, or `*`.
    pub max: Option<String>,
    /// What the element is at its origin.
    pub base: Option<ElementBase>,
    /// `#id` of an element whose content this has.
    pub content_reference: Option<String>,
    /// The types it may have.
    #[serde(rename = "type")]
    pub types: Vec<TypeRef>,
    /// Most characters.
    pub max_length: Option<u32>,
    /// Invariants that the element's values keep.
    pub constraint: Vec<Constraint>,
    /// Ids of invariants that the element's presence may break.
    pub condition: Vec<String>,
    /// Whether systems must handle it.
    pub must_support: Option<bool>,
    /// Whether it changes the meaning of what it stands in.
    pub is_modifier: Option<bool>,
    /// Whether it belongs to the summary.
    pub is_summary: Option<bool>,
    /// Value set of its codes.
    pub binding: Option<Binding>,
    /// `fixed[x]`, `pattern[x]`, `minValue[x]`, `maxValue[x]` under their JSON names, and whatever else
    /// was kept; prose is dropped by [`ElementDefinition::keep_rules_only`].
    #[serde(flatten)]
    pub rest: std::collections::BTreeMap<String, Value>,
}

impl ElementDefinition {
    /// The value whose name starts with the prefix (`fixed`, `pattern`, `minValue`, `maxValue`), with the
    /// name of its type as it stands in the JSON name (`CodeableConcept`, `Code`).
    #[must_use]
    pub fn choice(&self, prefix: &str) -> Option<(&str, &Value)> {
        self.rest
            .iter()
            .find_map(|(name, value)| Some((name.strip_prefix(prefix)?, value)))
            .filter(|(type_name, _)| type_name.starts_with(|c: char| c.is_ascii_uppercase()))
    }

    /// Drops everything that states no rule: descriptions, mappings, examples.
    pub fn keep_rules_only(&mut self) {
        self.rest.retain(|name, _| {
            ["fixed", "pattern", "minValue", "maxValue"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        });
    }
}

/// An element at its origin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct ElementBase {
    /// Path where it was first defined.
    pub path: String,
    /// Least number of values there.
    pub min: u32,
    /// Most values there, or `*`.
    pub max: String,
}

/// How values are divided into slices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Slicing {
    /// What tells slices apart.
    pub discriminator: Vec<Discriminator>,
    /// Whether values must come in the order of the slices.
    pub ordered: bool,
    /// `open`, `closed` or `openAtEnd`.
    pub rules: String,
}

/// One thing that tells slices apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Discriminator {
    /// `value`, `exists`, `pattern`, `type` or `profile`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A restricted FHIRPath below the element.
    pub path: String,
}

/// A type that an element may have.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TypeRef {
    /// Name of the type, or a `http://hl7.org/fhirpath/System.` URL.
    pub code: String,
    /// Profiles, one of which the value must conform to.
    pub profile: Vec<String>,
    /// Profiles, one of which the target of a reference must conform to.
    pub target_profile: Vec<String>,
    /// `contained`, `referenced` or `bundled`.
    pub aggregation: Vec<String>,
    /// `either`, `independent` or `specific`.
    pub versioning: Option<String>,
    /// Carries the FHIR type of the `id` elements.
    pub extension: Vec<Value>,
}

/// An invariant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Constraint {
    /// Its id, such as `ele-1`.
    pub key: String,
    /// How grave a breach is.
    pub severity: ConstraintSeverity,
    /// What it demands, in words.
    pub human: String,
    /// What it demands, in FHIRPath; absent where only humans can judge.
    pub expression: Option<String>,
    /// Canonical URL of the definition that introduced it.
    pub source: Option<String>,
}

/// How grave the breach of an invariant is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConstraintSeverity {
    /// The resource is not valid.
    #[default]
    Error,
    /// A human should look.
    Warning,
}

/// Which value set the codes of an element come from.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Binding {
    /// `required`, `extensible`, `preferred` or `example`.
    pub strength: String,
    /// Canonical URL, with version if stated.
    pub value_set: Option<String>,
    /// Carries the largest and the least value set.
    pub extension: Vec<Value>,
}
