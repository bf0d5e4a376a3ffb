//! The port to a key-management service: what a tenant's key is wrapped under.
//!
//! Not for data keys: those are wrapped under the tenant key, without a call to anybody.

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::Timestamp;
use crate::ids::TenantId;

/// What a wrapped tenant key is bound to. A service that keeps a record of its use sees these and nothing
/// else; they are our own identifiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KmsBinding {
    /// The organisation.
    pub tenant: TenantId,
    /// Version of the tenant key, from 1.
    pub version: u32,
    /// When that version was made.
    pub made: Timestamp,
    /// Since when the service's key in use has been in use here.
    pub kms_key_since: Timestamp,
}

impl KmsBinding {
    /// The parts by name, in order of the names.
    pub fn pairs(&self) -> [(&'static str, String); 4] {
        [
            ("chaperone:kms-key-since", self.kms_key_since.to_string()),
            ("chaperone:made", self.made.to_string()),
            ("chaperone:tenant", self.tenant.to_string()),
            ("chaperone:tenant-key", self.version.to_string()),
        ]
    }
}

/// What a service says of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KmsStanding {
    /// The key's id there.
    pub key_id: String,
    /// Where it is, for services that have regions.
    pub region: Option<String>,
    /// Whether the service renews the key's material by itself; absent where it does not say.
    pub renews_itself: Option<bool>,
}

/// Why a service did not wrap or unwrap. Texts hold no key and nothing that the service wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KmsFailed {
    /// No answer. Trying again later may help.
    #[error("the key-management service cannot be reached: {0}")]
    Unreachable(String),
    /// Too many requests. Trying again later may help.
    #[error("the key-management service asks to slow down")]
    Throttled,
    /// Whoever this process is may not use the key.
    #[error("the key-management service denies the use of `{key}`: {why}")]
    Denied {
        /// The key.
        key: String,
        /// Its error code, and what to look at.
        why: String,
    },
    /// The key is disabled, waits to be deleted, or is not there.
    #[error(
        "the key `{key}` cannot be used at the key-management service ({code}): enable it there, or cancel its deletion"
    )]
    KeyUnusable {
        /// The key.
        key: String,
        /// Its error code.
        code: String,
    },
    /// Wrapped under another key, for another tenant key, or altered.
    #[error(
        "`{key}` did not wrap this tenant key: a file was exchanged, or the wrong key is configured"
    )]
    WrongKey {
        /// The key.
        key: String,
    },
    /// Anything else; a person must look.
    #[error("the key-management service cannot be used: {0}")]
    Unusable(String),
}

impl KmsFailed {
    /// Whether it may go away by itself.
    pub fn is_passing(&self) -> bool {
        matches!(self, KmsFailed::Unreachable(_) | KmsFailed::Throttled)
    }
}

/// Wraps tenant keys under a key that does not leave the service.
///
/// **Retry duty.** The service's adapter retries what passes, within its own limit; callers do not.
/// **Errors.** Fail closed: without an answer there is no key.
#[async_trait]
pub trait Kms: Send + Sync + 'static {
    /// What kind of service, as written beside what it wrapped: `file`, `aws`.
    fn provider(&self) -> &'static str;

    /// The key that new wrappings are under.
    async fn key_id(&self) -> Result<String, KmsFailed>;

    /// Wraps a tenant key under [`Self::key_id`].
    async fn wrap(&self, key: &[u8; 32], binding: &KmsBinding) -> Result<Vec<u8>, KmsFailed>;

    /// Unwraps a tenant key that the key `key_id` wrapped. A key that is not configured is not asked.
    async fn unwrap(
        &self,
        key_id: &str,
        wrapped: &[u8],
        binding: &KmsBinding,
    ) -> Result<Zeroizing<[u8; 32]>, KmsFailed>;

    /// What the service says of its key, for `doctor`.
    async fn standing(&self) -> Result<KmsStanding, KmsFailed>;
}
