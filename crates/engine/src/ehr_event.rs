//! Events of the EHR: a source announces that something happened, and the patient whom it concerns comes
//! before one agent for one intent, once per event.
//!
//! An announcement is never believed. Its signature says who sent it (`signature`); what it may cause is in
//! the bundle (`rules/ehr-events.toml`); whose resource it names, and whether that is as it must be, the EHR
//! itself says (`subject`). The source learns whether the event was taken, and nothing of grant or patient.
//!
//! ```text
//! delivery ─▶ authenticate_event ─▶ (the gateway reads the body) ─▶ take_event ─┬─▶ taken before: same answer
//!                                                                               ▼
//!                               one commit: event remembered, grant, ledger ◀─ EHR confirms
//! ```
//!
//! That a Consent changed is announced in the same way and causes no grant (`consent`).
//!
//! The event is remembered in the commit that makes the grant, and only there: what fails before has used up
//! nothing and may be sent again; what failed after is found to be taken. How the agent hears of the grant is
//! `crate::collect`. Start at [`Engine::take_event`].

mod consent;
mod signature;
mod subject;

use std::fmt;

use chaperone_core::Timestamp;
use chaperone_core::bundle::EhrEventDeclaration;
use chaperone_core::digest::Digest;
use chaperone_core::envelope::{Grant, GrantSource};
use chaperone_core::event::{EhrEventRefusal, Event, StreamId};
use chaperone_core::ids::{CorrelationId, EhrEventSource, EhrEventType, GrantId};
use chaperone_core::mode::ModeSubject;
use chaperone_core::ports::{
    CommitFailed, Expected, PayloadClass, Record, RecordChange, RecordKey, StoreFailed,
};
use chaperone_core::principal::{Actor, SystemPart};
use serde::{Deserialize, Serialize};

pub use signature::{
    Delivery, EventSources, SECRET_BYTES_MIN, SourceKind, SourceSecrets, SourcesInvalid,
    WINDOW_S_DEFAULT,
};
pub(crate) use subject::check_table;

use crate::context::{Engine, after};
use crate::errors::CallError;
use crate::refusals::Named;
use signature::NotAuthentic;

/// Events that made a grant, until they would be too old to be taken again.
const EVENTS: &str = "ehr_event";

/// How long ago an event may have happened, in seconds.
pub const OCCURRED_AGE_S_MAX: i64 = 24 * 3_600;
/// How far ahead of our clock an event may have happened, in seconds.
const OCCURRED_AHEAD_S_MAX: i64 = 300;
/// How long an event is remembered, in seconds: as long as it could be taken again, and an hour for clocks
/// that differ between nodes.
const REMEMBERED_S: i64 = OCCURRED_AGE_S_MAX + OCCURRED_AHEAD_S_MAX + 3_600;
/// Longest event id, in bytes.
pub const EVENT_ID_BYTES_MAX: usize = 128;
/// Longest reference, in bytes.
pub const REFERENCE_BYTES_MAX: usize = 256;

/// A source whose signature over a delivery was right. Only [`Engine::authenticate_event`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    source: EhrEventSource,
}

impl Authenticated {
    /// Who sent it.
    pub fn source(&self) -> &EhrEventSource {
        &self.source
    }
}

/// What a source announces, as it stands in the body. Unknown keys are refused. Everything in it may concern
/// a patient: there is no `Display`, and `Debug` shows nothing.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notification {
    /// The event, as the source counts them; the same event always has the same id.
    pub id: String,
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: EhrEventType,
    /// When, RFC 3339 with an offset.
    pub occurred: Timestamp,
    /// The resource it is about, `Type/id`.
    pub resource: String,
    /// The patient whom the source takes it to concern, `Patient/id`; compared, never used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient: Option<String>,
}

impl fmt::Debug for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notification(withheld)")
    }
}

/// Why an event caused nothing: what the source is told, and what the ledger says.
struct Declined {
    error: CallError,
    /// Says more than the error does: which of the things that an EHR did not confirm.
    reason: &'static str,
}

impl Declined {
    /// One answer for everything that the EHR does not confirm: whether a resource exists, and whose it is,
    /// is not told to whoever holds a secret.
    fn unconfirmed(reason: &'static str) -> Self {
        Self {
            error: CallError::event_unconfirmed(),
            reason,
        }
    }
}

impl From<CallError> for Declined {
    fn from(error: CallError) -> Self {
        Self {
            reason: error.code,
            error,
        }
    }
}

impl From<StoreFailed> for Declined {
    fn from(failed: StoreFailed) -> Self {
        CallError::from(failed).into()
    }
}

/// An event, and what it says, as digests that tell nothing without the key.
struct Identity {
    event: Digest,
    content: Digest,
}

/// What is remembered of an event that was taken.
#[derive(Serialize, Deserialize)]
struct Remembered {
    content: Digest,
    grant: GrantId,
}

impl Engine {
    /// Checks who sent a delivery: before its body is read as anything but bytes.
    ///
    /// # Errors
    /// `signature-refused` for an unknown source, a missing or wrong signature (one answer for all), and
    /// `timestamp-refused` for a right one outside its time. Recorded.
    pub async fn authenticate_event(
        &self,
        delivery: Delivery<'_>,
        correlation: CorrelationId,
    ) -> Result<Authenticated, CallError> {
        let source = self
            .signed_by(delivery, SourceKind::Announcer, correlation)
            .await?;
        Ok(Authenticated { source })
    }

    /// Who of a kind signed a delivery; a refusal is recorded.
    pub(crate) async fn signed_by(
        &self,
        delivery: Delivery<'_>,
        kind: SourceKind,
        correlation: CorrelationId,
    ) -> Result<EhrEventSource, CallError> {
        let sources = &self.config.event_sources;
        let error = match sources.check(&delivery, kind, self.now()) {
            Ok(source) => return Ok(source),
            Err(NotAuthentic::Signature) => CallError::signature_refused(),
            Err(NotAuthentic::Timestamp { window_s }) => CallError::timestamp_refused().saying(
                format!("the timestamp is more than {window_s} seconds from this server's time"),
            ),
        };
        Err(self
            .record_refusal(None, None, None, error, correlation)
            .await)
    }

    /// Takes an event: once, whether it is sent once or often, at the same time or one after the other.
    ///
    /// # Errors
    /// `event-unlisted`, `invalid-argument`, `event-out-of-time`, `event-unconfirmed`, `event-conflict`,
    /// `agent-refused`, `halted`, `ehr-unavailable`, `ehr-answer-unusable`, `ledger-unavailable`. Recorded.
    /// After any of them the event has caused nothing; where the advice is to try again, the same event may
    /// be sent again.
    pub async fn take_event(
        &self,
        from: &Authenticated,
        notification: Notification,
        correlation: CorrelationId,
    ) -> Result<(), CallError> {
        let listed = self.bundle.ehr_event(&notification.event_type);
        let (event, declined) = match self.identify(from, &notification).await {
            Ok(identity) => match self.try_take(from, &notification, listed, &identity).await {
                Ok(outcome) => {
                    metrics::counter!("chaperone_ehr_events_total", "outcome" => outcome)
                        .increment(1);
                    return Ok(());
                }
                Err(declined) => (Some(identity.event), declined),
            },
            Err(declined) => (None, declined),
        };
        let refusal = EhrEventRefusal {
            correlation,
            notified_by: from.source.clone(),
            event_type: listed.map(|rule| rule.event_type.clone()),
            event,
            code: declined.reason.to_owned(),
        };
        Err(self.record_declined(refusal, declined).await)
    }

    /// Records a refusal that the gateway found itself in what an authenticated source sent.
    pub async fn refuse_event(
        &self,
        from: &Authenticated,
        error: CallError,
        correlation: CorrelationId,
    ) -> CallError {
        let refusal = EhrEventRefusal {
            correlation,
            notified_by: from.source.clone(),
            event_type: None,
            event: None,
            code: error.code.to_owned(),
        };
        self.record_declined(refusal, error.into()).await
    }

    /// Records, unless so many of a kind came within a minute that they are counted.
    async fn record_declined(&self, refusal: EhrEventRefusal, declined: Declined) -> CallError {
        let Declined { error, reason } = declined;
        if error.recorded {
            return error;
        }
        // The answer's code and not the reason: what the EHR did not confirm is nobody's to learn here.
        metrics::counter!("chaperone_ehr_events_total", "outcome" => error.code).increment(1);
        let from = Named::Source(refusal.notified_by.clone());
        if !self.refusals.admits(reason, from, self.now()) {
            return error.as_recorded();
        }
        let correlation = refusal.correlation;
        let mut commit = self.commit_as(dispatcher());
        commit.append(
            StreamId::Refusals,
            Expected::Any,
            Event::EhrEventRefused(refusal),
        );
        match self.store.commit(commit).await {
            Ok(_) => error.as_recorded(),
            Err(failed) => {
                tracing::error!(%correlation, error = %failed, "a refusal could not be recorded");
                error
            }
        }
    }

    async fn identify(
        &self,
        from: &Authenticated,
        notification: &Notification,
    ) -> Result<Identity, Declined> {
        let is_plain = |text: &str, bytes_max: usize| {
            !text.is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control)
        };
        let wrong = |field: &str| Declined::from(CallError::event_malformed().about(field));
        if !is_plain(&notification.id, EVENT_ID_BYTES_MAX) {
            return Err(wrong("id"));
        }
        let references = [
            ("resource", Some(&notification.resource)),
            ("patient", notification.patient.as_ref()),
        ];
        for (field, reference) in references {
            if reference.is_some_and(|text| !is_plain(text, REFERENCE_BYTES_MAX)) {
                return Err(wrong(field));
            }
        }
        let source = from.source.as_str().as_bytes();
        // What it says, not how it is written: a source may write the same event in another order of keys.
        let said = serde_json::to_vec(notification).map_err(|_| CallError::internal())?;
        let event: [&[u8]; 3] = [b"ehr event", source, notification.id.as_bytes()];
        let content: [&[u8]; 3] = [b"what an ehr event says", source, &said];
        let class = PayloadClass::Operational;
        Ok(Identity {
            event: self
                .keyed_digest(class, None, &event)
                .await
                .map_err(CallError::from)?,
            content: self
                .keyed_digest(class, None, &content)
                .await
                .map_err(CallError::from)?,
        })
    }

    /// Whether a grant was made now or before, in a word for the metrics.
    async fn try_take(
        &self,
        from: &Authenticated,
        notification: &Notification,
        listed: Option<&EhrEventDeclaration>,
        identity: &Identity,
    ) -> Result<&'static str, Declined> {
        const TAKEN: &str = "taken";
        const TAKEN_BEFORE: &str = "taken-before";
        let now = self.now();
        if notification.event_type.as_str() == consent::CONSENT_CHANGED {
            self.take_consent_change(from, notification).await?;
            return Ok(TAKEN);
        }
        if self.was_taken(identity, now).await? {
            return Ok(TAKEN_BEFORE);
        }
        let age_s = now.duration_since(notification.occurred).as_secs();
        if !(-OCCURRED_AHEAD_S_MAX..=OCCURRED_AGE_S_MAX).contains(&age_s) {
            return Err(CallError::event_out_of_time().about("occurred").into());
        }
        let rule = listed.ok_or_else(|| CallError::event_unlisted().about("type"))?;
        let agent = self
            .bundle
            .agent(&rule.agent)
            .ok_or_else(CallError::agent_refused)?;
        self.check_standing(agent, now)?;
        let modes = ModeSubject {
            agent: Some(&rule.agent),
            intent: Some(&rule.intent),
            resource: Some(&rule.resource),
            ehr: Some(self.ehr.connection()),
        };
        if !self.mode_of(modes).await?.calls() {
            return Err(CallError::halted().into());
        }
        let subject = self.subject_of(rule, notification).await?;
        let grant = Grant {
            id: GrantId::from_random(self.random.id()),
            tenant: self.config.tenant.clone(),
            agent: rule.agent.clone(),
            intent: rule.intent.clone(),
            patient: Some(subject.patient),
            encounter: subject.encounter,
            work_item: subject.work_item,
            presence: None,
            source: GrantSource::EhrNotification {
                notified_by: from.source.clone(),
                event_type: rule.event_type.clone(),
                event: identity.event,
            },
            expires: after(now, rule.expires_s),
        };
        match self.remember_and_grant(identity, &grant, now).await {
            Ok(()) => Ok(TAKEN),
            // The same event, or another with its id, was taken meanwhile.
            Err(CommitFailed::Record { collection }) if collection == EVENTS => {
                if self.was_taken(identity, now).await? {
                    Ok(TAKEN_BEFORE)
                } else {
                    Err(CallError::internal().into())
                }
            }
            Err(failed) => Err(CallError::from(failed).into()),
        }
    }

    async fn remember_and_grant(
        &self,
        identity: &Identity,
        grant: &Grant,
        now: Timestamp,
    ) -> Result<(), CommitFailed> {
        let remembered = Remembered {
            content: identity.content,
            grant: grant.id,
        };
        let unwritable =
            |failed: Box<dyn std::error::Error + Send + Sync>| CommitFailed::Unavailable(failed);
        let value = serde_json::to_value(&remembered).map_err(|e| unwritable(e.into()))?;
        let mut commit = self.commit_as(dispatcher());
        commit.records.push(RecordChange::Create(
            Record::new(EVENTS, identity.event, value).expiring(after(now, REMEMBERED_S)),
        ));
        self.put_grant(&mut commit, grant)
            .map_err(|e| unwritable(e.into()))?;
        self.store.commit(commit).await.map(|_| ())
    }

    /// Whether this event made a grant before. Another event under its id is a conflict.
    async fn was_taken(&self, identity: &Identity, now: Timestamp) -> Result<bool, CallError> {
        let key = RecordKey::new(EVENTS, identity.event);
        let Some(record) = self.store.record(&self.config.tenant, &key, now).await? else {
            return Ok(false);
        };
        let remembered: Remembered = serde_json::from_value(record.value)
            .map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
        if remembered.content == identity.content {
            Ok(true)
        } else {
            Err(CallError::event_conflict().about("id"))
        }
    }
}

fn dispatcher() -> Actor {
    Actor::System {
        part: SystemPart::Dispatcher,
    }
}
