//! The default key-management service: a master key in a file. No service at all, but behind the same port.
//!
//! ```text
//! master.key        32 random bytes; a copy in escrow
//! master.next.key   the next one, only while it is being changed
//! ```
//! A key is known by a digest of itself, so that which file it stands in does not matter: the files change
//! places at the end of a change, and a restored one is found again.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use chaperone_core::digest::Digest;
use chaperone_core::ids::TenantId;
use chaperone_core::ports::{Kms, KmsBinding, KmsFailed, KmsStanding};
use zeroize::Zeroizing;

use super::files::{self, Made};
use super::unusable::{KeyVaultUnusable, blocking, read_private};
use super::wrap::WrappingKey;

/// Its name in what it wrapped.
pub(super) const FILE: &str = "file";

/// Digits of an id.
const ID_DIGITS: usize = 16;

/// The master key of one tenant, in its folder.
#[derive(Debug, Clone)]
pub(super) struct FileKms {
    tenant: TenantId,
    folder: PathBuf,
}

impl FileKms {
    pub(super) fn at(tenant: &TenantId, folder: &Path) -> Self {
        Self {
            tenant: tenant.clone(),
            folder: folder.to_owned(),
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.join("master.key")
    }

    fn next_path(&self) -> PathBuf {
        self.folder.join("master.next.key")
    }

    /// The master key in use.
    pub(super) fn read(&self) -> Result<WrappingKey, KeyVaultUnusable> {
        read_key(&self.path())?.ok_or_else(|| KeyVaultUnusable::NoMasterKey {
            tenant: self.tenant.clone(),
            folder: self.folder.clone(),
        })
    }

    /// The one that new wrappings are under: the next, while the master is being changed.
    pub(super) fn newest(&self) -> Result<WrappingKey, KeyVaultUnusable> {
        match read_key(&self.next_path())? {
            Some(next) => Ok(next),
            None => self.read(),
        }
    }

    /// Puts the first master key in place.
    pub(super) fn put(&self, key: &WrappingKey) -> Result<(), KeyVaultUnusable> {
        let path = self.path();
        match files::make(&path, key.bytes()).map_err(KeyVaultUnusable::file(&path))? {
            Made::New => Ok(()),
            Made::There => Err(KeyVaultUnusable::AlreadyThere {
                tenant: self.tenant.clone(),
            }),
        }
    }

    /// Makes the next master key, or takes the one that an earlier attempt made.
    pub(super) fn make_next(&self) -> Result<WrappingKey, KeyVaultUnusable> {
        self.read()?;
        let path = self.next_path();
        files::make(&path, WrappingKey::generate().bytes())
            .map_err(KeyVaultUnusable::file(&path))?;
        self.newest()
    }

    /// Whether a change of the master is under way.
    pub(super) fn is_changing(&self) -> Result<bool, KeyVaultUnusable> {
        let path = self.next_path();
        path.try_exists().map_err(KeyVaultUnusable::file(&path))
    }

    /// Ends a change: the old master is overwritten, the next takes its place.
    ///
    /// ```text
    /// noise over master.key ──▶ master.next.key becomes master.key
    /// ```
    /// Between the two the old file holds no key, and everything that is wrapped names the next.
    pub(super) fn adopt_next(&self) -> Result<(), KeyVaultUnusable> {
        if !self.is_changing()? {
            return Ok(());
        }
        let (path, next) = (self.path(), self.next_path());
        files::overwrite(&path).map_err(KeyVaultUnusable::file(&path))?;
        std::fs::rename(&next, &path).map_err(KeyVaultUnusable::file(&next))?;
        files::sync_folder(&self.folder).map_err(KeyVaultUnusable::file(&self.folder))
    }

    /// Removes the master for good: tenant keys are under another service.
    pub(super) fn erase(&self) -> Result<(), KeyVaultUnusable> {
        for path in [self.path(), self.next_path()] {
            files::erase(&path).map_err(KeyVaultUnusable::file(&path))?;
        }
        Ok(())
    }

    fn find(&self, key_id: &str) -> Result<WrappingKey, KmsFailed> {
        for path in [self.path(), self.next_path()] {
            let key = read_key(&path).map_err(|unusable| unusable_file(&unusable))?;
            if let Some(key) = key.filter(|key| id_of(key) == key_id) {
                return Ok(key);
            }
        }
        Err(KmsFailed::WrongKey {
            key: key_id.to_owned(),
        })
    }
}

/// By what a master key is known: says nothing about it.
pub(super) fn id_of(key: &WrappingKey) -> String {
    let parts = [
        b"chaperone master key id 1".as_slice(),
        key.bytes().as_slice(),
    ];
    let mut digits = Digest::of_parts(parts).to_string();
    digits.truncate(ID_DIGITS);
    format!("master-{digits}")
}

fn read_key(path: &Path) -> Result<Option<WrappingKey>, KeyVaultUnusable> {
    let Some(content) = read_private(path)?.map(Zeroizing::new) else {
        return Ok(None);
    };
    let bytes: [u8; 32] = content
        .as_slice()
        .try_into()
        .map_err(|_| KeyVaultUnusable::Damaged {
            path: path.to_owned(),
        })?;
    Ok(Some(WrappingKey::new(Zeroizing::new(bytes))))
}

fn unusable_file(unusable: &KeyVaultUnusable) -> KmsFailed {
    KmsFailed::Unusable(unusable.to_string())
}

/// The bytes that a wrapped tenant key is bound to.
fn associated(key_id: &str, binding: &KmsBinding) -> Vec<u8> {
    let mut bytes = format!("tenant key 1\n{key_id}\n").into_bytes();
    for (name, value) in binding.pairs() {
        bytes.extend_from_slice(format!("{name}={value}\n").as_bytes());
    }
    bytes
}

#[async_trait]
impl Kms for FileKms {
    fn provider(&self) -> &'static str {
        FILE
    }

    async fn key_id(&self) -> Result<String, KmsFailed> {
        let this = self.clone();
        blocking(move || this.newest().map(|key| id_of(&key)))
            .await
            .map_err(|unusable| unusable_file(&unusable))
    }

    async fn wrap(&self, key: &[u8; 32], binding: &KmsBinding) -> Result<Vec<u8>, KmsFailed> {
        let this = self.clone();
        let master = blocking(move || this.newest())
            .await
            .map_err(|unusable| unusable_file(&unusable))?;
        master
            .seal(&associated(&id_of(&master), binding), key)
            .map_err(|_| KmsFailed::Unusable("the cipher refused".to_owned()))
    }

    async fn unwrap(
        &self,
        key_id: &str,
        wrapped: &[u8],
        binding: &KmsBinding,
    ) -> Result<Zeroizing<[u8; 32]>, KmsFailed> {
        let this = self.clone();
        let wanted = key_id.to_owned();
        let master = tokio::task::spawn_blocking(move || this.find(&wanted))
            .await
            .map_err(|_| KmsFailed::Unreachable("the key vault stopped".to_owned()))??;
        master
            .open(&associated(key_id, binding), wrapped)
            .map_err(|_| KmsFailed::WrongKey {
                key: key_id.to_owned(),
            })
    }

    async fn standing(&self) -> Result<KmsStanding, KmsFailed> {
        Ok(KmsStanding {
            key_id: self.key_id().await?,
            region: None,
            renews_itself: Some(false),
        })
    }
}
