//! Terminology: which codes exist, what they are called, and which value sets hold them.
//!
//! Everything is decided offline, from the code systems and value sets of a [`Catalogue`]. Answers have
//! three values: what no loaded system can decide is *not decidable*, never "yes" and never "no"; a
//! [`TerminologyServer`] may be asked then. It is not a server: there is no HTTP here.
//! Start at [`Terminology::member_of`]; bindings of profiles are checked by [`Terminology::bind`] and
//! [`Terminology::check`], codings in their own system by [`Terminology::inspect`]; units of
//! measure are in [`ucum`].

mod additions;
mod binding;
mod compile;
mod countries;
mod currencies;
mod expand;
mod filter;
mod grammar;
mod language;
mod server;
mod set;
mod system;
pub mod ucum;
mod undecided;
mod wording;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use rustc_hash::FxHashMap;

use crate::canonical::{CodeSystem, Content, split_version};
use crate::catalogue::{Catalogue, VersionMatch};
use crate::finding::Severity;

pub use additions::{AddedCode, Addition, Additions, AdditionsError};
pub use binding::{BoundSet, Coded, Coding, Issue, Part, Place, Strength};
pub use expand::{Expanded, NotExpandable};
pub use server::{ServerQuestion, ServerVerdict, TerminologyServer};
pub use set::{Decision, Member, Set};
pub use system::{Concept, Found, System};
pub use undecided::Undecided;

use grammar::Grammar;
use system::Loaded;
use ucum::Ucum;

/// Most code systems, and most value sets, that are kept compiled. More are compiled at each use.
const KEPT_MAX: usize = 8192;

/// How grave some findings are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Severities {
    /// A display that is none of the code's own.
    pub wrong_display: Severity,
    /// A code that its completely loaded system does not have.
    pub unknown_code: Severity,
    /// A code of a system that is not loaded (or only in part), where no binding asks for it;
    /// `None` says nothing.
    pub unchecked_code: Option<Severity>,
}

impl Default for Severities {
    fn default() -> Self {
        Self {
            wrong_display: Severity::Warning,
            unknown_code: Severity::Error,
            unchecked_code: None,
        }
    }
}

/// Code systems and value sets, compiled at first use and kept.
#[derive(Debug)]
pub struct Terminology {
    catalogue: Arc<Catalogue>,
    additions: Additions,
    severities: Severities,
    server: Option<Arc<dyn TerminologyServer>>,
    ucum: Arc<Ucum>,
    systems: RwLock<FxHashMap<Box<str>, Loaded>>,
    sets: RwLock<FxHashMap<Box<str>, Arc<Set>>>,
    /// Canonical URLs of supplements, each with the system that it supplements.
    supplements: OnceLock<Vec<(String, String)>>,
}

/// Whether a value set holds a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It does.
    Member {
        /// What to show for it, if that is known.
        display: Option<String>,
        /// Whether the code is no longer in use.
        inactive: bool,
        /// Whether the code only groups others and is not meant to be used itself.
        is_abstract: bool,
    },
    /// It does not.
    NotMember,
    /// No loaded definition can say.
    NotDecidable(Undecided),
}

/// What a code system says about a code.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// It has it.
    Known {
        /// The system.
        system: Arc<System>,
        /// The code's row there: see [`System::concept`].
        row: u32,
        /// Whether upper and lower case are as in the system.
        exact_case: bool,
    },
    /// The system is defined by a grammar, and the code follows it.
    WellFormed,
    /// The system is loaded completely, or has a grammar, and the code is not in it.
    Unknown {
        /// Which version was looked at.
        version: Option<String>,
    },
    /// The URL is that of a value set, which is no code system.
    NotASystem,
    /// No loaded system can say.
    NotDecidable(Arc<Undecided>),
}

impl Terminology {
    /// The terminology of a catalogue, with the curated additions that this release brings.
    #[must_use]
    pub fn new(catalogue: Arc<Catalogue>) -> Self {
        Self {
            catalogue,
            additions: Additions::of_this_release(),
            severities: Severities::default(),
            server: None,
            ucum: Arc::new(Ucum::default()),
            systems: RwLock::default(),
            sets: RwLock::default(),
            supplements: OnceLock::new(),
        }
    }

    /// The same with other curated additions.
    #[must_use]
    pub fn with_additions(mut self, additions: Additions) -> Self {
        self.additions = additions;
        self
    }

    /// The same with other severities.
    #[must_use]
    pub fn with_severities(mut self, severities: Severities) -> Self {
        self.severities = severities;
        self
    }

    /// The same with a server that is asked where nothing loaded can decide.
    #[must_use]
    pub fn with_server(mut self, server: Arc<dyn TerminologyServer>) -> Self {
        self.server = Some(server);
        self
    }

    /// Where the definitions come from.
    #[must_use]
    pub fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// Units of measure.
    #[must_use]
    pub fn ucum(&self) -> &Ucum {
        &self.ucum
    }

    /// Whether the value set holds the code. Without `system`, the code counts as one of any system of
    /// the value set, which is how elements of type `code` are bound.
    #[must_use]
    pub fn member_of(&self, value_set: &str, system: Option<&str>, code: &str) -> Membership {
        let set = self.set(value_set);
        let decision = match system {
            Some(system) => set.decide(system, code),
            None => set.decide_code(code),
        };
        match decision {
            Decision::Member(member) => Membership::Member {
                display: member.display().map(str::to_owned),
                inactive: member.concept.is_some_and(|it| it.inactive),
                is_abstract: member.concept.is_some_and(|it| it.is_abstract),
            },
            Decision::NotMember => Membership::NotMember,
            Decision::NotDecidable(why) => self.ask(&set, system, code, why),
        }
    }

    fn ask(&self, set: &Set, system: Option<&str>, code: &str, why: &Undecided) -> Membership {
        let verdict = self.server.as_ref().map(|server| {
            server.validate_code(&ServerQuestion {
                value_set: Some(set.canonical()),
                system,
                version: None,
                code,
            })
        });
        match verdict {
            Some(ServerVerdict::Valid { display }) => Membership::Member {
                display,
                inactive: false,
                is_abstract: false,
            },
            Some(ServerVerdict::Invalid) => Membership::NotMember,
            Some(ServerVerdict::Unknown) | None => Membership::NotDecidable(why.clone()),
        }
    }

    /// The compiled value set of a canonical URL, with or without `|version`. A value set that is not
    /// loaded is one that decides nothing.
    #[must_use]
    pub fn set(&self, canonical: &str) -> Arc<Set> {
        let kept = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = kept.get(canonical) {
            return Arc::clone(set);
        }
        drop(kept);
        compile::set(self, canonical)
    }

    fn keep_set(&self, canonical: &str, set: &Arc<Set>) {
        let mut kept = self.sets.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.entry(canonical.into())
                .or_insert_with(|| Arc::clone(set));
        }
    }

    fn kept_set(&self, canonical: &str) -> Option<Arc<Set>> {
        let kept = self.sets.read().unwrap_or_else(PoisonError::into_inner);
        kept.get(canonical).cloned()
    }

    /// What a code system says about a code.
    #[must_use]
    pub fn lookup(&self, system: &str, version: Option<&str>, code: &str) -> Lookup {
        let (loaded, other_version) = self.loaded_or_other(system, version);
        match loaded {
            Loaded::Complete(system) => match system.find(code) {
                Some(found) => known(&system, &found),
                None if other_version => {
                    Lookup::NotDecidable(Arc::new(Undecided::SystemVersionNotLoaded {
                        system: system.url.to_string(),
                        version: version.unwrap_or_default().to_owned(),
                    }))
                }
                None => Lookup::Unknown {
                    version: system.version.as_deref().map(str::to_owned),
                },
            },
            Loaded::Partial(system, why) => match system.find(code) {
                Some(found) => known(&system, &found),
                None => Lookup::NotDecidable(why),
            },
            Loaded::ByGrammar(grammar, why) => match grammar.decide(code) {
                Some(true) => Lookup::WellFormed,
                Some(false) => Lookup::Unknown { version: None },
                None => Lookup::NotDecidable(why),
            },
            Loaded::ValueSet => Lookup::NotASystem,
            Loaded::Absent(why) => Lookup::NotDecidable(why),
        }
    }

    /// Whether the first code is the second one or above it in the hierarchy of their system;
    /// `None` if no loaded system can say.
    #[must_use]
    pub fn subsumes(&self, system: &str, above: &str, below: &str) -> Option<bool> {
        match self.loaded(system) {
            Loaded::Complete(it) => {
                let above = it.find(above)?.row;
                let below = it.find(below)?.row;
                Some(it.subsumes(above, below))
            }
            _ if above == below => Some(true),
            _ => None,
        }
    }

    /// A code system, whatever its version.
    fn loaded(&self, url: &str) -> Loaded {
        let kept = self.systems.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = kept.get(url) {
            return loaded.clone();
        }
        drop(kept);
        let loaded = self.load(url);
        let mut kept = self.systems.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.insert(url.into(), loaded.clone());
        }
        loaded
    }

    /// A code system in that version if it is loaded; otherwise in another one, and `true`.
    fn loaded_or_other(&self, url: &str, version: Option<&str>) -> (Loaded, bool) {
        let loaded = self.loaded(url);
        let (Some(version), Loaded::Complete(system)) = (version, &loaded) else {
            return (loaded, false);
        };
        if system.version.as_deref() == Some(version) {
            return (loaded, false);
        }
        match self.loaded(&format!("{url}|{version}")) {
            exact @ Loaded::Complete(_) => (exact, false),
            _ => (loaded, true),
        }
    }

    fn load(&self, canonical: &str) -> Loaded {
        let (url, version) = split_version(canonical);
        if let Some(grammar) = Grammar::of(url, &self.ucum) {
            return Loaded::ByGrammar(
                grammar,
                Arc::new(Undecided::SystemIncomplete(url.to_owned())),
            );
        }
        if let Some(version) = version
            && self
                .catalogue
                .locate("CodeSystem", canonical)
                .is_none_or(|it| it.version_match == VersionMatch::Other)
        {
            return Loaded::Absent(Arc::new(Undecided::SystemVersionNotLoaded {
                system: url.to_owned(),
                version: version.to_owned(),
            }));
        }
        let addition = self.additions.of_system(url);
        let Some(code_system) = self.catalogue.code_system(canonical) else {
            if let Some(system) = listed(url) {
                return Loaded::Complete(Arc::new(system));
            }
            if self.catalogue.value_set(canonical).is_some() {
                return Loaded::ValueSet;
            }
            return match addition {
                Some(addition) => Loaded::Partial(
                    Arc::new(System::of_addition(addition)),
                    Arc::new(Undecided::SystemIncomplete(url.to_owned())),
                ),
                None => Loaded::Absent(Arc::new(Undecided::SystemNotLoaded(url.to_owned()))),
            };
        };
        let mut system = System::compile(&code_system);
        for supplement in self.supplements_of(url) {
            system.supplement(&supplement);
        }
        if let Some(addition) = addition {
            system.add(addition);
        }
        // A system that says "complete" and lists nothing has left its codes out.
        if code_system.content == Content::Complete
            && !code_system.concept.is_empty()
            && !system.is_cut
        {
            Loaded::Complete(Arc::new(system))
        } else {
            Loaded::Partial(
                Arc::new(system),
                Arc::new(Undecided::SystemIncomplete(url.to_owned())),
            )
        }
    }
}

impl Terminology {
    /// The loaded supplements of a system. Those of R4's own package are examples and left out.
    fn supplements_of(&self, url: &str) -> Vec<Arc<CodeSystem>> {
        const R4_CORE: &str = "hl7.fhir.r4.core";
        let supplements = self.supplements.get_or_init(|| {
            let mut found = Vec::new();
            for located in self.catalogue.resources("CodeSystem") {
                if located.package.is_some_and(|it| it.name == R4_CORE) {
                    continue;
                }
                let canonical = match located.version {
                    Some(version) => format!("{}|{version}", located.url),
                    None => located.url.to_owned(),
                };
                let is_near = self
                    .catalogue
                    .text("CodeSystem", &canonical)
                    .is_some_and(|text| {
                        std::str::from_utf8(&text).is_ok_and(|it| it.contains("\"supplements\""))
                    });
                if !is_near {
                    continue;
                }
                if let Some(definition) = self.catalogue.code_system(&canonical)
                    && definition.content == Content::Supplement
                    && let Some(supplemented) = &definition.supplements
                {
                    found.push((split_version(supplemented).0.to_owned(), canonical));
                }
            }
            found
        });
        supplements
            .iter()
            .filter(|(system, _)| system == url)
            .filter_map(|(_, canonical)| self.catalogue.code_system(canonical))
            .collect()
    }
}

/// Systems whose lists are part of this crate.
fn listed(url: &str) -> Option<System> {
    match url {
        countries::SYSTEM => Some(System::of_codes(url, &countries::codes())),
        currencies::SYSTEM => Some(System::of_codes(url, &currencies::codes())),
        _ => None,
    }
}

fn known(system: &Arc<System>, found: &Found<'_>) -> Lookup {
    Lookup::Known {
        system: Arc::clone(system),
        row: found.row,
        exact_case: found.exact_case,
    }
}
