//! Formats of the primitive types that are text and not dates.
//!
//! Start at [`super::Primitive::check`]; this file only holds its scanners.

use super::{Fault, STRING_CHARACTERS_MAX};

pub(super) fn check_string(text: &str) -> Result<(), Fault> {
    if text.len() > STRING_CHARACTERS_MAX && text.chars().count() > STRING_CHARACTERS_MAX {
        return Err(Fault::TooLong);
    }
    if text
        .bytes()
        .any(|byte| byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r'))
    {
        return Err(Fault::Format);
    }
    // A first byte that is neither space nor the start of an exotic space decides most texts.
    if text
        .bytes()
        .next()
        .is_some_and(|byte| byte > 0x20 && byte < 0x80)
    {
        return Ok(());
    }
    if text.chars().all(char::is_whitespace) {
        Err(Fault::Blank)
    } else {
        Ok(())
    }
}

/// No white space at the ends, single white space inside.
pub(super) fn is_code(text: &str) -> bool {
    if !text.bytes().any(|byte| byte <= 0x20 || byte >= 0x80) {
        return true;
    }
    let mut last_was_space = true;
    for character in text.chars() {
        let is_space = character.is_whitespace();
        if is_space && last_was_space {
            return false;
        }
        last_was_space = is_space;
    }
    !last_was_space
}

pub(super) fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

fn has_no_space(text: &str) -> bool {
    if text.is_ascii() {
        text.bytes().all(|byte| byte > 0x20 && byte != 0x7f)
    } else {
        !text
            .chars()
            .any(|character| character.is_whitespace() || character.is_control())
    }
}

pub(super) fn is_uri(text: &str) -> bool {
    if !has_no_space(text) {
        return false;
    }
    // A canonical may carry `|version` and `#fragment` behind the URN.
    let urn = |rest: &str, check: fn(&str) -> bool| {
        check(rest.split(['|', '#']).next().unwrap_or_default())
    };
    if let Some(rest) = text.strip_prefix("urn:uuid:") {
        urn(rest, is_uuid)
    } else if let Some(rest) = text.strip_prefix("urn:oid:") {
        urn(rest, is_oid)
    } else {
        true
    }
}

/// Begins with a scheme of RFC 3986.
pub(super) fn is_absolute(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        !rest.is_empty()
            && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    })
}

/// Absolute, or a fragment that names a contained resource.
pub(super) fn is_canonical(text: &str) -> bool {
    is_uri(text) && (text.starts_with('#') || is_absolute(text))
}

pub(super) fn is_url(text: &str) -> bool {
    is_uri(text)
}

/// Dotted numbers without leading zeros, the first 0, 1 or 2.
pub(super) fn is_oid(text: &str) -> bool {
    let mut parts = text.split('.');
    matches!(parts.next(), Some("0" | "1" | "2"))
        && text.contains('.')
        && parts.all(|part| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_digit())
                && (part == "0" || !part.starts_with('0'))
        })
}

/// Lower-case UUID.
pub(super) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// Complete groups of four, padding only at the end; white space between is allowed.
pub(super) fn is_base64(text: &str) -> bool {
    let mut count = 0_usize;
    let mut padding = 0_usize;
    for byte in text.bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => continue,
            b'=' => padding += 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => {}
            _ => return false,
        }
        count += 1;
    }
    count > 0 && count.is_multiple_of(4) && padding <= 2
}

/// Starts with `<div` and ends with its end tag (or is an empty element). Its inside is not judged here.
pub(super) fn is_div(text: &str) -> bool {
    let text = text.trim();
    text.strip_prefix("<div")
        .is_some_and(|rest| rest.starts_with([' ', '\t', '\n', '\r', '>', '/']))
        && (text.ends_with("</div>") || text.ends_with("/>"))
}

#[cfg(test)]
mod tests {
    use super::super::{Fault, Primitive};

    #[test]
    fn formats() {
        let check = |primitive: Primitive, good: &[&str], bad: &[&str]| {
            for text in good {
                assert_eq!(
                    primitive.check_text(text),
                    Ok(()),
                    "{} {text:?}",
                    primitive.name()
                );
            }
            for text in bad {
                assert!(
                    primitive.check_text(text).is_err(),
                    "{} {text:?}",
                    primitive.name()
                );
            }
        };
        check(
            Primitive::Code,
            &["a", "a b", "é"],
            &["", " a", "a ", "a  b", "\ta"],
        );
        check(
            Primitive::Id,
            &["a", "A-1.b", &"x".repeat(64)],
            &["", "a_b", "a b", "é", &"x".repeat(65)],
        );
        check(
            Primitive::Uri,
            &[
                "http://a/b",
                "urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
                "urn:oid:1.2.3",
                "#x",
            ],
            &[
                "",
                "a b",
                "urn:uuid:C757873D-EC9A-4326-A141-556F43239520",
                "urn:uuid:1",
                "urn:oid:3.1",
                "urn:oid:1.02",
            ],
        );
        check(
            Primitive::Canonical,
            &[
                "http://a/b|1.0",
                "#q",
                "urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
                "urn:oid:1.2|3",
            ],
            &["Library/a", "a", "", "http://a b"],
        );
        check(
            Primitive::Oid,
            &["urn:oid:2.16.840.1"],
            &["2.16.840.1", "urn:oid:2", "urn:oid:2."],
        );
        check(
            Primitive::Uuid,
            &["urn:uuid:c757873d-ec9a-4326-a141-556f43239520"],
            &[
                "c757873d-ec9a-4326-a141-556f43239520",
                "urn:uuid:c757873d-ec9a-4326-a141-556f4323952",
            ],
        );
        check(
            Primitive::Base64Binary,
            &["QQ==", "QUI=", "QUJD", "QU\nJD"],
            &["QQ", "QQ=", "Q=Q=", "Q===", "Q-==", " "],
        );
        check(
            Primitive::Xhtml,
            &[
                "<div>x</div>",
                " <div xmlns=\"x\">x</div>\n",
                "<div xmlns='x'/>",
            ],
            &["", "x", "<divx></divx>", "<p>x</p>", "<div>x"],
        );
        check(
            Primitive::String,
            &["a", " a", "\u{a0}a", "a\nb"],
            &["", "a\u{1}"],
        );
        assert_eq!(Primitive::String.check_text(" \n"), Err(Fault::Blank));
        assert_eq!(
            Primitive::String.check_text(&"x".repeat(1024 * 1024 + 1)),
            Err(Fault::TooLong)
        );
    }
}
