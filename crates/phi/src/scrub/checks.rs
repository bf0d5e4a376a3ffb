//! Check digits: which numbers can be what they look like. Pure arithmetic on plain text.

/// Luhn's check over decimal digits.
///
/// # Source
/// ISO/IEC 7812-1, annex B.
pub(crate) fn luhn(digits: &str) -> bool {
    let mut sum = 0_u32;
    for (at, c) in digits.chars().rev().enumerate() {
        let Some(mut digit) = c.to_digit(10) else {
            return false;
        };
        if at % 2 == 1 {
            digit *= 2;
            if digit > 9 {
                digit -= 9;
            }
        }
        sum += digit;
    }
    !digits.is_empty() && sum.is_multiple_of(10)
}

/// A US national provider identifier: ten digits that begin with 1 or 2.
///
/// # Source
/// 45 CFR 162.406; the check covers the prefix 80840.
pub(crate) fn npi(digits: &str) -> bool {
    digits.len() == 10 && digits.starts_with(['1', '2']) && luhn(&format!("80840{digits}"))
}

/// A US Drug Enforcement Administration number: two letters (or a letter and 9) and seven digits.
///
/// # Source
/// DEA registration numbers: the last digit is that of d1+d3+d5+2(d2+d4+d6).
pub(crate) fn dea(text: &str) -> bool {
    let mut chars = text.chars();
    let prefix = (chars.next(), chars.next());
    let (Some(first), Some(second)) = prefix else {
        return false;
    };
    if !first.is_ascii_alphabetic() || !(second.is_ascii_alphabetic() || second == '9') {
        return false;
    }
    let digits: Vec<u32> = chars.map_while(|c| c.to_digit(10)).collect();
    let [a, b, c, d, e, f, check] = digits.as_slice() else {
        return false;
    };
    text.len() == 9 && (a + c + e + 2 * (b + d + f)) % 10 == *check
}

/// A vehicle identification number of seventeen characters with its check digit.
///
/// # Source
/// 49 CFR 565.15(c).
pub(crate) fn vin(text: &str) -> bool {
    const WEIGHTS: [u32; 17] = [8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2];
    if text.len() != 17 {
        return false;
    }
    let mut sum = 0;
    let mut check = None;
    for (at, (c, weight)) in text.chars().zip(WEIGHTS).enumerate() {
        let c = c.to_ascii_uppercase();
        if at == 8 {
            check = Some(c);
        }
        let value = match c {
            '0'..='9' => c.to_digit(10).unwrap_or(0),
            'A' | 'J' => 1,
            'B' | 'K' | 'S' => 2,
            'C' | 'L' | 'T' => 3,
            'D' | 'M' | 'U' => 4,
            'E' | 'N' | 'V' => 5,
            'F' | 'W' => 6,
            'G' | 'P' | 'X' => 7,
            'H' | 'Y' => 8,
            'R' | 'Z' => 9,
            _ => return false,
        };
        sum += value * weight;
    }
    match sum % 11 {
        10 => check == Some('X'),
        digit => check == char::from_digit(digit, 10),
    }
}

/// A Medicare beneficiary identifier: eleven characters whose kinds alternate.
///
/// # Source
/// CMS, "Understanding the Medicare Beneficiary Identifier (MBI) Format".
pub(crate) fn mbi(text: &str) -> bool {
    const KINDS: [u8; 11] = *b"9AX9AX9AA99";
    let letter = |c: char| c.is_ascii_alphabetic() && !"sloibz".contains(c.to_ascii_lowercase());
    text.len() == KINDS.len()
        && !text.starts_with('0')
        && text.chars().zip(KINDS).all(|(c, kind)| match kind {
            b'9' => c.is_ascii_digit(),
            b'A' => letter(c),
            _ => c.is_ascii_digit() || letter(c),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_check_digits_pass_and_their_neighbours_fail() {
        assert!(luhn("4111111111111111") && !luhn("4111111111111112") && !luhn(""));
        assert!(npi("1234567893") && !npi("1234567890") && !npi("3234567893"));
        assert!(dea("AB1234563") && !dea("AB1234564") && !dea("1B1234563") && !dea("AB123456"));
        assert!(vin("1M8GDM9AXKP042788") && !vin("1M8GDM9A1KP042788") && !vin("IM8GDM9AXKP042788"));
        assert!(mbi("1EG4TE5MK73") && !mbi("1EG4TE5MK7A") && !mbi("1SG4TE5MK73"));
    }
}
