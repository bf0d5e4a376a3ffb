//! The key vault port: data keys, wrapped, outside the database.

use async_trait::async_trait;

use crate::ids::TenantId;

/// A data key as it rests: wrapped under the tenant's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// Its name: class and subject, such as `clinical/pat_…`.
    pub name: String,
    /// The wrapped bytes; opaque.
    pub wrapped: Vec<u8>,
}

/// Why the key vault could not answer.
#[derive(Debug, thiserror::Error)]
pub enum KeyVaultFailed {
    /// The key was destroyed; what it sealed is unreadable for ever.
    #[error("this key was destroyed")]
    Destroyed,
    /// Not available now.
    #[error("the key vault is not available: {0}")]
    Unavailable(String),
}

/// Wraps and keeps data keys. Wrapped keys are kept outside the database and its backups.
///
/// **Durability.** A key that `data_key` returned survives loss of power.
/// **Concurrency.** Two calls for a new name return the same key.
#[async_trait]
pub trait KeyVault: Send + Sync + 'static {
    /// The 32-byte data key of a name, made on first use. Kept in memory for a bounded time.
    ///
    /// Names hold only our own identifiers.
    async fn data_key(&self, tenant: &TenantId, name: &str) -> Result<[u8; 32], KeyVaultFailed>;

    /// The 32-byte data key of a name that must exist.
    async fn existing_key(&self, tenant: &TenantId, name: &str)
    -> Result<[u8; 32], KeyVaultFailed>;

    /// Destroys a key for ever.
    async fn destroy(&self, tenant: &TenantId, name: &str) -> Result<(), KeyVaultFailed>;

    /// The ledger's Ed25519 signing seed of a tenant, made at first run.
    async fn signing_seed(&self, tenant: &TenantId) -> Result<[u8; 32], KeyVaultFailed>;
}
