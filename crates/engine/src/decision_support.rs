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

use chaperone_core::Timestamp;
use chaperone_core::decision_support::{DecisionSupportEvent, NotHeard, ServiceAsked};
use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::event::Event;
use chaperone_core::evidence::WriteOrder;
use chaperone_core::ids::{CdsServiceId, OverrideReason, PersonId, WritebackId};
use chaperone_core::ports::{
    EhrSearch, PayloadClass, Record, RecordChange, RecordKey, StoreFailed,
};
use chaperone_core::principal::Human;
use chaperone_core::resource::ResourceType;
use chaperone_core::writeback::{Ruled, Writeback};
use chaperone_phi::labels::Labels;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::approve::{DecideFailed, open_role};
use crate::context::{Engine, after};
use crate::transition::InHand;
use crate::views::ViewFailed;

pub use card::{Card, Indicator};
pub(crate) use rules::DecisionSupportRules;
use rules::{Prefetch, ServiceRule};

/// What was heard, by write-back.
pub(crate) const HEARD: &str = "decision_support";
/// How long it is kept after the last asking, in seconds: a day. The record stays in the ledger and the vault.
const KEPT_S: i64 = 24 * 3_600;
/// How soon a service that was not heard is asked again, in seconds.
const UNHEARD_AGAIN_S: i64 = 30;
/// Most resources of one prefetch; a longer list is not sent in part.
const PREFETCH_MAX: u32 = 50;

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
    /// What stands against approving.
    pub stands: Option<SupportStands>,
    /// When they were asked.
    pub asked: Timestamp,
}

impl Engine {
    /// What decision support says about an order that waits; asked now where it was not, or long ago. Nothing for what
    /// nobody is asked about.
    ///
    /// # Errors
    /// [`ViewFailed`]; what is not heard from a service is no error, but part of the answer.
    pub async fn decision_support(
        &self,
        by: &Human,
        id: WritebackId,
    ) -> Result<Option<SupportView>, ViewFailed> {
        self.may_open(by, id).await?;
        let mut hand = self.take_in_hand(id).await?;
        let heard = match self.heard_about(&mut hand, by).await {
            Ok(heard) => heard,
            // Somebody else asked, or decided, at the same moment.
            Err(DecideFailed::Conflict) => self.kept(id).await?.map(|(heard, _)| heard),
            Err(DecideFailed::Store(failed)) => return Err(failed.into()),
            Err(DecideFailed::Commit(failed)) => return Err(failed.into()),
            Err(_) => return Err(ViewFailed::Missing),
        };
        let (Some(heard), Some(ruled)) = (heard, hand.state.ruled()) else {
            return Ok(None);
        };
        let cards: Vec<Card> = match &heard.cards {
            None => Vec::new(),
            Some(address) => {
                let bytes = self.unseal(address).await?;
                serde_json::from_slice(&bytes).map_err(|e| StoreFailed::Corrupt(e.to_string()))?
            }
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
            stands: self.stands(&heard, ruled).await,
            asked: heard.asked,
        }))
    }

    /// Goes on over a critical card, with a reason of the bundle's list. Only who can approve the order now.
    ///
    /// # Errors
    /// [`DecideFailed`]; the card still holds the order then.
    pub async fn override_card(
        &self,
        by: &Human,
        id: WritebackId,
        order: Digest,
        card: Digest,
        reason: OverrideReason,
    ) -> Result<(), DecideFailed> {
        let known = self.tables.override_reasons();
        if !known.iter().any(|it| it.code == reason) {
            return Err(DecideFailed::OverrideReasonUnknown);
        }
        let mut hand = self.take_in_hand(id).await?;
        open_role(&hand.state, by)?;
        let (mut heard, revision) = self.kept(id).await?.ok_or(DecideFailed::Conflict)?;
        let is_of_order = hand.state.ruled().map(|ruled| ruled.order.digest) == Some(order);
        let is_open =
            heard.critical.contains(&card) && heard.overridden.iter().all(|it| it.card != card);
        if !is_of_order || heard.order != order || !is_open {
            return Err(DecideFailed::Conflict);
        }
        let mut commit = self.commit_as(by.into());
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
        let record = record_of(id, &heard)?;
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
        let facts = match self.support_order(ruled).await {
            Some(order) => order.asked.map(|asked| asked.facts).unwrap_or_default(),
            None => Default::default(),
        };
        self.decision_rules
            .unheard_blocks(&ruled.change, &facts)
            .then_some(SupportStands::NotHeard)
    }

    /// What was heard about a write-back that waits for approval. Where nothing was, or what was is old or about other
    /// content, services are asked, and that they were is recorded before it counts.
    async fn heard_about(
        &self,
        hand: &mut InHand,
        by: &Human,
    ) -> Result<Option<Heard>, DecideFailed> {
        let kept = self.kept(hand.id).await?;
        let Writeback::AwaitingApproval(waiting) = &hand.state else {
            return Ok(kept.map(|(heard, _)| heard));
        };
        let ruled = waiting.ruled().clone();
        let services = self.decision_rules.services_for(&ruled.change);
        if services.is_empty() {
            return Ok(None);
        }
        let digest = ruled.order.digest;
        if let Some((heard, _)) = &kept
            && heard.is_fresh(digest, &self.decision_rules, self.now())
        {
            return Ok(Some(heard.clone()));
        }
        let asking = services
            .iter()
            .map(|service| self.ask_one(service, &ruled, by));
        let answers = futures::future::join_all(asking).await;
        let mut commit = self.commit_as(by.into());
        let mut cards = Vec::new();
        let mut asked = Vec::with_capacity(services.len());
        for (service, answer) in services.iter().zip(answers) {
            let (of_service, not_heard) = match answer {
                Ok(of_service) => (of_service, None),
                Err(why) => (Vec::new(), Some(why)),
            };
            let critical = of_service
                .iter()
                .filter(|card| card.indicator == Indicator::Critical);
            asked.push(ServiceAsked {
                service: service.id.clone(),
                not_heard,
                cards: u32::try_from(of_service.len()).unwrap_or(u32::MAX),
                critical: u32::try_from(critical.count()).unwrap_or(u32::MAX),
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
            overridden: match &kept {
                Some((before, _)) if before.order == digest => before.overridden.clone(),
                _ => Vec::new(),
            },
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
    ) -> Result<Vec<Card>, NotHeard> {
        let port = self.config.decision_support.as_ref();
        let port = port.ok_or(NotHeard::NotConnected)?;
        let order = self.support_order(ruled).await;
        let order = order.ok_or(NotHeard::NoPrefetch)?;
        let request = self.support_request(service, ruled, &order, by).await;
        let request = request.ok_or(NotHeard::NoPrefetch)?;
        let answer = port.ask(&service.id, &request).await?;
        card::cards_in(&answer, &service.name, &order.salt).ok_or(NotHeard::Unusable)
    }

    /// The order, opened; nothing where it is not what its digest names.
    async fn support_order(&self, ruled: &Ruled) -> Option<WriteOrder> {
        let bytes = self.unseal(&ruled.order.address).await.ok()?;
        (Digest::of_bytes(&bytes) == ruled.order.digest)
            .then(|| serde_json::from_slice(&bytes).ok())
            .flatten()
    }

    /// What a service is told: the order as a draft without our own marks, the patient's id, and what the table says
    /// that this service needs. No access to the EHR is handed over.
    async fn support_request(
        &self,
        service: &ServiceRule,
        ruled: &Ruled,
        order: &WriteOrder,
        by: &Human,
    ) -> Option<Value> {
        let patient = self.patient_id(ruled.proposal.patient?).await.ok()?;
        let mut draft: Value = serde_json::from_str(&order.body).ok()?;
        let draft_fields = draft.as_object_mut()?;
        for ours in ["meta", "identifier", "text"] {
            draft_fields.remove(ours);
        }
        draft_fields.insert("id".to_owned(), json!("draft-1"));
        draft_fields.insert("status".to_owned(), json!("draft"));
        let mut prefetch = serde_json::Map::new();
        for wanted in &service.prefetch {
            let found = self.prefetched(*wanted, &patient).await?;
            prefetch.insert(wanted.key().to_owned(), found);
        }
        Some(json!({
            "hook": "order-sign",
            "hookInstance": instance(self.random.id()),
            "context": {
                "userId": format!("Practitioner/{}", by.person.to_string().replace('_', "-")),
                "patientId": patient,
                "draftOrders": {
                    "resourceType": "Bundle", "type": "collection",
                    "entry": [{ "resource": draft }],
                },
            },
            "prefetch": prefetch,
        }))
    }

    /// What is told beside the order; nothing where the EHR does not give it whole, or gives somebody else's.
    async fn prefetched(&self, wanted: Prefetch, patient: &str) -> Option<Value> {
        let (kind, also, fields): (_, _, &[&str]) = match wanted {
            Prefetch::Patient => {
                let kind = ResourceType::new("Patient").ok()?;
                let found = self.ehr.read(&kind, patient).await.ok()?;
                return Some(only(&found, &["resourceType", "id", "gender", "birthDate"]));
            }
            Prefetch::Medications => (
                "MedicationRequest",
                Some(("status", "active")),
                &[
                    "resourceType",
                    "id",
                    "status",
                    "intent",
                    "subject",
                    "medicationCodeableConcept",
                    "authoredOn",
                    "dosageInstruction",
                ],
            ),
            Prefetch::Allergies => (
                "AllergyIntolerance",
                None,
                &[
                    "resourceType",
                    "id",
                    "patient",
                    "clinicalStatus",
                    "verificationStatus",
                    "code",
                    "criticality",
                ],
            ),
        };
        let mut parameters = vec![("patient".to_owned(), format!("Patient/{patient}"))];
        parameters.extend(also.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let search = EhrSearch {
            resource: ResourceType::new(kind).ok()?,
            parameters,
            limit: PREFETCH_MAX,
        };
        let found = self.ehr.search(search).await.ok()?;
        let is_whole = !found.more
            && found
                .resources
                .iter()
                .all(|it| self.belongs_to(it, patient));
        if !is_whole {
            return None;
        }
        // What is specially protected is told to nobody here.
        let open = found
            .resources
            .iter()
            .filter(|it| Labels::of(it).restriction().is_none());
        let entries: Vec<Value> = open
            .map(|it| json!({ "resource": only(it, fields) }))
            .collect();
        Some(json!({ "resourceType": "Bundle", "type": "searchset", "entry": entries }))
    }

    fn reason_words(&self, code: &OverrideReason) -> String {
        let known = self.tables.override_reasons();
        let known = known.iter().find(|it| it.code == *code);
        known.map_or_else(|| code.to_string(), |it| it.words.clone())
    }

    async fn kept(&self, id: WritebackId) -> Result<Option<(Heard, u64)>, StoreFailed> {
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

fn record_of(id: WritebackId, heard: &Heard) -> Result<Record, StoreFailed> {
    let value = serde_json::to_value(heard).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
    Ok(Record::new(HEARD, id, value).expiring(after(heard.asked, KEPT_S)))
}

/// The named fields of a resource.
fn only(resource: &Value, fields: &[&str]) -> Value {
    let members = resource.as_object().into_iter().flatten();
    let kept = members.filter(|(name, _)| fields.contains(&name.as_str()));
    Value::Object(
        kept.map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    )
}

/// A random UUID, as the specification asks for (RFC 9562, version 4).
fn instance(random: [u8; 16]) -> String {
    let mut number = u128::from_be_bytes(random);
    number = number & !(0xf << 76) | (0x4 << 76);
    number = number & !(0x3 << 62) | (0x2 << 62);
    let digits = format!("{number:032x}");
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    [
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    ]
    .join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_a_random_uuid() {
        assert_eq!(instance([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(instance([0; 16]), "00000000-0000-4000-8000-000000000000");
    }

    #[test]
    fn what_is_told_is_what_is_named() {
        let patient = json!({ "resourceType": "Patient", "id": "p1", "name": [{ "family": "F" }], "gender": "male" });
        assert_eq!(
            only(&patient, &["resourceType", "id", "gender", "birthDate"]),
            json!({ "resourceType": "Patient", "id": "p1", "gender": "male" })
        );
    }
}
