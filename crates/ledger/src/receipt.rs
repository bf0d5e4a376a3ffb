//! One file that proves one write: the events of a write-back, each with a proof that the signed
//! ledger holds it. Verifies offline, with the ledger's verifying key and nothing else.
//!
//! A receipt proves what it shows. It cannot prove that nothing was recorded afterwards; its
//! checkpoint says up to when it speaks.

use chaperone_core::digest::Digest;
use chaperone_core::event::{LeafInvalid, Recorded, StreamId};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{CheckpointInvalid, TreeHead, VerifyingKey};
use crate::tree::{ProofInvalid, inclusion_verify, leaf_hash};

/// Name and version of the format.
pub const RECEIPT_FORMAT: &str = "chaperone-receipt/1";

/// Most events in one receipt; the store's limit on a stream.
pub const RECEIPT_ENTRIES_MAX: usize = 10_000;

/// Longest receipt that is looked at, in bytes.
pub const RECEIPT_BYTES_MAX: usize = 64 << 20;

/// One event with its proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptEntry {
    /// Position in the ledger.
    pub seq: u64,
    /// The stored leaf, byte for byte.
    pub leaf: String,
    /// Inclusion proof to the checkpoint's root, from the leaf upwards.
    pub proof: Vec<Digest>,
}

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// [`RECEIPT_FORMAT`].
    pub format: String,
    /// The stream whose events it shows.
    pub stream: StreamId,
    /// The events, oldest first.
    pub entries: Vec<ReceiptEntry>,
    /// The signed checkpoint (whole note) that the proofs lead to.
    pub checkpoint: String,
}

/// What a receipt proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The checkpoint.
    pub head: TreeHead,
    /// The events, from the first of the stream on, without gaps.
    pub events: Vec<Recorded>,
}

/// Why a receipt proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptInvalid {
    /// Longer than [`RECEIPT_BYTES_MAX`], or more than [`RECEIPT_ENTRIES_MAX`] events.
    #[error("the receipt is too long")]
    TooLong,
    /// Not a receipt.
    #[error("the file is not a receipt of the format `{RECEIPT_FORMAT}`")]
    Malformed,
    /// The checkpoint is not to be believed.
    #[error("the checkpoint of the receipt does not verify")]
    Checkpoint(#[from] CheckpointInvalid),
    /// There are no events.
    #[error("the receipt shows no event")]
    Empty,
    /// An event is not in the signed ledger at its place.
    #[error("entry {seq} is not in the signed ledger as the receipt shows it")]
    NotIncluded {
        /// The event.
        seq: u64,
        /// The failed proof.
        #[source]
        source: ProofInvalid,
    },
    /// A leaf that cannot be read.
    #[error("entry {seq} is not an event that this version can read")]
    Leaf {
        /// The event.
        seq: u64,
        /// What is wrong with it.
        #[source]
        source: LeafInvalid,
    },
    /// An event of another stream, tenant or position than the receipt says.
    #[error("entry {seq} does not belong to this receipt")]
    Foreign {
        /// The event.
        seq: u64,
    },
    /// An event of the stream is left out before this one.
    #[error("an event is left out before entry {seq}")]
    Gap {
        /// The event behind the gap.
        seq: u64,
    },
}

impl Receipt {
    /// Puts a receipt together. Nothing is checked here; verify it before handing it out.
    pub fn new(stream: StreamId, entries: Vec<ReceiptEntry>, checkpoint: String) -> Self {
        Self {
            format: RECEIPT_FORMAT.to_owned(),
            stream,
            entries,
            checkpoint,
        }
    }

    /// Reads a receipt file.
    ///
    /// # Errors
    /// [`ReceiptInvalid::TooLong`] or [`ReceiptInvalid::Malformed`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, ReceiptInvalid> {
        if bytes.len() > RECEIPT_BYTES_MAX {
            return Err(ReceiptInvalid::TooLong);
        }
        serde_json::from_slice(bytes)
            .ok()
            .filter(|receipt: &Self| receipt.format == RECEIPT_FORMAT)
            .ok_or(ReceiptInvalid::Malformed)
    }
}

/// Verifies a receipt with the ledger's key.
///
/// # Errors
/// [`ReceiptInvalid`], naming the entry where it is about one.
pub fn verify(receipt: &Receipt, key: &VerifyingKey) -> Result<Proven, ReceiptInvalid> {
    if receipt.format != RECEIPT_FORMAT {
        return Err(ReceiptInvalid::Malformed);
    }
    if receipt.entries.len() > RECEIPT_ENTRIES_MAX {
        return Err(ReceiptInvalid::TooLong);
    }
    if receipt.entries.is_empty() {
        return Err(ReceiptInvalid::Empty);
    }
    let head = key.verify(&receipt.checkpoint)?;
    let mut events = Vec::with_capacity(receipt.entries.len());
    for (version, entry) in (1..).zip(&receipt.entries) {
        let seq = entry.seq;
        let hash = leaf_hash(entry.leaf.as_bytes());
        inclusion_verify(&entry.proof, head.size, &head.root, seq, &hash)
            .map_err(|source| ReceiptInvalid::NotIncluded { seq, source })?;
        let event = Recorded::from_leaf(entry.leaf.as_bytes())
            .map_err(|source| ReceiptInvalid::Leaf { seq, source })?;
        let is_ours =
            event.tenant == head.tenant && event.stream == receipt.stream && event.seq == seq;
        if !is_ours {
            return Err(ReceiptInvalid::Foreign { seq });
        }
        if event.version != version {
            return Err(ReceiptInvalid::Gap { seq });
        }
        events.push(event);
    }
    Ok(Proven { head, events })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;

    fn receipt_of(sample: &Sample, seqs: &[u64]) -> Receipt {
        let entries = seqs.iter().map(|seq| ReceiptEntry {
            seq: *seq,
            leaf: String::from_utf8(sample.leaves[*seq as usize].clone()).unwrap(),
            proof: sample.proof(*seq),
        });
        let note = sample.checkpoints.last().unwrap().clone();
        Receipt::new(StreamId::Refusals, entries.collect(), note)
    }

    #[test]
    fn a_receipt_survives_the_file_and_verifies() {
        let sample = Sample::with_checkpoints(11, &[11]);
        let receipt = receipt_of(&sample, &[0, 4, 8]);
        let bytes = serde_json::to_vec(&receipt).unwrap();
        let read = Receipt::from_json(&bytes).unwrap();
        let proven = verify(&read, &sample.vkey()).unwrap();
        assert_eq!(
            proven
                .events
                .iter()
                .map(|event| event.version)
                .collect::<Vec<_>>(),
            [1, 2, 3]
        );
        assert_eq!(proven.head.size, 11);
    }

    #[test]
    fn what_is_left_out_reordered_foreign_or_empty_is_refused() {
        let sample = Sample::with_checkpoints(11, &[11]);
        let check = |seqs: &[u64]| verify(&receipt_of(&sample, seqs), &sample.vkey());
        assert!(matches!(
            check(&[0, 8]),
            Err(ReceiptInvalid::Gap { seq: 8 })
        ));
        assert!(matches!(
            check(&[4, 8]),
            Err(ReceiptInvalid::Gap { seq: 4 })
        ));
        assert!(matches!(
            check(&[4, 0]),
            Err(ReceiptInvalid::Gap { seq: 4 })
        ));
        assert!(matches!(
            check(&[0, 0]),
            Err(ReceiptInvalid::Gap { seq: 0 })
        ));
        assert!(matches!(
            check(&[0, 5]),
            Err(ReceiptInvalid::Foreign { seq: 5 })
        ));
        assert!(matches!(check(&[]), Err(ReceiptInvalid::Empty)));
    }

    #[test]
    fn another_ledger_key_or_checkpoint_is_refused() {
        let sample = Sample::with_checkpoints(11, &[10, 11]);
        let other = Sample::of_tenant("clinic-2", 11, &[11]);
        let receipt = receipt_of(&sample, &[0]);
        assert!(matches!(
            verify(&receipt, &other.vkey()),
            Err(ReceiptInvalid::Checkpoint(_))
        ));
        let mut older = receipt.clone();
        older.checkpoint = sample.checkpoints[0].clone();
        assert!(matches!(
            verify(&older, &sample.vkey()),
            Err(ReceiptInvalid::NotIncluded { seq: 0, .. })
        ));
        let mut moved = receipt;
        moved.entries[0].seq = 4;
        assert!(matches!(
            verify(&moved, &sample.vkey()),
            Err(ReceiptInvalid::NotIncluded { seq: 4, .. })
        ));
    }

    #[test]
    fn any_changed_byte_of_the_file_is_noticed() {
        let sample = Sample::with_checkpoints(6, &[6]);
        let bytes = serde_json::to_vec(&receipt_of(&sample, &[0, 4])).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let outcome = Receipt::from_json(&changed).and_then(|it| verify(&it, &sample.vkey()));
            assert!(outcome.is_err(), "byte {at}");
        }
    }
}
