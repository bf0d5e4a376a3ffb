//! What the play puts into a governance bundle before engines go by it, so that what an organisation sets up for itself
//! is there to be played: a CDS service, a list of patients, a key of an agent, and times that run out within a seed.
//! Nothing here makes a rule weaker.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The agent that lists put patients before, which signs in with a key of its own.
pub(crate) const LISTED_AGENT: &str = "scheduler-agent";
/// The cohort of the play.
pub(crate) const COHORT: &str = "simulated-recall";
/// Most patients of its lists: fewer than are found.
pub(crate) const COHORT_CAP: u64 = 3;
/// Id of the agent's key.
const KEY_ID: &str = "simulated";
const SEED: [u8; 32] = [23; 32];

/// A CDS service that is asked about every order; it is told nothing but the order.
const SERVICE: &str = "
[[services]]
id = \"simulated-check\"
name = \"Simulated check\"
prefetch = []
";

/// Whoever missed a visit, short-lived.
fn cohort() -> String {
    format!(
        "id = \"{COHORT}\"
title = \"Simulated recall\"
purpose = \"Offer another time to patients who missed a visit.\"
source = \"the simulator\"
owner = \"the simulator\"
reviewed = \"2026-11-23\"
review_by = \"2027-11-23\"
agent = \"{LISTED_AGENT}\"
intent = \"schedule-appointment\"
cap = {COHORT_CAP}
over_cap = \"cut\"
minors = \"leave_out\"
grants_per_minute = 2
list_hours = 1
grant_minutes = 2
request = [\"scheduler\", \"clinician\"]
approve = [\"clinician\", \"rn\", \"him\"]
[search]
resource = \"Appointment\"
parameters = {{ status = {{ codes = [\"noshow\"] }} }}
"
    )
}

/// The files of a bundle as the simulator plays it.
pub fn played(files: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut files = files.clone();
    files.insert(format!("cohorts/{COHORT}.toml"), cohort());
    let mut change = |path: &str, change: &dyn Fn(&str) -> String| {
        if let Some(file) = files.get_mut(path) {
            *file = change(file);
        }
    };
    change("rules/decision-support.toml", &|text| {
        // Services that are listed already are played as they are.
        let more = match text.lines().any(|line| line.starts_with("[[services]]")) {
            true => "",
            false => SERVICE,
        };
        format!("{}{more}", with_value(text, "fresh_minutes", "1"))
    });
    change("rules/exceptions.toml", &|text| {
        with_value(text, "use_minutes", "2")
    });
    if let Some(key) = public_key() {
        change(&format!("agents/{LISTED_AGENT}.toml"), &|text| {
            with_value(text, "keys", &key)
        });
    }
    files
}

/// The text with another value behind a key, wherever a line begins with it.
fn with_value(text: &str, key: &str, value: &str) -> String {
    let changed = text.lines().map(|line| {
        let rest = line.strip_prefix(key).map(str::trim_start);
        match rest.is_some_and(|rest| rest.starts_with('=')) {
            true => format!("{key} = {value}\n"),
            false => format!("{line}\n"),
        }
    });
    changed.collect()
}

fn pair() -> Option<Ed25519KeyPair> {
    Ed25519KeyPair::from_seed_unchecked(&SEED).ok()
}

/// As an agent's declaration lists it.
fn public_key() -> Option<String> {
    let x = URL_SAFE_NO_PAD.encode(pair()?.public_key().as_ref());
    Some(format!(
        "[{{ kty = \"OKP\", crv = \"Ed25519\", alg = \"EdDSA\", use = \"sig\", kid = \"{KEY_ID}\", x = \"{x}\" }}]"
    ))
}

/// What the agent signs to open an envelope (RFC 7523).
pub(crate) fn assertion(audience: &str, jti: &str, expires_s: i64) -> Option<String> {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": KEY_ID });
    let claims = json!({
        "iss": LISTED_AGENT, "sub": LISTED_AGENT, "aud": audience, "jti": jti, "exp": expires_s,
    });
    let signed = format!("{}.{}", part(&header), part(&claims));
    let signature = URL_SAFE_NO_PAD.encode(pair()?.sign(signed.as_bytes()).as_ref());
    Some(format!("{signed}.{signature}"))
}
