//! Who may let a write-back pass, with what, and how often: for each case that passes, its nearest
//! neighbour that does not. Vectors W-nn are those of the write-back matrix (requirement R029).

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

use chaperone_core::change::Destination;
use chaperone_core::digest::Digest;
use chaperone_core::evidence::{ApprovalRecord, Factor, Strategy};
use chaperone_core::facts::{Fact, FactKind, FactValue, Facts};
use chaperone_core::gate::{Gate, ProofLevel};
use chaperone_core::ids::{EhrEventSource, PatientToken, ProtocolId};
use chaperone_core::principal::Role;
use chaperone_core::protocol::ProtocolCited;
use chaperone_core::verification::{Verification, VerificationRecord, VerifiedBy};
use chaperone_core::writeback::{
    Command, DELIVERY_ATTEMPTS_MAX, DeliveryStart, FailureCause, HumanNeeded, NotAppliedBasis,
    StateName, Writeback, WritebackEvent, decide,
};
use expect_test::{Expect, expect};
use sample::{
    APPROVE_WITHIN_S, DELIVER_WITHIN_S, REQUESTER, address, approval, approve_2f, at, attested,
    auto_verified, change, delivering, digest, fold, granted, person, proposal, receipt, roles,
    ruled_events, ruling, start, two_person, validation,
};

fn waiting(gate: Gate) -> Writeback {
    fold(&ruled_events(gate, Destination::Ehr, Strategy::Conditional))
}

/// Decides and folds; the answer is the new state or the refusal's code.
fn act(state: &mut Writeback, command: Command<'_>, second: i64) -> String {
    match decide(state, command, at(second)) {
        Ok(event) => {
            *state = state.clone().evolve(&event, at(second)).unwrap();
            state.name().to_string()
        }
        Err(refusal) => format!("refused: {}", refusal.code()),
    }
}

fn approve(state: &mut Writeback, record: ApprovalRecord, second: i64) -> String {
    let approval = granted(record);
    act(
        state,
        Command::Approve {
            approval: &approval,
        },
        second,
    )
}

fn check(gate: Gate, record: ApprovalRecord, expected: Expect) {
    let mut state = waiting(gate);
    expected.assert_eq(&approve(&mut state, record, 60));
}

fn without_factor(record: ApprovalRecord) -> ApprovalRecord {
    ApprovalRecord {
        factor: Factor::None,
        ..record
    }
}

fn clinician() -> ApprovalRecord {
    approval(1, "ada", Role::Clinician)
}

#[test]
fn w06_a_dose_edit_needs_a_second_factor() {
    check(approve_2f(), clinician(), expect!["ready"]);
    check(
        approve_2f(),
        without_factor(clinician()),
        expect!["refused: second-factor-required"],
    );
    // A gate that asks for no factor takes the same approval.
    let approve = Gate::Approve {
        roles: roles(&[Role::Clinician]),
    };
    check(approve, without_factor(clinician()), expect!["ready"]);
}

#[test]
fn w07_one_byte_more_is_other_content_than_was_approved() {
    let other = ApprovalRecord {
        digest: digest("order."),
        ..clinician()
    };
    check(
        approve_2f(),
        other,
        expect!["refused: approval-payload-mismatch"],
    );
}

#[test]
fn w16_an_administrator_of_systems_approves_no_clinical_content() {
    check(
        approve_2f(),
        approval(1, "ada", Role::ItAdmin),
        expect!["refused: role-not-permitted"],
    );
    for role in Role::ALL {
        let mut state = waiting(approve_2f());
        let passed = approve(&mut state, approval(1, "ada", role), 60) == "ready";
        assert_eq!(passed, role == Role::Clinician, "{role}");
    }
}

#[test]
fn w19_an_approval_is_spent_once() {
    let mut state = waiting(approve_2f());
    expect!["ready"].assert_eq(&approve(&mut state, clinician(), 60));
    expect!["refused: approval-consumed"].assert_eq(&approve(&mut state, clinician(), 61));
    let Writeback::Ready(ready) = &state else {
        panic!("{}", state.name());
    };
    assert_eq!(ready.approvals(), [clinician()]);
}

#[test]
fn whoever_is_in_training_is_cosigned_by_a_colleague_who_is_not() {
    let trainee = |by, account: &str| ApprovalRecord {
        in_training: true,
        ..approval(by, account, Role::Clinician)
    };
    let mut state = waiting(approve_2f());
    // Their own factor is asked of them like of anybody.
    expect!["refused: second-factor-required"].assert_eq(&approve(
        &mut state,
        without_factor(trainee(7, "tess")),
        60,
    ));
    expect!["awaiting_approval"].assert_eq(&approve(&mut state, trainee(7, "tess"), 60));
    // Not twice, not by their other account, not by another trainee, not by another role or without the factor.
    for (record, expected) in [
        (trainee(7, "tess"), "refused: same-person"),
        (
            approval(7, "tess-senior", Role::Clinician),
            "refused: same-person",
        ),
        (trainee(8, "tom"), "refused: in-training"),
        (
            approval(2, "bo", Role::Pharmacist),
            "refused: role-not-permitted",
        ),
        (
            without_factor(clinician()),
            "refused: second-factor-required",
        ),
    ] {
        assert_eq!(approve(&mut state, record, 61), expected);
    }
    expect!["ready"].assert_eq(&approve(&mut state, clinician(), 62));
    let Writeback::Ready(ready) = &state else {
        panic!("{}", state.name());
    };
    assert_eq!(ready.approvals(), [trainee(7, "tess"), clinician()]);
    // And they are none of two.
    check(
        two_person(),
        trainee(7, "tess"),
        expect!["refused: in-training"],
    );
}

#[test]
fn an_automatic_gate_takes_no_approval_and_a_denial_takes_nothing() {
    check(
        Gate::Auto,
        clinician(),
        expect!["refused: approval-consumed"],
    );
    check(auto_verified(), clinician(), expect!["refused: not-now"]);
    check(Gate::Deny, clinician(), expect!["refused: not-now"]);
}

#[test]
fn two_people_means_two_people_not_two_accounts() {
    let mut state = waiting(two_person());
    expect!["awaiting_approval"].assert_eq(&approve(&mut state, clinician(), 60));
    // The same person, at another account, in the other role.
    expect!["refused: same-person"].assert_eq(&approve(
        &mut state,
        approval(1, "ada-pharmacy", Role::Pharmacist),
        61,
    ));
    // Another person, in the role that was given already.
    expect!["refused: role-not-permitted"].assert_eq(&approve(
        &mut state,
        approval(2, "bo", Role::Clinician),
        62,
    ));
    // Another person, in a role that this gate does not name.
    expect!["refused: role-not-permitted"].assert_eq(&approve(
        &mut state,
        approval(2, "bo", Role::Rn),
        63,
    ));
    expect!["ready"].assert_eq(&approve(
        &mut state,
        approval(2, "bo", Role::Pharmacist),
        64,
    ));
}

#[test]
fn the_requester_is_neither_of_the_two() {
    for role in [Role::Clinician, Role::Pharmacist] {
        check(
            two_person(),
            approval(REQUESTER, "rey", role),
            expect!["refused: same-person"],
        );
    }
    check(two_person(), clinician(), expect!["awaiting_approval"]);
}

#[test]
fn who_changed_what_is_proposed_is_neither_of_the_two() {
    use chaperone_core::edit::EditLink;
    let gate = Gate::TwoPerson {
        first: Role::Clinician,
        second: Role::Pharmacist,
    };
    let mut events = ruled_events(gate.clone(), Destination::Ehr, Strategy::Conditional);
    let WritebackEvent::Proposed(proposal) = &mut events[0] else {
        panic!("a write-back begins with a proposal");
    };
    proposal.edit = Some(EditLink {
        of: sample::writeback(3),
        digest: digest("order"),
        person: person(4),
        earlier: vec![person(5)],
    });
    for (n, expected) in [
        (4, "refused: same-person"),
        (5, "refused: same-person"),
        (sample::REQUESTER, "refused: same-person"),
        (6, "awaiting_approval"),
    ] {
        let said = approve(
            &mut fold(&events),
            approval(n, "somebody", Role::Clinician),
            60,
        );
        assert_eq!(said, expected, "{n}");
    }
    // Where one person is enough, whoever changed it may be that one.
    let one = ruled_events(approve_2f(), Destination::Ehr, Strategy::Conditional);
    let mut one: Vec<WritebackEvent> = one;
    one[0] = events[0].clone();
    let mut state = fold(&one);
    let record = approval(4, "somebody", Role::Clinician);
    assert_eq!(approve(&mut state, record, 60), "ready");
}

#[test]
fn of_two_people_the_first_role_gives_the_second_factor_in_either_order() {
    check(
        two_person(),
        without_factor(clinician()),
        expect!["refused: second-factor-required"],
    );
    let mut state = waiting(two_person());
    let pharmacist = without_factor(approval(2, "bo", Role::Pharmacist));
    expect!["awaiting_approval"].assert_eq(&approve(&mut state, pharmacist, 60));
    expect!["refused: second-factor-required"].assert_eq(&approve(
        &mut state,
        without_factor(clinician()),
        61,
    ));
    expect!["ready"].assert_eq(&approve(&mut state, clinician(), 62));
}

#[test]
fn an_approval_given_too_late_does_not_count() {
    let mut state = waiting(approve_2f());
    expect!["refused: approval-expired"].assert_eq(&approve(
        &mut state,
        clinician(),
        APPROVE_WITHIN_S + 1,
    ));
    expect!["ready"].assert_eq(&approve(&mut state, clinician(), APPROVE_WITHIN_S));
}

#[test]
fn a_verification_needs_established_facts_in_time() {
    let established = |name: &str| {
        let mut facts = Facts::default();
        facts.observe(name, FactValue::Bool(true));
        facts
    };
    let verify = |facts: &Facts, second| {
        let mut state = waiting(auto_verified());
        let command = Command::Verify {
            facts,
            evidence: &[],
        };
        act(&mut state, command, second)
    };
    expect!["ready"].assert_eq(&verify(&established("slot_rechecked"), 60));
    expect!["refused: not-verified"].assert_eq(&verify(&established("something_else"), 60));
    expect!["refused: not-verified"].assert_eq(&verify(&Facts::default(), 60));
    let mut claimed = Facts::default();
    claimed.claim("slot_rechecked", FactValue::Bool(true));
    expect!["refused: not-verified"].assert_eq(&verify(&claimed, 60));
    expect!["refused: approval-expired"].assert_eq(&verify(
        &established("slot_rechecked"),
        APPROVE_WITHIN_S + 1,
    ));
}

#[test]
fn what_was_attested_of_other_content_verifies_nothing() {
    let attested = |bound_to: Option<Digest>| {
        let mut facts = Facts::default();
        facts.add(
            "slot_rechecked",
            Fact {
                kind: FactKind::Attested,
                value: FactValue::Bool(true),
                bound_to,
            },
        );
        let mut state = waiting(auto_verified());
        let command = Command::Verify {
            facts: &facts,
            evidence: &[],
        };
        act(&mut state, command, 60)
    };
    expect!["ready"].assert_eq(&attested(Some(digest("order"))));
    expect!["refused: not-verified"].assert_eq(&attested(Some(digest("order."))));
    expect!["refused: not-verified"].assert_eq(&attested(None));
}

#[test]
fn evidence_for_other_content_verifies_nothing() {
    let right = || VerificationRecord {
        fact: "slot_rechecked".to_owned(),
        verified: VerifiedBy::Source {
            source: EhrEventSource::new("portal").unwrap(),
            method: None,
            proxy: None,
        },
        patient: proposal().patient,
        digest: digest("order"),
        at: at(30),
        until: at(90),
    };
    let verify = |record: VerificationRecord, second| {
        let evidence = [Verification::establish(record)];
        let mut state = waiting(auto_verified());
        let command = Command::Verify {
            facts: &Facts::default(),
            evidence: &evidence,
        };
        act(&mut state, command, second)
    };
    expect!["ready"].assert_eq(&verify(right(), 60));
    expect!["ready"].assert_eq(&verify(right(), 30));
    expect!["ready"].assert_eq(&verify(right(), 89));
    for (what, wrong, second) in [
        ("too late", right(), 90),
        ("before it was given", right(), 29),
        (
            "other content",
            VerificationRecord {
                digest: digest("order."),
                ..right()
            },
            60,
        ),
        (
            "another patient",
            VerificationRecord {
                patient: Some(PatientToken::from_random([4; 16])),
                ..right()
            },
            60,
        ),
        (
            "no patient",
            VerificationRecord {
                patient: None,
                ..right()
            },
            60,
        ),
        (
            "another fact",
            VerificationRecord {
                fact: "patient_confirmed".to_owned(),
                ..right()
            },
            60,
        ),
    ] {
        assert_eq!(verify(wrong, second), "refused: not-verified", "{what}");
    }
    // What is recorded is what counted, and nothing beside it.
    let beside = VerificationRecord {
        fact: "patient_confirmed".to_owned(),
        ..right()
    };
    let evidence = [right(), beside].map(Verification::establish);
    let command = Command::Verify {
        facts: &Facts::default(),
        evidence: &evidence,
    };
    let event = decide(&waiting(auto_verified()), command, at(60)).unwrap();
    assert!(matches!(event, WritebackEvent::Verified { evidence, .. } if evidence == [right()]));
}

fn ready(strategy: Strategy) -> Writeback {
    let mut state = fold(&ruled_events(approve_2f(), Destination::Ehr, strategy));
    assert_eq!(approve(&mut state, clinician(), 60), "ready");
    state
}

fn send(state: &mut Writeback, attempt: u32, second: i64) -> String {
    act(
        state,
        Command::StartDelivery {
            start: start(attempt),
        },
        second,
    )
}

#[test]
fn what_is_sent_is_what_was_approved_within_its_time() {
    let mut state = ready(Strategy::Conditional);
    let other = DeliveryStart {
        digest: digest("order."),
        ..start(1)
    };
    expect!["refused: order-digest-mismatch"].assert_eq(&act(
        &mut state,
        Command::StartDelivery { start: other },
        61,
    ));
    expect!["refused: outside-delivery-window"].assert_eq(&send(
        &mut state,
        1,
        60 + DELIVER_WITHIN_S + 1,
    ));
    expect!["delivering"].assert_eq(&send(&mut state, 1, 60 + DELIVER_WITHIN_S));
}

#[test]
fn attempts_follow_each_other_and_end() {
    let mut state = ready(Strategy::Conditional);
    expect!["refused: attempt-out-of-order"].assert_eq(&send(&mut state, 2, 61));
    for attempt in 1..=DELIVERY_ATTEMPTS_MAX {
        let second = 60 + 10 * i64::from(attempt);
        assert_eq!(send(&mut state, attempt, second), "delivering");
        let after = act(
            &mut state,
            Command::FailDelivery {
                cause: FailureCause::Unreachable,
                retry_at: at(second + 10),
            },
            second + 1,
        );
        if attempt < DELIVERY_ATTEMPTS_MAX {
            assert_eq!(after, "ready");
            expect!["refused: attempt-out-of-order"].assert_eq(&send(
                &mut state,
                attempt,
                second + 10,
            ));
            expect!["refused: outside-delivery-window"].assert_eq(&send(
                &mut state,
                attempt + 1,
                second + 9,
            ));
        } else {
            assert_eq!(after, "dead_letter");
        }
    }
}

#[test]
fn an_order_is_given_up_only_after_the_last_attempt() {
    let give_up = || Command::DeadLetter {
        cause: FailureCause::Unreachable,
    };
    let mut state = ready(Strategy::Conditional);
    for attempt in 1..=DELIVERY_ATTEMPTS_MAX {
        let second = 60 + 10 * i64::from(attempt);
        expect!["refused: not-now"].assert_eq(&act(&mut state, give_up(), second));
        assert_eq!(send(&mut state, attempt, second), "delivering");
        assert_eq!(act(&mut state, Command::LoseOutcome, second), "unknown");
        expect!["refused: not-now"].assert_eq(&act(&mut state, give_up(), second));
        let missing = Command::FindNotApplied {
            basis: NotAppliedBasis::MissAfterSettle,
            retry_at: at(second),
        };
        assert_eq!(act(&mut state, missing, second), "ready");
    }
    expect!["refused: attempt-out-of-order"].assert_eq(&send(
        &mut state,
        DELIVERY_ATTEMPTS_MAX + 1,
        150,
    ));
    expect!["dead_letter"].assert_eq(&act(&mut state, give_up(), 150));
    let requeue = Command::Requeue {
        person: person(5),
        reason: sample::address("reason"),
    };
    expect!["ready"].assert_eq(&act(&mut state, requeue, 160));
    // An operator's decision starts the count anew.
    assert_eq!(send(&mut state, 1, 161), "delivering");
}

#[test]
fn a_send_of_unknown_outcome_is_never_resent_before_it_is_reconciled() {
    let mut state = ready(Strategy::Conditional);
    assert_eq!(send(&mut state, 1, 61), "delivering");
    // Neither while it is under way …
    expect!["refused: not-now"].assert_eq(&send(&mut state, 2, 62));
    expect!["unknown"].assert_eq(&act(&mut state, Command::LoseOutcome, 63));
    // … nor while its outcome is unknown, under any attempt number and at any time.
    for attempt in 1..=DELIVERY_ATTEMPTS_MAX {
        expect!["refused: not-now"].assert_eq(&send(&mut state, attempt, 64));
    }
    let retry_at = at(70);
    expect!["refused: not-now"].assert_eq(&act(
        &mut state,
        Command::FailDelivery {
            cause: FailureCause::Unreachable,
            retry_at,
        },
        65,
    ));
    expect!["ready"].assert_eq(&act(
        &mut state,
        Command::FindNotApplied {
            basis: NotAppliedBasis::MissAfterSettle,
            retry_at,
        },
        66,
    ));
    expect!["delivering"].assert_eq(&send(&mut state, 2, 70));
}

#[test]
fn where_the_endpoint_cannot_tell_a_human_decides() {
    let missing = |basis| Command::FindNotApplied {
        basis,
        retry_at: at(90),
    };
    let unknown = |strategy| {
        let mut state = ready(strategy);
        assert_eq!(send(&mut state, 1, 61), "delivering");
        assert_eq!(act(&mut state, Command::LoseOutcome, 62), "unknown");
        state
    };
    let by_human = NotAppliedBasis::Human { person: person(5) };

    // Without business identifiers a miss says nothing.
    let mut plain = unknown(Strategy::PlainPost);
    expect!["refused: not-now"].assert_eq(&act(
        &mut plain,
        missing(NotAppliedBasis::MissAfterSettle),
        80,
    ));
    expect!["ready"].assert_eq(&act(&mut plain, missing(by_human.clone()), 81));

    // Once a human was asked, only a human answers.
    let mut asked = unknown(Strategy::Conditional);
    let ask = Command::AskHuman {
        reason: HumanNeeded::ContentDiffers,
    };
    expect!["unknown"].assert_eq(&act(&mut asked, ask, 70));
    expect!["refused: not-now"].assert_eq(&act(
        &mut asked,
        missing(NotAppliedBasis::MissAfterSettle),
        80,
    ));
    expect!["ready"].assert_eq(&act(&mut asked, missing(by_human), 81));
}

#[test]
fn weak_proof_is_no_delivery_unless_a_human_attests_where_a_human_must() {
    let confirm = |strategy, receipt| {
        let mut state = ready(strategy);
        assert_eq!(send(&mut state, 1, 61), "delivering");
        let delivering = delivering(digest("order"), 1);
        act(
            &mut state,
            Command::ConfirmDelivery {
                delivering: &delivering,
                receipt,
            },
            62,
        )
    };
    expect!["delivered"].assert_eq(&confirm(Strategy::Conditional, receipt(ProofLevel::P2)));
    expect!["refused: proof-too-weak"]
        .assert_eq(&confirm(Strategy::Conditional, receipt(ProofLevel::P1)));
    expect!["delivered"].assert_eq(&confirm(Strategy::HumanEntry, attested(5)));
    // An attestation does not stand in for the machine's own proof, nor does nobody's.
    expect!["refused: proof-too-weak"].assert_eq(&confirm(Strategy::Conditional, attested(5)));
    expect!["refused: proof-too-weak"]
        .assert_eq(&confirm(Strategy::HumanEntry, receipt(ProofLevel::P0)));
}

#[test]
fn a_ruling_about_something_lighter_does_not_carry_something_heavier() {
    use chaperone_core::change::ChangeClass;
    use chaperone_core::evidence::{Conformant, Ruling};

    let conformant = Conformant::attest(validation());
    let rule = |destination, class, ruled_destination, gate| {
        let events = ruled_events(Gate::Auto, destination, Strategy::Conditional);
        let mut state = fold(&events[..1]);
        let validate = Command::Validate {
            conformant: &conformant,
            change: change("MedicationRequest", "active", destination),
            entries: Vec::new(),
        };
        assert_eq!(act(&mut state, validate, 1), "validated");
        let ruling = Ruling::issue(ruling(gate, class, ruled_destination));
        let order = sample::order(Strategy::Conditional);
        act(
            &mut state,
            Command::Rule {
                ruling: &ruling,
                order,
            },
            2,
        )
    };
    let (staged, ehr) = (Destination::Staged, Destination::Ehr);
    expect!["staged"].assert_eq(&rule(staged, ChangeClass::M0, staged, Gate::Auto));
    expect!["awaiting_approval"].assert_eq(&rule(ehr, ChangeClass::M4, ehr, approve_2f()));
    expect!["refused: below-floor"].assert_eq(&rule(ehr, ChangeClass::M4, ehr, Gate::Auto));
    expect!["refused: class-differs"].assert_eq(&rule(ehr, ChangeClass::M0, ehr, Gate::Auto));
    // A draft is light because it stays inside; the same ruling may not send it out.
    expect!["refused: class-differs"].assert_eq(&rule(staged, ChangeClass::M0, ehr, Gate::Auto));
}

#[test]
fn quarantine_holds_and_release_returns_to_where_it_was() {
    use chaperone_core::writeback::QuarantineReason;

    let mut state = ready(Strategy::Conditional);
    let before = state.clone();
    let quarantine = || Command::Quarantine {
        reason: QuarantineReason::BadRun,
    };
    expect!["quarantined"].assert_eq(&act(&mut state, quarantine(), 61));
    expect!["refused: not-now"].assert_eq(&send(&mut state, 1, 62));
    let release = || Command::Release {
        person: person(5),
        reason: address("release"),
    };
    // Not once its time in the queue has run out meanwhile.
    let mut late = state.clone();
    let over = 61 + DELIVER_WITHIN_S + 1;
    expect!["refused: outside-delivery-window"].assert_eq(&act(&mut late, release(), over));
    expect!["ready"].assert_eq(&act(&mut state, release(), 63));
    assert_eq!(state, before);
    assert_eq!(send(&mut state, 1, 64), "delivering");
    expect!["refused: not-now"].assert_eq(&act(&mut state, quarantine(), 65));
    assert_eq!(state.name(), StateName::Delivering);
}

#[test]
fn what_a_plausibility_rule_warns_of_is_approved_with_a_reason() {
    use chaperone_core::evidence::StageRecord;
    use chaperone_core::ids::OverrideReason;
    let gate = Gate::Approve {
        roles: roles(&[Role::Clinician]),
    };
    let with_stage = |stage: &str, warnings| {
        let mut events = ruled_events(gate.clone(), Destination::Ehr, Strategy::Conditional);
        let WritebackEvent::Validated { validation, .. } = &mut events[1] else {
            unreachable!("the second event is the validation");
        };
        validation.stages.push(StageRecord {
            stage: stage.to_owned(),
            ran: true,
            errors: 0,
            warnings,
        });
        fold(&events)
    };
    let saying_why = ApprovalRecord {
        override_reason: Some(OverrideReason::new("monitored").unwrap()),
        ..clinician()
    };
    let cases = [
        (
            "plausibility",
            1,
            clinician(),
            "refused: override-reason-required",
        ),
        ("plausibility", 1, saying_why.clone(), "ready"),
        ("plausibility", 0, clinician(), "ready"),
        // Other stages warn of form, and nobody is asked to excuse that.
        ("business-rules", 1, clinician(), "ready"),
        ("business-rules", 1, saying_why, "ready"),
    ];
    for (stage, warnings, record, expected) in cases {
        let mut state = with_stage(stage, warnings);
        assert_eq!(
            approve(&mut state, record, 60),
            expected,
            "{stage} {warnings}"
        );
    }
}

#[test]
fn under_a_protocol_approves_whom_it_names_while_it_lasts() {
    let events = |until: i64| {
        let mut events = ruled_events(approve_2f(), Destination::Ehr, Strategy::Conditional);
        let Some(WritebackEvent::Ruled { ruling, .. }) = events.last_mut() else {
            panic!("the last one rules");
        };
        ruling.protocol = Some(ProtocolCited {
            id: ProtocolId::new("statin-renewal").unwrap(),
            version: 3,
            approvers: [clinician().account].into(),
            until: at(until),
        });
        events
    };
    let by = |record: ApprovalRecord, until: i64| {
        let mut state = fold(&events(until));
        approve(&mut state, record, 60)
    };
    expect!["ready"].assert_eq(&by(clinician(), 61));
    // It ended this second; before that, the order would have been the same.
    expect!["refused: protocol-ended"].assert_eq(&by(clinician(), 60));
    // Of the right role, with the factor, and not named.
    let other = approval(1, "ada-2", Role::Clinician);
    expect!["refused: not-named-by-protocol"].assert_eq(&by(other, 61));
    // Whom it names still needs what the gate demands.
    expect!["refused: second-factor-required"].assert_eq(&by(without_factor(clinician()), 61));
    let as_nurse = approval(1, "ada", Role::Rn);
    expect!["refused: role-not-permitted"].assert_eq(&by(as_nurse, 61));
}
