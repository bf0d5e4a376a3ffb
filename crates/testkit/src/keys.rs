//! Data keys in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use async_trait::async_trait;
use chaperone_core::digest::Digest;
use chaperone_core::ids::TenantId;
use chaperone_core::ports::{KeyVault, KeyVaultFailed};

use crate::time::lock;

/// Keys derived from a seed; destroyed ones stay destroyed.
#[derive(Debug)]
pub struct MemoryKeyVault {
    seed: u64,
    made: Mutex<BTreeMap<String, [u8; 32]>>,
    destroyed: Mutex<BTreeSet<String>>,
}

impl MemoryKeyVault {
    /// A vault for a seed.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            made: Mutex::default(),
            destroyed: Mutex::default(),
        }
    }

    fn derive(&self, tenant: &TenantId, name: &str) -> [u8; 32] {
        *Digest::of_parts([
            &self.seed.to_be_bytes()[..],
            tenant.as_str().as_bytes(),
            name.as_bytes(),
        ])
        .as_bytes()
    }

    fn full(tenant: &TenantId, name: &str) -> String {
        format!("{tenant}/{name}")
    }
}

#[async_trait]
impl KeyVault for MemoryKeyVault {
    async fn data_key(&self, tenant: &TenantId, name: &str) -> Result<[u8; 32], KeyVaultFailed> {
        let full = Self::full(tenant, name);
        if lock(&self.destroyed).contains(&full) {
            return Err(KeyVaultFailed::Destroyed);
        }
        let key = self.derive(tenant, name);
        Ok(*lock(&self.made).entry(full).or_insert(key))
    }

    async fn existing_key(
        &self,
        tenant: &TenantId,
        name: &str,
    ) -> Result<[u8; 32], KeyVaultFailed> {
        let full = Self::full(tenant, name);
        if lock(&self.destroyed).contains(&full) {
            return Err(KeyVaultFailed::Destroyed);
        }
        lock(&self.made)
            .get(&full)
            .copied()
            .ok_or_else(|| KeyVaultFailed::Unavailable("there is no such key".to_owned()))
    }

    async fn destroy(&self, tenant: &TenantId, name: &str) -> Result<(), KeyVaultFailed> {
        let full = Self::full(tenant, name);
        lock(&self.made).remove(&full);
        lock(&self.destroyed).insert(full);
        Ok(())
    }

    async fn signing_seed(&self, tenant: &TenantId) -> Result<[u8; 32], KeyVaultFailed> {
        Ok(self.derive(tenant, "signing-seed"))
    }
}
