//! Several calls as one proposal: each is a call of a tool of this envelope, checked like any other, and none of them
//! is made without the others.
//!
//! The tool that takes them says which tools they may be of. What it cannot do is go another way than one
//! transaction: where the EHR does not take all of them as one, nothing is proposed.
//!
//! # Source
//! Requirement R024.

use chaperone_core::bundle::WriteAction;
use chaperone_core::ids::ToolName;
use chaperone_core::together::ENTRIES_MAX;
use serde_json::Value;

use crate::arguments::{Arguments, CHANGES};
use crate::call::Admitted;
use crate::context::Engine;
use crate::errors::CallError;
use crate::order::takes_as_one;

impl Engine {
    /// Proposes several changes as one write-back.
    ///
    /// # Errors
    /// As for one, with the change that it is about; `not-together` where this EHR does not take them as one.
    pub(crate) async fn propose_together(
        &self,
        whole: &Admitted<'_>,
        of: &[ToolName],
    ) -> Result<Value, CallError> {
        let sent = &whole.arguments.changes;
        if !(2..=ENTRIES_MAX).contains(&sent.len()) {
            return Err(CallError::invalid_argument()
                .about(CHANGES)
                .saying(format!("from 2 to {ENTRIES_MAX} changes")));
        }
        let mut admitted = Vec::with_capacity(sent.len());
        for at in 0..sent.len() {
            let one = self.one_of(whole, of, at).await;
            admitted.push(one.map_err(|failed| failed.of_change(at, sent.len()))?);
        }
        let mut calls: Vec<(&Admitted<'_>, &WriteAction)> = Vec::with_capacity(admitted.len());
        for call in &admitted {
            let write = call.tool.write.as_ref().ok_or_else(CallError::internal)?;
            calls.push((call, write));
        }
        self.takes_as_one(&calls).await?;
        self.propose_all(whole, &calls).await
    }

    /// One of the calls, as if it had come by itself, with what was said once for all.
    async fn one_of<'a>(
        &'a self,
        whole: &Admitted<'a>,
        of: &[ToolName],
        at: usize,
    ) -> Result<Admitted<'a>, CallError> {
        let sent = whole
            .arguments
            .changes
            .get(at)
            .ok_or_else(CallError::internal)?;
        let tool = ToolName::new(&sent.tool)
            .ok()
            .filter(|name| of.contains(name) && whole.intent.tools.contains(name))
            .and_then(|name| self.bundle.tool(&name))
            .ok_or_else(|| CallError::unknown_tool().about("tool"))?;
        let write = tool.write.as_ref().ok_or_else(CallError::unknown_tool)?;
        let resource = Some(write.resource.clone());
        let mode = self.check_mode(whole.caller, resource.as_ref()).await?;
        let policies = self.check_access(whole.caller, whole.intent, tool, resource, mode)?;
        let said = &whole.arguments;
        let arguments = Arguments {
            idempotency_key: said.idempotency_key.clone(),
            rationale: said.rationale.clone(),
            confidence: said.confidence,
            // What all of it rests on is followed once.
            sources: if at == 0 {
                said.sources.clone()
            } else {
                Vec::new()
            },
            ..Arguments::of_change(tool, sent.inputs.clone())?
        };
        Ok(Admitted {
            caller: whole.caller,
            intent: whole.intent,
            tool,
            arguments,
            policies,
            correlation: whole.correlation,
            edited: None,
        })
    }

    /// Whether the EHR takes all of it as one transaction, each change under its condition.
    async fn takes_as_one(&self, calls: &[(&Admitted<'_>, &WriteAction)]) -> Result<(), CallError> {
        let profile = self.delivery_profile().await?;
        for (at, (_, write)) in calls.iter().enumerate() {
            let support = profile.of(&write.resource, write.interaction);
            if !takes_as_one(&support) {
                return Err(CallError::not_together().of_change(at, calls.len()));
            }
        }
        Ok(())
    }
}
