//! Rules of datatypes that FHIR states in words, not as invariants: what an Attachment says about its data,
//! and which URI a `system` may be.
//!
//! Start at [`Walk::datatype`].
//!
//! Rules: <https://hl7.org/fhir/R4/datatypes.html#attachment>, `#coding`, `#identifier`.

use base64::Engine;
use sha1::Digest;

use super::element::Walk;
use crate::definitions::tables::Node;
use crate::finding::{Severity, id};
use crate::json::Value;
use crate::primitive::is_absolute_uri;

/// Where HL7 publishes value sets; such a URL names no code system.
const VALUE_SET_PREFIXES: [&str; 2] = [
    "http://hl7.org/fhir/ValueSet/",
    "http://terminology.hl7.org/ValueSet/",
];

impl<'d> Walk<'d> {
    /// Applies the rules of the datatype that the node describes, if it has any here.
    pub(super) fn datatype(&mut self, value: Value<'d>, node: &Node) {
        match self.definitions.text(node.path) {
            "Attachment" => self.attachment(value),
            "Identifier" => {
                self.system(value);
                self.uri_identifier(value);
            }
            "ValueSet.compose.include" => self.system(value),
            _ => {}
        }
    }

    /// `size` and `hash` are of the data before it was written in base64.
    fn attachment(&mut self, value: Value<'d>) {
        let Some(data) = value.get("data").and_then(Value::as_str) else {
            return;
        };
        let size = value.get("size");
        let stated = size
            .and_then(Value::as_number)
            .and_then(|it| it.parse::<usize>().ok());
        if let (Some(at), Some(stated)) = (size, stated) {
            let symbols = data
                .bytes()
                .filter(|byte| !byte.is_ascii_whitespace())
                .fold((0_usize, 0_usize), |(all, padding), byte| {
                    (all + 1, padding + usize::from(byte == b'='))
                });
            let actual = (symbols.0 / 4 * 3).saturating_sub(symbols.1);
            if symbols.0 % 4 == 0 && actual != stated {
                let message =
                    format!("`size` says {stated} bytes, but the data holds {actual} bytes");
                self.report(
                    id::ATTACHMENT_SIZE,
                    Severity::Error,
                    at,
                    Some("size"),
                    message,
                );
            }
        }
        let hash = value.get("hash");
        if let Some(at) = hash
            && let Some(stated) = hash.and_then(Value::as_str).and_then(decode)
            && let Some(bytes) = decode(data)
            && sha1::Sha1::digest(&bytes).as_slice() != stated
        {
            let message = "`hash` is not the SHA-1 of the data".to_owned();
            self.report(
                id::ATTACHMENT_HASH,
                Severity::Error,
                at,
                Some("hash"),
                message,
            );
        }
    }

    /// An identifier whose system says that it is a URI is a whole one.
    ///
    /// # Source
    /// FHIR R4, Identifier Registry, `urn:ietf:rfc:3986`:
    /// <https://hl7.org/fhir/R4/identifier-registry.html>.
    fn uri_identifier(&mut self, value: Value<'d>) {
        if value.get("system").and_then(Value::as_str) != Some("urn:ietf:rfc:3986") {
            return;
        }
        let stated = value.get("value");
        if let Some(at) = stated
            && at.as_str().is_some_and(|it| !is_absolute_uri(it))
        {
            let message = "by its system the value is a URI, so it must begin with a scheme, such as `urn:oid:` or `https:`".to_owned();
            self.report(
                id::IDENTIFIER_NOT_URI,
                Severity::Error,
                at,
                Some("value"),
                message,
            );
        }
    }

    /// The `system` of a Coding, an Identifier or a part of a value set is absolute.
    pub(super) fn system(&mut self, value: Value<'d>) {
        let Some(at) = value.get("system") else {
            return;
        };
        let Some(system) = at.as_str().filter(|it| !it.is_empty()) else {
            return;
        };
        if !is_absolute_uri(system) {
            let message =
                "`system` must be an absolute URI, such as `http://loinc.org` or `urn:oid:…`"
                    .to_owned();
            self.report(
                id::SYSTEM_RELATIVE,
                Severity::Error,
                at,
                Some("system"),
                message,
            );
        } else if VALUE_SET_PREFIXES.iter().any(|it| system.starts_with(it)) {
            let message =
                "`system` names a value set; name the code system that defines the code".to_owned();
            self.report(
                id::SYSTEM_VALUE_SET,
                Severity::Error,
                at,
                Some("system"),
                message,
            );
        }
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let bare: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    base64::engine::general_purpose::STANDARD.decode(bare).ok()
}
