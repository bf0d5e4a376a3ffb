//! Which services are asked about which orders: `rules/decision-support.toml`. Where they are reached is the
//! installation's configuration, and whether they may be is `rules/vendors.toml`.

use std::collections::BTreeSet;

use chaperone_core::change::{Change, Destination};
use chaperone_core::facts::{FactValue, Facts};
use chaperone_core::ids::CdsServiceId;
use chaperone_core::resource::{Code, ResourceType};
use chaperone_policy::Bundle;
use serde::Deserialize;

use crate::context::StartFailed;

/// The file of the bundle.
const FILE: &str = "rules/decision-support.toml";
/// Most services; each is asked before every order of its kinds.
const SERVICES_MAX: usize = 8;
/// Longest time that an answer may count, in minutes: one shift does not rest on the last one's.
const FRESH_MINUTES_MAX: i64 = 4 * 60;

/// The table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DecisionSupportRules {
    #[expect(dead_code, reason = "read so that it must be there")]
    source: String,
    #[expect(dead_code, reason = "read so that it must be there")]
    owner: String,
    #[expect(dead_code, reason = "read so that it must be there")]
    reviewed: String,
    #[expect(dead_code, reason = "read so that it must be there")]
    review_by: String,
    fresh_minutes: i64,
    #[serde(default)]
    services: Vec<ServiceRule>,
    #[serde(default)]
    kinds: Vec<KindRule>,
}

/// One service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceRule {
    pub(crate) id: CdsServiceId,
    /// What it is called on the page.
    pub(crate) name: String,
    /// What it is told beside the order.
    pub(crate) prefetch: BTreeSet<Prefetch>,
}

/// What a service may be told beside the order; the name is the key of its prefetch template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Prefetch {
    /// Sex and birth date, and no name.
    Patient,
    /// Prescriptions in force.
    Medications,
    /// Allergies on record.
    Allergies,
}

impl Prefetch {
    pub(crate) fn key(self) -> &'static str {
        match self {
            Prefetch::Patient => "patient",
            Prefetch::Medications => "medications",
            Prefetch::Allergies => "allergies",
        }
    }
}

/// A kind of order about which services are asked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct KindRule {
    resource: ResourceType,
    to: BTreeSet<Code>,
    unanswered: Unanswered,
}

/// What it means that a service was not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Unanswered {
    Block,
    /// Blocks unless the drug is known and known not to be high-alert.
    BlockHighAlert,
    Warn,
}

impl DecisionSupportRules {
    /// The table of a bundle.
    ///
    /// # Errors
    /// [`StartFailed::Table`] says what is wrong.
    pub(crate) fn of(bundle: &Bundle) -> Result<Self, StartFailed> {
        let wrong = |why: String| StartFailed::Table { file: FILE, why };
        let text = bundle
            .rule_text("decision-support")
            .ok_or_else(|| wrong("it is missing".to_owned()))?;
        let rules: Self =
            toml::from_str(text).map_err(|error| wrong(error.message().to_owned()))?;
        match rules.problem() {
            Some(why) => Err(wrong(why)),
            None => Ok(rules),
        }
    }

    fn problem(&self) -> Option<String> {
        if !(1..=FRESH_MINUTES_MAX).contains(&self.fresh_minutes) {
            return Some(format!("`fresh_minutes` must be 1 to {FRESH_MINUTES_MAX}"));
        }
        if self.services.len() > SERVICES_MAX {
            return Some(format!("at most {SERVICES_MAX} services are asked"));
        }
        let ids: BTreeSet<_> = self.services.iter().map(|service| &service.id).collect();
        if ids.len() != self.services.len() {
            return Some("a service is there twice".to_owned());
        }
        let kinds: BTreeSet<_> = self.kinds.iter().map(|kind| &kind.resource).collect();
        if kinds.len() != self.kinds.len() {
            return Some("a type of resource is there twice".to_owned());
        }
        None
    }

    pub(crate) fn fresh_s(&self) -> i64 {
        self.fresh_minutes.saturating_mul(60)
    }

    /// The services to ask about a change; none for what is no order, or stays inside Chaperone.
    pub(crate) fn services_for(&self, change: &Change) -> &[ServiceRule] {
        match self.kind(change) {
            Some(_) => &self.services,
            None => &[],
        }
    }

    pub(crate) fn name_of(&self, id: &CdsServiceId) -> String {
        let service = self.services.iter().find(|service| service.id == *id);
        service.map_or_else(|| id.to_string(), |service| service.name.clone())
    }

    /// Whether a service that was not heard stands against approving.
    pub(crate) fn unheard_blocks(&self, change: &Change, facts: &Facts) -> bool {
        match self.kind(change).map(|kind| kind.unanswered) {
            None | Some(Unanswered::Warn) => false,
            Some(Unanswered::Block) => true,
            // What nobody looked up counts as high-alert.
            Some(Unanswered::BlockHighAlert) => facts
                .get("medication_high_alert")
                .is_none_or(|fact| fact.value != FactValue::Bool(false)),
        }
    }

    fn kind(&self, change: &Change) -> Option<&KindRule> {
        if change.destination != Destination::Ehr {
            return None;
        }
        let kind = self
            .kinds
            .iter()
            .find(|kind| kind.resource == change.resource)?;
        let to = change.to.as_ref()?;
        kind.to.contains(to).then_some(kind)
    }
}
