//! SHA-256 digests and the addresses of vault payloads.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// A string that is not 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 digest is 64 lower-case hexadecimal digits")]
pub struct DigestInvalid;

impl Digest {
    /// The digest of the concatenation of length-prefixed parts: `["ab","c"]` and `["a","bc"]` differ.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// The plain SHA-256 of some bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// SHA-256(salt ‖ bytes): says nothing about the bytes to whoever does not have the salt, however few
    /// they could be; with the salt it is checked like any digest.
    pub fn salted(salt: &Salt, bytes: &[u8]) -> Self {
        *PayloadAddress::of(&salt.0, bytes).digest()
    }

    /// Wraps 32 bytes that are a digest already.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestInvalid;
    fn from_str(text: &str) -> Result<Self, DigestInvalid> {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(DigestInvalid);
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| DigestInvalid)?;
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// 32 random bytes that are mixed into the digests of one write-back. Rests in the vault, inside the
/// order, and is erased with it. Written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Digest", into = "Digest")]
pub struct Salt([u8; 32]);

impl Salt {
    /// Wraps 32 bytes that were drawn at random.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<Digest> for Salt {
    fn from(written: Digest) -> Self {
        Self(written.0)
    }
}

impl From<Salt> for Digest {
    fn from(salt: Salt) -> Self {
        Self(salt.0)
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(withheld)")
    }
}

/// Where a payload rests in the vault: SHA-256(salt ‖ payload).
///
/// The salt is inside the sealed payload, so an address in the ledger says nothing about its payload,
/// and erasing the patient's key leaves the ledger verifiable and the payload unreadable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PayloadAddress(Digest);

impl PayloadAddress {
    /// The address of `payload` under `salt`.
    pub fn of(salt: &[u8; 32], payload: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(salt);
        hasher.update(payload);
        Self(Digest(hasher.finalize().into()))
    }

    /// The digest behind the address.
    pub fn digest(&self) -> &Digest {
        &self.0
    }

    /// Reads an address back from where it was stored.
    pub fn from_digest(digest: Digest) -> Self {
        Self(digest)
    }
}

impl fmt::Display for PayloadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
