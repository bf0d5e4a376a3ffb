//! Do the projection rows agree with the events, and if not, fold them anew.
//!
//! Both may run beside a node that serves. What moves meanwhile writes its own row in its own commit, so:
//!
//! ```text
//! examine:  list the rows ─▶ fold ─▶ look again at what seems to differ
//! rebuild:  list the rows ─▶ fold ─▶ put each row, guarded by the version it was folded at ─▶ remove strays
//! ```
//! A row whose guard fails was moved after the folding: a newer one stands there already. A row that was
//! listed and that the fold, which came after, knows nothing of belongs to nothing. No list is ever short.

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
}

impl Fold {
    /// Folds the whole ledger.
    async fn of(store: &dyn Store, tenant: &TenantId) -> Result<Self, StoreFailed> {
        let mut fold = Self::default();
        let mut next = 0_u64;
        loop {
            let leaves = store.leaves(tenant, next, PAGE).await?;
            if leaves.is_empty() {
                return Ok(fold);
            }
            next = next.saturating_add(leaves.len() as u64);
            for leaf in leaves {
                let recorded =
                    Recorded::from_leaf(&leaf).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
                fold.take(&recorded)?;
            }
        }
    }

    fn take(&mut self, recorded: &Recorded) -> Result<(), StoreFailed> {
        let StreamId::Writeback(id) = &recorded.stream else {
            return Ok(());
        };
        let Event::Writeback(event) = &recorded.event else {
            // What was deleted of it is noted on its stream, and moves nothing.
            if let Some(folded) = self.writebacks.get_mut(id) {
                folded.version = recorded.version;
            }
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
    let mut listed = all_rows(store, tenant).await?;
    let fold = Fold::of(store, tenant).await?;
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

/// All rows of both collections.
async fn all_rows(
    store: &dyn Store,
    tenant: &TenantId,
) -> Result<BTreeMap<RecordKey, Record>, StoreFailed> {
    let mut listed = BTreeMap::new();
    for collection in [BY_STATE, BY_PATIENT] {
        for record in rows_of(store, tenant, collection).await? {
            listed.insert(record.key.clone(), record);
        }
    }
    Ok(listed)
}

async fn rows_of(
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
    /// Derives all projection rows again from the ledger. Returns how many write-backs there are.
    ///
    /// # Errors
    /// When the store fails or the ledger holds a history Chaperone could not have written; in the latter
    /// case nothing was changed.
    pub async fn rebuild_projections(&self) -> Result<usize, StoreFailed> {
        let (store, tenant) = (&*self.store, &self.config.tenant);
        let mut strays = all_rows(store, tenant).await?;
        let fold = Fold::of(store, tenant).await?;
        for folded in fold.writebacks.values() {
            for wanted in folded.rows(tenant)? {
                strays.remove(&wanted.key);
            }
        }
        self.reset_access_index().await?;
        self.reset_oversight().await?;
        let folded: Vec<(&WritebackId, &Folded)> = fold.writebacks.iter().collect();
        for several in folded.chunks(PUT_AT_ONCE) {
            if !self.put_rows(several).await? {
                // One of them has moved: each by itself.
                for one in several.chunks(1) {
                    self.put_rows(one).await?;
                }
            }
        }
        self.remove_rows(strays.into_values().collect()).await?;
        self.announce_change();
        Ok(fold.writebacks.len())
    }

    async fn remove_rows(&self, rows: Vec<Record>) -> Result<(), StoreFailed> {
        for several in rows.chunks(PUT_AT_ONCE) {
            let mut commit = putting(&self.config.tenant, self.now());
            commit.projections.extend(several.iter().map(|row| Record {
                value: serde_json::Value::Null,
                ..row.clone()
            }));
            self.store.commit(commit).await.map_err(unavailable)?;
        }
        Ok(())
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
            Err(failed) => Err(unavailable(failed)),
        }
    }
}

fn unavailable(failed: CommitFailed) -> StoreFailed {
    StoreFailed::Unavailable(Box::new(failed))
}
