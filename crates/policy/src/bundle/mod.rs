//! The governance bundle: everything that is allowed, as data, parsed and checked as a whole.
//!
//! A bundle comes in as a map from path to text (reading folders is the binary's business) and either
//! loads completely or not at all. Each declaration is checked on its own in `agents`, `intents`,
//! `tools`, `events`, `cohorts`, `vendors`; what a template may hold stands in [`template`]; policies are checked in `crate::set`
//! and proved by `crate::cases`.

mod agents;
mod cohorts;
mod events;
mod intents;
mod notes;
pub(crate) mod read;
pub mod scope;
pub mod template;
mod tools;
mod vendors;

use std::collections::BTreeMap;
use std::sync::Arc;

use chaperone_core::bundle::{
    AgentDeclaration, EhrEventDeclaration, IntentDeclaration, NoteTemplate, ToolDeclaration,
    WriteAction,
};
use chaperone_core::cohort::{CohortBounds, CohortDeclaration};
use chaperone_core::digest::Digest;
use chaperone_core::egress::VendorTable;
use chaperone_core::ids::{AgentId, CohortId, EhrEventType, IntentId, NoteTemplateId, ToolName};
use chaperone_core::resource::ResourceType;
use serde::{Deserialize, Serialize};

pub use cohorts::COHORTS_PATH;
pub use events::EHR_EVENTS_PATH;
pub use intents::{DEFINITIONAL, fields_shown};
pub use vendors::VENDORS_PATH;

use crate::cases::{self, CasesPassed};
use crate::invariants::Invariant;
use crate::pairs::PairLine;
use crate::problem::{LoadProblem, Problems};
use crate::set::PolicySets;

/// Most files in a bundle.
pub const FILES_MAX: usize = 1_000;
/// Largest file of a bundle, in bytes.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Path of the file that names the bundle.
pub const MANIFEST_PATH: &str = "bundle.toml";
/// Path of the Cedar schema.
pub const SCHEMA_PATH: &str = "policies/schema.cedarschema";

/// `bundle.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What the bundle is called.
    pub name: String,
    /// Its version, for people; rulings cite the digest.
    pub version: String,
    /// Who answers for it, as a role or committee.
    pub owner: String,
    /// Day of the last clinical review, `YYYY-MM-DD`.
    pub reviewed: String,
    /// Day by which it must be reviewed again, `YYYY-MM-DD`.
    pub review_by: String,
    /// Conformance packages that proposals are checked against, beside R4 itself.
    #[serde(default)]
    pub packages: Vec<ConformancePackage>,
    /// Profiles that proposals of a type must conform to, beside those that they claim: canonical URLs.
    #[serde(default)]
    pub profiles: BTreeMap<ResourceType, Vec<String>>,
}

/// A conformance package by name, version and content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConformancePackage {
    /// Name, such as `hl7.fhir.us.core`.
    pub name: String,
    /// Version, such as `8.0.0`.
    pub version: String,
    /// SHA-256 of the `.tgz`, in lower-case hexadecimal.
    pub sha256: String,
}

/// A governance bundle that passed every check.
pub struct Bundle {
    manifest: Manifest,
    agents: BTreeMap<AgentId, AgentDeclaration>,
    intents: BTreeMap<IntentId, IntentDeclaration>,
    tools: BTreeMap<ToolName, ToolDeclaration>,
    rules: BTreeMap<String, String>,
    profiles: BTreeMap<String, String>,
    ehr_events: BTreeMap<EhrEventType, EhrEventDeclaration>,
    cohorts: cohorts::Cohorts,
    vendors: Arc<VendorTable>,
    note_templates: BTreeMap<NoteTemplateId, NoteTemplate>,
    digest: Digest,
    pub(crate) sets: PolicySets,
    invariants: Vec<Invariant>,
    cases: CasesPassed,
    pairs: Vec<PairLine>,
}

/// Declarations that parsed, with the file each stands in.
#[derive(Default)]
struct Declared {
    agents: BTreeMap<AgentId, (String, AgentDeclaration)>,
    intents: BTreeMap<IntentId, (String, IntentDeclaration)>,
    tools: BTreeMap<ToolName, (String, ToolDeclaration)>,
}

impl Bundle {
    /// Loads a bundle from its files, by path inside the bundle with `/` as separator.
    ///
    /// # Errors
    /// Every problem found, up to [`crate::problem::PROBLEMS_MAX`]. Policies are evaluated only when
    /// everything they refer to parsed, so mending one problem can bring up others.
    pub fn load(files: &BTreeMap<String, String>) -> Result<Bundle, Vec<LoadProblem>> {
        let mut problems = Problems::default();
        if files.len() > FILES_MAX {
            problems.add("", "", format!("a bundle holds at most {FILES_MAX} files"));
            return Err(problems.into_sorted());
        }
        for (path, text) in files {
            read::check_path(path, text, &mut problems);
        }
        let manifest = read::manifest(files, &mut problems);
        let declared = read::declarations(files, &mut problems);
        let rules = read::rules(files, &mut problems);
        let vendors = vendors::load(&rules, &mut problems);
        agents::check(&declared, &vendors, files, &mut problems);
        tools::check(&declared, files, &mut problems);
        intents::check(&declared, files, &mut problems);
        let profiles = read::profiles(files, &mut problems);
        let note_templates = notes::load(files, &mut problems);
        notes::check(&declared, &note_templates, &mut problems);
        let ehr_events = events::load(&declared, &rules, &mut problems);
        let cohorts = cohorts::load(&declared, &rules, files, &mut problems);
        let sets = PolicySets::load(files, &mut problems);
        let cases = cases::parse_all(files, &mut problems);
        let (Some(manifest), Some((sets, invariants)), true) =
            (manifest, sets, problems.is_empty())
        else {
            return Err(problems.into_sorted());
        };
        let mut bundle = Bundle {
            manifest,
            agents: plain(declared.agents),
            intents: plain(declared.intents),
            tools: plain(declared.tools),
            rules,
            profiles,
            ehr_events,
            cohorts,
            vendors: Arc::new(vendors),
            note_templates,
            digest: digest(files),
            sets,
            invariants,
            cases: CasesPassed::default(),
            pairs: Vec::new(),
        };
        (bundle.cases, bundle.pairs) = cases::prove(&bundle, files, &cases, &mut problems);
        if problems.is_empty() {
            Ok(bundle)
        } else {
            Err(problems.into_sorted())
        }
    }

    /// Name, version, owner and review dates.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The profiles that a proposal must conform to, beside those that it claims: the type's and the tool's.
    pub fn profiles_for<'b>(&'b self, write: &'b WriteAction) -> Vec<&'b str> {
        let of_type = self.manifest.profiles.get(&write.resource);
        let mut profiles: Vec<&str> = Vec::new();
        for url in of_type.into_iter().flatten().chain(&write.profiles) {
            if !profiles.contains(&url.as_str()) {
                profiles.push(url);
            }
        }
        profiles
    }

    /// The version, for people.
    pub fn version(&self) -> &str {
        &self.manifest.version
    }

    /// The digest over every path and every byte; what rulings cite.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// A registered agent.
    pub fn agent(&self, id: &AgentId) -> Option<&AgentDeclaration> {
        self.agents.get(id)
    }

    /// All agents, by id.
    pub fn agents(&self) -> impl Iterator<Item = &AgentDeclaration> {
        self.agents.values()
    }

    /// A declared intent.
    pub fn intent(&self, id: &IntentId) -> Option<&IntentDeclaration> {
        self.intents.get(id)
    }

    /// All intents, by id.
    pub fn intents(&self) -> impl Iterator<Item = &IntentDeclaration> {
        self.intents.values()
    }

    /// A declared tool.
    pub fn tool(&self, name: &ToolName) -> Option<&ToolDeclaration> {
        self.tools.get(name)
    }

    /// All tools, by name.
    pub fn tools(&self) -> impl Iterator<Item = &ToolDeclaration> {
        self.tools.values()
    }

    /// What a type of event of the EHR may cause; nothing unless it is listed.
    pub fn ehr_event(&self, event_type: &EhrEventType) -> Option<&EhrEventDeclaration> {
        self.ehr_events.get(event_type)
    }

    /// All types of events that may cause something, by name.
    pub fn ehr_events(&self) -> impl Iterator<Item = &EhrEventDeclaration> {
        self.ehr_events.values()
    }

    /// The note templates, by id.
    pub fn note_templates(&self) -> impl Iterator<Item = &NoteTemplate> {
        self.note_templates.values()
    }

    /// A declared cohort.
    pub fn cohort(&self, id: &CohortId) -> Option<&CohortDeclaration> {
        self.cohorts.declared.get(id)
    }

    /// All cohorts, by id.
    pub fn cohorts(&self) -> impl Iterator<Item = &CohortDeclaration> {
        self.cohorts.declared.values()
    }

    /// What every cohort stays within; nothing in a bundle without cohorts.
    pub fn cohort_bounds(&self) -> Option<&CohortBounds> {
        self.cohorts.bounds.as_ref()
    }

    /// Where bytes may go: `rules/vendors.toml`.
    pub fn vendors(&self) -> &Arc<VendorTable> {
        &self.vendors
    }

    /// The text of `rules/<name>.toml`; it is TOML, and its meaning belongs to whoever asks for it.
    pub fn rule_text(&self, name: &str) -> Option<&str> {
        self.rules.get(name).map(String::as_str)
    }

    /// Conformance resources of the bundle's own, `profiles/*.json`: file name and text.
    pub fn profile_texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.profiles
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// What the bundle says must always hold: `policies/invariants.cedar`. Read and checked at loading; only
    /// `chaperone check --prove` proves it.
    pub fn invariants(&self) -> &[Invariant] {
        &self.invariants
    }

    /// Each row, prohibition, escalator and vector beside its nearest neighbour, by row number.
    pub fn pairs(&self) -> &[PairLine] {
        &self.pairs
    }

    /// What was proved about the bundle when it was loaded.
    pub fn cases_passed(&self) -> &CasesPassed {
        &self.cases
    }
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bundle")
            .field("name", &self.manifest.name)
            .field("version", &self.manifest.version)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// The content hash of a bundle: over path and bytes of each file, in path order.
pub fn digest(files: &BTreeMap<String, String>) -> Digest {
    Digest::of_parts(
        files
            .iter()
            .flat_map(|(path, text)| [path.as_bytes(), text.as_bytes()]),
    )
}

fn plain<Id: Ord, Declaration>(
    declared: BTreeMap<Id, (String, Declaration)>,
) -> BTreeMap<Id, Declaration> {
    declared
        .into_iter()
        .map(|(id, (_, declaration))| (id, declaration))
        .collect()
}
