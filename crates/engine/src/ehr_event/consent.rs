//! A source announces that a Consent changed: what was known of the patient's Consents is forgotten at once, and what
//! is queued for them and no longer covered is void.
//!
//! The announcement is not believed here either: whose Consent it is, the EHR says. Where the EHR does not say, what
//! was known of everybody is forgotten, which costs requests and opens nothing. So the same announcement may come
//! as often as it likes, and nothing of it is remembered.

use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::PatientToken;
use chaperone_core::ports::{EhrReadFailed, Expected};
use chaperone_core::resource::ResourceType;
use serde_json::Value;

use super::{Authenticated, Declined, Notification, dispatcher};
use crate::context::Engine;
use crate::errors::CallError;

/// The type of the event. No table of a bundle may list it.
pub(super) const CONSENT_CHANGED: &str = "consent-changed";

impl Engine {
    pub(super) async fn take_consent_change(
        &self,
        from: &Authenticated,
        notification: &Notification,
    ) -> Result<(), Declined> {
        let patient = match self.whose_consent(&notification.resource).await {
            Ok(patient) => patient,
            Err(declined) => {
                self.consents.forget(None);
                return Err(declined);
            }
        };
        // Before it is recorded: should that fail, nothing kept counts any more all the same.
        self.consents_changed(patient).await;
        let mut commit = self.commit_as(dispatcher());
        commit.append(
            StreamId::Tenant,
            Expected::Any,
            Event::ConsentAnnounced {
                notified_by: from.source().clone(),
                patient,
            },
        );
        self.store.commit(commit).await.map_err(CallError::from)?;
        Ok(())
    }

    /// The patient of a Consent, as the EHR says; nobody where it has no such Consent, or one that names nobody.
    async fn whose_consent(&self, reference: &str) -> Result<Option<PatientToken>, Declined> {
        let id = self.own(reference, "Consent").ok_or_else(|| {
            Declined::from(
                CallError::event_malformed()
                    .about("resource")
                    .saying("name the Consent as `Consent/id`"),
            )
        })?;
        let kind = ResourceType::new("Consent").map_err(|_| CallError::internal())?;
        let consent = match self.ehr.read(&kind, id).await {
            Ok(consent) => consent,
            Err(EhrReadFailed::NotFound) => return Ok(None),
            Err(failed) => return Err(CallError::from(failed).into()),
        };
        let patient = consent
            .pointer("/patient/reference")
            .and_then(Value::as_str);
        let Some(id) = patient.and_then(|text| self.own(text, "Patient")) else {
            return Ok(None);
        };
        let survivor = self.survivor(id).await?;
        Ok(Some(self.patient_token(&survivor).await?))
    }
}
