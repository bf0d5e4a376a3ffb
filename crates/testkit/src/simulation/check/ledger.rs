//! The ledger: every leaf readable, numbers without gaps, and every signed or anchored head the head of what is
//! there. The tree is hashed here anew.
//!
//! # Source
//! RFC 6962, section 2.1: Merkle hash trees.

use std::collections::BTreeMap;

use chaperone_core::digest::Digest;
use chaperone_core::event::{Recorded, StreamId};

use super::{Case, Property};

const LEAF: u8 = 0;
const NODE: u8 = 1;

pub(super) fn check(case: &mut Case<'_>) {
    read(case);
    heads(case);
}

fn read(case: &mut Case<'_>) {
    let mut versions: BTreeMap<StreamId, u64> = BTreeMap::new();
    let leaves = std::mem::take(&mut case.leaves);
    for (at, leaf) in leaves.iter().enumerate() {
        let Ok(recorded) = Recorded::from_leaf(leaf) else {
            case.broken(Property::LedgerWhole, format!("leaf {at} cannot be read"));
            continue;
        };
        if recorded.seq != at as u64 || recorded.tenant != *case.tenant {
            case.broken(
                Property::LedgerWhole,
                format!("leaf {at} says it is {}", recorded.seq),
            );
        }
        let version = versions.entry(recorded.stream.clone()).or_default();
        *version = version.saturating_add(1);
        if recorded.version != *version {
            let seen = format!(
                "{} has version {} where {version} follows",
                recorded.stream, recorded.version
            );
            case.broken(Property::LedgerWhole, seen);
        }
        case.recorded.push(recorded);
    }
    case.leaves = leaves;
}

fn hash(prefix: u8, parts: [&[u8]; 2]) -> Digest {
    let mut bytes = vec![prefix];
    for part in parts {
        bytes.extend_from_slice(part);
    }
    Digest::of_bytes(&bytes)
}

/// The heads of whole subtrees, the largest first: enough to go on with, and to say the root.
#[derive(Default)]
struct Heads(Vec<(u32, Digest)>);

impl Heads {
    fn push(&mut self, leaf: &[u8]) {
        let mut new = (0, hash(LEAF, [leaf, &[]]));
        while let Some((height, left)) = self.0.last().copied() {
            if height != new.0 {
                break;
            }
            self.0.pop();
            new = (height + 1, hash(NODE, [left.as_bytes(), new.1.as_bytes()]));
        }
        self.0.push(new);
    }

    fn root(&self) -> Digest {
        let mut heads = self.0.iter().rev().map(|(_, head)| *head);
        let Some(last) = heads.next() else {
            return Digest::of_bytes(&[]);
        };
        heads.fold(last, |right, left| {
            hash(NODE, [left.as_bytes(), right.as_bytes()])
        })
    }
}

fn heads(case: &mut Case<'_>) {
    let mut roots: BTreeMap<u64, Digest> = BTreeMap::new();
    let mut tree = Heads::default();
    roots.insert(0, tree.root());
    for (at, leaf) in case.leaves.iter().enumerate() {
        tree.push(leaf);
        roots.insert(at as u64 + 1, tree.root());
    }
    let tables = case.state.tables.of(case.tenant);
    let mut notes: BTreeMap<u64, &str> = BTreeMap::new();
    let mut newest = 0;
    for checkpoint in tables.checkpoints() {
        newest = checkpoint.size;
        notes.insert(checkpoint.size, &checkpoint.note);
        if roots.get(&checkpoint.size) != Some(&checkpoint.root) {
            let seen = format!(
                "the head signed at {} is not the head of the leaves",
                checkpoint.size
            );
            case.broken(Property::LedgerWhole, seen);
        }
    }
    for (size, note) in &case.truth().anchored {
        if notes.get(size) != Some(&note.as_str()) {
            case.broken(
                Property::LedgerWhole,
                format!("what was anchored at {size} was never signed here"),
            );
        }
    }
    let last_of_writebacks = case
        .recorded
        .iter()
        .rev()
        .find(|it| matches!(it.stream, StreamId::Writeback(_)))
        .map(|it| it.seq);
    if case.is_at_rest && last_of_writebacks.is_some_and(|seq| seq >= newest) {
        case.broken(Property::LedgerWhole, format!("signed up to {newest} only"));
    }
}
