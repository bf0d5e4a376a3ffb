//! The versions of a tenant's key: how they rest, which is the newest, and how long one stays in memory.
//!
//! ```text
//! tenant-000001.key    JSON: version, dates, service, its key, and the wrapped bytes
//! tenant-000001.gone   JSON: what was retired, and when
//! ```
//! Another node makes and retires versions in the same folder at any time. Nobody tells this one: the
//! folder is looked at whenever a version is wanted that is not in memory, and before a key is wrapped.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chaperone_core::Timestamp;
use chaperone_core::ids::TenantId;
use chaperone_core::ports::{Clock, Kms, KmsBinding, KmsFailed, Random};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::files;
use super::master::{FILE, FileKms};
use super::unusable::{KeyVaultUnusable, blocking, read};
use super::wrap::{MASTER, WrappingKey};
use crate::random::OsRandom;

/// Format of the files.
const FORMAT: u16 = 1;

/// Most versions of one tenant key that are kept at a time: one in use, one being retired, and a few that
/// retirements cut short left behind.
const VERSIONS_MAX: usize = 64;

/// How long the service's answer "no" stands without asking again, in seconds.
const REFUSED_S: i64 = 2;

/// A version of the tenant key, as it rests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantKeyFile {
    format: u16,
    pub(super) version: u32,
    pub(super) made: Timestamp,
    pub(super) kms: String,
    pub(super) kms_key: String,
    pub(super) kms_key_since: Timestamp,
    wrapped: String,
}

/// What is left of a key that was retired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RetiredFile {
    pub(super) key: String,
    pub(super) retired: Timestamp,
}

/// The versions of one tenant's key.
pub(super) struct Ring {
    pub(super) tenant: TenantId,
    pub(super) folder: PathBuf,
    pub(super) file: FileKms,
    /// The service in use where it is not the file.
    outside: Option<Arc<dyn Kms>>,
    clock: Arc<dyn Clock>,
    cached_s: i64,
    cache: Mutex<HashMap<u32, Cached>>,
    /// One question to the service at a time; the others wait for its answer.
    asking: tokio::sync::Mutex<Option<Refused>>,
}

struct Refused {
    version: u32,
    until: Timestamp,
    failed: KmsFailed,
}

struct Cached {
    key: WrappingKey,
    until: Timestamp,
}

/// A version in hand.
#[derive(Clone)]
pub(super) struct TenantKey {
    pub(super) version: u32,
    pub(super) key: WrappingKey,
    /// Until when it, and what it unwraps, may stay in memory.
    pub(super) until: Timestamp,
}

impl Ring {
    pub(super) fn new(
        tenant: &TenantId,
        folder: &Path,
        outside: Option<Arc<dyn Kms>>,
        clock: Arc<dyn Clock>,
        cached_s: i64,
    ) -> Self {
        Self {
            tenant: tenant.clone(),
            folder: folder.to_owned(),
            file: FileKms::at(tenant, folder),
            outside,
            clock,
            cached_s,
            cache: Mutex::default(),
            asking: tokio::sync::Mutex::new(None),
        }
    }

    /// The service that new wrappings are under.
    pub(super) fn service(&self) -> &dyn Kms {
        match &self.outside {
            Some(outside) => outside.as_ref(),
            None => &self.file,
        }
    }

    fn service_named(&self, provider: &str) -> Option<&dyn Kms> {
        if provider == FILE {
            return Some(&self.file);
        }
        let outside = self.outside.as_deref()?;
        (outside.provider() == provider).then_some(outside)
    }

    pub(super) fn path_of(&self, version: u32) -> PathBuf {
        self.folder.join(format!("tenant-{version:06}.key"))
    }

    /// The versions that are there, oldest first; none in folders of the first versions of Chaperone, where
    /// everything is wrapped under the file master.
    pub(super) fn versions(&self) -> Result<Vec<u32>, KeyVaultUnusable> {
        let mut versions = Vec::new();
        let failed = |source| KeyVaultUnusable::File {
            path: self.folder.clone(),
            source,
        };
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let version = name
                .to_str()
                .and_then(|name| name.strip_prefix("tenant-")?.strip_suffix(".key"))
                .and_then(|digits| digits.parse::<u32>().ok())
                .filter(|version| *version != MASTER);
            versions.extend(version);
            if versions.len() > VERSIONS_MAX {
                return Err(KeyVaultUnusable::Damaged {
                    path: self.folder.clone(),
                });
            }
        }
        versions.sort_unstable();
        Ok(versions)
    }

    /// The newest version; [`MASTER`] where there is none.
    pub(super) fn newest_version(&self) -> Result<u32, KeyVaultUnusable> {
        Ok(self.versions()?.last().copied().unwrap_or(MASTER))
    }

    /// A version as it rests.
    pub(super) fn read(&self, version: u32) -> Result<TenantKeyFile, KeyVaultUnusable> {
        let path = self.path_of(version);
        let stored = read(&path)?;
        let is_there = stored.is_some();
        let file = stored.and_then(|content| {
            serde_json::from_slice::<TenantKeyFile>(&content)
                .ok()
                .filter(|file| file.format == FORMAT && file.version == version)
        });
        if let Some(file) = file {
            return Ok(file);
        }
        // The note comes before the noise: what is being retired just now is gone, and not damaged.
        let note = self.note_path(&retired_name(version));
        if is_there && !note.try_exists().map_err(KeyVaultUnusable::file(&note))? {
            return Err(KeyVaultUnusable::Damaged { path });
        }
        Err(KeyVaultUnusable::NoSuchVersion {
            version,
            folder: self.folder.clone(),
        })
    }

    /// A version of the key, from memory or from the service.
    pub(super) async fn key(self: &Arc<Self>, version: u32) -> Result<TenantKey, KeyVaultUnusable> {
        if let Some(key) = self.cached(version) {
            return Ok(key);
        }
        if version == MASTER {
            let this = Arc::clone(self);
            let master = blocking(move || this.file.read()).await?;
            return Ok(self.keep(version, master));
        }
        let mut refused = self.asking.lock().await;
        if let Some(key) = self.cached(version) {
            return Ok(key);
        }
        let now = self.clock.now();
        if let Some(refused) = refused.as_ref()
            && refused.version == version
            && now < refused.until
        {
            return Err(refused.failed.clone().into());
        }
        *refused = None;
        match self.unwrap(version).await {
            Ok(key) => Ok(self.keep(version, key)),
            Err(KeyVaultUnusable::Kms(failed)) => {
                *refused = Some(Refused {
                    version,
                    until: later(now, REFUSED_S),
                    failed: failed.clone(),
                });
                Err(failed.into())
            }
            Err(unusable) => Err(unusable),
        }
    }

    /// The newest version of the key.
    pub(super) async fn newest(self: &Arc<Self>) -> Result<TenantKey, KeyVaultUnusable> {
        let this = Arc::clone(self);
        let version = blocking(move || this.newest_version()).await?;
        self.key(version).await
    }

    /// Unwraps a version; never from memory.
    pub(super) async fn unwrap(
        self: &Arc<Self>,
        version: u32,
    ) -> Result<WrappingKey, KeyVaultUnusable> {
        /// A change of the master that another node makes just now is over by the next look.
        const LOOKS: u32 = 3;
        let mut look = 1;
        loop {
            let this = Arc::clone(self);
            let file = blocking(move || this.read(version)).await?;
            match self.unwrap_file(&file).await {
                Err(KeyVaultUnusable::Kms(KmsFailed::WrongKey { .. }))
                    if look < LOOKS && file.kms == FILE =>
                {
                    look += 1;
                }
                outcome => return outcome,
            }
        }
    }

    pub(super) async fn unwrap_file(
        &self,
        file: &TenantKeyFile,
    ) -> Result<WrappingKey, KeyVaultUnusable> {
        let service =
            self.service_named(&file.kms)
                .ok_or_else(|| KeyVaultUnusable::OtherService {
                    version: file.version,
                    provider: file.kms.clone(),
                })?;
        let wrapped = STANDARD
            .decode(&file.wrapped)
            .map_err(|_| KeyVaultUnusable::Damaged {
                path: self.path_of(file.version),
            })?;
        let binding = self.binding(file.version, file.made, file.kms_key_since);
        let key = service.unwrap(&file.kms_key, &wrapped, &binding).await?;
        Ok(WrappingKey::new(key))
    }

    /// Wraps a version anew, or for the first time, under the service in use.
    pub(super) async fn wrap(
        &self,
        key: &WrappingKey,
        version: u32,
        made: Timestamp,
        kms_key_since: Timestamp,
    ) -> Result<TenantKeyFile, KeyVaultUnusable> {
        let service = self.service();
        let binding = self.binding(version, made, kms_key_since);
        let kms_key = service.key_id().await?;
        let wrapped = service.wrap(key.bytes(), &binding).await?;
        Ok(TenantKeyFile {
            format: FORMAT,
            version,
            made,
            kms: service.provider().to_owned(),
            kms_key,
            kms_key_since,
            wrapped: STANDARD.encode(wrapped),
        })
    }

    fn binding(&self, version: u32, made: Timestamp, kms_key_since: Timestamp) -> KmsBinding {
        KmsBinding {
            tenant: self.tenant.clone(),
            version,
            made,
            kms_key_since,
        }
    }

    /// A new key of a tenant.
    pub(super) fn draw() -> WrappingKey {
        WrappingKey::new(Zeroizing::new(OsRandom.key()))
    }

    /// Takes versions out of memory.
    pub(super) fn forget(&self) {
        lock(&self.cache).clear();
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn cached(&self, version: u32) -> Option<TenantKey> {
        let now = self.clock.now();
        let mut cache = lock(&self.cache);
        cache.retain(|_, cached| now < cached.until);
        cache.get(&version).map(|cached| TenantKey {
            version,
            key: cached.key.clone(),
            until: cached.until,
        })
    }

    fn keep(&self, version: u32, key: WrappingKey) -> TenantKey {
        let until = later(self.clock.now(), self.cached_s);
        lock(&self.cache).insert(
            version,
            Cached {
                key: key.clone(),
                until,
            },
        );
        TenantKey {
            version,
            key,
            until,
        }
    }

    fn note_path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.gone"))
    }

    /// Leaves a note of a key that was retired.
    pub(super) fn note_retired(&self, key: &str) -> Result<(), KeyVaultUnusable> {
        let path = self.note_path(key);
        let note = RetiredFile {
            key: key.to_owned(),
            retired: self.clock.now(),
        };
        let content = to_json(&note, &path)?;
        files::make(&path, &content)
            .map(|_| ())
            .map_err(KeyVaultUnusable::file(&path))
    }

    /// Notes of keys that were retired, oldest first.
    pub(super) fn retired(&self) -> Result<Vec<RetiredFile>, KeyVaultUnusable> {
        /// Most notes that are read: one rotation a month for eighty years.
        const NOTES_MAX: usize = 1_000;
        let mut retired = Vec::new();
        let failed = |source| KeyVaultUnusable::File {
            path: self.folder.clone(),
            source,
        };
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_none_or(|kind| kind != "gone") || retired.len() >= NOTES_MAX {
                continue;
            }
            let content = read(&path)?.unwrap_or_default();
            let note: RetiredFile =
                serde_json::from_slice(&content).map_err(|_| KeyVaultUnusable::Damaged { path })?;
            retired.push(note);
        }
        retired.sort_by(|a, b| (a.retired, &a.key).cmp(&(b.retired, &b.key)));
        Ok(retired)
    }
}

impl TenantKeyFile {
    pub(super) fn to_bytes(&self, path: &Path) -> Result<Vec<u8>, KeyVaultUnusable> {
        to_json(self, path)
    }
}

fn to_json(value: &impl Serialize, path: &Path) -> Result<Vec<u8>, KeyVaultUnusable> {
    serde_json::to_vec(value).map_err(|failed| KeyVaultUnusable::File {
        path: path.to_owned(),
        source: std::io::Error::other(failed),
    })
}

/// By what a retired version is noted.
pub(super) fn retired_name(version: u32) -> String {
    format!("tenant-{version:06}")
}

/// So many seconds later.
pub(super) fn later(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_add(jiff::SignedDuration::from_secs(seconds))
        .unwrap_or(now)
}

/// A poisoned lock guards a map that is whole after every single operation.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
