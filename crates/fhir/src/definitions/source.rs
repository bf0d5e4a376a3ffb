//! The parts of FHIR's conformance resources that compilation reads.
//!
//! Only the fields needed; prose is never read into memory.
//! Start at [`Sources::read`].

use std::collections::BTreeMap;

use serde::Deserialize;

use super::compile::CompileError;
use crate::package::Package;

#[derive(Deserialize)]
pub(super) struct StructureDefinition {
    pub(super) url: String,
    pub(super) kind: String,
    #[serde(default)]
    pub(super) derivation: Option<String>,
    #[serde(rename = "type")]
    pub(super) type_name: String,
    #[serde(rename = "abstract", default)]
    pub(super) is_abstract: bool,
    #[serde(default)]
    pub(super) snapshot: Snapshot,
}

#[derive(Default, Deserialize)]
pub(super) struct Snapshot {
    pub(super) element: Vec<ElementDefinition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ElementDefinition {
    pub(super) path: String,
    #[serde(default)]
    pub(super) slice_name: Option<String>,
    #[serde(default)]
    pub(super) representation: Vec<String>,
    #[serde(default)]
    pub(super) min: u16,
    #[serde(default)]
    pub(super) max: String,
    #[serde(default)]
    pub(super) base: Option<Base>,
    #[serde(default)]
    pub(super) content_reference: Option<String>,
    #[serde(rename = "type", default)]
    pub(super) types: Vec<TypeRef>,
    #[serde(default)]
    pub(super) is_modifier: bool,
    #[serde(default)]
    pub(super) is_summary: bool,
    #[serde(default)]
    pub(super) binding: Option<BindingDefinition>,
}

#[derive(Deserialize)]
pub(super) struct Base {
    pub(super) path: String,
    pub(super) max: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TypeRef {
    pub(super) code: String,
    #[serde(default)]
    pub(super) profile: Vec<String>,
    #[serde(default)]
    pub(super) target_profile: Vec<String>,
    #[serde(default)]
    pub(super) extension: Vec<TypeExtension>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TypeExtension {
    pub(super) url: String,
    #[serde(default)]
    pub(super) value_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BindingDefinition {
    pub(super) strength: String,
    #[serde(default)]
    pub(super) value_set: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct ValueSet {
    pub(super) url: String,
    #[serde(default)]
    pub(super) compose: Option<Compose>,
}

#[derive(Deserialize)]
pub(super) struct Compose {
    #[serde(default)]
    pub(super) include: Vec<ConceptSet>,
    #[serde(default)]
    pub(super) exclude: Vec<ConceptSet>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConceptSet {
    #[serde(default)]
    pub(super) system: Option<String>,
    #[serde(default)]
    pub(super) concept: Vec<Concept>,
    #[serde(default)]
    pub(super) filter: Vec<serde::de::IgnoredAny>,
    #[serde(default)]
    pub(super) value_set: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct CodeSystem {
    pub(super) url: String,
    pub(super) content: String,
    #[serde(default)]
    pub(super) concept: Vec<Concept>,
}

#[derive(Deserialize)]
pub(super) struct Concept {
    pub(super) code: String,
    #[serde(default)]
    pub(super) concept: Vec<Concept>,
}

#[derive(Deserialize)]
pub(super) struct SearchParameter {
    pub(super) code: String,
    #[serde(default)]
    pub(super) base: Vec<String>,
    #[serde(default)]
    pub(super) expression: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct CompartmentDefinition {
    pub(super) code: String,
    #[serde(default)]
    pub(super) resource: Vec<CompartmentResource>,
}

#[derive(Deserialize)]
pub(super) struct CompartmentResource {
    pub(super) code: String,
    #[serde(default)]
    pub(super) param: Vec<String>,
}

/// Everything compilation needs of a package, keyed by canonical URL where there is one.
pub(super) struct Sources {
    pub(super) structures: BTreeMap<String, StructureDefinition>,
    pub(super) value_sets: BTreeMap<String, ValueSet>,
    pub(super) code_systems: BTreeMap<String, CodeSystem>,
    pub(super) search_parameters: Vec<SearchParameter>,
    pub(super) patient_compartment: CompartmentDefinition,
}

/// File name prefixes of the resources that compilation reads.
const PREFIXES: [&str; 5] = [
    "StructureDefinition-",
    "ValueSet-",
    "CodeSystem-",
    "SearchParameter-",
    "CompartmentDefinition-patient.json",
];

/// Whether compilation reads a file of that name.
pub(super) fn is_wanted(file_name: &str) -> bool {
    file_name.ends_with(".json") && PREFIXES.iter().any(|prefix| file_name.starts_with(prefix))
}

impl Sources {
    /// Reads the wanted files of a package.
    pub(super) fn read(package: &Package) -> Result<Self, CompileError> {
        let mut structures = BTreeMap::new();
        let mut value_sets = BTreeMap::new();
        let mut code_systems = BTreeMap::new();
        let mut search_parameters = Vec::new();
        let mut patient_compartment = None;
        for (name, content) in &package.files {
            if name.starts_with("StructureDefinition-") {
                let it: StructureDefinition = read(name, content)?;
                structures.insert(it.url.clone(), it);
            } else if name.starts_with("ValueSet-") {
                let it: ValueSet = read(name, content)?;
                value_sets.insert(it.url.clone(), it);
            } else if name.starts_with("CodeSystem-") {
                let it: CodeSystem = read(name, content)?;
                code_systems.insert(it.url.clone(), it);
            } else if name.starts_with("SearchParameter-") {
                search_parameters.push(read(name, content)?);
            } else if name == "CompartmentDefinition-patient.json" {
                patient_compartment = Some(read(name, content)?);
            }
        }
        let patient_compartment = patient_compartment.ok_or(CompileError::Missing(
            "CompartmentDefinition/patient".to_owned(),
        ))?;
        Ok(Self {
            structures,
            value_sets,
            code_systems,
            search_parameters,
            patient_compartment,
        })
    }
}

fn read<T: serde::de::DeserializeOwned>(name: &str, content: &[u8]) -> Result<T, CompileError> {
    serde_json::from_slice(content).map_err(|source| CompileError::Unreadable {
        file: name.to_owned(),
        source,
    })
}
