//! Cohorts that do not load: one change to a default one, and what the refusal says.

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

use chaperone_policy::Bundle;

const MISSED: &str = "cohorts/missed-visits.toml";
const BOUNDS: &str = "rules/cohorts.toml";

/// Loads the default bundle, without its policies, after replacing text in one file; the refusal must name the file and
/// say why and what to do.
#[track_caller]
fn refused(file: &str, from: &str, to: &str, why: &str) {
    let mut files = folder::governance();
    let text = files.get(file).unwrap();
    assert!(text.contains(from), "{file} does not hold {from:?}");
    let changed = text.replacen(from, to, 1);
    files.insert(file.to_owned(), changed);
    files.retain(|path, _| !path.starts_with("policies/"));
    let problems = Bundle::load(&files).expect_err("the changed bundle loads");
    let found = problems
        .iter()
        .any(|problem| problem.file == file && problem.message.contains(why));
    assert!(found, "expected {file}: …{why}…, got {problems:#?}");
}

#[test]
fn a_cohort_outside_its_bounds_does_not_load() {
    for (from, to, why) in [
        (
            "agent = \"scheduler-agent\"",
            "agent = \"nobody\"",
            "name one of agents/*.toml",
        ),
        (
            "agent = \"scheduler-agent\"",
            "agent = \"scribe-agent\"",
            "is not registered for intent",
        ),
        (
            "intent = \"schedule-appointment\"",
            "intent = \"nothing\"",
            "name one of intents/*.toml",
        ),
        (
            "intent = \"schedule-appointment\"",
            "intent = \"find-slots\"",
            "takes no grant",
        ),
        (
            "intent = \"schedule-appointment\"",
            "intent = \"draft-note\"",
            "is not registered for intent",
        ),
        ("cap = 50", "cap = 0", "`cap` must be 1 to 200"),
        ("cap = 50", "cap = 201", "`cap` must be 1 to 200"),
        (
            "grants_per_minute = 5",
            "grants_per_minute = 0",
            "must be 1 to 30",
        ),
        (
            "grants_per_minute = 5",
            "grants_per_minute = 31",
            "must be 1 to 30",
        ),
        ("list_hours = 24", "list_hours = 73", "must be 1 to 72"),
        (
            "grant_minutes = 240",
            "grant_minutes = 1441",
            "must be 1 to 1440",
        ),
        (
            "over_cap = \"refuse\"",
            "over_cap = \"all\"",
            "unknown variant",
        ),
        (
            "minors = \"leave_out\"",
            "minors = \"include\"",
            "agents do not reach out to minors",
        ),
        (
            "approve = [\"clinician\", \"rn\", \"him\"]",
            "approve = []",
            "must name a role",
        ),
        (
            "approve = [\"clinician\", \"rn\", \"him\"]",
            "approve = [\"it_admin\"]",
            "must name a role",
        ),
        (
            "request = [\"scheduler\", \"clinician\", \"rn\"]",
            "request = [\"patient\"]",
            "must name a role",
        ),
        (
            "status = { codes = [\"noshow\"] }",
            "state = { codes = [\"noshow\"] }",
            "is no search parameter that is listed for `Appointment`",
        ),
        (
            "status = { codes = [\"noshow\"] }",
            "status = { codes = [] }",
            "give `codes`",
        ),
        (
            "status = { codes = [\"noshow\"] }",
            "status = { from_days_ago = 1 }",
            "give `codes`",
        ),
        (
            "from_days_ago = \"days\"",
            "from_days_ago = \"weeks\"",
            "add `[arguments.weeks]`",
        ),
        (
            "from_days_ago = \"days\"",
            "from_days_ago = 30",
            "is used by no search",
        ),
        (
            "resource = \"Appointment\"",
            "resource = \"Coverage\"",
            "is not among what may be searched",
        ),
        ("default = 30", "default = 300", "must lie between"),
        (
            "owner = \"patient access team\"",
            "owner = \" \"",
            "`owner` is empty",
        ),
        (
            "review_by = \"2027-11-22\"",
            "review_by = \"soon\"",
            "must be a day",
        ),
        (
            "id = \"missed-visits\"",
            "id = \"missed\"",
            "must be called after",
        ),
        ("over_cap", "over_the_cap", "unknown field"),
    ] {
        refused(MISSED, from, to, why);
    }
    for (from, to, why) in [
        (
            "cap_max = 200",
            "cap_max = 201",
            "`cap_max` must be 1 to 200",
        ),
        (
            "found_max = 1000",
            "found_max = 0",
            "`found_max` must be 1 to 1000",
        ),
        (
            "patient = \"participant.actor\"",
            "patient = \"participant actor\"",
            "is no element path",
        ),
    ] {
        refused(BOUNDS, from, to, why);
    }
}

#[test]
fn a_cohort_without_bounds_does_not_load_and_a_bundle_without_cohorts_does() {
    let mut files = folder::governance();
    files.remove(BOUNDS);
    let problems = Bundle::load(&files).expect_err("cohorts without bounds load");
    assert!(
        problems.iter().any(|it| it.message.contains(BOUNDS)),
        "{problems:#?}"
    );
    files.retain(|path, _| !path.starts_with("cohorts/"));
    assert_eq!(Bundle::load(&files).unwrap().cohorts().count(), 0);
}
