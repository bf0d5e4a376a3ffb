//! How much each agent proposed within the last hour: more than `rules/bulk.toml` allows is the fact
//! `bulk_limit_reached`, and waits for two people.
//!
//! Counted is every change that policy is asked about, whatever its ruling; several in one proposal are several. A
//! proposal counts once, however often it is sent under its idempotency key. Not counted is what people make (changes
//! to a proposal, exceptions, corrections), and what is made up to see whether people look (canaries).
//!
//! Held in memory, so each node counts what it was asked. At its first use after a start it begins with what all nodes
//! recorded within the last hour, so a restart forgets nothing.
//!
//! # Source
//! Write-back matrix, escalators: more than so many writes or patients in an hour pause an agent.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::ids::{AgentId, PatientToken};
use chaperone_core::ports::{LISTED_MAX, Listing, StoreFailed};
use chaperone_core::together::ENTRIES_MAX;
use chaperone_core::writeback::Proposal;
use chaperone_policy::Bundle;
use serde::Deserialize;
use tokio::sync::OnceCell;

use crate::context::{Engine, StartFailed};
use crate::projection::{BY_STATE, WritebackRow, row_of, sortable};
use crate::undo::CHAPERONE;

const FILE: &str = "rules/bulk.toml";
/// What "in an hour" means, in seconds.
const HOUR_S: i64 = 3_600;
/// Highest limit. It bounds what is held for an agent.
const LIMIT_MAX: u32 = 1_000_000;
/// Most rows that are looked at after a start.
const SEEDED_ROWS_MAX: u32 = 20_000;

/// How much one agent may propose in an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct Limits {
    writes_per_hour: u32,
    patients_per_hour: u32,
}

/// Limits of one agent, in place of everybody's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentLimits {
    agent: AgentId,
    writes_per_hour: u32,
    patients_per_hour: u32,
}

/// `rules/bulk.toml`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(Default))]
#[serde(deny_unknown_fields)]
pub(crate) struct BulkRules {
    source: String,
    owner: String,
    reviewed: String,
    review_by: String,
    writes_per_hour: u32,
    patients_per_hour: u32,
    #[serde(default)]
    agents: Vec<AgentLimits>,
}

impl BulkRules {
    /// The rules of a bundle.
    ///
    /// # Errors
    /// [`StartFailed::Table`] says what is wrong.
    pub(crate) fn of(bundle: &Bundle) -> Result<Self, StartFailed> {
        let wrong = |why: String| StartFailed::Table { file: FILE, why };
        let text = bundle.rule_text("bulk").ok_or_else(|| {
            wrong("it is missing; `chaperone init` writes one to start from".to_owned())
        })?;
        let is_agent = |agent: &AgentId| bundle.agent(agent).is_some();
        Self::parse(text, is_agent).map_err(wrong)
    }

    fn parse(text: &str, is_agent: impl Fn(&AgentId) -> bool) -> Result<Self, String> {
        let rules: Self = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let about = [
            &rules.source,
            &rules.owner,
            &rules.reviewed,
            &rules.review_by,
        ];
        if about.iter().any(|it| it.trim().is_empty()) {
            return Err("`source`, `owner`, `reviewed` and `review_by` must say something".into());
        }
        let mut seen = HashSet::new();
        for own in &rules.agents {
            let agent = &own.agent;
            if !is_agent(agent) || !seen.insert(agent) {
                return Err(format!(
                    "`{agent}` is no agent of this bundle, or stands there twice"
                ));
            }
        }
        let all = [rules.writes_per_hour, rules.patients_per_hour].into_iter();
        let own = rules.agents.iter();
        let own = own.flat_map(|it| [it.writes_per_hour, it.patients_per_hour]);
        match all.chain(own).find(|it| !(1..=LIMIT_MAX).contains(it)) {
            Some(limit) => Err(format!("a limit is {limit}; it must be 1 to {LIMIT_MAX}")),
            None => Ok(rules),
        }
    }

    fn of_agent(&self, agent: &AgentId) -> Limits {
        let own = self.agents.iter().find(|it| it.agent == *agent);
        let own = own.map(|it| (it.writes_per_hour, it.patients_per_hour));
        let (writes_per_hour, patients_per_hour) =
            own.unwrap_or((self.writes_per_hour, self.patients_per_hour));
        Limits {
            writes_per_hour,
            patients_per_hour,
        }
    }
}

/// One proposal that was counted.
#[derive(Debug)]
struct Counted {
    at: Timestamp,
    /// What it counts once under; nothing for what was found in the store, which the store answers for.
    key: Option<Digest>,
    patient: Option<PatientToken>,
    changes: u64,
}

/// What one agent proposed within the last hour.
#[derive(Debug, Default)]
struct Hour {
    /// Oldest first.
    counted: VecDeque<Counted>,
    keys: HashSet<Digest>,
    /// How many of `counted` are of a patient.
    patients: HashMap<PatientToken, usize>,
    writes: u64,
}

impl Hour {
    fn add(&mut self, one: Counted) {
        if one.key.is_some_and(|key| !self.keys.insert(key)) {
            return;
        }
        self.writes += one.changes;
        if let Some(patient) = one.patient {
            *self.patients.entry(patient).or_default() += 1;
        }
        self.counted.push_back(one);
    }

    /// Forgets what is an hour old, and what changes nothing any more: an agent is over its limit for as long as the
    /// newest of what is too much is within the hour.
    fn prune(&mut self, now: Timestamp, limits: Limits) {
        let limit = u64::from(limits.writes_per_hour);
        while let Some(oldest) = self.counted.front() {
            let is_over = now.duration_since(oldest.at).as_secs() >= HOUR_S;
            let is_beyond = self.writes - oldest.changes > limit;
            if !is_over && !is_beyond {
                return;
            }
            let Some(gone) = self.counted.pop_front() else {
                return;
            };
            self.writes -= gone.changes;
            if let Some(key) = gone.key {
                self.keys.remove(&key);
            }
            if let Some(patient) = gone.patient
                && let Some(times) = self.patients.get_mut(&patient)
            {
                *times -= 1;
                if *times == 0 {
                    self.patients.remove(&patient);
                }
            }
        }
    }

    fn is_over(&self, limits: Limits) -> bool {
        self.writes > u64::from(limits.writes_per_hour)
            || self.patients.len() > limits.patients_per_hour as usize
    }
}

/// What agents proposed within the last hour, as far as this node knows.
#[derive(Debug, Default)]
pub(crate) struct Bulk {
    seeded: OnceCell<()>,
    agents: Mutex<BTreeMap<AgentId, Hour>>,
}

impl Bulk {
    /// Counts one, and says whether the agent is over its limits with it.
    fn count(&self, agent: &AgentId, one: Counted, now: Timestamp, limits: Limits) -> bool {
        // A poisoned lock guards counts that are whole after every single operation, or too high by one proposal.
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let hour = agents.entry(agent.clone()).or_default();
        hour.add(one);
        hour.prune(now, limits);
        hour.is_over(limits)
    }
}

impl Engine {
    /// Counts a proposal of so many changes, and says whether its agent went over its limits with it.
    ///
    /// # Errors
    /// When the store does not say what was proposed before this node started.
    pub(crate) async fn is_bulk(
        &self,
        proposal: &Proposal,
        changes: usize,
    ) -> Result<bool, StoreFailed> {
        let now = self.now();
        let seeding = || self.seed_bulk(now);
        self.bulk.seeded.get_or_try_init(seeding).await?;
        let one = Counted {
            at: now,
            key: Some(proposal.idempotency_key),
            patient: proposal.patient,
            changes: changes as u64,
        };
        let limits = self.tables.bulk().of_agent(&proposal.agent);
        Ok(self.bulk.count(&proposal.agent, one, now, limits))
    }

    /// Begins with what all nodes recorded within the last hour, newest first and at most so many rows.
    async fn seed_bulk(&self, now: Timestamp) -> Result<(), StoreFailed> {
        let since = now
            .checked_sub(jiff::SignedDuration::from_secs(HOUR_S))
            .unwrap_or(Timestamp::MIN);
        let since = sortable(since);
        let mut found: Vec<WritebackRow> = Vec::new();
        let mut after = None;
        'pages: for _ in 0..SEEDED_ROWS_MAX / LISTED_MAX {
            let listing = Listing {
                after: after.take(),
                descending: true,
                ..Listing::default()
            };
            let tenant = &self.config.tenant;
            let page = self.store.projections(tenant, BY_STATE, listing).await?;
            for record in &page {
                if record.sort <= since {
                    break 'pages;
                }
                found.push(row_of(record)?);
            }
            match page.last() {
                Some(last) if page.len() == LISTED_MAX as usize => {
                    after = Some((last.sort.clone(), last.key.key.clone()));
                }
                _ => break,
            }
        }
        for row in found.into_iter().rev().filter(is_an_agents) {
            let limits = self.tables.bulk().of_agent(&row.agent);
            let one = Counted {
                at: row.proposed,
                key: None,
                patient: row.patient,
                changes: self.changes_of(&row),
            };
            self.bulk.count(&row.agent, one, now, limits);
        }
        Ok(())
    }

    /// How many changes a row was. Rows do not say; of a tool that takes several, it is the most there can be.
    fn changes_of(&self, row: &WritebackRow) -> u64 {
        let tool = self.bundle.tool(&row.tool);
        let is_one = tool.is_some_and(|tool| tool.write.is_some());
        if is_one { 1 } else { ENTRIES_MAX as u64 }
    }
}

/// Whether it is what an agent proposed and policy ruled on.
fn is_an_agents(row: &WritebackRow) -> bool {
    row.gate.is_some()
        && row.canary.is_none()
        && row.editors.is_empty()
        && row.agent.as_str() != CHAPERONE
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: &str = include_str!("../../../governance/rules/bulk.toml");
    const LIMITS: Limits = Limits {
        writes_per_hour: 3,
        patients_per_hour: 2,
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_900_000_000 + second).unwrap()
    }

    fn agent() -> AgentId {
        AgentId::new("scribe-agent").unwrap()
    }

    /// One proposal with a key of its own.
    fn one(second: i64, patient: u8, changes: u64) -> Counted {
        Counted {
            at: at(second),
            key: Some(Digest::of_bytes(&second.to_be_bytes())),
            patient: Some(PatientToken::from_random([patient; 16])),
            changes,
        }
    }

    #[test]
    fn an_hour_slides_and_what_is_asked_again_counts_once() {
        let bulk = Bulk::default();
        let count = |second, patient, changes| {
            let counted = one(second, patient, changes);
            bulk.count(&agent(), counted, at(second), LIMITS)
        };
        assert!(!count(0, 1, 1) && !count(1, 1, 1) && !count(2, 1, 1));
        assert!(!count(2, 1, 1));
        assert!(count(3, 1, 1));
        // What was counted first is an hour old, and room for one is there again.
        assert!(count(HOUR_S, 1, 1));
        assert!(!count(2 * HOUR_S, 1, 1));
        assert!(!count(2 * HOUR_S + 1, 2, 1));
        assert!(count(2 * HOUR_S + 2, 3, 1));
        assert!(count(4 * HOUR_S, 1, 4));
    }

    #[test]
    fn what_is_held_of_an_agent_has_an_end() {
        let bulk = Bulk::default();
        for second in 0..100 {
            bulk.count(&agent(), one(second, second as u8, 1), at(second), LIMITS);
        }
        let agents = bulk.agents.lock().unwrap();
        let hour = &agents[&agent()];
        assert_eq!((hour.counted.len(), hour.keys.len()), (4, 4));
        assert_eq!((hour.patients.len(), hour.writes), (4, 4));
        assert!(hour.is_over(LIMITS));
    }

    #[test]
    fn limits_are_for_agents_that_exist_and_within_bounds() {
        let scheduler = AgentId::new("scheduler-agent").unwrap();
        let read = |text: &str| BulkRules::parse(text, |agent| *agent == scheduler);
        let rules = read(DEFAULT).unwrap();
        assert_eq!(rules.of_agent(&agent()).writes_per_hour, 300);
        assert_eq!(rules.of_agent(&agent()).patients_per_hour, 100);
        assert_eq!(rules.of_agent(&scheduler).patients_per_hour, 300);
        for (before, after, why) in [
            (
                "writes_per_hour = 300",
                "writes_per_hour = 0",
                "must be 1 to",
            ),
            (
                "patients_per_hour = 300",
                "patients_per_hour = 1000001",
                "must be 1 to",
            ),
            (
                "\"scheduler-agent\"",
                "\"stranger\"",
                "no agent of this bundle",
            ),
            ("\"security officer\"", "\"\"", "must say something"),
            (
                "writes_per_hour = 600",
                "writes_a_day = 600",
                "unknown field",
            ),
        ] {
            assert!(DEFAULT.contains(before), "{before}");
            let said = read(&DEFAULT.replacen(before, after, 1)).unwrap_err();
            assert!(said.contains(why), "{why}: {said}");
        }
    }

    #[test]
    fn a_bundle_without_limits_is_refused_and_told_where_to_get_some() {
        let mut files = chaperone_policy::embedded::files();
        assert!(files.remove("rules/bulk.toml").is_some());
        let bundle = Bundle::load(&files).unwrap();
        let said = BulkRules::of(&bundle).unwrap_err().to_string();
        assert!(
            said.contains(FILE) && said.contains("`chaperone init`"),
            "{said}"
        );
    }

    #[test]
    fn a_list_that_people_approved_is_worked_off_within_the_limits() {
        let bundle = Bundle::load(&chaperone_policy::embedded::files()).unwrap();
        let rules = BulkRules::of(&bundle).unwrap();
        for cohort in bundle.cohorts() {
            let an_hour = cohort.grants_per_minute * 60;
            let limits = rules.of_agent(&cohort.agent);
            assert!(an_hour <= limits.patients_per_hour, "{}", cohort.id);
            assert!(an_hour <= limits.writes_per_hour, "{}", cohort.id);
        }
    }
}
