//! Which grants wait for an agent: those that people and events of the EHR made for it.
//!
//! An agent asks in an envelope of the scope `collect`, which its own key opened and which calls no tool. It
//! is told grants that only it can use, and of the patient nothing. A grant is listed until it is used or has
//! expired, so that an answer that got lost on the way loses no work; using it is what happens once. A
//! dispatcher hands over its own grants, which are not listed.

use std::collections::BTreeMap;

use chaperone_core::Timestamp;
use chaperone_core::envelope::{Grant, GrantSource};
use chaperone_core::ids::{AgentId, CorrelationId, EhrEventType, GrantId, IntentId, ResourceToken};
use chaperone_core::mode::ModeSubject;
use chaperone_core::ports::{LISTED_MAX, Listing, StoreFailed};

use crate::context::Engine;
use crate::errors::CallError;
use crate::open_envelope::{COLLECT, Caller, GRANTS};

/// Most grants that one answer names, the oldest first.
pub const COLLECTED_MAX: usize = 100;
/// Most pages of the store that one answer goes through.
const PAGES_MAX: u32 = 10;

/// A grant that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingGrant {
    /// What opens the envelope.
    pub grant: GrantId,
    /// The intent it opens.
    pub intent: IntentId,
    /// What happened, when an event made it.
    pub event: Option<EhrEventType>,
    /// What the work is about, to be named to tools inside the envelope.
    pub work_item: Option<ResourceToken>,
    /// When it stops being usable.
    pub expires: Timestamp,
}

impl Engine {
    /// The grants that wait for the caller, oldest first.
    ///
    /// # Errors
    /// `denied` in an envelope of another scope; `ledger-unavailable` when the store fails. Recorded.
    pub async fn waiting_grants(
        &self,
        caller: &Caller,
        correlation: CorrelationId,
    ) -> Result<Vec<WaitingGrant>, CallError> {
        let listed = if caller.envelope.intent.as_str() == COLLECT {
            self.list_grants(caller).await
        } else {
            Err(CallError::denied()
                .saying("grants are listed in an envelope of the scope `collect` alone"))
        };
        match listed {
            Ok(grants) => Ok(grants),
            Err(error) => Err(self
                .record_refusal(Some(caller), None, None, error, correlation)
                .await),
        }
    }

    /// Goes through what is kept for the agent until an answer is full. What it could not use now, because its
    /// intent is not its own any more or is switched off, takes nobody's place.
    async fn list_grants(&self, caller: &Caller) -> Result<Vec<WaitingGrant>, CallError> {
        let agent = &caller.envelope.agent;
        let mut usable: BTreeMap<IntentId, bool> = BTreeMap::new();
        let mut waiting = Vec::new();
        let mut after = None;
        for _ in 0..PAGES_MAX {
            let listing = Listing {
                index: Some(agent.to_string()),
                after: after.take(),
                limit: LISTED_MAX,
                ..Listing::default()
            };
            let records = self
                .store
                .records(&self.config.tenant, GRANTS, listing, self.now())
                .await?;
            let is_last = records.len() < LISTED_MAX as usize;
            after = records
                .last()
                .map(|record| (record.sort.clone(), record.key.key.clone()));
            for record in records {
                let grant: Grant = serde_json::from_value(record.value)
                    .map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
                if grant.agent != *agent {
                    return Err(CallError::internal());
                }
                let is_usable = match usable.get(&grant.intent) {
                    Some(known) => *known,
                    None => {
                        let found = self.is_usable(agent, &grant.intent).await?;
                        usable.insert(grant.intent.clone(), found);
                        found
                    }
                };
                if is_usable {
                    waiting.push(waiting_of(grant));
                }
                if waiting.len() >= COLLECTED_MAX {
                    return Ok(waiting);
                }
            }
            if is_last {
                break;
            }
        }
        Ok(waiting)
    }

    /// Whether a grant of this intent would open an envelope now.
    async fn is_usable(&self, agent: &AgentId, intent: &IntentId) -> Result<bool, StoreFailed> {
        let declared = self.bundle.agent(agent);
        if !declared.is_some_and(|it| it.intents.contains(intent)) {
            return Ok(false);
        }
        let modes = ModeSubject {
            agent: Some(agent),
            intent: Some(intent),
            ..ModeSubject::default()
        };
        Ok(self.mode_of(modes).await?.calls())
    }
}

fn waiting_of(grant: Grant) -> WaitingGrant {
    let event = match grant.source {
        GrantSource::EhrNotification { event_type, .. } => Some(event_type),
        _ => None,
    };
    WaitingGrant {
        grant: grant.id,
        intent: grant.intent,
        event,
        work_item: grant.work_item,
        expires: grant.expires,
    }
}
