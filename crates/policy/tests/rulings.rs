//! Rulings through the public interface: what is refused whatever the matrix says, and that nothing an
//! agent adds can weaken a gate.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason
)]

mod folder;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use chaperone_core::change::{Audience, Change, ChangeClass, Destination, Direction};
use chaperone_core::digest::Digest;
use chaperone_core::evidence::RulingRecord;
use chaperone_core::facts::{Fact, FactKind, FactValue, Facts};
use chaperone_core::gate::{Gate, GateLevel};
use chaperone_core::ids::{AgentId, IntentId, ToolName};
use chaperone_core::principal::Role;
use chaperone_core::request::WriteRequest;
use chaperone_core::resource::{Code, Interaction, ResourceType};
use chaperone_policy::bundle::scope;
use chaperone_policy::facts::{FactType, VOCABULARY};
use chaperone_policy::{Bundle, RulingFailed};
use proptest::prelude::*;

static BUNDLE: LazyLock<Bundle> = LazyLock::new(|| Bundle::load(&folder::governance()).unwrap());

fn change(resource: &str, to: &str) -> Change {
    Change {
        resource: ResourceType::new(resource).unwrap(),
        interaction: Interaction::Create,
        destination: Destination::Ehr,
        from: None,
        to: (!to.is_empty()).then(|| Code::new(to).unwrap()),
        clinical_status: None,
        request_intent: None,
        categories: BTreeSet::new(),
        elements: BTreeSet::new(),
        direction: Direction::Neutral,
        audience: None,
        from_template: false,
    }
}

fn request(intent: &str, change: Change) -> WriteRequest {
    WriteRequest {
        agent: AgentId::new("scheduler-agent").unwrap(),
        intent: IntentId::new(intent).unwrap(),
        intent_writes: vec![scope::of_change(&change)],
        tool: ToolName::new("some_tool").unwrap(),
        class: change.class().unwrap_or(ChangeClass::M5),
        change,
        facts: Facts::default(),
        tainted: false,
        bundle: *BUNDLE.digest(),
        at_least: None,
        protocol: None,
    }
}

fn booking() -> WriteRequest {
    let mut request = request("schedule-appointment", change("Appointment", "booked"));
    for name in ["slot_free", "visit_type_self_schedule"] {
        request.facts.observe(name, FactValue::Bool(true));
    }
    request
}

fn rule(request: &WriteRequest) -> RulingRecord {
    BUNDLE.rule(request).unwrap().record().clone()
}

#[test]
fn a_ruling_says_why_in_plain_words() {
    let record = rule(&booking());
    assert_eq!(
        record.gate.to_string(),
        "auto_verified(patient_confirmed, slot_free)"
    );
    assert_eq!(record.bundle, *BUNDLE.digest());
    assert_eq!(record.reasons.len(), 1);
    assert!(
        record.reasons[0]
            .text
            .contains("patient confirmed date and time")
    );
    let refused = rule(&request("intake", change("Basic", "")));
    assert_eq!(refused.denial.as_deref(), Some("default-deny"));
    assert_eq!(refused.reasons.len(), 1);
}

#[test]
fn another_bundle_and_another_class_are_not_ruled_on() {
    let mut other = booking();
    other.bundle = Digest::of_bytes(b"another bundle");
    assert!(matches!(
        BUNDLE.rule(&other),
        Err(RulingFailed::OtherBundle { .. })
    ));
    let mut lighter = booking();
    lighter.class = ChangeClass::M0;
    assert!(matches!(
        BUNDLE.rule(&lighter),
        Err(RulingFailed::ClassDisagrees { .. })
    ));
    // What has no class is refused whatever class it is given.
    let mut unlisted = request("intake", change("Basic", ""));
    unlisted.class = ChangeClass::M0;
    assert_eq!(rule(&unlisted).gate, Gate::Deny);
}

#[test]
fn facts_count_only_on_the_authority_they_need() {
    let failed = |name: &str, kind, value| {
        let mut asked = booking();
        asked.facts.add(
            name,
            Fact {
                kind,
                value,
                bound_to: None,
            },
        );
        BUNDLE.rule(&asked)
    };
    let yes = FactValue::Bool(true);
    assert!(
        failed("slot_fre", FactKind::Observed, yes.clone()).is_err(),
        "unknown name"
    );
    assert!(
        failed("in_care_team", FactKind::Observed, FactValue::Long(1)).is_err(),
        "wrong type"
    );
    assert!(
        failed("clinician_present", FactKind::Fixed, yes.clone()).is_err(),
        "a tool cannot fix it"
    );
    assert!(failed("in_care_team", FactKind::Observed, yes.clone()).is_ok());
    assert!(
        failed("no_such_fact", FactKind::Claimed, yes).is_ok(),
        "a claim nobody reads"
    );
}

#[test]
fn an_attestation_counts_only_when_bound_to_the_payload() {
    let ask = |bound_to| {
        let mut asked = request("demographic-correction", change("Patient", ""));
        asked.change.interaction = Interaction::Update;
        asked.change.elements = ["telecom".to_owned()].into();
        asked.intent_writes = vec!["Patient.update".to_owned()];
        asked.class = ChangeClass::M1;
        asked.facts.add(
            "portal_patient",
            Fact {
                kind: FactKind::Attested,
                value: FactValue::Bool(true),
                bound_to,
            },
        );
        rule(&asked).gate.level()
    };
    assert_eq!(
        ask(Some(Digest::of_bytes(b"payload"))),
        GateLevel::AutoVerified
    );
    assert_eq!(ask(None), GateLevel::Approve);
}

#[test]
fn an_intent_covers_exactly_what_it_lists() {
    for (writes, denial) in [
        (vec!["Appointment.create.booked"], None),
        (vec!["Appointment.create.proposed"], Some("outside-intent")),
        (vec!["Appointment.update.booked"], Some("outside-intent")),
        (vec!["Appointment.create"], Some("outside-intent")),
        (vec!["*"], Some("outside-intent")),
        (vec![], Some("outside-intent")),
    ] {
        let mut asked = booking();
        asked.intent_writes = writes.iter().map(|write| (*write).to_owned()).collect();
        assert_eq!(rule(&asked).denial.as_deref(), denial, "{writes:?}");
    }
}

/// Shows a policy of a test's own beside its nearest neighbour.
fn add_pair(files: &mut BTreeMap<String, String>, pair: &str) {
    let pairs = files.get_mut("policies/cases/pairs.json").unwrap();
    let open = pairs.trim_end().strip_suffix(']').unwrap().to_owned();
    *pairs = format!("{open},{pair}]");
}

#[test]
fn a_policy_that_cannot_be_evaluated_is_no_ruling() {
    // Validation cannot see an overflow. Evaluation does, and then nothing is allowed.
    let mut files = folder::governance();
    let add = |text: &mut String| {
        text.push_str(
            r#"
            @id("past") @gate("approve") @text("The visit is past.")
            permit (principal, action == Action::"escalate", resource is Appointment)
            when {
                context.facts has hours_until_start &&
                context.facts.hours_until_start * 9223372036854775 < 0
            };"#,
        );
    };
    add(files.get_mut("policies/escalators.cedar").unwrap());
    files.insert(
        "policies/cases/past.json".to_owned(),
        r#"[{"name": "past", "intent": "schedule-appointment",
            "change": {"resource": "Appointment", "interaction": "update", "to": "cancelled"},
            "observed": {"hours_until_start": -1}, "gate": "approve(scheduler)", "class": "M1",
            "policies": ["appointment-change-late-or-sensitive"]}]"#
            .to_owned(),
    );
    add_pair(
        &mut files,
        r#"{"shows": ["past"], "case": "past", "but": {"observed.hours_until_start": 1},
            "gate": "approve(scheduler)", "class": "M1", "policies": ["appointment-change-late-or-sensitive"]}"#,
    );
    let bundle = Bundle::load(&files).unwrap();
    let ask = |hours| {
        let mut asked = request("schedule-appointment", change("Appointment", "cancelled"));
        asked.change.interaction = Interaction::Update;
        asked.intent_writes = vec![scope::of_change(&asked.change)];
        asked.bundle = *bundle.digest();
        asked
            .facts
            .observe("hours_until_start", FactValue::Long(hours));
        bundle.rule(&asked)
    };
    assert!(ask(1_000).is_ok());
    let failed = ask(1_001).unwrap_err();
    assert_eq!(failed.to_string(), "evaluation of policies failed: past");
}

#[test]
fn a_row_signed_for_a_lighter_class_refuses_a_heavier_change() {
    // The row is broader than its author thought: what its case shows is staged and light.
    let mut files = folder::governance();
    files
        .get_mut("policies/matrix-safety.cedar")
        .unwrap()
        .push_str(
            r#"
        @id("broad") @row("57") @class("M0") @gate("auto") @role("rn") @proof("P0") @text("Broad.")
        permit (principal, action == Action::"write", resource is Flag)
        when { context.intent == "tidy-flags" && resource.interaction == "update" };"#,
        );
    files.insert(
        "policies/cases/broad.json".to_owned(),
        r#"[{"name": "broad", "intent": "tidy-flags", "gate": "auto", "class": "M0",
            "change": {"resource": "Flag", "interaction": "update", "destination": "staged", "to": "active"},
            "policies": ["broad"]}]"#
            .to_owned(),
    );
    add_pair(
        &mut files,
        r#"{"shows": ["broad"], "case": "broad", "but": {"change.interaction": "delete"},
            "gate": "deny", "class": "M5", "policies": ["delete"], "denial": "delete-prohibited"}"#,
    );
    let bundle = Bundle::load(&files).unwrap();
    let mut asked = request("tidy-flags", change("Flag", "active"));
    asked.change.interaction = Interaction::Update;
    asked.class = asked.change.class().unwrap();
    asked.intent_writes = vec![scope::of_change(&asked.change)];
    asked.bundle = *bundle.digest();
    let record = bundle.rule(&asked).unwrap().record().clone();
    assert_eq!(record.denial.as_deref(), Some("class-mismatch"));
    assert_eq!(record.class, ChangeClass::M3);
}

#[test]
fn random_requests_meet_more_than_denials() {
    // Otherwise the properties below would prove nothing.
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut levels = BTreeSet::new();
    for _ in 0..10_000 {
        let asked = any_request().new_tree(&mut runner).unwrap().current();
        levels.insert(rule(&asked).gate.level());
    }
    assert!(levels.len() >= 5, "{levels:?}");
}

#[test]
fn no_row_lets_the_operator_of_chaperone_decide() {
    // W-16 at its root: `it_admin` stands in no gate of a row.
    for row in BUNDLE.matrix().rows {
        if row.row != "escalator" {
            assert!(
                !row.gate.contains("it_admin") && !row.deciders.contains("it_admin"),
                "{row:?}"
            );
        }
    }
    assert!(Role::parse("it_admin").is_some());
}

#[test]
fn every_row_of_the_matrix_is_there() {
    let rows: BTreeSet<String> = BUNDLE
        .matrix()
        .rows
        .into_iter()
        .map(|row| row.row)
        .collect();
    for number in 1..=65 {
        assert!(
            rows.contains(&number.to_string()),
            "row {number} is missing"
        );
    }
    assert!(rows.contains("34a"));
}

#[test]
fn the_matrix_is_rendered_three_ways() {
    let matrix = BUNDLE.matrix();
    let (markdown, csv, json) = (matrix.markdown(), matrix.csv(), matrix.json());
    assert!(
        markdown.contains("| 34 | MedicationRequest | to active | submit-order |"),
        "{markdown}"
    );
    assert!(markdown.contains("approve_2f(clinician)"));
    assert_eq!(csv.lines().count(), matrix.rows.len() + 1);
    assert_eq!(json["rows"].as_array().unwrap().len(), matrix.rows.len());
    assert_eq!(json["digest"], BUNDLE.digest().to_string());
}

const TYPES: [&str; 45] = [
    "Patient",
    "Appointment",
    "Communication",
    "CommunicationRequest",
    "Observation",
    "QuestionnaireResponse",
    "Task",
    "DocumentReference",
    "Encounter",
    "ServiceRequest",
    "MedicationRequest",
    "MedicationStatement",
    "AllergyIntolerance",
    "Condition",
    "Immunization",
    "CarePlan",
    "Goal",
    "CareTeam",
    "CoverageEligibilityRequest",
    "Coverage",
    "Claim",
    "ChargeItem",
    "Account",
    "Invoice",
    "PaymentNotice",
    "Consent",
    "DiagnosticReport",
    "Flag",
    "RiskAssessment",
    "DetectedIssue",
    "Provenance",
    "AuditEvent",
    "Practitioner",
    "PractitionerRole",
    "Organization",
    "Location",
    "Schedule",
    "Slot",
    "Questionnaire",
    "PlanDefinition",
    "ActivityDefinition",
    "ValueSet",
    "CodeSystem",
    "Basic",
    "Binary",
];
const STATUSES: [&str; 28] = [
    "",
    "proposed",
    "pending",
    "booked",
    "cancelled",
    "arrived",
    "preparation",
    "completed",
    "draft",
    "active",
    "preliminary",
    "final",
    "amended",
    "in-progress",
    "requested",
    "rejected",
    "planned",
    "finished",
    "unconfirmed",
    "confirmed",
    "refuted",
    "inactive",
    "on-hold",
    "revoked",
    "stopped",
    "entered-in-error",
    "not-taken",
    "provisional",
];
const INTENTS: [&str; 18] = [
    "schedule-appointment",
    "demographic-correction",
    "registration",
    "patient-message",
    "reminder",
    "route-message",
    "follow-up",
    "rpm-intake",
    "intake",
    "draft-note",
    "sign-note",
    "prepare-order",
    "submit-order",
    "refill-request",
    "refill-protocol",
    "billing",
    "consent-capture",
    "remediate",
];
const ELEMENTS: [&str; 14] = [
    "telecom",
    "address",
    "communication",
    "contact",
    "name",
    "gender",
    "birthDate",
    "identifier",
    "deceasedBoolean",
    "link",
    "reasonCode",
    "diagnosis",
    "scope",
    "status",
];
const CATEGORIES: [&str; 8] = [
    "vital-signs",
    "laboratory",
    "survey",
    "health-concern",
    "problem-list-item",
    "treatment",
    "adr",
    "encounter-diagnosis",
];

fn any_change() -> impl Strategy<Value = Change> {
    (
        prop::sample::select(&TYPES[..]),
        prop::sample::select(&STATUSES[..]),
        prop::sample::select(&STATUSES[..]),
        prop::sample::select(vec![
            Interaction::Create,
            Interaction::Update,
            Interaction::Delete,
        ]),
        prop::sample::select(vec![Destination::Ehr, Destination::Staged]),
        prop::collection::btree_set(prop::sample::select(&ELEMENTS[..]), 0..4),
        prop::collection::btree_set(prop::sample::select(&CATEGORIES[..]), 0..3),
        prop::sample::select(vec![
            Direction::Neutral,
            Direction::MorePrivate,
            Direction::LessPrivate,
        ]),
        prop::sample::select(vec![
            None,
            Some(Audience::Patient),
            Some(Audience::CareTeam),
        ]),
        prop::sample::select(vec!["", "order", "proposal"]),
        prop::sample::select(vec!["", "active", "resolved"]),
        any::<bool>(),
    )
        .prop_map(
            |(
                resource,
                from,
                to,
                interaction,
                destination,
                elements,
                categories,
                direction,
                audience,
                request_intent,
                clinical,
                from_template,
            )| {
                let code = |text: &str| (!text.is_empty()).then(|| Code::new(text).unwrap());
                Change {
                    interaction,
                    destination,
                    from: code(from),
                    clinical_status: code(clinical),
                    request_intent: code(request_intent),
                    categories: categories
                        .into_iter()
                        .map(|c| Code::new(c).unwrap())
                        .collect(),
                    elements: elements.into_iter().map(str::to_owned).collect(),
                    direction,
                    audience,
                    from_template,
                    ..change(resource, to)
                }
            },
        )
}

fn any_value(fact_type: FactType) -> BoxedStrategy<FactValue> {
    match fact_type {
        FactType::Bool => any::<bool>().prop_map(FactValue::Bool).boxed(),
        FactType::Long => (-10_i64..120).prop_map(FactValue::Long).boxed(),
        FactType::Text => prop::sample::select(vec![
            "device",
            "patient",
            "note",
            "patient-upload",
            "signature",
            "verbal",
            "warn",
            "block",
            "clear",
        ])
        .prop_map(|text| FactValue::Text(text.to_owned()))
        .boxed(),
        FactType::Set => prop::sample::select(vec!["benefits", "validation", "discovery"])
            .prop_map(|text| FactValue::Set(vec![text.to_owned()]))
            .boxed(),
    }
}

fn some_facts() -> impl Strategy<Value = Vec<(&'static str, FactKind, FactValue)>> {
    let one = prop::sample::select(VOCABULARY).prop_flat_map(|fact| {
        any_value(fact.fact_type).prop_map(move |value| (fact.name, fact.kinds[0], value))
    });
    prop::collection::vec(one, 0..12)
}

/// A request that some row may well apply to: facts lean towards true.
fn any_request() -> impl Strategy<Value = WriteRequest> {
    (
        any_change(),
        prop::sample::select(&INTENTS[..]),
        some_facts(),
        any::<bool>(),
    )
        .prop_map(|(change, intent, facts, lean)| {
            let mut asked = request(intent, change);
            if lean {
                for fact in VOCABULARY {
                    let calm = [
                        "restricted_label",
                        "cross_patient",
                        "medication_controlled",
                        "medication_high_alert",
                        "medication_check_fired",
                        "bulk_limit_reached",
                        "row_demoted",
                        "patient_minor",
                        "exception_granted",
                    ];
                    if fact.fact_type == FactType::Bool {
                        let value = FactValue::Bool(!calm.contains(&fact.name));
                        asked.facts.add(
                            fact.name,
                            Fact {
                                kind: fact.kinds[0],
                                value,
                                bound_to: None,
                            },
                        );
                    }
                }
            }
            for (name, kind, value) in facts {
                asked.facts.add(
                    name,
                    Fact {
                        kind,
                        value,
                        bound_to: None,
                    },
                );
            }
            asked
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// R033 and invariant 7: whatever is asked, the gate is at or above the floor of the class.
    #[test]
    fn no_ruling_is_below_the_floor(asked in any_request()) {
        let record = rule(&asked);
        match asked.change.class() {
            Ok(class) => prop_assert!(record.gate.level() >= class.floor(), "{record:?}"),
            Err(_) => prop_assert_eq!(record.gate, Gate::Deny),
        }
    }

    /// Invariant 9: taint only raises the gate.
    #[test]
    fn taint_never_weakens(asked in any_request()) {
        let tainted = WriteRequest { tainted: true, ..asked.clone() };
        prop_assert!(rule(&tainted).gate.level() >= rule(&asked).gate.level());
    }

    /// What takes the place of another proposal never needs less than that one did.
    #[test]
    fn what_takes_anothers_place_is_no_lighter(asked in any_request(), other in any_request()) {
        let (alone, least) = (rule(&asked), rule(&other).gate);
        let record = rule(&WriteRequest { at_least: Some(least.clone()), ..asked.clone() });
        prop_assert!(record.gate.level() >= alone.gate.level().max(least.level()));
        // It is not made heavier for itself.
        let same = rule(&WriteRequest { at_least: Some(alone.gate.clone()), ..asked });
        prop_assert_eq!(same, alone);
    }

    /// A claim can only raise a gate, whatever it says.
    #[test]
    fn claims_never_weaken(asked in any_request(), claims in some_facts()) {
        let mut claiming = asked.clone();
        for (name, _, value) in claims {
            claiming.facts.claim(name, value);
        }
        let (before, after) = (rule(&asked), rule(&claiming));
        prop_assert!(after.gate.level() >= before.gate.level(), "{before:?} became {after:?}");
    }

    /// R033: touching more of a patient's identity never needs less authority.
    #[test]
    fn more_elements_never_need_less(
        fewer in prop::collection::btree_set(prop::sample::select(&ELEMENTS[..10]), 1..4),
        more in prop::collection::btree_set(prop::sample::select(&ELEMENTS[..10]), 0..4),
        portal in any::<bool>(),
    ) {
        let ask = |elements: &BTreeSet<&str>| {
            let mut update = change("Patient", "");
            update.interaction = Interaction::Update;
            update.elements = elements.iter().map(|e| (*e).to_owned()).collect();
            let mut asked = request("demographic-correction", update);
            asked.facts.observe("portal_patient", FactValue::Bool(portal));
            rule(&asked).gate.level()
        };
        let both: BTreeSet<&str> = fewer.union(&more).copied().collect();
        prop_assert!(ask(&both) >= ask(&fewer));
    }

    /// R040: nothing deletes.
    #[test]
    fn nothing_deletes(asked in any_request()) {
        let mut deleting = asked;
        deleting.change.interaction = Interaction::Delete;
        deleting.class = ChangeClass::M5;
        deleting.intent_writes = vec![scope::of_change(&deleting.change)];
        prop_assert_eq!(rule(&deleting).gate, Gate::Deny);
    }
}
