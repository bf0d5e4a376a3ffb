//! One fault of the EHR at a time, and the whole effect of it: the events of the write-back, its last
//! state, and how often it took effect. For a server that honours conditions, with Provenance in the same
//! transaction and after it, and for one that does not.
//!
//! Faults come in pairs, because "failed and lost" and "failed but applied" look the same from here.

use std::fmt::Write as _;
use std::time::Duration;

use chaperone_connect::agent_client::{AgentClient, AgentToken};
use chaperone_sandbox::{FaultKind, FaultRule, ServerProfile};
use expect_test::{Expect, expect};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::agents::{Dispatcher, SCHEDULER, agent, call, enter, free_slots};
use crate::ehr;
use crate::export::{kinds, last_export};
use crate::installation::{Installation, Settings, tail};
use crate::searched::{addresses_at, nothing_is_left};

/// How long one booking may take to come to rest, waits between attempts included.
const AT_REST_WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a connection is held before it is cut, in milliseconds.
const HOLD_MS: u64 = 20;

/// What goes wrong, and with which of the requests, for proposals of one change or of several.
fn faults(changes: usize) -> Vec<(&'static str, Vec<FaultRule>)> {
    let booking = |kind| FaultRule::once("POST", "Appointment", kind);
    // Not the patient's own appointments, which are looked at before the ruling.
    let looking = |kind| FaultRule::once("GET", "Appointment", kind).searched_by("identifier");
    let mut faults = vec![
        ("nothing", vec![]),
        (
            "timeout before commit",
            vec![booking(FaultKind::TimeoutBeforeCommit { hold_ms: HOLD_MS })],
        ),
        (
            "timeout after commit",
            vec![booking(FaultKind::TimeoutAfterCommit { hold_ms: HOLD_MS })],
        ),
        ("500", vec![booking(FaultKind::Status { code: 500 })]),
        (
            "timeout after commit, then 500 while looking for it",
            vec![
                booking(FaultKind::TimeoutAfterCommit { hold_ms: HOLD_MS }),
                looking(FaultKind::Status { code: 500 }),
            ],
        ),
        (
            "429 with Retry-After",
            vec![booking(FaultKind::TooManyRequests { retry_after_s: 1 })],
        ),
        ("412", vec![booking(FaultKind::PreconditionFailed)]),
        ("400", vec![booking(FaultKind::Status { code: 400 })]),
        ("403", vec![booking(FaultKind::Status { code: 403 })]),
        (
            "Provenance fails",
            vec![FaultRule::once(
                "POST",
                "Provenance",
                FaultKind::Status { code: 500 },
            )],
        ),
    ];
    if changes > 1 {
        let second = FaultRule::once("POST", "Task", FaultKind::Status { code: 400 });
        faults.push(("400 to the second", vec![second]));
    }
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_ehr_with_transactions() {
    check(ServerProfile::Full, true, expect![[r#"
        nothing: delivered, 1 in the EHR, P3, read back, with Provenance
          proposed validated ruled delivery_started delivered
        timeout before commit: delivered, 1 in the EHR, P3, read back, with Provenance
          proposed validated ruled delivery_started outcome_unknown found_not_applied delivery_started delivered
        timeout after commit: delivered, 1 in the EHR, P3, read back, with Provenance
          proposed validated ruled delivery_started outcome_unknown delivered
        500: delivered, 1 in the EHR, P3, read back, with Provenance
          proposed validated ruled delivery_started outcome_unknown found_not_applied delivery_started delivered
        timeout after commit, then 500 while looking for it: delivered, 1 in the EHR, P3, read back, with Provenance
          proposed validated ruled delivery_started outcome_unknown delivered
        429 with Retry-After: delivered, 1 in the EHR, rate_limited, P3, read back, with Provenance
          proposed validated ruled delivery_started not_applied delivery_started delivered
        412: delivered, 1 in the EHR, P3, read back, with Provenance
          proposed validated ruled delivery_started outcome_unknown found_not_applied delivery_started delivered
        400: dead_letter, 0 in the EHR, rejected
          proposed validated ruled delivery_started dead_lettered
        403: dead_letter, 0 in the EHR, unauthorized
          proposed validated ruled delivery_started dead_lettered
        Provenance fails: delivered, 1 in the EHR, P3, read back, with Provenance
          proposed validated ruled delivery_started outcome_unknown found_not_applied delivery_started delivered
    "#]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_ehr_without_transactions() {
    check(ServerProfile::Full, false, expect![[r#"
        nothing: delivered, 1 in the EHR, P3, read back, with Provenance
          proposed validated ruled delivery_started delivered
        timeout before commit: delivered, 1 in the EHR, P3, read back, with Provenance
          proposed validated ruled delivery_started outcome_unknown found_not_applied delivery_started delivered
        timeout after commit: delivered, 1 in the EHR, P3, read back, without Provenance
          proposed validated ruled delivery_started outcome_unknown delivered
        500: delivered, 1 in the EHR, P3, read back, with Provenance
          proposed validated ruled delivery_started outcome_unknown found_not_applied delivery_started delivered
        timeout after commit, then 500 while looking for it: delivered, 1 in the EHR, P3, read back, without Provenance
          proposed validated ruled delivery_started outcome_unknown delivered
        429 with Retry-After: delivered, 1 in the EHR, rate_limited, P3, read back, with Provenance
          proposed validated ruled delivery_started not_applied delivery_started delivered
        412: delivered, 1 in the EHR, P3, read back, with Provenance
          proposed validated ruled delivery_started outcome_unknown found_not_applied delivery_started delivered
        400: dead_letter, 0 in the EHR, rejected
          proposed validated ruled delivery_started dead_lettered
        403: dead_letter, 0 in the EHR, unauthorized
          proposed validated ruled delivery_started dead_lettered
        Provenance fails: delivered, 1 in the EHR, P3, read back, without Provenance
          proposed validated ruled delivery_started delivered
    "#]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_ehr() {
    check(ServerProfile::Plain, false, expect![[r#"
        nothing: delivered, 1 in the EHR, P2, read back, without Provenance
          proposed validated ruled delivery_started delivered
        timeout before commit: unknown, 0 in the EHR, endpoint_cannot_tell
          proposed validated ruled delivery_started outcome_unknown human_needed
        timeout after commit: unknown, 1 in the EHR, endpoint_cannot_tell
          proposed validated ruled delivery_started outcome_unknown human_needed
        500: unknown, 0 in the EHR, endpoint_cannot_tell
          proposed validated ruled delivery_started outcome_unknown human_needed
        timeout after commit, then 500 while looking for it: unknown, 1 in the EHR, endpoint_cannot_tell
          proposed validated ruled delivery_started outcome_unknown human_needed
        429 with Retry-After: delivered, 1 in the EHR, rate_limited, P2, read back, without Provenance
          proposed validated ruled delivery_started not_applied delivery_started delivered
        412: dead_letter, 0 in the EHR, rejected
          proposed validated ruled delivery_started dead_lettered
        400: dead_letter, 0 in the EHR, rejected
          proposed validated ruled delivery_started dead_lettered
        403: dead_letter, 0 in the EHR, unauthorized
          proposed validated ruled delivery_started dead_lettered
        Provenance fails: delivered, 1 in the EHR, P2, read back, without Provenance
          proposed validated ruled delivery_started delivered
    "#]]).await;
}

/// A booking and a task beside it, as one: both are there, or neither is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_changes_at_a_full_ehr() {
    check_some(ServerProfile::Full, true, 2, expect![[r#"
        nothing: delivered, 1 in the EHR, P3, read back, with Provenance
          proposed validated ruled delivery_started delivered
        timeout before commit: delivered, 1 in the EHR, P3, read back, with Provenance
          proposed validated ruled delivery_started outcome_unknown found_not_applied delivery_started delivered
        timeout after commit: delivered, 1 in the EHR, P3, read back, with Provenance
          proposed validated ruled delivery_started outcome_unknown delivered
        500: delivered, 1 in the EHR, P3, read back, with Provenance
          proposed validated ruled delivery_started outcome_unknown found_not_applied delivery_started delivered
        timeout after commit, then 500 while looking for it: delivered, 1 in the EHR, P3, read back, with Provenance
          proposed validated ruled delivery_started outcome_unknown delivered
        429 with Retry-After: delivered, 1 in the EHR, rate_limited, P3, read back, with Provenance
          proposed validated ruled delivery_started not_applied delivery_started delivered
        412: delivered, 1 in the EHR, P3, read back, with Provenance
          proposed validated ruled delivery_started outcome_unknown found_not_applied delivery_started delivered
        400: dead_letter, 0 in the EHR, rejected
          proposed validated ruled delivery_started dead_lettered
        403: dead_letter, 0 in the EHR, unauthorized
          proposed validated ruled delivery_started dead_lettered
        Provenance fails: delivered, 1 in the EHR, P3, read back, with Provenance
          proposed validated ruled delivery_started outcome_unknown found_not_applied delivery_started delivered
        400 to the second: dead_letter, 0 in the EHR, rejected
          proposed validated ruled delivery_started dead_lettered
    "#]]).await;
}

async fn check(profile: ServerProfile, atomic: bool, expected: Expect) {
    check_some(profile, atomic, 1, expected).await;
}

/// Proposals of one change, or of several.
async fn check_some(profile: ServerProfile, atomic: bool, changes: usize, expected: Expect) {
    let sandbox = ehr::start(profile).await;
    let mut settings = Settings::new(
        "sqlite:data/chaperone.db",
        &sandbox.base_url,
        profile.name(),
    );
    settings.transactions_are_atomic = atomic;
    settings.settle_ms = 200;
    let installation = Installation::new(&settings);
    installation.prove_conformance();
    let server = installation.start().await;
    let scheduler = agent(&installation, SCHEDULER);
    let dispatcher = Dispatcher::sign_in(&installation).await;
    let slots = free_slots(&scheduler).await;

    let cannot_tell = profile == ServerProfile::Plain;
    let mut ended = Vec::new();
    for (position, (fault, rules)) in faults(changes).into_iter().enumerate() {
        let mrn = ehr::add_patient(&sandbox, position);
        let token = enter(&scheduler, &dispatcher, &mrn).await.unwrap();
        for rule in rules {
            sandbox.handle.inject(rule);
        }
        let slot = &slots[position % slots.len()];
        let proposal = book(&scheduler, &token, slot, position, changes).await;
        let state = at_rest(&installation, &scheduler, &token, &proposal, cannot_tell).await;
        sandbox.handle.clear_faults();
        ended.push((fault, proposal, state));
    }
    let histories = last_export(&installation, server).await.histories();
    let copies = ehr::copies(&sandbox);
    let mut told = String::new();
    for (fault, proposal, state) in ended {
        let history = &histories[&proposal];
        let copies_of = |name: &str| copies.get(name).copied().unwrap_or(0);
        let copies = copies_of(&proposal);
        for at in 2..=changes {
            assert_eq!(
                copies_of(&format!("{proposal}.{at}")),
                copies,
                "{fault}: all or none"
            );
        }
        writeln!(
            told,
            "{fault}: {state}, {copies} in the EHR{}",
            shown(history)
        )
        .unwrap();
        writeln!(told, "  {}", kinds(history).join(" ")).unwrap();
    }
    expected.assert_eq(&told);
    let name = format!("faults, {}, atomic: {atomic}", profile.name());
    nothing_is_left(&name, &installation, &addresses_at(&sandbox), &ehr::ADDED);
}

async fn book(
    scheduler: &AgentClient,
    token: &AgentToken,
    slot: &str,
    number: usize,
    changes: usize,
) -> String {
    let key = format!("fault-{number}");
    let inputs = json!({ "slot": slot });
    let task = json!({ "tool": "create_task", "inputs": { "summary": "Prepare the visit.", "pool": "nursing" } });
    let (tool, arguments) = match changes {
        1 => ("book_appointment", inputs),
        _ => {
            let booking = json!({ "tool": "book_appointment", "inputs": inputs });
            ("propose_together", json!({ "changes": [booking, task] }))
        }
    };
    let answer = call(scheduler, token, tool, &arguments, Some(&key))
        .await
        .unwrap();
    assert_eq!(answer.body["gate"], "auto", "{}", answer.body);
    answer.body["proposal"].as_str().unwrap().to_owned()
}

/// The state in which a booking stays until a human comes.
async fn at_rest(
    installation: &Installation,
    scheduler: &AgentClient,
    token: &AgentToken,
    proposal: &str,
    cannot_tell: bool,
) -> String {
    let deadline = Instant::now() + AT_REST_WITHIN;
    loop {
        let arguments = json!({ "proposal": proposal });
        let answer = call(scheduler, token, "check_proposal_status", &arguments, None)
            .await
            .unwrap();
        let state = answer.body["state"].as_str().unwrap().to_owned();
        match state.as_str() {
            "delivered" | "dead_letter" | "void" => return state,
            // Where the EHR cannot tell, nothing but a human will change it.
            "unknown" if cannot_tell => return state,
            _ => {}
        }
        assert!(
            Instant::now() < deadline,
            "still {state} after {AT_REST_WITHIN:?}\n{}",
            tail(&installation.log())
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What the delivery can show, or why it waits.
fn shown(history: &[Value]) -> String {
    let mut shown = String::new();
    for event in history {
        match event["what"].as_str().unwrap() {
            "delivered" => {
                let provenance = match event["provenance_written"].as_bool().unwrap() {
                    true => "with Provenance",
                    false => "without Provenance",
                };
                let proof = event["proof"].as_str().unwrap();
                let read_back = match event.get("read_back") {
                    Some(_) => "read back",
                    None => "not read back",
                };
                let _ = write!(shown, ", {proof}, {read_back}, {provenance}");
            }
            "human_needed" => {
                let _ = write!(shown, ", {}", event["reason"].as_str().unwrap());
            }
            "dead_lettered" | "not_applied" => {
                let _ = write!(shown, ", {}", event["cause"].as_str().unwrap());
            }
            _ => {}
        }
    }
    shown
}
