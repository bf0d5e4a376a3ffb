//! Vendors and providers of agents that do not load: one change to the default bundle, and what the refusal says.

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

/// Loads the default bundle, without its policies, after replacing text in one file; the refusal must name file and
/// place, and say why.
#[track_caller]
fn refused(file: &str, from: &str, to: &str, place: &str, why: &str) {
    let mut files = folder::governance();
    let text = files.get(file).unwrap();
    assert!(text.contains(from), "{file} does not hold {from:?}");
    let changed = text.replacen(from, to, 1);
    files.insert(file.to_owned(), changed);
    files.retain(|path, _| !path.starts_with("policies/"));
    let problems = Bundle::load(&files).expect_err("the changed bundle loads");
    let found = problems.iter().any(|problem| {
        problem.file == file && problem.place == place && problem.message.contains(why)
    });
    assert!(
        found,
        "expected {file}: {place}: …{why}…, got {problems:#?}"
    );
}

const VENDORS: &str = "rules/vendors.toml";
const SCRIBE: &str = "agents/scribe-agent.toml";

#[test]
fn a_provider_of_an_agent_whose_terms_are_missing_or_too_weak() {
    for (from, to, why) in [
        ("role = \"model\"\n", "", "missing field `role`"),
        ("role = \"model\"", "role = \"friend\"", "unknown variant"),
        ("baa = \"BAA-2026-001\"\n", "", "missing field `baa`"),
        (
            "baa = \"BAA-2026-001\"",
            "baa = \" \"",
            "needs `name` and `baa`",
        ),
        (
            "baa_expires = \"2027-12-31T00:00:00Z\"\n",
            "",
            "missing field `baa_expires`",
        ),
        ("retention_days = 0\n", "", "missing field `retention_days`"),
        ("retention_days = 0", "retention_days = -1", "invalid value"),
        (
            "retention_days = 0",
            "retention_days = 31",
            "at most 30 are allowed",
        ),
        (
            "training_banned = true\n",
            "",
            "missing field `training_banned`",
        ),
        (
            "training_banned = true",
            "training_banned = false",
            "out of training",
        ),
        ("region = \"us-east-1\"\n", "", "missing field `region`"),
        (
            "region = \"us-east-1\"",
            "region = \"eu-west-1\"",
            "none of the `regions`",
        ),
        (
            "role = \"runtime\"",
            "role = \"subcontractor\"",
            "names nobody who runs it",
        ),
        (
            "role = \"model\"",
            "role = \"subcontractor\"",
            "names nobody who runs its model",
        ),
        (
            "runtime = \"cluster of the organisation\"",
            "runtime = \"\"",
            "`runtime` is empty",
        ),
    ] {
        // What serde refuses has no place but the file.
        let place = if why.starts_with("missing")
            || why.starts_with("unknown")
            || why.starts_with("invalid")
        {
            ""
        } else {
            "scribe-agent"
        };
        refused(SCRIBE, from, to, place, why);
    }
}

#[test]
fn a_vendor_that_is_not_bound_not_assessed_or_not_clearly_addressed() {
    let audit = "example-audit-repository";
    for (from, to, place, why) in [
        ("baa = \"BAA-2026-004\"\n", "", audit, "belong together"),
        (
            "baa = \"BAA-2026-004\"\nbaa_expires = \"2027-12-31T00:00:00Z\"\n",
            "",
            audit,
            "needs `baa` and `baa_expires`",
        ),
        (
            "breach_notice_hours = 24\n",
            "",
            audit,
            "needs `breach_notice_hours`",
        ),
        (
            "region = \"us-west-2\"",
            "region = \"eu-west-1\"",
            audit,
            "none of the `regions`",
        ),
        (
            "hosts = [\"https://audit.example.org\"]",
            "hosts = [\"https://10.0.0.1\"]",
            audit,
            "is a number",
        ),
        (
            "hosts = [\"https://audit.example.org\"]",
            "hosts = [\"https://127.0.0.1:8443\"]",
            audit,
            "only the organisation's own",
        ),
        (
            "hosts = [\"https://audit.example.org\"]",
            "hosts = []",
            audit,
            "must name 1 to",
        ),
        (
            "hosts = [\"https://audit.example.org\"]",
            "hosts = [\"http://audit.example.org\"]",
            "",
            "http is for this machine only",
        ),
        (
            "hosts = [\"https://audit.example.org\"]",
            "hosts = [\"https://audit.example.org.\"]",
            "",
            "a host is",
        ),
        (
            "hosts = [\"https://audit.example.org\"]",
            "hosts = [\"https://ehr.example.org\"]",
            audit,
            "listed twice for `authorization`",
        ),
        (
            "channels = [\"audit-stream\", \"authorization\"]",
            "channels = [\"gossip\"]",
            "",
            "unknown variant",
        ),
        (
            "data_classes = [\"none\"]",
            "data_classes = [\"phi\"]",
            "example-packages",
            "only as a business associate",
        ),
        (
            "data_classes = [\"none\"]",
            "data_classes = []",
            "example-packages",
            "`data_classes` is empty",
        ),
        (
            "requests_per_minute_max = 6000\n",
            "requests_per_minute_max = 0\n",
            audit,
            "must be above 0",
        ),
        (
            "requests_per_minute_max = 6000\n",
            "requests_per_minute_max = 6000\nresolves_tokens = true\n",
            audit,
            "no channel puts tokens back",
        ),
        (
            "id = \"example-audit-repository\"",
            "id = \"example-ehr\"",
            "example-ehr",
            "is listed twice",
        ),
        (
            "regions = [\"on-premises\", \"us-east-1\", \"us-west-2\"]",
            "regions = []",
            "regions",
            "names no region",
        ),
        (
            "internal = true\n",
            "",
            "this-machine",
            "declare it `internal`",
        ),
    ] {
        refused(VENDORS, from, to, place, why);
    }
}

#[test]
fn a_bundle_that_says_nothing_of_vendors_could_reach_nobody() {
    let mut files = folder::governance();
    files.remove(VENDORS);
    files.retain(|path, _| !path.starts_with("policies/"));
    let problems = Bundle::load(&files).expect_err("it loads");
    assert!(
        problems
            .iter()
            .any(|it| it.file == VENDORS && it.message.starts_with("missing"))
    );
}
