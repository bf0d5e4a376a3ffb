//! What happens to keys, as the ledger records it. Names are our own identifiers; nothing here says anything
//! about a key's content.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::digest::Digest;

/// How often one key was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUses {
    /// Name of the key, such as `clinical/pat_…`.
    pub key: String,
    /// Version of the tenant key that it was under.
    pub version: u32,
    /// Times that something was sealed with it.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub seal: u64,
    /// Times that something was opened with it.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub open: u64,
    /// Times that a keyed digest was taken with it.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub digest: u64,
}

/// Why the escrow text of a master key was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EscrowReason {
    /// The keys were made.
    FirstRun,
    /// The master was changed.
    MasterChange,
}

/// What happened to keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum KeyEvent {
    /// Keys were used: counted, not one by one.
    Used {
        /// The node that used them.
        node: String,
        /// Since when it counts.
        since: Timestamp,
        /// By key.
        keys: Vec<KeyUses>,
        /// Uses of further keys, beyond those that are named.
        #[serde(skip_serializing_if = "is_zero", default)]
        further: u64,
    },
    /// A key could not be had: counted, not one by one.
    Failed {
        /// The node that asked for it.
        node: String,
        /// Name of the key; absent for keys beyond those that are named.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        key: Option<String>,
        /// Stable code.
        code: String,
        /// How often.
        count: u64,
        /// Since when.
        since: Timestamp,
    },
    /// A data key was destroyed.
    Destroyed {
        /// The digest of its name.
        key: Digest,
        /// When, where its tombstone says so.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        at: Option<Timestamp>,
        /// Version of the tenant key that it was under, where that is known.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        version: Option<u32>,
    },
    /// A destroyed data key was there again, as after a restore of an older key folder, or its tombstone was
    /// missing; it was destroyed again before anything was served.
    DestroyedAgain {
        /// The digest of its name.
        key: Digest,
    },
    /// The tenant key is being rotated: recorded before the new version is made.
    RotationStarted {
        /// The version in use; 0 stands for the file master itself.
        from: u32,
    },
    /// Everything is wrapped under the new version; older ones are erased.
    RotationFinished {
        /// The new version.
        to: u32,
        /// Versions that were erased.
        retired: Vec<u32>,
        /// Until when the last backup that holds them must be gone.
        backups_gone_by: Timestamp,
    },
    /// What wraps the tenant key is being changed: recorded before anything is made.
    MasterChangeStarted,
    /// The tenant key is wrapped under another key, or under renewed material of the same.
    MasterChanged {
        /// The service: `file`, `aws`.
        service: String,
        /// Its key's id.
        key: String,
        /// Ids of keys that wrap nothing here any more.
        retired: Vec<String>,
        /// Until when the last backup that they open must be gone.
        backups_gone_by: Timestamp,
    },
    /// The escrow text of a master key was shown to whoever ran the command.
    EscrowShown {
        /// Why.
        reason: EscrowReason,
    },
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}
