//! Everything about one patient: pending, delivered, refused. Printed, it is the downtime pack.

use chaperone_core::ids::{PatientToken, WritebackId};
use chaperone_core::phi::Phi;
use chaperone_core::principal::{Human, Role};
use chaperone_core::writeback::{StateName, Writeback};

use super::part::Part;
use super::patients::{PatientHeader, sees_patients};
use super::{ROWS_MAX, ViewFailed};
use crate::context::Engine;
use crate::projection::WritebackRow;

/// The queue of one patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatientQueue {
    /// The patient's token.
    pub token: PatientToken,
    /// The patient; nothing while the EHR does not answer.
    pub patient: Option<Phi<PatientHeader>>,
    /// What waits for somebody or something, oldest first.
    pub pending: Vec<QueueItem>,
    /// What the EHR has, or what is staged here, newest first.
    pub done: Vec<QueueItem>,
    /// What came to nothing, newest first.
    pub ended: Vec<QueueItem>,
}

/// One write-back of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueItem {
    /// The row.
    pub row: WritebackRow,
    /// The change in words; for proposals that never got an order, what was asked.
    pub words: Phi<String>,
}

/// A patient with something pending, for the list of queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSummary {
    /// The patient.
    pub patient: super::patients::PatientBrief,
    /// How many proposals are pending.
    pub pending: usize,
    /// When the oldest of them was made.
    pub oldest: chaperone_core::Timestamp,
}

const PENDING: [StateName; 9] = [
    StateName::AwaitingApproval,
    StateName::AwaitingVerification,
    StateName::Ready,
    StateName::Delivering,
    StateName::Unknown,
    StateName::AwaitingSignature,
    StateName::DeadLetter,
    StateName::Quarantined,
    StateName::Canary,
];

impl Engine {
    /// The queue of one patient.
    ///
    /// # Errors
    /// [`ViewFailed::NotPermitted`] for roles that see no patients, [`ViewFailed::Missing`] for an
    /// unknown token.
    pub async fn patient_queue(
        &self,
        by: &Human,
        token: PatientToken,
    ) -> Result<PatientQueue, ViewFailed> {
        let rows = self.newest_of_patient(token, ROWS_MAX).await?;
        let mut beholding = None;
        if let Some(row) = rows.iter().find(|row| row.canary.is_some()) {
            let hand = self.take_in_hand(row.id).await?;
            beholding = self.beholding(&hand.state).await?;
        }
        let shown_by = beholding.as_ref().unwrap_or(self);
        let patient = shown_by.patient_header(by, token).await?;
        let mut queue = PatientQueue {
            token,
            patient,
            pending: Vec::new(),
            done: Vec::new(),
            ended: Vec::new(),
        };
        // What became of a canary is told to whoever decided about it, on its page.
        let open = |row: &WritebackRow| row.state != StateName::CanarySettled;
        for row in rows
            .into_iter()
            .filter(open)
            .map(WritebackRow::shown_among_others)
        {
            let words = self.words_of(by, row.id).await?;
            let list = match row.state {
                StateName::Delivered | StateName::Compensated | StateName::Staged => {
                    &mut queue.done
                }
                StateName::Refused | StateName::Void | StateName::Abandoned => &mut queue.ended,
                _ => &mut queue.pending,
            };
            list.push(QueueItem { row, words });
        }
        queue.pending.reverse();
        Ok(queue)
    }

    /// Patients with anything pending, those that wait longest first.
    ///
    /// # Errors
    /// [`ViewFailed::NotPermitted`] for roles that see no patients.
    pub async fn patient_queues(&self, by: &Human) -> Result<Vec<QueueSummary>, ViewFailed> {
        if !sees_patients(by) {
            return Err(ViewFailed::NotPermitted);
        }
        let mut canaries = std::collections::BTreeMap::new();
        let mut pending = std::collections::BTreeMap::new();
        for state in PENDING {
            for row in self.rows_in(state, ROWS_MAX).await? {
                let Some(token) = row.patient else { continue };
                let known = pending.entry(token).or_insert((0_usize, row.proposed));
                known.0 = known.0.saturating_add(1);
                known.1 = known.1.min(row.proposed);
                if state == StateName::Canary {
                    canaries.insert(token, row);
                }
            }
        }
        let mut queues = Vec::with_capacity(pending.len());
        for (token, (pending, oldest)) in pending {
            let patient = match canaries.get(&token) {
                Some(row) => self.brief_in(by, row, token).await?,
                None => self.patient_brief(by, token).await?,
            };
            queues.push(QueueSummary {
                patient,
                pending,
                oldest,
            });
        }
        queues.sort_by_key(|queue| queue.oldest);
        Ok(queues)
    }

    async fn words_of(&self, by: &Human, id: WritebackId) -> Result<Phi<String>, ViewFailed> {
        // Who treats a patient needs all of the queue when Chaperone or the EHR is down.
        const TREAT: [Role; 4] = [Role::Clinician, Role::Rn, Role::MaRn, Role::Pharmacist];
        let hand = self.take_in_hand(id).await?;
        let treats = TREAT.into_iter().any(|role| by.holds(role));
        if !treats && Part::of(&hand.state, by) != Part::Content {
            return Ok(Phi::new(format!(
                "For others to decide, by {}",
                hand.state.proposal().tool
            )));
        }
        match hand.state.ruled() {
            Some(ruled) => match self.order_content(&ruled.order).await {
                Ok(content) => Ok(content.words()),
                Err(failed) if failed.is_gone() => Ok(Phi::new(format!(
                    "By {}; what it held was deleted since",
                    hand.state.proposal().tool
                ))),
                Err(failed) => Err(failed),
            },
            None => {
                let asked = match &hand.state {
                    Writeback::Refused(_) => "Not valid as asked",
                    _ => "Asked",
                };
                let words = format!("{asked}, by {}", hand.state.proposal().tool);
                Ok(Phi::new(words))
            }
        }
    }
}
