//! Who may ask for an exception, who may grant one, who looks at it afterwards: `rules/exceptions.toml`.
//! What an exception can lift is not here: the policies say it.

use chaperone_core::change::ChangeClass;
use chaperone_core::ids::AccountName;
use chaperone_core::principal::{Human, Role};
use chaperone_policy::Bundle;
use serde::Deserialize;

use crate::context::StartFailed;
use crate::tables::table;

/// The file of the bundle.
const FILE: &str = "rules/exceptions.toml";
/// Longest times that a table may give: what is open for longer is no exception any more.
const REQUEST_HOURS_MAX: i64 = 7 * 24;
const USE_MINUTES_MAX: i64 = 24 * 60;
const REVIEW_DAYS_MAX: i64 = 30;

/// The table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExceptionRules {
    #[expect(dead_code, reason = "read so that it must be there")]
    source: String,
    #[expect(dead_code, reason = "read so that it must be there")]
    owner: String,
    #[expect(dead_code, reason = "read so that it must be there")]
    reviewed: String,
    #[expect(dead_code, reason = "read so that it must be there")]
    review_by: String,
    request: Vec<Role>,
    request_hours: i64,
    review: Vec<Role>,
    review_days: i64,
    #[serde(default)]
    classes: Vec<ClassRule>,
    #[serde(default)]
    teams: Vec<Team>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClassRule {
    class: ChangeClass,
    grant: Vec<Role>,
    use_minutes: i64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Team {
    owner: String,
    accounts: Vec<AccountName>,
}

impl ExceptionRules {
    /// The table of a bundle.
    ///
    /// # Errors
    /// [`StartFailed::Table`] says what is wrong.
    pub(crate) fn of(bundle: &Bundle) -> Result<Self, StartFailed> {
        let rules: Self = table(bundle, FILE)?;
        match rules.problem() {
            Some(why) => Err(StartFailed::Table { file: FILE, why }),
            None => Ok(rules),
        }
    }

    fn problem(&self) -> Option<String> {
        if self.request.is_empty() || self.review.is_empty() {
            return Some("`request` and `review` must each name a role".to_owned());
        }
        let spans = [
            ("request_hours", self.request_hours, REQUEST_HOURS_MAX),
            ("review_days", self.review_days, REVIEW_DAYS_MAX),
        ];
        for (name, value, most) in spans {
            if !(1..=most).contains(&value) {
                return Some(format!("`{name}` must be 1 to {most}"));
            }
        }
        for (at, rule) in self.classes.iter().enumerate() {
            let class = rule.class;
            if class == ChangeClass::M5 {
                return Some("class M5 has no exceptions".to_owned());
            }
            if self.classes.iter().take(at).any(|it| it.class == class) {
                return Some(format!("class {class} is there twice"));
            }
            if rule.grant.is_empty() || rule.grant.contains(&Role::ItAdmin) {
                return Some(format!(
                    "class {class}: `grant` names roles, and `it_admin` is none of them"
                ));
            }
            if !(1..=USE_MINUTES_MAX).contains(&rule.use_minutes) {
                return Some(format!(
                    "class {class}: `use_minutes` must be 1 to {USE_MINUTES_MAX}"
                ));
            }
        }
        None
    }

    pub(crate) fn may_request(&self, by: &Human) -> bool {
        self.request.iter().any(|role| by.holds(*role))
    }

    pub(crate) fn may_review(&self, by: &Human) -> bool {
        !by.is_in_training() && self.review.iter().any(|role| by.holds(*role))
    }

    /// Roles that may grant an exception for a class; nothing where there is none.
    pub(crate) fn granters(&self, class: ChangeClass) -> &[Role] {
        let rule = self.classes.iter().find(|rule| rule.class == class);
        rule.map_or(&[], |rule| rule.grant.as_slice())
    }

    pub(crate) fn may_grant(&self, by: &Human, class: ChangeClass) -> bool {
        !by.is_in_training() && self.granters(class).iter().any(|role| by.holds(*role))
    }

    /// Roles that look at used exceptions.
    pub(crate) fn reviewers(&self) -> &[Role] {
        &self.review
    }

    pub(crate) fn request_s(&self) -> i64 {
        self.request_hours.saturating_mul(3_600)
    }

    pub(crate) fn use_s(&self, class: ChangeClass) -> i64 {
        let rule = self.classes.iter().find(|rule| rule.class == class);
        rule.map_or(0, |rule| rule.use_minutes.saturating_mul(60))
    }

    pub(crate) fn review_s(&self) -> i64 {
        self.review_days.saturating_mul(24 * 3_600)
    }

    /// The people of a team, by account; nothing where nobody said who they are.
    pub(crate) fn team(&self, owner: &str) -> Option<&[AccountName]> {
        let team = self.teams.iter().find(|team| team.owner == owner);
        team.map(|team| team.accounts.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_opens_too_much_is_refused() {
        let text = |classes: &str, hours: i64| {
            format!(
                "source = \"s\"\nowner = \"o\"\nreviewed = \"2026-01-01\"\nreview_by = \"2027-01-01\"\n\
                 request = [\"rn\"]\nrequest_hours = {hours}\nreview = [\"privacy\"]\nreview_days = 7\n{classes}"
            )
        };
        let class = |name: &str, role: &str, minutes: i64| {
            format!("[[classes]]\nclass = \"{name}\"\ngrant = [{role}]\nuse_minutes = {minutes}\n")
        };
        let problem = |text: String| toml::from_str::<ExceptionRules>(&text).unwrap().problem();
        assert_eq!(problem(text(&class("M4", "\"clinician\"", 15), 24)), None);
        for (classes, hours) in [
            (class("M5", "\"clinician\"", 15), 24),
            (class("M4", "\"it_admin\"", 15), 24),
            (class("M4", "", 15), 24),
            (class("M4", "\"clinician\"", 0), 24),
            (class("M4", "\"clinician\"", USE_MINUTES_MAX + 1), 24),
            (class("M4", "\"clinician\"", 15).repeat(2), 24),
            (String::new(), REQUEST_HOURS_MAX + 1),
        ] {
            assert!(problem(text(&classes, hours)).is_some(), "{classes}{hours}");
        }
    }
}
