//! The rules of overseeing: `rules/oversight.toml`, read once. Data; nothing is decided here.

use chaperone_core::change::ChangeClass;
use chaperone_core::oversight::calibration::CalibrationRules;
use chaperone_core::principal::Role;
use chaperone_policy::Bundle;
use serde::Deserialize;

use crate::context::StartFailed;

/// The file of the bundle.
const FILE: &str = "rules/oversight.toml";
/// Most verdicts that a window holds.
const WINDOW_MAX: u32 = 1_000;
/// Most approvals of one person that are remembered.
pub(super) const APPROVALS_MAX: u32 = 200;
/// Most steps of one class.
const STEPS_MAX: usize = 8;

/// The rules of a bundle.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OversightRules {
    owner: String,
    source: String,
    reviewed: String,
    review_by: String,
    pub(super) calibration: CalibrationRules,
    pub(super) sampling: Sampling,
    pub(super) drift: Drift,
    pub(super) pace: Pace,
    overdue: Vec<Overdue>,
}

/// What is drawn for a look afterwards.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sampling {
    /// Of ten thousand, how many.
    pub(super) per_ten_thousand: u16,
    /// Until so many of a week are drawn, all are.
    pub(super) weekly_min: u32,
    /// Who looks.
    pub(super) reviewers: Vec<Role>,
}

/// When a row is demoted.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Drift {
    /// Over how many verdicts.
    pub(super) window: u32,
    /// Most disagreement, in percent of the window.
    pub(super) disagreed_pct_max: u8,
    /// Who may restore it.
    pub(super) restored_by: Vec<Role>,
}

impl Drift {
    /// Most verdicts of a window that may disagree.
    pub(super) fn disagreed_max(&self) -> u32 {
        self.window
            .saturating_mul(u32::from(self.disagreed_pct_max))
            / 100
    }
}

/// How fast one person may approve.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pace {
    /// In how many seconds.
    pub(super) within_s: i64,
    /// How many approvals at most.
    pub(super) approvals_max: u32,
    /// Of how many approvals at least a median is taken.
    pub(super) median_of_min: u32,
    /// The least median from opening to approving, in milliseconds.
    pub(super) median_ms_min: u64,
    /// For how many seconds they pause.
    pub(super) pause_s: i64,
    /// The class from which on nothing is held up.
    pub(super) urgent_from: ChangeClass,
}

/// When more people are told of a decision that waits.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Overdue {
    classes: Vec<ChangeClass>,
    /// Seconds after it was proposed.
    pub(super) after_s: i64,
    pub(super) tell: Vec<Role>,
}

impl OversightRules {
    /// The rules of a bundle.
    ///
    /// # Errors
    /// [`StartFailed::Table`] says what is wrong.
    pub(crate) fn of(bundle: &Bundle) -> Result<Self, StartFailed> {
        let wrong = |why: String| StartFailed::Table { file: FILE, why };
        let text = bundle.rule_text("oversight").ok_or_else(|| {
            wrong("it is missing; `chaperone init` writes one to start from".to_owned())
        })?;
        Self::parse(text).map_err(wrong)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let rules: Self = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let said = [
            &rules.owner,
            &rules.source,
            &rules.reviewed,
            &rules.review_by,
        ];
        if said.iter().any(|it| it.trim().is_empty()) {
            return Err("it must name its owner, its source and its reviews".to_owned());
        }
        rules.calibration.check()?;
        let (sampling, drift, pace) = (&rules.sampling, &rules.drift, &rules.pace);
        let unfit = [
            (
                sampling.per_ten_thousand > 10_000,
                "per_ten_thousand is at most 10000",
            ),
            (
                sampling.reviewers.is_empty() || drift.restored_by.is_empty(),
                "somebody must review, and somebody restore",
            ),
            (
                drift.restored_by.contains(&Role::ItAdmin)
                    || sampling.reviewers.contains(&Role::ItAdmin),
                "operators decide nothing clinical: it_admin neither reviews nor restores",
            ),
            (
                drift.window == 0 || drift.window > WINDOW_MAX || drift.disagreed_pct_max > 50,
                "the window is 1 to 1000 verdicts, and at most half of it may disagree",
            ),
            (
                pace.within_s <= 0 || pace.pause_s <= 0,
                "within_s and pace.pause_s are above 0",
            ),
            (
                pace.approvals_max == 0
                    || pace.approvals_max >= APPROVALS_MAX
                    || pace.median_of_min == 0
                    || pace.median_of_min > pace.approvals_max,
                "approvals_max is 1 to 199, and median_of_min at most as many",
            ),
            (
                rules
                    .overdue
                    .iter()
                    .any(|step| step.after_s <= 0 || step.tell.is_empty()),
                "each step of overdue comes after some seconds and tells somebody",
            ),
        ];
        if let Some((_, why)) = unfit.into_iter().find(|(is_wrong, _)| *is_wrong) {
            return Err(why.to_owned());
        }
        for class in [
            ChangeClass::M0,
            ChangeClass::M1,
            ChangeClass::M2,
            ChangeClass::M3,
            ChangeClass::M4,
            ChangeClass::M5,
        ] {
            let steps = rules.overdue_of(class);
            if steps.len() > STEPS_MAX {
                return Err(format!("a class has at most {STEPS_MAX} steps of overdue"));
            }
        }
        Ok(rules)
    }

    /// The steps of a class, in time.
    pub(super) fn overdue_of(&self, class: ChangeClass) -> Vec<&Overdue> {
        let mut steps: Vec<&Overdue> = self
            .overdue
            .iter()
            .filter(|step| step.classes.contains(&class))
            .collect();
        steps.sort_by_key(|step| step.after_s);
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: &str = include_str!("../../../../governance/rules/oversight.toml");

    #[test]
    fn the_default_rules_are_read_and_rules_that_hold_nobody_are_not() {
        let rules = OversightRules::parse(DEFAULT).unwrap();
        assert_eq!(rules.drift.disagreed_max(), 4);
        assert_eq!(rules.overdue_of(ChangeClass::M4).len(), 2);
        for (from, to) in [
            (
                "owner = \"chief medical information officer\"",
                "owner = \"\"",
            ),
            ("decisions_min = 50", "decisions_min = 0"),
            ("per_ten_thousand = 500", "per_ten_thousand = 10001"),
            ("restored_by = [\"clinician\", \"him\"]", "restored_by = []"),
            (
                "restored_by = [\"clinician\", \"him\"]",
                "restored_by = [\"it_admin\"]",
            ),
            ("window = 200", "window = 0"),
            ("disagreed_pct_max = 2", "disagreed_pct_max = 51"),
            ("approvals_max = 20", "approvals_max = 0"),
            ("approvals_max = 20", "approvals_max = 200"),
            ("median_of_min = 10", "median_of_min = 21"),
            ("pause_s = 300", "pause_s = 0"),
            ("tell = [\"scheduler\", \"ma_rn\"]", "tell = []"),
            ("weekly_min = 20", "weekly_min = 20\nfurther = 1"),
        ] {
            let changed = DEFAULT.replacen(from, to, 1);
            assert_ne!(changed, DEFAULT, "{from}");
            assert!(OversightRules::parse(&changed).is_err(), "{to}");
        }
    }
}
