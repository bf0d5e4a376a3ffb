//! Small ledgers for the tests of this crate. Not built otherwise.

use std::collections::HashMap;

use chaperone_core::digest::Digest;
use chaperone_core::event::{CallRefusal, Event, LEAF_FORMAT, Recorded, StreamId};
use chaperone_core::ids::{CorrelationId, EnvelopeId, GrantId, TenantId};
use chaperone_core::principal::{Actor, SystemPart};

use crate::checkpoint::{CheckpointKey, TreeHead, VerifyingKey};
use crate::export::{ExportWriter, Header};
use crate::tree::{self, edge_indexes, extend, inclusion_indexes, inclusion_proof};

/// A ledger with its key, its stored hashes and its checkpoints.
pub(crate) struct Sample {
    pub(crate) key: CheckpointKey,
    pub(crate) leaves: Vec<Vec<u8>>,
    pub(crate) checkpoints: Vec<String>,
    stored: HashMap<u64, Digest>,
}

impl Sample {
    /// A ledger of `clinic-1` with that many entries and checkpoints at those sizes, ascending.
    pub(crate) fn with_checkpoints(entries: u64, sizes: &[u64]) -> Self {
        Self::of_tenant("clinic-1", entries, sizes)
    }

    /// The same for another tenant.
    pub(crate) fn of_tenant(tenant: &str, entries: u64, sizes: &[u64]) -> Self {
        let leaves = (0..entries).map(|seq| recorded(tenant, seq).to_leaf().unwrap());
        Self::of_leaves(tenant, leaves.collect(), sizes)
    }

    /// A ledger of given leaves.
    pub(crate) fn of_leaves(tenant: &str, leaves: Vec<Vec<u8>>, sizes: &[u64]) -> Self {
        let tenant = TenantId::new(tenant).unwrap();
        let mut sample = Self {
            key: CheckpointKey::from_seed(&tenant, &[7; 32]),
            leaves: Vec::new(),
            checkpoints: Vec::new(),
            stored: HashMap::new(),
        };
        for seq in 0..=leaves.len() as u64 {
            let edge = sample.read(&edge_indexes(seq).unwrap());
            if sizes.contains(&seq) {
                let root = tree::root(seq, &edge).unwrap();
                let note = sample.key.sign(&head(&tenant, seq, root)).unwrap();
                sample.checkpoints.push(note);
            }
            if let Some(leaf) = leaves.get(seq as usize) {
                let extension = extend(seq, &edge, &[leaf]).unwrap();
                sample.stored.extend(extension.hashes);
                sample.leaves.push(leaf.clone());
            }
        }
        sample
    }

    /// Stored hashes.
    pub(crate) fn read(&self, indexes: &[u64]) -> Vec<Digest> {
        indexes.iter().map(|index| self.stored[index]).collect()
    }

    /// An inclusion proof to the tree of all entries.
    pub(crate) fn proof(&self, seq: u64) -> Vec<Digest> {
        let size = self.leaves.len() as u64;
        let hashes = self.read(&inclusion_indexes(size, seq).unwrap());
        inclusion_proof(size, seq, &hashes).unwrap()
    }

    /// The public key.
    pub(crate) fn vkey(&self) -> VerifyingKey {
        VerifyingKey::parse(&self.key.vkey()).unwrap()
    }

    /// The header of its export.
    pub(crate) fn header(&self) -> Header {
        let created = "2026-03-04T05:06:07Z".parse().unwrap();
        Header::new(&self.vkey(), self.leaves.len() as u64, created)
    }

    /// The export.
    pub(crate) fn export(&self) -> Vec<u8> {
        let notes = self.checkpoints.clone();
        let mut writer = ExportWriter::start(Vec::new(), self.header(), notes).unwrap();
        self.leaves
            .iter()
            .for_each(|leaf| writer.entry(leaf).unwrap());
        writer.finish().unwrap()
    }

    /// Lines of the export, each with its newline.
    pub(crate) fn lines(&self) -> Vec<Vec<u8>> {
        self.export()
            .split_inclusive(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect()
    }
}

/// A tree head with fixed epoch and time.
pub(crate) fn head(tenant: &TenantId, size: u64, root: Digest) -> TreeHead {
    TreeHead {
        tenant: tenant.clone(),
        size,
        root,
        epoch: 1,
        at: "2026-03-04T05:06:07Z".parse().unwrap(),
    }
}

/// The event at a position: four streams in turn.
pub(crate) fn recorded(tenant: &str, seq: u64) -> Recorded {
    let (stream, event) = match seq % 4 {
        0 => (StreamId::Refusals, refusal()),
        1 => (
            StreamId::Grant(GrantId::from_random([1; 16])),
            Event::GrantConsumed {
                envelope: EnvelopeId::from_random([2; 16]),
            },
        ),
        2 => (
            StreamId::Tenant,
            Event::BundleActivated {
                bundle: Digest::of_bytes(b"bundle"),
            },
        ),
        _ => (StreamId::Account("alex".parse().unwrap()), Event::SignedIn),
    };
    Recorded {
        format: LEAF_FORMAT,
        tenant: TenantId::new(tenant).unwrap(),
        seq,
        stream,
        version: seq / 4 + 1,
        at: "2026-03-04T05:06:07Z".parse().unwrap(),
        actor: Actor::System {
            part: SystemPart::Gateway,
        },
        event,
    }
}

fn refusal() -> Event {
    Event::CallRefused(CallRefusal {
        because: None,
        consent: None,
        correlation: CorrelationId::from_random([3; 16]),
        agent: None,
        tool: None,
        code: "unknown-agent".to_owned(),
    })
}
