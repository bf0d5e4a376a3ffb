//! `code-tables.toml`: which code systems belong where, what codes say about sex, age and measure, and the
//! cue words of negation, family and history.
//!
//! Lists that a clinical owner keeps; not a terminology. What a real terminology knows comes in through
//! [`super::CodeSource`]. Start at [`CodeTables::parse`].

use jiff::civil::Date;
use serde::Deserialize;
use serde_json::Value;

use super::element::{Coding, codings, text};
use super::prose;
use super::register::{self, RuleError, inconsistent};

const FILE: &str = "code-tables.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    owner: String,
    #[serde(rename = "reviewed")]
    _reviewed: toml::value::Datetime,
    review_by: toml::value::Datetime,
    systems: Vec<SystemRow>,
    properties: Vec<PropertyRow>,
    sex: Vec<SexRow>,
    age: Vec<AgeRow>,
    groups: Groups,
    icd_sides: Vec<IcdSide>,
    cues: Cues,
}

/// Which code systems an element may use.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SystemRow {
    pub(super) id: String,
    pub(super) resource_type: String,
    /// Dotted path; lists are followed.
    pub(super) element: String,
    /// Only for resources of this category.
    pub(super) category: Option<String>,
    /// Only when the Encounter's class is one of these.
    #[serde(default)]
    pub(super) encounter_class: Vec<String>,
    pub(super) allowed: Vec<String>,
    /// The systems in words.
    pub(super) words: String,
    source: String,
}

/// LOINC codes that fix the dimension of their unit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PropertyRow {
    id: String,
    /// LOINC property, such as `MCnc`.
    pub(super) property: String,
    /// A unit of the dimension.
    pub(super) unit: String,
    pub(super) codes: Vec<String>,
    source: String,
}

/// Codes of one system, listed or by prefix.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CodeSet {
    system: String,
    #[serde(default)]
    codes: Vec<String>,
    #[serde(default)]
    prefixes: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SexRow {
    id: String,
    sex: RowSex,
    set: Vec<CodeSet>,
    source: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RowSex {
    Female,
    Male,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AgeRow {
    id: String,
    /// What the codes mean, in words.
    pub(super) what: String,
    pub(super) min_years: Option<f64>,
    pub(super) max_years: Option<f64>,
    set: Vec<CodeSet>,
    source: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Groups {
    prenatal: Vec<CodeSet>,
    post_mortem: Vec<CodeSet>,
    pregnant: Vec<CodeSet>,
    not_pregnant: Vec<CodeSet>,
    pregnancy_status: Vec<CodeSet>,
    heart_failure: Vec<CodeSet>,
    immunocompromised: Vec<CodeSet>,
    liver_disease: Vec<CodeSet>,
    neoplasm: Vec<CodeSet>,
    vomiting_or_ketones: Vec<CodeSet>,
    left: Vec<CodeSet>,
    right: Vec<CodeSet>,
}

/// Where ICD-10-CM writes the side: 1 right, 2 left, 3 both.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct IcdSide {
    prefix: String,
    /// Place of the character among the letters and digits, from 1.
    place: usize,
}

/// Words that change what a statement says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cues {
    pub(super) negation: Vec<String>,
    pub(super) family: Vec<String>,
    pub(super) historical: Vec<String>,
    vague_time: Vec<String>,
}

/// Groups of codes with a clinical meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Pregnant,
    NotPregnant,
    PregnancyStatus,
    HeartFailure,
    Immunocompromised,
    LiverDisease,
    Neoplasm,
    VomitingOrKetones,
}

/// The tables, read.
#[derive(Clone, Debug)]
pub(super) struct CodeTables {
    pub(super) review_by: Date,
    pub(super) systems: Vec<SystemRow>,
    pub(super) properties: Vec<PropertyRow>,
    sex: Vec<SexRow>,
    pub(super) age: Vec<AgeRow>,
    groups: Groups,
    icd_sides: Vec<IcdSide>,
    pub(super) cues: Cues,
}

fn is_in(sets: &[CodeSet], coding: &Coding<'_>) -> bool {
    sets.iter().any(|set| {
        set.system == coding.system
            && (set.codes.iter().any(|it| it == coding.code)
                || set
                    .prefixes
                    .iter()
                    .any(|it| coding.code.starts_with(it.as_str())))
    })
}

impl CodeTables {
    pub(super) fn parse(text: &str) -> Result<Self, RuleError> {
        let file: File = register::read(FILE, text)?;
        if file.schema != 1 {
            return Err(RuleError::Schema {
                file: FILE,
                found: file.schema,
            });
        }
        if file.owner.trim().is_empty() {
            return inconsistent(FILE, "owner", "an owner must be named");
        }
        let sourced = file
            .systems
            .iter()
            .map(|it| (&it.id, &it.source))
            .chain(file.properties.iter().map(|it| (&it.id, &it.source)))
            .chain(file.sex.iter().map(|it| (&it.id, &it.source)))
            .chain(file.age.iter().map(|it| (&it.id, &it.source)));
        let mut ids = std::collections::BTreeSet::new();
        for (id, source) in sourced {
            if source.trim().is_empty() {
                return inconsistent(FILE, id, "its source must be named");
            }
            if !ids.insert(id.clone()) {
                return inconsistent(FILE, id, "another row has the same id");
            }
        }
        if let Some(row) = file
            .properties
            .iter()
            .find(|it| !super::units::is_unit(&it.unit))
        {
            return inconsistent(FILE, &row.id, "its unit is no UCUM unit");
        }
        Ok(Self {
            review_by: register::date(FILE, "review_by", &file.review_by)?,
            systems: file.systems,
            properties: file.properties,
            sex: file.sex,
            age: file.age,
            groups: file.groups,
            icd_sides: file.icd_sides,
            cues: file.cues,
        })
    }

    /// The sex that a code presumes.
    pub(super) fn presumed_sex(&self, coding: &Coding<'_>) -> Option<RowSex> {
        self.sex
            .iter()
            .find(|row| is_in(&row.set, coding))
            .map(|row| row.sex)
    }

    /// The ages that a code presumes.
    pub(super) fn presumed_age(&self, coding: &Coding<'_>) -> Option<&AgeRow> {
        self.age.iter().find(|row| is_in(&row.set, coding))
    }

    pub(super) fn is_prenatal(&self, resource: &Value) -> bool {
        self.has_code(&self.groups.prenatal, resource)
    }

    pub(super) fn is_post_mortem(&self, resource: &Value) -> bool {
        self.has_code(&self.groups.post_mortem, resource)
    }

    fn has_code(&self, sets: &[CodeSet], resource: &Value) -> bool {
        resource
            .get("code")
            .is_some_and(|concept| codings(concept).any(|it| is_in(sets, &it)))
    }

    /// The codes of one system that a group lists; prefixes are not among them.
    pub(super) fn listed(&self, group: Group, system: &str) -> impl Iterator<Item = &str> {
        self.sets(group)
            .iter()
            .filter(move |set| set.system == system)
            .flat_map(|set| set.codes.iter().map(String::as_str))
    }

    fn sets(&self, group: Group) -> &[CodeSet] {
        match group {
            Group::Pregnant => &self.groups.pregnant,
            Group::NotPregnant => &self.groups.not_pregnant,
            Group::PregnancyStatus => &self.groups.pregnancy_status,
            Group::HeartFailure => &self.groups.heart_failure,
            Group::Immunocompromised => &self.groups.immunocompromised,
            Group::LiverDisease => &self.groups.liver_disease,
            Group::Neoplasm => &self.groups.neoplasm,
            Group::VomitingOrKetones => &self.groups.vomiting_or_ketones,
        }
    }

    /// Whether a concept belongs to a group.
    pub(super) fn means(&self, group: Group, concept: &Value) -> bool {
        let sets = self.sets(group);
        codings(concept).any(|it| is_in(sets, &it))
    }

    /// The side that a code itself means: a side code, words in its display, or ICD-10-CM's side character.
    pub(super) fn coded_side(&self, coding: &Coding<'_>) -> prose::Sides {
        let mut sides = prose::sides(coding.display);
        sides.left |= is_in(&self.groups.left, coding);
        sides.right |= is_in(&self.groups.right, coding);
        if coding.system == super::element::ICD10_CM {
            let row = self
                .icd_sides
                .iter()
                .find(|row| coding.code.starts_with(row.prefix.as_str()));
            let side = row.and_then(|row| {
                let mut characters = coding.code.chars().filter(char::is_ascii_alphanumeric);
                characters.nth(row.place.checked_sub(1)?)
            });
            sides.right |= matches!(side, Some('1' | '3'));
            sides.left |= matches!(side, Some('2' | '3'));
        }
        sides
    }

    /// Whether a text (in lower case) speaks of a time only roughly.
    pub(super) fn is_vague_time(&self, text: &str) -> bool {
        let words = prose::words(text);
        self.cues
            .vague_time
            .iter()
            .any(|cue| prose::has_phrase(&words, cue))
    }
}

/// Whether a condition is in force: not resolved, refuted or withdrawn.
pub(super) fn is_in_force(resource: &Value) -> bool {
    use super::element::state;
    !matches!(
        state(resource, "clinicalStatus"),
        Some("inactive" | "resolved" | "remission")
    ) && !matches!(
        state(resource, "verificationStatus"),
        Some("refuted" | "entered-in-error")
    ) && text(resource, "resourceType").is_some()
}
