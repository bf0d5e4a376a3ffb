//! The third stage of validation: clinical plausibility, from the rules of the bundle.
//!
//! The rules are applied in `chaperone_fhir::plausibility`; here is what they are given, what of their
//! answer is recorded and shown, and what policy is told. Nothing is refused here: what blocks is denied
//! by the ruling, what warns raises the gate. Start at [`Engine::judge`].

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::bundle::WriteAction;
use chaperone_core::digest::Digest;
use chaperone_core::evidence::{RulesRecord, StageRecord, ValidationRecord, WriteOrder};
use chaperone_core::ports::EhrReadFailed;
use chaperone_core::resource::ResourceType;
use chaperone_fhir::finding::{Finding, RestsOn, Severity, id};
use chaperone_fhir::plausibility::{Effect, Part, Plausibility, Report, RuleError, RuleFiles};
use chaperone_policy::Bundle;
use serde::Serialize;
use serde_json::Value;

use super::gather::Inputs;
use super::surroundings::{Surroundings, add_beside};
use super::validate::stage;
use crate::context::Engine;

/// Most findings of one proposal that are kept; what is left off is graver nowhere.
const FINDINGS_MAX: usize = 200;
/// Stands behind the id of a rule in place of what it would say about a protected record.
const PROTECTED: &str = ": this rule fired on a record that is specially protected (by its security label), \
    so what it found is not repeated here; whoever may open the record finds it at the EHR.";
/// The fact for which a refill is held against those who wrote the protocols.
pub(crate) const REFILL_CHECKS: &str = "refill_checks_clean";
/// Name of the stage in the record.
pub(super) const STAGE: &str = StageRecord::PLAUSIBILITY;

/// The rules of the bundle, read once.
pub(crate) struct RuleSet {
    pub(crate) plausibility: Plausibility,
    /// Digest of the rule files.
    digest: Digest,
}

impl RuleSet {
    /// Reads the rules of a bundle.
    pub(crate) fn read(bundle: &Bundle) -> Result<Self, RuleError> {
        let files = RuleFiles::from_named(|name| bundle.rule_text(name))?;
        Ok(Self {
            plausibility: Plausibility::parse(&files)?,
            digest: Digest::of_parts(files.texts().into_iter().map(str::as_bytes)),
        })
    }
}

/// What policy is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plausible {
    /// The gravest effect of any rule; what could not be checked and needs a human counts as a warning.
    pub(crate) effect: Option<Effect>,
    /// Whether a check that an order must pass fired; `None` when not every one could be made.
    pub(crate) order_checks_fired: Option<bool>,
    /// Whether it is a routine refill: every check could be made, and none found anything.
    pub(crate) refill_is_clean: bool,
    /// Whether what was measured is within its alert limits, where that is known.
    pub(crate) within_alert_limits: Option<bool>,
}

impl Plausible {
    /// The effect as the fact `plausibility` says it.
    pub(crate) fn word(self) -> &'static str {
        match self.effect {
            None | Some(Effect::Info) => "clear",
            Some(Effect::Warn) => "warn",
            Some(Effect::TwoPerson) => "two_person",
            Some(Effect::Block) => "block",
        }
    }
}

/// A finding with what reviewers are told beside it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    pub(super) finding: Finding,
    /// What it rests on, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) basis: Vec<&'static str>,
    /// A value that would be plausible. Nobody applies it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) proposed: Option<String>,
}

impl From<Finding> for Shown {
    fn from(finding: Finding) -> Self {
        Self {
            finding,
            basis: Vec::new(),
            proposed: None,
        }
    }
}

/// The stage, run.
pub(super) struct Judged {
    stage: StageRecord,
    rules: RulesRecord,
    pub(super) shown: Vec<Shown>,
    pub(super) plausible: Plausible,
    /// Whether anything that the rules asked for could not be had.
    is_missing: bool,
}

impl Judged {
    /// Puts the stage into the record of the validation.
    pub(super) fn note_in(&self, record: &mut ValidationRecord) {
        record.stages.retain(|it| it.stage != STAGE);
        record.stages.push(self.stage.clone());
        record.rules = Some(self.rules.clone());
    }
}

impl Engine {
    /// Applies the rules to a merged result that is valid: by itself, and once more as if what is proposed `beside` it
    /// were on record. What either finds counts, so that nothing that is proposed takes a warning away.
    pub(super) async fn judge(
        &self,
        write: &WriteAction,
        inputs: &Inputs,
        resource: &Value,
        beside: &[&Value],
    ) -> Judged {
        let now = self.now();
        let Surroundings {
            mut context,
            missed,
            restricted,
            looked_up,
        } = self.surroundings(inputs, resource, now).await;
        // Who belongs to the organisation and treats the patient is known where a protocol says it: a renewal is of
        // what the protocol's own prescriber wrote for them.
        if write.observe.iter().any(|name| name == REFILL_CHECKS) {
            let prescribers = self.tables.refills().prescribers(now);
            context.care_team = Some(prescribers.clone());
            context.tenant = Some(prescribers);
        }
        let rules = &self.rules.plausibility;
        let mut report = rules.check(resource, &context);
        if !beside.is_empty() {
            add_beside(&mut context, beside);
            add_to(&mut report, rules.check(resource, &context));
        }
        // Nobody asked for is worth knowing; asked for and not had is a human's to look at.
        for unchecked in &mut report.unchecked {
            unchecked.needs_human |= missed.contains(&unchecked.part);
        }
        // Who may decide on the proposal may not be who may see the record that a rule went by.
        for judged in &mut report.judged {
            if judged.parts.iter().any(|part| restricted.contains(part)) {
                judged.finding.message = format!("{}{PROTECTED}", judged.rule);
            }
        }
        let plausible = Plausible {
            effect: report.effect(),
            order_checks_fired: rules.order_checks_fired(&report),
            refill_is_clean: rules.refill_is_clean(&report),
            within_alert_limits: rules.within_alert_limits(resource, &report),
        };
        let not_checked: usize = report.unchecked.iter().map(|it| it.rules.len()).sum();
        let type_name = write.resource.as_str();
        let mut shown = shown(&report, type_name, inputs.holds_record(write), &missed);
        let findings: Vec<Finding> = shown.iter().map(|it| it.finding.clone()).collect();
        shown.truncate(FINDINGS_MAX);
        Judged {
            // Counts all of them, also what is not kept.
            stage: stage(STAGE, true, &findings),
            rules: RulesRecord {
                rule_set: format!("{STAGE}/{}", rules.version()),
                digest: self.rules.digest,
                looked_up,
                not_checked: u32::try_from(not_checked).unwrap_or(u32::MAX),
            },
            shown,
            plausible,
            is_missing: !missed.is_empty(),
        }
    }

    /// Whether the rules find nothing in a renewal, as things stand now: every check of an order and of a refill.
    ///
    /// # Errors
    /// When something that they rest on cannot be had now.
    pub(crate) async fn is_a_clean_refill(
        &self,
        sent: &WriteOrder,
        prior: Value,
        patient_id: &str,
    ) -> Result<bool, EhrReadFailed> {
        let tool = sent
            .asked
            .as_ref()
            .and_then(|it| self.bundle.tool(&it.tool));
        let write = tool.and_then(|tool| tool.write.as_ref());
        let (Some(write), Ok(order)) = (write, serde_json::from_str::<Value>(&sent.body)) else {
            return Ok(false);
        };
        let kind = ResourceType::new("Patient").map_err(|_| EhrReadFailed::Unsupported)?;
        let patient = match self.ehr.read(&kind, patient_id).await {
            Ok(patient) => patient,
            Err(EhrReadFailed::NotFound) => return Ok(false),
            Err(failed) => return Err(failed),
        };
        let inputs = Inputs {
            targets: BTreeMap::new(),
            resources: BTreeMap::from([("prior".to_owned(), prior)]),
            sources: Vec::new(),
            base: None,
            patient_id: Some(patient_id.to_owned()),
            patient: Some(patient),
            encounter: None,
            resembles: Vec::new(),
        };
        let judged = self.judge(write, &inputs, &order, &[]).await;
        if judged.is_missing {
            return Err(EhrReadFailed::Unavailable);
        }
        Ok(judged.plausible.refill_is_clean)
    }
}

/// Adds what a second look found and the first did not, in the order of the first.
fn add_to(report: &mut Report, more: Report) {
    for judged in more.judged {
        let is_known = report.judged.iter().any(|it| {
            it.rule == judged.rule && it.case == judged.case && it.finding == judged.finding
        });
        if !is_known {
            report.judged.push(judged);
        }
    }
    for unchecked in more.unchecked {
        match report
            .unchecked
            .iter_mut()
            .find(|it| it.part == unchecked.part)
        {
            Some(known) => {
                known.needs_human |= unchecked.needs_human;
                let rules = unchecked.rules.into_iter();
                for rule in rules {
                    if !known.rules.contains(&rule) {
                        known.rules.push(rule);
                    }
                }
            }
            None => report.unchecked.push(unchecked),
        }
    }
}

/// The findings of a report as reviewers see them: what fired, then what was not checked.
fn shown(
    report: &Report,
    type_name: &str,
    holds_record: bool,
    missed: &BTreeSet<Part>,
) -> Vec<Shown> {
    let fired = report.judged.iter().map(|judged| {
        let mut basis: Vec<&'static str> = judged.parts.iter().map(|part| part.words()).collect();
        basis.insert(0, "the proposal");
        if holds_record {
            basis.push("what was taken over from the record");
        }
        let proposed = judged.proposal.as_ref();
        Shown {
            finding: judged.finding.clone(),
            basis,
            proposed: proposed.map(|it| format!("{} {}", it.value, it.unit)),
        }
    });
    let unchecked = report.unchecked.iter().map(|it| {
        let mut finding = it.finding();
        type_name.clone_into(&mut finding.expression);
        if missed.contains(&it.part) {
            finding
                .message
                .push_str(" The EHR was asked, and did not give it or gave too much to look at.");
        }
        Shown::from(finding)
    });
    let mut all: Vec<Shown> = fired.chain(unchecked).collect();
    // Gravest first for the reader; the order among equals stays that of the rules.
    all.sort_by_key(|it| std::cmp::Reverse(it.finding.severity));
    for shown in &mut all {
        // What was merged in from the record is not the agent's input, and rules look at all of it.
        if holds_record {
            shown.finding.rests_on = RestsOn::Context;
        }
    }
    all
}

/// Whether a finding says that the resource is implausible, rather than invalid or not checked.
pub(super) fn is_implausible(finding: &Finding) -> bool {
    finding.severity >= Severity::Warning
        && finding.id.starts_with("plausibility.")
        && finding.id != id::PLAUSIBILITY_NOT_CHECKED
}
