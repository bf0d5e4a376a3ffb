//! Random histories of a write-back: what was decided is stored as leaf bytes, and reading the bytes
//! back gives the same state. A checker that knows nothing of the state machine then reads the JSON
//! of the history and looks for what must never happen.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    dead_code
)]

mod sample;

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::change::Destination;
use chaperone_core::event::{Event, LEAF_FORMAT, Recorded, StreamId};
use chaperone_core::evidence::{ApprovalRecord, Factor, Strategy as Delivery};
use chaperone_core::facts::{FactValue, Facts};
use chaperone_core::gate::{Gate, ProofLevel};
use chaperone_core::principal::{Actor, Role, SystemPart};
use chaperone_core::writeback::{
    Command, DELIVERY_ATTEMPTS_MAX, FailureCause, HumanNeeded, NotAppliedBasis, QuarantineReason,
    RefusedBy, VoidReason, Writeback, WritebackEvent, decide,
};
use proptest::prelude::*;
use sample::{
    REQUESTER, address, approval, approve_2f, at, attested, auto_verified, delivering, digest,
    granted, person, receipt, roles, ruled_events, signature, start, tenant, two_person, writeback,
};
use serde_json::Value;

/// Most commands in one history.
const COMMANDS_MAX: usize = 80;

/// A command without its evidence, as it is drawn.
#[derive(Debug, Clone)]
enum Drawn {
    Verify {
        established: bool,
    },
    Approve {
        person: u8,
        account: u8,
        role: Role,
        factor: Given,
        right: bool,
        in_training: bool,
    },
    /// The EHR has it unsigned.
    Place {
        proof: ProofLevel,
    },
    /// The EHR has it signed.
    ConfirmSigned,
    Refuse,
    Void,
    /// Starts the next attempt, or one that does not follow.
    Start {
        skip: u32,
    },
    Confirm {
        proof: ProofLevel,
        right: bool,
    },
    Fail(FailureCause),
    Lose,
    FindApplied {
        by_human: bool,
    },
    FindMissing {
        by_human: bool,
    },
    AskHuman,
    DeadLetter,
    Requeue,
    Abandon,
    Quarantine,
    Release,
    Compensate,
    Promote,
}

/// With what an approval is given.
#[derive(Debug, Clone, Copy)]
enum Given {
    Nothing,
    Code,
    /// A signature in the EHR.
    Signature,
}

fn given() -> impl Strategy<Value = Given> {
    prop_oneof![
        1 => Just(Given::Nothing),
        5 => Just(Given::Code),
        2 => Just(Given::Signature),
    ]
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let role = prop_oneof![
        4 => Just(Role::Clinician),
        3 => Just(Role::Pharmacist),
        1 => Just(Role::ItAdmin),
    ];
    let mostly = |yes: f64| prop::bool::weighted(yes);
    prop_oneof![
        2 => mostly(0.7).prop_map(|established| Drawn::Verify { established }),
        8 => (prop_oneof![1u8..4, Just(REQUESTER)], 0u8..2, role, given(), mostly(0.9), mostly(0.25)).prop_map(
            |(person, account, role, factor, right, in_training)| {
                Drawn::Approve { person, account, role, factor, right, in_training }
            }
        ),
        3 => prop_oneof![1 => Just(ProofLevel::P1), 4 => Just(ProofLevel::P2)]
            .prop_map(|proof| Drawn::Place { proof }),
        3 => Just(Drawn::ConfirmSigned),
        1 => Just(Drawn::Refuse),
        1 => Just(Drawn::Void),
        12 => prop_oneof![8 => Just(0u32), 1 => Just(1u32)].prop_map(|skip| Drawn::Start { skip }),
        2 => (prop_oneof![Just(ProofLevel::P0), Just(ProofLevel::P1), Just(ProofLevel::P2), Just(ProofLevel::P3)], mostly(0.9))
            .prop_map(|(proof, right)| Drawn::Confirm { proof, right }),
        8 => prop_oneof![
            6 => Just(FailureCause::Unreachable),
            2 => Just(FailureCause::RateLimited),
            1 => Just(FailureCause::Rejected),
        ].prop_map(Drawn::Fail),
        5 => Just(Drawn::Lose),
        1 => mostly(0.3).prop_map(|by_human| Drawn::FindApplied { by_human }),
        6 => mostly(0.4).prop_map(|by_human| Drawn::FindMissing { by_human }),
        1 => Just(Drawn::AskHuman),
        1 => Just(Drawn::DeadLetter),
        2 => Just(Drawn::Requeue),
        1 => Just(Drawn::Abandon),
        1 => Just(Drawn::Quarantine),
        2 => Just(Drawn::Release),
        1 => Just(Drawn::Compensate),
        1 => Just(Drawn::Promote),
    ]
}

fn gates() -> impl Strategy<Value = Gate> {
    prop_oneof![
        Just(Gate::Auto),
        Just(auto_verified()),
        Just(Gate::Approve {
            roles: roles(&[Role::Clinician, Role::Pharmacist])
        }),
        Just(approve_2f()),
        Just(two_person()),
        Just(Gate::Deny),
    ]
}

fn deliveries() -> impl Strategy<Value = Delivery> {
    prop_oneof![
        Just(Delivery::Conditional),
        Just(Delivery::PlainPost),
        Just(Delivery::VendorOp),
        Just(Delivery::EhrStaged),
        Just(Delivery::HumanEntry)
    ]
}

/// What is signed in the EHR is only what one signature can stand for; the ruling refuses everything else.
fn fitting(gate: &Gate, delivery: Delivery) -> Delivery {
    match (gate, delivery) {
        (Gate::Approve { .. } | Gate::Approve2f { .. } | Gate::Deny, it) => it,
        (_, Delivery::EhrStaged) => Delivery::PlainPost,
        (_, it) => it,
    }
}

/// What the next attempt would be; the worker knows it from the state, the tests from the state too.
fn next_attempt(state: &Writeback) -> u32 {
    match state {
        Writeback::Ready(ready) => ready.attempts() + 1,
        _ => 1,
    }
}

fn attempt(state: &Writeback, drawn: &Drawn, now: i64) -> Option<WritebackEvent> {
    let retry_at = at(now + 5);
    let reason = address("reason");
    let mut facts = Facts::default();
    let approval_given;
    let under_way;
    let command = match drawn {
        Drawn::Verify { established } => {
            if *established {
                facts.observe("slot_rechecked", FactValue::Bool(true));
            } else {
                facts.claim("slot_rechecked", FactValue::Bool(true));
            }
            Command::Verify {
                facts: &facts,
                evidence: &[],
            }
        }
        Drawn::Approve {
            person,
            account,
            role,
            factor,
            right,
            in_training,
        } => {
            let record = approval(*person, &format!("account-{person}-{account}"), *role);
            approval_given = granted(ApprovalRecord {
                factor: match factor {
                    Given::Nothing => Factor::None,
                    Given::Code => record.factor.clone(),
                    Given::Signature => Factor::EhrSignature { at: at(now) },
                },
                in_training: *in_training,
                digest: if *right {
                    record.digest
                } else {
                    digest("other")
                },
                ..record
            });
            Command::Approve {
                approval: &approval_given,
            }
        }
        Drawn::Place { proof } => Command::PlaceDraft {
            receipt: receipt(*proof),
        },
        Drawn::ConfirmSigned => Command::ConfirmSigned {
            receipt: receipt(ProofLevel::P2),
        },
        Drawn::Refuse => Command::Refuse {
            refused: RefusedBy::Withdrawn,
        },
        Drawn::Void => Command::Void {
            reason: VoidReason::Stale,
        },
        Drawn::Start { skip } => Command::StartDelivery {
            start: start(next_attempt(state) + skip),
        },
        Drawn::Confirm { proof, right } => {
            under_way = delivering(digest(if *right { "order" } else { "other" }), 1);
            Command::ConfirmDelivery {
                delivering: &under_way,
                receipt: if *proof == ProofLevel::P0 {
                    attested(5)
                } else {
                    receipt(*proof)
                },
            }
        }
        Drawn::Fail(cause) => Command::FailDelivery {
            cause: *cause,
            retry_at,
        },
        Drawn::Lose => Command::LoseOutcome,
        Drawn::FindApplied { by_human } => Command::FindApplied {
            receipt: if *by_human {
                attested(5)
            } else {
                receipt(ProofLevel::P2)
            },
        },
        Drawn::FindMissing { by_human } => Command::FindNotApplied {
            basis: if *by_human {
                NotAppliedBasis::Human { person: person(5) }
            } else {
                NotAppliedBasis::MissAfterSettle
            },
            retry_at,
        },
        Drawn::AskHuman => Command::AskHuman {
            reason: HumanNeeded::EndpointCannotTell,
        },
        Drawn::DeadLetter => Command::DeadLetter {
            cause: FailureCause::Unreachable,
        },
        Drawn::Requeue => Command::Requeue {
            person: person(5),
            reason,
        },
        Drawn::Abandon => Command::Abandon {
            person: person(5),
            reason,
        },
        Drawn::Quarantine => Command::Quarantine {
            reason: QuarantineReason::BadRun,
        },
        Drawn::Release => Command::Release {
            person: person(5),
            reason: address("release"),
        },
        Drawn::Compensate => Command::Compensate { by: writeback(3) },
        Drawn::Promote => Command::Promote { by: writeback(2) },
    };
    decide(state, command, at(now)).ok()
}

/// The stored form of a history and the state that was held in memory while it was made.
fn run(
    gate: Gate,
    destination: Destination,
    delivery: Delivery,
    steps: &[(Drawn, u8)],
) -> (Vec<Vec<u8>>, Writeback) {
    let mut leaves: Vec<Vec<u8>> = Vec::new();
    let mut state: Option<Writeback> = None;
    let mut now = 0;
    let mut record = |event: WritebackEvent, state: &mut Option<Writeback>, now: i64| {
        let version = leaves.len() as u64 + 1;
        let recorded = Recorded {
            format: LEAF_FORMAT,
            tenant: tenant(),
            seq: version + 40,
            stream: StreamId::Writeback(writeback(1)),
            version,
            at: at(now),
            actor: Actor::System {
                part: SystemPart::Delivery,
            },
            event: Event::Writeback(event.clone()),
        };
        leaves.push(recorded.to_leaf().unwrap());
        *state = Some(match state.take() {
            None => Writeback::begin(&event).unwrap(),
            Some(state) => state
                .evolve(&event, at(now))
                .expect("what is decided can be folded"),
        });
    };
    for event in ruled_events(gate, destination, delivery) {
        record(event, &mut state, now);
    }
    for (drawn, wait) in steps {
        now += i64::from(*wait);
        if let Some(event) = attempt(state.as_ref().unwrap(), drawn, now) {
            record(event, &mut state, now);
        }
    }
    (leaves, state.unwrap())
}

fn replay(leaves: &[Vec<u8>]) -> Writeback {
    let mut state: Option<Writeback> = None;
    for leaf in leaves {
        let recorded = Recorded::from_leaf(leaf).unwrap();
        assert_eq!(
            recorded.to_leaf().unwrap(),
            *leaf,
            "reading and writing a leaf changes no byte"
        );
        let Event::Writeback(event) = recorded.event else {
            panic!("another kind of event");
        };
        state = Some(match state {
            None => Writeback::begin(&event).unwrap(),
            Some(state) => state.evolve(&event, recorded.at).unwrap(),
        });
    }
    state.unwrap()
}

/// What a history tells about itself, from its JSON alone.
#[derive(Default)]
struct Told {
    gate: Value,
    requester: Value,
    strategy: Value,
    order: Value,
    proof_min: Value,
    approvals: Vec<Value>,
    verified: bool,
    /// An attempt is under way or its outcome unknown.
    open: bool,
    unknown: bool,
    /// The EHR has it unsigned.
    placed: bool,
    asked: bool,
    ended: bool,
    attempts: u32,
    counts: BTreeMap<String, u32>,
}

/// Finds what must never happen. Shares no code with the state machine.
fn breach(leaves: &[Vec<u8>]) -> Option<String> {
    let mut told = Told::default();
    for leaf in leaves {
        let leaf: Value = serde_json::from_slice(leaf).unwrap();
        let event = &leaf["event"];
        let what = event["what"].as_str().unwrap();
        *told.counts.entry(what.to_owned()).or_default() += 1;
        if told.ended && !matches!(what, "compensated" | "promoted") {
            return Some(format!("`{what}` after the end"));
        }
        if told.unknown
            && matches!(
                what,
                "voided" | "dead_lettered" | "quarantined" | "not_applied"
            )
        {
            return Some(format!("`{what}` before an unknown outcome was looked up"));
        }
        match what {
            "proposed" => told.requester = event["requester"].clone(),
            "ruled" => {
                told.gate = event["ruling"]["gate"].clone();
                told.proof_min = event["ruling"]["proof_min"].clone();
                told.order = event["order"]["digest"].clone();
                told.strategy = event["order"]["strategy"].clone();
                told.ended = told.gate["gate"] == "deny";
            }
            "verified" => told.verified = true,
            "approved" => {
                if event["approval"]["digest"] != told.order {
                    return Some("an approval of something else".to_owned());
                }
                let is_signature = event["approval"]["factor"]["factor"] == "ehr_signature";
                if is_signature != told.placed {
                    return Some("a signature of what is not there, or none of what is".to_owned());
                }
                if is_signature && is_in_training(&event["approval"]) {
                    return Some("signed by somebody in training".to_owned());
                }
                told.approvals.push(event["approval"].clone());
            }
            "delivery_started" => {
                if told.open || told.placed {
                    return Some("a second send while the first is open".to_owned());
                }
                if event["digest"] != told.order {
                    return Some("another order was sent".to_owned());
                }
                if let Some(lacks) = authority(&told) {
                    return Some(lacks);
                }
                told.attempts += 1;
                if told.attempts > DELIVERY_ATTEMPTS_MAX {
                    return Some("too many attempts".to_owned());
                }
                told.open = true;
            }
            "draft_placed" => {
                if !told.open || told.strategy != "ehr-staged" {
                    return Some("placed without a send that places".to_owned());
                }
                (told.open, told.unknown, told.asked) = (false, false, false);
                told.placed = true;
            }
            "outcome_unknown" => told.unknown = true,
            "human_needed" => told.asked = true,
            "found_not_applied" => {
                let by_human = event["basis"]["basis"] == "human";
                if !by_human && (told.asked || told.strategy != "conditional") {
                    return Some("a miss that says nothing was believed".to_owned());
                }
                (told.open, told.unknown, told.asked) = (false, false, false);
            }
            "not_applied" | "dead_lettered" => told.open = false,
            "requeued" => told.attempts = 0,
            "delivered" => {
                if told.strategy == "ehr-staged" && (!told.placed || told.approvals.len() != 1) {
                    return Some("delivered without a signature".to_owned());
                }
                if !told.open && !told.placed {
                    return Some("delivered without a send".to_owned());
                }
                let attested = !event["attested_by"].is_null();
                if event["proof"].as_str() < told.proof_min.as_str() && !attested {
                    return Some("delivered on weak proof".to_owned());
                }
                told.ended = true;
            }
            "refused" | "voided" | "abandoned" => told.ended = true,
            _ => {}
        }
    }
    let delivered = told.counts.get("delivered").copied().unwrap_or(0);
    (delivered > 1).then(|| "delivered twice".to_owned())
}

fn is_in_training(approval: &Value) -> bool {
    approval["in_training"] == true
}

/// Whether one colleague who is not in training approved, beside at most one other who is.
fn is_by_one(told: &Told, people: &BTreeSet<&str>) -> bool {
    let learning = told
        .approvals
        .iter()
        .filter(|it| is_in_training(it))
        .count();
    learning <= 1 && people.len() == told.approvals.len() && people.len() == learning + 1
}

fn authority(told: &Told) -> Option<String> {
    // Unsigned it has no effect; the signature is looked at when it comes.
    if told.strategy == "ehr-staged" {
        return None;
    }
    let people: BTreeSet<&str> = told
        .approvals
        .iter()
        .filter_map(|a| a["person"].as_str())
        .collect();
    let with_factor = told
        .approvals
        .iter()
        .filter(|a| a["factor"]["factor"] != "none")
        .count();
    let lacks = match told.gate["gate"].as_str().unwrap() {
        "auto" => false,
        "auto_verified" => !told.verified,
        "approve" => !is_by_one(told, &people),
        "approve_2f" => !is_by_one(told, &people) || with_factor != told.approvals.len(),
        "two_person" => {
            people.len() != 2
                || told.approvals.iter().any(is_in_training)
                || with_factor < 1
                || told.requester.as_str().is_some_and(|r| people.contains(r))
        }
        _ => true,
    };
    lacks.then(|| format!("sent without the authority that {} demands", told.gate))
}

fn printed(leaves: &[Vec<u8>]) -> String {
    leaves
        .iter()
        .map(|leaf| String::from_utf8_lossy(leaf).into_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_stored_history_replays_to_the_same_state_and_holds_no_breach(
        gate in gates(),
        staged in prop::bool::weighted(0.15),
        delivery in deliveries(),
        steps in prop::collection::vec((drawn(), 0u8..30), 1..COMMANDS_MAX),
    ) {
        let delivery = fitting(&gate, delivery);
        let destination = if staged { Destination::Staged } else { Destination::Ehr };
        let (leaves, held) = run(gate, destination, delivery, &steps);
        let replayed = replay(&leaves);
        prop_assert_eq!(&replayed, &held, "{}", printed(&leaves));
        prop_assert_eq!(breach(&leaves), None, "{}", printed(&leaves));
    }
}

/// The checker is worth something only if it sees what it looks for.
#[test]
fn the_checker_sees_each_breach() {
    let said = |gate: Gate, delivery: Delivery, more: &[WritebackEvent]| {
        let mut events = ruled_events(gate, Destination::Ehr, delivery);
        events.extend_from_slice(more);
        let leaves: Vec<Vec<u8>> = events
            .into_iter()
            .map(|event| {
                let event = serde_json::to_value(Event::Writeback(event)).unwrap();
                serde_json::to_vec(&serde_json::json!({ "event": event })).unwrap()
            })
            .collect();
        breach(&leaves).unwrap_or_default()
    };
    use WritebackEvent as E;
    let sent = || E::DeliveryStarted(start(1));
    let miss = || E::FoundNotApplied {
        basis: NotAppliedBasis::MissAfterSettle,
        retry_at: at(9),
    };
    let given = |by, account, role| E::Approved {
        approval: approval(by, account, role),
    };
    let auto = || Gate::Auto;
    let conditional = Delivery::Conditional;
    assert_eq!(said(auto(), conditional, &[sent()]), "");
    assert!(said(auto(), conditional, &[sent(), sent()]).contains("second send"));
    assert!(
        said(auto(), conditional, &[sent(), E::OutcomeUnknown, sent()]).contains("second send")
    );
    assert!(said(approve_2f(), conditional, &[sent()]).contains("without the authority"));
    assert!(
        said(
            two_person(),
            conditional,
            &[
                given(1, "ada", Role::Clinician),
                given(1, "ada-2", Role::Pharmacist),
                sent()
            ]
        )
        .contains("without the authority")
    );
    assert_eq!(
        said(
            two_person(),
            conditional,
            &[
                given(1, "ada", Role::Clinician),
                given(2, "bo", Role::Pharmacist),
                sent()
            ]
        ),
        ""
    );
    assert_eq!(
        said(auto(), conditional, &[sent(), E::OutcomeUnknown, miss()]),
        ""
    );
    let learner = |by, account| E::Approved {
        approval: ApprovalRecord {
            in_training: true,
            ..approval(by, account, Role::Clinician)
        },
    };
    let alone = [learner(1, "ada"), sent()];
    assert!(said(approve_2f(), conditional, &alone).contains("without the authority"));
    let both = [learner(1, "ada"), learner(2, "bo"), sent()];
    assert!(said(approve_2f(), conditional, &both).contains("without the authority"));
    let beside = [learner(1, "ada"), given(2, "bo", Role::Clinician), sent()];
    assert_eq!(said(approve_2f(), conditional, &beside), "");
    let of_two = [learner(1, "ada"), given(2, "bo", Role::Pharmacist), sent()];
    assert!(said(two_person(), conditional, &of_two).contains("without the authority"));
    let placed = || E::DraftPlaced(receipt(ProofLevel::P2));
    let there = || E::Delivered(receipt(ProofLevel::P2));
    let signed = |in_training| E::Approved {
        approval: ApprovalRecord {
            in_training,
            ..signature(3, "cy", Role::Clinician)
        },
    };
    let by_signature = |more: &[E]| said(approve_2f(), Delivery::EhrStaged, more);
    assert_eq!(
        by_signature(&[sent(), placed(), signed(false), there()]),
        ""
    );
    assert!(by_signature(&[sent(), placed(), there()]).contains("without a signature"));
    assert!(by_signature(&[sent(), there()]).contains("without a signature"));
    assert!(by_signature(&[sent(), placed(), signed(true)]).contains("in training"));
    assert!(by_signature(&[sent(), signed(false)]).contains("not there"));
    assert!(by_signature(&[sent(), placed(), sent()]).contains("second send"));
    assert!(said(approve_2f(), conditional, &[signed(false)]).contains("not there"));
    assert!(
        said(
            auto(),
            Delivery::PlainPost,
            &[sent(), E::OutcomeUnknown, miss()]
        )
        .contains("says nothing")
    );
    assert!(
        said(
            auto(),
            conditional,
            &[E::Delivered(receipt(ProofLevel::P3))]
        )
        .contains("without a send")
    );
    assert!(
        said(
            auto(),
            conditional,
            &[sent(), E::Delivered(receipt(ProofLevel::P1))]
        )
        .contains("weak proof")
    );
    assert!(said(Gate::Deny, conditional, &[sent()]).contains("after the end"));
    let given_up = E::DeadLettered {
        cause: FailureCause::Unreachable,
    };
    assert!(
        said(auto(), conditional, &[sent(), E::OutcomeUnknown, given_up]).contains("looked up")
    );
}
