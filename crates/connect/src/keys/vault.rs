//! The vault: names to keys, with a bounded cache.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::ids::TenantId;
use chaperone_core::ports::{
    Clock, DataKey, DestroyedKey, DestroyedKeys, KeyVault, KeyVaultFailed, Kms, key_digest,
};
use zeroize::Zeroizing;

use super::escrow::{self, EscrowSecret};
use super::files::{self, Hold, Made};
use super::master::FileKms;
use super::ring::{Ring, lock};
use super::tombstones::Tombstones;
use super::unusable::{KeyVaultUnusable, blocking, read, require_private};
use super::wrap::{MASTER, Wrapped, WrappingKey};
use crate::clock::SystemClock;

/// Keys kept in memory at most.
const CACHED_KEYS_MAX: usize = 10_000;

/// How long a key is kept in memory unless said otherwise, in seconds. A key destroyed by another process, or
/// one whose service says no from now on, stays usable here for that long at most.
pub const CACHED_S: i64 = 900;

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// The name under which the signing seed is wrapped. It lies in a file of its own, so that no data key
/// can have it.
pub(super) const SIGNING: &str = "signing-seed";

/// How often a key is looked for before it counts as unusable: a rotation that another node makes just now
/// moves it from one version to the next.
const LOOKS: u32 = 3;

/// Where keys rest, and what wraps them.
#[derive(Clone)]
pub struct KeyPlace {
    /// Folder of the wrapped keys, with one folder for each tenant.
    pub dir: PathBuf,
    /// Folder of the tombstones, best on other storage than the keys and their backups.
    pub tombstones: PathBuf,
    /// The key-management service; the file master where there is none.
    pub kms: Option<Arc<dyn Kms>>,
    /// How long keys stay in memory, in seconds.
    pub cached_s: i64,
}

impl KeyPlace {
    /// Keys under a file master, tombstones in the same folder beside the tenants'.
    pub fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            // No tenant's name has a dot.
            tombstones: dir.join(".tombstones"),
            kms: None,
            cached_s: CACHED_S,
        }
    }
}

impl std::fmt::Debug for KeyPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPlace")
            .field("dir", &self.dir)
            .field("tombstones", &self.tombstones)
            .field("kms", &self.kms.as_ref().map(|kms| kms.provider()))
            .field("cached_s", &self.cached_s)
            .finish()
    }
}

/// Data keys in files. Cheap to clone; clones share the cache.
#[derive(Clone)]
pub struct FileKeyVault {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    tenants: HashMap<TenantId, Arc<Folder>>,
    clock: Arc<dyn Clock>,
    cache: Mutex<HashMap<(TenantId, Digest), Cached>>,
}

/// One tenant's folder.
pub(super) struct Folder {
    pub(super) tenant: TenantId,
    pub(super) path: PathBuf,
    pub(super) ring: Arc<Ring>,
    pub(super) stones: Tombstones,
}

struct Cached {
    key: DataKey,
    until: Timestamp,
}

/// A data key that was found, and until when it may stay in memory.
struct Found {
    key: DataKey,
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
    /// Makes a tenant's folder, its first keys and signing seed. First run only. With a file master the escrow
    /// text is returned, to be shown once and stored away from this machine.
    ///
    /// # Errors
    /// [`KeyVaultUnusable::AlreadyThere`] when there are keys; `Kms` when the service does not wrap, and then
    /// nothing is written; `File` when it cannot be written.
    pub async fn create(
        place: &KeyPlace,
        tenant: &TenantId,
    ) -> Result<Option<EscrowSecret>, KeyVaultUnusable> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let folder = Arc::new(Folder::at(place, tenant, &clock));
        if Self::exists(&place.dir, tenant) {
            return Err(KeyVaultUnusable::AlreadyThere {
                tenant: tenant.clone(),
            });
        }
        let escrow = if place.kms.is_none() {
            let master = WrappingKey::generate();
            let (dir, first) = (place.dir.clone(), Arc::clone(&folder));
            let secret = EscrowSecret::of(tenant, &master);
            blocking(move || {
                first.make_folders()?;
                first.ring.file.put(&master)?;
                files::sync_folder(&dir).map_err(KeyVaultUnusable::file(&dir))
            })
            .await?;
            Some(secret)
        } else {
            None
        };
        folder.make_first_version().await?;
        folder.make_signing_seed().await?;
        Ok(escrow)
    }

    /// Puts a master key back from its escrow text. What the key folder's backup holds of the rest belongs
    /// beside it.
    ///
    /// # Errors
    /// [`KeyVaultUnusable::Escrow`] when the text is not accepted, `OtherKey` when another master key is
    /// in place; the same one in place is no error.
    pub fn restore_from_escrow(
        place: &KeyPlace,
        tenant: &TenantId,
        text: &str,
    ) -> Result<(), KeyVaultUnusable> {
        let master = escrow::read(tenant, text)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let folder = Folder::at(place, tenant, &clock);
        match folder.ring.file.read() {
            Ok(there) if there.bytes() == master.bytes() => Ok(()),
            Ok(_) => Err(KeyVaultUnusable::OtherKey {
                tenant: tenant.clone(),
            }),
            Err(KeyVaultUnusable::NoMasterKey { .. }) => {
                folder.make_folders()?;
                folder.ring.file.put(&master)?;
                files::sync_folder(&place.dir).map_err(KeyVaultUnusable::file(&place.dir))
            }
            Err(unusable) => Err(unusable),
        }
    }

    /// Whether a tenant has keys in `dir`, usable or not.
    pub fn exists(dir: &Path, tenant: &TenantId) -> bool {
        let folder = dir.join(tenant.as_str());
        FileKms::at(tenant, &folder).path().exists() || folder.join("signing.key").exists()
    }

    /// Opens one tenant's keys.
    ///
    /// # Errors
    /// [`KeyVaultUnusable::NoMasterKey`] before [`Self::create`]; `NotPrivate`, `Damaged` and `File` as
    /// they say. A service is not asked yet.
    pub fn open(place: &KeyPlace, tenant: &TenantId) -> Result<Self, KeyVaultUnusable> {
        Self::open_all(place, std::slice::from_ref(tenant), Arc::new(SystemClock))
    }

    /// Opens the keys of several tenants, with a clock for how long keys stay in memory.
    ///
    /// # Errors
    /// As [`Self::open`], for the first tenant that cannot be opened.
    pub fn open_all(
        place: &KeyPlace,
        tenants: &[TenantId],
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KeyVaultUnusable> {
        let mut folders = HashMap::new();
        for tenant in tenants {
            let folder = Folder::at(place, tenant, &clock);
            folder.require_usable()?;
            folders.insert(tenant.clone(), Arc::new(folder));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                tenants: folders,
                clock,
                cache: Mutex::default(),
            }),
        })
    }

    pub(super) fn folder(&self, tenant: &TenantId) -> Result<Arc<Folder>, KeyVaultUnusable> {
        let folder = self.inner.tenants.get(tenant);
        folder
            .map(Arc::clone)
            .ok_or_else(|| KeyVaultUnusable::NoMasterKey {
                tenant: tenant.clone(),
                folder: PathBuf::new(),
            })
    }

    fn cached(&self, tenant: &TenantId, file: &Digest) -> Option<DataKey> {
        let now = self.inner.clock.now();
        let cache = lock(&self.inner.cache);
        cache
            .get(&(tenant.clone(), *file))
            .filter(|cached| now < cached.until)
            .map(|cached| cached.key.clone())
    }

    /// Keeps a key in memory.
    ///
    /// ```text
    /// destroying:  tombstone ──▶ forget
    /// keeping:     remember ──▶ look for the tombstone
    /// ```
    /// Whichever comes first, a key that was destroyed meanwhile is not left in memory.
    async fn keep(
        &self,
        folder: &Arc<Folder>,
        file: Digest,
        found: Found,
    ) -> Result<DataKey, KeyVaultFailed> {
        let name = (folder.tenant.clone(), file);
        {
            let now = self.inner.clock.now();
            let mut cache = lock(&self.inner.cache);
            if cache.len() >= CACHED_KEYS_MAX {
                cache.retain(|_, cached| now < cached.until);
            }
            if cache.len() >= CACHED_KEYS_MAX {
                // All are fresh: any one goes. It costs one read of a small file when it is wanted again.
                let any = cache.keys().next().cloned();
                any.map(|key| cache.remove(&key));
            }
            cache.insert(
                name.clone(),
                Cached {
                    key: found.key.clone(),
                    until: found.until,
                },
            );
        }
        let looking = Arc::clone(folder);
        let destroyed = blocking(move || looking.stones.has(&file)).await;
        if matches!(destroyed, Ok(false)) {
            return Ok(found.key);
        }
        lock(&self.inner.cache).remove(&name);
        destroyed?;
        Err(KeyVaultFailed::Destroyed)
    }

    /// Takes every key out of memory, to be unwrapped again.
    pub(super) fn forget(&self, folder: &Folder) {
        folder.ring.forget();
        lock(&self.inner.cache).retain(|(tenant, _), _| *tenant != folder.tenant);
    }
}

#[async_trait]
impl KeyVault for FileKeyVault {
    async fn data_key(&self, tenant: &TenantId, name: &str) -> Result<DataKey, KeyVaultFailed> {
        let file = file_of(name)?;
        if let Some(key) = self.cached(tenant, &file) {
            return Ok(key);
        }
        let folder = self.folder(tenant)?;
        let found = match folder.find(file).await? {
            Some(found) => found,
            None => folder.make(file).await?,
        };
        self.keep(&folder, file, found).await
    }

    async fn existing_key(&self, tenant: &TenantId, name: &str) -> Result<DataKey, KeyVaultFailed> {
        let file = file_of(name)?;
        if let Some(key) = self.cached(tenant, &file) {
            return Ok(key);
        }
        let folder = self.folder(tenant)?;
        let found = folder.find(file).await?.ok_or_else(|| {
            KeyVaultFailed::Refused(
                "there is no such key: is this the right key folder?".to_owned(),
            )
        })?;
        self.keep(&folder, file, found).await
    }

    async fn destroy(&self, tenant: &TenantId, name: &str) -> Result<(), KeyVaultFailed> {
        let file = file_of(name)?;
        self.destroy_again(tenant, &file).await
    }

    async fn destroyed(&self, tenant: &TenantId) -> Result<DestroyedKeys, KeyVaultFailed> {
        let folder = self.folder(tenant)?;
        let settled = blocking(move || {
            let keys = folder.stones.settle()?;
            let mut came_back = Vec::new();
            for destroyed in &keys {
                let path = folder.key_path(&destroyed.key);
                if path.try_exists().map_err(KeyVaultUnusable::file(&path))? {
                    files::erase(&path).map_err(KeyVaultUnusable::file(&path))?;
                    came_back.push(destroyed.key);
                }
            }
            Ok(DestroyedKeys { keys, came_back })
        })
        .await?;
        let mut cache = lock(&self.inner.cache);
        for key in &settled.came_back {
            cache.remove(&(tenant.clone(), *key));
        }
        drop(cache);
        Ok(settled)
    }

    async fn destroy_again(&self, tenant: &TenantId, key: &Digest) -> Result<(), KeyVaultFailed> {
        let folder = self.folder(tenant)?;
        let (file, now) = (*key, self.inner.clock.now());
        let at = Arc::clone(&folder);
        blocking(move || at.destroy(&file, now)).await?;
        lock(&self.inner.cache).remove(&(tenant.clone(), file));
        Ok(())
    }

    async fn signing_seed(&self, tenant: &TenantId) -> Result<DataKey, KeyVaultFailed> {
        let folder = self.folder(tenant)?;
        Ok(folder.signing_seed().await?)
    }
}

impl Folder {
    fn at(place: &KeyPlace, tenant: &TenantId, clock: &Arc<dyn Clock>) -> Self {
        let path = place.dir.join(tenant.as_str());
        Self {
            ring: Arc::new(Ring::new(
                tenant,
                &path,
                place.kms.clone(),
                Arc::clone(clock),
                place.cached_s,
            )),
            stones: Tombstones::at(place.tombstones.join(tenant.as_str()), path.join("keys")),
            tenant: tenant.clone(),
            path,
        }
    }

    fn make_folders(&self) -> Result<(), KeyVaultUnusable> {
        let keys = self.keys_path();
        files::make_folder(&keys).map_err(KeyVaultUnusable::file(&keys))?;
        require_private(&self.path)?;
        self.stones.prepare()
    }

    fn require_usable(&self) -> Result<(), KeyVaultUnusable> {
        let versions = if self.path.is_dir() {
            self.ring.versions()?
        } else {
            Vec::new()
        };
        if versions.is_empty() {
            self.ring.file.read()?;
        }
        for version in &versions {
            match self.ring.read(*version) {
                Ok(file) if file.kms == super::master::FILE => {
                    self.ring.file.read()?;
                }
                // Retired since they were listed.
                Ok(_) | Err(KeyVaultUnusable::NoSuchVersion { .. }) => {}
                Err(unusable) => return Err(unusable),
            }
        }
        require_private(&self.path)?;
        self.stones.prepare()
    }

    pub(super) fn keys_path(&self) -> PathBuf {
        self.path.join("keys")
    }

    pub(super) fn key_path(&self, file: &Digest) -> PathBuf {
        self.keys_path().join(format!("{file}.key"))
    }

    pub(super) fn signing_path(&self) -> PathBuf {
        self.path.join("signing.key")
    }

    /// Held while a key is wrapped under the newest version, shared; and while a version is made, alone. So
    /// nobody wraps under a version that is no longer the newest, and once a new one is there the number of
    /// keys under older ones only falls.
    pub(super) fn making_lock(&self) -> PathBuf {
        self.path.join("making.lock")
    }

    async fn make_first_version(self: &Arc<Self>) -> Result<(), KeyVaultUnusable> {
        let now = self.ring.now();
        let key = Ring::draw();
        let file = self.ring.wrap(&key, 1, now, now).await?;
        let this = Arc::clone(self);
        blocking(move || {
            this.make_folders()?;
            let path = this.ring.path_of(1);
            let content = file.to_bytes(&path)?;
            files::make(&path, &content).map_err(KeyVaultUnusable::file(&path))?;
            Ok(())
        })
        .await
    }

    async fn make_signing_seed(self: &Arc<Self>) -> Result<(), KeyVaultUnusable> {
        let newest = self.ring.newest().await?;
        let path = self.signing_path();
        let seed = WrappingKey::generate();
        let wrapped = Wrapped::wrap(
            &newest.key,
            newest.version,
            &self.tenant,
            SIGNING,
            seed.bytes(),
        )
        .map_err(|_| KeyVaultUnusable::Damaged { path: path.clone() })?;
        blocking(move || {
            files::make(&path, &wrapped.to_bytes())
                .map(|_| ())
                .map_err(KeyVaultUnusable::file(&path))
        })
        .await
    }

    /// The key of a name, `None` if it was never made.
    async fn find(self: &Arc<Self>, file: Digest) -> Result<Option<Found>, KeyVaultFailed> {
        let path = self.key_path(&file);
        let found = self.unwrap_at(&path, &file.to_string()).await;
        // A key that is overwritten just now looks damaged; the tombstone came first.
        let this = Arc::clone(self);
        if blocking(move || this.stones.has(&file)).await? {
            return Err(KeyVaultFailed::Destroyed);
        }
        Ok(found?)
    }

    /// Unwraps the key in a file, `None` where there is no file.
    ///
    /// ```text
    /// here:       read the file: version 1 ───────────────▶ version 1 is gone ──▶ read again: version 2
    /// elsewhere:                  wrap it under 2 ──▶ retire 1
    /// ```
    async fn unwrap_at(
        self: &Arc<Self>,
        path: &Path,
        name: &str,
    ) -> Result<Option<Found>, KeyVaultUnusable> {
        let mut look = 1;
        loop {
            let at = path.to_owned();
            let Some(stored) = blocking(move || read(&at)).await? else {
                return Ok(None);
            };
            let damaged = || KeyVaultUnusable::Damaged {
                path: path.to_owned(),
            };
            let unwrapped = match Wrapped::parse(&stored) {
                Err(_) => Err(damaged()),
                Ok(wrapped) => match self.ring.key(wrapped.version).await {
                    Err(gone) => Err(gone),
                    Ok(under) => wrapped
                        .unwrap(&under.key, &self.tenant, name)
                        .map_err(|_| damaged())
                        .map(|key| Found {
                            key: DataKey::new(key, under.version),
                            until: under.until,
                        }),
                },
            };
            match unwrapped {
                Ok(found) => return Ok(Some(found)),
                Err(KeyVaultUnusable::Damaged { .. } | KeyVaultUnusable::NoSuchVersion { .. })
                    if look < LOOKS =>
                {
                    look += 1;
                }
                Err(unusable) => return Err(unusable),
            }
        }
    }

    /// Makes the key of a name, or takes the one that another process made meanwhile.
    async fn make(self: &Arc<Self>, file: Digest) -> Result<Found, KeyVaultFailed> {
        for _ in 0..LOOKS {
            let newest = self.ring.newest().await?;
            let this = Arc::clone(self);
            let (under, version) = (newest.key.clone(), newest.version);
            let made = blocking(move || this.make_under(&file, &under, version)).await?;
            match made {
                Making::Made(key) => {
                    return Ok(Found {
                        key: DataKey::new(key, newest.version),
                        until: newest.until,
                    });
                }
                Making::There => {
                    return self.find(file).await?.ok_or(KeyVaultFailed::Destroyed);
                }
                Making::Destroyed => return Err(KeyVaultFailed::Destroyed),
                Making::Overtaken => {}
            }
        }
        Err(KeyVaultFailed::Unavailable(
            "the tenant key is being rotated; try again".to_owned(),
        ))
    }

    fn make_under(
        &self,
        file: &Digest,
        under: &WrappingKey,
        version: u32,
    ) -> Result<Making, KeyVaultUnusable> {
        let making = self.making_lock();
        let _held = files::lock(&making, Hold::Shared).map_err(KeyVaultUnusable::file(&making))?;
        if self.ring.newest_version()? != version {
            return Ok(Making::Overtaken);
        }
        let path = self.key_path(file);
        let key = Ring::draw();
        let wrapped = Wrapped::wrap(under, version, &self.tenant, &file.to_string(), key.bytes())
            .map_err(|_| KeyVaultUnusable::Damaged { path: path.clone() })?;
        let made =
            files::make(&path, &wrapped.to_bytes()).map_err(KeyVaultUnusable::file(&path))?;
        // Destroyed between looking and making: the name stays destroyed.
        if self.stones.has(file)? {
            files::erase(&path).map_err(KeyVaultUnusable::file(&path))?;
            return Ok(Making::Destroyed);
        }
        Ok(match made {
            Made::New => Making::Made(Zeroizing::new(*key.bytes())),
            Made::There => Making::There,
        })
    }

    /// Tombstones first: if the power fails in between, the key counts as destroyed already.
    fn destroy(&self, file: &Digest, now: Timestamp) -> Result<(), KeyVaultUnusable> {
        let path = self.key_path(file);
        let version = read(&path)?
            .and_then(|stored| Wrapped::parse(&stored).ok())
            .map(|wrapped| wrapped.version);
        self.stones.raise(&DestroyedKey {
            key: *file,
            at: Some(now),
            version,
        })?;
        files::erase(&path).map_err(KeyVaultUnusable::file(&path))
    }

    pub(super) async fn signing_seed(self: &Arc<Self>) -> Result<DataKey, KeyVaultUnusable> {
        let path = self.signing_path();
        match self.unwrap_at(&path, SIGNING).await? {
            Some(found) => Ok(found.key),
            None => Err(KeyVaultUnusable::Damaged { path }),
        }
    }
}

/// How making a key went.
enum Making {
    Made(Zeroizing<[u8; 32]>),
    /// Another process was first.
    There,
    /// It was destroyed meanwhile.
    Destroyed,
    /// The version is no longer the newest.
    Overtaken,
}

/// The digest that names a key's file, and to which the wrapped key is bound: as good as the name
/// itself, and [`FileKeyVault::check`] can open every file without knowing any name.
fn file_of(name: &str) -> Result<Digest, KeyVaultFailed> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(KeyVaultFailed::Refused(format!(
            "a key's name has 1 to {NAME_BYTES_MAX} bytes"
        )));
    }
    Ok(key_digest(name))
}

/// Whether a folder is wrapped under the file master itself.
pub(super) fn is_under_master(version: u32) -> bool {
    version == MASTER
}
