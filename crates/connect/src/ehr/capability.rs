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

/// A profile by which updates go as patches, wherever versions are matched.
pub(super) fn patching(profile: DeliveryProfile) -> DeliveryProfile {
    let is_update = |key: &str| key.ends_with(&format!(".{}", Interaction::Update.as_str()));
    let mut patching = profile;
    for (key, entry) in &mut patching.support {
        entry.patch = is_update(key) && entry.strategy == Strategy::Conditional;
    }
    patching
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

/// What a CapabilityStatement cannot say, and an operator must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeyondStatement {
    /// Whether transactions are atomic.
    pub transactions_are_atomic: bool,
    /// Whether updates go as patches wherever that is claimed, also where whole resources are taken.
    pub updates_as_patches: bool,
    /// How long after a send a miss means "not applied", in milliseconds.
    pub settle_ms: i64,
}

/// The profile that a CapabilityStatement claims.
///
/// | claimed | strategy |
/// |---|---|
/// | `create`, `read`, `search-type`, `conditionalCreate`, search by `identifier` | create: conditional |
/// | `create`, `read` | create: plain |
/// | `update`, `read`, `versioned-update` | update: conditional |
/// | `update`, `read` | update: plain |
/// | `patch`, `read`, `versioned-update`, and no `update` or patches preferred | update: conditional, as a patch |
/// | anything less | human entry |
///
/// Where both are claimed, an update goes whole unless the operator says otherwise: what was shown of whole resources
/// stays the way although the EHR begins to claim another. Without versions to match there is no patch, because its
/// places might be in something that nobody has read.
///
/// # Source
/// FHIR R4, CapabilityStatement.rest.resource.
pub fn profile_of_statement(statement: &Value, beyond: BeyondStatement) -> DeliveryProfile {
    let settle_ms = beyond.settle_ms;
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
    let atomic =
        beyond.transactions_are_atomic && provenance && has_interaction(server, "transaction");
    let mut support = BTreeMap::new();
    for claimed in resources.iter().take(TYPES_MAX) {
        let Some(resource) = text(claimed, "type").and_then(|t| ResourceType::new(t).ok()) else {
            continue;
        };
        if !has_interaction(claimed, "read") {
            continue;
        }
        let ways = [
            (
                Interaction::Create,
                create_strategy(claimed).map(InteractionSupport::by),
            ),
            (
                Interaction::Update,
                update_by(claimed, beyond.updates_as_patches),
            ),
        ];
        for (interaction, by) in ways {
            let Some(by) = by else { continue };
            let entry = InteractionSupport {
                provenance,
                atomic: atomic && by.strategy == Strategy::Conditional,
                ..by
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

fn update_by(claimed: &Value, patches_preferred: bool) -> Option<InteractionSupport> {
    let matches_versions = text(claimed, "versioning") == Some("versioned-update");
    let takes_whole = has_interaction(claimed, "update");
    let takes_patches = has_interaction(claimed, "patch") && matches_versions;
    if takes_patches && (patches_preferred || !takes_whole) {
        return Some(InteractionSupport {
            patch: true,
            ..InteractionSupport::by(Strategy::Conditional)
        });
    }
    takes_whole.then(|| {
        InteractionSupport::by(if matches_versions {
            Strategy::Conditional
        } else {
            Strategy::PlainPost
        })
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

    fn beyond(transactions_are_atomic: bool) -> BeyondStatement {
        BeyondStatement {
            transactions_are_atomic,
            updates_as_patches: false,
            settle_ms: 5_000,
        }
    }

    fn strategy(profile: &DeliveryProfile, name: &str, interaction: Interaction) -> Strategy {
        profile
            .of(&ResourceType::new(name).unwrap(), interaction)
            .strategy
    }

    #[test]
    fn only_what_is_claimed_is_used() {
        let profile = profile_of_statement(&statement(), beyond(false));
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
            profile_of_statement(&statement(), beyond(atomic)).of(&observation, Interaction::Create)
        };
        assert!(!of(false).atomic);
        assert!(of(true).atomic);
        assert!(of(true).provenance);
    }

    #[test]
    fn an_update_goes_as_a_patch_where_there_is_no_other_way_or_it_is_preferred() {
        let claims = |name: &str, versioning: &str, codes: &[&str]| json!({"type": name, "versioning": versioning, "interaction": interactions(codes)});
        let statement = json!({"resourceType": "CapabilityStatement", "rest": [{
            "mode": "server",
            "interaction": interactions(&["transaction"]),
            "resource": [
                claims("Task", "versioned-update", &["read", "patch"]),
                claims("Condition", "versioned-update", &["read", "update", "patch"]),
                claims("Flag", "versioned-update", &["read", "update"]),
                claims("Goal", "versioned", &["read", "patch"]),
                claims("Observation", "versioned", &["read", "update", "patch"]),
                claims("Encounter", "versioned-update", &["patch"]),
                claims("Provenance", "versioned-update", &["create"]),
            ]
        }]});
        let update = |name: &str, updates_as_patches| {
            let beyond = BeyondStatement {
                updates_as_patches,
                ..beyond(true)
            };
            let profile = profile_of_statement(&statement, beyond);
            profile.of(&ResourceType::new(name).unwrap(), Interaction::Update)
        };
        let way = |name: &str, preferred| {
            let entry = update(name, preferred);
            (entry.strategy, entry.patch)
        };
        for preferred in [false, true] {
            assert_eq!(way("Task", preferred), (Strategy::Conditional, true));
            assert!(update("Task", preferred).atomic);
            assert_eq!(
                way("Condition", preferred),
                (Strategy::Conditional, preferred)
            );
            assert_eq!(way("Flag", preferred), (Strategy::Conditional, false));
            // Nothing to match, so nothing is patched: as it is today, or by people.
            assert_eq!(way("Goal", preferred), (Strategy::HumanEntry, false));
            assert_eq!(way("Observation", preferred), (Strategy::PlainPost, false));
            assert_eq!(way("Encounter", preferred), (Strategy::HumanEntry, false));
        }
        // Declared, it is said of updates alone, and where versions are matched.
        let task = [ResourceType::new("Task").unwrap()];
        for (kind, patched) in [(ServerKind::Full, true), (ServerKind::Plain, false)] {
            let profile = patching(profile_of_kind(kind, &task, true, 0));
            let [task] = &task;
            assert_eq!(profile.of(task, Interaction::Update).patch, patched);
            assert!(!profile.of(task, Interaction::Create).patch);
        }
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
