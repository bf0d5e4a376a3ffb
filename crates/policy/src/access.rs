//! May this agent, inside this intent, call this tool?
//!
//! The answer is the access policies'; what they are shown comes from the request and, where the
//! bundle itself knows better, from the bundle.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Context, Entities, Entity, RestrictedExpression};
use chaperone_core::bundle::PatientBinding;
use chaperone_core::ids::PolicyId;
use chaperone_core::ports::Environment;
use chaperone_core::request::{AccessDecision, AccessRequest};

use crate::bundle::Bundle;
use crate::row::{Action, Meaning};
use crate::ruling::POLICY_ERROR;
use crate::set::Verdict;

/// Denial when no policy gives a more precise one.
pub const POLICY_DENIED: &str = "policy-denied";

impl Bundle {
    /// Decides whether a tool may be called. An evaluation that fails is a denial.
    ///
    /// # Source
    /// Authorisation by intent rather than by role alone (requirement R076); each tool with explicit
    /// permission (R074).
    pub fn permit_access(&self, request: &AccessRequest) -> AccessDecision {
        match self.ask_access(request) {
            None => AccessDecision::Deny {
                code: POLICY_ERROR.to_owned(),
                policies: Vec::new(),
            },
            Some(verdict) if !verdict.failed.is_empty() => AccessDecision::Deny {
                code: POLICY_ERROR.to_owned(),
                policies: verdict.failed,
            },
            Some(verdict) => {
                let policies: Vec<PolicyId> = verdict
                    .determining
                    .iter()
                    .map(|entry| entry.id.clone())
                    .collect();
                if verdict.permits {
                    AccessDecision::Permit { policies }
                } else {
                    let code = verdict
                        .determining
                        .iter()
                        .find_map(|entry| match &entry.meaning {
                            Meaning::Prohibition(prohibition) => Some(prohibition.denial.clone()),
                            _ => None,
                        })
                        .unwrap_or_else(|| POLICY_DENIED.to_owned());
                    AccessDecision::Deny { code, policies }
                }
            }
        }
    }

    fn ask_access(&self, request: &AccessRequest) -> Option<Verdict<'_>> {
        let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
        let principal = self.sets.agent(request.agent.as_str());
        let tool = self.sets.tool(request.tool.as_str());
        let intents = request
            .agent_intents
            .iter()
            .map(|intent| text(intent.as_str()));
        let agent = Entity::new(
            principal.clone(),
            HashMap::from([("intents".to_owned(), RestrictedExpression::new_set(intents))]),
            HashSet::new(),
        )
        .ok()?;
        let resource = Entity::new(
            tool.clone(),
            HashMap::from([
                (
                    "type".to_owned(),
                    text(
                        request
                            .resource
                            .as_ref()
                            .map_or("", |resource| resource.as_str()),
                    ),
                ),
                (
                    "writes".to_owned(),
                    RestrictedExpression::new_bool(request.write),
                ),
            ]),
            HashSet::new(),
        )
        .ok()?;
        let entities = Entities::from_entities([agent, resource], None).ok()?;
        // An intent that demands presence is never served by a caller that forgot to look.
        let demanded = self
            .intent(&request.intent)
            .is_some_and(|intent| intent.presence);
        let presence = match request.presence_live {
            Some(true) => "live",
            Some(false) => "absent",
            None if demanded => "absent",
            None => "not_asked",
        };
        let environment = match request.environment {
            Environment::Sandbox => "sandbox",
            Environment::Test => "test",
            Environment::Production => "production",
        };
        let binding = match request.binding {
            PatientBinding::Required => "required",
            PatientBinding::None => "none",
        };
        let context = Context::from_pairs([
            ("intent".to_owned(), text(request.intent.as_str())),
            (
                "in_intent".to_owned(),
                RestrictedExpression::new_bool(request.intent_tools.contains(&request.tool)),
            ),
            ("binding".to_owned(), text(binding)),
            (
                "patient_bound".to_owned(),
                RestrictedExpression::new_bool(request.patient_bound),
            ),
            ("purpose".to_owned(), text(request.purpose.as_str())),
            ("connection".to_owned(), text(request.connection.as_str())),
            ("environment".to_owned(), text(environment)),
            ("presence".to_owned(), text(presence)),
            (
                "agreements_in_force".to_owned(),
                RestrictedExpression::new_bool(request.agreements_in_force),
            ),
            ("mode".to_owned(), text(request.mode.as_str())),
        ])
        .ok()?;
        self.sets
            .ask(Action::Access, principal, tool, context, &entities)
            .ok()
    }
}
