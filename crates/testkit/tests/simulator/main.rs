//! The simulator over a fixed number of seeds: nothing is violated, everything is reached, a seed repeats byte for
//! byte, and planted bugs are found.
//!
//! `CHAPERONE_SIMULATED_SEEDS` says how many seeds (default 240); `chaperone simulate` runs more of them.

#![expect(clippy::panic, clippy::disallowed_methods, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use chaperone_engine::{Engine, PreparedBundle};
use chaperone_policy::Bundle;
use chaperone_testkit::simulation::{
    Bug, Coverage, Options, Outcome, Rules, StartEngine, played, replacing, simulate,
};

static START: LazyLock<StartEngine> = LazyLock::new(|| {
    let files = played(&chaperone_policy::embedded::files());
    let (first, second) = (prepared(&files), prepared(&replacing(&files)));
    Arc::new(move |rules, config, ports| {
        let bundle = match rules {
            Rules::First => first.clone(),
            Rules::Second => second.clone(),
        };
        Box::pin(Engine::start_prepared(config, bundle, ports))
    })
});

fn prepared(files: &BTreeMap<String, String>) -> PreparedBundle {
    let bundle = Bundle::load(files);
    let bundle = Arc::new(bundle.unwrap_or_else(|problems| panic!("{problems:?}")));
    PreparedBundle::of(bundle).unwrap_or_else(|failed| panic!("{failed}"))
}

/// What must have gone wrong somewhere in so many seeds.
const FAULTS: &[&str] = &[
    "anchor-fails",
    "asked-again",
    "changed-then-signed",
    "clock-back",
    "clock-forward",
    "commit-answer-lost",
    "commit-lost",
    "consent-withdrawn",
    "crash",
    "crash-in-flight",
    "critical-card",
    "decided-late",
    "decided-twice",
    "ehr-partition",
    "edited",
    "ehr-slow",
    "error-after",
    "exception-used-again",
    "exception-used-late",
    "files-later",
    "foreign-edit",
    "keeps-other-of-several",
    "list-stopped",
    "mode-switched",
    "not-signed",
    "other-digest",
    "put-in-force",
    "read-fails",
    "rules-changed",
    "signed-by-another",
    "stale-search",
    "stop",
    "stop-in-flight",
    "store-partition",
    "store-slow",
    "store-unavailable",
    "struck",
    "support-changes",
    "support-silent",
    "taken-away",
    "taken-in-hand",
    "together",
    "took-note",
    "trainee-first",
    "undo-run",
    "write-answer-lost",
    "write-late",
    "write-lost",
];

/// Moves of write-backs that must have been made somewhere in so many seeds.
const MOVES: &[&str] = &[
    "abandoned",
    "approved",
    "approved:together",
    "claim.claimed",
    "claim.handed_over",
    "claim.released",
    "claim.taken_over",
    "cohort.approved",
    "cohort.ended",
    "cohort.listed",
    "cohort.struck",
    "compensated",
    "cover.set",
    "decision_support.asked",
    "decision_support.overridden",
    "delivered:P0",
    "delivered:P2",
    "delivered:P3",
    "delivered:as-one",
    "delivery_started",
    "draft_placed:P2",
    "exception.declined",
    "exception.expired",
    "exception.granted",
    "exception.requested",
    "exception.reviewed",
    "exception.used",
    "found_not_applied:human",
    "found_not_applied:miss_after_settle",
    "human_needed:endpoint_cannot_tell",
    "outcome_unknown",
    "refused:edited",
    "refused:expiry",
    "refused:rules_changed",
    "refused_call:not-together",
    "voided:authority_changed",
    "voided:changed_before_signing",
    "voided:consent",
    "voided:deliver_by",
    "voided:not_signed",
    "voided:signer_not_permitted",
];

fn seeds() -> u64 {
    let said = std::env::var("CHAPERONE_SIMULATED_SEEDS").ok();
    said.and_then(|text| text.parse().ok()).unwrap_or(240)
}

/// A failure, to be read and to be played again.
fn say(outcome: &Outcome) -> String {
    let violations: Vec<String> = outcome
        .violations
        .iter()
        .map(|it| format!("{}: {}", it.property.as_str(), it.seen))
        .collect();
    let last = outcome.trace.len().saturating_sub(150);
    format!(
        "seed {}\n{}\n{}",
        outcome.seed,
        outcome
            .trace
            .iter()
            .skip(last)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n"),
        violations.join("\n"),
    )
}

#[test]
fn no_seed_violates_anything() {
    let mut reached = Coverage::default();
    for seed in 0..seeds() {
        let outcome = simulate(&START, Options::new(seed));
        assert!(outcome.violations.is_empty(), "{}", say(&outcome));
        reached.add(&outcome.coverage);
    }
    // Nothing is shown by a play in which nothing happens.
    for fault in FAULTS {
        assert!(reached.faults.contains_key(fault), "{fault} did not happen");
    }
    for reach in MOVES {
        assert!(
            reached.moves.contains_key(*reach),
            "{reach} was not reached: {:?}",
            reached.moves
        );
    }
    for end in ["abandoned", "delivered", "refused", "void"] {
        assert!(reached.ends.contains_key(end), "nothing ended as {end}");
    }
}

/// Seeds that once showed something. What they showed is mended, or was wrong in the play; how they run changes
/// with the engine, so that they may come to miss it.
const ONCE_VIOLATED: [(u64, &str); 16] = [
    (
        458,
        "void although it had taken effect: brought twice, and the server had kept more than was sent",
    ),
    (
        807,
        "approved after its time: the reads before it took long",
    ),
    (
        2342,
        "started after its deliver-by: the checks before it took long",
    ),
    (
        5528,
        "a node that was stopped at the end could not be asked",
    ),
    (
        1142,
        "a node that was stopped as the trouble ended could not be asked",
    ),
    (
        1431,
        "arrived long after it was believed missing, and after a wait that is documented",
    ),
    (
        1726,
        "a claim that was over by one clock only was let go after the decision",
    ),
    (
        2335,
        "a person completed what the EHR had refused as a whole",
    ),
    (3816, "the same, between two people's approvals"),
    (
        5132,
        "one change had two effects, and a person took the first away",
    ),
    (5412, "an exception was reviewed while the rest was signed"),
    (
        6607,
        "a claim that was over by one clock only was taken over after the decision",
    ),
    (
        6944,
        "never ended: an expiry was taken up by a clock that was then set back",
    ),
    (
        7183,
        "an undo run put a row of before in the place of the one that said void",
    ),
    (
        8150,
        "a grant of a list was used that another node had counted as over, after the list's end",
    ),
    (
        9991,
        "what was cancelled already was cancelled once more, and there was nothing to put back",
    ),
];

#[test]
fn what_was_violated_once_is_not_again() {
    for (seed, _) in ONCE_VIOLATED {
        let outcome = simulate(&START, Options::new(seed));
        assert!(outcome.violations.is_empty(), "{}", say(&outcome));
    }
}

#[test]
fn a_seed_repeats_byte_for_byte() {
    for seed in 0..8 {
        let (one, other) = (
            simulate(&START, Options::new(seed)),
            simulate(&START, Options::new(seed)),
        );
        assert_eq!(one.trace, other.trace, "seed {seed}");
        assert_eq!(one.trace_hash, other.trace_hash, "seed {seed}");
        assert_eq!(one.steps, other.steps, "seed {seed}");
    }
}

/// Seeds within which every planted bug must be found.
const FOUND_WITHIN: u64 = 1_000;

#[test]
fn every_planted_bug_is_found() {
    for bug in Bug::ALL.iter().copied() {
        let found = (0..FOUND_WITHIN).find_map(|seed| {
            let options = Options {
                bug: Some(bug),
                ..Options::new(seed)
            };
            let outcome = simulate(&START, options);
            outcome.violations.into_iter().next().map(|it| (seed, it))
        });
        let name = bug.as_str();
        match found {
            Some((seed, it)) => {
                eprintln!("{name}: seed {seed}, {}: {}", it.property.as_str(), it.seen)
            }
            None => panic!("{name} was not found within {FOUND_WITHIN} seeds"),
        }
    }
}
