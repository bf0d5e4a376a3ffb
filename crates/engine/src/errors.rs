//! Errors that agents see: one table from causes to stable codes, retry advice and HTTP status.
//!
//! Texts name what is wrong and what to do next, and never carry anything the agent did not send.

use chaperone_core::ports::{CommitFailed, EhrReadFailed, KeyVaultFailed, StoreFailed};
use serde::Serialize;

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// No.
    Never,
    /// Yes, the same call, after this many seconds.
    After(u32),
    /// Yes, with another call.
    Changed,
}

/// An error answer to an agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct CallError {
    /// Stable code.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// The argument or header it is about.
    pub field: Option<String>,
    /// Whether trying again can help.
    pub retry: Retry,
    /// What to do next.
    pub next: String,
    /// The HTTP status of the REST interface.
    pub status: u16,
    /// Whether the refusal is already in the ledger.
    pub recorded: bool,
    /// Which rule decided, for the record; the agent is not told.
    pub because: Option<Box<Because>>,
}

/// What decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Because {
    /// The code of the rule.
    pub rule: String,
    /// The Consent, by the name that the record has for it, where one decided.
    pub consent: Option<String>,
}

macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal, $retry:expr, $message:literal, $next:literal;)*) => {
        impl CallError {
            $($(#[$doc])*
            pub fn $name() -> Self {
                Self {
                    code: $code,
                    message: $message.to_owned(),
                    field: None,
                    retry: $retry,
                    next: $next.to_owned(),
                    status: $status,
                    recorded: false,
                    because: None,
                }
            })*
        }
    };
}

causes! {
    /// No bearer token.
    no_token = "no-token", 401, Retry::Changed, "the request carries no access token", "get one from /oauth/token and send it as `Authorization: Bearer …`";
    /// A token that is not ours, or for another audience.
    bad_token = "invalid-token", 401, Retry::Changed, "the access token is not valid here", "get a new one from /oauth/token for this server";
    /// A token or envelope past its end.
    expired_token = "expired-token", 401, Retry::Changed, "the envelope has expired; envelopes live five minutes at most", "get a new context grant and open a new envelope";
    /// The agent is no longer registered, or its agreements have run out.
    agent_refused = "agent-refused", 403, Retry::Never, "this agent may not work here now", "ask the operator to check the agent's registration and agreements";
    /// A tool that is not in the envelope, or does not exist: the same answer.
    unknown_tool = "unknown-tool", 404, Retry::Changed, "this envelope has no such tool", "call tools/list and use one of those";
    /// An argument that the tool does not declare.
    undeclared_argument = "undeclared-argument", 422, Retry::Changed, "the tool does not take this argument", "send only the arguments of the tool's input schema";
    /// An argument that is missing or of the wrong shape.
    invalid_argument = "invalid-argument", 422, Retry::Changed, "the argument is missing or not of the declared form", "follow the tool's input schema";
    /// A token that stands for nothing in this envelope: the same answer whether it exists elsewhere.
    not_found = "not-found", 404, Retry::Changed, "there is nothing under this token in this envelope", "use tokens that this envelope's tools returned";
    /// Policy said no.
    denied = "denied", 403, Retry::Never, "policy does not allow this", "do something else, or ask a human to do it";
    /// Several changes that this EHR does not take as one.
    not_together = "not-together", 409, Retry::Changed, "the EHR does not take this as one transaction with others, so none of it was proposed", "propose the changes one by one";
    /// Consent said no.
    consent_denied = "consent-denied", 403, Retry::Never, "consent does not cover this access", "do not retry; a human can review consent";
    /// The patient's consents cannot be read: nobody knows, so nothing is shown.
    consent_unread = "consent-unreadable", 503, Retry::After(30), "the patient's consents cannot be read now, so nothing is shown or changed", "try again shortly; if it persists, tell the operator the correlation id";
    /// A switch is thrown.
    halted = "halted", 503, Retry::After(60), "agent access is switched off for now", "wait, or hand over to a human";
    /// Same key, other content.
    idempotency_conflict = "idempotency-conflict", 409, Retry::Changed, "this idempotency key was used for another proposal", "use a new key for a new proposal";
    /// The EHR does not answer.
    ehr_unavailable = "ehr-unavailable", 503, Retry::After(5), "the EHR does not answer now", "try again shortly";
    /// The EHR's answer cannot be used safely.
    ehr_unusable = "ehr-answer-unusable", 502, Retry::Never, "the EHR's answer could not be checked and was withheld", "ask a human to look";
    /// The ledger cannot persist: nothing happens.
    ledger_unavailable = "ledger-unavailable", 503, Retry::After(5), "the access could not be recorded, so it did not happen", "try again shortly";
    /// A part of Chaperone failed.
    internal = "internal", 500, Retry::After(5), "the request could not be completed", "try again; if it persists, tell the operator the correlation id";
    /// The body is too large.
    too_large = "body-too-large", 413, Retry::Changed, "the request body is larger than allowed", "send less";
    /// Too many requests.
    rate_limited = "rate-limited", 429, Retry::After(1), "too many requests", "wait as Retry-After says";
    /// The grant cannot open this envelope: one answer for forged, used, foreign and expired.
    grant_refused = "invalid-grant", 400, Retry::Changed, "the context grant cannot open this envelope", "get a new grant made for this agent and intent";
    /// The assertion cannot be accepted.
    assertion_refused = "invalid-client", 401, Retry::Changed, "the client assertion is not accepted", "sign a new assertion with a registered key, for this audience, with a fresh jti";
    /// The token of an EHR that asks for a card: one answer for whatever is wrong with it.
    card_client_refused = "invalid-client", 401, Retry::Changed, "the token is not accepted", "sign a new token as CDS Hooks asks for, with a registered key, for this service, with a fresh jti, and send it as `Authorization: Bearer …`";
    /// The intent is unknown or not granted to the agent: the same answer.
    intent_refused = "invalid-scope", 400, Retry::Changed, "this agent may not open an envelope for this intent", "ask for one intent the agent is registered for, as `intent/<id>`";
    /// An announced event whose source did not sign it: one answer for an unknown source, a missing signature
    /// and a wrong one.
    signature_refused = "signature-refused", 401, Retry::Changed, "no known source has signed this", "sign `timestamp.body` with the secret of this source by HMAC-SHA-256, and send X-Chaperone-Timestamp and X-Chaperone-Signature once each";
    /// A rightly signed event at another time.
    timestamp_refused = "timestamp-refused", 401, Retry::Changed, "the timestamp is too far from this server's time", "set the clock, and sign each sending anew with the time of sending";
    /// A notification that is not of the form that is asked for.
    event_malformed = "invalid-argument", 422, Retry::Changed, "the notification is not of the form that is asked for", "send `id`, `type`, `occurred` and `resource`, at most `patient`, and nothing else, as /openapi.json says";
    /// A type of event that may cause nothing.
    event_unlisted = "event-unlisted", 422, Retry::Never, "events of this type cause nothing here", "do not send it, or have the operator list it in rules/ehr-events.toml";
    /// An event that happened too long ago, or has not happened yet.
    event_out_of_time = "event-out-of-time", 422, Retry::Never, "the event happened more than a day ago, or is still to happen", "send events when they happen";
    /// What the EHR does not say: one answer for a resource that is not there, is another patient's, or is in
    /// another state.
    event_unconfirmed = "event-unconfirmed", 404, Retry::After(60), "the EHR does not confirm this event", "try again later; if it persists, tell the operator the correlation id";
    /// The same event id for another event.
    event_conflict = "event-conflict", 409, Retry::Never, "this event id was used for another event", "give each event an id of its own";
    /// What a portal sends that is not of the form that is asked for.
    portal_malformed = "invalid-argument", 422, Retry::Changed, "what was sent is not of the form that is asked for", "send the keys that /openapi.json names for this address, and nothing else";
    /// Nothing waits under this id for this patient with this content: one answer for all of it.
    nothing_to_verify = "not-waiting", 404, Retry::Never, "nothing of this id and content waits for this patient", "show the patient what waits now, and have that confirmed";
    /// The state machine refuses; the code is its own.
    verification_refused = "refused", 409, Retry::Never, "this cannot be verified any more", "a new proposal can be made and confirmed";
    /// It was ruled on under rules that are no longer in force.
    verification_outdated = "rules-changed", 409, Retry::Never, "the rules changed since this was ruled on", "it must be proposed and confirmed again";
    /// The gate does not name the fact.
    verification_not_needed = "not-needed", 422, Retry::Never, "this proposal needs no such verification", "attest only what the proposal says it needs";
    /// The bundle does not trust the portal for the fact.
    source_not_trusted = "source-not-trusted", 403, Retry::Never, "this portal may not attest this fact", "have the operator list it in rules/verification.toml";
    /// The step does not show the fact.
    method_refused = "method-refused", 403, Retry::Changed, "this step does not verify this fact", "verify it by a step that rules/verification.toml lists for it";
    /// The EHR does not show that somebody may act in the patient's place.
    proxy_refused = "proxy-refused", 403, Retry::Never, "this person may not act in the patient's place here", "let the patient confirm it themself, or ask the practice, where a person decides";
    /// An attestation that is too old, or of a time to come.
    attestation_out_of_time = "out-of-time", 422, Retry::Changed, "the attestation is too old, or of a time to come", "let the patient confirm it again, and send it at once";
    /// An attestation that was used before.
    attestation_used = "attestation-used", 409, Retry::Never, "this attestation was used before", "give each attestation an id of its own; what was sent first counted";
    /// No code can be sent for it.
    no_code_channel = "no-channel", 422, Retry::Never, "no code can be sent for this", "verify it in the portal, if it is trusted for that, or let the practice decide";
    /// As many codes, or wrong codes, as may be for one proposal.
    codes_spent = "codes-spent", 409, Retry::Never, "no more codes are made or taken for this", "it must be proposed again";
    /// As many codes as may be for one patient.
    too_many_codes = "too-many-codes", 429, Retry::After(3600), "too many codes were sent for this patient lately", "wait, or ask the practice";
    /// The mail server did not take the mail with the code.
    code_not_sent = "code-not-sent", 503, Retry::After(60), "the mail with the code was not sent", "ask for another code";
    /// Another code than the newest.
    code_wrong = "code-wrong", 403, Retry::Changed, "this is not the code that was sent last", "let them enter it again; a few tries are taken";
    /// No code counts now.
    code_over = "code-over", 409, Retry::Changed, "no code counts for this now", "ask for a new code";
    /// Somebody else acted on it.
    verification_conflict = "conflict", 409, Retry::After(1), "something else happened to it just now", "send the same again";
    /// A slot that cannot be put back, or that stands where none is taken.
    slot_refused = "slot-unresolved", 422, Retry::Changed, "a slot in the argument cannot be put back", "copy slots exactly as this envelope's tools returned them, into arguments that take them; or write it without a slot";
    /// The proposal does not pass validation.
    invalid_proposal = "invalid-proposal", 422, Retry::Changed, "the proposal is not valid", "read the findings and send a corrected proposal";
}

impl CallError {
    /// The same error about one argument.
    #[must_use]
    pub fn about(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// The same error, said of one of several changes, counted from 0; of a single one, the same.
    #[must_use]
    pub(crate) fn of_change(self, at: usize, of: usize) -> Self {
        if of < 2 {
            return self;
        }
        let place = match &self.field {
            Some(field) => format!("changes[{at}].{field}"),
            None => format!("changes[{at}]"),
        };
        self.about(place)
    }

    /// The same error with a message that says more.
    #[must_use]
    pub fn saying(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// The same error with the rule that decided, for the record alone.
    #[must_use]
    pub fn because(mut self, rule: impl Into<String>) -> Self {
        self.because = Some(Box::new(Because {
            rule: rule.into(),
            consent: None,
        }));
        self
    }

    /// The same error with the Consent that decided, for the record alone.
    #[must_use]
    pub fn by_consent(mut self, name: Option<String>) -> Self {
        if let Some(because) = &mut self.because {
            because.consent = name;
        }
        self
    }

    /// The same error, marked as recorded.
    #[must_use]
    pub fn as_recorded(mut self) -> Self {
        self.recorded = true;
        self
    }

    /// The body of an error answer.
    pub fn body(&self, correlation: &str) -> serde_json::Value {
        let retry = match self.retry {
            Retry::Never => serde_json::json!("never"),
            Retry::Changed => serde_json::json!("changed"),
            Retry::After(seconds) => serde_json::json!({ "after_s": seconds }),
        };
        serde_json::json!({
            "code": self.code,
            "message": self.message,
            "field": self.field,
            "retry": retry,
            "next": self.next,
            "correlation": correlation,
        })
    }
}

impl From<StoreFailed> for CallError {
    fn from(failed: StoreFailed) -> Self {
        tracing::error!(error = %failed, "the store failed");
        CallError::ledger_unavailable()
    }
}

impl From<CommitFailed> for CallError {
    fn from(failed: CommitFailed) -> Self {
        tracing::error!(error = %failed, "a commit failed");
        CallError::ledger_unavailable()
    }
}

impl From<KeyVaultFailed> for CallError {
    fn from(failed: KeyVaultFailed) -> Self {
        tracing::error!(error = %failed, "the key vault failed");
        CallError::internal()
    }
}

impl From<EhrReadFailed> for CallError {
    fn from(failed: EhrReadFailed) -> Self {
        match failed {
            EhrReadFailed::NotFound => CallError::not_found(),
            EhrReadFailed::Unavailable | EhrReadFailed::RateLimited => CallError::ehr_unavailable(),
            EhrReadFailed::Unauthorized | EhrReadFailed::Unsupported | EhrReadFailed::Unusable => {
                tracing::warn!(error = %failed, "an EHR answer was withheld");
                CallError::ehr_unusable()
            }
        }
    }
}
