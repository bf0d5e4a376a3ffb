//! Canaries: what is put before approvers to see whether they look, and taken back when they have no time for it.
//!
//! ```text
//! a draw says when ─▶ is it quiet, does something like it wait? ─▶ made up ─▶ ruled on as an agent's would be ─▶ waits
//! waits ─▶ approved: missed · rejected: caught · taken back: a switch, too much to do, too late, other rules, switched off
//! ```
//!
//! It is no proposal: its state ([`chaperone_core::writeback::Canary`]) leads nowhere but to its end, no work item is
//! ever made for it, and its patient is at no EHR. `rules` has the list, `imagined` what is made up, `shown` what pages
//! say of it while it waits and afterwards, `vigilance` the counts.
//!
//! # Source
//! Requirement R104; OWASP ASI09, human-agent trust exploitation. Disclosed to staff, because what is measured in secret
//! teaches people to distrust what they are shown.

mod imagined;
mod rules;
mod shown;
mod vigilance;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use chaperone_core::Timestamp;
use chaperone_core::canary::{CanaryEnd, CanaryMark, CanarySeed};
use chaperone_core::event::{Event, StreamId};
use chaperone_core::gate::Gate;
use chaperone_core::ids::{CanaryId, PatientToken, WritebackId};
use chaperone_core::mode::Mode;
use chaperone_core::ports::{
    Commit, CommitFailed, EhrReadFailed, EhrSearch, Expected, KeyVaultFailed, PayloadClass,
    StoreFailed,
};
use chaperone_core::principal::{Actor, Role, SystemPart};
use chaperone_core::resource::ResourceType;
use chaperone_core::search::escape_search_value;
use chaperone_core::writeback::{Command, StateName, Writeback, WritebackEvent};
use serde_json::{Map, Value};

use self::imagined::{Imagination, Imagined, Likeness, MadeUp, make_up};
use self::rules::Pool;
pub(crate) use self::rules::{CanaryDeclared, CanaryRules};
pub(crate) use self::shown::{Discretion, is_of_another, is_opening, was_decided_by};
pub use self::vigilance::{CanaryRow, VigilanceRow};
use crate::context::{Engine, after};
use crate::errors::CallError;
use crate::projection::WritebackRow;
use crate::tokens::{TokenFailed, TokenTarget};
use crate::transition::{InHand, MoveFailed};
use crate::vault::VaultFailed;
use crate::views::ROWS_MAX;

/// Seconds of a week.
const WEEK_S: i64 = 7 * 24 * 3_600;
/// For how long after its time a canary may still be put before somebody, where it could not be at once.
const OPEN_S: i64 = 12 * 3_600;
/// What was made up happened so many seconds ago at least, and so many at most.
const LATELY_S: std::ops::Range<i64> = 600..10_800;
/// What the record of a look at the patient in whose likeness one is made calls it, and what is read of them.
const LIKENESS: &str = "oversight.likeness";
const LIKENESS_FIELDS: [&str; 2] = ["id", "identifier"];

/// That canaries are on, which they are only with this: staff were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CanariesDisclosed {
    /// Since when staff know that there may be canaries. None is made before.
    pub since: Timestamp,
}

/// Why canaries could not be looked after. They stay as they are then.
#[derive(Debug, thiserror::Error)]
pub enum CanaryFailed {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// It could not be recorded.
    #[error("a canary could not be recorded")]
    Commit(#[from] CommitFailed),
    /// The key vault failed.
    #[error(transparent)]
    Keys(#[from] KeyVaultFailed),
    /// A token could not be made.
    #[error(transparent)]
    Token(#[from] TokenFailed),
    /// The EHR could not say that nobody is the one who was made up.
    #[error("the EHR could not say that nobody is the invented patient: {0}")]
    Ehr(#[from] EhrReadFailed),
    /// It could not be made as an agent's proposal would be.
    #[error("a canary could not be made: {}", .0.message)]
    Call(#[from] CallError),
}

impl From<MoveFailed> for CanaryFailed {
    fn from(failed: MoveFailed) -> Self {
        match failed {
            MoveFailed::Store(failed) => CanaryFailed::Store(failed),
            other => CanaryFailed::Store(StoreFailed::Corrupt(other.to_string())),
        }
    }
}

/// Turns of which it came out that nothing can be made of them: not tried again until this node starts anew.
#[derive(Debug, Default)]
pub(crate) struct Unfit(Mutex<BTreeSet<WritebackId>>);

impl Unfit {
    fn add(&self, id: WritebackId) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id);
    }

    fn holds(&self, id: WritebackId) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&id)
    }
}

/// When one canary of a pool is due in a week, and what it is called then.
struct Turn {
    due: Timestamp,
    id: WritebackId,
    /// Which of those that fit.
    pick: u64,
}

impl Engine {
    /// Since when staff have been told that there may be canaries, while they are on.
    pub fn canaries_disclosed(&self) -> Option<CanariesDisclosed> {
        let now = self.now();
        self.config.canaries.filter(|it| it.since <= now)
    }

    /// Takes back what must not wait any longer, and puts before approvers what is due. Returns how many of either.
    ///
    /// # Errors
    /// [`CanaryFailed`]; what was done before it stays.
    pub async fn tend_canaries(&self) -> Result<usize, CanaryFailed> {
        let mut moved = self.take_back_canaries().await?;
        if self.canaries_disclosed().is_none() || !self.is_quiet().await? {
            return Ok(moved);
        }
        let rules = Arc::clone(&self.canaries);
        for pool in &rules.pools {
            for turn in 0..pool.per_week {
                moved = moved.saturating_add(usize::from(self.put_one(pool, turn).await?));
            }
        }
        Ok(moved)
    }

    /// Whether no switch stands anywhere.
    async fn is_quiet(&self) -> Result<bool, StoreFailed> {
        let (modes, _version) = self.modes().await?;
        Ok(modes.switched.iter().all(|(_, mode)| *mode == Mode::Normal))
    }

    /// What really waits for a role.
    async fn waiting_for(&self, role: Role) -> Result<Vec<WritebackRow>, StoreFailed> {
        let rows = self.rows_in(StateName::AwaitingApproval, ROWS_MAX).await?;
        let is_theirs = |row: &WritebackRow| match &row.gate {
            Some(Gate::Approve { roles } | Gate::Approve2f { roles }) => roles.contains(&role),
            Some(Gate::TwoPerson { first, second }) => *first == role || *second == role,
            _ => false,
        };
        Ok(rows.into_iter().filter(is_theirs).collect())
    }

    async fn take_back_canaries(&self) -> Result<usize, CanaryFailed> {
        let mut moved = 0;
        for row in self.rows_in(StateName::Canary, ROWS_MAX).await? {
            let mut hand = self.take_in_hand(row.id).await?;
            let Writeback::Canary(canary) = &hand.state else {
                continue;
            };
            let ruled = canary.waiting().ruled();
            let now = self.now();
            let end = if self.canaries_disclosed().is_none() {
                CanaryEnd::SwitchedOff
            } else if ruled.ruling.bundle != *self.bundle.digest() {
                CanaryEnd::RulesChanged
            } else if !self.is_quiet().await? {
                CanaryEnd::Mode
            } else if self.waiting_for(canary.mark().pool).await?.len() > self.canaries.waiting_max
            {
                CanaryEnd::Busy
            } else if now >= self.first_look(ruled, hand.proposed()) {
                // Before anybody is reminded of it: it counts for nobody's time.
                CanaryEnd::Expired
            } else {
                continue;
            };
            hand.step(Command::WithdrawCanary { end }, now)?;
            let mut commit = self.commit_as(overseeing());
            hand.write_into(&mut commit)?;
            match self.store.commit(commit).await {
                Ok(_) => {
                    moved += 1;
                    self.announce_change();
                }
                // Somebody decided about it just now.
                Err(CommitFailed::Conflict { .. }) => {}
                Err(failed) => return Err(failed.into()),
            }
        }
        Ok(moved)
    }

    /// The draw of one of a pool's canaries of this week: under a key, so that nobody can tell when it comes.
    async fn turn_of(&self, pool: &Pool, nth: u32) -> Result<Turn, CanaryFailed> {
        let week = self.now().as_second().div_euclid(WEEK_S);
        let draw = async |what: &[u8]| {
            let role = pool.role.as_str().as_bytes();
            let parts = [
                b"canary".as_slice(),
                what,
                role,
                &week.to_be_bytes(),
                &nth.to_be_bytes(),
            ];
            self.keyed_digest(PayloadClass::Derived, None, &parts).await
        };
        let when = draw(b"when").await?;
        let named = draw(b"id").await?;
        let eight = |bytes: &[u8]| {
            bytes
                .iter()
                .take(8)
                .fold(0_u64, |all, byte| (all << 8) | u64::from(*byte))
        };
        let span = WEEK_S.saturating_sub(OPEN_S).unsigned_abs().max(1);
        let into = i64::try_from(eight(when.as_bytes()) % span).unwrap_or(0);
        let due = Timestamp::from_second(week.saturating_mul(WEEK_S).saturating_add(into));
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(named.as_bytes()) {
            *to = *from;
        }
        Ok(Turn {
            due: due.unwrap_or(Timestamp::MAX),
            id: WritebackId::from_random(id),
            pick: eight(named.as_bytes().get(16..).unwrap_or_default()),
        })
    }

    async fn put_one(&self, pool: &Pool, nth: u32) -> Result<bool, CanaryFailed> {
        let turn = self.turn_of(pool, nth).await?;
        let now = self.now();
        if now < turn.due || now >= after(turn.due, OPEN_S) {
            return Ok(false);
        }
        if self.unfit_canaries.holds(turn.id) {
            return Ok(false);
        }
        match self.take_in_hand(turn.id).await {
            Err(MoveFailed::Missing) => {}
            Ok(_) => return Ok(false),
            Err(failed) => return Err(failed.into()),
        }
        let waiting = self.waiting_for(pool.role).await?;
        if waiting.len() > self.canaries.waiting_max {
            return Ok(false);
        }
        let used = self.used_lately().await?;
        let among = |canary: &CanaryDeclared| {
            let alike = waiting.iter().filter(|row| {
                row.intent == canary.intent && row.tool == canary.tool && row.patient.is_some()
            });
            alike.count() >= self.canaries.waiting_min
        };
        let fit: Vec<&CanaryDeclared> = self
            .canaries
            .canaries
            .iter()
            .filter(|it| it.pool == pool.role && !used.contains(&it.id) && among(it))
            .collect();
        let at = usize::try_from(turn.pick).unwrap_or(0);
        let Some(canary) = at.checked_rem(fit.len()).and_then(|at| fit.get(at)) else {
            return Ok(false);
        };
        let patient = waiting
            .iter()
            .filter(|row| row.tool == canary.tool)
            .find_map(|row| row.patient);
        match patient {
            Some(patient) => self.put(canary, turn.id, patient).await,
            None => Ok(false),
        }
    }

    /// Those that were put before somebody in the last weeks, or wait.
    async fn used_lately(&self) -> Result<BTreeSet<CanaryId>, StoreFailed> {
        let weeks = i64::from(self.canaries.again_after_weeks);
        let since = after(self.now(), weeks.saturating_mul(WEEK_S).saturating_neg());
        let mut rows = self.settled_canaries().await?;
        rows.extend(self.rows_in(StateName::Canary, ROWS_MAX).await?);
        Ok(rows
            .into_iter()
            .filter(|row| row.proposed >= since)
            .filter_map(|row| row.canary.map(|it| it.canary))
            .collect())
    }

    /// The bundle says whom a canary is about, so a log that told a namesake from any other reason would say that the
    /// EHR has a patient of that name and birth date.
    fn say_unfit(&self, canary: &CanaryDeclared, id: WritebackId) {
        tracing::warn!(
            canary = %canary.id,
            "a canary of the bundle is not fit for this EHR or these rules; it was not made"
        );
        self.unfit_canaries.add(id);
    }

    /// Puts one before its approvers, in the likeness of what waits there for `like`.
    async fn put(
        &self,
        canary: &CanaryDeclared,
        id: WritebackId,
        like: PatientToken,
    ) -> Result<bool, CanaryFailed> {
        if self.has_namesake(canary).await? {
            self.say_unfit(canary, id);
            return Ok(false);
        }
        let like = self.look_for_likeness(like).await?;
        let mut byte = [0; 2];
        self.random.fill(&mut byte);
        let span = LATELY_S.end.saturating_sub(LATELY_S.start).max(1);
        let ago = LATELY_S
            .start
            .saturating_add(i64::from(u16::from_be_bytes(byte)) % span);
        let lately = after(self.now(), ago.saturating_neg());
        let made = make_up(
            canary,
            &Likeness {
                of: &like,
                random: self.random.as_ref(),
            },
            lately,
        );
        if self.knows_made_up(&made).await? {
            return Ok(false);
        }
        let patient = self.patient_token(&made.patient_id).await?;
        let sent = self.sent(canary, &made, patient).await?;
        let mut commit = self.commit_as(overseeing());
        let imagining = self.imagining(made.imagination.clone());
        let ruled = imagining
            .rule_imagined(canary, id, patient, sent, &mut commit)
            .await?;
        let fit = ruled.filter(|ruled| {
            // A rule that warns has found it already, and no service is asked about nobody.
            !ruled.validation.needs_override()
                && self.decision_rules.services_for(ruled.changes()).is_empty()
        });
        let sealed = self.seal_imagination(&made.imagination, patient).await?;
        let mark = CanaryMark {
            canary: canary.id.clone(),
            pool: canary.pool,
            imagined: sealed.address,
        };
        commit.payloads.push(sealed);
        let seed = fit.map(|ruled| CanarySeed { mark, ruled });
        let hand = seed.and_then(|seed| {
            let event = WritebackEvent::CanarySeeded(Box::new(seed));
            InHand::propose(event, id, commit.at).ok()
        });
        let Some(hand) = hand else {
            self.say_unfit(canary, id);
            return Ok(false);
        };
        self.put_before_people(hand, commit).await
    }

    /// A patient of the EHR, for the form of their identifiers. The look is recorded first, as anybody's is.
    async fn look_for_likeness(&self, like: PatientToken) -> Result<Value, CanaryFailed> {
        let look = self.ceiling(LIKENESS, Some(like), &LIKENESS_FIELDS)?;
        let mut commit = self.commit_as(overseeing());
        let event = Event::ReadPermitted(Box::new(look));
        commit.append(StreamId::Oversight, Expected::Any, event);
        self.store.commit(commit).await?;
        let id = self.patient_id(like).await?;
        Ok(self.ehr.read(&patient_type()?, &id).await?)
    }

    async fn put_before_people(
        &self,
        mut hand: InHand,
        mut commit: Commit,
    ) -> Result<bool, CanaryFailed> {
        hand.write_into(&mut commit)?;
        match self.store.commit(commit).await {
            Ok(_) => {
                self.announce_change();
                self.notify_waiting(&hand);
                Ok(true)
            }
            // Another node was first.
            Err(CommitFailed::Conflict { .. }) => Ok(false),
            Err(failed) => Err(failed.into()),
        }
    }

    /// What an agent would have sent for it.
    async fn sent(
        &self,
        canary: &CanaryDeclared,
        made: &MadeUp,
        patient: PatientToken,
    ) -> Result<Map<String, Value>, CanaryFailed> {
        let mut targets = Vec::with_capacity(made.records.len());
        for (kind, id) in made.records.values() {
            targets.push(TokenTarget {
                resource: ResourceType::new(kind)
                    .map_err(|e| StoreFailed::Corrupt(e.to_string()))?,
                id: id.clone(),
                patient: Some(patient),
            });
        }
        let tokens = self.resource_tokens(&targets).await?;
        let named = |name: &str| {
            let mut all = made.records.keys().zip(&tokens);
            all.find(|(known, _)| *known == name)
                .map_or(Value::Null, |(_, token)| Value::from(token.to_string()))
        };
        Ok(canary.said(named, &made.patient_id, made.lately))
    }

    /// Whether the EHR knows somebody by that id or one of those identifiers.
    async fn knows_made_up(&self, made: &MadeUp) -> Result<bool, CanaryFailed> {
        match self.ehr.read(&patient_type()?, &made.patient_id).await {
            Err(EhrReadFailed::NotFound) => {}
            Ok(_) => return Ok(true),
            Err(failed) => return Err(failed.into()),
        }
        for (system, value) in &made.identifiers {
            let value = escape_search_value(value);
            let token = match system.is_empty() {
                true => value,
                false => format!("{system}|{value}"),
            };
            if self.finds_somebody(vec![("identifier", token)]).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the EHR knows somebody by that name and birth date.
    async fn has_namesake(&self, canary: &CanaryDeclared) -> Result<bool, CanaryFailed> {
        let (family, birth_date) = canary.known_by();
        let parameters = vec![
            ("family", escape_search_value(family)),
            ("birthdate", birth_date.to_owned()),
        ];
        self.finds_somebody(parameters).await
    }

    async fn finds_somebody(
        &self,
        parameters: Vec<(&'static str, String)>,
    ) -> Result<bool, CanaryFailed> {
        let search = EhrSearch {
            resource: patient_type()?,
            parameters: parameters
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            limit: 1,
        };
        Ok(!self.ehr.search(search).await?.resources.is_empty())
    }

    async fn seal_imagination(
        &self,
        has: &Imagination,
        patient: PatientToken,
    ) -> Result<chaperone_core::ports::SealedPayload, CanaryFailed> {
        let bytes = serde_json::to_vec(has).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
        Ok(self
            .seal(PayloadClass::Clinical, Some(patient), &bytes)
            .await?)
    }

    /// What was made up for a canary.
    async fn imagination(&self, mark: &CanaryMark) -> Result<Imagination, VaultFailed> {
        let bytes = self.unseal(&mark.imagined).await?;
        serde_json::from_slice(&bytes)
            .map_err(|e| VaultFailed::Store(StoreFailed::Corrupt(e.to_string())))
    }

    /// This engine over an EHR that has what was made up. It shows pages and rules; nothing it holds can be sent.
    fn imagining(&self, has: Imagination) -> Engine {
        self.over(Arc::new(Imagined {
            real: Arc::clone(&self.ehr),
            has,
        }))
    }
}

fn overseeing() -> Actor {
    Actor::System {
        part: SystemPart::Oversight,
    }
}

fn patient_type() -> Result<ResourceType, StoreFailed> {
    ResourceType::new("Patient").map_err(|e| StoreFailed::Corrupt(e.to_string()))
}
