//! The master key in a form that a person can print, store and type in again.

use std::fmt;

use chaperone_core::digest::Digest;
use chaperone_core::ids::TenantId;
use zeroize::Zeroizing;

use super::wrap::WrappingKey;

/// First word of every escrow text.
const HEADING: &str = "chaperone-escrow-1";

/// Hex digits of the checksum.
const CHECK_DIGITS: usize = 16;

/// Hex digits of the key.
const KEY_DIGITS: usize = 64;

/// Hex digits per group.
const GROUP_DIGITS: usize = 4;

/// Longest text that is read, in bytes.
const TEXT_BYTES_MAX: usize = 1_024;

/// The master key of a tenant as text, shown once. Its `Debug` shows nothing.
///
/// `chaperone-escrow-1 <tenant> ` and twenty groups of four hex digits: the key, then a checksum over key
/// and tenant.
pub struct EscrowSecret(Zeroizing<String>);

/// Why an escrow text was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EscrowInvalid {
    /// Not an escrow text.
    #[error(
        "this is not an escrow text: it starts with `chaperone-escrow-1`, then the tenant, then twenty \
         groups of four digits"
    )]
    Form,
    /// Of another tenant.
    #[error("this escrow text belongs to another tenant")]
    OtherTenant,
    /// The checksum does not fit.
    #[error("the checksum does not fit: a digit was mistyped")]
    Checksum,
}

impl EscrowSecret {
    pub(super) fn of(tenant: &TenantId, key: &WrappingKey) -> Self {
        let digits = Zeroizing::new(format!("{}{}", *hex(key.bytes()), check(tenant, key)));
        let mut text = Zeroizing::new(format!("{HEADING} {tenant} "));
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && index % GROUP_DIGITS == 0 {
                text.push('-');
            }
            text.push(digit);
        }
        Self(text)
    }

    /// The text, to be printed once and stored away from this machine.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EscrowSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EscrowSecret([withheld])")
    }
}

/// Reads an escrow text; case, dashes and white space between digits do not matter.
pub(super) fn read(tenant: &TenantId, text: &str) -> Result<WrappingKey, EscrowInvalid> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(EscrowInvalid::Form);
    }
    let mut words = text.split_whitespace();
    if words.next() != Some(HEADING) {
        return Err(EscrowInvalid::Form);
    }
    if words.next() != Some(tenant.as_str()) {
        return Err(EscrowInvalid::OtherTenant);
    }
    let digits: Zeroizing<String> = Zeroizing::new(
        words
            .flat_map(str::chars)
            .filter(|c| *c != '-')
            .map(|c| c.to_ascii_lowercase())
            .collect(),
    );
    let well_formed =
        digits.len() == KEY_DIGITS + CHECK_DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if !well_formed {
        return Err(EscrowInvalid::Form);
    }
    let (key, given) = digits.split_at(KEY_DIGITS);
    let mut bytes = Zeroizing::new([0; 32]);
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = key
            .get(index * 2..index * 2 + 2)
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
            .ok_or(EscrowInvalid::Form)?;
    }
    let key = WrappingKey::new(bytes);
    if check(tenant, &key) == given {
        Ok(key)
    } else {
        Err(EscrowInvalid::Checksum)
    }
}

fn check(tenant: &TenantId, key: &WrappingKey) -> String {
    let parts = [
        HEADING.as_bytes(),
        tenant.as_str().as_bytes(),
        key.bytes().as_slice(),
    ];
    let mut digits = Digest::of_parts(parts).to_string();
    digits.truncate(CHECK_DIGITS);
    digits
}

fn hex(bytes: &[u8; 32]) -> Zeroizing<String> {
    Zeroizing::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).unwrap()
    }

    #[test]
    fn what_was_printed_can_be_typed_in_again() {
        let key = WrappingKey::new(Zeroizing::new([0xab; 32]));
        let secret = EscrowSecret::of(&tenant("clinic"), &key);
        let typed = secret
            .expose()
            .replace("-ab", "   AB")
            .replace("chaperone   AB", "chaperone-ab");
        let again = read(&tenant("clinic"), &typed).unwrap();
        assert_eq!(again.bytes(), key.bytes());
        assert!(!format!("{secret:?}").contains("abab"));
    }

    #[test]
    fn mistakes_are_told_apart() {
        let key = WrappingKey::new(Zeroizing::new([0xab; 32]));
        let text = EscrowSecret::of(&tenant("clinic"), &key)
            .expose()
            .to_owned();
        let refusal = |tenant_name: &str, text: &str| read(&tenant(tenant_name), text).err();
        assert_eq!(refusal("other", &text), Some(EscrowInvalid::OtherTenant));
        assert_eq!(
            refusal("clinic", &text.replacen("abab-", "abac-", 1)),
            Some(EscrowInvalid::Checksum)
        );
        let short = text.get(..text.len() - 1).unwrap();
        assert_eq!(refusal("clinic", short), Some(EscrowInvalid::Form));
        assert_eq!(refusal("clinic", "hello"), Some(EscrowInvalid::Form));
    }
}
