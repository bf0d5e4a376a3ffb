//! Cover: who takes what is handed to somebody while they are away. It gives no right: whoever covers decides under
//! their own account and roles, or not at all.
//!
//! Not here: who may say so, and what is handed on (`engine::cover`). Serialised: a promise (see [`crate::event`]).

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::ids::AccountName;

/// What happened to somebody's cover. Stands on the stream of the account that is away; the actor is whoever said so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum CoverEvent {
    /// Somebody covers, in place of whoever did before.
    Set {
        /// Who.
        cover: AccountName,
        /// From when on.
        from: Timestamp,
        /// Until when; it ends by itself then.
        until: Timestamp,
    },
    /// It ended before its time.
    Ended,
}
