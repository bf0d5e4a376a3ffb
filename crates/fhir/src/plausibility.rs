//! Clinical plausibility: what is valid FHIR and still cannot, or should not, be true.
//!
//! The rules' words, gravity and numbers are data (`governance/rules/*.toml`) with source, owner and review
//! date; this module only applies them. It is pure: what the rules rest on besides the resource comes in as
//! a [`Context`] that the caller observed. What is missing there is reported as not checked, never as passed,
//! and with drugs a human must look.
//! It does not decide: policy does, from the [`Effect`] of the report. It corrects nothing: a unit slip is a
//! [`Proposal`] to a human. It is no drug knowledge base; one can be plugged in as [`DrugKnowledge`].
//!
//! Start at [`Plausibility::parse`] and [`Plausibility::check`]. One file per subject: identity (C),
//! dates (D), codes and workflow (K), values (V), medication (M).

mod claims;
mod code_source;
mod code_tables;
mod codes;
mod combinations;
mod context;
mod dates;
mod doses;
mod drugs;
mod element;
mod identity;
mod measures;
mod medication;
mod moment;
mod narrative;
mod needs;
mod prose;
mod quoted;
mod refill;
mod register;
mod report;
mod rule;
mod schedule;
mod scores;
mod sig;
mod statements;
mod trends;
mod units;
mod values;
mod workflow;

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::Value;

pub use code_source::{CodeSource, CodeStatus};
pub use context::{Context, ContextError, Deceased, LISTED_MAX, Observed, Patient, Sex};
pub use drugs::{Drug, DrugKnowledge, MedicationKind};
pub use element::has_final_result;
pub use moment::{Precision, When, time_zone};
pub use needs::{Needs, ObservationNeed};
pub use register::RuleError;
pub use report::{Effect, Judged, Part, Proposal, Report, Unchecked};
pub use rule::{ALL as RULES, Rule};

use crate::finding::{Details, Finding, RestsOn};
use crate::status::Transitions;
use code_tables::CodeTables;
use drugs::DrugTable;
use measures::Measures;
use register::Register;

/// Most entries of a Bundle that are checked; more are reported as not checked by C-02.
const ENTRIES_MAX: usize = 5_000;
/// Canonical name of the rule set in findings.
const RULE_SET: &str = "urn:chaperone:rules:plausibility";

/// The texts of the rule files.
#[derive(Clone, Copy, Debug)]
pub struct RuleFiles<'t> {
    /// `plausibility.toml`: the rules.
    pub plausibility: &'t str,
    /// `code-tables.toml`: code systems, properties, sex and age of codes, cue words.
    pub code_tables: &'t str,
    /// `vital-ranges.toml`: measures with units, ranges and alerts.
    pub vital_ranges: &'t str,
    /// `medications.toml`: drugs.
    pub medications: &'t str,
    /// `medication-checks.toml`: doses, interactions, monitoring.
    pub medication_checks: &'t str,
    /// `status-transitions.toml`: status graphs.
    pub status_transitions: &'t str,
}

impl<'t> RuleFiles<'t> {
    /// Their names without extension, in the order of [`Self::texts`].
    pub const NAMES: [&'static str; 6] = [
        "plausibility",
        "code-tables",
        "vital-ranges",
        "medications",
        "medication-checks",
        "status-transitions",
    ];

    /// All texts.
    #[must_use]
    pub fn texts(&self) -> [&'t str; 6] {
        let Self {
            plausibility,
            code_tables,
            vital_ranges,
            medications,
            medication_checks,
            status_transitions,
        } = *self;
        [
            plausibility,
            code_tables,
            vital_ranges,
            medications,
            medication_checks,
            status_transitions,
        ]
    }

    /// Takes the files from whatever holds them, by name without extension, such as `medications`.
    ///
    /// # Errors
    /// [`RuleError::Missing`] names the first that is not there.
    pub fn from_named(find: impl Fn(&str) -> Option<&'t str>) -> Result<Self, RuleError> {
        let file = |name: &'static str| {
            let stem = name.trim_end_matches(".toml");
            find(stem).ok_or(RuleError::Missing(name))
        };
        Ok(Self {
            plausibility: file("plausibility.toml")?,
            code_tables: file("code-tables.toml")?,
            vital_ranges: file("vital-ranges.toml")?,
            medications: file("medications.toml")?,
            medication_checks: file("medication-checks.toml")?,
            status_transitions: file("status-transitions.toml")?,
        })
    }
}

/// What can be plugged in.
#[derive(Clone, Copy, Default)]
pub struct Ports<'p> {
    /// Says whether codes exist; without it only check digits are judged.
    pub codes: Option<&'p dyn CodeSource>,
    /// Knows drugs that the curated table does not.
    pub drugs: Option<&'p dyn DrugKnowledge>,
}

/// The rules of a governance bundle, ready to be applied.
#[derive(Clone, Debug)]
pub struct Plausibility {
    register: Register,
    codes: CodeTables,
    measures: Measures,
    drugs: DrugTable,
    transitions: Transitions,
}

/// What a reader of the rules is told about one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSummary<'r> {
    /// Id, such as `D-01`.
    pub id: &'static str,
    /// What it checks, in words.
    pub checks: &'r str,
    /// Effects of its cases, gravest first, each once.
    pub effects: Vec<Effect>,
    /// Where it comes from.
    pub source: &'r str,
    /// Who answers for it.
    pub owner: &'r str,
    /// Day by which it must be reviewed.
    pub review_by: Date,
}

impl Plausibility {
    /// Reads the rules. A rule without source, owner, severity or review date does not load, nor does a key
    /// that this build does not know.
    ///
    /// # Errors
    /// A file is not TOML of its shape, contradicts itself or another, or does not fit this build.
    pub fn parse(files: &RuleFiles<'_>) -> Result<Self, RuleError> {
        let drugs = DrugTable::parse(files.medications, files.medication_checks)?;
        Ok(Self {
            register: Register::parse(files.plausibility)?,
            codes: CodeTables::parse(files.code_tables)?,
            measures: Measures::parse(files.vital_ranges)?,
            drugs,
            transitions: Transitions::parse(files.status_transitions)
                .map_err(RuleError::Transitions)?,
        })
    }

    /// Version of the rules, for the decision record.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.register.version
    }

    /// The rules, in the order in which they are applied.
    pub fn rules(&self) -> impl Iterator<Item = RuleSummary<'_>> {
        rule::ALL.iter().filter_map(|known| {
            let found = self.register.rules.get(known.id)?;
            let mut effects: Vec<Effect> = found.cases.values().map(|it| it.severity).collect();
            effects.sort_unstable_by(|one, other| other.cmp(one));
            effects.dedup();
            Some(RuleSummary {
                id: known.id,
                checks: &found.checks,
                effects,
                source: &found.source,
                owner: &found.owner,
                review_by: found.review_by,
            })
        })
    }

    /// Rules and tables whose review is overdue on that day. They still apply: an old check is better than
    /// none, but somebody must look at them.
    #[must_use]
    pub fn overdue(&self, today: Date) -> Vec<String> {
        let rules = self
            .rules()
            .filter(|rule| rule.review_by < today)
            .map(|rule| rule.id.to_owned());
        let tables = [
            ("code-tables.toml", self.codes.review_by),
            ("vital-ranges.toml", self.measures.review_by),
            ("medications.toml", self.drugs.review_by),
        ];
        let tables = tables
            .iter()
            .filter(|(_, review_by)| *review_by < today)
            .map(|(file, _)| (*file).to_owned());
        rules.chain(tables).collect()
    }

    /// Checks a resource, or every resource of a Bundle, against what the caller observed.
    #[must_use]
    pub fn check(&self, resource: &Value, context: &Context) -> Report {
        self.check_with(resource, context, Ports::default())
    }

    /// As [`Plausibility::check`], with code systems and a drug knowledge base plugged in.
    #[must_use]
    pub fn check_with(&self, resource: &Value, context: &Context, ports: Ports<'_>) -> Report {
        let mut checking = Checking::of(self, resource, context, ports);
        if checking.type_name == "Bundle" {
            checking.bundle(resource);
        } else {
            checking.all();
        }
        let mut report = checking.report;
        report.unchecked.sort_by_key(|it| it.part);
        report
    }

    /// What kind of medication a CodeableConcept means, by the table of drugs.
    #[must_use]
    pub fn medication(&self, concept: &Value) -> MedicationKind {
        self.drugs.kind(concept)
    }

    /// Whether a medication is wholly known, and every ingredient of it is called by one of these names: ids, classes
    /// or traits of the table of drugs.
    #[must_use]
    pub fn is_only_of(&self, concept: &Value, names: &BTreeSet<String>) -> bool {
        let known = self.drugs.concept(concept);
        let is_named = |drug: &&drugs::Drug| names.iter().any(|name| drug.is_called(name));
        matches!(known, drugs::Known::Whole(_))
            && !known.drugs().is_empty()
            && known.drugs().iter().all(is_named)
    }

    /// Whether any ingredient of a medication that is known is called by one of these names.
    #[must_use]
    pub fn is_any_of(&self, concept: &Value, names: &BTreeSet<String>) -> bool {
        let known = self.drugs.concept(concept);
        let mut drugs = known.drugs().iter();
        drugs.any(|drug| names.iter().any(|name| drug.is_called(name)))
    }

    /// Whether any drug of the table is called by a name: as its id, class or a trait.
    #[must_use]
    pub fn has_drug_called(&self, name: &str) -> bool {
        self.drugs.all().any(|drug| drug.is_called(name))
    }

    /// Whether a refill is routine: every check that an order must pass could be made and found nothing, and so could
    /// rule M-10.
    #[must_use]
    pub fn refill_is_clean(&self, report: &Report) -> bool {
        let of_refills = |rule: &str| rule == rule::M_10.id;
        self.order_checks_fired(report) == Some(false)
            && !report.judged.iter().any(|it| of_refills(it.rule))
            && !report
                .unchecked
                .iter()
                .any(|it| it.rules.iter().any(|rule| of_refills(rule)))
    }

    /// Whether what was measured is within its alert limits, as far as rule V-02 could tell; `None` when it has none, or
    /// not everything that they rest on was at hand. An alarming change over time is outside of them too.
    #[must_use]
    pub fn within_alert_limits(&self, resource: &Value, report: &Report) -> Option<bool> {
        let alerts = rule::V_02.id;
        if report.judged.iter().any(|it| it.rule == alerts) {
            return Some(false);
        }
        let mut unchecked = report.unchecked.iter().flat_map(|it| &it.rules);
        let has_limits = self
            .measures
            .readings(resource)
            .iter()
            .any(|reading| self.measures.has_alert_limits(reading.measure));
        (has_limits && !unchecked.any(|rule| *rule == alerts)).then_some(true)
    }

    /// What the rules would look at for a resource that is no Bundle, beside patient and prior version.
    #[must_use]
    pub fn needs(&self, resource: &Value, now: Timestamp) -> Needs {
        let context = Context::at(now);
        Checking::of(self, resource, &context, Ports::default()).needs()
    }

    /// Whether one of the checks that an order must pass (`order_checks` of `medication-checks.toml`) found
    /// something, or a rule wants two people to decide. `None` when nothing was found and not every one of
    /// these checks could be made: then it is not known to be clean.
    #[must_use]
    pub fn order_checks_fired(&self, report: &Report) -> Option<bool> {
        let is_listed = |rule: &str| self.drugs.order_checks.iter().any(|it| it == rule);
        let fired = report.judged.iter().any(|it| {
            let is_check = is_listed(it.rule) && it.rule != rule::UNKNOWN_DRUG.id;
            it.effect == Effect::TwoPerson || (is_check && it.effect >= Effect::Warn)
        });
        let is_unknown = report
            .judged
            .iter()
            .any(|it| it.rule == rule::UNKNOWN_DRUG.id);
        let is_undecided = report
            .unchecked
            .iter()
            .any(|it| it.rules.iter().any(|rule| is_listed(rule)));
        match fired {
            true => Some(true),
            false => (!is_unknown && !is_undecided).then_some(false),
        }
    }
}

/// One check in progress.
pub(crate) struct Checking<'c> {
    rules: &'c Plausibility,
    context: &'c Context,
    ports: Ports<'c>,
    resource: &'c Value,
    type_name: &'c str,
    /// Path of the resource, for findings.
    at: String,
    /// The Bundle that holds the resource.
    bundle: Option<&'c Value>,
    report: Report,
}

/// Words for the blanks of a sentence.
type Words<'w> = &'w [(&'w str, &'w str)];

impl<'c> Checking<'c> {
    fn of(
        rules: &'c Plausibility,
        resource: &'c Value,
        context: &'c Context,
        ports: Ports<'c>,
    ) -> Self {
        let type_name = element::resource_type(resource);
        Self {
            rules,
            context,
            ports,
            resource,
            type_name,
            at: type_name.to_owned(),
            bundle: None,
            report: Report::default(),
        }
    }

    fn all(&mut self) {
        self.identity();
        self.quoted();
        self.narrative();
        self.dates();
        self.schedule();
        self.codes();
        self.statements();
        self.claims();
        self.workflow();
        self.values();
        self.trends();
        self.scores();
        self.medication();
    }

    fn bundle(&mut self, bundle: &'c Value) {
        self.bundle = Some(bundle);
        self.one_patient(bundle);
        for (index, entry) in element::list(bundle, "entry")
            .iter()
            .take(ENTRIES_MAX)
            .enumerate()
        {
            let Some(resource) = entry.get("resource") else {
                continue;
            };
            self.resource = resource;
            self.type_name = element::resource_type(resource);
            self.at = format!("Bundle.entry[{index}].resource");
            // A Bundle in a Bundle belongs to no write.
            if self.type_name != "Bundle" {
                self.all();
            }
        }
    }

    /// A number of the rule.
    fn limit(&self, rule: &'static Rule, name: &str) -> f64 {
        let found = self.rules.register.rules.get(rule.id);
        found
            .and_then(|it| it.limits.get(name).copied())
            .unwrap_or(f64::NAN)
    }

    /// Records that a rule fired at a path below the resource (empty for the resource itself).
    fn fire(
        &mut self,
        rule: &'static Rule,
        case: &'static str,
        path: &str,
        parts: &[Part],
        words: Words<'_>,
    ) {
        self.fire_proposing(rule, case, path, parts, words, None);
    }

    fn fire_proposing(
        &mut self,
        rule: &'static Rule,
        case: &'static str,
        path: &str,
        parts: &[Part],
        words: Words<'_>,
        proposal: Option<Proposal>,
    ) {
        // Loading has seen to it that every rule and case is there.
        let (effect, message) = match self.rules.register.rules.get(rule.id) {
            Some(found) => match found.cases.get(case) {
                Some(said) => (
                    said.severity,
                    register::fill(&said.words, words, &found.limits),
                ),
                None => (rule.effect_max, found.checks.clone()),
            },
            None => (rule.effect_max, rule.id.to_owned()),
        };
        let expression = if path.is_empty() {
            self.at.clone()
        } else {
            format!("{}.{path}", self.at)
        };
        let mut finding = Finding::new(rule.finding, effect.severity(), expression, message);
        if parts.iter().any(|part| part.is_private()) {
            finding.rests_on = RestsOn::Context;
        }
        finding.details = Some(Box::new(Details {
            profile: Some(RULE_SET.to_owned()),
            constraint: Some(format!("{}:{case}", rule.id)),
            is_best_practice: false,
        }));
        let mut parts = parts.to_vec();
        parts.sort_unstable();
        parts.dedup();
        self.report.judged.push(Judged {
            rule: rule.id,
            case,
            effect,
            finding,
            parts,
            proposal,
        });
    }

    /// Records that a rule could not be applied for want of a part of the context.
    fn unchecked(&mut self, rule: &'static Rule, part: Part) {
        let needs_human = rule.id.starts_with("M-");
        let at = self.report.unchecked.iter().position(|it| it.part == part);
        match at.and_then(|at| self.report.unchecked.get_mut(at)) {
            Some(found) => {
                found.needs_human |= needs_human;
                if !found.rules.contains(&rule.id) {
                    found.rules.push(rule.id);
                }
            }
            None => self.report.unchecked.push(Unchecked {
                part,
                rules: vec![rule.id],
                needs_human,
            }),
        }
    }

    /// The patient of the run, if one is known; else the rule is recorded as not checked.
    fn patient_for(&mut self, rule: &'static Rule) -> Option<&'c Patient> {
        let context: &'c Context = self.context;
        let found = context.patient.present();
        if found.is_none() {
            self.unchecked(rule, Part::Patient);
        }
        found
    }

    /// A FHIR date at the site.
    fn when(&self, text: &str) -> Option<When> {
        When::parse(text, self.context.time_zone.as_ref())
    }

    /// Whether the resource is a mistake that is marked as one: nothing in it is claimed any more.
    fn is_retracted(&self) -> bool {
        element::state(self.resource, "status") == Some("entered-in-error")
            || element::state(self.resource, "verificationStatus") == Some("entered-in-error")
    }
}

impl std::fmt::Debug for Ports<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Ports")
            .field("codes", &self.codes.is_some())
            .field("drugs", &self.drugs.is_some())
            .finish()
    }
}
