//! Portals of patients: what a portal may see of a proposal that waits for the patient, and who it is.
//!
//! A portal is a client of a kind of its own, with a secret of its own: no agent, and no source of EHR events. It
//! dealt with the patient and signs that it did; Chaperone compares, and believes it about nothing else.
//!
//! ```text
//! authenticate_portal ─▶ proposal_for_patient ─▶ (the portal shows it, the patient confirms) ─▶ take_attestation
//! ```
//!
//! What the patient confirms comes from here and not from the agent: an agent that was talked into something could
//! show one thing and have another confirmed. So the digest is handed out only together with what it is of, to the
//! portal of the patient, and recorded as a look at that patient. What an attestation does is
//! [`crate::verification`]. Start at [`Engine::authenticate_portal`].
//!
//! # Source
//! Requirements R031 and R033; 45 CFR 164.524 (patients see what is about them).

use std::collections::BTreeSet;
use std::fmt;

use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::event::{CallRefusal, Event, StreamId};
use chaperone_core::ids::{CorrelationId, EhrEventSource, WritebackId};
use chaperone_core::phi::Phi;
use chaperone_core::ports::Expected;
use chaperone_core::principal::Actor;
use chaperone_core::resource::Interaction;
use chaperone_phi::labels::Labels;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::Engine;
use crate::ehr_event::{Delivery, SourceKind};
use crate::errors::CallError;
use crate::refusals::Named;
use crate::verification::VerifyFailed;
use crate::verification::contact::for_proxy;

/// What a portal is shown, as the look is recorded.
const PAGE: &str = "portal.proposal";

/// A portal whose signature over what it sent was right. Only [`Engine::authenticate_portal`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portal(EhrEventSource);

impl Portal {
    /// Its name.
    pub fn name(&self) -> &EhrEventSource {
        &self.0
    }

    pub(crate) fn actor(&self) -> Actor {
        Actor::Portal {
            portal: self.0.clone(),
        }
    }
}

/// Which proposal a portal asks for, as it stands in the body that it signed. Unknown keys are refused.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposalAsked {
    /// The write-back that waits.
    pub writeback: WritebackId,
    /// The patient whom the portal deals with, `Patient/id`; compared, never used.
    pub patient: String,
    /// Who looks in the patient's place, `RelatedPerson/id`, where it is not the patient.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proxy: Option<String>,
}

impl fmt::Debug for ProposalAsked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProposalAsked(withheld)")
    }
}

/// A proposal as the patient is to see it before they confirm it.
#[derive(Debug, Clone)]
pub struct ForPatient {
    /// The write-back.
    pub writeback: WritebackId,
    /// What an attestation must name: the digest of exactly this content.
    pub digest: Digest,
    /// Until when it waits.
    pub until: Timestamp,
    /// Facts that nothing shows yet.
    pub needs: BTreeSet<String>,
    /// What would be sent: one change, or all of those that go as one. Whoever confirms it confirms each.
    pub changes: Vec<ChangeForPatient>,
}

/// One change as the patient is to see it.
#[derive(Debug, Clone)]
pub struct ChangeForPatient {
    /// Whether the resource is new or takes another's place.
    pub interaction: Interaction,
    /// The resource as it would be sent.
    pub resource: Phi<Value>,
}

impl Engine {
    /// Checks which portal sent something: before its body is read as anything but bytes.
    ///
    /// # Errors
    /// `signature-refused` for an unknown portal, a source of EHR events, a missing or wrong signature (one answer for
    /// all), and `timestamp-refused` for a right one outside its time. Recorded.
    pub async fn authenticate_portal(
        &self,
        delivery: Delivery<'_>,
        correlation: CorrelationId,
    ) -> Result<Portal, CallError> {
        self.signed_by(delivery, SourceKind::Portal, correlation)
            .await
            .map(Portal)
    }

    /// What a portal is to show the patient, or whoever acts in their place, before they confirm it.
    ///
    /// # Errors
    /// [`VerifyFailed`]; nothing is told then. A refusal is recorded.
    pub async fn proposal_for_patient(
        &self,
        from: &Portal,
        asked: ProposalAsked,
    ) -> Result<ForPatient, VerifyFailed> {
        let writeback = asked.writeback;
        let done = self.try_proposal_for_patient(from, asked).await;
        self.verification_recorded(from, writeback, done).await
    }

    async fn try_proposal_for_patient(
        &self,
        from: &Portal,
        asked: ProposalAsked,
    ) -> Result<ForPatient, VerifyFailed> {
        if !self.tables.trust().knows(from.name()) {
            return Err(VerifyFailed::NotTrusted);
        }
        let about = (asked.patient.as_str(), None);
        let (waiting, (token, id)) = self.waiting(asked.writeback, about).await?;
        let now = self.now();
        let until = waiting.ruled.order.approve_by;
        if now >= until {
            return Err(VerifyFailed::NotWaiting);
        }
        // Only what it, or who acts there, has a say in.
        let needs = self.missing_of(&waiting).await?;
        let trust = self.tables.trust();
        let has_say = |fact: &String| trust.valid_s(from.name(), fact).is_some();
        if !needs.iter().any(has_say) {
            return Err(VerifyFailed::NotTrusted);
        }
        if let Some(proxy) = &asked.proxy {
            let is_for_proxies = |fact: &String| has_say(fact) && trust.proxies_for(fact).is_some();
            if !needs.iter().any(is_for_proxies) {
                return Err(VerifyFailed::Proxy);
            }
            self.may_see_for(proxy, (token, &id)).await?;
        }
        let mut changes = Vec::new();
        for change in waiting.order.changes() {
            changes.push(ChangeForPatient {
                interaction: change.interaction,
                resource: Phi::new(may_be_shown(change.body)?),
            });
        }
        if let (Some(_), Some(added), [only]) =
            (&asked.proxy, for_proxy(&waiting.order), &mut *changes)
        {
            only.resource = Phi::new(added);
        }
        let shown = ForPatient {
            writeback: asked.writeback,
            digest: waiting.ruled.order.digest,
            until,
            needs,
            changes,
        };
        let look = self.ceiling(PAGE, Some(token), &["change"])?;
        let mut commit = self.commit_as(from.actor());
        commit.append(
            StreamId::Tenant,
            Expected::Any,
            Event::ReadPermitted(Box::new(look)),
        );
        self.store.commit(commit).await?;
        Ok(shown)
    }

    /// Records a refusal that the gateway found itself in what a portal sent.
    pub async fn refuse_portal(
        &self,
        from: &Portal,
        error: CallError,
        correlation: CorrelationId,
    ) -> CallError {
        let named = Named::Source(from.name().clone());
        metrics::counter!("chaperone_refusals_total", "code" => error.code).increment(1);
        if error.recorded || !self.refusals.admits(error.code, named, self.now()) {
            return error.as_recorded();
        }
        let refusal = CallRefusal {
            correlation,
            agent: None,
            tool: None,
            code: error.code.to_owned(),
            because: None,
            consent: None,
        };
        let mut commit = self.commit_as(from.actor());
        commit.append(
            StreamId::Refusals,
            Expected::Any,
            Event::CallRefused(refusal),
        );
        match self.store.commit(commit).await {
            Ok(_) => error.as_recorded(),
            Err(failed) => {
                tracing::error!(%correlation, error = %failed, "a refusal could not be recorded");
                error
            }
        }
    }
}

/// The resource that would be sent, if patients may be shown it. What is labelled as restricted goes through people, who
/// know what the patient may learn how.
pub(crate) fn may_be_shown(body: &str) -> Result<Value, VerifyFailed> {
    let resource: Value = serde_json::from_str(body).map_err(|_| VerifyFailed::Order)?;
    match Labels::of(&resource).restriction() {
        None => Ok(resource),
        Some(_) => Err(VerifyFailed::NotWaiting),
    }
}

/// What a portal is told of a refusal, which is recorded already.
impl From<VerifyFailed> for CallError {
    fn from(failed: VerifyFailed) -> Self {
        let said = failed.to_string();
        match failed {
            // One answer, so that nobody finds out by asking what waits for whom.
            VerifyFailed::NotWaiting | VerifyFailed::OtherContent => {
                CallError::nothing_to_verify().as_recorded()
            }
            VerifyFailed::Refused(refusal) => CallError {
                code: refusal.code(),
                ..CallError::verification_refused().saying(said)
            }
            .as_recorded(),
            VerifyFailed::RulesChanged => CallError::verification_outdated().as_recorded(),
            VerifyFailed::NoLongerSo => CallError {
                code: "no-longer-so",
                ..CallError::verification_outdated().saying(said)
            }
            .as_recorded(),
            VerifyFailed::NotNeeded => CallError::verification_not_needed().as_recorded(),
            VerifyFailed::NotTrusted => CallError::source_not_trusted().as_recorded(),
            VerifyFailed::Method => CallError::method_refused().as_recorded(),
            VerifyFailed::Proxy => CallError::proxy_refused().as_recorded(),
            VerifyFailed::IdUnfit => CallError::portal_malformed()
                .about("id")
                .saying(said)
                .as_recorded(),
            VerifyFailed::OutOfTime => CallError::attestation_out_of_time().as_recorded(),
            VerifyFailed::Used => CallError::attestation_used().as_recorded(),
            VerifyFailed::NoChannel => CallError::no_code_channel().as_recorded(),
            VerifyFailed::CodesSpent => CallError::codes_spent().as_recorded(),
            VerifyFailed::TooManyCodes => CallError::too_many_codes().as_recorded(),
            VerifyFailed::CodeNotSent => CallError::code_not_sent(),
            VerifyFailed::CodeWrong => CallError::code_wrong().as_recorded(),
            VerifyFailed::CodeOver => CallError::code_over().as_recorded(),
            VerifyFailed::Halted => CallError::halted().as_recorded(),
            VerifyFailed::Conflict => CallError::verification_conflict(),
            VerifyFailed::Ehr(failed) => failed.into(),
            VerifyFailed::Store(failed) => failed.into(),
            VerifyFailed::Commit(failed) => failed.into(),
            VerifyFailed::Keys(failed) => failed.into(),
            VerifyFailed::Order => CallError::internal(),
        }
    }
}
