//! ValueSet, without its prose.
//!
//! # Source
//! FHIR R4, <https://hl7.org/fhir/R4/valueset.html>.

use serde::{Deserialize, Serialize};

/// A set of codes, by definition (`compose`) or by enumeration (`expansion`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct ValueSet {
    /// Canonical URL.
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
    /// What is in it, as a rule.
    pub compose: Option<Compose>,
    /// What is in it, code by code.
    pub expansion: Option<Expansion>,
}

/// What is in a value set, as a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Compose {
    /// Whether codes that are no longer in use belong to it; absent means yes.
    pub inactive: Option<bool>,
    /// Codes that are in it (any of these).
    pub include: Vec<ConceptSet>,
    /// Codes that are not, whatever `include` says.
    pub exclude: Vec<ConceptSet>,
}

/// Codes from one system, from other value sets, or from both at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConceptSet {
    /// The code system.
    pub system: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Single codes.
    pub concept: Vec<ConceptReference>,
    /// Conditions, all of which hold.
    pub filter: Vec<Filter>,
    /// Value sets, all of which hold the code.
    pub value_set: Vec<String>,
}

/// One code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct ConceptReference {
    /// The code.
    pub code: String,
    /// What to show for it here.
    pub display: Option<String>,
}

/// A condition on codes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Filter {
    /// The property.
    pub property: String,
    /// `=`, `is-a`, `descendent-of`, `is-not-a`, `regex`, `in`, `not-in`, `generalizes` or `exists`.
    pub op: String,
    /// What it is compared with.
    pub value: String,
}

/// What is in a value set, code by code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Expansion {
    /// How many codes there are; more than are listed means that the list is a part.
    pub total: Option<u32>,
    /// The codes; groups nest.
    pub contains: Vec<ExpansionEntry>,
}

/// One code of an expansion, or a group of codes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct ExpansionEntry {
    /// The code system.
    pub system: Option<String>,
    /// Whether it only groups.
    #[serde(rename = "abstract")]
    pub is_abstract: bool,
    /// Whether it is no longer in use.
    pub inactive: bool,
    /// The code.
    pub code: Option<String>,
    /// What to show for it.
    pub display: Option<String>,
    /// Codes below it.
    pub contains: Vec<ExpansionEntry>,
}
