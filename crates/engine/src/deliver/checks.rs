//! What must still hold right before an order is sent, and the order as it was approved.

use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::evidence::{Delivering, WriteOrder};
use chaperone_core::ports::{ConsentDecision, ConsentQuestion};
use chaperone_core::resource::Code;
use chaperone_core::writeback::{DeliveryStart, InDelivery, Proposal, Ready, VoidReason};

use super::begin;
use super::queue::later;
use crate::context::Engine;
use crate::order::with_provenance;
use crate::vault::VaultFailed;

/// Why an order cannot be turned into a delivery.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderUnusable {
    #[error("the stored order is not what was approved")]
    Differs,
    #[error(transparent)]
    Vault(#[from] VaultFailed),
}

impl Engine {
    /// Why a ready order must not be sent any more. Consent is asked again here, at send time.
    pub(super) async fn void_reason(&self, ready: &Ready, now: Timestamp) -> Option<VoidReason> {
        if now > sends_until(ready) {
            return Some(VoidReason::DeliverBy);
        }
        let ruled = ready.ruled();
        let proposal = &ruled.proposal;
        let Some(purpose) = self.purpose_of(proposal) else {
            return Some(VoidReason::AuthorityChanged);
        };
        if ruled.ruling.bundle != *self.bundle.digest() {
            return Some(VoidReason::AuthorityChanged);
        }
        for change in ruled.changes() {
            let question = ConsentQuestion {
                tenant: self.config.tenant.clone(),
                environment: self.ehr.environment(),
                patient: proposal.patient,
                intent: proposal.intent.clone(),
                purpose: purpose.clone(),
                resource: change.resource.clone(),
                write: true,
            };
            match self.consent.decide(question).await {
                ConsentDecision::Permit { .. } => {}
                ConsentDecision::Deny { .. } => return Some(VoidReason::Consent),
            }
        }
        None
    }

    /// The purpose of use of a write-back, while whoever proposed it may still do so: an agent that is registered for
    /// the intent, or Chaperone itself.
    fn purpose_of(&self, proposal: &Proposal) -> Option<Code> {
        if proposal.undo.is_some() {
            return Code::new(crate::undo::PURPOSE).ok();
        }
        self.bundle
            .agent(&proposal.agent)
            .filter(|agent| agent.intents.contains(&proposal.intent))
            .and_then(|_| self.bundle.intent(&proposal.intent))
            .map(|intent| intent.purpose_of_use.clone())
    }

    /// The order as approved: the stored bytes must have the approved digest, and be of the changes that were ruled on.
    pub(super) async fn approved_order(&self, ready: &Ready) -> Result<WriteOrder, OrderUnusable> {
        let reference = &ready.ruled().order;
        let bytes = self.unseal(&reference.address).await?;
        let order: WriteOrder =
            serde_json::from_slice(&bytes).map_err(|_| OrderUnusable::Differs)?;
        let ruled = ready.ruled().changes();
        let kinds = ruled.map(|change| (&change.resource, change.interaction));
        let sent = order.changes().map(|it| (it.resource, it.interaction));
        let is_approved = kinds.eq(sent)
            && Digest::of_bytes(&bytes) == reference.digest
            && order.writeback == ready.ruled().proposal.id
            && order.tenant == self.config.tenant
            && order.connection == *self.ehr.connection()
            && order.endpoint == self.ehr.endpoint();
        if !is_approved {
            return Err(OrderUnusable::Differs);
        }
        Ok(with_provenance(order, ready.approvals()))
    }

    /// What an attempt under way was sending, for attesting it.
    pub(crate) async fn delivering_again(
        &self,
        in_delivery: &InDelivery,
    ) -> Result<Delivering, OrderUnusable> {
        self.reconciling(in_delivery.ready(), in_delivery.start())
            .await
    }

    pub(super) async fn reconciling(
        &self,
        ready: &Ready,
        start: &DeliveryStart,
    ) -> Result<Delivering, OrderUnusable> {
        let order = self.approved_order(ready).await?;
        Ok(begin(order, start.digest, start.attempt))
    }
}

/// Whether what humans approved has waited longer than they were told it may. Putting a dead letter
/// back into the queue does not make an approval younger.
pub(crate) fn approval_ran_out(ready: &Ready, now: Timestamp) -> bool {
    approvals_until(ready).is_some_and(|until| now > until)
}

/// Until when it may be sent.
pub(super) fn sends_until(ready: &Ready) -> Timestamp {
    let by = ready.deliver_by();
    approvals_until(ready).map_or(by, |until| until.min(by))
}

/// Until when the newest approval may be acted on; nothing where nobody had to approve.
fn approvals_until(ready: &Ready) -> Option<Timestamp> {
    let within_ms = ready.ruled().order.deliver_within_s.saturating_mul(1_000);
    let approved = ready.approvals().iter().map(|approval| approval.at).max();
    approved.map(|at| later(at, within_ms))
}
