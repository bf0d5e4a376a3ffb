//! A keyed index of identifiers: finds the token that already stands for an identifier, without the
//! identifier being stored anywhere in clear.
//!
//! HMAC-SHA-256 under a tenant's key: without the key, nobody can try out identifiers against it.

use aws_lc_rs::hmac;
use chaperone_core::digest::Digest;
use chaperone_core::resource::ResourceType;

use crate::tokens::PurposeClass;

/// Keeps this use of the key apart from any other.
const DOMAIN: &str = "chaperone token index 1";

/// Under what a token for a resource is found: differs per key, purpose class, type and id.
pub fn token_index(
    key: &[u8; 32],
    purpose: PurposeClass,
    resource_type: &ResourceType,
    id: &str,
) -> Digest {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut context = hmac::Context::with_key(&key);
    for part in [DOMAIN, purpose.as_str(), resource_type.as_str(), id] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(context.sign().as_ref()) {
        *to = *from;
    }
    Digest::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_index_is_stable_and_every_part_counts() {
        let patient = ResourceType::new("Patient").unwrap();
        let person = ResourceType::new("Person").unwrap();
        let treatment = PurposeClass::Treatment;
        let indexes = [
            token_index(&[1; 32], treatment, &patient, "17"),
            token_index(&[2; 32], treatment, &patient, "17"),
            token_index(&[1; 32], PurposeClass::Payment, &patient, "17"),
            token_index(&[1; 32], treatment, &person, "17"),
            token_index(&[1; 32], treatment, &patient, "18"),
            token_index(&[1; 32], treatment, &patient, ""),
        ];
        assert_eq!(indexes.iter().collect::<BTreeSet<_>>().len(), indexes.len());
        assert_eq!(indexes[0], token_index(&[1; 32], treatment, &patient, "17"));
    }
}
