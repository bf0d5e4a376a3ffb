//! Receipts of deletions, and whether they are true: that what a receipt names is what its manifest covers, and that
//! none of it is there any more.
//!
//! That the receipt itself was not made afterwards is what the ledger proves (`chaperone ledger verify`).

use chaperone_core::Timestamp;
use chaperone_core::digest::PayloadAddress;
use chaperone_core::event::{Event, LeafInvalid, Recorded};
use chaperone_core::ports::StoreFailed;
use chaperone_core::retention::{Deletion, RetentionEvent};
use serde::Serialize;

use crate::context::Engine;

/// A receipt, looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReceiptChecked {
    /// Place in the ledger.
    pub entry: u64,
    /// When.
    pub at: Timestamp,
    /// The stream it stands on: of a write-back, or of retention.
    pub stream: String,
    /// What it says.
    pub deletion: Deletion,
    /// Whether count and manifest are those of what it names.
    pub is_whole: bool,
    /// What it names and is there all the same.
    pub still_there: Vec<PayloadAddress>,
}

impl ReceiptChecked {
    /// Whether the receipt is true.
    pub fn is_true(&self) -> bool {
        self.is_whole && self.still_there.is_empty()
    }
}

/// Why a receipt was not checked.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptFailed {
    /// No such entry, or no receipt.
    #[error("entry {0} of the ledger is no receipt of a deletion")]
    NoReceipt(u64),
    /// Not a leaf.
    #[error(transparent)]
    Leaf(#[from] LeafInvalid),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

impl Engine {
    /// Checks the receipt at a place of the ledger.
    ///
    /// # Errors
    /// [`ReceiptFailed`].
    pub async fn check_receipt(&self, entry: u64) -> Result<ReceiptChecked, ReceiptFailed> {
        let leaves = self.store.leaves(&self.config.tenant, entry, 1).await?;
        let leaf = leaves.first().ok_or(ReceiptFailed::NoReceipt(entry))?;
        let recorded = Recorded::from_leaf(leaf)?;
        let Event::Retention(RetentionEvent::Deleted(deletion)) = recorded.event else {
            return Err(ReceiptFailed::NoReceipt(entry));
        };
        let of_payloads = deletion.artefact.starts_with("payload/");
        let is_whole = !of_payloads
            || (deletion.count == deletion.payloads.len() as u64
                && deletion.manifest == Deletion::manifest_of(&deletion.payloads));
        let mut still_there = Vec::new();
        for address in &deletion.payloads {
            let found = self.store.payload(&self.config.tenant, address).await?;
            if found.is_some() {
                still_there.push(*address);
            }
        }
        Ok(ReceiptChecked {
            entry,
            at: recorded.at,
            stream: recorded.stream.to_string(),
            deletion: *deletion,
            is_whole,
            still_there,
        })
    }
}

/// The deletions among events.
pub(crate) fn deletions(events: &[Recorded]) -> Vec<(Timestamp, Deletion)> {
    events
        .iter()
        .filter_map(|recorded| match &recorded.event {
            Event::Retention(RetentionEvent::Deleted(deletion)) => {
                Some((recorded.at, (**deletion).clone()))
            }
            _ => None,
        })
        .collect()
}
