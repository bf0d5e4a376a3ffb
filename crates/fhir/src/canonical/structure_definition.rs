//! StructureDefinition, without its prose.
//!
//! # Source
//! FHIR R4, <https://hl7.org/fhir/R4/structuredefinition.html> and
//! <https://hl7.org/fhir/R4/elementdefinition.html>.

use serde::{Deserialize, Serialize};

use super::element_json;
use super::extensions::{self, Bounds};

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
    /// Title for people.
    pub title: Option<String>,
    /// `draft`, `active`, `retired` or `unknown`.
    pub status: Option<String>,
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
    /// Canonical URLs of profiles that instances must conform to as well.
    #[serde(rename = "extension", deserialize_with = "extensions::read")]
    pub imposes: extensions::Imposed,
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
    #[serde(deserialize_with = "element_json::read_all")]
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
    /// `fixed[x]`: the value must be this one.
    pub fixed: Option<Choice>,
    /// `pattern[x]`: the value must hold at least this.
    pub pattern: Option<Choice>,
    /// `minValue[x]`: the least value.
    pub min_value: Option<Choice>,
    /// `maxValue[x]`: the greatest value.
    pub max_value: Option<Choice>,
}

/// A value that stands in a definition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Choice {
    /// The name of its type as it stands in the JSON name, such as `CodeableConcept` or `Code`.
    pub type_name: String,
    /// The value as it is written, in JSON.
    pub json: String,
}

impl ElementDefinition {
    /// The value under `fixed`, `pattern`, `minValue` or `maxValue`: the name of its type as it stands in
    /// the JSON name (`CodeableConcept`, `Code`), and the value as JSON text.
    #[must_use]
    pub fn choice(&self, prefix: &str) -> Option<(&str, &str)> {
        let choice = match prefix {
            "fixed" => &self.fixed,
            "pattern" => &self.pattern,
            "minValue" => &self.min_value,
            "maxValue" => &self.max_value,
            _ => return None,
        };
        choice
            .as_ref()
            .map(|it| (it.type_name.as_str(), it.json.as_str()))
    }

    /// The path with slice names: the id, or the path where there is none.
    #[must_use]
    pub fn id_or_path(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.path)
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
    /// The FHIR type behind a `http://hl7.org/fhirpath/System.` code, as on `id` elements.
    #[serde(rename = "extension", deserialize_with = "extensions::read")]
    pub fhir_type: extensions::FhirType,
    /// Beside each entry of `profile` the id of the element in it that is meant, or nothing for its root.
    #[serde(rename = "_profile", deserialize_with = "extensions::read_beside")]
    pub profile_element: extensions::ProfileElements,
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
    /// Whether it states good practice rather than a rule.
    #[serde(rename = "extension", deserialize_with = "extensions::read")]
    pub best_practice: extensions::BestPractice,
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
    /// The largest and the least value set, and further bindings.
    #[serde(rename = "extension", deserialize_with = "extensions::read")]
    pub bounds: Bounds,
}
