//! What is defined: conformance resources by canonical URL, from packages and single files.
//!
//! A catalogue may lie over another: what it holds itself comes first, then what lies beneath.
//! [`Catalogue::r4`] is the bottom: everything of R4 core that validation needs, embedded.
//! Each definition is read when it is first asked for. Definitions are found by canonical URL, never by
//! name. It opens no file and fetches nothing: the caller brings packages and texts.
//! A later addition never replaces an earlier one with the same URL and version.
//! Start at [`Catalogue::with_base`] and [`Catalogue::add_package`]; which version answers is in
//! `catalogue/version.rs`.

mod compact;
mod entry;
mod filling;
mod version;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, OnceLock};

pub use compact::{DecodeError, GenerateError, generate};
pub use version::VersionMatch;
pub use version::order as version_order;

use crate::canonical::{CodeSystem, StructureDefinition, ValueSet, split_version};
use crate::package::{Package, PackageId};
use crate::snapshot::{SnapshotError, SnapshotProblem};
use compact::{Compact, KINDS};
use entry::{Definition, Entry, Source};

/// Most layers of catalogues.
const LAYERS_MAX: usize = 16;

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
    /// The package is for another version of FHIR.
    #[error(
        "package `{package}` is for FHIR {fhir_version}; this validator checks FHIR R4 (4.0.1)"
    )]
    OtherFhirVersion {
        /// Name and version of the package.
        package: String,
        /// The version of FHIR that it states.
        fhir_version: String,
    },
}

/// Why there is no definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// Nothing has that URL.
    #[error("`{0}` is in no loaded package")]
    NotLoaded(String),
    /// What has that URL cannot be read.
    #[error("`{canonical}` cannot be read: {reason}")]
    Unreadable {
        /// The canonical URL asked for.
        canonical: String,
        /// Why.
        reason: Arc<str>,
    },
    /// It came without a snapshot, and none can be made.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// What a package needs and is not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingDependency {
    /// The package that needs it.
    pub needed_by: PackageId,
    /// Name of the package that is needed.
    pub name: String,
    /// The version that is asked for, such as `6.4.0` or `4.0.x`.
    pub version: String,
    /// The version that is loaded instead, if any is.
    pub loaded: Option<String>,
}

/// Where a definition was found.
#[derive(Clone, Copy, Debug)]
pub struct Located<'c> {
    /// Its type, such as `ValueSet`.
    pub resource_type: &'c str,
    /// Its canonical URL, without version.
    pub url: &'c str,
    /// Its version.
    pub version: Option<&'c str>,
    /// How that relates to the version asked for.
    pub version_match: VersionMatch,
    /// The package that it came in; none for a single file.
    pub package: Option<&'c PackageId>,
}

/// Conformance resources by canonical URL.
#[derive(Debug, Default)]
pub struct Catalogue {
    base: Option<Arc<Catalogue>>,
    /// Of this layer only.
    own: Vec<PackageId>,
    /// Of this layer and those beneath, from the bottom up.
    packages: Vec<PackageId>,
    missing: Vec<MissingDependency>,
    /// By URL; several types and versions in the order in which they came.
    entries: BTreeMap<String, Vec<Entry>>,
    compact: Option<Compact>,
    /// Set once a snapshot was made for an entry of this layer.
    has_filled: OnceLock<()>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header<'a> {
    #[serde(borrow, default)]
    resource_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    url: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    version: Option<Cow<'a, str>>,
}

impl Catalogue {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing of its own yet, over another catalogue. Beyond the sixteenth layer nothing is found.
    #[must_use]
    pub fn with_base(base: Arc<Self>) -> Self {
        Self {
            packages: base.packages.clone(),
            base: Some(base),
            ..Self::default()
        }
    }

    /// The structure definitions, value sets and code systems of FHIR R4 core, embedded.
    #[must_use]
    pub fn r4() -> Arc<Self> {
        static R4: LazyLock<Arc<Catalogue>> = LazyLock::new(|| {
            let bytes = Cow::Borrowed(include_bytes!("../definitions/r4-catalogue.bin").as_slice());
            #[expect(
                clippy::expect_used,
                reason = "the file is embedded and a test opens it"
            )]
            Arc::new(Catalogue::decode(bytes).expect("embedded catalogue"))
        });
        Arc::clone(&R4)
    }

    /// The definitions in a compact file, as [`generate`] makes it.
    ///
    /// # Errors
    /// Not such a file, another format version, or damage in the index. Damage in a record shows when
    /// it is asked for.
    pub fn decode(bytes: Cow<'static, [u8]>) -> Result<Self, DecodeError> {
        let (compact, index) = Compact::open(bytes)?;
        let types = KINDS.map(|(name, _)| Arc::<str>::from(name));
        let mut entries: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        for it in index.definitions {
            let (url, version) = split_url(&it.url, it.version.as_deref());
            let resource_type = types
                .get(usize::from(it.kind))
                .ok_or(DecodeError::Damaged)?;
            entries.entry(url.to_owned()).or_default().push(Entry::new(
                Arc::clone(resource_type),
                version.map(str::to_owned),
                Some(0),
                Source::Compact(it.place),
            ));
        }
        Ok(Self {
            base: None,
            own: vec![index.package.clone()],
            packages: vec![index.package],
            missing: Vec::new(),
            entries,
            compact: Some(compact),
            has_filled: OnceLock::new(),
        })
    }

    /// Adds every conformance resource at the top of a package. Packages that it depends on and that
    /// are not there are noted, see [`Catalogue::missing_dependencies`].
    ///
    /// # Errors
    /// A file of the package is not JSON, or the package is for another version of FHIR.
    pub fn add_package(&mut self, package: &Package) -> Result<(), AddError> {
        let id = &package.id;
        if !id.fhir_version.is_empty() && !id.fhir_version.starts_with("4.0") {
            return Err(AddError::OtherFhirVersion {
                package: format!("{}#{}", id.name, id.version),
                fhir_version: id.fhir_version.clone(),
            });
        }
        let number = self.own.len();
        for (name, text) in &package.files {
            if Package::may_define(name) {
                self.add_text(name, text, Some(number))?;
            }
        }
        self.own.push(id.clone());
        self.packages.push(id.clone());
        self.missing.retain(|it| {
            it.name != id.name || !crate::package::version_satisfies(&id.version, &it.version)
        });
        for (name, version) in &package.dependencies {
            let loaded: Vec<&str> = self
                .packages
                .iter()
                .filter(|it| it.name == *name)
                .map(|it| it.version.as_str())
                .collect();
            if loaded
                .iter()
                .all(|it| !crate::package::version_satisfies(it, version))
            {
                self.missing.push(MissingDependency {
                    needed_by: id.clone(),
                    name: name.clone(),
                    version: version.clone(),
                    loaded: loaded.last().map(|it| (*it).to_owned()),
                });
            }
        }
        Ok(())
    }

    /// Adds one conformance resource; one without URL is passed over.
    ///
    /// # Errors
    /// The text is not a FHIR resource.
    pub fn add_resource(&mut self, name: &str, text: &[u8]) -> Result<(), AddError> {
        self.add_text(name, &Arc::from(text), None)
    }

    fn add_text(
        &mut self,
        name: &str,
        text: &Arc<[u8]>,
        package: Option<usize>,
    ) -> Result<(), AddError> {
        let header: Header<'_> =
            serde_json::from_slice(text).map_err(|source| AddError::NotAResource {
                name: name.to_owned(),
                source,
            })?;
        let (Some(resource_type), Some(url)) = (header.resource_type, header.url) else {
            return Ok(());
        };
        let (url, version) = split_url(&url, header.version.as_deref());
        let versions = self.entries.get(url).map(Vec::as_slice).unwrap_or_default();
        let is_new = versions
            .iter()
            .all(|it| *it.resource_type != *resource_type || it.version.as_deref() != version);
        if is_new {
            self.forget_snapshots();
            self.entries
                .entry(url.to_owned())
                .or_default()
                .push(Entry::new(
                    Arc::from(resource_type.as_ref()),
                    version.map(str::to_owned),
                    package,
                    Source::Json(Arc::clone(text)),
                ));
        }
        Ok(())
    }

    /// The packages that are here, those beneath first.
    #[must_use]
    pub fn packages(&self) -> &[PackageId] {
        &self.packages
    }

    /// Whether a package defines something whose canonical URL begins so.
    pub(crate) fn publishes_below(&self, prefix: &str) -> bool {
        self.layers().any(|it| {
            let first = it.entries.range(prefix.to_owned()..).next();
            first.is_some_and(|(url, entries)| {
                url.starts_with(prefix) && entries.iter().any(|it| it.package.is_some())
            })
        })
    }

    /// What the packages of all layers depend on and is not here. What these would define is not
    /// checked; that is to be said, not to be refused.
    pub fn missing_dependencies(&self) -> impl Iterator<Item = &MissingDependency> {
        self.layers().flat_map(|it| &it.missing).filter(|missing| {
            self.packages.iter().all(|it| {
                it.name != missing.name
                    || !crate::package::version_satisfies(&it.version, &missing.version)
            })
        })
    }

    /// A type or profile by canonical URL, with or without `|version`. Its snapshot is filled.
    #[must_use]
    pub fn structure(&self, canonical: &str) -> Option<Arc<StructureDefinition>> {
        self.structure_or_reason(canonical).ok()
    }

    /// The same, with the reason where there is none.
    ///
    /// # Errors
    /// It is in no loaded package, cannot be read, or came without a snapshot and none can be made.
    pub fn structure_or_reason(
        &self,
        canonical: &str,
    ) -> Result<Arc<StructureDefinition>, FindError> {
        self.filled(canonical).map(|it| it.structure)
    }

    /// The same, for a reference without version that stands in another definition: where several
    /// versions of a package are loaded, the one that `beside` came in is looked at first.
    ///
    /// # Errors
    /// As for [`Catalogue::structure_or_reason`].
    pub fn structure_beside(
        &self,
        beside: &StructureDefinition,
        canonical: &str,
    ) -> Result<Arc<StructureDefinition>, FindError> {
        self.structure_or_reason(&self.beside(beside, canonical))
    }

    /// A reference with the version that it has in the package of another definition, if it has none.
    fn beside<'t>(&self, beside: &StructureDefinition, canonical: &'t str) -> Cow<'t, str> {
        let (url, asked) = split_version(canonical);
        let version = beside.version.as_deref();
        if asked.is_some() || version.is_none() {
            return Cow::Borrowed(canonical);
        }
        let of = format!("{}|{}", beside.url, version.unwrap_or_default());
        let Some((layer, entry, _)) = self.find("StructureDefinition", &of) else {
            return Cow::Borrowed(canonical);
        };
        let same = layer.entries.get(url).into_iter().flatten().find(|it| {
            it.kind == entry.kind && it.package.is_some() && it.package == entry.package
        });
        match same.and_then(|it| it.version.as_deref()) {
            Some(version) => Cow::Owned(format!("{url}|{version}")),
            None => Cow::Borrowed(canonical),
        }
    }

    /// What the differential of a definition that came without a snapshot says and may not say.
    /// The rest of it holds.
    #[must_use]
    pub fn snapshot_problems(&self, canonical: &str) -> Arc<[SnapshotProblem]> {
        self.filled(canonical)
            .map_or_else(|_| Arc::from([]), |it| it.problems)
    }

    /// A value set by canonical URL.
    #[must_use]
    pub fn value_set(&self, canonical: &str) -> Option<Arc<ValueSet>> {
        match self.definition("ValueSet", canonical).ok()? {
            Definition::ValueSet(it) => Some(Arc::clone(it)),
            _ => None,
        }
    }

    /// A code system by its `system` URL.
    #[must_use]
    pub fn code_system(&self, canonical: &str) -> Option<Arc<CodeSystem>> {
        match self.definition("CodeSystem", canonical).ok()? {
            Definition::CodeSystem(it) => Some(Arc::clone(it)),
            _ => None,
        }
    }

    /// A questionnaire by canonical URL.
    #[must_use]
    pub fn questionnaire(&self, canonical: &str) -> Option<Arc<serde_json::Value>> {
        self.resource("Questionnaire", canonical)
    }

    /// A conformance resource of another type than those that have their own record, by canonical URL.
    #[must_use]
    pub fn resource(&self, resource_type: &str, canonical: &str) -> Option<Arc<serde_json::Value>> {
        match self.definition(resource_type, canonical).ok()? {
            Definition::Other(it) => Some(Arc::clone(it)),
            _ => None,
        }
    }

    /// The text of a conformance resource, in JSON; none for what is embedded, which has no text.
    #[must_use]
    pub fn text(&self, resource_type: &str, canonical: &str) -> Option<Arc<[u8]>> {
        match &self.find(resource_type, canonical)?.1.source {
            Source::Json(text) => Some(Arc::clone(text)),
            Source::Compact(_) => None,
        }
    }

    /// Where a definition comes from, and whether its version is the one asked for, without reading it.
    #[must_use]
    pub fn locate(&self, resource_type: &str, canonical: &str) -> Option<Located<'_>> {
        let (layer, entry, version_match) = self.find(resource_type, canonical)?;
        let (url, _) = split_version(canonical);
        let (url, _) = layer.entries.get_key_value(url)?;
        Some(layer.located(url, entry, version_match))
    }

    /// Every conformance resource of a type, by URL, in each version; what lies beneath comes later.
    pub fn resources(&self, resource_type: &str) -> impl Iterator<Item = Located<'_>> {
        let mut seen: BTreeMap<(&str, usize, Option<&str>), Located<'_>> = BTreeMap::new();
        for (depth, layer) in self.layers().enumerate() {
            for (url, versions) in &layer.entries {
                for entry in versions
                    .iter()
                    .filter(|it| *it.resource_type == *resource_type)
                {
                    let version = entry.version.as_deref();
                    if (0..depth).all(|above| !seen.contains_key(&(url, above, version))) {
                        let located = layer.located(url, entry, VersionMatch::Any);
                        seen.insert((url, depth, version), located);
                    }
                }
            }
        }
        seen.into_values()
    }

    fn located<'c>(
        &'c self,
        url: &'c str,
        entry: &'c Entry,
        version_match: VersionMatch,
    ) -> Located<'c> {
        Located {
            resource_type: &entry.resource_type,
            url,
            version: entry.version.as_deref(),
            version_match,
            package: entry.package.and_then(|it| self.own.get(it)),
        }
    }

    /// This catalogue and those beneath, from the top.
    fn layers(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |it| it.base.as_deref()).take(LAYERS_MAX)
    }

    fn definition(&self, resource_type: &str, canonical: &str) -> Result<&Definition, FindError> {
        let (layer, entry, _) = self
            .find(resource_type, canonical)
            .ok_or_else(|| FindError::NotLoaded(canonical.to_owned()))?;
        entry
            .definition(layer.compact.as_ref())
            .map_err(|reason| FindError::Unreadable {
                canonical: canonical.to_owned(),
                reason: Arc::clone(reason),
            })
    }

    /// The layer and the entry that answer a canonical URL.
    fn find(&self, resource_type: &str, canonical: &str) -> Option<(&Self, &Entry, VersionMatch)> {
        let (url, asked) = split_version(canonical);
        let mut best: Option<(&Self, &Entry, VersionMatch)> = None;
        for layer in self.layers() {
            let Some(versions) = layer.entries.get(url) else {
                continue;
            };
            for entry in versions
                .iter()
                .filter(|it| *it.resource_type == *resource_type)
            {
                let found = version::matching(asked, entry.version.as_deref());
                let is_better =
                    best.is_none_or(|(best_layer, best_entry, best_match)| {
                        match rank(found).cmp(&rank(best_match)) {
                            std::cmp::Ordering::Less => false,
                            std::cmp::Ordering::Greater => true,
                            std::cmp::Ordering::Equal => {
                                std::ptr::eq(best_layer, layer)
                                    && version_order(
                                        entry.version.as_deref(),
                                        best_entry.version.as_deref(),
                                    )
                                    .is_gt()
                            }
                        }
                    });
                if is_better {
                    best = Some((layer, entry, found));
                }
            }
            if matches!(best, Some((_, _, VersionMatch::Any | VersionMatch::Exact))) {
                break;
            }
        }
        best
    }
}

/// The URL and version that a definition is found by. Where the URL itself holds a version, as R4 core
/// has it for table 0006 of HL7 version 2, that one counts.
fn split_url<'t>(url: &'t str, version: Option<&'t str>) -> (&'t str, Option<&'t str>) {
    match split_version(url) {
        (url, None) => (url, version),
        (url, inside) => (url, inside),
    }
}

/// Which match is better: the higher.
fn rank(found: VersionMatch) -> u8 {
    match found {
        VersionMatch::Other => 0,
        VersionMatch::Partial => 1,
        VersionMatch::Any | VersionMatch::Exact => 2,
    }
}

#[cfg(test)]
mod tests;
