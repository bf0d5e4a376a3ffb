//! Curated tables of the bundle that observers look things up in: drugs and visit types.
//!
//! What a table does not hold is unknown, and the unknown goes to a human.

use chaperone_policy::Bundle;
use serde::Deserialize;

use crate::context::StartFailed;

const RXNORM: &str = "http://www.nlm.nih.gov/research/umls/rxnorm";

/// One drug of `rules/medications.toml`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Drug {
    /// RxNorm codes that mean it.
    #[serde(default)]
    rxnorm: Vec<String>,
    /// Names, lower case, one of which must be a word of the display.
    names: Vec<String>,
    /// DEA schedule, `II` to `V`.
    #[serde(default)]
    schedule: Option<String>,
    /// Whether a mistake with it is likely to do serious harm.
    #[serde(default)]
    pub(crate) high_alert: bool,
}

impl Drug {
    pub(crate) fn is_controlled(&self) -> bool {
        self.schedule.is_some()
    }
}

/// One visit type of `rules/self-schedule.toml`.
#[derive(Debug, Clone, Deserialize)]
struct VisitType {
    system: String,
    code: String,
    /// Whether patients may book it themselves.
    self_schedule: bool,
    /// Whether changing it late is a clinical matter.
    sensitive: bool,
}

/// What the codes of a visit say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Visit {
    /// Whether patients may book it themselves: every code is listed so.
    pub(crate) self_schedule: bool,
    /// Whether any code is sensitive; `None` when no code is known.
    pub(crate) sensitive: Option<bool>,
}

#[derive(Debug, Default)]
pub(crate) struct Tables {
    drugs: Vec<Drug>,
    visit_types: Vec<VisitType>,
}

#[derive(Deserialize)]
struct Medications {
    drug: Vec<Drug>,
}

#[derive(Deserialize)]
struct SelfSchedule {
    visit_types: Vec<VisitType>,
}

impl Tables {
    /// Reads the tables of a bundle.
    pub(crate) fn read(bundle: &Bundle) -> Result<Self, StartFailed> {
        let medications: Medications = table(bundle, "medications")?;
        let self_schedule: SelfSchedule = table(bundle, "self-schedule")?;
        Ok(Self {
            drugs: medications.drug,
            visit_types: self_schedule.visit_types,
        })
    }

    /// The drug that a concept means. Several codings may name several drugs: the strictest counts,
    /// because a display that contradicts its code is itself a reason for care.
    pub(crate) fn drug<'a>(
        &self,
        codes: impl Iterator<Item = (&'a str, &'a str)>,
        names: impl Iterator<Item = &'a str>,
    ) -> Option<&Drug> {
        let codes: Vec<&str> = codes
            .filter(|(system, _)| *system == RXNORM)
            .map(|(_, code)| code)
            .collect();
        let names: Vec<String> = names.map(str::to_lowercase).collect();
        self.drugs
            .iter()
            .filter(|drug| {
                drug.rxnorm
                    .iter()
                    .any(|known| codes.contains(&known.as_str()))
                    || names
                        .iter()
                        .any(|name| drug.names.iter().any(|known| has_words(name, known)))
            })
            .max_by_key(|drug| (drug.is_controlled(), drug.high_alert))
    }

    /// What the codes of a visit say; a code that is not listed is unknown, and so is a visit
    /// without any.
    pub(crate) fn visit(&self, codes: &[(&str, &str)]) -> Visit {
        let listed: Vec<Option<&VisitType>> = codes
            .iter()
            .map(|(system, code)| {
                self.visit_types
                    .iter()
                    .find(|v| v.system == *system && v.code == *code)
            })
            .collect();
        let known: Vec<&VisitType> = listed.iter().copied().flatten().collect();
        Visit {
            self_schedule: !known.is_empty()
                && known.len() == listed.len()
                && known.iter().all(|v| v.self_schedule),
            sensitive: (!known.is_empty()).then(|| known.iter().any(|v| v.sensitive)),
        }
    }
}

/// Whether `known` stands in `text` as whole words.
fn has_words(text: &str, known: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric();
    text.match_indices(known).any(|(at, _)| {
        let before = text.get(..at).and_then(|t| t.chars().next_back());
        let after = text.get(at + known.len()..).and_then(|t| t.chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

fn table<T: serde::de::DeserializeOwned>(
    bundle: &Bundle,
    name: &'static str,
) -> Result<T, StartFailed> {
    let text = bundle.rule_text(name).ok_or_else(|| StartFailed::Table {
        file: name,
        why: "it is missing from `rules/`".to_owned(),
    })?;
    toml::from_str(text).map_err(|e| StartFailed::Table {
        file: name,
        why: e.message().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_whole_words() {
        assert!(has_words("warfarin sodium 5 mg oral tablet", "warfarin"));
        assert!(!has_words("apixabanol", "apixaban"));
    }

    #[test]
    fn a_display_that_contradicts_its_code_counts_as_the_stricter_drug() {
        let tables: Medications = toml::from_str(
            "[[drug]]\nrxnorm = ['29046']\nnames = ['lisinopril']\n\
             [[drug]]\nrxnorm = ['7804']\nnames = ['oxycodone']\nschedule = 'II'\n",
        )
        .unwrap();
        let tables = Tables {
            drugs: tables.drug,
            visit_types: Vec::new(),
        };
        let drug = tables
            .drug(
                [(RXNORM, "29046")].into_iter(),
                ["Oxycodone 5 MG Oral Tablet"].into_iter(),
            )
            .unwrap();
        assert!(drug.is_controlled());
        assert!(
            tables
                .drug([(RXNORM, "1")].into_iter(), ["Placebo"].into_iter())
                .is_none()
        );
    }
}
