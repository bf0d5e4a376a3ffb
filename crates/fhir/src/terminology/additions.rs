//! Curated additions: codes that the loaded systems lack, as data with source, owner and date.
//!
//! An addition makes codes known. It never makes a system complete: what neither the system nor an
//! addition lists is as undecided, or as unknown, as it was before.
//! Start at [`Additions::parse`]; the release's own stand in `governance/profiles/terminology.toml`.

use serde::Deserialize;

/// The additions that this release brings.
const OF_THIS_RELEASE: &str = include_str!("../../../../governance/profiles/terminology.toml");
/// Most codes in all additions together.
const CODES_MAX: usize = 100_000;

/// Curated additions of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Additions {
    /// Who answers for them: a role, not a person.
    pub owner: String,
    /// When they were last reviewed, `YYYY-MM-DD`.
    pub reviewed: String,
    /// When they are to be reviewed again, `YYYY-MM-DD`.
    pub review_by: String,
    /// Additions, at most one per system.
    pub additions: Vec<Addition>,
}

/// Codes added to one system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addition {
    /// Stable id.
    pub id: String,
    /// The code system.
    pub system: String,
    /// Why it is needed.
    pub why: String,
    /// Where the codes come from.
    pub source: String,
    /// As of when, `YYYY-MM-DD`.
    pub source_date: String,
    /// The codes.
    pub codes: Vec<AddedCode>,
}

/// One added code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddedCode {
    /// The code.
    pub code: String,
    /// What to show for it.
    pub display: String,
    /// Other words for it.
    #[serde(default)]
    pub designations: Vec<String>,
    /// The code above it, in the system or added before.
    #[serde(default)]
    pub parent: Option<String>,
    /// UCUM units in which its value is given, if it has one.
    #[serde(default)]
    pub units: Vec<String>,
}

/// Why additions could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AdditionsError {
    /// Not TOML, or not of this shape.
    #[error("the additions cannot be read")]
    Shape(#[source] Box<toml::de::Error>),
    /// Two additions for one system.
    #[error("there are two additions for `{0}`")]
    SystemTwice(String),
    /// More than the limit.
    #[error("there are more than {CODES_MAX} codes")]
    TooMany,
}

impl Additions {
    /// Reads additions from TOML.
    ///
    /// # Errors
    /// The text has another shape, names a system twice, or holds too many codes.
    pub fn parse(text: &str) -> Result<Self, AdditionsError> {
        let it: Self =
            toml::from_str(text).map_err(|error| AdditionsError::Shape(Box::new(error)))?;
        for (index, addition) in it.additions.iter().enumerate() {
            if it
                .additions
                .iter()
                .take(index)
                .any(|before| before.system == addition.system)
            {
                return Err(AdditionsError::SystemTwice(addition.system.clone()));
            }
        }
        let codes: usize = it.additions.iter().map(|it| it.codes.len()).sum();
        if codes > CODES_MAX {
            return Err(AdditionsError::TooMany);
        }
        Ok(it)
    }

    /// The additions that this release brings.
    #[must_use]
    pub fn of_this_release() -> Self {
        // A unit test reads the same text, so it has the right shape.
        Self::parse(OF_THIS_RELEASE).unwrap_or_default()
    }

    /// What is added to a system.
    #[must_use]
    pub fn of_system(&self, system: &str) -> Option<&Addition> {
        self.additions.iter().find(|it| it.system == system)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminology::ucum::Ucum;

    #[test]
    fn the_additions_of_this_release_are_sound() {
        let additions = Additions::parse(OF_THIS_RELEASE).unwrap();
        assert!(!additions.owner.is_empty() && additions.review_by > additions.reviewed);
        let ucum = Ucum::default();
        for addition in &additions.additions {
            assert!(!addition.source.is_empty() && addition.source_date.len() == 10);
            let mut codes: Vec<_> = addition.codes.iter().map(|it| &it.code).collect();
            codes.sort_unstable();
            codes.dedup();
            assert_eq!(codes.len(), addition.codes.len(), "{}", addition.id);
            for unit in addition.codes.iter().flat_map(|it| &it.units) {
                assert!(ucum.unit(unit).is_ok(), "{unit}");
            }
            if addition.system == "http://loinc.org" {
                for code in &codes {
                    assert!(has_loinc_check_digit(code), "{code}");
                }
            }
        }
    }

    /// LOINC codes end in a Luhn (mod 10) check digit.
    fn has_loinc_check_digit(code: &str) -> bool {
        let (number, check) = code.split_once('-').unwrap();
        let sum: u32 = number
            .chars()
            .rev()
            .enumerate()
            .map(|(index, digit)| {
                let digit = digit.to_digit(10).unwrap() * (2 - index as u32 % 2);
                digit / 10 + digit % 10
            })
            .sum();
        check == ((10 - sum % 10) % 10).to_string()
    }

    #[test]
    fn a_system_stands_once() {
        let text = |systems: [&str; 2]| {
            let addition = |system: &str| {
                format!(
                    "[[additions]]\nid = 'a'\nsystem = '{system}'\nwhy = ''\nsource = ''\nsource_date = ''\ncodes = []\n"
                )
            };
            format!(
                "owner = ''\nreviewed = ''\nreview_by = ''\n{}{}",
                addition(systems[0]),
                addition(systems[1])
            )
        };
        assert!(Additions::parse(&text(["urn:a", "urn:b"])).is_ok());
        assert!(matches!(
            Additions::parse(&text(["urn:a", "urn:a"])),
            Err(AdditionsError::SystemTwice(_))
        ));
        assert!(matches!(
            Additions::parse("owner = 1"),
            Err(AdditionsError::Shape(_))
        ));
    }
}
