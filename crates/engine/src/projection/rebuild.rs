//! Do the projection rows agree with the events, and if not, fold them anew.
//!
//! Both may run beside a node that serves. What moves meanwhile writes its own row in its own commit, so:
//!
//! ```text
//! examine:  list the rows ─▶ fold ─▶ look again at what seems to differ
//! rebuild:  fold ─▶ clear ─▶ fold what came since ─▶ put each row, guarded by the version it was folded at
//! ```
//! A row whose guard fails was moved after the clearing: a newer one stands there already.

use std::collections::BTreeMap;

use chaperone_core::Timestamp;
use chaperone_core::event::{Event, Recorded, StreamId};
use chaperone_core::ids::{TenantId, WritebackId};
use chaperone_core::ports::{
    Commit, CommitFailed, Guard, Listing, Record, RecordKey, Store, StoreFailed,
};
use chaperone_core::principal::{Actor, SystemPart};
use chaperone_core::writeback::Writeback;

use super::{BY_PATIENT, BY_STATE, WritebackRow, project, row_of};
use crate::context::Engine;

/// Leaves or rows read at once.
const PAGE: u32 = 1_000;
/// Write-backs whose rows one commit puts.
const PUT_AT_ONCE: usize = 100;

/// How far projection rows agree with the events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Write-backs in the ledger.
    pub writebacks: usize,
    /// Rows that should be there and are not.
    pub missing: usize,
    /// Rows that say something else than the events.
    pub differing: usize,
    /// Rows that no event accounts for.
    pub stray: usize,
}

impl Agreement {
    /// Whether every row is what the events say.
    pub fn is_whole(&self) -> bool {
        self.missing == 0 && self.differing == 0 && self.stray == 0
    }
}

/// A write-back as folded so far.
struct Folded {
    state: Writeback,
    version: u64,
    proposed: Timestamp,
    moved: Timestamp,
}

/// Everything folded, up to a place in the ledger.
#[derive(Default)]
struct Fold {
    writebacks: BTreeMap<WritebackId, Folded>,
    next: u64,
}

impl Fold {
    /// Folds on to the end of the ledger.
    async fn on(&mut self, store: &dyn Store, tenant: &TenantId) -> Result<(), StoreFailed> {
        loop {
            let leaves = store.leaves(tenant, self.next, PAGE).await?;
            if leaves.is_empty() {
                return Ok(());
            }
            self.next = self.next.saturating_add(leaves.len() as u64);
            for leaf in leaves {
                let recorded =
                    Recorded::from_leaf(&leaf).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
                self.take(&recorded)?;
            }
        }
    }

    fn take(&mut self, recorded: &Recorded) -> Result<(), StoreFailed> {
        let (StreamId::Writeback(id), Event::Writeback(event)) =
            (&recorded.stream, &recorded.event)
        else {
            return Ok(());
        };
        let corrupt = |e: chaperone_core::writeback::Illegal| StoreFailed::Corrupt(e.to_string());
        let (state, proposed) = match self.writebacks.remove(id) {
            None => (Writeback::begin(event).map_err(corrupt)?, recorded.at),
            Some(folded) => (
                folded.state.evolve(event, recorded.at).map_err(corrupt)?,
                folded.proposed,
            ),
        };
        let folded = Folded {
            state,
            version: recorded.version,
            proposed,
            moved: recorded.at,
        };
        self.writebacks.insert(*id, folded);
        Ok(())
    }
}

/// An empty commit in which rows are put.
fn putting(tenant: &TenantId, at: Timestamp) -> Commit {
    let actor = Actor::System {
        part: SystemPart::Setup,
    };
    Commit::new(tenant.clone(), at, actor)
}

impl Folded {
    /// The rows that should stand there.
    fn rows(&self, tenant: &TenantId) -> Result<Vec<Record>, StoreFailed> {
        let mut commit = putting(tenant, self.moved);
        self.put_into(&mut commit)?;
        Ok(commit.projections)
    }

    fn put_into(&self, commit: &mut Commit) -> Result<WritebackRow, StoreFailed> {
        let Folded {
            state,
            version,
            proposed,
            moved,
        } = self;
        project(commit, state, *version, *proposed, *moved)
    }
}

/// Compares the rows with what the events say. Changes nothing.
///
/// # Errors
/// When the store fails or the ledger holds a history Chaperone could not have written.
pub async fn examine(store: &dyn Store, tenant: &TenantId) -> Result<Agreement, StoreFailed> {
    let mut listed: BTreeMap<RecordKey, Record> = BTreeMap::new();
    for collection in [BY_STATE, BY_PATIENT] {
        for record in all_rows(store, tenant, collection).await? {
            listed.insert(record.key.clone(), record);
        }
    }
    let mut fold = Fold::default();
    fold.on(store, tenant).await?;
    let mut agreement = Agreement {
        writebacks: fold.writebacks.len(),
        ..Agreement::default()
    };
    for folded in fold.writebacks.values() {
        for wanted in folded.rows(tenant)? {
            let seen = match listed.remove(&wanted.key) {
                Some(seen) if is_same(&seen, &wanted) => continue,
                // It was moved, or made, between the listing and the folding; or it is wrong.
                _ => store.projection(tenant, &wanted.key).await?,
            };
            match seen {
                None => agreement.missing += 1,
                Some(seen) if is_same(&seen, &wanted) => {}
                Some(seen) if row_of(&seen).is_ok_and(|row| row.version > folded.version) => {}
                Some(_) => agreement.differing += 1,
            }
        }
    }
    agreement.stray = listed.len();
    Ok(agreement)
}

/// Whether two rows say the same; how often one was written does not count.
fn is_same(seen: &Record, wanted: &Record) -> bool {
    seen.value == wanted.value && seen.index == wanted.index && seen.sort == wanted.sort
}

async fn all_rows(
    store: &dyn Store,
    tenant: &TenantId,
    collection: &str,
) -> Result<Vec<Record>, StoreFailed> {
    let mut rows: Vec<Record> = Vec::new();
    loop {
        let listing = Listing {
            after: rows
                .last()
                .map(|last| (last.sort.clone(), last.key.key.clone())),
            limit: PAGE,
            ..Listing::default()
        };
        let page = store.projections(tenant, collection, listing).await?;
        let is_last = page.len() < PAGE as usize;
        rows.extend(page);
        if is_last {
            return Ok(rows);
        }
    }
}

impl Engine {
    /// Drops all projection rows and derives them again from the ledger. Returns how many write-backs
    /// there are. Lists are short until it is done.
    ///
    /// # Errors
    /// When the store fails or the ledger holds a history Chaperone could not have written; in the latter
    /// case nothing was dropped.
    pub async fn rebuild_projections(&self) -> Result<usize, StoreFailed> {
        let (store, tenant) = (&*self.store, &self.config.tenant);
        let mut fold = Fold::default();
        fold.on(store, tenant).await?;
        store.projections_clear(tenant).await?;
        fold.on(store, tenant).await?;
        let folded: Vec<(&WritebackId, &Folded)> = fold.writebacks.iter().collect();
        for several in folded.chunks(PUT_AT_ONCE) {
            if !self.put_rows(several).await? {
                // One of them has moved: each by itself.
                for one in several.chunks(1) {
                    self.put_rows(one).await?;
                }
            }
        }
        self.announce_change();
        Ok(fold.writebacks.len())
    }

    /// Puts rows, unless one of the write-backs has moved since it was folded.
    async fn put_rows(&self, rows: &[(&WritebackId, &Folded)]) -> Result<bool, StoreFailed> {
        let mut commit = putting(&self.config.tenant, self.now());
        for (id, folded) in rows {
            commit.guards.push(Guard::StreamAt {
                stream: StreamId::Writeback(**id),
                version: folded.version,
            });
            folded.put_into(&mut commit)?;
        }
        match self.store.commit(commit).await {
            Ok(_) => Ok(true),
            Err(CommitFailed::Conflict { .. }) => Ok(false),
            Err(failed) => Err(StoreFailed::Unavailable(Box::new(failed))),
        }
    }
}
