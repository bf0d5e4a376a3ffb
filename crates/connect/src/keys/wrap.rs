//! Wrapping a 32-byte key under a master key. No files here.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use chaperone_core::ids::TenantId;
use chaperone_core::ports::Random;
use zeroize::Zeroizing;

use crate::random::OsRandom;

/// First bytes of every wrapped key: the format's name.
const MAGIC: &[u8; 4] = b"CWK1";

/// Bytes of the nonce.
const NONCE_BYTES: usize = 12;

/// Bytes of a whole wrapped key: magic, nonce, key, tag.
pub(super) const WRAPPED_BYTES: usize = 4 + NONCE_BYTES + 32 + 16;

/// The master key of one tenant.
pub(super) struct MasterKey(Zeroizing<[u8; 32]>);

/// The bytes are not a key wrapped under this master key for this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotOurs;

impl MasterKey {
    pub(super) fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    pub(super) fn generate() -> Self {
        Self(Zeroizing::new(OsRandom.key()))
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Wraps a key, bound to tenant and name.
    pub(super) fn wrap(
        &self,
        tenant: &TenantId,
        name: &str,
        key: &[u8; 32],
    ) -> Result<Vec<u8>, NotOurs> {
        let mut nonce = [0; NONCE_BYTES];
        OsRandom.fill(&mut nonce);
        let mut sealed = Zeroizing::new(Vec::with_capacity(WRAPPED_BYTES));
        sealed.extend_from_slice(key);
        self.cipher()?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                associated(tenant, name),
                &mut *sealed,
            )
            .map_err(|_| NotOurs)?;
        Ok([MAGIC.as_slice(), &nonce, sealed.as_slice()].concat())
    }

    /// Unwraps a key, if it was wrapped under this master key for this tenant and name.
    pub(super) fn unwrap(
        &self,
        tenant: &TenantId,
        name: &str,
        wrapped: &[u8],
    ) -> Result<Zeroizing<[u8; 32]>, NotOurs> {
        let rest = wrapped.strip_prefix(MAGIC).ok_or(NotOurs)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(NotOurs)?;
        let mut opened = Zeroizing::new(sealed.to_vec());
        let key = self
            .cipher()?
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                associated(tenant, name),
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

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey([withheld])")
    }
}

fn associated(tenant: &TenantId, name: &str) -> Aad<Vec<u8>> {
    // A tenant id has no `|`, so the two cannot run into each other.
    Aad::from(format!("{tenant}|{name}").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_key_opens_only_where_it_belongs() {
        let (a, b) = (TenantId::new("a").unwrap(), TenantId::new("b").unwrap());
        let master = MasterKey::generate();
        let wrapped = master.wrap(&a, "clinical/x", &[9; 32]).unwrap();
        assert_eq!(wrapped.len(), WRAPPED_BYTES);
        assert_eq!(*master.unwrap(&a, "clinical/x", &wrapped).unwrap(), [9; 32]);
        assert!(master.unwrap(&a, "clinical/y", &wrapped).is_err());
        assert!(master.unwrap(&b, "clinical/x", &wrapped).is_err());
        assert!(
            MasterKey::generate()
                .unwrap(&a, "clinical/x", &wrapped)
                .is_err()
        );
        let mut flipped = wrapped.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert!(master.unwrap(&a, "clinical/x", &flipped).is_err());
        assert!(master.unwrap(&a, "clinical/x", b"CWK1").is_err());
    }
}
