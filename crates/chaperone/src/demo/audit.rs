//! An independent count of what happened.
//!
//! It shares no code with the engine: it reads the exported ledger as plain JSON and the sandbox's own
//! list of changes, and asks of every change whether the ledger shows a ruling and the approvals that
//! the ruling demanded, in that order.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use chaperone_connect::anchor::FileAnchor;
use chaperone_ledger::verify::{VerifyOptions, verify_export};
use chaperone_sandbox::ChangeKind;
use serde::Serialize;
use serde_json::Value;

use super::world::World;

const WRITEBACK: &str = "urn:chaperone:writeback";

/// What the demo prints.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    patients: usize,
    reads: u64,
    proposals: u64,
    gates: BTreeMap<String, u64>,
    refused: BTreeMap<String, u64>,
    ehr_writes: u64,
    duplicates: u64,
    unapproved: u64,
    ledger: LedgerSummary,
}

#[derive(Debug, Serialize)]
struct LedgerSummary {
    entries: u64,
    verified: bool,
}

impl Summary {
    /// Whether nothing went wrong.
    pub(crate) fn is_good(&self) -> bool {
        self.duplicates == 0 && self.unapproved == 0 && self.ledger.verified
    }

    /// For people.
    pub(crate) fn in_words(&self) -> String {
        let counts = |map: &BTreeMap<String, u64>| {
            map.iter()
                .map(|(k, n)| format!("{k} {n}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        format!(
            "patients    {}\nreads       {}\nproposals   {}\ngates       {}\nrefused     {}\nEHR writes  {} ({} duplicates, {} without ruling or approval)\nledger      {} entries, {}",
            self.patients,
            self.reads,
            self.proposals,
            counts(&self.gates),
            counts(&self.refused),
            self.ehr_writes,
            self.duplicates,
            self.unapproved,
            self.ledger.entries,
            if self.ledger.verified {
                "verified"
            } else {
                "NOT VERIFIED"
            },
        )
    }
}

/// What the ledger shows about one write-back.
#[derive(Debug, Default)]
struct History {
    needed: Option<usize>,
    needs_factor: bool,
    approvers: BTreeSet<String>,
    factors: usize,
    cleared_before_start: bool,
    is_update: bool,
    delivered: bool,
    /// Placed unsigned, to be signed in the EHR.
    is_staged: bool,
    cleared_before_end: bool,
}

impl History {
    fn is_cleared(&self) -> bool {
        self.needed.is_some_and(|n| self.approvers.len() >= n)
            && (!self.needs_factor || self.factors > 0)
    }

    /// Whether what nobody had approved came in unsigned, and is either unsigned still or was approved by whoever
    /// signed it, before it counted as delivered.
    fn is_signed_as_placed(&self, versions: &[Value]) -> bool {
        let is_unsigned = |version: Option<&Value>| {
            version
                .and_then(|it| it.get("status")?.as_str())
                .is_some_and(|status| status == "draft")
        };
        self.is_staged
            && is_unsigned(versions.first())
            && (is_unsigned(versions.last()) || self.cleared_before_end)
    }
}

/// Counts.
pub(crate) async fn summarise(world: &World) -> anyhow::Result<Summary> {
    // Everything up to now must be covered by a checkpoint before it can be exported.
    let size = world.engine.ledger_size().await?;
    while world.engine.signed_size().await? < size {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let mut export = Vec::new();
    let entries = world.engine.export_ledger(&mut export).await?;
    let outside =
        FileAnchor::read_all(&FileAnchor::open(&world.anchors)?.path(world.engine.tenant()))?;
    let options = VerifyOptions {
        trusted_key: Some(world.engine.ledger_key().await?),
        outside: outside.into_iter().map(|anchored| anchored.note).collect(),
    };
    let report = verify_export(export.as_slice(), &options);
    if !report.is_sound() {
        eprintln!("{report}");
    }
    let events = events_of(&export)?;
    let mut summary = Summary {
        patients: world.patients.len(),
        reads: 0,
        proposals: 0,
        gates: BTreeMap::new(),
        refused: BTreeMap::new(),
        ehr_writes: 0,
        duplicates: 0,
        unapproved: 0,
        ledger: LedgerSummary {
            entries,
            verified: report.is_sound(),
        },
    };
    let histories = read(&events, &mut summary);
    judge(world, &histories, &mut summary);
    Ok(summary)
}

fn events_of(export: &[u8]) -> anyhow::Result<Vec<Value>> {
    let text = std::str::from_utf8(export)?;
    let mut events = Vec::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line)?;
        if let Some(leaf) = line.get("leaf").and_then(Value::as_str) {
            events.push(serde_json::from_str(leaf).context("a leaf is JSON")?);
        }
    }
    Ok(events)
}

fn read(events: &[Value], summary: &mut Summary) -> BTreeMap<String, History> {
    let mut histories: BTreeMap<String, History> = BTreeMap::new();
    for recorded in events {
        let text = |pointer: &str| {
            recorded
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or("")
        };
        match text("/event/kind") {
            "read_released" => summary.reads += 1,
            "call_refused" => {
                *summary
                    .refused
                    .entry(text("/event/code").to_owned())
                    .or_default() += 1;
            }
            "writeback" => {
                let id = text("/stream").trim_start_matches("writeback/").to_owned();
                step(recorded, histories.entry(id).or_default(), summary);
            }
            _ => {}
        }
    }
    histories
}

fn step(recorded: &Value, history: &mut History, summary: &mut Summary) {
    let text = |pointer: &str| {
        recorded
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or("")
    };
    match text("/event/what") {
        "proposed" => summary.proposals += 1,
        "validated" => history.is_update = text("/event/change/interaction") == "update",
        "ruled" => {
            history.is_staged = text("/event/order/strategy") == "ehr-staged";
            let gate = text("/event/ruling/gate/gate").to_owned();
            history.needed = match gate.as_str() {
                "auto" => Some(0),
                "approve" => Some(1),
                "approve_2f" => Some(1),
                "two_person" => Some(2),
                // Established facts stand in for people; see `verified`.
                "auto_verified" => Some(usize::MAX),
                _ => None,
            };
            history.needs_factor = matches!(gate.as_str(), "approve_2f" | "two_person");
            if gate == "deny" {
                let code = text("/event/ruling/denial").to_owned();
                *summary.refused.entry(code).or_default() += 1;
            }
            *summary.gates.entry(gate).or_default() += 1;
        }
        "verified" => history.needed = Some(0),
        "approved" => {
            history
                .approvers
                .insert(text("/event/approval/person").to_owned());
            let factor = text("/event/approval/factor/factor");
            // The sandbox EHR asks for a second factor when somebody signs.
            history.factors += usize::from(["totp", "ehr_signature"].contains(&factor));
        }
        "delivery_started" => {
            history.cleared_before_start = history.is_cleared();
        }
        "delivered" => {
            history.delivered = true;
            history.cleared_before_end = history.is_cleared();
        }
        "refused" => {
            let by = text("/event/refused/by");
            let code = match by {
                "policy" => text("/event/refused/code"),
                other => other,
            };
            *summary.refused.entry(code.to_owned()).or_default() += 1;
        }
        _ => {}
    }
}

/// Holds every change that the sandbox saw against the ledger.
fn judge(world: &World, histories: &BTreeMap<String, History>, summary: &mut Summary) {
    let mut copies: BTreeMap<String, u64> = BTreeMap::new();
    let mut updates = 0_u64;
    // The drafts of the conformance run came before everything else.
    let changes = world.sandbox.handle.changes_by_request();
    for change in changes.into_iter().skip(world.changes_before) {
        // Provenance goes with its target and is no change of the record of its own.
        if change.resource_type == "Provenance" {
            continue;
        }
        summary.ehr_writes += 1;
        match change.kind {
            ChangeKind::Created => {
                let resource = world
                    .sandbox
                    .handle
                    .resource(change.resource_type, &change.id);
                match resource.as_ref().and_then(writeback_of) {
                    Some(id) => {
                        let cleared = histories.get(&id).is_some_and(|history| {
                            let versions = world
                                .sandbox
                                .handle
                                .history(change.resource_type, &change.id);
                            history.cleared_before_start || history.is_signed_as_placed(&versions)
                        });
                        summary.unapproved += u64::from(!cleared);
                        *copies.entry(id).or_default() += 1;
                    }
                    None => summary.unapproved += 1,
                }
            }
            ChangeKind::Updated => updates += 1,
            ChangeKind::Deleted => summary.unapproved += 1,
        }
    }
    let cleared_updates = histories
        .values()
        .filter(|h| h.is_update && h.cleared_before_start && h.delivered)
        .count() as u64;
    summary.unapproved += updates.saturating_sub(cleared_updates);
    summary.duplicates = copies.values().map(|n| n.saturating_sub(1)).sum();
}

pub(super) fn writeback_of(resource: &Value) -> Option<String> {
    resource
        .get("identifier")?
        .as_array()?
        .iter()
        .find_map(|identifier| {
            (identifier.get("system")?.as_str()? == WRITEBACK)
                .then(|| identifier.get("value")?.as_str().map(str::to_owned))
                .flatten()
        })
}
