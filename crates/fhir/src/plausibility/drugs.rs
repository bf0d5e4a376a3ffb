//! `medications.toml` and `medication-checks.toml`: the drugs that are known here, and what is known of them.
//!
//! A small curated table, not a drug knowledge base. What it does not hold is unknown, and the unknown goes to
//! a human; a real knowledge base can be plugged in as [`DrugKnowledge`]. Start at [`DrugTable::concept`].

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use serde::Deserialize;
use serde_json::Value;

use super::element::{RXNORM, codings, words};
use super::prose;
use super::register::{self, RuleError, inconsistent};
use super::report::Effect;
use super::rule;

const FILE: &str = "medications.toml";
const CHECKS_FILE: &str = "medication-checks.toml";

/// Knows drugs that the curated table does not.
pub trait DrugKnowledge {
    /// Every ingredient of the medication; `None` unless all of them are known.
    fn find(&self, medication: &Value) -> Option<Vec<&Drug>>;
}

/// One drug: an ingredient, or a fixed combination.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drug {
    /// Its name in these tables.
    pub id: String,
    /// RxNorm codes of its ingredients.
    #[serde(default)]
    rxnorm: Vec<String>,
    /// RxNorm codes of clinical drugs made of it alone.
    #[serde(default)]
    rxnorm_drugs: Vec<String>,
    /// Names, lower case.
    #[serde(deserialize_with = "as_words")]
    names: Vec<Vec<String>>,
    pub(super) class: String,
    /// DEA schedule, `II` to `V`.
    #[serde(default)]
    pub(super) schedule: Option<String>,
    /// Whether a mistake with it is likely to do serious harm.
    high_alert: bool,
    /// Whether leaving it out is dangerous.
    critical: bool,
    /// What cross-reacts.
    #[serde(default)]
    pub(super) allergy_groups: Vec<String>,
    /// What else interactions go by, such as `qt-prolonging`.
    #[serde(default)]
    traits: Vec<String>,
    /// Least and greatest usual single dose of an adult, in mg.
    #[serde(default)]
    pub(super) usual_mg: Option<[f64; 2]>,
    /// Taken once a week.
    #[serde(default)]
    pub(super) weekly: Option<Weekly>,
    /// Whether it may harm an unborn child.
    #[serde(default)]
    pub(super) pregnancy: bool,
    #[serde(default)]
    pub(super) renal: Option<Renal>,
    #[serde(default)]
    pub(super) per_kg: Option<PerKg>,
    /// Where its dose and flags come from.
    source: String,
}

/// What kind of medication it is: all its ingredients together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MedicationKind {
    /// Whether every ingredient was found.
    pub known: bool,
    /// Whether any ingredient is in a schedule.
    pub controlled: bool,
    /// Whether any ingredient is high-alert.
    pub high_alert: bool,
    /// Whether any ingredient is dangerous to leave out.
    pub critical: bool,
}

/// Names, taken apart into words once.
fn as_words<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Vec<String>>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    Ok(names.iter().map(|it| prose::words(it)).collect())
}

/// When a drug is taken once a week.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Weekly {
    /// From this dose on; a smaller one may be daily.
    #[serde(default)]
    pub(super) from_mg: f64,
    /// Not by this route.
    #[serde(default)]
    pub(super) unless_route: Option<String>,
    /// Not for patients with a neoplasm, where other schedules are right.
    #[serde(default)]
    pub(super) unless_neoplasm: bool,
}

/// What a weak kidney means for a drug.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Renal {
    /// eGFR in mL/min/1.73 m2.
    pub(super) below: f64,
    pub(super) severity: RenalSeverity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RenalSeverity {
    Block,
    Warn,
}

/// Doses of children by weight.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PerKg {
    /// mg/kg of one dose, least and greatest; for drugs judged by the day alone, left out.
    #[serde(default)]
    pub(super) dose: Option<[f64; 2]>,
    /// mg/kg of one day, least and greatest.
    #[serde(default)]
    pub(super) day: Option<[f64; 2]>,
    /// Not for younger children.
    #[serde(default)]
    pub(super) from_months: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    owner: String,
    #[serde(rename = "reviewed")]
    _reviewed: String,
    review_by: String,
    #[serde(rename = "sources")]
    _sources: BTreeMap<String, String>,
    drugs: Vec<Drug>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChecksFile {
    owner: String,
    #[serde(rename = "reviewed")]
    _reviewed: String,
    review_by: String,
    #[serde(rename = "sources")]
    _sources: BTreeMap<String, String>,
    order_checks: Vec<String>,
    max_daily: Vec<MaxDaily>,
    #[serde(default)]
    max_daily_when: Vec<MaxDailyWhen>,
    #[serde(default)]
    max_single: Vec<MaxDaily>,
    interactions: Vec<Interaction>,
    duplicate_classes: Vec<String>,
    allergy_groups: Vec<AllergyGroup>,
    monitoring: Vec<Monitoring>,
    routes: Vec<Route>,
    forms: Vec<Form>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MaxDaily {
    id: String,
    drug: String,
    pub(super) mg: f64,
}

/// A lower maximum for some patients.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MaxDailyWhen {
    id: String,
    pub(super) drug: String,
    pub(super) mg: f64,
    /// For patients older than this.
    pub(super) above_years: Option<f64>,
    /// For patients with a liver disease.
    #[serde(default)]
    pub(super) liver_disease: bool,
    /// Why, for the sentence: `over 60 years`.
    pub(super) because: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Interaction {
    pub(super) id: String,
    one: Vec<String>,
    other: Vec<String>,
    pub(super) severity: Effect,
    /// What may happen.
    pub(super) why: String,
}

/// Drugs that cross-react, and how an allergy to them is recorded.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AllergyGroup {
    pub(super) id: String,
    words: Vec<String>,
    #[serde(default)]
    snomed: Vec<String>,
    /// Groups that react with it.
    #[serde(default)]
    implies: Vec<String>,
    source: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Monitoring {
    id: String,
    drugs: Vec<String>,
    pub(super) what: String,
    /// LOINC codes, any of which will do.
    pub(super) codes: Vec<String>,
    pub(super) days: f64,
    source: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) id: String,
    /// SNOMED CT codes.
    snomed: Vec<String>,
    words: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    pub(super) words: String,
    pub(super) routes: Vec<String>,
}

/// What is known of a medication.
#[derive(Clone, Debug)]
pub(super) enum Known<'t> {
    /// None of its ingredients.
    Nothing,
    /// Some of them.
    Partly(Vec<&'t Drug>),
    /// All of them.
    Whole(Vec<&'t Drug>),
}

impl<'t> Known<'t> {
    /// The ingredients that are known.
    pub(super) fn drugs(&self) -> &[&'t Drug] {
        match self {
            Known::Nothing => &[],
            Known::Partly(drugs) | Known::Whole(drugs) => drugs,
        }
    }
}

/// The tables, read.
#[derive(Clone, Debug)]
pub(super) struct DrugTable {
    pub(super) review_by: Date,
    drugs: Vec<Drug>,
    max_daily: Vec<MaxDaily>,
    pub(super) max_daily_when: Vec<MaxDailyWhen>,
    max_single: Vec<MaxDaily>,
    pub(super) interactions: Vec<Interaction>,
    duplicate_classes: Vec<String>,
    allergy_groups: Vec<AllergyGroup>,
    monitoring: Vec<Monitoring>,
    routes: Vec<Route>,
    pub(super) forms: Vec<Form>,
    /// Ids of the rules that an order must pass.
    pub(super) order_checks: Vec<String>,
}

impl DrugTable {
    /// Every drug of the table.
    pub(super) fn all(&self) -> impl Iterator<Item = &Drug> {
        self.drugs.iter()
    }

    pub(super) fn parse(drugs: &str, checks: &str) -> Result<Self, RuleError> {
        let file: File = register::read(FILE, drugs)?;
        let checks: ChecksFile = register::read(CHECKS_FILE, checks)?;
        if file.owner.trim().is_empty() || checks.owner.trim().is_empty() {
            return inconsistent(FILE, "owner", "an owner must be named");
        }
        let (Ok(review), Ok(checks_review)) = (
            file.review_by.parse::<Date>(),
            checks.review_by.parse::<Date>(),
        ) else {
            return inconsistent(FILE, "review_by", "`review_by` must be a date");
        };
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for drug in &file.drugs {
            if !names.insert(&drug.id) {
                return inconsistent(FILE, &drug.id, "another drug has the same id");
            }
            if drug.source.trim().is_empty() || drug.names.is_empty() {
                return inconsistent(FILE, &drug.id, "needs a source and a name");
            }
            if drug
                .usual_mg
                .is_some_and(|[low, high]| low.is_nan() || low <= 0.0 || low > high)
            {
                return inconsistent(FILE, &drug.id, "`usual_mg` must go from low to high");
            }
        }
        let ids: BTreeSet<&str> = names.clone();
        for drug in &file.drugs {
            names.insert(&drug.class);
            names.extend(drug.traits.iter().map(String::as_str));
        }
        let limits = checks.max_daily.iter().chain(&checks.max_single);
        let limited = limits
            .map(|it| (&it.id, &it.drug))
            .chain(checks.max_daily_when.iter().map(|it| (&it.id, &it.drug)));
        for (id, drug) in limited {
            if !ids.contains(drug.as_str()) {
                return inconsistent(CHECKS_FILE, id, format!("no drug is called `{drug}`"));
            }
        }
        let mentioned = checks
            .interactions
            .iter()
            .flat_map(|it| it.one.iter().chain(&it.other).map(|name| (&it.id, name)))
            .chain(
                checks
                    .monitoring
                    .iter()
                    .flat_map(|it| it.drugs.iter().map(|name| (&it.id, name))),
            );
        for (id, name) in mentioned {
            if !names.contains(name.as_str()) {
                return inconsistent(
                    CHECKS_FILE,
                    id,
                    format!("no drug, class or trait is called `{name}`"),
                );
            }
        }
        let sourced = checks
            .allergy_groups
            .iter()
            .map(|it| (&it.id, &it.source))
            .chain(checks.monitoring.iter().map(|it| (&it.id, &it.source)));
        for (id, source) in sourced {
            if source.trim().is_empty() {
                return inconsistent(CHECKS_FILE, id, "its source must be named");
            }
        }
        for id in rule::ORDER_CHECKS {
            if !checks.order_checks.iter().any(|it| it == id) {
                return inconsistent(CHECKS_FILE, "order_checks", format!("`{id}` is missing"));
            }
        }
        if let Some(id) = checks
            .order_checks
            .iter()
            .find(|id| rule::by_id(id).is_none())
        {
            return inconsistent(CHECKS_FILE, "order_checks", format!("no rule `{id}`"));
        }
        if let Some(row) = checks
            .interactions
            .iter()
            .find(|it| it.severity < Effect::Warn)
        {
            return inconsistent(CHECKS_FILE, &row.id, "an interaction warns at least");
        }
        Ok(Self {
            review_by: review.min(checks_review),
            drugs: file.drugs,
            max_daily: checks.max_daily,
            max_daily_when: checks.max_daily_when,
            max_single: checks.max_single,
            interactions: checks.interactions,
            duplicate_classes: checks.duplicate_classes,
            allergy_groups: checks.allergy_groups,
            monitoring: checks.monitoring,
            routes: checks.routes,
            forms: checks.forms,
            order_checks: checks.order_checks,
        })
    }

    /// The drugs of an RxNorm code.
    pub(super) fn by_code(&self, code: &str) -> Vec<&Drug> {
        self.drugs
            .iter()
            .filter(|drug| drug.is_coded(code))
            .collect()
    }

    /// The drugs of a medication's name, such as `A 5 MG / B 325 MG Oral Tablet`.
    pub(super) fn by_words(&self, words: &str) -> Known<'_> {
        let lower = words.to_lowercase();
        let mut found: Vec<&Drug> = Vec::new();
        let mut is_whole = true;
        for ingredient in lower.split(" / ") {
            let named = self.named_in(ingredient);
            is_whole &= !named.is_empty();
            found.extend(named);
        }
        match (found.is_empty(), is_whole) {
            (true, _) => Known::Nothing,
            (false, true) => Known::Whole(found),
            (false, false) => Known::Partly(found),
        }
    }

    /// The drugs named in a text; of two names of which one stands in the other, the longer counts.
    fn named_in(&self, text: &str) -> Vec<&Drug> {
        let words = prose::words(text);
        let found: Vec<(&Drug, &[String])> = self
            .drugs
            .iter()
            .filter_map(|drug| Some((drug, drug.name_in(&words)?)))
            .collect();
        found
            .iter()
            .filter(|(_, name)| {
                !found
                    .iter()
                    .any(|(_, other)| other.len() > name.len() && prose::has_words(other, name))
            })
            .map(|(drug, _)| *drug)
            .collect()
    }

    /// Every drug that a text mentions.
    pub(super) fn mentioned(&self, text: &str) -> Vec<&Drug> {
        self.named_in(&text.to_lowercase())
    }

    /// The drugs that a concept means. A code stands for the whole medication; words must all be known.
    pub(super) fn concept(&self, concept: &Value) -> Known<'_> {
        let mut coded: Vec<&Drug> = codings(concept)
            .filter(|it| it.system == RXNORM)
            .flat_map(|it| self.by_code(it.code))
            .collect();
        if !coded.is_empty() {
            // What the words add counts too: a code and a display that differ are both suspects.
            for text in words(concept) {
                for drug in self.by_words(&text).drugs() {
                    if !coded.iter().any(|it| it.id == drug.id) {
                        coded.push(drug);
                    }
                }
            }
            return Known::Whole(coded);
        }
        let mut all: Vec<&Drug> = Vec::new();
        let mut is_whole = true;
        let texts = words(concept);
        for text in &texts {
            let known = self.by_words(text);
            is_whole &= matches!(known, Known::Whole(_));
            for drug in known.drugs() {
                if !all.iter().any(|it| it.id == drug.id) {
                    all.push(drug);
                }
            }
        }
        match (all.is_empty(), is_whole) {
            (true, _) => Known::Nothing,
            (false, true) => Known::Whole(all),
            (false, false) => Known::Partly(all),
        }
    }

    /// What kind of medication a concept means. Codes and words are all looked up and what is found counts together:
    /// a display that contradicts its code is itself a reason for care, and unknown words make it unknown.
    pub(super) fn kind(&self, concept: &Value) -> MedicationKind {
        let mut found: Vec<&Drug> = codings(concept)
            .filter(|it| it.system == RXNORM)
            .flat_map(|it| self.by_code(it.code))
            .collect();
        let mut known = !found.is_empty();
        let texts = words(concept);
        let named: Vec<Known<'_>> = texts.iter().map(|text| self.by_words(text)).collect();
        if !named.is_empty() {
            known = named.iter().all(|it| matches!(it, Known::Whole(_)));
        }
        for drugs in &named {
            found.extend(drugs.drugs());
        }
        MedicationKind {
            known,
            controlled: found.iter().any(|drug| drug.schedule.is_some()),
            high_alert: found.iter().any(|drug| drug.high_alert),
            critical: found.iter().any(|drug| drug.critical),
        }
    }

    pub(super) fn max_daily(&self, drug: &Drug) -> Option<f64> {
        self.max_daily
            .iter()
            .find(|it| it.drug == drug.id)
            .map(|it| it.mg)
    }

    pub(super) fn max_single(&self, drug: &Drug) -> Option<f64> {
        self.max_single
            .iter()
            .find(|it| it.drug == drug.id)
            .map(|it| it.mg)
    }

    /// The rows about two drugs together.
    pub(super) fn interaction(&self, one: &Drug, other: &Drug) -> Option<&Interaction> {
        self.interactions
            .iter()
            .filter(|row| {
                let names = |side: &[String], drug: &Drug| side.iter().any(|it| drug.is_called(it));
                (names(&row.one, one) && names(&row.other, other))
                    || (names(&row.one, other) && names(&row.other, one))
            })
            .max_by_key(|row| row.severity)
    }

    pub(super) fn is_duplicate_class(&self, class: &str) -> bool {
        self.duplicate_classes.iter().any(|it| it == class)
    }

    pub(super) fn monitoring(&self, drug: &Drug) -> impl Iterator<Item = &Monitoring> {
        self.monitoring
            .iter()
            .filter(|row| row.drugs.iter().any(|it| drug.is_called(it)))
    }

    /// The groups that an allergy record names, with those that react with them.
    pub(super) fn groups_of(&self, concept: &Value) -> BTreeSet<&str> {
        let texts: Vec<Vec<String>> = words(concept).iter().map(|it| prose::words(it)).collect();
        let named = |group: &&AllergyGroup| {
            codings(concept).any(|it| {
                it.system == super::element::SNOMED
                    && group.snomed.iter().any(|code| code == it.code)
            }) || group
                .words
                .iter()
                .any(|words| texts.iter().any(|text| prose::has_phrase(text, words)))
        };
        let mut found = BTreeSet::new();
        for group in self.allergy_groups.iter().filter(named) {
            found.insert(group.id.as_str());
            found.extend(group.implies.iter().map(String::as_str));
        }
        found
    }

    /// The groups to which a drug belongs, with those that react with them.
    pub(super) fn groups_of_drug<'t>(&'t self, drug: &'t Drug) -> BTreeSet<&'t str> {
        let mut found: BTreeSet<&str> = drug.allergy_groups.iter().map(String::as_str).collect();
        for group in &self.allergy_groups {
            if drug.allergy_groups.contains(&group.id) {
                found.extend(group.implies.iter().map(String::as_str));
            }
        }
        found
    }

    /// The route of a concept, by code or words.
    pub(super) fn route(&self, concept: &Value) -> Option<&str> {
        let coded = codings(concept).find_map(|it| {
            self.routes.iter().find(|route| {
                it.system == super::element::SNOMED
                    && route.snomed.iter().any(|code| code == it.code)
            })
        });
        let worded = || words(concept).iter().find_map(|it| self.route_in(it));
        coded.map(|it| it.id.as_str()).or_else(worded)
    }

    /// The route that a text names; `None` for none and for several.
    pub(super) fn route_in(&self, text: &str) -> Option<&str> {
        let words = prose::words(text);
        let mut found = self
            .routes
            .iter()
            .filter(|route| route.words.iter().any(|it| prose::has_phrase(&words, it)));
        match (found.next(), found.next()) {
            (Some(route), None) => Some(&route.id),
            _ => None,
        }
    }
}

impl Drug {
    fn is_coded(&self, code: &str) -> bool {
        !code.is_empty()
            && self
                .rxnorm
                .iter()
                .chain(&self.rxnorm_drugs)
                .any(|it| it == code)
    }

    /// Whether a code is that of an ingredient rather than of a product.
    pub(super) fn is_ingredient_code(&self, code: &str) -> bool {
        self.rxnorm.iter().any(|it| it == code)
    }

    /// Whether a name is its id, class or one of its traits.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.id == name || self.class == name || self.traits.iter().any(|it| it == name)
    }

    /// Whether an ingredient's words name it.
    pub(super) fn is_named(&self, ingredient: &str) -> bool {
        self.name_in(&prose::words(ingredient)).is_some()
    }

    /// The first of its names that stands in the words.
    fn name_in(&self, words: &[String]) -> Option<&[String]> {
        self.names
            .iter()
            .map(Vec::as_slice)
            .find(|name| prose::has_words(words, name))
    }
}
