//! The whole of the write-back state machine, frozen: every state against every event, and every
//! state against every command. A cell that changes is a change of the promise: read the diff.
//!
//! Update with `UPDATE_EXPECT=1 cargo test -p chaperone-core --test writeback_table`.

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

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chaperone_core::canary::{CanaryEnd, CanarySeed};
use chaperone_core::change::{ChangeClass, Destination};
use chaperone_core::evidence::{Approval, ApprovalRecord, Conformant, Factor, Ruling, Strategy};
use chaperone_core::facts::{FactValue, Facts};
use chaperone_core::gate::{Gate, ProofLevel};
use chaperone_core::principal::Role;
use chaperone_core::writeback::{
    CANARY_CLASS_MAX, Command, FailureCause, HumanNeeded, NotAppliedBasis, QuarantineReason,
    RefusedBy, StateName, VoidReason, Writeback, WritebackEvent, decide,
};
use expect_test::expect_file;
use sample::{
    address, approval, approve_2f, at, attested, canary_seed, change, delivering, digest, events,
    granted, order, person, receipt, ruling, signature, start, states, two_person, validation,
    what, writeback,
};

/// A grid with one row per thing tried and one column per state; cells are letters, explained below
/// the grid, and `.` stands for what cannot happen.
struct Grid {
    text: String,
    letters: BTreeMap<String, char>,
}

impl Grid {
    fn new(states: &[(&str, Writeback)]) -> Self {
        let mut text = String::new();
        for (n, (name, _)) in states.iter().enumerate() {
            writeln!(text, "{:2} {name}", n + 1).unwrap();
        }
        write!(text, "\n{:27}", "").unwrap();
        for n in 1..=states.len() {
            write!(text, "{n:>3}").unwrap();
        }
        text.push('\n');
        Self {
            text,
            letters: BTreeMap::new(),
        }
    }

    fn row(&mut self, name: &str, cells: impl Iterator<Item = Option<String>>) {
        write!(self.text, "{name:27}").unwrap();
        for cell in cells {
            let letter = match cell {
                None => '.',
                Some(meaning) => {
                    let next = b'a' + u8::try_from(self.letters.len()).unwrap();
                    // After `z`, capitals.
                    let next = if next > b'z' {
                        next - b'z' - 1 + b'A'
                    } else {
                        next
                    };
                    *self.letters.entry(meaning).or_insert(char::from(next))
                }
            };
            write!(self.text, "{letter:>3}").unwrap();
        }
        self.text.push('\n');
    }

    fn finish(mut self) -> String {
        let mut legend: Vec<_> = self.letters.into_iter().map(|(m, l)| (l, m)).collect();
        legend.sort_by_key(|(letter, _)| (letter.is_ascii_uppercase(), *letter));
        self.text.push('\n');
        for (letter, meaning) in legend {
            writeln!(self.text, "{letter} {meaning}").unwrap();
        }
        self.text
    }
}

#[test]
fn every_state_against_every_event() {
    let states = states();
    let mut grid = Grid::new(&states);
    for (name, event) in events() {
        grid.row(
            &name,
            states.iter().map(|(_, state)| {
                let next = state.clone().evolve(&event, at(60)).ok()?;
                Some(format!("becomes {}", next.name()))
            }),
        );
    }
    expect_file!["snapshots/states_by_events.txt"].assert_eq(&grid.finish());
}

#[test]
fn a_history_starts_with_a_proposal_or_a_canary_and_with_nothing_else() {
    for (name, event) in events() {
        assert_eq!(
            Writeback::begin(&event).is_ok(),
            matches!(name.as_str(), "proposed" | "canary_seeded"),
            "{name}"
        );
    }
}

/// Makes a command anew for each state it is tried on.
type Make = Box<dyn Fn() -> Command<'static>>;

#[test]
fn every_state_against_every_command() {
    let conformant = Conformant::attest(validation());
    let class_m4 = |gate| Ruling::issue(ruling(gate, ChangeClass::M4, Destination::Ehr));
    let (ruling_right, ruling_weak) = (class_m4(approve_2f()), class_m4(Gate::Auto));
    let ruling_other_class = Ruling::issue(ruling(approve_2f(), ChangeClass::M1, Destination::Ehr));
    let mut established = Facts::default();
    established.observe("slot_rechecked", FactValue::Bool(true));
    let mut claimed = Facts::default();
    claimed.claim("slot_rechecked", FactValue::Bool(true));
    let clinician = granted(approval(3, "cy", Role::Clinician));
    let pharmacist = granted(approval(2, "bo", Role::Pharmacist));
    let (attempt, other_attempt) = (
        delivering(digest("order"), 1),
        delivering(digest("other"), 1),
    );
    let activate = || change("MedicationRequest", "active", Destination::Ehr);
    let retry_at = at(600);

    let commands: Vec<(&str, Make)> = {
        // The evidence outlives the table.
        let leak = |ruling: Ruling| -> &'static Ruling { Box::leak(Box::new(ruling)) };
        let conformant: &'static Conformant = Box::leak(Box::new(conformant));
        let (right, weak) = (leak(ruling_right), leak(ruling_weak));
        let other_class = leak(ruling_other_class);
        let established: &'static Facts = Box::leak(Box::new(established));
        let claimed: &'static Facts = Box::leak(Box::new(claimed));
        let clinician = &*Box::leak(Box::new(clinician));
        let pharmacist = &*Box::leak(Box::new(pharmacist));
        let bare = &*Box::leak(Box::new(granted(
            chaperone_core::evidence::ApprovalRecord {
                factor: Factor::None,
                ..approval(3, "cy", Role::Clinician)
            },
        )));
        let signed = |record| -> &'static Approval { Box::leak(Box::new(granted(record))) };
        let signs = signed(signature(3, "cy", Role::Clinician));
        let may_not = signed(signature(2, "bo", Role::Pharmacist));
        let too_late = signed(ApprovalRecord {
            factor: Factor::EhrSignature { at: at(90_000) },
            ..signature(3, "cy", Role::Clinician)
        });
        let other_order = signed(ApprovalRecord {
            digest: digest("other"),
            ..signature(3, "cy", Role::Clinician)
        });
        let of_two = leak(class_m4(two_person()));
        let attempt = &*Box::leak(Box::new(attempt));
        let other_attempt = &*Box::leak(Box::new(other_attempt));
        vec![
            (
                "validate",
                Box::new(move || Command::Validate {
                    conformant,
                    change: activate(),
                    entries: Vec::new(),
                }),
            ),
            (
                "validate unlisted",
                Box::new(move || Command::Validate {
                    conformant,
                    change: change("Basic", "active", Destination::Ehr),
                    entries: Vec::new(),
                }),
            ),
            (
                "rule",
                Box::new(move || Command::Rule {
                    ruling: right,
                    order: order(Strategy::Conditional),
                }),
            ),
            (
                "rule below floor",
                Box::new(move || Command::Rule {
                    ruling: weak,
                    order: order(Strategy::Conditional),
                }),
            ),
            (
                "rule other class",
                Box::new(move || Command::Rule {
                    ruling: other_class,
                    order: order(Strategy::Conditional),
                }),
            ),
            (
                "verify",
                Box::new(move || Command::Verify {
                    facts: established,
                    evidence: &[],
                }),
            ),
            (
                "verify claimed",
                Box::new(move || Command::Verify {
                    facts: claimed,
                    evidence: &[],
                }),
            ),
            (
                "approve clinician",
                Box::new(move || Command::Approve {
                    approval: clinician,
                }),
            ),
            (
                "approve pharmacist",
                Box::new(move || Command::Approve {
                    approval: pharmacist,
                }),
            ),
            (
                "approve without 2f",
                Box::new(move || Command::Approve { approval: bare }),
            ),
            (
                "sign clinician",
                Box::new(move || Command::Approve { approval: signs }),
            ),
            (
                "sign pharmacist",
                Box::new(move || Command::Approve { approval: may_not }),
            ),
            (
                "sign tomorrow",
                Box::new(move || Command::Approve { approval: too_late }),
            ),
            (
                "sign other digest",
                Box::new(move || Command::Approve {
                    approval: other_order,
                }),
            ),
            (
                "rule staged in EHR",
                Box::new(move || Command::Rule {
                    ruling: right,
                    order: order(Strategy::EhrStaged),
                }),
            ),
            (
                "rule two staged in EHR",
                Box::new(move || Command::Rule {
                    ruling: of_two,
                    order: order(Strategy::EhrStaged),
                }),
            ),
            (
                "place draft",
                Box::new(|| Command::PlaceDraft {
                    receipt: receipt(ProofLevel::P2),
                }),
            ),
            (
                "place draft, attested",
                Box::new(|| Command::PlaceDraft {
                    receipt: attested(5),
                }),
            ),
            (
                "confirm signed",
                Box::new(|| Command::ConfirmSigned {
                    receipt: receipt(ProofLevel::P2),
                }),
            ),
            (
                "confirm signed, attested",
                Box::new(|| Command::ConfirmSigned {
                    receipt: attested(5),
                }),
            ),
            (
                "refuse",
                Box::new(|| Command::Refuse {
                    refused: RefusedBy::Withdrawn,
                }),
            ),
            (
                "void",
                Box::new(|| Command::Void {
                    reason: VoidReason::Stale,
                }),
            ),
            (
                "start delivery",
                Box::new(|| Command::StartDelivery { start: start(1) }),
            ),
            (
                "confirm delivery",
                Box::new(move || Command::ConfirmDelivery {
                    delivering: attempt,
                    receipt: receipt(ProofLevel::P3),
                }),
            ),
            (
                "confirm other digest",
                Box::new(move || Command::ConfirmDelivery {
                    delivering: other_attempt,
                    receipt: receipt(ProofLevel::P3),
                }),
            ),
            (
                "confirm weak proof",
                Box::new(move || Command::ConfirmDelivery {
                    delivering: attempt,
                    receipt: receipt(ProofLevel::P1),
                }),
            ),
            (
                "fail unreachable",
                Box::new(move || Command::FailDelivery {
                    cause: FailureCause::Unreachable,
                    retry_at,
                }),
            ),
            (
                "fail rejected",
                Box::new(move || Command::FailDelivery {
                    cause: FailureCause::Rejected,
                    retry_at,
                }),
            ),
            ("lose outcome", Box::new(|| Command::LoseOutcome)),
            (
                "find applied",
                Box::new(|| Command::FindApplied {
                    receipt: receipt(ProofLevel::P2),
                }),
            ),
            (
                "find applied, attested",
                Box::new(|| Command::FindApplied {
                    receipt: attested(5),
                }),
            ),
            (
                "find missing",
                Box::new(move || Command::FindNotApplied {
                    basis: NotAppliedBasis::MissAfterSettle,
                    retry_at,
                }),
            ),
            (
                "human found missing",
                Box::new(move || Command::FindNotApplied {
                    basis: NotAppliedBasis::Human { person: person(5) },
                    retry_at,
                }),
            ),
            (
                "ask human",
                Box::new(|| Command::AskHuman {
                    reason: HumanNeeded::ReadBackFails,
                }),
            ),
            (
                "dead letter",
                Box::new(|| Command::DeadLetter {
                    cause: FailureCause::Unreachable,
                }),
            ),
            (
                "requeue",
                Box::new(|| Command::Requeue {
                    person: person(5),
                    reason: address("reason"),
                }),
            ),
            (
                "abandon",
                Box::new(|| Command::Abandon {
                    person: person(5),
                    reason: address("reason"),
                }),
            ),
            (
                "quarantine",
                Box::new(|| Command::Quarantine {
                    reason: QuarantineReason::BadRun,
                }),
            ),
            (
                "release",
                Box::new(|| Command::Release {
                    person: person(5),
                    reason: address("release"),
                }),
            ),
            (
                "compensate",
                Box::new(|| Command::Compensate { by: writeback(3) }),
            ),
            (
                "promote",
                Box::new(|| Command::Promote { by: writeback(2) }),
            ),
            (
                "reject",
                Box::new(|| Command::Refuse {
                    refused: RefusedBy::Human {
                        person: person(3),
                        reason: address("reason"),
                    },
                }),
            ),
            (
                "end for new rules",
                Box::new(|| Command::Refuse {
                    refused: RefusedBy::RulesChanged,
                }),
            ),
            (
                "take canary back",
                Box::new(|| Command::WithdrawCanary {
                    end: CanaryEnd::Busy,
                }),
            ),
        ]
    };

    let states = states();
    let mut grid = Grid::new(&states);
    for (name, command) in &commands {
        grid.row(
            name,
            states
                .iter()
                .map(|(_, state)| match decide(state, command(), at(60)) {
                    Ok(event) => {
                        // What was decided can be folded: nothing is recorded that cannot be replayed.
                        state.clone().evolve(&event, at(60)).unwrap();
                        Some(format!("event {}", what(&event)))
                    }
                    Err(refusal) if refusal.code() == "not-now" => None,
                    Err(refusal) => Some(format!("refused {}", refusal.code())),
                }),
        );
    }
    expect_file!["snapshots/states_by_commands.txt"].assert_eq(&grid.finish());
}

#[test]
fn a_canary_ends_as_one_and_nothing_else_is_ever_recorded_of_it() {
    let canary = Writeback::begin(&WritebackEvent::CanarySeeded(Box::new(canary_seed(
        approve_2f(),
    ))))
    .unwrap();
    let mut ends = Vec::new();
    for (name, event) in events() {
        let Ok(next) = canary.clone().evolve(&event, at(60)) else {
            continue;
        };
        assert_eq!(next.name(), StateName::CanarySettled, "{name}");
        for (name, event) in events() {
            assert!(next.clone().evolve(&event, at(70)).is_err(), "{name}");
        }
        ends.push(name);
    }
    assert_eq!(ends, ["canary_missed", "canary_caught", "canary_withdrawn"]);
    // And nothing of a canary can be put behind a proposal.
    for (name, state) in states() {
        for (event_name, event) in events() {
            if event_name.starts_with("canary") && name != "canary" {
                assert!(
                    state.clone().evolve(&event, at(60)).is_err(),
                    "{name} {event_name}"
                );
            }
        }
    }
}

#[test]
fn a_canary_is_light_and_for_one_person() {
    let begins =
        |seed: CanarySeed| Writeback::begin(&WritebackEvent::CanarySeeded(Box::new(seed))).is_ok();
    let seed = || canary_seed(approve_2f());
    assert!(begins(seed()));
    assert!(!begins(canary_seed(two_person())));
    assert!(!begins(canary_seed(Gate::Auto)));
    assert!(!begins(canary_seed(Gate::Deny)));
    // For a role that has no say in it.
    let mut other_pool = seed();
    other_pool.mark.pool = Role::Rn;
    assert!(!begins(other_pool));
    // Grave, and rightly so; grave, and said to be light.
    let mut grave = seed();
    grave.ruled.change = change("MedicationRequest", "active", Destination::Ehr);
    grave.ruled.ruling.class = grave.ruled.change.class().unwrap();
    assert!(grave.ruled.ruling.class > CANARY_CLASS_MAX);
    assert!(!begins(grave.clone()));
    grave.ruled.ruling.class = seed().ruled.ruling.class;
    assert!(!begins(grave));
}
