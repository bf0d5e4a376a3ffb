//! Light proposals of one kind on one page, each with all that it changes.

use chaperone_core::digest::Digest;
use chaperone_core::ids::WritebackId;
use chaperone_core::phi::Phi;
use chaperone_core::principal::Human;
use chaperone_fhir::words::DiffLine;

use super::ViewFailed;
use super::patients::{PatientBrief, sees_patients};
use crate::batch::Kind;
use crate::context::Engine;

/// Most lines of what one of them changes; one with more is decided by itself.
const DIFF_LINES_MAX: usize = 24;

/// One proposal of several.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchItem {
    /// The write-back.
    pub id: WritebackId,
    /// What an approval must name.
    pub digest: Digest,
    /// The change in words.
    pub words: Phi<String>,
    /// Before and after, element by element.
    pub diff: Phi<Vec<DiffLine>>,
    /// The patient.
    pub patient: Option<PatientBrief>,
    /// Until when it can be decided.
    pub deadline: chaperone_core::Timestamp,
}

impl Engine {
    /// How many proposals may be decided from one page.
    pub fn batch_max(&self) -> u32 {
        self.tables.batch_rules().items_max
    }

    /// The proposals of one kind with a given one that this person can approve from one page, by deadline; none where
    /// that one is not light, or not theirs.
    ///
    /// # Errors
    /// Store and vault failures; [`ViewFailed::Missing`] for an unknown id.
    pub async fn batch(&self, by: &Human, like: WritebackId) -> Result<Vec<BatchItem>, ViewFailed> {
        let rules = self.tables.batch_rules();
        if !sees_patients(by) || by.is_in_training() {
            return Err(ViewFailed::Missing);
        }
        let first = self.take_in_hand(like).await?;
        let kind = match first.state.before_people() {
            Some(waiting) => Kind::of(waiting.ruled()),
            None => return Ok(Vec::new()),
        };
        let claims = self.claims(by).await?;
        let mut found = Vec::new();
        for row in self.before_people().await? {
            let hand = self.take_in_hand(row.id).await?;
            let Some(waiting) = hand.state.before_people() else {
                continue;
            };
            let ruled = waiting.ruled();
            let is_held = claims.get(&row.id).is_some_and(|claim| !claim.yours);
            let is_theirs = super::review::turn_in(&hand.state, by).is_yours();
            let is_begun = !waiting.approvals().is_empty();
            if is_held || is_begun || !is_theirs || !rules.admits(ruled) || Kind::of(ruled) != kind
            {
                continue;
            }
            found.push((ruled.order.approve_by, row, ruled.clone()));
        }
        found.sort_by_key(|(deadline, row, _)| (*deadline, row.id));
        let most = usize::try_from(rules.items_max).unwrap_or(0);
        let mut items = Vec::new();
        for (deadline, row, ruled) in found {
            if items.len() >= most {
                break;
            }
            let content = self.order_content(&ruled.order).await?;
            let diff = content.diff();
            if diff.len() > DIFF_LINES_MAX {
                continue;
            }
            let patient = match ruled.proposal.patient {
                Some(token) => Some(self.brief_in(by, &row, token).await?),
                None => None,
            };
            // Nobody approves what is for somebody who cannot be shown.
            if patient
                .as_ref()
                .is_some_and(|patient| patient.shown.is_none())
            {
                continue;
            }
            items.push(BatchItem {
                id: row.id,
                digest: ruled.order.digest,
                words: content.words(),
                diff: Phi::new(diff),
                patient,
                deadline,
            });
        }
        Ok(items)
    }
}
