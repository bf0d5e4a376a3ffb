//! The folder of conformance packages: `.tgz` files and a lock file that says which bytes belong to it.
//!
//! Nothing is loaded that the lock file does not name with the same checksum. Packages named by file need
//! no store. What packages mean is `chaperone_fhir`'s business; this file reads and writes.
//! Start at [`PackageStore::open`] and [`load`].

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use chaperone_fhir::catalogue::Catalogue;
use chaperone_fhir::catalogue::version_order;
use chaperone_fhir::package::{
    Available, Lock, LockAdded, Package, PackageId, file_name, resolve, version_satisfies,
};

/// Name of the lock file within the folder.
const LOCK_FILE: &str = "packages.lock";
/// Largest package file, in bytes.
pub(crate) const PACKAGE_BYTES_MAX: u64 = 256 << 20;

/// A folder of packages.
#[derive(Debug)]
pub(crate) struct PackageStore {
    dir: PathBuf,
    lock: Lock,
}

impl PackageStore {
    /// Opens a folder; one that is not there is empty.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let file = dir.join(LOCK_FILE);
        let lock = match fs::read_to_string(&file) {
            Ok(text) => Lock::parse(&text)
                .with_context(|| format!("`{}` cannot be used", file.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Lock::default(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read `{}`", file.display()));
            }
        };
        Ok(Self {
            dir: dir.to_owned(),
            lock,
        })
    }

    /// The lock file's content.
    pub(crate) fn lock(&self) -> &Lock {
        &self.lock
    }

    /// Where the packages are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Reads a package that the lock file names.
    pub(crate) fn read(&self, name: &str, version: &str) -> anyhow::Result<Package> {
        let locked = self
            .lock
            .packages()
            .find(|it| it.name == name && it.version == version)
            .with_context(|| {
                format!(
                    "`{name}#{version}` is not in `{}`; add it with `chaperone packages add`",
                    self.dir.display()
                )
            })?;
        let package = read_package(&self.dir.join(locked.file_name()))?;
        let is_named = package.id.name == name && package.id.version == version;
        if !is_named {
            bail!(
                "`{}` holds {}, not {name}#{version}",
                locked.file_name(),
                title(&package.id)
            );
        }
        self.lock.check(&package.id)?;
        Ok(package)
    }

    /// Puts a package into the folder and the lock file.
    pub(crate) fn add(&mut self, tgz: &[u8]) -> anyhow::Result<(PackageId, LockAdded)> {
        let package = Package::read_definitions(tgz)?;
        let mut lock = self.lock.clone();
        let added = lock.add(&package.id)?;
        fs::create_dir_all(&self.dir)
            .with_context(|| format!("cannot make `{}`", self.dir.display()))?;
        let name = file_name(&package.id.name, &package.id.version);
        // The package first: a lock file that names what is not there would stop everything.
        replace(&self.dir.join(name), tgz)?;
        replace(&self.dir.join(LOCK_FILE), lock.to_text().as_bytes())?;
        self.lock = lock;
        Ok((package.id, added))
    }
}

/// Writes a file so that a crash leaves the old or the new one.
fn replace(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let unfinished = file.with_extension("part");
    fs::write(&unfinished, bytes)
        .and_then(|()| fs::rename(&unfinished, file))
        .with_context(|| format!("cannot write `{}`", file.display()))
}

/// Reads a package file.
pub(crate) fn read_package(file: &Path) -> anyhow::Result<Package> {
    let bytes = read_bounded(file, PACKAGE_BYTES_MAX)?;
    Package::read_definitions(&bytes)
        .with_context(|| format!("`{}` is not a FHIR package", file.display()))
}

/// Reads a file up to a size.
pub(crate) fn read_bounded(file: &Path, bytes_max: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(file)
        .and_then(|opened| opened.take(bytes_max + 1).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read `{}`", file.display()))?;
    if bytes.len() as u64 > bytes_max {
        bail!("`{}` is larger than {bytes_max} bytes", file.display());
    }
    Ok(bytes)
}

/// `name#version`.
pub(crate) fn title(id: &PackageId) -> String {
    format!("{}#{}", id.name, id.version)
}

/// A catalogue of the packages wanted and of what they build on, over R4. Each is a file, or
/// `name` or `name#version` of the store (the newest version where none is said). What is missing is told
/// to `note`.
pub(crate) fn load(
    wanted: &[String],
    store: &PackageStore,
    mut note: impl FnMut(String),
) -> anyhow::Result<Catalogue> {
    let base = Catalogue::r4();
    let mut catalogue = Catalogue::with_base(base);
    if wanted.is_empty() {
        return Ok(catalogue);
    }
    let mut packages = Vec::with_capacity(wanted.len());
    for one in wanted {
        let package = read_wanted(one, store)?;
        // R4 itself is there already.
        if catalogue
            .packages()
            .iter()
            .all(|it| it.name != package.id.name)
        {
            packages.push(package);
        }
    }
    let asked: Vec<usize> = (0..packages.len()).collect();
    add_dependencies(&mut packages, store, catalogue.packages())?;
    let available: Vec<Available<'_>> = packages
        .iter()
        .map(|it| Available {
            id: &it.id,
            dependencies: &it.dependencies,
        })
        .collect();
    let resolution = resolve(&available, &asked, catalogue.packages());
    for at in resolution.order {
        if let Some(package) = packages.get(at) {
            catalogue.add_package(package)?;
        }
    }
    for missing in catalogue.missing_dependencies() {
        note(format!(
            "{} builds on {}#{}, which is not there: what it defines is not checked",
            title(&missing.needed_by),
            missing.name,
            missing.version
        ));
    }
    Ok(catalogue)
}

/// A package by file, or by `name` or `name#version` of the store.
pub(crate) fn read_wanted(wanted: &str, store: &PackageStore) -> anyhow::Result<Package> {
    let file = Path::new(wanted);
    if file.is_file() {
        return read_package(file);
    }
    let (name, version) = match wanted.split_once('#') {
        Some((name, version)) => (name, Some(version)),
        None => (wanted, None),
    };
    let found = store
        .lock()
        .packages()
        .filter(|it| it.name == name && version.is_none_or(|version| version == it.version))
        // The lock is sorted as text; the newest is what a dependency on any version would take.
        .max_by(|a, b| version_order(Some(a.version), Some(b.version)));
    match found {
        Some(locked) => store.read(locked.name, locked.version),
        None => bail!(
            "`{wanted}` is neither a file nor a package in `{}`",
            store.dir().display()
        ),
    }
}

/// The bundle's conformance packages over R4, and nothing else: what is in force is what the bundle names.
pub(crate) fn load_bundle_packages(
    bundle: &chaperone_policy::Bundle,
    store: &PackageStore,
) -> anyhow::Result<std::sync::Arc<Catalogue>> {
    let wanted = &bundle.manifest().packages;
    if wanted.is_empty() {
        return Ok(Catalogue::r4());
    }
    let mut catalogue = Catalogue::with_base(Catalogue::r4());
    let mut packages = Vec::with_capacity(wanted.len());
    for one in wanted {
        let package = store.read(&one.name, &one.version)?;
        if package.id.sha256 != one.sha256 {
            bail!(
                "{} in `{}` has checksum {}, and the bundle names {}",
                title(&package.id),
                store.dir().display(),
                package.id.sha256,
                one.sha256
            );
        }
        packages.push(package);
    }
    let available: Vec<Available<'_>> = packages
        .iter()
        .map(|it| Available {
            id: &it.id,
            dependencies: &it.dependencies,
        })
        .collect();
    let all: Vec<usize> = (0..packages.len()).collect();
    for at in resolve(&available, &all, catalogue.packages()).order {
        if let Some(package) = packages.get(at) {
            catalogue.add_package(package)?;
        }
    }
    Ok(std::sync::Arc::new(catalogue))
}

/// Reads from the store what the packages build on, and what that builds on.
fn add_dependencies(
    packages: &mut Vec<Package>,
    store: &PackageStore,
    present: &[PackageId],
) -> anyhow::Result<()> {
    let mut at = 0;
    while let Some(package) = packages.get(at) {
        at += 1;
        let mut needed = Vec::new();
        for (name, version) in &package.dependencies {
            let satisfies =
                |id: &PackageId| id.name == *name && version_satisfies(&id.version, version);
            if present.iter().any(satisfies) || packages.iter().any(|it| satisfies(&it.id)) {
                continue;
            }
            needed.extend(
                store
                    .lock()
                    .packages()
                    .filter(|it| it.name == name && version_satisfies(it.version, version)),
            );
        }
        for locked in needed {
            if packages
                .iter()
                .all(|it| it.id.name != locked.name || it.id.version != locked.version)
            {
                packages.push(store.read(locked.name, locked.version)?);
            }
        }
    }
    Ok(())
}
