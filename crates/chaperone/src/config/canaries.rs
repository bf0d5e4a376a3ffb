//! `[canaries]`: whether there are any, which there are only where staff were told.

use anyhow::bail;
use chaperone_core::Timestamp;
use chaperone_engine::canary::CanariesDisclosed;
use serde::Deserialize;

/// The section. Off without it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Canaries {
    #[serde(default)]
    on: bool,
    /// The day on which staff were told, `2026-11-01`.
    #[serde(default)]
    staff_told_on: Option<String>,
}

impl Canaries {
    /// On, with the day on which staff were told; or off.
    pub(super) fn disclosed(&self) -> anyhow::Result<Option<CanariesDisclosed>> {
        if !self.on {
            return Ok(None);
        }
        let Some(day) = &self.staff_told_on else {
            bail!(
                "`canaries.on` needs `canaries.staff_told_on`: tell staff that test proposals about invented patients may be among those they decide about, and say since which day they know"
            );
        };
        let Ok(since) = format!("{day}T00:00:00Z").parse::<Timestamp>() else {
            bail!("`canaries.staff_told_on` ({day}) is no day; write it as 2026-11-01");
        };
        Ok(Some(CanariesDisclosed { since }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TEMPLATE;

    #[test]
    fn there_are_canaries_only_where_staff_were_told() {
        let of = |text: &str| toml::from_str::<Canaries>(text).unwrap().disclosed();
        assert!(of("").unwrap().is_none());
        assert!(
            of("on = false\nstaff_told_on = \"2026-11-01\"")
                .unwrap()
                .is_none()
        );
        let on = of("on = true\nstaff_told_on = \"2026-11-01\"")
            .unwrap()
            .unwrap();
        assert_eq!(on.since.to_string(), "2026-11-01T00:00:00Z");
        for undisclosed in [
            "on = true",
            "on = true\nstaff_told_on = \"\"",
            "on = true\nstaff_told_on = \"soon\"",
            "on = true\nstaff_told_on = \"2026-02-30\"",
        ] {
            assert!(of(undisclosed).is_err(), "{undisclosed}");
        }
    }

    #[test]
    fn what_the_template_says_of_canaries_is_a_section() {
        let (_, section) = TEMPLATE.split_once("# [canaries]\n").unwrap();
        let section: String = section
            .lines()
            .map_while(|line| line.strip_prefix("# "))
            .map(|line| format!("{line}\n"))
            .collect();
        let section: Canaries = toml::from_str(&section).unwrap();
        assert!(section.disclosed().unwrap().is_some());
    }
}
