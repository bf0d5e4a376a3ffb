//! What the checks find at servers of each kind, declared as what they are and as more than they are.

use chaperone_connect::ehr::conformance::{DRAFT_SYSTEM, RoundTrip};
use chaperone_connect::ehr::{EhrConfig, FhirEndpoint, ProfileSource};
use chaperone_core::conformance::{
    CheckOutcome, Conformance, ConformanceNeeds, ConformanceVerdict, ReadNeed, WriteNeed,
};
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::ToolName;
use chaperone_core::ports::{Ehr, ServerKind};
use chaperone_core::resource::Interaction;
use chaperone_sandbox::ServerProfile;

use crate::support::{attempt_where, config, create, endpoint_of, kind, sandbox, task};

fn needs() -> ConformanceNeeds {
    let write = |name: &str, interaction| WriteNeed {
        resource: kind(name),
        interaction,
        tools: vec![ToolName::new("a_tool").unwrap()],
    };
    ConformanceNeeds {
        reads: vec![ReadNeed {
            tool: ToolName::new("list_tasks").unwrap(),
            resource: kind("Task"),
            names: vec!["patient".to_owned(), "_count".to_owned()],
            trial: vec![
                ("patient".to_owned(), "Patient/{patient}".to_owned()),
                ("_count".to_owned(), "1".to_owned()),
            ],
        }],
        writes: vec![
            write("Observation", Interaction::Create),
            write("QuestionnaireResponse", Interaction::Create),
            write("Task", Interaction::Create),
            write("Task", Interaction::Update),
        ],
    }
}

fn declared(base_url: &str, kind: ServerKind, atomic: bool) -> FhirEndpoint {
    endpoint_of(EhrConfig {
        profile: ProfileSource::Kind {
            kind,
            types: Vec::new(),
            transactions_are_atomic: atomic,
            updates_as_patches: false,
        },
        ..config(base_url, kind)
    })
}

fn outcomes(found: &Conformance, check: &str) -> Vec<CheckOutcome> {
    found
        .checks
        .iter()
        .filter(|one| one.check == check)
        .map(|one| one.outcome)
        .collect()
}

#[tokio::test]
async fn a_full_server_is_shown_to_be_one_and_no_draft_is_left_to_be_taken_for_content() {
    let server = sandbox(ServerProfile::Full).await;
    let ehr = declared(&server.base_url, ServerKind::Full, true);
    let found = ehr
        .conformance(&needs(), &RoundTrip::WithOwnPatient, "run-1")
        .await
        .unwrap();
    assert_eq!(found.verdict(), ConformanceVerdict::Pass, "{found:#?}");
    for check in [
        "if-none-exist",
        "if-match",
        "transaction",
        "provenance",
        "search",
    ] {
        let ended = outcomes(&found, check);
        assert!(!ended.is_empty(), "{check}: {found:#?}");
        assert!(ended.iter().all(|o| *o == CheckOutcome::Passed), "{check}");
    }
    assert_eq!(found.profile.support.len(), 4);
    for (key, entry) in &found.profile.support {
        assert_eq!(entry.strategy, Strategy::Conditional, "{key}");
        assert!(entry.atomic && entry.provenance, "{key}");
    }
    for name in ["Observation", "QuestionnaireResponse", "Task"] {
        let left = server.handle.resources(name);
        assert!(!left.is_empty(), "{name}");
        for draft in left {
            assert!(draft.to_string().contains(DRAFT_SYSTEM));
            assert_eq!(draft["status"], "entered-in-error", "{draft}");
        }
    }
    assert_eq!(server.handle.resources("Patient")[0]["active"], false);
    // A second run finds the patient again and leaves the first run's drafts alone.
    let again = ehr
        .conformance(&needs(), &RoundTrip::WithOwnPatient, "run-2")
        .await
        .unwrap();
    assert_eq!(again.verdict(), ConformanceVerdict::Pass);
    assert_eq!(server.handle.resources("Patient").len(), 1);
    // Of each run the draft itself, and what went with a change of it in one transaction.
    assert_eq!(server.handle.resources("Observation").len(), 4);
}

#[tokio::test]
async fn a_plain_server_that_is_declared_full_is_used_as_a_plain_one() {
    let server = sandbox(ServerProfile::Plain).await;
    let ehr = declared(&server.base_url, ServerKind::Full, false);
    let found = ehr
        .conformance(&needs(), &RoundTrip::WithOwnPatient, "run-1")
        .await
        .unwrap();
    assert!(
        outcomes(&found, "if-none-exist")
            .iter()
            .all(|outcome| *outcome == CheckOutcome::Reduced),
        "{found:#?}"
    );
    assert_eq!(outcomes(&found, "if-match"), [CheckOutcome::Reduced]);
    assert_eq!(outcomes(&found, "provenance"), [CheckOutcome::Reduced]);
    assert_eq!(found.verdict(), ConformanceVerdict::Pass, "{found:#?}");
    for (key, entry) in &found.profile.support {
        assert_eq!(entry.strategy, Strategy::PlainPost, "{key}");
        assert!(!entry.atomic && !entry.provenance, "{key}");
    }
}

#[tokio::test]
async fn transactions_that_are_declared_atomic_and_cannot_be_shown_to_be_are_not_used() {
    // One that keeps to no condition, and one that takes no update by which it could be tried.
    for server in [ServerProfile::Plain, ServerProfile::Patching] {
        let server = sandbox(server).await;
        let ehr = declared(&server.base_url, ServerKind::Full, true);
        let mut needs = needs();
        needs
            .writes
            .retain(|need| need.interaction == Interaction::Create);
        let found = ehr
            .conformance(&needs, &RoundTrip::WithOwnPatient, "run-1")
            .await
            .unwrap();
        assert_eq!(found.verdict(), ConformanceVerdict::Pass, "{found:#?}");
        assert!(found.profile.support.values().all(|entry| !entry.atomic));
        assert!(!outcomes(&found, "transaction").contains(&CheckOutcome::Passed));

        // A write goes by itself, then its Provenance where that is taken.
        server.handle.clear_requests();
        let shown = found.profile.of(&kind("Task"), Interaction::Create);
        let mut order = create(&ehr, 1, shown.strategy, &task(1, "call the patient"));
        order.provenance = order.provenance.filter(|_| shown.provenance);
        let attempt = attempt_where(&order, 1, shown.atomic);
        let receipt = ehr.write(&attempt).await.unwrap();
        assert_eq!(receipt.provenance_written, shown.provenance);
        let sent = server.handle.requests().into_iter();
        let sent = sent.filter(|it| it.method == "POST").map(|it| it.path);
        let expected = match shown.provenance {
            true => vec!["/Task", "/Provenance"],
            false => vec!["/Task"],
        };
        assert_eq!(sent.collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn a_server_that_refuses_what_is_declared_of_it_fails() {
    let server = sandbox(ServerProfile::ReadOnly).await;
    let ehr = declared(&server.base_url, ServerKind::Plain, false);
    let found = ehr
        .conformance(&needs(), &RoundTrip::WithOwnPatient, "run-1")
        .await
        .unwrap();
    assert_eq!(found.verdict(), ConformanceVerdict::Fail, "{found:#?}");
    // Declared as what it is, there is nothing to show: people enter everything.
    let ehr = declared(&server.base_url, ServerKind::ReadOnly, false);
    let found = ehr
        .conformance(&needs(), &RoundTrip::WithOwnPatient, "run-2")
        .await
        .unwrap();
    assert_eq!(found.verdict(), ConformanceVerdict::Pass, "{found:#?}");
    assert!(found.profile.support.is_empty());
}

#[tokio::test]
async fn without_a_round_trip_nothing_is_written_and_nothing_is_shown() {
    let server = sandbox(ServerProfile::Full).await;
    let ehr = declared(&server.base_url, ServerKind::Full, true);
    let found = ehr
        .conformance(&needs(), &RoundTrip::Off, "run-1")
        .await
        .unwrap();
    assert_eq!(found.verdict(), ConformanceVerdict::Incomplete);
    assert!(server.handle.changes_by_request().is_empty());
    // A patient who is not there is no test patient.
    let named = RoundTrip::WithPatient("nobody".to_owned());
    let found = ehr.conformance(&needs(), &named, "run-2").await.unwrap();
    assert_eq!(found.verdict(), ConformanceVerdict::Fail);
    assert!(server.handle.changes_by_request().is_empty());
}
