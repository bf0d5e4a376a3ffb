//! What the plausibility rules answer: what fired, what could not be checked, and what each rests on.
//!
//! Not the rules themselves. Start at [`Report`].

use crate::finding::{Finding, RestsOn, Severity, id};
use crate::json::Document;

/// What a rule that fired asks for. The order is from light to grave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Worth knowing.
    Info,
    /// A human must see it and give a reason.
    Warn,
    /// Blocks, unless two people with the right roles override it.
    TwoPerson,
    /// Blocks; nobody overrides it inside the product.
    Block,
}

impl Effect {
    /// The severity that a finding of this effect has.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Effect::Info => Severity::Information,
            Effect::Warn => Severity::Warning,
            Effect::TwoPerson | Effect::Block => Severity::Error,
        }
    }
}

/// A part of the context that a rule looks at. What stands in the checked resource itself is no part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The time of the check.
    Now,
    /// The time zone of the site.
    TimeZone,
    /// The patient to whom the run is bound.
    Patient,
    /// The version that the resource would replace.
    Prior,
    /// The encounter that the resource names.
    Encounter,
    /// The patient's medications.
    Medications,
    /// The patient's allergies.
    Allergies,
    /// The patient's conditions.
    Conditions,
    /// The patient's observations.
    Observations,
    /// Whether the patient is pregnant.
    Pregnancy,
    /// The patient's eGFR.
    KidneyFunction,
    /// The patient's weight.
    Weight,
    /// The patient's appointments.
    Appointments,
    /// The slot that an appointment takes.
    Slots,
    /// The patient's claims.
    Claims,
    /// Who is in a care relationship with the patient.
    CareTeam,
    /// Who and what belongs to the tenant.
    Tenant,
    /// What the references of the resource lead to.
    References,
    /// What was said or written at the source.
    Quotes,
    /// The patient's last visit.
    LastVisit,
    /// What the clock of the device said.
    DeviceClock,
    /// Code systems that decide whether a code exists.
    CodeSystems,
    /// A drug knowledge base that knows the drug.
    DrugKnowledge,
}

impl Part {
    /// The part in words, for messages.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Part::Now => "the time",
            Part::TimeZone => "the time zone of the site",
            Part::Patient => "the patient's birth date, sex or record state",
            Part::Prior => "the prior version",
            Part::Encounter => "the encounter",
            Part::Medications => "the list of medications",
            Part::Allergies => "the list of allergies",
            Part::Conditions => "the list of conditions",
            Part::Observations => "the recent observations",
            Part::Pregnancy => "whether the patient is pregnant",
            Part::KidneyFunction => "a recent eGFR",
            Part::Weight => "a recent weight",
            Part::Appointments => "the list of appointments",
            Part::Slots => "the slot",
            Part::Claims => "the list of claims",
            Part::CareTeam => "the care relationships",
            Part::Tenant => "the directory of the organisation",
            Part::References => "what the references lead to",
            Part::Quotes => "the words of the source",
            Part::LastVisit => "the last visit",
            Part::DeviceClock => "the clock of the device",
            Part::CodeSystems => "a code system that decides the codes",
            Part::DrugKnowledge => "a drug knowledge base that judges the drug and its dose",
        }
    }

    /// Whether it tells something about a patient or tenant, which the sender of a resource may not know.
    #[must_use]
    pub fn is_private(self) -> bool {
        !matches!(
            self,
            Part::Now | Part::TimeZone | Part::CodeSystems | Part::DrugKnowledge
        )
    }
}

/// A value that would be plausible where the given one is not. Nobody applies it but a human.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// The number.
    pub value: f64,
    /// Its UCUM unit.
    pub unit: String,
}

/// A rule that fired.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Id of the rule, such as `D-01`.
    pub rule: &'static str,
    /// Which of the rule's cases.
    pub case: &'static str,
    /// What it asks for.
    pub effect: Effect,
    /// What a human is told.
    pub finding: Finding,
    /// What it rests on besides the resource, in the order of [`Part`].
    pub parts: Vec<Part>,
    /// What would be plausible.
    pub proposal: Option<Proposal>,
}

/// Rules that could not be applied because a part of the context is missing or says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unchecked {
    /// What is missing.
    pub part: Part,
    /// Ids of the rules, in the order in which they were tried.
    pub rules: Vec<&'static str>,
    /// Whether a human has to look instead; so it is with everything about drugs.
    pub needs_human: bool,
}

impl Unchecked {
    /// What is missing, and what that leaves open, as a finding.
    #[must_use]
    pub fn finding(&self) -> Finding {
        let rules = self.rules.join(", ");
        let (severity, then) = if self.needs_human {
            (Severity::Warning, "a human must check instead")
        } else {
            (Severity::Information, "they have not passed")
        };
        Finding {
            id: id::PLAUSIBILITY_NOT_CHECKED,
            severity,
            expression: String::new(),
            position: None,
            message: format!(
                "Not checked: {rules}. Missing is {}; {then}.",
                self.part.words()
            ),
            rests_on: if self.part.is_private() {
                RestsOn::Context
            } else {
                RestsOn::InputOnly
            },
            details: None,
        }
    }
}

/// The answer to one check.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// What fired, in the order of the rules.
    pub judged: Vec<Judged>,
    /// What could not be checked, in the order of [`Part`]. It is never a pass.
    pub unchecked: Vec<Unchecked>,
}

impl Report {
    /// The gravest effect; `None` if nothing fired. What was not checked but needs a human counts as a
    /// warning.
    #[must_use]
    pub fn effect(&self) -> Option<Effect> {
        let unchecked = self.unchecked.iter().any(|it| it.needs_human);
        self.judged
            .iter()
            .map(|it| it.effect)
            .chain(unchecked.then_some(Effect::Warn))
            .max()
    }

    /// The effect of what rests on the resource alone: as much as the sender may hear of it.
    #[must_use]
    pub fn effect_of_input(&self) -> Option<Effect> {
        self.judged
            .iter()
            .filter(|it| it.finding.rests_on == RestsOn::InputOnly)
            .map(|it| it.effect)
            .max()
    }

    /// Everything as findings: what fired, then one finding for each missing part.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let unchecked = self.unchecked.iter().map(Unchecked::finding);
        self.judged
            .iter()
            .map(|it| it.finding.clone())
            .chain(unchecked)
            .collect()
    }

    /// Fills in line and column of each finding from the text that was checked.
    pub fn locate(&mut self, document: &Document<'_>) {
        for judged in &mut self.judged {
            judged.finding.position =
                crate::plausibility::element::find(document, &judged.finding.expression).map(
                    |value| {
                        let (line, column) = document.line_and_column(value.offset());
                        crate::finding::Position { line, column }
                    },
                );
        }
    }
}
