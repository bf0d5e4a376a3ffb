//! Checks of `agents/*.toml`: whom an agent answers to, what it may open, whom it may dispatch.

use std::collections::{BTreeMap, BTreeSet};

use super::Declared;
use crate::problem::{Problems, line_of};

pub(super) fn check(
    declared: &Declared,
    files: &BTreeMap<String, String>,
    problems: &mut Problems,
) {
    for (path, agent) in declared.agents.values() {
        let id = agent.id.as_str();
        let line = |wanted: &str| files.get(path).and_then(|text| line_of(text, wanted));
        for (key, text) in [
            ("version", &agent.version),
            ("owner", &agent.owner),
            ("vendor", &agent.vendor),
            ("runtime", &agent.runtime),
            ("model", &agent.model),
        ] {
            if text.trim().is_empty() {
                problems.add_at(path, line(key), id, format!("`{key}` is empty"));
            }
        }
        for prompt in &agent.prompts {
            let named = prompt
                .split_once('@')
                .is_some_and(|(id, version)| !id.is_empty() && !version.is_empty());
            if !named {
                problems.add_at(
                    path,
                    line(prompt),
                    id,
                    format!("prompt `{prompt}` must name its version: `id@version`"),
                );
            }
        }
        if agent.providers.is_empty() {
            problems.add(path, id, "names no provider; everyone who sees what the agent sees must be listed with the expiry of their agreement");
        }
        for provider in &agent.providers {
            if !provider.training_banned {
                problems.add_at(
                    path,
                    line(&provider.name),
                    id,
                    format!(
                        "provider `{}` has not agreed to keep the data out of training",
                        provider.name
                    ),
                );
            }
        }
        let mut seen = BTreeSet::new();
        for intent in &agent.intents {
            if !declared.intents.contains_key(intent) {
                problems.add_at(
                    path,
                    line(intent.as_str()),
                    id,
                    format!("intent `{intent}` is not declared"),
                );
            }
            if !seen.insert(intent) {
                problems.add_at(
                    path,
                    line(intent.as_str()),
                    id,
                    format!("intent `{intent}` is listed twice"),
                );
            }
        }
        if agent.intents.is_empty() && agent.dispatches.is_empty() {
            problems.add(
                path,
                id,
                "may neither open an intent nor dispatch one; remove the agent",
            );
        }
        for dispatch in &agent.dispatches {
            let registered = declared
                .agents
                .get(&dispatch.agent)
                .is_some_and(|(_, other)| other.intents.contains(&dispatch.intent));
            if !registered {
                problems.add_at(
                    path,
                    line(dispatch.agent.as_str()),
                    id,
                    format!(
                        "may dispatch `{}` to `{}`, which is not registered for it",
                        dispatch.intent, dispatch.agent
                    ),
                );
            }
            if dispatch.agent == agent.id {
                problems.add_at(
                    path,
                    line(dispatch.agent.as_str()),
                    id,
                    "may dispatch to itself, which would let it choose its patients",
                );
            }
        }
    }
}
