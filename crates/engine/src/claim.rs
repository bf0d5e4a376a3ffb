//! Who of several people decides about a write-back: claimed, let go, taken over with a note, handed to a colleague
//! or to everybody of a role.
//!
//! A claim moves nothing and lowers nothing: it is asked for in addition to everything that a decision needs. It holds
//! for minutes, for the gravest changes for fewer, and never for more than a share of the time that is left to decide
//! (`rules/deciding.toml`), so that nobody who goes away holds up what is urgent. While it holds, another person's
//! approval and rejection are refused; they can take it over, and say why.
//!
//! A claim is an authoritative record that ends by itself. The decision ends it in its own commit, guarded by the
//! revision that was looked at: of a take-over and a decision at once, one is told to look again.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::Timestamp;
use chaperone_core::change::ChangeClass;
use chaperone_core::claim::{ClaimEvent, ClaimHolder};
use chaperone_core::digest::PayloadAddress;
use chaperone_core::event::Event;
use chaperone_core::gate::Gate;
use chaperone_core::ids::{AccountName, WritebackId};
use chaperone_core::phi::Phi;
use chaperone_core::ports::{
    Commit, CommitFailed, Guard, KeyVaultFailed, Listing, Record, RecordChange, RecordKey,
    StoreFailed,
};
use chaperone_core::principal::{Actor, Human, Role};
use chaperone_core::writeback::{Ruled, Writeback};
use serde::{Deserialize, Serialize};

use crate::approve::DecideFailed;
use crate::context::{Engine, after};
use crate::cover::Cover;
use crate::people::StoredAccount;
use crate::transition::{InHand, MoveFailed};
use crate::vault::VaultFailed;
use crate::views::{ROWS_MAX, Turn};

/// Collection of claims in force, by write-back.
pub(crate) const CLAIMS: &str = "claim";

/// How long claims hold; `rules/deciding.toml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClaimRules {
    /// Seconds, for classes up to M3.
    pub(crate) hold_s: u32,
    /// Seconds, for M4 and M5.
    pub(crate) hold_grave_s: u32,
    /// No longer than this part of the time that is left: 4 for a quarter.
    pub(crate) part_of_time_left: u32,
    /// No claim for less than this many seconds.
    pub(crate) hold_s_min: u32,
}

/// A claim as it rests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredClaim {
    holder: ClaimHolder,
    until: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    note: Option<PayloadAddress>,
}

/// A claim in force, as one person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimShown {
    /// Who has it in hand.
    pub holder: ClaimHolder,
    /// Until when by itself.
    pub until: Timestamp,
    /// Whether it is this person, or a role of theirs.
    pub yours: bool,
}

/// Whom something is handed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandTo {
    /// A colleague, by account.
    Colleague(AccountName),
    /// Everybody of a role.
    Pool(Role),
}

/// Who something could be handed to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandChoices {
    /// Others who can decide it.
    pub colleagues: Vec<Colleague>,
    /// Roles that can decide it.
    pub pools: Vec<Role>,
}

/// Somebody to whom something could be handed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Colleague {
    /// Their account.
    pub account: AccountName,
    /// Who takes it in their place, while they are away.
    pub cover: Option<AccountName>,
}

/// Why nothing was claimed, let go or handed over.
#[derive(Debug, thiserror::Error)]
pub enum ClaimFailed {
    /// There is no such write-back, or it is not for this person: the same answer.
    #[error("there is nothing here")]
    Missing,
    /// It does not wait for people.
    #[error("this does not wait for anybody's decision any more")]
    NotOpen,
    /// It waits for others.
    #[error("this is not yours to decide, so it is not yours to claim or hand over")]
    NotYours,
    /// Somebody has it.
    #[error(
        "this is in the hands of {holder}; take it over with a note, or wait until they let it go"
    )]
    Held {
        /// Who, in words.
        holder: String,
        /// Until when by itself.
        until: Timestamp,
    },
    /// This person does not have it.
    #[error("you do not have this in hand")]
    NotHeld,
    /// A note is needed.
    #[error("a note is needed, of 3 to 2,000 characters")]
    NoteNeeded,
    /// Not somebody, or no role, who can decide it.
    #[error("it can be handed only to somebody else who can decide it, or to a role that can")]
    NotTheirs,
    /// They are away, and so is whoever covers for them.
    #[error(
        "they are away, and so is whoever covers for them; hand it to somebody else or to a role"
    )]
    BothAway,
    /// There is too little time left.
    #[error(
        "there is too little time left to claim it; decide it, or leave it to whoever is first"
    )]
    TooLate,
    /// Somebody else was first.
    #[error("somebody else acted on this just now; look at it again")]
    Conflict,
    /// The note cannot be sealed or opened.
    #[error(transparent)]
    Vault(#[from] VaultFailed),
    /// The key vault failed.
    #[error(transparent)]
    Keys(#[from] KeyVaultFailed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// It could not be recorded.
    #[error(transparent)]
    Commit(CommitFailed),
}

impl From<CommitFailed> for ClaimFailed {
    fn from(failed: CommitFailed) -> Self {
        match failed {
            CommitFailed::Conflict { .. } | CommitFailed::Record { .. } => ClaimFailed::Conflict,
            other => ClaimFailed::Commit(other),
        }
    }
}

impl From<MoveFailed> for ClaimFailed {
    fn from(failed: MoveFailed) -> Self {
        match failed {
            MoveFailed::Missing | MoveFailed::Refused(_) => ClaimFailed::Missing,
            MoveFailed::Store(failed) => ClaimFailed::Store(failed),
        }
    }
}

impl From<DecideFailed> for ClaimFailed {
    fn from(failed: DecideFailed) -> Self {
        match failed {
            DecideFailed::Store(failed) => ClaimFailed::Store(failed),
            DecideFailed::Keys(failed) => ClaimFailed::Keys(failed),
            DecideFailed::ReasonNeeded => ClaimFailed::NoteNeeded,
            _ => ClaimFailed::Conflict,
        }
    }
}

/// A claim with the revision of its record.
type Known = Option<(StoredClaim, u64)>;

impl Engine {
    /// Takes a write-back in hand. Whoever has it already keeps it as it was.
    ///
    /// # Errors
    /// [`ClaimFailed`]; nothing is claimed then.
    pub async fn claim(&self, by: &Human, id: WritebackId) -> Result<(), ClaimFailed> {
        let (hand, known) = self.open_for(by, id).await?;
        if let Some((claim, _)) = &known {
            let is_own =
                matches!(&claim.holder, ClaimHolder::Person { person, .. } if *person == by.person);
            if is_own {
                return Ok(());
            }
            // From one's own pool it may be taken.
            if !is_of(&claim.holder, by) {
                return Err(held(claim));
            }
        }
        let until = self.claim_until(&hand.state)?;
        let claim = StoredClaim {
            holder: person(by),
            until,
            note: known.as_ref().and_then(|(claim, _)| claim.note),
        };
        let commit = self.commit_as(Actor::from(by));
        self.put_claim(
            hand,
            known,
            Some(claim),
            ClaimEvent::Claimed { until },
            commit,
        )
        .await
    }

    /// Lets go of what one has in hand.
    ///
    /// # Errors
    /// [`ClaimFailed::NotHeld`], store failures.
    pub async fn release_claim(&self, by: &Human, id: WritebackId) -> Result<(), ClaimFailed> {
        let hand = self.take_in_hand(id).await?;
        let known = self.claim_of(id).await?;
        if !known
            .as_ref()
            .is_some_and(|(claim, _)| is_of(&claim.holder, by))
        {
            return Err(ClaimFailed::NotHeld);
        }
        let commit = self.commit_as(Actor::from(by));
        self.put_claim(hand, known, None, ClaimEvent::Released, commit)
            .await
    }

    /// Takes over what somebody else has in hand, with a note that says why.
    ///
    /// # Errors
    /// [`ClaimFailed`]; it stays with whoever had it then.
    pub async fn take_over(
        &self,
        by: &Human,
        id: WritebackId,
        note: &str,
    ) -> Result<(), ClaimFailed> {
        let (hand, known) = self.open_for(by, id).await?;
        let Some((claim, _)) = &known else {
            return Err(ClaimFailed::NotHeld);
        };
        let from = claim.holder.clone();
        let mut commit = self.commit_as(Actor::from(by));
        let note = self.seal_reason(&hand, note, &mut commit).await?;
        let until = self.claim_until(&hand.state)?;
        let taken = StoredClaim {
            holder: person(by),
            until,
            note: Some(note),
        };
        let event = ClaimEvent::TakenOver { from, until, note };
        self.put_claim(hand, known, Some(taken), event, commit)
            .await
    }

    /// Hands something to a colleague or to a role, with a note. Whoever can decide it may, unless somebody else has
    /// it in hand.
    ///
    /// # Errors
    /// [`ClaimFailed`]; it stays where it was then.
    pub async fn hand_over(
        &self,
        by: &Human,
        id: WritebackId,
        to: HandTo,
        note: &str,
    ) -> Result<(), ClaimFailed> {
        let (hand, known) = self.open_for(by, id).await?;
        if let Some((claim, _)) = &known
            && !is_of(&claim.holder, by)
        {
            return Err(held(claim));
        }
        let (to, instead_of) = match to {
            HandTo::Pool(role) => {
                if !open_roles(&hand.state).contains(&role) {
                    return Err(ClaimFailed::NotTheirs);
                }
                (ClaimHolder::Pool { role }, None)
            }
            HandTo::Colleague(meant) => {
                let takes = self.taker(&meant).await?.ok_or(ClaimFailed::BothAway)?;
                // Whoever covers must be able to decide by themselves: nothing of the other's part is theirs.
                let colleague = self.stored_account(&takes).await?;
                let colleague = colleague
                    .map(|(account, _)| account)
                    .filter(|account| can_decide(account, by, &hand.state))
                    .ok_or(ClaimFailed::NotTheirs)?;
                (
                    person(&colleague.human()),
                    (takes != meant).then_some(meant),
                )
            }
        };
        let mut commit = self.commit_as(Actor::from(by));
        let note = self.seal_reason(&hand, note, &mut commit).await?;
        let until = self.claim_until(&hand.state)?;
        let handed = StoredClaim {
            holder: to.clone(),
            until,
            note: Some(note),
        };
        let event = ClaimEvent::HandedOver {
            to,
            until,
            note,
            instead_of,
        };
        self.put_claim(hand, known, Some(handed), event, commit)
            .await
    }

    /// Everything that somebody has in hand now, as this person sees it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn claims(
        &self,
        by: &Human,
    ) -> Result<BTreeMap<WritebackId, ClaimShown>, StoreFailed> {
        let listing = Listing {
            limit: ROWS_MAX,
            ..Listing::default()
        };
        let records = self
            .store
            .records(&self.config.tenant, CLAIMS, listing, self.now())
            .await?;
        let mut claims = BTreeMap::new();
        for record in records {
            let Ok(id) = record.key.key.parse::<WritebackId>() else {
                continue;
            };
            let claim = parse(record.value)?;
            claims.insert(id, shown(claim, by));
        }
        Ok(claims)
    }

    /// Who has one write-back in hand, and the note that came with it, for somebody who can decide it.
    ///
    /// # Errors
    /// [`ClaimFailed::Missing`] for anybody else.
    pub async fn claim_seen(
        &self,
        by: &Human,
        id: WritebackId,
    ) -> Result<Option<(ClaimShown, Option<Phi<String>>)>, ClaimFailed> {
        let hand = self.take_in_hand(id).await?;
        if !turn(&hand.state, by).is_some_and(|turn| turn.is_yours()) {
            return Err(ClaimFailed::Missing);
        }
        let Some((claim, _)) = self.claim_of(id).await? else {
            return Ok(None);
        };
        let note = match &claim.note {
            None => None,
            Some(address) => {
                let bytes = self.unseal(address).await?;
                Some(Phi::new(String::from_utf8_lossy(&bytes).into_owned()))
            }
        };
        Ok(Some((shown(claim, by), note)))
    }

    /// Whom this person could hand something to.
    ///
    /// # Errors
    /// [`ClaimFailed::NotYours`] and the like; store failures.
    pub async fn hand_choices(
        &self,
        by: &Human,
        id: WritebackId,
    ) -> Result<HandChoices, ClaimFailed> {
        let (hand, _) = self.open_for(by, id).await?;
        let now = self.now();
        let mut away: BTreeMap<AccountName, Cover> = BTreeMap::new();
        for cover in self.covers().await? {
            if cover.is_now(now) {
                away.insert(cover.away.clone(), cover);
            }
        }
        let accounts = self.stored_accounts().await?;
        let can: BTreeSet<&AccountName> = accounts
            .iter()
            .filter(|account| can_decide(account, by, &hand.state))
            .map(|account| &account.name)
            .collect();
        let colleagues = can.iter().filter_map(|name| {
            let cover = away.get(*name).map(|cover| cover.cover.clone());
            // What cannot be taken is not offered.
            let is_taken = cover
                .as_ref()
                .is_none_or(|cover| can.contains(cover) && !away.contains_key(cover));
            is_taken.then(|| Colleague {
                account: (*name).clone(),
                cover,
            })
        });
        Ok(HandChoices {
            colleagues: colleagues.collect(),
            pools: open_roles(&hand.state),
        })
    }

    /// Who takes what is handed to somebody: they themselves, or whoever covers while they are away; nobody where that
    /// one is away too.
    async fn taker(&self, meant: &AccountName) -> Result<Option<AccountName>, StoreFailed> {
        let Some(cover) = self.cover_now(meant).await? else {
            return Ok(Some(meant.clone()));
        };
        let is_away_too = self.cover_now(&cover.cover).await?.is_some();
        Ok((!is_away_too).then_some(cover.cover))
    }

    /// Refuses a decision about what somebody else has in hand; ends every claim in the commit of the decision, also
    /// one that is over by this node's clock and not by another's.
    pub(crate) async fn end_claim(
        &self,
        by: &Human,
        id: WritebackId,
        commit: &mut Commit,
    ) -> Result<(), DecideFailed> {
        self.guard_claim(by, id, commit).await?;
        let key = RecordKey::new(CLAIMS, id);
        commit.records.push(RecordChange::Delete(key));
        Ok(())
    }

    /// Refuses what concerns somebody else's claim, also one that is made before the commit.
    pub(crate) async fn guard_claim(
        &self,
        by: &Human,
        id: WritebackId,
        commit: &mut Commit,
    ) -> Result<(), DecideFailed> {
        let known = self.claim_of(id).await?;
        commit.guards.push(Guard::RecordAt {
            key: RecordKey::new(CLAIMS, id),
            revision: known.as_ref().map(|(_, revision)| *revision),
        });
        match known {
            Some((claim, _)) if !is_of(&claim.holder, by) => Err(DecideFailed::Claimed {
                holder: words(&claim.holder),
                until: claim.until,
            }),
            _ => Ok(()),
        }
    }

    /// A write-back that this person can decide, with the claim in force.
    async fn open_for(&self, by: &Human, id: WritebackId) -> Result<(InHand, Known), ClaimFailed> {
        let hand = self.take_in_hand(id).await?;
        let Some(turn) = turn(&hand.state, by) else {
            return Err(ClaimFailed::NotOpen);
        };
        if !turn.is_yours() {
            return Err(ClaimFailed::NotYours);
        }
        let known = self.claim_of(id).await?;
        Ok((hand, known))
    }

    async fn claim_of(&self, id: WritebackId) -> Result<Known, StoreFailed> {
        let key = RecordKey::new(CLAIMS, id);
        let record = self
            .store
            .record(&self.config.tenant, &key, self.now())
            .await?;
        record
            .map(|record| Ok((parse(record.value)?, record.revision)))
            .transpose()
    }

    /// Until when a claim made now holds.
    fn claim_until(&self, state: &Writeback) -> Result<Timestamp, ClaimFailed> {
        let ruled = state.ruled().ok_or(ClaimFailed::NotOpen)?;
        let now = self.now();
        let left = ruled.order.approve_by.duration_since(now).as_secs();
        let hold = self.tables.claim_rules().hold_s(ruled.ruling.class, left);
        match hold {
            Some(hold) => Ok(after(now, hold)),
            None => Err(ClaimFailed::TooLate),
        }
    }

    async fn put_claim(
        &self,
        mut hand: InHand,
        known: Known,
        claim: Option<StoredClaim>,
        event: ClaimEvent,
        mut commit: Commit,
    ) -> Result<(), ClaimFailed> {
        let key = RecordKey::new(CLAIMS, hand.id);
        let revision = known.map(|(_, revision)| revision);
        commit.records.push(match (claim, revision) {
            (Some(claim), revision) => {
                let value = serde_json::to_value(&claim)
                    .map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
                let record = Record::new(CLAIMS, hand.id, value).expiring(claim.until);
                match revision {
                    Some(revision) => RecordChange::Update(record, revision),
                    None => RecordChange::Create(record),
                }
            }
            (None, _) => RecordChange::Consume(key),
        });
        hand.note(&mut commit, Event::Claim(event))?;
        self.store.commit(commit).await?;
        self.announce_change();
        Ok(())
    }
}

impl ClaimRules {
    /// How many seconds a claim holds when so many are left; nothing where that is too few.
    fn hold_s(&self, class: ChangeClass, left_s: i64) -> Option<i64> {
        let hold = if class >= ChangeClass::M4 {
            self.hold_grave_s
        } else {
            self.hold_s
        };
        let part = left_s.checked_div(i64::from(self.part_of_time_left.max(1)))?;
        let hold = i64::from(hold).min(part);
        (hold >= i64::from(self.hold_s_min)).then_some(hold)
    }
}

fn parse(value: serde_json::Value) -> Result<StoredClaim, StoreFailed> {
    serde_json::from_value(value)
        .map_err(|e| StoreFailed::Corrupt(format!("a claim cannot be read: {e}")))
}

fn person(human: &Human) -> ClaimHolder {
    ClaimHolder::Person {
        person: human.person,
        account: human.account.clone(),
    }
}

fn is_of(holder: &ClaimHolder, human: &Human) -> bool {
    match holder {
        ClaimHolder::Person { person, .. } => *person == human.person,
        ClaimHolder::Pool { role } => human.holds(*role),
    }
}

fn shown(claim: StoredClaim, by: &Human) -> ClaimShown {
    ClaimShown {
        yours: is_of(&claim.holder, by),
        holder: claim.holder,
        until: claim.until,
    }
}

fn held(claim: &StoredClaim) -> ClaimFailed {
    ClaimFailed::Held {
        holder: words(&claim.holder),
        until: claim.until,
    }
}

fn words(holder: &ClaimHolder) -> String {
    match holder {
        ClaimHolder::Person { account, .. } => account.to_string(),
        ClaimHolder::Pool { role } => format!("everybody with the role {role}"),
    }
}

fn ruled(state: &Writeback) -> Option<&Ruled> {
    state.before_people().map(|waiting| waiting.ruled())
}

pub(crate) fn turn(state: &Writeback, by: &Human) -> Option<Turn> {
    let waiting = state.before_people()?;
    let ruled = waiting.ruled();
    Some(Turn::of_ruled(ruled, waiting.approvals(), false, by))
}

/// Whether the holder of an account is somebody else who can decide now.
fn can_decide(account: &StoredAccount, by: &Human, state: &Writeback) -> bool {
    let human = account.human();
    human.person != by.person
        && account.password.is_some()
        && !account.disabled
        && turn(state, &human).is_some_and(|turn| turn.is_yours())
}

/// Roles whose say is still missing.
fn open_roles(state: &Writeback) -> Vec<Role> {
    let Some(ruled) = ruled(state) else {
        return Vec::new();
    };
    match &ruled.ruling.gate {
        Gate::Approve { roles } | Gate::Approve2f { roles } => roles.iter().copied().collect(),
        Gate::TwoPerson { first, second } => {
            let given = |role: &Role| {
                state
                    .before_people()
                    .is_none_or(|waiting| waiting.approvals().iter().any(|it| it.role == *role))
            };
            [*first, *second]
                .into_iter()
                .filter(|role| !given(role))
                .collect()
        }
        Gate::Auto | Gate::AutoVerified { .. } | Gate::Deny => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_holds_for_minutes_and_for_a_part_of_what_is_left() {
        let rules = ClaimRules {
            hold_s: 900,
            hold_grave_s: 300,
            part_of_time_left: 4,
            hold_s_min: 30,
        };
        for (class, left, hold) in [
            (ChangeClass::M2, 86_400, Some(900)),
            (ChangeClass::M3, 3_600, Some(900)),
            (ChangeClass::M3, 1_200, Some(300)),
            (ChangeClass::M4, 900, Some(225)),
            (ChangeClass::M4, 86_400, Some(300)),
            (ChangeClass::M4, 120, Some(30)),
            (ChangeClass::M4, 119, None),
            (ChangeClass::M5, -5, None),
        ] {
            assert_eq!(rules.hold_s(class, left), hold, "{class} {left}");
        }
    }
}
