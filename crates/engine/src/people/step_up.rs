//! Step-up: a second factor given for one digest, once: a passkey, or a code of an authenticator app.
//!
//! The record is made when the person asks to approve, marked when the factor is right, and consumed in
//! the same commit as the approval it allows. It names what it is for and the digest, so that a factor given
//! for one order cannot approve another, nor the same content in another write-back.
//!
//! A passkey signs a challenge that is made here for this record alone, used up by the first answer whatever it
//! says, and over after two minutes.

use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{AccountName, PersonId, StepUpId, WritebackId};
use chaperone_core::passkey::PasskeyEvent;
use chaperone_core::ports::{
    Commit, CommitFailed, Expected, Record, RecordChange, RecordKey, StoreFailed,
};
use chaperone_core::principal::Human;
use serde::{Deserialize, Serialize};

use super::accounts::put;
use super::attempts::Guessed;
use super::passkeys::{Challenge, PasskeyAsked};
use super::webauthn::{AssertionSent, PasskeyInvalid};
use super::{STEP_UPS, parse, totp, value_of};
use crate::context::{Engine, after};
use crate::vault::VaultFailed;

/// Wrong codes that one step-up forgives.
///
/// # Source
/// OWASP ASVS 4.0.3, 2.7.6: out-of-band and one-time codes resist brute force.
pub const TRIES_MAX: u32 = 5;

/// What a second factor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "snake_case")]
pub enum StepUpFor {
    /// Approving one write-back; the digest is its order's.
    Approval {
        /// The write-back.
        writeback: WritebackId,
    },
    /// Adding or removing a passkey of one's own account.
    Passkeys,
    /// What the digest alone names: a run that undoes, a hold, a shredding.
    #[default]
    Matter,
}

/// Which factor was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum StepUpBy {
    /// A code of an authenticator app.
    #[default]
    Code,
    /// A passkey of the account, by the digest of its credential id.
    Passkey {
        /// Which.
        credential: Digest,
    },
}

/// A step-up as it rests; `approve` reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepUpState {
    /// Who was asked.
    pub person: PersonId,
    /// Under which account.
    pub account: AccountName,
    /// What the factor is for.
    #[serde(default)]
    pub subject: StepUpFor,
    /// The content that it is for.
    pub digest: Digest,
    /// When the factor was right.
    pub verified_at: Option<Timestamp>,
    /// Which it was.
    #[serde(default)]
    pub by: StepUpBy,
    /// Wrong answers so far.
    #[serde(default)]
    pub tries: u32,
    /// What a passkey is asked to sign now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) challenge: Option<Challenge>,
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
    /// The organisation accepts no codes from whoever has a passkey.
    #[error("this account has a passkey, and codes are not accepted beside one; use the passkey")]
    CodesOff,
    /// What the passkey gave does not count.
    #[error("the passkey was not accepted: {0}")]
    PasskeyRefused(PasskeyInvalid),
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
    /// Asks for a second factor bound to what it is for and to a digest.
    ///
    /// # Errors
    /// [`StepUpRefused::NotEnrolled`], [`StepUpRefused::Wait`], store failures.
    pub async fn step_up_begin(
        &self,
        by: &Human,
        subject: StepUpFor,
        digest: Digest,
    ) -> Result<StepUpId, StepUpRefused> {
        let now = self.now();
        let account = self.stored_account(&by.account).await?;
        let (codes, passkeys) = account.map_or((false, false), |(account, _)| {
            (account.has_app(), self.has_passkeys(&account))
        });
        if !codes && !passkeys {
            return Err(StepUpRefused::NotEnrolled);
        }
        // Wrong codes lock codes; nobody guesses a passkey.
        if !passkeys
            && let Some(until) = self.attempts(Guessed::Code, &by.account).await?.locked(now)
        {
            return Err(StepUpRefused::Wait { until });
        }
        let id = StepUpId::from_random(self.random.id());
        let state = StepUpState {
            person: by.person,
            account: by.account.clone(),
            subject,
            digest,
            verified_at: None,
            by: StepUpBy::Code,
            tries: 0,
            challenge: None,
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
        if !self.takes_codes(&account) {
            return Err(StepUpRefused::CodesOff);
        }
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
        put_state(&mut commit, id, &state, &record)?;
        match self.store.commit(commit).await {
            Ok(_) if accepted.is_some() => Ok(()),
            Ok(_) => Err(StepUpRefused::CodeRefused {
                left: TRIES_MAX.saturating_sub(state.tries),
            }),
            Err(CommitFailed::Record { .. }) => Err(StepUpRefused::Again),
            Err(failed) => Err(failed.into()),
        }
    }

    /// What a passkey of this person is to sign for a step-up; an earlier challenge for it is over. Nothing
    /// where the account has no passkey.
    ///
    /// # Errors
    /// [`StepUpRefused::Gone`], store failures.
    pub async fn step_up_challenge(
        &self,
        by: &Human,
        id: StepUpId,
    ) -> Result<Option<PasskeyAsked>, StepUpRefused> {
        let (mut state, record) = self.own_step_up(by, id).await?;
        if state.verified_at.is_some() || state.tries >= TRIES_MAX {
            return Err(StepUpRefused::Gone);
        }
        let Some((account, _)) = self.stored_account(&by.account).await? else {
            return Err(StepUpRefused::Gone);
        };
        if !self.has_passkeys(&account) {
            return Ok(None);
        }
        let subject = value_of(&state.subject)?.to_string();
        let bound = [b"step-up", subject.as_bytes(), state.digest.as_bytes()];
        let challenge = self.new_challenge(&by.account, &bound);
        let asked = self.passkey_asked(&account, &challenge);
        state.challenge = Some(challenge);
        let mut commit = self.commit_as(by.into());
        put_state(&mut commit, id, &state, &record)?;
        match self.store.commit(commit).await {
            Ok(_) => Ok(asked),
            Err(CommitFailed::Record { .. }) => Err(StepUpRefused::Again),
            Err(failed) => Err(failed.into()),
        }
    }

    /// Checks what a passkey signed. The challenge is used up, whatever comes of it.
    ///
    /// # Errors
    /// [`StepUpRefused`]; every refusal of a passkey is recorded.
    pub async fn step_up_verify_passkey(
        &self,
        by: &Human,
        id: StepUpId,
        sent: &AssertionSent,
    ) -> Result<(), StepUpRefused> {
        let now = self.now();
        let (mut state, record) = self.own_step_up(by, id).await?;
        if state.verified_at.is_some() || state.tries >= TRIES_MAX {
            return Err(StepUpRefused::Gone);
        }
        let (mut account, revision) = self
            .stored_account(&by.account)
            .await?
            .ok_or(StepUpRefused::Gone)?;
        let challenge = state.challenge.take();
        let used = self.use_passkey(&mut account, sent, challenge.as_ref(), now);
        let stream = StreamId::Account(by.account.clone());
        let mut commit = self.commit_as(by.into());
        if used.changed {
            put(&mut commit, &account, revision)?;
        }
        let outcome = match used.outcome {
            Ok(credential) => {
                state.verified_at = Some(now);
                state.by = StepUpBy::Passkey { credential };
                let digest = state.digest;
                commit.append(stream, Expected::Any, Event::StepUpPassed { digest });
                Ok(())
            }
            Err(invalid) => {
                state.tries = state.tries.saturating_add(1);
                let refused = PasskeyEvent::Refused {
                    credential: used.credential,
                    code: invalid.code().to_owned(),
                };
                commit.append(stream, Expected::Any, Event::Passkey(refused));
                Err(StepUpRefused::PasskeyRefused(invalid))
            }
        };
        put_state(&mut commit, id, &state, &record)?;
        match self.store.commit(commit).await {
            Ok(_) => outcome,
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

/// Puts a changed step-up into a commit, guarded by its revision: of two answers at once, one counts.
fn put_state(
    commit: &mut Commit,
    id: StepUpId,
    state: &StepUpState,
    record: &Record,
) -> Result<(), StoreFailed> {
    let mut changed = Record::new(STEP_UPS, id, value_of(state)?);
    changed.expires = record.expires;
    commit
        .records
        .push(RecordChange::Update(changed, record.revision));
    Ok(())
}
