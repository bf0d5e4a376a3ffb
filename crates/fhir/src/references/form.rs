//! The forms that the text of a reference can have.
//!
//! Reading is strict: what is not plainly one of FHIR's forms is [`ReferenceForm::Unrecognised`].
//! Start at [`ReferenceForm::parse`].
//!
//! Rules: <https://hl7.org/fhir/R4/references.html#literal>.

use crate::primitive::is_id;

/// A reference's text, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferenceForm<'t> {
    /// `#id`; an empty id means the container itself.
    Contained {
        /// Id of the contained resource.
        id: &'t str,
    },
    /// `Type/id`, optionally with base URL and version.
    Typed {
        /// The part before the type, without the slash; `None` for a relative reference.
        base: Option<&'t str>,
        /// The type as written; it may not exist.
        resource_type: &'t str,
        /// Logical id.
        id: &'t str,
        /// Version, from `/_history/version`.
        version: Option<&'t str>,
    },
    /// `Type?query`, as transactions allow.
    Conditional {
        /// The type as written.
        resource_type: &'t str,
    },
    /// `urn:uuid:…`, `urn:oid:…` and other URNs.
    Urn,
    /// An absolute URL that does not end in `Type/id`.
    OtherAbsolute,
    /// None of FHIR's forms.
    Unrecognised,
}

fn is_type_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// Splits the last segment off.
fn pop(text: &str) -> (Option<&str>, &str) {
    match text.rsplit_once('/') {
        Some((head, last)) => (Some(head), last),
        None => (None, text),
    }
}

impl<'t> ReferenceForm<'t> {
    /// Takes the text of a reference apart.
    #[must_use]
    pub fn parse(text: &'t str) -> Self {
        if let Some(id) = text.strip_prefix('#') {
            return if id.is_empty() || is_id(id) {
                Self::Contained { id }
            } else {
                Self::Unrecognised
            };
        }
        if text.starts_with("urn:") {
            return Self::Urn;
        }
        let is_absolute = text.split_once("://").is_some_and(|(scheme, rest)| {
            !scheme.is_empty()
                && scheme
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
                && !rest.is_empty()
        });
        let otherwise = if is_absolute {
            Self::OtherAbsolute
        } else {
            Self::Unrecognised
        };
        if let Some((resource_type, _)) = text.split_once('?') {
            return if is_type_name(resource_type) {
                Self::Conditional { resource_type }
            } else {
                otherwise
            };
        }
        Self::typed(text, is_absolute).unwrap_or(otherwise)
    }

    fn typed(text: &'t str, is_absolute: bool) -> Option<Self> {
        let (head, last) = pop(text);
        let (before_last, middle) = pop(head?);
        let (type_at, id, version) = if middle == "_history" {
            let (type_at, id) = pop(before_last?);
            (type_at?, id, Some(last))
        } else {
            (head?, last, None)
        };
        let (base, resource_type) = pop(type_at);
        let is_sound = is_type_name(resource_type) && is_id(id) && version.is_none_or(is_id);
        // An absolute URL needs a host in front of the type.
        let has_fitting_base = match base {
            None => !is_absolute,
            Some(base) => {
                is_absolute
                    && base
                        .split_once("://")
                        .is_some_and(|(_, host)| !host.is_empty())
            }
        };
        (is_sound && has_fitting_base).then_some(Self::Typed {
            base,
            resource_type,
            id,
            version,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::ReferenceForm::{
        self, Conditional, Contained, OtherAbsolute, Typed, Unrecognised, Urn,
    };

    #[test]
    fn forms() {
        let typed = |base, resource_type, id, version| Typed {
            base,
            resource_type,
            id,
            version,
        };
        for (text, form) in [
            ("Patient/1", typed(None, "Patient", "1", None)),
            (
                "Patient/1/_history/2",
                typed(None, "Patient", "1", Some("2")),
            ),
            (
                "https://e.org/fhir/Patient/1",
                typed(Some("https://e.org/fhir"), "Patient", "1", None),
            ),
            (
                "http://e.org/Patient/1/_history/2",
                typed(Some("http://e.org"), "Patient", "1", Some("2")),
            ),
            ("#p", Contained { id: "p" }),
            ("#", Contained { id: "" }),
            ("urn:uuid:53fefa32-fcbb-4ff8-8a92-55ee120877b7", Urn),
            (
                "Patient?identifier=x|1",
                Conditional {
                    resource_type: "Patient",
                },
            ),
            ("https://e.org/x", OtherAbsolute),
            ("https://e.org/Patient/1?x=1", OtherAbsolute),
            ("https://e.org/Patient/1#x", OtherAbsolute),
            ("https://Patient/1", OtherAbsolute),
            ("/Patient/1", Unrecognised),
            ("fhir/Patient/1", Unrecognised),
            ("Patient/1/", Unrecognised),
            ("patient/1", Unrecognised),
            ("Patient/%31", Unrecognised),
            ("Patient/1/../2", Unrecognised),
            ("Patient", Unrecognised),
            ("", Unrecognised),
            ("1", Unrecognised),
            ("Patient/1/_history", Unrecognised),
        ] {
            assert_eq!(ReferenceForm::parse(text), form, "{text}");
        }
    }
}
