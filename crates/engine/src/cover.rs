//! Who covers for whom, from when to when: what is handed to somebody who is away goes to whoever covers for them.
//!
//! Work waits for a role, so nothing waits for one person but what was handed to them, for minutes (`claim`). Cover keeps
//! that from lying with somebody who is not there. It gives nobody anything: whoever covers must be able to decide by
//! themselves, as everybody to whom something is handed, and nothing of the other's part is theirs.
//!
//! One step is followed and no more: where whoever covers is away too, nothing is handed to either.

use chaperone_core::Timestamp;
use chaperone_core::cover::CoverEvent;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::AccountName;
use chaperone_core::ports::{
    CommitFailed, Expected, Listing, Record, RecordChange, RecordKey, StoreFailed,
};
use chaperone_core::principal::{Human, Role};
use serde::{Deserialize, Serialize};

use crate::context::Engine;
use crate::people::{StoredAccount, parse, value_of};
use crate::views::ROWS_MAX;

/// Cover in force or to come, by the account that is away.
pub(crate) const COVERS: &str = "cover";
/// Longest time away, in days: longer is an account to be changed.
pub const COVER_DAYS_MAX: i64 = 60;
const DAY_S: i64 = 24 * 3_600;

/// Who covers for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cover {
    /// Who is away.
    pub away: AccountName,
    /// Who covers.
    pub cover: AccountName,
    /// From when on.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Who said so.
    pub by: AccountName,
}

/// Why no cover was set or ended.
#[derive(Debug, thiserror::Error)]
pub enum CoverFailed {
    /// Somebody else's, and this person does not administer.
    #[error("people say for themselves who covers; for others, an administrator does")]
    NotPermitted,
    /// No such account, or one that nobody uses.
    #[error("both accounts must be in use")]
    Unknown,
    /// Two accounts of one person.
    #[error("nobody covers for themselves")]
    SamePerson,
    /// They lack a role, or are in training.
    #[error("whoever covers must hold the same roles, and not be in training")]
    OtherRoles,
    /// The times make no sense.
    #[error(
        "the time must end after it begins and after now, and be {COVER_DAYS_MAX} days at most"
    )]
    Times,
    /// There is none.
    #[error("nobody covers for this account")]
    Missing,
    /// Somebody else changed it just now.
    #[error("somebody changed this just now; look at it again")]
    Conflict,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// It could not be recorded.
    #[error(transparent)]
    Commit(CommitFailed),
}

impl From<CommitFailed> for CoverFailed {
    fn from(failed: CommitFailed) -> Self {
        match failed {
            CommitFailed::Record { .. } | CommitFailed::Conflict { .. } => CoverFailed::Conflict,
            other => CoverFailed::Commit(other),
        }
    }
}

impl Cover {
    /// Whether it counts at a moment.
    pub fn is_now(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}

impl Engine {
    /// Says who covers for somebody, in place of what was said before.
    ///
    /// # Errors
    /// [`CoverFailed`]; what was said before stays then.
    pub async fn cover_set(
        &self,
        by: &Human,
        away: &AccountName,
        cover: &AccountName,
        (from, until): (Timestamp, Timestamp),
    ) -> Result<(), CoverFailed> {
        let now = self.now();
        let absent = self.account_in_use(away).await?;
        let covering = self.account_in_use(cover).await?;
        may_say(by, &absent)?;
        if absent.person == covering.person {
            return Err(CoverFailed::SamePerson);
        }
        let covering = covering.human();
        let is_covered =
            |role: &Role| matches!(role, Role::ItAdmin | Role::Trainee) || covering.holds(*role);
        if covering.is_in_training() || !absent.roles.iter().all(is_covered) {
            return Err(CoverFailed::OtherRoles);
        }
        let seconds = until.duration_since(from).as_secs();
        if until <= now || !(1..=COVER_DAYS_MAX * DAY_S).contains(&seconds) {
            return Err(CoverFailed::Times);
        }
        let said = Cover {
            away: away.clone(),
            cover: cover.clone(),
            from,
            until,
            by: by.account.clone(),
        };
        let record = Record::new(COVERS, away, value_of(&said)?).expiring(until);
        let mut commit = self.commit_as(by.into());
        commit.records.push(match self.cover_record(away).await? {
            Some((_, revision)) => RecordChange::Update(record, revision),
            None => RecordChange::Create(record),
        });
        let event = CoverEvent::Set {
            cover: cover.clone(),
            from,
            until,
        };
        let stream = StreamId::Account(away.clone());
        commit.append(stream, Expected::Any, Event::Cover(event));
        self.store.commit(commit).await?;
        Ok(())
    }

    /// Ends somebody's cover before its time.
    ///
    /// # Errors
    /// [`CoverFailed`]; it stays then.
    pub async fn cover_end(&self, by: &Human, away: &AccountName) -> Result<(), CoverFailed> {
        let absent = self.stored_account(away).await?;
        let (absent, _) = absent.ok_or(CoverFailed::Unknown)?;
        may_say(by, &absent)?;
        if self.cover_record(away).await?.is_none() {
            return Err(CoverFailed::Missing);
        }
        let mut commit = self.commit_as(by.into());
        let key = RecordKey::new(COVERS, away);
        commit.records.push(RecordChange::Consume(key));
        let stream = StreamId::Account(away.clone());
        commit.append(stream, Expected::Any, Event::Cover(CoverEvent::Ended));
        self.store.commit(commit).await?;
        Ok(())
    }

    /// Everybody's cover, in force or to come.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn covers(&self) -> Result<Vec<Cover>, StoreFailed> {
        let listing = Listing {
            limit: ROWS_MAX,
            ..Listing::default()
        };
        let tenant = &self.config.tenant;
        let records = self.store.records(tenant, COVERS, listing, self.now());
        let records = records.await?;
        records
            .into_iter()
            .map(|record| parse(record.value))
            .collect()
    }

    /// Who covers for somebody now.
    pub(crate) async fn cover_now(&self, away: &AccountName) -> Result<Option<Cover>, StoreFailed> {
        let known = self.cover_record(away).await?;
        Ok(known
            .map(|(cover, _)| cover)
            .filter(|cover| cover.is_now(self.now())))
    }

    async fn cover_record(&self, away: &AccountName) -> Result<Option<(Cover, u64)>, StoreFailed> {
        let key = RecordKey::new(COVERS, away);
        let record = self
            .store
            .record(&self.config.tenant, &key, self.now())
            .await?;
        record
            .map(|record| Ok((parse(record.value)?, record.revision)))
            .transpose()
    }

    async fn account_in_use(&self, name: &AccountName) -> Result<StoredAccount, CoverFailed> {
        let account = self.stored_account(name).await?;
        account
            .map(|(account, _)| account)
            .filter(|account| account.password.is_some() && !account.disabled)
            .ok_or(CoverFailed::Unknown)
    }
}

fn may_say(by: &Human, absent: &StoredAccount) -> Result<(), CoverFailed> {
    if by.person == absent.person || by.holds(Role::ItAdmin) {
        Ok(())
    } else {
        Err(CoverFailed::NotPermitted)
    }
}
