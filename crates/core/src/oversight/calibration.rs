//! How far a claim of confidence can be believed: counts of what people found right and wrong, and one number from
//! them.
//!
//! ```text
//! all decisions on the combination ─▶ lower bound ┐
//! those with claims of the same size ─▶ lower bound ├─▶ the least of the three, or nothing while there are too few
//! the claim itself ───────────────────────────────┘
//! ```
//! A claim can only take away: with it the number is never higher than without.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Seconds of a week, by which counts are kept.
const WEEK_S: i64 = 7 * 24 * 3_600;
/// Points of confidence that are counted together.
pub const STEP_PCT: u8 = 5;
/// Under which claims are counted that were not made.
const UNCLAIMED: u8 = u8::MAX;
/// Most weeks that are kept, whatever the rules say.
pub const WEEKS_MAX: i64 = 104;
/// z of the Wilson interval at 95 percent, two-sided.
const Z: f64 = 1.96;

/// How much makes a number, and how old it may be. Data of the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationRules {
    /// Fewest decisions on the combination; fewer are none.
    pub decisions_min: u32,
    /// Fewest decisions with claims of one size for that size to have a number of its own.
    pub bin_decisions_min: u32,
    /// Where sizes of claims begin, in percent, ascending, in steps of [`STEP_PCT`].
    pub bins_from_pct: Vec<u8>,
    /// Weeks after which a decision counts no more.
    pub weeks_max: u32,
    /// An approval that was quicker than this many milliseconds shows nothing and is not counted.
    pub review_ms_min: u64,
}

impl CalibrationRules {
    /// What is wrong with the rules.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), String> {
        if self.decisions_min == 0 || self.bin_decisions_min == 0 {
            return Err("calibration needs at least one decision".to_owned());
        }
        if self.weeks_max == 0 || i64::from(self.weeks_max) > WEEKS_MAX {
            return Err(format!("weeks_max is 1 to {WEEKS_MAX}"));
        }
        let ascends = self
            .bins_from_pct
            .iter()
            .zip(self.bins_from_pct.iter().skip(1))
            .all(|(one, next)| one < next);
        let in_steps = self
            .bins_from_pct
            .iter()
            .all(|from| *from < 100 && from.is_multiple_of(STEP_PCT));
        if ascends && in_steps {
            Ok(())
        } else {
            Err(format!(
                "bins_from_pct ascends in steps of {STEP_PCT}, below 100"
            ))
        }
    }

    /// The bin of a claim: how many edges lie at or below it.
    fn bin(&self, step: u8) -> usize {
        let from = step.saturating_mul(STEP_PCT);
        self.bins_from_pct
            .iter()
            .filter(|edge| **edge <= from)
            .count()
    }
}

/// What people found right and wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Approved unchanged, or agreed to afterwards.
    pub right: u32,
    /// Rejected, edited, disagreed with or undone.
    pub wrong: u32,
}

impl Count {
    /// Both.
    pub fn all(self) -> u32 {
        self.right.saturating_add(self.wrong)
    }

    fn add(&mut self, other: Count) {
        self.right = self.right.saturating_add(other.right);
        self.wrong = self.wrong.saturating_add(other.wrong);
    }
}

/// Where one decision is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    week: i64,
    step: u8,
}

impl Cell {
    /// Of a decision at a time, by seconds since 1970, on a claim.
    pub fn of(at_s: i64, claimed_pct: Option<u8>) -> Self {
        Self {
            week: at_s.div_euclid(WEEK_S),
            step: claimed_pct.map_or(UNCLAIMED, |claim| claim.min(100) / STEP_PCT),
        }
    }

    /// The week, counted from 1970.
    pub fn week(self) -> i64 {
        self.week
    }
}

/// Counts of one combination, by week and size of claim.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counts(BTreeMap<i64, BTreeMap<u8, Count>>);

impl Counts {
    /// Counts one decision; weeks that are too old for any rules go.
    pub fn add(&mut self, cell: Cell, right: bool) {
        let one = Count {
            right: u32::from(right),
            wrong: u32::from(!right),
        };
        let week = self.0.entry(cell.week).or_default();
        week.entry(cell.step).or_default().add(one);
        let newest = self.0.keys().next_back().copied().unwrap_or(cell.week);
        self.0.retain(|week, _| *week > newest - WEEKS_MAX);
    }

    /// What was counted as right turned out to be wrong.
    pub fn turned_out_wrong(&mut self, cell: Cell) {
        if let Some(count) = self
            .0
            .get_mut(&cell.week)
            .and_then(|week| week.get_mut(&cell.step))
            && count.right > 0
        {
            count.right -= 1;
            count.wrong = count.wrong.saturating_add(1);
        }
    }

    /// What counts at a time.
    pub fn total(&self, rules: &CalibrationRules, now_s: i64) -> Count {
        self.sum(rules, now_s, |_| true)
    }

    fn sum(&self, rules: &CalibrationRules, now_s: i64, counts: impl Fn(u8) -> bool) -> Count {
        let oldest = now_s.div_euclid(WEEK_S) - i64::from(rules.weeks_max);
        let mut sum = Count::default();
        for week in self.0.range(oldest..).map(|(_, week)| week) {
            for (_, count) in week.iter().filter(|(step, _)| counts(**step)) {
                sum.add(*count);
            }
        }
        sum
    }

    /// Calibrated confidence in percent; nothing while too few decisions count.
    ///
    /// # Source
    /// Requirement R094: without calibration evidence, confidence counts as none. Wilson (1927), the score interval.
    pub fn confidence_pct(
        &self,
        rules: &CalibrationRules,
        now_s: i64,
        claimed_pct: Option<u8>,
    ) -> Option<u8> {
        let all = self.total(rules, now_s);
        if all.all() < rules.decisions_min {
            return None;
        }
        let of_all = lower_bound_pct(all);
        let Some(claim) = claimed_pct else {
            return Some(of_all);
        };
        let bin = rules.bin(claim.min(100) / STEP_PCT);
        let of_size = self.sum(rules, now_s, |step| {
            step != UNCLAIMED && rules.bin(step) == bin
        });
        let of_size = match of_size.all() < rules.bin_decisions_min {
            true => of_all,
            false => lower_bound_pct(of_size),
        };
        Some(of_all.min(of_size).min(claim))
    }
}

/// The lower end of the Wilson interval for the share of right decisions, in whole percent, rounded down.
fn lower_bound_pct(count: Count) -> u8 {
    let n = f64::from(count.all());
    if n == 0.0 {
        return 0;
    }
    let share = f64::from(count.right) / n;
    let centre = share + Z * Z / (2.0 * n);
    let spread = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let lower = (centre - spread) / (1.0 + Z * Z / n);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0 to 100 before"
    )]
    let pct = (lower * 100.0).floor().clamp(0.0, 100.0) as u8;
    pct
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: i64 = 1_800_000_000;

    fn rules() -> CalibrationRules {
        CalibrationRules {
            decisions_min: 50,
            bin_decisions_min: 20,
            bins_from_pct: vec![60, 80, 90],
            weeks_max: 26,
            review_ms_min: 1_500,
        }
    }

    fn counted(decisions: &[(Option<u8>, u32, u32)]) -> Counts {
        let mut counts = Counts::default();
        for (claim, right, wrong) in decisions {
            for n in 0..right + wrong {
                counts.add(Cell::of(NOW_S, *claim), n < *right);
            }
        }
        counts
    }

    #[test]
    fn too_few_decisions_are_none_and_the_nearest_number_counts() {
        let nearly = counted(&[(None, 49, 0)]);
        assert_eq!(nearly.confidence_pct(&rules(), NOW_S, None), None);
        assert_eq!(nearly.confidence_pct(&rules(), NOW_S, Some(99)), None);
        let enough = counted(&[(None, 50, 0)]);
        assert_eq!(enough.confidence_pct(&rules(), NOW_S, None), Some(92));
    }

    #[test]
    fn saying_more_never_gives_more_than_saying_nothing() {
        let histories = [
            counted(&[(None, 60, 0)]),
            counted(&[(Some(95), 200, 0), (Some(65), 10, 20)]),
            counted(&[(Some(95), 10, 40), (Some(65), 100, 0), (None, 30, 2)]),
            counted(&[(Some(100), 500, 1)]),
        ];
        for counts in &histories {
            let silent = counts.confidence_pct(&rules(), NOW_S, None).unwrap();
            for claim in 0..=100 {
                let said = counts.confidence_pct(&rules(), NOW_S, Some(claim)).unwrap();
                assert!(said <= silent && said <= claim, "{claim}: {said}");
            }
        }
    }

    #[test]
    fn claims_of_a_size_that_were_often_wrong_count_for_less() {
        let counts = counted(&[(Some(95), 15, 15), (Some(70), 300, 0)]);
        let of = |claim| counts.confidence_pct(&rules(), NOW_S, Some(claim)).unwrap();
        assert!(of(95) < 60, "{}", of(95));
        assert_eq!(of(70), 70);
        // Nineteen of a size are too few to speak for it; twenty are not.
        let few = counted(&[(Some(95), 0, 19), (Some(70), 500, 0)]);
        let enough = counted(&[(Some(95), 0, 20), (Some(70), 500, 0)]);
        assert!(few.confidence_pct(&rules(), NOW_S, Some(95)).unwrap() > 90);
        assert_eq!(enough.confidence_pct(&rules(), NOW_S, Some(95)), Some(0));
    }

    #[test]
    fn old_decisions_count_no_more_and_do_not_pile_up() {
        let mut counts = counted(&[(None, 80, 0)]);
        let later = |weeks: i64| NOW_S + weeks * WEEK_S;
        assert!(counts.confidence_pct(&rules(), later(26), None).is_some());
        assert_eq!(counts.confidence_pct(&rules(), later(27), None), None);
        for week in 0..3 * WEEKS_MAX {
            counts.add(Cell::of(later(week), None), true);
        }
        assert_eq!(counts.0.len() as i64, WEEKS_MAX);
    }

    #[test]
    fn what_turned_out_wrong_is_counted_once() {
        let mut counts = counted(&[(Some(90), 1, 0)]);
        let cell = Cell::of(NOW_S, Some(90));
        counts.turned_out_wrong(cell);
        counts.turned_out_wrong(cell);
        counts.turned_out_wrong(Cell::of(NOW_S, None));
        let total = counts.total(&rules(), NOW_S);
        assert_eq!((total.right, total.wrong), (0, 1));
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        assert!(rules().check().is_ok());
        let with = |change: fn(&mut CalibrationRules)| {
            let mut rules = rules();
            change(&mut rules);
            rules.check()
        };
        assert!(with(|it| it.decisions_min = 0).is_err());
        assert!(with(|it| it.weeks_max = 0).is_err());
        assert!(with(|it| it.weeks_max = 105).is_err());
        assert!(with(|it| it.bins_from_pct = vec![90, 80]).is_err());
        assert!(with(|it| it.bins_from_pct = vec![83]).is_err());
        assert!(with(|it| it.bins_from_pct = vec![100]).is_err());
    }
}
