//! Wrapping a 32-byte key under another. No files here.
//!
//! ```text
//! CWK1 ‖ nonce ‖ key ‖ tag             under the file master itself: folders of the first versions
//! CWK2 ‖ version ‖ nonce ‖ key ‖ tag   under that version of the tenant key (four bytes, big-endian)
//! ```
//! AES-256-GCM-SIV, with tenant, name and version as associated data: a key file that was moved, renamed or
//! put under another version does not open.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use chaperone_core::ids::TenantId;
use chaperone_core::ports::Random;
use zeroize::Zeroizing;

use crate::random::OsRandom;

/// First bytes of a key wrapped under the file master.
const UNDER_MASTER: &[u8; 4] = b"CWK1";

/// First bytes of a key wrapped under a version of the tenant key.
const UNDER_TENANT_KEY: &[u8; 4] = b"CWK2";

/// Bytes of the nonce.
const NONCE_BYTES: usize = 12;

/// Bytes of nonce, key and tag.
const SEALED_BYTES: usize = NONCE_BYTES + 32 + 16;

/// The version that stands for the file master itself.
pub(super) const MASTER: u32 = 0;

/// A key that wraps others.
#[derive(Clone)]
pub(super) struct WrappingKey(Zeroizing<[u8; 32]>);

/// The bytes are not a key wrapped under this key for this purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotOurs;

impl WrappingKey {
    pub(super) fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    pub(super) fn generate() -> Self {
        Self(Zeroizing::new(OsRandom.key()))
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Encrypts a key: nonce, key, tag.
    pub(super) fn seal(&self, associated: &[u8], key: &[u8; 32]) -> Result<Vec<u8>, NotOurs> {
        let mut nonce = [0; NONCE_BYTES];
        OsRandom.fill(&mut nonce);
        let mut sealed = Zeroizing::new(Vec::with_capacity(SEALED_BYTES));
        sealed.extend_from_slice(key);
        self.cipher()?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(associated),
                &mut *sealed,
            )
            .map_err(|_| NotOurs)?;
        Ok([nonce.as_slice(), sealed.as_slice()].concat())
    }

    /// Decrypts what [`Self::seal`] encrypted with the same associated data.
    pub(super) fn open(
        &self,
        associated: &[u8],
        bytes: &[u8],
    ) -> Result<Zeroizing<[u8; 32]>, NotOurs> {
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or(NotOurs)?;
        let mut opened = Zeroizing::new(sealed.to_vec());
        let key = self
            .cipher()?
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(associated),
                &mut opened,
            )
            .map_err(|_| NotOurs)?;
        let key: &[u8; 32] = (&*key).try_into().map_err(|_| NotOurs)?;
        Ok(Zeroizing::new(*key))
    }

    fn cipher(&self) -> Result<LessSafeKey, NotOurs> {
        UnboundKey::new(&AES_256_GCM_SIV, self.bytes())
            .map(LessSafeKey::new)
            .map_err(|_| NotOurs)
    }
}

impl fmt::Debug for WrappingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrappingKey([withheld])")
    }
}

/// A wrapped key as it rests: under which version, and the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrapped {
    /// The version of the tenant key; [`MASTER`] for the file master.
    pub(super) version: u32,
    sealed: Vec<u8>,
}

impl Wrapped {
    /// Wraps a key for a tenant and a name.
    pub(super) fn wrap(
        under: &WrappingKey,
        version: u32,
        tenant: &TenantId,
        name: &str,
        key: &[u8; 32],
    ) -> Result<Self, NotOurs> {
        let sealed = under.seal(&associated(tenant, name, version), key)?;
        Ok(Self { version, sealed })
    }

    /// Unwraps it, if it was wrapped under this key for this tenant and name.
    pub(super) fn unwrap(
        &self,
        under: &WrappingKey,
        tenant: &TenantId,
        name: &str,
    ) -> Result<Zeroizing<[u8; 32]>, NotOurs> {
        under.open(&associated(tenant, name, self.version), &self.sealed)
    }

    /// Reads stored bytes.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, NotOurs> {
        let (version, sealed) = match bytes.split_first_chunk::<4>() {
            Some((UNDER_MASTER, sealed)) => (MASTER, sealed),
            Some((UNDER_TENANT_KEY, rest)) => {
                let (version, sealed) = rest.split_first_chunk::<4>().ok_or(NotOurs)?;
                match u32::from_be_bytes(*version) {
                    MASTER => return Err(NotOurs),
                    version => (version, sealed),
                }
            }
            _ => return Err(NotOurs),
        };
        if sealed.len() != SEALED_BYTES {
            return Err(NotOurs);
        }
        Ok(Self {
            version,
            sealed: sealed.to_vec(),
        })
    }

    /// The bytes to store.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        if self.version == MASTER {
            return [UNDER_MASTER.as_slice(), &self.sealed].concat();
        }
        let version = self.version.to_be_bytes();
        [UNDER_TENANT_KEY.as_slice(), &version, &self.sealed].concat()
    }
}

fn associated(tenant: &TenantId, name: &str, version: u32) -> Vec<u8> {
    // Neither a tenant id nor a name here has a `|`, so the parts cannot run into each other.
    if version == MASTER {
        format!("{tenant}|{name}").into_bytes()
    } else {
        format!("{tenant}|{name}|{version}").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_key_opens_only_where_it_belongs() {
        let (a, b) = (TenantId::new("a").unwrap(), TenantId::new("b").unwrap());
        let under = WrappingKey::generate();
        for version in [MASTER, 1, 7] {
            let wrapped = Wrapped::wrap(&under, version, &a, "clinical/x", &[9; 32]).unwrap();
            let stored = wrapped.to_bytes();
            assert_eq!(Wrapped::parse(&stored), Ok(wrapped.clone()));
            assert_eq!(*wrapped.unwrap(&under, &a, "clinical/x").unwrap(), [9; 32]);
            assert!(wrapped.unwrap(&under, &a, "clinical/y").is_err());
            assert!(wrapped.unwrap(&under, &b, "clinical/x").is_err());
            let another = WrappingKey::generate();
            assert!(wrapped.unwrap(&another, &a, "clinical/x").is_err());
            // Said to be of another version, under the same key.
            let moved = Wrapped {
                version: version + 1,
                ..wrapped
            };
            assert!(moved.unwrap(&under, &a, "clinical/x").is_err());
            for index in 0..stored.len() {
                let mut flipped = stored.clone();
                flipped[index] ^= 1;
                let opened = Wrapped::parse(&flipped)
                    .and_then(|wrapped| wrapped.unwrap(&under, &a, "clinical/x"));
                assert!(opened.is_err(), "byte {index}");
            }
            assert!(Wrapped::parse(&stored[..stored.len() - 1]).is_err());
        }
        assert!(Wrapped::parse(b"CWK1").is_err());
        assert!(Wrapped::parse(b"CWK2\0\0\0\0").is_err());
    }
}
