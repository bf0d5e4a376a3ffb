//! Decision support: before an order can be approved, the services of the bundle's list are asked about it, and a
//! critical card that they give holds it until a person says why it goes on.
//!
//! ```text
//! review opened, or approved ─▶ asked (bounded time, size, prefetch) ─┬─ cards ─▶ shown; a critical one blocks ─▶ overridden with a reason
//!                                                                     └─ not heard ─▶ shown as not checked; blocks or warns by kind
//! ```
//! What was heard belongs to one order by its digest: other content is asked about anew, and so is the same content
//! when the answer is old. Cards are text from outside: shown in plain words, never applied. Suggestions and system
//! actions are counted and thrown away.
//!
//! Start at [`Engine::decision_support`]; `rules` says who is asked about what, `card` makes plain words of a card.
//!
//! # Source
//! HL7 CDS Hooks 2.0, hook `order-sign`; requirement R105.

mod card;
mod rules;
mod told;

use chaperone_core::Timestamp;
use chaperone_core::decision_support::{DecisionSupportEvent, NotHeard, ServiceAsked};
use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::event::Event;
use chaperone_core::evidence::WriteOrder;
use chaperone_core::ids::{OverrideReason, PersonId, WritebackId};
use chaperone_core::ports::{PayloadClass, Record, RecordChange, RecordKey, StoreFailed};
use chaperone_core::principal::Human;
use chaperone_core::writeback::{Refusal, Ruled, Writeback};
use serde::{Deserialize, Serialize};

use crate::approve::DecideFailed;
use crate::claim::turn;
use crate::context::{Engine, after};
use crate::transition::InHand;
use crate::vault::VaultFailed;
use crate::views::ViewFailed;

pub use card::{Card, Indicator};
pub(crate) use rules::DecisionSupportRules;
use rules::ServiceRule;

/// What was heard, by write-back.
pub(crate) const HEARD: &str = "decision_support";
/// How long it is kept after the last asking, in seconds: 30 days, beyond what an order waits. The record stays in the
/// ledger and the vault.
const KEPT_S: i64 = 30 * 24 * 3_600;
/// How soon a service that was not heard is asked again, in seconds.
const UNHEARD_AGAIN_S: i64 = 30;

/// Why an order cannot be approved for what decision support said, or did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SupportStands {
    /// A critical card that nobody has decided about.
    #[error(
        "decision support says something critical about this order; read it, and say why the order goes on, or reject it"
    )]
    Critical,
    /// A service was not heard, and orders of this kind do not go on without.
    #[error(
        "decision support could not be heard about this order, which does not go on without; try again, or order it in the EHR"
    )]
    NotHeard,
}

impl SupportStands {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            SupportStands::Critical => "decision-support-critical",
            SupportStands::NotHeard => "decision-support-not-heard",
        }
    }
}

/// What was heard about one order, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Heard {
    order: Digest,
    asked: Timestamp,
    services: Vec<ServiceAsked>,
    cards: Option<PayloadAddress>,
    critical: Vec<Digest>,
    overridden: Vec<Overridden>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Overridden {
    card: Digest,
    reason: OverrideReason,
    person: PersonId,
}

impl Heard {
    fn is_fresh(&self, order: Digest, rules: &DecisionSupportRules, now: Timestamp) -> bool {
        let is_whole = self.services.iter().all(|it| it.not_heard.is_none());
        let holds_s = if is_whole {
            rules.fresh_s()
        } else {
            UNHEARD_AGAIN_S
        };
        self.order == order && now < after(self.asked, holds_s)
    }

    fn open_critical(&self) -> bool {
        let is_open = |card: &Digest| self.overridden.iter().all(|it| it.card != *card);
        self.critical.iter().any(is_open)
    }
}

/// Over which card somebody goes on, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverCard {
    /// The digest of the order that was on the screen.
    pub order: Digest,
    /// The card, by its id.
    pub card: Digest,
    /// A code of `rules/override-reasons.toml`.
    pub reason: OverrideReason,
}

/// One card on the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardView {
    /// What it says.
    pub card: Card,
    /// Why somebody goes on over it, in the words of the bundle's list.
    pub overridden: Option<String>,
}

/// What the page shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupportView {
    /// Cards, gravest first.
    pub cards: Vec<CardView>,
    /// Services that were heard, by name.
    pub heard: Vec<String>,
    /// Services that were not: name, and why in words.
    pub unheard: Vec<(String, &'static str)>,
    /// Entries of the record that services were not told of, because they are specially protected.
    pub left_out: u32,
    /// What stands against approving.
    pub stands: Option<SupportStands>,
    /// When they were asked.
    pub asked: Timestamp,
}

impl Engine {
    /// What decision support says about an order that waits. Where it was not asked, or long ago, opening the order
    /// asks, if it is this person's turn to decide about it. Nothing for what nobody is asked about, and for who may
    /// not see what the order says.
    ///
    /// # Errors
    /// [`ViewFailed`]; what is not heard from a service is no error, but part of the answer.
    pub async fn decision_support(
        &self,
        by: &Human,
        id: WritebackId,
    ) -> Result<Option<SupportView>, ViewFailed> {
        let mut hand = self.take_in_hand(id).await?;
        if !self.sees_content(&hand.state, by)? {
            return Ok(None);
        }
        let is_their_turn = turn(&hand.state, by).is_some_and(|turn| turn.is_yours());
        let asked = match is_their_turn {
            true => self.heard_about(&mut hand, by).await,
            false => Ok(self.heard_before(id).await?.map(|(heard, _)| heard)),
        };
        let heard = match asked {
            Ok(heard) => heard,
            // Somebody else asked, or decided, at the same moment.
            Err(DecideFailed::Conflict) => self.heard_before(id).await?.map(|(heard, _)| heard),
            Err(DecideFailed::Store(failed)) => return Err(failed.into()),
            Err(DecideFailed::Commit(failed)) => return Err(failed.into()),
            Err(DecideFailed::Keys(failed)) => return Err(VaultFailed::Keys(failed).into()),
            Err(other) => return Err(StoreFailed::Corrupt(other.code().to_owned()).into()),
        };
        let (Some(heard), Some(ruled)) = (heard, hand.state.ruled()) else {
            return Ok(None);
        };
        if heard.order != ruled.order.digest {
            return Ok(None);
        }
        let cards = match self.cards_of(&heard).await.map_err(ViewFailed::from) {
            Ok(cards) => cards,
            Err(failed) if failed.is_gone() => Vec::new(),
            Err(failed) => return Err(failed),
        };
        let stands = match &hand.state {
            Writeback::AwaitingApproval(_) => self.stands(&heard, ruled).await,
            _ => None,
        };
        let mut cards: Vec<CardView> = cards
            .into_iter()
            .map(|card| {
                let over = heard.overridden.iter().find(|it| it.card == card.id);
                CardView {
                    overridden: over.map(|it| self.reason_words(&it.reason)),
                    card,
                }
            })
            .collect();
        cards.sort_by_key(|view| view.card.indicator);
        let name = |it: &ServiceAsked| self.decision_rules.name_of(&it.service);
        let unheard = heard.services.iter();
        let unheard = unheard.filter_map(|it| Some((name(it), it.not_heard?.words())));
        Ok(Some(SupportView {
            cards,
            heard: heard
                .services
                .iter()
                .filter(|it| it.not_heard.is_none())
                .map(name)
                .collect(),
            unheard: unheard.collect(),
            left_out: heard.services.iter().map(|it| it.left_out).sum(),
            stands,
            asked: heard.asked,
        }))
    }

    /// Goes on over a critical card. [`crate::decide`] says what it is for, and records what is refused.
    pub(crate) async fn try_override_card(
        &self,
        by: &Human,
        writeback: WritebackId,
        over: OverCard,
    ) -> Result<(), DecideFailed> {
        let OverCard {
            order,
            card,
            reason,
        } = over;
        let known = self.tables.override_reasons();
        if !known.iter().any(|it| it.code == reason) {
            return Err(DecideFailed::OverrideReasonUnknown);
        }
        let mut hand = self.take_in_hand(writeback).await?;
        match turn(&hand.state, by) {
            None => return Err(Refusal::NotNow(hand.state.told_name()).into()),
            Some(turn) if !turn.is_yours() => return Err(Refusal::RoleNotPermitted.into()),
            Some(_) => {}
        }
        if hand.state.ruled().map(|ruled| ruled.order.digest) != Some(order) {
            return Err(Refusal::ApprovalMismatch.into());
        }
        let kept = self.heard_before(writeback).await?;
        let (mut heard, revision) = kept.ok_or(DecideFailed::CardUnknown)?;
        let is_open =
            heard.critical.contains(&card) && heard.overridden.iter().all(|it| it.card != card);
        if heard.order != order || !is_open {
            return Err(DecideFailed::CardUnknown);
        }
        let mut commit = self.commit_as(by.into());
        self.guard_claim(by, writeback, &mut commit).await?;
        let overridden = DecisionSupportEvent::Overridden {
            order,
            card,
            reason: reason.clone(),
        };
        hand.note(&mut commit, Event::DecisionSupport(overridden))?;
        heard.overridden.push(Overridden {
            card,
            reason,
            person: by.person,
        });
        let record = record_of(writeback, &heard)?;
        commit.records.push(RecordChange::Update(record, revision));
        self.store.commit(commit).await?;
        self.announce_change();
        Ok(())
    }

    /// Whether an approval may go on for all that decision support says; asks where it was not asked, or long ago.
    pub(crate) async fn support_allows(
        &self,
        hand: &mut InHand,
        by: &Human,
    ) -> Result<(), DecideFailed> {
        let Some(heard) = self.heard_about(hand, by).await? else {
            return Ok(());
        };
        match hand.state.ruled() {
            Some(ruled) => match self.stands(&heard, ruled).await {
                Some(stands) => Err(DecideFailed::DecisionSupport(stands)),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }

    async fn stands(&self, heard: &Heard, ruled: &Ruled) -> Option<SupportStands> {
        if heard.open_critical() {
            return Some(SupportStands::Critical);
        }
        if heard.services.iter().all(|it| it.not_heard.is_none()) {
            return None;
        }
        // What cannot be opened is not known to be harmless.
        let order = self.support_order(ruled).await;
        let asked = order
            .and_then(|order| order.questions())
            .unwrap_or_default();
        let blocks = ruled.changes().enumerate().any(|(at, change)| {
            let facts = asked.get(at).map(|it| it.facts.clone()).unwrap_or_default();
            self.decision_rules.unheard_blocks(change, &facts)
        });
        blocks.then_some(SupportStands::NotHeard)
    }

    /// What was heard about a write-back that waits for approval. Where nothing was, or what was is old or about other
    /// content, services are asked, and that they were is recorded before it counts.
    async fn heard_about(
        &self,
        hand: &mut InHand,
        by: &Human,
    ) -> Result<Option<Heard>, DecideFailed> {
        let kept = self.heard_before(hand.id).await?;
        let Writeback::AwaitingApproval(waiting) = &hand.state else {
            return Ok(kept.map(|(heard, _)| heard));
        };
        let ruled = waiting.ruled().clone();
        let services = self.decision_rules.services_for(ruled.changes());
        if services.is_empty() {
            return Ok(None);
        }
        let digest = ruled.order.digest;
        if let Some((heard, _)) = &kept
            && heard.is_fresh(digest, &self.decision_rules, self.now())
        {
            return Ok(Some(heard.clone()));
        }
        let mut asking = Vec::with_capacity(services.len());
        for service in services {
            asking.push(self.ask_one(service, &ruled, by));
        }
        let answers = futures::future::join_all(asking).await;
        let earlier = kept.as_ref().map(|(before, _)| before);
        let earlier = earlier.filter(|before| before.order == digest);
        let said_before = match earlier {
            Some(before) => self.cards_of(before).await.map_err(unopened)?,
            None => Vec::new(),
        };
        let mut commit = self.commit_as(by.into());
        let mut cards = Vec::new();
        let mut asked = Vec::with_capacity(services.len());
        for (service, answer) in services.iter().zip(answers) {
            let (of_service, left_out, not_heard) = match answer {
                Ok((of_service, left_out)) => (of_service, left_out, None),
                // What it said about this order counts until it says otherwise: falling silent takes nothing back.
                Err(why) => {
                    let is_of_it = |card: &&Card| card.service == service.name;
                    let before = said_before.iter().filter(is_of_it).cloned().collect();
                    (before, 0, Some(why))
                }
            };
            let critical = of_service
                .iter()
                .filter(|card| card.indicator == Indicator::Critical);
            asked.push(ServiceAsked {
                service: service.id.clone(),
                not_heard,
                cards: u32::try_from(of_service.len()).unwrap_or(u32::MAX),
                critical: u32::try_from(critical.count()).unwrap_or(u32::MAX),
                left_out,
            });
            cards.extend(of_service);
        }
        let sealed = match cards.is_empty() {
            true => None,
            false => {
                let bytes =
                    serde_json::to_vec(&cards).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
                let patient = ruled.proposal.patient;
                Some(self.seal(PayloadClass::Derived, patient, &bytes).await?)
            }
        };
        let critical = cards
            .iter()
            .filter(|card| card.indicator == Indicator::Critical);
        let heard = Heard {
            order: digest,
            asked: commit.at,
            services: asked,
            cards: sealed.as_ref().map(|sealed| sealed.address),
            critical: critical.map(|card| card.id).collect(),
            // A decision about a card holds while the card says the same about the same order.
            overridden: earlier.map_or_else(Vec::new, |before| before.overridden.clone()),
        };
        commit.payloads.extend(sealed);
        let event = DecisionSupportEvent::Asked {
            order: digest,
            services: heard.services.clone(),
            cards: heard.cards,
        };
        hand.note(&mut commit, Event::DecisionSupport(event))?;
        let record = record_of(hand.id, &heard)?;
        commit.records.push(match kept {
            Some((_, revision)) => RecordChange::Update(record, revision),
            None => RecordChange::Create(record),
        });
        self.store.commit(commit).await?;
        Ok(Some(heard))
    }

    async fn ask_one(
        &self,
        service: &ServiceRule,
        ruled: &Ruled,
        by: &Human,
    ) -> Result<(Vec<Card>, u32), NotHeard> {
        let port = self.config.decision_support.as_ref();
        let port = port.ok_or(NotHeard::NotConnected)?;
        let order = self.support_order(ruled).await;
        let order = order.ok_or(NotHeard::NoPrefetch)?;
        let told = self.told_to_service(service, ruled, &order, by).await?;
        let answer = port.ask(&service.id, &told.request).await?;
        let cards = card::cards_in(&answer, &service.name, &order.salt);
        Ok((cards.ok_or(NotHeard::Unusable)?, told.left_out))
    }

    /// The order, opened; nothing where it is not what its digest names.
    async fn support_order(&self, ruled: &Ruled) -> Option<WriteOrder> {
        let bytes = self.unseal(&ruled.order.address).await.ok()?;
        (Digest::of_bytes(&bytes) == ruled.order.digest)
            .then(|| serde_json::from_slice(&bytes).ok())
            .flatten()
    }

    fn reason_words(&self, code: &OverrideReason) -> String {
        let known = self.tables.override_reasons();
        let known = known.iter().find(|it| it.code == *code);
        known.map_or_else(|| code.to_string(), |it| it.words.clone())
    }

    async fn cards_of(&self, heard: &Heard) -> Result<Vec<Card>, VaultFailed> {
        let Some(address) = &heard.cards else {
            return Ok(Vec::new());
        };
        let bytes = self.unseal(address).await?;
        let cards = serde_json::from_slice(&bytes);
        Ok(cards.map_err(|e| StoreFailed::Corrupt(e.to_string()))?)
    }

    async fn heard_before(&self, id: WritebackId) -> Result<Option<(Heard, u64)>, StoreFailed> {
        let key = RecordKey::new(HEARD, id);
        let record = self
            .store
            .record(&self.config.tenant, &key, self.now())
            .await?;
        let Some(record) = record else {
            return Ok(None);
        };
        let heard = serde_json::from_value(record.value)
            .map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
        Ok(Some((heard, record.revision)))
    }
}

pub(crate) fn unopened(failed: VaultFailed) -> DecideFailed {
    match failed {
        VaultFailed::Keys(failed) => DecideFailed::Keys(failed),
        VaultFailed::Store(failed) => DecideFailed::Store(failed),
        VaultFailed::Missing | VaultFailed::Sealed => {
            let why = "what the vault holds of it cannot be opened".to_owned();
            DecideFailed::Store(StoreFailed::Corrupt(why))
        }
    }
}

fn record_of(id: WritebackId, heard: &Heard) -> Result<Record, StoreFailed> {
    let value = serde_json::to_value(heard).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
    Ok(Record::new(HEARD, id, value).expiring(after(heard.asked, KEPT_S)))
}
