//! CodeSystem, without its prose.
//!
//! # Source
//! FHIR R4, <https://hl7.org/fhir/R4/codesystem.html>.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Codes and what relates them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CodeSystem {
    /// Canonical URL: the `system` of its codes.
    pub url: String,
    /// Business version.
    pub version: Option<String>,
    /// Name for computers.
    pub name: Option<String>,
    /// Title for people.
    pub title: Option<String>,
    /// `draft`, `active`, `retired` or `unknown`.
    pub status: Option<String>,
    /// Whether it is for trying things out only.
    pub experimental: Option<bool>,
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
    /// What may be known about its codes.
    pub property: Vec<PropertyDefinition>,
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

/// Something that may be known about codes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct PropertyDefinition {
    /// Its name in [`ConceptProperty::code`].
    pub code: String,
    /// What it means, as a URI.
    pub uri: Option<String>,
    /// `code`, `Coding`, `string`, `integer`, `boolean`, `dateTime` or `decimal`.
    #[serde(rename = "type")]
    pub kind: String,
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

/// Something that is known about a code. At most one of the values is there.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConceptProperty {
    /// Which property.
    pub code: String,
    /// A code of the same system.
    pub value_code: Option<String>,
    /// A code of any system.
    pub value_coding: Option<Coding>,
    /// A text.
    pub value_string: Option<String>,
    /// A whole number.
    pub value_integer: Option<i64>,
    /// Yes or no.
    pub value_boolean: Option<bool>,
    /// A point in time.
    pub value_date_time: Option<String>,
    /// A number.
    pub value_decimal: Option<f64>,
}

impl ConceptProperty {
    /// The value as a filter of a value set writes it: a `Coding` by its code.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'_, str>> {
        let text = self
            .value_code
            .as_deref()
            .or(self.value_coding.as_ref().map(|it| it.code.as_str()))
            .or(self.value_string.as_deref())
            .or(self.value_date_time.as_deref());
        text.map(Cow::Borrowed)
            .or(self.value_boolean.map(|it| Cow::Owned(it.to_string())))
            .or(self.value_integer.map(|it| Cow::Owned(it.to_string())))
            .or(self.value_decimal.map(|it| Cow::Owned(it.to_string())))
    }
}

/// A code with its system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Coding {
    /// The code system.
    pub system: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// The code.
    pub code: String,
}
