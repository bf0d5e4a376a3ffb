//! Passwords: what is acceptable, and how they are hashed. Pure and slow; call it where blocking is
//! allowed.

use std::fmt;

use argon2::password_hash::phc::PasswordHash as Phc;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Fewest characters of a password.
///
/// # Source
/// NIST SP 800-63B, section 5.1.1.2: length over composition; twelve is this product's choice.
pub const PASSWORD_CHARS_MIN: usize = 12;
/// Most bytes of a password; longer input is refused before it is hashed.
pub const PASSWORD_BYTES_MAX: usize = 256;
/// Memory of one hash, in KiB.
///
/// # Source
/// OWASP Password Storage Cheat Sheet, Argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// What is hashed when there is no account, so that both answers take the same time.
const NOBODYS: &str = "$argon2id$v=19$m=19456,t=2,p=1$Y2hhcGVyb25lLW5vYm9keQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Why a text cannot be a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordUnfit {
    /// Fewer characters than the minimum.
    #[error("a password has at least 12 characters; a sentence is easiest to remember")]
    TooShort,
    /// More bytes than are hashed.
    #[error("a password has at most 256 bytes")]
    TooLong,
    /// The same few characters over and over.
    #[error("a password uses at least 5 different characters")]
    TooUniform,
}

/// A password as typed. Never printed, wiped when dropped.
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes what was typed at sign-in; anything may be wrong there, but not endlessly long.
    pub fn typed(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Takes a new password.
    ///
    /// # Errors
    /// [`PasswordUnfit`] when it breaks the rules.
    pub fn chosen(text: String) -> Result<Self, PasswordUnfit> {
        let password = Self(Zeroizing::new(text));
        if password.0.chars().count() < PASSWORD_CHARS_MIN {
            return Err(PasswordUnfit::TooShort);
        }
        if password.0.len() > PASSWORD_BYTES_MAX {
            return Err(PasswordUnfit::TooLong);
        }
        let different: std::collections::BTreeSet<char> = password.0.chars().collect();
        if different.len() < 5 {
            return Err(PasswordUnfit::TooUniform);
        }
        Ok(password)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// A hashed password, as a PHC string with its parameters and salt.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordHash(String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// The hasher refused: its parameters or the salt are not usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the password could not be hashed")]
pub struct HashFailed;

impl PasswordHash {
    /// Hashes a password under a salt drawn by the caller. Takes tens of milliseconds.
    ///
    /// # Errors
    /// [`HashFailed`] when the hasher refuses its parameters.
    pub fn make(password: &Password, salt: [u8; 16]) -> Result<Self, HashFailed> {
        let phc: Phc = hasher()?
            .hash_password_with_salt(password.0.as_bytes(), &salt)
            .map_err(|_| HashFailed)?;
        Ok(Self(phc.to_string()))
    }

    /// The hash that nobody's password has.
    pub(crate) fn nobodys() -> Self {
        Self(NOBODYS.to_owned())
    }

    /// Whether the password is the one hashed. Takes tens of milliseconds, also when it is not.
    pub fn verify(&self, password: &Password) -> bool {
        if password.0.len() > PASSWORD_BYTES_MAX {
            return false;
        }
        let Ok(phc) = Phc::new(&self.0) else {
            return false;
        };
        Argon2::default()
            .verify_password(password.0.as_bytes(), &phc)
            .is_ok()
    }
}

fn hasher() -> Result<Argon2<'static>, HashFailed> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| HashFailed)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_password_verifies_and_its_neighbour_does_not() {
        let chosen = Password::chosen("a calm grey morning".to_owned()).unwrap();
        let hash = PasswordHash::make(&chosen, [7; 16]).unwrap();
        assert!(hash.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(hash.verify(&chosen));
        assert!(!hash.verify(&Password::typed("a calm grey mornin".to_owned())));
        assert!(!hash.verify(&Password::typed("x".repeat(PASSWORD_BYTES_MAX + 1))));
        assert!(!format!("{hash:?}{chosen:?}").contains("calm"));
    }

    #[test]
    fn nobodys_hash_is_well_formed_and_matches_nothing() {
        assert!(Phc::new(NOBODYS).is_ok());
        assert!(!PasswordHash::nobodys().verify(&Password::typed(String::new())));
    }

    #[test]
    fn short_long_and_uniform_passwords_are_refused() {
        let chosen = |text: &str| Password::chosen(text.to_owned()).err();
        assert_eq!(chosen("elevenchars"), Some(PasswordUnfit::TooShort));
        assert_eq!(chosen("twelve chars"), None);
        assert_eq!(chosen("abababababab"), Some(PasswordUnfit::TooUniform));
        assert_eq!(chosen(&"abcdefgh".repeat(33)), Some(PasswordUnfit::TooLong));
    }
}
