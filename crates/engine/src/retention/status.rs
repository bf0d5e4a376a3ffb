//! How it stands with what is kept: each rule, what is stored under it, and what is over its time.

use chaperone_core::Timestamp;
use chaperone_core::event::Recorded;
use chaperone_core::ids::PatientToken;
use chaperone_core::ports::{LISTED_MAX, Listing, PayloadCount, StoreFailed};
use serde::Serialize;

use super::holds::{Hold, Holds};
use super::rules::{AtEnd, Rule};
use super::sweep::LastSweep;
use crate::context::Engine;
use crate::tokens::TOKENS;

/// How long after the last sweep something is wrong with the sweeper, in seconds: two days.
const SWEEP_LATE_S: i64 = 48 * 3_600;

/// How one rule stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleStanding {
    /// The rule.
    #[serde(flatten)]
    pub rule: Rule,
    /// What law demands at least, where it does.
    pub law: Option<String>,
    /// Whether somebody should have looked at it again by now.
    pub is_review_overdue: bool,
}

/// How a class of payloads stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stored {
    /// As the inventory names it.
    pub artefact: String,
    /// How many.
    pub count: u64,
    /// When the oldest was put.
    pub oldest: Timestamp,
}

/// How it all stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RetentionStatus {
    /// The rules.
    pub rules: Vec<RuleStanding>,
    /// Payloads, by class.
    pub stored: Vec<Stored>,
    /// Holds in force.
    pub holds: Vec<Hold>,
    /// The last sweep.
    pub last_sweep: Option<LastSweep>,
    /// Whether it is too long ago.
    pub is_sweep_late: bool,
    /// What a person must end by now: the rule's id, and how.
    pub by_hand: Vec<(String, String)>,
    /// Patients of whom nothing has happened for as long as the rules say, and who are not on hold: a person
    /// decides to shred them. At most [`DUE_MAX`].
    pub to_shred: Vec<PatientToken>,
}

/// Most patients that a status names.
pub const DUE_MAX: usize = 100;

/// Rows of tokens that a status looks through for them. Tokens of patients sort before those of other things.
const ROWS_MAX: usize = 20_000;

impl Engine {
    /// How it stands with what is kept.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn retention_status(&self) -> Result<RetentionStatus, StoreFailed> {
        let now = self.now();
        let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
        let tenant = &self.config.tenant;
        let rules = self.retention.all().iter().map(|rule| RuleStanding {
            law: self
                .retention
                .minimum(rule)
                .map(|it| format!("{}: {}", it.at_least, it.source)),
            is_review_overdue: rule.review_by < today,
            rule: rule.clone(),
        });
        let counts = self.store.payload_counts(tenant).await?;
        let last_sweep = self.last_sweep().await?;
        let holds = self.legal_holds().await?;
        let first = self.store.leaves(tenant, 0, 1).await?;
        let began = match first.first() {
            Some(leaf) => {
                let entry =
                    Recorded::from_leaf(leaf).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
                Some(entry.at)
            }
            None => None,
        };
        // A server that has just begun has not swept yet.
        let since = last_sweep.as_ref().map(|last| last.at).or(began);
        let is_sweep_late =
            since.is_some_and(|since| now.duration_since(since).as_secs() > SWEEP_LATE_S);
        let of_ledger =
            |rule: &&Rule| rule.at_end == AtEnd::ByHand && rule.artefact.starts_with("ledger/");
        let by_hand = self
            .retention
            .all()
            .iter()
            .filter(of_ledger)
            .filter(|rule| began.is_some_and(|began| rule.keep.after(began) <= now))
            .map(|rule| (rule.id.clone(), rule.how.clone().unwrap_or_default()))
            .collect();
        Ok(RetentionStatus {
            rules: rules.collect(),
            stored: counts.iter().map(stored).collect(),
            to_shred: self.due_for_shredding(&holds, now).await?,
            holds: holds.all().to_vec(),
            last_sweep,
            is_sweep_late,
            by_hand,
        })
    }
}

impl Engine {
    async fn due_for_shredding(
        &self,
        holds: &Holds,
        now: Timestamp,
    ) -> Result<Vec<PatientToken>, StoreFailed> {
        let mut due = Vec::new();
        let rule = self.retention.of_artefact("record/token");
        let Some(rule) = rule.filter(|rule| rule.at_end == AtEnd::Shred) else {
            return Ok(due);
        };
        let mut after = None;
        let mut looked_at = 0;
        while looked_at < ROWS_MAX {
            let listing = Listing {
                after,
                ..Listing::default()
            };
            let tenant = &self.config.tenant;
            let rows = self.store.records(tenant, TOKENS, listing, now).await?;
            for row in &rows {
                // Tokens of other things are named otherwise.
                let Ok(patient) = row.key.key.parse::<PatientToken>() else {
                    continue;
                };
                let last = self.last_activity(patient).await?;
                let is_due = last.is_some_and(|last| rule.keep.after(last) <= now);
                if is_due && holds.on(Some(patient)).is_none() {
                    due.push(patient);
                }
                if due.len() >= DUE_MAX {
                    return Ok(due);
                }
            }
            looked_at = looked_at.saturating_add(rows.len());
            if rows.len() < LISTED_MAX as usize {
                return Ok(due);
            }
            after = rows
                .last()
                .map(|last| (last.sort.clone(), last.key.key.clone()));
        }
        Ok(due)
    }
}

fn stored(count: &PayloadCount) -> Stored {
    Stored {
        artefact: format!("payload/{}", count.class.as_str()),
        count: count.count,
        oldest: count.oldest,
    }
}
