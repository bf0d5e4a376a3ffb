//! The key vault port: data keys, wrapped, outside the database.

use std::fmt;
use std::ops::Deref;

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::Timestamp;
use crate::digest::Digest;
use crate::ids::TenantId;

/// A key in hand: 32 bytes, wiped from memory when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct DataKey {
    bytes: Zeroizing<[u8; 32]>,
    version: u32,
}

impl DataKey {
    /// A key that came out of its wrapping.
    pub fn new(bytes: Zeroizing<[u8; 32]>, version: u32) -> Self {
        Self { bytes, version }
    }

    /// The version of the tenant key that it rests under. The key itself never changes: rotation wraps it
    /// anew.
    pub fn version(&self) -> u32 {
        self.version
    }
}

impl Deref for DataKey {
    type Target = [u8; 32];
    fn deref(&self) -> &[u8; 32] {
        &self.bytes
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey([withheld], version {})", self.version)
    }
}

/// By what a key is known where its name is not: the digest of its name. Names are random tokens, so nobody
/// can try them out.
pub fn key_digest(name: &str) -> Digest {
    Digest::of_bytes(name.as_bytes())
}

/// A key that is gone for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DestroyedKey {
    /// [`key_digest`] of its name.
    pub key: Digest,
    /// When; absent for tombstones of versions that did not say.
    pub at: Option<Timestamp>,
    /// The version of the tenant key that it rested under, where it was there to be read.
    pub version: Option<u32>,
}

/// What [`KeyVault::destroyed`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DestroyedKeys {
    /// Every key with a tombstone.
    pub keys: Vec<DestroyedKey>,
    /// Those of them whose key was there all the same, as after a restore of an older key folder; it was
    /// destroyed again.
    pub came_back: Vec<Digest>,
}

/// Why the key vault could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyVaultFailed {
    /// The key was destroyed; what it sealed is unreadable for ever.
    #[error("this key was destroyed")]
    Destroyed,
    /// Not available now; trying again later may help.
    #[error("the key vault is not available: {0}")]
    Unavailable(String),
    /// It will not answer until a person mends it: access denied, a disabled key, a damaged file.
    #[error("the key vault refuses: {0}")]
    Refused(String),
}

impl KeyVaultFailed {
    /// A stable code, for the ledger.
    pub fn code(&self) -> &'static str {
        match self {
            KeyVaultFailed::Destroyed => "destroyed",
            KeyVaultFailed::Unavailable(_) => "unavailable",
            KeyVaultFailed::Refused(_) => "refused",
        }
    }
}

/// Wraps and keeps data keys. Wrapped keys are kept outside the database and its backups.
///
/// **Durability.** A key that `data_key` returned survives loss of power. A key that `destroy` destroyed does
/// not come back with an older copy of the keys, as long as its tombstone, or the caller, remembers it.
/// **Concurrency.** Two calls for a new name return the same key, also during a rotation.
#[async_trait]
pub trait KeyVault: Send + Sync + 'static {
    /// The data key of a name, made on first use. Kept in memory for a bounded time.
    ///
    /// Names hold only our own identifiers.
    async fn data_key(&self, tenant: &TenantId, name: &str) -> Result<DataKey, KeyVaultFailed>;

    /// The data key of a name that must exist.
    async fn existing_key(&self, tenant: &TenantId, name: &str) -> Result<DataKey, KeyVaultFailed>;

    /// Destroys a key for ever. Again is no error.
    async fn destroy(&self, tenant: &TenantId, name: &str) -> Result<(), KeyVaultFailed>;

    /// Every destroyed key; completes destructions that were cut short or undone by an older copy.
    async fn destroyed(&self, tenant: &TenantId) -> Result<DestroyedKeys, KeyVaultFailed>;

    /// Destroys a key that is known by its digest alone, because the caller remembers its destruction.
    async fn destroy_again(&self, tenant: &TenantId, key: &Digest) -> Result<(), KeyVaultFailed>;

    /// The ledger's Ed25519 signing seed of a tenant, made at first run.
    async fn signing_seed(&self, tenant: &TenantId) -> Result<DataKey, KeyVaultFailed>;
}
