//! The whole validator: structure, Bundle rules, questionnaires, profiles; and the place where later stages join.
//!
//! It is made once for a catalogue and then used for many texts, from any number of threads: what it
//! compiles it keeps. It does no I/O and reads no clock.
//! Start at [`Validator::new`] and [`Validator::validate`].

use std::sync::Arc;

use crate::bundle;
use crate::catalogue::Catalogue;
use crate::definition_rules;
use crate::definitions::Definitions;
use crate::fhirpath::{Moment, MomentKind};
use crate::finding::{Finding, Severity, id};
use crate::json::{Document, Value};
use crate::package::PackageId;
use crate::profile::report::Report;
use crate::profile::store::Profiles;
use crate::profile::walk::{Basis, Walk};
use crate::questionnaire::{self, Forms};
use crate::terminology::{Severities, Terminology, TerminologyServer};
use crate::validate::{
    FindingCounts, Limits, Stage, StageOutcome, StageState, VALIDATOR, markup, structure,
};

pub use crate::profile::resolve::Supporting;
pub use crate::profile::walk::ProfileOptions;

/// What holds for every text.
#[derive(Clone, Debug, Default)]
pub struct ValidatorOptions {
    /// Bounds.
    pub limits: Limits,
    /// How profiles and extensions are judged.
    pub profiles: ProfileOptions,
    /// How codes are judged.
    pub terminology: Severities,
    /// Asked for codes that nothing loaded can decide.
    pub server: Option<Arc<dyn TerminologyServer>>,
    /// How grave text outside narrative is that looks like HTML; `None` passes it over.
    pub markup: Option<Severity>,
}

/// What holds for one text.
#[derive(Clone, Copy, Default)]
pub struct Request<'r> {
    /// Canonical URLs of profiles that the resource must conform to, beside those that it claims.
    pub profiles: &'r [&'r str],
    /// Resources that references may lead to.
    pub supporting: Option<&'r dyn Supporting>,
    /// The time for `now()` in invariants: a date and time with timezone, as FHIR writes it.
    pub now: Option<&'r str>,
}

impl std::fmt::Debug for Request<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Request")
            .field("profiles", &self.profiles)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// A stage that comes after schema and profile: business rules, or clinical plausibility.
///
/// It runs only on texts that could be read. What it reports must be the same for the same input.
pub trait LaterStage: Send + Sync {
    /// Which stage it is.
    fn stage(&self) -> Stage;

    /// Checks a resource (or Bundle) that was read.
    fn check(&self, document: &Document<'_>, request: &Request<'_>) -> Vec<Finding>;
}

/// Checks texts against a catalogue.
pub struct Validator {
    profiles: Profiles,
    forms: Forms,
    terminology: Terminology,
    packages: Arc<[PackageId]>,
    options: ValidatorOptions,
    later: Vec<Arc<dyn LaterStage>>,
}

impl std::fmt::Debug for Validator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Validator")
            .field("packages", &self.packages)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// The outcome of a check: the findings, what they rest on, and the parsed text.
#[derive(Debug)]
pub struct ValidationOutcome<'s> {
    /// The findings in the order of the text.
    pub findings: Vec<Finding>,
    /// The three stages, each with how it ended.
    pub stages: [StageOutcome; 3],
    /// Who checked.
    pub validator: crate::validate::Validator,
    /// Against which packages, core first.
    pub packages: Arc<[PackageId]>,
    /// The text as a tree; `None` if it could not be read.
    pub document: Option<Document<'s>>,
}

impl ValidationOutcome<'_> {
    /// Whether no error was found. Warnings do not count.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.document.is_some() && !self.findings.iter().any(|it| it.severity.is_error())
    }

    /// Findings per severity.
    #[must_use]
    pub fn counts(&self) -> FindingCounts {
        FindingCounts::of(&self.findings)
    }

    /// The resource type that the text states, whether or not it exists.
    #[must_use]
    pub fn resource_type(&self) -> Option<&str> {
        self.document.as_ref()?.root().get("resourceType")?.as_str()
    }
}

impl Validator {
    /// A validator for what a catalogue defines, which should lie over [`Catalogue::r4`].
    #[must_use]
    pub fn new(catalogue: Arc<Catalogue>, options: ValidatorOptions) -> Self {
        let packages = Arc::from(catalogue.packages());
        let mut terminology =
            Terminology::new(Arc::clone(&catalogue)).with_severities(options.terminology);
        if let Some(server) = &options.server {
            terminology = terminology.with_server(Arc::clone(server));
        }
        Self {
            forms: Forms::new(Arc::clone(&catalogue)),
            terminology,
            profiles: Profiles::new(catalogue, Definitions::r4()),
            packages,
            options,
            later: Vec::new(),
        }
    }

    /// The same with a later stage.
    #[must_use]
    pub fn with_stage(mut self, stage: Arc<dyn LaterStage>) -> Self {
        self.later.push(stage);
        self
    }

    /// The catalogue that it checks against.
    #[must_use]
    pub fn catalogue(&self) -> &Arc<Catalogue> {
        &self.profiles.catalogue
    }

    /// The packages that it checks against, core first.
    #[must_use]
    pub fn packages(&self) -> &[PackageId] {
        &self.packages
    }

    /// Checks one resource (which may be a Bundle).
    ///
    /// The same bytes, request and catalogue give the same findings in the same order.
    #[must_use]
    pub fn validate<'s>(&self, bytes: &'s [u8], request: &Request<'_>) -> ValidationOutcome<'s> {
        let structural = structure(self.profiles.definitions, bytes, &self.options.limits);
        let mut findings = structural.findings;
        let document = structural.document;
        let mut stages = structural.stages;
        if let Some(document) = &document
            && !findings.iter().any(ends_the_check)
        {
            findings = self.profile_stage(document, request, findings);
            stages[0].state = state_of(&findings);
            for later in &self.later {
                let found = later.check(document, request);
                if let Some(outcome) = stages.iter_mut().find(|it| it.stage == later.stage()) {
                    outcome.state = worse(outcome.state, state_of(&found));
                }
                findings.extend(found);
            }
        }
        ValidationOutcome {
            findings,
            stages,
            validator: VALIDATOR,
            packages: Arc::clone(&self.packages),
            document,
        }
    }

    fn profile_stage(
        &self,
        document: &Document<'_>,
        request: &Request<'_>,
        mut findings: Vec<Finding>,
    ) -> Vec<Finding> {
        // The structural walk says which closed code lists it could not look into; terminology can.
        findings.retain(|it| it.id != id::BINDING_NOT_CHECKED);
        let root = document.root();
        if root.get("resourceType").and_then(Value::as_str).is_some() {
            let limit = self.options.limits.findings_max;
            let definitions = self.profiles.definitions;
            findings.extend(bundle::check(definitions, document, limit));
            findings.extend(questionnaire::check(
                definitions,
                document,
                &self.forms,
                &self.terminology,
                limit,
            ));
            let catalogue = &self.profiles.catalogue;
            findings.extend(definition_rules::check(
                definitions,
                catalogue,
                document,
                limit,
            ));
            if let Some(severity) = self.options.markup {
                findings.extend(markup(document, severity, limit));
            }
        }
        let report = self.walk(root, request);
        report.finish(document, findings)
    }

    fn walk<'d>(&'d self, root: Value<'d>, request: &Request<'d>) -> Report<'d> {
        let basis = Basis {
            profiles: &self.profiles,
            terminology: &self.terminology,
            options: &self.options.profiles,
            supporting: request.supporting,
            now: request
                .now
                .and_then(|it| Moment::parse(it, MomentKind::DateTime)),
            findings_max: self.options.limits.findings_max,
        };
        let mut walk = Walk::new(basis, root);
        walk.resource(root, request.profiles);
        walk.into_report()
    }
}

/// Whether a finding of the structural check leaves nothing that could be judged further.
fn ends_the_check(finding: &Finding) -> bool {
    finding.severity == Severity::Fatal || finding.id == id::JSON_DUPLICATE_KEY
}

fn state_of(findings: &[Finding]) -> StageState {
    if findings.iter().any(|it| it.severity.is_error()) {
        StageState::Failed
    } else {
        StageState::Passed
    }
}

/// The state of a stage that several checks make up.
fn worse(a: StageState, b: StageState) -> StageState {
    if a == StageState::Failed || b == StageState::Failed {
        StageState::Failed
    } else if a == StageState::Passed || b == StageState::Passed {
        StageState::Passed
    } else {
        StageState::NotRun
    }
}
