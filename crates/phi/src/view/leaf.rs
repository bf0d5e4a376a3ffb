//! Single values: whether what an EHR sent has the form of its type, and so may be shown.
//!
//! The forms are narrower than the standard's wherever the standard would let a text through.

use std::collections::BTreeSet;

use chaperone_fhir::primitive::Primitive;
use serde_json::Value;

/// Longest code that is shown, in bytes.
const CODE_BYTES_MAX: usize = 64;

/// Longest code system or canonical address that is shown, in bytes.
const SYSTEM_BYTES_MAX: usize = 256;

/// The primitive, if it may be shown.
pub(super) fn primitive(
    primitive: Primitive,
    codes: Option<&BTreeSet<String>>,
    value: &Value,
) -> Option<Value> {
    let text = value.as_str();
    let is_right = match primitive {
        Primitive::Boolean => value.is_boolean(),
        Primitive::Integer | Primitive::UnsignedInt | Primitive::PositiveInt => {
            value.is_i64() || value.is_u64()
        }
        Primitive::Decimal => value.is_number(),
        Primitive::Date | Primitive::DateTime | Primitive::Instant | Primitive::Time => {
            text.is_some_and(|text| primitive.check_text(text).is_ok())
        }
        Primitive::Code => text.is_some_and(|text| match codes {
            Some(codes) => codes.contains(text),
            None => is_word(text),
        }),
        Primitive::Canonical => text.is_some_and(is_system),
        _ => false,
    };
    is_right.then(|| value.clone())
}

/// A code that cannot be a sentence: short, visible ASCII, no spaces. Covers LOINC, SNOMED CT, RxNorm,
/// ICD-10 and UCUM.
pub(super) fn is_code(text: &str) -> bool {
    (1..=CODE_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A code outside any list that we have, such as a language or a media type: without digits, so that no
/// number of a person or record passes as one.
fn is_word(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphabetic() || b"-+./".contains(&byte);
    (1..=CODE_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}

/// A currency, three capitals.
///
/// # Source
/// ISO 4217.
pub(super) fn is_currency(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// The address of a code system or definition, without a query, a fragment or a user in it.
pub(super) fn is_system(text: &str) -> bool {
    let has_scheme = ["http://", "https://", "urn:"]
        .iter()
        .any(|it| text.starts_with(it));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":/.-_|~".contains(&byte);
    has_scheme && text.len() <= SYSTEM_BYTES_MAX && text.bytes().all(is_plain)
}
