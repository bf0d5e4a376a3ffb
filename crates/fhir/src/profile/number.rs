//! Decimal numbers compared by their text, without rounding.
//!
//! Start at [`compare`]; the numbers are JSON's.

use std::cmp::Ordering;

/// Greatest power of ten that is looked at; numbers beyond it are not compared.
const EXPONENT_MAX: i64 = 10_000;

/// A number as sign, digits without leading or trailing zeros, and the place of the point before them:
/// `0.d1d2d3… × 10^scale`.
struct Parts {
    is_negative: bool,
    digits: Vec<u8>,
    scale: i64,
}

fn parts(text: &str) -> Option<Parts> {
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if !(-EXPONENT_MAX..=EXPONENT_MAX).contains(&exponent)
        || !whole
            .bytes()
            .chain(fraction.bytes())
            .all(|it| it.is_ascii_digit())
    {
        return None;
    }
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    let mut scale = exponent.saturating_add(whole.len() as i64);
    let zeros = digits.iter().take_while(|it| **it == b'0').count();
    digits.drain(..zeros);
    scale = scale.saturating_sub(zeros as i64);
    while digits.last() == Some(&b'0') {
        digits.pop();
    }
    if digits.is_empty() {
        return Some(Parts {
            is_negative: false,
            digits,
            scale: i64::MIN,
        });
    }
    Some(Parts {
        is_negative,
        digits,
        scale,
    })
}

/// Which of two JSON numbers is greater; `None` if one is no number.
pub(crate) fn compare(a: &str, b: &str) -> Option<Ordering> {
    if a == b {
        return Some(Ordering::Equal);
    }
    let (a, b) = (parts(a)?, parts(b)?);
    let size = a.scale.cmp(&b.scale).then_with(|| a.digits.cmp(&b.digits));
    Some(match (a.is_negative, b.is_negative) {
        (false, false) => size,
        (true, true) => size.reverse(),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_without_rounding() {
        for (a, b, expected) in [
            ("1.50", "1.5", Ordering::Equal),
            ("0", "-0.0", Ordering::Equal),
            ("1e2", "100", Ordering::Equal),
            ("0.10000000000000000001", "0.1", Ordering::Greater),
            ("-2", "1", Ordering::Less),
            ("-2", "-10", Ordering::Greater),
            ("0.002", "0.01", Ordering::Less),
            ("12", "9", Ordering::Greater),
            ("0", "0.001", Ordering::Less),
            ("0", "-0.001", Ordering::Greater),
        ] {
            assert_eq!(compare(a, b), Some(expected), "{a} {b}");
        }
        assert_eq!(compare("x", "1"), None);
    }
}
