//! Several changes in one write-back: each is ruled on, and none goes without the others.

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

use chaperone_core::change::{Change, ChangeClass, Destination};
use chaperone_core::evidence::{Conformant, Ruling, RulingRecord, Strategy};
use chaperone_core::gate::{Gate, ProofLevel};
use chaperone_core::together::{ENTRIES_MAX, EntryValidated};
use chaperone_core::writeback::{Command, Writeback, WritebackEvent, decide};
use expect_test::expect;

use sample::{at, change, entries, fold, receipt, receipt_of_two, ruling_of_two, together};

/// Carries a command out and tells where that leads.
fn act(state: &mut Writeback, command: Command<'_>, second: i64) -> String {
    match decide(state, command, at(second)) {
        Ok(event) => {
            *state = state.clone().evolve(&event, at(second)).unwrap();
            state.name().as_str().to_owned()
        }
        Err(refusal) => format!("refused: {}", refusal.code()),
    }
}

fn validated(first: Change, entries: Vec<EntryValidated>) -> String {
    let mut state = fold(&[WritebackEvent::Proposed(Box::new(sample::proposal()))]);
    let conformant = Conformant::attest(sample::validation());
    let command = Command::Validate {
        conformant: &conformant,
        change: first,
        entries,
    };
    act(&mut state, command, 1)
}

#[test]
fn entries_are_those_of_the_change_each_with_its_own_class() {
    let valid = |entries: Vec<EntryValidated>| validated(entries[0].change.clone(), entries);
    expect!["validated"].assert_eq(&valid(entries()));
    // One is no several, and too many are refused.
    expect!["refused: entries-differ"].assert_eq(&valid(entries()[..1].to_vec()));
    let many: Vec<EntryValidated> = entries()
        .into_iter()
        .cycle()
        .take(ENTRIES_MAX + 1)
        .collect();
    expect!["refused: entries-differ"].assert_eq(&valid(many[..=ENTRIES_MAX].to_vec()));
    expect!["validated"].assert_eq(&valid(many[..ENTRIES_MAX].to_vec()));
    // The first of them is the change that everything else is told of.
    let task = entries()[1].change.clone();
    expect!["refused: entries-differ"].assert_eq(&validated(task, entries()));
    // An entry weighs what is computed of it, whatever it says.
    let mut lighter = entries();
    lighter[0].class = ChangeClass::M0;
    expect!["refused: entries-differ"].assert_eq(&valid(lighter));
    let mut unlisted = entries();
    unlisted[1].change = change("Basic", "active", Destination::Ehr);
    expect!["refused: unlisted-resource"].assert_eq(&valid(unlisted));
    // A call for help waits for nothing, so it is never carried along; nor is a draft that stays here.
    let mut flagged = entries();
    flagged[1].change = change("Flag", "active", Destination::Ehr);
    flagged[1].class = flagged[1].change.class().unwrap();
    expect!["refused: entries-differ"].assert_eq(&valid(flagged));
    let mut staged = entries();
    staged[1].change = change("Task", "requested", Destination::Staged);
    expect!["refused: entries-differ"].assert_eq(&valid(staged));
}

fn ruled(record: RulingRecord, strategy: Strategy) -> String {
    let events = [
        WritebackEvent::Proposed(Box::new(sample::proposal())),
        together(sample::approve_2f())[0].clone(),
    ];
    let mut state = fold(&events);
    let ruling = Ruling::issue(record);
    let order = sample::order(strategy);
    act(
        &mut state,
        Command::Rule {
            ruling: &ruling,
            order,
        },
        2,
    )
}

#[test]
fn several_changes_are_ruled_on_one_by_one_and_need_what_each_of_them_needs() {
    let by = Strategy::Conditional;
    let two = || ruling_of_two(sample::approve_2f());
    expect!["awaiting_approval"].assert_eq(&ruled(two(), by));
    // One that is refused refuses all.
    let mut denied = ruling_of_two(Gate::Deny);
    denied.entries[1] = sample::ruling(Gate::Deny, ChangeClass::M0, Destination::Ehr);
    expect!["refused"].assert_eq(&ruled(denied.clone(), by));
    denied.gate = sample::approve_2f();
    expect!["refused: below-floor"].assert_eq(&ruled(denied, by));
    // All of them need no less than the one that needs most.
    let mut weaker = two();
    weaker.entries[1] = sample::ruling(sample::two_person(), ChangeClass::M0, Destination::Ehr);
    expect!["refused: below-floor"].assert_eq(&ruled(weaker, by));
    let mut other_roles = two();
    other_roles.entries[1].gate = Gate::Approve2f {
        roles: [chaperone_core::principal::Role::Biller].into(),
    };
    expect!["refused: below-floor"].assert_eq(&ruled(other_roles, by));
    let mut less_proof = two();
    less_proof.entries[1].proof_min = ProofLevel::P3;
    expect!["refused: below-floor"].assert_eq(&ruled(less_proof, by));
    // A ruling on one of them, on none, or on something else is no ruling on both.
    let mut one = two();
    one.entries.pop();
    expect!["refused: entries-differ"].assert_eq(&ruled(one, by));
    let none = sample::ruling(sample::approve_2f(), ChangeClass::M4, Destination::Ehr);
    expect!["refused: entries-differ"].assert_eq(&ruled(none, by));
    let mut swapped = two();
    swapped.entries.swap(0, 1);
    expect!["refused: entries-differ"].assert_eq(&ruled(swapped, by));
    // They go as one transaction, or not at all.
    for way in [
        Strategy::PlainPost,
        Strategy::VendorOp,
        Strategy::HumanEntry,
    ] {
        expect!["refused: entries-differ"].assert_eq(&ruled(two(), way));
    }
}

#[test]
fn a_ruling_on_several_is_none_on_a_single_change() {
    let events = sample::ruled_events(Gate::Auto, Destination::Ehr, Strategy::Conditional);
    let mut state = fold(&events[..2]);
    let ruling = Ruling::issue(ruling_of_two(sample::approve_2f()));
    let order = sample::order(Strategy::Conditional);
    let command = Command::Rule {
        ruling: &ruling,
        order,
    };
    expect!["refused: entries-differ"].assert_eq(&act(&mut state, command, 2));
}

#[test]
fn a_delivery_of_several_shows_each() {
    let mut events = vec![WritebackEvent::Proposed(Box::new(sample::proposal()))];
    events.extend(together(Gate::Auto));
    let WritebackEvent::Ruled { ruling, .. } = &mut events[2] else {
        unreachable!("the third event is the ruling");
    };
    ruling.gate = sample::approve_2f();
    events.push(WritebackEvent::Approved {
        approval: sample::approval(2, "ann", chaperone_core::principal::Role::Clinician),
    });
    events.push(WritebackEvent::DeliveryStarted(sample::start(1)));
    let state = fold(&events);
    let delivering = sample::delivering(sample::digest("order"), 1);
    let confirmed = |receipt| {
        let command = Command::ConfirmDelivery {
            delivering: &delivering,
            receipt,
        };
        act(&mut state.clone(), command, 62)
    };
    expect!["refused: proof-too-weak"].assert_eq(&confirmed(receipt(ProofLevel::P3)));
    expect!["delivered"].assert_eq(&confirmed(receipt_of_two(ProofLevel::P3)));
}
