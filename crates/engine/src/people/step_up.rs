//! Step-up: a second factor given for one digest, once.
//!
//! The record is made when the person asks to approve, marked when the code is right, and consumed in
//! the same commit as the approval it allows. It names the digest, so that a code given for one order
//! cannot approve another.

use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{AccountName, PersonId, StepUpId};
use chaperone_core::ports::{CommitFailed, Expected, Record, RecordChange, RecordKey, StoreFailed};
use chaperone_core::principal::Human;
use serde::{Deserialize, Serialize};

use super::accounts::put;
use super::attempts::Guessed;
use super::{STEP_UPS, parse, totp, value_of};
use crate::context::{Engine, after};
use crate::vault::VaultFailed;

/// Wrong codes that one step-up forgives.
///
/// # Source
/// OWASP ASVS 4.0.3, 2.7.6: out-of-band and one-time codes resist brute force.
pub const TRIES_MAX: u32 = 5;

/// A step-up as it rests; `approve` reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepUpState {
    /// Who was asked.
    pub person: PersonId,
    /// Under which account.
    pub account: AccountName,
    /// What the factor is for.
    pub digest: Digest,
    /// When the code was right.
    pub verified_at: Option<Timestamp>,
    /// Wrong codes so far.
    #[serde(default)]
    pub tries: u32,
}

/// Why a step-up did not pass.
#[derive(Debug, thiserror::Error)]
pub enum StepUpRefused {
    /// Unknown, expired, somebody else's, or spent: one answer for all.
    #[error("this request for a second factor is no longer valid; open the review again")]
    Gone,
    /// No second factor is enrolled.
    #[error("no second factor is enrolled for this account")]
    NotEnrolled,
    /// Wrong, or used before.
    #[error("this is not a fresh code of your app; each code works once")]
    CodeRefused {
        /// How many more tries there are.
        left: u32,
    },
    /// Too many wrong codes on this account.
    #[error("too many attempts; try again later")]
    Wait {
        /// When.
        until: Timestamp,
    },
    /// Two codes at once; this one was not judged.
    #[error("another attempt was under way; try again")]
    Again,
    /// The secret cannot be opened.
    #[error(transparent)]
    Vault(#[from] VaultFailed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// It could not be recorded.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
}

impl Engine {
    /// Asks for a second factor bound to a digest.
    ///
    /// # Errors
    /// [`StepUpRefused::NotEnrolled`], [`StepUpRefused::Wait`], store failures.
    pub async fn step_up_begin(
        &self,
        by: &Human,
        digest: Digest,
    ) -> Result<StepUpId, StepUpRefused> {
        let now = self.now();
        let enrolled = self
            .stored_account(&by.account)
            .await?
            .and_then(|(account, _)| account.totp)
            .is_some_and(|totp| totp.enrolled);
        if !enrolled {
            return Err(StepUpRefused::NotEnrolled);
        }
        if let Some(until) = self.attempts(Guessed::Code, &by.account).await?.locked(now) {
            return Err(StepUpRefused::Wait { until });
        }
        let id = StepUpId::from_random(self.random.id());
        let state = StepUpState {
            person: by.person,
            account: by.account.clone(),
            digest,
            verified_at: None,
            tries: 0,
        };
        let mut commit = self.commit_as(by.into());
        commit.records.push(RecordChange::Create(
            Record::new(STEP_UPS, id, value_of(&state)?)
                .expiring(after(now, self.config.step_up_s)),
        ));
        self.store.commit(commit).await?;
        Ok(id)
    }

    /// A step-up of this person that still waits for its code or for its approval.
    ///
    /// # Errors
    /// [`StepUpRefused::Gone`], store failures.
    pub async fn step_up(&self, by: &Human, id: StepUpId) -> Result<StepUpState, StepUpRefused> {
        Ok(self.own_step_up(by, id).await?.0)
    }

    /// Checks the code. A code is accepted once per account, whatever it was for.
    ///
    /// # Errors
    /// [`StepUpRefused`]; every wrong code is recorded.
    pub async fn step_up_verify(
        &self,
        by: &Human,
        id: StepUpId,
        code: &str,
    ) -> Result<(), StepUpRefused> {
        let now = self.now();
        let (mut state, record) = self.own_step_up(by, id).await?;
        let attempts = self.attempts(Guessed::Code, &by.account).await?;
        if let Some(until) = attempts.locked(now) {
            return Err(StepUpRefused::Wait { until });
        }
        if state.verified_at.is_some() || state.tries >= TRIES_MAX {
            return Err(StepUpRefused::Gone);
        }
        let (mut account, revision) = self
            .stored_account(&by.account)
            .await?
            .ok_or(StepUpRefused::Gone)?;
        let stored = account
            .totp
            .as_mut()
            .filter(|totp| totp.enrolled)
            .ok_or(StepUpRefused::NotEnrolled)?;
        let secret = self.totp_secret(stored).await?;
        let accepted = totp::accept(secret, code, now, stored.last_step);
        let stream = StreamId::Account(by.account.clone());
        let mut commit = self.commit_as(by.into());
        match accepted {
            Some(step) => {
                // Two requests with the same code: the account's revision lets one through.
                stored.last_step = step;
                put(&mut commit, &account, revision)?;
                attempts.passed(&mut commit, now)?;
                state.verified_at = Some(now);
                let digest = state.digest;
                commit.append(stream, Expected::Any, Event::StepUpPassed { digest });
            }
            None => {
                attempts.failed(&mut commit, now)?;
                state.tries = state.tries.saturating_add(1);
                commit.append(stream, Expected::Any, Event::StepUpFailed);
            }
        }
        let mut changed = Record::new(STEP_UPS, id, value_of(&state)?);
        changed.expires = record.expires;
        commit
            .records
            .push(RecordChange::Update(changed, record.revision));
        match self.store.commit(commit).await {
            Ok(_) if accepted.is_some() => Ok(()),
            Ok(_) => Err(StepUpRefused::CodeRefused {
                left: TRIES_MAX.saturating_sub(state.tries),
            }),
            Err(CommitFailed::Record { .. }) => Err(StepUpRefused::Again),
            Err(failed) => Err(failed.into()),
        }
    }

    async fn own_step_up(
        &self,
        by: &Human,
        id: StepUpId,
    ) -> Result<(StepUpState, Record), StepUpRefused> {
        let key = RecordKey::new(STEP_UPS, id);
        let record = self
            .store
            .record(&self.config.tenant, &key, self.now())
            .await?
            .ok_or(StepUpRefused::Gone)?;
        let state: StepUpState = parse(record.value.clone())?;
        if state.person != by.person || state.account != by.account {
            return Err(StepUpRefused::Gone);
        }
        Ok((state, record))
    }
}
