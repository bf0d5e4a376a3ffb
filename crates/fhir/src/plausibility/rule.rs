//! The rules this build knows how to apply: their cases, the words each may use, their limits.
//!
//! What they say and how grave they are stands in `governance/rules/plausibility.toml`; that file must fit
//! this one exactly, or it does not load. The code of each rule stands in the file of its subject.
//! Start at [`ALL`].

use super::report::Effect;

/// What the code of a rule needs from the data.
#[derive(Debug)]
pub struct Rule {
    /// Id in documents and data, such as `D-01`.
    pub id: &'static str,
    /// Id of its findings.
    pub finding: &'static str,
    /// The cases it tells apart.
    pub cases: &'static [&'static str],
    /// The words that its sentences may fill in.
    pub words: &'static [&'static str],
    /// The numbers it needs.
    pub limits: &'static [&'static str],
    /// The gravest effect that data may give it.
    pub effect_max: Effect,
}

const fn rule(
    id: &'static str,
    finding: &'static str,
    cases: &'static [&'static str],
    words: &'static [&'static str],
    limits: &'static [&'static str],
) -> Rule {
    Rule {
        id,
        finding,
        cases,
        words,
        limits,
        effect_max: Effect::Block,
    }
}

/// A rule about sex, age or a guess: it warns and never blocks, whatever the data says.
const fn warning_rule(
    id: &'static str,
    finding: &'static str,
    cases: &'static [&'static str],
    words: &'static [&'static str],
) -> Rule {
    Rule {
        effect_max: Effect::Warn,
        ..rule(id, finding, cases, words, &[])
    }
}

macro_rules! rules {
    ($($name:ident = $make:ident($id:literal, $($rest:expr),+ $(,)?);)+) => {
        $(pub(super) static $name: Rule = $make($id, concat!("plausibility.", $id), $($rest),+);)+
        /// All rules, in the order in which they are listed and applied.
        pub static ALL: &[&Rule] = &[$(&$name),+];
    };
}

rules! {
    C_01 = rule("C-01", &["missing", "other"], &["element"], &[]);
    C_02 = rule("C-02", &["several"], &["count"], &[]);
    C_03 = rule("C-03", &["inactive", "replaced"], &[], &[]);
    C_04 = rule("C-04", &["unresolved", "other-patient"], &[], &[]);
    C_05 = rule("C-05", &["outside", "status"], &["date", "status"], &["before_hours", "after_hours"]);
    C_06 = rule("C-06", &["foreign", "no-relationship"], &["element"], &[]);
    C_07 = rule("C-07", &["foreign-host", "unresolved", "other-patient", "contained-patient"], &["element"], &[]);
    C_08 = rule("C-08", &["birth-date", "identifier", "name"], &[], &[]);
    C_09 = rule("C-09", &["drug", "dose", "laterality", "negation"], &["drug", "dose", "side"], &[]);
    D_01 = rule("D-01", &["before-birth"], &["date"], &["prenatal_months"]);
    D_02 = rule("D-02", &["after-death"], &["date"], &[]);
    D_03 = rule("D-03", &["future", "past"], &["date"], &["tolerance_minutes"]);
    D_04 = rule("D-04", &["period", "abatement", "issued", "supplied"], &["from", "to"], &[]);
    D_05 = rule("D-05", &["placeholder", "january-first"], &["date"], &[]);
    D_06 = rule("D-06", &["no-zone", "gap"], &["date"], &[]);
    D_07 = rule("D-07", &["impossible", "unlikely"], &["years"], &["block_years", "warn_years"]);
    D_08 = rule("D-08", &["invented"], &["date"], &[]);
    D_09 = rule("D-09", &["outside-slot", "slot-not-free", "overlap", "lead-time", "duration"], &["minutes", "limit"], &["lead_minutes", "duration_minutes_min", "duration_minutes_max"]);
    K_01 = rule("K-01", &["system"], &["element", "system", "allowed"], &[]);
    K_02 = rule("K-02", &["unknown", "inactive", "not-billable", "check-digit"], &["code", "system"], &[]);
    K_03 = rule("K-03", &["display", "drug", "brand"], &["code", "expected"], &[]);
    K_04 = rule("K-04", &["unit", "category"], &["code", "name", "unit", "allowed"], &[]);
    K_05 = rule("K-05", &["dimension"], &["code", "name", "unit", "allowed"], &[]);
    K_06 = warning_rule("K-06", &["value", "dose"], &["name", "value", "unit", "proposed", "proposed_unit"]);
    K_07 = warning_rule("K-07", &["female", "male"], &["code"]);
    K_08 = warning_rule("K-08", &["age"], &["code", "what", "years"]);
    K_09 = rule("K-09", &["side", "procedure-side"], &["said", "coded"], &[]);
    K_10 = rule("K-10", &["negated", "family", "historical", "unconfirmed"], &["cue"], &[]);
    K_11 = rule("K-11", &["no-diagnosis", "pointer", "service-date", "place", "duplicate"], &["item", "sequence"], &[]);
    K_12 = rule("K-12", &["transition", "created", "frozen"], &["element", "from", "to", "allowed"], &[]);
    K_13 = rule("K-13", &["duplicate", "resubmitted"], &["minutes"], &["minutes"]);
    V_01 = rule("V-01", &["range", "whole-number"], &["name", "value", "unit", "low", "high"], &[]);
    V_02 = rule(
        "V-02",
        &["low", "high", "child-low", "child-high", "hypotension", "condition", "weight", "heart-failure", "creatinine", "height", "answer", "unusual"],
        &["name", "value", "unit", "limit", "age", "change", "days"],
        &["adult_years", "weight_percent", "weight_days", "failure_day_kg", "failure_week_kg", "creatinine_factor", "height_cm", "vomiting_glucose"],
    );
    V_03 = rule("V-03", &["delta"], &["name", "value", "unit", "change", "limit"], &["hours"]);
    V_04 = rule("V-04", &["pressure-order", "pulse-pressure", "bmi", "sum"], &["value", "expected", "low", "high", "name"], &["pulse_min", "pulse_max", "bmi_percent"]);
    V_05 = rule("V-05", &["repeated", "clock"], &["count", "minutes"], &["same_count", "clock_minutes"]);
    V_06 = rule("V-06", &["contradiction"], &["value", "unit", "interpretation", "low", "high"], &[]);
    M_01 = rule("M-01", &["missing", "ingredient-only", "text", "draft"], &["element"], &[]);
    M_02 = rule("M-02", &["ingredient", "group"], &["drug", "group"], &[]);
    M_03 = rule("M-03", &["same-drug", "same-class"], &["drug", "class"], &[]);
    M_04 = rule("M-04", &["over", "far-over", "single"], &["drug", "dose", "max", "because"], &["block_factor"]);
    M_05 = rule("M-05", &["daily"], &["drug", "times"], &[]);
    M_06 = rule("M-06", &["no-weight", "not-looked", "unreadable-weight", "over-dose", "under-dose", "over-day", "too-young"], &["drug", "dose", "low", "high", "limit"], &["below_years", "weight_days", "infant_weight_days"]);
    M_07 = rule("M-07", &["block", "warn"], &["drug", "egfr", "limit"], &["days"]);
    M_08 = rule("M-08", &["pregnancy"], &["drug"], &["age_min", "age_max"]);
    M_09 = rule("M-09", &["block", "two-person", "warn"], &["drug", "other", "why"], &[]);
    M_10 = rule(
        "M-10",
        &["not-active", "other-practice", "visit", "monitoring", "too-soon", "controlled", "changed-dose"],
        &["drug", "months", "what", "days", "percent"],
        &["visit_months", "supply_percent"],
    );
    M_11 = rule(
        "M-11",
        &["trailing-zero", "naked-decimal", "abbreviation", "ten-fold", "thousand-fold", "prior"],
        &["drug", "dose", "low", "high", "proposed"],
        &["slip_factor", "prior_factor"],
    );
    M_12 = rule("M-12", &["route", "as-needed"], &["form", "route"], &[]);
    UNKNOWN_DRUG = rule("unknown-drug", &["ordered", "listed"], &[], &[]);
}

/// Rules that are always among those which an order must pass: data may add to them and not take away.
///
/// # Source
/// Row 34 of the write-back matrix ("interaction, allergy and dose checks clean"), requirement R036.
pub(super) const ORDER_CHECKS: &[&str] = &[
    "M-02",
    "M-03",
    "M-04",
    "M-05",
    "M-06",
    "M-07",
    "M-09",
    "M-11",
    "K-06",
    "unknown-drug",
];

/// The rule of an id.
pub(super) fn by_id(id: &str) -> Option<&'static Rule> {
    ALL.iter().copied().find(|rule| rule.id == id)
}
