//! The vault: names to keys, with a bounded cache.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::ids::TenantId;
use chaperone_core::ports::{Clock, KeyVault, KeyVaultFailed, Random};
use zeroize::Zeroizing;

use super::escrow::{self, EscrowInvalid, EscrowSecret};
use super::files::{self, Made};
use super::wrap::{MasterKey, WRAPPED_BYTES};
use crate::clock::SystemClock;
use crate::random::OsRandom;

/// Keys kept in memory at most.
const CACHED_KEYS_MAX: usize = 10_000;

/// How long a key is kept in memory, in seconds. A key destroyed by another process stays usable here
/// for that long at most.
const CACHED_S_MAX: i64 = 900;

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// Files looked at by [`FileKeyVault::check`].
const CHECKED_FILES_MAX: usize = 1_000_000;

/// The name under which the signing seed is wrapped. It lies in a file of its own, so that no data key
/// can have it.
const SIGNING: &str = "signing-seed";

/// Why a vault cannot be used; says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyVaultUnusable {
    /// There is no master key.
    #[error(
        "tenant `{tenant}` has no master key in `{folder}`: on first run make one (`FileKeyVault::create`) \
         and store the escrow text elsewhere; after a loss restore it from the escrow text"
    )]
    NoMasterKey {
        /// The tenant.
        tenant: TenantId,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// There is one already.
    #[error(
        "tenant `{tenant}` has a master key already; making another would orphan what it sealed"
    )]
    AlreadyThere {
        /// The tenant.
        tenant: TenantId,
    },
    /// The escrow text is of another key than the one in place.
    #[error("the escrow text of tenant `{tenant}` is not of the master key that is in place")]
    OtherKey {
        /// The tenant.
        tenant: TenantId,
    },
    /// Others can read it.
    #[error("`{path}` can be reached by other users: run `chmod go-rwx` on it")]
    NotPrivate {
        /// What.
        path: PathBuf,
    },
    /// A file is not what it should be.
    #[error(
        "`{path}` is damaged, or belongs to another tenant or master key: restore it from a backup of \
         the key folder"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// The escrow text was not accepted.
    #[error(transparent)]
    Escrow(#[from] EscrowInvalid),
    /// The file system refused.
    #[error("`{path}` cannot be used: {source}")]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What [`FileKeyVault::check`] found to be sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyCheck {
    /// Data keys that can be unwrapped.
    pub keys: usize,
    /// Names that were destroyed.
    pub destroyed: usize,
}

/// Data keys in files. Cheap to clone; clones share the cache.
#[derive(Clone)]
pub struct FileKeyVault {
    inner: Arc<Inner>,
}

struct Inner {
    tenants: HashMap<TenantId, Folder>,
    clock: Arc<dyn Clock>,
    cache: Mutex<HashMap<(TenantId, Digest), Cached>>,
}

/// One tenant's folder with its master key.
struct Folder {
    tenant: TenantId,
    path: PathBuf,
    master: MasterKey,
}

struct Cached {
    key: Zeroizing<[u8; 32]>,
    until: Timestamp,
}

impl std::fmt::Debug for FileKeyVault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileKeyVault")
            .field("tenants", &self.inner.tenants.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl FileKeyVault {
    /// Makes a tenant's folder, master key and signing seed. First run only; the escrow text is shown
    /// once and stored away from this machine.
    ///
    /// # Errors
    /// [`KeyVaultUnusable::AlreadyThere`] when there is a master key; `File` when it cannot be written.
    pub fn create(dir: &Path, tenant: &TenantId) -> Result<EscrowSecret, KeyVaultUnusable> {
        let folder = put_master(dir, tenant, MasterKey::generate())?;
        folder.make_signing_seed()?;
        Ok(EscrowSecret::of(tenant, &folder.master))
    }

    /// Puts a master key back from its escrow text. What the key folder's backup holds of `keys/` and
    /// `signing.key` belongs beside it.
    ///
    /// # Errors
    /// [`KeyVaultUnusable::Escrow`] when the text is not accepted, `OtherKey` when another master key is
    /// in place; the same one in place is no error.
    pub fn restore_from_escrow(
        dir: &Path,
        tenant: &TenantId,
        text: &str,
    ) -> Result<(), KeyVaultUnusable> {
        let master = escrow::read(tenant, text)?;
        match Folder::open(dir, tenant) {
            Ok(there) if there.master.bytes() == master.bytes() => Ok(()),
            Ok(_) => Err(KeyVaultUnusable::OtherKey {
                tenant: tenant.clone(),
            }),
            Err(KeyVaultUnusable::NoMasterKey { .. }) => {
                put_master(dir, tenant, master).map(|_| ())
            }
            Err(unusable) => Err(unusable),
        }
    }

    /// Whether a tenant has a master key in `dir`, usable or not.
    pub fn exists(dir: &Path, tenant: &TenantId) -> bool {
        master_path(&dir.join(tenant.as_str())).exists()
    }

    /// Opens one tenant's keys.
    ///
    /// # Errors
    /// [`KeyVaultUnusable::NoMasterKey`] before [`Self::create`]; `NotPrivate`, `Damaged` and `File` as
    /// they say.
    pub fn open(dir: &Path, tenant: &TenantId) -> Result<Self, KeyVaultUnusable> {
        Self::open_all(dir, std::slice::from_ref(tenant), Arc::new(SystemClock))
    }

    /// Opens the keys of several tenants, with a clock for how long keys stay in memory.
    ///
    /// # Errors
    /// As [`Self::open`], for the first tenant that cannot be opened.
    pub fn open_all(
        dir: &Path,
        tenants: &[TenantId],
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KeyVaultUnusable> {
        let mut folders = HashMap::new();
        for tenant in tenants {
            folders.insert(tenant.clone(), Folder::open(dir, tenant)?);
        }
        Ok(Self {
            inner: Arc::new(Inner {
                tenants: folders,
                clock,
                cache: Mutex::default(),
            }),
        })
    }

    /// Checks permissions, the signing seed and every wrapped key, for `doctor`. Reads files: not for the
    /// request path.
    ///
    /// # Errors
    /// [`KeyVaultUnusable`] names the first file that is not sound.
    pub fn check(&self, tenant: &TenantId) -> Result<KeyCheck, KeyVaultUnusable> {
        let Some(folder) = self.inner.tenants.get(tenant) else {
            return Err(KeyVaultUnusable::NoMasterKey {
                tenant: tenant.clone(),
                folder: PathBuf::new(),
            });
        };
        folder.check()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        work: impl FnOnce(&Inner, &Folder) -> Result<T, KeyVaultFailed> + Send + 'static,
    ) -> Result<T, KeyVaultFailed> {
        let inner = Arc::clone(&self.inner);
        let tenant = tenant.clone();
        tokio::task::spawn_blocking(move || {
            let folder = inner.tenants.get(&tenant).ok_or_else(|| {
                KeyVaultFailed::Unavailable(format!("tenant `{tenant}` is not open"))
            })?;
            work(&inner, folder)
        })
        .await
        .map_err(|_| KeyVaultFailed::Unavailable("the key vault stopped".to_owned()))?
    }
}

#[async_trait]
impl KeyVault for FileKeyVault {
    async fn data_key(&self, tenant: &TenantId, name: &str) -> Result<[u8; 32], KeyVaultFailed> {
        let file = file_of(name)?;
        if let Some(key) = self.inner.cached(tenant, &file) {
            return Ok(key);
        }
        self.blocking(tenant, move |inner, folder| {
            inner.find_or_make(folder, file)
        })
        .await
    }

    async fn existing_key(
        &self,
        tenant: &TenantId,
        name: &str,
    ) -> Result<[u8; 32], KeyVaultFailed> {
        let file = file_of(name)?;
        if let Some(key) = self.inner.cached(tenant, &file) {
            return Ok(key);
        }
        self.blocking(tenant, move |inner, folder| {
            let key = folder.find(&file)?.ok_or_else(|| {
                KeyVaultFailed::Unavailable(
                    "there is no such key: is this the right key folder?".to_owned(),
                )
            })?;
            inner.keep(folder, file, key)
        })
        .await
    }

    async fn destroy(&self, tenant: &TenantId, name: &str) -> Result<(), KeyVaultFailed> {
        let file = file_of(name)?;
        self.blocking(tenant, move |inner, folder| {
            folder.destroy(&file)?;
            lock(&inner.cache).remove(&(folder.tenant.clone(), file));
            Ok(())
        })
        .await
    }

    async fn signing_seed(&self, tenant: &TenantId) -> Result<[u8; 32], KeyVaultFailed> {
        self.blocking(tenant, |_, folder| {
            folder
                .signing_seed()
                .map(|seed| *seed)
                .map_err(|unusable| KeyVaultFailed::Unavailable(unusable.to_string()))
        })
        .await
    }
}

impl Inner {
    fn cached(&self, tenant: &TenantId, file: &Digest) -> Option<[u8; 32]> {
        let now = self.clock.now();
        let cache = lock(&self.cache);
        cache
            .get(&(tenant.clone(), *file))
            .filter(|cached| now < cached.until)
            .map(|cached| *cached.key)
    }

    fn find_or_make(&self, folder: &Folder, file: Digest) -> Result<[u8; 32], KeyVaultFailed> {
        if let Some(key) = folder.find(&file)? {
            return self.keep(folder, file, key);
        }
        let key = folder.make(&file)?;
        self.keep(folder, file, key)
    }

    /// Keeps a key in memory.
    ///
    /// ```text
    /// destroying:  tombstone ──▶ forget
    /// keeping:     remember ──▶ look for the tombstone
    /// ```
    /// Whichever comes first, a key that was destroyed meanwhile is not left in memory.
    fn keep(
        &self,
        folder: &Folder,
        file: Digest,
        key: Zeroizing<[u8; 32]>,
    ) -> Result<[u8; 32], KeyVaultFailed> {
        let now = self.clock.now();
        let until = now
            .checked_add(jiff::SignedDuration::from_secs(CACHED_S_MAX))
            .unwrap_or(now);
        let bytes = *key;
        let mut cache = lock(&self.cache);
        if cache.len() >= CACHED_KEYS_MAX {
            cache.retain(|_, cached| now < cached.until);
        }
        if cache.len() >= CACHED_KEYS_MAX {
            // All are fresh: any one goes. It costs one read of a small file when it is wanted again.
            let any = cache.keys().next().cloned();
            any.map(|key| cache.remove(&key));
        }
        let name = (folder.tenant.clone(), file);
        cache.insert(name.clone(), Cached { key, until });
        drop(cache);
        if folder.tombstone_path(&file).exists() {
            lock(&self.cache).remove(&name);
            return Err(KeyVaultFailed::Destroyed);
        }
        Ok(bytes)
    }
}

impl Folder {
    fn open(dir: &Path, tenant: &TenantId) -> Result<Self, KeyVaultUnusable> {
        let path = dir.join(tenant.as_str());
        let file = master_path(&path);
        let no_master = || KeyVaultUnusable::NoMasterKey {
            tenant: tenant.clone(),
            folder: path.clone(),
        };
        let content = read(&file)?.map(Zeroizing::new).ok_or_else(no_master)?;
        for private in [&path, &file] {
            require_private(private)?;
        }
        let bytes: [u8; 32] = content
            .as_slice()
            .try_into()
            .map_err(|_| KeyVaultUnusable::Damaged { path: file })?;
        Ok(Self {
            tenant: tenant.clone(),
            path,
            master: MasterKey::new(Zeroizing::new(bytes)),
        })
    }

    fn key_path(&self, file: &Digest) -> PathBuf {
        self.path.join("keys").join(format!("{file}.key"))
    }

    fn tombstone_path(&self, file: &Digest) -> PathBuf {
        self.path.join("keys").join(format!("{file}.gone"))
    }

    /// The key of a name, `None` if it was never made.
    fn find(&self, file: &Digest) -> Result<Option<Zeroizing<[u8; 32]>>, KeyVaultFailed> {
        if self.tombstone_path(file).exists() {
            return Err(KeyVaultFailed::Destroyed);
        }
        let path = self.key_path(file);
        let Some(wrapped) = files::read(&path).map_err(|failed| unavailable(&failed))? else {
            return Ok(None);
        };
        self.master
            .unwrap(&self.tenant, &file.to_string(), &wrapped)
            .map(Some)
            .map_err(|_| {
                KeyVaultFailed::Unavailable(
                    "a key file is damaged or belongs to another master key".to_owned(),
                )
            })
    }

    /// Makes the key of a name, or takes the one that another process made meanwhile.
    fn make(&self, file: &Digest) -> Result<Zeroizing<[u8; 32]>, KeyVaultFailed> {
        let key = Zeroizing::new(OsRandom.key());
        let wrapped = self
            .master
            .wrap(&self.tenant, &file.to_string(), &key)
            .map_err(|_| KeyVaultFailed::Unavailable("a key could not be wrapped".to_owned()))?;
        let path = self.key_path(file);
        let made = files::make(&path, &wrapped).map_err(|failed| unavailable(&failed))?;
        // Destroyed between looking and making: the name stays destroyed.
        if self.tombstone_path(file).exists() {
            files::erase(&path).map_err(|failed| unavailable(&failed))?;
            return Err(KeyVaultFailed::Destroyed);
        }
        match made {
            Made::New => Ok(key),
            Made::There => self.find(file)?.ok_or(KeyVaultFailed::Destroyed),
        }
    }

    /// Tombstone first: if the power fails in between, the key counts as destroyed already.
    fn destroy(&self, file: &Digest) -> Result<(), KeyVaultFailed> {
        files::make(&self.tombstone_path(file), b"destroyed\n")
            .and_then(|_| files::erase(&self.key_path(file)))
            .map_err(|failed| unavailable(&failed))
    }

    fn signing_path(&self) -> PathBuf {
        self.path.join("signing.key")
    }

    fn make_signing_seed(&self) -> Result<(), KeyVaultUnusable> {
        let path = self.signing_path();
        let seed = Zeroizing::new(OsRandom.key());
        let wrapped = self
            .master
            .wrap(&self.tenant, SIGNING, &seed)
            .map_err(|_| KeyVaultUnusable::Damaged { path: path.clone() })?;
        files::make(&path, &wrapped)
            .map(|_| ())
            .map_err(|source| KeyVaultUnusable::File { path, source })
    }

    fn signing_seed(&self) -> Result<Zeroizing<[u8; 32]>, KeyVaultUnusable> {
        let path = self.signing_path();
        let damaged = || KeyVaultUnusable::Damaged { path: path.clone() };
        let wrapped = read(&path)?.ok_or_else(damaged)?;
        self.master
            .unwrap(&self.tenant, SIGNING, &wrapped)
            .map_err(|_| damaged())
    }

    fn check(&self) -> Result<KeyCheck, KeyVaultUnusable> {
        require_private(&self.path)?;
        require_private(&master_path(&self.path))?;
        self.signing_seed()?;
        let keys = self.path.join("keys");
        let failed = |source| KeyVaultUnusable::File {
            path: keys.clone(),
            source,
        };
        let mut found = KeyCheck {
            keys: 0,
            destroyed: 0,
        };
        for entry in std::fs::read_dir(&keys)
            .map_err(failed)?
            .take(CHECKED_FILES_MAX)
        {
            let name = entry.map_err(failed)?.file_name();
            let Some((stem, kind)) = name.to_str().and_then(|name| name.rsplit_once('.')) else {
                continue;
            };
            let Ok(file) = stem.parse::<Digest>() else {
                continue;
            };
            match kind {
                "gone" => {
                    found.destroyed += 1;
                    // A destruction that the power cut short is completed here.
                    files::erase(&self.key_path(&file)).map_err(failed)?;
                }
                "key" if !self.tombstone_path(&file).exists() => {
                    let path = self.key_path(&file);
                    let sound = read(&path)?.is_some_and(|wrapped| {
                        wrapped.len() == WRAPPED_BYTES
                            && self.master.unwrap(&self.tenant, stem, &wrapped).is_ok()
                    });
                    if !sound {
                        return Err(KeyVaultUnusable::Damaged { path });
                    }
                    found.keys += 1;
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

/// The digest that names a key's file, and to which the wrapped key is bound: as good as the name
/// itself, and [`FileKeyVault::check`] can open every file without knowing any name.
fn file_of(name: &str) -> Result<Digest, KeyVaultFailed> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(KeyVaultFailed::Unavailable(format!(
            "a key's name has 1 to {NAME_BYTES_MAX} bytes"
        )));
    }
    Ok(Digest::of_bytes(name.as_bytes()))
}

fn master_path(folder: &Path) -> PathBuf {
    folder.join("master.key")
}

fn put_master(
    dir: &Path,
    tenant: &TenantId,
    master: MasterKey,
) -> Result<Folder, KeyVaultUnusable> {
    let path = dir.join(tenant.as_str());
    let keys = path.join("keys");
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| KeyVaultUnusable::File { path, source }
    };
    files::make_folder(&keys).map_err(failed(&keys))?;
    require_private(&path)?;
    let file = master_path(&path);
    match files::make(&file, master.bytes()).map_err(failed(&file))? {
        Made::New => {}
        Made::There => {
            return Err(KeyVaultUnusable::AlreadyThere {
                tenant: tenant.clone(),
            });
        }
    }
    files::sync_folder(dir).map_err(failed(dir))?;
    Ok(Folder {
        tenant: tenant.clone(),
        path,
        master,
    })
}

fn require_private(path: &Path) -> Result<(), KeyVaultUnusable> {
    match files::is_private(path) {
        Ok(true) => Ok(()),
        Ok(false) => Err(KeyVaultUnusable::NotPrivate {
            path: path.to_owned(),
        }),
        Err(source) => Err(KeyVaultUnusable::File {
            path: path.to_owned(),
            source,
        }),
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, KeyVaultUnusable> {
    files::read(path).map_err(|source| KeyVaultUnusable::File {
        path: path.to_owned(),
        source,
    })
}

fn unavailable(failed: &io::Error) -> KeyVaultFailed {
    KeyVaultFailed::Unavailable(failed.to_string())
}

/// A poisoned lock guards a map that is whole after every single operation.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
