//! Opening an envelope: a signed assertion and a context grant in, a five-minute token out; and
//! entering it again with that token.
//!
//! The access token carries the envelope's id and nothing else of substance. Everything the envelope
//! allows is looked up here, at each call, so that withdrawing it takes effect within a second.

use std::sync::{Arc, LazyLock};

use chaperone_core::Timestamp;
use chaperone_core::bundle::{AgentDeclaration, IntentDeclaration, PatientBinding};
use chaperone_core::envelope::{ENVELOPE_SECONDS_MAX, Envelope, Grant};
use chaperone_core::event::{CallRefusal, Event, StreamId};
use chaperone_core::ids::{AgentId, CorrelationId, EnvelopeId, GrantId, IntentId};
use chaperone_core::mode::ModeSubject;
use chaperone_core::ports::{CommitFailed, Expected, Record, RecordChange, RecordKey};
use chaperone_core::principal::Actor;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::client_token::{self, ClientClaims, TokenFault};
use crate::context::Engine;
use crate::errors::CallError;
use crate::refusals::Named;

pub(crate) const GRANTS: &str = "grant";
const ENVELOPES: &str = "envelope";
const TOKEN_KEY: &str = "signing/access-token";

/// The type of authorization detail that carries a context grant.
const CONTEXT_DETAIL: &str = "chaperone_context";

/// The scope of a dispatcher: it makes context grants for the agents on its list, and calls no tool.
pub(crate) const DISPATCH: &str = "dispatch";

/// The scope in which an agent asks which grants wait for it; it calls no tool.
pub(crate) const COLLECT: &str = "collect";

/// What a dispatcher's envelope is for.
static DISPATCHING: LazyLock<Option<IntentDeclaration>> = LazyLock::new(|| {
    without_tools(
        DISPATCH,
        "Put patients of a work list before the agents that serve them.",
    )
});

/// What an envelope is for in which an agent asks for its grants.
static COLLECTING: LazyLock<Option<IntentDeclaration>> =
    LazyLock::new(|| without_tools(COLLECT, "Learn which work waits."));

/// A scope that is fixed in code: about no patient, and without tools.
fn without_tools(scope: &str, purpose: &str) -> Option<IntentDeclaration> {
    Some(IntentDeclaration {
        id: IntentId::new(scope).ok()?,
        purpose: purpose.to_owned(),
        purpose_of_use: chaperone_core::resource::Code::new("PATADMIN").ok()?,
        ttl_s: ENVELOPE_SECONDS_MAX,
        patient: PatientBinding::None,
        presence: false,
        tools: Vec::new(),
        view: std::collections::BTreeMap::new(),
        text: std::collections::BTreeMap::new(),
        writes: Vec::new(),
    })
}

/// Whether an agent may open an envelope of a scope that is fixed in code.
fn may_open(agent: &AgentDeclaration, scope: &str) -> bool {
    match scope {
        DISPATCH => !agent.dispatches.is_empty(),
        COLLECT => !agent.intents.is_empty(),
        _ => false,
    }
}

/// A request at the token endpoint.
#[derive(Debug)]
pub struct TokenRequest<'a> {
    /// The client assertion, a JWT.
    pub assertion: &'a str,
    /// The scope: exactly one `intent/<id>`, `dispatch` or `collect`.
    pub scope: &'a str,
    /// RFC 9396 details, JSON, with the context grant.
    pub authorization_details: Option<&'a str>,
    /// The request.
    pub correlation: CorrelationId,
}

/// What the token endpoint answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenAnswer {
    /// The access token.
    pub access_token: String,
    /// Seconds until it expires.
    pub expires_in: i64,
    /// The scope granted.
    pub scope: String,
}

/// An agent inside an open envelope.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The envelope.
    pub envelope: Arc<Envelope>,
}

impl Caller {
    pub(crate) fn actor(&self) -> Actor {
        Actor::Agent {
            agent: self.envelope.agent.clone(),
            envelope: Some(self.envelope.id),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct AccessClaims {
    iss: String,
    aud: String,
    exp: i64,
    jti: EnvelopeId,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContextDetail {
    #[serde(rename = "type")]
    detail_type: String,
    grant: GrantId,
}

impl Engine {
    /// Opens an envelope. Every refusal is recorded; the answer never says which of several
    /// possible things was wrong with a grant.
    ///
    /// # Errors
    /// `invalid-client`, `invalid-scope`, `invalid-grant`, `agent-refused`, `halted`,
    /// `ledger-unavailable`.
    pub async fn open_envelope(&self, request: TokenRequest<'_>) -> Result<TokenAnswer, CallError> {
        let mut agent = None;
        match self.try_open(&request, &mut agent).await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self
                .record_refusal(None, agent, None, error, request.correlation)
                .await),
        }
    }

    async fn try_open(
        &self,
        request: &TokenRequest<'_>,
        known_agent: &mut Option<AgentId>,
    ) -> Result<TokenAnswer, CallError> {
        let now = self.now();
        let (agent, claims) = self.check_assertion(request.assertion, now)?;
        *known_agent = Some(agent.id.clone());
        self.check_standing(agent, now)?;
        let intent = self.intent_of(agent, request.scope)?;
        let modes = ModeSubject {
            agent: Some(&agent.id),
            intent: Some(&intent.id),
            ..ModeSubject::default()
        };
        if !self.mode_of(modes).await?.calls() {
            return Err(CallError::halted());
        }
        let grant = self
            .grant_for(agent, intent, request.authorization_details, now)
            .await?;
        let list = match &grant {
            Some((grant, _)) => self.check_cohort_grant(grant).await?,
            None => None,
        };
        let envelope = self.new_envelope(agent, intent, grant.as_ref().map(|(g, _)| g), now)?;
        let answer = self.access_token(&envelope, &intent.id).await?;

        let mut commit = self.commit_as(Actor::Agent {
            agent: agent.id.clone(),
            envelope: Some(envelope.id),
        });
        let used = self
            .used_once(&claims, &[])
            .ok_or_else(CallError::assertion_refused)?;
        commit.records.push(used);
        commit.guards.extend(list);
        let value = serde_json::to_value(&envelope).map_err(|_| CallError::internal())?;
        commit.records.push(RecordChange::Create(
            Record::new(ENVELOPES, envelope.id, value).expiring(envelope.expires),
        ));
        if let Some((grant, record)) = &grant {
            commit.records.push(RecordChange::Consume(record.clone()));
            commit.append(
                StreamId::Grant(grant.id),
                Expected::Version(1),
                Event::GrantConsumed {
                    envelope: envelope.id,
                },
            );
        }
        commit.append(
            StreamId::Envelope(envelope.id),
            Expected::Version(0),
            Event::EnvelopeOpened(Box::new(envelope)),
        );
        match self.store.commit(commit).await {
            Ok(_) => Ok(answer),
            Err(CommitFailed::Record { collection }) if collection == client_token::USED => {
                Err(CallError::assertion_refused().saying("this assertion was used before"))
            }
            Err(CommitFailed::Record { .. } | CommitFailed::Conflict { .. }) => {
                Err(CallError::grant_refused())
            }
            Err(failed) => Err(failed.into()),
        }
    }

    /// Verifies the assertion against the registered keys.
    fn check_assertion(
        &self,
        assertion: &str,
        now: Timestamp,
    ) -> Result<(&AgentDeclaration, ClientClaims), CallError> {
        let refused = CallError::assertion_refused;
        let agent_of = |name: &str| {
            let id = AgentId::new(name).ok()?;
            self.bundle.agent(&id)
        };
        let audiences = [
            format!("{}/oauth/token", self.config.audience),
            self.config.audience.clone(),
        ];
        let claims = client_token::verify(
            assertion,
            &[Algorithm::EdDSA, Algorithm::ES384, Algorithm::RS384],
            &|name| agent_of(name).map(|agent| agent.keys.as_slice()),
            &audiences,
            now,
        )
        .map_err(|fault| match fault {
            TokenFault::NotTheirs => refused(),
            TokenFault::Algorithm => {
                refused().saying("sign the assertion with EdDSA, ES384 or RS384")
            }
            TokenFault::NoKeyId => refused().saying("name the key in `kid`"),
            TokenFault::Audience => refused().saying("the assertion is for another audience"),
            TokenFault::Expired => refused().saying("the assertion has expired"),
            TokenFault::TooLong => refused().saying("an assertion may live five minutes at most"),
            TokenFault::Future => refused().saying("the assertion is from the future"),
            TokenFault::Id => refused().saying("`jti` must be 1 to 256 characters"),
        })?;
        if claims.sub.as_deref() != Some(claims.iss.as_str()) {
            return Err(refused().saying("`iss` and `sub` must both be the agent's id"));
        }
        let agent = agent_of(&claims.iss).ok_or_else(refused)?;
        Ok((agent, claims))
    }

    /// An agent works only while everyone who sees what it sees is bound by an agreement.
    pub(crate) fn check_standing(
        &self,
        agent: &AgentDeclaration,
        now: Timestamp,
    ) -> Result<(), CallError> {
        let lapsed = agent.providers.is_empty()
            || agent
                .providers
                .iter()
                .any(|p| p.baa_expires <= now || !p.training_banned);
        if lapsed {
            return Err(CallError::agent_refused()
                .saying("an agreement in this agent's provider chain is missing or has expired"));
        }
        Ok(())
    }

    fn intent_of(
        &self,
        agent: &AgentDeclaration,
        scope: &str,
    ) -> Result<&IntentDeclaration, CallError> {
        if may_open(agent, scope) {
            let fixed = match scope {
                DISPATCH => DISPATCHING.as_ref(),
                _ => COLLECTING.as_ref(),
            };
            return fixed.ok_or_else(CallError::intent_refused);
        }
        let id = scope
            .strip_prefix("intent/")
            .and_then(|id| IntentId::new(id).ok())
            .filter(|id| agent.intents.contains(id))
            .ok_or_else(CallError::intent_refused)?;
        self.bundle
            .intent(&id)
            .ok_or_else(CallError::intent_refused)
    }

    async fn grant_for(
        &self,
        agent: &AgentDeclaration,
        intent: &IntentDeclaration,
        details: Option<&str>,
        now: Timestamp,
    ) -> Result<Option<(Grant, RecordKey)>, CallError> {
        let refused = CallError::grant_refused;
        let details: Vec<ContextDetail> = match details {
            Some(text) => serde_json::from_str(text).map_err(|_| {
                refused()
                    .about("authorization_details")
                    .saying("send `[{\"type\":\"chaperone_context\",\"grant\":\"grant_…\"}]`")
            })?,
            None => Vec::new(),
        };
        let id = match (intent.patient, details.as_slice()) {
            (PatientBinding::None, []) => return Ok(None),
            (PatientBinding::None, _) => {
                return Err(refused().saying("this intent takes no context grant"));
            }
            (PatientBinding::Required, [detail]) if detail.detail_type == CONTEXT_DETAIL => {
                detail.grant
            }
            (PatientBinding::Required, _) => {
                return Err(refused()
                    .about("authorization_details")
                    .saying("this intent needs exactly one context grant"));
            }
        };
        let key = RecordKey::new(GRANTS, id);
        let record = self
            .store
            .record(&self.config.tenant, &key, now)
            .await?
            .ok_or_else(refused)?;
        let grant: Grant =
            serde_json::from_value(record.value).map_err(|_| CallError::internal())?;
        let fits = grant.agent == agent.id
            && grant.intent == intent.id
            && grant.tenant == self.config.tenant
            && grant.patient.is_some()
            && now < grant.expires;
        let present = grant.presence.as_ref().is_some_and(|p| now < p.until);
        if !fits || (intent.presence && !present) {
            return Err(refused());
        }
        Ok(Some((grant, key)))
    }

    fn new_envelope(
        &self,
        agent: &AgentDeclaration,
        intent: &IntentDeclaration,
        grant: Option<&Grant>,
        now: Timestamp,
    ) -> Result<Envelope, CallError> {
        let ttl_s = intent.ttl_s.clamp(1, ENVELOPE_SECONDS_MAX);
        let expires = now
            .checked_add(jiff::SignedDuration::from_secs(ttl_s))
            .map_err(|_| CallError::internal())?;
        Ok(Envelope {
            id: EnvelopeId::from_random(self.random.id()),
            tenant: self.config.tenant.clone(),
            agent: agent.id.clone(),
            intent: intent.id.clone(),
            grant: grant.map(|g| g.id),
            patient: grant.and_then(|g| g.patient),
            encounter: grant.and_then(|g| g.encounter),
            presence: grant.and_then(|g| g.presence.clone()),
            purpose: intent.purpose_of_use.clone(),
            bundle: *self.bundle.digest(),
            opened: now,
            expires,
        })
    }

    async fn access_token(
        &self,
        envelope: &Envelope,
        intent: &IntentId,
    ) -> Result<TokenAnswer, CallError> {
        let key = self.keys.data_key(&self.config.tenant, TOKEN_KEY).await?;
        let claims = AccessClaims {
            iss: self.config.audience.clone(),
            aud: self.config.audience.clone(),
            exp: envelope.expires.as_second(),
            jti: envelope.id,
        };
        let access_token = jsonwebtoken::encode(
            &Header::new(Algorithm::HS256),
            &claims,
            &EncodingKey::from_secret(key.as_slice()),
        )
        .map_err(|_| CallError::internal())?;
        Ok(TokenAnswer {
            access_token,
            expires_in: envelope
                .expires
                .as_second()
                .saturating_sub(envelope.opened.as_second()),
            scope: match intent.as_str() {
                fixed @ (DISPATCH | COLLECT) => fixed.to_owned(),
                intent => format!("intent/{intent}"),
            },
        })
    }

    /// Enters an open envelope with its access token. Refusals are recorded.
    ///
    /// # Errors
    /// `no-token`, `invalid-token`, `expired-token`, `agent-refused`, `halted`.
    pub async fn enter(
        &self,
        bearer: Option<&str>,
        correlation: CorrelationId,
    ) -> Result<Caller, CallError> {
        match self.try_enter(bearer).await {
            Ok(caller) => Ok(caller),
            Err(error) => Err(self
                .record_refusal(None, None, None, error, correlation)
                .await),
        }
    }

    async fn try_enter(&self, bearer: Option<&str>) -> Result<Caller, CallError> {
        let token = bearer.ok_or_else(CallError::no_token)?;
        let now = self.now();
        let key = self.keys.data_key(&self.config.tenant, TOKEN_KEY).await?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        validation.set_audience(&[&self.config.audience]);
        validation.set_issuer(&[&self.config.audience]);
        let claims = jsonwebtoken::decode::<AccessClaims>(
            token,
            &DecodingKey::from_secret(key.as_slice()),
            &validation,
        )
        .map_err(|_| CallError::bad_token())?
        .claims;
        if claims.exp <= now.as_second() {
            return Err(CallError::expired_token());
        }
        let envelope = self.open_envelope_record(claims.jti, now).await?;
        let agent = self
            .bundle
            .agent(&envelope.agent)
            .ok_or_else(CallError::agent_refused)?;
        self.check_standing(agent, now)?;
        let is_registered =
            may_open(agent, envelope.intent.as_str()) || agent.intents.contains(&envelope.intent);
        if !is_registered || envelope.bundle != *self.bundle.digest() {
            // The rules changed under the envelope: it must be opened again under the new ones.
            return Err(CallError::expired_token());
        }
        let modes = ModeSubject {
            agent: Some(&envelope.agent),
            intent: Some(&envelope.intent),
            ..ModeSubject::default()
        };
        if !self.mode_of(modes).await?.calls() {
            return Err(CallError::halted());
        }
        Ok(Caller { envelope })
    }

    async fn open_envelope_record(
        &self,
        id: EnvelopeId,
        now: Timestamp,
    ) -> Result<Arc<Envelope>, CallError> {
        let envelope = match self.recent.envelope(id, now) {
            Some(envelope) => envelope,
            None => {
                let record = self
                    .store
                    .record(&self.config.tenant, &RecordKey::new(ENVELOPES, id), now)
                    .await?
                    .ok_or_else(CallError::expired_token)?;
                let envelope: Envelope =
                    serde_json::from_value(record.value).map_err(|_| CallError::internal())?;
                if envelope.id != id {
                    return Err(CallError::internal());
                }
                self.recent.keep_envelope(now, envelope)
            }
        };
        if envelope.is_open(now) {
            Ok(envelope)
        } else {
            Err(CallError::expired_token())
        }
    }

    /// Records a refusal that the gateway found itself, such as a body that is too large.
    pub async fn refuse(
        &self,
        caller: Option<&Caller>,
        error: CallError,
        correlation: CorrelationId,
    ) -> CallError {
        self.record_refusal(caller, None, None, error, correlation)
            .await
    }

    /// Records a refusal, unless it is recorded. When that fails too, the ledger is what is refused.
    pub(crate) async fn record_refusal(
        &self,
        caller: Option<&Caller>,
        agent: Option<AgentId>,
        tool: Option<chaperone_core::ids::ToolName>,
        error: CallError,
        correlation: CorrelationId,
    ) -> CallError {
        if error.recorded {
            return error;
        }
        metrics::counter!("chaperone_refusals_total", "code" => error.code).increment(1);
        let agent = caller.map(|c| c.envelope.agent.clone()).or(agent);
        let named = agent.clone().map_or(Named::Nobody, Named::Agent);
        if caller.is_none() && !self.refusals.admits(error.code, named, self.now()) {
            // Counted; recorded together with the others of its minute.
            return error.as_recorded();
        }
        let actor = match (caller, &agent) {
            (Some(caller), _) => caller.actor(),
            (None, Some(agent)) => Actor::Agent {
                agent: agent.clone(),
                envelope: None,
            },
            (None, None) => Actor::Anonymous,
        };
        let stream = caller.map_or(StreamId::Refusals, |c| StreamId::Envelope(c.envelope.id));
        let mut commit = self.commit_as(actor);
        let refusal = CallRefusal {
            correlation,
            agent,
            tool,
            code: error.code.to_owned(),
            because: error.because.as_ref().map(|it| it.rule.clone()),
            consent: error.because.as_ref().and_then(|it| it.consent.clone()),
        };
        commit.append(stream, Expected::Any, Event::CallRefused(refusal));
        match self.store.commit(commit).await {
            Ok(_) => error.as_recorded(),
            Err(failed) => {
                tracing::error!(%correlation, error = %failed, "a refusal could not be recorded");
                error
            }
        }
    }
}
