//! Time-based one-time passwords: pure checks around `totp-rs`.
//!
//! # Source
//! RFC 6238: 30-second steps, six digits, SHA-1 (which is what authenticator apps implement), one
//! step of tolerance either way, and each code accepted once.

use chaperone_core::Timestamp;
use chaperone_core::ids::AccountName;
use subtle::ConstantTimeEq;
use totp_rs::{Builder, Secret, Totp};

/// Length of a secret, in bytes.
///
/// # Source
/// RFC 4226, section 4: 160 bits recommended.
pub const SECRET_BYTES: usize = 20;
const STEP_S: u64 = 30;
const TOLERANCE_STEPS: u64 = 1;
const DIGITS: usize = 6;

/// The time step whose code was given, when it is a later one than the last accepted.
///
/// Compares all candidate steps, so that the time taken does not tell which one matched.
pub fn accept(
    secret: [u8; SECRET_BYTES],
    code: &str,
    now: Timestamp,
    last_step: u64,
) -> Option<u64> {
    let code: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    if code.len() != DIGITS || !code.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let totp = totp(secret);
    let current = u64::try_from(now.as_second()).ok()? / STEP_S;
    let first = current.saturating_sub(TOLERANCE_STEPS);
    let mut accepted = None;
    for step in first..=current.saturating_add(TOLERANCE_STEPS) {
        let expected = totp.generate(step.saturating_mul(STEP_S)).to_string();
        let matches = bool::from(expected.as_bytes().ct_eq(code.as_bytes()));
        if matches && step > last_step {
            accepted = Some(step);
        }
    }
    accepted
}

/// The code of a secret at a time: for the scripted people of the demonstration, and for tests.
pub fn code_at(secret: [u8; SECRET_BYTES], at: Timestamp) -> String {
    totp(secret)
        .generate(u64::try_from(at.as_second()).unwrap_or(0))
        .to_string()
}

/// The secret as people type it into an authenticator app.
pub fn base32(secret: [u8; SECRET_BYTES]) -> String {
    Secret::new_stack(secret).to_base32()
}

/// The address an authenticator app reads. Names and the secret need no escaping.
pub fn otpauth_uri(secret: [u8; SECRET_BYTES], account: &AccountName) -> String {
    format!(
        "otpauth://totp/Chaperone:{account}?secret={}&issuer=Chaperone&algorithm=SHA1&digits={DIGITS}&period={STEP_S}",
        base32(secret)
    )
}

fn totp(secret: [u8; SECRET_BYTES]) -> Totp {
    // The parameters are fixed, so the checks that `build` makes have nothing to find.
    Builder::new()
        .with_secret(Secret::new_stack(secret))
        .with_step_duration(STEP_S)
        .build_noncompliant()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; SECRET_BYTES] = *b"12345678901234567890";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn codes_are_those_of_rfc_6238() {
        // Appendix B, SHA-1, last six of eight digits.
        assert_eq!(code_at(SECRET, at(59)), "287082");
        assert_eq!(code_at(SECRET, at(1_111_111_109)), "081804");
        assert_eq!(code_at(SECRET, at(2_000_000_000)), "279037");
    }

    #[test]
    fn a_code_counts_one_step_around_its_own_and_once() {
        let code = code_at(SECRET, at(3_000));
        for (now, accepted) in [
            (2_969, None),
            (2_970, Some(100)),
            (3_000, Some(100)),
            (3_059, Some(100)),
            (3_060, None),
        ] {
            assert_eq!(accept(SECRET, &code, at(now), 0), accepted, "at {now}");
        }
        assert_eq!(accept(SECRET, &code, at(3_000), 99), Some(100));
        assert_eq!(accept(SECRET, &code, at(3_000), 100), None);
    }

    #[test]
    fn anything_but_six_digits_is_no_code() {
        let code = code_at(SECRET, at(3_000));
        let spaced = format!("{} {}", &code[..3], &code[3..]);
        assert_eq!(accept(SECRET, &spaced, at(3_000), 0), Some(100));
        for bad in ["", "12345", "1234567", "+12345", "abcdef"] {
            assert_eq!(accept(SECRET, bad, at(3_000), 0), None, "{bad}");
        }
    }

    #[test]
    fn the_enrolment_address_holds_secret_and_account() {
        let uri = otpauth_uri(SECRET, &AccountName::new("dr-lee").unwrap());
        assert_eq!(
            uri,
            "otpauth://totp/Chaperone:dr-lee?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Chaperone&algorithm=SHA1&digits=6&period=30"
        );
    }
}
