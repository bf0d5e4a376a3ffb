//! The sandbox EHR in the test's own process, and what is in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use chaperone_sandbox::{ChangeKind, RunningSandbox, Sandbox, SandboxConfig, ServerProfile};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::needle::{BIRTH, CITY, FAMILY, GIVEN, PHONE, STREET, careless_text};

/// System of the synthetic medical record numbers.
pub(crate) const MRN: &str = "urn:chaperone:synthetic:mrn";
/// System of the business identifiers that write-backs carry.
const WRITEBACK: &str = "urn:chaperone:writeback";
/// Seed of the synthetic patients.
const SEED: u64 = 20_260_901;
/// Synthetic patients with whole charts.
const CHARTED: usize = 4;

/// A sandbox with a few charts and free slots.
pub(crate) async fn start(profile: ServerProfile) -> RunningSandbox {
    let now = Timestamp::now();
    let config = SandboxConfig::new(profile, Arc::new(Timestamp::now));
    let sandbox = Sandbox::start(config).await.unwrap();
    for bundle in chaperone_sandbox::synthetic::patients(SEED, CHARTED, now) {
        sandbox.handle.load_bundle(&bundle).unwrap();
    }
    sandbox.handle.seed_operational(now).unwrap();
    sandbox
}

/// Beginnings of what identifies the patients that [`add_patient`] adds, beside what all of them have in common
/// with the canary: their record numbers, and references to them.
pub(crate) const ADDED: [&str; 2] = ["KILL-00", "Patient/kill-"];

/// Adds a patient with the identity of the canary and a medical record number, which is returned.
pub(crate) fn add_patient(sandbox: &RunningSandbox, number: usize) -> String {
    let mrn = format!("KILL-{number:05}");
    let patient = json!({
        "resourceType": "Patient",
        "id": format!("kill-{number}"),
        "active": true,
        "identifier": [{ "system": MRN, "value": mrn }],
        "name": [{ "family": FAMILY, "given": [GIVEN] }],
        "telecom": [{ "system": "phone", "value": PHONE }],
        "birthDate": BIRTH,
        "address": [{ "line": [STREET], "city": CITY }],
        "text": { "status": "generated", "div": format!(
            "<div xmlns=\"http://www.w3.org/1999/xhtml\">{}</div>", careless_text()
        ) },
    });
    sandbox.handle.put(&patient).unwrap();
    mrn
}

/// How often each write-back took effect as a new resource, by its business identifier. Counted from
/// the changes that came in by HTTP; a copy that was removed again would count all the same.
pub(crate) fn copies(sandbox: &RunningSandbox) -> BTreeMap<String, usize> {
    let mut copies = BTreeMap::new();
    for change in changes(sandbox) {
        if change.resource_type == "Provenance" {
            continue;
        }
        assert_eq!(change.kind, ChangeKind::Created, "{change:?}");
        let versions = sandbox.handle.history(change.resource_type, &change.id);
        let writeback = writeback_of(&versions[0]).expect("a resource without our identifier");
        *copies.entry(writeback).or_default() += 1;
    }
    copies
}

/// How many changes came in by HTTP, Provenance apart.
pub(crate) fn effects(sandbox: &RunningSandbox) -> usize {
    let changes = changes(sandbox);
    let is_ours = |change: &&chaperone_sandbox::Change| change.resource_type != "Provenance";
    changes.iter().filter(is_ours).count()
}

/// The changes that came in by HTTP, without the drafts by which the EHR's conformance was shown.
fn changes(sandbox: &RunningSandbox) -> Vec<chaperone_sandbox::Change> {
    const CONFORMANCE: &str = "urn:chaperone:conformance";
    let mut changes = sandbox.handle.changes_by_request();
    changes.retain(|change| {
        let versions = sandbox.handle.history(change.resource_type, &change.id);
        let identifier = versions[0].get("identifier");
        !identifier.is_some_and(|found| {
            found["system"] == CONFORMANCE || found[0]["system"] == CONFORMANCE
        })
    });
    changes
}

fn writeback_of(resource: &Value) -> Option<String> {
    let identifiers = resource.get("identifier")?.as_array()?;
    let ours = identifiers
        .iter()
        .find(|identifier| identifier["system"] == WRITEBACK)?;
    Some(ours["value"].as_str()?.to_owned())
}
