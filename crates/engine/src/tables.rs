//! Curated tables of the bundle that observers look things up in: visit types, ranges, reasons.
//!
//! Not here: drugs and checks of an order (`chaperone_fhir::plausibility`).
//! What a table does not hold is unknown, and the unknown goes to a human.

use chaperone_core::change::ChangeClass;
use chaperone_core::ids::OverrideReason;
use chaperone_fhir::plausibility::Plausibility;
use chaperone_ledger::audit::codes::AuditCodes;
use chaperone_policy::Bundle;
use serde::Deserialize;

use crate::audit::accounting::Accounting;
use crate::batch::BatchRules;
use crate::bulk::BulkRules;
use crate::claim::ClaimRules;
use crate::confidential::ConfidentialServices;
use crate::context::StartFailed;
use crate::on_screen::ScreenRules;
use crate::refill::Protocols;
use crate::verification::Trust;

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

#[derive(Debug)]
#[cfg_attr(test, derive(Default))]
pub(crate) struct Tables {
    visit_types: Vec<VisitType>,
    vital_ranges: Vec<VitalRange>,
    audit_codes: AuditCodes,
    accounting: Accounting,
    deciding: Deciding,
    override_reasons: Vec<OverrideChoice>,
    trust: Trust,
    refills: Protocols,
    bulk: BulkRules,
    confidential: ConfidentialServices,
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
    pub(crate) fn read(bundle: &Bundle, rules: &Plausibility) -> Result<Self, StartFailed> {
        let self_schedule: SelfSchedule = table(bundle, "rules/self-schedule.toml")?;
        let overrides: OverrideReasons = table(bundle, "rules/override-reasons.toml")?;
        let vitals: VitalRanges = table(bundle, "rules/vital-ranges.toml")?;
        Ok(Self {
            visit_types: self_schedule.visit_types,
            vital_ranges: vitals.ranges,
            audit_codes: audit_codes(bundle)?,
            accounting: table(bundle, "rules/accounting.toml")?,
            override_reasons: overrides.reasons,
            trust: Trust::read(bundle)?,
            refills: Protocols::read(bundle, rules)?,
            deciding: deciding(bundle)?,
            bulk: BulkRules::of(bundle)?,
            confidential: ConfidentialServices::of(bundle)?,
        })
    }

    /// The delegated protocols.
    pub(crate) fn refills(&self) -> &Protocols {
        &self.refills
    }

    /// How much an agent may propose in an hour.
    pub(crate) fn bulk(&self) -> &BulkRules {
        &self.bulk
    }

    /// Which services are confidential for adolescents.
    pub(crate) fn confidential(&self) -> &ConfidentialServices {
        &self.confidential
    }

    /// Whose word verifies what.
    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Which codes events are told by.
    pub(crate) fn audit_codes(&self) -> &AuditCodes {
        &self.audit_codes
    }

    /// How long a claim holds.
    pub(crate) fn claim_rules(&self) -> &ClaimRules {
        &self.deciding.claims
    }

    /// What may be decided together.
    pub(crate) fn batch_rules(&self) -> &BatchRules {
        &self.deciding.batch
    }

    /// How long something is on the screen at least.
    pub(crate) fn screen_rules(&self) -> &ScreenRules {
        &self.deciding.on_screen
    }

    /// Why a warning may be approved over.
    pub(crate) fn override_reasons(&self) -> &[OverrideChoice] {
        &self.override_reasons
    }

    /// Which disclosures need not be accounted for.
    pub(crate) fn accounting(&self) -> &Accounting {
        &self.accounting
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

/// A rule file of the bundle, by its path, as it is written.
///
/// # Errors
/// [`StartFailed::Table`] when it is missing or says something else.
pub(crate) fn table<T: serde::de::DeserializeOwned>(
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

/// Fewest milliseconds that `rules/deciding.toml` may say: nobody reads a change faster.
const LEAST_MS_MIN: u32 = 2_000;
/// Most milliseconds: beyond them, a page is a hindrance and nothing else.
const LEAST_MS_MAX: u32 = 60_000;
/// Longest claim, in seconds: an hour.
const HOLD_S_MAX: u32 = 3_600;

/// Most proposals on one page that `rules/deciding.toml` may say.
const BATCH_ITEMS_MAX: u32 = 20;

/// How people decide: `rules/deciding.toml`.
#[derive(Debug, Clone, Default, Deserialize)]
struct Deciding {
    on_screen: ScreenRules,
    claims: ClaimRules,
    #[serde(default)]
    batch: BatchRules,
}

fn deciding(bundle: &Bundle) -> Result<Deciding, StartFailed> {
    const FILE: &str = "rules/deciding.toml";
    let read: Deciding = table(bundle, FILE)?;
    let wrong = |why: String| StartFailed::Table { file: FILE, why };
    let screen = &read.on_screen;
    for (key, value) in [
        ("on_screen.least_ms", screen.least_ms),
        ("on_screen.least_grave_ms", screen.least_grave_ms),
    ] {
        if !(LEAST_MS_MIN..=LEAST_MS_MAX).contains(&value) {
            let why = format!("`{key}` is {value}; it must be {LEAST_MS_MIN} to {LEAST_MS_MAX}");
            return Err(wrong(why));
        }
    }
    let claims = &read.claims;
    let fits = claims.hold_s_min <= claims.hold_grave_s
        && claims.hold_grave_s <= claims.hold_s
        && claims.hold_s <= HOLD_S_MAX
        && claims.part_of_time_left >= 2;
    if !fits {
        let why = format!(
            "claims hold at least `hold_s_min`, no longer for grave changes than for others, at most {HOLD_S_MAX} seconds, and at most half of the time left"
        );
        return Err(wrong(why));
    }
    let batch = &read.batch;
    if batch.class_max > ChangeClass::M2 || batch.items_max > BATCH_ITEMS_MAX {
        let why = format!(
            "`batch` goes up to class M2 and {BATCH_ITEMS_MAX} proposals; what is graver is decided by itself"
        );
        return Err(wrong(why));
    }
    Ok(read)
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
