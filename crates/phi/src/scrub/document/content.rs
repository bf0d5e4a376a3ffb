//! The text in attachments and in strings: plain text, HTML, XML, JSON and RTF, in encodings that are known.
//! Everything else is not read and therefore not shown. PDF is not: the libraries that read its text panic, recurse
//! or unpack without a bound on files that were made to hurt, and nothing here may. Start at [`read_text`] and [`plain`].

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

use super::shape::is_bytes;
use crate::scrub::markup::{self, Names};
use crate::scrub::rtf;

/// Most documents inside each other: JSON in a string of JSON, and the like.
const NESTED_MAX: usize = 4;

/// The text of bytes, if they are text.
pub(super) fn read_text(content_type: Option<&str>, bytes: &[u8]) -> Option<String> {
    let declared = content_type.unwrap_or("").to_ascii_lowercase();
    let mut parts = declared.split(';').map(str::trim);
    let media = parts.next().unwrap_or("");
    let charset = parts
        .find_map(|part| part.strip_prefix("charset="))
        .map(|it| it.trim_matches('"'));
    let is_json = media.ends_with("+json") || matches!(media, "application/json" | "text/json");
    let is_xml = media.ends_with("+xml") || matches!(media, "application/xml" | "text/xml");
    let is_rtf = media.ends_with("/rtf");
    if !(media.is_empty() || media.starts_with("text/") || is_json || is_xml || is_rtf) {
        return None;
    }
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let text = match charset {
        None | Some("utf-8" | "utf8" | "us-ascii") => std::str::from_utf8(bytes).ok()?.to_owned(),
        Some("iso-8859-1" | "latin1" | "windows-1252" | "cp1252") => {
            bytes.iter().map(|byte| rtf::windows_1252(*byte)).collect()
        }
        Some(_) => return None,
    };
    let is_binary = text
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{c}'));
    if is_binary || is_page_description(&text) {
        return None;
    }
    if is_rtf || is_like_rtf(&text) {
        return rtf::text_of(&text);
    }
    if is_json {
        return json(&text, 0);
    }
    if is_xml || text.trim_start().starts_with("<?xml") {
        return Some(markup::text_of(&text, Names::Any));
    }
    plain(&text).map(Cow::into_owned)
}

/// What a reader sees of a text that does not say what it is; `None` for what begins like JSON or RTF and cannot
/// be read as such, because its escapes would hide what stands there.
pub(super) fn plain(text: &str) -> Option<Cow<'_, str>> {
    plain_at(text, 0)
}

fn plain_at(text: &str, depth: usize) -> Option<Cow<'_, str>> {
    if is_page_description(text) {
        return None;
    }
    if is_like_json(text) {
        return json(text, depth).map(Cow::Owned);
    }
    if is_like_rtf(text) {
        return rtf::text_of(text).map(Cow::Owned);
    }
    if has_escaped_letter(text) {
        return None;
    }
    Some(if markup::is_markup(text) {
        Cow::Owned(markup::text_of(text, Names::Known))
    } else {
        Cow::Borrowed(text)
    })
}

/// Whether a text is PDF or PostScript, whatever it is said to be. Words are torn apart in them letter by letter
/// (`[(Qu)-20(ill)] TJ`), so that no name would be recognised. PDF readers look for the mark this far.
///
/// # Source
/// ISO 32000-1, 7.5.2 and annex H.3.4.1.
fn is_page_description(text: &str) -> bool {
    const MARK_WITHIN: usize = 1024;
    let head = text
        .as_bytes()
        .get(..MARK_WITHIN)
        .unwrap_or(text.as_bytes());
    ["%PDF-", "%!PS"]
        .iter()
        .any(|mark| head.windows(mark.len()).any(|it| it == mark.as_bytes()))
}

fn is_like_rtf(text: &str) -> bool {
    text.trim_start().starts_with("{\\rtf")
}

/// Whether a text begins as an object or array of JSON does. "[x] done" and "{see below}" do not.
fn is_like_json(text: &str) -> bool {
    let mut chars = text.chars().filter(|c| !c.is_whitespace());
    match (chars.next(), chars.next()) {
        (Some('{'), Some('"')) => true,
        (Some('['), Some('"' | '{' | '[')) => text.contains('"'),
        _ => false,
    }
}

/// A letter by its number, as JSON writes it: `\u00f1`.
fn has_escaped_letter(text: &str) -> bool {
    text.match_indices("\\u").any(|(at, _)| {
        text.get(at + 2..at + 6)
            .is_some_and(|code| code.bytes().all(|c| c.is_ascii_hexdigit()))
    })
}

/// JSON as lines of names and values, with its escapes read; bytes in it are left out.
fn json(text: &str, depth: usize) -> Option<String> {
    if depth >= NESTED_MAX {
        return None;
    }
    // The reader has a limit of its own on how deep a document is.
    let value: Value = serde_json::from_str(text).ok()?;
    let mut out = String::with_capacity(text.len());
    lines(&value, "", depth, &mut out)?;
    Some(out.trim_end().to_owned())
}

fn lines(value: &Value, name: &str, depth: usize, out: &mut String) -> Option<()> {
    let said = match value {
        Value::Null => return Some(()),
        Value::Object(members) => {
            for (name, inner) in members {
                lines(inner, name, depth, out)?;
            }
            return Some(());
        }
        Value::Array(items) => {
            for item in items {
                lines(item, name, depth, out)?;
            }
            return Some(());
        }
        Value::String(_) if is_bytes(name) || name == "data" => Cow::Borrowed("(bytes)"),
        Value::String(text) => plain_at(text, depth + 1)?,
        other => Cow::Owned(other.to_string()),
    };
    if !name.is_empty() {
        out.push_str(name);
        out.push_str(": ");
    }
    out.push_str(&said);
    out.push('\n');
    Some(())
}

/// Base64 as sources write it: with line breaks, with or without padding.
pub(in crate::scrub) fn decode(data: &str) -> Option<Vec<u8>> {
    let lenient = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let plain: String = data.chars().filter(|c| !c.is_whitespace()).collect();
    lenient.decode(plain).ok()
}
