//! What undoes one delivered effect, worked out and ruled on, and nothing recorded: the same for showing it first and
//! for proposing it.
//!
//! ```text
//! made something new ─▶ a message to the patient? ─▶ one that takes it back
//!                       a booking nobody changed? ─▶ cancelled
//!                       anything else ────────────▶ marked as entered in error, on what is there now
//! changed something ──▶ nobody changed it since? ──▶ put back to what was there before
//!                       somebody did ──────────────▶ a person merges
//! ```

use std::collections::BTreeMap;

use chaperone_core::bundle::WriteAction;
use chaperone_core::change::{Change, Destination};
use chaperone_core::content::same_content;
use chaperone_core::digest::Salt;
use chaperone_core::evidence::{Ruling, ValidationRecord};
use chaperone_core::facts::{FactValue, Facts};
use chaperone_core::gate::Gate;
use chaperone_core::ids::{AgentId, IntentId, ToolName, UndoId, WritebackId};
use chaperone_core::ports::EhrReadFailed;
use chaperone_core::request::WriteRequest;
use chaperone_core::resource::{Interaction, ResourceType};
use chaperone_core::together::OneChange;
use chaperone_core::undo::PersonNeeded;
use chaperone_core::writeback::{Delivered, Proposal};
use chaperone_phi::labels::Labels;
use serde_json::{Map, Value, json};

use super::found::{Place, corrupt};
use super::remedies::without_server_parts;
use super::{CHAPERONE, REMEDIATE, TOOL, UndoFailed};
use crate::context::Engine;
use crate::merge::{WRITEBACK_SYSTEM, instant};
use crate::order::{ToSend, patch_of, takes_as_one};
use crate::propose::{Inputs, LEGAL_HOLD, change_of, is_part, reaches_patient};

/// What is to be done about one effect.
pub(super) enum Remedied {
    /// This, once it is approved.
    Write(Box<Draft>),
    /// A person must act.
    Person(PersonNeeded),
    /// It is so already.
    Nothing,
}

/// A write-back of Chaperone's own, ruled on and not proposed yet. What was made as one is undone as one.
pub(super) struct Draft {
    /// What it changes; never empty.
    pub(super) changes: Vec<DraftChange>,
    pub(super) salt: Salt,
    pub(super) ruling: Ruling,
}

/// One change of a draft.
pub(super) struct DraftChange {
    pub(super) write: WriteAction,
    pub(super) base: Option<Value>,
    pub(super) body: String,
    pub(super) change: Change,
    pub(super) validation: ValidationRecord,
    pub(super) asked: WriteRequest,
    /// What it puts right.
    pub(super) error: Option<Place>,
}

impl Draft {
    /// Who must agree.
    pub(super) fn gate(&self) -> &Gate {
        &self.ruling.record().gate
    }
}

/// What undoes one change of an effect.
enum Sketched {
    /// This.
    Change(Box<Sketch>),
    /// A person must act.
    Person(PersonNeeded),
    /// It is so already.
    Nothing,
}

/// One change, before it is checked.
struct Sketch {
    interaction: Interaction,
    resource: Value,
    base: Option<Value>,
    /// Whether nobody changed since what Chaperone wrote; nothing where no version of ours is concerned.
    unmodified: Option<bool>,
    from_template: bool,
    /// What it puts right.
    error: Option<Place>,
}

impl Engine {
    /// What undoes a delivered effect.
    ///
    /// # Errors
    /// When the EHR, the vault or the store does not answer: nothing is known then.
    pub(super) async fn remedy(
        &self,
        delivered: &Delivered,
        proposal: &Proposal,
        id: WritebackId,
    ) -> Result<Remedied, UndoFailed> {
        use Remedied::{Nothing, Person};
        let receipt = delivered.receipt();
        if receipt.attested_by.is_some() {
            return Ok(Person(PersonNeeded::EnteredByHand));
        }
        let ruled = delivered.ready().ruled();
        let (Some(order), Some(places)) = (
            self.order_if_kept(&ruled.order).await?,
            self.places_of(receipt).await?,
        ) else {
            return Ok(Person(PersonNeeded::OrderGone));
        };
        if places.len() != order.changes().count() {
            return Ok(Person(PersonNeeded::OrderGone));
        }
        let mut sketches = Vec::new();
        for (change, place) in order.changes().zip(places) {
            match self.sketched(&change, place, id).await? {
                Sketched::Change(sketch) => sketches.push(*sketch),
                Sketched::Nothing => {}
                // What was made as one is undone as one, or by a person.
                Sketched::Person(needed) => return Ok(Person(needed)),
            }
        }
        if sketches.is_empty() {
            return Ok(Nothing);
        }
        self.drafted(sketches, proposal).await
    }

    /// What undoes one change.
    async fn sketched(
        &self,
        change: &OneChange<'_>,
        place: Place,
        id: WritebackId,
    ) -> Result<Sketched, UndoFailed> {
        use Sketched::{Nothing, Person};
        let current = match self.ehr.read(&place.resource, &place.id).await {
            Ok(current) => current,
            Err(EhrReadFailed::NotFound) => return Ok(Person(PersonNeeded::GoneAtEhr)),
            Err(failed) => return Err(failed.into()),
        };
        if is_part(&current) {
            return Ok(Person(PersonNeeded::ShownInPart));
        }
        let sent: Value = serde_json::from_str(change.body)
            .map_err(|_| corrupt("the body of a stored order cannot be read"))?;
        let unmodified = is_unmodified(&place, &sent, &current);
        let Some(remedy) = self.remedies.get(&place.resource) else {
            return Ok(Person(PersonNeeded::NoErrorStatus));
        };
        let sketch = if change.interaction == Interaction::Update {
            match self.restored(change, &place, &current, unmodified) {
                Ok(_) if !remedy.restore => return Ok(Person(PersonNeeded::NotPermitted)),
                Ok(Some(restored)) => Sketch {
                    interaction: Interaction::Update,
                    resource: restored,
                    base: Some(current),
                    unmodified: Some(unmodified),
                    from_template: false,
                    error: Some(place),
                },
                Ok(None) => return Ok(Nothing),
                Err(needed) => return Ok(Person(needed)),
            }
        } else if is_message_to_patient(&sent) {
            Sketch {
                interaction: Interaction::Create,
                resource: self.correction_of(&sent, &place, id),
                base: None,
                unmodified: None,
                from_template: true,
                error: Some(place),
            }
        } else if remedy.is_done(&current) {
            return Ok(Nothing);
        } else {
            let cancelled = remedy.as_cancelled(&current).filter(|_| unmodified);
            let Some(resource) = cancelled.or_else(|| remedy.as_error(&current)) else {
                return Ok(Person(PersonNeeded::NoErrorStatus));
            };
            Sketch {
                interaction: Interaction::Update,
                resource,
                base: Some(current),
                unmodified: Some(unmodified),
                from_template: false,
                error: Some(place),
            }
        };
        Ok(Sketched::Change(Box::new(sketch)))
    }

    /// What was there before, as an update of what is there now; nothing where that is the same.
    fn restored(
        &self,
        change: &OneChange<'_>,
        place: &Place,
        current: &Value,
        unmodified: bool,
    ) -> Result<Option<Value>, PersonNeeded> {
        if !unmodified {
            return Err(PersonNeeded::ChangedSince);
        }
        let base: Value = change
            .base
            .and_then(|text| serde_json::from_str(text).ok())
            .ok_or(PersonNeeded::NoBase)?;
        let is_same_resource = base.get("id").and_then(Value::as_str) == Some(place.id.as_str());
        let restored = without_server_parts(&base).ok_or(PersonNeeded::NoBase)?;
        if !is_same_resource {
            return Err(PersonNeeded::NoBase);
        }
        let restored = Value::Object(restored);
        Ok((!same_content(&restored, current)).then_some(restored))
    }

    /// A message that takes back one that was sent: to the same, by the same way, in the bundle's words.
    fn correction_of(&self, sent: &Value, place: &Place, id: WritebackId) -> Value {
        const KEPT: [&str; 6] = [
            "subject",
            "recipient",
            "medium",
            "category",
            "topic",
            "encounter",
        ];
        let mut message = Map::new();
        message.insert("resourceType".to_owned(), json!("Communication"));
        message.insert(
            "identifier".to_owned(),
            json!([{ "system": WRITEBACK_SYSTEM, "value": id.to_string() }]),
        );
        message.insert("status".to_owned(), json!("completed"));
        message.insert(
            "inResponseTo".to_owned(),
            json!([{ "reference": place.reference() }]),
        );
        for element in KEPT {
            if let Some(value) = sent.get(element) {
                message.insert(element.to_owned(), value.clone());
            }
        }
        message.insert(
            "payload".to_owned(),
            json!([{ "contentString": self.remedies.message }]),
        );
        Value::Object(message)
    }

    /// A task that asks people to put right what Chaperone cannot; nothing where the EHR would have a person enter
    /// that as well.
    pub(super) async fn task_about(
        &self,
        proposal: &Proposal,
        places: Vec<Place>,
        needed: PersonNeeded,
        run: UndoId,
        id: WritebackId,
    ) -> Result<Option<Box<Draft>>, UndoFailed> {
        let kind = resource_type("Task")?;
        let support = self
            .delivery_profile()
            .await
            .map_err(UndoFailed::from)?
            .of(&kind, Interaction::Create);
        if support.strategy == chaperone_core::evidence::Strategy::HumanEntry {
            return Ok(None);
        }
        let mut task = json!({
            "resourceType": "Task",
            "identifier": [{ "system": WRITEBACK_SYSTEM, "value": id.to_string() }],
            "status": "requested",
            "intent": "order",
            "priority": "urgent",
            "description": format!(
                "Put right what Chaperone wrote in error: {}. Write-back {}, {run}.",
                needed.words(), proposal.id
            ),
            "authoredOn": instant(self.now()),
            "performerType": [{ "coding": [{ "system": "urn:chaperone:pool", "code": "clinician" }] }],
        });
        if let Some(object) = task.as_object_mut() {
            // Of several that were made as one, all: which of them a person has to look at, they see there.
            match places.as_slice() {
                [] => {}
                [only] => {
                    let focus = json!({ "reference": only.reference() });
                    object.insert("focus".to_owned(), focus);
                }
                several => {
                    let input = |place: &Place| {
                        json!({
                            "type": { "text": "made as one with the others" },
                            "valueReference": { "reference": place.reference() },
                        })
                    };
                    let inputs = several.iter().map(input).collect();
                    object.insert("input".to_owned(), Value::Array(inputs));
                }
            }
            if let Some(token) = proposal.patient {
                let patient = format!("Patient/{}", self.patient_id(token).await?);
                object.insert("for".to_owned(), json!({ "reference": patient }));
            }
        }
        let sketch = Sketch {
            interaction: Interaction::Create,
            resource: task,
            base: None,
            unmodified: None,
            from_template: false,
            error: None,
        };
        Ok(match self.drafted(vec![sketch], proposal).await? {
            Remedied::Write(draft) if *draft.gate() == Gate::Auto => Some(draft),
            _ => None,
        })
    }

    /// Checks the changes and has the matrix rule on them.
    async fn drafted(
        &self,
        sketches: Vec<Sketch>,
        proposal: &Proposal,
    ) -> Result<Remedied, UndoFailed> {
        use Remedied::Person;
        let patient_id = match proposal.patient {
            Some(token) => Some(self.patient_id(token).await?),
            None => None,
        };
        let patient = match &patient_id {
            Some(id) => match self.ehr.read(&resource_type("Patient")?, id).await {
                Ok(patient) => Some(patient),
                Err(EhrReadFailed::NotFound) => return Ok(Person(PersonNeeded::GoneAtEhr)),
                Err(failed) => return Err(failed.into()),
            },
            None => None,
        };
        let mut salt = [0; 32];
        self.random.fill(&mut salt);
        let salt = Salt::from_random(salt);
        let whose = (patient_id.as_deref(), patient.as_ref());
        let is_held = self.is_held(proposal.patient).await?;
        let mut changes = Vec::with_capacity(sketches.len());
        for sketch in sketches {
            match self.checked(sketch, whose, is_held, &salt)? {
                Ok(change) => changes.push(change),
                Err(needed) => return Ok(Person(needed)),
            }
        }
        if changes.len() > 1 && !self.takes_all(&changes).await? {
            return Ok(Person(PersonNeeded::NotAsOne));
        }
        let asked: Vec<WriteRequest> = changes.iter().map(|it| it.asked.clone()).collect();
        let ruling = match self.bundle.rule_all(&asked) {
            Ok(ruling) if ruling.record().gate != Gate::Deny => ruling,
            Ok(_) => return Ok(Person(PersonNeeded::NotPermitted)),
            Err(failed) => {
                tracing::error!(error = %failed, "policy could not rule on what undoes an effect");
                return Ok(Person(PersonNeeded::NotPermitted));
            }
        };
        Ok(Remedied::Write(Box::new(Draft {
            changes,
            salt,
            ruling,
        })))
    }

    /// Whether the EHR takes all of it as one transaction.
    async fn takes_all(&self, changes: &[DraftChange]) -> Result<bool, UndoFailed> {
        let profile = self.delivery_profile().await?;
        Ok(changes.iter().all(|change| {
            let (resource, interaction) = (&change.write.resource, change.write.interaction);
            let support = profile.of(resource, interaction);
            let is_patched = support.patch && interaction == Interaction::Update;
            let base = change.base.as_ref().map(Value::to_string);
            let sent = ToSend {
                resource,
                interaction,
                body: &change.body,
                base: base.as_deref(),
            };
            takes_as_one(&support) && (!is_patched || patch_of(&sent).is_some())
        }))
    }

    /// One change, checked and put as policy is asked about it.
    fn checked(
        &self,
        sketch: Sketch,
        (patient_id, patient): (Option<&str>, Option<&Value>),
        is_held: bool,
        salt: &Salt,
    ) -> Result<Result<DraftChange, PersonNeeded>, UndoFailed> {
        // Somebody else's by now, as after a merge: no place for a machine.
        if let (Some(base), Some(id)) = (&sketch.base, patient_id)
            && self.is_patient_data(base)
            && !self.belongs_to(base, id)
        {
            return Ok(Err(PersonNeeded::ChangedSince));
        }
        let write = action(kind_of(&sketch)?, sketch.interaction);
        let Ok(mut change) = change_of(&write, sketch.base.as_ref(), &sketch.resource) else {
            return Ok(Err(PersonNeeded::NotValid));
        };
        change.from_template = sketch.from_template;
        let Ok(class) = change.class() else {
            return Ok(Err(PersonNeeded::NotValid));
        };
        let mut facts = Facts::default();
        let is_restricted = |it: &Value| Labels::of(it).restriction().is_some();
        let restricted =
            is_restricted(&sketch.resource) || sketch.base.as_ref().is_some_and(is_restricted);
        facts.observe("restricted_label", FactValue::Bool(restricted));
        facts.observe(LEGAL_HOLD, FactValue::Bool(is_held));
        if let Some(unmodified) = sketch.unmodified {
            facts.observe("base_authored_by_chaperone", FactValue::Bool(true));
            facts.observe("base_unmodified_since", FactValue::Bool(unmodified));
        }
        if let Some(patient) = patient {
            self.observe_patient(patient, &mut facts);
            let touched = sketch.base.iter().chain([&sketch.resource]);
            self.observe_confidential(patient, touched, &mut facts);
        }
        let body = serde_json::to_string(&sketch.resource).map_err(|_| UndoFailed::Internal)?;
        let inputs = inputs_of(&sketch, patient_id, patient);
        let (validation, findings) =
            self.validate(&write, salt, &body, &sketch.resource, &change, &inputs);
        if findings.iter().any(|finding| finding.severity.is_error()) {
            return Ok(Err(PersonNeeded::NotValid));
        }
        let asked = self.asked(&change, class, facts)?;
        Ok(Ok(DraftChange {
            write,
            base: sketch.base,
            body,
            change,
            validation,
            asked,
            error: sketch.error,
        }))
    }

    fn asked(
        &self,
        change: &Change,
        class: chaperone_core::change::ChangeClass,
        facts: Facts,
    ) -> Result<WriteRequest, UndoFailed> {
        let mut scope = format!("{}.{}", change.resource, change.interaction.as_str());
        if let Some(to) = &change.to {
            scope = format!("{scope}.{to}");
        }
        Ok(WriteRequest {
            agent: agent()?,
            intent: intent()?,
            // What is written for this intent is what the table lists, and this is of it.
            intent_writes: vec![scope],
            tool: tool()?,
            change: change.clone(),
            class,
            facts,
            tainted: false,
            bundle: *self.bundle.digest(),
            at_least: None,
            protocol: None,
        })
    }
}

/// Whether nobody changed a resource since Chaperone wrote it. By version where the endpoint has them; else by content.
fn is_unmodified(place: &Place, sent: &Value, current: &Value) -> bool {
    let version = current.pointer("/meta/versionId").and_then(Value::as_str);
    match (&place.version, version) {
        (Some(ours), Some(now)) => ours == now,
        _ => same_content(sent, current),
    }
}

fn is_message_to_patient(sent: &Value) -> bool {
    let text = |name: &str| sent.get(name).and_then(Value::as_str);
    text("resourceType") == Some("Communication")
        && text("status") == Some("completed")
        && reaches_patient(sent)
}

fn kind_of(sketch: &Sketch) -> Result<ResourceType, UndoFailed> {
    let kind = sketch.resource.get("resourceType").and_then(Value::as_str);
    resource_type(kind.unwrap_or_default())
}

fn inputs_of(sketch: &Sketch, patient_id: Option<&str>, patient: Option<&Value>) -> Inputs {
    let known = sketch
        .base
        .iter()
        .map(|base| ("base".to_owned(), base.clone()));
    Inputs {
        targets: BTreeMap::new(),
        resources: known.collect(),
        sources: Vec::new(),
        base: sketch.base.clone(),
        patient_id: patient_id.map(str::to_owned),
        patient: patient.cloned(),
        encounter: None,
        resembles: Vec::new(),
    }
}

fn action(resource: ResourceType, interaction: Interaction) -> WriteAction {
    WriteAction {
        resource,
        interaction,
        destination: Destination::Ehr,
        target: None,
        copy: None,
        template: Map::new(),
        append: Vec::new(),
        profiles: Vec::new(),
        observe: Vec::new(),
        facts: BTreeMap::new(),
        note: None,
    }
}

fn resource_type(name: &str) -> Result<ResourceType, UndoFailed> {
    ResourceType::new(name).map_err(|_| corrupt("a stored resource has no type"))
}

pub(super) fn agent() -> Result<AgentId, UndoFailed> {
    AgentId::new(CHAPERONE).map_err(|_| UndoFailed::Internal)
}

pub(super) fn intent() -> Result<IntentId, UndoFailed> {
    IntentId::new(REMEDIATE).map_err(|_| UndoFailed::Internal)
}

pub(super) fn tool() -> Result<ToolName, UndoFailed> {
    ToolName::new(TOOL).map_err(|_| UndoFailed::Internal)
}
