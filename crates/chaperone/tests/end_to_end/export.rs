//! An exported ledger, read as plain JSON: shares no code with what wrote it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::installation::{Installation, Server, chaperone, printed};

/// How often a stopped server is started again for what it had no time for.
const FURTHER_STARTS_MAX: usize = 5;

/// Stops a server on which nothing moves any more, and reads its verified ledger. A send of unknown
/// outcome is put before a human in a step of its own; where the stop came between, it gets time for it.
pub(crate) async fn last_export(installation: &Installation, mut server: Server) -> Export {
    for count in 0..FURTHER_STARTS_MAX {
        assert!(server.stop().await.success());
        let export = verified_export(installation, &format!("ledger-{count}.jsonl"));
        let is_between = |history: &Vec<Value>| kinds(history).last() == Some(&"outcome_unknown");
        if !export.histories().values().any(is_between) {
            return export;
        }
        server = installation.start().await;
    }
    panic!("an unknown outcome was not looked at in {FURTHER_STARTS_MAX} starts");
}

/// Exports the ledger of a stopped server, has it verified against its key and the checkpoints
/// outside, and reads it.
pub(crate) fn verified_export(installation: &Installation, name: &str) -> Export {
    let file = installation.file(name);
    printed(&installation.run(&["ledger", "export", file.to_str().unwrap()]));
    let key = printed(&installation.run(&["ledger", "key"]));
    let anchors = installation.anchors();
    let report = printed(&chaperone(&[
        "ledger",
        "verify",
        file.to_str().unwrap(),
        "--anchors",
        anchors.to_str().unwrap(),
        "--key",
        key.trim(),
        "--json",
    ]));
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["integrity"], "holds", "{report}");
    assert_eq!(report["completeness"], "holds", "{report}");
    Export::read(&file)
}

/// Every event, in order.
pub(crate) struct Export {
    pub(crate) events: Vec<Value>,
}

impl Export {
    /// Reads one, unverified.
    pub(crate) fn read(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap();
        let events = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter_map(|line| Some(serde_json::from_str(line.get("leaf")?.as_str()?).unwrap()))
            .collect();
        Self { events }
    }

    /// What moved each write-back, in order: neither who had it in hand nor who looked at it afterwards.
    pub(crate) fn histories(&self) -> BTreeMap<String, Vec<Value>> {
        let mut histories: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for recorded in &self.events {
            let stream = recorded["stream"].as_str().unwrap();
            let moved = recorded["event"]["kind"] == "writeback";
            if let Some(id) = stream.strip_prefix("writeback/").filter(|_| moved) {
                let event = recorded["event"].clone();
                histories.entry(id.to_owned()).or_default().push(event);
            }
        }
        histories
    }
}

/// The kinds of the events of one write-back.
pub(crate) fn kinds(history: &[Value]) -> Vec<&str> {
    history
        .iter()
        .map(|event| event["what"].as_str().unwrap())
        .collect()
}
