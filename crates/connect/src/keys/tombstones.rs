//! What is left of a destroyed key: that it was there, and is not to come back.
//!
//! Each tombstone stands twice: beside the keys, and in a folder of its own, which is no part of a backup of
//! the keys. Whichever of the two is there counts, so neither a restored older key folder nor a lost folder
//! of tombstones brings a key back. Where both are older than a destruction, the ledger remembers it.
//!
//! ```text
//! destroying:  tombstone outside ──▶ tombstone inside ──▶ noise over the key ──▶ the key's file removed
//! ```
//! Every step is durable before the next; cut short after the first, the key counts as destroyed.

use std::path::{Path, PathBuf};

use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::ports::DestroyedKey;
use serde::{Deserialize, Serialize};

use super::files;
use super::unusable::{KeyVaultUnusable, read};

/// Format of a tombstone.
const FORMAT: u16 = 1;

/// Most tombstones of one tenant.
const TOMBSTONES_MAX: usize = 5_000_000;

/// Tombstones of one tenant.
#[derive(Debug, Clone)]
pub(super) struct Tombstones {
    /// Apart from the keys.
    outside: PathBuf,
    /// Beside the keys.
    inside: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Tombstone {
    format: u16,
    key: Digest,
    destroyed: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    tenant_key: Option<u32>,
}

impl Tombstones {
    pub(super) fn at(outside: PathBuf, inside: PathBuf) -> Self {
        Self { outside, inside }
    }

    /// Makes the folder apart.
    pub(super) fn prepare(&self) -> Result<(), KeyVaultUnusable> {
        files::make_folder(&self.outside).map_err(KeyVaultUnusable::file(&self.outside))
    }

    /// Whether a key was destroyed. Where that cannot be found out, there is no key.
    pub(super) fn has(&self, key: &Digest) -> Result<bool, KeyVaultUnusable> {
        for folder in [&self.inside, &self.outside] {
            let path = stone(folder, key);
            if path.try_exists().map_err(KeyVaultUnusable::file(&path))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Raises both tombstones of a key.
    pub(super) fn raise(&self, destroyed: &DestroyedKey) -> Result<(), KeyVaultUnusable> {
        let content = match destroyed.at {
            Some(at) => serde_json::to_vec(&Tombstone {
                format: FORMAT,
                key: destroyed.key,
                destroyed: at,
                tenant_key: destroyed.version,
            })
            .unwrap_or_default(),
            None => b"destroyed\n".to_vec(),
        };
        for folder in [&self.outside, &self.inside] {
            let path = stone(folder, &destroyed.key);
            files::make(&path, &content).map_err(KeyVaultUnusable::file(&path))?;
        }
        Ok(())
    }

    /// Every key with a tombstone; one that stands alone gets its fellow.
    pub(super) fn settle(&self) -> Result<Vec<DestroyedKey>, KeyVaultUnusable> {
        let outside = self.names(&self.outside)?;
        let inside = self.names(&self.inside)?;
        let mut all = Vec::with_capacity(outside.len().max(inside.len()));
        for key in outside.union(&inside) {
            let folder = if outside.contains(key) {
                &self.outside
            } else {
                &self.inside
            };
            let destroyed = read_stone(folder, key)?;
            if !(outside.contains(key) && inside.contains(key)) {
                self.raise(&destroyed)?;
            }
            all.push(destroyed);
        }
        Ok(all)
    }

    fn names(&self, folder: &Path) -> Result<std::collections::BTreeSet<Digest>, KeyVaultUnusable> {
        let mut names = std::collections::BTreeSet::new();
        let failed = |source| KeyVaultUnusable::File {
            path: folder.to_owned(),
            source,
        };
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let key = name
                .to_str()
                .and_then(|name| name.strip_suffix(".gone"))
                .and_then(|stem| stem.parse::<Digest>().ok());
            names.extend(key);
            if names.len() > TOMBSTONES_MAX {
                return Err(failed(std::io::Error::other("too many tombstones")));
            }
        }
        Ok(names)
    }
}

fn stone(folder: &Path, key: &Digest) -> PathBuf {
    folder.join(format!("{key}.gone"))
}

/// Reads a tombstone. One that says nothing readable is one all the same.
fn read_stone(folder: &Path, key: &Digest) -> Result<DestroyedKey, KeyVaultUnusable> {
    let content = read(&stone(folder, key))?.unwrap_or_default();
    let said: Option<Tombstone> = serde_json::from_slice(&content)
        .ok()
        .filter(|said: &Tombstone| said.key == *key);
    Ok(DestroyedKey {
        key: *key,
        at: said.as_ref().map(|said| said.destroyed),
        version: said.and_then(|said| said.tenant_key),
    })
}
