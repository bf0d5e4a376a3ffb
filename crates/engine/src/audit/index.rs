//! Rows by patient, folded from the ledger behind it: `audit_work` (envelopes) and `audit_access` (accesses,
//! grouped by patient). Projections: they can be dropped and folded again (invariant 11).
//!
//! Reads pay nothing for it: whoever follows reads stored leaves, a few dozen at once so that nobody waits long
//! behind the commit, and puts the rows they give together with the place reached. Several nodes may follow; the record of the place is updated by the
//! revision that was read, so of two that took the same leaves one is refused.
//!
//! ```text
//! place (record) ─▶ leaves ─▶ rows in hand ─▶ fold ─▶ commit: rows, mark, place if nobody was there meanwhile
//! ```
//! The mark is a row itself. Where the rows were dropped it is gone, and folding begins at the first entry;
//! the event that begins a row replaces what stood there.

use std::collections::BTreeSet;

use chaperone_core::event::Recorded;
use chaperone_core::ids::EnvelopeId;
use chaperone_core::ports::{Commit, CommitFailed, Record, RecordChange, RecordKey, StoreFailed};
use chaperone_core::principal::{Actor, SystemPart};
use chaperone_ledger::audit::access::{Access, Book, Put, Wanted, Work, wanted};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::context::Engine;
use crate::projection::sortable;

/// Envelopes, by id.
const WORKS: &str = "audit_work";
/// Accesses, by key, grouped by patient.
pub(crate) const ACCESSES: &str = "audit_access";
/// How far the rows go.
const PLACE: &str = "audit_place";
const INDEX: &str = "index";
/// Leaves folded at once.
const LEAVES_AT_ONCE: u32 = 64;
/// Rows kept in hand from one page to the next; beyond, they are read again.
const ROWS_IN_HAND_MAX: usize = 20_000;

/// How far the rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Indexed {
    /// Entries folded.
    pub entries: u64,
    /// Entries in the ledger.
    pub size: u64,
}

impl Indexed {
    /// Entries that are not folded yet.
    pub fn behind(&self) -> u64 {
        self.size.saturating_sub(self.entries)
    }
}

impl Engine {
    /// Folds what is new in the ledger into the rows by patient, at most so many entries (rounded up to a page).
    /// Says how far they go. Any number of nodes may run this.
    ///
    /// # Errors
    /// When the store fails; what was folded stays.
    pub async fn index_accesses(&self, entries_max: u64) -> Result<Indexed, StoreFailed> {
        let tenant = &self.config.tenant;
        let mut book = Book::default();
        let mut taken = 0;
        loop {
            let key = RecordKey::new(PLACE, INDEX);
            let place = self.store.record(tenant, &key, self.now()).await?;
            let mark = self.store.projection(tenant, &key).await?;
            let next = mark.and_then(|mark| mark.value.as_u64()).unwrap_or(0);
            let size = self.store.size(tenant).await?;
            let indexed = Indexed {
                entries: next,
                size,
            };
            if indexed.behind() == 0 || taken >= entries_max {
                return Ok(indexed);
            }
            let leaves = self.store.leaves(tenant, next, LEAVES_AT_ONCE).await?;
            if leaves.is_empty() {
                return Ok(indexed);
            }
            let reached = next.saturating_add(leaves.len() as u64);
            let rows = self.fold_page(&mut book, &leaves).await?;
            let mut commit = self.indexing();
            commit.projections = rows;
            commit
                .projections
                .push(Record::new(PLACE, INDEX, json!(reached)));
            let record = Record::new(PLACE, INDEX, json!(reached));
            commit.records.push(match &place {
                Some(place) => RecordChange::Update(record, place.revision),
                None => RecordChange::Create(record),
            });
            match self.store.commit(commit).await {
                Ok(_) => taken = taken.saturating_add(leaves.len() as u64),
                // Another node took these; what it put may be newer than what is in hand.
                Err(CommitFailed::Record { .. }) => book = Book::default(),
                Err(failed) => return Err(StoreFailed::Unavailable(Box::new(failed))),
            }
            if book.works.len() + book.accesses.len() > ROWS_IN_HAND_MAX {
                book = Book::default();
            }
        }
    }

    /// Makes the rows be folded from the first entry on. Whoever is folding just now is refused.
    pub(crate) async fn reset_access_index(&self) -> Result<(), StoreFailed> {
        let mut commit = self.indexing();
        commit
            .projections
            .push(Record::new(PLACE, INDEX, serde_json::Value::Null));
        commit
            .records
            .push(RecordChange::Put(Record::new(PLACE, INDEX, json!(0))));
        self.store
            .commit(commit)
            .await
            .map(|_| ())
            .map_err(|failed| StoreFailed::Unavailable(Box::new(failed)))
    }

    fn indexing(&self) -> Commit {
        self.commit_as(Actor::System {
            part: SystemPart::Setup,
        })
    }

    async fn fold_page(
        &self,
        book: &mut Book,
        leaves: &[Vec<u8>],
    ) -> Result<Vec<Record>, StoreFailed> {
        let (mut works, mut accesses) = (BTreeSet::new(), BTreeSet::new());
        for leaf in leaves {
            let recorded =
                Recorded::from_leaf(leaf).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
            self.bring(book, &recorded).await?;
            match book.fold(&recorded) {
                Put::Nothing => {}
                Put::Work(envelope) => {
                    works.insert(envelope);
                }
                Put::Access(key) => {
                    accesses.insert(key);
                }
            }
        }
        let mut rows = Vec::with_capacity(works.len() + accesses.len());
        for envelope in works {
            if let Some(work) = book.works.get(&envelope) {
                rows.push(Record::new(WORKS, envelope, written(work)?));
            }
        }
        for key in accesses {
            if let Some(access) = book.accesses.get(&key) {
                let row = Record::new(ACCESSES, &key, written(access)?);
                rows.push(match access.patient {
                    Some(patient) => row.indexed(patient.to_string(), sort_of(access)),
                    None => row,
                });
            }
        }
        Ok(rows)
    }

    /// Reads the rows that an event needs, unless they are in hand.
    pub(super) async fn bring(
        &self,
        book: &mut Book,
        recorded: &Recorded,
    ) -> Result<(), StoreFailed> {
        for row in wanted(recorded) {
            match row {
                Wanted::Work(envelope) => {
                    if !book.works.contains_key(&envelope)
                        && let Some(work) = self.work(envelope).await?
                    {
                        book.works.insert(envelope, work);
                    }
                }
                Wanted::Access(key) => {
                    if !book.accesses.contains_key(&key)
                        && let Some(access) = self.access(&key).await?
                    {
                        book.accesses.insert(key, access);
                    }
                }
            }
        }
        Ok(())
    }

    async fn work(&self, envelope: EnvelopeId) -> Result<Option<Work>, StoreFailed> {
        let key = RecordKey::new(WORKS, envelope);
        let row = self.store.projection(&self.config.tenant, &key).await?;
        row.as_ref().map(read).transpose()
    }

    async fn access(&self, key: &str) -> Result<Option<Access>, StoreFailed> {
        let key = RecordKey::new(ACCESSES, key);
        let row = self.store.projection(&self.config.tenant, &key).await?;
        row.as_ref().map(read).transpose()
    }
}

/// By time, and at one time in the order of the ledger.
fn sort_of(access: &Access) -> String {
    format!("{}/{:020}", sortable(access.at), access.seq)
}

fn written(row: &impl serde::Serialize) -> Result<serde_json::Value, StoreFailed> {
    serde_json::to_value(row).map_err(|e| StoreFailed::Corrupt(e.to_string()))
}

/// Reads a row back.
pub(crate) fn read<T: DeserializeOwned>(row: &Record) -> Result<T, StoreFailed> {
    serde_json::from_value(row.value.clone())
        .map_err(|e| StoreFailed::Corrupt(format!("a row of an access cannot be read: {e}")))
}
