//! One file that proves one write: the events of a write-back, each with a proof that the signed
//! ledger holds it. Verifies offline, with the ledger's verifying key and nothing else.
//!
//! A receipt proves what it shows. It cannot prove that nothing was recorded afterwards; its
//! checkpoint says up to when it speaks. The file has one spelling, so that any changed byte is named.

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
    /// Not readable from here on.
    #[error("the file is not readable as a receipt at line {line}: {why}")]
    Unreadable {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// A receipt that is spelt otherwise than Chaperone writes it.
    #[error("line {line} is not as Chaperone wrote it")]
    Respelt {
        /// The first such line, from 1.
        line: usize,
    },
    /// The checkpoint kept outside is not to be believed.
    #[error("the checkpoint kept outside does not verify")]
    Outside(#[source] CheckpointInvalid),
    /// No checkpoint kept outside is over as many entries.
    #[error(
        "no checkpoint kept outside is over {size} entries, as the receipt's is; take the file that grew since, or a receipt made since"
    )]
    NotOutside {
        /// Entries under the receipt's checkpoint.
        size: u64,
    },
    /// The ledger that signed the receipt is not the one whose checkpoint was kept outside.
    #[error(
        "the checkpoint of the receipt and the one kept outside are over {size} entries and differ: one history was replaced by another"
    )]
    OtherHistory {
        /// Entries under both.
        size: u64,
    },
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

    /// The file: its one spelling, with a newline at the end.
    pub fn to_file(&self) -> String {
        // Text, numbers and digests in named fields always have a JSON form.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads a receipt file.
    ///
    /// # Errors
    /// [`ReceiptInvalid::TooLong`], [`ReceiptInvalid::Unreadable`], [`ReceiptInvalid::Malformed`] for another
    /// format, [`ReceiptInvalid::Respelt`].
    pub fn from_file(bytes: &[u8]) -> Result<Self, ReceiptInvalid> {
        if bytes.len() > RECEIPT_BYTES_MAX {
            return Err(ReceiptInvalid::TooLong);
        }
        let receipt: Self =
            serde_json::from_slice(bytes).map_err(|error| ReceiptInvalid::Unreadable {
                line: error.line(),
                why: error.to_string(),
            })?;
        if receipt.format != RECEIPT_FORMAT {
            return Err(ReceiptInvalid::Malformed);
        }
        let written = receipt.to_file();
        if written.as_bytes() == bytes {
            return Ok(receipt);
        }
        let same = written
            .as_bytes()
            .iter()
            .zip(bytes)
            .take_while(|(one, other)| one == other);
        let line = same.filter(|(one, _)| **one == b'\n').count();
        Err(ReceiptInvalid::Respelt {
            line: line.saturating_add(1),
        })
    }
}

impl Proven {
    /// Holds the receipt's checkpoint against those that were kept outside the database.
    ///
    /// # Errors
    /// [`ReceiptInvalid::Outside`] when one of them is not signed by the key, [`ReceiptInvalid::NotOutside`] when
    /// none is over as many entries, [`ReceiptInvalid::OtherHistory`] when it has another root.
    pub fn agrees_with(
        &self,
        outside: &[String],
        key: &VerifyingKey,
    ) -> Result<(), ReceiptInvalid> {
        let size = self.head.size;
        let mut is_known = false;
        for note in outside {
            let head = key.verify(note).map_err(ReceiptInvalid::Outside)?;
            if head.size == size {
                // After a restore two of a size can have been kept; the receipt's must be one of them.
                if head.root == self.head.root {
                    return Ok(());
                }
                is_known = true;
            }
        }
        Err(if is_known {
            ReceiptInvalid::OtherHistory { size }
        } else {
            ReceiptInvalid::NotOutside { size }
        })
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
        let read = Receipt::from_file(receipt.to_file().as_bytes()).unwrap();
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
    fn any_changed_byte_of_the_file_is_named() {
        let sample = Sample::with_checkpoints(6, &[6]);
        let bytes = receipt_of(&sample, &[0, 4]).to_file().into_bytes();
        for at in 0..bytes.len() {
            // One bit, and a space: what JSON leaves aside counts too.
            for byte in [bytes[at] ^ 1, b' '] {
                let mut changed = bytes.clone();
                if changed[at] == byte {
                    continue;
                }
                changed[at] = byte;
                let read = Receipt::from_file(&changed);
                let outcome = read.and_then(|it| verify(&it, &sample.vkey()));
                let named = outcome.unwrap_err().to_string();
                let names = ["entry ", "checkpoint", "line ", "format"];
                assert!(
                    names.iter().any(|it| named.contains(it)),
                    "byte {at}: {named}"
                );
            }
        }
        let mut longer = bytes.clone();
        longer.push(b'\n');
        assert!(matches!(
            Receipt::from_file(&longer),
            Err(ReceiptInvalid::Respelt { .. })
        ));
    }

    #[test]
    fn a_checkpoint_kept_outside_is_of_the_same_history() {
        let sample = Sample::with_checkpoints(11, &[4, 11]);
        let proven = verify(&receipt_of(&sample, &[0, 4]), &sample.vkey()).unwrap();
        let held = |outside: &[String]| proven.agrees_with(outside, &sample.vkey());
        assert!(held(&sample.checkpoints).is_ok());
        assert!(matches!(
            held(&sample.checkpoints[..1]),
            Err(ReceiptInvalid::NotOutside { size: 11 })
        ));
        assert!(matches!(held(&[]), Err(ReceiptInvalid::NotOutside { .. })));
        let other = Sample::of_tenant("clinic-2", 11, &[11]);
        assert!(matches!(
            held(&other.checkpoints),
            Err(ReceiptInvalid::Outside(_))
        ));
        let mut elsewhere = proven.clone();
        elsewhere.head.root = Digest::of_bytes(b"another history");
        assert!(matches!(
            elsewhere.agrees_with(&sample.checkpoints, &sample.vkey()),
            Err(ReceiptInvalid::OtherHistory { size: 11 })
        ));
    }
}
