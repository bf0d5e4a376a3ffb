//! A write-back of Chaperone's own: a drafted remedy becomes a proposal with its order, in the caller's commit.

use chaperone_core::evidence::{AgentVersion, ValidationRecord, WriteOrder};
use chaperone_core::ids::{EnvelopeId, WritebackId};
use chaperone_core::ports::{Commit, PayloadClass};
use chaperone_core::resource::Interaction;
use chaperone_core::together::{EntryValidated, validation_of_all};
use chaperone_core::undo::{UndoLink, UndoPart};
use chaperone_core::writeback::{Command, OrderRef, Proposal, WritebackEvent};
use serde_json::{Value, json};

use super::remedy::{Draft, DraftChange, agent, intent, tool};
use super::{CHAPERONE, UndoFailed, UndoRun};
use crate::context::{Engine, after};
use crate::merge::instant;
use crate::order::{ChangeSent, OrderHead, order_bytes, order_of};
use crate::propose::conformant;
use crate::transition::InHand;

const PARTICIPANT_TYPE: &str = "http://terminology.hl7.org/CodeSystem/provenance-participant-type";
const DATA_OPERATION: &str = "http://terminology.hl7.org/CodeSystem/v3-DataOperation";

impl Engine {
    /// Puts a drafted remedy into a commit, as a proposal that waits for whoever must agree.
    pub(super) async fn propose_remedy(
        &self,
        run: &UndoRun,
        part: UndoPart,
        original: &Proposal,
        id: WritebackId,
        draft: Draft,
        commit: &mut Commit,
    ) -> Result<InHand, UndoFailed> {
        let now = commit.at;
        let proposal = self
            .remedy_proposal(run, part, original, id, commit)
            .await?;
        let of = proposal.undo.clone();
        let requested = WritebackEvent::Proposed(Box::new(proposal));
        let mut hand = InHand::propose(requested, id, now)?;
        let records: Vec<ValidationRecord> = draft
            .changes
            .iter()
            .map(|it| it.validation.clone())
            .collect();
        let validation = validation_of_all(&records).ok_or(UndoFailed::Internal)?;
        let first = draft.changes.first().ok_or(UndoFailed::Internal)?;
        let conformant = conformant(validation.clone());
        hand.step(
            Command::Validate {
                conformant: &conformant,
                change: first.change.clone(),
                entries: entries(&draft)?,
            },
            now,
        )?;
        let order = self
            .remedy_order(run, of.as_ref(), original, id, &draft, validation)
            .await?;
        let (bytes, digest) = order_bytes(&order).map_err(|_| UndoFailed::Internal)?;
        let sealed = self
            .seal(PayloadClass::Clinical, original.patient, &bytes)
            .await?;
        let class = draft.ruling.record().class;
        let reference = OrderRef {
            digest,
            address: sealed.address,
            strategy: order.strategy,
            // An order that is approved late may harm; what is wrong stays wrong until somebody puts it right. That
            // nothing changed meanwhile is looked at when it is sent.
            approve_by: after(now, self.config.approve_within_s),
            deliver_within_s: self.config.deliver_within_s(class),
        };
        commit.payloads.push(sealed);
        hand.step(
            Command::Rule {
                ruling: &draft.ruling,
                order: reference,
            },
            now,
        )?;
        self.enqueue(&hand, commit);
        hand.write_into(commit)?;
        Ok(hand)
    }

    async fn remedy_proposal(
        &self,
        run: &UndoRun,
        part: UndoPart,
        original: &Proposal,
        id: WritebackId,
        commit: &mut Commit,
    ) -> Result<Proposal, UndoFailed> {
        let reason = self.unseal_text(&run.reason).await.unwrap_or_default();
        let said = json!({
            "rationale": format!("To undo {}, in {}: {reason}", original.id, run.id),
        });
        let said = serde_json::to_vec(&said).map_err(|_| UndoFailed::Internal)?;
        let class = PayloadClass::Transcript;
        let key = self
            .keyed_digest(
                class,
                None,
                &[CHAPERONE.as_bytes(), id.to_string().as_bytes()],
            )
            .await?;
        let request = self.keyed_digest(class, original.patient, &[&said]).await?;
        let sealed = self.seal(class, original.patient, &said).await?;
        let payload = sealed.address;
        commit.payloads.push(sealed);
        Ok(Proposal {
            id,
            // It was made in nobody's envelope; the id leads nowhere.
            envelope: EnvelopeId::from_random(self.random.id()),
            agent: agent()?,
            intent: intent()?,
            tool: tool()?,
            patient: original.patient,
            // Whoever began the run is not the second of two people.
            requester: Some(run.person),
            connection: self.ehr.connection().clone(),
            correlation: self.correlation(),
            idempotency_key: key,
            request,
            payload,
            tainted: false,
            undo: Some(UndoLink {
                run: run.id,
                of: original.id,
                part,
            }),
            maker: None,
            edit: None,
        })
    }

    async fn remedy_order(
        &self,
        run: &UndoRun,
        link: Option<&UndoLink>,
        original: &Proposal,
        id: WritebackId,
        draft: &Draft,
        validation: ValidationRecord,
    ) -> Result<WriteOrder, UndoFailed> {
        let profile = self.delivery_profile().await?;
        let recorded = instant(self.now());
        let sent = |change| {
            let change: &DraftChange = change;
            ChangeSent {
                write: &change.write,
                base: change.base.as_ref(),
                body: &change.body,
                provenance: provenance(run, link, (draft, change), &recorded),
                asked: &change.asked,
            }
        };
        let changes = draft.changes.iter().map(sent).collect();
        let head = OrderHead {
            salt: draft.salt,
            tenant: self.config.tenant.clone(),
            writeback: id,
            patient: original.patient,
            connection: self.ehr.connection().clone(),
            endpoint: self.ehr.endpoint().to_owned(),
            validation,
            author: AgentVersion {
                agent: agent()?,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                model: "none".to_owned(),
                prompts: Vec::new(),
            },
        };
        order_of(head, changes, draft.ruling.record(), &profile).map_err(|_| UndoFailed::Internal)
    }
}

/// The changes as they are recorded where there are several.
fn entries(draft: &Draft) -> Result<Vec<EntryValidated>, UndoFailed> {
    if draft.changes.len() < 2 {
        return Ok(Vec::new());
    }
    draft
        .changes
        .iter()
        .map(|it| {
            Ok(EntryValidated {
                tool: tool()?,
                change: it.change.clone(),
                class: it.asked.class,
                stages: it.validation.stages.clone(),
                body: it.validation.body,
            })
        })
        .collect()
}

/// The Provenance of a correction: who asked for it, and the version that was wrong, which stays.
///
/// # Source
/// FHIR R4 Provenance: `entity.role` `revision` for what was revised; requirement R041.
fn provenance(
    run: &UndoRun,
    link: Option<&UndoLink>,
    (draft, change): (&Draft, &DraftChange),
    recorded: &str,
) -> Value {
    let agent = |kind: &str, system: &str, value: &str| {
        json!({
            "type": { "coding": [{ "system": PARTICIPANT_TYPE, "code": kind }] },
            "who": { "identifier": { "system": system, "value": value } },
        })
    };
    let mut entities = Vec::new();
    if let Some(error) = &change.error {
        let reference = match &error.version {
            Some(version) => format!("{}/_history/{version}", error.reference()),
            None => error.reference(),
        };
        entities.push(json!({ "role": "revision", "what": { "reference": reference } }));
    }
    if let Some(link) = link {
        let what =
            json!({ "system": crate::merge::WRITEBACK_SYSTEM, "value": link.of.to_string() });
        entities.push(json!({ "role": "source", "what": { "identifier": what } }));
    }
    let activity = match change.write.interaction {
        Interaction::Create => "CREATE",
        Interaction::Update | Interaction::Delete => "UPDATE",
    };
    json!({
        "resourceType": "Provenance",
        "target": [],
        "recorded": recorded,
        "policy": [format!("urn:chaperone:bundle:{}", draft.ruling.record().bundle)],
        "activity": { "coding": [{ "system": DATA_OPERATION, "code": activity }] },
        "agent": [
            agent("author", "urn:chaperone:person", &run.person.to_string()),
            agent("assembler", "urn:chaperone:service", "chaperone"),
        ],
        "entity": entities,
    })
}
