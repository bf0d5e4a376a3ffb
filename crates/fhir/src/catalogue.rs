//! What is defined: conformance resources by canonical URL, from packages and single files.
//!
//! It opens no file and fetches nothing: the caller brings packages and texts. A later addition never
//! replaces an earlier one with the same URL and version.
//! Start at [`Catalogue::add_package`].

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::canonical::{CodeSystem, StructureDefinition, ValueSet, split_version};
use crate::package::{Package, PackageId};

/// Why something could not be added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// Not a JSON object with a `resourceType`.
    #[error("`{name}` is not a FHIR resource in JSON")]
    NotAResource {
        /// The file.
        name: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Conformance resources by canonical URL.
#[derive(Debug, Default)]
pub struct Catalogue {
    packages: Vec<PackageId>,
    /// By type and URL; several versions in the order in which they came.
    entries: BTreeMap<(String, String), Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    version: Option<String>,
    text: Vec<u8>,
    read: OnceLock<Option<Definition>>,
}

#[derive(Clone, Debug)]
enum Definition {
    Structure(Arc<StructureDefinition>),
    ValueSet(Arc<ValueSet>),
    CodeSystem(Arc<CodeSystem>),
    Other(Arc<serde_json::Value>),
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    resource_type: String,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    version: Option<String>,
}

impl Catalogue {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds every conformance resource of a package.
    ///
    /// # Errors
    /// A file of the package is not a FHIR resource.
    pub fn add_package(&mut self, package: &Package) -> Result<(), AddError> {
        for (name, text) in &package.files {
            if name.starts_with('.') || !name.ends_with(".json") {
                continue;
            }
            self.add_resource(name, text)?;
        }
        self.packages.push(package.id.clone());
        Ok(())
    }

    /// Adds one conformance resource; one without URL is passed over.
    ///
    /// # Errors
    /// The text is not a FHIR resource.
    pub fn add_resource(&mut self, name: &str, text: &[u8]) -> Result<(), AddError> {
        let header: Header =
            serde_json::from_slice(text).map_err(|source| AddError::NotAResource {
                name: name.to_owned(),
                source,
            })?;
        let Some(url) = header.url else {
            return Ok(());
        };
        let versions = self.entries.entry((header.resource_type, url)).or_default();
        if versions.iter().all(|it| it.version != header.version) {
            versions.push(Entry {
                version: header.version,
                text: text.to_vec(),
                read: OnceLock::new(),
            });
        }
        Ok(())
    }

    /// The packages that were added, in that order.
    #[must_use]
    pub fn packages(&self) -> &[PackageId] {
        &self.packages
    }

    /// A type or profile by canonical URL, with or without `|version`. Its snapshot is filled.
    #[must_use]
    pub fn structure(&self, canonical: &str) -> Option<Arc<StructureDefinition>> {
        match self.find("StructureDefinition", canonical)? {
            Definition::Structure(it) => Some(it),
            _ => None,
        }
    }

    /// A value set by canonical URL.
    #[must_use]
    pub fn value_set(&self, canonical: &str) -> Option<Arc<ValueSet>> {
        match self.find("ValueSet", canonical)? {
            Definition::ValueSet(it) => Some(it),
            _ => None,
        }
    }

    /// A code system by its `system` URL.
    #[must_use]
    pub fn code_system(&self, canonical: &str) -> Option<Arc<CodeSystem>> {
        match self.find("CodeSystem", canonical)? {
            Definition::CodeSystem(it) => Some(it),
            _ => None,
        }
    }

    /// A questionnaire by canonical URL.
    #[must_use]
    pub fn questionnaire(&self, canonical: &str) -> Option<Arc<serde_json::Value>> {
        match self.find("Questionnaire", canonical)? {
            Definition::Other(it) => Some(it),
            _ => None,
        }
    }

    fn find(&self, resource_type: &str, canonical: &str) -> Option<Definition> {
        let (url, version) = split_version(canonical);
        let versions = self
            .entries
            .get(&(resource_type.to_owned(), url.to_owned()))?;
        let entry = match version {
            Some(version) => versions
                .iter()
                .find(|it| it.version.as_deref() == Some(version))?,
            None => versions.last()?,
        };
        entry
            .read
            .get_or_init(|| read(resource_type, &entry.text))
            .clone()
    }
}

fn read(resource_type: &str, text: &[u8]) -> Option<Definition> {
    Some(match resource_type {
        "StructureDefinition" => {
            let mut it: StructureDefinition = serde_json::from_slice(text).ok()?;
            for element in it
                .snapshot
                .element
                .iter_mut()
                .chain(&mut it.differential.element)
            {
                element.keep_rules_only();
            }
            Definition::Structure(Arc::new(it))
        }
        "ValueSet" => Definition::ValueSet(Arc::new(serde_json::from_slice(text).ok()?)),
        "CodeSystem" => Definition::CodeSystem(Arc::new(serde_json::from_slice(text).ok()?)),
        _ => Definition::Other(Arc::new(serde_json::from_slice(text).ok()?)),
    })
}
