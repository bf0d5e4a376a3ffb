//! What a server can do: from its CapabilityStatement, or from the kind an operator says it is.
//!
//! Not proof: a statement is a claim. What it cannot say (whether transactions are atomic) an operator
//! must, and what it does not claim is entered by humans.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chaperone_core::evidence::Strategy;
use chaperone_core::ports::{DeliveryProfile, InteractionSupport, ServerKind};
use chaperone_core::resource::{Interaction, ResourceType};
use chaperone_core::signed_form::SignedForm;
use serde_json::Value;

/// Most entries of a CapabilityStatement that are looked at.
const TYPES_MAX: usize = 500;

/// Types that the write-back matrix names, for servers declared by kind.
///
/// # Source
/// Requirement R029, the write-back matrix.
pub const WRITABLE_TYPES: [&str; 33] = [
    "Account",
    "AllergyIntolerance",
    "Appointment",
    "CarePlan",
    "CareTeam",
    "ChargeItem",
    "Claim",
    "Communication",
    "CommunicationRequest",
    "Condition",
    "Consent",
    "Coverage",
    "CoverageEligibilityRequest",
    "DetectedIssue",
    "Device",
    "DiagnosticReport",
    "DocumentReference",
    "Encounter",
    "Flag",
    "Goal",
    "Immunization",
    "MedicationRequest",
    "MedicationStatement",
    "Observation",
    "Patient",
    "Procedure",
    "Questionnaire",
    "QuestionnaireResponse",
    "RelatedPerson",
    "RiskAssessment",
    "ServiceRequest",
    "Slot",
    "Task",
];

/// The profile of a server that an operator declares to be of a kind.
///
/// `types` are the types that can be written; all of [`WRITABLE_TYPES`] when empty. A full server without
/// atomic transactions gets target and Provenance one after the other.
pub fn profile_of_kind(
    kind: ServerKind,
    types: &[ResourceType],
    transactions_are_atomic: bool,
    settle_ms: i64,
) -> DeliveryProfile {
    let entry = match kind {
        ServerKind::Full => InteractionSupport {
            provenance: true,
            atomic: transactions_are_atomic,
            ..InteractionSupport::by(Strategy::Conditional)
        },
        ServerKind::Plain => InteractionSupport::by(Strategy::PlainPost),
        ServerKind::ReadOnly => {
            return DeliveryProfile {
                support: BTreeMap::new(),
                settle_ms,
            };
        }
    };
    let support = or_all(types)
        .iter()
        .flat_map(|resource| {
            [Interaction::Create, Interaction::Update]
                .map(|interaction| (DeliveryProfile::key(resource, interaction), entry.clone()))
        })
        .collect();
    DeliveryProfile { support, settle_ms }
}

/// The profile of a server that takes every write by one operation of its own.
pub fn profile_of_vendor(
    operation: &str,
    types: &[ResourceType],
    settle_ms: i64,
) -> DeliveryProfile {
    let entry = InteractionSupport {
        operation: Some(operation.to_owned()),
        ..InteractionSupport::by(Strategy::VendorOp)
    };
    let support = or_all(types)
        .iter()
        .flat_map(|resource| {
            [Interaction::Create, Interaction::Update]
                .map(|interaction| (DeliveryProfile::key(resource, interaction), entry.clone()))
        })
        .collect();
    DeliveryProfile { support, settle_ms }
}

/// The profile of a server that takes orders and notes unsigned, for people to sign on its screens, and the rest
/// plainly. What is signed there it lets nobody change from outside.
pub fn profile_of_staging(
    signs_with_second_factor: bool,
    types: &[ResourceType],
    settle_ms: i64,
) -> DeliveryProfile {
    let mut support = BTreeMap::new();
    for resource in or_all(types).iter() {
        let create = DeliveryProfile::key(resource, Interaction::Create);
        if SignedForm::of(resource).is_some() {
            let entry = InteractionSupport {
                signs_with_second_factor,
                ..InteractionSupport::by(Strategy::EhrStaged)
            };
            support.insert(create, entry);
        } else {
            let plain = InteractionSupport::by(Strategy::PlainPost);
            let update = DeliveryProfile::key(resource, Interaction::Update);
            support.insert(create, plain.clone());
            support.insert(update, plain);
        }
    }
    DeliveryProfile { support, settle_ms }
}

/// The types given, or all of [`WRITABLE_TYPES`] when there are none.
fn or_all(types: &[ResourceType]) -> Cow<'_, [ResourceType]> {
    if !types.is_empty() {
        return Cow::Borrowed(types);
    }
    let all = WRITABLE_TYPES
        .iter()
        .filter_map(|name| ResourceType::new(name).ok())
        .collect();
    Cow::Owned(all)
}

/// The profile that a CapabilityStatement claims.
///
/// | claimed | strategy |
/// |---|---|
/// | `create`, `read`, `search-type`, `conditionalCreate`, search by `identifier` | create: conditional |
/// | `create`, `read` | create: plain |
/// | `update`, `read`, `versioned-update` | update: conditional |
/// | `update`, `read` | update: plain |
/// | anything less | human entry |
///
/// # Source
/// FHIR R4, CapabilityStatement.rest.resource.
pub fn profile_of_statement(
    statement: &Value,
    transactions_are_atomic: bool,
    settle_ms: i64,
) -> DeliveryProfile {
    let Some(server) = array(statement, "rest")
        .iter()
        .find(|rest| text(rest, "mode") == Some("server"))
    else {
        return DeliveryProfile {
            support: BTreeMap::new(),
            settle_ms,
        };
    };
    let resources = array(server, "resource");
    let provenance = resources
        .iter()
        .any(|r| text(r, "type") == Some("Provenance") && has_interaction(r, "create"));
    let atomic = transactions_are_atomic && provenance && has_interaction(server, "transaction");
    let mut support = BTreeMap::new();
    for claimed in resources.iter().take(TYPES_MAX) {
        let Some(resource) = text(claimed, "type").and_then(|t| ResourceType::new(t).ok()) else {
            continue;
        };
        if !has_interaction(claimed, "read") {
            continue;
        }
        let strategies = [
            (Interaction::Create, create_strategy(claimed)),
            (Interaction::Update, update_strategy(claimed)),
        ];
        for (interaction, strategy) in strategies {
            let Some(strategy) = strategy else { continue };
            let entry = InteractionSupport {
                provenance,
                atomic: atomic && strategy == Strategy::Conditional,
                ..InteractionSupport::by(strategy)
            };
            support.insert(DeliveryProfile::key(&resource, interaction), entry);
        }
    }
    DeliveryProfile { support, settle_ms }
}

fn create_strategy(claimed: &Value) -> Option<Strategy> {
    if !has_interaction(claimed, "create") {
        return None;
    }
    let by_identifier = array(claimed, "searchParam")
        .iter()
        .any(|parameter| text(parameter, "name") == Some("identifier"));
    let conditional = claimed.get("conditionalCreate") == Some(&Value::Bool(true))
        && has_interaction(claimed, "search-type")
        && by_identifier;
    Some(if conditional {
        Strategy::Conditional
    } else {
        Strategy::PlainPost
    })
}

fn update_strategy(claimed: &Value) -> Option<Strategy> {
    if !has_interaction(claimed, "update") {
        return None;
    }
    Some(if text(claimed, "versioning") == Some("versioned-update") {
        Strategy::Conditional
    } else {
        Strategy::PlainPost
    })
}

pub(super) fn has_interaction(of: &Value, code: &str) -> bool {
    array(of, "interaction")
        .iter()
        .any(|interaction| text(interaction, "code") == Some(code))
}

pub(super) fn array<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of.get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

pub(super) fn text<'a>(of: &'a Value, name: &str) -> Option<&'a str> {
    of.get(name).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn interactions(codes: &[&str]) -> Value {
        codes.iter().map(|code| json!({"code": code})).collect()
    }

    fn statement() -> Value {
        json!({"resourceType": "CapabilityStatement", "rest": [{
            "mode": "server",
            "interaction": interactions(&["transaction"]),
            "resource": [
                {"type": "Observation", "versioning": "versioned-update", "conditionalCreate": true,
                 "searchParam": [{"name": "identifier"}],
                 "interaction": interactions(&["create", "read", "update", "search-type"])},
                {"type": "Task", "versioning": "versioned", "conditionalCreate": true,
                 "interaction": interactions(&["create", "read", "update", "search-type"])},
                {"type": "Flag", "interaction": interactions(&["create"])},
                {"type": "Patient", "interaction": interactions(&["read"])},
                {"type": "Provenance", "interaction": interactions(&["create", "read"])}
            ]
        }]})
    }

    fn strategy(profile: &DeliveryProfile, name: &str, interaction: Interaction) -> Strategy {
        profile
            .of(&ResourceType::new(name).unwrap(), interaction)
            .strategy
    }

    #[test]
    fn only_what_is_claimed_is_used() {
        let profile = profile_of_statement(&statement(), false, 5_000);
        let (create, update) = (Interaction::Create, Interaction::Update);
        assert_eq!(
            strategy(&profile, "Observation", create),
            Strategy::Conditional
        );
        assert_eq!(
            strategy(&profile, "Observation", update),
            Strategy::Conditional
        );
        // Conditional create is of no use when the identifier cannot be searched again.
        assert_eq!(strategy(&profile, "Task", create), Strategy::PlainPost);
        assert_eq!(strategy(&profile, "Task", update), Strategy::PlainPost);
        // Nothing can be shown where nothing can be read back.
        assert_eq!(strategy(&profile, "Flag", create), Strategy::HumanEntry);
        assert_eq!(strategy(&profile, "Patient", update), Strategy::HumanEntry);
        assert_eq!(
            strategy(&profile, "Condition", create),
            Strategy::HumanEntry
        );
        assert_eq!(profile.settle_ms, 5_000);
    }

    #[test]
    fn a_claim_of_transactions_is_not_a_claim_of_atomicity() {
        let observation = ResourceType::new("Observation").unwrap();
        let of = |atomic| {
            profile_of_statement(&statement(), atomic, 0).of(&observation, Interaction::Create)
        };
        assert!(!of(false).atomic);
        assert!(of(true).atomic);
        assert!(of(true).provenance);
    }

    #[test]
    fn kinds() {
        let create = Interaction::Create;
        let full = profile_of_kind(ServerKind::Full, &[], true, 0);
        assert_eq!(
            strategy(&full, "MedicationRequest", create),
            Strategy::Conditional
        );
        let only = [ResourceType::new("Task").unwrap()];
        let plain = profile_of_kind(ServerKind::Plain, &only, true, 0);
        assert_eq!(strategy(&plain, "Task", create), Strategy::PlainPost);
        assert_eq!(
            strategy(&plain, "MedicationRequest", create),
            Strategy::HumanEntry
        );
        assert!(
            profile_of_kind(ServerKind::ReadOnly, &only, true, 0)
                .support
                .is_empty()
        );
    }

    #[test]
    fn what_is_signed_at_the_server_is_placed_there_and_never_changed_from_outside() {
        let (create, update) = (Interaction::Create, Interaction::Update);
        let staging = profile_of_staging(true, &[], 0);
        for signed in ["MedicationRequest", "ServiceRequest", "DocumentReference"] {
            assert_eq!(strategy(&staging, signed, create), Strategy::EhrStaged);
            assert_eq!(strategy(&staging, signed, update), Strategy::HumanEntry);
        }
        assert_eq!(strategy(&staging, "Task", update), Strategy::PlainPost);
        let task = ResourceType::new("Task").unwrap();
        let vendor = profile_of_vendor("$file-entry", std::slice::from_ref(&task), 0);
        let entry = vendor.of(&task, update);
        assert_eq!(entry.strategy, Strategy::VendorOp);
        assert_eq!(entry.operation.as_deref(), Some("$file-entry"));
        assert_eq!(strategy(&vendor, "Patient", update), Strategy::HumanEntry);
        // Two ways that show as much are two ways: nothing was shown for the one by the other.
        let plain = profile_of_kind(ServerKind::Plain, std::slice::from_ref(&task), false, 0);
        assert!(vendor.met_with(&plain).support.is_empty());
        let other = profile_of_vendor("$other", std::slice::from_ref(&task), 0);
        assert!(vendor.met_with(&other).support.is_empty());
        assert_eq!(vendor.met_with(&vendor), vendor);
    }

    #[test]
    fn every_writable_type_is_a_name() {
        for name in WRITABLE_TYPES {
            assert!(ResourceType::new(name).is_ok(), "{name}");
        }
    }
}
