//! The few extensions of definitions that carry rules, as fields of their own.
//!
//! In JSON they stand in `extension` arrays; in the compact form they are written as what they mean.
//! Every other extension of a definition is passed over. Start at [`Bounds`].

use serde::{Deserialize, Deserializer, Serialize};

/// Where most of these extensions are defined.
const CORE: &str = "http://hl7.org/fhir/StructureDefinition/";
/// Where additional bindings were defined before R5.
const ADDITIONAL: [&str; 2] = [
    "http://hl7.org/fhir/tools/StructureDefinition/additional-binding",
    "http://hl7.org/fhir/StructureDefinition/additional-binding",
];

/// The FHIR type behind a FHIRPath system type.
///
/// # Source
/// Extension `structuredefinition-fhir-type`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct FhirType(pub Option<String>);

/// Whether an invariant states good practice rather than a rule.
///
/// # Source
/// Extension `elementdefinition-bestpractice`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct BestPractice(pub bool);

/// Profiles that instances of a profile must conform to as well.
///
/// # Source
/// Extension `structuredefinition-imposeProfile`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Imposed(pub Vec<String>);

/// Beside each profile of a type, the id of the element in it that is meant.
///
/// # Source
/// Extension `elementdefinition-profile-element`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct ProfileElements(pub Vec<Option<String>>);

/// What a binding says beside its value set.
///
/// # Source
/// Extensions `elementdefinition-maxValueSet`, `elementdefinition-minValueSet` and
/// `additional-binding`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Bounds {
    /// Every code must be in this one, whatever the strength.
    pub max_value_set: Option<String>,
    /// Systems must handle all of this one.
    pub min_value_set: Option<String>,
    /// Further bindings.
    pub additional: Vec<AdditionalBinding>,
}

/// A further binding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct AdditionalBinding {
    /// `maximum`, `minimum`, `required`, `extensible`, `candidate`, `current`, `preferred`, `ui`,
    /// `starter` or `component`.
    pub purpose: String,
    /// Canonical URL.
    pub value_set: String,
    /// Whether any value may do rather than all must.
    pub any: bool,
    /// Whether it holds only in some context of use.
    pub has_usage: bool,
}

/// An extension as it stands in JSON.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Extension {
    url: String,
    #[serde(
        alias = "valueUri",
        alias = "valueUrl",
        alias = "valueCanonical",
        alias = "valueCode"
    )]
    value_string: Option<String>,
    value_boolean: Option<bool>,
    extension: Vec<Extension>,
}

impl Extension {
    fn is(&self, name: &str) -> bool {
        self.url.strip_prefix(CORE) == Some(name)
    }

    fn text(self) -> Option<String> {
        self.value_string
    }
}

/// What a list of extensions means.
pub(super) trait Meaning: Sized {
    /// Reads it from all extensions of one object.
    fn of(extensions: Vec<Extension>) -> Self;
}

/// The object beside a primitive value, such as `_profile`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Beside {
    extension: Vec<Extension>,
}

/// JSON: an array of extensions; compact: the meaning itself.
pub(super) fn read<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Meaning + Deserialize<'de>,
{
    if deserializer.is_human_readable() {
        Vec::deserialize(deserializer).map(T::of)
    } else {
        T::deserialize(deserializer)
    }
}

/// JSON: an array of objects beside an array of primitive values; compact: the meaning itself.
pub(super) fn read_beside<'de, D>(deserializer: D) -> Result<ProfileElements, D::Error>
where
    D: Deserializer<'de>,
{
    if !deserializer.is_human_readable() {
        return ProfileElements::deserialize(deserializer);
    }
    let beside: Vec<Option<Beside>> = Vec::deserialize(deserializer)?;
    Ok(ProfileElements(
        beside
            .into_iter()
            .map(|it| {
                it?.extension
                    .into_iter()
                    .find(|it| it.is("elementdefinition-profile-element"))
                    .and_then(Extension::text)
            })
            .collect(),
    ))
}

impl Meaning for FhirType {
    fn of(extensions: Vec<Extension>) -> Self {
        Self(
            extensions
                .into_iter()
                .find(|it| it.is("structuredefinition-fhir-type"))
                .and_then(Extension::text),
        )
    }
}

impl Meaning for BestPractice {
    fn of(extensions: Vec<Extension>) -> Self {
        Self(
            extensions.iter().any(|it| {
                it.is("elementdefinition-bestpractice") && it.value_boolean == Some(true)
            }),
        )
    }
}

impl Meaning for Imposed {
    fn of(extensions: Vec<Extension>) -> Self {
        Self(
            extensions
                .into_iter()
                .filter(|it| it.is("structuredefinition-imposeProfile"))
                .filter_map(Extension::text)
                .collect(),
        )
    }
}

impl Meaning for Bounds {
    fn of(extensions: Vec<Extension>) -> Self {
        let mut bounds = Self::default();
        for extension in extensions {
            if extension.is("elementdefinition-maxValueSet") {
                bounds.max_value_set = extension.text();
            } else if extension.is("elementdefinition-minValueSet") {
                bounds.min_value_set = extension.text();
            } else if ADDITIONAL.contains(&extension.url.as_str()) {
                let mut binding = AdditionalBinding::default();
                for part in extension.extension {
                    match part.url.as_str() {
                        "purpose" => binding.purpose = part.text().unwrap_or_default(),
                        "valueSet" => binding.value_set = part.text().unwrap_or_default(),
                        "any" => binding.any = part.value_boolean == Some(true),
                        "usage" => binding.has_usage = true,
                        _ => {}
                    }
                }
                bounds.additional.push(binding);
            }
        }
        bounds
    }
}
