//! Envelope encryption of vault payloads: AES-256-GCM-SIV under a data key, bound to where the
//! payload belongs.
//!
//! Sealed bytes are `version ‖ nonce ‖ AES-256-GCM-SIV(salt ‖ payload)`. The salt is inside, so that
//! an address, SHA-256(salt ‖ payload), says nothing about its payload to somebody without the key.
//! Keys come from the key vault and sealed bytes go to the store; neither is known here.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use chaperone_core::digest::PayloadAddress;
use chaperone_core::ids::{EnvelopeId, TenantId};
use chaperone_core::ports::PayloadClass;
use zeroize::{Zeroize as _, Zeroizing};

use crate::tokens::PurposeClass;

/// Version of the sealed form, its first byte, and part of what every sealed payload is bound to.
pub const SEAL_VERSION: u8 = 1;

/// Longest payload that is sealed, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;

const SALT_BYTES: usize = 32;
const TAG_BYTES: usize = 16;

/// Bytes that sealing adds.
pub const SEAL_OVERHEAD_BYTES: usize = 1 + NONCE_LEN + SALT_BYTES + TAG_BYTES;

/// What kind of thing is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealedAs {
    /// A payload of the vault.
    Payload(PayloadClass),
    /// What a token stands for.
    Token(PurposeClass),
    /// What the slots of one envelope stand for.
    Slots(EnvelopeId),
}

/// Where sealed bytes belong. Bytes moved elsewhere (another tenant, patient, class) do not open.
#[derive(Debug, Clone, Copy)]
pub struct Associated<'a> {
    /// The organisation.
    pub tenant: &'a TenantId,
    /// The name of the data key, such as `clinical/pat_…`.
    pub key: &'a str,
    /// What it is.
    pub sealed_as: SealedAs,
}

impl Associated<'_> {
    /// Unambiguous bytes: every part is preceded by its length.
    fn to_bytes(self) -> Vec<u8> {
        let (family, class) = match self.sealed_as {
            SealedAs::Payload(class) => ("payload", class.as_str().to_owned()),
            SealedAs::Token(purpose) => ("token", purpose.as_str().to_owned()),
            SealedAs::Slots(envelope) => ("slots", envelope.to_string()),
        };
        let mut bytes = vec![SEAL_VERSION];
        for part in [self.tenant.as_str(), self.key, family, &class] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

/// The caller's fresh randomness for one sealing. Never reuse a salt; a nonce that repeats by
/// accident costs little with this cipher, but draw it freshly all the same.
#[derive(Clone, Copy)]
pub struct Fresh {
    /// 96 bits.
    pub nonce: [u8; 12],
    /// 256 bits.
    pub salt: [u8; 32],
}

impl fmt::Debug for Fresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fresh(…)")
    }
}

/// Why a payload was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealFailed {
    /// Longer than [`PAYLOAD_BYTES_MAX`].
    #[error("a payload may have at most {PAYLOAD_BYTES_MAX} bytes")]
    TooLong,
    /// The cipher refused.
    #[error("the payload could not be encrypted")]
    Cipher,
}

/// Why sealed bytes did not open. Says nothing about what is inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenFailed {
    /// Too short, too long, or of another version.
    #[error("these are not sealed bytes of version {SEAL_VERSION}")]
    Malformed,
    /// Changed, sealed under another key, or belonging elsewhere.
    #[error("the sealed bytes do not open with this key at this place")]
    Refused,
    /// Opened, but is not the payload that was asked for.
    #[error("the payload does not have the address it was found under")]
    OtherAddress,
}

/// An opened payload. Wiped from memory when dropped; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened(Zeroizing<Vec<u8>>);

impl Opened {
    /// The payload. Whoever calls this has it on their hands.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opened({} bytes)", self.0.len())
    }
}

/// Encrypts a payload. The same input gives the same output.
///
/// # Errors
/// [`SealFailed`].
pub fn seal(
    key: &[u8; 32],
    fresh: &Fresh,
    associated: &Associated<'_>,
    payload: &[u8],
) -> Result<(PayloadAddress, Vec<u8>), SealFailed> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(SealFailed::TooLong);
    }
    // Room for the tag from the start: growing would leave a copy of the payload behind.
    let mut inner = Vec::with_capacity(payload.len().saturating_add(SEAL_OVERHEAD_BYTES));
    inner.extend_from_slice(&fresh.salt);
    inner.extend_from_slice(payload);
    let nonce = Nonce::assume_unique_for_key(fresh.nonce);
    let aad = Aad::from(associated.to_bytes());
    let outcome = cipher(key).ok_or(SealFailed::Cipher).and_then(|cipher| {
        let sealed = cipher.seal_in_place_append_tag(nonce, aad, &mut inner);
        sealed.map_err(|_| SealFailed::Cipher)
    });
    if let Err(failed) = outcome {
        inner.zeroize();
        return Err(failed);
    }
    let mut sealed = Vec::with_capacity(inner.len().saturating_add(1 + NONCE_LEN));
    sealed.push(SEAL_VERSION);
    sealed.extend_from_slice(&fresh.nonce);
    sealed.extend_from_slice(&inner);
    Ok((PayloadAddress::of(&fresh.salt, payload), sealed))
}

/// Decrypts sealed bytes and checks that they are the payload of this address.
///
/// # Errors
/// [`OpenFailed`].
pub fn open(
    key: &[u8; 32],
    associated: &Associated<'_>,
    address: &PayloadAddress,
    sealed: &[u8],
) -> Result<Opened, OpenFailed> {
    let lengths = SEAL_OVERHEAD_BYTES..=PAYLOAD_BYTES_MAX.saturating_add(SEAL_OVERHEAD_BYTES);
    if !lengths.contains(&sealed.len()) {
        return Err(OpenFailed::Malformed);
    }
    let (nonce, inner) = sealed
        .strip_prefix(&[SEAL_VERSION])
        .and_then(|rest| rest.split_first_chunk::<NONCE_LEN>())
        .ok_or(OpenFailed::Malformed)?;
    let mut inner = Zeroizing::new(inner.to_vec());
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let aad = Aad::from(associated.to_bytes());
    let opened = cipher(key)
        .ok_or(OpenFailed::Refused)?
        .open_in_place(nonce, aad, &mut inner)
        .map_err(|_| OpenFailed::Refused)?;
    let (salt, payload) = opened
        .split_first_chunk::<SALT_BYTES>()
        .ok_or(OpenFailed::Malformed)?;
    if PayloadAddress::of(salt, payload) != *address {
        return Err(OpenFailed::OtherAddress);
    }
    Ok(Opened(Zeroizing::new(payload.to_vec())))
}

fn cipher(key: &[u8; 32]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM_SIV, key)
        .ok()
        .map(LessSafeKey::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [1; 32];
    const FRESH: Fresh = Fresh {
        nonce: [2; 12],
        salt: [3; 32],
    };
    const PAYLOAD: &[u8] = b"{\"resourceType\":\"Observation\"}";

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).unwrap()
    }

    fn clinical(tenant: &TenantId) -> Associated<'_> {
        Associated {
            tenant,
            key: "clinical/pat_1",
            sealed_as: SealedAs::Payload(PayloadClass::Clinical),
        }
    }

    #[test]
    fn what_was_sealed_opens_and_sealing_is_deterministic() {
        let tenant = tenant("clinic-1");
        let at = clinical(&tenant);
        for payload in [PAYLOAD, b"", &[0; 5000]] {
            let (address, sealed) = seal(&KEY, &FRESH, &at, payload).unwrap();
            assert_eq!(sealed.len(), payload.len() + SEAL_OVERHEAD_BYTES);
            assert_eq!(
                seal(&KEY, &FRESH, &at, payload).unwrap(),
                (address, sealed.clone())
            );
            assert_eq!(address, PayloadAddress::of(&FRESH.salt, payload));
            assert_eq!(
                open(&KEY, &at, &address, &sealed).unwrap().expose(),
                payload
            );
        }
        let (_, sealed) = seal(&KEY, &FRESH, &at, PAYLOAD).unwrap();
        assert!(
            !sealed
                .windows(8)
                .any(|window| PAYLOAD.windows(8).any(|it| it == window))
        );
    }

    #[test]
    fn no_changed_byte_and_no_other_length_opens() {
        let tenant = tenant("clinic-1");
        let at = clinical(&tenant);
        let (address, sealed) = seal(&KEY, &FRESH, &at, PAYLOAD).unwrap();
        for index in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[index] ^= 1 << bit;
                assert!(
                    open(&KEY, &at, &address, &changed).is_err(),
                    "byte {index} bit {bit}"
                );
            }
        }
        for length in 0..sealed.len() {
            assert!(open(&KEY, &at, &address, &sealed[..length]).is_err());
        }
        let longer = [sealed, vec![0]].concat();
        assert_eq!(open(&KEY, &at, &address, &longer), Err(OpenFailed::Refused));
    }

    #[test]
    fn sealed_bytes_do_not_open_elsewhere() {
        let (ours, other) = (tenant("clinic-1"), tenant("clinic-2"));
        let at = clinical(&ours);
        let (address, sealed) = seal(&KEY, &FRESH, &at, PAYLOAD).unwrap();
        let elsewhere = [
            Associated {
                tenant: &other,
                ..at
            },
            Associated {
                key: "clinical/pat_2",
                ..at
            },
            Associated {
                sealed_as: SealedAs::Payload(PayloadClass::Transcript),
                ..at
            },
            Associated {
                sealed_as: SealedAs::Token(PurposeClass::Treatment),
                ..at
            },
        ];
        for at in elsewhere {
            assert_eq!(open(&KEY, &at, &address, &sealed), Err(OpenFailed::Refused));
        }
        assert_eq!(
            open(&[9; 32], &at, &address, &sealed),
            Err(OpenFailed::Refused)
        );
        let other_address = PayloadAddress::of(&FRESH.salt, b"another payload");
        assert_eq!(
            open(&KEY, &at, &other_address, &sealed),
            Err(OpenFailed::OtherAddress)
        );
    }

    #[test]
    fn parts_cannot_be_shifted_into_each_other() {
        let (short, long) = (tenant("a"), tenant("ab"));
        let at = |tenant, key| Associated {
            tenant,
            key,
            ..clinical(&short)
        };
        assert_ne!(at(&short, "bc").to_bytes(), at(&long, "c").to_bytes());
    }

    #[test]
    fn a_payload_beyond_the_limit_is_refused() {
        let tenant = tenant("clinic-1");
        let long = vec![0; PAYLOAD_BYTES_MAX + 1];
        assert_eq!(
            seal(&KEY, &FRESH, &clinical(&tenant), &long),
            Err(SealFailed::TooLong)
        );
    }

    #[test]
    fn nothing_prints_what_is_inside() {
        let tenant = tenant("clinic-1");
        let at = clinical(&tenant);
        let (address, sealed) = seal(&KEY, &FRESH, &at, PAYLOAD).unwrap();
        let opened = open(&KEY, &at, &address, &sealed).unwrap();
        assert_eq!(format!("{opened:?}"), "Opened(30 bytes)");
        assert_eq!(format!("{FRESH:?}"), "Fresh(…)");
    }
}
