//! Reads FHIR NPM packages (`.tgz`) from bytes.
//!
//! It opens no file and fetches nothing: the caller brings the bytes.
//! Start at [`Package::read`]; which packages a store holds is in [`Lock`], in which order they build on
//! each other in [`resolve`].
//!
//! Format: <https://confluence.hl7.org/display/FHIR/NPM+Package+Specification>.

mod lock;
mod order;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use sha2::{Digest, Sha256};

pub use lock::{Lock, LockAddError, LockAdded, LockCheckError, LockParseError, Locked, file_name};
pub use order::{Available, Resolution, resolve};

/// Largest package accepted, unpacked, in bytes.
const UNPACKED_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Largest single file kept, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Largest number of files in a package.
const FILES_MAX: usize = 100_000;

/// Which package a definition or a verdict comes from.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PackageId {
    /// Name, such as `hl7.fhir.r4.core`.
    pub name: String,
    /// Version, such as `4.0.1`.
    pub version: String,
    /// Version of FHIR that the package is for.
    pub fhir_version: String,
    /// SPDX id of the licence.
    pub licence: String,
    /// SHA-256 of the `.tgz`, in lower-case hexadecimal.
    pub sha256: String,
}

/// An unpacked package: the files at the top of its `package/` folder.
#[derive(Clone, Debug)]
pub struct Package {
    /// Name, version and checksum.
    pub id: PackageId,
    /// Packages that it builds on: name to version, such as `6.4.0` or `4.0.x`.
    pub dependencies: BTreeMap<String, String>,
    /// File name (without `package/`) to content.
    pub files: BTreeMap<String, Arc<[u8]>>,
}

/// Why a package could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PackageReadError {
    /// The archive is damaged.
    #[error("the package is not a readable .tgz archive")]
    Archive(#[source] std::io::Error),
    /// The archive is beyond a limit.
    #[error("the package is larger than the limit ({0})")]
    TooLarge(&'static str),
    /// The manifest `package.json` is missing.
    #[error("the package holds no `package/package.json`")]
    NoManifest,
    /// The manifest is not as expected.
    #[error("the package's manifest cannot be read")]
    Manifest(#[source] serde_json::Error),
}

#[derive(serde::Deserialize)]
struct Manifest {
    name: String,
    version: String,
    #[serde(default)]
    license: String,
    #[serde(default, rename = "fhirVersions", alias = "fhir-version-list")]
    fhir_versions: Vec<String>,
    #[serde(default)]
    dependencies: BTreeMap<String, String>,
}

impl Package {
    /// Unpacks the files for whose names `keep` answers true; the manifest is always read.
    ///
    /// # Errors
    /// The archive is damaged or beyond the limits, or it has no readable manifest.
    pub fn read(tgz: &[u8], keep: impl Fn(&str) -> bool) -> Result<Self, PackageReadError> {
        let unpacked = flate2::read::GzDecoder::new(tgz).take(UNPACKED_BYTES_MAX);
        let mut archive = tar::Archive::new(unpacked);
        let mut files = BTreeMap::new();
        let mut manifest = None;
        for (count, entry) in archive
            .entries()
            .map_err(PackageReadError::Archive)?
            .enumerate()
        {
            if count >= FILES_MAX {
                return Err(PackageReadError::TooLarge("number of files"));
            }
            let mut entry = entry.map_err(PackageReadError::Archive)?;
            let path = entry
                .path()
                .map_err(PackageReadError::Archive)?
                .to_string_lossy()
                .into_owned();
            let Some(name) = path.trim_start_matches("./").strip_prefix("package/") else {
                continue;
            };
            let is_manifest = name == "package.json";
            if !is_manifest && !keep(name) {
                continue;
            }
            if entry.size() > FILE_BYTES_MAX {
                return Err(PackageReadError::TooLarge("one file"));
            }
            let mut content = Vec::new();
            entry
                .read_to_end(&mut content)
                .map_err(PackageReadError::Archive)?;
            if is_manifest {
                manifest = Some(content);
            } else {
                files.insert(name.to_owned(), Arc::from(content));
            }
        }
        let manifest: Manifest =
            serde_json::from_slice(&manifest.ok_or(PackageReadError::NoManifest)?)
                .map_err(PackageReadError::Manifest)?;
        let id = PackageId {
            name: manifest.name,
            version: manifest.version,
            fhir_version: fhir_version(manifest.fhir_versions),
            licence: manifest.license,
            sha256: hex::encode(Sha256::digest(tgz)),
        };
        Ok(Self {
            id,
            dependencies: manifest.dependencies,
            files,
        })
    }

    /// Unpacks the files that may define something: see [`Package::may_define`].
    ///
    /// # Errors
    /// As for [`Package::read`].
    pub fn read_definitions(tgz: &[u8]) -> Result<Self, PackageReadError> {
        Self::read(tgz, Self::may_define)
    }

    /// Whether a file of this name may hold a conformance resource: JSON at the top of the package.
    /// Examples lie in folders of their own.
    #[must_use]
    pub fn may_define(name: &str) -> bool {
        name.ends_with(".json")
            && !name.starts_with('.')
            && !name.contains('/')
            && name != "package.json"
    }
}

/// The R4 among several versions of FHIR, or the first.
fn fhir_version(versions: Vec<String>) -> String {
    let r4 = versions.iter().position(|it| it.starts_with("4.0"));
    versions
        .into_iter()
        .nth(r4.unwrap_or_default())
        .unwrap_or_default()
}

/// Whether a version of a package is what a dependency asks for: the same, or alike up to a segment
/// `x`; `current`, `latest` and `*` are content with any.
///
/// # Source
/// FHIR NPM Package Specification, version references in dependencies.
#[must_use]
pub fn version_satisfies(version: &str, asked: &str) -> bool {
    if matches!(asked, "current" | "dev" | "latest" | "*") || version == asked {
        return true;
    }
    let mut segments = version.split('.');
    for wanted in asked.split('.') {
        if wanted == "x" {
            return true;
        }
        if segments.next() != Some(wanted) {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tgz(files: &[(&str, &str)]) -> Vec<u8> {
        let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut builder = tar::Builder::new(encoder);
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder
                .append_data(&mut header, path, content.as_bytes())
                .unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn reads_the_manifest_and_the_wanted_files() {
        let bytes = tgz(&[
            (
                "package/package.json",
                r#"{"name":"x.y","version":"1.2.3","license":"CC0-1.0","fhirVersions":["4.0.1"]}"#,
            ),
            ("package/ValueSet-a.json", "{}"),
            ("package/other/skip.json", "{}"),
            ("elsewhere.json", "{}"),
        ]);
        let package = Package::read(&bytes, |name| name.starts_with("ValueSet-")).unwrap();
        assert_eq!(
            (package.id.name.as_str(), package.id.version.as_str()),
            ("x.y", "1.2.3")
        );
        assert_eq!(package.id.sha256.len(), 64);
        assert_eq!(
            package.files.keys().collect::<Vec<_>>(),
            ["ValueSet-a.json"]
        );
    }

    #[test]
    fn a_version_satisfies_what_is_asked() {
        for (version, asked, expected) in [
            ("4.0.1", "4.0.1", true),
            ("4.0.1", "4.0.x", true),
            ("4.0.1", "4.x", true),
            ("4.0.1", "latest", true),
            ("4.0.1", "4.0", false),
            ("4.0.10", "4.0.1", false),
            ("4.1.0", "4.0.x", false),
        ] {
            assert_eq!(
                version_satisfies(version, asked),
                expected,
                "{version} {asked}"
            );
        }
    }

    #[test]
    fn refuses_damage_and_a_missing_manifest() {
        assert!(matches!(
            Package::read(b"not gzip", |_| true),
            Err(PackageReadError::Archive(_))
        ));
        assert!(matches!(
            Package::read(&tgz(&[("package/a.json", "{}")]), |_| true),
            Err(PackageReadError::NoManifest)
        ));
    }
}
