//! What there is in a key folder, how old it is, and whether all of it can be opened: for `doctor` and
//! `keys status`. Reads files: not for the request path.

use std::collections::BTreeMap;
use std::sync::Arc;

use chaperone_core::Timestamp;
use chaperone_core::ids::TenantId;
use chaperone_core::ports::KmsStanding;

use super::files;
use super::master::{FILE, id_of};
use super::unusable::{KeyVaultUnusable, blocking, read, require_private};
use super::vault::{FileKeyVault, Folder};
use super::wrap::{MASTER, Wrapped};

/// What [`FileKeyVault::check`] found to be sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyCheck {
    /// Data keys that can be unwrapped.
    pub keys: usize,
    /// Names that were destroyed.
    pub destroyed: usize,
}

/// A version of the tenant key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionStatus {
    /// Which; 0 stands for the file master itself, in folders of the first versions of Chaperone.
    pub version: u32,
    /// When it was made; absent where a folder does not say.
    pub made: Option<Timestamp>,
    /// The service that wraps it.
    pub service: String,
    /// The service's key.
    pub service_key: String,
    /// Since when that key is in use here.
    pub service_key_since: Option<Timestamp>,
    /// Data keys under it.
    pub keys: u64,
}

/// A key that was retired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetiredKey {
    /// Which: `tenant-000001`, `master-…`.
    pub key: String,
    /// When.
    pub retired: Timestamp,
}

/// The keys of one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyStatus {
    /// Versions of the tenant key, oldest first; the last is in use.
    pub versions: Vec<VersionStatus>,
    /// Whether a rotation of the tenant key waits to be taken up again.
    pub is_rotating: bool,
    /// Whether a change of the file master waits to be taken up again.
    pub is_changing_master: bool,
    /// Keys that were retired, oldest first.
    pub retired: Vec<RetiredKey>,
    /// Data keys that were destroyed.
    pub destroyed: u64,
    /// When the last one was, where its tombstone says so.
    pub last_destroyed: Option<Timestamp>,
}

impl KeyStatus {
    /// The version in use.
    pub fn newest(&self) -> Option<&VersionStatus> {
        self.versions.last()
    }
}

impl FileKeyVault {
    /// Checks permissions, the signing seed and every wrapped key, asking the service anew for each version.
    ///
    /// # Errors
    /// [`KeyVaultUnusable`] names the first file that is not sound, or what the service said.
    pub async fn check(&self, tenant: &TenantId) -> Result<KeyCheck, KeyVaultUnusable> {
        let folder = self.folder(tenant)?;
        let this = Arc::clone(&folder);
        let versions = blocking(move || {
            require_private(&this.path)?;
            this.ring.versions()
        })
        .await?;
        let mut under = BTreeMap::new();
        for version in versions {
            match folder.ring.unwrap(version).await {
                Ok(key) => drop(under.insert(version, key)),
                // Retired since it was listed.
                Err(KeyVaultUnusable::NoSuchVersion { .. }) => {}
                Err(unusable) => return Err(unusable),
            }
        }
        folder.signing_seed().await?;
        let this = Arc::clone(&folder);
        blocking(move || {
            if under.is_empty() || this.count_master_keys()? > 0 {
                under.insert(MASTER, this.ring.file.read()?);
            }
            let destroyed = this.stones.settle()?.len();
            let mut keys = 0;
            for file in this.key_files()? {
                let path = this.key_path(&file);
                if this.stones.has(&file)? {
                    // A destruction that the power cut short is completed here.
                    files::erase(&path).map_err(KeyVaultUnusable::file(&path))?;
                    continue;
                }
                let Some(stored) = read(&path)? else { continue };
                let opened = Wrapped::parse(&stored).ok().and_then(|wrapped| {
                    let under = under.get(&wrapped.version)?;
                    wrapped.unwrap(under, &this.tenant, &file.to_string()).ok()
                });
                if opened.is_none() {
                    return Err(KeyVaultUnusable::Damaged { path });
                }
                keys += 1;
            }
            Ok(KeyCheck { keys, destroyed })
        })
        .await
    }

    /// What there is, without opening it.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub async fn status(&self, tenant: &TenantId) -> Result<KeyStatus, KeyVaultUnusable> {
        let folder = self.folder(tenant)?;
        blocking(move || folder.status()).await
    }

    /// What the service says of its key.
    ///
    /// # Errors
    /// [`KeyVaultUnusable::Kms`].
    pub async fn service_standing(
        &self,
        tenant: &TenantId,
    ) -> Result<KmsStanding, KeyVaultUnusable> {
        let folder = self.folder(tenant)?;
        Ok(folder.ring.service().standing().await?)
    }
}

impl Folder {
    fn count_master_keys(&self) -> Result<u64, KeyVaultUnusable> {
        Ok(self.keys_by_version()?.get(&MASTER).copied().unwrap_or(0))
    }

    fn keys_by_version(&self) -> Result<BTreeMap<u32, u64>, KeyVaultUnusable> {
        let mut by_version = BTreeMap::new();
        for file in self.key_files()? {
            let stored = read(&self.key_path(&file))?;
            if let Some(wrapped) = stored.and_then(|stored| Wrapped::parse(&stored).ok()) {
                *by_version.entry(wrapped.version).or_default() += 1;
            }
        }
        Ok(by_version)
    }

    fn status(&self) -> Result<KeyStatus, KeyVaultUnusable> {
        let by_version = self.keys_by_version()?;
        let keys = |version| by_version.get(&version).copied().unwrap_or(0);
        let mut versions = Vec::new();
        let numbers = self.ring.versions()?;
        if numbers.is_empty() || keys(MASTER) > 0 {
            let since = self.master_since();
            versions.push(VersionStatus {
                version: MASTER,
                made: since,
                service: FILE.to_owned(),
                service_key: id_of(&self.ring.file.read()?),
                service_key_since: since,
                keys: keys(MASTER),
            });
        }
        for version in numbers {
            let file = match self.ring.read(version) {
                Ok(file) => file,
                // Retired since it was listed.
                Err(KeyVaultUnusable::NoSuchVersion { .. }) => continue,
                Err(unusable) => return Err(unusable),
            };
            versions.push(VersionStatus {
                version,
                made: Some(file.made),
                service: file.kms,
                service_key: file.kms_key,
                service_key_since: Some(file.kms_key_since),
                keys: keys(version),
            });
        }
        let destroyed = self.stones.settle()?;
        let retired = self.ring.retired()?;
        Ok(KeyStatus {
            is_rotating: versions.len() > 1,
            versions,
            is_changing_master: self.ring.file.is_changing()?,
            retired: retired
                .into_iter()
                .map(|note| RetiredKey {
                    key: note.key,
                    retired: note.retired,
                })
                .collect(),
            destroyed: destroyed.len() as u64,
            last_destroyed: destroyed.iter().filter_map(|stone| stone.at).max(),
        })
    }
}
