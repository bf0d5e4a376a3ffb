//! The EHR port. Reads may be repeated; a write is sent at most once per call, never retried inside.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Timestamp;
use crate::digest::Digest;
use crate::evidence::{Delivering, Strategy};
use crate::ids::ConnectionId;
use crate::resource::{Interaction, ResourceType};
use crate::writeback::{FailureCause, HumanNeeded};

/// What a connection is for (invariant 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// Synthetic patients, embedded.
    Sandbox,
    /// Synthetic patients at somebody's test system.
    Test,
    /// Real patients.
    Production,
}

/// What kind of endpoint it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerKind {
    /// Conditional headers, versions, Provenance.
    Full,
    /// Plain create and read.
    Plain,
    /// No writes at all: everything is entered by humans.
    ReadOnly,
}

/// How one interaction on one type can be delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InteractionSupport {
    /// The strategy to use.
    pub strategy: Strategy,
    /// Whether Provenance can be written with it.
    pub provenance: bool,
    /// Whether target and Provenance can go in one atomic transaction.
    pub atomic: bool,
    /// The operation that takes the write, where the strategy uses one, such as `$file-entry`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub operation: Option<String>,
    /// Whether the EHR asks for a second factor when a person signs there.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub signs_with_second_factor: bool,
    /// For an update: whether it goes as a patch of the changed elements, and in no other way.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub patch: bool,
}

impl InteractionSupport {
    /// By a strategy, with nothing beside it.
    pub fn by(strategy: Strategy) -> Self {
        Self {
            strategy,
            provenance: false,
            atomic: false,
            operation: None,
            signs_with_second_factor: false,
            patch: false,
        }
    }
}

/// What an endpoint can do, per type and interaction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryProfile {
    /// What it can do; an absent entry means human entry.
    pub support: BTreeMap<String, InteractionSupport>,
    /// How long after a send a miss means "not applied", in milliseconds.
    pub settle_ms: i64,
}

impl DeliveryProfile {
    /// The key of an entry.
    pub fn key(resource: &ResourceType, interaction: Interaction) -> String {
        format!("{resource}.{}", interaction.as_str())
    }

    /// The least that both promise: what is absent from one is absent, and of two strategies the one
    /// with the weaker proof counts.
    #[must_use]
    pub fn met_with(&self, other: &DeliveryProfile) -> DeliveryProfile {
        let support = self
            .support
            .iter()
            .filter_map(|(key, ours)| {
                let theirs = other.support.get(key)?;
                let weaker = if ours.strategy.proof() <= theirs.strategy.proof() {
                    ours
                } else {
                    theirs
                };
                // Two ways that show as much are still two ways: neither was shown for the other.
                let differ = ours.strategy != theirs.strategy
                    && ours.strategy.proof() == theirs.strategy.proof();
                if differ
                    || ours.patch != theirs.patch
                    || ours.operation != theirs.operation && weaker.operation.is_some()
                {
                    return None;
                }
                let met = InteractionSupport {
                    strategy: weaker.strategy,
                    provenance: ours.provenance && theirs.provenance,
                    atomic: ours.atomic && theirs.atomic,
                    operation: weaker.operation.clone(),
                    signs_with_second_factor: ours.signs_with_second_factor
                        && theirs.signs_with_second_factor,
                    patch: ours.patch,
                };
                Some((key.clone(), met))
            })
            .collect();
        DeliveryProfile {
            support,
            settle_ms: self.settle_ms.max(other.settle_ms),
        }
    }

    /// How an interaction is delivered.
    pub fn of(&self, resource: &ResourceType, interaction: Interaction) -> InteractionSupport {
        self.support
            .get(&Self::key(resource, interaction))
            .cloned()
            .unwrap_or(InteractionSupport::by(Strategy::HumanEntry))
    }
}

/// Version of a resource at the EHR, as its ETag or `meta.versionId` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub String);

/// A search: type and parameters, not yet encoded. The adapter encodes every value.
///
/// Values can identify somebody: `Debug` shows the names of the parameters alone.
#[derive(Clone, PartialEq, Eq)]
pub struct EhrSearch {
    /// The type.
    pub resource: ResourceType,
    /// Names and values, in order.
    pub parameters: Vec<(String, String)>,
    /// At most this many resources, over at most the pages the adapter allows.
    pub limit: u32,
}

impl fmt::Debug for EhrSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.parameters.iter().map(|(name, _)| &**name).collect();
        f.debug_struct("EhrSearch")
            .field("resource", &self.resource)
            .field("parameters", &names)
            .field("limit", &self.limit)
            .finish()
    }
}

/// What a search or read returned. `Debug` shows how many resources, and nothing of them.
#[derive(Clone, PartialEq)]
pub struct EhrRead {
    /// The resources, in server order.
    pub resources: Vec<Value>,
    /// Whether there was more than the limit.
    pub more: bool,
}

impl fmt::Debug for EhrRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EhrRead")
            .field("resources", &self.resources.len())
            .field("more", &self.more)
            .finish()
    }
}

/// Why a read failed. Texts never carry content of the answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EhrReadFailed {
    /// No such resource.
    #[error("the EHR has no such resource")]
    NotFound,
    /// Not reachable, too slow, or a server error. May be repeated.
    #[error("the EHR is not available")]
    Unavailable,
    /// Asked to slow down.
    #[error("the EHR asks to slow down")]
    RateLimited,
    /// Our credentials or scopes do not suffice.
    #[error("the EHR refused our authority")]
    Unauthorized,
    /// The EHR does not support the search strictly as asked.
    #[error("the EHR does not support this search")]
    Unsupported,
    /// The answer is not FHIR, too large, or points outside the EHR.
    #[error("the EHR's answer cannot be used")]
    Unusable,
}

/// What a successful write can show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteReceipt {
    /// `[type]/[id]` or with `/_history/[version]`.
    pub location: String,
    /// Version, where the endpoint tells.
    pub version: Option<Version>,
    /// Whether the resource was read back and its content is what was sent.
    pub read_back: Option<Digest>,
    /// Whether Provenance was written with it; of several changes, with each.
    pub provenance_written: bool,
    /// Of several changes that were sent as one transaction: those after the first, in order.
    pub also: Vec<EntryWritten>,
}

/// What a successful transaction can show of one further change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryWritten {
    /// `[type]/[id]` or with `/_history/[version]`.
    pub location: String,
    /// Version, where the endpoint tells.
    pub version: Option<Version>,
    /// Whether the resource was read back and its content is what was sent.
    pub read_back: Option<Digest>,
}

/// What became of a send that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteFailed {
    /// Certainly not applied.
    #[error("the EHR did not apply the write")]
    NotApplied {
        /// Why.
        cause: FailureCause,
        /// The server's wish, in milliseconds.
        retry_after_ms: Option<i64>,
    },
    /// The base changed (412, or the re-read digest differs): the order is void.
    #[error("the resource changed since the order was made")]
    Stale,
    /// Nobody knows. Must be reconciled before anything else.
    #[error("the outcome of the send is not known")]
    Unknown,
}

/// What reading back showed about a send of unknown outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reconciliation {
    /// It is there, and it is what was sent.
    Applied(WriteReceipt),
    /// It is not there. Counts only after the settle window, and only where the endpoint honours
    /// business identifiers.
    Missing,
    /// The endpoint cannot tell; a human must look.
    Undecidable(HumanNeeded),
}

/// What became of something that was placed unsigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// It stands as it was placed.
    Awaited,
    /// Somebody signed what was placed, and nothing but the signature changed.
    Given {
        /// Who, as the EHR names them: `Practitioner/[id]`.
        signer: String,
        /// When, by the EHR's clock.
        at: Timestamp,
        /// What the signed version can show.
        receipt: WriteReceipt,
    },
    /// It is not what was placed any more, or it was signed after a change, or nobody knows by whom.
    Changed,
    /// It was taken away or cancelled there.
    Declined,
}

/// An EHR connection. Reads and writes use separate credentials where the EHR has them.
///
/// **Concurrency.** Any number of calls. **Time.** Every call has a limit of its own.
/// **PHI.** Nothing of a request or answer is logged; errors carry no content.
#[async_trait]
pub trait Ehr: Send + Sync + 'static {
    /// Its name.
    fn connection(&self) -> &ConnectionId;

    /// What it is for.
    fn environment(&self) -> Environment;

    /// Its base URL.
    fn endpoint(&self) -> &str;

    /// What it can do.
    fn profile(&self) -> DeliveryProfile;

    /// Until when it asked, in an answer to a write, to be left alone (429 or 503 with `Retry-After`). A time that
    /// has passed counts as none. What reads hear concerns reads alone.
    fn rests_until(&self) -> Option<Timestamp> {
        None
    }

    /// Reads one resource by logical id.
    async fn read(&self, resource: &ResourceType, id: &str) -> Result<Value, EhrReadFailed>;

    /// Searches strictly.
    async fn search(&self, search: EhrSearch) -> Result<EhrRead, EhrReadFailed>;

    /// Sends once, by the order's strategy, and reads back. Only `engine::deliver` calls this.
    ///
    /// Nothing leaves once [`Delivering::not_after`] has come, however long was looked at something before:
    /// the time is looked at right before the send, and a send that is too late is `NotApplied`.
    /// Target and Provenance go in one transaction only where that is claimed and [`Delivering::is_shown_atomic`];
    /// several changes go in no other way.
    async fn write(&self, delivering: &Delivering) -> Result<WriteReceipt, WriteFailed>;

    /// Looks whether what was placed unsigned at a location is signed. No effect at the EHR. Only for orders that are
    /// delivered by [`Strategy::EhrStaged`]; an EHR that does not work so answers `Unsupported`. A signature that the EHR
    /// may not show yet is not reported as a change: `Unavailable` says that it is to be looked at again.
    async fn signature(
        &self,
        delivering: &Delivering,
        location: &str,
    ) -> Result<Signature, EhrReadFailed> {
        let _ = (delivering, location);
        Err(EhrReadFailed::Unsupported)
    }

    /// Finds out what became of a send. No effect at the EHR.
    async fn reconcile(&self, delivering: &Delivering) -> Result<Reconciliation, EhrReadFailed>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(entry: InteractionSupport) -> DeliveryProfile {
        DeliveryProfile {
            support: [("Task.update".to_owned(), entry)].into(),
            settle_ms: 0,
        }
    }

    #[test]
    fn a_patch_is_met_by_a_patch_alone() {
        let whole = InteractionSupport {
            provenance: true,
            atomic: true,
            ..InteractionSupport::by(Strategy::Conditional)
        };
        let patch = InteractionSupport {
            patch: true,
            ..whole.clone()
        };
        let plain = InteractionSupport::by(Strategy::PlainPost);
        let unlike = InteractionSupport {
            atomic: false,
            ..patch.clone()
        };
        let met = |one: &InteractionSupport, other: &InteractionSupport| {
            let met = profile(one.clone()).met_with(&profile(other.clone()));
            met.support.into_values().next()
        };
        assert_eq!(met(&patch, &patch), Some(patch.clone()));
        assert_eq!(met(&patch, &unlike), Some(unlike.clone()));
        assert_eq!(met(&whole, &whole), Some(whole.clone()));
        // What was shown of patches shows nothing of whole resources, nor the other way round.
        for other in [&whole, &plain] {
            assert_eq!(met(&patch, other), None);
            assert_eq!(met(other, &patch), None);
        }
    }

    #[test]
    fn what_was_stored_before_there_were_patches_is_no_patch() {
        let stored = r#"{"strategy":"conditional","provenance":true,"atomic":true}"#;
        let entry: InteractionSupport = serde_json::from_str(stored).unwrap();
        assert!(!entry.patch);
        assert_eq!(serde_json::to_string(&entry).unwrap(), stored);
    }
}
