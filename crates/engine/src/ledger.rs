//! The integrator and the readers of the ledger: grow the tree, sign checkpoints, anchor them outside
//! the database, export, prove.

use std::io::Write;
use std::sync::atomic::Ordering;

use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, LeafInvalid, Recorded, StreamId};
use chaperone_core::ids::WritebackId;
use chaperone_core::ports::{AnchorFailed, CheckpointRow, KeyVaultFailed, StoreFailed};
use chaperone_core::writeback::WritebackEvent;
use chaperone_ledger::checkpoint::{
    CheckpointKey, SignFailed, TreeHead, VerifyingKey, VerifyingKeyInvalid,
};
use chaperone_ledger::export::{ExportFailed, ExportWriter, Header};
use chaperone_ledger::receipt::{Receipt, ReceiptEntry};
use chaperone_ledger::tree::{self, TreeFailed};

use crate::context::Engine;

/// Most leaves taken into the tree at once. As many as this, and there are probably more.
pub const LEAVES_AT_ONCE: u32 = 1_000;
/// This version has no restore, so every ledger is in its first epoch.
const EPOCH: u64 = 0;

/// Why the ledger could not be read or grown.
#[derive(Debug, thiserror::Error)]
pub enum LedgerFailed {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// The key vault failed.
    #[error(transparent)]
    Keys(#[from] KeyVaultFailed),
    /// Stored hashes and leaves do not fit together.
    #[error(transparent)]
    Tree(#[from] TreeFailed),
    /// The head cannot be signed.
    #[error(transparent)]
    Sign(#[from] SignFailed),
    /// The key's text cannot be read back.
    #[error(transparent)]
    Key(#[from] VerifyingKeyInvalid),
    /// The checkpoint is signed and stored, but not anchored; it will be tried again.
    #[error(transparent)]
    Anchor(#[from] AnchorFailed),
    /// The export could not be written.
    #[error(transparent)]
    Export(#[from] ExportFailed),
    /// A stored leaf cannot be read.
    #[error(transparent)]
    Leaf(#[from] LeafInvalid),
    /// Nothing is signed yet, or not this.
    #[error("this is not covered by a signed checkpoint yet; wait a moment")]
    NotCovered,
    /// There never was an order, or it was erased.
    #[error("there is no order of this write-back, or its key was destroyed")]
    NoOrder,
}

impl Engine {
    /// Takes new leaves into the tree, signs and anchors. Returns how many were taken.
    ///
    /// Any number of nodes may run this: signing compares-and-swaps the size, and who is late does
    /// nothing.
    ///
    /// # Errors
    /// [`LedgerFailed`]; what was durable stays durable.
    pub async fn integrate_ledger(&self) -> Result<u64, LedgerFailed> {
        let tenant = &self.config.tenant;
        let newest = self.store.checkpoint(tenant).await?;
        let size = newest.as_ref().map_or(0, |c| c.size);
        let leaves = self.store.leaves(tenant, size, LEAVES_AT_ONCE).await?;
        if leaves.is_empty() {
            // An anchor that failed is tried again, not only when something else happens.
            if let Some(newest) = &newest
                && self.anchor_owed.load(Ordering::Acquire)
            {
                self.anchor.anchor(tenant, size, &newest.note).await?;
                self.anchor_owed.store(false, Ordering::Release);
            }
            return Ok(0);
        }
        let edge = self
            .store
            .tree_hashes(tenant, &tree::edge_indexes(size)?)
            .await?;
        let extension = tree::extend(size, &edge, &leaves)?;
        let at = self.now();
        let head = TreeHead {
            tenant: tenant.clone(),
            size: extension.size,
            root: extension.root,
            epoch: EPOCH,
            at,
        };
        let note = self.checkpoint_key().await?.sign(&head)?;
        let row = CheckpointRow {
            size: head.size,
            root: head.root,
            note: note.clone(),
            at,
        };
        if !self
            .store
            .checkpoint_put(tenant, size, &extension.hashes, row)
            .await?
        {
            return Ok(0);
        }
        self.anchor_owed.store(true, Ordering::Release);
        self.anchor.anchor(tenant, head.size, &note).await?;
        self.anchor_owed.store(false, Ordering::Release);
        self.announce_change();
        Ok(leaves.len() as u64)
    }

    async fn checkpoint_key(&self) -> Result<CheckpointKey, KeyVaultFailed> {
        let seed = self.keys.signing_seed(&self.config.tenant).await?;
        Ok(CheckpointKey::from_seed(&self.config.tenant, &seed))
    }

    /// The ledger's public key, as text, to be kept by whoever will verify.
    ///
    /// # Errors
    /// When the key vault is not available.
    pub async fn ledger_key(&self) -> Result<String, KeyVaultFailed> {
        Ok(self.checkpoint_key().await?.vkey())
    }

    /// The newest checkpoint kept outside the database.
    ///
    /// # Errors
    /// When the anchor cannot be read.
    pub async fn anchored_checkpoint(&self) -> Result<Option<String>, AnchorFailed> {
        self.anchor.newest(&self.config.tenant).await
    }

    /// Writes the whole ledger, up to the newest checkpoint. Returns the number of entries.
    ///
    /// # Errors
    /// [`LedgerFailed`]; the file is not to be used then.
    pub async fn export_ledger<W: Write>(&self, out: W) -> Result<u64, LedgerFailed> {
        let tenant = &self.config.tenant;
        let newest = self
            .store
            .checkpoint(tenant)
            .await?
            .ok_or(LedgerFailed::NotCovered)?;
        let vkey = VerifyingKey::parse(&self.ledger_key().await?)?;
        let header = Header::new(&vkey, newest.size, self.now());
        let mut writer = ExportWriter::start(out, header, [newest.note])?;
        let mut next = 0;
        while next < newest.size {
            let wanted = u32::try_from(newest.size.saturating_sub(next)).unwrap_or(u32::MAX);
            let leaves = self
                .store
                .leaves(tenant, next, wanted.min(LEAVES_AT_ONCE))
                .await?;
            if leaves.is_empty() {
                return Err(StoreFailed::Corrupt(format!("entry {next} is missing")).into());
            }
            for leaf in &leaves {
                writer.entry(leaf)?;
            }
            next = next.saturating_add(leaves.len() as u64);
        }
        writer.finish()?;
        Ok(newest.size)
    }

    /// The receipt of a write-back: its events with their proofs.
    ///
    /// # Errors
    /// [`LedgerFailed::NotCovered`] until a checkpoint covers its last event.
    pub async fn receipt_of(&self, id: WritebackId) -> Result<Receipt, LedgerFailed> {
        let tenant = &self.config.tenant;
        let stream = StreamId::Writeback(id);
        let newest = self
            .store
            .checkpoint(tenant)
            .await?
            .ok_or(LedgerFailed::NotCovered)?;
        let events = self.store.stream(tenant, &stream).await?;
        if events.is_empty() || events.last().is_some_and(|last| last.seq >= newest.size) {
            return Err(LedgerFailed::NotCovered);
        }
        let mut entries = Vec::with_capacity(events.len());
        for event in &events {
            let (leaf, proof) = self.proven_leaf(event.seq, newest.size).await?;
            entries.push(ReceiptEntry {
                seq: event.seq,
                leaf,
                proof,
            });
        }
        Ok(Receipt::new(stream, entries, newest.note))
    }

    /// The order of a write-back, byte for byte as its digest names it, with the salt that the other
    /// digests of the write-back are bound by: what a receipt is checked against. Holds PHI.
    ///
    /// # Errors
    /// [`LedgerFailed::NoOrder`] when there never was one or it was erased; store and vault failures.
    pub async fn order_bytes(&self, id: WritebackId) -> Result<Vec<u8>, LedgerFailed> {
        let stream = StreamId::Writeback(id);
        let events = self.store.stream(&self.config.tenant, &stream).await?;
        let address = events.iter().find_map(|recorded| match &recorded.event {
            Event::Writeback(WritebackEvent::Ruled { order, .. }) => Some(order.address),
            _ => None,
        });
        let address = address.ok_or(LedgerFailed::NoOrder)?;
        self.unseal(&address).await.map_err(|failed| match failed {
            crate::vault::VaultFailed::Store(failed) => failed.into(),
            _ => LedgerFailed::NoOrder,
        })
    }

    /// One stored entry with its inclusion proof to the newest checkpoint.
    ///
    /// # Errors
    /// [`LedgerFailed::NotCovered`] when it is newer than the newest checkpoint.
    pub async fn ledger_entry(&self, seq: u64) -> Result<ProvenEntry, LedgerFailed> {
        let newest = self
            .store
            .checkpoint(&self.config.tenant)
            .await?
            .ok_or(LedgerFailed::NotCovered)?;
        if seq >= newest.size {
            return Err(LedgerFailed::NotCovered);
        }
        let (leaf, proof) = self.proven_leaf(seq, newest.size).await?;
        let recorded = Recorded::from_leaf(leaf.as_bytes())?;
        let hash = tree::leaf_hash(leaf.as_bytes());
        Ok(ProvenEntry {
            recorded,
            leaf,
            hash,
            proof,
            checkpoint: newest,
        })
    }

    async fn proven_leaf(
        &self,
        seq: u64,
        size: u64,
    ) -> Result<(String, Vec<Digest>), LedgerFailed> {
        let tenant = &self.config.tenant;
        let missing = || StoreFailed::Corrupt(format!("entry {seq} is missing"));
        let leaf = self
            .store
            .leaves(tenant, seq, 1)
            .await?
            .into_iter()
            .next()
            .ok_or_else(missing)?;
        let leaf = String::from_utf8(leaf).map_err(|_| missing())?;
        let hashes = self
            .store
            .tree_hashes(tenant, &tree::inclusion_indexes(size, seq)?)
            .await?;
        Ok((leaf, tree::inclusion_proof(size, seq, &hashes)?))
    }
}

/// A ledger entry with everything needed to check it.
#[derive(Debug, Clone)]
pub struct ProvenEntry {
    /// The event.
    pub recorded: Recorded,
    /// The stored bytes.
    pub leaf: String,
    /// Their leaf hash.
    pub hash: Digest,
    /// The inclusion proof.
    pub proof: Vec<Digest>,
    /// The checkpoint it leads to.
    pub checkpoint: CheckpointRow,
}

impl Engine {
    /// Events in the ledger.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn ledger_size(&self) -> Result<u64, StoreFailed> {
        self.store.size(&self.config.tenant).await
    }

    /// Events covered by the newest signed checkpoint.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn signed_size(&self) -> Result<u64, StoreFailed> {
        Ok(self
            .store
            .checkpoint(&self.config.tenant)
            .await?
            .map_or(0, |c| c.size))
    }
}
