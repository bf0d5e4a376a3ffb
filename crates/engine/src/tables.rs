//! Curated tables of the bundle that observers look things up in: kinds of drugs, visit types, ranges.
//!
//! Not here: checks of an order (they are plausibility rules).
//! What a table does not hold is unknown, and the unknown goes to a human.

use chaperone_core::ids::OverrideReason;
use chaperone_ledger::audit::codes::AuditCodes;
use chaperone_policy::Bundle;
use serde::Deserialize;

use crate::audit::accounting::Accounting;
use crate::context::StartFailed;

const RXNORM: &str = "http://www.nlm.nih.gov/research/umls/rxnorm";

/// One drug of `rules/medications.toml`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Drug {
    /// RxNorm codes of its ingredients.
    #[serde(default)]
    rxnorm: Vec<String>,
    /// RxNorm codes of clinical drugs made of it alone.
    #[serde(default)]
    rxnorm_drugs: Vec<String>,
    /// Names, lower case, one of which must stand in an ingredient's name as whole words.
    names: Vec<String>,
    /// DEA schedule, `II` to `V`.
    #[serde(default)]
    schedule: Option<String>,
    /// Whether a mistake with it is likely to do serious harm.
    high_alert: bool,
    /// Whether leaving it out is dangerous.
    critical: bool,
}

/// What the table says about a medication: all its ingredients together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Medication {
    /// Whether every ingredient was found.
    pub(crate) known: bool,
    /// Whether any ingredient is in a schedule.
    pub(crate) controlled: bool,
    /// Whether any ingredient is high-alert.
    pub(crate) high_alert: bool,
    /// Whether any ingredient is dangerous to leave out.
    pub(crate) critical: bool,
}

/// What a measurement can be at all: one range of `rules/vital-ranges.toml`.
#[derive(Debug, Clone, Deserialize)]
struct VitalRange {
    code: String,
    unit: String,
    low: f64,
    high: f64,
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

/// The codes of a visit, by who said so.
#[derive(Debug, Default)]
pub(crate) struct VisitCodes<'a> {
    /// Service types of its slots; empty unless each of them has one.
    pub(crate) slots: Vec<(&'a str, &'a str)>,
    /// Service types of the appointment on record.
    pub(crate) record: Vec<(&'a str, &'a str)>,
    /// Everything else, also what an agent chose: it can only speak against.
    pub(crate) also: Vec<(&'a str, &'a str)>,
}

/// What the codes of a visit say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Visit {
    /// Whether patients may book it themselves: the slots say what they are for, and every code is
    /// listed so. `None` when a slot does not say.
    pub(crate) self_schedule: Option<bool>,
    /// Whether any code is sensitive; `None` when neither slots nor record have a listed one.
    pub(crate) sensitive: Option<bool>,
}

/// One reason of `rules/override-reasons.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverrideChoice {
    /// Its code, as approvals record it.
    pub code: OverrideReason,
    /// What it says.
    pub words: String,
}

#[derive(Debug, Default)]
pub(crate) struct Tables {
    drugs: Vec<Drug>,
    visit_types: Vec<VisitType>,
    vital_ranges: Vec<VitalRange>,
    audit_codes: AuditCodes,
    accounting: Accounting,
    override_reasons: Vec<OverrideChoice>,
}

#[derive(Deserialize)]
struct Medications {
    drugs: Vec<Drug>,
}

#[derive(Deserialize)]
struct SelfSchedule {
    visit_types: Vec<VisitType>,
}

#[derive(Deserialize)]
struct VitalRanges {
    ranges: Vec<VitalRange>,
}

#[derive(Deserialize)]
struct OverrideReasons {
    reasons: Vec<OverrideChoice>,
}

impl Tables {
    /// Reads the tables of a bundle.
    pub(crate) fn read(bundle: &Bundle) -> Result<Self, StartFailed> {
        let medications: Medications = table(bundle, "rules/medications.toml")?;
        let self_schedule: SelfSchedule = table(bundle, "rules/self-schedule.toml")?;
        let overrides: OverrideReasons = table(bundle, "rules/override-reasons.toml")?;
        let vitals: VitalRanges = table(bundle, "rules/vital-ranges.toml")?;
        Ok(Self {
            drugs: medications.drugs,
            visit_types: self_schedule.visit_types,
            vital_ranges: vitals.ranges,
            audit_codes: audit_codes(bundle)?,
            accounting: table(bundle, "rules/accounting.toml")?,
            override_reasons: overrides.reasons,
        })
    }

    /// Which codes events are told by.
    pub(crate) fn audit_codes(&self) -> &AuditCodes {
        &self.audit_codes
    }

    /// Why a warning may be approved over.
    pub(crate) fn override_reasons(&self) -> &[OverrideChoice] {
        &self.override_reasons
    }

    /// Which disclosures need not be accounted for.
    pub(crate) fn accounting(&self) -> &Accounting {
        &self.accounting
    }

    /// What the table says about a medication, by its codings' codes and by its texts (displays and
    /// the concept's own text).
    ///
    /// Codes and texts are all looked up, and what is found counts together: a display that
    /// contradicts its code is itself a reason for care. A combination is known only when every
    /// ingredient is.
    pub(crate) fn medication<'a>(
        &self,
        codes: impl Iterator<Item = (&'a str, &'a str)>,
        texts: impl Iterator<Item = &'a str>,
    ) -> Medication {
        let codes: Vec<&str> = codes
            .filter(|(system, _)| *system == RXNORM)
            .map(|(_, code)| code)
            .collect();
        let mut found: Vec<&Drug> = self
            .drugs
            .iter()
            .filter(|drug| drug.is_coded(&codes))
            .collect();
        // Unknown until something was found, and for good once an ingredient was not.
        let mut known = (!found.is_empty()).then_some(true);
        for text in texts {
            for ingredient in text.to_lowercase().split(" / ") {
                let named: Vec<&Drug> = self
                    .drugs
                    .iter()
                    .filter(|drug| drug.is_named(ingredient))
                    .collect();
                known = Some(known.unwrap_or(true) && !named.is_empty());
                found.extend(named);
            }
        }
        Medication {
            known: known.unwrap_or(false),
            controlled: found.iter().any(|drug| drug.schedule.is_some()),
            high_alert: found.iter().any(|drug| drug.high_alert),
            critical: found.iter().any(|drug| drug.critical),
        }
    }

    /// Whether a value is possible for its LOINC code and UCUM unit; `None` when they are not listed.
    pub(crate) fn in_hard_range(&self, code: &str, unit: &str, value: f64) -> Option<bool> {
        self.vital_ranges
            .iter()
            .find(|range| range.code == code && range.unit == unit)
            .map(|range| (range.low..=range.high).contains(&value))
    }

    /// What the codes of a visit say. What lightens a gate must come from the organisation's own slots
    /// and records; a code that is not listed is unknown, whoever gave it.
    pub(crate) fn visit(&self, codes: &VisitCodes<'_>) -> Visit {
        let listed = |(system, code): &(&str, &str)| {
            self.visit_types
                .iter()
                .find(|v| v.system == *system && v.code == *code)
        };
        let all = || codes.slots.iter().chain(&codes.record).chain(&codes.also);
        let own = || codes.slots.iter().chain(&codes.record);
        Visit {
            self_schedule: (!codes.slots.is_empty())
                .then(|| all().all(|code| listed(code).is_some_and(|v| v.self_schedule))),
            sensitive: own()
                .any(|code| listed(code).is_some())
                .then(|| all().filter_map(listed).any(|v| v.sensitive)),
        }
    }
}

impl Drug {
    fn is_coded(&self, codes: &[&str]) -> bool {
        self.rxnorm
            .iter()
            .chain(&self.rxnorm_drugs)
            .any(|known| codes.contains(&known.as_str()))
    }

    fn is_named(&self, ingredient: &str) -> bool {
        self.names.iter().any(|known| has_words(ingredient, known))
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
    file: &'static str,
) -> Result<T, StartFailed> {
    let name = file.trim_start_matches("rules/").trim_end_matches(".toml");
    let text = bundle.rule_text(name).ok_or_else(|| StartFailed::Table {
        file,
        why: "it is missing".to_owned(),
    })?;
    toml::from_str(text).map_err(|e| StartFailed::Table {
        file,
        why: e.message().to_owned(),
    })
}

fn audit_codes(bundle: &Bundle) -> Result<AuditCodes, StartFailed> {
    const FILE: &str = "rules/audit-events.toml";
    let codes: AuditCodes = table(bundle, FILE)?;
    codes.check().map_err(|wrong| StartFailed::Table {
        file: FILE,
        why: wrong.to_string(),
    })?;
    Ok(codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_whole_words() {
        assert!(has_words("warfarin sodium 5 mg oral tablet", "warfarin"));
        assert!(!has_words("apixabanol", "apixaban"));
    }

    fn tables() -> Tables {
        let drug = |code: &str, name: &str, rest: &str| {
            format!(
                "[[drugs]]\nid = '{name}'\nclass = '{name}'\nrxnorm = ['{code}']\nnames = ['{name}']\ncritical = false\n{rest}\n"
            )
        };
        let text = [
            drug("29046", "lisinopril", "high_alert = false"),
            drug("7804", "oxycodone", "high_alert = true\nschedule = 'II'"),
            drug("161", "acetaminophen", "high_alert = false"),
        ]
        .concat();
        let read: Medications = toml::from_str(&text).unwrap();
        Tables {
            drugs: read.drugs,
            ..Tables::default()
        }
    }

    fn look_up(code: &str, text: &str) -> Medication {
        tables().medication([(RXNORM, code)].into_iter(), [text].into_iter())
    }

    #[test]
    fn a_display_that_contradicts_its_code_counts_as_the_stricter_drug() {
        assert!(look_up("29046", "Oxycodone 5 MG Oral Tablet").controlled);
        assert!(!look_up("29046", "Lisinopril 10 MG Oral Tablet").controlled);
    }

    #[test]
    fn a_combination_is_known_only_when_every_ingredient_is() {
        let both = look_up("0", "Oxycodone 5 MG / Acetaminophen 325 MG Oral Tablet");
        assert!(both.known && both.controlled);
        let half = look_up("0", "Oxycodone 5 MG / Novelumab 325 MG Oral Tablet");
        assert!(!half.known && half.controlled);
        // In whichever order the ingredients are written.
        let half = look_up("0", "Novelumab 325 MG / Oxycodone 5 MG Oral Tablet");
        assert!(!half.known && half.controlled);
        assert!(!look_up("0", "Placebo").known);
        assert!(!look_up("29046", "Placebo").known);
    }

    #[test]
    fn what_an_agent_says_about_a_visit_only_speaks_against() {
        let listed = |code: &str, self_schedule: bool, sensitive: bool| {
            format!(
                "[[visit_types]]\nsystem = 's'\ncode = '{code}'\nself_schedule = {self_schedule}\nsensitive = {sensitive}\n"
            )
        };
        let text = [
            listed("plain", true, false),
            listed("staff", false, false),
            listed("oncology", false, true),
        ]
        .concat();
        let read: SelfSchedule = toml::from_str(&text).unwrap();
        let tables = Tables {
            visit_types: read.visit_types,
            ..Tables::default()
        };
        let codes = |names: &[&'static str]| names.iter().map(|n| ("s", *n)).collect::<Vec<_>>();
        // Slots, record, what the agent chose; may patients book it, is it sensitive.
        type Case<'a> = (
            &'a [&'static str],
            &'a [&'static str],
            &'a [&'static str],
            Option<bool>,
            Option<bool>,
        );
        let cases: [Case<'_>; 10] = [
            (&["plain"], &[], &["plain"], Some(true), Some(false)),
            (&["plain"], &[], &[], Some(true), Some(false)),
            (&[], &[], &["plain"], None, None),
            (&["staff"], &[], &["plain"], Some(false), Some(false)),
            (&["plain"], &[], &["staff"], Some(false), Some(false)),
            (&["plain"], &[], &["elsewhere"], Some(false), Some(false)),
            (&["elsewhere"], &[], &["plain"], Some(false), None),
            (&[], &["plain"], &["plain"], None, Some(false)),
            (&[], &["oncology"], &["plain"], None, Some(true)),
            (&[], &["plain"], &["oncology"], None, Some(true)),
        ];
        for (slots, record, also, self_schedule, sensitive) in cases {
            let said = VisitCodes {
                slots: codes(slots),
                record: codes(record),
                also: codes(also),
            };
            let expected = Visit {
                self_schedule,
                sensitive,
            };
            assert_eq!(tables.visit(&said), expected, "{said:?}");
        }
    }
}
