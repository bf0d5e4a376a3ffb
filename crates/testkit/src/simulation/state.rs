//! What is true in the world: what rests in the store and at the EHR, and what really happened, which no node
//! can see and the checker goes by.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::digest::Digest;
use chaperone_core::ids::{
    AccountName, CohortJobId, CorrelationId, PatientToken, PersonId, WritebackId,
};
use chaperone_core::principal::{Human, Role};
use serde_json::Value;

use super::node::Rules;
use super::server::Server;
use super::world::{Micros, Process};
use crate::memory::Tables;

/// The world's things.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) tables: Tables,
    pub(crate) ehr: Server,
    pub(crate) truth: Truth,
}

/// What really happened.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// When each event became durable, by its sequence number.
    pub(crate) committed: Vec<Micros>,
    /// Who committed each event, by its sequence number.
    pub(crate) committed_by: Vec<Process>,
    /// Which bundle lies ready for a node that starts.
    pub(crate) rules: Rules,
    /// Which bundle each process goes by.
    pub(crate) goes_by: BTreeMap<Process, Digest>,
    /// Every write that left a node, lost or not.
    pub(crate) sends: Vec<Sent>,
    /// What agents were told about what they proposed.
    pub(crate) acknowledged: Vec<Acknowledged>,
    /// Write-backs that came of the same key.
    pub(crate) twice: Vec<(WritebackId, WritebackId)>,
    /// What agents were refused.
    pub(crate) refused: Vec<RefusedCall>,
    /// What people agreed to, as they saw it.
    pub(crate) agreed: Vec<Agreed>,
    /// What people may decide by, by account.
    pub(crate) roles: BTreeMap<AccountName, Vec<Role>>,
    /// What decision support finds critical about an order as it was told.
    pub(crate) opinions: BTreeMap<String, Vec<String>>,
    /// What decision support said.
    pub(crate) told_cards: Vec<CardsTold>,
    /// Over which cards people went on.
    pub(crate) overrode: Vec<Overrode>,
    /// Exceptions that people granted, as they saw them.
    pub(crate) granted: Vec<Granted>,
    /// Whether anybody ever asked for an exception.
    pub(crate) has_exceptions: bool,
    /// Lists that people approved, as they saw them.
    pub(crate) lists: Vec<ListApproved>,
    /// Who was struck from a list, where whoever did was told so.
    pub(crate) struck: Vec<(CohortJobId, PatientToken)>,
    /// Whether anybody ever asked for a list.
    pub(crate) has_lists: bool,
    /// What people changed, and into what, where they were told.
    pub(crate) edited: Vec<Edited>,
    /// Who is in training.
    pub(crate) in_training: BTreeSet<usize>,
    /// What people let go that had been set aside.
    pub(crate) released: Vec<(WritebackId, Micros)>,
    /// What was signed on the EHR's screens.
    pub(crate) signed: Vec<SignedThere>,
    /// Which person is which human.
    pub(crate) humans: BTreeMap<PersonId, usize>,
    /// What people said after looking at the EHR.
    pub(crate) looked: Vec<Looked>,
    /// Claims on work.
    pub(crate) claimed: Vec<Claimed>,
    /// Changes of the writer's lease.
    pub(crate) leased: Vec<Leased>,
    /// From when to when a patient, by logical id, did not consent.
    pub(crate) withdrawn: Vec<Withdrawn>,
    /// Logical id of the patient of each write-back that was acknowledged.
    pub(crate) patient_of: BTreeMap<WritebackId, String>,
    /// Whether a conformance report is in force.
    pub(crate) is_shown: bool,
    /// When the clock of a node was set back.
    pub(crate) set_back: Vec<(usize, Micros)>,
    /// Checkpoints kept outside.
    pub(crate) anchored: Vec<(u64, String)>,
}

impl Truth {
    /// Which human somebody is.
    pub(crate) fn human(&self, by: &Human) -> usize {
        self.humans.get(&by.person).copied().unwrap_or_default()
    }
}

/// One write as it left a node.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) writeback: WritebackId,
    pub(crate) attempt: u32,
    pub(crate) process: Process,
    pub(crate) left: Micros,
}

#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    pub(crate) writeback: WritebackId,
    pub(crate) at: Micros,
    pub(crate) key: String,
}

#[derive(Debug, Clone)]
pub(crate) struct RefusedCall {
    pub(crate) correlation: CorrelationId,
    pub(crate) code: &'static str,
    pub(crate) recorded: bool,
    pub(crate) at: Micros,
}

#[derive(Debug, Clone)]
pub(crate) struct Agreed {
    pub(crate) writeback: WritebackId,
    /// What was on the screen.
    pub(crate) digest: Digest,
    pub(crate) human: usize,
    pub(crate) at: Micros,
    /// Whether they gave a second factor for it.
    pub(crate) with_factor: bool,
    /// Whether they ticked it among others.
    pub(crate) together: bool,
    /// Whether the engine said that it was taken.
    pub(crate) taken: bool,
}

/// What decision support said to a node about one order.
#[derive(Debug, Clone)]
pub(crate) struct CardsTold {
    pub(crate) process: Process,
    /// The order as it was told.
    pub(crate) draft: Value,
    /// What it finds critical.
    pub(crate) critical: Vec<String>,
    pub(crate) at: Micros,
}

/// A person who goes on over a card.
#[derive(Debug, Clone)]
pub(crate) struct Overrode {
    pub(crate) writeback: WritebackId,
    pub(crate) card: Digest,
    /// What it says.
    pub(crate) summary: String,
    pub(crate) human: usize,
    pub(crate) at: Micros,
}

/// A person who grants an exception.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    pub(crate) of: WritebackId,
    pub(crate) binding: Digest,
    pub(crate) human: usize,
    pub(crate) at: Micros,
}

/// A person who approves a list.
#[derive(Debug, Clone)]
pub(crate) struct ListApproved {
    pub(crate) job: CohortJobId,
    pub(crate) list: Digest,
    /// Who was on their screen.
    pub(crate) patients: BTreeSet<PatientToken>,
    pub(crate) human: usize,
    pub(crate) at: Micros,
}

/// A person's change of what was proposed.
#[derive(Debug, Clone)]
pub(crate) struct Edited {
    pub(crate) of: WritebackId,
    pub(crate) human: usize,
    pub(crate) at: Micros,
    pub(crate) into: Option<WritebackId>,
}

/// A signature on the EHR's screens, by whomever.
#[derive(Debug, Clone)]
pub(crate) struct SignedThere {
    pub(crate) writeback: WritebackId,
    pub(crate) kind: String,
    pub(crate) id: String,
    /// What was signed.
    pub(crate) version: u64,
    /// Who, where anybody here knows them.
    pub(crate) human: Option<usize>,
    /// What they may approve by.
    pub(crate) roles: Vec<Role>,
    pub(crate) at: Micros,
}

#[derive(Debug, Clone)]
pub(crate) struct Looked {
    pub(crate) writeback: WritebackId,
    pub(crate) applied: bool,
    pub(crate) at: Micros,
}

#[derive(Debug, Clone)]
pub(crate) struct Claimed {
    pub(crate) subject: String,
    pub(crate) at: Micros,
}

#[derive(Debug, Clone)]
pub(crate) struct Leased {
    pub(crate) epoch: u64,
    pub(crate) at: Micros,
}

#[derive(Debug, Clone)]
pub(crate) struct Withdrawn {
    pub(crate) patient: String,
    pub(crate) from: Micros,
    pub(crate) until: Option<Micros>,
}
