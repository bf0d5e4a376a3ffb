//! The changes of an order as whoever decides sees them: one, or all of those that take effect as one. Before and after
//! come from the order itself; the EHR is asked once more whether the record is still what they rest on.

use chaperone_core::change::ChangeClass;
use chaperone_core::content::content_digest;
use chaperone_core::evidence::{RulingRecord, WriteOrder};
use chaperone_core::gate::Gate;
use chaperone_core::phi::Phi;
use chaperone_core::ports::EhrReadFailed;
use chaperone_core::resource::{Interaction, ResourceType};
use chaperone_core::together::OneChange;
use chaperone_core::writeback::Proposal;
use chaperone_fhir::words::{self, DiffLine};
use serde_json::Value;

use super::ViewFailed;
use super::displays::{for_words, with_displays};
use super::review::corrupt;
use crate::context::Engine;

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeView {
    /// It in one line.
    pub words: Phi<String>,
    /// Before and after, element by element: all of it, for nobody decides about what they are not shown. How much
    /// that can be is bounded where it is proposed.
    pub diff: Vec<DiffLine>,
    /// Texts of it that can be read as a whole, such as a note.
    pub documents: Vec<String>,
    /// Whether the base is still what it was.
    pub base: BaseState,
    /// For an order that follows another, that other one and what differs.
    pub follows: Option<Follows>,
    /// Of several that are decided as one: what was ruled on it by itself.
    pub alone: Option<AloneView>,
}

/// The order that a new one follows, as the EHR has it now. Not part of what is approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follows {
    /// It in one line.
    pub words: String,
    /// What of its clinical content differs.
    pub diff: Vec<DiffLine>,
}

/// What was ruled on one of several changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AloneView {
    /// What it would need by itself.
    pub gate: Gate,
    /// Its class.
    pub class: ChangeClass,
    /// Why it is refused, where it is.
    pub denial: Option<String>,
    /// Why, in words.
    pub reasons: Vec<String>,
}

/// Whether what a change rests on is still so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseState {
    /// Something new: there is no base.
    New,
    /// The EHR still has what the order rests on.
    Current,
    /// The EHR has something else by now.
    Changed,
    /// The EHR does not answer.
    NotChecked,
}

/// One change of an order, opened.
pub(super) struct OpenedChange {
    pub(super) body: Value,
    pub(super) base: Option<Value>,
}

impl OpenedChange {
    fn of(change: &OneChange<'_>) -> Result<Self, ViewFailed> {
        let read = |text: &str, wrong| serde_json::from_str(text).map_err(|_| corrupt(wrong));
        Ok(Self {
            body: read(change.body, "the body of a stored order cannot be read")?,
            base: match change.base {
                Some(text) => Some(read(text, "the base of a stored order cannot be read")?),
                None => None,
            },
        })
    }

    fn diff(&self) -> Vec<DiffLine> {
        let base = self.base.as_ref().map(with_displays);
        words::diff(base.as_ref(), &with_displays(&self.body))
    }

    fn words(&self) -> String {
        let base = self.base.as_ref().map(for_words);
        words::describe_change(base.as_ref(), &for_words(&self.body))
    }
}

/// An order with its bodies and bases, opened.
pub(super) struct OrderContent {
    pub(super) order: WriteOrder,
    /// The first change, which is the only one of most orders.
    pub(super) first: OpenedChange,
    /// The others.
    pub(super) also: Vec<OpenedChange>,
}

impl OrderContent {
    pub(super) fn of(order: WriteOrder) -> Result<Self, ViewFailed> {
        let mut changes = order.changes().map(|change| OpenedChange::of(&change));
        let first = changes
            .next()
            .ok_or_else(|| corrupt("a stored order changes nothing"))??;
        let also = changes.collect::<Result<Vec<_>, ViewFailed>>()?;
        Ok(Self { order, first, also })
    }

    pub(super) fn changes(&self) -> impl Iterator<Item = &OpenedChange> {
        std::iter::once(&self.first).chain(&self.also)
    }

    /// Every difference, for where there is one change only.
    pub(super) fn diff(&self) -> Vec<DiffLine> {
        self.first.diff()
    }

    /// The change in one line, or all of them.
    pub(super) fn words(&self) -> Phi<String> {
        if self.also.is_empty() {
            return Phi::new(self.first.words());
        }
        let all: Vec<String> = self.changes().map(OpenedChange::words).collect();
        Phi::new(format!("{} as one: {}", all.len(), all.join(" · ")))
    }
}

impl Engine {
    /// The changes of an opened order, each with what was ruled on it where there are several.
    pub(super) async fn change_views(
        &self,
        opened: &OrderContent,
        proposal: &Proposal,
        ruling: &RulingRecord,
    ) -> Vec<ChangeView> {
        let mut views = Vec::new();
        for (at, (change, sent)) in opened.changes().zip(opened.order.changes()).enumerate() {
            views.push(ChangeView {
                words: Phi::new(change.words()),
                diff: change.diff(),
                documents: documents(&change.body),
                base: self.base_state(&sent).await,
                follows: self.follows(&change.body, proposal).await,
                alone: ruling.entries.get(at).map(|own| AloneView {
                    gate: own.gate.clone(),
                    class: own.class,
                    denial: own.denial.clone(),
                    reasons: own.reasons.iter().map(|it| it.text.clone()).collect(),
                }),
            });
        }
        views
    }

    /// The prescription a new one names as its prior, when it is this patient's and can be read.
    async fn follows(&self, body: &Value, proposal: &Proposal) -> Option<Follows> {
        const CLINICAL: [&str; 5] = [
            "medicationCodeableConcept",
            "medicationReference",
            "dosageInstruction",
            "dispenseRequest",
            "substitution",
        ];
        let reference = body.pointer("/priorPrescription/reference")?.as_str()?;
        let id = reference.strip_prefix("MedicationRequest/")?;
        let resource = ResourceType::new("MedicationRequest").ok()?;
        let prior = self.ehr.read(&resource, id).await.ok()?;
        let patient_id = self.patient_id(proposal.patient?).await.ok()?;
        if !self.belongs_to(&prior, &patient_id) {
            tracing::warn!("an order follows a prescription of somebody else; it is not shown");
            return None;
        }
        let clinical = |of: &Value| {
            let mut shown = with_displays(of);
            if let Some(members) = shown.as_object_mut() {
                members.retain(|name, _| CLINICAL.contains(&name.as_str()));
            }
            shown
        };
        Some(Follows {
            words: words::describe(&for_words(&prior)),
            diff: words::diff(Some(&clinical(&prior)), &clinical(body)),
        })
    }

    async fn base_state(&self, change: &OneChange<'_>) -> BaseState {
        if change.interaction == Interaction::Create {
            return BaseState::New;
        }
        let id = change.path.rsplit('/').next().unwrap_or_default();
        match self.ehr.read(change.resource, id).await {
            Ok(now) if change.base_digest == Some(&content_digest(&now)) => BaseState::Current,
            Ok(_) | Err(EhrReadFailed::NotFound) => BaseState::Changed,
            Err(_) => BaseState::NotChecked,
        }
    }
}

/// Texts that are readable as a whole: attachments in plain text.
fn documents(body: &Value) -> Vec<String> {
    use base64::Engine as _;
    let contents = body
        .get("content")
        .and_then(Value::as_array)
        .map(Vec::as_slice);
    contents
        .unwrap_or_default()
        .iter()
        .filter_map(|content| {
            let attachment = content.get("attachment")?;
            let kind = attachment.get("contentType")?.as_str()?;
            let data = attachment.get("data")?.as_str()?;
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(data)
                .ok()?;
            kind.starts_with("text/plain")
                .then(|| String::from_utf8(bytes).ok())
                .flatten()
        })
        .collect()
}
