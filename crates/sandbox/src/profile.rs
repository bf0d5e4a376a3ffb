//! What kind of FHIR server the sandbox plays.
//!
//! Not authorisation: a profile says what the server can do at all. Start at [`ServerProfile`].

/// A server profile: how capable the sandbox pretends to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ServerProfile {
    /// Versioned, with ETag and conditional requests, history, Provenance and atomic transactions.
    #[default]
    Full,
    /// The lesser kind that many vendors ship: no ETag, conditional headers silently ignored, no
    /// transactions or batches, no Provenance, no history.
    Plain,
    /// Everything of `Full` that reads; every write is refused with 405.
    ReadOnly,
}

impl ServerProfile {
    /// The name used in configuration and in the CapabilityStatement.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Plain => "plain",
            Self::ReadOnly => "read-only",
        }
    }

    /// Whether versions are shown: ETag, `meta.versionId`, vread and history.
    pub(crate) fn shows_versions(self) -> bool {
        match self {
            Self::Full | Self::ReadOnly => true,
            Self::Plain => false,
        }
    }

    /// Whether create, update, delete are offered.
    pub(crate) fn accepts_writes(self) -> bool {
        match self {
            Self::Full | Self::Plain => true,
            Self::ReadOnly => false,
        }
    }

    /// Whether If-None-Exist and If-Match have any effect.
    pub(crate) fn honours_conditions(self) -> bool {
        self == Self::Full
    }

    /// Whether transactions and batches are offered.
    pub(crate) fn takes_bundles(self) -> bool {
        self == Self::Full
    }

    /// Whether the resource type exists on this server.
    pub(crate) fn holds(self, resource_type: &str) -> bool {
        match self {
            Self::Full | Self::ReadOnly => true,
            Self::Plain => resource_type != "Provenance",
        }
    }
}
