//! Public keys of passkeys, as authenticators write them, and signatures checked with them.
//!
//! A strict reader of the one shape that matters: a flat map of small integers to integers or byte strings.
//! Not here: CBOR at large; nothing else of it reaches us.
//!
//! # Source
//! RFC 9052, section 7, and RFC 9053, section 7 (COSE keys); WebAuthn Level 2, sections 5.8.5 and 6.5.1.1.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};

/// Most entries of a key's map.
const ENTRIES_MAX: u8 = 8;
/// Longest byte string of a key, in bytes: the modulus of RSA with 4,096 bits.
const BYTES_MAX: usize = 512;
/// Shortest modulus, in bytes: RSA with 2,048 bits.
const MODULUS_BYTES_MIN: usize = 256;

/// ECDSA on P-256 with SHA-256.
pub const ES256: i64 = -7;
/// Ed25519.
pub const EDDSA: i64 = -8;
/// RSA, PKCS #1 v1.5, with SHA-256.
pub const RS256: i64 = -257;

/// A public key of one of the three algorithms that are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CoseKey {
    /// A point on P-256.
    Es256 { point: Vec<u8> },
    /// An Ed25519 key.
    Ed25519 { key: Vec<u8> },
    /// Modulus and exponent.
    Rs256 { modulus: Vec<u8>, exponent: Vec<u8> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Number(i64),
    Bytes(Vec<u8>),
}

impl CoseKey {
    /// Reads a key and says how many bytes it took; nothing for any other shape or algorithm.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut rest = bytes;
        let (major, count) = head(&mut rest)?;
        if major != 5 || count > u64::from(ENTRIES_MAX) {
            return None;
        }
        let mut entries: Vec<(i64, Item)> = Vec::new();
        for _ in 0..count {
            let Item::Number(label) = item(&mut rest)? else {
                return None;
            };
            if entries.iter().any(|(known, _)| *known == label) {
                return None;
            }
            entries.push((label, item(&mut rest)?));
        }
        let number = |label: i64| {
            entries.iter().find_map(|(known, item)| match item {
                Item::Number(value) if *known == label => Some(*value),
                _ => None,
            })
        };
        let text = |label: i64| {
            entries.iter().find_map(|(known, item)| match item {
                Item::Bytes(value) if *known == label => Some(value.clone()),
                _ => None,
            })
        };
        let sized = |label: i64, len: usize| text(label).filter(|bytes| bytes.len() == len);
        // Labels: 1 key type, 3 algorithm; -1 curve or modulus, -2 x or exponent, -3 y.
        let key = match (number(1)?, number(3)?) {
            (2, ES256) if number(-1)? == 1 => {
                let mut point = vec![4];
                point.extend(sized(-2, 32)?);
                point.extend(sized(-3, 32)?);
                CoseKey::Es256 { point }
            }
            (1, EDDSA) if number(-1)? == 6 => CoseKey::Ed25519 {
                key: sized(-2, 32)?,
            },
            (3, RS256) => CoseKey::Rs256 {
                modulus: text(-1).filter(|bytes| bytes.len() >= MODULUS_BYTES_MIN)?,
                exponent: text(-2).filter(|bytes| (1..=8).contains(&bytes.len()))?,
            },
            _ => return None,
        };
        Some((key, bytes.len().saturating_sub(rest.len())))
    }

    /// Whether a signature over a message is of this key.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            CoseKey::Es256 { point } => UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
                .verify(message, signature)
                .is_ok(),
            CoseKey::Ed25519 { key } => UnparsedPublicKey::new(&ED25519, key)
                .verify(message, signature)
                .is_ok(),
            CoseKey::Rs256 { modulus, exponent } => RsaPublicKeyComponents {
                n: modulus,
                e: exponent,
            }
            .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            .is_ok(),
        }
    }
}

/// The kind of the next item and its number: a value, a length or a count.
fn head(rest: &mut &[u8]) -> Option<(u8, u64)> {
    let (first, tail) = rest.split_first()?;
    let (major, short) = (first >> 5, first & 0x1f);
    let (number, tail) = match short {
        0..=23 => (u64::from(short), tail),
        24 => {
            let (one, tail) = tail.split_first()?;
            (u64::from(*one), tail)
        }
        25 => {
            let (two, tail) = tail.split_first_chunk::<2>()?;
            (u64::from(u16::from_be_bytes(*two)), tail)
        }
        _ => return None,
    };
    *rest = tail;
    Some((major, number))
}

fn item(rest: &mut &[u8]) -> Option<Item> {
    let (major, number) = head(rest)?;
    match major {
        0 => i64::try_from(number).ok().map(Item::Number),
        1 => i64::try_from(number)
            .ok()?
            .checked_neg()?
            .checked_sub(1)
            .map(Item::Number),
        2 => {
            let len = usize::try_from(number)
                .ok()
                .filter(|len| *len <= BYTES_MAX)?;
            let (bytes, tail) = rest.split_at_checked(len)?;
            *rest = tail;
            Some(Item::Bytes(bytes.to_vec()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256,
    };

    use super::*;

    fn es256() -> Vec<u8> {
        let mut bytes = vec![0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20];
        bytes.extend([7; 32]);
        bytes.extend([0x22, 0x58, 0x20]);
        bytes.extend([9; 32]);
        bytes
    }

    #[test]
    fn a_key_is_read_to_its_last_byte_and_no_further() {
        let mut bytes = es256();
        let whole = bytes.len();
        bytes.extend([0xa1, 0x00]);
        let (key, len) = CoseKey::read(&bytes).unwrap();
        assert_eq!(len, whole);
        assert!(matches!(key, CoseKey::Es256 { point } if point.len() == 65 && point[0] == 4));
    }

    #[test]
    fn anything_else_is_no_key() {
        let good = es256();
        for cut in 0..good.len() {
            assert!(CoseKey::read(&good[..cut]).is_none(), "cut at {cut}");
        }
        let change = |at: usize, to: u8| {
            let mut bytes = good.clone();
            bytes[at] = to;
            bytes
        };
        for (what, bytes) in [
            ("no map", change(0, 0x85)),
            ("too many entries", change(0, 0xb8)),
            ("another key type", change(2, 0x01)),
            ("another algorithm", change(4, 0x27)),
            ("another curve", change(6, 0x02)),
            ("a label twice", change(3, 0x01)),
            ("a text for x", change(8, 0x78)),
            ("a longer x", change(9, 0x21)),
            ("a length of eight bytes", change(8, 0x5b)),
        ] {
            assert!(CoseKey::read(&bytes).is_none(), "{what}");
        }
    }

    /// A byte string as COSE writes it.
    fn text(bytes: &[u8]) -> Vec<u8> {
        let mut text = vec![0x59];
        text.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
        text.extend(bytes);
        text
    }

    /// A fresh key of each algorithm, as an authenticator writes it, and what it signs a message with.
    fn fresh(message: &[u8]) -> [(&'static str, Vec<u8>, Vec<u8>); 3] {
        let random = SystemRandom::new();
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let point = ec.public_key().as_ref();
        let mut ec_key = vec![0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21];
        ec_key.extend(text(&point[1..33]));
        ec_key.push(0x22);
        ec_key.extend(text(&point[33..]));
        let ed = Ed25519KeyPair::generate().unwrap();
        let mut ed_key = vec![0xa4, 0x01, 0x01, 0x03, 0x27, 0x20, 0x06, 0x21];
        ed_key.extend(text(ed.public_key().as_ref()));
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = rsa.public_key();
        let mut rsa_key = vec![0xa4, 0x01, 0x03, 0x03, 0x39, 0x01, 0x00, 0x20];
        rsa_key.extend(text(public.modulus().big_endian_without_leading_zero()));
        rsa_key.push(0x21);
        rsa_key.extend(text(public.exponent().big_endian_without_leading_zero()));
        let mut rsa_signed = vec![0; rsa.public_modulus_len()];
        rsa.sign(&RSA_PKCS1_SHA256, &random, message, &mut rsa_signed)
            .unwrap();
        [
            (
                "ES256",
                ec_key,
                ec.sign(&random, message).unwrap().as_ref().to_vec(),
            ),
            ("EdDSA", ed_key, ed.sign(message).as_ref().to_vec()),
            ("RS256", rsa_key, rsa_signed),
        ]
    }

    #[test]
    fn each_algorithm_verifies_its_own_signature_of_the_same_message_alone() {
        let message = b"authenticator data, then a digest";
        let all = fresh(message);
        for (name, key, signature) in &all {
            let (read, len) = CoseKey::read(key).unwrap();
            assert_eq!(len, key.len(), "{name}");
            assert!(read.verifies(message, signature), "{name}");
            assert!(
                !read.verifies(b"authenticator data, and a digest", signature),
                "{name}"
            );
            for at in [0, signature.len() / 2, signature.len() - 1] {
                let mut other = signature.clone();
                other[at] ^= 1;
                assert!(!read.verifies(message, &other), "{name}, byte {at}");
            }
            assert!(!read.verifies(message, &[]), "{name}");
            for (other, _, theirs) in all.iter().filter(|(other, ..)| other != name) {
                assert!(!read.verifies(message, theirs), "{name} by {other}");
            }
        }
        // Another key of the same algorithm.
        for ((name, _, signature), (_, other, _)) in all.iter().zip(fresh(message)) {
            let (other, _) = CoseKey::read(&other).unwrap();
            assert!(!other.verifies(message, signature), "{name}");
        }
    }
}
