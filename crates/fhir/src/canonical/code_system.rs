//! CodeSystem, without its prose.
//!
//! # Source
//! FHIR R4, <https://hl7.org/fhir/R4/codesystem.html>.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Codes and what relates them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CodeSystem {
    /// Canonical URL: the `system` of its codes.
    pub url: String,
    /// Business version.
    pub version: Option<String>,
    /// Whether upper and lower case differ; absent means they do.
    pub case_sensitive: Option<bool>,
    /// Canonical URL of the value set of all its codes.
    pub value_set: Option<String>,
    /// What nesting means: `is-a`, `grouped-by`, `part-of` or `classified-with`.
    pub hierarchy_meaning: Option<String>,
    /// Whether codes can be combined into new ones.
    pub compositional: bool,
    /// How much of the system is here.
    pub content: Content,
    /// The system that this supplements, where `content` says so.
    pub supplements: Option<String>,
    /// How value sets may select codes.
    pub filter: Vec<Filter>,
    /// The codes; narrower ones nest.
    pub concept: Vec<Concept>,
}

/// How much of a code system is here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// No code.
    #[default]
    NotPresent,
    /// A few codes, to show what they look like.
    Example,
    /// Some codes.
    Fragment,
    /// Every code.
    Complete,
    /// Additions to another system.
    Supplement,
}

/// How value sets may select codes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Filter {
    /// The property.
    pub code: String,
    /// Operators that can be used with it.
    pub operator: Vec<String>,
}

/// One code.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Concept {
    /// The code.
    pub code: String,
    /// What to show for it.
    pub display: Option<String>,
    /// Other words for it.
    pub designation: Vec<Designation>,
    /// What is known about it.
    pub property: Vec<ConceptProperty>,
    /// Narrower codes.
    pub concept: Vec<Concept>,
}

/// Another word for a code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Designation {
    /// Language tag.
    pub language: Option<String>,
    /// The word.
    pub value: String,
}

/// Something that is known about a code.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct ConceptProperty {
    /// Which property.
    pub code: String,
    /// `value[x]` under its JSON name.
    #[serde(flatten)]
    pub value: std::collections::BTreeMap<String, Value>,
}
