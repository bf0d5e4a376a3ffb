//! Who was shredded, kept outside the database and its backups: what a restored database must not bring back.
//!
//! Not here: the tombstones of keys, which are the key vault's own.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::ids::{PatientToken, TenantId};

/// One patient who was shredded. Holds our own identifiers and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShredTombstone {
    /// Version of this form: 1.
    pub format: u16,
    /// The organisation.
    pub tenant: TenantId,
    /// Whom.
    pub patient: PatientToken,
    /// When it was decided.
    pub at: Timestamp,
}

impl ShredTombstone {
    /// The form written today.
    pub const FORMAT: u16 = 1;
}

/// Why tombstones could not be kept or read. Names no patient.
#[derive(Debug, thiserror::Error)]
#[error("the tombstones of shredded patients cannot be used: {0}")]
pub struct TombstonesFailed(pub String);

/// Keeps tombstones outside the database.
///
/// **Durability.** What `put` took survives the loss of process and power when it returns.
/// **Retry duty.** Putting the same patient again is fine and adds nothing.
#[async_trait]
pub trait ShredTombstones: Send + Sync + 'static {
    /// Keeps one.
    async fn put(&self, tombstone: &ShredTombstone) -> Result<(), TombstonesFailed>;

    /// Those of a tenant, oldest first. What cannot be read whole is an error, never a shorter list.
    async fn of(&self, tenant: &TenantId) -> Result<Vec<ShredTombstone>, TombstonesFailed>;
}
