//! Which FHIR interaction a method and a path ask for.
//!
//! No effects and no profile here. Start at [`Interaction::parse`]; batch entries use it too.
//!
//! # Source
//! FHIR R4, RESTful API, <https://hl7.org/fhir/R4/http.html>.

use axum::http::Method;
use json_patch::Patch;

use crate::definitions::{ResourceType, resource_type};
use crate::filing::OPERATION;
use crate::outcome::Refusal;

/// The longest logical id (FHIR R4 `id`).
const ID_CHARACTERS_MAX: usize = 64;

/// One interaction, with its path parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Interaction {
    Metadata,
    Bundle,
    /// The vendor's operation; what it writes is in its body.
    FileEntry,
    Read {
        kind: Kind,
        id: String,
    },
    VersionRead {
        kind: Kind,
        id: String,
        version: u64,
    },
    History {
        kind: Kind,
        id: String,
    },
    Search {
        kind: Kind,
        query: String,
    },
    Create {
        kind: Kind,
    },
    Update {
        kind: Kind,
        id: String,
    },
    /// The patch comes with the body, or with the Binary of an entry; until that is read there is none.
    Patch {
        kind: Kind,
        id: String,
        patch: Patch,
    },
    Delete {
        kind: Kind,
        id: String,
    },
}

/// A known resource type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind(pub(crate) &'static ResourceType);

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Kind {}

impl Interaction {
    /// Parses a path relative to the FHIR base, without a leading slash.
    ///
    /// # Errors
    /// 404 for an unknown resource type or a malformed path, 405 for a method that has no
    /// interaction at that path.
    pub(crate) fn parse(method: &Method, path: &str, query: &str) -> Result<Self, Refusal> {
        let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let kind = |name: &str| {
            resource_type(name)
                .map(Kind)
                .ok_or_else(Refusal::unknown_type)
        };
        match (method, segments.as_slice()) {
            (&Method::GET | &Method::HEAD, ["metadata"]) => Ok(Self::Metadata),
            (&Method::POST, []) => Ok(Self::Bundle),
            (&Method::POST, [name]) if *name == OPERATION => Ok(Self::FileEntry),
            (&Method::GET | &Method::HEAD, [name]) => Ok(Self::Search {
                kind: kind(name)?,
                query: query.to_owned(),
            }),
            (&Method::POST, [name, "_search"]) => Ok(Self::Search {
                kind: kind(name)?,
                query: query.to_owned(),
            }),
            (&Method::POST, [name]) => Ok(Self::Create { kind: kind(name)? }),
            (&Method::GET | &Method::HEAD, [name, id]) => Ok(Self::Read {
                kind: kind(name)?,
                id: logical_id(id)?,
            }),
            (&Method::PUT, [name, id]) => Ok(Self::Update {
                kind: kind(name)?,
                id: logical_id(id)?,
            }),
            (&Method::PATCH, [name, id]) => Ok(Self::Patch {
                kind: kind(name)?,
                id: logical_id(id)?,
                patch: Patch::default(),
            }),
            (&Method::DELETE, [name, id]) => Ok(Self::Delete {
                kind: kind(name)?,
                id: logical_id(id)?,
            }),
            (&Method::GET | &Method::HEAD, [name, id, "_history"]) => Ok(Self::History {
                kind: kind(name)?,
                id: logical_id(id)?,
            }),
            (&Method::GET | &Method::HEAD, [name, id, "_history", version]) => {
                Ok(Self::VersionRead {
                    kind: kind(name)?,
                    id: logical_id(id)?,
                    version: version.parse().map_err(|_| Refusal::not_found())?,
                })
            }
            (&Method::GET | &Method::HEAD, _) => Err(Refusal::new(
                axum::http::StatusCode::NOT_FOUND,
                "not-supported",
                "no interaction at this path; see the CapabilityStatement",
            )),
            _ => Err(Refusal::not_offered("this method at this path")),
        }
    }

    /// The resource type it concerns; `None` for the whole system.
    pub(crate) fn kind(&self) -> Option<&'static ResourceType> {
        match self {
            Self::Metadata | Self::Bundle | Self::FileEntry => None,
            Self::Read { kind, .. }
            | Self::VersionRead { kind, .. }
            | Self::History { kind, .. }
            | Self::Search { kind, .. }
            | Self::Create { kind }
            | Self::Update { kind, .. }
            | Self::Patch { kind, .. }
            | Self::Delete { kind, .. } => Some(kind.0),
        }
    }

    /// Whether it can change a resource.
    pub(crate) fn writes(&self) -> bool {
        match self {
            Self::Bundle
            | Self::FileEntry
            | Self::Create { .. }
            | Self::Update { .. }
            | Self::Patch { .. }
            | Self::Delete { .. } => true,
            Self::Metadata
            | Self::Read { .. }
            | Self::VersionRead { .. }
            | Self::History { .. }
            | Self::Search { .. } => false,
        }
    }
}

/// Whether the text is a FHIR id: 1 to 64 letters, digits, `-` and `.`.
pub(crate) fn is_logical_id(text: &str) -> bool {
    (1..=ID_CHARACTERS_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
}

fn logical_id(text: &str) -> Result<String, Refusal> {
    if is_logical_id(text) {
        Ok(text.to_owned())
    } else {
        Err(Refusal::not_found())
    }
}

/// Splits a query string or form body into decoded pairs.
pub(crate) fn pairs(query: &str) -> Vec<(String, String)> {
    url::form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;

    fn refused(method: Method, path: &str) -> StatusCode {
        Interaction::parse(&method, path, "").unwrap_err().status
    }

    #[test]
    fn known_paths_parse_and_their_neighbours_do_not() {
        assert!(Interaction::parse(&Method::GET, "Patient/p1", "").is_ok());
        assert!(Interaction::parse(&Method::GET, "Patient/p1/_history/2", "").is_ok());
        assert_eq!(refused(Method::GET, "Patients/p1"), StatusCode::NOT_FOUND);
        assert_eq!(refused(Method::GET, "Patient/p_1"), StatusCode::NOT_FOUND);
        assert_eq!(
            refused(Method::GET, "Patient/p1/$everything"),
            StatusCode::NOT_FOUND
        );
        assert!(Interaction::parse(&Method::PATCH, "Patient/p1", "").is_ok());
        // Of one resource only, not of what a search finds.
        assert_eq!(
            refused(Method::PATCH, "Patient"),
            StatusCode::METHOD_NOT_ALLOWED
        );
        assert_eq!(
            refused(Method::DELETE, "Patient"),
            StatusCode::METHOD_NOT_ALLOWED
        );
        assert_eq!(
            refused(Method::PUT, "Patient"),
            StatusCode::METHOD_NOT_ALLOWED
        );
    }
}
