//! A type for every identifier, so that no two can be confused.
//!
//! Two families. *Random* ids are 128 bits drawn by the caller, shown as `prefix_` and 32 hex digits.
//! *Named* ids come from configuration and are short lower-case slugs.
//! Neither ever holds anything about a patient: both are safe in logs, URLs and metrics.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest accepted named id, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Why a string is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdInvalid {
    /// A random id must be its prefix, an underscore and 32 lower-case hex digits.
    #[error("expected `{prefix}_` followed by 32 hexadecimal digits")]
    Random {
        /// The prefix the kind of id carries.
        prefix: &'static str,
    },
    /// A named id must be a slug.
    #[error(
        "a {what} is 1 to 64 lower-case letters, digits, `-`, `_` or `.`, starting with a letter or digit"
    )]
    Named {
        /// What the name names.
        what: &'static str,
    },
}

macro_rules! random_ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// Makes an id from 16 bytes of randomness drawn by the caller.
            pub fn from_random(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{:032x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdInvalid;
            fn from_str(text: &str) -> Result<Self, IdInvalid> {
                let invalid = IdInvalid::Random { prefix: $prefix };
                let digits = text
                    .strip_prefix(concat!($prefix, "_"))
                    .filter(|d| d.len() == 32 && d.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
                    .ok_or_else(|| invalid.clone())?;
                u128::from_str_radix(digits, 16).map(Self).map_err(|_| invalid)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

random_ids! {
    /// One write-back: a proposal and everything that happens to it.
    WritebackId = "wb";
    /// One envelope; the only thing an access token carries.
    EnvelopeId = "env";
    /// One context grant: who put a patient before an agent.
    GrantId = "grant";
    /// One request, from the first byte to the last record about it.
    CorrelationId = "req";
    /// One work item of the write-back queue.
    WorkId = "work";
    /// What an agent sees instead of a patient's identifier.
    PatientToken = "pat";
    /// What an agent sees instead of the logical id of any other resource.
    ResourceToken = "res";
    /// A person, whatever accounts they hold; two-person rules compare these.
    PersonId = "person";
    /// One signed-in console session.
    SessionId = "ses";
    /// One step-up: a second factor asked for and bound to one digest.
    StepUpId = "step";
    /// The data key of one patient in the vault.
    DataKeyId = "key";
    /// One legal hold.
    HoldId = "hold";
    /// One run that undoes what went wrong.
    UndoId = "undo";
    /// One cohort job: a list of patients that a person asked for and another approves.
    CohortJobId = "cohort";
}

macro_rules! named_ids {
    ($($(#[$doc:meta])* $name:ident = $what:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Accepts a slug.
            ///
            /// # Errors
            /// [`IdInvalid::Named`] when the text is empty, too long or has other characters.
            pub fn new(text: impl Into<String>) -> Result<Self, IdInvalid> {
                let text = text.into();
                if is_slug(&text) { Ok(Self(text)) } else { Err(IdInvalid::Named { what: $what }) }
            }

            /// The slug.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdInvalid;
            fn from_str(text: &str) -> Result<Self, IdInvalid> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    )*};
}

named_ids! {
    /// One healthcare organisation.
    TenantId = "tenant id";
    /// A registered software principal.
    AgentId = "agent id";
    /// A named task.
    IntentId = "intent id";
    /// A declared FHIR interaction.
    ToolName = "tool name";
    /// A policy of the bundle, by its `@id`.
    PolicyId = "policy id";
    /// A connection to an EHR.
    ConnectionId = "connection id";
    /// A person's account at the console.
    AccountName = "account name";
    /// A system that signs what it sends: it announces events of the EHR, or attests as a portal, never both.
    EhrEventSource = "source of EHR events";
    /// A type of event that sources announce, as `rules/ehr-events.toml` lists it.
    EhrEventType = "type of EHR event";
    /// Why a person approves what a plausibility rule warns of, as `rules/override-reasons.toml` lists it.
    OverrideReason = "override reason";
    /// A note template, as `templates/*.toml` declares it.
    NoteTemplateId = "note template";
    /// A CDS service, as `rules/decision-support.toml` lists it.
    CdsServiceId = "CDS service";
    /// A canary, as `rules/canaries.toml` lists it.
    CanaryId = "canary";
    /// A delegated protocol, as `rules/refill-protocols.toml` lists it.
    ProtocolId = "protocol id";
    /// A declared cohort: `cohorts/<id>.toml`.
    CohortId = "cohort id";
    /// A vendor that bytes may go to, as `rules/vendors.toml` lists it.
    VendorId = "vendor id";
    /// A place on earth, or the organisation's own premises, as contracts name it.
    Region = "region";
}

fn is_slug(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= NAME_BYTES_MAX
        && bytes
            .next()
            .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && bytes.all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_round_trip_and_refuse_another_kind() {
        let id = WritebackId::from_random([7; 16]);
        assert_eq!(id.to_string().parse::<WritebackId>(), Ok(id));
        assert!(id.to_string().parse::<EnvelopeId>().is_err());
        assert!("wb_07".parse::<WritebackId>().is_err());
        assert!(
            format!("wb_{}", "A".repeat(32))
                .parse::<WritebackId>()
                .is_err()
        );
    }

    #[test]
    fn named_ids_are_slugs() {
        assert!(AgentId::new("scheduler-1").is_ok());
        for bad in ["", "Agent", "a b", "-a", "a/b", "é"] {
            assert!(AgentId::new(bad).is_err(), "{bad}");
        }
        assert!(AgentId::new("a".repeat(NAME_BYTES_MAX + 1)).is_err());
    }
}
