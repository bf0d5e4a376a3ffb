//! What kind of FHIR server the sandbox plays.
//!
//! Not authorisation: a profile says what the server can do at all. Start at [`ServerProfile`].

use crate::signing::is_signed_here;

/// What `patching` lets others replace: who somebody is and who pays, not what was found and done.
const ADMINISTRATIVE: [&str; 3] = ["Coverage", "Patient", "RelatedPerson"];

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
    /// Reads as `Plain`; every write goes by one operation, `$file-entry`, which acknowledges.
    Vendor,
    /// As `Full`, but what is not administrative is changed by patches alone: nobody replaces what it keeps.
    Patching,
    /// Orders and notes come in unsigned and are signed here by people; the rest as `Plain`, with versions to read.
    Staged,
}

impl ServerProfile {
    /// The name used in configuration and in the CapabilityStatement.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Plain => "plain",
            Self::ReadOnly => "read-only",
            Self::Vendor => "vendor",
            Self::Patching => "patching",
            Self::Staged => "staged",
        }
    }

    /// Whether versions are shown: ETag, `meta.versionId`, vread and history.
    pub(crate) fn shows_versions(self) -> bool {
        match self {
            Self::Full | Self::Patching | Self::ReadOnly | Self::Staged => true,
            Self::Plain | Self::Vendor => false,
        }
    }

    /// Whether resources of a type can be created at their own place.
    pub(crate) fn creates(self, resource_type: &str) -> bool {
        match self {
            Self::Full | Self::Patching | Self::Plain => true,
            // Its Provenances are those of signatures given here.
            Self::Staged => resource_type != "Provenance",
            Self::ReadOnly | Self::Vendor => false,
        }
    }

    /// Whether resources of a type can be replaced at their own place.
    pub(crate) fn updates(self, resource_type: &str) -> bool {
        let is_kept = match self {
            Self::Staged => is_signed_here(resource_type),
            Self::Patching => !ADMINISTRATIVE.contains(&resource_type),
            Self::Full | Self::Plain | Self::ReadOnly | Self::Vendor => false,
        };
        self.creates(resource_type) && !is_kept
    }

    /// Whether resources can be changed by patches.
    pub(crate) fn patches(self) -> bool {
        matches!(self, Self::Full | Self::Patching)
    }

    /// Whether resources of a type can be deleted.
    pub(crate) fn deletes(self) -> bool {
        matches!(self, Self::Full | Self::Patching | Self::Plain)
    }

    /// Whether writes go by an operation of its own.
    pub(crate) fn files_entries(self) -> bool {
        self == Self::Vendor
    }

    /// Whether what comes in must be unsigned where people sign it here.
    pub(crate) fn takes_unsigned_only(self) -> bool {
        self == Self::Staged
    }

    /// Whether If-None-Exist and If-Match have any effect.
    pub(crate) fn honours_conditions(self) -> bool {
        matches!(self, Self::Full | Self::Patching)
    }

    /// Whether transactions and batches are offered.
    pub(crate) fn takes_bundles(self) -> bool {
        matches!(self, Self::Full | Self::Patching)
    }

    /// Whether the resource type exists on this server.
    pub(crate) fn holds(self, resource_type: &str) -> bool {
        match self {
            Self::Full | Self::Patching | Self::ReadOnly | Self::Staged => true,
            Self::Plain | Self::Vendor => resource_type != "Provenance",
        }
    }
}
