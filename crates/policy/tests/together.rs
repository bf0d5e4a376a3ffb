//! Several changes ruled on as one: what all of them need is what satisfies each, by people who may decide on each, and
//! one that is refused refuses all (requirement R024).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason
)]

mod folder;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use chaperone_core::change::{Change, ChangeClass, Destination, Direction};
use chaperone_core::digest::Digest;
use chaperone_core::evidence::RulingRecord;
use chaperone_core::facts::FactValue;
use chaperone_core::gate::{Gate, GateLevel};
use chaperone_core::ids::{AccountName, AgentId, IntentId, ProtocolId, ToolName};
use chaperone_core::principal::Role;
use chaperone_core::protocol::ProtocolCited;
use chaperone_core::request::WriteRequest;
use chaperone_core::resource::{Code, Interaction, ResourceType};
use chaperone_core::together::ENTRIES_MAX;
use chaperone_policy::bundle::scope;
use chaperone_policy::{Bundle, RulingFailed};

static BUNDLE: LazyLock<Bundle> = LazyLock::new(|| Bundle::load(&folder::governance()).unwrap());

/// A request of one agent and intent, with facts that Chaperone saw to be so.
fn request(resource: &str, to: &str, elements: &[&str], seen: &[&str]) -> WriteRequest {
    let change = Change {
        resource: ResourceType::new(resource).unwrap(),
        interaction: match elements {
            [] => Interaction::Create,
            _ => Interaction::Update,
        },
        destination: Destination::Ehr,
        from: None,
        to: (!to.is_empty()).then(|| Code::new(to).unwrap()),
        clinical_status: None,
        request_intent: None,
        categories: BTreeSet::new(),
        elements: elements.iter().map(|it| (*it).to_owned()).collect(),
        direction: Direction::Neutral,
        audience: None,
        from_template: false,
    };
    let mut request = WriteRequest {
        agent: AgentId::new("some-agent").unwrap(),
        intent: IntentId::new("demographic-correction").unwrap(),
        intent_writes: vec![scope::of_change(&change)],
        tool: ToolName::new("some_tool").unwrap(),
        class: change.class().unwrap_or(ChangeClass::M5),
        change,
        facts: Default::default(),
        tainted: false,
        bundle: *BUNDLE.digest(),
        at_least: None,
        protocol: None,
    };
    for name in seen {
        request.facts.observe(name, FactValue::Bool(true));
    }
    request
}

/// A contact detail that the patient changes in the portal.
fn contact(element: &str) -> WriteRequest {
    request("Patient", "", &[element], &["portal_patient"])
}

/// A contact detail from a call.
fn told_by_telephone() -> WriteRequest {
    request("Patient", "", &["telecom"], &[])
}

fn name() -> WriteRequest {
    request("Patient", "", &["name"], &[])
}

fn birth_date() -> WriteRequest {
    request("Patient", "", &["birthDate"], &[])
}

fn task() -> WriteRequest {
    request("Task", "requested", &[], &[])
}

/// From what nobody needs to agree to, to what two people must and what is refused.
fn requests() -> Vec<WriteRequest> {
    vec![
        task(),
        contact("telecom"),
        contact("address"),
        told_by_telephone(),
        name(),
        birth_date(),
        request("Basic", "", &[], &[]),
    ]
}

fn alone(request: &WriteRequest) -> RulingRecord {
    BUNDLE.rule(request).unwrap().record().clone()
}

fn together(requests: &[WriteRequest]) -> RulingRecord {
    BUNDLE.rule_together(requests).unwrap().record().clone()
}

#[test]
fn the_list_holds_every_level_of_gate() {
    let levels: BTreeSet<GateLevel> = requests().iter().map(|it| alone(it).gate.level()).collect();
    let wanted = [
        GateLevel::Auto,
        GateLevel::AutoVerified,
        GateLevel::Approve,
        GateLevel::TwoPerson,
        GateLevel::Deny,
    ];
    assert!(wanted.iter().all(|it| levels.contains(it)), "{levels:?}");
}

#[test]
fn what_all_need_is_no_less_than_what_any_needs() {
    let all = requests();
    for a in &all {
        for b in &all {
            for c in &all {
                let asked = [a.clone(), b.clone(), c.clone()];
                let ruling = together(&asked);
                let own: Vec<RulingRecord> = asked.iter().map(alone).collect();
                assert_eq!(ruling.entries, own);
                assert_eq!(Some(ruling.class), own.iter().map(|it| it.class).max());
                for one in &own {
                    assert_eq!(ruling.gate.clone().and(one.gate.clone()), ruling.gate);
                    assert!(ruling.proof_min >= one.proof_min);
                }
                let is_refused = own.iter().any(|it| it.gate == Gate::Deny);
                if is_refused {
                    assert_eq!(ruling.gate, Gate::Deny);
                }
                assert_eq!(ruling.gate == Gate::Deny, ruling.denial.is_some());
            }
        }
    }
}

#[test]
fn the_denial_of_one_is_the_denial_of_all_and_its_reason() {
    let unlisted = request("Basic", "", &[], &[]);
    let refused = together(&[task(), unlisted.clone()]);
    assert_eq!(refused.denial, alone(&unlisted).denial);
    assert_eq!(refused.reasons, alone(&unlisted).reasons);
    assert!(together(&[task(), task()]).denial.is_none());
}

#[test]
fn whoever_decides_on_all_may_decide_on_each() {
    let approvers = |request: &WriteRequest| match alone(request).gate {
        Gate::Approve { roles } => roles,
        other => panic!("{other}"),
    };
    // Names are for health information management, and what is told by telephone for schedulers: nobody is both.
    assert_eq!(approvers(&name()), [Role::Him].into());
    assert_eq!(approvers(&told_by_telephone()), [Role::Scheduler].into());
    let nobody = |requests: &[WriteRequest]| {
        together(requests).denial.as_deref() == Some("no-decider-for-all")
    };
    assert!(nobody(&[name(), told_by_telephone()]));
    // Also where the one by itself would need no person, but a confirmation.
    assert_eq!(
        alone(&contact("telecom")).gate.level(),
        GateLevel::AutoVerified
    );
    assert!(nobody(&[name(), contact("telecom")]));
    // Whoever decides on the one decides on the other beside it.
    let both = together(&[told_by_telephone(), contact("telecom")]);
    assert_eq!(both.gate, alone(&told_by_telephone()).gate);
    // Of a pair, one may decide on it; otherwise the pair is no answer.
    assert_eq!(
        together(&[name(), birth_date()]).gate,
        alone(&birth_date()).gate
    );
    assert!(nobody(&[told_by_telephone(), birth_date()]));
    // What needs nobody goes along with anything.
    assert_eq!(together(&[task(), name()]).gate, alone(&name()).gate);
    assert_eq!(
        together(&[task(), birth_date()]).gate,
        alone(&birth_date()).gate
    );
}

#[test]
fn verifications_of_several_are_all_demanded() {
    let (one, other) = (contact("telecom"), contact("address"));
    let (Gate::AutoVerified { facts: a }, Gate::AutoVerified { facts: b }) =
        (alone(&one).gate, alone(&other).gate)
    else {
        panic!("both are verified");
    };
    assert_ne!(a, b);
    let facts = a.union(&b).cloned().collect();
    assert_eq!(together(&[one, other]).gate, Gate::AutoVerified { facts });
}

#[test]
fn what_is_not_one_proposal_is_not_ruled_on_as_one() {
    let refused = |requests: &[WriteRequest]| {
        matches!(
            BUNDLE.rule_together(requests),
            Err(RulingFailed::NotTogether)
        )
    };
    assert!(refused(&[]));
    assert!(refused(&[task()]));
    assert!(refused(&vec![task(); ENTRIES_MAX + 1]));
    assert!(!refused(&vec![task(); ENTRIES_MAX]));
    let others = WriteRequest {
        agent: AgentId::new("another-agent").unwrap(),
        ..task()
    };
    assert!(refused(&[task(), others]));
    let elsewhere = WriteRequest {
        intent: IntentId::new("intake").unwrap(),
        ..task()
    };
    assert!(refused(&[task(), elsewhere]));
    let protocol = ProtocolCited {
        id: ProtocolId::new("statin-renewal").unwrap(),
        version: 1,
        approvers: [AccountName::new("nurse-1").unwrap()].into(),
        until: chaperone_core::Timestamp::UNIX_EPOCH,
    };
    let renewal = WriteRequest {
        protocol: Some(protocol),
        ..task()
    };
    assert!(refused(&[task(), renewal]));
    let elsewhere = WriteRequest {
        bundle: Digest::of_bytes(b"another"),
        ..task()
    };
    assert!(matches!(
        BUNDLE.rule_together(&[task(), elsewhere]),
        Err(RulingFailed::OtherBundle { .. })
    ));
    assert_eq!(
        BUNDLE.rule_all(&[task()]).unwrap().record(),
        BUNDLE.rule(&task()).unwrap().record()
    );
}
