//! Changing the keys that wrap others, while everything goes on. No payload is read or written.
//!
//! ```text
//! tenant key:  new version ──▶ each key wrapped under it, one file at a time ──▶ none is left ──▶ old version erased
//! master:      next master ──▶ each version wrapped under it ──▶ next takes the place of the old, which is erased
//! ```
//! Each arrow is durable before the next step, and each step can be done again: whoever is interrupted runs the
//! same command again. Other nodes on the folder need not be told: a key file names the version it is under, and
//! a version that is not in memory is looked for ([`super::ring`]).
//!
//! One rotation at a time, by a lock that ends with its process.

use std::collections::VecDeque;
use std::sync::Arc;

use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::ids::TenantId;

use super::escrow::EscrowSecret;
use super::files::{self, Hold, Locked, Made};
use super::master::{FILE, id_of};
use super::ring::{Ring, retired_name};
use super::unusable::{KeyVaultUnusable, blocking, read};
use super::vault::{FileKeyVault, Folder, SIGNING, is_under_master};
use super::wrap::{MASTER, Wrapped};

/// Most key files of one tenant.
const KEY_FILES_MAX: usize = 5_000_000;

/// A rotation of the tenant key, between its start and its end. Holds the lock.
pub struct TenantKeyRotation {
    vault: FileKeyVault,
    folder: Arc<Folder>,
    from: u32,
    to: u32,
    left: VecDeque<Digest>,
    _alone: Locked,
}

/// One step of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrapped {
    /// Keys wrapped under the new version in this step.
    pub rewrapped: u64,
    /// Keys that are still to be looked at.
    pub left: u64,
}

/// A change of the master, or of the service's key.
pub struct MasterChange {
    vault: FileKeyVault,
    folder: Arc<Folder>,
    old: Vec<String>,
    _alone: Locked,
}

impl std::fmt::Debug for TenantKeyRotation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TenantKeyRotation")
            .field("from", &self.from)
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for MasterChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MasterChange")
            .field("old", &self.old)
            .finish_non_exhaustive()
    }
}

impl FileKeyVault {
    /// Begins a rotation of a tenant's key, or takes up one that was interrupted. From here on new data keys
    /// are wrapped under the new version, on every node.
    ///
    /// # Errors
    /// [`KeyVaultUnusable::Rotating`] when another is running; `Kms` when the service does not wrap; nothing
    /// has changed then.
    pub async fn rotate_tenant_key(
        &self,
        tenant: &TenantId,
    ) -> Result<TenantKeyRotation, KeyVaultUnusable> {
        let folder = self.folder(tenant)?;
        let alone = alone(&folder).await?;
        let this = Arc::clone(&folder);
        let (versions, is_left) = blocking(move || {
            let versions = this.ring.versions()?;
            let is_left = versions.len() == 1 && this.count_older()? > 0;
            Ok((versions, is_left))
        })
        .await?;
        let newest = versions.last().copied().unwrap_or(MASTER);
        let oldest = versions.first().copied().unwrap_or(MASTER);
        let (from, to) = if versions.len() > 1 {
            (oldest, newest)
        } else if is_left {
            (MASTER, newest)
        } else {
            (newest, folder.make_version(newest).await?)
        };
        let this = Arc::clone(&folder);
        let left = blocking(move || this.key_files()).await?.into();
        Ok(TenantKeyRotation {
            vault: self.clone(),
            folder,
            from,
            to,
            left,
            _alone: alone,
        })
    }

    /// Whether a rotation of the tenant key waits to be taken up again.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub async fn is_rotating(&self, tenant: &TenantId) -> Result<bool, KeyVaultUnusable> {
        let folder = self.folder(tenant)?;
        blocking(move || {
            Ok(folder.ring.versions()?.len() > 1
                || (folder.ring.newest_version()? != MASTER && folder.count_older()? > 0))
        })
        .await
    }

    /// Begins a change of what wraps the tenant key: another file master, or the service's key that is now
    /// configured. With a file master, the escrow text of the new one comes with it; it must be stored before
    /// [`MasterChange::finish`], which erases the old one.
    ///
    /// # Errors
    /// As [`Self::rotate_tenant_key`]; [`KeyVaultUnusable::NotRewrapped`] while keys are wrapped under the
    /// master itself: rotate the tenant key first.
    pub async fn change_master(
        &self,
        tenant: &TenantId,
    ) -> Result<(MasterChange, Option<EscrowSecret>), KeyVaultUnusable> {
        let folder = self.folder(tenant)?;
        let alone = alone(&folder).await?;
        let this = Arc::clone(&folder);
        let (old, escrow) = blocking(move || {
            let left = this.count_under(MASTER)?;
            if left > 0 || this.ring.newest_version()? == MASTER {
                return Err(KeyVaultUnusable::NotRewrapped { left });
            }
            if this.ring.service().provider() != FILE {
                return Ok((Vec::new(), None));
            }
            let old = id_of(&this.ring.file.read()?);
            let next = this.ring.file.make_next()?;
            Ok((vec![old], Some(EscrowSecret::of(&this.tenant, &next))))
        })
        .await?;
        let change = MasterChange {
            vault: self.clone(),
            folder,
            old,
            _alone: alone,
        };
        Ok((change, escrow))
    }
}

impl TenantKeyRotation {
    /// The oldest version that is being left; 0 stands for the file master itself.
    pub fn from(&self) -> u32 {
        self.from
    }

    /// The version that everything is wrapped under from now on.
    pub fn to(&self) -> u32 {
        self.to
    }

    /// Wraps up to so many keys under the new version.
    ///
    /// # Errors
    /// [`KeyVaultUnusable`] names the first file that is not sound; the old version stays.
    pub async fn step(&mut self, keys_max: usize) -> Result<Rewrapped, KeyVaultUnusable> {
        let mut rewrapped = 0;
        for _ in 0..keys_max {
            let Some(file) = self.left.pop_front() else {
                break;
            };
            let path = self.folder.key_path(&file);
            rewrapped += u64::from(self.rewrap(&path, &file.to_string(), Some(file)).await?);
        }
        Ok(Rewrapped {
            rewrapped,
            left: self.left.len() as u64,
        })
    }

    /// Wraps the signing seed under the new version, makes sure that nothing is left under older ones, and
    /// erases those. Returns what was retired.
    ///
    /// # Errors
    /// [`KeyVaultUnusable::NotRewrapped`] while keys are left; nothing is erased then.
    pub async fn finish(self) -> Result<Vec<u32>, KeyVaultUnusable> {
        let signing = self.folder.signing_path();
        self.rewrap(&signing, SIGNING, None).await?;
        let folder = Arc::clone(&self.folder);
        let to = self.to;
        let retired = blocking(move || {
            let left = folder.count_older()?;
            if left > 0 {
                return Err(KeyVaultUnusable::NotRewrapped { left });
            }
            let older = folder.ring.versions()?.into_iter().filter(|it| *it < to);
            let older: Vec<u32> = older.collect();
            for version in &older {
                folder.ring.note_retired(&retired_name(*version))?;
                let path = folder.ring.path_of(*version);
                files::erase(&path).map_err(KeyVaultUnusable::file(&path))?;
            }
            Ok(older)
        })
        .await?;
        self.vault.forget(&self.folder);
        Ok(retired)
    }

    /// Wraps one key anew; false where it was already, or is destroyed.
    ///
    /// ```text
    /// destroying:   tombstone ──▶ remove the file
    /// rewrapping:   replace the file ──▶ look for the tombstone ──▶ remove the file
    /// ```
    async fn rewrap(
        &self,
        path: &std::path::Path,
        name: &str,
        file: Option<Digest>,
    ) -> Result<bool, KeyVaultUnusable> {
        let folder = Arc::clone(&self.folder);
        let at = path.to_owned();
        let Some(stored) = blocking(move || read(&at)).await? else {
            return Ok(false);
        };
        let damaged = || KeyVaultUnusable::Damaged {
            path: path.to_owned(),
        };
        let destroyed = |folder: Arc<Folder>| async move {
            let Some(file) = file else { return Ok(false) };
            blocking(move || folder.stones.has(&file)).await
        };
        let unwrapped = match Wrapped::parse(&stored) {
            Ok(wrapped) if wrapped.version == self.to => return Ok(false),
            Ok(wrapped) => {
                let under = folder.ring.key(wrapped.version).await?;
                wrapped.unwrap(&under.key, &folder.tenant, name)
            }
            Err(not_ours) => Err(not_ours),
        };
        let Ok(key) = unwrapped else {
            // Overwritten just now by a destruction: that is no damage.
            return if destroyed(folder).await? {
                Ok(false)
            } else {
                Err(damaged())
            };
        };
        let newest = folder.ring.key(self.to).await?;
        let wrapped = Wrapped::wrap(&newest.key, self.to, &folder.tenant, name, &key)
            .map_err(|_| damaged())?;
        let at = path.to_owned();
        blocking(move || {
            let gone = |file| folder.stones.has(file);
            if file.as_ref().map(gone).transpose()?.unwrap_or(false) {
                return Ok(false);
            }
            files::replace(&at, &wrapped.to_bytes()).map_err(KeyVaultUnusable::file(&at))?;
            if file.as_ref().map(gone).transpose()?.unwrap_or(false) {
                files::erase(&at).map_err(KeyVaultUnusable::file(&at))?;
                return Ok(false);
            }
            Ok(true)
        })
        .await
    }
}

impl MasterChange {
    /// Wraps every version of the tenant key under the new master and erases the old one. Returns the ids of
    /// what no longer wraps anything here.
    ///
    /// # Errors
    /// When the service does not wrap or unwrap, or a file cannot be written; running it again goes on.
    pub async fn finish(self) -> Result<Vec<String>, KeyVaultUnusable> {
        let ring = &self.folder.ring;
        let this = Arc::clone(&self.folder);
        let versions = blocking(move || this.ring.versions()).await?;
        let newest_id = ring.service().key_id().await?;
        let is_file = ring.service().provider() == FILE;
        let since = ring.now();
        let mut old = self.old.clone();
        for version in versions {
            let this = Arc::clone(&self.folder);
            let file = blocking(move || this.ring.read(version)).await?;
            let is_under_newest =
                file.kms == ring.service().provider() && file.kms_key == newest_id;
            // A service that keeps its key's id renews the material behind it: what is wrapped anew is under
            // the newest.
            if is_under_newest && is_file {
                continue;
            }
            if !is_under_newest && !old.contains(&file.kms_key) {
                old.push(file.kms_key.clone());
            }
            let key = ring.unwrap_file(&file).await?;
            let wrapped = ring.wrap(&key, version, file.made, since).await?;
            let path = ring.path_of(version);
            let content = wrapped.to_bytes(&path)?;
            blocking(move || {
                files::replace(&path, &content).map_err(KeyVaultUnusable::file(&path))
            })
            .await?;
        }
        old.retain(|id| *id != newest_id);
        let this = Arc::clone(&self.folder);
        let retired = old.clone();
        blocking(move || {
            for id in retired.iter().filter(|id| id.starts_with("master-")) {
                this.ring.note_retired(id)?;
            }
            if is_file {
                this.ring.file.adopt_next()
            } else {
                this.ring.file.erase()
            }
        })
        .await?;
        self.vault.forget(&self.folder);
        Ok(old)
    }
}

async fn alone(folder: &Arc<Folder>) -> Result<Locked, KeyVaultUnusable> {
    let folder = Arc::clone(folder);
    blocking(move || {
        let path = folder.path.join("rotation.lock");
        files::lock(&path, Hold::AloneNow)
            .map_err(KeyVaultUnusable::file(&path))?
            .ok_or_else(|| KeyVaultUnusable::Rotating {
                tenant: folder.tenant.clone(),
            })
    })
    .await
}

impl Folder {
    /// Makes the version after `newest`.
    async fn make_version(self: &Arc<Self>, newest: u32) -> Result<u32, KeyVaultUnusable> {
        let version = newest.saturating_add(1);
        let now = self.ring.now();
        let since = self.service_key_since(newest, now).await?;
        let key = Ring::draw();
        let file = self.ring.wrap(&key, version, now, since).await?;
        let this = Arc::clone(self);
        blocking(move || {
            let making = this.making_lock();
            let _held =
                files::lock(&making, Hold::Alone).map_err(KeyVaultUnusable::file(&making))?;
            let path = this.ring.path_of(version);
            let content = file.to_bytes(&path)?;
            match files::make(&path, &content).map_err(KeyVaultUnusable::file(&path))? {
                Made::New => Ok(version),
                Made::There => Err(KeyVaultUnusable::Rotating {
                    tenant: this.tenant.clone(),
                }),
            }
        })
        .await
    }

    /// Since when the service's key is in use here: carried from one version to the next.
    async fn service_key_since(
        self: &Arc<Self>,
        newest: u32,
        now: Timestamp,
    ) -> Result<Timestamp, KeyVaultUnusable> {
        let service = self.ring.service();
        let (provider, key_id) = (service.provider(), service.key_id().await?);
        let this = Arc::clone(self);
        blocking(move || {
            if is_under_master(newest) {
                return Ok(if provider == FILE {
                    this.master_since().unwrap_or(now)
                } else {
                    now
                });
            }
            let file = this.ring.read(newest)?;
            let is_same = file.kms == provider && file.kms_key == key_id;
            Ok(if is_same { file.kms_key_since } else { now })
        })
        .await
    }

    /// When the master's file was written: all that the folders of the first versions say of its age.
    pub(super) fn master_since(&self) -> Option<Timestamp> {
        let path = self.ring.file.path();
        let written = std::fs::metadata(path).ok()?.modified().ok()?;
        Timestamp::try_from(written).ok()
    }

    /// The key files, by the digests of their names.
    pub(super) fn key_files(&self) -> Result<Vec<Digest>, KeyVaultUnusable> {
        let keys = self.keys_path();
        let failed = |source| KeyVaultUnusable::File {
            path: keys.clone(),
            source,
        };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&keys).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let file = name
                .to_str()
                .and_then(|name| name.strip_suffix(".key"))
                .and_then(|stem| stem.parse::<Digest>().ok());
            found.extend(file);
            if found.len() > KEY_FILES_MAX {
                return Err(failed(std::io::Error::other("too many keys")));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// How many keys, the signing seed among them, are under a version older than the newest.
    fn count_older(&self) -> Result<u64, KeyVaultUnusable> {
        let newest = self.ring.newest_version()?;
        self.count(|version| version < newest)
    }

    fn count_under(&self, wanted: u32) -> Result<u64, KeyVaultUnusable> {
        self.count(|version| version == wanted)
    }

    fn count(&self, counts: impl Fn(u32) -> bool) -> Result<u64, KeyVaultUnusable> {
        let mut count = 0;
        let keys: Vec<Option<Digest>> = self.key_files()?.into_iter().map(Some).collect();
        for file in keys.into_iter().chain([None]) {
            let path = match &file {
                Some(file) => self.key_path(file),
                None => self.signing_path(),
            };
            // Destroyed since it was listed.
            let Some(stored) = read(&path)? else { continue };
            let version = Wrapped::parse(&stored).map(|wrapped| wrapped.version);
            if matches!(version, Ok(version) if !counts(version)) {
                continue;
            }
            // A destruction that was cut short, or goes on just now, leaves nothing that counts.
            if let Some(file) = &file
                && self.stones.has(file)?
            {
                files::erase(&path).map_err(KeyVaultUnusable::file(&path))?;
                continue;
            }
            if version.is_err() {
                return Err(KeyVaultUnusable::Damaged { path });
            }
            count += 1;
        }
        Ok(count)
    }
}
