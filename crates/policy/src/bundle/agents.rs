//! Checks of `agents/*.toml`: whom an agent answers to, who else sees what it sees, what it may open, whom it may
//! dispatch.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::bundle::{AgentDeclaration, ProviderRole};
use chaperone_core::egress::VendorTable;

use super::Declared;
use crate::problem::{Problems, line_of};

pub(super) fn check(
    declared: &Declared,
    vendors: &VendorTable,
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
        for (name, why) in against_providers(agent, vendors) {
            problems.add_at(path, line(&name), id, why);
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

/// What stands against the chain of agreements, with the provider's name as it is written.
///
/// # Source
/// Requirements R073, R102 and R152; 45 CFR 164.308(b)(1) and 164.504(e)(2)(ii)(D) (subcontractors).
fn against_providers(agent: &AgentDeclaration, vendors: &VendorTable) -> Vec<(String, String)> {
    let mut against = Vec::new();
    let mut seen = BTreeSet::new();
    for provider in &agent.providers {
        let name = &provider.name;
        let mut say =
            |why: String| against.push((name.clone(), format!("provider `{name}` {why}")));
        if name.trim().is_empty() || provider.baa.trim().is_empty() {
            say("needs `name` and `baa`, the reference of its agreement".to_owned());
        }
        if !seen.insert((name, provider.role)) {
            say("is listed twice for the same role".to_owned());
        }
        if !provider.training_banned {
            say("has not agreed to keep the data out of training".to_owned());
        }
        if vendors.regions.is_empty() {
            // The table itself is missing or unreadable, which is said there.
            continue;
        }
        if provider.retention_days > vendors.provider_retention_days_max {
            say(format!(
                "keeps what it was sent for {} days; at most {} are allowed (`provider_retention_days_max`)",
                provider.retention_days, vendors.provider_retention_days_max
            ));
        }
        if !vendors.regions.contains(&provider.region) {
            say(format!(
                "is in `{}`, which is none of the `regions` that rules/vendors.toml pins",
                provider.region
            ));
        }
    }
    for (role, what) in [
        (ProviderRole::Model, "runs its model"),
        (ProviderRole::Runtime, "runs it"),
    ] {
        if !agent.providers.is_empty() && agent.providers.iter().all(|it| it.role != role) {
            against.push((
                "providers".to_owned(),
                format!("names nobody who {what}; list the organisation itself where it does"),
            ));
        }
    }
    against
}
