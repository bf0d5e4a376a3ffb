//! Consent right before a send, and what happens to what is queued when consent changes.
//!
//! ```text
//! approved ──▶ queue ──▶ send: Consents read now ─┬─ hold ─▶ sent
//!                 │                               ├─ refuse ─▶ Void (consent)
//!                 │                               ├─ cannot be read ─▶ not sent; looked at again later
//!                 │                               └─ at night ─▶ not sent before the morning
//!                 └─ a Consent changed (written here, or announced): all of the patient's queue, at once
//! ```
//! A message to the patient also needs a channel that they agreed to.

use chaperone_core::evidence::WriteOrder;
use chaperone_core::ids::PatientToken;
use chaperone_core::ports::{LISTED_MAX, StoreFailed};
use chaperone_core::resource::ResourceType;
use chaperone_core::writeback::{Command, Ready, StateName, VoidReason, Writeback};
use chaperone_phi::consent::contact::{ContactDenial, contacts_of, may_contact, speaks_to};
use chaperone_phi::consent::hours::not_before;
use chaperone_phi::consent::{Action, Asker, Decision, Question, Subject, decide};
use serde_json::Value;

use super::Known;
use crate::context::Engine;
use crate::errors::CallError;
use crate::projection::WritebackRow;
use crate::propose::reaches_patient;
use crate::transition::{InHand, MoveFailed};
use crate::vault::VaultFailed;

/// What consent says right before a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendConsent {
    /// It may go.
    Holds,
    /// It must not be sent any more.
    Withdrawn,
    /// Nobody knows now, so it is not sent now.
    Unread,
    /// It may go, and not at this hour: in so many milliseconds.
    NotYet(i64),
}

/// What decides about the sends of one patient.
struct Asked {
    known: std::sync::Arc<Known>,
    /// The Patient, as the EHR has them; nothing where no message asks for it.
    patient: Option<Value>,
}

impl Engine {
    /// Asks again, right before a send, of what the EHR says now.
    pub(crate) async fn consent_at_send(&self, ready: &Ready, order: &WriteOrder) -> SendConsent {
        let Ok(bodies) = bodies_of(order) else {
            return SendConsent::Withdrawn;
        };
        let patient = ready.ruled().proposal.patient;
        let asks_patient = bodies.iter().any(is_message);
        match self.asked_now(patient, asks_patient).await {
            Ok(asked) => self.all_allowed(&asked, ready, &bodies),
            Err(unread) => {
                tracing::info!(error = %unread, "consent cannot be read before a send");
                SendConsent::Unread
            }
        }
    }

    async fn asked_now(
        &self,
        patient: Option<PatientToken>,
        with_patient: bool,
    ) -> Result<Asked, CallError> {
        let Some(token) = patient else {
            return Ok(Asked {
                known: std::sync::Arc::default(),
                patient: None,
            });
        };
        let resource = async {
            if !with_patient {
                return Ok(None);
            }
            let kind = ResourceType::new("Patient").map_err(|_| CallError::internal())?;
            let id = self.patient_id(token).await?;
            Ok::<_, CallError>(Some(self.ehr.read(&kind, &id).await?))
        };
        let (known, patient) = futures::join!(self.read_consents(token), resource);
        Ok(Asked {
            known: known?,
            patient: patient?,
        })
    }

    /// What is said of everything that is sent: one change that must not go holds all of them back.
    fn all_allowed(&self, asked: &Asked, ready: &Ready, bodies: &[Value]) -> SendConsent {
        let mut wait = None;
        for body in bodies {
            match self.send_allowed(asked, ready, body) {
                SendConsent::Holds => {}
                SendConsent::NotYet(wait_ms) => wait = wait.max(Some(wait_ms)),
                held @ (SendConsent::Withdrawn | SendConsent::Unread) => return held,
            }
        }
        wait.map_or(SendConsent::Holds, SendConsent::NotYet)
    }

    fn send_allowed(&self, asked: &Asked, ready: &Ready, body: &Value) -> SendConsent {
        let proposal = &ready.ruled().proposal;
        // What puts the organisation's own record right is asked for by a person, and approved by others.
        let (purpose, asker) = match (&proposal.undo, self.bundle.intent(&proposal.intent)) {
            (Some(_), _) => (crate::undo::PURPOSE, Asker::Person),
            (None, Some(intent)) => (
                intent.purpose_of_use.as_str(),
                Asker::Agent(proposal.agent.as_str()),
            ),
            (None, None) => return SendConsent::Withdrawn,
        };
        // What a patient says about consents is not subject to the consents it changes.
        if body.get("resourceType").and_then(Value::as_str) == Some("Consent") {
            return SendConsent::Holds;
        }
        let question = Question {
            purpose,
            action: Action::Write,
            asker,
            subject: Subject::Resource(body),
            break_glass: false,
            can_notify: true,
            now: self.now(),
        };
        // Which rule decided says something about the patient, and a log is no place for it.
        let decision = decide(&self.consent_table, &asked.known.consents, &question);
        let may_reach = self.may_reach(&asked.known, body, asked.patient.as_ref());
        if matches!(decision, Decision::Deny(_)) || may_reach.is_err() {
            tracing::info!(writeback = %proposal.id, "consent no longer covers an order");
            return SendConsent::Withdrawn;
        }
        match self.quiet_until(body, asked.patient.as_ref()) {
            None => SendConsent::Holds,
            Some(open) => {
                let wait = open.duration_since(self.now()).as_millis();
                SendConsent::NotYet(i64::try_from(wait).unwrap_or(i64::MAX))
            }
        }
    }

    /// Before when a message must not go out, because it would disturb the patient's night.
    fn quiet_until(
        &self,
        message: &Value,
        patient: Option<&Value>,
    ) -> Option<chaperone_core::Timestamp> {
        if !is_message(message) || !reaches_patient(message) {
            return None;
        }
        let (patient, now) = (patient?, self.now());
        let wanted = contacts_of(&self.consent_table, message).ok()?;
        wanted
            .iter()
            .filter_map(|it| not_before(&self.consent_table, patient, &it.channel, now))
            .max()
    }

    /// Whether a message may go to the patient: every channel it takes, for everything it is about. What is no
    /// message to a patient, may.
    pub(super) fn may_reach(
        &self,
        known: &Known,
        message: &Value,
        patient: Option<&Value>,
    ) -> Result<(), ContactDenial> {
        if !is_message(message) || !reaches_patient(message) {
            return Ok(());
        }
        let patient = patient.ok_or(ContactDenial::NoContactPoint)?;
        speaks_to(patient, message)?;
        let now = self.now();
        for wanted in contacts_of(&self.consent_table, message)? {
            may_contact(&self.consent_table, &known.consents, patient, &wanted, now)?;
        }
        Ok(())
    }

    /// A write-back moved. If it was about a Consent, what was known is forgotten and the queue looked through.
    pub(crate) async fn after_consent(&self, hand: &InHand) {
        let is_consent = hand
            .state
            .ruled()
            .is_some_and(|ruled| ruled.changes().any(|it| it.resource.as_str() == "Consent"));
        let counts = matches!(
            hand.state,
            Writeback::Ready(_) | Writeback::Delivering(_) | Writeback::Delivered(_)
        );
        if is_consent && counts {
            self.consents_changed(hand.state.proposal().patient).await;
        }
    }

    /// A patient's Consents changed, or somebody's of whom nobody knows: at once, nothing kept counts, and what is
    /// queued for the patient and no longer covered is void. What fails here is looked at again before each send.
    pub(crate) async fn consents_changed(&self, patient: Option<PatientToken>) {
        self.consents.forget(patient);
        let Some(patient) = patient else { return };
        if let Err(failed) = self.void_uncovered(patient).await {
            tracing::warn!(error = %failed, "the queue of a patient whose consent changed was not looked through; each item is before it is sent");
        }
    }

    async fn void_uncovered(&self, patient: PatientToken) -> Result<(), CallError> {
        let rows = self.newest_of_patient(patient, LISTED_MAX).await?;
        let is_queued = |row: &&WritebackRow| row.state == StateName::Ready;
        let queued: Vec<_> = rows.iter().filter(is_queued).map(|row| row.id).collect();
        if queued.is_empty() {
            return Ok(());
        }
        let asked = self.asked_now(Some(patient), true).await?;
        for id in queued {
            if let Err(failed) = self.void_if_uncovered(id, &asked).await {
                tracing::info!(writeback = %id, error = %failed, "a queued order was not looked at; it is before it is sent");
            }
        }
        Ok(())
    }

    async fn void_if_uncovered(
        &self,
        id: chaperone_core::ids::WritebackId,
        asked: &Asked,
    ) -> Result<(), MoveFailed> {
        let mut hand = self.take_in_hand(id).await?;
        let Writeback::Ready(ready) = hand.state.clone() else {
            return Ok(());
        };
        let bodies = self
            .order_bodies(&ready.ruled().order.address)
            .await
            .map_err(|failed| StoreFailed::Unavailable(Box::new(failed)))?;
        if self.all_allowed(asked, &ready, &bodies) != SendConsent::Withdrawn {
            return Ok(());
        }
        let reason = VoidReason::Consent;
        hand.step(Command::Void { reason }, self.now())?;
        let mut commit = self.commit_as(crate::deliver::delivery());
        hand.write_into(&mut commit)?;
        // The work item is completed by the next worker that takes it and finds nothing to send. Whoever started
        // the send meanwhile asked consent itself, and this commit is refused.
        self.store
            .commit(commit)
            .await
            .map_err(|failed| StoreFailed::Unavailable(Box::new(failed)))?;
        self.announce_change();
        self.tell_operator(id, "void");
        self.tell_approvers(&hand);
        Ok(())
    }

    /// The bodies of a stored order.
    pub(super) async fn order_bodies(
        &self,
        address: &chaperone_core::digest::PayloadAddress,
    ) -> Result<Vec<Value>, VaultFailed> {
        let bytes = self.unseal(address).await?;
        let order: WriteOrder = serde_json::from_slice(&bytes).map_err(|_| VaultFailed::Sealed)?;
        bodies_of(&order).map_err(|_| VaultFailed::Sealed)
    }
}

fn bodies_of(order: &WriteOrder) -> Result<Vec<Value>, serde_json::Error> {
    order
        .changes()
        .map(|change| serde_json::from_str(change.body))
        .collect()
}

/// Whether something is a message that goes out, and no draft of one.
pub(crate) fn is_message(resource: &Value) -> bool {
    let text = |name: &str| {
        resource
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let stays = match text("resourceType") {
        "Communication" => ["preparation", "not-done", "stopped", "entered-in-error"].as_slice(),
        "CommunicationRequest" => ["draft", "revoked", "entered-in-error"].as_slice(),
        _ => return false,
    };
    !stays.contains(&text("status"))
}
