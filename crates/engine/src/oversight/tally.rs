//! What people found, counted: one row for each combination, and what one entry of the ledger adds to it.
//!
//! Rows are projections: they hold names of models, prompts and policies and numbers, and nothing about patients.

use std::collections::BTreeSet;

use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, Recorded};
use chaperone_core::gate::GateLevel;
use chaperone_core::ids::{IntentId, PolicyId, ToolName};
use chaperone_core::oversight::calibration::{Cell, Counts};
use chaperone_core::oversight::{Combination, Maker, OversightEvent, Verdict};
use chaperone_core::ports::StoreFailed;
use chaperone_core::writeback::{
    Illegal, Proposal, RefusedBy, Ruled, StateName, Writeback, WritebackEvent,
};
use serde::{Deserialize, Serialize};

/// Rows by the key of their combination.
pub(super) const TALLIES: &str = "oversight_tally";

/// Under what a decision is counted: a combination by its row, to judge the row; or one tool of it whatever the row,
/// to calibrate confidence. What an agent does well with one tool says nothing of another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Counted {
    pub(super) combination: Combination,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) tool: Option<ToolName>,
}

impl Counted {
    /// What calibrates a tool.
    pub(super) fn tool(maker: &Maker, intent: &IntentId, tool: &ToolName) -> Self {
        Self {
            combination: Combination::of(maker, intent, None),
            tool: Some(tool.clone()),
        }
    }

    /// What it is filed under.
    pub(super) fn key(&self) -> Digest {
        let tool = self.tool.as_ref().map_or("", ToolName::as_str);
        let combination = self.combination.key();
        Digest::of_parts([&combination.as_bytes()[..], tool.as_bytes()])
    }
}

/// What is known of one combination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) of: Counted,
    /// Which folding it is of: rows of an earlier one are not added to.
    pub(super) generation: u64,
    pub(super) counts: Counts,
    /// What people said of the newest that were looked at, newest last; begins anew when the row is demoted.
    pub(super) verdicts: Vec<bool>,
    /// How many were drawn in the week that is named.
    pub(super) drawn: (i64, u32),
}

impl Tally {
    pub(super) fn new(of: Counted, generation: u64) -> Self {
        Self {
            of,
            generation,
            counts: Counts::default(),
            verdicts: Vec::new(),
            drawn: (0, 0),
        }
    }

    /// How many were drawn in a week.
    pub(super) fn drawn_in(&self, week: i64) -> u32 {
        match self.drawn {
            (of, count) if of == week => count,
            _ => 0,
        }
    }

    pub(super) fn draw(&mut self, week: i64) {
        self.drawn = (week, self.drawn_in(week).saturating_add(1));
    }

    /// Takes a verdict; says how many of how many disagreed when that is more than may, and begins anew then.
    pub(super) fn take(
        &mut self,
        verdict: Verdict,
        window: u32,
        disagreed_max: u32,
    ) -> Option<(u32, u32)> {
        self.verdicts.push(verdict == Verdict::Agree);
        let window = usize::try_from(window).unwrap_or(usize::MAX);
        let too_old = self.verdicts.len().saturating_sub(window);
        self.verdicts.drain(..too_old);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let disagreed = count(self.verdicts.iter().filter(|agreed| !**agreed).count());
        (disagreed > disagreed_max).then(|| {
            let reviewed = count(self.verdicts.len());
            self.verdicts.clear();
            (reviewed, disagreed)
        })
    }
}

/// A write-back as it stood after one of its entries.
pub(super) struct Seen {
    state: Writeback,
    pub(super) drawn: bool,
    pub(super) verdict: Option<Verdict>,
    /// What the entry itself adds.
    pub(super) judged: Option<Judged>,
}

/// What an entry says of the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// It was right or wrong.
    Counted(Cell, bool),
    /// It had been counted as right, and was not.
    TurnedOutWrong(Cell),
}

impl Seen {
    /// Folds a stream up to an entry; nothing where no proposal stands at its beginning.
    ///
    /// # Errors
    /// A history that Chaperone could not have written.
    pub(super) fn at(
        events: &[Recorded],
        version: u64,
        review_ms_min: u64,
    ) -> Result<Option<Seen>, StoreFailed> {
        let corrupt = |illegal: Illegal| StoreFailed::Corrupt(illegal.to_string());
        let mut seen: Option<Seen> = None;
        let mut counted: Option<(Cell, bool)> = None;
        for recorded in events.iter().filter(|it| it.version <= version) {
            let finding = match (&recorded.event, seen.take()) {
                (Event::Writeback(event), None) => {
                    let state = Writeback::begin(event).map_err(corrupt)?;
                    seen = Some(Seen {
                        state,
                        drawn: false,
                        verdict: None,
                        judged: None,
                    });
                    None
                }
                (_, None) => return Ok(None),
                (Event::Writeback(event), Some(before)) => {
                    let was = before.state.name();
                    let state = before.state.evolve(event, recorded.at).map_err(corrupt)?;
                    let finding = finding(event, was, state.name(), review_ms_min);
                    seen = Some(Seen { state, ..before });
                    finding
                }
                (Event::Oversight(event), Some(mut before)) => {
                    let finding = match event {
                        OversightEvent::Sampled => {
                            before.drawn = true;
                            None
                        }
                        OversightEvent::Reviewed { verdict, .. } => {
                            before.verdict = Some(*verdict);
                            Some(*verdict == Verdict::Agree)
                        }
                        _ => None,
                    };
                    seen = Some(before);
                    finding
                }
                (_, Some(before)) => {
                    seen = Some(before);
                    None
                }
            };
            if let Some(seen) = &mut seen {
                let claimed = seen.maker().and_then(|maker| maker.claimed_pct);
                let cell = Cell::of(recorded.at.as_second(), claimed);
                (seen.judged, counted) = match (finding, counted) {
                    (None, counted) => (None, counted),
                    (Some(right), None) => {
                        (Some(Judged::Counted(cell, right)), Some((cell, right)))
                    }
                    (Some(false), Some((earlier, true))) => (
                        Some(Judged::TurnedOutWrong(earlier)),
                        Some((earlier, false)),
                    ),
                    (Some(_), counted) => (None, counted),
                };
            }
        }
        Ok(seen)
    }

    pub(super) fn proposal(&self) -> &Proposal {
        self.state.proposal()
    }

    pub(super) fn ruled(&self) -> Option<&Ruled> {
        self.state.ruled()
    }

    pub(super) fn maker(&self) -> Option<&Maker> {
        self.state.proposal().maker.as_ref()
    }

    /// Whether it is at the EHR and nobody agreed to it first.
    pub(super) fn went_through_alone(&self) -> bool {
        self.state.name() == StateName::Delivered
            && self.state.approvals().is_empty()
            && self
                .ruled()
                .is_some_and(|ruled| ruled.ruling.gate.level() <= GateLevel::AutoVerified)
    }

    /// The policies that determined its gate.
    pub(super) fn rows(&self) -> &[PolicyId] {
        self.ruled()
            .map_or(&[], |ruled| &ruled.ruling.determining[..])
    }

    /// Under what it is counted: its tool, or those of its changes where there are several, then each row.
    pub(super) fn counted(&self) -> Vec<Counted> {
        let Some(maker) = self.maker() else {
            return Vec::new();
        };
        let proposal = self.proposal();
        let by_row = |row: &PolicyId| Counted {
            combination: Combination::of(maker, &proposal.intent, Some(row.clone())),
            tool: None,
        };
        let entries = self.ruled().map_or(&[][..], |ruled| &ruled.entries);
        let only = entries.is_empty().then_some(&proposal.tool);
        let tools: BTreeSet<&ToolName> = only
            .into_iter()
            .chain(entries.iter().map(|entry| &entry.tool))
            .collect();
        let by_tool = |tool| Counted::tool(maker, &proposal.intent, tool);
        tools
            .into_iter()
            .map(by_tool)
            .chain(self.rows().iter().map(by_row))
            .collect()
    }
}

/// What a move says of the decision: right, wrong, or nothing.
fn finding(
    event: &WritebackEvent,
    was: StateName,
    now: StateName,
    review_ms_min: u64,
) -> Option<bool> {
    match event {
        WritebackEvent::Approved { approval } => {
            let is_last = now != StateName::AwaitingApproval;
            (is_last && approval.review_ms >= review_ms_min).then_some(true)
        }
        WritebackEvent::Refused {
            refused: RefusedBy::Human { .. } | RefusedBy::Edited { .. },
        } => (was == StateName::AwaitingApproval).then_some(false),
        WritebackEvent::Compensated { .. } => Some(false),
        _ => None,
    }
}

/// Whether an entry may say anything.
pub(super) fn is_telling(event: &Event) -> bool {
    matches!(
        event,
        Event::Oversight(OversightEvent::Sampled | OversightEvent::Reviewed { .. })
            | Event::Writeback(
                WritebackEvent::Approved { .. }
                    | WritebackEvent::Delivered(_)
                    | WritebackEvent::Compensated { .. }
                    | WritebackEvent::Refused {
                        refused: RefusedBy::Human { .. } | RefusedBy::Edited { .. }
                    }
            )
    )
}
