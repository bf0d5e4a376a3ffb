//! The text in attachments: plain text, HTML, XML and RTF, in encodings that are known. Everything else is not
//! read and therefore not shown. Start at [`read_text`].

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use crate::scrub::{markup, rtf};

/// The text of bytes, if they are text.
pub(super) fn read_text(content_type: Option<&str>, bytes: &[u8]) -> Option<String> {
    let declared = content_type.unwrap_or("").to_ascii_lowercase();
    let mut parts = declared.split(';').map(str::trim);
    let media = parts.next().unwrap_or("");
    let charset = parts
        .find_map(|part| part.strip_prefix("charset="))
        .map(|it| it.trim_matches('"'));
    let is_text = media.is_empty()
        || media.starts_with("text/")
        || media.ends_with("+xml")
        || media.ends_with("+json")
        || matches!(
            media,
            "application/rtf" | "application/xml" | "application/json"
        );
    if !is_text {
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
    if is_binary || text.starts_with("%PDF") {
        return None;
    }
    if text.trim_start().starts_with("{\\rtf") || media.ends_with("/rtf") {
        return rtf::text_of(&text);
    }
    Some(if markup::is_markup(&text) {
        markup::text_of(&text)
    } else {
        text
    })
}

/// Base64 as sources write it: with line breaks, with or without padding.
pub(super) fn decode(data: &str) -> Option<Vec<u8>> {
    let lenient = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let plain: String = data.chars().filter(|c| !c.is_whitespace()).collect();
    lenient.decode(plain).ok()
}
