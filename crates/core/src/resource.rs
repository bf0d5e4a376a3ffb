//! FHIR names that the core needs: resource types, interactions, codes, versions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// The name of a FHIR R4 resource type. Any well-formed name is accepted; whether it exists and what
/// may be done with it is decided by the validator and by the matrix, where unlisted means refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ResourceType(String);

/// A string that cannot be the name of a resource type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a resource type is 2 to 48 ASCII letters starting with a capital")]
pub struct ResourceTypeInvalid;

impl ResourceType {
    /// Accepts a well-formed name.
    ///
    /// # Errors
    /// [`ResourceTypeInvalid`] for anything but letters starting with a capital.
    pub fn new(text: &str) -> Result<Self, ResourceTypeInvalid> {
        let well_formed = (2..=48).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphabetic())
            && text.starts_with(|c: char| c.is_ascii_uppercase());
        if well_formed {
            Ok(Self(text.to_owned()))
        } else {
            Err(ResourceTypeInvalid)
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ResourceType {
    type Err = ResourceTypeInvalid;
    fn from_str(text: &str) -> Result<Self, ResourceTypeInvalid> {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for ResourceType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A FHIR code: short, closed vocabulary, never free text. Safe in events.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Code(String);

/// A string that is not a short code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a code is 1 to 64 ASCII letters, digits, `-`, `_`, `.` or `/`")]
pub struct CodeInvalid;

impl Code {
    /// Accepts a short code.
    ///
    /// # Errors
    /// [`CodeInvalid`] for anything that could be text.
    pub fn new(text: &str) -> Result<Self, CodeInvalid> {
        let short = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'));
        if short {
            Ok(Self(text.to_owned()))
        } else {
            Err(CodeInvalid)
        }
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// What is to be done to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interaction {
    /// Make a new resource.
    Create,
    /// Change an existing resource.
    Update,
    /// Remove a resource; always refused to agents.
    Delete,
}

impl Interaction {
    /// The name used in tools and policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Interaction::Create => "create",
            Interaction::Update => "update",
            Interaction::Delete => "delete",
        }
    }
}
