//! Ruling on several changes that are made as one: each by its own, and then what all of them need together.
//!
//! One that is refused refuses all. Otherwise the gate is the strongest of theirs, and whoever opens it must be
//! somebody who may decide on each of them that is not left to the machine alone: where an entry by itself would need
//! a confirmation, those who decide on its row are asked in its place. Where no role may decide on all, nobody can, and
//! they are proposed one by one.
//!
//! # Source
//! Requirement R024.

use std::collections::BTreeSet;

use chaperone_core::change::ChangeClass;
use chaperone_core::evidence::{Reason, Ruling, RulingRecord};
use chaperone_core::gate::{Gate, GateLevel, ProofLevel};
use chaperone_core::ids::PolicyId;
use chaperone_core::principal::Role;
use chaperone_core::request::WriteRequest;
use chaperone_core::together::ENTRIES_MAX;

use crate::bundle::Bundle;
use crate::ruling::{NO_DECIDER_FOR_ALL, RulingFailed};

impl Bundle {
    /// Rules on everything that one write-back changes: a single change by itself, several together.
    ///
    /// # Errors
    /// As [`Bundle::rule`] and [`Bundle::rule_together`].
    pub fn rule_all(&self, requests: &[WriteRequest]) -> Result<Ruling, RulingFailed> {
        match requests {
            [only] => self.rule(only),
            several => self.rule_together(several),
        }
    }

    /// Rules on several changes of one agent, intent and patient that are made together or not at all. The ruling on
    /// each is kept in it, in order.
    ///
    /// # Errors
    /// [`RulingFailed`], on which the caller must refuse all of them: as for one; also when they are fewer than two
    /// or too many, of different agents or intents, or when one of them is covered by a protocol, which covers a
    /// renewal by itself.
    ///
    /// # Source
    /// Requirement R024.
    pub fn rule_together(&self, requests: &[WriteRequest]) -> Result<Ruling, RulingFailed> {
        let Some((first, rest)) = requests.split_first() else {
            return Err(RulingFailed::NotTogether);
        };
        let are_one = !rest.is_empty()
            && requests.len() <= ENTRIES_MAX
            && rest
                .iter()
                .all(|it| it.agent == first.agent && it.intent == first.intent)
            && requests.iter().all(|it| it.protocol.is_none());
        if !are_one {
            return Err(RulingFailed::NotTogether);
        }
        let entries = requests
            .iter()
            .map(|request| self.ruling_record(request, None))
            .collect::<Result<Vec<RulingRecord>, RulingFailed>>()?;
        let gate = self.gate_of_all(requests, &entries)?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the matrix rules on several changes here, by what it says of each"
        )]
        let ruling = Ruling::issue(in_one(gate, entries).ok_or(RulingFailed::NotTogether)?);
        Ok(ruling)
    }

    /// The gate that satisfies every entry, by people who may decide on each; [`Gate::Deny`] where none can.
    fn gate_of_all(
        &self,
        requests: &[WriteRequest],
        entries: &[RulingRecord],
    ) -> Result<Gate, RulingFailed> {
        let level = strongest(entries);
        if level <= GateLevel::AutoVerified {
            return Ok(all_of(entries.iter().map(|it| it.gate.clone())));
        }
        let mut gates = Vec::with_capacity(entries.len());
        for (request, own) in requests.iter().zip(entries) {
            gates.push(match level {
                GateLevel::Deny => Gate::Deny,
                // Where nobody needs to agree, it is nobody's to keep from whoever decides on the rest.
                _ if own.gate == Gate::Auto => Gate::Auto,
                // A pair stands for an entry that needs one person if one of the two may decide on it.
                GateLevel::TwoPerson if own.gate.level() < level => {
                    let by_one = self.ruling_record(request, Some(GateLevel::Approve2f))?;
                    pair_for(&by_one.gate, own.gate.level(), entries)
                }
                _ if own.gate.level() < level => self.ruling_record(request, Some(level))?.gate,
                _ => own.gate.clone(),
            });
        }
        Ok(all_of(gates))
    }
}

fn strongest(entries: &[RulingRecord]) -> GateLevel {
    let levels = entries.iter().map(|it| it.gate.level());
    levels.max().unwrap_or(GateLevel::Deny)
}

fn all_of(gates: impl IntoIterator<Item = Gate>) -> Gate {
    gates.into_iter().reduce(Gate::and).unwrap_or(Gate::Deny)
}

/// The pair that other entries need, if one of the two may decide on this entry: where it asks for a second factor by
/// itself, the one who gives it.
fn pair_for(gate: &Gate, own: GateLevel, entries: &[RulingRecord]) -> Gate {
    let roles: BTreeSet<Role> = match gate {
        Gate::Approve { roles } | Gate::Approve2f { roles } => roles.clone(),
        _ => BTreeSet::new(),
    };
    entries
        .iter()
        .find_map(|it| match it.gate {
            Gate::TwoPerson { first, second }
                if roles.contains(&first)
                    || (own < GateLevel::Approve2f && roles.contains(&second)) =>
            {
                Some(it.gate.clone())
            }
            _ => None,
        })
        .unwrap_or(Gate::Deny)
}

/// One ruling made of those on each entry; nothing where there are none.
fn in_one(gate: Gate, entries: Vec<RulingRecord>) -> Option<RulingRecord> {
    let first = entries.first()?;
    let refused: Vec<&RulingRecord> = entries.iter().filter(|it| it.denial.is_some()).collect();
    let denial = match (&gate, refused.first()) {
        (_, Some(one)) => one.denial.clone(),
        (Gate::Deny, None) => Some(NO_DECIDER_FOR_ALL.to_owned()),
        _ => None,
    };
    let told = if refused.is_empty() {
        entries.iter().collect()
    } else {
        refused
    };
    let mut reasons = distinct(told.iter().flat_map(|it| it.reasons.iter().cloned()));
    if denial.as_deref() == Some(NO_DECIDER_FOR_ALL) {
        reasons.insert(0, nobody_for_all()?);
    }
    let of_all = |list: fn(&RulingRecord) -> &Vec<PolicyId>| {
        distinct(told.iter().flat_map(|it| list(it).iter().cloned()))
    };
    Some(RulingRecord {
        gate: if denial.is_some() { Gate::Deny } else { gate },
        class: entries
            .iter()
            .map(|it| it.class)
            .max()
            .unwrap_or(ChangeClass::M5),
        destination: first.destination,
        determining: of_all(|it| &it.determining),
        raised_by: of_all(|it| &it.raised_by),
        reasons,
        denial,
        proof_min: entries
            .iter()
            .map(|it| it.proof_min)
            .max()
            .unwrap_or(ProofLevel::P3),
        notify: distinct(entries.iter().flat_map(|it| it.notify.iter().copied())),
        bundle: first.bundle,
        protocol: None,
        entries,
    })
}

fn nobody_for_all() -> Option<Reason> {
    let policy = PolicyId::new(NO_DECIDER_FOR_ALL).ok()?;
    Some(Reason {
        policy,
        text: "Nobody may decide on all of these changes; proposed one by one, each goes to those who may."
            .to_owned(),
    })
}

/// Each once, in order.
fn distinct<T: PartialEq>(all: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut once = Vec::new();
    for one in all {
        if !once.contains(&one) {
            once.push(one);
        }
    }
    once
}
