//! Exceptions: what the matrix refuses, on its way through people instead of around them.
//!
//! ```text
//! refused by policy ─▶ asked for (reason) ─▶ granted by somebody else (second factor) ─▶ used once ─▶ looked at
//!                            │                         │                                     │
//!                            ├─ declined               └─ runs out unused                    └─ a write-back of its own,
//!                            └─ nobody grants it in time                                        with two people (row 65)
//! ```
//! An exception is bound to one refused order by its digest, which covers patient, agent with its model and prompts,
//! content, version on record and bundle. It lets that content be proposed once more, with the fact that it was
//! granted; what that needs then is the matrix's to say, and prohibitions stay prohibitions. There is one exception for
//! each refused write-back, by whose id it goes.
//!
//! Reading order: this file (from the request to the end), `rules` (who may), `list` (what waits, and what pages show),
//! `crate::propose::excepted` (how the content is proposed again).
//!
//! # Source
//! Requirement R037.

mod list;
mod rules;

use chaperone_core::Timestamp;
use chaperone_core::change::ChangeClass;
use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::event::Event;
use chaperone_core::exception::{ExceptionEvent, ExceptionFinding};
use chaperone_core::ids::{AgentId, IntentId, PatientToken, PersonId, StepUpId, WritebackId};
use chaperone_core::ports::{
    Commit, CommitFailed, KeyVaultFailed, Listing, Record, RecordChange, RecordKey, StoreFailed,
};
use chaperone_core::principal::{Actor, Human, SystemPart};
use chaperone_core::writeback::{RefusedBy, Ruled, Writeback};
use serde::{Deserialize, Serialize};

use crate::approve::DecideFailed;
use crate::context::{Engine, after};
use crate::people::StepUpFor;
use crate::projection::{WritebackRow, sortable};
use crate::propose::NotExcepted;
use crate::transition::{InHand, MoveFailed};
use crate::vault::VaultFailed;

pub use list::{ExceptionRow, ExceptionTurn, ExceptionView};
pub(crate) use rules::ExceptionRules;

/// Exceptions, by whether somebody still has something to do about them.
pub(crate) const EXCEPTIONS: &str = "exception";
const OPEN: &str = "open";
/// Those that were used and wait to be looked at: they have no end, and must not hide one that has.
const USED: &str = "used";
const CLOSED: &str = "closed";
/// How long one that is closed can be looked at, in seconds: 90 days. Its events stay as long as the ledger.
const KEPT_S: i64 = 90 * 24 * 3_600;
/// Most that are ended at once.
const ENDED_MAX: u32 = 100;

/// How it stands with an exception.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum ExceptionStage {
    /// It waits for somebody to grant it.
    Requested {
        /// Until when.
        until: Timestamp,
    },
    /// It can be used.
    Granted {
        /// Who granted it.
        person: PersonId,
        /// Until when.
        until: Timestamp,
    },
    /// It was used, and waits to be looked at.
    Used {
        /// Who granted it.
        person: PersonId,
        /// The new write-back.
        by: WritebackId,
        /// By when somebody should have looked at it.
        review_by: Timestamp,
    },
    /// It was looked at.
    Reviewed {
        /// The new write-back.
        by: WritebackId,
        /// What was found.
        finding: ExceptionFinding,
    },
    /// Somebody said no.
    Declined,
    /// Its time was up.
    Expired {
        /// Whether it had been granted.
        granted: bool,
    },
}

/// An exception, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExceptionCase {
    /// The write-back that was refused.
    pub of: WritebackId,
    /// The patient.
    pub patient: Option<PatientToken>,
    /// The agent that proposed it.
    pub agent: AgentId,
    /// For what.
    pub intent: IntentId,
    /// The class of the change.
    pub class: ChangeClass,
    /// Who asked.
    pub requester: PersonId,
    /// Why, in the vault.
    pub reason: PayloadAddress,
    /// When.
    pub requested: Timestamp,
    /// What whoever grants it agrees to.
    pub binding: Digest,
    /// How it stands.
    #[serde(flatten)]
    pub stage: ExceptionStage,
}

/// Why nothing happened to an exception.
#[derive(Debug, thiserror::Error)]
pub enum ExceptionFailed {
    /// The roles do not allow it.
    #[error("your roles do not allow this")]
    NotPermitted,
    /// The same person twice, or of the team that owns the agent.
    #[error(
        "an exception is granted and looked at by somebody else than who asked for it or granted it, \
         and by nobody of the team that owns the agent"
    )]
    SamePerson,
    /// The agent acted for somebody else.
    #[error(
        "the agent worked for somebody else here; they ask for an exception, or let the agent propose it again for you"
    )]
    NotYours,
    /// Nobody said who owns the agent.
    #[error(
        "nobody has said who belongs to the team that owns this agent, so nobody can grant it an exception; \
         add the team to rules/exceptions.toml"
    )]
    TeamUnknown,
    /// No such write-back, or no exception of it.
    #[error("there is nothing here")]
    Missing,
    /// It was not the matrix that refused it, or nothing can lift what refused it.
    #[error("no exception is possible here: {0}")]
    NotPossible(String),
    /// It was asked for before.
    #[error("an exception was asked for already; what was proposed is excepted once or not at all")]
    AskedAlready,
    /// It is not at that stage, or its time is up.
    #[error("this exception does not wait for that any more")]
    NotNow,
    /// No second factor, or one for something else.
    #[error("the second factor was not given for this exception, or is too old; give it again")]
    StepUp,
    /// Too short or too long.
    #[error("a reason is needed, of 3 to 2,000 characters")]
    ReasonUnfit,
    /// What it was granted for is not so any more.
    #[error("it cannot be used: {0}")]
    Changed(#[source] NotExcepted),
    /// Somebody else was first.
    #[error("somebody else acted on this just now; look at it again")]
    Conflict,
    /// Something in the vault cannot be opened.
    #[error(transparent)]
    Vault(#[from] VaultFailed),
    /// The key vault failed.
    #[error(transparent)]
    Keys(#[from] KeyVaultFailed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// It could not be recorded, so it did not happen.
    #[error("it could not be recorded, so it did not happen")]
    Commit(#[source] CommitFailed),
}

impl ExceptionFailed {
    /// Whether it is Chaperone's own failure, rather than an answer to a person.
    pub fn is_internal(&self) -> bool {
        matches!(
            self,
            ExceptionFailed::Vault(_)
                | ExceptionFailed::Keys(_)
                | ExceptionFailed::Store(_)
                | ExceptionFailed::Commit(_)
        )
    }
}

impl From<CommitFailed> for ExceptionFailed {
    fn from(failed: CommitFailed) -> Self {
        match failed {
            CommitFailed::Record { collection } if collection == crate::approve::STEP_UPS => {
                ExceptionFailed::StepUp
            }
            CommitFailed::Conflict { .. } | CommitFailed::Record { .. } => {
                ExceptionFailed::Conflict
            }
            other => ExceptionFailed::Commit(other),
        }
    }
}

impl From<MoveFailed> for ExceptionFailed {
    fn from(failed: MoveFailed) -> Self {
        match failed {
            MoveFailed::Missing => ExceptionFailed::Missing,
            MoveFailed::Refused(_) => ExceptionFailed::NotNow,
            MoveFailed::Store(failed) => ExceptionFailed::Store(failed),
        }
    }
}

impl From<DecideFailed> for ExceptionFailed {
    fn from(failed: DecideFailed) -> Self {
        match failed {
            DecideFailed::ReasonNeeded => ExceptionFailed::ReasonUnfit,
            DecideFailed::Store(failed) => ExceptionFailed::Store(failed),
            DecideFailed::Keys(failed) => ExceptionFailed::Keys(failed),
            DecideFailed::Commit(failed) => ExceptionFailed::Commit(failed),
            _ => ExceptionFailed::StepUp,
        }
    }
}

impl Engine {
    /// Asks for an exception for what the matrix refused, with a reason.
    ///
    /// # Errors
    /// [`ExceptionFailed`]; nothing is asked for then. [`ExceptionFailed::NotPossible`] says what stands against it.
    pub async fn request_exception(
        &self,
        by: &Human,
        of: WritebackId,
        reason: &str,
    ) -> Result<ExceptionCase, ExceptionFailed> {
        if !self.exceptions.may_request(by) {
            return Err(ExceptionFailed::NotPermitted);
        }
        let mut hand = self.take_in_hand(of).await?;
        if self.exception_case(of).await?.is_some() {
            return Err(ExceptionFailed::AskedAlready);
        }
        let ruled = self.exceptable(&hand, by).await?;
        let mut commit = self.commit_as(by.into());
        let reason = self.seal_reason(&hand, reason, &mut commit).await?;
        let until = after(commit.at, self.exceptions.request_s());
        let case = ExceptionCase {
            of,
            patient: ruled.proposal.patient,
            agent: ruled.proposal.agent.clone(),
            intent: ruled.proposal.intent.clone(),
            class: ruled.ruling.class,
            requester: by.person,
            reason,
            requested: commit.at,
            binding: self.binding(&ruled, by.person, reason),
            stage: ExceptionStage::Requested { until },
        };
        let requested = ExceptionEvent::Requested {
            reason,
            binding: case.binding,
            until,
        };
        hand.note(&mut commit, Event::Exception(requested))?;
        commit
            .records
            .push(RecordChange::Create(record_of(&case, commit.at)?));
        match self.store.commit(commit).await {
            Ok(_) => {}
            Err(CommitFailed::Record { .. }) => return Err(ExceptionFailed::AskedAlready),
            Err(failed) => return Err(failed.into()),
        }
        metrics::counter!("chaperone_exceptions_total", "step" => "requested").increment(1);
        self.announce_change();
        Ok(case)
    }

    /// Grants an exception: the person agrees to exactly what `binding` names, with a second factor for it.
    ///
    /// # Errors
    /// [`ExceptionFailed`]; nothing is granted then.
    pub async fn grant_exception(
        &self,
        by: &Human,
        of: WritebackId,
        binding: Digest,
        step_up: StepUpId,
    ) -> Result<ExceptionCase, ExceptionFailed> {
        let (case, revision) = self.case_in(of).await?;
        self.check_granter(by, &case).await?;
        let now = self.now();
        if !matches!(case.stage, ExceptionStage::Requested { until } if now < until)
            || case.binding != binding
        {
            return Err(ExceptionFailed::NotNow);
        }
        let hand = self.take_in_hand(of).await?;
        let ruled = self.excepted_ruling(&hand).await?;
        if self.binding(&ruled, case.requester, case.reason) != binding {
            return Err(ExceptionFailed::NotNow);
        }
        let mut commit = self.commit_as(by.into());
        self.consume_step_up(by, step_up, StepUpFor::Matter, &binding, &mut commit)
            .await?;
        // What was waited for may have taken the time that was left.
        commit.at = self.now();
        if !matches!(case.stage, ExceptionStage::Requested { until } if commit.at < until) {
            return Err(ExceptionFailed::NotNow);
        }
        let until = after(commit.at, self.exceptions.use_s(case.class));
        let stage = ExceptionStage::Granted {
            person: by.person,
            until,
        };
        let granted = ExceptionEvent::Granted { binding, until };
        self.move_case(commit, hand, (case, revision), stage, granted)
            .await
    }

    /// Says no to an exception, with a reason.
    ///
    /// # Errors
    /// [`ExceptionFailed`]; it still waits then.
    pub async fn decline_exception(
        &self,
        by: &Human,
        of: WritebackId,
        reason: &str,
    ) -> Result<ExceptionCase, ExceptionFailed> {
        let (case, revision) = self.case_in(of).await?;
        if !self.exceptions.may_grant(by, case.class) {
            return Err(ExceptionFailed::NotPermitted);
        }
        if !matches!(case.stage, ExceptionStage::Requested { .. }) {
            return Err(ExceptionFailed::NotNow);
        }
        let hand = self.take_in_hand(of).await?;
        let mut commit = self.commit_as(by.into());
        let reason = self.seal_reason(&hand, reason, &mut commit).await?;
        let declined = ExceptionEvent::Declined { reason };
        self.move_case(
            commit,
            hand,
            (case, revision),
            ExceptionStage::Declined,
            declined,
        )
        .await
    }

    /// Uses a granted exception: the same content is proposed once more, and waits for the two people that row 65 of
    /// the matrix asks for. Everything it was granted for is looked at again first.
    ///
    /// # Errors
    /// [`ExceptionFailed`]; it can still be used then, while its time lasts.
    pub async fn use_exception(
        &self,
        by: &Human,
        of: WritebackId,
    ) -> Result<WritebackRow, ExceptionFailed> {
        let (case, revision) = self.case_in(of).await?;
        if !self.exceptions.may_request(by) {
            return Err(ExceptionFailed::NotPermitted);
        }
        let ExceptionStage::Granted { person, until } = case.stage else {
            return Err(ExceptionFailed::NotNow);
        };
        if self.now() >= until {
            return Err(ExceptionFailed::NotNow);
        }
        let mut hand = self.take_in_hand(of).await?;
        let ruled = self.excepted_ruling(&hand).await?;
        if self.binding(&ruled, case.requester, case.reason) != case.binding {
            return Err(ExceptionFailed::NotNow);
        }
        let reason = self.unseal_text(&case.reason).await?;
        let mut commit = self.commit_as(by.into());
        // Its own events come first: what the commit puts into the vault belongs to the new write-back.
        let proposed = self
            .propose_excepted(&ruled, case.requester, &reason, &mut commit)
            .await
            .map_err(ExceptionFailed::Changed)?;
        // The EHR may have taken its time.
        if self.now() >= until {
            return Err(ExceptionFailed::NotNow);
        }
        let used = ExceptionEvent::Used { by: proposed.id };
        hand.note(&mut commit, Event::Exception(used))?;
        let used = ExceptionCase {
            stage: ExceptionStage::Used {
                person,
                by: proposed.id,
                review_by: after(commit.at, self.exceptions.review_s()),
            },
            ..case
        };
        // Who used it meanwhile changed the record, and this commit is refused: it is used once.
        let record = record_of(&used, commit.at)?;
        commit.records.push(RecordChange::Update(record, revision));
        self.store.commit(commit).await?;
        metrics::counter!("chaperone_exceptions_total", "step" => "used").increment(1);
        self.announce_change();
        self.notify_waiting(&proposed);
        self.writeback(proposed.id)
            .await?
            .ok_or(ExceptionFailed::Missing)
    }

    /// Records what somebody found who looked at a used exception: neither who asked for it nor who granted it.
    ///
    /// # Errors
    /// [`ExceptionFailed`]; it still waits to be looked at then.
    pub async fn review_exception(
        &self,
        by: &Human,
        of: WritebackId,
        finding: ExceptionFinding,
        note: &str,
    ) -> Result<ExceptionCase, ExceptionFailed> {
        let (case, revision) = self.case_in(of).await?;
        if !self.exceptions.may_review(by) {
            return Err(ExceptionFailed::NotPermitted);
        }
        let ExceptionStage::Used {
            person, by: used, ..
        } = case.stage
        else {
            return Err(ExceptionFailed::NotNow);
        };
        if by.person == case.requester || by.person == person {
            return Err(ExceptionFailed::SamePerson);
        }
        let hand = self.take_in_hand(of).await?;
        let mut commit = self.commit_as(by.into());
        let note = self.seal_reason(&hand, note, &mut commit).await?;
        let stage = ExceptionStage::Reviewed { by: used, finding };
        let reviewed = ExceptionEvent::Reviewed { finding, note };
        self.move_case(commit, hand, (case, revision), stage, reviewed)
            .await
    }

    /// Ends exceptions whose time is up. Whether one can still be granted or used does not wait for this.
    ///
    /// # Errors
    /// When the store fails; they are looked at again.
    pub async fn end_exceptions(&self) -> Result<usize, ExceptionFailed> {
        let now = self.now();
        let listing = Listing {
            index: Some(OPEN.to_owned()),
            limit: ENDED_MAX,
            ..Listing::default()
        };
        let tenant = &self.config.tenant;
        let records = self.store.records(tenant, EXCEPTIONS, listing, now).await?;
        let mut ended = 0;
        for record in records {
            let case = case_of(&record)?;
            let granted = match case.stage {
                ExceptionStage::Requested { until } if now >= until => false,
                ExceptionStage::Granted { until, .. } if now >= until => true,
                _ => continue,
            };
            let hand = self.take_in_hand(case.of).await?;
            let commit = self.commit_as(Actor::System {
                part: SystemPart::Expiry,
            });
            let moved = self
                .move_case(
                    commit,
                    hand,
                    (case, record.revision),
                    ExceptionStage::Expired { granted },
                    ExceptionEvent::Expired { granted },
                )
                .await;
            match moved {
                Ok(_) => ended += 1,
                // Another node was first, or a person.
                Err(ExceptionFailed::Conflict) => {}
                Err(failed) => return Err(failed),
            }
        }
        Ok(ended)
    }

    /// Records one step of an exception: the event on the stream of what was refused, and how it stands now.
    async fn move_case(
        &self,
        mut commit: Commit,
        mut hand: InHand,
        (case, revision): (ExceptionCase, u64),
        stage: ExceptionStage,
        event: ExceptionEvent,
    ) -> Result<ExceptionCase, ExceptionFailed> {
        hand.note(&mut commit, Event::Exception(event))?;
        let case = ExceptionCase { stage, ..case };
        let record = record_of(&case, commit.at)?;
        commit.records.push(RecordChange::Update(record, revision));
        self.store.commit(commit).await?;
        self.announce_change();
        Ok(case)
    }

    /// What was ruled, where an exception could lift it: the matrix refused it, the rules are still those, and with an
    /// exception it would get as far as two people.
    ///
    /// Where the agent acted for somebody, that person asks: two people then approve, neither of them who asked, and
    /// nobody comes by way of an exception to approve what was done for them.
    async fn exceptable(&self, hand: &InHand, by: &Human) -> Result<Ruled, ExceptionFailed> {
        let ruled = self.excepted_ruling(hand).await?;
        match ruled.proposal.requester {
            Some(requester) if requester != by.person => Err(ExceptionFailed::NotYours),
            _ => Ok(ruled),
        }
    }

    async fn excepted_ruling(&self, hand: &InHand) -> Result<Ruled, ExceptionFailed> {
        let not = |why: &str| ExceptionFailed::NotPossible(why.to_owned());
        let Writeback::Refused(refused) = &hand.state else {
            return Err(not("it was not refused"));
        };
        let (RefusedBy::Policy { .. }, Some(ruled)) = (refused.by(), refused.ruled()) else {
            return Err(not("it was not the matrix that refused it"));
        };
        if self.exceptions.granters(ruled.ruling.class).is_empty() {
            return Err(not("changes of this class have no exceptions"));
        }
        match self.would_be_excepted(ruled).await {
            Ok(()) => Ok(ruled.clone()),
            Err(why) => Err(ExceptionFailed::NotPossible(why.to_string())),
        }
    }

    /// Whether somebody may grant it: of the right role, not who asked, and nobody of the team that owns the agent.
    async fn check_granter(&self, by: &Human, case: &ExceptionCase) -> Result<(), ExceptionFailed> {
        if !self.exceptions.may_grant(by, case.class) {
            return Err(ExceptionFailed::NotPermitted);
        }
        let agent = self.bundle.agent(&case.agent);
        let team = agent.and_then(|agent| self.exceptions.team(&agent.owner));
        let team = team.ok_or(ExceptionFailed::TeamUnknown)?;
        if by.person == case.requester || team.contains(&by.account) {
            return Err(ExceptionFailed::SamePerson);
        }
        for account in team {
            // Persons count, not accounts: somebody may have two.
            let found = self.stored_account(account).await?;
            if found.is_some_and(|(account, _)| account.person == by.person) {
                return Err(ExceptionFailed::SamePerson);
            }
        }
        Ok(())
    }

    /// What whoever grants it agrees to: that order, for that reason of that person. The digest of the order covers
    /// patient, agent, content, version on record and bundle.
    fn binding(&self, ruled: &Ruled, requester: PersonId, reason: PayloadAddress) -> Digest {
        self.tenant_digest(&[
            b"exception",
            ruled.proposal.id.to_string().as_bytes(),
            ruled.order.digest.as_bytes(),
            requester.to_string().as_bytes(),
            reason.to_string().as_bytes(),
        ])
    }

    async fn case_in(&self, of: WritebackId) -> Result<(ExceptionCase, u64), ExceptionFailed> {
        self.exception_case(of)
            .await?
            .ok_or(ExceptionFailed::Missing)
    }

    async fn exception_case(
        &self,
        of: WritebackId,
    ) -> Result<Option<(ExceptionCase, u64)>, StoreFailed> {
        let key = RecordKey::new(EXCEPTIONS, of);
        let record = self
            .store
            .record(&self.config.tenant, &key, self.now())
            .await?;
        match record {
            Some(record) => Ok(Some((case_of(&record)?, record.revision))),
            None => Ok(None),
        }
    }
}

fn record_of(case: &ExceptionCase, now: Timestamp) -> Result<Record, StoreFailed> {
    let value = serde_json::to_value(case).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
    let record = Record::new(EXCEPTIONS, case.of, value);
    Ok(match case.stage {
        ExceptionStage::Requested { .. } | ExceptionStage::Granted { .. } => {
            record.indexed(OPEN, sortable(case.requested))
        }
        ExceptionStage::Used { .. } => record.indexed(USED, sortable(case.requested)),
        ExceptionStage::Reviewed { .. }
        | ExceptionStage::Declined
        | ExceptionStage::Expired { .. } => record
            .indexed(CLOSED, sortable(case.requested))
            .expiring(after(now, KEPT_S)),
    })
}

fn case_of(record: &Record) -> Result<ExceptionCase, StoreFailed> {
    serde_json::from_value(record.value.clone()).map_err(|e| StoreFailed::Corrupt(e.to_string()))
}
