//! Data keys in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use async_trait::async_trait;
use chaperone_core::digest::Digest;
use chaperone_core::ids::TenantId;
use chaperone_core::ports::{
    DataKey, DestroyedKey, DestroyedKeys, KeyVault, KeyVaultFailed, key_digest,
};

use crate::time::lock;

/// Keys derived from a seed; destroyed ones stay destroyed.
#[derive(Debug)]
pub struct MemoryKeyVault {
    seed: u64,
    made: Mutex<BTreeMap<String, [u8; 32]>>,
    destroyed: Mutex<BTreeSet<(String, Digest)>>,
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

    fn is_destroyed(&self, tenant: &TenantId, name: &str) -> bool {
        lock(&self.destroyed).contains(&(tenant.to_string(), key_digest(name)))
    }

    fn full(tenant: &TenantId, name: &str) -> String {
        format!("{tenant}/{name}")
    }
}

/// The version that all keys of this vault are under.
const VERSION: u32 = 1;

fn in_hand(bytes: [u8; 32]) -> DataKey {
    DataKey::new(bytes.into(), VERSION)
}

#[async_trait]
impl KeyVault for MemoryKeyVault {
    async fn data_key(&self, tenant: &TenantId, name: &str) -> Result<DataKey, KeyVaultFailed> {
        if self.is_destroyed(tenant, name) {
            return Err(KeyVaultFailed::Destroyed);
        }
        let key = self.derive(tenant, name);
        let full = Self::full(tenant, name);
        Ok(in_hand(*lock(&self.made).entry(full).or_insert(key)))
    }

    async fn existing_key(&self, tenant: &TenantId, name: &str) -> Result<DataKey, KeyVaultFailed> {
        if self.is_destroyed(tenant, name) {
            return Err(KeyVaultFailed::Destroyed);
        }
        lock(&self.made)
            .get(&Self::full(tenant, name))
            .copied()
            .map(in_hand)
            .ok_or_else(|| KeyVaultFailed::Refused("there is no such key".to_owned()))
    }

    async fn destroy(&self, tenant: &TenantId, name: &str) -> Result<(), KeyVaultFailed> {
        self.destroy_again(tenant, &key_digest(name)).await
    }

    async fn destroyed(&self, tenant: &TenantId) -> Result<DestroyedKeys, KeyVaultFailed> {
        let keys = lock(&self.destroyed)
            .iter()
            .filter(|(of, _)| of == tenant.as_str())
            .map(|(_, key)| DestroyedKey {
                key: *key,
                at: None,
                version: Some(VERSION),
            })
            .collect();
        Ok(DestroyedKeys {
            keys,
            came_back: Vec::new(),
        })
    }

    async fn destroy_again(&self, tenant: &TenantId, key: &Digest) -> Result<(), KeyVaultFailed> {
        // The key would be derived again: only the tombstone stands between.
        lock(&self.destroyed).insert((tenant.to_string(), *key));
        Ok(())
    }

    async fn signing_seed(&self, tenant: &TenantId) -> Result<DataKey, KeyVaultFailed> {
        Ok(in_hand(self.derive(tenant, "signing-seed")))
    }
}
