//! Synthetic pieces for the tests of the write-back: ids, records, and one state of every kind.
//!
//! Not a fixture of real content: no text of a patient appears here, only ids made of one byte.
//! Start at [`states`], which folds events into each state that exists.

use std::collections::BTreeSet;

use chaperone_core::Timestamp;
use chaperone_core::canary::{CanaryEnd, CanaryMark, CanaryMiss, CanarySeed};
use chaperone_core::change::{Change, ChangeClass, Destination, Direction};
use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::evidence::{
    AgentVersion, Approval, ApprovalRecord, Delivering, Factor, RulingRecord, StageRecord,
    Strategy, ValidationRecord, WriteOrder,
};
use chaperone_core::gate::{Gate, ProofLevel};
use chaperone_core::ids::{
    AccountName, AgentId, CanaryId, ConnectionId, CorrelationId, EnvelopeId, IntentId,
    PatientToken, PersonId, PolicyId, TenantId, ToolName, WritebackId,
};
use chaperone_core::principal::Role;
use chaperone_core::resource::{Code, Interaction, ResourceType};
use chaperone_core::together::{EntryReceipt, EntryValidated};
use chaperone_core::writeback::{
    DELIVERY_ATTEMPTS_MAX, DeliveryReceipt, DeliveryStart, FailureCause, HumanNeeded,
    NotAppliedBasis, OrderRef, Proposal, QuarantineReason, RefusedBy, Ruled, VoidReason, Writeback,
    WritebackEvent,
};

/// A canary that a clinician is to look at, with a gate of one's choice.
pub(crate) fn canary_seed(gate: Gate) -> CanarySeed {
    let mut change = change("MedicationRequest", "draft", Destination::Staged);
    change.from_template = true;
    let class = change.class().unwrap();
    CanarySeed {
        mark: CanaryMark {
            canary: CanaryId::new("wrong-patient-note").unwrap(),
            pool: Role::Clinician,
            imagined: address("imagined"),
        },
        ruled: Ruled {
            proposal: Proposal {
                requester: None,
                ..proposal()
            },
            validation: validation(),
            change,
            entries: Vec::new(),
            ruling: ruling(gate, class, Destination::Staged),
            order: order(Strategy::Conditional),
        },
    }
}

/// How long after the ruling an approval counts, in seconds.
pub(crate) const APPROVE_WITHIN_S: i64 = 900;

/// How long an order may wait in the queue, in seconds.
pub(crate) const DELIVER_WITHIN_S: i64 = 1200;

/// A moment, in seconds after the first event.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

pub(crate) fn digest(of: &str) -> Digest {
    Digest::of_bytes(of.as_bytes())
}

pub(crate) fn address(of: &str) -> PayloadAddress {
    PayloadAddress::of(&[7; 32], of.as_bytes())
}

pub(crate) fn person(n: u8) -> PersonId {
    PersonId::from_random([n; 16])
}

pub(crate) fn writeback(n: u8) -> WritebackId {
    WritebackId::from_random([n; 16])
}

pub(crate) fn tenant() -> TenantId {
    TenantId::new("north-clinic").unwrap()
}

/// The human the agent acts for in every sample.
pub(crate) const REQUESTER: u8 = 9;

pub(crate) fn proposal() -> Proposal {
    Proposal {
        id: writeback(1),
        envelope: EnvelopeId::from_random([2; 16]),
        agent: AgentId::new("prescribing-desk").unwrap(),
        intent: IntentId::new("submit-order").unwrap(),
        tool: ToolName::new("propose_dose_change").unwrap(),
        patient: Some(PatientToken::from_random([3; 16])),
        requester: Some(person(REQUESTER)),
        connection: ConnectionId::new("sandbox").unwrap(),
        correlation: CorrelationId::from_random([4; 16]),
        idempotency_key: digest("key"),
        request: digest("request"),
        payload: address("arguments"),
        tainted: false,
        undo: None,
        maker: None,
        edit: None,
    }
}

pub(crate) fn validation() -> ValidationRecord {
    ValidationRecord {
        validator: "chaperone-fhir 0.1.0".to_owned(),
        packages: vec!["hl7.fhir.r4.core#4.0.1".to_owned()],
        stages: vec![StageRecord {
            stage: "structure".to_owned(),
            ran: true,
            errors: 0,
            warnings: 1,
        }],
        body: digest("body"),
        rules: None,
        findings: None,
    }
}

/// A change of the class that its resource and destination give it.
pub(crate) fn change(resource: &str, to: &str, destination: Destination) -> Change {
    Change {
        resource: ResourceType::new(resource).unwrap(),
        interaction: Interaction::Create,
        destination,
        from: None,
        to: Some(Code::new(to).unwrap()),
        clinical_status: None,
        request_intent: None,
        categories: BTreeSet::new(),
        elements: BTreeSet::from(["status".to_owned()]),
        direction: Direction::Neutral,
        audience: None,
        from_template: false,
    }
}

pub(crate) fn roles(roles: &[Role]) -> BTreeSet<Role> {
    roles.iter().copied().collect()
}

pub(crate) fn approve_2f() -> Gate {
    Gate::Approve2f {
        roles: roles(&[Role::Clinician]),
    }
}

pub(crate) fn two_person() -> Gate {
    Gate::TwoPerson {
        first: Role::Clinician,
        second: Role::Pharmacist,
    }
}

pub(crate) fn auto_verified() -> Gate {
    Gate::AutoVerified {
        facts: BTreeSet::from(["slot_rechecked".to_owned()]),
    }
}

pub(crate) fn ruling(gate: Gate, class: ChangeClass, destination: Destination) -> RulingRecord {
    let denial = (gate == Gate::Deny).then(|| "delete-prohibited".to_owned());
    RulingRecord {
        gate,
        class,
        destination,
        determining: vec![PolicyId::new("mr-activate").unwrap()],
        raised_by: Vec::new(),
        reasons: Vec::new(),
        denial,
        proof_min: ProofLevel::P2,
        notify: Vec::new(),
        bundle: digest("bundle"),
        protocol: None,
        entries: Vec::new(),
    }
}

/// The order of every sample; ruled at second 0.
pub(crate) fn order(strategy: Strategy) -> OrderRef {
    OrderRef {
        digest: digest("order"),
        address: address("order"),
        strategy,
        approve_by: at(APPROVE_WITHIN_S),
        deliver_within_s: DELIVER_WITHIN_S,
    }
}

/// An approval of the sample order, with a second factor.
pub(crate) fn approval(by: u8, account: &str, role: Role) -> ApprovalRecord {
    ApprovalRecord {
        digest: digest("order"),
        person: person(by),
        account: AccountName::new(account).unwrap(),
        role,
        factor: Factor::Totp { at: at(10) },
        at: at(10),
        review_ms: 42_000,
        override_reason: None,
        in_training: false,
    }
}

pub(crate) fn granted(record: ApprovalRecord) -> Approval {
    Approval::grant(record)
}

pub(crate) fn start(attempt: u32) -> DeliveryStart {
    DeliveryStart {
        digest: digest("order"),
        attempt,
        epoch: 1,
    }
}

pub(crate) fn receipt(proof: ProofLevel) -> DeliveryReceipt {
    DeliveryReceipt {
        proof,
        location: address("MedicationRequest/1/_history/1"),
        read_back: Some(digest("body")),
        provenance_written: true,
        attested_by: None,
        also: Vec::new(),
    }
}

/// A signature in the EHR, given ten seconds before the tables are made.
pub(crate) fn signature(n: u8, name: &str, role: Role) -> ApprovalRecord {
    ApprovalRecord {
        factor: Factor::EhrSignature { at: at(50) },
        ..approval(n, name, role)
    }
}

pub(crate) fn attested(by: u8) -> DeliveryReceipt {
    DeliveryReceipt {
        proof: ProofLevel::P0,
        read_back: None,
        provenance_written: false,
        attested_by: Some(person(by)),
        also: Vec::new(),
        ..receipt(ProofLevel::P0)
    }
}

pub(crate) fn delivering(order_digest: Digest, attempt: u32) -> Delivering {
    let order = WriteOrder {
        tenant: tenant(),
        writeback: writeback(1),
        patient: proposal().patient,
        connection: proposal().connection,
        endpoint: "http://localhost/fhir".to_owned(),
        interaction: Interaction::Create,
        resource: ResourceType::new("MedicationRequest").unwrap(),
        path: "MedicationRequest".to_owned(),
        if_none_exist: None,
        if_match: None,
        base_version: None,
        base_digest: None,
        base: None,
        body: "{}".to_owned(),
        patch: None,
        provenance: None,
        strategy: Strategy::Conditional,
        operation: None,
        signed_form: None,
        gate: approve_2f(),
        class: ChangeClass::M4,
        bundle: digest("bundle"),
        validation: validation(),
        author: AgentVersion {
            agent: proposal().agent,
            version: "1".to_owned(),
            model: "none".to_owned(),
            prompts: Vec::new(),
        },
        evidence: Vec::new(),
        rests_on: Default::default(),
        resembles: Vec::new(),
        asked: None,
        call: None,
        edit: None,
        also: Vec::new(),
        salt: chaperone_core::digest::Salt::from_random([8; 32]),
    };
    Delivering::begin(order, order_digest, attempt)
}

/// The events that lead to a ruled write-back of one gate, all at second 0.
pub(crate) fn ruled_events(
    gate: Gate,
    destination: Destination,
    strategy: Strategy,
) -> Vec<WritebackEvent> {
    let change = change("MedicationRequest", "active", destination);
    let class = change.class().unwrap();
    vec![
        WritebackEvent::Proposed(Box::new(proposal())),
        WritebackEvent::Validated {
            validation: Box::new(validation()),
            change: Box::new(change),
            class,
            entries: Vec::new(),
        },
        WritebackEvent::Ruled {
            ruling: Box::new(ruling(gate, class, destination)),
            order: order(strategy),
        },
    ]
}

/// Two changes as entries of one: an order and a task beside it.
pub(crate) fn entries() -> Vec<EntryValidated> {
    [
        ("order_medication", "MedicationRequest", "active"),
        ("create_task", "Task", "requested"),
    ]
    .map(|(tool, resource, to)| {
        let change = change(resource, to, Destination::Ehr);
        EntryValidated {
            tool: ToolName::new(tool).unwrap(),
            class: change.class().unwrap(),
            change,
            stages: validation().stages,
            body: digest(resource),
        }
    })
    .into()
}

/// The ruling on both: this gate, and what each needs by itself.
pub(crate) fn ruling_of_two(gate: Gate) -> RulingRecord {
    let ehr = Destination::Ehr;
    RulingRecord {
        entries: vec![
            ruling(approve_2f(), ChangeClass::M4, ehr),
            ruling(Gate::Auto, ChangeClass::M0, ehr),
        ],
        ..ruling(gate, ChangeClass::M4, ehr)
    }
}

/// What a transaction of two can show.
pub(crate) fn receipt_of_two(proof: ProofLevel) -> DeliveryReceipt {
    DeliveryReceipt {
        also: vec![EntryReceipt {
            location: address("Task/2/_history/1"),
            read_back: Some(digest("task")),
        }],
        ..receipt(proof)
    }
}

/// Both validated and ruled on as one.
pub(crate) fn together(gate: Gate) -> Vec<WritebackEvent> {
    let entries = entries();
    vec![
        WritebackEvent::Validated {
            validation: Box::new(validation()),
            change: Box::new(entries[0].change.clone()),
            class: ChangeClass::M4,
            entries,
        },
        WritebackEvent::Ruled {
            ruling: Box::new(ruling_of_two(gate)),
            order: order(Strategy::Conditional),
        },
    ]
}

/// Folds events, each ten seconds after the last.
pub(crate) fn fold(events: &[WritebackEvent]) -> Writeback {
    let mut state = Writeback::begin(&events[0]).unwrap();
    for (n, event) in events.iter().enumerate().skip(1) {
        state = state.evolve(event, at(10 * n as i64)).unwrap();
    }
    state
}

/// One state of every kind, and both shades of those that have two; named in twelve letters or fewer.
pub(crate) fn states() -> Vec<(&'static str, Writeback)> {
    use WritebackEvent as E;
    let ruled = |gate| ruled_events(gate, Destination::Ehr, Strategy::Conditional);
    let then = |mut events: Vec<E>, more: &[E]| {
        events.extend_from_slice(more);
        events
    };
    let staged = ruled_events(Gate::Auto, Destination::Staged, Strategy::Conditional);
    let approved = E::Approved {
        approval: approval(1, "ada", Role::Clinician),
    };
    let ready = then(ruled(approve_2f()), std::slice::from_ref(&approved));
    let in_delivery = then(ready.clone(), &[E::DeliveryStarted(start(1))]);
    let unknown = then(in_delivery.clone(), &[E::OutcomeUnknown]);
    let delivered = then(
        in_delivery.clone(),
        &[E::Delivered(receipt(ProofLevel::P3))],
    );
    // What is signed in the EHR waits for nobody here.
    let placing = then(
        ruled_events(approve_2f(), Destination::Ehr, Strategy::EhrStaged),
        &[E::DeliveryStarted(start(1))],
    );
    let to_sign = then(placing.clone(), &[E::DraftPlaced(receipt(ProofLevel::P2))]);
    let signed = E::Approved {
        approval: signature(3, "cy", Role::Clinician),
    };
    let dead = then(
        in_delivery.clone(),
        &[E::DeadLettered {
            cause: FailureCause::Rejected,
        }],
    );
    let mut spent = ready.clone();
    for attempt in 1..=DELIVERY_ATTEMPTS_MAX {
        spent.push(E::DeliveryStarted(start(attempt)));
        spent.push(E::NotApplied {
            cause: FailureCause::Unreachable,
            retry_at: at(30),
        });
    }
    let canary = vec![E::CanarySeeded(Box::new(canary_seed(approve_2f())))];
    let events = vec![
        ("proposed", ruled(Gate::Auto)[..1].to_vec()),
        ("validated", ruled(Gate::Auto)[..2].to_vec()),
        ("staged", staged.clone()),
        (
            "promoted",
            then(staged, &[E::Promoted { by: writeback(2) }]),
        ),
        ("verification", ruled(auto_verified())),
        ("approval", ruled(approve_2f())),
        ("second-of-2", then(ruled(two_person()), &[approved])),
        ("ready", ready.clone()),
        ("spent", spent),
        ("delivering", in_delivery),
        (
            "human-entry",
            then(
                ruled_events(Gate::Auto, Destination::Ehr, Strategy::HumanEntry),
                &[E::DeliveryStarted(start(1))],
            ),
        ),
        ("to-sign", to_sign.clone()),
        ("signed", then(to_sign, &[signed])),
        ("lost-draft", then(placing, &[E::OutcomeUnknown])),
        ("unknown", unknown.clone()),
        (
            "ask-human",
            then(
                unknown,
                &[E::HumanNeeded {
                    reason: HumanNeeded::EndpointCannotTell,
                }],
            ),
        ),
        ("delivered", delivered.clone()),
        ("dead-letter", dead.clone()),
        ("refused", ruled(Gate::Deny)),
        (
            "void",
            then(
                ready,
                &[E::Voided {
                    reason: VoidReason::Stale,
                }],
            ),
        ),
        (
            "abandoned",
            then(
                dead,
                &[E::Abandoned {
                    person: person(5),
                    reason: address("reason"),
                }],
            ),
        ),
        (
            "quarantined",
            then(
                ruled(approve_2f()),
                &[E::Quarantined {
                    reason: QuarantineReason::BadRun,
                }],
            ),
        ),
        (
            "compensated",
            then(delivered, &[E::Compensated { by: writeback(3) }]),
        ),
        ("canary", canary.clone()),
        (
            "canary-over",
            then(canary, &[E::CanaryWithdrawn(CanaryEnd::Mode)]),
        ),
    ];
    events
        .into_iter()
        .map(|(name, events)| (name, fold(&events)))
        .collect()
}

/// One event of every kind; the ruling once per gate, because the gate decides where it goes.
pub(crate) fn events() -> Vec<(String, WritebackEvent)> {
    use WritebackEvent as E;
    let mut events = vec![E::Proposed(Box::new(proposal()))];
    events.push(ruled_events(Gate::Auto, Destination::Ehr, Strategy::Conditional)[1].clone());
    let mut named: Vec<(String, E)> = events.into_iter().map(|e| (what(&e), e)).collect();
    for gate in [
        Gate::Auto,
        auto_verified(),
        approve_2f(),
        two_person(),
        Gate::Deny,
    ] {
        for destination in [Destination::Staged, Destination::Ehr] {
            let level = gate.level().as_str();
            let event = ruled_events(gate.clone(), destination, Strategy::Conditional)[2].clone();
            let place = match destination {
                Destination::Staged => "staged",
                Destination::Ehr => "ehr",
            };
            named.push((format!("ruled {level} {place}"), event));
        }
    }
    named.extend(
        [
            E::Verified {
                facts: BTreeSet::from(["slot_rechecked".to_owned()]),
                evidence: Vec::new(),
            },
            E::Approved {
                approval: approval(2, "bo", Role::Pharmacist),
            },
            E::Refused {
                refused: RefusedBy::Withdrawn,
            },
            E::Voided {
                reason: VoidReason::Stale,
            },
            E::DeliveryStarted(start(1)),
            E::DraftPlaced(receipt(ProofLevel::P2)),
            E::Delivered(receipt(ProofLevel::P3)),
            E::NotApplied {
                cause: FailureCause::Unreachable,
                retry_at: at(600),
            },
            E::OutcomeUnknown,
            E::FoundNotApplied {
                basis: NotAppliedBasis::MissAfterSettle,
                retry_at: at(600),
            },
            E::HumanNeeded {
                reason: HumanNeeded::ContentDiffers,
            },
            E::DeadLettered {
                cause: FailureCause::Unauthorized,
            },
            E::Requeued {
                person: person(5),
                reason: address("reason"),
            },
            E::Abandoned {
                person: person(5),
                reason: address("reason"),
            },
            E::Quarantined {
                reason: QuarantineReason::Operator,
            },
            E::Released {
                person: person(5),
                reason: Some(address("release")),
            },
            E::Compensated { by: writeback(3) },
            E::Promoted { by: writeback(2) },
            E::CanarySeeded(Box::new(canary_seed(approve_2f()))),
            E::CanaryMissed(CanaryMiss {
                person: person(3),
                account: AccountName::new("cy").unwrap(),
                review_ms: 2_500,
            }),
            E::CanaryCaught {
                person: person(3),
                reason: address("reason"),
            },
            E::CanaryWithdrawn(CanaryEnd::Expired),
        ]
        .into_iter()
        .map(|e| (what(&e), e)),
    );
    named
}

/// The serialised name of an event.
pub(crate) fn what(event: &WritebackEvent) -> String {
    serde_json::to_value(event).unwrap()["what"]
        .as_str()
        .unwrap()
        .to_owned()
}
