//! Which services are asked about which orders: `rules/decision-support.toml`. Where they are reached is the
//! installation's configuration, and whether they may be is `rules/vendors.toml`.

use std::collections::BTreeSet;

use chaperone_core::change::{Change, Destination};
use chaperone_core::facts::{Fact, FactKind, FactValue, Facts};
use chaperone_core::ids::CdsServiceId;
use chaperone_core::resource::{Code, ResourceType};
use chaperone_policy::Bundle;
use serde::Deserialize;

use crate::context::StartFailed;
use crate::tables::table;

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

/// Longest name of a service, in characters.
const NAME_CHARS_MAX: usize = 80;

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

    pub(crate) fn resource(self) -> &'static str {
        match self {
            Prefetch::Patient => "Patient",
            Prefetch::Medications => "MedicationRequest",
            Prefetch::Allergies => "AllergyIntolerance",
        }
    }

    /// The elements that are told of each resource: no name, no address, no note.
    pub(crate) fn fields(self) -> &'static [&'static str] {
        match self {
            Prefetch::Patient => &["resourceType", "id", "gender", "birthDate"],
            Prefetch::Medications => &[
                "resourceType",
                "id",
                "status",
                "intent",
                "subject",
                "medicationCodeableConcept",
                "authoredOn",
                "dosageInstruction",
            ],
            Prefetch::Allergies => &[
                "resourceType",
                "id",
                "patient",
                "clinicalStatus",
                "verificationStatus",
                "code",
                "criticality",
            ],
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
        let rules: Self = table(bundle, FILE)?;
        match rules.problem() {
            Some(why) => Err(StartFailed::Table { file: FILE, why }),
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
        let names: BTreeSet<_> = self.services.iter().map(|service| &service.name).collect();
        if names.len() != self.services.len() {
            return Some("two services have one name".to_owned());
        }
        for service in &self.services {
            let name = service.name.trim();
            if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
                return Some(format!(
                    "service `{}` needs a `name` of 1 to {NAME_CHARS_MAX} characters",
                    service.id
                ));
            }
        }
        if !self.services.is_empty() && self.kinds.is_empty() {
            return Some("services are listed, and no kinds of orders to ask about".to_owned());
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

    /// The services to ask about what a write-back changes; none where no change of it is an order.
    pub(crate) fn services_for<'c>(
        &self,
        mut changes: impl Iterator<Item = &'c Change>,
    ) -> &[ServiceRule] {
        match changes.any(|change| self.is_order(change)) {
            true => &self.services,
            false => &[],
        }
    }

    /// Whether a change is an order that services are asked about, and does not stay inside Chaperone.
    pub(crate) fn is_order(&self, change: &Change) -> bool {
        self.kind(change).is_some()
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
            // What nobody looked up counts as high-alert, and an agent's word is no look.
            Some(Unanswered::BlockHighAlert) => {
                let is_harmless = |fact: &Fact| {
                    fact.kind != FactKind::Claimed && fact.value == FactValue::Bool(false)
                };
                !facts.get("medication_high_alert").is_some_and(is_harmless)
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: &str = include_str!("../../../../governance/rules/decision-support.toml");
    const SERVICE: &str = "\n[[services]]\nid = \"checks\"\nname = \"Checks\"\nprefetch = []\n";

    fn problem(text: &str) -> Option<String> {
        match toml::from_str::<DecisionSupportRules>(text) {
            Ok(rules) => rules.problem(),
            Err(error) => Some(error.message().to_owned()),
        }
    }

    #[test]
    fn a_table_that_cannot_hold_is_refused() {
        assert_eq!(problem(DEFAULT), None);
        let with = format!("{DEFAULT}{SERVICE}");
        assert_eq!(problem(&with), None);
        let without_kinds = with.replace("[[kinds]]", "[[others]]");
        for (wrong, why) in [
            (format!("{with}{SERVICE}"), "a service is there twice"),
            (with.replace("\"Checks\"", "\" \""), "needs a `name`"),
            (
                with.replace("prefetch = []", "prefetch = [\"notes\"]"),
                "unknown variant",
            ),
            (
                with.replace("fresh_minutes = 10", "fresh_minutes = 0"),
                "must be 1 to",
            ),
            (
                with.replace("fresh_minutes = 10", "fresh_minutes = 241"),
                "must be 1 to",
            ),
            (
                with.replace("\"block_high_alert\"", "\"ignore\""),
                "unknown variant",
            ),
            (
                with.replace(
                    "resource = \"ServiceRequest\"",
                    "resource = \"MedicationRequest\"",
                ),
                "there twice",
            ),
            (without_kinds, "unknown field"),
        ] {
            let said = problem(&wrong).unwrap();
            assert!(said.contains(why), "{said}");
        }
        let many: String = (0..=SERVICES_MAX)
            .map(|n| SERVICE.replace("\"checks\"", &format!("\"checks-{n}\"")))
            .collect();
        assert!(
            problem(&format!("{DEFAULT}{many}"))
                .unwrap()
                .contains("at most")
        );
    }

    #[test]
    fn what_is_not_known_to_be_harmless_does_not_go_on_unheard() {
        use chaperone_core::change::Direction;
        use chaperone_core::resource::Interaction;

        let rules: DecisionSupportRules = toml::from_str(DEFAULT).unwrap();
        let change = |resource: &str, to: &str| Change {
            resource: ResourceType::new(resource).unwrap(),
            interaction: Interaction::Create,
            destination: Destination::Ehr,
            from: None,
            to: Some(Code::new(to).unwrap()),
            clinical_status: None,
            request_intent: None,
            categories: BTreeSet::new(),
            elements: BTreeSet::new(),
            direction: Direction::default(),
            audience: None,
            from_template: false,
        };
        let facts = |high_alert: Option<bool>| -> Facts {
            let mut facts = Facts::default();
            if let Some(value) = high_alert {
                facts.observe("medication_high_alert", FactValue::Bool(value));
            }
            facts
        };
        for (resource, to, high_alert, blocks) in [
            ("MedicationRequest", "active", None, true),
            ("MedicationRequest", "active", Some(true), true),
            ("MedicationRequest", "active", Some(false), false),
            ("MedicationRequest", "draft", None, false),
            ("ServiceRequest", "active", None, false),
            ("Task", "active", None, false),
        ] {
            let change = change(resource, to);
            assert_eq!(
                rules.unheard_blocks(&change, &facts(high_alert)),
                blocks,
                "{resource} {to} {high_alert:?}"
            );
            let is_asked = rules.kind(&change).is_some();
            assert_eq!(is_asked, to == "active" && resource != "Task");
        }
        // An agent's word does not make a drug harmless.
        let mut claimed = Facts::default();
        claimed.claim("medication_high_alert", FactValue::Bool(false));
        assert!(rules.unheard_blocks(&change("MedicationRequest", "active"), &claimed));
        let mut inside = change("MedicationRequest", "active");
        inside.destination = Destination::Staged;
        assert!(rules.kind(&inside).is_none());
    }
}
