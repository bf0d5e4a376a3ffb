//! Decision support before an order is signed: which services were asked, and what a person decided about their
//! critical cards. Serialised: a promise (see [`crate::event`]).
//!
//! What a service says is text from outside and rests in the vault; here are only ids of our own lists, counts and
//! digests. The services themselves are behind the port [`crate::ports::DecisionSupport`].
//!
//! # Source
//! HL7 CDS Hooks 2.0, `order-sign`; requirement R105.

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, PayloadAddress};
use crate::ids::{CdsServiceId, OverrideReason};

/// Why a service was not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotHeard {
    /// No service is connected.
    NotConnected,
    /// It may not be asked: the gate refused.
    Refused,
    /// It did not answer in time, or at all.
    NoAnswer,
    /// It answered with a failure.
    Failed,
    /// What it answered cannot be used, or is too much.
    Unusable,
    /// What it needs to know could not be had from the EHR.
    NoPrefetch,
    /// The order or the patient is specially protected, and told to nobody outside.
    Protected,
}

impl NotHeard {
    /// In words, for whoever approves.
    pub fn words(self) -> &'static str {
        match self {
            NotHeard::NotConnected => "no service is connected",
            NotHeard::Refused => "it may not be asked",
            NotHeard::NoAnswer => "it did not answer in time",
            NotHeard::Failed => "it answered that it failed",
            NotHeard::Unusable => "its answer cannot be used",
            NotHeard::NoPrefetch => "the EHR did not give what it needs to know",
            NotHeard::Protected => "this is specially protected and told to nobody outside",
        }
    }
}

/// What came of asking one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAsked {
    /// The service.
    pub service: CdsServiceId,
    /// Why it was not heard; nothing where it was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub not_heard: Option<NotHeard>,
    /// How many cards of it count: what it gave, or, where it was not heard, what it gave before about the same order.
    pub cards: u32,
    /// How many of them are critical.
    pub critical: u32,
    /// How many entries of the record it was not told of, because they are specially protected.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub left_out: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What happened between an order and decision support. Stands on the write-back's stream, and moves it nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum DecisionSupportEvent {
    /// Services were asked about an order.
    Asked {
        /// The order, by the digest that approvals name.
        order: Digest,
        /// Each of them.
        services: Vec<ServiceAsked>,
        /// Their cards, in the vault.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        cards: Option<PayloadAddress>,
    },
    /// A person decided to go on over a critical card.
    Overridden {
        /// The order.
        order: Digest,
        /// The card, by a salted digest of what it says.
        card: Digest,
        /// Why: a code of the bundle's list.
        reason: OverrideReason,
    },
}
