//! What is recorded about people's passkeys. A passkey is named by a digest of its credential id, never by
//! the id itself or by the name its holder gave it.
//!
//! Not here: how an assertion is checked (`engine::people::webauthn`), and that one was given for an approval,
//! which stands in the approval ([`crate::evidence::Factor`]).

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// What happened to a passkey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum PasskeyEvent {
    /// Its holder added it.
    Added {
        /// Which.
        credential: Digest,
    },
    /// Its holder removed it.
    Removed {
        /// Which.
        credential: Digest,
    },
    /// What was given in its name was not accepted.
    Refused {
        /// Which, where it is one of the account.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        credential: Option<Digest>,
        /// Stable reason code.
        code: String,
    },
}
