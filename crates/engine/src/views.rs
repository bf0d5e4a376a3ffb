//! What the console's pages show: read-only, for a signed-in human with a role.
//!
//! Lists come from projections. Anything about a patient is read from the vault or the EHR at display
//! time, for roles that work with patients, and each such look is recorded before it is shown. Nothing
//! here changes a write-back.
//!
//! Reading order: [`patients`] (who is shown, and that it is recorded), [`inbox`], [`review`],
//! [`timeline`], [`queue`], then the operators' pages [`modes`], [`ledger_pages`], [`health`] and
//! [`agents`].

pub mod agents;
pub mod batch;
pub mod changes;
mod displays;
mod drops;
pub mod edited;
pub mod health;
pub mod inbox;
pub mod ledger_pages;
pub mod modes;
pub(crate) mod part;
pub mod patients;
pub mod queue;
pub mod review;
pub mod timeline;
mod turn;

use chaperone_core::ids::WritebackId;
use chaperone_core::ports::{
    CommitFailed, EhrReadFailed, KeyVaultFailed, Listing, RecordKey, StoreFailed,
};
use chaperone_core::writeback::StateName;

use crate::context::Engine;
use crate::projection::{BY_STATE, row_of};
use crate::tokens::TokenFailed;
use crate::transition::MoveFailed;
use crate::vault::VaultFailed;

pub(crate) use patients::sees_patients;

pub use crate::projection::WritebackRow;
pub use turn::{Barred, Cosign, OverrideChoice, Turn};

/// How long what came to nothing is shown to those whom it concerns, in seconds: two weeks.
const LATELY_S: i64 = 14 * 24 * 3_600;
/// Most rows read for one list.
pub const ROWS_MAX: u32 = 200;

/// Why a page cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ViewFailed {
    /// The person's roles do not cover it.
    #[error("your roles do not cover this page")]
    NotPermitted,
    /// No such thing, or not for this person: the same answer.
    #[error("there is nothing here")]
    Missing,
    /// The EHR failed.
    #[error(transparent)]
    Ehr(#[from] EhrReadFailed),
    /// A token cannot be followed.
    #[error(transparent)]
    Token(TokenFailed),
    /// Something in the vault cannot be opened.
    #[error(transparent)]
    Vault(#[from] VaultFailed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// The look could not be recorded, so nothing is shown.
    #[error("the look could not be recorded, so nothing is shown")]
    Commit(#[from] CommitFailed),
}

impl From<TokenFailed> for ViewFailed {
    fn from(failed: TokenFailed) -> Self {
        match failed {
            TokenFailed::Unknown => ViewFailed::Missing,
            other => ViewFailed::Token(other),
        }
    }
}

impl ViewFailed {
    /// Whether something of the vault was deleted, or the key it was sealed under.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(
            self,
            ViewFailed::Vault(VaultFailed::Missing | VaultFailed::Keys(KeyVaultFailed::Destroyed))
        )
    }
}

impl From<MoveFailed> for ViewFailed {
    fn from(failed: MoveFailed) -> Self {
        match failed {
            MoveFailed::Missing => ViewFailed::Missing,
            MoveFailed::Store(failed) => ViewFailed::Store(failed),
            MoveFailed::Refused(refusal) => {
                ViewFailed::Store(StoreFailed::Corrupt(refusal.to_string()))
            }
        }
    }
}

impl Engine {
    /// The rows in one state, oldest first.
    pub(crate) async fn rows_in(
        &self,
        state: StateName,
        limit: u32,
    ) -> Result<Vec<WritebackRow>, StoreFailed> {
        let listing = Listing {
            index: Some(state.as_str().to_owned()),
            limit,
            ..Listing::default()
        };
        let rows = self
            .store
            .projections(&self.config.tenant, BY_STATE, listing)
            .await?;
        rows.iter().map(row_of).collect()
    }

    /// The rows in one state that came there lately, newest first.
    pub(crate) async fn lately_in(
        &self,
        state: StateName,
    ) -> Result<Vec<WritebackRow>, StoreFailed> {
        let listing = Listing {
            index: Some(state.as_str().to_owned()),
            descending: true,
            limit: ROWS_MAX,
            ..Listing::default()
        };
        let records = self
            .store
            .projections(&self.config.tenant, BY_STATE, listing)
            .await?;
        let rows: Result<Vec<WritebackRow>, StoreFailed> = records.iter().map(row_of).collect();
        let mut rows = rows?;
        let now = self.now();
        rows.retain(|row| now.duration_since(row.moved).as_secs() <= LATELY_S);
        rows.sort_by_key(|row| std::cmp::Reverse((row.moved, row.id)));
        Ok(rows)
    }

    /// One row.
    pub(crate) async fn row(&self, id: WritebackId) -> Result<WritebackRow, ViewFailed> {
        let key = RecordKey::new(BY_STATE, id);
        let record = self.store.projection(&self.config.tenant, &key).await?;
        record
            .as_ref()
            .map(row_of)
            .transpose()?
            .ok_or(ViewFailed::Missing)
    }
}
