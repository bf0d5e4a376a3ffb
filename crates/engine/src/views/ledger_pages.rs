//! The ledger's pages: entries, one entry with its proof, and the check of everything.

use chaperone_core::digest::Digest;
use chaperone_core::event::{Recorded, StreamId};
use chaperone_core::ports::{CheckpointRow, StoreFailed};
use chaperone_core::principal::Human;
use chaperone_ledger::tree;
use chaperone_ledger::verify::{Report, VerifyOptions, verify_export};

use super::ViewFailed;
use super::timeline::{SECRET_KIND, TEST, TimelineEntry, WAITS, is_approval};
use crate::canary::{Discretion, is_of_another, is_opening};
use crate::context::Engine;
use crate::ledger::LedgerFailed;

/// Entries on one page.
pub const PAGE_ENTRIES: u64 = 50;
/// Largest ledger that is checked from the console; beyond, the command line does it on an export.
pub const CONSOLE_VERIFY_MAX: u64 = 50_000;

/// One page of the ledger.
#[derive(Debug, Clone)]
pub struct LedgerPage {
    /// Entries, newest first.
    pub entries: Vec<TimelineEntry>,
    /// Entries in the whole ledger.
    pub size: u64,
    /// The newest signed checkpoint.
    pub checkpoint: Option<CheckpointRow>,
    /// The newest checkpoint outside the database: its size, or why it cannot be read.
    pub anchored: Result<Option<u64>, String>,
    /// The ledger's public key.
    pub key: String,
    /// Where the newer page ends, if there is one.
    pub newer: Option<u64>,
    /// Where the older page ends, if there is one.
    pub older: Option<u64>,
}

/// One entry.
#[derive(Debug, Clone)]
pub struct EntryView {
    /// As lists show it.
    pub entry: TimelineEntry,
    /// The stored bytes; nothing while the entry is still secret from this person.
    pub leaf: String,
    /// Their leaf hash.
    pub hash: Digest,
    /// Its proof, once a checkpoint covers it.
    pub proof: Option<ProofView>,
}

/// An inclusion proof, checked.
#[derive(Debug, Clone)]
pub struct ProofView {
    /// Hashes from the leaf upwards.
    pub hashes: Vec<Digest>,
    /// The checkpoint it leads to.
    pub checkpoint: CheckpointRow,
    /// Whether it does.
    pub holds: bool,
}

impl Engine {
    /// Entries that end before `before`; the newest without it.
    ///
    /// # Errors
    /// Store and key failures.
    pub async fn ledger_page(
        &self,
        by: &Human,
        before: Option<u64>,
    ) -> Result<LedgerPage, ViewFailed> {
        let tenant = &self.config.tenant;
        let size = self.store.size(tenant).await?;
        let end = before.unwrap_or(size).min(size);
        let start = end.saturating_sub(PAGE_ENTRIES);
        let wanted = u32::try_from(end.saturating_sub(start)).unwrap_or(u32::MAX);
        let leaves = match wanted {
            0 => Vec::new(),
            _ => self.store.leaves(tenant, start, wanted).await?,
        };
        let discretion = self.discretion().await?;
        let mut entries = Vec::with_capacity(leaves.len());
        for leaf in leaves.iter().rev() {
            let recorded = read(leaf)?;
            entries.push(self.entry_line(by, &recorded, &discretion).await?);
        }
        let anchored = match self.anchored_checkpoint().await {
            Ok(note) => Ok(note.as_deref().and_then(size_of_note)),
            Err(failed) => Err(failed.to_string()),
        };
        Ok(LedgerPage {
            entries,
            size,
            checkpoint: self.store.checkpoint(tenant).await?,
            anchored,
            key: self
                .ledger_key()
                .await
                .map_err(|failed| ViewFailed::Vault(failed.into()))?,
            newer: (end < size).then(|| end.saturating_add(PAGE_ENTRIES).min(size)),
            older: (start > 0).then_some(start),
        })
    }

    /// One entry with its proof.
    ///
    /// # Errors
    /// [`ViewFailed::Missing`] when there is no such entry.
    pub async fn entry(&self, by: &Human, seq: u64) -> Result<EntryView, ViewFailed> {
        let tenant = &self.config.tenant;
        let leaf = self
            .store
            .leaves(tenant, seq, 1)
            .await?
            .into_iter()
            .next()
            .ok_or(ViewFailed::Missing)?;
        let recorded = read(&leaf)?;
        if recorded.seq != seq {
            return Err(ViewFailed::Missing);
        }
        let discretion = self.discretion().await?;
        let entry = self.entry_line(by, &recorded, &discretion).await?;
        let is_secret = entry.kind == SECRET_KIND;
        let hash = tree::leaf_hash(&leaf);
        let proof = match self.ledger_entry(seq).await {
            Ok(proven) => {
                let (size, root) = (proven.checkpoint.size, proven.checkpoint.root);
                let holds = tree::inclusion_verify(&proven.proof, size, &root, seq, &hash).is_ok();
                Some(ProofView {
                    hashes: proven.proof,
                    checkpoint: proven.checkpoint,
                    holds,
                })
            }
            Err(LedgerFailed::NotCovered) => None,
            Err(LedgerFailed::Store(failed)) => return Err(failed.into()),
            Err(failed) => return Err(StoreFailed::Corrupt(failed.to_string()).into()),
        };
        let leaf = if is_secret {
            String::new()
        } else {
            String::from_utf8_lossy(&leaf).into()
        };
        Ok(EntryView {
            entry,
            leaf,
            hash,
            proof,
        })
    }

    /// Checks the whole ledger as somebody outside would: an export in memory, verified with the
    /// ledger's key and the newest checkpoint kept outside. Heavy; nothing above the limit.
    ///
    /// # Errors
    /// When the export cannot be made; a ledger that does not verify is a report, not an error.
    pub async fn ledger_verify(&self) -> Result<Option<Report>, LedgerFailed> {
        if self.store.size(&self.config.tenant).await? > CONSOLE_VERIFY_MAX {
            return Ok(None);
        }
        let mut export = Vec::new();
        self.export_ledger(&mut export).await?;
        let options = VerifyOptions {
            trusted_key: Some(self.ledger_key().await?),
            outside: self.anchored_checkpoint().await?.into_iter().collect(),
        };
        Ok(Some(verify_export(export.as_slice(), &options)))
    }

    /// A line of a list; a verdict that is secret from this person keeps its place only.
    async fn entry_line(
        &self,
        by: &Human,
        recorded: &Recorded,
        discretion: &Discretion,
    ) -> Result<TimelineEntry, ViewFailed> {
        let kept_back = |words| Ok(TimelineEntry::kept_back(recorded, words));
        if discretion.holds_back(by, recorded) {
            return Ok(TimelineEntry::held_back(recorded));
        }
        if let StreamId::Writeback(id) = &recorded.stream {
            if is_approval(recorded) && self.hides_approvals(by, *id).await? {
                return kept_back("Shown once the other person has decided");
            }
            if discretion.is_called_for() || is_opening(&recorded.event) {
                let state = self.take_in_hand(*id).await?.state;
                if is_of_another(by, &state) {
                    return kept_back(TEST);
                }
                if is_opening(&recorded.event) && self.keeps_opening_back(&state) {
                    return kept_back(WAITS);
                }
            }
        }
        Ok(TimelineEntry::from(recorded))
    }
}

fn read(leaf: &[u8]) -> Result<Recorded, ViewFailed> {
    Recorded::from_leaf(leaf).map_err(|e| StoreFailed::Corrupt(e.to_string()).into())
}

/// The size a signed note states, in its second line (C2SP tlog-checkpoint).
fn size_of_note(note: &str) -> Option<u64> {
    note.lines().nth(1)?.parse().ok()
}
